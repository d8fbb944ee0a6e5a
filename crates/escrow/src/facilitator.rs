//! A facilitator for other people's x402 servers: the gateway's [`FacilitatorPort`] over the chain and the node's store.
//!
//! A payment is judged before anything is spent: what it says, its signatures, what the chain has, what it would do, what it would cost. Then its gas
//! is promised, durably, and only then is it sent, on the node's one nonce lane, on which the gateway's own claims go first. Every signed version is
//! kept before the chain can see it: after a crash the same transaction is followed on.
//!
//! **Invariants.** No transaction without a durable promise; no promise above a limit. What is asked for again gets the first one's answer and no
//! second transaction. What was spent replaces what was promised, on reverted transactions too. Nothing is signed as a receiver's authorizer but
//! claims, which only pay the receiver, and refunds that a key for that receiver asked for.
//!
//! Source: the scheme's specification and `@x402/evm` 2.27.0; `docs/spec/facilitator.md`, F-3 to F-17.

mod budget;
mod carry;
mod exact;
mod judge;
mod record;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Context;
use millstream_chain::x402::{BatchOperator, BatchSettlement, ChannelState, ClaimRow, EscrowReader};
use millstream_chain::{Call, IndexerOptions, Rpc, Submitter, coin_balance};
use millstream_dialect::x402::{
    self, BATCH_SETTLEMENT, BatchCommand, BatchPayload, BatchResponseExtra, Claim, EXACT, Reason, RefundSettlement, SettleResponse,
    Supported, SupportedKind, VERSION, VerifyResponse,
};
use millstream_dialect::{DialectError, Object};
use millstream_gateway::GatewayConfig;
use millstream_gateway::facilitator::{Ask, Caller, FacilitatorPort, FacilitatorSection};
use millstream_gateway::port::{PortError, PortFuture};
use millstream_node::{Payments, Submission};
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Network, Timestamp, parse_base_units};
use millstream_voucher::evm::{ChannelConfig, ClaimBatch, ClaimEntry, EvmSignature, eip55};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{debug, info, warn};

use self::budget::{CallerId, DAY_MILLIS, GWEI, Spending, Spent};
use self::carry::{failed, unsimulated};
use self::judge::{Judged, misshapen, simulated, unread};
use self::record::{Kind, Record, State, Subject, WHOSE, WorkId};
use crate::board::now;
use crate::lock::lock;

/// When to ask again where nothing better is known, in milliseconds.
const RETRY_MILLIS: u64 = 5_000;
/// Bytes of a claim's call for each of its rows, about: what gas for claims is measured by.
const ROW_BYTES: usize = 480;

/// What gas is spent on of a token, at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AssetTerms {
    deposit_min: Amount,
    exact_min: Amount,
}

/// What a facilitator serves, from a gateway's configuration.
#[derive(Clone, Debug)]
pub struct FacilitatorTerms {
    network: String,
    assets: BTreeMap<Address, AssetTerms>,
    section: FacilitatorSection,
}

/// What a facilitator rests on.
pub struct FacilitatorRooms {
    /// The node's store.
    pub payments: Payments,
    /// The endpoint.
    pub rpc: Rpc,
    /// The one lane of the account that pays for gas; it is also the authorizer of receivers that have none of their own.
    pub submitter: Submitter,
    /// Blocks that must hold a deposit before it counts.
    pub confirmations: u64,
    /// What is served.
    pub terms: FacilitatorTerms,
}

/// A facilitator. Cheap to clone.
#[derive(Clone)]
pub struct Facilitator(Arc<Shared>);

/// Why not, in the API's own word and one for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    reason: Reason,
    message: Option<String>,
}

impl Refusal {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: Some(message.into()) }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, message: None }
    }
}

/// What those who wait for a piece of work are told.
#[derive(Clone, Debug)]
enum Told {
    /// It is under way.
    Pending,
    /// It is final: see the record.
    Final(Box<SettleResponse>),
    /// It was not sent after all.
    Dropped(Refusal),
}

struct Entry {
    record: Record,
    told: watch::Sender<Told>,
}

#[derive(Default)]
struct Desk {
    work: BTreeMap<WorkId, Entry>,
    spending: Spending,
}

pub(crate) struct Shared {
    payments: Payments,
    operator: BatchOperator,
    reader: EscrowReader,
    terms: FacilitatorTerms,
    desk: Mutex<Desk>,
    sending: Arc<Semaphore>,
    queue: mpsc::UnboundedSender<WorkId>,
}

/// A request to settle, as it was read.
struct Asked {
    kind: Kind,
    id: WorkId,
    subject: Subject,
    what: What,
}

