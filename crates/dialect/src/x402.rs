//! x402 version 2: offers, payments and their outcomes in three headers, and the facilitator's API.
//!
//! Sources: x402 specification v2 and its HTTP transport, the schemes `batch-settlement` 1.0, `exact` and `upto` on EVM chains, and the
//! published clients where the texts leave a choice.

mod batch;
pub mod custody;
mod envelope;
mod exact;
mod extension;
mod facilitator;
mod reason;

pub use batch::{
    BATCH_SETTLEMENT, BatchCommand, BatchExtra, BatchOffer, BatchPayload, BatchResponseExtra, ChannelState, Claim, ClaimedVoucher,
    ConfigFields, Deposit, DepositAuthorization, DepositWitness, Erc3009Deposit, Permit2Deposit, PermittedFields, RefundSettlement,
    VoucherFields, VoucherState, batch_domain,
};
pub use envelope::{
    PAYMENT_REQUIRED, PAYMENT_RESPONSE, PAYMENT_RESPONSE_ACCEPTED, PAYMENT_SIGNATURE, PAYMENT_SIGNATURE_ACCEPTED, PaymentPayload,
    PaymentRequired, PaymentRequirements, Resource, SettleResponse, VERSION,
};
pub use exact::{
    EXACT, Erc3009Fields, Erc3009Payment, ExactOffer, ExactPayload, ExactWitness, Permit2Fields, Permit2Payment, TransferMethod, UPTO,
    UptoPayload, UptoWitness,
};
pub use extension::{PAYMENT_IDENTIFIER, PaymentId, offer_payment_identifier};
pub use facilitator::{FacilitatorRequest, Supported, SupportedKind, VerifyResponse};
pub use reason::{Reason, UnknownReason};
