//! Credentials: `Authorization: Payment`.

use millstream_types::{Address, ChainId};
use millstream_voucher::evm::eip55;
use serde::{Deserialize, Serialize};

use super::offer::{CredentialHeader, Offer, OfferTerms, object};
use super::params::{Element, SCHEME, elements};
use crate::codec::Alphabet;
use crate::limits::CREDENTIAL_BYTES_MAX;
use crate::{DialectError, Object};

/// Header of a request: the credential.
pub const AUTHORIZATION: &str = "Authorization";
/// Where the credential goes when an offer says so.
pub const PAYMENT_AUTHORIZATION: &str = "Payment-Authorization";

const CREDENTIAL: &str = "the credential";

/// An answer to an offer: the offer, echoed, and the method's proof.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    /// The offer that is answered. It is the payer's word that it was made: see [`BindingKey::is_ours`](super::BindingKey::is_ours).
    pub offer: Offer,
    /// Who pays, as a DID.
    pub source: Option<String>,
    /// The method's own.
    pub payload: Object,
}

/// The DID of an account of an EVM chain: `did:pkh:eip155:<chain>:<address>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The chain.
    pub chain: ChainId,
    /// The account.
    pub account: Address,
}

#[derive(Serialize, Deserialize)]
struct Echo {
    id: String,
    realm: String,
    method: String,
    intent: String,
    request: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    opaque: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Fields {
    challenge: Echo,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    payload: Object,
}

impl Credential {
    /// The header's value.
    ///
    /// # Errors
    /// [`DialectError`] when the offer is none, or [`DialectError::TooLong`].
    pub fn to_header(&self) -> Result<String, DialectError> {
        self.offer.check()?;
        let terms = self.offer.terms.clone();
        let challenge = Echo {
            id: self.offer.id.clone(),
            realm: terms.realm,
            method: terms.method,
            intent: terms.intent,
            request: terms.request,
            expires: terms.expires,
            description: terms.description,
            digest: terms.digest,
            opaque: terms.opaque,
            header: terms.header.advertised().map(str::to_owned),
        };
        let fields = Fields { challenge, source: self.source.clone(), payload: self.payload.clone() };
        let text = Alphabet::UrlSafe.encode_json(CREDENTIAL, &fields)?;
        if text.len() > CREDENTIAL_BYTES_MAX {
            return Err(DialectError::TooLong { part: CREDENTIAL, bytes: text.len(), max: CREDENTIAL_BYTES_MAX });
        }
        Ok(format!("{SCHEME} {text}"))
    }

    /// The credential in the header's value; nothing when there are other schemes only.
    ///
    /// # Errors
    /// [`DialectError`]; [`DialectError::Count`] when there are several (400).
    pub fn from_header(value: &str) -> Result<Option<Self>, DialectError> {
        let max = CREDENTIAL_BYTES_MAX.saturating_mul(2);
        if value.len() > max {
            return Err(DialectError::TooLong { part: AUTHORIZATION, bytes: value.len(), max });
        }
        // What is malformed may be another scheme's, which is not ours to judge: it ends the list.
        let elements = elements(AUTHORIZATION, value).into_iter().map_while(Result::ok);
        let ours: Vec<Element> = elements.filter(Element::is_payment).collect();
        match ours.as_slice() {
            [] => Ok(None),
            [one] => {
                let token = one.token68.as_deref().ok_or(DialectError::Syntax { part: AUTHORIZATION, reason: "expected one token" })?;
                Self::from_token(token).map(Some)
            }
            several => Err(DialectError::Count { part: "credentials", count: several.len(), min: 0, max: 1 }),
        }
    }

    fn from_token(token: &str) -> Result<Self, DialectError> {
        let bytes = Alphabet::UrlSafe.decode(CREDENTIAL, token, CREDENTIAL_BYTES_MAX)?;
        let Fields { challenge, source, payload } = object(CREDENTIAL, &bytes, CREDENTIAL_BYTES_MAX)?.read(CREDENTIAL)?;
        let offer = Offer {
            id: challenge.id,
            terms: OfferTerms {
                realm: challenge.realm,
                method: challenge.method,
                intent: challenge.intent,
                request: challenge.request,
                expires: challenge.expires,
                description: challenge.description,
                digest: challenge.digest,
                header: CredentialHeader::read(challenge.header.as_deref())?,
                opaque: challenge.opaque,
            },
        };
        offer.check()?;
        Ok(Self { offer, source, payload })
    }

    /// Who pays, where the source is an account of an EVM chain.
    ///
    /// # Errors
    /// [`DialectError::Field`] when there is a source and it is none.
    pub fn source(&self) -> Result<Option<Source>, DialectError> {
        self.source.as_deref().map(Source::read).transpose()
    }
}

impl Source {
    /// From a DID.
    ///
    /// # Errors
    /// [`DialectError::Field`].
    pub fn read(did: &str) -> Result<Self, DialectError> {
        let refused = DialectError::field("source", "expected did:pkh:eip155:<chain>:<address>");
        let (chain, account) = did.strip_prefix("did:pkh:eip155:").and_then(|rest| rest.split_once(':')).ok_or(refused.clone())?;
        let canonical = chain.parse().ok().filter(|id: &u64| id.to_string() == chain).ok_or(refused.clone())?;
        if !account.starts_with("0x") {
            return Err(refused);
        }
        Ok(Self { chain: ChainId::new(canonical), account: account.parse().map_err(|_| refused)? })
    }
}

impl core::fmt::Display for Source {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "did:pkh:eip155:{}:{}", self.chain, eip55(&self.account))
    }
}
