//! Reading the escrow.

use std::fmt;

use alloy::consensus::Transaction as _;
use alloy::primitives::{Address as EvmAddress, B256};
use alloy::providers::Provider;
use alloy::rpc::types::{BlockId, Filter};
use alloy::sol_types::{SolCall, SolEvent};
use millstream_types::{Address, Amount, BlockNumber, CumulativeAmount, EscrowChannelId, Hash256, Timestamp};
use millstream_voucher::evm::{EscrowDomain, EscrowScheme, EscrowVoucher, SessionTerms, Statement};

use super::bindings::ISessionEscrow;
use crate::indexer::{FAR_BLOCKS_MAX, LogReader};
use crate::{ChainError, EscrowContract, Revert, Rpc, convert};

/// Channels that are asked about in one call.
const CHANNELS_PER_CALL_MAX: usize = 100;

/// An escrow on one chain, and the endpoint to reach it by. Cheap to clone.
#[derive(Clone)]
pub struct SessionEscrow {
    rpc: Rpc,
    domain: EscrowDomain,
    grace_secs: u64,
}

/// A channel at the end of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// The channel.
    pub channel: EscrowChannelId,
    /// Who it is between; nothing when it was never opened.
    pub parties: Option<SessionParties>,
    /// Everything that was deposited; stays when the channel is closed.
    pub deposit: Amount,
    /// Everything that was paid to the payee.
    pub settled: CumulativeAmount,
    /// How far in its life it is.
    pub phase: SessionPhase,
}

/// What the contract keeps of a channel's terms. With the salt they give its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionParties {
    /// Who pays, and is refunded.
    pub payer: Address,
    /// Who is paid.
    pub payee: Address,
    /// The token.
    pub token: Address,
    /// Who signs vouchers; zero for the payer.
    pub authorized_signer: Address,
}

/// How far in its life a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionPhase {
    /// It was never opened.
    Absent,
    /// It is open.
    Open,
    /// It is open, and its payer has asked for the close.
    Closing {
        /// When; the payer can leave once the grace period has passed since.
        requested_at: Timestamp,
    },
    /// It is closed, for ever.
    Closed,
}

/// A channel that was opened for a payer, by the escrow's logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedSession {
    /// The channel.
    pub channel: EscrowChannelId,
    /// Who it is between.
    pub parties: SessionParties,
    /// Its salt, where the transaction that opened it called the escrow: no log has it.
    pub salt: Option<Hash256>,
}

impl OpenedSession {
    /// Its terms with a salt, if they are the channel's.
    #[must_use]
    pub fn terms(&self, domain: &EscrowDomain, salt: Hash256) -> Option<SessionTerms> {
        let SessionParties { payer, payee, token, authorized_signer } = self.parties;
        let terms = SessionTerms { payer, payee, token, salt, authorized_signer };
        (terms.channel_id(domain) == self.channel).then_some(terms)
    }
}

/// What a transaction that somebody else sent has deposited into a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentDeposit {
    /// The block it is in.
    pub block: BlockNumber,
    /// That block's hash.
    pub block_hash: Hash256,
    /// What it deposited into the channel.
    pub amount: Amount,
    /// Whether it opened the channel.
    pub opened: bool,
}

impl SessionState {
    /// What the payee can still be paid.
    #[must_use]
    pub fn unsettled(&self) -> Amount {
        match self.phase {
            SessionPhase::Absent | SessionPhase::Closed => Amount::ZERO,
            SessionPhase::Open | SessionPhase::Closing { .. } => self.deposit.checked_sub(self.settled.as_amount()).unwrap_or(Amount::ZERO),
        }
    }
}

impl SessionParties {
    /// Whether these are the parties of the terms.
    #[must_use]
    pub fn are_of(&self, terms: &SessionTerms) -> bool {
        let of = Self { payer: terms.payer, payee: terms.payee, token: terms.token, authorized_signer: terms.authorized_signer };
        *self == of
    }
}

