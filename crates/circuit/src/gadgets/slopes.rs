//! Hints for chains of additions: all slopes of a chain with two inversions instead of one each.
//!
//! Nothing here constrains anything. A wrong slope breaks the row that takes it.

use ark_bn254::Fr;
use ark_ec::AffineRepr;
use ark_ff::{AdditiveGroup, batch_inversion};
use millstream_voucher::babyjubjub::{ExtendedPoint, Point};

/// The two slopes of one step `2P ± A = (P ± A) + P`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StepSlopes {
    pub(crate) first: Fr,
    pub(crate) second: Fr,
}

/// The slopes of `P ← 2P ± A` from `P = 2A`, with a plus for each set bit, in order.
pub(crate) fn ladder_slopes(key: &Point, signs: impl Iterator<Item = bool>) -> Vec<StepSlopes> {
    let negated = -*key;
    let mut accumulator = key.into_group().double();
    let (mut before, mut between, mut terms) = (Vec::new(), Vec::new(), Vec::new());
    for positive in signs {
        let sum = accumulator + if positive { key } else { &negated };
        terms.push(positive);
        before.push(accumulator);
        between.push(sum);
        accumulator += sum;
    }
    let steps = terms.len();
    let all: Vec<ExtendedPoint> = before.into_iter().chain(between).chain([key.into_group()]).collect();
    let coordinates = montgomery_coordinates(&all);
    let (before, rest) = coordinates.split_at(steps);
    let (between, key) = rest.split_at(steps);
    let (key_u, key_v) = key[0];

    let mut denominators: Vec<Fr> = before.iter().map(|(u, _)| key_u - u).collect();
    denominators.extend(before.iter().zip(between).map(|((u, _), (between_u, _))| *u - between_u));
    batch_inversion(&mut denominators);
    let (first, second) = denominators.split_at(steps);
    (0..steps)
        .map(|step| {
            let v = before[step].1;
            let first = (if terms[step] { key_v } else { -key_v } - v) * first[step];
            StepSlopes { first, second: v.double() * second[step] - first }
        })
        .collect()
}

/// The slopes of adding up the terms from left to right: one less than there are terms.
pub(crate) fn sum_slopes(terms: &[Point]) -> Vec<Fr> {
    let Some((first, rest)) = terms.split_first() else { return Vec::new() };
    let mut accumulator = first.into_group();
    let mut points = Vec::with_capacity(2 * rest.len());
    for term in rest {
        points.push(accumulator);
        accumulator += term;
    }
    points.extend(rest.iter().map(|term| term.into_group()));
    let coordinates = montgomery_coordinates(&points);
    let (sums, terms) = coordinates.split_at(rest.len());
    let mut slopes: Vec<Fr> = sums.iter().zip(terms).map(|(sum, term)| term.0 - sum.0).collect();
    batch_inversion(&mut slopes);
    for (slope, (sum, term)) in slopes.iter_mut().zip(sums.iter().zip(terms)) {
        *slope *= term.1 - sum.1;
    }
    slopes
}

/// Montgomery coordinates with one inversion; zeros for the identity and the point of order two.
fn montgomery_coordinates(points: &[ExtendedPoint]) -> Vec<(Fr, Fr)> {
    // u = (Z + Y)/(Z − Y) and v = u·Z/X.
    let mut inverses: Vec<Fr> = points.iter().map(|point| (point.z - point.y) * point.x).collect();
    batch_inversion(&mut inverses);
    points
        .iter()
        .zip(inverses)
        .map(|(point, inverse)| {
            let scale = (point.z + point.y) * inverse;
            (scale * point.x, scale * point.z)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use ark_ec::{CurveGroup, PrimeGroup};
    use millstream_voucher::babyjubjub::GENERATOR;

    use super::*;
    use crate::gadgets::montgomery::to_montgomery;

    #[test]
    fn coordinates_are_those_of_each_point() {
        let points: Vec<ExtendedPoint> = (1..20u64).map(|k| GENERATOR.into_group().mul_bigint([k])).collect();
        let expected: Vec<_> = points.iter().map(|point| to_montgomery(&point.into_affine())).collect();
        assert_eq!(montgomery_coordinates(&points).into_iter().map(Some).collect::<Vec<_>>(), expected);
        assert_eq!(montgomery_coordinates(&[ExtendedPoint::default()]), [(Fr::ZERO, Fr::ZERO)]);
    }
}
