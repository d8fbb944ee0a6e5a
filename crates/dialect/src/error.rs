//! Why something is not what it claims to be. All of it is the other side's doing: rejections, never faults.

use millstream_types::{NetworkError, ParseUintError};
use millstream_voucher::evm::EvmError;

/// Why a header, a body or a field of one was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialectError {
    /// Longer than its limit.
    #[error("{part} has {bytes} bytes, more than {max}")]
    TooLong {
        /// The header, body or field.
        part: &'static str,
        /// Bytes it has.
        bytes: usize,
        /// Its limit.
        max: usize,
    },
    /// More entries than the limit.
    #[error("{part} has {count} entries; {min} to {max} are taken")]
    Count {
        /// The list.
        part: &'static str,
        /// Entries it has.
        count: usize,
        /// The fewest that are taken.
        min: usize,
        /// The most that are taken.
        max: usize,
    },
    /// Not the base64 that the dialect writes: x402 the padded standard one, MPP the URL-safe one without padding.
    #[error("{part} is not base64 of its kind")]
    NotBase64 {
        /// The header or field.
        part: &'static str,
    },
    /// Arrays and objects within each other beyond the limit.
    #[error("{part} is nested deeper than {max} levels")]
    TooDeep {
        /// The header or body.
        part: &'static str,
        /// The limit.
        max: usize,
    },
    /// Not JSON, or JSON of another shape; with the reason and place that the JSON library gives.
    #[error("{part}: {reason}")]
    Shape {
        /// The header or body.
        part: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
    /// Not the syntax of HTTP authentication.
    #[error("{part}: {reason}")]
    Syntax {
        /// The header.
        part: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// A field says what it may not.
    #[error("{field}: {reason}")]
    Field {
        /// The field, as on the wire.
        field: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// An x402 version that is not spoken.
    #[error("x402 version {got} is not spoken, only {expected}")]
    Version {
        /// The version that came.
        got: u64,
        /// The version that is spoken.
        expected: u64,
    },
    /// An amount, time or nonce that is no integer.
    #[error("{field}: {source}")]
    Integer {
        /// The field, as on the wire.
        field: &'static str,
        /// Why.
        source: ParseUintError,
    },
    /// A network that is not CAIP-2.
    #[error("{field}: {source}")]
    Network {
        /// The field, as on the wire.
        field: &'static str,
        /// Why.
        source: NetworkError,
    },
    /// A signature or statement that cannot be one.
    #[error("{field}: {source}")]
    Evm {
        /// The field, as on the wire.
        field: &'static str,
        /// Why.
        source: EvmError,
    },
}

impl DialectError {
    pub(crate) const fn field(field: &'static str, reason: &'static str) -> Self {
        Self::Field { field, reason }
    }

    pub(crate) fn shape(part: &'static str, error: &serde_json::Error) -> Self {
        Self::Shape { part, reason: error.to_string() }
    }
}
