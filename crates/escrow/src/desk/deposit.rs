//! Deposits that payers sign and this side submits.
//!
//! One at a time on each channel, in a task of its own: a client that leaves leaves a deposit that goes on, and one that comes back with the
//! same deposit waits for the same transaction. It is announced to the engine before it is sent, so that a start knows of it, and counts once
//! the contract says at the confirmation depth that it is there. What the payer signed can be used once, so nothing is ever deposited twice.
//!
//! Where the operator trusts deposits that are sent, a request is served as soon as the chain's node has the transaction and it would
//! succeed, within the limits. Both are looked at again until it is confirmed: with the first sign against it the credit is over.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_chain::session_escrow::{SessionFunding, SessionOpening, SessionTopUp};
use millstream_chain::x402::DepositAuthorization;
use millstream_chain::{Call, ChainError, ErrorKind, IntentId, PERMIT2, TxReceipt, TxStage, TxWatch, token_allowance, token_balance};
use millstream_dialect::x402::{self, Deposit};
use millstream_engine::escrow::{EscrowAnswer, EscrowInput, EscrowTerms};
use millstream_gateway::port::{Funded, PortError, Rejection, Standing};
use millstream_gateway::tender::{ChannelTerms, Funding, Tender, TotalRule};
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Hash256, Uint256};
use millstream_voucher::evm::{ChannelConfig, VerifiedEscrowVoucher};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tracing::{info, warn};

use super::sent::{Errand, Kind, Resumed, end_of};
use super::{Inner, signer};
use crate::board::{fault, nothing, now, stopped, unavailable};
use crate::lock::lock;

/// The pause after a try whose end is not known; it doubles.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The longest.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(15);

/// Between two looks whether a deposit that payments rest on is still coming.
const CREDIT_PAUSE: Duration = Duration::from_millis(250);
/// Looks in a row that speak against it until that is believed: of several nodes behind one endpoint one may lag.
const CREDIT_LOOKS: u32 = 3;

/// How a deposit ended: with a transaction, or as one that was there before.
pub(super) type Ended = Result<Option<Funded>, PortError>;

/// How far a deposit is.
#[derive(Clone)]
enum Progress {
    /// On its way, and worth nothing yet.
    Begun,
    /// On its way, and payments may rest on it.
    Credited(Funded),
    /// It ended.
    Ended(Ended),
}

/// What of a deposit a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Until payments may rest on it.
    Credit,
    /// Until the engine knows its end.
    End,
}

/// What payments may rest on while a deposit is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credit {
    /// Nothing yet.
    None,
    /// On it; and so many looks in a row speak against it.
    Given { against: u32 },
    /// Nothing any more.
    Over,
}

/// Deposits under way.
#[derive(Default)]
pub(super) struct Deposits {
    running: Mutex<HashMap<EscrowChannelId, Running>>,
    /// Accounts with a deposit that payments rest on, or did until something spoke against it.
    trusted: Mutex<HashSet<Address>>,
}

/// An account's only deposit that payments may rest on before it is confirmed: of two that it has the money for once, both would look good until
/// the first is mined.
struct Trusted<'a> {
    deposits: &'a Deposits,
    funder: Address,
}

#[derive(Clone)]
struct Running {
    intent: IntentId,
    progress: watch::Receiver<Progress>,
}

/// What is deposited.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) intent: [u8; 32],
    pub(super) terms: EscrowTerms,
    /// What submits it.
    pub(super) call: Call,
    /// Whose money it is.
    pub(super) funder: Address,
    pub(super) amount: Amount,
    /// Seconds since the Unix epoch after which the payer's permission is worth nothing.
    pub(super) valid_before: Uint256,
    pub(super) of: Of,
}

/// What differs between contracts.
#[derive(Clone)]
pub(super) enum Of {
    X402 { config: ChannelConfig, authorization: DepositAuthorization },
    Open(SessionOpening),
    TopUp(SessionTopUp),
}

