//! However a stream is cut into charges, it costs what one charge for all of it would.

use millstream_tariff::{
    Account, CardFile, Carry, Cost, History, Payee, Percent, Price, RateCard, Share, SplitBook, Splits, ThreeSums, Token, Unit, Usage,
};
use millstream_types::{Address, Amount};
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

/// A card of one entry with two steps for each of two units, and whatever is added.
fn file(tiers_over: &str, above: (u64, u64), percent: u32, more: &str) -> CardFile {
    let text = format!(
        r#"
        [card]
        name = "chat"
        version = 1
        valid_from = "2026-12-01T00:00:00Z"
        network = "eip155:8453"
        asset = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
        symbol = "USDC"
        decimals = 6
        [[entry]]
        price = "0.15 USDC / 1M input_token + 0.07 USDC / 1M cached_token + 0.6 USDC / 1M output_token"
        tiers_over = "{tiers_over}"
        tier = [
            {{ above = "{}", price = "0.11 USDC / 1M input_token" }},
            {{ above = "{}", price = "0.37 USDC / 1M output_token" }},
        ]
        [[discount]]
        kind = "loyalty"
        from = "0.001 USDC"
        percent = "{percent}"
        {more}
        "#,
        above.0, above.1
    );
    toml::from_str(&text).expect("TOML")
}

fn card(tiers_over: &str, above: (u64, u64), percent: u32, more: &str) -> RateCard {
    RateCard::new(&file(tiers_over, above, percent, more)).expect("a card")
}

/// The same without a discount, its steps over a month.
fn tiered(above: (u64, u64)) -> RateCard {
    let mut file = file("month", above, 1, "");
    file.discounts.clear();
    RateCard::new(&file).expect("a card")
}

/// Requests as one use.
fn whole(parts: &[(u64, u64)]) -> Usage {
    let sum = |of: fn(&(u64, u64)) -> u64| parts.iter().map(of).sum();
    Usage { calls: 1, input_tokens: sum(|part| part.0), output_tokens: sum(|part| part.1), ..Usage::default() }
}

/// What is charged for these uses, one after the other.
fn charged(card: &RateCard, uses: impl Iterator<Item = Usage>) -> (Amount, Carry) {
    let (entry, now) = (&card.entries()[0], card.valid_from());
    let mut account = Account::new();
    for usage in uses {
        account.charge(entry, now, &usage).expect("small");
    }
    (account.charged(), account.carry())
}

fn shares() -> impl Strategy<Value = Splits> {
    let percents = prop::collection::vec(1u32..300_000, 0..=3);
    (percents, prop::option::of(1u128..50)).prop_map(|(percents, fixed)| {
        let percents = percents.into_iter().map(|parts| Share::Percent(Percent::from_parts(parts).expect("below the whole")));
        let shares = percents.chain(fixed.map(|units| Share::Fixed(Amount::from_units(units)))).chain([Share::Remainder]);
        let payee = |(share, number)| Payee { account: Address::from_bytes([number; 20]), name: None, share };
        Splits::new(shares.zip(1..).map(payee).collect()).expect("a split")
    })
}

