//! A local address that pays: requests come in as if the service were free, go on to it, and are paid for on the way.
//!
//! It is for programs that can be given a `base_url`. Bodies pass as they come, in both directions. Whoever reaches the address spends the
//! payer's money, so it is meant for this machine alone, and refuses pages in browsers.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use reqwest::{Body, Url};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::error::{HttpPayError, Refusal};
use super::payer::HttpPayer;
use super::ticket::Payment;

/// Seconds that a program has to send a request's head in.
const HEAD_SECS: u64 = 30;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Connections that are open at once; more wait.
const CONNECTIONS_MAX: usize = 1_024;
/// Seconds that requests under way have when the proxy stops.
const DRAIN_SECS: u64 = 30;
/// What is waited for after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Types of problems of ours.
const TYPES: &str = "urn:millstream:problem:";

/// Headers of one connection, not of the message (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    TRANSFER_ENCODING,
    TRAILER,
    UPGRADE,
];
/// Payments that a program sends by itself; they do not pass.
const PAYMENTS: [HeaderName; 3] =
    [HeaderName::from_static("payment-signature"), HeaderName::from_static("x-payment"), HeaderName::from_static("payment-authorization")];

/// Where requests go.
#[derive(Clone, Debug)]
pub enum ProxyUpstreams {
    /// All to one service: the request's path comes after its address.
    One(Url),
    /// To one of several: the first part of the path is the service's host, as in `/api.example/v1/models`.
    ByPath(BTreeMap<String, Url>),
}

/// Settings of a proxy.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Where requests go.
    pub upstreams: ProxyUpstreams,
    /// Takes requests whose `Host` is not this machine's. Only for listeners that others are meant to reach.
    pub foreign_hosts: bool,
}

/// Why a proxy cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// An upstream that is no `http` or `https` address, or has credentials, a query or a fragment.
    #[error("{text} is no address of an upstream: expected http:// or https://, a host, and perhaps a path")]
    Upstream {
        /// What was given.
        text: String,
    },
    /// No upstream.
    #[error("there is no upstream")]
    NoUpstream,
}

impl ProxyUpstreams {
    /// One upstream.
    ///
    /// # Errors
    /// [`ProxyError::Upstream`].
    pub fn one(text: &str) -> Result<Self, ProxyError> {
        upstream(text).map(Self::One)
    }

    /// Several, by the first part of the path: `host` or `host:port` of each. A host without a scheme is asked by `https`.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub fn by_path<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Result<Self, ProxyError> {
        let mut map = BTreeMap::new();
        for text in hosts {
            let url = if text.contains("://") { upstream(text)? } else { upstream(&format!("https://{text}"))? };
            let host = url.host_str().ok_or_else(|| ProxyError::Upstream { text: text.to_owned() })?;
            let key = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
            map.insert(key, url);
        }
        if map.is_empty() { Err(ProxyError::NoUpstream) } else { Ok(Self::ByPath(map)) }
    }

    /// Where a request goes; nothing when its host is not one of these.
    fn target(&self, path_and_query: &str) -> Option<Url> {
        let (base, rest) = match self {
            Self::One(base) => (base, path_and_query),
            Self::ByPath(hosts) => {
                let path = path_and_query.strip_prefix('/')?;
                let end = path.find(['/', '?']).unwrap_or(path.len());
                let (host, rest) = path.split_at(end);
                (hosts.get(&host.to_ascii_lowercase())?, rest)
            }
        };
        let slash = if rest.starts_with('/') { "" } else { "/" };
        let target: Url = format!("{}{slash}{rest}", base.as_str().trim_end_matches('/')).parse().ok()?;
        // Dot segments lead nowhere else: the address is still the upstream's.
        let inside = target.path().starts_with(base.path().trim_end_matches('/'));
        (target.origin() == base.origin() && inside && target.username().is_empty()).then_some(target)
    }
}

fn upstream(text: &str) -> Result<Url, ProxyError> {
    let refused = || ProxyError::Upstream { text: text.to_owned() };
    let url: Url = text.parse().map_err(|_| refused())?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    let known = url.scheme() == "http" || url.scheme() == "https";
    if plain && known && url.has_host() { Ok(url) } else { Err(refused()) }
}

