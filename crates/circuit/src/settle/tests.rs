//! One failing witness for each family of rows of `settle-N`, and what the builder refuses.

use ark_bn254::Fr;
use ark_ec::AffineRepr;
use ark_ff::{AdditiveGroup, Field, PrimeField};
use millstream_types::{BillHead, CumulativeAmount};
use millstream_voucher::babyjubjub::{Point, Scalar, lift_x, subgroup_point};
use millstream_voucher::{VerifiedVoucher, VoucherBody};

use super::circuit::SettleInputs;
use super::statement::dummy_signature;
use super::{SettleStatement, settle_structure};
use crate::book::SlotFields;
use crate::gadgets::fixed_base::Digits;
use crate::testing::{bill_head, book, broken, place, rebound, secret, size, uid, voucher};
use crate::{Book, CircuitError, Slot, Structure};

/// Three slots: active, with a channel but inactive, empty.
fn statement() -> SettleStatement {
    SettleStatement::new(place(), &book(3, &[1_000, 2_000]), &[Some(voucher(0, 700))]).expect("a good voucher")
}

/// The number of rows that a change breaks, after `C` and `y` were made to match the changed data.
fn broken_by(structure: &Structure, change: impl FnOnce(&mut SettleInputs)) -> usize {
    let mut statement = statement();
    change(statement.inputs_mut());
    let public = rebound(structure, &statement.witness(), statement.data().len());
    statement.inputs_mut().public = public;
    broken(structure, &statement.witness()).len()
}

#[test]
fn each_family_of_rows_refuses_its_own_lie() {
    let structure = settle_structure(size(3));
    let check = |what: &str, rows: usize, change: &dyn Fn(&mut SettleInputs)| {
        assert_eq!(broken_by(&structure, change), rows, "{what}");
    };
    check("nothing", 0, &|_| {});

    // The challenge row: the signature is over something else.
    check("delta", 1, &|inputs| inputs.slots[0].delta_nanos += 1);
    check("uid", 1, &|inputs| inputs.slots[0].before.uid += Fr::ONE);
    check("bill", 1, &|inputs| inputs.slots[0].bill += Fr::ONE);
    check("settled", 1, &|inputs| inputs.slots[0].before.settled_nanos += 1);
    check("challenge", 1, &|inputs| inputs.slots[0].signature.challenge ^= 1 << 127);
    check("response", 1, &|inputs| inputs.slots[0].signature.response = Digits::new(&Scalar::ONE).expect("not zero"));
    check("another slot's key and signature", 2, &|inputs| {
        inputs.slots[0].signature = inputs.slots[1].signature.clone();
    });
    check("uid of an inactive slot", 1, &|inputs| inputs.slots[1].before.uid += Fr::ONE);

    // The key row: a good signature by another key.
    check("key", 1, &|inputs| {
        let message = SlotFields { settled_nanos: 700, ..inputs.slots[0].before };
        inputs.slots[0].bill = Fr::ZERO;
        inputs.slots[0].signature = dummy_signature(&message);
    });
    check("registered key", 1, &|inputs| inputs.slots[0].before.key_x += Fr::ONE);
    check("active empty slot", 1, &|inputs| inputs.slots[2].active = true);

    // The deposit row.
    check("deposit below new", 1, &|inputs| inputs.slots[0].before.deposit_nanos = 699);
    check("deposit below settled", 1, &|inputs| {
        let slot = &mut inputs.slots[1];
        slot.before = SlotFields { deposit_nanos: 9, settled_nanos: 10, ..slot.before };
        slot.signature = dummy_signature(&slot.before);
    });
    check("deposit equal to new", 0, &|inputs| inputs.slots[0].before.deposit_nanos = 700);

    // The activity row: a delta with a good dummy signature over the new total.
    check("delta of an inactive slot", 1, &|inputs| {
        let slot = &mut inputs.slots[1];
        slot.delta_nanos = 5;
        slot.before.settled_nanos = 10;
        slot.signature = dummy_signature(&SlotFields { settled_nanos: 15, ..slot.before });
    });
    check("inactive instead of active", 1, &|inputs| inputs.slots[0].active = false);
}

