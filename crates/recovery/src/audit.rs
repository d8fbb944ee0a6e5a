//! What is wrong with a ledger, found out from outside.
//!
//! The ledger is rebuilt, compared with the contract at one block, and measured against the rules. Nothing that the provider or the contract
//! says about itself is believed where it can be computed: the code of the contracts, the keys in the code of the verifiers, the roots of
//! empty books.

use std::collections::BTreeMap;

use millstream_chain::{ChainError, ChannelRecord, Ledger, LedgerAt, VerifyingKeyWords};
use millstream_circuit::{Book, BookSize, field_to_word};
use millstream_prover::{CircuitId, insecure_dev_key_hash, refuse_public_chain};
use millstream_types::{Address, Amount, AmountError, ChannelId, Hash256, Timestamp};
use serde::Serialize;
use sha3::{Digest, Keccak256};
use tokio::task::JoinSet;

use crate::error::RebuildError;
use crate::rebuild::{Rebuild, RebuildOptions, RebuildProgress};
use crate::state::{ChannelPlace, RebuiltChannel, RebuiltLedger, RebuiltRequest};

/// Questions that are asked of the endpoint at once.
const QUESTIONS_MAX: usize = 16;
/// A response window below this leaves an honest provider too little time to settle before its payers are gone.
const WINDOW_SECS_MIN: u64 = 3_600;
/// A response window above this keeps a payer's money for long when the provider is gone.
const WINDOW_SECS_MAX: u64 = 30 * 86_400;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Not wrong by itself.
    Warning,
    /// The provider does not do what it must, or something cannot be judged.
    Error,
    /// Money is not safe.
    Critical,
}

/// A request that was answered too late, or not yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LateRequest {
    /// Its number in the queue.
    pub index: u64,
    /// The channel.
    pub channel: ChannelId,
    /// `open`, `top up` or `close`.
    pub asked: &'static str,
    /// The last second in which it was in time, Unix.
    pub deadline_secs: u64,
    /// Seconds after the deadline: when it was served, or until now.
    pub late_secs: u64,
    /// The transaction that served it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<Hash256>,
}

/// Something that an audit found. Amounts in nanos unless named otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// The chain's logs and calldata do not lead to what the contract says; nothing else could be checked.
    NotRebuilt {
        /// Book, block, transaction, and what differs.
        detail: String,
    },
    /// The contract is not the one that this build deploys: what it promises is not known.
    UnknownLedgerCode {
        /// The contract.
        ledger: Address,
    },
    /// A verifier is not the one that this build deploys: it may accept anything.
    UnknownVerifierCode {
        /// The circuit, such as `settle-96`.
        circuit: String,
        /// The contract.
        verifier: Address,
    },
    /// Anyone can forge proofs: the key comes from a public seed (L-23).
    InsecureKey {
        /// The circuit.
        circuit: String,
        /// Whether the chain is one for development, where that does no harm.
        development_chain: bool,
    },
    /// Nobody named this key as the one of a ceremony, so whoever made it may be able to forge proofs.
    UnknownKey {
        /// The circuit.
        circuit: String,
        /// The key's hash.
        key: Hash256,
    },
    /// The key is another than the one that was named.
    AnotherKey {
        /// The circuit.
        circuit: String,
        /// The key that was named.
        expected: Hash256,
        /// The ledger's.
        actual: Hash256,
    },
    /// The tier's books did not begin empty: they may hold channels that nobody paid for.
    EmptyRoot {
        /// The tier.
        tier: usize,
        /// The contract's root.
        contract: Hash256,
        /// That of an empty book.
        computed: Hash256,
    },
    /// The response window leaves little time to settle, or keeps payers for long.
    ResponseWindow {
        /// The window.
        secs: u64,
        /// The least that is usual.
        min_secs: u64,
        /// The most.
        max_secs: u64,
    },
    /// The ledger has less of its token than it owes.
    Underfunded {
        /// What it has, in base units of the token.
        balance_base_units: u128,
        /// Unsettled deposits and unpaid credits.
        owed: Amount,
    },
    /// Totals do not add up: deposited must be settled, refunded or still held; settled and refunded must be withdrawn or credit.
    Unbalanced {
        /// The left side.
        expected: Amount,
        /// The right side.
        actual: Amount,
        /// Which sum.
        sum: &'static str,
    },
    /// The contract has a channel otherwise than its events.
    Channel {
        /// The channel.
        channel: ChannelId,
        /// Which field.
        field: &'static str,
        /// The contract's value.
        contract: String,
        /// The events'.
        rebuilt: String,
    },
    /// The contract has a credit otherwise than its events.
    Credit {
        /// The account.
        account: Address,
        /// The contract's.
        contract: Amount,
        /// The events'.
        rebuilt: Amount,
    },
    /// The contract has an epoch's root otherwise than its event.
    Epoch {
        /// The epoch.
        epoch: u64,
        /// The contract's root; none when it has none.
        contract: Option<Hash256>,
        /// The event's.
        rebuilt: Hash256,
    },
    /// A request waits past its deadline: the ledger settles nothing, and anyone may serve it.
    Overdue(LateRequest),
    /// A request was served after its deadline.
    ServedLate(LateRequest),
}

