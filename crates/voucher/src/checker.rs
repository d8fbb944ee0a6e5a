//! The seam between who checks vouchers and how many lanes the processor has.

use crate::keys::PublicKey;
use crate::voucher::{SignedVoucher, VerifiedVoucher, VoucherError};

/// Checks vouchers in batches. Every checker accepts exactly the vouchers that [`SignedVoucher::verify`] accepts.
pub trait VoucherChecker: Send + Sync {
    /// One answer for each voucher, in order.
    fn check(&self, batch: &[(SignedVoucher, PublicKey)]) -> Vec<Result<VerifiedVoucher, VoucherError>>;
}

/// Checks one voucher after the other on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScalarChecker;

impl VoucherChecker for ScalarChecker {
    fn check(&self, batch: &[(SignedVoucher, PublicKey)]) -> Vec<Result<VerifiedVoucher, VoucherError>> {
        batch.iter().map(|(voucher, key)| voucher.verify(key)).collect()
    }
}
