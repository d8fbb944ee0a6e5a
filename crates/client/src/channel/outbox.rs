//! Frames on their way: durable here, not yet known to be durable at the node. No I/O.

use std::collections::VecDeque;
use std::collections::vec_deque::Drain;
use std::time::Instant;

use bytes::Bytes;
use millstream_voucher::{SignedVoucher, VoucherBody};
use millstream_wire::Ack;

use crate::{ChannelError, Totals};

/// A frame that may be sent: it is in the state file.
#[derive(Clone, Debug)]
pub(crate) struct QueuedFrame {
    pub(crate) body: VoucherBody,
    pub(crate) bytes: Bytes,
    pub(crate) lines: u32,
    /// `None` for a frame of an earlier run.
    pub(crate) signed_at: Option<Instant>,
    /// The last write to a socket of this run.
    pub(crate) sent_at: Option<Instant>,
}

/// Where a voucher that the node names stands against what was signed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is the one acked last.
    Acked,
    /// It is that of the n-th frame of the outbox: so many are durable.
    Frames(usize),
    /// It is below what was acked.
    Forgot,
    /// It is above everything that left this state.
    Ahead,
    /// Its totals are within what was signed, and it is not on this history.
    Forked,
}

/// The frames of one channel that are durable here, in the order they were signed; the first `in_flight` were sent on the present stream.
pub(crate) struct Outbox {
    frames: VecDeque<QueuedFrame>,
    in_flight: usize,
    /// The last voucher that may leave.
    durable: SignedVoucher,
    /// A new attach is asked for.
    pub(crate) refresh: bool,
}

impl Outbox {
    pub(crate) fn new(durable: SignedVoucher, frames: Vec<QueuedFrame>) -> Self {
        Self { frames: frames.into(), in_flight: 0, durable, refresh: false }
    }

    /// A frame became durable here.
    pub(crate) fn push(&mut self, voucher: SignedVoucher, frame: QueuedFrame) {
        self.durable = voucher;
        self.frames.push_back(frame);
    }

    /// Starts over from a later voucher; returns how many frames it replaces.
    pub(crate) fn adopt(&mut self, voucher: SignedVoucher) -> usize {
        let dropped = self.frames.len();
        self.frames.clear();
        self.in_flight = 0;
        self.durable = voucher;
        dropped
    }

    pub(crate) const fn durable(&self) -> &SignedVoucher {
        &self.durable
    }

    pub(crate) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A new stream, or a new attach on the old one: everything is to be sent again. Returns how many frames were sent before.
    pub(crate) fn rewind(&mut self) -> usize {
        self.in_flight = 0;
        self.frames.iter().filter(|frame| frame.sent_at.is_some() || frame.signed_at.is_none()).count()
    }

    /// Takes the next frame to send while fewer than `in_flight_max` are unanswered; true with it when it was sent before in this run.
    pub(crate) fn next(&mut self, in_flight_max: usize, now: Instant) -> Option<(Bytes, bool)> {
        if self.in_flight >= in_flight_max {
            return None;
        }
        let frame = self.frames.get_mut(self.in_flight)?;
        self.in_flight += 1;
        let again = frame.sent_at.replace(now).is_some() || frame.signed_at.is_none();
        Some((frame.bytes.clone(), again))
    }

    /// Where a voucher that the node accepted stands; `acked` is what it acked last.
    pub(crate) fn place(&self, accepted: &VoucherBody, acked: &VoucherBody) -> Place {
        if accepted.lines_total < acked.lines_total {
            return Place::Forgot;
        }
        if accepted == acked {
            return Place::Acked;
        }
        let index = self.frames.partition_point(|frame| frame.body.lines_total < accepted.lines_total);
        match self.frames.get(index) {
            Some(frame) if frame.body == *accepted => Place::Frames(index + 1),
            None if later(accepted, self.durable.body()) => Place::Ahead,
            Some(_) | None => Place::Forked,
        }
    }

    /// How many frames an ack covers; 0 when it repeats an earlier one.
    ///
    /// # Errors
    /// [`ChannelError::AckAboveSent`] or [`ChannelError::AckMismatch`]: the node lies.
    pub(crate) fn check_ack(&self, ack: &Ack, acked: &VoucherBody) -> Result<usize, ChannelError> {
        let named = Totals { lines_total: ack.lines_total, cumulative: ack.cumulative };
        if ack.lines_total < acked.lines_total || named == Totals::of(acked) {
            return Ok(0);
        }
        let index = self.frames.partition_point(|frame| frame.body.lines_total < ack.lines_total);
        if index >= self.in_flight {
            let sent = self.in_flight.checked_sub(1).and_then(|last| self.frames.get(last));
            return Err(ChannelError::AckAboveSent { sent: Totals::of(sent.map_or(acked, |frame| &frame.body)), acked: named });
        }
        match self.frames.get(index) {
            Some(frame) if Totals::of(&frame.body) == named => Ok(index + 1),
            Some(_) | None => Err(ChannelError::AckMismatch { acked: named }),
        }
    }

    /// Takes the first `count` frames out: they are durable at the node.
    pub(crate) fn settle(&mut self, count: usize) -> Drain<'_, QueuedFrame> {
        self.in_flight = self.in_flight.saturating_sub(count);
        self.frames.drain(..count)
    }
}

/// Whether signing on top of `voucher` can never go below what `last` signed.
fn later(voucher: &VoucherBody, last: &VoucherBody) -> bool {
    voucher.lines_total > last.lines_total && voucher.cumulative >= last.cumulative
}
