//! `millstream init`: a commented configuration, and a key of its own, encrypted at rest.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use millstream_keystore::{KeyUse, Passwords, Secret};
use millstream_types::Address;
use serde::Serialize;

use crate::context::Context;
use crate::document::write_private;
use crate::error::{CliError, CliResult};
use crate::keys::write_encrypted;
use crate::output::{View, pairs};

const NODE: &str = include_str!("node.toml");
const GATEWAY: &str = include_str!("gateway.toml");
const PAYER: &str = include_str!("payer.toml");

/// `init`.
#[derive(Subcommand, Clone, Debug)]
pub enum InitCommand {
    /// A settlement node: node.toml and the operator's key
    Node(InitArgs),
    /// A gateway that sells an HTTP service: gateway.toml and the operator's key
    Gateway(InitArgs),
    /// A payer: the profile millstream.toml and the account's key
    Payer(InitArgs),
}

/// Where it goes, and what is known already.
#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    /// Where the files go; nothing in it is written over
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
    /// JSON-RPC endpoint of the chain
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8545")]
    pub rpc: String,
    /// The chain
    #[arg(long, value_name = "ID", default_value_t = 31_337)]
    pub chain_id: u64,
    /// The ledger contract; to be filled in later without this
    #[arg(long, value_name = "ADDRESS")]
    pub ledger: Option<Address>,
    /// The token that a gateway is paid in; to be filled in later without this
    #[arg(long, value_name = "ADDRESS")]
    pub asset: Option<Address>,
    /// The service that a gateway sells
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    pub upstream: String,
    /// A file whose first line is the password of the new key; without this MILLSTREAM_PASSWORD_FILE, MILLSTREAM_PASSWORD, or a question
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// The result.
#[derive(Serialize)]
struct Made {
    config: PathBuf,
    key_file: PathBuf,
    account: Address,
    next: Vec<String>,
}

impl View for Made {
    fn table(&self) -> String {
        let lines = [("config", self.config.display().to_string()), ("key", self.key_file.display().to_string())];
        let lines = lines.into_iter().chain([("account", self.account.to_string())]);
        pairs(lines.chain(self.next.iter().map(|next| ("next", next.clone()))))
    }
}