/// What has to be judged of it.
enum What {
    Deposit { payload: Box<BatchPayload>, offer: Box<x402::BatchOffer> },
    Claim { call: Call, totals: Vec<(EscrowChannelId, CumulativeAmount)> },
    Sweep(Call),
    Refund { call: Call, claimed: CumulativeAmount },
    Exact(Box<exact::ReadExact>),
}

impl FacilitatorTerms {
    /// What the `[facilitator]` section of a gateway's configuration says; nothing without one.
    ///
    /// # Errors
    /// What is wrong with a value.
    pub fn of(config: &GatewayConfig) -> anyhow::Result<Option<Self>> {
        let Some(section) = &config.facilitator else { return Ok(None) };
        let network: Network = config.payment.network.parse().context("payment.network")?;
        let amount = |text: &str, place: &'static str| parse_base_units(text).context(place);
        let address = |text: &str, place: &'static str| text.parse::<Address>().context(place);
        let mut assets = BTreeMap::new();
        let own = AssetTerms {
            deposit_min: amount(&section.deposit_min, "facilitator.deposit_min")?,
            exact_min: amount(&section.exact_min, "facilitator.exact_min")?,
        };
        assets.insert(address(&config.payment.asset, "payment.asset")?, own);
        for asset in &section.assets {
            let terms = AssetTerms {
                deposit_min: amount(&asset.deposit_min, "facilitator.asset.deposit_min")?,
                exact_min: amount(&asset.exact_min, "facilitator.asset.exact_min")?,
            };
            let before = assets.insert(address(&asset.address, "facilitator.asset.address")?, terms);
            anyhow::ensure!(before.is_none(), "facilitator.asset: {} comes twice", asset.address);
        }
        anyhow::ensure!((1..=3_600).contains(&section.wait_secs), "facilitator.wait_secs must be 1 to 3600");
        anyhow::ensure!(section.gas.in_flight_max > 0, "facilitator.gas.in_flight_max must be above 0");
        Ok(Some(Self { network: network.to_string(), assets, section: section.clone() }))
    }
}

impl Facilitator {
    /// Reads what an earlier process left, and follows on what it had sent: before anything else is sent on the lane.
    ///
    /// # Errors
    /// The contracts are not on the chain; the store cannot be read, or what it has was written by another account.
    pub async fn start(rooms: FacilitatorRooms) -> anyhow::Result<Self> {
        let FacilitatorRooms { payments, rpc, submitter, confirmations, terms } = rooms;
        let network = Network::evm(rpc.chain()).to_string();
        anyhow::ensure!(network == terms.network, "payment.network is {}, the endpoint serves {network}", terms.network);
        let contract = BatchSettlement::attach(rpc).await?;
        let reader = EscrowReader::new(contract.clone(), IndexerOptions { confirmations, ..IndexerOptions::default() });
        let operator = BatchOperator::new(contract, submitter);
        let records = payments.kept(WHOSE).await?;
        let (queue, queued) = mpsc::unbounded_channel();
        let sending = Arc::new(Semaphore::new(terms.section.gas.in_flight_max.into()));
        let desk = Mutex::default();
        let shared = Arc::new(Shared { payments, operator, reader, terms, desk, sending: Arc::clone(&sending), queue });
        let mut unfinished = Vec::new();
        for (key, value) in records {
            let (id, record) = (WorkId::of_key(&key)?, Record::decode(&value)?);
            if !record.state.is_final() {
                unfinished.push((record.accepted_at, id, record.state.clone()));
            }
            shared.enter(&mut shared.desk(), id, record);
        }
        unfinished.sort_by_key(|(accepted_at, id, _)| (*accepted_at, *id));
        if !unfinished.is_empty() {
            info!(transactions = unfinished.len(), "a facilitator's transactions of an earlier process are carried on");
        }
        for (_, id, state) in unfinished {
            match state {
                State::Signed(versions) => Arc::clone(&shared).resume(id, versions).await?,
                State::Promised | State::Done { .. } | State::Reverted { .. } => shared.enqueue(id),
            }
        }
        tokio::spawn(carry::run(Arc::downgrade(&shared), sending, queued));
        Ok(Self(shared))
    }
}

impl FacilitatorPort for Facilitator {
    fn supported(&self) -> Supported {
        self.0.supported()
    }

