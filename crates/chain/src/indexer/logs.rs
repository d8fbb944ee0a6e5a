//! Reading logs in ranges that the endpoint is willing to answer.

use std::sync::atomic::{AtomicU64, Ordering};

use alloy::primitives::B256;
use alloy::providers::Provider;
use alloy::rpc::types::{Filter, Log};
use millstream_types::Address;

use crate::rpc::RpcFailure;
use crate::{ChainError, Rpc, convert};

const OPERATION: &str = "eth_getLogs";

/// A reader of one contract's logs that learns how many blocks the endpoint answers for at once.
pub(crate) struct LogReader {
    rpc: Rpc,
    contract: Address,
    blocks_max: u64,
    /// Blocks asked for at once; halved when the endpoint refuses, doubled again when it answers.
    span: AtomicU64,
}

impl LogReader {
    pub(crate) fn new(rpc: Rpc, contract: Address, blocks_max: u64) -> Self {
        let blocks_max = blocks_max.max(1);
        Self { rpc, contract, blocks_max, span: AtomicU64::new(blocks_max) }
    }

    /// The last block of the next range.
    pub(crate) fn end(&self, from: u64, to: u64) -> u64 {
        to.min(from.saturating_add(self.span.load(Ordering::Relaxed).max(1) - 1))
    }

    /// The logs of a range, those of one event if it is given. An answer that the range is too large shrinks the next one and is
    /// [`ChainError::Unavailable`].
    pub(crate) async fn read(&self, from: u64, to: u64, event: Option<B256>) -> Result<Vec<Log>, ChainError> {
        self.ask(from, to, event.into_iter().fold(Filter::new(), Filter::event_signature)).await
    }

    /// As [`Self::read`], of all events whose first indexed argument is one of these.
    pub(crate) async fn read_about(&self, from: u64, to: u64, first: Vec<B256>) -> Result<Vec<Log>, ChainError> {
        self.ask(from, to, Filter::new().topic1(first)).await
    }

    /// The logs of a filter up to a block, however far that is: a part at a time, each as large as the endpoint is willing to answer for.
    pub(crate) async fn read_far(&self, from: u64, to: u64, filter: &Filter) -> Result<Vec<Log>, ChainError> {
        let (mut found, mut next) = (Vec::new(), from);
        while next <= to {
            let end = self.end(next, to);
            match self.ask(next, end, filter.clone()).await {
                Ok(logs) => {
                    found.extend(logs);
                    next = end.saturating_add(1);
                }
                // Too much at once: the next part is smaller.
                Err(error) if error.is_retryable() && self.end(next, to) < end => tracing::debug!(%error, "a range of logs is cut"),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn ask(&self, from: u64, to: u64, filter: Filter) -> Result<Vec<Log>, ChainError> {
        let filter = filter.address(convert::evm_address(self.contract)).from_block(from).to_block(to);
        let rpc = &self.rpc;
        let span = to.saturating_sub(from).saturating_add(1);
        match rpc.attempt(rpc.provider().get_logs(&filter)).await {
            Ok(logs) => {
                self.span.fetch_max(span.saturating_mul(2).min(self.blocks_max), Ordering::Relaxed);
                self.check(logs, from, to)
            }
            Err(failure) => {
                // Endpoints say in many ways, one of them silence, that a range holds too much.
                if !matches!(failure, RpcFailure::Transport(_)) {
                    self.span.store((span / 2).max(1), Ordering::Relaxed);
                }
                match rpc.explain(OPERATION, failure) {
                    ChainError::Refused { message, .. } if span > 1 => Err(rpc.unavailable(OPERATION, &message)),
                    error => Err(error),
                }
            }
        }
    }

    /// Only mined logs of this contract and range, in order.
    fn check(&self, mut logs: Vec<Log>, from: u64, to: u64) -> Result<Vec<Log>, ChainError> {
        let contract = convert::evm_address(self.contract);
        for log in &logs {
            let inside = log.block_number.is_some_and(|block| (from..=to).contains(&block));
            if log.address() != contract || !inside || log.removed {
                return Err(ChainError::inconsistent("the node returned a log that was not asked for"));
            }
        }
        logs.sort_by_key(|log| (log.block_number, log.log_index));
        Ok(logs)
    }
}
