//! The command line.

use clap::{Parser, Subcommand};

use crate::bench::BenchArgs;
use crate::ceremony::CeremonyCommand;
use crate::channel::ChannelCommand;
use crate::config::ConfigCommand;
use crate::context::GlobalArgs;
use crate::database::{BackupArgs, DbCommand, RestoreArgs};
use crate::demo::DemoArgs;
use crate::deploy::DeployArgs;
use crate::dev::DevArgs;
use crate::doctor::DoctorArgs;
use crate::error::EXIT_STATUS_HELP;
use crate::gateway::GatewayArgs;
use crate::init::InitCommand;
use crate::keys::KeyCommand;
use crate::ledger::LedgerCommand;
use crate::manual::{CompletionsArgs, ManArgs};
use crate::node::NodeArgs;
use crate::pay::PayArgs;
use crate::proof::ProofCommand;
use crate::ratecard::RatecardCommand;
use crate::replay::ReplayArgs;
use crate::settle::SettleCommand;
use crate::spend::payments::PaymentsCommand;
use crate::spend::policy::PolicyCommand;
use crate::spend::proxy::ProxyArgs;
use crate::top::TopArgs;

/// Payments for AI agents: stream them, prove them, settle them.
#[derive(Parser, Clone, Debug)]
#[command(name = "millstream", version, after_help = EXIT_STATUS_HELP, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Run a settlement node until it is told to stop
    Node(NodeArgs),
    /// Run a development network on this machine: chain, token, ledger, node and a funded payer
    Dev(DevArgs),
    /// Sell any HTTP service for payments of HTTP 402: x402 and MPP
    Gateway(Box<GatewayArgs>),
    /// Say prices by signed, versioned files: draft, check, sign, publish, compare, backtest
    #[command(subcommand)]
    Ratecard(Box<RatecardCommand>),
    /// Deploy a ledger with everything that it needs: verifiers, book paths, factory
    Deploy(Box<DeployArgs>),
    /// Measure a node under load: throughput, latency from the intended time of sending, processor, memory and disk
    Bench(BenchArgs),
    /// Stream payments through a development network of its own, settle them, and check everything against the chain
    #[command(hide = true)]
    Demo(DemoArgs),
    /// Open, list, top up and close payment channels
    #[command(subcommand)]
    Channel(ChannelCommand),
    /// Stream payments on a channel, or pay for one request to a URL that answers 402
    Pay(Box<PayArgs>),
    /// Run a local address that pays for what programs ask of services that answer 402
    Proxy(Box<ProxyArgs>),
    /// List what was paid for HTTP 402, and get back what is left
    #[command(subcommand)]
    Payments(Box<PaymentsCommand>),
    /// Show limits and decisions, pause and resume, approve and deny
    #[command(subcommand)]
    Policy(Box<PolicyCommand>),
    /// Replay inference traffic as payments, one for each context and each generated token
    Replay(ReplayArgs),
    /// Make and check proofs of single payments
    #[command(subcommand)]
    Proof(ProofCommand),
    /// Collect what was paid, on-chain
    #[command(subcommand)]
    Settle(SettleCommand),
    /// Rebuild and audit a ledger from the chain alone
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Make proving keys for public chains that nobody has to trust
    #[command(subcommand)]
    Ceremony(CeremonyCommand),
    /// Show what the provider's node is and does
    Status,
    /// Watch what a node or a gateway does
    Top(TopArgs),
    /// Write a commented configuration, with a key encrypted at rest
    #[command(subcommand)]
    Init(InitCommand),
    /// Find what is wrong with a configuration, its machine and its chain, and what to do about it
    Doctor(DoctorArgs),
    /// Show what a configuration comes to
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Write a backup of a node's or gateway's database, while it runs or stands
    Backup(BackupArgs),
    /// Put a backup into a data directory that has no database
    Restore(RestoreArgs),
    /// Look after the database of a node that does not run
    #[command(subcommand)]
    Db(DbCommand),
    /// Make, keep and move keys, encrypted at rest
    #[command(subcommand)]
    Key(KeyCommand),
    /// Print the completions of a shell
    Completions(CompletionsArgs),
    /// Print the manual page of a command, or write the pages of all
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_has_the_exit_statuses() {
        assert!(Cli::command().render_help().to_string().contains(EXIT_STATUS_HELP));
    }

    #[test]
    fn command_lines_are_taken_or_refused() {
        let parse = |line: &str| Cli::try_parse_from(line.split_whitespace()).is_ok();
        assert!(parse("millstream status --json"));
        assert!(parse("millstream --quiet --profile p.toml channel list --provider"));
        assert!(parse("millstream channel topup 0x00ab --amount 1.5"));
        assert!(parse("millstream pay --amount 0.00000015 --count 10"));
        assert!(parse("millstream pay https://api.example/v1 -X POST -H a:b -d @body --max 0.02 --dry-run"));
        assert!(!parse("millstream pay https://api.example --amount 1"));
        assert!(!parse("millstream pay --dry-run"));
        assert!(parse("millstream proxy --upstream https://api.example --prefer mpp-session,x402-exact"));
        assert!(parse("millstream proxy --allow a.example --allow b.example"));
        assert!(!parse("millstream proxy"));
        assert!(!parse("millstream proxy --upstream https://a --allow b"));
        assert!(!parse("millstream proxy --upstream https://a --prefer gold"));
        assert!(parse("millstream payments refund 0x00ab --amount 1"));
        assert!(parse("millstream policy pause agent=research --reason runaway"));
        assert!(parse("millstream policy grant --from a --to b --up-to 5USDC --route api.*"));
        assert!(!parse("millstream policy approve x"));
        assert!(parse("millstream replay --channels 96 --payments 1000000 --seed 7 --settle"));
        assert!(parse("millstream proof verify p.json --root 0x0000000000000000000000000000000000000000000000000000000000000001"));
        assert!(parse("millstream bench --lines 64 --connections 100 --rate 500000 --duration 5 --json"));
        assert!(parse("millstream bench --sweep 10,50,100 --chart curve.svg"));
        assert!(parse("millstream channel exit --channel 0x00ab --wait"));
        assert!(parse("millstream ledger rebuild --rpc http://127.0.0.1:1 --ledger 0x00000000000000000000000000000000000000aa --at 7"));
        assert!(parse("millstream ledger audit --key settle-24=0x0000000000000000000000000000000000000000000000000000000000000001"));
        assert!(parse("millstream ledger leave --halt --channel 0x00ab"));
        assert!(!parse("millstream ledger audit --key settle-0=0x01"));
        assert!(parse("millstream ceremony start settle-96 --powers p.ptau 0.zkey --r1cs c.r1cs"));
        assert!(parse("millstream ceremony contribute 0.zkey 1.zkey --name Ada --entropy -"));
        assert!(parse("millstream ceremony beacon 1.zkey 2.zkey --value 0xbeac --iterations-log2 10"));
        assert!(parse("millstream ceremony finish register-96 --powers p.ptau 2.zkey keys"));
        assert!(!parse("millstream ceremony start settle-0 --powers p.ptau 0.zkey"));
        assert!(!parse("millstream ceremony beacon 1.zkey 2.zkey --value 0xbeac --iterations-log2 33"));
        assert!(parse("millstream deploy --plan p.toml --dry-run --from 0x00000000000000000000000000000000000000aa"));
        assert!(parse("millstream deploy --token test-usdc --tiers 24,96 --deposit-min 0 --keys insecure-development --yes"));
        assert!(parse("millstream deploy verify m.json --rpc http://127.0.0.1:1 --node-config node.toml"));
        assert!(!parse("millstream deploy --plan p.toml --from 0x00000000000000000000000000000000000000aa"));
        assert!(!parse("millstream deploy --plan p.toml --confirmations 0"));
        assert!(!parse("millstream deploy --plan p.toml verify m.json"));
        assert!(parse("millstream gateway --config gateway.toml"));
        assert!(parse("millstream gateway --upstream http://127.0.0.1:8000 --price x --route /a=free --listen 127.0.0.1:0"));
        assert!(parse("millstream gateway status --admin http://127.0.0.1:4403"));
        assert!(parse("millstream gateway claim --now"));
        assert!(parse(&format!("millstream gateway release 0x{}", "11".repeat(32))));
        assert!(!parse("millstream gateway release 0x11"));
        assert!(!parse("millstream gateway --config gateway.toml status"));
        assert!(!parse("millstream gateway --config gateway.toml --price x"));
        assert!(parse("millstream ratecard new chat --price x --asset 0x00000000000000000000000000000000000000aa"));
        assert!(parse("millstream ratecard new chat --after chat@1.toml --valid-from 2027-01-01T00:00:00Z"));
        assert!(!parse("millstream ratecard new chat"));
        assert!(!parse("millstream ratecard new chat --after a.toml --price x"));
        assert!(parse("millstream ratecard lint a.toml b.toml --strict"));
        assert!(parse("millstream ratecard publish a.toml --admin http://127.0.0.1:4403"));
        assert!(!parse("millstream ratecard publish a.toml --admin http://127.0.0.1:4403 --dir cards"));
        assert!(parse("millstream ratecard diff chat@1 chat@2 --dir cards"));
        assert!(parse("millstream ratecard backtest a.toml --trace t.csv --against b.toml --payers 16"));
        assert!(!parse("millstream ratecard backtest a.toml"));
        assert!(!parse("millstream gateway --route /a"));
        assert!(!parse("millstream bench --lines 1025"));
        assert!(!parse("millstream bench --rate 1000 --in-flight 2"));
        assert!(!parse("millstream"));
        assert!(!parse("millstream pay --amount 0.0000000001"));
        assert!(!parse("millstream pay --count 10"));
        assert!(!parse("millstream replay --speed 0"));
        assert!(!parse("millstream channel topup xyz --amount 1"));
    }
}
