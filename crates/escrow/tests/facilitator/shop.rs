//! A facilitator on a chain, and a server that asks it.

#![allow(dead_code, reason = "each test uses a part")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_chain::x402::BatchOperator;
use millstream_dialect::Object;
use millstream_dialect::x402::{
    BatchCommand, BatchPayload, Claim, ClaimedVoucher, PaymentPayload, PaymentRequirements, RefundSettlement, SettleResponse,
    VerifyResponse, batch_domain,
};
use millstream_escrow::{Facilitator, FacilitatorRooms, FacilitatorTerms, Parts, Rail};
use millstream_gateway::{GatewayConfig, serve_with_facilitator};
use millstream_node::Node;
use millstream_testkit::DEV_ACCOUNTS;
use millstream_types::{Amount, ChainId, CumulativeAmount, Uint256};
use millstream_voucher::evm::{ChannelConfig, ClaimBatch, ClaimEntry, EvmSecretKey, EvmSignature, Refund, eip55};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{
    Chain, DELAY_SECS, OPERATOR, Payer, Plan, RECEIVER, blocking, node_config, opened, rail_config, secret, total, units,
};

/// A server's own authorizer.
pub const AUTHORIZER: usize = 7;

/// A gateway whose listener is a facilitator, too.
pub struct Shop {
    pub node: Node,
    pub rail: Rail,
    pub address: SocketAddr,
    pub client: Client,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    /// All of it runs here, so that all of it can end at once.
    runtime: Runtime,
}

impl Shop {
    /// `section` is TOML of `[facilitator]`, without its head.
    pub async fn start(chain: &Chain, directory: &Path, section: &str) -> Self {
        Self::start_with(chain, directory, section, &Plan::default()).await
    }

    pub async fn start_with(chain: &Chain, directory: &Path, section: &str, plan: &Plan) -> Self {
        let rail = rail_config(chain, plan);
        let mut config = node_config(directory, chain, plan);
        config.escrows = rail.engine().expect("fits");
        let gateway = GatewayConfig::parse(&configuration(chain, section)).expect("a configuration");
        let terms = FacilitatorTerms::of(&gateway).expect("sound").expect("a section");
        let (runtime, confirmations) = (Runtime::new().expect("a runtime"), plan.confirmations);
        let started = runtime.spawn(async move {
            let node = opened(&config).await;
            let (payments, rpc, submitter) = (node.payments(), node.rpc().clone(), node.submitter().clone());
            let facilitator = Facilitator::start(FacilitatorRooms { payments, rpc, submitter, confirmations, terms }).await;
            let rail = Rail::start(Parts::of(&node), rail).await.expect("the rail starts");
            (node, facilitator.expect("the facilitator starts"), rail)
        });
        let (node, facilitator, rail) = started.await.expect("no panic");
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = oneshot::channel();
        let port = rail.port();
        let serving = runtime.spawn(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            bound.send(listener.local_addr().expect("bound")).expect("waited for");
            let shutdown = async { drop(stopped.await) };
            serve_with_facilitator(&gateway, port, Arc::new(facilitator), listener, shutdown).await.expect("it serves");
        });
        let address = address.await.expect("bound");
        Self { node, rail, address, client: Client::new(), stop, serving, runtime }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/facilitator{path}", self.address)
    }

    /// Stops in order.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.serving.await.expect("no panic");
        self.rail.stop().await;
        self.node.stop().await.expect("it stops");
        blocking(move || drop(self.runtime)).await;
    }

    /// Ends as a killed process does: wherever each task is.
    pub async fn crash(self) {
        let Self { node, rail, runtime, .. } = self;
        blocking(move || {
            runtime.shutdown_timeout(Duration::from_secs(10));
            drop((node, rail));
        })
        .await;
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>, key: Option<&str>) -> (StatusCode, Value) {
        let request = self.client.post(self.url(path)).header("content-type", "application/json").body(body);
        let request = key.into_iter().fold(request, |request, key| request.bearer_auth(key));
        let response = request.send().await.expect("answered");
        let status = response.status();
        (status, response.json().await.expect("JSON"))
    }

    pub async fn ask(&self, path: &str, payload: Object, requirements: &PaymentRequirements, key: Option<&str>) -> Value {
        let (status, answer) = self.post(path, body(payload, requirements).to_string(), key).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    pub async fn verify(&self, payload: &BatchPayload, requirements: &PaymentRequirements) -> VerifyResponse {
        let answer = self.ask("/verify", payload.to_object().expect("written"), requirements, None).await;
        serde_json::from_value(answer).expect("an answer")
    }

    pub async fn settle(&self, payload: &BatchPayload, requirements: &PaymentRequirements) -> SettleResponse {
        let answer = self.ask("/settle", payload.to_object().expect("written"), requirements, None).await;
        serde_json::from_value(answer).expect("an answer")
    }

    pub async fn command(&self, command: &BatchCommand, requirements: &PaymentRequirements, key: Option<&str>) -> SettleResponse {
        let answer = self.ask("/settle", command.to_object().expect("written"), requirements, key).await;
        serde_json::from_value(answer).expect("an answer")
    }
}

pub fn body(payload: Object, requirements: &PaymentRequirements) -> Value {
    let payment =
        PaymentPayload { x402_version: 2, resource: None, accepted: requirements.clone(), payload, extensions: Object::default() };
    json!({ "x402Version": 2, "paymentPayload": payment, "paymentRequirements": requirements })
}

