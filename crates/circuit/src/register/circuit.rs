//! The rows of `register-N`.
//!
//! Keys are not checked here: the ledger takes a key only with a witness of its validity (V-5), and a row's key word must be that of the
//! request (L-19).

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};
use millstream_voucher::poseidon::Tag;

use crate::binding::PublicInputs;
use crate::book::{BookSize, SlotFields};
use crate::cs::{Cs, Linear, Structure};
use crate::gadgets::binding::PublicVariables;
use crate::gadgets::bits::{Bit, Unsigned};
use crate::gadgets::poseidon::{hash, tree};
use crate::rows::Row;

/// Bits of an amount.
const AMOUNT_BITS: u32 = 64;

/// Everything the circuit is filled from.
#[derive(Clone, Debug)]
pub(crate) struct RegisterInputs {
    pub(crate) public: PublicInputs,
    pub(crate) slots: Vec<RegisterSlot>,
}

/// One slot before, and its row; all zeros for a slot without one.
#[derive(Clone, Debug, Default)]
pub(crate) struct RegisterSlot {
    pub(crate) before: SlotFields,
    pub(crate) touched: bool,
    pub(crate) open: bool,
    pub(crate) close: bool,
    pub(crate) delta_nanos: u64,
    pub(crate) refund_nanos: u64,
    pub(crate) uid_word: Fr,
    pub(crate) key_word: Fr,
}

impl RegisterSlot {
    pub(crate) fn new(before: SlotFields, row: Option<&Row>) -> Self {
        let untouched = Self { before, ..Self::default() };
        row.map_or(untouched, |row| {
            let [_, uid_word, key_word] = row.words();
            Self {
                before,
                touched: true,
                open: row.opened_key.is_some(),
                close: row.closing_refund_nanos.is_some(),
                delta_nanos: row.delta_nanos,
                refund_nanos: row.refund_nanos(),
                uid_word,
                key_word,
            }
        })
    }
}

/// One side of a slot as the trees see it.
struct Leaf<L> {
    static_leaf: L,
    settled: L,
}

struct SlotOutput<L> {
    old: Leaf<L>,
    new: Leaf<L>,
    words: [L; 3],
}

/// The matrices of `register-N`.
#[must_use]
pub fn register_structure(size: BookSize) -> Structure {
    let public = PublicInputs { commitment: Fr::ZERO, point: Fr::ZERO, value: Fr::ZERO };
    let inputs = RegisterInputs { public, slots: vec![RegisterSlot::default(); size.to_usize()] };
    Structure::record(|cs| register(cs, &inputs))
}

/// L-9, L-10 and L-16 to L-18.
pub(crate) fn register<C: Cs>(cs: &mut C, inputs: &RegisterInputs) {
    let public = PublicVariables::alloc(cs, &inputs.public);
    let slots = cs.each(&inputs.slots, register_slot);
    let mut data = vec![book_root(cs, slots.iter().map(|slot| &slot.old)), book_root(cs, slots.iter().map(|slot| &slot.new))];
    data.extend(slots.into_iter().flat_map(|slot| slot.words));
    public.bind(cs, &data);
}

/// L-3.
fn book_root<'a, C: Cs>(cs: &mut C, slots: impl Iterator<Item = &'a Leaf<C::L>>) -> C::L
where
    C::L: 'a,
{
    let (leaves, settled): (Vec<C::L>, Vec<C::L>) = slots.map(|leaf| (leaf.static_leaf.clone(), leaf.settled.clone())).unzip();
    cs.group("static trees");
    let static_root = tree(cs, Tag::StaticNode, &leaves);
    cs.group("dynamic trees");
    let dynamic_root = tree(cs, Tag::DynamicNode, &settled);
    cs.group("roots");
    hash(cs, Tag::Book, &[static_root, dynamic_root])
}

