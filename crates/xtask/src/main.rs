//! `cargo xtask`: everything a developer or CI runs.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{budget_crash, check, demo, fuzz, peers, setup, test};

/// Development tasks of Millstream.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what this machine lacks: system packages and the contracts' tools. Quick when nothing is missing.
    Setup,
    /// Set up, then run every test: Rust, contracts, end to end. Ends with a line `N passed, N failed`.
    Test,
    /// Formatting, lints, architecture, documentation; no tests.
    Check,
    /// Set up, then fuzz everything that HTTP 402 reads, a minute for each of the targets in `proptests/fuzz`.
    Fuzz(fuzz::Options),
    /// Everything that must pass before a change lands: `check`, `fuzz`, then `test`.
    Ci,
    /// Set up, build the binary and run the demonstration: a chain, a node, agents, a settlement.
    Demo(demo::Options),
    /// Set up, then attack a payer's limits: parallel requests, kills at random instants, restarts, two processes, a shop that cheats.
    BudgetCrash(budget_crash::Options),
    /// Run other systems and this one on this machine, one after the other, and write a table of what they do in a second.
    BenchPeers(peers::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the task; `false` if what it checks does not hold.
fn run(task: Task) -> Result<bool> {
    match task {
        Task::Setup => setup::run().map(|()| true),
        Task::Test => test::run(),
        Task::Check => setup::run().and_then(|()| check::run()),
        Task::Fuzz(options) => setup::run().and_then(|()| fuzz::run(&options)),
        Task::Ci => {
            setup::run()?;
            let checked = check::run()? & fuzz::run(&fuzz::Options::default())?;
            if !checked {
                eprintln!("error: the checks above failed; the tests run all the same");
            }
            Ok(test::run()? && checked)
        }
        Task::Demo(options) => demo::run(&options),
        Task::BudgetCrash(options) => setup::run().and_then(|()| budget_crash::run(&options)),
        Task::BenchPeers(options) => peers::run(&options),
    }
}
