//! Single payments: held, sent to the chain, found again.
//!
//! A payment is charged in the engine in the very step that says which transaction is about to be sent. The answer that it pays for leaves when
//! a block has the transaction, or after a bounded wait, and before it leaves that is durable too. So after a crash at any instant a payment was
//! either not sent, or it is found again; and a payer that was not answered is answered when it shows the same authorisation again, once.
//!
//! **Invariants.** No authorisation is answered for twice. Nothing is sent that is not durable. A payment is paid by the chain's word at the
//! confirmation depth, whoever sent it. What cannot be collected is recorded as failed: void when nothing had left, owed when it had.
//! Source: `docs/spec/reservations.md`, R-25 to; ADR 28.

mod follow;
mod keeper;
mod record;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_chain::{Call, ChainError, GasBounds, IntentId, Pace, Rpc, Submitter, TxStage, TxWatch};
use millstream_engine::escrow::{
    AuthorizationId, EscrowAnswer, EscrowId, EscrowInput, EscrowRejection, Fingerprint, Outcome, Payment, PaymentState, RequestId,
    ReserveOnce,
};
use millstream_gateway::port::{
    Capture, Collected, HeldOnce, HoldOnce, LogicalId, PortError, PortFuture, Rejection, ReservationId, SinglePort, Uncollectable,
    VoidReason,
};
use millstream_node::{Guarded, Payments};
use millstream_policy::AssetKey;
use millstream_types::{Address, Hash256, Timestamp};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{error, info, warn};

use self::keeper::Keeper;
use self::record::{KeptTransfer, Sent, Transfer};
use crate::board::{fault, stopped, unavailable};
use crate::desk::name;
use crate::lock::lock;
use crate::policy::{self, Paying};

/// Payments that are held at a time, at most: each takes a place on the one lane to the chain.
const HELD_MAX: usize = 1_024;
/// Between two looks at a payment that somebody else follows.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How often the chain is asked, when it does not answer, what became of a transaction that failed.
const LOOK_TRIES: u32 = 10;

/// What single payments rest on.
pub(crate) struct SingleParts {
    pub(crate) payments: Payments,
    pub(crate) submitter: Submitter,
    /// The escrow that names the token.
    pub(crate) escrow: EscrowId,
    pub(crate) token: Address,
    /// Depth at which a block counts.
    pub(crate) confirmations: u64,
    /// How long an answer waits for its payment.
    pub(crate) settle_wait: Duration,
}

/// Single payments. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Singles {
    inner: Arc<Inner>,
}

struct Inner {
    parts: SingleParts,
    holds: Mutex<HashMap<ReservationId, Hold>>,
    /// Authorisations that this process is answering for.
    answering: Mutex<HashSet<AuthorizationId>>,
    /// Who follows what was sent.
    ways: Mutex<HashMap<AuthorizationId, Way>>,
    /// Used authorisations whose transaction was not found, and the block in which that was first seen.
    strange: Mutex<HashMap<AuthorizationId, u64>>,
    room: Arc<Semaphore>,
}

/// Who follows a payment.
#[derive(Clone)]
enum Way {
    /// The request that it pays.
    Request,
    /// A task.
    Task(Arc<Keeper>),
}

/// A payment that is held for a request.
#[derive(Clone)]
struct Hold {
    authorization: AuthorizationId,
    kept: KeptTransfer,
    is_verified: bool,
    stage: Stage,
    _place: Arc<OwnedSemaphorePermit>,
}

/// What is to be done with it.
#[derive(Clone)]
enum Stage {
    /// Sent.
    New(Box<Sending>),
    /// It was charged before, and its payer was not answered.
    Charged(Outcome),
}

#[derive(Clone)]
struct Sending {
    request: RequestId,
    call: Call,
    price_version: u32,
    meter: name::MeterHead,
}

/// The engine's name for a request: the client's own id, or else the authorisation.
fn request_id(payer: &Address, authorization: &AuthorizationId, logical: Option<&LogicalId>) -> RequestId {
    let mut hash = Sha256::new();
    hash.update(b"millstream/single/");
    match logical {
        Some(logical) => {
            hash.update(b"logical");
            hash.update(payer.as_bytes());
            hash.update(logical.as_str());
        }
        None => {
            hash.update(b"authorisation");
            hash.update(authorization.as_bytes());
        }
    }
    RequestId::from_bytes(hash.finalize().into())
}

