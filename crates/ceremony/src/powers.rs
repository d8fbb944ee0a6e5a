//! Powers of tau: a `.ptau` file, its hash, its consistency, and the points that a circuit's parameters are made of.
//!
//! With `n = 2^power`, the sections are: 1, header; 2, `τ^i·G1` for `i < 2n − 1`; 3, `τ^i·G2`; 4, `α·τ^i·G1`; 5, `β·τ^i·G1`, each for
//! `i < n`; 6, `β·G2`; 7, the contributions of the first phase. A prepared file has in 12 to 15 the same points of 2 to 5 as values of the
//! Lagrange polynomials at `τ`, for the domains of 1, 2, 4 … `n` points one after the other, and in 12 also for `2n` points (with zero in the
//! place of `τ^(2n−1)`). From a file that is not prepared these are computed.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use ark_bn254::{Fq, Fr, G1Affine, G1Projective, G2Affine, g1, g2};
use ark_ec::short_weierstrass::{Affine, Projective};
use ark_ec::{AffineRepr, CurveGroup, VariableBaseMSM};
use ark_ff::{AdditiveGroup, PrimeField};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use blake2::{Blake2b512, Digest};
use millstream_prover::CircuitId;

use crate::curve::{Blake2bHash, Curve, FIELD_BYTES, Identity, bigint, for_points, read_points, same_ratio, to_affine};
use crate::error::CeremonyError;
use crate::pins::powers_pins;
use crate::random::{Weights, generators};
use crate::sections::{Result, SectionFile, at};

/// The field of scalars has domains of up to `2^28` points, and the ceremony goes up to there.
const POWER_MAX: u32 = 28;
/// Above this, snarkjs hashes one point more into the name of a circuit than it needs, and so do we.
const CHUNK_OF_SNARKJS: usize = 1 << 14;

const TAU_G1: u32 = 2;
const TAU_G2: u32 = 3;
const ALPHA_TAU_G1: u32 = 4;
const BETA_TAU_G1: u32 = 5;
const BETA_G2: u32 = 6;
/// From a section of powers to that of their Lagrange values.
const LAGRANGE: u32 = 10;

/// Which powers-of-tau file is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowersPin {
    /// One of the public files that are pinned with this version.
    Public,
    /// The file with this BLAKE2b-512 hash.
    Hash(Blake2bHash),
}

/// The points of a powers-of-tau file that the parameters of a circuit are made of, checked. `n` is the size of the circuit's domain.
#[derive(Debug)]
pub(crate) struct Powers {
    pub(crate) hash: Blake2bHash,
    pub(crate) alpha_g1: G1Affine,
    pub(crate) beta_g1: G1Affine,
    pub(crate) beta_g2: G2Affine,
    /// `n` values of the domain of `n` points.
    pub(crate) tau_g1: Vec<G1Affine>,
    pub(crate) tau_g2: Vec<G2Affine>,
    pub(crate) alpha_tau_g1: Vec<G1Affine>,
    pub(crate) beta_tau_g1: Vec<G1Affine>,
    /// `n` values: those of the odd points of the domain of `2n` points.
    pub(crate) odd_tau_g1: Vec<G1Affine>,
    /// `(τ^(i+n) − τ^i)·G1`, as many as are hashed into the circuit's name.
    pub(crate) vanishing: Vec<G1Affine>,
}

/// How many of the points `(τ^(i+n) − τ^i)·G1` are hashed into a circuit's name: `n − 1`, rounded up to whole chunks of snarkjs.
fn vanishing_points(n: usize) -> usize {
    if n - 1 <= CHUNK_OF_SNARKJS { n - 1 } else { n }
}

impl Powers {
    /// Reads and checks what the circuit needs: the file's hash, its sizes, that its points are in their groups, that they are powers of
    /// one secret, and that their Lagrange values are.
    pub(crate) fn load(path: &Path, pin: PowersPin, circuit: CircuitId, domain: Radix2EvaluationDomain<Fr>) -> Result<Self> {
        let mut file = SectionFile::open(path, "ptau", 1)?;
        let power = header(&mut file)?;
        let n = domain.size();
        let log = n.trailing_zeros();
        // The name of a large circuit hashes one point more, and that needs one power more than `2n − 1`.
        let needed = if vanishing_points(n) == n { log + 1 } else { log };
        if power < needed {
            return Err(CeremonyError::TooFewPowers { circuit, path: path.to_path_buf(), needed, found: power });
        }
        let hash = check_hash(path, pin)?;
        let reader = Reader { n, power, domain };
        reader.load(&mut file, hash)
    }
}

