//! Every test there is, in one command and one number.

use std::io::Write;

use anyhow::Result;

use crate::tally::Tally;
use crate::{setup, shell};

/// Checks of the contracts that are not lists of tests.
const CONTRACT_CHECKS: [&str; 3] = ["artifacts:check", "snapshot:check", "coverage"];

/// Sets up, runs all tests, prints the sum alone on the last line, and says whether everything passed.
///
/// A part that fails does not keep the others from running.
///
/// # Errors
/// Something cannot be installed or started.
pub fn run() -> Result<bool> {
    setup::run()?;
    let mut tally = Tally::default();

    // The contracts come first: Rust embeds what they compile to.
    let built = shell::succeeds(&mut shell::npm_script("build"))?;
    tally.check(built);
    if built {
        count(&mut tally, &mut shell::npm_script("test"))?;
        for check in CONTRACT_CHECKS {
            let holds = shell::succeeds(&mut shell::npm_script(check))?;
            tally.check(holds);
        }
    }
    count(&mut tally, shell::cargo().args(["test", "--workspace", "--no-fail-fast"]))?;

    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{tally}")?;
    out.flush()?;
    Ok(tally.is_green())
}

fn count(tally: &mut Tally, command: &mut std::process::Command) -> Result<()> {
    let before = *tally;
    let succeeded = shell::succeeds_with_lines(command, |line| tally.read_line(line))?;
    tally.settle(before, succeeded);
    Ok(())
}
