//! Tallies: what was charged by hour and by day, from the rows that were summed when it was charged.

use std::ops::ControlFlow;
use std::sync::Arc;

use millstream_engine::{Count, Key, Span, Table, TallyKey, Whose};
use millstream_types::{Address, Amount, Timestamp};
use serde::{Deserialize, Serialize};

use super::find::each;
use super::receipts::blocking;
use super::{Books, BooksError};

/// How long the spans are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Length {
    Hour,
    Day,
}

/// Whose rows are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum By {
    All,
    Payer,
    Route,
}

/// A row as `GET /books/tallies` shows it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct TallyView {
    /// Milliseconds of Unix time at which the hour or the day begins.
    start_millis: u64,
    /// The token, or the ledger whose nanos they are.
    asset: Address,
    /// Whose: a payer.
    #[serde(skip_serializing_if = "Option::is_none")]
    payer: Option<Address>,
    /// Whose: a route. With neither it is the rest, or all.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    charges: u64,
    lines: u64,
    voids: u64,
    amount: Amount,
    reversals: u64,
    /// Taken back; not taken off the amount.
    reversed: Amount,
}

impl By {
    const fn takes(self, whose: &Whose) -> bool {
        match whose {
            Whose::All => matches!(self, Self::All),
            Whose::Payer(_) | Whose::OtherPayers => matches!(self, Self::Payer),
            Whose::Route(_) | Whose::OtherRoutes => matches!(self, Self::Route),
        }
    }
}

impl TallyView {
    fn new(key: TallyKey, count: Count) -> Self {
        let (payer, route) = match key.whose {
            Whose::Payer(payer) => (Some(payer), None),
            Whose::Route(route) => (None, Some(route)),
            Whose::All | Whose::OtherPayers | Whose::OtherRoutes => (None, None),
        };
        let Count { charges, lines, voids, amount, reversals, reversed } = count;
        let (start_millis, asset) = (key.span.start().as_millis(), key.asset);
        let [amount, reversed] = [amount, reversed].map(Amount::from_units);
        Self { start_millis, asset, payer, route, charges, lines, voids, amount, reversals, reversed }
    }
}

impl Books {
    /// The rows of the hours or days that begin in a period, in their order. They are as many as there are rows, whatever there are payments.
    pub(super) async fn tallies(
        self: &Arc<Self>,
        length: Length,
        by: By,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<TallyView>, BooksError> {
        let spans = move |at: Timestamp| {
            let [hour, day] = Span::of(at);
            match length {
                Length::Hour => hour,
                Length::Day => day,
            }
        };
        let range = |from, to| Key::tallies(from, to);
        // The span of the last moment is wanted whole; the one before the first moment is not.
        let first = if spans(from).start() < from { spans(from).next() } else { spans(from) };
        let last = if spans(to).start() < to { spans(to).next() } else { spans(to) };
        let books = Arc::clone(self);
        blocking(move || {
            let mut rows = Vec::new();
            each(&*books.reader, Table::Tallies, range(first, last), Count::decode, |(key, count)| {
                if by.takes(&key.whose) {
                    rows.push(TallyView::new(key, count));
                }
                ControlFlow::Continue(())
            })?;
            Ok(rows)
        })
        .await
    }
}
