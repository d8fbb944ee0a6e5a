//! A remote signer: a program of its own that has the key and signs what it is sent, over HTTP. Spoken is web3signer's `eth1` API, which has
//! the message hashed by whoever signs, so that the signer can see what it signs and refuse it.
//!
//! `GET /api/v1/eth1/publicKeys` gives the public keys that it has, `POST /api/v1/eth1/sign/{public key}` with `{"data": HEX}` gives 65 bytes
//! over `keccak256(data)`. Nothing that it says is believed: a signature that is not of the account is an error.

use std::fmt;
use std::time::Duration;

use alloy::primitives::{Address as EvmAddress, B256, Signature, hex, keccak256};
use alloy::transports::http::reqwest::{Client, RequestBuilder, redirect};
use millstream_types::Address;

use crate::endpoint::Endpoint;
use crate::{ChainError, convert};

/// How long the signer may take; a person who has to confirm at a device takes longer, and is not served.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Bytes of an answer: thousands of public keys.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A key that a remote signer has.
pub(crate) struct RemoteSigner {
    client: Client,
    endpoint: Endpoint,
    account: EvmAddress,
    /// The public key as the signer spells it.
    public_key: String,
}

impl RemoteSigner {
    /// Finds the key of an account.
    ///
    /// # Errors
    /// [`ChainError::InvalidEndpoint`]; [`ChainError::InvalidInput`] when the signer has no key of the account; or it is unavailable.
    pub(crate) async fn find(url: &str, account: Address) -> Result<Self, ChainError> {
        let endpoint = Endpoint::parse(url).ok_or(ChainError::InvalidEndpoint)?;
        let client = Client::builder()
            .timeout(ANSWER_WAIT)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| ChainError::Internal { detail: error.without_url().to_string() })?;
        let account = convert::evm_address(account);
        let mut signer = Self { client, endpoint, account, public_key: String::new() };
        let request = signer.client.get(signer.address("publicKeys")?);
        let answer = signer.ask("signer keys", request).await?;
        let keys: Vec<String> = serde_json::from_str(&answer).map_err(|_| signer.useless("signer keys", "no list of public keys"))?;
        let found = keys.into_iter().find(|key| account_of(key) == Some(account));
        signer.public_key = found.ok_or_else(|| ChainError::InvalidInput {
            what: "remote signer",
            detail: format!("{} has no key of the account {account}", signer.endpoint),
        })?;
        Ok(signer)
    }

    pub(crate) const fn account(&self) -> Address {
        convert::address(self.account)
    }

    /// A signature over the keccak-256 of a message: 65 bytes, `v` 27 or 28, `s` low.
    pub(crate) async fn sign(&self, message: &[u8]) -> Result<Signature, ChainError> {
        let body = serde_json::json!({ "data": hex::encode_prefixed(message) }).to_string();
        let request = self.client.post(self.address(&format!("sign/{}", self.public_key))?);
        let answer = self.ask("remote signature", request.header("content-type", "application/json").body(body)).await?;
        let text = answer.trim().trim_matches('"');
        let wrong = || self.useless("remote signature", "no signature of 65 bytes");
        let mut bytes = [0; 65];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| wrong())?;
        let signature = Signature::from_raw_array(&bytes).map_err(|_| wrong())?;
        // The chain takes one of the two forms only.
        let signature = signature.normalized_s();
        match signature.recover_address_from_prehash(&digest(message)) {
            Ok(signer) if signer == self.account => Ok(signature),
            Ok(_) | Err(_) => Err(ChainError::Internal {
                detail: format!("{} signed something else, or with another key than that of {}", self.endpoint, self.account),
            }),
        }
    }

    fn address(&self, path: &str) -> Result<alloy::transports::http::reqwest::Url, ChainError> {
        let mut url = self.endpoint.url();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/api/v1/eth1/{path}"));
        Ok(url)
    }

    async fn ask(&self, operation: &'static str, request: RequestBuilder) -> Result<String, ChainError> {
        let unavailable = |error: alloy::transports::http::reqwest::Error| self.useless(operation, &error.without_url().to_string());
        let mut response = request.send().await.map_err(unavailable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(unavailable)? {
            body.extend_from_slice(&part);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(self.useless(operation, "the answer is too long"));
            }
        }
        let text = String::from_utf8(body).map_err(|_| self.useless(operation, "the answer is no text"))?;
        if status.is_success() {
            return Ok(text);
        }
        let said = format!("status {status}: {text}");
        // A signer that refuses does so again; one that is overloaded or starting may not.
        if status.is_client_error() && status.as_u16() != 429 {
            return Err(ChainError::Refused { operation, code: i64::from(status.as_u16()), message: self.endpoint.scrub(&said) });
        }
        Err(self.useless(operation, &said))
    }

    fn useless(&self, operation: &'static str, what: &str) -> ChainError {
        ChainError::Unavailable { operation, endpoint: self.endpoint.to_string(), detail: self.endpoint.scrub(what) }
    }
}

impl fmt::Debug for RemoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteSigner({} of {})", self.account, self.endpoint)
    }
}

pub(crate) fn digest(message: &[u8]) -> B256 {
    keccak256(message)
}

/// The account of an uncompressed public key: 64 bytes in hexadecimal, or 65 with the leading 4.
fn account_of(public_key: &str) -> Option<EvmAddress> {
    let bytes = hex::decode(public_key).ok()?;
    let point = match bytes.as_slice() {
        [4, point @ ..] if point.len() == 64 => point,
        point if point.len() == 64 => point,
        _ => return None,
    };
    Some(EvmAddress::from_slice(&keccak256(point)[12..]))
}

#[cfg(test)]
mod tests {
    use alloy::signers::local::PrivateKeySigner;

    use super::*;

    #[test]
    fn public_keys_are_of_accounts() {
        let signer = PrivateKeySigner::from_bytes(&B256::new([7; 32])).expect("a key");
        let point = signer.credential().verifying_key().to_encoded_point(false);
        let (long, short) = (hex::encode_prefixed(point.as_bytes()), hex::encode_prefixed(&point.as_bytes()[1..]));
        assert_eq!((account_of(&long), account_of(&short)), (Some(signer.address()), Some(signer.address())));
        for wrong in ["", "0x", "0x04", "zz", &"ab".repeat(63)] {
            assert_eq!(account_of(wrong), None, "{wrong}");
        }
    }
}
