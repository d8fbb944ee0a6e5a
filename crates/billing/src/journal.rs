//! The journal: what a node made durable, as a chain of batches, each a tree over its entries (J-1 to J-5).

use millstream_lanes::sha256::{DIGEST_BYTES, hash_records};
use millstream_types::{Hash256, LedgerId, Timestamp};

use crate::epoch::leaf_hashes;
use crate::frame::depth;
use crate::{FrameLeaf, hex_bytes, sha256};

/// Entries in a batch, at most.
pub const BATCH_ENTRIES_MAX: usize = 1_024;

/// The first byte of what a node hashes, before its two children.
const NODE: u8 = 0x15;
const EMPTY: u8 = 0x16;
const LINK: u8 = 0x17;
const GENESIS: u8 = 0x18;
const SIGNED: u8 = 0x19;
const PAIR_BYTES: usize = 2 * DIGEST_BYTES;

/// What the key of a journal signs begins with: it signs nothing else.
const DOMAIN: &[u8] = b"millstream/journal/1";

/// What the entries of a batch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchKind {
    /// Frames of the native protocol.
    Frames,
    /// Charges of HTTP 402.
    Charges,
}

impl BatchKind {
    /// The byte that stands for it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Frames => 1,
            Self::Charges => 2,
        }
    }

    /// The kind that a byte stands for.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Frames),
            2 => Some(Self::Charges),
            _ => None,
        }
    }
}

/// How far a promise goes: what a receipt was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityLevel {
    /// The batch was synced to the disk of the node, and its number to the acknowledged head.
    Synced,
}

impl DurabilityLevel {
    const fn number(self) -> u8 {
        match self {
            Self::Synced => 1,
        }
    }
}

/// A batch of the journal (J-3): entries that became durable together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Its number: the first is 1, each next one more.
    pub number: u64,
    /// Milliseconds since the Unix epoch, by the node's clock; never less than those of the batch before.
    pub at_millis: u64,
    /// What its entries are.
    pub kind: BatchKind,
    /// Entries, 1 to [`BATCH_ENTRIES_MAX`].
    pub count: u32,
    /// The root over them (J-2).
    pub root: Hash256,
    /// The link of the batch before, or of the empty journal.
    pub parent: Hash256,
}

impl Batch {
    /// The link of the chain up to and with this batch (J-3).
    #[must_use]
    pub fn link(&self) -> Hash256 {
        sha256(&[
            &[LINK],
            self.parent.as_bytes(),
            &self.number.to_be_bytes(),
            &self.at_millis.to_be_bytes(),
            &[self.kind.number()],
            &self.count.to_be_bytes(),
            self.root.as_bytes(),
        ])
    }

    /// What the journal's key signs of it (J-4).
    #[must_use]
    pub fn signed_digest(&self, journal: &LedgerId, durability: DurabilityLevel) -> Hash256 {
        sha256(&[
            &[SIGNED],
            DOMAIN,
            &journal.chain.get().to_be_bytes(),
            journal.contract.as_bytes(),
            &[durability.number()],
            self.link().as_bytes(),
        ])
    }

    /// When it was made.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.at_millis)
    }
}

/// The link of a journal without batches (J-3). A node without a ledger has the address zero for it.
#[must_use]
pub fn genesis_link(journal: &LedgerId) -> Hash256 {
    sha256(&[&[GENESIS], &journal.chain.get().to_be_bytes(), journal.contract.as_bytes()])
}

/// A batch with the signature of the journal's key.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedBatch {
    /// The batch.
    pub batch: Batch,
    /// How far the node's promise goes.
    pub durability: DurabilityLevel,
    /// 65 bytes, `r ‖ s ‖ v`: secp256k1 over [`Batch::signed_digest`], as Ethereum's accounts sign.
    #[serde(with = "hex_bytes")]
    pub signature: Vec<u8>,
}

/// The tree over the entries of one batch (J-2).
#[derive(Clone, Debug)]
pub struct BatchTree {
    /// From the entries up; the last is the root alone. Each but the last has an even number of nodes.
    levels: Vec<Vec<[u8; DIGEST_BYTES]>>,
    count: usize,
}

impl BatchTree {
    /// The tree over hashes of entries, or `None` when there are none or too many.
    #[must_use]
    pub fn new(entries: Vec<[u8; DIGEST_BYTES]>) -> Option<Self> {
        let count = entries.len();
        if count == 0 || count > BATCH_ENTRIES_MAX {
            return None;
        }
        let (mut levels, mut level) = (Vec::with_capacity(depth(count).saturating_add(1)), entries);
        let mut empty = *sha256(&[&[EMPTY]]).as_bytes();
        while level.len() > 1 {
            if level.len() % 2 == 1 {
                level.push(empty);
            }
            let pairs = level.as_flattened().as_chunks::<PAIR_BYTES>().0;
            let mut above = vec![[0; DIGEST_BYTES]; pairs.len()];
            hash_records(NODE, pairs, &mut above);
            empty = *node(&Hash256::from_bytes(empty), &Hash256::from_bytes(empty)).as_bytes();
            levels.push(level);
            level = above;
        }
        levels.push(level);
        Some(Self { levels, count })
    }

