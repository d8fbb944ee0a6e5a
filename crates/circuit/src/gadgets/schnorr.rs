//! The voucher signature (V-7) in rows: 2,002 with the hash.

use ark_bn254::Fr;
use ark_ec::twisted_edwards::TECurveConfig;
use ark_ff::{Field, PrimeField};
use millstream_voucher::babyjubjub::{BabyJubJub, Point};
use millstream_voucher::poseidon::Tag;

use super::bits::{Unsigned, alloc_at_most};
use super::fixed_base::{Digits, generator_multiple};
use super::ladder::{CHALLENGE_BITS, challenge_multiple};
use super::montgomery::{Montgomery, to_montgomery};
use super::poseidon::hash;
use crate::cs::{Cs, Linear};

/// A signature as the circuit takes it: hints only.
#[derive(Clone, Debug, Default)]
pub(crate) struct SignatureHint {
    /// The signer's key, a point of the subgroup and not the identity.
    pub(crate) key: Point,
    /// `c`.
    pub(crate) challenge: u128,
    /// `S`.
    pub(crate) response: Digits,
}

/// What was signed.
pub(crate) struct Message<'a, L> {
    pub(crate) uid: &'a L,
    pub(crate) cumulative: &'a L,
    pub(crate) bill: &'a L,
}

/// Constrains that some `(c, S)` is a signature over the message, and returns the key's x-coordinate.
///
/// The key is constrained to be on the curve with a determined x-coordinate, and nothing else: the caller binds it. The point may be
/// either of the two with that x-coordinate, `A` or `T − A`; whoever can sign for one knows the discrete logarithm of both.
///
/// For a key `A` that the ledger accepted (V-5) an assignment exists exactly when V-7 holds for `(c, S)` with `A` or with `T − A`, but
/// for `S = 0` (`fixed_base.rs`) and hashes at the very top of the field (`constrain_challenge`).
pub(crate) fn signed_by<C: Cs>(cs: &mut C, hint: &SignatureHint, message: &Message<'_, C::L>) -> C::L {
    cs.group("key on the curve");
    let (key, u_squared) = Montgomery::alloc(cs, || to_montgomery(&hint.key).unwrap_or_default());
    cs.group("bits of the challenge");
    let challenge = Unsigned::alloc(cs, CHALLENGE_BITS, || hint.challenge);
    cs.group("multiple of the key");
    let key_multiple = challenge_multiple(cs, &key, &u_squared, &challenge.bits, (&hint.key, hint.challenge));
    // The ladder starts by doubling the key, which proves that its `v` is not zero, so its x-coordinate is determined.
    cs.group("x of the key");
    let key_x = key.edwards_x(cs);

    let base_multiple = generator_multiple(cs, &hint.response);
    cs.group("difference");
    let nonce_x = difference_x(cs, &base_multiple, &key_multiple);
    cs.group("hash of the voucher");
    let digest = hash(cs, Tag::Voucher, &[nonce_x, message.uid.clone(), message.cumulative.clone(), message.bill.clone()]);
    constrain_challenge(cs, &challenge.linear, &digest);
    key_x
}

/// The Edwards x-coordinate of `P − Q`: eight rows, complete.
///
/// `P = S·B8` and `Q = e·A` may well be equal: a signer can choose `k = 0`, and V-7 accepts that. Both have odd multiples of size below
/// `l` behind them, so they are neither the identity nor of order two, and the way to Edwards form is determined. The Edwards addition
/// law has no exceptional case on this curve, `a` being a square and `d` not.
fn difference_x<C: Cs>(cs: &mut C, p: &Montgomery<C::L>, q: &Montgomery<C::L>) -> C::L {
    let (px, py) = (p.edwards_x(cs), p.edwards_y(cs));
    let (qx, qy) = (q.edwards_x(cs), q.edwards_y(cs));
    let left = cs.product(&px, &qy);
    let right = cs.product(&py, &qx);
    let both = cs.product(&left, &right);
    let denominator = both.scaled(-<BabyJubJub as TECurveConfig>::COEFF_D).plus_constant(Fr::ONE);
    cs.quotient(&left.minus(&right), &denominator)
}

/// Constrains `c = digest mod 2^128` for a `c` of 128 bits: 127 rows.
///
/// `digest = c + 2^128·high` with `high ≤ ⌊p / 2^128⌋ − 1`, so the right side is below `p` and the equation holds over the integers: `c`
/// is the canonical one and no other. The price is that digests of `⌊p / 2^128⌋·2^128` and above cannot be proved. They are fewer than
/// one in `2^125`, and to find a message with one takes as many hashes, so no payer can make a voucher that only the native check takes.
fn constrain_challenge<C: Cs>(cs: &mut C, challenge: &C::L, digest: &C::L) {
    cs.group("bits above the challenge");
    let high = alloc_at_most(cs, HIGH_MODULUS - 1, || high_half(digest.value().into_bigint().0));
    cs.group("challenge");
    cs.equal(&high.scaled(Fr::from(2u64).pow([u64::from(CHALLENGE_BITS)])).plus(challenge), digest);
}

