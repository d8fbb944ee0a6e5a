//! Speaking the wire to a node: attach, frames, acks. As lean as it can be, because it shares the machine with the node.
//!
//! A connection has as many streams as channels, a channel one task. The tasks wait for three things only: an ack, room to write, and in an
//! open loop the pacer, a thread of its own that sleeps more finely than the runtime's timer.

mod attach;
mod channel;
mod pacer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millstream_transport::{ServerTrust, TransportOptions};
use millstream_types::LedgerId;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::attach::{Connections, attach_all};
use crate::stats::{Latency, Recorder};
use crate::{Frames, LoadError, Payer, Schedule};

/// Histograms that the tasks share.
const SHARDS: usize = 16;

/// From attaching the last channel to the first frame: the pacer and every task are ready by then.
const LEAD: Duration = Duration::from_millis(50);

/// A frame that the load generator sends later than this after its time, with room for it at the node, is a late send.
const FORGIVEN: Duration = Duration::from_millis(1);

/// The node.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its QUIC listener.
    pub address: SocketAddr,
    /// What its certificate is checked for, where it is not pinned.
    pub host_name: String,
    /// How it is known.
    pub trust: ServerTrust,
    /// The ledger that it serves.
    pub ledger: LedgerId,
    /// Settings of the connections.
    pub transport: TransportOptions,
}

/// A channel with what it will pay.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Who pays.
    pub payer: Payer,
    /// The frames that follow what the payer has signed.
    pub frames: Frames,
}

/// When frames are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A closed loop: as many frames under way on each channel as given, the next as soon as one is acknowledged. Latency counts from the
    /// sending.
    Saturated {
        /// Frames under way on a channel, at least 1; the node may allow fewer.
        in_flight: u16,
    },
    /// A closed loop of one frame: send, wait for the ack, pause.
    OneAtATime {
        /// The pause.
        pause: Duration,
    },
    /// An open loop: frames are due by a schedule, whatever the node does. Latency counts from the time a frame was due.
    Offered(Schedule),
}

/// A run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Connections; the channels are dealt to them in turn.
    pub connections: usize,
    /// When frames are sent.
    pub mode: Mode,
    /// Load before the window that counts.
    pub warmup: Duration,
    /// The window that counts.
    pub duration: Duration,
    /// How long the node may take to acknowledge the rest.
    pub drain: Duration,
}

/// Where a run is; what is measured beside it is measured then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is connected yet.
    Connecting,
    /// Every channel is attached and nothing was sent.
    Attached,
    /// The window that counts begins.
    WindowBegins,
    /// It ended; frames may still be under way.
    WindowEnds,
    /// Everything is acknowledged, or will not be.
    Drained,
}

/// What a channel did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneEnd {
    /// Frames sent.
    pub sent: u64,
    /// Frames acknowledged.
    pub acked: u64,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Each channel, in the order given.
    pub lanes: Vec<LaneEnd>,
    /// Seconds of the window.
    pub seconds: f64,
    /// Frames acknowledged within the window.
    pub window_frames: u64,
    /// Latencies of the frames that started in the window.
    pub latency: Latency,
    /// Frames that were meant to be sent and were not when the run ended.
    pub unsent: u64,
    /// Frames of the window that waited because the node had as many as it allows.
    pub held: u64,
    /// Frames of the window that the load generator itself sent late.
    pub late: u64,
    /// The longest that the load generator itself kept a frame of the window.
    pub worst_lateness: Duration,
    /// Whether the window ended early because a channel had no more signed frames.
    pub ran_out: bool,
    /// Frames that the node allows under way on a stream, the least of all channels.
    pub window: u64,
}

impl Outcome {
    /// Frames sent and not acknowledged.
    #[must_use]
    pub fn unacked(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.sent - lane.acked).sum()
    }
}

/// What the tasks of a run share.
#[derive(Debug)]
struct Run {
    mode: Mode,
    /// From the start: when the schedule ends, in nanoseconds.
    schedule_end: u64,
    recorder: Recorder,
    lanes: Vec<LaneState>,
    stopping: AtomicBool,
    ran_out: Notify,
    held: AtomicU64,
    late: AtomicU64,
    worst: AtomicU64,
}

/// What is known of a channel besides by its own task.
#[derive(Debug, Default)]
struct LaneState {
    due: AtomicU64,
    wake: Notify,
    sent: AtomicU64,
    acked: AtomicU64,
}

impl Run {
    fn new(plan: &Plan, lanes: usize) -> Result<Self, LoadError> {
        Ok(Self {
            mode: plan.mode,
            schedule_end: nanos(plan.warmup.saturating_add(plan.duration)),
            recorder: Recorder::new(SHARDS)?,
            lanes: (0..lanes).map(|_| LaneState::default()).collect(),
            stopping: AtomicBool::new(false),
            ran_out: Notify::new(),
            held: AtomicU64::new(0),
            late: AtomicU64::new(0),
            worst: AtomicU64::new(0),
        })
    }

