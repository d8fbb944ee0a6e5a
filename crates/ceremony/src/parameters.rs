//! Parameters between contributions: a `.zkey` file for Groth16.
//!
//! Sections: 1, the protocol; 2, header; 3, points of the public inputs; 4, entries of A and B; 5, 6 and 7, points of A and of B in G1 and
//! G2; 8, `L`: points of the private variables, divided by delta; 9, `H`: points of the quotient, divided by delta; 10, the chain of
//! contributions.

use std::io::Read;
use std::path::Path;

use ark_bn254::{Fq, Fr, G1Affine, G2Affine, g1, g2};
use ark_ec::AffineRepr;
use ark_ff::{BigInteger, Field, Fp, MontConfig, PrimeField};
use millstream_circuit::{MatrixName, PUBLIC_INPUTS, Structure};

use crate::chain::{CHAIN_BYTES_MAX, Chain};
use crate::curve::{Curve, FIELD_BYTES, write_points};
use crate::error::CeremonyError;
use crate::initial::{INSTANCE, Reference};
use crate::r1cs::{little_endian, number};
use crate::sections::{Result, SectionFile, SectionWriter, at};

pub(crate) const FORMAT: &str = "zkey";
pub(crate) const SECTIONS: u32 = 10;
pub(crate) const IC: u32 = 3;
pub(crate) const ENTRIES: u32 = 4;
pub(crate) const A: u32 = 5;
pub(crate) const B_G1: u32 = 6;
pub(crate) const B_G2: u32 = 7;
pub(crate) const L: u32 = 8;
pub(crate) const H: u32 = 9;
const CHAIN: u32 = 10;

const GROTH16: u32 = 1;
const ENTRY_BYTES: usize = 12 + FIELD_BYTES;
const G1_BYTES: usize = g1::Config::POINT_BYTES;
const G2_BYTES: usize = g2::Config::POINT_BYTES;
const HEADER_BYTES: usize = 2 * (4 + FIELD_BYTES) + 3 * 4 + 3 * G1_BYTES + 3 * G2_BYTES;

/// The sizes of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) variables: usize,
    /// Points of the domain, a power of two.
    pub(crate) domain: usize,
}

/// What section 2 says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) shape: Shape,
    pub(crate) alpha_g1: G1Affine,
    pub(crate) beta_g1: G1Affine,
    pub(crate) beta_g2: G2Affine,
    pub(crate) gamma_g2: G2Affine,
    pub(crate) delta_g1: G1Affine,
    pub(crate) delta_g2: G2Affine,
}

