//! Proofs for the settler: keys loaded once, statements of one transaction proved beside each other, and each finished proof kept on disk
//! until its book has another root on the chain. A node that dies after an hour of proving goes on where it was.
//!
//! A kept proof is believed no more than any other: it is used when it is for the very statement that is to be proved and passes the native
//! verifier. Files that are anything else are removed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use millstream_chain::{Ledger, ProofWords, TierConfig};
use millstream_circuit::{BookSize, PublicInputs, RegisterStatement, SettleStatement, field_to_word};
use millstream_prover::{
    CircuitId, CircuitKind, Job, KeyPins, Proof, Prover, ProverError, ProverService, ServiceOptions, refuse_public_chain,
};
use millstream_types::{BookId, ChainId, ChannelId, Hash256, LedgerId};
use millstream_voucher::{SignedVoucher, VOUCHER_BYTES};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::metrics::Metrics;

/// A statement of either circuit.
pub(crate) enum Statement {
    Settle(SettleStatement),
    Register(RegisterStatement),
}

impl Statement {
    fn book(&self) -> BookId {
        match self {
            Self::Settle(statement) => statement.place.book,
            Self::Register(statement) => statement.place.book,
        }
    }

    fn circuit(&self) -> CircuitId {
        match self {
            Self::Settle(statement) => CircuitId::settle(statement.book_after.size()),
            Self::Register(statement) => CircuitId::register(statement.book_after.size()),
        }
    }

    const fn public(&self) -> PublicInputs {
        match self {
            Self::Settle(statement) => statement.public,
            Self::Register(statement) => statement.public,
        }
    }
}

/// A statement, and what has to be known to make it again: the root that it starts from and, of a settlement, its vouchers by slot.
pub(crate) struct Wanted {
    pub(crate) statement: Statement,
    pub(crate) old_root: [u8; 32],
    pub(crate) vouchers: BTreeMap<u16, SignedVoucher>,
    /// What [`Proofs::kept`] had for the book.
    pub(crate) kept: Option<Finished>,
}

/// A proof, and how long somebody waited for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proved {
    pub(crate) words: ProofWords,
    pub(crate) seconds: f64,
}

/// Makes and keeps proofs.
pub(crate) struct Proofs {
    ledger: Ledger,
    keys_dir: PathBuf,
    options: ServiceOptions,
    kept: Kept,
    metrics: Arc<Metrics>,
    service: OnceCell<ProverService>,
}

impl Proofs {
    pub(crate) fn new(ledger: Ledger, keys_dir: PathBuf, kept: PathBuf, options: ServiceOptions, metrics: Arc<Metrics>) -> Self {
        Self { ledger, keys_dir, options, kept: Kept { directory: kept }, metrics, service: OnceCell::new() }
    }

    /// The statements under way.
    pub(crate) fn jobs(&self) -> Vec<Job> {
        self.service.get().map(ProverService::jobs).unwrap_or_default()
    }

    /// Takes a statement back; says whether there was such a one.
    pub(crate) fn cancel(&self, job: u64) -> bool {
        self.service.get().is_some_and(|service| service.cancel(job))
    }

    /// The finished proof of a book that starts from this root, if there is one.
    pub(crate) async fn kept(self: &Arc<Self>, kind: CircuitKind, book: BookId, root: [u8; 32]) -> anyhow::Result<Option<Finished>> {
        let proofs = Arc::clone(self);
        let kept = tokio::task::spawn_blocking(move || proofs.kept.read(kind, book)).await?;
        Ok(kept.filter(|kept| kept.old_root == root))
    }

    /// Proves statements beside each other, as far as threads and memory allow; the proofs in the order of the statements.
    pub(crate) async fn prove(self: &Arc<Self>, wanted: Vec<Wanted>) -> anyhow::Result<Vec<Proved>> {
        let service = self.service.get_or_try_init(|| self.load()).await?.clone();
        let mut tasks = JoinSet::new();
        for (index, wanted) in wanted.into_iter().enumerate() {
            let (proofs, service) = (Arc::clone(self), service.clone());
            tasks.spawn(async move { anyhow::Ok((index, proofs.prove_one(&service, wanted).await?)) });
        }
        let mut proved = BTreeMap::new();
        // When one fails the others are dropped, which takes their statements back; those that are finished are kept.
        while let Some(done) = tasks.join_next().await {
            let (index, one) = done??;
            proved.insert(index, one);
        }
        Ok(proved.into_values().collect())
    }

