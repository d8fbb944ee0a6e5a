//! What every part of a node rests on.

use std::sync::Arc;

use millstream_chain::Submitter;
use millstream_store::{Read, RocksReader};
use tokio::sync::watch;

use crate::books::Books;
use crate::clock::ChainClock;
use crate::core::Core;
use crate::metrics::Metrics;

/// The core, the operator's lane to the chain, and what goes with them.
pub(crate) struct Base {
    pub(crate) core: Core,
    /// The one lane of the operator's key in this process.
    pub(crate) submitter: Submitter,
    pub(crate) reader: Arc<dyn Read>,
    /// The same, for backups.
    pub(crate) database: RocksReader,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: ChainClock,
    pub(crate) books: Arc<Books>,
    /// Turns true when the node stops.
    pub(crate) stopping: watch::Receiver<bool>,
}
