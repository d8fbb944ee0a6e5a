//! Patterns of names: `*` stands for any run of characters, everything else for itself.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A pattern such as `research-*` or `*.example`. Letters of ASCII match in either case, for addresses and hosts are written in both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// From its text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether all of a name is one of those meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut of) = (0usize, 0usize);
        // Where the last star was, and how much of the name it has taken so far.
        let mut star: Option<(usize, usize)> = None;
        while let Some(byte) = name.get(at) {
            match pattern.get(of) {
                Some(b'*') => {
                    star = Some((of, at));
                    of = of.saturating_add(1);
                }
                Some(expected) if expected.eq_ignore_ascii_case(byte) => (at, of) = (at.saturating_add(1), of.saturating_add(1)),
                Some(_) | None => {
                    let Some((star_at, taken)) = star else { return false };
                    // The star takes one more.
                    let taken = taken.saturating_add(1);
                    (star, at, of) = (Some((star_at, taken)), taken, star_at.saturating_add(1));
                }
            }
        }
        pattern.get(of..).unwrap_or_default().iter().all(|byte| *byte == b'*')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether one of several matches.
pub(crate) fn any(patterns: &[Pattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_takes_any_run_and_nothing_else_does() {
        let check =
            |pattern: &str, name: &str, expected: bool| assert_eq!(Pattern::new(pattern).matches(name), expected, "{pattern} {name}");
        for (pattern, name, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("0xAB*", "0xabcd", true),
            ("*.example", "api.example", true),
            ("*.example", "api.example.evil", false),
            ("*.example", ".example", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a**", "a", true),
            ("ä*", "äx", true),
        ] {
            check(pattern, name, expected);
        }
    }
}
