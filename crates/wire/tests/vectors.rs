//! `contracts/vectors/wire.json`: one of each message with its fields, and messages to refuse. `MILLSTREAM_BLESS=1` writes it.

#![allow(clippy::disallowed_methods, reason = "a test that writes the vectors on request has to open them")]

mod common;

use std::path::PathBuf;

use bytes::Bytes;
use common::{ack, attach, frame, frame_with_digests, node_bytes, payer_bytes, refused, reject, relay, relayed, snapshot};
use millstream_voucher::SignedVoucher;
use millstream_wire::{FrameMessage, NodeMessage, PayerMessage, Relay, RelayPurpose, RelayStage, RelayWay};
use serde_json::{Value, json};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../contracts/vectors/wire.json")
}

fn voucher_fields(voucher: &SignedVoucher) -> Value {
    let bytes = voucher.to_bytes();
    json!({
        "linesTotal": voucher.body().lines_total,
        "cumulative": voucher.body().cumulative,
        "billHead": voucher.body().bill_head,
        "signature": format!("0x{}", hex::encode(&bytes[48..])),
    })
}

fn frame_fields(frame: &FrameMessage) -> Value {
    let lines: Vec<Value> = frame
        .lines()
        .map(|line| json!({ "amount": line.amount, "reference": line.reference, "usageDigest": line.digest }))
        .collect();
    json!({
        "count": frame.count(),
        "channel": frame.channel(),
        "voucher": voucher_fields(frame.voucher()),
        "lines": lines,
        "frameRoot": frame.root().expect("within the limits"),
    })
}

fn relay_fields(relay: &Relay) -> Value {
    let words = |words: &[[u8; 32]]| words.iter().map(|word| hex_of(word)).collect::<Vec<_>>();
    let purpose = match &relay.purpose {
        RelayPurpose::Open { key_x, key_qx, key_qy, salt } => json!({ "open": words(&[*key_x, *key_qx, *key_qy, *salt]) }),
        RelayPurpose::TopUp { channel, salt } => json!({ "topUp": { "channel": channel, "salt": hex_of(salt) } }),
    };
    let way = match &relay.way {
        RelayWay::Authorization { valid_after_secs, valid_before_secs } => {
            json!({ "authorization": [valid_after_secs, valid_before_secs] })
        }
        RelayWay::Permit { deadline_secs, permit } => json!({ "permit": { "deadlineSecs": deadline_secs, "permit": hex_of(permit) } }),
        RelayWay::Permit2 { nonce, deadline_secs } => json!({ "permit2": { "nonce": hex_of(nonce), "deadlineSecs": deadline_secs } }),
    };
    json!({
        "version": 1,
        "chainId": relay.ledger.chain.get(),
        "ledger": relay.ledger.contract,
        "funder": relay.funder,
        "baseUnits": relay.base_units,
        "purpose": purpose,
        "way": way,
        "signature": hex_of(&relay.signature),
    })
}

fn payer_vector(name: &str, message: &PayerMessage) -> Value {
    let fields = match message {
        PayerMessage::Attach(attach) => json!({
            "version": 1,
            "chainId": attach.ledger.chain.get(),
            "ledger": attach.ledger.contract,
            "channel": attach.channel(),
            "voucher": voucher_fields(&attach.voucher),
        }),
        PayerMessage::Frame(frame) => frame_fields(frame),
        PayerMessage::Relay(relay) => relay_fields(relay),
    };
    json!({ "name": name, "from": "payer", "message": hex_of(&payer_bytes(message)), "fields": fields })
}

fn node_vector(name: &str, message: &NodeMessage) -> Value {
    let fields = match message {
        NodeMessage::Snapshot(snapshot) => json!({
            "channel": snapshot.channel,
            "status": 1,
            "confirmedDeposit": snapshot.confirmed_deposit,
            "accepted": snapshot.accepted.as_ref().map(voucher_fields),
            "charged": snapshot.charged,
            "settled": snapshot.settled,
            "frameBytesMax": snapshot.limits.frame_bytes_max,
            "frameLinesMax": snapshot.limits.frame_lines_max,
            "framesInFlightMax": snapshot.limits.frames_in_flight_max,
            "idleTimeoutSecs": snapshot.limits.idle_timeout_secs,
            "tariffVersion": snapshot.tariff_version,
        }),
        NodeMessage::Ack(ack) => json!({
            "linesTotal": ack.lines_total,
            "cumulative": ack.cumulative,
            "commit": ack.commit,
            "epoch": ack.epoch.number(),
        }),
        NodeMessage::Reject(reject) => json!({
            "code": reject.code.number(),
            "linesTotal": reject.lines_total,
            "acceptedLinesTotal": reject.accepted_lines_total,
            "acceptedCumulative": reject.accepted_cumulative,
            "acceptedHead": reject.accepted_head,
        }),
        NodeMessage::Relayed(relayed) => {
            let (stage, transaction, block, deposit) = match relayed.stage {
                RelayStage::Accepted => (1, None, None, None),
                RelayStage::Sent { transaction } => (2, Some(transaction), None, None),
                RelayStage::Mined { transaction, block } => (3, Some(transaction), Some(block), None),
                RelayStage::Confirmed { transaction, block, deposit } => (4, Some(transaction), Some(block), Some(deposit)),
            };
            let block = block.map(|block| block.height());
            json!({ "stage": stage, "channel": relayed.channel, "transaction": transaction, "block": block, "deposit": deposit })
        }
        NodeMessage::Refused(refused) => json!({
            "code": refused.code.number(),
            "retryAfterSecs": refused.retry_after_secs,
            "bound": refused.bound,
            "transaction": refused.transaction,
            "revert": hex_of(&refused.revert),
        }),
    };
    json!({ "name": name, "from": "node", "message": hex_of(&node_bytes(message)), "fields": fields })
}

