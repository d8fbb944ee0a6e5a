//! A service in axum that sells by the call and by the token, behind the gate.
//!
//! ```text
//! cargo run --package millstream-gateway --example axum
//! curl -i http://127.0.0.1:4021/joke            # 402: what it costs, in both dialects
//! ```
//!
//! The money is kept by the port of the tests, which forgets it when the process ends. Give [`Gate::new`] a node's port instead.

#[path = "../tests/support/memory.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod memory;

use axum::routing::{get, post};
use axum::{Json, Router};
use millstream_gateway::{Gate, GatewayConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const CONFIG: &str = r#"
    [server]
    name = "jokes"

    [payment]
    network = "eip155:31337"
    asset = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
    symbol = "USDC"
    decimals = 6
    asset_name = "USDC"
    asset_version = "2"
    pay_to = "0x4444444444444444444444444444444444444444"
    [payment.x402]
    receiver_authorizer = "0x5CbDd86a2FA8Dc4bDdd8a8f69dBa48572EeC07FB"

    [[route]]
    path = "/joke"
    methods = ["GET"]
    price = "0.001 USDC / call"
    description = "A joke"

    [[route]]
    path = "/v1/chat/completions"
    methods = ["POST"]
    price = "2 USDC / 1M input_token + 8 USDC / 1M output_token"

    [[route]]
    path = "/about"
    free = true
"#;

async fn chat(Json(request): Json<Value>) -> Json<Value> {
    let words = request.pointer("/messages/0/content").and_then(Value::as_str).unwrap_or_default().split_whitespace().count();
    Json(json!({
        "choices": [{ "message": { "role": "assistant", "content": "Ha." } }],
        "usage": { "prompt_tokens": words, "completion_tokens": 1 },
    }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (gate, drained) = Gate::new(&GatewayConfig::parse(CONFIG)?, memory::MemoryPort::new())?;
    // Around the whole router, so that the gate sees every path.
    let app = Router::new()
        .route("/joke", get(|| async { "Two vouchers meet in a channel. The newer one replaces the older." }))
        .route("/v1/chat/completions", post(chat))
        .route("/about", get(|| async { "Jokes, by the call." }))
        .layer(gate);
    let listener = TcpListener::bind("127.0.0.1:4021").await?;
    axum::serve(listener, app).with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) }).await?;
    // What was delivered is charged before the process ends.
    drained.wait().await;
    Ok(())
}
