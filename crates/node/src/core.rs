//! The core: one thread that owns the engine and the store, and ticks.
//!
//! A tick takes everything that is queued, applies it in order, commits one synced batch, and only then releases the answers. The
//! next tick starts when the disk is free again: group commit clocks itself. A fault of the engine or the store ends the thread; nothing
//! of that tick is answered, and the node stops.
//!
//! One answer leaves before its batch: that an amount is held. It promises nothing to anybody outside: whoever holds it tells the core what
//! is delivered, or that nothing is, and waits for that batch, which is a later one, before anything leaves.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use millstream_engine::escrow::{ARCHIVED_KEYS, EscrowAnswer, EscrowInput, Outcome, RequestId};
use millstream_engine::{
    Answer, Effect, Engine, EngineConfig, FrameInput, Input, Key, Record, RecordError, ReplyId, Restoring, Span, Table,
};
use millstream_policy::{Ask, Decision, OrderError, Policy, PolicyOrder, PolicyReply, Verdict};
use millstream_store::{Backend, Batch, KeyRange, Read, SchemaVersion, StoreError};
use millstream_types::{Address, ChainId, ChannelId, EpochId, LedgerId, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tracing::{error, info};

use crate::guard::Guard;
use crate::metrics::Metrics;

/// Version of the record encodings.
pub(crate) const SCHEMA: SchemaVersion = SchemaVersion(2);

/// Key in the `meta` table of what a data directory belongs to: chain id (8) ‖ contract (20), or without a ledger chain id (8).
pub(crate) const SERVED_KEY: &[u8] = b"ledger";

/// The core's nice value, where the system allows it: after a sync the thread would otherwise wait for a worker to use up its time slice, and
/// with it everybody who waits for an answer.
const PRIORITY: i32 = -10;

/// Commands that wait for a tick, at most: beyond it sessions stop reading.
pub(crate) const QUEUED_COMMANDS_MAX: usize = 4_096;

/// Bytes of frames that wait for a tick or are in one, at most: beyond it sessions stop reading, QUIC's windows fill, and payers wait.
pub(crate) const QUEUED_BYTES_MAX: usize = 64 << 20;

/// Frames in a tick from which the next one waits for [`GATHER`] first.
const GATHER_FROM_FRAMES: usize = 6;

/// How long a tick under load lets frames gather.
const GATHER: Duration = Duration::from_micros(500);

/// Commands in one tick, at most.
const TICK_COMMANDS_MAX: usize = 4_096;

/// Bytes in one tick's batch, about, before it is committed.
const TICK_BYTES_MAX: usize = 16 << 20;

/// The answers to frames that were submitted together.
#[derive(Debug)]
pub(crate) struct Release {
    /// How many frames they are for.
    pub(crate) frames: u16,
    /// In the order of the frames; of acks in a row that name the same epoch only the last, since acks are cumulative.
    pub(crate) answers: Vec<Answer>,
    /// Number of the durable batch that the answers rest on.
    pub(crate) commit: u64,
}

/// Work that an effect asks for outside of the core.
#[derive(Debug)]
pub(crate) enum Errand {
    SealEpoch { epoch: EpochId, frames: u32 },
    ReclaimThrough(EpochId),
    WakeAt(Timestamp),
}

/// A record of the node's own, which the engine knows nothing of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnRecord {
    pub(crate) table: millstream_store::Table,
    pub(crate) key: Vec<u8>,
    /// `None` deletes it.
    pub(crate) value: Option<Vec<u8>>,
}

type Query = Box<dyn FnOnce(&Engine) + Send>;

enum Command {
    Attach { channel: ChannelId, reply: oneshot::Sender<Answer> },
    Frames(FrameGroup),
    Inputs(Vec<Input>, oneshot::Sender<()>),
    Escrow(Box<EscrowInput>, oneshot::Sender<EscrowAnswer>),
    Guarded(Box<EscrowInput>, Option<Box<Ask>>, oneshot::Sender<Guarded>),
    Policy(PolicyOrder, oneshot::Sender<Option<Result<PolicyReply, OrderError>>>),
    Own(Vec<OwnRecord>, oneshot::Sender<()>),
    Query(Query),
    Stop,
}

