//! `millstream ratecard backtest`: what requests of a trace would have cost by a card.
//!
//! The trace begins when the card does. Requests are dealt to payers in turn, each with an account of its own. The three sums (T-6) are of one
//! payer's requests, so their parts add up over payers too.

use millstream_tariff::{Account, Cost, Entry, RateCard, SplitBook, Splits, ThreeSums, Usage};
use millstream_types::{Address, Amount, Timestamp};
use serde::Serialize;

use super::args::BacktestArgs;
use super::file;
use crate::context::Context;
use crate::error::{CliError, CliResult, chain_of};
use crate::output::{View, columns, pairs};
use crate::replay::{Request, Trace};

/// What a trace comes to by one card. Amounts are base units of the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Priced {
    card: String,
    entry: String,
    price: String,
    /// What is charged: discounts, minimum and credit counted in.
    charged: Amount,
    /// The same in whole tokens.
    charged_tokens: String,
    /// What of it each payee is owed; empty without a split. They sum to what is charged.
    payees: Vec<Owed>,
    /// What is paid in credit, rounded down.
    credit_down: Amount,
    /// Requests that had a discount.
    discounted: u64,
    /// Requests that cost the minimum.
    at_minimum: u64,
    /// What the prices come to without discount, minimum and credit, three times over.
    line_by_line: Amount,
    lines: u64,
    per_request: Amount,
    in_one_sum: Amount,
    /// Whether the three are the same. They are not if the trace is longer than the period that tiers are counted over.
    agree: bool,
}

/// A payee's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Owed {
    payee: Address,
    name: Option<String>,
    amount: Amount,
}

/// `ratecard backtest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Backtest {
    requests: u64,
    context_tokens: u64,
    generated_tokens: u64,
    payers: u32,
    priced: Vec<Priced>,
}

pub(super) fn backtest(context: &Context, args: &BacktestArgs) -> CliResult<()> {
    let trace = Trace::open(&args.trace);
    let trace = trace.map_err(|error| CliError::usage("trace", format!("{}: {}", args.trace.display(), chain_of(&error))))?;
    let mut cards = vec![file::read(&args.file)?];
    if let Some(against) = &args.against {
        cards.push(file::read(against)?);
    }
    let priced = cards.iter().map(|card| price(card, &trace.requests, args)).collect::<CliResult<Vec<_>>>()?;
    let sum = |of: fn(&Request) -> u32| trace.requests.iter().map(|request| u64::from(of(request))).sum();
    let backtest = Backtest {
        requests: u64::try_from(trace.requests.len()).unwrap_or(u64::MAX),
        context_tokens: sum(|request| request.context_tokens),
        generated_tokens: sum(|request| request.generated_tokens),
        payers: args.payers,
        priced,
    };
    context.output.show(&backtest)?;
    // Within one period they cannot differ: if they did, a sum of ours would be wrong.
    match backtest
        .priced
        .iter()
        .zip(&cards)
        .find(|(priced, card)| !priced.agree && within_a_period(card, priced, &trace.requests))
    {
        Some((priced, _)) => Err(CliError::check_failed("sums_differ", format!("{}: the three sums differ", priced.card))),
        None => Ok(()),
    }
}

fn usage(request: &Request) -> Usage {
    Usage { calls: 1, input_tokens: request.context_tokens.into(), output_tokens: request.generated_tokens.into(), ..Usage::default() }
}

fn entry_of<'a>(card: &'a RateCard, args: &BacktestArgs) -> CliResult<&'a Entry> {
    let route = args.route.as_deref().or_else(|| card.entries().first()?.routes().first().map(String::as_str)).unwrap_or("/");
    let named = args.model.clone().or_else(|| {
        // Whoever names no model means the first entry's.
        let pattern = card.entries().iter().find(|entry| entry.is_for_route(route))?.models().first()?.to_string();
        Some(pattern.trim_end_matches('*').to_owned())
    });
    let hint = "say which requests these are with --route PATH and --model NAME";
    card.entry(route, named.as_deref())
        .map_err(|error| CliError::usage("ratecard", format!("{}: {error}", card.version())).hint(hint))
}

fn moment_of(card: &RateCard, request: &Request) -> Timestamp {
    card.valid_from().plus_millis(request.at_nanos / 1_000_000)
}

