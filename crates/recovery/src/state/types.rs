//! What a ledger consists of, as its events tell it.

use millstream_types::{Address, Amount, BlockNumber, BookId, ChannelId, CumulativeAmount, EpochId, Hash256, Timestamp};

/// What a payer asked of the ledger. Amounts in nanos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A channel with a first deposit.
    Open {
        /// The deposit.
        amount: Amount,
    },
    /// A larger deposit.
    TopUp {
        /// By how much.
        amount: Amount,
    },
    /// The channel's end.
    Close,
}

impl Asked {
    /// What it adds to the deposit.
    #[must_use]
    pub const fn amount(self) -> Amount {
        match self {
            Self::Open { amount } | Self::TopUp { amount } => amount,
            Self::Close => Amount::ZERO,
        }
    }

    /// The word for it: `open`, `top up`, `close`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::TopUp { .. } => "top up",
            Self::Close => "close",
        }
    }

    /// Its number in the contract (spec, section Requests).
    pub(super) const fn kind(self) -> u8 {
        match self {
            Self::Open { .. } => 1,
            Self::TopUp { .. } => 2,
            Self::Close => 3,
        }
    }
}

/// When and by what a request was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedAt {
    /// The block.
    pub block: BlockNumber,
    /// The block's time.
    pub time: Timestamp,
    /// The transaction.
    pub transaction: Hash256,
}

/// A request of the queue, served or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuiltRequest {
    /// Its number in the queue.
    pub index: u64,
    /// The channel.
    pub channel: ChannelId,
    /// What was asked.
    pub asked: Asked,
    /// The block it was made in.
    pub block: BlockNumber,
    /// That block's time: when the response window began.
    pub requested_at: Timestamp,
    /// When it was served, if it was.
    pub served: Option<ServedAt>,
}

/// Where a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelPlace {
    /// It waits in the queue to be put in a book.
    Queued,
    /// In a slot of a book.
    Booked {
        /// The book.
        book: BookId,
        /// The slot.
        slot: u16,
    },
    /// It was closed, or left the halted ledger.
    Closed,
    /// Its opening was taken back before it was in a book (L-24): its requests are void.
    Cancelled,
}

impl ChannelPlace {
    /// Whether nothing more can happen to the channel.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Closed | Self::Cancelled)
    }
}

/// A channel. Amounts in nanos. `deposited = settled + refunded + still in` at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuiltChannel {
    /// The channel.
    pub id: ChannelId,
    /// Who opened it and gets refunds.
    pub payer: Address,
    /// The voucher key's x-coordinate: a field element, 32 bytes.
    pub key_x: [u8; 32],
    /// The payer's salt.
    pub salt: [u8; 32],
    /// Everything deposited, in a book or waiting in the queue.
    pub deposited: Amount,
    /// Taken by the provider.
    pub settled: CumulativeAmount,
    /// Credited to the payer when it was closed, cancelled or left.
    pub refunded: Amount,
    /// Where it is.
    pub place: ChannelPlace,
    /// The number of the request to close it, if it was made.
    pub close_request: Option<u64>,
}

impl RebuiltChannel {
    /// Deposited and neither settled nor refunded: what the ledger still holds for this channel.
    #[must_use]
    pub fn held(&self) -> Amount {
        let left = self.deposited.checked_sub(self.settled.as_amount()).and_then(|rest| rest.checked_sub(self.refunded));
        // Both were checked against the deposit when they were applied.
        left.unwrap_or(Amount::ZERO)
    }
}

/// An epoch whose billing root is on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnchoredEpoch {
    /// Its number.
    pub epoch: EpochId,
    /// The root of its billing tree.
    pub root: Hash256,
    /// The block.
    pub block: BlockNumber,
}
