//! What the units of a price cost, step by step: the first million at one price, what is above it at another.

use crate::{Cost, CostError, Percent, Price, Unit, Usage};

/// A unit's price from a quantity on, until the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Of what is metered (milliseconds for seconds): what lies above this is in the step.
    pub above: u64,
    /// What one costs.
    pub each: Cost,
}

/// The steps of one unit, the first from nothing, rising.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) unit: Unit,
    pub(crate) steps: Vec<Step>,
}

/// The steps of all units that have a price, in the order of [`Unit::ALL`]. Prices are graduated: what lies within a step costs that step's
/// price, whatever comes on top of it. So what is used costs the same however it is cut (T-6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    units: Vec<Steps>,
}

impl Schedule {
    /// One step a unit.
    pub(crate) fn flat(price: &Price) -> Self {
        let steps = |each| vec![Step { above: 0, each }];
        Self { units: price.rates().iter().map(|rate| Steps { unit: rate.unit(), steps: steps(rate.each()) }).collect() }
    }

    /// Adds a step above all that the unit has. `false` when the unit has no price, or a step at or above this one.
    pub(crate) fn push(&mut self, unit: Unit, step: Step) -> bool {
        let steps = self.units.iter_mut().find(|steps| steps.unit == unit).map(|steps| &mut steps.steps);
        match steps {
            Some(steps) if steps.last().is_some_and(|last| last.above < step.above) => {
                steps.push(step);
                true
            }
            _ => false,
        }
    }

    /// The same with so much taken off each step; `Err` names the unit whose price is then no whole number of attos.
    pub(crate) fn without(&self, off: Percent) -> Result<Self, Unit> {
        let units = self.units.iter().map(|Steps { unit, steps }| {
            let less = steps.iter().map(|step| Some(Step { each: off.rest().of_exactly(step.each)?, ..*step }));
            Ok(Steps { unit: *unit, steps: less.collect::<Option<_>>().ok_or(*unit)? })
        });
        Ok(Self { units: units.collect::<Result<_, _>>()? })
    }

    pub(crate) fn units(&self) -> &[Steps] {
        &self.units
    }

    /// The steps of a unit; nothing when it has no price of its own.
    #[must_use]
    pub fn steps(&self, unit: Unit) -> Option<&[Step]> {
        self.units.iter().find(|steps| steps.unit == unit).map(|steps| steps.steps.as_slice())
    }

    /// Whether any unit has more than one step.
    #[must_use]
    pub fn is_tiered(&self) -> bool {
        self.units.iter().any(|steps| steps.steps.len() > 1)
    }

    /// What `usage` costs on top of what was used `before`.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn cost(&self, before: &Usage, usage: &Usage) -> Result<Cost, CostError> {
        self.units.iter().try_fold(Cost::ZERO, |sum, Steps { unit, steps }| {
            let (from, more) = (self.metered(before, *unit)?, self.metered(usage, *unit)?);
            sum.checked_add(between(steps, from, from.checked_add(more).ok_or(CostError)?)?)
        })
    }

    /// Quantities of each step: none.
    pub(crate) fn no_quantities(&self) -> Vec<Vec<u64>> {
        self.units.iter().map(|steps| vec![0; steps.steps.len()]).collect()
    }

    /// Adds how much of each step `usage` takes on top of what was used before.
    pub(crate) fn add_quantities(&self, quantities: &mut [Vec<u64>], before: &Usage, usage: &Usage) -> Result<(), CostError> {
        for (Steps { unit, steps }, counts) in self.units.iter().zip(quantities) {
            let (from, more) = (self.metered(before, *unit)?, self.metered(usage, *unit)?);
            let to = from.checked_add(more).ok_or(CostError)?;
            for ((quantity, _), count) in pieces(steps, from, to).zip(counts) {
                *count = count.checked_add(quantity).ok_or(CostError)?;
            }
        }
        Ok(())
    }

    /// What so much of each step costs.
    pub(crate) fn cost_of(&self, quantities: &[Vec<u64>]) -> Result<Cost, CostError> {
        let steps = self.units.iter().flat_map(|steps| &steps.steps).zip(quantities.iter().flatten());
        let mut sum = Cost::ZERO;
        for (step, quantity) in steps {
            sum = sum.checked_add(step.each.checked_mul(*quantity)?)?;
        }
        Ok(sum)
    }

    /// The most that usage within these bounds can cost on top of `before`: a token that is read may come from a cache or not, whichever costs
    /// more. Nothing for `before`: on top of whatever it may be, so at the dearest step.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn cost_at_most(&self, before: Option<&Usage>, bound: &Usage) -> Result<Cost, CostError> {
        let read = bound.input_tokens.checked_add(bound.cached_tokens).ok_or(CostError)?;
        let mut sum = self.read_at_most(before, read)?;
        for Steps { unit, steps } in &self.units {
            let most = match unit {
                Unit::InputToken | Unit::CachedToken => continue,
                Unit::Call | Unit::OutputToken | Unit::Second | Unit::Byte | Unit::Image => {
                    most(&reach(steps, before.map(|before| before.metered(*unit)), bound.metered(*unit))?, bound.metered(*unit))?
                }
            };
            sum = sum.checked_add(most)?;
        }
        Ok(sum)
    }

    /// Of tokens that are read: the dearest of all steps that either unit can reach with so many.
    fn read_at_most(&self, before: Option<&Usage>, read: u64) -> Result<Cost, CostError> {
        let mut pieces = Vec::new();
        for unit in [Unit::InputToken, Unit::CachedToken] {
            if let Some(steps) = self.steps(unit) {
                let from = before.map(|before| self.metered(before, unit)).transpose()?;
                pieces.extend(reach(steps, from, read)?);
            }
        }
        most(&pieces, read)
    }

    /// What counts for a unit: a cached token without a price of its own is an input token.
    fn metered(&self, usage: &Usage, unit: Unit) -> Result<u64, CostError> {
        let with_cached = unit == Unit::InputToken && self.steps(Unit::CachedToken).is_none();
        let cached = if with_cached { usage.cached_tokens } else { 0 };
        usage.metered(unit).checked_add(cached).ok_or(CostError)
    }
}

