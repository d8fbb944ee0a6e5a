//! How far the chain was read, with enough of the way back to find where it forked.

use millstream_types::{BlockNumber, Hash256};

use crate::ChainError;

/// Checkpoints a cursor keeps: the first and the newest ones.
const CHECKPOINTS_MAX: usize = 32;
/// Bytes of a checkpoint: number (8) ‖ hash (32) ‖ requests (8), big-endian.
const CHECKPOINT_BYTES: usize = 48;
/// The first byte of a stored cursor.
const VERSION: u8 = 1;

/// A block that was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its height.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: Hash256,
    /// The requests in the ledger's queue, served or not, at its end.
    pub requests: u64,
}

/// How far a ledger was read. The caller stores it in the batch that holds what the events changed, so that neither is there without the
/// other.
///
/// It holds the block read last, up to thirty before it, and the first of all; see [`super::Reorg`] for what they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Ascending; never empty.
    checkpoints: Vec<Checkpoint>,
}

impl Cursor {
    pub(crate) fn at(origin: Checkpoint) -> Self {
        Self { checkpoints: vec![origin] }
    }

    /// The block read last.
    #[must_use]
    pub fn last(&self) -> Checkpoint {
        // `checkpoints` is never empty: each constructor puts one in, and nothing takes the first out.
        self.checkpoints.last().copied().unwrap_or(Checkpoint {
            number: BlockNumber::new(0),
            hash: Hash256::from_bytes([0; 32]),
            requests: 0,
        })
    }

    /// All checkpoints, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = Checkpoint> + '_ {
        self.checkpoints.iter().rev().copied()
    }

    /// The cursor from which everything is read again.
    #[must_use]
    pub fn restarted(&self) -> Self {
        Self { checkpoints: self.checkpoints[..1].to_vec() }
    }

    /// The cursor after another checkpoint.
    pub(crate) fn advanced(&self, to: Checkpoint) -> Self {
        let mut checkpoints = self.checkpoints.clone();
        if checkpoints.len() == CHECKPOINTS_MAX {
            checkpoints.remove(1);
        }
        checkpoints.push(to);
        Self { checkpoints }
    }

    /// The cursor as it was at a checkpoint of its own; `None` for a block that is none.
    pub(super) fn rewound(&self, to: BlockNumber) -> Option<Self> {
        let end = self.checkpoints.iter().position(|checkpoint| checkpoint.number == to)?;
        Some(Self { checkpoints: self.checkpoints[..=end].to_vec() })
    }

    /// The stored form: version (1) ‖ checkpoints (48 each), oldest first.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for checkpoint in &self.checkpoints {
            bytes.extend(checkpoint.number.height().to_be_bytes());
            bytes.extend(checkpoint.hash.as_bytes());
            bytes.extend(checkpoint.requests.to_be_bytes());
        }
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`ChainError::InvalidInput`] for another version, another length, or checkpoints that do not ascend.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ChainError> {
        let bad = |detail: &str| ChainError::invalid("stored cursor", detail);
        let (version, body) = bytes.split_first().ok_or_else(|| bad("empty"))?;
        if *version != VERSION {
            return Err(bad("unknown version"));
        }
        let (records, rest) = body.as_chunks::<CHECKPOINT_BYTES>();
        if records.is_empty() || !rest.is_empty() || records.len() > CHECKPOINTS_MAX {
            return Err(bad("wrong length"));
        }
        let checkpoints: Vec<Checkpoint> = records.iter().map(checkpoint).collect();
        let ascending = checkpoints.is_sorted_by(|a, b| a.number < b.number && a.requests <= b.requests);
        if ascending { Ok(Self { checkpoints }) } else { Err(bad("checkpoints out of order")) }
    }
}

fn checkpoint(record: &[u8; CHECKPOINT_BYTES]) -> Checkpoint {
    let (mut number, mut hash, mut requests) = ([0; 8], [0; 32], [0; 8]);
    number.copy_from_slice(&record[..8]);
    hash.copy_from_slice(&record[8..40]);
    requests.copy_from_slice(&record[40..]);
    Checkpoint {
        number: BlockNumber::new(u64::from_be_bytes(number)),
        hash: Hash256::from_bytes(hash),
        requests: u64::from_be_bytes(requests),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64) -> Checkpoint {
        let byte = u8::try_from(number % 251).expect("small");
        Checkpoint { number: BlockNumber::new(number), hash: Hash256::from_bytes([byte; 32]), requests: number / 3 }
    }

    fn long() -> Cursor {
        (11..=100).fold(Cursor::at(block(10)), |cursor, number| cursor.advanced(block(number)))
    }

    #[test]
    fn the_first_and_the_newest_checkpoints_are_kept() {
        let numbers: Vec<u64> = long().newest_first().map(|checkpoint| checkpoint.number.height()).collect();
        assert_eq!(numbers.len(), CHECKPOINTS_MAX);
        assert_eq!((numbers[0], numbers[30], numbers[31]), (100, 70, 10));
    }

    #[test]
    fn rewinding_ends_at_a_checkpoint() {
        assert_eq!(long().rewound(BlockNumber::new(80)).map(|cursor| cursor.last()), Some(block(80)));
        assert_eq!(long().rewound(BlockNumber::new(10)).map(|cursor| cursor.last()), Some(block(10)));
        assert_eq!(long().rewound(BlockNumber::new(50)), None);
        assert_eq!(long().restarted(), Cursor::at(block(10)));
    }

    #[test]
    fn the_stored_form_is_read_back_and_checked() {
        let cursor = long();
        let bytes = cursor.to_bytes();
        assert_eq!(Cursor::from_bytes(&bytes), Ok(cursor));
        let swapped = [&bytes[..1], &bytes[49..97], &bytes[1..49]].concat();
        let unknown = [&[9], &bytes[1..]].concat();
        for bad in [&[][..], &bytes[..1], &bytes[..bytes.len() - 1], &swapped, &unknown] {
            assert!(Cursor::from_bytes(bad).is_err());
        }
    }
}
