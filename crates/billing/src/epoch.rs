//! The Merkle sum tree over the frames of one epoch.

use std::sync::LazyLock;

use millstream_lanes::sha256::{DIGEST_BYTES, hash_records};
use millstream_types::{Amount, BillHead, ChannelId, EpochId, Hash256, LedgerId};
use rs_merkle::{Hasher, MerkleTree};

use crate::frame::depth;
use crate::{GROUP, hash_record, record, sha256};

/// Frames in an epoch, at most.
pub const EPOCH_FRAMES_MAX: usize = 1 << 20;

/// The first byte of what a leaf hashes.
const LEAF: u8 = 0x10;
const LEAF_BYTES: usize = 128;
/// The first byte of what a node hashes, before its two children.
const NODE: u8 = 0x11;
/// A hash and a sum.
const NODE_BYTES: usize = 48;
const PAIR_BYTES: usize = 2 * NODE_BYTES;

/// Levels above the leaves of the largest epoch.
const LEVELS: usize = 20;

/// An epoch is hashed in subtrees of so many levels, which stay in the processor's cache.
const SUBTREE_LEVELS: usize = 10;
const SUBTREE_FRAMES: usize = 1 << SUBTREE_LEVELS;

/// An accepted frame as a leaf of its epoch (B-5). Totals in nanos and lines, before and after the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FrameLeaf {
    /// The channel that paid.
    pub channel: ChannelId,
    /// Lines of the channel before this frame.
    pub lines_before: u64,
    /// Lines of the channel with this frame.
    pub lines_after: u64,
    /// Nanos.
    #[serde(with = "decimal")]
    pub cumulative_before: u64,
    /// Nanos.
    #[serde(with = "decimal")]
    pub cumulative_after: u64,
    /// The channel's bill head with this frame.
    pub bill_head: BillHead,
    /// The root over the frame's lines.
    pub frame_root: Hash256,
}

/// A 64-bit amount as a decimal string, as all amounts are in JSON.
mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(amount: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(amount)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A node of the epoch tree: a hash that commits to a sum in nanos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SumNode {
    /// The hash (B-5).
    pub hash: Hash256,
    /// What the frames below paid, in nanos.
    pub sum: Amount,
}

/// Why frames do not make an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// None, or too many.
    #[error("an epoch holds 1 to {EPOCH_FRAMES_MAX} frames, not {count}")]
    Count {
        /// Frames given.
        count: usize,
    },
    /// A frame whose totals go down.
    #[error("frame {index} lowers the cumulative amount")]
    Totals {
        /// Position in the epoch.
        index: usize,
    },
    /// No such frame.
    #[error("frame {index} of an epoch of {count}")]
    Index {
        /// The position asked for.
        index: usize,
        /// Frames in the epoch.
        count: usize,
    },
}

/// What an epoch root commits to (B-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochHeader {
    /// The ledger whose node sealed the epoch.
    pub ledger: LedgerId,
    /// Its number.
    pub epoch: EpochId,
    /// Frames in it.
    pub leaf_count: u64,
    /// The top of its tree.
    pub top: SumNode,
}

impl EpochHeader {
    /// The header over the frames of an epoch, in durable order, without keeping the tree: what seals an epoch.
    ///
    /// # Errors
    /// [`EpochError`].
    pub fn of(ledger: LedgerId, epoch: EpochId, frames: &[FrameLeaf]) -> Result<Self, EpochError> {
        let leaf_count = checked_count(frames)?;
        Ok(Self { ledger, epoch, leaf_count, top: top_over(frames)? })
    }

    /// The root that is anchored on-chain.
    #[must_use]
    pub fn root(&self) -> Hash256 {
        sha256(&[
            &[0x13],
            &self.ledger.chain.get().to_be_bytes(),
            self.ledger.contract.as_bytes(),
            &self.epoch.number().to_be_bytes(),
            &self.leaf_count.to_be_bytes(),
            &self.top.sum.units().to_be_bytes(),
            self.top.hash.as_bytes(),
        ])
    }
}

