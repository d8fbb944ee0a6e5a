//! Poseidon over the scalar field of BN254 with circomlib's constants (voucher spec, section Poseidon).
//!
//! The permutation is computed in the form of the paper's appendix B: in the partial rounds the constants of the untouched elements are
//! moved past the linear layer, and the matrix is split so that each partial round multiplies by a sparse one. The unoptimised
//! permutation is the oracle of the tests.

use std::sync::OnceLock;

use ark_bn254::Fr;
use ark_crypto_primitives::sponge::poseidon::find_poseidon_ark_and_mds;
use ark_ff::{AdditiveGroup, Field, PrimeField};

/// What a hash is for; the tag is the first element of the state, so hashes of different kinds never meet.
///
/// As a field element a tag is the integer whose big-endian bytes are its ASCII string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tag {
    /// The challenge of a voucher's signature: width 5.
    Voucher,
    /// A leaf of a book's static tree: width 4.
    StaticLeaf,
    /// A node of a book's static tree: width 17.
    StaticNode,
    /// A node of a book's dynamic tree: width 17.
    DynamicNode,
    /// The root of a book: width 3.
    Book,
    /// A node of the commitment to the data of a proof: width 17.
    Commitment,
}

impl Tag {
    /// Every tag.
    pub const ALL: [Self; 6] = [Self::Voucher, Self::StaticLeaf, Self::StaticNode, Self::DynamicNode, Self::Book, Self::Commitment];

    /// The ASCII string that the tag is read from; at most 31 bytes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Voucher => "millstream.voucher",
            Self::StaticLeaf => "millstream.static.leaf",
            Self::StaticNode => "millstream.static.node",
            Self::DynamicNode => "millstream.dynamic.node",
            Self::Book => "millstream.book",
            Self::Commitment => "millstream.commitment",
        }
    }

    /// The width that hashes with this tag have.
    #[must_use]
    pub const fn width(self) -> Width {
        match self {
            Self::Voucher => Width::W5,
            Self::StaticLeaf => Width::W4,
            Self::StaticNode | Self::DynamicNode | Self::Commitment => Width::W17,
            Self::Book => Width::W3,
        }
    }

    /// The tag as a field element.
    #[must_use]
    pub fn to_field(self) -> Fr {
        Fr::from_be_bytes_mod_order(self.as_str().as_bytes())
    }
}

/// The number of elements of the permuted state: one tag and `width - 1` inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// Three elements.
    W3,
    /// Four elements.
    W4,
    /// Five elements.
    W5,
    /// Seventeen elements.
    W17,
}

impl Width {
    /// Every width.
    pub const ALL: [Self; 4] = [Self::W3, Self::W4, Self::W5, Self::W17];

    /// The number of elements.
    #[must_use]
    pub const fn elements(self) -> usize {
        match self {
            Self::W3 => 3,
            Self::W4 => 4,
            Self::W5 => 5,
            Self::W17 => 17,
        }
    }

    /// The number of inputs to a hash: one less than there are elements.
    #[must_use]
    pub const fn inputs(self) -> usize {
        self.elements() - 1
    }

    const fn partial_rounds(self) -> usize {
        match self {
            Self::W3 => 57,
            Self::W4 => 56,
            Self::W5 => 60,
            Self::W17 => 68,
        }
    }
}

/// Full rounds of every width: half before the partial rounds, half after.
pub const FULL_ROUNDS: usize = 8;

/// The constants of one width, in their plain form: what a circuit is built from.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// Rounds in which every element passes the S-box; half of them come first, half last.
    pub full_rounds: usize,
    /// Rounds in between, in which only element 0 passes the S-box.
    pub partial_rounds: usize,
    /// `round_constants[r][i]` is added to element `i` at the start of round `r`.
    pub round_constants: Vec<Vec<Fr>>,
    /// The matrix: after the S-boxes element `i` becomes the sum over `j` of `mds[i][j] · element j`.
    pub mds: Vec<Vec<Fr>>,
}

