//! `millstream backup`, `restore` and `db check`: the database of a node or a gateway, which is money.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use millstream_node::{BackupManifest, CheckReport};
use serde::Serialize;

use crate::admin::Admin;
use crate::context::{self, Context};
use crate::error::{CliError, CliResult};
use crate::output::{View, pairs};

/// `backup`.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// The directory of the backup, which must not exist; on another disk, or copied there afterwards
    #[arg(value_name = "TARGET")]
    pub target: PathBuf,
    /// The data directory of a node that does not run; without this, one that runs is asked
    #[arg(long, value_name = "DIR", conflicts_with = "admin")]
    pub data_dir: Option<PathBuf>,
    /// The admin listener of the node or gateway that runs; the profile's without this
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
}

/// `restore`.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// The directory of the backup
    #[arg(value_name = "BACKUP")]
    pub backup: PathBuf,
    /// The data directory that it goes to; it must have no database
    #[arg(value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// `db`.
#[derive(Subcommand, Clone, Debug)]
pub enum DbCommand {
    /// Verify everything that can be verified: heads, checksums, vouchers, totals, bills, trees
    Check(CheckArgs),
}

/// `db check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The data directory of a node that does not run, or a backup
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// A backup that was written or restored.
#[derive(Serialize)]
struct Moved {
    directory: PathBuf,
    commit: u64,
    files: usize,
    bytes: u64,
}

impl Moved {
    fn of(directory: &Path, manifest: &BackupManifest) -> Self {
        let bytes = manifest.files.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        Self { directory: directory.to_owned(), commit: manifest.commit, files: manifest.files.len(), bytes }
    }
}

impl View for Moved {
    fn table(&self) -> String {
        pairs([
            ("directory", self.directory.display().to_string()),
            ("up to batch", self.commit.to_string()),
            ("files", self.files.to_string()),
            ("bytes", self.bytes.to_string()),
        ])
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Checked(CheckReport);

impl View for Checked {
    fn table(&self) -> String {
        let report = &self.0;
        let lines = pairs([
            ("belongs to", report.serves.clone().unwrap_or_else(|| "nothing yet".to_owned())),
            ("up to batch", report.commit.to_string()),
            ("records", report.records.to_string()),
            ("channels", report.channels.to_string()),
            ("frames", report.frames.to_string()),
            ("epochs", report.epochs.to_string()),
            ("charges", report.charges.to_string()),
            ("problems", report.problems_total.to_string()),
        ]);
        [lines].into_iter().chain(report.problems.iter().map(|problem| format!("  {problem}"))).collect::<Vec<_>>().join("\n")
    }
}

/// Writes a backup.
///
/// # Errors
/// The target exists, or cannot be written; no node answers, or one has the database.
pub async fn backup(context: &Context, args: &BackupArgs) -> CliResult<()> {
    let failed = |error: anyhow::Error| CliError::failed("backup_failed", format!("{error:#}"));
    let target = std::path::absolute(&args.target).map_err(|error| failed(error.into()))?;
    let manifest = match &args.data_dir {
        Some(data_dir) => millstream_node::backup_stopped(data_dir, &target)
            .map_err(|error| failed(error).hint("while the node runs, leave --data-dir out: it writes the backup itself"))?,
        None => running(context, args.admin.as_deref())?.backup(&target).await?,
    };
    context.output.show(&Moved::of(&target, &manifest))
}

/// The admin listener of what runs: the one that is named, the profile's node, or its gateway.
pub(crate) fn running(context: &Context, named: Option<&str>) -> CliResult<Admin> {
    if let Some(url) = named {
        return context::admin_named("--admin", url);
    }
    let profile = context.profile()?;
    match profile.node.admin_url.as_deref().or(profile.gateway.admin_url.as_deref()) {
        Some(url) => Admin::new(url),
        None => Err(CliError::usage("admin_url", "nothing says where the admin listener is").hint("give --admin http://127.0.0.1:PORT")),
    }
}

/// Puts a backup into a data directory.
///
/// # Errors
/// The directory has a database, or the backup is damaged.
pub fn restore(context: &Context, args: &RestoreArgs) -> CliResult<()> {
    let restored = millstream_node::restore(&args.backup, &args.data_dir);
    let manifest = restored.map_err(|error| CliError::failed("restore_failed", format!("{error:#}")))?;
    context
        .output
        .note("what was paid after the backup is not in it, and channels that paid since are ahead of it: see docs/operating/backup.md");
    context.output.show(&Moved::of(&args.data_dir, &manifest))
}

/// Runs the command.
///
/// # Errors
/// Something does not hold: exit status 5, after the report; or the database cannot be opened.
pub fn db(context: &Context, command: &DbCommand) -> CliResult<()> {
    let DbCommand::Check(args) = command;
    let report = millstream_node::check_database(&args.directory)
        .map_err(|error| CliError::failed("db_check", format!("{error:#}")).hint("stop the node first, or check a backup of it"))?;
    let problems = report.problems_total;
    context.output.show(&Checked(report))?;
    if problems == 0 {
        return Ok(());
    }
    Err(CliError::check_failed("db_problems", format!("{problems} problems were found"))
        .hint("keep the directory as it is, and restore the newest backup that has none"))
}
