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

/// Rows, variables and digest of both circuits of every standard size.
#[test]
fn the_circuits_are_pinned() {
    let identity = |structure: &Structure| (structure.constraints(), structure.variables(), hex(&structure.digest()));
    let circuits = BookSize::STANDARD.map(|size| (size.slots(), identity(&settle_structure(size)), identity(&register_structure(size))));
    let pinned = PINNED.map(|(slots, [settle, register])| {
        let owned = |(rows, variables, digest): (usize, usize, &str)| (rows, variables, digest.to_owned());
        (slots, owned(settle), owned(register))
    });
    assert_eq!(circuits, pinned);
}

/// Rows, variables, digest.
type Identity = (usize, usize, &'static str);

/// Slots, settle-N, register-N.
const PINNED: [(u16, [Identity; 2]); 5] = [
    (
        24,
        [
            (63_844, 63_894, "23e0fb0048749bc4fd3717f0d0fdd8c74b29a21f76a5eefcd220d57843d14310"),
            (28_913, 28_747, "036d4449d8e0c4c94c2b10575db98563e0042b3e742bf3122d68cf5c88fe4f6d"),
        ],
    ),
    (
        48,
        [
            (123_256, 123_354, "f4b98d874024a2ae5b5c57532dad462b391c14a31602a37fb74532012a19e56b"),
            (52_277, 51_943, "e1b192a4ea0bc163a187c4682643160fba2b5839284b2861ad7989b56da912df"),
        ],
    ),
    (
        96,
        [
            (244_900, 245_094, "342a793951844a1984ab921bb2456cbcde736ccaa764df78c07c7bb2c357ff7a"),
            (101_825, 101_155, "8fd2be58ce3f16e0a5edbcd9c5335da4af2a3711e9eec957d92a42f599776bcd"),
        ],
    ),
    (
        192,
        [
            (487_064, 487_450, "cd1e92254aef7ce623c5148e4095e935378f04803fbaa8d2c671d4d89bde4021"),
            (199_229, 197_887, "0d79c21a136addfc2baf9682e77819fd6241b4d2ac5f6e48249ac5711cb6c815"),
        ],
    ),
    (
        384,
        [
            (974_212, 974_982, "46300d74da74e36b21eaa0a103b2797af587754b5c6ff48d286ea63317320fa4"),
            (398_549, 395_863, "eb972c9abb48f76da6816e08532b3fb93895d4f1977c0f9a72544ff00e664621"),
        ],
    ),
];

/// Rows with the four of the inputs fill the domain of a proof, a power of two; and a slot costs what it may.
#[test]
fn every_tier_fits_its_domain() {
    let sizes = [(24, 16, 15), (48, 17, 16), (96, 18, 17), (192, 19, 18), (384, 20, 19)];
    assert_eq!(sizes.map(|(slots, ..)| size(slots)), BookSize::STANDARD);
    for ((slots, settle_log, register_log), (_, [(settle, ..), (register, ..)])) in sizes.into_iter().zip(PINNED) {
        assert!(settle <= 2_700 * slots, "{slots}: {settle}");
        assert!(settle + PUBLIC_INPUTS < 1 << settle_log, "{slots}: {settle}");
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
