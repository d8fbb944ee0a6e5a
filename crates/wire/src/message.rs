//! Kinds, the two directions, and cutting a stream into messages.

use core::fmt;

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::{LENGTH_BYTES, NODE_MESSAGE_BYTES_MAX, PAYER_MESSAGE_BYTES_MAX};
use crate::{Ack, Attach, DecodeError, EncodeError, FrameMessage, Refused, Reject, Relay, Relayed, Snapshot};

/// What a message is: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// From the payer: names the channel of a stream.
    Attach,
    /// From the payer: lines and the voucher over them.
    Frame,
    /// From the payer: a deposit for the node to submit.
    Relay,
    /// From the node: the answer to a good attach.
    Snapshot,
    /// From the node: frames are durable.
    Ack,
    /// From the node: a message changed nothing.
    Reject,
    /// From the node: how far a deposit is.
    Relayed,
    /// From the node: a deposit is not relayed.
    Refused,
}

impl Kind {
    /// The byte.
    #[must_use]
    pub const fn to_u8(self) -> u8 {
        match self {
            Self::Attach => 0x01,
            Self::Frame => 0x02,
            Self::Relay => 0x03,
            Self::Snapshot => 0x81,
            Self::Ack => 0x82,
            Self::Reject => 0x83,
            Self::Relayed => 0x84,
            Self::Refused => 0x85,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attach => "attach",
            Self::Frame => "frame",
            Self::Relay => "relay",
            Self::Snapshot => "snapshot",
            Self::Ack => "ack",
            Self::Reject => "reject",
            Self::Relayed => "relayed",
            Self::Refused => "refused",
        })
    }
}

/// Takes the first whole message, kind and body without its length, off `buffer`; `None` when more bytes must arrive first.
///
/// The length is checked as soon as its four bytes are there, before anything is stored for it. The message shares the
/// buffer's memory.
///
/// # Errors
/// [`DecodeError::Oversized`] for a length over `bytes_max`, [`DecodeError::Empty`] for a length of zero. The buffer is left as it
/// was: a stream with such a length is closed (W-2).
pub fn split_message(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, DecodeError> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    // A length that does not fit the address space is over every limit.
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(DecodeError::Oversized { max: bytes_max, actual: length });
    }
    if length == 0 {
        return Err(DecodeError::Empty);
    }
    if buffer.len().saturating_sub(LENGTH_BYTES) < length {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(buffer.split_to(length).freeze()))
}

fn kind_byte(message: &[u8], bytes_max: usize) -> Result<u8, DecodeError> {
    if message.len() > bytes_max {
        return Err(DecodeError::Oversized { max: bytes_max, actual: message.len() });
    }
    message.first().copied().ok_or(DecodeError::Empty)
}

/// A message from a payer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayerMessage {
    /// Names the channel of a stream and proves that the caller holds its key.
    Attach(Attach),
    /// Pays.
    Frame(FrameMessage),
    /// Asks for a deposit to be submitted.
    Relay(Box<Relay>),
}

impl PayerMessage {
    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Attach(_) => Kind::Attach,
            Self::Frame(_) => Kind::Frame,
            Self::Relay(_) => Kind::Relay,
        }
    }

    /// Reads a message, kind and body without its length. A frame keeps `message` and copies nothing.
    ///
    /// # Errors
    /// [`DecodeError`]; its [`code`](DecodeError::code) is the answer.
    pub fn decode(message: Bytes) -> Result<Self, DecodeError> {
        match kind_byte(&message, PAYER_MESSAGE_BYTES_MAX)? {
            0x01 => Attach::decode(&message).map(Self::Attach),
            0x02 => FrameMessage::decode(message).map(Self::Frame),
            0x03 => Relay::decode(&message).map(Box::new).map(Self::Relay),
            actual => Err(DecodeError::UnknownKind { actual }),
        }
    }

    /// Appends the message, length included.
    ///
    /// # Errors
    /// [`EncodeError`]; `out` may then hold part of it.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Attach(attach) => attach.encode(out),
            Self::Frame(frame) => frame.encode(out),
            Self::Relay(relay) => relay.encode(out),
        }
    }
}

/// A message from a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeMessage {
    /// What the node knows of the channel, and its limits.
    Snapshot(Box<Snapshot>),
    /// Frames are durable.
    Ack(Ack),
    /// A message changed nothing.
    Reject(Reject),
    /// How far a relayed deposit is.
    Relayed(Relayed),
    /// A deposit is not relayed.
    Refused(Box<Refused>),
}

impl NodeMessage {
    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Snapshot(_) => Kind::Snapshot,
            Self::Ack(_) => Kind::Ack,
            Self::Reject(_) => Kind::Reject,
            Self::Relayed(_) => Kind::Relayed,
            Self::Refused(_) => Kind::Refused,
        }
    }

    /// Reads a message, kind and body without its length.
    ///
    /// # Errors
    /// [`DecodeError`]; its [`code`](DecodeError::code) is what a payer resets the stream with.
    pub fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        match kind_byte(message, NODE_MESSAGE_BYTES_MAX)? {
            0x81 => Snapshot::decode(message).map(Box::new).map(Self::Snapshot),
            0x82 => Ack::decode(message).map(Self::Ack),
            0x83 => Reject::decode(message).map(Self::Reject),
            0x84 => Relayed::decode(message).map(Self::Relayed),
            0x85 => Refused::decode(message).map(Box::new).map(Self::Refused),
            actual => Err(DecodeError::UnknownKind { actual }),
        }
    }

    /// Appends the message, length included.
    ///
    /// # Errors
    /// [`EncodeError`]; `out` may then hold part of it.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Snapshot(snapshot) => snapshot.encode(out),
            Self::Ack(ack) => ack.encode(out),
            Self::Reject(reject) => reject.encode(out),
            Self::Relayed(relayed) => relayed.encode(out),
            Self::Refused(refused) => refused.encode(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_off_one_by_one_as_they_arrive() {
        let mut buffer = BytesMut::from(&[0, 0, 0][..]);
        assert_eq!(split_message(&mut buffer, 8), Ok(None));
        buffer.extend_from_slice(&[2, 0x82]);
        assert_eq!(split_message(&mut buffer, 8), Ok(None));
        buffer.extend_from_slice(&[7, 0, 0, 0, 1, 0x83]);
        assert_eq!(split_message(&mut buffer, 8), Ok(Some(Bytes::from_static(&[0x82, 7]))));
        assert_eq!(split_message(&mut buffer, 8), Ok(Some(Bytes::from_static(&[0x83]))));
        assert_eq!(split_message(&mut buffer, 8), Ok(None));
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_arrive() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 9][..]);
        assert_eq!(split_message(&mut buffer, 8), Err(DecodeError::Oversized { max: 8, actual: 9 }));
        let mut buffer = BytesMut::from(&[0, 0, 0, 0][..]);
        assert_eq!(split_message(&mut buffer, 8), Err(DecodeError::Empty));
    }
}
