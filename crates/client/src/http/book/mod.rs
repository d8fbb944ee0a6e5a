//! What a payer of HTTP 402 must not forget: channels and what was signed on them, requests with their payments, and what was spent.
//!
//! A file of its own, so that a payer that runs for days beside does not keep native payments from theirs. One process at a time has it.
//!
//! **Invariants.** What is signed leaves only after the transaction that holds it is on disk, with the sums that it adds to: no restart resets a
//! limit. The highest voucher of a channel only grows. A request's id has one payment, whose bytes are kept.

mod commit;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Hash256, Timestamp};
use millstream_voucher::evm::SessionTerms;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

use millstream_policy::{Ended, Ledger, Outcome as Decided, Policy, RecordError, Verdict};

use super::asset::{AssetId, AssetLimits};
use super::error::{HttpPayError, Limit, Refusal};
use super::limits::{self, Asked, Rules};
use crate::private_file::open_private;
use commit::{Change, Committer};

pub(crate) use commit::Durable;
pub(crate) use record::{ChannelRecord, Outcome, PayeeKey, PendingDeposit, RequestRecord, SpentKey};
pub use record::{ChannelStatus, EscrowTerms, Scheme};

/// `channel (32)` to [`ChannelRecord`].
const CHANNELS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("http_channels");
/// keccak-256 of the request's id to [`RequestRecord`].
const REQUESTS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("http_requests");
/// The policy's records, by its own keys.
const POLICY: TableDefinition<&[u8], &[u8]> = TableDefinition::new("http_policy");
/// [`SpentKey`] to the sum, 16 bytes: in books of layout 1, which are taken over.
const SPENT: TableDefinition<&[u8], &[u8]> = TableDefinition::new("http_spent");
/// [`PayeeKey`] to nothing.
const PAYEES: TableDefinition<&[u8], ()> = TableDefinition::new("http_payees");
/// `"schema"` to [`SCHEMA`].
const META: TableDefinition<&str, u64> = TableDefinition::new("http_meta");

/// The layout of the file. Layout 1 is made into it; another number is refused.
const SCHEMA: u64 = 2;
/// The layout that kept sums of its own.
const SCHEMA_SUMS: u64 = 1;
/// Pages that redb keeps in memory, in bytes.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
/// Milliseconds of a day.
const DAY_MILLIS: u64 = 86_400_000;
/// Requests that are kept in memory beside those under way.
const REQUESTS_KEPT_MAX: usize = 4_096;
/// Days for which the payments of answered requests are kept, so that their ids mean the same request.
const REQUEST_DAYS: u64 = 30;

/// Why the book cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BookError {
    /// Another process, or another payer of this one, has the file.
    #[error("{} is in use: another payer runs on it; two would sign over each other", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened or created.
    #[error("cannot open {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The database refuses or fails.
    #[error("the book cannot be read or written")]
    Storage(#[source] Arc<redb::Error>),
    /// The file was written by another version.
    #[error("the book has layout {actual}, this version reads {SCHEMA}")]
    Schema {
        /// The layout found.
        actual: u64,
    },
    /// A record that this version cannot have written.
    #[error("the book is damaged: {0} cannot be")]
    Damaged(&'static str),
    /// A record of the policy that this version cannot read.
    #[error("the book's policy cannot be read")]
    Policy(#[from] RecordError),
    /// The thread that writes is gone.
    #[error("the book is closed")]
    Closed,
}

impl BookError {
    pub(crate) fn storage(error: impl Into<redb::Error>) -> Self {
        Self::Storage(Arc::new(error.into()))
    }
}

/// The book. A clone is the same file; the last one to be dropped writes what is queued and closes it.
#[derive(Clone)]
pub struct PaymentBook {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    state: Mutex<State>,
    // Dropped in this order: the thread ends, then the file is closed.
    committer: Committer,
    database: Arc<Database>,
}

#[derive(Default)]
struct State {
    channels: BTreeMap<EscrowChannelId, ChannelRecord>,
    /// Of this process: on the way, or answered so lately that it may not be written yet.
    requests: BTreeMap<Hash256, RequestRecord>,
    /// What was held and spent, by the policy's rules.
    ledger: Ledger,
    payees: BTreeSet<PayeeKey>,
}

/// What was spent of one token, in base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Today (UTC).
    pub today: Amount,
    /// Ever.
    pub total: Amount,
    /// Deposits that neither came back nor were signed away.
    pub free_deposits: Amount,
}

/// A channel, for people. Totals are base units of its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpChannel {
    /// The channel.
    pub channel: EscrowChannelId,
    /// Its token.
    pub asset: AssetId,
    /// Its escrow.
    pub contract: Address,
    /// Its terms.
    pub terms: EscrowTerms,
    /// Scheme, host and port of the server; empty of a channel that was found on the chain and not paid on since.
    pub origin: String,
    /// The address that it was opened for.
    pub url: String,
    /// What the escrow is believed to hold, refunds taken off.
    pub deposit: Amount,
    /// A deposit that was signed and is not confirmed.
    pub pending: Option<Amount>,
    /// The highest voucher.
    pub signed: CumulativeAmount,
    /// What the server charged, as far as it said.
    pub charged: CumulativeAmount,
    /// What came back.
    pub refunded: Amount,
    /// Whether it is paid.
    pub status: ChannelStatus,
}

