//! The money of HTTP 402 on escrow contracts: the gateway's port over the durable engine.
//!
//! `follower` reads the chain into the engine, `desk` answers the gateway, `claimer` carries out what the engine says there is to claim, to
//! sweep and to send. `facilitator` puts on the chain what other people's servers ask for.

mod claimer;
mod desk;
mod facilitator;
mod follower;
mod terms;

pub use facilitator::{Facilitator, FacilitatorRooms, FacilitatorTerms};
pub use terms::{ForeignTerms, read_x402_config, x402_config};
