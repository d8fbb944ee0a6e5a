//! Every wrong voucher is refused with its own code, changes nothing, and leaves the connection alive; what does not parse closes its stream.

mod common;

use common::{Net, RawPayer, secret};
use millstream_transport::{CloseCode, Fingerprint, StreamError};
use millstream_types::{Address, BillHead, ChainId, CumulativeAmount, LedgerId};
use millstream_voucher::{Signature, SignedVoucher};
use millstream_wire::{Attach, ErrorCode, FrameMessage, NodeMessage, PayerMessage, Reject};

/// One USDC.
const BASE_UNITS: u128 = 1_000_000;

fn rejected(answer: NodeMessage) -> Reject {
    match answer {
        NodeMessage::Reject(reject) => reject,
        other => panic!("not a rejection: {other:?}"),
    }
}

fn with_signature(frame: &FrameMessage, change: impl FnOnce(&mut [u8; 48])) -> FrameMessage {
    let mut signature = *frame.voucher().signature().as_bytes();
    change(&mut signature);
    let voucher = SignedVoucher::new(*frame.voucher().body(), Signature::from_bytes(signature)).expect("64 bits");
    FrameMessage::new(voucher, &frame.lines().collect::<Vec<_>>()).expect("a frame")
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_vouchers_and_wrong_bytes() {
    let net = Net::start().await;
    let ledger = net.dev.ledger.id();
    let opening = net.open(&secret(1), 1, BASE_UNITS).await;
    let other = net.open(&secret(2), 2, BASE_UNITS).await;
    let connection = net.connect().await;
    let mut payer = RawPayer::new(&connection, secret(1), ledger, opening.channel).await;

    // Before an attach.
    let early = payer.frame(&[1], |_| {});
    assert_eq!(rejected(payer.say(&PayerMessage::Frame(early)).await).code, ErrorCode::NotAttached);

    // Attaches to something else.
    for (wrong, code) in [
        (LedgerId { chain: ChainId::new(1), ..ledger }, ErrorCode::WrongChain),
        (LedgerId { contract: Address::from_bytes([9; 20]), ..ledger }, ErrorCode::WrongLedger),
    ] {
        let voucher = payer.sign(payer.body());
        let answer = payer.say(&PayerMessage::Attach(Attach { ledger: wrong, voucher })).await;
        assert_eq!(rejected(answer).code, code);
    }
    let mut stranger = RawPayer::new(&connection, secret(1), ledger, millstream_types::ChannelId::from_uid(&[8; 31])).await;
    assert_eq!(rejected(stranger.attach().await).code, ErrorCode::UnknownChannel);
    // Somebody else's channel: the voucher shown is not by its key.
    let mut thief = RawPayer::new(&connection, secret(3), ledger, opening.channel).await;
    assert_eq!(rejected(thief.attach().await).code, ErrorCode::BadSignature);

    assert!(matches!(payer.attach().await, NodeMessage::Snapshot(_)));
    payer.pay(&[10, 20, 30]).await;
    let state = || async { net.admin.channels().await.expect("channels").into_iter().find(|view| view.channel == opening.channel) };
    let before = state().await;
    let commit = net.admin.status().await.expect("status").commit;

    let total = CumulativeAmount::from_nanos;
    let deposit = opening.deposit.to_u64().expect("64 bits");
    let cases = [
        ("a flipped challenge", with_signature(&payer.frame(&[1], |_| {}), |bytes| bytes[0] ^= 1), ErrorCode::BadSignature),
        ("a flipped response", with_signature(&payer.frame(&[1], |_| {}), |bytes| bytes[47] ^= 1), ErrorCode::BadSignature),
        ("another channel", payer.frame(&[1], |body| body.channel = other.channel), ErrorCode::WrongChannel),
        ("a lower total", payer.frame(&[1], |body| body.cumulative = total(5)), ErrorCode::StaleTotal),
        ("the same total again", payer.frame(&[1], |body| body.cumulative = total(60)), ErrorCode::StaleTotal),
        ("lines that are not there", payer.frame(&[1], |body| body.lines_total += 1), ErrorCode::LinesMismatch),
        ("more than the lines", payer.frame(&[1], |body| body.cumulative = total(62)), ErrorCode::AmountMismatch),
        ("a broken bill head", payer.frame(&[1], |body| body.bill_head = BillHead::from_bytes([7; 32])), ErrorCode::BrokenBillHead),
        ("more than the deposit", payer.frame(&[deposit - 59], |_| {}), ErrorCode::DepositExceeded),
    ];
    for (name, frame, code) in cases {
        let lines_total = frame.voucher().body().lines_total;
        let reject = rejected(payer.say(&PayerMessage::Frame(frame)).await);
        assert_eq!((reject.code, reject.lines_total), (code, lines_total), "{name}");
        assert_eq!((reject.accepted_lines_total, reject.accepted_cumulative), (3, total(60)), "{name}");
        assert_eq!(reject.accepted_head, payer.head, "{name}");
        assert_eq!(state().await, before, "{name}");
    }
    assert_eq!(net.admin.status().await.expect("status").commit, commit, "nothing was written");

    // What does not parse closes the stream, with the code; the connection and its other streams live.
    for (name, bytes, code) in [
        ("an unknown kind", vec![0, 0, 0, 1, 0x7f], ErrorCode::Malformed),
        ("a short frame", vec![0, 0, 0, 2, 0x02, 0], ErrorCode::Malformed),
        ("an empty message", vec![0, 0, 0, 0], ErrorCode::Malformed),
        ("an oversized message", vec![0, 1, 0, 0, 0x02], ErrorCode::Oversized),
    ] {
        let mut bad = RawPayer::new(&connection, secret(1), ledger, opening.channel).await;
        assert!(matches!(bad.attach().await, NodeMessage::Snapshot(_)), "{name}");
        bad.say_bytes(&bytes).await;
        let closed = bad.stream.reader.next().await;
        assert_eq!(closed, Err(StreamError::ClosedByPeer { code: CloseCode::Error(code) }), "{name}");
    }
    payer.pay(&[deposit - 60]).await;
    assert!(connection.close_reason().is_none());

    // A node with another certificate than the pinned one is not talked to.
    let info = net.dev.info();
    let endpoint = millstream_transport::ClientEndpoint::bind_for(info.node, Default::default()).expect("a socket");
    let wrong = millstream_transport::ServerTrust::Pinned(Fingerprint::from_bytes([0; 32]));
    assert!(endpoint.connect(info.node, "localhost", &wrong).await.is_err());
}