impl Header {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        for modulus in [Fq::MODULUS, Fr::MODULUS] {
            bytes.extend((FIELD_BYTES as u32).to_le_bytes());
            bytes.extend(little_endian(&modulus));
        }
        for count in [self.shape.variables, PUBLIC_INPUTS, self.shape.domain] {
            bytes.extend(number(count).to_le_bytes());
        }
        g1::Config::write(&self.alpha_g1, &mut bytes);
        g1::Config::write(&self.beta_g1, &mut bytes);
        g2::Config::write(&self.beta_g2, &mut bytes);
        g2::Config::write(&self.gamma_g2, &mut bytes);
        g1::Config::write(&self.delta_g1, &mut bytes);
        g2::Config::write(&self.delta_g2, &mut bytes);
        bytes
    }

    fn read(file: &mut SectionFile) -> Result<Self> {
        file.require_len(2, HEADER_BYTES as u64)?;
        let bytes = file.bytes(2, HEADER_BYTES as u64)?;
        let mut rest = &bytes[..];
        let mut take = |count: usize| {
            let (head, tail) = rest.split_at(count);
            rest = tail;
            head
        };
        for modulus in [Fq::MODULUS, Fr::MODULUS] {
            let (size, value) = (u32_of(take(4)), take(FIELD_BYTES));
            if size != FIELD_BYTES as u32 || value != little_endian(&modulus) {
                return Err(file.malformed("it is for another curve"));
            }
        }
        let [variables, public, domain] = [u32_of(take(4)), u32_of(take(4)), u32_of(take(4))];
        if public != number(PUBLIC_INPUTS) {
            return Err(file.malformed(format!("its circuit has {public} public inputs, not {PUBLIC_INPUTS}")));
        }
        if !domain.is_power_of_two() || domain > 1 << 27 || variables <= public {
            return Err(file.malformed(format!("its circuit has {variables} variables and a domain of {domain} points")));
        }
        let g1s = |bytes| g1::Config::read(bytes).filter(|point| !point.is_zero());
        let g2s = |bytes| g2::Config::read(bytes).filter(|point| !point.is_zero());
        let points =
            (g1s(take(G1_BYTES)), g1s(take(G1_BYTES)), g2s(take(G2_BYTES)), g2s(take(G2_BYTES)), g1s(take(G1_BYTES)), g2s(take(G2_BYTES)));
        let (Some(alpha_g1), Some(beta_g1), Some(beta_g2), Some(gamma_g2), Some(delta_g1), Some(delta_g2)) = points else {
            return Err(file.malformed("a point of its header is not a point of the group"));
        };
        let shape = Shape { variables: variables as usize, domain: domain as usize };
        Ok(Self { shape, alpha_g1, beta_g1, beta_g2, gamma_g2, delta_g1, delta_g2 })
    }
}

fn u32_of(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// A file of parameters, open for reading: its header and chain are read, and every section is as long as they say. Nothing is verified.
#[derive(Debug)]
pub(crate) struct Parameters {
    pub(crate) file: SectionFile,
    pub(crate) header: Header,
    pub(crate) chain: Chain,
}

impl Parameters {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = SectionFile::open(path, FORMAT, 2)?;
        file.require_len(1, 4)?;
        if file.bytes(1, 4)? != GROTH16.to_le_bytes() {
            return Err(file.malformed("it is for another proving system"));
        }
        let header = Header::read(&mut file)?;
        let Shape { variables, domain } = header.shape;
        let sizes = [
            (IC, INSTANCE, G1_BYTES),
            (A, variables, G1_BYTES),
            (B_G1, variables, G1_BYTES),
            (B_G2, variables, G2_BYTES),
            (L, variables - INSTANCE, G1_BYTES),
            (H, domain, G1_BYTES),
        ];
        for (section, points, bytes) in sizes {
            file.require_len(section, (points as u64) * (bytes as u64))?;
        }
        let bytes = file.bytes(CHAIN, CHAIN_BYTES_MAX)?;
        let chain = Chain::decode(&bytes).map_err(|what| file.malformed(what))?;
        Ok(Self { file, header, chain })
    }
}

/// Checks what needs neither the circuit nor the powers of tau: the format, the sizes, and each contribution. Seconds, where
/// [`Reference::verify`] needs minutes before; it says nothing about the parameters themselves.
///
/// # Errors
/// [`CeremonyError::File`], [`CeremonyError::Malformed`], [`CeremonyError::Chain`], [`CeremonyError::Parameters`] when delta is another.
pub fn check_contributions(input: &Path) -> Result<()> {
    open_with_chain(input).map(drop)
}

/// Opens a file and verifies its chain.
pub(crate) fn open_with_chain(input: &Path) -> Result<Parameters> {
    let parameters = Parameters::open(input)?;
    let verified = parameters.chain.verify();
    verified.map_err(|(number, reason)| CeremonyError::Chain { path: input.to_path_buf(), number, reason })?;
    if parameters.header.delta_g1 != parameters.chain.delta_g1() {
        return Err(CeremonyError::Parameters { path: input.to_path_buf(), what: "delta is not that of the last contribution" });
    }
    Ok(parameters)
}

