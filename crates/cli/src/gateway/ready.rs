//! What the operator wants, compared with the chain: everything that would fail later fails here, with what to do about it. What only the chain
//! knows is filled in.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream_chain::session_escrow::{SessionEscrow, session_escrow_address};
use millstream_chain::x402::{BatchSettlement, EXACT_PERMIT2_PROXY, PERMIT2_DEPOSIT_COLLECTOR};
use millstream_chain::{ChainError, PERMIT2, Rpc, RpcOptions, TokenFacts, coin_balance, token_facts};
use millstream_escrow::{ChannelsConfig, EscrowSection, RailConfig, SessionsConfig, policy_of};
use millstream_gateway::facilitator::FacilitatorSection;
use millstream_gateway::{ConfigError, GatewayConfig, Routes};
use millstream_node::NodeConfig;
use millstream_tariff::Token;
use millstream_types::{Address, Amount, ChainId, Network};
use millstream_voucher::evm::eip55;
use tokio::net::TcpStream;
use toml::{Table, Value};

use super::settings::{Settings, wrong};
use crate::error::{CliError, CliResult, Exit, chain_of};
use crate::profile::write_secret;

/// How far the chain may be ahead of this machine. Offers, vouchers and withdrawals are judged by both clocks.
const AHEAD_SECS_MAX: u64 = 60;
/// From which age on the chain's newest block is worth a word.
const BEHIND_SECS: u64 = 600;
/// What an upstream may take to be reached.
const UPSTREAM_WAIT: Duration = Duration::from_secs(2);
/// The file of the secret that offers are authenticated with, in the data directory.
const OFFERS_SECRET: &str = "offers.secret";
/// The directory of rate cards, in the data directory.
const RATECARDS_DIR: &str = "ratecards";
/// Coins below which the operator is told, in wei: a few hundred transactions on a cheap chain.
const COINS_LOW_WEI: u128 = 1_000_000_000_000_000;

/// What can be started.
pub(super) struct Ready {
    pub(super) gateway: GatewayConfig,
    pub(super) node: NodeConfig,
    pub(super) rail: RailConfig,
    pub(super) token: TokenFacts,
    pub(super) terms: Terms,
    /// What works, but perhaps not as it is meant.
    pub(super) warnings: Vec<String>,
}

/// Who is paid in what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) asset: Address,
    pub(super) pay_to: Address,
    /// The account of the key: it claims and pays the gas.
    pub(super) operator: Address,
}

impl Ready {
    /// Looks at everything.
    ///
    /// # Errors
    /// The first thing that would not work.
    pub(super) async fn check(settings: Settings) -> CliResult<Self> {
        let mut warnings = Vec::new();
        let operator = settings.operator()?;
        settings.data_dir()?;
        let rpc = connect(&settings).await?;
        let mut node = settings.node_config(rpc.chain())?;
        let (mut table, data_dir) = (settings.gateway, node.server.data_dir.clone());
        let payment = section(&mut table, "payment")?;
        let token = complete_token(payment, &rpc, &mut warnings).await?;
        fill(payment, "pay_to", &eip55(&operator));
        let terms = Terms { asset: address(payment, "asset")?, pay_to: address(payment, "pay_to")?, operator };
        complete_dialects(payment, &rpc, &terms, &data_dir, &mut warnings).await?;

        // Cards are money's other half: they are kept where it is, unless they are kept elsewhere.
        fill(section(&mut table, "ratecards")?, "dir", &data_dir.join(RATECARDS_DIR).display().to_string());
        let gateway: GatewayConfig = table.try_into().map_err(|error: toml::de::Error| wrong(error.to_string().trim().to_owned()))?;
        let priced =
            Token::new(&gateway.payment.symbol, gateway.payment.decimals).map_err(|error| wrong(format!("payment.symbol: {error}")))?;
        // What a route needs, and every price.
        let routes = Routes::new(&gateway, &priced, true).map_err(|error| config_error(&error, &token))?;
        let sessions = sessions_config(&gateway, &priced)?;
        let rail =
            rail_config(settings.escrow, &gateway, &terms, sessions, &routes, &node).map_err(|error| config_error(&error, &token))?;
        rail.escrow.claim.check().map_err(|error| wrong(error.to_string()))?;
        node.policy = policy_of(&gateway, rpc.chain(), terms.asset).map_err(|error| wrong(error.to_string()))?;
        node.escrows = rail.engine().map_err(|error| wrong(error.to_string()))?;
        check_gas(&rpc, &terms, &mut warnings).await?;
        check_clock(&rpc, &mut warnings).await?;
        check_upstreams(&gateway, &mut warnings).await;
        Ok(Self { gateway, node, rail, token, terms, warnings })
    }
}

