//! `contracts/src/PoseidonTables.sol`: the constants with which Solidity computes Poseidon, from the same parameters.
//!
//! `MILLSTREAM_BLESS=1` writes the file; without it the file must say what is computed here.
//!
//! The constants of each partial round are moved past the matrix, until one for element 0 is left (as in `poseidon.rs`). Width 17 is
//! computed in a form that needs few constants. With the matrix `[[m, r], [c, M]]`, a partial round takes element 0 through the S-box to
//! `s` and the other elements `x` to `c·s + M·x`, and what comes into the next S-box is `m·s + r·x`. In the coordinates `z_j = r·M^j·x`
//! that is `z_j ← z_{j+1} + b_j·s` with `b_j = r·M^j·c`, and for the last one `z_15 ← Σ a_j·z_j + b_15·s` with `M^16 = Σ a_j·M^j`: the same
//! 33 numbers in every round. The matrix of the full round before also goes to these coordinates, and a last matrix comes back.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, BigInteger, Field, PrimeField};
use millstream_voucher::poseidon::{Tag, Width, parameters};

type Matrix = Vec<Vec<Fr>>;

/// The words of a width, in the order in which Solidity looks for them.
fn table(width: Width) -> Vec<Fr> {
    let (full, partial) = pushed_constants(width);
    let mds = &parameters(width).mds;
    let mut words = mds.concat();
    if width == Width::W17 {
        let recurrence = Recurrence::new(mds);
        words.extend(recurrence.entry.concat());
        words.extend(recurrence.exit.concat());
        words.extend(recurrence.taps);
    }
    words.extend(full.concat());
    words.extend(partial);
    words
}

/// The constants of the full rounds, and one for each partial round.
fn pushed_constants(width: Width) -> (Matrix, Vec<Fr>) {
    let plain = parameters(width);
    let half = plain.full_rounds / 2;
    let (first, rest) = plain.round_constants.split_at(half);
    let (middle, last) = rest.split_at(plain.partial_rounds);
    let mut full = [first, last].concat();
    let mut pushed = vec![Fr::ZERO; width.elements()];
    let mut partial = Vec::new();
    for own in middle {
        let mut sum: Vec<Fr> = own.iter().zip(&pushed).map(|(own, pushed)| *own + pushed).collect();
        partial.push(std::mem::take(&mut sum[0]));
        pushed = plain.mds.iter().map(|row| dot(row, &sum)).collect();
    }
    full[half].iter_mut().zip(pushed).for_each(|(constant, pushed)| *constant += pushed);
    (full, partial)
}

/// The partial rounds as the module says.
struct Recurrence {
    entry: Matrix,
    exit: Matrix,
    /// `a_0, b_0 … a_15, b_15, m`.
    taps: Vec<Fr>,
}

impl Recurrence {
    fn new(mds: &Matrix) -> Self {
        let inner: Matrix = mds[1..].iter().map(|row| row[1..].to_vec()).collect();
        let column: Vec<Fr> = mds[1..].iter().map(|row| row[0]).collect();
        // r·M^j for j from 0 to 16; the last is a combination of those before.
        let powers: Vec<Vec<Fr>> =
            std::iter::successors(Some(mds[0][1..].to_vec()), |row| Some(times(row, &inner))).take(inner.len() + 1).collect();
        let (next, coordinates) = powers.split_last().expect("not empty");
        let back = inverse(&coordinates.to_vec());
        let feedback = times(next, &back);
        let inputs = coordinates.iter().map(|row| dot(row, &column));
        let mut taps: Vec<Fr> = feedback.iter().copied().zip(inputs).flat_map(|(a, b)| [a, b]).collect();
        taps.push(mds[0][0]);

        let entry = std::iter::once(mds[0].clone()).chain(coordinates.iter().map(|row| times(row, &mds[1..].to_vec()))).collect();
        let mut exit = vec![vec![Fr::ZERO; mds.len()]; mds.len()];
        exit[0][0] = Fr::ONE;
        for (row, back) in exit[1..].iter_mut().zip(back) {
            row[1..].copy_from_slice(&back);
        }
        Self { entry, exit, taps }
    }
}

fn dot(left: &[Fr], right: &[Fr]) -> Fr {
    left.iter().zip(right).map(|(left, right)| *left * right).sum()
}

/// `row · matrix`.
fn times(row: &[Fr], matrix: &Matrix) -> Vec<Fr> {
    (0..matrix[0].len()).map(|column| row.iter().zip(matrix).map(|(factor, row)| *factor * row[column]).sum()).collect()
}

