//! What each fuzz target holds its decoders to. `cargo xtask fuzz` builds the targets with coverage counters and runs them.
//!
//! The first byte of an input says which decoder it is for; where a format is JSON in base64, the input is the JSON, so that what the
//! fuzzer changes is what the decoder reads. Beside "no input makes a reader panic", three things are held everywhere: what is read can be
//! written; what is written reads the same; and nothing beyond a limit is read.
//!
//! Each `check` says whether there was something to read. Every file in `corpus` is an example of what is read; a target does not begin
//! before it has read its own.

pub mod gate;
pub mod meter;
pub mod money;
pub mod mpp;
pub mod x402;

use std::fmt::Debug;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use millstream_dialect::limits::JSON_DEPTH_MAX;
use millstream_dialect::{DialectError, Object};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a target's part of the corpus.
///
/// # Panics
/// An example that nothing reads is an example of nothing.
pub fn read_examples(target: &str, check: fn(&[u8]) -> bool) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let examples: Vec<_> = std::fs::read_dir(corpus).expect("a corpus").map(|entry| entry.expect("listed").path()).collect();
    let unread: Vec<_> = examples.iter().filter(|path| !check(&std::fs::read(path).expect("readable"))).collect();
    assert!(!examples.is_empty() && unread.is_empty(), "nothing reads {unread:?}");
}

/// The decoder that an input is for, and what it is to read.
fn split(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(kind, rest)| (*kind, rest))
}

fn padded(json: &[u8]) -> String {
    STANDARD.encode(json)
}

fn url_safe(json: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(json)
}

/// Reads; and what was read has to be written, unless it became too long, and read again as it was.
fn twice<T, W: AsRef<[u8]> + Debug>(
    input: &[u8],
    read: impl Fn(&[u8]) -> Result<T, DialectError>,
    write: impl Fn(&T) -> Result<W, DialectError>,
) -> Option<T>
where
    T: PartialEq + Debug,
{
    let value = read(input).ok()?;
    match write(&value) {
        Ok(written) => assert_eq!(read(written.as_ref()).as_ref(), Ok(&value), "{written:?}"),
        // A number may take more characters than it came in, and escapes more bytes.
        Err(DialectError::TooLong { .. }) => {}
        Err(error) => panic!("{value:?} was read and cannot be written: {error}"),
    }
    Some(value)
}

/// The same for a value that is read from an object.
fn object_twice<T: PartialEq + Debug>(
    object: &Object,
    read: impl Fn(&Object) -> Result<T, DialectError>,
    write: impl Fn(&T) -> Result<Object, DialectError>,
) -> Option<T> {
    let value = read(object).ok()?;
    let written = write(&value).expect("what was read can be written");
    assert_eq!(read(&written).as_ref(), Ok(&value), "{written:?}");
    Some(value)
}

/// The same for a type that serde reads and writes.
fn serde_twice<T: PartialEq + Debug + Serialize + DeserializeOwned>(object: &Object) -> Option<T> {
    object_twice(object, |object| object.read("fuzz"), |value| Object::of("fuzz", value))
}

/// JSON that was read is within the limits, seen by another reader.
fn assert_within_limits(json: &[u8], bytes_max: usize) {
    assert!(json.len() <= bytes_max, "{} bytes were read", json.len());
    let value: Value = serde_json::from_slice(json).expect("JSON to others too");
    assert!(depth(&value) <= JSON_DEPTH_MAX, "depth {}", depth(&value));
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn object(json: &[u8]) -> Object {
    serde_json::from_slice(json).unwrap_or_default()
}
