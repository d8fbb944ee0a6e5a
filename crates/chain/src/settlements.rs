//! The settlements of a `settle`, packed as the ledger takes them (spec L-32): one after the other, with no length and no padding, each as long
//! as the tier of its book makes it. So a list has one encoding, and bytes have one meaning or none.
//!
//! `slots_of` says how many slots the books of a tier have, or that there is no such tier.

use millstream_types::{Amount, BookId, Tier};

use crate::{BookSettlement, ChainError};

/// Bytes of a book's id.
const BOOK_BYTES: usize = 4;
/// Bytes of a total: it is below 2^96.
const TOTAL_BYTES: usize = 12;
/// Bytes of a delta.
const DELTA_BYTES: usize = 8;
/// Bytes of a settlement besides its deltas: book, new root, total, commitment, proof.
const HEAD_BYTES: usize = BOOK_BYTES + 32 + TOTAL_BYTES + 32 + 256;

/// Packs settlements.
///
/// # Errors
/// [`ChainError::InvalidInput`] for a book of no tier, deltas that are not one for each slot, and a total from 2^96 up.
pub fn pack_settlements(settlements: &[BookSettlement], slots_of: impl Fn(Tier) -> Option<u16>) -> Result<Vec<u8>, ChainError> {
    let mut packed = Vec::new();
    for settlement in settlements {
        let book = settlement.book;
        let slots = slots_of(book.tier()).ok_or_else(|| ChainError::invalid("book", format!("the ledger has no tier for {book}")))?;
        if settlement.deltas.len() != usize::from(slots) {
            return Err(ChainError::invalid("deltas", format!("expected {slots}, got {}", settlement.deltas.len())));
        }
        let total = settlement.total.units().to_be_bytes();
        let Some((&[0, 0, 0, 0], total)) = total.split_first_chunk() else {
            return Err(ChainError::invalid("total", format!("{} does not fit 96 bits", settlement.total)));
        };
        packed.extend(book.to_u32().to_be_bytes());
        packed.extend(settlement.new_root);
        packed.extend(total);
        packed.extend(settlement.commitment);
        packed.extend(settlement.proof.as_flattened());
        packed.extend(settlement.deltas.iter().flat_map(|delta| delta.to_be_bytes()));
    }
    Ok(packed)
}

/// The inverse of [`pack_settlements`]: what the ledger takes the bytes for. As the ledger it refuses what is too short or too long; whether
/// roots and commitments are field elements it does not look at.
///
/// # Errors
/// [`ChainError::Inconsistent`] for a book of no tier and for bytes that do not end where a settlement does.
pub fn unpack_settlements(mut packed: &[u8], slots_of: impl Fn(Tier) -> Option<u16>) -> Result<Vec<BookSettlement>, ChainError> {
    let short = |expected: usize, actual: usize| {
        ChainError::inconsistent(format!("the next settlement has {expected} bytes, and {actual} are left"))
    };
    let mut settlements = Vec::new();
    while !packed.is_empty() {
        let book = packed.first_chunk::<BOOK_BYTES>().ok_or_else(|| short(BOOK_BYTES, packed.len()))?;
        let book = BookId::from_u32(u32::from_be_bytes(*book));
        let slots = slots_of(book.tier()).ok_or_else(|| ChainError::inconsistent(format!("book {book} is of no tier of the ledger")))?;
        let expected = HEAD_BYTES + DELTA_BYTES * usize::from(slots);
        let (settlement, rest) = packed.split_at_checked(expected).ok_or_else(|| short(expected, packed.len()))?;
        settlements.push(read(settlement).ok_or_else(|| short(expected, settlement.len()))?);
        packed = rest;
    }
    Ok(settlements)
}

/// One settlement; `None` when the head is not whole.
fn read(mut bytes: &[u8]) -> Option<BookSettlement> {
    let bytes = &mut bytes;
    Some(BookSettlement {
        book: BookId::from_u32(u32::from_be_bytes(take(bytes)?)),
        new_root: take(bytes)?,
        total: total(take(bytes)?),
        commitment: take(bytes)?,
        proof: *take::<256>(bytes)?.as_chunks().0.first_chunk()?,
        deltas: bytes.as_chunks().0.iter().map(|delta| u64::from_be_bytes(*delta)).collect(),
    })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn total(bytes: [u8; TOTAL_BYTES]) -> Amount {
    Amount::from_units(bytes.iter().fold(0, |total, byte| total << 8 | u128::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tiers 0 and 1.
    fn slots_of(tier: Tier) -> Option<u16> {
        [1, 31].get(usize::from(tier.index())).copied()
    }

    fn settlement(book: u32, slots: u64, total: u128) -> BookSettlement {
        BookSettlement {
            book: BookId::from_u32(book),
            new_root: [1; 32],
            total: Amount::from_units(total),
            commitment: [2; 32],
            proof: core::array::from_fn(|word| [u8::try_from(word).expect("small") + 3; 32]),
            deltas: (0..slots).map(|slot| u64::MAX - slot).collect(),
        }
    }

    fn list() -> Vec<BookSettlement> {
        vec![settlement(7, 1, u64::MAX.into()), settlement(0x0100_0009, 31, (1 << 96) - 1), settlement(0x00ff_ffff, 1, 0)]
    }

    #[test]
    fn a_list_has_one_encoding() {
        let packed = pack_settlements(&list(), slots_of).expect("a good list");
        assert_eq!(packed.len(), 3 * HEAD_BYTES + 33 * DELTA_BYTES);
        assert_eq!(unpack_settlements(&packed, slots_of), Ok(list()));
        assert_eq!(unpack_settlements(&[], slots_of), Ok(vec![]));
        // Every beginning is refused that does not end where a settlement does, and so is every byte more.
        let ends = [0, HEAD_BYTES + 8, 2 * HEAD_BYTES + 32 * 8, packed.len()];
        for length in 0..packed.len() {
            assert_eq!(unpack_settlements(&packed[..length], slots_of).is_ok(), ends.contains(&length), "{length}");
        }
        for more in [1, 3, 4, 7, 8, 31, HEAD_BYTES, HEAD_BYTES + 7] {
            assert!(unpack_settlements(&[&packed[..], &vec![0; more]].concat(), slots_of).is_err(), "{more}");
        }
    }

    #[test]
    fn what_is_read_is_written_the_same() {
        let packed = pack_settlements(&list(), slots_of).expect("a good list");
        for at in 0..packed.len() {
            let mut other = packed.clone();
            other[at] ^= 0xa5;
            if let Ok(settlements) = unpack_settlements(&other, slots_of) {
                assert_eq!(pack_settlements(&settlements, slots_of), Ok(other), "{at}");
            } else {
                // Only the id of a book says how long anything is.
                let books = [0, HEAD_BYTES + 8, 2 * HEAD_BYTES + 32 * 8];
                assert!(books.contains(&at), "{at}");
            }
        }
    }

    #[test]
    fn what_the_ledger_could_not_read_is_not_packed() {
        let cases = [
            ("book", settlement(0x0200_0000, 1, 0)),
            ("deltas", settlement(7, 2, 0)),
            ("deltas", settlement(0x0100_0000, 30, 0)),
            ("total", settlement(7, 1, 1 << 96)),
            ("total", settlement(7, 1, u128::MAX)),
        ];
        for (expected, bad) in cases {
            let refused = pack_settlements(&[settlement(7, 1, 0), bad], slots_of);
            assert!(matches!(refused, Err(ChainError::InvalidInput { what, .. }) if what == expected), "{refused:?}");
        }
        assert!(unpack_settlements(&[2, 0, 0, 0], slots_of).is_err());
    }
}