/// Serves until `shutdown` resolves; then takes no more connections, and lets requests under way end.
///
/// It speaks HTTP/1.1 and HTTP/2 without TLS, whichever the program begins with.
pub async fn serve_proxy(payer: HttpPayer, options: ProxyOptions, listener: TcpListener, shutdown: impl Future<Output = ()>) {
    let options = Arc::new(options);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let head = Duration::from_secs(HEAD_SECS);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(HEAD_BYTES_MAX);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(head));
    let graceful = GracefulShutdown::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Small events must leave as they come.
        let _ = stream.set_nodelay(true);
        let (payer, options) = (payer.clone(), Arc::clone(&options));
        let service = service_fn(move |request| {
            let (payer, options) = (payer.clone(), Arc::clone(&options));
            async move { Ok::<_, Infallible>(answer(&payer, &options, request).await) }
        });
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "a connection broke off");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(Duration::from_secs(DRAIN_SECS), graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were under way when the time to drain ended");
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn answer(payer: &HttpPayer, options: &ProxyOptions, request: Request<Incoming>) -> Response<Body> {
    let is_ours = request.headers().get(HOST).is_none_or(is_this_machine);
    if !options.foreign_hosts && !is_ours {
        return problem(StatusCode::FORBIDDEN, "host-refused", "This address is for programs on this machine.", &json!({}));
    }
    if is_from_a_page(request.headers()) {
        return problem(StatusCode::FORBIDDEN, "browser-refused", "Pages in a browser may not spend this payer's money.", &json!({}));
    }
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let Some(target) = options.upstreams.target(path) else {
        return problem(StatusCode::NOT_FOUND, "no-upstream", "The path names no upstream that is allowed.", &json!({}));
    };
    let (parts, body) = request.into_parts();
    let mut outgoing = reqwest::Request::new(parts.method, target);
    let has_body = !http_body::Body::is_end_stream(&body);
    *outgoing.headers_mut() = passed_on(parts.headers);
    if has_body {
        *outgoing.body_mut() = Some(Body::wrap(body));
    }
    match payer.execute(outgoing).await {
        Ok(response) => passed_back(payer, response),
        Err(error) => refused(&error),
    }
}

/// A name that means this machine: anything else came here by a name that somebody else has set (DNS rebinding).
fn is_this_machine(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    name.eq_ignore_ascii_case("localhost") || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_from_a_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    headers.contains_key(ORIGIN) || site.is_some_and(|site| site != b"none")
}

fn passed_on(mut headers: HeaderMap) -> HeaderMap {
    remove_hop_by_hop(&mut headers);
    for name in PAYMENTS.iter().chain([&HOST, &CONTENT_LENGTH, &TE]) {
        headers.remove(name);
    }
    let own: Vec<HeaderValue> = headers.get_all(AUTHORIZATION).iter().filter(|value| !is_payment(value)).cloned().collect();
    headers.remove(AUTHORIZATION);
    for value in own {
        headers.append(AUTHORIZATION, value);
    }
    headers
}

fn is_payment(value: &HeaderValue) -> bool {
    value.as_bytes().get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"payment "))
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    named.iter().chain(&HOP_BY_HOP).for_each(|name| drop(headers.remove(name)));
}

