//! What goes into the engine and what comes out of it.

use bytes::Bytes;
use millstream_billing::{EpochHeader, FrameLeaf};
use millstream_types::{Address, Amount, BlockNumber, BookId, ChannelId, CumulativeAmount, EpochId, Hash256, Timestamp};
use millstream_voucher::{SignedVoucher, VerifiedVoucher};

use crate::escrow::{EscrowAnswer, EscrowFact, EscrowInput};
use crate::{ChannelStatus, IndexRecord, Key, Record, Rejection, Span};

/// The caller's name for who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId(pub u64);

/// A frame whose voucher signature holds and whose root was computed from its lines.
#[derive(Clone, Debug)]
pub struct FrameInput {
    /// Who waits.
    pub reply: ReplyId,
    /// The voucher over the frame.
    pub voucher: VerifiedVoucher,
    /// The root over the lines (spec B-2).
    pub root: Hash256,
    /// Lines, 1 to 1,024.
    pub lines: u32,
    /// What the lines add up to, in nanos.
    pub amount: Amount,
    /// The frame as it came, kept so that any line of it can be shown.
    pub bytes: Bytes,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A payer asks for the state of its channel.
    Attach {
        /// Who waits.
        reply: ReplyId,
        /// The channel.
        channel: ChannelId,
    },
    /// A payer pays.
    Frame(FrameInput),
    /// The chain confirmed something.
    Chain(ChainFact),
    /// Every fact up to here was given.
    ChainSeen(ChainCursor),
    /// Time passed: an epoch may be due.
    Tick {
        /// The moment of the [`Effect::WakeAt`] that this answers.
        asked: Timestamp,
        /// The time of the chain's newest block. What cannot be taken back is not done on this machine's clock alone.
        chain_time: Timestamp,
    },
    /// The open epoch is to be cut now, if it has a frame.
    CutEpoch,
    /// A part of the index of an epoch that was cut, to be stored. All parts come before the epoch is sealed; a part may come again.
    EpochIndexed {
        /// The epoch.
        epoch: EpochId,
        /// The records.
        records: Vec<IndexRecord>,
    },
    /// The tree of an epoch that was cut has been built, and its index is stored.
    EpochSealed(EpochHeader),
    /// Something happened to an escrow.
    Escrow {
        /// Who waits, if anybody does.
        reply: Option<ReplyId>,
        /// What happened.
        input: Box<EscrowInput>,
    },
    /// The chain confirmed something about an escrow.
    EscrowFact(EscrowFact),
}

/// How far the chain was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainCursor {
    /// The last block whose logs were read.
    pub block: BlockNumber,
    /// What the reader of the chain needs to carry on and to notice a reorganisation. The engine only keeps it.
    pub state: Vec<u8>,
}

/// What the ledger's logs say, at the confirmation depth and in their order. Amounts in nanos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainFact {
    /// A channel was opened.
    Opened {
        /// The channel.
        channel: ChannelId,
        /// Who opened it.
        payer: Address,
        /// The x-coordinate of its voucher key.
        key_x: [u8; 32],
        /// The first deposit.
        deposit: Amount,
        /// Position of the request in the queue.
        request: u64,
        /// The block's time.
        at: Timestamp,
    },
    /// A deposit was raised.
    ToppedUp {
        /// The channel.
        channel: ChannelId,
        /// By how much.
        amount: Amount,
        /// Position of the request in the queue.
        request: u64,
        /// The block's time.
        at: Timestamp,
    },
    /// The payer asked to close.
    CloseRequested {
        /// The channel.
        channel: ChannelId,
        /// Position of the request in the queue.
        request: u64,
        /// The block's time.
        at: Timestamp,
    },
    /// A channel got its slot.
    Included {
        /// The channel.
        channel: ChannelId,
        /// The book.
        book: BookId,
        /// The slot.
        slot: u16,
    },
    /// A channel lost its slot: it gets another, and is the same there.
    MovedOut {
        /// The channel.
        channel: ChannelId,
        /// The book that it was in.
        book: BookId,
    },
    /// A channel that had lost its slot got another.
    MovedIn {
        /// The channel.
        channel: ChannelId,
        /// The book.
        book: BookId,
        /// The slot.
        slot: u16,
    },
    /// A channel was closed and its payer credited.
    Closed {
        /// The channel.
        channel: ChannelId,
        /// What the payer got back.
        refund: Amount,
    },
    /// Requests below this position are served. Comes after the `Included` and `Closed` of the same transaction.
    QueueServed {
        /// Position of the oldest unserved request.
        head: u64,
    },
    /// A book was settled.
    Settled {
        /// The book.
        book: BookId,
        /// What each slot paid, by slot.
        deltas: Vec<Amount>,
    },
    /// An epoch root is on the chain.
    EpochAnchored {
        /// The epoch.
        epoch: EpochId,
        /// Its root.
        root: Hash256,
    },
    /// The chain was reorganised below the confirmation depth. Everything it had said is taken back and will be told again from the
    /// ledger's first block; until then every channel is frozen. What payers signed stays.
    Reset,
}

