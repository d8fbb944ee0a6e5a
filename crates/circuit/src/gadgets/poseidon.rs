//! Poseidon (voucher spec, section Poseidon): only S-boxes make rows, three each; matrices and constants fold into combinations.

use std::sync::OnceLock;

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};
use millstream_voucher::poseidon::{Tag, Width, parameters};

use crate::cs::{Cs, Linear};
use crate::tree::ARITY;

/// An affine map: one result for each row, a row being the weights of its inputs and a constant.
type Affine = Vec<(Vec<Fr>, Fr)>;

/// The permutation as affine maps between S-boxes.
///
/// In a partial round only element 0 passes an S-box, so each such S-box takes a combination of two kinds of variables: the S-boxes of
/// the last full round, and those of the partial rounds before. Its weights depend on the constants alone and are computed once.
struct Unrolled {
    /// What is added before round 0.
    first: Vec<Fr>,
    /// To the inputs of the full rounds 1 to 3.
    early: Vec<Affine>,
    /// To the input of each partial round, over the `t` S-boxes of round 3 and those of the partial rounds before.
    partial: Affine,
    /// To the inputs of the first full round after the partial ones, over all of those.
    exit: Affine,
    /// To the inputs of the last three full rounds.
    late: Vec<Affine>,
    /// To element 0 of the result.
    last: (Vec<Fr>, Fr),
}

impl Unrolled {
    fn of(width: Width) -> &'static Self {
        static UNROLLED: [OnceLock<Unrolled>; 4] = [const { OnceLock::new() }; 4];
        let index = match width {
            Width::W3 => 0,
            Width::W4 => 1,
            Width::W5 => 2,
            Width::W17 => 3,
        };
        UNROLLED[index].get_or_init(|| Self::new(width))
    }

    fn new(width: Width) -> Self {
        let plain = parameters(width);
        let (half, size) = (plain.full_rounds / 2, width.elements());
        let after_partial = half + plain.partial_rounds;
        let full = |round: usize| -> Affine { plain.mds.iter().cloned().zip(plain.round_constants[round].iter().copied()).collect() };

        // The state as combinations of the S-boxes of round 3 and of the partial rounds, in that order, and of the constant at the end.
        let columns = size + plain.partial_rounds + 1;
        let padded = |row: &Vec<Fr>| row.iter().copied().chain(std::iter::repeat(Fr::ZERO)).take(columns).collect();
        let mut state: Vec<Vec<Fr>> = plain.mds.iter().map(padded).collect();
        let add_constants = |state: &mut [Vec<Fr>], round: usize| {
            for (row, constant) in state.iter_mut().zip(&plain.round_constants[round]) {
                row[columns - 1] += constant;
            }
        };
        let row_over = |row: &[Fr], inputs: usize| (row[..inputs].to_vec(), row[columns - 1]);
        let mut partial = Vec::with_capacity(plain.partial_rounds);
        for index in 0..plain.partial_rounds {
            add_constants(&mut state, half + index);
            partial.push(row_over(&state[0], size + index));
            state[0] = vec![Fr::ZERO; columns];
            state[0][size + index] = Fr::ONE;
            state = multiplied(&plain.mds, &state);
        }
        add_constants(&mut state, after_partial);
        Self {
            first: plain.round_constants[0].clone(),
            early: (1..half).map(full).collect(),
            partial,
            exit: state.iter().map(|row| row_over(row, columns - 1)).collect(),
            late: (after_partial + 1..after_partial + half).map(full).collect(),
            last: (plain.mds[0].clone(), Fr::ZERO),
        }
    }
}

fn multiplied(matrix: &[Vec<Fr>], rows: &[Vec<Fr>]) -> Vec<Vec<Fr>> {
    let columns = rows.first().map_or(0, Vec::len);
    let combine = |weights: &Vec<Fr>| -> Vec<Fr> {
        (0..columns).map(|column| weights.iter().zip(rows).map(|(weight, row)| *weight * row[column]).sum()).collect()
    };
    matrix.iter().map(combine).collect()
}

fn applied<L: Linear>(row: &(Vec<Fr>, Fr), inputs: &[L]) -> L {
    L::weighted(row.0.iter().copied().zip(inputs)).plus_constant(row.1)
}