/// The answer, with what it cost as far as that is known when its head leaves.
fn passed_back(payer: &HttpPayer, response: reqwest::Response) -> Response<Body> {
    let payment = response.extensions().get::<Payment>().map(Payment::state);
    let mut response = Response::<Body>::from(response);
    remove_hop_by_hop(response.headers_mut());
    let Some(payment) = payment else { return response };
    let asset = payer.options().limits.of(payment.asset).map(|(asset, _)| asset.symbol.clone());
    let fields = [
        ("x-millstream-payment", Some(payment.id.replace(|c: char| !c.is_ascii_graphic(), "-"))),
        ("x-millstream-scheme", Some(payment.scheme.name().to_owned())),
        ("x-millstream-price", Some(payment.price.to_string())),
        ("x-millstream-charged", payment.charged.map(|charged| charged.to_string())),
        ("x-millstream-asset", asset),
        ("x-millstream-channel", payment.channel.map(|channel| channel.to_string())),
        ("x-millstream-disputed", payment.disputed.map(|_| "true".to_owned())),
    ];
    for (name, value) in fields {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// What the payer would not or could not do.
fn refused(error: &HttpPayError) -> Response<Body> {
    let status = match error {
        HttpPayError::NoOffer { .. } | HttpPayError::NotTaken { .. } | HttpPayError::NeedsApproval { .. } => StatusCode::PAYMENT_REQUIRED,
        HttpPayError::ChargedNotAnswered { .. } | HttpPayError::IdConflict { .. } | HttpPayError::InFlight { .. } => StatusCode::CONFLICT,
        HttpPayError::BodyTooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        HttpPayError::Unreachable(_) | HttpPayError::FalseClaim { .. } => StatusCode::BAD_GATEWAY,
        HttpPayError::Unanswered { .. } => StatusCode::GATEWAY_TIMEOUT,
        HttpPayError::OwnPayment { .. } | HttpPayError::Id(_) | HttpPayError::Body(_) => StatusCode::BAD_REQUEST,
        HttpPayError::UnknownChannel { .. }
        | HttpPayError::NoServer { .. }
        | HttpPayError::NothingLeft { .. }
        | HttpPayError::NoEndpoint { .. }
        | HttpPayError::Book(_)
        | HttpPayError::Policy(_)
        | HttpPayError::Chain(_)
        | HttpPayError::Write(_)
        | HttpPayError::Sign(_)
        | HttpPayError::Amount(_)
        | HttpPayError::Randomness
        | HttpPayError::Client(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut more = json!({ "retryable": error.is_retryable() });
    match error.signed() {
        None => more["charged"] = "0".into(),
        Some(signed) => {
            more["instance"] = signed.id.clone().into();
            more["signed"] = signed.price.to_string().into();
            // Not known is not nothing.
            more["charged"] = signed.charged.map_or(Value::Null, |charged| charged.to_string().into());
            if let Some(channel) = signed.channel {
                more["channelId"] = channel.to_string().into();
            }
        }
    }
    if let HttpPayError::NeedsApproval { approval, price, expires_at, .. } = error {
        more["approval"] = json!({ "number": approval, "price": price, "expiresAt": expires_at.as_secs_down() });
    }
    if let Some((decision, reason)) = policy_of(error) {
        more["policy"] = json!({ "decision": decision, "reason": reason });
    }
    if let Some((limit, max, wanted)) = limit_of(error) {
        more["limit"] = json!({ "name": limit, "max": max, "wanted": wanted });
    }
    let mut detail = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        detail = format!("{detail}: {cause}");
        source = cause.source();
    }
    problem(status, error.code(), &detail, &more)
}

fn limit_of(error: &HttpPayError) -> Option<(&'static str, String, String)> {
    let HttpPayError::NoOffer { offers, .. } = error else { return None };
    offers.iter().find_map(|(_, refusal)| match refusal {
        Refusal::Limit { limit, max, wanted } => Some((limit.name(), max.to_string(), wanted.to_string())),
        _ => None,
    })
}

fn policy_of(error: &HttpPayError) -> Option<(u64, &'static str)> {
    let HttpPayError::NoOffer { offers, .. } = error else { return None };
    offers.iter().find_map(|(_, refusal)| match refusal {
        Refusal::Policy { decision, reason } => Some((*decision, reason.kind.name())),
        _ => None,
    })
}

fn problem(status: StatusCode, code: &str, detail: &str, more: &Value) -> Response<Body> {
    let mut document = json!({
        "type": format!("{TYPES}{code}"), "title": status.canonical_reason().unwrap_or("Error"), "status": status.as_u16(),
        "detail": detail, "code": code, "charged": "0", "retryable": false,
    });
    if let (Some(document), Some(more)) = (document.as_object_mut(), more.as_object()) {
        document.extend(more.clone());
    }
    let mut response = Response::new(Body::from(Bytes::from(document.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_to_their_upstream_and_nowhere_else() {
        let check = |upstreams: &ProxyUpstreams, path: &str, expected: Option<&str>| {
            assert_eq!(upstreams.target(path).as_ref().map(Url::as_str), expected, "{path}");
        };
        let one = ProxyUpstreams::one("https://api.example/base/").expect("an address");
        check(&one, "/v1/models?limit=1", Some("https://api.example/base/v1/models?limit=1"));
        check(&one, "/", Some("https://api.example/base/"));
        check(&one, "/../admin", None);
        check(&one, "//evil.example/x", Some("https://api.example/base//evil.example/x"));
        let several = ProxyUpstreams::by_path(["api.example", "http://127.0.0.1:8000"]).expect("addresses");
        check(&several, "/api.example/v1", Some("https://api.example/v1"));
        check(&several, "/API.example?x=1", Some("https://api.example/?x=1"));
        check(&several, "/127.0.0.1:8000/v1", Some("http://127.0.0.1:8000/v1"));
        for path in ["/evil.example/v1", "/", "/api.example@evil.example/", "/api.example:80/v1"] {
            check(&several, path, None);
        }
        for text in ["ftp://a", "https://", "https://u:p@a", "https://a?b", "a"] {
            assert!(ProxyUpstreams::one(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_names_of_this_machine_are_taken() {
        let check = |host: &'static str, expected| assert_eq!(is_this_machine(&HeaderValue::from_static(host)), expected, "{host}");
        for host in ["127.0.0.1:4403", "localhost", "LOCALHOST:1", "[::1]:4403", "127.0.0.2"] {
            check(host, true);
        }
        for host in ["evil.example", "127.0.0.1.evil.example:80", "10.0.0.1", "localhost.evil", ""] {
            check(host, false);
        }
    }
}
