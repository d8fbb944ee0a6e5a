//! Residues of a prime, eight at a time, in Montgomery form with `R = 2^260`.
//!
//! In memory a value below `4·p` is a [`Row`] of four limbs, and eight of them are rows anywhere or one [`Block`].
//!
//! Values are reduced lazily. The primes are below 2^254, so `R` is more than 64 times the prime `p`: a product of values below `a·p` and
//! `b·p` is below `(a·b/64 + 1)·p`, which is below `2·p` as long as `a·b ≤ 64`. Nothing else reduces, so each function says what it takes
//! and what it gives as a multiple of `p`. Every value has limbs below 2^52, which multiplication takes for granted.

use core::marker::PhantomData;

use crate::vector::{LANES, Vector};

/// An odd prime below 2^254.
pub trait Modulus: Copy + 'static {
    /// The prime, least significant limb first.
    const LIMBS: [u64; 4];
}

/// An integer below 2^256, least significant limb first. As a residue it is in this module's Montgomery form.
pub type Row = [u64; 4];

/// Eight rows turned on their side: limb `i` of each of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(align(64))]
pub struct Block(pub [[u64; LANES]; 4]);

/// Limbs of a number.
const LIMBS: usize = 5;
/// Bits of a limb.
const BITS: u32 = 52;
const MASK: u64 = (1 << BITS) - 1;

/// What follows from a modulus.
struct Derived<M>(PhantomData<M>);

impl<M: Modulus> Derived<M> {
    const PRIME: [u64; LIMBS] = {
        assert!(M::LIMBS[0] & 1 == 1 && M::LIMBS[3] >> 62 == 0, "an odd number below 2^254");
        split(M::LIMBS)
    };
    const TWICE_PRIME: [u64; LIMBS] = multiple(Self::PRIME, 2);
    const FOUR_PRIMES: [u64; LIMBS] = multiple(Self::PRIME, 4);
    /// `-prime⁻¹` modulo 2^52.
    const NEGATED_INVERSE: u64 = negated_inverse(M::LIMBS[0]) & MASK;
    /// `2^520` modulo the prime: times an integer, its Montgomery form.
    const R2: [u64; LIMBS] = split(power_of_two(520, M::LIMBS));
    /// `[i][k]` is limb `i` of `k` times the prime.
    const MULTIPLES: [[u64; LANES]; LIMBS] = {
        let mut multiples = [[0; LANES]; LIMBS];
        let mut times = 0;
        while times < LANES {
            let limbs = multiple(Self::PRIME, times as u64);
            let mut i = 0;
            while i < LIMBS {
                multiples[i][times] = limbs[i];
                i += 1;
            }
            times += 1;
        }
        multiples
    };
    /// Times the highest limb of a value, over 2^52: the prime's quotient, rounded down and a little below.
    const QUOTIENT_FACTOR: u64 = {
        assert!(M::LIMBS[3] >> 59 != 0, "a number from 2^251 on");
        (1 << BITS) / (Self::PRIME[LIMBS - 1] + 1) - 1
    };
}

/// A number times a small one, less than 2^260.
const fn multiple(limbs: [u64; LIMBS], times: u64) -> [u64; LIMBS] {
    let mut product = [0; LIMBS];
    let mut carry = 0;
    let mut i = 0;
    while i < LIMBS {
        let limb = limbs[i] * times + carry;
        product[i] = limb & MASK;
        carry = limb >> BITS;
        i += 1;
    }
    product
}

/// A number below 2^256 in limbs of 52 bits.
const fn split(value: [u64; 4]) -> [u64; LIMBS] {
    let [a, b, c, d] = value;
    [a & MASK, (a >> 52 | b << 12) & MASK, (b >> 40 | c << 24) & MASK, (c >> 28 | d << 36) & MASK, d >> 16]
}

/// `-odd⁻¹` modulo 2^64.
#[must_use]
pub const fn negated_inverse(odd: u64) -> u64 {
    // Newton's iteration doubles the number of right bits; an odd number is its own inverse modulo 8.
    let mut inverse = odd;
    let mut step = 0;
    while step < 5 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse.wrapping_neg()
}

