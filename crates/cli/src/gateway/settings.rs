//! What the operator wants: a file or flags, with `MILLSTREAM_SECTION__KEY` variables, as one table of sections. Nothing is asked of the chain
//! here.
//!
//! `[server]`, `[payment]`, `[limits]`, `[timeouts]` and `[[route]]` are the gateway's own and stay a table, which `ready` completes; `[chain]`,
//! `[node]` and `[escrow]` say what keeps the money.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use millstream_escrow::EscrowSection;
use millstream_keystore::{self as keystore, KeyUse, Passwords};
use millstream_node::{
    BillingSection, ChainSection, LimitsSection, NodeConfig, ProverSection, RelaySection, ServerSection, SettlementSection, lay_over,
};
use millstream_types::{Address, ChainId, Network};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::args::{RoutePrice, RunArgs};
use crate::config::{Layer, Origin, environment};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::profile::Profile;

/// Where the admin listener is when nothing says so.
pub const ADMIN_LISTEN: &str = "127.0.0.1:4403";

/// Depth at which a block counts on public chains.
const CONFIRMATIONS: u64 = 12;

/// The sections that variables may lay over.
const SECTIONS: [&str; 9] = ["SERVER", "PAYMENT", "FACILITATOR", "RATECARDS", "LIMITS", "TIMEOUTS", "CHAIN", "NODE", "ESCROW"];

/// Variables with the name of one of our sections that are a payer's profile's.
const OF_THE_PROFILE: [&str; 3] = ["MILLSTREAM_NODE__ADDRESS", "MILLSTREAM_NODE__CERTIFICATE_SHA256", "MILLSTREAM_NODE__ADMIN_URL"];

/// What the operator wants.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The gateway's own sections.
    pub gateway: Table,
    /// `[chain]`.
    pub chain: ChainPart,
    /// `[node]`.
    pub node: NodePart,
    /// `[escrow]`.
    pub escrow: EscrowSection,
}

/// `[chain]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChainPart {
    /// JSON-RPC endpoint of an EVM node.
    rpc_url: Option<String>,
    /// The chain id that the endpoint must report; whatever it reports without this.
    pub chain_id: Option<u64>,
    /// A ledger that is served beside HTTP 402; goes with `node.listen`.
    pub ledger: Option<Address>,
    /// Block from which logs are read; the newest at the first start without this.
    pub start_block: Option<u64>,
    /// Depth at which a block counts: 1 is the newest.
    confirmations: Option<u64>,
    /// Milliseconds between two reads of the chain.
    poll_millis: Option<u64>,
    /// Nanos of the token that a whole coin of the chain is worth; gas is not weighed without this.
    coin_nanos: Option<u64>,
    /// Key file of the operator.
    operator_key_file: Option<PathBuf>,
    /// File with the password of an encrypted key file.
    pub operator_password_file: Option<PathBuf>,
    /// Directory of the proving keys of a ledger.
    keys_dir: Option<PathBuf>,
}

/// `[node]`, and below it what is only for a ledger.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodePart {
    /// Directory of the database.
    data_dir: Option<PathBuf>,
    /// TCP address of the admin listener: loopback only.
    admin_listen: Option<SocketAddr>,
    /// File with the hashes of the tokens that the admin listener asks for.
    admin_tokens_file: Option<PathBuf>,
    /// UDP address of the QUIC listener of a ledger.
    pub listen: Option<SocketAddr>,
    /// PEM certificate chain of that listener.
    pub certificate: Option<PathBuf>,
    /// PEM private key of the certificate.
    pub private_key: Option<PathBuf>,
    billing: BillingSection,
    settlement: SettlementSection,
    prover: ProverSection,
    limits: LimitsSection,
    relay: RelaySection,
}

