//! One lie for each group of rows of `register-N`, as in `settle/lies.rs`.

use std::collections::{BTreeMap, BTreeSet};

use ark_bn254::Fr;
use ark_ff::Field;

use super::circuit::{RegisterInputs, RegisterSlot, register};
use super::{RegisterStatement, register_structure};
use crate::cs::Tampered;
use crate::testing::{Choice, Groups, book, key_x, open, place, same_sum, size, uid};
use crate::{Book, Operation, Slot, Witness};

fn witness(inputs: &RegisterInputs, chosen: BTreeMap<usize, Fr>) -> Witness {
    let mut cs = Tampered::new(chosen);
    register(&mut cs, inputs);
    cs.into_witness()
}

#[test]
fn each_group_of_rows_has_a_lie_that_it_alone_refuses() {
    let structure = register_structure(size(1));
    let groups = Groups::new(&structure);
    let (empty, held) = (Book::empty(size(1)), book(1, &[1_000]));
    let top_up = Operation::TopUp { uid: uid(0), amount_nanos: 5 };
    let close = Operation::Close { uid: uid(0) };
    let out = Operation::MoveOut { uid: uid(0) };
    let into = Operation::MoveIn { slot: 0, channel: Slot::new(0, uid(9), key_x(9), 5_000, 4_999).expect("a channel") };
    let last = |group: &str| *groups.variables(group).last().expect("has variables");
    let mut refused = BTreeSet::new();
    let mut check =
        |group: &'static str, book: &Book, operations: &[Operation], change: &dyn Fn(&mut RegisterSlot), choose: &Choice<'_>| {
            let mut statement = RegisterStatement::new(place(), book, operations).expect("can be served");
            let words = statement.data().len();
            let inputs = statement.inputs_mut();
            change(&mut inputs.slots[0]);
            let chosen = choose(&witness(inputs, BTreeMap::new()).assignment);
            let broken = groups.broken(witness(inputs, chosen.into_iter().collect()), words);
            assert_eq!(broken, BTreeSet::from([group]));
            refused.insert(group);
        };

    // Flags and amounts that are no bits. Where nothing is touched, a flag of two means nothing to any other row.
    check("flags", &empty, &[], &|_| {}, &|_| vec![(groups.variables("flags")[0], Fr::from(2u64))]);
    for group in ["bits of the delta", "bits of the refund", "bits of the deposit"] {
        check(group, &held, &[top_up, close], &|_| {}, &|z| same_sum(&groups.variables(group), z));
    }
    check("only where touched", &held, &[], &|slot| slot.delta_nanos = 1, &|_| vec![]);

    // L-16.
    check("filled when empty", &empty, &[open(0, 9)], &|slot| slot.before.settled_nanos = 1, &|_| vec![]);
    check("key word", &held, &[top_up], &|slot| slot.key_word = key_x(9), &|_| vec![]);
    check("uid word", &held, &[top_up], &|slot| slot.uid_word += Fr::ONE, &|_| vec![]);

    // L-17, L-18.
    check("deposit", &held, &[top_up], &|slot| slot.delta_nanos = u64::MAX - 999, &|_| vec![]);
    check("refund", &held, &[close], &|slot| slot.refund_nanos += 1, &|_| vec![]);

    // L-30.
    check("moved out", &held, &[out], &|slot| slot.refund_nanos += 1, &|_| vec![]);
    check("moved out", &held, &[out], &|slot| slot.key_word = key_x(9), &|_| vec![]);
    check("refund", &empty, &[into], &|_| {}, &|z| vec![(last("refund"), z[last("refund")] + Fr::ONE)]);
    check("filled when empty", &empty, &[into], &|slot| slot.before.settled_nanos = 1, &|_| vec![]);
    check("only where touched", &empty, &[], &|slot| slot.out = true, &|_| vec![]);
    check("only where touched", &empty, &[], &|slot| slot.into = true, &|_| vec![]);
    // All is settled, so that a close would refund nothing, and as much as `out` says.
    let close_too = |slot: &mut RegisterSlot| {
        (slot.before.settled_nanos, slot.refund_nanos, slot.close) = (1_000, 1_000, true);
    };
    check("only where touched", &held, &[out], &close_too, &|_| vec![]);
    for group in ["slot after", "static leaves", "static trees", "dynamic trees", "roots", "commitment tree", "evaluation"] {
        check(group, &held, &[top_up], &|_| {}, &|z| vec![(last(group), z[last(group)] + Fr::ONE)]);
    }

    let mut statement = RegisterStatement::new(place(), &held, &[top_up]).expect("can be served");
    let mut other = witness(statement.inputs_mut(), BTreeMap::new());
    other.assignment[1] += Fr::ONE;
    assert_eq!(groups.unsatisfied(&other), BTreeSet::from(["commitment"]));
    refused.insert("commitment");
    assert_eq!(refused, groups.of_rows());
}
