//! Vectors of AVX-512 with its 52-bit multiply-add (IFMA). With `sha256`, where `unsafe` is.

#[cfg(target_arch = "x86_64")]
pub use x86_64::{Avx512Ifma, prefetch};

#[cfg(not(target_arch = "x86_64"))]
pub use absent::{Avx512Ifma, prefetch};

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "intrinsics are called from functions that are inlined into one that has the features")]
mod x86_64 {
    use core::arch::x86_64::{
        __m256i, __m512i, _MM_HINT_T1, _mm_prefetch, _mm256_loadu_si256, _mm256_storeu_si256, _mm512_add_epi64, _mm512_and_si512,
        _mm512_castsi256_si512, _mm512_castsi512_si256, _mm512_extracti64x4_epi64, _mm512_inserti64x4, _mm512_loadu_si512,
        _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_mov_epi64, _mm512_or_si512, _mm512_permutex2var_epi64,
        _mm512_permutexvar_epi64, _mm512_set1_epi64, _mm512_setr_epi64, _mm512_shuffle_i64x2, _mm512_slli_epi64, _mm512_srai_epi64,
        _mm512_srli_epi64, _mm512_storeu_si512, _mm512_sub_epi64, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
    };

    use crate::vector::{Kernel, LANES, Unit, Vector};

    /// A processor with AVX-512 F and IFMA, which the system lets programs use. There is none without: only detection makes it.
    #[derive(Clone, Copy, Debug)]
    pub struct Avx512Ifma(());

    impl Avx512Ifma {
        /// This processor, if it has them.
        #[must_use]
        pub fn detect() -> Option<Self> {
            (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma")).then_some(Self(()))
        }
    }

    impl Unit for Avx512Ifma {
        fn run<K: Kernel>(self, kernel: K) -> K::Output {
            #[target_feature(enable = "avx512f,avx512ifma")]
            fn with_features<K: Kernel>(proof: Avx512Ifma, kernel: K) -> K::Output {
                kernel.run::<Vector512>(proof)
            }
            // SAFETY: `self` was made by `detect`, so the processor has both features.
            unsafe { with_features(self, kernel) }
        }
    }

    /// Asks for a value to be brought near the processor, because it is needed soon. Nothing depends on whether it is.
    #[inline(always)]
    pub fn prefetch<T>(value: &T) {
        const LINE: usize = 64;
        let start = core::ptr::from_ref(value).cast::<i8>();
        for offset in (0..size_of::<T>()).step_by(LINE) {
            // SAFETY: the instruction is in every x86-64, reads nothing that the program could see, and takes any address; this one is
            // inside the value.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(start.add(offset)) };
        }
    }

    /// Made from an [`Avx512Ifma`] or from other vectors, so where there is one there are the features.
    #[derive(Clone, Copy)]
    struct Vector512(__m512i);

    /// Calls an intrinsic that needs no more than AVX-512 F and IFMA. Used where a `Vector512` or an `Avx512Ifma` is at hand.
    macro_rules! call {
        ($intrinsic:expr) => {{
            // SAFETY: a `Vector512` or an `Avx512Ifma` exists, so `detect` has seen both features. The intrinsics that are called so
            // have no other requirement.
            unsafe { $intrinsic }
        }};
    }

    impl Vector for Vector512 {
        type Proof = Avx512Ifma;

        #[inline(always)]
        fn splat(_: Avx512Ifma, value: u64) -> Self {
            Self(call!(_mm512_set1_epi64(value.cast_signed())))
        }

        #[inline(always)]
        fn from_lanes(_: Avx512Ifma, values: [u64; LANES]) -> Self {
            // SAFETY: the features are there, and 64 bytes may be read.
            Self(unsafe { _mm512_loadu_si512(values.as_ptr().cast::<__m512i>()) })
        }

