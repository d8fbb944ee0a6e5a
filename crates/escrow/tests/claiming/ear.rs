//! What stands between the node and the chain: it passes on what the chain is to hear, and hangs up on the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the chain hears of the node: everything, no transactions, nothing.
pub const ALL: u8 = 0;
pub const QUESTIONS: u8 = 1;
pub const NOTHING: u8 = 2;

/// Starts it before the chain at `chain`; returns its URL. It ends with the runtime of the test.
pub async fn ear(chain: String, hearing: Arc<AtomicU8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let client = reqwest::Client::new();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (chain, client, hearing) = (chain.clone(), client.clone(), Arc::clone(&hearing));
            tokio::spawn(async move { serve(stream, &chain, &client, &hearing).await });
        }
    });
    url
}

async fn serve(mut stream: TcpStream, chain: &str, client: &reqwest::Client, hearing: &AtomicU8) -> Option<()> {
    let call = read_call(&mut stream).await?;
    match (hearing.load(Ordering::SeqCst), call["method"].as_str()?) {
        (NOTHING, _) | (QUESTIONS, "eth_sendRawTransaction") => return None,
        _ => {}
    }
    let sent = client.post(chain).header("content-type", "application/json").body(call.to_string()).send().await.ok()?;
    let body = sent.bytes().await.ok()?;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(&body).await.ok()
}

async fn read_call(stream: &mut TcpStream) -> Option<Value> {
    let mut request = Vec::new();
    loop {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
        let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse().ok()?;
        if let Some(body) = request.get(end + 4..end + 4 + length) {
            return serde_json::from_slice(body).ok();
        }
    }
}
