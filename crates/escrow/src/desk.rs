//! Answers the gateway from the durable engine and the chain.
//!
//! A request that pays with a voucher takes one round trip to the core to be reserved and one to be captured; a stream one more for each mark.
//! What the gateway marks before the first byte, that nothing was delivered, changes nothing, and its answer waits for the batch that the
//! reservation is in.

mod close;
mod deposit;
pub(crate) mod name;
mod refund;
mod refusal;
mod sent;
mod session;
mod signer;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_chain::x402::BatchOperator;
use millstream_chain::{Rpc, Submitter};
use millstream_engine::escrow::{
    EscrowAnswer, EscrowId, EscrowRejection, EscrowTerms, EscrowTotals, Fingerprint, FrozenWhy, Outcome, RequestId,
    Reserve as EngineReserve,
};
use millstream_gateway::port::{
    Accepted, Capture, Charge, ChargePort, Funded, PortError, PortFuture, Rejection, Release, ReleaseKind, Released, ReservationId,
    Reserve, Reserved, SinglePort, Standing, VoidReason,
};
use millstream_gateway::tender::{ChannelTerms, Tender};
use millstream_node::Guarded;
use millstream_policy::{Ask, AssetKey};
use millstream_tariff::Cost;
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId};
use millstream_voucher::evm::{ChannelConfig, EscrowScheme, Signer, VerifiedEscrowVoucher};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::deposit::{Deposits, Ended, Wait, not_served};
use self::sent::{Kind, Sender, Unfinished, WHOSE};
pub(crate) use self::session::Sessions;
use self::signer::Codes;
use crate::board::{Board, fault, nothing, stopped, unavailable};
use crate::follower::Look;
use crate::lock::lock;
use crate::metrics::EscrowMetrics;
use crate::policy::{self, Paying};
use crate::single::Singles;
use crate::terms::x402_config;

/// Deposits and refunds under way at a time, at most.
const TRANSACTIONS_MAX: usize = 256;

/// The gateway's port.
pub(crate) struct Desk {
    pub(crate) inner: Arc<Inner>,
    singles: Singles,
}

pub(crate) struct Inner {
    pub(crate) board: Arc<Board>,
    pub(crate) metrics: Arc<EscrowMetrics>,
    pub(crate) rpc: Rpc,
    /// The one lane of the operator's account.
    pub(crate) submitter: Submitter,
    pub(crate) token: Address,
    pub(crate) receiver: Address,
    /// Other people, whose vouchers are kept for them.
    pub(crate) custody: BTreeSet<Address>,
    pub(crate) channels: Option<Channels>,
    pub(crate) sessions: Option<Sessions>,
    pub(crate) deposit_wait: Duration,
    /// Payments may rest on deposits that are sent and not confirmed, within the engine's limits.
    pub(crate) trusts_sent: bool,
    /// What is held, by this process: after a crash the engine has ended all of it.
    holds: Mutex<HashMap<ReservationId, Hold>>,
    deposits: Deposits,
    /// Channels whose deposit is being paid back.
    releasing: Mutex<HashSet<EscrowChannelId>>,
    codes: Codes,
    sender: Sender,
    transactions: Arc<Semaphore>,
}

/// The escrow of x402's contract.
pub(crate) struct Channels {
    /// Its number in the engine.
    pub(crate) escrow: EscrowId,
    /// Acts as the receiver's authorizer.
    pub(crate) operator: BatchOperator,
    pub(crate) looks: mpsc::Sender<Look>,
}

/// A reservation under way.
#[derive(Clone)]
struct Hold {
    request: RequestId,
    amount: Amount,
    /// What of the channel's standing stays the same while it is held.
    base: Standing,
    /// The voucher that came with it: the best one, unless one came since.
    voucher: Option<(CumulativeAmount, Vec<u8>)>,
    price_version: u32,
    meter: name::MeterHead,
}

/// What a desk is made with.
pub(crate) struct DeskParts {
    pub(crate) board: Arc<Board>,
    pub(crate) metrics: Arc<EscrowMetrics>,
    pub(crate) rpc: Rpc,
    pub(crate) submitter: Submitter,
    pub(crate) token: Address,
    pub(crate) receiver: Address,
    /// Other people, whose vouchers are kept for them.
    pub(crate) custody: BTreeSet<Address>,
    pub(crate) channels: Option<Channels>,
    pub(crate) sessions: Option<Sessions>,
    pub(crate) deposit_wait: Duration,
    /// The operator lets payments rest on deposits that are sent and not confirmed.
    pub(crate) trusts_sent: bool,
}

