//! Decisions: what was asked, what was compared, and what came of it; kept, so that each can be explained.

use core::fmt;

use millstream_types::{Amount, Hash256, Timestamp};

use crate::ask::{AssetKey, Dimension, Subject};
use crate::codec::{Reader, Writer};
use crate::error::RecordError;

/// Why a payment is refused, in one word. Numbers are kept; a new one is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReasonKind {
    /// The token is not listed.
    UnknownAsset,
    /// A name that is too long, or has control characters.
    BadName,
    /// It is paused.
    Paused,
    /// It is on a list of denied names.
    Denied,
    /// It is not on the list of allowed names.
    NotAllowed,
    /// One payment may not cost as much.
    PaymentMax,
    /// A budget would be exceeded.
    Budget,
    /// Too many in a window.
    Rate,
    /// Too many at once.
    InFlight,
    /// The agent spends from sub-budgets, and none of them covers this.
    SubBudget,
    /// Too many payments in a short time.
    Velocity,
    /// The same request too often in a short time.
    Loop,
    /// The price is above what is listed, or what it was.
    PriceDrift,
    /// Too many payees that were never paid before.
    NewPayee,
    /// Too many requests that were paid for and failed.
    ErrorRate,
    /// It was not approved.
    ApprovalDenied,
    /// It would have to be approved, and cannot wait: it is under way already, or too many wait.
    ApprovalNeeded,
}

/// Why a payment is refused, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// In one word.
    pub kind: ReasonKind,
    /// The rule's name; empty where the kind says it.
    pub rule: String,
    /// What it is counted for, such as `agent=research`; of a pause and of lists, what they name.
    pub of: String,
    /// What is allowed: base units, or a count, or percent.
    pub max: Amount,
    /// What would be reached.
    pub wanted: Amount,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is held, and may be paid.
    Allow,
    /// It is held, and waits for an approval until then. The approval has the decision's number.
    Wait {
        /// The number of the approval.
        approval: u64,
        /// When it ends by itself.
        expires_at: Timestamp,
    },
    /// Nothing is held.
    Refuse(Reason),
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The rule's name.
    pub rule: String,
    /// What is counted, such as `agent=research, day`.
    pub of: String,
    /// Held and spent before.
    pub before: Amount,
    /// What it would be.
    pub after: Amount,
    /// What it may be.
    pub max: Amount,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Its number: 1, 2, 3, ... of a ledger; zero of one that is only asked for.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// The request.
    pub id: Hash256,
    /// Who, and on what; the category as the policy says it.
    pub subject: Subject,
    /// The token.
    pub asset: AssetKey,
    /// What was to be held.
    pub adds: Amount,
    /// What the request costs at most.
    pub price: Amount,
    /// What came of it.
    pub verdict: Verdict,
    /// What would have refused it, and is in shadow mode.
    pub shadowed: Vec<Reason>,
    /// What was compared, in this order.
    pub checks: Vec<Check>,
}

impl ReasonKind {
    /// All of them, by number from 1.
    pub const ALL: [Self; 17] = [
        Self::UnknownAsset,
        Self::BadName,
        Self::Paused,
        Self::Denied,
        Self::NotAllowed,
        Self::PaymentMax,
        Self::Budget,
        Self::Rate,
        Self::InFlight,
        Self::SubBudget,
        Self::Velocity,
        Self::Loop,
        Self::PriceDrift,
        Self::NewPayee,
        Self::ErrorRate,
        Self::ApprovalDenied,
        Self::ApprovalNeeded,
    ];

