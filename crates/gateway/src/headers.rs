//! Headers: which ones pass, in either direction.

use std::fmt;

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};

use crate::ConfigError;
use crate::config::{CredentialSection, HeadersSection};

/// Headers of one connection, not of the message (RFC 9110, 7.6.1). `te: trailers` is dealt with apart.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers of payments. An upstream never sees a request's, and cannot make up an answer's.
pub(crate) const PAYMENT: [HeaderName; 12] = [
    HeaderName::from_static("payment-authorization"),
    HeaderName::from_static("payment-signature"),
    HeaderName::from_static("payment-required"),
    HeaderName::from_static("payment-response"),
    HeaderName::from_static("x-payment"),
    HeaderName::from_static("x-payment-response"),
    HeaderName::from_static("payment-receipt"),
    HeaderName::from_static("payment-session"),
    HeaderName::from_static("payment-session-snapshot"),
    HeaderName::from_static("accept-payment"),
    HeaderName::from_static("sign-in-with-x"),
    HeaderName::from_static("settlement-overrides"),
];

/// Headers that pages in browsers must be let read.
pub(crate) const EXPOSED: &str = "PAYMENT-REQUIRED, PAYMENT-RESPONSE, Payment-Receipt, WWW-Authenticate, X-Request-Id, Retry-After";

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What a route does to headers.
#[derive(Clone)]
pub(crate) struct HeaderRules {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    remove_from_response: Vec<HeaderName>,
    forward_authorization: bool,
}

impl fmt::Debug for HeaderRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        let set: Vec<&HeaderName> = self.set.iter().map(|(name, _)| name).collect();
        f.debug_struct("HeaderRules").field("remove", &self.remove).field("set", &set).finish_non_exhaustive()
    }
}

impl HeaderRules {
    pub(crate) fn new(section: &HeadersSection, place: &str) -> Result<Self, ConfigError> {
        let name =
            |name: &str| name.parse::<HeaderName>().map_err(|_| ConfigError::value(place, format!("`{name}` is not the name of a header")));
        let value = |key: &str, value: &str| {
            HeaderValue::from_str(value).map_err(|_| ConfigError::value(place, format!("the value of `{key}` is not one of a header")))
        };
        let mut set = section.set.iter().map(|(key, text)| Ok((name(key)?, value(key, text)?))).collect::<Result<Vec<_>, ConfigError>>()?;
        if let Some(credential) = &section.credential {
            let header = name(&credential.header)?;
            let prefix = credential.prefix.as_deref().unwrap_or(if header == AUTHORIZATION { "Bearer " } else { "" });
            let mut secret = value(&credential.header, &format!("{prefix}{}", secret(credential, place)?))?;
            secret.set_sensitive(true);
            set.push((header, secret));
        }
        for (name, _) in &set {
            if HOP_BY_HOP.contains(name) || PAYMENT.contains(name) || [HOST, CONTENT_LENGTH, TE, TRAILER].contains(name) {
                return Err(ConfigError::value(place, format!("`{name}` is not for a configuration to set")));
            }
        }
        let names = |names: &[String]| names.iter().map(|text| name(text)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            remove: names(&section.remove)?,
            set,
            remove_from_response: names(&section.remove_from_response)?,
            forward_authorization: section.forward_authorization,
        })
    }

    /// Makes the upstream's request headers of the client's.
    pub(crate) fn request(&self, headers: &mut HeaderMap, forwarded: &Forwarded) {
        let wants_trailers = headers.get_all(TE).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
        remove_hop_by_hop(headers);
        headers.remove(TE);
        if wants_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        PAYMENT.iter().for_each(|name| drop(headers.remove(name)));
        // Values of another scheme beside a payment's pass or not; a payment never does.
        let own: Vec<HeaderValue> = headers.get_all(AUTHORIZATION).iter().filter(|value| !is_payment(value)).cloned().collect();
        headers.remove(AUTHORIZATION);
        if self.forward_authorization {
            for value in own {
                headers.append(AUTHORIZATION, value);
            }
        }
        // What cannot be verified from here is not passed on as if it could.
        for (name, value) in [(FORWARDED_FOR, &forwarded.client), (FORWARDED_PROTO, &forwarded.scheme), (FORWARDED_HOST, &forwarded.host)] {
            match value {
                Some(value) => drop(headers.insert(name, value.clone())),
                None => drop(headers.remove(name)),
            }
        }
        headers.remove(http::header::FORWARDED);
        if forwarded.identity_only {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        headers.insert(REQUEST_ID, forwarded.request_id.clone());
        self.remove.iter().for_each(|name| drop(headers.remove(name)));
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
    }

    /// Makes the client's response headers of the upstream's.
    pub(crate) fn response(&self, headers: &mut HeaderMap) {
        remove_hop_by_hop(headers);
        PAYMENT.iter().for_each(|name| drop(headers.remove(name)));
        self.remove_from_response.iter().for_each(|name| drop(headers.remove(name)));
    }
}

