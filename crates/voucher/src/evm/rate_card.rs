//! Rate cards: whoever is paid says, by a signature that anybody can check offline, which prices hold from when.
//!
//! The domain is `Millstream Rate Card`, version `1`, on the card's chain, and its verifying contract is the card's token: prices in one token are
//! none in another. The struct has what a wallet can show to its owner; the digest is of everything else.

use millstream_types::{Address, ChainId, Hash256, Timestamp, Uint256};

use super::eip712::{self, Encoder};
use super::signed::{EvmError, Statement};

/// The name in the domain.
const DOMAIN_NAME: &str = "Millstream Rate Card";
const CARD_TYPE: &str = "RateCard(string name,uint32 version,uint64 validFrom,bytes32 digest)";

/// A token on one chain, as signatures of rate cards see it. The separator is hashed once, when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RateCardDomain {
    chain: ChainId,
    separator: Hash256,
}

/// What is signed of a rate card.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RateCardStatement {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// When it begins to hold; signed in whole seconds, rounded down.
    pub valid_from: Timestamp,
    /// SHA-256 of its canonical bytes.
    pub digest: Hash256,
}

impl RateCardDomain {
    /// The domain of cards in a token.
    #[must_use]
    pub fn new(chain: ChainId, token: Address) -> Self {
        Self { chain, separator: eip712::domain_separator(DOMAIN_NAME, Some("1"), chain, &token) }
    }
}

impl Statement for RateCardStatement {
    type Domain = RateCardDomain;

    fn digest(&self, domain: &RateCardDomain) -> Result<Hash256, EvmError> {
        let card = Encoder::of(CARD_TYPE)
            .text(&self.name)
            .uint(Uint256::from(u64::from(self.version)))
            .uint(Uint256::from(self.valid_from.as_secs_down()))
            .hash(&self.digest)
            .finish();
        Ok(eip712::digest(&domain.separator, &card))
    }

    fn chain(domain: &RateCardDomain) -> ChainId {
        domain.chain
    }

    fn separator(domain: &RateCardDomain) -> Hash256 {
        domain.separator
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EvmSecretKey, KeySignature, Signed};
    use super::*;

    fn statement() -> RateCardStatement {
        RateCardStatement {
            name: "chat".to_owned(),
            version: 2,
            valid_from: Timestamp::from_millis(1_796_083_200_000),
            digest: Hash256::from_bytes([7; 32]),
        }
    }

    #[test]
    fn a_card_is_signed_for_its_token_and_nothing_else() {
        let key = EvmSecretKey::from_bytes(&[1; 32]).expect("a key");
        let domain = |chain, token| RateCardDomain::new(ChainId::new(chain), Address::from_bytes([token; 20]));
        let own = domain(8_453, 1);
        let signed = key.sign(statement(), &own).expect("signed");
        let signature = signed.signature().clone();
        let check = |statement: RateCardStatement, domain: &RateCardDomain, holds: bool| {
            assert_eq!(Signed::new(statement, signature.clone()).verify(domain, key.account()).is_ok(), holds);
        };
        check(statement(), &own, true);
        check(statement(), &domain(1, 1), false);
        check(statement(), &domain(8_453, 2), false);
        check(RateCardStatement { version: 3, ..statement() }, &own, false);
        check(RateCardStatement { name: "chat2".to_owned(), ..statement() }, &own, false);
        check(RateCardStatement { valid_from: Timestamp::from_millis(1_796_083_201_000), ..statement() }, &own, false);
        check(RateCardStatement { digest: Hash256::from_bytes([8; 32]), ..statement() }, &own, false);
    }

    // As viem's `signTypedData` signs it: any wallet that knows EIP-712 can sign a card.
    #[test]
    fn the_digest_is_eip_712s() {
        let domain = RateCardDomain::new(ChainId::new(8_453), Address::from_bytes([1; 20]));
        let key = EvmSecretKey::from_bytes(&[1; 32]).expect("a key");
        let signature: KeySignature = key.sign_digest(&statement().digest(&domain).expect("a digest")).expect("signed");
        assert_eq!(
            signature.to_string(),
            "0x53a98ee19c5dd20b1304051fa7d07a5b94fef8aa7fb9056904076699dd73979463da61135602497efe76ab99a7c9b39022b882b2adf47d38f122f48e7727133f1c"
        );
    }
}
