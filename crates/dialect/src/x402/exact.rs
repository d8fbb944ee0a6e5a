//! `exact` and `upto` on EVM chains: one payment, one transaction.

use millstream_types::{Address, Amount, ChainId, Hash256, Network, Uint256};
use millstream_voucher::evm::{
    EvmSignature, PERMIT2, Permit2Domain, Permit2Transfer, Signed, TokenDomain, TokenPermissions, TransferAuthorization, TransferKind,
    TransferWitness, X402_EXACT_PERMIT2_PROXY, eip55,
};
use serde::{Deserialize, Serialize};

use super::batch::PermittedFields;
use super::envelope::PaymentRequirements;
use super::reason::Reason;
use crate::fields::{Text, text};
use crate::{DialectError, Object};

/// The scheme that pays exactly the price.
pub const EXACT: &str = "exact";
/// The scheme that pays at most the price.
pub const UPTO: &str = "upto";

const PAYLOAD: &str = "payload";
/// Seconds that a payment has to be good for still, so that it can be sent: what the published facilitators ask.
const SETTLE_SECS: u64 = 6;

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

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExactExtra {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asset_transfer_method: Option<TransferMethod>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
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

    /// Who pays.
    #[must_use]
    pub const fn payer(&self) -> Address {
        match self {
            Self::Erc3009(payment) => payment.authorization.from,
            Self::Permit2(payment) => payment.permit2_authorization.from,
        }
    }

    /// Whether the payload pays what the offer asks at `now_secs` (Unix seconds), as far as its fields tell (H-35): the way it is moved, the
    /// spender, the token, who is paid, when it ends and begins, the amount. Signature, balance and nonce come after.
    ///
    /// # Errors
    /// The reason, of the first that fails.
    pub fn check(&self, offer: &ExactOffer, now_secs: u64) -> Result<(), Reason> {
        let (now, soon) = (Uint256::from(now_secs), Uint256::from(now_secs.saturating_add(SETTLE_SECS)));
        let checks = match self {
            Self::Erc3009(payment) => {
                let fields = &payment.authorization;
                [
                    (offer.method == TransferMethod::Eip3009, Reason::UnsupportedPayloadType),
                    (offer.token_domain.is_some(), Reason::ExactMissingEip712Domain),
                    (fields.to == offer.pay_to, Reason::ExactRecipientMismatch),
                    (fields.valid_before >= soon, Reason::ExactPayloadAuthorizationValidBefore),
                    // The token wants it to be past.
                    (fields.valid_after < now, Reason::ExactPayloadAuthorizationValidAfter),
                    (fields.value == offer.amount, Reason::ExactPayloadAuthorizationValueMismatch),
                ]
                .to_vec()
            }
            Self::Permit2(payment) => {
                let fields = &payment.permit2_authorization;
                [
                    (offer.method == TransferMethod::Permit2, Reason::UnsupportedPayloadType),
                    (fields.spender == X402_EXACT_PERMIT2_PROXY, Reason::InvalidPermit2Spender),
                    (fields.permitted.token == offer.asset, Reason::Permit2TokenMismatch),
                    (fields.witness.to == offer.pay_to, Reason::InvalidPermit2RecipientMismatch),
                    (fields.deadline >= soon, Reason::Permit2DeadlineExpired),
                    (fields.witness.valid_after <= now, Reason::Permit2NotYetValid),
                    (fields.permitted.amount == offer.amount, Reason::Permit2AmountMismatch),
                ]
                .to_vec()
            }
        };
        checks.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, reason)| Err(reason))
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

    /// The `exact` offer as it travels, good for so many seconds.
    ///
    /// # Errors
    /// Never for an offer that was made by hand or read.
    pub fn to_requirements(&self, max_timeout_secs: u64) -> Result<PaymentRequirements, DialectError> {
        let (name, version) = self.token_domain.clone().unzip();
        // What is usual is not said: clients from before Permit2 refuse what they do not know.
        let asset_transfer_method = Some(self.method).filter(|method| *method != TransferMethod::default());
        Ok(PaymentRequirements {
            scheme: EXACT.to_owned(),
            network: Network::evm(self.chain).to_string(),
            amount: self.amount.to_string(),
            asset: eip55(&self.asset),
            pay_to: eip55(&self.pay_to),
            max_timeout_seconds: max_timeout_secs,
            extra: Object::of("extra", &ExactExtra { asset_transfer_method, name, version })?,
            more: Object::default(),
        })
    }

    /// The domain that a payment by ERC-3009 is signed for.
    #[must_use]
    pub fn token(&self) -> Option<TokenDomain> {
        self.token_domain.as_ref().map(|(name, version)| TokenDomain::new(name, version, self.chain, self.asset))
    }
}
