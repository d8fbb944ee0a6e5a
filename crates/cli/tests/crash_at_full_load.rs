//! `kill -9` of a node that takes as much as it can: every payment that it acknowledged is there when it is back, and none that was not sent.
//!
//! The load is that of `millstream bench`, so acknowledgements leave the node by the thousand up to the moment at which it dies.

mod common;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use common::Net;
use millstream_load::workload::{LINE_NANOS, secret};
use millstream_load::{Lane, LaneEnd, LoadError, Mode, Outcome, Payer, Plan, Schedule, Target, Workload, run};
use millstream_transport::{ServerTrust, TransportOptions};
use millstream_types::{Amount, ChannelId};
use tokio::task::block_in_place;

const CHANNELS: usize = 16;
const CONNECTIONS: usize = 8;

/// What a development network's node allows.
const IN_FLIGHT: u16 = 4;

/// Frames of one run that the node has at least when it is killed. All but those that may be under way are acknowledged by then.
const KILL_AFTER: u64 = 2_000 + (CHANNELS as u64) * (IN_FLIGHT as u64);

/// How soon a connection on which nothing comes is probed, and the node that is back can say that it does not know it.
const PROBE: Duration = Duration::from_millis(100);

/// From the loss of one connection to giving up the others. What the node had acknowledged came before it died.
const GIVE_UP: Duration = Duration::from_millis(500);

/// More than any part of the test takes.
const LONG: Duration = Duration::from_secs(60);

const CLOSED: Mode = Mode::Saturated { in_flight: IN_FLIGHT };

/// A load, and how often the node is killed under it.
struct Load {
    lines: usize,
    /// Frames on each channel: as many as are sent between all kills, and as much again, because channels are not equally fast.
    frames: usize,
    mode: Mode,
    kills: usize,
}

/// The payers' side: what was signed, and what the node is known to have of it.
struct Payers {
    net: Net,
    lanes: Vec<Lane>,
    /// Frames of all channels that the node has.
    frames: u64,
    /// Where a channel stood when the node was back, in lines: one for each kill.
    cuts: Vec<(ChannelId, u64)>,
}

impl Payers {
    async fn start() -> Self {
        let net = Net::start().await;
        let mut lanes = Vec::new();
        for number in 0..CHANNELS {
            let secret = secret(0, number as u64).expect("a key");
            let salt = u8::try_from(number).expect("few channels");
            let payer = Payer::new(net.open(&secret, salt, 1_000_000).await.channel, secret);
            let nothing = Workload::new(0, 1).expect("a frame").sign(&payer, 0, &AtomicU64::new(0)).expect("signed");
            lanes.push(Lane { payer, frames: nothing });
        }
        Self { net, lanes, frames: 0, cuts: Vec::new() }
    }

    /// Signs what a load pays, lets the node die under it again and again, and pays the rest.
    async fn pay_through(&mut self, load: &Load) {
        let (workload, signed) = (Workload::new(0, load.lines).expect("a frame"), AtomicU64::new(0));
        let payers: Vec<Payer> = self.lanes.iter().map(|lane| lane.payer.clone()).collect();
        let frames = block_in_place(|| workload.sign_all(&payers, |_| load.frames, &signed)).expect("signed");
        self.lanes = payers.into_iter().zip(frames).map(|(payer, frames)| Lane { payer, frames }).collect();
        for _ in 0..load.kills {
            let ends = self.die_under(load).await;
            self.assert_kept(&ends).await;
            let most = self.lanes.iter().max_by_key(|lane| lane.frames.count()).expect("channels");
            assert!(most.frames.count() > 0, "something is left to be paid after the crash");
            self.cuts.push((most.payer.channel(), most.payer.lines_total()));
        }
        let left: Vec<u64> = self.lanes.iter().map(|lane| lane.frames.count() as u64).collect();
        let outcome = self.pay_the_rest(load).await;
        assert_eq!(outcome.lanes, left.into_iter().map(|left| LaneEnd { sent: left, acked: left }).collect::<Vec<_>>());
        self.assert_kept(&outcome.lanes).await;
    }

    /// Loads the node, kills it in the middle and starts it again; what each channel had sent and had acknowledged.
    async fn die_under(&mut self, load: &Load) -> Vec<LaneEnd> {
        let before: u64 = self.lanes.iter().map(|lane| lane.payer.lines_total()).sum();
        let enough = before + KILL_AFTER * load.lines as u64;
        let (target, lanes) = (self.target(), self.lanes.clone());
        let plan = Plan { drain: GIVE_UP, ..plan(load.mode, LONG) };
        let loading = run(&target, lanes, &plan, async |_| {});
        tokio::pin!(loading);
        let flowing = self.net.wait_for("payments to flow", async || {
            self.net.admin.status().await.expect("the node has not been killed yet").channels.lines >= enough
        });
        tokio::select! {
            ended = &mut loading => panic!("the load ended before the node was killed: {ended:?}"),
            () = flowing => {}
        }
        self.net.dev.node.kill().expect("the node dies");
        self.net.dev.node.restart().expect("the node starts again");
        let ended = loading.await;
        let Err(LoadError::Interrupted { lanes, source }) = ended else { panic!("the node died, and the load did not notice: {ended:?}") };
        assert!(matches!(*source, LoadError::Stream { .. } | LoadError::Ended { .. }), "the node said what is wrong: {source:?}");
        let acked: u64 = lanes.iter().map(|lane| lane.acked).sum();
        let sent: u64 = lanes.iter().map(|lane| lane.sent).sum();
        assert!(acked >= KILL_AFTER - (CHANNELS as u64) * u64::from(IN_FLIGHT), "the node is killed under load: {lanes:?}");
        assert!(sent > acked, "the node is killed with frames under way: {lanes:?}");
        self.net.wait_for("the node to be ready", async || self.net.admin.is_ready().await.is_ok_and(|ready| ready)).await;
        lanes
    }

