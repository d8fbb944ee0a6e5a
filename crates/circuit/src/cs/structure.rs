//! The back-end that records the matrices.

use std::collections::HashMap;

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, BigInteger, Field, PrimeField};
use sha3::{Digest, Keccak256};

use super::{Cs, Linear, PUBLIC_INPUTS};

/// One of the three matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixName {
    /// The left factor.
    A,
    /// The right factor.
    B,
    /// The product.
    C,
}

/// The matrices of a circuit: sparse rows, with equal coefficients kept once.
///
/// Two runs of one version give the same structure; [`Structure::digest`] names it.
#[derive(Debug, Default)]
pub struct Structure {
    variables: u32,
    coefficients: Vec<Fr>,
    // Looked up, never iterated.
    coefficient_index: HashMap<Fr, u32>,
    matrices: [Rows; 3],
    #[cfg(test)]
    groups: Vec<Group>,
}

/// Where a named run of variables and rows starts.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
struct Group {
    name: &'static str,
    first_variable: usize,
    first_row: usize,
}

/// Sparse rows end to end; row `i` is `terms[ends[i-1]..ends[i]]`.
#[derive(Debug, Default)]
struct Rows {
    ends: Vec<usize>,
    /// Variable and coefficient index; variables ascend within a row.
    terms: Vec<(u32, u32)>,
}

impl Rows {
    fn row(&self, index: usize) -> &[(u32, u32)] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.terms[start..self.ends[index]]
    }
}

impl Structure {
    /// Records a circuit.
    pub(crate) fn record(circuit: impl FnOnce(&mut Self)) -> Self {
        let mut structure = Self { variables: 1, ..Self::default() };
        circuit(&mut structure);
        // Only recording looks coefficients up.
        structure.coefficient_index = HashMap::new();
        structure
    }

    /// The number of variables: the one, the public inputs, the witnesses.
    #[must_use]
    pub fn variables(&self) -> usize {
        index(self.variables)
    }

    /// The number of rows.
    #[must_use]
    pub fn constraints(&self) -> usize {
        self.matrices[0].ends.len()
    }

    /// The number of entries of a matrix that are not zero.
    #[must_use]
    pub fn entries(&self, name: MatrixName) -> usize {
        self.matrix(name).terms.len()
    }

    /// One row as `(variable, coefficient)`, variables ascending, no coefficient zero.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, name: MatrixName, row: usize) -> impl Iterator<Item = (usize, Fr)> {
        self.matrix(name)
            .row(row)
            .iter()
            .map(|(variable, coefficient)| (index(*variable), self.coefficients[index(*coefficient)]))
    }

    /// Whether the assignment satisfies one row.
    ///
    /// # Panics
    /// When there is no such row, or the assignment is shorter than [`Structure::variables`].
    #[must_use]
    pub fn row_holds(&self, row: usize, assignment: &[Fr]) -> bool {
        let [a, b, c] = [MatrixName::A, MatrixName::B, MatrixName::C].map(|name| self.product(name, row, assignment));
        a * b == c
    }

    /// `⟨row, z⟩`.
    ///
    /// # Panics
    /// As [`Structure::row_holds`].
    #[must_use]
    pub fn product(&self, name: MatrixName, row: usize, assignment: &[Fr]) -> Fr {
        self.row(name, row).map(|(variable, coefficient)| assignment[variable] * coefficient).sum()
    }

    /// The rows that an assignment does not satisfy.
    ///
    /// # Panics
    /// When the assignment is not of [`Structure::variables`] values.
    #[must_use]
    pub fn unsatisfied(&self, assignment: &[Fr]) -> Vec<usize> {
        assert_eq!(assignment.len(), self.variables(), "an assignment has a value for each variable");
        (0..self.constraints()).filter(|row| !self.row_holds(*row, assignment)).collect()
    }

    /// Keccak-256 over the shape and every entry: the identity of the circuit.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = Keccak256::new();
        hasher.update(b"millstream.r1cs/1");
        hasher.update(self.variables.to_be_bytes());
        let coefficients: Vec<Vec<u8>> = self.coefficients.iter().map(|value| value.into_bigint().to_bytes_be()).collect();
        for rows in &self.matrices {
            hasher.update((rows.ends.len() as u64).to_be_bytes());
            for row in 0..rows.ends.len() {
                let terms = rows.row(row);
                hasher.update((terms.len() as u64).to_be_bytes());
                for (variable, coefficient) in terms {
                    hasher.update(variable.to_be_bytes());
                    hasher.update(&coefficients[index(*coefficient)]);
                }
            }
        }
        hasher.finalize().into()
    }

    /// The name of the group of each row.
    #[cfg(test)]
    pub(crate) fn group_of_rows(&self) -> Vec<&'static str> {
        named(self.groups.iter().map(|group| (group.name, group.first_row)), self.constraints())
    }

    /// The name of the group of each variable; the one and the public inputs are in none.
    #[cfg(test)]
    pub(crate) fn group_of_variables(&self) -> Vec<&'static str> {
        named(self.groups.iter().map(|group| (group.name, group.first_variable)), self.variables())
    }

    fn matrix(&self, name: MatrixName) -> &Rows {
        match name {
            MatrixName::A => &self.matrices[0],
            MatrixName::B => &self.matrices[1],
            MatrixName::C => &self.matrices[2],
        }
    }

    fn variable(&mut self) -> Sparse {
        let variable = self.variables;
        self.variables = variable.checked_add(1).expect("no circuit here has 2^32 variables");
        Sparse(vec![(variable, Fr::ONE)])
    }

    fn push_row(&mut self, matrix: usize, terms: &Sparse) {
        for (variable, value) in &terms.0 {
            let next = u32::try_from(self.coefficients.len()).expect("no circuit here has 2^32 coefficients");
            let coefficient = *self.coefficient_index.entry(*value).or_insert(next);
            if coefficient == next {
                self.coefficients.push(*value);
            }
            self.matrices[matrix].terms.push((*variable, coefficient));
        }
        let end = self.matrices[matrix].terms.len();
        self.matrices[matrix].ends.push(end);
    }
}

