//! Vectors without vector instructions.

use core::array;

use crate::vector::{Kernel, LANES, Unit, Vector};

/// Computes one lane after the other, on every processor: the same results as any other unit, and slower than doing without lanes. For
/// tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Unit for Plain {
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run::<PlainVector>(())
    }
}

#[derive(Clone, Copy)]
struct PlainVector([u64; LANES]);

const LOW_52: u64 = (1 << 52) - 1;

fn product(left: u64, right: u64) -> u128 {
    u128::from(left & LOW_52) * u128::from(right & LOW_52)
}

impl PlainVector {
    fn with(self, other: Self, operation: impl Fn(u64, u64) -> u64) -> Self {
        Self(array::from_fn(|lane| operation(self.0[lane], other.0[lane])))
    }
}

impl Vector for PlainVector {
    type Proof = ();

    fn splat(_: (), value: u64) -> Self {
        Self([value; LANES])
    }

    fn from_lanes(_: (), values: [u64; LANES]) -> Self {
        Self(values)
    }

    fn columns(_: (), rows: [&[u64; 4]; LANES]) -> [Self; 4] {
        array::from_fn(|limb| Self(rows.map(|row| row[limb])))
    }

    fn to_lanes(self) -> [u64; LANES] {
        self.0
    }

    fn rows(columns: [Self; 4]) -> [[u64; 4]; LANES] {
        array::from_fn(|lane| columns.map(|column| column.0[lane]))
    }

    fn transposed(square: [Self; LANES]) -> [Self; LANES] {
        array::from_fn(|lane| Self(square.map(|vector| vector.0[lane])))
    }

    fn lookup(self, table: Self) -> Self {
        Self(self.0.map(|index| table.0[(index % LANES as u64) as usize]))
    }

    fn add(self, other: Self) -> Self {
        self.with(other, u64::wrapping_add)
    }

    fn sub(self, other: Self) -> Self {
        self.with(other, u64::wrapping_sub)
    }

    fn and(self, other: Self) -> Self {
        self.with(other, |left, right| left & right)
    }

    fn or(self, other: Self) -> Self {
        self.with(other, |left, right| left | right)
    }

    fn shift_left<const BITS: u32>(self) -> Self {
        Self(self.0.map(|value| value << BITS))
    }

    fn shift_right<const BITS: u32>(self) -> Self {
        Self(self.0.map(|value| value >> BITS))
    }

    fn shift_right_signed<const BITS: u32>(self) -> Self {
        Self(self.0.map(|value| (value.cast_signed() >> BITS).cast_unsigned()))
    }

    fn multiply_add_low(self, left: Self, right: Self) -> Self {
        self.add(left.with(right, |left, right| product(left, right) as u64 & LOW_52))
    }

    fn multiply_add_high(self, left: Self, right: Self) -> Self {
        self.add(left.with(right, |left, right| (product(left, right) >> 52) as u64))
    }

    fn select(mask: u8, set: Self, clear: Self) -> Self {
        Self(array::from_fn(|lane| if mask >> lane & 1 == 1 { set.0[lane] } else { clear.0[lane] }))
    }
}
