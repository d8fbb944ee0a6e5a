//! The chain's time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_types::Timestamp;

/// The time of the chain's newest block, told by whoever reads the chain. It never goes back, and is the epoch's beginning until somebody
/// tells it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ChainClock(Arc<AtomicU64>);

impl ChainClock {
    /// There is a block of this time.
    pub fn saw(&self, block_time: Timestamp) {
        self.0.fetch_max(block_time.as_millis(), Ordering::Relaxed);
    }

    /// The latest time that was told.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_never_goes_back() {
        let (clock, at) = (ChainClock::default(), Timestamp::from_millis);
        let other = clock.clone();
        clock.saw(at(5));
        other.saw(at(3));
        assert_eq!((clock.now(), other.now()), (at(5), at(5)));
    }
}
