//! `millstream top`: what a node or a gateway does, as it does it, from its metrics.
//!
//! On a terminal it draws over itself until it is told to stop; otherwise it looks twice and prints what changed as JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::admin::Admin;
use crate::context::Context;
use crate::database::running;
use crate::error::{CliError, CliResult};
use crate::output::{Format, View, columns};

/// Takes the whole screen, and gives it back as it was.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the first column of the first line; what is left of a line, and of the screen.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// `top`.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// The admin listener of the node or gateway; the profile's without this
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub interval: u64,
}

/// What a metric is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A number that goes up and down.
    Level,
    /// A number that only grows: its rate is what counts.
    Count,
}

/// What is shown, in this order: the metric without its prefix, what it is called, how it is shown. One that is not there is left out.
const SHOWN: &[(&str, &str, Kind)] = &[
    ("payments_total", "payments", Kind::Count),
    ("frames_total", "frames", Kind::Count),
    ("rejects_total", "rejects", Kind::Count),
    ("commits_total", "batches", Kind::Count),
    ("commit_bytes_total", "bytes written", Kind::Count),
    ("connections", "connections", Kind::Level),
    ("streams", "streams", Kind::Level),
    ("channels_open", "channels open", Kind::Level),
    ("channels_frozen", "channels frozen", Kind::Level),
    ("accepted_nanos", "accepted, nanos", Kind::Count),
    ("settled_nanos", "settled, nanos", Kind::Count),
    ("unserved_requests", "requests unserved", Kind::Level),
    ("settlements_total", "books settled", Kind::Count),
    ("settlement_failures_total", "settlements failed", Kind::Count),
    ("relays_pending", "relays pending", Kind::Level),
    ("chain_block", "chain block", Kind::Level),
    ("chain_errors_total", "chain errors", Kind::Count),
    ("escrow_channels", "escrow channels", Kind::Level),
    ("escrow_reservations", "deliveries under way", Kind::Level),
    ("escrow_charged_base_units", "charged, base units", Kind::Count),
    ("escrow_reserved_base_units", "reserved, base units", Kind::Level),
    ("escrow_unclaimed_base_units", "unclaimed, base units", Kind::Level),
    ("escrow_channels_frozen", "escrow channels frozen", Kind::Level),
    ("escrow_channels_quarantined", "in quarantine", Kind::Level),
    ("escrow_view_age_seconds", "age of the chain's view, s", Kind::Level),
    ("escrow_behind_blocks", "blocks behind", Kind::Level),
];

/// One look: every metric without labels, by its name without the prefix.
#[derive(Clone, Debug, Default, PartialEq)]
struct Look(BTreeMap<String, f64>);

impl Look {
    fn parse(text: &str) -> Self {
        let value = |line: &str| {
            let (name, value) = line.strip_prefix("millstream_")?.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        Self(text.lines().filter_map(value).collect())
    }
}

/// A line of the screen.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    metric: &'static str,
    name: &'static str,
    now: f64,
    /// How fast it grows; none for what goes up and down.
    #[serde(skip_serializing_if = "Option::is_none")]
    per_second: Option<f64>,
}

/// The screen.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Screen {
    ready: bool,
    /// Milliseconds that a batch took to be written and synced, on average between the two looks.
    commit_millis: Option<f64>,
    rows: Vec<Row>,
}

impl Screen {
    fn of(before: &Look, after: &Look, apart: Duration, ready: bool) -> Self {
        let seconds = apart.as_secs_f64().max(f64::EPSILON);
        let grown = |name: &str| after.0.get(name).zip(before.0.get(name)).map(|(after, before)| (after - before).max(0.0));
        let row = |(metric, name, kind): &(&'static str, &'static str, Kind)| {
            let now = *after.0.get(*metric)?;
            let per_second = (*kind == Kind::Count).then(|| grown(metric).unwrap_or_default() / seconds);
            Some(Row { metric, name, now, per_second })
        };
        let commits = grown("commit_seconds_count").filter(|commits| *commits > 0.0);
        let commit_millis = grown("commit_seconds_sum").zip(commits).map(|(seconds, commits)| seconds / commits * 1_000.0);
        Self { ready, commit_millis, rows: SHOWN.iter().filter_map(row).collect() }
    }
}

