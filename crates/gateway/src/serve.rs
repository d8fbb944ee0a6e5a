//! The gateway as a server: a listener, the gate, and upstreams behind it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::{Layer, Service};

use crate::body::{Body, BoxError};
use crate::cards::Cards;
use crate::facilitator::FacilitatorPort;
use crate::gate::{ClientAddress, Drained, Gate, Gated, Matched};
use crate::port::ChargePort;
use crate::upstream::{UpstreamError, Upstreams};
use crate::{ConfigError, GatewayConfig, ServeError, ServerSection};

/// Seconds that a client has to send a request's head in.
const HEAD_SECS: u64 = 30;
/// Streams that are open at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// Bytes of a request's head: payments of x402 alone take one and a half kibibytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// What is waited for after a failed accept: the process is out of descriptors, and some may be closed meanwhile.
const ACCEPT_PAUSE_MILLIS: u64 = 100;

/// Serves until `shutdown` resolves; then takes no more connections, lets requests under way end for `server.drain_secs`, and waits until
/// everything that was delivered is charged.
///
/// It speaks HTTP/1.1 and HTTP/2 without TLS, whichever the client begins with. TLS is ended in front of it.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    config: &GatewayConfig,
    port: Arc<dyn ChargePort>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    Server::new(config, port, None)?.run(listener, shutdown).await
}

/// As [`serve`], and a facilitator for other people's servers on the same listener, when the configuration has its section.
///
/// # Errors
/// [`ServeError`].
pub async fn serve_with_facilitator(
    config: &GatewayConfig,
    port: Arc<dyn ChargePort>,
    facilitator: Arc<dyn FacilitatorPort>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    Server::new(config, port, Some(facilitator))?.run(listener, shutdown).await
}

/// A gateway that does not listen yet: for those who do something with it meanwhile, and while it runs.
pub struct Server {
    gate: Gate,
    drained: Drained,
    server: ServerSection,
}

impl Server {
    /// Everything is checked. With `facilitator` it is one for other people's servers, too, when the configuration has its section.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(
        config: &GatewayConfig,
        port: Arc<dyn ChargePort>,
        facilitator: Option<Arc<dyn FacilitatorPort>>,
    ) -> Result<Self, ConfigError> {
        let (gate, drained) = Gate::build(config, port, facilitator, true)?;
        Ok(Self { gate, drained, server: config.server.clone() })
    }

    /// The rate cards, where routes have any: to publish others while it runs.
    #[must_use]
    pub fn cards(&self) -> Option<&Arc<Cards>> {
        self.gate.cards()
    }

    /// Serves, as [`serve`] does.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn run(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { gate, drained, server } = self;
        serve_gate(&server, gate, drained, listener, shutdown).await
    }
}

async fn serve_gate(
    server: &ServerSection,
    gate: Gate,
    drained: Drained,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let service = gate.layer(Proxy { upstreams: Upstreams::new()? });
    drop(gate);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEAD_SECS))
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(Some(Duration::from_secs(HEAD_SECS)));
    let connections = Arc::new(Semaphore::new(server.connections_max.min(Semaphore::MAX_PERMITS)));
    let graceful = GracefulShutdown::new();
    tokio::pin!(shutdown);
    loop {
        // A connection beyond the limit waits in the system's queue.
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let (stream, address, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MILLIS)).await;
                continue;
            }
        };
        // Small events must leave as they come.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(FromClient { service: service.clone(), address: ClientAddress(address) });
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "a connection broke off");
            }
            drop(permit);
        });
    }
    drop((listener, service));
    let drain = Duration::from_secs(server.drain_secs);
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were under way when the time to drain ended");
    }
    // Deliveries end when their connections do, and are charged then.
    let _ = tokio::time::timeout(drain, drained.wait()).await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, std::net::SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((stream, address, permit))
}

/// Puts the client's address on its requests.
#[derive(Clone)]
struct FromClient {
    service: Gated<Proxy>,
    address: ClientAddress,
}

impl Service<Request<Incoming>> for FromClient {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.address);
        let answer = self.service.call(request);
        Box::pin(async move {
            let failed = |_| {
                let mut response = Response::new(crate::body::empty());
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response
            };
            Ok(answer.await.unwrap_or_else(failed))
        })
    }
}

/// Sends a request to the upstream of its route.
#[derive(Clone)]
struct Proxy {
    upstreams: Upstreams,
}

impl Service<Request<Body>> for Proxy {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let upstreams = self.upstreams.clone();
        Box::pin(async move {
            let route = request.extensions().get::<Matched>().map(|matched| Arc::clone(&matched.0));
            let route = route.ok_or(UpstreamError::NoRoute)?;
            let target = route.upstream.as_ref().ok_or(UpstreamError::NoRoute)?;
            Ok(upstreams.send(target, request).await?)
        })
    }
}
