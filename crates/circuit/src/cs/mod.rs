//! One circuit source, two back-ends.
//!
//! A circuit is a function over [`Cs`]. [`Structure`] runs it once to record the matrices; [`Values`] runs it for every proof and keeps
//! nothing but values. Both allocate the same variables and rows in the same order, because nothing in a circuit depends on a value.
//!
//! Variable 0 is the constant one, 1 to 3 are the public inputs, witnesses follow. A row says `⟨A,z⟩·⟨B,z⟩ = ⟨C,z⟩`.

mod ark;
mod structure;
#[cfg(test)]
mod tampered;
mod values;

use ark_bn254::Fr;
use ark_ff::Field;

pub use ark::ArkCircuit;
pub use structure::{MatrixName, Structure};
#[cfg(test)]
pub(crate) use tampered::Tampered;
pub(crate) use values::Values;
pub use values::Witness;

/// Number of public inputs of every circuit here: `C`, `r`, `y`.
pub const PUBLIC_INPUTS: usize = 3;

/// A linear combination of variables.
pub(crate) trait Linear: Clone + Send + Sync + Sized {
    /// A multiple of the constant one.
    fn constant(value: Fr) -> Self;

    /// The value under the assignment at hand. Only hints read it, and the recorder runs no hint.
    fn value(&self) -> Fr;

    /// `Σ weight · term`.
    fn weighted<'a>(terms: impl IntoIterator<Item = (Fr, &'a Self)>) -> Self
    where
        Self: 'a;

    fn plus(&self, other: &Self) -> Self {
        Self::weighted([(Fr::ONE, self), (Fr::ONE, other)])
    }

    fn minus(&self, other: &Self) -> Self {
        Self::weighted([(Fr::ONE, self), (-Fr::ONE, other)])
    }

    fn plus_constant(&self, constant: Fr) -> Self {
        self.plus(&Self::constant(constant))
    }

    fn scaled(&self, by: Fr) -> Self {
        Self::weighted([(by, self)])
    }
}

/// A constraint system under construction.
pub(crate) trait Cs: Sized + Send {
    /// Its linear combinations.
    type L: Linear;

    /// Whether hints run, so that expensive ones can be prepared only then.
    const RUNS_HINTS: bool;

    /// The next public input. All come before the first witness.
    fn public(&mut self, value: Fr) -> Self::L;

    /// A new witness variable. It is free until a row constrains it. `hint` runs only where values are wanted.
    fn alloc(&mut self, hint: impl FnOnce() -> Fr) -> Self::L;

    /// The row `a · b = c`. Put the longer combination in `a`: a variable that is in no `B` costs the prover no point of G2.
    fn enforce(&mut self, a: &Self::L, b: &Self::L, c: &Self::L);

    /// Names the variables and rows that follow, up to the next name: tests look at one group at a time.
    fn group(&mut self, _name: &'static str) {}

    /// Runs `body` for each item, the items possibly at the same time; variables and rows are in item order all the same.
    fn each<T: Sync, R: Send>(&mut self, items: &[T], body: impl Fn(&mut Self, &T) -> R + Sync) -> Vec<R>;

    /// A new variable equal to `a · b`.
    fn product(&mut self, a: &Self::L, b: &Self::L) -> Self::L {
        let product = self.alloc(|| a.value() * b.value());
        self.enforce(a, b, &product);
        product
    }

    /// A new variable `q` with `denominator · q = numerator`.
    ///
    /// It is determined only where the denominator is not zero: **the caller argues that**. For zero over zero every `q` will do.
    fn quotient(&mut self, numerator: &Self::L, denominator: &Self::L) -> Self::L {
        self.quotient_hinted(numerator, denominator, || numerator.value() * denominator.value().inverse().unwrap_or_default())
    }

    /// As [`Cs::quotient`], for a caller that knows the value.
    fn quotient_hinted(&mut self, numerator: &Self::L, denominator: &Self::L, hint: impl FnOnce() -> Fr) -> Self::L {
        let quotient = self.alloc(hint);
        self.enforce(denominator, &quotient, numerator);
        quotient
    }

    /// The row `a = b`.
    fn equal(&mut self, a: &Self::L, b: &Self::L) {
        self.enforce(a, &Self::L::constant(Fr::ONE), b);
    }
}
