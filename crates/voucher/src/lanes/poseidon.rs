//! The challenge hash, eight at a time.
//!
//! In the partial rounds only element 0 meets an S-box, so the other four are known from what went into the last four S-boxes and what came
//! out of the last five: with `y_k` and `x_k` for those, `y_k` is a fixed linear combination of `y_{k-4} … y_{k-1}` and `x_{k-5} … x_{k-1}`
//! plus a constant (Cayley-Hamilton, for the matrix with its first column erased, which is singular). A round is one dot product then,
//! and no matrix. Further, `y_k` is kept times a factor `a_k`, and with it `x_k` times `a_k^5`, chosen so that the coefficient of `x_{k-1}`
//! is one: of the nine products eight are left, and they do not wait for the S-box before.

use std::sync::OnceLock;

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};
use millstream_lanes::{Constant, LANES, Products, Vector};

use super::kernel::{Field8, Job};
use crate::poseidon::{self, FULL_ROUNDS, Tag, Width};
use crate::residue::{Base, Element};

/// Elements of the state.
const T: usize = 5;
/// Outputs of S-boxes in the recurrence; inputs are one less.
const ORDER: usize = T;
const HALF: usize = FULL_ROUNDS / 2;
const PARTIAL: usize = 60;
/// Places in the window over the last inputs and outputs: the next power of two.
const WINDOW: usize = 8;
/// Products of a combination but the one with the latest output.
const COMBINED: usize = 2 * (ORDER - 1);

type Known = Constant<Base>;
type State = [Fr; T];

/// A linear combination of inputs and outputs of earlier S-boxes.
struct Combination {
    /// Of the four latest inputs, oldest first.
    inputs: [Known; ORDER - 1],
    /// Of the five latest outputs, oldest first.
    outputs: [Known; ORDER],
    constant: Known,
}

/// A linear combination of the state, with the outputs since.
struct Prefix {
    state: [Known; T],
    /// All outputs since but the latest, whose coefficient is one.
    outputs: [Known; ORDER - 2],
    constant: Known,
}

/// The constants of the hash.
pub(super) struct Constants {
    /// Added to the inputs before the first S-boxes.
    inputs: [Known; T - 1],
    mds: [[Known; T]; T],
    /// Added after the matrix of full round `r`. The tag's part is in the first.
    first: [[Known; T]; HALF - 1],
    prefix: [Prefix; ORDER],
    middle: Vec<Combination>,
    /// The state after the partial rounds, with the next constants.
    leave: [Combination; T],
    /// Added after the matrices of the last full rounds but one.
    last: [[Known; T]; HALF - 1],
}

fn known(value: Fr) -> Known {
    Known::from_montgomery(*Element::from(value).montgomery_limbs())
}

fn fifth_power(x: Fr) -> Fr {
    x.square().square() * x
}

fn dot(left: &State, right: &State) -> Fr {
    left.iter().zip(right).map(|(left, right)| *left * right).sum()
}

fn row_times(row: &State, matrix: &[State; T]) -> State {
    core::array::from_fn(|j| (0..T).map(|i| row[i] * matrix[i][j]).sum())
}

/// The partial rounds as a linear system with the outputs of the S-boxes as its inputs: from state `u` and output `x` to
/// `erased·u + column·x + constants`.
struct System {
    erased: [State; T],
    column: State,
    /// `observed[i]`: element 0 of the state after `i` rounds, as a function of the state before, but for constants and outputs.
    observed: [State; ORDER],
    /// By round, those of the first partial round first; one more than there are partial rounds.
    constants: Vec<State>,
    /// Input and output of the S-box of each partial round are kept times these.
    factors: Vec<(Fr, Fr)>,
}

impl System {
    fn new(mds: &[State; T], constants: Vec<State>) -> Self {
        let erased = mds.map(|row| core::array::from_fn(|j| if j == 0 { Fr::ZERO } else { row[j] }));
        let column = mds.map(|row| row[0]);
        let mut observed = [[Fr::ONE, Fr::ZERO, Fr::ZERO, Fr::ZERO, Fr::ZERO]; ORDER];
        for i in 1..ORDER {
            observed[i] = row_times(&observed[i - 1], &erased);
        }
        let mut factor = Fr::ONE;
        let inverse = column[0].inverse().expect("an MDS matrix has no zero");
        let factors = (0..PARTIAL).map(|_| {
            let fifth = fifth_power(factor);
            (core::mem::replace(&mut factor, fifth * inverse), fifth)
        });
        let factors = factors.collect();
        Self { erased, column, observed, constants, factors }
    }

    /// What `rounds` rounds from round `from` on add to element 0 by their constants.
    fn constant(&self, from: usize, rounds: usize) -> Fr {
        (0..rounds).map(|j| dot(&self.observed[rounds - 1 - j], &self.constants[from + j + 1])).sum()
    }

    /// What the output of a round adds to element 0 after `rounds` more rounds.
    fn response(&self, rounds: usize) -> Fr {
        dot(&self.observed[rounds], &self.column)
    }

