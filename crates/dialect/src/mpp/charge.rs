//! The `charge` intent on EVM chains: one payment for one request.

use millstream_types::{Address, Amount, ChainId, Hash256, Uint256};
use millstream_voucher::evm::{
    EvmSignature, PERMIT2, PaymentWitness, Permit2Domain, Permit2Transfer, Signed, TokenPermissions, TransferAuthorization, TransferKind,
    TransferWitness,
};
use serde::{Deserialize, Serialize};

use super::offer::Offer;
use super::session::CredentialType;
use crate::fields::{optional, text};
use crate::limits::{MEMO_CHARS_MAX, SPLITS_MAX};
use crate::x402::PermittedFields;
use crate::{DialectError, Object};

/// The intent's name.
pub const CHARGE: &str = "charge";

const PAYLOAD: &str = "payload";

/// `request` of an offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargeRequest {
    /// The price, splits included.
    #[serde(with = "text")]
    pub amount: Amount,
    /// The token.
    #[serde(with = "text")]
    pub currency: Address,
    /// Who is paid what no split takes.
    #[serde(with = "text")]
    pub recipient: Address,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The provider's own reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// What the method adds.
    pub method_details: ChargeDetails,
}

/// What the method adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargeDetails {
    /// The chain.
    pub chain_id: u64,
    /// Permit2, where it is not at its usual address.
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    pub permit2_address: Option<Address>,
    /// What may be answered with, the preferred first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_types: Option<Vec<CredentialType>>,
    /// The token's decimals, for display.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimals: Option<u8>,
    /// Who else is paid: at most ten, less than the price together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<Split>,
}

/// A part of the price that goes to somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Who is paid.
    #[serde(with = "text")]
    pub recipient: Address,
    /// What.
    #[serde(with = "text")]
    pub amount: Amount,
    /// For people; at most 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memo: Option<String>,
}

/// What Permit2 is asked to move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// An entry for each transfer.
    pub permitted: Vec<PermittedFields>,
    /// Any value that the payer has not used.
    pub nonce: Uint256,
    /// Unix seconds.
    pub deadline: Uint256,
}

/// One transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransferDetails {
    /// Who is paid.
    #[serde(with = "text")]
    pub to: Address,
    /// Exactly what.
    #[serde(with = "text")]
    pub requested_amount: Amount,
}

/// What binds the payment to the offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WitnessFields {
    /// [`Offer::hash`].
    #[serde(with = "text")]
    pub challenge_hash: Hash256,
    /// The provider's own reference; empty when the offer has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub external_id: String,
}

/// `payload` of a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum ChargePayload {
    /// The server submits to Permit2; the only one that can split.
    Permit2 {
        /// What may be moved.
        permit: Permit,
        /// What is moved: the primary recipient first, then the splits in their order.
        transfer_details: Vec<TransferDetails>,
        /// The offer.
        witness: WitnessFields,
        /// The payer's.
        #[serde(with = "text")]
        signature: EvmSignature,
    },
    /// The server submits to the token.
    Authorization {
        /// Who pays.
        #[serde(with = "text")]
        from: Address,
        /// Who is paid.
        #[serde(with = "text")]
        to: Address,
        /// What.
        #[serde(with = "text")]
        value: Amount,
        /// Unix seconds.
        valid_after: Uint256,
        /// Unix seconds.
        valid_before: Uint256,
        /// [`Offer::hash`].
        #[serde(with = "text")]
        nonce: Hash256,
        /// The payer's.
        #[serde(with = "text")]
        signature: EvmSignature,
    },
    /// The server sends this signed transaction.
    Transaction {
        /// The transaction, as hexadecimal of its RLP; not a signature, whatever it is called.
        signature: String,
    },
    /// The payer has sent it.
    Hash {
        /// The transaction.
        #[serde(with = "text")]
        hash: Hash256,
    },
}

impl ChargeRequest {
    /// What the primary recipient gets: the price less the splits (H-30).
    ///
    /// # Errors
    /// [`DialectError::Field`] or [`DialectError::Count`] when the splits take all of it or more, are too many, or have a memo too long.
    pub fn primary_amount(&self) -> Result<Amount, DialectError> {
        let splits = &self.method_details.splits;
        if splits.len() > SPLITS_MAX {
            return Err(DialectError::Count { part: "splits", count: splits.len(), min: 0, max: SPLITS_MAX });
        }
        if splits.iter().any(|split| split.memo.as_ref().is_some_and(|memo| memo.chars().count() > MEMO_CHARS_MAX)) {
            return Err(DialectError::field("memo", "has more than 256 characters"));
        }
        let rest = splits.iter().try_fold(self.amount, |rest, split| rest.checked_sub(split.amount));
        match rest {
            Ok(rest) if !rest.is_zero() || splits.is_empty() => Ok(rest),
            Ok(_) | Err(_) => Err(DialectError::field("splits", "take the whole amount or more")),
        }
    }