/// The name of the last run that starts at or before each of `count` places.
#[cfg(test)]
fn named(starts: impl Iterator<Item = (&'static str, usize)>, count: usize) -> Vec<&'static str> {
    let mut names = vec![""; count];
    for (name, start) in starts {
        names[start..].fill(name);
    }
    names
}

/// A 32-bit index as a length: this crate is for machines of 32 bits and more.
fn index(value: u32) -> usize {
    value as usize
}

/// Terms `(variable, coefficient)`: variables strictly ascend, no coefficient is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sparse(Vec<(u32, Fr)>);

impl Sparse {
    fn from_terms(mut terms: Vec<(u32, Fr)>) -> Self {
        terms.sort_unstable_by_key(|(variable, _)| *variable);
        terms.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 += later.1;
            }
            same
        });
        terms.retain(|(_, coefficient)| *coefficient != Fr::ZERO);
        Self(terms)
    }
}

impl Linear for Sparse {
    fn constant(value: Fr) -> Self {
        Self::from_terms(vec![(0, value)])
    }

    fn value(&self) -> Fr {
        Fr::ZERO
    }

    fn weighted<'a>(terms: impl IntoIterator<Item = (Fr, &'a Self)>) -> Self {
        let weighted = terms.into_iter().flat_map(|(weight, term)| term.0.iter().map(move |(variable, value)| (*variable, weight * value)));
        Self::from_terms(weighted.collect())
    }
}

impl Cs for Structure {
    type L = Sparse;

    const RUNS_HINTS: bool = false;

    fn public(&mut self, _value: Fr) -> Sparse {
        assert!(index(self.variables) <= PUBLIC_INPUTS, "public inputs come first");
        self.variable()
    }

    fn alloc(&mut self, _hint: impl FnOnce() -> Fr) -> Sparse {
        self.variable()
    }

    fn enforce(&mut self, a: &Sparse, b: &Sparse, c: &Sparse) {
        for (matrix, terms) in [a, b, c].into_iter().enumerate() {
            self.push_row(matrix, terms);
        }
    }

    #[cfg(test)]
    fn group(&mut self, name: &'static str) {
        let (first_variable, first_row) = (self.variables(), self.constraints());
        self.groups.push(Group { name, first_variable, first_row });
    }

    fn each<T: Sync, R: Send>(&mut self, items: &[T], body: impl Fn(&mut Self, &T) -> R + Sync) -> Vec<R> {
        items.iter().map(|item| body(self, item)).collect()
    }
}