impl Desk {
    pub(crate) fn new(parts: DeskParts, singles: Singles) -> Self {
        let DeskParts { board, metrics, rpc, submitter, token, receiver, custody, channels, sessions, deposit_wait, trusts_sent } = parts;
        let sender = Sender::new(board.payments.clone(), submitter.clone());
        let inner = Inner {
            board,
            metrics,
            rpc,
            submitter,
            token,
            receiver,
            custody,
            channels,
            sessions,
            deposit_wait,
            trusts_sent,
            holds: Mutex::default(),
            deposits: Deposits::default(),
            releasing: Mutex::default(),
            codes: Codes::default(),
            sender,
            transactions: Arc::new(Semaphore::new(TRANSACTIONS_MAX)),
        };
        Self { inner: Arc::new(inner), singles }
    }

    /// Goes on with what an earlier process had sent. Before anything is sent on the lane.
    ///
    /// # Errors
    /// What is kept is not what this node sends.
    pub(crate) async fn resume(&self) -> anyhow::Result<()> {
        for (key, value) in self.inner.board.payments.kept(WHOSE).await? {
            let resumed = self.inner.sender.resume(Unfinished::read(&key, &value)?).await?;
            match resumed.errand.kind {
                Kind::Deposit => self.inner.go_on_with_deposit(resumed),
                Kind::Refund => self.inner.go_on_with_refund(resumed),
                Kind::Close => self.inner.go_on_with_close(resumed),
            }
        }
        Ok(())
    }
}

impl Inner {
    async fn reserve(self: &Arc<Self>, reserve: Reserve) -> Result<Reserved, PortError> {
        self.board.require_current()?;
        let Reserve { tender, ceiling, at_least, request, logical, fingerprint, tariff, route } = reserve;
        let channel = tender.channel;
        let voucher = self.verified(&tender).await?;
        let mut funded = self.fund(&tender, voucher.as_ref(), Wait::Credit).await?;
        let request = name::request_id(&channel, logical.as_ref(), request.as_str());
        // Before the hold: where the engine is asked, its answer waits for a batch, which the hold's does not.
        let base = self.base(&tender, voucher.as_ref()).await?;
        let ask = match self.board.payments.is_guarded() {
            false => None,
            true => {
                let (payer, Signer::Key(signer) | Signer::Contract(signer)) = (base.payer, base.signer);
                let (receiver, asset) = (self.receiver, AssetKey { chain: self.rpc.chain(), token: self.token });
                let (request, fingerprint, route) = (&request, &fingerprint, route.as_ref());
                Some(policy::ask(&Paying { request, payer, signer, receiver, route, asset, ceiling, fingerprint }))
            }
        };
        let fingerprint = fingerprint.first_chunk().copied().unwrap_or_default();
        let input = EngineReserve {
            channel,
            request,
            fingerprint: Fingerprint::from_bytes(fingerprint),
            ceiling,
            at_least,
            voucher: voucher.clone(),
            stored: None,
        };
        let mut answer = self.reserve_guarded(input.clone(), ask.as_ref()).await?;
        if is_unknown(&answer) && self.look_for(&tender).await? {
            answer = self.reserve_guarded(input.clone(), ask.as_ref()).await?;
        }
        if is_uncovered(&answer)
            && let Some(ended) = self.deposits_end(&channel).await?
        {
            funded = own_end(&tender, ended, funded)?;
            answer = self.reserve_guarded(input, ask.as_ref()).await?;
        }
        match answer {
            EscrowAnswer::Reserved { ceiling: amount, totals: Some(totals) } => {
                let voucher = voucher.map(|voucher| (voucher.statement().cumulative, voucher.signature().as_bytes().to_vec()));
                let meter = name::MeterHead::new(&tariff, &route);
                let hold = Hold { request, amount, base, voucher, price_version: tariff.version(), meter };
                let standing = self.standing(&hold, totals);
                if lock(&self.releasing).contains(&channel) {
                    // A refund or close began meanwhile, and what is left of the deposit is not known before it ends.
                    self.board.payments.void(request).await.map_err(stopped)?;
                    return Err(Rejection::ChannelBusy(Box::new(standing)).into());
                }
                let reservation = name::reservation_id(&request);
                lock(&self.holds).insert(reservation, hold);
                self.board.tell(&standing);
                Ok(Reserved::Held { reservation, amount, standing, funded })
            }
            EscrowAnswer::UnderWay { .. } => Err(Rejection::IdInFlight.into()),
            EscrowAnswer::Charged { outcome, .. } => Ok(Reserved::AlreadyCharged(self.charged_before(channel, &outcome).await?)),
            EscrowAnswer::Rejected { rejection, channel: snapshot } => Err(self.refuse(rejection, snapshot)),
            other => Err(unexpected("a reservation", &other)),
        }
    }