/// What the caller must do, in order; see the crate's documentation for what waits for what.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write a record.
    Put(Record),
    /// Remove a record.
    Delete(Key),
    /// Write an accepted frame. Its leaf comes with those of the tick.
    PutFrame {
        /// The leaf.
        leaf: FrameLeaf,
        /// The epoch it is billed in.
        epoch: EpochId,
        /// Its position there.
        index: u32,
        /// The frame as it came.
        bytes: Bytes,
    },
    /// Tell a payer.
    Answer {
        /// Who waits.
        reply: ReplyId,
        /// What to tell.
        answer: Answer,
    },
    /// Delete everything in [`Key::BILL_TABLES`] of the epochs up to and with this one: the range [`Key::through`] of each.
    DeleteThrough(EpochId),
    /// What [`Effect::DeleteThrough`] named is deleted, durably: its space may be given back.
    ReclaimThrough(EpochId),
    /// An epoch was cut: build its tree and its index from the stored leaves and come back with [`Input::EpochIndexed`] and then
    /// [`Input::EpochSealed`].
    SealEpoch {
        /// The epoch.
        epoch: EpochId,
        /// Frames in it.
        frames: u32,
    },
    /// Send [`Input::Tick`] at this moment.
    WakeAt(Timestamp),
    /// Tell who asked about an escrow.
    EscrowAnswer {
        /// Who waits.
        reply: ReplyId,
        /// What to tell.
        answer: EscrowAnswer,
    },
    /// Delete the outcomes of the generations before this one: the range [`Key::outcomes_before`].
    ForgetOutcomesBefore(u32),
    /// Delete the tallies of the spans of this kind before this one: the range [`Key::tallies_before`].
    ForgetTalliesBefore(Span),
}

/// The answer to an [`Input::Attach`] or [`Input::Frame`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The channel's state.
    Snapshot(Box<Snapshot>),
    /// The frame is accepted.
    Ack(Ack),
    /// The input changed nothing.
    Reject {
        /// Why.
        rejection: Rejection,
        /// `lines_total` of the judged frame, 0 for an attach.
        lines_total: u64,
        /// The channel as it is, if there is one.
        snapshot: Option<Box<Snapshot>>,
    },
}

/// An accepted frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Lines of the channel up to and with the frame.
    pub lines_total: u64,
    /// The channel's cumulative amount.
    pub cumulative: CumulativeAmount,
    /// The epoch that the frame is billed in.
    pub epoch: EpochId,
}

/// A channel's state as its payer may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The channel.
    pub channel: ChannelId,
    /// The x-coordinate of its voucher key.
    pub key_x: [u8; 32],
    /// Whether it takes payments.
    pub status: ChannelStatus,
    /// The confirmed deposit.
    pub deposit: Amount,
    /// The best voucher.
    pub accepted: Option<SignedVoucher>,
    /// What was captured.
    pub charged: CumulativeAmount,
    /// What was taken on-chain.
    pub settled: CumulativeAmount,
}
