//! Single payments from the client's header to the chain, x402 `exact` and MPP `charge`: real gateway, node, contracts and chain.

mod support;

use std::path::Path;

use millstream_chain::x402::ExactTransfer;
use millstream_chain::{IntentId, PERMIT2, approve};
use millstream_dialect::Object;
use millstream_dialect::mpp::{ChargePayload, ChargeRequest, Credential, Offer, Receipt};
use millstream_dialect::x402::{
    Erc3009Fields, Erc3009Payment, ExactOffer, ExactPayload, ExactWitness, PaymentPayload, PaymentRequired, PaymentRequirements,
    Permit2Fields, Permit2Payment, PermittedFields, Reason, SettleResponse, TransferMethod, VERSION,
};
use millstream_testkit::DEV_ACCOUNTS;
use millstream_types::{Hash256, Uint256};
use millstream_voucher::evm::{EvmSignature, TransferAuthorization, TransferKind, X402_EXACT_PERMIT2_PROXY};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use support::{Chain, House, PAYER, Plan, RECEIVER, Upstream, secret, units, until};

const PRICE: u128 = 1_000;
const EXACT: &str = "[payment.exact]\nmethods = [\"eip3009\", \"permit2\"]";

fn plan() -> Plan {
    Plan { sections: EXACT.to_owned(), ..Plan::default() }
}

struct World {
    chain: Chain,
    upstream: Upstream,
    directory: tempfile::TempDir,
    client: Client,
}

impl World {
    async fn start() -> (Self, House) {
        let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
        let house = House::start(&chain, directory.path(), &upstream, &plan()).await;
        (Self { chain, upstream, directory, client: Client::new() }, house)
    }

    async fn restart(&self) -> House {
        House::start(&self.chain, self.directory.path(), &self.upstream, &plan()).await
    }

    async fn offer(&self, house: &House, method: TransferMethod) -> PaymentRequirements {
        let response = self.client.get(house.url("/thing")).send().await.expect("answered");
        assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
        let required = PaymentRequired::from_header(response.headers()["payment-required"].to_str().expect("text")).expect("offers");
        assert_eq!(required.accepts[0].scheme, "batch-settlement", "channels come first");
        let is_wanted = |offer: &&PaymentRequirements| ExactOffer::from_requirements(offer).is_ok_and(|offer| offer.method == method);
        required.accepts.iter().find(is_wanted).expect("offered").clone()
    }

    async fn send(&self, house: &House, header: &str) -> Answer {
        let response = self.client.get(house.url("/thing")).header("payment-signature", header).send().await.expect("answered");
        Answer::read(response).await
    }

    async fn received(&self) -> u128 {
        self.chain.balance(DEV_ACCOUNTS[RECEIVER].address).await
    }

    /// What the newest block's clock says.
    async fn time(&self) -> u64 {
        self.chain.rpc.head_time().await.expect("a block").as_millis() / 1_000
    }

    async fn transfer(&self, account: usize, nonce: u8) -> TransferAuthorization {
        TransferAuthorization {
            kind: TransferKind::Transfer,
            from: DEV_ACCOUNTS[account].address,
            to: DEV_ACCOUNTS[RECEIVER].address,
            value: units(PRICE),
            valid_after: Uint256::ZERO,
            valid_before: Uint256::from(self.time().await + 300),
            nonce: Hash256::from_bytes([nonce; 32]),
        }
    }

    fn signed(&self, account: usize, transfer: TransferAuthorization) -> EvmSignature {
        secret(account).sign(transfer, &self.chain.token).expect("signed").signature().clone()
    }

    /// `PAYMENT-SIGNATURE` with a transfer, whatever it says.
    fn header(&self, offer: &PaymentRequirements, account: usize, transfer: TransferAuthorization) -> String {
        let authorization = Erc3009Fields {
            from: transfer.from,
            to: transfer.to,
            value: transfer.value,
            valid_after: transfer.valid_after,
            valid_before: transfer.valid_before,
            nonce: transfer.nonce,
        };
        let payload = ExactPayload::Erc3009(Erc3009Payment { signature: self.signed(account, transfer), authorization });
        header(offer, &payload)
    }

