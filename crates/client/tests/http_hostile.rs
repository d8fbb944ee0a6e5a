//! Servers that cheat, and networks that lose answers: nothing is paid twice, above a limit, or to somebody else.

#[path = "../../gateway/tests/support/upstream.rs"]
#[allow(dead_code, reason = "a part is used")]
mod upstream;

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use millstream_client::http::{
    Asset, AssetId, AssetLimits, ChannelStatus, HttpPayError, HttpPayer, HttpPayerOptions, PayerAccount, Payment, PaymentBook, Refusal,
    Scheme, SpendLimits,
};
use millstream_dialect::Object;
use millstream_dialect::x402::{
    BatchPayload, ExactPayload, PAYMENT_REQUIRED, PAYMENT_RESPONSE, PaymentPayload, PaymentRequired, PaymentRequirements, Resource,
    SettleResponse, VERSION, batch_domain,
};
use millstream_types::{Amount, ChainId, CumulativeAmount, EscrowChannelId};
use millstream_voucher::evm::{EscrowVoucher, EvmSecretKey, TokenDomain};
use reqwest::{Method, Request, StatusCode};
use serde_json::{Value, json};
use upstream::{Seen, Upstream};

const TOKEN: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const PAYEE: &str = "0x4444444444444444444444444444444444444444";
const AUTHORIZER: &str = "0x5CbDd86a2FA8Dc4bDdd8a8f69dBa48572EeC07FB";
const KEY: [u8; 32] = [0x11; 32];

fn usdc() -> Asset {
    let id = AssetId { chain: ChainId::new(31_337), token: TOKEN.parse().expect("an address") };
    Asset { id, symbol: "USDC".to_owned(), decimals: 6, domain: Some(("USDC".to_owned(), "2".to_owned())) }
}

fn payer(directory: &Path) -> HttpPayer {
    let limits = SpendLimits::default().allow(usdc(), AssetLimits::default_of(6));
    let options = HttpPayerOptions { limits, busy_wait: Duration::from_secs(5), resends_max: 0, ..HttpPayerOptions::default() };
    let account = PayerAccount::from_secret(&KEY).expect("a key");
    HttpPayer::new(account, PaymentBook::open(&directory.join("payments.redb")).expect("opens"), options).expect("a client")
}

/// An offer, with changes.
fn offer(scheme: &str, change: impl FnOnce(&mut Value)) -> PaymentRequirements {
    let mut offer = json!({
        "scheme": scheme, "network": "eip155:31337", "amount": "1000", "asset": TOKEN, "payTo": PAYEE, "maxTimeoutSeconds": 60,
        "extra": { "receiverAuthorizer": AUTHORIZER, "withdrawDelay": 900, "name": "USDC", "version": "2" },
    });
    change(&mut offer);
    serde_json::from_value(offer).expect("an offer")
}

fn same(_: &mut Value) {}

fn required(error: Option<&str>, accepts: Vec<PaymentRequirements>) -> Response<Body> {
    let required = PaymentRequired {
        x402_version: VERSION,
        error: error.map(str::to_owned),
        resource: Resource { url: "https://api.example/".to_owned(), ..Resource::default() },
        accepts,
        extensions: serde_json::from_value(json!({ "payment-identifier": { "info": { "required": false } } })).expect("an object"),
    };
    let header = required.to_header().expect("short");
    Response::builder().status(402).header(PAYMENT_REQUIRED, header).body(Body::empty()).expect("sound")
}

fn batch() -> Response<Body> {
    required(None, vec![offer("batch-settlement", same)])
}

/// A corrective 402.
fn corrective(channel: EscrowChannelId, charged: u128, signed: u128, signature: &str) -> Response<Body> {
    let correct = |offer: &mut Value| {
        offer["extra"]["channelState"] = json!({
            "channelId": channel, "balance": "10000", "totalClaimed": "0", "withdrawRequestedAt": 0, "refundNonce": "0",
            "chargedCumulativeAmount": charged.to_string(),
        });
        offer["extra"]["voucherState"] = json!({ "signedMaxClaimable": signed.to_string(), "signature": signature });
    };
    required(Some("invalid_batch_settlement_evm_cumulative_amount_mismatch"), vec![offer("batch-settlement", correct)])
}

