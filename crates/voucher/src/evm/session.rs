//! MPP `evm/session`, and `tempo/session`, which it was made from: channel identity, nonces, and what a payee signs.

use millstream_types::{Address, Amount, ChainId, CumulativeAmount, EscrowChannelId, Hash256, Uint256};

use super::domain::{EscrowDomain, EscrowScheme};
use super::eip712::{self, Encoder};
use super::signed::{EvmError, Statement};

/// What a payer fixes when opening a channel of `evm/session` or of tempo version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionTerms {
    /// Who pays: the caller of `open`, or `from` of a relayed opening.
    pub payer: Address,
    /// Who is paid.
    pub payee: Address,
    /// The token.
    pub token: Address,
    /// Chosen by the payer: makes channels with equal terms distinct.
    pub salt: Hash256,
    /// Who signs vouchers; zero for the payer.
    pub authorized_signer: Address,
}

/// What a payer fixes when opening a channel of tempo version 2; it goes with every credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TempoTerms {
    /// The terms of version 1.
    pub terms: SessionTerms,
    /// Who may settle and close beside the payee; zero for nobody.
    pub operator: Address,
    /// The hash of the nonce of the transaction that opened it: what makes an id unique for ever.
    pub expiring_nonce_hash: Hash256,
}

/// What a payee signs so that another may submit a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SettleAuthorization {
    /// The channel.
    pub channel: EscrowChannelId,
    /// The total to settle up to.
    pub cumulative: CumulativeAmount,
    /// Any value that the payee has not used on the channel yet, for settling or closing.
    pub nonce: Uint256,
    /// Unix seconds: good until then, inclusive.
    pub deadline: Uint256,
}

/// What a payee signs so that another may submit a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseAuthorization {
    /// The channel.
    pub channel: EscrowChannelId,
    /// The final total.
    pub cumulative: CumulativeAmount,
    /// Any value that the payee has not used on the channel yet, for settling or closing.
    pub nonce: Uint256,
    /// Unix seconds: good until then, inclusive.
    pub deadline: Uint256,
}

/// What a payer signs beside the voucher to close a channel of tempo: `CloseAuthorization(bytes32 channelId,uint96 cumulativeAmount)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TempoCloseAuthorization {
    /// The channel.
    pub channel: EscrowChannelId,
    /// The final total, below 2^96.
    pub cumulative: CumulativeAmount,
}

impl SessionTerms {
    /// The channel's id: `keccak256(abi.encode(payer, payee, token, salt, authorizedSigner, escrow, chainId))` (spec E-7). The escrow's kind
    /// does not enter it.
    #[must_use]
    pub fn channel_id(&self, escrow: &EscrowDomain) -> EscrowChannelId {
        let id = Encoder::bare()
            .address(&self.payer)
            .address(&self.payee)
            .address(&self.token)
            .hash(&self.salt)
            .address(&self.authorized_signer)
            .address(&escrow.contract())
            .chain(escrow.chain())
            .finish();
        EscrowChannelId::from_bytes(*id.as_bytes())
    }

    /// Who signs vouchers.
    #[must_use]
    pub fn voucher_signer(&self) -> Address {
        if self.authorized_signer.is_zero() { self.payer } else { self.authorized_signer }
    }

    /// The ERC-3009 nonce of a relayed opening: `keccak256(abi.encode(from, payee, token, salt, authorizedSigner))`.
    #[must_use]
    pub fn open_nonce(&self) -> Hash256 {
        Encoder::bare()
            .address(&self.payer)
            .address(&self.payee)
            .address(&self.token)
            .hash(&self.salt)
            .address(&self.authorized_signer)
            .finish()
    }
}

/// The ERC-3009 nonce of a relayed top-up: `keccak256(abi.encode(channelId, additionalDeposit, from, topUpSalt))`.
#[must_use]
pub fn top_up_nonce(channel: &EscrowChannelId, additional: Amount, from: &Address, salt: &Hash256) -> Hash256 {
    Encoder::bare().channel(channel).amount(additional).address(from).hash(salt).finish()
}

impl TempoTerms {
    /// The channel's id: `keccak256(abi.encode(payer, payee, operator, token, salt, authorizedSigner, expiringNonceHash, escrow, chainId))`.
    #[must_use]
    pub fn channel_id(&self, escrow: &EscrowDomain) -> EscrowChannelId {
        let id = Encoder::bare()
            .address(&self.terms.payer)
            .address(&self.terms.payee)
            .address(&self.operator)
            .address(&self.terms.token)
            .hash(&self.terms.salt)
            .address(&self.terms.authorized_signer)
            .hash(&self.expiring_nonce_hash)
            .address(&escrow.contract())
            .chain(escrow.chain())
            .finish();
        EscrowChannelId::from_bytes(*id.as_bytes())
    }
}

fn payee_authorization(
    name: &str,
    domain: &EscrowDomain,
    channel: &EscrowChannelId,
    cumulative: CumulativeAmount,
    [nonce, deadline]: [Uint256; 2],
) -> Hash256 {
    let type_string = format!("{name}(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)");
    let authorization = Encoder::of(&type_string).channel(channel).cumulative(cumulative).uint(nonce).uint(deadline).finish();
    eip712::digest(domain.separator(), &authorization)
}

impl Statement for SettleAuthorization {
    type Domain = EscrowDomain;

    fn digest(&self, domain: &EscrowDomain) -> Result<Hash256, EvmError> {
        Ok(payee_authorization("SettleAuthorization", domain, &self.channel, self.cumulative, [self.nonce, self.deadline]))
    }

    fn chain(domain: &EscrowDomain) -> ChainId {
        domain.chain()
    }

    fn separator(domain: &EscrowDomain) -> Hash256 {
        *domain.separator()
    }
}

impl Statement for CloseAuthorization {
    type Domain = EscrowDomain;

    fn digest(&self, domain: &EscrowDomain) -> Result<Hash256, EvmError> {
        Ok(payee_authorization("CloseAuthorization", domain, &self.channel, self.cumulative, [self.nonce, self.deadline]))
    }

    fn chain(domain: &EscrowDomain) -> ChainId {
        domain.chain()
    }

    fn separator(domain: &EscrowDomain) -> Hash256 {
        *domain.separator()
    }
}

impl Statement for TempoCloseAuthorization {
    type Domain = EscrowDomain;

    fn digest(&self, domain: &EscrowDomain) -> Result<Hash256, EvmError> {
        let bits = EscrowScheme::TempoV2.amount_bits();
        if self.cumulative.units() >> bits != 0 {
            return Err(EvmError::AmountWidth { bits });
        }
        let close = Encoder::of("CloseAuthorization(bytes32 channelId,uint96 cumulativeAmount)")
            .channel(&self.channel)
            .cumulative(self.cumulative)
            .finish();
        Ok(eip712::digest(domain.separator(), &close))
    }

    fn chain(domain: &EscrowDomain) -> ChainId {
        domain.chain()
    }

    fn separator(domain: &EscrowDomain) -> Hash256 {
        *domain.separator()
    }
}