#[test]
fn the_key_at_the_point_of_order_two_or_of_small_order_is_refused() {
    // The point of order two has u = v = 0, where `x = u/v` alone would be free.
    let structure = settle_structure(size(3));
    let rows = broken_by(&structure, |inputs| {
        inputs.slots[0].signature.key = millstream_voucher::babyjubjub::Point::new_unchecked(Fr::ZERO, -Fr::ONE);
    });
    assert!(rows > 0);
}

#[test]
fn public_inputs_are_those_of_the_data() {
    let structure = settle_structure(size(3));
    let check = |what: &str, change: &dyn Fn(&mut SettleInputs)| {
        let mut statement = statement();
        change(statement.inputs_mut());
        assert!(!broken(&structure, &statement.witness()).is_empty(), "{what}");
    };
    check("commitment", &|inputs| inputs.public.commitment += Fr::ONE);
    check("point", &|inputs| inputs.public.point += Fr::ONE);
    check("value", &|inputs| inputs.public.value += Fr::ONE);
    // Each word of the data: old root, new root, total and words, static data.
    check("old root", &|inputs| inputs.slots[1].before.deposit_nanos += 1);
    check("delta, with a good signature", &|inputs| {
        let body = VoucherBody { channel: uid(0), lines_total: 1, cumulative: CumulativeAmount::from_nanos(701), bill_head: bill_head(0) };
        let other = secret(0).sign(body).expect("a nonce");
        let slot = &mut inputs.slots[0];
        slot.delta_nanos = 701;
        slot.signature.challenge = other.signature().challenge();
        slot.signature.response = Digits::new(&other.signature().response().expect("in range")).expect("not zero");
    });
}

#[test]
fn total_roots_and_words_that_differ_from_the_data_break_both_bindings() {
    // The commitment and the polynomial of other data than the circuit's: what a prover would need for other calldata.
    let structure = settle_structure(size(3));
    let honest = statement();
    for position in 0..honest.data().len() {
        let mut data = honest.data();
        data[position] += Fr::ONE;
        let mut lying = statement();
        let public = &mut lying.inputs_mut().public;
        public.commitment = crate::tree::tree(millstream_voucher::poseidon::Tag::Commitment, &data);
        public.value = crate::binding::horner(&data, public.point);
        assert_eq!(broken(&structure, &lying.witness()).len(), 2, "word {position}");
    }
}

#[test]
fn full_mixed_and_empty_books_of_the_smallest_tier() {
    let structure = settle_structure(size(24));
    let deposits: Vec<u64> = (0..24).map(|slot| if slot % 5 == 3 { 0 } else { u64::MAX - slot }).collect();
    let mixed = book(24, &deposits);
    let vouchers = |active: &dyn Fn(u16) -> bool, amount: &dyn Fn(u16) -> u64| -> Vec<Option<VerifiedVoucher>> {
        (0..24).map(|slot| (active(slot) && mixed.slot(slot).is_some()).then(|| voucher(slot, amount(slot)))).collect()
    };
    let check = |book: &Book, vouchers: &[Option<VerifiedVoucher>]| -> Book {
        let statement = SettleStatement::new(place(), book, vouchers).expect("good vouchers");
        assert_eq!(broken(&structure, &statement.witness()), [0usize; 0]);
        assert_eq!((statement.old_root, statement.new_root), (book.root(), statement.book_after.root()));
        let mut replayed = book.clone();
        assert_eq!(replayed.apply_deltas(&statement.deltas), Ok(statement.total_nanos));
        assert_eq!(replayed, statement.book_after);
        statement.book_after
    };
    check(&Book::empty(size(24)), &[]);
    check(&mixed, &[]);
    let after = check(&mixed, &vouchers(&|slot| slot % 2 == 0, &|slot| 1 + u64::from(slot)));
    // Again from the book after, to the very last nano.
    check(&after, &vouchers(&|_| true, &|slot| u64::MAX - u64::from(slot)));
}

