//! BabyJubJub in the form of EIP-2494 (voucher spec, section Curve and keys), as a curve of arkworks.
//!
//! `168700·x² + y² = 1 + 168696·x²·y²` over the scalar field of BN254. Generic and not constant-time: secrets are handled elsewhere in
//! this crate.

// The derive below asks for a feature of the crate that defines it.
#![allow(unexpected_cfgs)]

use ark_bn254::Fr;
use ark_ec::models::CurveConfig;
use ark_ec::twisted_edwards::{Affine, MontCurveConfig, Projective, TECurveConfig};
use ark_ff::{Field, Fp256, MontBackend, MontConfig, MontFp, Zero};

/// The scalar field's constants: the prime order `l` of the subgroup.
#[derive(MontConfig)]
#[modulus = "2736030358979909402780800718157159386076813972158567259200215660948447373041"]
#[generator = "31"]
pub struct ScalarConfig;

/// An integer below `l`, the order of the subgroup.
pub type Scalar = Fp256<MontBackend<ScalarConfig, 4>>;

/// The curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BabyJubJub;

/// A point by its two coordinates.
pub type Point = Affine<BabyJubJub>;

/// A point in extended coordinates.
pub type ExtendedPoint = Projective<BabyJubJub>;

impl CurveConfig for BabyJubJub {
    type BaseField = Fr;
    type ScalarField = Scalar;

    const COFACTOR: &'static [u64] = &[8];
    const COFACTOR_INV: Scalar = MontFp!("2394026564107420727433200628387514462817212225638746351800188703329891451411");
}

/// The generator `B8` of the subgroup.
pub const GENERATOR: Point = Point::new_unchecked(
    MontFp!("5299619240641551281634865583518297030282874472190772894086521144482721001553"),
    MontFp!("16950150798460657717958625567821834550301663161624707787222815936182638968203"),
);

impl TECurveConfig for BabyJubJub {
    const COEFF_A: Fr = MontFp!("168700");
    const COEFF_D: Fr = MontFp!("168696");
    const GENERATOR: Point = GENERATOR;

    type MontCurveConfig = Self;
}

/// The birationally equivalent Montgomery curve `v² = u³ + 168698·u² + u`.
impl MontCurveConfig for BabyJubJub {
    const COEFF_A: Fr = MontFp!("168698");
    const COEFF_B: Fr = MontFp!("1");

    type TECurveConfig = Self;
}

/// The point `(x, y)` with `y` any of the two roots, or nothing when no point of the curve has this x-coordinate.
#[must_use]
pub fn lift_x(x: Fr) -> Option<Point> {
    let square = x.square();
    // The denominator has no root: d is not a square.
    let denominator = Fr::ONE - <BabyJubJub as TECurveConfig>::COEFF_D * square;
    let y = ((Fr::ONE - <BabyJubJub as TECurveConfig>::COEFF_A * square) * denominator.inverse()?).sqrt()?;
    Some(Point::new_unchecked(x, y))
}

/// The one point of the subgroup with this x-coordinate (spec V-6), or nothing when there is none.
///
/// The identity is the answer for zero.
#[must_use]
pub fn subgroup_point(x: Fr) -> Option<Point> {
    let point = lift_x(x)?;
    // The other point is -(point + (0, -1)), and (0, -1) has order two: times l, the one of the subgroup gives the identity and the
    // other one (0, -1).
    let in_subgroup = <BabyJubJub as TECurveConfig>::mul_affine(&point, &<Scalar as ark_ff::PrimeField>::MODULUS.0);
    let in_subgroup = Point::from(in_subgroup);
    if !in_subgroup.x.is_zero() {
        return None;
    }
    let y = if in_subgroup.y == Fr::ONE { point.y } else { -point.y };
    Some(Point::new_unchecked(x, y))
}

#[cfg(test)]
mod tests {
    use ark_ec::AffineRepr;
    use ark_ff::{AdditiveGroup, PrimeField};

    use super::*;

    #[test]
    fn the_generator_has_order_l() {
        assert!(GENERATOR.is_on_curve());
        assert!(GENERATOR.mul_bigint(Scalar::MODULUS).is_zero());
        assert!(!GENERATOR.is_zero());
        assert_eq!(BabyJubJub::COFACTOR_INV * Scalar::from(8u64), Scalar::ONE);
    }

    #[test]
    fn montgomery_coefficients_follow_from_the_edwards_ones() {
        let (a, d) = (<BabyJubJub as TECurveConfig>::COEFF_A, <BabyJubJub as TECurveConfig>::COEFF_D);
        let inverse = (a - d).inverse().expect("a is not d");
        assert_eq!(<BabyJubJub as MontCurveConfig>::COEFF_A, (a + d).double() * inverse);
        assert_eq!(<BabyJubJub as MontCurveConfig>::COEFF_B, Fr::from(4u64) * inverse);
    }

    #[test]
    fn the_point_of_an_x_coordinate_is_the_one_in_the_subgroup() {
        for scalar in 1..40u64 {
            let point = Point::from(GENERATOR.mul_bigint([scalar]));
            assert_eq!(subgroup_point(point.x), Some(point));
        }
        assert_eq!(subgroup_point(Fr::ZERO), Some(Point::zero()));
    }

    #[test]
    fn points_outside_the_subgroup_have_no_answer() {
        let (mut no_point, mut no_subgroup_point) = (0, 0);
        for x in 1..200u64 {
            match (lift_x(Fr::from(x)), subgroup_point(Fr::from(x))) {
                (None, found) => {
                    assert_eq!(found, None);
                    no_point += 1;
                }
                (Some(_), None) => no_subgroup_point += 1,
                (Some(_), Some(point)) => assert!(point.is_in_correct_subgroup_assuming_on_curve()),
            }
        }
        assert!(no_point > 0 && no_subgroup_point > 0);
    }
}
