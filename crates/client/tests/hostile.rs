//! Nodes that reject, and nodes that lie: what is a matter of time passes, what is not is surfaced, and a node that takes back its word is not
//! paid any more.

mod common;

use common::{Deed, FakeNode, Script, Seen, ack, connect, frames_of_four, honest, lines, recorder, secret, state, terms};
use millstream_client::{ChannelError, ChannelHandle, Client, ClientError, Event, PayError};
use millstream_types::{Amount, ChannelId, CumulativeAmount};
use millstream_voucher::{SignedVoucher, VoucherBody};
use millstream_wire::{ChannelStatus, ErrorCode, NodeMessage};

/// Does `deed` with the n-th frame received, and what is right with everything else.
fn at_frame(number: usize, deed: Deed) -> Script {
    Box::new(move |seen| match seen {
        Seen::Frame(now, _) if *now == number => deed.clone(),
        Seen::Frame(..) | Seen::Attach(..) => Deed::Honest,
    })
}

/// A channel of four lines a frame at a node with this script, with the state that has to live as long.
async fn attached(node: &FakeNode) -> (tempfile::TempDir, Client, ChannelHandle) {
    let directory = tempfile::tempdir().expect("a directory");
    let client = connect(node, &state(directory.path(), 1)).await;
    let channel = client.channel(terms(1).uid(), frames_of_four()).await.expect("attaches");
    (directory, client, channel)
}

#[tokio::test]
async fn what_passes_by_itself_is_waited_out() {
    for code in [ErrorCode::Overloaded, ErrorCode::ShuttingDown, ErrorCode::ChannelFrozen, ErrorCode::UnknownChannel] {
        let node = FakeNode::start(1, at_frame(3, Deed::Reject(code)));
        let (_directory, client, channel) = attached(&node).await;
        channel.pay_lines(&lines(0, 40)).await.expect("taken");
        assert_eq!(channel.flush().await.expect("acked").lines_total, 40, "{code}");
        assert_eq!(node.book(1).lines, lines(0, 40), "{code}");
        assert!(client.counters().rejects >= 1 && client.counters().frames_resent >= 1, "{code}");
    }
}

#[tokio::test]
async fn an_attach_that_is_too_early_is_repeated() {
    let node = FakeNode::start(
        1,
        Box::new(|seen| match seen {
            Seen::Attach(1..=3, _) => Deed::Reject(ErrorCode::UnknownChannel),
            Seen::Attach(..) | Seen::Frame(..) => Deed::Honest,
        }),
    );
    let (_directory, client, channel) = attached(&node).await;
    channel.pay_lines(&lines(0, 4)).await.expect("taken");
    channel.flush().await.expect("acked");
    assert_eq!((client.counters().rejects, client.counters().attaches), (3, 1));
}

#[tokio::test]
async fn a_deposit_that_shrank_is_surfaced_and_a_top_up_recovers_it() {
    let node = FakeNode::start(1, honest());
    let (_directory, _client, channel) = attached(&node).await;
    node.change(|node| node.books.values_mut().for_each(|book| book.deposit = 20));
    channel.pay_lines(&lines(0, 8)).await.expect("the payer still knows the old deposit");
    let error = channel.flush().await.expect_err("above the deposit");
    assert!(error.needs_top_up() && error.is_recoverable(), "{error}");
    assert!(matches!(channel.pay_lines(&lines(8, 9)).await, Err(PayError::Stopped(_))));
    assert!(channel.refresh().await.is_err() || channel.flush().await.is_err(), "nothing has changed");
    node.change(|node| node.books.values_mut().for_each(|book| book.deposit = 100));
    let position = channel.refresh().await.expect("attaches again");
    assert_eq!(position.deposit, Amount::from_nanos(100));
    assert_eq!(channel.flush().await.expect("acked").lines_total, 8);
    channel.pay_lines(&lines(8, 12)).await.expect("goes on");
    assert_eq!(channel.flush().await.expect("acked").lines_total, 12);
}