/// What became of an input that the policy decides, too.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are answers")]
pub enum Guarded {
    /// The engine's answer.
    Answered(EscrowAnswer),
    /// The policy refused it, or it waits for an approval. Of the input nothing was changed, but for a voucher that came with it.
    Refused(Box<Decision>),
}

/// Frames of one session.
struct FrameGroup {
    frames: Vec<FrameInput>,
    reply: mpsc::UnboundedSender<Box<Release>>,
    /// The place of their bytes in the queue, given back with the answers.
    place: OwnedSemaphorePermit,
}

/// Who waits for a tick's answers; a [`ReplyId`] is the position among them.
enum Waiting {
    Attach(oneshot::Sender<Answer>, Option<Answer>),
    Escrow(oneshot::Sender<EscrowAnswer>, Option<EscrowAnswer>),
    Guarded(oneshot::Sender<Guarded>, Option<Guarded>),
    Policy(oneshot::Sender<Option<Result<PolicyReply, OrderError>>>, Option<Result<PolicyReply, OrderError>>),
    Frames { reply: mpsc::UnboundedSender<Box<Release>>, frames: u16, answers: Vec<Answer>, _place: OwnedSemaphorePermit },
}

impl Waiting {
    fn take(&mut self, answer: Answer) {
        match self {
            Self::Attach(_, slot) => *slot = Some(answer),
            Self::Escrow(..) | Self::Guarded(..) | Self::Policy(..) => {}
            Self::Frames { answers, .. } => match (answers.last_mut(), answer) {
                (Some(Answer::Ack(last)), Answer::Ack(ack)) if last.epoch == ack.epoch => *last = ack,
                (_, answer) => answers.push(answer),
            },
        }
    }

    /// Tells. Who left learns the same from its next attach.
    fn release(self, commit: u64) {
        match self {
            Self::Attach(reply, Some(answer)) => drop(reply.send(answer)),
            Self::Escrow(reply, Some(answer)) => drop(reply.send(answer)),
            Self::Guarded(reply, Some(answer)) => drop(reply.send(answer)),
            Self::Policy(reply, answer) => drop(reply.send(answer)),
            Self::Attach(_, None) | Self::Escrow(_, None) | Self::Guarded(_, None) => {}
            Self::Frames { reply, frames, answers, .. } => drop(reply.send(Box::new(Release { frames, answers, commit }))),
        }
    }
}

/// The core has stopped; the node's own report says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node's core has stopped")]
pub struct Stopped;

/// A handle to the core. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Core {
    commands: mpsc::Sender<Command>,
    /// Bytes that may still be queued.
    places: Arc<Semaphore>,
    /// Whether there is a policy for what is reserved.
    guarded: bool,
    alive: Arc<AtomicBool>,
    /// The number of the last durable batch.
    commit: Arc<AtomicU64>,
}

/// The core's thread.
pub(crate) struct CoreThread {
    handle: JoinHandle<anyhow::Result<()>>,
    /// Fires when the thread ends, however it does.
    pub(crate) ended: oneshot::Receiver<()>,
}

impl CoreThread {
    /// What ended the thread.
    pub(crate) fn join(self) -> anyhow::Result<()> {
        self.handle.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the core panicked")))
    }
}

impl Core {
    /// [`Core::start_guarded`] without a policy.
    #[cfg(test)]
    pub(crate) fn start(
        config: EngineConfig,
        store: impl Backend + Send + 'static,
        metrics: Arc<Metrics>,
        errands: mpsc::UnboundedSender<Errand>,
    ) -> anyhow::Result<(Self, CoreThread)> {
        Self::start_guarded(config, None, store, metrics, errands)
    }

