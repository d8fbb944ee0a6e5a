//! One lie for each group of rows of `settle-N`: a witness that breaks rows of that group and of no other, so that without the group it
//! would be a proof.

use std::collections::{BTreeMap, BTreeSet};

use ark_bn254::Fr;
use ark_ec::AffineRepr;
use ark_ff::{Field, PrimeField};
use millstream_voucher::babyjubjub::{GENERATOR, Point, Scalar};
use millstream_voucher::poseidon::{self, Tag, Width, parameters};

use super::circuit::{SettleInputs, settle};
use super::statement::{challenge_scalar, dummy_signature};
use super::{SettleStatement, settle_structure};
use crate::book::SlotFields;
use crate::cs::{Cs, Tampered};
use crate::gadgets::bits::Unsigned;
use crate::gadgets::fixed_base::Digits;
use crate::gadgets::ladder::{CHALLENGE_BITS, challenge_multiple};
use crate::gadgets::montgomery::{Montgomery, to_montgomery};
use crate::testing::{Choice, Groups, book, key_x, place, same_sum, secret, size, voucher};
use crate::{Structure, Witness};

/// A book of one slot: 700 of 1,000 nanos are settled.
fn statement() -> SettleStatement {
    SettleStatement::new(place(), &book(1, &[1_000]), &[Some(voucher(0, 700))]).expect("a good voucher")
}

fn witness(inputs: &SettleInputs, chosen: BTreeMap<usize, Fr>) -> Witness {
    let mut cs = Tampered::new(chosen);
    settle(&mut cs, inputs);
    cs.into_witness()
}

