//! The nonce lane of one account: which nonce comes next, and what is under way.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::consensus::TxEip1559;
use alloy::network::TransactionBuilder;
use alloy::primitives::{TxKind, U256};
use alloy::providers::Provider;
use alloy::rpc::types::{BlockId, TransactionRequest};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::broadcast::{Broadcast, broadcast};
use super::fees::Fees;
use super::{Call, IntentId, SubmitterOptions, TxReceipt};
use crate::key::SignedTransaction;
use crate::{ChainError, ChainKey, Rpc, convert};

/// How often a nonce is taken anew when the chain says that the one in hand is used.
const NONCE_ATTEMPTS: usize = 3;

pub(super) type Outcome = Result<TxReceipt, ChainError>;

/// What the senders and the followers of one account share.
pub(super) struct Core {
    pub(super) rpc: Rpc,
    pub(super) key: ChainKey,
    pub(super) options: SubmitterOptions,
    pub(super) lane: Mutex<Lane>,
}

#[derive(Default)]
pub(super) struct Lane {
    /// The next nonce; none until it was read from the chain.
    next: Option<u64>,
    /// What is under way.
    pub(super) flights: BTreeMap<IntentId, Flight>,
}

/// A transaction under way, as its waiters see it.
#[derive(Clone)]
pub(super) struct Flight {
    pub(super) tx_nonce: u64,
    pub(super) outcome: watch::Receiver<Option<Outcome>>,
}

/// A transaction that was signed with its nonce, ready to be followed.
pub(super) struct Launched {
    pub(super) call: Call,
    pub(super) tx_nonce: u64,
    pub(super) gas_limit: u64,
    pub(super) fees: Fees,
    pub(super) transaction: SignedTransaction,
    /// Whether the node said that it has it.
    pub(super) accepted: bool,
}

impl Lane {
    /// Forgets the next nonce, so that it is read from the chain again.
    pub(super) const fn resynchronise(&mut self) {
        self.next = None;
    }
}

impl Core {
    /// Simulates, prices, signs and broadcasts a call under the next nonce. The caller holds the lane, so nobody else takes that nonce.
    pub(super) async fn launch(&self, lane: &mut Lane, call: Call) -> Result<Launched, ChainError> {
        let gas_limit = match self.options.gas_limit_unsimulated {
            Some(limit) => limit,
            None => self.simulate(&call).await?,
        };
        let fees = self.estimate_fees().await?;
        let mut last = ChainError::Internal { detail: "no attempt was made".to_owned() };
        for _ in 0..NONCE_ATTEMPTS {
            let tx_nonce = self.next_nonce(lane).await?;
            let transaction = self.sign(&call, tx_nonce, gas_limit, fees)?;
            let answer = broadcast(&self.rpc, call.operation, &transaction).await;
            match answer {
                // With no answer the node may have it: the nonce is spent, and the follower broadcasts again.
                Broadcast::Accepted | Broadcast::Unknown(_) => {
                    lane.next = Some(tx_nonce.saturating_add(1));
                    tracing::debug!(operation = call.operation, tx_nonce, transaction = %transaction.hash, ?answer, "sent");
                    let accepted = matches!(answer, Broadcast::Accepted);
                    return Ok(Launched { call, tx_nonce, gas_limit, fees, transaction, accepted });
                }
                Broadcast::NonceUsed | Broadcast::Underpriced => {
                    lane.resynchronise();
                    last = ChainError::Displaced { operation: call.operation, tx_nonce };
                }
                Broadcast::Refused(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Runs the call on the newest block and returns the gas limit to send it with.
    pub(super) async fn simulate(&self, call: &Call) -> Result<u64, ChainError> {
        let request = self.request(call);
        self.rpc.ask(call.operation, self.rpc.provider().call(request.clone()).block(BlockId::latest())).await?;
        let estimate = self.rpc.ask(call.operation, self.rpc.provider().estimate_gas(request).block(BlockId::latest())).await?;
        let needed = estimate.saturating_add(estimate.saturating_mul(self.options.gas_margin_percent) / 100);
        let limit = self.options.gas_limit_max;
        // The margin may be cut; the estimate may not.
        if estimate > limit { Err(ChainError::GasLimit { operation: call.operation, needed, limit }) } else { Ok(needed.min(limit)) }
    }

    pub(super) fn request(&self, call: &Call) -> TransactionRequest {
        let request = TransactionRequest::default().with_from(convert::evm_address(self.key.address())).with_input(call.data.clone());
        match call.to {
            Some(to) => request.with_to(convert::evm_address(to)),
            None => request.with_kind(TxKind::Create),
        }
    }

    pub(super) async fn estimate_fees(&self) -> Result<Fees, ChainError> {
        let estimate = self.rpc.ask("eth_feeHistory", self.rpc.provider().estimate_eip1559_fees()).await?;
        Ok(Fees::from_estimate(estimate, &self.options))
    }

    pub(super) fn sign(&self, call: &Call, tx_nonce: u64, gas_limit: u64, fees: Fees) -> Result<SignedTransaction, ChainError> {
        self.key.sign_transaction(TxEip1559 {
            chain_id: self.rpc.chain().get(),
            nonce: tx_nonce,
            gas_limit,
            max_fee_per_gas: fees.max,
            max_priority_fee_per_gas: fees.priority,
            to: call.to.map_or(TxKind::Create, |to| TxKind::Call(convert::evm_address(to))),
            value: U256::ZERO,
            access_list: Default::default(),
            input: call.data.clone(),
        })
    }

    /// Transactions of this account that are mined.
    pub(super) async fn mined_count(&self) -> Result<u64, ChainError> {
        let account = convert::evm_address(self.key.address());
        self.rpc.ask("eth_getTransactionCount", self.rpc.provider().get_transaction_count(account)).await
    }

    /// Transactions of this account that are mined or in the node's pool.
    pub(super) async fn pending_count(&self) -> Result<u64, ChainError> {
        let account = convert::evm_address(self.key.address());
        self.rpc.ask("eth_getTransactionCount", self.rpc.provider().get_transaction_count(account).pending()).await
    }

    /// The next nonce: after what this submitter has under way, and after all that the pool has.
    async fn next_nonce(&self, lane: &mut Lane) -> Result<u64, ChainError> {
        if let Some(next) = lane.next {
            return Ok(next);
        }
        let pending = self.pending_count().await?;
        let own = lane.flights.values().map(|flight| flight.tx_nonce.saturating_add(1)).max().unwrap_or(0);
        let next = pending.max(own);
        lane.next = Some(next);
        Ok(next)
    }

    /// Before the first use: waits until the pool holds nothing of this account from before the start, so that the simulation sees all of
    /// it; for half the time that a send may take.
    pub(super) async fn await_inherited(&self, lane: &Lane) -> Result<(), ChainError> {
        if lane.next.is_some() || !lane.flights.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + self.options.wait_max / 2;
        loop {
            let (mined, pending) = (self.mined_count().await?, self.pending_count().await?);
            if pending <= mined {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(ChainError::Inherited { mined, pending });
            }
            tokio::time::sleep(self.options.poll_interval).await;
        }
    }

    /// Puts a transaction on the lane; its follower tells the outcome.
    pub(super) fn enter(lane: &mut Lane, intent: IntentId, tx_nonce: u64) -> watch::Sender<Option<Outcome>> {
        let (sender, outcome) = watch::channel(None);
        lane.flights.insert(intent, Flight { tx_nonce, outcome });
        sender
    }
}

/// Shared ownership of a lane.
pub(super) type SharedCore = Arc<Core>;
