//! A witness as `.wtns`: header, values. For another prover to prove the same with.

use std::path::Path;

use ark_bn254::Fr;
use ark_ff::PrimeField;
use millstream_circuit::Witness;

use crate::curve::FIELD_BYTES;
use crate::r1cs::{little_endian, number};
use crate::sections::{Result, SectionWriter};

/// Writes the values of a circuit's variables for snarkjs, in the order of [`write_r1cs`](crate::write_r1cs). They say what was signed and by
/// whom: the file is as private as the vouchers are.
///
/// # Errors
/// [`CeremonyError::Exists`](crate::CeremonyError::Exists), [`CeremonyError::File`](crate::CeremonyError::File).
pub fn write_witness(witness: &Witness, path: &Path) -> Result<()> {
    let values = &witness.assignment;
    let mut writer = SectionWriter::create(path, "wtns", 2, 2)?;
    let mut header = (FIELD_BYTES as u32).to_le_bytes().to_vec();
    header.extend(little_endian(&Fr::MODULUS));
    header.extend(number(values.len()).to_le_bytes());
    writer.section(1, &header)?;
    writer.begin(2, (values.len() * FIELD_BYTES) as u64)?;
    for value in values {
        writer.write(&little_endian(&value.into_bigint()))?;
    }
    writer.finish()
}
