//! Every unit computes the same of vectors, and what the docs say.

use millstream_lanes::{Avx512Ifma, Kernel, LANES, Plain, Unit, Vector};
use proptest::prelude::*;

#[derive(Clone)]
struct Everything {
    left: [u64; LANES],
    right: [u64; LANES],
    third: [u64; LANES],
    mask: u8,
}

impl Kernel for Everything {
    type Output = Vec<[u64; LANES]>;

    #[inline(always)]
    fn run<V: Vector>(self, proof: V::Proof) -> Vec<[u64; LANES]> {
        let [a, b, c] = [self.left, self.right, self.third].map(|values| V::from_lanes(proof, values));
        let rows: [[u64; 4]; LANES] = core::array::from_fn(|row| core::array::from_fn(|column| self.left[row] ^ column as u64));
        let mut vectors = vec![
            V::splat(proof, self.left[0]),
            a.add(b),
            a.sub(b),
            a.and(b),
            a.or(b),
            a.shift_left::<4>(),
            a.shift_right::<52>(),
            a.shift_right_signed::<52>(),
            c.multiply_add_low(a, b),
            c.multiply_add_high(a, b),
            V::select(self.mask, a, b),
        ];
        let columns = V::columns(proof, rows.each_ref());
        assert_eq!(V::rows(columns), rows);
        vectors.extend(columns);
        vectors.push(a.lookup(b));
        let square = [a, b, c, a.add(b), a.sub(b), a.and(b), a.or(b), b.sub(c)];
        let turned = V::transposed(square).map(V::to_lanes);
        for (i, vector) in square.into_iter().enumerate() {
            assert_eq!(vector.to_lanes(), turned.map(|lanes| lanes[i]));
        }
        vectors.into_iter().map(V::to_lanes).collect()
    }
}

fn expected(inputs: &Everything, lane: usize) -> Vec<u64> {
    let (a, b, c) = (inputs.left[lane], inputs.right[lane], inputs.third[lane]);
    let low_52 = (1u64 << 52) - 1;
    let product = u128::from(a & low_52) * u128::from(b & low_52);
    vec![
        inputs.left[0],
        a.wrapping_add(b),
        a.wrapping_sub(b),
        a & b,
        a | b,
        a << 4,
        a >> 52,
        ((a as i64) >> 52) as u64,
        c.wrapping_add(product as u64 & low_52),
        c.wrapping_add((product >> 52) as u64),
        if inputs.mask >> lane & 1 == 1 { a } else { b },
        a,
        a ^ 1,
        a ^ 2,
        a ^ 3,
        inputs.right[(a % 8) as usize],
    ]
}

fn check(inputs: &Everything) {
    let plain = Plain.run(inputs.clone());
    if let Some(unit) = Avx512Ifma::detect() {
        assert_eq!(unit.run(inputs.clone()), plain);
    }
    for lane in 0..LANES {
        assert_eq!(plain.iter().map(|vector| vector[lane]).collect::<Vec<_>>(), expected(inputs, lane), "lane {lane}");
    }
}

#[test]
fn edges() {
    let edges = [0, 1, u64::MAX, 1 << 63, (1 << 52) - 1, 1 << 52, (1 << 52) + 1, u64::MAX - 1];
    for turn in 0..LANES {
        let mut turned = edges;
        turned.rotate_left(turn);
        check(&Everything { left: edges, right: turned, third: [turned[0]; LANES], mask: 0x5c ^ turn as u8 });
    }
}

proptest! {
    #[test]
    fn any_vectors(left: [u64; 8], right: [u64; 8], third: [u64; 8], mask: u8) {
        check(&Everything { left, right, third, mask });
    }
}
