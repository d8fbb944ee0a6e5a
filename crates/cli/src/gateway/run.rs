//! Node, rail and gateway in one process: started from the inside out, stopped from the outside in.

use std::net::SocketAddr;
use std::sync::Arc;

use millstream_escrow::{self as escrow, Facilitator, FacilitatorRooms, FacilitatorTerms, Rail};
use millstream_gateway::facilitator::FacilitatorPort;
use millstream_gateway::{MoveMethod, RouteSection, ServeError, Server};
use millstream_node::{Node, stop_signal};
use millstream_types::Address;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::args::RunArgs;
use super::cards;
use super::ready::{Ready, config_error};
use super::settings::Settings;
use crate::context::Context;
use crate::error::{CliError, CliResult, chain_of};
use crate::output::{Format, View, pairs};

/// What `millstream gateway` says on its standard output once it listens: one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selling {
    /// Where clients connect to.
    pub listen: SocketAddr,
    /// Where the operator connects to.
    pub admin_listen: SocketAddr,
    /// The chain, by its CAIP-2 name.
    pub network: String,
    /// The token.
    pub asset: Address,
    /// Its symbol.
    pub symbol: String,
    /// Who is paid.
    pub pay_to: Address,
    /// Who claims and pays the gas.
    pub operator: Address,
    /// What is spoken.
    pub dialects: Vec<String>,
    /// What is sold, in the order in which routes are tried.
    pub routes: Vec<Sold>,
    /// The process.
    pub pid: u32,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sold {
    /// Empty for all.
    pub methods: Vec<String>,
    /// The path, as it was written.
    pub path: String,
    /// What it costs; nothing when it is free.
    pub price: Option<String>,
}

/// Sells until SIGTERM, SIGINT or a failure.
///
/// # Errors
/// What is wrong with the configuration or does not agree with the chain, or what failed.
pub(super) async fn run(context: &Context, args: &RunArgs) -> CliResult<()> {
    let failed = |error: anyhow::Error| CliError::failed("gateway_failed", format!("{error:#}"));
    let settings = Settings::read(context, args)?;
    let ready = Ready::check(settings).await?;
    for warning in &ready.warnings {
        warn!("{warning}");
        context.output.note(&format!("warning: {warning}"));
    }
    // Before anything is opened: a port that is taken is found at once.
    let address = ready.gateway.server.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        CliError::usage("listen", format!("cannot listen on {address}: {error}"))
            .hint("another gateway runs there? choose another with --listen, or server.listen in the file")
    })?;
    let listen = listener.local_addr().map_err(|error| failed(error.into()))?;

    // From here on a signal stops in order.
    let stop = stop_signal().map_err(failed)?;
    let node = Node::start(&ready.node).await.map_err(failed)?;
    let (facilitator, rail) = match inside(&node, &ready).await {
        Ok(inside) => inside,
        Err(error) => {
            node.stop().await.map_err(failed)?;
            return Err(failed(error));
        }
    };
    let facilitator = facilitator.map(|facilitator| -> Arc<dyn FacilitatorPort> { Arc::new(facilitator) });
    let server = match Server::new(&ready.gateway, rail.port(), facilitator) {
        Ok(server) => server,
        Err(error) => {
            rail.stop().await;
            node.stop().await.map_err(failed)?;
            return Err(config_error(&error, &ready.token));
        }
    };
    let mut admin = rail.admin();
    if let Some(cards) = server.cards() {
        admin.routes = admin.routes.merge(cards::routes(Arc::clone(cards)));
    }
    node.mount(admin).map_err(failed)?;
    let parts = Parts::start(node, rail, server, listener);
    let selling = Selling::of(&ready, listen, parts.node.admin_listen());
    info!(%listen, admin_listen = %selling.admin_listen, network = selling.network, "selling");
    if let Err(error) = selling.say(context) {
        parts.stop().await.map_err(failed)?;
        return Err(error);
    }
    parts.run_until(stop, &ready).await
}

/// What is between the node and the listener. The facilitator comes first: what an earlier process sent for others is followed on before anything
/// else is sent.
async fn inside(node: &Node, ready: &Ready) -> anyhow::Result<(Option<Facilitator>, Rail)> {
    let facilitator = match FacilitatorTerms::of(&ready.gateway)? {
        None => None,
        Some(terms) => {
            let rooms = FacilitatorRooms {
                payments: node.payments(),
                rpc: node.rpc().clone(),
                submitter: node.submitter().clone(),
                confirmations: ready.node.chain.confirmations,
                terms,
            };
            Some(Facilitator::start(rooms).await?)
        }
    };
    Ok((facilitator, Rail::start(escrow::Parts::of(node), ready.rail.clone()).await?))
}

/// Everything that runs.
struct Parts {
    node: Node,
    rail: Rail,
    serving: JoinHandle<Result<(), ServeError>>,
    drain: oneshot::Sender<()>,
}

/// Why serving ended.
enum Ended {
    Told,
    Failed(anyhow::Error),
    Refused(ServeError),
}

impl Parts {
    fn start(node: Node, rail: Rail, server: Server, listener: TcpListener) -> Self {
        let (drain, drained) = oneshot::channel::<()>();
        // Whoever has gone without a word wants it to end, too.
        let serving = tokio::spawn(async move { server.run(listener, async move { drained.await.unwrap_or_default() }).await });
        Self { node, rail, serving, drain }
    }

