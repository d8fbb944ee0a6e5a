//! The clock of an open loop.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Run;
use crate::{LoadError, Schedule};

/// The longest sleep: a run that stops is noticed within it.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// Makes frames due at their times, on a thread of its own: the runtime's timer counts milliseconds, which is as long as an ack takes.
pub(super) fn spawn(run: Arc<Run>, schedule: Schedule, start: Instant) -> Result<(), LoadError> {
    let thread = std::thread::Builder::new().name("pacer".into());
    let spawned = thread.spawn(move || pace(&run, &schedule, start));
    spawned.map(drop).map_err(|error| LoadError::Internal { what: format!("cannot start the pacer: {error}") })
}

fn pace(run: &Run, schedule: &Schedule, start: Instant) {
    for slot in 0..schedule.slots_before(run.schedule_end) {
        let due = start + Duration::from_nanos(schedule.slot_nanos(slot));
        loop {
            if run.is_stopping() {
                return;
            }
            let wait = due.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            std::thread::sleep(wait.min(SLEEP_MAX));
        }
        if let Some(lane) = usize::try_from(schedule.channel_of(slot)).ok().and_then(|channel| run.lanes.get(channel)) {
            lane.due.fetch_add(1, Ordering::Release);
            lane.wake.notify_one();
        }
    }
}
