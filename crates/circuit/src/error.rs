//! What a caller can get wrong. No state has changed when one of these comes back.

use millstream_types::ChannelId;

/// Why a book cannot be changed or proved as asked. Every variant is a mistake of the caller, never of this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CircuitError {
    /// A book has 1 to 4096 slots.
    #[error("a book cannot have {slots} slots")]
    BookSize {
        /// The refused size.
        slots: usize,
    },
    /// A slot number, or a list of slots, beyond the book.
    #[error("slot {slot} is beyond a book of {slots}")]
    NoSuchSlot {
        /// The slot.
        slot: usize,
        /// Slots of the book.
        slots: usize,
    },
    /// The channel is not in this book.
    #[error("channel {uid} is not in this book")]
    UnknownUid {
        /// The channel.
        uid: ChannelId,
    },
    /// An `open` into a slot that another channel holds.
    #[error("slot {slot} already holds channel {held_by}")]
    SlotOccupied {
        /// The slot.
        slot: u16,
        /// The channel in it.
        held_by: ChannelId,
    },
    /// An `open` of a channel that is in the book already.
    #[error("channel {uid} is already in slot {slot}")]
    AlreadyOpen {
        /// The channel.
        uid: ChannelId,
        /// Its slot.
        slot: u16,
    },
    /// An operation on a channel after its `close`.
    #[error("channel {uid} was closed earlier in the same batch")]
    AlreadyClosed {
        /// The channel.
        uid: ChannelId,
    },
    /// A move of a channel that the same batch serves or moves already, or the other way round: a move is a row of its own (L-30).
    #[error("channel {uid} is moved and served, or moved twice, in the same batch")]
    AlreadyMoved {
        /// The channel.
        uid: ChannelId,
    },
    /// The uid or the key of a channel is zero, which is how an empty slot looks.
    #[error("a channel's uid and key are not zero (slot {slot})")]
    ZeroIdentity {
        /// The slot.
        slot: u16,
    },
    /// A voucher for a slot that is empty.
    #[error("slot {slot} is empty: there is nothing to settle")]
    EmptySlot {
        /// The slot.
        slot: u16,
    },
    /// The voucher is of another channel than the slot.
    #[error("slot {slot} holds channel {expected}, the voucher is of {actual}")]
    WrongChannel {
        /// The slot.
        slot: u16,
        /// The slot's channel.
        expected: ChannelId,
        /// The voucher's channel.
        actual: ChannelId,
    },
    /// The key in the slot is not one that the ledger accepts (V-5), so this book is not the ledger's.
    #[error("the key in slot {slot} is not a valid key")]
    BadKey {
        /// The slot.
        slot: u16,
    },
    /// The signature does not hold with the key in the slot (V-7).
    #[error("the signature of the voucher for slot {slot} does not hold")]
    BadSignature {
        /// The slot.
        slot: u16,
    },
    /// The voucher is older than what was settled.
    #[error("slot {slot} has settled {settled_nanos} nanos, the voucher says {cumulative_nanos}")]
    BelowSettled {
        /// The slot.
        slot: u16,
        /// Settled so far, in nanos.
        settled_nanos: u64,
        /// The voucher's total, in nanos.
        cumulative_nanos: u64,
    },
    /// The new total is more than the deposit (L-13).
    #[error("slot {slot} has a deposit of {deposit_nanos} nanos, {cumulative_nanos} is more")]
    AboveDeposit {
        /// The slot.
        slot: u16,
        /// The deposit, in nanos.
        deposit_nanos: u64,
        /// The new total, in nanos.
        cumulative_nanos: u128,
    },
    /// A deposit would pass 2^64 nanos (L-17).
    #[error("slot {slot}: {deposit_nanos} nanos and {delta_nanos} more do not fit 64 bits")]
    DepositOverflow {
        /// The slot.
        slot: u16,
        /// Nanos so far.
        deposit_nanos: u64,
        /// Nanos to add.
        delta_nanos: u64,
    },
    /// Deltas of another length than the exact one (L-12).
    #[error("expected {expected} bytes of deltas, not {actual}")]
    DeltasLength {
        /// The exact length in bytes.
        expected: usize,
        /// The refused length in bytes.
        actual: usize,
    },
    /// The bytes after the last delta are not zero.
    #[error("the filling after the last delta is not zero")]
    DeltasPadding,
    /// Rows whose slots do not strictly ascend.
    #[error("the row of slot {slot} is not above the one before it")]
    RowsOutOfOrder {
        /// The slot.
        slot: u16,
    },
    /// A row whose fields contradict each other or the book (L-16 … L-18, L-30).
    #[error("the row of slot {slot} is wrong in {field}")]
    BadRow {
        /// The slot.
        slot: u16,
        /// Where.
        field: RowField,
    },
}

/// The part of a row that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowField {
    /// Not touched, a flag that is none of 1, 2, 4, 8, 16, or a move with another flag.
    #[error("its flags")]
    Flags,
    /// Another uid than the slot's.
    #[error("its uid")]
    Uid,
    /// A key without `open` or a move.
    #[error("its key")]
    Key,
    /// A refund without `close`, or another than the balance.
    #[error("its refund")]
    Refund,
    /// `out` with another key, deposit or settled amount than the slot's.
    #[error("what it says the slot holds")]
    Content,
}
