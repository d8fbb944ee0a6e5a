//! A connection and its channel streams.

use std::net::SocketAddr;
use std::time::Duration;

use millstream_wire::ErrorCode;
use quinn::VarInt;
use tokio::time::timeout;

use crate::endpoint::close_number;
use crate::{ConnectionLost, MessageReader, MessageWriter, StreamError};

/// How long a peer may take to allow one more stream before it counts as a refusal.
const STREAM_CREDIT_TIMEOUT: Duration = Duration::from_secs(5);

/// An authenticated connection. A clone is the same connection; it closes when the last clone and the last stream are dropped.
#[derive(Clone, Debug)]
pub struct Connection {
    connection: quinn::Connection,
}

impl Connection {
    pub(crate) const fn new(connection: quinn::Connection) -> Self {
        Self { connection }
    }

    /// Where the peer is now; a client may move.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// A number that no other connection of this process has.
    #[must_use]
    pub fn id(&self) -> usize {
        self.connection.stable_id()
    }

    /// The round trip, as estimated now.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    /// Opens a stream for one channel. The peer sees it with its first message.
    ///
    /// # Errors
    /// [`StreamError::TooManyStreams`] when the peer allows no more, [`StreamError::Lost`].
    pub async fn open_channel(&self) -> Result<ChannelStream, StreamError> {
        match timeout(STREAM_CREDIT_TIMEOUT, self.connection.open_bi()).await {
            Ok(Ok((send, receive))) => Ok(ChannelStream::of_payer(send, receive)),
            Ok(Err(error)) => Err(StreamError::Lost(error.into())),
            Err(_) => Err(StreamError::TooManyStreams),
        }
    }

    /// Allows the payer so many channel streams at a time; never fewer than before.
    pub fn allow_channels(&self, channels: u32) {
        self.connection.set_max_concurrent_bi_streams(VarInt::from_u32(channels));
    }

    /// The next stream that the payer opened. Losing the wait loses no stream.
    ///
    /// # Errors
    /// Why the connection ended.
    pub async fn accept_channel(&self) -> Result<ChannelStream, ConnectionLost> {
        let (send, receive) = self.connection.accept_bi().await?;
        Ok(ChannelStream::of_node(send, receive))
    }

    /// Closes the connection and all its streams: with a code when something is wrong, without one in order.
    pub fn close(&self, code: Option<ErrorCode>, reason: &str) {
        self.connection.close(close_number(code), reason.as_bytes());
    }

    /// Waits for the end of the connection, and says why it came.
    pub async fn closed(&self) -> ConnectionLost {
        self.connection.closed().await.into()
    }

    /// Why the connection ended, if it did.
    #[must_use]
    pub fn close_reason(&self) -> Option<ConnectionLost> {
        self.connection.close_reason().map(ConnectionLost::from)
    }
}

/// The stream of one channel: messages in both directions. Its halves may be used from different tasks.
#[derive(Debug)]
pub struct ChannelStream {
    /// What the peer says.
    pub reader: MessageReader,
    /// What is said to the peer.
    pub writer: MessageWriter,
}

impl ChannelStream {
    fn of_payer(send: quinn::SendStream, receive: quinn::RecvStream) -> Self {
        Self { reader: MessageReader::from_node(receive), writer: MessageWriter::new(send) }
    }

    fn of_node(send: quinn::SendStream, receive: quinn::RecvStream) -> Self {
        Self { reader: MessageReader::from_payer(receive), writer: MessageWriter::new(send) }
    }

    /// Gives the stream up in both directions with a code (W-2). The connection and its other streams live on.
    pub fn close(&mut self, code: ErrorCode) {
        self.reader.stop(code);
        self.writer.reset(code);
    }
}
