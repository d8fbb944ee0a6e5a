//! Deposits that funders signed and this node submits for them, at its cost (spec W-9 to W-12).
//!
//! A request is judged before anything is spent: what it says, its signature, what the chain would do with it, what it would cost. Then its
//! gas is promised, durably, and only then is it accepted. A worker sends it on the node's nonce lane, on which settlements go first, and
//! keeps every signed version before the chain can see it: after a crash the same transaction is followed on, so nothing is relayed twice.
//!
//! **Invariants.** No transaction without a durable promise; no promise above a limit. A request has one record for as long as budgets
//! remember it, and the same request gets the same answer. One deposit of a funder at a time. What was spent replaces what was promised, on
//! reverted transactions too.

mod budget;
mod carry;
mod deposit;
mod record;
mod stream;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use millstream_chain::{ChainError, GasBounds, GasQuote, Ledger, Pace, RelayedDeposit, Revert, Submitter, TokenDomain, coin_balance};
use millstream_store::{KeyRange, Read, Table};
use millstream_types::{Address, Amount, ChannelId, Hash256, Timestamp};
use millstream_wire::{ErrorCode, REVERT_BYTES_MAX, Refused, Relay, RelayStage, Relayed};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::{OnceCell, Semaphore, mpsc, watch};
use tracing::{debug, error, info, warn};

use self::budget::{DAY_MILLIS, GWEI, Peer, Spending, Spent};
use self::record::{Record, State};
use crate::config::RelaySection;
use crate::core::{Core, OwnRecord, Stopped, now};
use crate::follower::ChainView;
use crate::gas::GasTerms;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::settle::Settler;

/// Requests that are judged at once: each asks the chain some questions.
const JUDGED_AT_ONCE: usize = 8;

/// When to ask again where nothing better is known, in seconds.
const RETRY_SECS: u32 = 5;

/// When to ask again after the price of gas was too high, in seconds.
const PRICE_RETRY_SECS: u32 = 60;

/// A request: the SHA-256 of its bytes, signature included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RelayId([u8; 32]);

/// What a payer is told of a request.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// Nothing yet: the promise is not durable.
    Nothing,
    /// How far it is.
    Relayed(Relayed),
    /// It is not relayed, or reverted.
    Refused(Refused),
}

/// A request that was accepted.
struct Entry {
    record: Record,
    channel: ChannelId,
    told: watch::Sender<Told>,
}

#[derive(Default)]
struct Desk {
    relays: BTreeMap<RelayId, Entry>,
    spending: Spending,
}

/// The node's relaying.
pub(crate) struct Relays {
    core: Core,
    ledger: Ledger,
    submitter: Submitter,
    settler: Arc<Settler>,
    view: Arc<ChainView>,
    metrics: Arc<Metrics>,
    live: watch::Receiver<Live>,
    coin_nanos: u64,
    desk: Mutex<Desk>,
    judging: Semaphore,
    sending: Arc<Semaphore>,
    domain: OnceCell<Option<TokenDomain>>,
    queue: mpsc::UnboundedSender<RelayId>,
}

/// What the admin listener shows of relaying. Gas in gwei.
#[derive(Serialize)]
pub(crate) struct RelayStatus {
    enabled: bool,
    /// Accepted and not confirmed.
    pending: usize,
    day_relays: usize,
    day_reverted: usize,
    hour_gwei: u64,
    hour_gwei_max: u64,
    day_gwei: u64,
    day_gwei_max: u64,
}

/// A relayed deposit of the last day as `GET /relays` shows it.
#[derive(Serialize)]
pub(crate) struct RelayView {
    request: Hash256,
    accepted_at_millis: u64,
    funder: Address,
    channel: ChannelId,
    kind: &'static str,
    way: &'static str,
    base_units: Amount,
    stage: &'static str,
    transaction: Option<Hash256>,
    /// Promised at most, or spent once it is confirmed or reverted.
    gas_gwei: u64,
}

