//! The head: number and running hash of the last batch, and the decision whether a recovered store may start.

use core::fmt;

use millstream_types::Hash256;
use sha2::{Digest, Sha256};

use crate::error::StoreError;

/// Keys of [`crate::Table::Meta`] that are the store's own.
pub(crate) const RESERVED_PREFIX: &[u8] = b"store/";
/// Where RocksDB keeps the head, written with every batch.
pub(crate) const HEAD_KEY: &[u8] = b"store/head";
/// Where RocksDB keeps the schema versions.
pub(crate) const SCHEMA_KEY: &[u8] = b"store/schema";

const CHAIN_DOMAIN: &[u8] = b"millstream/store/batch/1";
const HEAD_VERSION: u8 = 1;

/// Bytes of an encoded head: `version u8 ‖ sequence u64 ‖ chain 32 ‖ parent 32`, big-endian.
pub(crate) const HEAD_BYTES: usize = 1 + 8 + 32 + 32;

/// Number of a batch: the first is 1, each next one more. 0 is the empty store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitSeq(u64);

impl CommitSeq {
    /// The empty store.
    pub const ZERO: Self = Self(0);

    /// As an integer, for metrics and logs.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_u64(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for CommitSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The last batch: its number, the hash chain up to and with it, and the chain before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of the batch.
    pub seq: CommitSeq,
    /// `SHA-256(domain ‖ parent ‖ sequence u64 ‖ batch bytes)`; all zeros for the empty store.
    pub chain: Hash256,
    /// The chain up to the batch before.
    pub parent: Hash256,
}

impl Head {
    /// The head of a store without batches.
    pub const EMPTY: Self = Self { seq: CommitSeq::ZERO, chain: Hash256::from_bytes([0; 32]), parent: Hash256::from_bytes([0; 32]) };

    /// The head after one more batch.
    pub(crate) fn advance(&self, batch_bytes: &[u8]) -> Result<Self, StoreError> {
        let seq = CommitSeq(self.seq.0.checked_add(1).ok_or(StoreError::SequenceExhausted)?);
        let mut hasher = Sha256::new_with_prefix(CHAIN_DOMAIN);
        hasher.update(self.chain.as_bytes());
        hasher.update(seq.0.to_be_bytes());
        hasher.update(batch_bytes);
        Ok(Self { seq, chain: Hash256::from_bytes(hasher.finalize().into()), parent: self.chain })
    }

    pub(crate) fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[0] = HEAD_VERSION;
        bytes[1..9].copy_from_slice(&self.seq.0.to_be_bytes());
        bytes[9..41].copy_from_slice(self.chain.as_bytes());
        bytes[41..].copy_from_slice(self.parent.as_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEAD_BYTES] = bytes.try_into().ok()?;
        let (version, rest) = bytes.split_first()?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let (chain, rest) = rest.split_first_chunk::<32>()?;
        let (parent, _) = rest.split_first_chunk::<32>()?;
        (*version == HEAD_VERSION).then(|| Self {
            seq: CommitSeq(u64::from_be_bytes(*seq)),
            chain: Hash256::from_bytes(*chain),
            parent: Hash256::from_bytes(*parent),
        })
    }
}

/// Decides whether a store recovered up to `found` may start when `acknowledged` was promised.
///
/// Equal heads are the ordinary case. One batch more is what a crash between the two syncs leaves: the batch was never answered, and it
/// is kept, because it is complete. Less than was acknowledged, or another history at the same point, is refused.
///
/// # Errors
/// [`StoreError::AcknowledgedLost`] or [`StoreError::Diverged`].
pub(crate) fn judge(found: &Head, acknowledged: &Head) -> Result<(), StoreError> {
    if found.seq < acknowledged.seq {
        return Err(StoreError::AcknowledgedLost { acknowledged: acknowledged.seq, found: found.seq });
    }
    let same_history = if found.seq == acknowledged.seq {
        found.chain == acknowledged.chain
    } else {
        // Further ahead the link cannot be checked: the head file is then an old copy, and nothing it promised is missing by number.
        found.seq.0 - acknowledged.seq.0 > 1 || found.parent == acknowledged.chain
    };
    if same_history { Ok(()) } else { Err(StoreError::Diverged { seq: acknowledged.seq }) }
}

#[cfg(test)]
mod tests {
    use super::{Head, judge};
    use crate::StoreError;

    fn chain_of(batches: &[&[u8]]) -> Head {
        batches.iter().fold(Head::EMPTY, |head, batch| head.advance(batch).expect("sequence fits"))
    }

    #[test]
    fn head_bytes_round_trip() {
        let head = chain_of(&[b"a", b"b"]);
        assert_eq!(Head::from_bytes(&head.to_bytes()), Some(head));
        assert_eq!(Head::from_bytes(&head.to_bytes()[1..]), None);
        let mut other_version = head.to_bytes();
        other_version[0] = 2;
        assert_eq!(Head::from_bytes(&other_version), None);
    }

    #[test]
    fn only_the_same_history_at_or_above_the_acknowledged_head_starts() {
        let (two, three, other) = (chain_of(&[b"a", b"b"]), chain_of(&[b"a", b"b", b"c"]), chain_of(&[b"a", b"x"]));
        let other_three = other.advance(b"c").expect("sequence fits");
        assert!(judge(&two, &two).is_ok());
        assert!(judge(&three, &two).is_ok());
        assert!(matches!(judge(&two, &three), Err(StoreError::AcknowledgedLost { .. })));
        assert!(matches!(judge(&Head::EMPTY, &two), Err(StoreError::AcknowledgedLost { .. })));
        assert!(matches!(judge(&other, &two), Err(StoreError::Diverged { .. })));
        assert!(matches!(judge(&other_three, &two), Err(StoreError::Diverged { .. })));
    }
}
