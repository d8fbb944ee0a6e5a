//! The gate: a tower layer that lets a request through when it is paid.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CONTENT_LENGTH, HOST, ORIGIN, TE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Limited};
use millstream_tariff::History;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tower::{Layer, Service, ServiceExt};

use crate::body::{Body, BoxError, Prompt, boxed, full};
use crate::bounds::{asking_for_usage, json_fields, model};
use crate::cards::Cards;
use crate::cors::Cors;
use crate::delivery::{Delivery, SingleDelivery, Upstream, chain};
use crate::dialects::{Asked, Dialects, Intent, OnceSpeech, Speech, now};
use crate::discovery::Discovery;
use crate::facilitator::{Facilitator, FacilitatorPort};
use crate::headers::{Forwarded, REQUEST_ID, is_payment};
use crate::pattern::CleanPath;
use crate::port::{ChargePort, HoldOnce, RequestId, Reserve};
use crate::priced::{Priced, open_cards, priced};
use crate::problem::Problem;
use crate::route::{Found, Pricing, Route, Routes};
use crate::{ConfigError, GatewayConfig};

/// Milliseconds after which a client that was turned away for load may come back.
const OVERLOADED_MILLIS: u64 = 1_000;
/// Milliseconds after which a client may come back to what no price holds for.
const NO_PRICE_MILLIS: u64 = 60_000;

/// A gate in front of a service: routes with prices, and who keeps the money.
///
/// As a [`Layer`] it goes around any service that takes [`Body`] requests; axum's routers and routes do. Requests that no route covers are
/// answered with 404, so an application that sells only some of what it does has `free` routes for the rest.
#[derive(Clone)]
pub struct Gate {
    pub(crate) shared: Arc<Shared>,
}

/// A service behind a gate.
#[derive(Clone)]
pub struct Gated<S> {
    shared: Arc<Shared>,
    inner: S,
}

pub(crate) struct Shared {
    routes: Arc<Routes>,
    cards: Option<Arc<Cards>>,
    dialects: Dialects,
    discovery: Discovery,
    cors: Cors,
    port: Arc<dyn ChargePort>,
    facilitator: Option<Arc<Facilitator>>,
    public_url: Option<String>,
    under_way: Arc<Semaphore>,
    /// Deliveries hold a clone; whoever has the other end knows when the last one has ended.
    running: mpsc::Sender<()>,
}

/// Waits until every delivery that a gate has begun is charged or void.
pub struct Drained(mpsc::Receiver<()>);

impl Drained {
    /// Resolves when the gate, all that was made of it, and all deliveries are gone.
    pub async fn wait(mut self) {
        while self.0.recv().await.is_some() {}
    }
}

/// The address of the client, for a request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub std::net::SocketAddr);

/// A response that ends a request early.
type Refused = Box<Response<Body>>;

fn refuse(problem: Problem, id: &RequestId) -> Refused {
    Box::new(problem.respond(id))
}

/// The route of a request that was let through, for its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Matched(pub(crate) Arc<Route>);

impl Gate {
    /// A gate for the routes of a configuration, as a layer: the routes need no upstream.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(config: &GatewayConfig, port: Arc<dyn ChargePort>) -> Result<(Self, Drained), ConfigError> {
        Self::build(config, port, None, false)
    }

    /// A gate that is a facilitator, too, when the configuration has its section.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn with_facilitator(
        config: &GatewayConfig,
        port: Arc<dyn ChargePort>,
        facilitator: Arc<dyn FacilitatorPort>,
    ) -> Result<(Self, Drained), ConfigError> {
        Self::build(config, port, Some(facilitator), false)
    }

    pub(crate) fn build(
        config: &GatewayConfig,
        port: Arc<dyn ChargePort>,
        facilitator: Option<Arc<dyn FacilitatorPort>>,
        proxied: bool,
    ) -> Result<(Self, Drained), ConfigError> {
        let facilitator = match (&config.facilitator, facilitator) {
            (None, _) => None,
            (Some(section), Some(facilitator)) => Some(Arc::new(Facilitator::new(config, section, &port, facilitator)?)),
            (Some(_), None) => return Err(ConfigError::value("facilitator", "nobody here settles for others: leave the section out")),
        };
        let dialects = Dialects::new(config)?;
        if dialects.takes_singles() && port.singles().is_none() {
            return Err(ConfigError::value("payment.exact", "whoever keeps the money takes no single payments"));
        }
        let routes = Arc::new(Routes::new(config, dialects.token(), proxied)?);
        let sells = |route: &&Route| matches!(route.pricing(), Pricing::Price(tariff) if !dialects.can_sell(tariff));
        if let Some(route) = routes.iter().find(sells) {
            let reason =
                "only [payment.exact] is there, and the price is known at the end only: set payment.exact.take_ceiling, or take channels";
            return Err(ConfigError::value(format!("route `{}`, price", route.path()), reason));
        }
        let cards = open_cards(config, &routes, &dialects)?;
        let (running, ended) = mpsc::channel(1);
        let shared = Shared {
            discovery: Discovery::new(config),
            routes,
            cards,
            dialects,
            cors: Cors::new(&config.server.cors_origins)?,
            port,
            facilitator,
            public_url: config.server.public_url.as_deref().map(|url| url.trim_end_matches('/').to_owned()),
            under_way: Arc::new(Semaphore::new(config.server.requests_max.min(Semaphore::MAX_PERMITS))),
            running,
        };
        Ok((Self { shared: Arc::new(shared) }, Drained(ended)))
    }

    /// The rate cards, where routes have any: to publish others while it runs.
    #[must_use]
    pub fn cards(&self) -> Option<&Arc<Cards>> {
        self.shared.cards.as_ref()
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { shared: Arc::clone(&self.shared), inner }
    }
}