#[tokio::test]
async fn what_is_final_is_surfaced() {
    let check = async |script: Script, expected: ErrorCode| {
        let node = FakeNode::start(1, script);
        let (_directory, _client, channel) = attached(&node).await;
        channel.pay_lines(&lines(0, 8)).await.expect("taken");
        let error = channel.flush().await.expect_err("final");
        assert!(matches!(&error, ChannelError::Rejected { code, .. } if *code == expected), "{expected}: {error}");
        assert!(matches!(channel.pay_lines(&lines(8, 9)).await, Err(PayError::Stopped(ChannelError::Rejected { .. }))));
        assert!(matches!(channel.stopped(), Some(ChannelError::Rejected { .. })));
    };
    for code in [ErrorCode::BadSignature, ErrorCode::ChannelClosing, ErrorCode::WrongChannel, ErrorCode::TooManyChannels] {
        check(at_frame(2, Deed::Reject(code)), code).await;
    }
    check(at_frame(1, Deed::CloseStream(ErrorCode::Malformed)), ErrorCode::Malformed).await;
    // A frame that the node will not have, however often it is told.
    let always = |seen: &Seen<'_>| match seen {
        Seen::Frame(..) => Deed::Reject(ErrorCode::BrokenBillHead),
        Seen::Attach(..) => Deed::Honest,
    };
    check(Box::new(always), ErrorCode::BrokenBillHead).await;
}

#[tokio::test]
async fn a_channel_that_cannot_be_attached_is_told_to_the_caller() {
    let check = async |script: Script, change: fn(&mut common::Node), expected: ErrorCode| {
        let node = FakeNode::start(1, script);
        node.change(change);
        let directory = tempfile::tempdir().expect("a directory");
        let client = connect(&node, &state(directory.path(), 1)).await;
        let refused = client.channel(terms(1).uid(), frames_of_four()).await;
        let matches = matches!(&refused, Err(ClientError::Channel(ChannelError::Rejected { code, .. })) if *code == expected);
        assert!(matches, "{expected}: {refused:?}");
    };
    let reject = |code| -> Script { Box::new(move |_| Deed::Reject(code)) };
    check(reject(ErrorCode::WrongLedger), |_| {}, ErrorCode::WrongLedger).await;
    check(reject(ErrorCode::UnsupportedVersion), |_| {}, ErrorCode::UnsupportedVersion).await;
    let closing = |node: &mut common::Node| node.books.values_mut().for_each(|book| book.status = ChannelStatus::Closing);
    check(honest(), closing, ErrorCode::ChannelClosing).await;
    let another_key = |node: &mut common::Node| node.books.values_mut().for_each(|book| book.key = secret(9).public_key());
    check(honest(), another_key, ErrorCode::BadSignature).await;
}

#[tokio::test]
async fn acks_that_cannot_be_true_stop_the_channel_for_good() {
    let check = async |answer: NodeMessage, expected: fn(&ChannelError) -> bool| {
        let node = FakeNode::start(1, at_frame(2, Deed::Say(answer)));
        let (_directory, _client, channel) = attached(&node).await;
        channel.pay_lines(&lines(0, 4)).await.expect("taken");
        channel.flush().await.expect("the first is honest");
        channel.pay_lines(&lines(4, 8)).await.expect("taken");
        let error = channel.flush().await.expect_err("a lie");
        assert!(expected(&error) && !error.is_recoverable(), "{error:?}");
        assert!(channel.refresh().await.is_err());
        assert!(matches!(channel.pay_lines(&lines(8, 9)).await, Err(PayError::Stopped(_))));
        assert_eq!(channel.position().acked.lines_total, 4);
    };
    check(ack(12, 1_000), |error| matches!(error, ChannelError::AckAboveSent { .. })).await;
    check(ack(7, 20), |error| matches!(error, ChannelError::AckMismatch { .. })).await;
    check(ack(8, 1), |error| matches!(error, ChannelError::AckMismatch { .. })).await;
    check(ack(3, 6), |error| matches!(error, ChannelError::AckBackwards { .. })).await;
}

/// A snapshot of an honest node with another accepted voucher.
fn naming(node: &FakeNode, accepted: Option<SignedVoucher>) -> Deed {
    let NodeMessage::Snapshot(mut snapshot) = node.change(|node| node.snapshot(terms(1).uid())) else {
        panic!("a snapshot");
    };
    snapshot.accepted = accepted;
    Deed::Say(NodeMessage::Snapshot(snapshot))
}

fn voucher(signer: u8, channel: ChannelId, lines_total: u64, cumulative: u64) -> SignedVoucher {
    let cumulative = CumulativeAmount::from_nanos(cumulative);
    let bill_head = millstream_types::BillHead::from_bytes([6; 32]);
    *secret(signer).sign(VoucherBody { channel, lines_total, cumulative, bill_head }).expect("signs").signed()
}

