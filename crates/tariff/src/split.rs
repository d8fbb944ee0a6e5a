//! Who of several payees gets what of a charge.
//!
//! **Invariants.** The parts of a charge are the charge, to the base unit; so are those of a refund. Nothing is rounded away: what a payee
//! is short of by rounding is carried, and it is the first to get the next base unit that is left over.

use millstream_types::{Address, Amount};

use crate::percent::WHOLE;
use crate::wide::mul_div;
use crate::{CostError, Percent};

/// Payees of one card, at most.
pub const PAYEES_MAX: usize = 32;

/// One payee's share of each charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So much of each charge, before anything else and as far as the charge goes.
    Fixed(Amount),
    /// A percentage of what the fixed shares leave.
    Percent(Percent),
    /// What the percentages leave.
    Remainder,
}

/// A payee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payee {
    /// Who is owed.
    pub account: Address,
    /// For people.
    pub name: Option<String>,
    /// How much.
    pub share: Share,
}

/// The payees of a card: 1 to [`PAYEES_MAX`], whose percentages and remainder are the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splits {
    payees: Vec<Payee>,
    /// Of what the fixed shares leave; sums to the whole.
    weights: Vec<Percent>,
}

/// Why payees are no split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// None, or too many.
    #[error("a split has 1 to {PAYEES_MAX} payees, not {found}")]
    Payees {
        /// How many there are.
        found: usize,
    },
    /// The same account more than once.
    #[error("{account} is a payee twice")]
    Twice {
        /// The account.
        account: Address,
    },
    /// A payee that gets nothing ever, or the zero address.
    #[error("the share of {account} is nothing, or nobody's")]
    Nothing {
        /// The account.
        account: Address,
    },
    /// Percentages above the whole, or below it without a remainder, or with two.
    #[error("percentages must be below 100 with exactly one remainder, or 100 with none")]
    NotTheWhole,
}

/// What payees were given so far under one version of a card, and what rounding owes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitBook {
    given: Vec<Amount>,
    /// In parts of a million of a base unit: what a payee is short of, below zero for what it has too much. They sum to zero.
    carried: Vec<i64>,
}

impl Splits {
    /// Payees in their order, which decides between equal claims to a base unit.
    ///
    /// # Errors
    /// [`SplitError`].
    pub fn new(payees: Vec<Payee>) -> Result<Self, SplitError> {
        if payees.is_empty() || payees.len() > PAYEES_MAX {
            return Err(SplitError::Payees { found: payees.len() });
        }
        let mut sum = Percent::ZERO;
        for (at, payee) in payees.iter().enumerate() {
            let account = payee.account;
            if payees.iter().take(at).any(|earlier| earlier.account == account) {
                return Err(SplitError::Twice { account });
            }
            let is_nothing = match payee.share {
                Share::Fixed(amount) => amount.is_zero(),
                Share::Percent(percent) => percent == Percent::ZERO,
                Share::Remainder => false,
            };
            if is_nothing || account == Address::ZERO {
                return Err(SplitError::Nothing { account });
            }
            if let Share::Percent(percent) = payee.share {
                sum = sum.checked_add(percent).ok_or(SplitError::NotTheWhole)?;
            }
        }
        let remainders = payees.iter().filter(|payee| payee.share == Share::Remainder).count();
        if (sum == Percent::ALL) != (remainders == 0) || remainders > 1 {
            return Err(SplitError::NotTheWhole);
        }
        let weight = |payee: &Payee| match payee.share {
            Share::Fixed(_) => Percent::ZERO,
            Share::Percent(percent) => percent,
            Share::Remainder => sum.rest(),
        };
        let weights = payees.iter().map(weight).collect();
        Ok(Self { payees, weights })
    }

    /// The payees, in their order.
    #[must_use]
    pub fn payees(&self) -> &[Payee] {
        &self.payees
    }

    /// What the fixed shares of a charge come to.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn fixed(&self) -> Result<Amount, CostError> {
        let fixed = |payee: &Payee| match payee.share {
            Share::Fixed(amount) => amount,
            Share::Percent(_) | Share::Remainder => Amount::ZERO,
        };
        self.payees.iter().map(fixed).try_fold(Amount::ZERO, |sum, amount| sum.checked_add(amount)).map_err(|_| CostError)
    }
}

impl SplitBook {
    /// Nothing was given. Each version of a card begins anew.
    #[must_use]
    pub fn new(splits: &Splits) -> Self {
        let payees = splits.payees.len();
        Self { given: vec![Amount::ZERO; payees], carried: vec![0; payees] }
    }

