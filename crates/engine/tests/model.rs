//! The engine against a naive ledger: random payers, honest and not, random chain facts, crashes at any tick.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_billing::{EpochTree, FrameLeaf, FrameTree, Line, genesis_head, next_head};
use millstream_engine::escrow::EscrowConfig;
use millstream_engine::{
    Answer, ChainFact, ChannelStatus, Effect, Engine, EngineConfig, EpochRecord, FrameInput, Input, Key, LeavesRecord, Record, ReplyId,
    Summary, Table, index_records,
};
use millstream_types::{
    Address, Amount, BillHead, BookId, ChainId, ChannelId, CumulativeAmount, EpochId, LedgerId, Reference, Tier, Timestamp,
};
use millstream_voucher::{SecretKey, VoucherBody};
use proptest::prelude::*;

const CHANNELS: u8 = 3;
const RETENTION_MILLIS: u64 = 50;

#[derive(Clone, Copy, Debug)]
enum Lie {
    None,
    Total(i8),
    Lines(i8),
    Head,
}

#[derive(Clone, Debug)]
enum Action {
    Open {
        channel: u8,
        deposit: u16,
    },
    TopUp {
        channel: u8,
        amount: u16,
    },
    Pay {
        channel: u8,
        amounts: Vec<u16>,
        lie: Lie,
    },
    Repeat {
        channel: u8,
    },
    /// The provider registers everything queued and settles every voucher that it can.
    Settle,
    Close {
        channel: u8,
    },
    CutEpoch,
    /// Builds the tree of every epoch that was cut, in as many ticks as its index has slices.
    Seal,
    /// The chain anchors the oldest sealed epoch that it does not have.
    Anchor,
    /// Time passes, and the timer fires if it is due.
    Wait {
        millis: u8,
    },
    Crash,
}

fn action() -> impl Strategy<Value = Action> {
    let lie = prop_oneof![
        6 => Just(Lie::None),
        1 => (-3i8..=3).prop_map(Lie::Total),
        1 => (-2i8..=2).prop_map(Lie::Lines),
        1 => Just(Lie::Head),
    ];
    prop_oneof![
        2 => (0..CHANNELS, 1u16..500).prop_map(|(channel, deposit)| Action::Open { channel, deposit }),
        2 => (0..CHANNELS, 1u16..200).prop_map(|(channel, amount)| Action::TopUp { channel, amount }),
        8 => (0..CHANNELS, prop::collection::vec(1u16..60, 1..5), lie).prop_map(|(channel, amounts, lie)| Action::Pay { channel, amounts, lie }),
        1 => (0..CHANNELS).prop_map(|channel| Action::Repeat { channel }),
        2 => Just(Action::Settle),
        1 => (0..CHANNELS).prop_map(|channel| Action::Close { channel }),
        1 => Just(Action::CutEpoch),
        2 => Just(Action::Seal),
        2 => Just(Action::Anchor),
        2 => (1u8..80).prop_map(|millis| Action::Wait { millis }),
        2 => Just(Action::Crash),
    ]
}

/// What a channel is, naively: numbers.
#[derive(Clone, Default)]
struct Naive {
    opened: bool,
    closing: bool,
    closed: bool,
    deposit: u64,
    accepted: u64,
    lines: u64,
    settled: u64,
}

struct World {
    engine: Engine,
    records: BTreeMap<(u8, Vec<u8>), Record>,
    billed: u64,
    /// Frames by key, as stored.
    frames: BTreeMap<Vec<u8>, ChannelId>,
    now: u64,
    timer: Option<Timestamp>,
    naive: Vec<Naive>,
    heads: Vec<BillHead>,
    last: Vec<Option<FrameInput>>,
    next_request: u64,
    secret: SecretKey,
}

fn id(channel: u8) -> ChannelId {
    ChannelId::from_uid(&[channel + 1; 31])
}

fn config() -> EngineConfig {
    let ledger = LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([1; 20]) };
    EngineConfig {
        ledger,
        epoch_frames_max: 4,
        epoch_millis_max: 1_000,
        retention_millis: Some(RETENTION_MILLIS),
        escrow: EscrowConfig::default(),
    }
}

fn book() -> BookId {
    BookId::new(Tier::new(0), 0).expect("small")
}

impl World {
    fn new() -> Self {
        let channels = usize::from(CHANNELS);
        Self {
            engine: Engine::restore(config(), [], &mut Vec::new()),
            records: BTreeMap::new(),
            billed: 0,
            frames: BTreeMap::new(),
            now: 1,
            timer: None,
            naive: vec![Naive::default(); channels],
            heads: (0..CHANNELS).map(|channel| genesis_head(&id(channel))).collect(),
            last: vec![None; channels],
            next_request: 0,
            secret: SecretKey::from_entropy(&[5; 64]).expect("a key"),
        }
    }

