//! What stops a payment, a channel or a connection.

use std::io;
use std::sync::Arc;

use millstream_transport::{ConnectError, EndpointError};
use millstream_types::{AmountError, CumulativeAmount};
use millstream_voucher::VoucherError;
use millstream_wire::{DecodeError, EncodeError, ErrorCode, Retry};

use crate::{StateError, Totals};

/// Why lines were not taken. Nothing was signed for them, and no line of the call was taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PayError {
    /// The channel's cumulative amount would pass its deposit at the node's confirmation depth.
    #[error("paying would bring the channel to {needed} nanos, above its confirmed deposit of {deposit}: top it up, then refresh it")]
    DepositExceeded {
        /// The cumulative amount with these lines.
        needed: CumulativeAmount,
        /// The confirmed deposit, as the node last said.
        deposit: CumulativeAmount,
    },
    /// The channel's cumulative amount would pass the caller's own limit.
    #[error("paying would bring the channel to {needed} nanos, above the spend limit of {limit}")]
    SpendLimit {
        /// The cumulative amount with these lines.
        needed: CumulativeAmount,
        /// The limit.
        limit: CumulativeAmount,
    },
    /// A line that pays nothing (B-1).
    #[error("line {index} pays nothing")]
    ZeroAmount {
        /// The line of the call, from 0.
        index: usize,
    },
    /// An amount that does not fit the native rail.
    #[error("line {index} cannot be paid")]
    Amount {
        /// The line of the call, from 0.
        index: usize,
        /// What is wrong with it.
        source: AmountError,
    },
    /// More lines in one call than are taken at once.
    #[error("a call takes at most {max} lines, not {actual}")]
    TooManyLines {
        /// The most lines of a call.
        max: usize,
        /// The lines given.
        actual: usize,
    },
    /// The channel is stopped.
    #[error("the channel is stopped")]
    Stopped(#[source] ChannelError),
}

/// Why a channel is stopped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChannelError {
    /// The node names fewer lines than it had acked: it lost durable frames, or says different things to different callers. What was acked
    /// is signed and paid; keep the state file, and take it up with the provider.
    #[error("the node had acked {acked} and now names {named}: it forgot what it promised, so nothing more is paid on this channel")]
    NodeForgot {
        /// What it had acked.
        acked: Totals,
        /// What it names now.
        named: Totals,
    },
    /// The node acked more than it was sent.
    #[error("the node acked {acked}, but only {sent} was sent to it")]
    AckAboveSent {
        /// The last frame sent.
        sent: Totals,
        /// The ack.
        acked: Totals,
    },
    /// An ack that ends inside a frame or names another amount than was signed for these lines.
    #[error("the node acked {acked}, which are not the totals of any frame it was sent")]
    AckMismatch {
        /// The ack.
        acked: Totals,
    },
    /// An ack below an earlier one of the same stream.
    #[error("the node acked {acked} after it had acked {before}")]
    AckBackwards {
        /// The earlier ack.
        before: Totals,
        /// The later, smaller one.
        acked: Totals,
    },
    /// The node's accepted voucher does not carry this payer's signature.
    #[error("the node says it accepted a voucher that this payer did not sign")]
    ForeignVoucher(#[source] VoucherError),
    /// The node accepted a voucher of ours that is on another history than this state's.
    #[error("the node accepted a voucher over {named} that this payer signed, but not in this state: two payers have used one channel")]
    Forked {
        /// What it names.
        named: Totals,
        /// The last voucher of this state.
        signed: Totals,
    },
    /// The node answered for another channel.
    #[error("the node answered an attach for another channel")]
    WrongChannel,
    /// The node rejected for a reason that time alone does not remove.
    #[error("the node rejects: {code} (see docs/errors/{}-{}.md)", code.number(), code.name())]
    Rejected {
        /// The reason.
        code: ErrorCode,
        /// Lines of the rejected frame's voucher; 0 for an attach.
        lines_total: u64,
    },
    /// What the node sends is no message.
    #[error("the node does not keep to the protocol")]
    Protocol(#[source] DecodeError),
    /// The state could not be written: nothing signed since then has left.
    #[error("the payer's state cannot be written")]
    State(#[source] StateError),
    /// A frame could not be signed.
    #[error("a frame cannot be signed")]
    Sign(#[source] VoucherError),
    /// A frame could not be written.
    #[error("a frame cannot be written")]
    Encode(#[source] EncodeError),
    /// The client or the channel was closed.
    #[error("the channel was closed here")]
    Closed,
}

impl ChannelError {
    /// Whether [`refresh`](crate::ChannelHandle::refresh) may bring the channel back, once the cause is removed.
    #[must_use]
    pub const fn is_recoverable(&self) -> bool {
        match self {
            Self::Rejected { .. } | Self::Protocol(_) => true,
            Self::NodeForgot { .. }
            | Self::AckAboveSent { .. }
            | Self::AckMismatch { .. }
            | Self::AckBackwards { .. }
            | Self::ForeignVoucher(_)
            | Self::Forked { .. }
            | Self::WrongChannel
            | Self::State(_)
            | Self::Sign(_)
            | Self::Encode(_)
            | Self::Closed => false,
        }
    }

    /// Whether a top-up is what is missing.
    #[must_use]
    pub const fn needs_top_up(&self) -> bool {
        match self {
            Self::Rejected { code, .. } => matches!(code.retry(), Retry::AfterTopUp),
            _ => false,
        }
    }
}

/// Why there is no client.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The node's name has no address.
    #[error("{host}:{port} cannot be looked up")]
    Lookup {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The node's name exists and has no address.
    #[error("{host} has no address")]
    NoAddress {
        /// The host.
        host: String,
    },
    /// No socket could be opened.
    #[error("no socket could be opened")]
    Endpoint(#[source] Arc<EndpointError>),
    /// The node could not be reached, or is not the one that is trusted.
    #[error("there is no connection to the node")]
    Connect(#[from] ConnectError),
    /// The state cannot be read.
    #[error("the payer's state cannot be used")]
    State(#[from] StateError),
    /// The channel could not be attached.
    #[error("the channel could not be attached")]
    Channel(#[source] ChannelError),
    /// A setting outside its range.
    #[error("{setting} is {actual}, expected {min} to {max}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// The least allowed value.
        min: usize,
        /// The greatest allowed value.
        max: usize,
        /// The value given.
        actual: usize,
    },
}
