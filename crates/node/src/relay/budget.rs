//! What relaying may cost: sums over the last hour and the last day, for everybody, for each funder and for each network address.
//!
//! What is promised counts from the moment of the promise, at its highest; what was spent replaces it. A clock that is set back makes an entry
//! count for longer, never for less.

use std::collections::BTreeMap;
use std::net::IpAddr;

use millstream_types::{Address, Timestamp};
use millstream_wire::{ErrorCode, Refused};

use super::RelayId;
use crate::config::RelaySection;

const HOUR_MILLIS: u64 = 3_600_000;
pub(super) const DAY_MILLIS: u64 = 24 * HOUR_MILLIS;

/// Wei in a gwei.
pub(super) const GWEI: u128 = 1_000_000_000;

/// Requests of one address that the chain was asked about and that were refused, in an hour.
const REFUSED_HOUR_MAX: u32 = 60;

/// Addresses whose refused requests are counted: beyond it nobody's are judged until the hour is over.
const PEERS_MAX: usize = 65_536;

/// A network address as it is counted: an IPv4 address, or the first 64 bits of an IPv6 address, all of which one subscriber has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Peer(pub(super) [u8; 16]);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => {
                let mut octets = address.octets();
                octets[8..].fill(0);
                Self(octets)
            }
        }
    }
}

/// One relayed deposit, as budgets see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    pub(super) at: Timestamp,
    pub(super) funder: Address,
    pub(super) peer: Peer,
    /// Promised at most, or spent.
    pub(super) wei: u128,
    pub(super) reverted: bool,
}

/// What was promised and spent in the last day, and who was refused in this hour.
#[derive(Debug, Default)]
pub(super) struct Spending {
    spent: BTreeMap<RelayId, Spent>,
    refused: BTreeMap<Peer, u32>,
    refused_since: Option<Timestamp>,
}

/// Who a sum is over.
#[derive(Clone, Copy)]
enum Of {
    All,
    Funder(Address),
    Peer(Peer),
}

impl Spending {
    pub(super) fn put(&mut self, id: RelayId, spent: Spent) {
        self.spent.insert(id, spent);
    }

    pub(super) fn forget(&mut self, id: RelayId) {
        self.spent.remove(&id);
    }

    /// In the last hour, and in the last day, in wei.
    pub(super) fn totals(&self, now: Timestamp) -> (u128, u128) {
        let sum = |window| self.within(now, window, Of::All).map(|spent| spent.wei).fold(0, u128::saturating_add);
        (sum(HOUR_MILLIS), sum(DAY_MILLIS))
    }

    /// How many in the last day, and how many of them reverted.
    pub(super) fn counts(&self, now: Timestamp) -> (usize, usize) {
        let day = || self.within(now, DAY_MILLIS, Of::All);
        (day().count(), day().filter(|spent| spent.reverted).count())
    }

    /// Whether `wei` may be promised now.
    ///
    /// # Errors
    /// The refusal: the first limit that stands against it.
    pub(super) fn judge(&self, section: &RelaySection, now: Timestamp, funder: Address, peer: Peer, wei: u128) -> Result<(), Refused> {
        let gwei = |gwei: u64| u128::from(gwei) * GWEI;
        let reverts = |spent: &Spent| u128::from(spent.reverted);
        let (cost, one) = (|spent: &Spent| spent.wei, |_: &Spent| 1);
        let (budget, quota) = (ErrorCode::RelayBudgetSpent, ErrorCode::RelayQuotaSpent);
        let (of_funder, of_peer) = (Of::Funder(funder), Of::Peer(peer));
        self.room(now, DAY_MILLIS, of_funder, reverts, section.reverts_day_max.into(), 1, quota)?;
        self.room(now, DAY_MILLIS, of_peer, reverts, section.reverts_day_max.into(), 1, quota)?;
        self.room(now, DAY_MILLIS, of_funder, cost, gwei(section.funder_day_gwei_max), wei, quota)?;
        self.room(now, DAY_MILLIS, of_peer, cost, gwei(section.peer_day_gwei_max), wei, quota)?;
        self.room(now, DAY_MILLIS, Of::All, one, section.day_relays_max.into(), 1, budget)?;
        self.room(now, HOUR_MILLIS, Of::All, cost, gwei(section.hour_gwei_max), wei, budget)?;
        self.room(now, DAY_MILLIS, Of::All, cost, gwei(section.day_gwei_max), wei, budget)
    }

