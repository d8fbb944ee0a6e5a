//! Custody of vouchers for servers that keep none (draft 1.1 of the scheme): the facilitator holds, charges and remembers; the server passes every
//! payload on, first to `/verify`, then to `/settle`.
//!
//! A custodial channel is a channel of the gateway's own ledger whose receiver is somebody else: vouchers are durable before an answer, what is
//! charged is claimed and swept by the gateway's claimer. `/verify` reserves, `/settle` captures. A request is named by its voucher, so asking
//! again is answered as before, over a restart too; a hold that a crash has lost is made again by `/settle`.
//!
//! **Invariants.** Only who holds a key for a receiver has vouchers of it kept: whoever may settle says what is charged. One request is under way on
//! a channel. Nothing is charged above what the voucher allows. Source: `docs/spec/facilitator.md`, F-23 to F-29.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millstream_dialect::x402::custody::{CustodyKind, CustodyVerifyExtra};
use millstream_dialect::x402::{
    BATCH_SETTLEMENT, BatchOffer, BatchPayload, BatchResponseExtra, FacilitatorRequest, Reason, SettleResponse, Supported, VerifyResponse,
    batch_domain,
};
use millstream_dialect::{Object, x402};
use millstream_tariff::{Cost, TariffVersion, Usage};
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Hash256};
use millstream_voucher::evm::{ChannelConfig, EscrowDomain, EvmSignature, Refund, Signed, eip55, packed_refund_authorizer};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::port::{Ask, Caller, FacilitatorPort};
use crate::ConfigError;
use crate::config::GatewayConfig;
use crate::dialects::{channel_state, voucher_state};
use crate::meter::UsageSource;
use crate::port::{
    Capture, Charge, ChargePort, LogicalId, PortError, Rejection, Release, ReleaseKind, RequestId, ReservationId, Reserve, Reserved,
    Standing, VoidReason,
};
use crate::tender::{ChannelTerms, Funding, Tender, TenderVoucher, TotalRule};

/// Seconds that a channel is held for a request at least and at most, whatever its offer says.
const HOLD_SECS: std::ops::RangeInclusive<u64> = 5..=600;
/// The route and the prices that charges name.
const ROUTE: &str = "facilitator";

/// The custody of a facilitator.
pub(crate) struct Custody {
    charge: Arc<dyn ChargePort>,
    port: Arc<dyn FacilitatorPort>,
    domain: EscrowDomain,
    kind: CustodyKind,
    network: String,
    asset: Address,
    tariff: TariffVersion,
    holds: Mutex<BTreeMap<EscrowChannelId, Hold>>,
}

/// A request under way on a channel, between `/verify` and `/settle`.
struct Hold {
    /// What it is called: its voucher.
    name: LogicalId,
    /// Nothing for a deposit, which is on no channel yet, and for a refund.
    reservation: Option<ReservationId>,
    until: Instant,
}

/// A request, read.
struct Read {
    offer: BatchOffer,
    payload: BatchPayload,
    channel: EscrowChannelId,
    config: ChannelConfig,
    name: LogicalId,
    tender: Tender,
    /// What the offer said that it costs at most.
    price: Amount,
}

/// Why not, with where the channel stands when the payer has to go on from there.
struct Refusal {
    reason: Reason,
    message: Option<String>,
    standing: Option<Box<Standing>>,
}

/// A refusal, or that it is not known.
enum Failure {
    Refused(Refusal),
    Unknown(PortError),
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self::Refused(Refusal { reason, message: None, standing: None })
    }
}

