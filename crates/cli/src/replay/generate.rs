//! A workload without a trace: requests of the shape of production chat traffic, from a seed.
//!
//! A ChaCha12 stream (key: SHA-256 of `millstream replay generator/1` and the 64-bit seed, big-endian; nonce 0), taken 32 bits at a
//! time, gives for each request in turn:
//!
//! 1. the time since the request before, exponentially distributed with a mean of 186 ms, exact to 2^-32 of the mean, by von Neumann's
//!    method: no floating-point number is involved, so the sequence is the same on every machine;
//! 2. the context tokens, and 3. the generated tokens: an octave by the weights below, then a number in it, each as likely. The means
//!    are about 1,190 and 200 tokens.
//!
//! The sequence does not depend on how much of it is asked for.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

use super::trace::Request;

/// Mean time between requests: about 5.4 requests a second.
const MEAN_GAP_NANOS: u64 = 186_000_000;

/// Percent of the requests whose context has 2^n to 2^(n+1) - 1 tokens, from n = 4.
const CONTEXT_OCTAVES: Octaves = Octaves { first: 4, percent: &[1, 1, 2, 12, 26, 12, 33, 11, 2] };

/// Percent of the requests that generate 2^n to 2^(n+1) - 1 tokens, from n = 3.
const GENERATED_OCTAVES: Octaves = Octaves { first: 3, percent: &[1, 3, 11, 37, 17, 29, 2] };

struct Octaves {
    first: u32,
    percent: &'static [u32],
}

/// The requests of a seed, without end.
#[derive(Clone, Debug)]
pub struct Generator {
    random: ChaCha12Rng,
    at_nanos: u64,
    started: bool,
}

impl Generator {
    /// The requests of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let key = Sha256::new().chain_update("millstream replay generator/1").chain_update(seed.to_be_bytes()).finalize();
        Self { random: ChaCha12Rng::from_seed(key.into()), at_nanos: 0, started: false }
    }

    /// An exponential variate of mean [`MEAN_GAP_NANOS`] (J. von Neumann, "Various techniques used in connection with random
    /// digits", 1951): the length of the first descending run of uniform numbers decides whether to keep its first.
    fn gap_nanos(&mut self) -> u64 {
        let mut whole = 0u64;
        loop {
            let first = self.random.next_u32();
            let (mut last, mut run) = (first, 1u32);
            loop {
                let next = self.random.next_u32();
                if next >= last {
                    break;
                }
                (last, run) = (next, run + 1);
            }
            if run % 2 == 1 {
                // Below 2^28 · 2^32.
                return whole * MEAN_GAP_NANOS + ((MEAN_GAP_NANOS * u64::from(first)) >> 32);
            }
            whole += 1;
        }
    }

    /// A number below `bound`, each as likely to one part in 2^32.
    fn below(&mut self, bound: u32) -> u32 {
        let product = u64::from(self.random.next_u32()) * u64::from(bound);
        u32::try_from(product >> 32).unwrap_or_default()
    }

    fn tokens(&mut self, octaves: &Octaves) -> u32 {
        let mut percent = self.below(100);
        let mut octave = octaves.first;
        for weight in octaves.percent {
            if percent < *weight {
                break;
            }
            percent -= weight;
            octave += 1;
        }
        (1 << octave) + self.below(1 << octave)
    }
}

impl Iterator for Generator {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        let gap = self.gap_nanos();
        // The first request is at 0, as in a trace.
        if self.started {
            self.at_nanos = self.at_nanos.saturating_add(gap);
        }
        self.started = true;
        let context_tokens = self.tokens(&CONTEXT_OCTAVES);
        let generated_tokens = self.tokens(&GENERATED_OCTAVES);
        Some(Request { at_nanos: self.at_nanos, context_tokens, generated_tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_are_percent() {
        for octaves in [CONTEXT_OCTAVES, GENERATED_OCTAVES] {
            assert_eq!(octaves.percent.iter().sum::<u32>(), 100);
        }
    }

    #[test]
    fn a_seed_is_one_sequence() {
        let take = |seed| Generator::new(seed).take(200).collect::<Vec<_>>();
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
        let first: Vec<_> = take(7).into_iter().take(3).map(|r| (r.at_nanos, r.context_tokens, r.generated_tokens)).collect();
        assert_eq!(first, PINNED);
    }

    /// Pinned: a replay that was started with one release resumes with another.
    const PINNED: [(u64, u32, u32); 3] = [(0, 1_700, 39), (263_349_337, 708, 341), (413_435_189, 340, 47)];

    #[test]
    fn the_shape_is_as_documented() {
        let requests: Vec<_> = Generator::new(42).take(20_000).collect();
        let mean = |sum: u64| sum / 20_000;
        let context = mean(requests.iter().map(|request| u64::from(request.context_tokens)).sum());
        let generated = mean(requests.iter().map(|request| u64::from(request.generated_tokens)).sum());
        let gap_millis = requests.last().expect("some").at_nanos / 19_999 / 1_000_000;
        assert!((1_150..=1_230).contains(&context), "{context}");
        assert!((195..=207).contains(&generated), "{generated}");
        assert!((180..=192).contains(&gap_millis), "{gap_millis}");
        assert!(requests.is_sorted_by_key(|request| request.at_nanos));
    }
}
