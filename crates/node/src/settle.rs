//! Carrying a plan out: statements, proofs, transactions, one after the other.
//!
//! Of a run nothing but its finished proofs outlives a crash (`prove`). A transaction that landed is seen by the chain follower; one that did not is planned
//! again, and if it lands after all, the later one's proof is stale (its book has another root) and reverts without effect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millstream_chain::{
    Asked, BookRegistration, BookSettlement, EpochRoot, IntentId, Ledger, Operator, ServedRequest, SlotRow, Submitter, TxReceipt,
};
use millstream_circuit::{Book, BookSize, Operation, Place, RegisterStatement, SettleStatement, Slot, field_from_word, field_to_word};
use millstream_engine::{Location, RequestKind};
use millstream_prover::CircuitKind;
use millstream_types::{Amount, BookId, ChannelId, Timestamp};
use millstream_voucher::{PublicKey, SignedVoucher, VerifiedVoucher};
use serde::Serialize;
use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::core::{Core, now};
use crate::follower::ChainView;
use crate::metrics::Metrics;
use crate::moves::{Move, plan_moves};
use crate::plan::{Floor, PlannedBook, PlannedChannel, RegisterBounds, Served, SettlePlan, View, plan_register, plan_settle};
use crate::prove::{Finished, Proofs, Statement, Wanted};

/// How long a run waits for the follower to see what is on the chain.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(600);

/// How often the queue is looked at while moves are proved.
const QUEUE_POLL: Duration = Duration::from_millis(200);

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
    /// Channels that went to another slot.
    pub(crate) moves: Vec<MoveView>,
}

/// A move as it is shown: places are `tier:number/slot`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MoveView {
    pub(crate) channel: ChannelId,
    pub(crate) from: String,
    pub(crate) to: String,
}

impl From<&Move> for MoveView {
    fn from(planned: &Move) -> Self {
        let shown = |at: Location| format!("{}/{}", at.book, at.slot);
        Self { channel: planned.channel, from: shown(planned.from), to: shown(planned.to) }
    }
}

