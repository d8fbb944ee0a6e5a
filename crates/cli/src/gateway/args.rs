//! The command line of `millstream gateway`.

#![allow(rustdoc::broken_intra_doc_links, rustdoc::bare_urls, reason = "what is shown as help is written for a terminal")]

use core::str::FromStr;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use millstream_types::{Address, EscrowChannelId};

/// `millstream gateway`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, after_help = BESIDE_DEV)]
pub struct GatewayArgs {
    /// Another thing to do than to run one.
    #[command(subcommand)]
    pub command: Option<GatewayCommand>,
    /// What to run.
    #[command(flatten)]
    pub run: RunArgs,
}

const BESIDE_DEV: &str = "Beside a running `millstream dev`, chain, token, key and data directory are found by the profile.";

/// `gateway`'s subcommands.
#[derive(Subcommand, Clone, Debug)]
pub enum GatewayCommand {
    /// Show what a running gateway holds: channels, deposits, charged, claimed, paid out, in quarantine
    Status(AskArgs),
    /// Show what there is to claim on-chain; with --now, claim it and pay it out
    Claim(ClaimArgs),
    /// Take a channel out of quarantine, so that it is claimed from again
    Release(ReleaseArgs),
}

/// Which gateway is asked.
#[derive(Args, Clone, Debug)]
pub struct AskArgs {
    /// The gateway's admin listener; the profile's gateway.admin_url without this, else http://127.0.0.1:4403
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
}

/// `gateway claim`.
#[derive(Args, Clone, Debug)]
pub struct ClaimArgs {
    /// The gateway.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Claim whatever there is and pay it out, without regard to least amounts and gas
    #[arg(long)]
    pub now: bool,
}

/// `gateway release`.
#[derive(Args, Clone, Debug)]
pub struct ReleaseArgs {
    /// The gateway.
    #[command(flatten)]
    pub ask: AskArgs,
    /// The channel's id, as `gateway status` shows it
    pub channel: EscrowChannelId,
}

/// What to run: a file, or flags.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// Everything in a TOML file, instead of the flags below; see docs/operating/gateway.md
    #[arg(long, value_name = "FILE", conflicts_with_all = ["upstream", "price", "routes", "listen", "public_url", "rpc", "asset", "key_file", "pay_to", "data_dir", "admin_listen", "exact"])]
    pub config: Option<PathBuf>,
    /// The service that is sold: http:// or https:// address that each request's path is appended to
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// What everything costs that no --route names, such as '0.40 USDC / 1M output_token' or '0.001 USDC / call', or 'card NAME'
    #[arg(long)]
    pub price: Option<String>,
    /// What a route costs, tried in their order: '[METHOD] PATH=PRICE', '… =card NAME' or '… =free'; several times
    #[arg(long = "route", value_name = "ROUTE")]
    pub routes: Vec<RoutePrice>,
    /// TCP address of the public listener; 127.0.0.1:4402 without this, port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// The address that clients use, such as https://api.example, where it is another
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// JSON-RPC endpoint of the chain; the profile's without this
    #[arg(long, value_name = "URL")]
    pub rpc: Option<String>,
    /// The token that is paid in; the profile's gateway.asset without this
    #[arg(long, value_name = "ADDRESS")]
    pub asset: Option<Address>,
    /// File with the key that claims and pays the gas: 32 bytes of hexadecimal, mode 600; the profile's gateway.key_file without this
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Who is paid; the account of the key without this
    #[arg(long, value_name = "ADDRESS")]
    pub pay_to: Option<Address>,
    /// Directory of the database, which is money; the profile's gateway.data_dir without this
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// TCP address of the admin listener, on loopback; the profile's, else 127.0.0.1:4403
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin_listen: Option<SocketAddr>,
    /// Take single payments, too: each costs a transaction, whose gas is the seller's
    #[arg(long)]
    pub exact: bool,
}

/// A route on the command line: `POST /v1/chat/completions=2 USDC / 1M input_token`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePrice {
    /// Nothing for all.
    pub method: Option<String>,
    /// The path.
    pub path: String,
    /// Nothing when it is free.
    pub price: Option<String>,
}

impl FromStr for RoutePrice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || "expected '[METHOD] PATH=PRICE', such as 'POST /v1/chat/completions=0.40 USDC / 1M output_token'".to_owned();
        let (route, price) = text.split_once('=').ok_or_else(shape)?;
        let (method, path) = match route.split_whitespace().collect::<Vec<_>>()[..] {
            [path] => (None, path),
            [method, path] => (Some(method.to_uppercase()), path),
            _ => return Err(shape()),
        };
        let price = price.trim();
        if !path.starts_with('/') || price.is_empty() {
            return Err(shape());
        }
        Ok(Self { method, path: path.to_owned(), price: (price != "free").then(|| price.to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read() {
        let check = |text: &str, method: Option<&str>, path: &str, price: Option<&str>| {
            let own = |text: &str| text.to_owned();
            let expected = RoutePrice { method: method.map(own), path: own(path), price: price.map(own) };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        };
        check("/x=1 USDC / call", None, "/x", Some("1 USDC / call"));
        check("post  /x = 1 USDC / 1M byte + 2 USDC / call", Some("POST"), "/x", Some("1 USDC / 1M byte + 2 USDC / call"));
        check("GET /v1/models=free", Some("GET"), "/v1/models", None);
        for wrong in ["", "/x", "/x=", "x=1 USDC / call", "GET=1 USDC / call", "GET POST /x=free"] {
            assert!(wrong.parse::<RoutePrice>().is_err(), "{wrong}");
        }
    }
}