impl FrameLeaf {
    /// The node of this leaf (B-5), or `None` when the cumulative amount goes down.
    #[must_use]
    pub fn node(&self) -> Option<SumNode> {
        Some(SumNode { hash: hash_record(LEAF, &self.record()), sum: self.sum()? })
    }

    fn sum(&self) -> Option<Amount> {
        self.cumulative_after.checked_sub(self.cumulative_before).map(Amount::from_nanos)
    }

    /// What the hash is over.
    fn record(&self) -> [u8; LEAF_BYTES] {
        record(&[
            self.channel.as_bytes(),
            &self.lines_before.to_be_bytes(),
            &self.lines_after.to_be_bytes(),
            &self.cumulative_before.to_be_bytes(),
            &self.cumulative_after.to_be_bytes(),
            self.bill_head.as_bytes(),
            self.frame_root.as_bytes(),
        ])
    }
}

impl SumNode {
    /// The node above two others, or `None` when the sum does not fit.
    #[must_use]
    pub fn parent(left: &Self, right: &Self) -> Option<Self> {
        let sum = left.sum.checked_add(right.sum).ok()?;
        Some(Self { hash: hash_record(NODE, &record::<PAIR_BYTES>(&[&left.to_bytes(), &right.to_bytes()])), sum })
    }

    fn to_bytes(self) -> [u8; NODE_BYTES] {
        let mut bytes = [0; NODE_BYTES];
        bytes[..DIGEST_BYTES].copy_from_slice(self.hash.as_bytes());
        bytes[DIGEST_BYTES..].copy_from_slice(&self.sum.units().to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; NODE_BYTES]) -> Self {
        let mut hash = [0; DIGEST_BYTES];
        hash.copy_from_slice(&bytes[..DIGEST_BYTES]);
        Self { hash: Hash256::from_bytes(hash), sum: Amount::from_units(Self::sum_of(bytes)) }
    }

    /// The sum in the bytes of a node, in nanos.
    fn sum_of(bytes: &[u8; NODE_BYTES]) -> u128 {
        let mut sum = [0; 16];
        sum.copy_from_slice(&bytes[DIGEST_BYTES..]);
        u128::from_be_bytes(sum)
    }
}

/// `EMPTY[n]` is the top of `2^n` empty leaves.
static EMPTY: LazyLock<[SumNode; LEVELS + 1]> = LazyLock::new(|| {
    let mut tops = [SumNode { hash: sha256(&[&[0x12]]), sum: Amount::ZERO }; LEVELS + 1];
    for level in 1..=LEVELS {
        // Nothing and nothing is nothing.
        tops[level] = SumNode::parent(&tops[level - 1], &tops[level - 1]).unwrap_or(tops[level]);
    }
    tops
});

/// Appends the leaves of frames, `hash ‖ sum` each. The first frame is frame `before` of its epoch.
fn push_leaves(frames: &[FrameLeaf], before: usize, nodes: &mut Vec<[u8; NODE_BYTES]>) -> Result<(), EpochError> {
    let (mut records, mut hashes) = ([[0; LEAF_BYTES]; GROUP], [[0; DIGEST_BYTES]; GROUP]);
    let mut index = before;
    for group in frames.chunks(GROUP) {
        for (frame, record) in group.iter().zip(&mut records) {
            *record = frame.record();
        }
        hash_records(LEAF, &records[..group.len()], &mut hashes[..group.len()]);
        for (frame, hash) in group.iter().zip(hashes) {
            let sum = frame.sum().ok_or(EpochError::Totals { index })?;
            nodes.push(SumNode { hash: Hash256::from_bytes(hash), sum }.to_bytes());
            index = index.saturating_add(1);
        }
    }
    Ok(())
}

/// The hashes of frames as leaves, or `None` when the totals of one go down.
pub(crate) fn leaf_hashes(frames: &[FrameLeaf]) -> Option<Vec<[u8; DIGEST_BYTES]>> {
    let mut nodes = Vec::with_capacity(frames.len());
    push_leaves(frames, 0, &mut nodes).ok()?;
    nodes.iter().map(|node| node.first_chunk().copied()).collect()
}

