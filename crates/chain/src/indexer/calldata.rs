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
use millstream_types::{Amount, Hash256, Tier};
use serde::Deserialize;
use serde_json::json;

use super::{ChainEvent, LedgerEvent};
use crate::bindings::ILedger;
use crate::rpc::RpcFailure;
use crate::settlements::unpack_settlements;
use crate::{BookSettlement, ChainError, Ledger, convert};

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
        let deltas = match (compare(transaction, &found.settlements, &told), found.source) {
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
    settlements: Vec<BookSettlement>,
}

async fn find(ledger: &Ledger, transaction: Hash256, block_hash: Hash256) -> Result<Found, ChainError> {
    let rpc = ledger.rpc();
    let hash = convert::evm_hash(transaction);
    let found = rpc.ask("eth_getTransactionByHash", rpc.provider().get_transaction_by_hash(hash)).await?;
    let found = found.filter(|found| found.block_hash.map(convert::hash) == Some(block_hash)).ok_or(ChainError::Moved)?;
    let slots_of = |tier| ledger.slots(tier);
    let of = |packed: &Bytes| {
        let unpacked = unpack_settlements(packed, slots_of);
        unpacked.map_err(|error| ChainError::inconsistent(format!("transaction {transaction} settled what is no settlement: {error}")))
    };
    if found.to() == Some(convert::evm_address(ledger.address())) {
        let call = ILedger::settleCall::abi_decode(found.input());
        let call =
            call.map_err(|error| ChainError::inconsistent(format!("transaction {transaction} settled without a settlement: {error}")))?;
        return Ok(Found { source: Source::Own, settlements: of(&call.settlements)? });
    }
    Ok(match trace(ledger, hash).await? {
        Some(calls) => {
            let settlements = calls.iter().map(of).collect::<Result<Vec<_>, _>>()?;
            Found { source: Source::Trace, settlements: settlements.concat() }
        }
        None => Found { source: Source::Embedded, settlements: embedded(found.input(), slots_of) },
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

/// What the calls of `settle` in a transaction settled, packed; `None` when the endpoint gives no traces.
async fn trace(ledger: &Ledger, transaction: B256) -> Result<Option<Vec<Bytes>>, ChainError> {
    let operation = "debug_traceTransaction";
    let rpc = ledger.rpc();
    let options = (transaction, json!({ "tracer": "callTracer" }));
    let frame: Frame = match rpc.attempt(rpc.provider().raw_request(operation.into(), options)).await {
        Ok(frame) => frame,
        Err(RpcFailure::Response { .. }) => return Ok(None),
        Err(failure) => return Err(rpc.explain(operation, failure)),
    };
    let mut calls = Vec::new();
    collect(&frame, convert::evm_address(ledger.address()), &mut calls);
    Ok(Some(calls))
}

/// What the calls that succeeded settled, in the order of execution: the ledger's calls do not nest.
fn collect(frame: &Frame, ledger: EvmAddress, calls: &mut Vec<Bytes>) {
    if frame.error.is_some() {
        return;
    }
    if frame.kind == "CALL"
        && frame.to == Some(ledger)
        && let Ok(call) = ILedger::settleCall::abi_decode(&frame.input)
    {
        calls.push(call.settlements);
    }
    frame.calls.iter().for_each(|call| collect(call, ledger, calls));
}

/// Whatever inside an input reads as a call of `settle` with settlements of the ledger's books.
fn embedded(input: &[u8], slots_of: impl Fn(Tier) -> Option<u16>) -> Vec<BookSettlement> {
    let selector = ILedger::settleCall::SELECTOR;
    let starts = input.windows(selector.len()).enumerate().filter(|(_, window)| *window == selector).map(|(start, _)| start);
    let calls = starts.take(EMBEDDED_CALLS_MAX).filter_map(|start| ILedger::settleCall::abi_decode(&input[start..]).ok());
    calls.filter_map(|call| unpack_settlements(&call.settlements, &slots_of).ok()).flatten().collect()
}

/// The deltas of each settlement, when the settlements are those that the events tell of. The ledger settles in the order of the list and emits
/// one event for each, so the n-th event is of the n-th settlement.
fn compare(transaction: Hash256, settlements: &[BookSettlement], told: &[&LedgerEvent]) -> Result<Vec<Vec<u64>>, ChainError> {
    if settlements.len() != told.len() {
        return Err(ChainError::inconsistent(format!("transaction {transaction} has not one event for each settlement")));
    }
    settlements.iter().zip(told).map(|(settlement, event)| deltas_of(settlement, event)).collect()
}

fn deltas_of(settlement: &BookSettlement, event: &LedgerEvent) -> Result<Vec<u64>, ChainError> {
    let LedgerEvent::Settled { book, new_root, total, .. } = event else { return Ok(Vec::new()) };
    if (settlement.book, settlement.new_root, settlement.total) != (*book, *new_root, *total) {
        return Err(ChainError::inconsistent(format!("a settlement of book {book} is not what its event says")));
    }
    let sum: u128 = settlement.deltas.iter().copied().map(u128::from).sum();
    if Amount::from_units(sum) != *total {
        return Err(ChainError::inconsistent(format!("the deltas of book {book} add up to {sum}, not to {total}")));
    }
    Ok(settlement.deltas.clone())
}

#[cfg(test)]
mod tests {
    use millstream_types::BookId;

    use super::*;
    use crate::pack_settlements;

    const SLOTS: u16 = 24;

    fn slots_of(tier: Tier) -> Option<u16> {
        (tier.index() == 0).then_some(SLOTS)
    }

    fn packed(total: u64) -> Bytes {
        let settlement = BookSettlement {
            book: BookId::from_u32(7),
            new_root: [1; 32],
            total: Amount::from_nanos(total),
            commitment: [2; 32],
            proof: [[3; 32]; 8],
            deltas: vec![0; usize::from(SLOTS)],
        };
        pack_settlements(&[settlement], slots_of).expect("a good one").into()
    }

    fn call(settlements: Bytes) -> Vec<u8> {
        ILedger::settleCall { settlements, epochs: Vec::new() }.abi_encode()
    }

    fn totals(settlements: &[BookSettlement]) -> Vec<u128> {
        settlements.iter().map(|settlement| settlement.total.units()).collect()
    }

    #[test]
    fn calls_inside_other_calls_are_found_in_order() {
        let totals = |input: &[u8]| totals(&embedded(input, slots_of));
        // The second call is of two books; its selector also stands in front of what is none.
        let two = call([packed(6), packed(7)].concat().into());
        let input = [&[1, 2, 3][..], &call(packed(5)), &ILedger::settleCall::SELECTOR, &[9; 40], &two].concat();
        assert_eq!(totals(&input), [5, 6, 7]);
        // Calls that the ledger would have refused: cut short, with a byte more, of a tier that is not there.
        let mut unknown = packed(5).to_vec();
        unknown[0] = 1;
        for bad in [packed(5).slice(..400), [&packed(5)[..], &[0]].concat().into(), unknown.into()] {
            assert_eq!(totals(&[call(bad), call(packed(8))].concat()), [8]);
        }
        assert_eq!(totals(&call(packed(5))[..300]), [0; 0]);
        assert_eq!(totals(&[]), [0; 0]);
    }

    #[test]
    fn only_calls_that_succeeded_and_reached_the_ledger_count() {
        let ledger = EvmAddress::repeat_byte(7);
        let frame = |kind: &str, to: EvmAddress, total: u64, error: bool, calls: Vec<Frame>| Frame {
            kind: kind.to_owned(),
            to: Some(to),
            input: call(packed(total)).into(),
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
        let mut calls = Vec::new();
        collect(&frame("CALL", other, 0, false, inner), ledger, &mut calls);
        assert_eq!(calls, [packed(1), packed(6)]);
    }
}