    /// What each payee was given, in the order of the payees: their sum is that of all charges, less that of all refunds.
    #[must_use]
    pub fn given(&self) -> &[Amount] {
        &self.given
    }

    /// Divides a charge; what is answered sums to it. Charges are divided in their durable order.
    ///
    /// Fixed shares first, each as far as the charge goes. Of the rest each payee gets its percentage, rounded down; the base units left over,
    /// fewer than there are payees, go one each to those with the largest remainder, what was carried counted in; among equal ones to the first.
    ///
    /// # Errors
    /// [`CostError`], and nothing changed.
    pub fn charge(&mut self, splits: &Splits, amount: Amount) -> Result<Vec<Amount>, CostError> {
        let mut rest = amount;
        let mut parts = Vec::with_capacity(splits.payees.len());
        for payee in &splits.payees {
            let fixed = match payee.share {
                Share::Fixed(fixed) => fixed.min(rest),
                Share::Percent(_) | Share::Remainder => Amount::ZERO,
            };
            rest = rest.checked_sub(fixed).map_err(|_| CostError)?;
            parts.push(fixed);
        }
        let (mut left, mut claims) = (rest, Vec::with_capacity(parts.len()));
        for (weight, part) in splits.weights.iter().zip(&mut parts) {
            let (down, remainder) = mul_div(rest.units(), weight.parts().into(), WHOLE.into()).ok_or(CostError)?;
            let down = Amount::from_units(down);
            left = left.checked_sub(down).map_err(|_| CostError)?;
            *part = part.checked_add(down).map_err(|_| CostError)?;
            claims.push(i64::try_from(remainder).map_err(|_| CostError)?);
        }
        let mut carried = Vec::with_capacity(claims.len());
        for (claim, before) in claims.iter().zip(&self.carried) {
            carried.push(claim.checked_add(*before).ok_or(CostError)?);
        }
        let mut order: Vec<usize> =
            (0..parts.len()).filter(|at| splits.weights.get(*at).is_some_and(|weight| *weight > Percent::ZERO)).collect();
        // Stable: among equal claims the first payee.
        order.sort_by_key(|at| core::cmp::Reverse(carried.get(*at).copied()));
        let one = Amount::from_units(1);
        for at in order {
            if left.is_zero() {
                break;
            }
            let (Some(part), Some(short)) = (parts.get_mut(at), carried.get_mut(at)) else { return Err(CostError) };
            *part = part.checked_add(one).map_err(|_| CostError)?;
            *short = short.checked_sub(WHOLE.into()).ok_or(CostError)?;
            left = left.checked_sub(one).map_err(|_| CostError)?;
        }
        let given = self.given.iter().zip(&parts).map(|(given, part)| given.checked_add(*part));
        let given = given.collect::<Result<_, _>>().map_err(|_| CostError)?;
        (self.given, self.carried) = (given, carried);
        Ok(parts)
    }

    /// Takes a refund back from those who were given the charge, in proportion to what each got; what is answered sums to the refund. A whole
    /// refund takes back exactly what was given. A charge is refunded once at most (T-14).
    ///
    /// Rounded down, and the base units left over one each to the largest remainders; among equal ones to the first.
    ///
    /// # Errors
    /// [`CostError`] for more than the parts come to, and nothing changed.
    pub fn refund(&mut self, parts: &[Amount], refund: Amount) -> Result<Vec<Amount>, CostError> {
        let charge = parts.iter().try_fold(Amount::ZERO, |sum, part| sum.checked_add(*part)).map_err(|_| CostError)?;
        if refund > charge || parts.len() != self.given.len() {
            return Err(CostError);
        }
        let back = in_proportion(parts, charge, refund)?;
        let given = self.given.iter().zip(&back).map(|(given, part)| given.checked_sub(*part));
        self.given = given.collect::<Result<_, _>>().map_err(|_| CostError)?;
        Ok(back)
    }
}

