//! What is billed can be proven, from the frame to the deletion of its epoch, whatever crashes on the way.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::BytesMut;
use millstream_billing::{AccountOf, Line, frame_root, genesis_head, next_head};
use millstream_engine::escrow::EscrowConfig;
use millstream_engine::{ChainFact, EngineConfig, FrameInput, Input, ReplyId, Table};
use millstream_policy::Policy;
use millstream_store::{CrashDisk, Fault, KeyRange, Read, RocksStore, StoreOptions};
use millstream_types::{Address, Amount, BillHead, ChainId, ChannelId, CumulativeAmount, EpochId, LedgerId, Reference, Timestamp};
use millstream_voucher::{SecretKey, VoucherBody};
use millstream_wire::{FrameMessage, LENGTH_BYTES};
use tokio::sync::mpsc;

use crate::books::BooksError;
use crate::books_tests::{assert_every_alteration_is_found, books, checked_statement, tallied};
use crate::core::{Core, CoreThread, Errand, SCHEMA, Stopped, bill_through, now, store_table};
use crate::errands::{hand_in, seal};
use crate::metrics::Metrics;
use crate::proofs::{self, Bill, ProofFailure};

const CHANNELS: u8 = 3;

pub(crate) fn ledger() -> LedgerId {
    LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([0x11; 20]) }
}

/// Bills are deleted as soon as they are anchored and a tick comes.
pub(crate) fn config() -> EngineConfig {
    EngineConfig {
        ledger: ledger(),
        epoch_frames_max: 1_000,
        epoch_millis_max: 3_600_000,
        retention_millis: Some(0),
        escrow: EscrowConfig::default(),
    }
}

pub(crate) fn channel(number: u8) -> ChannelId {
    ChannelId::from_uid(&[number + 1; 31])
}

pub(crate) fn secret() -> SecretKey {
    SecretKey::from_entropy(&[7; 64]).expect("a key")
}

/// The frames that a payer sends on one channel, in order.
pub(crate) fn frames(channel: ChannelId, frames: usize, lines: usize) -> Vec<FrameInput> {
    let (secret, mut head, mut paid) = (secret(), genesis_head(&channel), 0);
    let frame = |_| {
        let lines = vec![Line { amount: Amount::from_nanos(3), reference: Reference::from_bytes([1; 16]), digest: None }; lines];
        paid += lines.len() as u64;
        head = next_head(&head, &frame_root(&lines).expect("a frame"), paid, paid * 3);
        let body = VoucherBody { channel, lines_total: paid, cumulative: CumulativeAmount::from_nanos(paid * 3), bill_head: head };
        let voucher = *secret.sign(body).expect("64 bits").signed();
        let mut bytes = BytesMut::new();
        FrameMessage::new(voucher, &lines).expect("a frame").encode(&mut bytes).expect("encodes");
        let frame = FrameMessage::decode(bytes.freeze().slice(LENGTH_BYTES..)).expect("a frame");
        FrameInput {
            reply: ReplyId(0),
            voucher: frame.voucher().verify(&secret.public_key()).expect("honest"),
            root: frame.root().expect("lines"),
            lines: frame.count().into(),
            amount: frame.amount(),
            bytes: frame.into_bytes(),
        }
    };
    (0..frames).map(frame).collect()
}

/// A core on a disk that crashes at one of its commits.
pub(crate) struct House {
    pub(crate) core: Core,
    pub(crate) thread: CoreThread,
    pub(crate) reader: Arc<dyn Read>,
    pub(crate) disk: CrashDisk,
    pub(crate) errands: mpsc::UnboundedReceiver<Errand>,
    /// Commits until the fault, if there is to be one.
    fault: Option<(usize, Fault)>,
}

impl House {
    fn start(disk: &CrashDisk, fault: Option<(usize, Fault)>) -> Self {
        Self { fault, ..Self::start_with(config(), disk) }
    }

    pub(crate) fn start_with(config: EngineConfig, disk: &CrashDisk) -> Self {
        Self::start_guarded(config, None, disk)
    }

    pub(crate) fn start_guarded(config: EngineConfig, policy: Option<Policy>, disk: &CrashDisk) -> Self {
        use millstream_store::Backend;
        let store = disk.open().expect("nothing acknowledged is missing");
        let reader = store.reader();
        let (sender, errands) = mpsc::unbounded_channel();
        let (core, thread) = Core::start_guarded(config, policy, store, Arc::new(Metrics::new()), sender).expect("starts");
        Self { core, thread, reader, disk: disk.clone(), errands, fault: None }
    }

