//! The chain of contributions: who multiplied delta, with a proof that they knew by what, bound to everything before.
//!
//! A contribution with the secret `x` has `δ' = x·δ`, a point `s` and `x·s` in G1, and `x·R` in G2, where `R` is hashed from the transcript:
//! the circuit's hash, all contributions before, `s` and `x·s`. Pairings compare the three ratios.

use core::ops::RangeInclusive;

use ark_bn254::{Fr, G1Affine, G2Affine, g1, g2};
use ark_ec::{AffineRepr, CurveGroup};
use blake2::{Blake2b512, Digest};
use zeroize::Zeroizing;

use crate::curve::{Blake2bHash, Curve, hash_points, same_ratio};
use crate::error::BadChain;
use crate::r1cs::number;
use crate::random::{Stream, generators};

/// The most contributions of a ceremony.
pub const CONTRIBUTIONS_MAX: usize = 1_024;
/// The most bytes of a name. (snarkjs takes 64 characters.)
pub const NAME_BYTES_MAX: usize = 64;
/// The most bytes of a beacon.
pub const BEACON_BYTES_MAX: usize = 255;
/// Logarithms of the iterations that a beacon may have. 2^32 take minutes to check.
pub const BEACON_ITERATIONS_LOG2: RangeInclusive<u8> = 10..=32;

const POINTS_BYTES: usize = 3 * g1::Config::POINT_BYTES + g2::Config::POINT_BYTES;
const PARAMETERS_BYTES_MAX: usize = 2 + 255 + 2 + 2 + 255;
/// The longest chain, in bytes.
pub(crate) const CHAIN_BYTES_MAX: u64 = (68 + CONTRIBUTIONS_MAX * (POINTS_BYTES + 72 + PARAMETERS_BYTES_MAX)) as u64;

const NAME: u8 = 1;
const ITERATIONS: u8 = 2;
const BEACON: u8 = 3;

/// A public random value that nobody knew before a time, and how often it is hashed so that nobody could try many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// The value, 1 to [`BEACON_BYTES_MAX`] bytes.
    pub value: Vec<u8>,
    /// The logarithm of the number of iterations of SHA-256, in [`BEACON_ITERATIONS_LOG2`].
    pub iterations_log2: u8,
}

/// One contribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contribution {
    /// Delta after it.
    pub(crate) delta_g1: G1Affine,
    /// `s`.
    pub(crate) s: G1Affine,
    /// `x·s`.
    pub(crate) s_x: G1Affine,
    /// `x·R`.
    pub(crate) r_x: G2Affine,
    /// The hash of what came before, of `s` and of `x·s`.
    pub(crate) transcript: Blake2bHash,
    /// Who, as they say.
    pub(crate) name: Option<String>,
    /// A beacon, or a participant.
    pub(crate) beacon: Option<Beacon>,
}

/// A contribution's secret, with the point that it is proven on.
pub(crate) struct DeltaKey {
    pub(crate) x: Zeroizing<Fr>,
    pub(crate) s: G1Affine,
}

impl DeltaKey {
    /// What a beacon gives.
    pub(crate) fn of_beacon(beacon: &Beacon) -> Self {
        let mut stream = Stream::from_beacon(&beacon.value, beacon.iterations_log2);
        let x = Zeroizing::new(stream.scalar());
        Self { x, s: stream.g1() }
    }
}

impl Contribution {
    /// Adds what names the contribution to a hash.
    fn hash_into(&self, hasher: &mut Blake2b512) {
        hash_points(hasher, &[self.delta_g1, self.s, self.s_x]);
        hash_points(hasher, &[self.r_x]);
        hasher.update(self.transcript.as_bytes());
    }

    /// What snarkjs prints as the contribution hash: a participant publishes it and finds it again in the transcript.
    pub(crate) fn hash(&self) -> Blake2bHash {
        let mut hasher = Blake2b512::new();
        self.hash_into(&mut hasher);
        Blake2bHash::of(hasher)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        [self.delta_g1, self.s, self.s_x].iter().for_each(|point| g1::Config::write(point, out));
        g2::Config::write(&self.r_x, out);
        out.extend(self.transcript.as_bytes());
        out.extend(u32::from(self.beacon.is_some()).to_le_bytes());
        let mut parameters = Vec::new();
        if let Some(name) = &self.name {
            parameters.push(NAME);
            push_short(&mut parameters, name.as_bytes());
        }
        if let Some(Beacon { value, iterations_log2 }) = &self.beacon {
            parameters.extend([ITERATIONS, *iterations_log2, BEACON]);
            push_short(&mut parameters, value);
        }
        out.extend(number(parameters.len()).to_le_bytes());
        out.extend(parameters);
    }
}

/// A length of one byte, and the bytes: what is longer was refused before.
fn push_short(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(u8::try_from(bytes.len()).expect("names and beacons have at most 255 bytes"));
    out.extend(bytes);
}

/// The contributions, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) circuit_hash: Blake2bHash,
    pub(crate) contributions: Vec<Contribution>,
}

