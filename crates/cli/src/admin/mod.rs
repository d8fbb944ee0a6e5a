//! The provider's side: the node's admin listener over HTTP on loopback.

mod client;
mod types;

pub use client::{Admin, SETTLE_DEADLINE};
pub use types::{
    AdminChannel, ChainHead, ChannelTotals, CutEpoch, NodeStatus, OpenEpoch, PlannedEpoch, PlannedRegister, PlannedSettle, QueueState,
    SettlePlan, SettleRun, SettleTransaction, SettlementState, UnanchoredEpoch, WaitingChannel,
};
