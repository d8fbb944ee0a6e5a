//! `millstream node`: a settlement node until it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use millstream_node::{Node, NodeConfig, stop_signal};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::error::{CliError, CliResult};

/// What `millstream node` says on its standard output once it listens: one line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listening {
    /// Where payers connect to.
    pub listen: std::net::SocketAddr,
    /// Where the operator connects to.
    pub admin_listen: std::net::SocketAddr,
    /// What payers pin.
    pub certificate_sha256: String,
    /// The process.
    pub pid: u32,
}

/// `millstream node`.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// The node's configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Do not run: declare the database to be all there is, although more was acknowledged. What is missing is lost; reconcile first
    #[arg(long)]
    pub accept_database_head: bool,
}

/// Runs a node until SIGTERM, SIGINT or a failure.
///
/// # Errors
/// What is wrong with the configuration, or what failed.
pub async fn run(args: &NodeArgs) -> CliResult<()> {
    let failed = |error: anyhow::Error| CliError::failed("node_failed", format!("{error:#}"));
    let config = NodeConfig::load(&args.config).map_err(|error| CliError::usage("node_config", format!("{error:#}")))?;
    if args.accept_database_head {
        let commit = millstream_node::accept_database_head(&config).map_err(failed)?;
        println!("{}", serde_json::json!({ "accepted_commit": commit }));
        return Ok(());
    }
    let stop = stop_signal().map_err(failed)?;
    let node = Node::start(&config).await.map_err(failed)?;
    // A configuration without a ledger was refused above.
    let (Some(listen), Some(certificate_sha256)) = (node.listen(), node.certificate_sha256()) else {
        return Err(CliError::usage("node_config", "chain.ledger is missing"));
    };
    let listening =
        Listening { listen, admin_listen: node.admin_listen(), certificate_sha256: certificate_sha256.to_owned(), pid: std::process::id() };
    let path = args.config.clone();
    node.reloads().read_from(move || NodeConfig::load(&path));
    let hangups = reload_on_hangup(&node).map_err(failed)?;
    println!("{}", serde_json::to_string(&listening).map_err(|error| failed(error.into()))?);
    let ended = node.run_until(stop).await.map_err(failed);
    hangups.abort();
    ended
}

/// At each SIGHUP the configuration is read again, as `millstream config reload` has it read.
///
/// # Errors
/// The system does not deliver signals.
pub fn reload_on_hangup(node: &Node) -> anyhow::Result<JoinHandle<()>> {
    let (mut hangup, reloads) = (signal(SignalKind::hangup())?, Arc::clone(node.reloads()));
    Ok(tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            // What came of it is logged; a task that panicked has said so.
            let reloads = Arc::clone(&reloads);
            let _ = tokio::task::spawn_blocking(move || reloads.reload()).await;
        }
    }))
}