    fn apply(&mut self, input: Input) -> Option<Answer> {
        let (mut effects, mut answer) = (Vec::new(), None);
        self.engine.apply(Timestamp::from_millis(self.now), input, &mut effects).expect("no fault");
        self.engine.end_tick(&mut effects).expect("no fault");
        for effect in effects {
            match effect {
                Effect::Put(record) => {
                    self.records.insert((record.key().table() as u8, record.key().to_bytes()), record);
                }
                Effect::Delete(key) => {
                    self.records.remove(&(key.table() as u8, key.to_bytes()));
                }
                Effect::PutFrame { leaf, epoch, index, .. } => {
                    self.frames.insert(Key::Frame(epoch, index).to_bytes(), leaf.channel);
                    self.billed += leaf.cumulative_after - leaf.cumulative_before;
                }
                Effect::DeleteThrough(epoch) => {
                    let (from, to) = Key::through(epoch);
                    let is_in = |key: &[u8]| key >= &from[..] && key < &to[..];
                    self.frames.retain(|key, _| !is_in(key));
                    self.records.retain(|(table, key), _| !Key::BILL_TABLES.iter().any(|bill| *bill as u8 == *table) || !is_in(key));
                }
                Effect::Answer { answer: given, .. } => answer = Some(given),
                Effect::WakeAt(at) => self.timer = Some(self.timer.map_or(at, |timer| timer.min(at))),
                Effect::ForgetTalliesBefore(span) => {
                    let (from, to) = Key::tallies_before(span);
                    self.records.retain(|(table, key), _| *table != Table::Tallies as u8 || key[..] < from[..] || key[..] >= to[..]);
                }
                Effect::SealEpoch { .. } | Effect::ReclaimThrough(_) => {}
                Effect::EscrowAnswer { .. } | Effect::ForgetOutcomesBefore(_) => panic!("there are no escrows here"),
            }
        }
        answer
    }

    fn chain(&mut self, fact: ChainFact) {
        self.apply(Input::Chain(fact));
    }

