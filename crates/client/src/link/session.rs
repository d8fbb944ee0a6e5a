//! The stream of one channel: attach, frames out, acks in, and again from the start when something breaks.
//!
//! After a reject nothing more is sent until an attach was answered (W-8): what the node has then decides what is sent again.

use std::sync::Arc;

use bytes::Bytes;
use millstream_transport::{ChannelStream, CloseCode, Connection, MessageReader, MessageWriter, StreamError};
use millstream_wire::{Ack, Attach, ChannelStatus, DecodeError, ErrorCode, NodeMessage, PayerMessage, Reject, Retry, Snapshot};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::backoff::Backoff;
use crate::channel::Channel;
use crate::events::{Event, Reporter, count};
use crate::{BackoffOptions, ChannelError, Totals};

/// Attaches in a row that bring a channel no further before a reject of its frames counts as final.
const RESYNCS_MAX: u32 = 8;

/// How a stream ended.
enum End {
    /// The connection is gone: go on with the next one.
    ConnectionLost,
    /// The stream is gone, the connection is not: go on after a pause.
    StreamLost,
    /// The channel is stopped.
    Stopped(ChannelError),
}

/// Runs a channel on whatever connection there is, until it is aborted.
pub(crate) async fn run(
    channel: Arc<Channel>,
    mut connections: watch::Receiver<Option<Connection>>,
    backoff: BackoffOptions,
    reporter: Reporter,
) {
    let mut link = Link { backoff: Backoff::new(backoff), resyncs: 0, channel, reporter };
    loop {
        let connection = match connections.wait_for(Option::is_some).await {
            Ok(connection) => connection.clone(),
            Err(_) => return link.channel.stop(ChannelError::Closed),
        };
        let Some(connection) = connection else {
            continue;
        };
        match link.on(&connection).await {
            End::ConnectionLost => {
                // The next one is another connection, or none for now.
                let lost = connection.id();
                let other = |now: &Option<Connection>| now.as_ref().is_none_or(|now| now.id() != lost);
                if connections.wait_for(other).await.is_err() {
                    return link.channel.stop(ChannelError::Closed);
                }
            }
            End::StreamLost => sleep(link.backoff.next()).await,
            End::Stopped(error) => {
                let recoverable = error.is_recoverable();
                link.channel.stop(error);
                if !recoverable {
                    return;
                }
                while !link.channel.take_refresh() {
                    link.channel.work.notified().await;
                }
                link.resyncs = 0;
                link.backoff.reset();
            }
        }
    }
}

/// What outlives one stream.
struct Link {
    channel: Arc<Channel>,
    reporter: Reporter,
    backoff: Backoff,
    /// Attaches since the channel last got further.
    resyncs: u32,
}

/// What a stream waits for before frames may be sent on it.
enum Phase {
    /// An attach is to be sent as soon as nothing is unanswered, so that its answer covers all that was sent.
    Draining,
    /// An attach is to be sent, at a time.
    Pause(Instant),
    /// The answer to an attach.
    Attaching,
    /// Nothing: so many frames may be unanswered.
    Paying(usize),
}

impl Link {
    /// Runs the channel on one stream of a connection, to its end.
    async fn on(&mut self, connection: &Connection) -> End {
        let mut stream = match connection.open_channel().await {
            Ok(stream) => stream,
            Err(StreamError::TooManyStreams) => return End::Stopped(rejected(ErrorCode::TooManyChannels, 0)),
            Err(error) => return end_of(error),
        };
        let end = self.converse(&mut stream).await;
        if let End::Stopped(error) = &end {
            match error {
                ChannelError::Protocol(fault) => stream.close(fault.code()),
                // The node is told nothing of why: a payer that stops is in its right.
                _ => stream.writer.finish(),
            }
        }
        end
    }

