//! Reading events from a real anvil: in order, once, at a depth, and through reorganisations.

mod common;

use std::sync::Arc;

use millstream_chain::{
    Asked, BookRegistration, BookSettlement, ChainBatch, ChainError, ChainEvent, Cursor, EpochRoot, Indexer, IndexerOptions, IntentId,
    Ledger, LedgerEvent, Poll, Rpc, RpcOptions, ServedRequest, SlotRow, TokenChoice,
};
use millstream_testkit::{AnvilOptions, DEV_ACCOUNTS};
use millstream_types::{Address, Amount, BlockNumber, BookId, ChannelId, EpochId, Hash256};
use serde_json::json;

use common::proxy::{Reply, proxy};
use common::{PAYER, SLOTS, World, open_request, world, world_on};

const BOOK: BookId = BookId::from_u32(7);

fn indexer(world: &World, confirmations: u64) -> Indexer {
    Indexer::new(world.ledger.clone(), IndexerOptions { confirmations, ..IndexerOptions::default() })
}

/// Polls until nothing is left; returns the events with the cursor.
async fn drain(indexer: &Indexer, mut cursor: Cursor) -> (Vec<ChainEvent>, Cursor) {
    let mut events = Vec::new();
    loop {
        match indexer.poll(&cursor).await.expect("polled") {
            Poll::Idle(_) => return (events, cursor),
            Poll::Batch(batch) => {
                assert_eq!((batch.cursor.last().number, batch.cursor.last().hash), (batch.to, batch.to_hash));
                events.extend(batch.events);
                cursor = batch.cursor;
            }
            Poll::Reorg(reorg) => panic!("{reorg:?}"),
        }
    }
}

async fn batch(indexer: &Indexer, cursor: &Cursor) -> ChainBatch {
    match indexer.poll(cursor).await.expect("polled") {
        Poll::Batch(batch) => batch,
        other => panic!("{other:?}"),
    }
}

fn names(events: &[ChainEvent]) -> Vec<&'static str> {
    let name = |event: &ChainEvent| match event.event {
        LedgerEvent::Opened { .. } => "opened",
        LedgerEvent::ToppedUp { .. } => "topped up",
        LedgerEvent::CloseRequested { .. } => "close requested",
        LedgerEvent::Included { .. } => "included",
        LedgerEvent::Closed { .. } => "closed",
        LedgerEvent::MovedOut { .. } => "moved out",
        LedgerEvent::MovedIn { .. } => "moved in",
        LedgerEvent::Registered { .. } => "registered",
        LedgerEvent::Settled { .. } => "settled",
        LedgerEvent::EpochAnchored { .. } => "epoch anchored",
        LedgerEvent::OpenCancelled { .. } => "open cancelled",
        LedgerEvent::RequestVoided { .. } => "request voided",
        LedgerEvent::Halted { .. } => "halted",
        LedgerEvent::Left { .. } => "left",
        LedgerEvent::Withdrawn { .. } => "withdrawn",
        LedgerEvent::OperatorChanged { .. } => "operator changed",
    };
    events.iter().map(name).collect()
}

fn intent(number: u8) -> IntentId {
    IntentId::from_bytes([number; 32])
}

fn root(number: u8) -> [u8; 32] {
    let mut root = [0; 32];
    root[31] = number;
    root
}

fn settlement(book: BookId, new_root: u8, first: u64) -> BookSettlement {
    let deltas: Vec<u64> = (0..u64::from(SLOTS)).map(|slot| first + slot).collect();
    let total = Amount::from_units(deltas.iter().copied().map(u128::from).sum());
    BookSettlement { book, new_root: root(new_root), total, commitment: [0; 32], proof: [[0; 32]; 8], deltas }
}

