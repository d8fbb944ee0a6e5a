//! The node's configuration: one TOML file, `MILLSTREAM_SECTION__KEY` overrides, unknown keys are errors.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use millstream_engine::escrow::EscrowConfig;
use millstream_policy::Policy;
use millstream_types::Address;
use serde::{Deserialize, Serialize};

/// The node's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Where the node listens and keeps its state.
    pub server: ServerSection,
    /// The chain and the ledger.
    pub chain: ChainSection,
    /// Epochs of the billing tree.
    #[serde(default)]
    pub billing: BillingSection,
    /// When to settle.
    #[serde(default)]
    pub settlement: SettlementSection,
    /// How to prove.
    #[serde(default)]
    pub prover: ProverSection,
    /// What payers may do.
    #[serde(default)]
    pub limits: LimitsSection,
    /// Deposits that payers sign and this node submits for them.
    #[serde(default)]
    pub relay: RelaySection,
    /// What the engine is told about escrows: whoever serves them derives it from what they are served by.
    #[serde(skip)]
    pub escrows: EscrowConfig,
    /// Who may spend what of HTTP 402: whoever serves it derives it from its own configuration. Without it nothing is decided.
    #[serde(skip)]
    pub policy: Option<Policy>,
}

/// `[server]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSection {
    /// Directory of the database, the certificate and the acknowledged head.
    pub data_dir: PathBuf,
    /// UDP address of the QUIC listener; goes with `chain.ledger`.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// TCP address of the admin listener: loopback only.
    pub admin_listen: SocketAddr,
    /// PEM certificate chain; without it the node makes a self-signed one, to be pinned by payers.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// PEM private key of the certificate.
    #[serde(default)]
    pub private_key: Option<PathBuf>,
}

/// `[chain]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainSection {
    /// JSON-RPC endpoint of an EVM node.
    pub rpc_url: String,
    /// The chain id that the endpoint must report.
    pub chain_id: u64,
    /// The ledger contract. Without one, the node keeps payments of HTTP 402 and nothing else: it has no listener for payers, settles nothing
    /// by proof and follows no ledger.
    #[serde(default)]
    pub ledger: Option<Address>,
    /// Block of the ledger's deployment: logs are read from here.
    #[serde(default)]
    pub start_block: u64,
    /// Depth at which a block counts: 1 is the newest block.
    #[serde(default = "default_confirmations")]
    pub confirmations: u64,
    /// Milliseconds between two reads of the chain.
    #[serde(default = "default_poll_millis")]
    pub poll_millis: u64,
    /// Nanos of the token that a whole coin of the chain is worth, by which gas is weighed wherever the node sends something; 0 does not weigh
    /// it.
    #[serde(default)]
    pub coin_nanos: u64,
    /// Key file of the operator, readable by its owner only: hexadecimal, a keystore, or a note of a remote signer.
    pub operator_key_file: PathBuf,
    /// File whose first line is the password of an encrypted key file; without it, the environment or the terminal gives it.
    #[serde(default)]
    pub operator_password_file: Option<PathBuf>,
    /// Directory of the proving keys; the default is under the user's cache directory.
    #[serde(default)]
    pub keys_dir: Option<PathBuf>,
}

/// `[billing]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BillingSection {
    /// Frames after which an epoch is cut.
    pub epoch_frames_max: u32,
    /// Seconds after its first frame at which an epoch is cut.
    pub epoch_secs_max: u64,
    /// Seconds for which the frames of an anchored epoch are kept, so that single payments can be proven; 0 keeps them for ever.
    pub retention_secs: u64,
}

/// `[settlement]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SettlementSection {
    /// Seconds between two settlements; 0 leaves them to `millstream settle run` and to the response window.
    pub interval_secs: u64,
    /// Part of the response window, in percent, after which the oldest request is served without being asked.
    pub serve_at_percent: u8,
    /// Nanos that a book must have to collect for the settlement at an interval to take it; one with a closing channel is taken in any
    /// case, and `millstream settle run` takes all.
    pub book_min_nanos: u64,
    /// Percent of what a settlement at an interval collects that its gas may cost, where gas is weighed.
    pub gas_percent_max: u8,
    /// Nanos from which a book is settled at an interval whatever gas costs; 0 for no such bound.
    pub book_risk_nanos_max: u64,
    /// Settlements within which moving channels together must save the gas that it costs; 0 moves nothing.
    pub compact_within_settlements: u32,
}

