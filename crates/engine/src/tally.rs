//! Tallies: sums by hour and by day, so that no page has to read charges (spec J-9 to J-11).
//!
//! The rows of the hour and the day that are written to are in memory; those before are in the store alone. There are bounds on the rows of
//! an hour or a day, and rows that are too old are deleted, so what tallies take does not grow with payments nor, after a while, with time.
//! Sums are exact whatever the bounds: what has no row of its own is in the row of the rest.

use std::collections::{BTreeMap, BTreeSet};

use millstream_billing::Evidence;
use millstream_types::{Address, Timestamp};

use crate::codec::{Reader, put_amount};
use crate::record::{Key, Record};
use crate::{Effect, Fault, RecordError};

/// Payers with rows of their own in an hour or a day, at most.
pub const TALLY_PAYERS_MAX: usize = 4_096;

/// Routes with rows of their own in an hour or a day, at most.
pub const TALLY_ROUTES_MAX: usize = 512;

/// Hours that are kept: 35 days.
pub const TALLY_HOURS_MAX: u32 = 35 * 24;

/// Days that are kept: more than two years.
pub const TALLY_DAYS_MAX: u32 = 800;

/// What a tally covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// An hour of UTC, counted from the Unix epoch.
    Hour(u32),
    /// A day of UTC, counted from the Unix epoch.
    Day(u32),
}

const HOUR_MILLIS: u64 = 3_600_000;
const DAY_MILLIS: u64 = 24 * HOUR_MILLIS;

impl Span {
    /// The hour and the day of a moment.
    #[must_use]
    pub fn of(at: Timestamp) -> [Self; 2] {
        let number = |millis: u64| at.as_millis().checked_div(millis).and_then(|number| u32::try_from(number).ok()).unwrap_or(u32::MAX);
        [Self::Hour(number(HOUR_MILLIS)), Self::Day(number(DAY_MILLIS))]
    }

    /// Its first moment.
    #[must_use]
    pub fn start(self) -> Timestamp {
        let millis = match self {
            Self::Hour(_) => HOUR_MILLIS,
            Self::Day(_) => DAY_MILLIS,
        };
        Timestamp::from_millis(millis.saturating_mul(self.number().into()))
    }

    /// Its number, counted from the Unix epoch.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Hour(number) | Self::Day(number) => number,
        }
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        match self {
            Self::Hour(number) => Self::Hour(number.saturating_add(1)),
            Self::Day(number) => Self::Day(number.saturating_add(1)),
        }
    }

    /// The first of its kind that is kept while this one is written to.
    #[must_use]
    pub const fn first_kept(self) -> Self {
        match self {
            Self::Hour(number) => Self::Hour(number.saturating_sub(TALLY_HOURS_MAX)),
            Self::Day(number) => Self::Day(number.saturating_sub(TALLY_DAYS_MAX)),
        }
    }

    /// The first of all of its kind.
    const fn first(self) -> Self {
        match self {
            Self::Hour(_) => Self::Hour(0),
            Self::Day(_) => Self::Day(0),
        }
    }

    fn prefix(self) -> Vec<u8> {
        let kind = match self {
            Self::Hour(_) => 1,
            Self::Day(_) => 2,
        };
        [&[kind], self.number().to_be_bytes().as_slice()].concat()
    }
}

/// Whose payments a tally counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// All of them.
    All,
    /// A payer's.
    Payer(Address),
    /// Those of the payers without a row of their own.
    OtherPayers,
    /// A route's, by its path pattern.
    Route(String),
    /// Those of the routes without a row of their own, and those whose route is not known.
    OtherRoutes,
}

impl Whose {
    /// By the route that evidence names.
    pub(crate) fn by_route(evidence: &[u8]) -> Self {
        Evidence::route_of(evidence).map_or(Self::OtherRoutes, |route| Self::Route(route.to_owned()))
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::All => vec![0],
            Self::Payer(payer) => [&[1], payer.as_bytes().as_slice()].concat(),
            Self::OtherPayers => vec![2],
            Self::Route(route) => [&[3], route.as_bytes()].concat(),
            Self::OtherRoutes => vec![4],
        }
    }

    fn read(mut reader: Reader<'_>) -> Result<Self, RecordError> {
        let whose = match reader.u8()? {
            0 => Self::All,
            1 => Self::Payer(Address::from_bytes(reader.bytes()?)),
            2 => Self::OtherPayers,
            3 => {
                let invalid = reader.invalid();
                return String::from_utf8(reader.rest().to_vec()).map(Self::Route).map_err(|_| invalid);
            }
            4 => Self::OtherRoutes,
            _ => return Err(reader.invalid()),
        };
        reader.finish()?;
        Ok(whose)
    }
}

