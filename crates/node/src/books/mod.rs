//! What finance asks of a node: receipts, statements, tallies (spec J-n, A-n). All of it is read from the store, off the payment path, and signed
//! when somebody asks: a batch has the same signature however often it is.

mod admin;
mod check;
mod find;
mod key;
mod receipts;
mod statements;
mod tallies;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use millstream_billing::{Batch, DurabilityLevel, SignedBatch};
use millstream_engine::escrow::EscrowId;
use millstream_store::Read;
use millstream_types::{Address, ChannelId, EpochId, Hash256, LedgerId, Timestamp};
use millstream_voucher::evm::{EscrowDomain, EvmSecretKey};

pub(crate) use self::admin::routes;
pub(crate) use self::check::check;
pub(crate) use self::key::FILE as KEY_FILE;
use crate::core::{Core, Stopped};

/// Which contracts the escrows are that are served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Domains(Arc<RwLock<BTreeMap<EscrowId, EscrowDomain>>>);

impl Domains {
    pub(crate) fn insert(&self, escrow: EscrowId, domain: EscrowDomain) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(escrow, domain);
    }

    pub(crate) fn get(&self, escrow: EscrowId) -> Option<EscrowDomain> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&escrow).copied()
    }
}

/// Why the books do not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BooksError {
    #[error("there is no charge {sequence}")]
    NoCharge { sequence: u64 },
    #[error("charge {sequence} was made before there was a journal: it has no receipt")]
    BeforeJournal { sequence: u64 },
    #[error("channel {channel} has no line {line}")]
    NoLine { channel: ChannelId, line: u64 },
    #[error(
        "what line {line} of channel {channel} was billed with is deleted, of epoch {epoch} and before at {} milliseconds of Unix time \
         (billing.retention_secs)", at.as_millis()
    )]
    Pruned { channel: ChannelId, line: u64, epoch: EpochId, at: Timestamp },
    #[error("the period has more than {max} rows: cut it into shorter ones")]
    TooManyRows { max: usize },
    #[error("the period ends before it begins")]
    EmptyPeriod,
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error("the books cannot be read: {0:#}")]
    Records(#[from] anyhow::Error),
}

impl From<millstream_store::StoreError> for BooksError {
    fn from(error: millstream_store::StoreError) -> Self {
        Self::Records(error.into())
    }
}

impl From<millstream_engine::RecordError> for BooksError {
    fn from(error: millstream_engine::RecordError) -> Self {
        Self::Records(error.into())
    }
}

/// The books of a node.
pub(crate) struct Books {
    core: Core,
    reader: Arc<dyn Read>,
    ledger: LedgerId,
    key: EvmSecretKey,
    domains: Domains,
}

impl Books {
    /// With the key that signs them, which is made at the first start.
    pub(crate) fn open(core: Core, reader: Arc<dyn Read>, ledger: LedgerId, data_dir: &Path) -> anyhow::Result<Self> {
        Ok(Self::with_key(core, reader, ledger, key::open(data_dir)?))
    }

    pub(crate) fn with_key(core: Core, reader: Arc<dyn Read>, ledger: LedgerId, key: EvmSecretKey) -> Self {
        Self { core, reader, ledger, key, domains: Domains::default() }
    }

    /// The account of the key that signs.
    pub(crate) const fn key(&self) -> Address {
        self.key.account()
    }

    pub(crate) const fn domains(&self) -> &Domains {
        &self.domains
    }

    fn sign(&self, digest: &Hash256) -> anyhow::Result<Vec<u8>> {
        Ok(self.key.sign_digest(digest)?.as_bytes().to_vec())
    }

    /// A batch with its signature. What can be read is durable: it was synced, and acknowledged.
    fn signed(&self, batch: Batch) -> anyhow::Result<SignedBatch> {
        let durability = DurabilityLevel::Synced;
        let signature = self.sign(&batch.signed_digest(&self.ledger, durability))?;
        Ok(SignedBatch { batch, durability, signature })
    }
}
