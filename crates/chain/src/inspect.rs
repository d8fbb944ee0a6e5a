//! Whether contracts on the chain are the ones that this build deploys.
//!
//! A creation that is only simulated leaves the code that a real one would have left; that is compared with the code on the chain, byte for
//! byte. So neither what a contract says about itself nor how it was deployed has to be believed.

use alloy::primitives::U256;
use alloy::primitives::aliases::U40;
use alloy::rpc::types::BlockId;
use alloy::sol_types::SolValue;
use millstream_types::Address;

use crate::artifacts::Artifact;
use crate::bindings::{IBookPaths, ILedger};
use crate::{ChainError, Ledger, SlotPath, TierConfig, VerifyingKeyWords, convert};

/// Bytes of a word.
const WORD: usize = 32;
/// Words of a verifying key.
const KEY_WORDS: usize = 22;

impl Ledger {
    /// Whether the ledger's code is exactly what this build's creation code leaves for the parameters that the ledger names.
    ///
    /// # Errors
    /// The endpoint is unavailable, or refuses to simulate a creation.
    pub async fn has_known_code(&self) -> Result<bool, ChainError> {
        self.code_is(self.address(), Artifact::Ledger, &self.constructor_arguments()?).await
    }

    /// Whether the code of what checks paths is what this build's creation code leaves, but for the addresses of the tables that it made. Whether
    /// those tables are right, one root that [`Ledger::root_of_path`] computes says: every hash uses all of them.
    ///
    /// # Errors
    /// The endpoint is unavailable, or refuses to simulate a creation.
    pub async fn has_known_book_paths(&self) -> Result<bool, ChainError> {
        let expected = self.rpc().created_code(Artifact::BookPaths.creation_code()?).await?;
        let actual = self.rpc().code(self.config().book_paths, BlockId::latest()).await?;
        Ok(expected.is_some_and(|expected| is_equal_but_for_addresses(&expected, &actual)))
    }