/// `2^exponent` modulo a number above one and below 2^255, least significant limb first.
#[must_use]
pub const fn power_of_two(exponent: u32, modulus: [u64; 4]) -> [u64; 4] {
    shifted([1, 0, 0, 0], exponent, modulus)
}

/// `value · 2^bits` modulo a prime below 2^255, for a value below it.
const fn shifted(mut value: [u64; 4], bits: u32, modulus: [u64; 4]) -> [u64; 4] {
    let mut step = 0;
    while step < bits {
        let [a, b, c, d] = value;
        value = reduced_once([a << 1, b << 1 | a >> 63, c << 1 | b >> 63, d << 1 | c >> 63], modulus);
        step += 1;
    }
    value
}

/// The value, less the modulus if it is not below it.
const fn reduced_once(value: [u64; 4], modulus: [u64; 4]) -> [u64; 4] {
    let mut difference = [0; 4];
    let mut borrow = false;
    let mut i = 0;
    while i < 4 {
        let (without, first) = value[i].overflowing_sub(modulus[i]);
        let (limb, second) = without.overflowing_sub(borrow as u64);
        difference[i] = limb;
        borrow = first | second;
        i += 1;
    }
    if borrow { value } else { difference }
}

/// One known residue, the same for all lanes: below `1·p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant<M> {
    limbs: [u64; LIMBS],
    modulus: PhantomData<M>,
}

impl<M: Modulus> Constant<M> {
    /// Zero.
    pub const ZERO: Self = Self { limbs: [0; LIMBS], modulus: PhantomData };

    /// From `value · 2^256` modulo the prime, which is how fields of four limbs keep a value.
    #[must_use]
    pub const fn from_montgomery(limbs: [u64; 4]) -> Self {
        Self { limbs: split(shifted(limbs, 4, M::LIMBS)), modulus: PhantomData }
    }
}

/// Eight residues. The multiple of `p` that they are below follows from how they were made.
#[derive(Clone, Copy)]
pub struct Lanes<V, M> {
    limbs: [V; LIMBS],
    modulus: PhantomData<M>,
}

impl<V: Vector, M: Modulus> Lanes<V, M> {
    #[inline(always)]
    fn from_vectors(limbs: [V; LIMBS]) -> Self {
        Self { limbs, modulus: PhantomData }
    }

    /// The same residue in every lane. Gives less than `1·p`.
    #[inline(always)]
    pub fn splat(proof: V::Proof, constant: &Constant<M>) -> Self {
        Self::from_vectors(constants(proof, &constant.limbs))
    }

    /// From `value · 2^256` modulo the prime in each lane. Gives less than `16·p`, for rows below the prime: it costs a few shifts.
    #[inline(always)]
    pub fn from_montgomery(proof: V::Proof, rows: [&[u64; 4]; LANES]) -> Self {
        let [a, b, c, d] = V::columns(proof, rows);
        let mask = V::splat(proof, MASK);
        // The four bits between 2^256 and 2^260 are a shift.
        Self::from_vectors([
            a.shift_left::<4>().and(mask),
            a.shift_right::<48>().or(b.shift_left::<16>()).and(mask),
            b.shift_right::<36>().or(c.shift_left::<28>()).and(mask),
            c.shift_right::<24>().or(d.shift_left::<40>()).and(mask),
            d.shift_right::<12>(),
        ])
    }

    /// From an integer below 2^256 in each lane. Gives less than `2·p`.
    #[inline(always)]
    pub fn from_integers(proof: V::Proof, rows: [&[u64; 4]; LANES]) -> Self {
        // The integer may be a large multiple of the prime, but what counts is that it is below R.
        Self::from_rows(proof, rows).mul(proof, Self::from_vectors(constants(proof, &Derived::<M>::R2)))
    }