impl From<PortError> for Failure {
    fn from(error: PortError) -> Self {
        let PortError::Rejected(rejection) = error else { return Self::Unknown(error) };
        let message = Some(rejection.to_string());
        let (reason, standing) = match rejection {
            Rejection::UnknownChannel => (Reason::BatchChannelNotFound, None),
            Rejection::ChannelClosed | Rejection::ChannelClosing => (Reason::BatchMissingChannel, None),
            Rejection::ChannelBusy(_) | Rejection::IdInFlight => (Reason::BatchChannelBusy, None),
            Rejection::TotalMismatch { standing, .. } => (Reason::BatchCumulativeAmountMismatch, Some(standing)),
            Rejection::BelowSettled(standing) => (Reason::BatchCumulativeBelowClaimed, Some(standing)),
            Rejection::AboveDeposit(standing) => (Reason::BatchCumulativeExceedsBalance, Some(standing)),
            Rejection::Insufficient { standing, .. } => (Reason::BatchInsufficientBalance, Some(standing)),
            Rejection::DeltaTooSmall { .. } => (Reason::BatchCumulativeAmountMismatch, None),
            Rejection::BadSignature => (Reason::BatchVoucherSignature, None),
            Rejection::DepositRefused { reason } => (reason.parse().unwrap_or(Reason::BatchDepositSimulationFailed), None),
            Rejection::Reverted { .. } => (Reason::BatchRefundTransactionFailed, None),
            Rejection::IdConflict
            | Rejection::Policy { .. }
            | Rejection::NeedsApproval { .. }
            | Rejection::AuthorizationUsed
            | Rejection::AuthorizationTimes
            | Rejection::Uncollectable { .. }
            | Rejection::PayerInDefault => (Reason::UnexpectedSettleError, None),
        };
        Self::Refused(Refusal { reason, message, standing })
    }
}

fn refused(reason: Reason, message: impl Into<String>) -> Failure {
    Failure::Refused(Refusal { reason, message: Some(message.into()), standing: None })
}

impl Custody {
    pub(super) fn new(config: &GatewayConfig, charge: Arc<dyn ChargePort>, port: Arc<dyn FacilitatorPort>) -> Result<Self, ConfigError> {
        let value = |place: &str, reason: String| ConfigError::value(place, reason);
        let payment = &config.payment;
        let Some(section) = &payment.x402 else {
            return Err(value(
                "facilitator.voucher_store",
                "vouchers are kept on the gateway's channels: [payment.x402] is needed".to_owned(),
            ));
        };
        let address = |place: &str, text: &str| text.parse::<Address>().map_err(|error| value(place, error.to_string()));
        let network: millstream_types::Network = payment.network.parse().map_err(|error| value("payment.network", format!("{error}")))?;
        let chain = network.evm_chain().ok_or_else(|| value("payment.network", "it is no EVM chain".to_owned()))?;
        Ok(Self {
            charge,
            port,
            domain: batch_domain(chain),
            kind: CustodyKind {
                receiver_authorizer: address("payment.x402.receiver_authorizer", &section.receiver_authorizer)?,
                withdraw_delay: section.withdraw_delay_secs,
                voucher_store: true,
            },
            network: network.to_string(),
            asset: address("payment.asset", &payment.asset)?,
            tariff: TariffVersion::new(ROUTE, 1).map_err(ConfigError::price("facilitator"))?,
            holds: Mutex::default(),
        })
    }

    /// Says so in what is supported.
    pub(super) fn tell(&self, supported: &mut Supported) {
        let Ok(extra) = Object::of("extra", &self.kind) else { return };
        for kind in supported.kinds.iter_mut().filter(|kind| kind.scheme == BATCH_SETTLEMENT) {
            for (key, value) in extra.fields() {
                kind.extra.insert(key.clone(), value.clone());
            }
        }
    }

    /// Whether a request is about a channel of which vouchers are kept.
    pub(super) fn is_meant(request: &FacilitatorRequest) -> bool {
        let requirements = &request.payment_requirements;
        requirements.scheme == BATCH_SETTLEMENT && requirements.extra.get("voucherStore").and_then(serde_json::Value::as_bool) == Some(true)
    }

    pub(super) async fn verify(&self, ask: Ask) -> Result<VerifyResponse, PortError> {
        let payer = payer_of(&ask.request);
        match self.hold(ask).await {
            Ok(response) => Ok(response),
            Err(Failure::Unknown(error)) => Err(error),
            Err(Failure::Refused(refusal)) => {
                let extra = correction(refusal.standing.as_deref());
                let extra =
                    CustodyVerifyExtra { channel_state: extra.channel_state, voucher_state: extra.voucher_state, skip_handler: None };
                Ok(VerifyResponse {
                    is_valid: false,
                    invalid_reason: Some(refusal.reason.to_string()),
                    invalid_message: refusal.message,
                    payer,
                    extra: Object::of("extra", &extra).unwrap_or_default(),
                    ..VerifyResponse::default()
                })
            }
        }
    }

