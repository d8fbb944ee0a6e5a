//! One request that is paid by itself: held, asked of the upstream, collected, delivered.
//!
//! **Invariants.** Nothing is asked of the upstream before the authorisation is held for this request alone. Nothing is sent to the chain before
//! the upstream has answered. Nothing leaves before the payment is collected. What the upstream gives and is not sold is not collected.

use std::sync::Arc;

use http::Response;
use http_body_util::BodyExt;
use millstream_tariff::{Cost, Tariff, Usage};
use tokio::time::{Instant, timeout_at};

use super::{Ahead, CAPTURE_PAUSE_MILLIS, CAPTURE_TRIES, Head, Stream, Upstream, answer, chain, deadline, deadline_of};
use crate::body::{Body, BodyError, BoxError, PipeSender, Prompt, boxed, empty, pipe};
use crate::config::ChargeOn;
use crate::dialects::OnceSpeech;
use crate::meter::{Meter, Snapshot, UsageSource};
use crate::port::{Capture, ChargePort, Collected, HeldOnce, HoldOnce, PortError, ReservationId, VoidReason};
use crate::problem::Problem;
use crate::route::Route;

/// Everything that a request which is paid by itself needs.
pub(crate) struct SingleDelivery {
    pub(crate) port: Arc<dyn ChargePort>,
    pub(crate) route: Arc<Route>,
    pub(crate) tariff: Arc<Tariff>,
    pub(crate) speech: OnceSpeech,
    pub(crate) hold: HoldOnce,
}

impl SingleDelivery {
    /// Runs it; see [`Delivery::run`](super::Delivery::run).
    pub(crate) async fn run(self, upstream: Upstream, mut head: Head) {
        let reservation = match self.hold().await {
            Ok(reservation) => reservation,
            Err(response) => return answer(head, *response),
        };
        let until = deadline(self.route.timeouts.first_byte);
        let response = tokio::select! {
            biased;
            () = head.closed() => return self.void(reservation, VoidReason::ClientLeft).await,
            response = timeout_at(until, upstream) => response,
        };
        let response = match response {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return self.upstream_failed(reservation, head, Some(&error)).await,
            Err(_) => return self.upstream_failed(reservation, head, None).await,
        };
        let (mut parts, mut body) = response.into_parts();
        self.route.headers.response(&mut parts.headers);
        let idle = self.route.timeouts.idle;
        if self.route.charge == ChargeOn::Success && (parts.status.is_client_error() || parts.status.is_server_error()) {
            self.void(reservation, VoidReason::UpstreamStatus(parts.status.as_u16())).await;
            return answer(head, Response::from_parts(parts, boxed(Prompt::new(body, idle))));
        }
        let first = tokio::select! {
            biased;
            () = head.closed() => return self.void(reservation, VoidReason::ClientLeft).await,
            first = timeout_at(until, body.frame()) => first,
        };
        let first = match first {
            Ok(None) => None,
            Ok(Some(Ok(frame))) => Some(frame),
            Ok(Some(Err(error))) => return self.upstream_failed(reservation, head, Some(&error)).await,
            Err(_) => return self.upstream_failed(reservation, head, None).await,
        };
        let mut meter = Meter::new(&parts.headers);
        if first.is_none() {
            meter.finish();
        }
        // From here on the payment may be on its way: a client that leaves does not stop it.
        let collected = match self.collect(reservation, &meter.snapshot(), first.is_none()).await {
            Ok(collected) => collected,
            Err(error) => return answer(head, self.speech.refused(&error, &self.hold.request)),
        };
        self.speech.collected(&mut parts.headers, &collected);
        if self.tariff.is_fixed() || first.is_none() {
            let body = match first {
                Some(first) => boxed(Ahead { ahead: vec![first].into(), body: boxed(Prompt::new(body, idle)) }),
                None => empty(),
            };
            return answer(head, Response::from_parts(parts, body));
        }
        let begun = Instant::now();
        let until = deadline_of(begun, self.route.timeouts.total);
        let stream = Stream { meter, body, ahead: first.into_iter().collect(), begun, until, before: None };
        let (sender, body) = pipe();
        answer(head, Response::from_parts(parts, body));
        self.within_ceiling(stream, sender).await;
    }

    async fn hold(&self) -> Result<ReservationId, Box<Response<Body>>> {
        let Some(singles) = self.port.singles() else {
            // The gate looks when it is made; a port does not lose it.
            let error = PortError::Fault { reason: "the port takes no single payments".to_owned() };
            return Err(Box::new(self.speech.refused(&error, &self.hold.request)));
        };
        match singles.hold(self.hold.clone()).await {
            Ok(HeldOnce::Held { reservation }) => Ok(reservation),
            Ok(HeldOnce::AlreadyCollected(collected)) => Err(Box::new(self.speech.already_collected(&collected, &self.hold.request))),
            Err(error) => Err(Box::new(self.speech.refused(&error, &self.hold.request))),
        }
    }