/// Runs the command.
///
/// # Errors
/// A file is there already, or cannot be written; or nothing gives the key's password.
pub fn run(context: &Context, command: &InitCommand) -> CliResult<()> {
    let (template, args, file, key) = match command {
        InitCommand::Node(args) => (NODE, args, "node.toml", "operator.json"),
        InitCommand::Gateway(args) => (GATEWAY, args, "gateway.toml", "operator.json"),
        InitCommand::Payer(args) => (PAYER, args, "millstream.toml", "payer.json"),
    };
    let directory = std::path::absolute(&args.directory)
        .map_err(|error| CliError::failed("init", format!("{} is no directory: {error}", args.directory.display())))?;
    let (config, key_file) = (directory.join(file), directory.join(key));
    for path in [&config, &key_file] {
        if path.exists() {
            return Err(CliError::usage("init", format!("{} is there already: nothing is written over", path.display()))
                .hint("choose another --directory, or move the file away"));
        }
    }
    let cannot = |path: &Path, error| CliError::failed("init", format!("cannot write {}: {error}", path.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(|error| cannot(&directory, error))?;
    let secret = Secret::generate()?;
    write_encrypted(&key_file, &secret, &Passwords::new(args.password_file.as_deref()), KeyUse::Account)?;
    let text = fill(template, args, &directory, &config, &key_file)?;
    write_private(&config, &text).map_err(|error| cannot(&config, error))?;
    let next = next(command, args, &config, secret.address());
    context.output.show(&Made { config, key_file, account: secret.address(), next })
}

fn next(command: &InitCommand, args: &InitArgs, config: &Path, account: Address) -> Vec<String> {
    let config = config.display();
    let fund = format!("send coins for gas to {account}");
    match command {
        InitCommand::Node(_) if args.ledger.is_none() => vec![
            fund,
            format!("deploy a ledger whose operator is {account}: millstream deploy --help; and name it in chain.ledger"),
            format!("millstream doctor --config {config}"),
        ],
        InitCommand::Node(_) | InitCommand::Gateway(_) => {
            let asset = matches!(command, InitCommand::Gateway(_)) && args.asset.is_none();
            let asset = asset.then(|| "name the token in payment.asset".to_owned());
            [Some(fund), asset, Some(format!("millstream doctor --config {config}"))].into_iter().flatten().collect()
        }
        InitCommand::Payer(_) => {
            vec![format!("send tokens to {account}"), format!("millstream channel open --deposit 5 --profile {config}")]
        }
    }
}

/// The template with its places filled in. A value is written as a TOML string: nothing in it can end it.
fn fill(template: &str, args: &InitArgs, directory: &Path, config: &Path, key_file: &Path) -> CliResult<String> {
    let nobody = Address::ZERO;
    let path = |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| CliError::usage("init", "the directory's name is no text"));
    let values = [
        ("{data_dir}", path(&directory.join("data"))?),
        ("{key_file}", path(key_file)?),
        ("{state_file}", path(&directory.join("payer.redb"))?),
        ("{rpc_url}", args.rpc.clone()),
        ("{ledger}", args.ledger.unwrap_or(nobody).to_string()),
        ("{asset}", args.asset.unwrap_or(nobody).to_string()),
        ("{upstream}", args.upstream.clone()),
    ];
    let text = template.replace("{config}", &path(config)?.replace('\n', " ")).replace("{chain_id}", &args.chain_id.to_string());
    Ok(values
        .iter()
        .fold(text, |text, (place, value)| text.replace(&format!("\"{place}\""), &toml::Value::String(value.clone()).to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> InitArgs {
        InitArgs {
            directory: ".".into(),
            rpc: "http://127.0.0.1:8545".to_owned(),
            chain_id: 31_337,
            ledger: None,
            asset: None,
            upstream: "http://127.0.0.1:8000".to_owned(),
            password_file: None,
        }
    }

    fn filled(template: &str) -> String {
        fill(template, &args(), Path::new("/srv"), Path::new("/srv/node.toml"), Path::new("/srv/operator.json")).expect("filled")
    }

    /// The template with every `# key = value` as a key.
    fn uncommented(text: &str) -> toml::Table {
        let is_key =
            |line: &str| line.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        let lines = text.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line));
        lines.collect::<Vec<_>>().join("\n").parse().expect("TOML")
    }

    fn keys(table: &toml::Table, path: &str, all: &mut std::collections::BTreeSet<String>) {
        for (key, value) in table {
            let path = format!("{path}.{key}");
            match value {
                toml::Value::Table(table) => keys(table, &path, all),
                _ => drop(all.insert(path)),
            }
        }
    }

    #[test]
    fn a_nodes_template_is_accepted_and_names_every_key_with_its_default() {
        let text = filled(NODE);
        let least: millstream_node::NodeConfig = toml::from_str(&text).expect("accepted");
        let whole: millstream_node::NodeConfig = uncommented(&text).try_into().expect("accepted with every key");
        let [least, whole] = [least, whole].map(|config| toml::Table::try_from(config).expect("serialises"));
        let (mut with_defaults, mut named) = Default::default();
        keys(&least, "", &mut with_defaults);
        keys(&uncommented(&text), "", &mut named);
        let missing: Vec<_> = with_defaults.difference(&named).collect();
        assert!(missing.is_empty(), "the template does not name {missing:?}");
        // What has a default of its own is written with it.
        for section in ["billing", "settlement", "prover", "limits", "relay"] {
            assert_eq!(least[section], whole[section], "{section}");
        }
        for key in ["start_block", "confirmations", "poll_millis", "coin_nanos"] {
            assert_eq!(least["chain"][key], whole["chain"][key], "{key}");
        }
    }

    #[test]
    fn the_other_templates_are_accepted() {
        crate::gateway::Settings::of_text(&filled(GATEWAY)).expect("a gateway's").check().expect("good for a start");
        crate::gateway::Settings::of_text(&toml::to_string(&uncommented(&filled(GATEWAY))).expect("TOML")).expect("with every key");
        let _: crate::profile::Profile = toml::from_str(&filled(PAYER)).expect("a profile");
        let _: crate::profile::Profile = uncommented(&filled(PAYER)).try_into().expect("a profile with every key");
    }

    #[test]
    fn what_is_filled_in_stays_a_string() {
        let args = InitArgs { rpc: "http://x\"\nchain_id = 1".to_owned(), ..args() };
        let text = fill(NODE, &args, Path::new("/srv"), Path::new("/srv/a"), Path::new("/srv/b")).expect("filled");
        let table: toml::Table = text.parse().expect("TOML");
        assert_eq!(table["chain"]["rpc_url"].as_str(), Some(args.rpc.as_str()));
    }
}
