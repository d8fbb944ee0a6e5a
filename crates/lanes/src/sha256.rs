//! SHA-256 of many short messages of one length: what trees over frames and epochs are made of.
//!
//! A message is one byte and a record, `prefix ‖ record`; records stand one after the other, as lines do in a frame and as the two
//! children of a node do in their level. Sixteen messages at a time with AVX-512 (one 32-bit lane each), two with the processor's SHA
//! instructions, which wait for each other within one message; one at a time with `sha2` where there is neither. Source: FIPS 180-4.
//!
//! **Invariant:** what does not agree with `sha2` when this process first hashes is not used. [`support`] says what is.

#[cfg(target_arch = "x86_64")]
mod narrow;
#[cfg(target_arch = "x86_64")]
mod wide;

#[cfg(target_arch = "x86_64")]
use self::{narrow::Narrow, wide::Wide};
#[cfg(not(target_arch = "x86_64"))]
use absent::{Narrow, Wide};

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 32;

/// Bytes of a record, at most: a message has up to three blocks.
pub const RECORD_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 1 - ENDING_BYTES;

const BLOCK_BYTES: usize = 64;
/// Messages that AVX-512 hashes together.
const LANES: usize = 16;
const MESSAGE_BYTES_MAX: usize = 3 * BLOCK_BYTES;
/// A one bit and seven zeros, and the length of the message in bits.
const ENDING_BYTES: usize = 1 + 8;

/// The state before the first block.
const INITIAL: [u32; 8] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The constants of the rounds.
#[rustfmt::skip]
static ROUNDS: [[u32; 16]; 4] = [
    [
        0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
        0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    ],
    [
        0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
        0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    ],
    [
        0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
        0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    ],
    [
        0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
        0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
    ],
];

/// Blocks of a message of one byte and a record of so many.
const fn blocks(record_bytes: usize) -> usize {
    (1 + record_bytes + ENDING_BYTES).div_ceil(BLOCK_BYTES)
}

/// Bits of a message of one byte and a record of so many, at most [`RECORD_BYTES_MAX`].
const fn bits(record_bytes: usize) -> u32 {
    8 * (1 + record_bytes as u32)
}

/// Hashes `prefix ‖ record` for each record, each into the digest of its position.
///
/// `R` is a multiple of 4 up to [`RECORD_BYTES_MAX`]; another one does not compile.
///
/// # Panics
/// When there are not as many digests as records.
///
/// ```
/// let mut digests = [[0; 32]; 2];
/// millstream_lanes::sha256::hash_records(b'a', &[*b"bcde", *b"fghi"], &mut digests);
/// assert_eq!(digests[0][..4], [0x36, 0xbb, 0xe5, 0x0e]);
/// ```
pub fn hash_records<const R: usize>(prefix: u8, records: &[[u8; R]], digests: &mut [[u8; DIGEST_BYTES]]) {
    const { assert!(R > 0 && R.is_multiple_of(4) && R <= RECORD_BYTES_MAX) };
    assert_eq!(records.len(), digests.len(), "there is a digest for each record");
    UNITS.hash(prefix, records, digests);
}

/// Whether a processor's instructions are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// They are.
    Used,
    /// The processor does not have them.
    Absent,
    /// It has them, and their results are not those of `sha2`.
    Wrong,
}

/// What [`hash_records`] uses on this machine, beside `sha2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sha256Support {
    /// Sixteen messages at a time: AVX-512 F and BW.
    pub sixteen: Support,
    /// Two messages at a time: the SHA instructions.
    pub two: Support,
}

/// What [`hash_records`] uses on this machine.
#[must_use]
pub fn support() -> Sha256Support {
    UNITS.support
}

static UNITS: LazyLock<Units> = LazyLock::new(|| Units::checked(Wide::detect(), Narrow::detect()));

