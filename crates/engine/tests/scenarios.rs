//! Scenarios through the one entry: what is accepted, what is refused with which reason, what is written, and what survives a restart.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_billing::{EpochTree, FrameLeaf, FrameTree, Line, genesis_head, next_head};
use millstream_engine::escrow::EscrowConfig;
use millstream_engine::{
    Answer, ChainCursor, ChainFact, Channel, ChannelStatus, Effect, Engine, EngineConfig, Fault, FrameInput, INDEX_ENTRIES_MAX,
    IndexRecord, Input, Key, LEAVES_PER_RECORD_MAX, LeavesRecord, Record, RecordError, Rejection, ReplyId, RequestKind, index_records,
};
use millstream_types::{
    Address, Amount, BillHead, BlockNumber, BookId, ChainId, ChannelId, CumulativeAmount, EpochId, Hash256, LedgerId, Reference, Tier,
    Timestamp,
};
use millstream_voucher::{SecretKey, VoucherBody};

fn config() -> EngineConfig {
    let ledger = LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([0x11; 20]) };
    EngineConfig { ledger, epoch_frames_max: 3, epoch_millis_max: 1_000, retention_millis: Some(10_000), escrow: EscrowConfig::default() }
}

fn channel(number: u8) -> ChannelId {
    ChannelId::from_uid(&[number; 31])
}

fn secret() -> SecretKey {
    SecretKey::from_entropy(&[7; 64]).expect("a key")
}

fn nanos(amount: u64) -> Amount {
    Amount::from_nanos(amount)
}

/// A payer that signs what it is told to, and remembers its own state.
struct Payer {
    channel: ChannelId,
    lines_total: u64,
    cumulative: u64,
    head: BillHead,
}

impl Payer {
    fn new(channel: ChannelId) -> Self {
        Self { channel, lines_total: 0, cumulative: 0, head: genesis_head(&channel) }
    }

    /// The next frame of these amounts, honestly signed; `twist` may change what is signed.
    fn frame(&self, amounts: &[u64], twist: impl FnOnce(&mut VoucherBody)) -> FrameInput {
        let lines: Vec<Line> = amounts
            .iter()
            .map(|amount| Line { amount: nanos(*amount), reference: Reference::from_bytes([1; 16]), digest: None })
            .collect();
        let root = FrameTree::new(&lines).expect("lines").root();
        let amount: u64 = amounts.iter().sum();
        let (lines_total, cumulative) = (self.lines_total + amounts.len() as u64, self.cumulative + amount);
        let mut body = VoucherBody {
            channel: self.channel,
            lines_total,
            cumulative: CumulativeAmount::from_nanos(cumulative),
            bill_head: next_head(&self.head, &root, lines_total, cumulative),
        };
        twist(&mut body);
        let voucher = secret().sign(body).expect("64 bits");
        let lines = u32::try_from(amounts.len()).expect("few");
        FrameInput { reply: ReplyId(0), voucher, root, lines, amount: nanos(amount), bytes: Bytes::from_static(b"frame") }
    }

    fn pay(&mut self, amounts: &[u64]) -> FrameInput {
        let frame = self.frame(amounts, |_| {});
        let body = frame.voucher.body();
        (self.lines_total, self.head) = (body.lines_total, body.bill_head);
        self.cumulative = body.cumulative.to_u64().expect("64 bits");
        frame
    }
}

/// An engine with the records that a store would hold.
struct House {
    engine: Engine,
    records: std::collections::BTreeMap<Vec<u8>, Record>,
    now: Timestamp,
}

impl House {
    fn new() -> Self {
        let engine = Engine::restore(config(), [], &mut Vec::new());
        Self { engine, records: std::collections::BTreeMap::new(), now: Timestamp::from_millis(1_000) }
    }

    fn with_channel(deposit: u64) -> Self {
        let mut house = Self::new();
        house.chain(opened(1, deposit, 0));
        house
    }

    fn tick_now(&mut self) -> Vec<Effect> {
        self.apply(Input::Tick { asked: self.now, chain_time: self.now })
    }