/// Replaces a level by the one above it, once for each of `empties`, the empty subtrees of those levels.
#[allow(clippy::arithmetic_side_effects, reason = "there are at most 2^20 leaves")]
fn raise(level: &mut Vec<[u8; NODE_BYTES]>, empties: &[SumNode]) {
    let mut hashes = [[0; DIGEST_BYTES]; GROUP];
    for empty in empties {
        if level.len() % 2 == 1 {
            level.push(empty.to_bytes());
        }
        let count = level.len() / 2;
        for start in (0..count).step_by(GROUP) {
            let end = count.min(start + GROUP);
            hash_records(NODE, level[2 * start..2 * end].as_flattened().as_chunks::<PAIR_BYTES>().0, &mut hashes[..end - start]);
            for (index, hash) in (start..end).zip(hashes) {
                // 2^20 sums of 64 bits fit 84 bits.
                let sum = SumNode::sum_of(&level[2 * index]).saturating_add(SumNode::sum_of(&level[2 * index + 1]));
                level[index] = SumNode { hash: Hash256::from_bytes(hash), sum: Amount::from_units(sum) }.to_bytes();
            }
        }
        level.truncate(count);
    }
}

/// The top over the frames, of which there is one at least.
fn top_over(frames: &[FrameLeaf]) -> Result<SumNode, EpochError> {
    let depth = depth(frames.len());
    let (below, above) = EMPTY[..depth].split_at(depth.min(SUBTREE_LEVELS));
    let mut tops = Vec::with_capacity(frames.len().div_ceil(SUBTREE_FRAMES).next_power_of_two());
    let mut subtree = Vec::with_capacity(frames.len().next_power_of_two().min(SUBTREE_FRAMES));
    for chunk in frames.chunks(SUBTREE_FRAMES) {
        push_leaves(chunk, tops.len().saturating_mul(SUBTREE_FRAMES), &mut subtree)?;
        raise(&mut subtree, below);
        tops.append(&mut subtree);
    }
    raise(&mut tops, above);
    Ok(SumNode::from_bytes(&tops[0]))
}

/// The 48 bytes `hash ‖ sum`: rs_merkle asks for conversions from and to vectors that arrays of this length have.
#[derive(Clone)]
struct SumHasher;

impl Hasher for SumHasher {
    type Hash = [u8; NODE_BYTES];

    fn hash(data: &[u8]) -> [u8; NODE_BYTES] {
        SumNode { hash: sha256(&[data]), sum: Amount::ZERO }.to_bytes()
    }

    fn concat_and_hash(left: &[u8; NODE_BYTES], right: Option<&[u8; NODE_BYTES]>) -> [u8; NODE_BYTES] {
        // Trees are perfect, so the only node without a sibling is the root, which rs_merkle lifts by one layer.
        let Some(right) = right else { return *left };
        // At most 2^20 leaves of 64 bits each: the sum fits 84 bits.
        SumNode::parent(&SumNode::from_bytes(left), &SumNode::from_bytes(right)).map_or([0; NODE_BYTES], SumNode::to_bytes)
    }
}

fn checked_count(frames: &[FrameLeaf]) -> Result<u64, EpochError> {
    let count = frames.len();
    u64::try_from(count).ok().filter(|_| (1..=EPOCH_FRAMES_MAX).contains(&count)).ok_or(EpochError::Count { count })
}

/// The tree of a sealed epoch, for paths. [`EpochHeader::of`] is the cheaper way to its root.
pub struct EpochTree {
    tree: MerkleTree<SumHasher>,
    header: EpochHeader,
}