    pub(super) async fn settle(&self, ask: Ask) -> Result<SettleResponse, PortError> {
        let payer = payer_of(&ask.request);
        match self.take(ask).await {
            Ok(response) => Ok(response),
            Err(Failure::Unknown(error)) => Err(error),
            Err(Failure::Refused(refusal)) => Ok(SettleResponse {
                success: false,
                error_reason: Some(refusal.reason.to_string()),
                error_message: refusal.message,
                payer,
                network: self.network.clone(),
                extra: Object::of("extra", &correction(refusal.standing.as_deref())).unwrap_or_default(),
                ..SettleResponse::default()
            }),
        }
    }

    /// Reads a request, as far as bytes and keys tell.
    fn read(&self, ask: &Ask) -> Result<Read, Failure> {
        let (request, requirements) = (&ask.request, &ask.request.payment_requirements);
        let accepted = &request.payment_payload.accepted;
        if accepted.scheme != requirements.scheme {
            return Err(Reason::BatchScheme.into());
        }
        if requirements.network != self.network || accepted.network != self.network {
            return Err(Reason::BatchNetworkMismatch.into());
        }
        let mut offer =
            BatchOffer::from_requirements(requirements).map_err(|error| refused(Reason::InvalidPaymentRequirements, error.to_string()))?;
        if !self.kind.is_copied_by(&offer.extra) {
            let reason = if offer.extra.withdraw_delay == self.kind.withdraw_delay {
                Reason::BatchReceiverAuthorizerMismatch
            } else {
                Reason::BatchWithdrawDelayMismatch
            };
            return Err(refused(reason, "the offer is not what /supported says"));
        }
        if offer.asset != self.asset {
            return Err(Reason::BatchTokenMismatch.into());
        }
        may_act(&ask.caller, &offer.pay_to)?;
        let payload = BatchPayload::from_object(&request.payment_payload.payload)
            .map_err(|error| refused(Reason::BatchPayloadType, error.to_string()))?;
        offer.extra.min_deposit = None;
        let channel = payload.check(&offer, &self.domain)?;
        let config = payload.config();
        // Rule 13: who may consent to refunds is in the salt, where an offer names somebody.
        if offer.extra.custody.refund_authorizer.is_some_and(|authorizer| packed_refund_authorizer(&config.salt) != authorizer) {
            return Err(Reason::BatchRefundAuthorizerMismatch.into());
        }
        let signed = payload.voucher().signed();
        let name = name(&channel, signed.statement().cumulative, signed.signature())?;
        let voucher = if config.payer_authorizer.is_zero() {
            TenderVoucher::ForTheChain(signed)
        } else {
            TenderVoucher::Verified(signed.verify(&self.domain, config.payer_authorizer).map_err(|_| Reason::BatchVoucherSignature)?)
        };
        let price = accepted.amount().map_err(|error| refused(Reason::InvalidPaymentRequirements, error.to_string()))?;
        let above_charged = if matches!(payload, BatchPayload::Refund { .. }) { Amount::ZERO } else { price };
        let tender = Tender {
            escrow: self.domain,
            channel,
            terms: Some(ChannelTerms::X402(config)),
            voucher: Some(voucher),
            rule: TotalRule::Exactly { above_charged },
            funding: None,
        };
        Ok(Read { offer, payload, channel, config, name, tender, price })
    }

    fn holds(&self) -> MutexGuard<'_, BTreeMap<EscrowChannelId, Hold>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a channel for a request.
    async fn hold(&self, ask: Ask) -> Result<VerifyResponse, Failure> {
        let read = self.read(&ask)?;
        self.enter(&read).await?;
        let held = self.held(&read, ask).await;
        if !held.as_ref().is_ok_and(|answer| answer.is_valid) {
            self.leave(&read);
        }
        held
    }

