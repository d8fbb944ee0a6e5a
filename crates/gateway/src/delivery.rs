//! One paid request, from the reservation to the charge.
//!
//! It runs as a task of its own, so that a client that leaves cannot leave a reservation behind.
//!
//! **Invariants.** Nothing is asked of the upstream before an amount is held. Nothing leaves before the port has made durable that the delivery
//! begins, or what it costs. What leaves never costs more than what is held. An upstream that gives nothing costs nothing.

mod once;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRAILER};
use http::{Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use millstream_tariff::{Cost, History, Tariff, Unit, Usage};
use millstream_types::Amount;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

pub(crate) use self::once::SingleDelivery;
use crate::body::{Body, BodyError, BoxError, PipeSender, Prompt, boxed, pipe};
use crate::config::{ChargeOn, WithoutUsage};
use crate::dialects::Speech;
use crate::meter::{Meter, Snapshot, UsageSource};
use crate::port::{Capture, Charge, ChargePort, PortError, ReservationId, Reserve, Reserved, Standing, VoidReason};
use crate::problem::Problem;
use crate::route::Route;

/// Seconds of a stream after which it is marked again what was delivered.
const MARK_SECS: u64 = 1;
/// Times a capture is tried, with pauses between, before it is left to the port's rule for crashes.
const CAPTURE_TRIES: u32 = 6;
/// The pause after the first try; it doubles.
const CAPTURE_PAUSE_MILLIS: u64 = 50;

/// Everything that a paid request needs.
pub(crate) struct Delivery {
    pub(crate) port: Arc<dyn ChargePort>,
    pub(crate) route: Arc<Route>,
    /// The prices that it began with, and keeps.
    pub(crate) tariff: Arc<Tariff>,
    /// What of the payer they depend on: known once something is held.
    pub(crate) history: History,
    pub(crate) speech: Speech,
    pub(crate) reserve: Reserve,
    /// The most it can come to.
    pub(crate) bound: Usage,
    /// The client accepts trailers.
    pub(crate) trailers: bool,
}

/// What is held for it.
struct Held {
    reservation: ReservationId,
    amount: Amount,
    standing: Standing,
    /// What was marked as delivered: no less is charged.
    marked: Cost,
}

/// Why a stream ended.
enum End {
    /// The upstream ended it.
    Whole(Option<HeaderMap>),
    /// It broke off.
    Broken(BoxError),
    /// The client left.
    Left,
}

type Head = oneshot::Sender<Response<Body>>;

/// The upstream's answer, which nobody has asked for before it is polled.
pub(crate) type Upstream = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

impl Delivery {
    /// Runs it. `upstream` asks the upstream once it is polled. The response goes out through `head` as soon as there is one; its body may
    /// still be filled then.
    pub(crate) async fn run(mut self, upstream: Upstream, mut head: Head) {
        let held = match self.hold().await {
            Ok(held) => held,
            Err(response) => return answer(head, *response),
        };
        let deadline = deadline(self.route.timeouts.first_byte);
        let response = tokio::select! {
            biased;
            () = head.closed() => return self.void(&held, VoidReason::ClientLeft).await,
            response = timeout_at(deadline, upstream) => response,
        };
        let response = match response {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return self.upstream_failed(&held, head, &error).await,
            Err(_) => return self.upstream_silent(&held, head).await,
        };
        let (mut parts, mut body) = response.into_parts();
        self.route.headers.response(&mut parts.headers);
        if self.route.charge == ChargeOn::Success && (parts.status.is_client_error() || parts.status.is_server_error()) {
            self.void(&held, VoidReason::UpstreamStatus(parts.status.as_u16())).await;
            let mut response = Response::from_parts(parts, boxed(Prompt::new(body, self.route.timeouts.idle)));
            self.speech.not_charged(response.headers_mut(), &held.standing);
            return answer(head, response);
        }
        let first = tokio::select! {
            biased;
            () = head.closed() => return self.void(&held, VoidReason::ClientLeft).await,
            first = timeout_at(deadline, body.frame()) => first,
        };
        let first = match first {
            Ok(None) => None,
            Ok(Some(Ok(frame))) => Some(frame),
            Ok(Some(Err(error))) => return self.upstream_failed(&held, head, &error).await,
            Err(_) => return self.upstream_silent(&held, head).await,
        };
        let meter = Meter::new(&parts.headers);
        if self.tariff.is_fixed() || first.is_none() {
            return self.whole_price(held, head, parts, meter, first, body).await;
        }
        let begun = Instant::now();
        let mut stream =
            Stream { meter, body, ahead: Vec::new(), begun, until: deadline_of(begun, self.route.timeouts.total), before: None };
        stream.ahead.extend(first);
        if !stream.meter.is_event_stream() && stream.meter.is_readable() {
            // Its usage stands at its end: if it is short, the head can carry the receipt.
            match stream.hold_back(self.route.limits.hold_bytes_max, self.route.timeouts.idle, &mut head).await {
                HeldBack::Whole => return self.held_back(held, head, parts, stream).await,
                HeldBack::TooLong => {}
                HeldBack::Broken(error) => return self.upstream_failed(&held, head, &error).await,
                HeldBack::Left => return self.void(&held, VoidReason::ClientLeft).await,
            }
        }
        if stream.meter.is_event_stream() {
            // An event may be added to it.
            parts.headers.remove(CONTENT_LENGTH);
        }
        self.stream(held, head, parts, stream).await;
    }

    /// Holds the amount, or says why not.
    async fn hold(&mut self) -> Result<Held, Box<Response<Body>>> {
        match self.port.reserve(self.reserve.clone()).await {
            Ok(Reserved::Held { reservation, amount, standing, funded }) => {
                self.speech.note_funded(funded);
                self.history.charged = standing.charged.as_amount();
                Ok(Held { reservation, amount, standing, marked: Cost::ZERO })
            }
            Ok(Reserved::AlreadyCharged(charge)) => Err(Box::new(self.speech.already_charged(&charge, &self.reserve.request))),
            Err(error) => Err(Box::new(self.speech.refused(&error, &self.reserve.request))),
        }
    }

    /// A price that is known before anything is delivered, or an answer without a body.
    async fn whole_price(
        &self,
        held: Held,
        head: Head,
        parts: http::response::Parts,
        mut meter: Meter,
        first: Option<Frame<Bytes>>,
        body: Body,
    ) {
        if first.is_none() {
            meter.finish();
        }
        let snapshot = meter.snapshot();
        match self.capture(&held, &snapshot, 0, first.is_none()).await {
            Ok(charge) => {
                let body = match first {
                    Some(first) => boxed(Ahead { ahead: vec![first].into(), body: boxed(Prompt::new(body, self.route.timeouts.idle)) }),
                    None => crate::body::empty(),
                };
                let mut response = Response::from_parts(parts, body);
                self.speech.charged(response.headers_mut(), &charge);
                answer(head, response);
            }
            Err(error) => self.not_captured(head, &error),
        }
    }

    /// An answer that was read to its end before anything of it left.
    async fn held_back(&self, held: Held, head: Head, parts: http::response::Parts, mut stream: Stream) {
        for frame in &stream.ahead {
            if let Some(data) = frame.data_ref() {
                stream.meter.read(data);
            }
        }
        stream.meter.finish();
        let snapshot = stream.meter.snapshot();
        match self.capture(&held, &snapshot, stream.millis(), true).await {
            Ok(charge) => {
                let mut response = Response::from_parts(parts, boxed(Ahead { ahead: stream.ahead.into(), body: crate::body::empty() }));
                self.speech.charged(response.headers_mut(), &charge);
                answer(head, response);
            }
            Err(error) => self.not_captured(head, &error),
        }
    }

    /// An answer that leaves as it comes.
    async fn stream(&self, mut held: Held, head: Head, mut parts: http::response::Parts, mut stream: Stream) {
        if let Err(error) = self.port.mark(held.reservation, Cost::ZERO).await {
            self.void(&held, VoidReason::ClientLeft).await;
            return answer(head, self.speech.refused(&error, &self.reserve.request));
        }
        if self.trailers {
            parts.headers.append(TRAILER, HeaderValue::from_static(self.speech.receipt_header()));
        }
        let (mut sender, body) = pipe();
        answer(head, Response::from_parts(parts, body));

        let mut delivered = stream.meter.snapshot();
        let mut told = Instant::now();
        let end = loop {
            let frame = tokio::select! {
                biased;
                () = sender.closed() => break End::Left,
                frame = stream.next(self.route.timeouts.idle) => frame,
            };
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) => break End::Whole(None),
                Err(error) => break End::Broken(error),
            };
            let frame = match frame.into_data() {
                Ok(data) => data,
                // Trailers are the last frame.
                Err(trailers) => break End::Whole(trailers.into_trailers().ok()),
            };
            let between_events = stream.meter.is_between_events();
            stream.meter.read(&frame);
            let snapshot = stream.meter.snapshot();
            match self.cover(&mut held, &snapshot, stream.millis(), between_events, &mut sender).await {
                Cover::Held => {}
                Cover::Unpaid => break End::Broken(BodyError::Unpaid.into()),
                Cover::Left => break End::Left,
            }
            if !sender.send(Frame::data(frame)).await {
                break End::Left;
            }
            // Of two frames the connection may not have taken the later one.
            let before = std::mem::replace(&mut delivered, snapshot);
            if told.elapsed() >= Duration::from_secs(MARK_SECS) {
                told = Instant::now();
                let certain = if sender.all_taken() { &delivered } else { &before };
                self.mark(&mut held, certain, stream.millis()).await;
            }
            stream.before = Some(before);
        };
        let millis = stream.millis();
        match end {
            End::Whole(trailers) => {
                stream.meter.finish();
                let snapshot = stream.meter.snapshot();
                let charge = self.capture(&held, &snapshot, millis, true).await;
                self.close(sender, charge, trailers, stream.meter.is_between_events()).await;
            }
            End::Broken(error) => {
                tracing::warn!(request = self.reserve.request.as_str(), error = %error, "a delivery broke off");
                let charge = self.capture(&held, &delivered, millis, false).await;
                if let Ok(charge) = charge
                    && stream.meter.is_between_events()
                    && let Some(event) = self.speech.receipt_event(&charge)
                {
                    sender.send(Frame::data(event)).await;
                }
                sender.abort(error).await;
            }
            End::Left => {
                let last = if sender.all_taken() { Some(delivered) } else { stream.before.take() };
                let last = last.unwrap_or_else(|| Meter::new(&HeaderMap::new()).snapshot());
                // Nobody is there to be told; a failure is logged.
                let _ = self.capture(&held, &last, millis, false).await;
            }
        }
    }

    /// Makes sure that what is about to leave is held, and waits for a voucher where the dialect has them come during a stream.
    async fn cover(&self, held: &mut Held, next: &Snapshot, millis: u64, between_events: bool, sender: &mut PipeSender) -> Cover {
        let Some(needed) = self.cost(next, millis, false).and_then(|cost| cost.up().ok()) else { return Cover::Unpaid };
        if needed <= held.amount {
            return Cover::Held;
        }
        // Usage that was reported after the fact has been delivered: it is charged up to what is held.
        let beyond = if next.source() == UsageSource::Reported { Cover::Held } else { Cover::Unpaid };
        let Some(wait) = self.speech.waits_for_vouchers() else { return beyond };
        let Ok(mut standing) = self.port.watch(held.standing.channel).await else { return beyond };
        let until = deadline(wait);
        let mut asked = false;
        loop {
            // Before it is asked to extend: a hold of another request is told before it is durable, and the answer waits for that.
            let now = standing.borrow_and_update().clone();
            let is_durable = match self.port.extend(held.reservation, needed).await {
                Ok(amount) => {
                    held.amount = held.amount.max(amount);
                    true
                }
                Err(PortError::Unavailable { .. }) => false,
                Err(_) => return beyond,
            };
            if needed <= held.amount {
                return Cover::Held;
            }
            if is_durable && between_events && !asked {
                asked = true;
                let missing = needed.checked_sub(held.amount).ok();
                let event = missing.and_then(|missing| self.speech.need_voucher_event(&now, missing));
                if let Some(event) = event
                    && !sender.send(Frame::data(event)).await
                {
                    return Cover::Left;
                }
            }
            tokio::select! {
                biased;
                () = sender.closed() => return Cover::Left,
                changed = timeout_at(until, standing.changed()) => match changed {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return beyond,
                },
            }
        }
    }

    /// Ends a stream that is whole, with its receipt. `events`: something can be put after the last event.
    async fn close(&self, mut sender: PipeSender, charge: Result<Charge, PortError>, trailers: Option<HeaderMap>, events: bool) {
        let mut trailers = trailers.unwrap_or_default();
        if let Ok(charge) = &charge {
            if let Some(event) = self.speech.receipt_event(charge).filter(|_| events) {
                sender.send(Frame::data(event)).await;
            }
            if self.trailers {
                self.speech.charged(&mut trailers, charge);
            }
        }
        if !trailers.is_empty() {
            sender.send(Frame::trailers(trailers)).await;
        }
    }

    /// What a delivery costs up to here. `complete`: it ended as it should, so what it does not tell is unknown and not just late.
    fn cost(&self, snapshot: &Snapshot, millis: u64, complete: bool) -> Option<Cost> {
        self.tariff.cost_for(&self.history, &self.usage(snapshot, millis, complete)).ok()
    }

    fn usage(&self, snapshot: &Snapshot, millis: u64, complete: bool) -> Usage {
        let mut usage = snapshot.usage(1, millis);
        if complete && self.route.without_usage == WithoutUsage::Ceiling {
            let price = self.tariff.price();
            match snapshot.source() {
                UsageSource::Reported => {}
                UsageSource::Counted if snapshot.tells_input() => {}
                UsageSource::Counted => usage.input_tokens = self.bound.input_tokens,
                UsageSource::Nothing => {
                    usage.input_tokens = self.bound.input_tokens;
                    // Embeddings and images are read and not written: only what is priced was promised.
                    if price.counts(Unit::OutputToken) {
                        usage.output_tokens = self.bound.output_tokens;
                    }
                }
            }
        }
        usage
    }

    async fn mark(&self, held: &mut Held, delivered: &Snapshot, millis: u64) {
        let cost = self.cost(delivered, millis, false).map(|cost| cost.min(Cost::whole(held.amount)));
        // A report may be below what was counted; marks only rise.
        if let Some(cost) = cost.filter(|cost| *cost > held.marked) {
            held.marked = cost;
            // A later one, or the capture, says the same and more.
            if let Err(error) = self.port.mark(held.reservation, cost).await {
                tracing::warn!(request = self.reserve.request.as_str(), error = %error, "what was delivered so far was not marked");
            }
        }
    }

    async fn capture(&self, held: &Held, snapshot: &Snapshot, millis: u64, complete: bool) -> Result<Charge, PortError> {
        let usage = self.usage(snapshot, millis, complete);
        let cost = self
            .tariff
            .cost_for(&self.history, &usage)
            .unwrap_or(Cost::whole(held.amount))
            .max(held.marked)
            .min(Cost::whole(held.amount));
        let capture = Capture { cost, usage, source: snapshot.source(), delivered_sha256: snapshot.digest(), complete };
        let mut pause = Duration::from_millis(CAPTURE_PAUSE_MILLIS);
        for _ in 1..CAPTURE_TRIES {
            match self.port.capture(held.reservation, capture.clone()).await {
                Err(PortError::Unavailable { .. }) => tokio::time::sleep(pause).await,
                result => return self.logged(result),
            }
            pause = pause.saturating_mul(2);
        }
        let result = self.port.capture(held.reservation, capture).await;
        self.logged(result)
    }

    fn logged<T>(&self, result: Result<T, PortError>) -> Result<T, PortError> {
        if let Err(error) = &result {
            tracing::error!(request = self.reserve.request.as_str(), error = %error, "a delivery was not charged");
        }
        result
    }

    async fn void(&self, held: &Held, reason: VoidReason) {
        let mut pause = Duration::from_millis(CAPTURE_PAUSE_MILLIS);
        for _ in 0..CAPTURE_TRIES {
            match self.port.void(held.reservation, reason).await {
                Err(PortError::Unavailable { .. }) => tokio::time::sleep(pause).await,
                result => {
                    let _ = self.logged(result);
                    return;
                }
            }
            pause = pause.saturating_mul(2);
        }
    }

    async fn upstream_failed(&self, held: &Held, head: Head, error: &BoxError) {
        tracing::warn!(request = self.reserve.request.as_str(), error = %chain(error.as_ref()), "the upstream failed");
        self.void(held, VoidReason::UpstreamFailed).await;
        let detail = "The provider's service could not be reached or broke off before it gave anything; nothing was charged, try again.";
        let problem = Problem::new(StatusCode::BAD_GATEWAY, "upstream-failed", detail).retryable(1_000).on_channel(held.standing.channel);
        answer(head, problem.respond(&self.reserve.request));
    }

    async fn upstream_silent(&self, held: &Held, head: Head) {
        self.void(held, VoidReason::UpstreamFailed).await;
        let detail = "The provider's service gave nothing in time; nothing was charged, try again.";
        let problem =
            Problem::new(StatusCode::GATEWAY_TIMEOUT, "upstream-silent", detail).retryable(1_000).on_channel(held.standing.channel);
        answer(head, problem.respond(&self.reserve.request));
    }

    /// The upstream has answered, and nothing of it may leave because it could not be charged.
    fn not_captured(&self, head: Head, error: &PortError) {
        answer(head, self.speech.refused(error, &self.reserve.request));
    }
}