    /// One tick with these inputs, or the crash.
    pub(crate) async fn tick(&mut self, inputs: Vec<Input>) -> Result<(), Stopped> {
        if let Some((commits, fault)) = &mut self.fault {
            if *commits == 0 {
                self.disk.inject(*fault);
            }
            *commits = commits.wrapping_sub(1);
        }
        self.core.inputs(inputs).await
    }

    /// Does what the core asked for, seal by seal and slice by slice.
    async fn run_errands(&mut self) -> Result<(), Stopped> {
        while let Ok(errand) = self.errands.try_recv() {
            match errand {
                Errand::SealEpoch { epoch, frames } => {
                    let (header, index) = seal(&*self.reader, ledger(), epoch, frames).expect("its leaves are there");
                    for record in index {
                        self.tick(vec![Input::EpochIndexed { epoch, records: vec![record] }]).await?;
                    }
                    self.tick(vec![Input::EpochSealed(header)]).await?;
                }
                Errand::ReclaimThrough(epoch) => {
                    for (table, range) in bill_through(epoch) {
                        self.reader.reclaim(table, &range).expect("reclaims");
                    }
                }
                Errand::WakeAt(_) => {}
            }
        }
        Ok(())
    }

    /// The chain anchors what is sealed and not anchored, up to an epoch.
    async fn anchor_through(&mut self, last: u64) -> Result<(), Stopped> {
        let epochs = self.core.query(|engine| engine.unanchored_epochs().copied().collect::<Vec<_>>()).await?;
        for epoch in epochs.into_iter().filter(|epoch| epoch.id.number() <= last) {
            let root = epoch.header(ledger()).expect("sealed").root();
            self.tick(vec![Input::Chain(ChainFact::EpochAnchored { epoch: epoch.id, root })]).await?;
        }
        Ok(())
    }

    /// Channels, three epochs of their frames, the first of which is anchored and pruned, and a fourth that stays open. Goes on where the
    /// state is.
    async fn live(&mut self) -> Result<(), Stopped> {
        self.run_errands().await?;
        for number in 0..CHANNELS {
            if self.core.query(move |engine| engine.channel(&channel(number)).is_none()).await? {
                let (payer, key_x) = (Address::from_bytes([2; 20]), secret().public_key().x());
                let (deposit, at, request) = (Amount::from_nanos(1_000_000), Timestamp::default(), number.into());
                self.tick(vec![Input::Chain(ChainFact::Opened { channel: channel(number), payer, key_x, deposit, request, at })])
                    .await?;
            }
        }
        for round in 0..4 {
            for number in (0..CHANNELS).filter(|number| pays(*number, round)) {
                let before = (0..round).filter(|round| pays(number, *round)).count() * 2;
                let all = frames(channel(number), before + 2, 5);
                // A frame that was accepted before the crash is repeated, and changes nothing.
                self.tick(all[before..].iter().cloned().map(Input::Frame).collect()).await?;
            }
            if round < 3 && self.core.query(move |engine| engine.open_epoch().id.number() == round as u64).await? {
                self.tick(vec![Input::CutEpoch]).await?;
            }
            self.run_errands().await?;
        }
        self.anchor_through(0).await?;
        self.tick(vec![Input::Tick { asked: now(), chain_time: now() }]).await?;
        self.run_errands().await
    }

    async fn proof(&self, number: u8, line: u64) -> Result<u64, ProofFailure> {
        let bill = self.core.query(move |engine| Bill::of(engine, &channel(number))).await.expect("runs");
        let epochs = self.core.query(|engine| engine.unanchored_epochs().copied().collect::<Vec<_>>()).await.expect("runs");
        let proof = proofs::make(&*self.reader, bill, channel(number), line)?;
        let sealed = epochs.iter().find(|epoch| epoch.id.number() == proof.epoch).and_then(|epoch| epoch.header(ledger()));
        proof.verify(&sealed.expect("not anchored yet").root()).expect("holds");
        Ok(proof.epoch)
    }

