//! Rate cards as files: what is read, what is refused, what is sold to whom (T-1 to T-5).

use millstream_tariff::{CardFile, History, NotSold, Percent, RateCard, Usage, differences, moment};
use millstream_types::Amount;
use proptest::prelude::*;

const CARD: &str = r#"
[card]
name = "chat"
version = 2
valid_from = "2026-12-01T00:00:00Z"
network = "eip155:8453"
asset = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
symbol = "USDC"
decimals = 6
description = "Chat and images"

[[entry]]
name = "large"
routes = ["/v1/chat/completions"]
models = ["large-1", "large-2*"]
price = "2 USDC / 1M input_token + 1 USDC / 1M cached_token + 8 USDC / 1M output_token"
minimum = "0.0001 USDC"
tier = [{ above = "100K", price = "1.6 USDC / 1M input_token" }]

[[entry]]
name = "small"
routes = ["/v1/chat/completions", "/v1/embeddings"]
price = "0.2 USDC / 1M input_token + 0.8 USDC / 1M output_token"
tiers_over = "month"
[[entry.tier]]
above = "1M"
price = "0.6 USDC / 1M output_token"
[[entry.tier]]
above = "10M"
price = "0.5 USDC / 1M output_token"

[[discount]]
kind = "loyalty"
from = "10 USDC"
percent = "5"
[[discount]]
kind = "volume"
over = "month"
from = "100 USDC"
percent = "12.5"

[[split]]
payee = "0x00000000000000000000000000000000000000a1"
name = "model owner"
percent = "30"
[[split]]
payee = "0x00000000000000000000000000000000000000a2"
remainder = true

[credit]
amount = "0.50 USDC"
days = 30
"#;

fn card(text: &str) -> Result<RateCard, String> {
    let file: CardFile = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    RateCard::new(&file).map_err(|error| error.to_string())
}

#[test]
fn a_card_is_read() {
    let card = card(CARD).expect("a card");
    assert_eq!((card.version().to_string().as_str(), moment(card.valid_from()).as_str()), ("chat@2", "2026-12-01T00:00:00Z"));
    assert_eq!(card.entries().iter().map(|entry| entry.name()).collect::<Vec<_>>(), ["large", "small"]);
    assert!(card.needs_periods() && card.warnings().is_empty(), "{:?}", card.warnings());
    assert_eq!(card.entries()[1].tariff().digest(), Some(card.digest()));
    assert_eq!(
        card.entries()[1].describe(),
        "0.2 USDC / 1M input_token + 0.8 USDC / 1M output_token; output_token a month: 0.6 USDC / 1M above 1000000, 0.5 USDC / 1M above 10000000"
    );
}

#[test]
fn a_card_that_a_program_writes_is_the_same() {
    let file: CardFile = toml::from_str(CARD).expect("TOML");
    let written = toml::to_string(&file).expect("TOML");
    assert_eq!(card(&written).as_ref().map(RateCard::digest), card(CARD).as_ref().map(RateCard::digest));
}

proptest! {
    // Whatever is in a file, it is a card or an error, and what is a card has a price for something.
    #[test]
    fn no_card_panics(at in 0usize..1_700, gone in 0usize..40, put in "[ -~]{0,12}") {
        let (from, to) = (at.min(CARD.len()), at.saturating_add(gone).min(CARD.len()));
        let text = format!("{}{put}{}", &CARD[..from], &CARD[to..]);
        if let Ok(card) = card(&text) {
            prop_assert!(!card.entries().is_empty());
            let _ = (card.warnings(), card.canonical_bytes(), differences(&card, &card));
            for entry in card.entries() {
                let _ = (entry.describe(), entry.tariff().ceiling_up(&Usage { output_tokens: u64::MAX, ..Usage::default() }));
            }
        }
    }
}

