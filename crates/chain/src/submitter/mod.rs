//! Sending transactions of one account: one nonce lane, simulated, priced, followed to a final answer.
//!
//! **Invariants.** One intent is never under way under two nonces at once. A nonce that the node may have seen used is never given to
//! another call. A revert is final and carries its reason. What to send again after a restart is the caller's to know: this type keeps
//! nothing on disk.

mod broadcast;
mod call;
mod fees;
mod follow;
mod kept;
mod lane;
mod options;

use std::fmt;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};

use millstream_types::{Address, Hash256};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::broadcast::{Broadcast, broadcast};
pub use self::call::{Call, IntentId, TxReceipt};
use self::kept::Hurry;
pub use self::kept::{GasBounds, GasQuote, Journal, Kept, Pace, TxStage, TxVersion, TxWatch};
use self::lane::{Core, Flight, Lane, Launched, SharedCore, Stage};
pub use self::options::SubmitterOptions;
use crate::{ChainError, ChainKey, Rpc};

/// Gas of a transfer without data.
const TRANSFER_GAS: u64 = 21_000;
/// How often the fees of a cancellation are doubled until the pool takes it for a replacement.
const CANCEL_ATTEMPTS: usize = 8;

/// Sends the transactions of one account. Clones share the lane; make one per account and process.
///
/// Needs a tokio runtime with time enabled. Dropping the last clone stops following; what was broadcast may still be mined.
#[derive(Clone)]
pub struct Submitter {
    core: SharedCore,
    /// The followers; they end with the last clone.
    followers: Arc<SyncMutex<JoinSet<()>>>,
}

