//! Carrying a plan out: statements, proofs, transactions, one after the other.
//!
//! Nothing of a run is remembered across a crash. A transaction that landed is seen by the chain follower; one that did not is planned again, and if it lands
//! after all, the later one's proof is stale (its book has another root) and reverts without effect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use millstream_chain::{
    Asked, BookRegistration, BookSettlement, EpochRoot, IntentId, Ledger, Operator, ProofWords, ServedRequest, SlotRow, Submitter,
    TxReceipt,
};
use millstream_circuit::{Book, BookSize, Operation, Place, RegisterStatement, SettleStatement, Slot, field_from_word, field_to_word};
use millstream_engine::RequestKind;
use millstream_prover::{CircuitId, InsecureDevKeys, Proof, Prover, ProverWorker, WorkerError};
use millstream_types::{Amount, BookId, LedgerId, Timestamp};
use millstream_voucher::{PublicKey, VerifiedVoucher};
use serde::Serialize;
use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::core::{Core, now};
use crate::follower::ChainView;
use crate::metrics::Metrics;
use crate::plan::{PlannedBook, PlannedChannel, RegisterBounds, Served, SettlePlan, View, plan_register, plan_settle};

/// Statements that wait for the prover, at most.
const PROVER_QUEUE_MAX: usize = 4;

/// How long a run waits for the follower to see what is on the chain.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(600);

/// One transaction of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Transaction {
    pub(crate) kind: &'static str,
    pub(crate) hash: String,
    pub(crate) block: u64,
    pub(crate) gas_used: u64,
    pub(crate) books: Vec<String>,
    /// Channels touched.
    pub(crate) channels: usize,
    /// Credited to the provider, in nanos.
    pub(crate) total: Amount,
    pub(crate) prove_seconds: f64,
    /// Epochs anchored.
    pub(crate) epochs: Vec<u64>,
}

/// What a run did.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) transactions: Vec<Transaction>,
    /// Nanos.
    pub(crate) settled_total: Amount,
    pub(crate) channels_settled: usize,
}

/// Serves the ledger's queue and settles its books.
pub(crate) struct Settler {
    core: Core,
    operator: Operator,
    submitter: Submitter,
    lane_is_free: Mutex<bool>,
    keys_dir: std::path::PathBuf,
    prover: Mutex<Option<ProverWorker>>,
    sizes: Vec<u16>,
    metrics: Arc<Metrics>,
    view: Arc<ChainView>,
    running: Mutex<()>,
    last: std::sync::Mutex<Option<Report>>,
}

impl Settler {
    pub(crate) fn new(
        core: Core,
        ledger: Ledger,
        submitter: Submitter,
        keys_dir: std::path::PathBuf,
        metrics: Arc<Metrics>,
        view: Arc<ChainView>,
    ) -> Self {
        let operator = Operator::new(ledger, submitter.clone());
        let lane_is_free = Mutex::new(false);
        let sizes = operator.ledger().config().tiers.iter().map(|tier| tier.slots).collect();
        let (prover, running, last) = (Mutex::new(None), Mutex::new(()), std::sync::Mutex::new(None));
        Self { core, operator, submitter, lane_is_free, keys_dir, prover, sizes, metrics, view, running, last }
    }

    /// Whether a run is under way.
    pub(crate) fn is_running(&self) -> bool {
        self.running.try_lock().is_err()
    }

    /// What the last finished run did.
    pub(crate) fn last(&self) -> Option<Report> {
        self.last.lock().map(|last| last.clone()).unwrap_or_default()
    }

    /// What a run would do first.
    pub(crate) async fn plan(&self) -> anyhow::Result<(Vec<Served>, SettlePlan)> {
        let view = View::read(&self.core).await?;
        Ok((plan_register(&view, self.bounds(u64::MAX)), plan_settle(&view, &BTreeSet::new())))
    }

