//! Reading the contract.

use std::collections::BTreeMap;
use std::fmt;

use alloy::primitives::{Bytes, U256};
use alloy::rpc::types::{BlockId, Filter};
use alloy::sol_types::{SolCall, SolEvent};
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Hash256, Timestamp, Uint256};
use millstream_voucher::evm::{ChannelConfig, EscrowDomain, EscrowScheme};

use super::bindings::IX402BatchSettlement;
use super::{BATCH_SETTLEMENT, ERC3009_DEPOSIT_COLLECTOR, PERMIT2_DEPOSIT_COLLECTOR};
use crate::indexer::{FAR_BLOCKS_MAX, LogReader};
use crate::{ChainError, EscrowContract, Rpc, convert};

/// Channels that are asked about in one call.
const CHANNELS_PER_CALL_MAX: usize = 100;
/// Views of the contract that together are a channel's state.
const VIEWS: usize = 3;

/// The contract on one chain, and the endpoint to reach it by. Cheap to clone.
#[derive(Clone)]
pub struct BatchSettlement {
    rpc: Rpc,
    domain: EscrowDomain,
}

/// A channel at the end of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelState {
    /// The channel.
    pub channel: EscrowChannelId,
    /// Deposits less withdrawals and refunds; claims do not lower it.
    pub balance: Amount,
    /// What was claimed in all the channel's lives: the watermark below which no voucher is worth anything.
    pub claimed: CumulativeAmount,
    /// A withdrawal that the payer began and that is not final yet.
    pub withdrawal: Option<PendingWithdrawal>,
    /// What the next refund by signature must carry.
    pub refund_nonce: Uint256,
}

/// A withdrawal under way. It takes what nobody claimed by then, up to its amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingWithdrawal {
    /// How much the payer asked for.
    pub amount: Amount,
    /// When; it can become final once the channel's withdraw delay has passed since.
    pub initiated_at: Timestamp,
}

/// What was claimed for a receiver of a token over all channels, and what of it was swept to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverTotals {
    /// Claimed.
    pub claimed: CumulativeAmount,
    /// Swept.
    pub swept: CumulativeAmount,
}

impl ReceiverTotals {
    /// What a sweep would move.
    #[must_use]
    pub fn due(&self) -> Amount {
        self.claimed.delta_since(self.swept).unwrap_or(Amount::ZERO)
    }
}

impl ChannelState {
    /// What the receiver can still claim: the balance less what was claimed.
    #[must_use]
    pub fn claimable(&self) -> Amount {
        self.balance.checked_sub(self.claimed.as_amount()).unwrap_or(Amount::ZERO)
    }
}

impl BatchSettlement {
    /// The contract at its canonical address, and both of its deposit collectors.
    ///
    /// # Errors
    /// [`ChainError::NoContract`] with the address that has none; or the endpoint is unavailable.
    pub async fn attach(rpc: Rpc) -> Result<Self, ChainError> {
        for address in [BATCH_SETTLEMENT, ERC3009_DEPOSIT_COLLECTOR, PERMIT2_DEPOSIT_COLLECTOR] {
            if !rpc.has_code(address).await? {
                return Err(ChainError::NoContract { address, chain: rpc.chain() });
            }
        }
        let domain = EscrowDomain::new(EscrowScheme::X402Batch, rpc.chain(), BATCH_SETTLEMENT);
        Ok(Self { rpc, domain })
    }

    /// What vouchers are signed for.
    #[must_use]
    pub const fn domain(&self) -> &EscrowDomain {
        &self.domain
    }