impl Singles {
    /// Follows on what an earlier process had sent. Before anything else is sent on the lane.
    ///
    /// # Errors
    /// The core is gone.
    pub(crate) async fn start(parts: SingleParts) -> anyhow::Result<Self> {
        let inner = Inner {
            parts,
            holds: Mutex::default(),
            answering: Mutex::default(),
            ways: Mutex::default(),
            strange: Mutex::default(),
            room: Arc::new(Semaphore::new(HELD_MAX)),
        };
        let singles = Self { inner: Arc::new(inner) };
        singles.resume().await?;
        Ok(singles)
    }
}

impl Inner {
    fn rpc(&self) -> &Rpc {
        self.parts.submitter.rpc()
    }

    async fn payment(&self, authorization: AuthorizationId) -> Result<Option<Payment>, PortError> {
        self.parts.payments.read(move |engine| engine.payment(&authorization).cloned()).await.map_err(stopped)
    }

    async fn hold(self: &Arc<Self>, hold: HoldOnce) -> Result<HeldOnce, PortError> {
        let HoldOnce { payment, request: _, logical, fingerprint, tariff, route } = hold;
        let transfer = Transfer::of(&payment);
        let authorization = transfer.authorization();
        let request = request_id(&payment.payer, &authorization, logical.as_ref());
        let place = Arc::clone(&self.room).try_acquire_owned().map_err(|_| unavailable())?;
        // What is known already the engine answers; the chain is asked about new ones only.
        let is_known = self.payment(authorization).await?.is_some();
        let (since, call) = if is_known { (0, None) } else { self.judge(&transfer, payment.is_verified).await? };
        let kept = KeptTransfer { transfer, since };
        let reserve = ReserveOnce {
            authorization,
            escrow: self.parts.escrow,
            payer: payment.payer,
            receiver: payment.receiver,
            amount: payment.amount,
            valid_until: ends_at(payment.ends_at_secs().to_u64()),
            transfer: kept.encode(),
            request,
            fingerprint: Fingerprint::from_bytes(fingerprint.first_chunk().copied().unwrap_or_default()),
            stored: None,
        };
        let reservation = name::reservation_id(&request);
        let held = |stage| Hold { authorization, kept, is_verified: payment.is_verified, stage, _place: Arc::new(place) };
        let answer = if self.parts.payments.is_guarded() {
            let (payer, receiver, ceiling) = (payment.payer, payment.receiver, payment.amount);
            let asset = AssetKey { chain: self.rpc().chain(), token: self.parts.token };
            let (request, route, fingerprint) = (&request, route.as_ref(), &fingerprint);
            let ask = policy::ask(&Paying { request, payer, signer: payer, receiver, route, asset, ceiling, fingerprint });
            match self.parts.payments.reserve_once_guarded(reserve, ask).await.map_err(stopped)? {
                Guarded::Answered(answer) => answer,
                Guarded::Refused(decision) => return Err(policy::refused(&decision)),
            }
        } else {
            self.parts.payments.reserve_once(reserve).await.map_err(stopped)?
        };
        match answer {
            EscrowAnswer::Reserved { .. } => {
                let Some(call) = call else {
                    // It was known a moment ago, and was let go of since: nobody looked at the chain.
                    self.parts.payments.void(request).await.map_err(stopped)?;
                    return Err(unavailable());
                };
                let meter = name::MeterHead::new(&tariff, &route);
                let sending = Sending { request, call, price_version: tariff.version(), meter };
                lock(&self.answering).insert(authorization);
                lock(&self.holds).insert(reservation, held(Stage::New(Box::new(sending))));
                Ok(HeldOnce::Held { reservation })
            }
            EscrowAnswer::UnderWay { .. } => Err(Rejection::IdInFlight.into()),
            EscrowAnswer::Charged { outcome, .. } => {
                let Some(payment) = self.payment(authorization).await? else {
                    return Ok(HeldOnce::AlreadyCollected(collected(&outcome, None, true)));
                };
                let (sent, is_paid) = match &payment.state {
                    PaymentState::Paid { transaction } => (Sent::decode(transaction).map_err(fault)?, true),
                    PaymentState::Submitted { transaction } => (Sent::decode(transaction).map_err(fault)?, false),
                    PaymentState::Failed { reason, .. } => return Err(failed(reason.clone()).into()),
                    PaymentState::Reserved { .. } | PaymentState::Captured => (Sent::default(), false),
                };
                if sent.is_answered {
                    return Ok(HeldOnce::AlreadyCollected(collected(&outcome, sent.transaction(), is_paid)));
                }
                // Charged, and nobody was answered: a crash was between. Whoever shows it now is, once.
                if !lock(&self.answering).insert(authorization) {
                    return Err(Rejection::IdInFlight.into());
                }
                lock(&self.holds).insert(reservation, held(Stage::Charged(outcome)));
                Ok(HeldOnce::Held { reservation })
            }
            EscrowAnswer::Rejected { rejection, .. } => Err(refused(&rejection)),
            other => Err(fault(format!("a single payment was answered with {other:?}"))),
        }
    }

