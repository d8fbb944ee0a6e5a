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
    pub(crate) out: bool,
    pub(crate) into: bool,
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
            let has = |flag: u8| row.flags() & flag != 0;
            Self {
                before,
                touched: true,
                open: has(Row::OPEN),
                close: has(Row::CLOSE),
                out: has(Row::OUT),
                into: has(Row::IN),
                delta_nanos: row.delta_nanos(),
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

/// L-9, L-10, L-16 to L-18 and L-30.
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

/// L-16 to L-18 and L-30 for one slot.
///
/// Words are bound to the calldata as field elements. `packed` is a sum of bits below `2^133`, so it is the one integer that the ledger
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
    let [touched, open, close, out, into] =
        [input.touched, input.open, input.close, input.out, input.into].map(|flag| Bit::alloc(cs, || flag));
    let moves = out.linear().plus(into.linear());
    let fills = open.linear().plus(into.linear());
    let empties = close.linear().plus(out.linear());
    cs.group("bits of the delta");
    let delta = Unsigned::alloc(cs, AMOUNT_BITS, || u128::from(input.delta_nanos));
    cs.group("bits of the refund");
    let refund = Unsigned::alloc(cs, AMOUNT_BITS, || u128::from(input.refund_nanos));
    cs.group("only where touched");
    let uid_word = cs.alloc(|| input.uid_word);
    let key_word = cs.alloc(|| input.key_word);

    // A sum of flags that is zero or `touched` is one flag at most, and none where nothing is touched. So `out` and `in` exclude each
    // other, `open` and `close`; these two may meet. `fills` and `empties` are bits after this.
    for flag in [open.linear(), close.linear()] {
        let one_at_most = flag.plus(&moves);
        cs.enforce(&one_at_most, &touched.linear().minus(&one_at_most), &zero);
    }
    cs.enforce(&delta.linear, &touched.negated(), &zero);

    // L-16, L-30. `open`, `in`: the old slot is empty, each field on its own, since fields could cancel in a sum. Then the identity is the
    // words'.
    cs.group("filled when empty");
    for field in [&key_x, &uid, &deposit, &settled] {
        cs.enforce(field, &fills, &zero);
    }
    // `out` is here for the row below: its key word is the slot's, which the slot loses.
    cs.group("key word");
    cs.enforce(&key_word, &C::L::constant(Fr::ONE).minus(&fills).minus(out.linear()), &zero);
    let filled_key = key_x.plus(&key_word);
    // The uid is that of the slot, or the word's when it is filled; touched, the word is the uid, and not touched it is zero.
    cs.group("uid word");
    let filled_uid = uid.plus(&cs.product(&uid_word, &fills));
    cs.enforce(&filled_uid, touched.linear(), &uid_word);

    // L-17. The old deposit is below 2^64 by induction and the delta by its bits, so the sum cannot wrap and its bits are the range check.
    // `out` adds nothing: its delta only tells the deposit, which may be more than half of 2^64.
    cs.group("bits of the deposit");
    let deposit_hint = || if input.out { before.deposit_nanos } else { before.deposit_nanos.wrapping_add(input.delta_nanos) };
    let deposit_sum = Unsigned::alloc(cs, AMOUNT_BITS, || u128::from(deposit_hint()));
    cs.group("deposit");
    cs.enforce(&delta.linear, &out.negated(), &deposit_sum.linear.minus(&deposit));

    // L-18. The refund has 64 bits, so `settled ≤ deposit'` follows from the equation; it is zero where the channel stays. Of a move it is
    // what is settled.
    cs.group("refund");
    let moved_settled = cs.product(&refund.linear, &moves);
    cs.enforce(&deposit_sum.linear.minus(&settled), close.linear(), &refund.linear.minus(&moved_settled));
    // L-30. `out`: the words are the slot's. Four amounts below 2^64, the old ones by induction, so two are compared in one row.
    cs.group("moved out");
    let shift = Fr::from(1u128 << 64);
    cs.enforce(&key_word.minus(&key_x), out.linear(), &zero);
    let content = delta.linear.minus(&deposit).scaled(shift).plus(&refund.linear.minus(&settled));
    cs.enforce(&content, out.linear(), &zero);

    // Where `out` is set, what would fill the slot goes away with what is in it.
    let stays = C::L::constant(Fr::ONE).minus(&empties);
    cs.group("slot after");
    let after = [&filled_key, &filled_uid, &deposit_sum.linear, &settled.plus(&moved_settled)].map(|field| cs.product(field, &stays));

    let [new_key_x, new_uid, new_deposit, new_settled] = after;
    cs.group("static leaves");
    let old = Leaf { static_leaf: hash(cs, Tag::StaticLeaf, &[key_x, uid, deposit]), settled };
    let new = Leaf { static_leaf: hash(cs, Tag::StaticLeaf, &[new_key_x, new_uid, new_deposit]), settled: new_settled };
    let flag = |value: u8| Fr::from(value) * shift.square();
    let packed = C::L::weighted([
        (flag(Row::TOUCHED), touched.linear()),
        (flag(Row::OPEN), open.linear()),
        (flag(Row::CLOSE), close.linear()),
        (flag(Row::OUT), out.linear()),
        (flag(Row::IN), into.linear()),
        (shift, &delta.linear),
        (Fr::ONE, &refund.linear),
    ]);
    SlotOutput { old, new, words: [packed, uid_word, key_word] }
}
