//! One channel: signing, what is on its way, and what the node said about it.
//!
//! **Invariants.** `acked ≤ sent ≤ durable here ≤ signed ≤ taken`, as totals and as histories. The locks are taken in the order desk, outbox,
//! acked, and never held over an await.

mod desk;
mod handle;
mod linger;
mod outbox;
#[cfg(test)]
mod outbox_tests;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use millstream_billing::Line;
use millstream_types::{ChannelId, LedgerId};
use millstream_voucher::{PublicKey, SignedVoucher, VoucherBody};
use millstream_wire::{Ack, Snapshot};
use tokio::sync::{Notify, oneshot, watch};

use crate::events::{Event, FrameAcked, Reporter, count};
use crate::state::{ChannelGuard, CommitQueue, Loaded, Put, genesis, lock};
use crate::{ChannelError, ClientError, PayError, PayOptions, Position, StateError, Totals};
use desk::{Desk, SealedFrame};
pub use handle::ChannelHandle;
use outbox::{Outbox, Place, QueuedFrame};

/// What waiters look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    /// Snapshots taken in.
    pub(crate) attaches: u64,
    /// What is durable at the node.
    pub(crate) acked: Totals,
    /// Frames signed in this run or found in the state.
    pub(crate) frames_acked: u64,
    /// Why the channel stands still, if it does.
    pub(crate) stopped: Option<ChannelError>,
}

/// What the link has to know of a frame that may be sent.
pub(crate) struct Outgoing {
    pub(crate) bytes: bytes::Bytes,
    pub(crate) again: bool,
}

/// What taking in a snapshot changed.
pub(crate) struct Resumed {
    /// Frames that are to be sent again.
    pub(crate) resent: usize,
    /// What the node has.
    pub(crate) accepted: Totals,
}

/// A channel of this process.
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    pub(crate) ledger: LedgerId,
    pub(crate) options: PayOptions,
    public: PublicKey,
    desk: Mutex<DeskState>,
    outbox: Mutex<Outbox>,
    acked: Arc<Mutex<VoucherBody>>,
    pub(crate) status: watch::Sender<Status>,
    /// Wakes the link: there is something to send or to ask.
    pub(crate) work: Notify,
    /// Wakes the linger task: a frame has begun.
    begun: Notify,
    writes: CommitQueue,
    reporter: Reporter,
    _guard: ChannelGuard,
}

struct DeskState {
    desk: Desk,
    frames_sealed: u64,
    stopped: Option<ChannelError>,
}

/// How a call of `pay` ended.
pub(crate) enum Taken {
    /// All lines are taken; the totals with them.
    All(Totals),
    /// Too many frames are on their way; none is taken.
    Full,
}

impl Channel {
    pub(crate) fn new(loaded: Loaded, options: PayOptions, writes: CommitQueue, reporter: Reporter) -> Result<Self, ClientError> {
        let Loaded { terms, key, signed, acked, frames, guard } = loaded;
        let id = terms.uid();
        let public = key.public_key();
        let signed = match signed {
            Some(signed) => signed,
            // A payer that has signed nothing attaches with a voucher of nothing (wire.md, attach).
            None => *key.sign(genesis(id)).map_err(|error| ClientError::Channel(ChannelError::Sign(error)))?.signed(),
        };
        let queued = frames.into_iter().map(|bytes| queued_frame(id, bytes)).collect::<Result<Vec<_>, _>>()?;
        let frames_sealed = u64::try_from(queued.len()).unwrap_or(u64::MAX);
        let status = Status { acked: Totals::of(&acked), ..Status::default() };
        Ok(Self {
            id,
            ledger: terms.ledger,
            options,
            public,
            desk: Mutex::new(DeskState { desk: Desk::new(key, options, signed), frames_sealed, stopped: None }),
            outbox: Mutex::new(Outbox::new(signed, queued)),
            acked: Arc::new(Mutex::new(acked)),
            status: watch::Sender::new(status),
            work: Notify::new(),
            begun: Notify::new(),
            writes,
            reporter,
            _guard: guard,
        })
    }

    /// Takes lines if there is room for their frames.
    pub(crate) fn take(self: &Arc<Self>, lines: &[Line]) -> Result<Taken, PayError> {
        let mut state = lock(&self.desk);
        if let Some(error) = &state.stopped {
            return Err(PayError::Stopped(error.clone()));
        }
        let unacked = state.frames_sealed.saturating_sub(self.status.borrow().frames_acked);
        if usize::try_from(unacked).unwrap_or(usize::MAX) >= self.options.frames_queued_max {
            return Ok(Taken::Full);
        }
        let had_pending = state.desk.has_pending();
        let before = state.desk.generation();
        let DeskState { desk, frames_sealed, .. } = &mut *state;
        let mut persisted = Ok(());
        let result = desk.take(lines, |frame| {
            *frames_sealed += 1;
            if persisted.is_ok() {
                persisted = self.persist(frame);
            }
        });
        let began = desk.has_pending() && (!had_pending || desk.generation() != before);
        let totals = desk.taken();
        drop(state);
        let result = result.and(persisted.map_err(PayError::Stopped));
        if let Err(PayError::Stopped(error)) = &result {
            self.stop(error.clone());
        }
        result?;
        if began {
            self.begun.notify_one();
        }
        Ok(Taken::All(totals))
    }

