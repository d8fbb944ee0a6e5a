//! The nonce lane of one account: which nonce comes next, and what is under way.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::consensus::TxEip1559;
use alloy::network::TransactionBuilder;
use alloy::primitives::{TxKind, U256};
use alloy::providers::Provider;
use alloy::rpc::types::{BlockId, TransactionRequest};
use millstream_types::{BlockNumber, Hash256};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::broadcast::{Broadcast, broadcast};
use super::fees::Fees;
use super::kept::{GasBounds, Journal, Pace, TxVersion};
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
    /// How many wait for the lane that must not wait for those at leisure.
    pub(super) hurried: watch::Sender<usize>,
}

#[derive(Default)]
pub(super) struct Lane {
    /// The next nonce; none until it was read from the chain.
    next: Option<u64>,
    /// What is under way.
    pub(super) flights: BTreeMap<IntentId, Flight>,
}

/// How far a transaction is.
#[derive(Debug)]
pub(super) enum Stage {
    Sent { transaction: Hash256 },
    Mined { transaction: Hash256, block: BlockNumber },
    Ended { outcome: Outcome, fee_wei: u128 },
}

/// A transaction under way, as its waiters see it.
#[derive(Clone)]
pub(super) struct Flight {
    pub(super) tx_nonce: u64,
    pub(super) stage: watch::Receiver<Stage>,
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
    /// Who keeps its versions.
    pub(super) journal: Option<Arc<dyn Journal>>,
}

impl Launched {
    /// The version that is signed now.
    pub(super) const fn version(&self) -> TxVersion {
        let (max_fee_per_gas, priority_fee_per_gas) = (self.fees.max, self.fees.priority);
        let (tx_nonce, gas_limit, transaction) = (self.tx_nonce, self.gas_limit, self.transaction.hash);
        TxVersion { tx_nonce, gas_limit, max_fee_per_gas, priority_fee_per_gas, transaction }
    }

    /// Makes the present version outlive this process, where somebody wants that. Before the node may see it.
    pub(super) async fn keep(&self) -> Result<(), ChainError> {
        match &self.journal {
            Some(journal) => journal.keep(self.version()).await,
            None => Ok(()),
        }
    }
}

impl Lane {
    /// Whether something under way has this nonce.
    pub(super) fn has_nonce(&self, tx_nonce: u64) -> bool {
        self.flights.values().any(|flight| flight.tx_nonce == tx_nonce)
    }

    /// Forgets the next nonce, so that it is read from the chain again.
    pub(super) const fn resynchronise(&mut self) {
        self.next = None;
    }
}