/// The groups that are broken once some inputs are others, and then some variables.
fn broken(groups: &Groups, statement: SettleStatement, change: impl Fn(&mut SettleInputs), choose: &Choice<'_>) -> BTreeSet<&'static str> {
    let (mut statement, words) = (statement.clone(), statement.data().len());
    change(statement.inputs_mut());
    let inputs = statement.inputs_mut();
    let chosen = choose(&witness(inputs, BTreeMap::new()).assignment);
    groups.broken(witness(inputs, chosen.into_iter().collect()), words)
}

/// A signature by the public secret 1 over what the slot is asked for, claimed to be the slot's.
fn signed_by_anyone(inputs: &mut SettleInputs) {
    let slot = &mut inputs.slots[0];
    slot.bill = Fr::from(0u64);
    slot.signature = dummy_signature(&SlotFields { settled_nanos: 700, ..slot.before });
}

fn signed_by_anyone_with_the_key(inputs: &mut SettleInputs) {
    signed_by_anyone(inputs);
    inputs.slots[0].signature.key = secret(0).public_key().point();
}

fn montgomery(scalar: Scalar) -> (Fr, Fr) {
    to_montgomery(&Point::from(GENERATOR.mul_bigint(scalar.into_bigint()))).expect("not the identity")
}

/// What the weights of a window choose: of 1, 3, 5, 7 times the generator, by two bits and their product.
fn chosen_by(of: fn((Fr, Fr)) -> Fr, [low, high, both]: [Fr; 3]) -> Fr {
    let [one, three, five, seven] = [1u64, 3, 5, 7].map(|odd| of(montgomery(Scalar::from(odd))));
    one + (three - one) * low + (five - one) * high + (seven - five - three + one) * both
}

#[test]
fn each_group_of_rows_has_a_lie_that_it_alone_refuses() {
    let structure = settle_structure(size(1));
    let groups = Groups::new(&structure);
    let honest = witness(statement().inputs_mut(), BTreeMap::new()).assignment;
    let last = |group: &str| *groups.variables(group).last().expect("has variables");
    let mut refused = BTreeSet::new();
    let mut check = |group: &'static str, change: &dyn Fn(&mut SettleInputs), choose: &Choice<'_>| {
        assert_eq!(broken(&groups, statement(), change, choose), BTreeSet::from([group]));
        refused.insert(group);
    };

    // L-13: bits that are none, with the same sum; a deposit that is too small.
    for group in ["bits of the delta", "bits of the rest"] {
        check(group, &|_| {}, &|z| same_sum(&groups.variables(group), z));
    }
    check("deposit", &|inputs| inputs.slots[0].before.deposit_nanos = 699, &|_| vec![]);

    // L-14: a delta without a voucher; a voucher by another key; parts of the check of a signature that anyone can make, or of none.
    check(
        "activity",
        &|inputs| {
            signed_by_anyone(inputs);
            inputs.slots[0].active = false;
        },
        &|_| vec![],
    );
    check("signer", &signed_by_anyone, &|_| vec![]);
    check("key on the curve", &|_| {}, &|z| vec![(last("key on the curve"), z[last("key on the curve")] + Fr::ONE)]);
    check("x of the key", &signed_by_anyone, &|_| vec![(last("x of the key"), key_x(0))]);
    check("multiple of the key", &signed_by_anyone_with_the_key, &|_| {
        let mut inputs = statement();
        signed_by_anyone(inputs.inputs_mut());
        let (u, v) = montgomery(challenge_scalar(inputs.inputs_mut().slots[0].signature.challenge));
        vec![(last("multiple of the key") - 1, u), (last("multiple of the key"), v)]
    });
    check("digits of the response", &|_| {}, &|z| {
        // In window 0, a `low` of two and what then gives the same point.
        let [positive, low, high] = [0, 1, 2].map(|index| groups.variables("digits of the response")[index]);
        let digits = |low: Fr, high: Fr| [low, high, low * high];
        let two = Fr::from(2u64);
        let (u, v) = (chosen_by(|point| point.0, digits(z[low], z[high])), chosen_by(|point| point.1, digits(z[low], z[high])));
        let at = |high: Fr| chosen_by(|point| point.0, digits(two, high));
        let [zero, one] = [Fr::from(0u64), Fr::ONE];
        let other_high = (u - at(zero)) / (at(one) - at(zero));
        let sign = v * (two * z[positive] - one) / chosen_by(|point| point.1, digits(two, other_high));
        vec![(low, two), (high, other_high), (positive, (sign + one) / two)]
    });
    check("windows of the response", &|_| {}, &|z| {
        // Another `low`, and a product and a `v` that hide it.
        let [low, high] = [1, 2].map(|index| groups.variables("digits of the response")[index]);
        let [both, v] = [0, 1].map(|index| groups.variables("windows of the response")[index]);
        let u = |low: Fr, both: Fr| chosen_by(|point| point.0, [low, z[high], both]);
        let other = Fr::ONE - z[low];
        let [zero, one] = [Fr::from(0u64), Fr::ONE];
        let hidden = (u(z[low], z[both]) - u(other, zero)) / (u(other, one) - u(other, zero));
        vec![(low, other), (both, hidden), (v, z[v])]
    });
    check("sum of the response", &|inputs| inputs.slots[0].signature.response = Digits::new(&Scalar::ONE).expect("not zero"), &|_| {
        [last("sum of the response") - 1, last("sum of the response")].map(|variable| (variable, honest[variable])).to_vec()
    });
    check("difference", &signed_by_anyone_with_the_key, &|_| vec![(last("difference"), GENERATOR.x)]);
    let other_bill = |inputs: &mut SettleInputs| inputs.slots[0].bill += Fr::ONE;
    check("hash of the voucher", &other_bill, &|z| {
        // A digest with the challenge of another bill's signature.
        let mut statement = statement();
        other_bill(statement.inputs_mut());
        let slot = &statement.inputs_mut().slots[0];
        let digest = poseidon::hash(Tag::Voucher, &[z[last("difference")], slot.before.uid, Fr::from(700u64), slot.bill]);
        let limbs = digest.into_bigint().0;
        let low = u128::from(limbs[1]) << 64 | u128::from(limbs[0]);
        let weight = parameters(Width::W5).mds[0][4];
        let variable = last("hash of the voucher");
        vec![(variable, z[variable] + (Fr::from(slot.signature.challenge) - Fr::from(low)) / weight)]
    });
    check("bits above the challenge", &|_| {}, &|z| same_sum(&groups.variables("bits above the challenge"), z));
    check("challenge", &other_bill, &|_| vec![]);

    // L-3, L-9, L-10, L-15: what is computed from the fields is another thing at its last step.
    for group in ["static leaf", "static tree", "dynamic trees", "roots", "commitment tree", "evaluation"] {
        check(group, &|_| {}, &|z| vec![(last(group), z[last(group)] + Fr::ONE)]);
    }

    // A slot that is half active, where nothing else depends on it: one without a delta.
    let without_delta = SettleStatement::new(place(), &book(1, &[1_000]), &[Some(voucher(0, 0))]).expect("a good voucher");
    let half = broken(&groups, without_delta, |_| {}, &|_| vec![(last("bit of activity"), Fr::from(2u64))]);
    assert_eq!(half, BTreeSet::from(["bit of activity"]));
    refused.insert("bit of activity");

    let mut other = witness(statement().inputs_mut(), BTreeMap::new());
    other.assignment[1] += Fr::ONE;
    assert_eq!(groups.unsatisfied(&other), BTreeSet::from(["commitment"]));
    refused.insert("commitment");

    // The bits of the challenge have their own test: what comes of a lie about them goes through the hash that they come from.
    refused.insert("bits of the challenge");
    assert_eq!(refused, groups.of_rows());
}

/// A challenge that is no sum of bits leads the ladder to a point that is no multiple of the key, and only the bits' rows are broken.
#[test]
fn the_bits_of_the_challenge_have_a_lie_that_they_alone_refuse() {
    fn ladder<C: Cs>(cs: &mut C) {
        cs.group("key on the curve");
        let (key, square) = Montgomery::alloc(cs, || to_montgomery(&GENERATOR).expect("not the identity"));
        cs.group("bits of the challenge");
        let challenge = Unsigned::alloc(cs, CHALLENGE_BITS, || 77);
        cs.group("multiple of the key");
        challenge_multiple(cs, &key, &square, &challenge.bits, (&GENERATOR, 77));
    }
    let structure = Structure::record(ladder);
    let groups = Groups::new(&structure);
    let run = |chosen: &[(usize, Fr)]| {
        let mut cs = Tampered::new(chosen.iter().copied().collect());
        ladder(&mut cs);
        cs.into_witness()
    };
    assert_eq!(groups.unsatisfied(&run(&[])), BTreeSet::new());

    // The lowest bit takes the last step: from the step before `u, v`, then its own `sign·v, first, u between, second, u, v`.
    let bit = (groups.variables("bits of the challenge")[0], Fr::from(5u64));
    let end = structure.variables();
    let [u, v, first, between, second] = [end - 8, end - 7, end - 5, end - 4, end - 3];
    let z = run(&[bit]).assignment;
    let slope = (z[v] + z[v]) / (z[u] - z[between]) - z[first];
    let lie = run(&[bit, (second, slope)]);
    assert_eq!(groups.unsatisfied(&lie), BTreeSet::from(["bits of the challenge"]));
    assert_ne!(lie.assignment[end - 2], run(&[]).assignment[end - 2]);
}

/// An older voucher, by which the settled total would go back; and a delta of 2^64. The bits of the delta leave no room for either.
#[test]
fn a_delta_that_wraps_is_refused() {
    let structure = settle_structure(size(1));
    let groups = Groups::new(&structure);
    let bits = groups.variables("bits of the delta");
    let check = |settled: u64, cumulative: u64, chosen: Vec<(usize, Fr)>| {
        let held = SettleStatement::new(place(), &book(1, &[u64::MAX]), &[Some(voucher(0, cumulative))]).expect("a good voucher");
        let lie = broken(
            &groups,
            held,
            |inputs| {
                inputs.slots[0].before.settled_nanos = settled;
                inputs.slots[0].delta_nanos = 0;
                // `deposit − settled − delta` with the delta that the bits claim.
                inputs.slots[0].before.deposit_nanos = 2_000;
            },
            &|z| {
                let rest = 2_000 - cumulative;
                let rest_bits = groups.variables("bits of the rest");
                let rest_bits = rest_bits.iter().enumerate().map(|(bit, variable)| (*variable, Fr::from(rest >> bit & 1)));
                chosen.iter().copied().chain(rest_bits.filter(|(variable, value)| z[*variable] != *value)).collect()
            },
        );
        assert_eq!(lie, BTreeSet::from(["bits of the delta"]), "{settled} to {cumulative}");
    };
    // 700 were settled; the voucher says 300, and the delta is −400.
    check(700, 300, vec![(bits[0], -Fr::from(400u64))]);
    // Twice 2^63, less what makes the total 300 again.
    check(700, 300, vec![(bits[63], Fr::from(2u64)), (bits[0], -Fr::from(400u64) - Fr::from(1u128 << 64))]);
}

/// A slot that is not used has key 0: no signature is by a key whose x is 0, so it cannot be active; and its deposit of 0 holds the delta
/// at 0 in any case.
#[test]
fn an_unused_slot_cannot_be_settled() {
    let structure = settle_structure(size(1));
    let groups = Groups::new(&structure);
    let empty = || SettleStatement::new(place(), &book(1, &[]), &[]).expect("nothing to refuse");
    let identity = Point::new_unchecked(Fr::from(0u64), Fr::ONE);
    let order_two = Point::new_unchecked(Fr::from(0u64), -Fr::ONE);
    for key in [GENERATOR, identity, order_two] {
        for delta_nanos in [0, 5] {
            let lie = broken(
                &groups,
                empty(),
                |inputs| {
                    let slot = &mut inputs.slots[0];
                    slot.active = true;
                    slot.delta_nanos = delta_nanos;
                    slot.signature = dummy_signature(&SlotFields { settled_nanos: delta_nanos, ..slot.before });
                    slot.signature.key = key;
                },
                &|_| vec![],
            );
            assert!(lie.contains("signer") || lie.contains("multiple of the key"), "{key:?}: {lie:?}");
            assert_eq!(lie.contains("deposit"), delta_nanos != 0);
        }
    }
}

/// Keys of order 1, 2, 4 and 8 have no ladder: it meets a sum without a slope, whatever the challenge is.
#[test]
fn keys_of_small_order_sign_nothing() {
    let structure = settle_structure(size(1));
    let groups = Groups::new(&structure);
    let order_eight = (2u64..)
        .filter_map(|x| millstream_voucher::babyjubjub::lift_x(Fr::from(x)))
        .map(|point| Point::from(point.mul_bigint(Scalar::MODULUS)))
        .find(|point| Point::from(point.mul_bigint([4u64])).y == -Fr::ONE)
        .expect("an eighth of all points");
    let challenges: Vec<u128> = (0..64).map(|seed| u128::from_be_bytes([seed; 16]) ^ u128::from(seed) << 61).collect();
    for multiple in [1u64, 2, 4, 8] {
        let key = Point::from(order_eight.mul_bigint([multiple]));
        for challenge in &challenges {
            let lie = broken(
                &groups,
                statement(),
                |inputs| {
                    inputs.slots[0].before.key_x = key.x;
                    inputs.slots[0].signature.key = key;
                    inputs.slots[0].signature.challenge = *challenge;
                },
                &|_| vec![],
            );
            assert!(lie.contains("multiple of the key"), "order 8 / {multiple}, challenge {challenge:x}: {lie:?}");
        }
    }
}
