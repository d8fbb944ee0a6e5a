//! W-2, class by class: what does not parse exactly, what is said about it, and the code it closes with.

mod common;

use bytes::Bytes;
use common::{
    RELAY_WAYS, ack, attach, channel, frame, frame_with_digests, line, node_bytes, payer_bytes, refused, reject, relay, relay_purposes,
    relayed, snapshot, voucher,
};
use millstream_billing::Line;
use millstream_types::Amount;
use millstream_wire::{
    ATTACH_BYTES, DecodeError, EncodeError, ErrorCode, FRAME_HEADER_BYTES, FrameMessage, Kind, NODE_MESSAGE_BYTES_MAX, NodeMessage,
    PAYER_MESSAGE_BYTES_MAX, PayerMessage, frame_bytes,
};

/// Where fields start in kind and body.
const FLAGS: usize = 1;
const COUNT: usize = 3;
const FRAME_CHANNEL: usize = 5;
const ATTACH_RESERVED: usize = 3;
const ATTACH_CHANNEL: usize = 1 + 2 + 2 + 8 + 20;
const STATUS: usize = 33;
const SNAPSHOT_FLAGS: usize = 34;
const SNAPSHOT_VOUCHER: usize = 35 + 8;
const SNAPSHOT_LIMITS: usize = SNAPSHOT_VOUCHER + 96 + 16;

fn changed(message: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[at..at + bytes.len()].copy_from_slice(bytes);
    message
}

fn longer(message: &[u8]) -> Vec<u8> {
    [message, &[0]].concat()
}

fn shorter(message: &[u8]) -> Vec<u8> {
    message[..message.len() - 1].to_vec()
}

#[test]
fn a_payers_message_parses_exactly_or_not_at_all() {
    let check = |what: &str, message: Vec<u8>, expected: DecodeError, code: ErrorCode| {
        assert_eq!(PayerMessage::decode(Bytes::from(message)), Err(expected), "{what}");
        assert_eq!(expected.code(), code, "{what}");
    };
    let (attach, frame, digests) = (payer_bytes(&attach()), payer_bytes(&frame()), payer_bytes(&frame_with_digests()));
    let malformed = ErrorCode::Malformed;
    let length = |kind, expected, actual| DecodeError::Length { kind, expected, actual };
    let reserved = |kind, actual| DecodeError::Reserved { kind, actual };
    let count = |actual| DecodeError::OutOfRange { kind: Kind::Frame, field: "count", min: 1, max: 1_024, actual };
    let two = frame_bytes(2, false);
    let oversized = DecodeError::Oversized { max: PAYER_MESSAGE_BYTES_MAX, actual: PAYER_MESSAGE_BYTES_MAX + 1 };
    let version = DecodeError::UnsupportedVersion { expected: 1, actual: 2 };

    check("nothing", vec![], DecodeError::Empty, malformed);
    check("kind 0", vec![0], DecodeError::UnknownKind { actual: 0 }, malformed);
    check("a node's kind", vec![0x82; 33], DecodeError::UnknownKind { actual: 0x82 }, malformed);
    check("over the limit", vec![2; PAYER_MESSAGE_BYTES_MAX + 1], oversized, ErrorCode::Oversized);

    check("attach, kind only", vec![1], length(Kind::Attach, 3, 1), malformed);
    check("attach, short", shorter(&attach), length(Kind::Attach, ATTACH_BYTES, ATTACH_BYTES - 1), malformed);
    check("attach, long", longer(&attach), length(Kind::Attach, ATTACH_BYTES, ATTACH_BYTES + 1), malformed);
    check("attach, version", changed(&attach, 1, &[0, 2]), version, ErrorCode::UnsupportedVersion);
    check("attach, longer version", longer(&changed(&attach, 1, &[0, 2])), version, ErrorCode::UnsupportedVersion);
    check("attach, reserved", changed(&attach, ATTACH_RESERVED, &[1, 0]), reserved(Kind::Attach, 0x100), malformed);
    check("attach, channel", changed(&attach, ATTACH_CHANNEL, &[9]), DecodeError::ChannelId { actual: 9 }, malformed);

    check("frame, kind only", vec![2], length(Kind::Frame, FRAME_HEADER_BYTES, 1), malformed);
    check("frame, no lines", frame[..FRAME_HEADER_BYTES].to_vec(), length(Kind::Frame, two, FRAME_HEADER_BYTES), malformed);
    check("frame, short", shorter(&frame), length(Kind::Frame, two, two - 1), malformed);
    check("frame, long", longer(&frame), length(Kind::Frame, two, two + 1), malformed);
    check("frame, flags", changed(&frame, FLAGS, &[0x82]), reserved(Kind::Frame, 0x82), malformed);
    check("frame, all flags", changed(&frame, FLAGS, &[0xff]), reserved(Kind::Frame, 0xfe), malformed);
    check("frame, reserved", changed(&frame, FLAGS + 1, &[3]), reserved(Kind::Frame, 3), malformed);
    check("frame, count 0", changed(&frame, COUNT, &[0, 0]), count(0), malformed);
    check("frame, count 1,025", changed(&frame, COUNT, &[4, 1]), count(1_025), malformed);
    check("frame, count of one", changed(&frame, COUNT, &[0, 1]), length(Kind::Frame, frame_bytes(1, false), two), malformed);
    check(
        "frame, digests not flagged",
        changed(&digests, FLAGS, &[0]),
        length(Kind::Frame, frame_bytes(3, false), frame_bytes(3, true)),
        malformed,
    );
    check("frame, channel", changed(&frame, FRAME_CHANNEL, &[1]), DecodeError::ChannelId { actual: 1 }, malformed);
    let [open, _] = relay_purposes();
    for (way, bytes) in RELAY_WAYS.into_iter().zip([69 + 128 + 16 + 2 + 65, 69 + 128 + 73 + 2 + 65, 69 + 128 + 40 + 2 + 65]) {
        let relay = payer_bytes(&relay(open, way));
        assert_eq!(relay.len(), bytes);
        check("relay, short", shorter(&relay), length(Kind::Relay, bytes, bytes - 1), malformed);
        check("relay, long", longer(&relay), length(Kind::Relay, bytes, bytes + 1), malformed);
        check("relay, no signature", relay[..bytes - 67].to_vec(), length(Kind::Relay, bytes - 65, bytes - 67), malformed);
        let lengths = |actual| DecodeError::OutOfRange { kind: Kind::Relay, field: "signature length", min: 1, max: 1_024, actual };
        check("relay, a signature of nothing", changed(&relay, bytes - 67, &[0, 0]), lengths(0), malformed);
        check("relay, a signature of 1,025 bytes", changed(&relay, bytes - 67, &[4, 1]), lengths(1_025), malformed);
    }
    let [open, top_up] = relay_purposes().map(|purpose| payer_bytes(&relay(purpose, RELAY_WAYS[0])));
    let range = |field, max, actual| DecodeError::OutOfRange { kind: Kind::Relay, field, min: 1, max, actual };
    check("relay, kind only", vec![3], length(Kind::Relay, 3, 1), malformed);
    check("relay, version", changed(&open, 1, &[0, 2]), version, ErrorCode::UnsupportedVersion);
    check("relay, header only", open[..68].to_vec(), length(Kind::Relay, 69, 68), malformed);
    check("relay, purpose 0", changed(&open, 3, &[0]), range("purpose", 2, 0), malformed);
    check("relay, purpose 3", changed(&open, 3, &[3]), range("purpose", 2, 3), malformed);
    check("relay, way 4", changed(&open, 4, &[4]), range("way", 3, 4), malformed);
    check("relay, channel", changed(&top_up, 69, &[1]), DecodeError::ChannelId { actual: 1 }, malformed);

    let second_line = FRAME_HEADER_BYTES + 24;
    check("frame, zero", changed(&frame, second_line, &[0; 8]), DecodeError::ZeroAmount { index: 1 }, malformed);
}

