//! A JSON body of any length, of which only `usage` and the length of `data`, both at the top level, are kept.

use super::report::Tokens;

/// Bytes of a `usage` object that are kept; a longer one is passed over.
const USAGE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a key that are kept: more than the longest that matters.
const KEY_BYTES_MAX: usize = 16;

/// Where the scanner stands. It trusts its input to be JSON: of anything else it makes no usage, or a wrong one, and never a panic.
#[derive(Default)]
pub(super) struct JsonScan {
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The last string at the top level, without quotes.
    key: Vec<u8>,
    /// What the value at hand belongs to.
    member: Member,
    kept: Vec<u8>,
    /// `data` is an array.
    in_array: bool,
    /// In it: an element has begun since the bracket or the last comma.
    element: bool,
    elements: u64,
    tokens: Tokens,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Member {
    /// A key is read, or is expected.
    #[default]
    Key,
    Usage,
    Data,
    Other,
}

impl JsonScan {
    pub(super) fn read(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.step(*byte));
    }

    pub(super) const fn tokens(&self) -> Tokens {
        self.tokens
    }

    /// Elements of a top-level `data` array: of OpenAI's images, one for each.
    pub(super) const fn images(&self) -> u64 {
        self.elements
    }

    fn step(&mut self, byte: u8) {
        let ends_value = !self.in_string && self.depth == 1 && matches!(byte, b',' | b'}');
        if self.member == Member::Usage && !ends_value {
            // One byte more than allowed marks it as too long.
            if self.kept.len() <= USAGE_BYTES_MAX {
                self.kept.push(byte);
            }
        }
        if self.in_string {
            self.step_in_string(byte);
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                if self.depth == 1 && self.member == Member::Key {
                    self.key.clear();
                }
                self.element_begins();
            }
            b'{' | b'[' => {
                self.element_begins();
                if self.depth == 1 && self.member == Member::Data {
                    (self.in_array, self.element, self.elements) = (byte == b'[', false, 0);
                }
                self.depth = self.depth.saturating_add(1);
            }
            b'}' | b']' => {
                if self.depth == 1 {
                    self.end_value();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if self.depth == 1 && self.member == Member::Key => {
                self.member = match self.key.as_slice() {
                    b"usage" => Member::Usage,
                    b"data" => Member::Data,
                    _ => Member::Other,
                };
            }
            b',' if self.depth == 1 => self.end_value(),
            b',' if self.depth == 2 => self.element = false,
            byte if byte.is_ascii_whitespace() => {}
            _ => self.element_begins(),
        }
    }

    fn step_in_string(&mut self, byte: u8) {
        let in_key = self.depth == 1 && self.member == Member::Key;
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => {
                self.in_string = false;
                return;
            }
            _ => {}
        }
        if in_key && self.key.len() <= KEY_BYTES_MAX {
            self.key.push(byte);
        }
    }

    /// A value has begun; in the `data` array it is an element, unless it is within one.
    fn element_begins(&mut self) {
        if self.member == Member::Data && self.depth == 2 && self.in_array && !self.element {
            self.element = true;
            self.elements = self.elements.saturating_add(1);
        }
    }

    /// The value of a member of the top level has ended.
    fn end_value(&mut self) {
        if self.member == Member::Usage {
            if self.kept.len() <= USAGE_BYTES_MAX
                && let Ok(usage) = serde_json::from_slice(&self.kept)
            {
                self.tokens.report(&usage);
            }
            self.kept.clear();
        }
        self.member = Member::Key;
    }
}
