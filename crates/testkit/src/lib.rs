//! Development chains: an anvil process on a port of its own, ended with its owner, and anvil's well-known accounts.
//!
//! For tests and for `millstream dev`. Everything here blocks the calling thread; inside an async task, call it from a blocking one.
//!
//! **Invariants.** No fixed port, no sleep without a deadline, no process left behind by a handle that was dropped.

mod accounts;
mod anvil;
mod binary;
mod error;
mod options;
mod output;
mod rpc;

pub use accounts::{DEV_ACCOUNTS, DevAccount};
pub use anvil::Anvil;
pub use binary::{ANVIL_ENV, find_anvil};
pub use error::AnvilError;
pub use options::{AnvilOptions, DEV_MNEMONIC, Mining};