#[test]
fn the_first_entry_for_route_and_model_is_taken() {
    let card = card(CARD).expect("a card");
    let check = |route: &str, model: Option<&str>, expected: Result<&str, &str>| {
        let found = card.entry(route, model).map(|entry| entry.name()).map_err(|error| error.to_string());
        assert_eq!(found.as_deref().map_err(String::as_str), expected.as_ref().copied().map_err(|error| *error), "{route} {model:?}");
    };
    check("/v1/chat/completions", Some("large-1"), Ok("large"));
    check("/v1/chat/completions", Some("large-2-mini"), Ok("large"));
    check("/v1/chat/completions", Some("large-10"), Ok("small"));
    check("/v1/chat/completions", None, Ok("small"));
    check("/v1/embeddings", Some("large-1"), Ok("small"));
    check("/v1/images", None, Err("the rate card chat@2 has no price for `/v1/images`"));
    let of_models = CARD.replace("routes = [\"/v1/chat/completions\", \"/v1/embeddings\"]", "routes = [\"/other\"]");
    let card = self::card(&of_models).expect("a card");
    assert_eq!(card.entry("/v1/chat/completions", None), Err(NotSold::NoModel));
    assert_eq!(card.entry("/v1/chat/completions", Some("x")), Err(NotSold::Model { model: "x".to_owned() }));
}

