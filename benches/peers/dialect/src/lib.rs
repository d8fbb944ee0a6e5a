//! Our wire formats of MPP against those of the crate `mpp`, both ways: `cargo test --manifest-path benches/peers/Cargo.toml -p millstream-peer-dialect`.
//!
//! Apart from the crate's own tests because `mpp` turns on a feature of serde_json that every crate of the same build would get.

#![cfg(test)]

use millstream_dialect::Object;
use millstream_dialect::mpp::{AcceptPayment, BindingKey, Credential, CredentialHeader, Offer, OfferTerms, Receipt, body_digest};
use mpp::protocol::core::{self as theirs, Base64UrlJson, PaymentChallenge};
use serde_json::{Value, json};

const SECRET: &str = "a secret of thirty-two bytes or more";

/// Terms with what the header can carry, in all combinations.
fn all_terms() -> Vec<OfferTerms> {
    let request = json!({"currency": "0x20c0", "amount": "1000000", "methodDetails": {"chainId": 196, "é": "\u{1f600}\n"}});
    let mut all = Vec::new();
    for bits in 0..32u32 {
        let optional = |bit: u32, text: &str| (bits >> bit & 1 == 1).then(|| text.to_owned());
        let bare = OfferTerms::new("api.example.com", "evm", "session", &request).expect("canonical");
        all.push(OfferTerms {
            expires: optional(0, "2026-04-01T12:05:00Z"),
            description: optional(1, "Pay \"here\" \\ now, é \u{1f600}"),
            digest: optional(2, &body_digest(b"body")),
            opaque: optional(3, "eyJwaSI6InBpXzEifQ"),
            header: if bits >> 4 & 1 == 1 { CredentialHeader::PaymentAuthorization } else { CredentialHeader::Authorization },
            ..bare
        });
    }
    all
}

fn challenge(terms: &OfferTerms) -> PaymentChallenge {
    let request: Value = terms.request().expect("an object");
    PaymentChallenge::with_secret_key_full(
        SECRET,
        &terms.realm,
        terms.method.as_str(),
        terms.intent.as_str(),
        Base64UrlJson::from_value(&request).expect("canonical"),
        terms.expires.as_deref(),
        terms.digest.as_deref(),
        terms.description.as_deref(),
        terms.opaque.as_deref().map(Base64UrlJson::from_raw),
        terms.header.advertised(),
    )
}

#[test]
fn offers_are_the_same_characters() {
    let key = BindingKey::new(SECRET.as_bytes()).expect("long enough");
    for terms in all_terms() {
        let (ours, theirs) = (key.bind(terms.clone()), challenge(&terms));
        let header = ours.to_header().expect("well formed");
        assert_eq!(header, theirs.to_header().expect("well formed"));
        assert!(PaymentChallenge::from_header(&header).expect("well formed").verify(SECRET));
        let read = Offer::from_headers([header.as_str()]);
        assert_eq!(read, [Ok(ours.clone())]);
        assert!(key.is_ours(&ours));
    }
}

#[test]
fn several_offers_are_told_apart_alike() {
    let key = BindingKey::new(SECRET.as_bytes()).expect("long enough");
    let headers: Vec<_> = all_terms().into_iter().take(4).map(|terms| key.bind(terms).to_header().expect("well formed")).collect();
    let merged = format!("Bearer, {}, Digest realm=\"Payment id=1, x\"", headers.join(", "));
    let ours: Vec<_> = Offer::from_headers([merged.as_str()]).into_iter().map(|offer| offer.expect("well formed").id).collect();
    let theirs: Vec<_> = theirs::parse_www_authenticate_all([merged.as_str()]).into_iter().map(|offer| offer.expect("well formed").id).collect();
    assert_eq!((ours.len(), &ours), (4, &theirs));
}

#[test]
fn credentials_go_both_ways() {
    let key = BindingKey::new(SECRET.as_bytes()).expect("long enough");
    let payload = json!({"action": "voucher", "channelId": "0x01", "cumulativeAmount": "5"});
    for terms in all_terms() {
        let ours = Credential {
            offer: key.bind(terms),
            source: Some("did:pkh:eip155:196:0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A".to_owned()),
            payload: Object::of("payload", &payload).expect("an object"),
        };
        let theirs = theirs::parse_authorization(&ours.to_header().expect("fits")).expect("well formed");
        assert_eq!((&theirs.challenge.id, theirs.source.as_ref()), (&ours.offer.id, ours.source.as_ref()));
        let back = theirs::format_authorization(&theirs).expect("serialises");
        assert_eq!(Credential::from_header(&back), Ok(Some(ours)));
    }
}

#[test]
fn receipts_go_both_ways() {
    let theirs = theirs::Receipt::success("evm", "0xabc").with_external_id("order 9");
    let ours = Receipt::from_header(&theirs::format_receipt(&theirs).expect("serialises")).expect("well formed");
    assert_eq!((&*ours.method, &*ours.reference, ours.more.get("externalId")), ("evm", "0xabc", Some(&json!("order 9"))));
    let back = theirs::parse_receipt(&ours.to_header().expect("success")).expect("well formed");
    assert_eq!((back.timestamp, back.external_id), (theirs.timestamp, theirs.external_id));
}

#[test]
fn preferences_rank_alike() {
    struct Named(OfferTerms);
    impl theirs::accept_payment::HasMethodIntent for Named {
        fn method(&self) -> &str {
            &self.0.method
        }
        fn intent(&self) -> &str {
            &self.0.intent
        }
    }
    let offers: Vec<OfferTerms> = ["tempo", "evm", "stripe"]
        .iter()
        .flat_map(|method| ["charge", "session"].map(|intent| OfferTerms { method: (*method).to_owned(), intent: intent.to_owned(), ..OfferTerms::default() }))
        .collect();
    let named: Vec<Named> = offers.iter().cloned().map(Named).collect();
    for header in ["tempo/charge, evm/session;q=0.5", "*/session, evm/*;q=0.3, tempo/session;q=0", "evm/*;q=0.9, */*;q=0.1", "stripe/charge"] {
        let accept: AcceptPayment = header.parse().expect("well formed");
        let ours: Vec<_> = accept.rank(&offers).into_iter().map(|terms| (terms.method.as_str(), terms.intent.as_str())).collect();
        let entries = theirs::accept_payment::parse(header).expect("well formed");
        let ranked = theirs::accept_payment::rank(&named, &entries);
        let theirs: Vec<_> = ranked.into_iter().map(|named| (named.0.method.as_str(), named.0.intent.as_str())).collect();
        assert_eq!(ours, theirs, "{header}");
        assert_eq!(accept.to_string(), theirs::accept_payment::serialize(&entries));
    }
}