/// What is to be signed for a request on a channel.
pub(crate) struct Draft {
    pub(crate) voucher: CumulativeAmount,
    pub(crate) deposit: Option<PendingDeposit>,
    pub(crate) request: RequestRecord,
}

pub(crate) fn key_of(id: &str) -> Hash256 {
    millstream_voucher::evm::keccak256(id.as_bytes())
}

impl core::fmt::Debug for PaymentBook {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PaymentBook").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl PaymentBook {
    /// Opens the book in a file, which is made, readable by its owner alone, if it does not exist.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn open(path: &Path) -> Result<Self, BookError> {
        let file = open_private(path).map_err(|source| BookError::File { path: path.to_owned(), source: Arc::new(source) })?;
        let database = Builder::new().set_cache_size(CACHE_BYTES).create_file(file).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => BookError::InUse { path: path.to_owned() },
            other => BookError::storage(other),
        })?;
        prepare(&database)?;
        let state = load(&database)?;
        let database = Arc::new(database);
        let committer = Committer::start(Arc::clone(&database))?;
        Ok(Self { inner: Arc::new(Inner { path: path.to_owned(), state: Mutex::new(state), committer, database }) })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// All channels, in the order of their ids.
    #[must_use]
    pub fn channels(&self) -> Vec<HttpChannel> {
        self.lock().channels.iter().map(|(channel, record)| shown(*channel, record)).collect()
    }

    /// What was spent of a token.
    #[must_use]
    pub fn spent(&self, asset: AssetId, now: Timestamp) -> Spent {
        let state = self.lock();
        Spent {
            today: state.ledger.counted(&limits::day_key(asset, now)).spent,
            total: state.ledger.counted(&limits::total_key(asset)).spent,
            free_deposits: state.free_deposits(asset),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn channel(&self, channel: EscrowChannelId) -> Option<ChannelRecord> {
        self.lock().channels.get(&channel).cloned()
    }

    /// The payment that was signed under an id, if one was.
    pub(crate) fn request(&self, key: Hash256) -> Result<Option<RequestRecord>, BookError> {
        if let Some(record) = self.lock().requests.get(&key) {
            return Ok(Some(record.clone()));
        }
        let read = self.inner.database.begin_read().map_err(BookError::storage)?;
        let table = read.open_table(REQUESTS).map_err(BookError::storage)?;
        let found = table.get(key.as_bytes()).map_err(BookError::storage)?;
        found.map(|bytes| RequestRecord::from_bytes(bytes.value())).transpose()
    }

    /// Whom and in what a server was paid.
    pub(crate) fn payees(&self, origin: &str) -> Vec<(AssetId, Address)> {
        let state = self.lock();
        state.payees.iter().filter(|key| key.origin == origin).map(|key| (key.asset, key.payee)).collect()
    }

    /// Whether a request would pass the policy now, or wait for an approval. What is refused is noted, where `noted` says so, with what it trips.
    pub(crate) fn admits(&self, rules: &Rules<'_>, asked: &Asked<'_>, now: Timestamp, noted: bool) -> Result<Admitted, Refusal> {
        let mut state = self.lock();
        let ask = rules.ask(asked);
        let decision = state.ledger.preview(rules.policy, now, &ask);
        let decision = match &decision.verdict {
            Verdict::Allow => return Ok(Admitted::Now),
            Verdict::Wait { .. } => return Ok(Admitted::Later),
            Verdict::Refuse(_) if noted => {
                let Decided { decision, changes } = state.ledger.ask(rules.policy, now, &ask);
                self.queue_policy(changes);
                decision
            }
            Verdict::Refuse(_) => decision,
        };
        limits::judged(&decision).map(|()| Admitted::Now)
    }

    /// Holds a request that has to be approved, and says so; nothing when it was approved meanwhile, and is under way now.
    pub(crate) fn hold(&self, rules: &Rules<'_>, asked: &Asked<'_>, now: Timestamp) -> Result<(), Refusal> {
        let mut state = self.lock();
        let Decided { decision, changes } = state.ledger.ask(rules.policy, now, &rules.ask(asked));
        self.queue_policy(changes);
        limits::judged(&decision)
    }

    /// What a request of a payer comes to is over: it is no longer under way.
    pub(crate) fn end(&self, policy: &Policy, key: Hash256, now: Timestamp, ended: Ended) {
        let mut state = self.lock();
        let changes = state.ledger.end(policy, now, key, ended);
        // Queued under the lock, so that the file has the order of the memory.
        self.queue_policy(changes);
    }

    /// Forgets what is over, at a start: sums of days that are past, approvals that ended.
    pub(crate) fn sweep(&self, policy: &Policy, now: Timestamp) {
        let mut state = self.lock();
        let changes = state.ledger.sweep(policy, now);
        self.queue_policy(changes);
    }

    /// Reads the policy's ledger.
    pub(crate) fn read_policy<T>(&self, read: impl FnOnce(&Ledger) -> T) -> T {
        read(&self.lock().ledger)
    }

    /// Changes the policy's ledger by an order; what is answered is durable.
    pub(crate) fn order<T, E>(
        &self,
        order: impl FnOnce(&mut Ledger) -> Result<(T, Vec<millstream_policy::Change>), E>,
    ) -> Result<(T, Durable), E> {
        let mut state = self.lock();
        let (answer, changes) = order(&mut state.ledger)?;
        let changes = changes.into_iter().map(Change::Policy).collect();
        Ok((answer, self.inner.committer.queue(changes)))
    }

    /// Written before whatever is queued later; nobody waits for it alone.
    fn queue_policy(&self, changes: Vec<millstream_policy::Change>) {
        if !changes.is_empty() {
            let _ = self.inner.committer.queue(changes.into_iter().map(Change::Policy).collect());
        }
    }

    /// What may still be deposited of a token.
    pub(crate) fn deposit_room(&self, asset: AssetId, limits: &AssetLimits) -> Amount {
        limits.deposits_max.checked_sub(self.lock().free_deposits(asset)).unwrap_or(Amount::ZERO)
    }

    /// Puts a channel that is not there yet.
    pub(crate) fn add(&self, channel: EscrowChannelId, record: ChannelRecord) -> Durable {
        let mut state = self.lock();
        let record = state.channels.entry(channel).or_insert(record);
        let change = Change::Channel(*channel.as_bytes(), record.to_bytes());
        self.inner.committer.queue(vec![change])
    }

    /// Signs on a channel: `draft` makes what is signed from the channel as it is, the limits are checked, and all of it is queued as one.
    /// `more` is what the request has had signed before, without this.
    pub(crate) fn sign(
        &self,
        channel: EscrowChannelId,
        rules: &Rules<'_>,
        now: Timestamp,
        more: Amount,
        draft: impl FnOnce(&ChannelRecord) -> Result<Draft, HttpPayError>,
    ) -> Result<(RequestRecord, Durable), Stopped> {
        let mut state = self.lock();
        let mut record = state.channels.get(&channel).cloned().ok_or(HttpPayError::UnknownChannel { channel })?;
        if let ChannelStatus::Suspended(reason) = &record.status {
            return Err(Refusal::Suspended { channel, reason: reason.clone() }.into());
        }
        let free_before = record.free_deposit();
        let Draft { voucher, deposit, request } = draft(&record)?;
        let asset = record.asset();
        let delta = voucher.delta_since(record.signed).unwrap_or(Amount::ZERO);
        let price = more.checked_add(request.price).map_err(HttpPayError::from)?;
        if let Some(deposit) = deposit.as_ref().filter(|deposit| record.pending.as_ref() != Some(deposit)) {
            // Before anything is held: what is refused leaves no trace in the sums.
            state.check_deposit(asset, free_before, deposit.amount, rules.limits)?;
        }
        let asked = Asked { adds: delta, price, ..Asked::of(&request) };
        let mut changes = self.spend(&mut state, rules, &asked, now)?;
        if let Some(deposit) = deposit {
            // One that is signed already was counted then.
            if record.pending.as_ref() != Some(&deposit) {
                record.deposited = record.deposited.checked_add(deposit.amount).map_err(HttpPayError::from)?;
                record.pending = Some(deposit);
            }
        }
        record.signed = record.signed.max(voucher);
        record.status = ChannelStatus::Open;
        changes.extend(state.pay(&request));
        changes.push(Change::Channel(*channel.as_bytes(), record.to_bytes()));
        state.channels.insert(channel, record);
        // Queued under the lock, so that the file has the order of the memory.
        Ok((request, self.inner.committer.queue(changes)))
    }

    /// Signs a deposit alone.
    pub(crate) fn deposit(&self, channel: EscrowChannelId, limits: &AssetLimits, deposit: PendingDeposit) -> Result<Durable, Stopped> {
        let mut state = self.lock();
        let mut record = state.channels.get(&channel).cloned().ok_or(HttpPayError::UnknownChannel { channel })?;
        // One that is signed already was counted then.
        if record.pending.as_ref() != Some(&deposit) {
            state.check_deposit(record.asset(), record.free_deposit(), deposit.amount, limits)?;
            record.deposited = record.deposited.checked_add(deposit.amount).map_err(HttpPayError::from)?;
            record.pending = Some(deposit);
        }
        let change = Change::Channel(*channel.as_bytes(), record.to_bytes());
        state.channels.insert(channel, record);
        Ok(self.inner.committer.queue(vec![change]))
    }

    /// The terms of the open session with a server that fits, and the number of the next one: no id is used again, whichever server it was for.
    pub(crate) fn sessions(&self, origin: &str, fits: impl Fn(&ChannelRecord) -> bool) -> (Option<SessionTerms>, u64) {
        let state = self.lock();
        let (mut open, mut next) = (None, 0u64);
        for record in state.channels.values().filter(|record| fits(record)) {
            let EscrowTerms::Session(terms) = record.terms else { continue };
            let number = terms.salt.as_bytes().split_last_chunk().filter(|(rest, _)| rest.iter().all(|byte| *byte == 0));
            next = next.max(number.map_or(0, |(_, number)| u64::from_be_bytes(*number).saturating_add(1)));
            let is_theirs = record.origin == origin || record.origin.is_empty();
            if is_theirs && record.status == ChannelStatus::Open {
                open = open.or(Some(terms));
            }
        }
        (open, next)
    }

    /// Says whose server a channel is that was found on the chain.
    pub(crate) fn meet(&self, channel: EscrowChannelId, origin: &str, url: &str, method: &str) -> Durable {
        self.update(channel, |record| {
            if record.origin.is_empty() {
                (record.origin, record.url, record.method) = (origin.to_owned(), url.to_owned(), method.to_owned());
            }
        })
    }

    /// Signs a single payment.
    pub(crate) fn sign_single(&self, request: &RequestRecord, rules: &Rules<'_>, now: Timestamp) -> Result<Durable, Stopped> {
        let mut state = self.lock();
        let mut changes = self.spend(&mut state, rules, &Asked::of(request), now)?;
        changes.extend(state.pay(request));
        Ok(self.inner.committer.queue(changes))
    }

    /// Decides, and takes what is signed away as spent (P-1): it is never given back. Records of a refusal are queued alone.
    fn spend(&self, state: &mut State, rules: &Rules<'_>, asked: &Asked<'_>, now: Timestamp) -> Result<Vec<Change>, Refusal> {
        let Decided { decision, mut changes } = state.ledger.ask(rules.policy, now, &rules.ask(asked));
        if let Err(refusal) = limits::judged(&decision) {
            self.queue_policy(changes);
            return Err(refusal);
        }
        // What is allowed is held, so all of it can be settled.
        changes.extend(state.ledger.settle(asked.id, asked.adds).unwrap_or_default());
        Ok(changes.into_iter().map(Change::Policy).collect())
    }

    /// Changes a channel.
    pub(crate) fn update(&self, channel: EscrowChannelId, change: impl FnOnce(&mut ChannelRecord)) -> Durable {
        let mut state = self.lock();
        let mut changes = Vec::new();
        if let Some(record) = state.channels.get_mut(&channel) {
            let signed = record.signed;
            change(record);
            // Whatever a server says, what was signed stays signed.
            record.signed = record.signed.max(signed);
            changes.push(Change::Channel(*channel.as_bytes(), record.to_bytes()));
        }
        self.inner.committer.queue(changes)
    }

    /// Notes what became of a request.
    pub(crate) fn finish(&self, key: Hash256, outcome: Outcome) -> Durable {
        let mut state = self.lock();
        let mut changes = Vec::new();
        if let Some(record) = state.requests.get_mut(&key) {
            record.outcome = outcome;
            changes.push(Change::Request(*key.as_bytes(), record.to_bytes()));
        }
        self.inner.committer.queue(changes)
    }
}

/// How an offer may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Admitted {
    /// At once.
    Now,
    /// After an approval.
    Later,
}