impl Finding {
    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::InsecureKey { development_chain: true, .. } | Self::ResponseWindow { .. } | Self::ServedLate(_) => Severity::Warning,
            Self::UnknownKey { .. } | Self::Overdue(_) => Severity::Error,
            Self::NotRebuilt { .. }
            | Self::UnknownLedgerCode { .. }
            | Self::UnknownVerifierCode { .. }
            | Self::InsecureKey { development_chain: false, .. }
            | Self::AnotherKey { .. }
            | Self::EmptyRoot { .. }
            | Self::Underfunded { .. }
            | Self::Unbalanced { .. }
            | Self::Channel { .. }
            | Self::Credit { .. }
            | Self::Epoch { .. } => Severity::Critical,
        }
    }
}

impl core::fmt::Display for Finding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotRebuilt { detail } => write!(f, "the ledger cannot be rebuilt: {detail}"),
            Self::UnknownLedgerCode { ledger } => write!(f, "the code of {ledger} is not that of the ledger this program knows"),
            Self::UnknownVerifierCode { circuit, verifier } => write!(f, "the code of {verifier}, the verifier of {circuit}, is unknown"),
            Self::InsecureKey { circuit, development_chain: true } => {
                write!(f, "INSECURE development key for {circuit}: anyone can forge proofs; this is a development chain")
            }
            Self::InsecureKey { circuit, development_chain: false } => {
                write!(f, "INSECURE development key for {circuit}: anyone can forge proofs and take every deposit")
            }
            Self::UnknownKey { circuit, key } => write!(f, "nobody named the key {key} of {circuit}: whoever made it may forge proofs"),
            Self::AnotherKey { circuit, expected, actual } => write!(f, "the key of {circuit} is {actual}, not {expected}"),
            Self::EmptyRoot { tier, contract, computed } => {
                write!(f, "books of tier {tier} began with the root {contract}; an empty one has {computed}")
            }
            Self::ResponseWindow { secs, min_secs, max_secs } => {
                write!(f, "the response window is {secs} s; {min_secs} to {max_secs} are usual")
            }
            Self::Underfunded { balance_base_units, owed } => {
                write!(f, "the ledger has {balance_base_units} base units and owes {} tokens", owed.to_tokens())
            }
            Self::Unbalanced { expected, actual, sum } => {
                write!(f, "{sum}: {} against {}", expected.to_tokens(), actual.to_tokens())
            }
            Self::Channel { channel, field, contract, rebuilt } => {
                write!(f, "channel {channel}: {field} is {contract} in the contract, {rebuilt} by its events")
            }
            Self::Credit { account, contract, rebuilt } => {
                write!(f, "the credit of {account} is {contract} nanos in the contract, {rebuilt} by its events")
            }
            Self::Epoch { epoch, contract, rebuilt } => match contract {
                Some(contract) => write!(f, "epoch {epoch} has the root {contract} in the contract, {rebuilt} by its event"),
                None => write!(f, "epoch {epoch} has no root in the contract"),
            },
            Self::Overdue(late) => {
                let LateRequest { index, channel, asked, deadline_secs, late_secs, .. } = late;
                write!(f, "request {index} ({asked}, channel {channel}) is overdue since {deadline_secs}, for {late_secs} s")
            }
            Self::ServedLate(late) => {
                let LateRequest { index, channel, asked, late_secs, .. } = late;
                write!(f, "request {index} ({asked}, channel {channel}) was served {late_secs} s after its deadline")
            }
        }
    }
}

/// Where a verifying key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyOrigin {
    /// It is the key that was named for the circuit.
    Named,
    /// It is the development key: anyone can forge proofs.
    InsecureDevelopment,
    /// It is not known.
    Unknown,
}