    /// Restores the engine, and the policy for what is reserved if there is one, from the store, and starts ticking.
    pub(crate) fn start_guarded(
        config: EngineConfig,
        policy: Option<Policy>,
        store: impl Backend + Send + 'static,
        metrics: Arc<Metrics>,
        errands: mpsc::UnboundedSender<Errand>,
    ) -> anyhow::Result<(Self, CoreThread)> {
        let started = Instant::now();
        let mut effects = Vec::new();
        let engine = restore(config, &store, &mut effects)?;
        let summary = engine.summary();
        info!(
            channels = summary.channels,
            lines = summary.lines,
            commit = store.head().seq.as_u64(),
            millis = started.elapsed().as_millis(),
            "state restored"
        );
        metrics.state(&summary);
        let (commands, queue) = mpsc::channel(QUEUED_COMMANDS_MAX);
        let alive = Arc::new(AtomicBool::new(true));
        let commit = Arc::new(AtomicU64::new(store.head().seq.as_u64()));
        let (end, ended) = oneshot::channel();
        let guarded = policy.is_some();
        let guard = policy.map(|policy| Guard::restore(policy, &store)).transpose().context("the policy's records cannot be read")?;
        let mut ticker = Ticker {
            guard,
            commit: Arc::clone(&commit),
            engine,
            store,
            metrics,
            errands,
            batch: Batch::new(),
            own: Vec::new(),
            waiting: Vec::new(),
            queries: Vec::new(),
        };
        ticker.run_errands(effects);
        ticker.resume()?;
        let watched = Arc::clone(&alive);
        let handle = std::thread::Builder::new().name("core".into()).spawn(move || {
            // On Linux this is the calling thread's alone. Without the privilege the node works the same, with longer tails under full load.
            if let Err(refused) = rustix::process::setpriority_process(None, PRIORITY) {
                info!(%refused, "the core runs at the priority of all threads");
            }
            let outcome = ticker.run(queue);
            watched.store(false, Ordering::Release);
            if let Err(fault) = &outcome {
                error!(fault = format!("{fault:#}"), "the core stopped: nothing more is acknowledged");
            }
            // Nobody may be waiting any more; then there is nobody to tell.
            let _ = end.send(());
            outcome
        })?;
        let places = Arc::new(Semaphore::new(QUEUED_BYTES_MAX));
        Ok((Self { commands, places, guarded, alive, commit }, CoreThread { handle, ended }))
    }

    /// Whether the core ticks.
    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Whether there is a policy for what is reserved.
    pub(crate) const fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// The number of the last durable batch.
    pub(crate) fn commit(&self) -> u64 {
        self.commit.load(Ordering::Acquire)
    }

