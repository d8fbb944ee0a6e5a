//! One channel: what the chain confirmed, what the payer signed, what was settled.

use millstream_billing::{FrameLeaf, genesis_head, next_head};
use millstream_types::{Address, Amount, BillHead, BookId, ChannelId, CumulativeAmount};
use millstream_voucher::{SignedVoucher, VOUCHER_BYTES, VerifiedVoucher};

use crate::codec::Reader;
use crate::input::FrameInput;
use crate::{RecordError, Rejection};

/// Whether a channel takes payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelStatus {
    /// It does.
    Open,
    /// The payer asked on-chain to close; what was accepted will be settled first.
    Closing,
    /// Closed on-chain, for ever.
    Closed,
    /// The chain took back what the channel relied on; see [`crate::ChainFact::Reset`].
    Frozen,
}

/// Where a channel is in the ledger's books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The book.
    pub book: BookId,
    /// The slot in it.
    pub slot: u16,
}

/// The state of one channel. Amounts in nanos: 64 bits each, as on the ledger, because there is one of these in memory for every channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub(crate) id: ChannelId,
    pub(crate) payer: Address,
    pub(crate) key_x: [u8; 32],
    pub(crate) status: ChannelStatus,
    /// Everything deposited, at the confirmation depth.
    pub(crate) deposit: u64,
    /// The part of the deposit that the channel's slot has: what was registered.
    pub(crate) registered: u64,
    pub(crate) location: Option<Location>,
    /// The best voucher in its stored form; it was verified before it came here.
    accepted: Option<[u8; VOUCHER_BYTES]>,
    pub(crate) charged: u64,
    pub(crate) settled: u64,
    /// Paid back to the payer when the channel closed.
    pub(crate) refunded: u64,
}

impl Channel {
    pub(crate) fn opened(id: ChannelId, payer: Address, key_x: [u8; 32], deposit: u64) -> Self {
        Self {
            id,
            payer,
            key_x,
            status: ChannelStatus::Open,
            deposit,
            registered: 0,
            location: None,
            accepted: None,
            charged: 0,
            settled: 0,
            refunded: 0,
        }
    }

    /// The channel's id.
    #[must_use]
    pub const fn id(&self) -> ChannelId {
        self.id
    }

    /// Who funded it and gets the refund.
    #[must_use]
    pub const fn payer(&self) -> Address {
        self.payer
    }

    /// The x-coordinate of the voucher key, big-endian.
    #[must_use]
    pub const fn key_x(&self) -> &[u8; 32] {
        &self.key_x
    }

    /// Whether it takes payments.
    #[must_use]
    pub const fn status(&self) -> ChannelStatus {
        self.status
    }

    /// The deposit that counts: confirmed by the chain.
    #[must_use]
    pub const fn deposit(&self) -> Amount {
        Amount::from_nanos(self.deposit)
    }

    /// The part of the deposit that is in the channel's slot: no settlement can take more.
    #[must_use]
    pub const fn registered(&self) -> Amount {
        Amount::from_nanos(self.registered)
    }

    /// Its book and slot, once included.
    #[must_use]
    pub const fn location(&self) -> Option<Location> {
        self.location
    }

    /// The best voucher.
    #[must_use]
    pub fn accepted(&self) -> Option<VerifiedVoucher> {
        self.accepted.map(|bytes| VerifiedVoucher::assume_verified(SignedVoucher::from_bytes(self.id, &bytes)))
    }

    /// Takes a better voucher, and charges it: a streamed line is delivered by being accepted.
    pub(crate) fn accept(&mut self, voucher: &VerifiedVoucher) {
        self.accepted = Some(voucher.signed().to_bytes());
        self.charged = self.accepted_nanos();
    }