impl<S, B, R> Service<Request<B>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // The inner service is asked for readiness when a request reaches it.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let inner = self.inner.clone();
        Box::pin(async move { Ok(shared.answer(inner, request.map(boxed)).await) })
    }
}

impl Shared {
    /// Answers a request, and puts on the answer what every answer has.
    async fn answer<S, R>(self: Arc<Self>, inner: S, request: Request<Body>) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<R>> + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        R: HttpBody<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let id = RequestId::new();
        if let Some(response) = self.cors.preflight(request.method(), request.headers()) {
            return response;
        }
        let origin = request.headers().get(ORIGIN).cloned();
        let mut response = Arc::clone(&self).gate(inner, request, &id).await.unwrap_or_else(|refused| *refused);
        self.cors.expose(origin.as_ref(), response.headers_mut());
        response.headers_mut().insert(REQUEST_ID, id.to_header());
        response
    }

    async fn gate<S, R>(self: Arc<Self>, inner: S, request: Request<Body>, id: &RequestId) -> Result<Response<Body>, Refused>
    where
        S: Service<Request<Body>, Response = Response<R>> + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        R: HttpBody<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let path = CleanPath::new(request.uri().path())
            .map_err(|error| refuse(Problem::new(StatusCode::BAD_REQUEST, "path-refused", format!("{error}: write it plainly.")), id))?;
        if let Some(facilitator) = &self.facilitator
            && let Some(endpoint) = facilitator.endpoint(&path)
        {
            return Ok(Arc::clone(facilitator).answer(endpoint, request, id, self.running.clone()).await);
        }
        let base_url = self.base_url(&request);
        if let Some(response) = self.discovery.answer(&request, &base_url, &self.routes, self.cards.as_ref(), &self.dialects) {
            return Ok(response);
        }
        let brings_voucher = request.method() == Method::HEAD && request.headers().get_all(AUTHORIZATION).iter().any(is_payment);
        let route = match self.routes.find(request.method(), &path, brings_voucher) {
            Found::Route(route) => Arc::clone(route),
            Found::OtherMethods(methods) => {
                let detail = format!("{} is not offered here.", request.method());
                let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail).respond(id);
                let allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
                if let Ok(allowed) = HeaderValue::from_str(&allowed.join(", ")) {
                    response.headers_mut().insert(ALLOW, allowed);
                }
                return Err(Box::new(response));
            }
            Found::Nothing => {
                let detail = "Nothing is offered at this path; /openapi.json lists what is.";
                return Err(refuse(Problem::new(StatusCode::NOT_FOUND, "no-route", detail), id));
            }
        };
        let permit = Arc::clone(&self.under_way).try_acquire_owned().map_err(|_| {
            let detail = "Too many requests are under way; nothing was charged, try again.";
            refuse(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).retryable(OVERLOADED_MILLIS), id)
        })?;
        if matches!(route.pricing(), Pricing::Free) {
            return Ok(self.free(inner, request, id, route, permit).await);
        }
        // The prices of this moment hold for the whole request, however long it takes.
        let priced = priced(&route, self.cards.as_ref(), now()).ok_or_else(|| {
            let detail = "No price holds for this now; nothing was charged, try again later.";
            refuse(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-price", detail).retryable(NO_PRICE_MILLIS), id)
        })?;
        self.paid(inner, request, id, (route, priced), &base_url, permit).await
    }

    /// Passes a request on that costs nothing.
    async fn free<S, R>(
        &self,
        inner: S,
        request: Request<Body>,
        id: &RequestId,
        route: Arc<Route>,
        permit: tokio::sync::OwnedSemaphorePermit,
    ) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<R>> + Send,
        S::Error: Into<BoxError>,
        S::Future: Send,
        R: HttpBody<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let limit = usize::try_from(route.limits.request_bytes_max).unwrap_or(usize::MAX);
        let (parts, body) = request.into_parts();
        let request = self.forward(Request::from_parts(parts, boxed(Limited::new(body, limit))), id, &route, false);
        let answer = tokio::time::timeout(route.timeouts.first_byte, inner.oneshot(request)).await;
        match answer {
            Ok(Ok(response)) => {
                let idle = route.timeouts.idle;
                let mut response = response;
                route.headers.response(response.headers_mut());
                response.map(|body| boxed(Held { body: boxed(Prompt::new(body, idle)), _permit: permit }))
            }
            Ok(Err(error)) => {
                let error: BoxError = error.into();
                tracing::warn!(request = id.as_str(), error = %chain(error.as_ref()), "the upstream failed");
                let detail = "The provider's service could not be reached; try again.";
                Problem::new(StatusCode::BAD_GATEWAY, "upstream-failed", detail).retryable(OVERLOADED_MILLIS).respond(id)
            }
            Err(_) => {
                let detail = "The provider's service gave nothing in time; try again.";
                Problem::new(StatusCode::GATEWAY_TIMEOUT, "upstream-silent", detail).retryable(OVERLOADED_MILLIS).respond(id)
            }
        }
    }

    async fn paid<S, R>(
        self: Arc<Self>,
        inner: S,
        request: Request<Body>,
        id: &RequestId,
        (route, priced): (Arc<Route>, Priced),
        base_url: &str,
        permit: tokio::sync::OwnedSemaphorePermit,
    ) -> Result<Response<Body>, Refused>
    where
        S: Service<Request<Body>, Response = Response<R>> + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        R: HttpBody<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let reads = priced.reads_requests(&route);
        let (body, read) = read_body(&route, reads, &parts.headers, body).await.map_err(|problem| refuse(*problem, id))?;
        let fields = json_fields(&parts.headers, &read);
        let tariff = priced.tariff(&route, fields.as_ref().and_then(model)).map_err(|not_sold| {
            refuse(Problem::new(StatusCode::BAD_REQUEST, "model-not-sold", format!("{not_sold}; /openapi.json lists what is.")), id)
        })?;
        let bound = route.bound(&tariff, fields.as_ref(), read.len()).map_err(|too_much| {
            refuse(Problem::new(StatusCode::BAD_REQUEST, "limit-exceeded", format!("{too_much}: ask for less.")), id)
        })?;
        let ceiling = tariff
            .ceiling_up(&bound)
            .map_err(|error| refuse(Problem::new(StatusCode::BAD_REQUEST, "limit-exceeded", format!("{error}: ask for less.")), id))?;
        let asked = Asked {
            route: Arc::clone(&route),
            tariff: Arc::clone(&tariff),
            ceiling,
            resource: format!("{base_url}{}", parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)),
            request: id.clone(),
            streams: route.streams(&parts.headers, fields.as_ref()),
        };
        let intent = match self.dialects.read(&parts.method, &parts.headers, &asked, self.port.as_ref()).await {
            Ok(Some(intent)) => intent,
            Ok(None) => return Err(Box::new(self.dialects.offer(&asked, None))),
            Err(refusal) => return Err(Box::new(self.dialects.offer(&asked, Some(*refusal)))),
        };
        let (request, fingerprint) = (id.clone(), fingerprint(&parts, &read));
        let (version, pattern) = (tariff.version().clone(), route.path.as_str().into());
        let paid = match intent {
            Intent::Pay { tender, speech, at_least, logical } => {
                let reserve =
                    Reserve { tender: *tender, ceiling, at_least, request, logical, fingerprint, tariff: version, route: pattern };
                Paid::FromChannel(Box::new((*speech, reserve)))
            }
            Intent::Once { payment, speech, logical } => {
                let hold = HoldOnce { payment: *payment, request, logical, fingerprint, tariff: version, route: pattern };
                Paid::Once(Box::new((*speech, hold)))
            }
            // No resource is asked for: a voucher ahead, a refund, a close.
            Intent::Manage(act) => return Ok(self.dialects.manage(*act, self.port.as_ref(), &asked).await),
        };
        let (mut parts, mut body) = (parts, body);
        if let Some(asking) = fields.filter(|_| route.request_usage).and_then(asking_for_usage) {
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(asking.len()));
            body = full(asking);
        }
        let trailers = parts.headers.get_all(TE).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"))
            || parts.version == http::Version::HTTP_2;
        let request = self.forward(Request::from_parts(parts, body), id, &route, route.reads_requests(&tariff));
        let port = Arc::clone(&self.port);
        let (head, answer) = oneshot::channel();
        let running = self.running.clone();
        let upstream: Upstream = Box::pin(async move {
            let answer = inner.oneshot(request).await;
            answer.map(|response| response.map(boxed)).map_err(Into::into)
        });
        tokio::spawn(async move {
            match paid {
                Paid::FromChannel(charge) => {
                    let (speech, reserve) = *charge;
                    let history = History::default();
                    Delivery { port, route, tariff, history, speech, reserve, bound, trailers }.run(upstream, head).await;
                }
                Paid::Once(charge) => {
                    let (speech, hold) = *charge;
                    SingleDelivery { port, route, tariff, speech, hold }.run(upstream, head).await;
                }
            }
            drop((permit, running));
        });
        answer.await.map_err(|_| {
            let detail = "The delivery failed inside the gateway; what it cost is on the channel's statement.";
            refuse(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "fault", detail), id)
        })
    }

    /// The request as the inner service gets it.
    fn forward(&self, mut request: Request<Body>, id: &RequestId, route: &Arc<Route>, identity_only: bool) -> Request<Body> {
        let client =
            request.extensions().get::<ClientAddress>().and_then(|address| HeaderValue::from_str(&address.0.ip().to_string()).ok());
        let host = request.headers().get(HOST).cloned().or_else(|| {
            let authority = request.uri().authority()?;
            HeaderValue::from_str(authority.as_str()).ok()
        });
        let forwarded = Forwarded {
            client,
            scheme: Some(HeaderValue::from_static(if self.public_url.as_deref().is_some_and(|url| url.starts_with("https:")) {
                "https"
            } else {
                "http"
            })),
            host,
            request_id: id.to_header(),
            identity_only,
        };
        route.headers.request(request.headers_mut(), &forwarded);
        request.extensions_mut().insert(Matched(Arc::clone(route)));
        request
    }

    /// The address that the client knows us by.
    fn base_url(&self, request: &Request<Body>) -> String {
        match &self.public_url {
            Some(url) => url.clone(),
            None => {
                let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
                let host = host.or(request.uri().authority().map(http::uri::Authority::as_str)).unwrap_or("localhost");
                format!("http://{host}")
            }
        }
    }
}