    /// A channel's durable state: a snapshot, or the rejection of a channel that is not known.
    pub(crate) async fn attach(&self, channel: ChannelId) -> Result<Answer, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Attach { channel, reply }).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Applies frames of one session, in order; the answers come through `reply` once they are durable. Waits while the queue is full. The reply ids are
    /// the core's to set.
    pub(crate) async fn frames(&self, frames: Vec<FrameInput>, reply: mpsc::UnboundedSender<Box<Release>>) -> Result<(), Stopped> {
        let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
        let places = u32::try_from(bytes.min(QUEUED_BYTES_MAX)).unwrap_or(u32::MAX);
        let place = Arc::clone(&self.places).acquire_many_owned(places).await.map_err(|_| Stopped)?;
        self.commands.send(Command::Frames(FrameGroup { frames, reply, place })).await.map_err(|_| Stopped)
    }

    /// Applies inputs that nobody answers, in one tick, and waits until they are durable.
    pub(crate) async fn inputs(&self, inputs: Vec<Input>) -> Result<(), Stopped> {
        let (done, durable) = oneshot::channel();
        self.commands.send(Command::Inputs(inputs, done)).await.map_err(|_| Stopped)?;
        durable.await.map_err(|_| Stopped)
    }

    /// Applies an input about an escrow; the answer, but that of a hold, comes once everything that it says is durable. Waits while the
    /// queue is full.
    pub(crate) async fn escrow(&self, input: EscrowInput) -> Result<EscrowAnswer, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Escrow(Box::new(input), reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Applies an input about an escrow that the policy decides, too, where there is one: a reservation with what is asked of it, an extension
    /// without.
    pub(crate) async fn guarded(&self, input: EscrowInput, ask: Option<Ask>) -> Result<Guarded, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Guarded(Box::new(input), ask.map(Box::new), reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Carries out an order to the policy, and answers when it is durable; nothing where there is no policy.
    pub(crate) async fn policy(&self, order: PolicyOrder) -> Result<Option<Result<PolicyReply, OrderError>>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Policy(order, reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Writes records that are not the engine's, in the order of the calls, and waits until they are durable.
    pub(crate) async fn own(&self, records: Vec<OwnRecord>) -> Result<(), Stopped> {
        let (done, durable) = oneshot::channel();
        self.commands.send(Command::Own(records, done)).await.map_err(|_| Stopped)?;
        durable.await.map_err(|_| Stopped)
    }

    /// Runs `query` on the durable state, between two ticks.
    pub(crate) async fn query<T: Send + 'static>(&self, query: impl FnOnce(&Engine) -> T + Send + 'static) -> Result<T, Stopped> {
        let (answer, result) = oneshot::channel();
        let query: Query = Box::new(move |engine| {
            // Whoever asked may be gone.
            let _ = answer.send(query(engine));
        });
        self.commands.send(Command::Query(query)).await.map_err(|_| Stopped)?;
        result.await.map_err(|_| Stopped)
    }

    /// Ends the core after everything queued so far.
    pub(crate) async fn stop(&self) {
        // A core that is gone has stopped.
        let _ = self.commands.send(Command::Stop).await;
    }
}

/// Waits until the node stops. A sender that is gone has stopped too.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Milliseconds since the Unix epoch, by this machine.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The store's table for the engine's.
pub(crate) const fn store_table(table: Table) -> millstream_store::Table {
    match table {
        Table::Meta => millstream_store::Table::Meta,
        Table::Channels => millstream_store::Table::Channels,
        Table::Frames => millstream_store::Table::Frames,
        Table::Leaves => millstream_store::Table::Leaves,
        Table::Epochs => millstream_store::Table::Epochs,
        Table::Requests => millstream_store::Table::Chain,
        Table::Index => millstream_store::Table::Index,
        Table::Escrows => millstream_store::Table::Escrows,
        Table::Charges => millstream_store::Table::Charges,
        Table::Outcomes => millstream_store::Table::Outcomes,
        Table::Batches => millstream_store::Table::Batches,
        Table::Accounts => millstream_store::Table::Accounts,
        Table::Tallies => millstream_store::Table::Tallies,
    }
}

/// What a node serves, and hence what its data directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// A ledger, and payments of HTTP 402 beside it.
    Ledger(LedgerId),
    /// Payments of HTTP 402 on one chain.
    NoLedger(ChainId),
}

impl Served {
    /// The ledger for the engine: without one, the address at which there is none, whose epochs are all empty.
    pub(crate) const fn ledger(self) -> LedgerId {
        match self {
            Self::Ledger(ledger) => ledger,
            Self::NoLedger(chain) => LedgerId { chain, contract: Address::ZERO },
        }
    }

    fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Ledger(LedgerId { chain, contract }) => [chain.get().to_be_bytes().as_slice(), contract.as_bytes()].concat(),
            Self::NoLedger(chain) => chain.get().to_be_bytes().to_vec(),
        }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (chain, contract) = bytes.split_first_chunk()?;
        let chain = ChainId::new(u64::from_be_bytes(*chain));
        match contract.try_into() {
            Ok(contract) => Some(Self::Ledger(LedgerId { chain, contract: Address::from_bytes(contract) })),
            Err(_) => contract.is_empty().then_some(Self::NoLedger(chain)),
        }
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger(LedgerId { chain, contract }) => write!(f, "the ledger {contract} on chain {chain}"),
            Self::NoLedger(chain) => write!(f, "no ledger, on chain {chain}"),
        }
    }
}

