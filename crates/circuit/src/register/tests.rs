//! One failing witness for each family of rows of `register-N`, and what the builder refuses.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};

use super::circuit::{RegisterInputs, RegisterSlot};
use super::{RegisterStatement, register_structure};
use crate::error::RowField;
use crate::testing::{book, broken, key_x, open, place, rebound, size, uid, voucher};
use crate::{Book, Change, CircuitError, Held, Operation, Row, SettleStatement, Slot, Structure, field_to_word, uid_to_field};

fn top_up(slot: u16, amount_nanos: u64) -> Operation {
    Operation::TopUp { uid: uid(slot), amount_nanos }
}

fn close(slot: u16) -> Operation {
    Operation::Close { uid: uid(slot) }
}

fn out(slot: u16) -> Operation {
    Operation::MoveOut { uid: uid(slot) }
}

/// A channel with a deposit of 5,000 of which 4,999 are settled, out of another book.
fn moved(number: u16) -> Slot {
    Slot::new(0, uid(number), key_x(number), 5_000, 4_999).expect("a channel")
}

fn into(slot: u16, number: u16) -> Operation {
    Operation::MoveIn { slot, channel: moved(number) }
}

fn served(slot: u16, number: u16, opened_key: Option<Fr>, delta_nanos: u64, closing_refund_nanos: Option<u64>) -> Row {
    Row { slot, uid: uid(number), change: Change::Served { opened_key, delta_nanos, closing_refund_nanos } }
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
    let row = |slot: u16, opened: bool, delta_nanos, refund| served(slot, slot, opened.then(|| key_x(slot)), delta_nanos, refund);
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
    check(&[top_up(0, 1), out(0)], CircuitError::AlreadyMoved { uid: uid(0) });
    check(&[out(0), top_up(0, 1)], CircuitError::UnknownUid { uid: uid(0) });
    check(&[out(0), out(0)], CircuitError::UnknownUid { uid: uid(0) });
    check(&[close(0), out(0)], CircuitError::AlreadyClosed { uid: uid(0) });
    check(&[out(3)], CircuitError::UnknownUid { uid: uid(3) });
    check(&[into(1, 9)], CircuitError::SlotOccupied { slot: 1, held_by: uid(1) });
    check(&[out(1), into(1, 9)], CircuitError::SlotOccupied { slot: 1, held_by: uid(1) });
    check(&[into(2, 1)], CircuitError::AlreadyOpen { uid: uid(1), slot: 1 });
    check(&[into(4, 9)], CircuitError::NoSuchSlot { slot: 4, slots: 4 });
    check(&[into(2, 9), top_up(9, 1)], CircuitError::AlreadyMoved { uid: uid(9) });
    check(&[into(2, 9), close(9)], CircuitError::AlreadyMoved { uid: uid(9) });
    check(&[into(2, 9), out(9)], CircuitError::AlreadyMoved { uid: uid(9) });
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
    let row = |slot: u16, number: u16| served(slot, number, None, 1, None);
    check(&[row(1, 1), row(0, 0)], CircuitError::RowsOutOfOrder { slot: 0 });
    check(&[row(1, 1), row(1, 1)], CircuitError::RowsOutOfOrder { slot: 1 });
    check(&[row(0, 1)], CircuitError::BadRow { slot: 0, field: RowField::Uid });
    check(&[row(2, 1)], CircuitError::EmptySlot { slot: 2 });
    check(&[row(4, 1)], CircuitError::NoSuchSlot { slot: 4, slots: 4 });
    let refund = |nanos| served(0, 0, None, 1, Some(nanos));
    check(&[refund(702)], CircuitError::BadRow { slot: 0, field: RowField::Refund });
    assert_eq!(book.clone().apply_rows(&[refund(701)]), Ok(()));

    // Moves.
    let held = Held { key_x: key_x(0), deposit_nanos: 1_000, settled_nanos: 300 };
    let move_of = |slot: u16, number: u16, change: Change| Row { slot, uid: uid(number), change };
    assert_eq!(book.clone().apply_rows(&[move_of(0, 0, Change::Out(held))]), Ok(()));
    for changed in [
        Held { key_x: key_x(9), ..held },
        Held { deposit_nanos: 999, ..held },
        Held { deposit_nanos: 1_001, settled_nanos: 301, ..held },
        Held { settled_nanos: 0, ..held },
    ] {
        check(&[move_of(0, 0, Change::Out(changed))], CircuitError::BadRow { slot: 0, field: RowField::Content });
    }
    check(&[move_of(0, 9, Change::Out(held))], CircuitError::BadRow { slot: 0, field: RowField::Uid });
    check(&[move_of(2, 0, Change::Out(held))], CircuitError::EmptySlot { slot: 2 });
    check(&[move_of(1, 9, Change::In(held))], CircuitError::SlotOccupied { slot: 1, held_by: uid(1) });
    check(&[move_of(2, 0, Change::In(held))], CircuitError::AlreadyOpen { uid: uid(0), slot: 0 });
    check(&[move_of(4, 9, Change::In(held))], CircuitError::NoSuchSlot { slot: 4, slots: 4 });
    let above = Held { settled_nanos: 1_001, ..held };
    let expected = CircuitError::AboveDeposit { slot: 2, deposit_nanos: 1_000, cumulative_nanos: 1_001 };
    check(&[move_of(2, 9, Change::In(above))], expected);
    check(&[move_of(2, 9, Change::In(Held { key_x: Fr::ZERO, ..held }))], CircuitError::ZeroIdentity { slot: 2 });
}