/// Reads the header and compares every section's length with it.
fn header(file: &mut SectionFile) -> Result<u32> {
    let bytes = file.bytes(1, 4 + FIELD_BYTES as u64 + 8)?;
    let [a, b, c, d, rest @ ..] = &bytes[..] else { return Err(file.malformed("its header is too short")) };
    let Ok(rest) = <&[u8; FIELD_BYTES + 8]>::try_from(rest) else { return Err(file.malformed("its header is too short")) };
    let (modulus, powers) = rest.split_first_chunk::<FIELD_BYTES>().expect("32 and 8 bytes");
    if [*a, *b, *c, *d] != (FIELD_BYTES as u32).to_le_bytes() || bigint(modulus) != Fq::MODULUS {
        return Err(file.malformed("it is for another curve"));
    }
    let power = u32::from_le_bytes([powers[0], powers[1], powers[2], powers[3]]);
    if power == 0 || power > POWER_MAX {
        return Err(file.malformed(format!("it says that it has 2^{power} powers")));
    }
    let (n, g1, g2) = (1_u64 << power, g1::Config::POINT_BYTES as u64, g2::Config::POINT_BYTES as u64);
    for (section, points, bytes) in [(2, 2 * n - 1, g1), (3, n, g2), (4, n, g1), (5, n, g1), (6, 1, g2)] {
        file.require_len(section, points * bytes)?;
    }
    let prepared = [(12, 4 * n - 1, g1), (13, 2 * n - 1, g2), (14, 2 * n - 1, g1), (15, 2 * n - 1, g1)];
    if prepared.iter().any(|(section, ..)| file.has(*section)) {
        for (section, points, bytes) in prepared {
            file.require_len(section, points * bytes)?;
        }
    }
    Ok(power)
}

fn check_hash(path: &Path, pin: PowersPin) -> Result<Blake2bHash> {
    let found = hash_file(path)?;
    let (pinned, expected) = match pin {
        PowersPin::Public => (powers_pins().iter().any(|pinned| pinned.blake2b == found), None),
        PowersPin::Hash(expected) => (expected == found, Some(Box::new(expected))),
    };
    if pinned { Ok(found) } else { Err(CeremonyError::PowersHash { path: path.to_path_buf(), expected, found: Box::new(found) }) }
}

/// BLAKE2b-512 of a file, as `b2sum` prints it.
pub(crate) fn hash_file(path: &Path) -> Result<Blake2bHash> {
    let mut reader = BufReader::new(File::open(path).map_err(at(path))?);
    let (mut hasher, mut buffer) = (Blake2b512::new(), vec![0; 1 << 20]);
    loop {
        match reader.read(&mut buffer).map_err(at(path))? {
            0 => return Ok(Blake2bHash::of(hasher)),
            read => hasher.update(&buffer[..read]),
        }
    }
}

struct Reader {
    n: usize,
    power: u32,
    domain: Radix2EvaluationDomain<Fr>,
}

/// Two sums over the powers `P_0 … P_k` with weights `w`: `Σ w_i·P_i` and `Σ w_i·P_(i+1)`. The second is `τ` times the first.
struct Shifted<P: Curve> {
    low: Projective<P>,
    high: Projective<P>,
    first: Affine<P>,
    second: Affine<P>,
}

