//! How often somebody may ask: a bucket for each key and for each address without one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Buckets that are kept. When there are more, those that are full again are forgotten; when none is, newcomers wait.
const BUCKETS_MAX: usize = 65_536;
const MINUTE_SECS: f64 = 60.0;

/// Who a bucket is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Key(Arc<str>),
    /// An IPv4 address, or the first 64 bits of an IPv6 address, all of which one subscriber has.
    Address([u8; 16]),
}

impl From<IpAddr> for Subject {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::Address(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => {
                let mut octets = address.octets();
                octets[8..].fill(0);
                Self::Address(octets)
            }
        }
    }
}

/// Tokens are fractions of requests: nothing of money.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
    minute_max: u32,
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let secs = now.saturating_duration_since(self.at).as_secs_f64();
        let max = f64::from(self.minute_max);
        self.tokens = (self.tokens + secs * max / MINUTE_SECS).min(max);
        self.at = now;
    }
}

/// The buckets.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<BTreeMap<Subject, Bucket>>);

impl Rates {
    /// Takes a request out of a subject's bucket.
    ///
    /// # Errors
    /// How long until there is one in it.
    pub(crate) fn take(&self, subject: Subject, minute_max: u32, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(&subject) && buckets.len() >= BUCKETS_MAX {
            buckets.retain(|_, bucket| {
                bucket.fill(now);
                bucket.tokens < f64::from(bucket.minute_max)
            });
            if buckets.len() >= BUCKETS_MAX {
                return Err(Duration::from_secs(60));
            }
        }
        let bucket = buckets.entry(subject).or_insert(Bucket { tokens: f64::from(minute_max), at: now, minute_max });
        bucket.minute_max = minute_max;
        bucket.fill(now);
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - bucket.tokens) * MINUTE_SECS / f64::from(minute_max.max(1));
        Err(Duration::try_from_secs_f64(wait).unwrap_or(Duration::from_secs(60)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_emptied_and_fills_again() {
        let (rates, start) = (Rates::default(), Instant::now());
        let (ours, theirs) = (Subject::Key("shop".into()), Subject::from(IpAddr::from([10, 0, 0, 1])));
        for _ in 0..6 {
            assert_eq!(rates.take(ours.clone(), 6, start), Ok(()));
        }
        let wait = rates.take(ours.clone(), 6, start).expect_err("empty");
        assert_eq!(wait.as_secs(), 10);
        assert_eq!(rates.take(theirs, 6, start), Ok(()), "each has its own");
        assert_eq!(rates.take(ours.clone(), 6, start + Duration::from_secs(11)), Ok(()));
        assert!(rates.take(ours.clone(), 6, start + Duration::from_secs(11)).is_err());
        // It holds a minute's requests and not more.
        let later = start + Duration::from_secs(3_600);
        for _ in 0..6 {
            assert_eq!(rates.take(ours.clone(), 6, later), Ok(()));
        }
        assert!(rates.take(ours, 6, later).is_err());
    }

    #[test]
    fn addresses_are_counted_as_subscribers_have_them() {
        let subject = |text: &str| Subject::from(text.parse::<IpAddr>().expect(text));
        assert_eq!(subject("10.0.0.1"), subject("::ffff:10.0.0.1"));
        assert_ne!(subject("10.0.0.1"), subject("10.0.0.2"));
        assert_eq!(subject("2001:db8:0:1::1"), subject("2001:db8:0:1:ffff::2"));
        assert_ne!(subject("2001:db8:0:1::1"), subject("2001:db8:0:2::1"));
    }

    #[test]
    fn newcomers_wait_when_nobody_can_be_forgotten() {
        let (rates, now) = (Rates::default(), Instant::now());
        for number in 0..BUCKETS_MAX {
            let [_, _, _, _, _, b, c, d] = (number as u64).to_be_bytes();
            assert_eq!(rates.take(Subject::from(IpAddr::from([10, b, c, d])), 2, now), Ok(()));
        }
        let newcomer = Subject::from(IpAddr::from([11, 0, 0, 1]));
        assert!(rates.take(newcomer.clone(), 2, now).is_err());
        assert_eq!(rates.take(newcomer, 2, now + Duration::from_secs(60)), Ok(()));
    }
}
