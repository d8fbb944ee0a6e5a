//! What to put on the chain next: a pure function of the engine's state.
//!
//! Two kinds of transaction. `register` serves a prefix of the ledger's queue; `settle` collects the best voucher of every channel that has
//! one and anchors sealed epochs. A close is served only after the channel's best voucher is settled, so a provider that is in time loses
//! nothing by closing. One that is late does: the ledger settles nothing while a request is overdue (L-6), so an overdue close is served as it
//! is, and what was not settled on that channel is lost.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use millstream_circuit::{Placement, QueuedKind, QueuedRequest};
use millstream_engine::{Channel, ChannelStatus, Engine, EpochRecord, Request, RequestKind};
use millstream_types::{Amount, BookId, ChannelId, CumulativeAmount, Timestamp};
use millstream_voucher::VerifiedVoucher;

use crate::core::{Core, Stopped};
use crate::gas::GasTerms;

/// Books in one `settle`, at most: each more makes the others cheaper by less, and what was paid meanwhile waits for all their proofs.
const SETTLE_BOOKS_MAX: usize = 8;

/// Gas of one `settle`, at most, as for `register`.
const SETTLE_GAS_MAX: u64 = 14_000_000;

/// Gas of a settled book besides its slots: its share of the proofs' check, its root, its event.
const SETTLE_BOOK_GAS: u64 = 280_000;

/// Gas of a slot: eight bytes of calldata that are not zero, and their part of the polynomial.
const SETTLE_SLOT_GAS: u64 = 160;

/// What a `settle` costs besides its books, about, by which it is weighed: the transaction, and one check of proofs.
const SETTLE_FIXED_GAS: u64 = 200_000;

/// What a book besides others costs, about, by which it is weighed.
const SETTLE_SHARE_GAS: u64 = 55_000;

/// Bytes of calldata of the books of one `settle`, at most. The call and the epochs take 4,228 more; nodes pass on transactions of 131,072.
const SETTLE_BYTES_MAX: u64 = 110_000;

/// Calldata of one book besides its slots (L-32).
const SETTLE_BOOK_BYTES: u64 = 336;

/// Calldata of a slot.
const SETTLE_SLOT_BYTES: u64 = 8;

/// Epoch roots in one `settle`, at most.
const SETTLE_EPOCHS_MAX: usize = 64;

/// A channel as the planner sees it. Amounts in nanos.
#[derive(Clone, Debug)]
pub(crate) struct PlannedChannel {
    pub(crate) id: ChannelId,
    pub(crate) key_x: [u8; 32],
    pub(crate) registered: Amount,
    pub(crate) settled: CumulativeAmount,
    pub(crate) accepted: Option<VerifiedVoucher>,
    pub(crate) book: Option<BookId>,
    /// Closed for ever. What still waits in the queue of such a channel is void: its opening was cancelled (L-24).
    pub(crate) closed: bool,
}

impl PlannedChannel {
    fn of(channel: &Channel) -> Self {
        Self {
            id: channel.id(),
            key_x: *channel.key_x(),
            registered: channel.registered(),
            settled: channel.settled(),
            accepted: channel.accepted(),
            book: channel.location().map(|location| location.book),
            closed: channel.status() == ChannelStatus::Closed,
        }
    }

    fn accepted_total(&self) -> CumulativeAmount {
        self.accepted.map_or(CumulativeAmount::ZERO, |voucher| voucher.body().cumulative)
    }

    pub(crate) fn unsettled(&self) -> Amount {
        self.accepted_total().delta_since(self.settled).unwrap_or(Amount::ZERO)
    }
}

/// The engine's state, as far as settlement goes.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) queue: Vec<(u64, Request)>,
    pub(crate) channels: BTreeMap<ChannelId, PlannedChannel>,
    pub(crate) books: BTreeMap<BookId, BTreeMap<u16, ChannelId>>,
    pub(crate) epochs: Vec<EpochRecord>,
}

/// Requests that one look at the queue takes, at most: many times what a `register` serves.
const VIEW_REQUESTS_MAX: usize = 4_096;