    fn verify(&self, ask: Ask) -> PortFuture<'_, VerifyResponse> {
        Box::pin(async move { Ok(self.0.verify(&ask).await) })
    }

    fn settle(&self, ask: Ask) -> PortFuture<'_, SettleResponse> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            // A task of its own: a server that goes away in the middle must not leave half a promise.
            let settled = tokio::spawn(async move { shared.settle(ask).await }).await;
            settled.unwrap_or_else(|panic| Err(PortError::Fault { reason: panic.to_string() }))
        })
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }

    fn submitter(&self) -> &Submitter {
        self.operator.submitter()
    }

    fn rpc(&self) -> &Rpc {
        self.operator.contract().rpc()
    }

    fn supported(&self) -> Supported {
        let account = eip55(&self.operator.account());
        let extra = Object::from_iter([("receiverAuthorizer".to_owned(), json!(account))]);
        let kind = |scheme: &str, extra| SupportedKind {
            x402_version: VERSION,
            scheme: scheme.to_owned(),
            network: self.terms.network.clone(),
            extra,
        };
        let exact = self.terms.section.exact.then(|| kind(EXACT, Object::default()));
        Supported {
            kinds: [kind(BATCH_SETTLEMENT, extra)].into_iter().chain(exact).collect(),
            extensions: Vec::new(),
            signers: BTreeMap::from([("eip155:*".to_owned(), vec![account])]),
        }
    }

    async fn verify(&self, ask: &Ask) -> VerifyResponse {
        match self.judge(ask).await {
            Ok(judged) => VerifyResponse {
                is_valid: true,
                payer: Some(eip55(&judged.0)),
                extra: judged.1.unwrap_or_default(),
                ..VerifyResponse::default()
            },
            Err((refusal, payer)) => {
                debug!(reason = %refusal.reason, message = refusal.message, "a payment is not verified");
                VerifyResponse {
                    is_valid: false,
                    invalid_reason: Some(refusal.reason.to_string()),
                    invalid_message: refusal.message,
                    payer: payer.as_ref().map(eip55),
                    ..VerifyResponse::default()
                }
            }
        }
    }

    /// Judges a payment of any scheme: who pays, and what is said of the channel.
    async fn judge(&self, ask: &Ask) -> Result<(Address, Option<Object>), (Refusal, Option<Address>)> {
        let unknown = |refusal: Refusal| (refusal, None);
        let request = &ask.request;
        match request.payment_requirements.scheme.as_str() {
            BATCH_SETTLEMENT => {
                self.batch_envelope(request).map_err(unknown)?;
                let object = &request.payment_payload.payload;
                let payload = BatchPayload::from_object(object).map_err(|error| unknown(misshapen(object, &error)))?;
                let terms = payload.config();
                let of_payer = |refusal| (refusal, Some(terms.payer));
                let offer = self.batch_offer(request, Some(&terms)).map_err(of_payer)?;
                let judged = match &payload {
                    BatchPayload::Deposit { deposit, .. } => {
                        self.may_spend(&ask.caller, terms.payer, terms.receiver).map_err(of_payer)?;
                        self.judge_deposit(&offer, &payload, deposit, true).await.map(|all| all.judged)
                    }
                    BatchPayload::Voucher { .. } | BatchPayload::Refund { .. } => self.judge_spending(&offer, &payload).await,
                };
                let Judged { payer, state } = judged.map_err(of_payer)?;
                let told = Object::of("extra", &told_state(&state)).map_err(|error| of_payer(faulty(&error)))?;
                Ok((payer, Some(told)))
            }
            EXACT => {
                let read = self.read_exact(request).map_err(unknown)?;
                let of_payer = |refusal| (refusal, Some(read.subject.payer));
                self.may_spend(&ask.caller, read.subject.payer, read.subject.receiver).map_err(of_payer)?;
                self.judge_exact(&read).await.map_err(of_payer)?;
                Ok((read.subject.payer, None))
            }
            _ => Err(unknown(Reason::UnsupportedScheme.into())),
        }
    }

    async fn settle(self: Arc<Self>, ask: Ask) -> Result<SettleResponse, PortError> {
        let network = self.terms.network.clone();
        let refused = |refusal: Refusal, payer: Option<Address>| {
            debug!(reason = %refusal.reason, message = refusal.message, "a payment is not settled");
            SettleResponse {
                success: false,
                error_reason: Some(refusal.reason.to_string()),
                error_message: refusal.message,
                payer: payer.filter(|payer| *payer != Address::ZERO).as_ref().map(eip55),
                network: network.clone(),
                ..SettleResponse::default()
            }
        };
        let asked = match self.read(&ask).await {
            Ok(asked) => asked,
            Err(refusal) => return Ok(refused(refusal, None)),
        };
        let (id, payer) = (asked.id, asked.subject.payer);
        match self.promise(asked, &ask.caller).await {
            Ok(Promised::UnderWay(id, heard)) => self.hear(id, heard).await,
            Ok(Promised::Nothing(answer)) => Ok(*answer),
            Ok(Promised::Stopped) => Err(PortError::Unavailable { retry_after_millis: RETRY_MILLIS }),
            Err(refusal) => {
                // While it was judged, the same may have been settled for another: then that is the answer, not what the chain says by now.
                let last = self.last(id);
                if let Some(heard) = self.heard(last) {
                    return self.hear(last, heard).await;
                }
                Ok(refused(refusal, Some(payer)))
            }
        }
    }

    /// Reads what is to be settled.
    async fn read(&self, ask: &Ask) -> Result<Asked, Refusal> {
        let request = &ask.request;
        match request.payment_requirements.scheme.as_str() {
            BATCH_SETTLEMENT => {}
            EXACT => {
                let read = self.read_exact(request)?;
                return Ok(Asked { kind: Kind::Exact, id: read.id, subject: read.subject, what: What::Exact(Box::new(read)) });
            }
            _ => return Err(Reason::UnsupportedScheme.into()),
        }
        self.batch_envelope(request)?;
        let object = &request.payment_payload.payload;
        let is_command = match object.get("type").and_then(|kind| kind.as_str()) {
            Some("claim" | "settle") => true,
            Some("refund") => object.get("refundNonce").is_some() && object.get("claims").is_some(),
            _ => false,
        };
        if is_command {
            let command = BatchCommand::from_object(object).map_err(|error| misshapen(object, &error))?;
            return match command {
                BatchCommand::Claim { claims, claim_authorizer_signature } => self.read_claim(&claims, claim_authorizer_signature).await,
                BatchCommand::Settle { receiver, token } => self.read_sweep(receiver, token).await,
                BatchCommand::Refund(refund) => self.read_refund(&refund, &ask.caller).await,
            };
        }
        let payload = BatchPayload::from_object(object).map_err(|error| misshapen(object, &error))?;
        let BatchPayload::Deposit { deposit, .. } = &payload else { return Err(Reason::BatchPayloadType.into()) };
        let terms = payload.config();
        let offer = self.batch_offer(request, Some(&terms))?;
        let channel = terms.channel_id(self.operator.contract().domain()).map_err(|_| Reason::BatchWithdrawDelayOutOfRange)?;
        let signature = match &deposit.authorization {
            x402::DepositAuthorization::Erc3009(signed) => [signed.salt.as_bytes(), signed.signature.as_bytes()].concat(),
            x402::DepositAuthorization::Permit2(signed) => [&signed.nonce.to_be_bytes()[..], signed.signature.as_bytes()].concat(),
        };
        let id = WorkId::of(Kind::Deposit, &[channel.as_bytes(), &deposit.amount.units().to_be_bytes(), &signature]);
        let (payer, receiver, token) = (terms.payer, terms.receiver, terms.token);
        let subject = Subject { channel, payer, receiver, token, amount: deposit.amount };
        Ok(Asked { kind: Kind::Deposit, id, subject, what: What::Deposit { payload: Box::new(payload), offer: Box::new(offer) } })
    }

    async fn read_claim(&self, claims: &[Claim], signature: Option<EvmSignature>) -> Result<Asked, Refusal> {
        let rows = self.rows(claims, Reason::BatchClaimPayload)?;
        let signature = match signature {
            Some(signature) => signature,
            None => self.sign_rows(&rows).await?,
        };
        let call = self
            .operator
            .claim_signed_call(&rows, &signature)
            .map_err(|error| Refusal::new(Reason::BatchClaimPayload, error.to_string()))?;
        let id = WorkId::of(Kind::Claim, &[call.data()]);
        let first = rows.first().ok_or(Reason::BatchClaimPayload)?.config;
        let subject =
            Subject { channel: nothing(), payer: Address::ZERO, receiver: first.receiver, token: first.token, amount: Amount::ZERO };
        let totals = rows.iter().map(|row| (row.channel, row.total)).collect();
        Ok(Asked { kind: Kind::Claim, id, subject, what: What::Claim { call, totals } })
    }

    /// As the authorizer that all rows name: this facilitator.
    async fn sign_rows(&self, rows: &[ClaimRow]) -> Result<EvmSignature, Refusal> {
        let account = self.operator.account();
        if rows.iter().any(|row| row.config.receiver_authorizer != account) {
            let message = format!("unsigned claims are of channels whose receiverAuthorizer is {account}");
            return Err(Refusal::new(Reason::BatchAuthorizerAddressMismatch, message));
        }
        let entry = |row: &ClaimRow| ClaimEntry { channel: row.channel, max_claimable: row.ceiling, total_claimed: row.total };
        let batch = ClaimBatch { claims: rows.iter().map(entry).collect() };
        self.operator
            .sign_claims(&batch)
            .await
            .map_err(|error| Refusal::new(Reason::BatchAuthorizerNotConfigured, error.to_string()))
    }

    /// A sweep is the same one as long as nothing more was claimed.
    async fn read_sweep(&self, receiver: Address, token: Address) -> Result<Asked, Refusal> {
        self.served(&token, Reason::BatchTokenMismatch)?;
        let totals = self.operator.contract().receiver(receiver, token).await.map_err(unread)?;
        let parts: [&[u8]; 3] = [receiver.as_bytes(), token.as_bytes(), &totals.claimed.units().to_be_bytes()];
        let id = WorkId::of(Kind::Sweep, &parts);
        let subject = Subject { channel: nothing(), payer: Address::ZERO, receiver, token, amount: totals.due() };
        Ok(Asked { kind: Kind::Sweep, id, subject, what: What::Sweep(self.operator.sweep_call(receiver, token)) })
    }

    async fn read_refund(&self, settlement: &RefundSettlement, caller: &Caller) -> Result<Asked, Refusal> {
        let terms = ChannelConfig::from(settlement.channel_config);
        let domain = self.operator.contract().domain();
        let channel = terms.channel_id(domain).map_err(|_| Reason::BatchWithdrawDelayOutOfRange)?;
        if channel != settlement.voucher.channel_id {
            return Err(Reason::BatchChannelIdMismatch.into());
        }
        self.served(&terms.token, Reason::BatchTokenMismatch)?;
        if settlement.amount.is_zero() {
            return Err(Reason::BatchRefundAmountInvalid.into());
        }
        let rows = self.rows(&settlement.claims, Reason::BatchRefundPayload)?;
        if rows.iter().any(|row| row.config.receiver != terms.receiver) {
            return Err(Refusal::new(Reason::BatchReceiverMismatch, "the claims are of another receiver than the refund"));
        }
        let refund = settlement.refund();
        let signature = match &settlement.refund_authorizer_signature {
            Some(signature) => signature.clone(),
            None => {
                self.may_refund(&terms, caller)?;
                self.operator
                    .sign_refund(&refund)
                    .await
                    .map_err(|error| Refusal::new(Reason::BatchAuthorizerNotConfigured, error.to_string()))?
            }
        };
        let claims = match (&rows[..], &settlement.claim_authorizer_signature) {
            ([], _) => None,
            (_, Some(signature)) => Some(signature.clone()),
            (rows, None) => Some(self.sign_rows(rows).await?),
        };
        let claims = claims.as_ref().map(|signature| (&rows[..], signature));
        let call = self
            .operator
            .refund_signed_call(&terms, &refund, &signature, claims)
            .map_err(|error| Refusal::new(Reason::BatchRefundPayload, error.to_string()))?;
        let claimed = rows.iter().filter(|row| row.channel == channel).map(|row| row.total).max().unwrap_or_default();
        let id = WorkId::of(Kind::Refund, &[call.data()]);
        let subject = Subject { channel, payer: terms.payer, receiver: terms.receiver, token: terms.token, amount: settlement.amount };
        Ok(Asked { kind: Kind::Refund, id, subject, what: What::Refund { call, claimed } })
    }

    /// Whether the facilitator signs a refund for this caller: it takes money from the receiver, so only who holds a key for it.
    fn may_refund(&self, terms: &ChannelConfig, caller: &Caller) -> Result<(), Refusal> {
        let account = self.operator.account();
        if terms.receiver_authorizer != account {
            let message = format!("unsigned refunds are of channels whose receiverAuthorizer is {account}");
            return Err(Refusal::new(Reason::BatchAuthorizerAddressMismatch, message));
        }
        let allowed = caller.key.as_ref().is_some_and(|key| key.receivers.contains(&terms.receiver));
        if allowed {
            return Ok(());
        }
        let message = format!("a refund without the authorizer's signature needs a key for the receiver {}", eip55(&terms.receiver));
        Err(Refusal::new(Reason::BatchRefundAuthorizerSignature, message))
    }

    /// Judges what is asked and, when it is good, promises its gas. What is asked for again is told what became of the first.
    async fn promise(&self, asked: Asked, caller: &Caller) -> Result<Promised, Refusal> {
        let id = self.last(asked.id);
        if let Some(heard) = self.heard(id) {
            return Ok(Promised::UnderWay(id, heard));
        }
        if let Some(under_way) = self.one_at_a_time(&asked)? {
            return Ok(under_way);
        }
        let (kind, subject) = (asked.kind, asked.subject);
        let mut record = Record {
            accepted_at: now(),
            caller: CallerId::from(caller),
            kind,
            subject,
            wei: 0,
            state: State::Promised,
            to: Address::ZERO,
            data: Vec::new(),
        };
        // What is cheap comes before what asks the chain.
        self.afford(&self.desk(), &record.spent(), Reason::UnexpectedSettleError)?;
        let call = match self.judge_asked(asked).await? {
            Some(call) => call,
            None => return Ok(Promised::Nothing(Box::new(self.nothing_to_do()))),
        };
        let quote = self.submitter().quote(&call).await.map_err(|error| match kind {
            Kind::Exact if error.is_retryable() => Refusal::new(Reason::UnexpectedSettleError, error.to_string()),
            _ => simulated(&error, unsimulated(kind)),
        })?;
        let gas_max = self.gas_max(kind, call.data().len());
        if quote.gas_limit > gas_max {
            return Err(Refusal::new(failed(kind), format!("it takes {} gas, more than {gas_max}", quote.gas_limit)));
        }
        if quote.max_fee_per_gas > u128::from(self.terms.section.gas.fee_gwei_max).saturating_mul(GWEI) {
            return Err(Refusal::new(Reason::UnexpectedSettleError, "the price of gas is above what is paid"));
        }
        record.wei = quote.cost_max_wei();
        (record.to, record.data) = (call.to().unwrap_or(Address::ZERO), call.data().to_vec());
        self.judge_means(record.wei).await?;
        let heard = {
            let mut desk = self.desk();
            // Meanwhile another may have come, this one too.
            if let Some(entry) = desk.work.get(&id) {
                return Ok(Promised::UnderWay(id, entry.told.subscribe()));
            }
            self.afford(&desk, &record.spent(), Reason::UnexpectedSettleError)?;
            self.enter(&mut desk, id, record)
        };
        // Nothing is sent before it is durable.
        if self.keep(id, |_| {}).await.is_err() {
            return Ok(Promised::Stopped);
        }
        self.enqueue(id);
        Ok(Promised::UnderWay(id, heard))
    }

    /// Deposits and refunds of one channel go one after the other, and so do sweeps of one receiver: a second sweep is told of the first.
    fn one_at_a_time(&self, asked: &Asked) -> Result<Option<Promised>, Refusal> {
        let desk = self.desk();
        let mut under_way = desk.work.iter().filter(|(_, entry)| !entry.record.state.is_final());
        let subject = &asked.subject;
        match asked.kind {
            Kind::Deposit | Kind::Refund => {
                let busy = under_way.any(|(_, entry)| {
                    matches!(entry.record.kind, Kind::Deposit | Kind::Refund) && entry.record.subject.channel == subject.channel
                });
                if busy { Err(Reason::BatchChannelBusy.into()) } else { Ok(None) }
            }
            Kind::Sweep => Ok(under_way
                .find(|(_, entry)| {
                    let other = &entry.record.subject;
                    entry.record.kind == Kind::Sweep && other.receiver == subject.receiver && other.token == subject.token
                })
                .map(|(id, entry)| Promised::UnderWay(*id, entry.told.subscribe()))),
            Kind::Claim | Kind::Exact => Ok(None),
        }
    }

    /// The call that is sent; nothing where nothing would come of it.
    async fn judge_asked(&self, asked: Asked) -> Result<Option<Call>, Refusal> {
        match asked.what {
            What::Deposit { payload, offer } => {
                let BatchPayload::Deposit { deposit, .. } = &*payload else { return Err(Reason::BatchPayloadType.into()) };
                let judged = self.judge_deposit(&offer, &payload, deposit, false).await?;
                let call = self.operator.deposit_call(&judged.terms, judged.amount, &judged.authorization);
                call.map(Some).map_err(|error| Refusal::new(Reason::BatchDepositPayload, error.to_string()))
            }
            What::Exact(read) => self.judge_exact(&read).await.map(Some),
            What::Claim { call, totals } => {
                let channels = totals.iter().map(|(channel, _)| *channel).collect();
                let states = self.reader.look(&channels).await.map_err(unread)?.states;
                let claimed = |channel| states.iter().find(|state| state.channel == channel).map(|state| state.claimed);
                let is_done = totals.iter().all(|(channel, total)| claimed(*channel).is_some_and(|claimed| claimed >= *total));
                // The contract passes over rows that claim nothing new: that is gas for nothing.
                Ok((!is_done).then_some(call))
            }
            What::Sweep(call) => {
                if asked.subject.amount.is_zero() {
                    return Err(Refusal::new(Reason::BatchNothingToSettle, "nothing to settle for receiver and token"));
                }
                Ok(Some(call))
            }
            What::Refund { call, claimed } => {
                let state = self.operator.contract().newest_state(asked.subject.channel).await.map_err(unread)?;
                let claimed = claimed.max(state.claimed).as_amount();
                if claimed == state.balance {
                    return Err(Refusal::new(Reason::BatchRefundNoBalance, "nothing is left to refund"));
                }
                Ok(Some(call))
            }
        }
    }

    fn nothing_to_do(&self) -> SettleResponse {
        SettleResponse { success: true, network: self.terms.network.clone(), amount: Some(String::new()), ..SettleResponse::default() }
    }

    /// Whether the budgets allow for it.
    fn afford(&self, desk: &Desk, spent: &Spent, reason: Reason) -> Result<(), Refusal> {
        let judged = desk.spending.judge(&self.terms.section.gas, spent);
        judged.map_err(|limit| Refusal::new(reason, limit.to_string()))
    }

    /// Whether a payment that is looked at could be sent for.
    fn may_spend(&self, caller: &Caller, payer: Address, receiver: Address) -> Result<(), Refusal> {
        let (caller, payer, receiver) = (CallerId::from(caller), Some(payer), Some(receiver));
        let spent = Spent { at: now(), caller, payer, receiver, wei: 0, reverted: false };
        self.afford(&self.desk(), &spent, Reason::UnexpectedVerifyError)
    }

    /// Whether the account's coins allow for anything but the gateway's own claims.
    async fn judge_means(&self, wei: u128) -> Result<(), Refusal> {
        let coins = coin_balance(self.rpc(), self.operator.account()).await.map_err(unread)?;
        let promised = {
            let desk = self.desk();
            let open = desk.work.values().filter(|entry| !entry.record.state.is_final()).map(|entry| entry.record.wei);
            open.fold(wei, u128::saturating_add)
        };
        let needed = promised.saturating_add(u128::from(self.terms.section.gas.reserve_gwei_min).saturating_mul(GWEI));
        if coins < needed {
            warn!(
                coins_gwei = coins / GWEI,
                needed_gwei = needed / GWEI,
                "nothing is sent for others: the account's coins are kept for claims"
            );
            return Err(Refusal::new(Reason::UnexpectedSettleError, "the facilitator's gas is spent"));
        }
        Ok(())
    }

    /// Gas that a call may take: a claim's is measured by its rows.
    fn gas_max(&self, kind: Kind, bytes: usize) -> u64 {
        let one = self.terms.section.gas.gas_max;
        match kind {
            Kind::Deposit | Kind::Sweep | Kind::Exact => one,
            // A row takes some 24,000 gas, and more where a contract signs.
            Kind::Claim | Kind::Refund => {
                let rows = u64::try_from(bytes / ROW_BYTES).unwrap_or(u64::MAX);
                one.saturating_add(rows.saturating_mul(one / 4))
            }
        }
    }

    fn heard(&self, id: WorkId) -> Option<watch::Receiver<Told>> {
        self.desk().work.get(&id).map(|entry| entry.told.subscribe())
    }

    /// The id that a request has now. A reverted transaction is the end of what it was for: who asks again asks anew, and is judged by what the
    /// chain has then.
    fn last(&self, mut id: WorkId) -> WorkId {
        let desk = self.desk();
        while let Some(State::Reverted { transaction, .. }) = desk.work.get(&id).map(|entry| &entry.record.state) {
            id = id.after(transaction);
        }
        id
    }

    /// Waits for the end, as long as a server is held on.
    async fn hear(&self, id: WorkId, mut heard: watch::Receiver<Told>) -> Result<SettleResponse, PortError> {
        let wait = Duration::from_secs(self.terms.section.wait_secs);
        let told = tokio::time::timeout(wait, heard.wait_for(|told| !matches!(told, Told::Pending))).await;
        let unavailable = PortError::Unavailable { retry_after_millis: RETRY_MILLIS };
        match told {
            Ok(Ok(told)) => match &*told {
                Told::Final(answer) => Ok((**answer).clone()),
                Told::Dropped(refusal) => Ok(SettleResponse {
                    success: false,
                    error_reason: Some(refusal.reason.to_string()),
                    error_message: refusal.message.clone(),
                    network: self.terms.network.clone(),
                    ..SettleResponse::default()
                }),
                Told::Pending => Err(unavailable),
            },
            Ok(Err(_)) => Err(unavailable),
            // On its way: who asks again goes on waiting. Before it is on its way there is nothing to name.
            Err(_) => self.pending(id).ok_or(unavailable),
        }
    }

    fn pending(&self, id: WorkId) -> Option<SettleResponse> {
        let desk = self.desk();
        let record = &desk.work.get(&id)?.record;
        let State::Signed(versions) = &record.state else { return None };
        Some(SettleResponse {
            success: false,
            error_reason: Some(Reason::SettlementPending.to_string()),
            error_message: Some("the transaction is not confirmed yet".to_owned()),
            payer: payer_of(record),
            transaction: versions.last()?.transaction.to_string(),
            network: self.terms.network.clone(),
            ..SettleResponse::default()
        })
    }

    fn enqueue(&self, id: WorkId) {
        // The worker goes only when the facilitator does.
        let _ = self.queue.send(id);
    }

    fn record(&self, id: WorkId) -> Option<Record> {
        self.desk().work.get(&id).map(|entry| entry.record.clone())
    }

    /// Puts a record on the desk, with what it means to who waits.
    fn enter(&self, desk: &mut Desk, id: WorkId, record: Record) -> watch::Receiver<Told> {
        let (told, heard) = watch::channel(self.told_of(&record));
        desk.spending.put(id, record.spent());
        desk.work.insert(id, Entry { record, told });
        heard
    }

    /// Changes a record, and waits until it is durable.
    async fn keep(&self, id: WorkId, change: impl FnOnce(&mut Record)) -> anyhow::Result<()> {
        let (submission, stale) = {
            let mut desk = self.desk();
            let entry = desk.work.get_mut(&id).context("work that is not known")?;
            change(&mut entry.record);
            let (submission, spent) = (entry.record.to_submission(id)?, entry.record.spent());
            desk.spending.put(id, spent);
            (submission, desk.take_stale(now()))
        };
        let deletions = stale.into_iter().map(|id| Submission { key: id.key(), value: None });
        Ok(self.payments.keep([submission].into_iter().chain(deletions).collect()).await?)
    }

    /// Forgets work of which nothing was sent, and says why.
    async fn drop_unsent(&self, id: WorkId, refusal: Refusal) {
        let entry = {
            let mut desk = self.desk();
            desk.spending.forget(id);
            desk.work.remove(&id)
        };
        // A core that is gone leaves the record: the next start judges it again by sending it.
        let _ = self.payments.keep(vec![Submission { key: id.key(), value: None }]).await;
        if let Some(entry) = entry {
            info!(operation = entry.record.kind.operation(), reason = %refusal.reason, message = refusal.message, "nothing is sent after all");
            entry.told.send_replace(Told::Dropped(refusal));
        }
    }

    /// Tells those who wait what the record says.
    fn tell(&self, id: WorkId) {
        if let Some(entry) = self.desk().work.get(&id) {
            entry.told.send_replace(self.told_of(&entry.record));
        }
    }

    fn told_of(&self, record: &Record) -> Told {
        let network = self.terms.network.clone();
        let payer = payer_of(record);
        match &record.state {
            State::Promised | State::Signed(_) => Told::Pending,
            State::Done { transaction, amount, .. } if record.kind == Kind::Exact && amount.is_zero() => {
                Told::Final(Box::new(SettleResponse {
                    success: false,
                    error_reason: Some(Reason::ExactTransferEventMismatch.to_string()),
                    payer,
                    transaction: transaction.to_string(),
                    network,
                    ..SettleResponse::default()
                }))
            }
            State::Done { transaction, amount, channel } => {
                let amount = if record.kind == Kind::Claim { String::new() } else { amount.to_string() };
                let extra =
                    channel.as_ref().map(|state| BatchResponseExtra { channel_state: Some(told_state(state)), ..Default::default() });
                // It was read from the chain, so it can be written.
                let extra = extra.and_then(|extra| Object::of("extra", &extra).ok()).unwrap_or_default();
                let transaction = transaction.to_string();
                Told::Final(Box::new(SettleResponse {
                    success: true,
                    payer,
                    transaction,
                    network,
                    amount: Some(amount),
                    extra,
                    ..SettleResponse::default()
                }))
            }
            State::Reverted { transaction, .. } => Told::Final(Box::new(SettleResponse {
                success: false,
                error_reason: Some(failed(record.kind).to_string()),
                error_message: Some("the transaction reverted".to_owned()),
                payer,
                transaction: transaction.to_string(),
                network,
                ..SettleResponse::default()
            })),
        }
    }
}

