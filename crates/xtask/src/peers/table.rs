//! Rows of figures: read from the programs, compared with Millstream's, printed and written as Markdown.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// What stands where a figure cannot be told.
const UNKNOWN: &str = "–";

/// One measurement of one system.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Who was measured.
    pub peer: String,
    /// Which versions of it.
    pub version: String,
    /// What was done, in what shape.
    pub setup: String,
    /// What exactly was verified of each payment.
    pub verified: String,
    /// What keeps a payment that was counted, and against what.
    pub durable: String,
    /// Payments in the window; more than 0.
    pub payments: u64,
    /// Wall time of the window; more than 0.
    pub seconds: f64,
    /// Processor time of everything involved.
    pub cpu_seconds: f64,
}

impl Row {
    /// The row of one line that a peer program printed.
    ///
    /// # Errors
    /// It is not JSON, or a field is missing or impossible.
    pub fn of_line(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line).with_context(|| format!("not a row: {line}"))?;
        let text = |name: &str| Ok::<_, anyhow::Error>(value[name].as_str().with_context(|| format!("no {name} in {line}"))?.to_owned());
        let row = Self {
            peer: text("peer")?,
            version: text("version")?,
            setup: text("setup")?,
            verified: text("verified")?,
            durable: text("durable")?,
            payments: value["payments"].as_u64().with_context(|| format!("no payments in {line}"))?,
            seconds: number(&value, "seconds")?,
            cpu_seconds: number(&value, "cpu_seconds")?,
        };
        row.checked()
    }

    /// The row of a document of `millstream bench --json` that has one run.
    ///
    /// # Errors
    /// It is not such a document, something could not be run, or the node's totals are not what was acknowledged.
    pub fn of_bench(document: &str) -> Result<Self> {
        let report: Value = serde_json::from_str(document).context("millstream bench printed something else than JSON")?;
        let text =
            |name: &str| Ok::<_, anyhow::Error>(report[name].as_str().with_context(|| format!("no {name} in the report"))?.to_owned());
        ensure!(report["failures"].as_array().is_some_and(Vec::is_empty), "millstream bench failed: {}", report["failures"]);
        let [run] = report["scenarios"].as_array().context("no scenarios in the report")?.as_slice() else {
            bail!("the report should have one run");
        };
        ensure!(
            run["exactness"]["holds"] == Value::Bool(true),
            "the node's totals differ from what was acknowledged: {}",
            run["exactness"]
        );
        let count = |name: &str| run[name].as_u64().with_context(|| format!("no {name} in the run"));
        // The chain is idle, and involved all the same; a measurement of a foreign node has none.
        let chain = if run["chain"].is_null() { 0.0 } else { number(&run["chain"], "cpu_seconds")? };
        let row = Self {
            peer: "Millstream".to_owned(),
            version: format!("{} ({})", text("version")?, text("build")?),
            setup: format!(
                "{} under one signature, QUIC, {} channels, {} connections, {} in flight on each channel",
                plural(count("lines_per_signature")?, "payment"),
                count("channels")?,
                count("connections")?,
                plural(count("frames_in_flight")?, "signature")
            ),
            verified: "the voucher's signature against the channel's key, every payment hashed into the bill that it signs, \
                       the cumulative amount, the deposit"
                .to_owned(),
            durable: format!("every payment and the channel's voucher: {}", text("durability")?),
            payments: count("payments")?,
            seconds: number(run, "seconds")?,
            cpu_seconds: number(&run["node"], "cpu_seconds")? + number(&run["load"], "cpu_seconds")? + chain,
        };
        row.checked()
    }

    fn checked(self) -> Result<Self> {
        ensure!(self.payments > 0 && self.seconds > 0.0 && self.cpu_seconds >= 0.0, "impossible figures: {self:?}");
        Ok(self)
    }

    /// Payments a second of wall time.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.payments as f64 / self.seconds
    }

    /// Payments a second of processor time; nothing if the clock saw none pass.
    #[must_use]
    pub fn rate_per_cpu(&self) -> Option<f64> {
        (self.cpu_seconds > 0.0).then(|| self.payments as f64 / self.cpu_seconds)
    }
}

fn number(value: &Value, name: &str) -> Result<f64> {
    value[name].as_f64().with_context(|| format!("no {name} in {value}"))
}

