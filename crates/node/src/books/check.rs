//! Checking the books of a database that no node runs on.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use millstream_billing::{Batch, ChargeCause, genesis_link};
use millstream_engine::{ChargeBatch, Count, FrameBatch, JournalHead, Key, Record, Span, Table, Whose};
use millstream_store::Read;
use millstream_types::{Address, Hash256, LedgerId, Timestamp};

use super::BooksError;
use super::find::{charges_from, each, frames_of};
use crate::core::store_table;

/// What of a batch its neighbours are compared with.
struct Linked {
    number: u64,
    parent: Hash256,
    link: Hash256,
}

impl Linked {
    fn of(batch: &Batch) -> Self {
        Self { number: batch.number, parent: batch.parent, link: batch.link() }
    }
}

/// Tells what does not hold of the journal and of the tallies.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn check(reader: &dyn Read, ledger: LedgerId, mut tell: impl FnMut(String)) -> anyhow::Result<()> {
    let head = match reader.get(store_table(Table::Meta), &Key::Journal.to_bytes())? {
        None => None,
        Some(value) => match Record::decode(Table::Meta, &Key::Journal.to_bytes(), &value) {
            Ok(Record::Journal(head)) => Some(head),
            Ok(_) => None,
            Err(error) => {
                tell(format!("the journal's end: {error}"));
                return Ok(());
            }
        },
    };
    let (mut batches, mut charged) = (Vec::new(), BTreeMap::new());
    charges(reader, &mut batches, &mut charged, &mut tell)?;
    frames(reader, &mut batches, &mut tell)?;
    links(batches, head, ledger, &mut tell);
    let [_, today] = Span::of(head.map_or_else(Timestamp::default, |head| head.at));
    days(reader, today, &charged, &mut tell)
}

type Charged = BTreeMap<Address, (u128, u128)>;

fn charges(reader: &dyn Read, batches: &mut Vec<Linked>, charged: &mut Charged, tell: &mut impl FnMut(String)) -> anyhow::Result<()> {
    let mut all = Vec::new();
    each(reader, Table::Accounts, Key::charge_batches(0..u64::MAX), ChargeBatch::decode, |batch| {
        all.push(batch);
        ControlFlow::Continue(())
    })?;
    for batch in all {
        batches.push(Linked::of(&batch.batch));
        match charges_from(reader, batch) {
            Ok(found) => {
                for entry in &found.entries {
                    let (amount, reversed) = charged.entry(entry.token).or_default();
                    let sum = if entry.cause == ChargeCause::Reversed { reversed } else { amount };
                    *sum = sum.saturating_add(entry.amount.units());
                }
            }
            Err(BooksError::Records(problem)) => tell(format!("{problem:#}")),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn frames(reader: &dyn Read, batches: &mut Vec<Linked>, tell: &mut impl FnMut(String)) -> anyhow::Result<()> {
    let mut all = Vec::new();
    each(reader, Table::Batches, (Vec::new(), vec![u8::MAX; 13]), FrameBatch::decode, |batch| {
        all.push(batch);
        ControlFlow::Continue(())
    })?;
    for batch in all {
        batches.push(Linked::of(&batch.batch));
        match frames_of(reader, batch) {
            Ok(_) => {}
            Err(BooksError::Records(problem)) => tell(format!("{problem:#}")),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Neighbours are linked, and the last is where the journal ends. Those of pruned epochs are gone.
fn links(mut batches: Vec<Linked>, head: Option<JournalHead>, ledger: LedgerId, tell: &mut impl FnMut(String)) {
    batches.sort_unstable_by_key(|batch| batch.number);
    let mut before = Linked { number: 0, parent: Hash256::from_bytes([0; 32]), link: genesis_link(&ledger) };
    for batch in batches {
        if batch.number == before.number {
            tell(format!("batch {}: there are two", batch.number));
        }
        if before.number.checked_add(1) == Some(batch.number) && before.link != batch.parent {
            tell(format!("batch {}: it is not linked to the one before it", batch.number));
        }
        before = batch;
    }
    match head {
        Some(head) if head.number < before.number => {
            tell(format!("the journal ends with batch {}, and there is {}", head.number, before.number))
        }
        Some(head) if head.number == before.number && head.link != before.link => {
            tell(format!("batch {}: it is not the one that the journal ends with", head.number));
        }
        None if before.number > 0 => tell(format!("the journal has no end, and there is batch {}", before.number)),
        // What was booked last may be pruned.
        Some(_) | None => {}
    }
}

/// The days of each token come to its charges: while none of them is deleted.
fn days(reader: &dyn Read, today: Span, charged: &Charged, tell: &mut impl FnMut(String)) -> anyhow::Result<()> {
    let (mut tallied, mut oldest): (Charged, Option<Span>) = (BTreeMap::new(), None);
    each(reader, Table::Tallies, Key::tallies(Span::Day(0), Span::Day(u32::MAX)), Count::decode, |(key, count)| {
        oldest.get_or_insert(key.span);
        // Frames may be pruned, and have no charges.
        if key.whose == Whose::All && count.lines == 0 {
            let (amount, reversed) = tallied.entry(key.asset).or_default();
            *amount = amount.saturating_add(count.amount);
            *reversed = reversed.saturating_add(count.reversed);
        }
        ControlFlow::Continue(())
    })?;
    if oldest.is_some_and(|oldest| oldest <= today.first_kept()) && today.first_kept().number() > 0 {
        return Ok(());
    }
    for asset in charged.keys().chain(tallied.keys()).collect::<std::collections::BTreeSet<_>>() {
        let [booked, summed] = [charged, &tallied].map(|sums| sums.get(asset).copied().unwrap_or_default());
        if booked != summed {
            tell(format!("asset {asset}: its charges come to {booked:?}, its days to {summed:?} (charged, taken back)"));
        }
    }
    Ok(())
}
