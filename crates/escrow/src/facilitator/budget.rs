//! What may be spent for others: sums over the last day, for everybody, for each caller, each payer and each receiver.
//!
//! What is promised counts from the moment of the promise, at its highest; what was spent replaces it. A clock that is set back makes an entry
//! count for longer, never for less.

use std::collections::BTreeMap;
use std::net::IpAddr;

use millstream_gateway::facilitator::{Caller, FacilitatorGasSection};
use millstream_types::{Address, Timestamp};

use super::record::WorkId;

pub(super) const DAY_MILLIS: u64 = 24 * 3_600_000;
/// Wei in a gwei.
pub(super) const GWEI: u128 = 1_000_000_000;

/// Who asked, as budgets and records have it: a key's name, or an address (of IPv6 the first 64 bits) without a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CallerId {
    Key(Box<str>),
    Address([u8; 16]),
}

impl From<&Caller> for CallerId {
    fn from(caller: &Caller) -> Self {
        match (&caller.key, caller.address.to_canonical()) {
            (Some(key), _) => Self::Key(key.name.as_ref().into()),
            (None, IpAddr::V4(address)) => Self::Address(address.to_ipv6_mapped().octets()),
            (None, IpAddr::V6(address)) => {
                let mut octets = address.octets();
                octets[8..].fill(0);
                Self::Address(octets)
            }
        }
    }
}

/// One transaction, as budgets see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) at: Timestamp,
    pub(super) caller: CallerId,
    pub(super) payer: Option<Address>,
    pub(super) receiver: Option<Address>,
    /// Promised at most, or spent.
    pub(super) wei: u128,
    pub(super) reverted: bool,
}

/// Which limit stands against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Limit {
    #[error("as many transactions were sent in a day as may be")]
    Transactions,
    #[error("the day's gas is spent")]
    Day,
    #[error("the caller's gas for a day is spent")]
    Caller,
    #[error("the payer's gas for a day is spent")]
    Payer,
    #[error("the receiver's gas for a day is spent")]
    Receiver,
    #[error("too many transactions reverted in a day")]
    Reverts,
}

/// What was promised and spent in the last day.
#[derive(Debug, Default)]
pub(super) struct Spending(BTreeMap<WorkId, Spent>);

impl Spending {
    pub(super) fn put(&mut self, id: WorkId, spent: Spent) {
        self.0.insert(id, spent);
    }

    pub(super) fn forget(&mut self, id: WorkId) {
        self.0.remove(&id);
    }

