//! What the claimer needs of a contract: which rows it takes, and the calls.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use millstream_chain::x402::{BatchOperator, ClaimRow};
use millstream_chain::{Call, ChainError};
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId};
use millstream_voucher::evm::EvmSignature;

use crate::terms::{ForeignTerms, read_x402_config};

/// A future of a [`ClaimContract`].
pub type ContractFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, ChainError>> + Send + 'a>>;

/// One row of a claim, with all that the contract has to be shown: it can be made into the same call again after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The channel.
    pub channel: EscrowChannelId,
    /// The contract's own terms of it, as the engine keeps them.
    pub config: Bytes,
    /// What the voucher allows in total.
    pub ceiling: CumulativeAmount,
    /// What is taken in total.
    pub total: CumulativeAmount,
    /// The voucher's signature.
    pub signature: EvmSignature,
}

/// Rows, told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SortedRows {
    /// The places of those that the contract takes, ascending.
    pub good: Vec<usize>,
    /// The others, each with the contract's reason.
    pub bad: Vec<(usize, String)>,
}

/// A contract on which many channels are claimed in one call, of one token.
pub trait ClaimContract: Send + Sync + 'static {
    /// Tells the rows that the contract takes now from those that it refuses by themselves. Nothing is sent.
    ///
    /// # Errors
    /// What is no refusal: then nothing is known of any row.
    fn sort_out<'a>(&'a self, rows: &'a [Row]) -> ContractFuture<'a, SortedRows>;

    /// The call that claims the rows: the same bytes for the same rows, whenever it is asked.
    ///
    /// # Errors
    /// A row is not of this contract.
    fn claim_call(&self, rows: &[Row]) -> Result<Call, ChainError>;

    /// The call that pays a receiver what was claimed for it; none where a claim pays at once.
    fn sweep_call(&self, receiver: Address) -> Option<Call>;

    /// What such a call would pay now.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    fn due(&self, receiver: Address) -> ContractFuture<'_, Amount>;
}

/// x402's `batch-settlement` contract, and one token on it. Channels name the operator's account as receiver or receiver authorizer.
#[derive(Clone, Debug)]
pub struct X402Claims {
    operator: BatchOperator,
    token: Address,
}

impl X402Claims {
    /// Claims by the operator's account.
    #[must_use]
    pub const fn new(operator: BatchOperator, token: Address) -> Self {
        Self { operator, token }
    }

    fn row(&self, row: &Row) -> Result<ClaimRow, ForeignTerms> {
        let config = read_x402_config(&row.config)?;
        if config.token != self.token {
            return Err(ForeignTerms);
        }
        let Row { channel, ceiling, total, ref signature, .. } = *row;
        Ok(ClaimRow { channel, config, ceiling, signature: signature.clone(), total })
    }
}

impl ClaimContract for X402Claims {
    fn sort_out<'a>(&'a self, rows: &'a [Row]) -> ContractFuture<'a, SortedRows> {
        Box::pin(async move {
            let (mut known, mut places, mut sorted) = (Vec::new(), Vec::new(), SortedRows::default());
            for (place, row) in rows.iter().enumerate() {
                match self.row(row) {
                    Ok(row) => {
                        known.push(row);
                        places.push(place);
                    }
                    Err(foreign) => sorted.bad.push((place, foreign.to_string())),
                }
            }
            let found = self.operator.sort_out(&known).await?;
            let place = |found: usize| places.get(found).copied();
            sorted.good = found.good.into_iter().filter_map(place).collect();
            sorted.bad.extend(found.bad.into_iter().filter_map(|bad| Some((place(bad.row)?, bad.revert.to_string()))));
            sorted.bad.sort_unstable();
            Ok(sorted)
        })
    }

    fn claim_call(&self, rows: &[Row]) -> Result<Call, ChainError> {
        let rows: Result<Vec<ClaimRow>, ForeignTerms> = rows.iter().map(|row| self.row(row)).collect();
        let rows = rows.map_err(|foreign| ChainError::InvalidInput { what: "claim", detail: foreign.to_string() })?;
        self.operator.claim_call(&rows)
    }

    fn sweep_call(&self, receiver: Address) -> Option<Call> {
        Some(self.operator.sweep_call(receiver, self.token))
    }

    fn due(&self, receiver: Address) -> ContractFuture<'_, Amount> {
        Box::pin(async move { Ok(self.operator.contract().receiver(receiver, self.token).await?.due()) })
    }
}
