//! The client side: requests to upstreams, as they came.

use std::sync::Arc;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;

use crate::ServeError;
use crate::body::Body;
use crate::route::UpstreamTarget;

/// Seconds until a connection to an upstream stands.
const CONNECT_SECS: u64 = 10;
/// Seconds for which an unused connection to an upstream is kept.
const POOL_IDLE_SECS: u64 = 60;

type Connector = HttpsConnector<HttpConnector>;

/// Connections to upstreams: by HTTP/1.1, by what ALPN agrees on, or by HTTP/2 as a route says.
#[derive(Clone)]
pub(crate) struct Upstreams {
    negotiated: Client<Connector, Body>,
    http2: Client<Connector, Body>,
}

/// Why an upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// It could not be asked, or broke off.
    #[error("the upstream failed")]
    Failed(#[from] hyper_util::client::legacy::Error),
    /// The request's address does not go together with the upstream's.
    #[error("the request's address cannot be passed on")]
    Address(#[from] http::Error),
    /// The request has no route with an upstream: our own mistake.
    #[error("the request has no upstream")]
    NoRoute,
}

impl Upstreams {
    /// # Errors
    /// [`ServeError::Tls`].
    pub(crate) fn new() -> Result<Self, ServeError> {
        let tls = |error: rustls::Error| ServeError::Tls { reason: error.to_string() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(BuilderVerifierExt::with_platform_verifier)
            .map_err(tls)?
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(std::time::Duration::from_secs(CONNECT_SECS)));
        let both = HttpsConnectorBuilder::new().with_tls_config(config.clone()).https_or_http().enable_http1().enable_http2();
        let http2 = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http2();
        let builder = || {
            let mut builder = Client::builder(TokioExecutor::new());
            builder.pool_timer(TokioTimer::new()).pool_idle_timeout(std::time::Duration::from_secs(POOL_IDLE_SECS));
            builder
        };
        Ok(Self {
            negotiated: builder().build(both.wrap_connector(http.clone())),
            http2: builder().http2_only(true).build(http2.wrap_connector(http)),
        })
    }

    /// Sends a request on. Dropping the future, or the body of the answer, cancels it.
    pub(crate) async fn send(&self, target: &UpstreamTarget, mut request: Request<Body>) -> Result<Response<Incoming>, UpstreamError> {
        *request.uri_mut() = target.uri(request.uri())?;
        // The connection decides about the version; the client's own says nothing about the upstream's.
        *request.version_mut() = Version::HTTP_11;
        // The client makes the upstream's own.
        request.headers_mut().remove(http::header::HOST);
        let client = if target.http2 { &self.http2 } else { &self.negotiated };
        Ok(client.request(request).await?)
    }
}