/// What a voucher's signature is, by a key.
fn signature(key: [u8; 32], channel: EscrowChannelId, cumulative: u128) -> String {
    let key = EvmSecretKey::from_bytes(&key).expect("a key");
    let voucher = EscrowVoucher { channel, cumulative: CumulativeAmount::from_units(cumulative) };
    key.sign(voucher, &batch_domain(ChainId::new(31_337))).expect("in range").signature().to_string()
}

/// An answer with a receipt.
fn answered(status: u16, charged: &str, total: &str, channel: Option<EscrowChannelId>) -> Response<Body> {
    let mut extra = json!({ "chargedAmount": charged });
    if let Some(channel) = channel {
        extra["channelState"] = json!({
            "channelId": channel, "balance": "10000", "totalClaimed": "0", "withdrawRequestedAt": 0, "refundNonce": "0",
            "chargedCumulativeAmount": total,
        });
    }
    let settled = SettleResponse {
        success: true,
        network: "eip155:31337".to_owned(),
        extra: serde_json::from_value(extra).expect("an object"),
        extensions: Object::default(),
        ..SettleResponse::default()
    };
    let header = settled.to_header().expect("short");
    Response::builder().status(status).header(PAYMENT_RESPONSE, header).body(Body::from("hi")).expect("sound")
}

async fn setup() -> (Upstream, tempfile::TempDir) {
    (Upstream::start().await, tempfile::tempdir().expect("a directory"))
}

fn get(server: &Upstream) -> Request {
    Request::new(Method::GET, format!("http://{}/call", server.address).parse().expect("an address"))
}

fn keyed(server: &Upstream) -> Request {
    let mut request = get(server);
    request.headers_mut().insert("idempotency-key", "order-1".parse().expect("a value"));
    request
}

fn payments(server: &Upstream) -> Vec<String> {
    let header = |seen: &Seen| seen.headers.get("payment-signature").map(|value| value.to_str().expect("text").to_owned());
    server.seen().iter().filter_map(header).collect()
}

/// The totals that were signed.
fn vouchers(server: &Upstream) -> Vec<u128> {
    let total = |header: &String| {
        let payment = PaymentPayload::from_header(header).expect("a payment");
        BatchPayload::from_object(&payment.payload).expect("a payload").voucher().max_claimable_amount.units()
    };
    payments(server).iter().map(total).collect()
}

/// Buys once from a server that is honest so far: the channel.
async fn buy_once(server: &Upstream, payer: &HttpPayer) -> EscrowChannelId {
    server.reply_with(batch());
    server.reply_with(answered(200, "1000", "1000", None));
    let response = payer.execute(get(server)).await.expect("an answer");
    let payment = response.extensions().get::<Payment>().cloned().expect("it was paid");
    assert_eq!(response.text().await.expect("a body"), "hi");
    assert_eq!(payment.settled().await.charged, Some(Amount::from_units(1_000)));
    payer.book().channels()[0].channel
}

#[tokio::test]
async fn what_is_not_allowed_is_not_signed() {
    let check = async |name: &str, offer: PaymentRequirements, expected: fn(&Refusal) -> bool| {
        let (server, directory) = setup().await;
        let payer = payer(directory.path());
        server.reply_with(required(None, vec![offer]));
        let error = payer.execute(get(&server)).await.expect_err(name);
        let HttpPayError::NoOffer { offers, .. } = &error else { panic!("{name}: {error}") };
        assert!(offers.iter().any(|(_, refusal)| expected(refusal)), "{name}: {error}");
        assert!(error.signed().is_none() && payments(&server).is_empty(), "{name}");
    };
    let limit = |refusal: &Refusal| matches!(refusal, Refusal::Limit { .. });
    let batch = |change: fn(&mut Value)| offer("batch-settlement", change);
    check("a price above the limit", batch(|offer| offer["amount"] = "100001".into()), limit).await;
    check("all there is", batch(|offer| offer["amount"] = u128::MAX.to_string().into()), limit).await;
    check("another token", batch(|offer| offer["asset"] = PAYEE.into()), |refusal| matches!(refusal, Refusal::UnknownAsset { .. })).await;
    check("another chain", batch(|offer| offer["network"] = "eip155:1".into()), |refusal| matches!(refusal, Refusal::UnknownAsset { .. }))
        .await;
    check("a deposit for ever", batch(|offer| offer["extra"]["minDeposit"] = "1000001".into()), |refusal| {
        matches!(refusal, Refusal::DepositMin { .. })
    })
    .await;
    check("a delay for ever", batch(|offer| offer["extra"]["withdrawDelay"] = 2_592_001.into()), |refusal| {
        matches!(refusal, Refusal::NoWay(_))
    })
    .await;
    check("a price that is none", batch(|offer| offer["amount"] = "-1".into()), |refusal| matches!(refusal, Refusal::Unreadable(_))).await;
    check("another scheme", offer("upto", same), |refusal| matches!(refusal, Refusal::Unspoken(_))).await;
}

