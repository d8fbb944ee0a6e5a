//! `millstream settle plan|run|jobs|cancel`: what a settlement would do, doing it, and the proofs it waits for.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::admin::{Admin, CancelledJob, ChannelMove, SettleJob, SettlePlan, SettleRun};
use crate::context::{self, Context};
use crate::error::CliResult;
use crate::output::{View, columns};
use crate::progress;

/// `settle`'s subcommands.
#[derive(Subcommand, Clone, Debug)]
pub enum SettleCommand {
    /// Show what a settlement would do now
    Plan,
    /// Serve the ledger's requests, settle every channel that paid, anchor the bills, and wait until it is mined
    Run(RunArgs),
    /// List the proofs that wait or are being made
    Jobs,
    /// Take a proof back: the settlement that waits for it fails, and the next one makes it again
    Cancel {
        /// Its number, as `settle jobs` shows it
        job: u64,
    },
}

/// `settle run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Leave the open epoch open; its payments are settled all the same, but cannot be proven until it is cut and anchored
    #[arg(long)]
    pub keep_epoch: bool,
}

#[derive(Serialize)]
#[serde(transparent)]
struct PlanView(SettlePlan);

#[derive(Serialize)]
#[serde(transparent)]
struct RunView(SettleRun);

#[derive(Serialize)]
#[serde(transparent)]
struct JobsView(Vec<SettleJob>);

#[derive(Serialize)]
#[serde(transparent)]
struct CancelView(CancelledJob);

/// Runs the command.
///
/// # Errors
/// The node does not answer, or the settlement fails.
pub async fn run(context: &Context, command: &SettleCommand) -> CliResult<()> {
    let admin = context::admin(&context.profile()?)?;
    match command {
        SettleCommand::Plan => context.output.show(&PlanView(admin.settle_plan().await?)),
        SettleCommand::Run(args) => {
            let spinner = progress::spinner(&context.output, "proving and settling");
            let settled = settle(&admin, !args.keep_epoch).await;
            spinner.finish_and_clear();
            context.output.show(&RunView(settled?))
        }
        SettleCommand::Jobs => context.output.show(&JobsView(admin.settle_jobs().await?)),
        SettleCommand::Cancel { job } => context.output.show(&CancelView(admin.cancel_settle_job(*job).await?)),
    }
}

/// Settles; first cuts the open epoch where that is wanted, so that it is anchored too.
pub(crate) async fn settle(admin: &Admin, cut_epoch: bool) -> CliResult<SettleRun> {
    if cut_epoch {
        admin.seal_epoch().await?;
    }
    admin.settle_run().await
}

impl View for PlanView {
    fn table(&self) -> String {
        let Self(plan) = self;
        let mut parts = Vec::new();
        if !plan.register.is_empty() {
            let rows = plan
                .register
                .iter()
                .map(|book| vec![book.book.clone(), book.opens.to_string(), book.top_ups.to_string(), book.closes.to_string()]);
            parts.push(columns(&["register book", "opens", "top-ups", "closes"], &[1, 2, 3], rows));
        }
        if !plan.settle.is_empty() {
            let rows = plan.settle.iter().map(|book| vec![book.book.clone(), book.channels.to_string(), book.total.to_tokens()]);
            parts.push(columns(&["settle book", "channels", "total"], &[1, 2], rows));
        }
        if !plan.epochs.is_empty() {
            let rows = plan
                .epochs
                .iter()
                .map(|epoch| vec![epoch.id.to_string(), epoch.root.map_or_else(|| "-".to_owned(), |root| root.to_string())]);
            parts.push(columns(&["anchor epoch", "root"], &[], rows));
        }
        if !plan.moves.is_empty() {
            parts.push(moves_table(&plan.moves));
        }
        if !plan.waiting.is_empty() {
            let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
            for waiting in &plan.waiting {
                *reasons.entry(&waiting.reason).or_default() += 1;
            }
            let rows = reasons.into_iter().map(|(reason, count)| vec![count.to_string(), reason.to_owned()]);
            parts.push(columns(&["waiting channels", "reason"], &[0], rows));
        }
        if parts.is_empty() { "nothing to settle".to_owned() } else { parts.join("\n\n") }
    }
}

impl View for RunView {
    fn table(&self) -> String {
        let Self(run) = self;
        if run.transactions.is_empty() {
            return "nothing to settle".to_owned();
        }
        let rows = run.transactions.iter().map(|transaction| {
            vec![
                transaction.kind.clone(),
                transaction.books.join(" "),
                transaction.channels.to_string(),
                transaction.total.to_tokens(),
                format!("{:.1}", transaction.prove_seconds),
                transaction.gas_used.to_string(),
                gas_per_channel(transaction.gas_used, transaction.channels),
                transaction.block.to_string(),
                transaction.hash.to_string(),
            ]
        });
        let header = ["kind", "books", "channels", "total", "proof s", "gas", "gas/channel", "block", "transaction"];
        let table = columns(&header, &[2, 3, 4, 5, 6, 7], rows);
        let moves: Vec<_> = run.transactions.iter().flat_map(|transaction| transaction.moves.clone()).collect();
        let moved = if moves.is_empty() { String::new() } else { format!("\n\n{}", moves_table(&moves)) };
        format!("{table}{moved}\n\nsettled {} from {} channels", run.settled_total.to_tokens(), run.channels_settled)
    }
}

impl View for JobsView {
    fn table(&self) -> String {
        let Self(jobs) = self;
        if jobs.is_empty() {
            return "no proof is under way".to_owned();
        }
        let rows = jobs.iter().map(|job| {
            let step = job.step.as_ref().map_or_else(String::new, |step| format!("{step} ({} of {})", job.step_number, job.steps));
            vec![job.id.to_string(), job.circuit.clone(), job.book.clone(), job.state.clone(), format!("{:.1}", job.seconds), step]
        });
        columns(&["job", "circuit", "book", "state", "seconds", "step"], &[0, 4], rows)
    }
}

impl View for CancelView {
    fn table(&self) -> String {
        format!("job {} is taken back", self.0.cancelled)
    }
}

fn moves_table(moves: &[ChannelMove]) -> String {
    let rows = moves.iter().map(|moved| vec![moved.from.clone(), moved.to.clone(), moved.channel.to_string()]);
    columns(&["move from", "to", "channel"], &[], rows)
}

fn gas_per_channel(gas: u64, channels: u64) -> String {
    gas.checked_div(channels).map_or_else(|| "-".to_owned(), |gas| gas.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Format, render};

    #[test]
    fn a_plan_has_a_table_for_each_kind_of_work() {
        let answer = include_str!("../tests/snapshots/settle_plan.json");
        let plan: SettlePlan = serde_json::from_str(answer).expect("the documented answer");
        assert_eq!(render(&PlanView(plan.clone()), Format::Json).expect("text"), answer.trim_end());
        assert_eq!(PlanView(plan).table(), include_str!("../tests/snapshots/settle_plan.txt").trim_end());
        let nothing = SettlePlan { register: vec![], settle: vec![], epochs: vec![], moves: vec![], waiting: vec![] };
        assert_eq!(PlanView(nothing).table(), "nothing to settle");
    }

    #[test]
    fn a_run_has_a_row_for_each_transaction() {
        let answer = include_str!("../tests/snapshots/settle_run.json");
        let run: SettleRun = serde_json::from_str(answer).expect("the documented answer");
        assert_eq!(render(&RunView(run.clone()), Format::Json).expect("text"), answer.trim_end());
        assert_eq!(RunView(run).table(), include_str!("../tests/snapshots/settle_run.txt").trim_end());
    }
}
