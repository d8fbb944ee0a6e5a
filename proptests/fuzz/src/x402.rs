//! x402: the three headers, the payloads of the schemes, the facilitator's bodies, extensions and reasons; what servers, payers and
//! facilitators read.

use millstream_dialect::limits::{CLAIMS_MAX, FACILITATOR_BODY_BYTES_MAX, HEADER_BYTES_MAX, OFFERS_MAX, PAYMENT_ID_BYTES};
use millstream_dialect::x402::custody::{CustodyExtra, CustodyKind, CustodyVerifyExtra};
use millstream_dialect::x402::{
    BatchCommand, BatchExtra, BatchOffer, BatchPayload, BatchResponseExtra, Claim, ExactOffer, ExactPayload, FacilitatorRequest, PaymentId,
    PaymentPayload, PaymentRequired, PaymentRequirements, Reason, SettleResponse, Supported, UptoPayload, VerifyResponse, batch_domain,
};
use millstream_dialect::{DialectError, Object};
use millstream_types::ChainId;

use crate::{assert_within_limits, object, object_twice, padded, serde_twice, split, text, twice};

/// Holds the decoder that the first byte names to its promises. Whether it read something.
pub fn check(data: &[u8]) -> bool {
    let Some((kind, input)) = split(data) else { return false };
    let within = || assert_within_limits(input, HEADER_BYTES_MAX);
    match kind {
        b'R' => required(&padded(input)).inspect(|_| within()).is_some(),
        b'P' => payment(&padded(input)).inspect(|_| within()).is_some(),
        b'S' => response(&padded(input)).inspect(|_| within()).is_some(),
        // As it came: base64 that is none, padding, other alphabets.
        b'h' => required(text(input)).is_some() | payment(text(input)).is_some() | response(text(input)).is_some(),
        b'F' => body(input, FacilitatorRequest::from_json, FacilitatorRequest::to_json).is_some_and(|request| {
            let _ = request.check();
            requirements(&request.payment_requirements);
            payloads(&request.payment_payload.payload)
        }),
        b'V' => body(input, VerifyResponse::from_json, VerifyResponse::to_json)
            .inspect(|response| {
                serde_twice::<CustodyVerifyExtra>(&response.extra);
                serde_twice::<BatchResponseExtra>(&response.extra);
            })
            .is_some(),
        b'U' => body(input, Supported::from_json, Supported::to_json)
            .inspect(|supported| {
                for kind in &supported.kinds {
                    serde_twice::<CustodyKind>(&kind.extra);
                }
            })
            .is_some(),
        b'T' => body(input, SettleResponse::from_json, SettleResponse::to_json).is_some(),
        b'p' => payloads(&object(input)),
        b'r' => text(input).parse::<Reason>().inspect(|reason| assert_eq!(reason.as_str(), text(input))).is_ok(),
        b'i' => {
            let Ok(id) = PaymentId::new(text(input)) else { return false };
            assert!(PAYMENT_ID_BYTES.contains(&id.as_str().len()));
            let mut extensions = Object::default();
            id.put_into(&mut extensions);
            assert_eq!(PaymentId::in_extensions(&extensions), Ok(Some(id)));
            true
        }
        _ => false,
    }
}

fn header<T: PartialEq + core::fmt::Debug>(
    value: &str,
    read: impl Fn(&str) -> Result<T, DialectError>,
    write: impl Fn(&T) -> Result<String, DialectError>,
) -> Option<T> {
    twice(value.as_bytes(), |bytes| read(text(bytes)), write)
}

fn body<T: PartialEq + core::fmt::Debug>(
    input: &[u8],
    read: impl Fn(&[u8]) -> Result<T, DialectError>,
    write: impl Fn(&T) -> Result<Vec<u8>, DialectError>,
) -> Option<T> {
    let value = twice(input, read, write)?;
    assert_within_limits(input, FACILITATOR_BODY_BYTES_MAX);
    Some(value)
}