/// What relaying rests on.
pub(crate) struct Rooms {
    pub(crate) core: Core,
    pub(crate) ledger: Ledger,
    pub(crate) submitter: Submitter,
    pub(crate) settler: Arc<Settler>,
    pub(crate) view: Arc<ChainView>,
    pub(crate) metrics: Arc<Metrics>,
    /// Nanos of the token that a whole coin of the chain is worth.
    pub(crate) coin_nanos: u64,
}

impl Relays {
    /// Reads what an earlier process left, and follows on what it had sent, before anything else is sent on the lane.
    pub(crate) async fn restore(rooms: Rooms, live: watch::Receiver<Live>, reader: Arc<dyn Read>) -> anyhow::Result<Arc<Self>> {
        let Rooms { core, ledger, submitter, settler, view, metrics, coin_nanos } = rooms;
        let records = tokio::task::spawn_blocking(move || read_records(&*reader)).await??;
        let (queue, queued) = mpsc::unbounded_channel();
        let in_flight_max = live.borrow().relay.in_flight_max;
        let relays = Arc::new(Self {
            core,
            ledger,
            submitter,
            settler,
            view,
            metrics,
            judging: Semaphore::new(JUDGED_AT_ONCE),
            sending: Arc::new(Semaphore::new(in_flight_max.into())),
            live,
            coin_nanos,
            desk: Mutex::default(),
            domain: OnceCell::new(),
            queue,
        });
        let mut unfinished = Vec::new();
        for (id, record) in records {
            if !record.state.is_final() {
                unfinished.push((record.accepted_at, id, record.state.clone()));
            }
            relays.enter(id, record);
        }
        unfinished.sort_by_key(|(accepted_at, id, _)| (*accepted_at, *id));
        if !unfinished.is_empty() {
            info!(relays = unfinished.len(), "relayed deposits of an earlier process are carried on");
        }
        for (_, id, state) in unfinished {
            match state {
                State::Signed(versions) => Arc::clone(&relays).resume(id, versions).await?,
                State::Promised | State::Confirmed { .. } | State::Reverted { .. } => relays.enqueue(id),
            }
        }
        relays.gauge();
        tokio::spawn(carry::run(Arc::downgrade(&relays), Arc::clone(&relays.sending), queued));
        Ok(relays)
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, id: RelayId) {
        // The worker goes only when the node does.
        let _ = self.queue.send(id);
    }

    /// Puts a record on the desk, with what it means to a payer.
    fn enter(&self, id: RelayId, record: Record) -> watch::Receiver<Told> {
        let channel = deposit::channel_of(&record.relay);
        let (told, heard) = watch::channel(told_of(channel, &record.state));
        let Record { accepted_at: at, peer, wei, .. } = record;
        let spent = Spent { at, funder: record.relay.funder, peer, wei, reverted: matches!(record.state, State::Reverted { .. }) };
        let mut desk = self.desk();
        desk.spending.put(id, spent);
        desk.relays.insert(id, Entry { record, channel, told });
        heard
    }

    /// Judges a request and, when it is good, promises its gas. The same request again is told what became of the first.
    pub(crate) async fn request(self: &Arc<Self>, relay: Relay, from: IpAddr) -> Result<watch::Receiver<Told>, Refused> {
        let bytes = relay.to_bytes().map_err(|_| Refused::new(ErrorCode::Malformed))?;
        let id = RelayId(Sha256::digest(&bytes).into());
        if let Some(entry) = self.desk().relays.get(&id) {
            return Ok(entry.told.subscribe());
        }
        let (relays, funder) = (Arc::clone(self), relay.funder);
        // A task of its own: a payer that goes away in the middle must not leave half a promise.
        let judged = tokio::spawn(async move { relays.judge(id, relay, from.into()).await });
        let judged = judged.await.unwrap_or_else(|_| Err(Refused::new(ErrorCode::Overloaded)));
        if let Err(refused) = &judged {
            self.metrics.relays_refused.inc();
            debug!(code = refused.code.name(), %funder, %from, "a deposit is not relayed");
        }
        judged
    }

