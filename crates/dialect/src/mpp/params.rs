//! The syntax of `WWW-Authenticate` and `Authorization` (RFC 9110, section 11).

use crate::DialectError;
use crate::limits::OFFER_PARAMS_MAX;

/// The name of the scheme, of any case.
pub(super) const SCHEME: &str = "Payment";

/// One scheme of a header with what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) scheme: String,
    /// What stands alone after the scheme: a credential.
    pub(super) token68: Option<String>,
    /// Names in lower case, with their values unescaped, in the order they came.
    pub(super) params: Vec<(String, String)>,
}

impl Element {
    pub(super) fn is_payment(&self) -> bool {
        self.scheme.eq_ignore_ascii_case(SCHEME)
    }
}

struct Cursor<'a> {
    part: &'static str,
    text: &'a str,
}

impl<'a> Cursor<'a> {
    fn bad<T>(&self, reason: &'static str) -> Result<T, DialectError> {
        Err(DialectError::Syntax { part: self.part, reason })
    }

    fn skip(&mut self, what: &[char]) {
        self.text = self.text.trim_start_matches(what);
    }

    fn take(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let end = self.text.find(|c| !is_part(c)).unwrap_or(self.text.len());
        let (taken, rest) = self.text.split_at(end);
        self.text = rest;
        taken
    }

    /// Whether `=` comes next, and a value after it: not the padding of a token68.
    fn at_param(&self) -> bool {
        let after = self.text.trim_start_matches([' ', '\t']);
        after.strip_prefix('=').is_some_and(|value| {
            let value = value.trim_start_matches([' ', '\t']);
            !value.is_empty() && !value.starts_with([',', '='])
        })
    }

    fn value(&mut self) -> Result<String, DialectError> {
        self.skip(&[' ', '\t']);
        self.text = self.text.strip_prefix('=').unwrap_or(self.text);
        self.skip(&[' ', '\t']);
        match self.text.strip_prefix('"') {
            Some(quoted) => {
                self.text = quoted;
                self.quoted()
            }
            None => match self.take(is_token_char) {
                "" => self.bad("a parameter has no value"),
                token => Ok(token.to_owned()),
            },
        }
    }

    fn quoted(&mut self) -> Result<String, DialectError> {
        let mut value = String::new();
        let mut chars = self.text.chars();
        loop {
            match chars.next() {
                None => return self.bad("a quoted string has no end"),
                Some('"') => break,
                Some('\\') => match unicode_escape(chars.as_str()) {
                    Some((escaped, rest)) => {
                        value.push(escaped);
                        chars = rest.chars();
                    }
                    None => match chars.next() {
                        Some(escaped) => value.push(escaped),
                        None => return self.bad("a quoted string has no end"),
                    },
                },
                Some(c) if c.is_control() && c != '\t' => return self.bad("a control character in a quoted string"),
                Some(c) => value.push(c),
            }
        }
        self.text = chars.as_str();
        Ok(value)
    }
}

const fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '!' | '#' | '$' | '%' | '&' | '\'' | '*' | '+' | '-' | '.' | '^' | '_' | '`' | '|' | '~')
}

const fn is_token68_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '+' | '/' | '=')
}

/// `uXXXX`, or two of them that are a pair of surrogates: how the published implementations write what ASCII has not (H-23).
fn unicode_escape(text: &str) -> Option<(char, &str)> {
    let unit = |text: &str| {
        let digits = text.strip_prefix('u')?.get(..4)?;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok()).flatten()
    };
    let first = unit(text)?;
    let rest = text.get(5..)?;
    let pair = rest.strip_prefix('\\').and_then(|low| unit(low).zip(low.get(5..)));
    match (char::decode_utf16([first]).next()?, pair) {
        (Ok(c), _) => Some((c, rest)),
        (Err(_), Some((second, rest))) => char::decode_utf16([first, second]).next()?.ok().map(|c| (c, rest)),
        (Err(_), None) => Some((char::REPLACEMENT_CHARACTER, rest)),
    }
}

/// A value in quotes; what ASCII cannot print is escaped as `\uXXXX`, by UTF-16 units.
pub(super) fn quote(value: &str) -> String {
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            '\t' | ' '..='~' => quoted.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| quoted.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    quoted.push('"');
    quoted
}

