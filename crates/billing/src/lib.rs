//! Lines, frames, bill heads, epoch billing trees and inclusion proofs.
//!
//! The normative text is `docs/spec/billing-tree.md`; `B-n` below are its requirements. This crate knows amounts and hashes;
//! it knows no circuit, no storage and no signature.
//!
//! **Invariants.** Every tree is perfect: leaves are followed by empty leaves up to a power of two, and no node is promoted. A leaf, a node
//! and an empty leaf hash inputs with different first bytes. Sums are checked wherever they come from outside.
//!
//! Whole levels of a tree are hashed at once, by `millstream-lanes`: [`frame_root`], [`raw_frame_root`] and [`EpochHeader::of`]. Trees that
//! are there for their paths are of `rs_merkle`, and tests hold one against the other.

#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::wildcard_enum_match_arm)]

mod epoch;
mod evidence;
mod frame;
mod head;
mod hex_bytes;
mod journal;
mod line;
mod proof;
mod receipt;
mod statement;

pub use epoch::{EPOCH_FRAMES_MAX, EpochError, EpochHeader, EpochTree, FrameLeaf, SumNode};
pub use evidence::{Delivery, EVIDENCE_TEXT_BYTES_MAX, Evidence, TokenSource, Units};
pub use frame::{FRAME_LINES_MAX, FrameTree, LinesError, frame_root, raw_frame_root};
pub use head::{genesis_head, next_head};
pub use journal::{BATCH_ENTRIES_MAX, Batch, BatchKind, BatchTree, DurabilityLevel, SignedBatch, batch_root, genesis_link};
pub use line::{LINE_BYTES, LINE_WITH_DIGEST_BYTES, Line};
pub use proof::{LineProof, ProofError};
pub use receipt::{ChargeCause, ChargeEntry, ChargeSource, Entry, Receipt, ReceiptError, ReceiptLine, Recover};
pub use statement::{
    Account, AccountOf, EpochPlace, Finding, JudgeVoucher, Row, RowName, STATEMENT_ROWS_MAX, StatedRoot, StatedVoucher, Statement,
};

use millstream_lanes::sha256::{DIGEST_BYTES, hash_records};
use millstream_types::Hash256;
use sha2::{Digest, Sha256};

/// Hashes that are computed together, at most: as many as the widest unit takes.
const GROUP: usize = 16;

/// SHA-256 over the concatenation of `parts`.
fn sha256(parts: &[&[u8]]) -> Hash256 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    Hash256::from_bytes(hasher.finalize().into())
}

/// SHA-256 of `prefix ‖ record`.
fn hash_record<const BYTES: usize>(prefix: u8, record: &[u8; BYTES]) -> Hash256 {
    let mut digest = [0; DIGEST_BYTES];
    hash_records(prefix, core::slice::from_ref(record), core::slice::from_mut(&mut digest));
    Hash256::from_bytes(digest)
}

/// `parts`, whose lengths add up to `BYTES`, one after the other.
fn record<const BYTES: usize>(parts: &[&[u8]]) -> [u8; BYTES] {
    let mut record = [0; BYTES];
    let mut rest = record.as_mut_slice();
    for part in parts {
        let (place, later) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = later;
    }
    debug_assert!(rest.is_empty(), "the parts of a record are as long as it");
    record
}