/// Channels that one look at the engine takes, about: payments wait for it, for a millisecond or two.
const VIEW_CHANNELS_STEP: usize = 4_096;

/// How often a view is begun again because the chain changed something meanwhile. After that it is read at once, and payments wait.
const VIEW_TRIES_MAX: u32 = 5;

/// How far a view got, and what the chain had told when it was begun.
#[derive(Default)]
struct Progress {
    facts: Option<u64>,
    last: Option<BookId>,
}

impl View {
    /// The state of a core, read between its ticks, a part at a time. The parts belong together: what only payments change may be newer in
    /// one than in another, what the chain decides is not.
    pub(crate) async fn read(core: &Core) -> Result<Self, Stopped> {
        for _ in 0..VIEW_TRIES_MAX {
            let (mut view, mut progress) = (Self::empty(), Progress::default());
            loop {
                let step = move |engine: &Engine| {
                    let outcome = view.step(engine, &mut progress, VIEW_CHANNELS_STEP);
                    (view, progress, outcome)
                };
                let outcome;
                (view, progress, outcome) = core.query(step).await?;
                match outcome {
                    Step::Done => return Ok(view),
                    Step::More => {}
                    Step::Stale => break,
                }
            }
        }
        core.query(|engine| {
            let mut view = Self::empty();
            view.step(engine, &mut Progress::default(), usize::MAX);
            view
        })
        .await
    }

    fn empty() -> Self {
        Self { queue: Vec::new(), channels: BTreeMap::new(), books: BTreeMap::new(), epochs: Vec::new() }
    }

    /// Takes the next books, with about so many channels; the queue and its channels, first of all. A channel that is alive is in a book
    /// or waits in the queue to be.
    fn step(&mut self, engine: &Engine, progress: &mut Progress, channels_max: usize) -> Step {
        match progress.facts {
            None => {
                progress.facts = Some(engine.facts());
                self.epochs = engine.unanchored_epochs().copied().collect();
                self.queue = engine.queue().iter().take(VIEW_REQUESTS_MAX).map(|(index, request)| (index, *request)).collect();
                for (_, request) in &self.queue {
                    let channel = engine.channel(&request.channel);
                    self.channels.extend(channel.map(|channel| (channel.id(), PlannedChannel::of(channel))));
                }
            }
            Some(facts) if facts != engine.facts() => return Step::Stale,
            Some(_) => {}
        }
        let mut taken = 0;
        for (book, slots) in engine.books_after(progress.last) {
            let mut occupied = BTreeMap::new();
            for (slot, channel) in slots {
                occupied.insert(slot, channel.id());
                self.channels.insert(channel.id(), PlannedChannel::of(channel));
            }
            taken += occupied.len();
            self.books.insert(book, occupied);
            progress.last = Some(book);
            if taken >= channels_max {
                return Step::More;
            }
        }
        Step::Done
    }
}

enum Step {
    More,
    Done,
    /// The chain said something since the view was begun.
    Stale,
}

/// One served request: its position, what was asked, and the book it changes; none when it is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) index: u64,
    pub(crate) request: Request,
    pub(crate) book: Option<BookId>,
    /// The slot of an `open`.
    pub(crate) slot: Option<u16>,
}

/// A channel whose money cannot be collected or returned yet, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Waiting {
    pub(crate) channel: ChannelId,
    pub(crate) reason: &'static str,
}

/// What is collected from one book.
#[derive(Clone, Debug)]
pub(crate) struct PlannedBook {
    pub(crate) book: BookId,
    /// The best voucher of each channel that has something unsettled, by slot.
    pub(crate) vouchers: BTreeMap<u16, VerifiedVoucher>,
    /// What they add to what is settled.
    pub(crate) total: Amount,
    /// Slots of channels whose close is asked for.
    pub(crate) closing: BTreeSet<u16>,
    /// When the first of those was asked for.
    closing_since: Option<Timestamp>,
}

