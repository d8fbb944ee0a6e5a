//! What sessions hand to the core comes back in order, counted and durable, or not at all.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use millstream_engine::{Ack, Answer, ChainFact, EngineConfig, FrameInput, Input, Rejection, Table};
use millstream_store::{CrashDisk, Fault, KeyRange, Read};
use millstream_types::{Address, Amount, ChainId, ChannelId, CumulativeAmount, LedgerId, Timestamp};
use millstream_wire::FrameMessage;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

use crate::bill_tests::{House, channel, config, frames, secret};
use crate::core::{Core, Errand, OwnRecord, QUEUED_BYTES_MAX, QUEUED_COMMANDS_MAX, Release, Served, Stopped, bind, store_table};

/// More frames than any of these tests sends.
const NO_CUT: u32 = 1_000;

/// Numbers that look random and are the same for the same seed (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

fn opened(number: u8) -> Input {
    let (payer, key_x) = (Address::from_bytes([2; 20]), secret().public_key().x());
    let (deposit, at) = (Amount::from_nanos(1_000_000), Timestamp::default());
    Input::Chain(ChainFact::Opened { channel: channel(number), payer, key_x, deposit, request: number.into(), at })
}

fn start(epoch_frames_max: u32, disk: &CrashDisk) -> House {
    House::start_with(EngineConfig { epoch_frames_max, ..config() }, disk)
}

/// A core on a new disk with this many open channels.
async fn start_new(epoch_frames_max: u32, channels: u8) -> House {
    let mut house = start(epoch_frames_max, &CrashDisk::new());
    house.tick((0..channels).map(opened).collect()).await.expect("opens");
    house
}

/// Keeps the core between two ticks until it is dropped: what is submitted meanwhile comes into the next one.
struct Hold {
    _release: std::sync::mpsc::Sender<()>,
}

impl Hold {
    async fn on(core: &Core) -> Self {
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (held, is_held) = oneshot::channel();
        let core = core.clone();
        tokio::spawn(async move {
            core.query(move |_| {
                held.send(()).expect("is waited for");
                // Ends when the sender is dropped.
                let _ = released.recv();
            })
            .await
        });
        is_held.await.expect("the core runs");
        Self { _release: release }
    }
}

/// Polls a future once, with a whole budget of the runtime, so that it is pending only if it waits for the core.
async fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    yield_now().await;
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Waits until everything that was begun is done: answers leave in the middle of a tick.
async fn tick_ends(core: &Core) {
    core.query(|_| ()).await.expect("runs");
}

/// Submits one group, which is answered once.
async fn submit(core: &Core, group: Vec<FrameInput>) -> Release {
    let (reply, mut answers) = mpsc::unbounded_channel();
    core.frames(group, reply).await.expect("runs");
    let release = answers.recv().await.expect("is answered");
    assert!(answers.recv().await.is_none(), "answered twice");
    *release
}

/// An answer in short: `2@0` acknowledges two lines in epoch 0, `5!lines` rejects the frame that ends with the fifth.
fn short(answer: &Answer) -> String {
    match answer {
        Answer::Ack(Ack { lines_total, cumulative, epoch }) => {
            assert_eq!(*cumulative, CumulativeAmount::from_nanos(lines_total * 3));
            format!("{lines_total}@{epoch}")
        }
        Answer::Reject { rejection, lines_total, .. } => {
            let why = match rejection {
                Rejection::UnknownChannel => "unknown".into(),
                Rejection::StaleTotal { .. } => "stale".into(),
                Rejection::LinesMismatch { .. } => "lines".into(),
                other => other.to_string(),
            };
            format!("{lines_total}!{why}")
        }
        Answer::Snapshot(snapshot) => format!("{:?}", snapshot.channel),
    }
}

fn shorts(answers: &[Answer]) -> String {
    answers.iter().map(short).collect::<Vec<_>>().join(" ")
}

/// Lines that a snapshot shows as accepted.
fn accepted_lines(answer: &Answer) -> u64 {
    let snapshot = match answer {
        Answer::Snapshot(snapshot) => Some(snapshot),
        Answer::Reject { snapshot, .. } => snapshot.as_ref(),
        Answer::Ack(_) => None,
    };
    snapshot.expect("a snapshot").accepted.map_or(0, |voucher| voucher.body().lines_total)
}

