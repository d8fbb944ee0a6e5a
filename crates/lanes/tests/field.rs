//! Lanes give what arkworks gives, on every unit, up to the bounds that the docs name.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, BigInt, BigInteger, Field, MontConfig, PrimeField, Zero};
use millstream_lanes::{Avx512Ifma, Constant, Kernel, LANES, Lanes, Modulus, Plain, Products, Unit, Vector};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Base;

impl Modulus for Base {
    const LIMBS: [u64; 4] = <ark_bn254::FrConfig as MontConfig<4>>::MODULUS.0;
}

type Rows = [[u64; 4]; LANES];

/// Runs a kernel on every unit there is, which must agree.
fn on_all<K: Kernel<Output: PartialEq + core::fmt::Debug> + Clone>(kernel: &K) -> K::Output {
    let plain = Plain.run(kernel.clone());
    if let Some(unit) = Avx512Ifma::detect() {
        assert_eq!(unit.run(kernel.clone()), plain);
    }
    plain
}

/// Everything that is computed of two residues in each lane, given in Montgomery form.
#[derive(Clone)]
struct Everything {
    left: Rows,
    right: Rows,
    known: [u64; 4],
    mask: u8,
}

impl Kernel for Everything {
    type Output = Vec<Rows>;

    #[inline(always)]
    fn run<V: Vector>(self, proof: V::Proof) -> Vec<Rows> {
        // Below 16·p as they come, and below 2·p.
        let [wide, other] = [&self.left, &self.right].map(|rows| Lanes::<V, Base>::from_montgomery(proof, rows.each_ref()));
        let known = Constant::from_montgomery(self.known);
        let one = Lanes::splat(proof, &Constant::from_montgomery(Fr::ONE.0.0));
        let [a, b] = [wide, other].map(|value| value.mul(proof, one));
        let quadruple = |value: Lanes<V, Base>| value.double(proof).double(proof);
        let mut sum = Products::zero(proof);
        sum.add_product(a, b);
        sum.add_constant_product(proof, wide, &known);
        sum.add(a);
        sum.add(Lanes::splat(proof, &known));
        [
            wide.mul(proof, one),
            a.add(proof, b),
            a.sub(proof, b),
            b.sub(proof, a).sub(proof, a),
            a.double(proof),
            a.mul(proof, b),
            // 16·4 and 8·8: as much as may be.
            wide.mul(proof, b.double(proof)),
            quadruple(a).mul(proof, quadruple(b)),
            quadruple(a).square(proof),
            a.square(proof),
            wide.mul_constant(proof, &known),
            sum.reduce(proof),
            Lanes::select(self.mask, a, b),
            a.sub_wide(proof, b.double(proof)),
            a.negate(proof),
            a.double(proof).negate_wide(proof),
            quadruple(a).reduced(proof),
            a.add(proof, a).sub_reduced(proof, b),
            a.sub_both_reduced(proof, b, b),
            Lanes::from_rows(proof, a.to_rows().each_ref()),
            Lanes::from_block(proof, &a.sub(proof, b).to_block()),
            Lanes::transposed(Lanes::transposed([a, b, wide, a, b, a, b, a]))[0],
        ]
        .map(|value| value.to_montgomery(proof))
        .to_vec()
    }
}

fn expected(a: Fr, b: Fr, known: Fr, set: bool) -> [Fr; 22] {
    let sixteen = Fr::from(16u64);
    [
        a,
        a + b,
        a - b,
        b - a - a,
        a + a,
        a * b,
        a * (b + b),
        sixteen * a * b,
        sixteen * a * a,
        a * a,
        a * known,
        a * b + a * known + a + known,
        if set { a } else { b },
        a - b - b,
        -a,
        -(a + a),
        a.double().double(),
        a + a - b,
        a - b - b,
        a,
        a - b,
        a,
    ]
}

fn check(left: [Fr; LANES], right: [Fr; LANES], known: Fr, mask: u8) {
    let rows = |values: [Fr; LANES]| values.map(|value| value.0.0);
    let found = on_all(&Everything { left: rows(left), right: rows(right), known: known.0.0, mask });
    for lane in 0..LANES {
        let expected = expected(left[lane], right[lane], known, mask >> lane & 1 == 1);
        for (number, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_eq!(found[lane], expected.0.0, "number {number} of {} and {} in lane {lane}", left[lane], right[lane]);
        }
    }
}