    /// The transfers that a payment makes, in order.
    ///
    /// # Errors
    /// See [`ChargeRequest::primary_amount`].
    pub fn transfers(&self) -> Result<Vec<TransferDetails>, DialectError> {
        let primary = TransferDetails { to: self.recipient, requested_amount: self.primary_amount()? };
        let splits = self.method_details.splits.iter().map(|split| TransferDetails { to: split.recipient, requested_amount: split.amount });
        Ok(core::iter::once(primary).chain(splits).collect())
    }

    /// Whether the offer takes a kind of credential.
    #[must_use]
    pub fn takes(&self, kind: CredentialType) -> bool {
        let listed = match &self.method_details.credential_types {
            Some(types) => types.contains(&kind),
            None => matches!(kind, CredentialType::Transaction | CredentialType::Hash),
        };
        listed && (kind == CredentialType::Permit2 || self.method_details.splits.is_empty())
    }
}

impl ChargePayload {
    /// From a credential's `payload`.
    ///
    /// # Errors
    /// [`DialectError::Shape`].
    pub fn from_object(payload: &Object) -> Result<Self, DialectError> {
        payload.read(PAYLOAD)
    }

    /// A credential's `payload`.
    ///
    /// # Errors
    /// Never for a payload that was made by hand or read.
    pub fn to_object(&self) -> Result<Object, DialectError> {
        Object::of(PAYLOAD, self)
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> CredentialType {
        match self {
            Self::Permit2 { .. } => CredentialType::Permit2,
            Self::Authorization { .. } => CredentialType::Authorization,
            Self::Transaction { .. } => CredentialType::Transaction,
            Self::Hash { .. } => CredentialType::Hash,
        }
    }

    /// Whether the payload pays what the offer asks, as far as bytes tell (H-31). Signatures, moments and balances come after; a transaction
    /// or its hash say nothing by themselves.
    ///
    /// # Errors
    /// [`DialectError::Field`], with the first field that does not fit.
    pub fn check(&self, offer: &Offer, request: &ChargeRequest) -> Result<(), DialectError> {
        if !request.takes(self.kind()) {
            return Err(DialectError::field("type", "the offer does not take it"));
        }
        let transfers = request.transfers()?;
        let checks = match self {
            Self::Permit2 { permit, transfer_details, witness, .. } => {
                let covers = |(permitted, details): (&PermittedFields, &TransferDetails)| permitted.amount >= details.requested_amount;
                vec![
                    (witness.challenge_hash == offer.hash(), "challengeHash", "is another offer's"),
                    (witness.external_id == request.external_id.clone().unwrap_or_default(), "externalId", "is not the offer's"),
                    (*transfer_details == transfers, "transferDetails", "are not what the offer asks"),
                    (permit.permitted.len() == transfers.len(), "permitted", "has not an entry for each transfer"),
                    (permit.permitted.iter().all(|entry| entry.token == request.currency), "token", "is not the offer's currency"),
                    (permit.permitted.iter().zip(&transfers).all(covers), "permitted", "is less than what is moved"),
                ]
            }
            Self::Authorization { to, value, nonce, .. } => vec![
                (*nonce == offer.hash(), "nonce", "is another offer's"),
                (*to == request.recipient, "to", "is not the offer's recipient"),
                (*value == request.amount, "value", "is not the offer's amount"),
            ],
            Self::Transaction { .. } | Self::Hash { .. } => Vec::new(),
        };
        let failed = checks.into_iter().find(|(holds, ..)| !holds);
        failed.map_or(Ok(()), |(_, field, reason)| Err(DialectError::field(field, reason)))
    }

    /// The transfer of the token that was signed, for the token's domain.
    #[must_use]
    pub fn signed_transfer(&self) -> Option<Signed<TransferAuthorization>> {
        let Self::Authorization { from, to, value, valid_after, valid_before, nonce, signature } = self else {
            return None;
        };
        let transfer = TransferAuthorization {
            kind: TransferKind::Transfer,
            from: *from,
            to: *to,
            value: *value,
            valid_after: *valid_after,
            valid_before: *valid_before,
            nonce: *nonce,
        };
        Some(Signed::new(transfer, signature.clone()))
    }

    /// The transfer of Permit2 that was signed, and its domain. The spender is the account that submits it.
    #[must_use]
    pub fn signed_permit(&self, request: &ChargeRequest, spender: Address) -> Option<(Signed<Permit2Transfer>, Permit2Domain)> {
        let Self::Permit2 { permit, witness, signature, .. } = self else {
            return None;
        };
        let permitted = permit.permitted.iter().map(|entry| TokenPermissions { token: entry.token, amount: entry.amount }).collect();
        let payment = PaymentWitness { offer_hash: witness.challenge_hash, external_id: witness.external_id.clone() };
        let transfer = Permit2Transfer {
            permitted,
            spender,
            nonce: permit.nonce,
            deadline: permit.deadline,
            witness: TransferWitness::Payment(payment),
        };
        let details = &request.method_details;
        let domain = Permit2Domain::new(ChainId::new(details.chain_id), details.permit2_address.unwrap_or(PERMIT2));
        Some((Signed::new(transfer, signature.clone()), domain))
    }
}