impl Submitter {
    /// A lane for the account of `key`.
    #[must_use]
    pub fn new(rpc: Rpc, key: ChainKey, options: SubmitterOptions) -> Self {
        let core = Core { rpc, key, options, lane: tokio::sync::Mutex::new(Lane::default()), hurried: watch::Sender::new(0) };
        Self { core: Arc::new(core), followers: Arc::default() }
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> Address {
        self.core.key.address()
    }

    /// The key, for what is signed besides transactions.
    #[must_use]
    pub fn key(&self) -> &ChainKey {
        &self.core.key
    }

    /// The endpoint.
    #[must_use]
    pub fn rpc(&self) -> &Rpc {
        &self.core.rpc
    }

    /// Runs a call on the newest block as this account, and sends nothing. Returns the gas limit that it would be sent with.
    ///
    /// # Errors
    /// [`ChainError::Reverted`]; [`ChainError::GasLimit`]; or the endpoint is unavailable.
    pub async fn simulate(&self, call: &Call) -> Result<u64, ChainError> {
        self.core.simulate(call).await
    }

    /// Sends a call and waits until it is confirmed. A call whose intent is under way is not sent again; its transaction is waited for.
    ///
    /// The call is simulated on the newest block first: what depends on another transaction must wait for that one.
    /// On the first use, transactions of this account from before the start are waited for.
    ///
    /// # Errors
    /// [`ChainError::Reverted`], in simulation or mined, is final. [`ChainError::Unconfirmed`] and [`ChainError::Displaced`] are
    /// retryable with the same call. [`ChainError::Inherited`] may need [`Submitter::cancel_inherited`]. Else as any call.
    pub async fn send(&self, call: Call) -> Result<TxReceipt, ChainError> {
        let (operation, after) = (call.operation, self.core.options.wait_max);
        // A task of its own: a caller that gives up halfway must not leave a transaction in the pool that the lane knows nothing of.
        let launch = tokio::spawn(self.clone().flight(call));
        let flight = match tokio::time::timeout(after, launch).await {
            Ok(Ok(flight)) => flight?,
            Ok(Err(_)) => return Err(ChainError::Stopped { operation }),
            Err(_) => return Err(ChainError::TimedOut { operation, after }),
        };
        self.wait(operation, flight).await
    }

    async fn flight(self, call: Call) -> Result<Flight, ChainError> {
        let _hurry = Hurry::new(&self.core);
        let mut lane = self.core.lane.lock().await;
        if let Some(flight) = lane.flights.get(&call.intent) {
            return Ok(flight.clone());
        }
        self.core.await_inherited(&lane).await?;
        let launched = self.core.launch(&mut lane, call, None, None).await?;
        Ok(self.follow(&mut lane, launched, &[]))
    }

    /// Follows a transaction whose `earlier` versions may be mined instead.
    fn follow(&self, lane: &mut Lane, launched: Launched, earlier: &[Hash256]) -> Flight {
        let tell = Core::enter(lane, &launched);
        let flight = Flight { tx_nonce: launched.tx_nonce, stage: tell.subscribe() };
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        while followers.try_join_next().is_some() {}
        followers.spawn(follow::follow(Arc::clone(&self.core), launched, earlier.to_vec(), tell));
        flight
    }

    async fn wait(&self, operation: &'static str, mut flight: Flight) -> Result<TxReceipt, ChainError> {
        let after = self.core.options.wait_max;
        match tokio::time::timeout(after, flight.stage.wait_for(|stage| matches!(stage, Stage::Ended { .. }))).await {
            Ok(Ok(stage)) => match &*stage {
                Stage::Ended { outcome, .. } => outcome.clone(),
                Stage::Sent { .. } | Stage::Mined { .. } => Err(ChainError::Stopped { operation }),
            },
            Ok(Err(_)) => Err(ChainError::Stopped { operation }),
            Err(_) => Err(ChainError::Unconfirmed { operation, tx_nonce: flight.tx_nonce, after }),
        }
    }

    /// Replaces the transactions of this account that wait in the pool since before the start by transfers of nothing to itself, and
    /// returns how many there were. Each may still be mined instead of its replacement.
    ///
    /// # Errors
    /// [`ChainError::Unavailable`] when the pool takes none within the fee caps; else as any call.
    pub async fn cancel_inherited(&self) -> Result<u64, ChainError> {
        let operation = "cancel";
        let mut flights = Vec::new();
        {
            let _hurry = Hurry::new(&self.core);
            let mut lane = self.core.lane.lock().await;
            let (mined, pending) = (self.core.mined_count().await?, self.core.pending_count().await?);
            for tx_nonce in (mined..pending).filter(|tx_nonce| !lane.has_nonce(*tx_nonce)).collect::<Vec<_>>() {
                let launched = self.cancellation(operation, tx_nonce).await?;
                flights.push(self.follow(&mut lane, launched, &[]));
            }
            lane.resynchronise();
        }
        let count = flights.len();
        for flight in flights {
            match self.wait(operation, flight).await {
                Ok(_) | Err(ChainError::Displaced { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }

    async fn cancellation(&self, operation: &'static str, tx_nonce: u64) -> Result<Launched, ChainError> {
        let mut intent = [0xff; 32];
        intent[24..].copy_from_slice(&tx_nonce.to_be_bytes());
        let call = Call::new(operation, self.account(), Vec::new()).with_intent(IntentId::from_bytes(intent));
        let mut fees = self.core.estimate_fees().await?;
        for _ in 0..CANCEL_ATTEMPTS {
            fees = fees.doubled(&self.core.options);
            let transaction = self.core.sign(&call, tx_nonce, TRANSFER_GAS, fees).await?;
            match broadcast(&self.core.rpc, operation, &transaction).await {
                Broadcast::Underpriced => {}
                Broadcast::Refused(error) => return Err(error),
                Broadcast::Accepted | Broadcast::NonceUsed | Broadcast::Unknown(_) => {
                    let (gas_limit, journal) = (TRANSFER_GAS, None);
                    return Ok(Launched { call, tx_nonce, gas_limit, fees, transaction, accepted: true, journal });
                }
            }
        }
        Err(self.core.rpc.unavailable(operation, "the pool takes no replacement within the fee caps"))
    }
}

impl fmt::Debug for Submitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Submitter({} on {:?})", self.account(), self.core.rpc)
    }
}
