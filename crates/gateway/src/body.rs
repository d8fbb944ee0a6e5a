//! Bodies: one type for all, a pipe between a delivery and a connection, and a bound on silence.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

/// Any error, for bodies and inner services.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of a request or a response, whatever it is made of.
pub struct Body(http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>);

/// Any body as ours.
pub(crate) fn boxed<B>(body: B) -> Body
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Body(body.map_err(Into::into).boxed_unsync())
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

pub(crate) fn empty() -> Body {
    boxed(Empty::new())
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    boxed(Full::new(bytes.into()))
}

/// Why a body ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the upstream sent nothing for too long")]
    Silent,
    #[error("the delivery took too long")]
    TooLong,
    #[error("what is paid for was delivered, and no voucher came for more")]
    Unpaid,
}

/// The sending end of a pipe.
pub(crate) struct PipeSender {
    frames: mpsc::Sender<Result<Frame<Bytes>, BoxError>>,
    taken: Arc<AtomicU64>,
    sent: u64,
}

/// The connection's end of a pipe.
struct Pipe {
    frames: mpsc::Receiver<Result<Frame<Bytes>, BoxError>>,
    taken: Arc<AtomicU64>,
}

/// A body that is filled from elsewhere, one frame at a time: the connection's back-pressure reaches whoever fills it, and when it drops
/// the body, sending fails.
pub(crate) fn pipe() -> (PipeSender, Body) {
    let (frames, receiver) = mpsc::channel(1);
    let taken = Arc::new(AtomicU64::new(0));
    (PipeSender { frames, taken: Arc::clone(&taken), sent: 0 }, boxed(Pipe { frames: receiver, taken }))
}

impl PipeSender {
    /// Waits until there is room, and sends. `false` when nobody reads any more.
    pub(crate) async fn send(&mut self, frame: Frame<Bytes>) -> bool {
        let sent = self.frames.send(Ok(frame)).await.is_ok();
        self.sent = self.sent.saturating_add(u64::from(sent));
        sent
    }

    /// Ends the body as broken, so that the client sees it.
    pub(crate) async fn abort(self, error: BoxError) {
        // Nobody reads any more: then nobody has to know.
        let _ = self.frames.send(Err(error)).await;
    }

    /// Resolves when nobody reads any more.
    pub(crate) async fn closed(&self) {
        self.frames.closed().await;
    }

    /// Whether the connection has taken all frames that were sent.
    pub(crate) fn all_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire) >= self.sent
    }
}

impl HttpBody for Pipe {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(self.frames.poll_recv(cx));
        if frame.is_some() {
            self.taken.fetch_add(1, Ordering::AcqRel);
        }
        Poll::Ready(frame)
    }
}

pin_project_lite::pin_project! {
    /// A body that breaks when nothing comes for too long.
    pub(crate) struct Prompt<B> {
        #[pin]
        body: B,
        #[pin]
        sleep: Sleep,
        idle: Duration,
    }
}

impl<B> Prompt<B> {
    pub(crate) fn new(body: B, idle: Duration) -> Self {
        Self { body, sleep: tokio::time::sleep(idle), idle }
    }
}

impl<B> HttpBody for Prompt<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        match this.body.poll_frame(cx) {
            Poll::Ready(frame) => {
                // The clock runs only while the upstream is waited for, not while the client is.
                if let Some(until) = Instant::now().checked_add(*this.idle) {
                    this.sleep.as_mut().reset(until);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => this.sleep.poll(cx).map(|()| Some(Err(BodyError::Silent.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