/// The sessions that are offered.
fn sessions_config(gateway: &GatewayConfig, token: &Token) -> CliResult<Option<SessionsConfig>> {
    let Some((mpp, escrow)) = gateway.payment.mpp.as_ref().and_then(|mpp| Some((mpp, mpp.escrow.as_deref()?))) else { return Ok(None) };
    let contract = address_of(escrow).ok_or_else(|| wrong(format!("payment.mpp.escrow is {escrow:?}, expected an address")))?;
    let least = mpp.voucher_delta_min.as_deref().map(|text| token.parse_amount(text)).transpose();
    let voucher_delta_min = least.map_err(|error| wrong(format!("payment.mpp.voucher_delta_min: {error}")))?.unwrap_or(Amount::ZERO);
    Ok(Some(SessionsConfig { contract, voucher_delta_min }))
}

fn rail_config(
    escrow: EscrowSection,
    gateway: &GatewayConfig,
    terms: &Terms,
    sessions: Option<SessionsConfig>,
    routes: &Routes,
    node: &NodeConfig,
) -> Result<RailConfig, ConfigError> {
    Ok(RailConfig {
        escrow,
        token: terms.asset,
        receiver: terms.pay_to,
        x402: gateway.payment.x402.as_ref().map(|x402| ChannelsConfig { withdraw_delay_secs: x402.withdraw_delay_secs }),
        sessions,
        custody: gateway.facilitator.as_ref().map(FacilitatorSection::custody_receivers).transpose()?.unwrap_or_default(),
        delivery_secs_max: routes.delivery_secs_max(),
        coin_nanos: node.chain.coin_nanos,
        confirmations: node.chain.confirmations,
        poll_interval: Duration::from_millis(node.chain.poll_millis),
    })
}

/// What is wrong with a configuration, as the gateway's library says it.
pub(super) fn config_error(error: &ConfigError, token: &TokenFacts) -> CliError {
    let failed = wrong(chain_of(error));
    match error {
        millstream_gateway::ConfigError::Price { .. } => {
            let (symbol, decimals) = (&token.symbol, token.decimals);
            failed.hint(format!("prices are such as '0.40 {symbol} / 1M output_token'; a {symbol} has {decimals} decimals"))
        }
        _ => failed,
    }
}

async fn connect(settings: &Settings) -> CliResult<Rpc> {
    let named = settings.text("payment", "network").map(|network| {
        let chain = network.parse::<Network>().ok().and_then(|network| network.evm_chain());
        chain.ok_or_else(|| wrong(format!("payment.network is {network}: expected an EVM chain such as eip155:8453")))
    });
    let (named, id) = (named.transpose()?, settings.chain.chain_id.map(ChainId::new));
    if let (Some(named), Some(id)) = (named, id)
        && named != id
    {
        return Err(wrong(format!("payment.network is eip155:{named}, and chain.chain_id is {id}: they must be the same chain")));
    }
    let url = settings.rpc_url()?;
    let rpc = match named.or(id) {
        Some(chain) => Rpc::connect_to(url, chain, RpcOptions::default()).await,
        None => Rpc::connect(url, RpcOptions::default()).await,
    };
    rpc.map_err(|error| {
        let hint = match &error {
            ChainError::WrongChain { .. } => "chain.rpc_url and payment.network are of different chains: correct one of them",
            _ => "is the chain's endpoint running? it is --rpc, chain.rpc_url in the file, or the profile's chain.rpc_url",
        };
        CliError::from(error).hint(hint)
    })
}

