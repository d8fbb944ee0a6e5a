//! Who may ask the admin listener what. Without a file of tokens it is everybody on this machine; with one, whoever shows a token, within its scope.
//!
//! The file holds hashes, so whoever reads it can ask nothing. `/livez` and `/readyz` stay open: supervisors ask them, and they tell nothing.

use std::path::Path;

use anyhow::Context;
use axum::http::Method;
use millstream_types::Hash256;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Paths that need no token.
const OPEN: [&str; 2] = ["/livez", "/readyz"];

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To look: every `GET`.
    Read,
    /// To look, and to do: settle, claim, back up, reload.
    Operate,
}

impl Scope {
    /// What a request needs.
    #[must_use]
    pub fn of(method: &Method) -> Self {
        if [Method::GET, Method::HEAD].contains(method) { Self::Read } else { Self::Operate }
    }

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
        }
    }
}

/// A token, as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// Whose it is, for logs.
    pub name: String,
    /// What it allows.
    pub scope: Scope,
    /// SHA-256 of the token's characters.
    pub sha256: Hash256,
}

/// The file: `[[token]]` with `name`, `scope` and `sha256`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFile {
    /// The tokens.
    #[serde(default, rename = "token")]
    pub tokens: Vec<TokenEntry>,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No token, or one that is not known.
    Unknown,
    /// A token that allows less.
    Scope,
}

impl TokenFile {
    /// Reads a file; one without a token is an error, because it would let nobody in.
    ///
    /// # Errors
    /// The file cannot be read, is malformed, names a token twice, or has none.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the admin tokens {}", path.display()))?;
        let file: Self = toml::from_str(&text).with_context(|| format!("in the admin tokens {}", path.display()))?;
        anyhow::ensure!(!file.tokens.is_empty(), "the admin tokens {} have none: nobody could ask anything", path.display());
        for (index, token) in file.tokens.iter().enumerate() {
            let is_twice = file.tokens[..index].iter().any(|before| before.name == token.name);
            anyhow::ensure!(!is_twice, "the admin tokens {} have {:?} twice", path.display(), token.name);
        }
        Ok(file)
    }

    /// Whose token allows a request.
    pub(crate) fn judge(&self, path: &str, method: &Method, authorization: Option<&str>) -> Result<&str, Denied> {
        if OPEN.contains(&path) {
            return Ok("anybody");
        }
        let token = authorization.and_then(|value| value.strip_prefix("Bearer ")).ok_or(Denied::Unknown)?;
        let shown = token_hash(token.trim());
        // Hashes of secrets are compared: how far they agree tells nothing of the secret.
        let entry = self.tokens.iter().find(|entry| entry.sha256 == shown).ok_or(Denied::Unknown)?;
        if entry.scope >= Scope::of(method) { Ok(&entry.name) } else { Err(Denied::Scope) }
    }
}

/// What the file has of a token.
#[must_use]
pub fn token_hash(token: &str) -> Hash256 {
    Hash256::from_bytes(Sha256::digest(token.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_allows_what_its_scope_does() {
        let entry = |name: &str, scope| TokenEntry { name: name.to_owned(), scope, sha256: token_hash(name) };
        let file = TokenFile { tokens: vec![entry("reader", Scope::Read), entry("operator", Scope::Operate)] };
        for (path, method, token, expected) in [
            ("/livez", Method::GET, None, Ok("anybody")),
            ("/status", Method::GET, None, Err(Denied::Unknown)),
            ("/status", Method::GET, Some("reader"), Err(Denied::Unknown)),
            ("/status", Method::GET, Some("Bearer nobody"), Err(Denied::Unknown)),
            ("/status", Method::GET, Some("Bearer reader"), Ok("reader")),
            ("/settle/run", Method::POST, Some("Bearer reader"), Err(Denied::Scope)),
            ("/settle/jobs/1", Method::DELETE, Some("Bearer reader"), Err(Denied::Scope)),
            ("/settle/run", Method::POST, Some("Bearer operator"), Ok("operator")),
            ("/metrics", Method::GET, Some("Bearer operator"), Ok("operator")),
        ] {
            assert_eq!(file.judge(path, &method, token), expected, "{method} {path} {token:?}");
        }
    }

    #[test]
    fn a_file_is_read_and_a_useless_one_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("tokens.toml");
        let entry = |name: &str| format!("[[token]]\nname = {name:?}\nscope = \"read\"\nsha256 = \"{}\"\n", token_hash(name));
        for (text, word) in [
            (String::new(), "have none"),
            (entry("a") + &entry("a"), "twice"),
            (entry("a") + "secret = 1\n", "unknown field"),
        ] {
            std::fs::write(&path, &text).expect("written");
            let error = format!("{:#}", TokenFile::load(&path).expect_err(word));
            assert!(error.contains(word), "{error}");
        }
        std::fs::write(&path, entry("a") + &entry("b")).expect("written");
        assert_eq!(TokenFile::load(&path).expect("read").tokens.len(), 2);
    }
}
