//! Development tasks, and the rules that the repository keeps about itself.
//!
//! Knows no other crate of ours, so that `cargo xtask` works while they do not compile.

pub mod architecture;
pub mod budget_crash;
pub mod check;
pub mod demo;
pub mod fuzz;
pub mod peers;
pub mod setup;
pub mod shell;
pub mod tally;
pub mod test;
pub mod tidy;