    /// One pass: registers what is queued now, settles every book once, and serves the closes that this set free. What comes meanwhile is
    /// left for the next pass, so that no payer can keep a run from ending.
    pub(crate) async fn run(&self) -> anyhow::Result<Report> {
        let _one_at_a_time = self.running.lock().await;
        let mut report = Report::default();
        let outcome = self.run_into(&mut report).await;
        if let Err(fault) = &outcome {
            self.metrics.settlement_failures.inc();
            warn!(fault = format!("{fault:#}"), transactions = report.transactions.len(), "the settlement run failed");
        }
        if let Ok(mut last) = self.last.lock() {
            *last = Some(report.clone());
        }
        outcome.map(|()| report)
    }

    async fn run_into(&self, report: &mut Report) -> anyhow::Result<()> {
        // Somebody may have changed a book just now: an earlier process of this node, or a payer that was served by a stranger.
        let caught_up = tokio::time::timeout(FOLLOW_TIMEOUT, self.view.caught_up(now())).await;
        caught_up.context("the chain cannot be read")?;
        let end = self.core.query(|engine| engine.queue().end()).await?;
        self.register_all(end, report).await?;
        let mut done = BTreeSet::new();
        loop {
            let view = View::read(&self.core).await?;
            let plan = plan_settle(&view, &done);
            if plan.books.is_empty() && plan.epochs.is_empty() {
                break;
            }
            done.extend(plan.books.iter().map(|planned| planned.book));
            let transaction = self.settle(&view, plan, report).await?;
            self.confirmed(transaction, report).await?;
        }
        self.register_all(end, report).await
    }

    /// Serves requests before position `end` for as long as the next one can be served.
    async fn register_all(&self, end: u64, report: &mut Report) -> anyhow::Result<()> {
        loop {
            let view = View::read(&self.core).await?;
            let served = plan_register(&view, self.bounds(end));
            if served.is_empty() {
                return Ok(());
            }
            warn_of_losses(&view, &served);
            let transaction = self.register(&view, &served).await?;
            self.confirmed(transaction, report).await?;
        }
    }

    /// Notes a transaction, and waits until the engine knows it.
    async fn confirmed(&self, transaction: Transaction, report: &mut Report) -> anyhow::Result<()> {
        info!(
            kind = transaction.kind,
            hash = transaction.hash,
            gas = transaction.gas_used,
            channels = transaction.channels,
            total_nanos = %transaction.total,
            prove_seconds = transaction.prove_seconds,
            "transaction confirmed"
        );
        self.metrics.settlement_gas.inc_by(transaction.gas_used);
        let block = transaction.block;
        report.transactions.push(transaction);
        let seen = tokio::time::timeout(FOLLOW_TIMEOUT, self.view.reached(block)).await;
        seen.context("the chain follower did not get to the transaction's block")?
    }

