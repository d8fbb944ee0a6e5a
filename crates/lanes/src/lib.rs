//! Eight elements of a prime field at a time: what a check of eight vouchers, and a proof, computes with.
//!
//! Numbers have five limbs of 52 bits, the width that AVX-512 IFMA multiplies; limb `i` of eight numbers is one vector. A computation is a
//! [`Kernel`], written once over any [`Vector`], and run by a [`Unit`]: [`Avx512Ifma`] where the processor has it, [`Plain`] everywhere,
//! for tests.
//!
//! Beside it, [`sha256`]: sixteen short messages at a time, for the trees over frames and epochs.
//!
//! This crate knows no curve, no tree and no other crate of ours. Results depend on values only, times do not: there is no branch on a
//! value. **Invariant:** intrinsics are called in `avx512`, `sha256::wide` and `sha256::narrow` and nowhere else, and cannot be reached
//! where the processor lacks them.
//!
//! ```
//! use millstream_lanes::{Avx512Ifma, Kernel, Plain, Unit, Vector};
//!
//! struct Sum([u64; 8], [u64; 8]);
//!
//! impl Kernel for Sum {
//!     type Output = [u64; 8];
//!
//!     #[inline(always)]
//!     fn run<V: Vector>(self, proof: V::Proof) -> [u64; 8] {
//!         V::from_lanes(proof, self.0).add(V::from_lanes(proof, self.1)).to_lanes()
//!     }
//! }
//!
//! let sum = match Avx512Ifma::detect() {
//!     Some(unit) => unit.run(Sum([1; 8], [2; 8])),
//!     None => Plain.run(Sum([1; 8], [2; 8])),
//! };
//! assert_eq!(sum, [3; 8]);
//! ```

mod avx512;
mod field;
mod plain;
pub mod sha256;
mod vector;

pub use avx512::{Avx512Ifma, prefetch};
pub use field::{Block, Constant, Lanes, Modulus, Products, Row, negated_inverse, power_of_two};
pub use plain::Plain;
pub use vector::{Kernel, LANES, Unit, Vector};
