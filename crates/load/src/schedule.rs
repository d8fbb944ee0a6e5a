//! When each frame of an open loop is meant to be sent: a fixed schedule that no answer can delay.

use crate::LoadError;

/// Nanoseconds of a second.
const SECOND: u128 = 1_000_000_000;

/// Frames at an even pace, dealt to the channels in turn: slot `n` is frame `n / channels` of channel `n % channels`. So channels of one
/// pace never fire in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    channels: u64,
    lines: u64,
    payments_per_second: u64,
}

impl Schedule {
    /// A schedule for `channels` channels, frames of `lines` payments, and so many payments a second over all channels.
    ///
    /// # Errors
    /// [`LoadError::Setting`] when one of them is zero.
    pub fn new(channels: usize, lines: usize, payments_per_second: u64) -> Result<Self, LoadError> {
        let at_least_one = |what, value: u64| {
            if value == 0 { Err(LoadError::Setting { what, min: 1, max: u64::MAX, actual: 0 }) } else { Ok(value) }
        };
        Ok(Self {
            channels: at_least_one("the number of channels", channels as u64)?,
            lines: at_least_one("the lines of a frame", lines as u64)?,
            payments_per_second: at_least_one("the rate", payments_per_second)?,
        })
    }

    /// Payments a second over all channels.
    #[must_use]
    pub const fn payments_per_second(&self) -> u64 {
        self.payments_per_second
    }

    /// Nanoseconds from the start at which a slot is meant to be sent. Every slot is computed from the start, so nothing drifts.
    #[must_use]
    pub fn slot_nanos(&self, slot: u64) -> u64 {
        let nanos = u128::from(slot) * u128::from(self.lines) * SECOND / u128::from(self.payments_per_second);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// The channel of a slot.
    #[must_use]
    pub const fn channel_of(&self, slot: u64) -> u64 {
        slot % self.channels
    }

    /// Nanoseconds from the start at which a frame of a channel is meant to be sent.
    #[must_use]
    pub fn intended_nanos(&self, channel: u64, frame: u64) -> u64 {
        self.slot_nanos(frame.saturating_mul(self.channels).saturating_add(channel))
    }

    /// Slots that are meant to be sent before `end` nanoseconds from the start.
    #[must_use]
    pub fn slots_before(&self, end: u64) -> u64 {
        // slot · lines · 10^9 / rate < end, rounded down on the left, holds exactly for slot · lines · 10^9 < end · rate.
        let slots = (u128::from(end) * u128::from(self.payments_per_second)).div_ceil(u128::from(self.lines) * SECOND);
        u64::try_from(slots).unwrap_or(u64::MAX)
    }

    /// Frames of one channel that are meant to be sent before `end` nanoseconds from the start.
    #[must_use]
    pub fn frames_before(&self, channel: u64, end: u64) -> u64 {
        let slots = self.slots_before(end);
        slots / self.channels + u64::from(slots % self.channels > channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_evenly_spread_and_channels_take_turns() {
        let schedule = Schedule::new(4, 64, 256_000).expect("no zero");
        // 4,000 frames a second, a quarter of a millisecond apart.
        assert_eq!((0..5).map(|slot| schedule.slot_nanos(slot)).collect::<Vec<_>>(), [0, 250_000, 500_000, 750_000, 1_000_000]);
        assert_eq!((0..5).map(|slot| schedule.channel_of(slot)).collect::<Vec<_>>(), [0, 1, 2, 3, 0]);
        assert_eq!(schedule.intended_nanos(2, 1), 1_500_000);
        assert_eq!(schedule.slots_before(1_000_000_000), 4_000);
    }

    #[test]
    fn counts_agree_with_times() {
        for (channels, lines, rate) in [(3, 7, 1_001), (1, 1, 3), (10_000, 64, 100_000), (5, 1_024, 999_983)] {
            let schedule = Schedule::new(channels, lines, rate).expect("no zero");
            for end in [0, 1, 999_999, 1_000_000_000, 2_345_678_901] {
                let slots = schedule.slots_before(end);
                assert!(slots == 0 || schedule.slot_nanos(slots - 1) < end, "{channels} {lines} {rate} {end}");
                assert!(schedule.slot_nanos(slots) >= end, "{channels} {lines} {rate} {end}");
                let frames: u64 = (0..channels as u64).map(|channel| schedule.frames_before(channel, end)).sum();
                assert_eq!(frames, slots, "{channels} {lines} {rate} {end}");
            }
        }
    }

    #[test]
    fn a_long_run_does_not_drift() {
        let schedule = Schedule::new(1, 3, 1_000_000).expect("no zero");
        assert_eq!(schedule.slot_nanos(1_000_000_000), 3_000_000_000_000);
    }

    #[test]
    fn nothing_is_no_schedule() {
        assert!(Schedule::new(0, 1, 1).is_err() && Schedule::new(1, 0, 1).is_err() && Schedule::new(1, 1, 0).is_err());
    }
}