fn within_a_period(card: &RateCard, priced: &Priced, requests: &[Request]) -> bool {
    let over = card.entries().iter().find(|entry| entry.name() == priced.entry).and_then(|entry| entry.tariff().over());
    let last = requests.last().map_or(card.valid_from(), |last| moment_of(card, last));
    over.is_none_or(|period| period.start(last) == period.start(card.valid_from()))
}

fn price(card: &RateCard, requests: &[Request], args: &BacktestArgs) -> CliResult<Priced> {
    let too_much = |error: millstream_tariff::CostError| CliError::failed("cost", error.to_string());
    let sum = |amounts: &mut Amount, amount: Amount| -> CliResult<()> {
        *amounts = amounts.checked_add(amount).map_err(|error| CliError::failed("cost", error.to_string()))?;
        Ok(())
    };
    let entry = entry_of(card, args)?;
    let payers = usize::try_from(args.payers).unwrap_or(usize::MAX);
    let mut accounts = vec![Account::new(); payers.min(requests.len())];
    let (mut charged, mut credit) = (Amount::ZERO, Cost::ZERO);
    let (mut discounted, mut at_minimum) = (0u64, 0u64);
    let minimum = Cost::whole(entry.tariff().minimum());
    let mut split = card.splits().map(|splits| (splits, SplitBook::new(splits)));
    for (request, turn) in requests.iter().zip((0..accounts.len()).cycle()) {
        let Some(account) = accounts.get_mut(turn) else { break };
        let (at, used) = (moment_of(card, request), usage(request));
        account.grant(card.promo(), at);
        let charge = account.charge(entry, at, &used).map_err(too_much)?;
        sum(&mut charged, charge.amount)?;
        if let Some((splits, book)) = &mut split {
            book.charge(splits, charge.amount).map_err(too_much)?;
        }
        credit = credit.checked_add(charge.credit).map_err(too_much)?;
        discounted += u64::from(charge.off.parts() > 0);
        at_minimum += u64::from(!minimum.is_zero() && charge.cost == minimum);
    }
    let owed = |(splits, book): (&Splits, SplitBook)| -> Vec<Owed> {
        let parts = splits.payees().iter().zip(book.given());
        parts.map(|(payee, amount)| Owed { payee: payee.account, name: payee.name.clone(), amount: *amount }).collect()
    };
    let payees = split.map(owed).unwrap_or_default();
    let (mut by_line, mut by_request, mut in_one, mut lines, mut agree) = (Amount::ZERO, Amount::ZERO, Amount::ZERO, 0u64, true);
    for payer in 0..accounts.len() {
        let own: Vec<Usage> = requests.iter().skip(payer).step_by(accounts.len()).map(usage).collect();
        let sums = ThreeSums::of(entry, &own).map_err(too_much)?;
        sum(&mut by_line, sums.by_line)?;
        sum(&mut by_request, sums.by_request)?;
        sum(&mut in_one, sums.in_one)?;
        lines += sums.lines;
        agree &= sums.agree();
    }
    Ok(Priced {
        card: card.version().to_string(),
        entry: entry.name().to_owned(),
        price: entry.describe(),
        charged,
        charged_tokens: card.token().show(charged),
        payees,
        credit_down: credit.down(),
        discounted,
        at_minimum,
        line_by_line: by_line,
        lines,
        per_request: by_request,
        in_one_sum: in_one,
        agree,
    })
}

impl View for Backtest {
    fn table(&self) -> String {
        let of_trace = pairs([
            ("requests", format!("{} of {} payers", self.requests, self.payers)),
            ("tokens", format!("{} of context, {} generated", self.context_tokens, self.generated_tokens)),
        ]);
        let row = |priced: &Priced| {
            let agree = if priced.agree { "all agree" } else { "they differ" };
            vec![
                priced.card.clone(),
                priced.charged_tokens.clone(),
                priced.discounted.to_string(),
                priced.at_minimum.to_string(),
                priced.credit_down.to_string(),
                priced.line_by_line.to_string(),
                priced.per_request.to_string(),
                priced.in_one_sum.to_string(),
                agree.to_owned(),
            ]
        };
        let header = ["card", "charged", "discounted", "at minimum", "credit", "line by line", "per request", "in one sum", ""];
        let table = columns(&header, &[1, 2, 3, 4, 5, 6, 7], self.priced.iter().map(row));
        let change = match &self.priced[..] {
            [card, against] => format!("\n\n{} instead of {} with {}", card.charged_tokens, against.charged_tokens, against.card),
            _ => String::new(),
        };
        let owed = self.priced.iter().flat_map(|priced| {
            let row = |owed: &Owed| {
                vec![priced.card.clone(), owed.payee.to_string(), owed.name.clone().unwrap_or_default(), owed.amount.to_string()]
            };
            priced.payees.iter().map(row).collect::<Vec<_>>()
        });
        let owed: Vec<_> = owed.collect();
        let owed = if owed.is_empty() { String::new() } else { format!("\n\n{}", columns(&["card", "payee", "", "owed"], &[3], owed)) };
        format!("{of_trace}\n\n{table}{change}{owed}")
    }
}