/// What lies between two quantities costs.
fn between(steps: &[Step], from: u64, to: u64) -> Result<Cost, CostError> {
    pieces(steps, from, to).try_fold(Cost::ZERO, |sum, (quantity, each)| sum.checked_add(each.checked_mul(quantity)?))
}

/// How much of each step lies between two quantities.
fn pieces(steps: &[Step], from: u64, to: u64) -> impl Iterator<Item = (u64, Cost)> {
    let ends = steps.iter().skip(1).map(|next| next.above).chain(core::iter::once(u64::MAX));
    steps.iter().zip(ends).map(move |(step, end)| (end.min(to).saturating_sub(step.above.max(from)), step.each))
}

/// What `quantity` of a unit can reach: of each step as much as there is of it, or all of it at any step when nobody knows what was before.
fn reach(steps: &[Step], from: Option<u64>, quantity: u64) -> Result<Vec<(u64, Cost)>, CostError> {
    match from {
        Some(from) => Ok(pieces(steps, from, from.checked_add(quantity).ok_or(CostError)?).collect()),
        None => Ok(steps.iter().map(|step| (quantity, step.each)).collect()),
    }
}

/// The dearest `quantity` of the pieces.
fn most(pieces: &[(u64, Cost)], quantity: u64) -> Result<Cost, CostError> {
    let mut dearest = pieces.to_vec();
    dearest.sort_by_key(|(_, each)| core::cmp::Reverse(*each));
    let (mut left, mut sum) = (quantity, Cost::ZERO);
    for (of_it, each) in dearest {
        let taken = of_it.min(left);
        left = left.saturating_sub(taken);
        sum = sum.checked_add(each.checked_mul(taken)?)?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Token;

    /// 3 base units a token, from 10 on 2, from 100 on 1; cached tokens as said.
    fn schedule(cached: &str) -> Schedule {
        let token = Token::new("USDC", 6).expect("a token");
        let price = Price::parse(&format!("3 base / input_token{cached}"), &token).expect("a price");
        let mut schedule = Schedule::flat(&price);
        for (above, each) in [(10, 2), (100, 1)] {
            assert!(schedule.push(Unit::InputToken, Step { above, each: Cost::new(each, 0).expect("small") }));
        }
        schedule
    }

    fn tokens(input_tokens: u64, cached_tokens: u64) -> Usage {
        Usage { input_tokens, cached_tokens, ..Usage::default() }
    }

    #[test]
    fn what_is_above_a_step_costs_that_step() {
        let check = |before: (u64, u64), used: (u64, u64), expected: u128| {
            let cost = schedule("").cost(&tokens(before.0, before.1), &tokens(used.0, used.1)).expect("small");
            assert_eq!(cost, Cost::new(expected, 0).expect("small"), "{used:?} on top of {before:?}");
        };
        check((0, 0), (10, 0), 30);
        check((0, 0), (11, 0), 32);
        check((0, 0), (101, 0), 30 + 180 + 1);
        check((9, 0), (2, 0), 5);
        check((100, 0), (50, 0), 50);
        check((200, 0), (1, 0), 1);
        // Cached tokens without a price are input tokens, on the same steps.
        check((0, 8), (2, 2), 6 + 4);
        assert_eq!(schedule("").cost(&tokens(u64::MAX, 0), &tokens(1, 0)), Err(CostError));
        assert_eq!(schedule("").cost(&tokens(u64::MAX, 0), &tokens(0, 1)), Err(CostError));
    }

    #[test]
    fn the_most_is_the_dearest_that_can_be_reached() {
        let check = |cached: &str, before: Option<u64>, bound: (u64, u64), expected: u128| {
            let before = before.map(|before| tokens(before, 0));
            let cost = schedule(cached).cost_at_most(before.as_ref(), &tokens(bound.0, bound.1)).expect("small");
            assert_eq!(cost, Cost::new(expected, 0).expect("small"), "{bound:?} {cached}");
        };
        check("", Some(0), (20, 0), 50);
        check("", Some(95), (20, 0), 5 * 2 + 15);
        check("", None, (20, 0), 60);
        // A cheap cache changes nothing, a dear one is all of it.
        check(" + 1 base / cached_token", Some(0), (20, 0), 50);
        check(" + 4 base / cached_token", Some(0), (10, 10), 80);
    }

    #[test]
    fn steps_only_rise_and_only_where_there_is_a_price() {
        let mut schedule = schedule("");
        let step = |above| Step { above, each: Cost::ZERO };
        assert!(!schedule.push(Unit::InputToken, step(100)));
        assert!(!schedule.push(Unit::OutputToken, step(1)));
        assert!(schedule.push(Unit::InputToken, step(101)));
        assert!(schedule.is_tiered());
    }

    #[test]
    fn a_discount_is_exact_or_names_the_unit() {
        let schedule = schedule("");
        let less = schedule.without(Percent::parse("50").expect("half")).expect("exact");
        assert_eq!(less.cost(&tokens(0, 0), &tokens(10, 0)), Cost::new(15, 0));
        let token = Token::new("USDC", 6).expect("a token");
        let fine = Schedule::flat(&Price::parse("0.000000000000000001 base / byte", &token).expect("a price"));
        assert_eq!(fine.without(Percent::parse("50").expect("half")), Err(Unit::Byte));
    }
}
