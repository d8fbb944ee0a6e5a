//! The Graph's receipts through its own library, `tap_core`: verified one by one, aggregated into a voucher, stored.
//!
//! Receipts are signed before the window. Words: `verify`, `aggregate`, and `postgres` (with `--socket`).

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use millstream_peer_measure::{Clock, Count, Options, Row, Supply, locked_version, prepare, race};
use tap_core::manager::Manager;
use tap_core::manager::adapters::ReceiptStore;
use tap_core::manager::context::memory::InMemoryContext;
use tap_core::manager::context::memory::checks::get_full_list_of_checks;
use tap_core::receipt::checks::{CheckList, StatefulTimestampCheck};
use tap_core::receipt::{Context as TapContext, ReceiptWithState};
use tap_core::signed_message::Eip712SignedMessage;
use tap_core::{TapVersion, tap_eip712_domain};
use tap_graph::{Receipt, ReceiptAggregateVoucher, SignedReceipt};
use thegraph_core::alloy::dyn_abi::Eip712Domain;
use thegraph_core::alloy::primitives::{Address, B256};
use thegraph_core::alloy::signers::local::PrivateKeySigner;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls, Statement};

const CHAIN_ID: u64 = 42_161;
const VERIFIER: Address = Address::repeat_byte(0x11);
const ALLOCATION: Address = Address::repeat_byte(0xab);
/// More than a core of today verifies in a second.
const RATE_MAX_PER_THREAD: f64 = 15_000.0;
const BATCHES: [usize; 3] = [1, 100, 1_000];
/// How many receipts the indexer's service writes in one statement.
const ROWS_PER_INSERT: usize = 100;

const CHECKED: &str = "EIP-712 signature by recovery (k256), signer known, allocation known, timestamp above the last aggregate's";

fn main() -> Result<()> {
    let options = Options::from_env()?;
    let payer = Payer::new()?;
    let version = locked_version("tap_core")?;
    let row = |setup: &str, durable: &str, count: Count| {
        Row { peer: "The Graph tap_core", version, setup, verified: CHECKED, durable }.print(count)
    };
    if options.wants("verify") {
        for threads in [1_usize, 2] {
            let receipts = payer.receipts(options.supply(threads as f64 * RATE_MAX_PER_THREAD))?;
            let setup = format!("receipts verified and kept, {threads} thread{}", if threads == 1 { "" } else { "s" });
            row(&setup, "none: its in-memory context", verify(&payer, &receipts, threads, options.window)?)?;
        }
    }
    if options.wants("aggregate") {
        for batch in BATCHES {
            let receipts = payer.receipts(options.supply(RATE_MAX_PER_THREAD).next_multiple_of(batch))?;
            let setup = format!("{batch} receipt{} into one aggregate voucher, 1 thread", if batch == 1 { "" } else { "s" });
            row(&setup, "none: its in-memory context", aggregate(&payer, &receipts, batch, options.window)?)?;
        }
    }
    if options.wants("postgres") {
        let receipts = payer.receipts(options.supply(2.0 * RATE_MAX_PER_THREAD))?;
        let setup = format!("receipts verified on 2 threads, then one row each into PostgreSQL, up to {ROWS_PER_INSERT} a statement");
        let durable = "each receipt a row; fsync and synchronous_commit on, counted after the commit";
        row(&setup, durable, postgres(&payer, &receipts, &options)?)?;
    }
    Ok(())
}

/// Who signs receipts and aggregates them.
struct Payer {
    wallet: PrivateKeySigner,
    domain: Eip712Domain,
    first_timestamp_ns: u64,
}

impl Payer {
    fn new() -> Result<Self> {
        let wallet = PrivateKeySigner::from_bytes(&B256::repeat_byte(0x42))?;
        let domain = tap_eip712_domain(CHAIN_ID, VERIFIER, TapVersion::V1);
        // Old enough for every receipt to lie in the past: the library refuses the future.
        let first_timestamp_ns = (SystemTime::now().duration_since(UNIX_EPOCH)? - Duration::from_secs(60)).as_nanos().try_into()?;
        Ok(Self { wallet, domain, first_timestamp_ns })
    }

    /// Signed receipts with rising timestamps.
    fn receipts(&self, count: usize) -> Result<Vec<SignedReceipt>> {
        prepare(count, |number| {
            let nonce = u64::try_from(number)?;
            let timestamp_ns = self.first_timestamp_ns + nonce;
            let receipt = Receipt { allocation_id: ALLOCATION, timestamp_ns, nonce, value: 1 };
            Ok(Eip712SignedMessage::new(&self.domain, receipt, &self.wallet)?)
        })
    }

