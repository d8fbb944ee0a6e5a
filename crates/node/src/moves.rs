//! Which channels to move so that fewer books are settled (L-30, L-31): a pure function of the engine's state.
//!
//! A settled book costs a proof and its share of gas however few of its channels pay. Closes leave slots empty, so the books of a tier come to hold less than
//! they could. Moving the channels of the emptiest into the others saves that with every settlement, and costs once. It is never urgent: it is planned when
//! nothing waits in the queue, one transaction a pass, and given up when something comes.

use std::collections::{BTreeMap, BTreeSet};

use millstream_engine::Location;
use millstream_types::{BookId, ChannelId};

use crate::plan::View;

/// Gas of a transaction that moves: its base and what the first proof costs more than the others.
const MOVE_BASE_GAS: u64 = 200_000;

/// Gas of each book that a move empties or fills: its share of the proofs' check, its root, its event.
const MOVE_BOOK_GAS: u64 = 75_000;

/// Gas of a moved channel: two rows of calldata and their part of the polynomials, two events, a look at the channel.
const MOVE_CHANNEL_GAS: u64 = 15_500;

/// Gas that each settlement saves for a book less: its share of the proofs' check, its root, its event, its calldata.
const SAVED_BOOK_GAS: u64 = 80_000;

/// Books that one transaction changes, at most: a proof for each.
const MOVE_BOOKS_MAX: usize = 8;

/// Channels that one transaction moves, at most: nodes take transactions of up to 128 KiB, and two rows are 384 bytes.
const MOVE_CHANNELS_MAX: usize = 256;

/// One channel goes to another slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) channel: ChannelId,
    pub(crate) from: Location,
    pub(crate) to: Location,
}

/// The moves of one transaction, in the order in which the ledger pairs their ends: by book and slot, those that they leave as well as those that they go to.
/// No book is both left and filled.
///
/// Books outside `settled` cost nothing at a settlement: they are neither emptied nor filled. Nothing is moved unless the gas that it costs is saved within
/// `within_settlements` settlements; 0 moves nothing, ever.
pub(crate) fn plan_moves(view: &View, sizes: &[u16], settled: &BTreeSet<BookId>, within_settlements: u32) -> Vec<Move> {
    if within_settlements == 0 || !view.queue.is_empty() {
        return Vec::new();
    }
    let mut tiers: BTreeMap<u8, Vec<Candidate>> = BTreeMap::new();
    for (book, slots) in view.books.iter().filter(|(book, slots)| settled.contains(book) && !slots.is_empty()) {
        let Some(size) = sizes.get(usize::from(book.tier().index())) else { continue };
        let free = (0..*size).filter(|slot| !slots.contains_key(slot)).collect();
        tiers.entry(book.tier().index()).or_default().push(Candidate { book: *book, channels: slots.len(), free });
    }
    let plans = tiers.into_values().filter_map(|books| best_of_tier(books, within_settlements));
    let Some(plan) = plans.max_by_key(|plan| plan.gain) else { return Vec::new() };
    let from = plan.sources.iter().flat_map(|book| {
        let slots = view.books.get(book).into_iter().flatten();
        slots.map(|(slot, channel)| (*channel, Location { book: *book, slot: *slot }))
    });
    from.zip(plan.targets).map(|((channel, from), to)| Move { channel, from, to }).collect()
}

/// A book as far as moving goes.
#[derive(Clone)]
struct Candidate {
    book: BookId,
    channels: usize,
    free: Vec<u16>,
}

struct TierPlan {
    /// Books to be emptied, ascending.
    sources: BTreeSet<BookId>,
    /// Slots to be filled, ascending, as many as the sources have channels.
    targets: Vec<Location>,
    /// Gas saved within the settlements that are looked at, less that of the moves.
    gain: u64,
}