fn required(value: &str) -> Option<PaymentRequired> {
    let required = header(value, PaymentRequired::from_header, PaymentRequired::to_header)?;
    assert!(value.len() <= HEADER_BYTES_MAX && (1..=OFFERS_MAX).contains(&required.accepts.len()));
    required.accepts.iter().for_each(requirements);
    extensions(&required.extensions);
    Some(required)
}

fn payment(value: &str) -> Option<PaymentPayload> {
    let payment = header(value, PaymentPayload::from_header, PaymentPayload::to_header)?;
    assert!(value.len() <= HEADER_BYTES_MAX);
    requirements(&payment.accepted);
    payloads(&payment.payload);
    extensions(&payment.extensions);
    // An offer that was echoed is the one that was made.
    assert!(payment.accepted.is_accepted_by(&payment.accepted));
    Some(payment)
}

fn response(value: &str) -> Option<SettleResponse> {
    let response = header(value, SettleResponse::from_header, SettleResponse::to_header)?;
    serde_twice::<BatchResponseExtra>(&response.extra);
    Some(response)
}

fn requirements(offer: &PaymentRequirements) {
    if let Ok(amount) = offer.amount() {
        // H-4: one text for one amount.
        assert_eq!(amount.to_string(), offer.amount);
    }
    if let Ok(network) = offer.network() {
        assert_eq!(network.to_string(), offer.network);
    }
    if let Ok(batch) = BatchOffer::from_requirements(offer) {
        let again = batch.to_requirements().and_then(|offer| BatchOffer::from_requirements(&offer));
        assert_eq!(again.as_ref(), Ok(&batch));
    }
    if let Ok(exact) = ExactOffer::from_requirements(offer) {
        let _ = exact.token();
    }
    serde_twice::<BatchExtra>(&offer.extra);
    serde_twice::<CustodyExtra>(&offer.extra);
}

/// Whether it is the payload of a scheme.
fn payloads(payload: &Object) -> bool {
    let domain = batch_domain(ChainId::new(31_337));
    let batch = object_twice(payload, BatchPayload::from_object, BatchPayload::to_object);
    if let Some(batch) = &batch {
        // What it is checked against is another offer than its own, or its own.
        let own = batch.config();
        let offer = BatchOffer {
            chain: ChainId::new(31_337),
            amount: millstream_types::Amount::from_units(1_000),
            asset: own.token,
            pay_to: own.receiver,
            max_timeout_secs: 60,
            extra: serde_json::from_value(serde_json::json!({
                "receiverAuthorizer": own.receiver_authorizer.to_string(), "withdrawDelay": own.withdraw_delay_secs,
                "name": "USDC", "version": "2",
            }))
            .expect("an offer"),
        };
        if let Ok(id) = batch.check(&offer, &domain) {
            assert_eq!(Ok(id), own.channel_id(&domain));
            assert!(own.delay_in_range());
        }
        let _ = batch.voucher().signed().verify(&domain, own.voucher_signer());
    }
    let command = object_twice(payload, BatchCommand::from_object, BatchCommand::to_object);
    if let Some(command) = &command {
        let claims = match command {
            BatchCommand::Claim { claims, .. } => claims.as_slice(),
            BatchCommand::Refund(refund) => refund.claims.as_slice(),
            BatchCommand::Settle { .. } => &[],
        };
        assert!(claims.len() <= CLAIMS_MAX);
        let _ = Claim::batch(claims, &domain);
        for claim in claims {
            let _ = claim.signed(&domain);
        }
    }
    let exact = object_twice(payload, ExactPayload::from_object, ExactPayload::to_object);
    if let Some(exact) = &exact {
        match exact {
            ExactPayload::Erc3009(payment) => drop(payment.signed()),
            ExactPayload::Permit2(payment) => drop(payment.signed(ChainId::new(31_337))),
        }
    }
    let upto = serde_twice::<UptoPayload>(payload);
    batch.is_some() || command.is_some() || exact.is_some() || upto.is_some()
}

fn extensions(extensions: &Object) {
    if let Ok(Some(id)) = PaymentId::in_extensions(extensions) {
        let mut again = extensions.clone();
        id.put_into(&mut again);
        assert_eq!(&again, extensions, "an id that is there changes nothing");
    }
}
