//! What `settle` does to a book, and its calldata: 8 bytes a slot, zeros up to a multiple of 31.

use ark_bn254::Fr;
use ark_ff::PrimeField;

use crate::book::{Book, BookSize};
use crate::error::CircuitError;

/// Bytes of one word of data: the most that are a canonical field element whatever they hold.
pub(crate) const WORD_BYTES: usize = 31;

/// Bytes of one delta.
pub(crate) const DELTA_BYTES: usize = 8;

/// The exact length of the deltas of a book, in bytes: `31 · ceil(8·N / 31)` (L-12).
#[must_use]
pub fn deltas_len(size: BookSize) -> usize {
    (size.to_usize() * DELTA_BYTES).next_multiple_of(WORD_BYTES)
}

/// The calldata for one delta a slot, in nanos and slot order.
pub(crate) fn encode_deltas(size: BookSize, deltas: &[u64]) -> Vec<u8> {
    let mut bytes: Vec<u8> = deltas.iter().flat_map(|delta| delta.to_be_bytes()).collect();
    bytes.resize(deltas_len(size), 0);
    bytes
}

/// The words `w_j`: each run of 31 bytes as a field element.
pub(crate) fn delta_words(bytes: &[u8]) -> Vec<Fr> {
    bytes.chunks(WORD_BYTES).map(Fr::from_be_bytes_mod_order).collect()
}

impl Book {
    /// Applies the calldata of a `settle` (L-13, L-15). The book is unchanged on an error.
    ///
    /// Returns the total in nanos. This replays what the ledger has accepted; it checks no signature.
    ///
    /// # Errors
    /// [`CircuitError::DeltasLength`], [`CircuitError::DeltasPadding`], [`CircuitError::EmptySlot`] for a delta on an empty slot, and
    /// [`CircuitError::AboveDeposit`].
    pub fn apply_deltas(&mut self, bytes: &[u8]) -> Result<u128, CircuitError> {
        let expected = deltas_len(self.size());
        if bytes.len() != expected {
            return Err(CircuitError::DeltasLength { expected, actual: bytes.len() });
        }
        let (deltas, padding) = bytes.split_at(self.size().to_usize() * DELTA_BYTES);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(CircuitError::DeltasPadding);
        }
        let deltas: Vec<u64> = deltas.as_chunks::<DELTA_BYTES>().0.iter().map(|delta| u64::from_be_bytes(*delta)).collect();
        self.settle(&deltas)
    }

    /// Applies one delta for each slot, in nanos and slot order (L-13, L-15); slots past the end of the list pay nothing. The book is unchanged
    /// on an error.
    ///
    /// Returns the total in nanos. This replays what the ledger has accepted; it checks no signature.
    ///
    /// # Errors
    /// [`CircuitError::NoSuchSlot`] for more deltas than slots, [`CircuitError::EmptySlot`] for a delta on an empty slot, and
    /// [`CircuitError::AboveDeposit`].
    pub fn settle(&mut self, deltas: &[u64]) -> Result<u128, CircuitError> {
        let mut after = self.slots.clone();
        if deltas.len() > after.len() {
            return Err(CircuitError::NoSuchSlot { slot: after.len(), slots: after.len() });
        }
        let mut total: u128 = 0;
        for ((number, slot), delta) in (0..self.size().slots()).zip(&mut after).zip(deltas.iter().copied()) {
            if delta == 0 {
                continue;
            }
            let slot = slot.as_mut().ok_or(CircuitError::EmptySlot { slot: number })?;
            slot.settled_nanos =
                slot.settled_nanos.checked_add(delta).filter(|new| *new <= slot.deposit_nanos).ok_or(CircuitError::AboveDeposit {
                    slot: number,
                    deposit_nanos: slot.deposit_nanos,
                    cumulative_nanos: u128::from(slot.settled_nanos) + u128::from(delta),
                })?;
            total += u128::from(delta);
        }
        self.slots = after;
        Ok(total)
    }
}
