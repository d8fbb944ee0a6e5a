//! Sixteen messages at a time: one 32-bit lane of the 512-bit registers for each.
#![allow(unsafe_code, reason = "loads and stores, and one call from code without the features")]

use core::arch::x86_64::{
    __m128i, __m512i, _mm_set_epi8, _mm256_storeu_si256, _mm512_add_epi32, _mm512_broadcast_i32x4, _mm512_castsi512_si256,
    _mm512_extracti64x4_epi64, _mm512_maskz_loadu_epi32, _mm512_permutex2var_epi64, _mm512_ror_epi32, _mm512_set_epi64, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_shuffle_i32x4, _mm512_srli_epi32, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::{DIGEST_BYTES, INITIAL, LANES, ROUNDS, Unit, bits, blocks};

/// Words of a block.
const WORDS: usize = 16;

/// The words of a block, each of sixteen messages.
type Block = [__m512i; WORDS];
/// The words of a state, each of sixteen messages.
type State = [__m512i; 8];

/// Truth tables: `a ? b : c`, the majority and the parity of three.
const CHOICE: i32 = 0xca;
const MAJORITY: i32 = 0xe8;
const PARITY: i32 = 0x96;

/// A processor with AVX-512 F and BW, which the system lets programs use. There is none without: only detection makes it.
#[derive(Clone, Copy)]
pub(super) struct Wide(());

impl Wide {
    /// This processor, if it has them.
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")).then_some(Self(()))
    }
}

impl Unit for Wide {
    fn hash<const R: usize>(self, prefix: u8, records: &[[u8; R]], digests: &mut [[u8; DIGEST_BYTES]]) {
        for (records, digests) in records.chunks(LANES).zip(digests.chunks_mut(LANES)) {
            // SAFETY: `self` was made by `detect`, so the processor has both features.
            unsafe { hash_group(prefix, records, digests) };
        }
    }
}

/// Up to sixteen messages; fewer cost as much.
#[target_feature(enable = "avx512f,avx512bw")]
fn hash_group<const R: usize>(prefix: u8, records: &[[u8; R]], digests: &mut [[u8; DIGEST_BYTES]]) {
    let mut state = INITIAL.map(|word| splat(word));
    let words = R / 4;
    // A message is its record one byte later, so a word takes the last byte of the word before; before the first, that is the prefix.
    let mut before = splat(u32::from(prefix) << 24);
    for block in 0..blocks(R) {
        let from = block * WORDS;
        let present = words.saturating_sub(from).min(WORDS);
        let record_words = if present == 0 { [_mm512_setzero_si512(); WORDS] } else { transposed(load(records, from, present)) };
        let mut message = [_mm512_setzero_si512(); WORDS];
        for (index, word) in message.iter_mut().enumerate() {
            if index < present {
                *word = with_top_byte(before, _mm512_shuffle_epi8(record_words[index], first_three_bytes()));
                before = record_words[index];
            } else if from + index == words {
                *word = with_top_byte(before, splat(0x0080_0000));
            }
        }
        if block + 1 == blocks(R) {
            message[WORDS - 1] = splat(bits(R));
        }
        state = compressed(state, message);
    }
    store(state, digests);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn splat(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

/// The order that turns the bytes of a word around.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn big_endian() -> __m512i {
    in_each_quarter(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3))
}

/// The order that turns the first three bytes of a word around, and clears the top one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn first_three_bytes() -> __m512i {
    in_each_quarter(_mm_set_epi8(-1, 12, 13, 14, -1, 8, 9, 10, -1, 4, 5, 6, -1, 0, 1, 2))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn in_each_quarter(order: __m128i) -> __m512i {
    _mm512_broadcast_i32x4(order)
}

/// `word` with the top byte of `top`, which is the last byte of a record's word as memory has it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn with_top_byte(top: __m512i, word: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<CHOICE>(splat(0xff00_0000), top, word)
}

/// `present` words of each record, from word `from` on: row `i` is record `i`. Rows without a record are zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load<const R: usize>(records: &[[u8; R]], from: usize, present: usize) -> Block {
    let mask = u16::MAX >> (WORDS - present);
    let mut rows = [_mm512_setzero_si512(); LANES];
    for (row, record) in rows.iter_mut().zip(records) {
        let bytes = &record[4 * from..4 * (from + present)];
        // SAFETY: the mask has `present` bits, and the slice as many words. What is masked is not read.
        *row = unsafe { _mm512_maskz_loadu_epi32(mask, bytes.as_ptr().cast()) };
    }
    rows
}