impl Chain {
    pub(crate) const fn new(circuit_hash: Blake2bHash) -> Self {
        Self { circuit_hash, contributions: Vec::new() }
    }

    /// Delta after the last contribution.
    pub(crate) fn delta_g1(&self) -> G1Affine {
        self.contributions.last().map_or(generators().0, |last| last.delta_g1)
    }

    /// Whether a beacon closes it.
    pub(crate) fn is_closed(&self) -> bool {
        self.contributions.last().is_some_and(|last| last.beacon.is_some())
    }

    /// Adds a contribution.
    pub(crate) fn push(&mut self, key: &DeltaKey, name: Option<String>, beacon: Option<Beacon>) -> &Contribution {
        let DeltaKey { x, s } = key;
        let s_x = (*s * **x).into_affine();
        let transcript = self.challenge(self.contributions.len(), s, &s_x);
        let r_x = (base_of(&transcript) * **x).into_affine();
        let delta_g1 = (self.delta_g1() * **x).into_affine();
        self.contributions.push(Contribution { delta_g1, s: *s, s_x, r_x, transcript, name, beacon });
        self.contributions.last().expect("one was pushed")
    }

    /// The transcript of the next contribution after the first `before`.
    fn challenge(&self, before: usize, s: &G1Affine, s_x: &G1Affine) -> Blake2bHash {
        let mut hasher = Blake2b512::new();
        hasher.update(self.circuit_hash.as_bytes());
        self.contributions[..before].iter().for_each(|contribution| contribution.hash_into(&mut hasher));
        hash_points(&mut hasher, &[*s, *s_x]);
        Blake2bHash::of(hasher)
    }

    /// Checks every contribution, in order; the error names the first that does not hold, counted from 1.
    pub(crate) fn verify(&self) -> core::result::Result<(), (usize, BadChain)> {
        let (mut delta, mut closed) = (generators().0, false);
        for (index, contribution) in self.contributions.iter().enumerate() {
            let checked = if closed { Err(BadChain::AfterBeacon) } else { self.verify_one(index, contribution, delta) };
            checked.map_err(|reason| (index + 1, reason))?;
            delta = contribution.delta_g1;
            closed = contribution.beacon.is_some();
        }
        Ok(())
    }

    fn verify_one(&self, index: usize, contribution: &Contribution, delta: G1Affine) -> core::result::Result<(), BadChain> {
        let Contribution { delta_g1, s, s_x, r_x, transcript, beacon, .. } = contribution;
        if self.challenge(index, s, s_x) != *transcript {
            return Err(BadChain::Transcript);
        }
        let ratio = (base_of(transcript), *r_x);
        if !same_ratio((*s, *s_x), ratio) {
            return Err(BadChain::Knowledge);
        }
        if !same_ratio((delta, *delta_g1), ratio) {
            return Err(BadChain::Delta);
        }
        let Some(beacon) = beacon else { return Ok(()) };
        let key = DeltaKey::of_beacon(beacon);
        if key.s != *s || (key.s * *key.x).into_affine() != *s_x {
            return Err(BadChain::Beacon);
        }
        Ok(())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.circuit_hash.as_bytes().to_vec();
        bytes.extend(number(self.contributions.len()).to_le_bytes());
        self.contributions.iter().for_each(|contribution| contribution.encode(&mut bytes));
        bytes
    }

    /// Reads a chain; the error is what is wrong, in words.
    pub(crate) fn decode(bytes: &[u8]) -> core::result::Result<Self, String> {
        let mut reader = Reader { rest: bytes };
        let circuit_hash = Blake2bHash::from_bytes(reader.array()?);
        let count = u32::from_le_bytes(reader.array()?) as usize;
        if count > CONTRIBUTIONS_MAX {
            return Err(format!("it says that it has {count} contributions, more than {CONTRIBUTIONS_MAX}"));
        }
        let contributions = (1..=count).map(|number| reader.contribution().map_err(|what| format!("contribution {number}: {what}")));
        let contributions = contributions.collect::<core::result::Result<Vec<_>, _>>()?;
        if reader.rest.is_empty() { Ok(Self { circuit_hash, contributions }) } else { Err("bytes follow its contributions".to_owned()) }
    }
}

