//! A chain, a node, the rail, the gateway and an upstream, and a payer of x402 in front of them: everything real.

#![allow(dead_code, reason = "each test uses a part")]

pub mod session;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_chain::session_escrow::{deploy_session_escrow, session_escrow_address};
use millstream_chain::x402::{BatchSettlement, place_development_x402};
use millstream_chain::{ChainKey, Rpc, RpcOptions, Submitter, SubmitterOptions, mint, token_balance};
use millstream_dialect::Object;
use millstream_dialect::x402::{
    BatchOffer, BatchPayload, BatchResponseExtra, Deposit, DepositAuthorization, Erc3009Deposit, PaymentPayload, PaymentRequired,
    PaymentRequirements, SettleResponse, VoucherFields, batch_domain,
};
use millstream_escrow::{ChannelsConfig, EscrowSection, Parts, Rail, RailConfig, SessionsConfig, policy_of};
use millstream_gateway::{GatewayConfig, serve};
use millstream_node::{ChainSection, Node, NodeConfig, ServerSection};
use millstream_testkit::{Anvil, AnvilOptions, DEV_ACCOUNTS};
use millstream_types::{Address, Amount, ChainId, CumulativeAmount, EscrowChannelId, Hash256, Uint256};
use millstream_voucher::evm::{ChannelConfig, EscrowVoucher, EvmSecretKey, TokenDomain};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The account that runs the node: it pays for gas, and is the receiver authorizer.
pub const OPERATOR: usize = 0;
/// The first payer.
pub const PAYER: usize = 3;
/// Who is paid.
pub const RECEIVER: usize = 9;
pub const DELAY_SECS: u64 = 900;

pub fn secret(account: usize) -> EvmSecretKey {
    EvmSecretKey::from_bytes(&DEV_ACCOUNTS[account].secret).expect("a key")
}

pub const fn units(units: u128) -> Amount {
    Amount::from_units(units)
}

pub const fn total(units: u128) -> CumulativeAmount {
    CumulativeAmount::from_units(units)
}

/// A chain with x402's contracts and a token, and payers that have some.
pub struct Chain {
    pub anvil: Arc<Anvil>,
    pub rpc: Rpc,
    pub token: TokenDomain,
}

impl Chain {
    /// One with the contracts of both dialects.
    pub async fn start() -> Self {
        Self::of(true, true).await
    }

    /// One with the contracts of x402, of sessions, or of neither.
    pub async fn of(x402: bool, sessions: bool) -> Self {
        let anvil = blocking(|| Anvil::spawn(&AnvilOptions::default()).unwrap_or_else(|error| panic!("{error}"))).await;
        let anvil = Arc::new(anvil);
        let rpc = Rpc::connect(&anvil.url(), RpcOptions::default()).await.expect("anvil answers");
        if x402 {
            place_development_x402(&rpc).await.expect("placed");
        }
        let artifact: Value = serde_json::from_str(include_str!("../../../../contracts/artifacts/TestUSDC.json")).expect("JSON");
        let chain = Self { anvil, rpc, token: TokenDomain::new("", "", ChainId::new(31_337), Address::ZERO) };
        let deployer = DEV_ACCOUNTS[8].address;
        let hash = chain.call("eth_sendTransaction", json!([{ "from": deployer, "data": artifact["bytecode"] }])).await;
        let receipt = loop {
            // It may be answered before it is in its block.
            match chain.call("eth_getTransactionReceipt", json!([hash])).await {
                Value::Null => tokio::time::sleep(Duration::from_millis(10)).await,
                receipt => break receipt,
            }
        };
        let token: Address = receipt["contractAddress"].as_str().and_then(|text| text.parse().ok()).expect("deployed");
        let token = TokenDomain::new("USD Coin", "2", ChainId::new(31_337), token);
        let chain = Self { token, ..chain };
        if sessions {
            deploy_session_escrow(&chain.submitter(8)).await.expect("deployed");
        }
        for account in &DEV_ACCOUNTS[PAYER..RECEIVER - 1] {
            mint(&chain.submitter(8), chain.token.token(), account.address, 1_000_000_000).await.expect("minted");
        }
        chain
    }

    pub fn submitter(&self, account: usize) -> Submitter {
        let key = ChainKey::from_bytes(&DEV_ACCOUNTS[account].secret).expect("a key");
        Submitter::new(self.rpc.clone(), key, SubmitterOptions::for_development())
    }

