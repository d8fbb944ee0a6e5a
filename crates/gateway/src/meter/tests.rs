//! Tables of responses and what they come to; and that it does not matter how they are cut.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::*;

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";

fn meter(content_type: &'static str, coding: &'static str) -> Meter {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
    Meter::new(&headers)
}

/// Input, output and cached tokens, images, and where the tokens come from.
type Seen = (u64, u64, u64, u64, UsageSource);

fn read(content_type: &'static str, coding: &'static str, pieces: &[&[u8]], ends: bool) -> Seen {
    let mut meter = meter(content_type, coding);
    pieces.iter().for_each(|piece| meter.read(piece));
    if ends {
        meter.finish();
    }
    let snapshot = meter.snapshot();
    let usage = snapshot.usage(1, 0);
    (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.images, snapshot.source())
}

fn chat(deltas: &[&str], usage: Option<&str>) -> String {
    let mut text: String = deltas
        .iter()
        .map(|delta| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{delta}\"}}}}],\"usage\":null}}\n\n"))
        .collect();
    if let Some(usage) = usage {
        text += &format!("data: {{\"choices\":[],\"usage\":{usage}}}\n\n");
    }
    text + "data: [DONE]\n\n"
}

#[test]
fn json_bodies() {
    use UsageSource::{Nothing, Reported};
    let check = |body: &str, expected: Seen| assert_eq!(read(JSON, "identity", &[body.as_bytes()], true), expected, "{body}");
    check(
        r#"{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}"#,
        (9, 12, 0, 0, Reported),
    );
    check(
        r#"{ "usage" : {"prompt_tokens":100,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":64}} , "id":"x" }"#,
        (36, 5, 64, 0, Reported),
    );
    check(r#"{"usage":{"input_tokens":10,"output_tokens":3,"input_tokens_details":{"cached_tokens":4}}}"#, (6, 3, 4, 0, Reported));
    check(
        r#"{"usage":{"input_tokens":10,"output_tokens":3,"cache_read_input_tokens":4,"cache_creation_input_tokens":2}}"#,
        (12, 3, 4, 0, Reported),
    );
    check(r#"{"created":1,"data":[{"url":"a,b"},{"b64_json":"[,]"}]}"#, (0, 0, 0, 2, Nothing));
    check(r#"{"data":{"a":1,"b":[2]}}"#, (0, 0, 0, 0, Nothing));
    check(r#"{"data":[ ]}"#, (0, 0, 0, 0, Nothing));
    check(r#"{"data":[[1,2],"x",3]}"#, (0, 0, 0, 3, Nothing));
    check(r#"{"data":[{"embedding":[1,2,3]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#, (8, 0, 0, 1, Reported));
    // Only at the top level, only as a key, and only what is a number.
    check(r#"{"choices":[{"usage":{"completion_tokens":5}}],"note":"\"usage\":{\"completion_tokens\":7}"}"#, (0, 0, 0, 0, Nothing));
    check(r#"{"a":"usage","usage":null}"#, (0, 0, 0, 0, Nothing));
    check(r#"{"usage":{"completion_tokens":-5,"prompt_tokens":"7"}}"#, (0, 0, 0, 0, Nothing));
    check(r#"[{"usage":{"completion_tokens":5}}]"#, (0, 0, 0, 0, Nothing));
    check("not json }]}{{\"usage\"", (0, 0, 0, 0, Nothing));
    // More cached than read is nonsense: no more than was read counts as cached.
    check(r#"{"usage":{"prompt_tokens":3,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":9}}}"#, (0, 1, 3, 0, Reported));
    let long = format!(r#"{{"usage":{{"x":"{}","completion_tokens":5}}}}"#, "y".repeat(20_000));
    check(&long, (0, 0, 0, 0, Nothing));
    let late = format!(r#"{{"text":"{}","usage":{{"completion_tokens":5}}}}"#, "y".repeat(3_000_000));
    check(&late, (0, 5, 0, 0, Reported));
}

#[test]
fn event_streams() {
    use UsageSource::{Counted, Nothing, Reported};
    let check = |body: &str, ends: bool, expected: Seen| assert_eq!(read(EVENTS, "", &[body.as_bytes()], ends), expected, "{body}");
    let usage = r#"{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":8}}"#;
    check(&chat(&["a", "b", "c"], Some(usage)), true, (1, 4, 8, 0, Reported));
    check(&chat(&["a", "b", "c"], None), true, (0, 3, 0, 0, Counted));
    check(&chat(&["", "b", ""], None), true, (0, 1, 0, 0, Counted));
    // Cut in the third event: two were delivered.
    let stream = chat(&["a", "b", "c"], Some(usage));
    let third = stream.match_indices("data:").nth(2).expect("three").0;
    check(&stream[..third + 30], false, (0, 2, 0, 0, Counted));
    // An end without the empty line is an end all the same.
    check("data: {\"choices\":[{\"text\":\"x\"}]}", true, (0, 1, 0, 0, Counted));
    check("data: {\"choices\":[{\"text\":\"x\"}]}", false, (0, 0, 0, 0, Nothing));
    // Line ends of all three kinds, comments, several data lines.
    check(": ping\r\n\r\ndata: {\"choices\":\rdata: [{\"text\":\"x\"}]}\r\rdata: [DONE]\n\n", true, (0, 1, 0, 0, Counted));
    check("data: {\"choices\":[{\"delta\":{\"content\":\"abc\"},\"logprobs\":{\"content\":[{},{},{}]}}]}\n\n", true, (0, 3, 0, 0, Counted));
    check("data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":\"{\"}}]}}]}\n\n", true, (0, 1, 0, 0, Counted));
    check(
        "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}},{\"delta\":{\"content\":\"x\"}}]}\n\n",
        true,
        (0, 2, 0, 0, Counted),
    );
    // Usage with every event, as some servers send it.
    let running = "data: {\"choices\":[{\"text\":\"x\"}],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n\
                   data: {\"choices\":[{\"text\":\"y\"}],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}}\n\n";
    check(running, false, (7, 5, 0, 0, Reported));
    // Anthropic: a first report, deltas, a last one.
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"cache_read_input_tokens\":5,\"output_tokens\":1}}}\n\n";
    let delta =
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n";
    let end = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":15}}\n\n";
    check(&format!("{start}{delta}{delta}"), false, (25, 3, 5, 0, Counted));
    check(&format!("{start}{delta}{delta}{end}"), true, (25, 15, 5, 0, Reported));
    // OpenAI's responses.
    let delta = "event: x\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n";
    let end = "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":11,\"input_tokens_details\":{\"cached_tokens\":1},\"output_tokens\":2}}}\n\n";
    check(&format!("{delta}{delta}{delta}"), false, (0, 3, 0, 0, Counted));
    check(&format!("{delta}{delta}{delta}{end}"), true, (10, 2, 1, 0, Reported));
    check(
        "data: {\"type\":\"image_generation.completed\",\"b64_json\":\"x\",\"usage\":{\"input_tokens\":5,\"output_tokens\":9,\"input_tokens_details\":{}}}\n\n",
        true,
        (5, 9, 0, 1, Reported),
    );
    // An event that is too long is passed over, and the next one is read.
    let long = format!("data: {{\"choices\":[{{\"text\":\"{}\"}}]}}\n\n{}", "x".repeat(1_100_000), chat(&["a"], None));
    check(&long, true, (0, 1, 0, 0, Counted));
}

fn gzip(plain: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(plain.as_bytes()).expect("in memory");
    gzip.finish().expect("in memory")
}

fn deflate(plain: &str) -> Vec<u8> {
    let mut deflate = ZlibEncoder::new(Vec::new(), Compression::default());
    deflate.write_all(plain.as_bytes()).expect("in memory");
    deflate.finish().expect("in memory")
}

#[test]
fn compressed_bodies_are_read_through_a_copy() {
    let plain = chat(&["a", "b", "c"], None);
    let (gzip, deflate) = (gzip(&plain), deflate(&plain));
    let counted = (0, 3, 0, 0, UsageSource::Counted);
    let nothing = (0, 0, 0, 0, UsageSource::Nothing);
    assert_eq!(read(EVENTS, "gzip", &[&gzip], true), counted);
    assert_eq!(read(EVENTS, "GZIP", &[&gzip, &gzip], true).1, 6, "members after one another");
    assert_eq!(read(EVENTS, "deflate", &[&deflate], true), counted);
    assert_eq!(read(EVENTS, "br", &[plain.as_bytes()], true), nothing);
    assert_eq!(read(EVENTS, "gzip", &[b"not gzip at all, not at all"], true), nothing);
    assert_eq!(read(EVENTS, "gzip, gzip", &[&gzip], true), nothing);
    let (mut broken, whole) = (meter(EVENTS, "gzip"), meter(EVENTS, "gzip"));
    broken.read(b"not gzip at all, not at all");
    assert!(whole.is_readable() && !broken.is_readable() && !meter(EVENTS, "br").is_readable());
}

#[test]
fn what_comes_before_a_break_is_counted_however_it_is_cut() {
    let words: Vec<String> = (0..200u32).map(|number| format!("{:x}", number.wrapping_mul(2_654_435_761))).collect();
    let plain = chat(&words.iter().map(String::as_str).collect::<Vec<_>>(), None);
    for (coding, compressed) in [("gzip", gzip(&plain)), ("deflate", deflate(&plain))] {
        let mut broken = compressed;
        let half = broken.len() / 2;
        broken[half..].fill(0xff);
        let whole = read(EVENTS, coding, &[&broken], true);
        let single: Vec<&[u8]> = broken.chunks(1).collect();
        assert_eq!(read(EVENTS, coding, &single, true), whole, "{coding}");
        assert!((1..200).contains(&whole.1), "{coding}: {whole:?}");
    }
}

#[test]
fn bytes_and_their_digest_are_those_that_pass() {
    let mut meter = meter("application/octet-stream", "gzip");
    meter.read(b"abc");
    meter.read(b"");
    meter.read(b"de");
    let usage = meter.snapshot().usage(1, 77);
    assert_eq!((usage.bytes, usage.millis, usage.calls), (5, 77, 1));
    assert_eq!(meter.snapshot().digest(), <[u8; 32]>::from(Sha256::digest(b"abcde")));
    assert!(!meter.is_readable() && !meter.is_event_stream());
}

#[test]
fn an_event_may_be_added_between_events_only() {
    let mut meter = meter(EVENTS, "");
    for (piece, between) in [("", true), ("data: x", false), ("\n", false), ("\n", true), (": ping\n", false), ("\r", true), ("\n", true)] {
        meter.read(piece.as_bytes());
        assert_eq!(meter.is_between_events(), between, "{piece:?}");
    }
    assert!(!super::tests::meter(EVENTS, "gzip").is_between_events());
    assert!(!super::tests::meter(JSON, "").is_between_events());
}

/// A stream or body made of parts that matter to the scanners.
fn body() -> impl Strategy<Value = (&'static str, String)> {
    let part = prop::sample::select(vec![
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
        "data: {\"choices\":[{\"text\":\"é\"}]}\r\n\r\n",
        "data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7}}\r\r",
        ": comment\n",
        "data: {\"type\":\"content_block_delta\"}\n\n",
        "event: x\n",
        "\r",
        "\n",
        "data",
        "{\"usage\":{\"completion_tokens\":3},\"data\":[1,{\"a\":[2,3]},\"\\\"\"]}",
        "{\"a\":\"\\\\\",\"usage\":",
        "}",
        ",",
        "\"",
    ]);
    (prop::sample::select(vec![JSON, EVENTS]), prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat()))
}

proptest! {
    #[test]
    fn what_is_counted_does_not_depend_on_how_the_bytes_are_cut(
        (content_type, body) in body(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        compress in any::<bool>(),
        ends in any::<bool>(),
    ) {
        let (bytes, coding) = if compress {
            (gzip(&body), "gzip")
        } else {
            (body.into_bytes(), "")
        };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read(content_type, coding, &pieces, ends), read(content_type, coding, &[&bytes], ends));
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(read(content_type, coding, &single, ends), read(content_type, coding, &[&bytes], ends));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..512), coding in prop::sample::select(vec!["", "gzip", "deflate"])) {
        read(JSON, coding, &[&bytes], true);
        read(EVENTS, coding, &[&bytes], true);
    }
}
