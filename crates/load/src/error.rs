//! Why a load is not made, or does not go to its end.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use millstream_billing::LinesError;
use millstream_transport::{ConnectError, EndpointError, StreamError};
use millstream_types::ChannelId;
use millstream_voucher::{KeyError, VoucherError};
use millstream_wire::{ChannelStatus, DecodeError, EncodeError, ErrorCode, Kind};

use crate::LaneEnd;

/// Why a load is not made, or does not go to its end.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No channel, no connection, more connections than channels, no line, or no rate.
    #[error("{what} must be {min} to {max}, not {actual}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// The least that works.
        min: u64,
        /// The most that works.
        max: u64,
        /// The value given.
        actual: u64,
    },
    /// A total of a channel leaves its 64 bits.
    #[error("what channel {channel} would pay does not fit 64 bits of nanos")]
    TooMuch {
        /// The channel.
        channel: ChannelId,
    },
    /// A seed that makes no key, once in 2^251 times.
    #[error("the seed makes no voucher key")]
    Key(#[from] KeyError),
    /// A voucher cannot be signed.
    #[error("a voucher cannot be signed")]
    Sign(#[from] VoucherError),
    /// Lines that make no frame.
    #[error("the lines make no frame")]
    Lines(#[from] LinesError),
    /// A message that has no bytes.
    #[error("a message cannot be encoded")]
    Encode(#[from] EncodeError),
    /// There is no socket.
    #[error("there is no socket to connect from")]
    Endpoint(#[from] EndpointError),
    /// The node cannot be reached.
    #[error("the node cannot be reached")]
    Connect(#[from] ConnectError),
    /// A stream broke.
    #[error("the stream of channel {channel} failed")]
    Stream {
        /// The channel.
        channel: ChannelId,
        /// Why.
        source: StreamError,
    },
    /// The node ended a stream.
    #[error("the node ended the stream of channel {channel}")]
    Ended {
        /// The channel.
        channel: ChannelId,
    },
    /// The node sent bytes that are no message.
    #[error("the node sent no message on channel {channel}")]
    Message {
        /// The channel.
        channel: ChannelId,
        /// What is wrong with them.
        source: DecodeError,
    },
    /// The node refused an attach or a frame.
    #[error("the node rejected channel {channel} with {code}: {lines_total} lines sent, {accepted_lines_total} accepted")]
    Rejected {
        /// The channel.
        channel: ChannelId,
        /// The node's code.
        code: ErrorCode,
        /// `lines total` of the rejected frame; 0 for an attach.
        lines_total: u64,
        /// Lines that the node has accepted.
        accepted_lines_total: u64,
    },
    /// The node said what was not to be said now.
    #[error("the node sent a {kind} on channel {channel}, which was not to come")]
    Unexpected {
        /// The channel.
        channel: ChannelId,
        /// The message.
        kind: Kind,
    },
    /// An ack that names no frame that was sent, or another amount than that frame's.
    #[error(
        "the node acknowledged {lines_total} lines and {cumulative} nanos on channel {channel}; \
         {lines_sent} lines and {cumulative_sent} nanos were sent"
    )]
    WrongAck {
        /// The channel.
        channel: ChannelId,
        /// Lines acknowledged.
        lines_total: u64,
        /// Nanos acknowledged.
        cumulative: u128,
        /// Lines sent.
        lines_sent: u64,
        /// Nanos sent.
        cumulative_sent: u128,
    },
    /// A channel that is not as the load needs it.
    #[error(
        "channel {channel} is {status:?} with {lines_total} lines and a deposit of {deposit} nanos; {expected_lines} lines and {needed} nanos are needed"
    )]
    Channel {
        /// The channel.
        channel: ChannelId,
        /// Where it is in its life.
        status: ChannelStatus,
        /// Lines that the node has accepted.
        lines_total: u64,
        /// Lines that this payer has signed.
        expected_lines: u64,
        /// The confirmed deposit in nanos.
        deposit: u128,
        /// What the channel would have paid at the end, in nanos.
        needed: u128,
    },
    /// Frames larger than the node takes.
    #[error("the node takes frames of {lines_max} lines and {bytes_max} bytes at most, these have {lines} and {bytes}")]
    FrameLimit {
        /// The node's most lines.
        lines_max: usize,
        /// The node's most bytes.
        bytes_max: usize,
        /// Lines of a frame.
        lines: usize,
        /// Bytes of a frame, kind and body.
        bytes: usize,
    },
    /// The node did not answer an attach.
    #[error("channel {channel} was not attached within {after:?}")]
    AttachTimeout {
        /// The channel.
        channel: ChannelId,
        /// How long was waited.
        after: Duration,
    },
    /// A run ended early, after its first frame may have been sent.
    #[error("the load ended with {} frames sent and {} of them acknowledged", total(lanes, |lane| lane.sent), total(lanes, |lane| lane.acked))]
    Interrupted {
        /// What each channel had sent and had acknowledged by then, in the order given. The node has at least the frames acknowledged and at
        /// most the frames sent.
        lanes: Vec<LaneEnd>,
        /// What ended it.
        source: Box<LoadError>,
    },
    /// A file for a measurement cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A thread or task of the load itself failed.
    #[error("a part of the load failed: {what}")]
    Internal {
        /// What.
        what: String,
    },
}

fn total(lanes: &[LaneEnd], of: impl Fn(&LaneEnd) -> u64) -> u64 {
    lanes.iter().map(of).fold(0, u64::saturating_add)
}