#[test]
fn a_nodes_message_parses_exactly_or_not_at_all() {
    let check = |what: &str, message: Vec<u8>, expected: DecodeError| {
        assert_eq!(NodeMessage::decode(&message), Err(expected), "{what}");
    };
    let (with, without) = (node_bytes(&snapshot(true)), node_bytes(&snapshot(false)));
    let (ack, reject) = (node_bytes(&ack()), node_bytes(&reject()));
    let length = |kind, expected, actual| DecodeError::Length { kind, expected, actual };
    let range = |kind, field, min, max, actual| DecodeError::OutOfRange { kind, field, min, max, actual };
    let status = |actual| range(Kind::Snapshot, "status", 1, 4, actual);
    let code = |actual| range(Kind::Reject, "code", 1, 29, actual);
    let limit = |field, min, max, actual| range(Kind::Snapshot, field, min, max, actual);
    let oversized = DecodeError::Oversized { max: NODE_MESSAGE_BYTES_MAX, actual: NODE_MESSAGE_BYTES_MAX + 1 };

    check("nothing", vec![], DecodeError::Empty);
    check("a payer's kind", vec![1; 161], DecodeError::UnknownKind { actual: 1 });
    check("over the limit", vec![0x81; NODE_MESSAGE_BYTES_MAX + 1], oversized);

    check("snapshot, short", shorter(&with), length(Kind::Snapshot, 171, 170));
    check("snapshot, long", longer(&with), length(Kind::Snapshot, 171, 172));
    check("snapshot, channel", changed(&with, 1, &[5]), DecodeError::ChannelId { actual: 5 });
    check("snapshot, status 0", changed(&with, STATUS, &[0]), status(0));
    check("snapshot, status 5", changed(&with, STATUS, &[5]), status(5));
    check("snapshot, flags", changed(&with, SNAPSHOT_FLAGS, &[3]), DecodeError::Reserved { kind: Kind::Snapshot, actual: 2 });
    check("snapshot, a voucher it denies", changed(&with, SNAPSHOT_FLAGS, &[0]), DecodeError::UnexpectedVoucher);
    check("snapshot, a wrong first head", changed(&without, SNAPSHOT_VOUCHER + 16, &[0; 32]), DecodeError::UnexpectedVoucher);
    check("snapshot, bytes 188", changed(&with, SNAPSHOT_LIMITS, &[0, 0, 0, 188]), limit("frame bytes max", 189, 32_768, 188));
    check("snapshot, bytes 32,769", changed(&with, SNAPSHOT_LIMITS, &[0, 0, 128, 1]), limit("frame bytes max", 189, 32_768, 32_769));
    check("snapshot, lines 0", changed(&with, SNAPSHOT_LIMITS + 4, &[0, 0]), limit("frame lines max", 1, 1_024, 0));
    check("snapshot, lines 1,025", changed(&with, SNAPSHOT_LIMITS + 4, &[4, 1]), limit("frame lines max", 1, 1_024, 1_025));
    check("snapshot, in flight 0", changed(&with, SNAPSHOT_LIMITS + 6, &[0, 0]), limit("frames in flight max", 1, 65_535, 0));

    check("ack, short", shorter(&ack), length(Kind::Ack, 33, 32));
    check("ack, long", longer(&ack), length(Kind::Ack, 33, 34));
    check("reject, short", shorter(&reject), length(Kind::Reject, 61, 60));
    check("reject, long", longer(&reject), length(Kind::Reject, 61, 62));
    check("reject, code 0", changed(&reject, 1, &[0, 0]), code(0));
    check("reject, code 30", changed(&reject, 1, &[0, 30]), code(30));
    let [accepted, sent, mined, _] = relayed().map(|message| node_bytes(&message));
    let refused = node_bytes(&refused());
    let early = |field| DecodeError::TooEarly { field };
    check("relayed, short", shorter(&mined), length(Kind::Relayed, 85, 84));
    check("relayed, long", longer(&mined), length(Kind::Relayed, 85, 86));
    check("relayed, stage 0", changed(&mined, 1, &[0]), range(Kind::Relayed, "stage", 1, 4, 0));
    check("relayed, stage 5", changed(&mined, 1, &[5]), range(Kind::Relayed, "stage", 1, 4, 5));
    check("relayed, reserved", changed(&mined, 4, &[1]), DecodeError::Reserved { kind: Kind::Relayed, actual: 1 });
    check("relayed, channel", changed(&mined, 5, &[1]), DecodeError::ChannelId { actual: 1 });
    check("relayed, a transaction before it is sent", changed(&accepted, 40, &[1]), early("transaction"));
    check("relayed, a block before it is mined", changed(&sent, 70, &[1]), early("block"));
    check("relayed, a deposit before it is confirmed", changed(&mined, 84, &[1]), early("deposit"));
    check("refused, short", shorter(&refused), length(Kind::Refused, 53, 52));
    check("refused, without a length", refused[..50].to_vec(), length(Kind::Refused, 51, 50));
    check("refused, long", longer(&refused), length(Kind::Refused, 53, 54));
    check("refused, code 0", changed(&refused, 1, &[0, 0]), range(Kind::Refused, "code", 1, 29, 0));
    check("refused, reserved", changed(&refused, 3, &[0, 1]), DecodeError::Reserved { kind: Kind::Refused, actual: 1 });
    check("refused, length", changed(&refused, 49, &[2, 1]), range(Kind::Refused, "revert length", 0, 512, 513));
    check("reject, reserved", changed(&reject, 3, &[0, 1]), DecodeError::Reserved { kind: Kind::Reject, actual: 1 });
}

