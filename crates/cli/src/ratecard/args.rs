//! The command line of `millstream ratecard`.

#![allow(rustdoc::broken_intra_doc_links, rustdoc::bare_urls, reason = "what is shown as help is written for a terminal")]

use std::path::PathBuf;

use clap::{Args, Subcommand};
use millstream_types::Address;

/// `ratecard`'s subcommands.
#[derive(Subcommand, Clone, Debug)]
pub enum RatecardCommand {
    /// Write a new card with comments, or the next version of one
    New(NewArgs),
    /// Check cards: what is wrong, and what is perhaps not meant
    Lint(LintArgs),
    /// Sign a card with the key of an account that says prices
    Sign(SignArgs),
    /// Put a signed card into use at a running gateway, without a restart, or into a directory
    Publish(PublishArgs),
    /// List the cards of a running gateway or a directory, and which of them hold
    List(ListArgs),
    /// Show what a card says
    Show(ShowArgs),
    /// Show what differs between two cards
    Diff(DiffArgs),
    /// Price a trace of requests by a card, and compare with another
    Backtest(BacktestArgs),
}

/// Where cards in use are.
#[derive(Args, Clone, Debug, Default)]
pub struct PlaceArgs {
    /// The gateway's admin listener; the profile's gateway.admin_url without this, else http://127.0.0.1:4403
    #[arg(long, value_name = "URL", conflicts_with = "dir")]
    pub admin: Option<String>,
    /// A directory of cards, instead of a running gateway
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `ratecard new`.
#[derive(Args, Clone, Debug)]
pub struct NewArgs {
    /// The card's name
    pub name: String,
    /// What everything costs, such as '2 USDC / 1M input_token + 8 USDC / 1M output_token'
    #[arg(long, required_unless_present = "after")]
    pub price: Option<String>,
    /// The next version of this card: everything else stays as it is
    #[arg(long, value_name = "FILE", conflicts_with_all = ["price", "network", "asset", "symbol", "decimals"])]
    pub after: Option<PathBuf>,
    /// When it begins to hold, such as 2026-12-01T00:00:00Z; now without this
    #[arg(long, value_name = "MOMENT")]
    pub valid_from: Option<String>,
    /// The chain
    #[arg(long, value_name = "NETWORK", default_value = "eip155:8453")]
    pub network: String,
    /// The token's contract; the profile's gateway.asset without this
    #[arg(long, value_name = "ADDRESS")]
    pub asset: Option<Address>,
    /// The token's symbol
    #[arg(long, default_value = "USDC")]
    pub symbol: String,
    /// The token's decimals
    #[arg(long, default_value_t = 6)]
    pub decimals: u8,
    /// Where to write it; NAME@VERSION.toml without this
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `ratecard lint`.
#[derive(Args, Clone, Debug)]
pub struct LintArgs {
    /// The cards
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Warnings are failures, and so is a card that is not signed
    #[arg(long)]
    pub strict: bool,
}

/// `ratecard sign`.
#[derive(Args, Clone, Debug)]
pub struct SignArgs {
    /// The card
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// File with the account's key: 32 bytes of hexadecimal, mode 600; the profile's gateway.key_file without this
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Where to write the signed card; the file itself without this
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `ratecard publish`.
#[derive(Args, Clone, Debug)]
pub struct PublishArgs {
    /// The signed card
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where to.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `ratecard list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Where from.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `ratecard show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// A file, or NAME@VERSION in use
    #[arg(value_name = "CARD")]
    pub card: String,
    /// Where from.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `ratecard diff`.
#[derive(Args, Clone, Debug)]
pub struct DiffArgs {
    /// A file, or NAME@VERSION in use
    #[arg(value_name = "BEFORE")]
    pub before: String,
    /// A file, or NAME@VERSION in use
    #[arg(value_name = "AFTER")]
    pub after: String,
    /// Where from.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `ratecard backtest`.
#[derive(Args, Clone, Debug)]
pub struct BacktestArgs {
    /// The card
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The requests: CSV with the header TIMESTAMP,ContextTokens,GeneratedTokens, as `replay --trace` takes it
    #[arg(long, value_name = "FILE")]
    pub trace: PathBuf,
    /// Another card to compare with
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// The route that the requests were made on; the first entry's without this
    #[arg(long, value_name = "PATH")]
    pub route: Option<String>,
    /// The model that they named
    #[arg(long)]
    pub model: Option<String>,
    /// How many payers the requests are dealt to in turn
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub payers: u32,
}
