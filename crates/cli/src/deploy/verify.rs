//! `millstream deploy verify`: a manifest, against this build and against the chain. Believes nothing that the manifest says.

use std::fmt::Display;
use std::path::PathBuf;

use clap::Args;
use millstream_chain::{
    Blueprint, ChainError, Comparison, Difference, Inventory, KnownPath, Located, Rpc, RpcOptions, SlotPath, VerifierInventory, block_hash,
    mined_transaction,
};
use millstream_circuit::{Book, BookSize, Fr, Slot, field_to_word};
use millstream_prover::{CircuitId, KeyPins, insecure_dev_verifier_key};
use millstream_types::{Address, BlockNumber, ChannelId, Hash256};
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::manifest::{Manifest, TierEntry, VerifierEntry};
use super::node_config;
use super::plan::KeySource;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::output::{View, columns, pairs};
use crate::progress::spinner;

/// `deploy verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// The manifest
    #[arg(value_name = "MANIFEST")]
    pub manifest: PathBuf,
    /// JSON-RPC endpoint of the chain; the profile's without this
    #[arg(long, value_name = "URL")]
    pub rpc: Option<String>,
    /// When nothing differs, write a node's configuration for the ledger to this new file
    #[arg(long, value_name = "FILE")]
    pub node_config: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct VerifiedView {
    holds: bool,
    chain_id: u64,
    ledger: Address,
    /// The block whose state was read.
    block: Option<u64>,
    /// Who may settle now.
    operator: Option<Address>,
    halted: Option<bool>,
    differences: Vec<DifferenceView>,
    /// Transactions that the endpoint does not have: they say nothing about the contracts.
    transactions_not_found: Vec<Hash256>,
}

#[derive(Debug, Serialize)]
struct DifferenceView {
    subject: String,
    expected: String,
    actual: String,
}

/// Checks a manifest.
///
/// # Errors
/// It is none, the chain does not answer, or something differs.
pub async fn run(context: &Context, args: &VerifyArgs) -> CliResult<()> {
    let manifest = Manifest::read(&args.manifest)?;
    let rpc_url = match &args.rpc {
        Some(url) => url.clone(),
        None => context.profile()?.rpc_url()?.to_owned(),
    };
    if let Some(path) = args.node_config.as_ref().filter(|path| path.exists()) {
        return Err(CliError::usage("file_exists", format!("{} is there already", path.display())));
    }
    let rpc = Rpc::connect(&rpc_url, RpcOptions::default()).await?;
    let turning = spinner(&context.output, "verifying");
    let view = verify(&rpc, &manifest).await;
    turning.finish_and_clear();
    let view = view?;
    context.output.show(&view)?;
    if let Some(first) = view.differences.first() {
        let count = view.differences.len();
        let message = format!("{count} differences; the first: {}: expected {}, found {}", first.subject, first.expected, first.actual);
        let error = CliError::check_failed("manifest_differs", message);
        let own = env!("CARGO_PKG_VERSION");
        return Err(if manifest.tool_version == own {
            error
        } else {
            error.hint(format!("the manifest is of version {}, this is {own}: other contracts have other code", manifest.tool_version))
        });
    }
    if let Some(path) = &args.node_config {
        node_config::write(&manifest, &rpc_url, path)?;
        context.output.note(&format!("wrote {}", path.display()));
    }
    Ok(())
}

async fn verify(rpc: &Rpc, manifest: &Manifest) -> CliResult<VerifiedView> {
    let mut view = VerifiedView {
        holds: false,
        chain_id: manifest.chain_id,
        ledger: manifest.ledger.address,
        block: None,
        operator: None,
        halted: None,
        differences: Vec::new(),
        transactions_not_found: Vec::new(),
    };
    // On another chain nothing else means anything.
    if rpc.chain().get() != manifest.chain_id {
        view.differences.push(DifferenceView::new("chain id", manifest.chain_id, rpc.chain()));
        return Ok(view);
    }
    let own = manifest.clone();
    let made = spawn_blocking(move || against_build(&own)).await;
    view.differences = made.map_err(|error| CliError::failed("internal", error.to_string()))??;
    let Comparison { block, differences, operator, halted, .. } = manifest.inventory().compare(rpc, &known_path()?).await?;
    view.differences.extend(differences.into_iter().map(DifferenceView::from));
    (view.block, view.operator, view.halted) = (Some(block.height()), operator, halted);
    check_history(rpc, manifest, &mut view).await?;
    view.holds = view.differences.is_empty();
    Ok(view)
}

