//! What is to be deployed, and what is wrong with it before anything is sent.

use alloy::primitives::aliases::U40;
use millstream_types::{Address, Amount, AssetUnit, ChainId};

use super::ContractRole;
use crate::bindings::ILedger;
use crate::{ChainError, convert};

/// A Groth16 verifying key over BN254 as the verifier's constructor takes it, 22 words of 32 bytes big-endian: alpha (x, y); beta, gamma and
/// delta (x.c1, x.c0, y.c1, y.c0 each); ic0 to ic3 (x, y each).
pub type VerifyingKeyWords = [[u8; 32]; 22];

/// Decimals of the test tokens.
const TEST_TOKEN_DECIMALS: u8 = 6;
/// What the ledger's constructor takes at most (spec L-25).
const RESPONSE_WINDOW_SECS_MAX: u64 = 30 * 86_400;
const HALT_WINDOW_SECS_MAX: u64 = 365 * 86_400;
/// Nobody's address.
const ZERO: Address = Address::from_bytes([0; 20]);
/// Tiers that an eight-bit index can name (spec L-4).
const TIERS_MAX: usize = 256;

/// The generator of G2, as a key has its points.
const G2_GENERATOR: [[u8; 32]; 4] = [
    alloy::hex!("198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2"),
    alloy::hex!("1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed"),
    alloy::hex!("090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b"),
    alloy::hex!("12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa"),
];

/// Where verifying keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyProvenance {
    /// A ceremony in which at least one contribution was destroyed.
    Ceremony,
    /// A public seed: anyone can forge proofs (spec L-23).
    InsecureDevelopment,
}

impl KeyProvenance {
    /// Refuses development keys on any chain but 31337 and 1337 (spec L-23).
    ///
    /// # Errors
    /// [`ChainError::InsecureKeys`].
    pub fn check(self, chain: ChainId) -> Result<(), ChainError> {
        match self {
            Self::InsecureDevelopment if !chain.is_development() => Err(ChainError::InsecureKeys { chain }),
            Self::InsecureDevelopment | Self::Ceremony => Ok(()),
        }
    }
}

/// The token of a ledger to be deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenChoice {
    /// One that exists.
    Existing(Address),
    /// A worthless token that behaves as USDC, deployed where it is missing. For development chains only.
    TestUsdc,
    /// A worthless token that behaves as USDT on Ethereum, deployed where it is missing. For development chains only.
    TestUsdt,
}

impl TokenChoice {
    /// The decimals of a test token; `None` for one whose contract has to be asked.
    pub(super) const fn known_decimals(self) -> Option<u8> {
        match self {
            Self::Existing(_) => None,
            Self::TestUsdc | Self::TestUsdt => Some(TEST_TOKEN_DECIMALS),
        }
    }
}

/// A size of book to deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierPlan {
    /// Slots of a book, N.
    pub slots: u16,
    /// The root of a book of N empty slots: a field element, 32 bytes.
    pub empty_root: [u8; 32],
    /// The key of `settle-N`.
    pub settle_key: VerifyingKeyWords,
    /// The key of `register-N`.
    pub register_key: VerifyingKeyWords,
}

/// A ledger to deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployPlan {
    /// Where the keys of the tiers come from.
    pub provenance: KeyProvenance,
    /// Whom settlements pay.
    pub provider: Address,
    /// Who may settle and register first; the provider can name another later.
    pub operator: Address,
    /// Seconds from a request until it is overdue; at most 30 days.
    pub response_window_secs: u64,
    /// Seconds from a request until its being unserved lets anyone halt the ledger (spec L-25); above the response window, at most 365 days.
    pub halt_window_secs: u64,
    /// What an opening or a top-up must deposit at least (spec L-7); below 2^64 nanos. Zero for no minimum.
    pub deposit_min: Amount,
    /// The token.
    pub token: TokenChoice,
    /// Tells ledgers of equal terms apart: equal terms and an equal salt are one ledger (spec L-29).
    pub salt: [u8; 32],
    /// The sizes of book, by tier index; 1 to 256.
    pub tiers: Vec<TierPlan>,
}

impl DeployPlan {
    /// What can be known to be wrong without the chain's contracts: keys, then terms.
    ///
    /// # Errors
    /// [`ChainError::InsecureKeys`]; [`ChainError::DegenerateKey`]; [`ChainError::InvalidInput`].
    pub fn check(&self, chain: ChainId) -> Result<(), ChainError> {
        self.provenance.check(chain)?;
        for tier in &self.tiers {
            let slots = tier.slots;
            check_key(ContractRole::SettleVerifier { slots }, &tier.settle_key)?;
            check_key(ContractRole::RegisterVerifier { slots }, &tier.register_key)?;
        }
        let invalid = |what, detail: &str| Err(ChainError::invalid(what, detail));
        if self.provider == ZERO {
            return invalid("provider", "the zero address can withdraw nothing");
        }
        if self.operator == ZERO {
            return invalid("operator", "the zero address can settle nothing");
        }
        if self.response_window_secs > RESPONSE_WINDOW_SECS_MAX {
            return invalid("response window", "longer than 30 days");
        }
        if self.halt_window_secs <= self.response_window_secs {
            return invalid("halt window", "not longer than the response window");
        }
        if self.halt_window_secs > HALT_WINDOW_SECS_MAX {
            return invalid("halt window", "longer than 365 days");
        }
        if self.tiers.is_empty() || self.tiers.len() > TIERS_MAX {
            return invalid("tiers", "a ledger has 1 to 256");
        }
        if self.tiers.iter().any(|tier| tier.slots == 0) {
            return invalid("tiers", "a book of no slots");
        }
        if self.token.known_decimals().is_some() && !chain.is_development() {
            return Err(ChainError::invalid("token", format!("test tokens are for development chains, and {chain} is none")));
        }
        self.terms(ZERO).map(drop)
    }

