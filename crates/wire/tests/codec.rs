//! Round trips, and bytes from nowhere.

mod common;

use bytes::{Bytes, BytesMut};
use common::{channel, limits, node_bytes, payer_bytes};
use millstream_billing::{FrameTree, Line};
use millstream_types::{
    Address, Amount, BillHead, BlockNumber, ChainId, ChannelId, CumulativeAmount, EpochId, Hash256, LedgerId, Reference,
};
use millstream_voucher::SignedVoucher;
use millstream_wire::{
    Ack, Attach, ChannelStatus, ErrorCode, FrameMessage, Limits, NODE_MESSAGE_BYTES_MAX, NodeMessage, PAYER_MESSAGE_BYTES_MAX,
    PayerMessage, Refused, Reject, Relay, RelayPurpose, RelayStage, RelayWay, Relayed, Snapshot, split_message,
};
use proptest::prelude::*;

fn vouchers() -> impl Strategy<Value = SignedVoucher> {
    (any::<[u8; 31]>(), any::<[u8; 32]>(), any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(uid, totals, head, scalar)| {
        let bytes: Vec<u8> = [&totals[..16], &head, &totals[16..], &scalar].concat();
        SignedVoucher::from_bytes(ChannelId::from_uid(&uid), bytes.first_chunk().expect("96 bytes"))
    })
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let line = (1..=u64::MAX, any::<[u8; 16]>(), any::<[u8; 32]>());
    (proptest::collection::vec(line, 1..=40), any::<bool>()).prop_map(|(lines, digests)| {
        let line = |(amount, reference, digest): (u64, [u8; 16], [u8; 32])| Line {
            amount: Amount::from_nanos(amount),
            reference: Reference::from_bytes(reference),
            digest: digests.then(|| Hash256::from_bytes(digest)),
        };
        lines.into_iter().map(line).collect()
    })
}

fn totals() -> impl Strategy<Value = CumulativeAmount> {
    any::<u64>().prop_map(CumulativeAmount::from_nanos)
}

fn snapshots() -> impl Strategy<Value = Snapshot> {
    let status =
        prop_oneof![Just(ChannelStatus::Open), Just(ChannelStatus::Closing), Just(ChannelStatus::Closed), Just(ChannelStatus::Frozen)];
    let limits = (189u32..=32_768, 1u16..=1_024, 1u16.., any::<u32>()).prop_map(|(bytes, lines, frames, idle)| Limits {
        frame_bytes_max: bytes,
        frame_lines_max: lines,
        frames_in_flight_max: frames,
        idle_timeout_secs: idle,
    });
    (status, any::<u64>(), vouchers(), any::<bool>(), totals(), totals(), limits, any::<u32>()).prop_map(
        |(status, deposit, voucher, accepted, charged, settled, limits, tariff_version)| Snapshot {
            channel: voucher.body().channel,
            status,
            confirmed_deposit: Amount::from_nanos(deposit),
            accepted: accepted.then_some(voucher),
            charged,
            settled,
            limits,
            tariff_version,
        },
    )
}

fn relays() -> impl Strategy<Value = Relay> {
    let words = any::<([u8; 32], [u8; 32], [u8; 32], [u8; 32])>();
    let purpose = prop_oneof![
        words.prop_map(|(key_x, key_qx, key_qy, salt)| RelayPurpose::Open { key_x, key_qx, key_qy, salt }),
        any::<([u8; 31], [u8; 32])>().prop_map(|(uid, salt)| RelayPurpose::TopUp { channel: ChannelId::from_uid(&uid), salt }),
    ];
    let way = prop_oneof![
        any::<(u64, u64)>()
            .prop_map(|(valid_after_secs, valid_before_secs)| RelayWay::Authorization { valid_after_secs, valid_before_secs }),
        (any::<u64>(), proptest::collection::vec(any::<u8>(), 65))
            .prop_map(|(deadline_secs, permit)| RelayWay::Permit { deadline_secs, permit: permit.try_into().expect("65 bytes") }),
        any::<([u8; 32], u64)>().prop_map(|(nonce, deadline_secs)| RelayWay::Permit2 { nonce, deadline_secs }),
    ];
    let ledger = any::<(u64, [u8; 20])>()
        .prop_map(|(chain, contract)| LedgerId { chain: ChainId::new(chain), contract: Address::from_bytes(contract) });
    let signature = proptest::collection::vec(any::<u8>(), 1..=1_024);
    (ledger, any::<[u8; 20]>(), any::<u128>(), purpose, way, signature).prop_map(|(ledger, funder, units, purpose, way, signature)| Relay {
        ledger,
        funder: Address::from_bytes(funder),
        base_units: Amount::from_units(units),
        purpose,
        way,
        signature,
    })
}