/// A size of book, with its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TierReport {
    /// Slots of a book.
    pub slots: u16,
    /// The hash of the key of `settle-N`.
    pub settle_key: Hash256,
    /// Where it comes from.
    pub settle_key_origin: KeyOrigin,
    /// The hash of the key of `register-N`.
    pub register_key: Hash256,
    /// Where it comes from.
    pub register_key_origin: KeyOrigin,
}

/// The sums. Amounts in nanos unless named otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Channels that were ever opened.
    pub channels: usize,
    /// Channels that wait to be put in a book.
    pub channels_queued: usize,
    /// Channels that were closed.
    pub channels_closed: usize,
    /// Books that were ever written.
    pub books: usize,
    /// Everything deposited.
    pub deposited: Amount,
    /// Taken by the provider.
    pub settled: Amount,
    /// Credited to payers.
    pub refunded: Amount,
    /// Deposited, and neither settled nor refunded.
    pub held: Amount,
    /// Credits that were not withdrawn.
    pub credits: Amount,
    /// Credits that were withdrawn.
    pub withdrawn: Amount,
    /// What the ledger has of its token, in base units.
    pub balance_base_units: u128,
    /// Requests ever made.
    pub requests: usize,
    /// Requests that wait.
    pub requests_waiting: usize,
    /// Requests that wait past their deadline.
    pub requests_overdue: usize,
    /// Requests that were served past their deadline.
    pub requests_served_late: usize,
    /// Epochs anchored.
    pub epochs: usize,
}

/// What an audit says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// The chain.
    pub chain_id: u64,
    /// The contract.
    pub ledger: Address,
    /// The block that everything is about.
    pub block: u64,
    /// Its hash.
    pub block_hash: Hash256,
    /// Its time, Unix seconds.
    pub block_time_secs: u64,
    /// Whom settlements pay.
    pub provider: Address,
    /// The account that may settle and register.
    pub operator: Option<Address>,
    /// The token.
    pub token: Address,
    /// Its decimals.
    pub token_decimals: u8,
    /// Seconds from a request until it is overdue.
    pub response_window_secs: u64,
    /// What an opening or a top-up must deposit at least, in nanos.
    pub deposit_min: Amount,
    /// The sizes of book.
    pub tiers: Vec<TierReport>,
    /// The sums.
    pub totals: Totals,
    /// What was found, worst first.
    pub findings: Vec<Finding>,
}

impl AuditReport {
    /// Whether nothing of [`Severity::Error`] or worse was found.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity() < Severity::Error)
    }
}

/// What an audit goes by.
#[derive(Clone, Debug, Default)]
pub struct AuditOptions {
    /// How to read the chain.
    pub rebuild: RebuildOptions,
    /// The hashes of keys that a ceremony made, by circuit.
    pub named_keys: BTreeMap<CircuitId, Hash256>,
}

/// Audits a ledger at the newest block, or at the last one that the options ask for.
///
/// # Errors
/// [`RebuildError::Chain`] when the chain cannot be read: then nothing can be said. What contradicts itself is a finding.
pub async fn audit(
    ledger: Ledger,
    options: &AuditOptions,
    progress: &mut (dyn FnMut(RebuildProgress) + Send),
) -> Result<AuditReport, RebuildError> {
    let mut findings = Vec::new();
    let tiers = inspect_contracts(&ledger, options, &mut findings).await.map_err(RebuildError::Chain)?;
    let mut rebuild = Rebuild::start(ledger.clone(), options.rebuild).await?;
    let (at, rebuilt) = match rebuild.catch_up(progress).await {
        Ok(at) => (at, Some(rebuild.rebuilt())),
        Err(RebuildError::Chain(error)) => return Err(RebuildError::Chain(error)),
        Err(error) => {
            findings.push(Finding::NotRebuilt { detail: error.to_string() });
            (ledger.at(options.rebuild.until).await.map_err(RebuildError::Chain)?, None)
        }
    };
    let mut totals = Totals::default();
    if let Some(rebuilt) = rebuilt {
        totals = sum(rebuilt, &at).await.map_err(RebuildError::Chain)?;
        check_sums(rebuilt, &ledger, &totals, &mut findings);
        check_requests(rebuilt, at.time(), &mut totals, &mut findings);
        compare_channels(rebuilt, &at, &mut findings).await.map_err(RebuildError::Chain)?;
        compare_credits_and_epochs(rebuilt, &at, &mut findings).await.map_err(RebuildError::Chain)?;
    }
    findings.sort_by_key(|finding| core::cmp::Reverse(finding.severity()));
    let config = ledger.config();
    Ok(AuditReport {
        chain_id: ledger.chain().get(),
        ledger: ledger.address(),
        block: at.number().height(),
        block_hash: at.hash(),
        block_time_secs: at.time().as_secs_down(),
        provider: config.provider,
        operator: Some(at.operator().await.map_err(RebuildError::Chain)?),
        token: config.token,
        token_decimals: config.unit.decimals(),
        response_window_secs: config.response_window_secs,
        deposit_min: config.deposit_min,
        tiers,
        totals,
        findings,
    })
}

