//! `doctor` finds what is wrong and names the remedy: one fault after the other is planted into what is sound.

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use common::Net;
use millstream_store::{RocksStore, SchemaVersion, StoreOptions};
use millstream_testkit::{Anvil, AnvilOptions, DEV_ACCOUNTS};
use millstream_voucher::evm::EvmSecretKey;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A public chain's id: what is tolerated on a development chain is not there.
const PUBLIC: u64 = 8_453;
/// Where the token is.
const TOKEN: &str = "0x00000000000000000000000000000000000000d4";
/// A key of nobody.
const KEY: [u8; 32] = [0x42; 32];

/// A sound gateway on a chain of its own.
struct Desk {
    directory: TempDir,
    chain: Anvil,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A chain with a token, and coins on the account of the key.
fn chain(arguments: &[&str]) -> Anvil {
    let mut options = AnvilOptions::default().with_chain_id(PUBLIC);
    options.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let chain = Anvil::spawn(&options).expect("anvil");
    let account = EvmSecretKey::from_bytes(&KEY).expect("a key").account().to_string();
    chain.call("anvil_setCode", &json!([TOKEN, "0x00"])).expect("a contract");
    chain.call("anvil_setBalance", &json!([account, "0xde0b6b3a7640000"])).expect("coins");
    chain
}

impl Desk {
    fn new() -> Self {
        let desk = Self { directory: TempDir::new().expect("a directory"), chain: chain(&[]) };
        desk.key("operator.key", &KEY);
        let config = format!(
            "[chain]\nrpc_url = {:?}\nchain_id = {PUBLIC}\noperator_key_file = {:?}\n[node]\ndata_dir = {:?}\nadmin_listen = \"127.0.0.1:0\"\n\
             [server]\nlisten = \"127.0.0.1:0\"\nconnections_max = 1000\n[payment]\nasset = \"{TOKEN}\"\n[payment.x402]\nwithdraw_delay_secs = 86400\n\
             [[route]]\npath = \"/*\"\nupstream = \"http://127.0.0.1:1\"\nprice = \"1 USDC / call\"\n",
            desk.chain.url(),
            desk.path("operator.key"),
            desk.path("data"),
        );
        std::fs::write(desk.path("gateway.toml"), config).expect("written");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn key(&self, name: &str, secret: &[u8; 32]) -> String {
        millstream_cli::profile::write_secret(&self.path(name), secret).expect("written");
        self.text(name)
    }

    /// What `doctor` says, and how it ends.
    fn examine(&self, variables: &BTreeMap<&str, String>, flags: &[&str]) -> (i32, Value) {
        examine(&self.path("gateway.toml"), variables, flags)
    }

    /// Plants a fault by variables and flags; it must be found, with a remedy and a command that has `word`.
    fn finds<const N: usize>(&self, check: &str, variables: [(&str, String); N], flags: &[&str], word: &str) {
        let (status, report) = self.examine(&BTreeMap::from(variables), flags);
        assert_found(status, &report, check, word);
    }
}

fn examine(config: &Path, variables: &BTreeMap<&str, String>, flags: &[&str]) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    // How full this machine's disk is is no part of the test.
    let free: &[&str] = if flags.contains(&"--disk-free-min") { &[] } else { &["--disk-free-min", "0"] };
    command.args(["doctor", "--config"]).arg(config).args(free).args(flags).envs(variables).stdin(Stdio::null());
    ended(&mut command)
}

fn ended(command: &mut Command) -> (i32, Value) {
    let output = command.output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let report = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().expect("a status"), report)
}

fn assert_found(status: i32, report: &Value, check: &str, word: &str) {
    assert_eq!(status, 5, "{check}: {report}");
    let faults = report["findings"].as_array().expect("findings").iter().filter(|finding| finding["state"] == "fault");
    let fault = faults.into_iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("no fault {check}: {report}"));
    let (remedy, command) = (fault["remedy"].as_str().expect("a remedy"), fault["command"].as_str().expect("a command"));
    assert!(!remedy.is_empty() && command.contains(word), "{check}: {fault}");
}