/// Residues whose Montgomery form is an edge: 0, 1, p - 1, limbs that are full or empty, and their neighbours.
fn edges() -> Vec<Fr> {
    let mut edges = vec![Fr::ZERO, Fr::ONE, -Fr::ONE];
    for bit in [1, 51, 52, 53, 103, 104, 105, 155, 156, 157, 207, 208, 209, 252, 253] {
        let mut limbs = [0u64; 4];
        limbs[bit / 64] = 1 << (bit % 64);
        let power = Fr::new_unchecked(BigInt(limbs));
        edges.extend([power, power - Fr::new_unchecked(BigInt([1, 0, 0, 0])), -power]);
    }
    edges.push(Fr::new_unchecked(BigInt([1, 0, 0, 0])));
    // The form p - 1.
    edges.push(-Fr::new_unchecked(BigInt([1, 0, 0, 0])));
    edges
}

#[test]
fn edges_agree_with_arkworks() {
    let edges = edges();
    for (index, known) in edges.iter().enumerate() {
        for start in 0..edges.len() {
            let left = core::array::from_fn(|lane| edges[(start + lane) % edges.len()]);
            check(left, [edges[start]; LANES], *known, index as u8);
        }
    }
}

/// The largest values that may go in: multiples of p less a little, made of the constant p - 1 by doubling.
#[derive(Clone)]
struct AtTheBounds;

impl Kernel for AtTheBounds {
    type Output = Vec<Rows>;

    #[inline(always)]
    fn run<V: Vector>(self, proof: V::Proof) -> Vec<Rows> {
        let known = Constant::<Base>::from_montgomery(largest().0.0);
        let value = Lanes::<V, Base>::splat(proof, &known);
        let zero = Lanes::splat(proof, &Constant::ZERO);
        let doubled = |times: usize| {
            let mut doubled = value;
            for _ in 0..times {
                doubled = doubled.double(proof);
            }
            doubled
        };
        let mut sum = Products::zero(proof);
        for _ in 0..64 {
            sum.add_constant_product(proof, value, &known);
        }
        for _ in 0..62 {
            sum.add(value);
        }
        [
            doubled(6).mul_constant(proof, &known).to_integers(proof),
            doubled(6).to_integers(proof),
            doubled(4).to_montgomery(proof),
            doubled(3).square(proof).to_integers(proof),
            doubled(5).mul(proof, doubled(1)).to_integers(proof),
            zero.sub(proof, doubled(1)).to_integers(proof),
            zero.sub(proof, zero).to_integers(proof),
            sum.reduce(proof).to_integers(proof),
        ]
        .to_vec()
    }
}

/// Reductions of `k·p + rest` for each `k` that may come, with a rest at either end; and which of them are zero.
#[derive(Clone)]
struct Reductions;

impl Kernel for Reductions {
    type Output = Vec<(Rows, Rows, Rows, u8)>;

    #[inline(always)]
    fn run<V: Vector>(self, proof: V::Proof) -> Vec<(Rows, Rows, Rows, u8)> {
        let row = |limbs: [u64; 4]| Lanes::<V, Base>::from_rows(proof, [&limbs; LANES]);
        let zero = Lanes::splat(proof, &Constant::ZERO);
        let prime = row(Base::LIMBS);
        let mut found = Vec::new();
        for rest in [zero, row([1, 0, 0, 0]), row([Base::LIMBS[0] - 1, Base::LIMBS[1], Base::LIMBS[2], Base::LIMBS[3]])] {
            let mut value = rest;
            for _ in 0..8 {
                // 4·p - 2·p - 0 and so on: limbs are as negative as they get.
                let least = zero.sub_both_reduced(proof, prime.add(proof, prime), prime.add(proof, prime));
                found.push((value.reduced(proof).to_rows(), value.to_integers(proof), least.to_rows(), value.zeros(proof)));
                value = value.add(proof, prime);
            }
        }
        found
    }
}

