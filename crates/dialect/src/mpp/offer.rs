//! Offers: `WWW-Authenticate: Payment`, and the id that binds what was offered.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use millstream_types::{Hash256, Timestamp};
use millstream_voucher::evm::offer_hash;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::moment::parse_moment;
use super::params::{Element, SCHEME, elements, quote};
use crate::codec::Alphabet;
use crate::limits::{BINDING_KEY_BYTES_MIN, HEADER_BYTES_MAX, OFFERS_MAX};
use crate::{DialectError, Object, canonical_json, json};

/// Header of a 402: an offer, or several.
pub const WWW_AUTHENTICATE: &str = "WWW-Authenticate";
/// The method of EVM chains.
pub const EVM: &str = "evm";

const REQUEST: &str = "request";

/// The field that a payer has to send its credential in. The published implementations know a second one, so that `Authorization` stays
/// free for the application; the drafts do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialHeader {
    /// `Authorization`; offers do not say so.
    #[default]
    Authorization,
    /// `Payment-Authorization`.
    PaymentAuthorization,
}

/// What an offer says, besides its id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfferTerms {
    /// What is protected.
    pub realm: String,
    /// The payment method: lower-case letters; the published implementations also take digits, `:`, `_` and `-` after the first.
    pub method: String,
    /// What kind of payment: `charge`, `session`, …
    pub intent: String,
    /// The method's own terms: URL-safe base64 of canonical JSON. Never encoded anew, because the id binds these characters.
    pub request: String,
    /// When it ends, as RFC 3339 has it, as it came.
    pub expires: Option<String>,
    /// For people; not bound by the id.
    pub description: Option<String>,
    /// The digest of the request's body that it is for.
    pub digest: Option<String>,
    /// Where the credential goes.
    pub header: CredentialHeader,
    /// The server's own, to be given back: base64 like `request`.
    pub opaque: Option<String>,
}

/// An offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The id; [`BindingKey::bind`] makes one that binds the terms.
    pub id: String,
    /// The terms.
    pub terms: OfferTerms,
}

/// A server's secret that binds ids to terms. At least 32 bytes.
#[derive(Clone)]
pub struct BindingKey(Hmac<Sha256>);

impl BindingKey {
    /// From a secret.
    ///
    /// # Errors
    /// [`DialectError::Field`] when it is shorter than [`BINDING_KEY_BYTES_MIN`].
    pub fn new(secret: &[u8]) -> Result<Self, DialectError> {
        let refused = DialectError::field("the binding key", "has fewer than 32 bytes");
        if secret.len() < BINDING_KEY_BYTES_MIN {
            return Err(refused);
        }
        Self::unchecked(secret).ok_or(refused)
    }

    pub(super) fn unchecked(secret: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(secret).ok().map(Self)
    }

    fn tag(&self, terms: &OfferTerms) -> Hmac<Sha256> {
        let optional = |text: &Option<String>| text.clone().unwrap_or_default();
        let mut slots = vec![
            terms.realm.clone(),
            terms.method.clone(),
            terms.intent.clone(),
            terms.request.clone(),
            optional(&terms.expires),
            optional(&terms.digest),
        ];
        // Only where it is said, so that ids of offers without it are those of the draft.
        slots.extend(terms.header.advertised().map(str::to_owned));
        slots.push(optional(&terms.opaque));
        self.0.clone().chain_update(slots.join("|"))
    }

    /// The offer of these terms, with an id that binds them (H-24): `HMAC-SHA256(secret, realm|method|intent|request|expires|digest|opaque)`.
    #[must_use]
    pub fn bind(&self, terms: OfferTerms) -> Offer {
        let id = Alphabet::UrlSafe.encode(&self.tag(&terms).finalize().into_bytes());
        Offer { id, terms }
    }

    /// Whether the offer is one of ours, unchanged. In constant time. Whether it has expired or was used, it does not say.
    #[must_use]
    pub fn is_ours(&self, offer: &Offer) -> bool {
        let id = Alphabet::UrlSafe.decode("id", &offer.id, 64);
        id.is_ok_and(|id| self.tag(&offer.terms).verify_slice(&id).is_ok())
    }
}

impl core::fmt::Debug for BindingKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("BindingKey")
    }
}

impl CredentialHeader {
    /// What offers say.
    #[must_use]
    pub const fn advertised(self) -> Option<&'static str> {
        match self {
            Self::Authorization => None,
            Self::PaymentAuthorization => Some(super::PAYMENT_AUTHORIZATION),
        }
    }

    pub(super) fn read(text: Option<&str>) -> Result<Self, DialectError> {
        match text {
            None | Some("") => Ok(Self::Authorization),
            Some(name) if name.eq_ignore_ascii_case(super::AUTHORIZATION) => Ok(Self::Authorization),
            Some(name) if name.eq_ignore_ascii_case(super::PAYMENT_AUTHORIZATION) => Ok(Self::PaymentAuthorization),
            Some(_) => Err(DialectError::field("header", "expected Payment-Authorization")),
        }
    }
}