/// L-16 to L-18 for one slot.
///
/// Words are bound to the calldata as field elements. `packed` is a sum of bits below `2^131`, so it is the one integer that the ledger
/// packs from a row; `uid` and `keyX` are below `p` there.
fn register_slot<C: Cs>(cs: &mut C, input: &RegisterSlot) -> SlotOutput<C::L> {
    let zero = C::L::constant(Fr::ZERO);
    let before = &input.before;
    cs.group("fields of the slot");
    let key_x = cs.alloc(|| before.key_x);
    let uid = cs.alloc(|| before.uid);
    let deposit = cs.alloc(|| Fr::from(before.deposit_nanos));
    let settled = cs.alloc(|| Fr::from(before.settled_nanos));

    cs.group("flags");
    let [touched, open, close] = [input.touched, input.open, input.close].map(|flag| Bit::alloc(cs, || flag));
    cs.group("bits of the delta");
    let delta = Unsigned::alloc(cs, AMOUNT_BITS, || u128::from(input.delta_nanos));
    cs.group("bits of the refund");
    let refund = Unsigned::alloc(cs, AMOUNT_BITS, || u128::from(input.refund_nanos));
    cs.group("only where touched");
    let uid_word = cs.alloc(|| input.uid_word);
    let key_word = cs.alloc(|| input.key_word);

    // `open` and `close` only where touched; no delta elsewhere.
    for only_touched in [open.linear(), close.linear(), &delta.linear] {
        cs.enforce(only_touched, &touched.negated(), &zero);
    }

    // L-16. `open`: the old slot is empty, each field on its own, since fields could cancel in a sum. Then the identity is the words'.
    cs.group("open on an empty slot");
    for field in [&key_x, &uid, &deposit, &settled] {
        cs.enforce(field, open.linear(), &zero);
    }
    cs.group("key word");
    cs.enforce(&key_word, &open.negated(), &zero);
    let opened_key = key_x.plus(&key_word);
    // The uid is that of the slot, or the word's when it opens; touched, the word is the uid, and not touched it is zero.
    cs.group("uid word");
    let opened_uid = uid.plus(&cs.product(&uid_word, open.linear()));
    cs.enforce(&opened_uid, touched.linear(), &uid_word);

    // L-17. The old deposit is below 2^64 by induction and the delta by its bits, so the sum cannot wrap and its bits are the range check.
    cs.group("bits of the deposit");
    let deposit_sum = Unsigned::alloc(cs, AMOUNT_BITS, || u128::from(before.deposit_nanos.wrapping_add(input.delta_nanos)));
    cs.group("deposit");
    cs.equal(&deposit_sum.linear, &deposit.plus(&delta.linear));

    // L-18. The refund has 64 bits, so `settled ≤ deposit'` follows from the equation; it is zero where the channel stays.
    cs.group("refund");
    cs.enforce(&deposit_sum.linear.minus(&settled), close.linear(), &refund.linear);
    let stays = close.negated();
    cs.group("slot after");
    let after = [&opened_key, &opened_uid, &deposit_sum.linear, &settled].map(|field| cs.product(field, &stays));

    let [new_key_x, new_uid, new_deposit, new_settled] = after;
    cs.group("static leaves");
    let old = Leaf { static_leaf: hash(cs, Tag::StaticLeaf, &[key_x, uid, deposit]), settled };
    let new = Leaf { static_leaf: hash(cs, Tag::StaticLeaf, &[new_key_x, new_uid, new_deposit]), settled: new_settled };
    let shift = Fr::from(1u128 << 64);
    let flag = |value: u8| Fr::from(value) * shift.square();
    let packed = C::L::weighted([
        (flag(Row::TOUCHED), touched.linear()),
        (flag(Row::OPEN), open.linear()),
        (flag(Row::CLOSE), close.linear()),
        (shift, &delta.linear),
        (Fr::ONE, &refund.linear),
    ]);
    SlotOutput { old, new, words: [packed, uid_word, key_word] }
}
