//! Which requests of a ledger's queue one `register` serves, and into which slots its openings go (L-6, L-16, L-19).
//!
//! Whoever serves the queue plans with this: a node, and a payer who leaves alone.

use std::collections::{BTreeMap, BTreeSet};

use millstream_types::{BookId, ChannelId, Tier};

/// Gas of one `register`, at most: below the 2^24 that one transaction may have (EIP-7825).
const GAS_MAX: u64 = 14_000_000;

/// Gas of a registration of one book: its proof check and root.
const BOOK_GAS: u64 = 300_000;

/// Gas of serving one request, at most: a close writes a credit and a channel.
const REQUEST_GAS: u64 = 50_000;

/// Bytes of calldata of one `register`, at most: nodes take transactions of up to 128 KiB.
const BYTES_MAX: u64 = 110_000;

/// Calldata of one book: root, commitment, proof and offsets.
const BOOK_BYTES: u64 = 512;

/// Calldata of one request with a row of its own.
const REQUEST_BYTES: u64 = 12 * 32;

/// What a waiting request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueuedKind {
    /// A channel in an empty slot.
    Open,
    /// A larger deposit.
    TopUp,
    /// A channel's end.
    Close,
    /// Nothing any more: its channel's opening was cancelled (L-24). It is presented and has no row.
    Void,
}

/// A waiting request, as planning sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedRequest {
    /// The channel.
    pub uid: ChannelId,
    /// What is asked for.
    pub kind: QueuedKind,
    /// The book that the channel is in, if it is in one.
    pub book: Option<BookId>,
}

/// Where a request is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In a row of a book.
    Row {
        /// The book.
        book: BookId,
        /// The slot of an `open`; the others are found by uid.
        slot: Option<u16>,
    },
    /// Nowhere: it is void.
    Void,
}

/// Places for the longest prefix of the queue that fits one transaction.
///
/// `sizes` are the slots of a book of each tier; `occupied` the slots in use of each book that was ever written. An opening goes into a book that
/// the transaction changes anyway, else into one that is in use and has room, else into a new one of the smallest tier that holds the openings
/// that are left. Among several it goes into the fullest that holds all of them, so that few slots idle, and if none does into the one with the
/// most room, so that few books change. A book without a channel is as good as a new one. The prefix ends before the first request that cannot be served: of a channel that is in no book, or an opening without a slot.
#[must_use]
pub fn plan_register(sizes: &[u16], occupied: &BTreeMap<BookId, BTreeSet<u16>>, queue: &[QueuedRequest]) -> Vec<Placement> {
    let mut slots = FreeSlots::new(sizes, occupied);
    let mut opened: BTreeMap<ChannelId, BookId> = BTreeMap::new();
    let mut books: BTreeSet<BookId> = BTreeSet::new();
    let mut opens_left = queue.iter().filter(|request| request.kind == QueuedKind::Open).count();
    let (mut gas, mut bytes) = (0, 0);
    let mut placed = Vec::new();
    for request in queue {
        let placement = match request.kind {
            QueuedKind::Open => slots.take(&books, opens_left).map(|(book, slot)| {
                opens_left -= 1;
                opened.insert(request.uid, book);
                Placement::Row { book, slot: Some(slot) }
            }),
            QueuedKind::TopUp | QueuedKind::Close => {
                request.book.or_else(|| opened.get(&request.uid).copied()).map(|book| Placement::Row { book, slot: None })
            }
            QueuedKind::Void => Some(Placement::Void),
        };
        let Some(placement) = placement else { break };
        let new_book = match placement {
            Placement::Row { book, .. } => (!books.contains(&book)).then_some(book),
            Placement::Void => None,
        };
        gas += REQUEST_GAS + if new_book.is_some() { BOOK_GAS } else { 0 };
        bytes += REQUEST_BYTES + if new_book.is_some() { BOOK_BYTES } else { 0 };
        if gas > GAS_MAX || bytes > BYTES_MAX {
            break;
        }
        books.extend(new_book);
        placed.push(placement);
    }
    placed
}

/// Empty slots, in existing books first.
struct FreeSlots<'a> {
    sizes: &'a [u16],
    free: BTreeMap<BookId, BTreeSet<u16>>,
}

impl<'a> FreeSlots<'a> {
    fn new(sizes: &'a [u16], occupied: &BTreeMap<BookId, BTreeSet<u16>>) -> Self {
        let mut free = BTreeMap::new();
        for (book, taken) in occupied.iter().filter(|(_, taken)| !taken.is_empty()) {
            if let Some(size) = sizes.get(usize::from(book.tier().index())) {
                free.insert(*book, (0..*size).filter(|slot| !taken.contains(slot)).collect());
            }
        }
        Self { sizes, free }
    }

    /// A slot for an `open`, `opens_left` of which wait, this one included.
    fn take(&mut self, planned: &BTreeSet<BookId>, opens_left: usize) -> Option<(BookId, u16)> {
        let room = |book: &BookId| self.free.get(book).map(|slots| (*book, slots.len())).filter(|(_, room)| *room > 0);
        let book =
            best_fit(planned.iter().filter_map(room), opens_left).or_else(|| best_fit(self.free.keys().filter_map(room), opens_left));
        let book = match book {
            Some(book) => book,
            None => self.new_book(opens_left)?,
        };
        self.free.get_mut(&book)?.pop_first().map(|slot| (book, slot))
    }

