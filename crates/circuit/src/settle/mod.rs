//! `settle-N` (spec, section settle-N): vouchers move money inside one book.

mod circuit;
#[cfg(test)]
mod lies;
mod statement;
#[cfg(test)]
mod tests;

pub use circuit::settle_structure;
pub use statement::SettleStatement;