/// A way of hashing, which is there where a value of it is.
trait Unit: Copy {
    /// Hashes `prefix ‖ record` for each record.
    fn hash<const R: usize>(self, prefix: u8, records: &[[u8; R]], digests: &mut [[u8; DIGEST_BYTES]]);
}

/// `sha2`, one message after the other.
#[derive(Clone, Copy)]
struct Single;

impl Unit for Single {
    fn hash<const R: usize>(self, prefix: u8, records: &[[u8; R]], digests: &mut [[u8; DIGEST_BYTES]]) {
        for (record, digest) in records.iter().zip(digests) {
            let mut hasher = Sha256::new();
            hasher.update([prefix]);
            hasher.update(record);
            *digest = hasher.finalize().into();
        }
    }
}

/// What is used on a machine.
#[derive(Clone, Copy)]
struct Units {
    wide: Option<Wide>,
    narrow: Option<Narrow>,
    support: Sha256Support,
}

impl Units {
    /// Those of the units that agree with `sha2`.
    fn checked(wide: Option<Wide>, narrow: Option<Narrow>) -> Self {
        let support = Sha256Support { sixteen: judge(wide), two: judge(narrow) };
        Self { wide: wide.filter(|_| support.sixteen == Support::Used), narrow: narrow.filter(|_| support.two == Support::Used), support }
    }

    /// From how many messages on sixteen lanes, some of them idle, beat hashing fewer at a time.
    const fn wide_from(self) -> usize {
        if self.narrow.is_some() { 10 } else { 2 }
    }
}

impl Unit for Units {
    fn hash<const R: usize>(self, prefix: u8, records: &[[u8; R]], digests: &mut [[u8; DIGEST_BYTES]]) {
        let left = records.len() % LANES;
        let for_wide = if left < self.wide_from() { records.len() - left } else { records.len() };
        let (records, digests) = match self.wide {
            Some(wide) => {
                let (digests, digests_left) = digests.split_at_mut(for_wide);
                wide.hash(prefix, &records[..for_wide], digests);
                (&records[for_wide..], digests_left)
            }
            None => (records, digests),
        };
        match self.narrow {
            Some(narrow) => narrow.hash(prefix, records, digests),
            None => Single.hash(prefix, records, digests),
        }
    }
}

/// Whether a unit agrees with `sha2` on messages of one, two and three blocks, in full and in partial groups.
fn judge(unit: Option<impl Unit>) -> Support {
    let Some(unit) = unit else {
        return Support::Absent;
    };
    let right = agrees::<24>(unit) && agrees::<56>(unit) && agrees::<64>(unit) && agrees::<96>(unit) && agrees::<128>(unit);
    if right { Support::Used } else { Support::Wrong }
}

fn agrees<const R: usize>(unit: impl Unit) -> bool {
    // Every message is another, so that one in the wrong lane is found too. Both units have full groups and a partial one of 39.
    let records: [[u8; R]; 39] =
        core::array::from_fn(|index| core::array::from_fn(|place| (((index * R + place) * 0x9e37) >> 3).to_le_bytes()[0]));
    let (mut digests, mut expected) = ([[0; DIGEST_BYTES]; 39], [[0; DIGEST_BYTES]; 39]);
    unit.hash(0x11, &records, &mut digests);
    Single.hash(0x11, &records, &mut expected);
    digests == expected
}

/// Other processors have neither.
#[cfg(not(target_arch = "x86_64"))]
mod absent {
    macro_rules! absent {
        ($unit:ident) => {
            #[derive(Clone, Copy)]
            pub(super) enum $unit {}

            impl $unit {
                pub(super) const fn detect() -> Option<Self> {
                    None
                }
            }

            impl super::Unit for $unit {
                fn hash<const R: usize>(self, _: u8, _: &[[u8; R]], _: &mut [[u8; super::DIGEST_BYTES]]) {
                    match self {}
                }
            }
        };
    }

