//! Asking a node to relay: through lost connections with the same bytes, and no trust in what it tells.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use millstream_chain::{DepositPurpose, RelayedDeposit, Revert, SignedDeposit};
use millstream_client::{BackoffOptions, Client, ClientOptions, RelayError, RelayStage, ServerTrust, StateDb, TransportOptions};
use millstream_transport::{ServerEndpoint, ServerIdentity};
use millstream_types::{Address, Amount, BlockNumber, ChainId, ChannelId, Hash256, LedgerId};
use millstream_wire::{DecodeError, ErrorCode, Kind, NodeMessage, PayerMessage, Refused, RelayPurpose, RelayWay, Relayed};
use tokio::task::JoinHandle;

fn channel() -> ChannelId {
    ChannelId::from_uid(&[7; 31])
}
const TRANSACTION: Hash256 = Hash256::from_bytes([9; 32]);

/// What a node does with one request.
#[derive(Clone)]
enum Deed {
    Say(Vec<NodeMessage>),
    /// Says that, and breaks the connection.
    SayAndDrop(Vec<NodeMessage>),
    CloseStream(ErrorCode),
}

struct FakeNode {
    client: Client,
    /// Kind and body of each request.
    heard: Arc<Mutex<Vec<Bytes>>>,
    _directory: tempfile::TempDir,
    task: JoinHandle<()>,
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn ledger() -> LedgerId {
    LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([1; 20]) }
}

fn deposit() -> RelayedDeposit {
    let purpose = DepositPurpose::TopUp { channel: channel(), base_units: 5, salt: [3; 32] };
    let signed = SignedDeposit::Permit2 { nonce: [4; 32], deadline_secs: 6, signature: vec![8; 65] };
    RelayedDeposit { funder: Address::from_bytes([2; 20]), purpose, signed }
}

/// A node that does these deeds, one for each request.
async fn node(deeds: Vec<Deed>) -> FakeNode {
    let directory = tempfile::tempdir().expect("a directory");
    let identity = ServerIdentity::load_or_generate(directory.path()).expect("an identity");
    let server = ServerEndpoint::bind(([127, 0, 0, 1], 0).into(), identity, &TransportOptions::loopback()).expect("a socket");
    let (address, trust) = (server.local_address().expect("an address"), ServerTrust::Pinned(server.fingerprint()));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let task = tokio::spawn(serve(server, deeds, Arc::clone(&heard)));
    let state = StateDb::open(&directory.path().join("state")).expect("a state");
    let backoff = BackoffOptions { first: Duration::from_millis(1), longest: Duration::from_millis(20) };
    let options = ClientOptions { transport: TransportOptions::loopback(), backoff, ..ClientOptions::new(address, trust) };
    let client = Client::connect(state, options).await.expect("connected");
    FakeNode { client, heard, _directory: directory, task }
}

async fn serve(server: ServerEndpoint, deeds: Vec<Deed>, heard: Arc<Mutex<Vec<Bytes>>>) {
    let mut deeds = deeds.into_iter();
    while let Some(incoming) = server.accept().await {
        let Ok(connection) = incoming.handshake().await else { continue };
        while let Ok(mut stream) = connection.accept_channel().await {
            let Ok(Some(message)) = stream.reader.next().await else { continue };
            heard.lock().expect("no panic").push(message);
            let (messages, is_last) = match deeds.next().expect("a deed for each request") {
                Deed::Say(messages) => (messages, false),
                Deed::SayAndDrop(messages) => (messages, true),
                Deed::CloseStream(code) => {
                    stream.close(code);
                    continue;
                }
            };
            for message in messages {
                stream.writer.queue_node(&message).expect("a message");
            }
            stream.writer.flush().await.expect("written");
            stream.writer.finish();
            if is_last {
                let _ = stream.writer.stopped().await;
                connection.close(Some(ErrorCode::ShuttingDown), "told to");
            }
        }
    }
}

fn relayed(stage: RelayStage) -> NodeMessage {
    NodeMessage::Relayed(Relayed { channel: channel(), stage })
}