impl OfferTerms {
    /// Terms with a method's request, encoded canonically.
    ///
    /// # Errors
    /// [`DialectError`] when the request has no canonical form or an identifier is none.
    pub fn new<T: Serialize>(realm: &str, method: &str, intent: &str, request: &T) -> Result<Self, DialectError> {
        let value = serde_json::to_value(request).map_err(|error| DialectError::shape(REQUEST, &error))?;
        let request = Alphabet::UrlSafe.encode(canonical_json(REQUEST, &value)?.as_bytes());
        let terms = Self { realm: realm.to_owned(), method: method.to_owned(), intent: intent.to_owned(), request, ..Self::default() };
        terms.check()?;
        Ok(terms)
    }

    /// The method's own terms.
    ///
    /// # Errors
    /// [`DialectError`].
    pub fn request<T: DeserializeOwned>(&self) -> Result<T, DialectError> {
        Alphabet::UrlSafe.decode_json(REQUEST, &self.request, HEADER_BYTES_MAX)
    }

    /// When the offer ends; never, if it does not say.
    ///
    /// # Errors
    /// [`DialectError::Field`].
    pub fn expires(&self) -> Result<Option<Timestamp>, DialectError> {
        self.expires.as_deref().map(|text| parse_moment("expires", text)).transpose()
    }

    /// What `opaque` holds: texts by name.
    ///
    /// # Errors
    /// [`DialectError`].
    pub fn opaque(&self) -> Result<Option<std::collections::BTreeMap<String, String>>, DialectError> {
        self.opaque.as_deref().map(|text| Alphabet::UrlSafe.decode_json("opaque", text, HEADER_BYTES_MAX)).transpose()
    }

    /// Whether a body is the one that the offer is for; any is, when it does not say.
    #[must_use]
    pub fn is_for_body(&self, body: &[u8]) -> bool {
        let Some(digest) = self.digest.as_deref() else {
            return true;
        };
        let Some(value) = digest.strip_prefix("sha-256=") else {
            return false;
        };
        let bare = value.strip_prefix(':').and_then(|value| value.strip_suffix(':')).unwrap_or(value);
        STANDARD.decode(bare).is_ok_and(|expected| expected[..] == Sha256::digest(body)[..])
    }

    pub(super) fn check(&self) -> Result<(), DialectError> {
        let mut method = self.method.bytes();
        let first = method.next().is_some_and(|b| b.is_ascii_lowercase());
        if !first || !method.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b':' | b'_' | b'-')) {
            return Err(DialectError::field("method", "expected lower-case letters"));
        }
        if self.intent.is_empty() || !self.intent.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            return Err(DialectError::field("intent", "expected letters, digits and dashes"));
        }
        let _: Object = self.request()?;
        self.expires()?;
        if let Some(opaque) = &self.opaque {
            Alphabet::UrlSafe.decode("opaque", opaque, HEADER_BYTES_MAX)?;
        }
        if self.digest.as_deref().is_some_and(|digest| !digest.starts_with("sha-256=")) {
            return Err(DialectError::field("digest", "expected sha-256"));
        }
        Ok(())
    }
}

impl Offer {
    /// The header's value: one offer (H-22). Parameters come in a fixed order: id, realm, method, intent, request, expires, description,
    /// digest, header, opaque; each in quotes.
    ///
    /// # Errors
    /// [`DialectError`] when a part is not what readers accept.
    pub fn to_header(&self) -> Result<String, DialectError> {
        self.check()?;
        let terms = &self.terms;
        let required =
            [("id", &self.id), ("realm", &terms.realm), ("method", &terms.method), ("intent", &terms.intent), (REQUEST, &terms.request)];
        let mut params: Vec<String> = required.into_iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
        let optional = [
            ("expires", terms.expires.as_deref()),
            ("description", terms.description.as_deref()),
            ("digest", terms.digest.as_deref()),
            ("header", terms.header.advertised()),
            ("opaque", terms.opaque.as_deref()),
        ];
        params.extend(optional.into_iter().filter_map(|(name, value)| value.map(|value| format!("{name}={}", quote(value)))));
        let header = format!("{SCHEME} {}", params.join(", "));
        if header.len() > HEADER_BYTES_MAX {
            return Err(DialectError::TooLong { part: WWW_AUTHENTICATE, bytes: header.len(), max: HEADER_BYTES_MAX });
        }
        Ok(header)
    }

