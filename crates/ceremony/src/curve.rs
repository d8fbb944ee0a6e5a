//! Points as bytes, and hashes of them.
//!
//! In files a coordinate is its Montgomery form, 32 bytes, little-endian; `Fq2` is `c0 ‖ c1`; a point is `x ‖ y`, and zeros are the
//! identity. In hashes a coordinate is canonical and big-endian, and `Fq2` is `c1 ‖ c0`.

use core::fmt;
use core::str::FromStr;
use std::io::Read;

use ark_bn254::{Bn254, Fq, Fq2, Fr, G1Affine, G2Affine, g1, g2};
use ark_ec::pairing::Pairing;
use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{BigInt, BigInteger, Field, PrimeField};
use blake2::{Blake2b512, Digest};
use rayon::prelude::*;

use crate::error::CeremonyError;
use crate::sections::{Result, SectionFile, SectionWriter, at};

/// Bytes of a field element.
pub(crate) const FIELD_BYTES: usize = 32;
/// Points that are read, changed and written at once.
pub(crate) const CHUNK: usize = 1 << 15;

/// A BLAKE2b-512 hash, as 128 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blake2bHash([u8; 64]);

impl Blake2bHash {
    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    pub(crate) fn of(hasher: Blake2b512) -> Self {
        Self(hasher.finalize().into())
    }
}

impl fmt::Display for Blake2bHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Blake2bHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Blake2bHash {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> core::result::Result<Self, Self::Err> {
        let mut bytes = [0; 64];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// A coordinate of a point.
pub(crate) trait Coordinate: Copy + Sized {
    /// Bytes of one.
    const BYTES: usize;

    /// From the form of files; nothing when it is not canonical.
    fn read(bytes: &[u8]) -> Option<Self>;
    /// In the form of files.
    fn write(&self, out: &mut Vec<u8>);
    /// In the form of hashes.
    fn write_plain(&self, out: &mut Vec<u8>);
}

impl Coordinate for Fq {
    const BYTES: usize = FIELD_BYTES;

    fn read(bytes: &[u8]) -> Option<Self> {
        let limbs = bigint(bytes.try_into().ok()?);
        (limbs < Self::MODULUS).then(|| Self::new_unchecked(limbs))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.0.0.iter().flat_map(|limb| limb.to_le_bytes()));
    }

    fn write_plain(&self, out: &mut Vec<u8>) {
        out.extend(self.into_bigint().to_bytes_be());
    }
}

impl Coordinate for Fq2 {
    const BYTES: usize = 2 * FIELD_BYTES;

    fn read(bytes: &[u8]) -> Option<Self> {
        let (c0, c1) = bytes.split_at_checked(FIELD_BYTES)?;
        Some(Self::new(Fq::read(c0)?, Fq::read(c1)?))
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.c0.write(out);
        self.c1.write(out);
    }

    fn write_plain(&self, out: &mut Vec<u8>) {
        self.c1.write_plain(out);
        self.c0.write_plain(out);
    }
}

/// The integer of little-endian bytes.
pub(crate) fn bigint(bytes: &[u8; FIELD_BYTES]) -> BigInt<4> {
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(bytes);
        *limb = u64::from_le_bytes(eight);
    }
    BigInt::new(limbs)
}

/// A curve whose points are in files.
pub(crate) trait Curve: SWCurveConfig<ScalarField = Fr, BaseField: Coordinate> {
    /// Bytes of a point.
    const POINT_BYTES: usize = 2 * <Self::BaseField as Coordinate>::BYTES;

    /// From the form of files; nothing when it is no point of the group.
    fn read(bytes: &[u8]) -> Option<Affine<Self>> {
        if bytes.len() == Self::POINT_BYTES && bytes.iter().all(|byte| *byte == 0) {
            return Some(Affine::identity());
        }
        let (x, y) = bytes.split_at_checked(<Self::BaseField as Coordinate>::BYTES)?;
        let point = Affine::new_unchecked(Coordinate::read(x)?, Coordinate::read(y)?);
        (point.is_on_curve() && point.is_in_correct_subgroup_assuming_on_curve()).then_some(point)
    }

    /// In the form of files.
    fn write(point: &Affine<Self>, out: &mut Vec<u8>) {
        match point.xy() {
            Some((x, y)) => {
                x.write(out);
                y.write(out);
            }
            None => out.resize(out.len() + Self::POINT_BYTES, 0),
        }
    }

