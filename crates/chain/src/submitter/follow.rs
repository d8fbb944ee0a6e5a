//! Following one transaction until it is final: mined and confirmed, reverted, or displaced. Raises the fees of one that is stuck.

use std::sync::Arc;

use alloy::network::TransactionBuilder;
use alloy::providers::Provider;
use alloy::rpc::types::{BlockId, TransactionReceipt};
use millstream_types::Hash256;
use tokio::sync::watch;
use tokio::time::Instant;

use super::TxReceipt;
use super::broadcast::{Broadcast, broadcast};
use super::lane::{Core, Launched, Outcome, Stage};
use crate::{ChainError, Revert, convert};

/// Versions of one transaction that are kept and looked for; after that the last is broadcast again and again.
const VERSIONS_MAX: usize = 32;
/// Looks in a row that must find the nonce used by something else before it is believed; one node of several may lag.
const DISPLACED_LOOKS: u32 = 3;

/// The state of a transaction under way.
struct Follower {
    core: Arc<Core>,
    flight: Launched,
    /// Hashes of all versions, oldest first.
    versions: Vec<Hash256>,
    broadcast_at: Instant,
    displaced_looks: u32,
    tell: watch::Sender<Stage>,
    /// What the mined transaction cost; zero before there is one.
    fee_wei: u128,
}

/// Follows a transaction to its end, takes it off the lane, and tells the waiters. `versions` are those before the present one.
pub(super) async fn follow(core: Arc<Core>, flight: Launched, mut versions: Vec<Hash256>, tell: watch::Sender<Stage>) {
    versions.push(flight.transaction.hash);
    let mut follower = Follower { core, flight, versions, broadcast_at: Instant::now(), displaced_looks: 0, tell, fee_wei: 0 };
    let outcome = follower.run().await;
    let fee_wei = follower.fee_wei;
    let mut lane = follower.core.lane.lock().await;
    lane.flights.remove(&follower.flight.call.intent);
    if matches!(outcome, Err(ChainError::Displaced { .. })) {
        lane.resynchronise();
    }
    follower.tell.send_replace(Stage::Ended { outcome, fee_wei });
}

impl Follower {
    async fn run(&mut self) -> Outcome {
        loop {
            match self.look().await {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => self.push_on().await,
                Err(error) => {
                    tracing::warn!(operation = self.flight.call.operation, tx_nonce = self.flight.tx_nonce, %error, "cannot look")
                }
            }
            tokio::time::sleep(self.core.options.poll_interval).await;
        }
    }

    /// One look at the chain. `None`: nothing is final yet.
    async fn look(&mut self) -> Result<Option<Outcome>, ChainError> {
        // The count first: a transaction mined between the two reads is then found by its receipt.
        let mined = self.core.mined_count().await?;
        match self.receipt().await? {
            Some((receipt, block)) => {
                self.displaced_looks = 0;
                self.fee_wei = receipt.effective_gas_price.saturating_mul(u128::from(receipt.gas_used));
                self.tell(Stage::Mined { transaction: convert::hash(receipt.transaction_hash), block: convert::block(block) });
                let head = self.core.rpc.newest().await?.number;
                let deep = head.saturating_add(1) >= block.saturating_add(self.core.options.confirmations.max(1));
                if deep { Ok(Some(self.verdict(receipt, block).await)) } else { Ok(None) }
            }
            None if mined > self.flight.tx_nonce => {
                self.displaced_looks += 1;
                let error = ChainError::Displaced { operation: self.flight.call.operation, tx_nonce: self.flight.tx_nonce };
                Ok((self.displaced_looks >= DISPLACED_LOOKS).then_some(Err(error)))
            }
            None => {
                self.displaced_looks = 0;
                // One that was mined may have been taken back.
                self.fee_wei = 0;
                self.tell(Stage::Sent { transaction: self.flight.transaction.hash });
                Ok(None)
            }
        }
    }

    /// Tells how far it is, when that is news.
    fn tell(&self, stage: Stage) {
        self.tell.send_if_modified(|known| {
            let is_known = match (&*known, &stage) {
                (Stage::Sent { transaction: known }, Stage::Sent { transaction }) => known == transaction,
                (Stage::Mined { block: known, .. }, Stage::Mined { block, .. }) => known == block,
                _ => false,
            };
            if !is_known {
                *known = stage;
            }
            !is_known
        });
    }

