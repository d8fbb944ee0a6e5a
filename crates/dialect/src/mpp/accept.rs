//! `Accept-Payment`: what a payer can and would rather use.

use core::fmt;
use core::str::FromStr;

use super::offer::OfferTerms;
use crate::DialectError;
use crate::limits::{ACCEPT_RANGES_MAX, HEADER_BYTES_MAX};

/// Header of a request: the payer's preferences.
pub const ACCEPT_PAYMENT: &str = "Accept-Payment";

/// One range: `method/intent` with a weight; a part that is not given is `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRange {
    /// The method; any, if not given.
    pub method: Option<String>,
    /// The intent; any, if not given.
    pub intent: Option<String>,
    /// The weight in thousandths, 0 to 1,000; 0 is "not this".
    pub weight: u16,
}

/// A payer's preferences: one to 64 ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptPayment {
    /// The ranges, in the order they came.
    pub ranges: Vec<PaymentRange>,
}

impl PaymentRange {
    fn matches(&self, terms: &OfferTerms) -> bool {
        self.method.as_ref().is_none_or(|method| *method == terms.method)
            && self.intent.as_ref().is_none_or(|intent| *intent == terms.intent)
    }

    /// How much it says: the method counts more than the intent.
    fn specificity(&self) -> u8 {
        u8::from(self.method.is_some()) << 1 | u8::from(self.intent.is_some())
    }
}

impl AcceptPayment {
    /// The weight of an offer: that of the most specific range that matches, the highest of equally specific ones; nothing when none does.
    #[must_use]
    pub fn weight(&self, terms: &OfferTerms) -> Option<u16> {
        let matching = self.ranges.iter().filter(|range| range.matches(terms));
        matching.max_by_key(|range| (range.specificity(), range.weight)).map(|range| range.weight)
    }

    /// The offers that the payer takes, its favourites first, equal ones in the server's order (H-28). When it takes none, all in the
    /// server's order: the draft lets a server say what it has.
    #[must_use]
    pub fn rank<'a>(&self, offers: &'a [OfferTerms]) -> Vec<&'a OfferTerms> {
        let weight = |terms: &OfferTerms| self.weight(terms).unwrap_or(0);
        let mut taken: Vec<_> = offers.iter().filter(|terms| weight(terms) > 0).collect();
        taken.sort_by_key(|terms| core::cmp::Reverse(weight(terms)));
        if taken.is_empty() { offers.iter().collect() } else { taken }
    }
}

impl FromStr for AcceptPayment {
    type Err = DialectError;

    fn from_str(text: &str) -> Result<Self, DialectError> {
        if text.len() > HEADER_BYTES_MAX {
            return Err(DialectError::TooLong { part: ACCEPT_PAYMENT, bytes: text.len(), max: HEADER_BYTES_MAX });
        }
        let ranges = text.split(',').map(str::trim).filter(|range| !range.is_empty()).map(range).collect::<Result<Vec<_>, _>>()?;
        let count = ranges.len();
        if !(1..=ACCEPT_RANGES_MAX).contains(&count) {
            return Err(DialectError::Count { part: ACCEPT_PAYMENT, count, min: 1, max: ACCEPT_RANGES_MAX });
        }
        Ok(Self { ranges })
    }
}

fn range(text: &str) -> Result<PaymentRange, DialectError> {
    let bad = |reason| DialectError::Syntax { part: ACCEPT_PAYMENT, reason };
    let mut parts = text.split(';').map(str::trim);
    let (method, intent) = parts.next().and_then(|token| token.split_once('/')).ok_or(bad("expected method/intent"))?;
    let part = |text: &str, more: &[u8]| match text {
        "*" => Ok(None),
        "" => Err(bad("expected method/intent")),
        name if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || more.contains(&b)) => Ok(Some(name.to_owned())),
        _ => Err(bad("expected letters, digits and dashes")),
    };
    let (method, intent) = (part(method, b":_")?, part(intent, b"_")?);
    if method.as_ref().is_some_and(|method| method.bytes().any(|b| b.is_ascii_uppercase())) {
        return Err(bad("a method is in lower case"));
    }
    let mut weight = 1_000;
    for parameter in parts.filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').ok_or(bad("expected a parameter"))?;
        if name.trim().eq_ignore_ascii_case("q") {
            weight = thousandths(value.trim()).ok_or(bad("expected a weight from 0 to 1"))?;
        }
    }
    Ok(PaymentRange { method, intent, weight })
}

fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    match (whole, fraction) {
        ("0", fraction) => Some(fraction),
        ("1", 0) => Some(1_000),
        _ => None,
    }
}

impl fmt::Display for PaymentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.method.as_deref().unwrap_or("*"), self.intent.as_deref().unwrap_or("*"))?;
        match self.weight {
            1_000.. => Ok(()),
            0 => f.write_str(";q=0"),
            weight => write!(f, ";q=0.{}", format!("{weight:03}").trim_end_matches('0')),
        }
    }
}

impl fmt::Display for AcceptPayment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.ranges.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            range.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        for text in ["tempo/charge, stripe/charge;q=0.5", "tempo/*, solana/*;q=0.6, */session;q=0.3", "evm/session;q=0", "*/*;q=0.001"] {
            assert_eq!(text.parse::<AcceptPayment>().map(|accept| accept.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("evm/charge ; Q=1.000,".parse::<AcceptPayment>().map(|accept| accept.to_string()).as_deref(), Ok("evm/charge"));
        for text in [
            "",
            ",",
            "evm",
            "evm/",
            "/charge",
            "evm/charge;q=2",
            "evm/charge;q=0.1234",
            "evm/charge;q=1.001",
            "e vm/charge",
            "EVM/charge",
            "evm/charge;q",
            "evm/charge;q=-1",
        ] {
            assert!(text.parse::<AcceptPayment>().is_err(), "{text}");
        }
    }

    #[test]
    fn offers_are_ranked_as_the_draft_has_it() {
        let offer = |text: &str| {
            let (method, intent) = text.split_once('/').expect("a pair");
            OfferTerms { method: method.to_owned(), intent: intent.to_owned(), ..OfferTerms::default() }
        };
        let check = |accept: &str, offers: &str, expected: &str| {
            let accept: AcceptPayment = accept.parse().expect("well formed");
            let offers: Vec<_> = offers.split(' ').map(offer).collect();
            let ranked: Vec<_> = accept.rank(&offers).iter().map(|terms| format!("{}/{}", terms.method, terms.intent)).collect();
            assert_eq!(ranked.join(" "), expected, "{accept}");
        };
        check("tempo/charge, stripe/charge;q=0.5", "stripe/charge tempo/charge", "tempo/charge stripe/charge");
        check("tempo/charge, tempo/session;q=0", "tempo/session tempo/charge", "tempo/charge");
        check("tempo/*;q=0.2, tempo/session", "tempo/charge tempo/session", "tempo/session tempo/charge");
        check("*/session;q=0.3, evm/*", "tempo/session evm/charge evm/session", "evm/charge evm/session tempo/session");
        check("card/charge", "evm/charge evm/session", "evm/charge evm/session");
    }
}