/// `⌊p / 2^128⌋`, 126 bits.
const HIGH_MODULUS: u128 = high_half(<Fr as PrimeField>::MODULUS.0);

const fn high_half(limbs: [u64; 4]) -> u128 {
    (limbs[3] as u128) << 64 | limbs[2] as u128
}

#[cfg(test)]
mod tests {
    use ark_ec::{AffineRepr, CurveGroup};
    use ark_ff::AdditiveGroup;
    use millstream_voucher::babyjubjub::{GENERATOR, Scalar};

    use super::*;
    use crate::cs::{Structure, Values};

    fn point(k: u64) -> Point {
        Point::from(GENERATOR.mul_bigint([k]))
    }

    #[test]
    fn the_difference_is_complete() {
        let check = |p: Point, q: Point| {
            let mut cs = Values::new();
            let [p_montgomery, q_montgomery] =
                [p, q].map(|point| Montgomery::alloc(&mut cs, || to_montgomery(&point).expect("not the identity")).0);
            assert_eq!(difference_x(&mut cs, &p_montgomery, &q_montgomery), (p - q).into_affine().x);
            assert_eq!(cs.broken_row, None);
        };
        check(point(5), point(9));
        check(point(5), point(5));
        check(point(5), -point(5));
        check(-point(7), point(3));
    }

    #[test]
    fn only_the_canonical_challenge_is_accepted() {
        let holds = |digest: Fr, challenge: u128| {
            let mut cs = Values::new();
            constrain_challenge(&mut cs, &Fr::from(challenge), &digest);
            cs.broken_row.is_none()
        };
        let low = |digest: Fr| {
            let limbs = digest.into_bigint().0;
            u128::from(limbs[1]) << 64 | u128::from(limbs[0])
        };
        let top = Fr::from(HIGH_MODULUS) * Fr::from(2u64).pow([128u64]);
        for digest in [Fr::ZERO, Fr::ONE, Fr::from(u128::MAX), top - Fr::ONE, top - Fr::from(u128::MAX)] {
            assert!(holds(digest, low(digest)));
            assert!(!holds(digest, low(digest) ^ 1));
        }
        // The other low half of the same residue, that of digest + p.
        let modulus_low = low(-Fr::ONE).wrapping_add(1);
        assert!(!holds(Fr::ONE, modulus_low.wrapping_add(1)));
        // The documented gap.
        assert!(!holds(top, low(top)));
    }

    #[test]
    fn a_nonce_of_zero_is_accepted_as_natively() {
        // k = 0: R is the identity, R.x is 0.
        let message = [Fr::from(1u64), Fr::from(2u64), Fr::from(3u64)];
        let digest = millstream_voucher::poseidon::hash(Tag::Voucher, &[Fr::ZERO, message[0], message[1], message[2]]);
        let limbs = digest.into_bigint().0;
        let challenge = u128::from(limbs[1]) << 64 | u128::from(limbs[0]);
        let e = Scalar::from(challenge) * Scalar::from(2u64) + Scalar::from(2u64).pow([128u64]) + Scalar::ONE;
        let secret = Scalar::from(77u64);
        let hint = SignatureHint { key: point(77), challenge, response: Digits::new(&(e * secret)).expect("not zero") };
        let mut cs = Values::new();
        let [uid, cumulative, bill] = message;
        let key_x = signed_by(&mut cs, &hint, &Message { uid: &uid, cumulative: &cumulative, bill: &bill });
        assert_eq!((key_x, cs.broken_row), (point(77).x, None));
    }

    #[test]
    fn rows_are_counted() {
        let structure = Structure::record(|cs| {
            let [uid, cumulative, bill] = [0; 3].map(|_| cs.alloc(|| Fr::ZERO));
            signed_by(cs, &SignatureHint::default(), &Message { uid: &uid, cumulative: &cumulative, bill: &bill });
        });
        let curve_and_key_x = 3 + 1;
        let ladder = 128 + 3 + 6 * 128;
        let base = 251 + 416;
        let (difference, hash, challenge) = (8, 297, 127);
        assert_eq!(structure.constraints(), curve_and_key_x + ladder + base + difference + hash + challenge);
    }
}
