//! Openings and top-ups by payers without coins, relayed by a real node on a real chain.

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{Net, secret};
use millstream_chain::{
    ChainKey, DepositPurpose, OpenRequest, Payer, RelayedDeposit, SignedDeposit, Submitter, SubmitterOptions, VoucherKeyWitness,
    coin_balance, mint, place_development_permit2,
};
use millstream_cli::profile;
use millstream_transport::{ChannelStream, CloseCode, Connection, StreamError};
use millstream_types::{Address, Amount, ChainId, Hash256, LedgerId, Timestamp};
use millstream_wire::{ErrorCode, NodeMessage, PayerMessage, Refused, Relay, RelayPurpose, RelayStage, RelayWay};
use serde_json::{Value, json};

/// Five USDC.
const FIVE: u128 = 5_000_000;
const FAR: Timestamp = Timestamp::from_millis(4_000_000_000_000);

/// An account with tokens and without a coin.
struct Poor {
    key: ChainKey,
    seed: u8,
}

impl Poor {
    async fn new(net: &Net, seed: u8) -> Self {
        let key = ChainKey::from_bytes(&[seed; 32]).expect("a key");
        mint(&net.dev.buyer, net.dev.info().token, key.address(), 1_000_000_000).await.expect("minted");
        assert_eq!(coin_balance(net.dev.ledger.rpc(), key.address()).await, Ok(0));
        Self { key, seed }
    }

    /// A profile of its own.
    fn profile(&self, net: &Net) -> PathBuf {
        let directory = net.directory.path();
        let (path, key_file) = (directory.join(format!("poor-{}.toml", self.seed)), directory.join(format!("poor-{}.key", self.seed)));
        let mut own = net.dev.profile.clone();
        profile::write_secret(&key_file, &[self.seed; 32]).expect("written");
        own.payer.key_file = Some(key_file);
        own.payer.state_file = Some(directory.join(format!("poor-{}.state", self.seed)));
        profile::save(&own, &path).expect("written");
        path
    }

    /// The opening of a channel, signed by authorization.
    async fn opening(&self, net: &Net, salt: u8) -> Relay {
        let voucher_key = secret(self.seed);
        let witness = voucher_key.witness();
        let key = VoucherKeyWitness { x: voucher_key.public_key().x(), qx: witness.x, qy: witness.y };
        let purpose = DepositPurpose::Open(OpenRequest { key, salt: [salt; 32], deposit_base_units: FIVE });
        let signed = RelayedDeposit::authorize(&net.dev.ledger, &self.key, purpose, FAR).await.expect("signed");
        let SignedDeposit::Authorization { valid_after_secs, valid_before_secs, signature } = signed.signed else { panic!("another way") };
        Relay {
            ledger: net.dev.ledger.id(),
            funder: self.key.address(),
            base_units: Amount::from_units(FIVE),
            purpose: RelayPurpose::Open { key_x: key.x, key_qx: key.qx, key_qy: key.qy, salt: [salt; 32] },
            way: RelayWay::Authorization { valid_after_secs, valid_before_secs },
            signature,
        }
    }
}

/// Runs `millstream ARGUMENTS`: exit status, standard output, and the error's JSON when there is one.
fn run(net: &Net, profile: &PathBuf, arguments: &str) -> (i32, Value, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .arg("--profile")
        .arg(profile)
        .args(arguments.split_whitespace())
        .current_dir(net.directory.path())
        .output()
        .expect("the command runs");
    let json = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let error = String::from_utf8_lossy(&output.stderr);
    let error = error.lines().find(|line| line.starts_with('{')).map_or(Value::Null, |line| json(line.as_bytes()));
    (output.status.code().expect("an exit status"), json(&output.stdout), error)
}

/// Changes `[relay]` of the node's configuration and starts it again.
async fn configure(net: &mut Net, settings: &[(&str, toml::Value)]) {
    configure_at(net, settings, 0).await;
}

/// As [`configure`], with what a coin of the chain is worth.
async fn configure_at(net: &mut Net, settings: &[(&str, toml::Value)], coin_nanos: i64) {
    let path = net.dev.info().node_config;
    let mut config: toml::Table = std::fs::read_to_string(&path).expect("read").parse().expect("TOML");
    let mut relay = toml::Table::try_from(millstream_node::RelaySection::default()).expect("a table");
    for (key, value) in settings {
        relay.insert((*key).to_owned(), value.clone());
    }
    config.insert("relay".to_owned(), relay.into());
    config["chain"].as_table_mut().expect("a table").insert("coin_nanos".to_owned(), coin_nanos.into());
    std::fs::write(&path, config.to_string()).expect("written");
    net.dev.node.stop().expect("the node stops");
    restart(net).await;
}

