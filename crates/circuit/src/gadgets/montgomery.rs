//! BabyJubJub in Montgomery form, where an addition is three rows, and the way back to Edwards form.
//!
//! The curve is `v² = u³ + 168698·u² + u`; `u = (1 + y)/(1 − y)`, `v = u/x`. Additions here are **incomplete**: they are sound only when
//! the two points are not equal, not opposite, and neither is the identity, and every caller argues that.

use ark_bn254::Fr;
use ark_ec::twisted_edwards::MontCurveConfig;
use ark_ff::Field;
use millstream_voucher::babyjubjub::{BabyJubJub, Point};

use crate::cs::{Cs, Linear};

/// `A` of the Montgomery form; `B` is one.
pub(crate) const COEFF_A: Fr = <BabyJubJub as MontCurveConfig>::COEFF_A;

/// A point that is not the identity.
#[derive(Clone, Debug)]
pub(crate) struct Montgomery<L> {
    pub(crate) u: L,
    pub(crate) v: L,
}

/// The Montgomery coordinates of an Edwards point, or nothing for the identity and the point of order two, which have none or `v = 0`.
pub(crate) fn to_montgomery(point: &Point) -> Option<(Fr, Fr)> {
    let u = (Fr::ONE + point.y) * (Fr::ONE - point.y).inverse()?;
    Some((u, u * point.x.inverse()?))
}

impl<L: Linear> Montgomery<L> {
    /// A new point **on the curve**, with `u²`: three rows. It may be of any order; it is not the identity, which has no `u`.
    pub(crate) fn alloc<C: Cs<L = L>>(cs: &mut C, hint: impl Fn() -> (Fr, Fr)) -> (Self, L) {
        let u = cs.alloc(|| hint().0);
        let v = cs.alloc(|| hint().1);
        let u_squared = cs.product(&u, &u);
        let v_squared = cs.product(&v, &v);
        cs.enforce(&u_squared.plus(&u.scaled(COEFF_A)).plus_constant(Fr::ONE), &u, &v_squared);
        (Self { u, v }, u_squared)
    }

    /// The sum, given the slope as a hint. Three rows, incomplete: see the module.
    pub(crate) fn add<C: Cs<L = L>>(&self, cs: &mut C, other: &Self, slope: impl FnOnce() -> Fr) -> Self {
        let slope = cs.quotient_hinted(&other.v.minus(&self.v), &other.u.minus(&self.u), slope);
        self.third_point(cs, &slope, &other.u)
    }

    /// Twice the point, given `u²`: three rows, the square having been one.
    ///
    /// The slope's denominator is `2v`. On the curve `v = 0` only at `u = 0` (the other factor `u² + A·u + 1` has no root), and there
    /// the numerator `3u² + 2A·u + 1` is one, so **no slope exists: doubling proves `v ≠ 0`**.
    pub(crate) fn double<C: Cs<L = L>>(&self, cs: &mut C, u_squared: &L) -> Self {
        let numerator = u_squared.scaled(Fr::from(3u64)).plus(&self.u.scaled(COEFF_A + COEFF_A)).plus_constant(Fr::ONE);
        let slope = cs.quotient(&numerator, &self.v.scaled(Fr::from(2u64)));
        self.third_point(cs, &slope, &self.u)
    }

    /// The sum of this point and one with `other_u`, given the slope of the line through them: two rows.
    fn third_point<C: Cs<L = L>>(&self, cs: &mut C, slope: &L, other_u: &L) -> Self {
        let u = third_u(cs, slope, &self.u, other_u);
        let v = self.third_v(cs, slope, &u);
        Self { u, v }
    }

    /// `v` of the sum, given its `u`: one row.
    pub(crate) fn third_v<C: Cs<L = L>>(&self, cs: &mut C, slope: &L, u: &L) -> L {
        let run = self.u.minus(u);
        let v = cs.alloc(|| slope.value() * run.value() - self.v.value());
        cs.enforce(&run, slope, &v.plus(&self.v));
        v
    }

