//! The deltas of settlements, from the calldata of the calls that carried them.
//!
//! A transaction that calls the ledger itself has them in its own input. When the operator is a contract, the call is found, in this order, in
//! a trace of the transaction, if the endpoint gives traces (`debug_traceTransaction`), or inside the transaction's input, where contracts that
//! pass calls on usually carry them. What is found is compared with the events; what is found inside an input and does not fit them is
//! taken for something else.

use std::collections::BTreeMap;

use alloy::consensus::Transaction;
use alloy::primitives::{Address as EvmAddress, B256, Bytes};
use alloy::providers::Provider;
use alloy::sol_types::SolCall;
use millstream_types::{Amount, BookId, Hash256};
use serde::Deserialize;
use serde_json::json;

use super::{ChainEvent, LedgerEvent};
use crate::bindings::ILedger;
use crate::operator::unpack_deltas;
use crate::rpc::RpcFailure;
use crate::{ChainError, Ledger, convert};

/// Settle calls that are looked for inside one input, at most: what is beyond is no settlement of ours.
const EMBEDDED_CALLS_MAX: usize = 64;

/// Fills in the deltas of every settlement among the events of whole transactions.
pub(super) async fn fill_deltas(ledger: &Ledger, events: &mut [ChainEvent]) -> Result<(), ChainError> {
    let mut by_transaction: BTreeMap<Hash256, Vec<usize>> = BTreeMap::new();
    for (index, event) in events.iter().enumerate() {
        if matches!(event.event, LedgerEvent::Settled { .. }) {
            by_transaction.entry(event.position.transaction).or_default().push(index);
        }
    }
    for (transaction, indices) in by_transaction {
        let found = find(ledger, transaction, events[indices[0]].position.block_hash).await?;
        let told: Vec<&LedgerEvent> = indices.iter().map(|index| &events[*index].event).collect();
        let deltas = match (compare(ledger, transaction, &found.settlements, &told), found.source) {
            (Ok(deltas), _) => deltas,
            (Err(_), Source::Embedded) => continue,
            (Err(error), Source::Own | Source::Trace) => return Err(error),
        };
        for (index, values) in indices.into_iter().zip(deltas) {
            if let LedgerEvent::Settled { deltas, .. } = &mut events[index].event {
                *deltas = Some(values);
            }
        }
    }
    Ok(())
}

/// Where settlements were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The transaction called the ledger.
    Own,
    /// The node says which calls there were.
    Trace,
    /// Bytes inside the transaction's input that read as calls.
    Embedded,
}

struct Found {
    source: Source,
    /// In the order in which the ledger took them.
    settlements: Vec<ILedger::Settlement>,
}

async fn find(ledger: &Ledger, transaction: Hash256, block_hash: Hash256) -> Result<Found, ChainError> {
    let rpc = ledger.rpc();
    let hash = convert::evm_hash(transaction);
    let found = rpc.ask("eth_getTransactionByHash", rpc.provider().get_transaction_by_hash(hash)).await?;
    let found = found.filter(|found| found.block_hash.map(convert::hash) == Some(block_hash)).ok_or(ChainError::Moved)?;
    if found.to() == Some(convert::evm_address(ledger.address())) {
        let call = ILedger::settleCall::abi_decode(found.input());
        let call =
            call.map_err(|error| ChainError::inconsistent(format!("transaction {transaction} settled without a settlement: {error}")))?;
        return Ok(Found { source: Source::Own, settlements: call.settlements });
    }
    Ok(match trace(ledger, hash).await? {
        Some(settlements) => Found { source: Source::Trace, settlements },
        None => Found { source: Source::Embedded, settlements: embedded(found.input()) },
    })
}

/// A call of a transaction, as `callTracer` tells it.
#[derive(Debug, Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    to: Option<EvmAddress>,
    #[serde(default)]
    input: Bytes,
    error: Option<String>,
    #[serde(default)]
    calls: Vec<Self>,
}

/// The settlements among the calls of a transaction; `None` when the endpoint gives no traces.
async fn trace(ledger: &Ledger, transaction: B256) -> Result<Option<Vec<ILedger::Settlement>>, ChainError> {
    let operation = "debug_traceTransaction";
    let rpc = ledger.rpc();
    let options = (transaction, json!({ "tracer": "callTracer" }));
    let frame: Frame = match rpc.attempt(rpc.provider().raw_request(operation.into(), options)).await {
        Ok(frame) => frame,
        Err(RpcFailure::Response { .. }) => return Ok(None),
        Err(failure) => return Err(rpc.explain(operation, failure)),
    };
    let mut settlements = Vec::new();
    collect(&frame, convert::evm_address(ledger.address()), &mut settlements);
    Ok(Some(settlements))
}