/// The constants of a width, generated once.
#[must_use]
pub fn parameters(width: Width) -> &'static Parameters {
    static PARAMETERS: [OnceLock<Parameters>; 4] = [const { OnceLock::new() }; 4];
    let index = match width {
        Width::W3 => 0,
        Width::W4 => 1,
        Width::W5 => 2,
        Width::W17 => 3,
    };
    PARAMETERS[index].get_or_init(|| {
        let partial_rounds = width.partial_rounds();
        let (round_constants, mds) =
            find_poseidon_ark_and_mds::<Fr>(u64::from(Fr::MODULUS_BIT_SIZE), width.inputs(), FULL_ROUNDS as u64, partial_rounds as u64, 0);
        Parameters { full_rounds: FULL_ROUNDS, partial_rounds, round_constants, mds }
    })
}

/// `P_t(tag; inputs)` of the spec: element 0 of the permuted `(tag, inputs…)`.
///
/// # Panics
/// When there are not as many inputs as the tag's width takes; the caller's types fix that number.
#[must_use]
pub fn hash(tag: Tag, inputs: &[Fr]) -> Fr {
    permute_first(tag.width(), tag.to_field(), inputs)
}

/// Element 0 of the permuted `(capacity, inputs…)`: what circomlibjs computes as `poseidon(inputs, capacity)`.
fn permute_first(width: Width, capacity: Fr, inputs: &[Fr]) -> Fr {
    static W3: OnceLock<Sparse<3>> = OnceLock::new();
    static W4: OnceLock<Sparse<4>> = OnceLock::new();
    static W5: OnceLock<Sparse<5>> = OnceLock::new();
    static W17: OnceLock<Sparse<17>> = OnceLock::new();
    match width {
        Width::W3 => W3.get_or_init(|| Sparse::new(width)).hash(capacity, inputs),
        Width::W4 => W4.get_or_init(|| Sparse::new(width)).hash(capacity, inputs),
        Width::W5 => W5.get_or_init(|| Sparse::new(width)).hash(capacity, inputs),
        Width::W17 => W17.get_or_init(|| Sparse::new(width)).hash(capacity, inputs),
    }
}

/// The constants of one width in the form that is fast to compute with.
struct Sparse<const T: usize> {
    /// Constants of the full rounds; what the partial rounds pushed on is in the first one after them.
    full_constants: [[Fr; T]; FULL_ROUNDS],
    /// One constant for element 0 of each partial round.
    partial_constants: Vec<Fr>,
    mds: [[Fr; T]; T],
    /// The matrix of the last full round before the partial ones: it carries the dense remainder of all sparse ones.
    entry: [[Fr; T]; T],
    layers: Vec<SparseLayer<T>>,
}

/// The matrix with this first row, this first column, and the identity elsewhere.
struct SparseLayer<const T: usize> {
    row: [Fr; T],
    /// Element 0 is not used: it is the row's.
    column: [Fr; T],
}

impl<const T: usize> Sparse<T> {
    fn new(width: Width) -> Self {
        let plain = parameters(width);
        let rows = |rows: &[Vec<Fr>]| -> [[Fr; T]; T] { core::array::from_fn(|i| core::array::from_fn(|j| rows[i][j])) };
        let mds = rows(&plain.mds);
        let half = FULL_ROUNDS / 2;
        let constants = |round: usize| -> [Fr; T] { core::array::from_fn(|i| plain.round_constants[round][i]) };

        // Only element 0 passes the S-box of a partial round, so what is added to the others may be added after the matrix instead.
        let mut pushed = [Fr::ZERO; T];
        let mut partial_constants = Vec::with_capacity(plain.partial_rounds);
        for round in half..half + plain.partial_rounds {
            let own = constants(round);
            let mut sum: [Fr; T] = core::array::from_fn(|i| own[i] + pushed[i]);
            partial_constants.push(sum[0]);
            sum[0] = Fr::ZERO;
            pushed = multiply(&mds, &sum);
        }
        let mut full_constants: [[Fr; T]; FULL_ROUNDS] =
            core::array::from_fn(|round| constants(if round < half { round } else { round + plain.partial_rounds }));
        for (constant, pushed) in full_constants[half].iter_mut().zip(pushed) {
            *constant += pushed;
        }

        // M = S·D with S sparse and D = diag(1, M̂). D commutes with the S-box of element 0, so it joins the matrix of the round before.
        let mut dense = mds;
        let mut layers = Vec::with_capacity(plain.partial_rounds);
        for _ in 0..plain.partial_rounds {
            let (layer, remainder) = split(&dense);
            layers.push(layer);
            dense = compose(&remainder, &mds);
        }
        layers.reverse();
        Self { full_constants, partial_constants, mds, entry: dense, layers }
    }