/// Symbol, decimals and domain of the token, as the chain has them.
async fn complete_token(payment: &mut Table, rpc: &Rpc, warnings: &mut Vec<String>) -> CliResult<TokenFacts> {
    if !payment.contains_key("asset") {
        let hint = "give --asset ADDRESS, or `asset = \"0x…\"` in [payment] of the file; beside a running `millstream dev` it is found";
        return Err(wrong("payment.asset is missing: the token that is paid in".to_owned()).hint(hint));
    }
    let asset = address(payment, "asset")?;
    let facts = token_facts(rpc, asset).await.map_err(|error| match error {
        ChainError::NoContract { .. } => wrong(format!("payment.asset is {asset}, and there is no contract on chain {}", rpc.chain()))
            .hint("check the token's address and the chain"),
        ChainError::Unrepresentable { .. } => wrong(format!("payment.asset is {asset}: {}", chain_of(&error))).hint(
            "deposits are signed in the token's EIP-712 domain: only tokens that have name, version and DOMAIN_SEPARATOR can be sold for",
        ),
        error => CliError::from(error),
    })?;
    fill(payment, "network", &format!("eip155:{}", rpc.chain()));
    agree(payment, "payment", "asset_name", &facts.name)?;
    agree(payment, "payment", "asset_version", &facts.version)?;
    let decimals = i64::from(facts.decimals);
    match payment.get("decimals").and_then(Value::as_integer) {
        Some(written) if written != decimals => {
            return Err(wrong(format!("payment.decimals is {written}, and the token has {decimals}"))
                .hint("correct it, or leave it out: it is read from the chain"));
        }
        _ => {}
    }
    payment.entry("decimals").or_insert(Value::Integer(decimals));
    match payment.get("symbol").and_then(Value::as_str) {
        Some(written) if written != facts.symbol => {
            warnings.push(format!("payment.symbol is {written}, and the token calls itself {}", facts.symbol));
        }
        Some(_) => {}
        None if Token::new(&facts.symbol, facts.decimals).is_err() => {
            return Err(
                wrong(format!("the token's symbol `{}` cannot stand in a price", facts.symbol)).hint("name another in payment.symbol")
            );
        }
        None => fill(payment, "symbol", &facts.symbol),
    }
    Ok(facts)
}

/// What is offered: channels of the dialects whose sections are there, without either of both; and single payments where their section is.
async fn complete_dialects(payment: &mut Table, rpc: &Rpc, terms: &Terms, data_dir: &Path, warnings: &mut Vec<String>) -> CliResult<()> {
    let named: BTreeSet<String> = payment.iter().filter(|(_, value)| value.is_table()).map(|(key, _)| key.clone()).collect();
    let is_free = !named.contains("x402") && !named.contains("mpp");
    let wants = |dialect: &str| is_free || named.contains(dialect);
    if wants("x402") {
        match complete_channels(section(payment, "x402")?, rpc, terms).await {
            // Nobody asked for it: sessions need nothing of it. Where neither is there, sessions are asked for below.
            Err(error) if is_free && error.code == "contract_missing" => {
                payment.remove("x402");
                warnings.push(format!("x402 is not offered: {}", error.message));
            }
            completed => completed?,
        }
    }
    if named.contains("exact") {
        check_methods(section(payment, "exact")?, "payment.exact", EXACT_PERMIT2_PROXY, rpc).await?;
    }
    if wants("mpp") {
        let completed = complete_sessions(section(payment, "mpp")?, rpc, terms, data_dir).await;
        match completed {
            // Nobody asked for it: what is there is sold all the same.
            Err(error) if is_free && error.exit == Exit::Usage && payment.contains_key("x402") => {
                payment.remove("mpp");
                warnings.push(format!("MPP is not offered: {}", error.message));
            }
            completed => completed?,
        }
    }
    Ok(())
}