    pub async fn call(&self, method: &'static str, params: Value) -> Value {
        let anvil = Arc::clone(&self.anvil);
        blocking(move || anvil.call(method, &params).unwrap_or_else(|error| panic!("{method}: {error}"))).await
    }

    pub async fn mine(&self, blocks: u64) {
        self.call("anvil_mine", json!([format!("{blocks:#x}")])).await;
    }

    pub async fn advance_secs(&self, secs: u64) {
        let anvil = Arc::clone(&self.anvil);
        blocking(move || anvil.advance_secs(secs).expect("advances")).await;
    }

    pub async fn balance(&self, account: Address) -> u128 {
        token_balance(&self.rpc, self.token.token(), account).await.expect("a balance")
    }

    pub async fn contract(&self) -> BatchSettlement {
        BatchSettlement::attach(self.rpc.clone()).await.expect("placed")
    }

    /// Ends the chain.
    pub fn stop(&self) {
        let killed = std::process::Command::new("kill").args(["-KILL", &self.anvil.pid().to_string()]).status();
        assert!(killed.expect("runs").success());
    }

    /// Balance and claimed total of a channel, in the newest block.
    pub async fn state(&self, channel: EscrowChannelId) -> (u128, u128) {
        let state = self.contract().await.newest_state(channel).await.expect("a state");
        (state.balance.units(), state.claimed.units())
    }
}

pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

/// What a house is started with, beside the chain.
#[derive(Clone)]
pub struct Plan {
    pub confirmations: u64,
    pub escrow: EscrowSection,
    pub price: String,
    /// More sections of the gateway's configuration, before its routes.
    pub sections: String,
    /// Of the route, as TOML.
    pub limits: String,
    pub custody: std::collections::BTreeSet<Address>,
    /// Offers x402's channels.
    pub x402: bool,
    /// Offers MPP sessions beside x402's channels; then the operator is paid itself.
    pub mpp: Option<Mpp>,
}

/// `[payment.mpp]`.
#[derive(Clone, Copy)]
pub struct Mpp {
    pub voucher_delta_min: u128,
    pub voucher_wait_secs: u64,
}

impl Plan {
    /// One that sells to sessions at a price.
    pub fn sessions(price: &str) -> Self {
        Self { price: price.to_owned(), mpp: Some(Mpp { voucher_delta_min: 0, voucher_wait_secs: 30 }), ..Self::default() }
    }

    fn receiver(&self) -> Address {
        DEV_ACCOUNTS[if self.mpp.is_some() { OPERATOR } else { RECEIVER }].address
    }
}

impl Default for Plan {
    fn default() -> Self {
        let escrow = EscrowSection { claim_margin_secs: 120, ..EscrowSection::default() };
        let price = "0.001 USDC / call".to_owned();
        let (limits, sections) = (String::new(), String::new());
        Self { confirmations: 1, escrow, price, limits, sections, custody: Default::default(), x402: true, mpp: None }
    }
}

/// A provider: node, rail and gateway in one process, on a directory.
pub struct House {
    pub node: Node,
    pub rail: Rail,
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    /// All of it runs here, so that all of it can end at once.
    runtime: Runtime,
}

impl House {
    pub async fn start(chain: &Chain, directory: &Path, upstream: &Upstream, plan: &Plan) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let rail = rail_config(chain, plan);
        let mut config = node_config(directory, chain, plan);
        config.escrows = rail.engine().expect("fits");
        let gateway = GatewayConfig::parse(&gateway_config(chain, upstream, directory, plan)).expect("a configuration");
        config.policy = policy_of(&gateway, ChainId::new(31_337), chain.token.token()).expect("rules");
        let (node, rail) = runtime
            .spawn(async move {
                let node = opened(&config).await;
                let rail = Rail::start(Parts::of(&node), rail).await.expect("the rail starts");
                (node, rail)
            })
            .await
            .expect("no panic");
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = oneshot::channel();
        let port = rail.port();
        let serving = runtime.spawn(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            bound.send(listener.local_addr().expect("bound")).expect("waited for");
            serve(&gateway, port, listener, async { drop(stopped.await) }).await.expect("it serves");
        });
        let address = address.await.expect("bound");
        Self { node, rail, address, stop, serving, runtime }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Stops in order.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.serving.await.expect("no panic");
        self.rail.stop().await;
        self.node.stop().await.expect("it stops");
        blocking(move || drop(self.runtime)).await;
    }

    /// Ends as a killed process does: wherever each task is. What was answered is all that counts.
    pub async fn crash(self) {
        let Self { node, rail, runtime, .. } = self;
        blocking(move || {
            runtime.shutdown_timeout(Duration::from_secs(10));
            drop((node, rail));
        })
        .await;
    }
}