    async fn converse(&mut self, stream: &mut ChannelStream) -> End {
        let ChannelStream { reader, writer } = stream;
        let mut conversation = Conversation { phase: Phase::Attaching, last_ack: None, again: false };
        if let Err(error) = self.attach(writer) {
            return end_of(error);
        }
        loop {
            if let Phase::Paying(in_flight_max) = conversation.phase {
                self.queue_frames(writer, in_flight_max);
            }
            let pause = match conversation.phase {
                Phase::Pause(until) => Some(until),
                Phase::Draining if self.channel.in_flight() == 0 => Some(Instant::now()),
                Phase::Draining | Phase::Attaching | Phase::Paying(_) => None,
            };
            tokio::select! {
                biased;
                received = reader.next() => match received {
                    Ok(Some(message)) => {
                        if let Err(end) = self.hear(&mut conversation, message, reader) {
                            return end;
                        }
                    }
                    Ok(None) => return End::StreamLost,
                    Err(error) => return end_of(error),
                },
                written = writer.flush(), if !writer.is_empty() => {
                    if let Err(error) = written {
                        // What the node said before it stopped reading explains more than that it stopped.
                        return self.last_words(&mut conversation, reader).await.unwrap_or_else(|| end_of(error));
                    }
                }
                () = self.channel.work.notified() => {
                    if self.channel.take_refresh() {
                        conversation.refresh();
                    }
                }
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {
                    if let Err(error) = self.attach(writer) {
                        return end_of(error);
                    }
                    conversation.phase = Phase::Attaching;
                    conversation.again = false;
                }
            }
        }
    }

    fn attach(&self, writer: &mut MessageWriter) -> Result<(), StreamError> {
        let attach = Attach { ledger: self.channel.ledger, voucher: self.channel.durable_voucher() };
        writer.queue_payer(&PayerMessage::Attach(attach))
    }

    /// Queues frames up to the limit of unanswered ones (W-4).
    fn queue_frames(&self, writer: &mut MessageWriter, in_flight_max: usize) {
        let now = std::time::Instant::now();
        while let Some(frame) = self.channel.next_frame(in_flight_max, now) {
            writer.queue_encoded(frame.bytes);
            count(&self.reporter.counters.frames_sent, 1);
            if frame.again {
                count(&self.reporter.counters.frames_resent, 1);
            }
        }
    }

    /// Handles a message and all that came whole with it.
    fn hear(&mut self, conversation: &mut Conversation, message: Bytes, reader: &mut MessageReader) -> Result<(), End> {
        let mut next = Some(message);
        while let Some(message) = next {
            self.handle(conversation, &message)?;
            next = reader.take().map_err(end_of)?;
        }
        Ok(())
    }

    fn handle(&mut self, conversation: &mut Conversation, message: &[u8]) -> Result<(), End> {
        match NodeMessage::decode(message).map_err(|error| End::Stopped(ChannelError::Protocol(error)))? {
            NodeMessage::Snapshot(snapshot) => self.handle_snapshot(conversation, &snapshot),
            NodeMessage::Ack(ack) => self.handle_ack(conversation, &ack),
            NodeMessage::Reject(reject) => self.handle_reject(conversation, &reject),
            other @ (NodeMessage::Relayed(_) | NodeMessage::Refused(_)) => {
                Err(End::Stopped(ChannelError::Protocol(DecodeError::Misplaced { kind: other.kind() })))
            }
        }
    }

    fn handle_snapshot(&mut self, conversation: &mut Conversation, snapshot: &Snapshot) -> Result<(), End> {
        let before = self.channel.status.borrow().acked;
        let resumed = self.channel.accept_snapshot(snapshot).map_err(End::Stopped)?;
        count(&self.reporter.counters.attaches, 1);
        if resumed.accepted != before {
            self.progress();
        }
        let channel = self.channel.id;
        self.reporter.event(&Event::Attached { channel, accepted: resumed.accepted, resent: resumed.resent });
        conversation.phase = match snapshot.status {
            ChannelStatus::Open if conversation.again => Phase::Draining,
            ChannelStatus::Open => Phase::Paying(snapshot.limits.frames_in_flight_max.into()),
            ChannelStatus::Frozen => self.pause(),
            ChannelStatus::Closing | ChannelStatus::Closed => {
                return Err(End::Stopped(rejected(ErrorCode::ChannelClosing, 0)));
            }
        };
        Ok(())
    }