    fn request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request - 1
    }

    fn step(&mut self, action: Action) {
        match action {
            Action::Open { channel, deposit } => {
                let naive = &mut self.naive[usize::from(channel)];
                if !naive.opened {
                    (naive.opened, naive.deposit) = (true, deposit.into());
                    let (payer, request) = (Address::from_bytes([2; 20]), self.request());
                    let (key_x, deposit) = (self.secret.public_key().x(), Amount::from_nanos(deposit.into()));
                    self.chain(ChainFact::Opened { channel: id(channel), payer, key_x, deposit, request, at: Timestamp::default() });
                }
            }
            Action::TopUp { channel, amount } => {
                let naive = &mut self.naive[usize::from(channel)];
                if naive.opened && !naive.closing {
                    naive.deposit += u64::from(amount);
                    let (request, amount) = (self.request(), Amount::from_nanos(amount.into()));
                    self.chain(ChainFact::ToppedUp { channel: id(channel), amount, request, at: Timestamp::default() });
                }
            }
            Action::Pay { channel, amounts, lie } => self.pay(channel, &amounts, lie),
            Action::Repeat { channel } => {
                if let Some(frame) = self.last[usize::from(channel)].clone() {
                    let (billed, naive) = (self.billed, self.naive[usize::from(channel)].clone());
                    let answer = self.apply(Input::Frame(frame)).expect("answered");
                    assert_eq!(matches!(answer, Answer::Ack(_)), !naive.closing);
                    assert_eq!(self.billed, billed, "a repeated frame is billed nothing");
                }
            }
            Action::Settle => self.settle(),
            Action::Close { channel } => {
                let naive = &mut self.naive[usize::from(channel)];
                if naive.opened && !naive.closing {
                    naive.closing = true;
                    let request = self.request();
                    self.chain(ChainFact::CloseRequested { channel: id(channel), request, at: Timestamp::default() });
                }
            }
            Action::CutEpoch => {
                self.apply(Input::CutEpoch);
            }
            Action::Seal => self.seal(),
            Action::Anchor => {
                let sealed = self.engine.unanchored_epochs().next().and_then(|epoch| epoch.header(config().ledger));
                if let Some(header) = sealed {
                    self.chain(ChainFact::EpochAnchored { epoch: header.epoch, root: header.root() });
                }
            }
            Action::Wait { millis } => {
                self.now += u64::from(millis);
                if let Some(asked) = self.timer.take_if(|at| at.as_millis() <= self.now) {
                    self.apply(Input::Tick { asked, chain_time: Timestamp::from_millis(self.now) });
                }
            }
            Action::Crash => {
                let stored =
                    self.records.values().filter(|record| !matches!(record, Record::Leaves(_) | Record::Index(_) | Record::FrameBatch(_)));
                let read = stored
                    .map(|record| Record::decode(record.key().table(), &record.key().to_bytes(), &record.encode()).expect("its own bytes"));
                let mut effects = Vec::new();
                self.engine = Engine::restore(config(), read.collect::<Vec<_>>(), &mut effects);
                let timers = effects.iter().filter_map(|effect| if let Effect::WakeAt(at) = effect { Some(*at) } else { None });
                self.timer = timers.min();
            }
        }
    }

    fn pay(&mut self, channel: u8, amounts: &[u16], lie: Lie) {
        let index = usize::from(channel);
        let naive = self.naive[index].clone();
        let line =
            |amount: &u16| Line { amount: Amount::from_nanos((*amount).into()), reference: Reference::from_bytes([9; 16]), digest: None };
        let lines: Vec<Line> = amounts.iter().map(line).collect();
        let root = FrameTree::new(&lines).expect("lines").root();
        let paid: u64 = amounts.iter().map(|amount| u64::from(*amount)).sum();
        let (mut lines_total, mut cumulative) = (naive.lines + amounts.len() as u64, naive.accepted + paid);
        match lie {
            Lie::None | Lie::Head => {}
            Lie::Total(by) => cumulative = cumulative.saturating_add_signed(by.into()),
            Lie::Lines(by) => lines_total = lines_total.saturating_add_signed(by.into()),
        }
        // A careful liar: the head fits the totals that it claims.
        let mut head = next_head(&self.heads[index], &root, lines_total, cumulative);
        if matches!(lie, Lie::Head) {
            head = BillHead::from_bytes([0; 32]);
        }
        let honest = matches!(lie, Lie::None | Lie::Total(0) | Lie::Lines(0));
        let body = VoucherBody { channel: id(channel), lines_total, cumulative: CumulativeAmount::from_nanos(cumulative), bill_head: head };
        let voucher = self.secret.sign(body).expect("64 bits");
        let frame = FrameInput {
            reply: ReplyId(0),
            voucher,
            root,
            lines: u32::try_from(amounts.len()).expect("few"),
            amount: Amount::from_nanos(paid),
            bytes: Bytes::from_static(b"frame"),
        };
        let expected = honest && naive.opened && !naive.closing && naive.accepted + paid <= naive.deposit;
        let before = self.billed;
        let answer = self.apply(Input::Frame(frame.clone())).expect("answered");
        assert_eq!(matches!(answer, Answer::Ack(_)), expected, "{lie:?}: {answer:?}");
        if expected {
            let naive = &mut self.naive[index];
            (naive.accepted, naive.lines) = (naive.accepted + paid, naive.lines + amounts.len() as u64);
            (self.heads[index], self.last[index]) = (head, Some(frame));
            assert_eq!(self.billed, before + paid);
        } else {
            assert_eq!(self.billed, before, "a rejected frame is billed nothing");
        }
    }

    fn leaves(&self, epoch: EpochId) -> Vec<FrameLeaf> {
        let records = self.records.values().filter_map(|record| if let Record::Leaves(leaves) = record { Some(leaves) } else { None });
        let (mut leaves, mut next) = (Vec::new(), 0);
        for record in records.filter(|record| record.epoch == epoch) {
            assert_eq!(record.first, next, "leaves without a gap");
            LeavesRecord::decode_leaves(&Record::Leaves(record.clone()).encode(), &mut leaves).expect("its own bytes");
            next = u32::try_from(leaves.len()).expect("few");
        }
        leaves
    }

    fn seal(&mut self) {
        let unsealed: Vec<_> = self.engine.unanchored_epochs().filter(|epoch| epoch.top.is_none()).copied().collect();
        for EpochRecord { id: epoch, frames, .. } in unsealed {
            let leaves = self.leaves(epoch);
            assert_eq!(leaves.len(), frames as usize);
            for record in index_records(epoch, &leaves) {
                self.apply(Input::EpochIndexed { epoch, records: vec![record] });
            }
            let header = *EpochTree::new(config().ledger, epoch, &leaves).expect("frames").header();
            self.apply(Input::EpochSealed(header));
        }
    }

    /// What is stored of the bills is exactly what was not pruned, and the timer is set for what is due next.
    fn check_bills(&self) {
        let pruned = self.engine.pruned().map_or(0, |(epoch, _)| epoch.number() + 1);
        let epochs = self.records.values().filter_map(|record| if let Record::Epoch(epoch) = record { Some(*epoch) } else { None });
        let mut frames = self.engine.open_epoch().frames as usize;
        for epoch in epochs {
            assert_eq!(epoch.pruned_at.is_some(), epoch.id.number() < pruned, "pruned from the oldest on");
            assert!(epoch.pruned_at.is_none() || epoch.top.is_some());
            if epoch.pruned_at.is_none() {
                frames += epoch.frames as usize;
                let leaves = self.leaves(epoch.id);
                let found = |leaf: &FrameLeaf| {
                    let mut index =
                        self.records.values().filter_map(|record| if let Record::Index(index) = record { Some(index) } else { None });
                    index.find_map(|record| {
                        (record.epoch == epoch.id && record.channel == leaf.channel).then(|| record.find(leaf.lines_before))?
                    })
                };
                for (index, leaf) in (0..).zip(&leaves).filter(|_| epoch.top.is_some()) {
                    assert_eq!(found(leaf), Some((index, leaf.lines_before)));
                    assert_eq!(self.frames.get(&Key::Frame(epoch.id, index).to_bytes()), Some(&leaf.channel));
                }
            }
            if let (Some(anchored), None) = (epoch.anchored_at, epoch.pruned_at)
                && epoch.id.number() == pruned
            {
                let due = anchored.plus_millis(RETENTION_MILLIS);
                assert!(
                    self.timer.is_some_and(|at| at <= due.max(Timestamp::from_millis(self.now + 1_000))),
                    "{:?} for {due:?}",
                    self.timer
                );
            }
        }
        assert_eq!(self.frames.len(), frames);
    }

    fn settle(&mut self) {
        for channel in 0..CHANNELS {
            let located = self.engine.channel(&id(channel)).is_some_and(|known| known.location().is_some());
            if self.naive[usize::from(channel)].opened && !self.naive[usize::from(channel)].closed && !located {
                self.chain(ChainFact::Included { channel: id(channel), book: book(), slot: channel.into() });
            }
        }
        let deltas = self.naive.iter().map(|naive| Amount::from_nanos(naive.accepted - naive.settled)).collect();
        self.chain(ChainFact::Settled { book: book(), deltas });
        for channel in 0..CHANNELS {
            let naive = &mut self.naive[usize::from(channel)];
            naive.settled = naive.accepted;
            if naive.closing && !naive.closed {
                naive.closed = true;
                let refund = Amount::from_nanos(naive.deposit - naive.settled);
                self.chain(ChainFact::Closed { channel: id(channel), refund });
            }
        }
        self.chain(ChainFact::QueueServed { head: self.next_request });
    }

    fn check(&self) {
        for (channel, naive) in (0..CHANNELS).zip(&self.naive) {
            let Some(known) = self.engine.channel(&id(channel)) else {
                assert!(!naive.opened);
                continue;
            };
            let nanos = |amount: u64| CumulativeAmount::from_nanos(amount);
            assert_eq!((known.accepted_total(), known.charged()), (nanos(naive.accepted), nanos(naive.accepted)));
            assert_eq!((known.lines_total(), known.settled()), (naive.lines, nanos(naive.settled)));
            assert_eq!(known.deposit(), Amount::from_nanos(naive.deposit));
            assert_eq!(known.status() == ChannelStatus::Closed, naive.closed);
            let spent = known.settled().as_amount().checked_add(known.refunded()).expect("small");
            assert!(if naive.closed { spent == known.deposit() } else { spent <= known.deposit() });
        }
        assert_eq!(self.billed, self.naive.iter().map(|naive| naive.accepted).sum::<u64>(), "the bill is what was accepted");
        let walked = self.engine.channels().fold(Summary::default(), |sum, channel| {
            let add = |sum: Amount, amount: Amount| sum.checked_add(amount).expect("small");
            Summary {
                channels: sum.channels + 1,
                open: sum.open + u64::from(channel.status() == ChannelStatus::Open),
                frozen: sum.frozen + u64::from(channel.status() == ChannelStatus::Frozen),
                lines: sum.lines + channel.lines_total(),
                deposited: add(sum.deposited, channel.deposit()),
                accepted: add(sum.accepted, channel.accepted_total().as_amount()),
                settled: add(sum.settled, channel.settled().as_amount()),
                refunded: add(sum.refunded, channel.refunded()),
            }
        });
        assert_eq!(self.engine.summary(), walked, "the sums are those of the channels");
        self.check_bills();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_does_what_a_naive_ledger_does(actions in prop::collection::vec(action(), 1..60)) {
        let mut world = World::new();
        for action in actions {
            world.step(action);
            world.check();
        }
    }
}