/// A data directory belongs to what it was made for: under another ledger or chain its vouchers would be worth nothing.
pub(crate) fn bind(store: &mut impl Backend, served: Served) -> anyhow::Result<()> {
    let table = store_table(Table::Meta);
    match store.get(table, SERVED_KEY)? {
        Some(stored) => {
            let stored = Served::from_bytes(&stored).context("what this data directory belongs to cannot be read")?;
            anyhow::ensure!(stored == served, "this data directory is of another ledger: it was made for {stored}, and not for {served}");
        }
        None => {
            let mut batch = Batch::new();
            batch.put(table, SERVED_KEY, &served.to_bytes());
            store.commit(&batch)?;
        }
    }
    Ok(())
}

/// What the bills of the epochs up to and with one consist of, in the store.
pub(crate) fn bill_through(epoch: EpochId) -> impl Iterator<Item = (millstream_store::Table, KeyRange)> {
    let (from, to) = Key::through(epoch);
    Key::BILL_TABLES.into_iter().map(move |table| (store_table(table), KeyRange::between(&from, &to)))
}

/// Decodes the records of a range one after the other, in the order of the keys, until `take` breaks off.
pub(crate) fn scan_records<T, E: From<StoreError> + From<RecordError>>(
    reader: &(impl Read + ?Sized),
    table: Table,
    range: &KeyRange,
    decode: impl Fn(&[u8], &[u8]) -> Result<T, RecordError>,
    mut take: impl FnMut(T) -> ControlFlow<()>,
) -> Result<(), E> {
    let mut decoded = Ok(());
    reader.scan(store_table(table), range, &mut |key, value| match decode(key, value) {
        Ok(record) => take(record),
        Err(error) => {
            decoded = Err(error);
            ControlFlow::Break(())
        }
    })?;
    Ok(decoded?)
}

/// The engine from everything that it keeps in memory: proportional to channels, to what is under way and to the tallies of a day, not to payments. Each record is
/// decoded as it is read.
pub(crate) fn restore(config: EngineConfig, store: &impl Read, effects: &mut Vec<Effect>) -> anyhow::Result<Engine> {
    let mut restoring = Restoring::new(config);
    let mut tallies = Vec::new();
    for key in [Key::Cursor, Key::Retelling, Key::OpenEpoch, Key::Journal] {
        if let Some(value) = store.get(store_table(key.table()), &key.to_bytes())? {
            let record = Record::decode(key.table(), &key.to_bytes(), &value)?;
            if let Record::Journal(head) = &record {
                let open = Span::of(head.at).map(|span| Key::tallies(span, span.next()));
                tallies.extend(open.map(|(from, to)| (Table::Tallies, KeyRange::between(&from, &to))));
            }
            restoring.record(record);
        }
    }
    let all = [Table::Channels, Table::Epochs, Table::Requests].map(|table| (table, KeyRange::all()));
    for (table, range) in all.into_iter().chain([(Table::Escrows, KeyRange::between(&[], &[ARCHIVED_KEYS]))]).chain(tallies) {
        let decode = |key: &[u8], value: &[u8]| Record::decode(table, key, value);
        scan_records::<_, anyhow::Error>(store, table, &range, decode, |record| {
            restoring.record(record);
            ControlFlow::Continue(())
        })?;
    }
    Ok(restoring.finish(effects))
}

struct Ticker<S> {
    /// The policy for what is reserved, where there is one.
    guard: Option<Guard>,
    commit: Arc<AtomicU64>,
    engine: Engine,
    store: S,
    metrics: Arc<Metrics>,
    errands: mpsc::UnboundedSender<Errand>,
    batch: Batch,
    /// Records of this tick that are not the engine's.
    own: Vec<OwnRecord>,
    /// Who waits in this tick.
    waiting: Vec<Waiting>,
    queries: Vec<Query>,
}

