//! One of each message, from bytes a reader can recognise.

#![allow(dead_code, reason = "each test target uses a part")]

use bytes::{Bytes, BytesMut};
use millstream_billing::Line;
use millstream_types::{
    Address, Amount, BillHead, BlockNumber, ChainId, ChannelId, CumulativeAmount, EpochId, Hash256, LedgerId, Reference,
};
use millstream_voucher::{SignedVoucher, VOUCHER_BYTES};
use millstream_wire::{
    Ack, Attach, ChannelStatus, ErrorCode, FrameMessage, LENGTH_BYTES, Limits, NodeMessage, PayerMessage, Refused, Reject, Relay,
    RelayPurpose, RelayStage, RelayWay, Relayed, Snapshot,
};

pub fn channel() -> ChannelId {
    ChannelId::from_uid(&[0xc1; 31])
}

/// A voucher whose totals, head and signature are told apart by their bytes; its signature does not hold.
pub fn voucher(lines_total: u64, cumulative: u64) -> SignedVoucher {
    let mut bytes = [0x55; VOUCHER_BYTES];
    bytes[..8].copy_from_slice(&lines_total.to_be_bytes());
    bytes[8..16].copy_from_slice(&cumulative.to_be_bytes());
    bytes[16..48].fill(0xb1);
    SignedVoucher::from_bytes(channel(), &bytes)
}

pub fn line(amount: u64, reference: u8, digest: Option<u8>) -> Line {
    Line {
        amount: Amount::from_nanos(amount),
        reference: Reference::from_bytes([reference; 16]),
        digest: digest.map(|byte| Hash256::from_bytes([byte; 32])),
    }
}

pub fn attach() -> PayerMessage {
    let ledger = LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([0x1e; 20]) };
    PayerMessage::Attach(Attach { ledger, voucher: voucher(3, 600) })
}

pub fn frame() -> PayerMessage {
    let lines = [line(150, 1, None), line(250, 2, None)];
    PayerMessage::Frame(FrameMessage::new(voucher(5, 1_000), &lines).expect("a frame"))
}

pub fn frame_with_digests() -> PayerMessage {
    let lines = [line(150, 1, Some(7)), line(250, 2, Some(8)), line(u64::MAX, 3, Some(9))];
    PayerMessage::Frame(FrameMessage::new(voucher(6, 1_000), &lines).expect("a frame"))
}

pub fn limits() -> Limits {
    Limits { frame_bytes_max: 32_768, frame_lines_max: 1_024, frames_in_flight_max: 64, idle_timeout_secs: 60 }
}

pub fn snapshot(accepted: bool) -> NodeMessage {
    NodeMessage::Snapshot(Box::new(Snapshot {
        channel: channel(),
        status: ChannelStatus::Open,
        confirmed_deposit: Amount::from_nanos(5_000_000_000),
        accepted: accepted.then(|| voucher(5, 1_000)),
        charged: CumulativeAmount::from_nanos(if accepted { 1_000 } else { 0 }),
        settled: CumulativeAmount::from_nanos(if accepted { 600 } else { 0 }),
        limits: limits(),
        tariff_version: 4,
    }))
}

pub fn ack() -> NodeMessage {
    NodeMessage::Ack(Ack { lines_total: 5, cumulative: CumulativeAmount::from_nanos(1_000), commit: 77, epoch: EpochId::new(2) })
}

pub fn reject() -> NodeMessage {
    NodeMessage::Reject(Reject {
        code: ErrorCode::LinesMismatch,
        lines_total: 9,
        accepted_lines_total: 5,
        accepted_cumulative: CumulativeAmount::from_nanos(1_000),
        accepted_head: BillHead::from_bytes([0xb1; 32]),
    })
}

pub fn relay_purposes() -> [RelayPurpose; 2] {
    [
        RelayPurpose::Open { key_x: [0xa1; 32], key_qx: [0xa2; 32], key_qy: [0xa3; 32], salt: [0xa4; 32] },
        RelayPurpose::TopUp { channel: channel(), salt: [0xa4; 32] },
    ]
}

pub const RELAY_WAYS: [RelayWay; 3] = [
    RelayWay::Authorization { valid_after_secs: 7, valid_before_secs: 1_900_000_000 },
    RelayWay::Permit { deadline_secs: 1_900_000_000, permit: [0xe1; 65] },
    RelayWay::Permit2 { nonce: [0xe2; 32], deadline_secs: 1_900_000_000 },
];

pub fn relay(purpose: RelayPurpose, way: RelayWay) -> PayerMessage {
    PayerMessage::Relay(Box::new(Relay {
        ledger: LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([0x1e; 20]) },
        funder: Address::from_bytes([0xf1; 20]),
        base_units: Amount::from_units(5_000_000),
        purpose,
        way,
        signature: vec![0x55; 65],
    }))
}

pub fn relayed() -> [NodeMessage; 4] {
    let (transaction, block) = (Hash256::from_bytes([0xd1; 32]), BlockNumber::new(77));
    let deposit = Amount::from_nanos(5_000_000_000);
    let stages = [
        RelayStage::Accepted,
        RelayStage::Sent { transaction },
        RelayStage::Mined { transaction, block },
        RelayStage::Confirmed { transaction, block, deposit },
    ];
    stages.map(|stage| NodeMessage::Relayed(Relayed { channel: channel(), stage }))
}

pub fn refused() -> NodeMessage {
    let refused = Refused { retry_after_secs: 90, bound: 20, ..Refused::new(ErrorCode::RelayGasPrice) };
    NodeMessage::Refused(Box::new(Refused { revert: vec![0xde, 0xad], ..refused }))
}

/// Kind and body of a payer's message.
pub fn payer_bytes(message: &PayerMessage) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out).expect("encodes");
    without_length(out)
}

/// Kind and body of a node's message.
pub fn node_bytes(message: &NodeMessage) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out).expect("encodes");
    without_length(out)
}

fn without_length(out: BytesMut) -> Bytes {
    let out = out.freeze();
    let length = u32::from_be_bytes(*out.first_chunk().expect("a length"));
    assert_eq!(length as usize, out.len() - LENGTH_BYTES);
    out.slice(LENGTH_BYTES..)
}