/// Code, keys, roots of empty books, and the response window.
async fn inspect_contracts(ledger: &Ledger, options: &AuditOptions, findings: &mut Vec<Finding>) -> Result<Vec<TierReport>, ChainError> {
    if !ledger.has_known_code().await? {
        findings.push(Finding::UnknownLedgerCode { ledger: ledger.address() });
    }
    let secs = ledger.config().response_window_secs;
    if !(WINDOW_SECS_MIN..=WINDOW_SECS_MAX).contains(&secs) {
        findings.push(Finding::ResponseWindow { secs, min_secs: WINDOW_SECS_MIN, max_secs: WINDOW_SECS_MAX });
    }
    let mut tiers = Vec::new();
    for (number, tier) in ledger.config().tiers.iter().enumerate() {
        let mut origins = [KeyOrigin::Unknown; 2];
        if let Ok(size) = BookSize::new(usize::from(tier.slots)) {
            let computed = Hash256::from_bytes(field_to_word(Book::empty_root(size)));
            let contract = Hash256::from_bytes(tier.empty_root);
            if contract != computed {
                findings.push(Finding::EmptyRoot { tier: number, contract, computed });
            }
            let keys = [(tier.settle_verifier, tier.settle_key), (tier.register_verifier, tier.register_key)];
            for ((circuit, (verifier, key)), origin) in CircuitId::of_tier(size).into_iter().zip(keys).zip(&mut origins) {
                let in_code = ledger.key_in_code(verifier).await?;
                if in_code.map(|words| hash_of(&words)) != Some(key) {
                    findings.push(Finding::UnknownVerifierCode { circuit: circuit.to_string(), verifier });
                }
                *origin = judge_key(ledger, options, circuit, key, findings).await;
            }
        }
        let [settle_key_origin, register_key_origin] = origins;
        let (settle_key, register_key) = (tier.settle_key, tier.register_key);
        tiers.push(TierReport { slots: tier.slots, settle_key, settle_key_origin, register_key, register_key_origin });
    }
    Ok(tiers)
}

/// The name of a verifying key: keccak-256 of its words.
fn hash_of(words: &VerifyingKeyWords) -> Hash256 {
    Hash256::from_bytes(Keccak256::digest(words.as_flattened()).into())
}

async fn judge_key(ledger: &Ledger, options: &AuditOptions, circuit: CircuitId, key: Hash256, findings: &mut Vec<Finding>) -> KeyOrigin {
    let name = circuit.to_string();
    // Seconds of work for a large book.
    let insecure = tokio::task::spawn_blocking(move || insecure_dev_key_hash(circuit)).await;
    if matches!(insecure, Ok(Ok(insecure)) if insecure == key) {
        let development_chain = refuse_public_chain(ledger.chain()).is_ok();
        findings.push(Finding::InsecureKey { circuit: name, development_chain });
        return KeyOrigin::InsecureDevelopment;
    }
    match options.named_keys.get(&circuit) {
        Some(expected) if *expected == key => KeyOrigin::Named,
        Some(expected) => {
            findings.push(Finding::AnotherKey { circuit: name, expected: *expected, actual: key });
            KeyOrigin::Unknown
        }
        None => {
            findings.push(Finding::UnknownKey { circuit: name, key });
            KeyOrigin::Unknown
        }
    }
}

