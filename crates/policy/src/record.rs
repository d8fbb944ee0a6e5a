//! The records of a ledger, each with the bytes of its key and its value.

use millstream_types::{Amount, Hash256, Timestamp};

use crate::ask::{AssetKey, Dimension, Scope, Subject};
use crate::codec::{Reader, Writer};
use crate::decision::Reason;
use crate::error::RecordError;
use crate::gauge::Gauge;
use crate::pattern::Pattern;

/// First bytes of keys. Numbers are on disk: they are never given again.
pub(crate) mod tag {
    pub(crate) const COUNTER: u8 = 1;
    pub(crate) const GAUGE: u8 = 2;
    pub(crate) const HOLD: u8 = 3;
    pub(crate) const PAUSE: u8 = 4;
    pub(crate) const GRANT: u8 = 5;
    pub(crate) const PAYEE: u8 = 6;
    pub(crate) const PRICE: u8 = 7;
    pub(crate) const DECISION: u8 = 8;
}

/// What a sum is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterKey {
    /// The rule's name.
    pub rule: String,
    /// What it is kept for, a line for each dimension: `agent=a`, `payee=b`; `all` without any.
    pub of: String,
    /// The token; of a count of requests under way none.
    pub asset: Option<AssetKey>,
    /// The beginning of its window.
    pub start: Timestamp,
}

/// A sum, in base units, and a count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counter {
    pub(crate) spent: Amount,
    pub(crate) held: Amount,
    pub(crate) running: u32,
}

/// A gauge's rule, and what it is kept for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GaugeKey {
    pub(crate) rule: String,
    pub(crate) of: String,
}

/// What a hold waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldState {
    /// Nothing: it is under way.
    Held,
    /// An approval.
    Waiting {
        /// When it ends by itself.
        expires_at: Timestamp,
    },
    /// It was approved, and for the request to come again.
    Approved {
        /// When it ends by itself.
        expires_at: Timestamp,
    },
    /// It was denied, and nothing is held; kept so that the request hears it.
    Denied {
        /// When it is forgotten.
        expires_at: Timestamp,
    },
}

/// What is held for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The request.
    pub id: Hash256,
    /// Who, and on what.
    pub subject: Subject,
    /// The token.
    pub asset: AssetKey,
    /// What the request costs at most.
    pub price: Amount,
    /// What is held and neither settled nor freed.
    pub held: Amount,
    /// Equal for equal requests.
    pub fingerprint: Hash256,
    /// When it was first held.
    pub made_at: Timestamp,
    /// The decision's number; of one that waits the approval's.
    pub number: u64,
    /// What was approved, if something had to be.
    pub approved: Option<Amount>,
    /// What it waits for.
    pub state: HoldState,
    pub(crate) sums: Vec<(CounterKey, Amount)>,
    pub(crate) grants: Vec<(u64, Amount)>,
    pub(crate) running: Vec<CounterKey>,
}

/// Why something is paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// In a sentence: a breaker's reason, or an operator's words.
    pub why: String,
    /// The breaker, by the name of its reason; nothing when somebody ordered it.
    pub breaker: Option<String>,
    /// Since when.
    pub at: Timestamp,
}

/// A part of an agent's money that another one may spend (G-40).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its number.
    pub number: u64,
    /// Who gave it, and whose budgets it counts in.
    pub parent: String,
    /// Who may spend it.
    pub child: String,
    /// The token.
    pub asset: AssetKey,
    /// How much, in base units.
    pub max: Amount,
    /// What was spent of it.
    pub spent: Amount,
    /// What is held of it.
    pub held: Amount,
    /// Payees it is for; all when empty.
    pub payees: Vec<Pattern>,
    /// Categories it is for; all when empty.
    pub categories: Vec<Pattern>,
    /// Routes it is for; all when empty.
    pub routes: Vec<Pattern>,
    /// When it was given.
    pub made_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
}

impl CounterKey {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::key(tag::COUNTER);
        write_counter_key(&mut out, self);
        out.take()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut from = Reader(bytes);
        let key = read_counter_key(&mut from)?;
        from.end().map(|()| key)
    }
}

fn write_counter_key<'a>(out: &'a mut Writer, key: &CounterKey) -> &'a mut Writer {
    out.text(&key.rule).text(&key.of);
    match key.asset {
        None => out.u8(0),
        Some(asset) => out.u8(1).asset(asset),
    };
    out.time(key.start)
}

fn read_counter_key(from: &mut Reader<'_>) -> Result<CounterKey, RecordError> {
    let (rule, of) = (from.text()?, from.text()?);
    let asset = match from.u8()? {
        0 => None,
        1 => Some(from.asset()?),
        _ => return Err(RecordError::Damaged("a sum's token")),
    };
    Ok(CounterKey { rule, of, asset, start: from.time()? })
}

impl Counter {
    /// Held and spent.
    pub(crate) fn used(&self) -> Amount {
        self.spent.checked_add(self.held).unwrap_or(Amount::from_units(u128::MAX))
    }

    /// Whether it says nothing.
    pub(crate) const fn is_empty(&self) -> bool {
        self.spent.is_zero() && self.held.is_zero() && self.running == 0
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        Writer::value().amount(self.spent).amount(self.held).u32(self.running).take()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut from = Reader::value(bytes)?;
        let counter = Self { spent: from.amount()?, held: from.amount()?, running: from.u32()? };
        from.end().map(|()| counter)
    }
}

impl GaugeKey {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        Writer::key(tag::GAUGE).text(&self.rule).text(&self.of).take()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut from = Reader(bytes);
        let key = Self { rule: from.text()?, of: from.text()? };
        from.end().map(|()| key)
    }
}