fn hex_of(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

fn not_taken(name: &str, message: &[u8]) -> Value {
    let error = PayerMessage::decode(Bytes::copy_from_slice(message)).expect_err("must be refused");
    json!({ "name": name, "from": "payer", "message": hex_of(message), "code": error.code().number() })
}

fn vectors() -> Value {
    let [open, top_up] = common::relay_purposes();
    let [authorization, permit, permit2] = common::RELAY_WAYS;
    let good_relay = payer_bytes(&relay(open, authorization));
    let [accepted, sent, mined, confirmed] = relayed();
    let (good_attach, good_frame) = (payer_bytes(&attach()), payer_bytes(&frame()));
    let changed = |message: &[u8], at: usize, byte: u8| {
        let mut message = message.to_vec();
        message[at] = byte;
        message
    };
    json!({
        "spec": "docs/spec/wire.md",
        "note": "message is kind and body; the 4-byte length before it is its length in bytes. Signatures here do not hold.",
        "messages": [
            payer_vector("attach", &attach()),
            payer_vector("frame", &frame()),
            payer_vector("frame with usage digests", &frame_with_digests()),
            node_vector("snapshot", &snapshot(true)),
            node_vector("snapshot without an accepted voucher", &snapshot(false)),
            node_vector("ack", &ack()),
            node_vector("reject", &reject()),
            payer_vector("relay of an opening by authorization", &relay(open, authorization)),
            payer_vector("relay of an opening by permit", &relay(open, permit)),
            payer_vector("relay of a top-up by Permit2", &relay(top_up, permit2)),
            node_vector("relayed: accepted", &accepted),
            node_vector("relayed: sent", &sent),
            node_vector("relayed: mined", &mined),
            node_vector("relayed: confirmed", &confirmed),
            node_vector("refused", &refused()),
        ],
        "refused": [
            not_taken("attach of version 2", &changed(&good_attach, 2, 2)),
            not_taken("attach with a reserved bit", &changed(&good_attach, 4, 1)),
            not_taken("attach, one byte short", &good_attach[..good_attach.len() - 1]),
            not_taken("frame of no lines", &changed(&good_frame, 4, 0)),
            not_taken("frame with an unknown flag", &changed(&good_frame, 1, 2)),
            not_taken("frame with a byte after its lines", &[&good_frame[..], &[0]].concat()),
            not_taken("frame whose channel is over 248 bits", &changed(&good_frame, 5, 1)),
            not_taken("unknown kind", &[0x7f]),
            not_taken("relay of version 2", &changed(&good_relay, 2, 2)),
            not_taken("relay for no purpose", &changed(&good_relay, 3, 0)),
            not_taken("relay in no way", &changed(&good_relay, 4, 4)),
            not_taken("relay with a byte after its signature", &[&good_relay[..], &[0]].concat()),
        ],
    })
}

#[test]
fn the_vectors_are_as_written() {
    let vectors = vectors();
    if std::env::var_os("MILLSTREAM_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&vectors).expect("json") + "\n";
        std::fs::write(path(), text).expect("the vectors file can be written");
    }
    let text = std::fs::read_to_string(path()).expect("contracts/vectors/wire.json; MILLSTREAM_BLESS=1 writes it");
    let written: Value = serde_json::from_str(&text).expect("json");
    assert_eq!(written, vectors, "the wire format changed: bump the version or undo the change");
}

/// A frame by hand, so that the vectors cannot drift together with the codec.
#[test]
fn a_frame_has_exactly_these_bytes() {
    let expected = [
        "02",                              // kind
        "00",                              // flags
        "00",                              // reserved
        "0002",                            // count
        &format!("00{}", "c1".repeat(31)), // channel
        "0000000000000005",                // lines total
        "00000000000003e8",                // cumulative
        &"b1".repeat(32),                  // bill head
        &"55".repeat(48),                  // signature
        "0000000000000096",                // amount
        &"01".repeat(16),                  // reference
        "00000000000000fa",                // amount
        &"02".repeat(16),                  // reference
    ]
    .concat();
    assert_eq!(hex::encode(payer_bytes(&frame())), expected);
    assert_eq!(hex::encode(node_bytes(&ack())), "82000000000000000500000000000003e8000000000000004d0000000000000002");
}