/// The settlements of the calls that succeeded, in the order of execution: the ledger's calls do not nest.
fn collect(frame: &Frame, ledger: EvmAddress, settlements: &mut Vec<ILedger::Settlement>) {
    if frame.error.is_some() {
        return;
    }
    if frame.kind == "CALL"
        && frame.to == Some(ledger)
        && let Ok(call) = ILedger::settleCall::abi_decode(&frame.input)
    {
        settlements.extend(call.settlements);
    }
    frame.calls.iter().for_each(|call| collect(call, ledger, settlements));
}

/// Whatever inside an input reads as a call of `settle`.
fn embedded(input: &[u8]) -> Vec<ILedger::Settlement> {
    let selector = ILedger::settleCall::SELECTOR;
    let starts = input.windows(selector.len()).enumerate().filter(|(_, window)| *window == selector).map(|(start, _)| start);
    let calls = starts.take(EMBEDDED_CALLS_MAX).filter_map(|start| ILedger::settleCall::abi_decode(&input[start..]).ok());
    calls.flat_map(|call| call.settlements).collect()
}

/// The deltas of each settlement, when the settlements are those that the events tell of. The ledger settles in the order of the list and emits
/// one event for each, so the n-th event is of the n-th settlement.
fn compare(
    ledger: &Ledger,
    transaction: Hash256,
    settlements: &[ILedger::Settlement],
    told: &[&LedgerEvent],
) -> Result<Vec<Vec<u64>>, ChainError> {
    if settlements.len() != told.len() {
        return Err(ChainError::inconsistent(format!("transaction {transaction} has not one event for each settlement")));
    }
    settlements.iter().zip(told).map(|(settlement, event)| deltas_of(ledger, settlement, event)).collect()
}

fn deltas_of(ledger: &Ledger, settlement: &ILedger::Settlement, event: &LedgerEvent) -> Result<Vec<u64>, ChainError> {
    let LedgerEvent::Settled { book, new_root, total, .. } = event else { return Ok(Vec::new()) };
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
    Ok(values)
}

fn unpack(ledger: &Ledger, book: BookId, bytes: &[u8]) -> Result<Vec<u64>, ChainError> {
    let tier = ledger.tier(book.tier()).ok_or_else(|| ChainError::inconsistent(format!("book {book} is of no tier of the ledger")))?;
    unpack_deltas(bytes, tier.slots).ok_or_else(|| ChainError::inconsistent(format!("the deltas of book {book} have a wrong length")))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::U256;

    use super::*;

    fn call(total: u64) -> Vec<u8> {
        let settlement = ILedger::Settlement {
            book: 7,
            newRoot: U256::from(1),
            totalNanos: U256::from(total),
            commitment: U256::from(2),
            proof: [U256::from(3); 8],
            deltas: vec![0; 217].into(),
        };
        ILedger::settleCall { settlements: vec![settlement], epochs: Vec::new() }.abi_encode()
    }

    #[test]
    fn calls_inside_other_calls_are_found_in_order() {
        let totals = |input: &[u8]| embedded(input).iter().map(|settlement| settlement.totalNanos.to::<u64>()).collect::<Vec<_>>();
        let input = [&[1, 2, 3][..], &call(5), &ILedger::settleCall::SELECTOR, &[9; 40], &call(6)].concat();
        assert_eq!(totals(&input), [5, 6]);
        assert_eq!(totals(&call(5)[..300]), [0; 0]);
        assert_eq!(totals(&[]), [0; 0]);
    }

    #[test]
    fn only_calls_that_succeeded_and_reached_the_ledger_count() {
        let ledger = EvmAddress::repeat_byte(7);
        let frame = |kind: &str, to: EvmAddress, total: u64, error: bool, calls: Vec<Frame>| Frame {
            kind: kind.to_owned(),
            to: Some(to),
            input: call(total).into(),
            error: error.then(|| "execution reverted".to_owned()),
            calls,
        };
        let other = EvmAddress::repeat_byte(8);
        let inner = vec![
            frame("CALL", ledger, 1, false, Vec::new()),
            frame("CALL", other, 2, true, vec![frame("CALL", ledger, 3, false, Vec::new())]),
            frame("DELEGATECALL", ledger, 4, false, Vec::new()),
            frame("CALL", other, 5, false, vec![frame("CALL", ledger, 6, false, Vec::new())]),
            frame("CALL", ledger, 7, true, Vec::new()),
        ];
        let mut settlements = Vec::new();
        collect(&frame("CALL", other, 0, false, inner), ledger, &mut settlements);
        assert_eq!(settlements.iter().map(|settlement| settlement.totalNanos.to::<u64>()).collect::<Vec<_>>(), [1, 6]);
    }
}