impl Reader {
    fn load(&self, file: &mut SectionFile, hash: Blake2bHash) -> Result<Powers> {
        let Self { n, power, domain } = *self;
        let path = file.path().to_path_buf();
        let refuse = |holds: bool, what| if holds { Ok(()) } else { Err(inconsistent(&path, what)) };
        let (g1, g2) = generators();
        let mut weights = Weights::from_os()?;

        let tau_g2 = self.shifted::<g2::Config>(file, TAU_G2, n, &mut weights)?;
        refuse(tau_g2.first == g2, "the first power in G2 is not the generator")?;
        let tau_points = (2 * n).min((2_usize << power) - 1);
        let tau_g1 = self.shifted::<g1::Config>(file, TAU_G1, tau_points, &mut weights)?;
        refuse(tau_g1.first == g1, "the first power in G1 is not the generator")?;
        let by_tau = (g2, tau_g2.second);
        let affine = |sums: &Shifted<g1::Config>| (sums.low.into_affine(), sums.high.into_affine());
        refuse(same_ratio(affine(&tau_g1), by_tau), "the powers of tau in G1")?;
        let (low, high) = (tau_g2.low.into_affine(), tau_g2.high.into_affine());
        refuse(same_ratio((g1, tau_g1.second), (low, high)), "the powers of tau in G2")?;
        let alpha = self.shifted::<g1::Config>(file, ALPHA_TAU_G1, n, &mut weights)?;
        refuse(same_ratio(affine(&alpha), by_tau), "the powers of tau times alpha")?;
        let beta = self.shifted::<g1::Config>(file, BETA_TAU_G1, n, &mut weights)?;
        refuse(same_ratio(affine(&beta), by_tau), "the powers of tau times beta")?;
        let [beta_g2] = read_points::<g2::Config>(file, BETA_G2, (0, 1), Identity::Refused)?[..] else {
            return Err(file.malformed("section 6 has no point"));
        };
        refuse(same_ratio((g1, beta.first), (g2, beta_g2)), "beta in G1 and in G2")?;

        let vanishing = self.vanishing(file)?;
        refuse(vanishing.iter().all(|point| !point.is_zero()), "tau is a root of unity")?;
        let odd_domain = Radix2EvaluationDomain::new(2 * n).ok_or_else(|| inconsistent(&path, "there is no domain for them"))?;
        let double = self.lagrange::<g1::Config>(file, TAU_G1, odd_domain, &mut weights)?;
        Ok(Powers {
            hash,
            alpha_g1: alpha.first,
            beta_g1: beta.first,
            beta_g2,
            tau_g1: self.lagrange(file, TAU_G1, domain, &mut weights)?,
            tau_g2: self.lagrange(file, TAU_G2, domain, &mut weights)?,
            alpha_tau_g1: self.lagrange(file, ALPHA_TAU_G1, domain, &mut weights)?,
            beta_tau_g1: self.lagrange(file, BETA_TAU_G1, domain, &mut weights)?,
            odd_tau_g1: double.into_iter().skip(1).step_by(2).collect(),
            vanishing,
        })
    }

    /// Reads `count` powers and adds up pairs of neighbours.
    fn shifted<P: Curve>(&self, file: &mut SectionFile, section: u32, count: usize, weights: &mut Weights) -> Result<Shifted<P>> {
        let (mut low, mut high) = (Projective::ZERO, Projective::ZERO);
        let (mut last, mut head) = (None, Vec::new());
        for_points::<P>(file, section, (0, count), Identity::Refused, |points| {
            if head.len() < 2 {
                head.extend(points.iter().take(2).copied());
            }
            let joined: Vec<_> = last.into_iter().chain(points.iter().copied()).collect();
            last = points.last().copied();
            let pairs = joined.len() - 1;
            let weights = weights.draw(pairs);
            low += msm(&joined[..pairs], &weights);
            high += msm(&joined[1..], &weights);
            Ok(())
        })?;
        let [first, second, ..] = head[..] else { return Err(file.malformed(format!("section {section} has no two points"))) };
        Ok(Shifted { low, high, first, second })
    }

    fn vanishing(&self, file: &mut SectionFile) -> Result<Vec<G1Affine>> {
        let count = vanishing_points(self.n);
        let low: Vec<G1Affine> = read_points(file, TAU_G1, (0, count), Identity::Refused)?;
        let high: Vec<G1Affine> = read_points(file, TAU_G1, (self.n, count), Identity::Refused)?;
        Ok(to_affine(&high.iter().zip(&low).map(|(high, low)| *high - low).collect::<Vec<G1Projective>>()))
    }

