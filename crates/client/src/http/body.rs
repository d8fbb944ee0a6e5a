//! The body of a paid answer. It passes as it comes, but for what is the payment's own in a stream of events: receipts and calls for vouchers are
//! read, and go no further. A program that knows nothing of payments takes whatever event it is given for one of its service's.

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

/// What the comment begins with that a stream ends with that was paid for by x402.
const X402_COMMENT: &str = "x402-settlement ";
/// What the first line of an event is, or of a comment begins with, that is the payment's own.
const OWN: [&str; 5] =
    [": x402-settlement ", "event: payment-need-voucher", "event: payment-receipt", "event:payment-need-voucher", "event:payment-receipt"];
/// Bytes of an event that are kept: a receipt of x402 is a header's worth. What is longer is no payment's.
const EVENT_KEPT_BYTES_MAX: usize = 2 * EVENT_BYTES_MAX;

/// The body of a paid answer.
pub(super) struct PaidBody {
    body: reqwest::Body,
    events: Option<Events>,
    ticket: Option<Ticket>,
    calls: Option<mpsc::UnboundedSender<NeedVoucher>>,
    /// What comes after the bytes that were still kept at the end.
    last: Option<Option<Result<Frame<Bytes>, reqwest::Error>>>,
}

impl PaidBody {
    /// `calls` takes the server's calls for vouchers; `streams` says that the body is a stream of events.
    pub(super) fn new(body: reqwest::Body, streams: bool, ticket: Ticket, calls: Option<mpsc::UnboundedSender<NeedVoucher>>) -> Self {
        Self { body, events: streams.then(Events::default), ticket: Some(ticket), calls, last: None }
    }

    /// What of these bytes goes on to the program.
    fn look(&mut self, data: Bytes) -> Bytes {
        let Some(events) = &mut self.events else { return data };
        let (rest, own) = events.push(data);
        for event in own {
            self.take(&event);
        }
        rest
    }

