//! A book: aligned slots of channels under one root (spec L-3).

use std::collections::BTreeMap;

use ark_bn254::Fr;
use ark_ff::AdditiveGroup;
use millstream_types::ChannelId;
use millstream_voucher::poseidon::{Tag, hash};

use crate::error::CircuitError;
use crate::tree::{tree, uid_to_field};

/// The number of slots of a book, 1 to 4096. A tier of the ledger fixes it (L-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BookSize(u16);

impl BookSize {
    /// The sizes that fill the domain of a proof: 2^16 rows and up, doubling.
    pub const STANDARD: [Self; 5] = [Self(24), Self(48), Self(96), Self(192), Self(384)];

    const MAX: u16 = 4096;

    /// A book of so many slots.
    ///
    /// # Errors
    /// [`CircuitError::BookSize`] for 0 or more than 4096.
    pub fn new(slots: usize) -> Result<Self, CircuitError> {
        match u16::try_from(slots) {
            Ok(slots @ 1..=Self::MAX) => Ok(Self(slots)),
            _ => Err(CircuitError::BookSize { slots }),
        }
    }

    /// The number of slots, N.
    #[must_use]
    pub const fn slots(self) -> u16 {
        self.0
    }

    /// The number of slots, as a length.
    #[must_use]
    pub fn to_usize(self) -> usize {
        usize::from(self.0)
    }
}

/// A channel in a book. An empty slot is no `Slot`; the trees see it as four zeros.
///
/// Invariants: uid and key are not zero; `settled_nanos ≤ deposit_nanos`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub(crate) key_x: Fr,
    pub(crate) uid: ChannelId,
    pub(crate) deposit_nanos: u64,
    pub(crate) settled_nanos: u64,
}

impl Slot {
    /// A channel as a snapshot kept it; amounts in nanos. `slot` is for the errors.
    ///
    /// # Errors
    /// [`CircuitError::ZeroIdentity`] and [`CircuitError::AboveDeposit`].
    pub fn new(slot: u16, uid: ChannelId, key_x: Fr, deposit_nanos: u64, settled_nanos: u64) -> Result<Self, CircuitError> {
        if uid_to_field(&uid) == Fr::ZERO || key_x == Fr::ZERO {
            return Err(CircuitError::ZeroIdentity { slot });
        }
        if settled_nanos > deposit_nanos {
            return Err(CircuitError::AboveDeposit { slot, deposit_nanos, cumulative_nanos: u128::from(settled_nanos) });
        }
        Ok(Self { key_x, uid, deposit_nanos, settled_nanos })
    }

    /// The x-coordinate of the payer's key (V-4).
    #[must_use]
    pub const fn key_x(&self) -> Fr {
        self.key_x
    }

    /// The channel.
    #[must_use]
    pub const fn uid(&self) -> ChannelId {
        self.uid
    }

    /// Deposited and included in the book, in nanos.
    #[must_use]
    pub const fn deposit_nanos(&self) -> u64 {
        self.deposit_nanos
    }

    /// Taken by the provider, in nanos.
    #[must_use]
    pub const fn settled_nanos(&self) -> u64 {
        self.settled_nanos
    }
}

/// The four field elements of a slot; zeros for an empty one (spec, section Books).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotFields {
    pub(crate) key_x: Fr,
    pub(crate) uid: Fr,
    pub(crate) deposit_nanos: u64,
    pub(crate) settled_nanos: u64,
}

impl From<Option<&Slot>> for SlotFields {
    fn from(slot: Option<&Slot>) -> Self {
        slot.map_or_else(Self::default, |slot| Self {
            key_x: slot.key_x,
            uid: uid_to_field(&slot.uid),
            deposit_nanos: slot.deposit_nanos,
            settled_nanos: slot.settled_nanos,
        })
    }
}

impl SlotFields {
    pub(crate) fn static_leaf(&self) -> Fr {
        hash(Tag::StaticLeaf, &[self.key_x, self.uid, Fr::from(self.deposit_nanos)])
    }
}

/// `N` slots of one ledger. Every channel is in at most one slot.
///
/// How books change is in `deltas.rs` (`settle`) and `rows.rs` (`register`); a book is a function of the chain's calldata alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    size: BookSize,
    pub(crate) slots: Vec<Option<Slot>>,
    pub(crate) index: BTreeMap<ChannelId, u16>,
}

impl Book {
    /// A book of empty slots.
    #[must_use]
    pub fn empty(size: BookSize) -> Self {
        Self { size, slots: vec![None; size.to_usize()], index: BTreeMap::new() }
    }

    /// A book from a snapshot of its channels, in any order. The caller compares the root with the ledger's.
    ///
    /// # Errors
    /// [`CircuitError::NoSuchSlot`], [`CircuitError::SlotOccupied`], [`CircuitError::AlreadyOpen`].
    pub fn from_channels(size: BookSize, channels: impl IntoIterator<Item = (u16, Slot)>) -> Result<Self, CircuitError> {
        let mut book = Self::empty(size);
        for (slot, channel) in channels {
            book.check_vacant(slot, &channel.uid)?;
            book.set(slot, Some(channel));
        }
        Ok(book)
    }

