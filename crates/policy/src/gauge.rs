//! Counts over a moving window, for rates and breakers.

use millstream_types::{Amount, Timestamp};

/// Parts of a window that are counted apart.
const PARTS: u64 = 60;

/// How often and how much, by parts of time. A window is cut into at most 60 parts; the part in which it begins counts whole, so a gauge may see
/// a sixtieth too much and never sees too little (G-20).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gauge {
    /// How long a part is, at most.
    pub(crate) part_millis: u64,
    /// Beginning of the part, count, amount; in the order of time.
    pub(crate) parts: Vec<(u64, u64, Amount)>,
}

/// Milliseconds of one part.
fn part_millis(within_secs: u64) -> u64 {
    within_secs.saturating_mul(1_000).div_ceil(PARTS).max(1)
}

impl Gauge {
    /// Count and amount within the window that ends now.
    pub(crate) fn within(&self, now: Timestamp, within_secs: u64) -> (u64, Amount) {
        let begin = now.as_millis().saturating_sub(within_secs.saturating_mul(1_000));
        let parts = self.parts.iter().filter(|(start, ..)| start.saturating_add(self.part_millis) > begin);
        parts.fold((0, Amount::ZERO), |(count, sum), (_, more, amount)| {
            (count.saturating_add(*more), sum.checked_add(*amount).unwrap_or(Amount::from_units(u128::MAX)))
        })
    }

    /// Adds one, and forgets what the window does not reach any more.
    pub(crate) fn add(&mut self, now: Timestamp, within_secs: u64, amount: Amount) {
        let length = part_millis(within_secs);
        // After a change of the rule the longer parts count: rather too much than too little.
        self.part_millis = self.part_millis.max(length);
        let begin = now.as_millis().saturating_sub(within_secs.saturating_mul(1_000));
        let reach = self.part_millis;
        self.parts.retain(|(start, ..)| start.saturating_add(reach) > begin);
        let current = now.as_millis().saturating_sub(now.as_millis().checked_rem(length).unwrap_or(0));
        match self.parts.last_mut() {
            // A clock that went back counts with the newest.
            Some((start, count, sum)) if *start >= current => {
                *count = count.saturating_add(1);
                *sum = sum.checked_add(amount).unwrap_or(Amount::from_units(u128::MAX));
            }
            Some(_) | None => self.parts.push((current, 1, amount)),
        }
    }

    /// Whether no window reaches anything in it.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        let reach = self.part_millis.saturating_mul(PARTS.saturating_add(1));
        self.parts.iter().all(|(start, ..)| start.saturating_add(reach) < now.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_never_sees_less_than_there_was_and_little_more() {
        let (mut gauge, mut all, mut now) = (Gauge::default(), Vec::new(), 0u64);
        for step in 0..2_000u64 {
            now += step * 137 % 977;
            gauge.add(Timestamp::from_millis(now), 60, Amount::from_units(1));
            all.push(now);
            let (count, amount) = gauge.within(Timestamp::from_millis(now), 60);
            let within = |millis: u64| all.iter().filter(|at| **at > now.saturating_sub(millis)).count();
            let count_seen = usize::try_from(count).expect("small");
            assert!(count_seen >= within(60_000), "{now}");
            assert!(now < 61_000 || count_seen <= within(61_001), "{now}");
            assert_eq!(amount.units(), u128::from(count));
            assert!(gauge.parts.len() <= 62);
        }
        assert!(gauge.is_over(Timestamp::from_millis(10_000_000)));
    }
}
