//! The journal and the tallies: what finance reads, written in the batch of the money that it is about (spec J-1 to J-5, J-9).
//!
//! Frames and charges of a tick become batches of the journal: a root over them, linked to the batch before. Nothing is signed here; a
//! receipt is made from a batch when somebody asks for one.

use core::ops::Range;
use std::collections::BTreeSet;

use millstream_billing::{Batch, BatchKind, BatchTree, ChargeCause, ChargeEntry, ChargeSource, FrameLeaf, genesis_link};
use millstream_types::{Address, EpochId, Hash256, LedgerId, Timestamp};

use crate::codec::Reader;
use crate::escrow::{CHARGES_PER_RECORD_MAX, Cause, Charge, ChargesRecord, EscrowRecord, Subject};
use crate::record::{Key, Record};
use crate::tally::{Count, Tallies, Whose};
use crate::{Effect, Fault, RecordError};

/// The end of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalHead {
    /// Number of the last batch; 0 before the first.
    pub number: u64,
    /// The link up to and with it.
    pub link: Hash256,
    /// The latest moment that anything was booked at: the journal's time never goes back, whatever the clock does.
    pub at: Timestamp,
}

impl JournalHead {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [&[1], self.number.to_be_bytes().as_slice(), self.link.as_bytes(), &self.at.as_millis().to_be_bytes()].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("journal", bytes)?;
        let (number, link) = (reader.u64()?, Hash256::from_bytes(reader.bytes()?));
        let at = Timestamp::from_millis(reader.u64()?);
        reader.finish()?;
        Ok(Self { number, link, at })
    }
}

fn put_batch(batch: &Batch, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&batch.number.to_be_bytes());
    bytes.extend_from_slice(&batch.at_millis.to_be_bytes());
    bytes.push(batch.kind.number());
    bytes.extend_from_slice(&batch.count.to_be_bytes());
    bytes.extend_from_slice(batch.root.as_bytes());
    bytes.extend_from_slice(batch.parent.as_bytes());
}

fn read_batch(reader: &mut Reader<'_>) -> Result<Batch, RecordError> {
    let (number, at_millis, kind) = (reader.u64()?, reader.u64()?, reader.u8()?);
    let kind = BatchKind::from_number(kind).ok_or_else(|| reader.invalid())?;
    let count = reader.u32()?;
    let (root, parent) = (Hash256::from_bytes(reader.bytes()?), Hash256::from_bytes(reader.bytes()?));
    Ok(Batch { number, at_millis, kind, count, root, parent })
}

/// A batch of frames: those of one [`crate::LeavesRecord`], under its key. Deleted with its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameBatch {
    /// The epoch.
    pub epoch: EpochId,
    /// The position of the first frame in it.
    pub first: u32,
    /// The batch.
    pub batch: Batch,
}

impl FrameBatch {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![1];
        put_batch(&self.batch, &mut bytes);
        bytes
    }

    /// The record of a key and a value of [`crate::Table::Batches`].
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, RecordError> {
        let mut place = Reader::key("batch of frames", key);
        let (epoch, first) = (EpochId::new(place.u64()?), place.u32()?);
        place.finish()?;
        let mut reader = Reader::new("batch of frames", value)?;
        let batch = read_batch(&mut reader)?;
        reader.finish()?;
        Ok(Self { epoch, first, batch })
    }
}

/// A batch of charges: those of one [`ChargesRecord`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeBatch {
    /// The number of the first charge.
    pub first: u64,
    /// The batch.
    pub batch: Batch,
    /// Token and payer of each charge, in their order.
    pub accounts: Vec<(Address, Address)>,
}

impl ChargeBatch {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![1];
        put_batch(&self.batch, &mut bytes);
        for (token, payer) in &self.accounts {
            bytes.extend_from_slice(token.as_bytes());
            bytes.extend_from_slice(payer.as_bytes());
        }
        bytes
    }

    /// The record of a key, of those in [`Key::charge_batches`], and its value.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, RecordError> {
        let mut place = Reader::key("batch of charges", key);
        if place.u8()? != CHARGE_BATCH {
            return Err(place.invalid());
        }
        let first = place.u64()?;
        place.finish()?;
        let mut reader = Reader::new("batch of charges", value)?;
        let batch = read_batch(&mut reader)?;
        let mut accounts = Vec::new();
        while !reader.is_empty() {
            accounts.push((Address::from_bytes(reader.bytes()?), Address::from_bytes(reader.bytes()?)));
        }
        if usize::try_from(batch.count).ok() != Some(accounts.len()) {
            return Err(reader.invalid());
        }
        Ok(Self { first, batch, accounts })
    }

    /// The charges of this batch as the entries that its root is over; nothing when they are another record's.
    #[must_use]
    pub fn entries(&self, charges: &ChargesRecord) -> Option<Vec<ChargeEntry>> {
        let is_whole = charges.first() == self.first && charges.charges.len() == self.accounts.len();
        let entries = charges.charges.iter().zip(&self.accounts).map(|(charge, account)| entry(charge, *account));
        is_whole.then(|| entries.collect())
    }
}