    async fn held(&self, read: &Read, ask: Ask) -> Result<VerifyResponse, Failure> {
        let answer = |standing: &Standing, skip_handler: Option<bool>| {
            let mut extra = Object::of("extra", &channel_state(standing)).unwrap_or_default();
            if let Some(skip) = skip_handler {
                extra.insert("skipHandler", json!(skip));
            }
            VerifyResponse { is_valid: true, payer: Some(eip55(&read.config.payer)), extra, ..VerifyResponse::default() }
        };
        match &read.payload {
            BatchPayload::Voucher { .. } => match self.reserve(read).await? {
                Reserved::Held { reservation, standing, .. } => {
                    if let Some(hold) = self.holds().get_mut(&read.channel).filter(|hold| hold.name == read.name) {
                        hold.reservation = Some(reservation);
                    }
                    Ok(answer(&standing, None))
                }
                // It was paid for already: the payer's next voucher is over more.
                Reserved::AlreadyCharged(charge) => Err(Failure::Refused(Refusal {
                    reason: Reason::BatchCumulativeAmountMismatch,
                    message: Some("this voucher was charged before".to_owned()),
                    standing: Some(Box::new(charge.standing)),
                })),
            },
            BatchPayload::Deposit { .. } | BatchPayload::Refund { .. } => {
                let is_refund = matches!(read.payload, BatchPayload::Refund { .. });
                let known = self.charge.standing(read.channel).await?;
                if let Some(standing) = &known {
                    self.judge_total(read, standing)?;
                }
                let mut verified = self.port.verify(ask).await?;
                if !verified.is_valid {
                    return Ok(verified);
                }
                // A channel that nobody here knows begins with what the chain has of it.
                let charged = match &known {
                    Some(standing) => standing.charged,
                    None => verified.extra.read::<x402::ChannelState>("extra").map_or(CumulativeAmount::ZERO, |state| state.total_claimed),
                };
                self.judge_charged(read, charged)?;
                verified.extra.insert("chargedCumulativeAmount", json!(charged.to_string()));
                if is_refund {
                    verified.extra.insert("skipHandler", json!(true));
                }
                Ok(verified)
            }
        }
    }

    /// Settles a request.
    async fn take(&self, ask: Ask) -> Result<SettleResponse, Failure> {
        let mut read = self.read(&ask)?;
        let taken = match &read.payload {
            BatchPayload::Voucher { .. } => self.charge(&read).await.map(|charge| self.charged(&read, &charge, None)),
            BatchPayload::Deposit { .. } => self.fund(&mut read, ask).await,
            BatchPayload::Refund { .. } => self.refund(&read, &ask).await,
        };
        // What is not known is still held: who asks again goes on with it.
        if !matches!(taken, Err(Failure::Unknown(_))) {
            self.leave(&read);
        }
        taken
    }

    /// Charges what the server says, at most what was agreed.
    async fn charge(&self, read: &Read) -> Result<Charge, Failure> {
        let amount = read.offer.amount;
        if amount > read.price {
            let message = format!("{amount} is more than the {} of the offer", read.price);
            self.give_up(read).await?;
            return Err(refused(Reason::BatchChargeExceedsSignedCumulative, message));
        }
        let held = self.holds().get(&read.channel).filter(|hold| hold.name == read.name).and_then(|hold| hold.reservation);
        let reservation = match held {
            Some(reservation) => reservation,
            // A restart has lost the hold, or it has ended, or it was settled before.
            None => match self.reserve(read).await? {
                Reserved::Held { reservation, .. } => reservation,
                Reserved::AlreadyCharged(charge) => return Ok(charge),
            },
        };
        if amount.is_zero() {
            // Nothing is charged, so nothing is remembered: the payer's next voucher is the same one.
            self.charge.void(reservation, VoidReason::ClientLeft).await?;
            let standing = self.charge.standing(read.channel).await?.ok_or(Reason::BatchMissingChannel)?;
            return Ok(Charge { amount, standing, receipt: String::new() });
        }
        match self.charge.capture(reservation, whole(amount)).await {
            // The hold had ended by itself: what was agreed upon is asked for again.
            Err(PortError::Fault { .. }) if held.is_some() => match self.reserve(read).await? {
                Reserved::Held { reservation, .. } => Ok(self.charge.capture(reservation, whole(amount)).await?),
                Reserved::AlreadyCharged(charge) => Ok(charge),
            },
            captured => Ok(captured?),
        }
    }

