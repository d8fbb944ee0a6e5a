//! The seam between who checks vouchers and how many lanes the processor has.

use std::sync::OnceLock;

use crate::keys::CheckingKey;
use crate::lanes::LaneChecker;
use crate::voucher::{SignedVoucher, VerifiedVoucher, VoucherError};

/// Checks vouchers in batches. Every checker accepts exactly the vouchers that [`SignedVoucher::verify`] accepts.
pub trait VoucherChecker: Send + Sync {
    /// One answer for each voucher, in order.
    fn check(&self, batch: &[(SignedVoucher, &CheckingKey)]) -> Vec<Result<VerifiedVoucher, VoucherError>>;

    /// How it checks, for logs and reports.
    fn name(&self) -> &'static str;

    /// Vouchers that it checks for about the price of one; a batch of fewer gains nothing.
    fn lanes(&self) -> usize {
        1
    }

    /// Answers of a fast check that the scalar one did not confirm. After the first of them only the scalar check is used.
    fn disagreements(&self) -> u64 {
        0
    }
}

/// The fastest checker of this processor: [`LaneChecker`] where it has the lanes, else [`ScalarChecker`]. Always the same one in a process.
#[must_use]
pub fn best_checker() -> &'static dyn VoucherChecker {
    static CHECKER: OnceLock<Option<LaneChecker>> = OnceLock::new();
    match CHECKER.get_or_init(LaneChecker::detect) {
        Some(checker) => checker,
        None => &ScalarChecker,
    }
}

/// Checks one voucher after the other on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScalarChecker;

impl VoucherChecker for ScalarChecker {
    fn check(&self, batch: &[(SignedVoucher, &CheckingKey)]) -> Vec<Result<VerifiedVoucher, VoucherError>> {
        batch.iter().map(|(voucher, key)| voucher.verify_with(key)).collect()
    }

    fn name(&self) -> &'static str {
        "scalar"
    }
}