async fn sum(rebuilt: &RebuiltLedger, at: &LedgerAt) -> Result<Totals, ChainError> {
    let mut totals = Totals {
        books: rebuilt.books().len(),
        withdrawn: rebuilt.withdrawn(),
        balance_base_units: at.token_balance().await?,
        requests: rebuilt.requests().len(),
        requests_waiting: rebuilt.queue().len(),
        epochs: rebuilt.epochs().len(),
        ..Totals::default()
    };
    let too_large = |error: AmountError| ChainError::Unrepresentable { what: "a total", detail: error.to_string() };
    for channel in rebuilt.channels() {
        totals.channels += 1;
        match channel.place {
            ChannelPlace::Queued => totals.channels_queued += 1,
            ChannelPlace::Closed => totals.channels_closed += 1,
            ChannelPlace::Booked { .. } => {}
        }
        for (total, amount) in [
            (&mut totals.deposited, channel.deposited),
            (&mut totals.settled, channel.settled.as_amount()),
            (&mut totals.refunded, channel.refunded),
            (&mut totals.held, channel.held()),
        ] {
            *total = total.checked_add(amount).map_err(too_large)?;
        }
    }
    for credit in rebuilt.credits().values() {
        totals.credits = totals.credits.checked_add(*credit).map_err(too_large)?;
    }
    Ok(totals)
}

fn check_sums(rebuilt: &RebuiltLedger, ledger: &Ledger, totals: &Totals, findings: &mut Vec<Finding>) {
    let add = |parts: &[Amount]| parts.iter().try_fold(Amount::ZERO, |sum, part| sum.checked_add(*part)).ok();
    let sums = [
        ("deposited = settled + refunded + held", totals.deposited, add(&[totals.settled, totals.refunded, totals.held])),
        (
            "settled + refunded = withdrawn + credits",
            add(&[totals.settled, totals.refunded]).unwrap_or_default(),
            add(&[totals.withdrawn, totals.credits]),
        ),
        ("held = deposits of books less settled + queued", totals.held, held_in_books(rebuilt)),
    ];
    for (sum, expected, actual) in sums {
        if actual != Some(expected) {
            findings.push(Finding::Unbalanced { expected, actual: actual.unwrap_or_default(), sum });
        }
    }
    let owed = add(&[totals.held, totals.credits]);
    let covered = owed
        .and_then(|owed| ledger.config().unit.base_units_down(owed).ok())
        .is_some_and(|(whole, rest)| totals.balance_base_units > whole || (totals.balance_base_units == whole && rest.is_zero()));
    if !covered {
        let balance_base_units = totals.balance_base_units;
        findings.push(Finding::Underfunded { balance_base_units, owed: owed.unwrap_or_default() });
    }
}

/// What the slots of the books hold beyond what is settled, and what waits in the queue to be put there.
fn held_in_books(rebuilt: &RebuiltLedger) -> Option<Amount> {
    let slots = rebuilt.books().values().flat_map(|book| book.channels().map(|(_, slot)| *slot).collect::<Vec<_>>());
    let in_books = slots.map(|slot| Amount::from_nanos(slot.deposit_nanos().saturating_sub(slot.settled_nanos())));
    let queued = rebuilt.queue().iter().map(|request| request.asked.amount());
    in_books.chain(queued).try_fold(Amount::ZERO, |sum, part| sum.checked_add(part)).ok()
}

fn check_requests(rebuilt: &RebuiltLedger, now: Timestamp, totals: &mut Totals, findings: &mut Vec<Finding>) {
    for request in rebuilt.requests() {
        let deadline = rebuilt.deadline(request);
        match request.served {
            Some(served) if served.time > deadline => {
                totals.requests_served_late += 1;
                findings.push(Finding::ServedLate(late(request, deadline, served.time, Some(served.transaction))));
            }
            None if now > deadline => {
                totals.requests_overdue += 1;
                findings.push(Finding::Overdue(late(request, deadline, now, None)));
            }
            Some(_) | None => {}
        }
    }
}

const fn late(request: &RebuiltRequest, deadline: Timestamp, at: Timestamp, transaction: Option<Hash256>) -> LateRequest {
    LateRequest {
        index: request.index,
        channel: request.channel,
        asked: request.asked.name(),
        deadline_secs: deadline.as_secs_down(),
        late_secs: at.millis_since(deadline) / 1_000,
        transaction,
    }
}

