//! The x402 facilitator's API for other people's servers: `POST /verify`, `POST /settle`, `GET /supported`, under a path of the gateway's listener.
//!
//! The HTTP side: who may ask, how often, how much, and the formats. What payments are worth is behind [`FacilitatorPort`]: this crate knows no
//! chain. Answers have the shapes that the published clients read, errors included: a body that is none of these makes them give up with no reason.
//!
//! Source: x402 specification v2, the facilitator's interface; `docs/spec/facilitator.md`.

pub(crate) mod config;
mod custody;
mod keys;
mod port;
mod rate;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use millstream_dialect::x402::{FacilitatorRequest, Reason, SettleResponse, VerifyResponse};
use millstream_dialect::{DialectError, limits};
use tokio::sync::{Semaphore, mpsc};

pub use self::config::{FacilitatorAssetSection, FacilitatorGasSection, FacilitatorKeySection, FacilitatorSection};
use self::custody::Custody;
pub use self::keys::KeyTerms;
use self::keys::{Keys, Unknown};
pub use self::port::{Ask, Caller, FacilitatorPort};
use self::rate::{Rates, Subject};
use crate::ConfigError;
use crate::body::{Body, full};
use crate::config::GatewayConfig;
use crate::gate::ClientAddress;
use crate::pattern::CleanPath;
use crate::port::{ChargePort, PortError, RequestId};
use crate::problem::Problem;

/// Seconds after which a server that was turned away for load may come back.
const OVERLOADED_SECS: u64 = 1;
/// Seconds that a body may take to arrive.
const BODY_SECS: u64 = 30;

/// The API on a listener.
pub(crate) struct Facilitator {
    path: CleanPath,
    port: Arc<dyn FacilitatorPort>,
    custody: Option<Custody>,
    keys: Keys,
    rates: Rates,
    requests_minute_max: u32,
    body_bytes_max: usize,
    under_way: Semaphore,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Verify,
    Settle,
    Supported,
    /// Something under the path that is none of these.
    Nothing,
}

/// Why a request is not answered by the port.
struct Refusal {
    status: StatusCode,
    reason: Reason,
    message: String,
    retry_after_secs: Option<u64>,
}

impl Refusal {
    fn new(status: StatusCode, reason: Reason, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into(), retry_after_secs: None }
    }

    fn retry_after(mut self, secs: u64) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }
}

impl Facilitator {
    pub(crate) fn new(
        config: &GatewayConfig,
        section: &FacilitatorSection,
        charge: &Arc<dyn ChargePort>,
        port: Arc<dyn FacilitatorPort>,
    ) -> Result<Self, ConfigError> {
        let value = |key: &str, reason: &str| Err(ConfigError::value(format!("facilitator.{key}"), reason));
        let path = CleanPath::new(&section.path).map_err(|error| ConfigError::value("facilitator.path", error.to_string()))?;
        if path.is_root() || !section.path.starts_with('/') {
            return value("path", "it must begin with `/` and not be `/` itself, which is the routes'");
        }
        if section.requests_minute_max == 0 || section.keys.iter().any(|key| key.requests_minute_max == Some(0)) {
            return value("requests_minute_max", "it must be above 0");
        }
        if !(1..=Semaphore::MAX_PERMITS).contains(&section.requests_max) {
            return value("requests_max", "it must be above 0");
        }
        if !(1_024..=limits::FACILITATOR_BODY_BYTES_MAX).contains(&section.body_bytes_max) {
            return value("body_bytes_max", "it must be 1024 to 1048576");
        }
        let custody = section.voucher_store.then(|| Custody::new(config, Arc::clone(charge), Arc::clone(&port))).transpose()?;
        Ok(Self {
            path,
            port,
            custody,
            keys: Keys::new(section)?,
            rates: Rates::default(),
            requests_minute_max: section.requests_minute_max,
            body_bytes_max: section.body_bytes_max,
            under_way: Semaphore::new(section.requests_max),
        })
    }

    /// What of the API a path is, if it is under the API's.
    pub(crate) fn endpoint(&self, path: &CleanPath) -> Option<Endpoint> {
        let rest = path.under(&self.path)?;
        Some(match rest {
            [one] if one == "verify" => Endpoint::Verify,
            [one] if one == "settle" => Endpoint::Settle,
            [one] if one == "supported" => Endpoint::Supported,
            _ => Endpoint::Nothing,
        })
    }

