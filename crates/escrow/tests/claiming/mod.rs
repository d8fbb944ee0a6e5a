//! A chain with x402's contract, a node without a ledger, and the claimer on it. What the chain says is told to the engine when a test says so.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millstream_chain::x402::{BatchOperator, BatchSettlement, DepositAuthorization, ERC3009_DEPOSIT_COLLECTOR, place_development_x402};
use millstream_chain::{ChainKey, Rpc, RpcOptions, Submitter, SubmitterOptions, mint, token_balance};
use millstream_engine::ChainCursor;
use millstream_engine::escrow::{
    ClaimRule, Escrow, EscrowAnswer, EscrowFact, EscrowId, EscrowInput, EscrowTerms, Exit, Fingerprint, Meter, OptimisticLimit, RequestId,
    Reserve, StepRule,
};
use millstream_escrow::{ClaimMetrics, ClaimSection, ClaimedEscrow, Claimer, ClaimerHandle, ClaimerParts, X402Claims, x402_config};
use millstream_node::{ChainSection, EscrowConfig, Node, NodeConfig, Payments, ServerSection};
use millstream_tariff::Cost;
use millstream_testkit::{Anvil, AnvilOptions, DEV_ACCOUNTS};
use millstream_types::{Address, Amount, AssetUnit, BlockNumber, ChainId, CumulativeAmount, EscrowChannelId, Hash256, Timestamp, Uint256};
use millstream_voucher::evm::{
    ChannelConfig, EscrowVoucher, Evidence, EvmSecretKey, Signed, TokenDomain, TransferAuthorization, TransferKind, VerifiedEscrowVoucher,
    deposit_nonce,
};
use serde_json::{Value, json};

mod ear;

use ear::ear;
pub use ear::{ALL, NOTHING, QUESTIONS};

/// Runs the node, and is the receiver authorizer.
pub const OPERATOR: usize = 0;
/// Funds every channel and signs for it.
pub const PAYER: usize = 1;
/// Is paid.
pub const RECEIVER: usize = 2;
/// Puts deposits on the chain.
const HELPER: usize = 3;
pub const DELAY_SECS: u64 = 900;
const ESCROW: EscrowId = EscrowId(7);
const FAR: u64 = 4_000_000_000;

pub const fn units(units: u128) -> Amount {
    Amount::from_units(units)
}

const fn total(units: u128) -> CumulativeAmount {
    CumulativeAmount::from_units(units)
}

fn secret(account: usize) -> EvmSecretKey {
    EvmSecretKey::from_bytes(&DEV_ACCOUNTS[account].secret).expect("a key")
}

/// Claims and sweeps whatever there is, at once.
pub fn eager() -> ClaimSection {
    ClaimSection {
        interval_secs: 1,
        row_min_nanos: 0,
        risk_max_nanos: 1,
        sweep_interval_secs: 1,
        sweep_min_nanos: 0,
        ..ClaimSection::default()
    }
}

/// Claims and sweeps nothing by itself, unless a payer leaves.
pub fn patient() -> ClaimSection {
    ClaimSection { interval_secs: 0, risk_max_nanos: 0, sweep_interval_secs: 0, ..ClaimSection::default() }
}

pub struct World {
    pub anvil: Arc<Anvil>,
    rpc: Rpc,
    token: TokenDomain,
    contract: BatchSettlement,
    /// Where the node finds the chain, as far as it hears.
    url: String,
    hearing: Arc<AtomicU8>,
    directory: tempfile::TempDir,
}

/// One life of the provider.
pub struct Life {
    node: Node,
    pub payments: Payments,
    pub claimer: Claimer,
    pub handle: ClaimerHandle,
}

impl World {
    pub async fn start() -> Self {
        let anvil = Arc::new(blocking(|| Anvil::spawn(&AnvilOptions::default()).unwrap_or_else(|error| panic!("{error}"))).await);
        let rpc = Rpc::connect(&anvil.url(), RpcOptions::default()).await.expect("anvil answers");
        place_development_x402(&rpc).await.expect("placed");
        let contract = BatchSettlement::attach(rpc.clone()).await.expect("placed");
        let hearing = Arc::new(AtomicU8::new(ALL));
        let url = ear(anvil.url(), Arc::clone(&hearing)).await;
        let directory = tempfile::tempdir().expect("a directory");
        let token = TokenDomain::new("USD Coin", "2", rpc.chain(), Address::ZERO);
        let world = Self { anvil, rpc, token, contract, url, hearing, directory };
        let artifact: Value = serde_json::from_str(include_str!("../../../../contracts/artifacts/TestUSDC.json")).expect("JSON");
        let from = DEV_ACCOUNTS[HELPER].address;
        let hash = world.call("eth_sendTransaction", json!([{ "from": from, "data": artifact["bytecode"] }])).await;
        let mut receipt = Value::Null;
        until("the token is there", async || {
            receipt = world.call("eth_getTransactionReceipt", json!([hash])).await;
            !receipt.is_null()
        })
        .await;
        let token: Address = receipt["contractAddress"].as_str().and_then(|text| text.parse().ok()).expect("deployed");
        let world = Self { token: TokenDomain::new("USD Coin", "2", ChainId::new(31_337), token), ..world };
        mint(&world.submitter(HELPER), token, DEV_ACCOUNTS[PAYER].address, 1_000_000_000_000).await.expect("minted");
        world
    }

