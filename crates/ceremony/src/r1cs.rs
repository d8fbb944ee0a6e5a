//! A circuit as `.r1cs`: header, rows, and a map of wires to labels, here each its own.

use std::path::Path;

use ark_bn254::Fr;
use ark_ff::{BigInt, BigInteger, PrimeField};
use millstream_circuit::{MatrixName, PUBLIC_INPUTS, Structure};

use crate::curve::FIELD_BYTES;
use crate::sections::{Result, SectionWriter};

const MATRICES: [MatrixName; 3] = [MatrixName::A, MatrixName::B, MatrixName::C];

/// Writes the circuit's matrices for snarkjs: wires in the circuit's order, the one first, then the public inputs.
///
/// # Errors
/// [`CeremonyError::Exists`](crate::CeremonyError::Exists), [`CeremonyError::File`](crate::CeremonyError::File).
pub fn write_r1cs(structure: &Structure, path: &Path) -> Result<()> {
    let mut writer = SectionWriter::create(path, "r1cs", 1, 3)?;
    let (wires, rows) = (number(structure.variables()), number(structure.constraints()));
    let public = number(PUBLIC_INPUTS);
    let outputs = 0_u32;
    let mut header = (FIELD_BYTES as u32).to_le_bytes().to_vec();
    header.extend(little_endian(&Fr::MODULUS));
    for count in [wires, outputs, public, wires - public - 1] {
        header.extend(count.to_le_bytes());
    }
    header.extend(u64::from(wires).to_le_bytes());
    header.extend(rows.to_le_bytes());
    writer.section(1, &header)?;

    let entries: usize = MATRICES.iter().map(|name| structure.entries(*name)).sum();
    writer.begin(2, (3 * 4 * structure.constraints() + entries * (4 + FIELD_BYTES)) as u64)?;
    for row in 0..structure.constraints() {
        for name in MATRICES {
            let terms: Vec<_> = structure.row(name, row).collect();
            writer.write(&number(terms.len()).to_le_bytes())?;
            for (variable, coefficient) in terms {
                writer.write(&number(variable).to_le_bytes())?;
                writer.write(&little_endian(&coefficient.into_bigint()))?;
            }
        }
    }

    writer.begin(3, u64::from(wires) * 8)?;
    for wire in 0..u64::from(wires) {
        writer.write(&wire.to_le_bytes())?;
    }
    writer.finish()
}

/// The formats count in 32 bits, and so does [`Structure`].
pub(crate) fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a recorded circuit has fewer than 2^32 of anything that is counted here")
}

pub(crate) fn little_endian(value: &BigInt<4>) -> Vec<u8> {
    value.to_bytes_le()
}
