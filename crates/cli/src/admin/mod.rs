//! The provider's side: the node's admin listener over HTTP on loopback.

mod client;
mod types;

pub use client::{Admin, SETTLE_DEADLINE};
pub use types::{
    AdminChannel, AdminRelay, AnyStatus, BareStatus, CancelledJob, ChainHead, ChannelMove, ChannelTotals, CutEpoch, NodeStatus, OpenEpoch,
    PlannedEpoch, PlannedRegister, PlannedSettle, QueueState, RelayState, ReloadedConfig, SettleJob, SettlePlan, SettleRun,
    SettleTransaction, SettlementState, UnanchoredEpoch, WaitingChannel,
};
