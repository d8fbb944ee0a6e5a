//! Metering: JSON bodies, event streams and compressed ones, however they are cut.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use millstream_gateway::meter::{Meter, Snapshot, UsageSource};
use millstream_tariff::Usage;

/// The first byte chooses type and coding, the second where the bytes are cut. Whether usage was told.
pub fn check(data: &[u8]) -> bool {
    let [kind, cut, input @ ..] = data else { return false };
    let (content_type, coding) = match kind {
        b'j' => ("application/json", ""),
        b'e' => ("text/event-stream", ""),
        b'J' => ("application/problem+json; charset=utf-8", "gzip"),
        b'E' => ("text/event-stream; charset=utf-8", "gzip"),
        b'd' => ("text/event-stream", "deflate"),
        _ => return false,
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>, ends: bool| {
        let mut meter = Meter::new(&headers);
        for piece in pieces {
            meter.read(piece);
        }
        if ends {
            meter.finish();
        }
        seen(&meter.snapshot())
    };
    let mut told = false;
    for ends in [false, true] {
        let whole = read(&mut std::iter::once(input), ends);
        assert_eq!(whole.0.bytes, u64::try_from(input.len()).expect("short"));
        assert_eq!(read(&mut input.chunks(1), ends), whole, "one byte at a time");
        assert_eq!(read(&mut input.chunks(usize::from(*cut).max(1)), ends), whole, "{cut} bytes at a time");
        // Nothing is counted that nobody told.
        if whole.1 == UsageSource::Nothing {
            assert_eq!((whole.0.input_tokens, whole.0.output_tokens, whole.0.cached_tokens), (0, 0, 0));
        }
        // A counted token took an event, and no event is shorter than this.
        if whole.1 == UsageSource::Counted && coding.is_empty() {
            assert!(whole.0.output_tokens <= whole.0.bytes, "more tokens than bytes");
        }
        told = whole.1 != UsageSource::Nothing || whole.0.images > 0;
    }
    told
}

fn seen(snapshot: &Snapshot) -> (Usage, UsageSource, [u8; 32]) {
    (snapshot.usage(1, 0), snapshot.source(), snapshot.digest())
}