pub fn rail_config(chain: &Chain, plan: &Plan) -> RailConfig {
    RailConfig {
        escrow: plan.escrow.clone(),
        token: chain.token.token(),
        receiver: plan.receiver(),
        x402: plan.x402.then_some(ChannelsConfig { withdraw_delay_secs: DELAY_SECS }),
        sessions: plan.mpp.map(|mpp| SessionsConfig {
            contract: session_escrow_address().expect("an address"),
            voucher_delta_min: units(mpp.voucher_delta_min),
        }),
        custody: plan.custody.clone(),
        delivery_secs_max: 60,
        coin_nanos: 0,
        confirmations: plan.confirmations,
        poll_interval: Duration::from_millis(20),
    }
}

/// A node on a directory that the last process may be about to close.
pub async fn opened(config: &NodeConfig) -> Node {
    for _ in 0..400 {
        match Node::start(config).await {
            Ok(node) => return node,
            Err(failure) if format!("{failure:#}").contains("in use by another process") => {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            Err(failure) => panic!("the node does not start: {failure:#}"),
        }
    }
    panic!("the directory stays locked");
}

pub fn node_config(directory: &Path, chain: &Chain, plan: &Plan) -> NodeConfig {
    use std::os::unix::fs::PermissionsExt;
    let key = directory.join("operator.key");
    let text: String = DEV_ACCOUNTS[OPERATOR].secret.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&key, text).expect("written");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("ours");
    NodeConfig {
        server: ServerSection {
            data_dir: directory.join("data"),
            listen: None,
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            certificate: None,
            private_key: None,
        },
        chain: ChainSection {
            rpc_url: chain.anvil.url(),
            chain_id: 31_337,
            ledger: None,
            start_block: 0,
            confirmations: plan.confirmations,
            poll_millis: 20,
            coin_nanos: 0,
            operator_key_file: key,
            operator_password_file: None,
            keys_dir: None,
        },
        billing: Default::default(),
        settlement: Default::default(),
        prover: Default::default(),
        limits: Default::default(),
        relay: Default::default(),
        escrows: Default::default(),
        policy: None,
    }
}

fn gateway_config(chain: &Chain, upstream: &Upstream, directory: &Path, plan: &Plan) -> String {
    let mpp = plan.mpp.map(|mpp| mpp_section(directory, mpp)).unwrap_or_default();
    let operator = DEV_ACCOUNTS[OPERATOR].address;
    let x402 = format!("[payment.x402]\nreceiver_authorizer = \"{operator}\"\nwithdraw_delay_secs = {DELAY_SECS}");
    let x402 = if plan.x402 { x402 } else { String::new() };
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
        {x402}
        {mpp}
        {sections}
        [timeouts]
        first_byte_secs = 20
        total_secs = 40
        [[route]]
        path = "/*"
        upstream = "http://{upstream}"
        price = "{price}"
        limits = {{ {limits} }}
        "#,
        token = chain.token.token(),
        receiver = plan.receiver(),
        upstream = upstream.address,
        price = plan.price,
        sections = plan.sections,
        limits = plan.limits,
    )
}

fn mpp_section(directory: &Path, mpp: Mpp) -> String {
    use std::os::unix::fs::PermissionsExt;
    let secret = directory.join("offers.secret");
    std::fs::write(&secret, format!("0x{}", "42".repeat(32))).expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("ours");
    format!(
        "[payment.mpp]\nescrow = \"{}\"\nsecret_file = \"{}\"\nvoucher_delta_min = \"{} base\"\nvoucher_wait_secs = {}",
        session_escrow_address().expect("an address"),
        secret.display(),
        mpp.voucher_delta_min,
        mpp.voucher_wait_secs,
    )
}

/// An upstream that answers each request with the next of the answers it was given, or with `ok`; `None` breaks the connection.
pub struct Upstream {
    pub address: SocketAddr,
    answers: Arc<Mutex<Vec<Option<String>>>>,
    gate: Arc<tokio::sync::Semaphore>,
    arrived: Arc<tokio::sync::Semaphore>,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let answers: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
        let gate = Arc::new(tokio::sync::Semaphore::new(1 << 20));
        let arrived = Arc::new(tokio::sync::Semaphore::new(0));
        let (script, opened, told) = (Arc::clone(&answers), Arc::clone(&gate), Arc::clone(&arrived));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&script), Arc::clone(&opened), Arc::clone(&told)));
            }
        });
        Self { address, answers, gate, arrived }
    }

    /// The next answers, the first one first.
    pub fn then(&self, answer: Option<&str>) {
        self.answers.lock().expect("no panic").insert(0, answer.map(str::to_owned));
    }

    /// Lets nothing out until it is opened.
    pub fn close(&self) {
        self.gate.forget_permits(1 << 20);
    }

    pub fn open(&self) {
        self.gate.add_permits(1 << 20);
    }

    /// Waits until a request is there.
    pub async fn arrival(&self) {
        self.arrived.acquire().await.expect("open").forget();
    }
}

