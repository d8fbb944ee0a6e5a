//! Statements: gathered from the journal, signed as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use millstream_billing::{
    Account, AccountOf, ChargeSource, Entry, EpochPlace, EpochTree, Row, STATEMENT_ROWS_MAX, SignedBatch, StatedRoot, StatedVoucher,
    Statement,
};
use millstream_engine::escrow::{Escrow, EscrowChannel};
use millstream_engine::{Channel, ChargeBatch, Engine, FrameBatch, IndexRecord, JournalHead, Key, Record, Table};
use millstream_store::{KeyRange, Read};
use millstream_types::{Address, Amount, ChannelId, CumulativeAmount, EpochId, EscrowChannelId, Hash256, Timestamp};
use millstream_voucher::evm::Evidence;

use super::find::{FoundFrames, batch_from, charge_batches, charges_from, each, epoch_began_at, frame_batches, frames_of};
use super::receipts::blocking;
use super::{Books, BooksError};
use crate::core::{now, scan_records, store_table};
use crate::errands::read_leaves;
use crate::proofs;

/// How long is waited for the clock to be beyond what is booked: it is by the next millisecond, unless it was set back.
const CLOCK_WAIT: Duration = Duration::from_millis(2);
const CLOCK_WAITS_MAX: usize = 20;

/// What of the engine a statement begins with, as it was between two ticks.
struct Seen {
    head: JournalHead,
    charges: u64,
    open_epoch: EpochId,
    pruned: Option<EpochId>,
}

impl Seen {
    fn of(engine: &Engine) -> Self {
        Self {
            head: *engine.journal(),
            charges: engine.escrow_summary().charges,
            open_epoch: engine.open_epoch().id,
            pruned: engine.pruned().map(|(epoch, _)| epoch),
        }
    }
}

/// The accounts of a statement while they are gathered.
#[derive(Default)]
struct Gathered {
    accounts: BTreeMap<AccountOf, Account>,
    batches: BTreeMap<u64, SignedBatch>,
    epochs: Vec<StatedRoot>,
    rows: usize,
}

impl Gathered {
    fn push(&mut self, of: AccountOf, asset: Address, row: Row) -> Result<(), BooksError> {
        self.rows += 1;
        if self.rows > STATEMENT_ROWS_MAX {
            return Err(BooksError::TooManyRows { max: STATEMENT_ROWS_MAX });
        }
        let (after, amount) = (row.total_after(), row.amount());
        let account = self.accounts.entry(of).or_insert_with(|| {
            let before = match of {
                AccountOf::Payments(_) => 0,
                AccountOf::Ledger(_) | AccountOf::Escrow(_) => after.units().saturating_sub(amount.units()),
            };
            let opening = CumulativeAmount::from_units(before);
            Account { of, asset, opening, closing: opening, rows: Vec::new(), voucher: None }
        });
        account.closing = match (of, row.is_reversal()) {
            (AccountOf::Payments(_), false) => account.closing.checked_add(amount).map_err(anyhow::Error::from)?,
            // What is taken back may have been charged before the period: then the account began with it.
            (AccountOf::Payments(_), true) => {
                let left = account.closing.units().saturating_sub(amount.units());
                let before = amount.units().saturating_sub(account.closing.units());
                account.opening = account.opening.checked_add(Amount::from_units(before)).map_err(anyhow::Error::from)?;
                CumulativeAmount::from_units(left)
            }
            (AccountOf::Ledger(_) | AccountOf::Escrow(_), _) => after,
        };
        account.rows.push(row);
        Ok(())
    }
}

impl Books {
    /// What a payer paid in a period, by the journal's time. A period that has not ended ends now.
    pub(crate) async fn statement(self: &Arc<Self>, payer: Address, from: Timestamp, to: Timestamp) -> Result<Statement, BooksError> {
        if from > to {
            return Err(BooksError::EmptyPeriod);
        }
        let seen = self.settled_head().await?;
        // Nothing is booked at or before the head's moment any more, unless the clock was set back.
        let until = Timestamp::from_millis(seen.head.at.as_millis().saturating_add(u64::from(now() > seen.head.at)));
        let to = to.min(until).max(from);
        let books = Arc::clone(self);
        let gathered = blocking(move || books.gather(payer, (from, to), &seen)).await?;
        let gathered = self.vouchers(gathered).await?;
        let mut statement = Statement {
            version: 1,
            chain_id: self.ledger.chain.get(),
            ledger: self.ledger.contract,
            key: self.key(),
            payer,
            from_millis: from.as_millis(),
            to_millis: to.as_millis(),
            batches: gathered.batches.into_values().collect(),
            epochs: gathered.epochs,
            accounts: gathered.accounts.into_values().collect(),
            signature: Vec::new(),
        };
        statement.signature = self.sign(&statement.signed_digest())?;
        Ok(statement)
    }