impl<S: Backend> Ticker<S> {
    fn run(&mut self, mut queue: mpsc::Receiver<Command>) -> anyhow::Result<()> {
        let mut frames_before = 0;
        while let Some(first) = queue.blocking_recv() {
            // Many frames a tick are the sign of a load; then a little patience makes ticks larger and fewer, and each costs two syncs.
            if frames_before >= GATHER_FROM_FRAMES {
                std::thread::sleep(GATHER);
            }
            let (mut effects, mut durable) = (Vec::new(), Vec::new());
            let (now, mut stop) = (now(), false);
            let mut next = Some(first);
            let (mut commands, mut bytes) = (0, 0);
            frames_before = 0;
            // What of the effects the policy has seen.
            let mut seen = 0;
            while let Some(command) = next {
                commands += 1;
                match command {
                    Command::Attach { channel, reply } => {
                        let reply = self.wait(Waiting::Attach(reply, None));
                        self.engine.apply(now, Input::Attach { reply, channel }, &mut effects)?;
                    }
                    Command::Frames(FrameGroup { frames, reply, place }) => {
                        bytes += place.num_permits();
                        frames_before += frames.len();
                        let count = u16::try_from(frames.len()).unwrap_or(u16::MAX);
                        let reply = self.wait(Waiting::Frames { reply, frames: count, answers: Vec::new(), _place: place });
                        for mut frame in frames {
                            frame.reply = reply;
                            self.engine.apply(now, Input::Frame(frame), &mut effects)?;
                        }
                    }
                    Command::Inputs(inputs, done) => {
                        for input in inputs {
                            self.engine.apply(now, input, &mut effects)?;
                        }
                        durable.push(done);
                    }
                    Command::Escrow(mut input, reply) => {
                        frames_before += 1;
                        self.look_up(&mut input)?;
                        let is_hold = matches!(*input, EscrowInput::Reserve(_));
                        let (reply, before) = (self.wait(Waiting::Escrow(reply, None)), effects.len());
                        self.engine.apply(now, Input::Escrow { reply: Some(reply), input }, &mut effects)?;
                        if is_hold {
                            self.release_hold(reply, &mut effects, before);
                        }
                    }
                    Command::Guarded(mut input, ask, reply) => {
                        frames_before += 1;
                        self.look_up(&mut input)?;
                        let is_hold = matches!(*input, EscrowInput::Reserve(_));
                        let (reply, before) = (self.wait(Waiting::Guarded(reply, None)), effects.len());
                        self.apply_guarded(now, reply, input, ask, &mut effects)?;
                        if is_hold {
                            self.release_hold(reply, &mut effects, before);
                        }
                        // What was void because the policy refused it was never held.
                        seen = effects.len();
                    }
                    Command::Policy(order, reply) => {
                        let result = self.guard.as_mut().map(|guard| guard.order(now, order, &mut self.own));
                        self.wait(Waiting::Policy(reply, result));
                    }
                    Command::Own(records, done) => {
                        self.own.extend(records);
                        durable.push(done);
                    }
                    Command::Query(query) => self.queries.push(query),
                    Command::Stop => {
                        stop = true;
                        break;
                    }
                }
                self.observe(now, &effects, &mut seen);
                next = if commands < TICK_COMMANDS_MAX && bytes < TICK_BYTES_MAX { queue.try_recv().ok() } else { None };
            }
            self.engine.end_tick(&mut effects)?;
            self.finish_tick(effects)?;
            for done in durable {
                // Whoever asked may be gone; the inputs are durable all the same.
                let _ = done.send(());
            }
            for query in self.queries.drain(..) {
                query(&self.engine);
            }
            if stop {
                info!(commit = self.store.head().seq.as_u64(), "core stopped");
                return Ok(());
            }
        }
        Ok(())
    }

    /// Shows the policy what the engine did since it looked last.
    fn observe(&mut self, now: Timestamp, effects: &[Effect], seen: &mut usize) {
        if let Some(guard) = &mut self.guard {
            guard.observe(now, effects.get(*seen..).unwrap_or_default(), &mut self.own);
        }
        *seen = effects.len();
    }