    absent!(Wide);
    absent!(Narrow);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// This machine's units together and each alone, and no unit.
    fn all() -> Vec<Units> {
        let both = *UNITS;
        vec![both, Units { narrow: None, ..both }, Units { wide: None, ..both }, Units { wide: None, narrow: None, ..both }]
    }

    fn check<const R: usize>(prefix: u8, bytes: &[u8]) {
        let records = bytes.as_chunks::<R>().0;
        let expected: Vec<[u8; 32]> = records.iter().map(|record| Sha256::digest([&[prefix], record.as_slice()].concat()).into()).collect();
        let mut digests = vec![[0xee; DIGEST_BYTES]; records.len()];
        for units in all() {
            digests.fill([0xee; DIGEST_BYTES]);
            units.hash(prefix, records, &mut digests);
            assert_eq!(digests, expected, "{} records of {R} bytes", records.len());
        }
        hash_records(prefix, records, &mut digests);
        assert_eq!(digests, expected);
    }

    fn check_all(prefix: u8, count: usize, bytes: &[u8]) {
        check::<4>(prefix, &bytes[..count * 4]);
        check::<24>(prefix, &bytes[..count * 24]);
        check::<52>(prefix, &bytes[..count * 52]);
        check::<56>(prefix, &bytes[..count * 56]);
        check::<60>(prefix, &bytes[..count * 60]);
        check::<64>(prefix, &bytes[..count * 64]);
        check::<96>(prefix, &bytes[..count * 96]);
        check::<116>(prefix, &bytes[..count * 116]);
        check::<120>(prefix, &bytes[..count * 120]);
        check::<128>(prefix, &bytes[..count * 128]);
        check::<180>(prefix, &bytes[..count * 180]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn digests_are_those_of_sha2(prefix: u8, count in 0_usize..=40, bytes in proptest::collection::vec(any::<u8>(), 40 * 180)) {
            check_all(prefix, count, &bytes);
        }
    }

    #[test]
    fn each_count_has_its_digests_and_so_have_a_thousand() {
        let bytes: Vec<u8> = (0..1_000 * 180_u32).map(|index| (index.wrapping_mul(0x9e37_79b1) >> 24).to_le_bytes()[0]).collect();
        for count in (0..=40).chain([1_000]) {
            check_all(0x01, count, &bytes);
        }
    }

    #[test]
    fn a_unit_is_used_exactly_where_it_is_and_is_right() {
        let units = *UNITS;
        let expected = |is_there: bool| if is_there { Support::Used } else { Support::Absent };
        assert_eq!(support(), Sha256Support { sixteen: expected(Wide::detect().is_some()), two: expected(Narrow::detect().is_some()) });
        assert_eq!(units.wide.is_some(), support().sixteen == Support::Used);
        assert_eq!(units.narrow.is_some(), support().two == Support::Used);
        assert_eq!(Units::checked(None, None).support, Sha256Support { sixteen: Support::Absent, two: Support::Absent });
    }

    /// Right but for one message of each group of sixteen.
    #[derive(Clone, Copy)]
    struct Faulty(usize);

    impl Unit for Faulty {
        fn hash<const R: usize>(self, prefix: u8, records: &[[u8; R]], digests: &mut [[u8; DIGEST_BYTES]]) {
            Single.hash(prefix, records, digests);
            digests.iter_mut().skip(self.0).step_by(16).for_each(|digest| digest[31] ^= 1);
        }
    }

    #[test]
    fn a_unit_with_one_wrong_lane_is_found() {
        assert_eq!(judge(Some(Single)), Support::Used);
        for lane in 0..16 {
            assert_eq!(judge(Some(Faulty(lane))), Support::Wrong, "lane {lane}");
        }
    }

    #[test]
    #[should_panic(expected = "a digest for each record")]
    fn a_digest_for_each_record() {
        hash_records(0, &[[0; 24]; 3], &mut [[0; DIGEST_BYTES]; 2]);
    }
}
