//! Payments of HTTP 402 through `millstream gateway`: x402 vouchers on 64 channels, each signed before the clock starts, one request in flight on
//! each channel, as the scheme demands. Chain, gateway and upstream are real; the upstream answers two bytes.
//!
//! `cargo bench --package millstream-cli --bench http402 --profile dev -- [--seconds S] [--rate N]` measures, in this order:
//!
//! - `added`: one request at a time, to the same upstream through the same gateway, free and paid in turn: what a payment adds to a proxy;
//! - `closed`: as many as go through;
//! - `open`: 70 % of that, or N a second, each at its time; a latency counts from the time at which the request was meant to be sent.
//!
//! Prints one line of JSON, and fails if a payment is refused or the totals of a channel are not what was paid. Under `cargo test` everything
//! runs for a moment.

#[path = "../tests/http402/mod.rs"]
mod http402;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use http402::{Chain, Gateway, PAYER, Payer};
use millstream_dialect::x402::{BatchResponseExtra, SettleResponse};
use millstream_load::process::Usage;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CHANNELS: u8 = 64;
/// Payments a second that are prepared at most, unless more are asked for.
const RATE_MAX: f64 = 20_000.0;
const LOAD: f64 = 0.7;
const PRICE: u128 = 1;
/// Payments in turn with free requests, at most.
const ADDED: usize = 400;
/// Beyond those of the two loops, on each channel.
const SPARE: u64 = 512;

/// A connection of a channel, and the payments that are still to be sent on it.
struct Lane {
    stream: TcpStream,
    requests: std::vec::IntoIter<Vec<u8>>,
    /// Paid so far.
    paid: u64,
    /// The last answer's head.
    head: String,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<f64>().ok()
    };
    let measured = arguments.iter().any(|argument| argument == "--bench");
    let seconds = value("--seconds").unwrap_or(if measured { 5.0 } else { 0.2 });
    let rate_max = if measured { RATE_MAX } else { RATE_MAX / 10.0 };
    let upstream = start_upstream();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let report = runtime.block_on(run(upstream, seconds, value("--rate"), rate_max));
    println!("{report}");
}

