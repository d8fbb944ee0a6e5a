//! One channel under load.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use millstream_transport::{ChannelStream, StreamError};
use millstream_wire::{Ack, NodeMessage};
use tokio::sync::watch;

use super::attach::{Attached, decode, rejected};
use super::{FORGIVEN, Lane, LaneState, Mode, Run, nanos};
use crate::LoadError;
use crate::flight::Flights;

struct Channel<'a> {
    position: usize,
    lane: Lane,
    /// Frames that are signed.
    budget: u64,
    flights: Flights,
    run: &'a Run,
    state: &'a LaneState,
    start: Instant,
}

/// Sends a channel's frames and takes their acks, until the run stops or everything that was meant to be sent is acknowledged.
pub(super) async fn serve(attached: Attached, run: Arc<Run>, mut start: watch::Receiver<Option<Instant>>) -> Result<(), LoadError> {
    let Attached { position, lane, mut stream, window } = attached;
    let start = match start.wait_for(Option::is_some).await.map(|start| *start) {
        Ok(Some(start)) => start,
        // The run ended before it began.
        Ok(None) | Err(_) => return Ok(()),
    };
    tokio::time::sleep_until(start.into()).await;
    let budget = lane.frames.count() as u64;
    let mut channel = Channel { position, lane, budget, flights: Flights::new(window), run: &run, state: &run.lanes[position], start };
    match run.mode {
        Mode::Offered(schedule) => {
            let total = schedule.frames_before(position as u64, run.schedule_end).min(channel.budget);
            channel.offer(&mut stream, total, |frame| schedule.intended_nanos(position as u64, frame)).await?;
        }
        Mode::Saturated { .. } => channel.saturate(&mut stream, Duration::ZERO).await?,
        Mode::OneAtATime { pause } => channel.saturate(&mut stream, pause).await?,
    }
    stream.writer.finish();
    Ok(())
}

impl Channel<'_> {
    /// An open loop: what is due goes out as soon as the node's window allows it, also after the schedule ended, until the run stops.
    async fn offer(&mut self, stream: &mut ChannelStream, total: u64, intended: impl Fn(u64) -> u64) -> Result<(), LoadError> {
        loop {
            let is_stopping = self.run.is_stopping();
            let due = self.state.due.load(Ordering::Acquire).min(total);
            if !is_stopping {
                self.send(stream, due, |frame, _| intended(frame));
            }
            if self.flights.acked() == total || (is_stopping && self.flights.is_idle()) {
                return Ok(());
            }
            let state = self.state;
            tokio::select! {
                biased;
                flushed = stream.writer.flush(), if !stream.writer.is_empty() => flushed.map_err(|source| self.failed(source))?,
                message = stream.reader.next() => self.take(message, stream)?,
                () = state.wake.notified(), if due < total => {}
            }
        }
    }

    /// A closed loop: the window is always full, or one frame goes out after a pause.
    async fn saturate(&mut self, stream: &mut ChannelStream, pause: Duration) -> Result<(), LoadError> {
        loop {
            if !self.run.is_stopping() {
                self.send(stream, self.budget, |_, now| now);
                if self.flights.sent() == self.budget {
                    self.run.ran_out.notify_one();
                }
            }
            if self.flights.is_idle() {
                return Ok(());
            }
            let acked = self.flights.acked();
            tokio::select! {
                biased;
                flushed = stream.writer.flush(), if !stream.writer.is_empty() => flushed.map_err(|source| self.failed(source))?,
                message = stream.reader.next() => self.take(message, stream)?,
            }
            if !pause.is_zero() && self.flights.acked() > acked {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Queues those of the `due` frames that the window has room for, in one piece.
    fn send(&mut self, stream: &mut ChannelStream, due: u64, start: impl Fn(u64, u64) -> u64) {
        let count = self.flights.sendable(due);
        if count == 0 {
            return;
        }
        let (now, first) = (self.now(), self.flights.sent());
        let recorder = &self.run.recorder;
        let sent = self.flights.send(count, now, nanos(FORGIVEN), |frame| start(frame, now), |start| recorder.counts(start));
        stream.writer.queue_encoded(self.lane.frames.slice(index(first), index(first + count)));
        self.state.sent.store(self.flights.sent(), Ordering::Relaxed);
        if matches!(self.run.mode, Mode::Offered(_)) {
            for (total, new) in [(&self.run.held, sent.held), (&self.run.late, sent.late)] {
                if new > 0 {
                    total.fetch_add(new, Ordering::Relaxed);
                }
            }
            self.run.worst.fetch_max(sent.worst, Ordering::Relaxed);
        }
    }

    /// Takes a message, and those that have come with it.
    fn take(&mut self, first: Result<Option<bytes::Bytes>, StreamError>, stream: &mut ChannelStream) -> Result<(), LoadError> {
        let channel = self.lane.payer.channel();
        let mut message = first.map_err(|source| self.failed(source))?.ok_or(LoadError::Ended { channel })?;
        loop {
            match decode(channel, &message)? {
                NodeMessage::Ack(ack) => self.ack(&ack)?,
                NodeMessage::Reject(reject) => return Err(rejected(channel, &reject)),
                other @ (NodeMessage::Snapshot(_) | NodeMessage::Relayed(_) | NodeMessage::Refused(_)) => {
                    return Err(LoadError::Unexpected { channel, kind: other.kind() });
                }
            }
            match stream.reader.take().map_err(|source| self.failed(source))? {
                Some(next) => message = next,
                None => return Ok(()),
            }
        }
    }

    fn ack(&mut self, ack: &Ack) -> Result<(), LoadError> {
        let (payer, workload) = (&self.lane.payer, self.lane.frames.workload());
        let lines = workload.lines as u64;
        let frames = ack.lines_total.checked_sub(payer.lines_total()).filter(|new| new.is_multiple_of(lines)).map(|new| new / lines);
        // The totals of all signed frames fit 64 bits.
        let nanos_of = |frames: u64| u128::from(payer.cumulative()) + u128::from(workload.frame_nanos()) * u128::from(frames);
        let now = self.now();
        let (run, position) = (self.run, self.position);
        let is_good = frames.is_some_and(|frames| {
            ack.cumulative.units() == nanos_of(frames) && self.flights.ack(frames, |start| run.recorder.record(position, start, now))
        });
        if !is_good {
            return Err(LoadError::WrongAck {
                channel: payer.channel(),
                lines_total: ack.lines_total,
                cumulative: ack.cumulative.units(),
                lines_sent: payer.lines_total() + self.flights.sent() * lines,
                cumulative_sent: nanos_of(self.flights.sent()),
            });
        }
        self.state.acked.store(self.flights.acked(), Ordering::Relaxed);
        Ok(())
    }

    fn now(&self) -> u64 {
        nanos(Instant::now().saturating_duration_since(self.start))
    }

    const fn failed(&self, source: StreamError) -> LoadError {
        LoadError::Stream { channel: self.lane.payer.channel(), source }
    }
}

/// A position among frames that are all in memory.
fn index(frame: u64) -> usize {
    usize::try_from(frame).unwrap_or(usize::MAX)
}
