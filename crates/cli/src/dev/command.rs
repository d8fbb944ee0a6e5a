//! `millstream dev`: stays up until it is told to stop, and starts the node again when it dies.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use millstream_node::stop_signal;

use super::{Dev, DevInfo, DevOptions};
use crate::context::Context;
use crate::error::{CliError, CliResult, Exit};
use crate::output::{View, pairs};
use crate::profile::dev_profile_path;

/// How often the node is looked after.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// `millstream dev`.
#[derive(Args, Clone, Debug)]
pub struct DevArgs {
    /// Where configuration, keys, logs and state go; what an earlier development network left there is removed
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Port of the chain; 0 takes a free one
    #[arg(long, default_value_t = 8545)]
    pub chain_port: u16,
    /// Sizes of book: 24, 48, 96, 192 or 384 slots
    #[arg(long, value_delimiter = ',', default_value = "24,96")]
    pub books: Vec<usize>,
    /// Seconds that the provider has to answer a payer's request
    #[arg(long, default_value_t = 86_400)]
    pub response_window_secs: u64,
}

impl View for DevInfo {
    fn table(&self) -> String {
        pairs(vec![
            ("chain", self.rpc_url.clone()),
            ("ledger", self.ledger.to_string()),
            ("token", format!("{} (test USDC)", self.token)),
            ("provider", self.provider.to_string()),
            ("buyer", self.buyer.to_string()),
            ("seller", self.seller.to_string()),
            ("session escrow", self.session_escrow.to_string()),
            ("node", format!("{} (process {})", self.node, self.node_pid)),
            ("admin", self.admin_url.clone()),
            ("node log", self.node_log.display().to_string()),
            ("node config", self.node_config.display().to_string()),
            ("profile", self.profile.display().to_string()),
        ])
    }
}

/// Sets the network up, says where it is, and keeps it up until SIGINT or SIGTERM.
///
/// # Errors
/// What cannot be set up, or a node that does not stay up.
pub async fn run(context: &Context, args: &DevArgs) -> CliResult<()> {
    let failed = |error: anyhow::Error| CliError::new(Exit::Failed, "dev_failed", format!("{error:#}"));
    let usual = || dev_profile_path().and_then(|profile| profile.parent().map(PathBuf::from));
    let Some(directory) = args.dir.clone().or_else(usual) else {
        return Err(CliError::usage("no_directory", "there is no home directory").hint("name one with --dir"));
    };
    let mut options = DevOptions::new(directory).map_err(failed)?;
    options.chain_port = args.chain_port;
    options.book_sizes.clone_from(&args.books);
    options.response_window_secs = args.response_window_secs;
    let stop = stop_signal().map_err(failed)?;
    let mut dev = Dev::start(options, |step| context.output.note(&format!("{step} ..."))).await.map_err(failed)?;
    context.output.show(&dev.info())?;
    context
        .output
        .note("running; stop it with Ctrl-C. In another terminal: millstream replay --channels 8 --payments 20000 --settle");
    context
        .output
        .note("or sell something: millstream gateway --upstream http://127.0.0.1:8000 --price '0.40 USDC / 1M output_token'");
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
        let ended = dev.node.ended().map_err(|error| failed(error.into()))?;
        if let Some(status) = ended {
            context.output.note(&format!("the node ended ({status}); starting it again"));
            dev.node.restart().map_err(failed)?;
        }
    }
    context.output.note("stopping");
    dev.node.stop().map_err(failed)
}
