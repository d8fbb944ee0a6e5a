//! What the admin listener answers. Amounts are nanos in decimal strings; fields that a newer node adds are ignored.

use millstream_types::{Address, Amount, ChannelId, Hash256};
use serde::{Deserialize, Serialize};

/// `GET /status` of a node with a ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node's version.
    pub version: String,
    /// The ledger's chain.
    pub chain_id: u64,
    /// The ledger contract.
    pub ledger: Address,
    /// Who is paid.
    pub provider: Address,
    /// Who sends the node's transactions.
    pub operator: Address,
    /// The ledger's token.
    pub token: Address,
    /// The QUIC listener.
    pub listen: String,
    /// SHA-256 of the node's certificate, hexadecimal.
    pub certificate_sha256: String,
    /// Seconds since the start.
    pub uptime_secs: u64,
    /// Number of the newest durable batch.
    pub commit: u64,
    /// Totals over all channels.
    pub channels: ChannelTotals,
    /// The epoch that takes frames.
    pub open_epoch: OpenEpoch,
    /// Epochs that were cut and whose roots are not on-chain yet.
    pub unanchored_epochs: Vec<UnanchoredEpoch>,
    /// The ledger's requests.
    pub queue: QueueState,
    /// What was read of the chain.
    pub chain: ChainHead,
    /// Settlement.
    pub settlement: SettlementState,
    /// Relaying of deposits; nothing from a node that does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayState>,
}

/// `GET /status` of a node without a ledger, which keeps payments of HTTP 402 only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BareStatus {
    /// The node's version.
    pub version: String,
    /// Its chain.
    pub chain_id: u64,
    /// Who sends the node's transactions.
    pub operator: Address,
    /// Seconds since the start.
    pub uptime_secs: u64,
    /// Number of the newest durable batch.
    pub commit: u64,
}

/// `GET /status` of any node.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum AnyStatus {
    /// It serves a ledger.
    Ledger(Box<NodeStatus>),
    /// It serves none.
    NoLedger(BareStatus),
}

/// Totals over all channels; amounts in nanos.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelTotals {
    /// Channels known.
    pub channels: u64,
    /// Channels that take payments.
    pub open: u64,
    /// Channels frozen by the chain.
    pub frozen: u64,
    /// Payments.
    pub lines: u64,
    /// Confirmed deposits.
    pub deposited: Amount,
    /// Under the best vouchers.
    pub accepted: Amount,
    /// Taken on-chain.
    pub settled: Amount,
    /// Paid back at closes.
    pub refunded: Amount,
}

/// The epoch that takes frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenEpoch {
    /// Its number.
    pub id: u64,
    /// Frames so far.
    pub frames: u64,
}

/// An epoch that was cut and waits for its anchor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnanchoredEpoch {
    /// Its number.
    pub id: u64,
    /// Frames in it.
    pub frames: u64,
    /// Its root; nothing until it is computed.
    pub root: Option<Hash256>,
    /// What its frames pay, in nanos; nothing until it is computed.
    pub sum: Option<Amount>,
}

/// The ledger's requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    /// Requests that wait to be served.
    pub unserved: u64,
    /// When the oldest was made; nothing when none waits.
    pub oldest_requested_at_millis: Option<u64>,
}

/// What was read of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// The newest block whose logs are applied.
    pub block: u64,
}

/// Settlement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettlementState {
    /// Whether one is under way.
    pub running: bool,
    /// What the last finished one did.
    pub last: Option<SettleRun>,
}

/// Relaying of deposits. Gas in gwei; hours and days are the last 60 minutes and 24 hours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayState {
    /// Whether deposits are relayed at all.
    pub enabled: bool,
    /// Accepted and not confirmed.
    pub pending: u64,
    /// Accepted in the last day.
    pub day_relays: u64,
    /// Those of them that reverted.
    pub day_reverted: u64,
    /// Promised and spent in the last hour.
    pub hour_gwei: u64,
    /// What an hour may cost.
    pub hour_gwei_max: u64,
    /// Promised and spent in the last day.
    pub day_gwei: u64,
    /// What a day may cost.
    pub day_gwei_max: u64,
}

/// A row of `GET /relays`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminRelay {
    /// SHA-256 of the request.
    pub request: Hash256,
    /// When it was accepted.
    pub accepted_at_millis: u64,
    /// Whose money it is.
    pub funder: Address,
    /// The channel.
    pub channel: ChannelId,
    /// `open` or `top_up`.
    pub kind: String,
    /// `authorization`, `permit` or `permit2`.
    pub way: String,
    /// How much, in base units of the token.
    pub base_units: Amount,
    /// `accepted`, `sent`, `confirmed` or `reverted`.
    pub stage: String,
    /// The transaction; nothing before one was signed.
    pub transaction: Option<Hash256>,
    /// Promised at most, or spent once it is confirmed or reverted, in gwei.
    pub gas_gwei: u64,
}