    /// The Lagrange values of a section of powers: read from a prepared file and compared with the powers, or computed from these.
    fn lagrange<P: Curve>(
        &self,
        file: &mut SectionFile,
        section: u32,
        domain: Radix2EvaluationDomain<Fr>,
        weights: &mut Weights,
    ) -> Result<Vec<Affine<P>>> {
        let size = domain.size();
        // The file has one power less than the largest domain has points.
        let powers = if section == TAU_G1 { size.min((2_usize << self.power) - 1) } else { size };
        if !file.has(section + LAGRANGE) {
            let mut points = vec![Projective::<P>::ZERO; 0];
            points.reserve_exact(size);
            for_points::<P>(file, section, (0, powers), Identity::Refused, |chunk| {
                points.extend(chunk.iter().map(|point| point.into_group()));
                Ok(())
            })?;
            points.resize(size, Projective::ZERO);
            domain.ifft_in_place(&mut points);
            return Ok(to_affine(&points));
        }
        let values = read_points::<P>(file, section + LAGRANGE, (size - 1, size), Identity::Refused)?;
        // Σ r_j·τ^j over the powers is Σ s_i·L_i over the values, when s is the transform of r.
        let mut weights = weights.draw(powers);
        let (mut expected, mut rest) = (Projective::<P>::ZERO, &weights[..]);
        for_points::<P>(file, section, (0, powers), Identity::Refused, |points| {
            let (these, later) = rest.split_at(points.len());
            rest = later;
            expected += msm(points, these);
            Ok(())
        })?;
        weights.resize(size, Fr::ZERO);
        domain.fft_in_place(&mut weights);
        if msm(&values, &weights) == expected {
            return Ok(values);
        }
        Err(inconsistent(file.path(), "the prepared values do not follow from the powers"))
    }
}

fn inconsistent(path: &Path, what: &'static str) -> CeremonyError {
    CeremonyError::Powers { path: PathBuf::from(path), what }
}

