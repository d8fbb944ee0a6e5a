//! What a peer did wrong. A rejection is a value: it changes no state and stops nothing.

use millstream_types::{Amount, BillHead, CumulativeAmount};

/// Why a frame or an attach was not accepted, in the order of the checks (spec W-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No such channel at the confirmation depth.
    #[error("no such channel is confirmed on this ledger")]
    UnknownChannel,
    /// A close was requested or done.
    #[error("the channel is closing or closed")]
    ChannelClosing,
    /// A reorganisation took back what the channel relied on.
    #[error("the channel is frozen until the chain confirms its deposit again")]
    ChannelFrozen,
    /// The voucher's totals are not above the accepted ones.
    #[error("the voucher's total {actual} is not above the accepted {accepted}")]
    StaleTotal {
        /// The accepted cumulative amount.
        accepted: CumulativeAmount,
        /// The voucher's.
        actual: CumulativeAmount,
    },
    /// The line total does not follow.
    #[error("the voucher counts {actual} lines where {expected} follow")]
    LinesMismatch {
        /// Accepted lines and those of the frame.
        expected: u64,
        /// The voucher's.
        actual: u64,
    },
    /// The amounts do not follow.
    #[error("the voucher's total is {actual} where the lines make it {expected}")]
    AmountMismatch {
        /// The accepted total and the frame's amount.
        expected: CumulativeAmount,
        /// The voucher's.
        actual: CumulativeAmount,
    },
    /// The head does not follow.
    #[error("the voucher's bill head is {actual} where {expected} follows")]
    BrokenBillHead {
        /// The head that follows from the accepted one and the frame.
        expected: BillHead,
        /// The voucher's.
        actual: BillHead,
    },
    /// More than the deposit that the chain confirms.
    #[error("the voucher's total {actual} is above the confirmed deposit {deposit}")]
    DepositExceeded {
        /// The confirmed deposit.
        deposit: Amount,
        /// The voucher's total.
        actual: CumulativeAmount,
    },
}