    /// The receipt of whichever version was mined, with its block.
    async fn receipt(&self) -> Result<Option<(TransactionReceipt, u64)>, ChainError> {
        for version in self.versions.iter().rev() {
            let call = self.core.rpc.provider().get_transaction_receipt(convert::evm_hash(*version));
            if let Some(receipt) = self.core.rpc.ask("eth_getTransactionReceipt", call).await?
                && let Some(block) = receipt.block_number
            {
                return Ok(Some((receipt, block)));
            }
        }
        Ok(None)
    }

    async fn verdict(&self, receipt: TransactionReceipt, block: u64) -> Outcome {
        let transaction = convert::hash(receipt.transaction_hash);
        if !receipt.status() {
            let revert = self.reason(&receipt, block).await;
            return Err(ChainError::Reverted { operation: self.flight.call.operation, revert, transaction: Some(transaction) });
        }
        let gas_used = receipt.gas_used;
        Ok(TxReceipt {
            transaction,
            tx_nonce: self.flight.tx_nonce,
            block: convert::block(block),
            block_hash: convert::hash(receipt.block_hash.unwrap_or_default()),
            gas_used,
            fee_wei: receipt.effective_gas_price.saturating_mul(u128::from(gas_used)),
            created: receipt.contract_address.map(convert::address),
            logs: receipt.logs().to_vec(),
        })
    }

    /// Why a mined transaction reverted: receipts do not say, so it is run again on the block before it, then on its own.
    async fn reason(&self, receipt: &TransactionReceipt, block: u64) -> Revert {
        let request = self.core.request(&self.flight.call).with_gas_limit(self.flight.gas_limit);
        for at in [block.saturating_sub(1), block] {
            let call = self.core.rpc.provider().call(request.clone()).block(BlockId::number(at));
            match self.core.rpc.ask(self.flight.call.operation, call).await {
                Err(ChainError::Reverted { revert, .. }) => return revert,
                Ok(_) => {}
                // The state of that block may be gone; then there is no better answer than none.
                Err(error) => tracing::debug!(%error, "cannot run a reverted transaction again"),
            }
        }
        if receipt.gas_used >= self.flight.gas_limit { Revert::OutOfGas } else { Revert::Empty }
    }

    /// When the transaction waits for too long: replaces it by one with higher fees, or broadcasts it again when the caps forbid more. One
    /// that the node may not have is broadcast again at once.
    async fn push_on(&mut self) {
        let waits = self.broadcast_at.elapsed() >= self.core.options.replace_after;
        if self.displaced_looks > 0 || (self.flight.accepted && !waits) {
            return;
        }
        if self.flight.accepted
            && let Err(error) = self.replace().await
        {
            tracing::warn!(operation = self.flight.call.operation, %error, "cannot price a replacement");
        }
        self.broadcast_at = Instant::now();
        let (operation, tx_nonce) = (self.flight.call.operation, self.flight.tx_nonce);
        match broadcast(&self.core.rpc, operation, &self.flight.transaction).await {
            // The pool has this version, or one with higher fees; or a later look finds the nonce used.
            Broadcast::Accepted | Broadcast::Underpriced | Broadcast::NonceUsed => {
                self.flight.accepted = true;
                tracing::info!(operation, tx_nonce, versions = self.versions.len(), max_fee = self.flight.fees.max, "broadcast again");
            }
            Broadcast::Unknown(error) | Broadcast::Refused(error) => tracing::warn!(operation, tx_nonce, %error, "broadcast failed"),
        }
    }

    /// Signs the next version, when the caps allow one.
    async fn replace(&mut self) -> Result<(), ChainError> {
        let estimate = self.core.estimate_fees().await?;
        let raised = self.flight.fees.raised(estimate, &self.core.options);
        if let Some(fees) = raised.filter(|_| self.versions.len() < VERSIONS_MAX) {
            let transaction = self.core.sign(&self.flight.call, self.flight.tx_nonce, self.flight.gas_limit, fees).await?;
            let (fees_before, before) = (self.flight.fees, self.flight.transaction.clone());
            (self.flight.fees, self.flight.transaction) = (fees, transaction);
            if let Err(error) = self.flight.keep().await {
                // What is not kept is not sent.
                (self.flight.fees, self.flight.transaction) = (fees_before, before);
                return Err(error);
            }
            self.versions.push(self.flight.transaction.hash);
        }
        Ok(())
    }
}
