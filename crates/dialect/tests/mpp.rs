//! MPP: offers, credentials, receipts, requests and payloads (spec H-20 to H-34). What other implementations write is in `oracle.rs`'s terms
//! in `benches/peers/dialect`; here are the rules.

use millstream_dialect::limits::{CREDENTIAL_BYTES_MAX, OFFERS_MAX};
use millstream_dialect::mpp::*;
use millstream_dialect::{DialectError, Object};
use millstream_types::{Address, Amount, ChainId, CumulativeAmount, EscrowChannelId, Hash256, Timestamp, Uint256};
use millstream_voucher::evm::{EscrowVoucher, EvmSecretKey, Signed, TokenDomain, TransferAuthorization, TransferKind, eip55, top_up_nonce};
use serde_json::{Value, json};

fn key(byte: u8) -> EvmSecretKey {
    EvmSecretKey::from_bytes(&[byte; 32]).expect("in range")
}

fn object(value: &Value) -> Object {
    Object::of("test", value).expect("an object")
}

fn binding() -> BindingKey {
    BindingKey::new(&[7; 32]).expect("long enough")
}

fn session_request() -> Value {
    json!({
        "amount": "100",
        "unitType": "llm_token",
        "suggestedDeposit": "5000000",
        "currency": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "recipient": "0x4444444444444444444444444444444444444444",
        "methodDetails": {
            "escrowContract": "0x5555555555555555555555555555555555555555",
            "chainId": 196,
            "minVoucherDelta": "10000",
            "feePayer": true,
            "credentialTypes": ["permit2", "authorization"]
        }
    })
}

fn session() -> SessionRequest {
    serde_json::from_value(session_request()).expect("well formed")
}

fn terms() -> OfferTerms {
    let mut terms = OfferTerms::new("api.example.com", EVM, SESSION, &session()).expect("canonical");
    terms.expires = Some("2026-04-01T12:05:00Z".to_owned());
    terms
}