#[test]
fn what_is_no_card_is_refused_with_its_place() {
    let check = |from: &str, to: &str, expected: &str| {
        assert!(CARD.contains(from), "{from}");
        let error = card(&CARD.replacen(from, to, 1)).expect_err(to);
        assert!(error.contains(expected), "{to}: {error}");
    };
    check("name = \"chat\"", "name = \"a b\"", "card.name");
    check("version = 2", "version = 0", "versions start at 1");
    check("version = 2", "version = 2\nvaluta = 1", "unknown field `valuta`");
    check("2026-12-01T00:00:00Z", "2026-12-01", "card.valid_from");
    check("network =", "valid_until = \"2026-12-01T00:00:00Z\"\nnetwork =", "not after valid_from");
    check("eip155:8453", "base", "card.network");
    check("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "0x12", "card.asset");
    check("decimals = 6", "decimals = 28", "card.symbol");
    check("2 USDC / 1M input_token", "2 DAI / 1M input_token", "entry `large`, price: the price is in DAI");
    check("1M cached_token", "3M cached_token", "cannot be represented exactly");
    check("0.0001 USDC\"", "0.0000001 USDC\"", "entry `large`, minimum");
    check("1.6 USDC / 1M input_token", "1.6 USDC / 1M image", "image has no price in this entry");
    check("1.6 USDC / 1M input_token", "1.6 USDC / 1M input_token + 1 USDC / 1M output_token", "a tier is the price of one unit");
    check("above = \"10M\"", "above = \"1M\"", "begins at or above 1M");
    check("above = \"100K\"", "above = \"0\"", "`0` is not a quantity");
    check("name = \"small\"", "name = \"large\"", "another entry has the same name");
    check("\"large-2*\"", "\"*-2*\"", "a model is a name");
    check("\"/v1/embeddings\"", "\"v1\"", "is no path");
    check("percent = \"5\"", "percent = \"0\"", "discount 1, percent");
    check("kind = \"volume\"\nover = \"month\"", "kind = \"volume\"", "a volume discount has a period");
    check("kind = \"loyalty\"", "kind = \"loyalty\"\nover = \"day\"", "loyalty has no period");
    check("percent = \"30\"", "percent = \"30\"\nfixed = \"1 USDC\"", "exactly one of percent, fixed and remainder");
    check("remainder = true", "percent = \"60\"", "below 100 with exactly one remainder");
    check("days = 30", "days = 0", "credit.days");
    // A discount that would have to be rounded is no discount.
    check("0.2 USDC / 1M input_token", "0.000000000000000002 base / input_token", "with a discount the price of one input_token");
}

#[test]
fn the_digest_is_of_what_is_said_and_not_of_how() {
    let digest = |text: &str| card(text).expect(text).digest().to_string();
    let same = [
        ("2 USDC / 1M input_token + 1 USDC", "2000 base / 1K input_token + 1 USDC"),
        ("description = \"Chat and images\"", "# nothing"),
        ("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"),
        ("2026-12-01T00:00:00Z", "2026-12-01T01:00:00+01:00"),
        ("name = \"model owner\"", ""),
    ];
    for (from, to) in same {
        assert_eq!(digest(&CARD.replacen(from, to, 1)), digest(CARD), "{to}");
    }
    let other = [
        ("version = 2", "version = 3"),
        ("2026-12-01T00:00:00Z", "2026-12-01T00:00:01Z"),
        ("eip155:8453", "eip155:1"),
        ("decimals = 6", "decimals = 18"),
        ("2 USDC / 1M input_token", "3 USDC / 1M input_token"),
        ("minimum = \"0.0001 USDC\"", ""),
        ("tiers_over = \"month\"", "tiers_over = \"day\""),
        ("above = \"10M\"", "above = \"11M\""),
        ("\"large-2*\"", "\"large-2\""),
        ("percent = \"5\"", "percent = \"6\""),
        ("percent = \"30\"", "percent = \"31\""),
        ("days = 30", "days = 31"),
        ("00a1", "00a3"),
    ];
    for (from, to) in other {
        assert_ne!(digest(&CARD.replacen(from, to, 1)), digest(CARD), "{to}");
    }
    // Pinned: programs of others compute it, too.
    assert_eq!(digest(CARD), "0x4688061baa7dd3ebbfdfb3c1568831d2a1e2857ef5d0b3c6f25b8c0791eebaa6");
}

#[test]
fn the_best_discount_that_is_reached_is_taken_off_prices_and_not_off_the_minimum() {
    let card = card(CARD).expect("a card");
    let tariff = card.entries()[0].tariff();
    let history = |charged, in_month| History {
        charged: Amount::from_units(charged),
        charged_in_month: Amount::from_units(in_month),
        ..History::default()
    };
    let check = |history: History, off: Option<&str>, tokens: u64, expected: u128| {
        let off = off.map(|off| Percent::parse(off).expect("a percentage"));
        assert_eq!(tariff.discount(&history).map(|discount| discount.off), off);
        let usage = Usage { input_tokens: tokens, ..Usage::default() };
        assert_eq!(tariff.cost_for(&history, &usage).expect("small").down().units(), expected, "{history:?}");
    };
    check(history(0, 0), None, 1_000, 2_000);
    check(history(9_999_999, 99_999_999), None, 1_000, 2_000);
    check(history(10_000_000, 0), Some("5"), 1_000, 1_900);
    check(history(10_000_000, 100_000_000), Some("12.5"), 1_000, 1_750);
    check(history(0, 100_000_000), Some("12.5"), 101_000, 1_750 * 100 + 1_400);
    check(history(0, 100_000_000), Some("12.5"), 1, 100);
}

#[test]
fn warnings_name_what_is_perhaps_not_meant() {
    let check = |from: &str, to: &str, expected: &str| {
        let warnings = card(&CARD.replacen(from, to, 1)).expect(to).warnings();
        assert!(warnings.iter().any(|warning| warning.contains(expected)), "{to}: {warnings:?}");
    };
    let never = "[[entry]]\nname = \"never\"\nroutes = [\"/v1/embeddings\"]\nprice = \"1 USDC / call\"\n[[discount]]\nkind = \"loyalty\"";
    check("[[discount]]\nkind = \"loyalty\"", never, "entry `never` is never reached: `small`");
    check(
        "percent = \"5\"",
        "percent = \"5\"\n[[discount]]\nkind = \"loyalty\"\nfrom = \"20 USDC\"\npercent = \"4\"",
        "discount 2 is never the best",
    );
    check("percent = \"30\"", "fixed = \"0.01 USDC\"", "fixed shares come to 0.01 USDC");
    check("price = \"1.6 USDC / 1M input_token\"", "price = \"5 USDC / 1M input_token\"", "dearer with volume");
}

#[test]
fn differences_are_named() {
    let before = card(CARD).expect("a card");
    let check = |from: &str, to: &str, expected: &[&str]| {
        let after = card(&CARD.replacen(from, to, 1)).expect(to);
        let changes: Vec<_> = differences(&before, &after).into_iter().map(|change| change.what).collect();
        assert_eq!(changes, expected, "{to}");
    };
    check("version = 2", "version = 2", &[]);
    check("version = 2", "version = 3", &["version"]);
    check("2 USDC / 1M input_token", "3 USDC / 1M input_token", &["entry large, price"]);
    check("name = \"small\"", "name = \"tiny\"", &["entry small, price", "entry tiny, price"]);
    check("models = [\"large-1\", \"large-2*\"]", "models = [\"large-1\"]", &["entry large, models"]);
    check("percent = \"5\"", "percent = \"6\"", &["discounts"]);
    check("percent = \"30\"", "percent = \"31\"", &["split"]);
    check("amount = \"0.50 USDC\"", "amount = \"1 USDC\"", &["credit"]);
}
