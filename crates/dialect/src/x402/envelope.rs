//! The envelopes of x402: what is the same for every scheme.

use millstream_types::{Amount, Network, parse_base_units};
use serde::{Deserialize, Serialize};

use crate::codec::Alphabet;
use crate::limits::{HEADER_BYTES_MAX, OFFERS_MAX};
use crate::{DialectError, Object};

/// The version that is spoken.
pub const VERSION: u64 = 2;

/// Header of a 402: the offers.
pub const PAYMENT_REQUIRED: &str = "PAYMENT-REQUIRED";
/// Header of a request: the payment.
pub const PAYMENT_SIGNATURE: &str = "PAYMENT-SIGNATURE";
/// Header of a response: what came of the payment.
pub const PAYMENT_RESPONSE: &str = "PAYMENT-RESPONSE";
/// Names that a payment may come under, the first present one counts (H-1).
pub const PAYMENT_SIGNATURE_ACCEPTED: [&str; 2] = [PAYMENT_SIGNATURE, "X-PAYMENT"];
/// Names that an outcome may come under, the first present one counts (H-1).
pub const PAYMENT_RESPONSE_ACCEPTED: [&str; 2] = [PAYMENT_RESPONSE, "X-PAYMENT-RESPONSE"];

/// What is sold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// Where it is.
    pub url: String,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Everything else, as it came: the service's name, tags, an icon.
    #[serde(flatten)]
    pub more: Object,
}

/// One offer: a way to pay. Kept as text, because a payer gives the chosen one back unchanged and need not understand the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequirements {
    /// The scheme: `batch-settlement`, `exact`, …
    pub scheme: String,
    /// The chain, as CAIP-2.
    pub network: String,
    /// The price in base units: exact, or the most, as the scheme has it.
    pub amount: String,
    /// The token.
    pub asset: String,
    /// Who is paid.
    pub pay_to: String,
    /// Seconds that the payment has to be good for.
    pub max_timeout_seconds: u64,
    /// What the scheme adds.
    #[serde(default, skip_serializing_if = "Object::is_empty", deserialize_with = "nullable")]
    pub extra: Object,
    /// Fields that no version of the specification has yet, as they came.
    #[serde(flatten)]
    pub more: Object,
}

/// The offers of a 402 (`PAYMENT-REQUIRED`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequired {
    /// [`VERSION`].
    pub x402_version: u64,
    /// Why the payment that came was not taken; absent when none came. One of [`Reason`](super::Reason), or any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is sold.
    pub resource: Resource,
    /// The ways to pay, at least one, the preferred one first.
    pub accepts: Vec<PaymentRequirements>,
    /// Extensions, as they came.
    #[serde(default, skip_serializing_if = "Object::is_empty", deserialize_with = "nullable")]
    pub extensions: Object,
}

/// A payment (`PAYMENT-SIGNATURE`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentPayload {
    /// [`VERSION`].
    pub x402_version: u64,
    /// What is bought, echoed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// The chosen offer, echoed; `extra` may have more.
    pub accepted: PaymentRequirements,
    /// The scheme's own.
    pub payload: Object,
    /// Extensions, as they came.
    #[serde(default, skip_serializing_if = "Object::is_empty", deserialize_with = "nullable")]
    pub extensions: Object,
}

/// What came of a payment (`PAYMENT-RESPONSE`), and a facilitator's answer to `/settle`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettleResponse {
    /// Whether it was taken.
    pub success: bool,
    /// Why not: one of [`Reason`](super::Reason), or any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<String>,
    /// Why not, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Who paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    /// The transaction; empty when nothing went to the chain.
    pub transaction: String,
    /// The chain, as CAIP-2.
    pub network: String,
    /// What was moved on the chain, in base units; empty when nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// Extensions, as they came.
    #[serde(default, skip_serializing_if = "Object::is_empty", deserialize_with = "nullable")]
    pub extensions: Object,
    /// What the scheme adds.
    #[serde(default, skip_serializing_if = "Object::is_empty", deserialize_with = "nullable")]
    pub extra: Object,
}

/// `null` where an object may be absent is absent, as the published clients read it.
pub(super) fn nullable<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
    Option::<Object>::deserialize(deserializer).map(Option::unwrap_or_default)
}