/// Why nothing was signed.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The offer is not taken.
    Refused(Refusal),
    /// Something else.
    Failed(HttpPayError),
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<T: Into<HttpPayError>> From<T> for Stopped {
    fn from(error: T) -> Self {
        Self::Failed(error.into())
    }
}

/// Host and port of an origin.
pub(crate) fn host_of(origin: &str) -> &str {
    origin.split_once("://").map_or(origin, |(_, host)| host)
}

pub(crate) fn shown(channel: EscrowChannelId, record: &ChannelRecord) -> HttpChannel {
    HttpChannel {
        channel,
        asset: record.asset(),
        contract: record.contract,
        terms: record.terms,
        origin: record.origin.clone(),
        url: record.url.clone(),
        deposit: record.funded,
        pending: record.pending.as_ref().map(|pending| pending.amount),
        signed: record.signed,
        charged: record.charged,
        refunded: record.refunded,
        status: record.status.clone(),
    }
}

impl State {
    fn free_deposits(&self, asset: AssetId) -> Amount {
        let of_asset = self.channels.values().filter(|record| record.asset() == asset);
        // A sum that does not fit is above every limit.
        of_asset
            .map(ChannelRecord::free_deposit)
            .try_fold(Amount::ZERO, Amount::checked_add)
            .unwrap_or(Amount::from_units(u128::MAX))
    }

