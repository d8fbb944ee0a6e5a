//! Prices, amounts, units and tariff names as operators write them, and signatures as payers send them.

use millstream_tariff::{Carry, Cost, Price, TariffVersion, Token, Unit, Usage};
use millstream_types::{Address, Amount, Hash256};
use millstream_voucher::evm::{CONTRACT_SIGNATURE_BYTES_MAX, EvmSignature, KEY_SIGNATURE_BYTES, KeySignature, eip55};

use crate::{split, text};

/// Holds the decoder that the first byte names to its promises. Whether it read something.
pub fn check(data: &[u8]) -> bool {
    let Some((kind, input)) = split(data) else { return false };
    match kind {
        b'p' => price(text(input), 6).is_some(),
        b'q' => price(text(input), 18).is_some(),
        b'a' => [0, 6, 18].into_iter().filter_map(|decimals| amount(text(input), decimals)).count() > 0,
        b't' => symbol(text(input)).is_some(),
        b'v' => {
            let version = TariffVersion::new(text(input), 3);
            version.inspect(|version| assert_eq!((version.name(), version.version()), (text(input), 3))).is_ok()
        }
        b'u' => text(input).parse::<Unit>().inspect(|unit| assert_eq!(unit.as_str(), text(input))).is_ok(),
        b's' => signature(text(input)).is_some(),
        b'k' => key_signature(input).is_some(),
        b'x' => text(input).parse::<Address>().inspect(|address| assert_eq!(eip55(address).parse::<Address>(), Ok(*address))).is_ok(),
        _ => false,
    }
}

fn amount(text: &str, decimals: u8) -> Option<()> {
    let token = Token::new("USDC", decimals).expect("a token");
    let amount = token.parse_amount(text).ok()?;
    assert_eq!(token.parse_amount(&token.show(amount)), Ok(amount), "{}", token.show(amount));
    Some(())
}

fn symbol(symbol: &str) -> Option<()> {
    let token = Token::new(symbol, 6).ok()?;
    let amount = Amount::from_units(1_234_567);
    assert_eq!(token.parse_amount(&token.show(amount)), Ok(amount), "{symbol}");
    Some(())
}

fn price(text: &str, decimals: u8) -> Option<()> {
    let token = Token::new("USDC", decimals).expect("a token");
    let price = Price::parse(text, &token).ok()?;
    assert_eq!(Price::parse(&price.to_string(), &token).as_ref(), Ok(&price), "{price}");
    let usage = Usage { calls: 1, input_tokens: 1_234, output_tokens: 567, cached_tokens: 89, millis: 12_345, bytes: 6_789, images: 2 };
    // Beyond 128 bits there is no cost, and no charge.
    let (Ok(cost), Ok(most)) = (price.cost(&usage), price.cost_at_most(&usage)) else { return Some(()) };
    assert!(cost <= most, "{price} costs more than it can");
    // Two charges come to what they cost together.
    let (Ok(both), Ok((first, carry))) = (cost.checked_add(cost).and_then(Cost::up), Carry::ZERO.charge_up(cost)) else { return Some(()) };
    let (second, _) = carry.charge_up(cost).expect("as much as the first");
    assert_eq!(first.checked_add(second), Ok(both), "{price}");
    Some(())
}

fn signature(text: &str) -> Option<()> {
    let signature: EvmSignature = text.parse().ok()?;
    assert!(signature.as_bytes().len() <= CONTRACT_SIGNATURE_BYTES_MAX);
    assert_eq!(signature.to_string().parse::<EvmSignature>().as_ref(), Ok(&signature));
    key_signature(signature.as_bytes());
    Some(())
}

/// Only the one form that contracts accept (S-3), and what it was made of comes out of it.
fn key_signature(bytes: &[u8]) -> Option<()> {
    let bytes = <[u8; KEY_SIGNATURE_BYTES]>::try_from(bytes).ok()?;
    let signature = KeySignature::from_bytes(bytes).ok()?;
    assert!(matches!(bytes[64], 27 | 28));
    let again: EvmSignature = signature.to_string().parse().expect("hexadecimal");
    assert_eq!(again.as_bytes(), bytes);
    let _ = signature.signer_of(&Hash256::from_bytes([3; 32]));
    Some(())
}