    /// Signs what is pending, unless a frame was sealed since `generation`; returns the totals signed.
    fn seal(self: &Arc<Self>, generation: Option<u64>) -> Result<Totals, ChannelError> {
        let mut state = lock(&self.desk);
        if let Some(error) = &state.stopped {
            return Err(error.clone());
        }
        if generation.is_none_or(|generation| generation == state.desk.generation()) {
            let sealed = state.desk.seal();
            let persisted = sealed.and_then(|frame| match frame {
                Some(frame) => {
                    state.frames_sealed += 1;
                    self.persist(frame)
                }
                None => Ok(()),
            });
            if let Err(error) = persisted {
                drop(state);
                self.stop(error.clone());
                return Err(error);
            }
        }
        Ok(Totals::of(state.desk.signed().body()))
    }

    fn generation(&self) -> u64 {
        lock(&self.desk).desk.generation()
    }

    /// Queues a frame for the disk. Called under the desk's lock, so frames are written in the order they were signed.
    fn persist(self: &Arc<Self>, frame: SealedFrame) -> Result<(), ChannelError> {
        let channel = Arc::clone(self);
        let SealedFrame { voucher, bytes, lines, signed_at } = frame;
        let queued = QueuedFrame { body: *voucher.body(), bytes: bytes.clone(), lines, signed_at: Some(signed_at), sent_at: None };
        let release = move |result: Result<(), StateError>| match result {
            Ok(()) => {
                lock(&channel.outbox).push(voucher, queued);
                channel.work.notify_one();
            }
            Err(error) => channel.stop(ChannelError::State(error)),
        };
        let put = Put { voucher, frame: Some(bytes), acked: Arc::clone(&self.acked), release: Box::new(release) };
        self.writes.put(put).map_err(ChannelError::State)
    }

    /// Stops the channel: `pay` and `flush` fail from now on. What cannot be recovered from is not replaced by what can.
    pub(crate) fn stop(&self, error: ChannelError) {
        let mut state = lock(&self.desk);
        if state.stopped.as_ref().is_some_and(|before| !before.is_recoverable()) {
            return;
        }
        state.stopped = Some(error.clone());
        self.status.send_modify(|status| status.stopped = Some(error.clone()));
        drop(state);
        self.reporter.event(&Event::Stopped { channel: self.id, error });
    }

    /// The last voucher that may leave this machine.
    pub(crate) fn durable_voucher(&self) -> SignedVoucher {
        *lock(&self.outbox).durable()
    }

    /// The next frame to send while fewer than `in_flight_max` are unanswered.
    pub(crate) fn next_frame(&self, in_flight_max: usize, now: Instant) -> Option<Outgoing> {
        lock(&self.outbox).next(in_flight_max, now).map(|(bytes, again)| Outgoing { bytes, again })
    }

    /// Whether a refresh was asked for since the last call.
    pub(crate) fn take_refresh(&self) -> bool {
        std::mem::take(&mut lock(&self.outbox).refresh)
    }

    /// Asks the link for a new attach; a recoverable stop no longer holds.
    fn ask_refresh(&self) {
        let mut state = lock(&self.desk);
        lock(&self.outbox).refresh = true;
        if state.stopped.take_if(|error| error.is_recoverable()).is_some() {
            self.status.send_modify(|status| status.stopped = None);
        }
        drop(state);
        self.work.notify_one();
    }

    /// Records how far the node has come, and takes nothing more.
    ///
    /// Returns what tells when it is recorded, unless there is nothing to record.
    fn give_up(&self) -> Option<oneshot::Receiver<Result<(), StateError>>> {
        let (tell, recorded) = oneshot::channel();
        // Under the desk's lock, so that no frame is queued for the disk after this voucher and before this put.
        let state = lock(&self.desk);
        let voucher = *state.desk.signed();
        let queued = voucher.body().lines_total > 0 && self.persist_totals(voucher, tell).is_ok();
        drop(state);
        self.stop(ChannelError::Closed);
        queued.then_some(recorded)
    }

    pub(crate) fn in_flight(&self) -> usize {
        lock(&self.outbox).in_flight()
    }

    /// Takes in an ack (W-5).
    pub(crate) fn accept_ack(&self, ack: &Ack) -> Result<(), ChannelError> {
        let mut outbox = lock(&self.outbox);
        let acked = *lock(&self.acked);
        let covered = outbox.check_ack(ack, &acked)?;
        let settled: Vec<QueuedFrame> = outbox.settle(covered).collect();
        if let Some(last) = settled.last() {
            *lock(&self.acked) = last.body;
        }
        drop(outbox);
        self.report_acked(&settled, Some(ack));
        Ok(())
    }