/// `[prover]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProverSection {
    /// Threads that prove; 0 for all cores but one, and one at least.
    pub threads: usize,
    /// Proofs that are made at once; each uses all the threads, so more than one pays from about sixteen on.
    pub jobs_max: usize,
    /// MiB that the proofs under way may take together, keys left aside.
    pub memory_mib_max: u64,
}

/// `[limits]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    /// Open connections.
    pub connections_max: usize,
    /// Channels on one connection.
    pub channels_per_connection_max: u16,
    /// Unanswered frames on one stream.
    pub frames_in_flight_max: u16,
    /// Seconds without traffic after which a connection is closed.
    pub idle_timeout_secs: u32,
}

/// `[relay]`. Gas is in gwei of the chain's coin; hours and days are the last 60 minutes and 24 hours.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelaySection {
    /// Whether deposits are relayed at all.
    pub enabled: bool,
    /// What a unit of gas may cost when a deposit is accepted and when it is sent.
    pub fee_gwei_max: u64,
    /// Gas that one deposit may take.
    pub gas_max: u64,
    /// What an hour may cost.
    pub hour_gwei_max: u64,
    /// What a day may cost.
    pub day_gwei_max: u64,
    /// What one funder may cost in a day.
    pub funder_day_gwei_max: u64,
    /// What one network address may cost in a day.
    pub peer_day_gwei_max: u64,
    /// Deposits in a day.
    pub day_relays_max: u16,
    /// Reverted transactions in a day after which a funder or a network address waits.
    pub reverts_day_max: u16,
    /// The least deposit, in nanos.
    pub deposit_nanos_min: u64,
    /// Part of a deposit, in percent, that its gas may be worth.
    pub gas_percent_max: u8,
    /// Deposits that are accepted and not confirmed.
    pub pending_max: u16,
    /// Those of them that are under way at once; more wait here.
    pub in_flight_max: u16,
    /// Seconds for which a signature must still be valid.
    pub validity_secs_min: u64,
    /// What the operator's account keeps for settlement.
    pub reserve_gwei_min: u64,
}

const fn default_confirmations() -> u64 {
    12
}

const fn default_poll_millis() -> u64 {
    1_000
}

impl Default for BillingSection {
    fn default() -> Self {
        Self { epoch_frames_max: 262_144, epoch_secs_max: 3_600, retention_secs: 0 }
    }
}

impl Default for SettlementSection {
    fn default() -> Self {
        Self {
            interval_secs: 0,
            serve_at_percent: 25,
            book_min_nanos: 0,
            gas_percent_max: 5,
            book_risk_nanos_max: 0,
            compact_within_settlements: 24,
        }
    }
}

impl Default for ProverSection {
    fn default() -> Self {
        Self { threads: 0, jobs_max: 1, memory_mib_max: 4_096 }
    }
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self { connections_max: 10_000, channels_per_connection_max: 256, frames_in_flight_max: 16, idle_timeout_secs: 60 }
    }
}

impl Default for RelaySection {
    fn default() -> Self {
        Self {
            enabled: true,
            fee_gwei_max: 20,
            gas_max: 600_000,
            hour_gwei_max: 20_000_000,
            day_gwei_max: 100_000_000,
            funder_day_gwei_max: 12_000_000,
            peer_day_gwei_max: 20_000_000,
            day_relays_max: 1_000,
            reverts_day_max: 2,
            deposit_nanos_min: 1_000_000_000,
            gas_percent_max: 10,
            pending_max: 16,
            in_flight_max: 4,
            validity_secs_min: 300,
            reserve_gwei_min: 50_000_000,
        }
    }
}

/// The sections, as overrides name them.
pub const SECTIONS: [&str; 7] = ["SERVER", "CHAIN", "BILLING", "SETTLEMENT", "PROVER", "LIMITS", "RELAY"];