/// The stored frames in their order: epoch, channel, lines up to and with the frame.
fn stored(reader: &dyn Read) -> Vec<(u64, ChannelId, u64)> {
    let mut stored = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        let epoch = u64::from_be_bytes(key[..8].try_into().expect("8 bytes"));
        let frame = FrameMessage::decode(Bytes::copy_from_slice(value)).expect("a frame");
        stored.push((epoch, frame.channel(), frame.voucher().body().lines_total));
        ControlFlow::Continue(())
    };
    reader.scan(store_table(Table::Frames), &KeyRange::all(), visit).expect("scans");
    stored
}

/// One group of frames of one line each, named by their last line (`u` is of a channel that is not known), in epochs of this many frames.
async fn check(epoch_frames_max: u32, group: &str, expected: &str) {
    let (known, unknown) = (frames(channel(0), 9, 1), frames(channel(1), 1, 1));
    let frame = |name: &str| if name == "u" { unknown[0].clone() } else { known[name.parse::<usize>().expect("a line") - 1].clone() };
    let group: Vec<_> = group.split(' ').map(frame).collect();
    let (size, at) = (group.len(), format!("{expected} in epochs of {epoch_frames_max}"));

    let mut house = start_new(epoch_frames_max, 1).await;
    let before = house.core.commit();
    let release = submit(&house.core, group).await;
    assert_eq!(shorts(&release.answers), expected);
    assert_eq!(usize::from(release.frames), size, "{at}");

    // A rejection shows what was accepted when it was judged, and what came after it is not lost.
    let mut lines = 0;
    for answer in &release.answers {
        match answer {
            Answer::Ack(ack) => lines = ack.lines_total,
            Answer::Reject { rejection: Rejection::UnknownChannel, snapshot, .. } => assert_eq!(*snapshot, None, "{at}"),
            reject => assert_eq!(accepted_lines(reject), lines, "{at}"),
        }
    }
    assert_eq!(release.commit, before + u64::from(lines > 0), "{at}: one batch, if there is anything to write");
    let expected: Vec<_> = (0..lines).map(|line| (line / u64::from(epoch_frames_max), channel(0), line + 1)).collect();
    assert_eq!(stored(&*house.reader), expected, "{at}");
    let mut sealed = 0;
    tick_ends(&house.core).await;
    while let Ok(errand) = house.errands.try_recv() {
        if let Errand::SealEpoch { epoch, frames } = errand {
            assert_eq!((epoch.number(), frames), (sealed, epoch_frames_max), "{at}");
            sealed += 1;
        }
    }
    assert_eq!(sealed, lines / u64::from(epoch_frames_max), "{at}");

    let disk = house.disk.clone();
    house.stop().await.expect("stops");
    disk.crash();
    let house = start(epoch_frames_max, &disk);
    assert_eq!(accepted_lines(&house.core.attach(channel(0)).await.expect("runs")), lines, "{at}");
    house.stop().await.expect("stops");
}

#[tokio::test]
async fn a_rejected_frame_stays_in_its_place_and_the_rest_goes_on() {
    check(NO_CUT, "1", "1@0").await;
    check(NO_CUT, "1 2 3", "3@0").await;
    check(NO_CUT, "1 2 5 3 4", "2@0 5!lines 4@0").await;
    check(NO_CUT, "5 1 2", "5!lines 2@0").await;
    check(NO_CUT, "1 2 5", "2@0 5!lines").await;
    check(NO_CUT, "1 5 7 2 9 3", "1@0 5!lines 7!lines 2@0 9!lines 3@0").await;
    check(NO_CUT, "1 2 1 3", "2@0 1!stale 3@0").await;
    check(NO_CUT, "1 2 u 3 4", "2@0 1!unknown 4@0").await;
    check(NO_CUT, "1 1 2 2", "2@0").await;
    check(NO_CUT, "9 8 u", "9!lines 8!lines 1!unknown").await;
}

#[tokio::test]
async fn acks_of_different_epochs_are_told_apart() {
    check(3, "1 2 3", "3@0").await;
    check(3, "1 2 3 4", "3@0 4@1").await;
    check(3, "1 2 3 4 5 6 7 8", "3@0 6@1 8@2").await;
    check(1, "1 2 3", "1@0 2@1 3@2").await;
    check(2, "1 7 2 9 3", "1@0 7!lines 2@0 9!lines 3@1").await;
    check(2, "1 2 u 3 4 5", "2@0 1!unknown 4@1 5@2").await;
}

