//! What the payer asks of the chain and does there itself: its channels are found again after the book was lost, and left without their servers.
//!
//! **Invariants.** A channel that is left is not paid any more, durably, before the chain hears of it. Each step is read from the contract, so a
//! crash between two of them loses nothing, and the same call again goes on from there (P-40 to P-42).

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_chain::session_escrow::{OpenedSession, SessionEscrow, SessionPayer, SessionPhase, session_escrow_address};
use millstream_chain::x402::{BatchOperator, BatchSettlement};
use millstream_chain::{ChainError, Rpc, Submitter};
use millstream_types::{Address, Amount, ChainId, CumulativeAmount, EscrowChannelId, Timestamp};
use millstream_voucher::evm::{ChannelConfig, SessionTerms};

use super::book::{ChannelRecord, ChannelStatus, EscrowTerms, shown};
use super::error::HttpPayError;
use super::payer::{HttpPayer, Inner};
use super::session::salt;
use super::{HttpChannel, now};

/// Why a channel that is left is not paid.
const LEAVING: &str = "its deposit is being taken back on the chain";
/// Numbers of salts that are tried for a session whose opening does not show its salt.
const SALTS_MAX: u64 = 256;

/// How far a channel's way out by the chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawal {
    /// It was asked for, now or before: the rest can be taken from this moment of the chain's on. Until then the server can claim what it is owed.
    Waiting {
        /// The moment.
        ready_at: Timestamp,
    },
    /// The rest was taken: this much, in base units.
    Taken(Amount),
}

/// What the chain has of this account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Channels with something left, which are in the book now.
    pub channels: Vec<HttpChannel>,
    /// Sessions with something left whose salt is not known: another program opened them through another contract. They cannot be paid on from
    /// here.
    pub foreign: Vec<EscrowChannelId>,
}

/// A step of the way out.
enum Step {
    /// The contract has not heard of it.
    Ask(Amount),
    /// It was asked for.
    Take(Timestamp),
    /// Nothing is left.
    Nothing,
}

fn failed(error: ChainError) -> HttpPayError {
    HttpPayError::Chain(Arc::new(error))
}

impl HttpPayer {
    /// Leaves a channel by the chain, without its server: asks for the close of a session, or for what an x402 channel was not charged; and takes
    /// the rest once the contract lets it. Call it again for the next step. The account of `submitter` is this payer's own, and pays the gas.
    ///
    /// # Errors
    /// [`HttpPayError`]; [`HttpPayError::NothingLeft`] when the channel has nothing to take.
    pub async fn withdraw(&self, channel: EscrowChannelId, submitter: &Submitter) -> Result<Withdrawal, HttpPayError> {
        let inner = &self.inner;
        let record = inner.book.channel(channel).ok_or(HttpPayError::UnknownChannel { channel })?;
        if submitter.account() != inner.account.address() || submitter.rpc().chain() != record.chain {
            let expected = format!("the account {} on chain {}", inner.account.address(), record.chain);
            return Err(failed(ChainError::InvalidInput { what: "submitter", detail: format!("it is not that of {expected}") }));
        }
        // Nothing is signed on it meanwhile.
        let _turn = inner.turn(channel).lock_owned().await;
        match record.terms {
            EscrowTerms::X402(config) => inner.withdraw_batch(channel, &config, submitter).await,
            EscrowTerms::Session(_) => inner.withdraw_session(channel, record.contract, submitter).await,
        }
    }

    /// Finds the channels of this account on a chain whose endpoint is set, from a block on, and puts those into the book that have something left
    /// and are not in it: after the book was lost. `escrows` are escrows of sessions beside the usual one and those that the book knows.
    ///
    /// What was signed on them is not known, so the server's word is believed within limits (P-34).
    ///
    /// # Errors
    /// [`HttpPayError::NoEndpoint`]; else the chain's.
    pub async fn recover(&self, chain: ChainId, from_block: u64, escrows: &[Address]) -> Result<Recovered, HttpPayError> {
        let inner = &self.inner;
        let rpc = inner.options.rpcs.get(&chain).ok_or(HttpPayError::NoEndpoint { chain })?;
        let mut recovered = Recovered::default();
        inner.recover_batches(rpc, from_block, &mut recovered).await?;
        let known = inner.book.channels();
        let known = known.iter().filter(|known| known.asset.chain == chain && matches!(known.terms, EscrowTerms::Session(_)));
        let mut contracts: BTreeSet<Address> = known.map(|known| known.contract).chain(escrows.iter().copied()).collect();
        contracts.insert(session_escrow_address().map_err(failed)?);
        for contract in contracts {
            inner.recover_sessions(rpc, contract, from_block, &mut recovered).await?;
        }
        Ok(recovered)
    }
}