/// Why a deposit is refused, in the words of what it is for.
#[derive(Clone, Copy)]
enum Why {
    Ended,
    NoBalance,
    NoAllowance,
    Simulation,
}

impl Inner {
    /// Sees to the deposit that a tender brings, if it brings one: submitted now, under way, or there already.
    pub(super) async fn fund(self: &Arc<Self>, tender: &Tender, voucher: Option<&VerifiedEscrowVoucher>, wait: Wait) -> Ended {
        match (&tender.funding, &tender.terms) {
            (None, _) => Ok(None),
            (Some(Funding::X402(deposit)), Some(ChannelTerms::X402(config))) => self.deposit(tender, config, deposit, voucher, wait).await,
            (Some(Funding::Session { action, funding }), _) => self.session_deposit(tender, (action, funding), voucher, wait).await,
            (Some(Funding::Sent { hash }), _) => self.sent_deposit(tender, *hash).await,
            (Some(Funding::X402(_)), _) => Err(not_served()),
        }
    }

    async fn deposit(
        self: &Arc<Self>,
        tender: &Tender,
        config: &ChannelConfig,
        deposit: &Deposit,
        voucher: Option<&VerifiedEscrowVoucher>,
        wait: Wait,
    ) -> Ended {
        let channel = tender.channel;
        let terms = self.terms(channel, config)?;
        let mut standing = self.board.standing(channel).await?;
        if standing.is_none() {
            self.look(terms.clone(), false, 0).await?;
            standing = self.board.standing(channel).await?;
        }
        let intent = intent(&channel, deposit);
        if !self.deposits.is_running(&channel, &IntentId::from_bytes(intent))
            && !self.is_worth_it(tender, config, deposit, standing.as_ref(), voucher)?
        {
            return Ok(None);
        }
        let (authorization, valid_before) = authorization(deposit);
        let call = self.channels()?.operator.deposit_call(config, deposit.amount, &authorization).map_err(|error| chain_failed(&error))?;
        let of = Of::X402 { config: *config, authorization };
        self.see_to(Plan { intent, terms, call, funder: config.payer, amount: deposit.amount, valid_before, of }, wait).await
    }

    /// Begins a deposit, or joins it, and waits until payments may rest on it or for its end.
    pub(super) async fn see_to(self: &Arc<Self>, plan: Plan, wait: Wait) -> Ended {
        let progress = self.begin(plan).await?;
        match self.reached(progress, wait).await? {
            Some(Progress::Ended(outcome)) => outcome,
            Some(Progress::Credited(funded)) => Ok(Some(funded)),
            Some(Progress::Begun) | None => Err(unavailable()),
        }
    }

    /// Waits for a deposit, as long as a request may wait: it goes on, and whoever comes back waits on. Nothing when nobody carries it any
    /// more.
    async fn reached(&self, mut progress: watch::Receiver<Progress>, wait: Wait) -> Result<Option<Progress>, PortError> {
        let reached = |progress: &Progress| match progress {
            Progress::Begun => false,
            Progress::Credited(_) => wait == Wait::Credit,
            Progress::Ended(_) => true,
        };
        match tokio::time::timeout(self.deposit_wait, progress.wait_for(reached)).await {
            Ok(Ok(progress)) => Ok(Some(progress.clone())),
            Ok(Err(_)) => Ok(None),
            Err(_) => Err(unavailable()),
        }
    }

    /// Waits for the end of the deposit that is on its way to a channel, where payments may rest on such: what is beyond the limit for that has
    /// to wait. Nothing when there is none.
    pub(super) async fn deposits_end(&self, channel: &EscrowChannelId) -> Result<Option<Ended>, PortError> {
        if !self.trusts_sent {
            return Ok(None);
        }
        let progress = lock(&self.deposits.running).get(channel).map(|running| running.progress.clone());
        let Some(progress) = progress else { return Ok(None) };
        match self.reached(progress, Wait::End).await? {
            Some(Progress::Ended(outcome)) => Ok(Some(outcome)),
            Some(Progress::Begun | Progress::Credited(_)) | None => Ok(None),
        }
    }