    /// The tree over frames, which are hashed as the leaves of their epoch are (B-5).
    #[must_use]
    pub fn of_frames(frames: &[FrameLeaf]) -> Option<Self> {
        leaf_hashes(frames).and_then(Self::new)
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash256 {
        Hash256::from_bytes(self.levels.last().and_then(|level| level.first()).copied().unwrap_or_default())
    }

    /// The siblings of an entry, from it up; `None` when there is no such entry.
    #[must_use]
    pub fn path(&self, index: usize) -> Option<Vec<Hash256>> {
        let (_, below) = self.levels.split_last().filter(|_| index < self.count)?;
        let sibling = |(height, level): (usize, &Vec<[u8; DIGEST_BYTES]>)| level.get(index >> height ^ 1).copied().map(Hash256::from_bytes);
        below.iter().enumerate().map(sibling).collect()
    }
}

fn node(left: &Hash256, right: &Hash256) -> Hash256 {
    sha256(&[&[NODE], left.as_bytes(), right.as_bytes()])
}

/// Where an entry and its path lead; `None` when the path has the wrong length or the index is out of range.
#[must_use]
pub fn batch_root(entry: &Hash256, index: u32, count: u32, path: &[Hash256]) -> Option<Hash256> {
    let entries = usize::try_from(count).ok().filter(|entries| (1..=BATCH_ENTRIES_MAX).contains(entries))?;
    if index >= count || path.len() != depth(entries) {
        return None;
    }
    Some(path.iter().enumerate().fold(
        *entry,
        |below, (height, sibling)| {
            if index >> height & 1 == 0 { node(&below, sibling) } else { node(sibling, &below) }
        },
    ))
}

#[cfg(test)]
mod tests {
    use millstream_types::{Address, ChainId};

    use super::*;

    fn entries(count: u16) -> Vec<[u8; 32]> {
        (0..count).map(|index| *sha256(&[&index.to_be_bytes()]).as_bytes()).collect()
    }

    #[test]
    fn every_entry_leads_to_the_root_and_nothing_else_does() {
        for count in [1, 2, 3, 4, 5, 7, 8, 9, 33, 1_023, 1_024] {
            let tree = BatchTree::new(entries(count)).expect("a batch");
            for index in (0..count).step_by(if count > 40 { 97 } else { 1 }) {
                let entry = Hash256::from_bytes(entries(count)[usize::from(index)]);
                let path = tree.path(index.into()).expect("there");
                let root = |entry: &Hash256, index: u16, path: &[Hash256]| batch_root(entry, index.into(), count.into(), path);
                assert_eq!(root(&entry, index, &path), Some(tree.root()), "{index} of {count}");
                assert_eq!(root(&entry, count, &path), None);
                assert_ne!(root(&sha256(&[b"another"]), index, &path), Some(tree.root()));
                if let Some((_, short)) = path.split_last() {
                    assert_eq!(root(&entry, index, short), None);
                    assert_ne!(root(&entry, index ^ 1, &path), Some(tree.root()), "{index} of {count}");
                }
            }
            assert_eq!(tree.path(count.into()), None);
        }
        assert!(BatchTree::new(entries(0)).is_none() && BatchTree::new(entries(1_025)).is_none());
    }

    #[test]
    fn what_is_signed_depends_on_every_field() {
        let batch = Batch {
            number: 1,
            at_millis: 2,
            kind: BatchKind::Frames,
            count: 3,
            root: Hash256::from_bytes([4; 32]),
            parent: Hash256::from_bytes([5; 32]),
        };
        let journal = LedgerId { chain: ChainId::new(6), contract: Address::from_bytes([7; 20]) };
        let other = Hash256::from_bytes([9; 32]);
        let all = [
            batch.signed_digest(&journal, DurabilityLevel::Synced),
            Batch { number: 2, ..batch }.signed_digest(&journal, DurabilityLevel::Synced),
            Batch { at_millis: 3, ..batch }.signed_digest(&journal, DurabilityLevel::Synced),
            Batch { kind: BatchKind::Charges, ..batch }.signed_digest(&journal, DurabilityLevel::Synced),
            Batch { count: 4, ..batch }.signed_digest(&journal, DurabilityLevel::Synced),
            Batch { root: other, ..batch }.signed_digest(&journal, DurabilityLevel::Synced),
            Batch { parent: other, ..batch }.signed_digest(&journal, DurabilityLevel::Synced),
            batch.signed_digest(&LedgerId { chain: ChainId::new(8), ..journal }, DurabilityLevel::Synced),
            batch.signed_digest(&LedgerId { contract: Address::ZERO, ..journal }, DurabilityLevel::Synced),
            batch.link(),
            genesis_link(&journal),
        ];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    }
}
