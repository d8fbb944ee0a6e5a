//! Both ends on one machine, on ports the system picks.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use millstream_transport::{
    ClientEndpoint, CloseCode, ConnectError, Connection, ConnectionLost, EndpointError, Fingerprint, IDENTITY_FILE, IdentityError,
    LOOPBACK_MTU, ServerEndpoint, ServerIdentity, ServerTrust, StreamError, TransportOptions,
};
use millstream_types::{CumulativeAmount, EpochId};
use millstream_wire::{Ack, DecodeError, ErrorCode, NodeMessage, PAYER_MESSAGE_BYTES_MAX};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn options() -> TransportOptions {
    TransportOptions { channels_per_connection: 4, ..TransportOptions::loopback() }
}

fn server_in(directory: &Path) -> (ServerEndpoint, SocketAddr) {
    let identity = ServerIdentity::load_or_generate(directory).expect("an identity");
    let server = ServerEndpoint::bind(LOOPBACK, identity, &options()).expect("binds");
    let address = server.local_address().expect("an address");
    (server, address)
}

async fn pair(directory: &Path) -> (ServerEndpoint, ClientEndpoint, Connection, Connection) {
    let (server, address) = server_in(directory);
    let client = ClientEndpoint::bind_for(address, options()).expect("binds");
    let trust = ServerTrust::Pinned(server.fingerprint());
    let accept = async { server.accept().await.expect("a payer").handshake().await.expect("shakes hands") };
    let (at_client, at_server) = tokio::join!(client.connect(address, "ignored", &trust), accept);
    (server, client, at_client.expect("connects"), at_server)
}

fn ack(number: u64) -> NodeMessage {
    NodeMessage::Ack(Ack { lines_total: number, cumulative: CumulativeAmount::from_nanos(number), commit: number, epoch: EpochId::new(0) })
}

/// A message of `length` bytes, its length before it.
fn message(length: usize, fill: u8) -> Bytes {
    let mut bytes = BytesMut::from(&u32::try_from(length).expect("short").to_be_bytes()[..]);
    bytes.resize(4 + length, fill);
    bytes.freeze()
}

#[tokio::test]
async fn messages_of_every_size_arrive_whole_and_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_server, _client, payer, node) = pair(directory.path()).await;
    let sizes: Vec<usize> = (1..40).chain([1_400, 6_277, 24_709, PAYER_MESSAGE_BYTES_MAX, 1, 33]).collect();

    let echo = async {
        let mut stream = node.accept_channel().await.expect("a stream");
        let mut count = 0;
        while let Some(received) = stream.reader.next().await.expect("a message") {
            assert_eq!(received.len(), sizes[count]);
            assert!(received.iter().all(|byte| usize::from(*byte) == count % 251));
            count += 1;
            stream.writer.queue_node(&ack(received.len() as u64)).expect("encodes");
            stream.writer.flush().await.expect("writes");
        }
        stream.writer.finish();
        stream.writer.stopped().await.expect("read to the end");
        count
    };
    let send = async {
        let mut stream = payer.open_channel().await.expect("a stream");
        for (index, size) in sizes.iter().enumerate() {
            stream.writer.queue_encoded(message(*size, u8::try_from(index % 251).expect("small")));
        }
        assert!(!stream.writer.is_empty());
        stream.writer.flush().await.expect("writes");
        assert!(stream.writer.is_empty());
        stream.writer.finish();
        let mut answers = Vec::new();
        while let Some(answer) = stream.reader.next().await.expect("an answer") {
            match NodeMessage::decode(&answer).expect("decodes") {
                NodeMessage::Ack(ack) => answers.push(ack.lines_total as usize),
                other => panic!("{other:?}"),
            }
        }
        answers
    };
    let (count, answers) = tokio::join!(echo, send);
    assert_eq!((count, answers), (sizes.len(), sizes));
}

#[tokio::test]
async fn an_oversized_message_closes_its_stream_with_code_2_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_server, _client, payer, node) = pair(directory.path()).await;
    let mut bad = payer.open_channel().await.expect("a stream");
    bad.writer.queue_encoded(message(PAYER_MESSAGE_BYTES_MAX + 1, 7));
    // The node may stop the stream before all of it is written.
    let _ = bad.writer.flush().await;

    let mut at_node = node.accept_channel().await.expect("a stream");
    let error = at_node.reader.next().await.expect_err("too long");
    let expected = DecodeError::Oversized { max: PAYER_MESSAGE_BYTES_MAX, actual: PAYER_MESSAGE_BYTES_MAX + 1 };
    assert_eq!(error, StreamError::Message(expected));
    at_node.close(expected.code());
    let closed = StreamError::ClosedByPeer { code: CloseCode::Error(ErrorCode::Oversized) };
    assert_eq!(bad.reader.next().await, Err(closed.clone()));
    assert_eq!(bad.writer.stopped().await, Err(closed));

    let mut good = payer.open_channel().await.expect("another stream");
    good.writer.queue_encoded(message(5, 9));
    good.writer.flush().await.expect("writes");
    let mut at_node = node.accept_channel().await.expect("another stream");
    assert_eq!(at_node.reader.next().await.expect("a message").expect("not the end").as_ref(), [9; 5]);
    assert_eq!(payer.close_reason(), None);
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_message_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_server, _client, payer, node) = pair(directory.path()).await;
    let mut stream = payer.open_channel().await.expect("a stream");
    stream.writer.queue_encoded(message(5, 9).slice(..7));
    stream.writer.flush().await.expect("writes");
    stream.writer.finish();
    let mut at_node = node.accept_channel().await.expect("a stream");
    assert_eq!(at_node.reader.next().await, Err(StreamError::Truncated { bytes: 7 }));
}

