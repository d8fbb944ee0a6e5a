//! The `millstream` binary: reads the command line, runs one command, ends with its exit status.

use std::io::{IsTerminal, stderr, stdout};
use std::process::ExitCode;

use millstream_cli::args::Command;
use millstream_cli::context::Context;
use millstream_cli::error::{CliError, CliResult, Exit};
use millstream_cli::{
    bench, ceremony, channel, config, database, demo, deploy, dev, doctor, examples, gateway, init, keys, ledger, logging, manual, node,
    pay, proof, ratecard, replay, settle, spend, status, top,
};

fn main() -> ExitCode {
    let cli = match examples::parse() {
        Ok(cli) => cli,
        Err(error) => return wrong_usage(&error),
    };
    let context = Context::new(&cli.global);
    match start(&context, &cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            context.output.fail(&error);
            ExitCode::from(error.exit.status())
        }
    }
}

fn start(context: &Context, command: &Command) -> CliResult<()> {
    logging::init(default_log_level(command, stderr().is_terminal()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::failed("runtime", format!("cannot start: {error}")))?;
    runtime.block_on(run(context, command))
}

/// A node tells what it does; other commands say only what goes wrong.
const fn default_log_level(command: &Command, stderr_is_terminal: bool) -> &'static str {
    match command {
        Command::Node(_) => "info",
        Command::Dev(_) | Command::Proxy(_) => "warn",
        Command::Gateway(args) if args.command.is_some() => "error",
        // On a terminal it says what it sells in a few lines.
        Command::Gateway(_) if stderr_is_terminal => "warn",
        Command::Gateway(_) => "info",
        Command::Bench(_)
        | Command::Demo(_)
        | Command::Ratecard(_)
        | Command::Deploy(_)
        | Command::Channel(_)
        | Command::Pay(_)
        | Command::Payments(_)
        | Command::Policy(_)
        | Command::Replay(_)
        | Command::Proof(_)
        | Command::Settle(_)
        | Command::Ledger(_)
        | Command::Ceremony(_)
        | Command::Status
        | Command::Top(_)
        | Command::Init(_)
        | Command::Doctor(_)
        | Command::Config(_)
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Db(_)
        | Command::Key(_)
        | Command::Completions(_)
        | Command::Man(_) => "error",
    }
}

async fn run(context: &Context, command: &Command) -> CliResult<()> {
    match command {
        Command::Node(args) => node::run(args).await,
        Command::Dev(args) => dev::run(context, args).await,
        Command::Bench(args) => bench::command(context, args).await,
        Command::Demo(args) => demo::run(context, args).await,
        Command::Gateway(args) => gateway::command(context, args).await,
        Command::Ratecard(command) => ratecard::run(context, command).await,
        Command::Deploy(args) => deploy::run(context, args).await,
        Command::Channel(command) => channel::run(context, command).await,
        Command::Pay(args) => pay::run(context, args).await,
        Command::Proxy(args) => spend::proxy::run(context, args).await,
        Command::Payments(command) => spend::payments::run(context, command).await,
        Command::Policy(command) => spend::policy::run(context, command).await,
        Command::Replay(args) => replay::command(context, args).await,
        Command::Proof(command) => proof::run(context, command).await,
        Command::Settle(command) => settle::run(context, command).await,
        Command::Ledger(command) => ledger::run(context, command).await,
        Command::Ceremony(command) => ceremony::run(context, command).await,
        Command::Status => status::run(context).await,
        Command::Top(args) => top::run(context, args).await,
        Command::Init(command) => init::run(context, command),
        Command::Doctor(args) => doctor::run(context, args).await,
        Command::Config(command) => config::run(context, command),
        Command::Backup(args) => database::backup(context, args).await,
        Command::Restore(args) => database::restore(context, args),
        Command::Db(command) => database::db(context, command),
        Command::Key(command) => keys::run(context, command),
        Command::Completions(args) => manual::completions(args),
        Command::Man(args) => manual::man(context, args),
    }
}

/// Help and version are answers; the rest is wrong usage, in JSON for those who asked for it or are no terminal.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    let is_answer = examples::is_answer(error);
    let json = std::env::args_os().any(|argument| argument == "--json") || !stdout().is_terminal();
    if is_answer || !json {
        // Nobody reads it: the exit status still tells.
        let _ = error.print();
        return ExitCode::from(if is_answer { 0 } else { Exit::Usage.status() });
    }
    let text = error.to_string();
    // What is wrong comes first; usage and tips follow.
    let what = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("tip:") && *line != "For more information, try '--help'.");
    let message = what.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let message = message.trim_start_matches("error: ");
    eprintln!("{}", CliError::usage("usage", message).hint("see `millstream help`").to_json());
    ExitCode::from(Exit::Usage.status())
}