    /// The offers in all values of the header, in order, [`OFFERS_MAX`] at most; other schemes are passed over. One that is malformed is an
    /// error in its place, so that the others can still be taken.
    #[must_use]
    pub fn from_headers<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Result<Self, DialectError>> {
        let offers = values.into_iter().flat_map(|value| {
            if value.len() > HEADER_BYTES_MAX {
                return vec![Err(DialectError::TooLong { part: WWW_AUTHENTICATE, bytes: value.len(), max: HEADER_BYTES_MAX })];
            }
            let ours = elements(WWW_AUTHENTICATE, value).into_iter().filter(|element| element.as_ref().map_or(true, Element::is_payment));
            ours.map(|element| element.and_then(|element| Self::from_element(&element))).collect()
        });
        offers.take(OFFERS_MAX).collect()
    }

    fn from_element(element: &Element) -> Result<Self, DialectError> {
        let param = |name: &str| element.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let required = |name: &'static str| param(name).ok_or(DialectError::field(name, "is missing"));
        let offer = Self {
            id: required("id")?,
            terms: OfferTerms {
                realm: required("realm")?,
                method: required("method")?,
                intent: required("intent")?,
                request: required(REQUEST)?,
                expires: param("expires"),
                description: param("description"),
                digest: param("digest"),
                header: CredentialHeader::read(param("header").as_deref())?,
                opaque: param("opaque"),
            },
        };
        offer.check()?;
        Ok(offer)
    }

    pub(super) fn check(&self) -> Result<(), DialectError> {
        if self.id.is_empty() {
            return Err(DialectError::field("id", "is empty"));
        }
        self.terms.check()
    }

    /// What a charge signs of the offer.
    #[must_use]
    pub fn hash(&self) -> Hash256 {
        offer_hash(&self.id, &self.terms.realm)
    }
}

/// The digest of a body for an offer: `sha-256=:…:` (RFC 9530).
#[must_use]
pub fn body_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)))
}

/// Reads an object that is base64 within a credential or header.
pub(super) fn object(part: &'static str, bytes: &[u8], max: usize) -> Result<Object, DialectError> {
    json::parse(part, bytes, max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors that the published implementations share; their secret is shorter than ours may be.
    #[test]
    fn ids_are_those_of_other_implementations() {
        let key = BindingKey::unchecked(b"test-vector-secret").expect("any length");
        let request = |text: &str| Alphabet::UrlSafe.encode(text.as_bytes());
        let check = |realm: &str, method: &str, intent: &str, json: &str, optional: [Option<&str>; 3], id: &str| {
            let [expires, digest, opaque] = optional.map(|text| text.map(str::to_owned));
            let terms = OfferTerms {
                realm: realm.to_owned(),
                method: method.to_owned(),
                intent: intent.to_owned(),
                request: request(json),
                expires,
                digest,
                opaque: opaque.map(|json| request(&json)),
                ..OfferTerms::default()
            };
            let offer = key.bind(terms);
            assert_eq!(offer.id, id);
            assert!(key.is_ours(&offer));
        };
        let amount = r#"{"amount":"1000000"}"#;
        let moment = Some("2025-01-06T12:00:00Z");
        let digest = Some("sha-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE");
        let opaque = Some(r#"{"pi":"pi_3abc123XYZ"}"#);
        let realm = "api.example.com";
        check(realm, "tempo", "charge", amount, [None; 3], "X6v1eo7fJ76gAxqY0xN9Jd__4lUyDDYmriryOM-5FO4");
        check(realm, "tempo", "charge", amount, [moment, None, None], "ChPX33RkKSZoSUyZcu8ai4hhkvjZJFkZVnvWs5s0iXI");
        check(realm, "tempo", "charge", amount, [None, digest, None], "JHB7EFsPVb-xsYCo8LHcOzeX1gfXWVoUSzQsZhKAfKM");
        check(realm, "tempo", "charge", amount, [moment, digest, None], "m39jbWWCIfmfJZSwCfvKFFtBl0Qwf9X4nOmDb21peLA");
        check(realm, "tempo", "charge", "{}", [None; 3], "yLN7yChAejW9WNmb54HpJIWpdb1WWXeA3_aCx4dxmkU");
        check("payments.other.com", "tempo", "charge", amount, [None; 3], "3F5bOo2a9RUihdwKk4hGRvBvzQmVPBMDvW0YM-8GD00");
        check(realm, "stripe", "charge", amount, [None; 3], "o0ra2sd7HcB4Ph0Vns69gRDUhSj5WNOnUopcDqKPLz4");
        check(realm, "tempo", "session", amount, [None; 3], "aAY7_IEDzsznNYplhOSE8cERQxvjFcT4Lcn-7FHjLVE");
        check(realm, "tempo", "charge", amount, [None, None, opaque], "rxzKZ2qjXvinqCH96RORTZEPs1KXsA-0AUjrCAPFOWc");
        check(realm, "tempo", "charge", amount, [moment, None, opaque], "KAfoMrA4fnzS1DPWN_cUv_b3_yHxCizdp6OhH7gluMY");
    }
}