    fn exact(&self, account: usize, transfer: TransferAuthorization) -> ExactTransfer {
        ExactTransfer {
            token: self.chain.token.token(),
            from: transfer.from,
            to: transfer.to,
            amount: transfer.value,
            valid_after: transfer.valid_after,
            valid_before: transfer.valid_before,
            nonce: transfer.nonce,
            signature: self.signed(account, transfer),
        }
    }
}

fn header(offer: &PaymentRequirements, payload: &ExactPayload) -> String {
    let (payload, extensions) = (payload.to_object().expect("written"), Object::default());
    let payment = PaymentPayload { x402_version: VERSION, resource: None, accepted: offer.clone(), payload, extensions };
    payment.to_header().expect("written")
}

/// An answer, read.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    settled: Option<SettleResponse>,
    error: Option<String>,
    receipt: Option<Receipt>,
    body: String,
}

impl Answer {
    async fn read(response: Response) -> Self {
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        let settled = header("payment-response").map(|text| SettleResponse::from_header(&text).expect("a receipt"));
        let required = header("payment-required").map(|text| PaymentRequired::from_header(&text).expect("offers"));
        let receipt = header("payment-receipt").map(|text| Receipt::from_header(&text).expect("a receipt"));
        let error = required.and_then(|required| required.error);
        let status = response.status();
        Self { status, settled, error, receipt, body: response.text().await.expect("a body") }
    }

    fn transaction(&self) -> String {
        let settled = self.settled.as_ref().unwrap_or_else(|| panic!("a receipt: {self:?}"));
        assert!(settled.success && settled.transaction.starts_with("0x"), "{settled:?}");
        settled.transaction.clone()
    }