    /// The journal's end, once the clock is beyond its moment: then whatever comes is booked later.
    async fn settled_head(&self) -> Result<Seen, BooksError> {
        let mut waits = 0;
        loop {
            let seen = self.core.query(Seen::of).await?;
            if now() > seen.head.at || waits == CLOCK_WAITS_MAX {
                return Ok(seen);
            }
            waits += 1;
            tokio::time::sleep(CLOCK_WAIT).await;
        }
    }

    /// Payers with charges or channels, after one of them or from the first, in their order.
    pub(crate) async fn payers(self: &Arc<Self>, after: Option<Address>, limit: usize) -> Result<Vec<Address>, BooksError> {
        let books = Arc::clone(self);
        blocking(move || {
            let mut payers = BTreeSet::new();
            // Each payer is found by its first key after the one before it.
            let mut last = after;
            while payers.len() < limit {
                let (from, _) = Key::payer_batches(&last.unwrap_or(Address::ZERO), if last.is_some() { u64::MAX } else { 0 }..u64::MAX);
                let (_, to) = Key::payer_batches(&Address::from_bytes([u8::MAX; 20]), 0..u64::MAX);
                let mut next = None;
                books.reader.scan(store_table(Table::Accounts), &KeyRange::between(&from, &to), &mut |key, _| {
                    next = key.get(1..).and_then(|key| key.first_chunk()).map(|payer| Address::from_bytes(*payer));
                    ControlFlow::Break(())
                })?;
                let Some(payer) = next.filter(|payer| Some(*payer) != last) else { break };
                payers.insert(payer);
                last = Some(payer);
            }
            each_channel(&*books.reader, |channel| {
                if after.is_none_or(|after| channel.payer() > after) && channel.lines_total() > 0 {
                    payers.insert(channel.payer());
                    if payers.len() > limit {
                        payers.pop_last();
                    }
                }
            })?;
            Ok(payers.into_iter().take(limit).collect())
        })
        .await
    }

    fn gather(&self, payer: Address, (from, to): (Timestamp, Timestamp), seen: &Seen) -> Result<Gathered, BooksError> {
        let mut gathered = Gathered::default();
        self.charges(payer, (from, to), seen.charges, &mut gathered)?;
        let mut channels = BTreeSet::new();
        each_channel(&*self.reader, |channel| {
            if channel.payer() == payer && channel.lines_total() > 0 {
                channels.insert(channel.id());
            }
        })?;
        if !channels.is_empty() {
            self.frames(&channels, (from, to), seen, &mut gathered)?;
        }
        Ok(gathered)
    }

    fn charges(&self, payer: Address, (from, to): (Timestamp, Timestamp), charges: u64, gathered: &mut Gathered) -> Result<(), BooksError> {
        let (first, end) = (self.first_charge_at(from, charges)?, self.first_charge_at(to, charges)?);
        let mut firsts = Vec::new();
        let decode = |key: &[u8], _: &[u8]| Key::first_of_payer_batch(key);
        each(&*self.reader, Table::Accounts, Key::payer_batches(&payer, first..end), decode, |first| {
            firsts.push(first);
            ControlFlow::Continue(())
        })?;
        for first in firsts {
            let batch = charge_batches(&*self.reader, first..first.saturating_add(1))?.pop();
            let batch = batch.ok_or_else(|| anyhow::anyhow!("there is no batch of the charges from {first} on"))?;
            let found = charges_from(&*self.reader, batch)?;
            let batch = found.batch.batch;
            gathered.batches.insert(batch.number, self.signed(batch)?);
            for at in (0..found.entries.len()).filter(|at| found.entries.get(*at).is_some_and(|entry| entry.payer == payer)) {
                let Some((index, path, entry)) = found.entry(at) else { continue };
                let of = match entry.source {
                    ChargeSource::Channel(channel) => AccountOf::Escrow(channel),
                    ChargeSource::Payment(_) => AccountOf::Payments(entry.token),
                };
                let row = Row { batch: batch.number, index, path, entry: Entry::Charge(entry.clone()), place: None };
                gathered.push(of, entry.token, row)?;
            }
        }
        Ok(())
    }

