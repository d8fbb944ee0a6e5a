//! A reorganisation deeper than the confirmations takes deposits back: what relied on them is frozen until the chain has them again.

mod common;

use common::{Net, RawPayer, secret};
use millstream_chain::{ChainKey, OpenRequest, Payer, Rpc, RpcOptions, Submitter, SubmitterOptions, VoucherKeyWitness};
use millstream_testkit::DEV_ACCOUNTS;
use millstream_wire::{ChannelStatus, ErrorCode, NodeMessage, PayerMessage};

async fn status(payer: &mut RawPayer) -> ChannelStatus {
    match payer.attach().await {
        NodeMessage::Snapshot(snapshot) => snapshot.status,
        other => panic!("not a snapshot: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_that_the_chain_takes_back_freezes_its_channel() {
    let net = Net::start().await;
    let opening = net.open(&secret(1), 1, 1_000_000).await;
    let connection = net.connect().await;
    let mut payer = RawPayer::new(&connection, secret(1), net.dev.ledger.id(), opening.channel).await;
    assert_eq!(status(&mut payer).await, ChannelStatus::Open);
    payer.pay(&[500]).await;

    // The block of the opening is gone.
    net.dev.anvil.reorg(1).expect("anvil reorganises");
    net.wait_for("the node to freeze the channel", async || net.admin.status().await.expect("status").channels.frozen == 1)
        .await;
    assert_eq!(status(&mut payer).await, ChannelStatus::Frozen);
    let frame = payer.frame(&[1], |_| {});
    match payer.say(&PayerMessage::Frame(frame)).await {
        NodeMessage::Reject(reject) => assert_eq!(reject.code, ErrorCode::ChannelFrozen),
        other => panic!("not a rejection: {other:?}"),
    }

    // The payer opens it again: the same payer, key and salt are the same channel, and what was paid before still counts.
    let rpc = Rpc::connect(&net.dev.anvil.url(), RpcOptions::default()).await.expect("the chain answers");
    let key = ChainKey::from_bytes(&DEV_ACCOUNTS[3].secret).expect("a key");
    let buyer = Payer::new(net.dev.ledger.clone(), Submitter::new(rpc, key, SubmitterOptions::for_development()));
    let witness = secret(1).witness();
    let key = VoucherKeyWitness { x: secret(1).public_key().x(), qx: witness.x, qy: witness.y };
    let again = buyer.open(&OpenRequest { key, salt: [1; 32], deposit_base_units: 1_000_000 }).await.expect("the channel opens again");
    assert_eq!(again.channel, opening.channel);
    net.wait_for("the node to thaw the channel", async || net.admin.status().await.expect("status").channels.frozen == 0)
        .await;
    assert_eq!(status(&mut payer).await, ChannelStatus::Open);
    payer.pay(&[1]).await;
    let run = net.admin.settle_run().await.expect("the settlement runs");
    assert_eq!(run.settled_total.units(), 501);
}
