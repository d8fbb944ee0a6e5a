//! What a replay did.

use millstream_types::Amount;
use serde::Serialize;

use crate::admin::SettleRun;
use crate::error::{CliError, CliResult};
use crate::output::{View, pairs};

/// The result of a replay. Amounts in nanos.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayReport {
    /// Payments of this run.
    pub payments: u64,
    /// Payments of the same workload that earlier runs had made.
    pub payments_before: u64,
    /// Channels that paid.
    pub channels: usize,
    /// Channels that this run opened.
    pub channels_opened: usize,
    /// Seconds from the first payment to the last ack.
    pub seconds: f64,
    /// Payments of this run a second.
    pub payments_per_second: f64,
    /// Half of the frames were acked within so many milliseconds of being sent.
    pub ack_p50_ms: f64,
    /// 99 % of the frames were acked within so many milliseconds of being sent.
    pub ack_p99_ms: f64,
    /// 99.9 % of the frames were acked within so many milliseconds of being sent.
    pub ack_p999_ms: f64,
    /// The sum of the channels' last acked vouchers.
    pub voucher_total: Amount,
    /// What that sum must be: the price of what every channel has paid, computed from the tokens. More than `priced_total` only when a longer
    /// run of the same workload came before.
    pub expected_total: Amount,
    /// What the workload costs, computed from its tokens.
    pub priced_total: Amount,
    /// Payments of the workload for context.
    pub context_payments: u64,
    /// Payments of the workload for generated tokens.
    pub generated_payments: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Frames that were sent again after a connection was lost.
    pub resent_frames: u64,
    /// Payments under one signature.
    pub lines_per_signature: usize,
    /// The settlement, when one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settlement: Option<SettlementCheck>,
}

/// A settlement, and what the chain says about it. Amounts in nanos.
#[derive(Clone, Debug, Serialize)]
pub struct SettlementCheck {
    /// What the node says it did.
    pub run: SettleRun,
    /// What the provider's credit and token balance grew by on the chain.
    pub earned_on_chain: Amount,
    /// Settled over all runs on the replay's channels, as the node says.
    pub settled_on_channels: Amount,
    /// Whether the chain paid what the node says it settled, and the channels are settled to what the workload costs.
    pub holds: bool,
}

impl ReplayReport {
    /// Whether the vouchers, and the settlement if there was one, come to the price.
    ///
    /// # Errors
    /// They do not.
    pub fn require_holds(&self) -> CliResult<()> {
        if self.voucher_total != self.expected_total {
            let (paid, price) = (self.voucher_total.to_tokens(), self.expected_total.to_tokens());
            return Err(CliError::check_failed("vouchers_differ", format!("the vouchers come to {paid}, the price is {price}")));
        }
        match &self.settlement {
            Some(check) => check.require_holds(self.expected_total),
            None => Ok(()),
        }
    }
}

impl SettlementCheck {
    fn require_holds(&self, price: Amount) -> CliResult<()> {
        if self.holds {
            return Ok(());
        }
        let message = format!(
            "the settlement does not add up: the node settled {}, the provider earned {} on-chain; the channels are settled to {}, the price is {}",
            self.run.settled_total.to_tokens(),
            self.earned_on_chain.to_tokens(),
            self.settled_on_channels.to_tokens(),
            price.to_tokens()
        );
        Err(CliError::check_failed("settlement_differs", message)
            .hint("did another settlement or transfer of the provider run at the same time?"))
    }
}

impl View for ReplayReport {
    fn table(&self) -> String {
        let mut rows = vec![
            (
                "payments",
                format!("{} ({} for context, {} for generated tokens)", self.payments, self.context_payments, self.generated_payments),
            ),
            ("channels", format!("{}, {} opened now", self.channels, self.channels_opened)),
            ("time", format!("{:.2} s, {:.0} payments/s", self.seconds, self.payments_per_second)),
            ("ack", format!("p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms", self.ack_p50_ms, self.ack_p99_ms, self.ack_p999_ms)),
            ("vouchers", format!("{} of {} priced", self.voucher_total.to_tokens(), self.priced_total.to_tokens())),
            ("signatures", format!("one for each {} payments", self.lines_per_signature)),
            ("reconnects", format!("{}, {} frames sent again", self.reconnects, self.resent_frames)),
        ];
        if self.payments_before > 0 {
            rows.insert(1, ("resumed", format!("after {} payments of earlier runs", self.payments_before)));
        }
        if let Some(settlement) = &self.settlement {
            let gas: u64 = settlement.run.transactions.iter().map(|transaction| transaction.gas_used).sum();
            let verdict = if settlement.holds { "equal to the price" } else { "NOT equal to the price" };
            rows.push(("settled", format!("{}, {verdict}", settlement.settled_on_channels.to_tokens())));
            rows.push((
                "on-chain",
                format!(
                    "{} earned in {} transactions, {gas} gas",
                    settlement.earned_on_chain.to_tokens(),
                    settlement.run.transactions.len()
                ),
            ));
        }
        pairs(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Format, render};

    #[test]
    fn the_report_is_as_it_was() {
        let report = ReplayReport {
            payments: 40_000,
            payments_before: 2_000,
            channels: 96,
            channels_opened: 0,
            seconds: 0.5,
            payments_per_second: 80_000.0,
            ack_p50_ms: 3.25,
            ack_p99_ms: 9.5,
            ack_p999_ms: 12.0,
            voucher_total: Amount::from_nanos(57_885_150),
            expected_total: Amount::from_nanos(57_885_150),
            priced_total: Amount::from_nanos(57_885_150),
            context_payments: 200,
            generated_payments: 41_800,
            reconnects: 1,
            resent_frames: 7,
            lines_per_signature: 256,
            settlement: Some(SettlementCheck {
                run: serde_json::from_str(include_str!("../../tests/snapshots/settle_run.json")).expect("the documented answer"),
                earned_on_chain: Amount::from_nanos(57_885_150),
                settled_on_channels: Amount::from_nanos(57_885_150),
                holds: true,
            }),
        };
        assert_eq!(report.table(), include_str!("../../tests/snapshots/replay.txt").trim_end());
        let json = render(&report, Format::Json).expect("text");
        assert!(json.contains("\"voucher_total\": \"57885150\"") && json.contains("\"holds\": true"), "{json}");
        assert_eq!(report.require_holds(), Ok(()));
        let short = ReplayReport { voucher_total: Amount::from_nanos(1), ..report.clone() };
        assert_eq!(short.require_holds().expect_err("differs").code, "vouchers_differ");
        let unsettled = ReplayReport { settlement: None, ..report };
        assert!(!render(&unsettled, Format::Json).expect("text").contains("settlement"));
    }
}