/// What came of a promise.
enum Promised {
    /// It is on the desk.
    UnderWay(WorkId, watch::Receiver<Told>),
    /// Nothing has to be sent.
    Nothing(Box<SettleResponse>),
    /// The node is stopping: whether it is promised is not known.
    Stopped,
}

impl Desk {
    /// Takes finished work off that no budget counts any more. The chain itself takes nothing of it twice.
    fn take_stale(&mut self, now: Timestamp) -> Vec<WorkId> {
        let is_stale = |entry: &Entry| entry.record.state.is_final() && now.millis_since(entry.record.accepted_at) >= DAY_MILLIS;
        let stale: Vec<WorkId> = self.work.iter().filter(|(_, entry)| is_stale(entry)).map(|(id, _)| *id).collect();
        for id in &stale {
            self.work.remove(id);
            self.spending.forget(*id);
        }
        stale
    }
}

fn payer_of(record: &Record) -> Option<String> {
    let payer = record.subject.payer;
    (payer != Address::ZERO).then(|| eip55(&payer))
}

/// A channel as facilitators tell of it.
fn told_state(state: &ChannelState) -> x402::ChannelState {
    x402::ChannelState {
        channel_id: state.channel,
        balance: state.balance,
        total_claimed: state.claimed,
        withdraw_requested_at: state.withdrawal.map_or(0, |withdrawal| withdrawal.initiated_at.as_secs_down()),
        refund_nonce: state.refund_nonce,
        charged_cumulative_amount: None,
    }
}

/// No channel.
const fn nothing() -> EscrowChannelId {
    EscrowChannelId::from_bytes([0; 32])
}

fn faulty(error: &DialectError) -> Refusal {
    Refusal::new(Reason::UnexpectedVerifyError, error.to_string())
}