#[tokio::test]
async fn headers_without_end_are_no_offers() {
    let (server, directory) = setup().await;
    let payer = payer(directory.path());
    for header in ["A".repeat(40_000), "AAAA".to_owned(), "e30=".to_owned()] {
        server.reply_with(Response::builder().status(402).header(PAYMENT_REQUIRED, header).body(Body::empty()).expect("sound"));
        let error = payer.execute(get(&server)).await.expect_err("no offer");
        assert!(matches!(error, HttpPayError::NoOffer { .. }), "{error}");
    }
    server.reply_with(Response::builder().status(402).body(Body::empty()).expect("sound"));
    assert!(matches!(payer.execute(get(&server)).await, Err(HttpPayError::NoOffer { .. })));
}

#[tokio::test]
async fn another_payee_than_before_is_refused() {
    let (server, directory) = setup().await;
    let payer = payer(directory.path());
    buy_once(&server, &payer).await;
    let other = |offer: &mut Value| offer["payTo"] = AUTHORIZER.into();
    server.reply_with(required(None, vec![offer("batch-settlement", other)]));
    let error = payer.execute(get(&server)).await.expect_err("another payee");
    let HttpPayError::NoOffer { offers, .. } = &error else { panic!("{error}") };
    assert!(offers.iter().any(|(_, refusal)| matches!(refusal, Refusal::AnotherPayee { .. })), "{error}");
    assert_eq!(payments(&server).len(), 1);
}

#[tokio::test]
async fn a_claim_to_have_charged_more_than_was_signed_ends_the_channel() {
    let check = async |name: &str, charged: u128, signed: u128, key: [u8; 32]| {
        let (server, directory) = setup().await;
        let payer = payer(directory.path());
        let channel = buy_once(&server, &payer).await;
        server.reply_with(batch());
        server.reply_with(corrective(channel, charged, signed, &signature(key, channel, signed)));
        let error = payer.execute(get(&server)).await.expect_err(name);
        assert!(matches!(error, HttpPayError::FalseClaim { .. }), "{name}: {error}");
        assert!(matches!(payer.book().channels()[0].status, ChannelStatus::Suspended(_)), "{name}");
        // And it is not paid again.
        server.reply_with(batch());
        let error = payer.execute(get(&server)).await.expect_err(name);
        assert!(matches!(error, HttpPayError::NoOffer { .. }), "{name}: {error}");
        assert_eq!(vouchers(&server), [1_000, 2_000], "{name}");
    };
    check("more than our own signature", 5_000, 2_000, KEY).await;
    check("a signature of somebody else", 5_000, 5_000, [0x22; 32]).await;
}

#[tokio::test]
async fn a_request_that_was_charged_and_not_answered_is_not_paid_again() {
    let (server, directory) = setup().await;
    let payer = payer(directory.path());
    let channel = buy_once(&server, &payer).await;
    server.reply_with(batch());
    // It took the voucher of this very request, and wants another.
    server.reply_with(corrective(channel, 2_000, 2_000, &signature(KEY, channel, 2_000)));
    let error = payer.execute(get(&server)).await.expect_err("no second payment");
    let HttpPayError::ChargedNotAnswered { signed } = &error else { panic!("{error}") };
    assert_eq!(signed.charged, Some(Amount::from_units(1_000)));
    assert_eq!(vouchers(&server), [1_000, 2_000]);
}