#[tokio::test]
async fn an_attach_is_judged_between_the_groups_around_it() {
    let house = start_new(NO_CUT, 1).await;
    let core = house.core.clone();
    let paid = frames(channel(0), 3, 1);
    let (reply, mut answers) = mpsc::unbounded_channel();
    let hold = Hold::on(&core).await;
    core.frames(paid[..2].to_vec(), reply.clone()).await.expect("runs");
    let mut attach = pin!(core.attach(channel(0)));
    assert!(poll_once(attach.as_mut()).await.is_pending());
    // Whoever leaves before the tick is not waited for.
    assert!(poll_once(pin!(core.attach(channel(0)))).await.is_pending());
    core.frames(paid[2..].to_vec(), reply).await.expect("runs");
    drop(hold);
    assert_eq!(accepted_lines(&attach.await.expect("runs")), 2);
    for (expected, frames) in [("2@0", 2), ("3@0", 1)] {
        let release = answers.recv().await.expect("is answered");
        assert_eq!((shorts(&release.answers).as_str(), release.frames, release.commit), (expected, frames, core.commit()));
    }
    assert!(answers.recv().await.is_none());
    let unknown = core.attach(channel(1)).await.expect("runs");
    assert_eq!(unknown, Answer::Reject { rejection: Rejection::UnknownChannel, lines_total: 0, snapshot: None });
    house.stop().await.expect("stops");
}

#[tokio::test]
async fn frames_of_a_session_that_left_are_accepted() {
    let house = start_new(NO_CUT, 1).await;
    let (reply, answers) = mpsc::unbounded_channel();
    drop(answers);
    house.core.frames(frames(channel(0), 3, 1), reply).await.expect("runs");
    assert_eq!(accepted_lines(&house.core.attach(channel(0)).await.expect("runs")), 3);
    house.stop().await.expect("stops");
}

/// What one session sent, and what it was told.
#[derive(Default)]
struct Heard {
    groups: usize,
    sent: usize,
    spoiled: usize,
    releases: usize,
    released: usize,
    rejects: usize,
    commit: u64,
    /// In each epoch the last acknowledged line.
    acked: BTreeMap<u64, u64>,
}

impl Heard {
    fn hear(&mut self, release: &Release) {
        self.releases += 1;
        self.released += usize::from(release.frames);
        assert!(release.commit >= self.commit, "commits go back");
        self.commit = release.commit;
        let mut before = None;
        for answer in &release.answers {
            match answer {
                Answer::Ack(ack) => {
                    let newest = self.acked.last_key_value().map_or((0, 0), |(epoch, line)| (*epoch, *line));
                    assert!((ack.epoch.number(), ack.lines_total) >= newest && ack.lines_total >= newest.1, "acks go back");
                    assert_ne!(before, Some(ack.epoch), "acks in a row that name one epoch");
                    before = Some(ack.epoch);
                    self.acked.insert(ack.epoch.number(), ack.lines_total);
                }
                Answer::Reject { .. } => {
                    before = None;
                    self.rejects += 1;
                }
                Answer::Snapshot(_) => panic!("nobody attached"),
            }
        }
    }
}