    /// A stable word, in kebab-case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownAsset => "unknown-asset",
            Self::BadName => "bad-name",
            Self::Paused => "paused",
            Self::Denied => "denied",
            Self::NotAllowed => "not-allowed",
            Self::PaymentMax => "payment-max",
            Self::Budget => "budget",
            Self::Rate => "rate",
            Self::InFlight => "in-flight",
            Self::SubBudget => "sub-budget",
            Self::Velocity => "velocity",
            Self::Loop => "loop",
            Self::PriceDrift => "price-drift",
            Self::NewPayee => "new-payee",
            Self::ErrorRate => "error-rate",
            Self::ApprovalDenied => "approval-denied",
            Self::ApprovalNeeded => "approval-needed",
        }
    }

    /// Whether a breaker says so.
    #[must_use]
    pub const fn is_breaker(self) -> bool {
        matches!(self, Self::Velocity | Self::Loop | Self::PriceDrift | Self::NewPayee | Self::ErrorRate)
    }

    fn number(self) -> u8 {
        let position = Self::ALL.iter().position(|kind| *kind == self).unwrap_or_default();
        u8::try_from(position).unwrap_or(u8::MAX).saturating_add(1)
    }

    fn from_number(number: u8) -> Option<Self> {
        number.checked_sub(1).and_then(|position| Self::ALL.get(usize::from(position)).copied())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, rule, of, max, wanted } = self;
        match kind {
            ReasonKind::UnknownAsset => write!(f, "the token {of} is not listed"),
            ReasonKind::BadName => f.write_str("a name is longer than 512 bytes, or has control characters"),
            ReasonKind::Paused => write!(f, "{of} is paused: {rule}"),
            ReasonKind::Denied => write!(f, "{of} is denied"),
            ReasonKind::NotAllowed => write!(f, "{of} is not among what is allowed"),
            ReasonKind::PaymentMax => write!(f, "one payment may cost {max}, and this one costs {wanted}"),
            ReasonKind::Budget => write!(f, "budget {rule} ({of}) is {max}, and {wanted} would be reached"),
            ReasonKind::Rate => write!(f, "rate {rule} ({of}) is {max}, and {wanted} would be reached"),
            ReasonKind::InFlight => write!(f, "rate {rule} ({of}) lets {max} be under way, and {wanted} would be"),
            ReasonKind::SubBudget => write!(f, "no sub-budget of {of} covers it; {max} is left of the largest, and {wanted} is asked"),
            ReasonKind::Velocity => write!(f, "{of} pays too fast: {wanted} in {rule}, and {max} is the most"),
            ReasonKind::Loop => write!(f, "{of} asks the same again and again: {wanted} times in {rule}, and {max} is the most"),
            ReasonKind::PriceDrift => write!(f, "{of} asks {wanted} for what may cost {max}"),
            ReasonKind::NewPayee => write!(f, "{of} pays {wanted} payees in {rule} whom it never paid before, and {max} is the most"),
            ReasonKind::ErrorRate => write!(f, "of requests paid to {of}, {wanted} percent failed in {rule}, and {max} is the most"),
            ReasonKind::ApprovalDenied => write!(f, "approval {of} was denied"),
            ReasonKind::ApprovalNeeded => write!(f, "more than {max} has to be approved, and {wanted} cannot wait: {rule}"),
        }
    }
}

impl Decision {
    /// Why it was refused, if it was.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Reason> {
        match &self.verdict {
            Verdict::Refuse(reason) => Some(reason),
            Verdict::Allow | Verdict::Wait { .. } => None,
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::value();
        out.time(self.at)
            .bytes(self.id.as_bytes())
            .subject(&self.subject)
            .asset(self.asset)
            .amount(self.adds)
            .amount(self.price);
        match &self.verdict {
            Verdict::Allow => out.u8(1),
            Verdict::Wait { approval, expires_at } => out.u8(2).u64(*approval).time(*expires_at),
            Verdict::Refuse(reason) => write_reason(out.u8(3), reason),
        };
        out.u32(u32::try_from(self.shadowed.len()).unwrap_or(u32::MAX));
        for reason in &self.shadowed {
            write_reason(&mut out, reason);
        }
        out.u32(u32::try_from(self.checks.len()).unwrap_or(u32::MAX));
        for check in &self.checks {
            out.text(&check.rule).text(&check.of).amount(check.before).amount(check.after).amount(check.max);
        }
        out.take()
    }

