//! Names of requests: `req_` and 26 characters of Crockford's base 32, 48 bits of time and 80 bits of chance, as ULIDs are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;

use crate::port::RequestId;

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl RequestId {
    /// A new one.
    pub(crate) fn new() -> Self {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        let mut chance = [0; 16];
        if getrandom::fill(&mut chance[6..]).is_err() {
            // Without entropy it is still unique in this process.
            static COUNT: AtomicU64 = AtomicU64::new(0);
            chance[8..].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        }
        chance[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        let mut value = u128::from_be_bytes(chance);
        let mut text = [0; 26];
        for digit in text.iter_mut().rev() {
            *digit = DIGITS[usize::try_from(value & 31).unwrap_or(0)];
            value >>= 5;
        }
        Self(format!("req_{}", String::from_utf8_lossy(&text)).into())
    }

    pub(crate) fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(self.as_str()).unwrap_or(HeaderValue::from_static("req_"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_and_sort_by_time() {
        let ids: Vec<RequestId> = (0..100).map(|_| RequestId::new()).collect();
        let distinct: std::collections::BTreeSet<&RequestId> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        let times: Vec<&str> = ids.iter().map(|id| &id.as_str()[4..14]).collect();
        assert!(times.is_sorted());
        assert!(ids.iter().all(|id| id.as_str().len() == 30));
    }
}