#[tokio::test]
async fn another_certificate_than_the_pinned_one_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let (server, address) = server_in(directory.path());
    let client = ClientEndpoint::bind_for(address, options()).expect("binds");
    let expected = Fingerprint::from_bytes([1; 32]);
    let accept = async { server.accept().await.expect("a payer").handshake().await };
    let trust = ServerTrust::Pinned(expected);
    let (at_client, at_server) = tokio::join!(client.connect(address, "localhost", &trust), accept);
    assert_eq!(at_client.expect_err("refused"), ConnectError::FingerprintMismatch { expected, actual: server.fingerprint() });
    assert!(matches!(at_server, Err(ConnectError::Lost(_))), "{at_server:?}");
}

#[tokio::test]
async fn roots_from_a_file_are_checked_with_the_host_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let (server, address) = server_in(directory.path());
    let client = ClientEndpoint::bind_for(address, options()).expect("binds");
    let trust = ServerTrust::from_root_file(&directory.path().join(IDENTITY_FILE)).expect("roots");

    let accept = async { server.accept().await.expect("a payer").handshake().await };
    let (good, _) = tokio::join!(client.connect(address, "localhost", &trust), accept);
    assert!(good.is_ok(), "{good:?}");
    let accept = async { server.accept().await.expect("a payer").handshake().await };
    let (bad, _) = tokio::join!(client.connect(address, "elsewhere.example", &trust), accept);
    assert!(matches!(bad, Err(ConnectError::Untrusted { .. })), "{bad:?}");

    let other = tempfile::tempdir().expect("a directory");
    ServerIdentity::load_or_generate(other.path()).expect("an identity");
    let trust = ServerTrust::from_root_file(&other.path().join(IDENTITY_FILE)).expect("roots");
    let accept = async { server.accept().await.expect("a payer").handshake().await };
    let (bad, _) = tokio::join!(client.connect(address, "localhost", &trust), accept);
    assert!(matches!(bad, Err(ConnectError::Untrusted { .. })), "{bad:?}");
    let name = client.connect(address, "not a name", &trust).await;
    assert_eq!(name.expect_err("refused"), ConnectError::Name { name: "not a name".to_owned() });
}

#[tokio::test]
async fn a_node_that_refuses_or_closes_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let (server, client, payer, _node) = pair(directory.path()).await;
    let address = server.local_address().expect("an address");
    let refuse = async { server.accept().await.expect("a payer").refuse() };
    let trust = ServerTrust::Pinned(server.fingerprint());
    let (refused, ()) = tokio::join!(client.connect(address, "", &trust), refuse);
    assert_eq!(refused.expect_err("refused"), ConnectError::Refused);

    server.close(Some(ErrorCode::ShuttingDown), "maintenance");
    let code = CloseCode::Error(ErrorCode::ShuttingDown);
    assert_eq!(payer.closed().await, ConnectionLost::PeerClosed { code, reason: "maintenance".to_owned() });
    assert!(matches!(payer.open_channel().await, Err(StreamError::Lost(ConnectionLost::PeerClosed { .. }))));
    assert!(server.accept().await.is_none());
    server.wait_idle().await;
}

#[tokio::test]
async fn a_client_that_leaves_closes_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_server, client, _payer, node) = pair(directory.path()).await;
    client.close();
    client.wait_idle().await;
    assert_eq!(node.closed().await, ConnectionLost::PeerClosed { code: CloseCode::Orderly, reason: String::new() });
    assert!(node.accept_channel().await.is_err());
}

#[tokio::test]
async fn a_connection_has_only_so_many_channels() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_server, _client, payer, _node) = pair(directory.path()).await;
    let mut streams = Vec::new();
    for _ in 0..options().channels_per_connection {
        streams.push(payer.open_channel().await.expect("within the limit"));
    }
    tokio::time::pause();
    assert_eq!(payer.open_channel().await.expect_err("over it"), StreamError::TooManyStreams);
}

