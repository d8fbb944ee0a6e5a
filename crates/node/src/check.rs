//! Checking a database that no node runs on, a backup included: everything that can be verified from the records alone. Nothing is changed.
//!
//! | what | how |
//! |---|---|
//! | what was acknowledged | number and hash chain of the last batch, against the acknowledged head |
//! | bytes | every value of every table is read, which verifies its checksum; those of the engine are decoded |
//! | channels | the best voucher is signed by the channel's key; settled ≤ accepted ≤ deposit, while the chain is believed |
//! | frames | each has the lines, the totals, the head and the channel that its leaf says; each head follows from the one before |
//! | epochs | the tree over the leaves has the root and the sum that are kept, and each frame has its leaf |
//! | bills | each channel's leaves end where its voucher stands |
//! | charges | their numbers follow each other |
//! | journal | each batch is over what was booked, they are linked to the end that is kept, and the days are their sums |

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use millstream_billing::{FrameLeaf, genesis_head, next_head};
use millstream_engine::escrow::{ChargesRecord, Outcome};
use millstream_engine::{Channel, ChannelStatus, Count, EpochRecord, FrameBatch, IndexRecord, Key, LeavesRecord, Record, Table};
use millstream_store::{KeyRange, Read, StoreError, StoreOptions, StoreView};
use millstream_types::{Address, BillHead, ChainId, ChannelId, EpochId, LedgerId};
use millstream_voucher::PublicKey;
use millstream_wire::FrameMessage;
use serde::Serialize;

use crate::books;
use crate::core::{SCHEMA, SERVED_KEY, Served, store_table};
use crate::errands::seal;

/// Problems that are told one by one; more are counted.
const TOLD_MAX: usize = 100;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Number of the last batch.
    pub commit: u64,
    /// What the database belongs to.
    pub serves: Option<String>,
    /// Records read, of all tables.
    pub records: u64,
    /// Native channels.
    pub channels: u64,
    /// Frames that were compared with their leaves.
    pub frames: u64,
    /// Epochs whose tree was built again.
    pub epochs: u64,
    /// Charges of HTTP 402.
    pub charges: u64,
    /// What does not hold, in words, at most 100.
    pub problems: Vec<String>,
    /// How much does not hold.
    pub problems_total: u64,
}

impl CheckReport {
    fn problem(&mut self, what: String) {
        self.problems_total = self.problems_total.saturating_add(1);
        if self.problems.len() < TOLD_MAX {
            self.problems.push(what);
        }
    }
}

/// What a look at a database tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseState {
    /// There is none.
    Absent,
    /// A node can be started on it.
    Good {
        /// Number of the last batch.
        commit: u64,
    },
    /// Another process has it.
    InUse {
        /// The process, if it could be read.
        pid: Option<u32>,
    },
    /// Another build wrote it.
    OtherVersion {
        /// In words.
        what: String,
    },
    /// It was made for another ledger or chain.
    OtherOwner {
        /// In words.
        what: String,
    },
    /// Nobody can start on it.
    Damaged {
        /// In words.
        what: String,
    },
}

/// Looks at the database under a data directory, for a ledger, or for a chain where it is known. Nothing is changed and little is read.
#[must_use]
pub fn look(data_dir: &Path, chain: Option<u64>, ledger: Option<Address>) -> DatabaseState {
    let view = match StoreView::open(&data_dir.join("db"), &StoreOptions::new(SCHEMA)) {
        Ok(Some(view)) => view,
        Ok(None) => return DatabaseState::Absent,
        Err(StoreError::Locked { holder, .. }) => return DatabaseState::InUse { pid: holder },
        Err(error @ (StoreError::SchemaTooOld { .. } | StoreError::SchemaTooNew { .. } | StoreError::UnknownTable { .. })) => {
            return DatabaseState::OtherVersion { what: error.to_string() };
        }
        Err(error) => return DatabaseState::Damaged { what: format!("{:#}", anyhow::Error::from(error)) },
    };
    let commit = view.head().seq.as_u64();
    let stored = match view.get(store_table(Table::Meta), SERVED_KEY) {
        Ok(stored) => stored.and_then(|bytes| Served::from_bytes(&bytes)),
        Err(error) => return DatabaseState::Damaged { what: format!("{:#}", anyhow::Error::from(error)) },
    };
    // A chain that is not named is whatever the endpoint says, and compared at the start.
    let expected = match (chain.map(ChainId::new), ledger) {
        (Some(chain), Some(contract)) => Some(Served::Ledger(LedgerId { chain, contract })),
        (Some(chain), None) => Some(Served::NoLedger(chain)),
        (None, _) => None,
    };
    match (stored, expected) {
        (Some(stored), Some(expected)) if stored != expected => {
            DatabaseState::OtherOwner { what: format!("{} was made for {stored}, and not for {expected}", data_dir.display()) }
        }
        _ => DatabaseState::Good { commit },
    }
}