    /// Eight bytes of the best voucher as an integer; 0 without one.
    fn accepted_integer(&self, start: usize) -> u64 {
        let bytes = self.accepted.as_ref().and_then(|voucher| voucher.get(start..)?.first_chunk());
        bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    pub(crate) fn accepted_nanos(&self) -> u64 {
        self.accepted_integer(8)
    }

    /// The cumulative amount of the best voucher.
    #[must_use]
    pub fn accepted_total(&self) -> CumulativeAmount {
        CumulativeAmount::from_nanos(self.accepted_nanos())
    }

    /// Lines under the best voucher.
    #[must_use]
    pub fn lines_total(&self) -> u64 {
        self.accepted_integer(0)
    }

    /// The accepted bill head.
    #[must_use]
    pub fn bill_head(&self) -> BillHead {
        let head = self.accepted.as_ref().and_then(|voucher| voucher.get(16..)?.first_chunk());
        head.map_or_else(|| genesis_head(&self.id), |head| BillHead::from_bytes(*head))
    }

    /// What was captured. Streamed lines are charged when they are accepted.
    #[must_use]
    pub const fn charged(&self) -> CumulativeAmount {
        CumulativeAmount::from_nanos(self.charged)
    }

    /// What was taken on-chain.
    #[must_use]
    pub const fn settled(&self) -> CumulativeAmount {
        CumulativeAmount::from_nanos(self.settled)
    }

    /// What went back to the payer at the close.
    #[must_use]
    pub const fn refunded(&self) -> Amount {
        Amount::from_nanos(self.refunded)
    }

    /// Charged and not yet settled: what the provider has at risk.
    #[must_use]
    pub fn unsettled(&self) -> Amount {
        Amount::from_nanos(self.charged.saturating_sub(self.settled))
    }

    /// Judges a frame against the accepted state (spec W-7). `Ok(None)` is the accepted voucher again (W-6).
    pub(crate) fn judge(&self, frame: &FrameInput) -> Result<Option<FrameLeaf>, Rejection> {
        let voucher = frame.voucher.body();
        match self.status {
            ChannelStatus::Open => {}
            ChannelStatus::Closing | ChannelStatus::Closed => return Err(Rejection::ChannelClosing),
            ChannelStatus::Frozen => return Err(Rejection::ChannelFrozen),
        }
        let accepted = self.accepted_total();
        let lines_before = self.lines_total();
        if voucher.cumulative == accepted && voucher.lines_total == lines_before && voucher.bill_head == self.bill_head() {
            return Ok(None);
        }
        let stale = Rejection::StaleTotal { accepted, actual: voucher.cumulative };
        if voucher.cumulative <= accepted || voucher.lines_total <= lines_before {
            return Err(stale);
        }
        // Neither sum can pass 64 bits by more than one frame; what does not fit is a mismatch.
        let expected = lines_before.saturating_add(u64::from(frame.lines));
        if voucher.lines_total != expected {
            return Err(Rejection::LinesMismatch { expected, actual: voucher.lines_total });
        }
        let expected = accepted.checked_add(frame.amount).map_err(|_| stale)?;
        if voucher.cumulative != expected {
            return Err(Rejection::AmountMismatch { expected, actual: voucher.cumulative });
        }
        let over = Rejection::DepositExceeded { deposit: self.deposit(), actual: voucher.cumulative };
        let (before, after) = (accepted.to_u64().map_err(|_| over)?, voucher.cumulative.to_u64().map_err(|_| over)?);
        let expected = next_head(&self.bill_head(), &frame.root, voucher.lines_total, after);
        if voucher.bill_head != expected {
            return Err(Rejection::BrokenBillHead { expected, actual: voucher.bill_head });
        }
        if after > self.deposit {
            return Err(over);
        }
        Ok(Some(FrameLeaf {
            channel: self.id,
            lines_before,
            lines_after: voucher.lines_total,
            cumulative_before: before,
            cumulative_after: after,
            bill_head: voucher.bill_head,
            frame_root: frame.root,
        }))
    }

    /// Whether a frozen channel may take payments again: the chain has its deposit, and its totals are in order.
    pub(crate) fn may_thaw(&self) -> bool {
        self.status == ChannelStatus::Frozen && self.deposit > 0 && self.is_ordered()
    }

    /// Whether `settled ≤ charged ≤ accepted ≤ confirmed deposit`.
    pub(crate) fn is_ordered(&self) -> bool {
        self.settled <= self.charged && self.charged <= self.accepted_nanos() && self.accepted_nanos() <= self.deposit
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(198);
        bytes.push(1);
        bytes.extend_from_slice(self.payer.as_bytes());
        bytes.extend_from_slice(&self.key_x);
        bytes.push(match self.status {
            ChannelStatus::Open => 1,
            ChannelStatus::Closing => 2,
            ChannelStatus::Closed => 3,
            ChannelStatus::Frozen => 4,
        });
        for amount in [self.deposit, self.registered, self.charged, self.settled, self.refunded] {
            bytes.extend_from_slice(&amount.to_be_bytes());
        }
        match self.location {
            None => bytes.push(0),
            Some(location) => {
                bytes.push(1);
                bytes.extend_from_slice(&location.book.to_u32().to_be_bytes());
                bytes.extend_from_slice(&location.slot.to_be_bytes());
            }
        }
        match &self.accepted {
            None => bytes.push(0),
            Some(voucher) => {
                bytes.push(1);
                bytes.extend_from_slice(voucher);
            }
        }
        bytes
    }

    pub(crate) fn decode(id: ChannelId, bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("channel", bytes)?;
        let payer = Address::from_bytes(reader.bytes()?);
        let key_x = reader.bytes()?;
        let status = match reader.u8()? {
            1 => ChannelStatus::Open,
            2 => ChannelStatus::Closing,
            3 => ChannelStatus::Closed,
            4 => ChannelStatus::Frozen,
            _ => return Err(reader.invalid()),
        };
        let (deposit, registered, charged, settled, refunded) = (reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?);
        let location = match reader.u8()? {
            0 => None,
            1 => Some(Location { book: BookId::from_u32(reader.u32()?), slot: reader.u16()? }),
            _ => return Err(reader.invalid()),
        };
        let accepted = match reader.u8()? {
            0 => None,
            // The record was written from a voucher that had been verified, and the store vouches for its bytes.
            1 => Some(reader.bytes()?),
            _ => return Err(reader.invalid()),
        };
        reader.finish()?;
        Ok(Self { id, payer, key_x, status, deposit, registered, location, accepted, charged, settled, refunded })
    }
}