/// x402's channels, whose claims and refunds are the operator's.
async fn complete_channels(x402: &mut Table, rpc: &Rpc, terms: &Terms) -> CliResult<()> {
    match BatchSettlement::attach(rpc.clone()).await {
        Ok(_) => {
            agree(x402, "payment.x402", "receiver_authorizer", &eip55(&terms.operator)).map_err(|error| {
                error.hint(
                    "claims and refunds are signed by the operator's key: it must be the receiver's authorizer, or leave the line out",
                )
            })?;
            check_methods(x402, "payment.x402", PERMIT2_DEPOSIT_COLLECTOR, rpc).await
        }
        Err(error @ ChainError::NoContract { .. }) => {
            let hint = "x402's batch-settlement contracts must be on the chain; `millstream dev` puts them on a development chain";
            Err(CliError::usage("contract_missing", chain_of(&error)).hint(hint))
        }
        Err(error) => Err(error.into()),
    }
}

/// Tokens are moved by themselves, unless they are to be moved by Permit2 and `contract`.
async fn check_methods(part: &Table, name: &str, contract: Address, rpc: &Rpc) -> CliResult<()> {
    let methods = part.get("methods").and_then(Value::as_array);
    let by_permit2 = methods.is_some_and(|methods| methods.iter().any(|method| method.as_str() == Some("permit2")));
    for contract in [PERMIT2, contract] {
        if by_permit2 && !rpc.is_contract(contract).await? {
            let message = format!("{name}.methods has permit2, and there is no contract at {} on chain {}", eip55(&contract), rpc.chain());
            return Err(CliError::usage("contract_missing", message).hint(format!("leave permit2 out of {name}.methods")));
        }
    }
    Ok(())
}

/// The escrow of MPP's sessions: this build's own where none is named; and the secret that offers are authenticated with.
async fn complete_sessions(mpp: &mut Table, rpc: &Rpc, terms: &Terms, data_dir: &Path) -> CliResult<()> {
    fill(mpp, "escrow", &eip55(&session_escrow_address()?));
    let escrow = mpp.get("escrow").and_then(Value::as_str).unwrap_or_default().to_owned();
    let escrow = address_of(&escrow).ok_or_else(|| wrong(format!("payment.mpp.escrow is {escrow:?}, expected an address")))?;
    if let Err(error) = SessionEscrow::attach(rpc.clone(), escrow).await {
        return Err(match error {
            ChainError::NoContract { .. } => CliError::usage("contract_missing", chain_of(&error))
                .hint("the escrow of sessions must be on the chain; `millstream dev` puts it on a development chain"),
            ChainError::InvalidInput { .. } => wrong(format!("payment.mpp.escrow: {}", chain_of(&error))),
            error => error.into(),
        });
    }
    if terms.pay_to != terms.operator {
        let (pay_to, operator) = (eip55(&terms.pay_to), eip55(&terms.operator));
        return Err(wrong(format!("payment.pay_to is {pay_to}, and sessions pay the account that settles them, {operator}"))
            .hint("leave payment.pay_to out, or leave [payment.mpp] out"));
    }
    if !mpp.contains_key("secret_file") {
        fill(mpp, "secret_file", &offers_secret(data_dir)?);
    }
    Ok(())
}

/// A secret of the data directory's own, made at the first start.
fn offers_secret(data_dir: &Path) -> CliResult<String> {
    let path = data_dir.join(OFFERS_SECRET);
    if !path.exists() {
        std::fs::create_dir_all(data_dir)
            .map_err(|error| CliError::failed("data_dir", format!("cannot create {}: {error}", data_dir.display())))?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| CliError::failed("randomness", format!("the system gives none: {error}")))?;
        write_secret(&path, &secret)?;
    }
    Ok(path.display().to_string())
}

async fn check_gas(rpc: &Rpc, terms: &Terms, warnings: &mut Vec<String>) -> CliResult<()> {
    let (wei, operator) = (coin_balance(rpc, terms.operator).await?, eip55(&terms.operator));
    if wei == 0 {
        let message =
            format!("the account {operator} has no coins for gas on chain {}: nothing could be deposited or claimed", rpc.chain());
        return Err(CliError::new(Exit::Refused, "gas_missing", message).hint(format!("send coins to {operator}, or use another key")));
    }
    if wei < COINS_LOW_WEI {
        warnings.push(format!("the account {operator} has {wei} wei for gas: little"));
    }
    Ok(())
}

