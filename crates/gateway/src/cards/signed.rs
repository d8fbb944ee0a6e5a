//! Rate cards as files with a signature: read and checked offline, or signed.

use millstream_tariff::{CardError, CardFile, RateCard, SignatureSection};
use millstream_types::Address;
use millstream_voucher::evm::{EvmError, EvmSecretKey, EvmSignature, RateCardDomain, RateCardStatement, Signed, eip55};

/// Bytes of a card's file, at most.
pub const CARD_BYTES_MAX: usize = 256 * 1024;

/// A card whose signature was checked: who signed it, and the file as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCard {
    card: RateCard,
    signer: Address,
    text: String,
}

/// Why text is not a signed card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CardFileError {
    /// Longer than any card.
    #[error("the rate card has {bytes} bytes, more than {CARD_BYTES_MAX}")]
    TooLong {
        /// Its bytes.
        bytes: usize,
    },
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("{reason}")]
    Toml {
        /// What the parser says, with the line.
        reason: String,
    },
    /// What it says is no card.
    #[error(transparent)]
    Card(#[from] CardError),
    /// Cards are signed for a token on an EVM chain.
    #[error("card.network: {network} is no EVM chain: there is no account that could sign for it")]
    Network {
        /// The network.
        network: String,
    },
    /// Nobody signed it.
    #[error("the rate card is not signed")]
    Unsigned,
    /// The signature's section cannot be read.
    #[error("signature.{key}: {reason}")]
    Signature {
        /// The key.
        key: &'static str,
        /// Why.
        reason: String,
    },
    /// The signature is of other content: the file was changed after it was signed.
    #[error("the signature is not {signer}'s for this content: the card was changed after it was signed, or somebody else signed it")]
    OtherContent {
        /// Who is said to have signed.
        signer: Address,
    },
}

/// Reads a card, whether it is signed or not.
///
/// # Errors
/// [`CardFileError`].
pub fn read_card(text: &str) -> Result<(RateCard, Option<SignatureSection>), CardFileError> {
    if text.len() > CARD_BYTES_MAX {
        return Err(CardFileError::TooLong { bytes: text.len() });
    }
    let file: CardFile = toml::from_str(text).map_err(|error| CardFileError::Toml { reason: error.to_string().trim().to_owned() })?;
    Ok((RateCard::new(&file)?, file.signature))
}

impl SignedCard {
    /// Reads a card and checks its signature. Whether the signer may say prices, the caller knows.
    ///
    /// # Errors
    /// [`CardFileError`].
    pub fn read(text: &str) -> Result<Self, CardFileError> {
        let (card, section) = read_card(text)?;
        let section = section.ok_or(CardFileError::Unsigned)?;
        let signer: Address = section.signer.parse().map_err(|error| malformed("signer", format!("{error}")))?;
        let signature: EvmSignature = section.value.parse().map_err(|error: EvmError| malformed("value", error.to_string()))?;
        let verified = Signed::new(statement(&card), signature).verify(&domain(&card)?, signer);
        match verified {
            Ok(_) if section.digest == card.digest().to_string() => Ok(Self { card, signer, text: text.to_owned() }),
            Ok(_) => Err(malformed("digest", format!("the card's is {}", card.digest()))),
            Err(EvmError::WrongSigner { .. } | EvmError::Unrecoverable) => Err(CardFileError::OtherContent { signer }),
            Err(error) => Err(malformed("value", error.to_string())),
        }
    }

    /// Signs the text of a card. A signature that it has is replaced; everything before it stays as it is written.
    ///
    /// # Errors
    /// [`CardFileError`].
    pub fn sign(text: &str, key: &EvmSecretKey) -> Result<Self, CardFileError> {
        let (card, _) = read_card(text)?;
        let signed = key.sign(statement(&card), &domain(&card)?).map_err(|error| malformed("value", error.to_string()))?;
        let body = without_signature(text);
        let (signer, digest, value) = (eip55(&key.account()), card.digest(), signed.signature());
        let text = format!("{}\n\n[signature]\nsigner = \"{signer}\"\ndigest = \"{digest}\"\nvalue = \"{value}\"\n", body.trim_end());
        // What was appended must be read as it was meant, whatever stood there before.
        Self::read(&text)
    }