/// One row of `GET /channels`; amounts in nanos.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminChannel {
    /// The channel.
    pub channel: ChannelId,
    /// Who funded it.
    pub payer: Address,
    /// `open`, `closing`, `closed` or `frozen`.
    pub status: String,
    /// Confirmed deposit.
    pub deposit: Amount,
    /// The part of the deposit in the channel's slot.
    pub registered: Amount,
    /// Under the best voucher.
    pub accepted: Amount,
    /// Payments.
    pub lines: u64,
    /// Captured.
    pub charged: Amount,
    /// Taken on-chain.
    pub settled: Amount,
    /// Accepted and not settled.
    pub unsettled: Amount,
    /// Paid back at the close.
    pub refunded: Amount,
    /// Its book, `tier:number`, once included.
    pub book: Option<String>,
    /// Its slot in the book.
    pub slot: Option<u16>,
}

/// `GET /settle/plan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlePlan {
    /// Books whose requests would be served.
    pub register: Vec<PlannedRegister>,
    /// Books that would be collected from.
    pub settle: Vec<PlannedSettle>,
    /// Epochs whose roots would be anchored.
    pub epochs: Vec<PlannedEpoch>,
    /// Channels that would go to another slot after it, so that fewer books are settled.
    pub moves: Vec<ChannelMove>,
    /// Channels that cannot be settled or closed yet.
    pub waiting: Vec<WaitingChannel>,
}

/// A book whose requests would be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedRegister {
    /// The book.
    pub book: String,
    /// Channels that open.
    pub opens: u64,
    /// Deposits that grow.
    pub top_ups: u64,
    /// Channels that close.
    pub closes: u64,
}

/// A book that would be collected from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedSettle {
    /// The book.
    pub book: String,
    /// Channels that pay.
    pub channels: u64,
    /// What they pay, in nanos.
    pub total: Amount,
}

/// An epoch whose root would be anchored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedEpoch {
    /// Its number.
    pub id: u64,
    /// Its root; nothing until it is computed.
    pub root: Option<Hash256>,
}

/// A channel that goes to another slot; places are `tier:number/slot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelMove {
    /// The channel.
    pub channel: ChannelId,
    /// Where it is.
    pub from: String,
    /// Where it goes.
    pub to: String,
}

/// A channel that cannot be settled or closed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingChannel {
    /// The channel.
    pub channel: ChannelId,
    /// Why.
    pub reason: String,
}

/// `POST /settle/run`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettleRun {
    /// What was mined, in order.
    pub transactions: Vec<SettleTransaction>,
    /// What the provider was credited, in nanos.
    pub settled_total: Amount,
    /// Channels that paid.
    pub channels_settled: u64,
}

/// One mined transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettleTransaction {
    /// `register`, `settle` or `move`.
    pub kind: String,
    /// Its hash.
    pub hash: Hash256,
    /// Its block.
    pub block: u64,
    /// Gas used.
    pub gas_used: u64,
    /// Books it changed.
    pub books: Vec<String>,
    /// Channels it changed.
    pub channels: u64,
    /// What it credited, in nanos.
    pub total: Amount,
    /// Seconds spent on proofs.
    pub prove_seconds: f64,
    /// Epochs it anchored.
    pub epochs: Vec<u64>,
    /// Channels that it took to another slot.
    pub moves: Vec<ChannelMove>,
}

/// One of `GET /settle/jobs`: a proof under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettleJob {
    /// Its number since the node's start.
    pub id: u64,
    /// What is proved, such as `settle-96`.
    pub circuit: String,
    /// About which book.
    pub book: String,
    /// `waiting` or `proving`.
    pub state: String,
    /// For how long it has been proved.
    pub seconds: f64,
    /// The step that runs, such as `quotient`; none while it waits.
    pub step: Option<String>,
    /// Its number, from 1; 0 while it waits.
    pub step_number: u32,
    /// How many steps there are.
    pub steps: u32,
}

/// `DELETE /settle/jobs/ID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelledJob {
    /// The proof that was taken back.
    pub cancelled: u64,
}

/// `POST /reload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadedConfig {
    /// The keys whose values are others now.
    pub changed: Vec<String>,
}

/// `POST /epochs/cut`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutEpoch {
    /// The epoch that was cut; nothing when it had no frame.
    pub epoch: Option<u64>,
}