/// Sends frames in groups of random sizes, with repeated ones and ones that skip a frame in between, and listens now and then.
async fn session(core: Core, frames: Vec<FrameInput>, mut random: Random) -> Heard {
    let (reply, mut answers) = mpsc::unbounded_channel();
    let (mut heard, mut next) = (Heard::default(), 0);
    while next < frames.len() {
        let mut group = Vec::new();
        for _ in 0..=random.below(9) {
            match random.below(6) {
                0 if next + 1 < frames.len() => {
                    heard.spoiled += 1;
                    group.push(frames[next + 1].clone());
                }
                1 if next > 0 => group.push(frames[next - 1].clone()),
                _ if next < frames.len() => {
                    group.push(frames[next].clone());
                    next += 1;
                }
                _ => {}
            }
        }
        heard.groups += 1;
        heard.sent += group.len();
        core.frames(group, reply.clone()).await.expect("runs");
        while heard.releases < heard.groups && random.below(2) == 0 {
            heard.hear(&answers.recv().await.expect("is answered"));
        }
    }
    drop(reply);
    while let Some(release) = answers.recv().await {
        heard.hear(&release);
    }
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_frame_is_counted_out_once_and_the_last_ack_is_what_is_durable() {
    const SESSIONS: u8 = 8;
    let signed: Vec<_> = (0..SESSIONS).map(|number| frames(channel(number), 24, 2)).collect();
    for seed in 0..32 {
        let mut random = Random(seed);
        let epoch_frames_max = [1, 3, 16, NO_CUT][random.below(4)];
        let house = start_new(epoch_frames_max, SESSIONS).await;
        let spawn = |frames: &Vec<_>| tokio::spawn(session(house.core.clone(), frames.clone(), Random(random.next())));
        let sessions: Vec<_> = signed.iter().map(spawn).collect();
        let mut told = Vec::new();
        for session in sessions {
            told.push(session.await.unwrap_or_else(|panic| panic!("seed {seed}: {panic}")));
        }

        let mut billed = BTreeMap::new();
        for (epoch, channel, line) in stored(&*house.reader) {
            assert!(billed.insert((channel, epoch), line) < Some(line), "seed {seed}: order");
        }
        let (disk, commit) = (house.disk.clone(), house.core.commit());
        house.stop().await.expect("stops");
        disk.crash();
        let house = start(epoch_frames_max, &disk);
        for (number, heard) in (0..).zip(told) {
            let at = format!("seed {seed}, session {number}");
            assert_eq!((heard.released, heard.releases), (heard.sent, heard.groups), "{at}");
            assert_eq!(heard.rejects, heard.spoiled, "{at}");
            assert!(heard.commit <= commit, "{at}");
            let last = heard.acked.last_key_value().map(|(_, line)| *line);
            let durable = accepted_lines(&house.core.attach(channel(number)).await.expect("runs"));
            assert_eq!((last, durable), (Some(48), 48), "{at}");
            // Of every epoch that bills the channel, the session knows the last line.
            let epochs = billed.iter().filter(|((of, _), _)| *of == channel(number));
            for ((_, epoch), line) in epochs {
                assert_eq!(heard.acked.get(epoch), Some(line), "{at}, epoch {epoch}");
            }
        }
        house.stop().await.expect("stops");
    }
}

/// A frame of a channel that is not known: it is rejected and not written, and takes this much of the queue.
fn filler(bytes: usize) -> FrameInput {
    let mut frame = frames(channel(9), 1, 1).remove(0);
    frame.bytes = Bytes::from(vec![0; bytes]);
    frame
}

/// What ends the core in the middle of a tick.
#[derive(Clone, Copy, Debug)]
enum End {
    Disk(Fault),
    /// The chain tells what cannot be, after the frames of the tick.
    Chain,
}

#[tokio::test]
async fn of_a_tick_that_fails_nobody_hears_and_nobody_waits() {
    let signed: Vec<_> = (0..3).map(|number| frames(channel(number), 6, 2)).collect();
    for (end, survives) in [
        (End::Disk(Fault::FailedWrite), false),
        (End::Disk(Fault::FailedSync), false),
        (End::Disk(Fault::FailedSyncKept), true),
        (End::Disk(Fault::TornBatch(40)), false),
        (End::Disk(Fault::CrashBeforeAck), true),
        (End::Chain, false),
    ] {
        let house = start_new(NO_CUT, 3).await;
        let (core, disk, before) = (house.core.clone(), house.disk.clone(), house.core.commit());
        let hold = Hold::on(&core).await;
        let mut sessions = Vec::new();
        for frames in &signed {
            let (reply, answers) = mpsc::unbounded_channel();
            core.frames(frames[..4].to_vec(), reply.clone()).await.expect("runs");
            core.frames(frames[4..].to_vec(), reply).await.expect("runs");
            sessions.push(answers);
        }
        let (reply, mut unanswered) = mpsc::unbounded_channel();
        let mut without_place = pin!(core.frames(vec![filler(QUEUED_BYTES_MAX)], reply));
        assert!(poll_once(without_place.as_mut()).await.is_pending(), "{end:?}");
        let facts = match end {
            End::Disk(fault) => {
                disk.inject(fault);
                Vec::new()
            }
            End::Chain => vec![Input::Chain(ChainFact::Closed { channel: channel(9), refund: Amount::ZERO })],
        };
        let mut attach = pin!(core.attach(channel(0)));
        let mut query = pin!(core.query(|engine| engine.summary()));
        let mut inputs = pin!(core.inputs(facts));
        assert!(poll_once(attach.as_mut()).await.is_pending() && poll_once(query.as_mut()).await.is_pending(), "{end:?}");
        assert!(poll_once(inputs.as_mut()).await.is_pending(), "{end:?}");
        drop(hold);

        for answers in &mut sessions {
            assert!(answers.recv().await.is_none(), "{end:?}");
        }
        assert!(house.thread.join().is_err() && !core.is_alive(), "{end:?}");
        assert_eq!(poll_once(attach.as_mut()).await, Poll::Ready(Err(Stopped)), "{end:?}");
        assert_eq!(poll_once(query.as_mut()).await, Poll::Ready(Err(Stopped)), "{end:?}");
        assert_eq!(poll_once(inputs.as_mut()).await, Poll::Ready(Err(Stopped)), "{end:?}");
        assert_eq!(poll_once(without_place.as_mut()).await, Poll::Ready(Err(Stopped)), "{end:?}");
        assert!(unanswered.recv().await.is_none(), "{end:?}");
        assert_eq!(core.commit(), before, "{end:?}");
        // The whole queue is free again, and nobody waits for a place that nobody will give back.
        for group in [signed[0].clone(), vec![filler(QUEUED_BYTES_MAX)]] {
            let (reply, mut answers) = mpsc::unbounded_channel();
            assert_eq!(poll_once(pin!(core.frames(group, reply))).await, Poll::Ready(Err(Stopped)), "{end:?}");
            assert!(answers.recv().await.is_none(), "{end:?}");
        }

        disk.crash();
        let house = start(NO_CUT, &disk);
        for (number, frames) in (0..).zip(&signed) {
            let durable = accepted_lines(&house.core.attach(channel(number)).await.expect("runs"));
            assert_eq!(durable, if survives { 12 } else { 0 }, "{end:?}: a tick is whole or not at all");
            let release = submit(&house.core, frames[5 * usize::from(survives)..].to_vec()).await;
            assert_eq!(shorts(&release.answers), "12@0", "{end:?}");
        }
        house.stop().await.expect("stops");
    }
}

#[tokio::test]
async fn frames_beyond_the_bytes_of_the_queue_wait_and_go_on() {
    let house = start_new(NO_CUT, 1).await;
    let core = house.core.clone();
    let paid = frames(channel(0), 6, 1);
    // Four of these are the queue, exactly.
    let quarter = |index: usize| vec![paid[index].clone(), filler(QUEUED_BYTES_MAX / 4 - paid[index].bytes.len())];
    let (reply, mut answers) = mpsc::unbounded_channel();
    let hold = Hold::on(&core).await;
    for index in 0..4 {
        assert_eq!(poll_once(pin!(core.frames(quarter(index), reply.clone()))).await, Poll::Ready(Ok(())), "{index}");
    }
    let mut fifth = pin!(core.frames(vec![paid[4].clone()], reply.clone()));
    assert!(poll_once(fifth.as_mut()).await.is_pending());
    // Who stops waiting for a place takes none along.
    assert!(poll_once(pin!(core.frames(vec![filler(QUEUED_BYTES_MAX)], reply.clone()))).await.is_pending());
    assert!(poll_once(fifth.as_mut()).await.is_pending());
    assert!(answers.try_recv().is_err());
    drop(hold);

    let mut commit = 0;
    let mut check = |release: Option<Box<Release>>, expected: &str, frames: u16| {
        let release = release.expect("is answered");
        assert_eq!((shorts(&release.answers).as_str(), release.frames), (expected, frames));
        // A quarter of the queue is enough for a tick.
        assert!(release.commit > commit, "{expected}: in one tick with the group before");
        commit = release.commit;
    };
    for expected in ["1@0 1!unknown", "2@0 1!unknown", "3@0 1!unknown", "4@0 1!unknown"] {
        check(answers.recv().await, expected, 2);
    }
    tick_ends(&core).await;
    assert_eq!(poll_once(fifth.as_mut()).await, Poll::Ready(Ok(())));
    check(answers.recv().await, "5@0", 1);
    // More than the queue holds at all goes when it has it for itself.
    tick_ends(&core).await;
    let last = vec![paid[5].clone(), filler(2 * QUEUED_BYTES_MAX)];
    assert_eq!(poll_once(pin!(core.frames(last, reply))).await, Poll::Ready(Ok(())));
    check(answers.recv().await, "6@0 1!unknown", 2);
    assert!(answers.recv().await.is_none());
    house.stop().await.expect("stops");
}

#[tokio::test]
async fn commands_beyond_the_length_of_the_queue_wait_and_go_on() {
    let house = start_new(NO_CUT, 1).await;
    let (core, paid) = (house.core.clone(), frames(channel(0), 1, 1));
    let (reply, mut answers) = mpsc::unbounded_channel();
    let hold = Hold::on(&core).await;
    for index in 0..QUEUED_COMMANDS_MAX {
        assert_eq!(poll_once(pin!(core.frames(paid.clone(), reply.clone()))).await, Poll::Ready(Ok(())), "{index}");
    }
    let mut attach = pin!(core.attach(channel(0)));
    assert!(poll_once(attach.as_mut()).await.is_pending());
    let mut last = pin!(core.frames(paid.clone(), reply));
    assert!(poll_once(last.as_mut()).await.is_pending());
    assert!(answers.try_recv().is_err());
    drop(hold);
    assert_eq!(accepted_lines(&attach.await.expect("runs")), 1);
    assert_eq!(last.await, Ok(()));
    for index in 0..=QUEUED_COMMANDS_MAX {
        let release = answers.recv().await.expect("is answered");
        assert_eq!((shorts(&release.answers).as_str(), release.frames), ("1@0", 1), "{index}");
    }
    assert!(answers.recv().await.is_none());
    house.stop().await.expect("stops");
}

fn own(key: u8, value: Option<u8>) -> OwnRecord {
    OwnRecord { table: millstream_store::Table::Relays, key: vec![key], value: value.map(|value| vec![value]) }
}

/// Whoever was told that a record of the node's own is kept finds it after any crash; who was not told finds all of it or nothing.
#[tokio::test]
async fn records_of_the_nodes_own_are_durable_when_it_is_said_so() {
    for (fault, survives) in [(Fault::FailedWrite, false), (Fault::FailedSync, false), (Fault::CrashBeforeAck, true)] {
        let disk = CrashDisk::new();
        let house = start(NO_CUT, &disk);
        house.core.own(vec![own(1, Some(1)), own(2, Some(2))]).await.expect("runs");
        house.core.own(vec![own(2, None), own(3, Some(3))]).await.expect("runs");
        disk.inject(fault);
        assert_eq!(house.core.own(vec![own(1, Some(9)), own(4, Some(4))]).await, Err(Stopped), "{fault:?}");
        drop(house);
        disk.crash();
        let house = start(NO_CUT, &disk);
        let found = house.reader.collect(millstream_store::Table::Relays, &KeyRange::all()).expect("reads");
        let expected: Vec<(u8, u8)> = if survives { vec![(1, 9), (3, 3), (4, 4)] } else { vec![(1, 1), (3, 3)] };
        assert_eq!(found, expected.into_iter().map(|(key, value)| (vec![key], vec![value])).collect::<Vec<_>>(), "{fault:?}");
    }
}

#[test]
fn a_data_directory_belongs_to_what_it_was_made_for() {
    let contract = |byte| LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([byte; 20]) };
    let all = [
        Served::Ledger(contract(1)),
        Served::Ledger(contract(2)),
        Served::NoLedger(ChainId::new(31_337)),
        Served::NoLedger(ChainId::new(1)),
    ];
    for made_for in all {
        let mut store = CrashDisk::new().open().expect("opens");
        bind(&mut store, made_for).expect("new");
        for served in all {
            let bound = bind(&mut store, served);
            assert_eq!(bound.is_ok(), served == made_for, "{made_for}, {served}");
            let Err(error) = bound else { continue };
            let error = error.to_string();
            assert!(error.contains(&made_for.to_string()) && error.contains(&served.to_string()), "{error}");
        }
    }
}
