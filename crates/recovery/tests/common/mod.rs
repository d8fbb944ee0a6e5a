//! A chain with a ledger of two tiers, payers, and a provider that proves for real.

// Each test binary uses its own part of this.
#![allow(dead_code)]

#[path = "../../../chain/tests/common/proxy.rs"]
pub mod proxy;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_chain::{
    BookRegistration, BookSettlement, ChainKey, DeployPlan, Deployment, EpochRoot, IntentId, KeyProvenance, Ledger, OpenRequest, Operator,
    Payer, Rpc, RpcOptions, SlotRow, Submitter, SubmitterOptions, TierPlan, TokenChoice, VoucherKeyWitness, deploy, mint, token_balance,
};
use millstream_circuit::{Book, BookSize, Operation, Place, RegisterStatement, SettleStatement, field_to_word};
use millstream_prover::{Blinding, CircuitId, InsecureDevKeys, Prover};
use millstream_recovery::{ChannelPlace, EarlyExit, Exit, ExitOptions, Rebuild, RebuildOptions, Server, plan_requests};
use millstream_testkit::{Anvil, AnvilOptions, DEV_ACCOUNTS};
use millstream_types::{Amount, BillHead, BlockNumber, BookId, ChannelId, CumulativeAmount, EpochId};
use millstream_voucher::{SecretKey, VerifiedVoucher, VoucherBody};
use serde_json::{Value, json};

pub const WINDOW_SECS: u64 = 86_400;
pub const HALT_WINDOW_SECS: u64 = 7 * 86_400;
/// Slots of the books of the two tiers: small circuits, quick keys.
pub const SIZES: [usize; 2] = [4, 8];
pub const PROVIDER: usize = 1;
pub const OPERATOR: usize = 2;
/// The payers.
pub const ALICE: usize = 3;
pub const BOB: usize = 4;

pub struct World {
    pub anvil: Arc<Anvil>,
    pub ledger: Ledger,
    pub deployment: Deployment,
}

pub fn keys_dir() -> PathBuf {
    millstream_prover::default_keys_dir().expect("a directory")
}

pub fn keys(circuit: CircuitId) -> InsecureDevKeys {
    InsecureDevKeys::load_or_generate(circuit, &keys_dir()).expect("keys")
}

pub fn size(slots: usize) -> BookSize {
    BookSize::new(slots).expect("a size")
}

pub fn tier(slots: usize) -> TierPlan {
    let [settle, register] = CircuitId::of_tier(size(slots));
    TierPlan {
        slots: size(slots).slots(),
        empty_root: field_to_word(Book::empty_root(size(slots))),
        settle_key: keys(settle).verifying_key().words(),
        register_key: keys(register).verifying_key().words(),
    }
}

/// A chain with a ledger of these tiers; both payers have a million tokens.
pub async fn world_of(tiers: Vec<TierPlan>) -> World {
    let anvil = Arc::new(Anvil::spawn(&AnvilOptions::default()).unwrap_or_else(|error| panic!("{error}")));
    let rpc = Rpc::connect(&anvil.url(), RpcOptions::default()).await.expect("anvil answers");
    let deployer = lane(&rpc, 0);
    let plan = DeployPlan {
        provenance: KeyProvenance::InsecureDevelopment,
        provider: DEV_ACCOUNTS[PROVIDER].address,
        operator: DEV_ACCOUNTS[OPERATOR].address,
        response_window_secs: WINDOW_SECS,
        halt_window_secs: HALT_WINDOW_SECS,
        deposit_min: Amount::ZERO,
        token: TokenChoice::TestUsdc,
        tiers,
    };
    let deployment = deploy(&deployer, &plan).await.expect("deployed");
    for payer in [ALICE, BOB] {
        mint(&deployer, deployment.token, DEV_ACCOUNTS[payer].address, 1_000_000_000_000).await.expect("minted");
    }
    let ledger = Ledger::attach(rpc, deployment.ledger).await.expect("attached");
    World { anvil, ledger, deployment }
}

pub async fn world() -> World {
    world_of(SIZES.map(tier).to_vec()).await
}

pub fn lane(rpc: &Rpc, account: usize) -> Submitter {
    let key = ChainKey::from_bytes(&DEV_ACCOUNTS[account].secret).expect("a key");
    Submitter::new(rpc.clone(), key, SubmitterOptions::for_development())
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_entropy(&[number; 64]).expect("a key")
}