    fn check_deposit(&self, asset: AssetId, free: Amount, amount: Amount, limits: &AssetLimits) -> Result<(), Refusal> {
        let plus = |sum: Amount| sum.checked_add(amount).unwrap_or(Amount::from_units(u128::MAX));
        let checks = [
            (Limit::ChannelDeposit, limits.channel_deposit_max, plus(free)),
            (Limit::Deposits, limits.deposits_max, plus(self.free_deposits(asset))),
        ];
        let failed = checks.into_iter().find(|(_, max, wanted)| wanted > max);
        failed.map_or(Ok(()), |(limit, max, wanted)| Err(Refusal::Limit { limit, max, wanted }))
    }

    /// Notes a payment and whom it pays.
    fn pay(&mut self, request: &RequestRecord) -> Vec<Change> {
        let key = key_of(&request.id);
        let mut changes = vec![Change::Request(*key.as_bytes(), request.to_bytes())];
        if self.requests.len() >= REQUESTS_KEPT_MAX {
            // The file has those that were answered, or will in a moment.
            self.requests.retain(|_, record| record.outcome == Outcome::UnderWay);
        }
        self.requests.insert(key, request.clone());
        let payee = PayeeKey { origin: request.origin.clone(), asset: request.asset, payee: request.payee };
        if !self.payees.contains(&payee) {
            changes.push(Change::Payee(payee.to_bytes()));
            self.payees.insert(payee);
        }
        changes
    }
}