    /// Whether `more` fits under `max` beside what there is in the window; otherwise when it will.
    #[allow(clippy::too_many_arguments, reason = "a window, a sum and what to answer")]
    fn room(
        &self,
        now: Timestamp,
        window: u64,
        of: Of,
        measure: impl Fn(&Spent) -> u128,
        max: u128,
        more: u128,
        code: ErrorCode,
    ) -> Result<(), Refused> {
        let mut within: Vec<(Timestamp, u128)> = self.within(now, window, of).map(|spent| (spent.at, measure(spent))).collect();
        within.sort_unstable();
        let mut sum = within.iter().map(|(_, measured)| *measured).fold(more, u128::saturating_add);
        let mut wait_millis = 0;
        for (at, measured) in within {
            if sum <= max {
                break;
            }
            sum = sum.saturating_sub(measured);
            wait_millis = at.plus_millis(window).millis_since(now);
        }
        if sum > max {
            // More than there is when nothing else is spent.
            return Err(Refused::new(ErrorCode::RelayTooCostly));
        }
        if wait_millis == 0 {
            return Ok(());
        }
        let retry_after_secs = u32::try_from(wait_millis.div_ceil(1_000)).unwrap_or(u32::MAX);
        Err(Refused { retry_after_secs, ..Refused::new(code) })
    }

    fn within(&self, now: Timestamp, window: u64, of: Of) -> impl Iterator<Item = &Spent> {
        let is_meant = move |spent: &&Spent| match of {
            Of::All => true,
            Of::Funder(funder) => spent.funder == funder,
            Of::Peer(peer) => spent.peer == peer,
        };
        self.spent.values().filter(move |spent| now.millis_since(spent.at) < window).filter(is_meant)
    }

