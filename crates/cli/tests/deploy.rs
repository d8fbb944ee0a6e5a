//! `millstream deploy` on anvil: a dry run, a run, the same again, the manifest and what it catches, and what is refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use millstream_node::NodeConfig;
use millstream_testkit::{Anvil, AnvilOptions, DEV_ACCOUNTS};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A chain, a plan for it, and a key with coins.
struct World {
    anvil: Anvil,
    directory: TempDir,
}

/// How a command ended, with its one JSON document.
#[derive(Debug)]
struct Ended {
    status: i32,
    document: Value,
}

impl World {
    fn new(chain_id: u64, keys: &str) -> Self {
        let anvil = Anvil::spawn(&AnvilOptions::default().with_chain_id(chain_id)).unwrap_or_else(|error| panic!("{error}"));
        let world = Self { anvil, directory: TempDir::new().expect("a directory") };
        millstream_cli::profile::write_secret(&world.path("deployer.key"), &DEV_ACCOUNTS[0].secret).expect("written");
        let (provider, operator) = (DEV_ACCOUNTS[1].address, DEV_ACCOUNTS[2].address);
        let plan = format!(
            "rpc = \"{}\"\nprovider = \"{provider}\"\noperator = \"{operator}\"\ntoken = \"test-usdc\"\nresponse_window_secs = 86400\n\
             halt_window_secs = 604800\ndeposit_min = \"0.001\"\ntiers = [24]\nkeys = \"{keys}\"\nkey_file = \"deployer.key\"\n",
            world.anvil.url()
        );
        std::fs::write(world.path("plan.toml"), plan).expect("written");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs `millstream deploy` where the manifest goes by default.
    fn deploy(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.current_dir(self.directory.path()).arg("deploy").args(arguments);
        let output = command.stdin(std::process::Stdio::null()).output().expect("the binary runs");
        let status = output.status.code().expect("an exit status");
        // A check that comes out negative has its result and its error.
        let bytes = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
        let document = serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)));
        Ended { status, document }
    }

    fn plan(&self, arguments: &[&str]) -> Ended {
        self.deploy(&[&["--plan", "plan.toml"], arguments].concat())
    }

    fn verify(&self, manifest: &Path) -> Ended {
        self.deploy(&["verify", manifest.to_str().expect("text"), "--rpc", &self.anvil.url()])
    }

    /// Transactions of the deployer, and blocks.
    fn state(&self) -> (Value, Value) {
        let account = DEV_ACCOUNTS[0].address.to_string();
        let nonce = self.anvil.call("eth_getTransactionCount", &json!([account, "pending"])).expect("a nonce");
        (nonce, self.anvil.call("eth_blockNumber", &json!([])).expect("a number"))
    }

    fn refused(&self, arguments: &[&str], status: i32, code: &str) {
        let before = self.state();
        let ended = self.plan(arguments);
        assert_eq!((ended.status, &ended.document["error"]["code"]), (status, &json!(code)), "{arguments:?}: {}", ended.document);
        assert_eq!(self.state(), before, "{arguments:?}: something was sent");
    }
}

fn addresses(contracts: &Value) -> Vec<String> {
    let contracts = contracts.as_array().expect("contracts").iter();
    contracts.map(|contract| contract["address"].as_str().expect("an address").to_owned()).collect()
}