/// What a run would do first.
pub(crate) struct Plan {
    pub(crate) served: Vec<Served>,
    pub(crate) settle: SettlePlan,
    /// What it would do last, were nothing else to change anything.
    pub(crate) moves: Vec<Move>,
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
    proofs: Arc<Proofs>,
    sizes: Vec<u16>,
    /// See [`SettlementSection::compact_within_settlements`](crate::SettlementSection).
    compact_within: u32,
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
        proofs: Arc<Proofs>,
        compact_within: u32,
        metrics: Arc<Metrics>,
        view: Arc<ChainView>,
    ) -> Self {
        let operator = Operator::new(ledger, submitter.clone());
        let lane_is_free = Mutex::new(false);
        let sizes = operator.ledger().config().tiers.iter().map(|tier| tier.slots).collect();
        let (running, last) = (Mutex::new(()), std::sync::Mutex::new(None));
        Self { core, operator, submitter, lane_is_free, proofs, sizes, compact_within, metrics, view, running, last }
    }

    /// The proofs under way.
    pub(crate) fn proofs(&self) -> &Proofs {
        &self.proofs
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
    pub(crate) async fn plan(&self) -> anyhow::Result<Plan> {
        let view = View::read(&self.core).await?;
        let served = plan_register(&view, self.bounds(u64::MAX));
        let settle = plan_settle(&view, &self.sizes, &BTreeSet::new(), Floor::NONE);
        Ok(Plan { served, settle, moves: plan_moves(&view, &self.sizes, &unsettled_books(&view), self.compact_within) })
    }

    /// One pass: registers what is queued now, settles every book once, and serves the closes that this set free. What comes meanwhile is
    /// left for the next pass, so that no payer can keep a run from ending. When nothing is queued after it, channels are moved together, in one
    /// transaction, if that makes the settlements to come cheaper.
    ///
    /// Books with less to collect than `floor` are left alone, unless one of their channels is closing.
    pub(crate) async fn run(&self, floor: Floor) -> anyhow::Result<Report> {
        let _one_at_a_time = self.running.lock().await;
        let mut report = Report::default();
        let outcome = self.run_into(floor, &mut report).await;
        if let Err(fault) = &outcome {
            self.metrics.settlement_failures.inc();
            warn!(fault = format!("{fault:#}"), transactions = report.transactions.len(), "the settlement run failed");
        }
        if let Ok(mut last) = self.last.lock() {
            *last = Some(report.clone());
        }
        outcome.map(|()| report)
    }

    async fn run_into(&self, floor: Floor, report: &mut Report) -> anyhow::Result<()> {
        // Somebody may have changed a book just now: an earlier process of this node, or a payer that was served by a stranger.
        let caught_up = tokio::time::timeout(FOLLOW_TIMEOUT, self.view.caught_up(now())).await;
        caught_up.context("the chain cannot be read")?;
        let end = self.core.query(|engine| engine.queue().end()).await?;
        self.register_all(end, report).await?;
        let mut done = BTreeSet::new();
        loop {
            let view = View::read(&self.core).await?;
            let plan = plan_settle(&view, &self.sizes, &done, floor);
            if plan.books.is_empty() && plan.epochs.is_empty() {
                break;
            }
            done.extend(plan.books.iter().map(|planned| planned.book));
            let transaction = self.settle(&view, plan, report).await?;
            self.confirmed(transaction, report).await?;
        }
        self.register_all(end, report).await?;
        // The pass is over: what goes wrong now costs nobody anything, and is tried again after the next one.
        if let Err(fault) = self.compact(&done, report).await {
            warn!(fault = format!("{fault:#}"), "channels were not moved together");
        }
        Ok(())
    }

    /// Moves channels so that fewer books are settled, unless a request waits or comes.
    async fn compact(&self, settled: &BTreeSet<BookId>, report: &mut Report) -> anyhow::Result<()> {
        let view = View::read(&self.core).await?;
        let moves = plan_moves(&view, &self.sizes, settled, self.compact_within);
        if moves.is_empty() {
            return Ok(());
        }
        let ends = ends(&view, &moves)?;
        let proved = tokio::select! {
            biased;
            asked = self.request_comes() => {
                asked?;
                info!(channels = moves.len(), "channels are not moved: a request came");
                return Ok(());
            }
            proved = self.prove_registrations(&view, ends) => proved?,
        };
        // From here on it is one transaction, which delays no other.
        let (registrations, prove_seconds) = proved;
        let receipt = self.send_registrations(b"move", &registrations, &[]).await?;
        self.metrics.moved_channels.inc_by(moves.len() as u64);
        let books = registrations.iter().map(|registration| registration.book.to_string()).collect();
        let (channels, moves) = (moves.len(), moves.iter().map(MoveView::from).collect());
        self.confirmed(Transaction { books, channels, prove_seconds, moves, ..transaction("move", &receipt) }, report).await
    }

    /// Waits until a request is queued.
    async fn request_comes(&self) -> anyhow::Result<()> {
        while self.core.query(|engine| engine.queue().is_empty()).await? {
            tokio::time::sleep(QUEUE_POLL).await;
        }
        Ok(())
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
        let (registrations, seconds) = self.prove_registrations(view, operations.into_iter().collect()).await?;
        let mut rows = BTreeMap::new();
        for (index, registration) in registrations.iter().enumerate() {
            for (row_index, row) in registration.rows.iter().enumerate() {
                rows.insert(ChannelId::from_uid(&row.uid), (u16::try_from(index)?, u16::try_from(row_index)?));
            }
        }
        let requests = served.iter().map(|served| request(view, served, &rows)).collect::<anyhow::Result<Vec<_>>>()?;
        let receipt = self.send_registrations(b"register", &registrations, &requests).await?;
        let books = registrations.iter().map(|registration| registration.book.to_string()).collect();
        Ok(Transaction { books, channels: rows.len(), prove_seconds: seconds, ..transaction("register", &receipt) })
    }

    /// What is sent of each book, with its proof; and for how long the longest proof took, in seconds.
    async fn prove_registrations(
        &self,
        view: &View,
        operations: Vec<(BookId, Vec<Operation>)>,
    ) -> anyhow::Result<(Vec<BookRegistration>, f64)> {
        let (mut registrations, mut wanted) = (Vec::new(), Vec::new());
        for (book, operations) in operations {
            let (before, old_root, place) = self.book(view, book).await?;
            let statement = tokio::task::spawn_blocking(move || RegisterStatement::new(place, &before, &operations)).await??;
            let slot_rows = statement.rows.iter().map(|row| {
                let (flags, key_x) = (row.flags(), field_to_word(row.key_x()));
                SlotRow { slot: row.slot, flags, delta: row.delta_nanos(), refund: row.refund_nanos(), uid: row.uid.to_uid(), key_x }
            });
            registrations.push(BookRegistration {
                book,
                new_root: field_to_word(statement.new_root),
                commitment: field_to_word(statement.public.commitment),
                proof: [[0; 32]; 8],
                rows: slot_rows.collect(),
            });
            let kept = self.proofs.kept(CircuitKind::Register, book, old_root).await?;
            wanted.push(Wanted { statement: Statement::Register(statement), old_root, vouchers: BTreeMap::new(), kept });
        }
        let proved = self.proofs.prove(wanted).await?;
        for (registration, proved) in registrations.iter_mut().zip(&proved) {
            registration.proof = proved.words;
        }
        let seconds = proved.iter().map(|proved| proved.seconds).fold(0.0, f64::max);
        Ok((registrations, seconds))
    }

    async fn send_registrations(
        &self,
        kind: &[u8],
        registrations: &[BookRegistration],
        requests: &[ServedRequest],
    ) -> anyhow::Result<TxReceipt> {
        let roots: Vec<_> = registrations.iter().map(|registration| registration.new_root).collect();
        self.free_lane().await?;
        let receipt = self.operator.register(intent(kind, &roots), registrations, requests).await?;
        self.proofs.forget(CircuitKind::Register, registrations.iter().map(|registration| registration.book).collect()).await?;
        self.metrics.registrations.inc_by(registrations.len() as u64);
        Ok(receipt)
    }

    /// The vouchers whose signatures the exact check confirms. They were all accepted, but most of them by lanes that are only sampled, and one that does not
    /// hold would spoil the proof of its whole book, every time.
    async fn provable(&self, view: &View, vouchers: BTreeMap<u16, SignedVoucher>) -> anyhow::Result<BTreeMap<u16, VerifiedVoucher>> {
        let keys: BTreeMap<u16, Option<[u8; 32]>> = vouchers
            .iter()
            .map(|(slot, voucher)| (*slot, view.channels.get(&voucher.body().channel).map(|channel| channel.key_x)))
            .collect();
        let judged = tokio::task::spawn_blocking(move || {
            let judge = |(slot, voucher): (u16, SignedVoucher)| {
                let key = keys.get(&slot).copied().flatten().and_then(|x| PublicKey::from_x(&x).ok());
                (slot, voucher, key.and_then(|key| voucher.verify(&key).ok()))
            };
            vouchers.into_iter().map(judge).collect::<Vec<_>>()
        });
        let mut good = BTreeMap::new();
        for (slot, voucher, verified) in judged.await? {
            match verified {
                Some(verified) => {
                    good.insert(slot, verified);
                }
                None => {
                    self.metrics.check_disagreements.inc();
                    error!(channel = %voucher.body().channel, "an accepted voucher does not hold: the channel is left out of the settlement");
                }
            }
        }
        Ok(good)
    }

    /// The vouchers to settle a book with: those of a finished proof, so that it need not be made again, or else the best ones. A channel that is
    /// closing gets its best one in any case: there is no other settlement for it.
    async fn chosen(&self, view: &View, planned: &PlannedBook, kept: Option<&Finished>) -> anyhow::Result<BTreeMap<u16, VerifiedVoucher>> {
        let best: BTreeMap<u16, SignedVoucher> = planned.vouchers.iter().map(|(slot, voucher)| (*slot, *voucher.signed())).collect();
        if let Some(Finished { vouchers, .. }) = kept
            && planned.closing.iter().all(|slot| vouchers.get(slot) == best.get(slot))
        {
            let good = self.provable(view, vouchers.clone()).await?;
            if good.len() == vouchers.len() {
                return Ok(good);
            }
        }
        self.provable(view, best).await
    }

    async fn settle(&self, view: &View, plan: SettlePlan, report: &mut Report) -> anyhow::Result<Transaction> {
        let (mut settlements, mut wanted, mut channels, mut total) = (Vec::new(), Vec::new(), 0, Amount::ZERO);
        for planned in plan.books {
            let (before, old_root, place) = self.book(view, planned.book).await?;
            let kept = self.proofs.kept(CircuitKind::Settle, planned.book, old_root).await?;
            let vouchers = self.chosen(view, &planned, kept.as_ref()).await?;
            if vouchers.is_empty() {
                continue;
            }
            channels += vouchers.len();
            let signed = vouchers.iter().map(|(slot, voucher)| (*slot, *voucher.signed())).collect();
            let mut slots = vec![None; before.size().to_usize()];
            for (slot, voucher) in vouchers {
                *slots.get_mut(usize::from(slot)).context("a voucher for a slot beyond its book")? = Some(voucher);
            }
            let statement = tokio::task::spawn_blocking(move || SettleStatement::new(place, &before, &slots)).await??;
            let book_total = Amount::from_units(statement.total_nanos);
            settlements.push(BookSettlement {
                book: planned.book,
                new_root: field_to_word(statement.new_root),
                total: book_total,
                commitment: field_to_word(statement.public.commitment),
                proof: [[0; 32]; 8],
                deltas: unpack_deltas(&statement.deltas, statement.book_after.size()),
            });
            wanted.push(Wanted { statement: Statement::Settle(statement), old_root, vouchers: signed, kept });
            total = total.checked_add(book_total)?;
        }
        let proved = self.proofs.prove(wanted).await?;
        for (settlement, proved) in settlements.iter_mut().zip(&proved) {
            settlement.proof = proved.words;
        }
        let seconds = proved.iter().map(|proved| proved.seconds).fold(0.0, f64::max);
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
        self.proofs.forget(CircuitKind::Settle, settlements.iter().map(|settlement| settlement.book).collect()).await?;
        self.metrics.settlements.inc_by(settlements.len() as u64);
        report.settled_total = report.settled_total.checked_add(total)?;
        report.channels_settled += channels;
        let books = settlements.iter().map(|settlement| settlement.book.to_string()).collect();
        let epochs = epochs.iter().map(|epoch| epoch.epoch.number()).collect();
        Ok(Transaction { books, channels, total, epochs, prove_seconds: seconds, ..transaction("settle", &receipt) })
    }

    /// Replaces what an earlier process of this operator left in the pool, once: whoever would raise its fees is gone.
    pub(crate) async fn free_lane(&self) -> anyhow::Result<()> {
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

    /// The book as the chain has it, rebuilt from our records and checked against the root there; that root, and the book's place.
    async fn book(&self, view: &View, id: BookId) -> anyhow::Result<(Book, [u8; 32], Place)> {
        let slots = self.sizes.get(usize::from(id.tier().index())).with_context(|| format!("the ledger has no tier for book {id}"))?;
        let book = build_book(view, id, BookSize::new(usize::from(*slots))?)?;
        let (ours, theirs) = (field_to_word(book.root()), self.operator.ledger().book_root(id).await?);
        anyhow::ensure!(
            ours == theirs,
            "our records of book {id} do not lead to its root on the chain: it changed under us, or records are missing"
        );
        Ok((book, theirs, Place { ledger: self.operator.ledger().id(), book: id }))
    }
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
        slots.push((*slot, slot_of(view, *channel, *slot)?));
    }
    Ok(Book::from_channels(size, slots)?)
}

