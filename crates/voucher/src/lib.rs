//! Vouchers of the native rail: keys, signatures and their check, channel identity, and the hash and curve they are made of.
//!
//! Source: `docs/spec/voucher.md`; `V-n` in item docs are its requirements. This crate knows nothing of a channel's state and does no
//! I/O, reads no clock and draws no randomness: entropy is an argument.
//!
//! **Invariants.** A [`VerifiedVoucher`] comes from a check, from signing, or from [`VerifiedVoucher::assume_verified`], and from nowhere
//! else. What is accepted here is exactly what the settlement circuit can prove. No branch and no memory address depends on a secret.

pub mod babyjubjub;
mod checker;
mod comb;
mod curve;
pub mod evm;
mod keys;
mod lanes;
pub mod poseidon;
mod residue;
mod terms;
mod voucher;

pub use checker::{ScalarChecker, VoucherChecker, best_checker};
pub use keys::{CheckingKey, KeyError, KeyWitness, PublicKey, SecretKey};
pub use lanes::LaneChecker;
pub use terms::{ChannelTerms, UID_TYPE};
pub use voucher::{Message, SIGNATURE_BYTES, Signature, SignedVoucher, VOUCHER_BYTES, VerifiedVoucher, VoucherBody, VoucherError};
