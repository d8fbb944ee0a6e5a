//! The back-end of a prover who lies: values as in [`super::Values`], but for chosen variables, and everything after them computed from
//! what they were given.

use std::collections::BTreeMap;

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};

use super::{Cs, Witness};

/// See the module.
#[derive(Debug)]
pub(crate) struct Tampered {
    witness: Witness,
    chosen: BTreeMap<usize, Fr>,
}

impl Tampered {
    /// A system with nothing but the constant one, in which some variables will have chosen values.
    pub(crate) fn new(chosen: BTreeMap<usize, Fr>) -> Self {
        Self { witness: Witness { assignment: vec![Fr::ONE], ..Witness::default() }, chosen }
    }

    pub(crate) fn into_witness(self) -> Witness {
        self.witness
    }
}

impl Cs for Tampered {
    type L = Fr;

    const RUNS_HINTS: bool = true;

    fn public(&mut self, value: Fr) -> Fr {
        self.witness.assignment.push(value);
        value
    }

    fn alloc(&mut self, hint: impl FnOnce() -> Fr) -> Fr {
        let value = self.chosen.get(&self.witness.assignment.len()).copied().unwrap_or_else(hint);
        self.witness.assignment.push(value);
        value
    }

    fn enforce(&mut self, a: &Fr, b: &Fr, _c: &Fr) {
        self.witness.a.push(*a);
        self.witness.b.push(*b);
    }

    fn each<T: Sync, R: Send>(&mut self, items: &[T], body: impl Fn(&mut Self, &T) -> R + Sync) -> Vec<R> {
        items.iter().map(|item| body(self, item)).collect()
    }

    /// Not the hint, which knows nothing of the lie.
    fn quotient_hinted(&mut self, numerator: &Fr, denominator: &Fr, _hint: impl FnOnce() -> Fr) -> Fr {
        let quotient = self.alloc(|| *numerator * denominator.inverse().unwrap_or(Fr::ZERO));
        self.enforce(denominator, &quotient, numerator);
        quotient
    }
}