    /// From rows. The bound is theirs; a row that is `value · 2^256` modulo the prime is the value over 16, below `1·p`.
    #[inline(always)]
    pub fn from_rows(proof: V::Proof, rows: [&Row; LANES]) -> Self {
        Self::unpacked(proof, V::columns(proof, rows))
    }

    /// As [`Self::from_rows`].
    #[inline(always)]
    pub fn from_block(proof: V::Proof, block: &Block) -> Self {
        let mut columns = [V::splat(proof, 0); 4];
        for (column, limbs) in columns.iter_mut().zip(&block.0) {
            *column = V::from_lanes(proof, *limbs);
        }
        Self::unpacked(proof, columns)
    }

    /// The rows. Takes less than `4·p`.
    #[inline(always)]
    pub fn to_rows(self) -> [Row; LANES] {
        V::rows(self.packed())
    }

    /// The rows. Takes less than `4·p`.
    #[inline(always)]
    pub fn to_block(self) -> Block {
        let columns = self.packed();
        let mut block = Block::default();
        for (limbs, column) in block.0.iter_mut().zip(columns) {
            *limbs = column.to_lanes();
        }
        block
    }

    /// Limbs of 52 bits from limbs of 64.
    #[inline(always)]
    fn unpacked(proof: V::Proof, columns: [V; 4]) -> Self {
        let [a, b, c, d] = columns;
        let mask = V::splat(proof, MASK);
        Self::from_vectors([
            a.and(mask),
            a.shift_right::<52>().or(b.shift_left::<12>()).and(mask),
            b.shift_right::<40>().or(c.shift_left::<24>()).and(mask),
            c.shift_right::<28>().or(d.shift_left::<36>()).and(mask),
            d.shift_right::<16>(),
        ])
    }

    /// Limbs of 64 bits. Takes less than 2^256.
    #[inline(always)]
    fn packed(self) -> [V; 4] {
        let [a, b, c, d, e] = self.limbs;
        [
            a.or(b.shift_left::<52>()),
            b.shift_right::<12>().or(c.shift_left::<40>()),
            c.shift_right::<24>().or(d.shift_left::<28>()),
            d.shift_right::<36>().or(e.shift_left::<16>()),
        ]
    }

    /// Value `i` of the result has in lane `j` what value `j` has in lane `i`.
    #[inline(always)]
    #[must_use]
    pub fn transposed(square: [Self; LANES]) -> [Self; LANES] {
        let mut turned = square;
        for i in 0..LIMBS {
            let mut vectors = [square[0].limbs[i]; LANES];
            for (vector, value) in vectors.iter_mut().zip(&square) {
                *vector = value.limbs[i];
            }
            for (value, vector) in turned.iter_mut().zip(V::transposed(vectors)) {
                value.limbs[i] = vector;
            }
        }
        turned
    }

    /// `value · 2^256` modulo the prime in each lane, below the prime. Takes less than `16·p`.
    #[inline(always)]
    pub fn to_montgomery(self, proof: V::Proof) -> [[u64; 4]; LANES] {
        self.times_integer(proof, [0, 0, 0, 0, 1 << 48])
    }

    /// The integer in each lane, below the prime. Takes less than `64·p`.
    #[inline(always)]
    pub fn to_integers(self, proof: V::Proof) -> [[u64; 4]; LANES] {
        self.times_integer(proof, [1, 0, 0, 0, 0])
    }

    /// The values times an integer over `R`, reduced; the product is below `R·p`.
    #[inline(always)]
    fn times_integer(self, proof: V::Proof, integer: [u64; LIMBS]) -> [[u64; 4]; LANES] {
        let product = self.mul(proof, Self::from_vectors(constants(proof, &integer)));
        let [a, b, c, d, e] = product.limbs.map(V::to_lanes);
        let mut rows = [[0; 4]; LANES];
        for (lane, row) in rows.iter_mut().enumerate() {
            let value =
                [a[lane] | b[lane] << 52, b[lane] >> 12 | c[lane] << 40, c[lane] >> 24 | d[lane] << 28, d[lane] >> 36 | e[lane] << 16];
            // Below 2·p, as every product of values whose bounds are met.
            *row = reduced_once(value, M::LIMBS);
        }
        rows
    }

