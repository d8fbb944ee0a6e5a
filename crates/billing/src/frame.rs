//! The tree over the lines of one frame.

use std::sync::LazyLock;

use millstream_lanes::sha256::{DIGEST_BYTES, hash_records};
use millstream_types::{AmountError, Hash256};
use rs_merkle::{Hasher, MerkleTree};

use crate::line::LEAF;
use crate::{GROUP, LINE_BYTES, LINE_WITH_DIGEST_BYTES, Line, hash_record, record, sha256};

/// Lines in a frame, at most (B-2).
pub const FRAME_LINES_MAX: usize = 1_024;

/// Levels above the leaves of the largest frame.
const LEVELS: usize = 10;

/// The first byte of what a node hashes, before its two children.
const NODE: u8 = 0x01;
const PAIR_BYTES: usize = 2 * DIGEST_BYTES;

/// `EMPTY[n]` is the root of `2^n` empty leaves.
static EMPTY: LazyLock<[Hash256; LEVELS + 1]> = LazyLock::new(|| {
    let mut roots = [sha256(&[&[0x04]]); LEVELS + 1];
    for level in 1..=LEVELS {
        roots[level] = node(&roots[level - 1], &roots[level - 1]);
    }
    roots
});

/// Why lines do not make a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinesError {
    /// None, or too many.
    #[error("a frame holds 1 to {FRAME_LINES_MAX} lines, not {count}")]
    Count {
        /// Lines given.
        count: usize,
    },
    /// An amount of more than 64 bits.
    #[error("line {index} cannot be billed")]
    Amount {
        /// Position in the frame.
        index: usize,
        /// What is wrong with it.
        source: AmountError,
    },
    /// No such line.
    #[error("line {index} of a frame of {count}")]
    Index {
        /// The position asked for.
        index: usize,
        /// Lines in the frame.
        count: usize,
    },
}

/// `H(0x01 ‖ left ‖ right)`.
pub(crate) fn node(left: &Hash256, right: &Hash256) -> Hash256 {
    hash_record(NODE, &record::<PAIR_BYTES>(&[left.as_bytes(), right.as_bytes()]))
}

/// The root over lines in their wire form (B-3), `amount ‖ reference [‖ digest]`: what a node computes for each frame.
///
/// `BYTES` is [`LINE_BYTES`] or [`LINE_WITH_DIGEST_BYTES`].
///
/// # Errors
/// [`LinesError::Count`].
pub fn raw_frame_root<const BYTES: usize>(lines: &[[u8; BYTES]]) -> Result<Hash256, LinesError> {
    with_leaves(lines.len(), |leaves| {
        hash_records(LEAF, lines, leaves);
        Ok(())
    })
}

/// The root over lines (B-3): what a payer computes for each frame.
///
/// # Errors
/// [`LinesError`].
pub fn frame_root(lines: &[Line]) -> Result<Hash256, LinesError> {
    with_leaves(lines.len(), |leaves| {
        let mut index = 0;
        // A frame is one run (B-2): this is for whoever asks for the root of something else.
        for run in lines.chunk_by(|line, next| line.digest.is_some() == next.digest.is_some()) {
            let (before, with_run) = (index, &mut leaves[index..]);
            index = before.saturating_add(run.len());
            match run.first().and_then(|line| line.digest) {
                None => leaves_of::<LINE_BYTES>(run, before, with_run)?,
                Some(_) => leaves_of::<LINE_WITH_DIGEST_BYTES>(run, before, with_run)?,
            }
        }
        Ok(())
    })
}

/// The leaves of lines of one kind, the first of which is line `before` of its frame.
fn leaves_of<const BYTES: usize>(lines: &[Line], before: usize, leaves: &mut [[u8; DIGEST_BYTES]]) -> Result<(), LinesError> {
    let mut raw = [[0; BYTES]; GROUP];
    let mut index = before;
    for (lines, leaves) in lines.chunks(GROUP).zip(leaves.chunks_mut(GROUP)) {
        for (line, raw) in lines.iter().zip(&mut raw) {
            *raw = line.raw().map_err(|source| LinesError::Amount { index, source })?;
            index = index.saturating_add(1);
        }
        hash_records(LEAF, &raw[..lines.len()], &mut leaves[..lines.len()]);
    }
    Ok(())
}

