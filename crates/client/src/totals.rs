//! How far a channel has come.

use core::fmt;

use millstream_types::{Amount, CumulativeAmount};
use millstream_voucher::VoucherBody;

/// Lines and nanos of a channel since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Lines.
    pub lines_total: u64,
    /// Nanos.
    pub cumulative: CumulativeAmount,
}

impl Totals {
    /// The totals of a voucher.
    #[must_use]
    pub const fn of(body: &VoucherBody) -> Self {
        Self { lines_total: body.lines_total, cumulative: body.cumulative }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines over {} nanos", self.lines_total, self.cumulative)
    }
}

/// Where a channel stands: `acked ≤ signed ≤ taken`, and `taken` within the deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Everything that `pay` took, signed or about to be.
    pub taken: Totals,
    /// Under a signature of the payer.
    pub signed: Totals,
    /// Durable at the node.
    pub acked: Totals,
    /// The deposit at the node's confirmation depth, in nanos, as the node last said.
    pub deposit: Amount,
    /// What the node has charged, in nanos, when it last said.
    pub charged: CumulativeAmount,
    /// What was settled on-chain, in nanos, when the node last said.
    pub settled: CumulativeAmount,
    /// Frames signed and not acked yet.
    pub frames_unacked: u64,
}