/// What the gateway says of the request to the upstream.
pub(crate) struct Forwarded {
    pub(crate) client: Option<HeaderValue>,
    pub(crate) scheme: Option<HeaderValue>,
    pub(crate) host: Option<HeaderValue>,
    pub(crate) request_id: HeaderValue,
    /// The answer is metered, so it should not be compressed.
    pub(crate) identity_only: bool,
}

/// Whether an `Authorization` is a payment.
pub(crate) fn is_payment(value: &HeaderValue) -> bool {
    let scheme = value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"payment")
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    named.iter().filter(|name| **name != TE).chain(&HOP_BY_HOP).for_each(|name| drop(headers.remove(name)));
}

fn secret(section: &CredentialSection, place: &str) -> Result<String, ConfigError> {
    let secret = match (&section.env, &section.file) {
        (Some(name), None) => {
            std::env::var(name).map_err(|_| ConfigError::value(place, format!("the variable {name} is not set, or not text")))?
        }
        (None, Some(path)) => {
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?.trim().to_owned()
        }
        _ => return Err(ConfigError::value(place, "a credential has either `env` or `file`")),
    };
    if secret.is_empty() { Err(ConfigError::value(place, "the credential is empty")) } else { Ok(secret) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let pair =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().expect("a name"), value.parse::<HeaderValue>().expect("a value"));
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    fn forwarded(identity_only: bool) -> Forwarded {
        let request_id = HeaderValue::from_static("req_1");
        Forwarded { client: Some(HeaderValue::from_static("192.0.2.1")), scheme: None, host: None, request_id, identity_only }
    }

    fn names(headers: &HeaderMap) -> Vec<String> {
        let mut names: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        names.sort();
        names
    }

    #[test]
    fn requests_lose_what_is_not_the_upstreams() {
        let client = [
            ("accept", "*/*"),
            ("connection", "x-own, te"),
            ("x-own", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("authorization", "Payment eyJ4"),
            ("authorization", "Bearer client"),
            ("payment-signature", "e30="),
            ("x-payment", "e30="),
            ("x-forwarded-for", "203.0.113.9"),
            ("forwarded", "for=203.0.113.9"),
            ("accept-encoding", "gzip"),
        ];
        let mut passed = headers(&client);
        HeaderRules::new(&HeadersSection::default(), "").expect("sound").request(&mut passed, &forwarded(true));
        assert_eq!(
            names(&passed),
            ["accept-encoding: identity", "accept: */*", "te: trailers", "x-forwarded-for: 192.0.2.1", "x-request-id: req_1"]
        );

        let mut passed = headers(&client);
        let section = HeadersSection { forward_authorization: true, ..HeadersSection::default() };
        HeaderRules::new(&section, "").expect("sound").request(&mut passed, &forwarded(false));
        assert_eq!(passed.get_all(AUTHORIZATION).iter().collect::<Vec<_>>(), ["Bearer client"]);
        assert_eq!(passed[ACCEPT_ENCODING], "gzip");
    }

    #[test]
    fn the_gateways_own_credential_replaces_the_clients() {
        let dir = std::env::temp_dir().join(format!("millstream-headers-{}", std::process::id()));
        std::fs::write(&dir, " sk-upstream\n").expect("writable");
        let credential = CredentialSection { header: "authorization".into(), prefix: None, env: None, file: Some(dir.clone()) };
        let section = HeadersSection { forward_authorization: true, credential: Some(credential), ..HeadersSection::default() };
        let rules = HeaderRules::new(&section, "").expect("sound");
        std::fs::remove_file(&dir).expect("there");
        let mut passed = headers(&[("authorization", "Bearer client")]);
        rules.request(&mut passed, &forwarded(false));
        assert_eq!(passed.get_all(AUTHORIZATION).iter().collect::<Vec<_>>(), ["Bearer sk-upstream"]);
        assert!(passed[AUTHORIZATION].is_sensitive());
        assert!(!format!("{rules:?}").contains("sk-upstream"));
    }

    #[test]
    fn an_upstream_cannot_make_up_payments() {
        let rules = HeaderRules::new(&HeadersSection { remove_from_response: vec!["server".into()], ..HeadersSection::default() }, "")
            .expect("sound");
        let mut passed = headers(&[
            ("payment-response", "x"),
            ("payment-receipt", "x"),
            ("server", "x"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("etag", "x"),
        ]);
        rules.response(&mut passed);
        assert_eq!(names(&passed), ["etag: x"]);
    }

    #[test]
    fn rules_that_cannot_hold_are_refused() {
        let set = |name: &str| HeadersSection { set: [(name.to_owned(), "x".to_owned())].into(), ..HeadersSection::default() };
        for section in [
            set("host"),
            set("content-length"),
            set("connection"),
            set("payment-signature"),
            set("not a name"),
            HeadersSection { remove: vec!["a b".into()], ..HeadersSection::default() },
            HeadersSection {
                credential: Some(CredentialSection { header: "authorization".into(), prefix: None, env: None, file: None }),
                ..HeadersSection::default()
            },
        ] {
            assert!(HeaderRules::new(&section, "").is_err(), "{section:?}");
        }
    }
}
