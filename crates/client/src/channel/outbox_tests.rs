//! The rules of what is on its way, case by case.

use std::time::Instant;

use bytes::Bytes;
use millstream_types::{BillHead, ChannelId, CumulativeAmount, EpochId};
use millstream_voucher::{SecretKey, SignedVoucher, VoucherBody};
use millstream_wire::Ack;

use super::outbox::{Outbox, Place, QueuedFrame};
use crate::ChannelError;

/// Ten lines and a hundred nanos a frame.
fn body(frame: u64) -> VoucherBody {
    VoucherBody {
        channel: ChannelId::from_uid(&[5; 31]),
        lines_total: frame * 10,
        cumulative: CumulativeAmount::from_nanos(frame * 100),
        bill_head: BillHead::from_bytes([u8::try_from(frame).expect("small"); 32]),
    }
}

fn voucher(frame: u64) -> SignedVoucher {
    *SecretKey::from_entropy(&[1; 64]).expect("a key").sign(body(frame)).expect("signs").signed()
}

fn queued(frame: u64) -> QueuedFrame {
    QueuedFrame { body: body(frame), bytes: Bytes::new(), lines: 10, signed_at: Some(Instant::now()), sent_at: None }
}

/// Frames 1 to `durable`, of which `sent` are in flight.
fn outbox(durable: u64, sent: usize) -> Outbox {
    let mut outbox = Outbox::new(voucher(0), Vec::new());
    for frame in 1..=durable {
        outbox.push(voucher(frame), queued(frame));
    }
    while outbox.in_flight() < sent {
        assert!(outbox.next(sent, Instant::now()).is_some());
    }
    outbox
}

fn ack(lines_total: u64, cumulative: u64) -> Ack {
    let cumulative = CumulativeAmount::from_nanos(cumulative);
    Ack { lines_total, cumulative, commit: 1, epoch: EpochId::new(0) }
}

#[test]
fn no_more_frames_are_in_flight_than_allowed() {
    let mut outbox = outbox(5, 2);
    assert!(outbox.next(2, Instant::now()).is_none());
    let (_, again) = outbox.next(3, Instant::now()).expect("one more");
    assert!(!again);
    assert_eq!(outbox.settle(2).count(), 2);
    assert_eq!(outbox.in_flight(), 1);
    assert_eq!(outbox.rewind(), 1);
    assert!(outbox.next(9, Instant::now()).expect("again").1);
    assert!(!outbox.next(9, Instant::now()).expect("for the first time").1);
}

#[test]
fn acks_are_for_whole_frames_that_were_sent() {
    let outbox = outbox(5, 3);
    let check = |ack: Ack, expected: Result<usize, &str>| {
        let found = outbox.check_ack(&ack, &body(0)).map_err(|error| match error {
            ChannelError::AckAboveSent { .. } => "above",
            ChannelError::AckMismatch { .. } => "mismatch",
            other => panic!("{other:?}"),
        });
        assert_eq!(found, expected, "{ack:?}");
    };
    check(ack(0, 0), Ok(0));
    check(ack(10, 100), Ok(1));
    check(ack(30, 300), Ok(3));
    check(ack(15, 150), Err("mismatch"));
    check(ack(10, 101), Err("mismatch"));
    check(ack(0, 7), Err("mismatch"));
    check(ack(40, 400), Err("above"));
    check(ack(60, 600), Err("above"));
}

#[test]
fn a_named_voucher_has_one_place() {
    let mut outbox = outbox(5, 3);
    outbox.settle(2);
    let acked = body(2);
    let changed = |frame: u64, change: fn(&mut VoucherBody)| {
        let mut body = body(frame);
        change(&mut body);
        body
    };
    let check = |named: VoucherBody, expected: Place| assert_eq!(outbox.place(&named, &acked), expected, "{named:?}");
    check(body(2), Place::Acked);
    check(body(3), Place::Frames(1));
    check(body(5), Place::Frames(3));
    check(body(1), Place::Forgot);
    check(body(0), Place::Forgot);
    check(body(6), Place::Ahead);
    check(changed(6, |body| body.cumulative = CumulativeAmount::from_nanos(499)), Place::Forked);
    check(changed(3, |body| body.lines_total = 31), Place::Forked);
    check(changed(3, |body| body.bill_head = BillHead::from_bytes([0; 32])), Place::Forked);
    check(changed(2, |body| body.bill_head = BillHead::from_bytes([0; 32])), Place::Forked);
    check(changed(2, |body| body.cumulative = CumulativeAmount::from_nanos(1)), Place::Forked);
}