    /// Pays whatever is signed and not at the node: everything is due at once.
    async fn pay_the_rest(&self, load: &Load) -> Outcome {
        let most = self.lanes.iter().map(|lane| lane.frames.count()).max().unwrap_or(0);
        let payments = (most * CHANNELS * load.lines) as u64;
        // A tenth of a second at this rate is as many frames on each channel as any has.
        let schedule = Schedule::new(CHANNELS, load.lines, payments * 10).expect("no zero");
        let plan = plan(Mode::Offered(schedule), Duration::from_millis(100));
        run(&self.target(), self.lanes.clone(), &plan, async |_| {}).await.expect("the node takes all")
    }

    /// Compares, channel by channel, and goes on from what the node has.
    async fn assert_kept(&mut self, ends: &[LaneEnd]) {
        let rows = self.net.admin.channels().await.expect("channels");
        let rows: HashMap<_, _> = rows.into_iter().map(|row| (row.channel, row)).collect();
        assert_eq!((rows.len(), ends.len()), (CHANNELS, CHANNELS));
        for (lane, end) in self.lanes.iter_mut().zip(ends) {
            let row = &rows[&lane.payer.channel()];
            let lines = lane.frames.workload().lines as u64;
            let more = row.lines.checked_sub(lane.payer.lines_total()).expect("what was there before the load is there");
            assert!(more.is_multiple_of(lines), "whole frames: {row:?}");
            let frames = more / lines;
            assert!((end.acked..=end.sent).contains(&frames), "{frames} frames are there of {end:?}: {row:?}");
            assert_eq!(row.status, "open");
            assert_eq!(row.accepted.units(), u128::from(row.lines) * u128::from(LINE_NANOS));
            assert_eq!((row.charged, row.unsettled, row.settled), (row.accepted, row.accepted, Amount::ZERO));
            lane.payer.advance(&lane.frames, frames);
            lane.frames = lane.frames.after(frames);
            assert_eq!((lane.payer.lines_total(), u128::from(lane.payer.cumulative())), (row.lines, row.accepted.units()));
            self.frames += frames;
        }
        let status = self.net.admin.status().await.expect("status");
        let lines: u64 = self.lanes.iter().map(|lane| lane.payer.lines_total()).sum();
        assert_eq!((status.channels.lines, status.channels.accepted), (lines, Amount::from_nanos(lines * LINE_NANOS)));
        // Each frame is billed, and once.
        let billed: u64 = status.unanchored_epochs.iter().map(|epoch| epoch.frames).sum();
        assert_eq!(billed + status.open_epoch.frames, self.frames);
    }

    /// Seals the bills and compares them with what was paid, and the lines on both sides of each crash with their proofs.
    async fn assert_billed(&self) {
        self.net.admin.seal_epoch().await.expect("sealed");
        let status = self.net.admin.status().await.expect("status");
        let billed: u128 = status.unanchored_epochs.iter().map(|epoch| epoch.sum.expect("sealed").units()).sum();
        assert_eq!(billed, status.channels.accepted.units());
        let roots: HashMap<_, _> = status.unanchored_epochs.iter().map(|epoch| (epoch.id, epoch.root.expect("sealed"))).collect();
        for (channel, cut) in &self.cuts {
            for line in [cut - 1, *cut] {
                let proof = self.net.admin.line_proof(*channel, line).await.expect("a proof");
                assert_eq!((proof.frame.channel, proof.frame.lines_before + proof.line_index), (*channel, line));
                assert_eq!(proof.line.amount, Amount::from_nanos(LINE_NANOS));
                proof.verify(&roots[&proof.epoch]).expect("the proof holds");
            }
        }
    }

    fn target(&self) -> Target {
        let listening = self.net.dev.node.listening();
        Target {
            address: listening.listen,
            host_name: "localhost".to_owned(),
            trust: ServerTrust::Pinned(listening.certificate_sha256.parse().expect("a fingerprint")),
            ledger: self.net.dev.ledger.id(),
            transport: TransportOptions { keep_alive_interval: Some(PROBE), ..TransportOptions::loopback() },
        }
    }
}

fn plan(mode: Mode, duration: Duration) -> Plan {
    Plan { connections: CONNECTIONS, mode, warmup: Duration::ZERO, duration, drain: LONG }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_acknowledged_under_full_load_survives_its_kill() {
    let mut payers = Payers::start().await;
    let open = Mode::Offered(Schedule::new(CHANNELS, 64, 320_000).expect("no zero"));
    for load in [
        Load { lines: 64, frames: 1_000, mode: CLOSED, kills: 3 },
        Load { lines: 1, frames: 2_000, mode: CLOSED, kills: 3 },
        Load { lines: 64, frames: 1_000, mode: open, kills: 1 },
    ] {
        payers.pay_through(&load).await;
    }
    payers.assert_billed().await;
}
