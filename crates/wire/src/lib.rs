//! The messages of `millstream/1`: exact codecs, limits and error codes, as bytes.
//!
//! This crate knows no sockets and nothing of a node's or a payer's state. Layouts: `docs/spec/wire.md`; the numbers `W-n` are its
//! requirements. A transport cuts a stream into messages with [`split_message`] and hands them to [`PayerMessage::decode`] or
//! [`NodeMessage::decode`]; every message writes itself, length included, with its `encode`.
//!
//! **Invariants.** Decoding accepts exactly the bytes that encoding can produce, so a decoded message encodes to the same bytes.
//! No input makes a decoder panic or allocate more than the message itself. A decoded frame is not copied: it keeps the bytes it
//! came in and reads its lines from them.

#![warn(clippy::as_conversions, clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm)]

mod code;
mod error;
mod fields;
mod frame;
mod limits;
mod message;
mod node;
mod payer;
mod relay;

pub use code::{CLOSE_ORDERLY, ErrorCode, Retry};
pub use error::{DecodeError, EncodeError};
pub use frame::{FrameLines, FrameMessage};
pub use limits::{
    ALPN, ATTACH_BYTES, FRAME_HEADER_BYTES, LENGTH_BYTES, NODE_MESSAGE_BYTES_MAX, PAYER_MESSAGE_BYTES_MAX, RELAY_SIGNATURE_BYTES_MAX,
    REVERT_BYTES_MAX, VERSION, frame_bytes, frame_lines_max,
};
pub use message::{Kind, NodeMessage, PayerMessage, split_message};
pub use node::{Ack, ChannelStatus, Limits, Reject, Snapshot};
pub use payer::Attach;
pub use relay::{Refused, Relay, RelayPurpose, RelayStage, RelayWay, Relayed};
