//! Problems: the body of a refusal (RFC 9457).

use serde::{Deserialize, Serialize};

use crate::limits::FACILITATOR_BODY_BYTES_MAX;
use crate::{DialectError, Object, json};

/// The media type of the body.
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";
/// What types begin with.
pub const PROBLEM_BASE: &str = "https://paymentauth.org/problems/";

macro_rules! problems {
    ($($name:ident = $slug:literal, $status:literal, $title:literal;)*) => {
        /// A type of problem that the drafts name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ProblemKind {
            $(#[doc = concat!("`", $slug, "`, status ", stringify!($status))] $name,)*
        }

        impl ProblemKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What follows [`PROBLEM_BASE`] in the type.
            #[must_use]
            pub const fn slug(self) -> &'static str {
                match self {
                    $(Self::$name => $slug,)*
                }
            }

            /// The status of the response.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                }
            }

            /// The title.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                }
            }
        }
    };
}

problems! {
    PaymentRequired = "payment-required", 402, "Payment Required";
    PaymentInsufficient = "payment-insufficient", 402, "Payment Insufficient";
    PaymentExpired = "payment-expired", 402, "Payment Expired";
    VerificationFailed = "verification-failed", 402, "Payment Verification Failed";
    MethodUnsupported = "method-unsupported", 400, "Method Unsupported";
    MalformedCredential = "malformed-credential", 402, "Malformed Credential";
    InvalidOffer = "invalid-challenge", 402, "Invalid Challenge";
    InvalidSignature = "session/invalid-signature", 402, "Invalid Signature";
    SignerMismatch = "session/signer-mismatch", 402, "Signer Mismatch";
    AmountExceedsDeposit = "session/amount-exceeds-deposit", 402, "Amount Exceeds Deposit";
    DeltaTooSmall = "session/delta-too-small", 402, "Delta Too Small";
    ChannelNotFound = "session/channel-not-found", 410, "Channel Not Found";
    ChannelFinalized = "session/channel-finalized", 410, "Channel Finalized";
    OfferNotFound = "session/challenge-not-found", 402, "Challenge Not Found";
    InsufficientBalance = "session/insufficient-balance", 402, "Insufficient Balance";
    TransactionReverted = "session/transaction-reverted", 409, "Transaction Reverted";
}

impl ProblemKind {
    /// The type.
    #[must_use]
    pub fn uri(self) -> String {
        format!("{PROBLEM_BASE}{}", self.slug())
    }

    /// From a type; nothing for one that the drafts do not name.
    #[must_use]
    pub fn from_uri(uri: &str) -> Option<Self> {
        let slug = uri.strip_prefix(PROBLEM_BASE)?;
        Self::ALL.iter().copied().find(|kind| kind.slug() == slug)
    }

    /// Whether the response has to carry an offer: every 402 does.
    #[must_use]
    pub const fn needs_offer(self) -> bool {
        self.status() == 402
    }
}

/// A problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// The type.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The status of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What happened, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Further members: `challengeId`, `channelId`.
    #[serde(flatten)]
    pub more: Object,
}

impl Problem {
    /// A problem of a kind.
    #[must_use]
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            type_uri: kind.uri(),
            title: Some(kind.title().to_owned()),
            status: Some(kind.status()),
            detail: Some(detail.into()),
            more: Object::default(),
        }
    }

    /// The same with one more member.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<String>) -> Self {
        self.more.insert(member, serde_json::Value::String(value.into()));
        self
    }

    /// The kind, if it is one that the drafts name.
    #[must_use]
    pub fn kind(&self) -> Option<ProblemKind> {
        ProblemKind::from_uri(&self.type_uri)
    }

    /// The body.
    ///
    /// # Errors
    /// Never for a problem that was made by hand or read.
    pub fn to_json(&self) -> Result<Vec<u8>, DialectError> {
        serde_json::to_vec(self).map_err(|error| DialectError::shape("the problem", &error))
    }

    /// From a body.
    ///
    /// # Errors
    /// [`DialectError`].
    pub fn from_json(body: &[u8]) -> Result<Self, DialectError> {
        json::parse("the problem", body, FACILITATOR_BODY_BYTES_MAX)
    }
}
