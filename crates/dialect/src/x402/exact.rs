//! `exact` and `upto` on EVM chains: one payment, one transaction.

use millstream_types::{Address, Amount, ChainId, Hash256, Uint256};
use millstream_voucher::evm::{
    EvmSignature, PERMIT2, Permit2Domain, Permit2Transfer, Signed, TokenDomain, TokenPermissions, TransferAuthorization, TransferKind,
    TransferWitness,
};
use serde::{Deserialize, Serialize};

use super::batch::PermittedFields;
use super::envelope::PaymentRequirements;
use crate::fields::{Text, text};
use crate::{DialectError, Object};

/// The scheme that pays exactly the price.
pub const EXACT: &str = "exact";
/// The scheme that pays at most the price.
pub const UPTO: &str = "upto";

const PAYLOAD: &str = "payload";

/// How a token is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferMethod {
    /// By the token itself.
    #[default]
    Eip3009,
    /// By Permit2.
    Permit2,
}

/// A transfer of ERC-3009 as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Erc3009Fields {
    /// Who pays.
    #[serde(with = "text")]
    pub from: Address,
    /// Who is paid.
    #[serde(with = "text")]
    pub to: Address,
    /// What is paid.
    #[serde(with = "text")]
    pub value: Amount,
    /// Unix seconds.
    pub valid_after: Uint256,
    /// Unix seconds.
    pub valid_before: Uint256,
    /// Used once.
    #[serde(with = "text")]
    pub nonce: Hash256,
}

/// A payment by ERC-3009.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erc3009Payment {
    /// The payer's.
    #[serde(with = "text")]
    pub signature: EvmSignature,
    /// What is signed.
    pub authorization: Erc3009Fields,
}

/// The witness of an `exact` payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExactWitness {
    /// Who is paid.
    #[serde(with = "text")]
    pub to: Address,
    /// Unix seconds.
    pub valid_after: Uint256,
}

/// The witness of an `upto` payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UptoWitness {
    /// Who is paid.
    #[serde(with = "text")]
    pub to: Address,
    /// Who alone may settle.
    #[serde(with = "text")]
    pub facilitator: Address,
    /// Unix seconds.
    pub valid_after: Uint256,
}

/// A transfer of Permit2 as it travels, with its scheme's witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit2Fields<W> {
    /// Who pays.
    #[serde(with = "text")]
    pub from: Address,
    /// What may be taken.
    pub permitted: PermittedFields,
    /// The scheme's proxy.
    #[serde(with = "text")]
    pub spender: Address,
    /// Any value that the payer has not used.
    pub nonce: Uint256,
    /// Unix seconds.
    pub deadline: Uint256,
    /// What it is for.
    pub witness: W,
}

/// A payment by Permit2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Permit2Payment<W> {
    /// The payer's.
    #[serde(with = "text")]
    pub signature: EvmSignature,
    /// What is signed.
    pub permit2_authorization: Permit2Fields<W>,
}

/// `payload` of an `exact` payment: told apart by the member that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ExactPayload {
    /// By ERC-3009: `authorization`.
    Erc3009(Erc3009Payment),
    /// By Permit2: `permit2Authorization`.
    Permit2(Permit2Payment<ExactWitness>),
}

/// `payload` of an `upto` payment.
pub type UptoPayload = Permit2Payment<UptoWitness>;

/// An `exact` or `upto` offer on an EVM chain, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct ExactOffer {
    /// The chain.
    pub chain: ChainId,
    /// The price.
    pub amount: Amount,
    /// The token.
    pub asset: Address,
    /// Who is paid.
    pub pay_to: Address,
    /// How the token is pulled.
    pub method: TransferMethod,
    /// Name and version in the token's domain; Permit2 needs neither.
    pub token_domain: Option<(String, String)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExactExtra {
    #[serde(default)]
    asset_transfer_method: Option<TransferMethod>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    version: Option<String>,
}