#[test]
fn reductions_give_less_than_twice_the_prime() {
    let twice = BigInt::<4>(Base::LIMBS) << 1;
    let found = on_all(&Reductions);
    assert_eq!(found.len(), 24);
    for (number, (reduced, integers, least, zeros)) in found.into_iter().enumerate() {
        assert_eq!(zeros, if number < 8 { 0xff } else { 0 });
        for (row, integer) in reduced.into_iter().zip(integers) {
            assert!(BigInt::<4>(row) < twice, "number {number}");
            // The row is the Montgomery form of what the integer is.
            let value = Fr::from_le_bytes_mod_order(&BigInt::<4>(row).to_bytes_le());
            assert_eq!(value, Fr::from_bigint(BigInt(integer)).expect("reduced") * Fr::from(2u64).pow([260]));
        }
        assert!(
            least
                .iter()
                .all(|row| BigInt::<4>(*row) < twice && Fr::from_le_bytes_mod_order(&BigInt::<4>(*row).to_bytes_le()).is_zero())
        );
    }
}

/// The residue whose form with R = 2^260 is p - 1, given with R = 2^256.
fn largest() -> Fr {
    -Fr::new_unchecked(BigInt([1, 0, 0, 0])) * Fr::from(16u64).inverse().expect("not zero")
}

#[test]
fn values_at_the_bounds_agree_with_arkworks() {
    let x = largest();
    let expected = [
        (x * x * Fr::from(64u64)).into_bigint(),
        (x * Fr::from(64u64)).into_bigint(),
        (x * Fr::from(16u64)).0,
        (x * x * Fr::from(64u64)).into_bigint(),
        (x * x * Fr::from(64u64)).into_bigint(),
        (-x.double()).into_bigint(),
        Fr::ZERO.into_bigint(),
        (x * x * Fr::from(64u64) + x * Fr::from(62u64)).into_bigint(),
    ];
    for (number, (found, expected)) in on_all(&AtTheBounds).into_iter().zip(expected).enumerate() {
        assert_eq!(found, [expected.0; LANES], "number {number}");
    }
}

#[derive(Clone)]
struct Integers(Rows);

impl Kernel for Integers {
    type Output = (Rows, Rows);

    #[inline(always)]
    fn run<V: Vector>(self, proof: V::Proof) -> (Rows, Rows) {
        let values = Lanes::<V, Base>::from_integers(proof, self.0.each_ref());
        (values.to_integers(proof), values.to_montgomery(proof))
    }
}

fn check_integers(rows: Rows) {
    let (integers, forms) = on_all(&Integers(rows));
    for lane in 0..LANES {
        let expected = Fr::from_le_bytes_mod_order(&BigInt(rows[lane]).to_bytes_le());
        assert_eq!(integers[lane], expected.into_bigint().0, "{:?}", rows[lane]);
        assert_eq!(forms[lane], expected.0.0, "{:?}", rows[lane]);
    }
}

#[test]
fn any_integer_below_two_to_the_256_is_reduced() {
    let [a, b, c, d] = Base::LIMBS;
    check_integers([
        [0; 4],
        [1, 0, 0, 0],
        [u64::MAX; 4],
        [a, b, c, d],
        [a - 1, b, c, d],
        [a + 1, b, c, d],
        [0, 0, 0, 1 << 63],
        [0, u64::MAX, 0, 5],
    ]);
}

#[test]
fn a_constant_is_what_its_form_says() {
    assert_eq!(Constant::<Base>::from_montgomery([0; 4]), Constant::ZERO);
    assert_ne!(Constant::<Base>::from_montgomery([1, 0, 0, 0]), Constant::ZERO);
}

fn element() -> impl Strategy<Value = Fr> {
    any::<[u64; 4]>().prop_map(|limbs| Fr::from_le_bytes_mod_order(&BigInt(limbs).to_bytes_le()))
}

proptest! {
    #[test]
    fn any_residues_agree_with_arkworks(
        left in proptest::array::uniform8(element()),
        right in proptest::array::uniform8(element()),
        known in element(),
        mask: u8,
    ) {
        check(left, right, known, mask);
    }

    #[test]
    fn any_integers_agree_with_arkworks(rows: [[u64; 4]; 8]) {
        check_integers(rows);
    }
}