/// A row of tallies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TallyKey {
    /// What it covers.
    pub span: Span,
    /// In which token, by its contract; for frames the contract of the ledger, in nanos.
    pub asset: Address,
    /// Whose payments.
    pub whose: Whose,
}

impl TallyKey {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [self.span.prefix().as_slice(), self.asset.as_bytes(), &self.whose.to_bytes()].concat()
    }

    fn decode(key: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::key("tally", key);
        let (kind, number) = (reader.u8()?, reader.u32()?);
        let span = match kind {
            1 => Span::Hour(number),
            2 => Span::Day(number),
            _ => return Err(reader.invalid()),
        };
        let asset = Address::from_bytes(reader.bytes()?);
        Ok(Self { span, asset, whose: Whose::read(reader)? })
    }
}

/// What a tally counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Charges of HTTP 402.
    pub charges: u64,
    /// Lines of the native protocol.
    pub lines: u64,
    /// Reservations that ended without a charge.
    pub voids: u64,
    /// What was charged: in nanos where it was by lines, else in base units.
    pub amount: u128,
    /// Charges that were taken back.
    pub reversals: u64,
    /// What was taken back. It is not taken off `amount`.
    pub reversed: u128,
}

impl Count {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![1];
        for number in [self.charges, self.lines, self.voids] {
            put_amount(&mut bytes, number.into());
        }
        for number in [self.amount, self.reversals.into(), self.reversed] {
            put_amount(&mut bytes, number);
        }
        bytes
    }

    /// A row of [`crate::Table::Tallies`].
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(key: &[u8], value: &[u8]) -> Result<(TallyKey, Self), RecordError> {
        let key = TallyKey::decode(key)?;
        let mut reader = Reader::new("tally", value)?;
        let [charges, lines, voids] = [reader.amount()?, reader.amount()?, reader.amount()?];
        let [amount, reversals, reversed] = [reader.amount()?, reader.amount()?, reader.amount()?];
        let number = |number: u128| u64::try_from(number).map_err(|_| reader.invalid());
        let (charges, lines, voids, reversals) = (number(charges)?, number(lines)?, number(voids)?, number(reversals)?);
        reader.finish()?;
        Ok((key, Self { charges, lines, voids, amount, reversals, reversed }))
    }

    /// The sum; `None` when it does not fit.
    #[must_use]
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        Some(Self {
            charges: self.charges.checked_add(other.charges)?,
            lines: self.lines.checked_add(other.lines)?,
            voids: self.voids.checked_add(other.voids)?,
            amount: self.amount.checked_add(other.amount)?,
            reversals: self.reversals.checked_add(other.reversals)?,
            reversed: self.reversed.checked_add(other.reversed)?,
        })
    }
}

impl Key {
    /// The range of [`crate::Table::Tallies`] with the rows of the spans of one kind from one to before another.
    #[must_use]
    pub fn tallies(from: Span, to: Span) -> (Vec<u8>, Vec<u8>) {
        (from.prefix(), to.prefix())
    }

    /// The range that [`Effect::ForgetTalliesBefore`] deletes.
    #[must_use]
    pub fn tallies_before(span: Span) -> (Vec<u8>, Vec<u8>) {
        Self::tallies(span.first(), span)
    }
}

/// Payers and routes with rows of their own.
#[derive(Clone, Debug, Default)]
struct Named {
    payers: BTreeSet<Address>,
    routes: BTreeSet<String>,
}

impl Named {
    /// The row for a payer or a route: its own while there is room for another, else that of the rest.
    fn row(&mut self, whose: &Whose) -> Whose {
        match whose {
            Whose::Payer(payer) => {
                if self.payers.len() < TALLY_PAYERS_MAX {
                    self.payers.insert(*payer);
                }
                if self.payers.contains(payer) { whose.clone() } else { Whose::OtherPayers }
            }
            Whose::Route(route) => {
                if self.routes.len() < TALLY_ROUTES_MAX && !self.routes.contains(route) {
                    self.routes.insert(route.clone());
                }
                if self.routes.contains(route) { whose.clone() } else { Whose::OtherRoutes }
            }
            Whose::All | Whose::OtherPayers | Whose::OtherRoutes => whose.clone(),
        }
    }
}

