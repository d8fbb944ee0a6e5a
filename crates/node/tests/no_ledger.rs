//! A node without a ledger: payments of HTTP 402, the admin listener, and nothing that a ledger needs.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::routing::get;
use millstream_engine::escrow::EscrowAnswer;
use millstream_node::{AdminPart, ChainSection, Node, NodeConfig, ServerSection};
use millstream_testkit::{Anvil, AnvilOptions, DEV_ACCOUNTS};
use millstream_types::{EscrowChannelId, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn config(directory: &Path, anvil: &Anvil) -> NodeConfig {
    let key = directory.join("operator.key");
    let secret: String = DEV_ACCOUNTS[4].secret.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&key, secret).expect("written");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("ours");
    NodeConfig {
        server: ServerSection {
            data_dir: directory.join("data"),
            listen: None,
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin_tokens_file: None,
            certificate: None,
            private_key: None,
        },
        chain: ChainSection {
            rpc_url: anvil.url(),
            chain_id: anvil.chain_id(),
            ledger: None,
            start_block: 0,
            confirmations: 1,
            poll_millis: 50,
            coin_nanos: 0,
            operator_key_file: key,
            operator_password_file: None,
            keys_dir: None,
        },
        billing: Default::default(),
        settlement: Default::default(),
        prover: Default::default(),
        limits: Default::default(),
        relay: Default::default(),
        escrows: Default::default(),
        policy: None,
    }
}

/// Status and body of an answer of the admin listener.
async fn ask(node: &Node, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(node.admin_listen()).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_shows_itself_takes_payments_and_stops() {
    let anvil = tokio::task::spawn_blocking(|| Anvil::spawn(&AnvilOptions::default())).await.expect("runs").expect("starts");
    let directory = tempfile::tempdir().expect("a directory");
    let config = config(directory.path(), &anvil);
    let node = Node::start(&config).await.expect("starts");
    assert_eq!((node.listen(), node.certificate_sha256()), (None, None));
    assert_eq!(node.submitter().account(), DEV_ACCOUNTS[4].address);

    let (status, body) = ask(&node, "/status").await;
    assert!(status == 200 && body.contains(r#""chain_id":31337"#) && !body.contains("ledger"), "{body}");
    let (status, body) = ask(&node, "/channels").await;
    assert!(status == 404 && body.contains("no_endpoint") && body.contains("without a ledger"), "{body}");
    assert_eq!(ask(&node, "/readyz").await.0, 200);

    // Another part of the process shows itself, once.
    let reads = Arc::new(AtomicBool::new(false));
    let part = || {
        let reads = Arc::clone(&reads);
        let waits_for = move || (!reads.load(Ordering::Relaxed)).then_some("the part reads");
        AdminPart { routes: Router::new().route("/part", get(async || "seen")), endpoints: Vec::new(), waits_for: Box::new(waits_for) }
    };
    node.mount(part()).expect("the first");
    node.mount(part()).expect_err("the second");
    node.register(|registry| registry.register("part", "A part", prometheus_client::metrics::counter::Counter::<u64>::default()));
    assert_eq!(ask(&node, "/part").await, (200, "seen".to_owned()));
    assert_eq!(ask(&node, "/elsewhere").await.0, 404);
    assert!(ask(&node, "/metrics").await.1.contains("millstream_part_total 0"));
    let (status, body) = ask(&node, "/readyz").await;
    assert!(status == 503 && body.contains("the part reads"), "{status}: {body}");
    reads.store(true, Ordering::Relaxed);
    assert_eq!(ask(&node, "/readyz").await.0, 200);

    let nobody = node.payments().channel(EscrowChannelId::from_bytes([7; 32])).await.expect("answered");
    assert!(matches!(nobody, EscrowAnswer::Rejected { .. }), "{nobody:?}");
    node.clock().saw(Timestamp::from_millis(1_000));
    node.stop().await.expect("stops");

    // The directory is its own, and stays one without a ledger.
    let again = Node::start(&config).await.expect("starts again");
    again.stop().await.expect("stops");
    let open = NodeConfig { server: ServerSection { listen: Some(([127, 0, 0, 1], 0).into()), ..config.server.clone() }, ..config };
    let error = Node::start(&open).await.err().expect("a listener for nobody").to_string();
    assert!(error.contains("server.listen"), "{error}");
}