    async fn judge(self: Arc<Self>, id: RelayId, relay: Relay, peer: Peer) -> Result<watch::Receiver<Told>, Refused> {
        if !self.section().enabled {
            return Err(Refused::new(ErrorCode::RelayDisabled));
        }
        let overloaded = || Refused { retry_after_secs: RETRY_SECS, ..Refused::new(ErrorCode::Overloaded) };
        let (deposit, channel) = (deposit::deposit_of(&relay), deposit::channel_of(&relay));
        self.judge_validity(&deposit)?;
        self.judge_amount(&relay, 0)?;
        if !self.view.is_current() {
            return Err(overloaded());
        }
        {
            let mut desk = self.desk();
            self.judge_place(&desk, relay.funder)?;
            desk.spending.judge(&self.section(), now(), relay.funder, peer, 0)?;
            desk.spending.may_ask(now(), peer)?;
        }
        let _place = self.judging.try_acquire().map_err(|_| overloaded())?;
        let judged = self.judge_on_chain(&deposit, channel, &relay).await;
        let quote = judged.inspect_err(|_| self.desk().spending.refused(peer))?;
        let wei = quote.cost_max_wei();
        let heard = {
            let mut desk = self.desk();
            // Meanwhile another may have come, this one too.
            if let Some(entry) = desk.relays.get(&id) {
                return Ok(entry.told.subscribe());
            }
            self.judge_place(&desk, relay.funder)?;
            desk.spending.judge(&self.section(), now(), relay.funder, peer, wei)?;
            let record = Record { accepted_at: now(), peer, wei, state: State::Promised, relay };
            let (told, heard) = watch::channel(Told::Nothing);
            let Record { accepted_at: at, relay: Relay { funder, .. }, .. } = record;
            desk.spending.put(id, Spent { at, funder, peer, wei, reverted: false });
            desk.relays.insert(id, Entry { record, channel, told });
            heard
        };
        // Nobody is told before it is durable.
        if self.keep(id, |_| {}).await.is_err() {
            return Err(Refused::new(ErrorCode::ShuttingDown));
        }
        info!(%channel, gas_max_gwei = gwei_up(wei), "a deposit will be relayed");
        self.metrics.relays_accepted.inc();
        self.gauge();
        self.tell(id);
        self.enqueue(id);
        Ok(heard)
    }

    /// Whether what was signed is valid now, and for long enough to be mined.
    fn judge_validity(&self, deposit: &RelayedDeposit) -> Result<(), Refused> {
        let now = now().max(self.view.head_time()).as_secs_down();
        let (from, to) = deposit.validity_secs();
        let enough = now.saturating_add(self.section().validity_secs_min);
        if from <= now && enough <= to {
            return Ok(());
        }
        Err(Refused { bound: self.section().validity_secs_min, ..Refused::new(ErrorCode::RelayExpiring) })
    }

    /// Whether the deposit is worth `wei` of gas. One that is no whole number of nanos is for the ledger to refuse.
    fn judge_amount(&self, relay: &Relay, wei: u128) -> Result<(), Refused> {
        let Ok(nanos) = self.ledger.config().unit.nanos(relay.base_units.units()) else { return Ok(()) };
        let least = GasTerms::new(self.coin_nanos, self.section().gas_percent_max).least_up(wei);
        let least = least.max(Amount::from_nanos(self.section().deposit_nanos_min));
        if nanos >= least {
            return Ok(());
        }
        let bound = u64::try_from(least.units()).unwrap_or(u64::MAX);
        Err(Refused { bound, ..Refused::new(ErrorCode::RelayDepositTooSmall) })
    }

    /// Whether there is a place: for this funder's, and at all.
    fn judge_place(&self, desk: &Desk, funder: Address) -> Result<(), Refused> {
        let pending = || desk.relays.values().filter(|entry| !entry.record.state.is_final());
        let code = if pending().any(|entry| entry.record.relay.funder == funder) {
            ErrorCode::RelayBusy
        } else if pending().count() >= usize::from(self.section().pending_max) {
            ErrorCode::Overloaded
        } else {
            return Ok(());
        };
        Err(Refused { retry_after_secs: RETRY_SECS, ..Refused::new(code) })
    }