#[test]
fn a_channel_is_moved_as_it_is() {
    let structure = register_structure(size(4));
    let source = RegisterStatement::new(place(), &start(), &[out(0), out(1)]).expect("both are there");
    assert_eq!(broken(&structure, &source.witness()), [0usize; 0]);
    assert_eq!(source.book_after, Book::empty(size(4)));
    let row = |slot: u16, deposit_nanos, settled_nanos| Row {
        slot,
        uid: uid(slot),
        change: Change::Out(Held { key_x: key_x(slot), deposit_nanos, settled_nanos }),
    };
    assert_eq!(source.rows, [row(0, 1_000, 300), row(1, 2_000, 0)]);

    let target_before = book(4, &[7]);
    let arrive = |(slot, row): (u16, &Row)| {
        let (deposit, settled) = (row.delta_nanos(), row.refund_nanos());
        Operation::MoveIn { slot, channel: Slot::new(slot, row.uid, row.key_x(), deposit, settled).expect("a slot") }
    };
    // Slot 0 of the target holds a channel of the same number as the source's first one, so only the second can come.
    let check = |operations: &[Operation], expected: CircuitError| {
        assert_eq!(RegisterStatement::new(place(), &target_before, operations).map(|_| ()), Err(expected));
    };
    check(&[arrive((3, &source.rows[0]))], CircuitError::AlreadyOpen { uid: uid(0), slot: 0 });
    let target = RegisterStatement::new(place(), &target_before, &[arrive((3, &source.rows[1]))]).expect("an empty slot");
    assert_eq!(broken(&structure, &target.witness()), [0usize; 0]);
    assert_eq!(target.book_after.slot(3), start().slot(1));
    let mut replayed = target_before.clone();
    replayed.apply_rows(&target.rows).expect("the same rows");
    assert_eq!(replayed.root(), target.new_root);
}

#[test]
fn the_largest_amounts_move() {
    let structure = register_structure(size(1));
    let full = Slot::new(0, uid(0), key_x(0), u64::MAX, u64::MAX).expect("a channel");
    let arrived = RegisterStatement::new(place(), &Book::empty(size(1)), &[Operation::MoveIn { slot: 0, channel: full }]).expect("room");
    assert_eq!(broken(&structure, &arrived.witness()), [0usize; 0]);
    let left = RegisterStatement::new(place(), &arrived.book_after, &[out(0)]).expect("it is there");
    assert_eq!(broken(&structure, &left.witness()), [0usize; 0]);
    assert_eq!(left.new_root, arrived.old_root);
}

