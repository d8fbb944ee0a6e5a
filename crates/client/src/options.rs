//! Settings of a client and of a channel, with their ranges.

use std::time::Duration;

use millstream_billing::FRAME_LINES_MAX;
use millstream_transport::{ServerTrust, TransportOptions};
use millstream_types::CumulativeAmount;

use crate::ClientError;

/// Lines that one [`pay_lines`](crate::ChannelHandle::pay_lines) takes, at most.
pub const LINES_PER_CALL_MAX: usize = 65_536;

/// Lines after which a frame is signed, unless the linger ends before.
pub const FRAME_LINES: usize = 256;

/// How long a frame waits for more lines before it is signed.
pub const LINGER: Duration = Duration::from_millis(1);

/// Frames of a channel that are signed and not acked before `pay` waits.
pub const FRAMES_QUEUED_MAX: usize = 256;

/// Frames that may be queued, at most: what a restart has to send again.
const FRAMES_QUEUED_LIMIT: usize = 65_536;

/// Where the node is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeAddress {
    /// A host name or an address. Looked up again for every connection.
    pub host: String,
    /// The UDP port.
    pub port: u16,
}

impl From<std::net::SocketAddr> for NodeAddress {
    fn from(address: std::net::SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

/// Pauses between attempts: doubled each time up to a cap, and cut by a random part of up to a half, so that payers which lost one node do
/// not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffOptions {
    /// The first pause.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        Self { first: Duration::from_millis(50), longest: Duration::from_secs(10) }
    }
}

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Where the node is.
    pub node: NodeAddress,
    /// What makes it the right one.
    pub trust: ServerTrust,
    /// The connection.
    pub transport: TransportOptions,
    /// Pauses between attempts to connect and to attach.
    pub backoff: BackoffOptions,
}

impl ClientOptions {
    /// The defaults for a node.
    #[must_use]
    pub fn new(node: impl Into<NodeAddress>, trust: ServerTrust) -> Self {
        Self { node: node.into(), trust, transport: TransportOptions::default(), backoff: BackoffOptions::default() }
    }
}

/// Settings of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayOptions {
    /// Lines after which a frame is signed: 1 (a signature for each line) to 1,024. The node may ask for fewer.
    pub frame_lines: usize,
    /// How long a frame waits for more lines; zero signs at the end of each call.
    pub linger: Duration,
    /// Frames that are signed and not acked before `pay` waits; 1 to 65,536.
    pub frames_queued_max: usize,
    /// The cumulative amount, over the channel's whole life, that this caller will not pass; `None` leaves the deposit as the only limit.
    pub spend_limit: Option<CumulativeAmount>,
}

impl Default for PayOptions {
    fn default() -> Self {
        Self { frame_lines: FRAME_LINES, linger: LINGER, frames_queued_max: FRAMES_QUEUED_MAX, spend_limit: None }
    }
}

impl PayOptions {
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        let check = |setting, actual, max| {
            if (1..=max).contains(&actual) { Ok(()) } else { Err(ClientError::Setting { setting, min: 1, max, actual }) }
        };
        check("frame_lines", self.frame_lines, FRAME_LINES_MAX)?;
        check("frames_queued_max", self.frames_queued_max, FRAMES_QUEUED_LIMIT)
    }
}
