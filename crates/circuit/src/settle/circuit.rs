//! The rows of `settle-N`.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};
use millstream_voucher::poseidon::Tag;

use crate::binding::PublicInputs;
use crate::book::{BookSize, SlotFields};
use crate::cs::{Cs, Linear, Structure};
use crate::deltas::WORD_BYTES;
use crate::gadgets::binding::PublicVariables;
use crate::gadgets::bits::{Bit, Unsigned};
use crate::gadgets::poseidon::{hash, tree};
use crate::gadgets::schnorr::{Message, SignatureHint, signed_by};

/// Bits of an amount.
const AMOUNT_BITS: u32 = 64;

/// Everything the circuit is filled from.
#[derive(Clone, Debug)]
pub(crate) struct SettleInputs {
    pub(crate) public: PublicInputs,
    pub(crate) slots: Vec<SettleSlot>,
}

/// One slot before the settlement, and what is settled in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettleSlot {
    pub(crate) before: SlotFields,
    pub(crate) delta_nanos: u64,
    pub(crate) active: bool,
    pub(crate) bill: Fr,
    /// By the slot's key when active, by the dummy key when not.
    pub(crate) signature: SignatureHint,
}

/// What the trees and the data take from a slot.
struct SlotOutput<L> {
    static_leaf: L,
    settled: L,
    new: L,
    delta: Unsigned<L>,
}

/// The matrices of `settle-N`.
#[must_use]
pub fn settle_structure(size: BookSize) -> Structure {
    let public = PublicInputs { commitment: Fr::ZERO, point: Fr::ZERO, value: Fr::ZERO };
    let inputs = SettleInputs { public, slots: vec![SettleSlot::default(); size.to_usize()] };
    Structure::record(|cs| settle(cs, &inputs))
}

/// L-9, L-10 and L-13 to L-15.
pub(crate) fn settle<C: Cs>(cs: &mut C, inputs: &SettleInputs) {
    let public = PublicVariables::alloc(cs, &inputs.public);
    let slots = cs.each(&inputs.slots, settle_slot);

    let collect = |of: fn(&SlotOutput<C::L>) -> &C::L| slots.iter().map(|slot| of(slot).clone()).collect::<Vec<_>>();
    cs.group("static tree");
    let static_root = tree(cs, Tag::StaticNode, &collect(|slot| &slot.static_leaf));
    let [old_root, new_root] = [collect(|slot| &slot.settled), collect(|slot| &slot.new)].map(|settled| {
        cs.group("dynamic trees");
        let dynamic_root = tree(cs, Tag::DynamicNode, &settled);
        cs.group("roots");
        hash(cs, Tag::Book, &[static_root.clone(), dynamic_root])
    });

    let total = C::L::weighted(slots.iter().map(|slot| (Fr::ONE, &slot.delta.linear)));
    let mut data = vec![old_root, new_root, total];
    data.extend(words(slots.iter().map(|slot| &slot.delta)));
    public.bind(cs, &data);
}

/// L-13 and L-14 for one slot.
///
/// Ranges: a slot's deposit is below `2^64`, because `register` made it so (L-17) and the empty book starts the induction; so is
/// `settled ≤ deposit`. Then `deposit = settled + delta + rest`, with `delta` and `rest` sums of 64 bits, is an equation of integers below
/// `2^66`, far from `p`: no wrap can make `new = settled + delta` larger than the deposit.
fn settle_slot<C: Cs>(cs: &mut C, input: &SettleSlot) -> SlotOutput<C::L> {
    let before = &input.before;
    cs.group("fields of the slot");
    let key_x = cs.alloc(|| before.key_x);
    let uid = cs.alloc(|| before.uid);
    let deposit = cs.alloc(|| Fr::from(before.deposit_nanos));
    let settled = cs.alloc(|| Fr::from(before.settled_nanos));
    cs.group("bits of the delta");
    let delta = Unsigned::alloc(cs, AMOUNT_BITS, || u128::from(input.delta_nanos));
    let new = settled.plus(&delta.linear);

    // A hint that cannot be met wraps to some 64 bits, and the equation fails.
    cs.group("bits of the rest");
    let rest = Unsigned::alloc(cs, AMOUNT_BITS, || {
        u128::from(before.deposit_nanos.wrapping_sub(before.settled_nanos).wrapping_sub(input.delta_nanos))
    });
    cs.group("deposit");
    cs.equal(&new.plus(&rest.linear), &deposit);

    // A slot that is not active cannot move: `(1 − active)·delta = 0`.
    cs.group("bit of activity");
    let active = Bit::alloc(cs, || input.active);
    cs.group("activity");
    cs.enforce(&delta.linear, &active.negated(), &C::L::constant(Fr::ZERO));

    // In an active slot the signer is the slot's key. An empty slot has key 0, which no signer has: x = 0 is on the curve only for the
    // identity and the point of order two, and the signature's rows exclude both. So an empty slot cannot be active.
    let bill = cs.alloc(|| input.bill);
    let signer_x = signed_by(cs, &input.signature, &Message { uid: &uid, cumulative: &new, bill: &bill });
    cs.group("signer");
    cs.enforce(&signer_x.minus(&key_x), active.linear(), &C::L::constant(Fr::ZERO));

    cs.group("static leaf");
    let static_leaf = hash(cs, Tag::StaticLeaf, &[key_x, uid, deposit]);
    SlotOutput { static_leaf, settled, new, delta }
}

/// The words `w_j`: all deltas as one run of big-endian bits, cut into runs of 31 bytes, the last filled with zeros on the right.
///
/// They are sums of constrained bits below `2^248`, so each is the integer that the ledger reads from the calldata.
fn words<'a, L: Linear + 'a>(deltas: impl Iterator<Item = &'a Unsigned<L>>) -> Vec<L> {
    let bits: Vec<&L> = deltas.flat_map(|delta| delta.bits.iter().rev().map(Bit::linear)).collect();
    let width = WORD_BYTES * 8;
    let weights: Vec<Fr> = std::iter::successors(Some(Fr::ONE), |weight| Some(weight.double())).take(width).collect();
    bits.chunks(width).map(|run| L::weighted(weights.iter().rev().copied().zip(run.iter().copied()))).collect()
}