    /// The terms of the ledger with its token.
    pub(super) fn terms(&self, token: Address) -> Result<ILedger::Terms, ChainError> {
        let window = |what, secs| U40::try_from(secs).map_err(|_| ChainError::invalid(what, "does not fit 40 bits"));
        let deposit_min = self.deposit_min.to_u64().map_err(|error| ChainError::invalid("minimum deposit", error))?;
        Ok(ILedger::Terms {
            provider: convert::evm_address(self.provider),
            operator: convert::evm_address(self.operator),
            token: convert::evm_address(token),
            responseWindowSecs: window("response window", self.response_window_secs)?,
            haltWindowSecs: window("halt window", self.halt_window_secs)?,
            depositMinNanos: deposit_min,
        })
    }
}

/// The rule of the verifier's constructor (spec L-22).
fn check_key(role: ContractRole, key: &VerifyingKeyWords) -> Result<(), ChainError> {
    let (gamma, delta) = (&key[6..10], &key[10..14]);
    let reason = if gamma == delta {
        "gamma equals delta"
    } else if *gamma == G2_GENERATOR {
        "gamma is the generator"
    } else if *delta == G2_GENERATOR {
        "delta is the generator"
    } else {
        return Ok(());
    };
    Err(ChainError::DegenerateKey { role, reason })
}

/// A token's decimals as the ledger takes them.
///
/// # Errors
/// [`ChainError::InvalidInput`] above 27.
pub(super) fn unit(decimals: u8) -> Result<AssetUnit, ChainError> {
    AssetUnit::new(decimals).map_err(|error| ChainError::invalid("token", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ChainId = ChainId::new(31_337);

    fn plan() -> DeployPlan {
        let key: VerifyingKeyWords = core::array::from_fn(|word| [u8::try_from(word).expect("small"); 32]);
        DeployPlan {
            provenance: KeyProvenance::InsecureDevelopment,
            provider: Address::from_bytes([1; 20]),
            operator: Address::from_bytes([2; 20]),
            response_window_secs: 86_400,
            halt_window_secs: 604_800,
            deposit_min: Amount::ZERO,
            token: TokenChoice::TestUsdc,
            salt: [0; 32],
            tiers: vec![TierPlan { slots: 24, empty_root: [3; 32], settle_key: key, register_key: key }],
        }
    }

    #[test]
    fn insecure_keys_are_for_development_chains_only() {
        let check = |provenance: KeyProvenance, chain: u64, allowed: bool| {
            assert_eq!(provenance.check(ChainId::new(chain)).is_ok(), allowed, "{provenance:?} on {chain}");
        };
        for chain in [31_337, 1_337] {
            check(KeyProvenance::InsecureDevelopment, chain, true);
        }
        for chain in [1, 10, 8_453, 84_532, 42_161, 11_155_111, 0] {
            check(KeyProvenance::InsecureDevelopment, chain, false);
            check(KeyProvenance::Ceremony, chain, true);
        }
    }

    #[test]
    fn degenerate_keys_are_found() {
        let check = |change: fn(&mut VerifyingKeyWords), expected: Option<&'static str>| {
            let mut bad = plan();
            change(&mut bad.tiers[0].register_key);
            let role = ContractRole::RegisterVerifier { slots: 24 };
            let expected = expected.map_or(Ok(()), |reason| Err(ChainError::DegenerateKey { role, reason }));
            assert_eq!(bad.check(HERE), expected);
        };
        check(|_| {}, None);
        check(|key| key.copy_within(6..10, 10), Some("gamma equals delta"));
        check(|key| key[6..10].copy_from_slice(&G2_GENERATOR), Some("gamma is the generator"));
        check(|key| key[10..14].copy_from_slice(&G2_GENERATOR), Some("delta is the generator"));
    }

    #[test]
    fn terms_that_the_ledger_would_refuse_are_refused() {
        let check = |change: fn(&mut DeployPlan), wrong: &str| {
            let mut bad = plan();
            change(&mut bad);
            assert!(matches!(bad.check(HERE), Err(ChainError::InvalidInput { what, .. }) if what == wrong), "{wrong}");
        };
        assert_eq!(plan().check(HERE), Ok(()));
        check(|plan| plan.provider = Address::from_bytes([0; 20]), "provider");
        check(|plan| plan.operator = Address::from_bytes([0; 20]), "operator");
        check(|plan| plan.response_window_secs = 30 * 86_400 + 1, "response window");
        check(|plan| plan.halt_window_secs = plan.response_window_secs, "halt window");
        check(|plan| plan.halt_window_secs = 365 * 86_400 + 1, "halt window");
        check(|plan| plan.deposit_min = Amount::from_units(1 << 64), "minimum deposit");
        check(|plan| plan.tiers.clear(), "tiers");
        check(|plan| plan.tiers = vec![plan.tiers[0].clone(); 257], "tiers");
        check(|plan| plan.tiers[0].slots = 0, "tiers");
        let mut elsewhere = plan();
        elsewhere.provenance = KeyProvenance::Ceremony;
        assert!(matches!(elsewhere.check(ChainId::new(1)), Err(ChainError::InvalidInput { what: "token", .. })));
        assert!(unit(27).is_ok() && unit(28).is_err());
    }
}
