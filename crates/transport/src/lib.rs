//! QUIC for `millstream/1`: endpoints, identities, trust, and streams of messages.
//!
//! This crate moves bytes. It knows the framing of `docs/spec/wire.md` and nothing of channels, vouchers or storage.
//!
//! **Invariants.** TLS 1.3 only; both ends name the protocol; a server is always authenticated, by roots or by the fingerprint of its
//! certificate, and proves possession of its key. No length is believed before it was compared with its limit. There is no 0-RTT: nothing
//! that a network can replay is ever read. Memory of a connection is bounded by its windows, and an idle one holds no buffers of ours.

mod connection;
mod connection_id;
mod endpoint;
mod error;
mod fingerprint;
mod identity;
mod options;
mod reader;
mod tls;
mod trust;
mod writer;

pub use connection::{ChannelStream, Connection};
pub use endpoint::{ClientEndpoint, Incoming, ServerEndpoint};
pub use error::{CloseCode, ConnectError, ConnectionLost, EndpointError, IdentityError, StreamError, TrustError};
pub use fingerprint::{Fingerprint, ParseFingerprintError};
pub use identity::{CertificateFault, IDENTITY_FILE, ServerIdentity};
pub use options::{
    CHANNELS_AT_FIRST, CHANNELS_PER_CONNECTION, CONNECT_TIMEOUT, IDLE_TIMEOUT, INITIAL_WINDOW_BYTES, KEEP_ALIVE_INTERVAL, LOOPBACK_MTU,
    RECEIVE_WINDOW_BYTES, SEND_WINDOW_BYTES, SOCKET_BUFFER_BYTES, STREAM_WINDOW_BYTES, TransportOptions,
};
pub use reader::MessageReader;
pub use trust::{ServerTrust, TrustedRoots};
pub use writer::MessageWriter;