#[tokio::test]
async fn an_earlier_charge_that_was_never_told_is_believed_with_proof_and_only_then() {
    let (server, directory) = setup().await;
    let payer = payer(directory.path());
    let channel = buy_once(&server, &payer).await;
    // An answer without a receipt: it may have been charged.
    server.reply_with(batch());
    server.reply_with(Response::new(Body::from("hi")));
    let response = payer.execute(get(&server)).await.expect("an answer");
    let payment = response.extensions().get::<Payment>().cloned().expect("it was paid");
    drop(response);
    assert_eq!(payment.settled().await.charged, None);
    // The next signs no more than is signed already, until the server proves what it charged.
    server.reply_with(batch());
    server.reply_with(corrective(channel, 2_000, 2_000, &signature(KEY, channel, 2_000)));
    server.reply_with(answered(200, "1000", "3000", Some(channel)));
    assert!(payer.execute(get(&server)).await.expect("an answer").status().is_success());
    assert_eq!(vouchers(&server), [1_000, 2_000, 2_000, 3_000]);
    assert_eq!(payer.book().channels()[0].charged.units(), 3_000);
}

#[tokio::test]
async fn receipts_that_cannot_be_are_disputed_and_the_answer_is_given() {
    let check = async |name: &str, charged: &str, total: &str, disputed: bool| {
        let (server, directory) = setup().await;
        let payer = payer(directory.path());
        let channel = buy_once(&server, &payer).await;
        server.reply_with(batch());
        server.reply_with(answered(200, charged, total, Some(channel)));
        let response = payer.execute(get(&server)).await.expect("an answer");
        let payment = response.extensions().get::<Payment>().cloned().expect("it was paid");
        assert_eq!(response.text().await.expect("a body"), "hi", "{name}");
        assert_eq!(payment.settled().await.disputed.is_some(), disputed, "{name}");
        let status = payer.book().channels()[0].status.clone();
        assert_eq!(matches!(status, ChannelStatus::Suspended(_)), disputed, "{name}");
    };
    check("as it should be", "700", "1700", false).await;
    check("more than the price", "1001", "2001", true).await;
    check("a total that does not add up", "500", "1700", true).await;
    check("a total below the one before", "0", "900", true).await;
    check("no receipt at all", "x", "1700", false).await;
}

#[tokio::test]
async fn a_payment_follows_no_redirect_and_neither_does_a_request_to_another_host() {
    let (server, directory) = setup().await;
    let other = Upstream::start().await;
    let payer = payer(directory.path());
    let away = || {
        let location = format!("http://localhost:{}/call", other.address.port());
        Response::builder().status(307).header("location", location).body(Body::empty()).expect("sound")
    };
    server.reply_with(away());
    let response = payer.execute(get(&server)).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    server.reply_with(batch());
    server.reply_with(away());
    let response = payer.execute(get(&server)).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert!(other.seen().is_empty());
    assert_eq!(payments(&server).len(), 1);
    // Within the host a request without a payment is led on.
    server.reply_with(Response::builder().status(301).header("location", "/call/").body(Body::empty()).expect("sound"));
    server.reply_with(Response::new(Body::from("free")));
    assert_eq!(payer.execute(get(&server)).await.expect("an answer").text().await.expect("a body"), "free");
}

#[tokio::test]
async fn no_answer_is_paid_for_once_however_often_it_is_asked() {
    let (server, directory) = setup().await;
    let lost = |request: &mut Request| *request.timeout_mut() = Some(Duration::from_millis(300));
    let mut headers = Vec::new();
    // Silence after the payment, in three processes one after the other.
    for round in 0..3 {
        let payer = payer(directory.path());
        if round == 0 {
            server.reply_with(batch());
        }
        server.silence();
        let mut request = keyed(&server);
        lost(&mut request);
        let error = payer.execute(request).await.expect_err("silence");
        assert!(matches!(error, HttpPayError::Unanswered { .. }), "{error}");
        headers = payments(&server);
    }
    assert_eq!(headers.len(), 3);
    assert!(headers.iter().all(|header| *header == headers[0]), "the same bytes each time");
    let payer = payer(directory.path());
    server.reply_with(answered(200, "1000", "1000", None));
    let response = payer.execute(keyed(&server)).await.expect("an answer");
    assert_eq!(response.extensions().get::<Payment>().expect("it was paid").state().charged, Some(Amount::from_units(1_000)));
    assert_eq!(payments(&server)[3], headers[0]);
    assert_eq!(payer.book().channels()[0].signed.units(), 1_000);
}