    fn submitter(&self, account: usize) -> Submitter {
        let key = ChainKey::from_bytes(&DEV_ACCOUNTS[account].secret).expect("a key");
        Submitter::new(self.rpc.clone(), key, SubmitterOptions::for_development())
    }

    pub async fn call(&self, method: &'static str, params: Value) -> Value {
        let anvil = Arc::clone(&self.anvil);
        blocking(move || anvil.call(method, &params).unwrap_or_else(|error| panic!("{method}: {error}"))).await
    }

    pub async fn mining(&self, is_on: bool) {
        self.call("evm_setAutomine", json!([is_on])).await;
    }

    pub async fn mine(&self, blocks: u64) {
        self.call("anvil_mine", json!([format!("{blocks:#x}")])).await;
    }

    /// What the chain hears of the node from now on.
    pub fn hear(&self, hearing: u8) {
        self.hearing.store(hearing, Ordering::SeqCst);
    }

    /// Transactions of the operator that were mined.
    pub async fn mined(&self) -> u64 {
        let count = self.call("eth_getTransactionCount", json!([DEV_ACCOUNTS[OPERATOR].address.to_string(), "latest"])).await;
        u64::from_str_radix(count.as_str().expect("text").trim_start_matches("0x"), 16).expect("hexadecimal")
    }

    /// Hashes of the operator's transactions that wait.
    pub async fn pooled(&self) -> Vec<String> {
        let content = self.call("txpool_content", json!([])).await;
        let address = DEV_ACCOUNTS[OPERATOR].address.to_string();
        let mut of = content["pending"].as_object().expect("an object").iter();
        let Some((_, waiting)) = of.find(|(sender, _)| sender.eq_ignore_ascii_case(&address)) else { return Vec::new() };
        waiting.as_object().expect("an object").values().map(|one| one["hash"].as_str().expect("text").to_owned()).collect()
    }

    pub async fn balance(&self, account: usize) -> u128 {
        token_balance(&self.rpc, self.token.token(), DEV_ACCOUNTS[account].address).await.expect("a balance")
    }

    pub fn terms(&self, number: u8) -> ChannelConfig {
        ChannelConfig {
            payer: DEV_ACCOUNTS[PAYER].address,
            payer_authorizer: DEV_ACCOUNTS[PAYER].address,
            receiver: DEV_ACCOUNTS[RECEIVER].address,
            receiver_authorizer: DEV_ACCOUNTS[OPERATOR].address,
            token: self.token.token(),
            withdraw_delay_secs: DELAY_SECS,
            salt: Hash256::from_bytes([number; 32]),
        }
    }

    pub fn channel(&self, number: u8) -> EscrowChannelId {
        self.terms(number).channel_id(self.contract.domain()).expect("40 bits")
    }

    fn escrow_terms(&self, number: u8) -> EscrowTerms {
        let config = self.terms(number);
        EscrowTerms {
            channel: self.channel(number),
            escrow: ESCROW,
            payer: config.payer,
            signer: config.voucher_signer(),
            receiver: config.receiver,
            config: x402_config(&config).expect("40 bits"),
        }
    }

    /// Puts a deposit on a channel.
    pub async fn deposit(&self, helper: &BatchOperator, number: u8, amount: u128) {
        let terms = self.terms(number);
        let (valid_after, valid_before, salt) = (Uint256::ZERO, Uint256::from(FAR), Uint256::from(1u64));
        let transfer = TransferAuthorization {
            kind: TransferKind::Receive,
            from: terms.payer,
            to: ERC3009_DEPOSIT_COLLECTOR,
            value: units(amount),
            valid_after,
            valid_before,
            nonce: deposit_nonce(&self.channel(number), salt),
        };
        let signature = secret(PAYER).sign(transfer, &self.token).expect("in range").signature().clone();
        let authorization = DepositAuthorization::Erc3009 { valid_after, valid_before, salt, signature };
        let intent = millstream_chain::IntentId::from_bytes([number; 32]);
        helper.deposit(intent, &terms, units(amount), &authorization).await.expect("deposited");
    }

