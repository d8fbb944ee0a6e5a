//! What the ledger says happened, in our words.

use alloy::primitives::LogData;
use alloy::sol_types::SolEventInterface;
use millstream_types::{Address, Amount, BlockNumber, BookId, ChannelId, EpochId, Hash256, Timestamp};

use crate::bindings::ILedger::ILedgerEvents;
use crate::{ChainError, convert};

/// Where an event stands. Events are ordered by block, then by log index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPosition {
    /// The block.
    pub block: BlockNumber,
    /// Its hash.
    pub block_hash: Hash256,
    /// Its time: when a request counts as made (spec L-6).
    pub block_time: Timestamp,
    /// The transaction.
    pub transaction: Hash256,
    /// The event's place in the block.
    pub log_index: u64,
}

/// An event of the ledger with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEvent {
    /// Where it stands.
    pub position: EventPosition,
    /// What happened.
    pub event: LedgerEvent,
}

/// What the ledger says happened. Amounts are nanos unless named otherwise; roots and keys are field elements, 32 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerEvent {
    /// A channel was opened and waits to be put in a book.
    Opened {
        /// The channel.
        channel: ChannelId,
        /// Who opened it.
        payer: Address,
        /// The voucher key's x-coordinate; the ledger checked the key (spec V-5).
        key_x: [u8; 32],
        /// The payer's salt.
        salt: [u8; 32],
        /// The first deposit.
        deposit: Amount,
        /// The request's number in the queue.
        request_index: u64,
    },
    /// A deposit was raised.
    ToppedUp {
        /// The channel.
        channel: ChannelId,
        /// By how much.
        amount: Amount,
        /// To how much: everything deposited so far.
        deposit: Amount,
        /// The request's number in the queue.
        request_index: u64,
    },
    /// The payer asked for the channel to be closed.
    CloseRequested {
        /// The channel.
        channel: ChannelId,
        /// The request's number in the queue.
        request_index: u64,
    },
    /// A channel was put in a book.
    Included {
        /// The channel.
        channel: ChannelId,
        /// The book.
        book: BookId,
        /// The slot.
        slot: u16,
    },
    /// A channel was closed, its slot emptied.
    Closed {
        /// The channel.
        channel: ChannelId,
        /// The book that it was in.
        book: BookId,
        /// What the payer was credited.
        refund: Amount,
    },
    /// A channel was taken out of its slot (spec L-31): what follows in the same call puts it into another.
    MovedOut {
        /// The channel.
        channel: ChannelId,
        /// The book that it was in.
        book: BookId,
    },
    /// A channel was put into another slot, as it was (spec L-31).
    MovedIn {
        /// The channel.
        channel: ChannelId,
        /// The book.
        book: BookId,
        /// The slot.
        slot: u16,
    },
    /// A book was changed by requests or moves.
    Registered {
        /// The book.
        book: BookId,
        /// Its root now.
        new_root: [u8; 32],
        /// The head of the queue after the transaction.
        queue_head: u64,
    },
    /// A book was settled.
    Settled {
        /// The book.
        book: BookId,
        /// Its root now.
        new_root: [u8; 32],
        /// What the provider was credited.
        total: Amount,
        /// What each slot paid, in slot order, from calldata. None when the ledger was called by a contract, the endpoint gives no traces,
        /// and the transaction's input does not have the call inside either.
        deltas: Option<Vec<u64>>,
    },
    /// The root of an epoch was anchored.
    EpochAnchored {
        /// The epoch.
        epoch: EpochId,
        /// The root of its billing tree.
        root: Hash256,
    },
    /// A payer took back the deposit of a channel that was never put in a book: its requests are void (spec L-24).
    OpenCancelled {
        /// The channel.
        channel: ChannelId,
        /// What the payer was credited: everything deposited.
        refund: Amount,
    },
    /// A void request was passed over (spec L-24).
    RequestVoided {
        /// The channel.
        channel: ChannelId,
        /// The request's number in the queue; the head is beyond it after the transaction.
        request_index: u64,
    },
    /// The ledger was halted, for good (spec L-25).
    Halted {
        /// The request that waited for too long.
        request_index: u64,
    },
    /// A channel left the halted ledger (spec L-26).
    Left {
        /// The channel.
        channel: ChannelId,
        /// The book that it was in.
        book: BookId,
        /// What the payer was credited.
        refund: Amount,
    },
    /// A credit was paid out.
    Withdrawn {
        /// Whose credit.
        account: Address,
        /// Who was paid.
        to: Address,
        /// How much, in base units.
        base_units: u128,
    },
    /// The provider named another operator.
    OperatorChanged {
        /// The account that may settle and register now.
        operator: Address,
    },
}