    /// The sum. Takes less than `a·p` and `b·p`, gives less than `(a + b)·p`; that must be at most `64·p`.
    #[inline(always)]
    #[must_use]
    pub fn add(self, proof: V::Proof, other: Self) -> Self {
        let mut limbs = self.limbs;
        for (limb, other) in limbs.iter_mut().zip(other.limbs) {
            *limb = limb.add(other);
        }
        Self::carried(proof, limbs)
    }

    /// Twice the value. Takes less than `a·p`, gives less than `2·a·p`; that must be at most `64·p`.
    #[inline(always)]
    #[must_use]
    pub fn double(self, proof: V::Proof) -> Self {
        self.add(proof, self)
    }

    /// The difference. Takes less than `a·p` and less than `2·p`, gives less than `(a + 2)·p`; that must be at most `64·p`.
    #[inline(always)]
    #[must_use]
    pub fn sub(self, proof: V::Proof, other: Self) -> Self {
        Self::carried_signed(proof, self.less(proof, other, &Derived::<M>::TWICE_PRIME))
    }

    /// The difference. Takes less than `a·p` and less than `4·p`, gives less than `(a + 4)·p`; that must be at most `64·p`.
    #[inline(always)]
    #[must_use]
    pub fn sub_wide(self, proof: V::Proof, other: Self) -> Self {
        Self::carried_signed(proof, self.less(proof, other, &Derived::<M>::FOUR_PRIMES))
    }

    /// The negation. Takes up to `2·p`, gives up to `2·p`: of exact zero, `2·p`.
    #[inline(always)]
    #[must_use]
    pub fn negate(self, proof: V::Proof) -> Self {
        Self::splat(proof, &Constant::ZERO).sub(proof, self)
    }

    /// The negation. Takes up to `4·p`, gives up to `4·p`: of exact zero, `4·p`.
    #[inline(always)]
    #[must_use]
    pub fn negate_wide(self, proof: V::Proof) -> Self {
        Self::splat(proof, &Constant::ZERO).sub_wide(proof, self)
    }

    /// The same residue. Takes less than `8·p`, gives less than `2·p`.
    #[inline(always)]
    #[must_use]
    pub fn reduced(self, proof: V::Proof) -> Self {
        Self::reduced_limbs(proof, self.limbs)
    }

    /// The difference. Takes less than `6·p` and up to `2·p`, gives less than `2·p`.
    #[inline(always)]
    #[must_use]
    pub fn sub_reduced(self, proof: V::Proof, other: Self) -> Self {
        Self::reduced_limbs(proof, self.less(proof, other, &Derived::<M>::TWICE_PRIME))
    }

    /// This less both. Takes less than `4·p` and twice up to `2·p`, gives less than `2·p`.
    #[inline(always)]
    #[must_use]
    pub fn sub_both_reduced(self, proof: V::Proof, first: Self, second: Self) -> Self {
        let mut limbs = self.less(proof, first, &Derived::<M>::FOUR_PRIMES);
        for (limb, other) in limbs.iter_mut().zip(second.limbs) {
            *limb = limb.sub(other);
        }
        Self::reduced_limbs(proof, limbs)
    }

    /// The lanes that are zero, as a mask (lane 0 is the lowest bit). Takes less than `8·p`.
    #[inline(always)]
    pub fn zeros(self, proof: V::Proof) -> u8 {
        let limbs = self.reduced(proof).limbs;
        let prime = constants::<V>(proof, &Derived::<M>::PRIME);
        // Below 2·p, zero is 0 or p. A difference is zero where limbs are equal.
        let (mut zero, mut equal) = (limbs[0], limbs[0].sub(prime[0]));
        for i in 1..LIMBS {
            zero = zero.or(limbs[i]);
            equal = equal.or(limbs[i].sub(prime[i]));
        }
        let (zero, equal) = (zero.to_lanes(), equal.to_lanes());
        let mut mask = 0;
        for lane in 0..LANES {
            mask |= u8::from(zero[lane] == 0 || equal[lane] == 0) << lane;
        }
        mask
    }