/// What makes a book worth a place in a settlement; a closing channel always does. Amounts in nanos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Floor {
    /// The least that it must collect.
    pub(crate) least: Amount,
    /// How gas is weighed.
    pub(crate) gas: GasTerms,
    /// What a unit of it costs, in wei.
    pub(crate) wei_per_gas: u128,
    /// From here on it is taken whatever gas costs: more must not rest on one book's vouchers.
    pub(crate) risk_max: Option<Amount>,
}

impl Floor {
    /// Whatever there is.
    pub(crate) const NONE: Self = Self { least: Amount::ZERO, gas: GasTerms::FREE, wei_per_gas: 0, risk_max: None };

    /// Whether a book that collects so much is taken whatever it costs.
    fn is_urgent(&self, book: &PlannedBook) -> bool {
        book.closing_since.is_some() || self.risk_max.is_some_and(|max| book.total >= max)
    }

    /// Whether so much pays for so much gas.
    fn pays(&self, total: Amount, gas: u64) -> bool {
        self.gas.pay(total, self.wei_per_gas.saturating_mul(gas.into()))
    }
}

/// A `settle` transaction to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettlePlan {
    pub(crate) books: Vec<PlannedBook>,
    pub(crate) epochs: Vec<EpochRecord>,
    pub(crate) waiting: Vec<Waiting>,
}

/// What bounds a `register`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegisterBounds<'a> {
    /// The slots of a book of each tier.
    pub(crate) sizes: &'a [u16],
    /// Requests made before this moment are overdue.
    pub(crate) overdue_before: Timestamp,
    /// Requests from this position on are left for later.
    pub(crate) end: u64,
}

/// The requests that the next `register` serves: the longest prefix of the queue that can be served and fits one transaction.
pub(crate) fn plan_register(view: &View, bounds: RegisterBounds<'_>) -> Vec<Served> {
    let RegisterBounds { sizes, overdue_before, end } = bounds;
    let is_ready = |request: &Request| match request.kind {
        RequestKind::Open | RequestKind::TopUp => view.channels.contains_key(&request.channel),
        RequestKind::Close => view
            .channels
            .get(&request.channel)
            .is_some_and(|channel| channel.closed || channel.unsettled().is_zero() || request.requested_at < overdue_before),
    };
    let ready: Vec<(u64, Request)> = view.queue.iter().take_while(|(index, request)| *index < end && is_ready(request)).copied().collect();
    let queue: Vec<QueuedRequest> = ready.iter().map(|(_, request)| queued(view, request)).collect();
    let occupied = view.books.iter().map(|(book, slots)| (*book, slots.keys().copied().collect())).collect();
    let placed = millstream_circuit::plan_register(sizes, &occupied, &queue);
    let serve = |(placed, (index, request)): (Placement, (u64, Request))| match placed {
        Placement::Row { book, slot } => Served { index, request, book: Some(book), slot },
        Placement::Void => Served { index, request, book: None, slot: None },
    };
    placed.into_iter().zip(ready).map(serve).collect()
}

fn queued(view: &View, request: &Request) -> QueuedRequest {
    let channel = view.channels.get(&request.channel);
    let kind = match request.kind {
        _ if channel.is_some_and(|channel| channel.closed) => QueuedKind::Void,
        RequestKind::Open => QueuedKind::Open,
        RequestKind::TopUp => QueuedKind::TopUp,
        RequestKind::Close => QueuedKind::Close,
    };
    QueuedRequest { uid: request.channel, kind, book: channel.and_then(|channel| channel.book) }
}