        #[inline(always)]
        fn columns(_: Avx512Ifma, rows: [&[u64; 4]; LANES]) -> [Self; 4] {
            let pair = |low: usize, high: usize| {
                let load = |row: &[u64; 4]| {
                    // SAFETY: the features, which contain AVX, are there, and 32 bytes may be read.
                    unsafe { _mm256_loadu_si256(row.as_ptr().cast::<__m256i>()) }
                };
                call!(_mm512_inserti64x4::<1>(_mm512_castsi256_si512(load(rows[low])), load(rows[high])))
            };
            // Rows 0 and 2 share a vector, and so on: after the shuffles the lanes are in order.
            let (even_low, odd_low, even_high, odd_high) = (pair(0, 2), pair(1, 3), pair(4, 6), pair(5, 7));
            let limbs_0_and_2 = call!((_mm512_unpacklo_epi64(even_low, odd_low), _mm512_unpacklo_epi64(even_high, odd_high)));
            let limbs_1_and_3 = call!((_mm512_unpackhi_epi64(even_low, odd_low), _mm512_unpackhi_epi64(even_high, odd_high)));
            [
                Self(call!(_mm512_shuffle_i64x2::<0b10_00_10_00>(limbs_0_and_2.0, limbs_0_and_2.1))),
                Self(call!(_mm512_shuffle_i64x2::<0b10_00_10_00>(limbs_1_and_3.0, limbs_1_and_3.1))),
                Self(call!(_mm512_shuffle_i64x2::<0b11_01_11_01>(limbs_0_and_2.0, limbs_0_and_2.1))),
                Self(call!(_mm512_shuffle_i64x2::<0b11_01_11_01>(limbs_1_and_3.0, limbs_1_and_3.1))),
            ]
        }

        #[inline(always)]
        fn to_lanes(self) -> [u64; LANES] {
            let mut values = [0u64; LANES];
            // SAFETY: the features are there, and 64 bytes may be written.
            unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast::<__m512i>(), self.0) };
            values
        }