/// The root over `count` leaves that `fill` writes. They stand on the stack, in a place that is not much larger than they need.
fn with_leaves(count: usize, fill: impl FnOnce(&mut [[u8; DIGEST_BYTES]]) -> Result<(), LinesError>) -> Result<Hash256, LinesError> {
    fn within<const MOST: usize>(
        count: usize,
        fill: impl FnOnce(&mut [[u8; DIGEST_BYTES]]) -> Result<(), LinesError>,
    ) -> Result<Hash256, LinesError> {
        let mut level = [[0; DIGEST_BYTES]; MOST];
        fill(&mut level[..count])?;
        Ok(folded(&mut level, count))
    }
    match count {
        1..=8 => within::<8>(count, fill),
        9..=64 => within::<64>(count, fill),
        65..=256 => within::<256>(count, fill),
        257..=FRAME_LINES_MAX => within::<FRAME_LINES_MAX>(count, fill),
        _ => Err(LinesError::Count { count }),
    }
}

/// The root over the first `count` leaves, not 0, of a place with room for a power of two of them. Each level is written over the one below it.
#[allow(clippy::arithmetic_side_effects, reason = "the count is at most 1,024")]
fn folded(level: &mut [[u8; DIGEST_BYTES]], mut count: usize) -> Hash256 {
    for empty in &EMPTY[..depth(count)] {
        if count % 2 == 1 {
            level[count] = *empty.as_bytes();
            count += 1;
        }
        count /= 2;
        for start in (0..count).step_by(GROUP) {
            let end = count.min(start + GROUP);
            let mut parents = [[0; DIGEST_BYTES]; GROUP];
            let parents = &mut parents[..end - start];
            hash_records(NODE, level[2 * start..2 * end].as_flattened().as_chunks::<PAIR_BYTES>().0, parents);
            level[start..end].copy_from_slice(parents);
        }
    }
    Hash256::from_bytes(level[0])
}

/// Levels above `count` leaves once they are filled up to a power of two.
#[allow(clippy::as_conversions, reason = "at most 64, in a const")]
pub(crate) const fn depth(count: usize) -> usize {
    count.next_power_of_two().trailing_zeros() as usize
}

#[derive(Clone)]
struct LineHasher;

impl Hasher for LineHasher {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        *sha256(&[data]).as_bytes()
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        // Trees are perfect, so the only node without a sibling is the root, which rs_merkle lifts by one layer.
        right.map_or(*left, |right| *node(&Hash256::from_bytes(*left), &Hash256::from_bytes(*right)).as_bytes())
    }
}

/// The whole tree of a frame, for proofs.
pub struct FrameTree {
    tree: MerkleTree<LineHasher>,
    count: usize,
}

impl FrameTree {
    /// The tree over `lines`.
    ///
    /// # Errors
    /// [`LinesError`].
    pub fn new(lines: &[Line]) -> Result<Self, LinesError> {
        let count = lines.len();
        if count == 0 || count > FRAME_LINES_MAX {
            return Err(LinesError::Count { count });
        }
        let mut leaves = Vec::with_capacity(count.next_power_of_two());
        for (index, line) in lines.iter().enumerate() {
            leaves.push(*line.leaf().map_err(|source| LinesError::Amount { index, source })?.as_bytes());
        }
        leaves.resize(count.next_power_of_two(), *EMPTY[0].as_bytes());
        Ok(Self { tree: MerkleTree::from_leaves(&leaves), count })
    }

    /// The root (B-3).
    #[must_use]
    pub fn root(&self) -> Hash256 {
        Hash256::from_bytes(self.tree.root().unwrap_or_default())
    }