impl Erc3009Payment {
    /// The transfer that was signed, for the token's domain.
    #[must_use]
    pub fn signed(&self) -> Signed<TransferAuthorization> {
        let fields = self.authorization;
        let transfer = TransferAuthorization {
            kind: TransferKind::Transfer,
            from: fields.from,
            to: fields.to,
            value: fields.value,
            valid_after: fields.valid_after,
            valid_before: fields.valid_before,
            nonce: fields.nonce,
        };
        Signed::new(transfer, self.signature.clone())
    }
}

impl<W: Copy + Into<TransferWitness>> Permit2Payment<W> {
    /// The transfer that was signed, and its domain.
    #[must_use]
    pub fn signed(&self, chain: ChainId) -> (Signed<Permit2Transfer>, Permit2Domain) {
        let fields = &self.permit2_authorization;
        let transfer = Permit2Transfer {
            permitted: vec![TokenPermissions { token: fields.permitted.token, amount: fields.permitted.amount }],
            spender: fields.spender,
            nonce: fields.nonce,
            deadline: fields.deadline,
            witness: fields.witness.into(),
        };
        (Signed::new(transfer, self.signature.clone()), Permit2Domain::new(chain, PERMIT2))
    }
}

impl From<ExactWitness> for TransferWitness {
    fn from(witness: ExactWitness) -> Self {
        Self::X402Exact { to: witness.to, valid_after: witness.valid_after }
    }
}

impl From<UptoWitness> for TransferWitness {
    fn from(witness: UptoWitness) -> Self {
        Self::X402Upto { to: witness.to, facilitator: witness.facilitator, valid_after: witness.valid_after }
    }
}

impl ExactPayload {
    /// From a payment's `payload`.
    ///
    /// # Errors
    /// [`DialectError::Shape`], or [`DialectError::Field`] unless exactly one of the two members is there.
    pub fn from_object(payload: &Object) -> Result<Self, DialectError> {
        match (payload.get("authorization").is_some(), payload.get("permit2Authorization").is_some()) {
            (true, false) => payload.read(PAYLOAD).map(Self::Erc3009),
            (false, true) => payload.read(PAYLOAD).map(Self::Permit2),
            (true, true) | (false, false) => Err(DialectError::field("payload", "expected either authorization or permit2Authorization")),
        }
    }

    /// A payment's `payload`.
    ///
    /// # Errors
    /// Never for a payload that was made by hand or read.
    pub fn to_object(&self) -> Result<Object, DialectError> {
        Object::of(PAYLOAD, self)
    }
}

impl ExactOffer {
    /// From an offer of either scheme.
    ///
    /// # Errors
    /// [`DialectError`]: it is of another scheme or family of chains, or a field is not what it has to be.
    pub fn from_requirements(offer: &PaymentRequirements) -> Result<Self, DialectError> {
        if offer.scheme != EXACT && offer.scheme != UPTO {
            return Err(DialectError::field("scheme", "expected exact or upto"));
        }
        let address = |field, text: &str| Address::read(text).map_err(|_| DialectError::field(field, "expected an address"));
        let extra: ExactExtra = offer.extra.read("extra")?;
        let upto = offer.scheme == UPTO;
        Ok(Self {
            chain: offer.network()?.evm_chain().ok_or(DialectError::field("network", "expected an EVM chain"))?,
            amount: offer.amount()?,
            asset: address("asset", &offer.asset)?,
            pay_to: address("payTo", &offer.pay_to)?,
            method: if upto { TransferMethod::Permit2 } else { extra.asset_transfer_method.unwrap_or_default() },
            token_domain: extra.name.zip(extra.version),
        })
    }

    /// The domain that a payment by ERC-3009 is signed for.
    #[must_use]
    pub fn token(&self) -> Option<TokenDomain> {
        self.token_domain.as_ref().map(|(name, version)| TokenDomain::new(name, version, self.chain, self.asset))
    }
}
