//! `millstream proxy`: a local address to give to programs as their `base_url`, that pays for what they ask.

use std::net::SocketAddr;

use clap::Args;
use millstream_client::http::{ProxyOptions, ProxyUpstreams, serve_orders, serve_proxy};
use millstream_node::stop_signal;
use serde::Serialize;
use tokio::net::TcpListener;

use super::SpendArgs;
use crate::context::Context;
use crate::error::{CliError, CliResult, chain_of};
use crate::output::{View, pairs};

/// `proxy`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Give the printed address to a program as its base_url. With --upstream all requests go to one service; with --allow the first part of the path
names the service, as in http://127.0.0.1:4405/api.example/v1/models.

Answers have x-millstream-charged and x-millstream-price, in base units. A request that a limit stops is answered with problem+json that says
what was signed and charged. Whoever reaches the address spends the money: it listens on this machine only, unless --expose is given.")]
pub struct ProxyArgs {
    /// The service that all requests go to
    #[arg(long, value_name = "URL", required_unless_present = "allow", conflicts_with = "allow")]
    pub upstream: Option<String>,
    /// A service that the first part of the path may name: its host, or its whole address. May be given several times
    #[arg(long, value_name = "HOST")]
    pub allow: Vec<String>,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4405")]
    pub listen: SocketAddr,
    /// Listen on an address that others can reach: they spend this payer's money
    #[arg(long)]
    pub expose: bool,
    /// Whose money, and how much of it.
    #[command(flatten)]
    pub spend: SpendArgs,
}

/// What runs.
#[derive(Clone, Debug, Serialize)]
struct ProxyView {
    /// For `base_url`.
    base_url: String,
    account: String,
    book: String,
}

impl View for ProxyView {
    fn table(&self) -> String {
        pairs([("base_url", self.base_url.clone()), ("account", self.account.clone()), ("book", self.book.clone())])
    }
}

/// Runs until it is told to stop.
///
/// # Errors
/// A flag or the profile is wrong, the book is in use, or the address cannot be listened on.
pub async fn run(context: &Context, args: &ProxyArgs) -> CliResult<()> {
    if !args.listen.ip().is_loopback() && !args.expose {
        let message = format!("{} can be reached by others, who would spend this payer's money", args.listen);
        return Err(CliError::usage("listen", message).hint("listen on 127.0.0.1, or add --expose if that is meant"));
    }
    let upstreams = match &args.upstream {
        Some(url) => ProxyUpstreams::one(url),
        None => ProxyUpstreams::by_path(args.allow.iter().map(String::as_str)),
    };
    let upstreams = upstreams.map_err(|error| CliError::usage("upstream", error.to_string()))?;
    let payer = args.spend.payer(context).await?;
    let failed = |error: std::io::Error| CliError::failed("listen", format!("cannot listen on {}: {error}", args.listen));
    let listener = TcpListener::bind(args.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let stop = stop_signal().map_err(|error| CliError::failed("signals", format!("{error:#}")))?;
    context.output.show(&ProxyView {
        base_url: format!("http://{address}"),
        account: payer.account().to_string(),
        book: payer.book().path().display().to_string(),
    })?;
    let options = ProxyOptions { upstreams, foreign_hosts: args.expose };
    let orders = async {
        // As where the book's path is longer than a socket's may be: payments do not need it.
        if let Err(error) = serve_orders(payer.clone()).await {
            tracing::warn!(error = %chain_of(&error), "`millstream policy` cannot reach this proxy: stop it to give orders");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = serve_proxy(payer.clone(), options, listener, stop) => {}
        () = orders => {}
    }
    Ok(())
}