    pub fn helper(&self) -> BatchOperator {
        BatchOperator::new(self.contract.clone(), self.submitter(HELPER))
    }

    pub fn payer(&self) -> BatchOperator {
        BatchOperator::new(self.contract.clone(), self.submitter(PAYER))
    }

    /// What the contract has claimed of a channel.
    pub async fn claimed(&self, number: u8) -> u128 {
        self.contract.newest_state(self.channel(number)).await.expect("read").claimed.units()
    }

    /// A provider on this world's directory.
    pub async fn live(&self, section: ClaimSection) -> Life {
        self.live_with(section, Duration::from_secs(30)).await
    }

    pub async fn live_with(&self, section: ClaimSection, replace_after: Duration) -> Life {
        let config = node_config(self.directory.path(), &self.url);
        let mut started = None;
        // What a killed life had under way lets go of the store when its tasks are gone.
        until("the node starts", async || {
            started = Node::start(&config).await.ok();
            started.is_some()
        })
        .await;
        let node = started.expect("started");
        let payments = node.payments();
        let (separator, token) = (*self.contract.domain().separator(), self.token.token());
        let (step, claim, optimistic) = (StepRule::Exact, ClaimRule::UpTo, OptimisticLimit::default());
        let served = EscrowInput::Serve(Escrow { id: ESCROW, separator, token, step, claim, optimistic });
        assert_eq!(payments.apply(served).await, Ok(EscrowAnswer::Done));
        let rpc = Rpc::connect(&self.url, RpcOptions::default()).await.expect("the chain answers");
        let key = ChainKey::from_bytes(&DEV_ACCOUNTS[OPERATOR].secret).expect("a key");
        let submitter = Submitter::new(rpc.clone(), key, SubmitterOptions { replace_after, ..SubmitterOptions::for_development() });
        let contract = BatchSettlement::attach(rpc).await.expect("placed");
        let contract = Arc::new(X402Claims::new(BatchOperator::new(contract, submitter.clone()), token));
        let parts = ClaimerParts {
            payments: payments.clone(),
            submitter,
            escrows: vec![ClaimedEscrow { id: ESCROW, unit: AssetUnit::new(6).expect("supported"), contract }],
            section,
            claim_margin: Duration::from_secs(60),
            coin_nanos: 0,
            poll: Duration::from_millis(20),
            metrics: Arc::new(ClaimMetrics::default()),
        };
        let claimer = Claimer::start(parts).await.expect("the claimer starts");
        let handle = claimer.handle();
        Life { node, payments, claimer, handle }
    }

    /// Tells the engine what the chain has of these channels now, as a follower does.
    pub async fn tell(&self, life: &Life, numbers: impl IntoIterator<Item = u8>) {
        let head = self.call("eth_getBlockByNumber", json!(["latest", false])).await;
        let number = u64::from_str_radix(head["number"].as_str().expect("text").trim_start_matches("0x"), 16).expect("hexadecimal");
        let mut facts = Vec::new();
        for channel in numbers {
            let id = self.channel(channel);
            let state = self.contract.newest_state(id).await.expect("read");
            facts.push(EscrowFact::Opened(self.escrow_terms(channel)));
            facts.push(EscrowFact::Deposited { channel: id, deposit: state.balance });
            facts.push(EscrowFact::Claimed { channel: id, total: state.claimed });
            facts.push(match state.withdrawal {
                Some(asked) => {
                    let finalises_at = asked.initiated_at.plus_millis(DELAY_SECS * 1_000);
                    EscrowFact::ExitRequested { channel: id, exit: Exit { amount: Some(asked.amount), finalises_at } }
                }
                None => EscrowFact::ExitCancelled { channel: id },
            });
        }
        let receiver = DEV_ACCOUNTS[RECEIVER].address;
        let swept = self.contract.receiver(receiver, self.token.token()).await.expect("read").swept.units();
        let known = life.payments.read(move |engine| {
            let mut sweeps = engine.sweeps().filter(|(_, of, _)| *of == receiver);
            sweeps.next().map_or(0, |(_, _, sweep)| sweep.swept.units())
        });
        let news = swept - known.await.expect("runs");
        if news > 0 {
            facts.push(EscrowFact::Swept { escrow: ESCROW, receiver, amount: units(news) });
        }
        let cursor = ChainCursor { block: BlockNumber::new(number), state: Vec::new() };
        facts.push(EscrowFact::Seen { escrow: ESCROW, cursor });
        life.payments.facts(facts).await.expect("runs");
    }

    /// The chain took back what it had said, and says what it has now.
    pub async fn tell_again(&self, life: &Life, numbers: impl IntoIterator<Item = u8>) {
        life.payments.facts(vec![EscrowFact::Reset { escrow: ESCROW }]).await.expect("runs");
        self.tell(life, numbers).await;
    }