/// What the next `settle` collects, of the books that are not in `done`: those with closing channels first, the one asked for longest ago
/// before the others, since the ledger's deadline runs; then those with the most at risk for their gas. As many as one transaction holds; those
/// that are not worth it by the floor are left out unless a channel of theirs is closing, and so are all that are not urgent when together
/// they do not pay for a transaction.
pub(crate) fn plan_settle(view: &View, sizes: &[u16], done: &BTreeSet<BookId>, floor: Floor) -> SettlePlan {
    let mut plan = SettlePlan::default();
    let mut asked: BTreeMap<ChannelId, Timestamp> = BTreeMap::new();
    for (_, request) in view.queue.iter().filter(|(_, request)| request.kind == RequestKind::Close) {
        asked.entry(request.channel).or_insert(request.requested_at);
    }
    for (book, slots) in view.books.iter().filter(|(book, _)| !done.contains(book)) {
        let mut planned =
            PlannedBook { book: *book, vouchers: BTreeMap::new(), total: Amount::ZERO, closing: BTreeSet::new(), closing_since: None };
        for (slot, id) in slots {
            let Some(channel) = view.channels.get(id).filter(|channel| !channel.unsettled().is_zero()) else { continue };
            match channel.accepted {
                Some(voucher) if voucher.body().cumulative.as_amount() <= channel.registered => {
                    planned.vouchers.insert(*slot, voucher);
                    // At most 4,096 amounts of 64 bits.
                    planned.total = Amount::from_units(planned.total.units() + channel.unsettled().units());
                    if let Some(since) = asked.get(id).copied() {
                        planned.closing.insert(*slot);
                        planned.closing_since = Some(planned.closing_since.map_or(since, |before| before.min(since)));
                    }
                }
                Some(_) | None => plan.waiting.push(Waiting { channel: *id, reason: "a top-up has to be registered first" }),
            }
        }
        let is_worth_it = || planned.total >= floor.least && floor.pays(planned.total, share_of_gas(*book, sizes));
        if !planned.vouchers.is_empty() && (floor.is_urgent(&planned) || is_worth_it()) {
            plan.books.push(planned);
        }
    }
    // `None` is before `Some`, so what has no deadline is told apart first.
    let worth = |book: &PlannedBook| book.total.units().saturating_mul(1_000_000) / u128::from(share_of_gas(book.book, sizes));
    plan.books.sort_by_key(|book| (book.closing_since.is_none(), book.closing_since, Reverse(worth(book)), book.book));
    plan.books.truncate(fitting(&plan.books, sizes));
    if !plan.books.iter().any(|book| floor.is_urgent(book)) {
        let gas = plan.books.iter().map(|book| share_of_gas(book.book, sizes)).sum::<u64>() + SETTLE_FIXED_GAS;
        // At most as many amounts of 96 bits as a transaction has books.
        let total = Amount::from_units(plan.books.iter().map(|book| book.total.units()).sum());
        if !floor.pays(total, gas) {
            plan.books.clear();
        }
    }
    let unbooked = view.channels.values().filter(|channel| channel.book.is_none() && !channel.unsettled().is_zero());
    plan.waiting
        .extend(unbooked.map(|channel| Waiting { channel: channel.id, reason: "the channel has to be registered first" }));
    // Roots go on-chain without a gap, so an epoch whose tree is still being built holds back the later ones.
    plan.epochs = view.epochs.iter().take_while(|epoch| epoch.top.is_some()).take(SETTLE_EPOCHS_MAX).copied().collect();
    plan
}

fn slots_of(book: BookId, sizes: &[u16]) -> u64 {
    sizes.get(usize::from(book.tier().index())).copied().map_or(0, u64::from)
}

/// What a book adds to the gas of a settlement, about.
fn share_of_gas(book: BookId, sizes: &[u16]) -> u64 {
    SETTLE_SHARE_GAS + slots_of(book, sizes) * SETTLE_SLOT_GAS
}

