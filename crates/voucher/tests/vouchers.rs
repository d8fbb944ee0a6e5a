//! What is signed verifies, and nothing else does.

use ark_ff::{BigInteger, PrimeField};
use millstream_types::{Address, BillHead, ChainId, ChannelId, CumulativeAmount, LedgerId};
use millstream_voucher::babyjubjub::{Scalar, lift_x};
use millstream_voucher::{
    ChannelTerms, CheckingKey, KeyError, PublicKey, ScalarChecker, SecretKey, Signature, SignedVoucher, VerifiedVoucher, VoucherBody,
    VoucherChecker, VoucherError,
};
use proptest::prelude::*;

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_entropy(&[seed; 64]).expect("not zero")
}

fn body() -> VoucherBody {
    VoucherBody {
        channel: ChannelId::from_uid(&[9; 31]),
        lines_total: 3,
        cumulative: CumulativeAmount::from_nanos(150),
        bill_head: BillHead::from_bytes([7; 32]),
    }
}

fn bytes32(value: impl PrimeField) -> [u8; 32] {
    value.into_bigint().to_bytes_be().try_into().expect("32 bytes")
}

#[test]
fn signing_is_deterministic_and_verifies() {
    let signed: VerifiedVoucher = secret(1).sign(body()).expect("fits");
    assert_eq!(secret(1).sign(body()), Ok(signed));
    assert_eq!(signed.signed().verify(&secret(1).public_key()), Ok(signed));
}

#[test]
fn the_published_key_is_enough_to_check() {
    let key = PublicKey::from_x(&secret(1).public_key().x()).expect("a key");
    assert_eq!(key, secret(1).public_key());
}

/// V-7, V-9: each thing that is signed, changed.
#[test]
fn a_changed_voucher_is_refused() {
    let key = secret(1).public_key();
    let signature = *secret(1).sign(body()).expect("fits").signature();
    let check = |what: &str, change: &dyn Fn(&mut VoucherBody), refused: bool| {
        let mut changed = body();
        change(&mut changed);
        let outcome = SignedVoucher::new(changed, signature).expect("fits").verify(&key);
        assert_eq!(matches!(outcome, Err(VoucherError::WrongSignature { .. })), refused, "{what}: {outcome:?}");
    };
    check("nothing", &|_| {}, false);
    check("channel", &|b| b.channel = ChannelId::from_uid(&[8; 31]), true);
    check("amount up", &|b| b.cumulative = CumulativeAmount::from_nanos(151), true);
    check("amount down", &|b| b.cumulative = CumulativeAmount::from_nanos(149), true);
    for byte in 0..32 {
        let flip = move |b: &mut VoucherBody| {
            let mut head = *b.bill_head.as_bytes();
            head[byte] ^= 1;
            b.bill_head = BillHead::from_bytes(head);
        };
        // The field element takes 31 bytes of the head; the last one is the node's to compare.
        check(&format!("byte {byte} of the head"), &flip, byte < 31);
    }
    // The head hashes the number of lines, so the signature does not see it.
    check("lines", &|b| b.lines_total = 4, false);
}

#[test]
fn every_flipped_bit_of_a_signature_is_refused() {
    let key = secret(1).public_key();
    let good = *secret(1).sign(body()).expect("fits").signature();
    for bit in 0..48 * 8 {
        let mut bytes = *good.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let voucher = SignedVoucher::new(body(), Signature::from_bytes(bytes)).expect("fits");
        assert!(voucher.verify(&key).is_err(), "bit {bit}");
    }
}

#[test]
fn another_key_is_refused() {
    let signed = *secret(1).sign(body()).expect("fits").signed();
    let refused = VoucherError::WrongSignature { channel: body().channel, cumulative: 150 };
    assert_eq!(signed.verify(&secret(2).public_key()), Err(refused));
}

/// V-7: the same response plus the order satisfies the equation, and is refused.
#[test]
fn a_response_of_zero_or_not_below_the_order_is_refused() {
    let signed = secret(1).sign(body()).expect("fits");
    let mut bytes = *signed.signature().as_bytes();
    let mut carry = 0;
    for (byte, order) in bytes[16..].iter_mut().zip(Scalar::MODULUS.to_bytes_be()).rev() {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_be_bytes()[1];
        carry = sum >> 8;
    }
    for response in [bytes, [0xff; 48], [0; 48]] {
        let voucher = SignedVoucher::new(body(), Signature::from_bytes(response)).expect("fits");
        assert_eq!(voucher.verify(&secret(1).public_key()), Err(VoucherError::ResponseRange));
    }
}

#[test]
fn an_amount_of_65_bits_is_neither_signed_nor_wrapped() {
    let wide = VoucherBody { cumulative: CumulativeAmount::from_units(1 << 64), ..body() };
    let signature = Signature::from_bytes([0; 48]);
    assert!(matches!(secret(1).sign(wide), Err(VoucherError::Amount(_))));
    assert!(matches!(SignedVoucher::new(wide, signature), Err(VoucherError::Amount(_))));
}

/// V-4, V-5, V-6.
#[test]
fn bad_keys_are_refused() {
    let check = |what: &str, x: [u8; 32], expected: KeyError| assert_eq!(PublicKey::from_x(&x), Err(expected), "{what}");
    check("identity and the point of order two", [0; 32], KeyError::ZeroKey);
    check("the order of the field", bytes32_of_modulus(), KeyError::NotCanonical);
    check("all ones", [0xff; 32], KeyError::NotCanonical);

    let (mut off_curve, mut off_subgroup) = (0, 0);
    for x in (1..100u64).map(ark_bn254::Fr::from) {
        match (lift_x(x), PublicKey::from_x(&bytes32(x))) {
            (None, found) => {
                assert_eq!(found, Err(KeyError::NotInSubgroup));
                off_curve += 1;
            }
            (Some(_), Err(error)) => {
                assert_eq!(error, KeyError::NotInSubgroup);
                off_subgroup += 1;
            }
            (Some(_), Ok(key)) => assert!(key.point().is_in_correct_subgroup_assuming_on_curve()),
        }
    }
    assert!(off_curve > 0 && off_subgroup > 0);
}