    pub(crate) fn from_bytes(number: u64, bytes: &[u8]) -> Result<Self, RecordError> {
        let mut from = Reader::value(bytes)?;
        let (at, id, subject, asset) = (from.time()?, from.hash()?, from.subject()?, from.asset()?);
        let (adds, price) = (from.amount()?, from.amount()?);
        let verdict = match from.u8()? {
            1 => Verdict::Allow,
            2 => Verdict::Wait { approval: from.u64()?, expires_at: from.time()? },
            3 => Verdict::Refuse(read_reason(&mut from)?),
            _ => return Err(RecordError::Damaged("a verdict")),
        };
        let shadowed = from.list(read_reason)?;
        let checks = from.list(|from| {
            Ok(Check { rule: from.text()?, of: from.text()?, before: from.amount()?, after: from.amount()?, max: from.amount()? })
        })?;
        from.end()?;
        Ok(Self { number, at, id, subject, asset, adds, price, verdict, shadowed, checks })
    }
}

fn write_reason<'a>(out: &'a mut Writer, reason: &Reason) -> &'a mut Writer {
    out.u8(reason.kind.number()).text(&reason.rule).text(&reason.of).amount(reason.max).amount(reason.wanted)
}

fn read_reason(from: &mut Reader<'_>) -> Result<Reason, RecordError> {
    let kind = ReasonKind::from_number(from.u8()?).ok_or(RecordError::Damaged("a reason"))?;
    Ok(Reason { kind, rule: from.text()?, of: from.text()?, max: from.amount()?, wanted: from.amount()? })
}

/// What sums are kept for: `agent=a, payee=b`, in the order of the rule; `all` without any.
pub(crate) fn named(per: &[Dimension], subject: &Subject) -> String {
    if per.is_empty() {
        return "all".to_owned();
    }
    // Names have no control characters, so a line for each cannot be mistaken.
    per.iter().map(|dimension| format!("{}={}", dimension.name(), subject.of(*dimension))).collect::<Vec<_>>().join("\n")
}

/// For people.
pub(crate) fn shown(of: &str) -> String {
    of.replace('\n', ", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_read_as_it_was_written_and_no_part_of_it_is() {
        for (position, kind) in ReasonKind::ALL.into_iter().enumerate() {
            let reason = Reason {
                kind,
                rule: "r".to_owned(),
                of: "agent=a".to_owned(),
                max: Amount::from_units(u128::MAX),
                wanted: Amount::from_units(1),
            };
            let verdict = match position % 3 {
                0 => Verdict::Refuse(reason.clone()),
                1 => Verdict::Wait { approval: 7, expires_at: Timestamp::from_millis(9) },
                _ => Verdict::Allow,
            };
            let decision = Decision {
                number: 7,
                at: Timestamp::from_millis(1),
                id: Hash256::from_bytes([1; 32]),
                subject: Subject { agent: "ä".to_owned(), ..Subject::default() },
                asset: AssetKey { chain: millstream_types::ChainId::new(1), token: millstream_types::Address::ZERO },
                adds: Amount::from_units(2),
                price: Amount::from_units(3),
                verdict,
                shadowed: vec![reason],
                checks: vec![Check {
                    rule: "day".to_owned(),
                    of: "all".to_owned(),
                    before: Amount::ZERO,
                    after: Amount::from_units(2),
                    max: Amount::from_units(5),
                }],
            };
            let bytes = decision.to_bytes();
            assert_eq!(Decision::from_bytes(7, &bytes).expect("read"), decision);
            (0..bytes.len()).for_each(|length| assert!(Decision::from_bytes(7, &bytes[..length]).is_err(), "{length}"));
        }
    }
}
