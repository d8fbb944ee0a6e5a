//! Load for a settlement node, and what came of it.
//!
//! Rooms: [`workload`] makes frames from a seed and signs them before the clock starts; [`schedule`] says when each frame is meant to be
//! sent; `flight` keeps what is due, sent and acknowledged on a channel; [`driver`] speaks the wire to a node; [`stats`] counts;
//! [`ceilings`] measures what the machine could do at best; [`process`] reads what a process used; [`report`] and [`chart`] show it.
//!
//! This crate keeps no durable payer state: a payer that forgets what it signed must never be let near real money. It knows no node, no
//! store, no engine and no chain; it meets a node on the wire, as any payer does.
//!
//! **Invariants.** A latency of an open loop is counted from the time at which the frame was meant to be sent, whenever it really was.
//! Every acknowledgement is checked, lines and nanos, and anything else that a node says ends the run.

pub mod ceilings;
pub mod chart;
pub mod driver;
mod error;
mod flight;
pub mod process;
pub mod report;
pub mod schedule;
pub mod stats;
pub mod workload;

pub use driver::{Lane, LaneEnd, Mode, Outcome, Phase, Plan, Target, run};
pub use error::LoadError;
pub use schedule::Schedule;
pub use workload::{Frames, Payer, Workload};
