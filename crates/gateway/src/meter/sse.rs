//! Server-sent events, cut out of a stream one by one.

use serde_json::Value;

use super::report::{Tokens, tokens_added};

/// Bytes of one event's data that are kept. A longer event is passed over; partial images are that long, text is not.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Where the scanner stands, and what the events up to here say.
#[derive(Default)]
pub(super) struct SseScan {
    line: Vec<u8>,
    line_begun: bool,
    line_too_long: bool,
    after_cr: bool,
    data: Vec<u8>,
    has_data: bool,
    /// A field of the event at hand was read.
    event_begun: bool,
    data_too_long: bool,
    tokens: Tokens,
    images: u64,
}

impl SseScan {
    pub(super) fn read(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
            self.keep_line(line);
            rest = after;
            if let Some(end) = after.first() {
                self.after_cr = *end == b'\r';
                rest = &after[1..];
                self.end_line();
            }
        }
    }

    pub(super) fn finish(&mut self) {
        self.end_line();
        self.end_event();
    }

    pub(super) const fn is_between_events(&self) -> bool {
        !self.line_begun && !self.event_begun
    }

    pub(super) const fn tokens(&self) -> Tokens {
        self.tokens
    }

    pub(super) const fn images(&self) -> u64 {
        self.images
    }

    fn keep_line(&mut self, bytes: &[u8]) {
        self.line_begun |= !bytes.is_empty();
        if self.line.len().saturating_add(bytes.len()) > EVENT_BYTES_MAX {
            self.line_too_long = true;
            self.line.clear();
        } else if !self.line_too_long {
            self.line.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self) {
        let too_long = std::mem::take(&mut self.line_too_long);
        if !std::mem::take(&mut self.line_begun) {
            self.end_event();
            return;
        }
        self.event_begun = true;
        self.data_too_long |= too_long;
        let value = self.line.strip_prefix(b"data:").map(|value| value.strip_prefix(b" ").unwrap_or(value));
        if let Some(value) = value {
            if self.data.len().saturating_add(value.len()) > EVENT_BYTES_MAX {
                self.data_too_long = true;
            } else {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
        }
        self.line.clear();
    }

    fn end_event(&mut self) {
        self.event_begun = false;
        let too_long = std::mem::take(&mut self.data_too_long);
        if std::mem::take(&mut self.has_data)
            && !too_long
            && let Ok(event) = serde_json::from_slice::<Value>(&self.data)
        {
            self.event(&event);
        }
        self.data.clear();
    }

    fn event(&mut self, event: &Value) {
        self.tokens.count(tokens_added(event));
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind == "image_generation.completed" || kind == "image_edit.completed" {
            self.images = self.images.saturating_add(1);
        }
        // Chat and completions; Anthropic's first event; the responses' last.
        for path in ["/usage", "/message/usage", "/response/usage"] {
            if let Some(usage) = event.pointer(path).filter(|usage| usage.is_object()) {
                self.tokens.report(usage);
            }
        }
    }
}
