//! Every checker gives the answers of `SignedVoucher::verify`.

use millstream_types::{BillHead, ChannelId, CumulativeAmount};
use millstream_voucher::{
    CheckingKey, LaneChecker, ScalarChecker, SecretKey, Signature, SignedVoucher, VerifiedVoucher, VoucherBody, VoucherChecker,
    VoucherError, best_checker,
};
use proptest::prelude::*;

/// `l`, big-endian (spec, section Curve and keys).
const ORDER: [u8; 32] = [
    0x06, 0x0c, 0x89, 0xce, 0x5c, 0x26, 0x34, 0x05, 0x37, 0x0a, 0x08, 0xb6, 0xd0, 0x30, 0x2b, 0x0b, 0xab, 0x3e, 0xed, 0xb8, 0x39, 0x20,
    0xee, 0x0a, 0x67, 0x72, 0x97, 0xdc, 0x39, 0x21, 0x26, 0xf1,
];

/// What is done to an honest voucher.
#[derive(Clone, Copy, Debug)]
enum Deed {
    None,
    FlipBit(usize),
    OtherKey,
    Response([u8; 32]),
    Bytes([u8; 32], [u8; 16]),
}

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_entropy(&[seed; 64]).expect("not zero")
}

fn signed(seed: u8, number: u64) -> SignedVoucher {
    let mut uid = [seed; 31];
    uid[..8].copy_from_slice(&number.to_be_bytes());
    let body = VoucherBody {
        channel: ChannelId::from_uid(&uid),
        lines_total: number,
        cumulative: CumulativeAmount::from_nanos(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        bill_head: BillHead::from_bytes([number as u8; 32]),
    };
    *secret(seed).sign(body).expect("64 bits").signed()
}

/// An honest voucher of the key after the deed, and the key to check it with.
fn case(seed: u8, number: u64, deed: Deed) -> (SignedVoucher, CheckingKey) {
    let voucher = signed(seed, number);
    let checking = |seed: u8| CheckingKey::new(&secret(seed).public_key());
    let changed = |change: &dyn Fn(&mut [u8; 96])| {
        let mut bytes = voucher.to_bytes();
        change(&mut bytes);
        SignedVoucher::from_bytes(voucher.body().channel, &bytes)
    };
    match deed {
        Deed::None => (voucher, checking(seed)),
        Deed::FlipBit(bit) => (changed(&|bytes| bytes[bit / 8] ^= 1 << (bit % 8)), checking(seed)),
        Deed::OtherKey => (voucher, checking(seed.wrapping_add(1).max(1))),
        Deed::Response(response) => (changed(&|bytes| bytes[64..].copy_from_slice(&response)), checking(seed)),
        Deed::Bytes(response, challenge) => {
            let all = |bytes: &mut [u8; 96]| {
                bytes[48..64].copy_from_slice(&challenge);
                bytes[64..].copy_from_slice(&response);
            };
            (changed(&all), checking(seed))
        }
    }
}

/// Every checker agrees with the check without tables, voucher by voucher.
fn check(cases: &[(SignedVoucher, CheckingKey)]) -> Vec<Result<VerifiedVoucher, VoucherError>> {
    let expected: Vec<_> = cases.iter().map(|(voucher, key)| voucher.verify(key.public_key())).collect();
    let batch: Vec<_> = cases.iter().map(|(voucher, key)| (*voucher, key)).collect();
    let lanes = LaneChecker::detect();
    let checkers = [Some(best_checker()), Some(&ScalarChecker), lanes.as_ref().map(|lanes| lanes as &dyn VoucherChecker)];
    for checker in checkers.into_iter().flatten() {
        assert_eq!(checker.check(&batch), expected, "{}", checker.name());
        assert_eq!(checker.disagreements(), 0, "{}", checker.name());
    }
    expected
}

fn below(order: [u8; 32], by: u8) -> [u8; 32] {
    let mut bytes = order;
    bytes[31] -= by;
    bytes
}

#[test]
fn every_size_of_batch_is_checked_in_order() {
    let cases: Vec<_> = (0..33)
        .map(|number| case(1 + number as u8 % 5, number, if number % 3 == 1 { Deed::OtherKey } else { Deed::None }))
        .collect();
    for size in 0..=cases.len() {
        let answers = check(&cases[..size]);
        assert!(answers.iter().enumerate().all(|(index, answer)| answer.is_ok() == (index % 3 != 1)));
    }
}

/// V-7: zero, the order and everything above it; and what is in range and wrong.
#[test]
fn edges_of_the_response_are_refused_by_all() {
    let mut above = ORDER;
    above[31] += 1;
    let mut one = [0; 32];
    one[31] = 1;
    let responses = [([0; 32], true), (ORDER, true), (above, true), ([0xff; 32], true), (one, false), (below(ORDER, 1), false)];
    let cases: Vec<_> = responses
        .iter()
        .flat_map(|(response, _)| [[0; 16], [0xff; 16]].map(|challenge| case(3, 7, Deed::Bytes(*response, challenge))))
        .collect();
    for (index, answer) in check(&cases).into_iter().enumerate() {
        assert_eq!(matches!(answer, Err(VoucherError::ResponseRange)), responses[index / 2].1, "{answer:?}");
        assert!(answer.is_err());
    }
}

/// `S + l` satisfies the equation and is refused.
#[test]
fn a_response_that_is_not_reduced_is_refused() {
    let voucher = signed(2, 5);
    let mut sum = [0; 32];
    let mut carry = 0u16;
    for index in (0..32).rev() {
        carry += u16::from(ORDER[index]) + u16::from(voucher.signature().as_bytes()[16 + index]);
        sum[index] = carry.to_be_bytes()[1];
        carry >>= 8;
    }
    let answers = check(&[case(2, 5, Deed::None), case(2, 5, Deed::Response(sum)), case(2, 5, Deed::None)]);
    assert!(matches!(answers[..], [Ok(_), Err(VoucherError::ResponseRange), Ok(_)]));
}

/// Each bit but those of `lines_total`, which the bill head hashes (V-9).
#[test]
fn each_bit_counts() {
    let cases: Vec<_> = (0..768).map(|bit| case(4, 9, Deed::FlipBit(bit))).collect();
    for (bit, answer) in check(&cases).into_iter().enumerate() {
        // The last byte of the head is not in the message (spec, section Signature).
        let ignored = bit < 64 || (47 * 8..48 * 8).contains(&bit);
        assert_eq!(answer.is_ok(), ignored, "bit {bit}");
    }
}

#[test]
fn the_challenge_has_128_bits() {
    let voucher = signed(6, 1);
    let signature = voucher.signature();
    assert_eq!(Signature::from_bytes(*signature.as_bytes()).challenge().to_be_bytes(), signature.as_bytes()[..16]);
    for byte in 0..16 {
        assert!(check(&[case(6, 1, Deed::FlipBit(8 * (48 + byte))), case(6, 1, Deed::None)])[0].is_err());
    }
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => Just(Deed::None),
        1 => (0usize..768).prop_map(Deed::FlipBit),
        1 => Just(Deed::OtherKey),
        1 => any::<[u8; 32]>().prop_map(Deed::Response),
        1 => (any::<[u8; 32]>(), any::<[u8; 16]>()).prop_map(|(response, challenge)| Deed::Bytes(response, challenge)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn checkers_agree(cases in proptest::collection::vec((1u8..200, any::<u64>(), deed()), 0..34), same_key: bool) {
        let cases: Vec<_> =
            cases.into_iter().map(|(seed, number, deed)| case(if same_key { 1 } else { seed }, number, deed)).collect();
        check(&cases);
    }
}
