//! Which rows are claimed now, and in which transactions. No clock, no chain: everything comes as an argument.

use millstream_node::GasTerms;
use millstream_types::{Amount, AssetUnit, EscrowChannelId, Timestamp};

use super::contract::Row;
use super::kept::ROWS_BYTES_MAX;
use super::section::ClaimSection;

/// Gas of a claim besides its rows, and of each row, calldata included.
const CLAIM_FIXED_GAS: u64 = 60_000;
const CLAIM_ROW_GAS: u64 = 24_000;

/// Gas of a sweep.
const SWEEP_GAS: u64 = 70_000;

/// What the submitter adds to an estimate, in percent: bounds of gas hold with it.
const GAS_MARGIN_PERCENT: u64 = 125;

/// What can be claimed on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owed {
    pub(super) row: Row,
    /// What of the row's total is new, in base units.
    pub(super) gain: Amount,
    /// When the payer can take it away, if it is leaving.
    pub(super) deadline: Option<Timestamp>,
}

/// Why a round is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Payers are leaving; nothing else is due.
    Leaving,
    /// The interval is over.
    Interval,
    /// Too much is unclaimed.
    Risk,
    /// The operator asked.
    Asked,
}

/// What values and gas come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Market {
    /// The token's.
    pub(super) unit: AssetUnit,
    pub(super) gas: GasTerms,
    pub(super) wei_per_gas: u128,
}

/// The rows of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) rows: Vec<Row>,
    /// Their payers are leaving.
    pub(super) is_urgent: bool,
}

impl Market {
    fn wei(&self, gas: u64) -> u128 {
        self.wei_per_gas.saturating_mul(gas.into())
    }

    /// Whether so much, in base units, is worth a sweep.
    pub(super) fn pays_for_sweep(&self, due: Amount) -> bool {
        self.gas.pay(self.unit.nanos_down(due), self.wei(SWEEP_GAS))
    }
}

impl Occasion {
    /// Whether a row is looked at more closely. One whose payer is leaving always is.
    pub(super) fn concerns(self, row_min: Amount, gain: Amount, deadline: Option<Timestamp>) -> bool {
        let is_due = match self {
            Self::Leaving => false,
            Self::Interval | Self::Risk => gain >= row_min,
            Self::Asked => true,
        };
        is_due || deadline.is_some()
    }
}

/// The least that a row has to bring at an interval, in base units.
pub(super) fn row_min(section: &ClaimSection, unit: AssetUnit) -> Amount {
    match unit.base_units_down(Amount::from_nanos(section.row_min_nanos)) {
        Ok((whole, rest)) => Amount::from_units(if rest.is_zero() { whole } else { whole.saturating_add(1) }),
        Err(_) => Amount::from_units(u128::MAX),
    }
}

/// The transactions of a round: rows of payers who are leaving first, by their deadlines, then the most valuable ones. `batch_max` says of a
/// row in how large a batch it may be.
pub(super) fn plan(
    owed: Vec<Owed>,
    occasion: Occasion,
    section: &ClaimSection,
    market: Market,
    batch_max: impl Fn(&EscrowChannelId) -> usize,
) -> Vec<Batch> {
    let row_wei = market.wei(CLAIM_ROW_GAS);
    let (mut urgent, mut others): (Vec<Owed>, Vec<Owed>) = owed.into_iter().partition(|owed| owed.deadline.is_some());
    // Whatever its size above gas: what it brings is all that there is to lose.
    urgent.retain(|owed| !market.gas.weighs() || market.unit.nanos_down(owed.gain) > market.gas.cost_up(row_wei));
    others.retain(|owed| match occasion {
        Occasion::Leaving => false,
        Occasion::Interval => market.gas.pay(market.unit.nanos_down(owed.gain), row_wei),
        Occasion::Risk | Occasion::Asked => true,
    });
    let by_value = |owed: &Owed| (core::cmp::Reverse(batch_max(&owed.row.channel)), core::cmp::Reverse(owed.gain), owed.row.channel);
    urgent.sort_by_cached_key(|owed| (owed.deadline, by_value(owed)));
    others.sort_by_cached_key(by_value);
    let mut batches = batches(urgent, true, section, &batch_max);
    let pays = |gains: u128, rows: u64| {
        let gas = CLAIM_FIXED_GAS.saturating_add(CLAIM_ROW_GAS.saturating_mul(rows));
        market.gas.pay(market.unit.nanos_down(Amount::from_units(gains)), market.wei(gas))
    };
    for (batch, gains) in batches_with_gains(others, section, &batch_max) {
        let rows = u64::try_from(batch.rows.len()).unwrap_or(u64::MAX);
        if occasion != Occasion::Interval || pays(gains, rows) {
            batches.push(batch);
        }
    }
    batches
}

