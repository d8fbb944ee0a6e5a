//! The parts that both circuits are made of.
//!
//! **Invariant.** A gadget constrains everything it returns from what it takes, unless its docs say otherwise; hints never decide.

pub(crate) mod binding;
pub(crate) mod bits;
pub(crate) mod fixed_base;
pub(crate) mod ladder;
pub(crate) mod montgomery;
pub(crate) mod poseidon;
pub(crate) mod schnorr;
pub(crate) mod slopes;