/// Everything in the manifest that follows from its terms and keys, worked out again.
fn against_build(manifest: &Manifest) -> CliResult<Vec<DifferenceView>> {
    let mut found = Vec::new();
    let plan = manifest.plan()?;
    let chain = manifest.inventory().chain;
    if let Err(error) = plan.check(chain) {
        found.push(DifferenceView::new("plan", "one that can be deployed", error));
    }
    for tier in &manifest.tiers {
        check_tier(manifest.keys, tier, &mut found)?;
    }
    let blueprint = match Blueprint::new(chain, &plan, manifest.token.decimals) {
        Ok(blueprint) => blueprint,
        Err(error @ ChainError::InvalidInput { .. }) => {
            found.push(DifferenceView::new("plan", "one that can be deployed", error));
            return Ok(found);
        }
        Err(error) => return Err(error.into()),
    };
    compare(&blueprint.inventory, &manifest.inventory(), &mut found);
    Ok(found)
}

/// What of a tier comes from the circuits.
fn check_tier(source: KeySource, tier: &TierEntry, found: &mut Vec<DifferenceView>) -> CliResult<()> {
    let no_size = |_| CliError::usage("manifest", format!("the manifest has books of {} slots", tier.slots));
    let size = BookSize::new(usize::from(tier.slots)).map_err(no_size)?;
    let root = Hash256::from_bytes(field_to_word(Book::empty_root(size)));
    note(found, &format!("manifest: empty root of {} slots", tier.slots), root, tier.empty_root);
    for (entry, circuit) in [(&tier.settle, CircuitId::settle(size)), (&tier.register, CircuitId::register(size))] {
        note(found, "manifest: circuit", circuit, entry.circuit()?);
        check_key(source, circuit, entry, found)?;
    }
    Ok(())
}

fn check_key(source: KeySource, circuit: CircuitId, entry: &VerifierEntry, found: &mut Vec<DifferenceView>) -> CliResult<()> {
    let key = format!("manifest: verifying key of {circuit}");
    let digest = format!("manifest: digest of {circuit}");
    match source {
        KeySource::InsecureDevelopment => {
            let own = insecure_dev_verifier_key(circuit).map_err(|error| CliError::failed("keys", error.to_string()))?;
            note(found, &digest, own.circuit_digest, entry.circuit_digest);
            if own.words.iter().ne(entry.verifying_key.iter().map(Hash256::as_bytes)) {
                found.push(DifferenceView::new(&key, "the development key", "another"));
            }
        }
        KeySource::Production => {
            note(found, &digest, Hash256::from_bytes(circuit.structure().digest()), entry.circuit_digest);
            let pinned = KeyPins::committed().of(circuit).map(|pin| pin.key_hash);
            if pinned != Some(entry.key_hash) {
                let pinned = pinned.map_or_else(|| "one that this version pins: none".to_owned(), |hash| hash.to_string());
                found.push(DifferenceView::new(&key, pinned, entry.key_hash));
            }
        }
    }
    Ok(())
}

/// What a manifest's terms and keys give, against what it says.
fn compare(own: &Inventory, manifest: &Inventory, found: &mut Vec<DifferenceView>) {
    let mut located = |name: &str, own: Located, theirs: Located| {
        note(found, &format!("manifest: address of the {name}"), own.address, theirs.address);
        note(found, &format!("manifest: code of the {name}"), own.code_hash, theirs.code_hash);
    };
    for (tier, theirs) in own.tiers.iter().zip(&manifest.tiers) {
        let place = |verifier: VerifierInventory| Located { address: verifier.address, code_hash: verifier.code_hash };
        located(&format!("verifier of settle-{}", tier.slots), place(tier.settle), place(theirs.settle));
        located(&format!("verifier of register-{}", tier.slots), place(tier.register), place(theirs.register));
    }
    located("book paths", own.book_paths, manifest.book_paths);
    located("ledger factory", own.factory, manifest.factory);
    located("ledger", own.ledger, manifest.ledger);
    for (tier, theirs) in own.tiers.iter().zip(&manifest.tiers) {
        note(found, &format!("manifest: key hash of settle-{}", tier.slots), tier.settle.key_hash, theirs.settle.key_hash);
        note(found, &format!("manifest: key hash of register-{}", tier.slots), tier.register.key_hash, theirs.register.key_hash);
    }
}