    fn try_apply(&mut self, input: Input) -> Result<Vec<Effect>, Fault> {
        let mut effects = Vec::new();
        self.engine.apply(self.now, input, &mut effects)?;
        self.engine.end_tick(&mut effects).expect("no fault");
        for effect in &effects {
            match effect {
                Effect::Put(record) => {
                    let mut key = vec![record.key().table() as u8];
                    key.extend(record.key().to_bytes());
                    self.records.insert(key, record.clone());
                }
                Effect::Delete(deleted) => {
                    let mut key = vec![deleted.table() as u8];
                    key.extend(deleted.to_bytes());
                    self.records.remove(&key);
                }
                Effect::DeleteThrough(epoch) => {
                    let (from, to) = Key::through(*epoch);
                    self.records.retain(|key, _| {
                        !Key::BILL_TABLES.iter().any(|table| *table as u8 == key[0]) || key[1..] < from[..] || key[1..] >= to[..]
                    });
                }
                Effect::PutFrame { .. }
                | Effect::Answer { .. }
                | Effect::SealEpoch { .. }
                | Effect::ReclaimThrough(_)
                | Effect::WakeAt(_)
                | Effect::EscrowAnswer { .. }
                | Effect::ForgetOutcomesBefore(_)
                | Effect::ForgetTalliesBefore(_) => {}
            }
        }
        Ok(effects)
    }

    fn apply(&mut self, input: Input) -> Vec<Effect> {
        self.try_apply(input).expect("no fault")
    }

    fn chain(&mut self, fact: ChainFact) {
        self.apply(Input::Chain(fact));
    }

    fn pay(&mut self, frame: FrameInput) -> Result<u64, Rejection> {
        let answer = self.apply(Input::Frame(frame)).into_iter().find_map(|effect| match effect {
            Effect::Answer { answer, .. } => Some(answer),
            _ => None,
        });
        match answer.expect("every frame is answered") {
            Answer::Ack(ack) => Ok(ack.lines_total),
            Answer::Reject { rejection, .. } => Err(rejection),
            Answer::Snapshot(_) => panic!("a frame is not answered by a snapshot"),
        }
    }

    fn the_channel(&self) -> &Channel {
        self.engine.channel(&channel(1)).expect("opened")
    }

    /// Writes every record to bytes, reads them back, and starts a new engine from them.
    fn restart(&mut self) {
        let stored = self
            .records
            .values()
            .filter(|record| !matches!(record, Record::Leaves(_) | Record::Index(_) | Record::FrameBatch(_)))
            .map(|record| {
                let key = record.key();
                Record::decode(key.table(), &key.to_bytes(), &record.encode()).expect("its own bytes")
            });
        let restored = Engine::restore(config(), stored.collect::<Vec<_>>(), &mut Vec::new());
        let by_id = |engine: &Engine| engine.channels().map(|channel| (channel.id(), channel.clone())).collect::<BTreeMap<_, _>>();
        assert_eq!(by_id(&restored), by_id(&self.engine));
        assert_eq!(restored.summary(), self.engine.summary());
        assert_eq!(restored.pruned(), self.engine.pruned());
        assert_eq!(restored.queue(), self.engine.queue());
        assert_eq!(restored.open_epoch(), self.engine.open_epoch());
        assert_eq!(restored.cursor(), self.engine.cursor());
        assert_eq!(restored.unanchored_epochs().collect::<Vec<_>>(), self.engine.unanchored_epochs().collect::<Vec<_>>());
        self.engine = restored;
    }
}

fn opened(number: u8, deposit: u64, request: u64) -> ChainFact {
    ChainFact::Opened {
        channel: channel(number),
        payer: Address::from_bytes([0x22; 20]),
        key_x: secret().public_key().x(),
        deposit: nanos(deposit),
        request,
        at: Timestamp::from_millis(5),
    }
}

fn book() -> BookId {
    BookId::new(Tier::new(0), 0).expect("small")
}

fn included(number: u8, slot: u16) -> ChainFact {
    ChainFact::Included { channel: channel(number), book: book(), slot }
}

#[test]
fn frames_are_accepted_in_order_and_charged_once() {
    let mut house = House::with_channel(100);
    let mut payer = Payer::new(channel(1));
    assert_eq!(house.pay(payer.pay(&[1, 2, 3])), Ok(3));
    let frame = payer.pay(&[4]);
    assert_eq!(house.pay(frame.clone()), Ok(4));
    // The same frame again, as after a lost ack: acknowledged, charged nothing, billed nothing.
    let effects = house.apply(Input::Frame(frame));
    assert!(matches!(effects[..], [Effect::Answer { answer: Answer::Ack(_), .. }]), "{effects:?}");
    assert_eq!(house.the_channel().charged(), CumulativeAmount::from_nanos(10));
    house.restart();
    assert_eq!(house.pay(payer.pay(&[90])), Ok(5));
}