/// In each quarter `q`, of four vectors: element `4q` of each, then `4q + 1` of each, and so on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transposed_quarters([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab_low, cd_low) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
    let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab_low, cd_low),
        _mm512_unpackhi_epi64(ab_low, cd_low),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// Lane `j` of vector `i` is lane `i` of row `j`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transposed(rows: Block) -> Block {
    let mut quads = [[_mm512_setzero_si512(); 4]; 4];
    for (quad, four) in quads.iter_mut().zip(rows.as_chunks::<4>().0) {
        *quad = transposed_quarters(*four);
    }
    let mut columns = [_mm512_setzero_si512(); WORDS];
    for word in 0..4 {
        let [a, b, c, d] = quads.map(|quad| quad[word]);
        let (ab_low, cd_low) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0x44>(c, d));
        let (ab_high, cd_high) = (_mm512_shuffle_i32x4::<0xee>(a, b), _mm512_shuffle_i32x4::<0xee>(c, d));
        columns[word] = _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low);
        columns[4 + word] = _mm512_shuffle_i32x4::<0xdd>(ab_low, cd_low);
        columns[8 + word] = _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high);
        columns[12 + word] = _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high);
    }
    columns
}

/// Writes lane `i` of the eight words as digest `i`, big-endian.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store(state: State, digests: &mut [[u8; DIGEST_BYTES]]) {
    let [a, b, c, d, e, f, g, h] = state.map(|word| _mm512_shuffle_epi8(word, big_endian()));
    // Vector `i` has the words of messages `i`, `4 + i`, `8 + i` and `12 + i`.
    let (fronts, backs) = (transposed_quarters([a, b, c, d]), transposed_quarters([e, f, g, h]));
    let (low, high) = (_mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0), _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4));
    let mut rows = [_mm512_castsi512_si256(a); LANES];
    for (index, (front, back)) in fronts.into_iter().zip(backs).enumerate() {
        let (first, second) = (_mm512_permutex2var_epi64(front, low, back), _mm512_permutex2var_epi64(front, high, back));
        rows[index] = _mm512_castsi512_si256(first);
        rows[4 + index] = _mm512_extracti64x4_epi64::<1>(first);
        rows[8 + index] = _mm512_castsi512_si256(second);
        rows[12 + index] = _mm512_extracti64x4_epi64::<1>(second);
    }
    for (digest, row) in digests.iter_mut().zip(rows) {
        // SAFETY: a digest is 32 bytes, and they may be written.
        unsafe { _mm256_storeu_si256(digest.as_mut_ptr().cast(), row) };
    }
}

/// Sixteen rounds, written out: the words of the state change their names and not their places. With `extend`, each word of the block is
/// replaced, once it was used, by the one sixteen later.
macro_rules! rounds {
    ($state:ident, $block:ident, $constants:expr, $extend:tt) => {{
        let constants = $constants;
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = $state;
        rounds!(@ a b c d e f g h, $block, constants, $extend, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        $state = [a, b, c, d, e, f, g, h];
    }};
    (@ $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $block:ident, $constants:ident, $extend:tt,
        $index:literal $($later:literal)*) => {
        let chosen = _mm512_ternarylogic_epi32::<CHOICE>($e, $f, $g);
        let known = _mm512_add_epi32($h, _mm512_add_epi32($block[$index], splat($constants[$index])));
        let first = _mm512_add_epi32(_mm512_add_epi32(known, chosen), rotations::<6, 11, 25>($e));
        let second = _mm512_add_epi32(rotations::<2, 13, 22>($a), _mm512_ternarylogic_epi32::<MAJORITY>($a, $b, $c));
        $d = _mm512_add_epi32($d, first);
        $h = _mm512_add_epi32(first, second);
        rounds!(@extend $extend $block $index);
        rounds!(@ $h $a $b $c $d $e $f $g, $block, $constants, $extend, $($later)*);
    };
    (@extend true $block:ident $index:literal) => {
        let at = |distance: usize| $block[($index + distance) % WORDS];
        $block[$index] = extended(at(0), at(1), at(9), at(14));
    };
    (@extend false $block:ident $index:literal) => {};
    (@ $($word:ident)*, $block:ident, $constants:ident, $extend:tt,) => {};
}

/// The state after one more block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn compressed(before: State, mut block: Block) -> State {
    let mut state = before;
    let [start @ .., end] = &ROUNDS;
    // A loop, so that the compiler leaves the extension of the block between the rounds, where it fills their waiting times.
    for constants in start {
        rounds!(state, block, constants, true);
    }
    rounds!(state, block, end, false);
    let mut after = before;
    for (word, add) in after.iter_mut().zip(state) {
        *word = _mm512_add_epi32(*word, add);
    }
    after
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rotations<const A: i32, const B: i32, const C: i32>(word: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<PARITY>(_mm512_ror_epi32::<A>(word), _mm512_ror_epi32::<B>(word), _mm512_ror_epi32::<C>(word))
}

/// The word sixteen later, from those 0, 1, 9 and 14 later.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn extended(word: __m512i, later_1: __m512i, later_9: __m512i, later_14: __m512i) -> __m512i {
    let first = shifted::<7, 18, 3>(later_1);
    let second = shifted::<17, 19, 10>(later_14);
    _mm512_add_epi32(_mm512_add_epi32(word, later_9), _mm512_add_epi32(first, second))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn shifted<const A: i32, const B: i32, const SHIFT: u32>(word: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<PARITY>(_mm512_ror_epi32::<A>(word), _mm512_ror_epi32::<B>(word), _mm512_srli_epi32::<SHIFT>(word))
}