#[test]
fn an_offer_is_written_in_one_order_and_read_in_any() {
    let mut terms = terms();
    terms.description = Some("Say \"hi\" \\ é".to_owned());
    terms.digest = Some(body_digest(b"body"));
    terms.header = CredentialHeader::PaymentAuthorization;
    terms.opaque = Some("eyJhIjoiYiJ9".to_owned());
    let offer = binding().bind(terms);
    let header = offer.to_header().expect("well formed");
    let names: Vec<_> = header
        .trim_start_matches("Payment ")
        .split(", ")
        .filter_map(|param| param.split_once('='))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["id", "realm", "method", "intent", "request", "expires", "description", "digest", "header", "opaque"]);
    assert!(header.is_ascii() && header.contains(r#"description="Say \"hi\" \\ \u00e9""#));
    assert_eq!(Offer::from_headers([header.as_str()]), [Ok(offer.clone())]);
    assert_eq!(offer.terms.request::<SessionRequest>(), Ok(session()));
    assert_eq!(offer.terms.expires(), Ok(Some(Timestamp::from_millis(1_775_045_100_000))));
    assert_eq!(offer.terms.opaque().expect("texts by name").expect("there")["a"], "b");
    assert!(offer.terms.is_for_body(b"body") && !offer.terms.is_for_body(b"other"));
}

#[test]
fn the_request_is_canonical() {
    let request = json!({"currency": "x", "amount": "1", "methodDetails": {"chainId": 1, "a": true}});
    let terms = OfferTerms::new("r", "evm", "charge", &request).expect("canonical");
    // {"amount":"1","currency":"x","methodDetails":{"a":true,"chainId":1}}
    assert_eq!(terms.request, "eyJhbW91bnQiOiIxIiwiY3VycmVuY3kiOiJ4IiwibWV0aG9kRGV0YWlscyI6eyJhIjp0cnVlLCJjaGFpbklkIjoxfX0");
    assert!(OfferTerms::new("r", "evm", "charge", &json!({"amount": 0.5})).is_err());
    assert!(OfferTerms::new("r", "EVM", "charge", &request).is_err());
    assert!(OfferTerms::new("r", "evm", "", &request).is_err());
    assert!(OfferTerms::new("r", "evm", "charge", &json!("text")).is_err());
}

#[test]
fn several_offers_come_in_one_value_or_many() {
    let one = binding().bind(terms());
    let other = binding().bind(OfferTerms { realm: "other".to_owned(), ..terms() });
    let [first, second] = [&one, &other].map(|offer| offer.to_header().expect("well formed"));
    let expected = [Ok(one), Ok(other)];
    assert_eq!(Offer::from_headers([first.as_str(), "Basic realm=\"x\"", second.as_str()]), expected);
    assert_eq!(Offer::from_headers([format!("Bearer, {first}, Digest a=b, {second}").as_str()]), expected);
    assert_eq!(Offer::from_headers(vec![first.as_str(); OFFERS_MAX + 9]).len(), OFFERS_MAX);
    // The good one before a malformed one is taken.
    let mixed = Offer::from_headers([format!("{first}, Payment id=\"x").as_str()]);
    assert!(mixed.len() == 2 && mixed[0].is_ok() && mixed[1].is_err());
}

#[test]
fn malformed_offers_are_refused() {
    let good = r#"Payment id="a", realm="r", method="evm", intent="charge", request="e30""#;
    assert!(Offer::from_headers([good])[0].is_ok());
    for (from, to) in [
        (r#"id="a""#, r#"id="""#),
        (r#"id="a", "#, ""),
        (r#"realm="r", "#, ""),
        (r#"method="evm", "#, ""),
        (r#"intent="charge", "#, ""),
        (r#", request="e30""#, ""),
        (r#""evm""#, r#""Evm""#),
        (r#""evm""#, r#""1evm""#),
        (r#""charge""#, r#""a charge""#),
        (r#""e30""#, r#""e30=""#),
        (r#""e30""#, r#""W10""#),
        (r#""e30""#, r#""?""#),
        (r#""e30""#, r#""e30", id="b""#),
        (r#""e30""#, r#""e30", expires="tomorrow""#),
        (r#""e30""#, r#""e30", digest="md5=x""#),
        (r#""e30""#, r#""e30", opaque="?""#),
        (r#""e30""#, r#""e30", header="Cookie""#),
        (r#""e30""#, "\"e30\", description=\"a\u{7}\""),
    ] {
        let text = good.replace(from, to);
        let read = Offer::from_headers([text.as_str()]);
        assert!(read.len() == 1 && read[0].is_err(), "{text}");
    }
    assert!(Offer::from_headers([format!("{good}, unknown=\"kept out\"").as_str()])[0].is_ok());
}

#[test]
fn an_id_binds_all_but_the_description() {
    let offer = binding().bind(terms());
    assert!(binding().is_ours(&offer));
    assert!(!BindingKey::new(&[8; 32]).expect("long enough").is_ours(&offer));
    assert!(BindingKey::new(&[7; 31]).is_err());
    let check = |change: &dyn Fn(&mut Offer), expected: bool| {
        let mut changed = offer.clone();
        change(&mut changed);
        assert_eq!(binding().is_ours(&changed), expected, "{changed:?}");
    };
    check(&|offer| offer.terms.description = Some("free".to_owned()), true);
    check(&|offer| offer.terms.realm.push('x'), false);
    check(&|offer| offer.terms.method.push('x'), false);
    check(&|offer| offer.terms.intent.push('x'), false);
    check(&|offer| offer.terms.request.push('x'), false);
    check(&|offer| offer.terms.expires = None, false);
    check(&|offer| offer.terms.digest = Some("sha-256=x".to_owned()), false);
    check(&|offer| offer.terms.opaque = Some("e30".to_owned()), false);
    check(&|offer| offer.terms.header = CredentialHeader::PaymentAuthorization, false);
    for id in ["", "x", "AAAA", "?"] {
        check(&|offer| id.clone_into(&mut offer.id), false);
    }
}

#[test]
fn a_credential_echoes_the_offer() {
    let credential = Credential {
        offer: binding().bind(terms()),
        source: Some("did:pkh:eip155:196:0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A".to_owned()),
        payload: object(&json!({"action": "voucher"})),
    };
    let header = credential.to_header().expect("fits");
    let read = Credential::from_header(&header).expect("well formed").expect("ours");
    assert_eq!(read, credential);
    assert!(binding().is_ours(&read.offer));
    let source = read.source().expect("a DID").expect("there");
    assert_eq!(
        (source.chain, source.account, source.to_string()),
        (ChainId::new(196), key(0x11).account(), credential.source.clone().expect("there"))
    );
    assert_eq!(Credential::from_header(&format!("Bearer abc, {header}")), Ok(Some(read)));
    assert_eq!(Credential::from_header("Bearer abc"), Ok(None));
    assert_eq!(Credential::from_header(""), Ok(None));
    assert!(matches!(Credential::from_header(&format!("{header}, {header}")), Err(DialectError::Count { count: 2, .. })));
    for text in ["Payment", "Payment ?", "Payment e30", "Payment e30=", "Payment id=\"a\"", "Payment bnVsbA"] {
        assert!(!matches!(Credential::from_header(text), Ok(Some(_))), "{text}");
    }
    let long = format!("Payment {}", "A".repeat(CREDENTIAL_BYTES_MAX + 1));
    assert!(matches!(Credential::from_header(&long), Err(DialectError::TooLong { .. })));
    for did in [
        "",
        "did:pkh:eip155:1",
        "did:pkh:eip155:01:0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A",
        "did:key:z6",
        "did:pkh:eip155:1:19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A",
    ] {
        assert!(Source::read(did).is_err(), "{did}");
    }
}

fn wallet_word(byte: u8) -> Hash256 {
    Hash256::from_bytes([byte; 32])
}

/// A channel of the request, and its first voucher.
fn opened(authorized_signer: Address) -> (EscrowChannelId, Signed<EscrowVoucher>) {
    let request = session();
    let channel = request.terms(key(0x11).account(), wallet_word(9), authorized_signer).channel_id(&request.domain());
    let voucher = key(0x11).sign(EscrowVoucher { channel, cumulative: CumulativeAmount::ZERO }, &request.domain()).expect("fits");
    (channel, voucher.into())
}

fn authorization(nonce: Hash256) -> Value {
    json!({"from": eip55(&key(0x11).account()), "to": "0x5555555555555555555555555555555555555555", "value": "10000000", "validAfter": "0", "validBefore": "1743523500", "nonce": nonce.to_string()})
}

#[test]
fn every_action_of_a_session_is_read_and_written() {
    let request = session();
    let (channel, voucher) = opened(Address::ZERO);
    let signature = voucher.signature().to_string();
    let terms = request.terms(key(0x11).account(), wallet_word(9), Address::ZERO);
    let salt = wallet_word(9).to_string();
    let top_up = top_up_nonce(&channel, Amount::from_units(10_000_000), &key(0x11).account(), &wallet_word(8));
    let permit = |witness: Value| json!({"from": eip55(&key(0x11).account()), "permitted": {"token": eip55(&request.currency), "amount": "10000000"}, "nonce": "1", "deadline": "1743523500", "witness": witness});
    let id = channel.to_string();
    let payloads = [
        json!({"action": "open", "type": "hash", "channelId": id, "hash": wallet_word(1).to_string(), "cumulativeAmount": "0", "signature": signature, "authorizedSigner": eip55(&key(0x22).account()), "salt": salt}),
        json!({"action": "open", "type": "authorization", "channelId": id, "authorization": authorization(terms.open_nonce()), "signature": "0x01", "cumulativeAmount": "0", "voucherSignature": signature, "salt": salt}),
        json!({"action": "open", "type": "permit2", "channelId": id, "authorization": permit(json!({"payee": eip55(&request.recipient), "salt": salt, "authorizedSigner": eip55(&Address::ZERO)})), "signature": "0x01", "cumulativeAmount": "0", "voucherSignature": signature, "salt": salt}),
        json!({"action": "topUp", "type": "hash", "channelId": id, "hash": wallet_word(1).to_string(), "additionalDeposit": "5"}),
        json!({"action": "topUp", "type": "authorization", "channelId": id, "salt": wallet_word(8).to_string(), "authorization": authorization(top_up), "signature": "0x01", "additionalDeposit": "10000000"}),
        json!({"action": "topUp", "type": "permit2", "channelId": id, "authorization": permit(json!({"channelId": id})), "signature": "0x01", "additionalDeposit": "10000000"}),
        json!({"action": "voucher", "channelId": id, "cumulativeAmount": "0", "signature": signature}),
        json!({"action": "voucher", "channelId": id, "cumulativeAmount": "0", "signature": signature, "deposit": {"action": "topUp", "type": "authorization", "salt": wallet_word(8).to_string(), "authorization": authorization(top_up), "signature": "0x01"}}),
        json!({"action": "voucher", "channelId": id, "cumulativeAmount": "0", "signature": signature, "deposit": {"action": "open", "type": "authorization", "salt": salt, "authorization": authorization(terms.open_nonce()), "signature": "0x01"}}),
        json!({"action": "close", "channelId": id, "cumulativeAmount": "0", "signature": signature}),
    ];
    for payload in payloads {
        let read = SessionPayload::from_object(&object(&payload)).unwrap_or_else(|error| panic!("{error}: {payload}"));
        assert_eq!(serde_json::to_value(read.to_object().expect("serialises")).expect("serialises"), payload);
        let funded = match &read {
            SessionPayload::Open { salt, authorized_signer, funding, .. } => {
                Some((funding.clone(), FundingAction::Open { salt: *salt, authorized_signer: *authorized_signer }))
            }
            SessionPayload::TopUp { salt, funding, .. } => Some((funding.clone(), FundingAction::TopUp { salt: *salt })),
            SessionPayload::Voucher { deposit: Some(deposit), .. } => Some((deposit.funding.clone(), deposit.action)),
            SessionPayload::OpenSent { .. }
            | SessionPayload::TopUpSent { .. }
            | SessionPayload::Voucher { .. }
            | SessionPayload::Close { .. } => None,
        };
        if let Some((funding, action)) = funded {
            assert_eq!(funding.check(&request, &channel, &action), Ok(()), "{payload}");
            assert!(funding.check(&request, &EscrowChannelId::from_bytes([1; 32]), &action).is_err(), "{payload}");
            assert!(funding.signed_transfer().is_some() != funding.signed_permit(&request).is_some());
        }
        let voucher = match read {
            SessionPayload::OpenSent { voucher, .. }
            | SessionPayload::Open { voucher, .. }
            | SessionPayload::Voucher { voucher, .. }
            | SessionPayload::Close { voucher } => voucher,
            SessionPayload::TopUpSent { .. } | SessionPayload::TopUp { .. } => continue,
        };
        assert!(voucher.verify(&request.domain(), key(0x11).account()).is_ok());
    }
}

#[test]
fn malformed_actions_are_refused() {
    let (channel, voucher) = opened(Address::ZERO);
    let id = channel.to_string();
    let signature = voucher.signature().to_string();
    let good = json!({"action": "topUp", "type": "authorization", "channelId": id, "salt": wallet_word(8).to_string(), "authorization": authorization(wallet_word(1)), "signature": "0x01", "additionalDeposit": "10000000"});
    assert!(SessionPayload::from_object(&object(&good)).is_ok());
    for field in ["action", "type", "channelId", "salt", "authorization", "signature", "additionalDeposit"] {
        let mut payload = good.clone();
        payload.as_object_mut().expect("an object").remove(field);
        assert!(SessionPayload::from_object(&object(&payload)).is_err(), "{payload}");
    }
    for payload in [
        json!({"action": "steal", "channelId": id}),
        json!({"action": "voucher", "channelId": id, "cumulativeAmount": 5, "signature": signature}),
        json!({"action": "voucher", "channelId": id, "cumulativeAmount": "340282366920938463463374607431768211456", "signature": signature}),
        json!({"action": "voucher", "channelId": "0x01", "cumulativeAmount": "5", "signature": signature}),
        json!({"action": "voucher", "channelId": id, "cumulativeAmount": "5", "signature": signature, "deposit": {"action": "voucher"}}),
        json!({"action": "open", "type": "transaction", "channelId": id, "cumulativeAmount": "0", "voucherSignature": signature, "salt": wallet_word(9).to_string(), "authorization": {}, "signature": "0x01"}),
        json!({"action": "topUp", "type": "authorization", "channelId": id, "salt": wallet_word(8).to_string(), "authorization": authorization(wallet_word(1)), "signature": "0x01", "additionalDeposit": "10000001"}),
    ] {
        assert!(SessionPayload::from_object(&object(&payload)).is_err(), "{payload}");
    }
}

#[test]
fn a_deposit_for_something_else_is_refused() {
    let request = session();
    let terms = request.terms(key(0x11).account(), wallet_word(9), Address::ZERO);
    let channel = terms.channel_id(&request.domain());
    let action = FundingAction::Open { salt: wallet_word(9), authorized_signer: Address::ZERO };
    let check = |change: &dyn Fn(&mut Value), field: Option<&str>| {
        let mut authorization = authorization(terms.open_nonce());
        change(&mut authorization);
        let funding: Funding =
            serde_json::from_value(json!({"type": "authorization", "authorization": authorization, "signature": "0x01"}))
                .expect("well formed");
        match (funding.check(&request, &channel, &action), field) {
            (Ok(()), None) => {}
            (Err(DialectError::Field { field, .. }), Some(expected)) => assert_eq!(field, expected),
            (answer, expected) => panic!("{answer:?}, not {expected:?}"),
        }
    };
    check(&|_| (), None);
    check(&|authorization| authorization["to"] = json!(eip55(&Address::ZERO)), Some("to"));
    check(&|authorization| authorization["nonce"] = json!(wallet_word(1).to_string()), Some("nonce"));
    check(&|authorization| authorization["from"] = json!(eip55(&Address::ZERO)), Some("channelId"));
}

#[test]
fn charges_are_checked_against_their_offer() {
    let request: ChargeRequest = serde_json::from_value(json!({
        "amount": "1050000", "currency": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "recipient": "0x4444444444444444444444444444444444444444", "externalId": "order 9",
        "methodDetails": {"chainId": 1329, "credentialTypes": ["permit2", "authorization"], "splits": [{"recipient": "0x5555555555555555555555555555555555555555", "amount": "50000", "memo": "fee"}]}
    })).expect("well formed");
    let offer = binding().bind(OfferTerms::new("api.example.com", EVM, CHARGE, &request).expect("canonical"));
    assert_eq!(offer.terms.request::<ChargeRequest>(), Ok(request.clone()));
    let good = json!({
        "type": "permit2",
        "permit": {"permitted": [{"token": eip55(&request.currency), "amount": "1000000"}, {"token": eip55(&request.currency), "amount": "50000"}], "nonce": "1", "deadline": "1743523500"},
        "transferDetails": [{"to": "0x4444444444444444444444444444444444444444", "requestedAmount": "1000000"}, {"to": "0x5555555555555555555555555555555555555555", "requestedAmount": "50000"}],
        "witness": {"challengeHash": offer.hash().to_string(), "externalId": "order 9"},
        "signature": "0x01"
    });
    let check = |change: &dyn Fn(&mut Value), expected: Option<&str>| {
        let mut payload = good.clone();
        change(&mut payload);
        let read = ChargePayload::from_object(&object(&payload)).expect("well formed");
        assert_eq!(serde_json::to_value(read.to_object().expect("serialises")).expect("serialises"), payload);
        match (read.check(&offer, &request), expected) {
            (Ok(()), None) => {}
            (Err(DialectError::Field { field, .. }), Some(expected)) => assert_eq!(field, expected),
            (answer, expected) => panic!("{answer:?}, not {expected:?}"),
        }
    };
    check(&|_| (), None);
    check(&|payload| payload["witness"]["challengeHash"] = json!(wallet_word(1).to_string()), Some("challengeHash"));
    check(&|payload| payload["witness"]["externalId"] = json!("other"), Some("externalId"));
    check(&|payload| payload["transferDetails"][1]["requestedAmount"] = json!("1"), Some("transferDetails"));
    check(&|payload| payload["permit"]["permitted"] = json!([]), Some("permitted"));
    check(&|payload| payload["permit"]["permitted"][0]["token"] = json!(eip55(&Address::ZERO)), Some("token"));
    check(&|payload| payload["permit"]["permitted"][0]["amount"] = json!("999999"), Some("permitted"));

    // With splits, Permit2 alone is taken.
    let payer = key(0x11);
    let mut simple = request.clone();
    simple.method_details.splits.clear();
    let usdc = TokenDomain::new("USDC", "2", ChainId::new(1_329), request.currency);
    let transfer = TransferAuthorization {
        kind: TransferKind::Transfer,
        from: payer.account(),
        to: simple.recipient,
        value: simple.amount,
        valid_after: Uint256::ZERO,
        valid_before: Uint256::MAX,
        nonce: offer.hash(),
    };
    let signature = payer.sign(transfer, &usdc).expect("fits").signature().clone();
    let payload = ChargePayload::Authorization {
        from: transfer.from,
        to: transfer.to,
        value: transfer.value,
        valid_after: transfer.valid_after,
        valid_before: transfer.valid_before,
        nonce: transfer.nonce,
        signature,
    };
    assert!(payload.check(&offer, &request).is_err());
    assert_eq!(payload.check(&offer, &simple), Ok(()));
    assert!(payload.signed_transfer().expect("of the token").verify(&usdc, payer.account()).is_ok());
    for payload in [json!({"type": "transaction", "signature": "0x02"}), json!({"type": "hash", "hash": wallet_word(1).to_string()})] {
        let read = ChargePayload::from_object(&object(&payload)).expect("well formed");
        assert!(read.check(&offer, &simple).is_err());
        let mut lax = simple.clone();
        lax.method_details.credential_types = None;
        assert_eq!(read.check(&offer, &lax), Ok(()));
    }
    for (amount, memo) in [("1050000", "all"), ("1050001", "more"), ("1", &*"x".repeat(257))] {
        let mut request = request.clone();
        request.method_details.splits[0].amount = Amount::from_units(amount.parse().expect("a number"));
        request.method_details.splits[0].memo = Some(memo.to_owned());
        assert!(request.primary_amount().is_err(), "{amount} {memo}");
    }
}

#[test]
fn receipts_are_of_success_only() {
    let (channel, _) = opened(Address::ZERO);
    let receipt = SessionReceipt {
        timestamp: "2026-04-01T12:08:30Z".to_owned(),
        challenge_id: "x".to_owned(),
        channel_id: channel,
        accepted_cumulative: CumulativeAmount::from_units(250_000),
        spent: CumulativeAmount::from_units(237_500),
        chain_id: 196,
        units: Some(500),
        tx_hash: None,
        confirmations: None,
    };
    let written = receipt.to_receipt().expect("serialises");
    let read = Receipt::from_header(&written.to_header().expect("success")).expect("well formed");
    assert_eq!((&read, read.session()), (&written, Ok(receipt)));
    assert_eq!(serde_json::to_value(&read).expect("serialises")["intent"], "session");
    let mut other = read.clone();
    other.reference = "0x00".to_owned();
    assert!(other.session().is_err());
    for (status, timestamp) in [("failed", "2026-04-01T12:08:30Z"), ("success", "now")] {
        let bad = Receipt { status: status.to_owned(), timestamp: timestamp.to_owned(), ..read.clone() };
        assert!(bad.to_header().is_err(), "{status} {timestamp}");
    }
    for text in ["", "e30", "?", "bnVsbA"] {
        assert!(Receipt::from_header(text).is_err(), "{text}");
    }

    let event = SessionEvent::Receipt(read);
    let stream = event.to_stream().expect("success");
    let data = stream.strip_prefix("event: payment-receipt\ndata: ").and_then(|rest| rest.strip_suffix("\n\n")).expect("one event");
    assert_eq!(SessionEvent::from_stream("payment-receipt", data), Ok(Some(event)));
}

#[test]
fn a_stream_asks_for_vouchers() {
    let data = format!(
        r#"{{"channelId":"0x{}","requiredCumulative":"250025","acceptedCumulative":"250000","deposit":"250024"}}"#,
        "6d".repeat(32)
    );
    let Ok(Some(SessionEvent::NeedVoucher(need))) = SessionEvent::from_stream("payment-need-voucher", &data) else { panic!("{data}") };
    assert!(need.needs_top_up());
    assert!(!NeedVoucher { deposit: Amount::from_units(250_025), ..need }.needs_top_up());
    assert_eq!(SessionEvent::NeedVoucher(need).to_stream(), Ok(format!("event: payment-need-voucher\ndata: {data}\n\n")));
    assert_eq!(SessionEvent::from_stream("message", "x"), Ok(None));
    assert!(SessionEvent::from_stream("payment-need-voucher", "{}").is_err());
}

#[test]
fn problems_have_the_types_and_statuses_of_the_drafts() {
    for kind in ProblemKind::ALL {
        let problem = Problem::new(*kind, "because").with("channelId", "0x01");
        let read = Problem::from_json(&problem.to_json().expect("serialises")).expect("well formed");
        assert_eq!((read.kind(), &read), (Some(*kind), &problem));
        assert_eq!(kind.needs_offer(), kind.status() == 402);
    }
    assert_eq!(ProblemKind::InvalidOffer.uri(), "https://paymentauth.org/problems/invalid-challenge");
    assert_eq!(ProblemKind::ChannelFinalized.status(), 410);
    assert_eq!(ProblemKind::from_uri("about:blank"), None);
}

#[test]
fn idempotency_keys_are_bounded() {
    for (text, expected) in
        [("abc", Some("abc")), ("\"abc\"", Some("abc")), ("", None), ("\"\"", None), ("a b", None), ("é", None), ("a\"b", None)]
    {
        assert_eq!(IdempotencyKey::new(text).ok().as_ref().map(IdempotencyKey::as_str), expected, "{text}");
    }
    assert!(IdempotencyKey::new(&"a".repeat(255)).is_ok() && IdempotencyKey::new(&"a".repeat(256)).is_err());
}