    /// Whether the chain would take it now, in which block that was asked, and by which call.
    async fn judge(&self, transfer: &Transfer, is_verified: bool) -> Result<(u64, Option<Call>), PortError> {
        // A signature that is not the key's can only be a contract's.
        if !is_verified && !self.rpc().is_contract(transfer.payer()).await.map_err(unread)? {
            return Err(Rejection::BadSignature.into());
        }
        let since = self.rpc().head_height().await.map_err(unread)?;
        match transfer.call(&self.parts.submitter).await {
            Ok(call) => Ok((since, Some(call))),
            Err(ChainError::Reverted { revert, .. }) => {
                Err(transfer.why_not(self.rpc(), revert.to_string(), is_verified).await.map_err(unread)?.into())
            }
            Err(error) => Err(unread(error)),
        }
    }

    fn held(&self, reservation: ReservationId) -> Result<Hold, PortError> {
        lock(&self.holds).get(&reservation).cloned().ok_or_else(|| fault("the payment is not held any more"))
    }

    fn let_go(&self, reservation: ReservationId, authorization: &AuthorizationId) {
        lock(&self.holds).remove(&reservation);
        lock(&self.answering).remove(authorization);
    }

    async fn collect(self: Arc<Self>, reservation: ReservationId, capture: Capture) -> Result<Collected, PortError> {
        let hold = self.held(reservation)?;
        let authorization = hold.authorization;
        let outcome = match &hold.stage {
            Stage::New(sending) => self.send(&hold, sending, &capture).await,
            Stage::Charged(outcome) => self.await_earlier(authorization, outcome).await,
        };
        match &outcome {
            // It is still held, and may be asked for again.
            Err(PortError::Unavailable { .. }) => {}
            Ok(_) | Err(PortError::Rejected(_) | PortError::Fault { .. }) => self.let_go(reservation, &authorization),
        }
        outcome
    }

    /// Sends a payment and waits for it.
    async fn send(self: &Arc<Self>, hold: &Hold, sending: &Sending, capture: &Capture) -> Result<Collected, PortError> {
        let authorization = hold.authorization;
        let meter = sending.meter.captured(sending.price_version, capture);
        let keeper = Keeper::collecting(self.parts.payments.clone(), authorization, sending.request, meter);
        lock(&self.ways).insert(authorization, Way::Request);
        let call = sending.call.clone().with_intent(IntentId::from_bytes(*authorization.as_bytes()));
        let bounds = GasBounds { gas_max: u64::MAX, fee_per_gas_max: u128::MAX, pace: Pace::AtLeisure };
        let outcome = match self.parts.submitter.send_kept(call, bounds, Arc::clone(&keeper) as _).await {
            Ok(watch) => return self.wait(hold, &keeper, watch).await,
            Err(error) if keeper.is_kept() => self.not_sent(hold, &keeper, error).await,
            Err(error) => self.not_charged(hold, sending, &keeper, error).await,
        };
        lock(&self.ways).remove(&authorization);
        outcome
    }

    /// Nothing was charged: the chain, or the engine, would not.
    async fn not_charged(&self, hold: &Hold, sending: &Sending, keeper: &Keeper, error: ChainError) -> Result<Collected, PortError> {
        match error {
            ChainError::Reverted { revert, .. } => {
                let transfer = &hold.kept.transfer;
                // Somebody may have been faster: then it is paid.
                if let Some(made) = transfer.made_by(self.rpc(), hold.kept.since).await.map_err(unread)? {
                    keeper.answer(Some(made.transaction)).await.map_err(|error| self.not_kept(error))?;
                    return self.answered(keeper, true);
                }
                let rejection = transfer.why_not(self.rpc(), revert.to_string(), hold.is_verified).await.map_err(unread)?;
                self.parts.payments.void(sending.request).await.map_err(stopped)?;
                Err(rejection.into())
            }
            error => Err(self.not_kept(error)),
        }
    }