    /// The number of the first charge that was booked at a moment or after it: batches are in the order of both.
    fn first_charge_at(&self, at: Timestamp, charges: u64) -> Result<u64, BooksError> {
        let (mut from, mut to) = (0, charges);
        while from < to {
            let middle = from + (to - from) / 2;
            match batch_from(&*self.reader, middle)? {
                Some(ChargeBatch { batch, first, .. }) if batch.at() < at => from = first.saturating_add(batch.count.into()),
                Some(_) | None => to = middle,
            }
        }
        Ok(from)
    }

    fn frames(
        &self,
        channels: &BTreeSet<ChannelId>,
        (from, to): (Timestamp, Timestamp),
        seen: &Seen,
        gathered: &mut Gathered,
    ) -> Result<(), BooksError> {
        let mut epoch = seen.pruned.map_or(EpochId::new(0), EpochId::next);
        let sealed = proofs::sealed_epochs(&*self.reader, epoch)?;
        while epoch <= seen.open_epoch {
            let (began, next) = (epoch_began_at(&*self.reader, epoch)?, epoch_began_at(&*self.reader, epoch.next())?);
            if began.is_some_and(|began| began >= to.as_millis()) {
                break;
            }
            // Before there was a journal, or all of it before the period.
            if began.is_some() && next.is_none_or(|next| next >= from.as_millis()) {
                let is_sealed = sealed.binary_search(&epoch).is_ok();
                self.frames_of_epoch(epoch, is_sealed, channels, (from, to), gathered)?;
            }
            epoch = epoch.next();
        }
        Ok(())
    }

    fn frames_of_epoch(
        &self,
        epoch: EpochId,
        is_sealed: bool,
        channels: &BTreeSet<ChannelId>,
        (from, to): (Timestamp, Timestamp),
        gathered: &mut Gathered,
    ) -> Result<(), BooksError> {
        if is_sealed && self.positions(epoch, channels)?.is_empty() {
            return Ok(());
        }
        let leaves = read_leaves(&*self.reader, epoch)?;
        let tree = if is_sealed { Some(EpochTree::new(self.ledger, epoch, &leaves).map_err(anyhow::Error::from)?) } else { None };
        let mut batches = frame_batches(&*self.reader, epoch, 0..u32::MAX)?.into_iter().peekable();
        let (mut found, before): (Option<FoundFrames>, usize) = (None, gathered.rows);
        for (position, leaf) in (0..).zip(&leaves) {
            if !channels.contains(&leaf.channel) {
                continue;
            }
            let mut batch: Option<FrameBatch> = found.as_ref().map(|found| found.batch);
            while let Some(next) = batches.next_if(|next| next.first <= position) {
                batch = Some(next);
            }
            let Some(batch) = batch.filter(|batch| position < batch.first.saturating_add(batch.batch.count)) else { continue };
            if !(from..to).contains(&batch.batch.at()) {
                continue;
            }
            if found.as_ref().is_none_or(|found| found.batch != batch) {
                found = Some(frames_of(&*self.reader, batch)?);
                gathered.batches.insert(batch.batch.number, self.signed(batch.batch)?);
            }
            let Some((index, path, leaf)) = found.as_ref().and_then(|found| found.frame(position)) else { continue };
            let place = match &tree {
                None => None,
                Some(tree) => Some(place_in(tree, epoch, position)?),
            };
            let row = Row { batch: batch.batch.number, index, path, entry: Entry::Frame(leaf), place };
            gathered.push(AccountOf::Ledger(leaf.channel), self.ledger.contract, row)?;
        }
        if let (Some(tree), true) = (&tree, gathered.rows > before) {
            gathered.epochs.push(StatedRoot { epoch: epoch.number(), root: tree.header().root() });
        }
        Ok(())
    }

    /// Where frames of these channels are in a sealed epoch.
    fn positions(&self, epoch: EpochId, channels: &BTreeSet<ChannelId>) -> Result<BTreeSet<u32>, BooksError> {
        let mut positions = BTreeSet::new();
        for channel in channels {
            let prefix = [epoch.number().to_be_bytes().as_slice(), channel.as_bytes()].concat();
            let range = KeyRange::with_prefix(&prefix);
            let range = (range.from().to_vec(), range.to().map(<[u8]>::to_vec).unwrap_or_default());
            each(&*self.reader, Table::Index, range, IndexRecord::decode, |record| {
                positions.extend(record.positions());
                ControlFlow::Continue(())
            })?;
        }
        Ok(positions)
    }