    /// The signature, what the contracts say, and the price; nothing is sent.
    async fn judge_on_chain(&self, deposit: &RelayedDeposit, channel: ChannelId, relay: &Relay) -> Result<GasQuote, Refused> {
        let domain = self.domain().await.map_err(|error| self.refusal(&error))?;
        if deposit.is_by_funders_key(&self.ledger, channel, domain.as_ref()) == Some(false) {
            // A contract account has its own idea of a signature.
            let is_contract = self.ledger.rpc().is_contract(relay.funder).await.map_err(|error| self.refusal(&error))?;
            if !is_contract {
                return Err(Refused::new(ErrorCode::BadSignature));
            }
        }
        let quote = self.submitter.quote(&deposit.call(self.ledger.address())).await.map_err(|error| self.refusal(&error))?;
        if quote.gas_limit > self.section().gas_max {
            return Err(Refused { bound: self.section().gas_max, ..Refused::new(ErrorCode::RelayTooCostly) });
        }
        if quote.max_fee_per_gas > self.fee_per_gas_max() {
            return Err(self.too_expensive());
        }
        self.judge_amount(relay, quote.cost_max_wei())?;
        self.judge_means(quote.cost_max_wei()).await?;
        Ok(quote)
    }

    /// Whether the operator's account and the ledger's queue allow for anything but settlement.
    async fn judge_means(&self, wei: u128) -> Result<(), Refused> {
        let coins = coin_balance(self.ledger.rpc(), self.submitter.account()).await.map_err(|error| self.refusal(&error))?;
        let pending = |desk: &Desk| {
            let promised = desk.relays.values().filter(|entry| !entry.record.state.is_final()).map(|entry| entry.record.wei);
            promised.fold(wei, u128::saturating_add)
        };
        let needed = pending(&self.desk()).saturating_add(u128::from(self.section().reserve_gwei_min) * GWEI);
        if coins < needed {
            warn!(
                coins_gwei = coins / GWEI,
                needed_gwei = gwei_up(needed),
                "nothing is relayed: the operator's coins are kept for settlement"
            );
            return Err(Refused { retry_after_secs: PRICE_RETRY_SECS, ..Refused::new(ErrorCode::RelayBudgetSpent) });
        }
        let oldest = self.core.query(|engine| engine.queue().iter().next().map(|(_, request)| request.requested_at)).await;
        let oldest = oldest.map_err(|Stopped| Refused::new(ErrorCode::ShuttingDown))?;
        let half_window = self.ledger.config().response_window_secs.saturating_mul(500);
        let time = now().max(self.view.head_time());
        if oldest.is_some_and(|at| time.millis_since(at) > half_window) {
            warn!("nothing is relayed: the ledger's oldest request waits for longer than half of the response window");
            return Err(Refused { retry_after_secs: PRICE_RETRY_SECS, ..Refused::new(ErrorCode::Overloaded) });
        }
        Ok(())
    }

    async fn domain(&self) -> Result<Option<TokenDomain>, ChainError> {
        let read = async || match self.ledger.token_domain().await {
            Ok(domain) => Ok(Some(domain)),
            Err(error) if error.is_retryable() => Err(error),
            // The token has none: the chain alone can tell.
            Err(_) => Ok(None),
        };
        self.domain.get_or_try_init(read).await.cloned()
    }

    fn fee_per_gas_max(&self) -> u128 {
        u128::from(self.section().fee_gwei_max) * GWEI
    }

    fn bounds(&self) -> GasBounds {
        GasBounds { gas_max: self.section().gas_max, fee_per_gas_max: self.fee_per_gas_max(), pace: Pace::AtLeisure }
    }

    fn too_expensive(&self) -> Refused {
        let refused = Refused::new(ErrorCode::RelayGasPrice);
        Refused { bound: self.section().fee_gwei_max, retry_after_secs: PRICE_RETRY_SECS, ..refused }
    }

    /// What an error of the chain means to a payer, when nothing was sent.
    fn refusal(&self, error: &ChainError) -> Refused {
        match error {
            ChainError::Reverted { revert, .. } if is_of_signature(revert) => Refused::new(ErrorCode::BadSignature),
            ChainError::Reverted { revert, .. } => Refused { revert: revert_bytes(revert), ..Refused::new(ErrorCode::RelayReverts) },
            ChainError::GasLimit { .. } => Refused { bound: self.section().gas_max, ..Refused::new(ErrorCode::RelayTooCostly) },
            ChainError::FeeLimit { .. } => self.too_expensive(),
            error => {
                warn!(%error, "a deposit cannot be judged now");
                Refused { retry_after_secs: RETRY_SECS, ..Refused::new(ErrorCode::Overloaded) }
            }
        }
    }

