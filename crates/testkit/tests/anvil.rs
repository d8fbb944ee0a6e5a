//! A real anvil: starts, answers, and does not outlive its handle.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use millstream_testkit::{Anvil, AnvilError, AnvilOptions, DEV_ACCOUNTS, Mining};
use serde_json::{Value, json};

fn spawn(options: &AnvilOptions) -> Anvil {
    Anvil::spawn(options).unwrap_or_else(|error| panic!("{error}"))
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().expect("text").trim_start_matches("0x"), 16).expect("hexadecimal")
}

#[test]
fn it_has_the_chain_id_and_the_accounts_that_were_asked_for() {
    let anvil = spawn(&AnvilOptions::default().with_chain_id(1_337));
    assert_eq!(number(&anvil.call("eth_chainId", &json!([])).expect("answered")), 1_337);
    let accounts = anvil.call("eth_accounts", &json!([])).expect("answered");
    let expected: Vec<Value> = DEV_ACCOUNTS.iter().map(|account| json!(account.address.to_string())).collect();
    assert_eq!(accounts, Value::Array(expected));
}

#[test]
fn blocks_are_made_only_when_asked_in_manual_mode() {
    let anvil = spawn(&AnvilOptions::default().with_mining(Mining::Manual));
    anvil.mine(3).expect("mined");
    assert_eq!(number(&anvil.call("eth_blockNumber", &json!([])).expect("answered")), 3);
}

#[test]
fn the_process_ends_with_its_handle() {
    let anvil = spawn(&AnvilOptions::default());
    let address: std::net::SocketAddr = anvil.url().trim_start_matches("http://").parse().expect("an address");
    assert!(TcpStream::connect(address).is_ok());
    drop(anvil);
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "still listening");
        std::thread::yield_now();
    }
}

#[test]
fn a_bad_argument_is_reported_with_what_anvil_said() {
    let options = AnvilOptions { arguments: vec!["--no-such-flag".to_owned()], ..AnvilOptions::default() };
    match Anvil::spawn(&options) {
        Err(AnvilError::Exited { output, .. }) => assert!(output.contains("--no-such-flag"), "{output}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it started"),
    }
}
