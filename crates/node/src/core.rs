//! The core: one thread that owns the engine and the store, and ticks.
//!
//! A tick takes everything that is queued, applies it in order, commits one synced batch, and only then releases the answers. The
//! next tick starts when the disk is free again: group commit clocks itself. A fault of the engine or the store ends the thread; nothing
//! of that tick is answered, and the node stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use millstream_engine::{Answer, Effect, Engine, EngineConfig, FrameInput, Input, Key, Record, ReplyId, StoredFrame, Table};
use millstream_store::{Backend, Batch, KeyRange, Read, SchemaVersion};
use millstream_types::{ChannelId, EpochId, LedgerId, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info};

use crate::metrics::Metrics;

/// Version of the record encodings.
pub(crate) const SCHEMA: SchemaVersion = SchemaVersion(1);

/// Key in the `meta` table of the ledger that a data directory belongs to: chain id (8) ‖ contract (20).
const LEDGER_KEY: &[u8] = b"ledger";

/// Commands that wait for a tick, at most: beyond it sessions stop reading.
const QUEUED_COMMANDS_MAX: usize = 4_096;

/// Commands in one tick, at most.
const TICK_COMMANDS_MAX: usize = 4_096;

/// Bytes in one tick's batch, about, before it is committed.
const TICK_BYTES_MAX: usize = 16 << 20;

/// What an answer is released with.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) answer: Answer,
    /// Number of the durable batch that the answer rests on.
    pub(crate) commit: u64,
}

/// Work that an effect asks for outside of the core.
#[derive(Debug)]
pub(crate) enum Errand {
    SealEpoch { epoch: EpochId, frames: u32 },
    WakeAt(Timestamp),
}

type Query = Box<dyn FnOnce(&Engine) + Send>;

enum Command {
    Attach { channel: ChannelId, reply: mpsc::UnboundedSender<Release> },
    Frame { frame: Box<FrameInput>, reply: mpsc::UnboundedSender<Release> },
    Inputs(Vec<Input>, oneshot::Sender<()>),
    Query(Query),
    Stop,
}

/// The core has stopped; the node's own report says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node's core has stopped")]
pub struct Stopped;

/// A handle to the core. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Core {
    commands: mpsc::Sender<Command>,
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
    /// Restores the engine from the store and starts ticking.
    pub(crate) fn start(
        config: EngineConfig,
        mut store: impl Backend + Send + 'static,
        metrics: Arc<Metrics>,
        errands: mpsc::UnboundedSender<Errand>,
    ) -> anyhow::Result<(Self, CoreThread)> {
        let started = Instant::now();
        bind_to_ledger(&mut store, config.ledger)?;
        let mut effects = Vec::new();
        let engine = Engine::restore(config, read_records(&store)?, &mut effects);
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
        let mut ticker = Ticker {
            commit: Arc::clone(&commit),
            engine,
            store,
            metrics,
            errands,
            batch: Batch::new(),
            waiting: Vec::new(),
            queries: Vec::new(),
        };
        ticker.run_errands(effects);
        let watched = Arc::clone(&alive);
        let handle = std::thread::Builder::new().name("core".into()).spawn(move || {
            let outcome = ticker.run(queue);
            watched.store(false, Ordering::Release);
            if let Err(fault) = &outcome {
                error!(fault = format!("{fault:#}"), "the core stopped: nothing more is acknowledged");
            }
            // Nobody may be waiting any more; then there is nobody to tell.
            let _ = end.send(());
            outcome
        })?;
        Ok((Self { commands, alive, commit }, CoreThread { handle, ended }))
    }

    /// Whether the core ticks.
    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// The number of the last durable batch.
    pub(crate) fn commit(&self) -> u64 {
        self.commit.load(Ordering::Acquire)
    }

    /// A channel's durable state: a snapshot, or the rejection of a channel that is not known.
    pub(crate) async fn attach(&self, channel: ChannelId) -> Result<Answer, Stopped> {
        let (reply, mut answers) = mpsc::unbounded_channel();
        self.commands.send(Command::Attach { channel, reply }).await.map_err(|_| Stopped)?;
        answers.recv().await.map(|release| release.answer).ok_or(Stopped)
    }

    /// Applies a frame; the answer comes through `reply` once it is durable. Waits while the queue is full. The reply id is the core's to set.
    pub(crate) async fn frame(&self, frame: FrameInput, reply: mpsc::UnboundedSender<Release>) -> Result<(), Stopped> {
        self.commands.send(Command::Frame { frame: Box::new(frame), reply }).await.map_err(|_| Stopped)
    }

    /// Applies inputs that nobody answers, in one tick, and waits until they are durable.
    pub(crate) async fn inputs(&self, inputs: Vec<Input>) -> Result<(), Stopped> {
        let (done, durable) = oneshot::channel();
        self.commands.send(Command::Inputs(inputs, done)).await.map_err(|_| Stopped)?;
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
    }
}