impl NodeConfig {
    /// Reads a file, lays `MILLSTREAM_SECTION__KEY` variables over it, and checks the result.
    ///
    /// # Errors
    /// What is wrong, with the file's name.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the configuration {}", path.display()))?;
        Self::parse(&text, std::env::vars()).with_context(|| format!("in the configuration {}", path.display()))
    }

    fn parse(text: &str, variables: impl Iterator<Item = (String, String)>) -> anyhow::Result<Self> {
        let mut table: toml::Table = text.parse()?;
        lay_over(&mut table, &SECTIONS, variables)?;
        let config: Self = table.try_into()?;
        let missing = |key: &str, what: &str| format!("{key} is missing: {what} (without a ledger, `millstream gateway` is what runs)");
        anyhow::ensure!(config.chain.ledger.is_some(), missing("chain.ledger", "the address of the ledger contract"));
        anyhow::ensure!(config.server.listen.is_some(), missing("server.listen", "the UDP address of the QUIC listener"));
        config.check()?;
        Ok(config)
    }

    /// Whether every value can be used.
    ///
    /// # Errors
    /// The first that cannot, by its key.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.chain.ledger.is_some() == self.server.listen.is_some(),
            "chain.ledger and server.listen go together: payers connect to a node for its ledger"
        );
        anyhow::ensure!(
            self.server.admin_listen.ip().is_loopback(),
            "server.admin_listen is {}: the admin listener has no authentication and must be on loopback",
            self.server.admin_listen
        );
        anyhow::ensure!(self.chain.confirmations > 0, "chain.confirmations counts from 1, the newest block");
        anyhow::ensure!(self.billing.epoch_frames_max > 0, "billing.epoch_frames_max must not be 0");
        anyhow::ensure!(self.settlement.serve_at_percent <= 90, "settlement.serve_at_percent must leave time to prove: at most 90");
        anyhow::ensure!((1..=100).contains(&self.settlement.gas_percent_max), "settlement.gas_percent_max is 1 to 100");
        anyhow::ensure!(self.prover.jobs_max > 0, "prover.jobs_max must not be 0");
        anyhow::ensure!(self.prover.memory_mib_max >= 128, "prover.memory_mib_max is at least 128, what the smallest books take");
        anyhow::ensure!(self.chain.poll_millis >= 10, "chain.poll_millis is at least 10");
        anyhow::ensure!(self.billing.epoch_secs_max > 0, "billing.epoch_secs_max must not be 0");
        anyhow::ensure!(self.limits.frames_in_flight_max > 0, "limits.frames_in_flight_max must not be 0");
        anyhow::ensure!(self.limits.connections_max > 0, "limits.connections_max must not be 0");
        anyhow::ensure!(self.limits.channels_per_connection_max > 0, "limits.channels_per_connection_max must not be 0");
        anyhow::ensure!(self.limits.idle_timeout_secs > 0, "limits.idle_timeout_secs must not be 0");
        anyhow::ensure!(self.relay.gas_percent_max > 0, "relay.gas_percent_max must not be 0; relay.enabled = false relays nothing");
        anyhow::ensure!(self.relay.in_flight_max > 0, "relay.in_flight_max must not be 0; relay.enabled = false relays nothing");
        anyhow::ensure!(
            self.server.certificate.is_some() == self.server.private_key.is_some(),
            "server.certificate and server.private_key go together"
        );
        Ok(())
    }
}