/// Starts the node again, and waits until it has read the chain.
async fn restart(net: &mut Net) {
    net.dev.node.restart().expect("the node starts again");
    let ready = format!("{}/readyz", net.dev.info().admin_url);
    net.wait_for("the chain to be read", async || reqwest::get(&ready).await.is_ok_and(|answer| answer.status().is_success()))
        .await;
}

fn chain(net: &Net, method: &str, parameters: Value) -> Value {
    tokio::task::block_in_place(|| net.dev.anvil.call(method, &parameters)).expect("anvil answers")
}

/// Waits until the chain's node has so many transactions that no block has: what a relay's funder is told as sent is on its way there.
async fn pooled(net: &Net, transactions: u64) {
    let expected = format!("{transactions:#x}");
    net.wait_for("the transactions to be in the pool", async || {
        chain(net, "txpool_status", json!([]))["pending"].as_str() == Some(&expected)
    })
    .await;
}

async fn operator_nonce(net: &Net) -> u64 {
    let operator = net.admin.status().await.expect("status").operator;
    let nonce = chain(net, "eth_getTransactionCount", json!([operator.to_string(), "latest"]));
    u64::from_str_radix(nonce.as_str().expect("text").trim_start_matches("0x"), 16).expect("hexadecimal")
}

/// A stream with one request on it.
async fn ask(connection: &Connection, relay: &Relay) -> ChannelStream {
    let mut stream = connection.open_channel().await.expect("a stream");
    stream.writer.queue_payer(&PayerMessage::Relay(Box::new(relay.clone()))).expect("a message");
    stream.writer.flush().await.expect("written");
    stream
}

async fn hear(stream: &mut ChannelStream) -> NodeMessage {
    let message = stream.reader.next().await.expect("the stream lives").expect("an answer");
    NodeMessage::decode(&message).expect("a message")
}

/// Listens until a stage, and returns the stages up to it.
async fn hear_until(stream: &mut ChannelStream, is_meant: impl Fn(&RelayStage) -> bool) -> Vec<RelayStage> {
    let mut stages = Vec::new();
    loop {
        match hear(stream).await {
            NodeMessage::Relayed(relayed) => stages.push(relayed.stage),
            other => panic!("after {stages:?}: {other:?}"),
        }
        if stages.last().is_some_and(&is_meant) {
            return stages;
        }
    }
}

const fn is_confirmed(stage: &RelayStage) -> bool {
    matches!(stage, RelayStage::Confirmed { .. })
}

