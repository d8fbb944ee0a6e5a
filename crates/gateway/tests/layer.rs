//! The gate as a tower layer around an application of axum's.

mod support;

use axum::Router;
use axum::routing::{get, post};
use millstream_gateway::{Gate, GatewayConfig};
use millstream_voucher::evm::Signer;
use reqwest::{Client, StatusCode};
use support::memory::MemoryPort;
use support::payer::{X402Payer, x402_offer};
use support::upstream::completion;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

const ROUTES: &str = r#"
    [[route]]
    path = "/joke"
    price = "0.001 USDC / call"
    [[route]]
    path = "/chat"
    price = "8 USDC / 1M output_token"
    limits = { output_tokens_max = 100 }
    [[route]]
    path = "/about"
    free = true
"#;

#[tokio::test]
async fn an_application_of_axums_is_sold_like_an_upstream() {
    let config = GatewayConfig::parse(&format!("{}{ROUTES}", support::payment(&support::tempfile()))).expect("a configuration");
    let port = MemoryPort::new();
    let (gate, drained) = Gate::new(&config, port.clone()).expect("sound");
    let app = Router::new()
        .route("/joke", get(|| async { "ha" }))
        .route("/chat", post(|| async { ([("content-type", "application/json")], completion(10, 5)) }))
        .route("/about", get(|| async { "free" }))
        .layer(gate);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) }).await.expect("it serves");
    });
    let payer = X402Payer::new(1);
    port.open(payer.channel, payer.config.payer, Signer::Key(payer.config.voucher_signer()), 1_000_000);
    let client = Client::new();
    let url = |path: &str| format!("http://{address}{path}");

    assert_eq!(client.get(url("/about")).send().await.expect("an answer").text().await.expect("a body"), "free");
    assert_eq!(client.get(url("/other")).send().await.expect("an answer").status(), StatusCode::NOT_FOUND);

    let offer = x402_offer(&client.get(url("/joke")).send().await.expect("an answer")).0;
    let paid = client.get(url("/joke")).header("payment-signature", payer.header(&offer, 1_000)).send().await.expect("an answer");
    assert_eq!((paid.status(), paid.text().await.expect("a body")), (StatusCode::OK, "ha".to_owned()));

    let offer = x402_offer(&client.post(url("/chat")).body("{}").send().await.expect("an answer")).0;
    assert_eq!(offer["amount"], "800");
    let paid = client
        .post(url("/chat"))
        .header("payment-signature", payer.header(&offer, 1_800))
        .body("{}")
        .send()
        .await
        .expect("an answer");
    assert_eq!((paid.status(), paid.text().await.expect("a body")), (StatusCode::OK, completion(10, 5)));
    assert_eq!(port.charged(payer.channel), 1_040);

    stop.send(()).expect("serving");
    serving.await.expect("no panic");
    drained.wait().await;
}