    /// This less the other plus a multiple of the prime, limb by limb. Limbs may be negative.
    #[inline(always)]
    fn less(self, proof: V::Proof, other: Self, multiple: &[u64; LIMBS]) -> [V; LIMBS] {
        let multiple = constants::<V>(proof, multiple);
        let mut limbs = self.limbs;
        for i in 0..LIMBS {
            limbs[i] = limbs[i].add(multiple[i]).sub(other.limbs[i]);
        }
        limbs
    }

    /// The residue of these limbs, below `2·p`. They may be negative down to `-3·2^52`; the number is not, and below `8·p`.
    #[inline(always)]
    fn reduced_limbs(proof: V::Proof, mut limbs: [V; LIMBS]) -> Self {
        // What the lower limbs borrow from the highest is at most 3, so with 4 on top it is not negative. The factor is low by one part in
        // 512 and more, which is more than those 4 add: the quotient is never too high. It is low by at most one part in 31, so of a value
        // below 8·p it leaves less than 1.3·p.
        let top = limbs[LIMBS - 1].add(V::splat(proof, 4));
        let quotient = V::splat(proof, 0).multiply_add_high(top, V::splat(proof, Derived::<M>::QUOTIENT_FACTOR));
        for (limb, multiples) in limbs.iter_mut().zip(&Derived::<M>::MULTIPLES) {
            *limb = limb.sub(quotient.lookup(V::from_lanes(proof, *multiples)));
        }
        Self::carried_signed(proof, limbs)
    }

    /// The product. Takes less than `a·p` and `b·p` with `a·b ≤ 64`, gives less than `2·p`.
    #[inline(always)]
    #[must_use]
    pub fn mul(self, proof: V::Proof, other: Self) -> Self {
        let mut sum = Products::zero(proof);
        sum.add_product(self, other);
        sum.reduce(proof)
    }

    /// The product with a known residue. Takes less than `64·p`, gives less than `2·p`.
    #[inline(always)]
    #[must_use]
    pub fn mul_constant(self, proof: V::Proof, constant: &Constant<M>) -> Self {
        self.mul(proof, Self::splat(proof, constant))
    }

    /// The square. Takes less than `8·p`, gives less than `2·p`.
    #[inline(always)]
    #[must_use]
    pub fn square(self, proof: V::Proof) -> Self {
        let limbs = self.limbs;
        let mut sum = [V::splat(proof, 0); 2 * LIMBS];
        for i in 0..LIMBS {
            for j in i + 1..LIMBS {
                sum[i + j] = sum[i + j].multiply_add_low(limbs[i], limbs[j]);
                sum[i + j + 1] = sum[i + j + 1].multiply_add_high(limbs[i], limbs[j]);
            }
        }
        for column in &mut sum {
            *column = column.add(*column);
        }
        for i in 0..LIMBS {
            sum[2 * i] = sum[2 * i].multiply_add_low(limbs[i], limbs[i]);
            sum[2 * i + 1] = sum[2 * i + 1].multiply_add_high(limbs[i], limbs[i]);
        }
        Products { sum, modulus: PhantomData }.reduce(proof)
    }

    /// `set` in the lanes whose bit of the mask is one (lane 0 is the lowest bit), `clear` in the others.
    #[inline(always)]
    #[must_use]
    pub fn select(mask: u8, set: Self, clear: Self) -> Self {
        let mut limbs = clear.limbs;
        for (limb, set) in limbs.iter_mut().zip(set.limbs) {
            *limb = V::select(mask, set, *limb);
        }
        Self::from_vectors(limbs)
    }

    /// The number of these limbs, which may be negative; the number is not.
    #[inline(always)]
    fn carried_signed(proof: V::Proof, mut limbs: [V; LIMBS]) -> Self {
        let mask = V::splat(proof, MASK);
        for i in 0..LIMBS - 1 {
            limbs[i + 1] = limbs[i + 1].add(limbs[i].shift_right_signed::<BITS>());
            limbs[i] = limbs[i].and(mask);
        }
        Self::from_vectors(limbs)
    }