fn plural(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// The machine and the conditions of a run, each with its name.
pub type Facts = Vec<(&'static str, String)>;

/// Everything of one run: Millstream's rows first, which the others are compared with.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Millstream's rows.
    pub ours: Vec<Row>,
    /// The peers' rows.
    pub peers: Vec<Row>,
}

/// A cell of each column: number, who, setup, rate, ratio, rate for each processor second, ratio.
type Cells = [String; 7];

impl Table {
    fn cells(&self) -> Vec<Cells> {
        let rows = self.ours.iter().chain(&self.peers).enumerate();
        rows.map(|(at, row)| {
            let is_peer = at >= self.ours.len();
            let compared = |of: &dyn Fn(&Row) -> Option<f64>| if is_peer { ratios(&self.ours, row, of) } else { String::new() };
            [
                (at + 1).to_string(),
                row.peer.clone(),
                row.setup.clone(),
                thousands(row.rate()),
                compared(&|row| Some(row.rate())),
                row.rate_per_cpu().map_or_else(|| UNKNOWN.to_owned(), thousands),
                compared(&Row::rate_per_cpu),
            ]
        })
        .collect()
    }

    /// The names of the columns; those of the ratios say in which order they stand.
    fn heads(&self) -> Cells {
        ["#", "system", "what", "payments/s", "Millstream is ×", "payments per CPU second", "Millstream is ×"].map(str::to_owned)
    }

    /// For a terminal.
    #[must_use]
    pub fn plain(&self) -> String {
        let mut lines = vec![self.heads()];
        lines.extend(self.cells());
        let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 7] = std::array::from_fn(width);
        let mut text = String::new();
        for cells in &lines {
            let mut line = String::new();
            for (column, cell) in cells.iter().enumerate() {
                let width = widths[column];
                // Figures stand on the right.
                let _ = if matches!(column, 0 | 3..) { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// As a Markdown document.
    #[must_use]
    pub fn markdown(&self, facts: &Facts) -> String {
        let mut text = String::from(INTRODUCTION);
        for (name, fact) in facts {
            let _ = writeln!(text, "| {name} | {} |", escaped(fact));
        }
        text.push_str(HOW_TO_READ);
        let lines: Vec<_> = self.ours.iter().map(|row| row.setup.split(',').next().unwrap_or_default().to_owned()).collect();
        let _ = writeln!(
            text,
            "The figures of a ratio cell are Millstream's rows in order ({}) over the row that it stands in.\n",
            lines.join("; ")
        );
        let _ = writeln!(text, "| {} |\n|--:|---|---|--:|--:|--:|--:|", self.heads().join(" | "));
        for cells in self.cells() {
            let _ = writeln!(text, "| {} |", cells.map(|cell| escaped(&cell)).join(" | "));
        }
        text.push_str(
            "\n## What each row verified, and what would survive a power cut\n\n| # | version | verified | kept |\n|--:|---|---|---|\n",
        );
        for (at, row) in self.ours.iter().chain(&self.peers).enumerate() {
            let _ = writeln!(text, "| {} | {} | {} | {} |", at + 1, escaped(&row.version), escaped(&row.verified), escaped(&row.durable));
        }
        text.push_str(LIMITS);
        text
    }
}

const INTRODUCTION: &str = "# Beside its peers

Written by `cargo xtask bench-peers`, which runs everything below on one machine, one after the other, within the same minutes. Run it
again to replace this file.

| | |
|---|---|
";

const HOW_TO_READ: &str = "
A payment counts when it is done: verified, and kept where the row says that something is kept. *CPU second* is processor time of
everything involved: the load, the server, the database with all its processes. Payments were signed before the clock started, in every
row, ours included, so no row pays for signing.

";

const LIMITS: &str = "
## What this does not say

- Everything is on one machine: no network, and the load takes its share of the same cores. If the machine does other work too, payments/s
  falls, and not evenly. Payments per CPU second is the steadier figure, and says nothing about waiting for a disk.
- The rows do not do the same work. A signature over 256 payments is what Millstream is made for; a system that signs every payment has
  to be compared with its first row. Rows that keep nothing are compared with rows that sync a disk, in the peers' favour.
- The stores alone (Redis, PostgreSQL) verify nothing, and their payments do not come over a network. Servers that use them do more than
  the one write that is counted here.
- x402's channels were put into the server's storage as a deposit leaves them: its contract is not on a local chain. Vouchers take the
  whole path of the reference server, HTTP included. Of its `exact` scheme only the verification is measured; after it every payment
  costs a transaction.
- The aggregation rows of The Graph check each receipt once, as the provider does. The payer's aggregator checks each again; that is
  left out.
";

/// `a / b / c`: each of ours over the row.
fn ratios(ours: &[Row], row: &Row, of: &dyn Fn(&Row) -> Option<f64>) -> String {
    let ratio = |our: &Row| match (of(our), of(row)) {
        (Some(our), Some(theirs)) if theirs > 0.0 => three_digits(our / theirs),
        _ => UNKNOWN.to_owned(),
    };
    ours.iter().map(ratio).collect::<Vec<_>>().join(" / ")
}

/// Three significant digits above 0.1; `12.3`, `0.85`, `1,234`.
fn three_digits(value: f64) -> String {
    match value {
        value if value >= 99.95 => thousands(value),
        value if value >= 9.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Whole, with separators: `1,234,568`.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escaped(cell: &str) -> String {
    cell.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        r#"{"peer":"P","version":"1","setup":"s","verified":"v","durable":"d","payments":500,"seconds":2.0,"cpu_seconds":0.5}"#;

    fn bench() -> Value {
        serde_json::json!({
            "version": "0.1.0", "build": "release build", "durability": "synced before the ack", "failures": [],
            "scenarios": [{
                "lines_per_signature": 64, "channels": 64, "connections": 8, "frames_in_flight": 4, "payments": 3000, "seconds": 1.5,
                "node": {"cpu_seconds": 1.0}, "load": {"cpu_seconds": 0.25}, "chain": {"cpu_seconds": 0.25},
                "exactness": {"holds": true},
            }],
        })
    }

    #[test]
    fn a_line_is_read_and_checked() {
        let row = Row::of_line(LINE).expect("a row");
        assert_eq!((row.rate(), row.rate_per_cpu()), (250.0, Some(1_000.0)));
        for (good, wrong) in [
            ("\"payments\":500", "\"payments\":0"),
            ("\"payments\":500", "\"payments\":-1"),
            ("\"seconds\":2.0", "\"seconds\":0"),
            ("\"cpu_seconds\":0.5", "\"cpu_seconds\":null"),
            ("\"durable\":\"d\",", ""),
            ("{\"peer\"", "\"peer\""),
        ] {
            assert!(Row::of_line(&LINE.replace(good, wrong)).is_err(), "{wrong}");
        }
        let idle = Row::of_line(&LINE.replace("\"cpu_seconds\":0.5", "\"cpu_seconds\":0")).expect("a row");
        assert_eq!(idle.rate_per_cpu(), None);
    }

    #[test]
    fn a_bench_report_is_read_and_checked() {
        let row = Row::of_bench(&bench().to_string()).expect("a row");
        assert_eq!((row.payments, row.seconds, row.cpu_seconds), (3000, 1.5, 1.5));
        assert_eq!(row.setup, "64 payments under one signature, QUIC, 64 channels, 8 connections, 4 signatures in flight on each channel");
        assert_eq!(row.version, "0.1.0 (release build)");
        let mut without_chain = bench();
        without_chain["scenarios"][0]["chain"] = Value::Null;
        assert_eq!(Row::of_bench(&without_chain.to_string()).expect("a row").cpu_seconds, 1.25);
        for (pointer, wrong) in [
            ("/failures", serde_json::json!([{"scenario": "saturated", "reason": "x"}])),
            ("/scenarios", serde_json::json!([])),
            ("/scenarios/0/exactness/holds", Value::Bool(false)),
            ("/scenarios/0/node", Value::Null),
            ("/scenarios/0/payments", serde_json::json!(0)),
            ("/durability", Value::Null),
        ] {
            let mut report = bench();
            *report.pointer_mut(pointer).expect("there") = wrong;
            assert!(Row::of_bench(&report.to_string()).is_err(), "{pointer}");
        }
    }

    #[test]
    fn ratios_compare_every_row_of_ours() {
        let row = |payments, cpu_seconds| Row { payments, cpu_seconds, ..Row::of_line(LINE).expect("a row") };
        let table = Table { ours: vec![row(500, 0.5), row(50_000, 1.0)], peers: vec![row(1_000, 0.5), row(40, 0.0)] };
        let cells = table.cells();
        assert_eq!(cells[0][3..], ["250", "", "1,000", ""]);
        assert_eq!(cells[2][3..], ["500", "0.50 / 50.0", "2,000", "0.50 / 25.0"]);
        assert_eq!(cells[3][3..], ["20", "12.5 / 1,250", "–", "– / –"]);
    }

    #[test]
    fn the_document_has_every_row_twice_and_every_fact() {
        let mut peer = Row::of_line(LINE).expect("a row");
        peer.setup = "a | b".to_owned();
        let table = Table { ours: vec![Row::of_bench(&bench().to_string()).expect("a row")], peers: vec![peer] };
        let text = table.markdown(&vec![("processor", "x86".to_owned())]);
        assert!(text.contains("| processor | x86 |"));
        assert!(text.contains("| 2 | P | a \\| b | 250 | 8.00 | 1,000 | 2.00 |"), "{text}");
        assert!(text.contains("| 2 | 1 | v | d |"));
        assert!(text.contains("(64 payments under one signature) over"));
        let plain = table.plain();
        assert_eq!(plain.lines().count(), 3);
        assert!(plain.lines().all(|line| line.trim_end() == line));
    }

    #[test]
    fn numbers_are_written_for_people() {
        let written = [0.0, 0.854, 9.994, 9.996, 99.94, 99.96, 999.6, 1_234_567.8].map(three_digits);
        assert_eq!(written, ["0.00", "0.85", "9.99", "10.0", "99.9", "100", "1,000", "1,234,568"]);
    }
}
