//! Paying when things break: connections, processes, state files. Whatever breaks, the totals are exact and nothing is paid twice.

mod common;

use bytes::Bytes;
use common::{Deed, FakeNode, Script, Seen, connect, frames_of_four, honest, lines, recorder, secret, state, sum, terms};
use millstream_client::{Client, ClientError, Event, PayOptions, StateDb, StateError, StoredKey, Totals};
use millstream_transport::{ConnectError, Fingerprint, ServerTrust};
use millstream_wire::ErrorCode;

/// A small generator, so that a failing run can be repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Breaks the connection at about one message in six, before or after it took effect, and sometimes sheds load; `troubles` times in all.
fn troublesome(seed: u64, mut troubles: u32) -> Script {
    let mut random = Random(seed);
    Box::new(move |_| {
        let deed = match random.below(18) {
            0 => Deed::Drop,
            1 => Deed::AcceptAndDrop,
            2 => Deed::Reject(ErrorCode::Overloaded),
            3 => Deed::CloseStream(ErrorCode::Overloaded),
            _ => Deed::Honest,
        };
        match deed {
            Deed::Honest => Deed::Honest,
            _ if troubles == 0 => Deed::Honest,
            trouble => {
                troubles -= 1;
                trouble
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_breaks_off_anywhere_gets_each_line_once_and_in_order() {
    for seed in 0..12 {
        let node = FakeNode::start(3, troublesome(seed, 12));
        let directory = tempfile::tempdir().expect("a directory");
        let client = connect(&node, &state(directory.path(), 3)).await;
        let mut payers = tokio::task::JoinSet::new();
        for number in 1..=3 {
            let client = client.clone();
            payers.spawn(async move {
                let channel = client.channel(terms(number).uid(), frames_of_four()).await.expect("attaches");
                for call in 0..40 {
                    channel.pay_lines(&lines(call * 4, call * 4 + 4)).await.expect("taken");
                }
                channel.flush().await.expect("acked")
            });
        }
        let all = lines(0, 160);
        while let Some(done) = payers.join_next().await {
            assert_eq!(done.expect("no panic"), Totals { lines_total: 160, cumulative: sum(&all) }, "seed {seed}");
        }
        for number in 1..=3 {
            assert_eq!(node.book(number).lines, all, "seed {seed}, channel {number}");
        }
        assert!(client.counters().reconnects > 0 || client.counters().rejects > 0, "seed {seed} broke nothing");
    }
}

/// Kind and body of what the state keeps.
fn bodies(frames: &[Bytes]) -> Vec<Bytes> {
    frames.iter().map(|frame| frame.slice(4..)).collect()
}

#[tokio::test]
async fn a_payer_that_dies_before_it_sent_sends_the_same_bytes_when_it_is_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let channel_id = terms(1).uid();
    let acked = {
        let node = FakeNode::start(1, honest());
        let client = connect(&node, &state(directory.path(), 1)).await;
        let channel = client.channel(channel_id, frames_of_four()).await.expect("attaches");
        channel.pay_lines(&lines(0, 4)).await.expect("taken");
        channel.flush().await.expect("acked");
        // From here on nothing reaches the node: what is paid is signed, written, and stays.
        let mut connection = client.connection_watch();
        node.close();
        connection.wait_for(Option::is_none).await.expect("the client lives");
        channel.pay_lines(&lines(4, 16)).await.expect("taken");
        assert_eq!(channel.position().frames_unacked, 3);
        node.book(1)
        // Everything is dropped here, without a flush or a close.
    };
    let reopened = reopen(directory.path()).await;
    let kept = bodies(&reopened.unacked_frames(channel_id).expect("reads"));
    assert_eq!(kept.len(), 3);

    let node = FakeNode::start(1, honest());
    node.change(|node| node.books.insert(channel_id, acked));
    let client = connect(&node, &reopened).await;
    let channel = client.channel(channel_id, frames_of_four()).await.expect("attaches");
    assert_eq!(channel.position().signed.lines_total, 16);
    channel.pay_lines(&lines(16, 20)).await.expect("goes on");
    assert_eq!(channel.flush().await.expect("acked").lines_total, 20);
    assert_eq!(node.book(1).lines, lines(0, 20));
    let received: Vec<Bytes> = node.change(|node| node.received.iter().map(|frame| frame.as_bytes().clone()).collect());
    assert_eq!(received[..3], kept, "byte for byte");
    assert_eq!(client.counters().frames_resent, 3);
}

#[tokio::test]
async fn a_payer_that_dies_after_it_sent_sends_the_same_bytes_when_it_is_back() {
    // The node has the frames and never answered, in one half of them after it accepted.
    for deed in [Deed::Silent, Deed::Ignore] {
        let directory = tempfile::tempdir().expect("a directory");
        let node = FakeNode::start(1, {
            let deed = deed.clone();
            Box::new(move |seen| match seen {
                Seen::Frame(number, _) if *number <= 3 => deed.clone(),
                Seen::Frame(..) | Seen::Attach(..) => Deed::Honest,
            })
        });
        {
            let client = connect(&node, &state(directory.path(), 1)).await;
            let channel = client.channel(terms(1).uid(), frames_of_four()).await.expect("attaches");
            channel.pay_lines(&lines(0, 12)).await.expect("taken");
            node.received(3).await;
        }
        let client = connect(&node, &reopen(directory.path()).await).await;
        let channel = client.channel(terms(1).uid(), frames_of_four()).await.expect("attaches");
        assert_eq!(channel.flush().await.expect("acked").lines_total, 12);
        assert_eq!(node.book(1).lines, lines(0, 12));
        let received: Vec<Bytes> = node.change(|node| node.received.iter().map(|frame| frame.as_bytes().clone()).collect());
        let resent = client.counters().frames_resent;
        match deed {
            Deed::Silent => assert_eq!((received.len(), resent), (3, 0), "the attach told that the node has them"),
            _ => assert_eq!((&received[..3], resent), (&received[3..], 3), "byte for byte"),
        }
    }
}

/// Opens the state again once its last owner is gone.
async fn reopen(directory: &std::path::Path) -> StateDb {
    loop {
        match StateDb::open(&directory.join("payer.redb")) {
            Ok(state) => return state,
            Err(StateError::InUse { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_state_that_was_lost_is_found_again_at_the_node() {
    let node = FakeNode::start(1, honest());
    let directory = tempfile::tempdir().expect("a directory");
    {
        let client = connect(&node, &state(directory.path(), 1)).await;
        let channel = client.channel(terms(1).uid(), frames_of_four()).await.expect("attaches");
        channel.pay_lines(&lines(0, 20)).await.expect("taken");
        channel.close().await.expect("acked");
    }
    let fresh = tempfile::tempdir().expect("another directory");
    let (observer, events) = recorder();
    let fresh_state = state(fresh.path(), 1);
    let client = Client::connect_observed(fresh_state, node.options(), observer).await.expect("connects");
    let channel = client.channel(terms(1).uid(), frames_of_four()).await.expect("adopts");
    let found = Totals { lines_total: 20, cumulative: sum(&lines(0, 20)) };
    assert_eq!((channel.position().signed, channel.position().acked), (found, found));
    let behind = |event: &Event| matches!(event, Event::StateWasBehind { adopted, dropped_frames: 0, .. } if *adopted == found);
    assert!(events.lock().expect("no panic").iter().any(behind));
    channel.pay_lines(&lines(20, 30)).await.expect("taken");
    channel.close().await.expect("acked");
    assert_eq!(node.book(1).lines, lines(0, 30));
    assert_eq!(client.state().channels().expect("reads")[0].acked.lines_total, 30);
}

#[tokio::test]
async fn an_old_copy_of_the_state_gives_way_to_what_the_payer_signed_later() {
    let node = FakeNode::start(
        1,
        Box::new(|seen| match seen {
            Seen::Attach(1, _) => Deed::Honest,
            // The frames of the first run never take effect.
            Seen::Frame(number, _) if *number <= 2 => Deed::Ignore,
            Seen::Attach(..) | Seen::Frame(..) => Deed::Honest,
        }),
    );
    let (old, new) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another"));
    {
        let client = connect(&node, &state(old.path(), 1)).await;
        let channel = client.channel(terms(1).uid(), frames_of_four()).await.expect("attaches");
        channel.pay_lines(&lines(0, 8)).await.expect("taken");
        node.received(2).await;
    }
    {
        let client = connect(&node, &state(new.path(), 1)).await;
        let channel = client.channel(terms(1).uid(), frames_of_four()).await.expect("attaches");
        channel.pay_lines(&lines(100, 112)).await.expect("taken");
        channel.close().await.expect("acked");
    }
    let (observer, events) = recorder();
    let old_state = reopen(old.path()).await;
    let client = Client::connect_observed(old_state, node.options(), observer).await.expect("connects");
    let channel = client.channel(terms(1).uid(), frames_of_four()).await.expect("adopts");
    let behind = |event: &Event| matches!(event, Event::StateWasBehind { dropped_frames: 2, .. });
    assert!(events.lock().expect("no panic").iter().any(behind));
    channel.pay_lines(&lines(112, 116)).await.expect("taken");
    channel.flush().await.expect("acked");
    assert_eq!(node.book(1).lines, lines(100, 116));
}

#[tokio::test]
async fn a_key_that_is_not_stored_is_given_each_time() {
    let node = FakeNode::start(1, honest());
    let directory = tempfile::tempdir().expect("a directory");
    let state = StateDb::open(&directory.path().join("payer.redb")).expect("opens");
    let id = state.add_channel(&terms(1), &StoredKey::Supplied).expect("added");
    let client = connect(&node, &state).await;
    let without = client.channel(id, PayOptions::default()).await;
    assert!(matches!(without, Err(ClientError::State(StateError::KeyNeeded { .. }))));
    let wrong = client.channel_with_key(id, secret(2), PayOptions::default()).await;
    assert!(matches!(wrong, Err(ClientError::State(StateError::WrongKey { .. }))));
    let channel = client.channel_with_key(id, secret(1), PayOptions::default()).await.expect("attaches");
    channel.pay_lines(&lines(0, 3)).await.expect("taken");
    assert_eq!(channel.flush().await.expect("acked").lines_total, 3);
}

#[tokio::test]
async fn the_first_connection_fails_to_the_caller() {
    let node = FakeNode::start(1, honest());
    let directory = tempfile::tempdir().expect("a directory");
    let mut options = node.options();
    options.trust = ServerTrust::Pinned(Fingerprint::from_bytes([1; 32]));
    let refused = Client::connect(state(directory.path(), 1), options).await;
    assert!(matches!(refused, Err(ClientError::Connect(ConnectError::FingerprintMismatch { .. }))), "{refused:?}");
}
