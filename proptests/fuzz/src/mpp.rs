//! MPP: offers, credentials, receipts, preferences, events, problems, and the payloads of `charge` and `session`; both sides.

use millstream_dialect::limits::{
    ACCEPT_RANGES_MAX, CREDENTIAL_BYTES_MAX, EVENT_BYTES_MAX, FACILITATOR_BODY_BYTES_MAX, HEADER_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX,
    OFFERS_MAX, SPLITS_MAX,
};
use millstream_dialect::mpp::{
    AcceptPayment, BindingKey, ChargePayload, ChargeRequest, Credential, IdempotencyKey, Offer, OfferTerms, Problem, Receipt, SessionEvent,
    SessionPayload, SessionRequest, Source, moment_text, parse_moment,
};
use millstream_dialect::{Object, canonical_json};
use millstream_types::Address;
use serde_json::Value;

use crate::{assert_within_limits, object, object_twice, split, text, twice, url_safe};

/// Holds the decoder that the first byte names to its promises. Whether it read something.
pub fn check(data: &[u8]) -> bool {
    let Some((kind, input)) = split(data) else { return false };
    match kind {
        b'O' => offers(text(input)),
        b'a' => credential(text(input)).is_some(),
        b'C' => {
            let credential = credential(&format!("Payment {}", url_safe(input)));
            credential.inspect(|_| assert_within_limits(input, CREDENTIAL_BYTES_MAX)).is_some()
        }
        b'R' => receipt(&url_safe(input)).inspect(|_| assert_within_limits(input, HEADER_BYTES_MAX)).is_some(),
        b'r' => receipt(text(input)).is_some(),
        b'A' => {
            let Ok(accept) = text(input).parse::<AcceptPayment>() else { return false };
            assert!((1..=ACCEPT_RANGES_MAX).contains(&accept.ranges.len()));
            assert_eq!(accept.to_string().parse::<AcceptPayment>(), Ok(accept));
            true
        }
        b'E' => event("payment-need-voucher", input),
        b'e' => event("payment-receipt", input),
        b'B' => {
            let problem = twice(input, Problem::from_json, Problem::to_json);
            problem.inspect(|_| assert_within_limits(input, FACILITATOR_BODY_BYTES_MAX)).is_some()
        }
        b'p' => payloads(&object(input)),
        b'q' => requests(&OfferTerms { request: url_safe(input), opaque: Some(url_safe(input)), ..OfferTerms::default() }),
        b'k' => {
            let Ok(key) = IdempotencyKey::new(text(input)) else { return false };
            assert!((1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.as_str().len()));
            assert!(key.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
            true
        }
        b'm' => {
            let Ok(moment) = parse_moment("fuzz", text(input)) else { return false };
            let written = moment_text("fuzz", moment).expect("it was read");
            assert_eq!(parse_moment("fuzz", &written), Ok(moment), "{written}");
            true
        }
        b's' => Source::read(text(input)).inspect(|source| assert_eq!(Source::read(&source.to_string()), Ok(*source))).is_ok(),
        b'j' => {
            let Ok(value) = serde_json::from_slice::<Value>(input) else { return false };
            let Ok(canonical) = canonical_json("fuzz", &value) else { return false };
            let read: Value = serde_json::from_str(&canonical).expect("JSON");
            assert_eq!(canonical_json("fuzz", &read), Ok(canonical));
            true
        }
        _ => false,
    }
}

/// Whether all of them are offers, and there is one.
fn offers(value: &str) -> bool {
    let read = Offer::from_headers([value]);
    assert!(read.len() <= OFFERS_MAX);
    let all = !read.is_empty() && read.iter().all(Result::is_ok);
    let key = BindingKey::new(&[7; 32]).expect("long enough");
    for offer in read.into_iter().flatten() {
        requests(&offer.terms);
        let _ = (offer.terms.expires(), offer.terms.is_for_body(b"{}"));
        assert!(!key.is_ours(&offer), "an id that was not made with the key");
        let bound = key.bind(offer.terms.clone());
        assert!(key.is_ours(&bound));
        for offer in [offer, bound] {
            // Escapes and quotes may make it longer than it came.
            let Ok(header) = offer.to_header() else { continue };
            assert!(header.len() <= HEADER_BYTES_MAX && header.bytes().all(|byte| (b' '..=b'~').contains(&byte) || byte == b'\t'));
            assert_eq!(Offer::from_headers([header.as_str()]), [Ok(offer)], "{header}");
        }
    }
    all
}

fn credential(value: &str) -> Option<Credential> {
    let read = |value: &[u8]| Credential::from_header(text(value)).map(Option::unwrap);
    Credential::from_header(value).ok()??;
    let credential = twice(value.as_bytes(), read, Credential::to_header)?;
    let _ = credential.source();
    requests(&credential.offer.terms);
    payloads(&credential.payload);
    if let (Ok(charge), Ok(request)) = (ChargePayload::from_object(&credential.payload), credential.offer.terms.request::<ChargeRequest>())
    {
        let _ = charge.check(&credential.offer, &request);
        let _ = (charge.signed_transfer(), charge.signed_permit(&request, Address::ZERO));
    }
    Some(credential)
}

fn receipt(value: &str) -> Option<Receipt> {
    let receipt = twice(value.as_bytes(), |value| Receipt::from_header(text(value)), Receipt::to_header)?;
    if let Ok(session) = receipt.session() {
        let again = session.to_receipt().expect("it was read");
        assert_eq!(again.session(), Ok(session));
    }
    Some(receipt)
}

fn event(name: &str, data: &[u8]) -> bool {
    let read = |data: &[u8]| SessionEvent::from_stream(name, text(data)).map(|event| event.expect("ours"));
    let write = |event: &SessionEvent| {
        let written = event.to_stream()?;
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!((lines.len(), lines[0].strip_prefix("event: ")), (3, Some(name)), "{written}");
        Ok(lines[1].strip_prefix("data: ").expect("data").to_owned())
    };
    twice(data, read, write).inspect(|_| assert_within_limits(data, EVENT_BYTES_MAX)).is_some()
}

/// Whether it is the request of an intent, or what a server gives along.
fn requests(terms: &OfferTerms) -> bool {
    let (session, charge) = (terms.request::<SessionRequest>(), terms.request::<ChargeRequest>());
    if let Ok(request) = &session {
        let again = Object::of("fuzz", request).and_then(|request| request.read::<SessionRequest>("fuzz"));
        assert_eq!(again.as_ref(), Ok(request));
        let _ = request.domain();
    }
    if let Ok(request) = &charge {
        let again = Object::of("fuzz", request).and_then(|request| request.read::<ChargeRequest>("fuzz"));
        assert_eq!(again.as_ref(), Ok(request));
        if let Ok(transfers) = request.transfers() {
            assert!(transfers.len() <= SPLITS_MAX + 1);
            // H-30: the transfers are the amount, neither more nor less.
            let sum = transfers.iter().try_fold(0u128, |sum, transfer| sum.checked_add(transfer.requested_amount.units()));
            assert_eq!(sum, Some(request.amount.units()));
        }
    }
    session.is_ok() || charge.is_ok() || terms.opaque().is_ok()
}

/// Whether it is the payload of an intent.
fn payloads(payload: &Object) -> bool {
    let charge = object_twice(payload, ChargePayload::from_object, ChargePayload::to_object);
    if let Some(charge) = &charge {
        let _ = (charge.kind(), charge.signed_transfer());
    }
    let session = object_twice(payload, SessionPayload::from_object, SessionPayload::to_object);
    charge.is_some() || session.is_some()
}