    async fn reserve_guarded(&self, reserve: EngineReserve, ask: Option<&Ask>) -> Result<EscrowAnswer, PortError> {
        let Some(ask) = ask else { return self.board.payments.reserve(reserve).await.map_err(stopped) };
        match self.board.payments.reserve_guarded(reserve, ask.clone()).await.map_err(stopped)? {
            Guarded::Answered(answer) => Ok(answer),
            Guarded::Refused(decision) => Err(policy::refused(&decision)),
        }
    }

    async fn charged_before(&self, channel: EscrowChannelId, outcome: &Outcome) -> Result<Charge, PortError> {
        let standing = self.board.standing(channel).await?.ok_or(Rejection::UnknownChannel)?;
        Ok(Charge { amount: outcome.amount, standing, receipt: name::receipt(outcome.sequence) })
    }

    async fn accept(self: &Arc<Self>, tender: Tender) -> Result<Accepted, PortError> {
        self.board.require_current()?;
        let voucher = self.verified(&tender).await?;
        // With a voucher the engine says whether it may rest on a deposit that is on its way; without one there is nothing to serve yet.
        let wait = if voucher.is_some() { Wait::Credit } else { Wait::End };
        let mut funded = self.fund(&tender, voucher.as_ref(), wait).await?;
        let Some(voucher) = voucher else {
            let standing = self.board.standing(tender.channel).await?.ok_or(Rejection::UnknownChannel)?;
            return Ok(Accepted { standing, funded });
        };
        let mut answer = self.board.payments.voucher(voucher.clone()).await.map_err(stopped)?;
        if is_unknown(&answer) && self.look_for(&tender).await? {
            answer = self.board.payments.voucher(voucher.clone()).await.map_err(stopped)?;
        }
        if is_uncovered(&answer)
            && let Some(ended) = self.deposits_end(&tender.channel).await?
        {
            funded = own_end(&tender, ended, funded)?;
            answer = self.board.payments.voucher(voucher).await.map_err(stopped)?;
        }
        match answer {
            EscrowAnswer::Channel(snapshot) => {
                let standing = self.board.standing_of(&snapshot);
                self.board.tell(&standing);
                Ok(Accepted { standing, funded })
            }
            EscrowAnswer::Rejected { rejection, channel } => Err(self.refuse(rejection, channel)),
            other => Err(unexpected("a voucher", &other)),
        }
    }

    async fn extend(&self, reservation: ReservationId, at_most: Amount) -> Result<Amount, PortError> {
        let hold = self.hold(reservation)?;
        let answer = match self.board.payments.extend_guarded(hold.request, at_most).await.map_err(stopped)? {
            Guarded::Answered(answer) => answer,
            // What is held is delivered, and no more.
            Guarded::Refused(_) => return Ok(hold.amount),
        };
        match answer {
            EscrowAnswer::Reserved { ceiling, totals } => {
                if let Some(held) = lock(&self.holds).get_mut(&reservation) {
                    held.amount = held.amount.max(ceiling);
                }
                if let Some(totals) = totals {
                    self.board.tell(&self.standing(&hold, totals));
                }
                Ok(ceiling)
            }
            // Without a voucher an exact request stays what it is; and a payer that is leaving is served what is held.
            EscrowAnswer::Rejected {
                rejection:
                    EscrowRejection::WrongStep { .. }
                    | EscrowRejection::Frozen { .. }
                    | EscrowRejection::Closing { .. }
                    | EscrowRejection::Closed
                    | EscrowRejection::Quarantined
                    | EscrowRejection::BeyondReserved { .. },
                ..
            } => Ok(hold.amount),
            EscrowAnswer::Rejected { rejection, channel } => Err(self.refuse(rejection, channel)),
            other => Err(unexpected("an extension", &other)),
        }
    }

    async fn mark(&self, reservation: ReservationId, delivered: Cost) -> Result<(), PortError> {
        let hold = self.hold(reservation)?;
        let meter = hold.meter.marked(hold.price_version);
        match self.board.payments.mark(hold.request, delivered, meter).await.map_err(stopped)? {
            EscrowAnswer::Marked { .. } => Ok(()),
            EscrowAnswer::Rejected { rejection, .. } => Err(fault(rejection)),
            other => Err(unexpected("a mark", &other)),
        }
    }