/// How a request is paid.
enum Paid {
    FromChannel(Box<(Speech, Reserve)>),
    Once(Box<(OnceSpeech, HoldOnce)>),
}

/// The body as it goes on, and what of it was read. Where the route's price does not depend on it, it is not read but passed on as it comes.
async fn read_body(route: &Route, reads: bool, headers: &http::HeaderMap, body: Body) -> Result<(Body, Bytes), Box<Problem>> {
    let limit = usize::try_from(route.limits.request_bytes_max).unwrap_or(usize::MAX);
    let too_large = || {
        let detail = format!("The request's body is longer than {limit} bytes.");
        Box::new(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail))
    };
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|value| value.parse::<usize>().ok());
    if announced.is_some_and(|announced| announced > limit) {
        return Err(too_large());
    }
    let limited = Limited::new(body, limit);
    if !reads {
        return Ok((boxed(limited), Bytes::new()));
    }
    match limited.collect().await {
        Ok(collected) => {
            let bytes = collected.to_bytes();
            Ok((full(bytes.clone()), bytes))
        }
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Box::new(Problem::new(StatusCode::BAD_REQUEST, "body-broken", "The request's body broke off."))),
    }
}

/// What makes a request the same request: method, path, query, and the body where it was read.
fn fingerprint(parts: &http::request::Parts, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [parts.method.as_str(), parts.uri.path(), parts.uri.query().unwrap_or_default()] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.update(body);
    hash.finalize().into()
}

pin_project_lite::pin_project! {
    /// A body that holds its place among the requests under way.
    struct Held {
        #[pin]
        body: Body,
        _permit: tokio::sync::OwnedSemaphorePermit,
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
