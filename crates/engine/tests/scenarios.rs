//! Scenarios through the one entry: what is accepted, what is refused with which reason, what is written, and what survives a restart.

use bytes::Bytes;
use millstream_billing::{EpochTree, FrameLeaf, FrameTree, Line, genesis_head, next_head};
use millstream_engine::{
    Answer, ChainCursor, ChainFact, Channel, ChannelStatus, Effect, Engine, EngineConfig, Fault, FrameInput, Input, Record, Rejection,
    ReplyId, RequestKind,
};
use millstream_types::{
    Address, Amount, BillHead, BlockNumber, BookId, ChainId, ChannelId, CumulativeAmount, EpochId, Hash256, LedgerId, Reference, Tier,
    Timestamp,
};
use millstream_voucher::{SecretKey, VoucherBody};

fn config() -> EngineConfig {
    let ledger = LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([0x11; 20]) };
    EngineConfig { ledger, epoch_frames_max: 3, epoch_millis_max: 1_000 }
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

    fn try_apply(&mut self, input: Input) -> Result<Vec<Effect>, Fault> {
        let mut effects = Vec::new();
        self.engine.apply(self.now, input, &mut effects)?;
        self.engine.end_tick(&mut effects);
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
                Effect::PutFrame { .. } | Effect::Answer { .. } | Effect::SealEpoch { .. } | Effect::WakeAt(_) => {}
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
        let stored = self.records.values().filter(|record| !matches!(record, Record::Leaf(_))).map(|record| {
            let key = record.key();
            Record::decode(key.table(), &key.to_bytes(), &record.encode()).expect("its own bytes")
        });
        let restored = Engine::restore(config(), stored.collect::<Vec<_>>(), &mut Vec::new());
        assert_eq!(restored.channels().collect::<Vec<_>>(), self.engine.channels().collect::<Vec<_>>());
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
        house.engine.end_tick(&mut effects);
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
    assert_eq!(house.engine.books().map(|(_, slots)| slots.count()).sum::<usize>(), 0);
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
    note(&house.apply(Input::Tick));
    house.now = Timestamp::from_millis(2_000);
    note(&house.apply(Input::Tick));
    note(&house.apply(Input::CutEpoch));
    note(&house.apply(Input::Frame(payer.pay(&[1]))));
    note(&house.apply(Input::CutEpoch));
    assert_eq!(cuts, [(0, 3), (1, 1), (2, 1)]);

    // Seal the first from its stored leaves, restart, and see its root anchored.
    let leaves: Vec<FrameLeaf> = house
        .records
        .values()
        .filter_map(|record| match record {
            Record::Leaf(leaf) if leaf.epoch == EpochId::new(0) => Some(leaf.leaf),
            _ => None,
        })
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
    for record in house.records.values() {
        let (key, value) = (record.key(), record.encode());
        let decode = |value: &[u8]| Record::decode(key.table(), &key.to_bytes(), value);
        assert_eq!(decode(&value).as_ref(), Ok(record));
        assert!(decode(&value[..value.len() - 1]).is_err());
        assert!(decode(&[&value[..], &[0]].concat()).is_err());
        assert!(decode(&[&[2], &value[1..]].concat()).is_err());
    }
}