    /// Changes a record, and waits until it is durable.
    async fn keep(&self, id: RelayId, change: impl FnOnce(&mut Record)) -> anyhow::Result<()> {
        let (own, stale) = {
            let mut desk = self.desk();
            let entry = desk.relays.get_mut(&id).context("a relay that is not known")?;
            change(&mut entry.record);
            let own = entry.record.to_own(id)?;
            let Record { accepted_at: at, peer, wei, .. } = entry.record;
            let reverted = matches!(entry.record.state, State::Reverted { .. });
            let spent = Spent { at, funder: entry.record.relay.funder, peer, wei, reverted };
            desk.spending.put(id, spent);
            (own, desk.take_stale(now()))
        };
        let deletions = stale.into_iter().map(|id| OwnRecord { table: Table::Relays, key: id.0.to_vec(), value: None });
        Ok(self.core.own([own].into_iter().chain(deletions).collect()).await?)
    }

    /// Forgets a request of which nothing was sent, and says why.
    async fn drop_unsent(&self, id: RelayId, refused: Refused) {
        let entry = {
            let mut desk = self.desk();
            desk.spending.forget(id);
            desk.relays.remove(&id)
        };
        // A core that is gone leaves the record: the next start judges it again by sending it.
        let _ = self.core.own(vec![OwnRecord { table: Table::Relays, key: id.0.to_vec(), value: None }]).await;
        self.metrics.relays_refused.inc();
        self.gauge();
        if let Some(entry) = entry {
            info!(channel = %entry.channel, code = refused.code.name(), "a deposit is not relayed after all");
            entry.told.send_replace(Told::Refused(refused));
        }
    }

    /// Tells the payers that listen what the record says.
    fn tell(&self, id: RelayId) {
        if let Some(entry) = self.desk().relays.get(&id) {
            entry.told.send_replace(told_of(entry.channel, &entry.record.state));
        }
    }

    /// Tells a stage that the record does not have.
    fn tell_stage(&self, id: RelayId, stage: RelayStage) {
        if let Some(entry) = self.desk().relays.get(&id) {
            entry.told.send_replace(Told::Relayed(Relayed { channel: entry.channel, stage }));
        }
    }

    fn gauge(&self) {
        let status = self.status();
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.relays_pending.set(gauge(status.pending as u64));
        self.metrics.relay_budget_left.set(gauge(status.hour_left().min(status.day_left())));
    }

    /// The limits as they are now.
    fn section(&self) -> RelaySection {
        self.live.borrow().relay
    }

    /// What was spent, and what is left.
    pub(crate) fn status(&self) -> RelayStatus {
        let (desk, now) = (self.desk(), now());
        let (hour, day) = desk.spending.totals(now);
        let (day_relays, day_reverted) = desk.spending.counts(now);
        RelayStatus {
            enabled: self.section().enabled,
            pending: desk.relays.values().filter(|entry| !entry.record.state.is_final()).count(),
            day_relays,
            day_reverted,
            hour_gwei: gwei_up(hour),
            hour_gwei_max: self.section().hour_gwei_max,
            day_gwei: gwei_up(day),
            day_gwei_max: self.section().day_gwei_max,
        }
    }

    /// Every request that is remembered, the newest first.
    pub(crate) fn list(&self) -> Vec<RelayView> {
        let desk = self.desk();
        let mut relays: Vec<RelayView> = desk.relays.iter().map(|(id, entry)| RelayView::new(*id, entry)).collect();
        relays.sort_by_key(|relay| std::cmp::Reverse(relay.accepted_at_millis));
        relays
    }
}