    /// Every line of every channel is proven in its epoch, or refused for the right reason.
    async fn check(&self) {
        for number in 0..CHANNELS {
            let mut line = 0;
            for round in (0..4).filter(|round| pays(number, *round)) {
                for _ in 0..10 {
                    let (made, at) = (self.proof(number, line).await, format!("channel {number}, line {line}: round {round}"));
                    match round {
                        0 => assert!(matches!(&made, Err(ProofFailure::Pruned { epoch, .. }) if epoch.number() == 0), "{at}: {made:?}"),
                        3 => assert!(matches!(&made, Err(ProofFailure::EpochOpen { epoch }) if epoch.number() == 3), "{at}: {made:?}"),
                        _ => assert!(matches!(made, Ok(epoch) if epoch == round as u64), "{at}: {made:?}"),
                    }
                    line += 1;
                }
            }
            assert!(matches!(self.proof(number, line).await, Err(ProofFailure::NoSuchLine { .. })));
        }
        assert!(matches!(self.proof(CHANNELS, 0).await, Err(ProofFailure::NoSuchLine { .. })));
        self.check_books().await;
        for table in [Table::Frames, Table::Leaves, Table::Index, Table::Batches] {
            let mut epochs = std::collections::BTreeSet::new();
            let visit = &mut |key: &[u8], _: &[u8]| {
                epochs.insert(key[7]);
                ControlFlow::Continue(())
            };
            self.reader.scan(store_table(table), &KeyRange::all(), visit).expect("scans");
            let expected: &[u8] = if table == Table::Index { &[1, 2] } else { &[1, 2, 3] };
            assert!(epochs.iter().eq(expected), "{table:?}: {epochs:?}");
        }
    }

    /// The statement has every frame that is kept, from where the pruned epoch ended to the accepted totals; the tallies have all of them.
    async fn check_books(&self) {
        let payer = Address::from_bytes([2; 20]);
        let statement = checked_statement(self, &[], |_| {}, payer).await;
        let summary = self.core.query(millstream_engine::Engine::summary).await.expect("runs");
        let mut tallies = tallied(self);
        for span in ["hours", "days"] {
            let all = tallies.remove(&(span, "all")).expect("all are counted");
            assert_eq!((all.lines, all.amount, all.charges), (summary.lines, summary.accepted.units(), 0), "{span}");
        }
        assert!(tallies.is_empty(), "{tallies:?}");
        for number in 0..CHANNELS {
            let total = self.core.query(move |engine| engine.channel(&channel(number)).map(|channel| channel.accepted_total())).await;
            let of = AccountOf::Ledger(channel(number));
            let account = statement.accounts.iter().find(|account| account.of == of);
            let rounds = (1..4).filter(|round| pays(number, *round)).count();
            assert_eq!(account.map_or(0, |account| account.rows.len()), 2 * rounds, "two frames a round");
            let Some(account) = account else { continue };
            assert_eq!((Some(account.closing), account.opening.units()), (total.expect("runs"), 30), "channel {number}");
            // Those of sealed epochs lead to the root that is anchored.
            let places = account.rows.iter().filter(|row| row.place.is_some()).count();
            assert_eq!(places, 2 * (1..3).filter(|round| pays(number, *round)).count(), "channel {number}");
        }
        let books = books(self);
        let pruned = books.line_receipt(channel(0), 0).await;
        assert!(matches!(pruned, Err(BooksError::Pruned { .. })), "{pruned:?}");
        assert!(matches!(books.line_receipt(channel(0), 99).await, Err(BooksError::NoLine { .. })));
        assert_eq!(books.payers(None, 10).await.expect("reads"), [payer]);
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.core.stop().await;
        self.thread.join()
    }
}

/// Who pays in which round: the first always, the second not in the second round, the third in the first one only.
fn pays(number: u8, round: usize) -> bool {
    [[true; 4], [true, false, true, true], [true, false, false, false]][usize::from(number)][round]
}

#[tokio::test]
async fn lines_are_proven_until_their_epoch_is_pruned_whatever_crashes() {
    let disk = CrashDisk::new();
    let mut house = House::start(&disk, None);
    house.live().await.expect("lives");
    house.check().await;
    let statement = checked_statement(&house, &[], |_| {}, Address::from_bytes([2; 20])).await;
    assert_every_alteration_is_found(&books(&house), &[], &statement);
    house.stop().await.expect("stops");

    let mut crashes = 0;
    for fault in [Fault::FailedWrite, Fault::FailedSyncKept, Fault::TornBatch(40), Fault::CrashBeforeAck] {
        for commits in 0.. {
            let disk = CrashDisk::new();
            let mut house = House::start(&disk, Some((commits, fault)));
            if house.live().await.is_ok() {
                break;
            }
            assert!(house.stop().await.is_err(), "{fault:?} after {commits}");
            crashes += 1;
            disk.crash();
            let mut house = House::start(&disk, None);
            house.live().await.expect("goes on");
            house.check().await;
            house.stop().await.expect("stops");
        }
    }
    assert!(crashes > 80, "{crashes} crashes");
}

