//! A node that speaks the wire and keeps what it accepts in memory, and does what a test tells it to at each message.

#![allow(dead_code, reason = "each test target uses a part")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_billing::{Line, genesis_head, next_head};
use millstream_client::{
    BackoffOptions, Client, ClientOptions, Event, Observer, PayOptions, ServerTrust, StateDb, StoredKey, TransportOptions,
};
use millstream_transport::{ChannelStream, Connection, ServerEndpoint, ServerIdentity};
use millstream_types::{Address, Amount, BillHead, ChainId, ChannelId, CumulativeAmount, EpochId, LedgerId, Reference};
use millstream_voucher::{ChannelTerms, PublicKey, SecretKey, SignedVoucher, VoucherBody};
use millstream_wire::{Ack, ChannelStatus, ErrorCode, FrameMessage, Limits, NodeMessage, PayerMessage, Reject, Snapshot};
use tokio::task::JoinSet;

/// What a node is told to do with a message.
#[derive(Clone, Debug)]
pub enum Deed {
    /// What the specification says.
    Honest,
    /// Close the connection before looking at the message.
    Drop,
    /// Accept the message, and close the connection before answering.
    AcceptAndDrop,
    /// Accept the message and say nothing.
    Silent,
    /// Leave the message alone and say nothing.
    Ignore,
    /// Reject it.
    Reject(ErrorCode),
    /// Close the stream with a code.
    CloseStream(ErrorCode),
    /// Answer with this.
    Say(NodeMessage),
}

/// What a node is looking at.
pub enum Seen<'a> {
    /// The n-th attach of this node, from 1, of a channel.
    Attach(usize, ChannelId),
    /// The n-th frame of this node, from 1, sent again or not.
    Frame(usize, &'a FrameMessage),
}

pub type Script = Box<dyn FnMut(&Seen<'_>) -> Deed + Send>;

/// A channel as the node knows it.
#[derive(Clone)]
pub struct Book {
    pub key: PublicKey,
    pub deposit: u64,
    pub accepted: Option<SignedVoucher>,
    pub status: ChannelStatus,
    /// The lines accepted, in order.
    pub lines: Vec<Line>,
}

impl Book {
    fn totals(&self, channel: ChannelId) -> VoucherBody {
        self.accepted.as_ref().map_or_else(
            || VoucherBody { channel, lines_total: 0, cumulative: CumulativeAmount::ZERO, bill_head: genesis_head(&channel) },
            |voucher| *voucher.body(),
        )
    }
}

pub struct Node {
    pub books: BTreeMap<ChannelId, Book>,
    pub limits: Limits,
    /// Every frame received, with the bytes it had.
    pub received: Vec<FrameMessage>,
    attaches: usize,
    script: Script,
    connections: Vec<Connection>,
    arrived: Arc<tokio::sync::Notify>,
}

pub type Shared = Arc<Mutex<Node>>;

pub struct FakeNode {
    pub node: Shared,
    pub address: SocketAddr,
    pub trust: ServerTrust,
    server: ServerEndpoint,
    _tasks: JoinSet<()>,
}

pub const DEPOSIT: u64 = 1_000_000_000;

pub fn secret(number: u8) -> SecretKey {
    SecretKey::from_entropy(&[number; 64]).expect("a key")
}

pub fn terms(number: u8) -> ChannelTerms {
    let ledger = LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([2; 20]) };
    ChannelTerms { ledger, payer: Address::from_bytes([3; 20]), key_x: secret(number).public_key().x(), salt: [number; 32] }
}

pub fn honest() -> Script {
    Box::new(|_| Deed::Honest)
}

impl FakeNode {
    /// A node with channels 1 to `channels`.
    pub fn start(channels: u8, script: Script) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let identity = ServerIdentity::load_or_generate(directory.path()).expect("an identity");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = ServerEndpoint::bind(any, identity, &TransportOptions::loopback()).expect("binds");
        let books = (1..=channels).map(|number| {
            let key = secret(number).public_key();
            let book = Book { key, deposit: DEPOSIT, accepted: None, status: ChannelStatus::Open, lines: Vec::new() };
            (terms(number).uid(), book)
        });
        let limits = Limits { frame_bytes_max: 32_768, frame_lines_max: 1_024, frames_in_flight_max: 16, idle_timeout_secs: 60 };
        let node = Node {
            books: books.collect(),
            limits,
            received: Vec::new(),
            attaches: 0,
            script,
            connections: Vec::new(),
            arrived: Arc::default(),
        };
        let node = Arc::new(Mutex::new(node));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(server.clone(), Arc::clone(&node)));
        let address = server.local_address().expect("an address");
        Self { node, address, trust: ServerTrust::Pinned(server.fingerprint()), server, _tasks: tasks }
    }

    pub fn options(&self) -> ClientOptions {
        let backoff = BackoffOptions { first: Duration::from_millis(1), longest: Duration::from_millis(20) };
        let transport = TransportOptions::loopback();
        ClientOptions { transport, backoff, ..ClientOptions::new(self.address, self.trust.clone()) }
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut Node) -> T) -> T {
        change(&mut self.node.lock().expect("no panic"))
    }

    pub fn book(&self, number: u8) -> Book {
        self.change(|node| node.books[&terms(number).uid()].clone())
    }

    pub fn set_script(&self, script: Script) {
        self.change(|node| node.script = script);
    }

    /// Breaks every connection; new ones are taken.
    pub fn drop_connections(&self) {
        for connection in self.change(|node| std::mem::take(&mut node.connections)) {
            connection.close(Some(ErrorCode::ShuttingDown), "told to");
        }
    }

    /// Waits until so many frames were received.
    pub async fn received(&self, count: usize) {
        let arrived = self.change(|node| Arc::clone(&node.arrived));
        while self.change(|node| node.received.len()) < count {
            arrived.notified().await;
        }
    }

    pub fn close(&self) {
        self.server.close(Some(ErrorCode::ShuttingDown), "");
    }
}