async fn answer(
    mut stream: TcpStream,
    script: Arc<Mutex<Vec<Option<String>>>>,
    gate: Arc<tokio::sync::Semaphore>,
    arrived: Arc<tokio::sync::Semaphore>,
) {
    let mut read = Vec::new();
    loop {
        let mut some = [0; 4_096];
        let Ok(length) = stream.read(&mut some).await else { return };
        if length == 0 {
            return;
        }
        read.extend_from_slice(&some[..length]);
        let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let body = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok()).unwrap_or(0);
        if read.len() < end + 4 + body {
            continue;
        }
        read.drain(..end + 4 + body);
        arrived.add_permits(1);
        gate.acquire().await.expect("open").forget();
        gate.add_permits(1);
        let next = script.lock().expect("no panic").pop().unwrap_or_else(|| Some("ok".to_owned()));
        let Some(text) = next else { return };
        if text.starts_with("data:") {
            if stream_events(&mut stream, &text).await.is_err() {
                return;
            }
            continue;
        }
        let kind = if text.starts_with('{') { "application/json" } else { "text/plain" };
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Sends each event as a chunk of its own.
async fn stream_events(stream: &mut TcpStream, events: &str) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    for event in events.split_inclusive("\n\n") {
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
        stream.flush().await?;
    }
    stream.write_all(b"0\r\n\r\n").await
}

/// A payer of x402 and what it knows of its channel.
pub struct Payer {
    pub key: EvmSecretKey,
    pub config: ChannelConfig,
    pub channel: EscrowChannelId,
    pub client: Client,
    token: TokenDomain,
    /// What it was told to be charged.
    pub charged: u128,
    deposits: u8,
}

/// An answer of the gateway, read.
#[derive(Debug)]
pub struct Paid {
    pub status: StatusCode,
    pub body: String,
    /// Of a refusal.
    pub required: Option<PaymentRequired>,
    /// Of a payment.
    pub settled: Option<SettleResponse>,
}

impl Paid {
    /// The scheme's part of a receipt.
    pub fn extra(&self) -> BatchResponseExtra {
        self.settled.as_ref().expect("a receipt").extra.read("extra").expect("the scheme's")
    }

    pub fn charged(&self) -> u128 {
        self.extra().charged_amount.expect("an amount").units()
    }

    /// The word that a refusal is made with.
    pub fn error(&self) -> &str {
        self.required.as_ref().and_then(|required| required.error.as_deref()).unwrap_or_default()
    }
}

impl Payer {
    pub fn new(chain: &Chain, account: usize) -> Self {
        let key = secret(account);
        let config = ChannelConfig {
            payer: key.account(),
            payer_authorizer: key.account(),
            receiver: DEV_ACCOUNTS[RECEIVER].address,
            receiver_authorizer: DEV_ACCOUNTS[OPERATOR].address,
            token: chain.token.token(),
            withdraw_delay_secs: DELAY_SECS,
            salt: Hash256::from_bytes([0; 32]),
        };
        Self::with(chain, key, config)
    }

    /// One whose vouchers the chain has to be asked about.
    pub fn without_authorizer(chain: &Chain, account: usize) -> Self {
        let payer = Self::new(chain, account);
        let config = ChannelConfig { payer_authorizer: Address::ZERO, ..payer.config };
        Self::with(chain, payer.key, config)
    }

    /// One that signs with the key of another account.
    pub fn signing_as(self, account: usize) -> Self {
        Self { key: secret(account), ..self }
    }

    pub fn with(chain: &Chain, key: EvmSecretKey, config: ChannelConfig) -> Self {
        let channel = config.channel_id(&batch_domain(ChainId::new(31_337))).expect("40 bits");
        Self { key, config, channel, client: Client::new(), token: chain.token, charged: 0, deposits: 0 }
    }

