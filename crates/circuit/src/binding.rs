//! How a proof is bound to calldata without hashing it in the circuit (spec, section Data binding).
//!
//! `C` commits to the data before `r` is known, `r` hashes everything public, and `y` is the data's polynomial at `r`. A prover whose
//! data differs from the calldata in any word needs two different polynomials of degree below 2^14 that agree at `r`: a chance below
//! 2^-239 for each `r`, and every change of what it could vary gives another `r`.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, PrimeField};
use millstream_types::{BookId, LedgerId};
use millstream_voucher::poseidon::Tag;
use sha3::{Digest, Keccak256};

use crate::rows::Row;
use crate::tree::{field_to_word, tree};

/// The ledger and the book that a proof is for; both are hashed into `r`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The ledger.
    pub ledger: LedgerId,
    /// The book.
    pub book: BookId,
}

/// The public inputs of both circuits, in the order of the verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicInputs {
    /// `C`: the commitment to the data (L-9).
    pub commitment: Fr,
    /// `r`: where the data's polynomial is evaluated (L-11).
    pub point: Fr,
    /// `y`: its value there (L-10).
    pub value: Fr,
}

impl PublicInputs {
    /// `[C, r, y]`.
    #[must_use]
    pub const fn to_array(self) -> [Fr; 3] {
        [self.commitment, self.point, self.value]
    }
}

/// What `r` hashes besides the place and `C`.
pub(crate) struct Transcript<'a> {
    /// The string whose keccak is the type hash.
    pub(crate) domain: &'a str,
    pub(crate) place: Place,
    pub(crate) old_root: Fr,
    pub(crate) new_root: Fr,
    pub(crate) total_nanos: u128,
    pub(crate) data_hash: [u8; 32],
}

impl Transcript<'_> {
    /// The public inputs for the data `D` (L-9 … L-11).
    pub(crate) fn bind(&self, data: &[Fr]) -> PublicInputs {
        let commitment = tree(Tag::Commitment, data);
        let point = self.point(commitment);
        PublicInputs { commitment, point, value: horner(data, point) }
    }

    fn point(&self, commitment: Fr) -> Fr {
        let chain = u128::from(self.place.ledger.chain.get());
        let words = [
            keccak(self.domain.as_bytes()),
            word(&chain.to_be_bytes()),
            word(self.place.ledger.contract.as_bytes()),
            word(&self.place.book.to_u32().to_be_bytes()),
            field_to_word(self.old_root),
            field_to_word(self.new_root),
            word(&self.total_nanos.to_be_bytes()),
            field_to_word(commitment),
            self.data_hash,
        ];
        Fr::from_be_bytes_mod_order(&keccak(words.as_flattened()))
    }
}

/// `y` of L-10.
pub(crate) fn horner(data: &[Fr], point: Fr) -> Fr {
    data.iter().fold(Fr::ZERO, |value, word| value * point + word)
}

/// Bytes as one right-aligned word of the ABI; at most 32 of them.
fn word(bytes: &[u8]) -> [u8; 32] {
    let mut word = [0; 32];
    word[32 - bytes.len()..].copy_from_slice(bytes);
    word
}

pub(crate) fn keccak(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

/// `abi.encode(rows)` for the ABI type `Row[]`: an offset, a length, six words a row.
#[must_use]
pub fn encode_rows(rows: &[Row]) -> Vec<u8> {
    let mut words = Vec::with_capacity(2 + 6 * rows.len());
    words.push(word(&[0x20]));
    words.push(word(&rows.len().to_be_bytes()));
    for row in rows {
        words.extend([
            word(&row.slot.to_be_bytes()),
            word(&[row.flags()]),
            word(&row.delta_nanos().to_be_bytes()),
            word(&row.refund_nanos().to_be_bytes()),
            *row.uid.as_bytes(),
            field_to_word(row.key_x()),
        ]);
    }
    words.into_flattened()
}