    /// Whether the voucher that comes with a deposit will be good once it is there: gas is spent for nothing else. What the engine refuses
    /// anyway, or has answered before, it is left to answer.
    fn is_worth_it(
        &self,
        tender: &Tender,
        config: &ChannelConfig,
        deposit: &Deposit,
        standing: Option<&Standing>,
        voucher: Option<&VerifiedEscrowVoucher>,
    ) -> Result<bool, PortError> {
        let (cumulative, TotalRule::Exactly { above_charged }) = (voucher.map(|voucher| voucher.statement().cumulative), tender.rule)
        else {
            return Ok(true);
        };
        let unopened = || {
            let signer = signer::of(config.voucher_signer(), voucher);
            Standing { payer: config.payer, signer, ..nothing(tender.channel) }
        };
        let (is_known, standing) = standing.map_or_else(|| (false, unopened()), |standing| (true, standing.clone()));
        let expected = standing.charged.checked_add(above_charged).map_err(fault)?;
        let covered = standing.announced.checked_add(deposit.amount).map_err(fault)?;
        match cumulative {
            None => Ok(true),
            Some(found) if found != expected && is_known => Ok(false),
            Some(found) if found != expected => Err(Rejection::TotalMismatch { expected, found, standing: Box::new(standing) }.into()),
            Some(found) if found > CumulativeAmount::from_units(covered.units()) => Err(Rejection::AboveDeposit(Box::new(standing)).into()),
            Some(_) => Ok(true),
        }
    }

    /// Begins a deposit, or joins it when it is under way. Another one on the channel is waited for.
    async fn begin(self: &Arc<Self>, plan: Plan) -> Result<watch::Receiver<Progress>, PortError> {
        let channel = plan.terms.channel;
        loop {
            let other = {
                let mut running = lock(&self.deposits.running);
                match running.get(&channel) {
                    Some(known) if known.intent == IntentId::from_bytes(plan.intent) => return Ok(known.progress.clone()),
                    Some(other) => other.progress.clone(),
                    None => {
                        let permit = Arc::clone(&self.transactions).try_acquire_owned().map_err(|_| unavailable())?;
                        let (tell, progress) = watch::channel(Progress::Begun);
                        let intent = IntentId::from_bytes(plan.intent);
                        running.insert(channel, Running { intent, progress: progress.clone() });
                        let inner = Arc::clone(self);
                        tokio::spawn(async move {
                            let outcome = inner.carry(&plan, &tell).await;
                            inner.deposit_ended(channel, &tell, outcome);
                            drop(permit);
                        });
                        return Ok(progress);
                    }
                }
            };
            if self.reached(other, Wait::End).await?.is_none() {
                lock(&self.deposits.running).remove(&channel);
            }
        }
    }

    /// Tells whoever waits how a deposit ended.
    fn deposit_ended(&self, channel: EscrowChannelId, tell: &watch::Sender<Progress>, outcome: Ended) {
        match &outcome {
            Ok(Some(funded)) => {
                self.metrics.deposits.inc();
                info!(%channel, amount = %funded.amount, transaction = funded.transaction, "deposit confirmed");
            }
            Ok(None) => {}
            Err(error) => {
                self.metrics.deposits_failed.inc();
                info!(%channel, %error, "a deposit failed");
            }
        }
        lock(&self.deposits.running).remove(&channel);
        tell.send_replace(Progress::Ended(outcome));
    }

