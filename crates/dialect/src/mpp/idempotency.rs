//! `Idempotency-Key`: a payer's name for one request, so that it can be retried and is charged once.

use crate::DialectError;
use crate::limits::IDEMPOTENCY_KEY_BYTES_MAX;

/// Header of a request: the key. It counts together with the offer's id.
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// A key: 1 to 255 visible ASCII characters, with or without quotes around them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// From the header's value. Quotes around it are not part of the key: some clients write it as a structured string.
    ///
    /// # Errors
    /// [`DialectError`].
    pub fn new(value: &str) -> Result<Self, DialectError> {
        let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        if bare.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(DialectError::TooLong { part: IDEMPOTENCY_KEY, bytes: bare.len(), max: IDEMPOTENCY_KEY_BYTES_MAX });
        }
        if bare.is_empty() || !bare.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
            return Err(DialectError::field(IDEMPOTENCY_KEY, "expected visible ASCII characters"));
        }
        Ok(Self(bare.to_owned()))
    }

    /// The key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
