//! What can go wrong between two ends, and what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use core::fmt;

use millstream_wire::{CLOSE_ORDERLY, DecodeError, EncodeError, ErrorCode};

use crate::Fingerprint;

/// Why an endpoint does not start.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address is taken, or not one of this machine's.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A datagram size that breaks sending in batches.
    #[error("mtu_upper_bound is {actual}, at most {max} works")]
    Mtu {
        /// The largest that works.
        max: u16,
        /// The one asked for.
        actual: u16,
    },
    /// An idle timeout that QUIC cannot express.
    #[error("an idle timeout of {actual:?} is too long")]
    IdleTimeout {
        /// The one asked for.
        actual: Duration,
    },
    /// The TLS library refuses the certificate, the key or the configuration.
    #[error("the TLS configuration is refused")]
    Tls(#[source] rustls::Error),
    /// The TLS library has no cipher for QUIC's first packets.
    #[error("the TLS configuration has no cipher for QUIC")]
    NoInitialCipher,
}

/// Why a server has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file without a certificate, or with something else in it.
    #[error("no PEM certificate in {}", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file without a private key, or with something else in it.
    #[error("no PEM private key in {}", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A key that others can read is no secret.
    #[error("{} can be read by others (mode {mode:03o}): make it 600, and replace it if it may have been read", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// No certificate could be made.
    #[error("cannot make a self-signed certificate")]
    Generate(#[source] rcgen::Error),
}

/// Why a client has nothing to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file without a certificate, or with something else in it.
    #[error("no PEM certificate in {}", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The system has no root certificates.
    #[error("the system has no usable root certificates: pin the node's fingerprint or name a root file")]
    NoSystemRoots,
    /// The TLS library refuses the roots.
    #[error("the root certificates are refused")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// The code that a peer gave when it closed a connection or a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 0: nothing is wrong.
    Orderly,
    /// One of ours.
    Error(ErrorCode),
    /// A number that this version does not know.
    Unknown(u64),
}

impl CloseCode {
    pub(crate) fn from_varint(code: quinn::VarInt) -> Self {
        let number = code.into_inner();
        match u16::try_from(number) {
            Ok(CLOSE_ORDERLY) => Self::Orderly,
            Ok(small) => ErrorCode::from_number(small).map_or(Self::Unknown(number), Self::Error),
            Err(_) => Self::Unknown(number),
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Orderly => f.write_str("orderly (0)"),
            Self::Error(code) => code.fmt(f),
            Self::Unknown(number) => write!(f, "unknown ({number})"),
        }
    }
}

/// Why a connection is no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionLost {
    /// The other end closed it and said why.
    #[error("the peer closed the connection: {code}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    PeerClosed {
        /// Its code.
        code: CloseCode,
        /// Its words, as it sent them.
        reason: String,
    },
    /// This end closed it.
    #[error("the connection was closed here")]
    LocallyClosed,
    /// Nothing came for the idle timeout.
    #[error("the peer has been silent for longer than the idle timeout")]
    TimedOut,
    /// The other end does not know this connection: it was restarted.
    #[error("the peer does not know this connection any more: it was restarted")]
    Reset,
    /// One of both broke the rules of QUIC or TLS.
    #[error("the connection broke down: {reason}")]
    Protocol {
        /// What the QUIC library says.
        reason: String,
    },
}

impl From<quinn::ConnectionError> for ConnectionLost {
    fn from(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as E;
        match error {
            E::ApplicationClosed(close) => Self::PeerClosed {
                code: CloseCode::from_varint(close.error_code),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            E::LocallyClosed => Self::LocallyClosed,
            E::TimedOut => Self::TimedOut,
            E::Reset => Self::Reset,
            other @ (E::VersionMismatch | E::TransportError(_) | E::ConnectionClosed(_) | E::CidsExhausted) => {
                Self::Protocol { reason: other.to_string() }
            }
        }
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The node showed another certificate than the pinned one.
    #[error(
        "the node's certificate is {actual}, pinned is {expected}: if the node's operator confirms the new fingerprint, pin it; \
         otherwise someone else is answering, so do not connect"
    )]
    FingerprintMismatch {
        /// The pinned fingerprint.
        expected: Fingerprint,
        /// What the node showed.
        actual: Fingerprint,
    },
    /// The node's certificate is not signed by a trusted root, or is for another name, or is out of date.
    #[error("the node's certificate is not trusted ({reason}): check the host name and the roots, or pin the fingerprint")]
    Untrusted {
        /// What the TLS library says.
        reason: String,
    },
    /// What answers speaks something else.
    #[error("what answers there does not speak millstream/1: check the address and port")]
    WrongProtocol,
    /// No answer.
    #[error("no answer from {address} within {after:?}: check the address, and that UDP passes the firewall")]
    TimedOut {
        /// The node.
        address: SocketAddr,
        /// How long was waited.
        after: Duration,
    },
    /// The node takes no more connections.
    #[error("the node refuses new connections: try again later")]
    Refused,
    /// The name of the node is no host name.
    #[error("{name:?} is not a host name")]
    Name {
        /// The name given.
        name: String,
    },
    /// This endpoint cannot open connections, or not to such an address.
    #[error("cannot connect to {address}: {reason}")]
    Local {
        /// The node.
        address: SocketAddr,
        /// What the QUIC library says.
        reason: String,
    },
    /// The handshake began and was broken off.
    #[error("the handshake was broken off")]
    Lost(#[source] ConnectionLost),
}

/// Why a stream gives or takes no more messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Its connection is gone.
    #[error("the connection of the stream is gone")]
    Lost(#[from] ConnectionLost),
    /// The peer gave the stream up and said why.
    #[error("the peer closed the stream: {code}")]
    ClosedByPeer {
        /// Its code.
        code: CloseCode,
    },
    /// This end closed the stream before.
    #[error("the stream was closed here")]
    ClosedHere,
    /// The stream ended in the middle of a message.
    #[error("the stream ended {bytes} bytes into a message")]
    Truncated {
        /// Bytes of the message that came.
        bytes: usize,
    },
    /// The peer sent what is no message. The stream was stopped with the error's code.
    #[error("the peer sent no message")]
    Message(#[from] DecodeError),
    /// A message of ours cannot be written.
    #[error("the message cannot be written")]
    Encode(#[from] EncodeError),
    /// The peer allows no more streams on this connection.
    #[error("the peer allows no more channels on this connection: open another one")]
    TooManyStreams,
}

impl From<quinn::ReadError> for StreamError {
    fn from(error: quinn::ReadError) -> Self {
        match error {
            quinn::ReadError::Reset(code) => Self::ClosedByPeer { code: CloseCode::from_varint(code) },
            quinn::ReadError::ConnectionLost(lost) => Self::Lost(lost.into()),
            // The other two cannot happen: all reads are ordered and there is no 0-RTT.
            quinn::ReadError::ClosedStream | quinn::ReadError::IllegalOrderedRead | quinn::ReadError::ZeroRttRejected => Self::ClosedHere,
        }
    }
}

impl From<quinn::WriteError> for StreamError {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::Stopped(code) => Self::ClosedByPeer { code: CloseCode::from_varint(code) },
            quinn::WriteError::ConnectionLost(lost) => Self::Lost(lost.into()),
            quinn::WriteError::ClosedStream | quinn::WriteError::ZeroRttRejected => Self::ClosedHere,
        }
    }
}
