//! Booleans and ranges.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};

use crate::cs::{Cs, Linear};

/// A combination that a row has constrained to 0 or 1.
#[derive(Clone, Debug)]
pub(crate) struct Bit<L>(L);

impl<L: Linear> Bit<L> {
    /// A new boolean variable: one row.
    pub(crate) fn alloc<C: Cs<L = L>>(cs: &mut C, hint: impl FnOnce() -> bool) -> Self {
        let bit = cs.alloc(|| Fr::from(hint()));
        cs.enforce(&L::constant(Fr::ONE).minus(&bit), &bit, &L::constant(Fr::ZERO));
        Self(bit)
    }

    /// The combination, 0 or 1.
    pub(crate) const fn linear(&self) -> &L {
        &self.0
    }

    /// `2·bit − 1`: one for a set bit, minus one for a clear one.
    pub(crate) fn sign(&self) -> L {
        self.0.scaled(Fr::from(2u64)).plus_constant(-Fr::ONE)
    }

    /// `1 − bit`.
    pub(crate) fn negated(&self) -> L {
        L::constant(Fr::ONE).minus(&self.0)
    }
}

/// `width` new bits of an integer, least significant first: one row each.
pub(crate) fn alloc_bits<C: Cs>(cs: &mut C, width: u32, hint: impl Fn() -> u128) -> Vec<Bit<C::L>> {
    (0..width).map(|position| Bit::alloc(cs, || hint() >> position & 1 == 1)).collect()
}

/// `Σ 2^i · bit_i`.
pub(crate) fn recomposed<L: Linear>(bits: &[Bit<L>]) -> L {
    let mut weight = Fr::ONE;
    L::weighted(bits.iter().map(|bit| {
        let term = (weight, bit.linear());
        weight.double_in_place();
        term
    }))
}

/// A combination that is a sum of constrained bits, so an integer below `2^width` with no reduction.
#[derive(Clone, Debug)]
pub(crate) struct Unsigned<L> {
    /// Least significant first.
    pub(crate) bits: Vec<Bit<L>>,
    pub(crate) linear: L,
}

impl<L: Linear> Unsigned<L> {
    /// A new integer of at most 128 bits: one row a bit.
    pub(crate) fn alloc<C: Cs<L = L>>(cs: &mut C, width: u32, hint: impl Fn() -> u128) -> Self {
        let bits = alloc_bits(cs, width, hint);
        let linear = recomposed(&bits);
        Self { bits, linear }
    }
}

/// A new integer in `[0, max]`, exactly: one row a bit of `max`, no comparison.
///
/// With `k` the bits of `max`, the weights are `1, 2, …, 2^(k-2)` and `top = max − (2^(k-1) − 1)`. Without the top bit the sums are
/// `[0, 2^(k-1) − 1]`, with it `[top, max]`; `top ≤ 2^(k-1)`, so the two runs leave no gap, and no sum is above `max`. Where they
/// overlap a value has two representations, which is harmless: only the value is used.
///
/// A hint above `max` leaves the system unsatisfied.
pub(crate) fn alloc_at_most<C: Cs>(cs: &mut C, max: u128, hint: impl Fn() -> u128) -> C::L {
    let low_width = max.ilog2();
    let low_max = (1u128 << low_width) - 1;
    let top_weight = max - low_max;
    let top_needed = || hint() > low_max;
    let low = alloc_bits(cs, low_width, || if top_needed() { hint() - top_weight } else { hint() });
    let top = Bit::alloc(cs, top_needed);
    recomposed(&low).plus(&top.linear().scaled(Fr::from(top_weight)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cs::{Structure, Values};

    fn at_most(max: u128, value: u128) -> (Fr, bool) {
        let mut cs = Values::new();
        let result = alloc_at_most(&mut cs, max, || value);
        (result, cs.broken_row.is_none())
    }

    #[test]
    fn every_value_up_to_the_maximum_has_bits_and_no_other_sum_exists() {
        for max in 1..40u128 {
            let mut cs = Values::new();
            alloc_at_most(&mut cs, max, || 0);
            for value in 0..=max {
                assert_eq!(at_most(max, value), (Fr::from(value), true), "{value} of {max}");
            }
            let width = max.ilog2();
            let top = max - ((1 << width) - 1);
            let largest = (0..width).map(|bit| 1u128 << bit).sum::<u128>() + top;
            assert_eq!(largest, max);
        }
    }

    #[test]
    fn wide_ranges_are_exact_at_their_ends() {
        let max = (1u128 << 125) + 12345;
        for value in [0, 1, (1 << 125) - 1, 1 << 125, max - 1, max] {
            assert_eq!(at_most(max, value), (Fr::from(value), true));
        }
    }

    #[test]
    fn an_integer_costs_one_row_a_bit() {
        let structure = Structure::record(|cs| {
            Unsigned::alloc(cs, 64, || 0);
            alloc_at_most(cs, (1 << 125) + 7, || 0);
        });
        assert_eq!(structure.constraints(), 64 + 126);
    }
}
