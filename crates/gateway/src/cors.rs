//! Pages in browsers may pay too: they must be let send payment headers, and read them.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::ConfigError;
use crate::body::{Body, empty};
use crate::headers::EXPOSED;

/// Seconds for which a browser may remember the answer.
const MAX_AGE_SECS: u64 = 600;
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Which origins are let in.
#[derive(Clone, Debug)]
pub(crate) enum Cors {
    /// The upstream decides.
    Upstream,
    Any,
    These(Vec<HeaderValue>),
}

impl Cors {
    pub(crate) fn new(origins: &[String]) -> Result<Self, ConfigError> {
        match origins {
            [] => Ok(Self::Upstream),
            [any] if any == "*" => Ok(Self::Any),
            these => {
                let origin = |text: &String| {
                    let sound = text.contains("://") && !text.ends_with('/');
                    HeaderValue::from_str(text).ok().filter(|_| sound).ok_or_else(|| {
                        ConfigError::value(
                            "server.cors_origins",
                            format!("`{text}` is not an origin such as https://app.example, nor `*` alone"),
                        )
                    })
                };
                Ok(Self::These(these.iter().map(origin).collect::<Result<_, _>>()?))
            }
        }
    }

    /// The answer to a preflight, if this is one and ours to answer.
    pub(crate) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response<Body>> {
        let asks = method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let origin = self.allowed(headers.get(ORIGIN)).filter(|_| asks)?;
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(ALLOWED_METHODS));
        if let Some(wanted) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(MAX_AGE_SECS));
        answer.insert(VARY, HeaderValue::from_static("Origin, Access-Control-Request-Headers"));
        Some(response)
    }

    /// Lets a page read the answer and its payment headers.
    pub(crate) fn expose(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if let Some(allowed) = self.allowed(origin) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            let exposed = match headers.get(ACCESS_CONTROL_EXPOSE_HEADERS).and_then(|value| value.to_str().ok()) {
                Some(upstreams) => format!("{upstreams}, {EXPOSED}"),
                None => EXPOSED.to_owned(),
            };
            if let Ok(exposed) = HeaderValue::from_str(&exposed) {
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
            }
            if matches!(self, Self::These(_)) {
                headers.append(VARY, HeaderValue::from_static("Origin"));
            }
        }
    }

    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        let origin = origin?;
        match self {
            Self::Upstream => None,
            Self::Any => Some(HeaderValue::from_static("*")),
            Self::These(these) => these.contains(origin).then(|| origin.clone()),
        }
    }
}
