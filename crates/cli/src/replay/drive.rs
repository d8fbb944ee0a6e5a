//! Paying a workload: one task for each channel, from the line its channel has come to.

use core::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use millstream_client::{ChannelHandle, Client, Totals};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::prepare::joined;
use super::progress::ReplayProgress;
use super::workload::{ChannelPlan, Lines, Workload};
use crate::error::{CliError, CliResult};

/// Lines that are prepared and paid at a time.
const SLICE_LINES: usize = 1_024;

/// How long a channel may stand still, with the node away or not acking, before the replay gives up. Running it again resumes it.
const STALL_MAX: Duration = Duration::from_secs(300);

/// How often the sum of what was paid is brought up to date.
const TALLY_INTERVAL: Duration = Duration::from_millis(100);

/// The times of a workload against those of this run.
#[derive(Clone, Copy, Debug)]
struct Clock {
    started: Instant,
    /// Thousandths of real time; `None` for as fast as the node takes them.
    speed: Option<NonZeroU32>,
    /// The workload's time when the run started.
    origin_nanos: u64,
}

impl Clock {
    /// The workload's time now.
    fn now_nanos(&self) -> u64 {
        let Some(speed) = self.speed else { return u64::MAX };
        let elapsed = self.started.elapsed().as_nanos().saturating_mul(speed.get().into()) / 1_000;
        self.origin_nanos.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// When it is `at_nanos` in the workload's time.
    fn instant(&self, at_nanos: u64) -> Instant {
        let Some(speed) = self.speed else { return self.started };
        let ahead = u128::from(at_nanos.saturating_sub(self.origin_nanos)).saturating_mul(1_000) / u128::from(speed.get());
        self.started + Duration::from_nanos(u64::try_from(ahead).unwrap_or(u64::MAX))
    }
}

/// A channel with its part of the workload.
pub(super) struct Lane {
    pub(super) handle: ChannelHandle,
    /// Position in the workload.
    pub(super) index: u32,
    /// Where the channel stood before.
    pub(super) before: Totals,
}

/// Pays everything that is not paid yet, and waits until it is acked.
pub(super) async fn drive(
    workload: &Arc<Workload>,
    clients: &[Client],
    lanes: &[Lane],
    speed: Option<NonZeroU32>,
    progress: &Arc<ReplayProgress>,
) -> CliResult<()> {
    let due = lanes.iter().filter_map(|lane| plan(workload, lane.index).ok()?.lines_from(lane.before.lines_total).due_nanos()).min();
    let clock = Clock { started: Instant::now(), speed, origin_nanos: due.unwrap_or(0) };
    let mut tasks = JoinSet::new();
    for lane in lanes {
        let (workload, handle, index, before) = (Arc::clone(workload), lane.handle.clone(), lane.index, lane.before);
        tasks.spawn(async move {
            let plan = plan(&workload, index)?;
            check_history(plan, before, &handle)?;
            pay(plan.lines_from(before.lines_total), &handle, &clock).await
        });
    }
    let mut tally = tokio::time::interval(TALLY_INTERVAL);
    loop {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                Some(ended) => joined(ended)??,
                None => break,
            },
            _ = tally.tick() => bring_up_to_date(progress, clients, lanes),
        }
    }
    bring_up_to_date(progress, clients, lanes);
    Ok(())
}

fn bring_up_to_date(progress: &ReplayProgress, clients: &[Client], lanes: &[Lane]) {
    let counters = clients.iter().map(Client::counters);
    let (reconnects, resent) = counters.fold((0, 0), |(reconnects, resent), counters| {
        (counters.reconnects.saturating_add(reconnects), counters.frames_resent.saturating_add(resent))
    });
    progress.set_connection(reconnects, resent);
    progress.set_paid(paid_nanos(lanes));
}

fn plan(workload: &Workload, index: u32) -> CliResult<&ChannelPlan> {
    let position = usize::try_from(index).unwrap_or(usize::MAX);
    workload
        .channels
        .get(position)
        .ok_or_else(|| CliError::failed("internal", format!("no channel {index} in the workload")))
}

/// A channel that stands at a line must have paid what the workload costs up to there.
fn check_history(plan: &ChannelPlan, before: Totals, handle: &ChannelHandle) -> CliResult<()> {
    let expected = u128::from(plan.cost_of(before.lines_total));
    if before.lines_total > plan.lines || expected == before.cumulative.units() {
        return Ok(());
    }
    let message = format!(
        "channel {} has paid {} nanos with {} payments, where this replay would have paid {expected}",
        handle.id(),
        before.cumulative,
        before.lines_total
    );
    Err(CliError::check_failed("replay_differs", message).hint("something else paid on the replay's channel: choose another --seed"))
}

async fn pay(mut lines: Lines<'_>, handle: &ChannelHandle, clock: &Clock) -> CliResult<()> {
    let mut slice = Vec::with_capacity(SLICE_LINES);
    while let Some(due) = lines.due_nanos() {
        tokio::time::sleep_until(clock.instant(due)).await;
        slice.clear();
        lines.take_due(clock.now_nanos().max(due), SLICE_LINES, &mut slice);
        within(handle, handle.pay_lines(&slice)).await??;
    }
    within(handle, handle.flush()).await??;
    Ok(())
}

/// Waits for the node, but not for ever.
async fn within<T>(handle: &ChannelHandle, waiting: impl Future<Output = T>) -> CliResult<T> {
    tokio::time::timeout(STALL_MAX, waiting).await.map_err(|_| {
        let message = format!("channel {} stood still for {} seconds", handle.id(), STALL_MAX.as_secs());
        CliError::unavailable("node_stalled", message).hint("run the same replay again when the node is back: it goes on where it stopped")
    })
}

/// What the channels' acks of this run come to.
fn paid_nanos(lanes: &[Lane]) -> u64 {
    let paid = lanes.iter().map(|lane| {
        let acked = lane.handle.position().acked.cumulative;
        acked.delta_since(lane.before.cumulative).map_or(0, |paid| paid.units())
    });
    u64::try_from(paid.sum::<u128>()).unwrap_or(u64::MAX)
}