impl View for Screen {
    fn table(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let rate = row.per_second.map_or_else(String::new, |rate| format!("{rate:.1}"));
            vec![row.name.to_owned(), format!("{:.0}", row.now), rate]
        });
        let state = if self.ready { "takes payments" } else { "takes NO payments now: see /readyz" };
        let commit = self.commit_millis.map_or_else(String::new, |millis| format!("; a batch takes {millis:.2} ms"));
        format!("{state}{commit}\n\n{}", columns(&["", "now", "a second"], &[1, 2], rows))
    }
}

/// Shows it until it is told to stop.
///
/// # Errors
/// Nothing answers, or standard output cannot be written.
pub async fn run(context: &Context, args: &TopArgs) -> CliResult<()> {
    let admin = running(context, args.admin.as_deref())?;
    let interval = Duration::from_secs(args.interval);
    let mut before = look(&admin).await?;
    let mut at = Instant::now();
    if context.output.format() == Format::Json {
        tokio::time::sleep(interval).await;
        let after = look(&admin).await?;
        return context.output.show(&Screen::of(&before, &after, at.elapsed(), admin.is_ready().await?));
    }
    let failed = |error: io::Error| CliError::failed("output", format!("cannot write to standard output: {error}"));
    let stop = millstream_node::stop_signal().map_err(|error| CliError::failed("signals", format!("{error:#}")))?;
    tokio::pin!(stop);
    let _screen = Borrowed::take().map_err(failed)?;
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = tokio::time::sleep(interval) => {}
        }
        let after = look(&admin).await?;
        let screen = Screen::of(&before, &after, at.elapsed(), admin.is_ready().await?);
        (before, at) = (after, Instant::now());
        draw(&format!("millstream top: every {} s, Ctrl-C ends it; {}", args.interval, screen.table())).map_err(failed)?;
    }
}

async fn look(admin: &Admin) -> CliResult<Look> {
    Ok(Look::parse(&admin.metrics().await?))
}

/// The screen, given back however this ends.
struct Borrowed;

impl Borrowed {
    fn take() -> io::Result<Self> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(ENTER.as_bytes())?;
        stdout.flush()?;
        Ok(Self)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let mut stdout = io::stdout().lock();
        // A terminal that is gone needs nothing back.
        let _ = stdout.write_all(LEAVE.as_bytes()).and_then(|()| stdout.flush());
    }
}

fn draw(text: &str) -> io::Result<()> {
    let lines: Vec<String> = text.lines().map(|line| format!("{line}{CLEAR_LINE}\r\n")).collect();
    let mut stdout = io::stdout().lock();
    stdout.write_all(format!("{HOME}{}{CLEAR_BELOW}", lines.concat()).as_bytes())?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "# TYPE millstream_payments counter\nmillstream_payments_total 1000\nmillstream_connections 2\n\
                          millstream_commit_seconds_sum 1.0\nmillstream_commit_seconds_count 100\nmillstream_commit_seconds_bucket{le=\"0.1\"} 9\n";
    const AFTER: &str = "millstream_payments_total 3000\nmillstream_connections 3\n\
                         millstream_commit_seconds_sum 1.5\nmillstream_commit_seconds_count 200\n# EOF\n";

    #[test]
    fn what_grows_has_a_rate_and_what_is_not_there_no_line() {
        let screen = Screen::of(&Look::parse(BEFORE), &Look::parse(AFTER), Duration::from_secs(2), true);
        let expected = [
            Row { metric: "payments_total", name: "payments", now: 3_000.0, per_second: Some(1_000.0) },
            Row { metric: "connections", name: "connections", now: 3.0, per_second: None },
        ];
        assert_eq!((screen.rows.as_slice(), screen.commit_millis), (expected.as_slice(), Some(5.0)));
        let table = "takes payments; a batch takes 5.00 ms\n\n              NOW  A SECOND\npayments     3000    1000.0\nconnections     3";
        assert_eq!(screen.table(), table);
    }

    #[test]
    fn a_node_that_began_again_has_no_negative_rate() {
        let screen = Screen::of(&Look::parse(AFTER), &Look::parse(BEFORE), Duration::from_secs(1), false);
        assert_eq!(screen.rows[0].per_second, Some(0.0));
        assert!(screen.table().starts_with("takes NO payments"));
    }
}
