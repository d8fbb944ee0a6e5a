//! What is kept of a delivery: by which card it was priced, on which route, and what was counted (J-6).

use millstream_types::Hash256;

/// Version of the bytes.
const VERSION: u8 = 1;

const WHOLE: u8 = 1;
const REPORTED: u8 = 2;
const COUNTED: u8 = 4;

/// Bytes of a card's name or of a route, at most; what is longer is cut.
pub const EVIDENCE_TEXT_BYTES_MAX: usize = 255;

/// What is kept of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Evidence {
    /// The name of the prices.
    pub card: String,
    /// The path pattern of the route.
    pub route: String,
    /// What was delivered; nothing where the delivery did not end in order.
    pub delivery: Option<Delivery>,
}

/// Where the numbers of tokens come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenSource {
    /// There are none.
    Nothing,
    /// From the upstream's own report.
    Reported,
    /// Counted from the bytes.
    Counted,
}

/// A delivery that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Delivery {
    /// Whether it was delivered to its end.
    pub is_whole: bool,
    /// Where its numbers of tokens come from.
    pub tokens: TokenSource,
    /// SHA-256 of the delivered bytes.
    pub delivered_sha256: Hash256,
    /// What was used.
    pub units: Units,
}

/// What was used of each unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Units {
    /// Calls.
    pub calls: u64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Of the input tokens, those from a cache.
    pub cached_tokens: u64,
    /// Milliseconds.
    pub millis: u64,
    /// Bytes.
    pub bytes: u64,
    /// Images.
    pub images: u64,
}

impl Evidence {
    /// The bytes (J-6): `1 ‖ card ‖ route`, and of a delivery that ended `flags u8 ‖ SHA-256 of the delivered bytes ‖ calls, input, output,
    /// cached tokens, milliseconds, bytes, images`, each u64; texts are `length u8 ‖ bytes`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for text in [&self.card, &self.route] {
            let text = cut(text).as_bytes();
            bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(text);
        }
        let Some(Delivery { is_whole, tokens, delivered_sha256, units }) = &self.delivery else { return bytes };
        let source = match tokens {
            TokenSource::Nothing => 0,
            TokenSource::Reported => REPORTED,
            TokenSource::Counted => COUNTED,
        };
        bytes.push(source | if *is_whole { WHOLE } else { 0 });
        bytes.extend_from_slice(delivered_sha256.as_bytes());
        let Units { calls, input_tokens, output_tokens, cached_tokens, millis, bytes: transferred, images } = units;
        for quantity in [calls, input_tokens, output_tokens, cached_tokens, millis, transferred, images] {
            bytes.extend_from_slice(&quantity.to_be_bytes());
        }
        bytes
    }

    /// What bytes say; nothing when they are of another version, or no evidence.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (card, rest) = text(rest).filter(|_| *version == VERSION)?;
        let (route, rest) = text(rest)?;
        let (card, route) = (card.to_owned(), route.to_owned());
        if rest.is_empty() {
            return Some(Self { card, route, delivery: None });
        }
        let (flags, rest) = rest.split_first()?;
        let (digest, rest) = rest.split_first_chunk()?;
        let tokens = match flags & !WHOLE {
            0 => TokenSource::Nothing,
            REPORTED => TokenSource::Reported,
            COUNTED => TokenSource::Counted,
            _ => return None,
        };
        let (quantities, []) = rest.as_chunks::<8>() else { return None };
        let &[calls, input_tokens, output_tokens, cached_tokens, millis, transferred, images] = quantities else { return None };
        let number = u64::from_be_bytes;
        let units = Units {
            calls: number(calls),
            input_tokens: number(input_tokens),
            output_tokens: number(output_tokens),
            cached_tokens: number(cached_tokens),
            millis: number(millis),
            bytes: number(transferred),
            images: number(images),
        };
        let delivery = Delivery { is_whole: flags & WHOLE != 0, tokens, delivered_sha256: Hash256::from_bytes(*digest), units };
        Some(Self { card, route, delivery: Some(delivery) })
    }

    /// The route in bytes of evidence, without reading the rest.
    #[must_use]
    pub fn route_of(bytes: &[u8]) -> Option<&str> {
        let (version, rest) = bytes.split_first()?;
        let (_, rest) = text(rest).filter(|_| *version == VERSION)?;
        text(rest).map(|(route, _)| route)
    }
}

/// At most [`EVIDENCE_TEXT_BYTES_MAX`] bytes, whole characters.
fn cut(text: &str) -> &str {
    let end = (0..=EVIDENCE_TEXT_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((core::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence() -> Evidence {
        let units = Units { calls: 1, input_tokens: 2, output_tokens: 3, cached_tokens: 4, millis: 5, bytes: 6, images: u64::MAX };
        let delivered_sha256 = Hash256::from_bytes([7; 32]);
        let delivery = Delivery { is_whole: true, tokens: TokenSource::Counted, delivered_sha256, units };
        Evidence { card: "standard".to_owned(), route: "/v1/*".to_owned(), delivery: Some(delivery) }
    }

    #[test]
    fn evidence_is_read_as_it_was_written() {
        let whole = evidence();
        let marked = Evidence { delivery: None, ..whole.clone() };
        for evidence in [&whole, &marked] {
            let bytes = evidence.encode();
            assert_eq!(Evidence::decode(&bytes).as_ref(), Some(evidence));
            assert_eq!(Evidence::route_of(&bytes), Some("/v1/*"));
            for end in 0..bytes.len() {
                assert_ne!(Evidence::decode(&bytes[..end]).as_ref(), Some(evidence));
            }
        }
        for bytes in [&b""[..], b"\x02\x01a\x01b", b"\x01\x01", b"\x01\x01\xff\x00", &[whole.encode(), vec![0]].concat()] {
            assert_eq!(Evidence::decode(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = Evidence { card: "é".repeat(200), route: "/".repeat(300), delivery: None };
        let read = Evidence::decode(&long.encode()).expect("its own bytes");
        assert_eq!((read.card, read.route), ("é".repeat(127), "/".repeat(255)));
    }
}