async fn refusal(stream: &mut ChannelStream) -> Refused {
    match hear(stream).await {
        NodeMessage::Refused(refused) => *refused,
        other => panic!("not a refusal: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_without_coins_opens_tops_up_and_pays_in_each_way() {
    let net = Net::start().await;
    let rpc = net.dev.ledger.rpc().clone();
    place_development_permit2(&rpc).await.expect("placed");
    let poor = Poor::new(&net, 7).await;
    let account = poor.key.address();
    // Only for the one approval that Permit2 needs.
    let set_coins = |wei: &str| chain(&net, "anvil_setBalance", json!([account.to_string(), wei]));
    set_coins("0xde0b6b3a7640000");
    let lane = Submitter::new(rpc.clone(), poor.key.clone(), SubmitterOptions::for_development());
    Payer::new(net.dev.ledger.clone(), lane).approve_permit2(1_000_000_000).await.expect("approved");
    set_coins("0x0");
    let profile = poor.profile(&net);

    // A contract account that takes every signature (ERC-1271): only the chain can tell.
    let wallet = Address::from_bytes([0xc0; 20]);
    chain(&net, "anvil_setCode", json!([wallet.to_string(), "0x631626ba7e60e01b60005260206000f3"]));
    mint(&net.dev.buyer, net.dev.info().token, wallet, FIVE).await.expect("minted");
    let contract = Relay { funder: wallet, signature: vec![1, 2, 3], ..poor.opening(&net, 1).await };
    hear_until(&mut ask(&net.connect().await, &contract).await, is_confirmed).await;

    // Without a way named, the best one.
    for (index, way, expected) in [
        (0, "", "authorization"),
        (1, "--with permit", "permit"),
        (2, "--with permit2", "permit2"),
        (3, "--with authorization", "authorization"),
    ] {
        let (status, opened, error) = run(&net, &profile, &format!("channel open --deposit 5 --gasless {way}"));
        assert_eq!(status, 0, "{way}: {error}");
        assert_eq!((&opened["way"], &opened["deposit"], &opened["key"]), (&expected.into(), &"5000000000".into(), &"stored".into()));
        let channel = opened["channel"].as_str().expect("an id");
        let (status, topped_up, error) = run(&net, &profile, &format!("channel topup {channel} --amount 1 --gasless {way}"));
        assert_eq!(status, 0, "{way}: {error}");
        assert_eq!((&topped_up["way"], &topped_up["deposit"]), (&expected.into(), &"6000000000".into()), "{topped_up}");
        assert_ne!(opened["transaction"], topped_up["transaction"]);
        let (status, paid, error) = run(&net, &profile, &format!("pay --channel {channel} --amount 0.055 --count 100"));
        assert_eq!(status, 0, "{way}: {error}");
        assert!(!paid.is_null(), "{paid}");
        let status = net.admin.status().await.expect("status");
        let relay = status.relay.expect("relaying");
        assert_eq!((relay.day_relays, relay.day_reverted, relay.pending), ((index + 1) * 2 + 1, 0, 0));
        assert!(relay.hour_gwei > 0 && relay.hour_gwei == relay.day_gwei);
    }
    assert_eq!(coin_balance(&rpc, account).await, Ok(0));
    let relays = net.admin.relays().await.expect("relays");
    assert!(relays.iter().all(|relay| relay.stage == "confirmed"), "{relays:?}");
    assert_eq!(relays.iter().filter(|relay| relay.kind == "open" && relay.funder == account).count(), 4);

    // What the token does not have cannot be asked for; what the account does not have is found here.
    let (status, _, error) = run(&net, &profile, "channel open --deposit 5000 --gasless");
    assert_eq!((status, &error["error"]["code"]), (3, &"funds_missing".into()));
    let (status, _, _) = run(&net, &profile, "channel open --deposit 5 --with permit");
    assert_eq!(status, 2);
    net.admin.settle_run().await.expect("settled");
    let credit = net.dev.ledger.credit(net.dev.info().provider).await.expect("a credit");
    assert_eq!(credit, Amount::from_nanos(4 * 5_500_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_transaction_however_often_it_is_asked() {
    let mut net = Net::start().await;
    let poor = Poor::new(&net, 8).await;
    let (nonce, relay) = (operator_nonce(&net).await, poor.opening(&net, 1).await);
    let connection = net.connect().await;
    let (mut first, mut second) = (ask(&connection, &relay).await, ask(&connection, &relay).await);
    let (first, second) = tokio::join!(hear_until(&mut first, is_confirmed), hear_until(&mut second, is_confirmed));
    assert_eq!(first.last(), second.last());
    net.dev.node.kill().expect("the node dies");
    restart(&mut net).await;
    let connection = net.connect().await;
    let again = hear_until(&mut ask(&connection, &relay).await, is_confirmed).await;
    assert_eq!(again, [*first.last().expect("a stage")]);
    assert_eq!(operator_nonce(&net).await, nonce + 1);
    // The same deposit under another signature is another request, and the ledger's to refuse.
    let way = RelayWay::Authorization { valid_after_secs: 1, valid_before_secs: FAR.as_secs_down() };
    let refused = refusal(&mut ask(&connection, &Relay { way, ..relay }).await).await;
    assert_eq!(refused.code, ErrorCode::BadSignature);
    assert_eq!(operator_nonce(&net).await, nonce + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_with_its_code_and_costs_nothing() {
    let mut net = Net::start().await;
    let poor = Poor::new(&net, 9).await;
    let connection = net.connect().await;
    let nonce = operator_nonce(&net).await;
    let good = poor.opening(&net, 1).await;
    let mut bad_signature = good.clone();
    bad_signature.signature[9] ^= 1;
    let short_signature = Relay { signature: vec![1; 3], ..good.clone() };
    let other_funder = Relay { funder: Address::from_bytes([1; 20]), ..good.clone() };
    let more = Relay { base_units: Amount::from_units(FIVE + 1), ..good.clone() };
    let expired = RelayWay::Authorization { valid_after_secs: 0, valid_before_secs: 1_000 };
    let early = RelayWay::Authorization { valid_after_secs: 3_900_000_000, valid_before_secs: 4_000_000_000 };
    let contract = Relay { funder: net.dev.info().token, ..good.clone() };
    for (what, relay, code) in [
        ("a bad signature", bad_signature, ErrorCode::BadSignature),
        ("a short one", short_signature, ErrorCode::BadSignature),
        ("another funder", other_funder, ErrorCode::BadSignature),
        ("another amount", more, ErrorCode::BadSignature),
        ("a contract that signs nothing", contract, ErrorCode::BadSignature),
        ("expired", Relay { way: expired, ..good.clone() }, ErrorCode::RelayExpiring),
        ("not yet valid", Relay { way: early, ..good.clone() }, ErrorCode::RelayExpiring),
        (
            "another ledger",
            Relay { ledger: LedgerId { contract: Address::from_bytes([9; 20]), ..good.ledger }, ..good.clone() },
            ErrorCode::WrongLedger,
        ),
        ("another chain", Relay { ledger: LedgerId { chain: ChainId::new(1), ..good.ledger }, ..good.clone() }, ErrorCode::WrongChain),
        ("a small deposit", Relay { base_units: Amount::from_units(999_999), ..good.clone() }, ErrorCode::RelayDepositTooSmall),
    ] {
        let refused = refusal(&mut ask(&connection, &relay).await).await;
        assert_eq!((refused.code, refused.transaction), (code, Hash256::from_bytes([0; 32])), "{what}");
    }
    // No other message before or after it has a place on its stream.
    let mut stream = ask(&connection, &Relay { signature: vec![1], ..good.clone() }).await;
    refusal(&mut stream).await;
    let mut payer = common::RawPayer::new(&connection, secret(9), good.ledger, millstream_types::ChannelId::from_uid(&[1; 31])).await;
    payer.attach().await;
    payer.stream.writer.queue_payer(&PayerMessage::Relay(Box::new(good.clone()))).expect("a message");
    payer.stream.writer.flush().await.expect("written");
    let closed = payer.stream.reader.next().await;
    assert_eq!(closed, Err(StreamError::ClosedByPeer { code: CloseCode::Error(ErrorCode::Malformed) }));
    assert!(connection.close_reason().is_none());
    assert_eq!(operator_nonce(&net).await, nonce);

    // Each limit of the operator's.
    let (huge, one) = (toml::Value::Integer(i64::MAX), toml::Value::Integer(1));
    let zero = toml::Value::Integer(0);
    for (setting, value, code, bound) in [
        ("enabled", toml::Value::Boolean(false), ErrorCode::RelayDisabled, 0),
        ("validity_secs_min", huge.clone(), ErrorCode::RelayExpiring, i64::MAX as u64),
        ("deposit_nanos_min", toml::Value::Integer(5_000_000_001), ErrorCode::RelayDepositTooSmall, 5_000_000_001),
        ("gas_max", toml::Value::Integer(100_000), ErrorCode::RelayTooCostly, 100_000),
        ("hour_gwei_max", one.clone(), ErrorCode::RelayTooCostly, 0),
        ("funder_day_gwei_max", one.clone(), ErrorCode::RelayTooCostly, 0),
        ("peer_day_gwei_max", one.clone(), ErrorCode::RelayTooCostly, 0),
        ("fee_gwei_max", zero.clone(), ErrorCode::RelayGasPrice, 0),
        ("reserve_gwei_min", huge.clone(), ErrorCode::RelayBudgetSpent, 0),
        ("pending_max", zero.clone(), ErrorCode::Overloaded, 0),
    ] {
        configure(&mut net, &[(setting, value)]).await;
        let connection = net.connect().await;
        let refused = refusal(&mut ask(&connection, &good).await).await;
        assert_eq!((refused.code, refused.bound), (code, bound), "{setting}");
    }
    assert_eq!(operator_nonce(&net).await, nonce);
    // A coin worth a million tokens: the gas of an opening is worth more than a tenth of five.
    configure_at(&mut net, &[], 1_000_000_000_000_000).await;
    let refused = refusal(&mut ask(&net.connect().await, &good).await).await;
    assert_eq!(refused.code, ErrorCode::RelayDepositTooSmall);
    assert!(refused.bound > 5_000_000_000, "{}", refused.bound);
    // One a day; it stays spent through a restart.
    configure(&mut net, &[("day_relays_max", one)]).await;
    hear_until(&mut ask(&net.connect().await, &good).await, is_confirmed).await;
    for _ in 0..2 {
        let refused = refusal(&mut ask(&net.connect().await, &poor.opening(&net, 2).await).await).await;
        assert_eq!(refused.code, ErrorCode::RelayBudgetSpent);
        assert!((86_000..=86_400).contains(&refused.retry_after_secs), "{}", refused.retry_after_secs);
        net.dev.node.kill().expect("the node dies");
        restart(&mut net).await;
    }
    // What the contracts would refuse says why: the tokens are gone.
    configure(&mut net, &[]).await;
    let broke = ChainKey::from_bytes(&[10; 32]).expect("a key");
    let refused = refusal(&mut ask(&net.connect().await, &Poor { key: broke, seed: 10 }.opening(&net, 1).await).await).await;
    assert_eq!(refused.code, ErrorCode::RelayReverts);
    let reason = millstream_chain::Revert::decode(&refused.revert);
    assert_eq!(reason.name(), Some("ERC20InsufficientBalance"), "{reason}");
    assert_eq!(operator_nonce(&net).await, nonce + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_with_promises_keeps_each_with_one_transaction() {
    // Whether the pool forgets meanwhile.
    for pool_forgets in [false, true] {
        let mut net = Net::start().await;
        configure(&mut net, &[("in_flight_max", toml::Value::Integer(1))]).await;
        let (one, other) = (Poor::new(&net, 11).await, Poor::new(&net, 12).await);
        let (sent, promised) = (one.opening(&net, 1).await, other.opening(&net, 1).await);
        let nonce = operator_nonce(&net).await;
        chain(&net, "evm_setAutomine", json!([false]));
        let connection = net.connect().await;
        let mut stream = ask(&connection, &sent).await;
        let stages = hear_until(&mut stream, |stage| matches!(stage, RelayStage::Sent { .. })).await;
        let Some(RelayStage::Sent { transaction }) = stages.last().copied() else { panic!("{stages:?}") };
        // Promised, durably, and not sent: there is one place.
        let stages = hear_until(&mut ask(&connection, &promised).await, |stage| matches!(stage, RelayStage::Accepted)).await;
        assert_eq!(stages, [RelayStage::Accepted]);
        let budget = net.admin.status().await.expect("status").relay.expect("relaying").hour_gwei;
        net.dev.node.kill().expect("the node dies");
        if pool_forgets {
            chain(&net, "anvil_dropAllTransactions", json!([]));
        }

        restart(&mut net).await;
        let relay = net.admin.status().await.expect("status").relay.expect("relaying");
        assert_eq!((relay.pending, relay.hour_gwei), (2, budget), "what was promised is remembered");
        chain(&net, "evm_setAutomine", json!([true]));
        chain(&net, "evm_mine", json!([]));
        let connection = net.connect().await;
        let (mut first, mut second) = (ask(&connection, &sent).await, ask(&connection, &promised).await);
        let (first, _) = tokio::join!(hear_until(&mut first, is_confirmed), hear_until(&mut second, is_confirmed));
        match first.last() {
            Some(RelayStage::Confirmed { transaction: mined, .. }) => assert_eq!(*mined, transaction, "the same transaction"),
            other => panic!("{other:?}"),
        }
        assert_eq!(operator_nonce(&net).await, nonce + 2);
        let relay = net.admin.status().await.expect("status").relay.expect("relaying");
        assert!(relay.hour_gwei < budget && relay.pending == 0, "what was spent replaces what was promised");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reverted_relay_counts_and_is_answered_the_same() {
    let mut net = Net::start().await;
    configure(&mut net, &[("reverts_day_max", toml::Value::Integer(1))]).await;
    let poor = Poor::new(&net, 13).await;
    let relay = poor.opening(&net, 1).await;
    let nonce = operator_nonce(&net).await;
    chain(&net, "evm_setAutomine", json!([false]));
    let connection = net.connect().await;
    let mut stream = ask(&connection, &relay).await;
    hear_until(&mut stream, |stage| matches!(stage, RelayStage::Sent { .. })).await;
    pooled(&net, 1).await;
    // The funder's tokens are gone when its turn comes: it had coins after all, and its own transaction pays more.
    chain(&net, "anvil_setBalance", json!([poor.key.address().to_string(), "0xde0b6b3a7640000"]));
    let mut data = vec![0xa9, 0x05, 0x9c, 0xbb];
    data.extend([[0; 12].as_slice(), &[1; 20], &[0; 24], &1_000_000_000u64.to_be_bytes()].concat());
    let from = poor.key.address().to_string();
    chain(&net, "anvil_impersonateAccount", json!([from]));
    let away = json!({
        "from": from, "to": net.dev.info().token.to_string(), "data": format!("0x{}", hex::encode(data)), "gas": "0x30d40",
        "maxFeePerGas": "0x174876e800", "maxPriorityFeePerGas": "0x2540be400",
    });
    chain(&net, "eth_sendTransaction", json!([away]));
    pooled(&net, 2).await;
    chain(&net, "evm_mine", json!([]));
    let refused = loop {
        match hear(&mut stream).await {
            NodeMessage::Refused(refused) => break refused,
            NodeMessage::Relayed(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused.code, ErrorCode::RelayReverted);
    assert_ne!(refused.transaction, Hash256::from_bytes([0; 32]));
    chain(&net, "evm_setAutomine", json!([true]));
    // The same request, the same answer; another one has to wait until tomorrow.
    assert_eq!(refusal(&mut ask(&connection, &relay).await).await, *refused);
    mint(&net.dev.buyer, net.dev.info().token, poor.key.address(), 1_000_000_000).await.expect("minted");
    assert_eq!(refusal(&mut ask(&connection, &poor.opening(&net, 2).await).await).await.code, ErrorCode::RelayQuotaSpent);
    // Everybody at this address, too.
    let neighbour = Poor::new(&net, 14).await;
    assert_eq!(refusal(&mut ask(&connection, &neighbour.opening(&net, 1).await).await).await.code, ErrorCode::RelayQuotaSpent);
    assert_eq!(operator_nonce(&net).await, nonce + 1);
    let relay = net.admin.status().await.expect("status").relay.expect("relaying");
    assert_eq!((relay.day_relays, relay.day_reverted), (1, 1));
    assert!(relay.day_gwei > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn settlement_does_not_wait_for_relays() {
    let mut net = Net::start().await;
    configure(&mut net, &[("in_flight_max", toml::Value::Integer(1))]).await;
    net.open(&secret(1), 1, FIVE).await;
    let nonce = operator_nonce(&net).await;
    let mut funders = Vec::new();
    for seed in 15..19 {
        funders.push(Poor::new(&net, seed).await);
    }
    chain(&net, "evm_setAutomine", json!([false]));
    let connection = net.connect().await;
    let mut streams = Vec::new();
    for (index, funder) in funders.iter().enumerate() {
        let mut stream = ask(&connection, &funder.opening(&net, 1).await).await;
        let is_first = index == 0;
        hear_until(&mut stream, |stage| matches!(stage, RelayStage::Sent { .. }) || (!is_first && *stage == RelayStage::Accepted)).await;
        streams.push(stream);
    }
    // One relay is under way and three wait when the settlement comes: its transaction is the next.
    let admin = net.admin.clone();
    let settling = tokio::spawn(async move { admin.settle_run().await });
    let pooled = || chain(&net, "txpool_status", json!([]))["pending"].as_str().map(str::to_owned);
    // A proof may take longer than `wait_for` waits.
    while pooled().as_deref() != Some("0x2") && !settling.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let waiting = net.admin.relays().await.expect("relays").into_iter().filter(|relay| relay.stage == "accepted").count();
    assert_eq!(waiting, 3);
    chain(&net, "evm_setAutomine", json!([true]));
    chain(&net, "evm_mine", json!([]));
    let run = settling.await.expect("no panic").expect("settled");
    let hash = &run.transactions[0].hash;
    let transaction = chain(&net, "eth_getTransactionByHash", json!([hash]));
    assert_eq!(transaction["nonce"].as_str(), Some(format!("{:#x}", nonce + 1).as_str()));
    for stream in &mut streams {
        hear_until(stream, is_confirmed).await;
    }
    assert_eq!(operator_nonce(&net).await, nonce + 4 + run.transactions.len() as u64);
}
