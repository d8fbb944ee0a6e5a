//! The two kinds of base64, with JSON inside.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{DialectError, json};

/// The padded standard alphabet (x402, H-2) or the URL-safe one without padding (MPP, H-20).
#[derive(Clone, Copy)]
pub(crate) enum Alphabet {
    Padded,
    UrlSafe,
}

impl Alphabet {
    pub(crate) fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Padded => STANDARD.encode(bytes),
            Self::UrlSafe => URL_SAFE_NO_PAD.encode(bytes),
        }
    }

    pub(crate) fn decode(self, part: &'static str, text: &str, max: usize) -> Result<Vec<u8>, DialectError> {
        if text.len() > max {
            return Err(DialectError::TooLong { part, bytes: text.len(), max });
        }
        let decoded = match self {
            Self::Padded => STANDARD.decode(text),
            Self::UrlSafe => URL_SAFE_NO_PAD.decode(text),
        };
        decoded.map_err(|_| DialectError::NotBase64 { part })
    }

    pub(crate) fn encode_json<T: Serialize>(self, part: &'static str, value: &T) -> Result<String, DialectError> {
        let json = serde_json::to_vec(value).map_err(|error| DialectError::shape(part, &error))?;
        Ok(self.encode(&json))
    }

    pub(crate) fn decode_json<T: DeserializeOwned>(self, part: &'static str, text: &str, max: usize) -> Result<T, DialectError> {
        json::parse(part, &self.decode(part, text, max)?, max)
    }
}