    /// Whether the chain may be asked for a request of this address.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn may_ask(&mut self, now: Timestamp, peer: Peer) -> Result<(), Refused> {
        let since = *self.refused_since.get_or_insert(now);
        if now.millis_since(since) >= HOUR_MILLIS {
            self.refused.clear();
            self.refused_since = Some(now);
        }
        let (code, is_full) = match self.refused.get(&peer) {
            Some(refused) => (ErrorCode::RelayQuotaSpent, *refused >= REFUSED_HOUR_MAX),
            None => (ErrorCode::Overloaded, self.refused.len() >= PEERS_MAX),
        };
        let left = HOUR_MILLIS.saturating_sub(now.millis_since(since)).div_ceil(1_000);
        let retry_after_secs = u32::try_from(left).unwrap_or(u32::MAX);
        if is_full { Err(Refused { retry_after_secs, ..Refused::new(code) }) } else { Ok(()) }
    }

    /// A request of this address was refused after the chain was asked.
    pub(super) fn refused(&mut self, peer: Peer) {
        let refused = self.refused.entry(peer).or_insert(0);
        *refused = refused.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_millis(100 * DAY_MILLIS + minutes * MINUTE)
    }

    fn funder(byte: u8) -> Address {
        Address::from_bytes([byte; 20])
    }

    fn peer(byte: u8) -> Peer {
        Peer::from(IpAddr::from([10, 0, 0, byte]))
    }

    fn section() -> RelaySection {
        RelaySection {
            hour_gwei_max: 100,
            day_gwei_max: 300,
            funder_day_gwei_max: 60,
            peer_day_gwei_max: 80,
            day_relays_max: 8,
            reverts_day_max: 2,
            ..RelaySection::default()
        }
    }

    /// `spent`: minute, funder, peer, gwei, reverted. Then a request: minute, funder, peer, gwei.
    #[test]
    fn each_limit_stands_by_itself_and_passes_with_its_window() {
        type Row = (u64, u8, u8, u64, bool);
        let check = |what: &str, spent: &[Row], asked: (u64, u8, u8, u64), expected: Result<(), (ErrorCode, u32)>| {
            let mut spending = Spending::default();
            for (index, (minute, by, from, gwei, reverted)) in spent.iter().enumerate() {
                let wei = u128::from(*gwei) * GWEI;
                let spent = Spent { at: at(*minute), funder: funder(*by), peer: peer(*from), wei, reverted: *reverted };
                spending.put(RelayId([u8::try_from(index).expect("few"); 32]), spent);
            }
            let (minute, by, from, gwei) = asked;
            let judged = spending.judge(&section(), at(minute), funder(by), peer(from), u128::from(gwei) * GWEI);
            assert_eq!(judged.map_err(|refused| (refused.code, refused.retry_after_secs)), expected, "{what}");
        };
        let (budget, quota, costly) = (ErrorCode::RelayBudgetSpent, ErrorCode::RelayQuotaSpent, ErrorCode::RelayTooCostly);
        check("nothing spent", &[], (0, 1, 1, 60), Ok(()));
        check("more than a funder ever has", &[], (0, 1, 1, 61), Err((costly, 0)));
        check("the funder's day is full", &[(0, 1, 1, 30, false)], (10, 1, 2, 31), Err((quota, 86_400 - 600)));
        check("to the last gwei", &[(0, 1, 1, 30, false)], (10, 1, 2, 30), Ok(()));
        check("a day later", &[(0, 1, 1, 30, false)], (1_440, 1, 2, 31), Ok(()));
        check("the address's day is full", &[(0, 1, 1, 40, false)], (10, 2, 1, 41), Err((quota, 86_400 - 600)));
        check("the hour is full", &[(0, 1, 1, 50, false), (5, 2, 2, 30, false)], (10, 3, 3, 21), Err((budget, 3_000)));
        check("the later of two has to pass", &[(0, 1, 1, 50, false), (5, 2, 2, 50, false)], (10, 3, 3, 51), Err((budget, 3_300)));
        check("an hour later", &[(0, 1, 1, 50, false), (5, 2, 2, 50, false)], (61, 3, 3, 50), Ok(()));
        let day: Vec<Row> = (0u8..6).map(|index| (u64::from(index) * 100, index, index, 48, false)).collect();
        check("the day is full", &day, (700, 9, 9, 13), Err((budget, (1_440 - 700) * 60)));
        let many: Vec<Row> = (0u8..8).map(|index| (u64::from(index), index, index, 1, false)).collect();
        check("the day's number", &many, (700, 9, 9, 1), Err((budget, (1_440 - 700) * 60)));
        let reverted = [(0, 1, 1, 1, true), (1, 1, 2, 1, true)];
        check("reverted twice", &reverted, (10, 1, 3, 1), Err((quota, (1_440 - 10) * 60)));
        check("another funder", &reverted, (10, 2, 3, 1), Ok(()));
        check("reverted twice from one address", &[(0, 1, 1, 1, true), (1, 2, 1, 1, true)], (10, 3, 1, 1), Err((quota, (1_440 - 10) * 60)));
        check("a clock that was set back", &[(100, 1, 1, 60, false)], (10, 1, 2, 1), Err((quota, (1_440 + 90) * 60)));
    }

    #[test]
    fn addresses_are_counted_as_subscribers_have_them() {
        let peer = |text: &str| Peer::from(text.parse::<IpAddr>().expect(text));
        assert_eq!(peer("10.0.0.1"), peer("::ffff:10.0.0.1"));
        assert_ne!(peer("10.0.0.1"), peer("10.0.0.2"));
        assert_eq!(peer("2001:db8:0:1::1"), peer("2001:db8:0:1:ffff::2"));
        assert_ne!(peer("2001:db8:0:1::1"), peer("2001:db8:0:2::1"));
    }

    #[test]
    fn who_is_refused_too_often_waits_for_the_hour_to_end() {
        let mut spending = Spending::default();
        for _ in 0..REFUSED_HOUR_MAX {
            assert_eq!(spending.may_ask(at(0), peer(1)), Ok(()));
            spending.refused(peer(1));
        }
        let refused = spending.may_ask(at(20), peer(1)).expect_err("too often");
        assert_eq!((refused.code, refused.retry_after_secs), (ErrorCode::RelayQuotaSpent, 2_400));
        assert_eq!(spending.may_ask(at(20), peer(2)), Ok(()));
        assert_eq!(spending.may_ask(at(60), peer(1)), Ok(()));
    }
}