    /// Answers a request under the API's path.
    pub(crate) async fn answer(
        self: Arc<Self>,
        endpoint: Endpoint,
        request: Request<Body>,
        id: &RequestId,
        running: mpsc::Sender<()>,
    ) -> Response<Body> {
        let allowed = match endpoint {
            Endpoint::Verify | Endpoint::Settle => "POST",
            Endpoint::Supported => "GET, HEAD",
            Endpoint::Nothing => {
                let detail = "The facilitator has /verify, /settle and /supported.";
                return Problem::new(StatusCode::NOT_FOUND, "no-route", detail).respond(id);
            }
        };
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        if is_read != (endpoint == Endpoint::Supported) || (!is_read && request.method() != Method::POST) {
            let detail = format!("{} is not offered here.", request.method());
            let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail).respond(id);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return response;
        }
        let answered = self.ask(endpoint, request, running).await;
        let mut response = answered.unwrap_or_else(|refusal| {
            tracing::debug!(request = id.as_str(), reason = %refusal.reason, message = refusal.message, "a facilitator's request is refused");
            refused(endpoint, &refusal)
        });
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    async fn ask(
        self: Arc<Self>,
        endpoint: Endpoint,
        request: Request<Body>,
        running: mpsc::Sender<()>,
    ) -> Result<Response<Body>, Box<Refusal>> {
        let caller = self.caller(endpoint, &request)?;
        if endpoint == Endpoint::Supported {
            let mut supported = self.port.supported();
            if let Some(custody) = &self.custody {
                custody.tell(&mut supported);
            }
            return Ok(json(StatusCode::OK, supported.to_json()));
        }
        let overloaded = |_| {
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, unexpected(endpoint), "too many requests are under way");
            Box::new(refusal.retry_after(OVERLOADED_SECS))
        };
        let permit = self.under_way.try_acquire().map_err(overloaded)?;
        let body = self.body(request).await?;
        let request = FacilitatorRequest::from_json(&body).map_err(|error| Box::new(malformed(&error)))?;
        let versions = [request.x402_version, request.payment_payload.x402_version];
        if versions.iter().any(|version| *version != millstream_dialect::x402::VERSION) {
            let message = "only version 2 is spoken";
            return Err(Box::new(Refusal::new(StatusCode::BAD_REQUEST, Reason::InvalidX402Version, message)));
        }
        let ask = Ask { request, caller };
        let custody = self.custody.as_ref().filter(|_| Custody::is_meant(&ask.request));
        let answer = match (endpoint, custody) {
            (Endpoint::Verify, Some(custody)) => custody.verify(ask).await.map(|answer| answer.to_json()),
            (_, Some(_)) => self.settle_in_custody(ask).await.map(|answer| answer.to_json()),
            (Endpoint::Verify, None) => self.port.verify(ask).await.map(|answer| answer.to_json()),
            // What is settled is settled whether or not the server is still there: the port sees to that, and the stop waits.
            (_, None) => self.port.settle(ask).await.map(|answer| answer.to_json()),
        };
        drop((permit, running));
        match answer {
            Ok(answer) => Ok(json(StatusCode::OK, answer)),
            Err(error) => Err(Box::new(unknown(endpoint, &error))),
        }
    }

    /// In a task of its own: a server that goes away must not leave a charge half made.
    async fn settle_in_custody(self: &Arc<Self>, ask: Ask) -> Result<SettleResponse, PortError> {
        let this = Arc::clone(self);
        let settled = tokio::spawn(async move {
            match &this.custody {
                Some(custody) => custody.settle(ask).await,
                None => this.port.settle(ask).await,
            }
        });
        settled.await.unwrap_or_else(|panic| Err(PortError::Fault { reason: panic.to_string() }))
    }

    /// Who asks, if they may.
    fn caller(&self, endpoint: Endpoint, request: &Request<Body>) -> Result<Caller, Box<Refusal>> {
        let address = request.extensions().get::<ClientAddress>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |client| client.0.ip());
        let by_address = |minute_max| self.rates.take(Subject::from(address), minute_max, Instant::now());
        let too_often = |wait: Duration| {
            let secs = wait.as_secs().saturating_add(1);
            let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, unexpected(endpoint), "too many requests in a minute");
            Box::new(refusal.retry_after(secs))
        };
        let key = match self.keys.of(request.headers()) {
            Ok(key) => key,
            Err(unknown) => {
                // Guesses are counted too.
                by_address(self.requests_minute_max).map_err(too_often)?;
                let message = match unknown {
                    Unknown::Missing => "a key is needed: Authorization: Bearer …",
                    Unknown::Wrong => "the key is not known",
                };
                return Err(Box::new(Refusal::new(StatusCode::UNAUTHORIZED, unexpected(endpoint), message)));
            }
        };
        match &key {
            Some(terms) => self.rates.take(Subject::Key(Arc::clone(&terms.name)), terms.requests_minute_max, Instant::now()),
            None => by_address(self.requests_minute_max),
        }
        .map_err(too_often)?;
        Ok(Caller { key, address })
    }

    /// The body, within its limits.
    async fn body(&self, request: Request<Body>) -> Result<Bytes, Box<Refusal>> {
        let limit = self.body_bytes_max;
        let too_large = || {
            let message = format!("the body is longer than {limit} bytes");
            Box::new(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Reason::InvalidPayload, message))
        };
        let announced =
            request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<usize>().ok());
        if announced.is_some_and(|announced| announced > limit) {
            return Err(too_large());
        }
        let broken = |message: &str| Box::new(Refusal::new(StatusCode::BAD_REQUEST, Reason::InvalidPayload, message));
        let collected = Limited::new(request.into_body(), limit).collect();
        match tokio::time::timeout(Duration::from_secs(BODY_SECS), collected).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) => Err(broken("the body broke off")),
            Err(_) => Err(broken("the body did not arrive in time")),
        }
    }
}