    /// Whether `asked` may be promised.
    ///
    /// # Errors
    /// The first limit that stands against it.
    pub(super) fn judge(&self, gas: &FacilitatorGasSection, asked: &Spent) -> Result<(), Limit> {
        let mut all = (0u32, asked.wei);
        // Who is not there has no limit: a sweep has no payer.
        let of = |account: Option<Address>| (0u32, account.map_or(0, |_| asked.wei));
        let (mut caller, mut payer, mut receiver) = ((0u32, asked.wei), of(asked.payer), of(asked.receiver));
        let within = self.0.values().filter(|spent| asked.at.millis_since(spent.at) < DAY_MILLIS);
        for spent in within {
            let add = |(reverts, wei): &mut (u32, u128)| {
                *reverts = reverts.saturating_add(u32::from(spent.reverted));
                *wei = wei.saturating_add(spent.wei);
            };
            all = (all.0.saturating_add(1), all.1.saturating_add(spent.wei));
            if spent.caller == asked.caller {
                add(&mut caller);
            }
            if spent.payer.is_some() && spent.payer == asked.payer {
                add(&mut payer);
            }
            if spent.receiver.is_some() && spent.receiver == asked.receiver {
                add(&mut receiver);
            }
        }
        let gwei = |gwei: u64| u128::from(gwei).saturating_mul(GWEI);
        let limits = [
            (all.0 >= gas.day_transactions_max, Limit::Transactions),
            ([caller.0, payer.0, receiver.0].into_iter().any(|reverts| reverts >= gas.reverts_day_max), Limit::Reverts),
            (caller.1 > gwei(gas.key_day_gwei_max), Limit::Caller),
            (payer.1 > gwei(gas.payer_day_gwei_max), Limit::Payer),
            (receiver.1 > gwei(gas.receiver_day_gwei_max), Limit::Receiver),
            (all.1 > gwei(gas.day_gwei_max), Limit::Day),
        ];
        limits.into_iter().find(|(stands, _)| *stands).map_or(Ok(()), |(_, limit)| Err(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `spent`: hour, caller, payer, receiver, gwei, reverted. Then what is asked: hour, caller, payer, receiver, gwei.
    #[test]
    fn each_limit_stands_by_itself_and_passes_with_its_day() {
        type Row = (u64, u8, u8, u8, u64, bool);
        let gas = FacilitatorGasSection {
            day_gwei_max: 300,
            key_day_gwei_max: 100,
            payer_day_gwei_max: 60,
            receiver_day_gwei_max: 80,
            day_transactions_max: 6,
            reverts_day_max: 2,
            ..FacilitatorGasSection::default()
        };
        let account = |byte: u8| (byte != 0).then(|| Address::from_bytes([byte; 20]));
        let row = |(hour, caller, payer, receiver, gwei, reverted): Row| Spent {
            at: Timestamp::from_millis(DAY_MILLIS * 100 + hour * 3_600_000),
            caller: CallerId::Address([caller; 16]),
            payer: account(payer),
            receiver: account(receiver),
            wei: u128::from(gwei) * GWEI,
            reverted,
        };
        let id = |number: usize| WorkId::from_bytes([u8::try_from(number).expect("few"); 32]);
        let check = |what: &str, spent: &[Row], asked: (u64, u8, u8, u8, u64), expected: Result<(), Limit>| {
            let mut spending = Spending::default();
            for (number, spent) in spent.iter().enumerate() {
                spending.put(id(number), row(*spent));
            }
            let (hour, caller, payer, receiver, gwei) = asked;
            let asked = row((hour, caller, payer, receiver, gwei, false));
            assert_eq!(spending.judge(&gas, &asked), expected, "{what}");
        };
        check("nothing spent", &[], (0, 1, 1, 1, 60), Ok(()));
        check("more than a payer has in a day", &[], (0, 1, 1, 1, 61), Err(Limit::Payer));
        check("a sweep has no payer", &[], (0, 1, 0, 1, 80), Ok(()));
        check("nor do two sweeps have one", &[(0, 1, 0, 1, 40, false)], (1, 1, 0, 2, 60), Ok(()));
        check("the payer's day is full", &[(0, 1, 1, 1, 30, false)], (1, 2, 1, 2, 31), Err(Limit::Payer));
        check("to the last gwei", &[(0, 1, 1, 1, 30, false)], (1, 2, 1, 2, 30), Ok(()));
        check("a day later", &[(0, 1, 1, 1, 30, false)], (24, 2, 1, 2, 60), Ok(()));
        check("the receiver's", &[(0, 1, 1, 1, 50, false)], (1, 2, 2, 1, 31), Err(Limit::Receiver));
        check("the caller's", &[(0, 1, 1, 1, 60, false)], (1, 1, 2, 2, 41), Err(Limit::Caller));
        let many: Vec<Row> = (1..=5).map(|number| (0, number, number, number, 50, false)).collect();
        check("everybody's", &many, (1, 9, 9, 9, 51), Err(Limit::Day));
        let many: Vec<Row> = (1..=6).map(|number| (0, number, number, number, 1, false)).collect();
        check("their number", &many, (1, 9, 9, 9, 1), Err(Limit::Transactions));
        let reverted = [(0, 1, 1, 1, 1, true), (0, 2, 1, 2, 1, true)];
        check("reverts of a payer", &reverted, (1, 3, 1, 3, 1), Err(Limit::Reverts));
        check("of another", &reverted, (1, 3, 3, 3, 1), Ok(()));
        check("a clock that was set back", &[(10, 1, 1, 1, 60, false)], (1, 2, 1, 2, 1), Err(Limit::Payer));
    }
}