/// Where a channel's bill stands.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Standing {
    lines: u64,
    nanos: u64,
    head: BillHead,
}

/// Checks the database under a data directory, or in a backup.
///
/// # Errors
/// There is no database, it is in use, or it cannot be opened at all: what was acknowledged is missing, or its version is another.
pub fn check_database(data_dir: &Path) -> anyhow::Result<CheckReport> {
    let directory = data_dir.join("db");
    let view = StoreView::open(&directory, &StoreOptions::new(SCHEMA))?;
    let view = view.with_context(|| format!("there is no database in {}", data_dir.display()))?;
    let mut report = CheckReport { commit: view.head().seq.as_u64(), ..CheckReport::default() };
    let served = view.get(store_table(Table::Meta), SERVED_KEY)?;
    let served = served.map(|bytes| Served::from_bytes(&bytes).context("what it belongs to cannot be read")).transpose()?;
    report.serves = served.map(|served| served.to_string());
    let Some(served) = served else { return Ok(report) };

    read_all(&view, &mut report)?;
    books::check(&view, served.ledger(), |problem| report.problem(problem))?;
    let channels = channels(&view, &mut report)?;
    let (epochs, open) = epochs(&view, &mut report)?;
    let mut standings = BTreeMap::new();
    let first_kept = epochs.iter().filter(|epoch| epoch.pruned_at.is_some()).map(|epoch| epoch.id.next()).max();
    for epoch in epochs.iter().filter(|epoch| epoch.pruned_at.is_none()) {
        bill(&view, epoch.id, epoch.frames, &mut standings, first_kept.is_some(), &mut report)?;
        let Some(kept) = epoch.header(served.ledger()) else { continue };
        report.epochs = report.epochs.saturating_add(1);
        match seal(&view, served.ledger(), epoch.id, epoch.frames) {
            Ok((header, _)) if header == kept => {}
            Ok((header, _)) => report.problem(format!(
                "epoch {}: root {} and sum {} are kept, its leaves give {} and {}",
                epoch.id,
                kept.root(),
                kept.top.sum,
                header.root(),
                header.top.sum
            )),
            Err(error) => report.problem(format!("epoch {}: {error:#}", epoch.id)),
        }
    }
    if let Some((id, frames)) = open {
        bill(&view, id, frames, &mut standings, first_kept.is_some(), &mut report)?;
    }
    for (id, channel) in &channels {
        let now = Standing { lines: channel.lines_total(), nanos: nanos(channel), head: channel.bill_head() };
        match standings.get(id) {
            Some(standing) if *standing == now => {}
            Some(standing) => report.problem(format!(
                "channel {id}: its bill ends after {} lines and {} nanos, its voucher says {} and {}",
                standing.lines, standing.nanos, now.lines, now.nanos
            )),
            // Whatever it paid may be pruned.
            None if now.lines > 0 && first_kept.is_none() => {
                report.problem(format!("channel {id}: its voucher says {} lines, and no epoch has one", now.lines));
            }
            None => {}
        }
    }
    for id in standings.keys().filter(|id| !channels.contains_key(id)) {
        report.problem(format!("channel {id}: it is billed, and not known"));
    }
    Ok(report)
}

fn nanos(channel: &Channel) -> u64 {
    channel.accepted_total().to_u64().unwrap_or(u64::MAX)
}