/// Slot 0 leaves, 2 arrives, 1 and 3 are left alone.
#[test]
fn a_move_that_changes_anything_is_refused() {
    let structure = register_structure(size(4));
    let check = |what: &str, rows: usize, change: &dyn Fn(&mut [RegisterSlot])| {
        let mut statement = RegisterStatement::new(place(), &start(), &[out(0), into(2, 9)]).expect("can be moved");
        change(&mut statement.inputs_mut().slots);
        let public = rebound(&structure, &statement.witness(), statement.data().len());
        statement.inputs_mut().public = public;
        assert_eq!(broken(&structure, &statement.witness()).len(), rows, "{what}");
    };
    check("nothing", 0, &|_| {});

    // Out: every word is the slot's.
    check("another deposit", 1, &|slots| slots[0].delta_nanos += 1);
    check("another settled amount", 1, &|slots| slots[0].refund_nanos -= 1);
    check("a deposit for a settled amount", 1, &|slots| {
        slots[0].delta_nanos += 1;
        slots[0].refund_nanos += 1;
    });
    check("another key", 1, &|slots| slots[0].key_word = key_x(9));
    check("no key", 1, &|slots| slots[0].key_word = Fr::ZERO);
    check("another uid", 1, &|slots| slots[0].uid_word = uid_to_field(&uid(9)));
    // The uid, the key and the amounts of the words, each where there is nothing.
    check("out of an empty slot", 3, &|slots| {
        slots[3] = RegisterSlot { before: slots[3].before, ..slots[0].clone() };
    });
    check("out of an empty slot, saying so", 0, &|slots| {
        slots[3].touched = true;
        slots[3].out = true;
    });

    // In: the slot was empty, and the words are what it holds now. That they are another slot's is for the ledger.
    check("into a key", 1, &|slots| slots[2].before.key_x = Fr::ONE);
    check("into a deposit", 1, &|slots| slots[2].before.deposit_nanos = 1);
    check("into a settled amount", 1, &|slots| slots[2].before.settled_nanos = 1);
    check("into a uid", 2, &|slots| slots[2].before.uid = Fr::ONE);
    check("into a held slot", 4, &|slots| {
        slots[1] = RegisterSlot { before: slots[1].before, ..slots[2].clone() };
    });
    check("another content", 0, &|slots| {
        slots[2].delta_nanos = u64::MAX;
        slots[2].refund_nanos = 7;
        slots[2].key_word = key_x(8);
        slots[2].uid_word = uid_to_field(&uid(8));
    });

    // One flag beside `touched`.
    check("out untouched", 2, &|slots| slots[3].out = true);
    check("in untouched", 2, &|slots| slots[3].into = true);
    for what in ["open", "close"] {
        for number in [0, 2] {
            let mut statement = RegisterStatement::new(place(), &start(), &[out(0), into(2, 9)]).expect("can be moved");
            let slot = &mut statement.inputs_mut().slots[number];
            if what == "open" {
                slot.open = true
            } else {
                slot.close = true
            }
            let public = rebound(&structure, &statement.witness(), statement.data().len());
            statement.inputs_mut().public = public;
            assert!(!broken(&structure, &statement.witness()).is_empty(), "{what} in slot {number}");
        }
    }
}

#[test]
fn rows_of_the_abi_are_read_back_or_refused() {
    let moves = RegisterStatement::new(place(), &start(), &[out(0), into(2, 9)]).expect("can be moved");
    for row in [statement().rows, moves.rows].concat() {
        let read = Row::from_abi(row.slot, row.flags(), row.delta_nanos(), row.refund_nanos(), row.uid, row.key_x());
        assert_eq!(read, Ok(row));
    }
    let check = |flags: u8, refund: u64, key: Fr, field: RowField| {
        assert_eq!(Row::from_abi(3, flags, 1, refund, uid(3), key), Err(CircuitError::BadRow { slot: 3, field }));
    };
    check(0, 0, Fr::ZERO, RowField::Flags);
    check(2, 0, Fr::ONE, RowField::Flags);
    for flags in [8, 10, 11, 13, 16, 19, 21, 25, 33] {
        check(flags, 0, Fr::ZERO, RowField::Flags);
    }
    check(1, 0, Fr::ONE, RowField::Key);
    check(1, 1, Fr::ZERO, RowField::Refund);
}

#[test]
fn rows_are_encoded_as_solidity_does() {
    let row = served(3, 7, Some(Fr::from(0xabcu64)), 5, Some(6));
    let words: Vec<[u8; 32]> = crate::encode_rows(&[row]).chunks_exact(32).map(|word| word.try_into().expect("32 bytes")).collect();
    let number = |value: u64| field_to_word(Fr::from(value));
    assert_eq!(words, [number(0x20), number(1), number(3), number(7), number(5), number(6), *uid(7).as_bytes(), number(0xabc)]);
    assert_eq!(crate::encode_rows(&[]).len(), 64);
}
