//! `millstream replay`: inference traffic as payments.
//!
//! [`run`] is the replay itself, for this command and for others; it prints nothing.

mod command;
mod drive;
mod generate;
mod prepare;
mod price;
mod progress;
mod report;
mod session;
mod settlement;
mod timestamp;
mod trace;
mod workload;
#[cfg(test)]
mod workload_tests;

pub use command::{ReplayArgs, command};
pub use price::{PriceError, Prices};
pub use progress::{ReplayProgress, ReplaySnapshot};
pub use report::{ReplayReport, SettlementCheck};
pub use session::{ReplayOptions, ReplaySession, run};
pub(crate) use timestamp::parse_nanos;
pub use trace::{Request, RowProblem, Trace, TraceError};
pub use workload::{CHANNELS_MAX, ChannelPlan, Lines, Source, Workload, WorkloadError, WorkloadOptions};