fn sound(status: i32, report: &Value) {
    assert_eq!((status, &report["faults"]), (0, &0.into()), "{report}");
}

#[test]
fn each_planted_fault_is_found_and_its_remedy_named() {
    let desk = Desk::new();
    let (status, report) = desk.examine(&BTreeMap::new(), &[]);
    sound(status, &report);
    let set = |key: &'static str, value: String| [(key, value)];

    // The configuration itself.
    let good = std::fs::read_to_string(desk.path("gateway.toml")).expect("text");
    std::fs::write(desk.path("gateway.toml"), format!("{good}retries = 3\n")).expect("written");
    desk.finds("config", [], &[], "millstream config show");
    std::fs::write(desk.path("gateway.toml"), good).expect("written");

    // The operator's key: read by others, not there, no key, a wrong password, one that everybody knows.
    std::fs::set_permissions(desk.path("operator.key"), std::fs::Permissions::from_mode(0o644)).expect("ours");
    desk.finds("key_file", [], &[], "chmod 600");
    std::fs::set_permissions(desk.path("operator.key"), std::fs::Permissions::from_mode(0o600)).expect("ours");
    const KEY_FILE: &str = "MILLSTREAM_CHAIN__OPERATOR_KEY_FILE";
    desk.finds("key_file", set(KEY_FILE, desk.text("none.key")), &[], "millstream key new");
    std::fs::copy(desk.path("gateway.toml"), desk.path("no.key")).expect("copied");
    std::fs::set_permissions(desk.path("no.key"), std::fs::Permissions::from_mode(0o600)).expect("ours");
    desk.finds("key_file", set(KEY_FILE, desk.text("no.key")), &[], "millstream key new");
    let made = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["key", "new", "locked", "--keys", &desk.text("keys")])
        .env("MILLSTREAM_PASSWORD", "right")
        .output()
        .expect("it runs");
    assert!(made.status.success());
    let wrong = [(KEY_FILE, desk.text("keys/locked.json")), ("MILLSTREAM_PASSWORD", "wrong".to_owned())];
    desk.finds("key_file", wrong, &[], "millstream key password locked");
    desk.finds("development_keys", set(KEY_FILE, desk.key("dev.key", &DEV_ACCOUNTS[0].secret)), &[], "millstream key new");
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let remote = format!(r#"{{"signer": "http://{gone}", "account": "{}"}}"#, DEV_ACCOUNTS[1].address);
    std::fs::write(desk.path("remote.key"), remote).expect("written");
    std::fs::set_permissions(desk.path("remote.key"), std::fs::Permissions::from_mode(0o600)).expect("ours");
    desk.finds("key_file", set(KEY_FILE, desk.text("remote.key")), &[], "publicKeys");

    // The chain: not there, another, without the contract, without coins.
    desk.finds("rpc", set("MILLSTREAM_CHAIN__RPC_URL", format!("http://{gone}")), &[], "millstream config show");
    desk.finds("chain_id", set("MILLSTREAM_CHAIN__CHAIN_ID", "1".to_owned()), &[], "millstream config show");
    let nothing = "0xffffffffffffffffffffffffffffffffffffffff".to_owned();
    desk.finds("contract", set("MILLSTREAM_PAYMENT__ASSET", nothing), &[], "millstream config show");
    desk.finds("coins", set(KEY_FILE, desk.key("poor.key", &[0x43; 32])), &[], "cast send");
    desk.finds("coins", [], &["--coins-min", "2000000000000000000"], "cast send");

    // The machine: ports, disk, descriptors.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    desk.finds("port", set("MILLSTREAM_SERVER__LISTEN", address), &[], "ss -ltnp");
    desk.finds("disk_free", [], &["--disk-free-min", "99999999999"], "df -h");
    File::create(desk.path("file")).expect("made");
    desk.finds("disk_sync", set("MILLSTREAM_NODE__DATA_DIR", desk.text("file/data")), &[], "ls -ld");
    let script = "ulimit -n 256; exec \"$0\" doctor --config \"$1\"";
    let (status, report) = ended(
        Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_millstream"), &desk.text("gateway.toml")])
            .stdin(Stdio::null()),
    );
    assert_found(status, &report, "open_files", "ulimit -n");
}