fn configuration(chain: &Chain, section: &str) -> String {
    format!(
        r#"
        [payment]
        network = "eip155:31337"
        asset = "{token}"
        symbol = "USDC"
        decimals = 6
        asset_name = "USD Coin"
        asset_version = "2"
        pay_to = "{receiver}"
        [payment.x402]
        receiver_authorizer = "{operator}"
        withdraw_delay_secs = {DELAY_SECS}
        [facilitator]
        {wait}
        {section}
        "#,
        wait = if section.contains("wait_secs") { "" } else { "wait_secs = 20" },
        token = chain.token.token(),
        receiver = DEV_ACCOUNTS[RECEIVER].address,
        operator = DEV_ACCOUNTS[OPERATOR].address,
    )
}

/// What a server offers for a price, with an authorizer.
pub fn offer(chain: &Chain, amount: u128, authorizer: usize) -> PaymentRequirements {
    let text = json!({
        "scheme": "batch-settlement",
        "network": "eip155:31337",
        "amount": amount.to_string(),
        "asset": eip55(&chain.token.token()),
        "payTo": eip55(&DEV_ACCOUNTS[RECEIVER].address),
        "maxTimeoutSeconds": 300,
        "extra": {
            "name": "USD Coin", "version": "2", "withdrawDelay": DELAY_SECS,
            "receiverAuthorizer": eip55(&DEV_ACCOUNTS[authorizer].address), "minDeposit": (amount * 10).to_string(),
        },
    });
    serde_json::from_value(text).expect("an offer")
}

/// What a server's channel manager sends with its commands.
pub fn bare(chain: &Chain) -> PaymentRequirements {
    PaymentRequirements { amount: "0".to_owned(), max_timeout_seconds: 0, extra: Object::default(), ..offer(chain, 0, OPERATOR) }
}

/// A payer of a server with an authorizer.
pub fn payer_of(chain: &Chain, account: usize, authorizer: usize) -> Payer {
    let payer = Payer::new(chain, account);
    let config = ChannelConfig { receiver_authorizer: DEV_ACCOUNTS[authorizer].address, ..payer.config };
    Payer::with(chain, payer.key, config)
}

/// The same deposit with another voucher.
pub fn with_voucher(payer: &Payer, cumulative: u128, funding: &BatchPayload) -> BatchPayload {
    let BatchPayload::Deposit { channel_config, deposit, .. } = funding else { panic!("a deposit") };
    BatchPayload::Deposit { channel_config: *channel_config, voucher: payer.voucher(cumulative), deposit: deposit.clone() }
}

/// A payer takes the timed way out.
pub async fn begin_withdrawal(chain: &Chain, account: usize, payer: &Payer, amount: u128) {
    let operator = BatchOperator::new(chain.contract().await, chain.submitter(account));
    operator.begin_withdrawal(&payer.config, units(amount)).await.expect("begun");
}

/// A row of a claim: what a voucher allows, and what is taken.
pub fn row(payer: &Payer, ceiling: u128, charged: u128) -> Claim {
    let voucher = payer.voucher(ceiling);
    let claimed = ClaimedVoucher { channel: payer.config.into(), max_claimable_amount: total(ceiling) };
    Claim { voucher: claimed, signature: voucher.signature, total_claimed: total(charged) }
}

pub fn sign_claims(rows: &[Claim], authorizer: &EvmSecretKey) -> EvmSignature {
    let domain = batch_domain(ChainId::new(31_337));
    let entry = |row: &Claim| ClaimEntry {
        channel: row.channel(&domain).expect("40 bits"),
        max_claimable: row.voucher.max_claimable_amount,
        total_claimed: row.total_claimed,
    };
    let batch = ClaimBatch { claims: rows.iter().map(entry).collect() };
    authorizer.sign(batch, &domain).expect("in range").signature().clone()
}

pub fn claim(rows: Vec<Claim>, authorizer: Option<usize>) -> BatchCommand {
    let claim_authorizer_signature = authorizer.map(|account| sign_claims(&rows, &secret(account)));
    BatchCommand::Claim { claims: rows, claim_authorizer_signature }
}

pub fn sweep(chain: &Chain) -> BatchCommand {
    BatchCommand::Settle { receiver: DEV_ACCOUNTS[RECEIVER].address, token: chain.token.token() }
}

/// A refund as servers send it: the payer's voucher, and what has to be claimed before.
pub fn refund(payer: &Payer, signed: u128, amount: u128, nonce: u64, claims: Vec<Claim>, authorizer: Option<usize>) -> BatchCommand {
    let statement = Refund { channel: payer.channel, nonce: Uint256::from(nonce), amount: units(amount) };
    let sign = |account: usize| secret(account).sign(statement, &batch_domain(ChainId::new(31_337))).expect("in range").signature().clone();
    let claim_authorizer_signature = authorizer.filter(|_| !claims.is_empty()).map(|account| sign_claims(&claims, &secret(account)));
    BatchCommand::Refund(Box::new(RefundSettlement {
        channel_config: payer.config.into(),
        voucher: payer.voucher(signed),
        amount: units(amount),
        refund_nonce: Uint256::from(nonce),
        claims,
        refund_authorizer_signature: authorizer.map(sign),
        claim_authorizer_signature,
    }))
}

/// Balance, claimed and nonce, as an answer tells them.
pub fn told(extra: &Object) -> (Amount, CumulativeAmount, Uint256) {
    let state: millstream_dialect::x402::ChannelState = extra.read("extra").expect("a state");
    (state.balance, state.total_claimed, state.refund_nonce)
}

/// The channel in an answer to `/settle`.
pub fn told_after(settled: &SettleResponse) -> (Amount, CumulativeAmount, Uint256) {
    let state = settled.extra.get("channelState").cloned().expect("a state");
    let Value::Object(fields) = state else { panic!("an object") };
    told(&fields.into_iter().collect())
}
