//! Work that the core asks for and must not wait for: building epoch trees and indexes, giving back space, and waking it later.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use millstream_billing::{EpochHeader, FrameLeaf};
use millstream_engine::{IndexRecord, Input, LeavesRecord, Table, index_records};
use millstream_store::{KeyRange, Read};
use millstream_types::{EpochId, LedgerId};
use tokio::sync::mpsc;
use tracing::{error, info};

use crate::clock::ChainClock;
use crate::core::{Core, Errand, Stopped, bill_through, now, store_table};

/// Pause before an epoch that could not be sealed is tried again.
const SEAL_RETRY_PAUSE: Duration = Duration::from_secs(10);

/// Bytes of an epoch's index that one tick takes beside its payments, about.
const INDEX_SLICE_BYTES: usize = 256 << 10;

/// Runs errands until the core is gone.
pub(crate) async fn run(
    core: Core,
    reader: Arc<dyn Read>,
    ledger: LedgerId,
    clock: ChainClock,
    mut errands: mpsc::UnboundedReceiver<Errand>,
) {
    while let Some(errand) = errands.recv().await {
        let (core, clock) = (core.clone(), clock.clone());
        match errand {
            Errand::WakeAt(at) => {
                tokio::spawn(async move {
                    while now() < at {
                        tokio::time::sleep(Duration::from_millis(at.millis_since(now()))).await;
                    }
                    // A core that is gone needs no waking.
                    let _ = core.inputs(vec![Input::Tick { asked: at, chain_time: clock.now() }]).await;
                });
            }
            Errand::SealEpoch { epoch, frames } => {
                let reader = Arc::clone(&reader);
                tokio::spawn(async move {
                    loop {
                        let leaves = Arc::clone(&reader);
                        let sealed = tokio::task::spawn_blocking(move || seal(&*leaves, ledger, epoch, frames)).await;
                        match sealed.map_err(anyhow::Error::from).and_then(|sealed| sealed) {
                            Ok((header, index)) => {
                                // A core that is gone seals it at the next start.
                                if hand_in(&core, header, index).await.is_ok() {
                                    info!(%epoch, frames, total_nanos = %header.top.sum, root = %header.root(), "epoch sealed");
                                }
                                return;
                            }
                            Err(fault) => error!(%epoch, fault = format!("{fault:#}"), "the epoch cannot be sealed"),
                        }
                        tokio::time::sleep(SEAL_RETRY_PAUSE).await;
                    }
                });
            }
            Errand::ReclaimThrough(epoch) => {
                let reader = Arc::clone(&reader);
                tokio::task::spawn_blocking(move || {
                    for (table, range) in bill_through(epoch) {
                        if let Err(fault) = reader.reclaim(table, &range) {
                            // Deleted it is; the space is given back with the next epoch, or at the next start.
                            error!(%epoch, %fault, "the space of pruned epochs cannot be given back");
                        }
                    }
                });
            }
        }
    }
}

/// Stores the index, a slice in a tick, and after all of it the epoch's top. A crash between any two leaves the epoch unsealed, and all of it
/// is done again.
pub(crate) async fn hand_in(core: &Core, header: EpochHeader, index: Vec<IndexRecord>) -> Result<(), Stopped> {
    let epoch = header.epoch;
    for records in slices(index) {
        core.inputs(vec![Input::EpochIndexed { epoch, records }]).await?;
    }
    core.inputs(vec![Input::EpochSealed(header)]).await
}

fn slices(index: Vec<IndexRecord>) -> Vec<Vec<IndexRecord>> {
    let (mut slices, mut slice, mut bytes) = (Vec::new(), Vec::new(), 0);
    for record in index {
        bytes += record.size_bytes();
        slice.push(record);
        if bytes >= INDEX_SLICE_BYTES {
            slices.push(std::mem::take(&mut slice));
            bytes = 0;
        }
    }
    if !slice.is_empty() {
        slices.push(slice);
    }
    slices
}

/// The frames of an epoch, in durable order.
pub(crate) fn read_leaves(reader: &dyn Read, epoch: EpochId) -> anyhow::Result<Vec<FrameLeaf>> {
    let range = KeyRange::with_prefix(&epoch.number().to_be_bytes());
    let (mut leaves, mut outcome) = (Vec::new(), Ok(()));
    reader.scan(store_table(Table::Leaves), &range, &mut |_, value| {
        outcome = LeavesRecord::decode_leaves(value, &mut leaves);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome?;
    Ok(leaves)
}

pub(crate) fn seal(reader: &dyn Read, ledger: LedgerId, epoch: EpochId, frames: u32) -> anyhow::Result<(EpochHeader, Vec<IndexRecord>)> {
    let leaves = read_leaves(reader, epoch)?;
    anyhow::ensure!(leaves.len() == frames as usize, "epoch {epoch} has {} stored leaves where {frames} were cut", leaves.len());
    Ok((EpochHeader::of(ledger, epoch, &leaves)?, index_records(epoch, &leaves)))
}