#[cfg(test)]
mod tests {
    use millstream_gateway::cards::read_card;

    use super::*;

    fn args(payers: u32) -> BacktestArgs {
        BacktestArgs { file: "card.toml".into(), trace: "trace.csv".into(), against: None, route: None, model: None, payers }
    }

    fn card(more: &str) -> RateCard {
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
            models = ["large-*"]
            price = "0.15 USDC / 1M input_token + 0.60 USDC / 1M output_token"
            {more}
            "#
        );
        read_card(&text).expect("a card").0
    }

    /// Requests of the shape of the public traces: long contexts, short answers, in an hour.
    fn requests(count: u64) -> Vec<Request> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            u32::try_from(state % below).expect("small")
        };
        let request = |at: u64| Request { at_nanos: at * 200_000_000, context_tokens: next(4_000) + 3, generated_tokens: next(400) };
        (0..count).map(request).collect()
    }

    // T-6, the acceptance of the whole: a two-tier card prices a trace the same in three ways, at fractions of a base unit a token.
    #[test]
    fn a_two_tier_card_prices_a_trace_the_same_line_by_line_per_request_and_in_one_sum() {
        let requests = requests(500);
        for over in ["request", "day", "month"] {
            let tiers = format!(
                "tiers_over = \"{over}\"\ntier = [{{ above = \"1500\", price = \"0.111 USDC / 1M input_token\" }}, {{ above = \"170\", price = \"0.37 USDC / 1M output_token\" }}]"
            );
            let card = card(&tiers);
            for payers in [1, 7] {
                let priced = price(&card, &requests, &args(payers)).expect("small");
                assert!(priced.agree && within_a_period(&card, &priced, &requests), "{over} {payers}: {priced:?}");
                assert_eq!((priced.charged, priced.line_by_line), (priced.in_one_sum, priced.per_request), "{over} {payers}");
                assert!(priced.charged > Amount::ZERO);
            }
        }
    }

    #[test]
    fn what_is_special_is_counted() {
        let requests = requests(100);
        let plain = price(&card(""), &requests, &args(1)).expect("small");
        let minimum = price(&card("minimum = \"0.0003 USDC\""), &requests, &args(1)).expect("small");
        assert!(minimum.at_minimum > 0 && minimum.charged > plain.charged && minimum.agree);
        let discount = "[[discount]]\nkind = \"volume\"\nover = \"day\"\nfrom = \"0.01 USDC\"\npercent = \"50\"";
        let discounted = price(&card(discount), &requests, &args(1)).expect("small");
        assert!(discounted.discounted > 0 && discounted.charged < plain.charged);
        let credit = price(&card("[credit]\namount = \"0.001 USDC\"\ndays = 1"), &requests, &args(2)).expect("small");
        assert_eq!(credit.credit_down, Amount::from_units(2_000));
        // Rounded up once for each of the two, and their credit is whole.
        let two = price(&card(""), &requests, &args(2)).expect("small");
        assert_eq!(credit.charged.units() + 2_000, two.charged.units());
        let split = "[[split]]\npayee = \"0x00000000000000000000000000000000000000a1\"\npercent = \"30\"\n[[split]]\npayee = \"0x00000000000000000000000000000000000000a2\"\nremainder = true";
        let split = price(&card(split), &requests, &args(2)).expect("small");
        let owed: Vec<u128> = split.payees.iter().map(|owed| owed.amount.units()).collect();
        assert_eq!((owed.iter().sum::<u128>(), split.charged), (two.charged.units(), two.charged));
        assert!(owed[0].abs_diff(two.charged.units() * 3 / 10) <= 2, "{owed:?}");
    }

    #[test]
    fn a_model_that_is_not_sold_is_named() {
        let other = BacktestArgs { model: Some("small".to_owned()), ..args(1) };
        let error = price(&card(""), &requests(1), &other).expect_err("not sold");
        assert!(error.message.contains("the model `small` is not sold here") && error.hint.is_some(), "{}", error.message);
    }
}
