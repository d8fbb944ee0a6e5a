//! Paths: what a route covers, and what no route lets through.

use crate::ConfigError;

/// A route's path: literal segments, `{name}` for one of any kind, `*` at the end for any number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    segments: Vec<Segment>,
    /// Any segments may follow.
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Any,
}

/// A request's path as segments without percent-encoding, so that a route is found however the path is written.
///
/// Upstreams tidy paths in ways of their own. What could mean one route here and another there is refused: dot segments, empty segments,
/// and separators in an encoded form. A slash at the end makes no difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CleanPath(Vec<String>);

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("the path has a `.` or `..` segment")]
    Dots,
    #[error("the path has an empty segment")]
    Empty,
    #[error("the path has an encoded separator, a backslash or a control character")]
    Separator,
    #[error("the path is not valid percent-encoded UTF-8")]
    Encoding,
}

impl CleanPath {
    pub(crate) fn new(path: &str) -> Result<Self, PathError> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() {
            return Ok(Self(Vec::new()));
        }
        path.split('/').map(clean).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The segments after those of `prefix`, if it begins with them.
    pub(crate) fn under(&self, prefix: &Self) -> Option<&[String]> {
        self.0.strip_prefix(prefix.0.as_slice())
    }
}

fn clean(segment: &str) -> Result<String, PathError> {
    let decoded = decode(segment)?;
    if decoded.is_empty() {
        Err(PathError::Empty)
    } else if decoded.chars().any(|c| matches!(c, '/' | '\\') || c.is_control()) {
        Err(PathError::Separator)
    } else if decoded == "." || decoded == ".." || decoded.starts_with("..;") || decoded.starts_with(".;") {
        // `..;x` is `..` to servers that cut path parameters off.
        Err(PathError::Dots)
    } else {
        Ok(decoded)
    }
}

fn decode(segment: &str) -> Result<String, PathError> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        if *byte == b'%' {
            let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok()).ok_or(PathError::Encoding)?;
            let plain = pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            let value = u8::from_str_radix(pair, 16).ok().filter(|_| plain).ok_or(PathError::Encoding)?;
            bytes.push(value);
            rest = &after[2..];
        } else {
            bytes.push(*byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).map_err(|_| PathError::Encoding)
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let refuse = |reason: &str| ConfigError::value(format!("route.path `{text}`"), reason);
        let path = text.strip_prefix('/').ok_or_else(|| refuse("it must begin with `/`"))?;
        let (path, open) = match path.strip_suffix('*') {
            Some(before) if before.is_empty() || before.ends_with('/') => (before, true),
            Some(_) => return Err(refuse("`*` stands for whole segments: write it after a `/`")),
            None => (path, false),
        };
        let path = path.strip_suffix('/').unwrap_or(path);
        let segments = path.split('/').filter(|_| !path.is_empty()).map(|segment| {
            match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) if !name.is_empty() => Ok(Segment::Any),
                _ if segment.contains(['{', '}', '*']) => Err(refuse("`{name}` is a whole segment, and `*` stands at the end")),
                _ => clean(segment).map(Segment::Literal).map_err(|error| refuse(&error.to_string())),
            }
        });
        Ok(Self { segments: segments.collect::<Result<_, _>>()?, open })
    }

    pub(crate) fn covers(&self, path: &CleanPath) -> bool {
        let long_enough = if self.open { path.0.len() >= self.segments.len() } else { path.0.len() == self.segments.len() };
        long_enough
            && self.segments.iter().zip(&path.0).all(|(segment, found)| match segment {
                Segment::Literal(literal) => literal == found,
                Segment::Any => true,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_paths_however_they_are_written() {
        let check = |pattern: &str, path: &str, expected: bool| {
            let covers = Pattern::parse(pattern).expect("a pattern").covers(&CleanPath::new(path).expect("a path"));
            assert_eq!(covers, expected, "{pattern} {path}");
        };
        check("/", "/", true);
        check("/", "/a", false);
        check("/*", "/", true);
        check("/*", "/a/b", true);
        check("/v1/chat", "/v1/chat", true);
        check("/v1/chat", "/v1/chat/", true);
        check("/v1/chat", "/v1/%63hat", true);
        check("/v1/chat", "/v1/Chat", false);
        check("/v1/chat", "/v1/chat/x", false);
        check("/v1/*", "/v1", true);
        check("/v1/*", "/v2", false);
        check("/models/{id}", "/models/gpt%2D4", true);
        check("/models/{id}/run", "/models/x/stop", false);
        check("/caf%C3%A9", "/café", true);
    }

    #[test]
    fn what_an_upstream_could_read_as_another_path_is_refused() {
        for (path, expected) in [
            ("/a/../b", PathError::Dots),
            ("/a/%2e%2E/b", PathError::Dots),
            ("/a/./b", PathError::Dots),
            ("/a/..;x/b", PathError::Dots),
            ("//a", PathError::Empty),
            ("/a//b", PathError::Empty),
            ("/a%2fb", PathError::Separator),
            ("/a%5Cb", PathError::Separator),
            ("/a\\b", PathError::Separator),
            ("/a%00", PathError::Separator),
            ("/a%0a", PathError::Separator),
            ("/%", PathError::Encoding),
            ("/%4", PathError::Encoding),
            ("/%+1", PathError::Encoding),
            ("/%ff", PathError::Encoding),
        ] {
            assert_eq!(CleanPath::new(path), Err(expected), "{path}");
        }
        for pattern in ["", "a", "/a*", "/*/a", "/a/{", "/a/{}", "/a/../b", "/a//b", "/a/x{b}"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
