//! Carrying an accepted deposit out: sent on the lane, followed to its end, kept on the way.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use millstream_chain::{ChainError, ErrorKind, Journal, Kept, RelayedDeposit, TxReceipt, TxStage, TxVersion, TxWatch};
use millstream_types::ChannelId;
use millstream_wire::{ErrorCode, Refused, RelayStage};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{info, warn};

use super::record::State;
use super::{RelayId, Relays, deposit, gwei_up, log_fault, revert_bytes};
use crate::core::now;

/// The pause after a failure that may pass.
const PAUSE: Duration = Duration::from_secs(1);

/// Tries after which transactions of an earlier process, which hold everything up, are replaced. Until then they may still be mined: they
/// could be settlements.
const INHERITED_TRIES: u32 = 120;

/// Sends what is accepted, in its order, so many at a time.
pub(super) async fn run(relays: Weak<Relays>, sending: Arc<Semaphore>, mut queue: mpsc::UnboundedReceiver<RelayId>) {
    while let Some(id) = queue.recv().await {
        let Ok(place) = Arc::clone(&sending).acquire_owned().await else { return };
        let Some(relays) = relays.upgrade() else { return };
        tokio::spawn(relays.carry(id, place));
    }
}

/// What to do with a deposit next.
enum Next {
    /// Nothing: it is final, forgotten, or the node is stopping.
    Done,
    /// Send it, or send it again.
    Send,
}

/// Keeps the versions of one deposit's transaction with its record.
struct Versions {
    relays: Weak<Relays>,
    id: RelayId,
}

impl fmt::Debug for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Versions").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Journal for Versions {
    fn keep(&self, version: TxVersion) -> Kept<'_> {
        Box::pin(async move {
            let stopped = || ChainError::Stopped { operation: "relay" };
            let relays = self.relays.upgrade().ok_or_else(stopped)?;
            let kept = relays.keep(self.id, |record| match &mut record.state {
                State::Signed(versions) if versions.last().is_some_and(|last| last.tx_nonce == version.tx_nonce) => versions.push(version),
                state => *state = State::Signed(vec![version]),
            });
            kept.await.map_err(|_| stopped())?;
            relays.tell(self.id);
            Ok(())
        })
    }
}

impl Relays {
    fn journal(self: &Arc<Self>, id: RelayId) -> Arc<dyn Journal> {
        Arc::new(Versions { relays: Arc::downgrade(self), id })
    }

    /// The deposit and its channel, while the desk has it.
    fn deposit(&self, id: RelayId) -> Option<(RelayedDeposit, ChannelId)> {
        self.desk().relays.get(&id).map(|entry| (deposit::deposit_of(&entry.record.relay), entry.channel))
    }

    /// Follows on what an earlier process had signed. Takes a place among those under way, even when there are more than allowed now.
    pub(super) async fn resume(self: Arc<Self>, id: RelayId, versions: Vec<TxVersion>) -> anyhow::Result<()> {
        let Some((deposit, _)) = self.deposit(id) else { return Ok(()) };
        let watch = self.submitter.resume(deposit.call(self.ledger.address()), &versions, self.journal(id)).await?;
        let place = Arc::clone(&self.sending).try_acquire_owned().ok();
        tokio::spawn(async move {
            let next = self.follow(id, watch).await;
            drop(place);
            if matches!(next, Next::Send) {
                self.enqueue(id);
            }
        });
        Ok(())
    }