/// How many of the first books fit one transaction.
fn fitting(books: &[PlannedBook], sizes: &[u16]) -> usize {
    let (mut gas, mut bytes) = (0, 0);
    let fits = |planned: &&PlannedBook| {
        let slots = slots_of(planned.book, sizes);
        gas += SETTLE_BOOK_GAS + slots * SETTLE_SLOT_GAS;
        bytes += SETTLE_BOOK_BYTES + slots * SETTLE_SLOT_BYTES;
        gas <= SETTLE_GAS_MAX && bytes <= SETTLE_BYTES_MAX
    };
    books.iter().take(SETTLE_BOOKS_MAX).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use millstream_types::{BillHead, Tier, Timestamp};
    use millstream_voucher::{SecretKey, VoucherBody};

    use super::*;

    const BOUNDS: RegisterBounds<'_> = RegisterBounds { sizes: &[4, 8], overdue_before: Timestamp::from_millis(0), end: u64::MAX };

    fn channel(number: u8) -> ChannelId {
        ChannelId::from_uid(&[number; 31])
    }

    fn voucher(number: u8, cumulative: u64) -> VerifiedVoucher {
        let body = VoucherBody {
            channel: channel(number),
            lines_total: 1,
            cumulative: CumulativeAmount::from_nanos(cumulative),
            bill_head: BillHead::from_bytes([0; 32]),
        };
        SecretKey::from_entropy(&[7; 64]).expect("a key").sign(body).expect("64 bits")
    }

    fn planned(number: u8, registered: u64, settled: u64, accepted: u64, book: Option<BookId>) -> PlannedChannel {
        PlannedChannel {
            id: channel(number),
            key_x: [1; 32],
            registered: Amount::from_nanos(registered),
            settled: CumulativeAmount::from_nanos(settled),
            accepted: (accepted > 0).then(|| voucher(number, accepted)),
            book,
            closed: false,
        }
    }

    /// `booked`: channels in slots of book 0:0, each `(number, registered, settled, accepted)`.
    fn view(booked: &[(u8, u64, u64, u64)], queue: &[(RequestKind, u8)]) -> View {
        let book = BookId::new(Tier::new(0), 0).expect("small");
        let mut view = View { queue: Vec::new(), channels: BTreeMap::new(), books: BTreeMap::new(), epochs: Vec::new() };
        for (slot, (number, registered, settled, accepted)) in booked.iter().enumerate() {
            view.channels.insert(channel(*number), planned(*number, *registered, *settled, *accepted, Some(book)));
            view.books.entry(book).or_default().insert(u16::try_from(slot).expect("few"), channel(*number));
        }
        for (index, (kind, number)) in queue.iter().enumerate() {
            view.channels.entry(channel(*number)).or_insert_with(|| planned(*number, 0, 0, 0, None));
            let request =
                Request { kind: *kind, channel: channel(*number), amount: Amount::from_nanos(1), requested_at: Timestamp::default() };
            view.queue.push((index as u64, request));
        }
        view
    }

    #[test]
    fn a_prefix_of_the_queue_is_served() {
        use RequestKind::{Close, Open, TopUp};
        let check = |booked: &[(u8, u64, u64, u64)], queue: &[(RequestKind, u8)], served: usize| {
            assert_eq!(plan_register(&view(booked, queue), BOUNDS).len(), served, "{booked:?} {queue:?}");
        };
        check(&[], &[], 0);
        check(&[], &[(Open, 1), (TopUp, 1), (Open, 2)], 3);
        check(&[], &[(Open, 1), (Close, 1)], 2);
        let first = RegisterBounds { end: 1, ..BOUNDS };
        assert_eq!(plan_register(&view(&[], &[(Open, 1), (Open, 2)]), first).len(), 1);
        // More than one transaction holds: the rest is left for the next one.
        let many: Vec<_> = (0..=255).cycle().take(400).map(|number| (TopUp, number)).collect();
        let booked: Vec<_> = (0..=255).map(|number| (number, 10, 0, 0)).collect();
        assert_eq!(plan_register(&view(&booked, &many), BOUNDS).len(), 274);
        // A close waits for its settlement and holds back what comes after it.
        check(&[(1, 10, 0, 5)], &[(Close, 1), (Open, 2)], 0);
        check(&[(1, 10, 5, 5)], &[(Close, 1), (Open, 2)], 2);
        check(&[(1, 10, 0, 5)], &[(Open, 2), (Close, 1)], 1);
        // Overdue, it is served as it is: nothing can be settled before.
        let late = view(&[(1, 10, 0, 5)], &[(Close, 1), (Open, 2)]);
        assert_eq!(plan_register(&late, RegisterBounds { overdue_before: Timestamp::from_millis(1), ..BOUNDS }).len(), 2);
    }

    #[test]
    fn what_waits_of_a_cancelled_channel_is_passed_over() {
        use RequestKind::{Close, Open, TopUp};
        let mut view = view(&[], &[(Open, 1), (TopUp, 1), (Close, 1), (Open, 2)]);
        view.channels.entry(channel(1)).and_modify(|channel| channel.closed = true);
        let places: Vec<_> = plan_register(&view, BOUNDS).iter().map(|served| (served.book.is_some(), served.slot)).collect();
        assert_eq!(places, [(false, None), (false, None), (false, None), (true, Some(0))]);
    }

    #[test]
    fn opens_fill_books_before_new_ones_are_made() {
        let opens: Vec<_> = (10..16).map(|number| (RequestKind::Open, number)).collect();
        let served = plan_register(&view(&[(1, 10, 0, 0), (2, 10, 0, 0)], &opens), BOUNDS);
        let places: Vec<_> =
            served.iter().map(|served| (served.book.map(|book| book.to_string()).unwrap_or_default(), served.slot)).collect();
        let expected = [("0:0", 2), ("0:0", 3), ("0:1", 0), ("0:1", 1), ("0:1", 2), ("0:1", 3)];
        assert_eq!(places, expected.map(|(book, slot)| (book.to_owned(), Some(slot))));
        // Six opens at once go into one book of the size that holds them.
        let served = plan_register(&view(&[], &opens), BOUNDS);
        assert!(served.iter().all(|served| served.book.is_some_and(|book| book.to_string() == "1:0")));
    }

    #[test]
    fn the_best_voucher_of_every_channel_is_settled() {
        let view = view(&[(1, 10, 0, 5), (2, 10, 5, 5), (3, 10, 0, 0), (4, 10, 5, 11)], &[]);
        let plan = plan_settle(&view, &[4, 8], &BTreeSet::new(), Floor::NONE);
        assert_eq!(plan.books.len(), 1);
        assert_eq!(plan.books[0].vouchers.keys().copied().collect::<Vec<_>>(), [0]);
        assert_eq!(plan.books[0].total, Amount::from_nanos(5));
        assert_eq!(plan.waiting.iter().map(|waiting| waiting.channel).collect::<Vec<_>>(), [channel(4)]);
    }

    #[test]
    fn deadlines_come_before_value_and_small_books_wait() {
        let book = |number| BookId::new(Tier::new(0), number).expect("small");
        let mut view = view(&[], &[]);
        for (number, unsettled) in [(0, 3), (1, 9), (2, 1), (3, 5), (4, 2)] {
            let id = u8::try_from(number).expect("few") + 1;
            view.channels.insert(channel(id), planned(id, 10, 0, unsettled, Some(book(number))));
            view.books.entry(book(number)).or_default().insert(1, channel(id));
        }
        let close = |number, millis| Request {
            kind: RequestKind::Close,
            channel: channel(number),
            amount: Amount::ZERO,
            requested_at: Timestamp::from_millis(millis),
        };
        view.queue = vec![(0, close(3, 7)), (1, close(5, 9))];
        let order = |floor: u64, done: &[u32]| {
            let done = done.iter().map(|number| book(*number)).collect();
            let plan = plan_settle(&view, &[4], &done, Floor { least: Amount::from_nanos(floor), ..Floor::NONE });
            plan.books.iter().map(|planned| planned.book.number()).collect::<Vec<_>>()
        };
        assert_eq!(order(0, &[]), [2, 4, 1, 3, 0]);
        assert_eq!(order(4, &[]), [2, 4, 1, 3], "a closing book is worth it whatever it collects");
        assert_eq!(order(5, &[2, 1]), [4, 3]);
        let plan = plan_settle(&view, &[4], &BTreeSet::new(), Floor::NONE);
        assert_eq!((plan.books[0].closing.clone(), plan.books[2].closing.clone()), (BTreeSet::from([1]), BTreeSet::new()));
    }

    /// Books of 4 slots in tier 0 and of 384 in tier 1, with so many nanos to collect.
    fn valued(books: &[(u8, u64)]) -> View {
        let mut view = view(&[], &[]);
        for (index, (tier, unsettled)) in (0..).zip(books) {
            let (id, book) = (u8::try_from(index).expect("few") + 1, BookId::new(Tier::new(*tier), index).expect("small"));
            view.channels.insert(channel(id), planned(id, u64::MAX, 0, *unsettled, Some(book)));
            view.books.entry(book).or_default().insert(0, channel(id));
        }
        view
    }

    #[test]
    fn gas_is_weighed_against_what_is_collected() {
        let sizes = [4, 384];
        // A gas costs 1,000 nanos; a tenth may go.
        let terms = GasTerms::new(1_000_000_000_000, 10);
        let taken = |floor: Floor, books: &[(u8, u64)]| {
            let plan = plan_settle(&valued(books), &sizes, &BTreeSet::new(), floor);
            plan.books.iter().map(|planned| planned.book.number()).collect::<Vec<_>>()
        };
        let weighed = Floor { gas: terms, wei_per_gas: 1_000_000_000, ..Floor::NONE };
        let small = (SETTLE_SHARE_GAS + 4 * SETTLE_SLOT_GAS) * 10_000;
        let (alone, rich) = (small + SETTLE_FIXED_GAS * 10_000, 100 * small);
        // A book pays for itself, and if there is no other, for the transaction as well.
        assert_eq!(taken(weighed, &[(0, alone)]), [0]);
        assert_eq!(taken(weighed, &[(0, alone - 1)]), Vec::<u32>::new());
        assert_eq!(taken(weighed, &[(0, small), (0, rich), (0, small - 1)]), [1, 0]);
        // The same value in a larger book is worth less.
        assert_eq!(taken(weighed, &[(1, rich), (0, rich)]), [1, 0]);
        // Too much at risk, or gas that is not weighed.
        assert_eq!(taken(Floor { risk_max: Some(Amount::from_nanos(7)), ..weighed }, &[(0, 7), (0, 6)]), [0]);
        assert_eq!(taken(Floor::NONE, &[(0, 7), (0, 6)]), [0, 1]);
        // Gas beyond any price.
        let absurd = Floor { gas: GasTerms::new(u64::MAX, 100), wei_per_gas: u128::MAX, ..Floor::NONE };
        assert_eq!(taken(absurd, &[(0, u64::MAX)]), Vec::<u32>::new());
    }

    #[test]
    fn a_closing_book_is_taken_whatever_gas_costs() {
        let mut view = valued(&[(0, 5), (0, 6)]);
        view.queue = vec![(
            0,
            Request { kind: RequestKind::Close, channel: channel(1), amount: Amount::ZERO, requested_at: Timestamp::from_millis(1) },
        )];
        let floor = Floor { gas: GasTerms::new(1_000_000_000_000, 10), wei_per_gas: 1_000_000_000, ..Floor::NONE };
        let plan = plan_settle(&view, &[4], &BTreeSet::new(), floor);
        assert_eq!(plan.books.iter().map(|planned| planned.book.number()).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn a_transaction_holds_so_many_books() {
        let full: Vec<PlannedBook> = (0..20)
            .map(|number| PlannedBook {
                book: BookId::new(Tier::new(u8::from(number > 9)), number).expect("small"),
                vouchers: BTreeMap::new(),
                total: Amount::ZERO,
                closing: BTreeSet::new(),
                closing_since: None,
            })
            .collect();
        assert_eq!(fitting(&full, &[384, 384]), SETTLE_BOOKS_MAX);
        // The calldata of larger books than the standard ones bounds them first.
        assert_eq!(fitting(&full, &[4_096, 4_096]), 3);
        assert_eq!(fitting(&full[..1], &[4_096]), 1);
    }
}
