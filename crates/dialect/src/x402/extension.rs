//! Extensions that are understood; all others are kept as they came.

use serde_json::json;

use crate::limits::PAYMENT_ID_BYTES;
use crate::{DialectError, Object};

/// The key of the extension that names a payment, so that it can be retried.
pub const PAYMENT_IDENTIFIER: &str = "payment-identifier";

/// A payer's own name for one payment: 16 to 128 characters of `A-Za-z0-9_-`. The same with the same payload is a retry; with another
/// payload it is a conflict (409).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaymentId(String);

impl PaymentId {
    /// From its text.
    ///
    /// # Errors
    /// [`DialectError::Field`].
    pub fn new(text: &str) -> Result<Self, DialectError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if PAYMENT_ID_BYTES.contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(DialectError::field("payment-identifier", "expected 16 to 128 characters of A-Z, a-z, 0-9, _ and -"))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id in a payment's extensions, if there is one.
    ///
    /// # Errors
    /// [`DialectError::Field`] when it is not an id.
    pub fn in_extensions(extensions: &Object) -> Result<Option<Self>, DialectError> {
        let id = extensions.get(PAYMENT_IDENTIFIER).and_then(|extension| extension.get("info")).and_then(|info| info.get("id"));
        match id {
            None => Ok(None),
            Some(id) => Self::new(id.as_str().unwrap_or_default()).map(Some),
        }
    }

    /// Puts the id into a payment's extensions, beside what the offer had there.
    pub fn put_into(&self, extensions: &mut Object) {
        let mut info = extensions
            .get(PAYMENT_IDENTIFIER)
            .and_then(|extension| extension.get("info"))
            .and_then(serde_json::Value::as_object)
            .cloned()
            .unwrap_or_default();
        info.insert("id".to_owned(), json!(self.0));
        let mut extension = extensions.get(PAYMENT_IDENTIFIER).and_then(serde_json::Value::as_object).cloned().unwrap_or_default();
        extension.insert("info".to_owned(), serde_json::Value::Object(info));
        extensions.insert(PAYMENT_IDENTIFIER, serde_json::Value::Object(extension));
    }
}

/// Says in an offer's extensions that payments may, or have to, carry an id.
pub fn offer_payment_identifier(extensions: &mut Object, required: bool) {
    extensions.insert(PAYMENT_IDENTIFIER, json!({"info": {"required": required}}));
}
