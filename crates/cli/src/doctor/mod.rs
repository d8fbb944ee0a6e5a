//! `millstream doctor`: looks at everything that a node or a gateway needs before it starts, and at one that runs, and names what to do about what is
//! wrong. Nothing is changed but one small file that is written and removed, to see that the disk keeps what it is given.
//!
//! Each check is by itself: one that cannot be made, because an earlier one failed, is left out.

mod chain;
mod machine;
mod subject;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::output::View;
use subject::Subject;

/// `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// The configuration of a node or of a gateway
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// What must be free on the disk of the data directory, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2_048)]
    pub disk_free_min: u64,
    /// What the operator's account must have for gas, in wei
    #[arg(long, value_name = "WEI", default_value_t = 1_000_000_000_000_000)]
    pub coins_min: u128,
    /// How old the chain's newest block may be, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub block_age_max: u64,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Ok,
    /// It works, but perhaps not as it is meant, or not for long.
    Warning,
    /// It does not work, or money is in danger.
    Fault,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// A stable word for programs.
    pub(crate) check: &'static str,
    pub(crate) state: State,
    pub(crate) found: String,
    /// What to do about it, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
    /// The command that does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<String>,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Ok, found: found.into(), remedy: None, command: None }
    }

    pub(crate) fn warning(check: &'static str, found: impl Into<String>, remedy: impl Into<String>, command: impl Into<String>) -> Self {
        let (remedy, command) = (Some(remedy.into()), Some(command.into()));
        Self { check, state: State::Warning, found: found.into(), remedy, command }
    }

    pub(crate) fn fault(check: &'static str, found: impl Into<String>, remedy: impl Into<String>, command: impl Into<String>) -> Self {
        Self { state: State::Fault, ..Self::warning(check, found, remedy, command) }
    }
}

/// The result.
#[derive(Serialize)]
struct Report {
    faults: usize,
    warnings: usize,
    findings: Vec<Finding>,
}

impl View for Report {
    fn table(&self) -> String {
        let mut lines = Vec::new();
        for finding in &self.findings {
            let mark = match finding.state {
                State::Ok => "ok     ",
                State::Warning => "warning",
                State::Fault => "FAULT  ",
            };
            lines.push(format!("{mark}  {:<16}  {}", finding.check, finding.found));
            let more = [("remedy", &finding.remedy), ("do", &finding.command)];
            lines.extend(more.into_iter().filter_map(|(name, text)| Some(format!("{:<27}{name}: {}", "", text.as_ref()?))));
        }
        lines.push(format!("{} faults, {} warnings", self.faults, self.warnings));
        lines.join("\n")
    }
}

/// Runs the command.
///
/// # Errors
/// There is a fault: exit status 5, after the findings.
pub async fn run(context: &Context, args: &DoctorArgs) -> CliResult<()> {
    let findings = examine(args).await;
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let report = Report { faults: count(State::Fault), warnings: count(State::Warning), findings };
    context.output.show(&report)?;
    if report.faults == 0 {
        return Ok(());
    }
    let first = report.findings.iter().find(|finding| finding.state == State::Fault).and_then(|finding| finding.command.clone());
    let failed = CliError::check_failed("doctor_faults", format!("{} faults were found", report.faults));
    Err(match first {
        Some(command) => failed.hint(format!("begin with: {command}")),
        None => failed,
    })
}

async fn examine(args: &DoctorArgs) -> Vec<Finding> {
    let mut findings = Vec::new();
    let subject = match Subject::read(&args.config) {
        Ok(subject) => subject,
        Err(finding) => return vec![finding],
    };
    findings.push(Finding::ok("config", format!("{} is a {}'s, and every key is known", args.config.display(), subject.kind.name())));
    let (account, key) = machine::key(&subject).await;
    findings.push(key);
    let (is_running, database) = machine::database(&subject).await;
    findings.push(database);
    findings.extend(machine::disk(&subject, args.disk_free_min));
    findings.push(machine::open_files(&subject));
    if !is_running {
        findings.extend(machine::ports(&subject));
    }
    findings.extend(machine::certificate(&subject));
    findings.extend(chain::checks(&subject, account, args).await);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_read_in_one_look() {
        let findings = vec![
            Finding::ok("config", "node.toml is a node's"),
            Finding::fault("key_file", "it can be read by others (mode 644)", "let its owner alone read it", "chmod 600 operator.key"),
        ];
        let table = Report { faults: 1, warnings: 0, findings }.table();
        let expected = "ok       config            node.toml is a node's
FAULT    key_file          it can be read by others (mode 644)
                           remedy: let its owner alone read it
                           do: chmod 600 operator.key
1 faults, 0 warnings";
        assert_eq!(table, expected);
    }
}