    fn acked_frames(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.acked.load(Ordering::Relaxed)).sum()
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Nothing more is sent, and a channel that waits for the clock learns of it.
    fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.lanes.iter().for_each(|lane| lane.wake.notify_one());
    }

    fn ends(&self) -> Vec<LaneEnd> {
        let end = |lane: &LaneState| LaneEnd { sent: lane.sent.load(Ordering::Relaxed), acked: lane.acked.load(Ordering::Relaxed) };
        self.lanes.iter().map(end).collect()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Connects, attaches every channel, runs the load and closes the connections. `at` is told where the run is and is waited for.
///
/// # Errors
/// What ended the run early; every answer of the node but the expected one does. From the first frame on it is a [`LoadError::Interrupted`]
/// with what each channel had sent and had acknowledged; before it, nothing was sent. When one channel fails, no channel sends more, and the
/// others have [`Plan::drain`] to hear the acknowledgements that are on their way, or to fail too.
pub async fn run(target: &Target, lanes: Vec<Lane>, plan: &Plan, mut at: impl AsyncFnMut(Phase)) -> Result<Outcome, LoadError> {
    check(&lanes, plan)?;
    at(Phase::Connecting).await;
    let (connections, streams) = attach_all(target, lanes, plan).await?;
    let window = streams.iter().map(|stream| stream.window).min().unwrap_or(0);
    let run = Arc::new(Run::new(plan, streams.len())?);
    let (starter, start) = watch::channel(None::<Instant>);
    let mut tasks = JoinSet::new();
    for stream in streams {
        tasks.spawn(channel::serve(stream, Arc::clone(&run), start.clone()));
    }
    at(Phase::Attached).await;
    let start = Instant::now() + LEAD;
    if let Mode::Offered(schedule) = plan.mode {
        pacer::spawn(Arc::clone(&run), schedule, start)?;
    }
    starter.send_replace(Some(start));
    let mut measured = measure(&run, &mut tasks, plan, start, &mut at).await;
    // An open loop sends all that was meant to be sent; only a failure stops it.
    if measured.is_err() || !matches!(plan.mode, Mode::Offered(_)) {
        run.stop();
    }
    let drained = tokio::time::timeout(plan.drain, async {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = joined(ended) {
                run.stop();
                // The first failure is the reason; those that follow it are of no interest.
                if measured.is_ok() {
                    measured = Err(error);
                }
            }
        }
    });
    // Whatever is not acknowledged by now counts as such.
    let _ = drained.await;
    tasks.shutdown().await;
    let lanes = run.ends();
    let ended = measured.and_then(|measured| Ok((measured, run.recorder.latency()?)));
    let ((seconds, window_frames, ran_out), latency) = match ended {
        Ok(ended) => ended,
        Err(source) => return Err(LoadError::Interrupted { lanes, source: Box::new(source) }),
    };
    at(Phase::Drained).await;
    connections.close().await;
    let sent: u64 = lanes.iter().map(|lane| lane.sent).sum();
    let meant = if let Mode::Offered(schedule) = plan.mode { schedule.slots_before(run.schedule_end) } else { sent };
    Ok(Outcome {
        seconds,
        window_frames,
        latency,
        unsent: meant.saturating_sub(sent),
        held: run.held.load(Ordering::Relaxed),
        late: run.late.load(Ordering::Relaxed),
        worst_lateness: Duration::from_nanos(run.worst.load(Ordering::Relaxed)),
        ran_out,
        window,
        lanes,
    })
}

fn check(lanes: &[Lane], plan: &Plan) -> Result<(), LoadError> {
    let (channels, connections) = (lanes.len() as u64, plan.connections as u64);
    if channels == 0 {
        return Err(LoadError::Setting { what: "the number of channels", min: 1, max: u64::MAX, actual: 0 });
    }
    if connections == 0 || connections > channels {
        return Err(LoadError::Setting { what: "the number of connections", min: 1, max: channels, actual: connections });
    }
    Ok(())
}

/// Waits through warm-up and window: seconds of the window, frames acknowledged in it, and whether frames ran out.
async fn measure(
    run: &Run,
    tasks: &mut JoinSet<Result<(), LoadError>>,
    plan: &Plan,
    start: Instant,
    at: &mut impl AsyncFnMut(Phase),
) -> Result<(f64, u64, bool), LoadError> {
    let begin = start + plan.warmup;
    run.recorder.open(nanos(plan.warmup));
    if matches!(plan.mode, Mode::Offered(_)) {
        run.recorder.close(run.schedule_end);
    }
    let mut ran_out = wait_until(run, tasks, begin).await?;
    let (began, before) = (Instant::now(), run.acked_frames());
    at(Phase::WindowBegins).await;
    if !ran_out {
        ran_out = wait_until(run, tasks, begin + plan.duration).await?;
    }
    let (ended, after) = (Instant::now(), run.acked_frames());
    if !matches!(plan.mode, Mode::Offered(_)) {
        run.recorder.close(nanos(ended.saturating_duration_since(start)));
    }
    at(Phase::WindowEnds).await;
    Ok((ended.saturating_duration_since(began).as_secs_f64(), after - before, ran_out))
}

/// Waits until a time, or until a channel has no more frames, which is true, or until a channel fails.
async fn wait_until(run: &Run, tasks: &mut JoinSet<Result<(), LoadError>>, until: Instant) -> Result<bool, LoadError> {
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => return Ok(false),
            () = run.ran_out.notified() => return Ok(true),
            Some(ended) = tasks.join_next() => joined(ended)?,
        }
    }
}

fn joined(ended: Result<Result<(), LoadError>, tokio::task::JoinError>) -> Result<(), LoadError> {
    ended.map_err(|error| LoadError::Internal { what: error.to_string() })?
}

impl Connections {
    /// Says goodbye, and waits for a moment so that the node hears it.
    async fn close(self) {
        const GOODBYE: Duration = Duration::from_secs(2);
        for connection in &self.connections {
            connection.close(None, "");
        }
        for endpoint in &self.endpoints {
            // A node that does not answer is gone already.
            let _ = tokio::time::timeout(GOODBYE, endpoint.wait_idle()).await;
        }
    }
}