pub(super) fn check_version(got: u64) -> Result<(), DialectError> {
    if got == VERSION { Ok(()) } else { Err(DialectError::Version { got, expected: VERSION }) }
}

impl PaymentRequirements {
    /// The price, if it is one in base units of 128 bits.
    ///
    /// # Errors
    /// [`DialectError::Integer`].
    pub fn amount(&self) -> Result<Amount, DialectError> {
        parse_base_units(&self.amount).map_err(|source| DialectError::Integer { field: "amount", source })
    }

    /// The chain, if it is one of CAIP-2.
    ///
    /// # Errors
    /// [`DialectError::Network`].
    pub fn network(&self) -> Result<Network, DialectError> {
        self.network.parse().map_err(|source| DialectError::Network { field: "network", source })
    }

    /// Whether this offer is the one that a payer chose (H-5): all that was offered is equal, and only `extra` may have more.
    #[must_use]
    pub fn is_accepted_by(&self, accepted: &Self) -> bool {
        self.scheme == accepted.scheme
            && self.network == accepted.network
            && self.amount == accepted.amount
            && self.asset == accepted.asset
            && self.pay_to == accepted.pay_to
            && self.max_timeout_seconds == accepted.max_timeout_seconds
            && self.more == accepted.more
            && self.extra.is_within(&accepted.extra)
    }
}

impl PaymentRequired {
    /// The header's value.
    ///
    /// # Errors
    /// [`DialectError::Count`] without an offer or with more than [`OFFERS_MAX`]; [`DialectError::TooLong`].
    pub fn to_header(&self) -> Result<String, DialectError> {
        self.check()?;
        encode(PAYMENT_REQUIRED, self)
    }

    /// From the header's value.
    ///
    /// # Errors
    /// [`DialectError`].
    pub fn from_header(value: &str) -> Result<Self, DialectError> {
        let required: Self = Alphabet::Padded.decode_json(PAYMENT_REQUIRED, value, HEADER_BYTES_MAX)?;
        required.check()?;
        Ok(required)
    }

    /// The first of these offers that the payment is for.
    #[must_use]
    pub fn matching(&self, payment: &PaymentPayload) -> Option<&PaymentRequirements> {
        self.accepts.iter().find(|offer| offer.is_accepted_by(&payment.accepted))
    }

    fn check(&self) -> Result<(), DialectError> {
        check_version(self.x402_version)?;
        let count = self.accepts.len();
        if (1..=OFFERS_MAX).contains(&count) {
            Ok(())
        } else {
            Err(DialectError::Count { part: "accepts", count, min: 1, max: OFFERS_MAX })
        }
    }
}

impl PaymentPayload {
    /// The header's value.
    ///
    /// # Errors
    /// [`DialectError::TooLong`].
    pub fn to_header(&self) -> Result<String, DialectError> {
        check_version(self.x402_version)?;
        encode(PAYMENT_SIGNATURE, self)
    }

    /// From the header's value.
    ///
    /// # Errors
    /// [`DialectError`].
    pub fn from_header(value: &str) -> Result<Self, DialectError> {
        let payment: Self = Alphabet::Padded.decode_json(PAYMENT_SIGNATURE, value, HEADER_BYTES_MAX)?;
        check_version(payment.x402_version)?;
        Ok(payment)
    }
}

impl SettleResponse {
    /// The header's value.
    ///
    /// # Errors
    /// [`DialectError::TooLong`].
    pub fn to_header(&self) -> Result<String, DialectError> {
        encode(PAYMENT_RESPONSE, self)
    }

    /// From the header's value.
    ///
    /// # Errors
    /// [`DialectError`].
    pub fn from_header(value: &str) -> Result<Self, DialectError> {
        Alphabet::Padded.decode_json(PAYMENT_RESPONSE, value, HEADER_BYTES_MAX)
    }
}

fn encode<T: Serialize>(part: &'static str, value: &T) -> Result<String, DialectError> {
    let text = Alphabet::Padded.encode_json(part, value)?;
    if text.len() > HEADER_BYTES_MAX {
        return Err(DialectError::TooLong { part, bytes: text.len(), max: HEADER_BYTES_MAX });
    }
    Ok(text)
}