/// Gauss-Jordan.
fn inverse(matrix: &Matrix) -> Matrix {
    let size = matrix.len();
    let unit = |row: usize| (0..size).map(move |column| if row == column { Fr::ONE } else { Fr::ZERO });
    let mut work: Matrix = matrix.iter().enumerate().map(|(row, values)| values.iter().copied().chain(unit(row)).collect()).collect();
    for pivot in 0..size {
        let found = (pivot..size).find(|row| work[*row][pivot] != Fr::ZERO).expect("r, r·M, r·M² … are independent");
        work.swap(pivot, found);
        let factor = work[pivot][pivot].inverse().expect("not zero");
        work[pivot].iter_mut().for_each(|value| *value *= factor);
        let scaled = work[pivot].clone();
        for (_, values) in work.iter_mut().enumerate().filter(|(row, _)| *row != pivot) {
            let factor = values[pivot];
            values.iter_mut().zip(&scaled).for_each(|(value, scaled)| *value -= factor * scaled);
        }
    }
    work.into_iter().map(|row| row[size..].to_vec()).collect()
}

/// What Solidity does with the words of width 17.
fn permute_wide(words: &[Fr], state: &[Fr]) -> Fr {
    let (matrices, rest) = words.split_at(3 * 17 * 17);
    let (taps, rest) = rest.split_at(33);
    let (full, partial) = rest.split_at(8 * 17);
    let multiply =
        |matrix: usize, state: &[Fr]| -> Vec<Fr> { matrices[matrix * 289..][..289].chunks(17).map(|row| dot(row, state)).collect() };
    let boxes = |round: usize, state: &[Fr]| -> Vec<Fr> {
        state.iter().zip(&full[17 * round..]).map(|(value, constant)| (*value + constant).pow([5u64])).collect()
    };
    let mut state = state.to_vec();
    for round in 0..4 {
        state = multiply(usize::from(round == 3), &boxes(round, &state));
    }
    for constant in partial {
        let s = (state[0] + constant).pow([5u64]);
        let fed: Fr = (0..16).map(|j| taps[2 * j] * state[1 + j]).sum();
        state[0] = taps[32] * s + state[1];
        for j in 0..16 {
            state[1 + j] = taps[2 * j + 1] * s + state.get(2 + j).copied().unwrap_or(fed);
        }
    }
    state = multiply(2, &state);
    for round in 4..8 {
        state = multiply(0, &boxes(round, &state));
    }
    state[0]
}

#[test]
fn the_form_of_width_17_is_the_same_permutation() {
    let words = table(Width::W17);
    for tag in [Tag::StaticNode, Tag::DynamicNode, Tag::Commitment] {
        let inputs: Vec<Fr> = (0..16u64).map(|i| -Fr::from(i * i + 3)).collect();
        let state: Vec<Fr> = std::iter::once(tag.to_field()).chain(inputs.iter().copied()).collect();
        assert_eq!(permute_wide(&words, &state), millstream_voucher::poseidon::hash(tag, &inputs));
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "blessing writes a file")]
fn the_tables_of_the_contracts() {
    let words: Vec<Fr> = [Width::W3, Width::W4, Width::W17].into_iter().flat_map(table).collect();
    // Each half with the byte before it is code of at most 24,576 bytes (EIP-170).
    let (first, second) = words.split_at(words.len() / 2);
    assert!(first.len() == second.len() && 32 * second.len() < 24_576);
    let literal = |words: &[Fr]| -> String {
        let hex = |word: &Fr| -> String { word.into_bigint().to_bytes_be().iter().map(|byte| format!("{byte:02x}")).collect() };
        let lines: Vec<String> = words.iter().map(|word| format!("hex\"{}\"", hex(word))).collect();
        format!("hex\"00\" {}", lines.join("\n        "))
    };
    let text = format!(
        "// SPDX-License-Identifier: Apache-2.0\n\
         // Written by crates/voucher/tests/solidity.rs, which also says what the words are.\n\
         pragma solidity ^0.8.28;\n\n\
         /// @title The constants of Poseidon of widths 3, 4 and 17, one after the other, in two halves that are code (`Poseidon`).\n\
         /// @dev Each half starts with a STOP.\n\
         library PoseidonTables {{\n    bytes internal constant FIRST = {};\n    bytes internal constant SECOND = {};\n}}\n",
        literal(first),
        literal(second)
    );
    if std::env::var_os("MILLSTREAM_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/src/PoseidonTables.sol");
        std::fs::write(path, text).expect("the file is writable");
        return;
    }
    let stored = include_str!("../../../contracts/src/PoseidonTables.sol");
    assert!(stored == text, "PoseidonTables.sol differs; MILLSTREAM_BLESS=1 rewrites it");
}