    async fn capture(&self, reservation: ReservationId, capture: Capture) -> Result<Charge, PortError> {
        let hold = self.hold(reservation)?;
        let meter = hold.meter.captured(hold.price_version, &capture);
        let answer = self.board.payments.capture(hold.request, capture.cost, meter).await.map_err(stopped)?;
        match answer {
            EscrowAnswer::Charged { outcome, totals, .. } => {
                lock(&self.holds).remove(&reservation);
                let Some(totals) = totals else { return self.charged_before(hold.base.channel, &outcome).await };
                let standing = self.standing(&hold, totals);
                self.board.tell(&standing);
                Ok(Charge { amount: outcome.amount, standing, receipt: name::receipt(outcome.sequence) })
            }
            EscrowAnswer::Rejected { rejection, .. } => {
                if matches!(rejection, EscrowRejection::UnknownRequest { .. }) {
                    lock(&self.holds).remove(&reservation);
                }
                Err(fault(rejection))
            }
            other => Err(unexpected("a capture", &other)),
        }
    }

    async fn void(&self, reservation: ReservationId) -> Result<(), PortError> {
        let hold = self.hold(reservation)?;
        let answer = self.board.payments.void(hold.request).await.map_err(stopped)?;
        lock(&self.holds).remove(&reservation);
        match answer {
            // What was marked is charged, and says so on the statement.
            EscrowAnswer::Voided | EscrowAnswer::Charged { .. } => {}
            EscrowAnswer::Rejected { rejection: EscrowRejection::UnknownRequest { .. }, .. } => {}
            EscrowAnswer::Rejected { rejection, .. } => return Err(fault(rejection)),
            other => return Err(unexpected("a void", &other)),
        }
        self.board.refresh(&[hold.base.channel]).await
    }

    async fn release(self: &Arc<Self>, release: Release) -> Result<Released, PortError> {
        let Release { tender, kind } = release;
        // What is on its way would come after the channel was paid back.
        self.deposits_end(&tender.channel).await?;
        match (tender.escrow.scheme(), kind) {
            (EscrowScheme::X402Batch, ReleaseKind::Refund { amount }) => self.refund(tender, amount).await,
            (EscrowScheme::EvmSession, ReleaseKind::Close) => self.close(tender).await,
            (scheme, kind) => Err(fault(format!("{kind:?} of {scheme:?} is not done here"))),
        }
    }

    fn hold(&self, reservation: ReservationId) -> Result<Hold, PortError> {
        lock(&self.holds).get(&reservation).cloned().ok_or_else(|| fault("the reservation is over"))
    }

    /// A hold's channel with fresh totals.
    fn standing(&self, hold: &Hold, totals: EscrowTotals) -> Standing {
        let (accepted, signature) = match &hold.voucher {
            Some((cumulative, signature)) if *cumulative >= totals.accepted => (*cumulative, Some(signature.clone())),
            Some(_) | None => (totals.accepted, None),
        };
        self.board.standing_with(Standing { accepted_signature: signature, ..hold.base.clone() }, totals, accepted)
    }

    /// What of a standing the tender tells; for one without terms the engine does.
    async fn base(&self, tender: &Tender, voucher: Option<&VerifiedEscrowVoucher>) -> Result<Standing, PortError> {
        let (payer, signer) = match &tender.terms {
            Some(ChannelTerms::X402(config)) => (config.payer, config.voucher_signer()),
            Some(ChannelTerms::Session(terms)) => (terms.payer, terms.voucher_signer()),
            None => {
                let standing = self.board.standing(tender.channel).await?;
                return standing.ok_or_else(|| Rejection::UnknownChannel.into());
            }
        };
        let signer = signer::of(signer, voucher);
        Ok(Standing { payer, signer, ..nothing(tender.channel) })
    }

    fn channels(&self) -> Result<&Channels, PortError> {
        self.channels.as_ref().ok_or_else(not_served)
    }

    /// The engine's terms for a channel of x402.
    fn terms(&self, channel: EscrowChannelId, config: &ChannelConfig) -> Result<EscrowTerms, PortError> {
        let refuse = |reason: &str| PortError::from(Rejection::DepositRefused { reason: reason.to_owned() });
        if config.token != self.token {
            return Err(refuse("invalid_batch_settlement_evm_token_mismatch"));
        }
        if config.receiver != self.receiver && !self.custody.contains(&config.receiver) {
            return Err(refuse("invalid_batch_settlement_evm_receiver_mismatch"));
        }
        // Claims and refunds are this account's: by its own call, without another's signature.
        let channels = self.channels()?;
        if config.receiver_authorizer != channels.operator.account() {
            return Err(refuse("invalid_batch_settlement_evm_receiver_authorizer_mismatch"));
        }
        let kept = x402_config(config).ok_or_else(|| refuse("invalid_batch_settlement_evm_withdraw_delay_out_of_range"))?;
        let (payer, signer, receiver) = (config.payer, config.voucher_signer(), config.receiver);
        Ok(EscrowTerms { channel, escrow: channels.escrow, payer, signer, receiver, config: kept })
    }

