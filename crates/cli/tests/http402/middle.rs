//! What stands between two programs and loses, repeats, holds up or changes what they say. HTTP/1.1 by hand: it passes bytes.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Headers that a payment is in.
const PAYMENTS: [&str; 3] = ["payment-signature", "x-payment", "authorization"];

/// What happens to one request that pays, or that asks a facilitator for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// It is answered, and the answer is lost.
    Lose,
    /// It is answered, and nothing comes back until whoever asked gives up.
    Silence,
    /// It is answered, and 502 is what comes back.
    BadGateway,
    /// It goes out twice, one after the other; the first answer comes back.
    Twice,
    /// It goes out twice, one after the other; the second answer comes back.
    TwiceLast,
    /// It is answered, and what comes back is the answer to the same request without a payment: a second 402.
    AskAgain,
    /// It goes out when [`Middle::release`] lets it.
    Hold,
}

/// A proxy that plays tricks; everything else it passes as it comes.
pub struct Middle {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    tricks: Mutex<VecDeque<(&'static str, Trick)>>,
    played: watch::Sender<usize>,
    released: Semaphore,
    /// Path and body of the request that the last trick was played with.
    last: Mutex<(String, Vec<u8>)>,
}

struct Request {
    path: String,
    head: Vec<String>,
    body: Vec<u8>,
}

impl Middle {
    /// Before what listens there.
    pub async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (played, released) = (watch::Sender::new(0), Semaphore::new(0));
        let shared = Arc::new(Shared { target, tricks: Mutex::default(), played, released, last: Mutex::default() });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tokio::spawn(async move { drop(serve(stream, &shared).await) });
            }
        });
        Self { address, shared }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What happens to the next request, after those that were said before, that has such a path, and a payment or a facilitator's question.
    pub fn play(&self, path: &'static str, trick: Trick) {
        self.shared.tricks.lock().expect("no panic").push_back((path, trick));
    }

    /// Waits until so many tricks were begun, from the start.
    pub async fn played(&self, times: usize) {
        let mut played = self.shared.played.subscribe();
        let waiting = tokio::time::timeout(Duration::from_secs(60), played.wait_for(|played| *played >= times));
        drop(waiting.await.expect("the trick is played").expect("it lives"));
    }

    /// Whether each trick was played.
    pub fn is_done(&self) -> bool {
        self.shared.tricks.lock().expect("no panic").is_empty()
    }

    /// The request that the last trick was played with, again, without tricks: status and answer.
    pub async fn again(&self) -> (StatusCode, Value) {
        let (path, body) = self.shared.last.lock().expect("no panic").clone();
        let url = format!("http://{}{path}", self.shared.target);
        let request = reqwest::Client::new().post(url).header("content-type", "application/json").body(body);
        let answer = request.send().await.expect("answered");
        (answer.status(), answer.json().await.expect("JSON"))
    }

    /// Lets so many held requests go on.
    pub fn release(&self, requests: usize) {
        self.shared.released.add_permits(requests);
    }
}

impl Shared {
    fn trick(&self, request: &Request) -> Option<Trick> {
        let mut tricks = self.tricks.lock().expect("no panic");
        let is_next = tricks.front().is_some_and(|(path, _)| request.path.starts_with(path) && request.counts());
        let trick = if is_next { tricks.pop_front() } else { None };
        trick.map(|(_, trick)| {
            *self.last.lock().expect("no panic") = (request.path.clone(), request.body.clone());
            self.played.send_modify(|played| *played += 1);
            trick
        })
    }
}

async fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    // One request a connection: each answer says so.
    let Some(request) = Request::read(&mut stream).await? else { return Ok(()) };
    let paid = request.bytes(true);
    let answer = match shared.trick(&request) {
        None => exchange(shared.target, &paid).await?,
        Some(Trick::Lose) => {
            exchange(shared.target, &paid).await?;
            return Ok(());
        }
        Some(Trick::Silence) => {
            exchange(shared.target, &paid).await?;
            stream.read_to_end(&mut Vec::new()).await?;
            return Ok(());
        }
        Some(Trick::BadGateway) => {
            exchange(shared.target, &paid).await?;
            b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/plain\r\ncontent-length: 4\r\nconnection: close\r\n\r\nlost".to_vec()
        }
        Some(Trick::Twice) => {
            let first = exchange(shared.target, &paid).await?;
            exchange(shared.target, &paid).await?;
            first
        }
        Some(Trick::TwiceLast) => {
            exchange(shared.target, &paid).await?;
            exchange(shared.target, &paid).await?
        }
        Some(Trick::AskAgain) => {
            exchange(shared.target, &paid).await?;
            exchange(shared.target, &request.bytes(false)).await?
        }
        Some(Trick::Hold) => {
            shared.released.acquire().await.map_err(io::Error::other)?.forget();
            exchange(shared.target, &paid).await?
        }
    };
    stream.write_all(&answer).await?;
    stream.flush().await
}

/// One request, and all of its answer.
async fn exchange(target: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(target).await?;
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

impl Request {
    async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let (mut head, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            if let Some(("content-length", value)) = named(&line).as_ref().map(|(name, value)| (name.as_str(), value)) {
                length = value.parse().map_err(io::Error::other)?;
            }
            head.push(line);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
        Ok(Some(Self { path, head, body }))
    }

    fn counts(&self) -> bool {
        let pays = |line: &String| named(line).is_some_and(|(name, _)| PAYMENTS.contains(&name.as_str()));
        self.head.first().is_some_and(|line| line.starts_with("POST ")) || self.head.iter().any(pays)
    }

    fn bytes(&self, with_payment: bool) -> Vec<u8> {
        let mut text = String::new();
        for line in &self.head {
            let dropped = named(line).is_some_and(|(name, _)| name == "connection" || (!with_payment && PAYMENTS.contains(&name.as_str())));
            if !dropped {
                text.push_str(line);
                text.push_str("\r\n");
            }
        }
        text.push_str("connection: close\r\n\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend(&self.body);
        bytes
    }
}

/// A header's name, in lower case, and its value.
fn named(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_ascii_lowercase(), value.trim()))
}