    async fn give_up(&self, read: &Read) -> Result<(), Failure> {
        let reservation = self.holds().get(&read.channel).filter(|hold| hold.name == read.name).and_then(|hold| hold.reservation);
        match reservation {
            Some(reservation) => Ok(self.charge.void(reservation, VoidReason::ClientLeft).await?),
            None => Ok(()),
        }
    }

    /// A deposit goes to the chain as for any server, then its voucher is charged.
    async fn fund(&self, read: &mut Read, ask: Ask) -> Result<SettleResponse, Failure> {
        let settled = self.port.settle(ask).await?;
        if !settled.success {
            return Ok(settled);
        }
        // It is there already: the ledger looks at it before it takes the voucher.
        if let BatchPayload::Deposit { deposit, .. } = &read.payload {
            read.tender.funding = Some(Funding::X402(deposit.clone()));
        }
        let charge = self.charge(read).await?;
        Ok(self.charged(read, &charge, Some(settled)))
    }

    /// Gives back what the payer asks for, with the server's consent: its key's, and its refund authorizer's where the channel has one.
    async fn refund(&self, read: &Read, ask: &Ask) -> Result<SettleResponse, Failure> {
        let BatchPayload::Refund { amount, .. } = &read.payload else { return Err(Reason::BatchPayloadType.into()) };
        let standing = self.charge.standing(read.channel).await?.ok_or(Reason::BatchChannelNotFound)?;
        self.judge_total(read, &standing)?;
        let amount = match amount {
            Some(amount) => *amount,
            None => standing.deposit.checked_sub(standing.charged.as_amount()).map_err(|_| Reason::BatchRefundNoBalance)?,
        };
        if amount.is_zero() {
            return Err(Reason::BatchRefundNoBalance.into());
        }
        self.judge_consent(read, ask, amount, &standing)?;
        let release = Release { tender: read.tender.clone(), kind: ReleaseKind::Refund { amount: Some(amount) } };
        let released = self.charge.release(release).await?;
        let extra = BatchResponseExtra { channel_state: Some(channel_state(&released.standing)), ..BatchResponseExtra::default() };
        Ok(SettleResponse {
            success: true,
            payer: Some(eip55(&read.config.payer)),
            transaction: released.transaction,
            network: self.network.clone(),
            amount: Some(released.amount.to_string()),
            extra: Object::of("extra", &extra).unwrap_or_default(),
            ..SettleResponse::default()
        })
    }

    fn judge_consent(&self, read: &Read, ask: &Ask, amount: Amount, standing: &Standing) -> Result<(), Failure> {
        let Some(authorizer) = read.offer.extra.custody.refund_authorizer else { return Ok(()) };
        let shown = ask.request.payment_payload.payload.get("refundAuthorizerSignature").and_then(serde_json::Value::as_str);
        let signature: Option<EvmSignature> = shown.and_then(|text| text.parse().ok());
        let refund = Refund { channel: read.channel, nonce: standing.refund_nonce.into(), amount };
        let good = signature.is_some_and(|signature| Signed::new(refund, signature).verify(&self.domain, authorizer).is_ok());
        if good { Ok(()) } else { Err(Reason::BatchRefundAuthorizerSignature.into()) }
    }

    async fn reserve(&self, read: &Read) -> Result<Reserved, Failure> {
        let reserve = Reserve {
            tender: read.tender.clone(),
            ceiling: read.price,
            at_least: read.price,
            request: RequestId::new(),
            logical: Some(read.name.clone()),
            fingerprint: Sha256::digest(read.name.as_str()).into(),
            tariff: self.tariff.clone(),
            route: ROUTE.into(),
        };
        Ok(self.charge.reserve(reserve).await?)
    }

    fn judge_total(&self, read: &Read, standing: &Standing) -> Result<(), Failure> {
        if self.judge_charged(read, standing.charged).is_ok() {
            return Ok(());
        }
        let standing = Some(Box::new(standing.clone()));
        Err(Failure::Refused(Refusal { reason: Reason::BatchCumulativeAmountMismatch, message: None, standing }))
    }

