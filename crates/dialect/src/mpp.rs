//! MPP: the `Payment` scheme of HTTP authentication, and the `charge` and `session` intents of its `evm` method.
//!
//! Sources: `draft-httpauth-payment-00`, `draft-evm-charge-00`, `draft-evm-session-00` of 7 August 2026; and the crate `mpp` 0.18.2 for what
//! they leave open (the `header` parameter, escapes beyond ASCII). What the drafts call a challenge is an *offer* here; the word stays where
//! it is on the wire.

mod accept;
mod charge;
mod credential;
mod event;
mod idempotency;
mod moment;
mod offer;
mod params;
mod problem;
mod receipt;
mod session;

pub use accept::{ACCEPT_PAYMENT, AcceptPayment, PaymentRange};
pub use charge::{CHARGE, ChargeDetails, ChargePayload, ChargeRequest, Permit, Split, TransferDetails, WitnessFields};
pub use credential::{AUTHORIZATION, Credential, PAYMENT_AUTHORIZATION, Source};
pub use event::{NeedVoucher, SessionEvent};
pub use idempotency::{IDEMPOTENCY_KEY, IdempotencyKey};
pub use moment::{moment_text, parse_moment};
pub use offer::{BindingKey, CredentialHeader, EVM, Offer, OfferTerms, WWW_AUTHENTICATE, body_digest};
pub use problem::{PROBLEM_BASE, PROBLEM_MEDIA_TYPE, Problem, ProblemKind};
pub use receipt::{PAYMENT_RECEIPT, Receipt, SessionReceipt};
pub use session::{
    CredentialType, Funding, FundingAction, FundingWitness, MergedDeposit, Permit2Funding, SESSION, SessionDetails, SessionPayload,
    SessionRequest,
};
