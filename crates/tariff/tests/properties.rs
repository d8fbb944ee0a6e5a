//! However a stream is cut into charges, it costs what one charge for all of it would.

use millstream_tariff::{Carry, Cost, Price, Token, Unit, Usage};
use millstream_types::Amount;
use proptest::prelude::*;

fn token() -> Token {
    Token::new("USDC", 6).expect("a token")
}

fn price() -> impl Strategy<Value = Price> {
    let rate = (0u64..1_000_000_000, 0usize..10, prop::sample::select(vec!["1", "2", "8", "1K", "1Ki", "5K", "1M"]));
    prop::collection::btree_map(0usize..Unit::ALL.len(), rate, 1..=Unit::ALL.len()).prop_map(|rates| {
        let rates: Vec<String> = rates
            .into_iter()
            .map(|(unit, (amount, zeros, per))| format!("0.{}{amount} USDC / {per} {}", "0".repeat(zeros % 3), Unit::ALL[unit]))
            .collect();
        Price::parse(&rates.join(" + "), &token()).expect("exact")
    })
}

fn usage() -> impl Strategy<Value = Usage> {
    prop::array::uniform7(0u64..1_000_000).prop_map(|[calls, input_tokens, output_tokens, cached_tokens, millis, bytes, images]| Usage {
        calls,
        input_tokens,
        output_tokens,
        cached_tokens,
        millis,
        bytes,
        images,
    })
}

proptest! {
    #[test]
    fn many_charges_cost_what_one_would(price in price(), parts in prop::collection::vec(usage(), 1..64), carried in 0u64..1_000_000_000_000_000_000) {
        let start = Carry::from_attos(carried).expect("below a base unit");
        let (mut charged, mut carry, mut whole) = (Amount::ZERO, start, Usage::default());
        for part in &parts {
            let (amount, rest) = carry.charge_up(price.cost(part).expect("small")).expect("small");
            charged = charged.checked_add(amount).expect("small");
            carry = rest;
            whole = whole.saturating_add(part);
        }
        let exact = price.cost(&whole).expect("small");
        prop_assert_eq!((charged, carry), start.charge_up(exact).expect("small"));
        // Never less than it costs, never a base unit more.
        let paid = Cost::new(charged.units(), u128::from(carried)).expect("small");
        prop_assert_eq!(paid, exact.checked_add(Cost::new(0, u128::from(carry.attos())).expect("small")).expect("small"));
    }

    #[test]
    fn no_usage_within_the_bounds_costs_more_than_the_ceiling(price in price(), bound in usage(), share in prop::array::uniform7(0u64..=100), cached in 0u64..=100) {
        let part = |bound: u64, share: u64| bound * share / 100;
        let read = part(bound.input_tokens, share[1]);
        let used = Usage {
            calls: part(bound.calls, share[0]),
            input_tokens: read - part(read, cached),
            output_tokens: part(bound.output_tokens, share[2]),
            cached_tokens: part(read, cached) + part(bound.cached_tokens, share[3]),
            millis: part(bound.millis, share[4]),
            bytes: part(bound.bytes, share[5]),
            images: part(bound.images, share[6]),
        };
        prop_assert!(price.cost(&used).expect("small") <= price.cost_at_most(&bound).expect("small"));
    }

    #[test]
    fn no_text_panics(text in ".{0,64}") {
        let _ = Price::parse(&text, &token());
        let _ = token().parse_amount(&text);
    }
}