/// Pays two frames, breaks the connection, and has the next attach answered with a snapshot that names `accepted`.
async fn reattached(accepted: impl FnOnce(&FakeNode) -> Option<SignedVoucher>) -> (tempfile::TempDir, Client, ChannelHandle, FakeNode) {
    let node = FakeNode::start(1, honest());
    let (directory, client, channel) = attached(&node).await;
    for call in 0..2 {
        channel.pay_lines(&lines(call * 4, call * 4 + 4)).await.expect("taken");
        channel.flush().await.expect("acked");
    }
    let answer = naming(&node, accepted(&node));
    node.set_script(Box::new(move |seen| match seen {
        Seen::Attach(..) => answer.clone(),
        Seen::Frame(..) => Deed::Honest,
    }));
    node.drop_connections();
    (directory, client, channel, node)
}

#[tokio::test]
async fn a_node_that_forgets_is_not_paid_any_more() {
    let (directory, client, channel, node) = reattached(|_| None).await;
    // The first frame's lines are below the eight that were acked.
    let error = channel.acked(later(&channel)).await.expect_err("forgot");
    assert!(matches!(&error, ChannelError::NodeForgot { acked, named } if (acked.lines_total, named.lines_total) == (8, 0)), "{error:?}");
    assert!(matches!(channel.pay_lines(&lines(8, 9)).await, Err(PayError::Stopped(ChannelError::NodeForgot { .. }))));
    let closed = channel.close().await;
    assert!(closed.is_err());
    drop(client);

    // The state remembers it over a restart.
    let client = connect(&node, &reopen(directory.path()).await).await;
    let again = client.channel(terms(1).uid(), frames_of_four()).await;
    assert!(matches!(again, Err(ClientError::Channel(ChannelError::NodeForgot { .. }))), "{again:?}");
}

/// Totals that are never reached.
fn later(channel: &ChannelHandle) -> millstream_client::Totals {
    millstream_client::Totals { lines_total: u64::MAX, ..channel.position().taken }
}

async fn reopen(directory: &std::path::Path) -> millstream_client::StateDb {
    loop {
        match millstream_client::StateDb::open(&directory.join("payer.redb")) {
            Ok(state) => return state,
            Err(millstream_client::StateError::InUse { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_voucher_that_the_payer_did_not_sign_is_not_believed() {
    let foreign = voucher(9, terms(1).uid(), 100, 1_000);
    let (_directory, _client, channel, _node) = reattached(|_| Some(foreign)).await;
    let error = channel.acked(later(&channel)).await.expect_err("a foreign voucher");
    assert!(matches!(error, ChannelError::ForeignVoucher(_)), "{error:?}");

    // Not even when there is no state to compare it with.
    let node = FakeNode::start(1, honest());
    let answer = naming(&node, Some(foreign));
    node.set_script(Box::new(move |_| answer.clone()));
    let directory = tempfile::tempdir().expect("a directory");
    let client = connect(&node, &state(directory.path(), 1)).await;
    let refused = client.channel(terms(1).uid(), frames_of_four()).await;
    assert!(matches!(refused, Err(ClientError::Channel(ChannelError::ForeignVoucher(_)))), "{refused:?}");
}

#[tokio::test]
async fn another_history_of_the_same_payer_stops_the_channel() {
    // Eight lines are acked. Someone with the same key signed another eight, or went on without this state.
    for (lines_total, cumulative) in [(8, 1), (12, 1_000)] {
        let other = voucher(1, terms(1).uid(), lines_total, cumulative);
        let (_directory, _client, channel, _node) = reattached(|_| Some(other)).await;
        let error = channel.acked(later(&channel)).await.expect_err("another history");
        assert!(matches!(&error, ChannelError::Forked { named, .. } if named.lines_total == lines_total), "{error:?}");
    }
}

#[tokio::test]
async fn a_snapshot_of_another_channel_and_bytes_that_are_none_stop_the_channel() {
    let node = FakeNode::start(2, honest());
    let other = node.change(|node| node.snapshot(terms(2).uid()));
    node.set_script(Box::new(move |_| Deed::Say(other.clone())));
    let directory = tempfile::tempdir().expect("a directory");
    let (observer, events) = recorder();
    let client = Client::connect_observed(state(directory.path(), 1), node.options(), observer).await.expect("connects");
    let refused = client.channel(terms(1).uid(), frames_of_four()).await;
    assert!(matches!(refused, Err(ClientError::Channel(ChannelError::WrongChannel))), "{refused:?}");
    assert!(events.lock().expect("no panic").iter().any(|event| matches!(event, Event::Stopped { .. })));
}