impl SessionEscrow {
    /// The escrow at an address: it must take the vouchers that are signed for it, and know channels by the ids that their terms give.
    ///
    /// # Errors
    /// [`ChainError::NoContract`]; [`ChainError::InvalidInput`] when it signs in another domain, makes other ids or is no such contract; or the
    /// endpoint is unavailable.
    pub async fn attach(rpc: Rpc, address: Address) -> Result<Self, ChainError> {
        if !rpc.has_code(address).await? {
            return Err(ChainError::NoContract { address, chain: rpc.chain() });
        }
        let domain = EscrowDomain::new(EscrowScheme::EvmSession, rpc.chain(), address);
        let other = |what: &str| ChainError::invalid("session escrow", format!("the contract at {address} is none: {what}"));
        // What has no such function, or reverts, is another contract.
        let lacking = |error: ChainError| if error.is_retryable() { error } else { other(&error.to_string()) };
        let probe = EscrowVoucher { channel: EscrowChannelId::from_bytes([0x51; 32]), cumulative: CumulativeAmount::from_units(1) };
        let call = ISessionEscrow::getVoucherDigestCall {
            channelId: (*probe.channel.as_bytes()).into(),
            cumulativeAmount: probe.cumulative.units(),
        };
        let digest = rpc.view("getVoucherDigest", address, &call).await.map_err(lacking)?;
        if probe.digest(&domain).map_err(|error| ChainError::Internal { detail: error.to_string() })? != convert::hash(digest) {
            return Err(other("its vouchers are signed in another domain"));
        }
        let [payer, payee, token, authorized_signer] = [1, 2, 3, 4].map(|byte| Address::from_bytes([byte; 20]));
        let probe = SessionTerms { payer, payee, token, salt: Hash256::from_bytes([5; 32]), authorized_signer };
        let call = ISessionEscrow::computeChannelIdCall {
            payer: convert::evm_address(payer),
            payee: convert::evm_address(payee),
            token: convert::evm_address(token),
            salt: convert::evm_hash(probe.salt),
            authorizedSigner: convert::evm_address(authorized_signer),
        };
        let id = rpc.view("computeChannelId", address, &call).await.map_err(lacking)?;
        if probe.channel_id(&domain).as_bytes() != &id.0 {
            return Err(other("its channels have other ids"));
        }
        let grace_secs = rpc.view("CLOSE_GRACE_PERIOD", address, &ISessionEscrow::CLOSE_GRACE_PERIODCall {}).await.map_err(lacking)?;
        Ok(Self { rpc, domain, grace_secs })
    }

    /// What vouchers are signed for.
    #[must_use]
    pub const fn domain(&self) -> &EscrowDomain {
        &self.domain
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.domain.contract()
    }

    /// The endpoint.
    #[must_use]
    pub const fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// Seconds between a payer's request to close and the moment from which it can leave: 900 of ours.
    #[must_use]
    pub const fn grace_secs(&self) -> u64 {
        self.grace_secs
    }

    /// The states of channels at the end of a block that is named by its hash, in the order asked.
    ///
    /// # Errors
    /// [`ChainError::Unrepresentable`] when the contract answers something else; or the endpoint is unavailable.
    pub async fn states_at(&self, channels: &[EscrowChannelId], block: Hash256) -> Result<Vec<SessionState>, ChainError> {
        let mut states = Vec::with_capacity(channels.len());
        for some in channels.chunks(CHANNELS_PER_CALL_MAX) {
            let ids = some.iter().map(|channel| (*channel.as_bytes()).into()).collect();
            let call = ISessionEscrow::getChannelsBatchCall { channelIds: ids };
            let at = BlockId::hash(convert::evm_hash(block));
            let records = self.rpc.view_at("getChannelsBatch", self.address(), &call, at).await?;
            if records.len() != some.len() {
                return Err(ChainError::unrepresentable("getChannelsBatch", "another number of answers than of questions"));
            }
            states.extend(some.iter().zip(&records).map(|(channel, record)| state(*channel, record)));
        }
        Ok(states)
    }

    /// The state of one channel in the newest block, for a first look: not deep enough to count.
    ///
    /// # Errors
    /// As [`Self::states_at`].
    pub async fn newest_state(&self, channel: EscrowChannelId) -> Result<SessionState, ChainError> {
        let states = self.newest_states(&[channel]).await?;
        states.first().copied().ok_or_else(|| ChainError::unrepresentable("getChannelsBatch", "no answer"))
    }

    /// As [`Self::newest_state`], of several channels, in the order asked.
    ///
    /// # Errors
    /// As [`Self::states_at`].
    pub async fn newest_states(&self, channels: &[EscrowChannelId]) -> Result<Vec<SessionState>, ChainError> {
        let newest = convert::hash(self.rpc.newest().await?.hash);
        self.states_at(channels, newest).await
    }