proptest! {
    // T-6: graduated steps over a period do not mind how use is cut.
    #[test]
    fn tiers_over_a_period_cost_the_same_line_by_line_per_request_and_in_one_sum(
        above in (1u64..60_000, 1u64..20_000),
        requests in prop::collection::vec((0u64..5_000, 0u64..40), 1..40),
    ) {
        let card = tiered(above);
        let lines = requests.iter().flat_map(|(context, generated)| {
            let each = (0..*generated).map(|_| Usage { output_tokens: 1, ..Usage::default() });
            [Usage { calls: 1, input_tokens: *context, ..Usage::default() }].into_iter().chain(each)
        });
        let by_line = charged(&card, lines);
        let by_request = charged(&card, requests.iter().map(|request| whole(&[*request])));
        let in_one = charged(&card, [whole(&requests)].into_iter());
        prop_assert_eq!(by_line, by_request);
        prop_assert_eq!(by_request, in_one);
        // As the backtest computes it, and for steps of each request as well.
        let uses: Vec<Usage> = requests.iter().map(|request| whole(&[*request])).collect();
        let sums = ThreeSums::of(&card.entries()[0], &uses).expect("small");
        prop_assert_eq!((sums.by_line, sums.by_request, sums.in_one), (by_line.0, by_request.0, in_one.0));
        let of_requests = ThreeSums::of(&self::card("request", above, 1, "").entries()[0], &uses).expect("small");
        prop_assert!(of_requests.agree());
        prop_assert_eq!(of_requests.cost.up().expect("small"), of_requests.by_request);
    }

    // T-5, T-9: whoever pays, and whatever was used before, nothing costs more than its ceiling, and a discount makes nothing dearer.
    #[test]
    fn nothing_costs_more_than_the_ceiling_whoever_pays(
        over in prop::sample::select(vec!["request", "day", "month"]),
        above in (1u64..2_000, 1u64..2_000),
        bound in (0u64..5_000, 0u64..5_000),
        share in prop::array::uniform3(0u64..=100),
        charged in 0u128..2_000,
        before in (0u64..5_000, 0u64..5_000),
    ) {
        let card = card(over, above, 25, "");
        let tariff = card.entries()[0].tariff();
        let bound = Usage { calls: 1, input_tokens: bound.0, output_tokens: bound.1, ..Usage::default() };
        let read = bound.input_tokens * share[0] / 100;
        let cached = read * share[1] / 100;
        let used = Usage { calls: 1, input_tokens: read - cached, cached_tokens: cached, output_tokens: bound.output_tokens * share[2] / 100, ..Usage::default() };
        let before = Usage { input_tokens: before.0, output_tokens: before.1, ..Usage::default() };
        let plain = History { used: before, ..History::default() };
        let loyal = History { charged: Amount::from_units(charged), ..plain };
        let (full, less) = (tariff.cost_for(&plain, &used).expect("small"), tariff.cost_for(&loyal, &used).expect("small"));
        prop_assert!(less <= full);
        prop_assert!(full.up().expect("small") <= tariff.ceiling_up(&bound).expect("small"));
    }

    // T-11: credit and money together are the cost, and credit is never more than was given.
    #[test]
    fn credit_and_money_together_are_the_cost(requests in prop::collection::vec((0u64..50_000, 0u64..5_000), 1..30), units in 0u32..5_000) {
        let card = card("request", (1_000, 1_000), 10, &format!("[credit]\namount = \"{units} base\"\ndays = 1"));
        let (entry, now) = (&card.entries()[0], card.valid_from());
        let mut account = Account::new();
        account.grant(card.promo(), now);
        let (mut cost, mut credit, mut money) = (Cost::ZERO, Cost::ZERO, Amount::ZERO);
        for request in &requests {
            let charge = account.charge(entry, now, &whole(&[*request])).expect("small");
            prop_assert!(charge.credit <= charge.cost);
            (cost, credit) = (cost.checked_add(charge.cost).expect("small"), credit.checked_add(charge.credit).expect("small"));
            money = money.checked_add(charge.amount).expect("small");
        }
        prop_assert!(credit <= Cost::whole(Amount::from_units(units.into())));
        prop_assert_eq!(account.credit().map(|credit| credit.used()), Some(credit));
        let paid = Cost::whole(money).checked_add(credit).expect("small");
        prop_assert_eq!(paid, cost.checked_add(Cost::new(0, account.carry().attos().into()).expect("small")).expect("small"));
        prop_assert_eq!(account.charged(), money);
    }

    // T-12, T-13: parts are the charge, and nobody is off its share by more base units than there are payees.
    #[test]
    fn parts_are_the_charge_and_shares_are_kept(splits in shares(), charges in prop::collection::vec(0u128..200, 1..200)) {
        let mut book = SplitBook::new(&splits);
        let (mut sum, mut divisible) = (Amount::ZERO, 0u128);
        let mut fixed = vec![0u128; splits.payees().len()];
        for charge in &charges {
            let parts = book.charge(&splits, Amount::from_units(*charge)).expect("small");
            prop_assert_eq!(parts.iter().map(|part| part.units()).sum::<u128>(), *charge);
            let mut left = *charge;
            for (payee, fixed) in splits.payees().iter().zip(&mut fixed) {
                if let Share::Fixed(amount) = payee.share {
                    let part = amount.units().min(left);
                    (*fixed, left) = (*fixed + part, left - part);
                }
            }
            divisible += left;
            sum = sum.checked_add(Amount::from_units(*charge)).expect("small");
        }
        prop_assert_eq!(book.given().iter().map(|given| given.units()).sum::<u128>(), sum.units());
        let percents: u128 = splits.payees().iter().map(|payee| if let Share::Percent(percent) = payee.share { percent.parts().into() } else { 0 }).sum();
        for ((payee, given), fixed) in splits.payees().iter().zip(book.given()).zip(&fixed) {
            let weight = match payee.share {
                Share::Fixed(_) => 0,
                Share::Percent(percent) => percent.parts().into(),
                Share::Remainder => 1_000_000 - percents,
            };
            let off = (given.units() - fixed).abs_diff(divisible * weight / 1_000_000);
            prop_assert!(off <= splits.payees().len() as u128, "{} off by {}", payee.account, off);
        }
    }

    // T-14: what is refunded is taken back to the base unit, and a whole refund leaves nothing.
    #[test]
    fn refunds_are_taken_back_to_the_base_unit(splits in shares(), charge in 1u128..u128::MAX, share in 0u128..=100) {
        let charge = Amount::from_units(charge);
        let mut book = SplitBook::new(&splits);
        let parts = book.charge(&splits, charge).expect("fits");
        let refund = Amount::from_units(charge.units() / 100 * share);
        let mut part = book.clone();
        let back = part.refund(&parts, refund).expect("no more than the charge");
        prop_assert_eq!(back.iter().map(|part| part.units()).sum::<u128>(), refund.units());
        prop_assert!(back.iter().zip(&parts).all(|(back, part)| back <= part));
        book.refund(&parts, charge).expect("all of it");
        prop_assert!(book.given().iter().all(|given| given.is_zero()));
    }

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
