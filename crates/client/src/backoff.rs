//! Growing pauses.

use std::time::Duration;

use crate::BackoffOptions;

/// The pauses of one series of attempts.
#[derive(Debug)]
pub(crate) struct Backoff {
    options: BackoffOptions,
    attempts: u32,
}

impl Backoff {
    pub(crate) const fn new(options: BackoffOptions) -> Self {
        Self { options, attempts: 0 }
    }

    /// An attempt succeeded: the next series starts short.
    pub(crate) const fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The pause before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let full = self.options.first.saturating_mul(1u32.checked_shl(self.attempts).unwrap_or(u32::MAX)).min(self.options.longest);
        self.attempts = self.attempts.saturating_add(1);
        // Without randomness from the system the pause is just not cut.
        let random = getrandom::u32().unwrap_or(0);
        full - full.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_are_cut_by_at_most_half() {
        let options = BackoffOptions { first: Duration::from_millis(8), longest: Duration::from_millis(50) };
        let mut backoff = Backoff::new(options);
        for millis in [8, 16, 32, 50, 50, 50] {
            let pause = backoff.next();
            let full = Duration::from_millis(millis);
            assert!(pause <= full && pause >= full / 2, "{pause:?} of {full:?}");
        }
        for _ in 0..100 {
            assert!(backoff.next() <= options.longest);
        }
        backoff.reset();
        assert!(backoff.next() <= options.first);
    }
}
