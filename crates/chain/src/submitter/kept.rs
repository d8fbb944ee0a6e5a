//! Transactions that outlive their process: every version is kept by the caller before the node can see it, so that after a crash the same
//! transaction is followed on, under the same nonce.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use millstream_types::{BlockNumber, Hash256};
use tokio::sync::watch;

use super::fees::Fees;
use super::lane::{Core, Lane, Launched, Stage};
use super::{Call, Submitter};
use crate::ChainError;

/// One signed version of a transaction. With the call, it is all that is needed to sign it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxVersion {
    /// Its nonce.
    pub tx_nonce: u64,
    /// Its gas limit.
    pub gas_limit: u64,
    /// What a unit of gas may cost, in wei.
    pub max_fee_per_gas: u128,
    /// What of that goes to the block's maker, in wei.
    pub priority_fee_per_gas: u128,
    /// Its hash.
    pub transaction: Hash256,
}

/// A future of a [`Journal`].
pub type Kept<'a> = Pin<Box<dyn Future<Output = Result<(), ChainError>> + Send + 'a>>;

/// Keeps the versions of one transaction.
pub trait Journal: fmt::Debug + Send + Sync + 'static {
    /// Keeps a version, durably: it is handed to the node when the future has ended well, and not before. Of versions with different nonces
    /// only those with the last one can be on their way.
    fn keep(&self, version: TxVersion) -> Kept<'_>;
}

/// How much of a hurry a call is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// Waits for every [`Submitter::send`] that waits for the lane.
    #[default]
    AtLeisure,
    /// Waits for its turn only, and is sent with twice the estimated fees, within the submitter's caps.
    Urgent,
}

/// What a call may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GasBounds {
    /// The largest gas limit that it is sent with.
    pub gas_max: u64,
    /// The largest `maxFeePerGas` that it is first sent with, in wei. Replacements of one that is stuck obey the submitter's own cap: what
    /// comes after it on the lane must not wait.
    pub fee_per_gas_max: u128,
    /// How much of a hurry it is in.
    pub pace: Pace,
}

/// What a call would be sent with now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GasQuote {
    /// The gas limit: the estimate with its margin.
    pub gas_limit: u64,
    /// The largest fee for a unit of gas, in wei.
    pub max_fee_per_gas: u128,
}

impl GasQuote {
    /// What it costs at most, in wei.
    #[must_use]
    pub fn cost_max_wei(&self) -> u128 {
        self.max_fee_per_gas.saturating_mul(u128::from(self.gas_limit))
    }
}

/// How far a transaction is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxStage {
    /// Handed to the node.
    Sent {
        /// The newest version.
        transaction: Hash256,
    },
    /// In a block, and not yet as deep as is waited for.
    Mined {
        /// The version that was mined.
        transaction: Hash256,
        /// The block.
        block: BlockNumber,
    },
    /// As [`Submitter::send`] answers.
    Ended {
        /// The receipt, or why there is none.
        outcome: Result<super::TxReceipt, ChainError>,
        /// What a mined transaction cost, in wei, reverted ones too; zero for one that was not mined.
        fee_wei: u128,
    },
}

/// A transaction under way. The followers go on when it is dropped.
#[derive(Clone, Debug)]
pub struct TxWatch {
    stage: watch::Receiver<Stage>,
}

impl TxWatch {
    /// How far it is now.
    #[must_use]
    pub fn stage(&self) -> TxStage {
        match &*self.stage.borrow() {
            Stage::Sent { transaction } => TxStage::Sent { transaction: *transaction },
            Stage::Mined { transaction, block } => TxStage::Mined { transaction: *transaction, block: *block },
            Stage::Ended { outcome, fee_wei } => TxStage::Ended { outcome: outcome.clone(), fee_wei: *fee_wei },
        }
    }

    /// Waits for the next stage; false when the submitter is gone. Stages may be passed over.
    pub async fn changed(&mut self) -> bool {
        self.stage.changed().await.is_ok()
    }
}

impl Submitter {
    /// Simulates a call on the newest block and prices it. Nothing is sent.
    ///
    /// # Errors
    /// [`ChainError::Reverted`], [`ChainError::GasLimit`]; else as any call.
    pub async fn quote(&self, call: &Call) -> Result<GasQuote, ChainError> {
        let gas_limit = self.core.simulate(call).await?;
        let fees = self.core.estimate_fees().await?;
        Ok(GasQuote { gas_limit, max_fee_per_gas: fees.max })
    }

