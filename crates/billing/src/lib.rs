//! Lines, frames, bill heads, epoch billing trees and inclusion proofs.
//!
//! The normative text is `docs/spec/billing-tree.md`; `B-n` below are its requirements. This crate knows amounts and hashes;
//! it knows no circuit, no storage and no signature.
//!
//! **Invariants.** Every tree is perfect: leaves are followed by empty leaves up to a power of two, and no node is promoted. A leaf, a node
//! and an empty leaf hash inputs with different first bytes. Sums are checked wherever they come from outside.

#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::wildcard_enum_match_arm)]

mod epoch;
mod frame;
mod head;
mod line;
mod proof;

pub use epoch::{EPOCH_FRAMES_MAX, EpochError, EpochHeader, EpochTree, FrameLeaf, SumNode};
pub use frame::{FRAME_LINES_MAX, FrameRoot, FrameTree, LinesError};
pub use head::{genesis_head, next_head};
pub use line::{LINE_BYTES, LINE_WITH_DIGEST_BYTES, Line};
pub use proof::{LineProof, ProofError};

use millstream_types::Hash256;
use sha2::{Digest, Sha256};

/// SHA-256 over the concatenation of `parts`.
fn sha256(parts: &[&[u8]]) -> Hash256 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    Hash256::from_bytes(hasher.finalize().into())
}
