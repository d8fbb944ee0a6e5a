//! Paying when nothing is wrong: exact totals, batching, limits, back-pressure.

mod common;

use std::time::Duration;

use common::{Deed, FakeNode, Seen, connect, frames_of_four, honest, line, lines, recorder, state, sum, terms};
use millstream_client::{ChannelError, Client, ClientError, Event, Line, PayError, PayOptions, StateError, Totals};
use millstream_types::{Amount, CumulativeAmount, Hash256};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_paid_on_many_channels_arrives_whole_and_in_order() {
    let node = FakeNode::start(8, honest());
    let directory = tempfile::tempdir().expect("a directory");
    let (observer, events) = recorder();
    let client = Client::connect_observed(state(directory.path(), 8), node.options(), observer).await.expect("connects");
    let mut payers = tokio::task::JoinSet::new();
    for number in 1..=8 {
        let channel = client.channel(terms(number).uid(), PayOptions::default()).await.expect("attaches");
        payers.spawn(async move {
            for call in 0..20 {
                channel.pay_lines(&lines(call * 100, call * 100 + 100)).await.expect("taken");
            }
            let flushed = channel.flush().await.expect("acked");
            (number, flushed, channel.close().await.expect("closes"))
        });
    }
    let all = lines(0, 2_000);
    while let Some(done) = payers.join_next().await {
        let (number, flushed, closed) = done.expect("no panic");
        assert_eq!(flushed, Totals { lines_total: 2_000, cumulative: sum(&all) });
        assert_eq!(closed, flushed);
        assert_eq!(node.book(number).lines, all);
    }
    let counters = client.counters();
    assert_eq!((counters.lines_acked, counters.frames_resent, counters.rejects), (16_000, 0, 0));
    assert_eq!(counters.frames_acked, counters.frames_sent);
    let frames = events.lock().expect("no panic").iter().filter(|event| matches!(event, Event::FrameAcked(_))).count();
    assert_eq!(counters.frames_acked, frames as u64);
    for summary in client.state().channels().expect("reads") {
        assert_eq!((summary.unacked_frames, summary.acked.lines_total), (0, 2_000));
    }
    client.close().await;
}

#[tokio::test]
async fn a_full_frame_is_signed_at_once_and_a_lone_line_after_the_linger() {
    let node = FakeNode::start(1, honest());
    let directory = tempfile::tempdir().expect("a directory");
    let client = connect(&node, &state(directory.path(), 1)).await;
    let options = PayOptions { frame_lines: 256, linger: Duration::from_millis(1), ..PayOptions::default() };
    let channel = client.channel(terms(1).uid(), options).await.expect("attaches");
    let lone = channel.pay(Amount::from_nanos(9), line(0).reference).await.expect("taken");
    assert_eq!(channel.acked(lone).await.expect("acked without a flush"), lone);
    let full = channel.pay_lines(&lines(0, 600)).await.expect("taken");
    assert_eq!(full.lines_total, 601);
    assert_eq!(channel.flush().await.expect("acked"), full);
    let counts: Vec<u16> = node.change(|node| node.received.iter().map(|frame| frame.count()).collect());
    assert_eq!(counts[0], 1);
    assert!(counts[1..3] == [256, 256] && counts[3..].iter().sum::<u16>() == 88, "{counts:?}");
    let position = channel.position();
    assert_eq!((position.acked, position.signed, position.taken), (full, full, full));
    assert_eq!((position.deposit, position.frames_unacked), (Amount::from_nanos(common::DEPOSIT), 0));
}

#[tokio::test]
async fn usage_digests_travel_with_their_lines() {
    let node = FakeNode::start(1, honest());
    let directory = tempfile::tempdir().expect("a directory");
    let client = connect(&node, &state(directory.path(), 1)).await;
    let channel = client.channel(terms(1).uid(), PayOptions::default()).await.expect("attaches");
    let mixed: Vec<Line> = (0..6)
        .map(|number| Line { digest: (number / 2 % 2 == 1).then(|| Hash256::from_bytes([7; 32])), ..line(number) })
        .collect();
    channel.pay_lines(&mixed).await.expect("taken");
    channel.flush().await.expect("acked");
    assert_eq!(node.book(1).lines, mixed);
    assert_eq!(node.change(|node| node.received.len()), 3);
}