fn malformed(error: &DialectError) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, Reason::InvalidPayload, error.to_string())
}

const fn unexpected(endpoint: Endpoint) -> Reason {
    match endpoint {
        Endpoint::Settle => Reason::UnexpectedSettleError,
        Endpoint::Verify | Endpoint::Supported | Endpoint::Nothing => Reason::UnexpectedVerifyError,
    }
}

/// What a server is told when the port does not know.
fn unknown(endpoint: Endpoint, error: &PortError) -> Refusal {
    match error {
        PortError::Unavailable { retry_after_millis } => {
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, unexpected(endpoint), "it is not known now: ask again");
            refusal.retry_after(retry_after_millis.div_ceil(1_000).max(1))
        }
        PortError::Rejected(rejection) => Refusal::new(StatusCode::BAD_REQUEST, unexpected(endpoint), rejection.to_string()),
        PortError::Fault { reason } => {
            tracing::error!(reason, "the facilitator failed");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, unexpected(endpoint), "the facilitator failed")
        }
    }
}

/// A refusal in the shape of the endpoint's answers.
fn refused(endpoint: Endpoint, refusal: &Refusal) -> Response<Body> {
    let (reason, message) = (Some(refusal.reason.to_string()), Some(refusal.message.clone()));
    let body = match endpoint {
        Endpoint::Settle => {
            SettleResponse { success: false, error_reason: reason, error_message: message, ..SettleResponse::default() }.to_json()
        }
        Endpoint::Verify | Endpoint::Supported | Endpoint::Nothing => {
            VerifyResponse { is_valid: false, invalid_reason: reason, invalid_message: message, ..VerifyResponse::default() }.to_json()
        }
    };
    let mut response = json(refusal.status, body);
    if let Some(secs) = refusal.retry_after_secs {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(secs));
    }
    if refusal.status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"facilitator\""));
    }
    response
}

fn json(status: StatusCode, body: Result<Vec<u8>, DialectError>) -> Response<Body> {
    let (status, body) = match body {
        Ok(body) => (status, body),
        Err(error) => {
            tracing::error!(%error, "a facilitator's answer cannot be written");
            (StatusCode::INTERNAL_SERVER_ERROR, b"{}".to_vec())
        }
    };
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
