//! Messages onto a stream: several in one write.

use bytes::{Bytes, BytesMut};
use millstream_wire::{EncodeError, ErrorCode, NodeMessage, PayerMessage};

use crate::StreamError;
use crate::endpoint::close_number;

/// Collects messages and writes them together.
#[derive(Debug)]
pub struct MessageWriter {
    stream: quinn::SendStream,
    small: BytesMut,
    pending: Vec<Bytes>,
}

impl MessageWriter {
    pub(crate) fn new(stream: quinn::SendStream) -> Self {
        Self { stream, small: BytesMut::new(), pending: Vec::new() }
    }

    /// Adds a payer's message to the next write.
    ///
    /// # Errors
    /// [`StreamError::Encode`]; nothing was added.
    pub fn queue_payer(&mut self, message: &PayerMessage) -> Result<(), StreamError> {
        self.queue(|out| message.encode(out))
    }

    /// Adds a node's message to the next write.
    ///
    /// # Errors
    /// [`StreamError::Encode`]; nothing was added.
    pub fn queue_node(&mut self, message: &NodeMessage) -> Result<(), StreamError> {
        self.queue(|out| message.encode(out))
    }

    fn queue(&mut self, encode: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>) -> Result<(), StreamError> {
        let before = self.small.len();
        encode(&mut self.small).map_err(|error| {
            self.small.truncate(before);
            error.into()
        })
    }

    /// Adds messages that are encoded already, lengths included, to the next write; they are not copied.
    pub fn queue_encoded(&mut self, messages: Bytes) {
        self.seal();
        if !messages.is_empty() {
            self.pending.push(messages);
        }
    }

    /// Whether the next write has anything to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.small.is_empty() && self.pending.is_empty()
    }

    /// Writes all that was queued. It waits while the peer reads more slowly.
    ///
    /// Losing the wait loses nothing: what was not taken stays queued, and the next flush continues where this one stopped.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        self.seal();
        while !self.pending.is_empty() {
            let written = self.stream.write_chunks(&mut self.pending).await?;
            self.pending.drain(..written.chunks);
        }
        Ok(())
    }

    /// Ends the stream in order, after what was flushed.
    pub fn finish(&mut self) {
        // An error says that the stream has ended already.
        let _ = self.stream.finish();
    }

    /// Gives the stream up: the peer learns the code and may not get what was written last.
    pub fn reset(&mut self, code: ErrorCode) {
        self.small.clear();
        self.pending.clear();
        let _ = self.stream.reset(close_number(Some(code)));
    }

    /// Waits until the peer gives up reading, has read everything after a [`MessageWriter::finish`], or is gone.
    ///
    /// # Errors
    /// [`StreamError::ClosedByPeer`] when it gave up, [`StreamError::Lost`].
    pub async fn stopped(&self) -> Result<(), StreamError> {
        match self.stream.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(StreamError::ClosedByPeer { code: crate::CloseCode::from_varint(code) }),
            Err(quinn::StoppedError::ConnectionLost(lost)) => Err(StreamError::Lost(lost.into())),
            Err(quinn::StoppedError::ZeroRttRejected) => Err(StreamError::ClosedHere),
        }
    }

    /// Moves the small messages behind what is pending, keeping the order.
    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.pending.push(self.small.split().freeze());
        }
    }
}