    fn not_kept(&self, error: ChainError) -> PortError {
        match error {
            // The engine: it was held for too long.
            ChainError::InvalidInput { .. } => Rejection::AuthorizationTimes.into(),
            error if error.is_retryable() => unread(error),
            error => {
                warn!(%error, "a single payment cannot be sent");
                unavailable()
            }
        }
    }

    /// It was charged, and the node does not take the transaction: our fault, and nothing has left.
    async fn not_sent(&self, hold: &Hold, keeper: &Keeper, error: ChainError) -> Result<Collected, PortError> {
        if let ChainError::Stopped { .. } = error {
            return Err(unavailable());
        }
        error!(authorization = %hold.authorization, %error, "a single payment was not sent: it is void");
        self.ended_badly(hold, keeper, error.to_string()).await.map_err(|failed| match failed {
            PortError::Rejected(_) => fault(format!("the payment could not be sent: {error}")),
            failed => failed,
        })
    }

    /// Waits until the transaction is in a block, as long as an answer may wait.
    async fn wait(self: &Arc<Self>, hold: &Hold, keeper: &Arc<Keeper>, mut watch: TxWatch) -> Result<Collected, PortError> {
        let authorization = hold.authorization;
        let settled = async {
            loop {
                match watch.stage() {
                    TxStage::Sent { .. } => {}
                    TxStage::Mined { transaction, .. } => return Some(Ok(transaction)),
                    TxStage::Ended { outcome: Ok(receipt), .. } => return Some(Ok(receipt.transaction)),
                    TxStage::Ended { outcome: Err(error), .. } => return Some(Err(error)),
                }
                if !watch.changed().await {
                    return None;
                }
            }
        };
        let made = match tokio::time::timeout(self.parts.settle_wait, settled).await {
            Ok(Some(Ok(transaction))) => Some(transaction),
            Ok(Some(Err(ChainError::Stopped { .. })) | None) => return Err(unavailable()),
            Ok(Some(Err(error))) => {
                warn!(%authorization, %error, "a single payment failed");
                let outcome = self.ended_badly(hold, keeper, error.to_string()).await;
                lock(&self.ways).remove(&authorization);
                return outcome;
            }
            Err(_) => {
                warn!(%authorization, "a single payment is not in a block yet, and what it pays leaves");
                None
            }
        };
        // Before it leaves: after this nobody is answered again.
        let kept = keeper.answer(made).await;
        self.follow(authorization, watch, Arc::clone(keeper));
        kept.map_err(|error| fault(format!("what was collected cannot be kept: {error}")))?;
        self.answered(keeper, made.is_some())
    }

    fn answered(&self, keeper: &Keeper, is_mined: bool) -> Result<Collected, PortError> {
        let outcome = keeper.charged().ok_or_else(|| fault("a payment was sent and not charged"))?;
        Ok(collected(&outcome, keeper.transaction(), is_mined))
    }

    /// The transaction came to nothing. If nobody else made the payment it is void: nothing has left.
    async fn ended_badly(&self, hold: &Hold, keeper: &Keeper, reason: String) -> Result<Collected, PortError> {
        let mut tries = 0;
        let made = loop {
            match hold.kept.transfer.made_by(self.rpc(), hold.kept.since).await {
                Ok(made) => break made,
                Err(error) if error.is_retryable() && tries < LOOK_TRIES => {
                    tries += 1;
                    tokio::time::sleep(LOOK_PAUSE.saturating_mul(tries)).await;
                }
                // The round finds out; whoever paid is answered when it comes back.
                Err(error) => return Err(fault(format!("what became of a payment is not known: {error}"))),
            }
        };
        if let Some(made) = made {
            keeper.answer(Some(made.transaction)).await.map_err(|error| fault(error.to_string()))?;
            return self.answered(keeper, true);
        }
        self.fail(hold.authorization, reason.clone(), false).await?;
        Err(failed(reason).into())
    }

    /// Records that a payment will not be collected.
    async fn fail(&self, authorization: AuthorizationId, reason: String, is_owed: bool) -> Result<(), PortError> {
        let input = EscrowInput::PaymentFailed { authorization, reason, is_owed };
        match self.parts.payments.apply(input).await.map_err(stopped)? {
            EscrowAnswer::Rejected { rejection, .. } => Err(fault(rejection)),
            _ => Ok(()),
        }
    }