    /// Carries one deposit to its end.
    async fn carry(self: Arc<Self>, id: RelayId, _place: OwnedSemaphorePermit) {
        let mut tries = 0u32;
        loop {
            let Some((deposit, channel)) = self.deposit(id) else { return };
            if tries > 0 && self.judge_validity_left(&deposit).is_err() {
                return self.drop_unsent(id, Refused::new(ErrorCode::RelayExpiring)).await;
            }
            let sent = self.submitter.send_kept(deposit.call(self.ledger.address()), self.bounds(), self.journal(id)).await;
            let next = match sent {
                Ok(watch) => self.follow(id, watch).await,
                Err(error) => self.not_sent(id, channel, &error, tries).await,
            };
            match next {
                Next::Done => return,
                Next::Send => tries = tries.saturating_add(1),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether what is signed can still be mined.
    fn judge_validity_left(&self, deposit: &RelayedDeposit) -> Result<(), Refused> {
        let (_, to) = deposit.validity_secs();
        let now = now().max(self.view.head_time()).as_secs_down();
        if now < to { Ok(()) } else { Err(Refused::new(ErrorCode::RelayExpiring)) }
    }

    /// What follows when nothing was sent.
    async fn not_sent(&self, id: RelayId, channel: ChannelId, error: &ChainError, tries: u32) -> Next {
        match (error, error.kind()) {
            (ChainError::Stopped { .. }, _) => Next::Done,
            (ChainError::Inherited { .. }, _) => {
                if tries == INHERITED_TRIES
                    && let Err(fault) = self.settler.free_lane().await
                {
                    log_fault(channel, &fault);
                }
                Next::Send
            }
            (_, ErrorKind::Unavailable) => {
                warn!(%channel, %error, "a deposit cannot be relayed now");
                Next::Send
            }
            (_, ErrorKind::Rejection) => {
                self.drop_unsent(id, self.refusal(error)).await;
                Next::Done
            }
            (_, ErrorKind::Fault) => {
                log_fault(channel, &anyhow::Error::from(error.clone()));
                self.drop_unsent(id, Refused::new(ErrorCode::Overloaded)).await;
                Next::Done
            }
        }
    }

    /// Follows a transaction to its end.
    async fn follow(&self, id: RelayId, mut watch: TxWatch) -> Next {
        loop {
            match watch.stage() {
                // The journal has told of it.
                TxStage::Sent { .. } => {}
                TxStage::Mined { transaction, block } => self.tell_stage(id, RelayStage::Mined { transaction, block }),
                TxStage::Ended { outcome, fee_wei } => {
                    return match self.ended(id, outcome, fee_wei).await {
                        Ok(next) => next,
                        Err(fault) => {
                            // It is in the store as it was, so the next start finds its end again.
                            if let Some((_, channel)) = self.deposit(id) {
                                log_fault(channel, &fault);
                            }
                            Next::Done
                        }
                    };
                }
            }
            if !watch.changed().await {
                return Next::Done;
            }
        }
    }

    async fn ended(&self, id: RelayId, outcome: Result<TxReceipt, ChainError>, fee_wei: u128) -> anyhow::Result<Next> {
        let Some((deposit, channel)) = self.deposit(id) else { return Ok(Next::Done) };
        match outcome {
            Ok(receipt) => {
                let (transaction, block) = (receipt.transaction, receipt.block);
                let deposit = deposit.outcome(&self.ledger, receipt)?.deposit();
                self.keep(id, |record| {
                    record.state = State::Confirmed { transaction, block, deposit };
                    record.wei = fee_wei;
                })
                .await?;
                self.metrics.relays_confirmed.inc();
                self.spent(fee_wei);
                info!(%channel, %transaction, gas_gwei = gwei_up(fee_wei), "a deposit was relayed");
                // Confirmed is what the node itself goes by.
                self.view.reached(block.height()).await?;
                self.tell(id);
                Ok(Next::Done)
            }
            Err(ChainError::Reverted { revert, transaction: Some(transaction), .. }) => {
                let bytes = revert_bytes(&revert);
                self.keep(id, |record| {
                    record.state = State::Reverted { transaction, revert: bytes };
                    record.wei = fee_wei;
                })
                .await?;
                self.metrics.relays_reverted.inc();
                self.spent(fee_wei);
                warn!(%channel, %transaction, %revert, gas_gwei = gwei_up(fee_wei), "a relayed deposit reverted");
                self.tell(id);
                Ok(Next::Done)
            }
            Err(ChainError::Displaced { tx_nonce, .. }) => {
                // Nothing of it happened, and under this nonce nothing will.
                warn!(%channel, tx_nonce, "a relayed deposit was displaced: it is sent again");
                self.keep(id, |record| record.state = State::Promised).await?;
                self.tell(id);
                Ok(Next::Send)
            }
            Err(ChainError::Stopped { .. }) => Ok(Next::Done),
            Err(error) => Err(error.into()),
        }
    }

    fn spent(&self, wei: u128) {
        self.metrics.relay_gwei.inc_by(gwei_up(wei));
        self.gauge();
    }
}
