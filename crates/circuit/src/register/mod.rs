//! `register-N` (spec, section register-N): requests of payers change the slots of one book.

mod circuit;
#[cfg(test)]
mod lies;
mod statement;
#[cfg(test)]
mod tests;

pub use circuit::register_structure;
pub use statement::RegisterStatement;
