//! An RPC endpoint between this crate and anvil that may lie, refuse or hang up.

use std::sync::Arc;

use millstream_testkit::{Anvil, AnvilError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the proxy does with one call.
pub enum Reply {
    /// Pass it on, and the answer back.
    Pass,
    /// Pass it on, and answer with what this makes of the result.
    Change(fn(Value) -> Value),
    /// Pass it on, and hang up without an answer.
    PassAndHangUp,
    /// Hang up at once.
    HangUp,
    /// Answer with an error.
    Error(i64, &'static str),
}

/// Starts a proxy; returns its URL. It ends with the runtime of the test.
pub async fn proxy(anvil: Arc<Anvil>, rule: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let rule = Arc::new(rule);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (anvil, rule) = (Arc::clone(&anvil), Arc::clone(&rule));
            tokio::spawn(async move { serve(stream, &anvil, &*rule).await });
        }
    });
    url
}

async fn serve(mut stream: TcpStream, anvil: &Anvil, rule: &(impl Fn(&str, &Value) -> Reply + Sync)) -> Option<()> {
    let call = read_call(&mut stream).await?;
    let method = call["method"].as_str()?;
    let reply = rule(method, &call["params"]);
    let mut answer = match reply {
        Reply::HangUp => return None,
        Reply::Error(code, message) => json!({ "error": { "code": code, "message": message } }),
        Reply::Pass | Reply::Change(_) | Reply::PassAndHangUp => match anvil.call(method, &call["params"]) {
            Ok(result) => json!({ "result": if let Reply::Change(change) = reply { change(result) } else { result } }),
            Err(AnvilError::Refused { message, .. }) => json!({ "error": { "code": -32000, "message": message } }),
            Err(error) => panic!("{error}"),
        },
    };
    if matches!(reply, Reply::PassAndHangUp) {
        return None;
    }
    answer["jsonrpc"] = "2.0".into();
    answer["id"] = call["id"].clone();
    let body = answer.to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.ok()
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
