//! One failing witness for each family of rows of `register-N`, and what the builder refuses.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};

use super::circuit::{RegisterInputs, RegisterSlot};
use super::{RegisterStatement, register_structure};
use crate::error::RowField;
use crate::testing::{book, broken, key_x, open, place, rebound, size, uid, voucher};
use crate::{Book, CircuitError, Operation, Row, SettleStatement, Structure, field_to_word, uid_to_field};

fn top_up(slot: u16, amount_nanos: u64) -> Operation {
    Operation::TopUp { uid: uid(slot), amount_nanos }
}

fn close(slot: u16) -> Operation {
    Operation::Close { uid: uid(slot) }
}

/// Slots 0 and 1 have deposits of 1,000 and 2,000, and 300 of slot 0 are settled; 2 and 3 are empty.
fn start() -> Book {
    SettleStatement::new(place(), &book(4, &[1_000, 2_000]), &[Some(voucher(0, 300))]).expect("a good voucher").book_after
}

/// Closes 0, tops up 1, opens 2, leaves 3 alone.
fn statement() -> RegisterStatement {
    RegisterStatement::new(place(), &start(), &[open(2, 40), top_up(1, 7), close(0)]).expect("can be served")
}

/// The number of rows that a change breaks, after `C` and `y` were made to match the changed data.
fn broken_by(structure: &Structure, change: &dyn Fn(&mut [RegisterSlot])) -> usize {
    let mut statement = statement();
    change(&mut statement.inputs_mut().slots);
    let public = rebound(structure, &statement.witness(), statement.data().len());
    statement.inputs_mut().public = public;
    broken(structure, &statement.witness()).len()
}

#[test]
fn each_family_of_rows_refuses_its_own_lie() {
    let structure = register_structure(size(4));
    let check = |what: &str, rows: usize, change: &dyn Fn(&mut [RegisterSlot])| {
        assert_eq!(broken_by(&structure, change), rows, "{what}");
    };
    check("nothing", 0, &|_| {});

    // Untouched slots.
    check("delta untouched", 1, &|slots| slots[3].delta_nanos = 1);
    check("close untouched", 1, &|slots| slots[3].close = true);
    check("open untouched", 1, &|slots| slots[3].open = true);
    check("uid word untouched", 1, &|slots| slots[3].uid_word = Fr::ONE);
    check("key word untouched", 1, &|slots| slots[3].key_word = Fr::ONE);
    check("refund untouched", 1, &|slots| slots[3].refund_nanos = 1);
    check("touched flag dropped", 2, &|slots| slots[1].touched = false);
    check("touched flag with the uid", 0, &|slots| {
        slots[3].touched = true;
        slots[3].delta_nanos = 9;
    });

    // L-16.
    check("open on a key", 1, &|slots| slots[2].before.key_x = Fr::ONE);
    check("open on a uid", 2, &|slots| slots[2].before.uid = Fr::ONE);
    check("open on a deposit", 1, &|slots| slots[2].before.deposit_nanos = 1);
    check("open on a settled amount", 1, &|slots| slots[2].before.settled_nanos = 1);
    check("open on an occupied slot", 4, &|slots| {
        slots[1].open = true;
        slots[1].key_word = key_x(9);
    });
    check("key without open", 1, &|slots| slots[1].key_word = key_x(9));
    check("another uid", 1, &|slots| slots[1].uid_word = uid_to_field(&uid(9)));
    check("no uid", 1, &|slots| slots[1].uid_word = Fr::ZERO);
    check("another key in open", 0, &|slots| slots[2].key_word = key_x(9));

    // L-17.
    check("overflow", 1, &|slots| slots[1].delta_nanos = u64::MAX - 1_999);
    check("no overflow", 0, &|slots| slots[1].delta_nanos = u64::MAX - 2_000);

    // L-18.
    check("refund too large", 1, &|slots| slots[0].refund_nanos += 1);
    check("refund too small", 1, &|slots| slots[0].refund_nanos -= 1);
    check("close without refund", 1, &|slots| slots[0].refund_nanos = 0);
    check("refund without close", 1, &|slots| slots[1].refund_nanos = 1);
    check("settled above deposit at close", 1, &|slots| slots[0].before.settled_nanos = 1_001);
}

