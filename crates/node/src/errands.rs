//! Work that the core asks for and must not wait for: building epoch trees, and waking it later.

use std::sync::Arc;
use std::time::Duration;

use millstream_billing::{EpochHeader, EpochTree, FrameLeaf};
use millstream_engine::{Input, LeafRecord, Table};
use millstream_store::{KeyRange, Read};
use millstream_types::{EpochId, LedgerId};
use tokio::sync::mpsc;
use tracing::{error, info};

use crate::core::{Core, Errand, now, store_table};

/// Pause before an epoch that could not be sealed is tried again.
const SEAL_RETRY_PAUSE: Duration = Duration::from_secs(10);

/// Runs errands until the core is gone.
pub(crate) async fn run(core: Core, reader: Arc<dyn Read>, ledger: LedgerId, mut errands: mpsc::UnboundedReceiver<Errand>) {
    while let Some(errand) = errands.recv().await {
        let core = core.clone();
        match errand {
            Errand::WakeAt(at) => {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(at.millis_since(now()))).await;
                    // A core that is gone needs no waking.
                    let _ = core.inputs(vec![Input::Tick]).await;
                });
            }
            Errand::SealEpoch { epoch, frames } => {
                let reader = Arc::clone(&reader);
                tokio::spawn(async move {
                    loop {
                        let leaves = Arc::clone(&reader);
                        let sealed = tokio::task::spawn_blocking(move || seal(&*leaves, ledger, epoch, frames)).await;
                        match sealed.map_err(anyhow::Error::from).and_then(|sealed| sealed) {
                            Ok(header) => {
                                info!(%epoch, frames, total_nanos = %header.top.sum, root = %header.root(), "epoch sealed");
                                // A core that is gone seals it at the next start.
                                let _ = core.inputs(vec![Input::EpochSealed(header)]).await;
                                return;
                            }
                            Err(fault) => error!(%epoch, fault = format!("{fault:#}"), "the epoch cannot be sealed"),
                        }
                        tokio::time::sleep(SEAL_RETRY_PAUSE).await;
                    }
                });
            }
        }
    }
}

/// The frames of an epoch, in durable order.
pub(crate) fn read_leaves(reader: &dyn Read, epoch: EpochId) -> anyhow::Result<Vec<FrameLeaf>> {
    let range = KeyRange::with_prefix(&epoch.number().to_be_bytes());
    let mut leaves = Vec::new();
    for (_, value) in reader.collect(store_table(Table::Leaves), &range)? {
        leaves.push(LeafRecord::decode_leaf(&value)?);
    }
    Ok(leaves)
}

fn seal(reader: &dyn Read, ledger: LedgerId, epoch: EpochId, frames: u32) -> anyhow::Result<EpochHeader> {
    let leaves = read_leaves(reader, epoch)?;
    anyhow::ensure!(leaves.len() == frames as usize, "epoch {epoch} has {} stored leaves where {frames} were cut", leaves.len());
    Ok(*EpochTree::new(ledger, epoch, &leaves)?.header())
}