/// A data directory belongs to the ledger that it was made for: under another one its vouchers would be worth nothing.
fn bind_to_ledger(store: &mut impl Backend, ledger: LedgerId) -> anyhow::Result<()> {
    let bytes = [ledger.chain.get().to_be_bytes().as_slice(), ledger.contract.as_bytes()].concat();
    let table = store_table(Table::Meta);
    match store.get(table, LEDGER_KEY)? {
        Some(stored) => {
            anyhow::ensure!(stored == bytes, "this data directory is of another ledger than {} on chain {}", ledger.contract, ledger.chain);
        }
        None => {
            let mut batch = Batch::new();
            batch.put(table, LEDGER_KEY, &bytes);
            store.commit(&batch)?;
        }
    }
    Ok(())
}

/// Everything that the engine keeps in memory: proportional to channels, not to payments.
fn read_records(store: &impl Read) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    for key in [Key::Cursor, Key::Retelling, Key::OpenEpoch] {
        if let Some(value) = store.get(store_table(key.table()), &key.to_bytes())? {
            records.push(Record::decode(key.table(), &key.to_bytes(), &value)?);
        }
    }
    for table in [Table::Channels, Table::Epochs, Table::Requests] {
        for (key, value) in store.collect(store_table(table), &KeyRange::all())? {
            records.push(Record::decode(table, &key, &value)?);
        }
    }
    Ok(records)
}

struct Ticker<S> {
    commit: Arc<AtomicU64>,
    engine: Engine,
    store: S,
    metrics: Arc<Metrics>,
    errands: mpsc::UnboundedSender<Errand>,
    batch: Batch,
    /// Who waits in this tick; a [`ReplyId`] is the position.
    waiting: Vec<mpsc::UnboundedSender<Release>>,
    queries: Vec<Query>,
}

impl<S: Backend> Ticker<S> {
    fn run(&mut self, mut queue: mpsc::Receiver<Command>) -> anyhow::Result<()> {
        while let Some(first) = queue.blocking_recv() {
            let (mut effects, mut durable) = (Vec::new(), Vec::new());
            let (now, mut stop) = (now(), false);
            let mut next = Some(first);
            let (mut commands, mut bytes) = (0, 0);
            while let Some(command) = next {
                commands += 1;
                match command {
                    Command::Attach { channel, reply } => {
                        let reply = self.wait(reply);
                        self.engine.apply(now, Input::Attach { reply, channel }, &mut effects)?;
                    }
                    Command::Frame { mut frame, reply } => {
                        bytes += frame.bytes.len();
                        frame.reply = self.wait(reply);
                        self.engine.apply(now, Input::Frame(*frame), &mut effects)?;
                    }
                    Command::Inputs(inputs, done) => {
                        for input in inputs {
                            self.engine.apply(now, input, &mut effects)?;
                        }
                        durable.push(done);
                    }
                    Command::Query(query) => self.queries.push(query),
                    Command::Stop => {
                        stop = true;
                        break;
                    }
                }
                next = if commands < TICK_COMMANDS_MAX && bytes < TICK_BYTES_MAX { queue.try_recv().ok() } else { None };
            }
            self.engine.end_tick(&mut effects);
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

    fn wait(&mut self, reply: mpsc::UnboundedSender<Release>) -> ReplyId {
        self.waiting.push(reply);
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
                    self.put(Key::Frame(leaf.channel, leaf.lines_before), &StoredFrame { epoch, index, bytes }.encode());
                }
                Effect::Answer { .. } | Effect::SealEpoch { .. } | Effect::WakeAt(_) => rest.push(effect),
            }
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
            if let Effect::Answer { reply, answer } = effect {
                let waiting = usize::try_from(reply.0).ok().and_then(|index| self.waiting.get(index));
                if let Some(waiting) = waiting {
                    // A payer that left learns the same from its next attach.
                    let _ = waiting.send(Release { answer, commit });
                }
            } else {
                errands.push(effect);
            }
        }
        self.waiting.clear();
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
                Effect::WakeAt(at) => Errand::WakeAt(at),
                Effect::Put(_) | Effect::Delete(_) | Effect::PutFrame { .. } | Effect::Answer { .. } => continue,
            };
            // The runner goes only when the node does.
            let _ = self.errands.send(errand);
        }
    }
}