impl Settings {
    /// From the file that the arguments name, or from the arguments and the profile.
    ///
    /// # Errors
    /// A file cannot be read, a key is unknown, or a value is of the wrong kind.
    pub fn read(context: &Context, args: &RunArgs) -> CliResult<Self> {
        if let Some(path) = &args.config {
            return Self::of_file(path);
        }
        Self::of(args, profile_for(context, args)?.as_ref(), std::env::vars())
    }

    /// Whether a configuration is a gateway's, by its sections; a node's has none of these.
    #[must_use]
    pub fn is_gateways(table: &Table) -> bool {
        ["payment", "route", "node"].iter().any(|section| table.contains_key(*section))
    }

    /// From a file, with the environment over it.
    ///
    /// # Errors
    /// As [`Settings::read`].
    pub fn of_file(path: &Path) -> CliResult<Self> {
        Self::parse(&file_text(path)?, std::env::vars())
            .map_err(|error| CliError { message: format!("in the configuration {}: {}", path.display(), error.message), ..error })
    }

    #[cfg(test)]
    pub(crate) fn of_text(text: &str) -> CliResult<Self> {
        Self::parse(text, std::iter::empty())
    }

    /// The layers that [`Settings::read`] lays over each other, without the defaults.
    ///
    /// # Errors
    /// As [`Settings::read`].
    pub fn layers(context: &Context, args: &RunArgs) -> CliResult<Vec<Layer>> {
        let (first, table) = match &args.config {
            Some(path) => (Origin::File, table_of(&file_text(path)?)?),
            None => {
                let profile = profile_for(context, args)?;
                (Origin::Profile, profile.as_ref().map(of_profile).transpose()?.unwrap_or_default())
            }
        };
        let mut layers = vec![Layer { origin: first, table }];
        let variables = std::env::vars().filter(|(name, _)| !OF_THE_PROFILE.contains(&name.as_str()));
        layers.extend(environment(&SECTIONS, variables)?);
        if let Some(upstream) = args.upstream.as_deref() {
            let mut flags = Table::new();
            flags.insert("route".to_owned(), Value::Array(routes_of(args, upstream)));
            lay_flags(&mut flags, args);
            flags.retain(|_, section| section.as_table().is_none_or(|section| !section.is_empty()));
            layers.push(Layer { origin: Origin::Flag, table: flags });
        }
        Ok(layers)
    }

    /// Everything with its defaults, but for what only the chain knows.
    ///
    /// # Errors
    /// A section cannot be read.
    pub fn effective(&self) -> CliResult<Table> {
        let mut table = self.gateway.clone();
        let filled = |table: &mut Table, name: &str, section: Result<Table, toml::ser::Error>| {
            let section = section.map_err(|error| wrong(format!("[{name}]: {error}")))?;
            table.insert(name.to_owned(), Value::Table(section));
            CliResult::Ok(())
        };
        let server: millstream_gateway::ServerSection = part(&mut table, "server")?;
        let limits: millstream_gateway::LimitsSection = part(&mut table, "limits")?;
        let timeouts: millstream_gateway::TimeoutsSection = part(&mut table, "timeouts")?;
        filled(&mut table, "server", Table::try_from(server))?;
        filled(&mut table, "limits", Table::try_from(limits))?;
        filled(&mut table, "timeouts", Table::try_from(timeouts))?;
        filled(&mut table, "chain", Table::try_from(&self.chain))?;
        filled(&mut table, "node", Table::try_from(&self.node))?;
        filled(&mut table, "escrow", Table::try_from(&self.escrow))?;
        Ok(table)
    }