/// `R`: a point of G2 that the transcript gives.
fn base_of(transcript: &Blake2bHash) -> G2Affine {
    Stream::from_hash(transcript.as_bytes()).g2()
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> core::result::Result<&'a [u8], String> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or("it is cut off")?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> core::result::Result<[u8; N], String> {
        self.bytes(N)?.try_into().map_err(|_| "it is cut off".to_owned())
    }

    fn point<P: Curve>(&mut self) -> core::result::Result<ark_ec::short_weierstrass::Affine<P>, String> {
        let point = P::read(self.bytes(P::POINT_BYTES)?).filter(|point| !point.is_zero());
        point.ok_or_else(|| "a point is not a point of the group".to_owned())
    }

    /// Bytes behind a length of one byte.
    fn short(&mut self) -> core::result::Result<&'a [u8], String> {
        let [len] = self.array()?;
        self.bytes(usize::from(len))
    }

    fn contribution(&mut self) -> core::result::Result<Contribution, String> {
        let (delta_g1, s, s_x) = (self.point::<g1::Config>()?, self.point::<g1::Config>()?, self.point::<g1::Config>()?);
        let r_x = self.point::<g2::Config>()?;
        let transcript = Blake2bHash::from_bytes(self.array()?);
        let kind = u32::from_le_bytes(self.array()?);
        let len = u32::from_le_bytes(self.array()?) as usize;
        let mut parameters = Reader { rest: self.bytes(len)? };
        let (mut name, mut iterations, mut value) = (None, None, None);
        let mut last = 0;
        while let Some((tag, rest)) = parameters.rest.split_first() {
            parameters.rest = rest;
            // Each at most once, in ascending order: what is read is written again byte for byte.
            if *tag <= last {
                return Err("its parameters are out of order".to_owned());
            }
            last = *tag;
            match *tag {
                NAME => {
                    let text = core::str::from_utf8(parameters.short()?).map_err(|_| "its name is no text")?;
                    name = Some(text.to_owned());
                }
                ITERATIONS => iterations = Some(u8::from_le_bytes(parameters.array()?)),
                BEACON => value = Some(parameters.short()?.to_vec()),
                tag => return Err(format!("it has the unknown parameter {tag}")),
            }
        }
        let beacon = match (kind, iterations, value) {
            (0, None, None) => None,
            (1, Some(iterations_log2), Some(value)) if !value.is_empty() => {
                if !BEACON_ITERATIONS_LOG2.contains(&iterations_log2) {
                    return Err(format!("its beacon is hashed 2^{iterations_log2} times"));
                }
                Some(Beacon { value, iterations_log2 })
            }
            _ => return Err(format!("its parameters are not those of a contribution of kind {kind}")),
        };
        Ok(Contribution { delta_g1, s, s_x, r_x, transcript, name, beacon })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain of a participant, another and a beacon.
    fn chain() -> Chain {
        let mut chain = Chain::new(Blake2bHash::from_bytes([7; 64]));
        for seed in 1..3_u8 {
            let mut stream = Stream::new(&[seed; 32]);
            let key = DeltaKey { x: Zeroizing::new(stream.scalar()), s: stream.g1() };
            chain.push(&key, (seed == 1).then(|| "Ada".to_owned()), None);
        }
        let beacon = Beacon { value: vec![1, 2, 3], iterations_log2: 10 };
        chain.push(&DeltaKey::of_beacon(&beacon), None, Some(beacon));
        chain
    }

    #[test]
    fn a_chain_is_read_as_it_was_written() {
        let (chain, bytes) = (chain(), chain().encode());
        assert_eq!(Chain::decode(&bytes), Ok(chain.clone()));
        assert_eq!(chain.verify(), Ok(()));
        // Cut anywhere, or with a byte more, it is refused.
        assert!((0..bytes.len()).all(|len| Chain::decode(&bytes[..len]).is_err()));
        assert!(Chain::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn each_check_finds_its_breach() {
        let check = |change: &dyn Fn(&mut Chain), expected: (usize, BadChain)| {
            let mut chain = chain();
            change(&mut chain);
            assert_eq!(chain.verify(), Err(expected));
        };
        let other = Stream::new(&[9; 32]).g1();
        check(&|chain| chain.circuit_hash = Blake2bHash::from_bytes([8; 64]), (1, BadChain::Transcript));
        check(&|chain| chain.contributions[0].s = other, (1, BadChain::Transcript));
        check(&|chain| chain.contributions[1].delta_g1 = other, (2, BadChain::Delta));
        check(&|chain| chain.contributions[0].delta_g1 = other, (1, BadChain::Delta));
        check(&|chain| chain.contributions[1].r_x = Stream::new(&[9; 32]).g2(), (2, BadChain::Knowledge));
        check(&|chain| chain.contributions.swap(0, 1), (1, BadChain::Transcript));
        check(&|chain| drop(chain.contributions.remove(0)), (1, BadChain::Transcript));
        // A beacon with another value, and a participant who says to be one.
        let beacon = Beacon { value: vec![4], iterations_log2: 10 };
        check(&|chain| chain.contributions[2].beacon = Some(beacon.clone()), (3, BadChain::Beacon));
        check(&|chain| chain.contributions[1].beacon = Some(beacon.clone()), (2, BadChain::Beacon));
        let after = |chain: &mut Chain| {
            let mut stream = Stream::new(&[5; 32]);
            let key = DeltaKey { x: Zeroizing::new(stream.scalar()), s: stream.g1() };
            chain.push(&key, None, None);
        };
        check(&after, (4, BadChain::AfterBeacon));
    }

    #[test]
    fn a_beacon_that_takes_days_to_check_is_not_read() {
        let mut chain = chain();
        chain.contributions[2].beacon = Some(Beacon { value: vec![1], iterations_log2: 33 });
        assert_eq!(Chain::decode(&chain.encode()), Err("contribution 3: its beacon is hashed 2^33 times".to_owned()));
    }
}
