//! Checks eight vouchers at a time.
//!
//! **Invariant:** lanes never judge alone. What they reject, the scalar check rejects too before that is reported; of what they accept, one
//! in [`SAMPLE`] is checked again by the scalar check without tables. After one disagreement lanes are not asked any more.

mod curve;
mod kernel;
mod poseidon;

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use millstream_lanes::{Avx512Ifma, LANES};

use crate::checker::{ScalarChecker, VoucherChecker};
use crate::keys::CheckingKey;
use crate::voucher::{SignedVoucher, VerifiedVoucher, VoucherError};
use kernel::{ChallengeKernel, Job, OnUnit};

/// Acceptances of which one is checked again.
const SAMPLE: u64 = 1024;
/// Vouchers left over from which on a group that is filled up costs less than checking them one by one.
const GROUP_MIN: usize = 2;
/// Groups that share an inversion.
const GROUPS_MAX: usize = 16;

/// Checks eight vouchers at a time, with AVX-512 IFMA.
///
/// A rejection costs a scalar check on top of the lanes' share, so bad signatures are dearer to check than good ones, but cheaper than by
/// [`SignedVoucher::verify`].
pub struct LaneChecker {
    kernel: Box<dyn ChallengeKernel>,
    acceptances: AtomicU64,
    disagreements: AtomicU64,
}

impl LaneChecker {
    /// A checker for this processor, or nothing where it lacks AVX-512 F or IFMA.
    #[must_use]
    pub fn detect() -> Option<Self> {
        Avx512Ifma::detect().map(|unit| Self::with_kernel(Box::new(OnUnit(unit))))
    }

    fn with_kernel(kernel: Box<dyn ChallengeKernel>) -> Self {
        Self { kernel, acceptances: AtomicU64::new(0), disagreements: AtomicU64::new(0) }
    }

    /// Whether the lanes say that each job's challenge is the right one.
    fn ask_lanes(&self, jobs: &[Job<'_>]) -> Vec<bool> {
        let mut answers = Vec::with_capacity(jobs.len());
        for jobs in jobs.chunks(GROUPS_MAX * LANES) {
            // A group that is not full repeats its last job.
            let groups: Vec<[Job<'_>; LANES]> =
                jobs.chunks(LANES).map(|group| core::array::from_fn(|lane| group[lane.min(group.len() - 1)])).collect();
            let challenges = self.kernel.challenges(&groups);
            answers.extend(jobs.iter().zip(challenges.as_flattened()).map(|(job, challenge)| job.challenge == *challenge));
        }
        answers
    }

    /// The answer for a voucher that the lanes took for good or bad, or nothing when the scalar check says otherwise.
    fn confirm(&self, voucher: SignedVoucher, key: &CheckingKey, good: bool) -> Option<Result<VerifiedVoucher, VoucherError>> {
        if !good {
            let answer = voucher.verify_with(key);
            return answer.is_err().then_some(answer);
        }
        if self.acceptances.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLE) {
            return voucher.verify(key.public_key()).ok().map(Ok);
        }
        Some(Ok(VerifiedVoucher::assume_verified(voucher)))
    }
}

impl VoucherChecker for LaneChecker {
    fn check(&self, batch: &[(SignedVoucher, &CheckingKey)]) -> Vec<Result<VerifiedVoucher, VoucherError>> {
        if self.disagreements() > 0 {
            return ScalarChecker.check(batch);
        }
        let rest = batch.len() % LANES;
        let (in_lanes, one_by_one) = batch.split_at(if rest < GROUP_MIN { batch.len() - rest } else { batch.len() });

        let jobs: Vec<Result<Job<'_>, VoucherError>> = in_lanes.iter().map(|(voucher, key)| Job::new(voucher, key)).collect();
        let well_formed: Vec<Job<'_>> = jobs.iter().filter_map(|job| job.as_ref().ok()).copied().collect();
        let mut good = self.ask_lanes(&well_formed).into_iter();

        let mut answers = Vec::with_capacity(batch.len());
        for ((voucher, key), job) in in_lanes.iter().zip(jobs) {
            let answer = match job {
                Err(error) => Some(Err(error)),
                Ok(_) => self.confirm(*voucher, key, good.next() == Some(true)),
            };
            let Some(answer) = answer else {
                self.disagreements.fetch_add(1, Ordering::Relaxed);
                return ScalarChecker.check(batch);
            };
            answers.push(answer);
        }
        answers.extend(ScalarChecker.check(one_by_one));
        answers
    }

    fn name(&self) -> &'static str {
        "avx512-ifma"
    }

    fn lanes(&self) -> usize {
        LANES
    }

