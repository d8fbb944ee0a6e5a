//! What payers and providers sign on EVM chains: EIP-712 statements, secp256k1 signatures, and their check.
//!
//! Sources: EIP-712, ERC-1271, ERC-3009, Permit2, the x402 `batch-settlement`, `exact` and `upto` schemes, and the MPP `evm` drafts; the
//! numbers `S-n` are requirements of `docs/spec/evm-vouchers.md`. The way is the crate's own: a statement is [`Signed`] when it comes in,
//! and only a check makes it [`Verified`].
//!
//! A key's signature is checked here, from the bytes alone. A contract's is not: only the contract says whether it signed. The check then
//! gives a [`ContractQuestion`], and whoever reads the chain answers it with a [`ContractAnswer`]; what comes out says at which block that
//! was, because a contract may change its mind.

mod authorization;
mod charge;
mod domain;
mod eip712;
mod escrow;
mod key;
mod permit2;
mod rate_card;
mod session;
mod signature;
mod signed;
mod x402;

pub use authorization::{TokenDomain, TransferAuthorization, TransferKind};
pub use charge::{PaymentWitness, offer_hash};
pub use domain::{EscrowDomain, EscrowScheme, Permit2Domain};
pub use eip712::{eip55, keccak256};
pub use escrow::{EscrowVoucher, SignedEscrowVoucher, VerifiedEscrowVoucher};
pub use key::EvmSecretKey;
pub use permit2::{PERMIT2, Permit2Transfer, TokenPermissions, TransferWitness};
pub use rate_card::{RateCardDomain, RateCardStatement};
pub use session::{CloseAuthorization, SessionTerms, SettleAuthorization, TempoCloseAuthorization, TempoTerms, top_up_nonce};
pub use signature::{CONTRACT_SIGNATURE_BYTES_MAX, EvmSignature, KEY_SIGNATURE_BYTES, KeySignature};
pub use signed::{Checked, ContractAnswer, ContractQuestion, ERC1271_MAGIC, Evidence, EvmError, Signed, Signer, Statement, Verified};
pub use x402::{
    ChannelConfig, ClaimBatch, ClaimEntry, ERC3009_DEPOSIT_COLLECTOR, PERMIT2_DEPOSIT_COLLECTOR, REFUND_AUTHORIZER_ENTROPY_BYTES, Refund,
    WITHDRAW_DELAY_MAX_SECS, WITHDRAW_DELAY_MIN_SECS, X402_BATCH_SETTLEMENT, X402_EXACT_PERMIT2_PROXY, X402_UPTO_PERMIT2_PROXY,
    deposit_nonce, packed_refund_authorizer,
};