    /// Sends a call whose versions are kept, and returns as soon as it is on its way. At leisure it takes the lane only when no
    /// [`Submitter::send`] waits for it.
    ///
    /// # Errors
    /// Nothing was sent. [`ChainError::FeeLimit`] and [`ChainError::GasLimit`] when it would cost more than `bounds`;
    /// [`ChainError::Inherited`] at once when there are transactions from before the start; what the journal says; else as
    /// [`Submitter::send`].
    pub async fn send_kept(&self, call: Call, bounds: GasBounds, journal: Arc<dyn Journal>) -> Result<TxWatch, ChainError> {
        let operation = call.operation;
        // A task of its own, as in `send`.
        let launch = tokio::spawn(self.clone().launch_kept(call, bounds, journal));
        launch.await.map_err(|_| ChainError::Stopped { operation })?
    }

    async fn launch_kept(self, call: Call, bounds: GasBounds, journal: Arc<dyn Journal>) -> Result<TxWatch, ChainError> {
        let hurry = matches!(bounds.pace, Pace::Urgent).then(|| Hurry::new(&self.core));
        let mut lane = match &hurry {
            Some(_) => self.core.lane.lock().await,
            None => self.core.lane_at_leisure().await,
        };
        if let Some(flight) = lane.flights.get(&call.intent) {
            return Ok(TxWatch { stage: flight.stage.clone() });
        }
        self.core.refuse_inherited(&lane).await?;
        let launched = self.core.launch(&mut lane, call, Some(bounds), Some(journal)).await?;
        let flight = self.follow(&mut lane, launched, &[]);
        Ok(TxWatch { stage: flight.stage })
    }

    /// Reads the next nonce from the chain again, for when it was reorganised: a nonce that it took back would leave a gap before all that
    /// comes after it.
    pub async fn resynchronise(&self) {
        self.core.lane.lock().await.resynchronise();
    }

    /// Follows a transaction of an earlier process on, from what its journal kept: `versions` oldest first, all with the nonce of the last. It
    /// is handed to the node again, whether the node knows it or not. Before anything is sent on this lane. What is under way is followed
    /// already, and not twice.
    ///
    /// # Errors
    /// [`ChainError::InvalidInput`] for no version, [`ChainError::Inconsistent`] when they are not of this call and account.
    pub async fn resume(&self, call: Call, versions: &[TxVersion], journal: Arc<dyn Journal>) -> Result<TxWatch, ChainError> {
        let (last, earlier) = versions.split_last().ok_or_else(|| ChainError::invalid("versions", "none"))?;
        let (tx_nonce, gas_limit) = (last.tx_nonce, last.gas_limit);
        let fees = Fees { max: last.max_fee_per_gas, priority: last.priority_fee_per_gas };
        let transaction = self.core.sign(&call, tx_nonce, gas_limit, fees).await?;
        if transaction.hash != last.transaction {
            return Err(ChainError::inconsistent("a kept transaction is of another account or call"));
        }
        let earlier: Vec<Hash256> = earlier.iter().map(|version| version.transaction).collect();
        let launched = Launched { call, tx_nonce, gas_limit, fees, transaction, accepted: false, journal: Some(journal) };
        let mut lane = self.core.lane.lock().await;
        if let Some(flight) = lane.flights.get(&launched.call.intent) {
            return Ok(TxWatch { stage: flight.stage.clone() });
        }
        let flight = self.follow(&mut lane, launched, &earlier);
        Ok(TxWatch { stage: flight.stage })
    }
}

impl Core {
    /// The lane, when nobody is in more of a hurry.
    async fn lane_at_leisure(&self) -> tokio::sync::MutexGuard<'_, Lane> {
        let mut hurried = self.hurried.subscribe();
        loop {
            // The sender lives as long as this does.
            let _ = hurried.wait_for(|hurried| *hurried == 0).await;
            let lane = self.lane.lock().await;
            if *hurried.borrow_and_update() == 0 {
                return lane;
            }
        }
    }
}

/// Counts a sender among those that are in a hurry, until dropped.
pub(super) struct Hurry<'a>(&'a watch::Sender<usize>);

impl<'a> Hurry<'a> {
    pub(super) fn new(core: &'a Core) -> Self {
        core.hurried.send_modify(|hurried| *hurried = hurried.saturating_add(1));
        Self(&core.hurried)
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|hurried| *hurried = hurried.saturating_sub(1));
    }
}