        #[inline(always)]
        fn rows(columns: [Self; 4]) -> [[u64; 4]; LANES] {
            let [a, b, c, d] = columns;
            // Limbs 0 and 1, and 2 and 3, of the even rows and of the odd rows.
            let (even_low, even_high) = call!((_mm512_unpacklo_epi64(a.0, b.0), _mm512_unpacklo_epi64(c.0, d.0)));
            let (odd_low, odd_high) = call!((_mm512_unpackhi_epi64(a.0, b.0), _mm512_unpackhi_epi64(c.0, d.0)));
            let (first, second) = call!((_mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15)));
            let mut rows = [[0u64; 4]; LANES];
            let mut store = |low: usize, high: usize, pair: __m512i| {
                // SAFETY: the features, which contain AVX, are there, and 32 bytes may be written.
                unsafe {
                    _mm256_storeu_si256(rows[low].as_mut_ptr().cast::<__m256i>(), _mm512_castsi512_si256(pair));
                    _mm256_storeu_si256(rows[high].as_mut_ptr().cast::<__m256i>(), _mm512_extracti64x4_epi64::<1>(pair));
                }
            };
            store(0, 2, call!(_mm512_permutex2var_epi64(even_low, first, even_high)));
            store(4, 6, call!(_mm512_permutex2var_epi64(even_low, second, even_high)));
            store(1, 3, call!(_mm512_permutex2var_epi64(odd_low, first, odd_high)));
            store(5, 7, call!(_mm512_permutex2var_epi64(odd_low, second, odd_high)));
            rows
        }

        #[inline(always)]
        fn transposed(square: [Self; LANES]) -> [Self; LANES] {
            let [a, b, c, d, e, f, g, h] = square;
            // Pairs of lanes: of vectors 0 and 1 the even lanes, then the odd ones; and so on.
            let (even_0, odd_0) = call!((_mm512_unpacklo_epi64(a.0, b.0), _mm512_unpackhi_epi64(a.0, b.0)));
            let (even_2, odd_2) = call!((_mm512_unpacklo_epi64(c.0, d.0), _mm512_unpackhi_epi64(c.0, d.0)));
            let (even_4, odd_4) = call!((_mm512_unpacklo_epi64(e.0, f.0), _mm512_unpackhi_epi64(e.0, f.0)));
            let (even_6, odd_6) = call!((_mm512_unpacklo_epi64(g.0, h.0), _mm512_unpackhi_epi64(g.0, h.0)));
            // Lanes 0 and 4, then 2 and 6, of vectors 0 to 3 and of vectors 4 to 7; then lanes 1 and 5, 3 and 7.
            let halves =
                |x: __m512i, y: __m512i| call!((_mm512_shuffle_i64x2::<0b10_00_10_00>(x, y), _mm512_shuffle_i64x2::<0b11_01_11_01>(x, y)));
            let ((lanes_04_low, lanes_26_low), (lanes_04_high, lanes_26_high)) = (halves(even_0, even_2), halves(even_4, even_6));
            let ((lanes_15_low, lanes_37_low), (lanes_15_high, lanes_37_high)) = (halves(odd_0, odd_2), halves(odd_4, odd_6));
            let ((lane_0, lane_4), (lane_2, lane_6)) = (halves(lanes_04_low, lanes_04_high), halves(lanes_26_low, lanes_26_high));
            let ((lane_1, lane_5), (lane_3, lane_7)) = (halves(lanes_15_low, lanes_15_high), halves(lanes_37_low, lanes_37_high));
            [Self(lane_0), Self(lane_1), Self(lane_2), Self(lane_3), Self(lane_4), Self(lane_5), Self(lane_6), Self(lane_7)]
        }

        #[inline(always)]
        fn lookup(self, table: Self) -> Self {
            Self(call!(_mm512_permutexvar_epi64(self.0, table.0)))
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            Self(call!(_mm512_add_epi64(self.0, other.0)))
        }

        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            Self(call!(_mm512_sub_epi64(self.0, other.0)))
        }

        #[inline(always)]
        fn and(self, other: Self) -> Self {
            Self(call!(_mm512_and_si512(self.0, other.0)))
        }

        #[inline(always)]
        fn or(self, other: Self) -> Self {
            Self(call!(_mm512_or_si512(self.0, other.0)))
        }

        #[inline(always)]
        fn shift_left<const BITS: u32>(self) -> Self {
            Self(call!(_mm512_slli_epi64::<BITS>(self.0)))
        }

        #[inline(always)]
        fn shift_right<const BITS: u32>(self) -> Self {
            Self(call!(_mm512_srli_epi64::<BITS>(self.0)))
        }

        #[inline(always)]
        fn shift_right_signed<const BITS: u32>(self) -> Self {
            Self(call!(_mm512_srai_epi64::<BITS>(self.0)))
        }

        #[inline(always)]
        fn multiply_add_low(self, left: Self, right: Self) -> Self {
            Self(call!(_mm512_madd52lo_epu64(self.0, left.0, right.0)))
        }

        #[inline(always)]
        fn multiply_add_high(self, left: Self, right: Self) -> Self {
            Self(call!(_mm512_madd52hi_epu64(self.0, left.0, right.0)))
        }

        #[inline(always)]
        fn select(mask: u8, set: Self, clear: Self) -> Self {
            Self(call!(_mm512_mask_mov_epi64(clear.0, mask, set.0)))
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod absent {
    use core::convert::Infallible;

    use crate::vector::{Kernel, Unit};

    /// A processor with AVX-512 F and IFMA. There is none without: only detection makes it.
    #[derive(Clone, Copy, Debug)]
    pub struct Avx512Ifma(Infallible);

    impl Avx512Ifma {
        /// Nothing: this is another architecture.
        #[must_use]
        pub const fn detect() -> Option<Self> {
            None
        }
    }

    /// Asks for a value to be brought near the processor, because it is needed soon. Here it asks for nothing.
    #[inline(always)]
    pub const fn prefetch<T>(_value: &T) {}

    impl Unit for Avx512Ifma {
        fn run<K: Kernel>(self, _kernel: K) -> K::Output {
            match self.0 {}
        }
    }
}