#[test]
fn what_is_no_frame_is_not_written() {
    let check = |what: &str, lines: &[Line], expected: EncodeError| {
        assert_eq!(FrameMessage::new(voucher(1, 1), lines), Err(expected), "{what}");
    };
    let plain = vec![line(1, 1, None); 1_025];
    let digests = vec![line(1, 1, Some(1)); 583];
    let wide = Line { amount: Amount::from_units(1 << 64), ..plain[0] };
    let too_wide = wide.amount.to_u64().expect_err("65 bits");
    check("no lines", &[], EncodeError::LineCount { max: 1_024, actual: 0 });
    check("1,025 lines", &plain, EncodeError::LineCount { max: 1_024, actual: 1_025 });
    check("583 with digests", &digests, EncodeError::Oversized { max: PAYER_MESSAGE_BYTES_MAX, actual: 32_781 });
    check("mixed", &[plain[0], digests[0]], EncodeError::MixedDigests { index: 1 });
    check("mixed the other way", &[digests[0], plain[0]], EncodeError::MixedDigests { index: 1 });
    check("nothing paid", &[plain[0], line(0, 1, None)], EncodeError::ZeroAmount { index: 1 });
    check("65 bits", &[wide], EncodeError::Amount { field: "amount", source: too_wide });
    assert_eq!(FrameMessage::new(voucher(1, 1), &plain[..1_024]).expect("full").as_bytes().len(), 24_709);
    assert_eq!(FrameMessage::new(voucher(1, 1), &digests[..582]).expect("full").as_bytes().len(), 32_725);
    assert_eq!(FrameMessage::new(voucher(1, 1), &plain[..1]).expect("one").channel(), channel());
}