/// Serves one request of `channel` in slot 3 of [`BOOK`].
async fn register(world: &World, number: u8, channel: ChannelId, flags: u8, asked: &[Asked], refund: u64) {
    let delta = asked.iter().map(|asked| match asked {
        Asked::Open { amount, .. } | Asked::TopUp { amount } => *amount,
        Asked::Close => 0,
    });
    let key_x = asked.iter().find_map(|asked| if let Asked::Open { key_x, .. } = asked { Some(*key_x) } else { None });
    let uid = *channel.as_bytes().last_chunk().expect("31 bytes");
    let row = SlotRow { slot: 3, flags, delta: delta.sum(), refund, uid, key_x: key_x.unwrap_or_default() };
    let book = BookRegistration { book: BOOK, new_root: root(number), commitment: [0; 32], proof: [[0; 32]; 8], rows: vec![row] };
    let requests: Vec<ServedRequest> =
        asked.iter().map(|asked| ServedRequest { channel, asked: *asked, registration: 0, row: 0 }).collect();
    world.operator().register(intent(number), &[book], &requests).await.expect("registered");
}

#[tokio::test]
async fn a_channels_life_is_seen_in_order_and_only_once() {
    let world = world().await;
    world.accept_every_proof();
    let (payer, account) = (world.payer(), DEV_ACCOUNTS[PAYER].address);
    let request = open_request(9, 1_000_000);
    let channel = payer.open(&request).await.expect("opened").channel;
    payer.top_up(channel, 500_000).await.expect("topped up");
    let open = [Asked::Open { key_x: request.key.x, amount: 1_000_000_000 }, Asked::TopUp { amount: 500_000_000 }];
    register(&world, 1, channel, 3, &open, 0).await;
    let other = BookId::from_u32(8);
    let settlements = [settlement(BOOK, 2, 10), settlement(other, 3, 1_000), settlement(BOOK, 4, 77)];
    let epoch = EpochRoot { epoch: EpochId::new(0), root: [0xee; 32] };
    world.operator().settle(intent(2), &settlements, &[epoch]).await.expect("settled");

    let indexer = indexer(&world, 1);
    let start = indexer.start(world.deployment.block).await.expect("a start");
    let (events, cursor) = drain(&indexer, start.clone()).await;
    let expected = ["operator changed", "opened", "topped up", "included", "registered", "settled", "settled", "settled", "epoch anchored"];
    assert_eq!(names(&events), expected);
    assert!(events.is_sorted_by_key(|event| (event.position.block, event.position.log_index)));
    assert!(events.iter().all(|event| event.position.block_time.as_secs_down() > 0));
    let deposit = Amount::from_nanos(1_000_000_000);
    let (key_x, salt) = (request.key.x, request.salt);
    assert_eq!(events[1].event, LedgerEvent::Opened { channel, payer: account, key_x, salt, deposit, request_index: 0 });
    assert_eq!(events[3].event, LedgerEvent::Included { channel, book: BOOK, slot: 3 });
    assert_eq!(events[4].event, LedgerEvent::Registered { book: BOOK, new_root: root(1), queue_head: 2 });
    for (event, settled) in events[5..8].iter().zip(&settlements) {
        let BookSettlement { book, new_root, total, deltas, .. } = settled.clone();
        assert_eq!(event.event, LedgerEvent::Settled { book, new_root, total, deltas: Some(deltas) });
    }
    assert_eq!(events[8].event, LedgerEvent::EpochAnchored { epoch: EpochId::new(0), root: Hash256::from_bytes([0xee; 32]) });

    // Another process reads on from the stored cursor.
    let cursor = Cursor::from_bytes(&cursor.to_bytes()).expect("stored well");
    let restarted = self::indexer(&world, 1);
    assert!(matches!(restarted.poll(&cursor).await, Ok(Poll::Idle(_))));
    payer.request_close(channel).await.expect("asked");
    register(&world, 5, channel, 5, &[Asked::Close], 1_400_000_000).await;
    let paid = payer.withdraw_to(DEV_ACCOUNTS[4].address).await.expect("withdrawn");
    assert_eq!(paid.base_units, 1_400_000);
    let (later, _) = drain(&restarted, cursor).await;
    assert_eq!(names(&later), ["close requested", "closed", "registered", "withdrawn"]);
    assert_eq!(later[1].event, LedgerEvent::Closed { channel, book: BOOK, refund: Amount::from_nanos(1_400_000_000) });

    // Small ranges give the same as one large one.
    let small = Indexer::new(world.ledger.clone(), IndexerOptions { confirmations: 1, blocks_max: 2 });
    let all = drain(&small, start).await.0;
    assert_eq!(all, [events, later].concat());
}