    fn disagreements(&self) -> u64 {
        self.disagreements.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for LaneChecker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneChecker").field("disagreements", &self.disagreements()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ark_bn254::Fr;
    use ark_ff::{AdditiveGroup, BigInt, Field, PrimeField};
    use millstream_lanes::{Constant, Kernel, Plain, Unit, Vector};
    use millstream_types::{BillHead, ChannelId, CumulativeAmount};
    use proptest::prelude::*;

    use super::kernel::Field8;
    use super::*;
    use crate::babyjubjub::Scalar;
    use crate::comb;
    use crate::keys::SecretKey;
    use crate::poseidon::Tag;
    use crate::residue::Element;
    use crate::voucher::{SIGNATURE_BYTES, Signature, VoucherBody};

    fn key(seed: u8) -> (SecretKey, CheckingKey) {
        let secret = SecretKey::from_entropy(&[seed; 64]).expect("not zero");
        let checking = CheckingKey::new(&secret.public_key());
        (secret, checking)
    }

    fn signed(secret: &SecretKey, number: u64) -> SignedVoucher {
        let body = VoucherBody {
            channel: ChannelId::from_uid(&[number as u8; 31]),
            lines_total: number,
            cumulative: CumulativeAmount::from_nanos(number),
            bill_head: BillHead::from_bytes([7; 32]),
        };
        *secret.sign(body).expect("64 bits").signed()
    }

    /// The checkers of every unit there is.
    fn checkers() -> Vec<LaneChecker> {
        [Some(LaneChecker::with_kernel(Box::new(OnUnit(Plain)))), LaneChecker::detect()].into_iter().flatten().collect()
    }

    /// Computes the challenges right, and then turns those that `fault` names by their place among all that were ever asked for.
    struct Faulty<F> {
        asked: AtomicU64,
        fault: F,
    }

    impl<F: Fn(u64, u128) -> u128 + Send + Sync> ChallengeKernel for Faulty<F> {
        fn challenges(&self, groups: &[[Job<'_>; LANES]]) -> Vec<[u128; LANES]> {
            let mut challenges = OnUnit(Plain).challenges(groups);
            for challenge in challenges.as_flattened_mut() {
                *challenge = (self.fault)(self.asked.fetch_add(1, Ordering::Relaxed), *challenge);
            }
            challenges
        }
    }

    fn faulty(fault: impl Fn(u64, u128) -> u128 + Send + Sync + 'static) -> LaneChecker {
        LaneChecker::with_kernel(Box::new(Faulty { asked: AtomicU64::new(0), fault }))
    }

    #[test]
    fn a_lane_that_refuses_good_money_is_overruled_and_retired() {
        let (secret, key) = key(1);
        let batch: Vec<_> = (0..16).map(|number| (signed(&secret, number), &key)).collect();
        let checker = faulty(|place, challenge| if place == 11 { challenge ^ 1 } else { challenge });
        assert!(checker.check(&batch).iter().all(Result::is_ok));
        assert_eq!(checker.disagreements(), 1);
        // From now on the lanes are not asked.
        assert!(checker.check(&batch).iter().all(Result::is_ok));
        assert_eq!(checker.disagreements(), 1);
    }

    #[test]
    fn a_lane_that_takes_bad_money_is_found_by_the_sample_and_retired() {
        let (secret, key) = key(1);
        let good = signed(&secret, 1);
        // The challenge that the broken lanes compute is always this one.
        let mut forged = [0xee; SIGNATURE_BYTES];
        forged[16..].copy_from_slice(&good.signature().as_bytes()[16..]);
        let forged = SignedVoucher::new(*good.body(), Signature::from_bytes(forged)).expect("64 bits");
        let claimed = forged.signature().challenge();

        let checker = faulty(move |_, _| claimed);
        // The first acceptance is in the sample.
        let answers = checker.check(&[(forged, &key); 8]);
        assert!(answers.iter().all(|answer| matches!(answer, Err(VoucherError::WrongSignature { .. }))), "{answers:?}");
        assert_eq!(checker.disagreements(), 1);

        // Broken later, it is found within a sample.
        let broken_from = 64;
        let checker = faulty(move |place, challenge| if place >= broken_from { claimed } else { challenge });
        assert!(checker.check(&[(good, &key); 64]).iter().all(Result::is_ok));
        let batches = (0..).find(|_| checker.check(&[(forged, &key); 64]).iter().all(Result::is_err)).expect("found");
        assert!(batches <= SAMPLE / 64, "{batches}");
        assert_eq!(checker.disagreements(), 1);
        assert!(checker.check(&[(good, &key), (forged, &key)]).iter().map(Result::is_ok).eq([true, false]));
    }

    /// Bad vouchers are the peer's fault and no disagreement.
    #[test]
    fn lanes_and_scalar_agree_on_bad_vouchers() {
        let keys = [key(1), key(2)];
        for checker in checkers() {
            let batch: Vec<_> = (0..11).map(|number| (signed(&keys[0].0, number), &keys[usize::from(number == 4)].1)).collect();
            let answers = checker.check(&batch);
            assert!(answers.iter().enumerate().all(|(index, answer)| answer.is_ok() == (index != 4)));
            assert_eq!(checker.disagreements(), 0);
        }
    }

    #[test]
    fn jobs_that_own_their_keys_are_checked_without_copies() {
        let (secret, key) = key(3);
        let key = Arc::new(key);
        let jobs: Vec<(SignedVoucher, Arc<CheckingKey>)> = (0..9).map(|number| (signed(&secret, number), Arc::clone(&key))).collect();
        let batch: Vec<(SignedVoucher, &CheckingKey)> = jobs.iter().map(|(voucher, key)| (*voucher, key.as_ref())).collect();
        for checker in checkers() {
            assert!(checker.check(&batch).iter().all(Result::is_ok));
        }
    }

    /// The commitments of eight jobs, and the hashes of eight x-coordinates with the jobs' messages, as integers.
    #[derive(Clone, Copy)]
    struct Parts<'a> {
        jobs: &'a [Job<'a>; LANES],
        commitments: [[u64; 4]; LANES],
    }

    impl Kernel for Parts<'_> {
        type Output = [[[u64; 4]; LANES]; 3];

        #[inline(always)]
        fn run<V: Vector>(self, proof: V::Proof) -> Self::Output {
            let fraction = curve::commitment::<V>(proof, self.jobs, comb::GeneratorComb::shared(), Some(self.jobs));
            let one = Field8::splat(proof, &Constant::from_montgomery(*Element::ONE.montgomery_limbs()));
            let x = Field8::<V>::from_montgomery(proof, self.commitments.each_ref()).mul(proof, one);
            let hash = poseidon::Constants::shared().hash(proof, x, self.jobs);
            [fraction.numerator.to_montgomery(proof), fraction.denominator.to_montgomery(proof), hash.to_integers(proof)]
        }
    }

