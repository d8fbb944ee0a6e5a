//! Settlements of sessions: what a claim is on an escrow that pays vouchers whole, at once.

use millstream_chain::session_escrow::{SessionOperator, VoucherRow};
use millstream_chain::{Call, ChainError};
use millstream_types::{Address, Amount};

use super::contract::{ClaimContract, ContractFuture, Row, SortedRows};

/// What the escrow says of a voucher when somebody else was first: the chain will tell, and the channel is to blame for nothing.
const OVERTAKEN: [&str; 2] = ["AmountNotIncreasing", "ChannelFinalized"];

/// The escrow of MPP sessions, and one token on it. Channels name the operator's account as their payee.
#[derive(Clone, Debug)]
pub struct SessionClaims {
    operator: SessionOperator,
    token: Address,
}

impl SessionClaims {
    /// Settles by the operator's account.
    #[must_use]
    pub const fn new(operator: SessionOperator, token: Address) -> Self {
        Self { operator, token }
    }
}

/// The voucher of a row. The escrow pays all of it.
fn voucher(row: &Row) -> Result<VoucherRow, ChainError> {
    let Row { channel, ceiling, total, ref signature, .. } = *row;
    if ceiling == total {
        Ok(VoucherRow { channel, cumulative: total, signature: signature.clone() })
    } else {
        Err(ChainError::InvalidInput { what: "claim", detail: format!("of a voucher over {ceiling}, no part can be settled") })
    }
}

impl ClaimContract for SessionClaims {
    fn sort_out<'a>(&'a self, rows: &'a [Row]) -> ContractFuture<'a, SortedRows> {
        Box::pin(async move {
            let vouchers: Vec<VoucherRow> = rows.iter().map(voucher).collect::<Result<_, _>>()?;
            let refused = self.operator.bad_vouchers(&vouchers).await?;
            let is_refused = |place: &usize| refused.iter().any(|bad| bad.row == *place);
            let good = (0..rows.len()).filter(|place| !is_refused(place)).collect();
            let bad = refused.iter().filter(|bad| !bad.revert.name().is_some_and(|name| OVERTAKEN.contains(&name)));
            Ok(SortedRows { good, bad: bad.map(|bad| (bad.row, bad.revert.to_string())).collect() })
        })
    }

    fn claim_call(&self, rows: &[Row]) -> Result<Call, ChainError> {
        let vouchers: Vec<VoucherRow> = rows.iter().map(voucher).collect::<Result<_, _>>()?;
        Ok(self.operator.settle_many_call(self.token, &vouchers))
    }

    fn sweep_call(&self, _: Address) -> Option<Call> {
        None
    }

    fn due(&self, _: Address) -> ContractFuture<'_, Amount> {
        Box::pin(async { Ok(Amount::ZERO) })
    }
}