#[test]
fn the_builder_refuses_what_cannot_be_proved() {
    let mut book = book(3, &[1_000, 2_000]);
    let check = |book: &Book, vouchers: &[Option<VerifiedVoucher>], expected: CircuitError| {
        assert_eq!(SettleStatement::new(place(), book, vouchers).map(|_| ()), Err(expected));
    };
    let signed = |slot: u16, by: u16, nanos: u64| {
        let body = VoucherBody {
            channel: uid(slot),
            lines_total: 1,
            cumulative: CumulativeAmount::from_nanos(nanos),
            bill_head: BillHead::from_bytes([9; 32]),
        };
        secret(by).sign(body).expect("a nonce")
    };
    check(&book, &[None; 4], CircuitError::NoSuchSlot { slot: 3, slots: 3 });
    check(&book, &[None, None, Some(voucher(2, 5))], CircuitError::EmptySlot { slot: 2 });
    check(&book, &[Some(voucher(1, 5))], CircuitError::WrongChannel { slot: 0, expected: uid(0), actual: uid(1) });
    check(&book, &[Some(signed(0, 1, 5))], CircuitError::BadSignature { slot: 0 });
    check(&book, &[Some(voucher(0, 1_001))], CircuitError::AboveDeposit { slot: 0, deposit_nanos: 1_000, cumulative_nanos: 1_001 });
    book = SettleStatement::new(place(), &book, &[Some(voucher(0, 700))]).expect("good").book_after;
    check(&book, &[Some(voucher(0, 699))], CircuitError::BelowSettled { slot: 0, settled_nanos: 700, cumulative_nanos: 699 });
}

/// No such key gets past the ledger (V-5), so a book with one is none of the ledger's.
#[test]
fn keys_outside_the_subgroup_are_refused() {
    let on_the_curve = |x: &Fr| lift_x(*x).is_some();
    let outside = (2u64..).map(Fr::from).find(|x| on_the_curve(x) && subgroup_point(*x).is_none()).expect("most points");
    let of_order_eight = (2u64..)
        .filter_map(|x| lift_x(Fr::from(x)))
        .map(|point| Point::from(point.mul_bigint(Scalar::MODULUS)))
        .find(|point| Point::from(point.mul_bigint([4u64])).y == -Fr::ONE)
        .expect("an eighth of all points");
    let of_order_four = Point::from(of_order_eight.mul_bigint([2u64]));
    let mixed = Point::from(secret(0).public_key().point() + of_order_four);
    let off_the_curve = (2u64..).map(Fr::from).find(|x| !on_the_curve(x)).expect("half of all");
    for key_x in [outside, of_order_eight.x, of_order_four.x, mixed.x, off_the_curve] {
        let held = Slot::new(0, uid(0), key_x, 1_000, 0).expect("a slot");
        let book = Book::from_channels(size(1), [(0, held)]).expect("one channel");
        let refused = SettleStatement::new(place(), &book, &[Some(voucher(0, 5))]).map(|_| ());
        assert_eq!(refused, Err(CircuitError::BadKey { slot: 0 }));
    }
}

#[test]
fn replayed_deltas_are_checked() {
    let book = book(3, &[1_000, 2_000]);
    let check = |bytes: &[u8], expected: Result<u128, CircuitError>| {
        let mut copy = book.clone();
        assert_eq!(copy.apply_deltas(bytes), expected);
        if expected.is_err() {
            assert_eq!(copy, book, "unchanged on an error");
        }
    };
    let deltas = |deltas: [u64; 3]| crate::deltas::encode_deltas(size(3), &deltas);
    check(&deltas([1_000, 2_000, 0]), Ok(3_000));
    check(&deltas([0, 0, 1]), Err(CircuitError::EmptySlot { slot: 2 }));
    check(&deltas([1, 2_001, 0]), Err(CircuitError::AboveDeposit { slot: 1, deposit_nanos: 2_000, cumulative_nanos: 2_001 }));
    check(&deltas([1; 3])[..24], Err(CircuitError::DeltasLength { expected: 31, actual: 24 }));
    let mut padded = deltas([1, 0, 0]);
    padded[30] = 1;
    check(&padded, Err(CircuitError::DeltasPadding));
}