impl LedgerEvent {
    /// Decodes a log of the ledger. The deltas of a settlement are not in the log; they are left out here.
    pub(super) fn decode(log: &LogData) -> Result<Self, ChainError> {
        let event = ILedgerEvents::decode_raw_log(log.topics(), &log.data);
        let event = event.map_err(|error| ChainError::inconsistent(format!("an event that is not the ledger's: {error}")))?;
        Ok(match event {
            ILedgerEvents::Opened(event) => Self::Opened {
                channel: convert::channel(event.uid),
                payer: convert::address(event.payer),
                key_x: convert::bytes(event.keyX),
                salt: event.salt.0,
                deposit: Amount::from_nanos(event.depositNanos),
                request_index: event.requestIndex,
            },
            ILedgerEvents::ToppedUp(event) => Self::ToppedUp {
                channel: convert::channel(event.uid),
                amount: Amount::from_nanos(event.amountNanos),
                deposit: Amount::from_nanos(event.depositNanos),
                request_index: event.requestIndex,
            },
            ILedgerEvents::CloseRequested(event) => {
                Self::CloseRequested { channel: convert::channel(event.uid), request_index: event.requestIndex }
            }
            ILedgerEvents::Included(event) => {
                Self::Included { channel: convert::channel(event.uid), book: BookId::from_u32(event.book), slot: event.slot }
            }
            ILedgerEvents::Closed(event) => Self::Closed {
                channel: convert::channel(event.uid),
                book: BookId::from_u32(event.book),
                refund: Amount::from_nanos(event.refundNanos),
            },
            ILedgerEvents::MovedOut(event) => Self::MovedOut { channel: convert::channel(event.uid), book: BookId::from_u32(event.book) },
            ILedgerEvents::MovedIn(event) => {
                Self::MovedIn { channel: convert::channel(event.uid), book: BookId::from_u32(event.book), slot: event.slot }
            }
            ILedgerEvents::Registered(event) => Self::Registered {
                book: BookId::from_u32(event.book),
                new_root: convert::bytes(event.newRoot),
                queue_head: event.queueHead,
            },
            ILedgerEvents::Settled(event) => Self::Settled {
                book: BookId::from_u32(event.book),
                new_root: convert::bytes(event.newRoot),
                total: convert::amount("settled total", event.totalNanos)?,
                deltas: None,
            },
            ILedgerEvents::EpochAnchored(event) => {
                Self::EpochAnchored { epoch: EpochId::new(event.epoch), root: convert::hash(event.root) }
            }
            ILedgerEvents::OpenCancelled(event) => {
                Self::OpenCancelled { channel: convert::channel(event.uid), refund: Amount::from_nanos(event.refundNanos) }
            }
            ILedgerEvents::RequestVoided(event) => {
                Self::RequestVoided { channel: convert::channel(event.uid), request_index: event.requestIndex }
            }
            ILedgerEvents::Halted(event) => Self::Halted { request_index: event.requestIndex },
            ILedgerEvents::Left(event) => Self::Left {
                channel: convert::channel(event.uid),
                book: BookId::from_u32(event.book),
                refund: Amount::from_nanos(event.refundNanos),
            },
            ILedgerEvents::Withdrawn(event) => Self::Withdrawn {
                account: convert::address(event.account),
                to: convert::address(event.to),
                base_units: convert::u128_of("withdrawal", event.baseUnits)?,
            },
            ILedgerEvents::OperatorChanged(event) => Self::OperatorChanged { operator: convert::address(event.operator) },
        })
    }

    /// The number in the queue, for the three events that are requests.
    #[must_use]
    pub const fn request_index(&self) -> Option<u64> {
        match self {
            Self::Opened { request_index, .. } | Self::ToppedUp { request_index, .. } | Self::CloseRequested { request_index, .. } => {
                Some(*request_index)
            }
            Self::Included { .. }
            | Self::Closed { .. }
            | Self::MovedOut { .. }
            | Self::MovedIn { .. }
            | Self::Registered { .. }
            | Self::Settled { .. }
            | Self::EpochAnchored { .. }
            | Self::OpenCancelled { .. }
            | Self::RequestVoided { .. }
            | Self::Halted { .. }
            | Self::Left { .. }
            | Self::Withdrawn { .. }
            | Self::OperatorChanged { .. } => None,
        }
    }
}