impl Inner {
    async fn withdraw_batch(
        &self,
        channel: EscrowChannelId,
        config: &ChannelConfig,
        submitter: &Submitter,
    ) -> Result<Withdrawal, HttpPayError> {
        let contract = BatchSettlement::attach(submitter.rpc().clone()).await.map_err(failed)?;
        let own = BatchOperator::new(contract.clone(), submitter.clone());
        let step = async || {
            let state = contract.newest_state(channel).await.map_err(failed)?;
            let record = self.book.channel(channel).ok_or(HttpPayError::UnknownChannel { channel })?;
            // What was charged is the server's, claimed or not.
            let owed = record.charged.max(state.claimed);
            Ok::<_, HttpPayError>(match (state.withdrawal, state.balance.checked_sub(owed.as_amount())) {
                (Some(asked), _) => Step::Take(asked.initiated_at.plus_millis(config.withdraw_delay_secs.saturating_mul(1_000))),
                (None, Ok(free)) if !free.is_zero() => Step::Ask(free),
                (None, _) => Step::Nothing,
            })
        };
        let ask = async |free| own.begin_withdrawal(config, free).await.map(drop);
        let take = async || own.finish_withdrawal(config).await.map(|(_, amount)| amount);
        self.way_out(channel, submitter.rpc(), step, ask, take).await
    }

    async fn withdraw_session(&self, channel: EscrowChannelId, escrow: Address, submitter: &Submitter) -> Result<Withdrawal, HttpPayError> {
        let contract = SessionEscrow::attach(submitter.rpc().clone(), escrow).await.map_err(failed)?;
        let own = SessionPayer::new(contract.clone(), submitter.clone());
        let step = async || {
            let state = contract.newest_state(channel).await.map_err(failed)?;
            Ok::<_, HttpPayError>(match state.phase {
                SessionPhase::Absent | SessionPhase::Closed => Step::Nothing,
                SessionPhase::Open => Step::Ask(state.unsettled()),
                SessionPhase::Closing { requested_at } => Step::Take(requested_at.plus_millis(contract.grace_secs().saturating_mul(1_000))),
            })
        };
        // All of it, whatever there is then.
        let ask = async |_| own.request_close(channel).await.map(drop);
        let take = async || own.withdraw(channel).await.map(|(_, amount)| amount);
        self.way_out(channel, submitter.rpc(), step, ask, take).await
    }

    /// Takes the next steps of the way out. `step` reads from the contract which one that is; `ask` and `take` are transactions.
    async fn way_out(
        &self,
        channel: EscrowChannelId,
        rpc: &Rpc,
        step: impl AsyncFn() -> Result<Step, HttpPayError>,
        ask: impl AsyncFnOnce(Amount) -> Result<(), ChainError>,
        take: impl AsyncFnOnce() -> Result<Amount, ChainError>,
    ) -> Result<Withdrawal, HttpPayError> {
        let ready_at = match step().await? {
            Step::Nothing => return self.nothing_left(channel).await,
            Step::Take(ready_at) => ready_at,
            Step::Ask(free) => {
                self.leaving(channel).await?;
                ask(free).await.map_err(failed)?;
                match step().await? {
                    Step::Take(ready_at) => ready_at,
                    Step::Ask(_) | Step::Nothing => return self.nothing_left(channel).await,
                }
            }
        };
        self.leaving(channel).await?;
        if !is_due(rpc, ready_at).await? {
            return Ok(Withdrawal::Waiting { ready_at });
        }
        match take().await {
            Ok(amount) => self.left(channel, amount).await,
            Err(error) if is_early(&error) => Ok(Withdrawal::Waiting { ready_at }),
            Err(error) => Err(failed(error)),
        }
    }

    /// Nothing is signed on the channel from here on.
    async fn leaving(&self, channel: EscrowChannelId) -> Result<(), HttpPayError> {
        let durable = self.book.update(channel, |record| record.status = ChannelStatus::Suspended(LEAVING.to_owned()));
        Ok(durable.wait().await?)
    }