/// Makes the tables and checks the layout; sums of layout 1 become the policy's.
fn prepare(database: &Database) -> Result<(), BookError> {
    let write = database.begin_write().map_err(BookError::storage)?;
    {
        let mut meta = write.open_table(META).map_err(BookError::storage)?;
        let found = meta.get("schema").map_err(BookError::storage)?.map(|schema| schema.value());
        let mut policy = write.open_table(POLICY).map_err(BookError::storage)?;
        match found {
            Some(SCHEMA) => {}
            Some(SCHEMA_SUMS) => {
                let sums = write.open_table(SPENT).map_err(BookError::storage)?;
                let mut ledger = Ledger::default();
                for entry in sums.iter().map_err(BookError::storage)? {
                    let (key, value) = entry.map_err(BookError::storage)?;
                    let sum: [u8; 16] = value.value().try_into().map_err(|_| BookError::Damaged("a sum's length"))?;
                    let sum = Amount::from_units(u128::from_be_bytes(sum));
                    for change in ledger.adopt(limits::counter_key(&SpentKey::from_bytes(key.value())?), sum) {
                        if let Some(value) = change.value {
                            policy.insert(change.key.as_slice(), value.as_slice()).map_err(BookError::storage)?;
                        }
                    }
                }
                drop(sums);
                write.delete_table(SPENT).map_err(BookError::storage)?;
            }
            None => {}
            Some(actual) => return Err(BookError::Schema { actual }),
        }
        meta.insert("schema", SCHEMA).map_err(BookError::storage)?;
        write.open_table(CHANNELS).map_err(BookError::storage)?;
        write.open_table(REQUESTS).map_err(BookError::storage)?;
        write.open_table(PAYEES).map_err(BookError::storage)?;
    }
    write.commit().map_err(BookError::storage)
}

