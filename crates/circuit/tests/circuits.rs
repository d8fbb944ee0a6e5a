//! The identity of the circuits: sizes and digests of the matrices, and what arkworks makes of them.
//!
//! A changed digest is a changed circuit: every key made for the old one is void.

use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystem, R1CS_PREDICATE_LABEL};
use millstream_circuit::{ArkCircuit, Book, BookSize, PUBLIC_INPUTS, SettleStatement, Structure, register_structure, settle_structure};

mod common;

fn size(slots: usize) -> BookSize {
    BookSize::new(slots).expect("a size")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_circuits_of_the_smallest_tiers_are_pinned() {
    let identity = |structure: &Structure| (structure.constraints(), structure.variables(), hex(&structure.digest()));
    let pinned = [
        (
            settle_structure as fn(BookSize) -> Structure,
            24,
            (63_844, 63_894, "23e0fb0048749bc4fd3717f0d0fdd8c74b29a21f76a5eefcd220d57843d14310"),
        ),
        (settle_structure, 48, (123_256, 123_354, "f4b98d874024a2ae5b5c57532dad462b391c14a31602a37fb74532012a19e56b")),
        (register_structure, 24, (28_793, 28_675, "3b707ae5fc94a716fbfd68b66ee5796711c3070a08997fd74993751a6470ebe6")),
        (register_structure, 48, (52_037, 51_799, "951dae74ad702f32ca40169d9a2496185a2dffac61177ab6f6548e1114b69e68")),
    ];
    let expected = pinned.map(|(.., (constraints, variables, digest))| (constraints, variables, digest.to_owned()));
    assert_eq!(pinned.map(|(record, slots, _)| identity(&record(size(slots)))), expected);
}

/// Rows with the four of the inputs fill the domain of a proof, a power of two.
#[test]
fn every_tier_fits_its_domain() {
    let sizes = [(24, 16, 15), (48, 17, 16), (96, 18, 17), (192, 19, 18), (384, 20, 19)];
    assert_eq!(sizes.map(|(slots, ..)| size(slots)), BookSize::STANDARD);
    for (slots, settle_log, register_log) in sizes {
        let settle = settle_structure(size(slots)).constraints();
        assert!(settle / slots <= 2_750, "{slots}: {settle}");
        assert!(settle + PUBLIC_INPUTS < 1 << settle_log, "{slots}: {settle}");
        let register = register_structure(size(slots)).constraints();
        assert!(register + PUBLIC_INPUTS < 1 << register_log, "{slots}: {register}");
    }
}

#[test]
fn two_recordings_are_the_same() {
    assert_eq!(settle_structure(size(2)).digest(), settle_structure(size(2)).digest());
    assert_ne!(settle_structure(size(2)).digest(), settle_structure(size(3)).digest());
    assert_ne!(settle_structure(size(2)).digest(), register_structure(size(2)).digest());
}

#[test]
fn arkworks_sees_the_same_matrices_and_accepts_the_witness() {
    let structure = settle_structure(size(2));
    let statement = SettleStatement::new(common::place(), &Book::empty(size(2)), &[]).expect("nothing to refuse");
    let witness = statement.witness();
    let cs = ConstraintSystem::new_ref();
    ArkCircuit::with_assignment(&structure, &witness.assignment).generate_constraints(cs.clone()).expect("has values");
    cs.finalize();
    assert_eq!(cs.is_satisfied(), Ok(true));
    assert_eq!(cs.num_instance_variables(), PUBLIC_INPUTS + 1);
    assert_eq!(cs.to_matrices().expect("recorded")[R1CS_PREDICATE_LABEL], structure.to_ark_matrices());
}