    /// Whether what can be known without the chain is good for a start.
    ///
    /// # Errors
    /// The first key that is unknown, missing or of the wrong kind.
    pub fn check(&self) -> CliResult<()> {
        let mut table = self.gateway.clone();
        // What only the chain knows, so that the rest can be read.
        if let Some(payment) = table.get_mut("payment").and_then(Value::as_table_mut) {
            let nobody = Address::ZERO.to_string();
            for (key, value) in [("network", "eip155:1"), ("symbol", "USDC"), ("asset_name", ""), ("asset_version", "")] {
                payment.entry(key).or_insert_with(|| Value::String(value.to_owned()));
            }
            payment.entry("pay_to").or_insert_with(|| Value::String(nobody.clone()));
            payment.entry("decimals").or_insert(Value::Integer(6));
            if let Some(x402) = payment.get_mut("x402").and_then(Value::as_table_mut) {
                x402.entry("receiver_authorizer").or_insert(Value::String(nobody));
            }
            if let Some(mpp) = payment.get_mut("mpp").and_then(Value::as_table_mut) {
                mpp.entry("secret_file").or_insert_with(|| Value::String("offers.secret".to_owned()));
            }
        }
        let read: Result<millstream_gateway::GatewayConfig, _> = table.try_into();
        read.map_err(|error| wrong(error.to_string().trim().to_owned()))?;
        let chain = ChainId::new(self.named_chain()?.unwrap_or(1));
        self.node_config(chain).map(drop)
    }

    /// The chain that `chain.chain_id` or `payment.network` names.
    ///
    /// # Errors
    /// `payment.network` is none.
    pub fn named_chain(&self) -> CliResult<Option<u64>> {
        let Some(network) = self.text("payment", "network") else { return Ok(self.chain.chain_id) };
        let chain = network.parse::<Network>().ok().and_then(|network| network.evm_chain());
        let chain = chain.ok_or_else(|| wrong(format!("payment.network is {network}: expected an EVM chain such as eip155:8453")))?;
        Ok(Some(chain.get()))
    }

    /// Where the admin listener will be.
    ///
    /// # Errors
    /// None that can be met: the default is an address.
    pub fn admin_listen(&self) -> CliResult<SocketAddr> {
        self.node.admin_listen.map_or_else(|| ADMIN_LISTEN.parse().map_err(|_| wrong(ADMIN_LISTEN.to_owned())), Ok)
    }

    /// Where the public listener is when nothing says so.
    #[must_use]
    pub fn public_listen() -> SocketAddr {
        millstream_gateway::ServerSection::default().listen
    }

    /// Open connections of the public listener.
    #[must_use]
    pub fn connections_max(&self) -> u64 {
        let written = self.gateway.get("server").and_then(|server| server.get("connections_max")).and_then(Value::as_integer);
        let default = || u64::try_from(millstream_gateway::ServerSection::default().connections_max).unwrap_or(u64::MAX);
        written.and_then(|written| u64::try_from(written).ok()).unwrap_or_else(default)
    }

    pub(super) fn parse(text: &str, variables: impl Iterator<Item = (String, String)>) -> CliResult<Self> {
        Self::of_table(table_of(text)?, variables, |_| {})
    }

    pub(super) fn of(args: &RunArgs, profile: Option<&Profile>, variables: impl Iterator<Item = (String, String)>) -> CliResult<Self> {
        let upstream = args.upstream.as_deref().ok_or_else(|| {
            wrong("nothing says what is sold".to_owned()).hint("name the service with --upstream URL, or everything with --config FILE")
        })?;
        let routes = routes_of(args, upstream);
        if routes.is_empty() {
            let hint = "say it with --price '0.40 USDC / 1M output_token', or for each route with --route 'POST /path=PRICE'";
            return Err(wrong("nothing says what it costs".to_owned()).hint(hint));
        }
        let mut table = profile.map(of_profile).transpose()?.unwrap_or_default();
        table.insert("route".to_owned(), Value::Array(routes));
        Self::of_table(table, variables, |table| lay_flags(table, args))
    }

    fn of_table(mut table: Table, variables: impl Iterator<Item = (String, String)>, flags: impl FnOnce(&mut Table)) -> CliResult<Self> {
        let variables = variables.filter(|(name, _)| !OF_THE_PROFILE.contains(&name.as_str()));
        lay_over(&mut table, &SECTIONS, variables).map_err(|error| wrong(format!("{error:#}")))?;
        flags(&mut table);
        let chain = part(&mut table, "chain")?;
        let node = part(&mut table, "node")?;
        let escrow = part(&mut table, "escrow")?;
        Ok(Self { gateway: table, chain, node, escrow })
    }