    /// A book under the lowest number that is not in use.
    fn new_book(&mut self, opens_left: usize) -> Option<BookId> {
        let fitting = self.sizes.iter().enumerate().filter(|(_, size)| usize::from(**size) >= opens_left).min_by_key(|(_, size)| **size);
        let largest = || self.sizes.iter().enumerate().max_by_key(|(_, size)| **size);
        let (tier, size) = fitting.or_else(largest)?;
        let tier = Tier::new(u8::try_from(tier).ok()?);
        let unused = |number: &u32| BookId::new(tier, *number).is_ok_and(|book| !self.free.contains_key(&book));
        let book = BookId::new(tier, (0..1 << 24).find(unused)?).ok()?;
        self.free.insert(book, (0..*size).collect());
        Some(book)
    }
}

/// The book with the least room that holds so many channels; if there is none, the one with the most. Of equals the first.
fn best_fit(books: impl Iterator<Item = (BookId, usize)>, channels: usize) -> Option<BookId> {
    books
        .min_by_key(|(book, room)| (*room < channels, if *room < channels { usize::MAX - room } else { *room }, *book))
        .map(|(book, _)| book)
}

#[cfg(test)]
mod tests {
    use super::QueuedKind::{Close, Open, TopUp, Void};
    use super::*;
    use crate::testing::uid;

    const SIZES: [u16; 2] = [4, 8];

    fn book(tier: u8, number: u32) -> BookId {
        BookId::new(Tier::new(tier), number).expect("small")
    }

    fn plan(occupied: &[(BookId, &[u16])], queue: &[(QueuedKind, u16, Option<BookId>)]) -> Vec<(String, Option<u16>)> {
        let occupied = occupied.iter().map(|(book, slots)| (*book, slots.iter().copied().collect())).collect();
        let queue: Vec<_> =
            queue.iter().map(|(kind, number, book)| QueuedRequest { uid: uid(*number), kind: *kind, book: *book }).collect();
        let shown = |placed: &Placement| match placed {
            Placement::Row { book, slot } => (book.to_string(), *slot),
            Placement::Void => ("void".to_owned(), None),
        };
        plan_register(&SIZES, &occupied, &queue).iter().map(shown).collect()
    }

    #[test]
    fn a_request_goes_where_its_channel_is_or_will_be() {
        let place = |book: &str, slot| (book.to_owned(), slot);
        assert_eq!(plan(&[], &[]), []);
        let queue = [(Open, 1, None), (TopUp, 1, None), (Close, 9, Some(book(1, 3))), (Close, 1, None)];
        let expected = [place("0:0", Some(0)), place("0:0", None), place("1:3", None), place("0:0", None)];
        assert_eq!(plan(&[(book(1, 3), &[0, 1, 2, 3, 4, 5, 6, 7])], &queue), expected);
        // A void request needs no place, and takes none from the others.
        let voided = plan(&[], &[(Void, 1, None), (Void, 1, None), (Open, 2, None)]);
        assert_eq!(voided, [place("void", None), place("void", None), place("0:0", Some(0))]);
        // A channel that is nowhere ends the prefix.
        assert_eq!(plan(&[], &[(Open, 1, None), (TopUp, 2, None), (Open, 3, None)]).len(), 1);
    }

    #[test]
    fn openings_fill_books_before_new_ones_are_made() {
        let opens: Vec<_> = (10..16).map(|number| (Open, number, None)).collect();
        let filled = [("0:0", 2), ("0:0", 3), ("0:1", 0), ("0:1", 1), ("0:1", 2), ("0:1", 3)];
        assert_eq!(plan(&[(book(0, 0), &[0, 1])], &opens), filled.map(|(book, slot)| (book.to_owned(), Some(slot))));
        // Six at once go into one book of the size that holds them.
        assert!(plan(&[], &opens).iter().all(|(book, _)| book == "1:0"));
    }

    #[test]
    fn openings_go_where_few_slots_idle() {
        let books: [(BookId, &[u16]); 4] =
            [(book(1, 0), &[0]), (book(1, 1), &[0, 1, 2, 3, 4]), (book(1, 2), &[0, 1, 3, 4, 5]), (book(0, 0), &[])];
        let check = |opens: u16, expected: &[(&str, u16)]| {
            let opens: Vec<_> = (10..10 + opens).map(|number| (Open, number, None)).collect();
            let expected: Vec<_> = expected.iter().map(|(book, slot)| ((*book).to_owned(), Some(*slot))).collect();
            assert_eq!(plan(&books, &opens), expected);
        };
        // The fullest one that holds all, the first of equals; a book without channels comes last.
        check(1, &[("1:1", 5)]);
        check(3, &[("1:1", 5), ("1:1", 6), ("1:1", 7)]);
        check(4, &[("1:0", 1), ("1:0", 2), ("1:0", 3), ("1:0", 4)]);
        // None holds eight: as few books as can be.
        let eight = [("1:0", 1), ("1:0", 2), ("1:0", 3), ("1:0", 4), ("1:0", 5), ("1:0", 6), ("1:0", 7), ("1:1", 5)];
        check(8, &eight);
        // A book that the transaction changes anyway is taken before.
        let queue = [(TopUp, 1, Some(book(1, 0))), (Open, 10, None)];
        assert_eq!(plan(&books, &queue)[1], ("1:0".to_owned(), Some(1)));
    }

    #[test]
    fn one_transaction_has_its_limits() {
        let many: Vec<_> = (0..400).map(|number| (TopUp, number, Some(book(0, 0)))).collect();
        assert_eq!(plan(&[(book(0, 0), &[])], &many).len(), 274);
        let apart: Vec<_> = (0..400).map(|number| (TopUp, number, Some(book(0, u32::from(number))))).collect();
        assert_eq!(plan(&[], &apart).len(), 40);
    }
}