    fn take(&mut self, event: &Own) {
        let Some(ticket) = &mut self.ticket else { return };
        match event {
            Own::Comment(text) => ticket.receipt_x402(text),
            Own::Event { name, data } => match SessionEvent::from_stream(name, data) {
                Ok(Some(SessionEvent::Receipt(receipt))) => ticket.receipt_mpp(&receipt),
                Ok(Some(SessionEvent::NeedVoucher(need))) => {
                    if let Some(calls) = &self.calls {
                        // Whoever answers is gone when the payment is over.
                        let _ = calls.send(need);
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(event = name, error = %error, "a payment's event cannot be read"),
            },
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
        loop {
            if let Some(last) = self.last.take() {
                return Poll::Ready(last);
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                // At its end, or broken: nothing more is learned.
                end => {
                    self.ticket = None;
                    self.calls = None;
                    let rest = self.events.take().map_or_else(Bytes::new, Events::rest);
                    if rest.is_empty() {
                        return Poll::Ready(end);
                    }
                    self.last = Some(end);
                    return Poll::Ready(Some(Ok(Frame::data(rest))));
                }
            };
            match frame.into_data() {
                Ok(data) => {
                    let data = self.look(data);
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Err(frame) => {
                    if let (Some(trailers), Some(ticket)) = (frame.trailers_ref(), &mut self.ticket) {
                        receipts(trailers, ticket);
                    }
                    let rest = self.events.take().map_or_else(Bytes::new, Events::rest);
                    if rest.is_empty() {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    self.last = Some(Some(Ok(frame)));
                    return Poll::Ready(Some(Ok(Frame::data(rest))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // Only the end itself ends the payment.
        false
    }

    fn size_hint(&self) -> SizeHint {
        // Of a stream of events a part may be taken out.
        if self.events.is_some() { SizeHint::default() } else { self.body.size_hint() }
    }
}

/// What is the payment's own in a stream.
#[derive(Debug, PartialEq, Eq)]
enum Own {
    /// A comment's text, after what it begins with.
    Comment(String),
    /// An event.
    Event { name: String, data: String },
}

/// Takes a payment's own events out of a stream of events. What else there is passes at once: of an event no more is kept back than may still be
/// the beginning of one of a payment's.
#[derive(Debug, Default)]
struct Events {
    /// Bytes of an event that may be, or is, the payment's own, from its beginning.
    kept: Vec<u8>,
    state: State,
    /// The last byte was a carriage return: a line feed after it ends no other line.
    after_return: bool,
    /// The line that the last byte is in, or ended, has something in it.
    in_line: bool,
    /// The line break before was taken out, or kept.
    took_break: bool,
}

/// Where in a stream the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// In the first line of an event, all of which is kept.
    #[default]
    Opening,
    /// In an event of the payment's, which is kept.
    Own,
    /// In an event that passes.
    Passing,
}

impl Events {
    /// What passes of these bytes, and what of the payment's ends in them.
    fn push(&mut self, bytes: Bytes) -> (Bytes, Vec<Own>) {
        let (mut out, mut own) = (Vec::with_capacity(bytes.len()), Vec::new());
        for &byte in &bytes {
            let ends_pair = byte == b'\n' && self.after_return;
            self.after_return = byte == b'\r';
            if ends_pair {
                // It belongs to the carriage return, wherever that went.
                match (self.took_break, self.kept.is_empty()) {
                    (true, false) => self.kept.push(byte),
                    (true, true) => {}
                    (false, _) => out.push(byte),
                }
                continue;
            }
            if byte == b'\n' || byte == b'\r' {
                let is_blank = !std::mem::take(&mut self.in_line);
                self.end_line(byte, is_blank, &mut out, &mut own);
            } else {
                self.in_line = true;
                self.put(byte, &mut out);
            }
        }
        // What passes as it came is not copied.
        let passed = if out == bytes { bytes } else { out.into() };
        (passed, own)
    }

    fn put(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.state == State::Passing {
            return out.push(byte);
        }
        let begins_line = self.kept.last().is_some_and(|last| *last == b'\n' || *last == b'\r');
        self.kept.push(byte);
        let may_be_own = OWN.iter().any(|own| {
            let shared = own.len().min(self.kept.len());
            own.as_bytes().get(..shared) == self.kept.get(..shared)
        });
        let is_other = match self.state {
            State::Opening => !may_be_own,
            // A comment of the payment's stands alone.
            State::Own | State::Passing => begins_line && self.kept.starts_with(b":"),
        };
        if is_other || self.kept.len() > EVENT_KEPT_BYTES_MAX {
            self.pass(out);
        }
    }

    fn end_line(&mut self, end: u8, is_blank: bool, out: &mut Vec<u8>, own: &mut Vec<Own>) {
        if is_blank {
            if self.state == State::Own {
                own.extend(read(&std::mem::take(&mut self.kept)));
                (self.state, self.took_break) = (State::Opening, true);
                return;
            }
            self.pass(out);
            (self.state, self.took_break) = (State::Opening, false);
            return out.push(end);
        }
        let is_own = OWN.iter().any(|own| match own.strip_prefix("event") {
            Some(_) => self.kept == own.as_bytes(),
            None => self.kept.starts_with(own.as_bytes()),
        });
        if self.state == State::Opening {
            if is_own { self.state = State::Own } else { self.pass(out) }
        }
        self.took_break = self.state == State::Own;
        if self.took_break { self.kept.push(end) } else { out.push(end) }
    }

    /// What was kept goes on, with the rest of its event.
    fn pass(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.kept);
        self.state = State::Passing;
    }

    /// What is still kept at the end: it is no whole event.
    fn rest(self) -> Bytes {
        self.kept.into()
    }
}

/// An event, or a comment that stands alone.
fn read(bytes: &[u8]) -> Option<Own> {
    let text = String::from_utf8_lossy(bytes);
    let (mut name, mut data) = (String::new(), String::new());
    for line in text.split(['\r', '\n']).filter(|line| !line.is_empty()) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => {
                if let Some(text) = value.strip_prefix(X402_COMMENT) {
                    return Some(Own::Comment(text.to_owned()));
                }
            }
            "event" => value.clone_into(&mut name),
            "data" => {
                if !data.is_empty() {
                    data.push('\n');
                }
                data.push_str(value);
            }
            _ => {}
        }
    }
    (!name.is_empty() && !data.is_empty()).then_some(Own::Event { name, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payments_own_events_are_taken_out_however_they_are_cut() {
        let event = |name: &str, data: &str| Own::Event { name: name.to_owned(), data: data.to_owned() };
        let check = |stream: &str, passes: &str, own: &[Own]| {
            for size in 1..=stream.len() {
                let (mut events, mut passed, mut found) = (Events::default(), Vec::new(), Vec::new());
                for piece in stream.as_bytes().chunks(size) {
                    let (bytes, more) = events.push(Bytes::copy_from_slice(piece));
                    passed.extend(bytes);
                    found.extend(more);
                }
                passed.extend(events.rest());
                assert_eq!((String::from_utf8_lossy(&passed).as_ref(), found.as_slice()), (passes, own), "{size} of {stream:?}");
            }
        };
        check(
            "data: {\"a\":1}\n\nevent:payment-receipt\ndata:3\n\n: x402-settlement e30=\n\n",
            "data: {\"a\":1}\n\n",
            &[event("payment-receipt", "3"), Own::Comment("e30=".to_owned())],
        );
        check(
            "\u{feff}data: 1\n\nevent: payment-receipt\r\ndata: {\r\ndata: }\r\n\r\nevent:x\rdata:1\r\rdata: [DONE]\n\n",
            "\u{feff}data: 1\n\nevent:x\rdata:1\r\rdata: [DONE]\n\n",
            &[event("payment-receipt", "{\n}")],
        );
        check(
            "event: payment-need-voucher\ndata: 1\n\nevent: payment-receipt\rdata: 2\r\r: ping\n\n",
            ": ping\n\n",
            &[event("payment-need-voucher", "1"), event("payment-receipt", "2")],
        );
        // What is another's passes, to the last byte.
        for other in [
            "event: payment-receipts\ndata: 1\n\n",
            "data: 1\nevent: payment-receipt\n\n",
            ": x402-settlement\n\n",
            ": x402-settlement e30=\ndata: 1\n\n",
            "event: pay\n\n\n\nid: 7\r\n\r\n\r\n",
            "event: payment-receipt\ndata: not ended\n",
            "event: payment-rec",
            "\r\n\r\n\n\r",
        ] {
            check(other, other, &[]);
        }
    }

    #[test]
    fn no_stream_is_kept_without_bound() {
        let mut events = Events::default();
        let (passed, _) = events.push(Bytes::from_static(&[b'a'; 1_000]));
        assert_eq!((passed.len(), events.kept.len()), (1_000, 0));
        events.push(Bytes::from_static(b"\n\nevent: payment-receipt\ndata: "));
        let (mut passed, line) = (0, Bytes::from_static(&[b'0'; 1_000]));
        for _ in 0..1_000 {
            passed += events.push(line.clone()).0.len();
            assert!(events.kept.len() <= EVENT_KEPT_BYTES_MAX);
        }
        assert!(passed + EVENT_KEPT_BYTES_MAX >= 1_000_000, "{passed}");
    }
}