/// The contract's record of each channel.
async fn compare_channels(rebuilt: &RebuiltLedger, at: &LedgerAt, findings: &mut Vec<Finding>) -> Result<(), ChainError> {
    let channels: Vec<RebuiltChannel> = rebuilt.channels().copied().collect();
    for some in channels.chunks(QUESTIONS_MAX) {
        let mut questions = JoinSet::new();
        for channel in some.iter().copied() {
            let at = at.clone();
            questions.spawn(async move { (channel, at.channel(channel.id).await) });
        }
        let mut answers = BTreeMap::new();
        while let Some(answer) = questions.join_next().await {
            let (channel, record) = answer.map_err(|error| ChainError::Internal { detail: error.to_string() })?;
            answers.insert(channel.id, (channel, record?));
        }
        findings.extend(answers.values().flat_map(|(channel, record)| compare_channel(channel, *record)));
    }
    Ok(())
}

fn compare_channel(channel: &RebuiltChannel, record: Option<ChannelRecord>) -> Vec<Finding> {
    let Some(record) = record else {
        let (contract, rebuilt) = ("nothing".to_owned(), "opened".to_owned());
        return vec![Finding::Channel { channel: channel.id, field: "the channel", contract, rebuilt }];
    };
    let fields = [
        ("the payer", record.payer.to_string(), channel.payer.to_string()),
        ("the deposit", record.deposit.to_string(), channel.deposited.to_string()),
        ("whether it was included", record.included.to_string(), (channel.place != ChannelPlace::Queued).to_string()),
        ("whether its close was requested", record.close_requested.to_string(), channel.close_request.is_some().to_string()),
        ("whether it is closed", record.closed.to_string(), (channel.place == ChannelPlace::Closed).to_string()),
    ];
    let differ = fields.into_iter().filter(|(_, contract, rebuilt)| contract != rebuilt);
    differ.map(|(field, contract, rebuilt)| Finding::Channel { channel: channel.id, field, contract, rebuilt }).collect()
}

async fn compare_credits_and_epochs(rebuilt: &RebuiltLedger, at: &LedgerAt, findings: &mut Vec<Finding>) -> Result<(), ChainError> {
    // Accounts whose credit is gone are asked about too: it must be gone in the contract.
    let mut accounts: BTreeMap<Address, Amount> = rebuilt.channels().map(|channel| (channel.payer, Amount::ZERO)).collect();
    accounts.extend(rebuilt.credits());
    for (account, rebuilt) in accounts {
        let contract = at.credit(account).await?;
        if contract != rebuilt {
            findings.push(Finding::Credit { account, contract, rebuilt });
        }
    }
    for epoch in rebuilt.epochs() {
        let contract = at.epoch_root(epoch.epoch).await?;
        if contract != Some(epoch.root) {
            findings.push(Finding::Epoch { epoch: epoch.epoch.number(), contract, rebuilt: epoch.root });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_has_a_stable_name_and_says_what_it_is() {
        let finding = Finding::InsecureKey { circuit: "settle-24".to_owned(), development_chain: false };
        assert_eq!(finding.severity(), Severity::Critical);
        assert!(finding.to_string().contains("INSECURE"));
        let late = LateRequest {
            index: 3,
            channel: ChannelId::from_uid(&[1; 31]),
            asked: "close",
            deadline_secs: 10,
            late_secs: 5,
            transaction: None,
        };
        assert_eq!(Finding::Overdue(late.clone()).severity(), Severity::Error);
        assert_eq!(Finding::ServedLate(late).severity(), Severity::Warning);
    }

    #[test]
    fn a_channel_is_compared_field_by_field() {
        let channel = RebuiltChannel {
            id: ChannelId::from_uid(&[1; 31]),
            payer: Address::from_bytes([2; 20]),
            key_x: [3; 32],
            salt: [4; 32],
            deposited: Amount::from_nanos(10),
            settled: millstream_types::CumulativeAmount::from_nanos(4),
            refunded: Amount::from_nanos(6),
            place: ChannelPlace::Closed,
            close_request: Some(1),
        };
        let record =
            ChannelRecord { payer: channel.payer, deposit: channel.deposited, included: true, close_requested: true, closed: true };
        assert_eq!(compare_channel(&channel, Some(record)), []);
        let fields = |record: Option<ChannelRecord>| {
            let names = compare_channel(&channel, record).into_iter().map(|finding| match finding {
                Finding::Channel { field, .. } => field,
                other => panic!("{other}"),
            });
            names.collect::<Vec<_>>()
        };
        assert_eq!(fields(None), ["the channel"]);
        assert_eq!(
            fields(Some(ChannelRecord { deposit: Amount::from_nanos(11), closed: false, ..record })),
            ["the deposit", "whether it is closed"]
        );
        assert_eq!(channel.held(), Amount::ZERO);
    }
}