#[test]
fn public_inputs_are_those_of_the_data() {
    let structure = register_structure(size(4));
    let check = |what: &str, change: &dyn Fn(&mut RegisterInputs)| {
        let mut statement = statement();
        change(statement.inputs_mut());
        assert!(!broken(&structure, &statement.witness()).is_empty(), "{what}");
    };
    check("commitment", &|inputs| inputs.public.commitment += Fr::ONE);
    check("point", &|inputs| inputs.public.point += Fr::ONE);
    check("value", &|inputs| inputs.public.value += Fr::ONE);
    // Changes that every other row accepts.
    check("key word", &|inputs| inputs.slots[2].key_word = key_x(9));
    check("delta", &|inputs| inputs.slots[1].delta_nanos += 1);
}

#[test]
fn requests_of_one_channel_meet_in_one_row() {
    let statement =
        RegisterStatement::new(place(), &start(), &[top_up(1, 5), open(3, 1), top_up(1, 6), top_up(3, 2), close(1), open(2, 8), close(2)])
            .expect("can be served");
    let row = |slot: u16, opened: bool, delta_nanos, closing_refund_nanos| Row {
        slot,
        uid: uid(slot),
        opened_key: opened.then(|| key_x(slot)),
        delta_nanos,
        closing_refund_nanos,
    };
    assert_eq!(statement.rows, [row(1, false, 11, Some(2_011)), row(2, true, 8, Some(8)), row(3, true, 3, None)]);
    assert_eq!(broken(&register_structure(size(4)), &statement.witness()), [0usize; 0]);
    let mut replayed = start();
    replayed.apply_rows(&statement.rows).expect("the same rows");
    assert_eq!(replayed, statement.book_after);
    assert_eq!(statement.new_root, replayed.root());
    assert_eq!((replayed.find(&uid(1)), replayed.find(&uid(2)), replayed.find(&uid(3))), (None, None, Some(3)));
}

#[test]
fn mixed_and_untouched_books_of_the_smallest_tier() {
    let structure = register_structure(size(24));
    let deposits: Vec<u64> = (0..24).map(|slot| if slot < 12 { 100 + slot } else { 0 }).collect();
    let full = book(24, &deposits);
    let check = |book: &Book, operations: &[Operation]| {
        let statement = RegisterStatement::new(place(), book, operations).expect("can be served");
        assert_eq!(broken(&structure, &statement.witness()), [0usize; 0]);
        assert_eq!((statement.old_root, statement.new_root), (book.root(), statement.book_after.root()));
    };
    check(&Book::empty(size(24)), &[]);
    check(&full, &[]);
    check(&Book::empty(size(24)), &(0..24).map(|slot| open(slot, u64::MAX)).collect::<Vec<_>>());
    let mixed = (0..24).map(|slot| match slot % 3 {
        _ if slot >= 12 => open(slot, 5),
        0 => close(slot),
        _ => top_up(slot, u64::MAX - 100 - u64::from(slot)),
    });
    check(&full, &mixed.collect::<Vec<_>>());
}

