//! Real servers that answer as the test tells them to.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, Response, Uri};
use futures_util::stream;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// A request as the upstream saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub version: axum::http::Version,
}

pub type Piece = Result<Bytes, std::io::Error>;

enum Reply {
    Whole(Response<Body>),
    /// A head; the body comes from the test, piece by piece. An error breaks the connection.
    Pieces(Response<()>, mpsc::Receiver<Piece>),
    /// Never.
    Silence,
}

#[derive(Clone, Default)]
struct Script {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

pub struct Upstream {
    pub address: SocketAddr,
    script: Script,
}

impl Upstream {
    pub async fn start() -> Self {
        let script = Script::default();
        let router = Router::new().fallback(answer).with_state(script.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(router.clone());
                tokio::spawn(async move {
                    // HTTP/1.1 and HTTP/2. Broken connections are what some tests are about.
                    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, script }
    }

    pub fn reply(&self, content_type: &str, body: impl Into<Bytes>) {
        self.reply_with(Response::builder().header("content-type", content_type).body(Body::from(body.into())).expect("sound"));
    }

    pub fn reply_with(&self, response: Response<Body>) {
        self.push(Reply::Whole(response));
    }

    /// A response whose body the test sends.
    pub fn pieces(&self, content_type: &str) -> mpsc::Sender<Piece> {
        let (sender, receiver) = mpsc::channel(1);
        let head = Response::builder().header("content-type", content_type).body(()).expect("sound");
        self.push(Reply::Pieces(head, receiver));
        sender
    }

    pub fn silence(&self) {
        self.push(Reply::Silence);
    }

    fn push(&self, reply: Reply) {
        self.script.replies.lock().expect("sound").push_back(reply);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.script.seen.lock().expect("sound").clone()
    }
}

async fn answer(State(script): State<Script>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    script.seen.lock().expect("sound").push(Seen { uri: parts.uri, headers: parts.headers, body, version: parts.version });
    let reply = script.replies.lock().expect("sound").pop_front();
    match reply.expect("a request that the test expects") {
        Reply::Whole(response) => response,
        Reply::Pieces(head, receiver) => {
            let pieces = stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
            head.map(|()| Body::from_stream(pieces))
        }
        Reply::Silence => std::future::pending::<Result<Response<Body>, Infallible>>().await.expect("never"),
    }
}

/// An event with a delta of one token.
pub fn delta(text: &str) -> Bytes {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n").into()
}

pub fn usage_event(prompt: u64, completion: u64) -> Bytes {
    format!("data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion}}}}}\n\n").into()
}

pub fn completion(prompt: u64, completion: u64) -> String {
    format!(
        "{{\"choices\":[{{\"message\":{{\"content\":\"hi\"}}}}],\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion}}}}}"
    )
}