    /// Goes on with a deposit of an earlier process: whoever comes back with it waits for it. Payments rest on it when it is confirmed.
    pub(super) fn go_on_with_deposit(self: &Arc<Self>, resumed: Resumed) {
        let (channel, intent) = (resumed.errand.channel, resumed.errand.intent);
        let (tell, progress) = watch::channel(Progress::Begun);
        lock(&self.deposits.running).insert(channel, Running { intent, progress });
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let (errand, sent) = resumed.end().await;
            let outcome = inner.after_restart(&errand, sent).await;
            inner.deposit_ended(channel, &tell, outcome);
        });
    }

    async fn after_restart(&self, errand: &Errand, sent: Result<TxReceipt, ChainError>) -> Ended {
        let receipt = match sent {
            Ok(receipt) => receipt,
            Err(error) => {
                // One that never was mined can be shown again, and begins anew.
                self.withdraw_announcement(errand.channel).await?;
                self.sender.forget(errand).await.map_err(stopped)?;
                return match error {
                    ChainError::Reverted { revert, .. } => Err(Rejection::Reverted { reason: revert.to_string() }.into()),
                    error => Err(chain_failed(&error)),
                };
            }
        };
        // It was announced before it was sent, so the engine has its channel.
        let snapshot = self.board.snapshot(errand.channel).await?.ok_or(Rejection::UnknownChannel)?;
        self.settle_announcement(&snapshot.terms, receipt.block.height()).await?;
        self.sender.forget(errand).await.map_err(stopped)?;
        Ok(Some(Funded { transaction: receipt.transaction.to_string(), amount: errand.amount }))
    }

    /// Carries a deposit to its end.
    async fn carry(&self, plan: &Plan, tell: &watch::Sender<Progress>) -> Ended {
        if let Err(error) = self.submitter.simulate(&plan.call).await {
            return self.not_sent(plan, error).await;
        }
        // What is not deep enough yet counts in: this is what the deposit will be.
        let total = self.newest_deposit(plan).await?.checked_add(plan.amount).map_err(fault)?;
        // A start knows of the channel. Nothing may rest on it yet.
        self.announce(plan, Amount::ZERO).await?;
        self.look(plan.terms.clone(), true, 0).await?;
        let (channel, amount, intent) = (plan.terms.channel, plan.amount, IntentId::from_bytes(plan.intent));
        let errand = Errand { kind: Kind::Deposit, channel, intent, intent_bytes: plan.intent, amount, call: plan.call.clone() };
        let (mut pause, mut trusts) = (RETRY_PAUSE, self.trusts_sent);
        loop {
            let sent = match self.sender.start(&errand).await {
                Ok(sent) if trusts => self.trusted(plan, total, sent, tell).await,
                Ok(sent) => end_of(plan.call.operation(), sent).await,
                Err(error) => Err(error),
            };
            let error = match sent {
                Ok(receipt) => {
                    self.settle_announcement(&plan.terms, receipt.block.height()).await?;
                    self.sender.forget(&errand).await.map_err(stopped)?;
                    return Ok(Some(Funded { transaction: receipt.transaction.to_string(), amount: plan.amount }));
                }
                Err(error) => error,
            };
            // Whether it will be sent again or not: this transaction will not be mined, and the next one is not trusted.
            trusts = false;
            self.withdraw_announcement(channel).await?;
            match error {
                ChainError::Reverted { transaction: Some(_), ref revert, .. } => {
                    // Used by another transaction, such as one of this node's own that was sent before a crash?
                    let is_used = self.is_used(plan).await?;
                    self.sender.forget(&errand).await.map_err(stopped)?;
                    let reason = revert.to_string();
                    return if is_used { Ok(None) } else { Err(Rejection::Reverted { reason }.into()) };
                }
                error if error.kind() == ErrorKind::Unavailable && !matches!(error, ChainError::Stopped { .. }) => {
                    if self.has_ended(plan) && !self.is_used(plan).await.unwrap_or(true) {
                        self.sender.forget(&errand).await.map_err(stopped)?;
                        return Err(plan.refused(Why::Ended));
                    }
                    warn!(channel = %plan.terms.channel, %error, "a deposit is not confirmed yet");
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(RETRY_PAUSE_MAX);
                }
                error => {
                    let outcome = self.not_sent(plan, error).await;
                    self.sender.forget(&errand).await.map_err(stopped)?;
                    return outcome;
                }
            }
        }
    }

    /// Follows a deposit's transaction to its end. Payments may rest on it while nothing speaks against it; once something did, only its
    /// confirmation counts.
    async fn trusted(
        &self,
        plan: &Plan,
        total: Amount,
        mut sent: TxWatch,
        tell: &watch::Sender<Progress>,
    ) -> Result<TxReceipt, ChainError> {
        let channel = plan.terms.channel;
        let stopped = || Err(ChainError::Stopped { operation: plan.call.operation() });
        let (mut credit, mut trusted) = (Credit::None, None);
        let ended = loop {
            let (transaction, is_mined) = match sent.stage() {
                TxStage::Ended { outcome, .. } => break outcome,
                TxStage::Sent { transaction } => (transaction, false),
                TxStage::Mined { transaction, .. } => (transaction, true),
            };
            // What an endpoint does not answer speaks neither for nor against it.
            if credit != Credit::Over
                && let Ok(is_coming) = self.is_coming(plan, total, (!is_mined).then_some(transaction)).await
            {
                credit = match (credit, is_coming) {
                    (Credit::None, true) => {
                        trusted = self.deposits.trust(plan.funder);
                        if trusted.is_some() && self.announce(plan, total).await.is_ok() {
                            tell.send_replace(Progress::Credited(Funded { transaction: transaction.to_string(), amount: plan.amount }));
                            Credit::Given { against: 0 }
                        } else {
                            Credit::Over
                        }
                    }
                    (Credit::Given { .. }, true) => Credit::Given { against: 0 },
                    (Credit::Given { against }, false) if against.saturating_add(1) < CREDIT_LOOKS => {
                        Credit::Given { against: against.saturating_add(1) }
                    }
                    (Credit::Given { .. }, false) => {
                        warn!(%channel, "a deposit that payments rest on may not come: nothing more rests on it until it is confirmed");
                        tell.send_replace(Progress::Begun);
                        if self.withdraw_announcement(channel).await.is_err() {
                            break stopped();
                        }
                        Credit::Over
                    }
                    (Credit::None | Credit::Over, _) => credit,
                };
            }
            if let Ok(false) = tokio::time::timeout(CREDIT_PAUSE, sent.changed()).await {
                break stopped();
            }
        };
        // Whoever comes now waits for what becomes of it.
        tell.send_replace(Progress::Begun);
        drop(trusted);
        ended
    }

    /// Whether a deposit that was sent is on its way still: the node has its transaction, which would succeed now; or it is in a block, and the
    /// channel has what it brings.
    async fn is_coming(&self, plan: &Plan, total: Amount, waiting: Option<Hash256>) -> Result<bool, PortError> {
        if let Some(transaction) = waiting {
            match self.submitter.simulate(&plan.call).await {
                Ok(_) => return self.rpc.has_transaction(transaction).await.map_err(|error| chain_failed(&error)),
                // Mined meanwhile, it cannot be made again.
                Err(ChainError::Reverted { .. }) => {}
                Err(error) => return Err(chain_failed(&error)),
            }
        }
        Ok(self.newest_deposit(plan).await? >= total)
    }

    async fn announce(&self, plan: &Plan, deposit: Amount) -> Result<(), PortError> {
        let announce = EscrowInput::Announce { terms: plan.terms.clone(), deposit };
        match self.board.payments.apply(announce).await.map_err(stopped)? {
            EscrowAnswer::Rejected { rejection, channel } => Err(self.refuse(rejection, channel)),
            _ => Ok(()),
        }
    }

    /// What comes of a deposit that the contract does not take.
    async fn not_sent(&self, plan: &Plan, error: ChainError) -> Ended {
        let ChainError::Reverted { revert, .. } = &error else { return Err(chain_failed(&error)) };
        if self.is_used(plan).await? {
            // It is there, or its payer took it back: the contract says which. What is not deep enough yet is waited for.
            self.look(plan.terms.clone(), false, 0).await?;
            let known = self.board.standing(plan.terms.channel).await?.map_or(Amount::ZERO, |standing| standing.deposit);
            if known < self.newest_deposit(plan).await? {
                let newest = self.rpc.head_height().await.map_err(|error| chain_failed(&error))?;
                self.look(plan.terms.clone(), false, newest).await?;
            }
            return Ok(None);
        }
        if self.has_ended(plan) {
            return Err(plan.refused(Why::Ended));
        }
        let balance = token_balance(&self.rpc, self.token, plan.funder).await.map_err(|error| chain_failed(&error))?;
        if balance < plan.amount.units() {
            return Err(plan.refused(Why::NoBalance));
        }
        if plan.of.is_by_permit2() {
            let allowed = token_allowance(&self.rpc, self.token, plan.funder, PERMIT2).await.map_err(|error| chain_failed(&error))?;
            if allowed < plan.amount.units() {
                return Err(plan.refused(Why::NoAllowance));
            }
        }
        info!(channel = %plan.terms.channel, %revert, "a deposit is refused by the contracts");
        Err(plan.refused(Why::Simulation))
    }

    async fn is_used(&self, plan: &Plan) -> Result<bool, PortError> {
        let used = match &plan.of {
            Of::X402 { config, authorization } => {
                self.channels()?.operator.is_deposit_used(plan.terms.channel, config, authorization).await
            }
            Of::Open(opening) => self.sessions()?.operator.is_opening_used(opening).await,
            Of::TopUp(top_up) => self.sessions()?.operator.is_top_up_used(top_up, self.token).await,
        };
        used.map_err(|error| chain_failed(&error))
    }

    /// What the channel has in the newest block, deep or not.
    async fn newest_deposit(&self, plan: &Plan) -> Result<Amount, PortError> {
        let channel = plan.terms.channel;
        let deposit = match &plan.of {
            Of::X402 { .. } => self.channels()?.operator.contract().newest_state(channel).await.map(|state| state.balance),
            Of::Open(_) | Of::TopUp(_) => self.sessions()?.operator.contract().newest_state(channel).await.map(|state| state.deposit),
        };
        deposit.map_err(|error| chain_failed(&error))
    }

    fn has_ended(&self, plan: &Plan) -> bool {
        Uint256::from(now().as_millis() / 1_000).to_u64() >= plan.valid_before.to_u64().or(Some(u64::MAX))
    }

    /// The chain has it: waits until the engine knows, and takes back what was announced beyond what came.
    async fn settle_announcement(&self, terms: &EscrowTerms, block: u64) -> Result<(), PortError> {
        self.look(terms.clone(), true, block).await?;
        self.withdraw_announcement(terms.channel).await
    }

    async fn withdraw_announcement(&self, channel: EscrowChannelId) -> Result<(), PortError> {
        let read = self.board.payments.read(move |engine| engine.escrow_channel(&channel).and_then(|known| known.announced()).is_some());
        if read.await.map_err(stopped)? {
            self.board.payments.apply(EscrowInput::AnnouncementFailed { channel }).await.map_err(stopped)?;
        }
        Ok(())
    }
}

