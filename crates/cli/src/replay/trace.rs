//! Reading a trace of inference requests: `TIMESTAMP,ContextTokens,GeneratedTokens`, one row a request, in the order of time.
//!
//! The format is that of the public Azure LLM inference traces. Quoted fields, spaces around fields, CRLF and a byte-order mark are
//! taken; everything else that is unexpected is an error that names the line.

use std::io::{BufRead, Read};
use std::path::Path;

use millstream_types::Hash256;
use sha2::{Digest, Sha256};

use super::timestamp::{self, TimestampError};

/// Bytes of a line, at most; what is longer is no row.
const LINE_BYTES_MAX: u64 = 4_096;

/// The columns, in order.
const HEADER: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];

/// One request of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Nanoseconds since the first request.
    pub at_nanos: u64,
    /// Tokens of its context.
    pub context_tokens: u32,
    /// Tokens generated for it.
    pub generated_tokens: u32,
}

/// A trace that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Its requests, in order.
    pub requests: Vec<Request>,
    /// SHA-256 over the requests: the same for two files that say the same.
    pub digest: Hash256,
}

/// Why a file is not a trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("cannot read the trace")]
    Unreadable(#[from] std::io::Error),
    /// The first line is not the header.
    #[error("line 1: expected the header {}, found {found:?}", HEADER.join(","))]
    Header {
        /// What is there.
        found: String,
    },
    /// A row that is no request.
    #[error("line {line}: {problem}")]
    Row {
        /// Line of the file, from 1.
        line: u64,
        /// What is wrong with it.
        problem: RowProblem,
    },
    /// A header and nothing else.
    #[error("the trace has no requests")]
    Empty,
}

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowProblem {
    /// More or fewer fields than the header has.
    #[error("expected 3 fields, found {found}")]
    Fields {
        /// Fields found.
        found: usize,
    },
    /// Not UTF-8.
    #[error("not text in UTF-8")]
    NotText,
    /// A quote that does not close, or one within a field.
    #[error("a quote out of place")]
    Quotes,
    /// A time that is none.
    #[error("{0}")]
    Timestamp(#[from] TimestampError),
    /// A number of tokens that is none.
    #[error("{column} is {found:?}, expected a whole number of tokens below 2^32")]
    Tokens {
        /// The column.
        column: &'static str,
        /// What is there.
        found: String,
    },
    /// Requests are in the order of time.
    #[error("the request is earlier than the one before")]
    OutOfOrder,
}

impl Trace {
    /// Reads a file.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        Self::read(std::io::BufReader::new(std::fs::File::open(path)?))
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn read(source: impl BufRead) -> Result<Self, TraceError> {
        let mut lines = Lines { source, buffer: Vec::new(), number: 0 };
        match lines.next()? {
            Some((_, header)) if fields(header).is_ok_and(|names| names == HEADER) => {}
            other => return Err(TraceError::Header { found: other.map_or("", |(_, header)| header).chars().take(120).collect() }),
        }
        let (mut requests, mut digest) = (Vec::new(), Sha256::new());
        let (mut first, mut last) = (None, 0);
        while let Some((line, text)) = lines.next()? {
            let failed = |problem| TraceError::Row { line, problem };
            let (time, context_tokens, generated_tokens) = row(text).map_err(failed)?;
            if time < last {
                return Err(failed(RowProblem::OutOfOrder));
            }
            last = time;
            let at_nanos = time - *first.get_or_insert(time);
            digest.update(at_nanos.to_be_bytes());
            digest.update(context_tokens.to_be_bytes());
            digest.update(generated_tokens.to_be_bytes());
            requests.push(Request { at_nanos, context_tokens, generated_tokens });
        }
        if requests.is_empty() {
            return Err(TraceError::Empty);
        }
        Ok(Self { requests, digest: Hash256::from_bytes(digest.finalize().into()) })
    }
}

/// The lines of a file that are not blank, with their numbers from 1.
struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<Option<(u64, &str)>, TraceError> {
        loop {
            self.buffer.clear();
            self.number += 1;
            let length = self.source.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut self.buffer)?;
            if length == 0 {
                return Ok(None);
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        let line = self.number;
        let text = core::str::from_utf8(&self.buffer).map_err(|_| TraceError::Row { line, problem: RowProblem::NotText })?;
        // Only the first line can carry a byte-order mark, and it is no part of the text.
        let text = if line == 1 { text.trim_start_matches('\u{feff}') } else { text };
        Ok(Some((line, text.trim())))
    }
}

/// The fields of a line, without spaces and quotes around them.
fn fields(line: &str) -> Result<[&str; 3], RowProblem> {
    let found: Vec<&str> = line.split(',').map(str::trim).collect();
    let [first, second, third] = found[..] else { return Err(RowProblem::Fields { found: found.len() }) };
    Ok([unquoted(first)?, unquoted(second)?, unquoted(third)?])
}

/// No field of a trace holds a comma, a quote or a line end, so a quoted field is what is between the quotes.
fn unquoted(field: &str) -> Result<&str, RowProblem> {
    let inner = match field.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').ok_or(RowProblem::Quotes)?,
        None => field,
    };
    if inner.contains('"') { Err(RowProblem::Quotes) } else { Ok(inner.trim()) }
}

