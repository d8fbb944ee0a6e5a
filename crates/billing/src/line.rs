//! One payment.

use millstream_types::{Amount, AmountError, Hash256, Reference};

use crate::{hash_record, record};

/// Bytes of a line without a usage digest: `amount (8) ‖ reference (16)`.
pub const LINE_BYTES: usize = 24;

/// Bytes of a line with a usage digest.
pub const LINE_WITH_DIGEST_BYTES: usize = 56;

/// The first byte of what a leaf hashes.
pub(crate) const LEAF: u8 = 0x00;

/// One payment (B-1): an amount in nanos, the payer's reference, and what was used if the payer says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Line {
    /// Nanos, 64 bits, not zero.
    pub amount: Amount,
    /// The payer's own name for the payment.
    pub reference: Reference,
    /// SHA-256 of a usage record that both sides keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Hash256>,
}

impl Line {
    /// The leaf of this line in its frame (B-2).
    ///
    /// # Errors
    /// [`AmountError::TooWide`] when the amount does not fit 64 bits.
    pub fn leaf(&self) -> Result<Hash256, AmountError> {
        Ok(match self.digest {
            None => hash_record(LEAF, &self.raw::<LINE_BYTES>()?),
            Some(_) => hash_record(LEAF, &self.raw::<LINE_WITH_DIGEST_BYTES>()?),
        })
    }

    /// The wire form. `BYTES` is [`LINE_BYTES`] for a line without a digest and [`LINE_WITH_DIGEST_BYTES`] for one with it.
    pub(crate) fn raw<const BYTES: usize>(&self) -> Result<[u8; BYTES], AmountError> {
        let amount = self.amount.to_u64()?.to_be_bytes();
        let digest: &[u8] = self.digest.as_ref().map_or(&[], |digest| digest.as_bytes());
        Ok(record(&[&amount, self.reference.as_bytes(), digest]))
    }
}
