//! The attack on a payer's limits, with as many rounds as one likes.

use anyhow::Result;
use clap::Args;

use crate::shell;

/// Options of the attack.
#[derive(Args, Debug)]
pub struct Options {
    /// How many rounds; each kills a payer that has requests in parallel under way.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    rounds: u64,
    /// Repeats the choices of an earlier attack.
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
}

/// Builds the binary and runs the attack; `false` if something was overspent.
///
/// # Errors
/// Cargo cannot be started.
pub fn run(options: &Options) -> Result<bool> {
    let mut cargo = shell::cargo();
    cargo.args(["test", "-p", "millstream-cli", "--test", "budget_crash", "--", "--nocapture"]);
    cargo.env("MILLSTREAM_BUDGET_ROUNDS", options.rounds.to_string());
    if let Some(seed) = options.seed {
        cargo.env("MILLSTREAM_BUDGET_SEED", seed.to_string());
    }
    shell::succeeds(&mut cargo)
}