/// What the manifest says of its block and transactions. An endpoint need not have the latter any more.
async fn check_history(rpc: &Rpc, manifest: &Manifest, view: &mut VerifiedView) -> CliResult<()> {
    let hash = block_hash(rpc, BlockNumber::new(manifest.block)).await?;
    let found = hash.map_or_else(|| "no such block".to_owned(), |hash| hash.to_string());
    note(&mut view.differences, &format!("block {}", manifest.block), manifest.block_hash, found);
    let mut senders = Vec::new();
    for (name, _, to, hash) in manifest.transactions() {
        let Some(mined) = mined_transaction(rpc, hash).await? else {
            view.transactions_not_found.push(hash);
            continue;
        };
        senders.push(mined.from);
        let subject = format!("manifest: transaction of the {name}");
        let differences = &mut view.differences;
        note(differences, &format!("{subject}: success"), true, mined.succeeded);
        note(differences, &format!("{subject}: called"), to, mined.to.map_or_else(|| "nobody".to_owned(), |to| to.to_string()));
        if name == "ledger" {
            note(differences, "manifest: start block", mined.block.height(), manifest.ledger.start_block);
        }
    }
    if let Some(deployer) = manifest.deployer.filter(|deployer| !senders.is_empty() && !senders.contains(deployer)) {
        view.differences.push(DifferenceView::new("manifest: deployer", "the sender of a transaction", deployer));
    }
    Ok(())
}

fn note(found: &mut Vec<DifferenceView>, subject: &str, expected: impl Display, actual: impl Display) {
    let difference = DifferenceView::new(subject, expected, actual);
    if difference.expected != difference.actual {
        found.push(difference);
    }
}

/// A book of one channel at the end of two levels, and the channel's path.
///
/// # Errors
/// A fault of this program.
pub fn known_path() -> CliResult<KnownPath> {
    let book = BookSize::new(17).and_then(|size| {
        let slot = Slot::new(16, ChannelId::from_uid(&[0xa5; 31]), Fr::from(7u64), 9, 5)?;
        Book::from_channels(size, [(16, slot)])
    });
    let found = book.and_then(|book| book.path(16).map(|path| (book, path)));
    let (book, path) = found.map_err(|error| CliError::failed("internal", error.to_string()))?;
    let groups = |groups: &[[Fr; 16]]| groups.iter().map(|group| group.map(field_to_word)).collect();
    let path = SlotPath {
        slot: path.slot,
        channel: path.channel.uid(),
        key_x: field_to_word(path.channel.key_x()),
        deposit: path.channel.deposit_nanos(),
        settled: path.channel.settled_nanos(),
        static_path: groups(&path.static_path),
        dynamic_path: groups(&path.dynamic_path),
    };
    Ok(KnownPath { slots: book.size().slots(), path, root: field_to_word(book.root()) })
}

impl DifferenceView {
    fn new(subject: &str, expected: impl Display, actual: impl Display) -> Self {
        Self { subject: subject.to_owned(), expected: expected.to_string(), actual: actual.to_string() }
    }
}

impl From<Difference> for DifferenceView {
    fn from(Difference { subject, expected, actual }: Difference) -> Self {
        Self { subject, expected, actual }
    }
}

impl View for VerifiedView {
    fn table(&self) -> String {
        let known = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let head = pairs([
            ("ledger", format!("{} on chain {}", self.ledger, self.chain_id)),
            ("block", known(self.block.map(|block| block.to_string()))),
            ("operator now", known(self.operator.map(|operator| operator.to_string()))),
            ("halted", known(self.halted.map(|halted| if halted { "YES, for good" } else { "no" }.to_owned()))),
            ("transactions", format!("{} not found", self.transactions_not_found.len())),
        ]);
        if self.holds {
            return format!("{head}\n\nthe manifest holds");
        }
        let rows = self.differences.iter().map(|found| vec![found.subject.clone(), found.expected.clone(), found.actual.clone()]);
        format!("{head}\n\n{}\n\nthe manifest does NOT hold", columns(&["what", "expected", "found"], &[], rows))
    }
}
