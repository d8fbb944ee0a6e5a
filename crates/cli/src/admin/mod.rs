//! The provider's side: the node's admin listener over HTTP on loopback.

mod client;
mod types;

pub use client::{Admin, SETTLE_DEADLINE};
pub use types::{
    AdminChannel, CancelledJob, ChainHead, ChannelMove, ChannelTotals, CutEpoch, NodeStatus, OpenEpoch, PlannedEpoch, PlannedRegister,
    PlannedSettle, QueueState, SettleJob, SettlePlan, SettleRun, SettleTransaction, SettlementState, UnanchoredEpoch, WaitingChannel,
};
