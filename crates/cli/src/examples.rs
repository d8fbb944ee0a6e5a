//! The command line as it is parsed and documented: every command with an example of how it is used.
//!
//! The examples stand in one table, so that a test can parse each of them, and so that help, manual and docs say the same.

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, FromArgMatches};

use crate::args::Cli;

/// A channel of the examples, by its first digits.
macro_rules! channel {
    () => {
        "0x005f"
    };
}

/// A whole id, key or hash of the examples.
macro_rules! id {
    () => {
        "0x005f3a9c1be07d4462f8ab13c59d0e7764a1b2c3d4e5f60718293a4b5c6d7e8f"
    };
}

/// Examples by the command's path: the words after `millstream`. Sorted; each line is one whole command line, as a shell takes it.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "millstream dev",
            "millstream channel open --deposit 5",
            "millstream pay --amount 0.00000015 --count 1000",
            "millstream gateway --upstream http://127.0.0.1:8000 --price '0.40 USDC / 1M output_token'",
        ],
    ),
    ("backup", &["millstream backup /mnt/backups/2026-11-28", "millstream backup /mnt/backups/stopped --data-dir /var/lib/millstream"]),
    ("bench", &["millstream bench", "millstream bench --lines 64 --connections 100 --rate 500000 --duration 5"]),
    ("ceremony", &["millstream ceremony verify settle-96 --powers powers.ptau settle-96.zkey"]),
    ("ceremony beacon", &["millstream ceremony beacon 7.zkey last.zkey --value 0xbeac0e --name 'drand round 4200000'"]),
    ("ceremony contribute", &["millstream ceremony contribute 3.zkey 4.zkey --name Ada"]),
    ("ceremony finish", &["millstream ceremony finish settle-96 --powers powers.ptau last.zkey keys"]),
    ("ceremony start", &["millstream ceremony start settle-96 --powers powers.ptau 0.zkey --r1cs settle-96.r1cs"]),
    ("ceremony verify", &["millstream ceremony verify settle-96 --powers powers.ptau 4.zkey --transcript settle-96.json"]),
    ("channel", &["millstream channel list"]),
    ("channel close", &[concat!("millstream channel close ", channel!())]),
    ("channel exit", &[concat!("millstream channel exit --channel ", channel!(), " --wait")]),
    ("channel list", &["millstream channel list", "millstream channel list --provider"]),
    ("channel open", &["millstream channel open --deposit 5", "millstream channel open --deposit 5 --gasless"]),
    ("channel show", &[concat!("millstream channel show ", channel!())]),
    ("channel topup", &[concat!("millstream channel topup ", channel!(), " --amount 2.50")]),
    ("channel withdraw", &["millstream channel withdraw"]),
    ("completions", &["millstream completions bash > ~/.local/share/bash-completion/completions/millstream"]),
    ("config", &["millstream config show --config gateway.toml --origin"]),
    ("config show", &["millstream config show --config node.toml", "millstream config show --config gateway.toml --origin"]),
    ("db", &["millstream db check /var/lib/millstream"]),
    ("db check", &["millstream db check /mnt/backups/2026-11-28"]),
    ("demo", &["millstream demo --payments 1000000 --channels 96"]),
    (
        "deploy",
        &[
            "millstream deploy --plan ledger.toml --dry-run --from 0x00000000000000000000000000000000000000aa",
            "millstream deploy --plan ledger.toml --node-config node.toml",
        ],
    ),
    ("deploy verify", &["millstream deploy verify deployment-8453-0xaa.json --rpc https://rpc.example"]),
    ("dev", &["millstream dev", "millstream dev --chain-port 0 --dir /tmp/millstream-dev"]),
    ("doctor", &["millstream doctor --config gateway.toml", "millstream doctor --config node.toml --json"]),
    (
        "gateway",
        &[
            "millstream gateway --upstream http://127.0.0.1:8000 --price '0.40 USDC / 1M output_token'",
            "millstream gateway --upstream http://127.0.0.1:8000 --route 'GET /v1/models=free' \\\n      \
             --route 'POST /v1/chat/completions=2 USDC / 1M input_token + 8 USDC / 1M output_token'",
            "millstream gateway --upstream http://127.0.0.1:8000 --price 'card chat'",
            "millstream gateway --config gateway.toml",
        ],
    ),
    ("gateway claim", &["millstream gateway claim", "millstream gateway claim --now"]),
    ("gateway release", &[concat!("millstream gateway release ", id!())]),
    ("gateway status", &["millstream gateway status --admin http://127.0.0.1:4403"]),
    ("init", &["millstream init node --directory /etc/millstream"]),
    ("init gateway", &["millstream init gateway --rpc https://rpc.example --chain-id 8453 --upstream http://127.0.0.1:8000"]),
    ("init node", &["millstream init node --directory /etc/millstream --ledger 0x00000000000000000000000000000000000000aa"]),
    ("init payer", &["millstream init payer --rpc https://rpc.example --chain-id 8453"]),
    ("key", &["millstream key new operator", "millstream key list"]),
    ("key export", &["millstream key export operator --out operator-backup.json"]),
    ("key import", &["millstream key import operator --from UTC--2026-01-01--00aa.json"]),
    ("key list", &["millstream key list"]),
    ("key new", &["millstream key new operator", "millstream key new agent --for voucher --password-file agent.password"]),
    ("key password", &["millstream key password operator"]),
    ("key remote", &["millstream key remote operator --signer http://127.0.0.1:9000 --account 0x00000000000000000000000000000000000000aa"]),
    ("key rotate", &["millstream key rotate operator"]),
    ("ledger", &["millstream ledger audit --rpc https://rpc.example --ledger 0x00000000000000000000000000000000000000aa"]),
    ("ledger audit", &[concat!("millstream ledger audit --key settle-96=", id!())]),
    ("ledger leave", &["millstream ledger leave --halt"]),
    ("ledger rebuild", &["millstream ledger rebuild --at 21000000 --out ledger.json"]),
    ("man", &["millstream man gateway claim | man -l -", "millstream man --directory ~/.local/share/man/man1"]),
    ("node", &["millstream node --config node.toml"]),
    (
        "pay",
        &[
            "millstream pay --amount 0.00000015 --count 1000",
            "millstream pay < payments.csv",
            "millstream pay https://api.example/v1/quote -X POST -d @question.json --max 0.02",
        ],
    ),
    ("payments", &["millstream payments list"]),
    ("payments list", &["millstream payments list"]),
    ("payments recover", &["millstream payments recover --from-block 36000000 --chain 8453"]),
    ("payments refund", &[concat!("millstream payments refund ", channel!())]),
    ("payments withdraw", &[concat!("millstream payments withdraw ", channel!(), " --wait")]),
    ("policy", &["millstream policy show", "millstream policy pause agent=research --reason runaway"]),
    ("policy approvals", &["millstream policy approvals"]),
    ("policy approve", &["millstream policy approve 1042"]),
    ("policy decisions", &["millstream policy decisions --count 50"]),
    ("policy deny", &["millstream policy deny 1042"]),
    ("policy explain", &["millstream policy explain 1041"]),
    ("policy grant", &["millstream policy grant --from research --to summaries --up-to '1 USDC' --route '*.example' --expires-in 3600"]),
    ("policy pause", &["millstream policy pause", "millstream policy pause agent=research --reason runaway"]),
    ("policy resume", &["millstream policy resume agent=research"]),
    ("policy revoke", &["millstream policy revoke 7"]),
    ("policy show", &["millstream policy show", "millstream policy show --gateway http://127.0.0.1:4403"]),
    ("proof", &[concat!("millstream proof make --channel ", id!(), " --line 1001")]),
    ("proof make", &[concat!("millstream proof make --channel ", id!(), " --line 1001 --out payment.json")]),
    ("proof verify", &["millstream proof verify payment.json", concat!("millstream proof verify payment.json --root ", id!())]),
    (
        "proxy",
        &[
            "millstream proxy --upstream https://api.example --max 0.02 --day-max 5",
            "millstream proxy --allow api.example --allow search.example",
        ],
    ),
    ("ratecard", &["millstream ratecard list"]),
    (
        "ratecard backtest",
        &[
            "millstream ratecard backtest chat@2.toml --trace requests.csv --against chat@1.toml",
            "millstream ratecard backtest chat@2.toml --trace requests.csv --model large-1 --payers 16",
        ],
    ),
    ("ratecard diff", &["millstream ratecard diff chat@1.toml chat@2.toml", "millstream ratecard diff chat@1 chat@2"]),
    ("ratecard lint", &["millstream ratecard lint chat@1.toml", "millstream ratecard lint --strict cards/chat@1.toml cards/chat@2.toml"]),
    ("ratecard list", &["millstream ratecard list", "millstream ratecard list --dir /var/lib/millstream-gateway/ratecards"]),
    (
        "ratecard new",
        &[
            "millstream ratecard new chat --price '2 USDC / 1M input_token + 8 USDC / 1M output_token'",
            "millstream ratecard new chat --after chat@1.toml --valid-from 2027-01-01T00:00:00Z",
        ],
    ),
    (
        "ratecard publish",
        &["millstream ratecard publish chat@2.toml", "millstream ratecard publish chat@1.toml --dir /var/lib/millstream-gateway/ratecards"],
    ),
    ("ratecard show", &["millstream ratecard show chat@2.toml", "millstream ratecard show chat@2"]),
    ("ratecard sign", &["millstream ratecard sign chat@2.toml --key-file /etc/millstream/prices.key"]),
    ("replay", &["millstream replay --trace requests.csv --channels 96 --settle"]),
    ("restore", &["millstream restore /mnt/backups/2026-11-28 /var/lib/millstream"]),
    ("settle", &["millstream settle plan"]),
    ("settle cancel", &["millstream settle cancel 7"]),
    ("settle jobs", &["millstream settle jobs"]),
    ("settle plan", &["millstream settle plan"]),
    ("settle run", &["millstream settle run"]),
    ("status", &["millstream status", "millstream status --json | jq .channels"]),
    ("top", &["millstream top", "millstream top --admin http://127.0.0.1:4403 --interval 5"]),
];