    async fn left(&self, channel: EscrowChannelId, amount: Amount) -> Result<Withdrawal, HttpPayError> {
        let durable = self.book.update(channel, |record| {
            record.funded = record.funded.checked_sub(amount).unwrap_or(Amount::ZERO);
            record.refunded = record.refunded.checked_add(amount).unwrap_or(record.refunded);
            record.status = ChannelStatus::Closed;
        });
        durable.wait().await?;
        Ok(Withdrawal::Taken(amount))
    }

    /// The contract has nothing to take: a session is closed, by whomever; what an x402 channel has is its server's.
    async fn nothing_left(&self, channel: EscrowChannelId) -> Result<Withdrawal, HttpPayError> {
        self.book.update(channel, |record| record.status = ChannelStatus::Closed).wait().await?;
        Err(HttpPayError::NothingLeft { channel })
    }

    async fn recover_batches(&self, rpc: &Rpc, from_block: u64, recovered: &mut Recovered) -> Result<(), HttpPayError> {
        let contract = match BatchSettlement::attach(rpc.clone()).await {
            Ok(contract) => contract,
            Err(ChainError::NoContract { .. }) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for (channel, config) in contract.channels_of(self.account.address(), from_block).await.map_err(failed)? {
            // Whose vouchers another key signs is not paid from here, but left.
            let state = contract.newest_state(channel).await.map_err(failed)?;
            if !state.claimable().is_zero() {
                let terms = EscrowTerms::X402(config);
                self.found(channel, contract.address(), terms, state.balance, state.claimed, rpc, recovered).await?;
            }
        }
        Ok(())
    }

    async fn recover_sessions(&self, rpc: &Rpc, escrow: Address, from_block: u64, recovered: &mut Recovered) -> Result<(), HttpPayError> {
        let contract = match SessionEscrow::attach(rpc.clone(), escrow).await {
            Ok(contract) => contract,
            Err(ChainError::NoContract { .. }) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for opened in contract.opened_for(self.account.address(), from_block).await.map_err(failed)? {
            let state = contract.newest_state(opened.channel).await.map_err(failed)?;
            if state.unsettled().is_zero() {
                continue;
            }
            match terms_of(&contract, &opened) {
                Some(terms) => {
                    let terms = EscrowTerms::Session(terms);
                    self.found(opened.channel, escrow, terms, state.deposit, state.settled, rpc, recovered).await?;
                }
                None => recovered.foreign.push(opened.channel),
            }
        }
        Ok(())
    }

    /// Puts a channel into the book as the chain has it. Whose server it is, is seen when it is paid on.
    #[allow(clippy::too_many_arguments, reason = "what is known of a channel")]
    async fn found(
        &self,
        channel: EscrowChannelId,
        contract: Address,
        terms: EscrowTerms,
        deposit: Amount,
        taken: CumulativeAmount,
        rpc: &Rpc,
        recovered: &mut Recovered,
    ) -> Result<(), HttpPayError> {
        if self.book.channel(channel).is_some() {
            return Ok(());
        }
        let record = of_the_chain(ChannelRecord::new(rpc.chain(), contract, terms, "", "", "GET"), deposit, taken);
        self.book.add(channel, record.clone()).wait().await?;
        recovered.channels.push(shown(channel, &record));
        Ok(())
    }
}

/// A record of a channel of which nothing is known but what the chain says.
pub(super) fn of_the_chain(record: ChannelRecord, deposit: Amount, taken: CumulativeAmount) -> ChannelRecord {
    ChannelRecord { funded: deposit, deposited: deposit, charged: taken, signed: taken, known: false, ..record }
}

/// A session's terms: its salt stands in the transaction that opened it, or is one of this payer's numbers.
fn terms_of(contract: &SessionEscrow, opened: &OpenedSession) -> Option<SessionTerms> {
    let domain = contract.domain();
    opened.salt.into_iter().chain((0..SALTS_MAX).map(salt)).find_map(|salt| opened.terms(domain, salt))
}

/// Whether a moment has come, by the chain or by this machine: an idle chain has no block to tell the time by.
async fn is_due(rpc: &Rpc, ready_at: Timestamp) -> Result<bool, HttpPayError> {
    Ok(now() >= ready_at || rpc.head_time().await.map_err(failed)? >= ready_at)
}

/// Whether the contract refuses because its own clock is not there yet.
fn is_early(error: &ChainError) -> bool {
    let ChainError::Reverted { revert, .. } = error else { return false };
    matches!(revert.name(), Some("CloseNotReady" | "WithdrawDelayNotElapsed"))
}