impl Desk {
    /// Takes finished requests off that no budget counts any more.
    fn take_stale(&mut self, now: Timestamp) -> Vec<RelayId> {
        let is_stale = |entry: &Entry| entry.record.state.is_final() && now.millis_since(entry.record.accepted_at) >= DAY_MILLIS;
        let stale: Vec<RelayId> = self.relays.iter().filter(|(_, entry)| is_stale(entry)).map(|(id, _)| *id).collect();
        for id in &stale {
            self.relays.remove(id);
            self.spending.forget(*id);
        }
        stale
    }
}

impl RelayStatus {
    const fn hour_left(&self) -> u64 {
        self.hour_gwei_max.saturating_sub(self.hour_gwei)
    }

    const fn day_left(&self) -> u64 {
        self.day_gwei_max.saturating_sub(self.day_gwei)
    }
}

impl RelayView {
    fn new(id: RelayId, entry: &Entry) -> Self {
        let Record { accepted_at, wei, state, relay, .. } = &entry.record;
        let (stage, transaction) = match state {
            State::Promised => ("accepted", None),
            State::Signed(versions) => ("sent", versions.last().map(|version| version.transaction)),
            State::Confirmed { transaction, .. } => ("confirmed", Some(*transaction)),
            State::Reverted { transaction, .. } => ("reverted", Some(*transaction)),
        };
        Self {
            request: Hash256::from_bytes(id.0),
            accepted_at_millis: accepted_at.as_millis(),
            funder: relay.funder,
            channel: entry.channel,
            kind: if relay.named_channel().is_some() { "top_up" } else { "open" },
            way: deposit::deposit_of(relay).signed.way().name(),
            base_units: relay.base_units,
            stage,
            transaction,
            gas_gwei: gwei_up(*wei),
        }
    }
}

fn told_of(channel: ChannelId, state: &State) -> Told {
    let stage = match state {
        State::Promised => RelayStage::Accepted,
        State::Signed(versions) => match versions.last() {
            Some(version) => RelayStage::Sent { transaction: version.transaction },
            None => RelayStage::Accepted,
        },
        State::Confirmed { transaction, block, deposit } => {
            RelayStage::Confirmed { transaction: *transaction, block: *block, deposit: *deposit }
        }
        State::Reverted { transaction, revert } => {
            let refused = Refused::new(ErrorCode::RelayReverted);
            return Told::Refused(Refused { transaction: *transaction, revert: revert.clone(), ..refused });
        }
    };
    Told::Relayed(Relayed { channel, stage })
}

fn read_records(reader: &dyn Read) -> anyhow::Result<Vec<(RelayId, Record)>> {
    let (mut records, mut outcome) = (Vec::new(), Ok(()));
    reader.scan(Table::Relays, &KeyRange::all(), &mut |key, value| {
        let decoded = key.try_into().context("a relay record under a wrong key").and_then(|id| Ok((RelayId(id), Record::decode(value)?)));
        match decoded {
            Ok(record) => records.push(record),
            Err(fault) => outcome = Err(fault),
        }
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome.map(|()| records)
}

/// Whether a contract refused because of the signature. The names are those of OpenZeppelin's token, of Permit2 and of the ledger; the words
/// are those of tokens that have no names for it.
fn is_of_signature(revert: &Revert) -> bool {
    const NAMES: [&str; 6] = [
        "ERC3009InvalidSignature",
        "ConsentInvalid",
        "InvalidSigner",
        "InvalidSignature",
        "InvalidContractSignature",
        "InvalidSignatureLength",
    ];
    match revert {
        Revert::Message(words) => words.to_lowercase().contains("invalid signature"),
        named => named.name().is_some_and(|name| NAMES.contains(&name)),
    }
}

fn revert_bytes(revert: &Revert) -> Vec<u8> {
    let mut bytes = revert.to_bytes();
    bytes.truncate(REVERT_BYTES_MAX.into());
    bytes
}

fn gwei_up(wei: u128) -> u64 {
    u64::try_from(wei.div_ceil(GWEI)).unwrap_or(u64::MAX)
}

/// A fault of ours or of the chain, which no payer can mend.
fn log_fault(channel: ChannelId, fault: &anyhow::Error) {
    error!(%channel, fault = format!("{fault:#}"), "a relayed deposit cannot be carried on");
}