    /// JSON-RPC endpoint of the chain.
    ///
    /// # Errors
    /// Nothing names it.
    pub fn rpc_url(&self) -> CliResult<&str> {
        self.chain.rpc_url.as_deref().ok_or_else(|| missing("chain.rpc_url", "the JSON-RPC endpoint of the chain", "--rpc URL"))
    }

    /// File with the operator's key.
    ///
    /// # Errors
    /// Nothing names it.
    pub fn key_file(&self) -> CliResult<&Path> {
        let what = "the file with the key that claims and pays the gas";
        self.chain.operator_key_file.as_deref().ok_or_else(|| missing("chain.operator_key_file", what, "--key-file FILE"))
    }

    /// The account of the operator's key. A password is asked for only where the file does not name the account.
    ///
    /// # Errors
    /// Nothing names the file, or it is no key file of an account.
    pub fn operator(&self) -> CliResult<Address> {
        let file = self.key_file()?;
        match keystore::read(file)?.address() {
            Some(account) => Ok(account),
            None => {
                let passwords = Passwords::new(self.chain.operator_password_file.as_deref());
                Ok(keystore::read_secret(file, KeyUse::Account, &passwords)?.address())
            }
        }
    }

    /// Directory of the database.
    ///
    /// # Errors
    /// Nothing names it.
    pub fn data_dir(&self) -> CliResult<&Path> {
        let what = "the directory of the database, which is money";
        self.node.data_dir.as_deref().ok_or_else(|| missing("node.data_dir", what, "--data-dir DIR"))
    }

    /// A value of a section of the gateway's own.
    #[must_use]
    pub fn text(&self, section: &str, key: &str) -> Option<&str> {
        self.gateway.get(section)?.as_table()?.get(key)?.as_str()
    }

    /// The node's configuration on a chain, checked.
    ///
    /// # Errors
    /// The first value that is missing or cannot be used, by its key.
    pub fn node_config(&self, chain: ChainId) -> CliResult<NodeConfig> {
        let (own, node) = (&self.chain, self.node.clone());
        let (confirmations, poll_millis) = if chain.is_development() { (1, 50) } else { (CONFIRMATIONS, 1_000) };
        let admin_listen = self.admin_listen()?;
        let config = NodeConfig {
            server: ServerSection {
                data_dir: self.data_dir()?.to_owned(),
                listen: node.listen,
                admin_listen,
                admin_tokens_file: node.admin_tokens_file,
                certificate: node.certificate,
                private_key: node.private_key,
            },
            chain: ChainSection {
                rpc_url: self.rpc_url()?.to_owned(),
                chain_id: chain.get(),
                ledger: own.ledger,
                start_block: own.start_block.unwrap_or_default(),
                confirmations: own.confirmations.unwrap_or(confirmations),
                poll_millis: own.poll_millis.unwrap_or(poll_millis),
                coin_nanos: own.coin_nanos.unwrap_or_default(),
                operator_key_file: self.key_file()?.to_owned(),
                operator_password_file: own.operator_password_file.clone(),
                keys_dir: own.keys_dir.clone(),
            },
            billing: node.billing,
            settlement: node.settlement,
            prover: node.prover,
            limits: node.limits,
            relay: node.relay,
            escrows: millstream_node::EscrowConfig::default(),
            policy: None,
        };
        // The node calls by its own file's names what is [node] here.
        config.check().map_err(|error| wrong(format!("{error:#}").replace("server.", "node.")))?;
        self.escrow.claim.check().map_err(|error| wrong(error.to_string()))?;
        Ok(config)
    }
}

/// What is wrong with a configuration.
pub(super) fn wrong(message: String) -> CliError {
    CliError::usage("gateway_config", message)
}

