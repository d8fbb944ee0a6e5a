//! What the provider's node submits: settlements and registrations with their proofs.

use alloy::primitives::B256;
use millstream_types::{Amount, BookId, ChannelId, EpochId};

use crate::bindings::ILedger;
use crate::settlements::pack_settlements;
use crate::{Call, ChainError, IntentId, Ledger, Submitter, TxReceipt, convert};

/// A Groth16 proof, eight words of 32 bytes big-endian: A.x, A.y, B.x.c1, B.x.c0, B.y.c1, B.y.c0, C.x, C.y.
pub type ProofWords = [[u8; 32]; 8];

/// The settlement of one book (spec L-13 to L-15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookSettlement {
    /// The book.
    pub book: BookId,
    /// The root that it gets: a field element.
    pub new_root: [u8; 32],
    /// The sum of the deltas, in nanos; below 2^96.
    pub total: Amount,
    /// The commitment C (spec L-9): a field element.
    pub commitment: [u8; 32],
    /// The proof.
    pub proof: ProofWords,
    /// What each slot pays, in nanos, in slot order: exactly as many as the book has slots.
    pub deltas: Vec<u64>,
}

/// The root of a sealed epoch (spec L-21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochRoot {
    /// Its number, from 0 without a gap.
    pub epoch: EpochId,
    /// The root of its billing tree.
    pub root: [u8; 32],
}

/// What happens to one slot in a registration (spec L-16 to L-18, L-30).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRow {
    /// The slot; ascending within a registration.
    pub slot: u16,
    /// 1 touched, 2 open, 4 close, 8 out, 16 in; the others imply 1.
    pub flags: u8,
    /// What the deposit grows by, in nanos; of a move, the deposit.
    pub delta: u64,
    /// What the payer gets back, in nanos; 0 unless closing; of a move, what is settled.
    pub refund: u64,
    /// The channel's uid, 248 bits big-endian.
    pub uid: [u8; 31],
    /// The channel's key when opening or moving, else zero: a field element.
    pub key_x: [u8; 32],
}

/// The change of one book by requests or moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookRegistration {
    /// The book.
    pub book: BookId,
    /// The root that it gets: a field element.
    pub new_root: [u8; 32],
    /// The commitment C (spec L-9): a field element.
    pub commitment: [u8; 32],
    /// The proof.
    pub proof: ProofWords,
    /// The touched slots.
    pub rows: Vec<SlotRow>,
}

/// What a payer asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A new channel under this key with this deposit in nanos.
    Open {
        /// The key's x-coordinate.
        key_x: [u8; 32],
        /// Nanos.
        amount: u64,
    },
    /// So many nanos more.
    TopUp {
        /// Nanos.
        amount: u64,
    },
    /// To close.
    Close,
}

/// A request at the head of the queue, and the row that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedRequest {
    /// The channel.
    pub channel: ChannelId,
    /// What was asked.
    pub asked: Asked,
    /// The index of the registration.
    pub registration: u16,
    /// The index of the row in it.
    pub row: u16,
}

/// The account that settles and registers on one ledger.
#[derive(Clone, Debug)]
pub struct Operator {
    ledger: Ledger,
    submitter: Submitter,
}

impl Operator {
    /// An operator whose account is that of the submitter; the ledger must name it.
    #[must_use]
    pub const fn new(ledger: Ledger, submitter: Submitter) -> Self {
        Self { ledger, submitter }
    }

    /// The ledger.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Settles books in order and anchors epochs, in one transaction. Either list may be empty. `intent` identifies the work to the caller.
    ///
    /// # Errors
    /// As [`pack_settlements`]. Final: `NotOperator`, `RequestOverdue`, `UnknownTier`, `FieldOverflow`, `ProofRejected`, `BatchRejected`,
    /// `EpochGap`; else as [`Submitter::send`].
    pub async fn settle(&self, intent: IntentId, books: &[BookSettlement], epochs: &[EpochRoot]) -> Result<TxReceipt, ChainError> {
        let settlements = pack_settlements(books, |tier| self.ledger.slots(tier))?.into();
        let epochs = epochs.iter().map(|anchor| ILedger::EpochAnchor { epoch: anchor.epoch.number(), root: B256::from(anchor.root) });
        let call = ILedger::settleCall { settlements, epochs: epochs.collect() };
        self.submitter.send(Call::encode("settle", self.ledger.address(), &call).with_intent(intent)).await
    }

    /// Serves the first `requests.len()` requests of the queue, or moves channels when there are none (spec L-31). `intent` identifies the
    /// work to the caller.
    ///
    /// # Errors
    /// Final: `NotOperator`, `RequestMismatch`, `QueueExhausted`, `RowMismatch`, `RowsOutOfOrder`, `UnknownTier`, `FieldOverflow`,
    /// `ProofRejected`; of moves also `RequestOverdue`, `ChannelNotIncluded`, `MoveUnpaired`, `MoveMismatch`; else as
    /// [`Submitter::send`].
    pub async fn register(
        &self,
        intent: IntentId,
        books: &[BookRegistration],
        requests: &[ServedRequest],
    ) -> Result<TxReceipt, ChainError> {
        let call = ILedger::registerCall {
            registrations: books.iter().map(registration).collect(),
            requests: requests.iter().map(request).collect(),
        };
        self.submitter.send(Call::encode("register", self.ledger.address(), &call).with_intent(intent)).await
    }
}

fn registration(book: &BookRegistration) -> ILedger::Registration {
    ILedger::Registration {
        book: book.book.to_u32(),
        newRoot: convert::word(book.new_root),
        commitment: convert::word(book.commitment),
        proof: book.proof.map(convert::word),
        rows: book.rows.iter().map(row).collect(),
    }
}

fn row(row: &SlotRow) -> ILedger::Row {
    ILedger::Row {
        slot: row.slot,
        flags: row.flags,
        deltaNanos: row.delta,
        refundNanos: row.refund,
        uid: convert::uid_from_bytes(&row.uid),
        keyX: convert::word(row.key_x),
    }
}

fn request(request: &ServedRequest) -> ILedger::Request {
    let (kind, key_x, amount) = match request.asked {
        Asked::Open { key_x, amount } => (ILedger::Kind::Open, key_x, amount),
        Asked::TopUp { amount } => (ILedger::Kind::TopUp, [0; 32], amount),
        Asked::Close => (ILedger::Kind::Close, [0; 32], 0),
    };
    ILedger::Request {
        kind,
        uid: convert::uid(request.channel),
        keyX: convert::word(key_x),
        amountNanos: amount,
        registration: request.registration,
        row: request.row,
    }
}