    fn problem(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("a problem: {self:?}"))
    }

    /// Refused, for this reason, and nothing was charged.
    fn check_refused(&self, reason: Reason) {
        assert_eq!((self.status, self.error.as_deref()), (StatusCode::PAYMENT_REQUIRED, Some(reason.as_str())), "{self:?}");
        assert_eq!(self.problem()["charged"], json!("0"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_collected_whole_and_answered_once() {
    let (world, house) = World::start().await;
    let (offer, before) = (world.offer(&house, TransferMethod::Eip3009).await, world.received().await);

    let paying = world.header(&offer, PAYER, world.transfer(PAYER, 1).await);
    let paid = world.send(&house, &paying).await;
    assert_eq!((paid.status, paid.body.as_str()), (StatusCode::OK, "ok"), "{paid:?}");
    let transaction = paid.transaction();
    assert_eq!(world.received().await, before + PRICE, "it is on the chain when the answer is there");
    // The same again is the same charge, and nothing is delivered.
    let again = world.send(&house, &paying).await;
    assert_eq!((again.status, again.transaction()), (StatusCode::CONFLICT, transaction));
    assert_eq!((&again.problem()["code"], &again.problem()["charged"]), (&json!("already-charged"), &json!("1000")));
    // For something else it is no payment at all.
    let other = world.client.get(house.url("/other")).header("payment-signature", &paying).send().await.expect("answered");
    assert_eq!((other.status(), world.received().await), (StatusCode::CONFLICT, before + PRICE));

    // What is not what was offered, each with its reason.
    let transfer = world.transfer(PAYER, 2).await;
    let now = world.time().await;
    let wrong = [
        (TransferAuthorization { value: units(PRICE - 1), ..transfer }, Reason::ExactPayloadAuthorizationValueMismatch),
        (TransferAuthorization { to: DEV_ACCOUNTS[PAYER].address, ..transfer }, Reason::ExactRecipientMismatch),
        (TransferAuthorization { valid_before: Uint256::from(now), ..transfer }, Reason::ExactPayloadAuthorizationValidBefore),
        (TransferAuthorization { valid_after: Uint256::from(now + 500), ..transfer }, Reason::ExactPayloadAuthorizationValidAfter),
        (TransferAuthorization { valid_before: Uint256::MAX, ..transfer }, Reason::ExactPayloadAuthorizationValidBefore),
        // Signed by somebody else; from an account with nothing; used already, by somebody who pays the same.
        (TransferAuthorization { from: DEV_ACCOUNTS[PAYER + 1].address, ..transfer }, Reason::ExactSignature),
    ];
    for (transfer, reason) in wrong {
        world.send(&house, &world.header(&offer, PAYER, transfer)).await.check_refused(reason);
    }
    let poor = world.transfer(1, 3).await;
    world.send(&house, &world.header(&offer, 1, poor)).await.check_refused(Reason::ExactInsufficientBalance);
    let used = world.transfer(PAYER, 4).await;
    world
        .exact(PAYER, used)
        .submit(&world.chain.submitter(7), IntentId::from_bytes([4; 32]))
        .await
        .expect("somebody pays it in");
    let before = world.received().await;
    world.send(&house, &world.header(&offer, PAYER, used)).await.check_refused(Reason::ExactNonceAlreadyUsed);

    // An upstream that fails costs nothing, and the authorisation is as good as before.
    world.upstream.then(None);
    let paying = world.header(&offer, PAYER, world.transfer(PAYER, 5).await);
    assert_eq!((world.send(&house, &paying).await.status, world.received().await), (StatusCode::BAD_GATEWAY, before));
    // Many at once: one is answered.
    let mut replays = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let request = world.client.get(house.url("/thing")).header("payment-signature", &paying);
        replays.spawn(async move { Answer::read(request.send().await.expect("answered")).await });
    }
    let answers = replays.join_all().await;
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(StatusCode::OK), count(StatusCode::CONFLICT)), (1, 7), "{answers:?}");
    assert_eq!(world.received().await, before + PRICE);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_faster_pays_or_spoils_it() {
    let (world, house) = World::start().await;
    let offer = world.offer(&house, TransferMethod::Eip3009).await;

    // Somebody else sends it while the upstream works: it is paid, once.
    let transfer = world.transfer(PAYER, 1).await;
    let (before, paying) = (world.received().await, world.header(&offer, PAYER, transfer));
    world.upstream.close();
    let faster = async {
        world.upstream.arrival().await;
        let sent = world.exact(PAYER, transfer).submit(&world.chain.submitter(7), IntentId::from_bytes([1; 32])).await;
        world.upstream.open();
        sent.expect("sent").transaction.to_string()
    };
    let (paid, transaction) = tokio::join!(world.send(&house, &paying), faster);
    assert_eq!((paid.status, paid.transaction()), (StatusCode::OK, transaction), "{paid:?}");
    assert_eq!(world.received().await, before + PRICE);
    assert_eq!(world.send(&house, &paying).await.status, StatusCode::CONFLICT);

    // The payer uses the nonce for something else meanwhile: nothing is delivered, and nothing is owed.
    let transfer = world.transfer(PAYER, 2).await;
    let paying = world.header(&offer, PAYER, transfer);
    world.upstream.close();
    let spoiling = async {
        world.upstream.arrival().await;
        let elsewhere = TransferAuthorization { to: DEV_ACCOUNTS[PAYER].address, ..transfer };
        let sent = world.exact(PAYER, elsewhere).submit(&world.chain.submitter(7), IntentId::from_bytes([2; 32])).await;
        world.upstream.open();
        sent.expect("sent");
    };
    let (refused, ()) = tokio::join!(world.send(&house, &paying), spoiling);
    refused.check_refused(Reason::ExactNonceAlreadyUsed);
    assert_ne!(refused.body, "ok");
    assert_eq!(world.received().await, before + PRICE);
    let paying = world.header(&offer, PAYER, world.transfer(PAYER, 3).await);
    assert_eq!(world.send(&house, &paying).await.status, StatusCode::OK, "the payer is not held to it");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn permit2_moves_what_the_payer_approved() {
    let (world, house) = World::start().await;
    let offer = world.offer(&house, TransferMethod::Permit2).await;
    let (payer, token) = (secret(PAYER), world.chain.token.token());
    let permit = |nonce: u64, deadline: u64| {
        let authorization = Permit2Fields {
            from: DEV_ACCOUNTS[PAYER].address,
            permitted: PermittedFields { token, amount: units(PRICE) },
            spender: X402_EXACT_PERMIT2_PROXY,
            nonce: Uint256::from(nonce),
            deadline: Uint256::from(deadline),
            witness: ExactWitness { to: DEV_ACCOUNTS[RECEIVER].address, valid_after: Uint256::ZERO },
        };
        let unsigned = Permit2Payment { signature: EvmSignature::new([1]).expect("short"), permit2_authorization: authorization };
        let (signed, domain) = unsigned.signed(world.chain.token.chain());
        let signature = payer.sign(signed.statement().clone(), &domain).expect("signed").signature().clone();
        header(&offer, &ExactPayload::Permit2(Permit2Payment { signature, ..unsigned }))
    };
    let (before, deadline) = (world.received().await, world.time().await + 300);
    world.send(&house, &permit(77, deadline)).await.check_refused(Reason::Permit2AllowanceRequired);
    world.send(&house, &permit(77, 5)).await.check_refused(Reason::Permit2DeadlineExpired);
    approve(&world.chain.submitter(PAYER), token, PERMIT2, 10 * PRICE).await.expect("approved");
    let paid = world.send(&house, &permit(77, deadline)).await;
    assert_eq!((paid.status, paid.body.as_str()), (StatusCode::OK, "ok"), "{paid:?}");
    assert_eq!(world.received().await, before + PRICE);
    let again = world.send(&house, &permit(77, deadline)).await;
    assert_eq!((again.status, again.transaction()), (StatusCode::CONFLICT, paid.transaction()));
    assert_eq!(world.send(&house, &permit(78, deadline)).await.status, StatusCode::OK);
    assert_eq!(world.received().await, before + 2 * PRICE);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_of_mpp_is_paid_and_has_its_receipt() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let secret_file = offers_secret(directory.path());
    let sections = format!("[payment.exact]\n[payment.mpp]\nsecret_file = \"{secret_file}\"");
    let house = House::start(&chain, directory.path(), &upstream, &Plan { sections, ..Plan::default() }).await;
    let world = World { chain, upstream, directory, client: Client::new() };
    let before = world.received().await;

    let offered = |response: &Response| {
        let values = response.headers().get_all("www-authenticate").iter().map(|value| value.to_str().expect("text"));
        let offers: Vec<Offer> = Offer::from_headers(values).into_iter().map(|offer| offer.expect("well formed")).collect();
        assert_eq!(offers.len(), 1, "there is no escrow for sessions");
        offers.into_iter().next().expect("one")
    };
    let response = world.client.get(house.url("/thing")).send().await.expect("answered");
    let offer = offered(&response);
    let request: ChargeRequest = offer.terms.request().expect("a charge");
    assert_eq!((offer.terms.intent.as_str(), request.amount), ("charge", units(PRICE)));
    let another = offered(&world.client.get(house.url("/thing")).send().await.expect("answered"));
    assert_ne!(offer.hash(), another.hash(), "two offers are never paid by one nonce");

    let credential = |offer: &Offer, value: u128, valid_before: Uint256| {
        let transfer = TransferAuthorization {
            kind: TransferKind::Transfer,
            from: DEV_ACCOUNTS[PAYER].address,
            to: DEV_ACCOUNTS[RECEIVER].address,
            value: units(value),
            valid_after: Uint256::ZERO,
            valid_before,
            nonce: offer.hash(),
        };
        let payload = ChargePayload::Authorization {
            from: transfer.from,
            to: transfer.to,
            value: transfer.value,
            valid_after: transfer.valid_after,
            valid_before: transfer.valid_before,
            nonce: transfer.nonce,
            signature: world.signed(PAYER, transfer),
        };
        let source = format!("did:pkh:eip155:31337:{}", transfer.from);
        let payload = payload.to_object().expect("written");
        Credential { offer: offer.clone(), source: Some(source), payload }.to_header().expect("written")
    };
    let send = async |header: String| {
        let response = world.client.get(house.url("/thing")).header("authorization", header).send().await.expect("answered");
        Answer::read(response).await
    };
    let end = Uint256::from(world.time().await + 300);
    let cheap = send(credential(&offer, PRICE - 1, end)).await;
    assert_eq!((cheap.status, &cheap.problem()["code"]), (StatusCode::PAYMENT_REQUIRED, &json!("verification-failed")), "{cheap:?}");
    let late = send(credential(&offer, PRICE, Uint256::from(1u64))).await;
    assert_eq!((late.status, &late.problem()["code"]), (StatusCode::PAYMENT_REQUIRED, &json!("payment-expired")), "{late:?}");

    let paid = send(credential(&offer, PRICE, end)).await;
    assert_eq!((paid.status, paid.body.as_str()), (StatusCode::OK, "ok"), "{paid:?}");
    let receipt = paid.receipt.expect("a receipt");
    assert!(receipt.reference.starts_with("0x") && receipt.method == "evm", "{receipt:?}");
    assert_eq!(receipt.more.get("challengeId"), Some(&json!(offer.id)));
    assert_eq!(world.received().await, before + PRICE);
    let again = send(credential(&offer, PRICE, end)).await;
    assert_eq!((again.status, &again.problem()["transaction"]), (StatusCode::CONFLICT, &json!(receipt.reference)));
    assert!(again.receipt.is_none(), "receipts go with success only");
    assert_eq!(send(credential(&another, PRICE, end)).await.status, StatusCode::OK);
    assert_eq!(world.received().await, before + 2 * PRICE);
    house.stop().await;
}

fn offers_secret(directory: &Path) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = directory.join("offers.secret");
    std::fs::write(&path, "5a".repeat(32)).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_neither_loses_a_payment_nor_takes_one_for_nothing() {
    let (world, house) = World::start().await;
    let (offer, before) = (world.offer(&house, TransferMethod::Eip3009).await, world.received().await);

    // While the upstream works: nothing was sent, and the payment is as good as new.
    let paying = world.header(&offer, PAYER, world.transfer(PAYER, 1).await);
    world.upstream.close();
    let url = house.url("/thing");
    let request = tokio::spawn(world.client.get(&url).header("payment-signature", &paying).send());
    world.upstream.arrival().await;
    house.crash().await;
    request.abort();
    world.upstream.open();
    let house = world.restart().await;
    assert_eq!(world.received().await, before);
    assert_eq!(world.send(&house, &paying).await.status, StatusCode::OK);
    assert_eq!(world.received().await, before + PRICE);

    // When it was sent and is in no block: it is found again, and whoever paid is answered, once.
    world.chain.call("evm_setAutomine", json!([false])).await;
    let paying = world.header(&offer, PAYER, world.transfer(PAYER, 2).await);
    let url = house.url("/thing");
    let request = tokio::spawn(world.client.get(&url).header("payment-signature", &paying).send());
    until("a transaction waits", async || {
        let status = world.chain.call("txpool_status", json!([])).await;
        status["pending"] == json!("0x1")
    })
    .await;
    house.crash().await;
    request.abort();
    let house = world.restart().await;
    world.chain.call("evm_setAutomine", json!([true])).await;
    world.chain.mine(1).await;
    let paid = world.send(&house, &paying).await;
    assert_eq!((paid.status, paid.body.as_str()), (StatusCode::OK, "ok"), "{paid:?}");
    assert_eq!(world.received().await, before + 2 * PRICE);
    let again = world.send(&house, &paying).await;
    assert_eq!((again.status, again.transaction()), (StatusCode::CONFLICT, paid.transaction()));
    house.crash().await;
    let house = world.restart().await;
    assert_eq!(world.send(&house, &paying).await.status, StatusCode::CONFLICT, "nor after another crash");
    assert_eq!(world.received().await, before + 2 * PRICE);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_left_before_its_payment_failed_is_owed() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let mut plan = plan();
    plan.escrow.settle_wait_secs = 1;
    let house = House::start(&chain, directory.path(), &upstream, &plan).await;
    let world = World { chain, upstream, directory, client: Client::new() };
    let (offer, before) = (world.offer(&house, TransferMethod::Eip3009).await, world.received().await);

    // No block within the wait: the answer leaves, and says that its payment is on its way.
    world.chain.call("evm_setAutomine", json!([false])).await;
    let pending = world.send(&house, &world.header(&offer, PAYER, world.transfer(PAYER, 1).await)).await;
    assert_eq!((pending.status, pending.body.as_str()), (StatusCode::OK, "ok"), "{pending:?}");
    let settled = pending.settled.clone().expect("a receipt");
    assert_eq!((settled.success, settled.extra.get("pending")), (true, Some(&json!(true))));
    // When there is a block at last, the authorisation has ended.
    world.chain.call("evm_increaseTime", json!([400])).await;
    world.chain.call("evm_setAutomine", json!([true])).await;
    world.chain.mine(3).await;
    let next = world.transfer(PAYER, 2).await;
    until("the payer is refused", async || {
        world.chain.mine(1).await;
        world.send(&house, &world.header(&offer, PAYER, next)).await.status == StatusCode::FORBIDDEN
    })
    .await;
    assert_eq!(world.received().await, before);
    house.stop().await;
}