    /// The provider's side, as the library's own tests and benches set it up, with every check that it has.
    fn provider(&self) -> (InMemoryContext, Manager<InMemoryContext, SignedReceipt>) {
        let timestamps = Arc::new(StatefulTimestampCheck::new(0));
        let (ravs, receipts) = (Arc::new(RwLock::new(None)), Arc::new(RwLock::new(HashMap::new())));
        let context = InMemoryContext::new(ravs, receipts, Arc::new(RwLock::new(HashMap::new())), timestamps.clone())
            .with_sender_address(self.wallet.address());
        let allocations = Arc::new(RwLock::new(HashSet::from([ALLOCATION])));
        let signers = HashSet::from([self.wallet.address()]);
        let mut checks = get_full_list_of_checks(self.domain.clone(), signers, allocations, Arc::default());
        checks.push(timestamps);
        (context.clone(), Manager::new(self.domain.clone(), context, CheckList::new(checks)))
    }
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn verify(payer: &Payer, receipts: &[SignedReceipt], threads: usize, window: Duration) -> Result<Count> {
    let (_, manager) = payer.provider();
    race(threads, receipts, window, |supply| {
        runtime()?.block_on(async {
            let (context, mut verified) = (TapContext::new(), 0);
            while let Some(receipt) = supply.take() {
                manager.verify_and_store_receipt(&context, receipt.clone()).await?;
                verified += 1;
            }
            Ok(verified)
        })
    })
}

/// The provider verifies what it holds and asks, the payer signs the sum, the provider verifies and keeps the answer.
///
/// Receipts enter the provider's storage unverified, so that each is verified once. A payer that distrusts the request would verify
/// every receipt once more; that is not done here.
fn aggregate(payer: &Payer, receipts: &[SignedReceipt], batch: usize, window: Duration) -> Result<Count> {
    let (store, manager) = payer.provider();
    let batches: Vec<_> = receipts.chunks(batch).collect();
    runtime()?.block_on(async {
        let context = TapContext::new();
        let clock = Clock::start(&[])?;
        let supply = Supply::new(&batches, window);
        let mut aggregated = 0_u64;
        while let Some(batch) = supply.take() {
            for receipt in *batch {
                store.store_receipt(ReceiptWithState::new(receipt.clone())).await?;
            }
            let request = manager.create_rav_request::<ReceiptAggregateVoucher>(&context, 0, None).await?;
            ensure!(request.valid_receipts.len() == batch.len(), "receipts were refused: {:?}", request.invalid_receipts);
            let answer = ReceiptAggregateVoucher::aggregate_receipts(ALLOCATION, batch, request.previous_rav)?;
            let signed = Eip712SignedMessage::new(&payer.domain, answer, &payer.wallet)?;
            manager.verify_and_store_rav(request.expected_rav?, signed).await?;
            manager.remove_obsolete_receipts::<ReceiptAggregateVoucher>().await?;
            aggregated += u64::try_from(batch.len())?;
        }
        clock.stop(aggregated)
    })
}

/// Verification as above, and one row for each receipt, written in batches as they come, as the indexer's service does.
fn postgres(payer: &Payer, receipts: &[SignedReceipt], options: &Options) -> Result<Count> {
    let (_, manager) = payer.provider();
    let table = Table::create(options.socket()?, payer.wallet.address())?;
    let clock = Clock::start(&options.servers)?;
    let supply = Supply::new(receipts, options.window);
    // Bounded, so that a slow store slows the verification down and not the end of the measurement.
    let (verified, to_write) = mpsc::sync_channel(4 * ROWS_PER_INSERT);
    let verify_all = |verified: SyncSender<_>| -> Result<()> {
        runtime()?.block_on(async {
            let context = TapContext::new();
            while let Some(receipt) = supply.take() {
                manager.verify_and_store_receipt(&context, receipt.clone()).await?;
                verified.send(receipt).ok().context("the writer stopped")?;
            }
            Ok(())
        })
    };
    let rows = std::thread::scope(|scope| {
        let verify_all = &verify_all;
        let workers: Vec<_> = (0..2).map(|_| verified.clone()).map(|verified| scope.spawn(move || verify_all(verified))).collect();
        drop(verified);
        let rows = table.write(to_write)?;
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        anyhow::Ok(rows)
    })?;
    clock.stop(rows)
}

struct Table {
    runtime: Runtime,
    client: Client,
    insert: Statement,
    signer: Address,
}

impl Table {
    fn create(socket: &Path, signer: Address) -> Result<Self> {
        let runtime = runtime()?;
        let (client, insert) = runtime.block_on(async {
            let mut config = tokio_postgres::Config::new();
            config.host_path(socket).user("postgres").dbname("postgres");
            let (client, connection) = config.connect(NoTls).await.context("cannot reach PostgreSQL")?;
            tokio::spawn(connection);
            client
                .batch_execute(
                    "DROP TABLE IF EXISTS receipts;
                     CREATE TABLE receipts (
                         id bigserial PRIMARY KEY, allocation bytea NOT NULL, signer bytea NOT NULL, signature bytea NOT NULL,
                         timestamp_ns bigint NOT NULL, nonce bigint NOT NULL, value bigint NOT NULL)",
                )
                .await?;
            let insert = "INSERT INTO receipts (allocation, signer, signature, timestamp_ns, nonce, value)
                 SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[])";
            let insert = client.prepare(insert).await?;
            anyhow::Ok((client, insert))
        })?;
        Ok(Self { runtime, client, insert, signer })
    }

    /// Writes what comes, each statement its own transaction; the number of rows that were committed.
    fn write(&self, receipts: Receiver<&SignedReceipt>) -> Result<u64> {
        let mut rows = 0;
        while let Ok(first) = receipts.recv() {
            let batch: Vec<_> = std::iter::once(first).chain(receipts.try_iter().take(ROWS_PER_INSERT - 1)).collect();
            let signatures: Vec<Vec<u8>> = batch.iter().map(|receipt| receipt.signature.as_bytes().to_vec()).collect();
            let number =
                |field: fn(&Receipt) -> Result<i64>| batch.iter().map(|receipt| field(&receipt.message)).collect::<Result<Vec<_>>>();
            let timestamps = number(|receipt| Ok(receipt.timestamp_ns.try_into()?))?;
            let nonces = number(|receipt| Ok(receipt.nonce.try_into()?))?;
            let values = number(|receipt| Ok(receipt.value.try_into()?))?;
            let allocations: Vec<&[u8]> = batch.iter().map(|receipt| receipt.message.allocation_id.as_slice()).collect();
            let signers = vec![self.signer.as_slice(); batch.len()];
            rows += self
                .runtime
                .block_on(self.client.execute(&self.insert, &[&allocations, &signers, &signatures, &timestamps, &nonces, &values]))?;
        }
        Ok(rows)
    }
}
