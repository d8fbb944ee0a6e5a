//! The two circuits of the ledger, `settle-N` and `register-N`, and the books they are about.
//!
//! Two halves. The native half ([`Book`], [`SettleStatement`], [`RegisterStatement`]) computes roots, calldata and public inputs; node,
//! planner and client use it. The circuit half records matrices ([`settle_structure`], [`register_structure`]) and fills witnesses
//! ([`SettleStatement::witness`]); a prover uses it. The circuits' rows are written once, in `settle/circuit.rs` and
//! `register/circuit.rs`, over the gadgets in `gadgets/`.
//!
//! This crate knows no proving system and no keys; it does no I/O, reads no clock and draws no randomness. Threads are rayon's, and no
//! result depends on them.
//!
//! **Invariants.** A channel is in at most one slot of a book. `settled ≤ deposit < 2^64` in every slot. Native roots and public inputs
//! equal the circuits'. Every variable of a circuit is determined by the statement or constrained by a row.
//!
//! Spec: `docs/spec/ledger.md` (L-3, L-9 … L-18, L-30) and `docs/spec/voucher.md` (V-2 … V-7).

mod binding;
mod book;
mod cs;
mod deltas;
mod error;
mod gadgets;
mod path;
mod queue;
mod register;
mod rows;
mod settle;
#[cfg(test)]
mod soundness;
#[cfg(test)]
mod testing;
mod tree;

pub use ark_bn254::Fr;

pub use binding::{Place, PublicInputs, encode_rows};
pub use book::{Book, BookSize, Slot};
pub use cs::{ArkCircuit, MatrixName, PUBLIC_INPUTS, Structure, Witness};
pub use deltas::deltas_len;
pub use error::{CircuitError, RowField};
pub use path::SlotPath;
pub use queue::{Placement, QueuedKind, QueuedRequest, plan_register};
pub use register::{RegisterStatement, register_structure};
pub use rows::{Change, Held, Operation, Row};
pub use settle::{SettleStatement, settle_structure};
pub use tree::{field_from_word, field_to_word, uid_to_field};