fn confirmed() -> NodeMessage {
    relayed(RelayStage::Confirmed { transaction: TRANSACTION, block: BlockNumber::new(11), deposit: Amount::from_nanos(12) })
}

#[tokio::test]
async fn a_lost_connection_is_asked_again_with_the_same_bytes() {
    let sent = relayed(RelayStage::Sent { transaction: TRANSACTION });
    let node = node(vec![
        Deed::SayAndDrop(vec![relayed(RelayStage::Accepted)]),
        Deed::Say(vec![relayed(RelayStage::Accepted)]),
        Deed::CloseStream(ErrorCode::ShuttingDown),
        Deed::Say(vec![NodeMessage::Refused(Box::new(Refused::new(ErrorCode::ShuttingDown)))]),
        Deed::Say(vec![sent, confirmed()]),
    ])
    .await;
    let mut stages = Vec::new();
    let outcome = node.client.relay(ledger(), &deposit(), |stage| stages.push(stage)).await.expect("relayed");
    assert_eq!((outcome.channel, outcome.transaction, outcome.deposit), (channel(), TRANSACTION, Amount::from_nanos(12)));
    assert_eq!(stages.last().copied().map(|stage| matches!(stage, RelayStage::Confirmed { .. })), Some(true));
    let heard = node.heard.lock().expect("no panic").clone();
    assert_eq!(heard.len(), 5);
    assert!(heard.iter().all(|message| *message == heard[0]));
    let PayerMessage::Relay(relay) = PayerMessage::decode(heard[0].clone()).expect("decodes") else { panic!("a relay") };
    assert_eq!((relay.ledger, relay.funder, relay.base_units), (ledger(), Address::from_bytes([2; 20]), Amount::from_units(5)));
    assert_eq!(relay.purpose, RelayPurpose::TopUp { channel: channel(), salt: [3; 32] });
    assert_eq!((relay.way, relay.signature), (RelayWay::Permit2 { nonce: [4; 32], deadline_secs: 6 }, vec![8; 65]));
}

#[tokio::test]
async fn a_refusal_is_told_whole_and_strange_answers_are_refused() {
    let revert = Revert::Message("no".to_owned());
    let refused = Refused {
        retry_after_secs: 90,
        bound: 20,
        transaction: TRANSACTION,
        revert: revert.to_bytes(),
        ..Refused::new(ErrorCode::RelayReverted)
    };
    let other = ChannelId::from_uid(&[8; 31]);
    let stranger = NodeMessage::Relayed(Relayed { channel: other, stage: RelayStage::Accepted });
    let ack = NodeMessage::Reject(millstream_wire::Reject::unattached(ErrorCode::NotAttached, 0));
    let node = node(vec![
        Deed::Say(vec![relayed(RelayStage::Accepted), NodeMessage::Refused(Box::new(refused))]),
        Deed::Say(vec![stranger]),
        Deed::Say(vec![ack]),
        Deed::CloseStream(ErrorCode::Malformed),
    ])
    .await;
    let ask = async || node.client.relay(ledger(), &deposit(), |_| {}).await.expect_err("refused");
    match ask().await {
        RelayError::Refused { code, retry_after, bound, transaction, revert: reason } => {
            assert_eq!((code, retry_after, bound), (ErrorCode::RelayReverted, Some(Duration::from_secs(90)), Some(20)));
            assert_eq!((transaction, reason.as_deref()), (Some(TRANSACTION), Some(&revert)));
        }
        other => panic!("{other}"),
    }
    assert!(matches!(ask().await, RelayError::AnotherChannel { actual, .. } if actual == other));
    assert!(matches!(ask().await, RelayError::Refused { code: ErrorCode::NotAttached, .. }));
    assert!(matches!(ask().await, RelayError::Closed { code: ErrorCode::Malformed }));
    assert!(!RelayError::Protocol(DecodeError::Misplaced { kind: Kind::Ack }).is_retryable());
}
