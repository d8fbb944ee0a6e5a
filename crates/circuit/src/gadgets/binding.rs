//! The data binding in rows (L-9, L-10).

use millstream_voucher::poseidon::Tag;

use super::poseidon::tree;
use crate::binding::PublicInputs;
use crate::cs::{Cs, Linear};

/// The three public inputs as variables.
pub(crate) struct PublicVariables<L> {
    commitment: L,
    point: L,
    value: L,
}

impl<L: Linear> PublicVariables<L> {
    /// Allocates `(C, r, y)`, in that order.
    pub(crate) fn alloc<C: Cs<L = L>>(cs: &mut C, inputs: &PublicInputs) -> Self {
        let [commitment, point, value] = inputs.to_array().map(|input| cs.public(input));
        Self { commitment, point, value }
    }

    /// Constrains `C = tree(D)` and `y = D(r)`: a tree, one row for `C`, and one for each word but the first.
    ///
    /// # Panics
    /// With fewer than two words.
    pub(crate) fn bind<C: Cs<L = L>>(&self, cs: &mut C, data: &[L]) {
        cs.group("commitment tree");
        let commitment = tree(cs, Tag::Commitment, data);
        cs.group("commitment");
        cs.equal(&commitment, &self.commitment);
        cs.group("evaluation");
        let (first, rest) = data.split_first().expect("data has roots");
        let (last, middle) = rest.split_last().expect("data has two roots");
        let mut value = first.clone();
        for word in middle {
            value = cs.product(&value, &self.point).plus(word);
        }
        cs.enforce(&value, &self.point, &self.value.minus(last));
    }
}