fn batches(owed: Vec<Owed>, is_urgent: bool, section: &ClaimSection, batch_max: &impl Fn(&EscrowChannelId) -> usize) -> Vec<Batch> {
    let cut = batches_with_gains(owed, section, batch_max);
    cut.into_iter().map(|(batch, _)| Batch { is_urgent, ..batch }).collect()
}

/// Cuts rows into batches, in their order; with what each brings.
fn batches_with_gains(owed: Vec<Owed>, section: &ClaimSection, batch_max: &impl Fn(&EscrowChannelId) -> usize) -> Vec<(Batch, u128)> {
    let by_gas = section.gas_max.saturating_mul(100) / GAS_MARGIN_PERCENT;
    let by_gas = usize::try_from(by_gas.saturating_sub(CLAIM_FIXED_GAS) / CLAIM_ROW_GAS).unwrap_or(usize::MAX);
    let rows_max = usize::from(section.rows_max).min(by_gas).max(1);
    let mut batches: Vec<(Batch, u128)> = Vec::new();
    let (mut room, mut bytes_left) = (0, 0);
    for Owed { row, gain, .. } in owed {
        let (max, bytes) = (batch_max(&row.channel).clamp(1, rows_max), row.bytes());
        let taken = batches.last().map_or(0, |(batch, _)| batch.rows.len());
        room = max.min(room);
        match batches.last_mut().filter(|_| taken < room && bytes <= bytes_left) {
            Some((batch, gains)) => {
                batch.rows.push(row);
                *gains = gains.saturating_add(gain.units());
                bytes_left = bytes_left.saturating_sub(bytes);
            }
            None => {
                (room, bytes_left) = (max, ROWS_BYTES_MAX.saturating_sub(bytes));
                batches.push((Batch { rows: vec![row], is_urgent: false }, gain.units()));
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millstream_types::CumulativeAmount;
    use millstream_voucher::evm::EvmSignature;

    use super::*;

    /// A coin is worth 3,000 tokens of six decimals; a unit of gas costs a gwei. A row costs 72,000 base units, an empty claim 180,000.
    fn market() -> Market {
        let gas = GasTerms::new(3_000_000_000_000, 5);
        Market { unit: AssetUnit::new(6).expect("supported"), gas, wei_per_gas: 1_000_000_000 }
    }

    fn owed(byte: u8, gain: u128, deadline: Option<u64>) -> Owed {
        let total = CumulativeAmount::from_units(gain);
        let signature = EvmSignature::new([1; 65]).expect("short");
        let channel = EscrowChannelId::from_bytes([byte; 32]);
        let row = Row { channel, config: Bytes::from_static(&[0; 138]), ceiling: total, total, signature };
        Owed { row, gain: Amount::from_units(gain), deadline: deadline.map(|secs| Timestamp::from_millis(secs * 1_000)) }
    }

    /// The rows of each batch by the first byte of their channels, urgent ones with an exclamation mark.
    fn planned(rows: &[Owed], occasion: Occasion, section: &ClaimSection, market: Market, small: &[u8]) -> Vec<String> {
        let row_min = row_min(section, market.unit);
        let looked_at: Vec<Owed> = rows.iter().filter(|owed| occasion.concerns(row_min, owed.gain, owed.deadline)).cloned().collect();
        let batch_max = |channel: &EscrowChannelId| if small.contains(&channel.as_bytes()[0]) { 1 } else { usize::MAX };
        let text = |batch: Batch| {
            let rows: Vec<String> = batch.rows.iter().map(|row| row.channel.as_bytes()[0].to_string()).collect();
            format!("{}{}", rows.join(" "), if batch.is_urgent { "!" } else { "" })
        };
        plan(looked_at, occasion, section, market, batch_max).into_iter().map(text).collect()
    }

    #[test]
    fn what_is_due_is_claimed_in_the_order_of_what_can_be_lost() {
        let section = ClaimSection { rows_max: 3, row_min_nanos: 2_000_000_000, ..ClaimSection::default() };
        let check = |what: &str, rows: &[Owed], occasion: Occasion, expected: &[&str]| {
            assert_eq!(planned(rows, occasion, &section, market(), &[]), expected, "{what}");
        };
        let (small, fair, large) = (1_999_999, 2_000_000, 9_000_000);
        let rows = [owed(1, small, None), owed(2, fair, None), owed(3, large, None), owed(4, large, None)];
        check("below the least", &rows[..1], Occasion::Interval, &[]);
        check("the most valuable first", &rows, Occasion::Interval, &["3 4 2"]);
        check("everything", &rows, Occasion::Asked, &["3 4 2", "1"]);
        check("nobody leaves", &rows, Occasion::Leaving, &[]);
        let leaving = [owed(1, small, Some(20)), owed(2, 72_001, Some(10)), owed(3, 72_000, Some(5)), owed(4, large, None)];
        check("who leaves first, above gas", &leaving, Occasion::Leaving, &["2 1!"]);
        check("and then the others", &leaving, Occasion::Interval, &["2 1!", "4"]);
    }

    #[test]
    fn gas_has_to_be_paid_by_each_row_and_by_all_of_them() {
        let section = ClaimSection { row_min_nanos: 0, ..ClaimSection::default() };
        // A twentieth may go: a row has to bring 1,440,000, a claim 3,600,000 more.
        let check = |gains: &[u128], occasion: Occasion, market: Market, expected: &[&str]| {
            let rows: Vec<Owed> = (1..).zip(gains).map(|(byte, gain)| owed(byte, *gain, None)).collect();
            assert_eq!(planned(&rows, occasion, &section, market, &[]), expected, "{gains:?} {occasion:?}");
        };
        check(&[5_039_999], Occasion::Interval, market(), &[]);
        check(&[5_040_000], Occasion::Interval, market(), &["1"]);
        check(&[5_040_000, 1_439_999], Occasion::Interval, market(), &["1"]);
        check(&[5_040_000, 1_440_000], Occasion::Interval, market(), &["1 2"]);
        check(&[1_439_999], Occasion::Risk, market(), &["1"]);
        check(&[1], Occasion::Interval, Market { gas: GasTerms::FREE, ..market() }, &["1"]);
        assert!(market().pays_for_sweep(Amount::from_units(4_200_000)) && !market().pays_for_sweep(Amount::from_units(4_199_999)));
    }

    #[test]
    fn batches_keep_to_rows_gas_bytes_and_doubts() {
        let rows: Vec<Owed> = (1..=5).map(|byte| owed(byte, 9_000_000 - u128::from(byte), None)).collect();
        let check = |section: ClaimSection, small: &[u8], expected: &[&str]| {
            assert_eq!(planned(&rows, Occasion::Asked, &section, market(), small), expected, "{section:?} {small:?}");
        };
        check(ClaimSection { rows_max: 2, ..ClaimSection::default() }, &[], &["1 2", "3 4", "5"]);
        // 160,000 without the margin: 60,000 and four rows.
        check(ClaimSection { gas_max: 200_000, ..ClaimSection::default() }, &[], &["1 2 3 4", "5"]);
        check(ClaimSection::default(), &[1, 3], &["2 4 5", "1", "3"]);
        let signature = EvmSignature::new(vec![1; 4_000]).expect("short enough");
        let long: Vec<Owed> = (1..=20)
            .map(|byte| Owed { row: Row { signature: signature.clone(), ..owed(byte, 9, None).row }, ..owed(byte, 9, None) })
            .collect();
        let batches = plan(long, Occasion::Asked, &ClaimSection::default(), market(), |_| usize::MAX);
        assert!(batches.len() == 2 && batches.iter().all(|batch| batch.rows.iter().map(Row::bytes).sum::<usize>() <= ROWS_BYTES_MAX));
    }
}
