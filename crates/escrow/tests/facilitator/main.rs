//! The facilitator from its HTTP API to the chain: real gateway, node, contracts and chain; no client but HTTP.

mod shop;
#[path = "../support/mod.rs"]
mod support;

use millstream_chain::PERMIT2;
use millstream_chain::x402::EXACT_PERMIT2_PROXY;
use millstream_dialect::Object;
use millstream_dialect::x402::{BatchCommand, BatchPayload, PaymentRequirements, SettleResponse};
use millstream_testkit::DEV_ACCOUNTS;
use millstream_types::{Address, ChainId, Hash256, Uint256};
use millstream_voucher::evm::{
    ChannelConfig, Permit2Domain, Permit2Transfer, TokenPermissions, TransferAuthorization, TransferKind, TransferWitness, eip55,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use shop::{AUTHORIZER, Shop, bare, body, claim, offer, payer_of, refund, row, sweep, told, told_after};
use support::{Chain, DELAY_SECS, OPERATOR, PAYER, Payer, Plan, RECEIVER, secret, total, units, until};

const PREFIX: &str = "invalid_batch_settlement_evm_";

/// Transactions that the facilitator's account ever sent.
async fn sent(chain: &Chain) -> Value {
    chain.call("eth_getTransactionCount", json!([DEV_ACCOUNTS[OPERATOR].address, "pending"])).await
}

fn word(reason: Option<&String>) -> &str {
    let reason = reason.map(String::as_str).unwrap_or_default();
    reason.strip_prefix(PREFIX).unwrap_or(reason)
}

fn ok(settled: &SettleResponse) {
    assert!(settled.success, "{settled:?}");
    assert_eq!(settled.network, "eip155:31337");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_lives_by_verify_and_settle() {
    let (chain, directory) = (Chain::start().await, tempfile::tempdir().expect("a directory"));
    let shop = Shop::start(&chain, directory.path(), "").await;
    let (mut payer, offer) = (payer_of(&chain, PAYER, AUTHORIZER), offer(&chain, 1_000, AUTHORIZER));
    let address = Some(eip55(&payer.config.payer));
    let before = [chain.balance(payer.config.payer).await, chain.balance(DEV_ACCOUNTS[RECEIVER].address).await];

    // F-1: what is said of the facilitator.
    let supported: Value = shop.client.get(shop.url("/supported")).send().await.expect("answered").json().await.expect("JSON");
    let operator = eip55(&DEV_ACCOUNTS[OPERATOR].address);
    assert_eq!(supported["kinds"][0]["scheme"], "batch-settlement");
    assert_eq!(supported["kinds"][0]["extra"]["receiverAuthorizer"], json!(operator));
    assert_eq!(supported["kinds"][1]["scheme"], "exact");
    assert_eq!(supported["signers"]["eip155:*"], json!([operator]));

    // A voucher without a channel; then a deposit, looked at twice and made once.
    let refused = shop.verify(&payer.paying(1_000), &offer).await;
    assert_eq!((refused.is_valid, word(refused.invalid_reason.as_ref())), (false, "channel_not_found"));
    let funding = payer.funding(1_000, 5_000);
    for _ in 0..2 {
        let verified = shop.verify(&funding, &offer).await;
        assert!(verified.is_valid, "{verified:?}");
        assert_eq!((verified.payer.clone(), told(&verified.extra)), (address.clone(), (units(0), total(0), Uint256::ZERO)));
    }
    let first = shop.settle(&funding, &offer).await;
    ok(&first);
    assert_eq!((first.payer.clone(), first.amount.as_deref()), (address.clone(), Some("5000")));
    assert_eq!(told_after(&first), (units(5_000), total(0), Uint256::ZERO));
    let count = sent(&chain).await;
    // F-9: asked for again, it is told again.
    assert_eq!(shop.settle(&funding, &offer).await, first);
    assert_eq!((sent(&chain).await, chain.state(payer.channel).await), (count.clone(), (5_000, 0)));
    // Looked at again, it is refused: the token has seen it.
    let refused = shop.verify(&shop::with_voucher(&payer, 2_000, &funding), &offer).await;
    assert_eq!(word(refused.invalid_reason.as_ref()), "deposit_simulation_failed");

    let verified = shop.verify(&payer.paying(4_000), &offer).await;
    assert!(verified.is_valid, "{verified:?}");
    assert_eq!(told(&verified.extra), (units(5_000), total(0), Uint256::ZERO));

    // The server claims what it charged, and has it swept.
    let nothing = shop.command(&sweep(&chain), &bare(&chain), None).await;
    assert_eq!(word(nothing.error_reason.as_ref()), "nothing_to_settle");
    let claiming = claim(vec![row(&payer, 4_000, 3_700)], Some(AUTHORIZER));
    let claimed = shop.command(&claiming, &bare(&chain), None).await;
    ok(&claimed);
    assert_eq!((claimed.amount.as_deref(), claimed.payer.as_ref()), (Some(""), None));
    assert_eq!(shop.command(&claiming, &bare(&chain), None).await, claimed);
    assert_eq!(chain.state(payer.channel).await, (5_000, 3_700));
    // F-10: rows that claim nothing new cost no gas.
    let count = sent(&chain).await;
    let again = shop.command(&claim(vec![row(&payer, 4_000, 3_600)], Some(AUTHORIZER)), &bare(&chain), None).await;
    assert_eq!((again.success, again.transaction.as_str(), sent(&chain).await), (true, "", count));
    let swept = shop.command(&sweep(&chain), &bare(&chain), None).await;
    ok(&swept);
    assert_eq!(swept.amount.as_deref(), Some("3700"));
    assert_eq!(shop.command(&sweep(&chain), &bare(&chain), None).await, swept);

    // A refund of a part, then of all that is left, with what has to be claimed before.
    let part = shop
        .command(&refund(&payer, 4_000, 300, 0, vec![row(&payer, 4_000, 4_000)], Some(AUTHORIZER)), &bare(&chain), None)
        .await;
    ok(&part);
    assert_eq!((part.payer.clone(), part.amount.as_deref()), (address, Some("300")));
    assert_eq!(told_after(&part), (units(4_700), total(4_000), Uint256::from(1u64)));
    let rest = refund(&payer, 4_000, 9_999, 1, Vec::new(), Some(AUTHORIZER));
    let refunded = shop.command(&rest, &bare(&chain), None).await;
    ok(&refunded);
    assert_eq!(refunded.amount.as_deref(), Some("700"));
    assert_eq!(shop.command(&rest, &bare(&chain), None).await, refunded);
    let swept = shop.command(&sweep(&chain), &bare(&chain), None).await;
    assert_eq!(swept.amount.as_deref(), Some("300"));
    let after = [chain.balance(payer.config.payer).await, chain.balance(DEV_ACCOUNTS[RECEIVER].address).await];
    assert_eq!(after, [before[0] - 4_000, before[1] + 4_000]);
    let empty = shop.command(&refund(&payer, 4_000, 1, 2, Vec::new(), Some(AUTHORIZER)), &bare(&chain), None).await;
    assert_eq!(word(empty.error_reason.as_ref()), "refund_no_balance");
    shop.stop().await;
}

/// The SHA-256 of `s3cret`.
const KEY: &str = r#"
    anonymous = true
    [[facilitator.key]]
    name = "shop"
    sha256 = "1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0"
    receivers = ["RECEIVER"]
    [[facilitator.key]]
    name = "other"
    sha256 = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"
"#;

fn key_section() -> String {
    KEY.replace("RECEIVER", &DEV_ACCOUNTS[RECEIVER].address.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_is_signed_only_for_who_holds_the_receivers_key() {
    let (chain, directory) = (Chain::start().await, tempfile::tempdir().expect("a directory"));
    let shop = Shop::start(&chain, directory.path(), &key_section()).await;
    let (mut payer, offer) = (payer_of(&chain, PAYER, OPERATOR), offer(&chain, 1_000, OPERATOR));
    ok(&shop.settle(&payer.funding(1_000, 5_000), &offer).await);
    // A claim only pays the receiver: anybody with a voucher may have it signed (F-12).
    ok(&shop.command(&claim(vec![row(&payer, 1_000, 1_000)], None), &bare(&chain), None).await);
    let rest = refund(&payer, 2_000, 3_000, 0, vec![row(&payer, 2_000, 2_000)], None);
    for key in [None, Some("other")] {
        let refused = shop.command(&rest, &bare(&chain), key).await;
        assert_eq!(word(refused.error_reason.as_ref()), "refund_authorizer_signature", "{key:?}: {refused:?}");
    }
    let refunded = shop.command(&rest, &bare(&chain), Some("s3cret")).await;
    ok(&refunded);
    assert_eq!((refunded.amount.as_deref(), chain.state(payer.channel).await), (Some("3000"), (2_000, 2_000)));
    // What another authorizer has to sign is not signed by this one, whoever asks.
    let mut foreign = payer_of(&chain, PAYER + 1, AUTHORIZER);
    ok(&shop.settle(&foreign.funding(1_000, 5_000), &shop::offer(&chain, 1_000, AUTHORIZER)).await);
    let refused = shop.command(&refund(&foreign, 0, 5_000, 0, Vec::new(), None), &bare(&chain), Some("s3cret")).await;
    assert_eq!(word(refused.error_reason.as_ref()), "authorizer_address_mismatch");
    let refused = shop.command(&claim(vec![row(&foreign, 1_000, 1_000)], None), &bare(&chain), Some("s3cret")).await;
    assert_eq!(word(refused.error_reason.as_ref()), "authorizer_address_mismatch");
    shop.stop().await;
}

/// A change of something, for tables.
type Change<T> = fn(&mut T, &Chain);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_payment_is_said_in_the_schemes_words() {
    let (chain, directory) = (Chain::start().await, tempfile::tempdir().expect("a directory"));
    let shop = Shop::start(&chain, directory.path(), "deposit_min = \"2000\"").await;
    let offer = offer(&chain, 1_000, AUTHORIZER);
    let mut payer = payer_of(&chain, PAYER, AUTHORIZER);
    let spends = sent(&chain).await;
    let none: Change<PaymentRequirements> = |_, _| {};

    // F-3: deposits, each wrong in one thing.
    let good = body(payer.funding(1_000, 5_000).to_object().expect("written"), &offer);
    let deposits: [(&str, &str, Value); 18] = [
        ("/paymentPayload/payload/voucher/channelId", "channel_id_mismatch", json!(Hash256::from_bytes([7; 32]).to_string())),
        ("/paymentPayload/payload/channelConfig/salt", "channel_id_mismatch", json!(Hash256::from_bytes([7; 32]).to_string())),
        ("/paymentRequirements/asset", "token_mismatch", json!(eip55(&Address::from_bytes([7; 20])))),
        ("/paymentRequirements/payTo", "receiver_mismatch", json!(eip55(&Address::from_bytes([7; 20])))),
        ("/paymentRequirements/extra/receiverAuthorizer", "receiver_authorizer_mismatch", json!(eip55(&Address::from_bytes([7; 20])))),
        ("/paymentRequirements/extra/receiverAuthorizer", "receiver_authorizer_mismatch", json!(Address::ZERO.to_string())),
        ("/paymentRequirements/extra/withdrawDelay", "withdraw_delay_mismatch", json!(901)),
        ("/paymentRequirements/extra/assetTransferMethod", "permit2_authorization_required", json!("permit2")),
        ("/paymentRequirements/extra/name", "missing_eip712_domain", json!("")),
        ("/paymentRequirements/extra/name", "receive_authorization_signature", json!("USDC")),
        ("/paymentPayload/payload/deposit/amount", "receive_authorization_signature", json!("5001")),
        ("/paymentPayload/payload/deposit/amount", "deposit_below_min_deposit", json!("1999")),
        ("/paymentPayload/payload/deposit/amount", "deposit_payload", json!("340282366920938463463374607431768211456")),
        (
            "/paymentPayload/payload/deposit/authorization/erc3009Authorization/validBefore",
            "payload_authorization_valid_before",
            json!("1"),
        ),
        (
            "/paymentPayload/payload/deposit/authorization/erc3009Authorization/validAfter",
            "payload_authorization_valid_after",
            json!("3999999999"),
        ),
        ("/paymentPayload/payload/voucher/maxClaimableAmount", "voucher_signature", json!("1001")),
        ("/paymentRequirements/scheme", "scheme", json!("batch-settlement")),
        ("/paymentRequirements/network", "network_mismatch", json!("eip155:8453")),
    ];
    for (at, expected, value) in deposits {
        let mut wrong = good.clone();
        match at.rsplit_once('/').expect("a path") {
            (place, "assetTransferMethod") => wrong.pointer_mut(place).expect("extra")["assetTransferMethod"] = value,
            _ => *wrong.pointer_mut(at).unwrap_or_else(|| panic!("{at}")) = value,
        }
        if expected == "scheme" {
            wrong["paymentPayload"]["accepted"]["scheme"] = json!("exact");
        }
        for path in ["/verify", "/settle"] {
            let (status, answer) = shop.post(path, wrong.to_string(), None).await;
            let reason = answer[if path == "/verify" { "invalidReason" } else { "errorReason" }].as_str().unwrap_or_default();
            assert_eq!((status, reason.strip_prefix(PREFIX).unwrap_or(reason)), (StatusCode::OK, expected), "{path} {at}: {answer}");
        }
    }

    // What only the chain knows.
    let check = async |payload: BatchPayload, change: Change<PaymentRequirements>, expected: &str| {
        let mut offer = offer.clone();
        change(&mut offer, &chain);
        let refused = shop.verify(&payload, &offer).await;
        assert_eq!(word(refused.invalid_reason.as_ref()), expected, "{refused:?}");
    };
    check(payer.funding(1_000, 2_000_000_000), none, "insufficient_balance").await;
    check(payer.funding(5_001, 5_000), none, "cumulative_exceeds_balance").await;
    check(payer.funding(0, 5_000), none, "cumulative_below_claimed").await;
    assert_eq!(sent(&chain).await, spends, "what is refused costs nothing");

    ok(&shop.settle(&payer.funding(1_000, 5_000), &offer).await);
    ok(&shop.command(&claim(vec![row(&payer, 1_000, 1_000)], Some(AUTHORIZER)), &bare(&chain), None).await);
    check(payer.paying(5_001), none, "cumulative_exceeds_balance").await;
    check(payer.paying(1_000), none, "cumulative_below_claimed").await;
    payer.charged = 1_000;
    let refunding = shop.verify(&payer.refunding(None), &offer).await;
    assert!(refunding.is_valid, "{refunding:?}");
    payer.charged = 999;
    check(payer.refunding(None), none, "cumulative_below_claimed").await;
    // Only a facilitator that keeps vouchers takes one by itself.
    let refused = shop.settle(&payer.paying(2_000), &offer).await;
    assert_eq!(word(refused.error_reason.as_ref()), "payload_type");

    // F-6: a withdrawal that may be final before a claim is mined does not count any more.
    shop::begin_withdrawal(&chain, PAYER, &payer, 3_000).await;
    let verified = shop.verify(&payer.paying(5_000), &offer).await;
    assert!(verified.is_valid && verified.extra.get("withdrawRequestedAt").is_some_and(|at| at.as_u64() > Some(0)), "{verified:?}");
    chain.advance_secs(DELAY_SECS - 200).await;
    chain.mine(1).await;
    check(payer.paying(5_000), none, "cumulative_exceeds_balance").await;
    assert!(shop.verify(&payer.paying(2_000), &offer).await.is_valid);
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_command_is_said_and_costs_nothing() {
    let (chain, directory) = (Chain::start().await, tempfile::tempdir().expect("a directory"));
    let shop = Shop::start(&chain, directory.path(), "").await;
    let (mut payer, offer) = (payer_of(&chain, PAYER, AUTHORIZER), offer(&chain, 1_000, AUTHORIZER));
    ok(&shop.settle(&payer.funding(1_000, 5_000), &offer).await);
    let count = sent(&chain).await;
    let check = async |command: BatchCommand, expected: &str| {
        let refused = shop.command(&command, &bare(&chain), None).await;
        assert_eq!((refused.success, word(refused.error_reason.as_ref())), (false, expected), "{refused:?}");
    };
    let other = payer_of(&chain, PAYER + 1, AUTHORIZER);
    check(claim(vec![row(&payer, 1_000, 1_001)], Some(AUTHORIZER)), "claim_simulation_failed").await;
    check(claim(vec![row(&payer, 6_000, 6_000)], Some(AUTHORIZER)), "claim_simulation_failed").await;
    check(claim(vec![row(&payer, 1_000, 900), row(&other, 1_000, 900)], Some(AUTHORIZER)), "claim_simulation_failed").await;
    check(claim(vec![row(&payer, 1_000, 900)], Some(RECEIVER)), "claim_simulation_failed").await;
    check(claim(vec![row(&payer, 1_000, 900), row(&payer, 1_000, 900)], Some(AUTHORIZER)), "claim_payload").await;
    check(claim(vec![row(&payer, 1_000, 900); 101], None), "claim_payload").await;
    let elsewhere = Payer::with(&chain, payer.key.clone(), ChannelConfig { receiver: Address::from_bytes([9; 20]), ..payer.config });
    check(claim(vec![row(&payer, 1_000, 900), row(&elsewhere, 1_000, 900)], Some(AUTHORIZER)), "receiver_mismatch").await;
    let foreign = Payer::with(&chain, payer.key.clone(), ChannelConfig { token: Address::from_bytes([9; 20]), ..payer.config });
    check(claim(vec![row(&foreign, 1_000, 900)], Some(AUTHORIZER)), "token_mismatch").await;
    check(BatchCommand::Settle { receiver: payer.config.receiver, token: Address::from_bytes([9; 20]) }, "token_mismatch").await;
    check(sweep(&chain), "nothing_to_settle").await;
    check(refund(&payer, 0, 0, 0, Vec::new(), Some(AUTHORIZER)), "refund_amount_invalid").await;
    check(refund(&payer, 0, 100, 5, Vec::new(), Some(AUTHORIZER)), "refund_simulation_failed").await;
    check(refund(&payer, 0, 100, 0, Vec::new(), Some(RECEIVER)), "refund_simulation_failed").await;
    check(refund(&payer, 0, 100, 0, vec![row(&elsewhere, 1_000, 900)], Some(AUTHORIZER)), "receiver_mismatch").await;
    let BatchCommand::Refund(mut other) = refund(&other, 0, 100, 0, Vec::new(), Some(AUTHORIZER)) else { panic!("a refund") };
    other.channel_config = payer.config.into();
    check(BatchCommand::Refund(other), "channel_id_mismatch").await;

    // Shapes that are none (F-2).
    for (payload, expected) in [
        (json!({ "type": "claim", "claims": [] }), "claim_payload"),
        (json!({ "type": "claim", "claims": [{ "voucher": 1 }] }), "claim_payload"),
        (json!({ "type": "settle", "receiver": "0x1" }), "settle_payload"),
        (json!({ "type": "refund", "refundNonce": "0", "claims": [] }), "refund_payload"),
        (json!({ "type": "withdraw" }), "payload_type"),
        (json!({}), "payload_type"),
    ] {
        let Value::Object(fields) = payload.clone() else { panic!("an object") };
        let answer = shop.ask("/settle", fields.into_iter().collect::<Object>(), &bare(&chain), None).await;
        assert_eq!(answer["errorReason"], json!(format!("{PREFIX}{expected}")), "{payload}: {answer}");
    }
    assert_eq!(sent(&chain).await, count, "what is refused costs nothing");
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_with_code_sign_as_their_code_says() {
    let (chain, directory) = (Chain::start().await, tempfile::tempdir().expect("a directory"));
    let shop = Shop::start(&chain, directory.path(), "").await;
    let account = Address::from_bytes([0x77; 20]);
    // isValidSignature: yes, whatever it is asked.
    chain.call("anvil_setCode", json!([account, "0x631626ba7e60e01b60005260206000f3"])).await;
    millstream_chain::mint(&chain.submitter(8), chain.token.token(), account, 1_000_000).await.expect("minted");
    let payer = Payer::new(&chain, PAYER);
    let config = ChannelConfig { payer: account, payer_authorizer: Address::ZERO, ..payer.config };
    let (mut payer, offer) = (Payer::with(&chain, payer.key, config), offer(&chain, 1_000, OPERATOR));
    ok(&shop.settle(&payer.funding(1_000, 5_000), &offer).await);
    assert!(shop.verify(&payer.paying(2_000), &offer).await.is_valid);
    // No, whatever it is asked.
    chain.call("anvil_setCode", json!([account, "0x60006000fd"])).await;
    let refused = shop.verify(&payer.paying(2_000), &offer).await;
    assert_eq!(word(refused.invalid_reason.as_ref()), "voucher_signature");
    let refused = shop.verify(&payer.funding(2_000, 5_000), &offer).await;
    assert_eq!(word(refused.invalid_reason.as_ref()), "receive_authorization_signature");
    // One that is not there yet is not made (F-5).
    let absent = ChannelConfig { payer: Address::from_bytes([0x78; 20]), ..config };
    let mut absent = Payer::with(&chain, payer.key, absent);
    let mut wrapped = body(absent.funding(1_000, 5_000).to_object().expect("written"), &offer);
    wrapped["paymentPayload"]["payload"]["deposit"]["authorization"]["erc3009Authorization"]["signature"] =
        json!(format!("0x{}{}", "00".repeat(96), "6492".repeat(16)));
    let (_, answer) = shop.post("/verify", wrapped.to_string(), None).await;
    assert_eq!(answer["invalidReason"], json!(format!("{PREFIX}eip6492_factory_not_allowed")), "{answer}");
    shop.stop().await;
}

/// An `exact` offer.
fn exact_offer(chain: &Chain, amount: u128) -> PaymentRequirements {
    let extra = json!({ "name": "USD Coin", "version": "2" });
    let Value::Object(extra) = extra else { panic!("an object") };
    PaymentRequirements { scheme: "exact".to_owned(), extra: extra.into_iter().collect(), ..offer(chain, amount, OPERATOR) }
}

fn exact_payment(chain: &Chain, account: usize, amount: u128, nonce: u8) -> Value {
    let transfer = TransferAuthorization {
        kind: TransferKind::Transfer,
        from: DEV_ACCOUNTS[account].address,
        to: DEV_ACCOUNTS[RECEIVER].address,
        value: units(amount),
        valid_after: Uint256::ZERO,
        valid_before: Uint256::from(4_000_000_000_u64),
        nonce: Hash256::from_bytes([nonce; 32]),
    };
    let signed = secret(account).sign(transfer, &chain.token).expect("in range");
    json!({
        "signature": signed.signature().to_string(),
        "authorization": {
            "from": eip55(&transfer.from), "to": eip55(&transfer.to), "value": amount.to_string(), "validAfter": "0",
            "validBefore": "4000000000", "nonce": transfer.nonce.to_string(),
        },
    })
}

fn exact_permit(chain: &Chain, account: usize, amount: u128, nonce: u64) -> Value {
    let transfer = Permit2Transfer {
        permitted: vec![TokenPermissions { token: chain.token.token(), amount: units(amount) }],
        spender: EXACT_PERMIT2_PROXY,
        nonce: Uint256::from(nonce),
        deadline: Uint256::from(4_000_000_000_u64),
        witness: TransferWitness::X402Exact { to: DEV_ACCOUNTS[RECEIVER].address, valid_after: Uint256::ZERO },
    };
    let signed = secret(account).sign(transfer, &Permit2Domain::new(ChainId::new(31_337), PERMIT2)).expect("in range");
    json!({
        "signature": signed.signature().to_string(),
        "permit2Authorization": {
            "from": eip55(&DEV_ACCOUNTS[account].address),
            "permitted": { "token": eip55(&chain.token.token()), "amount": amount.to_string() },
            "spender": eip55(&EXACT_PERMIT2_PROXY), "nonce": nonce.to_string(), "deadline": "4000000000",
            "witness": { "to": eip55(&DEV_ACCOUNTS[RECEIVER].address), "validAfter": "0" },
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn single_payments_are_settled_once() {
    let (chain, directory) = (Chain::start().await, tempfile::tempdir().expect("a directory"));
    let shop = Shop::start(&chain, directory.path(), "exact_min = \"100\"").await;
    let receiver = DEV_ACCOUNTS[RECEIVER].address;
    let before = chain.balance(receiver).await;
    let ask = async |path: &str, payload: &Value, offer: &PaymentRequirements| {
        let Value::Object(fields) = payload.clone() else { panic!("an object") };
        shop.ask(path, fields.into_iter().collect::<Object>(), offer, None).await
    };
    let offer = exact_offer(&chain, 1_000);
    let payment = exact_payment(&chain, PAYER, 1_000, 1);
    assert_eq!(ask("/verify", &payment, &offer).await["isValid"], json!(true));
    let first = ask("/settle", &payment, &offer).await;
    assert_eq!((&first["success"], &first["amount"]), (&json!(true), &json!("1000")), "{first}");
    let count = sent(&chain).await;
    assert_eq!(ask("/settle", &payment, &offer).await, first);
    assert_eq!((sent(&chain).await, chain.balance(receiver).await), (count, before + 1_000));
    assert_eq!(ask("/verify", &payment, &offer).await["invalidReason"], json!("invalid_exact_evm_nonce_already_used"));

    // By Permit2, which needs an allowance first.
    let permit = exact_permit(&chain, PAYER, 1_000, 1);
    assert_eq!(ask("/verify", &permit, &offer).await["invalidReason"], json!("permit2_allowance_required"));
    millstream_chain::approve(&chain.submitter(PAYER), chain.token.token(), PERMIT2, u128::MAX).await.expect("approved");
    assert_eq!(ask("/verify", &permit, &offer).await["isValid"], json!(true));
    let first = ask("/settle", &permit, &offer).await;
    assert_eq!((&first["success"], chain.balance(receiver).await), (&json!(true), before + 2_000), "{first}");
    assert_eq!(ask("/settle", &permit, &offer).await, first);
    assert_eq!(ask("/verify", &permit, &offer).await["invalidReason"], json!("permit2_invalid_nonce"));

    // F-7: each wrong in one thing.
    let count = sent(&chain).await;
    let (payment, permit) = (exact_payment(&chain, PAYER, 1_000, 2), exact_permit(&chain, PAYER, 1_000, 2));
    let elsewhere = json!(eip55(&Address::from_bytes([7; 20])));
    let poor = RECEIVER;
    let table: [(&Value, &str, Value, &str); 13] = [
        (&payment, "/authorization/value", json!("999"), "invalid_exact_evm_signature"),
        (&payment, "/signature", json!(format!("0x{}", "11".repeat(65))), "invalid_exact_evm_signature"),
        (&payment, "requirements/payTo", elsewhere.clone(), "invalid_exact_evm_recipient_mismatch"),
        (&payment, "requirements/amount", json!("1001"), "invalid_exact_evm_payload_authorization_value_mismatch"),
        (&payment, "requirements/amount", json!("99"), "invalid_payment_requirements"),
        (&payment, "requirements/asset", elsewhere.clone(), "invalid_payment_requirements"),
        (&payment, "requirements/network", json!("eip155:1"), "invalid_exact_evm_network_mismatch"),
        (&payment, "requirements/extra/name", json!("USDC"), "invalid_exact_evm_signature"),
        (&permit, "/permit2Authorization/spender", elsewhere.clone(), "invalid_permit2_spender"),
        (&permit, "requirements/payTo", elsewhere.clone(), "invalid_permit2_recipient_mismatch"),
        (&permit, "/permit2Authorization/deadline", json!("1"), "permit2_deadline_expired"),
        (&permit, "requirements/amount", json!("1001"), "permit2_amount_mismatch"),
        (&permit, "/permit2Authorization/nonce", json!("3"), "invalid_permit2_signature"),
    ];
    for (good, at, value, expected) in table {
        let mut wrong = body(Object::default(), &offer);
        wrong["paymentPayload"]["payload"] = good.clone();
        let place = match at.strip_prefix("requirements") {
            Some(rest) => format!("/paymentRequirements{rest}"),
            None => format!("/paymentPayload/payload{at}"),
        };
        *wrong.pointer_mut(&place).unwrap_or_else(|| panic!("{place}")) = value;
        for (path, field) in [("/verify", "invalidReason"), ("/settle", "errorReason")] {
            let (_, answer) = shop.post(path, wrong.to_string(), None).await;
            assert_eq!(answer[field], json!(expected), "{path} {at}: {answer}");
        }
    }
    let poor = exact_payment(&chain, poor, 1_000_000_000_000, 3);
    let answer = ask("/verify", &poor, &exact_offer(&chain, 1_000_000_000_000)).await;
    assert_eq!(answer["invalidReason"], json!("invalid_exact_evm_insufficient_balance"), "{answer}");
    let answer = ask("/verify", &json!({}), &offer).await;
    assert_eq!(answer["invalidReason"], json!("unsupported_payload_type"));
    let upto = PaymentRequirements { scheme: "upto".to_owned(), ..offer };
    assert_eq!(ask("/settle", &permit, &upto).await["errorReason"], json!("unsupported_scheme"));
    assert_eq!(sent(&chain).await, count, "what is refused costs nothing");
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_in_the_shape_of_an_answer() {
    let (chain, directory) = (Chain::start().await, tempfile::tempdir().expect("a directory"));
    let section = key_section().replace("anonymous = true", "anonymous = false\nrequests_minute_max = 40");
    let shop = Shop::start(&chain, directory.path(), &section).await;
    let payer = payer_of(&chain, PAYER, AUTHORIZER);
    let good = body(payer.paying(1_000).to_object().expect("written"), &offer(&chain, 1_000, AUTHORIZER));
    let key = Some("s3cret");
    let mut old = good.clone();
    old["x402Version"] = json!(1);
    let twice = good.to_string().replacen("\"scheme\"", "\"scheme\":\"exact\",\"scheme\"", 1);
    let deep = format!("{{\"x402Version\":2,\"paymentPayload\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let table = [
        (good.to_string(), None, StatusCode::UNAUTHORIZED, "unexpected_verify_error", "unexpected_settle_error"),
        (good.to_string(), Some("wrong"), StatusCode::UNAUTHORIZED, "unexpected_verify_error", "unexpected_settle_error"),
        (old.to_string(), key, StatusCode::BAD_REQUEST, "invalid_x402_version", "invalid_x402_version"),
        ("{".to_owned(), key, StatusCode::BAD_REQUEST, "invalid_payload", "invalid_payload"),
        ("[]".to_owned(), key, StatusCode::BAD_REQUEST, "invalid_payload", "invalid_payload"),
        (twice, key, StatusCode::BAD_REQUEST, "invalid_payload", "invalid_payload"),
        (deep, key, StatusCode::BAD_REQUEST, "invalid_payload", "invalid_payload"),
        ("x".repeat(1 << 20), key, StatusCode::PAYLOAD_TOO_LARGE, "invalid_payload", "invalid_payload"),
    ];
    for (body, key, status, verifying, settling) in table {
        for (path, field, reason, said) in
            [("/verify", "invalidReason", verifying, "isValid"), ("/settle", "errorReason", settling, "success")]
        {
            let start: String = body.chars().take(40).collect();
            let (found, answer) = shop.post(path, body.clone(), key).await;
            assert_eq!((found, &answer[field], &answer[said]), (status, &json!(reason), &json!(false)), "{path} {start}: {answer}");
        }
    }
    for (method, path, status) in [
        (reqwest::Method::GET, "/verify", StatusCode::METHOD_NOT_ALLOWED),
        (reqwest::Method::POST, "/supported", StatusCode::METHOD_NOT_ALLOWED),
        (reqwest::Method::GET, "/discovery/resources", StatusCode::NOT_FOUND),
    ] {
        let response = shop.client.request(method, shop.url(path)).bearer_auth("s3cret").send().await.expect("answered");
        assert_eq!(response.status(), status, "{path}");
    }
    // Pages may call it, too.
    let preflight = shop.client.request(reqwest::Method::OPTIONS, shop.url("/verify"));
    let preflight = preflight.header("origin", "https://app.example").header("access-control-request-method", "POST");
    let preflight = preflight.send().await.expect("answered");
    assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
    assert_eq!(preflight.headers()["access-control-allow-origin"], "*");
    // F-21: a key has so many requests in a minute, and another is not touched by it.
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(shop.client.get(shop.url("/supported")).bearer_auth("s3cret").send().await.expect("answered"));
    }
    let last = statuses.last().expect("some");
    assert_eq!(last.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(last.headers().contains_key("retry-after"));
    let other = shop.client.get(shop.url("/supported")).bearer_auth("other").send().await.expect("answered");
    assert_eq!(other.status(), StatusCode::OK);
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_promise_and_block_sends_nothing_twice_and_forgets_nothing() {
    let (chain, directory) = (Chain::start().await, tempfile::tempdir().expect("a directory"));
    let section = "wait_secs = 3\n[facilitator.gas]\nin_flight_max = 1";
    let shop = Shop::start(&chain, directory.path(), section).await;
    let offer = offer(&chain, 1_000, AUTHORIZER);
    let (mut first, mut second) = (payer_of(&chain, PAYER, AUTHORIZER), payer_of(&chain, PAYER + 1, AUTHORIZER));
    let fundings = [first.funding(1_000, 5_000), second.funding(1_000, 6_000)];
    let base = sent(&chain).await;
    // Nothing is mined: the first is sent and kept, the second is promised and waits for its turn.
    chain.call("evm_setAutomine", json!([false])).await;
    let asked = fundings.clone().map(|funding| {
        let (client, url) = (shop.client.clone(), shop.url("/settle"));
        let text = body(funding.to_object().expect("written"), &offer).to_string();
        tokio::spawn(async move { client.post(url).header("content-type", "application/json").body(text).send().await })
    });
    until("the first is in the pool", async || sent(&chain).await != base).await;
    let kept = || async { shop.node.payments().kept(1).await.expect("read").len() == 2 };
    until("the second is promised", kept).await;
    let one = sent(&chain).await;
    shop.crash().await;
    for asked in asked {
        // Nobody was told that it is done.
        if let Ok(response) = asked.await.expect("no panic") {
            let answer: Value = response.json().await.unwrap_or_default();
            assert_ne!(answer["success"], json!(true), "{answer}");
        }
    }

    let shop = Shop::start(&chain, directory.path(), section).await;
    assert_eq!(sent(&chain).await, one, "the same transaction is followed on");
    chain.call("evm_setAutomine", json!([true])).await;
    chain.mine(1).await;
    for (funding, payer, amount) in [(&fundings[0], &first, "5000"), (&fundings[1], &second, "6000")] {
        let settled = shop.settle(funding, &offer).await;
        ok(&settled);
        assert_eq!((settled.amount.as_deref(), chain.state(payer.channel).await.0.to_string()), (Some(amount), amount.to_owned()));
    }
    let count = sent(&chain).await;
    let text = |value: &Value| u64::from_str_radix(value.as_str().expect("text").trim_start_matches("0x"), 16).expect("a number");
    assert_eq!(text(&count), text(&base) + 2, "one transaction each");

    // After an ordinary end, too, the answers are the same.
    let answers = [shop.settle(&fundings[0], &offer).await, shop.settle(&fundings[1], &offer).await];
    shop.stop().await;
    let shop = Shop::start(&chain, directory.path(), section).await;
    assert_eq!([shop.settle(&fundings[0], &offer).await, shop.settle(&fundings[1], &offer).await], answers);
    assert_eq!(sent(&chain).await, count);
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_want_to_wait_is_told_that_it_is_pending() {
    let (chain, directory) = (Chain::start().await, tempfile::tempdir().expect("a directory"));
    let plan = Plan { confirmations: 3, ..Plan::default() };
    let shop = Shop::start_with(&chain, directory.path(), "wait_secs = 2", &plan).await;
    let (mut payer, offer) = (payer_of(&chain, PAYER, AUTHORIZER), offer(&chain, 1_000, AUTHORIZER));
    let funding = payer.funding(1_000, 5_000);
    let base = sent(&chain).await;
    let settling = async {
        let pending = shop.settle(&funding, &offer).await;
        assert_eq!((pending.success, pending.error_reason.as_deref()), (false, Some("settlement_pending")), "{pending:?}");
        pending.transaction
    };
    let transaction = settling.await;
    // It is mined and not deep enough: the deposit does not count yet (F-8).
    let refused = shop.verify(&payer.paying(1_000), &offer).await;
    assert_eq!(word(refused.invalid_reason.as_ref()), "channel_not_found");
    let mined = async { chain.mine(3).await };
    let (settled, ()) = tokio::join!(shop.settle(&funding, &offer), mined);
    ok(&settled);
    assert_eq!(settled.transaction, transaction);
    assert_ne!(sent(&chain).await, base);
    assert!(shop.verify(&payer.paying(1_000), &offer).await.is_valid);
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gas_for_others_has_limits() {
    let (chain, directory) = (Chain::start().await, tempfile::tempdir().expect("a directory"));
    let section = "[facilitator.gas]\nday_transactions_max = 2";
    let shop = Shop::start(&chain, directory.path(), section).await;
    let offer = offer(&chain, 1_000, AUTHORIZER);
    let mut payer = payer_of(&chain, PAYER, AUTHORIZER);
    for _ in 0..2 {
        ok(&shop.settle(&payer.funding(1_000, 5_000), &offer).await);
    }
    let third = payer.funding(1_000, 5_000);
    let refused = shop.settle(&third, &offer).await;
    assert_eq!(refused.error_reason.as_deref(), Some("unexpected_settle_error"), "{refused:?}");
    // Who would deliver upon it is told before (F-14).
    let refused = shop.verify(&third, &offer).await;
    assert_eq!(refused.invalid_reason.as_deref(), Some("unexpected_verify_error"), "{refused:?}");
    shop.stop().await;
    // A restart forgets nothing of what was spent.
    let shop = Shop::start(&chain, directory.path(), section).await;
    assert!(!shop.settle(&third, &offer).await.success);
    shop.stop().await;
    // One that is never enough, and coins that are kept for the gateway's own claims.
    for section in [
        "[facilitator.gas]\npayer_day_gwei_max = 1",
        "[facilitator.gas]\nreserve_gwei_min = 18000000000000000000",
        "[facilitator.gas]\ngas_max = 21000",
    ] {
        let shop = Shop::start(&chain, directory.path(), section).await;
        let refused = shop.settle(&third, &offer).await;
        assert!(!refused.success && refused.transaction.is_empty(), "{section}: {refused:?}");
        shop.stop().await;
    }
    let shop = Shop::start(&chain, directory.path(), "").await;
    ok(&shop.settle(&third, &offer).await);
    shop.stop().await;
}

/// An offer of a server that keeps no vouchers: what `/supported` says is copied into it.
fn kept_offer(chain: &Chain, amount: u128) -> PaymentRequirements {
    let mut offer = offer(chain, amount, OPERATOR);
    offer.pay_to = eip55(&DEV_ACCOUNTS[CLIENTLESS].address);
    offer.extra.insert("voucherStore", json!(true));
    offer
}

/// The receiver of a server that keeps no vouchers.
const CLIENTLESS: usize = 6;

fn kept_payer(chain: &Chain, account: usize) -> Payer {
    let payer = Payer::new(chain, account);
    let config = ChannelConfig { receiver: DEV_ACCOUNTS[CLIENTLESS].address, ..payer.config };
    Payer::with(chain, payer.key, config)
}

/// One request of a server that keeps no vouchers: verified, delivered, settled for what it cost.
async fn pass_on(shop: &Shop, payload: &BatchPayload, offer: &PaymentRequirements, cost: u128) -> (Value, Value) {
    let object = payload.to_object().expect("written");
    let verified = shop.ask("/verify", object.clone(), offer, Some("s3cret")).await;
    let mut settling = body(object, offer);
    settling["paymentRequirements"]["amount"] = json!(cost.to_string());
    let (status, settled) = shop.post("/settle", settling.to_string(), Some("s3cret")).await;
    assert_eq!(status, StatusCode::OK, "{settled}");
    (verified, settled)
}

#[tokio::test(flavor = "multi_thread")]
async fn vouchers_are_kept_for_a_server_that_keeps_none() {
    let (chain, directory) = (Chain::start().await, tempfile::tempdir().expect("a directory"));
    let receiver = DEV_ACCOUNTS[CLIENTLESS].address;
    let section = format!("voucher_store = true\n{}", KEY.replace("RECEIVER", &receiver.to_string()));
    let plan = Plan { custody: [receiver].into(), ..Plan::default() };
    let shop = Shop::start_with(&chain, directory.path(), &section, &plan).await;
    let (mut payer, offer) = (kept_payer(&chain, PAYER), kept_offer(&chain, 1_000));
    let supported: Value = shop.client.get(shop.url("/supported")).send().await.expect("answered").json().await.expect("JSON");
    let kind = &supported["kinds"][0]["extra"];
    assert_eq!((&kind["voucherStore"], &kind["withdrawDelay"]), (&json!(true), &json!(DELAY_SECS)));

    // A deposit and its first request; then one that costs less than it may, and one that costs nothing.
    let (verified, settled) = pass_on(&shop, &payer.funding(1_000, 5_000), &offer, 1_000).await;
    assert_eq!((&verified["isValid"], &verified["extra"]["chargedCumulativeAmount"]), (&json!(true), &json!("0")), "{verified}");
    assert_eq!((&settled["success"], &settled["amount"]), (&json!(true), &json!("5000")), "{settled}");
    assert_eq!(settled["extra"]["channelState"]["chargedCumulativeAmount"], json!("1000"));
    let (verified, settled) = pass_on(&shop, &payer.paying(2_000), &offer, 700).await;
    assert_eq!((&verified["isValid"], &verified["extra"]["balance"]), (&json!(true), &json!("5000")), "{verified}");
    assert_eq!((&settled["transaction"], &settled["amount"], &settled["extra"]["chargedAmount"]), (&json!(""), &json!(""), &json!("700")));
    assert_eq!(settled["extra"]["channelState"]["chargedCumulativeAmount"], json!("1700"));
    let (_, settled) = pass_on(&shop, &payer.paying(2_700), &offer, 0).await;
    assert_eq!(settled["extra"]["channelState"]["chargedCumulativeAmount"], json!("1700"), "{settled}");

    // F-26: a payer that does not know where it stands is told, with its own signature.
    let object = |payload: &BatchPayload| payload.to_object().expect("written");
    let stale = shop.ask("/verify", object(&payer.paying(1_000)), &offer, Some("s3cret")).await;
    assert_eq!(stale["invalidReason"], json!(format!("{PREFIX}cumulative_amount_mismatch")), "{stale}");
    assert_eq!(stale["extra"]["channelState"]["chargedCumulativeAmount"], json!("1700"));
    assert_eq!(stale["extra"]["voucherState"]["signature"].as_str().map(str::len), Some(132), "{stale}");

    // F-25: one request at a time; what is settled again is answered again, over a restart too.
    let verified = shop.ask("/verify", object(&payer.paying(2_700)), &offer, Some("s3cret")).await;
    assert_eq!(verified["isValid"], json!(true), "{verified}");
    let busy = shop.ask("/verify", object(&payer.paying(2_700)), &offer, Some("s3cret")).await;
    assert_eq!(busy["invalidReason"], json!(format!("{PREFIX}channel_busy")), "{busy}");
    // F-24: who may settle says what is charged, so a payer must not be able to.
    for key in [None, Some("other")] {
        for path in ["/verify", "/settle"] {
            let refused = shop.ask(path, object(&payer.paying(2_700)), &offer, key).await;
            let reason = if path == "/verify" { &refused["invalidReason"] } else { &refused["errorReason"] };
            assert_eq!(reason, &json!(format!("{PREFIX}receiver_mismatch")), "{refused}");
        }
    }
    let first = shop.ask("/settle", object(&payer.paying(2_700)), &offer, Some("s3cret")).await;
    assert_eq!(first["extra"]["channelState"]["chargedCumulativeAmount"], json!("2700"), "{first}");
    let again = shop.ask("/settle", object(&payer.paying(2_700)), &offer, Some("s3cret")).await;
    assert_eq!((&again["success"], &again["extra"]["chargedAmount"]), (&json!(true), &json!("1000")), "{again}");
    let verified = shop.ask("/verify", object(&payer.paying(3_700)), &offer, Some("s3cret")).await;
    assert_eq!(verified["isValid"], json!(true), "{verified}");
    shop.crash().await;
    let shop = Shop::start_with(&chain, directory.path(), &section, &plan).await;
    let settled = shop.ask("/settle", object(&payer.paying(3_700)), &offer, Some("s3cret")).await;
    assert_eq!(settled["extra"]["channelState"]["chargedCumulativeAmount"], json!("3700"), "{settled}");
    let again = shop.ask("/settle", object(&payer.paying(3_700)), &offer, Some("s3cret")).await;
    assert_eq!(again["extra"]["channelState"]["chargedCumulativeAmount"], json!("3700"), "{again}");

    // More than was agreed, and another offer than /supported says.
    let mut dear = body(object(&payer.paying(4_700)), &offer);
    dear["paymentRequirements"]["amount"] = json!("1001");
    let (_, refused) = shop.post("/settle", dear.to_string(), Some("s3cret")).await;
    assert_eq!(refused["errorReason"], json!(format!("{PREFIX}charge_exceeds_signed_cumulative")), "{refused}");
    for (field, value, reason) in [
        ("withdrawDelay", json!(901), "withdraw_delay_mismatch"),
        ("receiverAuthorizer", json!(eip55(&DEV_ACCOUNTS[AUTHORIZER].address)), "receiver_authorizer_mismatch"),
        ("refundAuthorizer", json!(eip55(&DEV_ACCOUNTS[AUTHORIZER].address)), "refund_authorizer_mismatch"),
    ] {
        let mut other = offer.clone();
        other.extra.insert(field, value);
        let refused = shop.ask("/verify", object(&payer.paying(4_700)), &other, Some("s3cret")).await;
        assert_eq!(refused["invalidReason"], json!(format!("{PREFIX}{reason}")), "{refused}");
    }

    // A refund: nothing is delivered, what was charged is claimed on the way.
    payer.charged = 3_700;
    let (verified, settled) = pass_on(&shop, &payer.refunding(None), &offer, 0).await;
    assert_eq!((&verified["isValid"], &verified["extra"]["skipHandler"]), (&json!(true), &json!(true)), "{verified}");
    assert_eq!((&settled["success"], &settled["amount"]), (&json!(true), &json!("1300")), "{settled}");
    assert_eq!(chain.state(payer.channel).await, (3_700, 3_700));
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_for_servers_is_claimed_in_one_transaction_and_swept_to_each() {
    let (chain, directory) = (Chain::start().await, tempfile::tempdir().expect("a directory"));
    let receivers = [CLIENTLESS, CLIENTLESS + 1].map(|account| DEV_ACCOUNTS[account].address);
    let (keys, hashes) = (
        ["s3cret", "an0ther"],
        [
            "1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0",
            "5a89eeaaaf204d72f7efd266d9dd6eba00f00f7bd913b453a3016c8862998df5",
        ],
    );
    let key = |server: usize| {
        let (name, sha256, receiver) = (format!("shop-{server}"), hashes[server], receivers[server]);
        format!("[[facilitator.key]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\nreceivers = [\"{receiver}\"]\n")
    };
    let section = format!("voucher_store = true\n{}{}", key(0), key(1));
    let plan = Plan { custody: receivers.into(), ..Plan::default() };
    let shop = Shop::start_with(&chain, directory.path(), &section, &plan).await;
    // Two payers of the first server, and one of the second, which pays less than it may.
    let sold = [(PAYER, 0, 1_000), (PAYER + 1, 0, 1_000), (PAYER, 1, 400)];
    let mut channels = Vec::new();
    for (account, server, cost) in sold {
        let payer = Payer::new(&chain, account);
        let config = ChannelConfig { receiver: receivers[server], ..payer.config };
        let mut payer = Payer::with(&chain, payer.key, config);
        let mut offer = offer(&chain, 1_000, OPERATOR);
        offer.pay_to = eip55(&receivers[server]);
        offer.extra.insert("voucherStore", json!(true));
        let (payload, key) = (payer.funding(1_000, 5_000).to_object().expect("written"), keys[server]);
        let verified = shop.ask("/verify", payload.clone(), &offer, Some(key)).await;
        assert_eq!(verified["isValid"], json!(true), "{verified}");
        let mut settling = body(payload, &offer);
        settling["paymentRequirements"]["amount"] = json!(cost.to_string());
        let (_, settled) = shop.post("/settle", settling.to_string(), Some(key)).await;
        assert_eq!(settled["extra"]["chargedAmount"], json!(cost.to_string()), "{settled}");
        channels.push((payer.channel, cost));
    }
    let before = [chain.balance(receivers[0]).await, chain.balance(receivers[1]).await];
    let report = shop.rail.claims().claim_now().await.expect("sent");
    assert_eq!((report.claims.len(), report.rows, report.quarantined.len()), (1, 3, 0));
    for (channel, cost) in &channels {
        until("it is claimed", async || chain.state(*channel).await == (5_000, *cost)).await;
    }
    // A claim moves nothing, and what it left to be swept outlives a crash.
    assert_eq!([chain.balance(receivers[0]).await, chain.balance(receivers[1]).await], before);
    shop.crash().await;
    let shop = Shop::start_with(&chain, directory.path(), &section, &plan).await;
    until("it is swept to each server", async || {
        // Until the engine has the claims at the depth there is nothing to sweep.
        shop.rail.claims().sweep_now().await.expect("looked");
        [chain.balance(receivers[0]).await, chain.balance(receivers[1]).await] == [before[0] + 2_000, before[1] + 400]
    })
    .await;
    // Nothing is claimed or swept twice.
    let report = shop.rail.claims().claim_now().await.expect("looked");
    assert_eq!((report.claims.len(), report.rows), (0, 0));
    shop.rail.claims().sweep_now().await.expect("looked");
    assert_eq!([chain.balance(receivers[0]).await, chain.balance(receivers[1]).await], [before[0] + 2_000, before[1] + 400]);
    shop.stop().await;
}