    /// Takes in the answer to an attach: what the node has, and what follows for what is on its way.
    pub(crate) fn accept_snapshot(self: &Arc<Self>, snapshot: &Snapshot) -> Result<Resumed, ChannelError> {
        if snapshot.channel != self.id {
            return Err(ChannelError::WrongChannel);
        }
        if let Some(voucher) = snapshot.accepted {
            voucher.verify(&self.public).map_err(ChannelError::ForeignVoucher)?;
        }
        let accepted = snapshot.accepted.as_ref().map_or_else(|| genesis(self.id), |voucher| *voucher.body());
        let named = Totals::of(&accepted);

        let mut state = lock(&self.desk);
        let mut outbox = lock(&self.outbox);
        let acked = *lock(&self.acked);
        let signed = Totals::of(state.desk.signed().body());
        let mut settled = Vec::new();
        let mut adopted = None;
        let mut behind = None;
        match (outbox.place(&accepted, &acked), snapshot.accepted) {
            (Place::Acked, _) => {}
            (Place::Frames(count), _) => settled.extend(outbox.settle(count)),
            (Place::Forgot, _) => return Err(ChannelError::NodeForgot { acked: Totals::of(&acked), named }),
            (Place::Ahead, Some(voucher)) if !state.desk.attached => adopted = Some(voucher),
            (Place::Ahead | Place::Forked, _) => return Err(ChannelError::Forked { named, signed }),
        }
        if let Some(voucher) = adopted {
            let dropped_frames = outbox.adopt(voucher);
            state.desk.adopt(voucher);
            state.frames_sealed = 0;
            self.status.send_modify(|status| status.frames_acked = 0);
            *lock(&self.acked) = accepted;
            // Nobody waits: it is on disk before any frame on top of it, and until then the node tells it again.
            self.persist_totals(voucher, oneshot::channel().0).map_err(ChannelError::State)?;
            behind = Some(Event::StateWasBehind { channel: self.id, ours: signed, adopted: named, dropped_frames });
        } else if let Some(last) = settled.last() {
            *lock(&self.acked) = last.body;
        }
        let resent = outbox.rewind();
        state.desk.attached = true;
        state.desk.learn(snapshot.confirmed_deposit, &snapshot.limits);
        state.desk.charged = snapshot.charged;
        state.desk.settled = snapshot.settled;
        if state.stopped.as_ref().is_some_and(ChannelError::is_recoverable) {
            state.stopped = None;
        }
        let stopped = state.stopped.clone();
        self.status.send_modify(|status| {
            status.attaches += 1;
            status.acked = named;
            status.stopped = stopped;
        });
        drop(outbox);
        drop(state);
        self.report_acked(&settled, None);
        if let Some(event) = behind {
            self.reporter.event(&event);
        }
        Ok(Resumed { resent, accepted: named })
    }

    /// Queues totals alone for the disk, and the deletion of the frames that they make obsolete.
    fn persist_totals(&self, voucher: SignedVoucher, tell: oneshot::Sender<Result<(), StateError>>) -> Result<(), StateError> {
        // Nobody may be waiting.
        let release = move |result: Result<(), StateError>| drop(tell.send(result));
        self.writes.put(Put { voucher, frame: None, acked: Arc::clone(&self.acked), release: Box::new(release) })
    }

    fn report_acked(&self, settled: &[QueuedFrame], ack: Option<&Ack>) {
        let Some(last) = settled.last() else {
            return;
        };
        let frames = u64::try_from(settled.len()).unwrap_or(u64::MAX);
        let lines = settled.iter().map(|frame| u64::from(frame.lines)).sum();
        count(&self.reporter.counters.frames_acked, frames);
        count(&self.reporter.counters.lines_acked, lines);
        let now = Instant::now();
        for frame in settled {
            self.reporter.event(&Event::FrameAcked(FrameAcked {
                channel: self.id,
                lines: frame.lines,
                totals: Totals::of(&frame.body),
                since_signed: frame.signed_at.map(|at| now.saturating_duration_since(at)),
                since_sent: frame.sent_at.map(|at| now.saturating_duration_since(at)),
                epoch: ack.map(|ack| ack.epoch),
            }));
        }
        self.status.send_modify(|status| {
            status.acked = Totals::of(&last.body);
            status.frames_acked += frames;
        });
    }

    fn position(&self) -> Position {
        let state = lock(&self.desk);
        let status = self.status.borrow();
        Position {
            taken: state.desk.taken(),
            signed: Totals::of(state.desk.signed().body()),
            acked: status.acked,
            deposit: state.desk.deposit(),
            charged: state.desk.charged,
            settled: state.desk.settled,
            frames_unacked: state.frames_sealed.saturating_sub(status.frames_acked),
        }
    }
}

/// A frame of an earlier run, as the state kept it.
fn queued_frame(channel: ChannelId, bytes: bytes::Bytes) -> Result<QueuedFrame, StateError> {
    let damaged = StateError::Damaged { channel, what: "a frame does not parse" };
    let message = bytes.slice(millstream_wire::LENGTH_BYTES.min(bytes.len())..);
    let frame = millstream_wire::FrameMessage::decode(message).map_err(|_| damaged)?;
    let (body, lines) = (*frame.voucher().body(), frame.count().into());
    Ok(QueuedFrame { body, bytes, lines, signed_at: None, sent_at: None })
}