/// The rows of one span that are written to.
#[derive(Clone, Debug)]
struct Open {
    span: Span,
    named: Named,
    rows: BTreeMap<TallyKey, Count>,
}

/// The rows that are written to: of an hour and of a day.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tallies {
    open: Vec<Open>,
    changed: BTreeSet<TallyKey>,
}

impl Tallies {
    /// Takes a row at the start: of the spans that are written to, others are not kept.
    pub(crate) fn restore(&mut self, key: TallyKey, count: Count) {
        if let Some(open) = self.open.iter_mut().find(|open| open.span == key.span) {
            open.named.row(&key.whose);
            open.rows.insert(key, count);
        }
    }

    /// Writes to the hour and the day of a moment from now on.
    pub(crate) fn turn_to(&mut self, at: Timestamp, effects: &mut Vec<Effect>) {
        let spans = Span::of(at);
        if self.open.iter().map(|open| open.span).eq(spans) {
            return;
        }
        // What the spans before had in this tick is written before they are let go of.
        self.end_tick(effects);
        let before = core::mem::take(&mut self.open);
        for span in spans {
            let Some(known) = before.iter().find(|open| open.span == span) else {
                if !before.is_empty() {
                    effects.push(Effect::ForgetTalliesBefore(span.first_kept()));
                }
                self.open.push(Open { span, named: Named::default(), rows: BTreeMap::new() });
                continue;
            };
            self.open.push(known.clone());
        }
    }

    /// Adds to rows of the hour and the day.
    pub(crate) fn add(&mut self, asset: Address, whose: &[Whose], count: &Count) -> Result<(), Fault> {
        for open in &mut self.open {
            for whose in whose {
                let key = TallyKey { span: open.span, asset, whose: open.named.row(whose) };
                let row = open.rows.entry(key.clone()).or_default();
                *row = row.checked_add(count).ok_or(Fault::Journal)?;
                self.changed.insert(key);
            }
        }
        Ok(())
    }

    pub(crate) fn end_tick(&mut self, effects: &mut Vec<Effect>) {
        for key in core::mem::take(&mut self.changed) {
            let row = self.open.iter().find_map(|open| open.rows.get(&key)).copied();
            effects.extend(row.map(|count| Effect::Put(Record::Tally(key, count))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_they_were_written_and_sort_by_time() {
        let whose =
            [Whose::All, Whose::Payer(Address::from_bytes([9; 20])), Whose::OtherPayers, Whose::Route("/é".into()), Whose::OtherRoutes];
        let count = Count { charges: 1, lines: 2, voids: u64::MAX, amount: u128::MAX, reversals: 3, reversed: 4 };
        let mut keys = Vec::new();
        for span in [Span::Hour(3), Span::Hour(256), Span::Day(1), Span::Day(2)] {
            for whose in &whose {
                let key = TallyKey { span, asset: Address::from_bytes([7; 20]), whose: whose.clone() };
                assert_eq!(Count::decode(&key.to_bytes(), &count.encode()), Ok((key.clone(), count)));
                assert!(Count::decode(&key.to_bytes()[..25], &count.encode()).is_err());
                let (from, to) = Key::tallies(span, span.next());
                assert!(from <= key.to_bytes() && key.to_bytes() < to);
                keys.push(key);
            }
        }
        assert!(keys.is_sorted_by_key(TallyKey::to_bytes));
    }

    #[test]
    fn what_has_no_row_of_its_own_is_in_that_of_the_rest() {
        let mut named = Named::default();
        for number in 0..TALLY_ROUTES_MAX {
            let route = Whose::Route(number.to_string());
            assert_eq!(named.row(&route), route);
        }
        assert_eq!(named.row(&Whose::Route("one more".into())), Whose::OtherRoutes);
        assert_eq!(named.row(&Whose::Route("7".into())), Whose::Route("7".into()));
    }

    #[test]
    fn hours_and_days_are_those_of_utc() {
        let at = Timestamp::from_millis(1_795_860_000_123);
        assert_eq!(Span::of(at), [Span::Hour(498_850), Span::Day(20_785)]);
        assert_eq!(Span::Day(20_785).start().as_millis(), 20_785 * 86_400_000);
        assert_eq!((Span::Day(900).first_kept(), Span::Hour(7).first_kept()), (Span::Day(100), Span::Hour(0)));
    }
}
