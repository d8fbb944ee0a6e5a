//! Tests that look for variables a prover could choose: mutation of every variable, and the kernel of the Jacobian.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};

use crate::testing::{book, key_x, open, place, size, uid, voucher};
use crate::{Book, MatrixName, Operation, RegisterStatement, SettleStatement, Slot, Structure, Witness};
use crate::{register_structure, settle_structure};

const MATRICES: [MatrixName; 3] = [MatrixName::A, MatrixName::B, MatrixName::C];

/// Named statements over a book of one slot.
fn settlements() -> Vec<(&'static str, Structure, Witness)> {
    let cases = [
        ("active", book(1, &[1_000]), Some(voucher(0, 700))),
        ("active without a delta", book(1, &[1_000]), Some(voucher(0, 0))),
        ("inactive", book(1, &[1_000]), None),
        ("empty", book(1, &[]), None),
    ];
    cases
        .into_iter()
        .map(|(name, book, voucher)| {
            let statement = SettleStatement::new(place(), &book, &[voucher]).expect(name);
            (name, settle_structure(size(1)), statement.witness())
        })
        .collect()
}

fn registrations() -> Vec<(&'static str, Structure, Witness)> {
    let (empty, one) = (Book::empty(size(1)), book(1, &[1_000]));
    let top_up = Operation::TopUp { uid: uid(0), amount_nanos: 5 };
    let close = Operation::Close { uid: uid(0) };
    let out = Operation::MoveOut { uid: uid(0) };
    let into = Operation::MoveIn { slot: 0, channel: Slot::new(0, uid(9), key_x(9), 5_000, 4_999).expect("a channel") };
    let cases: [(&str, &Book, Vec<Operation>); 8] = [
        ("empty", &empty, vec![]),
        ("untouched", &one, vec![]),
        ("open", &empty, vec![open(0, 9)]),
        ("top up", &one, vec![top_up]),
        ("close", &one, vec![top_up, close]),
        ("open and close", &empty, vec![open(0, 9), close]),
        ("out", &one, vec![out]),
        ("in", &empty, vec![into]),
    ];
    cases
        .into_iter()
        .map(|(name, book, operations)| {
            let statement = RegisterStatement::new(place(), book, &operations).expect(name);
            (name, register_structure(size(1)), statement.witness())
        })
        .collect()
}

#[test]
fn honest_witnesses_satisfy_every_row_and_both_back_ends_agree() {
    for (name, structure, witness) in settlements().into_iter().chain(registrations()) {
        assert_eq!(structure.unsatisfied(&witness.assignment), [0usize; 0], "{name}");
        assert_eq!((witness.a.len(), witness.b.len()), (structure.constraints(), structure.constraints()), "{name}");
        for row in 0..structure.constraints() {
            let products = [MatrixName::A, MatrixName::B].map(|matrix| structure.product(matrix, row, &witness.assignment));
            assert_eq!(products, [witness.a[row], witness.b[row]], "{name}, row {row}");
        }
    }
}

/// The activity bit of the first slot: after the one, the public inputs, four fields and two amounts.
const ACTIVE_BIT: usize = 1 + 3 + 4 + 2 * 64;