/// Reads every value, and decodes what has a form of its own.
fn read_all(view: &StoreView, report: &mut CheckReport) -> anyhow::Result<()> {
    let mut next_charge = None;
    for table in millstream_store::Table::ALL {
        let read = view.scan(table, &KeyRange::all(), &mut |key, value| {
            report.records = report.records.saturating_add(1);
            let outcome = match table {
                millstream_store::Table::Epochs => Record::decode(Table::Epochs, key, value).map(drop),
                millstream_store::Table::Chain => Record::decode(Table::Requests, key, value).map(drop),
                millstream_store::Table::Escrows => Record::decode(Table::Escrows, key, value).map(drop),
                millstream_store::Table::Index => IndexRecord::decode(key, value).map(drop),
                millstream_store::Table::Outcomes => Outcome::decode(value).map(drop),
                millstream_store::Table::Batches => FrameBatch::decode(key, value).map(drop),
                millstream_store::Table::Tallies => Count::decode(key, value).map(drop),
                millstream_store::Table::Charges => ChargesRecord::decode(key, value).map(|record| {
                    for charge in &record.charges {
                        report.charges = report.charges.saturating_add(1);
                        if next_charge.is_some_and(|next| next != charge.sequence) {
                            report.problem(format!("charge {}: the one before it is missing", charge.sequence));
                        }
                        next_charge = charge.sequence.checked_add(1);
                    }
                }),
                _ => Ok(()),
            };
            if let Err(error) = outcome {
                report.problem(format!("table {}, key {}: {error}", table.name(), hex_of(key)));
            }
            ControlFlow::Continue(())
        });
        if let Err(error) = read {
            let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            report.problem(format!("table {}: {error}{cause}", table.name()));
        }
    }
    Ok(())
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().take(40).map(|byte| format!("{byte:02x}")).collect()
}

fn channels(view: &StoreView, report: &mut CheckReport) -> anyhow::Result<BTreeMap<ChannelId, Channel>> {
    let mut channels = BTreeMap::new();
    view.scan(store_table(Table::Channels), &KeyRange::all(), &mut |key, value| {
        match Record::decode(Table::Channels, key, value) {
            Ok(Record::Channel(channel)) => {
                report.channels = report.channels.saturating_add(1);
                check_channel(&channel, report);
                channels.insert(channel.id(), *channel);
            }
            Ok(_) => {}
            Err(error) => report.problem(format!("table channels, key {}: {error}", hex_of(key))),
        }
        ControlFlow::Continue(())
    })?;
    Ok(channels)
}

fn check_channel(channel: &Channel, report: &mut CheckReport) {
    let id = channel.id();
    if let Some(voucher) = channel.accepted() {
        let voucher = *voucher.signed();
        match PublicKey::from_x(channel.key_x()).map(|key| voucher.verify(&key)) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => report.problem(format!("channel {id}: its voucher does not hold: {error}")),
            Err(error) => report.problem(format!("channel {id}: its key is none: {error}")),
        }
    }
    // What the chain said of a frozen channel is in doubt.
    if channel.status() == ChannelStatus::Frozen {
        return;
    }
    let (settled, accepted, deposit) = (channel.settled().units(), channel.accepted_total().units(), channel.deposit().units());
    if settled > accepted || accepted > deposit {
        report.problem(format!("channel {id}: settled {settled}, accepted {accepted} and deposit {deposit} nanos are out of order"));
    }
}

/// The epochs that were cut, oldest first, and the open one with its frames.
type Epochs = (Vec<EpochRecord>, Option<(EpochId, u32)>);

fn epochs(view: &StoreView, report: &mut CheckReport) -> anyhow::Result<Epochs> {
    let mut epochs: Vec<EpochRecord> = Vec::new();
    view.scan(store_table(Table::Epochs), &KeyRange::all(), &mut |key, value| {
        if let Ok(Record::Epoch(epoch)) = Record::decode(Table::Epochs, key, value) {
            if epochs.last().is_some_and(|before| before.id.next() != epoch.id) {
                report.problem(format!("epoch {}: the one before it is missing", epoch.id));
            }
            epochs.push(epoch);
        }
        ControlFlow::Continue(())
    })?;
    let open = view.get(store_table(Table::Meta), &Key::OpenEpoch.to_bytes())?;
    let open = match open.map(|value| Record::decode(Table::Meta, &Key::OpenEpoch.to_bytes(), &value)) {
        Some(Ok(Record::OpenEpoch(open))) => Some((open.id, open.frames)),
        Some(Ok(_)) | None => None,
        Some(Err(error)) => {
            report.problem(format!("the open epoch: {error}"));
            None
        }
    };
    Ok((epochs, open))
}