    fn bounds(&self, end: u64) -> RegisterBounds<'_> {
        // The chain's own clock: it is by block times that the ledger judges (L-6).
        let window = self.operator.ledger().config().response_window_secs.saturating_mul(1_000);
        let overdue_before = Timestamp::from_millis(self.view.head_time().as_millis().saturating_sub(window));
        RegisterBounds { sizes: &self.sizes, overdue_before, end }
    }

    async fn register(&self, view: &View, served: &[Served]) -> anyhow::Result<Transaction> {
        let mut operations: BTreeMap<BookId, Vec<Operation>> = BTreeMap::new();
        for served in served {
            // A void request has no row.
            if let Some(book) = served.book {
                operations.entry(book).or_default().push(operation(view, served)?);
            }
        }
        let (mut registrations, mut rows, mut seconds) = (Vec::new(), BTreeMap::new(), 0.0);
        for (index, (book, operations)) in operations.into_iter().enumerate() {
            let (before, place) = (self.book(view, book).await?, self.place(book));
            let statement = tokio::task::spawn_blocking(move || RegisterStatement::new(place, &before, &operations)).await??;
            for (row_index, row) in statement.rows.iter().enumerate() {
                rows.insert(row.uid, (u16::try_from(index)?, u16::try_from(row_index)?));
            }
            let slot_rows = statement.rows.iter().map(|row| {
                let mut uid = [0; 31];
                uid.copy_from_slice(&row.uid.as_bytes()[1..]);
                let key_x = field_to_word(row.key_x());
                SlotRow { slot: row.slot, flags: row.flags(), delta: row.delta_nanos, refund: row.refund_nanos(), uid, key_x }
            });
            let mut registration = BookRegistration {
                book,
                new_root: field_to_word(statement.new_root),
                commitment: field_to_word(statement.public.commitment),
                proof: [[0; 32]; 8],
                rows: slot_rows.collect(),
            };
            let (prover, started) = (self.prover().await?, Instant::now());
            let (proof, took) = self.proof(started, prover.register(statement).await).await?;
            registration.proof = proof;
            seconds += took;
            registrations.push(registration);
        }
        let requests = served.iter().map(|served| request(view, served, &rows)).collect::<anyhow::Result<Vec<_>>>()?;
        let roots: Vec<_> = registrations.iter().map(|registration| registration.new_root).collect();
        self.free_lane().await?;
        let receipt = self.operator.register(intent(b"register", &roots), &registrations, &requests).await?;
        self.metrics.registrations.inc_by(registrations.len() as u64);
        let books = registrations.iter().map(|registration| registration.book.to_string()).collect();
        Ok(Transaction { books, channels: rows.len(), prove_seconds: seconds, ..transaction("register", &receipt) })
    }

    /// The vouchers whose signatures the exact check confirms. They were all accepted, but most of them by lanes that are only sampled, and one that does not
    /// hold would spoil the proof of its whole book, every time.
    async fn provable(&self, view: &View, vouchers: BTreeMap<u16, VerifiedVoucher>) -> anyhow::Result<BTreeMap<u16, VerifiedVoucher>> {
        let keys: BTreeMap<u16, Option<[u8; 32]>> = vouchers
            .iter()
            .map(|(slot, voucher)| (*slot, view.channels.get(&voucher.body().channel).map(|channel| channel.key_x)))
            .collect();
        let (good, bad) = tokio::task::spawn_blocking(move || {
            vouchers.into_iter().partition::<BTreeMap<_, _>, _>(|(slot, voucher)| {
                let key = keys.get(slot).copied().flatten().and_then(|x| PublicKey::from_x(&x).ok());
                key.is_some_and(|key| voucher.signed().verify(&key).is_ok())
            })
        })
        .await?;
        for voucher in bad.values() {
            self.metrics.check_disagreements.inc();
            error!(channel = %voucher.body().channel, "an accepted voucher does not hold: the channel is left out of the settlement");
        }
        Ok(good)
    }

    async fn settle(&self, view: &View, plan: SettlePlan, report: &mut Report) -> anyhow::Result<Transaction> {
        let (mut settlements, mut seconds, mut channels, mut total) = (Vec::new(), 0.0, 0, Amount::ZERO);
        for PlannedBook { book, vouchers, total: _ } in plan.books {
            let vouchers = self.provable(view, vouchers).await?;
            if vouchers.is_empty() {
                continue;
            }
            let (before, place) = (self.book(view, book).await?, self.place(book));
            channels += vouchers.len();
            let mut slots = vec![None; before.size().to_usize()];
            for (slot, voucher) in vouchers {
                slots[usize::from(slot)] = Some(voucher);
            }
            let statement = tokio::task::spawn_blocking(move || SettleStatement::new(place, &before, &slots)).await??;
            let book_total = Amount::from_units(statement.total_nanos);
            let mut settlement = BookSettlement {
                book,
                new_root: field_to_word(statement.new_root),
                total: book_total,
                commitment: field_to_word(statement.public.commitment),
                proof: [[0; 32]; 8],
                deltas: unpack_deltas(&statement.deltas, statement.book_after.size()),
            };
            let (prover, started) = (self.prover().await?, Instant::now());
            let (proof, took) = self.proof(started, prover.settle(statement).await).await?;
            settlement.proof = proof;
            seconds += took;
            total = total.checked_add(book_total)?;
            settlements.push(settlement);
        }
        anyhow::ensure!(!settlements.is_empty() || !plan.epochs.is_empty(), "no voucher of the plan can be proved");
        let ledger = self.operator.ledger().id();
        let roots = plan
            .epochs
            .iter()
            .filter_map(|epoch| epoch.header(ledger).map(|header| EpochRoot { epoch: epoch.id, root: *header.root().as_bytes() }));
        let epochs: Vec<_> = roots.collect();
        let digest: Vec<_> = settlements.iter().map(|book| book.new_root).chain(epochs.iter().map(|epoch| epoch.root)).collect();
        self.free_lane().await?;
        let receipt = self.operator.settle(intent(b"settle", &digest), &settlements, &epochs).await?;
        self.metrics.settlements.inc_by(settlements.len() as u64);
        report.settled_total = report.settled_total.checked_add(total)?;
        report.channels_settled += channels;
        let books = settlements.iter().map(|settlement| settlement.book.to_string()).collect();
        let epochs = epochs.iter().map(|epoch| epoch.epoch.number()).collect();
        Ok(Transaction { books, channels, total, epochs, prove_seconds: seconds, ..transaction("settle", &receipt) })
    }

    /// Replaces what an earlier process of this operator left in the pool, once: whoever would raise its fees is gone.
    async fn free_lane(&self) -> anyhow::Result<()> {
        let mut is_free = self.lane_is_free.lock().await;
        if !*is_free {
            let cancelled = self.submitter.cancel_inherited().await?;
            if cancelled > 0 {
                warn!(cancelled, "transactions of an earlier process were replaced");
            }
            *is_free = true;
        }
        Ok(())
    }

    fn place(&self, book: BookId) -> Place {
        Place { ledger: self.operator.ledger().id(), book }
    }

    /// The book as the chain has it, rebuilt from our records and checked against the root there.
    async fn book(&self, view: &View, id: BookId) -> anyhow::Result<Book> {
        let slots = self.sizes.get(usize::from(id.tier().index())).with_context(|| format!("the ledger has no tier for book {id}"))?;
        let book = build_book(view, id, BookSize::new(usize::from(*slots))?)?;
        let (ours, theirs) = (field_to_word(book.root()), self.operator.ledger().book_root(id).await?);
        anyhow::ensure!(
            ours == theirs,
            "our records of book {id} do not lead to its root on the chain: it changed under us, or records are missing"
        );
        Ok(book)
    }

    /// The prover, with the ledger's keys loaded; the first call waits for them.
    async fn prover(&self) -> anyhow::Result<ProverWorker> {
        let mut prover = self.prover.lock().await;
        if let Some(worker) = &*prover {
            return Ok(worker.clone());
        }
        let (ledger, directory) = (self.operator.ledger().clone(), self.keys_dir.clone());
        let loaded = tokio::task::spawn_blocking(move || load_prover(ledger.id(), &ledger.config().tiers, &directory)).await??;
        Ok(prover.insert(ProverWorker::spawn(Arc::new(loaded), PROVER_QUEUE_MAX)).clone())
    }

    /// Takes a proof; a worker that has stopped is replaced by the next run.
    async fn proof(&self, started: Instant, proof: Result<Proof, WorkerError>) -> anyhow::Result<(ProofWords, f64)> {
        if matches!(proof, Err(WorkerError::Stopped)) {
            *self.prover.lock().await = None;
        }
        let seconds = started.elapsed().as_secs_f64();
        self.metrics.prove_seconds.observe(seconds);
        Ok((proof?.words(), seconds))
    }
}