    fn hash(&self, capacity: Fr, inputs: &[Fr]) -> Fr {
        assert_eq!(inputs.len() + 1, T, "a hash of width {T} takes {} inputs", T - 1);
        let mut state: [Fr; T] = core::array::from_fn(|i| if i == 0 { capacity } else { inputs[i - 1] });
        self.permute(&mut state);
        state[0]
    }

    fn permute(&self, state: &mut [Fr; T]) {
        let half = FULL_ROUNDS / 2;
        for round in 0..half {
            self.full_s_boxes(state, round);
            *state = multiply(if round + 1 == half { &self.entry } else { &self.mds }, state);
        }
        for (constant, layer) in self.partial_constants.iter().zip(&self.layers) {
            state[0] = fifth_power(state[0] + constant);
            let first = Fr::sum_of_products(&layer.row, state);
            let factor = state[0];
            for (element, column) in state.iter_mut().zip(&layer.column).skip(1) {
                *element += factor * column;
            }
            state[0] = first;
        }
        for round in half..FULL_ROUNDS {
            self.full_s_boxes(state, round);
            *state = multiply(&self.mds, state);
        }
    }

    fn full_s_boxes(&self, state: &mut [Fr; T], round: usize) {
        for (element, constant) in state.iter_mut().zip(&self.full_constants[round]) {
            *element = fifth_power(*element + constant);
        }
    }
}

fn fifth_power(x: Fr) -> Fr {
    x.square().square() * x
}

fn multiply<const T: usize>(matrix: &[[Fr; T]; T], vector: &[Fr; T]) -> [Fr; T] {
    core::array::from_fn(|i| Fr::sum_of_products(&matrix[i], vector))
}

/// `diag(1, block) · matrix`, `block` being `remainder` without its first row and column.
fn compose<const T: usize>(remainder: &[[Fr; T]; T], matrix: &[[Fr; T]; T]) -> [[Fr; T]; T] {
    core::array::from_fn(|i| {
        core::array::from_fn(|j| match i {
            0 => matrix[0][j],
            _ => (1..T).map(|k| remainder[i][k] * matrix[k][j]).sum(),
        })
    })
}

/// Splits `matrix` into a sparse layer and the block that is applied before it.
///
/// The layer's column is the matrix's own. Its row is `(m_00, v·M̂⁻¹)` with `v` the rest of the first row and `M̂` the block.
fn split<const T: usize>(matrix: &[[Fr; T]; T]) -> (SparseLayer<T>, [[Fr; T]; T]) {
    let row_tail = solve_left(matrix);
    let row = core::array::from_fn(|j| if j == 0 { matrix[0][0] } else { row_tail[j] });
    let column = core::array::from_fn(|i| matrix[i][0]);
    (SparseLayer { row, column }, *matrix)
}

/// The `x` with `x·M̂ = v`, for `v` the first row of the matrix and `M̂` its block, both without index 0. Gauss-Jordan on the
/// transposed system; the block of an MDS matrix is invertible, and so is a product of such blocks.
pub(crate) fn solve_left<const T: usize>(matrix: &[[Fr; T]; T]) -> [Fr; T] {
    // Row i of the system is column i of the block, with v_i as its right side in place 0.
    let mut system: [[Fr; T]; T] = core::array::from_fn(|i| core::array::from_fn(|j| matrix[j][i]));
    for pivot in 1..T {
        let row = (pivot..T).find(|&row| system[row][pivot] != Fr::ZERO);
        let row = row.expect("the block of an MDS matrix is invertible");
        system.swap(pivot, row);
        let inverse = system[pivot][pivot].inverse().expect("the pivot is not zero");
        let scaled = system[pivot].map(|value| value * inverse);
        for (index, row) in system.iter_mut().enumerate().skip(1) {
            if index != pivot {
                let factor = row[pivot];
                for (value, scaled) in row.iter_mut().zip(&scaled) {
                    *value -= factor * scaled;
                }
            }
        }
        system[pivot] = scaled;
    }
    core::array::from_fn(|i| system[i][0])
}

#[cfg(test)]
mod tests {
    use ark_ff::MontFp;