#[tokio::test]
async fn a_failure_after_the_charge_says_what_it_cost() {
    let (server, directory) = setup().await;
    let payer = payer(directory.path());
    server.reply_with(batch());
    server.reply_with(answered(502, "1000", "1000", None));
    let response = payer.execute(keyed(&server)).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(response.extensions().get::<Payment>().expect("it was paid").state().charged, Some(Amount::from_units(1_000)));
    drop(response);
    // Asked again under the same key, the same payment goes out, not another.
    server.reply_with(answered(200, "1000", "1000", None));
    payer.execute(keyed(&server)).await.expect("an answer");
    let sent = payments(&server);
    assert_eq!((sent.len(), sent[0] == sent[1]), (2, true));
}

#[tokio::test]
async fn a_transfer_is_signed_once() {
    let (server, directory) = setup().await;
    let payer = payer(directory.path());
    let exact = || required(None, vec![offer("exact", same)]);
    server.reply_with(exact());
    server.reply_with(exact());
    let error = payer.execute(keyed(&server)).await.expect_err("it wants to be paid twice");
    assert!(matches!(error, HttpPayError::NotTaken { .. }), "{error}");
    // Again: the same signature, and then it is taken.
    server.reply_with(answered(200, "1000", "1000", None));
    let response = payer.execute(keyed(&server)).await.expect("an answer");
    let state = response.extensions().get::<Payment>().expect("it was paid").state();
    assert_eq!((state.scheme, state.charged), (Scheme::Exact, Some(Amount::from_units(1_000))));
    let sent = payments(&server);
    assert_eq!((sent.len(), sent[0] == sent[1]), (2, true));
    let payment = PaymentPayload::from_header(&sent[0]).expect("a payment");
    let ExactPayload::Erc3009(transfer) = ExactPayload::from_object(&payment.payload).expect("a payload") else { panic!("by the token") };
    let domain = TokenDomain::new("USDC", "2", ChainId::new(31_337), TOKEN.parse().expect("an address"));
    let signed = transfer.signed().verify(&domain, payer.account()).expect("ours");
    assert_eq!((signed.statement().value.units(), signed.statement().to), (1_000, PAYEE.parse().expect("an address")));
    assert_eq!(payer.book().spent(usdc().id, millstream_types::Timestamp::from_millis(0)).total.units(), 1_000);
}

#[tokio::test]
async fn a_server_that_never_has_enough_gets_one_payment() {
    let (server, directory) = setup().await;
    let payer = payer(directory.path());
    for price in 1_000..1_020u32 {
        let dearer = move |offer: &mut Value| offer["amount"] = price.to_string().into();
        server.reply_with(required(None, vec![offer("batch-settlement", dearer)]));
    }
    let error = payer.execute(get(&server)).await.expect_err("it never ends");
    assert!(matches!(error, HttpPayError::NotTaken { .. }), "{error}");
    // A voucher replaces the one before: all of them together are worth the last.
    let channel = payer.book().channels().remove(0);
    assert!(channel.signed.units() < 1_020 && vouchers(&server).iter().all(|total| *total <= channel.signed.units()));
    assert_eq!(payer.book().spent(usdc().id, millstream_types::Timestamp::from_millis(0)).total.units(), channel.signed.units());
}

#[tokio::test]
async fn a_request_with_a_payment_of_its_own_or_a_body_without_end_is_not_sent() {
    let (server, directory) = setup().await;
    let payer = payer(directory.path());
    for (name, value) in [("payment-signature", "x"), ("x-payment", "x"), ("authorization", "Payment x")] {
        let mut request = get(&server);
        request.headers_mut().insert(name, value.parse().expect("a value"));
        assert!(matches!(payer.execute(request).await, Err(HttpPayError::OwnPayment { .. })), "{name}");
    }
    let mut request = get(&server);
    *request.body_mut() = Some(vec![0; 17 * 1024 * 1024].into());
    assert!(matches!(payer.execute(request).await, Err(HttpPayError::BodyTooLong { .. })));
    assert!(server.seen().is_empty());
}