    /// The channels that were opened for a payer, by the escrow's logs from a block on: what a payer that lost its own records finds again.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn opened_for(&self, payer: Address, from_block: u64) -> Result<Vec<OpenedSession>, ChainError> {
        let logs = LogReader::new(self.rpc.clone(), self.address(), FAR_BLOCKS_MAX);
        let filter = Filter::new().event_signature(ISessionEscrow::ChannelOpened::SIGNATURE_HASH);
        let filter = filter.topic2(convert::evm_address(payer).into_word());
        let newest = self.rpc.newest().await?.number;
        let mut found = Vec::new();
        for log in logs.read_far(from_block, newest, &filter).await? {
            let Ok(event) = ISessionEscrow::ChannelOpened::decode_log_data(log.data()) else { continue };
            let parties = SessionParties {
                payer: convert::address(event.payer),
                payee: convert::address(event.payee),
                token: convert::address(event.token),
                authorized_signer: convert::address(event.authorizedSigner),
            };
            // An endpoint that ignores the filter tells of others too.
            if parties.payer == payer {
                let channel = EscrowChannelId::from_bytes(event.channelId.0);
                found.push(OpenedSession { channel, parties, salt: self.salt_in(log.transaction_hash).await? });
            }
        }
        Ok(found)
    }

    /// The salt that a transaction opens a channel with, where it calls the escrow itself.
    async fn salt_in(&self, transaction: Option<B256>) -> Result<Option<Hash256>, ChainError> {
        let Some(hash) = transaction else { return Ok(None) };
        let asked = self.rpc.provider().get_transaction_by_hash(hash);
        let Some(transaction) = self.rpc.ask("eth_getTransactionByHash", asked).await? else { return Ok(None) };
        if transaction.inner.to() != Some(convert::evm_address(self.address())) {
            return Ok(None);
        }
        let input = transaction.inner.input();
        let salt = ISessionEscrow::openCall::abi_decode(input)
            .map(|call| call.salt)
            .or_else(|_| ISessionEscrow::openWithAuthorizationCall::abi_decode(input).map(|call| call.salt))
            .or_else(|_| ISessionEscrow::openWithPermit2Call::abi_decode(input).map(|call| call.salt));
        Ok(salt.ok().map(convert::hash))
    }

    /// What an account can withdraw of a token, because the token refused to be paid to it (E-28), in the newest block.
    ///
    /// # Errors
    /// [`ChainError::Unrepresentable`] from 2^128 up; or the endpoint is unavailable.
    pub async fn credit(&self, account: Address, token: Address) -> Result<Amount, ChainError> {
        let call = ISessionEscrow::creditCall { account: convert::evm_address(account), token: convert::evm_address(token) };
        convert::amount("credit", self.rpc.view("credit", self.address(), &call).await?)
    }

    /// What a transaction has deposited into a channel; `None` while it is not mined. How deep its block is, the caller compares.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] when it failed; [`ChainError::InvalidInput`] when it deposited nothing into the channel; or the endpoint is
    /// unavailable.
    pub async fn deposit_in(&self, transaction: Hash256, channel: EscrowChannelId) -> Result<Option<SentDeposit>, ChainError> {
        let operation = "eth_getTransactionReceipt";
        let asked = self.rpc.provider().get_transaction_receipt(convert::evm_hash(transaction));
        let Some(receipt) = self.rpc.ask(operation, asked).await? else { return Ok(None) };
        let (Some(block), Some(block_hash)) = (receipt.block_number, receipt.block_hash) else { return Ok(None) };
        if !receipt.status() {
            return Err(ChainError::Reverted { operation: "deposit", revert: Revert::Empty, transaction: Some(transaction) });
        }
        let (mut amount, mut opened) = (Amount::ZERO, false);
        let escrow: EvmAddress = convert::evm_address(self.address());
        for log in receipt.logs().iter().filter(|log| log.address() == escrow) {
            let data = log.data();
            let (of, deposited) = if let Ok(event) = ISessionEscrow::ChannelOpened::decode_log_data(data) {
                opened |= event.channelId.0 == *channel.as_bytes();
                (event.channelId, event.deposit)
            } else if let Ok(event) = ISessionEscrow::TopUp::decode_log_data(data) {
                (event.channelId, event.additionalDeposit)
            } else {
                continue;
            };
            if of.0 == *channel.as_bytes() {
                let deposited = convert::amount("deposit", deposited)?;
                amount = amount.checked_add(deposited).map_err(|error| ChainError::unrepresentable("deposit", error))?;
            }
        }
        if amount.is_zero() {
            return Err(ChainError::invalid("transaction", format!("{transaction} deposits nothing into channel {channel}")));
        }
        Ok(Some(SentDeposit { block: convert::block(block), block_hash: convert::hash(block_hash), amount, opened }))
    }
}

impl EscrowContract for SessionEscrow {
    type State = SessionState;

    fn rpc(&self) -> &Rpc {
        self.rpc()
    }

    fn address(&self) -> Address {
        self.address()
    }

    async fn states_at(&self, channels: &[EscrowChannelId], block: Hash256) -> Result<Vec<SessionState>, ChainError> {
        self.states_at(channels, block).await
    }
}

fn state(channel: EscrowChannelId, record: &ISessionEscrow::Channel) -> SessionState {
    // The payee of a channel is never zero.
    let exists = !record.payee.is_zero();
    let phase = match record.closeRequestedAt {
        _ if !exists => SessionPhase::Absent,
        _ if record.finalized => SessionPhase::Closed,
        0 => SessionPhase::Open,
        requested_at => SessionPhase::Closing { requested_at: convert::timestamp(requested_at) },
    };
    let parties = SessionParties {
        payer: convert::address(record.payer),
        payee: convert::address(record.payee),
        token: convert::address(record.token),
        authorized_signer: convert::address(record.authorizedSigner),
    };
    SessionState {
        channel,
        parties: exists.then_some(parties),
        deposit: Amount::from_units(record.deposit),
        settled: CumulativeAmount::from_units(record.settled),
        phase,
    }
}

impl fmt::Debug for SessionEscrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionEscrow({} by {:?})", self.address(), self.rpc)
    }
}
