//! The deltas of settlements, from the calldata of their transactions.

use std::collections::BTreeMap;

use alloy::consensus::Transaction;
use alloy::providers::Provider;
use alloy::sol_types::SolCall;
use millstream_types::{Amount, BookId, Hash256};

use super::{ChainEvent, LedgerEvent};
use crate::bindings::ILedger;
use crate::operator::unpack_deltas;
use crate::{ChainError, Ledger, convert};

/// Fills in the deltas of every settlement among the events of whole transactions.
pub(super) async fn fill_deltas(ledger: &Ledger, events: &mut [ChainEvent]) -> Result<(), ChainError> {
    let mut by_transaction: BTreeMap<Hash256, Vec<usize>> = BTreeMap::new();
    for (index, event) in events.iter().enumerate() {
        if matches!(event.event, LedgerEvent::Settled { .. }) {
            by_transaction.entry(event.position.transaction).or_default().push(index);
        }
    }
    for (transaction, indices) in by_transaction {
        let block_hash = events[indices[0]].position.block_hash;
        let Some(call) = settle_call(ledger, transaction, block_hash).await? else { continue };
        // The ledger settles in the order of the list and emits one event for each, so the n-th event is of the n-th settlement.
        if call.settlements.len() != indices.len() {
            return Err(ChainError::inconsistent(format!("transaction {transaction} has not one event for each settlement")));
        }
        for (settlement, index) in call.settlements.iter().zip(indices) {
            fill(ledger, settlement, &mut events[index].event)?;
        }
    }
    Ok(())
}

/// The settlement in a transaction; `None` when it called another contract than the ledger.
async fn settle_call(ledger: &Ledger, transaction: Hash256, block_hash: Hash256) -> Result<Option<ILedger::settleCall>, ChainError> {
    let rpc = ledger.rpc();
    let found = rpc.ask("eth_getTransactionByHash", rpc.provider().get_transaction_by_hash(convert::evm_hash(transaction))).await?;
    let found = found.filter(|found| found.block_hash.map(convert::hash) == Some(block_hash)).ok_or(ChainError::Moved)?;
    if found.to() != Some(convert::evm_address(ledger.address())) {
        return Ok(None);
    }
    let call = ILedger::settleCall::abi_decode(found.input());
    call.map(Some)
        .map_err(|error| ChainError::inconsistent(format!("transaction {transaction} settled without a settlement: {error}")))
}

fn fill(ledger: &Ledger, settlement: &ILedger::Settlement, event: &mut LedgerEvent) -> Result<(), ChainError> {
    let LedgerEvent::Settled { book, new_root, total, deltas } = event else { return Ok(()) };
    let same = settlement.book == book.to_u32()
        && convert::bytes(settlement.newRoot) == *new_root
        && convert::amount("settled total", settlement.totalNanos)? == *total;
    if !same {
        return Err(ChainError::inconsistent(format!("a settlement of book {book} is not what its event says")));
    }
    let values = unpack(ledger, *book, &settlement.deltas)?;
    let sum: u128 = values.iter().copied().map(u128::from).sum();
    if Amount::from_units(sum) != *total {
        return Err(ChainError::inconsistent(format!("the deltas of book {book} add up to {sum}, not to {total}")));
    }
    *deltas = Some(values);
    Ok(())
}

fn unpack(ledger: &Ledger, book: BookId, bytes: &[u8]) -> Result<Vec<u64>, ChainError> {
    let tier = ledger.tier(book.tier()).ok_or_else(|| ChainError::inconsistent(format!("book {book} is of no tier of the ledger")))?;
    unpack_deltas(bytes, tier.slots).ok_or_else(|| ChainError::inconsistent(format!("the deltas of book {book} have a wrong length")))
}
