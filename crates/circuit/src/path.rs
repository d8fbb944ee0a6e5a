//! Merkle paths of a slot: what a payer shows the ledger when no proof can be had.

use ark_bn254::Fr;
use millstream_voucher::poseidon::{Tag, hash};

use crate::book::{Book, BookSize, Slot, SlotFields};
use crate::error::CircuitError;
use crate::tree::{ARITY, groups_above};

/// One slot of a book with its Merkle paths, in the shape of the ABI's `SlotPath`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotPath {
    /// The slot.
    pub slot: u16,
    /// What it holds.
    pub channel: Slot,
    /// The static tree, bottom up: at each level the whole group of 16 that the value is in, zeros where there is nothing.
    pub static_path: Vec<[Fr; 16]>,
    /// The same of the dynamic tree. As many levels.
    pub dynamic_path: Vec<[Fr; 16]>,
}

impl SlotPath {
    /// The root (L-3) of the book of that size in which the slot has these values; `None` when there is no such book: the slot is beyond
    /// it, or a path has the wrong length or does not contain the value. What the contract `BookPaths` computes.
    #[must_use]
    pub fn root(&self, size: BookSize) -> Option<Fr> {
        if self.slot >= size.slots() {
            return None;
        }
        let fields = SlotFields::from(Some(&self.channel));
        let climbed = |tag, value, path: &[[Fr; ARITY]]| {
            let mut width = size.to_usize();
            let mut index = usize::from(self.slot);
            let mut value = value;
            let mut levels = path.iter();
            loop {
                let group = levels.next()?;
                if group[index % ARITY] != value {
                    return None;
                }
                value = hash(tag, group);
                index /= ARITY;
                width = width.div_ceil(ARITY);
                if width == 1 {
                    return levels.next().is_none().then_some(value);
                }
            }
        };
        let static_root = climbed(Tag::StaticNode, fields.static_leaf(), &self.static_path)?;
        let dynamic_root = climbed(Tag::DynamicNode, Fr::from(fields.settled_nanos), &self.dynamic_path)?;
        Some(hash(Tag::Book, &[static_root, dynamic_root]))
    }
}

impl Book {
    /// The paths of the channel in a slot.
    ///
    /// # Errors
    /// [`CircuitError::NoSuchSlot`], [`CircuitError::EmptySlot`].
    pub fn path(&self, slot: u16) -> Result<SlotPath, CircuitError> {
        let channel = *self.slot_or_error(slot)?;
        let settled: Vec<Fr> = self.fields().map(|fields| Fr::from(fields.settled_nanos)).collect();
        Ok(SlotPath {
            slot,
            channel,
            static_path: groups_above(Tag::StaticNode, &self.static_leaves(), usize::from(slot)),
            dynamic_path: groups_above(Tag::DynamicNode, &settled, usize::from(slot)),
        })
    }
}

#[cfg(test)]
mod tests {
    use ark_ff::AdditiveGroup;

    use super::*;
    use crate::testing::{book, key_x, place, size, uid, voucher};
    use crate::{Operation, RegisterStatement, SettleStatement};

    /// A book in which every third slot is empty, with something settled in every slot with an even number.
    fn mixed(slots: usize) -> Book {
        let deposits: Vec<u64> = (0..slots as u64).map(|slot| if slot % 3 == 1 { 0 } else { 1_000 + slot }).collect();
        let before = book(slots, &deposits);
        let vouchers: Vec<_> =
            (0..size(slots).slots()).map(|slot| (slot % 2 == 0 && before.slot(slot).is_some()).then(|| voucher(slot, 7))).collect();
        SettleStatement::new(place(), &before, &vouchers).expect("good vouchers").book_after
    }

    #[test]
    fn a_path_of_any_slot_leads_to_the_root() {
        for slots in [1, 2, 16, 17, 24, 96, 257] {
            let book = mixed(slots);
            let root = book.root();
            for (slot, channel) in book.channels() {
                let path = book.path(slot).expect("a channel");
                assert_eq!((path.slot, path.channel), (slot, *channel));
                assert_eq!(path.root(book.size()), Some(root), "slot {slot} of {slots}");
                assert_eq!(path.static_path.len(), path.dynamic_path.len());
            }
        }
    }

    #[test]
    fn a_slot_without_a_channel_has_no_path() {
        let book = mixed(5);
        assert_eq!(book.path(1), Err(CircuitError::EmptySlot { slot: 1 }));
        assert_eq!(book.path(5), Err(CircuitError::NoSuchSlot { slot: 5, slots: 5 }));
    }

    #[test]
    fn another_value_or_place_has_another_root_or_none() {
        let book = mixed(24);
        let honest = book.path(20).expect("a channel");
        let check = |what: &str, expected: bool, change: &dyn Fn(&mut SlotPath)| {
            let mut path = honest.clone();
            change(&mut path);
            let root = path.root(book.size());
            assert_ne!(root, Some(book.root()), "{what}");
            assert_eq!(root.is_some(), expected, "{what}");
        };
        check("deposit", false, &|path| path.channel.deposit_nanos += 1);
        check("settled", false, &|path| path.channel.settled_nanos -= 1);
        check("key", false, &|path| path.channel.key_x = key_x(1));
        check("uid", false, &|path| path.channel.uid = uid(1));
        check("slot", false, &|path| path.slot = 18);
        check("beyond the book", false, &|path| path.slot += 16);
        check("a sibling", false, &|path| path.static_path[0][0] += Fr::from(1u64));
        check("a sibling at the top", true, &|path| path.static_path[1][0] += Fr::from(1u64));
        check("a settled sibling at the top", true, &|path| path.dynamic_path[1][0] += Fr::from(1u64));
        check("too short", false, &|path| path.static_path.truncate(1));
        check("too long", false, &|path| path.dynamic_path.push([Fr::ZERO; 16]));
        assert_eq!(honest.root(size(16)), None);
        assert_eq!(honest.root(size(257)), None);
    }

    #[test]
    fn a_path_changes_with_its_neighbours_and_stays_with_its_own_root() {
        let before = book(24, &[1_000, 2_000]);
        let old = before.path(0).expect("a channel");
        let after = RegisterStatement::new(place(), &before, &[Operation::TopUp { uid: uid(1), amount_nanos: 1 }])
            .expect("served")
            .book_after;
        assert_eq!(old.root(before.size()), Some(before.root()));
        assert_ne!(old.root(before.size()), Some(after.root()));
        assert_ne!(after.path(0).expect("a channel"), old);
    }
}