impl EpochTree {
    /// The tree over the frames of an epoch, in durable order.
    ///
    /// # Errors
    /// [`EpochError`].
    pub fn new(ledger: LedgerId, epoch: EpochId, frames: &[FrameLeaf]) -> Result<Self, EpochError> {
        let count = checked_count(frames)?;
        let mut leaves = Vec::with_capacity(frames.len().next_power_of_two());
        push_leaves(frames, 0, &mut leaves)?;
        leaves.resize(frames.len().next_power_of_two(), EMPTY[0].to_bytes());
        let tree = MerkleTree::<SumHasher>::from_leaves(&leaves);
        let top = SumNode::from_bytes(&tree.root().unwrap_or([0; NODE_BYTES]));
        Ok(Self { tree, header: EpochHeader { ledger, epoch, leaf_count: count, top } })
    }

    /// What the epoch root commits to.
    #[must_use]
    pub const fn header(&self) -> &EpochHeader {
        &self.header
    }

    /// The siblings of frame `index`, from the leaf up.
    ///
    /// # Errors
    /// [`EpochError::Index`].
    pub fn path(&self, index: usize) -> Result<Vec<SumNode>, EpochError> {
        let count = usize::try_from(self.header.leaf_count).unwrap_or(usize::MAX);
        if index >= count {
            return Err(EpochError::Index { index, count });
        }
        Ok(self.tree.proof(&[index]).proof_hashes().iter().map(SumNode::from_bytes).collect())
    }
}

/// The top that a leaf and its path lead to; `None` when the path has the wrong length, the index is out of range or a sum does not fit (B-8).
pub(crate) fn top_of(leaf: SumNode, index: u64, leaf_count: u64, path: &[SumNode]) -> Option<SumNode> {
    let count = usize::try_from(leaf_count).ok().filter(|count| (1..=EPOCH_FRAMES_MAX).contains(count))?;
    if index >= leaf_count || path.len() != depth(count) {
        return None;
    }
    path.iter().enumerate().try_fold(leaf, |below, (level, sibling)| {
        if index >> level & 1 == 0 { SumNode::parent(&below, sibling) } else { SumNode::parent(sibling, &below) }
    })
}

#[cfg(test)]
mod tests {
    use millstream_types::{Address, ChainId};

    use super::*;

    #[allow(clippy::arithmetic_side_effects, reason = "a few thousand frames of small amounts")]
    fn frames(count: u64) -> Vec<FrameLeaf> {
        let frame = |index: u64| FrameLeaf {
            channel: ChannelId::from_uid(&[5; 31]),
            lines_before: index,
            lines_after: index + 1,
            cumulative_before: 3 * index,
            cumulative_after: if index % 5 == 4 { u64::MAX } else { 3 * index + 3 },
            bill_head: BillHead::from_bytes([index.to_le_bytes()[0]; 32]),
            frame_root: Hash256::from_bytes([index.to_le_bytes()[1]; 32]),
        };
        (0..count).map(frame).collect()
    }

    fn ledger() -> LedgerId {
        LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([0x11; 20]) }
    }

    #[test]
    fn the_header_is_that_of_the_tree() {
        for count in (1..70).chain([127, 128, 129, 1_000, 1_023, 1_024, 1_025, 2_048, 2_065, 5_000]) {
            let frames = frames(count);
            let tree = EpochTree::new(ledger(), EpochId::new(3), &frames).expect("an epoch");
            assert_eq!(EpochHeader::of(ledger(), EpochId::new(3), &frames), Ok(*tree.header()), "{count} frames");
            let total: u128 = frames.iter().map(|frame| u128::from(frame.cumulative_after - frame.cumulative_before)).sum();
            assert_eq!(tree.header().top.sum.units(), total, "{count} frames");
        }
    }

    #[test]
    fn what_is_no_epoch_has_neither_header_nor_tree() {
        let check = |frames: &[FrameLeaf], expected: EpochError| {
            assert_eq!(EpochHeader::of(ledger(), EpochId::new(3), frames), Err(expected));
            assert_eq!(EpochTree::new(ledger(), EpochId::new(3), frames).err(), Some(expected));
        };
        check(&[], EpochError::Count { count: 0 });
        for index in [0, 15, 16, 1_024, 1_039] {
            let mut frames = frames(1_040);
            frames[index].cumulative_before = 7;
            frames[index].cumulative_after = 6;
            check(&frames, EpochError::Totals { index });
        }
    }
}
