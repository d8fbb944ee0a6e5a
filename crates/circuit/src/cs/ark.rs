//! The recorded matrices in the forms that arkworks takes.

use ark_bn254::Fr;
use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystemRef, LinearCombination, Matrix, Result, SynthesisError, Variable};

use super::{MatrixName, PUBLIC_INPUTS, Structure};

/// A recorded circuit for arkworks: without an assignment for a set-up, with one for its prover.
///
/// Variables keep their order, so an assignment here is one there.
#[derive(Clone, Copy, Debug)]
pub struct ArkCircuit<'a> {
    structure: &'a Structure,
    assignment: Option<&'a [Fr]>,
}

impl<'a> ArkCircuit<'a> {
    /// For a set-up.
    #[must_use]
    pub const fn new(structure: &'a Structure) -> Self {
        Self { structure, assignment: None }
    }

    /// With the values of [`Witness::assignment`](super::Witness::assignment).
    #[must_use]
    pub const fn with_assignment(structure: &'a Structure, assignment: &'a [Fr]) -> Self {
        Self { structure, assignment: Some(assignment) }
    }

    fn value(&self, variable: usize) -> Result<Fr> {
        self.assignment.and_then(|values| values.get(variable)).copied().ok_or(SynthesisError::AssignmentMissing)
    }

    fn combination(&self, name: MatrixName, row: usize, variables: &[Variable]) -> LinearCombination<Fr> {
        LinearCombination(self.structure.row(name, row).map(|(variable, value)| (value, variables[variable])).collect())
    }
}

impl ConstraintSynthesizer<Fr> for ArkCircuit<'_> {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<()> {
        let mut variables = Vec::with_capacity(self.structure.variables());
        variables.push(Variable::One);
        for index in 1..self.structure.variables() {
            variables.push(if index <= PUBLIC_INPUTS {
                cs.new_input_variable(|| self.value(index))?
            } else {
                cs.new_witness_variable(|| self.value(index))?
            });
        }
        for row in 0..self.structure.constraints() {
            let combination = |name| self.combination(name, row, &variables);
            cs.enforce_r1cs_constraint(|| combination(MatrixName::A), || combination(MatrixName::B), || combination(MatrixName::C))?;
        }
        Ok(())
    }
}

impl Structure {
    /// A, B and C as arkworks' matrices, for `create_proof_with_reduction_and_matrices` with `PUBLIC_INPUTS + 1` inputs.
    ///
    /// They take 40 bytes an entry: hundreds of megabytes for the largest book.
    #[must_use]
    pub fn to_ark_matrices(&self) -> Vec<Matrix<Fr>> {
        [MatrixName::A, MatrixName::B, MatrixName::C]
            .into_iter()
            .map(|name| {
                (0..self.constraints()).map(|row| self.row(name, row).map(|(variable, value)| (value, variable)).collect()).collect()
            })
            .collect()
    }
}