    /// The siblings of line `index`, from the leaf up.
    ///
    /// # Errors
    /// [`LinesError::Index`].
    pub fn path(&self, index: usize) -> Result<Vec<Hash256>, LinesError> {
        if index >= self.count {
            return Err(LinesError::Index { index, count: self.count });
        }
        Ok(self.tree.proof(&[index]).proof_hashes().iter().map(|hash| Hash256::from_bytes(*hash)).collect())
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::{Amount, Reference};

    use super::*;

    fn lines(count: usize) -> Vec<Line> {
        (0..count)
            .map(|index| {
                let number = u8::try_from(index % 251).expect("small");
                Line { amount: Amount::from_nanos(1_000), reference: Reference::from_bytes([number; 16]), digest: None }
            })
            .collect()
    }

    #[test]
    fn the_root_is_that_of_the_whole_tree_however_it_is_computed() {
        for count in (1..70).chain([127, 128, 129, 255, 256, 257, 1_000, 1_023, 1_024]) {
            let lines = lines(count);
            let tree = FrameTree::new(&lines).expect("within the limits");
            assert_eq!(frame_root(&lines), Ok(tree.root()), "{count} lines");
            let raw: Vec<[u8; LINE_BYTES]> = lines.iter().map(|line| line.raw().expect("64 bits")).collect();
            assert_eq!(raw_frame_root(&raw), Ok(tree.root()), "{count} lines");
            assert_eq!(tree.path(count - 1).expect("in range").len(), depth(count), "{count} lines");
        }
    }

    #[test]
    fn lines_with_digests_have_the_same_root_however_it_is_computed() {
        for count in [1, 2, 15, 16, 17, 40, 64, 65, 578] {
            let digested = |line: Line| Line { digest: Some(Hash256::from_bytes([7; 32])), ..line };
            let mut lines: Vec<Line> = lines(count).into_iter().map(digested).collect();
            let raw: Vec<[u8; LINE_WITH_DIGEST_BYTES]> = lines.iter().map(|line| line.raw().expect("64 bits")).collect();
            let root = Ok(FrameTree::new(&lines).expect("within the limits").root());
            assert_eq!(frame_root(&lines), root, "{count} lines");
            assert_eq!(raw_frame_root(&raw), root, "{count} lines");
            // Not a frame, but a tree all the same.
            lines[count / 2].digest = None;
            assert_eq!(frame_root(&lines), Ok(FrameTree::new(&lines).expect("within the limits").root()), "{count} lines");
        }
    }

    #[test]
    fn a_wide_amount_is_named_by_its_line() {
        for index in [0, 15, 16, 39] {
            let mut lines = lines(40);
            lines[index].amount = Amount::from_units(1 << 64);
            let error = frame_root(&lines).expect_err("more than 64 bits");
            assert!(matches!(error, LinesError::Amount { index: named, .. } if named == index), "{error}");
            assert_eq!(FrameTree::new(&lines).err(), Some(error));
        }
    }

    #[test]
    fn no_line_is_promoted_and_padding_is_not_a_line() {
        let three = lines(3);
        let leaf = |index: usize| three[index].leaf().expect("64 bits");
        let expected = node(&node(&leaf(0), &leaf(1)), &node(&leaf(2), &sha256(&[&[0x04]])));
        assert_eq!(FrameTree::new(&three).expect("three").root(), expected);
        let mut doubled = three.clone();
        doubled.push(three[2]);
        assert_ne!(FrameTree::new(&doubled).expect("four").root(), expected);
    }

    #[test]
    fn a_frame_has_1_to_1024_lines() {
        assert!(FrameTree::new(&lines(1_025)).is_err());
        assert_eq!(frame_root(&lines(1_025)), Err(LinesError::Count { count: 1_025 }));
        assert_eq!(frame_root(&[]), Err(LinesError::Count { count: 0 }));
        assert_eq!(raw_frame_root::<LINE_BYTES>(&[]), Err(LinesError::Count { count: 0 }));
        assert!(FrameTree::new(&[]).is_err());
        assert!(FrameTree::new(&lines(3)).expect("three").path(3).is_err());
    }
}