    /// A payment that was charged before a crash, and answered to nobody: waits until it is made.
    async fn await_earlier(&self, authorization: AuthorizationId, outcome: &Outcome) -> Result<Collected, PortError> {
        let began = tokio::time::Instant::now();
        loop {
            let payment = self.payment(authorization).await?.ok_or_else(|| fault("a charged payment is not known"))?;
            let sent = match &payment.state {
                PaymentState::Paid { transaction } | PaymentState::Submitted { transaction } => Sent::decode(transaction).map_err(fault)?,
                PaymentState::Failed { reason, .. } => return Err(failed(reason.clone()).into()),
                PaymentState::Reserved { .. } | PaymentState::Captured => Sent::default(),
            };
            let kept = KeptTransfer::decode(&payment.transfer).map_err(fault)?;
            if let Some(made) = kept.transfer.made_by(self.rpc(), kept.since).await.map_err(unread)? {
                let keeper = match lock(&self.ways).get(&authorization) {
                    Some(Way::Task(keeper)) => Arc::clone(keeper),
                    Some(Way::Request) | None => Keeper::of(self.parts.payments.clone(), authorization, sent),
                };
                keeper.answer(Some(made.transaction)).await.map_err(|error| fault(error.to_string()))?;
                return Ok(collected(outcome, Some(made.transaction), true));
            }
            if began.elapsed() >= self.parts.settle_wait {
                return Err(Rejection::IdInFlight.into());
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    async fn void(&self, reservation: ReservationId) -> Result<(), PortError> {
        let hold = self.held(reservation)?;
        if let Stage::New(sending) = &hold.stage {
            match self.parts.payments.void(sending.request).await.map_err(stopped)? {
                EscrowAnswer::Voided
                | EscrowAnswer::Charged { .. }
                | EscrowAnswer::Rejected { rejection: EscrowRejection::UnknownRequest { .. }, .. } => {}
                other => return Err(fault(format!("a void was answered with {other:?}"))),
            }
        }
        self.let_go(reservation, &hold.authorization);
        Ok(())
    }
}

/// Seconds of a contract as a moment here; those beyond all are the last one.
fn ends_at(secs: Option<u64>) -> Timestamp {
    Timestamp::from_millis(secs.and_then(|secs| secs.checked_mul(1_000)).unwrap_or(u64::MAX))
}

fn collected(outcome: &Outcome, transaction: Option<Hash256>, is_mined: bool) -> Collected {
    let transaction = transaction.map(|transaction| transaction.to_string());
    Collected { amount: outcome.amount, transaction, is_mined, receipt: name::receipt(outcome.sequence) }
}

fn failed(reason: String) -> Rejection {
    Rejection::Uncollectable { why: Uncollectable::Transaction, reason }
}

/// The chain cannot be read now.
#[allow(clippy::needless_pass_by_value, reason = "it stands at the end of calls")]
fn unread(error: ChainError) -> PortError {
    info!(%error, "the chain cannot be asked about a single payment now");
    unavailable()
}

fn refused(rejection: &EscrowRejection) -> PortError {
    match rejection {
        EscrowRejection::Conflict => Rejection::IdConflict.into(),
        EscrowRejection::AuthorizationUsed => Rejection::AuthorizationUsed.into(),
        EscrowRejection::AuthorizationEnding { .. } | EscrowRejection::AuthorizationTooLong { .. } => Rejection::AuthorizationTimes.into(),
        EscrowRejection::PayerInDefault { .. } => Rejection::PayerInDefault.into(),
        // A signature longer than any account needs.
        EscrowRejection::TooManyBytes { .. } => Rejection::BadSignature.into(),
        rejection => fault(rejection),
    }
}

impl SinglePort for Singles {
    fn hold(&self, hold: HoldOnce) -> PortFuture<'_, HeldOnce> {
        Box::pin(self.inner.hold(hold))
    }

    fn collect(&self, reservation: ReservationId, capture: Capture) -> PortFuture<'_, Collected> {
        // A task of its own: what it began, it ends.
        let task = tokio::spawn(Arc::clone(&self.inner).collect(reservation, capture));
        Box::pin(async move { task.await.map_err(fault)? })
    }

    fn void(&self, reservation: ReservationId, _: VoidReason) -> PortFuture<'_, ()> {
        Box::pin(self.inner.void(reservation))
    }
}
