//! The domains that statements are signed for: an escrow of one of four kinds, and Permit2.

use millstream_types::{Address, ChainId, Hash256};

use super::eip712;

/// A kind of escrow contract; it fixes the domain's name and the type of its vouchers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EscrowScheme {
    /// x402 `batch-settlement`: `Voucher(bytes32 channelId,uint128 maxClaimableAmount)`.
    X402Batch,
    /// MPP `evm/session`: `Voucher(bytes32 channelId,uint128 cumulativeAmount)`.
    EvmSession,
    /// MPP `tempo/session`, version 1, a contract: the voucher of `evm/session` in a domain of its own.
    TempoV1,
    /// MPP `tempo/session`, version 2, a precompile: `Voucher(bytes32 channelId,uint96 cumulativeAmount)`.
    TempoV2,
}

/// One escrow contract on one chain, as signatures see it. The separator is hashed once, when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EscrowDomain {
    scheme: EscrowScheme,
    chain: ChainId,
    contract: Address,
    separator: Hash256,
}

/// Permit2 on one chain, as signatures see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Permit2Domain {
    chain: ChainId,
    contract: Address,
    separator: Hash256,
}

impl EscrowScheme {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::X402Batch, Self::EvmSession, Self::TempoV1, Self::TempoV2];

    /// The name in the domain; its version is `1`.
    #[must_use]
    pub const fn domain_name(self) -> &'static str {
        match self {
            Self::X402Batch => "x402 Batch Settlement",
            Self::EvmSession => "EVM Payment Channel",
            Self::TempoV1 => "Tempo Stream Channel",
            Self::TempoV2 => "TIP20 Channel Reserve",
        }
    }

    /// The type of its vouchers.
    #[must_use]
    pub const fn voucher_type(self) -> &'static str {
        match self {
            Self::X402Batch => "Voucher(bytes32 channelId,uint128 maxClaimableAmount)",
            Self::EvmSession | Self::TempoV1 => "Voucher(bytes32 channelId,uint128 cumulativeAmount)",
            Self::TempoV2 => "Voucher(bytes32 channelId,uint96 cumulativeAmount)",
        }
    }

    /// Bits of an amount in its vouchers.
    #[must_use]
    pub const fn amount_bits(self) -> u32 {
        match self {
            Self::X402Batch | Self::EvmSession | Self::TempoV1 => 128,
            Self::TempoV2 => 96,
        }
    }
}

impl EscrowDomain {
    /// The domain of a contract.
    #[must_use]
    pub fn new(scheme: EscrowScheme, chain: ChainId, contract: Address) -> Self {
        let separator = eip712::domain_separator(scheme.domain_name(), Some("1"), chain, &contract);
        Self { scheme, chain, contract, separator }
    }

    /// The kind of escrow.
    #[must_use]
    pub const fn scheme(&self) -> EscrowScheme {
        self.scheme
    }

    /// The chain.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// The contract.
    #[must_use]
    pub const fn contract(&self) -> Address {
        self.contract
    }

    /// The separator.
    #[must_use]
    pub const fn separator(&self) -> &Hash256 {
        &self.separator
    }
}

impl Permit2Domain {
    /// The domain of Permit2 at this address; it is [`PERMIT2`](super::PERMIT2) almost everywhere.
    #[must_use]
    pub fn new(chain: ChainId, contract: Address) -> Self {
        Self { chain, contract, separator: eip712::domain_separator("Permit2", None, chain, &contract) }
    }

    /// The chain.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// The contract.
    #[must_use]
    pub const fn contract(&self) -> Address {
        self.contract
    }

    /// The separator.
    #[must_use]
    pub const fn separator(&self) -> &Hash256 {
        &self.separator
    }
}
