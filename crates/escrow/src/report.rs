//! What the rail asks of an escrow's contract, whichever it is, and what its channels come to.

use std::fmt::Debug;
use std::future::Future;

use millstream_chain::session_escrow::{SessionEscrow, SessionPhase, SessionState};
use millstream_chain::x402::{BatchSettlement, ChannelState};
use millstream_chain::{ChainError, EscrowContract};
use millstream_engine::escrow::EscrowTerms;
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Hash256, Timestamp};

use crate::board::OnChain;
use crate::terms::{ForeignTerms, read_x402_config};

/// A contract that the follower can follow.
pub(crate) trait Followed: EscrowContract<State: Debug + Sync> + 'static {
    /// Seconds between a payer's asking to leave and the moment from which the contract lets it.
    ///
    /// # Errors
    /// The terms are not of this contract.
    fn exit_delay_secs(&self, terms: &EscrowTerms) -> Result<u64, ForeignTerms>;

    /// What a state comes to.
    fn report(state: &Self::State) -> Report;

    /// What was claimed for a receiver and not paid out to it, at the end of a block.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    fn due_at(&self, receiver: Address, token: Address, block: Hash256) -> impl Future<Output = Result<Amount, ChainError>> + Send;
}

/// A payer that is leaving, by the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// What it takes; nothing for all that is not claimed, and the channel with it.
    pub(crate) amount: Option<Amount>,
    /// When it asked.
    pub(crate) asked_at: Timestamp,
}

/// A channel at the end of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) channel: EscrowChannelId,
    pub(crate) deposit: Amount,
    pub(crate) settled: CumulativeAmount,
    pub(crate) leaving: Option<Leaving>,
    /// Closed, for ever.
    pub(crate) is_closed: bool,
    /// Whether the contract has ever had anything on the channel that still shows.
    pub(crate) is_there: bool,
    pub(crate) on_chain: OnChain,
}

const fn secs(at: Timestamp) -> u64 {
    at.as_millis() / 1_000
}

impl Followed for BatchSettlement {
    fn exit_delay_secs(&self, terms: &EscrowTerms) -> Result<u64, ForeignTerms> {
        read_x402_config(&terms.config).map(|config| config.withdraw_delay_secs)
    }

    fn report(state: &ChannelState) -> Report {
        let ChannelState { channel, balance, claimed, withdrawal, refund_nonce } = *state;
        Report {
            channel,
            deposit: balance,
            settled: claimed,
            leaving: withdrawal.map(|withdrawal| Leaving { amount: Some(withdrawal.amount), asked_at: withdrawal.initiated_at }),
            // Ids live again.
            is_closed: false,
            is_there: !balance.is_zero() || claimed > CumulativeAmount::ZERO,
            on_chain: OnChain {
                withdraw_requested_at_secs: withdrawal.map(|withdrawal| secs(withdrawal.initiated_at)),
                refund_nonce: refund_nonce.to_u64().unwrap_or(u64::MAX),
            },
        }
    }

    async fn due_at(&self, receiver: Address, token: Address, block: Hash256) -> Result<Amount, ChainError> {
        self.receiver_at(receiver, token, block).await.map(|totals| totals.due())
    }
}

impl Followed for SessionEscrow {
    fn exit_delay_secs(&self, _: &EscrowTerms) -> Result<u64, ForeignTerms> {
        Ok(self.grace_secs())
    }

    fn report(state: &SessionState) -> Report {
        let SessionState { channel, deposit, settled, phase, .. } = *state;
        let asked_at = match phase {
            SessionPhase::Closing { requested_at } => Some(requested_at),
            SessionPhase::Absent | SessionPhase::Open | SessionPhase::Closed => None,
        };
        Report {
            channel,
            deposit,
            settled,
            leaving: asked_at.map(|asked_at| Leaving { amount: None, asked_at }),
            is_closed: phase == SessionPhase::Closed,
            is_there: phase != SessionPhase::Absent,
            on_chain: OnChain { withdraw_requested_at_secs: asked_at.map(secs), refund_nonce: 0 },
        }
    }

    /// A settlement pays at once.
    async fn due_at(&self, _: Address, _: Address, _: Hash256) -> Result<Amount, ChainError> {
        Ok(Amount::ZERO)
    }
}
