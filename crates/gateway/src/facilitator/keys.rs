//! Bearer keys: kept as hashes, compared in constant time.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use millstream_types::{Address, Hash256};
use sha2::{Digest, Sha256};

use super::config::{FacilitatorKeySection, FacilitatorSection};
use crate::ConfigError;

/// Characters of a key that anybody may show: what is longer is not hashed.
const KEY_CHARS_MAX: usize = 512;

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTerms {
    /// Its name, for budgets and logs. The key itself is not kept.
    pub name: Arc<str>,
    /// Receivers for which its holder may have refunds signed by the facilitator, whose authorizer it is.
    pub receivers: BTreeSet<Address>,
    /// Requests that it may make in a minute.
    pub requests_minute_max: u32,
}

/// The keys of a configuration.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    keys: Vec<(Hash256, Arc<KeyTerms>)>,
    /// Whether requests without a key are taken.
    anonymous: bool,
}

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// It shows no key, and has to.
    Missing,
    /// It shows one that is not known.
    Wrong,
}

impl Keys {
    pub(crate) fn new(section: &FacilitatorSection) -> Result<Self, ConfigError> {
        let mut keys = Vec::new();
        let mut names = BTreeSet::new();
        for key in &section.keys {
            keys.push(read(key, section.requests_minute_max)?);
            if !names.insert(&key.name) {
                return Err(ConfigError::value("facilitator.key.name", format!("`{}` comes twice", key.name)));
            }
        }
        let distinct: BTreeSet<_> = keys.iter().map(|(digest, _)| digest).collect();
        if distinct.len() != keys.len() {
            return Err(ConfigError::value("facilitator.key.sha256", "two keys are the same"));
        }
        Ok(Self { anonymous: section.anonymous.unwrap_or(keys.is_empty()), keys })
    }

    /// Whose key a request shows.
    pub(crate) fn of(&self, headers: &HeaderMap) -> Result<Option<Arc<KeyTerms>>, Unknown> {
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        let (first, second) = (shown.next(), shown.next());
        let Some(value) = first else {
            return if self.anonymous { Ok(None) } else { Err(Unknown::Missing) };
        };
        let text = value.to_str().ok().filter(|_| second.is_none()).ok_or(Unknown::Wrong)?;
        let (scheme, key) = text.split_once(' ').ok_or(Unknown::Wrong)?;
        let key = key.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || key.is_empty() || key.len() > KEY_CHARS_MAX {
            return Err(Unknown::Wrong);
        }
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        // Every key is compared, and each in full: the time tells neither which one is near nor how near.
        let mut found = None;
        for (kept, terms) in &self.keys {
            if same(&digest, kept.as_bytes()) {
                found = Some(terms);
            }
        }
        found.cloned().map(Some).ok_or(Unknown::Wrong)
    }
}

fn read(section: &FacilitatorKeySection, requests_minute_max: u32) -> Result<(Hash256, Arc<KeyTerms>), ConfigError> {
    let value = |key: &str, reason: String| ConfigError::value(format!("facilitator.key.{key}"), reason);
    let sound = (1..=64).contains(&section.name.len()) && section.name.bytes().all(|byte| byte.is_ascii_graphic());
    if !sound {
        return Err(value("name", format!("`{}` is not 1 to 64 visible ASCII characters", section.name)));
    }
    let text = section.sha256.strip_prefix("0x").unwrap_or(&section.sha256);
    let digest = format!("0x{text}").parse::<Hash256>().map_err(|_| value("sha256", "it must be 64 hexadecimal digits".to_owned()))?;
    let receiver = |text: &String| text.parse::<Address>().map_err(|error| value("receivers", format!("`{text}`: {error}")));
    let terms = KeyTerms {
        name: section.name.as_str().into(),
        receivers: section.receivers.iter().map(receiver).collect::<Result<_, _>>()?,
        requests_minute_max: section.requests_minute_max.unwrap_or(requests_minute_max),
    };
    Ok((digest, Arc::new(terms)))
}

/// Whether two digests are equal, in a time that does not depend on them.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let differences = a.iter().zip(b).fold(0u8, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn section(keys: &[(&str, &str)]) -> FacilitatorSection {
        let key = |(name, key): &(&str, &str)| FacilitatorKeySection {
            name: (*name).to_owned(),
            sha256: Hash256::from_bytes(Sha256::digest(key.as_bytes()).into()).to_string(),
            receivers: vec!["0x4444444444444444444444444444444444444444".to_owned()],
            requests_minute_max: None,
        };
        FacilitatorSection { keys: keys.iter().map(key).collect(), ..FacilitatorSection::default() }
    }

    #[test]
    fn a_request_is_its_keys_or_nobodys() {
        let keys = Keys::new(&section(&[("shop", "s3cret"), ("farm", "other")])).expect("keys");
        let check = |headers: &[&str], expected: Result<Option<&str>, Unknown>| {
            let mut map = HeaderMap::new();
            for header in headers {
                map.append(AUTHORIZATION, HeaderValue::from_str(header).expect("a value"));
            }
            let found = keys.of(&map).map(|terms| terms.map(|terms| terms.name.to_string()));
            assert_eq!(found, expected.map(|name| name.map(str::to_owned)), "{headers:?}");
        };
        check(&[], Err(Unknown::Missing));
        check(&["Bearer s3cret"], Ok(Some("shop")));
        check(&["bearer  other "], Ok(Some("farm")));
        for wrong in ["Bearer S3cret", "Bearer s3cre", "Bearer ", "Bearer", "Basic s3cret", "s3cret"] {
            check(&[wrong], Err(Unknown::Wrong));
        }
        check(&["Bearer s3cret", "Bearer s3cret"], Err(Unknown::Wrong));
        check(&[&format!("Bearer {}", "x".repeat(KEY_CHARS_MAX + 1))], Err(Unknown::Wrong));
    }

    #[test]
    fn without_keys_everybody_may_ask_and_a_key_is_still_looked_at() {
        let open = Keys::new(&FacilitatorSection::default()).expect("keys");
        assert_eq!(open.of(&HeaderMap::new()), Ok(None));
        let both = FacilitatorSection { anonymous: Some(true), ..section(&[("shop", "s3cret")]) };
        let both = Keys::new(&both).expect("keys");
        assert_eq!(both.of(&HeaderMap::new()), Ok(None));
        let wrong = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer no"))]);
        assert_eq!(both.of(&wrong), Err(Unknown::Wrong));
        let closed = Keys::new(&FacilitatorSection { anonymous: Some(false), ..FacilitatorSection::default() }).expect("keys");
        assert_eq!(closed.of(&HeaderMap::new()), Err(Unknown::Missing));
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said() {
        let check = |change: fn(&mut FacilitatorKeySection), place: &str| {
            let mut section = section(&[("shop", "s3cret")]);
            change(&mut section.keys[0]);
            let error = Keys::new(&section).expect_err(place).to_string();
            assert!(error.starts_with(place), "{error}");
        };
        check(|key| key.name = String::new(), "facilitator.key.name");
        check(|key| key.sha256 = "s3cret".to_owned(), "facilitator.key.sha256");
        check(|key| key.receivers = vec!["0x44".to_owned()], "facilitator.key.receivers");
        let twice = Keys::new(&section(&[("shop", "s3cret"), ("shop", "other")])).expect_err("twice").to_string();
        assert!(twice.contains("comes twice"), "{twice}");
        let twice = Keys::new(&section(&[("shop", "s3cret"), ("farm", "s3cret")])).expect_err("twice").to_string();
        assert!(twice.contains("the same"), "{twice}");
    }
}