impl Of {
    /// Whether Permit2 moves it, which its owner has to have approved.
    const fn is_by_permit2(&self) -> bool {
        match self {
            Self::X402 { authorization, .. } => matches!(authorization, DepositAuthorization::Permit2 { .. }),
            Self::Open(SessionOpening { funding, .. }) | Self::TopUp(SessionTopUp { funding, .. }) => {
                matches!(funding, SessionFunding::Permit2 { .. })
            }
        }
    }
}

impl Plan {
    fn refused(&self, why: Why) -> PortError {
        let reason = match (&self.of, why) {
            (Of::X402 { authorization: DepositAuthorization::Erc3009 { .. }, .. }, Why::Ended) => {
                "invalid_batch_settlement_evm_payload_authorization_valid_before"
            }
            (Of::X402 { authorization: DepositAuthorization::Permit2 { .. }, .. }, Why::Ended) => {
                "invalid_batch_settlement_evm_permit2_deadline_expired"
            }
            (Of::X402 { .. }, Why::NoBalance) => x402::Reason::BatchInsufficientBalance.as_str(),
            (Of::X402 { .. }, Why::NoAllowance) => x402::Reason::BatchPermit2AllowanceRequired.as_str(),
            (Of::X402 { .. }, Why::Simulation) => x402::Reason::BatchDepositSimulationFailed.as_str(),
            (Of::Open(_) | Of::TopUp(_), Why::Ended) => "what was signed for it is not valid any more",
            (Of::Open(_) | Of::TopUp(_), Why::NoBalance) => "the payer has less than that of the token",
            (Of::Open(_) | Of::TopUp(_), Why::NoAllowance) => "the payer has not approved that much of the token to Permit2",
            (Of::Open(_) | Of::TopUp(_), Why::Simulation) => "the escrow or the token does not take what was signed",
        };
        Rejection::DepositRefused { reason: reason.to_owned() }.into()
    }
}