/// `amount` in proportion to the parts of `whole`, by largest remainder.
fn in_proportion(parts: &[Amount], whole: Amount, amount: Amount) -> Result<Vec<Amount>, CostError> {
    if whole.is_zero() {
        return Ok(vec![Amount::ZERO; parts.len()]);
    }
    let mut left = amount;
    let mut divided = Vec::with_capacity(parts.len());
    for part in parts {
        let (down, remainder) = mul_div(part.units(), amount.units(), whole.units()).ok_or(CostError)?;
        left = left.checked_sub(Amount::from_units(down)).map_err(|_| CostError)?;
        divided.push((Amount::from_units(down), remainder));
    }
    let mut order: Vec<usize> = (0..divided.len()).collect();
    order.sort_by_key(|at| core::cmp::Reverse(divided.get(*at).map(|(_, remainder)| *remainder)));
    for at in order {
        if left.is_zero() {
            break;
        }
        let Some((part, _)) = divided.get_mut(at) else { return Err(CostError) };
        *part = part.checked_add(Amount::from_units(1)).map_err(|_| CostError)?;
        left = left.checked_sub(Amount::from_units(1)).map_err(|_| CostError)?;
    }
    Ok(divided.into_iter().map(|(part, _)| part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(number: u8) -> Address {
        Address::from_bytes([number; 20])
    }

    fn percent(text: &str) -> Share {
        Share::Percent(Percent::parse(text).expect("a percentage"))
    }

    fn splits(shares: &[Share]) -> Result<Splits, SplitError> {
        let payees = shares.iter().zip(1..).map(|(share, number)| Payee { account: account(number), name: None, share: *share });
        Splits::new(payees.collect())
    }

    fn units(parts: &[Amount]) -> Vec<u128> {
        parts.iter().map(|part| part.units()).collect()
    }

    #[test]
    fn charges_are_divided_to_the_base_unit() {
        let fixed = |units| Share::Fixed(Amount::from_units(units));
        let check = |shares: &[Share], charges: &[u128], expected: &[&[u128]]| {
            let splits = splits(shares).expect("a split");
            let mut book = SplitBook::new(&splits);
            for (charge, expected) in charges.iter().zip(expected) {
                assert_eq!(units(&book.charge(&splits, Amount::from_units(*charge)).expect("small")), *expected, "{shares:?} {charge}");
            }
        };
        check(&[percent("30"), Share::Remainder], &[10, 1, 1, 1, 1], &[&[3, 7], &[0, 1], &[1, 0], &[0, 1], &[0, 1]]);
        check(&[percent("50"), percent("50")], &[1, 1, 3], &[&[1, 0], &[0, 1], &[2, 1]]);
        check(&[fixed(5), percent("10"), Share::Remainder], &[3, 15, 5], &[&[3, 0, 0], &[5, 1, 9], &[5, 0, 0]]);
        check(&[Share::Remainder], &[7], &[&[7]]);
        check(&[percent("33.3333"), percent("33.3333"), Share::Remainder], &[1, 1, 1], &[&[0, 0, 1], &[1, 0, 0], &[0, 1, 0]]);
        check(&[percent("0.0001"), Share::Remainder], &[u128::MAX], &[&[u128::MAX / 1_000_000, u128::MAX - u128::MAX / 1_000_000]]);
    }

    #[test]
    fn what_is_no_split_is_refused() {
        let check = |shares: &[Share], expected: SplitError| assert_eq!(splits(shares).expect_err("no split"), expected, "{shares:?}");
        check(&[], SplitError::Payees { found: 0 });
        check(&[Share::Remainder; 33], SplitError::Payees { found: 33 });
        check(&[percent("99")], SplitError::NotTheWhole);
        check(&[percent("100"), Share::Remainder], SplitError::NotTheWhole);
        check(&[percent("60"), percent("60")], SplitError::NotTheWhole);
        check(&[Share::Remainder, Share::Remainder], SplitError::NotTheWhole);
        check(&[percent("0"), Share::Remainder], SplitError::Nothing { account: account(1) });
        check(&[Share::Remainder, Share::Fixed(Amount::ZERO)], SplitError::Nothing { account: account(2) });
        let twice = Payee { account: account(1), name: None, share: percent("50") };
        assert_eq!(Splits::new(vec![twice.clone(), twice]), Err(SplitError::Twice { account: account(1) }));
    }

    #[test]
    fn a_refund_comes_from_those_who_were_given_the_charge() {
        let splits = splits(&[percent("30"), percent("30"), Share::Remainder]).expect("a split");
        let mut book = SplitBook::new(&splits);
        let parts = book.charge(&splits, Amount::from_units(11)).expect("small");
        assert_eq!(units(&parts), [3, 3, 5]);
        let mut whole = book.clone();
        assert_eq!(units(&whole.refund(&parts, Amount::from_units(11)).expect("all of it")), [3, 3, 5]);
        assert_eq!(units(whole.given()), [0, 0, 0]);
        assert_eq!(units(&book.refund(&parts, Amount::from_units(4)).expect("a part")), [1, 1, 2]);
        assert_eq!(units(book.given()), [2, 2, 3]);
        assert_eq!(book.refund(&parts, Amount::from_units(12)), Err(CostError));
        assert_eq!(units(book.given()), [2, 2, 3]);
    }
}
