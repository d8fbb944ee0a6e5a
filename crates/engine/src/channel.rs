//! One channel: what the chain confirmed, what the payer signed, what was settled.

use millstream_billing::{FrameLeaf, genesis_head, next_head};
use millstream_types::{Address, Amount, BillHead, BookId, ChannelId, CumulativeAmount};
use millstream_voucher::VerifiedVoucher;

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

/// The state of one channel. Amounts in nanos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub(crate) id: ChannelId,
    pub(crate) payer: Address,
    pub(crate) key_x: [u8; 32],
    pub(crate) status: ChannelStatus,
    /// Everything deposited, at the confirmation depth.
    pub(crate) deposit: Amount,
    /// The part of the deposit that the channel's slot has: what was registered.
    pub(crate) registered: Amount,
    pub(crate) location: Option<Location>,
    pub(crate) accepted: Option<VerifiedVoucher>,
    pub(crate) charged: CumulativeAmount,
    pub(crate) settled: CumulativeAmount,
    /// Paid back to the payer when the channel closed.
    pub(crate) refunded: Amount,
}

impl Channel {
    pub(crate) fn opened(id: ChannelId, payer: Address, key_x: [u8; 32], deposit: Amount) -> Self {
        Self {
            id,
            payer,
            key_x,
            status: ChannelStatus::Open,
            deposit,
            registered: Amount::ZERO,
            location: None,
            accepted: None,
            charged: CumulativeAmount::ZERO,
            settled: CumulativeAmount::ZERO,
            refunded: Amount::ZERO,
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
        self.deposit
    }

    /// The part of the deposit that is in the channel's slot: no settlement can take more.
    #[must_use]
    pub const fn registered(&self) -> Amount {
        self.registered
    }

    /// Its book and slot, once included.
    #[must_use]
    pub const fn location(&self) -> Option<Location> {
        self.location
    }

    /// The best voucher.
    #[must_use]
    pub const fn accepted(&self) -> Option<&VerifiedVoucher> {
        self.accepted.as_ref()
    }

    /// The cumulative amount of the best voucher.
    #[must_use]
    pub fn accepted_total(&self) -> CumulativeAmount {
        self.accepted.as_ref().map_or(CumulativeAmount::ZERO, |voucher| voucher.body().cumulative)
    }

    /// Lines under the best voucher.
    #[must_use]
    pub fn lines_total(&self) -> u64 {
        self.accepted.as_ref().map_or(0, |voucher| voucher.body().lines_total)
    }

    /// The accepted bill head.
    #[must_use]
    pub fn bill_head(&self) -> BillHead {
        self.accepted.as_ref().map_or_else(|| genesis_head(&self.id), |voucher| voucher.body().bill_head)
    }

    /// What was captured. Streamed lines are charged when they are accepted.
    #[must_use]
    pub const fn charged(&self) -> CumulativeAmount {
        self.charged
    }

    /// What was taken on-chain.
    #[must_use]
    pub const fn settled(&self) -> CumulativeAmount {
        self.settled
    }

    /// What went back to the payer at the close.
    #[must_use]
    pub const fn refunded(&self) -> Amount {
        self.refunded
    }

    /// Charged and not yet settled: what the provider has at risk.
    #[must_use]
    pub fn unsettled(&self) -> Amount {
        self.charged.delta_since(self.settled).unwrap_or(Amount::ZERO)
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
        let over = Rejection::DepositExceeded { deposit: self.deposit, actual: voucher.cumulative };
        let (before, after) = (accepted.to_u64().map_err(|_| over)?, voucher.cumulative.to_u64().map_err(|_| over)?);
        let expected = next_head(&self.bill_head(), &frame.root, voucher.lines_total, after);
        if voucher.bill_head != expected {
            return Err(Rejection::BrokenBillHead { expected, actual: voucher.bill_head });
        }
        if voucher.cumulative.as_amount() > self.deposit {
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
        self.status == ChannelStatus::Frozen && !self.deposit.is_zero() && self.is_ordered()
    }

    /// Whether `settled ≤ charged ≤ accepted ≤ confirmed deposit`.
    pub(crate) fn is_ordered(&self) -> bool {
        self.settled <= self.charged && self.charged <= self.accepted_total() && self.accepted_total().as_amount() <= self.deposit
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(280);
        bytes.push(1);
        bytes.extend_from_slice(self.payer.as_bytes());
        bytes.extend_from_slice(&self.key_x);
        bytes.push(match self.status {
            ChannelStatus::Open => 1,
            ChannelStatus::Closing => 2,
            ChannelStatus::Closed => 3,
            ChannelStatus::Frozen => 4,
        });
        for amount in [self.deposit.units(), self.registered.units(), self.charged.units(), self.settled.units(), self.refunded.units()] {
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
                bytes.extend_from_slice(&voucher.signed().to_bytes());
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
        let deposit = Amount::from_units(reader.u128()?);
        let registered = Amount::from_units(reader.u128()?);
        let charged = CumulativeAmount::from_units(reader.u128()?);
        let settled = CumulativeAmount::from_units(reader.u128()?);
        let refunded = Amount::from_units(reader.u128()?);
        let location = match reader.u8()? {
            0 => None,
            1 => Some(Location { book: BookId::from_u32(reader.u32()?), slot: reader.u16()? }),
            _ => return Err(reader.invalid()),
        };
        let accepted = match reader.u8()? {
            0 => None,
            1 => {
                let voucher = millstream_voucher::SignedVoucher::from_bytes(id, &reader.bytes()?);
                // The record was written from a voucher that had been verified, and the store vouches for its bytes.
                Some(VerifiedVoucher::assume_verified(voucher))
            }
            _ => return Err(reader.invalid()),
        };
        reader.finish()?;
        Ok(Self { id, payer, key_x, status, deposit, registered, location, accepted, charged, settled, refunded })
    }
}