/// Empties the sparsest books, as many as gain the most.
fn best_of_tier(mut books: Vec<Candidate>, within_settlements: u32) -> Option<TierPlan> {
    books.sort_by_key(|candidate| (candidate.channels, candidate.book));
    (1..books.len())
        .filter_map(|sources| {
            let (sparse, others) = books.split_at(sources);
            let channels = sparse.iter().map(|candidate| candidate.channels).sum::<usize>();
            let targets = fill(others, channels)?;
            let filled = targets.iter().map(|slot| slot.book).collect::<BTreeSet<_>>().len();
            let changed = sources + filled;
            if channels > MOVE_CHANNELS_MAX || changed > MOVE_BOOKS_MAX {
                return None;
            }
            // A few hundred channels and a few books: nowhere near 2^64.
            let cost = MOVE_BASE_GAS + MOVE_BOOK_GAS * changed as u64 + MOVE_CHANNEL_GAS * channels as u64;
            let gain = (SAVED_BOOK_GAS * sources as u64).saturating_mul(within_settlements.into()).checked_sub(cost)?;
            Some(TierPlan { sources: sparse.iter().map(|candidate| candidate.book).collect(), targets, gain })
        })
        // Of equals the one that moves less, which comes first.
        .reduce(|best, plan| if plan.gain > best.gain { plan } else { best })
}

/// Free slots for so many channels, ascending: in the fullest book that has room for all that are left, or else in the one with the most room. `None` when
/// there are not enough.
fn fill(books: &[Candidate], channels: usize) -> Option<Vec<Location>> {
    let mut open: Vec<&Candidate> = books.iter().filter(|candidate| !candidate.free.is_empty()).collect();
    let mut taken = Vec::with_capacity(channels);
    while taken.len() < channels {
        let left = channels - taken.len();
        let fit = |candidate: &&&Candidate| {
            let room = candidate.free.len();
            (room < left, if room < left { usize::MAX - room } else { room }, candidate.book)
        };
        let best = open.iter().min_by_key(fit).map(|candidate| candidate.book)?;
        let position = open.iter().position(|candidate| candidate.book == best)?;
        let candidate = open.swap_remove(position);
        taken.extend(candidate.free.iter().take(left).map(|slot| Location { book: best, slot: *slot }));
    }
    taken.sort_unstable();
    Some(taken)
}

#[cfg(test)]
mod tests {
    use millstream_engine::{Request, RequestKind};
    use millstream_types::{Amount, Tier, Timestamp};

    use super::*;

    const SIZES: [u16; 2] = [8, 400];

    fn book(tier: u8, number: u32) -> BookId {
        BookId::new(Tier::new(tier), number).expect("small")
    }

    fn channel(number: u32) -> ChannelId {
        let mut uid = [7; 31];
        uid[..4].copy_from_slice(&number.to_be_bytes());
        ChannelId::from_uid(&uid)
    }

    /// Books with channels in the slots from `first` up; each channel is named after its book and slot.
    fn view(books: &[(BookId, u16, u16)]) -> View {
        let slots = |book: BookId, first: u16, count: u16| {
            let name = move |slot: u16| channel(u32::from(book.tier().index()) * 1_000_000 + book.number() * 1_000 + u32::from(slot));
            (first..first + count).map(|slot| (slot, name(slot))).collect::<BTreeMap<_, _>>()
        };
        let books = books.iter().map(|(book, first, count)| (*book, slots(*book, *first, *count))).collect();
        View { queue: Vec::new(), channels: BTreeMap::new(), books, epochs: Vec::new() }
    }

    fn all(view: &View) -> BTreeSet<BookId> {
        view.books.keys().copied().collect()
    }

    /// `tier:number/slot>tier:number/slot` for each move.
    fn shown(moves: &[Move]) -> Vec<String> {
        moves.iter().map(|m| format!("{}/{}>{}/{}", m.from.book, m.from.slot, m.to.book, m.to.slot)).collect()
    }

    fn check(books: &[(BookId, u16, u16)], expected: &[&str]) {
        let view = view(books);
        let moves = plan_moves(&view, &SIZES, &all(&view), 1_000);
        assert_eq!(shown(&moves), expected);
        for planned in &moves {
            assert_eq!(view.books[&planned.from.book][&planned.from.slot], planned.channel);
        }
    }