    /// The root that the ledger's book paths compute for a path in a book of so many slots; `None` when they refuse it.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn root_of_path(&self, slots: u16, path: &SlotPath) -> Result<Option<[u8; 32]>, ChainError> {
        let call = IBookPaths::rootCall { slots, path: path.to_abi() };
        match self.rpc().view("root", self.config().book_paths, &call).await {
            Ok(root) => Ok(Some(convert::bytes(root))),
            Err(ChainError::Reverted { .. } | ChainError::Unrepresentable { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the constructor was given, but for the operator, who is in storage and may change.
    fn constructor_arguments(&self) -> Result<Vec<u8>, ChainError> {
        let config = self.config();
        let window = |secs: u64| U40::try_from(secs).map_err(|_| ChainError::unrepresentable("a window", secs));
        let deposit_min = config.deposit_min.to_u64().map_err(|error| ChainError::unrepresentable("minimum deposit", error))?;
        let terms = ILedger::Terms {
            provider: convert::evm_address(config.provider),
            operator: convert::evm_address(config.provider),
            token: convert::evm_address(config.token),
            responseWindowSecs: window(config.response_window_secs)?,
            haltWindowSecs: window(config.halt_window_secs)?,
            depositMinNanos: deposit_min,
        };
        let tier = |tier: &TierConfig| ILedger::Tier {
            slots: tier.slots,
            emptyRoot: convert::word(tier.empty_root),
            settleVerifier: convert::evm_address(tier.settle_verifier),
            registerVerifier: convert::evm_address(tier.register_verifier),
        };
        let tiers: Vec<ILedger::Tier> = config.tiers.iter().map(tier).collect();
        Ok((terms, convert::evm_address(config.book_paths), tiers).abi_encode_params())
    }

    /// The verifying key that is in the code of a verifier; `None` when the code is not what this build's creation code leaves for any key
    /// that it accepts (spec L-22).
    ///
    /// # Errors
    /// The endpoint is unavailable, or refuses to simulate a creation.
    pub async fn key_in_code(&self, verifier: Address) -> Result<Option<VerifyingKeyWords>, ChainError> {
        let code = self.rpc().code(verifier, BlockId::latest()).await?;
        // Where the words of a key are, shows one whose words are all different.
        let markers: [[u8; WORD]; KEY_WORDS] = core::array::from_fn(marker);
        let mut creation = Artifact::Groth16Verifier.creation_code()?;
        creation.extend(markers.map(U256::from_be_bytes).abi_encode());
        let Some(template) = self.rpc().created_code(creation).await? else {
            return Err(ChainError::Internal { detail: "the verifier's creation cannot be simulated".to_owned() });
        };
        let Some(words) = words_at(&template, &markers, &code) else { return Ok(None) };
        let arguments = words.map(U256::from_be_bytes).abi_encode();
        Ok(self.code_is(verifier, Artifact::Groth16Verifier, &arguments).await?.then_some(words))
    }

    async fn code_is(&self, at: Address, artifact: Artifact, arguments: &[u8]) -> Result<bool, ChainError> {
        let mut creation = artifact.creation_code()?;
        creation.extend_from_slice(arguments);
        let (expected, actual) = (self.rpc().created_code(creation).await?, self.rpc().code(at, BlockId::latest()).await?);
        Ok(expected == Some(actual))
    }
}

/// Whether two codes are the same, but for words that are pushed whole and hold an address in both.
fn is_equal_but_for_addresses(expected: &[u8], actual: &[u8]) -> bool {
    const PUSH_32: u8 = 0x7f;
    let is_address = |word: &[u8]| word.len() == WORD && word[..12].iter().all(|byte| *byte == 0);
    let mut at = 0;
    while let (Some(left), Some(right)) = (expected.get(at), actual.get(at)) {
        let words = expected.get(at + 1..at + 1 + WORD).zip(actual.get(at + 1..at + 1 + WORD));
        if left != right {
            return false;
        }
        at += match words {
            Some((left, right)) if expected[at] == PUSH_32 && is_address(left) && is_address(right) => 1 + WORD,
            _ => 1,
        };
    }
    expected.len() == actual.len()
}

/// A word that no code has by chance.
fn marker(index: usize) -> [u8; WORD] {
    let mut word = [0xa5; WORD];
    word[WORD - 1] = u8::try_from(index).unwrap_or(u8::MAX);
    word
}

/// The words that `code` has where `template` has the markers; `None` when the lengths differ or a marker is nowhere.
fn words_at(template: &[u8], markers: &[[u8; WORD]; KEY_WORDS], code: &[u8]) -> Option<VerifyingKeyWords> {
    if template.len() != code.len() {
        return None;
    }
    let mut words = [[0; WORD]; KEY_WORDS];
    for (word, marker) in words.iter_mut().zip(markers) {
        let at = template.windows(WORD).position(|window| window == marker)?;
        word.copy_from_slice(&code[at..at + WORD]);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pushed_addresses_may_differ() {
        let code = |address: u8, last: u8| [&[0x60, 1, 0x7f][..], &[0; 12], &[address; 20], &[0x7f], &[9; 32], &[last]].concat();
        assert!(is_equal_but_for_addresses(&code(1, 5), &code(2, 5)));
        assert!(!is_equal_but_for_addresses(&code(1, 5), &code(1, 6)));
        assert!(!is_equal_but_for_addresses(&code(1, 5), &code(1, 5)[1..]));
        let mut other = code(1, 5);
        other[40] ^= 1;
        assert!(!is_equal_but_for_addresses(&code(1, 5), &other));
    }

    #[test]
    fn words_are_taken_from_where_the_markers_are() {
        let markers: [[u8; WORD]; KEY_WORDS] = core::array::from_fn(marker);
        let template: Vec<u8> = markers.iter().flat_map(|marker| [&[0x7f][..], marker].concat()).collect();
        let key: VerifyingKeyWords = core::array::from_fn(|index| [u8::try_from(index).expect("small"); WORD]);
        let code: Vec<u8> = key.iter().flat_map(|word| [&[0x7f][..], word].concat()).collect();
        assert_eq!(words_at(&template, &markers, &code), Some(key));
        assert_eq!(words_at(&template, &markers, &code[1..]), None);
        assert_eq!(words_at(&code, &markers, &template), None);
    }
}