    /// Element `index` of the state five rounds after round `from`, by the inputs and outputs of the rounds between.
    fn after_five(&self, from: usize, index: usize) -> ([Fr; ORDER - 1], [Fr; ORDER], Fr) {
        // powers[j] is the row of the element in the j-th power of the erased matrix.
        let mut powers = [[Fr::ZERO; T]; ORDER + 1];
        powers[0][index] = Fr::ONE;
        for j in 1..=ORDER {
            powers[j] = row_times(&powers[j - 1], &self.erased);
        }
        let mut outputs: [Fr; ORDER] = core::array::from_fn(|j| dot(&powers[ORDER - 1 - j], &self.column));
        let mut constant = (0..ORDER).map(|j| dot(&powers[ORDER - 1 - j], &self.constants[from + j + 1])).sum();
        // What depends on the state is known from the four inputs after it.
        let mut system = self.observed;
        system[0] = powers[ORDER];
        let solution = poseidon::solve_left(&system);
        for (k, coefficient) in solution.iter().enumerate().skip(1) {
            for (j, output) in outputs.iter_mut().enumerate().take(k) {
                *output -= *coefficient * self.response(k - 1 - j);
            }
            constant -= *coefficient * self.constant(from, k);
        }
        (core::array::from_fn(|i| solution[i + 1]), outputs, constant)
    }

    /// The same, for values that are kept times their factors, giving one that is kept times `factor`.
    fn combination(&self, from: usize, index: usize, factor: Fr) -> Combination {
        let (inputs, outputs, constant) = self.after_five(from, index);
        let over =
            |value: Fr, divisor: Fr| known(factor * value * divisor.inverse().expect("factors are products of numbers that are not zero"));
        Combination {
            inputs: core::array::from_fn(|i| over(inputs[i], self.factors[from + 1 + i].0)),
            outputs: core::array::from_fn(|j| over(outputs[j], self.factors[from + j].1)),
            constant: known(factor * constant),
        }
    }

    /// The input of partial round `round`, one of the first five, from the state before the matrix that leads to the first.
    fn prefix(&self, round: usize, mds: &[State; T]) -> Prefix {
        let (factor, _) = self.factors[round];
        let state = row_times(&self.observed[round], mds);
        let constant = dot(&self.observed[round], &self.constants[0]) + self.constant(0, round);
        let mut outputs = [Known::ZERO; ORDER - 2];
        for (j, output) in outputs.iter_mut().enumerate().take(round.saturating_sub(1)) {
            let divisor = self.factors[j].1.inverse().expect("factors are products of numbers that are not zero");
            *output = known(factor * self.response(round - 1 - j) * divisor);
        }
        Prefix { state: state.map(|value| known(factor * value)), outputs, constant: known(factor * constant) }
    }
}