/// The frames of an epoch with their leaves, in order; where each channel's bill stands goes on.
fn bill(
    view: &StoreView,
    epoch: EpochId,
    expected: u32,
    standings: &mut BTreeMap<ChannelId, Standing>,
    is_pruned_before: bool,
    report: &mut CheckReport,
) -> anyhow::Result<()> {
    let (mut count, mut problems) = (0u32, Vec::new());
    view.scan(store_table(Table::Leaves), &KeyRange::with_prefix(&epoch.number().to_be_bytes()), &mut |key, value| {
        let mut leaves = Vec::new();
        if let Err(error) = LeavesRecord::decode_leaves(value, &mut leaves) {
            problems.push(format!("table leaves, key {}: {error}", hex_of(key)));
        }
        for leaf in leaves {
            let place = format!("epoch {epoch}, frame {count}");
            match view.get(store_table(Table::Frames), &Key::Frame(epoch, count).to_bytes()) {
                Ok(Some(frame)) => problems.extend(compare(&leaf, frame).map(|what| format!("{place}: {what}"))),
                Ok(None) => problems.push(format!("{place}: it is missing")),
                Err(error) => problems.push(format!("{place}: {error}")),
            }
            let before = standings.get(&leaf.channel).copied().or_else(|| {
                // Without anything before it, a bill begins at its genesis, unless that was pruned.
                (!is_pruned_before).then(|| Standing { lines: 0, nanos: 0, head: genesis_head(&leaf.channel) })
            });
            problems.extend(before.and_then(|before| follow(&before, &leaf)).map(|what| format!("{place}: {what}")));
            let after = Standing { lines: leaf.lines_after, nanos: leaf.cumulative_after, head: leaf.bill_head };
            standings.insert(leaf.channel, after);
            count = count.saturating_add(1);
        }
        ControlFlow::Continue(())
    })?;
    if count != expected {
        problems.push(format!("epoch {epoch}: {count} leaves are there, {expected} were counted"));
    }
    report.frames = report.frames.saturating_add(u64::from(count));
    problems.into_iter().for_each(|problem| report.problem(problem));
    Ok(())
}

/// What a frame says otherwise than its leaf.
fn compare(leaf: &FrameLeaf, frame: Vec<u8>) -> Option<String> {
    let frame = match FrameMessage::decode(Bytes::from(frame)) {
        Ok(frame) => frame,
        Err(error) => return Some(format!("it does not decode: {error}")),
    };
    let body = frame.voucher().body();
    let root = match frame.root() {
        Ok(root) => root,
        Err(error) => return Some(format!("its lines: {error}")),
    };
    let says = (body.channel, body.lines_total, body.cumulative.to_u64().ok(), body.bill_head, root);
    let expected = (leaf.channel, leaf.lines_after, Some(leaf.cumulative_after), leaf.bill_head, leaf.frame_root);
    (says != expected).then(|| "it is another frame than its leaf says".to_owned())
}

/// What a leaf says that does not follow from what was before.
fn follow(before: &Standing, leaf: &FrameLeaf) -> Option<String> {
    if (before.lines, before.nanos) != (leaf.lines_before, leaf.cumulative_before) {
        return Some(format!(
            "it begins after {} lines and {} nanos, and its channel stood at {} and {}",
            leaf.lines_before, leaf.cumulative_before, before.lines, before.nanos
        ));
    }
    let head = next_head(&before.head, &leaf.frame_root, leaf.lines_after, leaf.cumulative_after);
    (head != leaf.bill_head).then(|| "its head does not follow from the one before".to_owned())
}