    /// In the form of hashes.
    fn write_plain(point: &Affine<Self>, out: &mut Vec<u8>) {
        match point.xy() {
            Some((x, y)) => {
                x.write_plain(out);
                y.write_plain(out);
            }
            None => out.resize(out.len() + Self::POINT_BYTES, 0),
        }
    }
}

impl Curve for g1::Config {}
impl Curve for g2::Config {}

/// Adds points to a hash.
pub(crate) fn hash_points<P: Curve>(hasher: &mut Blake2b512, points: &[Affine<P>]) {
    for chunk in points.chunks(CHUNK) {
        let mut bytes = Vec::with_capacity(chunk.len() * P::POINT_BYTES);
        chunk.iter().for_each(|point| P::write_plain(point, &mut bytes));
        hasher.update(&bytes);
    }
}

/// Whether the identity may be among points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// A variable that no row has stands for it.
    Allowed,
    /// No power of a secret is it.
    Refused,
}

/// Reads points, `count` from `first` on, a chunk at a time, each checked.
pub(crate) fn for_points<P: Curve>(
    file: &mut SectionFile,
    section: u32,
    (first, count): (usize, usize),
    identity: Identity,
    mut take: impl FnMut(&[Affine<P>]) -> Result<()>,
) -> Result<()> {
    let path = file.path().to_path_buf();
    let mut reader = file.section(section, (first as u64) * (P::POINT_BYTES as u64))?;
    let mut bytes = vec![0; CHUNK.min(count) * P::POINT_BYTES];
    for start in (0..count).step_by(CHUNK) {
        let bytes = &mut bytes[..CHUNK.min(count - start) * P::POINT_BYTES];
        reader.read_exact(bytes).map_err(at(&path))?;
        let decoded: core::result::Result<Vec<Affine<P>>, usize> = bytes
            .par_chunks_exact(P::POINT_BYTES)
            .enumerate()
            .map(|(index, bytes)| {
                let point = P::read(bytes).filter(|point| identity == Identity::Allowed || !point.is_zero());
                point.ok_or(first + start + index)
            })
            .collect();
        let points = decoded.map_err(|index| CeremonyError::BadPoint { path: path.clone(), section, index })?;
        take(&points)?;
    }
    Ok(())
}

/// Reads points into memory, each checked.
pub(crate) fn read_points<P: Curve>(
    file: &mut SectionFile,
    section: u32,
    range: (usize, usize),
    identity: Identity,
) -> Result<Vec<Affine<P>>> {
    let mut all = Vec::with_capacity(range.1);
    for_points(file, section, range, identity, |points| {
        all.extend_from_slice(points);
        Ok(())
    })?;
    Ok(all)
}

/// Writes a section of points.
pub(crate) fn write_points<P: Curve>(writer: &mut SectionWriter, section: u32, points: &[Affine<P>]) -> Result<()> {
    writer.begin(section, (points.len() as u64) * (P::POINT_BYTES as u64))?;
    append_points(writer, points)
}

/// Writes points of the section that was begun.
pub(crate) fn append_points<P: Curve>(writer: &mut SectionWriter, points: &[Affine<P>]) -> Result<()> {
    for chunk in points.chunks(CHUNK) {
        let mut bytes = Vec::with_capacity(chunk.len() * P::POINT_BYTES);
        chunk.iter().for_each(|point| P::write(point, &mut bytes));
        writer.write(&bytes)?;
    }
    Ok(())
}

/// Multiplies each point by the factor.
pub(crate) fn scale<P: Curve>(points: &[Affine<P>], factor: Fr) -> Vec<Affine<P>> {
    to_affine(&points.par_iter().map(|point| *point * factor).collect::<Vec<_>>())
}

/// Points in affine form, on all threads.
pub(crate) fn to_affine<P: Curve>(points: &[Projective<P>]) -> Vec<Affine<P>> {
    points.par_chunks(1 << 12).flat_map_iter(Projective::normalize_batch).collect()
}

/// Whether `e(a, b) = e(c, d)`, none of them the identity: `a` and `c` are as `d` and `b`.
pub(crate) fn same_ratio((a, c): (G1Affine, G1Affine), (d, b): (G2Affine, G2Affine)) -> bool {
    if a.is_zero() || c.is_zero() || b.is_zero() || d.is_zero() {
        return false;
    }
    Bn254::multi_pairing([a, -c], [b, d]).0 == <Bn254 as Pairing>::TargetField::ONE
}