    async fn run_until(mut self, signal: impl Future<Output = ()>, ready: &Ready) -> CliResult<()> {
        let ended = tokio::select! {
            () = signal => Ended::Told,
            failure = self.node.failed() => Ended::Failed(failure),
            failure = self.rail.failed() => Ended::Failed(failure),
            served = &mut self.serving => match served {
                Ok(Ok(())) => Ended::Failed(anyhow::anyhow!("the gateway ended")),
                Ok(Err(error)) => Ended::Refused(error),
                Err(panic) => Ended::Failed(anyhow::Error::from(panic).context("the gateway failed")),
            },
        };
        info!("stopping: requests under way end first");
        let stopped = self.stop().await;
        match ended {
            Ended::Told => {}
            Ended::Failed(failure) => return Err(CliError::failed("gateway_failed", format!("{failure:#}"))),
            Ended::Refused(ServeError::Config(error)) => return Err(config_error(&error, &ready.token)),
            Ended::Refused(error @ ServeError::Tls { .. }) => return Err(CliError::failed("tls", chain_of(&error))),
        }
        stopped.map_err(|error| CliError::failed("gateway_failed", format!("{error:#}")))
    }

    /// Requests under way end and are charged; then the rail, which needs the core; the core last.
    async fn stop(self) -> anyhow::Result<()> {
        let Self { node, rail, serving, drain } = self;
        // It may have ended by itself.
        let _ = drain.send(());
        if !serving.is_finished() {
            let _ = serving.await;
        }
        rail.stop().await;
        node.stop().await
    }
}

impl Selling {
    fn of(ready: &Ready, listen: SocketAddr, admin_listen: SocketAddr) -> Self {
        let payment = &ready.gateway.payment;
        let by_token = payment.exact.as_ref().is_some_and(|exact| exact.methods.contains(&MoveMethod::Eip3009));
        let dialects = [
            (payment.x402.is_some(), "x402 batch-settlement"),
            (payment.exact.is_some(), "x402 exact"),
            (payment.mpp.as_ref().is_some_and(|mpp| mpp.escrow.is_some()), "MPP evm/session"),
            (payment.mpp.is_some() && by_token, "MPP evm/charge"),
        ];
        let price = |route: &RouteSection| route.price.clone().or_else(|| route.card.as_ref().map(|card| format!("rate card {card}")));
        let sold = |route: &RouteSection| Sold { methods: route.methods.clone(), path: route.path.clone(), price: price(route) };
        Self {
            listen,
            admin_listen,
            network: payment.network.clone(),
            asset: ready.terms.asset,
            symbol: payment.symbol.clone(),
            pay_to: ready.terms.pay_to,
            operator: ready.terms.operator,
            dialects: dialects.into_iter().filter(|(spoken, _)| *spoken).map(|(_, name)| name.to_owned()).collect(),
            routes: ready.gateway.routes.iter().map(sold).collect(),
            pid: std::process::id(),
        }
    }

    fn say(&self, context: &Context) -> CliResult<()> {
        match context.output.format() {
            Format::Table => context.output.show(self),
            // One line, for whoever started it to read.
            Format::Json => context.output.line(self),
        }
    }

    /// Something to try: the first route that is not free, with its first method.
    fn try_it(&self) -> Option<String> {
        let route = self.routes.iter().find(|route| route.price.is_some())?;
        let method = match route.methods.first().map(String::as_str) {
            None | Some("GET") => String::new(),
            Some(method) => format!("-X {method} "),
        };
        let path = route.path.trim_end_matches('*');
        Some(format!("curl -i {method}http://{}{path}", self.listen))
    }
}

impl View for Selling {
    fn table(&self) -> String {
        let sold = self.routes.iter().map(|route| {
            let methods = if route.methods.is_empty() { String::new() } else { format!("{} ", route.methods.join(",")) };
            ("sells", format!("{methods}{}: {}", route.path, route.price.as_deref().unwrap_or("free")))
        });
        let lines = [("listens", format!("http://{}", self.listen))].into_iter().chain(sold).chain([
            ("for", format!("{} ({}) on {}, paid to {}", self.symbol, self.asset, self.network, self.pay_to)),
            ("speaks", self.dialects.join(", ")),
            ("admin", format!("http://{}", self.admin_listen)),
        ]);
        let lines = lines.chain(self.try_it().map(|command| ("try", command)));
        pairs(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selling() -> Selling {
        let sold = |methods: &[&str], path: &str, price: Option<&str>| Sold {
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            path: path.to_owned(),
            price: price.map(str::to_owned),
        };
        Selling {
            listen: ([127, 0, 0, 1], 4402).into(),
            admin_listen: ([127, 0, 0, 1], 4403).into(),
            network: "eip155:31337".to_owned(),
            asset: Address::from_bytes([0xd4; 20]),
            symbol: "USDC".to_owned(),
            pay_to: Address::from_bytes([0xb2; 20]),
            operator: Address::from_bytes([0xb2; 20]),
            dialects: vec!["x402 batch-settlement".to_owned(), "MPP evm/session".to_owned()],
            routes: vec![
                sold(&["GET"], "/v1/models", None),
                sold(&["POST"], "/v1/chat/completions", Some("2 USDC / 1M input_token + 8 USDC / 1M output_token")),
                sold(&[], "/*", Some("0.001 USDC / call")),
            ],
            pid: 4242,
        }
    }

    #[test]
    fn what_is_sold_is_said_in_a_few_lines() {
        assert_eq!(selling().table(), include_str!("../../tests/snapshots/gateway_selling.txt").trim_end());
    }

    #[test]
    fn the_first_paid_route_is_what_to_try() {
        let mut selling = selling();
        assert_eq!(selling.try_it().expect("one"), "curl -i -X POST http://127.0.0.1:4402/v1/chat/completions");
        selling.routes.remove(1);
        assert_eq!(selling.try_it().expect("one"), "curl -i http://127.0.0.1:4402/");
        selling.routes.remove(1);
        assert_eq!(selling.try_it(), None);
    }
}
