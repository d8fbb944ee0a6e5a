//! The built contracts, embedded so that deploying needs no other tool.

use alloy::json_abi::JsonAbi;
use serde::Deserialize;

use crate::ChainError;

/// A contract as the compiler left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Artifact {
    Ledger,
    LedgerFactory,
    Groth16Verifier,
    BookPaths,
    SessionEscrow,
    X402BatchSettlement,
    Erc3009DepositCollector,
    Permit2DepositCollector,
    X402ExactPermit2Proxy,
    DevPermit2,
    TestUsdc,
    TestUsdt,
}

#[derive(Deserialize)]
struct Document {
    abi: JsonAbi,
    bytecode: String,
    runtime: Runtime,
}

/// Where the code that a creation leaves is in its creation code, in bytes.
#[derive(Deserialize)]
struct Runtime {
    start: usize,
    length: usize,
    /// Where each immutable is in the code, 32 bytes each, in the order of their declaration.
    immutables: Vec<Vec<usize>>,
}

impl Artifact {
    pub(crate) const ALL: [Self; 12] = [
        Self::Ledger,
        Self::LedgerFactory,
        Self::Groth16Verifier,
        Self::BookPaths,
        Self::SessionEscrow,
        Self::X402BatchSettlement,
        Self::Erc3009DepositCollector,
        Self::Permit2DepositCollector,
        Self::X402ExactPermit2Proxy,
        Self::DevPermit2,
        Self::TestUsdc,
        Self::TestUsdt,
    ];

