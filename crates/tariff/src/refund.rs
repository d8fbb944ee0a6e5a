//! Refunds of charges: how much, and why.

use core::fmt;
use core::str::FromStr;

use millstream_types::Amount;
use serde::{Deserialize, Serialize};

use crate::split::SplitBook;
use crate::{Cost, CostError, Credit, PriceError};

/// Why a charge is given back. The codes are for ever; a new reason is a new code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundReason {
    /// What was charged for did not arrive, or not all of it.
    NotDelivered,
    /// It arrived and was of no use.
    Quality,
    /// The same was charged twice.
    Duplicate,
    /// It was charged at a wrong price, or for more than was used.
    Overcharged,
    /// The payer disputes it, and the provider gives in.
    Dispute,
    /// The provider gives it away.
    Goodwill,
}

/// What was charged for one request: the most that can be given back of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refundable {
    /// In money.
    pub charged: Amount,
    /// In credit.
    pub credit: Cost,
    /// What each payee was given of the money; empty without a split.
    pub parts: Vec<Amount>,
}

/// A refund as it is booked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// Why.
    pub reason: RefundReason,
    /// What goes back to the payer in money.
    pub amount: Amount,
    /// What goes back as credit.
    pub credit: Cost,
    /// What each payee gives back of the money.
    pub parts: Vec<Amount>,
}

impl RefundReason {
    /// All of them, by their codes.
    pub const ALL: [Self; 6] = [Self::NotDelivered, Self::Quality, Self::Duplicate, Self::Overcharged, Self::Dispute, Self::Goodwill];

    /// Its code in records: 1 to 6, never another.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::NotDelivered => 1,
            Self::Quality => 2,
            Self::Duplicate => 3,
            Self::Overcharged => 4,
            Self::Dispute => 5,
            Self::Goodwill => 6,
        }
    }

    /// By its code; `None` for one that is not given.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// Its name in JSON and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotDelivered => "not_delivered",
            Self::Quality => "quality",
            Self::Duplicate => "duplicate",
            Self::Overcharged => "overcharged",
            Self::Dispute => "dispute",
            Self::Goodwill => "goodwill",
        }
    }
}

impl Refundable {
    /// Gives back a part of the money, or all of it; credit goes back with the whole only, and as credit. Once for each charge: what is booked
    /// twice is the caller's to refuse, by the charge's number.
    ///
    /// # Errors
    /// [`CostError`] for nothing or for more than was charged, and nothing changed.
    pub fn refund(
        &self,
        amount: Amount,
        reason: RefundReason,
        split: Option<&mut SplitBook>,
        credit: Option<&mut Credit>,
    ) -> Result<Refund, CostError> {
        let whole = amount == self.charged;
        let credit_back = if whole { self.credit } else { Cost::ZERO };
        if amount > self.charged || (amount.is_zero() && credit_back.is_zero()) {
            return Err(CostError);
        }
        // What can fail is tried on a copy of what would have changed before it.
        let back = match credit {
            Some(credit) if !credit_back.is_zero() => {
                let mut after = *credit;
                after.give_back(credit_back)?;
                Some((credit, after))
            }
            None if !credit_back.is_zero() => return Err(CostError),
            _ => None,
        };
        let parts = match split {
            Some(book) => book.refund(&self.parts, amount)?,
            None => Vec::new(),
        };
        if let Some((credit, after)) = back {
            *credit = after;
        }
        Ok(Refund { reason, amount, credit: credit_back, parts })
    }
}

impl fmt::Display for RefundReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RefundReason {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, PriceError> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or_else(|| PriceError::RefundReason { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::{Address, Timestamp};

    use super::*;
    use crate::{Payee, Promo, Share, Splits};

    #[test]
    fn codes_and_names_come_back() {
        for reason in RefundReason::ALL {
            assert_eq!(RefundReason::from_code(reason.code()), Some(reason));
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert_eq!(serde_json::to_value(reason).expect("text"), reason.as_str());
        }
        assert_eq!((RefundReason::from_code(0), RefundReason::from_code(7)), (None, None));
        assert!("because".parse::<RefundReason>().is_err());
    }

    #[test]
    fn money_goes_back_as_money_and_credit_as_credit() {
        let payees = [1, 2].map(|number| Payee {
            account: Address::from_bytes([number; 20]),
            name: None,
            share: if number == 1 { Share::Fixed(Amount::from_units(2)) } else { Share::Remainder },
        });
        let splits = Splits::new(payees.to_vec()).expect("a split");
        let mut book = SplitBook::new(&splits);
        let now = Timestamp::from_millis(0);
        let mut credit = Promo { amount: Amount::from_units(3), days: 1 }.grant(now);
        let (rest, paid) = credit.spend(now, Cost::whole(Amount::from_units(10))).expect("small");
        let charged = rest.down();
        let parts = book.charge(&splits, charged).expect("small");
        let refundable = Refundable { charged, credit: paid, parts };

        let (mut book_of_part, mut credit_of_part) = (book.clone(), credit);
        let part = refundable.refund(Amount::from_units(4), RefundReason::Quality, Some(&mut book_of_part), Some(&mut credit_of_part));
        let part = part.expect("a part");
        assert_eq!((part.amount.units(), part.credit, credit_of_part), (4, Cost::ZERO, credit));
        assert_eq!(part.parts.iter().map(|part| part.units()).sum::<u128>(), 4);

        let whole = refundable.refund(charged, RefundReason::NotDelivered, Some(&mut book), Some(&mut credit)).expect("all of it");
        assert_eq!((whole.amount.units(), whole.credit), (7, Cost::whole(Amount::from_units(3))));
        assert_eq!((credit.used(), book.given()), (Cost::ZERO, &[Amount::ZERO, Amount::ZERO][..]));

        let mut twice = credit;
        let again = refundable.refund(charged, RefundReason::Duplicate, Some(&mut book), Some(&mut twice));
        assert_eq!((again, twice), (Err(CostError), credit));
        for wrong in [0, 8] {
            let mut credit = credit;
            let refused = refundable.refund(Amount::from_units(wrong), RefundReason::Goodwill, None, Some(&mut credit));
            assert_eq!(refused, Err(CostError), "{wrong}");
        }
    }
}