    /// Applies an input that the policy decides, too. A reservation is the engine's to judge first, so that what is under way or charged already
    /// asks for nothing; when the policy refuses it, it is void in the same batch.
    fn apply_guarded(
        &mut self,
        now: Timestamp,
        reply: ReplyId,
        input: Box<EscrowInput>,
        ask: Option<Box<Ask>>,
        effects: &mut Vec<Effect>,
    ) -> anyhow::Result<()> {
        if let (EscrowInput::Extend { request, ceiling, .. }, Some(guard)) = (input.as_ref(), &mut self.guard)
            && let Some(decision) = guard.ask_more(now, request, *ceiling, &mut self.own)
        {
            self.metrics.decided(&decision);
            if decision.verdict != Verdict::Allow {
                self.refuse(reply, decision);
                return Ok(());
            }
        }
        let from = effects.len();
        self.engine.apply(now, Input::Escrow { reply: Some(reply), input }, effects)?;
        let (Some(guard), Some(ask)) = (&mut self.guard, ask) else { return Ok(()) };
        let reserved =
            |effect: &Effect| matches!(effect, Effect::EscrowAnswer { reply: to, answer: EscrowAnswer::Reserved { .. } } if *to == reply);
        let Some(answer) = effects.iter().skip(from).position(reserved) else { return Ok(()) };
        let decision = guard.ask(now, &ask, &mut self.own);
        self.metrics.decided(&decision);
        if decision.verdict == Verdict::Allow {
            return Ok(());
        }
        effects.remove(from + answer);
        let void = EscrowInput::Void { request: RequestId::from_bytes(*ask.id.as_bytes()), stored: None };
        self.engine.apply(now, Input::Escrow { reply: None, input: Box::new(void) }, effects)?;
        self.refuse(reply, decision);
        Ok(())
    }

    fn refuse(&mut self, reply: ReplyId, decision: Decision) {
        let waiting = usize::try_from(reply.0).ok().and_then(|index| self.waiting.get_mut(index));
        if let Some(Waiting::Guarded(_, slot)) = waiting {
            *slot = Some(Guarded::Refused(Box::new(decision)));
        }
    }

    /// Puts what the store knows of a request into its input: the engine keeps no history.
    fn look_up(&self, input: &mut EscrowInput) -> anyhow::Result<()> {
        for key in self.engine.needs_outcome(input).into_iter().flatten() {
            if let Some(value) = self.store.get(store_table(key.table()), &key.to_bytes())? {
                input.found(Outcome::decode(&value)?);
                break;
            }
        }
        Ok(())
    }

    /// Answers a reservation that was held. Refusals, and what is known of an earlier attempt, wait for the batch: they are told on.
    fn release_hold(&mut self, reply: ReplyId, effects: &mut Vec<Effect>, from: usize) {
        let is_hold = |effect: &Effect| matches!(effect, Effect::EscrowAnswer { answer: EscrowAnswer::Reserved { .. }, .. });
        let Some(at) = effects[from..].iter().position(is_hold) else { return };
        let held = effects.remove(from + at);
        self.take(held);
        debug_assert_eq!(usize::try_from(reply.0).ok(), self.waiting.len().checked_sub(1), "it came last");
        if let Some(waiting) = self.waiting.pop() {
            waiting.release(self.store.head().seq.as_u64());
        }
    }

    /// Puts an answer to where it is waited for.
    fn take(&mut self, effect: Effect) {
        let (reply, waiting) = match &effect {
            Effect::Answer { reply, .. } | Effect::EscrowAnswer { reply, .. } => (*reply, &mut self.waiting),
            _ => return,
        };
        let waiting = usize::try_from(reply.0).ok().and_then(|index| waiting.get_mut(index));
        match (waiting, effect) {
            (Some(waiting), Effect::Answer { answer, .. }) => waiting.take(answer),
            (Some(Waiting::Escrow(_, slot)), Effect::EscrowAnswer { answer, .. }) => *slot = Some(answer),
            (Some(Waiting::Guarded(_, slot)), Effect::EscrowAnswer { answer, .. }) => *slot = Some(Guarded::Answered(answer)),
            _ => {}
        }
    }

    /// Resolves what the last process left open, durably, before anything else is taken.
    fn resume(&mut self) -> anyhow::Result<()> {
        let mut effects = Vec::new();
        let input = Box::new(EscrowInput::Resume);
        let now = now();
        self.engine.apply(now, Input::Escrow { reply: None, input }, &mut effects)?;
        self.engine.end_tick(&mut effects)?;
        self.observe(now, &effects, &mut 0);
        if let Some(guard) = &mut self.guard {
            guard.sweep(now, &mut self.own);
        }
        self.finish_tick(effects)
    }

