//! The Merkle sum tree over the frames of one epoch.

use std::sync::LazyLock;

use millstream_types::{Amount, BillHead, ChannelId, EpochId, Hash256, LedgerId};
use rs_merkle::{Hasher, MerkleTree};

use crate::frame::depth;
use crate::sha256;

/// Frames in an epoch, at most.
pub const EPOCH_FRAMES_MAX: usize = 1 << 20;

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
        let sum = self.cumulative_after.checked_sub(self.cumulative_before)?;
        let hash = sha256(&[
            &[0x10],
            self.channel.as_bytes(),
            &self.lines_before.to_be_bytes(),
            &self.lines_after.to_be_bytes(),
            &self.cumulative_before.to_be_bytes(),
            &self.cumulative_after.to_be_bytes(),
            self.bill_head.as_bytes(),
            self.frame_root.as_bytes(),
        ]);
        Some(SumNode { hash, sum: Amount::from_nanos(sum) })
    }
}

impl SumNode {
    /// The node above two others, or `None` when the sum does not fit.
    #[must_use]
    pub fn parent(left: &Self, right: &Self) -> Option<Self> {
        let sum = left.sum.checked_add(right.sum).ok()?;
        let (left_sum, right_sum) = (left.sum.units().to_be_bytes(), right.sum.units().to_be_bytes());
        let hash = sha256(&[&[0x11], left.hash.as_bytes(), &left_sum, right.hash.as_bytes(), &right_sum]);
        Some(Self { hash, sum })
    }

    fn to_bytes(self) -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[..32].copy_from_slice(self.hash.as_bytes());
        bytes[32..].copy_from_slice(&self.sum.units().to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; 48]) -> Self {
        let (mut hash, mut sum) = ([0; 32], [0; 16]);
        hash.copy_from_slice(&bytes[..32]);
        sum.copy_from_slice(&bytes[32..]);
        Self { hash: Hash256::from_bytes(hash), sum: Amount::from_units(u128::from_be_bytes(sum)) }
    }
}

static EMPTY: LazyLock<SumNode> = LazyLock::new(|| SumNode { hash: sha256(&[&[0x12]]), sum: Amount::ZERO });

/// The 48 bytes `hash ‖ sum`: rs_merkle asks for conversions from and to vectors that arrays of this length have.
#[derive(Clone)]
struct SumHasher;

impl Hasher for SumHasher {
    type Hash = [u8; 48];

    fn hash(data: &[u8]) -> [u8; 48] {
        SumNode { hash: sha256(&[data]), sum: Amount::ZERO }.to_bytes()
    }

    fn concat_and_hash(left: &[u8; 48], right: Option<&[u8; 48]>) -> [u8; 48] {
        // Trees are perfect, so the only node without a sibling is the root, which rs_merkle lifts by one layer.
        let Some(right) = right else { return *left };
        // At most 2^20 leaves of 64 bits each: the sum fits 84 bits.
        SumNode::parent(&SumNode::from_bytes(left), &SumNode::from_bytes(right)).map_or([0; 48], SumNode::to_bytes)
    }
}

/// The tree of a sealed epoch.
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
        let count = frames.len();
        if count == 0 || count > EPOCH_FRAMES_MAX {
            return Err(EpochError::Count { count });
        }
        let mut leaves = Vec::with_capacity(count.next_power_of_two());
        for (index, frame) in frames.iter().enumerate() {
            leaves.push(frame.node().ok_or(EpochError::Totals { index })?.to_bytes());
        }
        leaves.resize(count.next_power_of_two(), EMPTY.to_bytes());
        let tree = MerkleTree::<SumHasher>::from_leaves(&leaves);
        let top = SumNode::from_bytes(&tree.root().unwrap_or([0; 48]));
        let leaf_count = u64::try_from(count).map_err(|_| EpochError::Count { count })?;
        Ok(Self { tree, header: EpochHeader { ledger, epoch, leaf_count, top } })
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