    /// The Edwards x-coordinate `u/v`: one row. The caller argues `v ≠ 0`.
    pub(crate) fn edwards_x<C: Cs<L = L>>(&self, cs: &mut C) -> L {
        cs.quotient(&self.u, &self.v)
    }

    /// The Edwards y-coordinate `(u − 1)/(u + 1)`: one row.
    ///
    /// `u = −1` is on no point of the curve: there `v²` would be `168696`, the Edwards `d`, which is not a square.
    pub(crate) fn edwards_y<C: Cs<L = L>>(&self, cs: &mut C) -> L {
        cs.quotient(&self.u.plus_constant(-Fr::ONE), &self.u.plus_constant(Fr::ONE))
    }
}

/// `slope² − A − u₁ − u₂`: one row.
pub(crate) fn third_u<C: Cs>(cs: &mut C, slope: &C::L, first_u: &C::L, second_u: &C::L) -> C::L {
    let known = first_u.plus(second_u).plus_constant(COEFF_A);
    let u = cs.alloc(|| slope.value().square() - known.value());
    cs.enforce(slope, slope, &u.plus(&known));
    u
}

#[cfg(test)]
mod tests {
    use ark_ec::twisted_edwards::TECurveConfig;
    use ark_ec::{AffineRepr, CurveGroup};
    use ark_ff::LegendreSymbol;
    use millstream_voucher::babyjubjub::GENERATOR;

    use super::*;
    use crate::cs::Values;
    use crate::gadgets::slopes::sum_slopes;

    #[test]
    fn the_facts_that_the_soundness_arguments_use() {
        let (a, d) = (<BabyJubJub as TECurveConfig>::COEFF_A, <BabyJubJub as TECurveConfig>::COEFF_D);
        assert_eq!(a.legendre(), LegendreSymbol::QuadraticResidue, "the Edwards addition is complete");
        assert_eq!(d.legendre(), LegendreSymbol::QuadraticNonResidue, "the Edwards addition is complete; u is never -1");
        assert_eq!(COEFF_A - Fr::from(2u64), d, "v² at u = -1");
        let discriminant = COEFF_A.square() - Fr::from(4u64);
        assert_eq!(discriminant.legendre(), LegendreSymbol::QuadraticNonResidue, "v is zero at u = 0 only");
        assert_eq!(<BabyJubJub as MontCurveConfig>::COEFF_B, Fr::ONE);
    }

    #[test]
    fn sums_and_doubles_are_the_edwards_ones() {
        let point = |k: u64| Point::from(GENERATOR.mul_bigint([k]));
        let alloc = |cs: &mut Values, point: Point| Montgomery::alloc(cs, || to_montgomery(&point).expect("not the identity"));
        let edwards = |cs: &mut Values, point: &Montgomery<Fr>| Point::new_unchecked(point.edwards_x(cs), point.edwards_y(cs));
        let mut cs = Values::new();
        for k in 2..9 {
            let (first, square) = alloc(&mut cs, point(k));
            let (second, _) = alloc(&mut cs, point(k + 5));
            let slope = sum_slopes(&[point(k), point(k + 5)])[0];
            let sum = first.add(&mut cs, &second, || slope);
            assert_eq!(edwards(&mut cs, &sum), (point(k) + point(k + 5)).into_affine());
            let double = first.double(&mut cs, &square);
            assert_eq!(edwards(&mut cs, &double), point(2 * k));
        }
        assert_eq!(cs.broken_row, None);
    }

    #[test]
    fn the_point_of_order_two_cannot_be_doubled() {
        let mut cs = Values::new();
        let (point, square) = Montgomery::alloc(&mut cs, || (Fr::from(0u64), Fr::from(0u64)));
        assert_eq!(cs.broken_row, None, "it is on the curve");
        point.double(&mut cs, &square);
        assert!(cs.broken_row.is_some());
    }

    #[test]
    fn a_point_off_the_curve_is_refused() {
        let mut cs = Values::new();
        Montgomery::alloc(&mut cs, || (Fr::from(5u64), Fr::from(6u64)));
        assert!(cs.broken_row.is_some());
    }
}