/// The profile that the arguments are laid over. With an endpoint of its own, the profile is another chain's.
fn profile_for(context: &Context, args: &RunArgs) -> CliResult<Option<Profile>> {
    if args.rpc.is_none() || context.names_profile() { context.profile_if_any() } else { Ok(None) }
}

fn file_text(path: &Path) -> CliResult<String> {
    std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot read the configuration {}: {error}", path.display())))
}

fn table_of(text: &str) -> CliResult<Table> {
    text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))
}

fn missing(key: &str, what: &str, flag: &str) -> CliError {
    let (section, name) = key.split_once('.').unwrap_or((key, ""));
    let variable = format!("MILLSTREAM_{}__{}", section.to_uppercase(), name.to_uppercase());
    wrong(format!("{key} is missing: {what}")).hint(format!(
        "give {flag}, or `{name} = …` in [{section}] of the file, or {variable}; beside a running `millstream dev` it is found"
    ))
}

/// A section of our own, taken out of the table; absent, its defaults.
fn part<T: Default + serde::de::DeserializeOwned>(table: &mut Table, name: &str) -> CliResult<T> {
    let Some(section) = table.remove(name) else { return Ok(T::default()) };
    section.try_into().map_err(|error: toml::de::Error| wrong(format!("[{name}]: {}", error.message())))
}

fn section<'a>(table: &'a mut Table, name: &str) -> Option<&'a mut Table> {
    table.entry(name).or_insert_with(|| Value::Table(Table::new())).as_table_mut()
}

fn set(table: &mut Table, name: &str, key: &str, value: Option<impl ToString>) {
    // What is no section is found when it is read.
    if let (Some(section), Some(value)) = (section(table, name), value) {
        section.insert(key.to_owned(), Value::String(value.to_string()));
    }
}

fn lay_flags(table: &mut Table, args: &RunArgs) {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    set(table, "server", "listen", args.listen);
    set(table, "server", "public_url", args.public_url.as_ref());
    set(table, "payment", "asset", args.asset);
    set(table, "payment", "pay_to", args.pay_to);
    set(table, "chain", "rpc_url", args.rpc.as_ref());
    set(table, "chain", "operator_key_file", path(&args.key_file));
    set(table, "node", "data_dir", path(&args.data_dir));
    set(table, "node", "admin_listen", args.admin_listen);
    if let (true, Some(payment)) = (args.exact, section(table, "payment")) {
        payment.entry("exact").or_insert_with(|| Value::Table(Table::new()));
    }
}

/// What the profile of a development network, or of a gateway that somebody set up, says.
fn of_profile(profile: &Profile) -> CliResult<Table> {
    let (mut table, gateway) = (Table::new(), &profile.gateway);
    set(&mut table, "chain", "rpc_url", profile.chain.rpc_url.as_ref());
    set(&mut table, "chain", "operator_key_file", profile.gateway_file(gateway.key_file.as_deref()).map(|file| file.display().to_string()));
    set(&mut table, "node", "data_dir", profile.gateway_file(gateway.data_dir.as_deref()).map(|file| file.display().to_string()));
    set(&mut table, "node", "admin_listen", profile.gateway_admin_address()?);
    set(&mut table, "payment", "asset", gateway.asset);
    set(&mut table, "payment", "pay_to", gateway.pay_to);
    Ok(table)
}

fn routes_of(args: &RunArgs, upstream: &str) -> Vec<Value> {
    let catch_all = args.price.as_ref().map(|price| RoutePrice { method: None, path: "/*".to_owned(), price: Some(price.clone()) });
    args.routes.iter().chain(&catch_all).map(|route| route_table(route, upstream)).collect()
}

