//! Deleting the bills of old epochs, and the engine's one timer.
//!
//! An epoch is pruned when it was anchored for as long as the operator keeps bills, and every epoch before it is pruned: the chain anchors
//! epochs in their order, so the oldest is due first. Its record stays for ever, so that a chain that forgets the anchor can be told again.

use core::ops::Bound;

use millstream_types::{EpochId, Timestamp};

use crate::engine::Engine;
use crate::input::Effect;
use crate::record::Record;

/// Epochs that one tick prunes, at most.
const PRUNED_PER_TICK_MAX: usize = 64;

/// Milliseconds between two looks for epochs to prune.
const PRUNE_PAUSE_MILLIS: u64 = 1_000;

impl Engine {
    /// The newest epoch whose frames, leaves and index were deleted, with every one before it, and when that was.
    #[must_use]
    pub fn pruned(&self) -> Option<(EpochId, Timestamp)> {
        let epoch = self.pruned?;
        Some((epoch, self.epochs.get(&epoch)?.pruned_at?))
    }

    /// The oldest epoch that is not pruned, and from when on it may be.
    fn next_to_prune(&self) -> Option<(EpochId, Timestamp)> {
        let retention = self.config.retention_millis?;
        let after = self.pruned.map_or(Bound::Unbounded, Bound::Excluded);
        let (id, record) = self.epochs.range((after, Bound::Unbounded)).next()?;
        // Without a top its leaves are still needed.
        record.top.and(record.anchored_at).map(|at| (*id, at.plus_millis(retention)))
    }

    /// Prunes what is due by this machine's clock and by the chain's: a clock that is ahead must not delete what is wanted still.
    pub(crate) fn prune(&mut self, now: Timestamp, chain_time: Timestamp, effects: &mut Vec<Effect>) {
        let mut through = None;
        for _ in 0..PRUNED_PER_TICK_MAX {
            let Some((id, _)) = self.next_to_prune().filter(|(_, due)| now.min(chain_time) >= *due) else { break };
            let Some(record) = self.epochs.get_mut(&id) else { break };
            record.pruned_at = Some(now);
            self.pruned = Some(id);
            through = Some(id);
            effects.push(Effect::Put(Record::Epoch(*record)));
        }
        if let Some(through) = through {
            effects.push(Effect::DeleteThrough(through));
            effects.push(Effect::ReclaimThrough(through));
        }
        self.wake_to_prune(now, effects);
    }

    pub(crate) fn wake_to_prune(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if let Some((_, due)) = self.next_to_prune() {
            // Due here and not on the chain, or more than one tick prunes: soon.
            self.wake(now, if due > now { due } else { now.plus_millis(PRUNE_PAUSE_MILLIS) }, effects);
        }
    }

    /// Asks for a tick at a moment, unless one is coming before it: that one will ask again. So there is one timer, not one for each epoch.
    pub(crate) fn wake(&mut self, now: Timestamp, at: Timestamp, effects: &mut Vec<Effect>) {
        // A tick that should have come by now is not waited for: a clock that was set back may have lost it.
        if self.waking_at.is_none_or(|waking| at < waking || waking <= now) {
            self.waking_at = Some(at);
            effects.push(Effect::WakeAt(at));
        }
    }
}
