//! Names of chains as HTTP 402 writes them: CAIP-2.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ChainId;

/// The CAIP-2 namespace of EVM chains.
const EVM: &str = "eip155";

/// A chain by its CAIP-2 name, `namespace:reference`: `eip155:8453`, or one of another family of chains.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(String);

/// Why text is not a CAIP-2 name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// CAIP-2: a namespace of 3 to 8 characters of `a-z0-9-`, a colon, a reference of 1 to 32 characters of `A-Za-z0-9-_`.
    #[error("expected a CAIP-2 network such as eip155:8453")]
    NotCaip2,
    /// The reference of an EVM chain is its id: digits without leading zeros, below 2^64.
    #[error("expected a chain id after eip155:")]
    NotAChainId,
}

impl Network {
    /// The name of an EVM chain.
    #[must_use]
    pub fn evm(chain: ChainId) -> Self {
        Self(format!("{EVM}:{chain}"))
    }

    /// The chain id of an EVM chain; nothing for another family.
    #[must_use]
    pub fn evm_chain(&self) -> Option<ChainId> {
        let (namespace, reference) = self.0.split_once(':')?;
        (namespace == EVM).then(|| reference.parse().ok().map(ChainId::new)).flatten()
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (namespace, reference) = text.split_once(':').ok_or(NetworkError::NotCaip2)?;
        let in_namespace = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let in_reference = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let sound = (3..=8).contains(&namespace.len())
            && namespace.bytes().all(in_namespace)
            && (1..=32).contains(&reference.len())
            && reference.bytes().all(in_reference);
        if !sound {
            return Err(NetworkError::NotCaip2);
        }
        if namespace == EVM {
            let id: u64 = reference.parse().map_err(|_| NetworkError::NotAChainId)?;
            if id.to_string() != reference {
                return Err(NetworkError::NotAChainId);
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_caip_2_and_evm_references_are_chain_ids() {
        let check = |text: &str, expected: Result<Option<u64>, NetworkError>| {
            assert_eq!(text.parse::<Network>().map(|network| network.evm_chain().map(ChainId::get)), expected, "{text}");
        };
        check("eip155:8453", Ok(Some(8453)));
        check("eip155:18446744073709551615", Ok(Some(u64::MAX)));
        check("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", Ok(None));
        for text in ["", "eip155", "eip155:", ":1", "EIP155:1", "ab:1", "base-sepolia", "eip155:1:2", "eip155: 1"] {
            check(text, Err(NetworkError::NotCaip2));
        }
        for text in ["eip155:01", "eip155:x", "eip155:-1", "eip155:18446744073709551616"] {
            check(text, Err(NetworkError::NotAChainId));
        }
        assert_eq!(Network::evm(ChainId::new(31_337)).to_string(), "eip155:31337");
    }
}
