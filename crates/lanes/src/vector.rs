//! What a kernel is written over: a vector of eight integers of 64 bits, and who has such vectors.

/// Numbers in a vector.
pub const LANES: usize = 8;

/// Eight integers of 64 bits. Sums and differences are modulo 2^64.
pub trait Vector: Copy {
    /// That the processor has what the operations need. Vectors are made from it, so that each of them is a proof too.
    type Proof: Copy;

    /// The same integer in every lane.
    fn splat(proof: Self::Proof, value: u64) -> Self;

    /// One integer for each lane.
    fn from_lanes(proof: Self::Proof, values: [u64; LANES]) -> Self;

    /// Vector `i` has in lane `j` what `rows[j][i]` is.
    fn columns(proof: Self::Proof, rows: [&[u64; 4]; LANES]) -> [Self; 4];

    /// The integers, lane by lane.
    fn to_lanes(self) -> [u64; LANES];

    /// `rows[j][i]` is what vector `i` has in lane `j`: what [`Self::columns`] was made from.
    fn rows(columns: [Self; 4]) -> [[u64; 4]; LANES];

    /// Vector `i` of the result has in lane `j` what vector `j` has in lane `i`.
    #[must_use]
    fn transposed(square: [Self; LANES]) -> [Self; LANES];

    /// In each lane, the integer of the table's lane that the low three bits name.
    #[must_use]
    fn lookup(self, table: Self) -> Self;

    /// The sum.
    #[must_use]
    fn add(self, other: Self) -> Self;

    /// The difference.
    #[must_use]
    fn sub(self, other: Self) -> Self;

    /// The bits that both have.
    #[must_use]
    fn and(self, other: Self) -> Self;

    /// The bits that one of them has.
    #[must_use]
    fn or(self, other: Self) -> Self;

    /// Shifted towards the high end; `BITS` is below 64.
    #[must_use]
    fn shift_left<const BITS: u32>(self) -> Self;

    /// Shifted towards the low end, filled up with zeros; `BITS` is below 64.
    #[must_use]
    fn shift_right<const BITS: u32>(self) -> Self;

    /// Shifted towards the low end, filled up with the highest bit; `BITS` is below 64.
    #[must_use]
    fn shift_right_signed<const BITS: u32>(self) -> Self;

    /// `self` plus bits 0 to 51 of `left · right`, of which the low 52 bits count.
    #[must_use]
    fn multiply_add_low(self, left: Self, right: Self) -> Self;

    /// `self` plus bits 52 to 103 of `left · right`, of which the low 52 bits count.
    #[must_use]
    fn multiply_add_high(self, left: Self, right: Self) -> Self;

    /// `set` in the lanes whose bit of the mask is one (lane 0 is the lowest bit), `clear` in the others.
    #[must_use]
    fn select(mask: u8, set: Self, clear: Self) -> Self;
}

/// A computation over vectors.
///
/// `run`, and everything that it calls on vectors, is `#[inline(always)]`: code that is not inlined into a unit's `run` is compiled without
/// the unit's instructions and computes the same many times slower.
pub trait Kernel {
    /// What is computed.
    type Output;

    /// Computes it.
    fn run<V: Vector>(self, proof: V::Proof) -> Self::Output;
}

/// Something that computes with vectors.
pub trait Unit: Copy + Send + Sync {
    /// Runs a kernel on the calling thread.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;
}
