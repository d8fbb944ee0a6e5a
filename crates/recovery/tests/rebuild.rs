//! A ledger is rebuilt from logs and calldata, and an endpoint that changes them is found out.

mod common;

use alloy::sol_types::SolCall;
use common::proxy::Reply;
use common::{ALICE, BOB, World, hex, slots_of, world};
use millstream_chain::bindings::ILedger;
use millstream_chain::{pack_settlements, unpack_settlements};
use millstream_circuit::field_to_word;
use millstream_recovery::{Asked, ChannelPlace, ExitOutcome, ExitWay, HaltChoice, Rebuild, RebuildError, RebuildOptions};
use millstream_testkit::DEV_ACCOUNTS;
use millstream_types::{Amount, BlockNumber, BookId, ChannelId, CumulativeAmount, Tier};
use serde_json::Value;

/// Openings, top-ups, settlements over two books, closes, a slot used again, withdrawals, and requests that still wait.
async fn history(world: &World) -> Vec<ChannelId> {
    let mut provider = world.provider().await;
    let mut channels = Vec::new();
    for number in 1..=3 {
        channels.push(world.open(ALICE, number, 1_000_000 * u128::from(number)).await);
    }
    provider.register_all().await;
    for number in 4..=6 {
        channels.push(world.open(BOB, number, 2_000_000).await);
    }
    world.payer(BOB).top_up(channels[0], 500_000).await.expect("topped up");
    world.payer(BOB).top_up(channels[5], 7).await.expect("topped up");
    provider.register_all().await;
    provider.settle(&[(channels[0], 1, 1_400_000_123), (channels[2], 3, 5), (channels[4], 5, 77_000)]).await;
    // The first is closed, the fourth takes its place; one opens and closes before it was ever in a book.
    world.payer(ALICE).request_close(channels[0]).await.expect("asked");
    provider.register_all().await;
    channels.push(world.open(BOB, 7, 3_000_000).await);
    provider.register_all().await;
    channels.push(world.open(ALICE, 8, 10).await);
    world.payer(ALICE).request_close(channels[7]).await.expect("asked");
    provider.register_all().await;
    world.payer(ALICE).withdraw(DEV_ACCOUNTS[ALICE].address).await.expect("withdrawn");
    provider.settle(&[(channels[6], 7, 3_000_000_000), (channels[4], 5, 78_000)]).await;
    channels.push(world.open(ALICE, 9, 42).await);
    world.payer(BOB).request_close(channels[3]).await.expect("asked");
    channels
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuilt_ledger_is_the_one_on_the_chain() {
    let world = world().await;
    let channels = history(&world).await;
    // Read in one go, and again in ranges of two blocks, with the deployment looked for.
    let rebuild = world.rebuild().await;
    let rebuilt = rebuild.rebuilt();
    let options = RebuildOptions { from: None, blocks_max: 2, ..RebuildOptions::default() };
    let mut small = Rebuild::start(world.ledger.clone(), options).await.expect("a start");
    let mut looks = 0;
    small.catch_up(&mut |_| looks += 1).await.expect("rebuilt");
    assert!(looks > 10, "{looks}");
    assert_eq!((small.rebuilt().books(), small.rebuilt().events()), (rebuilt.books(), rebuilt.events()));

    assert!(rebuilt.books().len() >= 2, "{:?}", rebuilt.books().keys());
    for (book, ours) in rebuilt.books() {
        assert_eq!(world.ledger.book_root(*book).await.expect("a root"), field_to_word(ours.root()), "{book}");
    }
    for channel in rebuilt.channels() {
        let record = world.ledger.channel(channel.id).await.expect("read").expect("opened");
        assert_eq!((record.deposit, record.closed), (channel.deposited, channel.place == ChannelPlace::Closed), "{}", channel.id);
    }
    for account in [ALICE, BOB, common::PROVIDER].map(|account| DEV_ACCOUNTS[account].address) {
        let credit = rebuilt.credits().get(&account).copied().unwrap_or_default();
        assert_eq!(world.ledger.credit(account).await.expect("read"), credit);
    }
    let channel = |number: usize| *rebuilt.channel(&channels[number]).expect("known");
    assert_eq!((channel(0).place, channel(0).deposited), (ChannelPlace::Closed, Amount::from_nanos(1_500_000_000)));
    assert_eq!((channel(0).settled, channel(0).refunded), (CumulativeAmount::from_nanos(1_400_000_123), Amount::from_nanos(99_999_877)));
    assert_eq!((channel(4).settled, channel(4).held()), (CumulativeAmount::from_nanos(78_000), Amount::from_nanos(1_999_922_000)));
    assert_eq!(
        (channel(7).place, channel(7).refunded, channel(7).held()),
        (ChannelPlace::Closed, Amount::from_nanos(10_000), Amount::ZERO)
    );
    assert_eq!((channel(8).place, channel(8).held()), (ChannelPlace::Queued, Amount::from_nanos(42_000)));
    // The slot that the first channel left is taken again.
    let slots: Vec<_> = [1, 6].map(|number| channel(number).place).to_vec();
    assert!(matches!(slots[..], [ChannelPlace::Booked { book: a, .. }, ChannelPlace::Booked { book: b, slot: 0 }] if a == b), "{slots:?}");
    let waiting: Vec<_> = rebuilt.queue().iter().map(|request| request.asked.name()).collect();
    assert_eq!(waiting, ["open", "close"]);
    assert!(rebuilt.requests().iter().filter(|request| request.served.is_some()).all(|request| request.index < rebuilt.queue_head()));
    assert_eq!(rebuilt.requests()[0].asked, Asked::Open { amount: Amount::from_nanos(1_000_000_000) });
    assert_eq!(rebuilt.epochs().len(), 2);

    // As it was after the first settlement: nothing was closed yet.
    let close = rebuilt.requests().iter().find(|request| request.asked == Asked::Close).expect("asked").block;
    let until = Some(BlockNumber::new(close.height() - 1));
    let mut earlier = Rebuild::start(world.ledger.clone(), RebuildOptions { until, ..world.options() }).await.expect("a start");
    let at = earlier.catch_up(&mut |_| {}).await.expect("rebuilt");
    assert_eq!(Some(at.number()), until);
    assert_eq!(earlier.rebuilt().channel(&channels[0]).expect("known").held(), Amount::from_nanos(99_999_877));
    assert!(earlier.rebuilt().channel(&channels[6]).is_none());
}

/// Two channels in book 0:0 and two in 0:1, each with a deposit of two tokens and something settled; then those of 0:1 go to the other.
async fn moved(world: &World) -> Vec<ChannelId> {
    let mut provider = world.provider().await;
    let mut channels = Vec::new();
    for round in [1..=3, 4..=6] {
        for number in round {
            channels.push(world.open(if number == 5 { BOB } else { ALICE }, number, 2_000_000).await);
        }
        provider.register_all().await;
    }
    provider.settle(&[(channels[0], 1, 3), (channels[4], 5, 500_000_000), (channels[5], 6, 7)]).await;
    for closed in &channels[..2] {
        world.payer(ALICE).request_close(*closed).await.expect("asked");
    }
    provider.register_all().await;
    provider.move_channels(&[(channels[4], 0), (channels[5], 1)], book(0)).await;
    channels
}

fn book(number: u32) -> BookId {
    BookId::new(Tier::new(0), number).expect("small")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moved_channels_are_followed_and_leave_alone() {
    let world = world().await;
    let channels = moved(&world).await;
    let rebuild = world.rebuild().await;
    let rebuilt = rebuild.rebuilt();
    for (slot, channel) in (0..).zip(&channels[4..]) {
        assert_eq!(rebuilt.channel(channel).expect("known").place, ChannelPlace::Booked { book: book(0), slot });
    }
    for number in 0..2 {
        let root = field_to_word(rebuilt.book(book(number)).expect("a book").root());
        assert_eq!(world.ledger.book_root(book(number)).await.expect("a root"), root);
    }
    assert_eq!(rebuilt.book(book(1)), Some(millstream_circuit::Book::empty(common::size(4))));
    assert_eq!(rebuilt.channel(&channels[4]).expect("known").settled, CumulativeAmount::from_nanos(500_000_000));

    // The provider goes on in the one book that is left, and a payer leaves without it.
    let mut provider = world.provider().await;
    provider.settle(&[(channels[4], 5, 600_000_000), (channels[5], 6, 8), (channels[3], 4, 9)]).await;
    let before = world.balance(BOB).await;
    let early = world.exit(BOB).await.run(channels[4], &mut |_| {}).await.expect("asked");
    assert!(matches!(early, ExitOutcome::Waiting { .. }), "{early:?}");
    world.pass_the_window();
    let left = world.exit(BOB).await.run(channels[4], &mut |_| {}).await.expect("left");
    assert!(matches!(left, ExitOutcome::Left(ref report) if report.way == ExitWay::OwnProof), "{left:?}");
    assert_eq!(world.balance(BOB).await, before + 1_400_000);

    // Nobody serves the next request: the other moved channel leaves by the paths of its new slot.
    world.open(BOB, 7, 1_000).await;
    world.pass_the_halt_window();
    let left = world.exit(ALICE).await.leave(channels[5], HaltChoice::WhenPossible, &mut |_| {}).await.expect("left");
    let ExitOutcome::Left(report) = left else { panic!("{left:?}") };
    assert_eq!(report.refunded, Amount::from_nanos(2_000_000_000 - 8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_move_is_found_out() {
    use alloy::sol_types::SolEvent;
    use millstream_chain::bindings::ILedger::{MovedIn, MovedOut};
    let world = world().await;
    moved(&world).await;
    // The slot, and in the topics the channel: neither is what the roots are of.
    let slot = lie(&world, "eth_getLogs", |logs| edit_log(logs, MovedIn::SIGNATURE_HASH, |logs, at| flip(&mut logs[at], 0))).await;
    assert!(matches!(slot, RebuildError::Contradiction { .. }), "two channels in one slot: {slot:?}");
    let gone = lie(&world, "eth_getLogs", |logs| edit_log(logs, MovedIn::SIGNATURE_HASH, |logs, at| drop(logs.remove(at)))).await;
    assert!(matches!(gone, RebuildError::Contradiction { .. }), "another channel comes in its turn: {gone:?}");
    let stays = lie(&world, "eth_getLogs", |logs| edit_log(logs, MovedOut::SIGNATURE_HASH, |logs, at| drop(logs.remove(at)))).await;
    assert!(matches!(stays, RebuildError::Root { .. }), "the channel is still there: {stays:?}");
}

/// The error of rebuilding through an endpoint that changes the answers of one method.
async fn lie(world: &World, method: &'static str, change: fn(Value) -> Value) -> RebuildError {
    let ledger = world.through(move |asked, _| if asked == method { Reply::Change(change) } else { Reply::Pass }).await;
    let mut rebuild = match Rebuild::start(ledger, world.options()).await {
        Ok(rebuild) => rebuild,
        Err(error) => return error,
    };
    rebuild.catch_up(&mut |_| {}).await.expect_err("a lie was believed")
}

/// The topic of an event by its first field's name in the log's data, found by the number of words in the data.
fn edit_log(logs: Value, topic: alloy::primitives::B256, edit: impl Fn(&mut Vec<Value>, usize)) -> Value {
    let mut logs = logs;
    let list = logs.as_array_mut().expect("a list");
    let found = list.iter().position(|log| log["topics"][0] == topic.to_string());
    edit(list, found.expect("such a log"));
    logs
}

/// A log's data with the last bit of a word flipped.
fn flip(log: &mut Value, word: usize) {
    let mut data = alloy::hex::decode(log["data"].as_str().expect("text")).expect("hexadecimal");
    data[32 * word + 31] ^= 1;
    log["data"] = hex(&data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_logs_and_calldata_are_found_out() {
    use alloy::sol_types::SolEvent;
    use millstream_chain::bindings::ILedger::{Closed, Included, Opened, Registered, Settled, ToppedUp, Withdrawn};
    let world = world().await;
    history(&world).await;

    // Who opened, with what, under which key.
    for word in [0, 1] {
        let error = match word {
            0 => lie(&world, "eth_getLogs", |logs| edit_log(logs, Opened::SIGNATURE_HASH, |logs, at| flip(&mut logs[at], 0))).await,
            _ => lie(&world, "eth_getLogs", |logs| edit_log(logs, Opened::SIGNATURE_HASH, |logs, at| flip(&mut logs[at], 1))).await,
        };
        assert!(matches!(error, RebuildError::Contradiction { .. }), "{error}");
    }
    let deposit = lie(&world, "eth_getLogs", |logs| edit_log(logs, Opened::SIGNATURE_HASH, |logs, at| flip(&mut logs[at], 2))).await;
    assert!(matches!(deposit, RebuildError::Contradiction { .. } | RebuildError::Root { .. }), "{deposit}");
    // Where a channel was put, what it got back, what was added.
    let slot = lie(&world, "eth_getLogs", |logs| edit_log(logs, Included::SIGNATURE_HASH, |logs, at| flip(&mut logs[at], 0))).await;
    assert!(matches!(slot, RebuildError::Contradiction { .. } | RebuildError::Root { .. }), "{slot}");
    let refund = lie(&world, "eth_getLogs", |logs| edit_log(logs, Closed::SIGNATURE_HASH, |logs, at| flip(&mut logs[at], 0))).await;
    assert!(matches!(refund, RebuildError::Contradiction { .. }), "{refund}");
    let top_up = lie(&world, "eth_getLogs", |logs| edit_log(logs, ToppedUp::SIGNATURE_HASH, |logs, at| flip(&mut logs[at], 0))).await;
    assert!(matches!(top_up, RebuildError::Contradiction { .. }), "{top_up}");
    let paid = lie(&world, "eth_getLogs", |logs| edit_log(logs, Withdrawn::SIGNATURE_HASH, |logs, at| flip(&mut logs[at], 0))).await;
    assert!(matches!(paid, RebuildError::Contradiction { .. }), "{paid}");
    // A root; a whole settlement that is left out; a registration that is.
    let root = lie(&world, "eth_getLogs", |logs| edit_log(logs, Registered::SIGNATURE_HASH, |logs, at| flip(&mut logs[at], 0))).await;
    assert!(matches!(root, RebuildError::Root { .. }), "{root}");
    assert!(root.to_string().contains("0:0") && root.to_string().contains("0x"), "{root}");
    let settled = lie(&world, "eth_getLogs", |logs| {
        edit_log(logs, Settled::SIGNATURE_HASH, |logs, at| {
            let transaction = logs[at]["transactionHash"].clone();
            logs.retain(|log| log["transactionHash"] != transaction);
        })
    });
    let settled = settled.await;
    assert!(matches!(settled, RebuildError::Contradiction { .. } | RebuildError::Root { .. }), "{settled}");
    let registered = lie(&world, "eth_getLogs", |logs| edit_log(logs, Registered::SIGNATURE_HASH, |logs, at| drop(logs.remove(at)))).await;
    assert!(matches!(registered, RebuildError::Contradiction { .. }), "{registered}");
    let late = lie(&world, "eth_getLogs", |mut logs| {
        logs.as_array_mut().expect("a list").remove(0);
        logs
    });
    assert!(matches!(late.await, RebuildError::LateStart));
    // Deltas that add up to the same.
    let deltas = lie(&world, "eth_getTransactionByHash", |mut transaction| {
        let input = alloy::hex::decode(transaction["input"].as_str().expect("text")).expect("hexadecimal");
        let Ok(mut call) = ILedger::settleCall::abi_decode(&input) else { return transaction };
        let mut settlements = unpack_settlements(&call.settlements, slots_of).expect("the ledger took them");
        settlements[0].deltas.swap(0, 2);
        call.settlements = pack_settlements(&settlements, slots_of).expect("as they were").into();
        transaction["input"] = hex(&call.abi_encode());
        transaction
    });
    let deltas = deltas.await;
    assert!(matches!(deltas, RebuildError::Root { .. } | RebuildError::Contradiction { .. }), "{deltas}");
    // The contract itself, by another answer to the first thing that is compared.
    let contract = lie(&world, "eth_call", |answer| match answer.as_str() {
        Some(word) if word.len() == 66 && word.starts_with("0x0000000000000000000000000000000000000000000000000000000000000002") => {
            hex(&[0; 32])
        }
        _ => answer,
    });
    assert!(matches!(contract.await, RebuildError::Contract { .. } | RebuildError::Chain(_) | RebuildError::Tier { .. }));
}
