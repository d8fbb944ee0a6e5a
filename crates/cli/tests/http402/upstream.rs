//! The service that is sold: what it does depends on what it is asked. HTTP/1.1 by hand, so that it can also break it.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Tokens of an answer that nobody limits.
const TOKENS: u64 = 20;

/// - `GET /call/…`: an answer;
/// - `GET /held/…`: an answer once [`Upstream::release`] lets it;
/// - `GET /dies/…`: the connection ends without a byte;
/// - `GET /halved/…`: the connection ends in the middle of the body, once a release lets it;
/// - `GET /broken/…`: status 500;
/// - `GET /release`: what [`Upstream::release`] does, for one;
/// - `POST /v1/chat/completions`: as many tokens as `max_tokens` says, streamed when asked to. A model `cut-N` ends the connection after N of
///   them, once a release lets it, `held-N` waits for a release after N of them, `half` uses half of what it may, `dies` ends without a byte;
/// - `POST /v1/responses`: the same in the events of the newer API, which ends without a word; only `cut-N` of the models;
/// - `/short/…`: as without that.
pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    seen: watch::Sender<Vec<String>>,
    released: Semaphore,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared { seen: watch::Sender::new(Vec::new()), released: Semaphore::new(0) });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                // Whoever leaves, leaves.
                tokio::spawn(async move { drop(serve(BufReader::new(stream), &shared).await) });
            }
        });
        Self { address, shared }
    }

    /// How often a path that begins so was asked for.
    pub fn count(&self, path: &str) -> usize {
        count(&self.shared.seen.borrow(), path)
    }

    /// Waits until it was asked for so often.
    pub async fn asked(&self, path: &str, times: usize) {
        let mut seen = self.shared.seen.subscribe();
        let asked = seen.wait_for(|seen| count(seen, path) >= times);
        drop(tokio::time::timeout(std::time::Duration::from_secs(60), asked).await.expect("it is asked"));
    }

    /// Lets so many held answers go on.
    pub fn release(&self, answers: usize) {
        self.shared.released.add_permits(answers);
    }
}

fn count(seen: &[String], path: &str) -> usize {
    seen.iter().filter(|seen| seen.starts_with(path)).count()
}

async fn serve(mut stream: BufReader<TcpStream>, shared: &Shared) -> std::io::Result<()> {
    while let Some((path, body)) = request(&mut stream).await? {
        shared.seen.send_modify(|seen| seen.push(path.clone()));
        let path = path.strip_prefix("/short").unwrap_or(&path);
        let kind = path.trim_start_matches('/').split(['/', '?']).next().unwrap_or_default();
        let goes_on = match kind {
            "call" => whole(&mut stream, "200 OK", &json!({ "ok": true })).await?,
            "held" => {
                held(shared).await;
                whole(&mut stream, "200 OK", &json!({ "ok": true })).await?
            }
            "broken" => whole(&mut stream, "500 Internal Server Error", &json!({ "ok": false })).await?,
            "halved" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\n\r\nhalf").await?;
                stream.flush().await?;
                held(shared).await;
                false
            }
            "release" => {
                shared.released.add_permits(1);
                whole(&mut stream, "200 OK", &json!({})).await?
            }
            "v1" if path.starts_with("/v1/responses") => response(&mut stream, &body, shared).await?,
            "v1" => completion(&mut stream, &body, shared).await?,
            _ => false,
        };
        if !goes_on {
            return Ok(());
        }
    }
    Ok(())
}

async fn held(shared: &Shared) {
    if let Ok(permit) = shared.released.acquire().await {
        permit.forget();
    }
}

/// Path and body; nothing at the end of the connection.
async fn request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let (mut path, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        match (&path, line.split_once(": ")) {
            (None, _) => path = line.split(' ').nth(1).map(str::to_owned),
            (Some(_), Some((name, value))) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap_or(0),
            (Some(path), None) if line.is_empty() => {
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await?;
                return Ok(Some((path.clone(), body)));
            }
            _ => {}
        }
    }
}

/// Whether the connection goes on.
async fn whole(stream: &mut BufReader<TcpStream>, status: &str, body: &Value) -> std::io::Result<bool> {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    Ok(true)
}

async fn completion(stream: &mut BufReader<TcpStream>, body: &[u8], shared: &Shared) -> std::io::Result<bool> {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let model = asked["model"].as_str().unwrap_or_default();
    let most = asked["max_tokens"].as_u64().unwrap_or(TOKENS);
    let (kind, at) = model.split_once('-').map_or((model, u64::MAX), |(kind, at)| (kind, at.parse().unwrap_or(u64::MAX)));
    let tokens = if kind == "half" { most / 2 } else { most };
    let usage = json!({ "prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens });
    if kind == "dies" {
        return Ok(false);
    }
    if asked["stream"] != true {
        let choices = json!([{ "index": 0, "message": { "role": "assistant", "content": "word ".repeat(tokens as usize) } }]);
        return whole(stream, "200 OK", &json!({ "id": "c", "object": "chat.completion", "choices": choices, "usage": usage })).await;
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    for number in 0..tokens {
        if number == at {
            held(shared).await;
            if kind != "held" {
                return Ok(false);
            }
        }
        let delta =
            json!({ "object": "chat.completion.chunk", "choices": [{ "index": 0, "delta": { "content": format!("t{number} ") } }] });
        event(stream, &delta.to_string()).await?;
    }
    if asked["stream_options"]["include_usage"] == true {
        event(stream, &json!({ "object": "chat.completion.chunk", "choices": [], "usage": usage }).to_string()).await?;
    }
    event(stream, "[DONE]").await?;
    stream.write_all(b"0\r\n\r\n").await?;
    stream.flush().await?;
    Ok(true)
}

async fn response(stream: &mut BufReader<TcpStream>, body: &[u8], shared: &Shared) -> std::io::Result<bool> {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let most = asked["max_output_tokens"].as_u64().unwrap_or(TOKENS);
    let cut = asked["model"].as_str().and_then(|model| model.strip_prefix("cut-")?.parse().ok());
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    for number in 0..most {
        if cut == Some(number) {
            held(shared).await;
            return Ok(false);
        }
        event(stream, &json!({ "type": "response.output_text.delta", "delta": format!("t{number} ") }).to_string()).await?;
    }
    let usage = json!({ "input_tokens": 3, "output_tokens": most, "total_tokens": 3 + most });
    event(stream, &json!({ "type": "response.completed", "response": { "id": "r", "usage": usage } }).to_string()).await?;
    stream.write_all(b"0\r\n\r\n").await?;
    stream.flush().await?;
    Ok(true)
}

async fn event(stream: &mut BufReader<TcpStream>, data: &str) -> std::io::Result<()> {
    let event = format!("data: {data}\n\n");
    stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
    stream.flush().await
}