/// Loads or makes the development keys of every tier, and compares them with the ledger's verifiers.
fn load_prover(ledger: LedgerId, tiers: &[millstream_chain::TierConfig], directory: &std::path::Path) -> anyhow::Result<Prover> {
    millstream_prover::refuse_public_chain(ledger.chain)?;
    let mut keys = Vec::new();
    for tier in tiers {
        let size = BookSize::new(usize::from(tier.slots))?;
        for (circuit, expected) in CircuitId::of_tier(size).into_iter().zip([tier.settle_key, tier.register_key]) {
            let key = InsecureDevKeys::load_or_generate(circuit, directory)?;
            let ours = key.verifying_key().key_hash();
            anyhow::ensure!(ours == expected, "the ledger verifies {circuit} with the key {expected}; ours is {ours}");
            keys.push(key);
        }
    }
    info!(circuits = keys.len(), "insecure development keys loaded");
    Ok(Prover::insecure_dev(keys))
}

fn warn_of_losses(view: &View, served: &[Served]) {
    for close in served.iter().filter(|served| served.request.kind == RequestKind::Close) {
        let lost = view.channels.get(&close.request.channel).map(PlannedChannel::unsettled).filter(|lost| !lost.is_zero());
        if let Some(lost) = lost {
            warn!(channel = %close.request.channel, lost_nanos = %lost, "an overdue close is served: what was not settled is lost");
        }
    }
}