/// Writes parameters from memory.
pub(crate) fn write(initial: &Reference, chain: &Chain, out: &Path) -> Result<()> {
    let mut writer = SectionWriter::create(out, FORMAT, 1, SECTIONS)?;
    begin(&mut writer, &initial.header)?;
    write_points(&mut writer, IC, &initial.ic)?;
    write_entries(&mut writer, &initial.structure)?;
    write_points(&mut writer, A, &initial.a)?;
    write_points(&mut writer, B_G1, &initial.b_g1)?;
    write_points(&mut writer, B_G2, &initial.b_g2)?;
    write_points(&mut writer, L, &initial.l)?;
    write_points(&mut writer, H, &initial.h)?;
    end(writer, chain)
}

/// Writes the first two sections.
pub(crate) fn begin(writer: &mut SectionWriter, header: &Header) -> Result<()> {
    writer.section(1, &GROTH16.to_le_bytes())?;
    writer.section(2, &header.to_bytes())
}

/// Writes the last section, and gives the file its name.
pub(crate) fn end(mut writer: SectionWriter, chain: &Chain) -> Result<()> {
    writer.section(CHAIN, &chain.encode())?;
    writer.finish()
}

/// `matrix (0: A, 1: B) ‖ row ‖ variable ‖ coefficient·R²` for each entry, row by row, and those of the rows that say that each instance
/// variable is itself. The Montgomery factor is in it twice.
fn for_entries(structure: &Structure, mut take: impl FnMut(&[u8; ENTRY_BYTES]) -> Result<()>) -> Result<()> {
    let montgomery = Fr::from_bigint(<ark_bn254::FrConfig as MontConfig<4>>::R).expect("R is below the modulus");
    let mut put = |matrix: u32, row: usize, variable: usize, coefficient: Fr| {
        let mut entry = [0; ENTRY_BYTES];
        entry[..4].copy_from_slice(&matrix.to_le_bytes());
        entry[4..8].copy_from_slice(&number(row).to_le_bytes());
        entry[8..12].copy_from_slice(&number(variable).to_le_bytes());
        let Fp(limbs, _) = coefficient * montgomery;
        entry[12..].copy_from_slice(&limbs.to_bytes_le());
        take(&entry)
    };
    for row in 0..structure.constraints() {
        for (matrix, name) in [(0, MatrixName::A), (1, MatrixName::B)] {
            structure.row(name, row).try_for_each(|(variable, coefficient)| put(matrix, row, variable, coefficient))?;
        }
    }
    (0..INSTANCE).try_for_each(|variable| put(0, structure.constraints() + variable, variable, Fr::ONE))
}

fn entries_of(structure: &Structure) -> usize {
    structure.entries(MatrixName::A) + structure.entries(MatrixName::B) + INSTANCE
}

fn write_entries(writer: &mut SectionWriter, structure: &Structure) -> Result<()> {
    let entries = entries_of(structure);
    writer.begin(ENTRIES, (4 + entries * ENTRY_BYTES) as u64)?;
    writer.write(&number(entries).to_le_bytes())?;
    for_entries(structure, |entry| writer.write(entry))
}

/// Whether section 4 has the circuit's entries.
pub(crate) fn has_entries(file: &mut SectionFile, structure: &Structure) -> Result<bool> {
    let entries = entries_of(structure);
    if file.len(ENTRIES)? != (4 + entries * ENTRY_BYTES) as u64 {
        return Ok(false);
    }
    let path = file.path().to_path_buf();
    let mut reader = file.section(ENTRIES, 0)?;
    let mut count = [0; 4];
    reader.read_exact(&mut count).map_err(at(&path))?;
    let mut same = count == number(entries).to_le_bytes();
    for_entries(structure, |entry| {
        let mut found = [0; ENTRY_BYTES];
        reader.read_exact(&mut found).map_err(at(&path))?;
        same &= found == *entry;
        Ok(())
    })?;
    Ok(same)
}
