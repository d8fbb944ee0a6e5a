//! Every setting of a QUIC endpoint, named, with the value that measurements recommend.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::EndpointError;

/// Channel streams that a server allows on one connection, at most.
pub const CHANNELS_PER_CONNECTION: u32 = 128;

/// Channel streams that a server allows on a new connection. quinn prepares state for every allowed stream, so this is what most payers need; see
/// [`crate::Connection::allow_channels`] for the others.
pub const CHANNELS_AT_FIRST: u32 = 4;

/// A connection without traffic for so long is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A client that has nothing to say pings this often, so that its connection is not closed.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// A handshake that takes longer has failed.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that may be sent before the first acknowledgement: several frames. The default of 12,000 stalls the first frame for the peer's
/// delayed acknowledgement of 25 ms.
pub const INITIAL_WINDOW_BYTES: u64 = 256 * 1024;

/// Unread bytes of one stream that the receiver holds: eight of the longest frames.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// Unread bytes of one connection that the receiver holds. Times the number of connections, this bounds a node's memory.
pub const RECEIVE_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Unacknowledged bytes of one connection that the sender holds.
pub const SEND_WINDOW_BYTES: u64 = 4 * 1024 * 1024;

/// Socket buffers asked of the kernel, in each direction; the kernel may grant less (`net.core.rmem_max`, `net.core.wmem_max`).
pub const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Datagrams on a loopback or jumbo-frame network. quinn sends ten at a time, and above 6,550 bytes ten no longer fit one call; between 4,096 and 6,500
/// throughput is the same, and every connection keeps room for a datagram. See [`TransportOptions::mtu_upper_bound`].
pub const LOOPBACK_MTU: u16 = 4_096;

/// Settings of an endpoint. [`Default`] is for any network; [`TransportOptions::loopback`] for one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportOptions {
    /// Channel streams that a server allows on one connection; it starts with at most [`CHANNELS_AT_FIRST`].
    pub channels_per_connection: u32,
    /// A connection without traffic for so long is closed; the smaller of both ends' values counts.
    pub idle_timeout: Duration,
    /// How often a client pings; `None` for never. Servers do not.
    pub keep_alive_interval: Option<Duration>,
    /// A handshake that takes longer has failed.
    pub connect_timeout: Duration,
    /// Bytes in flight before the first acknowledgement.
    pub initial_window_bytes: u64,
    /// Unread bytes of one stream.
    pub stream_window_bytes: u32,
    /// Unread bytes of one connection.
    pub receive_window_bytes: u32,
    /// Unacknowledged bytes of one connection.
    pub send_window_bytes: u64,
    /// The largest datagram to probe for, at most [`LOOPBACK_MTU`]; `None` leaves quinn's default for the Internet (1,452). Both ends must
    /// raise it for it to have an effect.
    pub mtu_upper_bound: Option<u16>,
    /// Socket buffers to ask of the kernel; `None` leaves the system's default.
    pub socket_buffer_bytes: Option<usize>,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            channels_per_connection: CHANNELS_PER_CONNECTION,
            idle_timeout: IDLE_TIMEOUT,
            keep_alive_interval: Some(KEEP_ALIVE_INTERVAL),
            connect_timeout: CONNECT_TIMEOUT,
            initial_window_bytes: INITIAL_WINDOW_BYTES,
            stream_window_bytes: STREAM_WINDOW_BYTES,
            receive_window_bytes: RECEIVE_WINDOW_BYTES,
            send_window_bytes: SEND_WINDOW_BYTES,
            mtu_upper_bound: None,
            socket_buffer_bytes: Some(SOCKET_BUFFER_BYTES),
        }
    }
}

/// Which end of a connection settings are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Client,
}

impl TransportOptions {
    /// The defaults with datagrams of [`LOOPBACK_MTU`]: about a third of the processor time a byte, on one machine.
    #[must_use]
    pub fn loopback() -> Self {
        Self { mtu_upper_bound: Some(LOOPBACK_MTU), ..Self::default() }
    }

    pub(crate) fn endpoint_config(&self) -> Result<EndpointConfig, EndpointError> {
        let mut config = EndpointConfig::default();
        if let Some(mtu) = self.mtu_upper_bound {
            if mtu > LOOPBACK_MTU {
                return Err(EndpointError::Mtu { max: LOOPBACK_MTU, actual: mtu });
            }
            config.max_udp_payload_size(mtu).map_err(|_| EndpointError::Mtu { max: LOOPBACK_MTU, actual: mtu })?;
        }
        Ok(config)
    }

    pub(crate) fn transport_config(&self, side: Side) -> Result<Arc<TransportConfig>, EndpointError> {
        let idle = IdleTimeout::try_from(self.idle_timeout).map_err(|_| EndpointError::IdleTimeout { actual: self.idle_timeout })?;
        let send_window = self.send_window_bytes;
        let mut congestion = CubicConfig::default();
        congestion.initial_window(self.initial_window_bytes);

        let mut config = TransportConfig::default();
        let channels = if side == Side::Server { self.channels_per_connection.min(CHANNELS_AT_FIRST) } else { 0 };
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(channels))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .max_idle_timeout(Some(idle))
            .stream_receive_window(VarInt::from_u32(self.stream_window_bytes))
            .receive_window(VarInt::from_u32(self.receive_window_bytes))
            .send_window(send_window)
            .datagram_receive_buffer_size(None)
            .congestion_controller_factory(Arc::new(congestion));
        if side == Side::Client {
            config.keep_alive_interval(self.keep_alive_interval);
        }
        if let Some(mtu) = self.mtu_upper_bound {
            let mut discovery = MtuDiscoveryConfig::default();
            discovery.upper_bound(mtu);
            config.mtu_discovery_config(Some(discovery));
        }
        Ok(Arc::new(config))
    }
}
