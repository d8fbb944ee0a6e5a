//! A development network for end-to-end tests: real chain, real node, real proofs.

#![allow(dead_code, reason = "each test uses a part")]

use std::path::PathBuf;

use bytes::BytesMut;
use millstream_billing::{FrameTree, Line, genesis_head, next_head};
use millstream_chain::{OpenRequest, Opening, Payer, VoucherKeyWitness};
use millstream_cli::admin::Admin;
use millstream_cli::dev::{Dev, DevOptions};
use millstream_transport::{ChannelStream, ClientEndpoint, Connection, Fingerprint, ServerTrust, TransportOptions};
use millstream_types::{Amount, BillHead, ChannelId, CumulativeAmount, LedgerId, Reference};
use millstream_voucher::{SecretKey, SignedVoucher, VoucherBody};
use millstream_wire::{Attach, FrameMessage, NodeMessage, PayerMessage};
use tempfile::TempDir;

/// A network in a directory of its own.
pub struct Net {
    pub dev: Dev,
    pub admin: Admin,
    pub payer: Payer,
    pub directory: TempDir,
}

impl Net {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut DevOptions)) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let mut options = DevOptions::new(directory.path().to_owned()).expect("options");
        change(&mut options);
        options.binary = PathBuf::from(env!("CARGO_BIN_EXE_millstream"));
        let dev = Dev::start(options, |_| {}).await.expect("a development network");
        let admin = Admin::new(&dev.info().admin_url).expect("an admin address");
        let payer = Payer::new(dev.ledger.clone(), dev.buyer.clone());
        Self { dev, admin, payer, directory }
    }

    /// Opens a channel with a deposit in base units, and waits until the node has seen it.
    pub async fn open(&self, secret: &SecretKey, salt: u8, base_units: u128) -> Opening {
        let witness = secret.witness();
        let key = VoucherKeyWitness { x: secret.public_key().x(), qx: witness.x, qy: witness.y };
        let request = OpenRequest { key, salt: [salt; 32], deposit_base_units: base_units };
        let opening = self.payer.open(&request).await.expect("the channel opens");
        self.wait_for("the node to see the channel", async || {
            self.admin.channels().await.expect("channels").iter().any(|channel| channel.channel == opening.channel)
        })
        .await;
        opening
    }

    /// Polls until something is true.
    pub async fn wait_for(&self, what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !condition().await {
            assert!(std::time::Instant::now() < deadline, "waited too long for {what}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    pub async fn connect(&self) -> Connection {
        let info = self.dev.info();
        let fingerprint = self.dev.node.listening().certificate_sha256.parse::<Fingerprint>().expect("a fingerprint");
        let endpoint = ClientEndpoint::bind_for(info.node, TransportOptions::loopback()).expect("a socket");
        endpoint.connect(info.node, "localhost", &ServerTrust::Pinned(fingerprint)).await.expect("the node answers")
    }
}

pub fn secret(seed: u8) -> SecretKey {
    SecretKey::from_entropy(&[seed; 64]).expect("a key")
}

/// A payer that speaks the wire by hand, so that it can also speak it wrongly.
pub struct RawPayer {
    pub secret: SecretKey,
    pub ledger: LedgerId,
    pub channel: ChannelId,
    pub lines_total: u64,
    pub cumulative: u64,
    pub head: BillHead,
    pub stream: ChannelStream,
}

impl RawPayer {
    pub async fn new(connection: &Connection, secret: SecretKey, ledger: LedgerId, channel: ChannelId) -> Self {
        let stream = connection.open_channel().await.expect("a stream");
        Self { secret, ledger, channel, lines_total: 0, cumulative: 0, head: genesis_head(&channel), stream }
    }

    pub fn body(&self) -> VoucherBody {
        VoucherBody {
            channel: self.channel,
            lines_total: self.lines_total,
            cumulative: CumulativeAmount::from_nanos(self.cumulative),
            bill_head: self.head,
        }
    }

    pub fn sign(&self, body: VoucherBody) -> SignedVoucher {
        *self.secret.sign(body).expect("64 bits").signed()
    }

    pub async fn say(&mut self, message: &PayerMessage) -> NodeMessage {
        self.stream.writer.queue_payer(message).expect("a message");
        self.stream.writer.flush().await.expect("the stream takes it");
        self.hear().await
    }

    pub async fn say_bytes(&mut self, bytes: &[u8]) {
        self.stream.writer.queue_encoded(BytesMut::from(bytes).freeze());
        self.stream.writer.flush().await.expect("the stream takes it");
    }

    pub async fn hear(&mut self) -> NodeMessage {
        let message = self.stream.reader.next().await.expect("the stream lives").expect("an answer");
        NodeMessage::decode(&message).expect("a message")
    }

    pub async fn attach(&mut self) -> NodeMessage {
        let voucher = self.sign(self.body());
        self.say(&PayerMessage::Attach(Attach { ledger: self.ledger, voucher })).await
    }

    /// The next frame of these amounts; `twist` may change what is signed.
    pub fn frame(&self, amounts: &[u64], twist: impl FnOnce(&mut VoucherBody)) -> FrameMessage {
        let lines = lines(amounts);
        let root = FrameTree::new(&lines).expect("lines").root();
        let mut body = self.body();
        body.lines_total += amounts.len() as u64;
        let cumulative = self.cumulative + amounts.iter().sum::<u64>();
        body.cumulative = CumulativeAmount::from_nanos(cumulative);
        body.bill_head = next_head(&self.head, &root, body.lines_total, cumulative);
        twist(&mut body);
        FrameMessage::new(self.sign(body), &lines).expect("a frame")
    }

    /// Pays honestly, and remembers it once it is acknowledged.
    pub async fn pay(&mut self, amounts: &[u64]) {
        let frame = self.frame(amounts, |_| {});
        let body = *frame.voucher().body();
        let answer = self.say(&PayerMessage::Frame(frame)).await;
        let NodeMessage::Ack(ack) = answer else { panic!("not an ack: {answer:?}") };
        assert_eq!((ack.lines_total, ack.cumulative), (body.lines_total, body.cumulative));
        (self.lines_total, self.head) = (body.lines_total, body.bill_head);
        self.cumulative = body.cumulative.to_u64().expect("64 bits");
    }
}

pub fn lines(amounts: &[u64]) -> Vec<Line> {
    let line = |amount: &u64| Line { amount: Amount::from_nanos(*amount), reference: Reference::from_bytes([3; 16]), digest: None };
    amounts.iter().map(line).collect()
}
