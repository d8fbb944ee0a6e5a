//! Why bytes are not a message, and why a message has no bytes.

use millstream_types::AmountError;

use crate::{ErrorCode, Kind};

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The length before the message is over the limit.
    #[error("a message of {actual} bytes is over the limit of {max}")]
    Oversized {
        /// The limit for this sender.
        max: usize,
        /// The named length.
        actual: usize,
    },
    /// A message without even a kind.
    #[error("a message has at least its kind, this one is empty")]
    Empty,
    /// No message of this sender has this kind.
    #[error("unknown message kind {actual:#04x}")]
    UnknownKind {
        /// The byte found.
        actual: u8,
    },
    /// The message is longer or shorter than its kind and count say.
    #[error("{kind} of {actual} bytes, expected {expected}")]
    Length {
        /// The message.
        kind: Kind,
        /// Bytes its kind and count say it has, kind and body; the least it can have when it is too short to say.
        expected: usize,
        /// Bytes it has.
        actual: usize,
    },
    /// An attach of a version this crate does not speak; what follows is not looked at.
    #[error("version {actual} is not spoken here, expected {expected}")]
    UnsupportedVersion {
        /// The version spoken.
        expected: u16,
        /// The version named.
        actual: u16,
    },
    /// A field or flag that must be zero is not.
    #[error("reserved bits of {kind} must be zero, got {actual:#06x}")]
    Reserved {
        /// The message.
        kind: Kind,
        /// The bits found.
        actual: u16,
    },
    /// A number outside its range.
    #[error("{field} of {kind} is {actual}, expected {min} to {max}")]
    OutOfRange {
        /// The message.
        kind: Kind,
        /// The field, in the words of the specification.
        field: &'static str,
        /// The least allowed value.
        min: u64,
        /// The greatest allowed value.
        max: u64,
        /// The value found.
        actual: u64,
    },
    /// A payment of nothing (B-1).
    #[error("line {index} of the frame pays nothing")]
    ZeroAmount {
        /// The line, from 0.
        index: usize,
    },
    /// A channel id of more than 248 bits (V-2).
    #[error("the first byte of a channel id must be zero, got {actual:#04x}")]
    ChannelId {
        /// The byte found.
        actual: u8,
    },
    /// A snapshot that says no voucher was accepted and yet carries one.
    #[error("a snapshot without an accepted voucher must carry zero totals, the first bill head and a zero signature")]
    UnexpectedVoucher,
    /// A relayed that says more than its stage can know.
    #[error("{field} of relayed must be zero at its stage")]
    TooEarly {
        /// The field, in the words of the specification.
        field: &'static str,
    },
    /// A good message where it has no place (W-9).
    #[error("{kind} has no place on this stream")]
    Misplaced {
        /// The message.
        kind: Kind,
    },
}

impl DecodeError {
    /// The code to answer with: 1 and 2 close the stream, 3 is a reject (W-2, W-3).
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Oversized { .. } => ErrorCode::Oversized,
            Self::UnsupportedVersion { .. } => ErrorCode::UnsupportedVersion,
            Self::Empty
            | Self::UnknownKind { .. }
            | Self::Length { .. }
            | Self::Reserved { .. }
            | Self::OutOfRange { .. }
            | Self::ZeroAmount { .. }
            | Self::ChannelId { .. }
            | Self::UnexpectedVoucher
            | Self::TooEarly { .. }
            | Self::Misplaced { .. } => ErrorCode::Malformed,
        }
    }
}

/// Why a message cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// An amount that does not fit the 64 bits of the native rail.
    #[error("{field} does not fit the wire")]
    Amount {
        /// The field, in the words of the specification.
        field: &'static str,
        /// What is wrong with it.
        source: AmountError,
    },
    /// A payment of nothing (B-1).
    #[error("line {index} of the frame pays nothing")]
    ZeroAmount {
        /// The line, from 0.
        index: usize,
    },
    /// A frame has 1 to 1,024 lines (B-2).
    #[error("a frame has 1 to {max} lines, not {actual}")]
    LineCount {
        /// The most lines of a frame.
        max: usize,
        /// The lines given.
        actual: usize,
    },
    /// A frame that is longer than a payer's message may be.
    #[error("a frame of {actual} bytes is over the limit of {max}")]
    Oversized {
        /// The limit.
        max: usize,
        /// Bytes it would have, kind and body.
        actual: usize,
    },
    /// Either all lines of a frame carry a digest or none does (B-2).
    #[error("line {index} differs from the first in carrying a usage digest")]
    MixedDigests {
        /// The line, from 0.
        index: usize,
    },
    /// A number outside its range.
    #[error("{field} is {actual}, expected {min} to {max}")]
    OutOfRange {
        /// The field, in the words of the specification.
        field: &'static str,
        /// The least allowed value.
        min: u64,
        /// The greatest allowed value.
        max: u64,
        /// The value given.
        actual: u64,
    },
    /// The voucher is for another channel than the message.
    #[error("the voucher is for another channel than the message")]
    VoucherChannel,
}