/// The command line.
#[must_use]
pub fn command() -> Command {
    with_examples(Cli::command(), "")
}

/// Reads the process's arguments.
///
/// # Errors
/// What is wrong with them; or the help or version, when they ask for it.
pub fn parse() -> Result<Cli, clap::Error> {
    parse_from(std::env::args_os())
}

fn parse_from(words: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>) -> Result<Cli, clap::Error> {
    let mut command = command();
    let mut matches = command.try_get_matches_from_mut(words)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// Whether this "error" is what somebody asked for.
#[must_use]
pub fn is_answer(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

fn with_examples(command: Command, path: &str) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let command = names.into_iter().fold(command, |command, name| {
        let path = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command.mut_subcommand(name, |sub| with_examples(sub, &path))
    });
    // The help is the same whatever the environment says, and repeats nothing of it.
    let command = command.mut_args(|argument| argument.hide_env_values(true));
    let Ok(found) = EXAMPLES.binary_search_by_key(&path, |(path, _)| path) else { return command };
    let lines = EXAMPLES[found].1;
    let title = if lines.len() == 1 { "Example" } else { "Examples" };
    let examples = format!("{title}:\n  {}", lines.join("\n  "));
    let after = |text: Option<&clap::builder::StyledStr>| match text {
        Some(text) => format!("{examples}\n\n{text}"),
        None => examples.clone(),
    };
    let (short, long) = (after(command.get_after_help()), command.get_after_long_help().map(|text| after(Some(text))));
    let command = command.after_help(short);
    match long {
        Some(long) => command.after_long_help(long),
        None => command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths of all commands, the root first.
    fn paths(command: &Command, path: &str, all: &mut Vec<String>) {
        all.push(path.to_owned());
        for sub in command.get_subcommands() {
            paths(sub, format!("{path} {}", sub.get_name()).trim_start(), all);
        }
    }

    /// The words of a line as a shell sees them, up to where it redirects.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
        for letter in line.replace("\\\n", " ").chars() {
            match letter {
                '\'' => {
                    quoted = !quoted;
                    word.get_or_insert_default();
                }
                ' ' if !quoted => words.extend(word.take()),
                letter => word.get_or_insert_default().push(letter),
            }
        }
        assert!(!quoted, "a quote is open: {line}");
        words.extend(word);
        words.into_iter().take_while(|word| !["|", "<", ">"].contains(&word.as_str())).collect()
    }

    #[test]
    fn every_command_has_examples_and_each_example_is_of_its_command_and_parses() {
        let mut known = Vec::new();
        paths(&Cli::command(), "", &mut known);
        for path in &known {
            let found = EXAMPLES.iter().find(|(of, _)| of == path);
            let (_, lines) = found.unwrap_or_else(|| panic!("`millstream {path}` has no example: add one to EXAMPLES"));
            assert!(!lines.is_empty(), "{path}");
            for line in *lines {
                let start = format!("millstream {path}");
                assert!(line.starts_with(start.trim_end()), "{line} is no example of {start}");
                if let Err(error) = parse_from(words(line)) {
                    panic!("{line}: {error}");
                }
            }
        }
        for (path, _) in EXAMPLES {
            assert!(known.iter().any(|known| known == path), "there is no `millstream {path}`");
        }
        assert!(EXAMPLES.is_sorted_by_key(|(path, _)| path), "EXAMPLES are found by their order");
    }

    #[test]
    fn the_help_says_nothing_of_the_environment() {
        fn check(command: &Command) {
            assert!(command.get_arguments().all(|argument| argument.get_env().is_none() || argument.is_hide_env_values_set()));
            command.get_subcommands().for_each(check);
        }
        check(&command());
    }

    #[test]
    fn words_are_a_shells() {
        assert_eq!(words("a 'b c'=d \\\n   e | f"), ["a", "b c=d", "e"]);
        assert_eq!(words("a '' < b"), ["a", ""]);
    }
}
