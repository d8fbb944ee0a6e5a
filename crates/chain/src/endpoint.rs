//! An RPC endpoint whose secrets never reach a message.

use std::fmt;

use alloy::transports::http::reqwest::Url;

/// Messages of a peer are cut to this many characters.
const MESSAGE_CHARS_MAX: usize = 400;
/// What stands where a secret was.
const REDACTED: &str = "***";
/// Parts of a URL shorter than this are no keys; replacing them would only garble messages.
const SECRET_CHARS_MIN: usize = 6;

/// A URL that prints as scheme, host and port only: user, password, path and query may all carry a key.
#[derive(Clone)]
pub(crate) struct Endpoint {
    url: Url,
    secrets: Vec<String>,
}

impl Endpoint {
    /// Reads an `http` or `https` URL. `None` says only that it is none; the text is not repeated.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())?;
        let parts = [url.username(), url.password().unwrap_or_default()].into_iter();
        let parts = parts.chain(url.path().split('/')).chain(url.query().unwrap_or_default().split(['&', '=']));
        let mut secrets: Vec<String> = parts.filter(|part| part.len() >= SECRET_CHARS_MIN).map(str::to_owned).collect();
        secrets.extend([text.trim().to_owned(), url.to_string()]);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Some(Self { url, secrets })
    }

    pub(crate) fn url(&self) -> Url {
        self.url.clone()
    }

    /// A message of the endpoint or of the HTTP stack, without the secrets and of bounded length.
    pub(crate) fn scrub(&self, message: &str) -> String {
        let clean = self.secrets.iter().fold(message.to_owned(), |message, secret| message.replace(secret.as_str(), REDACTED));
        match clean.char_indices().nth(MESSAGE_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &clean[..end]),
            None => clean,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.url.scheme(), self.url.host_str().unwrap_or_default())?;
        self.url.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scheme_host_and_port_are_printed() {
        let endpoint = Endpoint::parse("https://alice:hunter22@rpc.example:8443/v3/0123456789abcdef?key=topsecret").expect("a URL");
        assert_eq!(format!("{endpoint} {endpoint:?}"), "https://rpc.example:8443 https://rpc.example:8443");
        for leak in
            ["hunter22", "0123456789abcdef", "topsecret", "https://alice:hunter22@rpc.example:8443/v3/0123456789abcdef?key=topsecret"]
        {
            let message = endpoint.scrub(&format!("error sending request for url ({leak})"));
            assert!(!message.contains("hunter22") && !message.contains("0123456789abcdef") && !message.contains("topsecret"), "{message}");
        }
        assert!(endpoint.scrub(&"x".repeat(10_000)).len() < 500);
    }

    #[test]
    fn only_http_is_accepted() {
        for text in ["", "rpc.example", "ws://rpc.example", "file:///etc/passwd"] {
            assert!(Endpoint::parse(text).is_none(), "{text}");
        }
    }
}