    pub fn voucher(&self, cumulative: u128) -> VoucherFields {
        let voucher = EscrowVoucher { channel: self.channel, cumulative: total(cumulative) };
        VoucherFields::of(self.key.sign(voucher, &batch_domain(ChainId::new(31_337))).expect("in range").signed())
    }

    /// A deposit that was not signed before.
    pub fn deposit(&mut self, amount: u128) -> Deposit {
        self.deposits += 1;
        let (valid_after, valid_before) = (Uint256::ZERO, Uint256::from(4_000_000_000_u64));
        let salt = Hash256::from_bytes([self.deposits; 32]);
        let blank = millstream_voucher::evm::EvmSignature::new(vec![0; 65]).expect("65 bytes");
        let unsigned = Erc3009Deposit { valid_after, valid_before, salt, signature: blank };
        let transfer = *unsigned.signed(self.config.payer, &self.channel, units(amount)).statement();
        let signed = self.key.sign(transfer, &self.token).expect("in range");
        let authorization = DepositAuthorization::Erc3009(Erc3009Deposit { signature: signed.signature().clone(), ..unsigned });
        Deposit { amount: units(amount), authorization }
    }

    /// The offer of a path.
    pub async fn offer(&self, url: &str) -> PaymentRequirements {
        let response = self.client.get(url).send().await.expect("answered");
        assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
        read(response).await.required.expect("offers").accepts[0].clone()
    }

    pub async fn send(&self, url: &str, offer: &PaymentRequirements, payload: &BatchPayload) -> Paid {
        self.send_with(url, offer, payload, Object::default()).await
    }

    pub async fn send_with(&self, url: &str, offer: &PaymentRequirements, payload: &BatchPayload, extensions: Object) -> Paid {
        let header = self.header_with(offer, payload, extensions);
        read(self.client.get(url).header("payment-signature", header).send().await.expect("answered")).await
    }

    pub fn header(&self, offer: &PaymentRequirements, payload: &BatchPayload) -> String {
        self.header_with(offer, payload, Object::default())
    }

    fn header_with(&self, offer: &PaymentRequirements, payload: &BatchPayload, extensions: Object) -> String {
        let payload = payload.to_object().expect("written");
        let payment = PaymentPayload { x402_version: 2, resource: None, accepted: offer.clone(), payload, extensions };
        payment.to_header().expect("written")
    }

    pub fn paying(&self, cumulative: u128) -> BatchPayload {
        BatchPayload::Voucher { channel_config: self.config.into(), voucher: self.voucher(cumulative) }
    }

    pub fn funding(&mut self, cumulative: u128, amount: u128) -> BatchPayload {
        let deposit = self.deposit(amount);
        BatchPayload::Deposit { channel_config: self.config.into(), voucher: self.voucher(cumulative), deposit }
    }

    pub fn refunding(&self, amount: Option<u128>) -> BatchPayload {
        BatchPayload::Refund { channel_config: self.config.into(), voucher: self.voucher(self.charged), amount: amount.map(units) }
    }

    /// Pays as clients do: with a voucher over what was charged and the price, and a deposit if one is named.
    pub async fn pay(&mut self, url: &str, deposit: Option<u128>) -> Paid {
        let offer = self.offer(url).await;
        let price = BatchOffer::from_requirements(&offer).expect("the scheme's").amount.units();
        let cumulative = self.charged + price;
        let payload = match deposit {
            Some(amount) => self.funding(cumulative, amount),
            None => self.paying(cumulative),
        };
        let paid = self.send(url, &offer, &payload).await;
        if paid.status == StatusCode::OK {
            let extra = paid.extra();
            assert!(paid.charged() <= price, "charged more than offered");
            self.charged += paid.charged();
            let told = extra.channel_state.expect("a state").charged_cumulative_amount.expect("a total");
            assert_eq!(told.units(), self.charged, "what is charged in total is the sum of the charges");
        }
        paid
    }

    pub async fn refund(&self, url: &str, amount: Option<u128>) -> Paid {
        let offer = self.offer(url).await;
        self.send(url, &offer, &self.refunding(amount)).await
    }
}

pub async fn read(response: Response) -> Paid {
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
    let required = header("payment-required").map(|text| PaymentRequired::from_header(&text).expect("offers"));
    let settled = header("payment-response").map(|text| SettleResponse::from_header(&text).expect("a receipt"));
    let status = response.status();
    Paid { status, body: response.text().await.expect("a body"), required, settled }
}

/// Repeats until it holds. For what the follower learns by itself.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), waiting).await.is_ok(), "{what}: not within a minute");
}