    async fn prove_one(self: &Arc<Self>, service: &ProverService, wanted: Wanted) -> anyhow::Result<Proved> {
        let started = Instant::now();
        let (book, circuit, public) = (wanted.statement.book(), wanted.statement.circuit(), wanted.statement.public());
        let checking = service.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let kept = wanted.kept.filter(|kept| kept.public == words(&public))?;
            let key = checking.prover().verifying_key(circuit)?;
            Proof::from_words(&kept.proof).ok().filter(|proof| key.verify(&public.to_array(), proof))
        });
        if let Some(proof) = kept.await? {
            info!(%circuit, %book, "a proof of before is used");
            return Ok(Proved { words: proof.words(), seconds: started.elapsed().as_secs_f64() });
        }
        let proof = match wanted.statement {
            Statement::Settle(statement) => service.settle(statement).await,
            Statement::Register(statement) => service.register(statement).await,
        };
        self.metrics.wrong_proofs.set(i64::try_from(service.prover().wrong_proofs()).unwrap_or(i64::MAX));
        let words_of_proof = proof?.words();
        let seconds = started.elapsed().as_secs_f64();
        self.metrics.prove_seconds.observe(seconds);
        let finished = Finished { old_root: wanted.old_root, public: words(&public), proof: words_of_proof, vouchers: wanted.vouchers };
        let proofs = Arc::clone(self);
        // Without it the proof is only made again after a crash.
        if let Err(failure) = tokio::task::spawn_blocking(move || proofs.kept.write(circuit.kind, book, &finished)).await? {
            warn!(%failure, "a finished proof cannot be kept");
        }
        Ok(Proved { words: words_of_proof, seconds })
    }

    /// Forgets the proofs of books that have another root now.
    pub(crate) async fn forget(self: &Arc<Self>, kind: CircuitKind, books: Vec<BookId>) -> anyhow::Result<()> {
        let proofs = Arc::clone(self);
        Ok(tokio::task::spawn_blocking(move || books.into_iter().for_each(|book| proofs.kept.remove(kind, book))).await?)
    }

    async fn load(&self) -> anyhow::Result<ProverService> {
        let (ledger, directory, options) = (self.ledger.clone(), self.keys_dir.clone(), self.options);
        tokio::task::spawn_blocking(move || {
            let prover = load_prover(ledger.id(), &ledger.config().tiers, &directory)?;
            Ok(ProverService::start(Arc::new(prover), options)?)
        })
        .await?
    }
}

fn words(public: &PublicInputs) -> [[u8; 32]; 3] {
    public.to_array().map(field_to_word)
}

/// Refuses a ledger on a public chain unless each of its verifiers has a pinned production key (spec L-23, L-33).
pub(crate) fn require_keys(chain: ChainId, tiers: &[TierConfig]) -> anyhow::Result<()> {
    if refuse_public_chain(chain).is_ok() {
        return Ok(());
    }
    circuits_of(tiers)?.into_iter().try_for_each(|(circuit, expected)| {
        let pin = KeyPins::committed().of(circuit).ok_or(ProverError::NotPinned { circuit });
        let pin = pin.with_context(|| format!("chain {chain} is public, and takes keys from a ceremony only"))?;
        let ours = pin.key_hash;
        if ours == expected { Ok(()) } else { Err(ProverError::ForeignKey { circuit, expected, ours }.into()) }
    })
}

/// The circuits of a ledger, with the hashes of the keys that it verifies them with.
fn circuits_of(tiers: &[TierConfig]) -> anyhow::Result<Vec<(CircuitId, Hash256)>> {
    let mut circuits = Vec::new();
    for tier in tiers {
        let size = BookSize::new(usize::from(tier.slots))?;
        circuits.extend(CircuitId::of_tier(size).into_iter().zip([tier.settle_key, tier.register_key]));
    }
    Ok(circuits)
}

/// The prover of every tier's circuits, with the keys that the ledger verifies with.
fn load_prover(ledger: LedgerId, tiers: &[TierConfig], directory: &Path) -> anyhow::Result<Prover> {
    Ok(Prover::for_chain(ledger.chain, circuits_of(tiers)?, directory, KeyPins::committed())?)
}

/// A finished proof, with what it takes to make its statement again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finished {
    old_root: [u8; 32],
    public: [[u8; 32]; 3],
    proof: ProofWords,
    /// Of a settlement, by slot.
    pub(crate) vouchers: BTreeMap<u16, SignedVoucher>,
}

/// The first bytes of a file: what it is, and the version of what follows.
const MAGIC: &[u8; 16] = b"millstreamproof\x01";

/// A slot, its channel and its voucher.
const ENTRY_BYTES: usize = 2 + 32 + VOUCHER_BYTES;

impl Finished {
    /// `magic ‖ old root ‖ public inputs ‖ proof ‖ (slot (2) ‖ channel ‖ voucher)*`, integers big-endian.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.old_root);
        bytes.extend_from_slice(self.public.as_flattened());
        bytes.extend_from_slice(self.proof.as_flattened());
        for (slot, voucher) in &self.vouchers {
            bytes.extend_from_slice(&slot.to_be_bytes());
            bytes.extend_from_slice(voucher.body().channel.as_bytes());
            bytes.extend_from_slice(&voucher.to_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (old_root, rest) = rest.split_first_chunk::<32>()?;
        let (public, rest) = rest.split_first_chunk::<96>()?;
        let (proof, rest) = rest.split_first_chunk::<256>()?;
        let (entries, []) = rest.as_chunks::<ENTRY_BYTES>() else { return None };
        let mut finished = Self { old_root: *old_root, public: [[0; 32]; 3], proof: [[0; 32]; 8], vouchers: BTreeMap::new() };
        finished.public.as_flattened_mut().copy_from_slice(public);
        finished.proof.as_flattened_mut().copy_from_slice(proof);
        for entry in entries {
            let (slot, rest) = entry.split_first_chunk::<2>()?;
            let (channel, voucher) = rest.split_first_chunk::<32>()?;
            let voucher = SignedVoucher::from_bytes(ChannelId::from_bytes(*channel).ok()?, voucher.first_chunk()?);
            finished.vouchers.insert(u16::from_be_bytes(*slot), voucher);
        }
        Some(finished)
    }
}

/// Finished proofs on disk, a file for each book and circuit.
struct Kept {
    directory: PathBuf,
}

impl Kept {
    fn path(&self, kind: CircuitKind, book: BookId) -> PathBuf {
        self.directory.join(format!("{kind}-{}-{}.proof", book.tier().index(), book.number()))
    }