async fn accept(server: ServerEndpoint, node: Shared) {
    let mut connections = JoinSet::new();
    while let Some(incoming) = server.accept().await {
        let node = Arc::clone(&node);
        connections.spawn(async move {
            if let Ok(connection) = incoming.handshake().await {
                serve(connection, node).await;
            }
        });
    }
}

async fn serve(connection: Connection, node: Shared) {
    let mut streams = JoinSet::new();
    node.lock().expect("no panic").connections.push(connection.clone());
    while let Ok(stream) = connection.accept_channel().await {
        streams.spawn(converse(connection.clone(), stream, Arc::clone(&node)));
    }
}

async fn converse(connection: Connection, mut stream: ChannelStream, node: Shared) {
    let mut attached = None;
    while let Ok(Some(message)) = stream.reader.next().await {
        let message = PayerMessage::decode(message).expect("a payer sends what parses");
        let (deed, answer) = node.lock().expect("no panic").judge(&message, &mut attached);
        match deed {
            Deed::Drop | Deed::AcceptAndDrop => return connection.close(Some(ErrorCode::ShuttingDown), "told to"),
            Deed::CloseStream(code) => return stream.close(code),
            Deed::Silent | Deed::Ignore => {}
            Deed::Honest | Deed::Reject(_) | Deed::Say(_) => {
                stream.writer.queue_node(&answer).expect("encodes");
                if stream.writer.flush().await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Node {
    fn judge(&mut self, message: &PayerMessage, attached: &mut Option<ChannelId>) -> (Deed, NodeMessage) {
        let seen = match message {
            PayerMessage::Attach(attach) => {
                self.attaches += 1;
                Seen::Attach(self.attaches, attach.channel())
            }
            PayerMessage::Frame(frame) => {
                self.received.push(frame.clone());
                self.arrived.notify_one();
                Seen::Frame(self.received.len(), frame)
            }
            PayerMessage::Relay(_) => panic!("relays are tested elsewhere"),
        };
        let deed = (self.script)(&seen);
        let mut honestly = |node: &mut Self| match message {
            PayerMessage::Attach(attach) => {
                *attached = Some(attach.channel());
                node.attach(attach.channel(), &attach.voucher)
            }
            PayerMessage::Frame(frame) => node.frame(frame, *attached),
            PayerMessage::Relay(_) => unreachable!("seen before"),
        };
        let answer = match &deed {
            Deed::Honest | Deed::AcceptAndDrop | Deed::Silent => honestly(self),
            Deed::Reject(code) => {
                let lines_total = match message {
                    PayerMessage::Attach(_) | PayerMessage::Relay(_) => 0,
                    PayerMessage::Frame(frame) => frame.voucher().body().lines_total,
                };
                NodeMessage::Reject(self.reject(*code, message_channel(message), lines_total))
            }
            Deed::Say(answer) => {
                honestly(self);
                answer.clone()
            }
            Deed::Drop | Deed::Ignore | Deed::CloseStream(_) => NodeMessage::Reject(Reject::unattached(ErrorCode::Overloaded, 0)),
        };
        (deed, answer)
    }

    fn reject(&self, code: ErrorCode, channel: ChannelId, lines_total: u64) -> Reject {
        let Some(book) = self.books.get(&channel) else {
            return Reject::unattached(code, lines_total);
        };
        let accepted = book.totals(channel);
        Reject {
            code,
            lines_total,
            accepted_lines_total: accepted.lines_total,
            accepted_cumulative: accepted.cumulative,
            accepted_head: accepted.bill_head,
        }
    }

    fn attach(&mut self, channel: ChannelId, voucher: &SignedVoucher) -> NodeMessage {
        match self.books.get(&channel) {
            None => NodeMessage::Reject(Reject::unattached(ErrorCode::UnknownChannel, 0)),
            Some(book) if voucher.verify(&book.key).is_err() => NodeMessage::Reject(self.reject(ErrorCode::BadSignature, channel, 0)),
            Some(_) => self.snapshot(channel),
        }
    }

    pub fn snapshot(&self, channel: ChannelId) -> NodeMessage {
        let book = &self.books[&channel];
        NodeMessage::Snapshot(Box::new(Snapshot {
            channel,
            status: book.status,
            confirmed_deposit: Amount::from_nanos(book.deposit),
            accepted: book.accepted,
            charged: book.totals(channel).cumulative,
            settled: CumulativeAmount::ZERO,
            limits: self.limits,
            tariff_version: 0,
        }))
    }

    /// In the order of W-7.
    fn frame(&mut self, frame: &FrameMessage, attached: Option<ChannelId>) -> NodeMessage {
        let channel = frame.channel();
        let body = *frame.voucher().body();
        let lines_total = body.lines_total;
        if attached != Some(channel) {
            let code = if attached.is_none() { ErrorCode::NotAttached } else { ErrorCode::WrongChannel };
            return NodeMessage::Reject(Reject::unattached(code, lines_total));
        }
        let book = &self.books[&channel];
        let accepted = book.totals(channel);
        let nanos = |total: CumulativeAmount| total.to_u64().expect("64 bits");
        let code = if frame.voucher().verify(&book.key).is_err() {
            Some(ErrorCode::BadSignature)
        } else if book.status != ChannelStatus::Open {
            Some(ErrorCode::ChannelClosing)
        } else if body == accepted {
            None
        } else if body.lines_total <= accepted.lines_total || body.cumulative <= accepted.cumulative {
            Some(ErrorCode::StaleTotal)
        } else if body.lines_total != accepted.lines_total + u64::from(frame.count()) {
            Some(ErrorCode::LinesMismatch)
        } else if body.cumulative != accepted.cumulative.checked_add(frame.amount()).expect("small") {
            Some(ErrorCode::AmountMismatch)
        } else if body.bill_head != head_after(&accepted, frame, nanos(body.cumulative)) {
            Some(ErrorCode::BrokenBillHead)
        } else if nanos(body.cumulative) > book.deposit {
            Some(ErrorCode::DepositExceeded)
        } else {
            None
        };
        if let Some(code) = code {
            return NodeMessage::Reject(self.reject(code, channel, lines_total));
        }
        let book = self.books.get_mut(&channel).expect("looked up before");
        if body != accepted {
            book.accepted = Some(*frame.voucher());
            book.lines.extend(frame.lines());
        }
        ack(lines_total, nanos(body.cumulative))
    }
}

fn message_channel(message: &PayerMessage) -> ChannelId {
    match message {
        PayerMessage::Attach(attach) => attach.channel(),
        PayerMessage::Frame(frame) => frame.channel(),
        PayerMessage::Relay(_) => unreachable!("seen before"),
    }
}

fn head_after(accepted: &VoucherBody, frame: &FrameMessage, nanos: u64) -> BillHead {
    let root = frame.root().expect("within the limits");
    next_head(&accepted.bill_head, &root, frame.voucher().body().lines_total, nanos)
}

pub fn ack(lines_total: u64, cumulative: u64) -> NodeMessage {
    let cumulative = CumulativeAmount::from_nanos(cumulative);
    NodeMessage::Ack(Ack { lines_total, cumulative, commit: 1, epoch: EpochId::new(7) })
}

/// The `number`-th line of a test: each has another reference and pays between 1 and 7 nanos.
pub fn line(number: u64) -> Line {
    let mut reference = [0; 16];
    reference[8..].copy_from_slice(&number.to_be_bytes());
    Line { amount: Amount::from_nanos(number % 7 + 1), reference: Reference::from_bytes(reference), digest: None }
}

pub fn lines(from: u64, to: u64) -> Vec<Line> {
    (from..to).map(line).collect()
}

pub fn sum(lines: &[Line]) -> CumulativeAmount {
    CumulativeAmount::from_units(lines.iter().map(|line| line.amount.units()).sum())
}

/// A state with channels 1 to `channels`.
pub fn state(directory: &Path, channels: u8) -> StateDb {
    let state = StateDb::open(&directory.join("payer.redb")).expect("opens");
    for number in 1..=channels {
        state.add_channel(&terms(number), &StoredKey::Stored(secret(number))).expect("added");
    }
    state
}

/// Frames of at most four lines, signed at the end of each call: each call of four lines is one frame.
pub fn frames_of_four() -> PayOptions {
    PayOptions { frame_lines: 4, linger: Duration::ZERO, ..PayOptions::default() }
}

/// An observer that keeps what it hears.
pub fn recorder() -> (Observer, Arc<Mutex<Vec<Event>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    (Arc::new(move |event: &Event| heard.lock().expect("no panic").push(event.clone())), events)
}

pub async fn connect(node: &FakeNode, state: &StateDb) -> Client {
    Client::connect(state.clone(), node.options()).await.expect("connects")
}
