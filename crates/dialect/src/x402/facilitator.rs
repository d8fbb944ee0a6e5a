//! The facilitator's API: `POST /verify`, `POST /settle`, `GET /supported`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::envelope::{PaymentPayload, PaymentRequirements, SettleResponse, VERSION, check_version, nullable};
use crate::limits::FACILITATOR_BODY_BYTES_MAX;
use crate::{DialectError, Object, json};

/// A request to verify or to settle: both have this body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FacilitatorRequest {
    /// [`VERSION`].
    pub x402_version: u64,
    /// The payment; for a server's own commands, the command in a payment's place.
    pub payment_payload: PaymentPayload,
    /// The offer it is for; when settling, its amount is what is charged.
    pub payment_requirements: PaymentRequirements,
}

/// An answer to `/verify`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyResponse {
    /// Whether the payment is good.
    pub is_valid: bool,
    /// Why not: one of [`Reason`](super::Reason), or any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_reason: Option<String>,
    /// Why not, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_message: Option<String>,
    /// Who pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    /// Extensions, as they came.
    #[serde(default, skip_serializing_if = "Object::is_empty", deserialize_with = "nullable")]
    pub extensions: Object,
    /// What the scheme adds.
    #[serde(default, skip_serializing_if = "Object::is_empty", deserialize_with = "nullable")]
    pub extra: Object,
}

/// A scheme on a chain that a facilitator serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SupportedKind {
    /// The version of x402.
    pub x402_version: u64,
    /// The scheme.
    pub scheme: String,
    /// The chain, as CAIP-2.
    pub network: String,
    /// What the scheme adds.
    #[serde(default, skip_serializing_if = "Object::is_empty", deserialize_with = "nullable")]
    pub extra: Object,
}

/// An answer to `/supported`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Supported {
    /// What is served.
    pub kinds: Vec<SupportedKind>,
    /// Extensions that are understood.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// Accounts that transactions come from, by family of chains: `eip155:*`.
    #[serde(default)]
    pub signers: BTreeMap<String, Vec<String>>,
}

macro_rules! body {
    ($($name:ident = $part:literal),*) => {$(
        impl $name {
            /// From a body.
            ///
            /// # Errors
            /// [`DialectError`].
            pub fn from_json(body: &[u8]) -> Result<Self, DialectError> {
                json::parse($part, body, FACILITATOR_BODY_BYTES_MAX)
            }

            /// The body.
            ///
            /// # Errors
            /// Never for a value that was made by hand or read.
            pub fn to_json(&self) -> Result<Vec<u8>, DialectError> {
                serde_json::to_vec(self).map_err(|error| DialectError::shape($part, &error))
            }
        }
    )*};
}

body!(FacilitatorRequest = "the request", VerifyResponse = "the answer", SettleResponse = "the answer", Supported = "the answer");

impl FacilitatorRequest {
    /// A request about a payment.
    #[must_use]
    pub const fn new(payment: PaymentPayload, requirements: PaymentRequirements) -> Self {
        Self { x402_version: VERSION, payment_payload: payment, payment_requirements: requirements }
    }

    /// Whether the versions are spoken and the payment is for these requirements. When settling, the amount may be lower than the accepted
    /// one, so it is not compared (H-6).
    ///
    /// # Errors
    /// [`DialectError::Version`] or [`DialectError::Field`].
    pub fn check(&self) -> Result<(), DialectError> {
        check_version(self.x402_version)?;
        check_version(self.payment_payload.x402_version)?;
        let accepted = &self.payment_payload.accepted;
        let mut offered = self.payment_requirements.clone();
        offered.amount.clone_from(&accepted.amount);
        if offered.is_accepted_by(accepted) {
            Ok(())
        } else {
            Err(DialectError::field("paymentPayload.accepted", "is not what the requirements offer"))
        }
    }
}