impl Constants {
    pub(super) fn shared() -> &'static Self {
        static CONSTANTS: OnceLock<Constants> = OnceLock::new();
        CONSTANTS.get_or_init(Self::new)
    }

    fn new() -> Self {
        let plain = poseidon::parameters(Width::W5);
        assert_eq!((plain.full_rounds, plain.partial_rounds), (FULL_ROUNDS, PARTIAL), "the rounds of width five");
        let mds: [State; T] = core::array::from_fn(|i| core::array::from_fn(|j| plain.mds[i][j]));
        let constants = |round: usize| -> State { core::array::from_fn(|i| plain.round_constants[round][i]) };
        let system = System::new(&mds, (HALF..=HALF + PARTIAL).map(constants).collect());

        let tag = fifth_power(Tag::Voucher.to_field() + constants(0)[0]);
        let mut first = [constants(1), constants(2), constants(3)];
        for (constant, row) in first[0].iter_mut().zip(&mds) {
            *constant += row[0] * tag;
        }
        let middle = (ORDER..PARTIAL).map(|round| system.combination(round - ORDER, 0, system.factors[round].0));
        Self {
            inputs: core::array::from_fn(|i| known(constants(0)[i + 1])),
            mds: mds.map(|row| row.map(known)),
            first: first.map(|row| row.map(known)),
            prefix: core::array::from_fn(|round| system.prefix(round, &mds)),
            middle: middle.collect(),
            leave: core::array::from_fn(|index| system.combination(PARTIAL - ORDER, index, Fr::ONE)),
            last: core::array::from_fn(|i| constants(HALF + PARTIAL + 1 + i).map(known)),
        }
    }

    /// `P_5(voucher; commitment_x, uid, cumulative, bill)`, below `2·p`. The x-coordinate is below `2·p`.
    ///
    /// Inputs of S-boxes are below `5·p`, so their squares may be taken, and their fifth powers are below `2·p`. A combination has at most
    /// four of the one and five of the other, `4·5 + 5·2 ≤ 64`, and so is below `2·p` before one output and one constant are added to it.
    #[inline(always)]
    pub(super) fn hash<V: Vector>(&self, proof: V::Proof, commitment_x: Field8<V>, jobs: &[Job<'_>; LANES]) -> Field8<V> {
        let mut state = [commitment_x; T];
        for input in 0..T - 2 {
            state[input + 2] = Field8::from_integers(proof, jobs.each_ref().map(|job| &job.message[input]));
        }
        // Element 0 is the tag's, whose part is in the constants after the matrix.
        for (element, constant) in state[1..].iter_mut().zip(&self.inputs) {
            *element = fifth(proof, element.add(proof, Field8::splat(proof, constant)));
        }
        state = self.times_matrix::<V, 1>(proof, &state, &self.first[0]);
        for constants in &self.first[1..] {
            full_s_boxes(proof, &mut state);
            state = self.times_matrix::<V, 0>(proof, &state, constants);
        }
        full_s_boxes(proof, &mut state);

        let mut inputs = [commitment_x; WINDOW];
        let mut outputs = [commitment_x; WINDOW];
        for (round, prefix) in self.prefix.iter().enumerate() {
            let mut sum = Products::zero(proof);
            for (element, coefficient) in state.iter().zip(&prefix.state) {
                sum.add_constant_product(proof, *element, coefficient);
            }
            for (output, coefficient) in outputs.iter().zip(&prefix.outputs).take(round.saturating_sub(1)) {
                sum.add_constant_product(proof, *output, coefficient);
            }
            sum.add(Field8::splat(proof, &prefix.constant));
            if round > 0 {
                sum.add(outputs[round - 1]);
            }
            inputs[round] = sum.reduce(proof);
            outputs[round] = fifth(proof, inputs[round]);
        }
        // A round's combination does not wait for the S-box before it, so the two are computed side by side.
        let mut next = Products::zero(proof);
        combine(proof, &mut next, &self.middle[0], ORDER, &inputs, &outputs, 0..COMBINED);
        for round in ORDER..PARTIAL {
            // Its coefficient is one.
            next.add(outputs[(round - 1) % WINDOW]);
            let input = next.reduce(proof);
            inputs[round % WINDOW] = input;
            let combination = self.middle.get(round - ORDER + 1).unwrap_or(&self.leave[0]);
            next = Products::zero(proof);
            let square = input.square(proof);
            combine(proof, &mut next, combination, round + 1, &inputs, &outputs, 0..3);
            let fourth = square.square(proof);
            combine(proof, &mut next, combination, round + 1, &inputs, &outputs, 3..6);
            outputs[round % WINDOW] = fourth.mul(proof, input);
            combine(proof, &mut next, combination, round + 1, &inputs, &outputs, 6..COMBINED);
        }
        for (index, (element, combination)) in state.iter_mut().zip(&self.leave).enumerate() {
            // The combination of element 0 is there already.
            if index > 0 {
                next = Products::zero(proof);
                combine(proof, &mut next, combination, PARTIAL, &inputs, &outputs, 0..COMBINED);
            }
            next.add_constant_product(proof, outputs[(PARTIAL - 1) % WINDOW], &combination.outputs[ORDER - 1]);
            *element = next.reduce(proof);
        }

        for constants in &self.last {
            full_s_boxes(proof, &mut state);
            state = self.times_matrix::<V, 0>(proof, &state, constants);
        }
        full_s_boxes(proof, &mut state);
        let mut sum = Products::zero(proof);
        for (element, coefficient) in state.iter().zip(&self.mds[0]) {
            sum.add_constant_product(proof, *element, coefficient);
        }
        sum.reduce(proof)
    }

    /// The matrix times the state from element `FROM` on, plus constants.
    #[inline(always)]
    fn times_matrix<V: Vector, const FROM: usize>(
        &self,
        proof: V::Proof,
        state: &[Field8<V>; T],
        constants: &[Known; T],
    ) -> [Field8<V>; T] {
        let mut product = *state;
        for ((element, row), constant) in product.iter_mut().zip(&self.mds).zip(constants) {
            let mut sum = Products::zero(proof);
            for j in FROM..T {
                sum.add_constant_product(proof, state[j], &row[j]);
            }
            sum.add(Field8::splat(proof, constant));
            *element = sum.reduce(proof);
        }
        product
    }
}

/// Adds some of the products of the combination for partial round `round`, and with the last of them its constant. The latest output is not
/// among them.
#[inline(always)]
fn combine<V: Vector>(
    proof: V::Proof,
    sum: &mut Products<V, Base>,
    combination: &Combination,
    round: usize,
    inputs: &[Field8<V>; WINDOW],
    outputs: &[Field8<V>; WINDOW],
    which: core::ops::Range<usize>,
) {
    let last = which.end == COMBINED;
    for i in which {
        if i < ORDER - 1 {
            sum.add_constant_product(proof, outputs[(round - ORDER + i) % WINDOW], &combination.outputs[i]);
        } else {
            sum.add_constant_product(proof, inputs[(round + i - COMBINED) % WINDOW], &combination.inputs[i - (ORDER - 1)]);
        }
    }
    if last {
        sum.add(Field8::splat(proof, &combination.constant));
    }
}

#[inline(always)]
fn full_s_boxes<V: Vector>(proof: V::Proof, state: &mut [Field8<V>; T]) {
    for element in state {
        *element = fifth(proof, *element);
    }
}

#[inline(always)]
fn fifth<V: Vector>(proof: V::Proof, x: Field8<V>) -> Field8<V> {
    x.square(proof).square(proof).mul(proof, x)
}