proptest! {
    #[test]
    fn relays_round_trip(relay in relays(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let message = PayerMessage::Relay(Box::new(relay.clone()));
        let bytes = payer_bytes(&message);
        prop_assert_eq!(&relay.to_bytes().expect("encodes"), &bytes);
        prop_assert_eq!(PayerMessage::decode(bytes.clone()), Ok(message));
        // Near them: one byte changed, or the end cut off.
        let mut changed = bytes.to_vec();
        let place = at.index(changed.len());
        changed[place] = byte;
        for near in [Bytes::from(changed), bytes.slice(..cut.index(bytes.len()))] {
            if let Ok(decoded) = PayerMessage::decode(near.clone()) {
                prop_assert_eq!(payer_bytes(&decoded), near);
            }
        }
    }

    #[test]
    fn what_becomes_of_relays_round_trips(
        uid: [u8; 31], transaction: [u8; 32], block: u64, deposit: u64, stage in 0usize..4, code in 0..ErrorCode::ALL.len(), secs: u32,
        revert in proptest::collection::vec(any::<u8>(), 0..=512),
    ) {
        let (transaction, block, deposit) = (Hash256::from_bytes(transaction), BlockNumber::new(block), Amount::from_nanos(deposit));
        let stages = [
            RelayStage::Accepted,
            RelayStage::Sent { transaction },
            RelayStage::Mined { transaction, block },
            RelayStage::Confirmed { transaction, block, deposit },
        ];
        let relayed = NodeMessage::Relayed(Relayed { channel: ChannelId::from_uid(&uid), stage: stages[stage] });
        prop_assert_eq!(NodeMessage::decode(&node_bytes(&relayed)), Ok(relayed));
        let refused = Refused { code: ErrorCode::ALL[code], retry_after_secs: secs, bound: block.height(), transaction, revert };
        let refused = NodeMessage::Refused(Box::new(refused));
        prop_assert_eq!(NodeMessage::decode(&node_bytes(&refused)), Ok(refused));
    }

    #[test]
    fn attaches_round_trip(voucher in vouchers(), chain: u64, contract: [u8; 20]) {
        let ledger = LedgerId { chain: ChainId::new(chain), contract: Address::from_bytes(contract) };
        let message = PayerMessage::Attach(Attach { ledger, voucher });
        prop_assert_eq!(PayerMessage::decode(payer_bytes(&message)), Ok(message));
    }

    #[test]
    fn frames_round_trip_line_by_line(voucher in vouchers(), lines in lines()) {
        let frame = FrameMessage::new(voucher, &lines).expect("a frame");
        let bytes = payer_bytes(&PayerMessage::Frame(frame.clone()));
        prop_assert_eq!(frame.as_bytes(), &bytes);
        let mut written = BytesMut::from(&b"before"[..]);
        FrameMessage::write(&mut written, &voucher, &lines).expect("a frame");
        let mut encoded = BytesMut::from(&b"before"[..]);
        frame.encode(&mut encoded).expect("encodes");
        prop_assert_eq!(&written, &encoded);
        prop_assert!(FrameMessage::write(&mut written, &voucher, &[]).is_err());
        prop_assert_eq!(&written, &encoded);
        let decoded = FrameMessage::decode(bytes).expect("decodes");
        prop_assert_eq!(&decoded, &frame);
        prop_assert_eq!(decoded.voucher(), &voucher);
        prop_assert_eq!(usize::from(decoded.count()), lines.len());
        prop_assert_eq!(decoded.lines().len(), lines.len());
        prop_assert_eq!(decoded.lines().collect::<Vec<_>>(), lines.clone());
        let sum = lines.iter().map(|line| line.amount.units()).sum();
        prop_assert_eq!(decoded.amount(), Amount::from_units(sum));
        prop_assert_eq!(decoded.root(), FrameTree::new(&lines).map(|tree| tree.root()));
    }

    #[test]
    fn snapshots_round_trip(snapshot in snapshots()) {
        let message = NodeMessage::Snapshot(Box::new(snapshot));
        prop_assert_eq!(NodeMessage::decode(&node_bytes(&message)), Ok(message));
    }

    #[test]
    fn acks_and_rejects_round_trip(
        lines_total: u64, accepted: u64, cumulative in totals(), commit: u64, epoch: u64, head: [u8; 32], code in 0..ErrorCode::ALL.len(),
    ) {
        let ack = NodeMessage::Ack(Ack { lines_total, cumulative, commit, epoch: EpochId::new(epoch) });
        prop_assert_eq!(NodeMessage::decode(&node_bytes(&ack)), Ok(ack));
        let reject = NodeMessage::Reject(Reject {
            code: ErrorCode::ALL[code],
            lines_total,
            accepted_lines_total: accepted,
            accepted_cumulative: cumulative,
            accepted_head: BillHead::from_bytes(head),
        });
        prop_assert_eq!(NodeMessage::decode(&node_bytes(&reject)), Ok(reject));
    }

    /// No bytes panic, and bytes that decode are the bytes that encoding writes.
    #[test]
    fn arbitrary_bytes_never_panic(kind in prop_oneof![0u8..5, 0x80u8..0x87, any::<u8>()], body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let bytes = Bytes::from([&[kind][..], &body].concat());
        if let Ok(message) = PayerMessage::decode(bytes.clone()) {
            prop_assert_eq!(payer_bytes(&message), bytes.clone());
        }
        if let Ok(message) = NodeMessage::decode(&bytes) {
            prop_assert_eq!(node_bytes(&message), bytes);
        }
    }

    /// The same, near good messages: one byte changed or the end cut off.
    #[test]
    fn nearly_good_bytes_never_panic(voucher in vouchers(), lines in lines(), snapshot in snapshots(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut frame = payer_bytes(&PayerMessage::Frame(FrameMessage::new(voucher, &lines).expect("a frame"))).to_vec();
        let mut snapshot = node_bytes(&NodeMessage::Snapshot(Box::new(snapshot))).to_vec();
        let place = at.index(frame.len());
        frame[place] = byte;
        let place = at.index(snapshot.len());
        snapshot[place] = byte;
        for message in [frame.clone(), frame[..cut.index(frame.len())].to_vec()] {
            let message = Bytes::from(message);
            if let Ok(decoded) = PayerMessage::decode(message.clone()) {
                prop_assert_eq!(payer_bytes(&decoded), message);
            }
        }
        for message in [snapshot.clone(), snapshot[..cut.index(snapshot.len())].to_vec()] {
            if let Ok(decoded) = NodeMessage::decode(&message) {
                prop_assert_eq!(node_bytes(&decoded), message);
            }
        }
    }

    /// However a stream is cut into pieces, the same messages come out.
    #[test]
    fn pieces_do_not_matter(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..8), piece in 1usize..40) {
        let mut stream = Vec::new();
        for body in &bodies {
            stream.extend_from_slice(&u32::try_from(body.len()).expect("short").to_be_bytes());
            stream.extend_from_slice(body);
        }
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for piece in stream.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(message) = split_message(&mut buffer, PAYER_MESSAGE_BYTES_MAX).expect("within the limit") {
                found.push(message.to_vec());
            }
        }
        prop_assert_eq!(found, bodies);
        prop_assert!(buffer.is_empty());
    }
}

#[test]
fn a_decoded_frame_shares_the_memory_it_came_in() {
    let bytes = payer_bytes(&common::frame());
    let PayerMessage::Frame(frame) = PayerMessage::decode(bytes.clone()).expect("decodes") else {
        panic!("not a frame");
    };
    assert_eq!(frame.as_bytes().as_ptr(), bytes.as_ptr());
    assert_eq!((frame.channel(), frame.count(), frame.has_digests()), (channel(), 2, false));
    assert_eq!(limits().frame_bytes_max as usize, PAYER_MESSAGE_BYTES_MAX);
    const { assert!(NODE_MESSAGE_BYTES_MAX > PAYER_MESSAGE_BYTES_MAX) };
}
