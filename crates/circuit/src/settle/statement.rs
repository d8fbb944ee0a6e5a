//! From a book and vouchers to everything that a settlement needs: calldata, roots, public inputs, witness.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};
use millstream_voucher::babyjubjub::{GENERATOR, Scalar};
use millstream_voucher::{Message, PublicKey, VerifiedVoucher};
use rayon::prelude::*;

use super::circuit::{SettleInputs, SettleSlot, settle};
use crate::binding::{Place, PublicInputs, Transcript, keccak};
use crate::book::{Book, Slot, SlotFields};
use crate::cs::{Values, Witness};
use crate::deltas::{delta_words, encode_deltas};
use crate::error::CircuitError;
use crate::gadgets::fixed_base::Digits;
use crate::gadgets::schnorr::SignatureHint;
use crate::tree::field_to_word;

/// The keccak of this is the type hash of a settlement's `r` (L-11).
const DOMAIN: &str = "MillstreamSettle/1";

/// `e = 2c + 2^128 + 1` modulo `l`.
pub(super) fn challenge_scalar(challenge: u128) -> Scalar {
    Scalar::from(challenge) + Scalar::from(challenge) + Scalar::from(2u64).pow([128u64]) + Scalar::ONE
}

/// The signature of an inactive slot: by the secret 1 with the nonce 1, so anyone can make it, and it says nothing.
pub(super) fn dummy_signature(before: &SlotFields) -> SignatureHint {
    let message = Message { uid: before.uid, cumulative: Fr::from(before.settled_nanos), bill: Fr::ZERO };
    let challenge = message.challenge(GENERATOR.x);
    // S = 1 + e is below l and not zero.
    let response = Digits::new(&(Scalar::ONE + challenge_scalar(challenge))).unwrap_or_default();
    SignatureHint { key: GENERATOR, challenge, response }
}

/// A settlement that is ready to be proved.
#[derive(Clone, Debug)]
pub struct SettleStatement {
    /// Where it is valid.
    pub place: Place,
    /// The book once the ledger has accepted it.
    pub book_after: Book,
    /// The calldata: 8 bytes a slot, zeros up to a multiple of 31.
    pub deltas: Vec<u8>,
    /// `Σ delta`, in nanos: the provider's credit; below 2^76.
    pub total_nanos: u128,
    /// The root before.
    pub old_root: Fr,
    /// The root after.
    pub new_root: Fr,
    /// `(C, r, y)`.
    pub public: PublicInputs,
    inputs: SettleInputs,
}

impl SettleStatement {
    /// Settles at most one voucher a slot, `vouchers[i]` in slot `i`; slots past the end of the list are inactive.
    ///
    /// Every signature is checked again (V-7) with the key in the slot, in parallel: a proof of a bad one would cost far more, and a
    /// voucher that was verified with another key than the slot's is found here.
    ///
    /// # Errors
    /// The first slot that is wrong, checked in this order: [`CircuitError::NoSuchSlot`] for too many entries,
    /// [`CircuitError::EmptySlot`], [`CircuitError::WrongChannel`], [`CircuitError::BelowSettled`], [`CircuitError::AboveDeposit`],
    /// [`CircuitError::BadKey`], [`CircuitError::BadSignature`].
    pub fn new(place: Place, book: &Book, vouchers: &[Option<VerifiedVoucher>]) -> Result<Self, CircuitError> {
        let size = book.size();
        if vouchers.len() > size.to_usize() {
            return Err(CircuitError::NoSuchSlot { slot: vouchers.len() - 1, slots: size.to_usize() });
        }
        let slots: Vec<SettleSlot> = (0..size.slots())
            .into_par_iter()
            .map(|slot| match vouchers.get(usize::from(slot)) {
                Some(Some(voucher)) => active_slot(slot, book.slot(slot), voucher),
                Some(None) | None => {
                    let before = SlotFields::from(book.slot(slot));
                    Ok(SettleSlot { before, signature: dummy_signature(&before), ..SettleSlot::default() })
                }
            })
            // Errors are compared by slot, so that the first one does not depend on threads.
            .collect::<Vec<_>>()
            .into_iter()
            .collect::<Result<_, _>>()?;

        let deltas: Vec<u64> = slots.iter().map(|slot| slot.delta_nanos).collect();
        let deltas = encode_deltas(size, &deltas);
        let mut book_after = book.clone();
        let total_nanos = book_after.apply_deltas(&deltas)?;
        let static_root = book.static_root();
        let (old_root, new_root) = (book.root_over(static_root), book_after.root_over(static_root));

        let data = data(old_root, new_root, total_nanos, &deltas);
        let transcript = Transcript { domain: DOMAIN, place, old_root, new_root, total_nanos, data_hash: keccak(&deltas) };
        let public = transcript.bind(&data);
        Ok(Self { place, book_after, deltas, total_nanos, old_root, new_root, public, inputs: SettleInputs { public, slots } })
    }

    /// The private data `D` that `C` commits to.
    #[must_use]
    pub fn data(&self) -> Vec<Fr> {
        data(self.old_root, self.new_root, self.total_nanos, &self.deltas)
    }

    /// The full assignment of `settle-N` and its products with A and B; the slots are computed in parallel.
    #[must_use]
    pub fn witness(&self) -> Witness {
        let mut cs = Values::new();
        settle(&mut cs, &self.inputs);
        cs.into_witness()
    }

    /// The private data of the proof, for tests that corrupt it.
    #[cfg(test)]
    pub(crate) const fn inputs_mut(&mut self) -> &mut SettleInputs {
        &mut self.inputs
    }
}

fn data(old_root: Fr, new_root: Fr, total_nanos: u128, deltas: &[u8]) -> Vec<Fr> {
    let mut data = vec![old_root, new_root, Fr::from(total_nanos)];
    data.extend(delta_words(deltas));
    data
}

fn active_slot(slot: u16, held: Option<&Slot>, voucher: &VerifiedVoucher) -> Result<SettleSlot, CircuitError> {
    let held = held.ok_or(CircuitError::EmptySlot { slot })?;
    let body = voucher.body();
    if held.uid != body.channel {
        return Err(CircuitError::WrongChannel { slot, expected: held.uid, actual: body.channel });
    }
    let bad_signature = CircuitError::BadSignature { slot };
    let cumulative_nanos = body.cumulative.to_u64().map_err(|_| bad_signature.clone())?;
    let delta_nanos = cumulative_nanos.checked_sub(held.settled_nanos).ok_or(CircuitError::BelowSettled {
        slot,
        settled_nanos: held.settled_nanos,
        cumulative_nanos,
    })?;
    if cumulative_nanos > held.deposit_nanos {
        return Err(CircuitError::AboveDeposit { slot, deposit_nanos: held.deposit_nanos, cumulative_nanos: u128::from(cumulative_nanos) });
    }
    let key = PublicKey::from_x(&field_to_word(held.key_x)).map_err(|_| CircuitError::BadKey { slot })?;
    voucher.signed().verify(&key).map_err(|_| bad_signature.clone())?;
    let bill = body.message().map_err(|_| bad_signature.clone())?.bill;
    let response = voucher.signature().response().ok().as_ref().and_then(Digits::new).ok_or(bad_signature)?;
    let signature = SignatureHint { key: key.point(), challenge: voucher.signature().challenge(), response };
    Ok(SettleSlot { before: SlotFields::from(Some(held)), delta_nanos, active: true, bill, signature })
}