/// Lays variables `MILLSTREAM_SECTION__KEY` over a configuration, and `MILLSTREAM_SECTION__PART__KEY` over a part of a section. `sections` are
/// the ones it has, in capitals; variables of others are somebody else's.
///
/// # Errors
/// A variable names a key of what is no section.
pub fn lay_over(table: &mut toml::Table, sections: &[&str], variables: impl Iterator<Item = (String, String)>) -> anyhow::Result<()> {
    for (name, value) in variables {
        let named = name.strip_prefix("MILLSTREAM_").and_then(|rest| rest.split_once("__"));
        let Some((section, path)) = named.filter(|(section, _)| sections.contains(section)) else { continue };
        let mut within = &mut *table;
        let (parts, key) = path.rsplit_once("__").map_or((None, path), |(parts, key)| (Some(parts), key));
        for part in [section].into_iter().chain(parts.into_iter().flat_map(|parts| parts.split("__"))) {
            let entry = within.entry(part.to_lowercase()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            within = entry.as_table_mut().with_context(|| format!("{name}: {} is not a section", part.to_lowercase()))?;
        }
        within.insert(key.to_lowercase(), override_value(&value));
    }
    Ok(())
}

/// An override is a TOML value when it reads as one, and otherwise a string.
fn override_value(text: &str) -> toml::Value {
    let parsed = format!("value = {text}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
        [server]
        data_dir = "data"
        listen = "127.0.0.1:0"
        admin_listen = "127.0.0.1:0"
        [chain]
        rpc_url = "http://127.0.0.1:8545"
        chain_id = 31337
        ledger = "0x0000000000000000000000000000000000000001"
        operator_key_file = "operator.key"
    "#;

    fn parse(text: &str, variables: &[(&str, &str)]) -> anyhow::Result<NodeConfig> {
        NodeConfig::parse(text, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn a_minimal_file_is_enough_and_variables_win() {
        let config = parse(MINIMAL, &[]).expect("complete");
        assert_eq!((config.chain.confirmations, config.limits.frames_in_flight_max), (12, 16));
        let variables = [
            ("MILLSTREAM_CHAIN__CONFIRMATIONS", "3"),
            ("MILLSTREAM_CHAIN__RPC_URL", "http://127.0.0.1:1"),
            ("MILLSTREAM_PROFILE", "x"),
            ("MILLSTREAM_PAYER__KEY_FILE", "y"),
        ];
        let config = parse(MINIMAL, &variables).expect("complete");
        assert_eq!((config.chain.confirmations, config.chain.rpc_url.as_str()), (3, "http://127.0.0.1:1"));
        assert!(config.relay.enabled);
        assert!(!parse(MINIMAL, &[("MILLSTREAM_RELAY__ENABLED", "false")]).expect("complete").relay.enabled);
    }

    #[test]
    fn unknown_keys_and_an_open_admin_listener_are_refused() {
        assert!(parse(&format!("{MINIMAL}\nretries = 3"), &[]).is_err());
        assert!(parse(MINIMAL, &[("MILLSTREAM_SERVER__LISTENN", "127.0.0.1:1")]).is_err());
        assert!(parse(MINIMAL, &[("MILLSTREAM_SERVER__ADMIN_LISTEN", "0.0.0.0:80")]).is_err());
        assert!(parse(MINIMAL, &[("MILLSTREAM_CHAIN__CONFIRMATIONS", "0")]).is_err());
        assert!(parse(MINIMAL, &[("MILLSTREAM_RELAY__IN_FLIGHT_MAX", "0")]).is_err());
    }

    #[test]
    fn a_file_without_a_ledger_says_what_runs_without_one() {
        let without = |line: &str| MINIMAL.lines().filter(|text| !text.trim_start().starts_with(line)).collect::<Vec<_>>().join("\n");
        for (line, key) in [("ledger", "chain.ledger"), ("listen", "server.listen")] {
            let error = parse(&without(line), &[]).expect_err(key).to_string();
            assert!(error.contains(key) && error.contains("millstream gateway"), "{error}");
        }
        let mut config = parse(MINIMAL, &[]).expect("complete");
        config.chain.ledger = None;
        assert!(config.check().expect_err("a listener for nobody").to_string().contains("server.listen"));
        config.server.listen = None;
        config.check().expect("payments of HTTP 402 only");
    }

    #[test]
    fn variables_reach_into_parts_of_sections() {
        let mut table: toml::Table = "[payment.x402]\na = 1\n[chain]\nb = 2".parse().expect("TOML");
        let variables = [("MILLSTREAM_PAYMENT__X402__A", "7"), ("MILLSTREAM_PAYMENT__MPP__C", "x"), ("MILLSTREAM_OTHER__D", "3")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        lay_over(&mut table, &["PAYMENT", "CHAIN"], variables.into_iter()).expect("laid over");
        assert_eq!(table, "[payment.x402]\na = 7\n[payment.mpp]\nc = 'x'\n[chain]\nb = 2".parse().expect("TOML"));
        let wrong = [("MILLSTREAM_CHAIN__B__C".to_owned(), "1".to_owned())];
        assert!(lay_over(&mut table, &["CHAIN"], wrong.into_iter()).expect_err("no section").to_string().contains("CHAIN__B__C"));
    }
}
