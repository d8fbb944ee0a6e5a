//! What must hold beside the tests: formatting, lints, documentation, architecture, tidiness.

use anyhow::Result;

use crate::{architecture, shell, tidy};

/// Runs all checks, the quick ones first, and says whether all of them hold.
///
/// # Errors
/// Something cannot be started or read.
pub fn run() -> Result<bool> {
    let mut problems = architecture::problems_of_workspace()?;
    problems.extend(tidy::problems_of(&shell::root())?);
    for problem in &problems {
        eprintln!("error: {problem}");
    }
    let mut holds = problems.is_empty();
    holds &= shell::succeeds(shell::cargo().args(["fmt", "--all", "--check"]))?;
    // A workspace of its own, which `--all` does not reach.
    holds &= shell::succeeds(shell::cargo().args(["fmt", "--manifest-path", "proptests/fuzz/Cargo.toml", "--", "--check"]))?;
    holds &= shell::succeeds(&mut shell::npm_script("fmt:check"))?;
    // `for` over a hash map cannot be banned by name in a clippy.toml; this lint finds it.
    let lints = ["--", "-D", "warnings", "-D", "clippy::iter_over_hash_type"];
    holds &= shell::succeeds(shell::cargo().args(["clippy", "--workspace", "--all-targets", "--all-features"]).args(lints))?;
    holds &= shell::succeeds(shell::cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(holds)
}
