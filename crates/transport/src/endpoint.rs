//! The UDP socket of a node or a payer, and the handshakes on it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use millstream_wire::{CLOSE_ORDERLY, ErrorCode};
use quinn::{ClientConfig, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, VarInt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::timeout;

use crate::connection_id::KeyedIds;
use crate::options::{Side, TransportOptions};
use crate::tls::{client_crypto, server_crypto};
use crate::trust::{Distrust, NodeVerifier};
use crate::{ConnectError, Connection, ConnectionLost, EndpointError, Fingerprint, ServerIdentity, ServerTrust};

/// The TLS alert for "no application protocol in common", as QUIC carries it.
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// Between two stateless resets.
const RESET_INTERVAL: Duration = Duration::from_micros(100);

/// The name sent to a node that is known by its fingerprint.
const PINNED_NAME: &str = "millstream";

/// Where payers connect to. A clone is the same endpoint.
#[derive(Clone, Debug)]
pub struct ServerEndpoint {
    endpoint: Endpoint,
    fingerprint: Fingerprint,
    handshake_timeout: Duration,
}

impl ServerEndpoint {
    /// Listens on `address`; port 0 takes a free one. Has to be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn bind(address: SocketAddr, identity: ServerIdentity, options: &TransportOptions) -> Result<Self, EndpointError> {
        let fingerprint = identity.fingerprint();
        let (reset_key, connection_ids) = identity.reset_secrets();
        let mut endpoint_config = options.endpoint_config()?;
        endpoint_config.reset_key(Arc::new(reset_key));
        // quinn would send one in 20 ms, and thousands of payers wait for theirs when a node restarts. A reset is smaller than what it answers, so faster ones
        // amplify nothing.
        endpoint_config.min_reset_interval(RESET_INTERVAL);
        endpoint_config.cid_generator(move || Box::new(KeyedIds::new(connection_ids.clone())));
        let mut config = ServerConfig::with_crypto(server_crypto(identity)?);
        config.transport_config(options.transport_config(Side::Server)?);
        let endpoint = bind(address, endpoint_config, Some(config), options)?;
        Ok(Self { endpoint, fingerprint, handshake_timeout: options.connect_timeout })
    }

    /// The address that is listened on, with its port.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// What payers pin.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Connections that are open or being opened.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// The next payer; `None` once the endpoint is closed. Losing the wait loses no payer.
    pub async fn accept(&self) -> Option<Incoming> {
        let incoming = self.endpoint.accept().await?;
        Some(Incoming { incoming, handshake_timeout: self.handshake_timeout })
    }

    /// Closes every connection with `code` and takes no more.
    pub fn close(&self, code: Option<ErrorCode>, reason: &str) {
        self.endpoint.close(close_number(code), reason.as_bytes());
    }

    /// Waits until the peers know that their connections are closed, or can no longer be told.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// A payer that knocks; nothing was spent on it yet.
#[derive(Debug)]
pub struct Incoming {
    incoming: quinn::Incoming,
    handshake_timeout: Duration,
}

impl Incoming {
    /// Where it says it comes from.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Whether the payer has shown that it is where it says.
    #[must_use]
    pub fn is_validated(&self) -> bool {
        self.incoming.remote_address_validated()
    }

    /// Asks the payer to show that it is where it says (RFC 9000, section 8.1.2): it comes back validated, after one more round trip and
    /// with nothing kept for it here. A payer that has shown it is turned away.
    pub fn ask_to_validate(self) {
        if let Err(validated) = self.incoming.retry() {
            validated.into_incoming().refuse();
        }
    }

    /// Turns the payer away.
    pub fn refuse(self) {
        self.incoming.refuse();
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// [`ConnectError::TimedOut`], or [`ConnectError::Lost`] when the payer broke off, as one does that pins another certificate.
    pub async fn handshake(self) -> Result<Connection, ConnectError> {
        let address = self.remote_address();
        let after = self.handshake_timeout;
        let connecting = self.incoming.accept().map_err(|error| ConnectError::Lost(error.into()))?;
        match timeout(after, connecting).await {
            Ok(Ok(connection)) => Ok(Connection::new(connection)),
            Ok(Err(error)) => Err(failure(error, address, after)),
            Err(_) => Err(ConnectError::TimedOut { address, after }),
        }
    }
}

/// Where a payer connects from. A clone is the same endpoint.
#[derive(Clone, Debug)]
pub struct ClientEndpoint {
    endpoint: Endpoint,
    options: TransportOptions,
}

impl ClientEndpoint {
    /// Opens a socket on a free port for nodes on `family`'s kind of address (IPv4 or IPv6). Has to be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn bind_for(family: SocketAddr, options: TransportOptions) -> Result<Self, EndpointError> {
        let any = if family.is_ipv4() { SocketAddr::from(([0; 4], 0)) } else { SocketAddr::from(([0u16; 8], 0)) };
        bind(any, options.endpoint_config()?, None, &options).map(|endpoint| Self { endpoint, options })
    }

    /// Connects to a node. `host_name` is what its certificate is checked for; it is not looked at when the trust is pinned.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(&self, address: SocketAddr, host_name: &str, trust: &ServerTrust) -> Result<Connection, ConnectError> {
        let verifier = Arc::new(NodeVerifier::new(trust.clone()));
        let local = |reason: String| ConnectError::Local { address, reason };
        let mut config = ClientConfig::new(client_crypto(Arc::clone(&verifier)).map_err(|error| local(error.to_string()))?);
        config.transport_config(self.options.transport_config(Side::Client).map_err(|error| local(error.to_string()))?);
        let name = match trust {
            ServerTrust::Pinned(_) => PINNED_NAME,
            ServerTrust::Roots(_) => host_name,
        };
        let connecting = self.endpoint.connect_with(config, address, name).map_err(|error| match error {
            quinn::ConnectError::InvalidServerName(name) => ConnectError::Name { name },
            other => local(other.to_string()),
        })?;
        let after = self.options.connect_timeout;
        match timeout(after, connecting).await {
            Ok(Ok(connection)) => Ok(Connection::new(connection)),
            Ok(Err(error)) => Err(match (verifier.refused(), trust) {
                (Some(Distrust::Fingerprint(actual)), ServerTrust::Pinned(expected)) => {
                    ConnectError::FingerprintMismatch { expected: *expected, actual }
                }
                (Some(Distrust::Untrusted(reason)), _) => ConnectError::Untrusted { reason },
                (Some(Distrust::Fingerprint(_)) | None, _) => failure(error, address, after),
            }),
            Err(_) => Err(ConnectError::TimedOut { address, after }),
        }
    }

    /// Closes every connection in order and opens no more.
    pub fn close(&self) {
        self.endpoint.close(close_number(None), b"");
    }

    /// Waits until the peers know that their connections are closed, or can no longer be told.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

pub(crate) fn close_number(code: Option<ErrorCode>) -> VarInt {
    VarInt::from_u32(code.map_or(CLOSE_ORDERLY, ErrorCode::number).into())
}

/// Why a handshake failed, as far as QUIC tells.
fn failure(error: quinn::ConnectionError, address: SocketAddr, after: Duration) -> ConnectError {
    let no_protocol = quinn::TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL);
    match &error {
        quinn::ConnectionError::TransportError(fault) if fault.code == no_protocol => ConnectError::WrongProtocol,
        quinn::ConnectionError::ConnectionClosed(close) if close.error_code == no_protocol => ConnectError::WrongProtocol,
        quinn::ConnectionError::ConnectionClosed(close) if close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED => {
            ConnectError::Refused
        }
        quinn::ConnectionError::VersionMismatch => ConnectError::WrongProtocol,
        quinn::ConnectionError::TimedOut => ConnectError::TimedOut { address, after },
        _ => ConnectError::Lost(ConnectionLost::from(error)),
    }
}

fn bind(
    address: SocketAddr,
    config: EndpointConfig,
    server: Option<ServerConfig>,
    options: &TransportOptions,
) -> Result<Endpoint, EndpointError> {
    socket(address, options)
        .and_then(|socket| Endpoint::new(config, server, socket, Arc::new(TokioRuntime)))
        .map_err(|source| EndpointError::Bind { address, source })
}

fn socket(address: SocketAddr, options: &TransportOptions) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if let Some(bytes) = options.socket_buffer_bytes {
        // The kernel caps what it grants; a smaller buffer works, so a refusal only costs throughput.
        for result in [socket.set_recv_buffer_size(bytes), socket.set_send_buffer_size(bytes)] {
            if let Err(error) = result {
                tracing::debug!(%error, bytes, "the system refuses the socket buffer");
            }
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}
