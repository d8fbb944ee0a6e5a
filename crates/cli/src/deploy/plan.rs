//! What is to be deployed: a TOML file, flags over it, and nothing of a ledger's terms by default, because they can never be changed.

use core::str::FromStr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use millstream_chain::{DeployPlan, KeyProvenance, TierPlan, TokenChoice};
use millstream_circuit::{Book, BookSize, field_to_word};
use millstream_prover::{CircuitId, KeyPins, ProverError, VerifierKey, insecure_dev_verifier_key};
use millstream_types::{Address, Amount, ChainId, Hash256};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{CliError, CliResult, chain_of};

/// Where the verifying keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum KeySource {
    /// Those of a ceremony that are pinned in this version
    Production,
    /// Development keys, with which anyone can forge proofs: on the chain ids 31337 and 1337 only
    InsecureDevelopment,
}

impl KeySource {
    /// As the chain's side calls it.
    #[must_use]
    pub const fn provenance(self) -> KeyProvenance {
        match self {
            Self::Production => KeyProvenance::Ceremony,
            Self::InsecureDevelopment => KeyProvenance::InsecureDevelopment,
        }
    }
}

/// A token: an address, or on development chains one of the test tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub TokenChoice);

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "test-usdc" => Ok(Self(TokenChoice::TestUsdc)),
            "test-usdt" => Ok(Self(TokenChoice::TestUsdt)),
            address => {
                let wrong = |_| "expected the address of a token, or on a development chain test-usdc or test-usdt".to_owned();
                address.parse().map(|address| Self(TokenChoice::Existing(address))).map_err(wrong)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Whole tokens, exact to the nano; zero is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens(pub Amount);

impl FromStr for Tokens {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let amount = Amount::parse_tokens(text).map_err(|error| error.to_string())?;
        amount.to_u64().map(|_| Self(amount)).map_err(|error| error.to_string())
    }
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The plan as the command line gives it; each flag goes before the file's key of the same name.
#[derive(Args, Clone, Debug, Default)]
pub struct PlanArgs {
    /// The plan: a TOML file with the keys that the flags below are called after
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// JSON-RPC endpoint of the chain; the plan's, else the profile's without this
    #[arg(long, value_name = "URL")]
    pub rpc: Option<String>,
    /// Refuse an endpoint of any other chain
    #[arg(long, value_name = "N")]
    pub chain_id: Option<u64>,
    /// Whom settlements pay. Never changes
    #[arg(long, value_name = "ADDRESS")]
    pub provider: Option<Address>,
    /// Who may settle and register, until the provider names another
    #[arg(long, value_name = "ADDRESS")]
    pub operator: Option<Address>,
    /// The token, or test-usdc or test-usdt on a development chain. Never changes
    #[arg(long, value_name = "ADDRESS")]
    pub token: Option<Token>,
    /// Seconds that the provider has to answer a payer's request; at most 30 days. Never changes
    #[arg(long, value_name = "SECONDS")]
    pub response_window_secs: Option<u64>,
    /// Seconds until a request that nobody serves lets anyone halt the ledger; at most 365 days. Never changes
    #[arg(long, value_name = "SECONDS")]
    pub halt_window_secs: Option<u64>,
    /// What an opening or a top-up must deposit at least, in whole tokens; 0 for no minimum. Never changes
    #[arg(long, value_name = "AMOUNT")]
    pub deposit_min: Option<Tokens>,
    /// Sizes of book: 24, 48, 96, 192 or 384 slots, several with commas, in the order of their tiers. Never change
    #[arg(long, value_name = "SLOTS", value_delimiter = ',')]
    pub tiers: Vec<usize>,
    /// Tells ledgers of equal terms apart: 32 bytes in hexadecimal digits; zeros without this
    #[arg(long, value_name = "HEX")]
    pub salt: Option<Hash256>,
    /// Where the verifying keys come from; production without this
    #[arg(long, value_enum)]
    pub keys: Option<KeySource>,
    /// Directory of the pinned keys' files
    #[arg(long, value_name = "DIR")]
    pub keys_dir: Option<PathBuf>,
    /// File with the key of the account that pays the gas; the plan's, else the profile's payer.key_file without this
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// The plan's file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PlanFile {
    rpc: Option<String>,
    chain_id: Option<u64>,
    provider: Option<Address>,
    operator: Option<Address>,
    token: Option<Token>,
    response_window_secs: Option<u64>,
    halt_window_secs: Option<u64>,
    deposit_min: Option<Tokens>,
    tiers: Vec<usize>,
    salt: Option<Hash256>,
    keys: Option<KeySource>,
    keys_dir: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

/// A complete plan, but for the keys themselves.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The endpoint.
    pub rpc_url: String,
    /// The only chain that will do, if one was named.
    pub chain_id: Option<ChainId>,
    /// Where the keys come from.
    pub keys: KeySource,
    /// Where the account's key is; `None` for the profile's.
    pub key_file: Option<PathBuf>,
    provider: Address,
    operator: Address,
    token: TokenChoice,
    response_window_secs: u64,
    halt_window_secs: u64,
    deposit_min: Amount,
    salt: Hash256,
    sizes: Vec<BookSize>,
    keys_dir: Option<PathBuf>,
}

/// A plan with its keys.
#[derive(Clone, Debug)]
pub struct KeyedPlan {
    /// For the chain.
    pub deploy: DeployPlan,
    /// The keys of `settle-N` and `register-N`, by tier.
    pub keys: Vec<[VerifierKey; 2]>,
}

impl PlanArgs {
    /// The plan of file and flags.
    ///
    /// # Errors
    /// The file cannot be read or is wrong, or the plan lacks something.
    pub fn resolve(&self, context: &Context) -> CliResult<Plan> {
        let file = self.plan.as_deref().map(read).transpose()?.unwrap_or_default();
        let rpc_url = match self.rpc.clone().or(file.rpc) {
            Some(url) => url,
            None => context.profile()?.rpc_url()?.to_owned(),
        };
        let mut missing = Vec::new();
        let provider = given(self.provider.or(file.provider), "provider", &mut missing);
        let operator = given(self.operator.or(file.operator), "operator", &mut missing);
        let token = given(self.token.or(file.token), "token", &mut missing);
        let response_window_secs = given(self.response_window_secs.or(file.response_window_secs), "response-window-secs", &mut missing);
        let halt_window_secs = given(self.halt_window_secs.or(file.halt_window_secs), "halt-window-secs", &mut missing);
        let deposit_min = given(self.deposit_min.or(file.deposit_min), "deposit-min", &mut missing);
        let tiers = if self.tiers.is_empty() { file.tiers } else { self.tiers.clone() };
        let tiers = given((!tiers.is_empty()).then_some(tiers), "tiers", &mut missing);
        let (
            Some(provider),
            Some(operator),
            Some(Token(token)),
            Some(response_window_secs),
            Some(halt_window_secs),
            Some(Tokens(deposit_min)),
            Some(tiers),
        ) = (provider, operator, token, response_window_secs, halt_window_secs, deposit_min, tiers)
        else {
            return Err(CliError::usage("plan_incomplete", format!("the plan does not say: {}", missing.join(", ")))
                .hint("the terms of a ledger never change, so none has a default; give flags or a file with --plan"));
        };
        Ok(Plan {
            rpc_url,
            chain_id: self.chain_id.or(file.chain_id).map(ChainId::new),
            keys: self.keys.or(file.keys).unwrap_or(KeySource::Production),
            key_file: self.key_file.clone().or(file.key_file),
            provider,
            operator,
            token,
            response_window_secs,
            halt_window_secs,
            deposit_min,
            salt: self.salt.or(file.salt).unwrap_or(Hash256::from_bytes([0; 32])),
            sizes: sizes(&tiers)?,
            keys_dir: self.keys_dir.clone().or(file.keys_dir),
        })
    }
}

/// Remembers what is missing.
fn given<T>(value: Option<T>, name: &'static str, missing: &mut Vec<&'static str>) -> Option<T> {
    if value.is_none() {
        missing.push(name);
    }
    value
}

/// Reads the plan's file. Relative paths in it are relative to it.
fn read(path: &Path) -> CliResult<PlanFile> {
    let wrong = |what: String| CliError::usage("plan", format!("the plan {}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let mut file: PlanFile = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    for path in [&mut file.keys_dir, &mut file.key_file].into_iter().flatten() {
        *path = directory.join(&*path);
    }
    Ok(file)
}

fn sizes(tiers: &[usize]) -> CliResult<Vec<BookSize>> {
    let mut sizes: Vec<BookSize> = Vec::new();
    for slots in tiers {
        let size = BookSize::STANDARD.into_iter().find(|size| size.to_usize() == *slots);
        let size = size.ok_or_else(|| CliError::usage("tiers", format!("there are no books of {slots} slots: 24, 48, 96, 192 or 384")))?;
        if sizes.contains(&size) {
            return Err(CliError::usage("tiers", format!("books of {slots} slots are planned twice")));
        }
        sizes.push(size);
    }
    Ok(sizes)
}

impl Plan {
    /// Loads or makes the verifying keys: seconds of work for each circuit.
    ///
    /// # Errors
    /// A key is not pinned, not there, or not what is pinned.
    pub fn with_keys(&self) -> CliResult<KeyedPlan> {
        let (mut tiers, mut keys) = (Vec::new(), Vec::new());
        for size in &self.sizes {
            let pair = [self.key(CircuitId::settle(*size))?, self.key(CircuitId::register(*size))?];
            let [settle_key, register_key] = [pair[0].words, pair[1].words];
            tiers.push(TierPlan { slots: size.slots(), empty_root: field_to_word(Book::empty_root(*size)), settle_key, register_key });
            keys.push(pair);
        }
        let deploy = DeployPlan {
            provenance: self.keys.provenance(),
            provider: self.provider,
            operator: self.operator,
            response_window_secs: self.response_window_secs,
            halt_window_secs: self.halt_window_secs,
            deposit_min: self.deposit_min,
            token: self.token,
            salt: *self.salt.as_bytes(),
            tiers,
        };
        Ok(KeyedPlan { deploy, keys })
    }

    fn key(&self, circuit: CircuitId) -> CliResult<VerifierKey> {
        let key = match self.keys {
            KeySource::InsecureDevelopment => insecure_dev_verifier_key(circuit),
            KeySource::Production => {
                let directory = self.keys_dir.clone().map_or_else(millstream_prover::default_keys_dir, Ok).map_err(key_error)?;
                VerifierKey::pinned(circuit, &directory, KeyPins::committed())
            }
        };
        key.map_err(key_error)
    }
}

fn key_error(error: ProverError) -> CliError {
    let message = chain_of(&error);
    match error {
        ProverError::NotPinned { .. } => CliError::refused("key_not_pinned", message)
            .hint("no production key is pinned in this version; on a development chain, --keys insecure-development"),
        ProverError::PublicChain { .. } => CliError::refused("insecure_keys", message),
        ProverError::KeyMismatch { .. } => CliError::check_failed("key_mismatch", message),
        ProverError::Degenerate { .. } => CliError::check_failed("degenerate_key", message),
        ProverError::KeyFile { .. } | ProverError::NoKeysDir { .. } => {
            CliError::usage("key_file", message).hint("--keys-dir names the directory that `millstream ceremony finish` wrote")
        }
        _ => CliError::failed("keys", message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::GlobalArgs;

    const COMPLETE: &str = r#"
        rpc = "http://127.0.0.1:1"
        provider = "0x00000000000000000000000000000000000000aa"
        operator = "0x00000000000000000000000000000000000000bb"
        token = "test-usdc"
        response_window_secs = 86400
        halt_window_secs = 604800
        deposit_min = "0.001"
        tiers = [24, 96]
        keys = "insecure-development"
        key_file = "deployer.key"
    "#;

    fn resolve(text: &str, args: PlanArgs) -> CliResult<Plan> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("plan.toml");
        std::fs::write(&path, text).expect("written");
        let context = Context::new(&GlobalArgs { quiet: true, ..GlobalArgs::default() });
        PlanArgs { plan: Some(path), ..args }.resolve(&context)
    }

    #[test]
    fn flags_go_before_the_file() {
        let plan = resolve(COMPLETE, PlanArgs::default()).expect("complete");
        assert_eq!((plan.token, plan.deposit_min), (TokenChoice::TestUsdc, Amount::from_nanos(1_000_000)));
        assert_eq!(plan.sizes.iter().map(|size| size.slots()).collect::<Vec<_>>(), [24, 96]);
        assert_eq!((plan.keys, plan.salt), (KeySource::InsecureDevelopment, Hash256::from_bytes([0; 32])));
        assert!(plan.key_file.expect("a file").is_absolute(), "relative to the plan's file");

        let token = Address::from_bytes([7; 20]);
        let args = PlanArgs {
            token: Some(Token(TokenChoice::Existing(token))),
            tiers: vec![384],
            deposit_min: Some("0".parse().expect("an amount")),
            keys: Some(KeySource::Production),
            ..PlanArgs::default()
        };
        let plan = resolve(COMPLETE, args).expect("complete");
        assert_eq!((plan.token, plan.sizes.len(), plan.deposit_min), (TokenChoice::Existing(token), 1, Amount::ZERO));
        assert_eq!(plan.keys, KeySource::Production);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let check = |text: &str, code: &str, says: &str| {
            let error = resolve(text, PlanArgs::default()).expect_err(says);
            assert_eq!((error.code.as_str(), error.exit), (code, crate::error::Exit::Usage), "{error}");
            assert!(error.message.contains(says), "{error}");
        };
        let without = |key: &str| COMPLETE.lines().filter(|line| !line.trim().starts_with(key)).collect::<Vec<_>>().join("\n");
        check(&without("provider"), "plan_incomplete", "provider");
        check(&without("deposit_min"), "plan_incomplete", "deposit-min");
        check("rpc = \"http://127.0.0.1:1\"", "plan_incomplete", "provider, operator, token, response-window-secs");
        check(&COMPLETE.replace("[24, 96]", "[25]"), "tiers", "25 slots");
        check(&COMPLETE.replace("[24, 96]", "[24, 24]"), "tiers", "twice");
        check(&COMPLETE.replace("\"0.001\"", "0.001"), "plan", "deposit_min");
        check(&COMPLETE.replace("test-usdc", "usdc"), "plan", "expected the address of a token");
        check(&format!("{COMPLETE}\nprovdier = 1"), "plan", "provdier");
    }

    #[test]
    fn a_key_that_is_not_pinned_is_refused() {
        let plan = resolve(COMPLETE, PlanArgs { keys: Some(KeySource::Production), ..PlanArgs::default() }).expect("complete");
        if KeyPins::committed().iter().next().is_none() {
            let error = plan.with_keys().expect_err("nothing is pinned");
            assert_eq!((error.exit, error.code.as_str()), (crate::error::Exit::Refused, "key_not_pinned"));
        }
    }
}