#[tokio::test]
async fn neither_deposit_nor_limit_can_be_passed() {
    let node = FakeNode::start(1, honest());
    node.change(|node| node.books.values_mut().for_each(|book| book.deposit = 100));
    let directory = tempfile::tempdir().expect("a directory");
    let client = connect(&node, &state(directory.path(), 1)).await;
    let spend_limit = Some(CumulativeAmount::from_nanos(120));
    let channel = client.channel(terms(1).uid(), PayOptions { spend_limit, ..frames_of_four() }).await.expect("attaches");
    let pay = async |nanos| channel.pay(Amount::from_nanos(nanos), line(0).reference).await;
    pay(99).await.expect("within the deposit");
    let before = channel.position();
    assert!(matches!(pay(2).await, Err(PayError::DepositExceeded { .. })));
    assert!(matches!(pay(0).await, Err(PayError::ZeroAmount { index: 0 })));
    assert_eq!((channel.position().taken, channel.position().signed), (before.taken, before.signed));
    node.change(|node| node.books.values_mut().for_each(|book| book.deposit = 200));
    let position = channel.refresh().await.expect("attaches again");
    assert_eq!(position.deposit, Amount::from_nanos(200));
    pay(21).await.expect("topped up");
    assert!(matches!(pay(1).await, Err(PayError::SpendLimit { .. })));
    assert_eq!(channel.flush().await.expect("acked").cumulative, CumulativeAmount::from_nanos(120));
}

#[tokio::test]
async fn pay_waits_while_too_much_is_on_its_way() {
    let node = FakeNode::start(
        1,
        Box::new(|seen| match seen {
            Seen::Frame(..) => Deed::Silent,
            Seen::Attach(..) => Deed::Honest,
        }),
    );
    let directory = tempfile::tempdir().expect("a directory");
    let client = connect(&node, &state(directory.path(), 1)).await;
    let options = PayOptions { frames_queued_max: 3, ..frames_of_four() };
    let channel = client.channel(terms(1).uid(), options).await.expect("attaches");
    for call in 0..3 {
        channel.pay_lines(&lines(call * 4, call * 4 + 4)).await.expect("room");
    }
    let fourth = lines(12, 16);
    let mut waiting = std::pin::pin!(channel.pay_lines(&fourth));
    tokio::select! {
        biased;
        taken = &mut waiting => panic!("{taken:?} without room"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(channel.position().frames_unacked, 3);
    // The next connection's attach tells that the node has them.
    node.received(3).await;
    node.set_script(honest());
    node.drop_connections();
    waiting.await.expect("room again");
    assert_eq!(channel.flush().await.expect("acked").lines_total, 16);
}

#[tokio::test]
async fn the_nodes_window_is_kept_and_one_ack_may_answer_many_frames() {
    // The node answers every second frame: with a window of two it must never be sent a third before.
    let node = FakeNode::start(
        1,
        Box::new(|seen| match seen {
            Seen::Frame(number, _) if number % 2 == 1 => Deed::Silent,
            Seen::Frame(..) | Seen::Attach(..) => Deed::Honest,
        }),
    );
    node.change(|node| node.limits.frames_in_flight_max = 2);
    let directory = tempfile::tempdir().expect("a directory");
    let client = connect(&node, &state(directory.path(), 1)).await;
    let channel = client.channel(terms(1).uid(), frames_of_four()).await.expect("attaches");
    channel.pay_lines(&lines(0, 40)).await.expect("taken");
    assert_eq!(channel.flush().await.expect("acked").lines_total, 40);
    assert_eq!(node.book(1).lines, lines(0, 40));
    assert_eq!(client.counters().frames_resent, 0);
}

#[tokio::test]
async fn the_nodes_frame_limits_are_kept() {
    let node = FakeNode::start(1, honest());
    node.change(|node| node.limits.frame_lines_max = 10);
    let directory = tempfile::tempdir().expect("a directory");
    let client = connect(&node, &state(directory.path(), 1)).await;
    let channel = client.channel(terms(1).uid(), PayOptions::default()).await.expect("attaches");
    channel.pay_lines(&lines(0, 25)).await.expect("taken");
    channel.flush().await.expect("acked");
    let counts: Vec<u16> = node.change(|node| node.received.iter().map(|frame| frame.count()).collect());
    assert_eq!(counts, [10, 10, 5]);
}

#[tokio::test]
async fn a_channel_has_one_stream_and_settings_have_ranges() {
    let node = FakeNode::start(1, honest());
    let directory = tempfile::tempdir().expect("a directory");
    let client = connect(&node, &state(directory.path(), 1)).await;
    let first = client.channel(terms(1).uid(), PayOptions::default()).await.expect("attaches");
    let second = client.channel(terms(1).uid(), PayOptions::default()).await;
    assert!(matches!(second, Err(ClientError::State(StateError::ChannelInUse { .. }))));
    let clone = first.clone();
    first.close().await.expect("closes");
    assert!(matches!(clone.pay_lines(&lines(0, 1)).await, Err(PayError::Stopped(ChannelError::Closed))));
    drop(clone);
    let again = client.channel(terms(1).uid(), PayOptions::default()).await.expect("free again");
    drop(again);
    for frame_lines in [0, 1_025] {
        let refused = client.channel(terms(1).uid(), PayOptions { frame_lines, ..PayOptions::default() }).await;
        assert!(matches!(refused, Err(ClientError::Setting { setting: "frame_lines", .. })));
    }
    let unknown = client.channel(terms(2).uid(), PayOptions::default()).await;
    assert!(matches!(unknown, Err(ClientError::State(StateError::UnknownChannel { .. }))));
}
