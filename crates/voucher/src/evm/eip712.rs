//! EIP-712 by hand: type hashes, words, and the digest that is signed.

use millstream_types::{Address, Amount, ChainId, CumulativeAmount, EscrowChannelId, Hash256, Uint256};
use sha3::{Digest, Keccak256};

const DOMAIN_TYPE: &str = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
/// Permit2's domain has no version.
const DOMAIN_TYPE_WITHOUT_VERSION: &str = "EIP712Domain(string name,uint256 chainId,address verifyingContract)";

/// The keccak-256 of the bytes.
#[must_use]
pub fn keccak256(bytes: &[u8]) -> Hash256 {
    Hash256::from_bytes(Keccak256::digest(bytes).into())
}

/// An address with the mixed case of EIP-55, as wallets and clients show it.
#[must_use]
pub fn eip55(address: &Address) -> String {
    let lower = address.to_string();
    let digits = lower.trim_start_matches("0x");
    let hash = keccak256(digits.as_bytes());
    let upper = |at: usize| hash.as_bytes().get(at / 2).is_some_and(|byte| byte >> (4 * (1 - at % 2)) & 8 != 0);
    let cased = digits.char_indices().map(|(at, digit)| if upper(at) { digit.to_ascii_uppercase() } else { digit });
    core::iter::once('0').chain(core::iter::once('x')).chain(cased).collect()
}

/// A word of `abi.encode`, in the members' order. With a type hash first it is a struct of EIP-712.
pub(super) struct Encoder(Keccak256);

impl Encoder {
    /// `abi.encode(…)`.
    pub(super) fn bare() -> Self {
        Self(Keccak256::new())
    }

    /// `abi.encode(typeHash, …)`.
    pub(super) fn of(type_string: &str) -> Self {
        Self::bare().word(keccak256(type_string.as_bytes()).as_bytes())
    }

    pub(super) fn word(mut self, word: &[u8; 32]) -> Self {
        self.0.update(word);
        self
    }

    pub(super) fn hash(self, hash: &Hash256) -> Self {
        self.word(hash.as_bytes())
    }

    pub(super) fn channel(self, channel: &EscrowChannelId) -> Self {
        self.word(channel.as_bytes())
    }

    pub(super) fn address(mut self, address: &Address) -> Self {
        self.0.update([0; 12]);
        self.0.update(address.as_bytes());
        self
    }

    pub(super) fn uint(self, value: Uint256) -> Self {
        self.word(&value.to_be_bytes())
    }

    pub(super) fn amount(self, amount: Amount) -> Self {
        self.uint(amount.units().into())
    }

    pub(super) fn cumulative(self, amount: CumulativeAmount) -> Self {
        self.uint(amount.units().into())
    }

    pub(super) fn chain(self, chain: ChainId) -> Self {
        self.uint(chain.get().into())
    }

    /// A member of type `string` or `bytes`: its hash.
    pub(super) fn text(self, text: &str) -> Self {
        self.hash(&keccak256(text.as_bytes()))
    }

    pub(super) fn finish(self) -> Hash256 {
        Hash256::from_bytes(self.0.finalize().into())
    }
}

/// The separator of a domain; without a version when there is none.
pub(super) fn domain_separator(name: &str, version: Option<&str>, chain: ChainId, contract: &Address) -> Hash256 {
    let named = match version {
        Some(version) => Encoder::of(DOMAIN_TYPE).text(name).text(version),
        None => Encoder::of(DOMAIN_TYPE_WITHOUT_VERSION).text(name),
    };
    named.chain(chain).address(contract).finish()
}

/// What is signed: `keccak256(0x1901 ‖ separator ‖ struct hash)`.
pub(super) fn digest(separator: &Hash256, struct_hash: &Hash256) -> Hash256 {
    let mut hasher = Keccak256::new();
    hasher.update([0x19, 0x01]);
    hasher.update(separator.as_bytes());
    hasher.update(struct_hash.as_bytes());
    Hash256::from_bytes(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_the_case_of_eip_55() {
        // The examples of the EIP.
        for text in [
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
            "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
            "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
            "0x52908400098527886E0F7030069857D2E4169EE7",
            "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
            "0xde709f2102306220921060314715629080e2fb77",
        ] {
            assert_eq!(eip55(&text.parse().expect("an address")), text);
        }
    }

    #[test]
    fn keccak_is_the_evms() {
        let empty = "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470";
        assert_eq!(keccak256(b"").to_string(), empty);
    }
}