    fn handle_ack(&mut self, conversation: &mut Conversation, ack: &Ack) -> Result<(), End> {
        let acked = Totals { lines_total: ack.lines_total, cumulative: ack.cumulative };
        if let Some(before) = conversation.last_ack.filter(|before| before.lines_total > acked.lines_total) {
            return Err(End::Stopped(ChannelError::AckBackwards { before, acked }));
        }
        conversation.last_ack = Some(acked);
        self.channel.accept_ack(ack).map_err(End::Stopped)?;
        self.progress();
        Ok(())
    }

    fn handle_reject(&mut self, conversation: &mut Conversation, reject: &Reject) -> Result<(), End> {
        let of_attach = reject.lines_total == 0;
        match conversation.phase {
            // A frame that was under way when an earlier one was rejected; the next attach covers it.
            Phase::Pause(_) | Phase::Attaching if !of_attach => return Ok(()),
            Phase::Pause(_) | Phase::Attaching | Phase::Draining | Phase::Paying(_) => {}
        }
        count(&self.reporter.counters.rejects, 1);
        self.reporter.event(&Event::Rejected { channel: self.channel.id, code: reject.code });
        let stopped = || End::Stopped(rejected(reject.code, reject.lines_total));
        conversation.phase = match (reject.code.retry(), reject.code) {
            (Retry::Later, _) => self.pause(),
            (Retry::AfterTopUp, _) => return Err(stopped()),
            // The frame may be one that the node has already, or one behind a frame that it never got: an attach tells.
            (
                Retry::No,
                ErrorCode::StaleTotal
                | ErrorCode::BrokenBillHead
                | ErrorCode::LinesMismatch
                | ErrorCode::AmountMismatch
                | ErrorCode::NotAttached,
            ) if !of_attach => {
                self.resyncs += 1;
                if self.resyncs > RESYNCS_MAX {
                    return Err(stopped());
                }
                self.pause()
            }
            (Retry::No, _) => return Err(stopped()),
        };
        Ok(())
    }

    /// The channel got further: the next trouble is a new one.
    fn progress(&mut self) {
        self.backoff.reset();
        self.resyncs = 0;
    }

    fn pause(&mut self) -> Phase {
        Phase::Pause(Instant::now() + self.backoff.next())
    }

    /// Reads what came before the stream broke; the end that it implies, if any.
    async fn last_words(&mut self, conversation: &mut Conversation, reader: &mut MessageReader) -> Option<End> {
        loop {
            match reader.next().await {
                Ok(Some(message)) => {
                    if let Err(end) = self.hear(conversation, message, reader) {
                        return Some(end);
                    }
                }
                Ok(None) => return None,
                Err(error) => return Some(end_of(error)),
            }
        }
    }
}

/// What belongs to one stream.
struct Conversation {
    phase: Phase,
    last_ack: Option<Totals>,
    /// Another attach is wanted after the one that is unanswered.
    again: bool,
}

impl Conversation {
    /// Another attach is wanted.
    fn refresh(&mut self) {
        match self.phase {
            Phase::Paying(_) => self.phase = Phase::Draining,
            Phase::Pause(_) => self.phase = Phase::Pause(Instant::now()),
            Phase::Attaching => self.again = true,
            Phase::Draining => {}
        }
    }
}

const fn rejected(code: ErrorCode, lines_total: u64) -> ChannelError {
    ChannelError::Rejected { code, lines_total }
}

/// What the end of a stream means for its channel.
fn end_of(error: StreamError) -> End {
    match error {
        StreamError::Lost(_) => End::ConnectionLost,
        StreamError::ClosedByPeer { code: CloseCode::Error(code) } => match code.retry() {
            Retry::Later => End::StreamLost,
            Retry::AfterTopUp | Retry::No => End::Stopped(rejected(code, 0)),
        },
        StreamError::ClosedByPeer { code: CloseCode::Orderly | CloseCode::Unknown(_) }
        | StreamError::ClosedHere
        | StreamError::Truncated { .. } => End::StreamLost,
        StreamError::Message(error) => End::Stopped(ChannelError::Protocol(error)),
        StreamError::Encode(error) => End::Stopped(ChannelError::Encode(error)),
        StreamError::TooManyStreams => End::Stopped(rejected(ErrorCode::TooManyChannels, 0)),
    }
}
