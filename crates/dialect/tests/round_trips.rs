//! What is written reads the same, and no input makes a reader panic (the crate's invariants).

use millstream_dialect::mpp::{AcceptPayment, BindingKey, Credential, CredentialHeader, Offer, OfferTerms, PaymentRange, Receipt};
use millstream_dialect::x402::{BatchPayload, PaymentPayload, PaymentRequired, PaymentRequirements, Resource, SettleResponse, VERSION};
use millstream_dialect::{Object, canonical_json};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-(1i64 << 52)..1 << 52).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(any::<String>(), inner, 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Fields that no envelope has itself.
fn object() -> impl Strategy<Value = Object> {
    btree_map("[a-zé\"]{1,6}_", value(), 0..4).prop_map(|fields| fields.into_iter().collect())
}

fn requirements() -> impl Strategy<Value = PaymentRequirements> {
    (any::<[String; 5]>(), any::<u64>(), object(), object()).prop_map(|([scheme, network, amount, asset, pay_to], secs, extra, more)| {
        PaymentRequirements { scheme, network, amount, asset, pay_to, max_timeout_seconds: secs, extra, more }
    })
}

fn terms() -> impl Strategy<Value = OfferTerms> {
    let names = (any::<String>(), "[a-z][a-z0-9:_-]{0,8}", "[A-Za-z0-9-]{1,8}");
    let more = (option::of(any::<String>()), option::of("[A-Za-z0-9+/]{4,12}"), any::<bool>(), option::of("([A-Za-z0-9_-]{4}){0,4}"));
    (names, object(), more, any::<bool>()).prop_map(|((realm, method, intent), request, (description, digest, header, opaque), expires)| {
        let bare = OfferTerms::new("", &method, &intent, &request).expect("canonical");
        OfferTerms {
            realm,
            expires: expires.then(|| "2026-04-01T12:05:00Z".to_owned()),
            description,
            digest: digest.map(|digest| format!("sha-256={digest}")),
            header: if header { CredentialHeader::PaymentAuthorization } else { CredentialHeader::Authorization },
            opaque,
            ..bare
        }
    })
}

proptest! {
    #[test]
    fn x402_headers_read_as_they_were_written(
        accepts in vec(requirements(), 1..4), extensions in object(), payload in object(), url in any::<String>(), error in option::of(any::<String>()),
    ) {
        let resource = Resource { url, ..Resource::default() };
        let payment = PaymentPayload {
            x402_version: VERSION, resource: Some(resource.clone()), accepted: accepts[0].clone(), payload: payload.clone(), extensions: extensions.clone(),
        };
        let required = PaymentRequired { x402_version: VERSION, error: error.clone(), resource, accepts, extensions: extensions.clone() };
        let response = SettleResponse { success: error.is_none(), error_reason: error, extensions, extra: payload, ..SettleResponse::default() };
        // Few are too long; those are refused when they are written.
        for _ in required.to_header().iter() {
            prop_assert_eq!(PaymentRequired::from_header(&required.to_header()?), Ok(required.clone()));
            prop_assert_eq!(required.matching(&payment), Some(&required.accepts[0]));
        }
        for header in payment.to_header().iter() {
            prop_assert_eq!(PaymentPayload::from_header(header), Ok(payment.clone()));
        }
        for header in response.to_header().iter() {
            prop_assert_eq!(SettleResponse::from_header(header), Ok(response.clone()));
        }
    }

    #[test]
    fn offers_and_credentials_read_as_they_were_written(terms in terms(), source in option::of(any::<String>()), payload in object(), secret in any::<[u8; 32]>()) {
        let key = BindingKey::new(&secret)?;
        let offer = key.bind(terms);
        let header = offer.to_header()?;
        prop_assert!(header.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)));
        prop_assert_eq!(Offer::from_headers([header.as_str()]), vec![Ok(offer.clone())]);
        prop_assert_eq!(Offer::from_headers([format!("{header}, {header}").as_str()]), vec![Ok(offer.clone()), Ok(offer.clone())]);
        let credential = Credential { offer, source, payload };
        let read = Credential::from_header(&credential.to_header()?)?;
        prop_assert_eq!(read.as_ref(), Some(&credential));
        prop_assert!(key.is_ours(&credential.offer));
    }

    #[test]
    fn preferences_read_as_they_were_written(ranges in vec((option::of("[a-z][a-z0-9-]{0,6}"), option::of("[a-z0-9-]{1,6}"), 0u16..=1_000), 1..8)) {
        let ranges = ranges.into_iter().map(|(method, intent, weight)| PaymentRange { method, intent, weight }).collect();
        let accept = AcceptPayment { ranges };
        prop_assert_eq!(accept.to_string().parse::<AcceptPayment>(), Ok(accept));
    }

    #[test]
    fn canonical_json_is_the_same_value_and_does_not_change(value in value()) {
        let canonical = canonical_json("test", &value)?;
        let read: Value = serde_json::from_str(&canonical).expect("JSON");
        prop_assert_eq!(&read, &value);
        prop_assert_eq!(canonical_json("test", &read)?, canonical);
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in "([ -~]|[\\PC\t\r\n\"\\\\,=]){0,120}") {
        let _ = PaymentRequired::from_header(&text);
        let _ = PaymentPayload::from_header(&text);
        let _ = SettleResponse::from_header(&text);
        let _ = Offer::from_headers([text.as_str(), format!("Payment {text}").as_str(), format!("Payment id=\"a\", realm={text}").as_str()]);
        let _ = Credential::from_header(&text);
        let _ = Credential::from_header(&format!("Payment {text}"));
        let _ = Receipt::from_header(&text);
        let _ = text.parse::<AcceptPayment>();
    }

    #[test]
    fn no_payload_makes_a_reader_panic(payload in object(), kind in "(deposit|voucher|refund|open|topUp|close)") {
        let mut payload = payload;
        payload.insert("type", kind.clone().into());
        payload.insert("action", kind.into());
        let _ = BatchPayload::from_object(&payload);
        let _ = millstream_dialect::mpp::SessionPayload::from_object(&payload);
        let _ = millstream_dialect::mpp::ChargePayload::from_object(&payload);
    }
}