    #[allow(clippy::unused_self, reason = "beside its sibling")]
    fn judge_charged(&self, read: &Read, charged: CumulativeAmount) -> Result<(), Failure> {
        let TotalRule::Exactly { above_charged } = read.tender.rule else { return Ok(()) };
        let expected = charged.checked_add(above_charged).map_err(|_| Reason::BatchCumulativeExceedsBalance)?;
        if read.payload.voucher().max_claimable_amount == expected { Ok(()) } else { Err(Reason::BatchCumulativeAmountMismatch.into()) }
    }

    /// One request at a time on a channel; one whose time is over is given up.
    async fn enter(&self, read: &Read) -> Result<(), Failure> {
        let now = Instant::now();
        let secs = read.offer.max_timeout_secs.clamp(*HOLD_SECS.start(), *HOLD_SECS.end());
        let over = {
            let mut holds = self.holds();
            if holds.get(&read.channel).is_some_and(|hold| hold.until > now) {
                return Err(Reason::BatchChannelBusy.into());
            }
            let hold = Hold { name: read.name.clone(), reservation: None, until: now + Duration::from_secs(secs) };
            holds.insert(read.channel, hold)
        };
        if let Some(reservation) = over.and_then(|hold| hold.reservation) {
            // The engine may have ended it by itself.
            if let Err(error) = self.charge.void(reservation, VoidReason::ClientLeft).await {
                tracing::debug!(%error, "a custodial reservation had ended");
            }
        }
        Ok(())
    }

    fn leave(&self, read: &Read) {
        let mut holds = self.holds();
        if holds.get(&read.channel).is_some_and(|hold| hold.name == read.name) {
            holds.remove(&read.channel);
        }
    }

    fn charged(&self, read: &Read, charge: &Charge, deposit: Option<SettleResponse>) -> SettleResponse {
        let extra = BatchResponseExtra {
            charged_amount: Some(charge.amount),
            channel_state: Some(channel_state(&charge.standing)),
            voucher_state: None,
        };
        let (transaction, amount) =
            deposit.map_or_else(Default::default, |deposit| (deposit.transaction, deposit.amount.unwrap_or_default()));
        SettleResponse {
            success: true,
            payer: Some(eip55(&read.config.payer)),
            transaction,
            network: self.network.clone(),
            amount: Some(amount),
            extra: Object::of("extra", &extra).unwrap_or_default(),
            ..SettleResponse::default()
        }
    }
}

/// Whether a caller's key names the receiver. Who settles says what is charged: a payer must not be able to.
fn may_act(caller: &Caller, receiver: &Address) -> Result<(), Failure> {
    if caller.key.as_ref().is_some_and(|key| key.receivers.contains(receiver)) {
        return Ok(());
    }
    let message = format!("vouchers are kept for who holds a key for the receiver {}", eip55(receiver));
    Err(refused(Reason::BatchReceiverMismatch, message))
}

/// A charge of one request.
fn whole(amount: Amount) -> Capture {
    Capture {
        cost: Cost::whole(amount),
        usage: Usage { calls: 1, ..Usage::default() },
        source: UsageSource::Nothing,
        delivered_sha256: [0; 32],
        complete: true,
    }
}

fn correction(standing: Option<&Standing>) -> BatchResponseExtra {
    BatchResponseExtra { charged_amount: None, channel_state: standing.map(channel_state), voucher_state: standing.and_then(voucher_state) }
}

fn payer_of(request: &FacilitatorRequest) -> Option<String> {
    BatchPayload::from_object(&request.payment_payload.payload).ok().map(|payload| eip55(&payload.config().payer))
}

/// A request's name: its voucher.
fn name(channel: &EscrowChannelId, cumulative: CumulativeAmount, signature: &EvmSignature) -> Result<LogicalId, Failure> {
    let digest = Sha256::new()
        .chain_update(channel.as_bytes())
        .chain_update(cumulative.units().to_be_bytes())
        .chain_update(signature.as_bytes())
        .finalize();
    let text = Hash256::from_bytes(digest.into()).to_string();
    LogicalId::new(&text).ok_or_else(|| PortError::Fault { reason: "a voucher has no name".to_owned() }.into())
}