async fn check_clock(rpc: &Rpc, warnings: &mut Vec<String>) -> CliResult<()> {
    let block = rpc.head_time().await?.as_secs_down();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if block > now.saturating_add(AHEAD_SECS_MAX) {
        let message = format!("the chain is {} seconds ahead of this machine's clock", block.saturating_sub(now));
        // Somebody who advances a development chain's time knows it.
        if !rpc.chain().is_development() {
            return Err(
                CliError::usage("clock", message).hint("set this machine's clock (NTP): offers would be expired when they are made")
            );
        }
        warnings.push(message);
    } else if now > block.saturating_add(BEHIND_SECS) && !rpc.chain().is_development() {
        warnings.push(format!(
            "the chain's newest block is {} seconds old: the chain stands, or this machine's clock is wrong",
            now.saturating_sub(block)
        ));
    }
    Ok(())
}

/// An upstream may come later, so this only warns.
async fn check_upstreams(gateway: &GatewayConfig, warnings: &mut Vec<String>) {
    let upstreams: BTreeSet<&str> = gateway.routes.iter().filter_map(|route| route.upstream.as_deref()).collect();
    for upstream in upstreams {
        let Ok(url) = reqwest::Url::parse(upstream) else { continue };
        let Some((host, port)) = url.host_str().zip(url.port_or_known_default()) else { continue };
        let host = host.trim_matches(['[', ']']);
        match tokio::time::timeout(UPSTREAM_WAIT, TcpStream::connect((host, port))).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warnings.push(format!("the upstream {upstream} cannot be reached now: {error}")),
            Err(_) => warnings.push(format!("the upstream {upstream} does not answer now")),
        }
    }
}

fn section<'a>(table: &'a mut Table, name: &str) -> CliResult<&'a mut Table> {
    let entry = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
    entry.as_table_mut().ok_or_else(|| wrong(format!("{name} is not a section")))
}

fn fill(table: &mut Table, key: &str, value: &str) {
    table.entry(key).or_insert_with(|| Value::String(value.to_owned()));
}

/// Fills a value in, or finds that what is written is another. Addresses are the same in any case.
fn agree(table: &mut Table, section: &str, key: &str, value: &str) -> CliResult<()> {
    match table.get(key).and_then(Value::as_str) {
        Some(written) if written != value && address_of(written).is_none_or(|written| Some(written) != address_of(value)) => {
            Err(wrong(format!("{section}.{key} is {written:?}, and must be {value:?}")).hint("correct it, or leave it out: it is known"))
        }
        _ => {
            fill(table, key, value);
            Ok(())
        }
    }
}

fn address_of(text: &str) -> Option<Address> {
    text.parse().ok()
}

fn address(payment: &Table, key: &str) -> CliResult<Address> {
    let text = payment.get(key).and_then(Value::as_str).unwrap_or_default();
    address_of(text).ok_or_else(|| wrong(format!("payment.{key} is {text:?}, expected an address: 0x and 40 hexadecimal digits")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_filled_in_and_what_is_written_must_agree() {
        let known = eip55(&Address::from_bytes([0xab; 20]));
        let mut table = Table::new();
        agree(&mut table, "payment.x402", "receiver_authorizer", &known).expect("filled in");
        assert_eq!(table["receiver_authorizer"].as_str(), Some(known.as_str()));
        for written in [known.clone(), known.to_lowercase()] {
            table.insert("receiver_authorizer".to_owned(), Value::String(written.clone()));
            agree(&mut table, "payment.x402", "receiver_authorizer", &known).expect("the same account");
            assert_eq!(table["receiver_authorizer"].as_str(), Some(written.as_str()));
        }
        for written in ["0x00000000000000000000000000000000000000aa", "nobody"] {
            table.insert("receiver_authorizer".to_owned(), Value::String(written.to_owned()));
            let error = agree(&mut table, "payment.x402", "receiver_authorizer", &known).expect_err(written);
            assert!(error.message.contains("payment.x402.receiver_authorizer") && error.hint.is_some(), "{}", error.message);
        }
    }

    #[test]
    fn a_section_that_is_none_is_named() {
        let mut table: Table = "payment = 3".parse().expect("TOML");
        assert!(section(&mut table, "payment").expect_err("a number").message.contains("payment is not a section"));
        assert!(section(&mut table, "chain").expect("made").is_empty());
    }
}