    use super::*;

    /// The permutation as the paper defines it.
    fn plain(width: Width, capacity: Fr, inputs: &[Fr]) -> Fr {
        let parameters = parameters(width);
        let mut state: Vec<Fr> = core::iter::once(capacity).chain(inputs.iter().copied()).collect();
        let rounds = parameters.full_rounds + parameters.partial_rounds;
        for (round, constants) in parameters.round_constants.iter().enumerate() {
            state.iter_mut().zip(constants).for_each(|(element, constant)| *element += constant);
            let full = round < parameters.full_rounds / 2 || round >= rounds - parameters.full_rounds / 2;
            let s_boxes = if full { width.elements() } else { 1 };
            state[..s_boxes].iter_mut().for_each(|element| *element = fifth_power(*element));
            state = parameters.mds.iter().map(|row| row.iter().zip(&state).map(|(m, x)| *m * x).sum()).collect();
        }
        state[0]
    }

    #[test]
    fn the_fast_permutation_is_the_plain_one() {
        for width in Width::ALL {
            for seed in 0..8u64 {
                let element = |i: u64| Fr::from(seed * 1_000 + i).pow([5 + seed]) - Fr::from(seed);
                let inputs: Vec<Fr> = (1..width.elements() as u64).map(element).collect();
                assert_eq!(permute_first(width, element(0), &inputs), plain(width, element(0), &inputs), "{width:?}, seed {seed}");
            }
        }
    }

    /// Answers of circomlibjs 0.1.7, `poseidon(inputs, initState)`.
    #[test]
    fn circomlib_agrees() {
        let small: Vec<Fr> = (1..17).map(Fr::from).collect();
        let large: Vec<Fr> = small.iter().map(|x| -*x).collect();
        let no_tag = permute_first(Width::W3, Fr::ZERO, &small[..2]);
        assert_eq!(no_tag, MontFp!("7853200120776062878684798364095072458815029376092732009249414926327459813530"));

        let check = |tag: Tag, of_small: Fr, of_large: Fr| {
            let inputs = tag.width().inputs();
            assert_eq!(hash(tag, &small[..inputs]), of_small, "{tag:?} of 1, 2, …");
            assert_eq!(hash(tag, &large[..inputs]), of_large, "{tag:?} of -1, -2, …");
        };
        check(
            Tag::Voucher,
            MontFp!("13531067342265384449938886364400588400139980776796128996178932198057929311935"),
            MontFp!("18019881774889876601884262980100251189021845326636789930076134155520270141012"),
        );
        check(
            Tag::StaticLeaf,
            MontFp!("8989027976785827874764318194475327285867914151086708547454146901985197385205"),
            MontFp!("15115028275284664187176127842330701742911132824594969657245572274592892538699"),
        );
        check(
            Tag::StaticNode,
            MontFp!("6400895009093860942323864817582022412839216501715584665708384057917011318496"),
            MontFp!("18390629806153220644796087461883424419830262626294015525184459661545882142171"),
        );
        check(
            Tag::DynamicNode,
            MontFp!("20060819125851658074235882736274461911910719758924185324238563589244634988861"),
            MontFp!("2318087503118420723431697488718650042046201235672690164759140590231865849323"),
        );
        check(
            Tag::Book,
            MontFp!("9982285336804853256222951475044605759173820343546124057388190559014437171243"),
            MontFp!("20055339967833177744875319416907411150426261508808625764320317023521273114549"),
        );
        check(
            Tag::Commitment,
            MontFp!("13901764277701555140673339160582706950137543360887877974362606154185077797324"),
            MontFp!("16020941174012386119301033125592783651584932223707056547376967234272525053742"),
        );
    }

    #[test]
    fn tags_are_distinct_and_fit() {
        let fields: std::collections::BTreeSet<Fr> = Tag::ALL.into_iter().map(Tag::to_field).collect();
        assert_eq!(fields.len(), Tag::ALL.len());
        assert!(Tag::ALL.into_iter().all(|tag| tag.as_str().len() <= 31));
    }

    #[test]
    #[should_panic(expected = "takes 4 inputs")]
    fn the_number_of_inputs_is_fixed() {
        let _ = hash(Tag::Voucher, &[Fr::ZERO; 3]);
    }
}
