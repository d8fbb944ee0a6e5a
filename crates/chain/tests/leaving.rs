//! A payer who leaves without the provider: a cancelled opening, a halted ledger, paths.

mod common;

use millstream_chain::{
    Asked, BookRegistration, ChainError, ErrorKind, Indexer, IndexerOptions, IntentId, LedgerEvent, Opening, Poll, QueueBounds,
    ServedRequest, SlotPath, SlotRow,
};
use millstream_testkit::DEV_ACCOUNTS;
use millstream_types::{Amount, BookId, ChannelId};

use common::{BYSTANDER, HALT_WINDOW_SECS, PAYER, RESPONSE_WINDOW_SECS, World, open_request, voucher_key, world};

const BOOK: BookId = BookId::from_u32(7);
const ROOT: [u8; 32] = [7; 32];

fn refused<T: std::fmt::Debug>(result: Result<T, ChainError>, name: &str) {
    let error = result.expect_err(name);
    assert_eq!(error.kind(), ErrorKind::Rejection, "{error}");
    assert_eq!(error.revert().and_then(|revert| revert.name()), Some(name), "{error}");
}

fn served(channel: ChannelId, asked: Asked) -> ServedRequest {
    ServedRequest { channel, asked, registration: 0, row: 0 }
}

/// Puts a channel of one token in slot 3.
async fn include(world: &World, opening: &Opening) {
    world.accept_every_proof();
    let (key_x, amount) = (voucher_key(0).x, opening.deposit.to_u64().expect("64 bits"));
    let mut uid = [0; 31];
    uid.copy_from_slice(&opening.channel.as_bytes()[1..]);
    let row = SlotRow { slot: 3, flags: 3, delta: amount, refund: 0, uid, key_x };
    let registration = BookRegistration { book: BOOK, new_root: ROOT, commitment: [1; 32], proof: [[0; 32]; 8], rows: vec![row] };
    let request = served(opening.channel, Asked::Open { key_x, amount });
    world.operator().register(IntentId::from_bytes([1; 32]), &[registration], &[request]).await.expect("registered");
}

async fn events(world: &World) -> Vec<LedgerEvent> {
    let indexer = Indexer::new(world.ledger.clone(), IndexerOptions { confirmations: 1, ..IndexerOptions::default() });
    let mut cursor = indexer.start(world.deployment.block).await.expect("a start");
    let mut events = Vec::new();
    while let Poll::Batch(batch) = indexer.poll(&cursor).await.expect("polled") {
        events.extend(batch.events.into_iter().map(|event| event.event));
        cursor = batch.cursor;
    }
    events
}

#[tokio::test]
async fn an_opening_that_is_left_waiting_is_cancelled() {
    let world = world().await;
    let (payer, key_x) = (world.payer(), voucher_key(0).x);
    let opening = payer.open(&open_request(1, 1_000_000)).await.expect("opened");
    world.payer_of(BYSTANDER).top_up(opening.channel, 500_000).await.expect("topped up");
    refused(payer.cancel_open(opening.channel, 0, key_x, opening.deposit).await, "NotOverdue");
    world.pass(RESPONSE_WINDOW_SECS + 1);
    refused(payer.cancel_open(opening.channel, 1, key_x, opening.deposit).await, "RequestMismatch");
    refused(world.payer_of(BYSTANDER).cancel_open(opening.channel, 0, key_x, opening.deposit).await, "NotPayer");

    let refund = payer.cancel_open(opening.channel, 0, key_x, opening.deposit).await.expect("cancelled");
    assert_eq!(refund.amount, Amount::from_nanos(1_500_000_000));
    refused(payer.cancel_open(opening.channel, 0, key_x, opening.deposit).await, "ChannelClosing");
    assert_eq!(payer.withdraw(payer.account()).await.expect("withdrawn").base_units, 1_500_000);

    // What it had asked is void: it is presented, and needs no book.
    let asked = [Asked::Open { key_x, amount: 1_000_000_000 }, Asked::TopUp { amount: 500_000_000 }];
    let requests = asked.map(|asked| served(opening.channel, asked));
    world.operator().register(IntentId::from_bytes([2; 32]), &[], &requests).await.expect("served");
    assert_eq!(world.ledger.queue().await, Ok(QueueBounds { head: 2, tail: 2 }));
    let channel = opening.channel;
    let events = events(&world).await;
    assert!(events.contains(&LedgerEvent::OpenCancelled { channel, refund: refund.amount }));
    for request_index in 0..2 {
        assert!(events.contains(&LedgerEvent::RequestVoided { channel, request_index }));
    }
}

#[tokio::test]
async fn a_ledger_left_unserved_is_halted_and_everybody_leaves() {
    let world = world().await;
    let (payer, bystander) = (world.payer(), world.payer_of(BYSTANDER));
    let opening = payer.open(&open_request(1, 1_000_000)).await.expect("opened");
    include(&world, &opening).await;
    let channel = opening.channel;
    payer.top_up(channel, 250_000).await.expect("topped up");
    let waiting = bystander.open(&open_request(2, 3_000_000)).await.expect("opened");
    refused(bystander.halt().await, "NotOverdue");
    assert_eq!(world.ledger.halted().await, Ok(false));
    let group = [[9; 32]; 16];
    let (static_path, dynamic_path) = (vec![group; 2], vec![group; 2]);
    let key_x = voucher_key(0).x;
    let path = SlotPath { slot: 3, channel, key_x, deposit: 1_000_000_000, settled: 400_000_000, static_path, dynamic_path };
    refused(payer.leave(BOOK, &path).await, "NotHalted");

    world.pass(HALT_WINDOW_SECS + 1);
    bystander.halt().await.expect("halted");
    assert_eq!(world.ledger.halted().await, Ok(true));
    refused(bystander.halt().await, "LedgerHalted");
    refused(payer.open(&open_request(3, 1)).await, "LedgerHalted");
    refused(payer.request_close(channel).await, "LedgerHalted");
    refused(world.operator().settle(IntentId::from_bytes([3; 32]), &[], &[]).await, "LedgerHalted");

    // What was never in a book is cancelled, by anyone for anyone.
    let refund = payer.cancel_open(waiting.channel, waiting.request_index, key_x, waiting.deposit).await.expect("cancelled");
    assert_eq!(refund.amount, Amount::from_nanos(3_000_000_000));
    assert_eq!(world.ledger.credit(DEV_ACCOUNTS[BYSTANDER].address).await, Ok(refund.amount));

    // The paths are garbage to the true book paths; those of this test answer with a root of their own.
    assert!(payer.leave(BOOK, &path).await.is_err());
    world.answer_every_path([8; 32]);
    refused(payer.leave(BOOK, &path).await, "RootMismatch");
    world.answer_every_path(ROOT);
    let left = bystander.leave(BOOK, &path).await.expect("left");
    assert_eq!(left.amount, Amount::from_nanos(850_000_000));
    assert_eq!(world.ledger.credit(DEV_ACCOUNTS[PAYER].address).await, Ok(left.amount));
    refused(payer.leave(BOOK, &path).await, "ChannelClosing");

    let events = events(&world).await;
    assert!(events.contains(&LedgerEvent::Halted { request_index: 1 }));
    assert!(events.contains(&LedgerEvent::Left { channel, book: BOOK, refund: left.amount }));
}