    /// What the parts are computed of in one lane.
    #[derive(Clone, Copy, Debug)]
    struct Case {
        key_seed: u8,
        challenge: u128,
        response: Scalar,
        commitment_x: Fr,
        message: [Fr; 3],
    }

    fn check_parts(cases: &[Case; LANES]) {
        let keys = cases.map(|case| key(case.key_seed).1);
        let jobs: [Job<'_>; LANES] = core::array::from_fn(|lane| {
            let Case { challenge, response, message, .. } = cases[lane];
            let response_signs = comb::response_signs(response.into_bigint().0);
            Job { key: keys[lane].comb(), response_signs, challenge, message: message.map(|part| part.into_bigint().0) }
        });
        let parts = Parts { jobs: &jobs, commitments: cases.map(|case| case.commitment_x.0.0) };
        let outputs = [Some(Plain.run(parts)), Avx512Ifma::detect().map(|unit| unit.run(parts))];
        for [numerators, denominators, hashes] in outputs.into_iter().flatten() {
            for (lane, Case { challenge, response, commitment_x, message, .. }) in cases.iter().enumerate() {
                let [numerator, denominator] = [numerators[lane], denominators[lane]].map(|form| Fr::new_unchecked(BigInt(form)));
                let expected = comb::commitment(response.into_bigint().0, *challenge, keys[lane].comb());
                assert_eq!(numerator * crate::curve::FROM_MINUS_ONE, expected * denominator, "commitment in lane {lane}");
                assert_ne!(denominator, Fr::ZERO);
                let [uid, cumulative, bill] = *message;
                let expected = crate::poseidon::hash(Tag::Voucher, &[*commitment_x, uid, cumulative, bill]);
                assert_eq!(hashes[lane], expected.into_bigint().0, "hash in lane {lane}");
            }
        }
    }

    #[test]
    fn edges_of_the_parts_agree_with_the_scalar_code() {
        let elements = [Fr::ZERO, Fr::ONE, -Fr::ONE, Fr::from(u64::MAX), Fr::from(u128::MAX)];
        let responses = [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, Scalar::from(2u64), Scalar::from(u128::MAX)];
        let challenges = [0, u128::MAX, 1, u128::MAX / 3, 1 << 127, 1 << 64, u128::MAX >> 1, 2];
        for turn in 0..elements.len() {
            check_parts(&core::array::from_fn(|lane| Case {
                key_seed: 1 + lane as u8 % 3,
                challenge: challenges[lane],
                response: responses[(lane + turn) % 5],
                commitment_x: elements[(2 * lane + turn) % 5],
                message: [elements[turn], elements[(turn + lane) % 5], elements[lane % 5]],
            }));
        }
    }

    fn case() -> impl Strategy<Value = Case> {
        let element = || any::<[u8; 32]>().prop_map(|bytes| Fr::from_le_bytes_mod_order(&bytes));
        let response = any::<[u8; 32]>().prop_map(|bytes| Scalar::from_le_bytes_mod_order(&bytes));
        (1u8..9, any::<u128>(), response, element(), proptest::array::uniform3(element())).prop_map(
            |(key_seed, challenge, response, commitment_x, message)| Case { key_seed, challenge, response, commitment_x, message },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_parts_agree_with_the_scalar_code(cases in proptest::array::uniform8(case())) {
            check_parts(&cases);
        }
    }
}