#[test]
fn an_identity_is_made_once_and_kept_private() {
    let directory = tempfile::tempdir().expect("a directory");
    let nested = directory.path().join("node").join("tls");
    let first = ServerIdentity::load_or_generate(&nested).expect("made").fingerprint();
    assert_eq!(ServerIdentity::load_or_generate(&nested).expect("loaded").fingerprint(), first);
    let file = nested.join(IDENTITY_FILE);
    assert_eq!(ServerIdentity::from_pem_files(&file, &file).expect("loaded").fingerprint(), first);
    assert_eq!(std::fs::read_dir(&nested).expect("a directory").count(), 1);

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("ours");
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        mode(0o640);
        let error = ServerIdentity::load_or_generate(&nested).expect_err("readable by others");
        assert!(matches!(error, IdentityError::Permissions { mode: 0o640, .. }), "{error:?}");
        mode(0o600);
    }
    std::fs::write(&file, "nothing").expect("ours");
    assert!(matches!(ServerIdentity::load_or_generate(&nested), Err(IdentityError::NoCertificate { .. })));
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let identity = || ServerIdentity::load_or_generate(directory.path()).expect("an identity");
    let too_large = TransportOptions { mtu_upper_bound: Some(9_000), ..TransportOptions::default() };
    let error = ServerEndpoint::bind(LOOPBACK, identity(), &too_large).expect_err("refused");
    assert!(matches!(error, EndpointError::Mtu { max: LOOPBACK_MTU, actual: 9_000 }), "{error}");
    let (_server, address) = server_in(directory.path());
    let error = ServerEndpoint::bind(address, identity(), &TransportOptions::default()).expect_err("taken");
    assert!(matches!(error, EndpointError::Bind { .. }), "{error}");
}

#[tokio::test]
async fn a_payer_that_is_asked_to_validate_comes_back_validated() {
    let directory = tempfile::tempdir().expect("a directory");
    let (server, address) = server_in(directory.path());
    let client = ClientEndpoint::bind_for(address, options()).expect("binds");
    let trust = ServerTrust::Pinned(server.fingerprint());
    let accept = async {
        let first = server.accept().await.expect("a payer");
        assert!(!first.is_validated());
        first.ask_to_validate();
        let second = server.accept().await.expect("the same payer");
        assert!(second.is_validated());
        second.handshake().await.expect("shakes hands")
    };
    let (connected, _accepted) = tokio::join!(client.connect(address, "ignored", &trust), accept);
    connected.expect("connects");
}

/// Passes datagrams between a payer and whichever server is behind it now, so that a server can vanish without a goodbye.
async fn relay(socket: tokio::net::UdpSocket, server: tokio::sync::watch::Receiver<Option<SocketAddr>>) {
    let (mut payer, mut buffer) = (None, vec![0; 65_536]);
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { return };
        let behind = *server.borrow();
        let to = if Some(from) == behind {
            payer
        } else if from != LOOPBACK && payer.is_none_or(|payer| payer == from) {
            payer = Some(from);
            behind
        } else {
            // A server that is no longer behind the relay.
            None
        };
        if let Some(to) = to {
            // A lost datagram is what networks do.
            let _ = socket.send_to(&buffer[..length], to).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_starts_again_tells_payers_that_their_connections_are_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    let plain = TransportOptions { mtu_upper_bound: None, ..options() };
    let start = || {
        let identity = ServerIdentity::load_or_generate(directory.path()).expect("an identity");
        let server = ServerEndpoint::bind(LOOPBACK, identity, &plain).expect("binds");
        let address = server.local_address().expect("an address");
        (server, address)
    };
    let (first, first_address) = start();
    let middle = tokio::net::UdpSocket::bind(LOOPBACK).await.expect("binds");
    let address = middle.local_addr().expect("an address");
    let (behind, watched) = tokio::sync::watch::channel(Some(first_address));
    tokio::spawn(relay(middle, watched));

    let client = ClientEndpoint::bind_for(address, plain).expect("binds");
    let trust = ServerTrust::Pinned(first.fingerprint());
    let accept = async { first.accept().await.expect("a payer").handshake().await.expect("shakes hands") };
    let (payer, _node) = tokio::join!(client.connect(address, "ignored", &trust), accept);
    let payer = payer.expect("connects");

    // The first one is cut off, and another process with the same identity takes its place.
    let (_second, second_address) = start();
    behind.send_replace(Some(second_address));
    let mut stream = payer.open_channel().await.expect("a stream");
    stream.writer.queue_encoded(message(200, 7));
    // The payer notices while it waits for an answer.
    let _ = stream.writer.flush().await;
    let lost = tokio::time::timeout(std::time::Duration::from_secs(5), payer.closed()).await.expect("long before the idle timeout");
    assert_eq!(lost, ConnectionLost::Reset);
}
