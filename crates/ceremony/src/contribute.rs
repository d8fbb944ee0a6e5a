//! Adding to a ceremony: a participant's secret, or a beacon.

use std::path::Path;

use ark_bn254::{Fr, g1};
use ark_ec::CurveGroup;
use ark_ff::{Field, PrimeField};
use blake2::{Blake2b512, Digest};
use zeroize::Zeroizing;

use crate::chain::{BEACON_BYTES_MAX, BEACON_ITERATIONS_LOG2, Beacon, CONTRIBUTIONS_MAX, DeltaKey, NAME_BYTES_MAX};
use crate::curve::{Blake2bHash, Identity, append_points, for_points, scale};
use crate::error::CeremonyError;
use crate::parameters::{self, A, B_G1, B_G2, ENTRIES, FORMAT, H, IC, L, Parameters, SECTIONS};
use crate::random::Stream;
use crate::sections::{Result, SectionWriter};

/// A participant's entropy. Whoever knows it can undo the contribution, so it exists in memory only, and is wiped.
pub struct Secret(Zeroizing<[u8; 64]>);

impl Secret {
    /// From 64 bytes of the operating system and, hashed with them, whatever the participant adds: that can only help.
    ///
    /// # Errors
    /// [`CeremonyError::Entropy`].
    pub fn from_os(added: &[u8]) -> Result<Self> {
        let mut entropy = Zeroizing::new([0; 64]);
        getrandom::fill(entropy.as_mut()).map_err(CeremonyError::Entropy)?;
        Ok(Self::from_entropy(&entropy, added))
    }

    fn from_entropy(entropy: &[u8; 64], added: &[u8]) -> Self {
        let mut hash = Zeroizing::new([0; 64]);
        let hasher = Blake2b512::new().chain_update(b"millstream ceremony secret 1").chain_update(entropy).chain_update(added);
        hasher.finalize_into(hash.as_mut().into());
        Self(hash)
    }

    fn part(&self, label: &[u8]) -> Zeroizing<[u8; 64]> {
        let mut hash = Zeroizing::new([0; 64]);
        Blake2b512::new().chain_update(label).chain_update(self.0.as_slice()).finalize_into(hash.as_mut().into());
        hash
    }

    /// The secret factor, 512 bits reduced, and a point that says nothing about it.
    fn delta_key(&self) -> DeltaKey {
        let x = Zeroizing::new(Fr::from_le_bytes_mod_order(&*self.part(b"factor")));
        DeltaKey { x, s: Stream::from_hash(&self.part(b"point")).g1() }
    }
}

/// A contribution that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contributed {
    /// Its place in the chain, counted from 1.
    pub number: usize,
    /// Its hash, to be published: it is found again in the transcript.
    pub hash: Blake2bHash,
    /// What the ceremony is about.
    pub circuit_hash: Blake2bHash,
}

/// Multiplies delta by a secret: reads the parameters in `input` and writes those with one contribution more to `out`.
///
/// The chain of `input` is verified, its parameters are not: that needs the powers of tau, and is for [`Reference::verify`](crate::Reference::verify).
///
/// # Errors
/// [`CeremonyError`]: the name is too long, the chain does not hold, is closed or is full, or a file.
pub fn contribute(input: &Path, out: &Path, name: Option<&str>, secret: Secret) -> Result<Contributed> {
    if let Some(name) = name {
        require_length("a name", name.len(), 1, NAME_BYTES_MAX)?;
    }
    let key = secret.delta_key();
    drop(secret);
    apply(input, out, name.map(str::to_owned), None, || key)
}

/// Closes a ceremony: multiplies delta by a number that a public random value gives, so that the last participant could not choose the
/// key.
///
/// # Errors
/// As [`contribute`], and [`CeremonyError::Iterations`].
pub fn beacon(input: &Path, out: &Path, name: Option<&str>, beacon: Beacon) -> Result<Contributed> {
    if let Some(name) = name {
        require_length("a name", name.len(), 1, NAME_BYTES_MAX)?;
    }
    require_length("a beacon", beacon.value.len(), 1, BEACON_BYTES_MAX)?;
    let (min, max) = BEACON_ITERATIONS_LOG2.into_inner();
    if !BEACON_ITERATIONS_LOG2.contains(&beacon.iterations_log2) {
        return Err(CeremonyError::Iterations { min, max, found: beacon.iterations_log2 });
    }
    apply(input, out, name.map(str::to_owned), Some(beacon.clone()), || DeltaKey::of_beacon(&beacon))
}

fn require_length(what: &'static str, found: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&found) { Ok(()) } else { Err(CeremonyError::Length { what, min, max, found }) }
}

fn apply(input: &Path, out: &Path, name: Option<String>, beacon: Option<Beacon>, key: impl FnOnce() -> DeltaKey) -> Result<Contributed> {
    let path = || input.to_path_buf();
    let Parameters { mut file, mut header, mut chain } = parameters::open_with_chain(input)?;
    if chain.is_closed() {
        return Err(CeremonyError::Closed { path: path() });
    }
    if chain.contributions.len() >= CONTRIBUTIONS_MAX {
        return Err(CeremonyError::Full { path: path(), max: CONTRIBUTIONS_MAX });
    }
    // Before the work, so that it is not done for nothing.
    let mut writer = SectionWriter::create(out, FORMAT, 1, SECTIONS)?;

    let key = key();
    let hash = chain.push(&key, name, beacon).hash();
    header.delta_g1 = chain.delta_g1();
    header.delta_g2 = (header.delta_g2 * *key.x).into_affine();
    // A factor of zero has a chance of 2^-253.
    let inverse = Zeroizing::new(key.x.inverse().expect("the factor is not zero"));
    parameters::begin(&mut writer, &header)?;
    for section in [IC, ENTRIES, A, B_G1, B_G2] {
        writer.copy(&mut file, section)?;
    }
    for (section, count) in [(L, header.shape.variables - crate::initial::INSTANCE), (H, header.shape.domain)] {
        tracing::info!(section, points = count, "multiplying");
        writer.begin(section, file.len(section)?)?;
        for_points::<g1::Config>(&mut file, section, (0, count), Identity::Allowed, |points| {
            append_points(&mut writer, &scale(points, *inverse))
        })?;
    }
    parameters::end(writer, &chain)?;
    Ok(Contributed { number: chain.contributions.len(), hash, circuit_hash: chain.circuit_hash })
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_depends_on_all_entropy_and_its_parts_differ() {
        let secret = |os: u8, added: &[u8]| Secret::from_entropy(&[os; 64], added);
        let factor = |secret: Secret| *secret.delta_key().x;
        assert_eq!(factor(secret(1, b"a")), factor(secret(1, b"a")));
        assert_ne!(factor(secret(1, b"a")), factor(secret(2, b"a")));
        assert_ne!(factor(secret(1, b"a")), factor(secret(1, b"b")));
        assert_ne!(*secret(1, b"").part(b"factor"), *secret(1, b"").part(b"point"));
    }
}