#[test]
fn a_database_of_another_build_or_owner_and_one_in_use_are_told_apart() {
    let desk = Desk::new();
    let data = |name: &str| [("MILLSTREAM_NODE__DATA_DIR", desk.text(name))];
    // Another build's.
    drop(RocksStore::open(&desk.path("other/db"), &StoreOptions { log_bytes: 0, ..StoreOptions::new(SchemaVersion(999)) }).expect("made"));
    desk.finds("database", data("other"), &[], "millstream --version");
    // In use, by something that is no node.
    std::fs::create_dir_all(desk.path("used/db/db")).expect("made");
    let mut lock = File::create(desk.path("used/db/lock")).expect("made");
    lock.lock().expect("ours");
    writeln!(lock, "{}", std::process::id()).expect("written");
    desk.finds("database", data("used"), &[], &format!("kill {}", std::process::id()));
    // Its head is gone.
    drop(RocksStore::open(&desk.path("cut/db"), &StoreOptions { log_bytes: 0, ..StoreOptions::new(SchemaVersion(2)) }).expect("made"));
    std::fs::remove_file(desk.path("cut/db/head")).expect("ours");
    desk.finds("database", data("cut"), &[], "millstream restore");
}

#[test]
fn certificates_that_are_over_or_of_another_key_are_found() {
    let desk = Desk::new();
    let write = |name: &str, text: String| std::fs::write(desk.path(name), text).expect("written");
    let (key, other) = (rcgen::KeyPair::generate().expect("a key"), rcgen::KeyPair::generate().expect("a key"));
    let certificate = |until: i32| {
        let mut params = rcgen::CertificateParams::new(vec!["node.example".to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        params.self_signed(&key).expect("signed").pem()
    };
    write("good.pem", certificate(2_200));
    write("old.pem", certificate(2_021));
    write("key.pem", key.serialize_pem());
    write("other.pem", other.serialize_pem());
    let pair =
        |chain: &str, key: &str| [("MILLSTREAM_NODE__CERTIFICATE", desk.text(chain)), ("MILLSTREAM_NODE__PRIVATE_KEY", desk.text(key))];
    let (status, report) = desk.examine(&BTreeMap::from(pair("good.pem", "key.pem")), &[]);
    sound(status, &report);
    desk.finds("certificate", pair("old.pem", "key.pem"), &[], "openssl x509");
    desk.finds("certificate", pair("good.pem", "other.pem"), &[], "openssl");
    desk.finds("certificate", pair("gateway.toml", "key.pem"), &[], "openssl x509");
    desk.finds("certificate", pair("none.pem", "key.pem"), &[], "openssl x509");
}

#[test]
fn a_chain_that_stands_and_one_that_is_ahead_are_found() {
    let desk = Desk::new();
    let standing = chain(&["--timestamp", "1600000000"]);
    desk.finds("chain_lag", [("MILLSTREAM_CHAIN__RPC_URL", standing.url())], &[], "timedatectl");
    desk.chain.call("evm_setNextBlockTimestamp", &json!([now() + 7_200])).expect("set");
    desk.chain.mine(1).expect("mined");
    desk.finds("clock", [], &[], "timedatectl set-ntp");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_is_sound_and_a_wrong_operator_or_ledger_is_found() {
    let net = Net::start().await;
    let config = net.dev.info().node_config;
    let (status, report) = examine(&config, &BTreeMap::new(), &[]);
    sound(status, &report);
    assert!(report.to_string().contains("which answers on"), "{report}");
    let buyer = net.directory.path().join("buyer.key").display().to_string();
    let (status, report) = examine(&config, &BTreeMap::from([("MILLSTREAM_CHAIN__OPERATOR_KEY_FILE", buyer)]), &[]);
    assert_found(status, &report, "operator", "millstream key list");
    let nothing = "0xffffffffffffffffffffffffffffffffffffffff".to_owned();
    let (status, report) = examine(&config, &BTreeMap::from([("MILLSTREAM_CHAIN__LEDGER", nothing)]), &[]);
    assert_found(status, &report, "contract", "millstream deploy");
}