/// A charge as an entry of the journal.
fn entry(charge: &Charge, (token, payer): (Address, Address)) -> ChargeEntry {
    ChargeEntry {
        sequence: charge.sequence,
        token,
        payer,
        source: match charge.subject {
            Subject::Channel(channel) => ChargeSource::Channel(channel),
            Subject::Once(authorization) => ChargeSource::Payment(Hash256::from_bytes(*authorization.as_bytes())),
        },
        request: Hash256::from_bytes(*charge.request.as_bytes()),
        amount: charge.amount,
        total_after: charge.charged_after,
        at_millis: charge.at.as_millis(),
        cause: match charge.cause {
            Cause::Captured => ChargeCause::Captured,
            Cause::Voided => ChargeCause::Voided,
            Cause::Recovered => ChargeCause::Recovered,
            Cause::Expired => ChargeCause::Expired,
            Cause::Reversed => ChargeCause::Reversed,
        },
        card_version: charge.meter.price_version,
        evidence: charge.meter.units.to_vec(),
    }
}

/// First bytes of keys of [`crate::Table::Accounts`].
const CHARGE_BATCH: u8 = 1;
const OF_PAYER: u8 = 2;

pub(crate) fn charge_batch_key(first: u64) -> Vec<u8> {
    [&[CHARGE_BATCH], first.to_be_bytes().as_slice()].concat()
}

pub(crate) fn payer_batch_key(payer: &Address, first: u64) -> Vec<u8> {
    [&[OF_PAYER], payer.as_bytes().as_slice(), &first.to_be_bytes()].concat()
}

impl Key {
    /// The range of [`crate::Table::Accounts`] with the batches of charges whose first charges have these numbers.
    #[must_use]
    pub fn charge_batches(firsts: Range<u64>) -> (Vec<u8>, Vec<u8>) {
        (charge_batch_key(firsts.start), charge_batch_key(firsts.end))
    }

    /// The range of [`crate::Table::Accounts`] that tells in which of those batches a payer has charges.
    #[must_use]
    pub fn payer_batches(payer: &Address, firsts: Range<u64>) -> (Vec<u8>, Vec<u8>) {
        (payer_batch_key(payer, firsts.start), payer_batch_key(payer, firsts.end))
    }

    /// The number of the first charge, from a key in [`Key::payer_batches`].
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn first_of_payer_batch(key: &[u8]) -> Result<u64, RecordError> {
        let mut reader = Reader::key("batch of a payer", key);
        let (kind, _) = (reader.u8()?, reader.bytes::<20>()?);
        let first = reader.u64()?;
        if kind != OF_PAYER {
            return Err(reader.invalid());
        }
        reader.finish()?;
        Ok(first)
    }
}

/// A charge of this tick, with its token and payer.
#[derive(Clone, Debug)]
pub(crate) struct NewCharge {
    pub(crate) charge: Charge,
    pub(crate) account: (Address, Address),
}

/// The journal and the tallies of an engine.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    ledger: LedgerId,
    head: JournalHead,
    tallies: Tallies,
    is_changed: bool,
}

impl Journal {
    pub(crate) fn starting(ledger: LedgerId) -> Self {
        let head = JournalHead { number: 0, link: genesis_link(&ledger), at: Timestamp::from_millis(0) };
        Self { ledger, head, tallies: Tallies::default(), is_changed: false }
    }

    /// Takes the end of the journal at the start, before any row of the tallies.
    pub(crate) fn restore(&mut self, head: JournalHead) {
        self.head = head;
        self.tallies.turn_to(head.at, &mut Vec::new());
    }

    pub(crate) fn restore_tally(&mut self, key: crate::TallyKey, count: Count) {
        self.tallies.restore(key, count);
    }