    const fn json(self) -> &'static str {
        match self {
            Self::Ledger => include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/Ledger.json")),
            Self::Groth16Verifier => include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/Groth16Verifier.json")),
            Self::LedgerFactory => include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/LedgerFactory.json")),
            Self::BookPaths => include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/BookPaths.json")),
            Self::SessionEscrow => include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/SessionEscrow.json")),
            Self::X402BatchSettlement => {
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/X402BatchSettlement.json"))
            }
            Self::Erc3009DepositCollector => {
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/ERC3009DepositCollector.json"))
            }
            Self::Permit2DepositCollector => {
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/Permit2DepositCollector.json"))
            }
            Self::X402ExactPermit2Proxy => {
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/X402ExactPermit2Proxy.json"))
            }
            Self::DevPermit2 => include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/DevPermit2.json")),
            Self::TestUsdc => include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/TestUSDC.json")),
            Self::TestUsdt => include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/TestUSDT.json")),
        }
    }

    fn document(self) -> Result<Document, ChainError> {
        serde_json::from_str(self.json()).map_err(|error| ChainError::Internal { detail: format!("artefact {self:?}: {error}") })
    }

    pub(crate) fn abi(self) -> Result<JsonAbi, ChainError> {
        self.document().map(|document| document.abi)
    }

    /// The creation code, without constructor arguments.
    pub(crate) fn creation_code(self) -> Result<Vec<u8>, ChainError> {
        let hex = self.document()?.bytecode;
        self.decode(&hex)
    }

    /// The code that a creation leaves whose immutables, in the order of their declaration, are these words.
    pub(crate) fn runtime_code(self, immutables: &[[u8; 32]]) -> Result<Vec<u8>, ChainError> {
        let wrong = |what: &str| ChainError::Internal { detail: format!("artefact {self:?}: {what}") };
        let Document { bytecode, runtime, .. } = self.document()?;
        let creation = self.decode(&bytecode)?;
        let end = runtime.start.saturating_add(runtime.length);
        let mut code = creation.get(runtime.start..end).ok_or_else(|| wrong("the code is not in its creation code"))?.to_vec();
        if runtime.immutables.len() != immutables.len() {
            return Err(wrong(&format!("{} immutables, not {}", runtime.immutables.len(), immutables.len())));
        }
        for (places, word) in runtime.immutables.iter().zip(immutables) {
            for place in places {
                let room = code.get_mut(*place..place.saturating_add(word.len()));
                room.ok_or_else(|| wrong("an immutable is outside the code"))?.copy_from_slice(word);
            }
        }
        Ok(code)
    }

    fn decode(self, hex: &str) -> Result<Vec<u8>, ChainError> {
        alloy::hex::decode(hex).map_err(|error| ChainError::Internal { detail: format!("bytecode of {self:?}: {error}") })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use alloy::sol_types::{SolEvent, SolInterface};

    use super::*;
    use crate::bindings::{ILedger, ILedgerFactory, IToken, IVerifier};

    fn selectors(abi: &JsonAbi) -> BTreeSet<[u8; 4]> {
        abi.functions().map(|function| function.selector().0).collect()
    }

    /// The functions and events of a binding are the contract's, and the contract has every error of it. The contract may have more errors:
    /// those of its libraries.
    pub(crate) fn check_binding<C: SolInterface, E: SolInterface>(artifact: Artifact, events: &[[u8; 32]]) {
        let abi = artifact.abi().expect("an ABI");
        assert_eq!(C::selectors().collect::<BTreeSet<_>>(), selectors(&abi), "{artifact:?}");
        let errors: BTreeSet<[u8; 4]> = abi.errors().map(|error| error.selector().0).collect();
        let missing: Vec<_> = E::selectors().filter(|selector| !errors.contains(selector)).collect();
        assert!(missing.is_empty(), "{artifact:?}: {missing:?}");
        let bound: BTreeSet<_> = events.iter().copied().collect();
        assert_eq!(bound, abi.events().map(|event| event.selector().0).collect(), "{artifact:?}");
    }

    #[test]
    fn every_artefact_has_code() {
        for artifact in Artifact::ALL {
            assert!(artifact.creation_code().expect("bytes").len() > 100, "{artifact:?}");
        }
    }

    #[test]
    fn every_immutable_gets_its_word() {
        let words: Vec<[u8; 32]> = (1..=23).map(|byte| [byte; 32]).collect();
        let code = Artifact::Groth16Verifier.runtime_code(&words).expect("code");
        for word in &words {
            assert!(code.windows(32).any(|window| window == word), "{word:?}");
        }
        assert!(matches!(Artifact::Groth16Verifier.runtime_code(&words[1..]), Err(ChainError::Internal { .. })));
        assert!(matches!(Artifact::BookPaths.runtime_code(&[]), Err(ChainError::Internal { .. })));
    }

    #[test]
    fn the_bindings_are_the_ledgers_abi() {
        let abi = Artifact::Ledger.abi().expect("an ABI");
        assert_eq!(ILedger::ILedgerCalls::selectors().collect::<BTreeSet<_>>(), selectors(&abi));
        let errors: BTreeSet<[u8; 4]> = abi.errors().map(|error| error.selector().0).collect();
        let missing: Vec<_> = ILedger::ILedgerErrors::selectors().filter(|selector| !errors.contains(selector)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let events: BTreeSet<_> = abi.events().map(|event| event.selector()).collect();
        let bound = ILedger::ILedgerEvents::SELECTORS
            .iter()
            .map(|selector| alloy::primitives::B256::from(*selector))
            .collect::<BTreeSet<_>>();
        assert_eq!(bound, events);
        // Indexed fields do not show in the selector.
        let indexed = abi.events().map(|event| (event.name.clone(), event.inputs.iter().filter(|input| input.indexed).count()));
        let expected = [
            ("Opened", 2),
            ("ToppedUp", 1),
            ("CloseRequested", 1),
            ("Included", 2),
            ("Closed", 2),
            ("MovedOut", 2),
            ("MovedIn", 2),
            ("Registered", 1),
            ("Settled", 1),
            ("OpenCancelled", 1),
            ("RequestVoided", 1),
            ("Halted", 0),
            ("Left", 2),
        ];
        let indexed: BTreeSet<(String, usize)> = indexed.collect();
        for (name, count) in expected {
            assert!(indexed.contains(&(name.to_owned(), count)), "{name}");
        }
        assert_eq!(ILedger::Opened::SIGNATURE, "Opened(uint248,address,uint256,bytes32,uint64,uint64)");
    }

    #[test]
    fn the_bindings_are_the_factorys_abi() {
        let abi = Artifact::LedgerFactory.abi().expect("an ABI");
        assert_eq!(ILedgerFactory::ILedgerFactoryCalls::selectors().collect::<BTreeSet<_>>(), selectors(&abi));
        let event = abi.events().next().expect("one event");
        assert_eq!((event.selector(), abi.events().count()), (ILedgerFactory::LedgerCreated::SIGNATURE_HASH, 1));
        assert_eq!(event.inputs.iter().filter(|input| input.indexed).count(), 3);
    }

    #[test]
    fn the_verifier_and_the_tokens_have_what_is_called() {
        let verifier = selectors(&Artifact::Groth16Verifier.abi().expect("an ABI"));
        assert!(IVerifier::IVerifierCalls::selectors().all(|selector| verifier.contains(&selector)));
        let usdc = selectors(&Artifact::TestUsdc.abi().expect("an ABI"));
        let missing: Vec<_> = IToken::ITokenCalls::selectors().filter(|selector| !usdc.contains(selector)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