    fn wait(&mut self, waiting: Waiting) -> ReplyId {
        self.waiting.push(waiting);
        ReplyId(self.waiting.len() as u64 - 1)
    }

    /// Persists, then answers.
    fn finish_tick(&mut self, effects: Vec<Effect>) -> anyhow::Result<()> {
        self.batch.clear();
        let mut rest = Vec::with_capacity(effects.len());
        let (mut frames, mut lines) = (0u64, 0u64);
        for effect in effects {
            match effect {
                Effect::Put(record) => self.put(record.key(), &record.encode()),
                Effect::Delete(key) => self.batch.delete(store_table(key.table()), &key.to_bytes()),
                Effect::PutFrame { leaf, epoch, index, bytes } => {
                    frames += 1;
                    lines += leaf.lines_after - leaf.lines_before;
                    self.put(Key::Frame(epoch, index), &bytes);
                }
                Effect::DeleteThrough(epoch) => {
                    for (table, range) in bill_through(epoch) {
                        self.batch.delete_range(table, &range);
                    }
                }
                Effect::ForgetOutcomesBefore(generation) => {
                    let (from, to) = Key::outcomes_before(generation);
                    self.batch.delete_range(store_table(Table::Outcomes), &KeyRange::between(&from, &to));
                }
                Effect::ForgetTalliesBefore(span) => {
                    let (from, to) = Key::tallies_before(span);
                    self.batch.delete_range(store_table(Table::Tallies), &KeyRange::between(&from, &to));
                }
                Effect::Answer { .. }
                | Effect::EscrowAnswer { .. }
                | Effect::SealEpoch { .. }
                | Effect::ReclaimThrough(_)
                | Effect::WakeAt(_) => rest.push(effect),
            }
        }
        for OwnRecord { table, key, value } in self.own.drain(..) {
            match value {
                Some(value) => self.batch.put(table, &key, &value),
                None => self.batch.delete(table, &key),
            }
        }
        if let Some(guard) = &self.guard {
            let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
            let (pauses, waiting) = guard.counts();
            self.metrics.policy_pauses.set(gauge(pauses));
            self.metrics.policy_approvals.set(gauge(waiting));
        }
        if !self.batch.is_empty() {
            let started = Instant::now();
            self.store.commit(&self.batch)?;
            self.metrics.committed(started.elapsed(), self.batch.size_bytes(), frames, lines);
        }
        let commit = self.store.head().seq.as_u64();
        self.commit.store(commit, Ordering::Release);
        let mut errands = Vec::new();
        for effect in rest {
            match effect {
                Effect::Answer { .. } | Effect::EscrowAnswer { .. } => self.take(effect),
                effect => errands.push(effect),
            }
        }
        for waiting in self.waiting.drain(..) {
            waiting.release(commit);
        }
        self.run_errands(errands);
        Ok(())
    }

    fn put(&mut self, key: Key, value: &[u8]) {
        self.batch.put(store_table(key.table()), &key.to_bytes(), value);
    }

    fn run_errands(&self, effects: Vec<Effect>) {
        for effect in effects {
            let errand = match effect {
                Effect::SealEpoch { epoch, frames } => Errand::SealEpoch { epoch, frames },
                Effect::ReclaimThrough(epoch) => Errand::ReclaimThrough(epoch),
                Effect::WakeAt(at) => Errand::WakeAt(at),
                Effect::Put(_)
                | Effect::Delete(_)
                | Effect::PutFrame { .. }
                | Effect::DeleteThrough(_)
                | Effect::ForgetOutcomesBefore(_)
                | Effect::ForgetTalliesBefore(_)
                | Effect::Answer { .. }
                | Effect::EscrowAnswer { .. } => continue,
            };
            // The runner goes only when the node does.
            let _ = self.errands.send(errand);
        }
    }
}