    /// Looks whether the chain has a channel that the engine does not know; whether the engine does now.
    async fn look_for(&self, tender: &Tender) -> Result<bool, PortError> {
        let terms = match &tender.terms {
            Some(ChannelTerms::X402(config)) => self.terms(tender.channel, config)?,
            Some(ChannelTerms::Session(terms)) => self.session_terms(tender.channel, terms)?,
            None => return Ok(false),
        };
        self.look(terms, false, 0).await?;
        Ok(self.board.snapshot(tender.channel).await?.is_some())
    }

    /// Waits until the engine knows a channel as it is at a block, or a later one.
    async fn look(&self, terms: EscrowTerms, announced: bool, block: u64) -> Result<(), PortError> {
        let (done, answered) = oneshot::channel();
        let followed = [
            self.channels.as_ref().map(|channels| (channels.escrow, &channels.looks)),
            self.sessions.as_ref().map(|sessions| (sessions.escrow, &sessions.looks)),
        ];
        let (_, looks) = followed.into_iter().flatten().find(|(escrow, _)| *escrow == terms.escrow).ok_or_else(not_served)?;
        let look = Look { terms, announced, block, done };
        looks.send(look).await.map_err(|_| unavailable())?;
        match tokio::time::timeout(self.deposit_wait, answered).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(unavailable()),
        }
    }
}

fn is_unknown(answer: &EscrowAnswer) -> bool {
    matches!(answer, EscrowAnswer::Rejected { rejection: EscrowRejection::UnknownChannel, .. })
}

/// Whether an answer would be another one with a deposit that is on its way.
fn is_uncovered(answer: &EscrowAnswer) -> bool {
    matches!(
        answer,
        EscrowAnswer::Rejected {
            rejection: EscrowRejection::DepositExceeded { .. } | EscrowRejection::Frozen { why: FrozenWhy::Uncovered },
            ..
        }
    )
}

/// What a request is told of a deposit that it waited for: how its own ended, and of another's nothing.
fn own_end(tender: &Tender, ended: Ended, funded: Option<Funded>) -> Ended {
    if tender.funding.is_none() {
        return Ok(funded);
    }
    // One that was there already was sent by this request all the same.
    Ok(ended?.or(funded))
}

fn unexpected(asked: &str, answer: &EscrowAnswer) -> PortError {
    fault(format!("{asked} was asked for, and answered {answer:?}"))
}

impl ChargePort for Desk {
    fn standing(&self, channel: EscrowChannelId) -> PortFuture<'_, Option<Standing>> {
        Box::pin(self.inner.board.standing(channel))
    }

    fn watch(&self, channel: EscrowChannelId) -> PortFuture<'_, watch::Receiver<Standing>> {
        Box::pin(async move { self.inner.board.watch(channel).await?.ok_or_else(|| Rejection::UnknownChannel.into()) })
    }

    fn reserve(&self, reserve: Reserve) -> PortFuture<'_, Reserved> {
        Box::pin(self.inner.reserve(reserve))
    }

    fn accept(&self, tender: Tender) -> PortFuture<'_, Accepted> {
        Box::pin(self.inner.accept(tender))
    }

    fn extend(&self, reservation: ReservationId, at_most: Amount) -> PortFuture<'_, Amount> {
        Box::pin(self.inner.extend(reservation, at_most))
    }

    fn mark(&self, reservation: ReservationId, delivered: Cost) -> PortFuture<'_, ()> {
        Box::pin(self.inner.mark(reservation, delivered))
    }

    fn capture(&self, reservation: ReservationId, capture: Capture) -> PortFuture<'_, Charge> {
        Box::pin(self.inner.capture(reservation, capture))
    }

    fn void(&self, reservation: ReservationId, _: VoidReason) -> PortFuture<'_, ()> {
        Box::pin(self.inner.void(reservation))
    }

    fn release(&self, release: Release) -> PortFuture<'_, Released> {
        Box::pin(self.inner.release(release))
    }

    fn singles(&self) -> Option<&dyn SinglePort> {
        Some(&self.singles)
    }
}