#[test]
fn every_wrong_voucher_has_its_own_reason_and_changes_nothing() {
    let mut house = House::with_channel(100);
    let mut payer = Payer::new(channel(1));
    house.pay(payer.pay(&[10, 10])).expect("honest");
    let (before, epoch) = (house.the_channel().clone(), *house.engine.open_epoch());
    let total = |amount| CumulativeAmount::from_nanos(amount);

    let mut check = |name: &str, frame: FrameInput, expected: &dyn Fn(&Rejection) -> bool| {
        let mut effects = Vec::new();
        house.engine.apply(house.now, Input::Frame(frame), &mut effects).expect("no fault");
        house.engine.end_tick(&mut effects).expect("no fault");
        match &effects[..] {
            [Effect::Answer { answer: Answer::Reject { rejection, .. }, .. }] => assert!(expected(rejection), "{name}: {rejection:?}"),
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(house.the_channel(), &before, "{name}");
        assert_eq!(house.engine.open_epoch(), &epoch, "{name}");
    };
    check("unknown channel", Payer::new(channel(9)).frame(&[1], |_| {}), &|r| *r == Rejection::UnknownChannel);
    check("lower total", payer.frame(&[1], |body| body.cumulative = total(5)), &|r| {
        *r == Rejection::StaleTotal { accepted: total(20), actual: total(5) }
    });
    check("same total, other head", payer.frame(&[1], |body| body.cumulative = total(20)), &|r| matches!(r, Rejection::StaleTotal { .. }));
    check("fewer lines", payer.frame(&[1], |body| body.lines_total = 1), &|r| matches!(r, Rejection::StaleTotal { .. }));
    check("too many lines", payer.frame(&[1], |body| body.lines_total = 9), &|r| *r == Rejection::LinesMismatch { expected: 3, actual: 9 });
    check("more than the lines", payer.frame(&[1], |body| body.cumulative = total(22)), &|r| {
        *r == Rejection::AmountMismatch { expected: total(21), actual: total(22) }
    });
    check("broken head", payer.frame(&[1], |body| body.bill_head = BillHead::from_bytes([0; 32])), &|r| {
        matches!(r, Rejection::BrokenBillHead { .. })
    });
    check("above the deposit", payer.frame(&[81], |_| {}), &|r| {
        *r == Rejection::DepositExceeded { deposit: nanos(100), actual: total(101) }
    });
    check("wraps", payer.frame(&[u64::MAX - 20], |_| {}), &|r| matches!(r, Rejection::DepositExceeded { .. }));
    assert_eq!(house.pay(payer.pay(&[80])), Ok(3));
}

#[test]
fn a_top_up_counts_once_the_chain_confirms_it() {
    let mut house = House::with_channel(10);
    let mut payer = Payer::new(channel(1));
    assert!(matches!(house.pay(payer.frame(&[11], |_| {})), Err(Rejection::DepositExceeded { .. })));
    house.chain(ChainFact::ToppedUp { channel: channel(1), amount: nanos(1), request: 1, at: Timestamp::default() });
    assert_eq!(house.pay(payer.pay(&[11])), Ok(1));
}

#[test]
fn a_channel_lives_through_its_settlements_and_closes_to_the_last_nano() {
    let mut house = House::with_channel(100);
    let mut payer = Payer::new(channel(1));
    house.pay(payer.pay(&[30])).expect("honest");
    house.chain(included(1, 0));
    house.chain(ChainFact::QueueServed { head: 1 });
    assert_eq!(house.the_channel().registered(), nanos(100));
    assert!(house.engine.queue().is_empty());
    house.chain(ChainFact::Settled { book: book(), deltas: vec![nanos(30)] });
    assert_eq!((house.the_channel().settled(), house.the_channel().unsettled()), (CumulativeAmount::from_nanos(30), nanos(0)));
    house.restart();

    house.chain(ChainFact::CloseRequested { channel: channel(1), request: 1, at: Timestamp::default() });
    assert_eq!(house.engine.queue().iter().next().map(|(_, request)| request.kind), Some(RequestKind::Close));
    assert_eq!(house.pay(payer.frame(&[1], |_| {})), Err(Rejection::ChannelClosing));
    let wrong = house.try_apply(Input::Chain(ChainFact::Closed { channel: channel(1), refund: nanos(71) }));
    assert!(matches!(wrong, Err(Fault::Refund { .. })));
    house.chain(ChainFact::Closed { channel: channel(1), refund: nanos(70) });
    house.chain(ChainFact::QueueServed { head: 2 });
    house.restart();
    assert_eq!((house.the_channel().status(), house.the_channel().refunded()), (ChannelStatus::Closed, nanos(70)));
    assert_eq!(house.pay(payer.frame(&[1], |_| {})), Err(Rejection::ChannelClosing));
    assert_eq!(house.engine.books_after(None).map(|(_, slots)| slots.count()).sum::<usize>(), 0);
}

fn moved_out(number: u8, from: BookId) -> ChainFact {
    ChainFact::MovedOut { channel: channel(number), book: from }
}

fn moved_in(number: u8, to: BookId, slot: u16) -> ChainFact {
    ChainFact::MovedIn { channel: channel(number), book: to, slot }
}

#[test]
fn a_moved_channel_is_the_same_in_another_slot() {
    let other = BookId::new(Tier::new(0), 1).expect("small");
    let mut house = House::with_channel(100);
    let mut payer = Payer::new(channel(1));
    house.chain(included(1, 0));
    house.chain(ChainFact::QueueServed { head: 1 });
    house.pay(payer.pay(&[30])).expect("honest");
    house.chain(ChainFact::Settled { book: book(), deltas: vec![nanos(30)] });

    house.chain(moved_out(1, book()));
    assert_eq!(house.the_channel().location(), None);
    house.restart();
    assert_eq!(house.pay(payer.pay(&[5])), Ok(2), "paying does not stop for a move");
    house.chain(moved_in(1, other, 7));
    house.chain(ChainFact::QueueServed { head: 1 });
    house.restart();
    let location = house.the_channel().location().expect("in a book");
    assert_eq!((location.book, location.slot), (other, 7));
    assert_eq!((house.the_channel().registered(), house.the_channel().unsettled()), (nanos(100), nanos(5)));
    let booked: Vec<_> = house.engine.books_after(None).map(|(book, slots)| (book, slots.map(|(slot, _)| slot).collect())).collect();
    assert_eq!(booked, [(other, vec![7u16])]);
    let mut deltas = vec![nanos(0); 8];
    deltas[7] = nanos(5);
    house.chain(ChainFact::Settled { book: other, deltas });
    assert_eq!(house.the_channel().unsettled(), nanos(0));

    house.chain(ChainFact::CloseRequested { channel: channel(1), request: 1, at: Timestamp::default() });
    house.chain(ChainFact::Closed { channel: channel(1), refund: nanos(65) });
    house.chain(ChainFact::QueueServed { head: 2 });
    assert_eq!(house.engine.books_after(None).map(|(_, slots)| slots.count()).sum::<usize>(), 0);
    assert_eq!(house.the_channel().location(), None);
}

#[test]
fn a_move_that_cannot_be_stops_the_engine() {
    let other = BookId::new(Tier::new(0), 1).expect("small");
    let check = |facts: &[ChainFact], last: ChainFact, expected: Fault| {
        let mut house = House::with_channel(100);
        house.chain(opened(2, 100, 1));
        house.chain(included(1, 0));
        house.chain(included(2, 1));
        facts.iter().for_each(|fact| house.chain(fact.clone()));
        assert_eq!(house.try_apply(Input::Chain(last)).map(|_| ()), Err(expected));
    };
    let moved = |number: u8, book: BookId| Fault::Moved { channel: channel(number), book };
    check(&[], moved_out(1, other), moved(1, other));
    check(&[moved_out(1, book())], moved_out(1, book()), moved(1, book()));
    check(&[], moved_in(1, other, 0), moved(1, other));
    check(&[moved_out(1, book())], moved_in(1, book(), 1), Fault::SlotTaken { book: book(), slot: 1, held_by: channel(2) });
    check(&[], moved_out(9, book()), Fault::UnknownChannel { channel: channel(9) });
    let closed = ChainFact::Closed { channel: channel(1), refund: nanos(100) };
    check(&[moved_out(1, book()), closed], moved_in(1, other, 0), moved(1, other));
}

#[test]
fn a_reorganisation_freezes_what_relied_on_it_until_the_chain_tells_it_again() {
    let mut house = House::with_channel(100);
    let mut payer = Payer::new(channel(1));
    house.pay(payer.pay(&[60])).expect("honest");
    house.apply(Input::ChainSeen(ChainCursor { block: BlockNumber::new(9), state: vec![1, 2] }));
    house.chain(ChainFact::Reset);
    assert_eq!(house.pay(payer.frame(&[1], |_| {})), Err(Rejection::ChannelFrozen));
    assert_eq!(house.engine.cursor(), None);
    house.restart();
    // Told again with too little: what the payer signed stays, and the channel stays frozen.
    house.chain(opened(1, 50, 0));
    house.chain(ChainFact::ToppedUp { channel: channel(1), amount: nanos(49), request: 1, at: Timestamp::default() });
    assert_eq!(house.pay(payer.frame(&[1], |_| {})), Err(Rejection::ChannelFrozen));
    // Enough, but the chain is still telling: it may yet say that the channel was closed.
    house.chain(ChainFact::ToppedUp { channel: channel(1), amount: nanos(1), request: 2, at: Timestamp::default() });
    house.restart();
    assert_eq!(house.pay(payer.frame(&[1], |_| {})), Err(Rejection::ChannelFrozen));
    house.apply(Input::ChainSeen(ChainCursor { block: BlockNumber::new(8), state: vec![1] }));
    assert_eq!(house.pay(payer.frame(&[1], |_| {})), Err(Rejection::ChannelFrozen));
    house.apply(Input::ChainSeen(ChainCursor { block: BlockNumber::new(9), state: vec![1] }));
    assert_eq!(house.pay(payer.pay(&[40])), Ok(2));
}

#[test]
fn a_channel_whose_opening_was_taken_back_can_be_opened_again() {
    // Nothing was paid on it, so its totals are in order even without a deposit.
    let mut house = House::with_channel(100);
    let seen = |block| Input::ChainSeen(ChainCursor { block: BlockNumber::new(block), state: vec![1] });
    house.apply(seen(9));
    house.chain(ChainFact::Reset);
    house.apply(seen(9));
    assert_eq!(house.the_channel().status(), ChannelStatus::Frozen);
    house.restart();
    house.chain(opened(1, 70, 0));
    house.apply(seen(10));
    assert_eq!((house.the_channel().status(), house.the_channel().deposit()), (ChannelStatus::Open, nanos(70)));
    assert_eq!(house.pay(Payer::new(channel(1)).pay(&[70])), Ok(1));
}

#[test]
fn anchors_that_a_reorganisation_took_back_are_sent_again() {
    let mut house = House::with_channel(100);
    let mut payer = Payer::new(channel(1));
    house.pay(payer.pay(&[60])).expect("honest");
    house.apply(Input::CutEpoch);
    let root = Hash256::from_bytes([9; 32]);
    house.chain(ChainFact::EpochAnchored { epoch: EpochId::new(0), root });
    assert_eq!(house.engine.unanchored_epochs().count(), 0);
    house.restart();
    house.chain(ChainFact::Reset);
    assert_eq!(house.engine.unanchored_epochs().count(), 1);
    house.restart();
    house.chain(ChainFact::EpochAnchored { epoch: EpochId::new(0), root });
    assert_eq!(house.engine.unanchored_epochs().count(), 0);
}

#[test]
fn a_channel_that_was_settled_further_than_we_know_is_frozen() {
    let mut house = House::with_channel(100);
    house.chain(included(1, 0));
    house.chain(ChainFact::QueueServed { head: 1 });
    house.chain(ChainFact::Settled { book: book(), deltas: vec![nanos(30)] });
    assert_eq!(house.the_channel().status(), ChannelStatus::Frozen);
}

#[test]
fn impossible_stories_of_the_chain_are_faults() {
    let mut house = House::with_channel(100);
    assert!(matches!(house.try_apply(Input::Chain(opened(1, 1, 1))), Err(Fault::OpenedTwice { .. })));
    assert!(matches!(house.try_apply(Input::Chain(included(2, 0))), Err(Fault::UnknownChannel { .. })));
    let settled = ChainFact::Settled { book: book(), deltas: vec![nanos(1)] };
    assert!(matches!(house.try_apply(Input::Chain(settled)), Err(Fault::EmptySlot { .. })));
}

#[test]
fn epochs_are_cut_by_size_by_time_and_by_hand_and_lose_no_frame() {
    let mut house = House::with_channel(1_000);
    let mut payer = Payer::new(channel(1));
    let mut cuts = Vec::new();
    let mut note = |effects: &[Effect]| {
        cuts.extend(effects.iter().filter_map(|effect| match effect {
            Effect::SealEpoch { epoch, frames } => Some((epoch.number(), *frames)),
            _ => None,
        }));
    };
    for _ in 0..4 {
        note(&house.apply(Input::Frame(payer.pay(&[1]))));
    }
    house.now = Timestamp::from_millis(1_999);
    note(&house.tick_now());
    house.now = Timestamp::from_millis(2_000);
    note(&house.tick_now());
    note(&house.apply(Input::CutEpoch));
    note(&house.apply(Input::Frame(payer.pay(&[1]))));
    note(&house.apply(Input::CutEpoch));
    assert_eq!(cuts, [(0, 3), (1, 1), (2, 1)]);

    // Seal the first from its stored leaves, restart, and see its root anchored.
    let leaves: Vec<FrameLeaf> = house
        .records
        .values()
        .filter_map(|record| match record {
            Record::Leaves(leaves) if leaves.epoch == EpochId::new(0) => Some(leaves.leaves.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    let header = *EpochTree::new(config().ledger, EpochId::new(0), &leaves).expect("three").header();
    house.apply(Input::EpochSealed(header));
    house.restart();
    let wrong = ChainFact::EpochAnchored { epoch: EpochId::new(0), root: Hash256::from_bytes([0; 32]) };
    assert!(matches!(house.engine.clone().apply(house.now, Input::Chain(wrong), &mut Vec::new()), Err(Fault::Anchored { .. })));
    house.chain(ChainFact::EpochAnchored { epoch: EpochId::new(0), root: header.root() });
    assert_eq!(house.engine.unanchored_epochs().map(|epoch| epoch.id.number()).collect::<Vec<_>>(), [1, 2]);
    house.restart();
}

#[test]
fn an_empty_node_continues_the_epochs_that_the_chain_has() {
    let mut house = House::with_channel(10);
    house.chain(ChainFact::EpochAnchored { epoch: EpochId::new(4), root: Hash256::from_bytes([3; 32]) });
    assert_eq!(house.engine.open_epoch().id, EpochId::new(5));
}

#[test]
fn stored_bytes_of_another_version_or_length_are_refused() {
    let house = House::with_channel(10);
    for record in house.records.values().filter(|record| !matches!(record, Record::Leaves(_))) {
        let (key, value) = (record.key(), record.encode());
        let decode = |value: &[u8]| Record::decode(key.table(), &key.to_bytes(), value);
        assert_eq!(decode(&value).as_ref(), Ok(record));
        assert!(decode(&value[..value.len() - 1]).is_err());
        assert!(decode(&[&value[..], &[0]].concat()).is_err());
        assert!(decode(&[&[2], &value[1..]].concat()).is_err());
    }
}

fn leaf(number: u8, lines_before: u64, lines: u64) -> FrameLeaf {
    FrameLeaf {
        channel: channel(number),
        lines_before,
        lines_after: lines_before + lines,
        cumulative_before: lines_before,
        cumulative_after: lines_before + lines,
        bill_head: BillHead::from_bytes([number; 32]),
        frame_root: Hash256::from_bytes([number; 32]),
    }
}

#[test]
fn leaves_of_a_tick_are_one_record_and_come_back_from_their_bytes() {
    let mut house = House::with_channel(100_000);
    let config = EngineConfig { epoch_frames_max: 1 << 20, ..config() };
    house.engine = Engine::restore(config, house.records.values().cloned(), &mut Vec::new());
    let mut payer = Payer::new(channel(1));
    let mut effects = Vec::new();
    let frames = LEAVES_PER_RECORD_MAX + 5;
    for _ in 0..frames {
        house.engine.apply(house.now, Input::Frame(payer.pay(&[1, 1])), &mut effects).expect("no fault");
    }
    house.engine.end_tick(&mut effects).expect("no fault");
    let records = effects.iter().filter_map(|effect| if let Effect::Put(Record::Leaves(record)) = effect { Some(record) } else { None });
    let mut leaves = Vec::new();
    for record in records {
        assert_eq!((record.epoch, record.first as usize), (EpochId::new(0), leaves.len()));
        let mut read = Vec::new();
        let bytes = Record::Leaves(record.clone()).encode();
        LeavesRecord::decode_leaves(&bytes, &mut read).expect("its own bytes");
        assert_eq!(read, record.leaves);
        for wrong in [&bytes[..1], &bytes[..bytes.len() - 1], &[&[2], &bytes[1..]].concat()] {
            assert!(LeavesRecord::decode_leaves(wrong, &mut Vec::new()).is_err());
        }
        leaves.extend(read);
    }
    let written = effects.iter().filter_map(|effect| if let Effect::PutFrame { leaf, .. } = effect { Some(*leaf) } else { None });
    assert_eq!(leaves, written.collect::<Vec<_>>());
    assert_eq!(leaves.len(), frames);
}

#[test]
fn the_index_finds_every_line_of_an_epoch() {
    // Two channels take turns; one of them has more frames than a record takes.
    let mut leaves = Vec::new();
    let many = INDEX_ENTRIES_MAX as u64 + 7;
    for number in 0..many {
        leaves.push(leaf(2, 40 + number * 3, 3));
        if number % 5 == 0 {
            leaves.push(leaf(1, number / 5 * 2, 2));
        }
    }
    let records = index_records(EpochId::new(9), &leaves);
    assert_eq!(records.iter().map(|record| record.channel).collect::<Vec<_>>(), [channel(1), channel(2), channel(2)]);
    let stored: BTreeMap<_, _> = records.iter().map(|record| (record.key().to_bytes(), Record::Index(record.clone()).encode())).collect();
    assert!(stored.keys().eq(records.iter().map(|record| record.key().to_bytes()).collect::<Vec<_>>().iter()), "in the order of the keys");
    let read: Vec<_> = stored.iter().map(|(key, value)| IndexRecord::decode(key, value).expect("its own bytes")).collect();
    assert_eq!(read, records);
    for (index, leaf) in (0..).zip(&leaves) {
        for line in leaf.lines_before..leaf.lines_after {
            let found: Vec<_> =
                read.iter().filter(|record| record.channel == leaf.channel).filter_map(|record| record.find(line)).collect();
            assert_eq!(found, [(index, leaf.lines_before)]);
        }
    }
    assert!(read.iter().all(|record| record.find(39).is_none() || record.channel == channel(1)));
    assert!(read.iter().all(|record| record.find(40 + many * 3).is_none() || record.channel == channel(1)));

    let (key, value) = stored.first_key_value().expect("some");
    assert_eq!(IndexRecord::decode(&key[1..], value), Err(RecordError::Length { what: "index" }));
    assert_eq!(IndexRecord::decode(key, &value[..9]), Err(RecordError::Length { what: "index" }));
    assert_eq!(IndexRecord::decode(key, &value[..value.len() - 1]), Err(RecordError::Length { what: "index" }));
}

/// Pays one frame, cuts and seals: the header of the epoch.
fn seal_an_epoch(house: &mut House, payer: &mut Payer) -> millstream_billing::EpochHeader {
    let epoch = house.engine.open_epoch().id;
    house.pay(payer.pay(&[1])).expect("honest");
    house.apply(Input::CutEpoch);
    let leaves = match &house.records[&[&[millstream_engine::Table::Leaves as u8][..], &Key::Leaves(epoch, 0).to_bytes()].concat()] {
        Record::Leaves(record) => record.leaves.clone(),
        other => panic!("{other:?}"),
    };
    house.apply(Input::EpochIndexed { epoch, records: index_records(epoch, &leaves) });
    let header = *EpochTree::new(config().ledger, epoch, &leaves).expect("one").header();
    house.apply(Input::EpochSealed(header));
    header
}

fn wakes(effects: &[Effect]) -> Vec<u64> {
    effects.iter().filter_map(|effect| if let Effect::WakeAt(at) = effect { Some(at.as_millis()) } else { None }).collect()
}

#[test]
fn bills_are_deleted_when_their_epochs_were_anchored_long_enough() {
    let mut house = House::with_channel(100);
    let mut payer = Payer::new(channel(1));
    let headers = [0, 1, 2].map(|_| seal_an_epoch(&mut house, &mut payer));
    let bill = |house: &House, epoch: u64| {
        let is_of = |key: &[u8]| key.len() > 8 && key[1..9] == epoch.to_be_bytes();
        house
            .records
            .iter()
            .filter(|(key, record)| matches!(record, Record::Leaves(_) | Record::Index(_)) && is_of(key))
            .count()
    };
    assert_eq!([0, 1, 2].map(|epoch| bill(&house, epoch)), [2, 2, 2]);
    let anchored = |number: usize| Input::Chain(ChainFact::EpochAnchored { epoch: headers[number].epoch, root: headers[number].root() });

    house.now = Timestamp::from_millis(5_000);
    assert_eq!(wakes(&house.apply(anchored(0))), [15_000]);
    house.now = Timestamp::from_millis(6_000);
    assert!(wakes(&house.apply(anchored(1))).is_empty(), "the timer is set already");
    house.now = Timestamp::from_millis(14_999);
    let early = Input::Tick { asked: Timestamp::from_millis(15_000), chain_time: house.now };
    assert_eq!(wakes(&house.apply(early)), [15_000], "a tick whose clock was read before it came asks for another");
    let of_another = Input::Tick { asked: Timestamp::from_millis(14_000), chain_time: house.now };
    assert!(wakes(&house.apply(of_another)).is_empty(), "the timer that is waited for is still set");
    house.now = Timestamp::from_millis(15_000);
    let ahead = Input::Tick { asked: house.now, chain_time: Timestamp::from_millis(14_999) };
    assert_eq!(wakes(&house.apply(ahead)), [16_000], "due here and not on the chain: asked again");
    assert_eq!(house.engine.pruned(), None);
    house.restart();
    house.now = Timestamp::from_millis(15_000);
    let effects = house.tick_now();
    assert_eq!(wakes(&effects), [16_000], "the next one is due then");
    assert!(matches!(effects.as_slice(), [.., Effect::DeleteThrough(through), Effect::ReclaimThrough(reclaimed), Effect::WakeAt(_)]
        if *through == EpochId::new(0) && through == reclaimed));
    assert_eq!(house.engine.pruned(), Some((EpochId::new(0), house.now)));
    assert_eq!([0, 1, 2].map(|epoch| bill(&house, epoch)), [0, 2, 2]);
    house.restart();
    house.now = Timestamp::from_millis(99_000);
    house.tick_now();
    assert_eq!([0, 1, 2].map(|epoch| bill(&house, epoch)), [0, 0, 2], "what is not anchored is kept");
    assert!(wakes(&house.tick_now()).is_empty(), "nothing is due");

    // The index of a pruned epoch cannot come back, nor that of a sealed or an unknown one.
    for epoch in [0, 2, 7] {
        let late = Input::EpochIndexed { epoch: EpochId::new(epoch), records: index_records(EpochId::new(epoch), &[leaf(1, 0, 1)]) };
        assert!(matches!(house.engine.clone().apply(house.now, late, &mut Vec::new()), Err(Fault::Sealed { .. })));
    }
}

#[test]
fn a_reorganisation_can_take_back_the_anchor_of_a_pruned_epoch() {
    let mut house = House::with_channel(100);
    let mut payer = Payer::new(channel(1));
    let header = seal_an_epoch(&mut house, &mut payer);
    let next = seal_an_epoch(&mut house, &mut payer);
    house.apply(Input::Chain(ChainFact::EpochAnchored { epoch: header.epoch, root: header.root() }));
    house.now = Timestamp::from_millis(60_000);
    house.tick_now();
    let pruned = house.engine.pruned();
    assert_eq!(pruned, Some((header.epoch, house.now)));
    house.chain(ChainFact::Reset);
    house.restart();
    // It waits to be anchored again, with the root that it had, and stays pruned.
    let waiting: Vec<_> = house.engine.unanchored_epochs().map(|epoch| epoch.header(config().ledger).map(|header| header.root())).collect();
    assert_eq!(waiting, [Some(header.root()), Some(next.root())]);
    house.now = Timestamp::from_millis(70_000);
    for header in [header, next] {
        house.apply(Input::Chain(ChainFact::EpochAnchored { epoch: header.epoch, root: header.root() }));
    }
    assert_eq!((house.engine.unanchored_epochs().count(), house.engine.pruned()), (0, pruned));
    house.now = Timestamp::from_millis(80_000);
    house.tick_now();
    assert_eq!(house.engine.pruned(), Some((next.epoch, house.now)));
    house.restart();
}

#[test]
fn there_is_one_timer_however_many_epochs_are_cut() {
    let mut house = House::with_channel(1_000);
    let mut payer = Payer::new(channel(1));
    let mut timers = std::collections::BTreeSet::new();
    for second in 1..200 {
        house.now = Timestamp::from_millis(second * 100);
        let mut asked = wakes(&house.apply(Input::Frame(payer.pay(&[1]))));
        while let Some(at) = timers.first().copied().filter(|at| *at <= house.now.as_millis()) {
            timers.remove(&at);
            asked.extend(wakes(&house.tick_now()));
        }
        timers.extend(asked);
        assert_eq!(timers.len(), 1, "at {second}");
    }
    // A tick that was lost, as by a clock set back, is not waited for for ever.
    house.now = Timestamp::from_millis(50_000);
    house.apply(Input::CutEpoch);
    assert_eq!(wakes(&house.apply(Input::Frame(payer.pay(&[1])))), [51_000]);
}
