//! The gateway as a whole, before a service that is always well: any request, with any headers.
//!
//! An input is a request: a line `METHOD PATH`, lines `name: value`, an empty line, the body. A value `@TEXT` stands for TEXT in padded base64,
//! `^TEXT` for TEXT in the URL-safe kind after `Payment `.
//!
//! Held: no error of the gateway's own; what is sold is never delivered without a hold; no payment reaches the service; what was held is
//! charged or free again; the charge is within what was signed.

#[path = "../../../crates/gateway/tests/support/memory.rs"]
#[allow(dead_code, missing_docs, reason = "the gateway's own tests use the rest")]
mod memory;

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use memory::{Event, MemoryPort};
use millstream_gateway::{Body, Gate, GatewayConfig};
use millstream_types::{Address, EscrowChannelId};
use millstream_voucher::evm::Signer;
use tower::{Layer, ServiceExt, service_fn};

use crate::{padded, text, url_safe};

/// The channel of the golden vectors, and a voucher of 1000 base units on it is in the corpus.
const CHANNEL: &str = "0x646455d24fb56b399851ab4e12230f4b048a5380b60e48266fff0d7005fdd700";
const PAYER: &str = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A";
const SIGNER: &str = "0x1563915e194D8CfBA1943570603F7606A3115508";
const DEPOSIT: u128 = 10_000;

const CONFIG: &str = r#"
[server]
public_url = "https://api.example"
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
withdraw_delay_secs = 900
[payment.mpp]
escrow = "0x5555555555555555555555555555555555555555"
secret_file = "SECRET"
[[route]]
path = "/free/*"
free = true
[[route]]
path = "/paid/{what}"
price = "0.001 USDC / call"
[[route]]
path = "/tokens"
methods = ["POST"]
price = "1 base / output_token"
[limits]
output_tokens_max = 1000
"#;

/// Sends the request and holds the gateway to its promises. Whether there was one to send.
pub fn check(data: &[u8]) -> bool {
    let Some(request) = request(data) else { return false };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(send(request));
    true
}

fn config() -> &'static GatewayConfig {
    static CONFIG_READ: OnceLock<GatewayConfig> = OnceLock::new();
    CONFIG_READ.get_or_init(|| {
        let secret = std::env::temp_dir().join(format!("millstream-fuzz-{}", std::process::id()));
        std::fs::write(&secret, "5a".repeat(32)).expect("writable");
        #[cfg(unix)]
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
        GatewayConfig::parse(&CONFIG.replace("SECRET", &secret.display().to_string())).expect("a configuration")
    })
}

fn request(data: &[u8]) -> Option<Request<Full<Bytes>>> {
    let end = data.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = end.map_or((data, &[][..]), |end| (&data[..end], &data[end + 2..]));
    let mut lines = head.split(|byte| *byte == b'\n');
    let (method, path) = text(lines.next()?).split_once(' ')?;
    let mut request = Request::builder().method(method).uri(path).body(Full::new(Bytes::copy_from_slice(body))).ok()?;
    for line in lines {
        let (name, value) = text(line).split_once(": ")?;
        let value = match value.split_at_checked(1) {
            Some(("@", json)) => padded(json.as_bytes()),
            Some(("^", json)) => format!("Payment {}", url_safe(json.as_bytes())),
            _ => value.to_owned(),
        };
        let (name, value) = (HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
        request.headers_mut().append(name, value);
    }
    Some(request)
}

async fn send(request: Request<Full<Bytes>>) {
    let channel: EscrowChannelId = CHANNEL.parse().expect("an id");
    let account = |text: &str| text.parse::<Address>().expect("an address");
    let port = MemoryPort::new();
    port.open(channel, account(PAYER), Signer::Key(account(SIGNER)), DEPOSIT);
    let (gate, drained) = Gate::new(config(), port.clone()).expect("a gate");
    let sold = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&sold);
    let service = service_fn(move |request: Request<Body>| {
        assert_no_payment(request.headers());
        if !is_free(request.uri().path()) {
            seen.store(true, Ordering::Relaxed);
        }
        async {
            let answer = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#;
            let response =
                Response::builder().header("content-type", "application/json").body(Full::new(Bytes::from_static(answer.as_bytes())));
            Ok::<_, Infallible>(response.expect("a response"))
        }
    });
    let response = gate.layer(service).oneshot(request).await.expect("infallible");
    drop(gate);
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("whole").to_bytes();
    drained.wait().await;

    let events = port.events();
    let held = events.iter().any(|event| matches!(event, Event::Reserved(_)));
    assert!(held || !sold.load(Ordering::Relaxed), "delivered without a hold");
    assert_eq!(port.reserved(channel), 0, "held for ever: {events:?}");
    assert!(port.charged(channel) <= DEPOSIT);
    assert!(!head.status.is_server_error(), "{}: {}", head.status, text(&body));
    if head.status.is_client_error() && !body.is_empty() {
        let problem: serde_json::Value = serde_json::from_slice(&body).expect("a problem");
        assert!(problem.get("charged").is_some_and(serde_json::Value::is_string), "{problem}");
    }
    if head.status == StatusCode::PAYMENT_REQUIRED {
        assert!(head.headers.contains_key("payment-required"), "a 402 without an offer");
    }
}

fn assert_no_payment(headers: &HeaderMap) {
    for name in ["payment-signature", "x-payment", "payment-authorization", "settlement-overrides"] {
        assert!(!headers.contains_key(name), "{name} reached the service");
    }
    for value in headers.get_all("authorization") {
        let scheme = text(value.as_bytes()).trim_start().split([' ', '\t', ',']).next().unwrap_or_default();
        assert!(!scheme.eq_ignore_ascii_case("payment"), "a credential reached the service");
    }
}

/// As a careless server would see it: decoded as often as it goes, dots and empty segments folded.
fn is_free(path: &str) -> bool {
    let mut path = path.as_bytes().to_vec();
    while let Some(decoded) = decode(&path) {
        path = decoded;
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    segments.first().is_some_and(|first| *first == b"free")
}

/// Percent-decoded once; nothing when there was nothing to decode.
fn decode(path: &[u8]) -> Option<Vec<u8>> {
    let at = path.windows(3).position(|part| part[0] == b'%' && part[1..].iter().all(u8::is_ascii_hexdigit))?;
    let value = u8::from_str_radix(text(&path[at + 1..at + 3]), 16).ok()?;
    let mut decoded = path[..at].to_vec();
    decoded.push(value);
    decoded.extend_from_slice(&path[at + 3..]);
    Some(decoded)
}