/// Whether what leaves next is paid for.
enum Cover {
    Held,
    Unpaid,
    Left,
}

/// An upstream's body under way.
struct Stream {
    meter: Meter,
    body: Body,
    /// Frames that were read before they were needed.
    ahead: Vec<Frame<Bytes>>,
    begun: Instant,
    until: Instant,
    /// What was counted before the last frame that was sent.
    before: Option<Snapshot>,
}

/// What came of holding an answer back.
enum HeldBack {
    Whole,
    TooLong,
    Broken(BoxError),
    Left,
}

impl Stream {
    fn millis(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn next(&mut self, idle: Duration) -> Result<Option<Frame<Bytes>>, BoxError> {
        if !self.ahead.is_empty() {
            return Ok(Some(self.ahead.remove(0)));
        }
        self.read(idle).await
    }

    async fn read(&mut self, idle: Duration) -> Result<Option<Frame<Bytes>>, BoxError> {
        let silent = deadline(idle);
        match timeout_at(silent.min(self.until), self.body.frame()).await {
            Ok(frame) => frame.transpose(),
            Err(_) if silent < self.until => Err(BodyError::Silent.into()),
            Err(_) => Err(BodyError::TooLong.into()),
        }
    }

    async fn hold_back(&mut self, bytes_max: u64, idle: Duration, head: &mut Head) -> HeldBack {
        let mut bytes: u64 = self.ahead.iter().filter_map(Frame::data_ref).map(len).sum();
        while bytes <= bytes_max {
            let frame = tokio::select! {
                biased;
                () = head.closed() => return HeldBack::Left,
                frame = self.read(idle) => frame,
            };
            match frame {
                Ok(Some(frame)) => {
                    bytes = bytes.saturating_add(frame.data_ref().map_or(0, len));
                    self.ahead.push(frame);
                }
                Ok(None) => return HeldBack::Whole,
                Err(error) => return HeldBack::Broken(error),
            }
        }
        HeldBack::TooLong
    }
}

pin_project_lite::pin_project! {
    /// Frames that were read already, and then the rest.
    struct Ahead {
        ahead: std::collections::VecDeque<Frame<Bytes>>,
        #[pin]
        body: Body,
    }
}

impl HttpBody for Ahead {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        match this.ahead.pop_front() {
            Some(frame) => std::task::Poll::Ready(Some(Ok(frame))),
            None => this.body.poll_frame(cx),
        }
    }
}

fn len(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn deadline(after: Duration) -> Instant {
    deadline_of(Instant::now(), after)
}

fn deadline_of(from: Instant, after: Duration) -> Instant {
    from.checked_add(after).unwrap_or(from)
}

/// Whoever waited for the answer may have left; the delivery task has dealt with that, or will when it sends.
fn answer(head: Head, response: Response<Body>) {
    drop(head.send(response));
}

/// An error with its sources.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