impl World {
    pub fn payer(&self, account: usize) -> Payer {
        Payer::new(self.ledger.clone(), lane(self.ledger.rpc(), account))
    }

    /// Opens a channel under key and salt `number`.
    pub async fn open(&self, account: usize, number: u8, base_units: u128) -> ChannelId {
        let (key, witness) = (secret(number), secret(number).witness());
        let key = VoucherKeyWitness { x: key.public_key().x(), qx: witness.x, qy: witness.y };
        let request = OpenRequest { key, salt: [number; 32], deposit_base_units: base_units };
        self.payer(account).open(&request).await.expect("opened").channel
    }

    pub async fn balance(&self, account: usize) -> u128 {
        token_balance(self.ledger.rpc(), self.deployment.token, DEV_ACCOUNTS[account].address).await.expect("a balance")
    }

    pub fn options(&self) -> RebuildOptions {
        RebuildOptions { from: Some(self.deployment.block), ..RebuildOptions::default() }
    }

    /// A rebuilt ledger, compared with the contract.
    pub async fn rebuild(&self) -> Rebuild {
        let mut rebuild = Rebuild::start(self.ledger.clone(), self.options()).await.expect("a start");
        rebuild.catch_up(&mut |_| {}).await.expect("the chain agrees with itself");
        rebuild
    }

    pub async fn provider(&self) -> Provider {
        let submitter = lane(self.ledger.rpc(), OPERATOR);
        let keys = SIZES.iter().flat_map(|slots| CircuitId::of_tier(size(*slots))).map(keys).collect::<Vec<_>>();
        let rebuild = self.rebuild().await;
        Provider {
            epochs: u64::try_from(rebuild.rebuilt().epochs().len()).expect("few"),
            server: Server::new(self.ledger.clone(), submitter.clone(), keys_dir()),
            operator: Operator::new(self.ledger.clone(), submitter),
            rebuild,
            prover: Prover::insecure_dev(keys),
        }
    }

    pub async fn exit(&self, account: usize) -> Exit {
        let options =
            ExitOptions { rebuild: self.options(), keys_dir: keys_dir(), early: EarlyExit::Return, pause: Duration::from_millis(20) };
        Exit::new(self.ledger.clone(), lane(self.ledger.rpc(), account), options).await.expect("an exit")
    }

    pub fn call(&self, method: &str, params: Value) -> Value {
        self.anvil.call(method, &params).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Moves the chain's clock past the response window of everything that was asked so far.
    pub fn pass_the_window(&self) {
        self.anvil.advance_secs(WINDOW_SECS + 1).expect("advanced");
    }

    /// Moves the chain's clock past the halt window of everything that was asked so far.
    pub fn pass_the_halt_window(&self) {
        self.anvil.advance_secs(HALT_WINDOW_SECS + 1).expect("advanced");
    }

    /// The same ledger through an endpoint that may lie.
    pub async fn through(&self, rule: impl Fn(&str, &Value) -> proxy::Reply + Send + Sync + 'static) -> Ledger {
        let url = proxy::proxy(Arc::clone(&self.anvil), rule).await;
        let rpc = Rpc::connect(&url, RpcOptions::default()).await.expect("the proxy answers");
        Ledger::attach(rpc, self.ledger.address()).await.expect("attached")
    }

    pub async fn head(&self) -> BlockNumber {
        self.ledger.at(None).await.expect("a block").number()
    }
}

/// The provider's side: serves and settles from the chain alone.
pub struct Provider {
    server: Server,
    operator: Operator,
    rebuild: Rebuild,
    prover: Prover,
    epochs: u64,
}

impl Provider {
    /// Serves the first so many requests that wait.
    pub async fn register(&mut self, count: u64) {
        self.rebuild.catch_up(&mut |_| {}).await.expect("the chain agrees with itself");
        let rebuilt = self.rebuild.rebuilt();
        let served = plan_requests(rebuilt, rebuilt.queue_head() + count);
        self.server.serve(rebuilt, &served).await.expect("registered");
    }

    pub async fn register_all(&mut self) {
        self.register(u64::from(u32::MAX)).await;
    }