/// Where a contract's settlement is told from: settles through a contract at the operator's address, and reads it through an endpoint that gives
/// traces, or gives none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deltas_are_found_when_the_operator_is_a_contract() {
    let settled = settlement(BOOK, 2, 10);
    let call = settle_calldata(&settled);
    let call = call.trim_start_matches("0x");
    let check = async |code: &dyn Fn(&str) -> String, input: &str, traced: bool, found: bool| {
        let world = world().await;
        world.accept_every_proof();
        let contract = Address::from_bytes([0xf0; 20]);
        let ledger = world.deployment.ledger;
        world.call("anvil_setCode", json!([contract.to_string(), code(ledger.to_string().trim_start_matches("0x"))]));
        set_operator(&world, contract);
        let sender = DEV_ACCOUNTS[PAYER].address.to_string();
        world.call("eth_sendTransaction", json!([{ "from": sender, "to": contract.to_string(), "data": input, "gas": "0x7a1200" }]));

        let (anvil, start_block) = (Arc::new(world.anvil), world.deployment.block);
        let rule = move |method: &str, _: &serde_json::Value| match method {
            "debug_traceTransaction" if !traced => Reply::Error(-32601, "the method does not exist"),
            _ => Reply::Pass,
        };
        let rpc = Rpc::connect(&proxy(anvil, rule).await, RpcOptions::default()).await.expect("the proxy answers");
        let indexer = Indexer::new(Ledger::attach(rpc, ledger).await.expect("attached"), IndexerOptions::default());
        let (events, _) = drain(&indexer, indexer.start(start_block).await.expect("a start")).await;
        let deltas = found.then(|| settled.deltas.clone());
        let expected = LedgerEvent::Settled { book: BOOK, new_root: root(2), total: settled.total, deltas };
        assert_eq!(events.last().map(|event| &event.event), Some(&expected), "traced: {traced}");
    };
    // It passes its input on to the ledger.
    let forwarder = |ledger: &str| format!("0x36600060003760006000366000600073{ledger}5af100");
    let input = format!("0x{call}");
    check(&forwarder, &input, true, true).await;
    check(&forwarder, &input, false, true).await;
    // It has the call in its own code, so that no input holds it: CODECOPY, then CALL.
    let length = format!("{:04x}", call.len() / 2);
    let keeper = |ledger: &str| format!("0x61{length}60265f395f5f61{length}5f5f73{ledger}5af100{call}");
    check(&keeper, "0x", true, true).await;
    check(&keeper, "0x", false, false).await;
}

fn set_operator(world: &World, operator: Address) {
    use alloy::sol_types::SolCall;
    let call = millstream_chain::bindings::ILedger::setOperatorCall { operator: alloy::primitives::Address::new(*operator.as_bytes()) };
    let provider = DEV_ACCOUNTS[common::OPERATOR].address.to_string();
    let data = alloy::hex::encode_prefixed(call.abi_encode());
    world.call("eth_sendTransaction", json!([{ "from": provider, "to": world.deployment.ledger.to_string(), "data": data }]));
}

fn settle_calldata(settled: &BookSettlement) -> String {
    use alloy::sol_types::SolCall;
    use millstream_chain::{bindings::ILedger, pack_settlements};
    let settlements = pack_settlements(std::slice::from_ref(settled), |_| Some(SLOTS)).expect("a good settlement").into();
    alloy::hex::encode_prefixed(ILedger::settleCall { settlements, epochs: vec![] }.abi_encode())
}

#[tokio::test]
async fn only_blocks_deep_enough_count_but_a_coming_close_is_seen_at_once() {
    let world = world().await;
    let payer = world.payer();
    let deep = indexer(&world, 5);
    let start = deep.start(world.deployment.block).await.expect("a start");
    let opening = payer.open(&open_request(1, 1_000_000)).await.expect("opened");
    payer.request_close(opening.channel).await.expect("asked");
    let (events, cursor) = drain(&deep, start).await;
    assert_eq!(names(&events), ["operator changed"]);
    let pending = deep.pending_closes(&cursor).await.expect("looked");
    assert_eq!(pending.iter().map(|close| close.channel).collect::<Vec<_>>(), [opening.channel]);

    world.anvil.mine(3).expect("mined");
    let (events, cursor) = drain(&deep, cursor).await;
    assert_eq!(names(&events), ["opened"]);
    world.anvil.mine(1).expect("mined");
    let (events, cursor) = drain(&deep, cursor).await;
    assert_eq!(names(&events), ["close requested"]);
    assert_eq!(deep.pending_closes(&cursor).await, Ok(vec![]));
}