/// The points of order 4 and 8: every non-zero x-coordinate of small order is refused.
#[test]
fn keys_of_small_order_are_refused() {
    use ark_ec::AffineRepr;
    let mut small = Vec::new();
    for x in (1..200u64).map(ark_bn254::Fr::from) {
        if let Some(point) = lift_x(x) {
            let torsion: millstream_voucher::babyjubjub::Point = point.mul_bigint(Scalar::MODULUS).into();
            if torsion.x != ark_bn254::Fr::from(0u64) && !small.contains(&torsion.x) {
                small.push(torsion.x);
            }
        }
    }
    assert!(small.len() >= 4, "points of order 4 and 8 occur");
    for x in small {
        assert_eq!(PublicKey::from_x(&bytes32(x)), Err(KeyError::NotInSubgroup));
    }
}

fn bytes32_of_modulus() -> [u8; 32] {
    ark_bn254::Fr::MODULUS.to_bytes_be().try_into().expect("32 bytes")
}

#[test]
fn bad_secrets_are_refused() {
    let order: [u8; 32] = Scalar::MODULUS.to_bytes_be().try_into().expect("32 bytes");
    let check = |found: Result<SecretKey, KeyError>, expected: KeyError| assert_eq!(found.map(|_| ()), Err(expected));
    check(SecretKey::from_bytes(&[0; 32]), KeyError::ZeroSecret);
    check(SecretKey::from_bytes(&order), KeyError::SecretRange);
    check(SecretKey::from_bytes(&[0xff; 32]), KeyError::SecretRange);
    check(SecretKey::from_entropy(&[0; 64]), KeyError::ZeroSecret);
}

#[test]
fn a_secret_goes_through_its_bytes_and_is_not_printed() {
    let key = secret(5);
    let bytes = key.to_bytes();
    assert_eq!(SecretKey::from_bytes(&bytes).expect("in range").public_key(), key.public_key());
    let printed = format!("{key:?}");
    let hidden: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!printed.contains(&hidden[2..20]), "{printed}");
}

/// V-5: `8·Q` is the key.
#[test]
fn the_witness_is_an_eighth_of_the_key() {
    use ark_ec::AffineRepr;
    use millstream_voucher::babyjubjub::Point;
    for seed in 1..20 {
        let witness = secret(seed).witness();
        let [x, y] = [witness.x, witness.y].map(|bytes| ark_bn254::Fr::from_be_bytes_mod_order(&bytes));
        let eighth = Point::new_unchecked(x, y);
        assert!(eighth.is_on_curve());
        assert_eq!(Point::from(eighth.mul_bigint([8])), secret(seed).public_key().point());
    }
}

/// V-1: each term changes the uid; V-2: 248 bits.
#[test]
fn a_uid_commits_to_every_term() {
    let ledger = LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([1; 20]) };
    let terms = ChannelTerms { ledger, payer: Address::from_bytes([2; 20]), key_x: [3; 32], salt: [4; 32] };
    let others = [
        ChannelTerms { ledger: LedgerId { chain: ChainId::new(1_337), ..ledger }, ..terms },
        ChannelTerms { ledger: LedgerId { contract: Address::from_bytes([9; 20]), ..ledger }, ..terms },
        ChannelTerms { payer: Address::from_bytes([9; 20]), ..terms },
        ChannelTerms { key_x: [9; 32], ..terms },
        ChannelTerms { salt: [9; 32], ..terms },
    ];
    for other in others {
        assert_ne!(other.uid(), terms.uid(), "{other:?}");
    }
    assert_eq!(terms.uid().as_bytes()[0], 0);
}

#[test]
fn a_batch_is_answered_in_order() {
    let good = *secret(1).sign(body()).expect("fits").signed();
    let keys = [1, 2].map(|seed| CheckingKey::new(&secret(seed).public_key()));
    let batch = [(good, &keys[0]), (good, &keys[1]), (good, &keys[0])];
    let answers: Vec<bool> = ScalarChecker.check(&batch).iter().map(Result::is_ok).collect();
    assert_eq!(answers, [true, false, true]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_signed_verifies_from_its_bytes(
        entropy in proptest::array::uniform32(any::<u8>()),
        uid in proptest::array::uniform32(any::<u8>()),
        lines_total: u64,
        nanos: u64,
        head in proptest::array::uniform32(any::<u8>()),
    ) {
        let mut wide = [1; 64];
        wide[..32].copy_from_slice(&entropy);
        let key = SecretKey::from_entropy(&wide).expect("not zero");
        let mut uid_bytes = [0; 31];
        uid_bytes.copy_from_slice(&uid[..31]);
        let channel = ChannelId::from_uid(&uid_bytes);
        let cumulative = CumulativeAmount::from_nanos(nanos);
        let body = VoucherBody { channel, lines_total, cumulative, bill_head: BillHead::from_bytes(head) };
        let signed = key.sign(body).expect("fits");
        let read = SignedVoucher::from_bytes(channel, &signed.signed().to_bytes());
        prop_assert_eq!(&read, signed.signed());
        prop_assert_eq!(read.verify(&PublicKey::from_x(&key.public_key().x()).expect("a key")), Ok(signed));
    }
}