/// Changes each variable alone, public inputs included, in several ways. No quotient has a zero denominator, so there is no free hint.
/// The only variable that may change is the activity of a slot with a good signature and no delta, which means nothing (L-14).
#[test]
fn no_variable_can_be_changed_alone() {
    let changes: [fn(Fr) -> Fr; 4] =
        [|value| value + Fr::ONE, |value| Fr::ONE - value, |value| -value, |value| value + Fr::from(1u128 << 64)];
    for (name, structure, witness) in settlements().into_iter().chain(registrations()) {
        let mut rows_of: Vec<Vec<usize>> = vec![Vec::new(); structure.variables()];
        for row in 0..structure.constraints() {
            for variable in MATRICES.into_iter().flat_map(|matrix| structure.row(matrix, row)).map(|(variable, _)| variable) {
                if rows_of[variable].last() != Some(&row) {
                    rows_of[variable].push(row);
                }
            }
        }
        let mut assignment = witness.assignment.clone();
        let survivors: Vec<usize> = (1..structure.variables())
            .filter(|&variable| {
                let honest = assignment[variable];
                let survives = changes.iter().any(|change| {
                    assignment[variable] = change(honest);
                    assignment[variable] != honest && rows_of[variable].iter().all(|row| structure.row_holds(*row, &assignment))
                });
                assignment[variable] = honest;
                survives
            })
            .collect();
        let free: &[usize] = if name == "active without a delta" { &[ACTIVE_BIT] } else { &[] };
        assert_eq!(survivors, free, "{name}");
    }
}

/// The dimension of the space in which the variables can move, to first order, without breaking a row.
///
/// Each row is reduced by those before it, its pivot being its newest variable.
fn degrees_of_freedom(structure: &Structure, assignment: &[Fr]) -> usize {
    let mut pivots: Vec<Option<Vec<(usize, Fr)>>> = vec![None; structure.variables()];
    for row in 0..structure.constraints() {
        let [a, b] = [MatrixName::A, MatrixName::B].map(|matrix| structure.product(matrix, row, assignment));
        let mut derivative = vec![Fr::ZERO; structure.variables()];
        for (matrix, factor) in MATRICES.into_iter().zip([b, a, -Fr::ONE]) {
            for (variable, coefficient) in structure.row(matrix, row) {
                derivative[variable] += coefficient * factor;
            }
        }
        // The one does not move.
        derivative[0] = Fr::ZERO;
        for newest in (1..structure.variables()).rev() {
            let weight = derivative[newest];
            if weight == Fr::ZERO {
                continue;
            }
            if let Some(pivot) = &pivots[newest] {
                for (variable, coefficient) in pivot {
                    derivative[*variable] -= weight * coefficient;
                }
            } else {
                let inverse = weight.inverse().expect("not zero");
                let terms = derivative.iter().enumerate().filter(|(_, value)| **value != Fr::ZERO);
                pivots[newest] = Some(terms.map(|(variable, value)| (variable, *value * inverse)).collect());
                break;
            }
        }
    }
    pivots.iter().skip(1).filter(|pivot| pivot.is_none()).count()
}

/// Every variable but the inputs is determined, to first order, by the inputs; and the inputs are bound as the spec says.
///
/// `settle`: ten inputs `(C, r, y, keyX, uid, deposit, settled, bill, u, v)`; the curve, the deposit, the challenge, `C` and `y` are one
/// equation each, and the key one more when active. `register`: nine inputs `(C, r, y, keyX, uid, deposit, settled, uidWord, keyWord)`;
/// `C` and `y` are one equation each, the deposit's bits one, and the words and the old slot what L-16 and L-30 say.
#[test]
fn nothing_but_the_inputs_can_move() {
    let expected = |name: &str| match name {
        "active" | "active without a delta" => 10 - 6,
        _ => 10 - 5,
    };
    for (name, structure, witness) in settlements() {
        assert_eq!(degrees_of_freedom(&structure, &witness.assignment), expected(name), "{name}");
    }
    let expected = |name: &str| match name {
        // The old slot is four zeros, the words are free.
        "open" | "open and close" => 9 - 3 + 1 - 4,
        // As for an opening: the amounts are those of the words, which are bits.
        "in" => 9 - 3 + 1 - 4,
        // The settled amount is bound by the refund.
        "close" => 9 - 5 - 1,
        // So is it here, and the key by its word.
        "out" => 9 - 5 - 1,
        _ => 9 - 5,
    };
    for (name, structure, witness) in registrations() {
        assert_eq!(degrees_of_freedom(&structure, &witness.assignment), expected(name), "{name}");
    }
}