fn subjects(ended: &Ended) -> Vec<String> {
    let differences = ended.document["differences"].as_array().expect("differences").iter();
    differences.map(|difference| difference["subject"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn a_plan_is_simulated_deployed_repeated_and_verified() {
    let world = World::new(31_337, "insecure-development");
    let before = world.state();
    let from = DEV_ACCOUNTS[5].address.to_string();
    let dry = world.plan(&["--dry-run", "--from", &from]);
    assert_eq!((dry.status, &dry.document["from"]), (0, &json!(from)), "{}", dry.document);
    assert_eq!(world.state(), before);
    let contracts = dry.document["contracts"].as_array().expect("contracts");
    assert!(contracts.iter().all(|contract| contract["present"] == "missing" && contract["gas"].is_u64()), "{contracts:?}");
    assert_eq!((contracts.len(), &contracts[5]["simulated"]), (6, &json!("assumed")));
    assert_eq!((&dry.document["gas_is_complete"], dry.document["cost_wei"].is_string()), (&json!(true), true));
    let planned = addresses(&dry.document["contracts"]);

    // Nobody is there to confirm; a file is in the way.
    world.refused(&[], 2, "confirmation_missing");
    world.refused(&["--yes", "--out", "plan.toml"], 2, "file_exists");
    world.refused(&["--yes", "--node-config", "plan.toml"], 2, "file_exists");
    world.refused(&["--yes", "--chain-id", "5"], 3, "wrong_chain");
    world.refused(&["--yes", "--token", &from], 3, "token_missing");
    world.refused(&["--yes", "--halt-window-secs", "86400"], 2, "plan");

    let run = world.plan(&["--yes", "--node-config", "node.toml"]);
    assert_eq!((run.status, &run.document["outcome"]), (0, &json!("deployed")), "{}", run.document);
    assert_eq!(run.document["transactions"], json!(6));
    let manifest = &run.document["manifest"];
    let tier = &manifest["tiers"][0];
    let made = [&manifest["token"], &tier["settle"], &tier["register"], &manifest["book_paths"], &manifest["factory"], &manifest["ledger"]];
    assert_eq!(made.iter().map(|entry| entry["address"].as_str().expect("an address")).collect::<Vec<_>>(), planned);
    assert!(made[1..].iter().all(|entry| entry["transaction"].is_string()), "{manifest}");
    assert_eq!(manifest["ledger"]["deposit_min_nanos"], json!("1000000"));

    // The manifest has a name of its own for each ledger, and the node's configuration is one.
    let path = world.path(&format!("deployment-31337-{}.json", planned[5]));
    let written: Value = serde_json::from_slice(&std::fs::read(&path).expect("written")).expect("JSON");
    assert_eq!(written, *manifest);
    let config = NodeConfig::load(&world.path("node.toml")).expect("a configuration");
    assert_eq!(config.chain.ledger.expect("a ledger").to_string(), planned[5]);
    assert_eq!((json!(config.chain.start_block), config.chain.chain_id), (manifest["ledger"]["start_block"].clone(), 31_337));

    // The same again sends nothing, needs no confirmation, and keeps the transactions.
    let before = world.state();
    let again = world.plan(&[]);
    assert_eq!((again.status, &again.document["outcome"]), (0, &json!("already_there")), "{}", again.document);
    assert_eq!((world.state(), &again.document["manifest"]), (before, manifest));
    let dry = world.plan(&["--dry-run"]);
    assert_eq!((dry.status, &dry.document["gas"], &dry.document["contracts"][5]["present"]), (0, &json!(0), &json!("there")));

    let verified = world.verify(&path);
    assert_eq!((verified.status, &verified.document["holds"]), (0, &json!(true)), "{}", verified.document);
    assert_eq!(verified.document["operator"], json!(DEV_ACCOUNTS[2].address));

    // Another salt is another ledger of the same factory, and another manifest.
    let salt = format!("0x{}", "01".repeat(32));
    let second = world.plan(&["--yes", "--salt", &salt]);
    assert_eq!((second.status, &second.document["transactions"]), (0, &json!(1)), "{}", second.document);
    assert_eq!(second.document["manifest"]["factory"]["address"], manifest["factory"]["address"]);
    assert_ne!(second.document["ledger"], manifest["ledger"]["address"]);

    changed_manifests_are_caught(&world, manifest);
    changed_chains_are_caught(&world, &path, manifest);
}

fn changed_manifests_are_caught(world: &World, manifest: &Value) {
    let path = world.path("changed.json");
    let other = "0x00000000000000000000000000000000000000aa";
    let hash = format!("0x{}", "01".repeat(32));
    let cases = [
        ("/chain_id", json!(31_338), "chain id"),
        ("/block_hash", json!(hash), "block "),
        ("/deployer", json!(other), "manifest: deployer"),
        ("/keys", json!("production"), "manifest: verifying key of settle-24"),
        ("/token/decimals", json!(7), "token: decimals"),
        ("/token/address", json!(other), "ledger: token"),
        ("/ledger/address", json!(other), "manifest: address of the ledger"),
        ("/ledger/code_hash", json!(hash), "manifest: code of the ledger"),
        ("/ledger/provider", json!(other), "ledger: provider"),
        ("/ledger/first_operator", json!(other), "ledger factory: address of these terms and salt"),
        ("/ledger/response_window_secs", json!(1), "ledger: response window"),
        ("/ledger/halt_window_secs", json!(604_801), "ledger: halt window"),
        ("/ledger/deposit_min_nanos", json!("1"), "ledger: minimum deposit"),
        ("/ledger/salt", json!(hash), "ledger factory: address of these terms and salt"),
        ("/ledger/start_block", json!(0), "manifest: start block"),
        ("/ledger/transaction", manifest["factory"]["transaction"].clone(), "manifest: transaction of the ledger: called"),
        ("/factory/address", json!(other), "manifest: address of the ledger factory"),
        ("/book_paths/code_hash", json!(hash), "book paths: code"),
        ("/tiers/0/slots", json!(48), "manifest: circuit"),
        ("/tiers/0/empty_root", json!(hash), "manifest: empty root of 24 slots"),
        ("/tiers/0/settle/circuit_digest", json!(hash), "manifest: digest of settle-24"),
        ("/tiers/0/settle/key_hash", json!(hash), "verifier of settle-24: key hash"),
        ("/tiers/0/register/verifying_key/21", json!(hash), "manifest: verifying key of register-24"),
        ("/tiers/0/register/address", json!(other), "manifest: address of the verifier of register-24"),
    ];
    for (pointer, value, subject) in cases {
        let mut changed = manifest.clone();
        *changed.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        std::fs::write(&path, changed.to_string()).expect("written");
        let ended = world.verify(&path);
        assert_eq!((ended.status, &ended.document["holds"]), (5, &json!(false)), "{pointer}: {}", ended.document);
        assert!(subjects(&ended).iter().any(|found| found.starts_with(subject)), "{pointer}: {:?}", subjects(&ended));
    }
    for (pointer, value) in [("/manifest_version", json!(2)), ("/token", json!({})), ("/ledger/deposit_min_nanos", json!("01"))] {
        let mut changed = manifest.clone();
        *changed.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        std::fs::write(&path, changed.to_string()).expect("written");
        let ended = world.verify(&path);
        assert_eq!((ended.status, &ended.document["error"]["code"]), (2, &json!("manifest")), "{pointer}");
    }
}

fn changed_chains_are_caught(world: &World, path: &Path, manifest: &Value) {
    let verifier = &manifest["tiers"][0]["settle"]["address"];
    let code = world.anvil.call("eth_getCode", &json!([verifier, "latest"])).expect("code");
    // A verifier that says yes to everything.
    world.anvil.call("anvil_setCode", &json!([verifier, "0x600160005260206000f3"])).expect("set");
    let found = subjects(&world.verify(path));
    assert!(found.iter().any(|subject| subject.starts_with("verifier of settle-24: code")), "{found:?}");
    assert!(found.contains(&"verifier of settle-24: key hash".to_owned()), "{found:?}");
    world.refused(&["--yes"], 3, "foreign_code");
    world.anvil.call("anvil_setCode", &json!([verifier, code])).expect("set");
    assert_eq!(world.verify(path).status, 0);
}

#[test]
fn keys_that_must_not_be_there_are_refused_first() {
    // No proxy, no token: the keys come before every other question.
    let world = World::new(5, "insecure-development");
    let proxy = millstream_chain::CREATE2_PROXY.to_string();
    world.anvil.call("anvil_setCode", &json!([proxy, "0x"])).expect("set");
    world.refused(&["--yes"], 3, "insecure_keys");
    world.refused(&["--dry-run"], 3, "insecure_keys");
    // No production key is pinned in this release; this line goes with the first.
    world.refused(&["--yes", "--keys", "production"], 3, "key_not_pinned");
}

#[test]
fn a_chain_without_the_proxy_is_refused() {
    let world = World::new(1_337, "insecure-development");
    let proxy = millstream_chain::CREATE2_PROXY.to_string();
    world.anvil.call("anvil_setCode", &json!([proxy, "0x"])).expect("set");
    world.refused(&["--yes"], 3, "no_deployment_proxy");
    world.anvil.call("anvil_setCode", &json!([proxy, "0x6000"])).expect("set");
    world.refused(&["--yes"], 3, "foreign_code");
}
