//! Messages off a stream: many for each wake-up, none larger than its limit.

use bytes::{Bytes, BytesMut};
use millstream_wire::{ErrorCode, LENGTH_BYTES, NODE_MESSAGE_BYTES_MAX, PAYER_MESSAGE_BYTES_MAX, split_message};

use crate::StreamError;
use crate::endpoint::close_number;

/// Received pieces taken in one go; each is at most a datagram. The places for them are a part of every session's memory.
const PIECES: usize = 8;

/// Reads length-prefixed messages. Holds no buffer while nothing is under way.
#[derive(Debug)]
pub struct MessageReader {
    stream: quinn::RecvStream,
    buffer: BytesMut,
    bytes_max: usize,
}

impl MessageReader {
    pub(crate) fn from_payer(stream: quinn::RecvStream) -> Self {
        Self { stream, buffer: BytesMut::new(), bytes_max: PAYER_MESSAGE_BYTES_MAX }
    }

    pub(crate) fn from_node(stream: quinn::RecvStream) -> Self {
        Self { stream, buffer: BytesMut::new(), bytes_max: NODE_MESSAGE_BYTES_MAX }
    }

    /// The next message, kind and body; `None` when the peer ended the stream in order. Losing the wait loses no message.
    ///
    /// # Errors
    /// [`StreamError`]. Before [`StreamError::Message`] the stream is stopped with the error's code (W-2), so the peer learns it; the
    /// writer of the stream should be reset with the same code.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StreamError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if self.buffer.is_empty() {
                // What was read is let go with its memory.
                self.buffer = BytesMut::new();
            }
            if !self.fill().await? {
                return match self.buffer.len() {
                    0 => Ok(None),
                    bytes => Err(StreamError::Truncated { bytes }),
                };
            }
        }
    }

    /// The next message, if it has arrived whole with the last ones: what can be handled together with them without waiting.
    ///
    /// # Errors
    /// [`StreamError::Message`] as for [`MessageReader::next`].
    pub fn take(&mut self) -> Result<Option<Bytes>, StreamError> {
        split_message(&mut self.buffer, self.bytes_max).map_err(|error| {
            self.stop(error.code());
            error.into()
        })
    }

    /// Tells the peer that nothing more is read, and why.
    pub fn stop(&mut self, code: ErrorCode) {
        // An error says that the stream has ended by itself, which is as good.
        let _ = self.stream.stop(close_number(Some(code)));
    }

    /// Takes what has arrived; false at the end of the stream.
    async fn fill(&mut self) -> Result<bool, StreamError> {
        let mut pieces: [Bytes; PIECES] = core::array::from_fn(|_| Bytes::new());
        let Some(count) = self.stream.read_chunks(&mut pieces).await? else {
            return Ok(false);
        };
        let pieces = &pieces[..count];
        let arrived: usize = pieces.iter().map(Bytes::len).sum();
        self.buffer.reserve(arrived.max(self.missing()));
        for piece in pieces {
            self.buffer.extend_from_slice(piece);
        }
        Ok(true)
    }

    /// Bytes that a message under way still lacks, within the limit: so that it is moved at most once.
    fn missing(&self) -> usize {
        let length = self
            .buffer
            .first_chunk::<LENGTH_BYTES>()
            .map_or(0, |length| usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX).min(self.bytes_max));
        (length + LENGTH_BYTES).saturating_sub(self.buffer.len())
    }
}
