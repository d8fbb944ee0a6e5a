//! A node whose record of what it acknowledged is gone refuses to start, says what to do, and starts once that was done.

mod common;

use std::process::Command;

use common::{Net, RawPayer, secret};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_its_acknowledged_head_is_repaired_by_hand() {
    let mut net = Net::start().await;
    let opening = net.open(&secret(1), 1, 1_000_000).await;
    let connection = net.connect().await;
    let mut payer = RawPayer::new(&connection, secret(1), net.dev.ledger.id(), opening.channel).await;
    payer.attach().await;
    payer.pay(&[7]).await;
    net.dev.node.stop().expect("the node stops");

    let head = net.directory.path().join("node/db/head");
    std::fs::remove_file(&head).expect("the record is there");
    let refused = net.dev.node.restart().expect_err("the node must not start").to_string();
    assert!(refused.contains("--accept-database-head"), "{refused}");

    let output = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["node", "--accept-database-head", "--config"])
        .arg(net.dev.info().node_config)
        .output()
        .expect("the command runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    net.dev.node.restart().expect("the node starts");
    let channels = net.admin.channels().await.expect("channels");
    assert_eq!((channels[0].lines, channels[0].accepted.units()), (1, 7));
}