    /// The number of these limbs, each below 2^63, and the number below 2^260.
    #[inline(always)]
    fn carried(proof: V::Proof, mut limbs: [V; LIMBS]) -> Self {
        let mask = V::splat(proof, MASK);
        for i in 0..LIMBS - 1 {
            limbs[i + 1] = limbs[i + 1].add(limbs[i].shift_right::<BITS>());
            limbs[i] = limbs[i].and(mask);
        }
        Self::from_vectors(limbs)
    }
}

#[inline(always)]
fn constants<V: Vector>(proof: V::Proof, limbs: &[u64; LIMBS]) -> [V; LIMBS] {
    let mut vectors = [V::splat(proof, 0); LIMBS];
    for (vector, limb) in vectors.iter_mut().zip(limbs) {
        *vector = V::splat(proof, *limb);
    }
    vectors
}

/// A sum of products that is reduced once. At most 100 products: each adds less than 2^56 to a column of 64 bits.
#[derive(Clone, Copy)]
pub struct Products<V, M> {
    sum: [V; 2 * LIMBS],
    modulus: PhantomData<M>,
}

impl<V: Vector, M: Modulus> Products<V, M> {
    /// The empty sum.
    #[inline(always)]
    pub fn zero(proof: V::Proof) -> Self {
        Self { sum: [V::splat(proof, 0); 2 * LIMBS], modulus: PhantomData }
    }

    /// Adds a product. The bounds `a·b` of all of them together are at most 64.
    #[inline(always)]
    pub fn add_product(&mut self, left: Lanes<V, M>, right: Lanes<V, M>) {
        for i in 0..LIMBS {
            for j in 0..LIMBS {
                self.sum[i + j] = self.sum[i + j].multiply_add_low(left.limbs[i], right.limbs[j]);
                self.sum[i + j + 1] = self.sum[i + j + 1].multiply_add_high(left.limbs[i], right.limbs[j]);
            }
        }
    }

    /// Adds a product with a known residue; its bound is the value's.
    #[inline(always)]
    pub fn add_constant_product(&mut self, proof: V::Proof, left: Lanes<V, M>, right: &Constant<M>) {
        self.add_product(left, Lanes::splat(proof, right));
    }

    /// Adds a value, at the cost of an addition. Its bound adds to the result's.
    #[inline(always)]
    pub fn add(&mut self, value: Lanes<V, M>) {
        for (column, limb) in self.sum[LIMBS..].iter_mut().zip(value.limbs) {
            *column = column.add(limb);
        }
    }

    /// The sum as a residue: below `2·p` and the bounds of the values that were added, together at most `64·p`.
    #[inline(always)]
    #[must_use]
    pub fn reduce(self, proof: V::Proof) -> Lanes<V, M> {
        let prime = constants::<V>(proof, &Derived::<M>::PRIME);
        let inverse = V::splat(proof, Derived::<M>::NEGATED_INVERSE);
        let (zero, mask) = (V::splat(proof, 0), V::splat(proof, MASK));
        let mut sum = self.sum;
        for i in 0..LIMBS {
            let factor = zero.multiply_add_low(sum[i], inverse);
            // The low product of the factor and the prime's lowest limb makes column i a multiple of 2^52: the next one, since it is
            // below 2^52. So it need not be computed.
            sum[i + 1] = sum[i + 1].add(sum[i].add(mask).shift_right::<BITS>());
            sum[i + 1] = sum[i + 1].multiply_add_high(factor, prime[0]);
            for j in 1..LIMBS {
                sum[i + j] = sum[i + j].multiply_add_low(factor, prime[j]);
                sum[i + j + 1] = sum[i + j + 1].multiply_add_high(factor, prime[j]);
            }
        }
        let [_, _, _, _, _, a, b, c, d, e] = sum;
        Lanes::carried(proof, [a, b, c, d, e])
    }
}