    /// Adds the vouchers that the node holds. After the rows were read: they are over those at least.
    async fn vouchers(&self, mut gathered: Gathered) -> Result<Gathered, BooksError> {
        let of: Vec<AccountOf> = gathered.accounts.keys().copied().collect();
        let read = move |engine: &Engine| of.into_iter().map(|of| (of, Held::of(engine, of))).collect::<Vec<_>>();
        for (of, held) in self.core.query(read).await? {
            let voucher = match held {
                Held::Nothing => None,
                Held::Voucher(voucher) => Some(voucher),
                Held::Escrow(channel, escrow) => self.stated(&channel, &escrow),
                Held::Archived(channel) => self.archived(channel).await?,
            };
            if let Some(account) = gathered.accounts.get_mut(&of) {
                account.voucher = voucher;
            }
        }
        Ok(gathered)
    }

    async fn archived(&self, id: EscrowChannelId) -> Result<Option<StatedVoucher>, BooksError> {
        let reader = Arc::clone(&self.reader);
        let key = Key::archived(id);
        let value = blocking(move || Ok(reader.get(store_table(key.table()), &key.to_bytes())?)).await?;
        let Some(channel) = value.map(|value| EscrowChannel::decode_archived(id, &value)).transpose()? else { return Ok(None) };
        let number = channel.terms().escrow;
        let escrow = self.core.query(move |engine| engine.escrow(number).copied()).await?;
        Ok(escrow.and_then(|escrow| self.stated(&channel, &escrow)))
    }

    fn stated(&self, channel: &EscrowChannel, escrow: &Escrow) -> Option<StatedVoucher> {
        let (voucher, domain) = (channel.voucher(escrow)?, self.domains().get(escrow.id)?);
        Some(StatedVoucher::Escrow {
            domain: domain.scheme().domain_name().to_owned(),
            contract: domain.contract(),
            signer: voucher.signer(),
            cumulative: voucher.statement().cumulative,
            signature: voucher.signature().as_bytes().to_vec(),
            judged_at: match voucher.evidence() {
                Evidence::Key => None,
                Evidence::Contract { at } => Some(at.height()),
            },
        })
    }
}

/// What the engine holds of an account.
enum Held {
    Nothing,
    Voucher(StatedVoucher),
    Escrow(Box<EscrowChannel>, Escrow),
    Archived(EscrowChannelId),
}

impl Held {
    fn of(engine: &Engine, of: AccountOf) -> Self {
        match of {
            AccountOf::Payments(_) => Self::Nothing,
            AccountOf::Ledger(id) => engine.channel(&id).and_then(ledger_voucher).map_or(Self::Nothing, Self::Voucher),
            AccountOf::Escrow(id) => match engine.escrow_channel(&id) {
                None => Self::Archived(id),
                Some(channel) => match engine.escrow(channel.terms().escrow) {
                    Some(escrow) => Self::Escrow(Box::new(channel.clone()), *escrow),
                    None => Self::Nothing,
                },
            },
        }
    }
}

fn ledger_voucher(channel: &Channel) -> Option<StatedVoucher> {
    let voucher = channel.accepted()?;
    let body = voucher.body();
    Some(StatedVoucher::Ledger {
        key_x: Hash256::from_bytes(*channel.key_x()),
        lines_total: body.lines_total,
        cumulative: body.cumulative,
        bill_head: body.bill_head,
        signature: voucher.signature().as_bytes().to_vec(),
    })
}

fn place_in(tree: &EpochTree, epoch: EpochId, position: u32) -> Result<EpochPlace, BooksError> {
    let index = usize::try_from(position).map_err(anyhow::Error::from)?;
    let path = tree.path(index).map_err(anyhow::Error::from)?;
    Ok(EpochPlace { epoch: epoch.number(), frame_count: tree.header().leaf_count, frame_index: position.into(), path })
}

/// Shows every channel of the ledger, from the store: payments do not wait for it.
fn each_channel(reader: &dyn Read, mut visit: impl FnMut(&Channel)) -> Result<(), BooksError> {
    let decode = |key: &[u8], value: &[u8]| Record::decode(Table::Channels, key, value);
    scan_records(reader, Table::Channels, &KeyRange::all(), decode, |record| {
        if let Record::Channel(channel) = record {
            visit(&channel);
        }
        ControlFlow::Continue(())
    })
}
