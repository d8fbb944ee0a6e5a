//! Channels, acceptance and settlement state of one ledger, behind one deterministic entry: [`Engine::apply`].
//!
//! The engine knows neither tokio nor disk, sockets, HTTP or Solidity, and reads no clock: time is an argument. Same inputs, same effects.
//! Effects are of two kinds, and the caller owes an order: every [`Effect::Put`] and [`Effect::Delete`] of a tick is made durable in one
//! atomic batch before any [`Effect::Answer`] of that tick leaves.
//!
//! **Invariants**, for every channel: `settled ≤ charged ≤ accepted ≤ confirmed deposit` while it is not frozen; none of the totals
//! decreases while the channel is open; at close paid + refunded = deposited. A rejected input changes no state.

#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::wildcard_enum_match_arm)]

mod channel;
mod channels;
mod codec;
mod engine;
mod epoch;
pub mod escrow;
mod facts;
mod fault;
mod index;
mod input;
mod journal;
mod queue;
mod record;
mod rejection;
mod retention;
mod tally;

pub use channel::{Channel, ChannelStatus, Location};
pub use engine::{Engine, EngineConfig, Restoring, Summary};
pub use epoch::{EpochRecord, OpenEpoch};
pub use fault::Fault;
pub use index::{INDEX_ENTRIES_MAX, IndexRecord, index_records};
pub use input::{Ack, Answer, ChainCursor, ChainFact, Effect, FrameInput, Input, ReplyId, Snapshot};
pub use journal::{ChargeBatch, FrameBatch, JournalHead};
pub use queue::{Request, RequestKind, RequestQueue};
pub use record::{Key, LEAVES_PER_RECORD_MAX, LeavesRecord, Record, RecordError, Table};
pub use rejection::Rejection;
pub use tally::{Count, Span, TALLY_DAYS_MAX, TALLY_HOURS_MAX, TALLY_PAYERS_MAX, TALLY_ROUTES_MAX, TallyKey, Whose};