    pub(crate) const fn head(&self) -> &JournalHead {
        &self.head
    }

    /// What is booked from now on is booked at this moment, or at a later one that was seen before.
    pub(crate) fn see(&mut self, now: Timestamp) {
        self.head.at = self.head.at.max(now);
    }

    /// The batch over a tree, as the next one.
    fn link(&mut self, kind: BatchKind, tree: Option<BatchTree>, count: usize) -> Result<Batch, Fault> {
        let (Some(tree), Ok(count), Some(number)) = (tree, u32::try_from(count), self.head.number.checked_add(1)) else {
            return Err(Fault::Journal);
        };
        let batch = Batch { number, at_millis: self.head.at.as_millis(), kind, count, root: tree.root(), parent: self.head.link };
        (self.head.number, self.head.link) = (number, batch.link());
        self.is_changed = true;
        Ok(batch)
    }

    /// Books frames that follow each other in an epoch.
    pub(crate) fn frames(&mut self, epoch: EpochId, first: u32, leaves: &[FrameLeaf], effects: &mut Vec<Effect>) -> Result<(), Fault> {
        let batch = self.link(BatchKind::Frames, BatchTree::of_frames(leaves), leaves.len())?;
        effects.push(Effect::Put(Record::FrameBatch(FrameBatch { epoch, first, batch })));
        let mut count = Count::default();
        for leaf in leaves {
            count.lines = count.lines.saturating_add(leaf.lines_after.saturating_sub(leaf.lines_before));
            count.amount = count.amount.saturating_add(leaf.cumulative_after.saturating_sub(leaf.cumulative_before).into());
        }
        self.tallies.turn_to(self.head.at, effects);
        self.tallies.add(self.ledger.contract, &[Whose::All], &count)
    }

    /// Books the charges of a tick, and token and payer of what ended without one.
    pub(crate) fn charges(&mut self, charges: &[NewCharge], voids: &[(Address, Address)], effects: &mut Vec<Effect>) -> Result<(), Fault> {
        if charges.is_empty() && voids.is_empty() {
            return Ok(());
        }
        self.tallies.turn_to(self.head.at, effects);
        for charges in charges.chunks(CHARGES_PER_RECORD_MAX) {
            self.charge_batch(charges, effects)?;
        }
        for (token, payer) in voids {
            self.is_changed = true;
            let count = Count { voids: 1, ..Count::default() };
            self.tallies.add(*token, &[Whose::All, Whose::Payer(*payer)], &count)?;
        }
        Ok(())
    }

    fn charge_batch(&mut self, charges: &[NewCharge], effects: &mut Vec<Effect>) -> Result<(), Fault> {
        let accounts: Vec<_> = charges.iter().map(|new| new.account).collect();
        let hashes = charges.iter().map(|new| *entry(&new.charge, new.account).hash().as_bytes());
        let batch = self.link(BatchKind::Charges, BatchTree::new(hashes.collect()), charges.len())?;
        let record = ChargesRecord { charges: charges.iter().map(|new| new.charge.clone()).collect() };
        let first = record.first();
        let payers: BTreeSet<_> = accounts.iter().map(|(_, payer)| *payer).collect();
        effects.push(Effect::Put(Record::Escrow(EscrowRecord::Charges(record))));
        effects.extend(payers.into_iter().map(|payer| Effect::Put(Record::PayerBatch(payer, first))));
        effects.push(Effect::Put(Record::ChargeBatch(ChargeBatch { first, batch, accounts })));
        for NewCharge { charge, account: (token, payer) } in charges {
            let count = match charge.cause {
                Cause::Reversed => Count { reversals: 1, reversed: charge.amount.units(), ..Count::default() },
                Cause::Captured | Cause::Voided | Cause::Recovered | Cause::Expired => {
                    Count { charges: 1, amount: charge.amount.units(), ..Count::default() }
                }
            };
            let whose = [Whose::All, Whose::Payer(*payer), Whose::by_route(&charge.meter.units)];
            self.tallies.add(*token, &whose, &count)?;
        }
        Ok(())
    }

    /// Writes what changed of the journal's end and of the tallies.
    pub(crate) fn end_tick(&mut self, effects: &mut Vec<Effect>) {
        self.tallies.end_tick(effects);
        if core::mem::take(&mut self.is_changed) {
            effects.push(Effect::Put(Record::Journal(self.head)));
        }
    }
}