#[tokio::test]
async fn a_reorganisation_names_the_block_to_resume_at() {
    let world = world().await;
    let payer = world.payer();
    let indexer = indexer(&world, 1);
    let (_, before) = drain(&indexer, indexer.start(world.deployment.block).await.expect("a start")).await;
    // The approval's block is read as one batch, the opening's as another.
    payer.open(&open_request(1, 1_000_000)).await.expect("opened");
    let opened = batch(&indexer, &before).await;
    assert_eq!(names(&opened.events), ["opened"]);
    world.anvil.mine(2).expect("mined");
    let after = batch(&indexer, &opened.cursor).await;

    world.anvil.reorg(3).expect("reorganised");
    let Ok(Poll::Reorg(reorg)) = indexer.poll(&after.cursor).await else { panic!("a fork was missed") };
    assert_eq!(reorg.lost, after.cursor.last());
    assert_ne!(reorg.found, reorg.lost.hash);
    let resume = reorg.resume.expect("the chain is the same one");
    assert_eq!(resume, before, "the opening's block is gone, the one before it stands");
    let (events, _) = drain(&indexer, resume).await;
    assert!(!names(&events).contains(&"opened"), "{events:?}");
}

#[tokio::test]
async fn a_chain_cut_short_is_behind_until_it_grows_and_then_forked() {
    let world = world().await;
    let indexer = indexer(&world, 1);
    let snapshot = world.call("evm_snapshot", json!([]));
    let (_, before) = drain(&indexer, indexer.start(world.deployment.block).await.expect("a start")).await;
    world.payer().open(&open_request(1, 1_000_000)).await.expect("opened");
    let after = batch(&indexer, &before).await.cursor;

    world.call("evm_revert", json!([snapshot]));
    let error = indexer.poll(&after).await.expect_err("cut short");
    assert!(matches!(error, ChainError::Behind { .. }) && error.is_retryable(), "{error}");
    world.anvil.advance_secs(100).expect("mined");
    world.anvil.mine(3).expect("mined");
    let Ok(Poll::Reorg(reorg)) = indexer.poll(&after).await else { panic!("a fork was missed") };
    assert_eq!(reorg.resume, Some(before));
}

#[tokio::test]
async fn another_chain_has_no_block_to_resume_at() {
    // Two chains with the same history up to the clock would be one.
    let later = AnvilOptions { arguments: vec!["--timestamp".to_owned(), "3000000000".to_owned()], ..AnvilOptions::default() };
    let (world, other) = tokio::join!(world(), world_on(&later, TokenChoice::TestUsdc));
    let first = indexer(&world, 1);
    let (_, cursor) = drain(&first, first.start(world.deployment.block).await.expect("a start")).await;
    other.anvil.mine(10).expect("mined");
    let second = indexer(&other, 1);
    let Ok(Poll::Reorg(reorg)) = second.poll(&cursor).await else { panic!("another chain was taken for this one") };
    assert_eq!(reorg.resume, None);
    assert!(matches!(first.start(BlockNumber::new(1_000_000)).await, Err(ChainError::InvalidInput { .. })));
}

#[tokio::test]
async fn reading_stops_at_the_block_that_was_asked_for() {
    let world = world().await;
    let first = world.payer().open(&open_request(1, 1_000_000)).await.expect("opened");
    world.payer().open(&open_request(2, 1_000_000)).await.expect("opened");
    let indexer = indexer(&world, 1);
    let start = indexer.start(world.deployment.block).await.expect("a start");
    let Poll::Batch(batch) = indexer.poll_until(&start, first.receipt.block).await.expect("polled") else { panic!("a batch") };
    assert_eq!((names(&batch.events), batch.to), (vec!["operator changed", "opened"], first.receipt.block));
    assert!(matches!(indexer.poll_until(&batch.cursor, first.receipt.block).await, Ok(Poll::Idle(_))));
}