/// Reads what is kept in memory, and forgets what is too old to be asked for.
fn load(database: &Database) -> Result<State, BookError> {
    let read = database.begin_read().map_err(BookError::storage)?;
    let mut state = State::default();
    for entry in read.open_table(CHANNELS).map_err(BookError::storage)?.iter().map_err(BookError::storage)? {
        let (key, value) = entry.map_err(BookError::storage)?;
        state.channels.insert(EscrowChannelId::from_bytes(*key.value()), ChannelRecord::from_bytes(value.value())?);
    }
    let mut records = Vec::new();
    for entry in read.open_table(POLICY).map_err(BookError::storage)?.iter().map_err(BookError::storage)? {
        let (key, value) = entry.map_err(BookError::storage)?;
        records.push((key.value().to_vec(), value.value().to_vec()));
    }
    state.ledger = Ledger::from_records(records)?;
    for entry in read.open_table(PAYEES).map_err(BookError::storage)?.iter().map_err(BookError::storage)? {
        state.payees.insert(PayeeKey::from_bytes(entry.map_err(BookError::storage)?.0.value())?);
    }
    let now = super::now();
    let oldest = now.as_millis().saturating_sub(REQUEST_DAYS.saturating_mul(DAY_MILLIS));
    let mut old = Vec::new();
    for entry in read.open_table(REQUESTS).map_err(BookError::storage)?.iter().map_err(BookError::storage)? {
        let (key, value) = entry.map_err(BookError::storage)?;
        let record = RequestRecord::from_bytes(value.value())?;
        if record.made_at.as_millis() < oldest && record.outcome != Outcome::UnderWay {
            old.push(*key.value());
        }
    }
    drop(read);
    // Whoever asked is gone; what was signed is spent, and nothing of it is under way.
    let ended = state.ledger.end_all();
    if !old.is_empty() || !ended.is_empty() {
        let write = database.begin_write().map_err(BookError::storage)?;
        {
            let mut requests = write.open_table(REQUESTS).map_err(BookError::storage)?;
            for key in &old {
                requests.remove(key).map_err(BookError::storage)?;
            }
            let mut policy = write.open_table(POLICY).map_err(BookError::storage)?;
            for change in ended {
                commit::put_policy(&mut policy, &change)?;
            }
        }
        write.commit().map_err(BookError::storage)?;
    }
    Ok(state)
}
