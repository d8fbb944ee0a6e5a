//! What is wrong with a ledger, found out from outside.
//!
//! The ledger is rebuilt, compared with the contract at one block, and measured against the rules. Nothing that the provider or the contract
//! says about itself is believed where it can be computed: the code of the contracts, the keys in the code of the verifiers, the roots of
//! empty books.

mod finding;
mod report;

use std::collections::BTreeMap;

use millstream_chain::{ChainError, ChannelRecord, Ledger, LedgerAt, VerifyingKeyWords};
use millstream_circuit::{Book, BookSize, Fr, Slot, field_to_word};
use millstream_prover::{CircuitId, KeyPins, insecure_dev_key_hash, refuse_public_chain};
use millstream_types::{Address, Amount, AmountError, ChannelId, Hash256, Timestamp};
use sha3::{Digest, Keccak256};
use tokio::task::JoinSet;

pub use self::finding::{Finding, LateRequest, Severity};
pub use self::report::{AuditReport, KeyOrigin, TierReport, Totals};
use crate::error::RebuildError;
use crate::exit::path_words;
use crate::rebuild::{Rebuild, RebuildOptions, RebuildProgress};
use crate::state::{ChannelPlace, RebuiltChannel, RebuiltLedger, RebuiltRequest};

/// Questions that are asked of the endpoint at once.
const QUESTIONS_MAX: usize = 16;
/// A response window below this leaves an honest provider too little time to settle before its payers are gone.
const WINDOW_SECS_MIN: u64 = 3_600;
/// A response window above this keeps a payer's money for long when the provider is gone.
const WINDOW_SECS_MAX: u64 = 30 * 86_400;

/// What an audit goes by.
#[derive(Clone, Debug, Default)]
pub struct AuditOptions {
    /// How to read the chain.
    pub rebuild: RebuildOptions,
    /// The hashes of keys that a ceremony made, by circuit. What is named goes before what is pinned.
    pub named_keys: BTreeMap<CircuitId, Hash256>,
    /// The production keys that are trusted: [`KeyPins::committed`], or none.
    pub pins: KeyPins,
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
        findings.extend(rebuilt.halted().map(|halted| Finding::Halted { block: halted.block.height(), transaction: halted.transaction }));
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
    if !knows_paths(ledger).await? {
        findings.push(Finding::UnknownPathsCode { book_paths: ledger.config().book_paths });
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

/// Whether what checks paths has known code, and computes the root of a book of two levels as we do: every constant of its tables is in it.
async fn knows_paths(ledger: &Ledger) -> Result<bool, ChainError> {
    let channel = ChannelId::from_uid(&[0xa5; 31]);
    let book = BookSize::new(17).and_then(|size| {
        let slot = Slot::new(16, channel, Fr::from(7u64), 9, 5)?;
        Book::from_channels(size, [(16, slot)])
    });
    // A book of one channel has a path.
    let Ok((book, path)) = book.and_then(|book| book.path(16).map(|path| (book, path))) else { return Ok(false) };
    let computed = ledger.root_of_path(book.size().slots(), &path_words(&path)).await?;
    Ok(computed == Some(field_to_word(book.root())) && ledger.has_known_book_paths().await?)
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
    let named = options.named_keys.get(&circuit).map(|expected| (*expected, KeyOrigin::Named));
    match named.or_else(|| options.pins.of(circuit).map(|pin| (pin.key_hash, KeyOrigin::Pinned))) {
        Some((expected, origin)) if expected == key => origin,
        Some((expected, _)) => {
            findings.push(Finding::AnotherKey { circuit: name, expected, actual: key });
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
            ChannelPlace::Closed | ChannelPlace::Cancelled => totals.channels_closed += 1,
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
    // What left the halted ledger stays in its slot.
    let slots = slots.filter(|slot| rebuilt.channel(&slot.uid()).is_some_and(|channel| !channel.place.is_over()));
    let in_books = slots.map(|slot| Amount::from_nanos(slot.deposit_nanos().saturating_sub(slot.settled_nanos())));
    let waiting = rebuilt
        .queue()
        .iter()
        .filter(|request| rebuilt.channel(&request.channel).is_some_and(|channel| !channel.place.is_over()));
    let queued = waiting.map(|request| request.asked.amount());
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
        (
            "whether it was included",
            record.included.to_string(),
            (!matches!(channel.place, ChannelPlace::Queued | ChannelPlace::Cancelled)).to_string(),
        ),
        (
            "whether its close was requested",
            record.close_requested.to_string(),
            (channel.close_request.is_some() || channel.place.is_over()).to_string(),
        ),
        ("whether it is closed", record.closed.to_string(), channel.place.is_over().to_string()),
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
