//! Two messages at a time with the processor's SHA instructions: while one waits for a round, the other goes on.
#![allow(unsafe_code, reason = "loads and stores, and calls from code without the features")]

use core::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128, _mm_set_epi8, _mm_set_epi32, _mm_setzero_si128,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_storeu_si128,
};

use super::{BLOCK_BYTES, DIGEST_BYTES, INITIAL, MESSAGE_BYTES_MAX, ROUNDS, Unit, bits, blocks};

/// Words 0, 1, 4, 5 and 2, 3, 6, 7 of a state, the last one lowest: what the instructions take.
type State = [__m128i; 2];

/// A processor with the SHA instructions and SSE 4.1. There is none without: only detection makes it.
#[derive(Clone, Copy)]
pub(super) struct Narrow(());

impl Narrow {
    /// This processor, if it has them.
    pub(super) fn detect() -> Option<Self> {
        let has_all = is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1");
        has_all.then_some(Self(()))
    }

    /// Hashes `N` at a time, and gives back what is left.
    fn hash_by<'a, const N: usize, const R: usize>(
        self,
        prefix: u8,
        records: &'a [[u8; R]],
        digests: &'a mut [[u8; DIGEST_BYTES]],
    ) -> (&'a [[u8; R]], &'a mut [[u8; DIGEST_BYTES]]) {
        let (groups, later) = records.as_chunks::<N>();
        let (digest_groups, digests_later) = digests.as_chunks_mut::<N>();
        for (group, digests) in groups.iter().zip(digest_groups) {
            // SAFETY: `self` was made by `detect`, so the processor has the features.
            unsafe { hash_group(prefix, group, digests) };
        }
        (later, digests_later)
    }
}

impl Unit for Narrow {
    fn hash<const R: usize>(self, prefix: u8, records: &[[u8; R]], digests: &mut [[u8; DIGEST_BYTES]]) {
        let (records, digests) = self.hash_by::<2, R>(prefix, records, digests);
        self.hash_by::<1, R>(prefix, records, digests);
    }
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn hash_group<const N: usize, const R: usize>(prefix: u8, records: &[[u8; R]; N], digests: &mut [[u8; DIGEST_BYTES]; N]) {
    let mut messages = [[0; MESSAGE_BYTES_MAX]; N];
    for (message, record) in messages.iter_mut().zip(records) {
        message[0] = prefix;
        message[1..=R].copy_from_slice(record);
        message[R + 1] = 0x80;
        message[blocks(R) * BLOCK_BYTES - 4..blocks(R) * BLOCK_BYTES].copy_from_slice(&bits(R).to_be_bytes());
    }
    let [a, b, c, d, e, f, g, h] = INITIAL.map(u32::cast_signed);
    let mut states = [[_mm_set_epi32(a, b, e, f), _mm_set_epi32(c, d, g, h)]; N];
    for block in 0..blocks(R) {
        let mut quads = [[_mm_setzero_si128(); 4]; N];
        for (quads, message) in quads.iter_mut().zip(&messages) {
            for (index, quad) in quads.iter_mut().enumerate() {
                let bytes = &message[block * BLOCK_BYTES + 16 * index..][..16];
                // SAFETY: there are 16 bytes.
                *quad = _mm_shuffle_epi8(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }, big_endian());
            }
        }
        compress(&mut states, quads);
    }
    for (digest, state) in digests.iter_mut().zip(states) {
        store(state, digest);
    }
}

/// The order that turns the bytes of a word around.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn big_endian() -> __m128i {
    _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3)
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn store([abef, cdgh]: State, digest: &mut [u8; DIGEST_BYTES]) {
    let (feba, dchg) = (_mm_shuffle_epi32::<0x1b>(abef), _mm_shuffle_epi32::<0xb1>(cdgh));
    let halves = [_mm_blend_epi16::<0xf0>(feba, dchg), _mm_alignr_epi8::<8>(dchg, feba)];
    for (half, bytes) in halves.into_iter().zip(digest.as_chunks_mut::<16>().0) {
        // SAFETY: there are 16 bytes, and they may be written.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm_shuffle_epi8(half, big_endian())) };
    }
}

/// Four rounds of each message, with words `4 × index` on of each block. With `extend`, those words are replaced by the four that come
/// sixteen later.
macro_rules! four_rounds {
    ($states:ident, $quads:ident, $constants:expr, $index:literal, $extend:literal) => {
        let [a, b, c, d] = [0, 1, 2, 3].map(|word| $constants[4 * $index + word].cast_signed());
        let constants = _mm_set_epi32(d, c, b, a);
        for ([abef, cdgh], quads) in $states.iter_mut().zip(&mut $quads) {
            let sum = _mm_add_epi32(quads[$index], constants);
            *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, sum);
            *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32::<0x0e>(sum));
            if $extend {
                let at = |distance: usize| quads[($index + distance) % 4];
                let part = _mm_add_epi32(_mm_sha256msg1_epu32(at(0), at(1)), _mm_alignr_epi8::<4>(at(3), at(2)));
                quads[$index] = _mm_sha256msg2_epu32(part, at(3));
            }
        }
    };
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress<const N: usize>(states: &mut [State; N], mut quads: [[__m128i; 4]; N]) {
    let before = *states;
    // On a copy, whose parts the compiler keeps in registers.
    let mut now = before;
    let [start @ .., end] = &ROUNDS;
    for constants in start {
        four_rounds!(now, quads, constants, 0, true);
        four_rounds!(now, quads, constants, 1, true);
        four_rounds!(now, quads, constants, 2, true);
        four_rounds!(now, quads, constants, 3, true);
    }
    four_rounds!(now, quads, end, 0, false);
    four_rounds!(now, quads, end, 1, false);
    four_rounds!(now, quads, end, 2, false);
    four_rounds!(now, quads, end, 3, false);
    for ((state, now), before) in states.iter_mut().zip(now).zip(before) {
        *state = [_mm_add_epi32(now[0], before[0]), _mm_add_epi32(now[1], before[1])];
    }
}