/// On a thread of its own: an upstream is somebody else's.
fn start_upstream() -> std::net::SocketAddr {
    let (say, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            say.send(listener.local_addr().expect("bound")).expect("heard");
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let _ = stream.set_nodelay(true);
                    let mut request = vec![0; 16 * 1024];
                    let mut held = 0;
                    while let Ok(length @ 1..) = stream.read(&mut request[held..]).await {
                        held += length;
                        if request[..held].ends_with(b"\r\n\r\n") {
                            held = 0;
                            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
    });
    hear.recv().expect("it listens")
}

async fn run(upstream: std::net::SocketAddr, seconds: f64, rate: Option<f64>, rate_max: f64) -> Value {
    let chain = Chain::start().await;
    let routes = format!(
        "[[route]]\npath = \"/bare\"\nfree = true\nupstream = \"http://{upstream}\"\n\
         [[route]]\npath = \"/paid\"\nprice = \"{PRICE} base / call\"\nupstream = \"http://{upstream}\"\n"
    );
    let gateway = Gateway::start_selling(&chain, &routes).await;
    let each = (seconds * (1.0 + LOAD) * rate_max / f64::from(CHANNELS)).ceil() as u64 + SPARE;
    let mut signed = Vec::new();
    for salt in 1..=CHANNELS {
        signed.push(sign(&chain, &gateway, salt, each).await);
    }
    // Only now: the gateway closes connections that are silent for long.
    let opening: Vec<_> = signed.into_iter().map(|requests| tokio::spawn(Lane::open(gateway.selling.listen, requests))).collect();
    let mut lanes = Vec::new();
    for lane in opening {
        lanes.push(lane.await.expect("no panic"));
    }
    let added = added(&mut lanes[0], seconds).await;

    // Until the clock has run out, on all channels at once.
    let pids = [gateway.selling.pid, std::process::id()];
    let stop = Arc::new(AtomicBool::new(false));
    let before = cpu(&pids);
    let start = Instant::now();
    let running: Vec<_> = lanes.into_iter().map(|lane| tokio::spawn(lane.closed(Arc::clone(&stop)))).collect();
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let (lanes, counts, latency) = gather(running).await;
    let wall = start.elapsed().as_secs_f64();
    let used = cpu(&pids).iter().zip(&before).map(|(after, before)| after - before).collect::<Vec<_>>();
    let closed_rate = counts as f64 / wall;
    let closed = json!({
        "payments": counts, "seconds": wall, "rate": closed_rate, "gateway_cpu_seconds": used[0], "load_cpu_seconds": used[1],
        "p50_ms": millis(&latency, 0.5), "p99_ms": millis(&latency, 0.99),
    });

    let rate = rate.unwrap_or(closed_rate * LOAD);
    let start = Instant::now() + Duration::from_millis(20);
    let gap = Duration::from_secs_f64(f64::from(CHANNELS) / rate);
    let running: Vec<_> = lanes
        .into_iter()
        .zip(0u32..)
        .map(|(lane, number)| tokio::spawn(lane.open_loop(start + gap * number / u32::from(CHANNELS), gap, seconds)))
        .collect();
    let (lanes, counts, latency) = gather(running).await;
    let open = json!({
        "payments": counts, "offered": rate, "rate": counts as f64 / start.elapsed().as_secs_f64(),
        "p50_ms": millis(&latency, 0.5), "p99_ms": millis(&latency, 0.99), "max_ms": millis(&latency, 1.0),
    });
    for lane in &lanes {
        lane.assert_charged();
    }
    drop(lanes);
    gateway.stop().await;
    json!({ "channels": CHANNELS, "added": added, "closed": closed, "open": open })
}

type Ran = (Lane, u64, Histogram<u64>);

async fn gather(running: Vec<tokio::task::JoinHandle<Ran>>) -> (Vec<Lane>, u64, Histogram<u64>) {
    let (mut lanes, mut payments, mut all) = (Vec::new(), 0, histogram());
    for task in running {
        let (lane, count, latency) = task.await.expect("no panic");
        lanes.push(lane);
        payments += count;
        all.add(&latency).expect("the same bounds");
    }
    (lanes, payments, all)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds")
}

fn millis(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e6
}

fn cpu(pids: &[u32; 2]) -> [f64; 2] {
    pids.map(|pid| Usage::of(pid).expect("it runs").cpu_seconds)
}

/// The medians of free and paid requests in turn, in milliseconds.
async fn added(lane: &mut Lane, seconds: f64) -> Value {
    let (mut bare, mut paid) = (histogram(), histogram());
    let request = b"GET /bare HTTP/1.1\r\nhost: gateway\r\n\r\n";
    let (start, before) = (Instant::now(), lane.requests.len());
    while start.elapsed().as_secs_f64() < seconds && lane.requests.len() > before - ADDED {
        let sent = Instant::now();
        exchange(&mut lane.stream, request, &mut lane.head).await;
        bare.record(nanos(sent)).expect("in bounds");
        let sent = Instant::now();
        assert!(lane.pay().await);
        paid.record(nanos(sent)).expect("in bounds");
    }
    json!({ "bare_p50_ms": millis(&bare, 0.5), "paid_p50_ms": millis(&paid, 0.5), "added_p50_ms": millis(&paid, 0.5) - millis(&bare, 0.5), "requests": paid.len() })
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Lane {
    /// A connection; the channel is opened by its first payment, and a few more warm up.
    async fn open(gateway: std::net::SocketAddr, requests: Vec<Vec<u8>>) -> Self {
        let stream = TcpStream::connect(gateway).await.expect("connected");
        stream.set_nodelay(true).expect("a socket");
        let mut lane = Self { stream, requests: requests.into_iter(), paid: 0, head: String::new() };
        for _ in 0..4 {
            assert!(lane.pay().await);
        }
        lane
    }

    /// The next payment; `false` when there is none left.
    async fn pay(&mut self) -> bool {
        let Some(request) = self.requests.next() else { return false };
        exchange(&mut self.stream, &request, &mut self.head).await;
        assert!(self.head.starts_with("HTTP/1.1 200 ") && self.head.contains("\r\npayment-response: "), "refused: {}", self.head);
        self.paid += 1;
        true
    }

    async fn closed(mut self, stop: Arc<AtomicBool>) -> Ran {
        let (mut count, mut latency) = (0, histogram());
        while !stop.load(Ordering::Relaxed) {
            let sent = Instant::now();
            assert!(self.pay().await, "more must be prepared for a machine like this");
            latency.record(nanos(sent)).expect("in bounds");
            count += 1;
        }
        (self, count, latency)
    }

    async fn open_loop(mut self, start: Instant, gap: Duration, seconds: f64) -> Ran {
        let (mut count, mut latency) = (0u32, histogram());
        loop {
            let due = start + gap * count;
            if due.duration_since(start).as_secs_f64() >= seconds || self.requests.len() == 0 {
                return (self, u64::from(count), latency);
            }
            tokio::time::sleep_until(due.into()).await;
            assert!(self.pay().await);
            latency.record(nanos(due)).expect("in bounds");
            count += 1;
        }
    }

    /// The last receipt is over everything that was paid.
    fn assert_charged(&self) {
        let value = self.head.lines().find_map(|line| line.strip_prefix("payment-response: ")).expect("a receipt");
        let receipt = SettleResponse::from_header(value.trim()).expect("a receipt");
        let extra: BatchResponseExtra = receipt.extra.read("extra").expect("the scheme's");
        let charged = extra.channel_state.expect("a state").charged_cumulative_amount.expect("a total");
        assert_eq!(charged.units(), u128::from(self.paid) * PRICE, "what is charged is what was paid");
    }
}

/// The payments of a channel, in order: the first with a deposit for all of them.
async fn sign(chain: &Chain, gateway: &Gateway, salt: u8, payments: u64) -> Vec<Vec<u8>> {
    let payer = Payer::new(chain, PAYER, salt, &gateway.url("/paid")).await;
    let host = gateway.selling.listen;
    let request = |header: String| format!("GET /paid HTTP/1.1\r\nhost: {host}\r\npayment-signature: {header}\r\n\r\n").into_bytes();
    let first = request(payer.deposit_header(PRICE, u128::from(payments), 1));
    let rest = (2..=u128::from(payments)).map(|number| request(payer.header(number * PRICE)));
    std::iter::once(first).chain(rest).collect()
}

/// Sends a request and reads its answer, whose head it keeps.
async fn exchange(stream: &mut TcpStream, request: &[u8], head: &mut String) {
    stream.write_all(request).await.expect("sent");
    let mut answer = Vec::with_capacity(4 * 1024);
    loop {
        assert!(stream.read_buf(&mut answer).await.expect("readable") > 0, "closed");
        let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        head.clear();
        head.push_str(std::str::from_utf8(&answer[..end]).expect("text"));
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok()).expect("a length");
        if answer.len() >= end + 4 + length {
            return;
        }
    }
}