    fn read(&self, kind: CircuitKind, book: BookId) -> Option<Finished> {
        let bytes = fs::read(self.path(kind, book)).ok()?;
        let finished = Finished::from_bytes(&bytes);
        if finished.is_none() {
            self.remove(kind, book);
        }
        finished
    }

    /// Writes beside the file and renames, so that no reader sees half of it.
    fn write(&self, kind: CircuitKind, book: BookId, finished: &Finished) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let path = self.path(kind, book);
        let unfinished = path.with_extension("unfinished");
        let mut file = File::create(&unfinished)?;
        file.write_all(&finished.to_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)
    }

    fn remove(&self, kind: CircuitKind, book: BookId) {
        match fs::remove_file(self.path(kind, book)) {
            Err(failure) if failure.kind() != io::ErrorKind::NotFound => warn!(%failure, %book, "an old proof cannot be removed"),
            Ok(()) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::{BillHead, CumulativeAmount, Tier};
    use millstream_voucher::{SecretKey, VoucherBody};

    use super::*;

    fn finished() -> Finished {
        let voucher = |slot: u16| {
            let body = VoucherBody {
                channel: ChannelId::from_uid(&[slot.to_be_bytes()[1]; 31]),
                lines_total: 3,
                cumulative: CumulativeAmount::from_nanos(u64::from(slot) + 9),
                bill_head: BillHead::from_bytes([5; 32]),
            };
            (slot, *SecretKey::from_entropy(&[7; 64]).expect("a key").sign(body).expect("64 bits").signed())
        };
        Finished { old_root: [1; 32], public: [[2; 32], [3; 32], [4; 32]], proof: [[6; 32]; 8], vouchers: [0, 5, 383].map(voucher).into() }
    }

    #[test]
    fn a_finished_proof_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let kept = Kept { directory: directory.path().join("proofs") };
        let (book, other) = (BookId::new(Tier::new(1), 7).expect("small"), BookId::new(Tier::new(1), 8).expect("small"));
        assert_eq!(kept.read(CircuitKind::Settle, book), None);
        kept.write(CircuitKind::Settle, book, &finished()).expect("written");
        assert_eq!(kept.read(CircuitKind::Settle, book), Some(finished()));
        assert_eq!((kept.read(CircuitKind::Register, book), kept.read(CircuitKind::Settle, other)), (None, None));
        kept.remove(CircuitKind::Settle, book);
        assert_eq!(kept.read(CircuitKind::Settle, book), None);
    }

    #[test]
    fn a_file_of_another_shape_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let kept = Kept { directory: directory.path().to_owned() };
        let book = BookId::new(Tier::new(0), 0).expect("small");
        let good = finished().to_bytes();
        for bytes in [&good[1..], &good[..good.len() - 1], &good[..100], b""] {
            assert_eq!(Finished::from_bytes(bytes), None);
            fs::write(kept.path(CircuitKind::Settle, book), bytes).expect("written");
            assert_eq!(kept.read(CircuitKind::Settle, book), None);
            assert!(!kept.path(CircuitKind::Settle, book).exists());
        }
    }

    #[test]
    fn a_public_chain_needs_pinned_keys() {
        let [settle_key, register_key] = [1, 2].map(|byte| Hash256::from_bytes([byte; 32]));
        let verifier = millstream_types::Address::from_bytes([1; 20]);
        let tier =
            TierConfig { slots: 1, empty_root: [0; 32], settle_verifier: verifier, register_verifier: verifier, settle_key, register_key };
        for chain in [31_337, 1_337] {
            require_keys(ChainId::new(chain), std::slice::from_ref(&tier)).expect("a development chain");
        }
        for chain in [1, 8_453, 137] {
            let refused = require_keys(ChainId::new(chain), std::slice::from_ref(&tier)).expect_err("a public chain");
            let missing = refused.downcast_ref::<ProverError>();
            assert!(matches!(missing, Some(ProverError::NotPinned { .. })), "{refused:#}");
            let ledger = LedgerId { chain: ChainId::new(chain), contract: verifier };
            load_prover(ledger, std::slice::from_ref(&tier), Path::new("nowhere")).expect_err("no development keys either");
        }
    }
}
