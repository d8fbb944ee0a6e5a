//! The body of a paid answer: it passes as it comes, and a copy is read for receipts and for calls for vouchers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use millstream_dialect::limits::EVENT_BYTES_MAX;
use millstream_dialect::mpp::{NeedVoucher, PAYMENT_RECEIPT, Receipt, SessionEvent};
use millstream_dialect::x402::PAYMENT_RESPONSE_ACCEPTED;
use tokio::sync::mpsc;

use super::ticket::Ticket;

/// The event at the end of a stream that was paid for by x402.
const X402_EVENT: &str = "x402-settlement";
/// Bytes of an event that are kept: a receipt of x402 is a header's worth.
const EVENT_KEPT_BYTES_MAX: usize = 2 * EVENT_BYTES_MAX;

/// The body of a paid answer.
pub(super) struct PaidBody {
    body: reqwest::Body,
    events: Option<Events>,
    ticket: Option<Ticket>,
    calls: Option<mpsc::UnboundedSender<NeedVoucher>>,
}

impl PaidBody {
    /// `calls` takes the server's calls for vouchers; `streams` says that the body is a stream of events.
    pub(super) fn new(body: reqwest::Body, streams: bool, ticket: Ticket, calls: Option<mpsc::UnboundedSender<NeedVoucher>>) -> Self {
        Self { body, events: streams.then(Events::default), ticket: Some(ticket), calls }
    }

    fn look(&mut self, data: &Bytes) {
        let Some(events) = &mut self.events else { return };
        for (name, data) in events.push(data) {
            let Some(ticket) = &mut self.ticket else { return };
            if name == X402_EVENT {
                ticket.receipt_x402(&data);
                continue;
            }
            match SessionEvent::from_stream(&name, &data) {
                Ok(Some(SessionEvent::Receipt(receipt))) => ticket.receipt_mpp(&receipt),
                Ok(Some(SessionEvent::NeedVoucher(need))) => {
                    if let Some(calls) = &self.calls {
                        // Whoever answers is gone when the payment is over.
                        let _ = calls.send(need);
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(event = name, error = %error, "a payment's event cannot be read"),
            }
        }
    }
}

/// The receipts in headers or trailers.
pub(super) fn receipts(headers: &HeaderMap, ticket: &mut Ticket) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(receipt) = PAYMENT_RESPONSE_ACCEPTED.into_iter().find_map(text) {
        ticket.receipt_x402(receipt);
    }
    if let Some(receipt) = text(PAYMENT_RECEIPT) {
        match Receipt::from_header(receipt) {
            Ok(receipt) => ticket.receipt_mpp(&receipt),
            Err(error) => tracing::debug!(error = %error, "a receipt cannot be read"),
        }
    }
}

impl HttpBody for PaidBody {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.look(data);
                } else if let (Some(trailers), Some(ticket)) = (frame.trailers_ref(), &mut self.ticket) {
                    receipts(trailers, ticket);
                }
            }
            // At its end, or broken: nothing more is learned.
            Some(Err(_)) | None => {
                self.ticket = None;
                self.calls = None;
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // Only the end itself ends the payment.
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A reader of server-sent events that keeps only what payments are about.
#[derive(Debug, Default)]
struct Events {
    line: Vec<u8>,
    name: String,
    data: String,
    kept: usize,
    /// The last byte was a carriage return: a line feed after it ends no other line.
    after_return: bool,
    first: bool,
}

impl Events {
    /// The events that end in these bytes.
    fn push(&mut self, bytes: &[u8]) -> Vec<(String, String)> {
        let mut events = Vec::new();
        for &byte in bytes {
            let skipped = byte == b'\n' && self.after_return;
            self.after_return = byte == b'\r';
            if skipped {
                continue;
            }
            if byte != b'\n' && byte != b'\r' {
                // A longer line is none of ours.
                if self.line.len() < EVENT_KEPT_BYTES_MAX {
                    self.line.push(byte);
                }
                continue;
            }
            events.extend(self.end_line());
        }
        events
    }

    fn end_line(&mut self) -> Option<(String, String)> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            self.kept = 0;
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            return (!name.is_empty() && !data.is_empty()).then_some((name, data));
        }
        let line = String::from_utf8_lossy(&line);
        let line = if self.first { &line[..] } else { line.trim_start_matches('\u{feff}') };
        self.first = true;
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" if self.kept.saturating_add(value.len()) <= EVENT_KEPT_BYTES_MAX => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.kept = self.kept.saturating_add(value.len());
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let stream = "data: {\"a\":1}\n\nevent: payment-receipt\r\ndata: {\r\ndata: }\r\n\r\nevent:x\rdata:1\r\rdata: [DONE]\n\n";
        let expected = [("payment-receipt", "{\n}"), ("x", "1")].map(|(name, data)| (name.to_owned(), data.to_owned()));
        for size in 1..stream.len() {
            let mut events = Events::default();
            let found: Vec<_> = stream.as_bytes().chunks(size).flat_map(|piece| events.push(piece)).collect();
            assert_eq!(found, expected, "{size}");
        }
    }

    #[test]
    fn no_stream_is_kept_without_bound() {
        let mut events = Events::default();
        for _ in 0..1_000 {
            assert!(events.push(&[b'a'; 1_000]).is_empty());
        }
        assert!(events.line.len() <= EVENT_KEPT_BYTES_MAX);
        for _ in 0..1_000 {
            events.push(b"\nevent: payment-receipt\ndata: 0123456789012345678901234567890123456789012345678901234567890123456789");
        }
        assert!(events.data.len() <= 2 * EVENT_KEPT_BYTES_MAX);
    }
}