fn route_table(route: &RoutePrice, upstream: &str) -> Value {
    let text = |text: &str| Value::String(text.to_owned());
    let mut table = Table::from_iter([("path".to_owned(), text(&route.path)), ("upstream".to_owned(), text(upstream))]);
    if let Some(method) = &route.method {
        table.insert("methods".to_owned(), Value::Array(vec![text(method)]));
    }
    match &route.price {
        Some(price) => match price.strip_prefix("card ") {
            Some(card) => table.insert("card".to_owned(), text(card.trim())),
            None => table.insert("price".to_owned(), text(price)),
        },
        None => table.insert("free".to_owned(), Value::Boolean(true)),
    };
    Value::Table(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [chain]
        rpc_url = "http://127.0.0.1:8545"
        operator_key_file = "gateway.key"
        [node]
        data_dir = "data"
        [payment]
        asset = "0x00000000000000000000000000000000000000d4"
        [payment.x402]
        [[route]]
        path = "/*"
        upstream = "http://127.0.0.1:8000"
        price = "0.40 USDC / 1M output_token"
    "#;

    fn parse(text: &str, variables: &[(&str, &str)]) -> CliResult<Settings> {
        Settings::parse(text, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn of(args: &RunArgs, profile: Option<&Profile>) -> CliResult<Settings> {
        Settings::of(args, profile, std::iter::empty())
    }

    fn selling() -> RunArgs {
        RunArgs { upstream: Some("http://127.0.0.1:8000".to_owned()), price: Some("1 USDC / call".to_owned()), ..RunArgs::default() }
    }

    #[test]
    fn a_file_is_enough_and_variables_win() {
        let settings = parse(FILE, &[]).expect("complete");
        let node = settings.node_config(ChainId::new(8_453)).expect("complete");
        assert_eq!((node.chain.confirmations, node.chain.chain_id, node.chain.ledger), (CONFIRMATIONS, 8_453, None));
        assert_eq!((node.server.admin_listen.to_string().as_str(), node.server.listen), (ADMIN_LISTEN, None));
        assert_eq!(settings.node_config(ChainId::new(31_337)).expect("complete").chain.confirmations, 1);
        let variables = [
            ("MILLSTREAM_CHAIN__RPC_URL", "http://127.0.0.1:1"),
            ("MILLSTREAM_PAYMENT__X402__WITHDRAW_DELAY_SECS", "900"),
            ("MILLSTREAM_NODE__ADMIN_URL", "http://127.0.0.1:9100"),
            ("MILLSTREAM_PAYER__KEY_FILE", "buyer.key"),
            ("MILLSTREAM_ESCROW__DEPOSIT_WAIT_SECS", "7"),
        ];
        let settings = parse(FILE, &variables).expect("complete");
        assert_eq!((settings.rpc_url().expect("set"), settings.escrow.deposit_wait_secs), ("http://127.0.0.1:1", 7));
        let delay = settings.gateway["payment"]["x402"]["withdraw_delay_secs"].as_integer();
        assert_eq!(delay, Some(900));
    }

    #[test]
    fn what_is_wrong_names_its_key() {
        let check = |text: &str, says: &str| {
            let error = parse(text, &[]).map(|_| ()).expect_err(text);
            assert!(error.message.contains(says), "{text}: {}", error.message);
            assert_eq!((error.code.as_str(), error.exit.status()), ("gateway_config", 2));
        };
        check("[chain]\nrpc = 'x'", "[chain]: unknown field `rpc`");
        check("[node]\ndata = 'x'", "[node]: unknown field `data`");
        check("[escrow]\nmargin = 1", "[escrow]: unknown field `margin`");
        check("[chain]\nledger = '0x12'", "[chain]: ");
        check("[chain", "TOML");
        assert!(parse(FILE, &[("MILLSTREAM_CHAIN__RPC", "x")]).map(|_| ()).expect_err("unknown").message.contains("unknown field `rpc`"));

        let fails = |text: &str, says: &str, hint: &str| {
            let error = parse(text, &[]).expect("reads").node_config(ChainId::new(1)).map(|_| ()).expect_err(says);
            assert!(error.message.contains(says), "{}", error.message);
            assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{:?}", error.hint);
        };
        fails(&FILE.replace("rpc_url", "#"), "chain.rpc_url is missing", "--rpc URL");
        fails(&FILE.replace("operator_key_file", "#"), "chain.operator_key_file is missing", "MILLSTREAM_CHAIN__OPERATOR_KEY_FILE");
        fails(&FILE.replace("data_dir", "#"), "node.data_dir is missing", "--data-dir DIR");
        fails(&FILE.replace("[node]", "[node]\nadmin_listen = '0.0.0.0:1'"), "node.admin_listen is 0.0.0.0:1", "");
        fails(&FILE.replace("[node]", "[node]\nlisten = '127.0.0.1:1'"), "node.listen go together", "");
        fails(&FILE.replace("[chain]", "[chain]\nconfirmations = 0"), "chain.confirmations", "");
        fails(&FILE.replace("[chain]", "[escrow.claim]\nrows_max = 0\n[chain]"), "escrow.claim.rows_max", "");
    }

    #[test]
    fn a_profile_is_enough_beside_an_upstream_and_a_price() {
        let mut profile = Profile { path: PathBuf::from("/dev-net/millstream.toml"), ..Profile::default() };
        profile.chain.rpc_url = Some("http://127.0.0.1:8545".to_owned());
        profile.gateway.key_file = Some(PathBuf::from("seller.key"));
        profile.gateway.data_dir = Some(PathBuf::from("gateway"));
        profile.gateway.asset = Some(Address::from_bytes([0xd4; 20]));
        profile.gateway.admin_url = Some("http://127.0.0.1:9100".to_owned());
        let settings = of(&selling(), Some(&profile)).expect("complete");
        let node = settings.node_config(ChainId::new(31_337)).expect("complete");
        assert_eq!(node.server.data_dir, Path::new("/dev-net/gateway"));
        assert_eq!(node.chain.operator_key_file, Path::new("/dev-net/seller.key"));
        assert_eq!(node.server.admin_listen.to_string(), "127.0.0.1:9100");
        assert_eq!(settings.text("payment", "asset"), Some(Address::from_bytes([0xd4; 20]).to_string().as_str()));

        // Flags go before it.
        let flags = RunArgs { data_dir: Some(PathBuf::from("/elsewhere")), rpc: Some("http://127.0.0.1:1".to_owned()), ..selling() };
        let settings = of(&flags, Some(&profile)).expect("complete");
        assert_eq!(settings.data_dir().expect("set"), Path::new("/elsewhere"));
        assert_eq!(settings.rpc_url().expect("set"), "http://127.0.0.1:1");
        assert!(!settings.gateway["payment"].as_table().expect("a section").contains_key("exact"));
        let settings = of(&RunArgs { exact: true, ..selling() }, Some(&profile)).expect("complete");
        assert!(settings.gateway["payment"]["exact"].is_table());
    }

    #[test]
    fn routes_come_before_the_price_for_the_rest() {
        let routes = ["GET /v1/models=free", "POST /v1/chat=card chat"].map(|route| route.parse().expect("a route"));
        let settings = of(&RunArgs { routes: routes.to_vec(), ..selling() }, None).expect("reads");
        let routes = settings.gateway["route"].as_array().expect("routes").clone();
        let path = |at: usize| routes[at]["path"].as_str().expect("a path").to_owned();
        assert_eq!((path(0), path(1), path(2)), ("/v1/models".to_owned(), "/v1/chat".to_owned(), "/*".to_owned()));
        assert_eq!((routes[0]["free"].as_bool(), routes[1]["methods"][0].as_str()), (Some(true), Some("POST")));
        assert_eq!((routes[1]["card"].as_str(), routes[2]["price"].as_str()), (Some("chat"), Some("1 USDC / call")));
        for (args, says) in
            [(RunArgs { upstream: None, ..selling() }, "what is sold"), (RunArgs { price: None, ..selling() }, "what it costs")]
        {
            let error = of(&args, None).map(|_| ()).expect_err(says);
            assert!(error.message.contains(says) && error.hint.is_some(), "{}", error.message);
        }
    }
}
