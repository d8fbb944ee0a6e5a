//! `millstream ratecard new`: a card with comments, or the next version of one.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use millstream_gateway::cards::read_card;
use millstream_tariff::moment;
use millstream_types::Timestamp;
use millstream_voucher::evm::eip55;
use serde::Serialize;

use super::args::NewArgs;
use super::file;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::output::{View, pairs};

/// `ratecard new`.
#[derive(Clone, Debug, Serialize)]
struct Written {
    file: PathBuf,
    card: String,
    valid_from: String,
}

pub(super) fn new(context: &Context, args: &NewArgs) -> CliResult<()> {
    let text = match &args.after {
        Some(before) => next(before, &args.name, args.valid_from.as_deref())?,
        None => {
            let valid_from = args.valid_from.clone().unwrap_or_else(|| moment(now()));
            let asset = match args.asset {
                Some(asset) => asset,
                None => context.profile_if_any()?.and_then(|profile| profile.gateway.asset).ok_or_else(|| {
                    CliError::usage("ratecard", "nothing says which token the prices are in")
                        .hint("name its contract with --asset ADDRESS; beside a running `millstream dev` it is found")
                })?,
            };
            template(args, &valid_from, &eip55(&asset))
        }
    };
    // What is written is a card, or nothing is written.
    let (card, _) = read_card(&text).map_err(|error| CliError::usage("ratecard", error.to_string()))?;
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.toml", card.version())));
    file::write(&output, &text, false)?;
    context.output.show(&Written { file: output, card: card.version().to_string(), valid_from: moment(card.valid_from()) })
}

/// This machine's time: cards are valid by it.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The same card with the next number and another date, and without its signature; its comments stay.
fn next(before: &Path, name: &str, valid_from: Option<&str>) -> CliResult<String> {
    let text = file::read_text(before)?;
    let (card, _) = read_card(&text).map_err(|error| file::wrong(before, &error))?;
    if card.version().name() != name {
        return Err(CliError::usage("ratecard", format!("{} is {}, no version of {name}", before.display(), card.version())));
    }
    let version = card.version().version().checked_add(1).ok_or_else(|| CliError::usage("ratecard", "there is no higher version"))?;
    // Now, and not before the version that it replaces has begun.
    let soonest = moment(now().max(card.valid_from().plus_millis(1_000)));
    let valid_from = valid_from.unwrap_or(&soonest);
    let (mut section, mut lines) = (String::new(), Vec::new());
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            section = trimmed.to_owned();
        }
        let key = trimmed.split_once('=').map(|(key, _)| key.trim());
        match (section.as_str(), key) {
            ("[signature]", _) => {}
            ("[card]", Some("version")) => lines.push(format!("version = {version}")),
            ("[card]", Some("valid_from")) => lines.push(format!("valid_from = \"{valid_from}\"")),
            ("[card]", Some("valid_until")) => {}
            _ => lines.push(line.to_owned()),
        }
    }
    Ok(format!("{}\n", lines.join("\n").trim_end()))
}

fn template(args: &NewArgs, valid_from: &str, asset: &str) -> String {
    let NewArgs { name, network, symbol, decimals, .. } = args;
    let price = args.price.as_deref().unwrap_or_default();
    format!(
        r#"# A rate card: what is sold for how much, from when. Rules: docs/spec/tariff.md
# Check it with `millstream ratecard lint`, sign it with `ratecard sign`, put it into use with `ratecard publish`.

[card]
name = "{name}"
# Each change is a new version: `millstream ratecard new {name} --after FILE`.
version = 1
# It holds from here until a newer version does; never before it was published.
valid_from = "{valid_from}"
# valid_until = "2027-12-31T00:00:00Z"
network = "{network}"
asset = "{asset}"
symbol = "{symbol}"
decimals = {decimals}
# description = "What is sold, for people"

# Entries are tried in their order; the first that is for a request's route and model says its price.
[[entry]]
name = "all"
# routes = ["/v1/chat/completions"]        # as the gateway's configuration writes them; all without this
# models = ["large-1", "large-2*"]         # all without this
price = "{price}"
# minimum = "0.0001 {symbol}"              # the least that something delivered costs
# tiers_over = "request"                   # what is counted: a request, or a payer's day or month
# [[entry.tier]]
# above = "100K"
# price = "1 {symbol} / 1M input_token"

# [[discount]]
# kind = "loyalty"                         # by what the channel was charged; or "volume" with over = "month"
# from = "100 {symbol}"
# percent = "5"

# Who is paid how much of each charge; all of it is the gateway's payee's without this.
# [[split]]
# payee = "0x…"
# percent = "30"
# [[split]]
# payee = "0x…"
# remainder = true
"#
    )
}

impl View for Written {
    fn table(&self) -> String {
        pairs([
            ("card", self.card.clone()),
            ("holds from", self.valid_from.clone()),
            ("file", self.file.display().to_string()),
            ("next", format!("millstream ratecard sign {}", self.file.display())),
        ])
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: NewArgs,
    }

    #[test]
    fn a_new_card_is_a_card_and_so_is_the_next() {
        let dir = tempfile::tempdir().expect("a directory");
        let line = [
            "new",
            "chat",
            "--price",
            "2 USDC / 1M input_token + 8 USDC / 1M output_token",
            "--asset",
            "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
            "--valid-from",
            "2026-12-01T00:00:00Z",
        ];
        let args = Line::try_parse_from(line).expect("a command line").args;
        let text = template(&args, "2026-12-01T00:00:00Z", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913");
        let (card, _) = read_card(&text).expect("a card");
        assert_eq!((card.version().to_string().as_str(), card.warnings()), ("chat@1", Vec::new()));
        // What is commented out is good, too.
        let all = text.lines().map(|line| line.strip_prefix("# ").filter(|line| line.contains(['=', '['])).unwrap_or(line));
        let all: Vec<_> = all.filter(|line| !line.contains('`')).collect();
        let all = all
            .join("\n")
            .replacen("0x…", "0x00000000000000000000000000000000000000a1", 1)
            .replace("0x…", "0x00000000000000000000000000000000000000a2");
        read_card(&all).expect("a card with everything");

        let path = dir.path().join("chat@1.toml");
        file::write(&path, &format!("{text}\n[signature]\nsigner = \"\"\ndigest = \"\"\nvalue = \"\"\n"), false).expect("written");
        let after = next(&path, "chat", Some("2027-01-01T00:00:00Z")).expect("the next");
        let (after_card, signature) = read_card(&after).expect("a card");
        assert_eq!((after_card.version().version(), moment(after_card.valid_from()).as_str()), (2, "2027-01-01T00:00:00Z"));
        assert!(signature.is_none() && after.contains("# Entries are tried in their order"));
        assert!(next(&path, "other", None).expect_err("another name").message.contains("no version of other"));
    }
}