/// The schemes of a header's value, up to the first that is malformed, which ends the list as an error.
pub(super) fn elements(part: &'static str, text: &str) -> Vec<Result<Element, DialectError>> {
    let mut cursor = Cursor { part, text };
    let mut elements = Vec::new();
    loop {
        cursor.skip(&[' ', '\t', ',']);
        if cursor.text.is_empty() {
            return elements;
        }
        let element = element(&mut cursor);
        let failed = element.is_err();
        elements.push(element);
        if failed {
            return elements;
        }
    }
}

fn element(cursor: &mut Cursor<'_>) -> Result<Element, DialectError> {
    let scheme = cursor.take(is_token_char).to_owned();
    if scheme.is_empty() {
        return cursor.bad("expected the name of a scheme");
    }
    let mut element = Element { scheme, token68: None, params: Vec::new() };
    if !cursor.text.is_empty() && !cursor.text.starts_with([' ', '\t', ',']) {
        return cursor.bad("expected a space after the scheme");
    }
    loop {
        cursor.skip(&[' ', '\t']);
        if cursor.text.is_empty() {
            return Ok(element);
        }
        // After a comma there is a parameter of this scheme, or the next scheme: only `=` tells.
        let before = cursor.text;
        if before.starts_with(',') {
            if element.params.is_empty() {
                return Ok(element);
            }
            cursor.skip(&[' ', '\t', ',']);
        } else if !element.params.is_empty() {
            return cursor.bad("expected a comma between parameters");
        }
        let name = cursor.take(is_token_char);
        if !name.is_empty() && cursor.at_param() {
            let name = name.to_ascii_lowercase();
            let value = cursor.value()?;
            if element.params.iter().any(|(known, _)| *known == name) {
                return cursor.bad("a parameter comes twice");
            }
            if element.params.len() >= OFFER_PARAMS_MAX {
                return cursor.bad("too many parameters");
            }
            element.params.push((name, value));
            continue;
        }
        cursor.text = before;
        if before.starts_with(',') {
            return Ok(element);
        }
        let token = cursor.take(is_token68_char);
        cursor.skip(&[' ', '\t']);
        if token.is_empty() || !(cursor.text.is_empty() || cursor.text.starts_with(',')) {
            return cursor.bad("expected parameters, or one token");
        }
        element.token68 = Some(token.to_owned());
        return Ok(element);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let one = |element: &Result<Element, DialectError>| match element {
            Ok(element) => {
                let params: Vec<_> = element.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{}[{}{}]", element.scheme, element.token68.as_deref().unwrap_or_default(), params.join(";"))
            }
            Err(_) => "!".to_owned(),
        };
        elements("test", text).iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn schemes_are_told_apart() {
        for (text, expected) in [
            ("", ""),
            ("Payment", "Payment[]"),
            ("Negotiate, Basic realm=\"a\"", "Negotiate[] Basic[realm=a]"),
            ("Bearer abc==", "Bearer[abc==]"),
            ("Bearer abc, Payment id=\"1\"", "Bearer[abc] Payment[id=1]"),
            ("Payment id=\"a\", x=b, payment id=c", "Payment[id=a;x=b] payment[id=c]"),
            ("Payment id = \"a\" ,\trealm=b,,", "Payment[id=a;realm=b]"),
            ("Payment id=\"Payment id=1, x\"", "Payment[id=Payment id=1, x]"),
            ("Payment d=\"a\\\"b\\\\c\"", "Payment[d=a\"b\\c]"),
            ("Payment d=\"\\u00e9\\ud83d\\ude00\"", "Payment[d=é😀]"),
            ("Payment ID=a", "Payment[id=a]"),
            ("Payment id=a, id=b", "!"),
            ("Payment id=\"a", "!"),
            ("Payment id=\"a\\", "!"),
            ("Payment id=a realm=b", "!"),
            ("\"x\"", "!"),
            ("Payment a b", "!"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_quoted_reads_the_same() {
        for text in ["", "plain", "a\"b\\c", "é😀\u{1f}\r\n", "tab\tx"] {
            assert!(quote(text).bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)));
            assert_eq!(elements("test", &format!("Payment a={}", quote(text)))[0].as_ref().expect("quoted").params[0].1, text);
        }
    }
}
