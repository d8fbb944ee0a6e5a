//! ERC-3009: a transfer that somebody else submits, signed for the token itself.

use millstream_types::{Address, Amount, ChainId, Hash256, Uint256};

use super::eip712::{self, Encoder};
use super::signed::{EvmError, Statement};

const TRANSFER_TYPE: &str =
    "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)";
const RECEIVE_TYPE: &str =
    "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)";

/// A token on one chain, as signatures see it. The separator is hashed once, when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenDomain {
    chain: ChainId,
    token: Address,
    separator: Hash256,
}

/// Who may submit a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransferKind {
    /// Anybody: `transferWithAuthorization`.
    Transfer,
    /// The recipient only: `receiveWithAuthorization`. Contracts pull deposits by it, so that nobody can submit it around them.
    Receive,
}

/// A transfer of ERC-3009.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransferAuthorization {
    /// Who may submit it.
    pub kind: TransferKind,
    /// Who pays, and signs.
    pub from: Address,
    /// Who is paid.
    pub to: Address,
    /// What is paid, in base units.
    pub value: Amount,
    /// Unix seconds: good after, exclusive.
    pub valid_after: Uint256,
    /// Unix seconds: good before, exclusive.
    pub valid_before: Uint256,
    /// Used once for each payer, in any order.
    pub nonce: Hash256,
}

impl TokenDomain {
    /// The domain of a token, with the name and version that its own domain has; these need not be those that it shows.
    #[must_use]
    pub fn new(name: &str, version: &str, chain: ChainId, token: Address) -> Self {
        Self { chain, token, separator: eip712::domain_separator(name, Some(version), chain, &token) }
    }

    /// The chain.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// The token.
    #[must_use]
    pub const fn token(&self) -> Address {
        self.token
    }

    /// The separator.
    #[must_use]
    pub const fn separator(&self) -> &Hash256 {
        &self.separator
    }
}

impl Statement for TransferAuthorization {
    type Domain = TokenDomain;

    fn digest(&self, domain: &TokenDomain) -> Result<Hash256, EvmError> {
        let type_string = match self.kind {
            TransferKind::Transfer => TRANSFER_TYPE,
            TransferKind::Receive => RECEIVE_TYPE,
        };
        let transfer = Encoder::of(type_string)
            .address(&self.from)
            .address(&self.to)
            .amount(self.value)
            .uint(self.valid_after)
            .uint(self.valid_before)
            .hash(&self.nonce)
            .finish();
        Ok(eip712::digest(&domain.separator, &transfer))
    }

    fn chain(domain: &TokenDomain) -> ChainId {
        domain.chain
    }

    fn separator(domain: &TokenDomain) -> Hash256 {
        domain.separator
    }
}
