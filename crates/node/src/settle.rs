//! Carrying a plan out: statements, proofs, transactions, one after the other.
//!
//! Nothing of a run is remembered across a crash. A transaction that landed is seen by the chain follower; one that did not is planned again, and if it lands
//! after all, the later one's proof is stale (its book has another root) and reverts without effect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use millstream_chain::{Asked, BookRegistration, BookSettlement, EpochRoot, IntentId, Operator, ServedRequest, SlotRow, TxReceipt};
use millstream_circuit::{Book, BookSize, Operation, Place, RegisterStatement, SettleStatement, Slot, field_from_word, field_to_word};
use millstream_engine::RequestKind;
use millstream_prover::{CircuitId, InsecureDevKeys, Prover, ProverWorker};
use millstream_types::{Amount, BookId, LedgerId, Timestamp};
use serde::Serialize;
use tokio::sync::{Mutex, OnceCell, watch};
use tracing::{info, warn};

use crate::core::{Core, now};
use crate::metrics::Metrics;
use crate::plan::{PlannedBook, PlannedChannel, Served, SettlePlan, View, plan_register, plan_settle};

/// Transactions in one run, at most: a run that needs more is a loop that makes no progress.
const RUN_TRANSACTIONS_MAX: usize = 256;

/// Statements that wait for the prover, at most.
const PROVER_QUEUE_MAX: usize = 4;

/// How long a run waits for the follower to see a mined transaction.
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
    keys_dir: std::path::PathBuf,
    prover: OnceCell<ProverWorker>,
    sizes: Vec<u16>,
    metrics: Arc<Metrics>,
    /// The last block that the follower applied.
    followed: watch::Receiver<u64>,
    running: Mutex<()>,
    last: std::sync::Mutex<Option<Report>>,
}

impl Settler {
    pub(crate) fn new(
        core: Core,
        operator: Operator,
        keys_dir: std::path::PathBuf,
        metrics: Arc<Metrics>,
        followed: watch::Receiver<u64>,
    ) -> Self {
        let sizes = operator.ledger().config().tiers.iter().map(|tier| tier.slots).collect();
        let (prover, running, last) = (OnceCell::new(), Mutex::new(()), std::sync::Mutex::new(None));
        Self { core, operator, keys_dir, prover, sizes, metrics, followed, running, last }
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
        let view = self.core.query(View::of).await?;
        Ok((plan_register(&view, &self.sizes, self.overdue_before()), plan_settle(&view)))
    }

    /// Registers and settles until nothing is left to do.
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
        while report.transactions.len() < RUN_TRANSACTIONS_MAX {
            let view = self.core.query(View::of).await?;
            let served = plan_register(&view, &self.sizes, self.overdue_before());
            self.warn_of_losses(&view, &served);
            let transaction = if served.is_empty() {
                let plan = plan_settle(&view);
                if plan.books.is_empty() && plan.epochs.is_empty() {
                    return Ok(());
                }
                self.settle(&view, plan, report).await?
            } else {
                self.register(&view, &served).await?
            };
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
            self.follow(block).await?;
        }
        bail!("{RUN_TRANSACTIONS_MAX} transactions in one run: it makes no progress")
    }

    /// Requests made before this moment are overdue (L-6), by this machine's clock.
    fn overdue_before(&self) -> Timestamp {
        let window = self.operator.ledger().config().response_window_secs.saturating_mul(1_000);
        Timestamp::from_millis(now().as_millis().saturating_sub(window))
    }

    fn warn_of_losses(&self, view: &View, served: &[Served]) {
        for close in served.iter().filter(|served| served.request.kind == RequestKind::Close) {
            if let Some(lost) = view.channels.get(&close.request.channel).map(PlannedChannel::unsettled).filter(|lost| !lost.is_zero()) {
                warn!(channel = %close.request.channel, lost_nanos = %lost, "an overdue close is served: what was not settled is lost");
            }
        }
    }

    async fn register(&self, view: &View, served: &[Served]) -> anyhow::Result<Transaction> {
        let mut operations: BTreeMap<BookId, Vec<Operation>> = BTreeMap::new();
        for served in served {
            operations.entry(served.book).or_default().push(operation(view, served)?);
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
            let started = Instant::now();
            registration.proof = self.prover().await?.register(statement).await?.words();
            seconds += self.proved(started);
            registrations.push(registration);
        }
        let requests = served.iter().map(|served| request(view, served, &rows)).collect::<anyhow::Result<Vec<_>>>()?;
        let roots: Vec<_> = registrations.iter().map(|registration| registration.new_root).collect();
        let receipt = self.operator.register(intent(b"register", &roots), &registrations, &requests).await?;
        self.metrics.registrations.inc_by(registrations.len() as u64);
        let books = registrations.iter().map(|registration| registration.book.to_string()).collect();
        Ok(Transaction { books, channels: rows.len(), prove_seconds: seconds, ..transaction("register", &receipt) })
    }

    async fn settle(&self, view: &View, plan: SettlePlan, report: &mut Report) -> anyhow::Result<Transaction> {
        let (mut settlements, mut seconds, mut channels, mut total) = (Vec::new(), 0.0, 0, Amount::ZERO);
        for PlannedBook { book, vouchers, total: _ } in plan.books {
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
            let started = Instant::now();
            settlement.proof = self.prover().await?.settle(statement).await?.words();
            seconds += self.proved(started);
            total = total.checked_add(book_total)?;
            settlements.push(settlement);
        }
        let ledger = self.operator.ledger().id();
        let roots = plan
            .epochs
            .iter()
            .filter_map(|epoch| epoch.header(ledger).map(|header| EpochRoot { epoch: epoch.id, root: *header.root().as_bytes() }));
        let epochs: Vec<_> = roots.collect();
        let digest: Vec<_> = settlements.iter().map(|book| book.new_root).chain(epochs.iter().map(|epoch| epoch.root)).collect();
        let receipt = self.operator.settle(intent(b"settle", &digest), &settlements, &epochs).await?;
        self.metrics.settlements.inc_by(settlements.len() as u64);
        report.settled_total = report.settled_total.checked_add(total)?;
        report.channels_settled += channels;
        let books = settlements.iter().map(|settlement| settlement.book.to_string()).collect();
        let epochs = epochs.iter().map(|epoch| epoch.epoch.number()).collect();
        Ok(Transaction { books, channels, total, epochs, prove_seconds: seconds, ..transaction("settle", &receipt) })
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
    pub(crate) async fn prover(&self) -> anyhow::Result<&ProverWorker> {
        let load = || async {
            let (ledger, directory) = (self.operator.ledger().clone(), self.keys_dir.clone());
            let prover = tokio::task::spawn_blocking(move || load_prover(ledger.id(), &ledger.config().tiers, &directory)).await??;
            anyhow::Ok(ProverWorker::spawn(Arc::new(prover), PROVER_QUEUE_MAX))
        };
        self.prover.get_or_try_init(load).await
    }

    fn proved(&self, started: Instant) -> f64 {
        let seconds = started.elapsed().as_secs_f64();
        self.metrics.prove_seconds.observe(seconds);
        seconds
    }

    /// Waits until the engine knows a mined transaction.
    async fn follow(&self, block: u64) -> anyhow::Result<()> {
        let mut followed = self.followed.clone();
        let seen = tokio::time::timeout(FOLLOW_TIMEOUT, followed.wait_for(|seen| *seen >= block)).await;
        seen.context("the chain follower did not get to the transaction's block")?.context("the chain follower has stopped")?;
        Ok(())
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
    let (registration, row) = *rows.get(&channel).context("a served request has no row")?;
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