/// What a slot with this channel holds.
fn slot_of(view: &View, channel: ChannelId, slot: u16) -> anyhow::Result<Slot> {
    let channel = view.channels.get(&channel).context("a book holds a channel that is not known")?;
    let key_x = field_from_word(&channel.key_x).context("a registered key is no field element")?;
    let (registered, settled) = (channel.registered.to_u64()?, channel.settled.to_u64()?);
    Ok(Slot::new(slot, channel.id, key_x, registered, settled)?)
}

/// The ends of the moves by book, first of the books that are left, then of those that are filled: so each `in` row comes after the `out` row that it
/// takes, and they are in the same order (L-31).
fn ends(view: &View, moves: &[Move]) -> anyhow::Result<Vec<(BookId, Vec<Operation>)>> {
    let (mut left, mut filled) = (BTreeMap::new(), BTreeMap::new());
    for planned in moves {
        let channel = slot_of(view, planned.channel, planned.to.slot)?;
        left.entry(planned.from.book).or_insert_with(Vec::new).push(Operation::MoveOut { uid: planned.channel });
        filled.entry(planned.to.book).or_insert_with(Vec::new).push(Operation::MoveIn { slot: planned.to.slot, channel });
    }
    Ok(left.into_iter().chain(filled).collect())
}

/// The books that have something to collect: those that a settlement costs gas for.
fn unsettled_books(view: &View) -> BTreeSet<BookId> {
    let unsettled = |slots: &BTreeMap<u16, ChannelId>| {
        slots.values().any(|id| view.channels.get(id).is_some_and(|channel| !channel.unsettled().is_zero()))
    };
    view.books.iter().filter(|(_, slots)| unsettled(slots)).map(|(book, _)| *book).collect()
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

fn request(view: &View, served: &Served, rows: &BTreeMap<ChannelId, (u16, u16)>) -> anyhow::Result<ServedRequest> {
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
        moves: Vec::new(),
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