    /// The card.
    #[must_use]
    pub const fn card(&self) -> &RateCard {
        &self.card
    }

    /// Who signed it.
    #[must_use]
    pub const fn signer(&self) -> Address {
        self.signer
    }

    /// The file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn statement(card: &RateCard) -> RateCardStatement {
    let version = card.version();
    RateCardStatement { name: version.name().to_owned(), version: version.version(), valid_from: card.valid_from(), digest: *card.digest() }
}

fn domain(card: &RateCard) -> Result<RateCardDomain, CardFileError> {
    let chain = card.network().evm_chain().ok_or_else(|| CardFileError::Network { network: card.network().to_string() })?;
    Ok(RateCardDomain::new(chain, card.asset()))
}

/// The text up to its last `[signature]` header. Tables of TOML end at the next header, and a signature's has no tables below it; what does not
/// stand at its end is found when the result is read again.
fn without_signature(text: &str) -> &str {
    let mut offset = 0;
    let mut found = None;
    for line in text.split_inclusive('\n') {
        if line.trim() == "[signature]" {
            found = Some(offset);
        }
        offset += line.len();
    }
    found.and_then(|at| text.get(..at)).unwrap_or(text)
}

fn malformed(key: &'static str, reason: String) -> CardFileError {
    CardFileError::Signature { key, reason }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) const CARD: &str = r#"# Our prices.
[card]
name = "chat"
version = 1
valid_from = "2026-12-01T00:00:00Z"
network = "eip155:8453"
asset = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
symbol = "USDC"
decimals = 6

[[entry]]
price = "2 USDC / 1M input_token + 8 USDC / 1M output_token" # as on the web page
"#;

    pub(crate) fn key(number: u8) -> EvmSecretKey {
        EvmSecretKey::from_bytes(&[number; 32]).expect("a key")
    }

    #[test]
    fn a_signed_card_is_read_and_signed_anew() {
        let signed = SignedCard::sign(CARD, &key(1)).expect("signed");
        assert!(signed.text().starts_with(CARD.trim_end()));
        assert_eq!(SignedCard::read(signed.text()), Ok(signed.clone()));
        assert_eq!(signed.signer(), key(1).account());
        let again = SignedCard::sign(signed.text(), &key(2)).expect("signed again");
        assert_eq!((again.signer(), again.card()), (key(2).account(), signed.card()));
        assert_eq!(again.text().matches("[signature]").count(), 1);
        // Comments and the way of writing are no part of it.
        let rewritten = signed.text().replace("# Our prices.", "").replace("2 USDC / 1M input_token", "2000 base / 1K input_token");
        assert_eq!(SignedCard::read(&rewritten).expect("the same content").card().digest(), signed.card().digest());
    }

    #[test]
    fn what_was_not_signed_so_is_refused() {
        let signed = SignedCard::sign(CARD, &key(1)).expect("signed");
        let check = |text: &str, expected: &str| {
            let error = SignedCard::read(text).expect_err(expected);
            assert!(error.to_string().contains(expected), "{expected}: {error}");
        };
        let other = |from: &str, to: &str| signed.text().replacen(from, to, 1);
        check(CARD, "the rate card is not signed");
        check(&other("8 USDC", "9 USDC"), "is not 0x1a642f0e3c3af545e7acbd38b07251b3990914f1's for this content");
        check(&other("version = 1", "version = 2"), "for this content");
        check(&other("8453", "1"), "for this content");
        check(&other("2026-12-01", "2026-12-02"), "for this content");
        check(&other(&eip55(&key(1).account()), &eip55(&key(2).account())), "for this content");
        check(&other(&format!("digest = \"{}", signed.card().digest()), "digest = \"0x00"), "signature.digest");
        check(&other("value = \"0x", "value = \"0x00"), "signature.value");
        check(&other("signer = \"0x", "signer = \"0x00"), "signature.signer");
        check(&other("[card]", "[card"), "TOML parse error");
        check(&other("eip155:8453", "solana:mainnet"), "is no EVM chain");
        check(&format!("{CARD}{}", "#".repeat(CARD_BYTES_MAX)), "more than");
        check(&other("price =", "prize ="), "unknown field `prize`");
    }
}
