//! The back-end that only computes values: no matrices, items of [`Cs::each`] in parallel.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};
use rayon::prelude::*;

use super::{Cs, Linear};

/// What a proof is made from.
///
/// `a` and `b` are the products of the matrices A and B with the assignment, so a prover needs no matrices: that of C is their
/// entry-wise product when the statement holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// The value of every variable: the one, the public inputs, the witnesses.
    pub assignment: Vec<Fr>,
    /// `⟨A_i, z⟩` for each row.
    pub a: Vec<Fr>,
    /// `⟨B_i, z⟩` for each row.
    pub b: Vec<Fr>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Values {
    witness: Witness,
    /// The first row whose two sides differ, for the tests of the gadgets.
    #[cfg(test)]
    pub(crate) broken_row: Option<usize>,
}

impl Values {
    /// A system with nothing but the constant one.
    pub(crate) fn new() -> Self {
        let mut values = Self::default();
        values.witness.assignment.push(Fr::ONE);
        values
    }

    pub(crate) fn into_witness(self) -> Witness {
        self.witness
    }

    fn append(&mut self, part: Self) {
        #[cfg(test)]
        {
            let rows = self.witness.a.len();
            self.broken_row = self.broken_row.or(part.broken_row.map(|row| rows + row));
        }
        self.witness.assignment.extend(part.witness.assignment);
        self.witness.a.extend(part.witness.a);
        self.witness.b.extend(part.witness.b);
    }
}

/// The value of a linear combination.
impl Linear for Fr {
    fn constant(value: Fr) -> Self {
        value
    }

    fn value(&self) -> Fr {
        *self
    }

    fn weighted<'a>(terms: impl IntoIterator<Item = (Fr, &'a Self)>) -> Self {
        // Most terms are bits, so the multiplication is worth avoiding.
        let mut sum = Self::ZERO;
        for (weight, term) in terms {
            if *term == Self::ONE {
                sum += weight;
            } else if *term != Self::ZERO {
                sum += weight * term;
            }
        }
        sum
    }

    fn plus(&self, other: &Self) -> Self {
        *self + other
    }

    fn minus(&self, other: &Self) -> Self {
        *self - other
    }

    fn scaled(&self, by: Fr) -> Self {
        *self * by
    }
}

impl Cs for Values {
    type L = Fr;

    const RUNS_HINTS: bool = true;

    fn public(&mut self, value: Fr) -> Fr {
        self.witness.assignment.push(value);
        value
    }

    fn alloc(&mut self, hint: impl FnOnce() -> Fr) -> Fr {
        let value = hint();
        self.witness.assignment.push(value);
        value
    }

    fn enforce(&mut self, a: &Fr, b: &Fr, c: &Fr) {
        #[cfg(test)]
        if *a * b != *c && self.broken_row.is_none() {
            self.broken_row = Some(self.witness.a.len());
        }
        // `c` is `a · b` for every statement that holds, and there is no proof of another.
        let _ = c;
        self.witness.a.push(*a);
        self.witness.b.push(*b);
    }

    fn each<T: Sync, R: Send>(&mut self, items: &[T], body: impl Fn(&mut Self, &T) -> R + Sync) -> Vec<R> {
        let parts: Vec<(Self, R)> = items
            .par_iter()
            .map(|item| {
                let mut part = Self::default();
                let result = body(&mut part, item);
                (part, result)
            })
            .collect();
        parts
            .into_iter()
            .map(|(part, result)| {
                self.append(part);
                result
            })
            .collect()
    }
}
