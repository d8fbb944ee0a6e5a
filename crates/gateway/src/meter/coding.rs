//! Content codings: a decoded copy for the meter.

use std::io::Write;

use flate2::write::{MultiGzDecoder, ZlibDecoder};

/// Compressed bytes that are decoded at once: at 1,032 to 1, the most that deflate reaches, about 4 MiB come out.
const STEP_BYTES: usize = 4 * 1024;

/// Decoded bytes of one response after which the meter stops reading it: a compressed body may be far larger than what passes here.
const DECODED_BYTES_MAX: u64 = 1 << 30;

/// A body's content coding.
pub(super) enum Coding {
    Identity,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>, u64),
    Deflate(Box<ZlibDecoder<Vec<u8>>>, u64),
    /// A coding that is not known here, bytes that it cannot decode, or too many of them.
    Unreadable,
}

impl Coding {
    /// The coding of a `Content-Encoding` header; empty when there is none.
    pub(super) fn named(name: &str) -> Self {
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Self::Identity,
            "gzip" | "x-gzip" => Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new())), 0),
            "deflate" => Self::Deflate(Box::new(ZlibDecoder::new(Vec::new())), 0),
            _ => Self::Unreadable,
        }
    }

    pub(super) const fn is_identity(&self) -> bool {
        matches!(self, Self::Identity)
    }

    pub(super) const fn is_readable(&self) -> bool {
        !matches!(self, Self::Unreadable)
    }

    /// Gives the decoded bytes to `read`.
    pub(super) fn decode(&mut self, bytes: &[u8], mut read: impl FnMut(&[u8])) {
        for step in bytes.chunks(STEP_BYTES) {
            let decoded = match self {
                Self::Identity => {
                    read(step);
                    continue;
                }
                Self::Unreadable => return,
                Self::Gzip(decoder, total) => drive(decoder.as_mut(), step, |d| std::mem::take(d.get_mut()), total),
                Self::Deflate(decoder, total) => drive(decoder.as_mut(), step, |d| std::mem::take(d.get_mut()), total),
            };
            read(&decoded.plain);
            if !decoded.goes_on {
                *self = Self::Unreadable;
            }
        }
    }
}

/// What a step of compressed bytes came to.
struct Decoded {
    plain: Vec<u8>,
    /// Whether what follows can be read.
    goes_on: bool,
}

/// Everything that comes out once these bytes are in; where they are broken, all that comes before.
fn drive<D: Write>(decoder: &mut D, bytes: &[u8], take: impl FnOnce(&mut D) -> Vec<u8>, total: &mut u64) -> Decoded {
    let whole = decoder.write_all(bytes).and_then(|()| decoder.flush()).is_ok();
    if !whole {
        // What was decoded before the break is handed on with the next write, which fails as well.
        let _ = decoder.write(&[0]);
    }
    let plain = take(decoder);
    *total = total.saturating_add(u64::try_from(plain.len()).unwrap_or(u64::MAX));
    if *total > DECODED_BYTES_MAX { Decoded { plain: Vec::new(), goes_on: false } } else { Decoded { plain, goes_on: whole } }
}
