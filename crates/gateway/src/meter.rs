//! Metering: what was used, counted from the bytes of a response as they pass.
//!
//! The meter reads a copy, keeps a bounded part of it, and changes nothing. **Invariant:** what it counts does not depend on how the bytes
//! were cut into pieces.
//!
//! Tokens come, in this order, from what the upstream reports (`usage` in a JSON body, or in events of a stream: OpenAI's chat, completions and
//! responses, Anthropic's messages), or else from the stream itself: an event that adds text is one token, or as many as its `logprobs` list.

mod coding;
mod json;
mod report;
mod sse;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use millstream_tariff::Usage;
use sha2::{Digest, Sha256};

use coding::Coding;
use json::JsonScan;
use report::Tokens;
pub use report::UsageSource;
use sse::SseScan;

/// How a response's content is read.
enum Format {
    /// JSON: `usage` and `data` at its top level.
    Json(JsonScan),
    /// Server-sent events.
    Events(SseScan),
    /// Bytes only.
    Opaque,
}

/// Counts the usage of one response.
pub struct Meter {
    coding: Coding,
    format: Format,
    bytes: u64,
    digest: Sha256,
}

/// What a meter has counted up to some byte.
#[derive(Clone)]
pub struct Snapshot {
    tokens: Tokens,
    images: u64,
    bytes: u64,
    digest: Sha256,
}

impl Snapshot {
    /// The usage, of so many calls and milliseconds.
    #[must_use]
    pub fn usage(&self, calls: u64, millis: u64) -> Usage {
        let (input_tokens, output_tokens, cached_tokens) = self.tokens.counts();
        Usage { calls, input_tokens, output_tokens, cached_tokens, millis, bytes: self.bytes, images: self.images }
    }

    /// Where its tokens come from.
    #[must_use]
    pub const fn source(&self) -> UsageSource {
        self.tokens.source()
    }

    /// Whether the tokens that were read are known.
    #[must_use]
    pub const fn tells_input(&self) -> bool {
        self.tokens.tells_input()
    }

    /// The SHA-256 of the bytes.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest.clone().finalize().into()
    }
}

impl Meter {
    /// A meter for a response with these headers.
    #[must_use]
    pub fn new(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok()).unwrap_or_default();
        let format = match media_type(text(CONTENT_TYPE)).as_str() {
            "text/event-stream" => Format::Events(SseScan::default()),
            json if json == "application/json" || json.ends_with("+json") => Format::Json(JsonScan::default()),
            _ => Format::Opaque,
        };
        Self { coding: Coding::named(text(CONTENT_ENCODING)), format, bytes: 0, digest: Sha256::new() }
    }

    /// Whether the response is a stream of events.
    #[must_use]
    pub const fn is_event_stream(&self) -> bool {
        matches!(self.format, Format::Events(_))
    }

    /// Whether its content, were it to report its usage, can be read.
    #[must_use]
    pub const fn is_readable(&self) -> bool {
        !matches!(self.format, Format::Opaque) && self.coding.is_readable()
    }

    /// Whether the bytes are the content itself, not compressed.
    #[must_use]
    pub const fn is_identity(&self) -> bool {
        self.coding.is_identity()
    }

    /// Whether an event can be put after what was read: the stream is not compressed and stands between two events.
    #[must_use]
    pub const fn is_between_events(&self) -> bool {
        match &self.format {
            Format::Events(scan) => scan.is_between_events() && self.coding.is_identity(),
            Format::Json(_) | Format::Opaque => false,
        }
    }

    /// Reads the next bytes of the body.
    pub fn read(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.digest.update(bytes);
        match &mut self.format {
            Format::Json(scan) => self.coding.decode(bytes, |plain| scan.read(plain)),
            Format::Events(scan) => self.coding.decode(bytes, |plain| scan.read(plain)),
            Format::Opaque => {}
        }
    }

    /// The body ended as it should: an event without the empty line after it counts.
    pub fn finish(&mut self) {
        if let Format::Events(scan) = &mut self.format {
            scan.finish();
        }
    }

    /// What was counted up to now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (tokens, images) = match &self.format {
            Format::Json(scan) => (scan.tokens(), scan.images()),
            Format::Events(scan) => (scan.tokens(), scan.images()),
            Format::Opaque => (Tokens::default(), 0),
        };
        Snapshot { tokens, images, bytes: self.bytes, digest: self.digest.clone() }
    }
}

/// The media type without its parameters, in lower case.
fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