/// The time in nanoseconds since the Unix epoch, and the tokens.
fn row(line: &str) -> Result<(u64, u32, u32), RowProblem> {
    let [time, context, generated] = fields(line)?;
    Ok((timestamp::parse_nanos(time)?, tokens(HEADER[1], context)?, tokens(HEADER[2], generated)?))
}

fn tokens(column: &'static str, text: &str) -> Result<u32, RowProblem> {
    let wrong = || RowProblem::Tokens { column, found: text.chars().take(40).collect() };
    // `parse` would take a sign.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    text.parse().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n";

    #[test]
    fn rows_become_requests_relative_to_the_first() {
        let trace = Trace::read(GOOD.as_bytes()).expect("a trace");
        let expected = [
            Request { at_nanos: 0, context_tokens: 374, generated_tokens: 44 },
            Request { at_nanos: 4_314_579_000, context_tokens: 396, generated_tokens: 109 },
        ];
        assert_eq!(trace.requests, expected);
    }

    #[test]
    fn quotes_line_ends_spaces_and_a_mark_change_nothing() {
        let plain = Trace::read(GOOD.as_bytes()).expect("a trace");
        let check = |text: &str| assert_eq!(Trace::read(text.as_bytes()).expect(text), plain, "{text}");
        check(&GOOD.replace('\n', "\r\n"));
        check(&format!("\u{feff}{GOOD}"));
        check(&GOOD.replace(',', " , "));
        check(&GOOD.replace("374", "\"374\"").replace("2023-11-16 18:15:50.9951690", "\"2023-11-16 18:15:50.9951690\""));
        check(GOOD.trim_end());
        check(&GOOD.replace('\n', "\n\n"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let check = |rows: &str, expected: &str| {
            let text = format!("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,1,1\n{rows}\n");
            let error = Trace::read(text.as_bytes()).expect_err(rows);
            assert_eq!(error.to_string(), expected, "{rows}");
        };
        check("2023-11-16 18:15:47,1", "line 3: expected 3 fields, found 2");
        check("2023-11-16 18:15:47,1,2,3", "line 3: expected 3 fields, found 4");
        check("\n2023-11-16 18:15:47,-1,2", "line 4: ContextTokens is \"-1\", expected a whole number of tokens below 2^32");
        check("2023-11-16 18:15:47,+1,2", "line 3: ContextTokens is \"+1\", expected a whole number of tokens below 2^32");
        check("2023-11-16 18:15:47,1,2.5", "line 3: GeneratedTokens is \"2.5\", expected a whole number of tokens below 2^32");
        check("2023-11-16 18:15:47,1,", "line 3: GeneratedTokens is \"\", expected a whole number of tokens below 2^32");
        check("2023-11-16 18:15:47,4294967296,1", "line 3: ContextTokens is \"4294967296\", expected a whole number of tokens below 2^32");
        check("2023-11-16 18:15:45.9,1,1", "line 3: the request is earlier than the one before");
        check("2023-11-16 18:15:47,1,\"2", "line 3: a quote out of place");
        check("2023-11-16 18:15:47,1,2\"", "line 3: a quote out of place");
        check("\r\n\r\n2023-11-16 18:15:47,1\r", "line 5: expected 3 fields, found 2");
        check("yesterday,1,1", "line 3: TIMESTAMP is \"yesterday\", expected a time such as 2023-11-16 18:17:03.9799600");
    }

    #[test]
    fn a_header_is_needed() {
        let check = |text: &str, expected: &str| assert_eq!(Trace::read(text.as_bytes()).expect_err(text).to_string(), expected);
        check("", "line 1: expected the header TIMESTAMP,ContextTokens,GeneratedTokens, found \"\"");
        check(
            "TIMESTAMP,ContextTokens\n",
            "line 1: expected the header TIMESTAMP,ContextTokens,GeneratedTokens, found \"TIMESTAMP,ContextTokens\"",
        );
        check("a,b,c\n", "line 1: expected the header TIMESTAMP,ContextTokens,GeneratedTokens, found \"a,b,c\"");
        check("TIMESTAMP,ContextTokens,GeneratedTokens\r\n", "the trace has no requests");
        let not_text = Trace::read(&b"TIMESTAMP,ContextTokens,GeneratedTokens\n\xff,1,1\n"[..]).expect_err("not UTF-8");
        assert_eq!(not_text.to_string(), "line 2: not text in UTF-8");
    }

    #[test]
    fn the_digest_is_over_what_the_trace_says() {
        let digest = |text: &str| Trace::read(text.as_bytes()).expect(text).digest;
        assert_ne!(digest(GOOD), digest(&GOOD.replace("374", "375")));
        assert_eq!(digest(GOOD), digest(&GOOD.replace("2023", "2024").replace("\"", "")));
    }
}
