//! Two sparse books become one, with real proofs: payments go on, later settlements use one book, and a payer of a moved channel leaves alone.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use common::{Net, RawPayer, secret};
use millstream_circuit::field_to_word;
use millstream_recovery::{Rebuild, RebuildOptions};
use millstream_types::{BookId, ChannelId};
use serde_json::Value;

/// Runs `millstream ARGUMENTS` with the network's profile: exit status, and standard output.
fn run(net: &Net, arguments: &str) -> (i32, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .arg("--profile")
        .arg(net.dev.info().profile)
        .args(arguments.split_whitespace())
        .current_dir(net.directory.path())
        .output()
        .expect("the command runs");
    (output.status.code().expect("an exit status"), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

/// The channels of each book, as the node says.
async fn books(net: &Net) -> BTreeMap<String, BTreeSet<ChannelId>> {
    let mut books: BTreeMap<String, BTreeSet<ChannelId>> = BTreeMap::new();
    for channel in net.admin.channels().await.expect("channels") {
        if let Some(book) = channel.book {
            books.entry(book).or_default().insert(channel.channel);
        }
    }
    books
}

/// Every book, rebuilt from the chain alone, has the root that the ledger keeps.
async fn assert_rebuilt(net: &Net) -> BTreeMap<BookId, usize> {
    let mut rebuild = Rebuild::start(net.dev.ledger.clone(), RebuildOptions::default()).await.expect("a start");
    rebuild.catch_up(&mut |_| {}).await.expect("the chain agrees with itself");
    let mut channels = BTreeMap::new();
    for (id, book) in rebuild.rebuilt().books() {
        assert_eq!(net.dev.ledger.book_root(*id).await.expect("a root"), field_to_word(book.root()), "{id}");
        channels.insert(*id, book.channels().count());
    }
    channels
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sparse_books_become_one() {
    let mut net = Net::start_with(|options| options.book_sizes = vec![4]).await;
    let connection = net.connect().await;
    let mut payers = Vec::new();
    for round in [1..=3, 4..=6] {
        for number in round {
            let opening = net.open(&secret(number), number, 2_000_000).await;
            let mut payer = RawPayer::new(&connection, secret(number), net.dev.ledger.id(), opening.channel).await;
            payer.attach().await;
            payer.pay(&[u64::from(number)]).await;
            payers.push(payer);
        }
        // Both books are used, and too full to become one.
        let run = net.admin.settle_run().await.expect("settled");
        assert!(run.transactions.iter().all(|transaction| transaction.moves.is_empty()), "{run:?}");
    }
    assert_eq!(books(&net).await.values().map(BTreeSet::len).collect::<Vec<_>>(), [4, 2]);

    // Two of the first book close, and everybody has paid: the pass that serves the closes moves the others together.
    for payer in &mut payers {
        payer.pay(&[10]).await;
    }
    for payer in &payers[..2] {
        net.payer.request_close(payer.channel).await.expect("asked");
    }
    net.wait_for("the node to see the closes", async || net.admin.status().await.expect("status").queue.unserved == 2).await;
    // Nothing is planned while they wait.
    assert_eq!(run(&net, "settle plan").1["moves"], Value::Array(vec![]));
    let report = net.admin.settle_run().await.expect("settled");
    let kinds: Vec<_> = report.transactions.iter().map(|transaction| transaction.kind.as_str()).collect();
    assert_eq!(kinds, ["settle", "register", "move"], "{report:?}");
    let moved = &report.transactions[2];
    assert_eq!((moved.channels, moved.moves.len(), moved.total.units()), (2, 2, 0));
    assert_eq!(books(&net).await.len(), 1);
    assert_eq!(assert_rebuilt(&net).await.values().copied().collect::<BTreeSet<_>>(), BTreeSet::from([0, 4]));

    // Payments go on, in the connection that was there before; the node starts again with what it knew; and one book is settled.
    for payer in &mut payers[2..] {
        payer.pay(&[100]).await;
    }
    net.dev.node.kill().expect("the node dies");
    net.dev.node.restart().expect("the node starts again");
    let plan = run(&net, "settle plan").1;
    assert_eq!((plan["settle"].as_array().map(Vec::len), &plan["moves"]), (Some(1), &Value::Array(vec![])), "{plan}");
    let report = net.admin.settle_run().await.expect("settled");
    assert_eq!(report.transactions.len(), 1, "{report:?}");
    assert_eq!((report.transactions[0].books.len(), report.channels_settled, report.settled_total.units()), (1, 4, 400));
    assert_rebuilt(&net).await;
    let (_, audit) = run(&net, "ledger audit");
    assert_eq!(audit["is_sound"], true, "{audit}");

    // A payer whose channel was moved leaves without the provider.
    net.dev.node.kill().expect("the node dies");
    let channel = moved.moves[0].channel;
    let payer = payers.iter().find(|payer| payer.channel == channel).expect("ours");
    let refund = 2_000_000_000 - payer.cumulative;
    assert_eq!(run(&net, &format!("channel exit --channel {channel}")).0, 4);
    net.dev.anvil.advance_secs(86_401).expect("advanced");
    let (status, left) = run(&net, &format!("channel exit --channel {channel}"));
    assert_eq!((status, &left["ended_by"], &left["refunded"]), (0, &"own_proof".into(), &refund.to_string().into()), "{left}");
}