impl Gauge {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::value();
        out.u64(self.part_millis).u32(u32::try_from(self.parts.len()).unwrap_or(u32::MAX));
        for (part, count, amount) in &self.parts {
            out.u64(*part).u64(*count).amount(*amount);
        }
        out.take()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut from = Reader::value(bytes)?;
        let part_millis = from.u64()?;
        let parts = from.list(|from| Ok((from.u64()?, from.u64()?, from.amount()?)))?;
        from.end().map(|()| Self { part_millis, parts })
    }
}

impl Scope {
    pub(crate) fn to_key(&self) -> Vec<u8> {
        let mut out = Writer::key(tag::PAUSE);
        match self {
            Self::All => out.u8(0),
            Self::Of(dimension, value) => out.u8(dimension.number()).text(value),
        };
        out.take()
    }

    pub(crate) fn from_key(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut from = Reader(bytes);
        let scope = match from.u8()? {
            0 => Self::All,
            number => Self::Of(Dimension::from_number(number).ok_or(RecordError::Damaged("a pause"))?, from.text()?),
        };
        from.end().map(|()| scope)
    }
}

impl Pause {
    pub(crate) fn of(reason: &Reason, at: Timestamp) -> Self {
        Self { why: reason.to_string(), breaker: Some(reason.kind.name().to_owned()), at }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        Writer::value().text(&self.why).text(self.breaker.as_deref().unwrap_or_default()).time(self.at).take()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut from = Reader::value(bytes)?;
        let pause = Self { why: from.text()?, breaker: Some(from.text()?).filter(|name| !name.is_empty()), at: from.time()? };
        from.end().map(|()| pause)
    }
}

impl Hold {
    pub(crate) fn key(id: Hash256) -> Vec<u8> {
        Writer::key(tag::HOLD).bytes(id.as_bytes()).take()
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::value();
        out.subject(&self.subject).asset(self.asset).amount(self.price).amount(self.held).bytes(self.fingerprint.as_bytes());
        out.time(self.made_at).u64(self.number);
        match self.approved {
            None => out.u8(0),
            Some(approved) => out.u8(1).amount(approved),
        };
        match self.state {
            HoldState::Held => out.u8(1),
            HoldState::Waiting { expires_at } => out.u8(2).time(expires_at),
            HoldState::Approved { expires_at } => out.u8(3).time(expires_at),
            HoldState::Denied { expires_at } => out.u8(4).time(expires_at),
        };
        out.u32(u32::try_from(self.sums.len()).unwrap_or(u32::MAX));
        for (key, amount) in &self.sums {
            write_counter_key(&mut out, key).amount(*amount);
        }
        out.u32(u32::try_from(self.grants.len()).unwrap_or(u32::MAX));
        for (number, amount) in &self.grants {
            out.u64(*number).amount(*amount);
        }
        out.u32(u32::try_from(self.running.len()).unwrap_or(u32::MAX));
        for key in &self.running {
            write_counter_key(&mut out, key);
        }
        out.take()
    }

    pub(crate) fn from_bytes(id: Hash256, bytes: &[u8]) -> Result<Self, RecordError> {
        let mut from = Reader::value(bytes)?;
        let (subject, asset) = (from.subject()?, from.asset()?);
        let (price, held, fingerprint) = (from.amount()?, from.amount()?, from.hash()?);
        let (made_at, number) = (from.time()?, from.u64()?);
        let approved = match from.u8()? {
            0 => None,
            1 => Some(from.amount()?),
            _ => return Err(RecordError::Damaged("an approval")),
        };
        let state = match from.u8()? {
            1 => HoldState::Held,
            2 => HoldState::Waiting { expires_at: from.time()? },
            3 => HoldState::Approved { expires_at: from.time()? },
            4 => HoldState::Denied { expires_at: from.time()? },
            _ => return Err(RecordError::Damaged("a hold's state")),
        };
        let sums = from.list(|from| Ok((read_counter_key(from)?, from.amount()?)))?;
        let grants = from.list(|from| Ok((from.u64()?, from.amount()?)))?;
        let running = from.list(read_counter_key)?;
        from.end()?;
        Ok(Self { id, subject, asset, price, held, fingerprint, made_at, number, approved, state, sums, grants, running })
    }
}

impl Grant {
    /// What may still be held of it.
    #[must_use]
    pub fn left(&self) -> Amount {
        let used = self.spent.checked_add(self.held).unwrap_or(self.max);
        self.max.checked_sub(used).unwrap_or(Amount::ZERO)
    }

    /// Whether it may be spent now.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }

    pub(crate) fn key(number: u64) -> Vec<u8> {
        Writer::key(tag::GRANT).u64(number).take()
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::value();
        out.text(&self.parent).text(&self.child).asset(self.asset).amount(self.max).amount(self.spent).amount(self.held);
        for patterns in [&self.payees, &self.categories, &self.routes] {
            out.texts(patterns.iter().map(Pattern::as_str));
        }
        out.time(self.made_at).maybe_time(self.expires_at).maybe_time(self.revoked_at);
        out.take()
    }

    pub(crate) fn from_bytes(number: u64, bytes: &[u8]) -> Result<Self, RecordError> {
        let mut from = Reader::value(bytes)?;
        let pattern = |from: &mut Reader<'_>| from.text().map(|text| Pattern::new(&text));
        let grant = Self {
            number,
            parent: from.text()?,
            child: from.text()?,
            asset: from.asset()?,
            max: from.amount()?,
            spent: from.amount()?,
            held: from.amount()?,
            payees: from.list(pattern)?,
            categories: from.list(pattern)?,
            routes: from.list(pattern)?,
            made_at: from.time()?,
            expires_at: from.maybe_time()?,
            revoked_at: from.maybe_time()?,
        };
        from.end().map(|()| grant)
    }
}