/// `P_t(tag; inputs, 0 …)`: inputs that are missing are constant zeros.
///
/// The tag and the zeros are constants through the first S-boxes, so a full hash of width 3, 4, 5, 17 has 240, 261, 297, 609 rows and
/// each missing input saves three.
///
/// # Panics
/// With more inputs than the tag's width takes.
pub(crate) fn hash<C: Cs>(cs: &mut C, tag: Tag, inputs: &[C::L]) -> C::L {
    let width = tag.width();
    assert!(inputs.len() <= width.inputs(), "{tag:?} takes at most {} inputs", width.inputs());
    let unrolled = Unrolled::of(width);

    // Round 0: what is constant stays constant.
    let fixed = |position: usize| if position == 0 { tag.to_field() } else { Fr::ZERO };
    let mut boxes: Vec<C::L> = unrolled
        .first
        .iter()
        .enumerate()
        .map(|(position, constant)| match position.checked_sub(1).and_then(|input| inputs.get(input)) {
            Some(input) => s_box(cs, &input.plus_constant(*constant)),
            None => C::L::constant((fixed(position) + constant).pow([5u64])),
        })
        .collect();
    for map in &unrolled.early {
        boxes = full_round(cs, map, &boxes);
    }
    for row in &unrolled.partial {
        let input = applied(row, &boxes);
        boxes.push(s_box(cs, &input));
    }
    for map in std::iter::once(&unrolled.exit).chain(&unrolled.late) {
        boxes = full_round(cs, map, &boxes);
    }
    applied(&unrolled.last, &boxes)
}

fn full_round<C: Cs>(cs: &mut C, map: &Affine, boxes: &[C::L]) -> Vec<C::L> {
    map.iter().map(|row| s_box(cs, &applied(row, boxes))).collect()
}

/// `x⁵`: three rows.
fn s_box<C: Cs>(cs: &mut C, x: &C::L) -> C::L {
    let square = cs.product(x, x);
    let fourth = cs.product(&square, &square);
    cs.product(x, &fourth)
}

/// `tree(tag; leaves)` of the ledger's spec (section Books).
pub(crate) fn tree<C: Cs>(cs: &mut C, tag: Tag, leaves: &[C::L]) -> C::L {
    let mut level = nodes(cs, tag, leaves);
    while level.len() > 1 {
        level = nodes(cs, tag, &level);
    }
    level.swap_remove(0)
}

fn nodes<C: Cs>(cs: &mut C, tag: Tag, values: &[C::L]) -> Vec<C::L> {
    let groups: Vec<&[C::L]> = values.chunks(ARITY).collect();
    cs.each(&groups, |cs, group| hash(cs, tag, group))
}

#[cfg(test)]
mod tests {
    use millstream_voucher::poseidon;

    use super::*;
    use crate::cs::{Structure, Values};

    #[test]
    fn the_gadget_is_the_native_hash() {
        for tag in Tag::ALL {
            let inputs: Vec<Fr> = (0..tag.width().inputs() as u64).map(|i| -Fr::from(i * i)).collect();
            let mut cs = Values::new();
            let variables: Vec<Fr> = inputs.iter().map(|value| cs.alloc(|| *value)).collect();
            assert_eq!(hash(&mut cs, tag, &variables), poseidon::hash(tag, &inputs), "{tag:?}");
            assert_eq!(cs.broken_row, None);
        }
    }

    #[test]
    fn missing_inputs_are_zeros() {
        for count in [1, 7, 15, 16, 17, 40] {
            let leaves: Vec<Fr> = (0..count).map(|i| Fr::from(i + 3u64)).collect();
            let mut cs = Values::new();
            assert_eq!(tree(&mut cs, Tag::Commitment, &leaves), crate::tree::tree(Tag::Commitment, &leaves));
        }
    }

    #[test]
    fn rows_are_three_a_variable_s_box() {
        let rows = |tag: Tag, inputs: usize| {
            Structure::record(|cs| {
                let inputs: Vec<_> = (0..inputs).map(|_| cs.alloc(|| Fr::from(0u64))).collect();
                hash(cs, tag, &inputs);
            })
            .constraints()
        };
        assert_eq!(rows(Tag::Book, 2), 240);
        assert_eq!(rows(Tag::StaticLeaf, 3), 261);
        assert_eq!(rows(Tag::Voucher, 4), 297);
        assert_eq!(rows(Tag::StaticNode, 16), 609);
        assert_eq!(rows(Tag::StaticNode, 8), 585);
    }
}