fn build_book(view: &View, id: BookId, size: BookSize) -> anyhow::Result<Book> {
    let mut slots = Vec::new();
    for (slot, channel) in view.books.get(&id).into_iter().flatten() {
        let channel = view.channels.get(channel).context("a book holds a channel that is not known")?;
        let key_x = field_from_word(&channel.key_x).context("a registered key is no field element")?;
        let (registered, settled) = (channel.registered.to_u64()?, channel.settled.to_u64()?);
        slots.push((*slot, Slot::new(*slot, channel.id, key_x, registered, settled)?));
    }
    Ok(Book::from_channels(size, slots)?)
}

fn operation(view: &View, served: &Served) -> anyhow::Result<Operation> {
    let (uid, amount_nanos) = (served.request.channel, served.request.amount.to_u64()?);
    Ok(match served.request.kind {
        RequestKind::Open => {
            let channel = view.channels.get(&uid).context("an opened channel is not known")?;
            let key_x = field_from_word(&channel.key_x).context("a queued key is no field element")?;
            Operation::Open { slot: served.slot.context("an opened channel has no slot")?, uid, key_x, amount_nanos }
        }
        RequestKind::TopUp => Operation::TopUp { uid, amount_nanos },
        RequestKind::Close => Operation::Close { uid },
    })
}

fn request(view: &View, served: &Served, rows: &BTreeMap<millstream_types::ChannelId, (u16, u16)>) -> anyhow::Result<ServedRequest> {
    let (channel, amount) = (served.request.channel, served.request.amount.to_u64()?);
    let (registration, row) = match served.book {
        Some(_) => *rows.get(&channel).context("a served request has no row")?,
        // The ledger looks at neither.
        None => (0, 0),
    };
    let asked = match served.request.kind {
        RequestKind::Open => Asked::Open { key_x: view.channels.get(&channel).context("an opened channel is not known")?.key_x, amount },
        RequestKind::TopUp => Asked::TopUp { amount },
        RequestKind::Close => Asked::Close,
    };
    Ok(ServedRequest { channel, asked, registration, row })
}

fn unpack_deltas(bytes: &[u8], size: BookSize) -> Vec<u64> {
    bytes.as_chunks().0.iter().take(size.to_usize()).map(|delta| u64::from_be_bytes(*delta)).collect()
}

fn transaction(kind: &'static str, receipt: &TxReceipt) -> Transaction {
    Transaction {
        kind,
        hash: receipt.transaction.to_string(),
        block: receipt.block.height(),
        gas_used: receipt.gas_used,
        books: Vec::new(),
        channels: 0,
        total: Amount::ZERO,
        prove_seconds: 0.0,
        epochs: Vec::new(),
    }
}

/// The identity of a transaction: what it changes the books to. Sent again while it is under way, it is the same transaction.
fn intent(kind: &[u8], roots: &[[u8; 32]]) -> IntentId {
    let mut hasher = <sha2::Sha256 as sha2::Digest>::new();
    sha2::Digest::update(&mut hasher, kind);
    for root in roots {
        sha2::Digest::update(&mut hasher, root);
    }
    IntentId::from_bytes(sha2::Digest::finalize(hasher).into())
}