/// `Σ w_i·P_i`, in parts that fit the caches of their threads.
pub(crate) fn msm<P: Curve>(points: &[Affine<P>], weights: &[Fr]) -> Projective<P>
where
    Projective<P>: VariableBaseMSM<ScalarField = Fr, MulBase = Affine<P>>,
{
    Projective::<P>::msm_unchecked(points, weights)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use millstream_circuit::BookSize;
    use tempfile::TempDir;

    use super::*;
    use crate::insecure_powers::{Prepared, write_insecure_powers};
    use crate::sections::SectionWriter;

    const G1: usize = g1::Config::POINT_BYTES;
    const G2: usize = g2::Config::POINT_BYTES;
    /// Powers of a domain of 16 points.
    const LOG: u32 = 4;
    const N: usize = 1 << LOG;

    type Change = &'static dyn Fn(&mut [u8]);

    struct Fixture {
        directory: TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            write_insecure_powers(&directory.path().join("good"), LOG, &[1; 32], Prepared::Yes).expect("written");
            Self { directory }
        }

        fn load(&self, name: &str) -> Result<Powers> {
            let path = self.directory.path().join(name);
            let pin = PowersPin::Hash(hash_file(&path).expect("readable"));
            let domain = Radix2EvaluationDomain::new(N).expect("small");
            // The name is for messages only.
            Powers::load(&path, pin, CircuitId::settle(BookSize::new(1).expect("a size")), domain)
        }

        /// The good file with one section changed.
        fn tampered(&self, name: &str, section: u32, change: &dyn Fn(&mut [u8])) -> Result<Powers> {
            let mut from = SectionFile::open(&self.directory.path().join("good"), "ptau", 1).expect("sound");
            let mut writer = SectionWriter::create(&self.directory.path().join(name), "ptau", 1, 11).expect("new");
            for number in [1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15] {
                let mut bytes = Vec::new();
                from.section(number, 0).expect("there").read_to_end(&mut bytes).expect("readable");
                if number == section {
                    change(&mut bytes);
                }
                writer.section(number, &bytes).expect("writable");
            }
            writer.finish().expect("written");
            self.load(name)
        }
    }

    fn swap_points(section: &mut [u8], bytes: usize, one: usize, other: usize) {
        (0..bytes).for_each(|byte| section.swap(one * bytes + byte, other * bytes + byte));
    }

    /// The hash is right here, as if a bad file had been pinned: every relation is checked all the same.
    #[test]
    fn powers_of_no_one_secret_are_refused() {
        let fixture = Fixture::new();
        fixture.load("good").expect("sound");
        let relations = [
            (2, 0, 1, G1, "the first power in G1 is not the generator"),
            (2, 5, 6, G1, "the powers of tau in G1"),
            (2, 2 * N - 3, 2 * N - 2, G1, "the powers of tau in G1"),
            (3, 0, 1, G2, "the first power in G2 is not the generator"),
            (3, N - 2, N - 1, G2, "the powers of tau in G2"),
            (4, 0, 1, G1, "the powers of tau times alpha"),
            (5, 3, 7, G1, "the powers of tau times beta"),
            (12, 2 * N - 1, 4 * N - 2, G1, "the prepared values do not follow from the powers"),
            (12, N - 1, 2 * N - 2, G1, "the prepared values do not follow from the powers"),
            (13, N - 1, N, G2, "the prepared values do not follow from the powers"),
            (14, N, N + 1, G1, "the prepared values do not follow from the powers"),
            (15, N, N + 1, G1, "the prepared values do not follow from the powers"),
        ];
        for (index, (section, one, other, bytes, expected)) in relations.into_iter().enumerate() {
            let error = fixture.tampered(&format!("swapped-{index}"), section, &|section| swap_points(section, bytes, one, other));
            assert!(matches!(error, Err(CeremonyError::Powers { what, .. }) if what == expected), "{section} {one}: {error:?}");
        }
        let mut generator = Vec::new();
        <g2::Config as Curve>::write(&generators().1, &mut generator);
        let beta = fixture.tampered("beta", BETA_G2, &|section| section.copy_from_slice(&generator));
        assert!(matches!(beta, Err(CeremonyError::Powers { what: "beta in G1 and in G2", .. })), "{beta:?}");
    }

    /// Off the curve, the identity, not canonical; and in G2 on the curve outside the subgroup.
    #[test]
    fn points_that_are_none_are_refused() {
        let fixture = Fixture::new();
        let changes: [(&str, Change); 3] =
            [("bent", &|point| point[0] ^= 1), ("zero", &|point| point.fill(0)), ("large", &|point| point.fill(0xff))];
        for (section, point, bytes) in [(2, 9, G1), (3, 9, G2), (4, 0, G1), (5, N - 1, G1), (12, N + 3, G1), (13, N + 3, G2)] {
            for (kind, change) in changes {
                let error =
                    fixture.tampered(&format!("{kind}-{section}"), section, &|section| change(&mut section[point * bytes..][..bytes]));
                let expected = |error: &CeremonyError| matches!(error, CeremonyError::BadPoint { section: at, index, .. } if (*at, *index) == (section, point));
                assert!(error.as_ref().err().is_some_and(expected), "{kind} {section}: {error:?}");
            }
        }
        let mut outside = Vec::new();
        <g2::Config as Curve>::write(&outside_the_subgroup(), &mut outside);
        let error = fixture.tampered("outside", TAU_G2, &|section| section[9 * G2..][..G2].copy_from_slice(&outside));
        assert!(matches!(error, Err(CeremonyError::BadPoint { section: 3, index: 9, .. })), "{error:?}");
    }

    fn outside_the_subgroup() -> G2Affine {
        let candidates = (1_u64..).filter_map(|x| G2Affine::get_point_from_x_unchecked(ark_bn254::Fq2::new(Fq::from(x), Fq::ZERO), false));
        candidates
            .into_iter()
            .find(|point| !point.is_in_correct_subgroup_assuming_on_curve())
            .expect("almost every point of the curve is")
    }

    /// A tau that is a root of unity makes the vanishing polynomial nothing.
    #[test]
    fn a_root_of_unity_is_refused() {
        let fixture = Fixture::new();
        let (g1, g2) = generators();
        let fill = |bytes: &mut [u8], point: &[u8]| bytes.chunks_exact_mut(point.len()).for_each(|slot| slot.copy_from_slice(point));
        let mut points = [Vec::new(), Vec::new()];
        <g1::Config as Curve>::write(&g1, &mut points[0]);
        <g2::Config as Curve>::write(&g2, &mut points[1]);
        // tau = 1: every power is the generator, and alpha and beta are 1 too.
        let path = fixture.directory.path().join("one");
        let mut from = SectionFile::open(&fixture.directory.path().join("good"), "ptau", 1).expect("sound");
        let mut writer = SectionWriter::create(&path, "ptau", 1, 7).expect("new");
        for number in 1..=7 {
            let mut bytes = Vec::new();
            from.section(number, 0).expect("there").read_to_end(&mut bytes).expect("readable");
            match number {
                2 | 4 | 5 => fill(&mut bytes, &points[0]),
                3 | 6 => fill(&mut bytes, &points[1]),
                _ => {}
            }
            writer.section(number, &bytes).expect("writable");
        }
        writer.finish().expect("written");
        let error = fixture.load("one");
        assert!(matches!(error, Err(CeremonyError::Powers { what: "tau is a root of unity", .. })), "{error:?}");
    }
}
