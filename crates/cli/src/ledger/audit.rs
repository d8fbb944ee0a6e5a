//! `millstream ledger audit`.

use millstream_prover::KeyPins;
use millstream_recovery::{AuditOptions, AuditReport, Finding, KeyOrigin, Severity, TierReport, audit};
use serde::Serialize;

use super::{AuditArgs, for_people, watch};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::output::{View, columns, pairs};
use crate::progress;

/// What an audit says: the report, and each finding with its severity in words.
#[derive(Serialize)]
struct AuditView {
    is_sound: bool,
    #[serde(flatten)]
    report: AuditReport,
    /// The findings again, with severity and sentence.
    findings_explained: Vec<Explained>,
}

#[derive(Serialize)]
struct Explained {
    severity: Severity,
    message: String,
}

pub(super) async fn run(context: &Context, args: &AuditArgs) -> CliResult<()> {
    let ledger = args.source.ledger(context).await?;
    let named_keys = args.keys.iter().map(|key| (key.circuit, key.hash)).collect();
    let options = AuditOptions { rebuild: args.source.options(), named_keys, pins: KeyPins::committed().clone() };
    let spinner = progress::spinner(&context.output, "reading the chain");
    let report = audit(ledger, &options, &mut watch(&spinner)).await;
    spinner.finish_and_clear();
    let view = AuditView::of(report?);
    context.output.show(&view)?;
    if view.is_sound {
        return Ok(());
    }
    let worst = view.report.findings.first().map(Finding::to_string).unwrap_or_default();
    let count = view.report.findings.iter().filter(|finding| finding.severity() >= Severity::Error).count();
    Err(CliError::check_failed("audit_findings", format!("{count} findings are wrong; the worst: {worst}")))
}

impl AuditView {
    fn of(report: AuditReport) -> Self {
        let explain = |finding: &Finding| Explained { severity: finding.severity(), message: finding.to_string() };
        Self { is_sound: report.is_sound(), findings_explained: report.findings.iter().map(explain).collect(), report }
    }
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
        Severity::Critical => "CRITICAL",
    }
}

fn origin(origin: KeyOrigin) -> &'static str {
    match origin {
        KeyOrigin::Named => "as named",
        KeyOrigin::Pinned => "from the pinned ceremony",
        KeyOrigin::InsecureDevelopment => "INSECURE DEVELOPMENT KEY",
        KeyOrigin::Unknown => "unknown",
    }
}

impl View for AuditView {
    fn table(&self) -> String {
        let AuditReport { totals, .. } = &self.report;
        let report = &self.report;
        let head = pairs([
            ("ledger", format!("{} on chain {}", report.ledger, report.chain_id)),
            ("block", format!("{} {}", report.block, report.block_hash)),
            ("provider", report.provider.to_string()),
            ("operator", report.operator.map_or_else(|| "-".to_owned(), |operator| operator.to_string())),
            ("token", format!("{} ({} decimals)", report.token, report.token_decimals)),
            ("response window", for_people(report.response_window_secs)),
            (
                "channels",
                format!(
                    "{} ({} queued, {} closed) in {} books",
                    totals.channels, totals.channels_queued, totals.channels_closed, totals.books
                ),
            ),
            ("deposited", totals.deposited.to_tokens()),
            ("settled", totals.settled.to_tokens()),
            ("refunded", totals.refunded.to_tokens()),
            ("held", totals.held.to_tokens()),
            ("credits", format!("{}, withdrawn {}", totals.credits.to_tokens(), totals.withdrawn.to_tokens())),
            ("token balance", format!("{} base units", totals.balance_base_units)),
            (
                "requests",
                format!(
                    "{}, {} wait, {} overdue, {} served late",
                    totals.requests, totals.requests_waiting, totals.requests_overdue, totals.requests_served_late
                ),
            ),
            ("epochs", totals.epochs.to_string()),
        ]);
        let tiers = report.tiers.iter().flat_map(|tier: &TierReport| {
            let slots = tier.slots;
            [("settle", tier.settle_key, tier.settle_key_origin), ("register", tier.register_key, tier.register_key_origin)]
                .map(|(kind, key, from)| vec![format!("{kind}-{slots}"), origin(from).to_owned(), key.to_string()])
        });
        let keys = columns(&["circuit", "key", "hash"], &[], tiers);
        let findings = if self.findings_explained.is_empty() {
            "nothing found".to_owned()
        } else {
            let rows = self.findings_explained.iter().map(|found| vec![severity(found.severity).to_owned(), found.message.clone()]);
            columns(&["severity", "finding"], &[], rows)
        };
        let verdict = if self.is_sound { "sound" } else { "NOT sound" };
        format!("{head}\n\n{keys}\n\n{findings}\n\n{verdict}")
    }
}