    /// The endpoint.
    #[must_use]
    pub const fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.domain.contract()
    }

    /// The states of channels at the end of a block that is named by its hash, in the order asked. A channel that never was has nothing.
    ///
    /// # Errors
    /// [`ChainError::Unrepresentable`] when the contract answers something else; or the endpoint is unavailable.
    pub async fn states_at(&self, channels: &[EscrowChannelId], block: Hash256) -> Result<Vec<ChannelState>, ChainError> {
        let mut states = Vec::with_capacity(channels.len());
        for some in channels.chunks(CHANNELS_PER_CALL_MAX) {
            let data = some.iter().flat_map(views).collect();
            let call = IX402BatchSettlement::multicallCall { data };
            let at = BlockId::hash(convert::evm_hash(block));
            let answers: Vec<Bytes> = self.rpc.view_at("multicall", self.address(), &call, at).await?;
            let (answers, rest) = answers.as_chunks::<VIEWS>();
            if answers.len() != some.len() || !rest.is_empty() {
                return Err(ChainError::unrepresentable("multicall", "another number of answers than of questions"));
            }
            for (channel, answer) in some.iter().zip(answers) {
                states.push(state(*channel, answer)?);
            }
        }
        Ok(states)
    }

    /// The state of one channel in the newest block, for a first look: not deep enough to count.
    ///
    /// # Errors
    /// As [`Self::states_at`].
    pub async fn newest_state(&self, channel: EscrowChannelId) -> Result<ChannelState, ChainError> {
        let newest = convert::hash(self.rpc.newest().await?.hash);
        let states = self.states_at(&[channel], newest).await?;
        states.first().copied().ok_or_else(|| ChainError::unrepresentable("multicall", "no answer"))
    }

    /// The channels whose deposits were a payer's, by the contract's logs from a block on: what a payer that lost its own records finds again.
    /// No event has the payer as a topic, so all channels that were ever opened are read and sorted out here.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn channels_of(&self, payer: Address, from_block: u64) -> Result<Vec<(EscrowChannelId, ChannelConfig)>, ChainError> {
        let logs = LogReader::new(self.rpc.clone(), self.address(), FAR_BLOCKS_MAX);
        let filter = Filter::new().event_signature(IX402BatchSettlement::ChannelCreated::SIGNATURE_HASH);
        let newest = self.rpc.newest().await?.number;
        let mut found = BTreeMap::new();
        for log in logs.read_far(from_block, newest, &filter).await? {
            let Ok(event) = IX402BatchSettlement::ChannelCreated::decode_log_data(log.data()) else { continue };
            let terms = terms(&event.config);
            let channel = EscrowChannelId::from_bytes(event.channelId.0);
            if terms.payer == payer && terms.channel_id(&self.domain).is_ok_and(|id| id == channel) {
                found.insert(channel, terms);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// What a receiver had of a token in the contract at the end of a block that is named by its hash.
    ///
    /// # Errors
    /// The endpoint is unavailable, or does not have the block's state any more.
    pub async fn receiver_at(&self, receiver: Address, token: Address, block: Hash256) -> Result<ReceiverTotals, ChainError> {
        let call = IX402BatchSettlement::receiversCall { receiver: convert::evm_address(receiver), token: convert::evm_address(token) };
        let at = BlockId::hash(convert::evm_hash(block));
        let totals = self.rpc.view_at("receivers", self.address(), &call, at).await?;
        Ok(ReceiverTotals {
            claimed: CumulativeAmount::from_units(totals.totalClaimed),
            swept: CumulativeAmount::from_units(totals.totalSettled),
        })
    }

    /// What a receiver has of a token in the contract, in the newest block.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn receiver(&self, receiver: Address, token: Address) -> Result<ReceiverTotals, ChainError> {
        let call = IX402BatchSettlement::receiversCall { receiver: convert::evm_address(receiver), token: convert::evm_address(token) };
        let totals = self.rpc.view("receivers", self.address(), &call).await?;
        Ok(ReceiverTotals {
            claimed: CumulativeAmount::from_units(totals.totalClaimed),
            swept: CumulativeAmount::from_units(totals.totalSettled),
        })
    }
}

impl EscrowContract for BatchSettlement {
    type State = ChannelState;

    fn rpc(&self) -> &Rpc {
        self.rpc()
    }

    fn address(&self) -> Address {
        self.address()
    }

    async fn states_at(&self, channels: &[EscrowChannelId], block: Hash256) -> Result<Vec<ChannelState>, ChainError> {
        self.states_at(channels, block).await
    }
}

fn views(channel: &EscrowChannelId) -> [Bytes; VIEWS] {
    let id = (*channel.as_bytes()).into();
    [
        IX402BatchSettlement::channelsCall { channelId: id }.abi_encode().into(),
        IX402BatchSettlement::pendingWithdrawalsCall { channelId: id }.abi_encode().into(),
        IX402BatchSettlement::refundNonceCall { channelId: id }.abi_encode().into(),
    ]
}

fn state(channel: EscrowChannelId, [totals, withdrawal, nonce]: &[Bytes; VIEWS]) -> Result<ChannelState, ChainError> {
    let bad = |error: alloy::sol_types::Error| ChainError::unrepresentable("channel state", error);
    let totals = IX402BatchSettlement::channelsCall::abi_decode_returns(totals).map_err(bad)?;
    let withdrawal = IX402BatchSettlement::pendingWithdrawalsCall::abi_decode_returns(withdrawal).map_err(bad)?;
    let nonce: U256 = IX402BatchSettlement::refundNonceCall::abi_decode_returns(nonce).map_err(bad)?;
    let initiated_at = withdrawal.initiatedAt.to::<u64>();
    Ok(ChannelState {
        channel,
        balance: Amount::from_units(totals.balance),
        claimed: CumulativeAmount::from_units(totals.totalClaimed),
        withdrawal: (initiated_at != 0)
            .then(|| PendingWithdrawal { amount: Amount::from_units(withdrawal.amount), initiated_at: convert::timestamp(initiated_at) }),
        refund_nonce: Uint256::from_be_bytes(nonce.to_be_bytes()),
    })
}

/// The terms as we have them.
fn terms(config: &IX402BatchSettlement::ChannelConfig) -> ChannelConfig {
    ChannelConfig {
        payer: convert::address(config.payer),
        payer_authorizer: convert::address(config.payerAuthorizer),
        receiver: convert::address(config.receiver),
        receiver_authorizer: convert::address(config.receiverAuthorizer),
        token: convert::address(config.token),
        withdraw_delay_secs: config.withdrawDelay.to(),
        salt: convert::hash(config.salt),
    }
}

/// The terms as the ABI has them.
pub(super) fn config(config: &ChannelConfig) -> Result<IX402BatchSettlement::ChannelConfig, ChainError> {
    Ok(IX402BatchSettlement::ChannelConfig {
        payer: convert::evm_address(config.payer),
        payerAuthorizer: convert::evm_address(config.payer_authorizer),
        receiver: convert::evm_address(config.receiver),
        receiverAuthorizer: convert::evm_address(config.receiver_authorizer),
        token: convert::evm_address(config.token),
        withdrawDelay: config.withdraw_delay_secs.try_into().map_err(|_| ChainError::invalid("withdraw delay", "does not fit 40 bits"))?,
        salt: (*config.salt.as_bytes()).into(),
    })
}

impl fmt::Debug for BatchSettlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchSettlement({} by {:?})", self.address(), self.rpc)
    }
}