pub(super) fn not_served() -> PortError {
    Rejection::DepositRefused { reason: "this way of depositing is not served".to_owned() }.into()
}

impl Deposits {
    /// Takes an account's one chance, if it is free.
    fn trust(&self, funder: Address) -> Option<Trusted<'_>> {
        let is_free = lock(&self.trusted).insert(funder);
        // Made only then: dropped, it would free the other's.
        is_free.then(|| Trusted { deposits: self, funder })
    }

    pub(super) fn is_running(&self, channel: &EscrowChannelId, intent: &IntentId) -> bool {
        lock(&self.running).get(channel).is_some_and(|running| running.intent == *intent)
    }
}

impl Drop for Trusted<'_> {
    fn drop(&mut self) {
        lock(&self.deposits.trusted).remove(&self.funder);
    }
}

/// The chain did not say.
pub(super) fn chain_failed(error: &ChainError) -> PortError {
    if error.kind() == ErrorKind::Fault {
        return fault(error);
    }
    warn!(%error, "the chain cannot be asked or does not take it now");
    unavailable()
}

/// The same deposit has the same intent, however often it comes.
fn intent(channel: &EscrowChannelId, deposit: &Deposit) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"millstream/x402-deposit");
    hash.update(channel.as_bytes());
    hash.update(deposit.amount.units().to_be_bytes());
    match &deposit.authorization {
        x402::DepositAuthorization::Erc3009(signed) => {
            hash.update([1]);
            hash.update(signed.salt.as_bytes());
        }
        x402::DepositAuthorization::Permit2(signed) => {
            hash.update([2]);
            hash.update(signed.nonce.to_be_bytes());
        }
    }
    hash.finalize().into()
}

/// The payer's permission as the contract's side has it, and when it ends.
fn authorization(deposit: &Deposit) -> (DepositAuthorization, Uint256) {
    match &deposit.authorization {
        x402::DepositAuthorization::Erc3009(signed) => {
            let authorization = DepositAuthorization::Erc3009 {
                valid_after: signed.valid_after,
                valid_before: signed.valid_before,
                salt: Uint256::from_be_bytes(*signed.salt.as_bytes()),
                signature: signed.signature.clone(),
            };
            (authorization, signed.valid_before)
        }
        x402::DepositAuthorization::Permit2(signed) => {
            let authorization = DepositAuthorization::Permit2 {
                nonce: signed.nonce,
                deadline: signed.deadline,
                signature: signed.signature.clone(),
                permit: Vec::new(),
            };
            (authorization, signed.deadline)
        }
    }
}