#[tokio::test]
async fn a_reorganisation_of_a_pruned_epoch_is_survived() {
    let disk = CrashDisk::new();
    let mut house = House::start(&disk, None);
    house.live().await.expect("lives");
    let pruned = house.core.query(|engine| engine.pruned()).await.expect("runs");
    house.tick(vec![Input::Chain(ChainFact::Reset)]).await.expect("is taken back");
    house.stop().await.expect("stops");
    let mut house = House::start(&disk, None);
    let waiting = house.core.query(|engine| engine.unanchored_epochs().map(|epoch| epoch.id.number()).collect::<Vec<_>>()).await;
    assert_eq!(waiting.expect("runs"), [0, 1, 2]);
    house.anchor_through(0).await.expect("is anchored again");
    house.tick(vec![Input::Tick { asked: now(), chain_time: now() }]).await.expect("runs");
    assert_eq!(house.core.query(|engine| engine.pruned()).await.expect("runs"), pruned);
    house.check().await;
    house.stop().await.expect("stops");
}

#[tokio::test]
async fn an_index_is_handed_in_before_its_epoch_is_sealed() {
    let disk = CrashDisk::new();
    let mut house = House::start(&disk, None);
    let (payer, key_x) = (Address::from_bytes([2; 20]), secret().public_key().x());
    let (deposit, at) = (Amount::from_nanos(1_000_000), Timestamp::default());
    let opened = ChainFact::Opened { channel: channel(0), payer, key_x, deposit, request: 0, at };
    let mut inputs = vec![Input::Chain(opened)];
    inputs.extend(frames(channel(0), 3, 4).into_iter().map(Input::Frame));
    inputs.push(Input::CutEpoch);
    house.tick(inputs).await.expect("runs");
    assert!(matches!(house.proof(0, 1).await, Err(ProofFailure::EpochOpen { epoch }) if epoch == EpochId::new(0)));
    let (header, index) = seal(&*house.reader, ledger(), EpochId::new(0), 3).expect("sealed");
    house.tick(vec![Input::EpochIndexed { epoch: header.epoch, records: index.clone() }]).await.expect("runs");
    assert!(matches!(house.proof(0, 1).await, Err(ProofFailure::EpochOpen { .. })), "indexed and not sealed");
    hand_in(&house.core, header, index).await.expect("runs");
    assert_eq!(house.proof(0, 11).await.expect("proven"), 0);
    house.stop().await.expect("stops");
}

#[tokio::test]
async fn a_seeded_database_starts_and_is_seeded_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = format!(
        "[server]\ndata_dir = {:?}\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n[chain]\nrpc_url = \"http://127.0.0.1:1\"\n\
         chain_id = 31337\nledger = \"{}\"\noperator_key_file = \"none\"\n",
        directory.path().join("node"),
        ledger().contract,
    );
    let config_file: crate::NodeConfig = toml::from_str(&text).expect("complete");
    assert!(crate::compact(&config_file).is_err(), "there is no database yet");
    crate::seed_channels(&config_file, 5_001).expect("seeds");
    assert!(crate::seed_channels(&config_file, 1).is_err(), "there are channels");
    crate::compact(&config_file).expect("compacts");

    let store = RocksStore::open(&crate::database(&config_file), &StoreOptions::new(SCHEMA)).expect("opens");
    let (sender, _errands) = mpsc::unbounded_channel();
    let (core, thread) = Core::start(config(), store, Arc::new(Metrics::new()), sender).expect("starts");
    let summary = core.query(|engine| engine.summary()).await.expect("runs");
    assert_eq!((summary.channels, summary.open, summary.settled), (5_001, 5_001, Amount::ZERO));
    let with_voucher = core.query(|engine| engine.channels().filter(|channel| channel.accepted().is_some()).count()).await;
    assert_eq!(with_voucher.expect("runs"), 2_501);
    let bill_head = core.query(|engine| engine.channels().next().map(|channel| channel.bill_head())).await.expect("runs");
    assert_ne!(bill_head, Some(BillHead::from_bytes([0; 32])));
    core.stop().await;
    thread.join().expect("stops");
}