    /// Collects the whole payment. What it cannot be asked for in time is void.
    async fn collect(&self, reservation: ReservationId, snapshot: &Snapshot, complete: bool) -> Result<Collected, PortError> {
        let Some(singles) = self.port.singles() else { return Err(PortError::Fault { reason: "no single payments".to_owned() }) };
        let capture = Capture {
            cost: Cost::whole(self.hold.payment.amount),
            usage: self.usage(snapshot, 0),
            source: snapshot.source(),
            delivered_sha256: snapshot.digest(),
            complete,
        };
        let mut pause = std::time::Duration::from_millis(CAPTURE_PAUSE_MILLIS);
        let mut result = singles.collect(reservation, capture.clone()).await;
        for _ in 1..CAPTURE_TRIES {
            if !matches!(result, Err(PortError::Unavailable { .. })) {
                break;
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
            result = singles.collect(reservation, capture.clone()).await;
        }
        match &result {
            Ok(_) => {}
            Err(PortError::Rejected(rejection)) => {
                tracing::warn!(request = self.hold.request.as_str(), %rejection, "a payment was not collected");
            }
            Err(error) => {
                tracing::error!(request = self.hold.request.as_str(), error = %error, "a payment was not collected");
                if matches!(error, PortError::Unavailable { .. }) {
                    self.void(reservation, VoidReason::Uncollected).await;
                }
            }
        }
        result
    }

    fn usage(&self, snapshot: &Snapshot, millis: u64) -> Usage {
        snapshot.usage(1, millis)
    }

    /// Passes on what was paid for by its ceiling, and not more than that.
    async fn within_ceiling(&self, mut stream: Stream, mut sender: PipeSender) {
        loop {
            let frame = tokio::select! {
                biased;
                () = sender.closed() => return,
                frame = stream.next(self.route.timeouts.idle) => frame,
            };
            let error: BoxError = match frame {
                Ok(None) => return,
                Ok(Some(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        stream.meter.read(data);
                    }
                    if !self.exceeds(&stream) {
                        if !sender.send(frame).await {
                            return;
                        }
                        continue;
                    }
                    BodyError::Unpaid.into()
                }
                Err(error) => error,
            };
            tracing::warn!(request = self.hold.request.as_str(), error = %error, "a delivery broke off");
            return sender.abort(error).await;
        }
    }

    /// Whether what was read costs more than was paid. What an upstream reports after the fact has been delivered.
    fn exceeds(&self, stream: &Stream) -> bool {
        let snapshot = stream.meter.snapshot();
        let cost = self.tariff.cost(&self.usage(&snapshot, stream.millis())).ok().and_then(|cost| cost.up().ok());
        snapshot.source() != UsageSource::Reported && cost.is_none_or(|cost| cost > self.hold.payment.amount)
    }

    async fn void(&self, reservation: ReservationId, reason: VoidReason) {
        let Some(singles) = self.port.singles() else { return };
        let mut pause = std::time::Duration::from_millis(CAPTURE_PAUSE_MILLIS);
        for _ in 0..CAPTURE_TRIES {
            match singles.void(reservation, reason).await {
                Err(PortError::Unavailable { .. }) => tokio::time::sleep(pause).await,
                Err(error) => {
                    tracing::error!(request = self.hold.request.as_str(), error = %error, "a held payment was not let go of");
                    return;
                }
                Ok(()) => return,
            }
            pause = pause.saturating_mul(2);
        }
    }

    /// The upstream gave nothing: an error, or nothing in time.
    async fn upstream_failed(&self, reservation: ReservationId, head: Head, error: Option<&BoxError>) {
        self.void(reservation, VoidReason::UpstreamFailed).await;
        let problem = match error {
            Some(error) => {
                tracing::warn!(request = self.hold.request.as_str(), error = %chain(error.as_ref()), "the upstream failed");
                let detail =
                    "The provider's service could not be reached or broke off before it gave anything; nothing was charged, try again.";
                Problem::new(http::StatusCode::BAD_GATEWAY, "upstream-failed", detail)
            }
            None => {
                let detail = "The provider's service gave nothing in time; nothing was charged, try again.";
                Problem::new(http::StatusCode::GATEWAY_TIMEOUT, "upstream-silent", detail)
            }
        };
        answer(head, problem.retryable(1_000).respond(&self.hold.request));
    }
}