impl Core {
    /// Simulates, prices, signs and broadcasts a call under the next nonce. The caller holds the lane, so nobody else takes that nonce.
    pub(super) async fn launch(
        &self,
        lane: &mut Lane,
        call: Call,
        bounds: Option<GasBounds>,
        journal: Option<Arc<dyn Journal>>,
    ) -> Result<Launched, ChainError> {
        let gas_limit = match self.options.gas_limit_unsimulated {
            Some(limit) => limit,
            None => self.simulate(&call).await?,
        };
        let mut fees = self.estimate_fees().await?;
        if bounds.is_some_and(|bounds| matches!(bounds.pace, Pace::Urgent)) {
            fees = fees.doubled(&self.options);
        }
        let operation = call.operation;
        if let Some(GasBounds { gas_max: limit, .. }) = bounds.filter(|bounds| gas_limit > bounds.gas_max) {
            return Err(ChainError::GasLimit { operation, needed: gas_limit, limit });
        }
        if let Some(GasBounds { fee_per_gas_max: limit, .. }) = bounds.filter(|bounds| fees.max > bounds.fee_per_gas_max) {
            return Err(ChainError::FeeLimit { operation, needed: fees.max, limit });
        }
        let mut last = ChainError::Internal { detail: "no attempt was made".to_owned() };
        for _ in 0..NONCE_ATTEMPTS {
            let tx_nonce = self.next_nonce(lane).await?;
            let transaction = self.sign(&call, tx_nonce, gas_limit, fees).await?;
            let call = call.clone();
            let mut launched = Launched { call, tx_nonce, gas_limit, fees, transaction, accepted: false, journal: journal.clone() };
            launched.keep().await?;
            let answer = broadcast(&self.rpc, operation, &launched.transaction).await;
            match answer {
                // With no answer the node may have it: the nonce is spent, and the follower broadcasts again.
                Broadcast::Accepted | Broadcast::Unknown(_) => {
                    lane.next = Some(tx_nonce.saturating_add(1));
                    tracing::debug!(operation, tx_nonce, transaction = %launched.transaction.hash, ?answer, "sent");
                    launched.accepted = matches!(answer, Broadcast::Accepted);
                    return Ok(launched);
                }
                Broadcast::NonceUsed | Broadcast::Underpriced => {
                    lane.resynchronise();
                    last = ChainError::Displaced { operation, tx_nonce };
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

    pub(super) async fn sign(&self, call: &Call, tx_nonce: u64, gas_limit: u64, fees: Fees) -> Result<SignedTransaction, ChainError> {
        let transaction = TxEip1559 {
            chain_id: self.rpc.chain().get(),
            nonce: tx_nonce,
            gas_limit,
            max_fee_per_gas: fees.max,
            max_priority_fee_per_gas: fees.priority,
            to: call.to.map_or(TxKind::Create, |to| TxKind::Call(convert::evm_address(to))),
            value: U256::ZERO,
            access_list: Default::default(),
            input: call.data.clone(),
        };
        self.key.sign_transaction(transaction).await
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

    /// The next nonce: the first that is neither in the pool nor of what this submitter has under way. One that lies before a transaction
    /// which was followed on after a start is not left out: without it that one could never be mined.
    async fn next_nonce(&self, lane: &mut Lane) -> Result<u64, ChainError> {
        let mut next = match lane.next {
            Some(next) if !lane.flights.is_empty() => next,
            // Everything before it was confirmed. A chain that has mined less was reorganised below that, and took nonces back.
            Some(next) if self.mined_count().await? >= next => next,
            Some(_) | None => self.pending_count().await?,
        };
        while lane.has_nonce(next) {
            next = next.saturating_add(1);
        }
        lane.next = Some(next);
        Ok(next)
    }

    /// Before the first use: waits until the pool holds nothing of this account from before the start that nobody follows, so that the
    /// simulation sees all of it; for half the time that a send may take.
    pub(super) async fn await_inherited(&self, lane: &Lane) -> Result<(), ChainError> {
        let deadline = Instant::now() + self.options.wait_max / 2;
        loop {
            match self.refuse_inherited(lane).await {
                Err(ChainError::Inherited { .. }) if Instant::now() < deadline => tokio::time::sleep(self.options.poll_interval).await,
                answer => return answer,
            }
        }
    }

    /// As [`Core::await_inherited`], without waiting.
    pub(super) async fn refuse_inherited(&self, lane: &Lane) -> Result<(), ChainError> {
        if lane.next.is_some() {
            return Ok(());
        }
        let (mined, pending) = (self.mined_count().await?, self.pending_count().await?);
        let strange = (mined..pending).any(|tx_nonce| !lane.has_nonce(tx_nonce));
        if strange { Err(ChainError::Inherited { mined, pending }) } else { Ok(()) }
    }

    /// Puts a transaction on the lane; its follower tells how far it is.
    pub(super) fn enter(lane: &mut Lane, launched: &Launched) -> watch::Sender<Stage> {
        let (sender, stage) = watch::channel(Stage::Sent { transaction: launched.transaction.hash });
        lane.flights.insert(launched.call.intent, Flight { tx_nonce: launched.tx_nonce, stage });
        sender
    }
}

/// Shared ownership of a lane.
pub(super) type SharedCore = Arc<Core>;