    #[test]
    fn the_sparsest_books_are_emptied_into_fuller_ones() {
        check(&[], &[]);
        check(&[(book(0, 0), 0, 3)], &[]);
        check(&[(book(0, 0), 0, 3), (book(0, 1), 2, 2)], &["0:1/2>0:0/3", "0:1/3>0:0/4"]);
        // The fullest that holds them.
        check(&[(book(0, 0), 0, 4), (book(0, 1), 0, 6), (book(0, 2), 5, 2)], &["0:2/5>0:1/6", "0:2/6>0:1/7"]);
        // Books of other tiers are no place for them; and what is full has no room.
        check(&[(book(0, 0), 0, 8), (book(0, 1), 0, 1), (book(1, 0), 0, 3)], &[]);
        check(&[(book(0, 0), 0, 5), (book(0, 1), 0, 4)], &[]);
        // Two are emptied into two; both ends ascend.
        let four = [(book(0, 0), 0, 2), (book(0, 1), 0, 6), (book(0, 2), 0, 2), (book(0, 3), 2, 6)];
        check(&four, &["0:0/0>0:1/6", "0:0/1>0:1/7", "0:2/0>0:3/0", "0:2/1>0:3/1"]);
        // Three are as good as one.
        check(&[(book(0, 0), 0, 1), (book(0, 1), 0, 1), (book(0, 2), 0, 2)], &["0:0/0>0:2/2", "0:1/0>0:2/3"]);
        // A book that was emptied is no book any more.
        check(&[(book(0, 0), 0, 0), (book(0, 1), 0, 3)], &[]);
    }

    #[test]
    fn nothing_is_moved_that_is_not_worth_it() {
        let two = view(&[(book(0, 0), 0, 3), (book(0, 1), 0, 2)]);
        let count = |view: &View, settled: &BTreeSet<BookId>, within| plan_moves(view, &SIZES, settled, within).len();
        let within = (MOVE_BASE_GAS + 2 * MOVE_BOOK_GAS + 2 * MOVE_CHANNEL_GAS).div_ceil(SAVED_BOOK_GAS);
        let within = u32::try_from(within).expect("few");
        assert_eq!([0, 1, within - 1, within].map(|within| count(&two, &all(&two), within)), [0, 0, 0, 2]);
        // A book that is not settled costs nothing, and is filled with nothing.
        let three = view(&[(book(0, 0), 0, 1), (book(0, 1), 0, 2), (book(0, 2), 0, 3)]);
        assert_eq!(count(&three, &BTreeSet::new(), 1_000), 0);
        assert_eq!(count(&three, &BTreeSet::from([book(0, 1)]), 1_000), 0);
        let moves = plan_moves(&three, &SIZES, &BTreeSet::from([book(0, 0), book(0, 2)]), 1_000);
        assert_eq!(shown(&moves), ["0:0/0>0:2/3"]);
    }

    #[test]
    fn nothing_is_moved_while_a_request_waits() {
        let mut view = view(&[(book(0, 0), 0, 3), (book(0, 1), 0, 2)]);
        let request =
            Request { kind: RequestKind::TopUp, channel: channel(1), amount: Amount::from_nanos(1), requested_at: Timestamp::default() };
        view.queue.push((0, request));
        assert_eq!(plan_moves(&view, &SIZES, &all(&view), 1_000), []);
    }

    #[test]
    fn one_transaction_has_its_limits() {
        let largest =
            |channels: u16| plan_with(&[(book(1, 0), 0, 300), (book(1, 1), 0, 300), (book(1, 2), 0, 300), (book(1, 3), 0, channels)]);
        assert_eq!((largest(256).len(), largest(257).len()), (256, 0));
        // Ten books of one channel each: seven go into one, the others wait for another pass.
        let many: Vec<_> = (0..10).map(|number| (book(0, number), 0, 1)).collect();
        let moves = plan_with(&many);
        assert_eq!(moves.len(), 7);
        assert_eq!(moves.iter().map(|planned| planned.to.book).collect::<BTreeSet<_>>().len(), 1);
    }

    fn plan_with(books: &[(BookId, u16, u16)]) -> Vec<Move> {
        let view = view(books);
        plan_moves(&view, &SIZES, &all(&view), 1_000)
    }

    #[test]
    fn the_tier_that_gains_most_comes_first() {
        let view = view(&[(book(0, 0), 0, 1), (book(0, 1), 0, 1), (book(1, 0), 0, 1), (book(1, 1), 0, 1), (book(1, 2), 0, 1)]);
        let moves = plan_moves(&view, &SIZES, &all(&view), 1_000);
        assert_eq!(moves.iter().map(|planned| planned.from.book.tier().index()).collect::<Vec<_>>(), [1, 1]);
    }
}