    /// The number of slots.
    #[must_use]
    pub const fn size(&self) -> BookSize {
        self.size
    }

    /// The channel in a slot; `None` when the slot is empty or beyond the book.
    #[must_use]
    pub fn slot(&self, slot: u16) -> Option<&Slot> {
        self.slots.get(usize::from(slot)).and_then(Option::as_ref)
    }

    /// The slot of a channel.
    #[must_use]
    pub fn find(&self, uid: &ChannelId) -> Option<u16> {
        self.index.get(uid).copied()
    }

    /// Every channel with its slot, slots ascending.
    pub fn channels(&self) -> impl Iterator<Item = (u16, &Slot)> {
        (0..self.size.slots()).filter_map(|slot| self.slot(slot).map(|channel| (slot, channel)))
    }

    /// The empty slots, ascending.
    pub fn free_slots(&self) -> impl Iterator<Item = u16> {
        (0..self.size.slots()).filter(|slot| self.slot(*slot).is_none())
    }

    /// The root (L-3).
    #[must_use]
    pub fn root(&self) -> Fr {
        self.root_over(self.static_root())
    }

    /// The root of an empty book: what the ledger's tier is deployed with.
    #[must_use]
    pub fn empty_root(size: BookSize) -> Fr {
        Self::empty(size).root()
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = SlotFields> {
        self.slots.iter().map(|slot| SlotFields::from(slot.as_ref()))
    }

    /// The root of the static tree: it does not depend on what is settled.
    pub(crate) fn static_root(&self) -> Fr {
        tree(Tag::StaticNode, &self.static_leaves())
    }

    pub(crate) fn static_leaves(&self) -> Vec<Fr> {
        let empty = SlotFields::default().static_leaf();
        self.slots.iter().map(|slot| slot.as_ref().map_or(empty, |slot| SlotFields::from(Some(slot)).static_leaf())).collect()
    }

    /// The root, given that of the static tree.
    pub(crate) fn root_over(&self, static_root: Fr) -> Fr {
        let settled: Vec<Fr> = self.slots.iter().map(|slot| slot.as_ref().map_or(Fr::ZERO, |slot| Fr::from(slot.settled_nanos))).collect();
        hash(Tag::Book, &[static_root, tree(Tag::DynamicNode, &settled)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{book, key_x, size, uid};

    #[test]
    fn a_size_is_1_to_4096() {
        for slots in [0, 4097, usize::MAX] {
            assert_eq!(BookSize::new(slots), Err(CircuitError::BookSize { slots }));
        }
        assert_eq!(BookSize::new(4096).map(BookSize::to_usize), Ok(4096));
        assert!(BookSize::STANDARD.iter().all(|size| BookSize::new(size.to_usize()) == Ok(*size)));
    }

    #[test]
    fn a_snapshot_gives_the_same_book() {
        let original = book(5, &[10, 0, 30]);
        let channels: Vec<(u16, Slot)> = original.channels().map(|(slot, channel)| (slot, *channel)).collect();
        assert_eq!(Book::from_channels(size(5), channels.iter().copied().rev()), Ok(original.clone()));
        assert_eq!(original.free_slots().collect::<Vec<_>>(), [1, 3, 4]);

        let check = |channels: &[(u16, Slot)], expected: CircuitError| {
            assert_eq!(Book::from_channels(size(5), channels.iter().copied()), Err(expected));
        };
        let [(_, first), (_, second)] = channels[..] else { panic!("two channels") };
        check(&[(0, first), (0, second)], CircuitError::SlotOccupied { slot: 0, held_by: uid(0) });
        check(&[(0, first), (1, first)], CircuitError::AlreadyOpen { uid: uid(0), slot: 0 });
        check(&[(5, first)], CircuitError::NoSuchSlot { slot: 5, slots: 5 });
    }

    #[test]
    fn a_slot_keeps_its_invariants() {
        let zero = ChannelId::from_uid(&[0; 31]);
        assert_eq!(Slot::new(3, zero, key_x(1), 1, 0), Err(CircuitError::ZeroIdentity { slot: 3 }));
        assert_eq!(Slot::new(3, uid(1), Fr::ZERO, 1, 0), Err(CircuitError::ZeroIdentity { slot: 3 }));
        let above = CircuitError::AboveDeposit { slot: 3, deposit_nanos: 1, cumulative_nanos: 2 };
        assert_eq!(Slot::new(3, uid(1), key_x(1), 1, 2), Err(above));
    }

    #[test]
    fn the_root_depends_on_every_field_and_on_the_slot() {
        let channel = Slot::new(0, uid(1), key_x(1), 9, 5).expect("a slot");
        let root = |slot: u16, channel: Slot| Book::from_channels(size(3), [(slot, channel)]).expect("one channel").root();
        let mut roots = vec![
            Book::empty_root(size(3)),
            root(0, channel),
            root(1, channel),
            root(0, Slot { uid: uid(2), ..channel }),
            root(0, Slot { key_x: key_x(2), ..channel }),
            root(0, Slot { deposit_nanos: 8, ..channel }),
            root(0, Slot { settled_nanos: 4, ..channel }),
        ];
        roots.sort();
        roots.dedup();
        assert_eq!(roots.len(), 7);
    }
}