    /// Charges a channel so much more, by a voucher for exactly that.
    pub async fn charge(&self, life: &Life, number: u8, amount: u128) {
        let id = self.channel(number);
        let charged = self.totals(life, number).await.0;
        let statement = EscrowVoucher { channel: id, cumulative: total(charged + amount) };
        let voucher = secret(PAYER).sign(statement, self.contract.domain()).expect("128 bits");
        self.charge_with(life, number, amount, voucher).await;
    }

    /// Charges a channel by a voucher that the engine takes for verified, and that somebody else signed.
    pub async fn charge_badly(&self, life: &Life, number: u8, amount: u128) {
        let statement = EscrowVoucher { channel: self.channel(number), cumulative: total(amount) };
        let foreign = secret(HELPER).sign(statement, self.contract.domain()).expect("128 bits");
        let signed = Signed::new(statement, foreign.signature().clone());
        let (separator, signer) = (*self.contract.domain().separator(), DEV_ACCOUNTS[PAYER].address);
        let voucher = VerifiedEscrowVoucher::assume_verified(signed, separator, signer, Evidence::Key);
        self.charge_with(life, number, amount, voucher).await;
    }

    async fn charge_with(&self, life: &Life, number: u8, amount: u128, voucher: VerifiedEscrowVoucher) {
        let channel = self.channel(number);
        let mut request = *channel.as_bytes();
        request[..16].copy_from_slice(&voucher.statement().cumulative.units().to_be_bytes());
        let request = RequestId::from_bytes(request);
        let ceiling = units(amount);
        let fingerprint = Fingerprint::from_bytes([number; 16]);
        let reserve = Reserve { channel, request, fingerprint, ceiling, at_least: ceiling, voucher: Some(voucher), stored: None };
        let reserved = life.payments.reserve(reserve).await.expect("runs");
        assert!(matches!(reserved, EscrowAnswer::Reserved { .. }), "{reserved:?}");
        let meter = Meter { price_version: 1, units: Bytes::new() };
        let charged = life.payments.capture(request, Cost::whole(ceiling), meter).await.expect("runs");
        assert!(matches!(charged, EscrowAnswer::Charged { .. }), "{charged:?}");
    }

    /// Charged and settled.
    pub async fn totals(&self, life: &Life, number: u8) -> (u128, u128) {
        let id = self.channel(number);
        let read = life.payments.read(move |engine| engine.escrow_channel(&id).map(|channel| channel.totals()));
        let totals = read.await.expect("runs").expect("known");
        (totals.charged.units(), totals.settled.units())
    }

    /// The chain's time.
    pub async fn time(&self) -> Timestamp {
        self.rpc.head_time().await.expect("read")
    }
}

impl Life {
    /// Ends as a killed process does, as far as that goes in one: nothing is finished, nothing is told.
    pub async fn kill(self) {
        let Self { node, payments, claimer, handle } = self;
        drop((claimer, handle, payments));
        node.stop().await.expect("the store closes");
    }

    /// Why channels are in quarantine.
    pub async fn quarantined(&self) -> BTreeMap<EscrowChannelId, String> {
        let rows = self.handle.desk().quarantined(ESCROW, None, 1_000).await.expect("runs");
        rows.into_iter().map(|row| (row.channel, row.reason)).collect()
    }

    /// Claims under way: whether each has landed.
    pub async fn claims(&self) -> Vec<bool> {
        self.handle.desk().claims().await.expect("runs").iter().map(|claim| claim.stage == "landed").collect()
    }

    /// Whether a sweep is under way.
    pub async fn is_sweeping(&self) -> bool {
        self.handle.desk().sweeps().await.expect("runs").iter().any(|sweep| sweep.transaction.is_some())
    }
}

fn node_config(directory: &Path, url: &str) -> NodeConfig {
    use std::os::unix::fs::PermissionsExt;
    let key = directory.join("operator.key");
    let text: String = DEV_ACCOUNTS[OPERATOR].secret.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&key, text).expect("written");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("ours");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    NodeConfig {
        server: ServerSection { data_dir: directory.join("data"), listen: None, admin_listen: any, certificate: None, private_key: None },
        chain: ChainSection {
            rpc_url: url.to_owned(),
            chain_id: 31_337,
            ledger: None,
            start_block: 0,
            confirmations: 1,
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
        escrows: EscrowConfig { reservation_millis_max: 60_000, claim_margin_millis: 60_000, ..EscrowConfig::default() },
        policy: None,
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

/// Looks again and again until it is so, for at most a minute.
pub async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let found = async {
        while !look().await {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}