    /// Settles vouchers `(channel, its number, cumulative nanos)` of any books in one transaction, and anchors one epoch.
    pub async fn settle(&mut self, vouchers: &[(ChannelId, u8, u64)]) {
        self.rebuild.catch_up(&mut |_| {}).await.expect("the chain agrees with itself");
        let mut books: BTreeMap<BookId, BTreeMap<u16, VerifiedVoucher>> = BTreeMap::new();
        for (channel, number, cumulative) in vouchers {
            let place = self.rebuild.rebuilt().channel(channel).expect("known").place;
            let ChannelPlace::Booked { book, slot } = place else { panic!("{place:?}") };
            let body = VoucherBody {
                channel: *channel,
                lines_total: 1,
                cumulative: CumulativeAmount::from_nanos(*cumulative),
                bill_head: BillHead::from_bytes([9; 32]),
            };
            books.entry(book).or_default().insert(slot, secret(*number).sign(body).expect("64 bits"));
        }
        let settlements: Vec<BookSettlement> = books.into_iter().map(|(book, vouchers)| self.settlement(book, &vouchers)).collect();
        let epoch = EpochRoot { epoch: EpochId::new(self.epochs), root: [0xee; 32] };
        self.epochs += 1;
        let intent = IntentId::from_bytes(settlements[0].new_root);
        self.operator.settle(intent, &settlements, &[epoch]).await.expect("settled");
    }

    /// Moves channels of one book into slots of another, in one transaction.
    pub async fn move_channels(&mut self, moves: &[(ChannelId, u16)], to: BookId) {
        self.rebuild.catch_up(&mut |_| {}).await.expect("the chain agrees with itself");
        let rebuilt = self.rebuild.rebuilt();
        let ChannelPlace::Booked { book: from, .. } = rebuilt.channel(&moves[0].0).expect("known").place else { panic!("in no book") };
        let source = rebuilt.book(from).expect("a book");
        let held = |channel: &ChannelId| *source.find(channel).and_then(|slot| source.slot(slot)).expect("in the same book");
        let outs: Vec<_> = moves.iter().map(|(channel, _)| Operation::MoveOut { uid: *channel }).collect();
        let ins: Vec<_> = moves.iter().map(|(channel, slot)| Operation::MoveIn { slot: *slot, channel: held(channel) }).collect();
        let registrations = [self.registration(from, &outs), self.registration(to, &ins)];
        let intent = IntentId::from_bytes(registrations[1].new_root);
        self.operator.register(intent, &registrations, &[]).await.expect("moved");
    }

    fn registration(&self, id: BookId, operations: &[Operation]) -> BookRegistration {
        let book = self.rebuild.rebuilt().book(id).expect("a book");
        let place = Place { ledger: self.operator.ledger().id(), book: id };
        let statement = RegisterStatement::new(place, &book, operations).expect("a statement");
        let proof = self.prover.prove_register(&statement, &Blinding::from_os().expect("randomness")).expect("a proof");
        let row = |row: &millstream_circuit::Row| {
            let (flags, key_x) = (row.flags(), field_to_word(row.key_x()));
            SlotRow { slot: row.slot, flags, delta: row.delta_nanos(), refund: row.refund_nanos(), uid: row.uid.to_uid(), key_x }
        };
        BookRegistration {
            book: id,
            new_root: field_to_word(statement.new_root),
            commitment: field_to_word(statement.public.commitment),
            proof: proof.words(),
            rows: statement.rows.iter().map(row).collect(),
        }
    }

    fn settlement(&self, id: BookId, vouchers: &BTreeMap<u16, VerifiedVoucher>) -> BookSettlement {
        let book = self.rebuild.rebuilt().book(id).expect("a book");
        let slots: Vec<_> = (0..book.size().slots()).map(|slot| vouchers.get(&slot).copied()).collect();
        let place = Place { ledger: self.operator.ledger().id(), book: id };
        let statement = SettleStatement::new(place, &book, &slots).expect("a statement");
        let proof = self.prover.prove_settle(&statement, &Blinding::from_os().expect("randomness")).expect("a proof");
        let deltas = statement.deltas.as_chunks::<8>().0.iter().take(slots.len()).map(|delta| u64::from_be_bytes(*delta));
        BookSettlement {
            book: id,
            new_root: field_to_word(statement.new_root),
            total: Amount::from_units(statement.total_nanos),
            commitment: field_to_word(statement.public.commitment),
            proof: proof.words(),
            deltas: deltas.collect(),
        }
    }
}

/// Runs something async in a callback that is not.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

pub fn hex(bytes: &[u8]) -> Value {
    json!(alloy::hex::encode_prefixed(bytes))
}