#[test]
fn the_builder_refuses_what_cannot_be_served() {
    let book = start();
    let check = |operations: &[Operation], expected: CircuitError| {
        assert_eq!(RegisterStatement::new(place(), &book, operations).map(|_| ()), Err(expected));
    };
    let open_as = |slot: u16, number: u16, key_x: Fr| Operation::Open { slot, uid: uid(number), key_x, amount_nanos: 1 };
    check(&[open(4, 1)], CircuitError::NoSuchSlot { slot: 4, slots: 4 });
    check(&[open_as(1, 9, key_x(9))], CircuitError::SlotOccupied { slot: 1, held_by: uid(1) });
    check(&[close(0), open_as(0, 9, key_x(9))], CircuitError::SlotOccupied { slot: 0, held_by: uid(0) });
    check(&[open(2, 1), close(2), open_as(2, 9, key_x(9))], CircuitError::SlotOccupied { slot: 2, held_by: uid(2) });
    check(&[open_as(2, 1, key_x(1))], CircuitError::AlreadyOpen { uid: uid(1), slot: 1 });
    check(&[open(2, 1), close(2), open_as(3, 2, key_x(2))], CircuitError::AlreadyClosed { uid: uid(2) });
    check(&[open_as(2, 2, Fr::ZERO)], CircuitError::ZeroIdentity { slot: 2 });
    check(&[top_up(2, 1)], CircuitError::UnknownUid { uid: uid(2) });
    check(&[close(3)], CircuitError::UnknownUid { uid: uid(3) });
    check(&[close(1), top_up(1, 1)], CircuitError::AlreadyClosed { uid: uid(1) });
    check(&[close(1), close(1)], CircuitError::AlreadyClosed { uid: uid(1) });
    check(&[top_up(1, u64::MAX - 1_999)], CircuitError::DepositOverflow { slot: 1, deposit_nanos: 2_000, delta_nanos: u64::MAX - 1_999 });
}

#[test]
fn replayed_rows_are_checked() {
    let book = start();
    let check = |rows: &[Row], expected: CircuitError| {
        let mut copy = book.clone();
        assert_eq!(copy.apply_rows(rows), Err(expected));
        assert_eq!(copy, book, "unchanged on an error");
    };
    let row = |slot: u16, number: u16| Row { slot, uid: uid(number), opened_key: None, delta_nanos: 1, closing_refund_nanos: None };
    check(&[row(1, 1), row(0, 0)], CircuitError::RowsOutOfOrder { slot: 0 });
    check(&[row(1, 1), row(1, 1)], CircuitError::RowsOutOfOrder { slot: 1 });
    check(&[row(0, 1)], CircuitError::BadRow { slot: 0, field: RowField::Uid });
    check(&[row(2, 1)], CircuitError::EmptySlot { slot: 2 });
    check(&[row(4, 1)], CircuitError::NoSuchSlot { slot: 4, slots: 4 });
    let refund = |nanos| Row { closing_refund_nanos: Some(nanos), ..row(0, 0) };
    check(&[refund(702)], CircuitError::BadRow { slot: 0, field: RowField::Refund });
    assert_eq!(book.clone().apply_rows(&[refund(701)]), Ok(()));
}

#[test]
fn rows_of_the_abi_are_read_back_or_refused() {
    for row in statement().rows {
        let read = Row::from_abi(row.slot, row.flags(), row.delta_nanos, row.refund_nanos(), row.uid, row.key_x());
        assert_eq!(read, Ok(row));
    }
    let check = |flags: u8, refund: u64, key: Fr, field: RowField| {
        assert_eq!(Row::from_abi(3, flags, 1, refund, uid(3), key), Err(CircuitError::BadRow { slot: 3, field }));
    };
    check(0, 0, Fr::ZERO, RowField::Flags);
    check(2, 0, Fr::ONE, RowField::Flags);
    check(9, 0, Fr::ZERO, RowField::Flags);
    check(1, 0, Fr::ONE, RowField::Key);
    check(1, 1, Fr::ZERO, RowField::Refund);
}

#[test]
fn rows_are_encoded_as_solidity_does() {
    let row = Row { slot: 3, uid: uid(7), opened_key: Some(Fr::from(0xabcu64)), delta_nanos: 5, closing_refund_nanos: Some(6) };
    let words: Vec<[u8; 32]> = crate::encode_rows(&[row]).chunks_exact(32).map(|word| word.try_into().expect("32 bytes")).collect();
    let number = |value: u64| field_to_word(Fr::from(value));
    assert_eq!(words, [number(0x20), number(1), number(3), number(7), number(5), number(6), *uid(7).as_bytes(), number(0xabc)]);
    assert_eq!(crate::encode_rows(&[]).len(), 64);
}
