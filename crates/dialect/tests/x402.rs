//! x402: headers, matching, payloads and reasons (spec H-1 to H-11), with samples as the published clients write them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millstream_dialect::limits::{HEADER_BYTES_MAX, OFFERS_MAX};
use millstream_dialect::x402::*;
use millstream_dialect::{DialectError, Object};
use millstream_types::{Address, Amount, ChainId, CumulativeAmount, Hash256, Uint256};
use millstream_voucher::evm::{
    ChannelConfig, EscrowVoucher, EvmSecretKey, PERMIT2_DEPOSIT_COLLECTOR, TokenDomain, X402_BATCH_SETTLEMENT, eip55,
    packed_refund_authorizer,
};
use serde_json::{Value, json};

const CHANNEL: &str = "0x646455d24fb56b399851ab4e12230f4b048a5380b60e48266fff0d7005fdd700";

fn key(byte: u8) -> EvmSecretKey {
    EvmSecretKey::from_bytes(&[byte; 32]).expect("in range")
}

fn object(value: &Value) -> Object {
    Object::of("test", value).expect("an object")
}

/// The offer of the golden vectors' channel, as a server of the published packages writes it.
fn offer() -> Value {
    json!({
        "scheme": "batch-settlement",
        "network": "eip155:31337",
        "amount": "1000",
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "payTo": "0x4444444444444444444444444444444444444444",
        "maxTimeoutSeconds": 60,
        "extra": {
            "receiverAuthorizer": "0x5CbDd86a2FA8Dc4bDdd8a8f69dBa48572EeC07FB",
            "withdrawDelay": 900,
            "name": "USDC",
            "version": "2"
        }
    })
}

fn required() -> Value {
    json!({
        "x402Version": 2,
        "resource": {"url": "https://api.example.com/weather", "description": "Weather", "mimeType": "application/json", "tags": ["a"]},
        "accepts": [offer()],
        "extensions": {"bazaar": {"info": {"output": 1.5}}}
    })
}

fn channel_config() -> Value {
    json!({
        "payer": "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A",
        "payerAuthorizer": "0x1563915e194D8CfBA1943570603F7606A3115508",
        "receiver": "0x4444444444444444444444444444444444444444",
        "receiverAuthorizer": "0x5CbDd86a2FA8Dc4bDdd8a8f69dBa48572EeC07FB",
        "token": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "withdrawDelay": 900,
        "salt": "0x0000000000000000000000000000000000000000000000000000000000000001"
    })
}

fn voucher() -> Value {
    json!({
        "channelId": CHANNEL,
        "maxClaimableAmount": "1000",
        "signature": "0xb16d6c4f1becc0747b1a9af847d5793a11256d17a74a5dc00606ffae471a1f5b12ed12b209d48bbcb25379e5dd7175e376333eeae56237c5984c59882123a5e21b"
    })
}

fn payload(kind: &str) -> Value {
    let mut payload = json!({"type": kind, "channelConfig": channel_config(), "voucher": voucher()});
    if kind == "deposit" {
        payload["deposit"] = json!({"amount": "10000", "authorization": {"erc3009Authorization": {
            "validAfter": "0", "validBefore": "1743523500",
            "salt": "0x0000000000000000000000000000000000000000000000000000000000000007", "signature": "0x1234"
        }}});
    }
    payload
}

fn payment(payload: Value) -> Value {
    json!({"x402Version": 2, "accepted": offer(), "payload": payload})
}

fn header(value: &Value) -> String {
    STANDARD.encode(value.to_string())
}

fn batch_offer() -> BatchOffer {
    let required = PaymentRequired::from_header(&header(&required())).expect("well formed");
    BatchOffer::from_requirements(&required.accepts[0]).expect("of the scheme")
}

#[test]
fn offers_are_read_and_written_without_loss() {
    let read = PaymentRequired::from_header(&header(&required())).expect("well formed");
    assert_eq!(serde_json::to_value(&read).expect("serialises"), required());
    assert_eq!(PaymentRequired::from_header(&read.to_header().expect("fits")), Ok(read.clone()));

    let offer = batch_offer();
    assert_eq!((offer.chain, offer.amount, offer.extra.withdraw_delay), (ChainId::new(31_337), Amount::from_units(1_000), 900));
    assert_eq!(offer.to_requirements(), Ok(read.accepts[0].clone()));
}

#[test]
fn a_fraction_of_others_is_echoed_to_the_last_digit() {
    for fraction in ["2.2222222222222222e+114", "1.7976931348623157e308", "0.1", "1e-9", "123456789.12345679"] {
        let text = required().to_string().replace("1.5", fraction);
        let read = PaymentRequired::from_header(&STANDARD.encode(text)).expect("well formed");
        assert_eq!(PaymentRequired::from_header(&read.to_header().expect("fits")), Ok(read), "{fraction}");
    }
}

#[test]
fn a_payment_is_for_an_offer_that_it_repeats() {
    let required = PaymentRequired::from_header(&header(&required())).expect("well formed");
    let check = |change: &dyn Fn(&mut Value), expected: bool| {
        let mut payment = payment(payload("voucher"));
        change(&mut payment["accepted"]);
        let payment = PaymentPayload::from_header(&header(&payment)).expect("well formed");
        assert_eq!(required.matching(&payment).is_some(), expected, "{:?}", payment.accepted);
    };
    check(&|_| (), true);
    check(&|accepted| accepted["extra"]["mine"] = json!({"more": 1}), true);
    for (field, value) in [
        ("scheme", json!("exact")),
        ("network", json!("eip155:1")),
        ("amount", json!("1001")),
        ("amount", json!("01000")),
        ("asset", json!("0x036cbd53842c5426634e7929541ec2318f3dcf7e")),
        ("payTo", json!("0x0000000000000000000000000000000000000000")),
        ("maxTimeoutSeconds", json!(61)),
        ("unknown", json!(1)),
    ] {
        check(&|accepted| accepted[field] = value.clone(), false);
    }
    check(&|accepted| accepted["extra"]["version"] = json!("1"), false);
    check(&|accepted| accepted["extra"] = json!({}), false);
}

#[test]
fn what_is_malformed_is_refused() {
    let refused = |value: Value| assert!(PaymentPayload::from_header(&header(&value)).is_err(), "{value}");
    refused(json!([]));
    refused(json!({"x402Version": 2, "accepted": offer()}));
    refused(json!({"x402Version": 2, "payload": {}}));
    refused(json!({"x402Version": "2", "accepted": offer(), "payload": {}}));
    for version in [0, 1, 3] {
        let mut payment = payment(payload("voucher"));
        payment["x402Version"] = json!(version);
        assert_eq!(PaymentPayload::from_header(&header(&payment)), Err(DialectError::Version { got: version, expected: 2 }));
    }
    for text in ["", "e30", "e30==", "{}", "e3 0=", "4pyT8J+Ujg", "e30=e30="] {
        assert!(PaymentPayload::from_header(text).is_err(), "{text}");
    }
    let long = "A".repeat(HEADER_BYTES_MAX + 1);
    assert!(matches!(PaymentPayload::from_header(&long), Err(DialectError::TooLong { .. })));
    let twice = STANDARD.encode(format!("{{\"x402Version\":2,\"accepted\":{},\"payload\":{{\"a\":1,\"a\":2}}}}", offer()));
    assert!(matches!(PaymentPayload::from_header(&twice), Err(DialectError::Shape { .. })));
    let deep = STANDARD.encode(format!(
        "{{\"x402Version\":2,\"accepted\":{},\"payload\":{{\"a\":{}{}}}}}",
        offer(),
        "[".repeat(99),
        "]".repeat(99)
    ));
    assert!(matches!(PaymentPayload::from_header(&deep), Err(DialectError::TooDeep { .. })));

    for count in [0, OFFERS_MAX + 1] {
        let mut required = required();
        required["accepts"] = json!(vec![offer(); count]);
        assert!(matches!(PaymentRequired::from_header(&header(&required)), Err(DialectError::Count { .. })));
    }
}

#[test]
fn null_is_absence_and_offers_of_others_stay_text() {
    let mut value = required();
    value["error"] = Value::Null;
    value["extensions"] = Value::Null;
    value["accepts"] = json!([{"scheme": "x", "network": "far:away", "amount": "1.5 shells", "asset": "shell", "payTo": "me", "maxTimeoutSeconds": 1, "extra": null}, offer()]);
    let read = PaymentRequired::from_header(&header(&value)).expect("well formed");
    assert_eq!((&read.error, read.extensions.is_empty()), (&None, true));
    assert!(read.accepts[0].amount().is_err() && BatchOffer::from_requirements(&read.accepts[0]).is_err());
    assert!(BatchOffer::from_requirements(&read.accepts[1]).is_ok());
}

#[test]
fn an_understood_offer_is_strict() {
    let check = |change: &dyn Fn(&mut Value)| {
        let mut value = required();
        change(&mut value["accepts"][0]);
        let read = PaymentRequired::from_header(&header(&value)).expect("well formed");
        assert!(BatchOffer::from_requirements(&read.accepts[0]).is_err(), "{:?}", read.accepts[0]);
    };
    for (field, text) in [
        ("scheme", "exact"),
        ("network", "base-sepolia"),
        ("network", "solana:mainnet"),
        ("network", "eip155:007"),
        ("amount", "01"),
        ("amount", "-1"),
        ("amount", "1e3"),
        ("amount", ""),
        ("amount", "340282366920938463463374607431768211456"),
        ("asset", "036CbD53842c5426634e7929541eC2318f3dCF7e"),
        ("payTo", "0x44"),
    ] {
        check(&|offer| offer[field] = json!(text));
    }
    check(&|offer| offer["extra"]["withdrawDelay"] = json!("900"));
    check(&|offer| offer["extra"]["withdrawDelay"] = json!(900.5));
    check(&|offer| offer["extra"]["minDeposit"] = json!(5));
    check(&|offer| offer["extra"]["assetTransferMethod"] = json!("eip2612"));
    check(&|offer| offer["extra"] = json!({}));
}

#[test]
fn payloads_of_the_three_kinds_verify() {
    let offer = batch_offer();
    let domain = batch_domain(offer.chain);
    assert_eq!(domain.contract(), X402_BATCH_SETTLEMENT);
    for kind in ["deposit", "voucher", "refund"] {
        let read = BatchPayload::from_object(&object(&payload(kind))).expect("well formed");
        assert_eq!(serde_json::to_value(read.to_object().expect("serialises")).expect("serialises"), payload(kind));
        assert_eq!(read.check(&offer, &domain).map(|id| id.to_string()).as_deref(), Ok(CHANNEL), "{kind}");
        let verified = read.voucher().signed().verify(&domain, read.config().voucher_signer()).expect("signed by the authorizer");
        assert_eq!(verified.statement().cumulative, CumulativeAmount::from_units(1_000));
        assert_eq!(VoucherFields::of(verified.signed()), *read.voucher());
    }
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut payload = payload("deposit");
        change(&mut payload);
        assert!(BatchPayload::from_object(&object(&payload)).is_err(), "{payload}");
    };
    refused(&|payload| payload["type"] = json!("claim"));
    refused(&|payload| payload["voucher"]["maxClaimableAmount"] = json!(1000));
    refused(&|payload| payload["voucher"]["maxClaimableAmount"] = json!("01"));
    refused(&|payload| payload["voucher"]["signature"] = json!("b16d"));
    refused(&|payload| payload["channelConfig"]["salt"] = json!("0x01"));
    refused(&|payload| payload["deposit"]["authorization"] = json!({}));
    refused(&|payload| payload["deposit"]["authorization"]["permit2Authorization"] = json!({}));
}

#[test]
fn a_payload_is_checked_in_the_order_of_the_scheme() {
    let offer = batch_offer();
    let domain = batch_domain(offer.chain);
    let check = |change: &dyn Fn(&mut BatchOffer, &mut ChannelConfig), expected: Reason| {
        let mut offer = offer.clone();
        let mut config: ChannelConfig = serde_json::from_value::<ConfigFields>(channel_config()).expect("well formed").into();
        change(&mut offer, &mut config);
        let id = config.channel_id(&domain).expect("fits");
        let voucher = key(0x22).sign(EscrowVoucher { channel: id, cumulative: CumulativeAmount::ZERO }, &domain).expect("fits");
        let payload = BatchPayload::Voucher { channel_config: config.into(), voucher: VoucherFields::of(voucher.signed()) };
        assert_eq!(payload.check(&offer, &domain), Err(expected));
    };
    let zero = Address::ZERO;
    check(&|_, config| (config.token, config.receiver) = (zero, zero), Reason::BatchTokenMismatch);
    check(&|_, config| (config.receiver, config.receiver_authorizer) = (zero, zero), Reason::BatchReceiverMismatch);
    check(&|_, config| (config.receiver_authorizer, config.withdraw_delay_secs) = (zero, 1), Reason::BatchReceiverAuthorizerMismatch);
    check(&|_, config| config.withdraw_delay_secs = 901, Reason::BatchWithdrawDelayMismatch);
    check(&|offer, config| (offer.extra.withdraw_delay, config.withdraw_delay_secs) = (1, 1), Reason::BatchWithdrawDelayOutOfRange);
    let mut payload = payload("voucher");
    payload["channelConfig"]["salt"] = json!(format!("0x{}", "02".repeat(32)));
    let read = BatchPayload::from_object(&object(&payload)).expect("well formed");
    assert_eq!(read.check(&offer, &domain), Err(Reason::BatchChannelIdMismatch));
}

#[test]
fn a_deposit_is_pulled_the_way_the_offer_says() {
    let domain = batch_domain(batch_offer().chain);
    let permit = json!({
        "from": channel_config()["payer"], "permitted": {"token": channel_config()["token"], "amount": "10000"},
        "spender": eip55(&PERMIT2_DEPOSIT_COLLECTOR), "nonce": "5", "deadline": "1743523500", "witness": {"channelId": CHANNEL}, "signature": "0x00"
    });
    let check = |method: TransferMethod, change: &dyn Fn(&mut Value), expected: Result<(), Reason>| {
        let mut offer = batch_offer();
        offer.extra.asset_transfer_method = Some(method);
        offer.extra.min_deposit = Some(Amount::from_units(10_000));
        let mut payload = payload("deposit");
        change(&mut payload["deposit"]);
        let read = BatchPayload::from_object(&object(&payload)).expect("well formed");
        assert_eq!(read.check(&offer, &domain).map(|_| ()), expected, "{payload}");
    };
    let by_permit = |change: &dyn Fn(&mut Value), expected| {
        check(
            TransferMethod::Permit2,
            &|deposit| {
                deposit["authorization"] = json!({"permit2Authorization": permit});
                change(&mut deposit["authorization"]["permit2Authorization"]);
            },
            expected,
        );
    };
    check(TransferMethod::Eip3009, &|_| (), Ok(()));
    check(TransferMethod::Eip3009, &|deposit| deposit["amount"] = json!("9999"), Err(Reason::BatchDepositBelowMinDeposit));
    check(TransferMethod::Permit2, &|_| (), Err(Reason::BatchPermit2AuthorizationRequired));
    by_permit(&|_| (), Ok(()));
    by_permit(&|permit| permit["spender"] = channel_config()["token"].clone(), Err(Reason::BatchPermit2InvalidSpender));
    by_permit(&|permit| permit["permitted"]["amount"] = json!("9999"), Err(Reason::BatchPermit2AmountMismatch));
    by_permit(&|permit| permit["permitted"]["token"] = channel_config()["payer"].clone(), Err(Reason::BatchTokenMismatch));
    by_permit(&|permit| permit["witness"]["channelId"] = json!(format!("0x{}", "00".repeat(32))), Err(Reason::BatchChannelIdMismatch));
    by_permit(&|permit| permit["from"] = channel_config()["token"].clone(), Err(Reason::BatchPermit2InvalidSignature));
}

#[test]
fn both_sides_of_a_deposit_agree_on_what_is_signed() {
    let offer = batch_offer();
    let domain = batch_domain(offer.chain);
    let config = offer.config(key(0x11).account(), key(0x22).account(), Hash256::from_bytes([9; 32]));
    let channel = config.channel_id(&domain).expect("fits");
    let usdc = TokenDomain::new(&offer.extra.name, &offer.extra.version, offer.chain, offer.asset);
    let amount = Amount::from_units(10_000);
    let unsigned = Erc3009Deposit {
        valid_after: Uint256::ZERO,
        valid_before: Uint256::MAX,
        salt: Hash256::from_bytes([3; 32]),
        signature: "0x".parse().expect("empty"),
    };
    let transfer = *unsigned.signed(config.payer, &channel, amount).statement();
    let signature = key(0x11).sign(transfer, &usdc).expect("fits").signature().clone();
    let deposit = Erc3009Deposit { signature, ..unsigned };
    assert!(deposit.signed(config.payer, &channel, amount).verify(&usdc, config.payer).is_ok());
    assert!(deposit.signed(config.payer, &channel, Amount::ZERO).verify(&usdc, config.payer).is_err());
}

#[test]
fn commands_to_a_facilitator_are_read_and_written() {
    let claim = json!({"voucher": {"channel": channel_config(), "maxClaimableAmount": "1000"}, "signature": voucher()["signature"], "totalClaimed": "700"});
    let domain = batch_domain(ChainId::new(31_337));
    for command in [
        json!({"type": "claim", "claims": [claim], "claimAuthorizerSignature": "0x01"}),
        json!({"type": "settle", "receiver": "0x4444444444444444444444444444444444444444", "token": channel_config()["token"]}),
        json!({"type": "refund", "channelConfig": channel_config(), "voucher": voucher(), "amount": "300", "refundNonce": "4", "claims": [claim]}),
    ] {
        let read = BatchCommand::from_object(&object(&command)).expect("well formed");
        assert_eq!(serde_json::to_value(read.to_object().expect("serialises")).expect("serialises"), command);
        if let BatchCommand::Claim { claims, .. } = read {
            let batch = Claim::batch(&claims, &domain).expect("has an id");
            assert_eq!(batch.claims[0].channel.to_string(), CHANNEL);
            assert!(claims[0].signed(&domain).expect("has an id").verify(&domain, key(0x22).account()).is_ok());
        }
    }
    for claims in [json!([]), json!(vec![claim; millstream_dialect::limits::CLAIMS_MAX + 1])] {
        let command = object(&json!({"type": "claim", "claims": claims}));
        assert!(matches!(BatchCommand::from_object(&command), Err(DialectError::Count { .. })));
    }
}

#[test]
fn corrective_offers_and_responses_carry_the_channel() {
    let state = json!({"channelId": CHANNEL, "balance": "10000", "totalClaimed": "0", "withdrawRequestedAt": 0, "refundNonce": "0", "chargedCumulativeAmount": "700"});
    let mut value = required();
    value["error"] = json!(Reason::BatchCumulativeAmountMismatch.as_str());
    value["accepts"][0]["extra"]["channelState"] = state.clone();
    value["accepts"][0]["extra"]["voucherState"] = json!({"signedMaxClaimable": "1000", "signature": "0x01"});
    let read = PaymentRequired::from_header(&header(&value)).expect("well formed");
    assert!(read.error.as_deref().and_then(|text| text.parse::<Reason>().ok()).is_some_and(Reason::is_corrective));
    let extra = BatchOffer::from_requirements(&read.accepts[0]).expect("of the scheme").extra;
    assert_eq!(extra.channel_state.expect("corrective").charged_cumulative_amount, Some(CumulativeAmount::from_units(700)));

    let response = json!({"success": true, "transaction": "", "network": "eip155:31337", "amount": "", "extra": {"chargedAmount": "700", "channelState": state}});
    let read = SettleResponse::from_header(&header(&response)).expect("well formed");
    assert_eq!(serde_json::to_value(&read).expect("serialises"), response);
    let extra: BatchResponseExtra = read.extra.read("extra").expect("of the scheme");
    assert_eq!(extra.charged_amount, Some(Amount::from_units(700)));
}

#[test]
fn custody_is_copied_or_not_offered() {
    let kind = custody::CustodyKind { receiver_authorizer: key(0x33).account(), withdraw_delay: 900, voucher_store: true };
    let mut offer = batch_offer();
    assert!(kind.is_copied_by(&offer.extra));
    offer.extra.custody.voucher_store = Some(true);
    assert!(kind.is_copied_by(&offer.extra));
    assert!(!custody::CustodyKind { voucher_store: false, ..kind }.is_copied_by(&offer.extra));
    assert!(!custody::CustodyKind { withdraw_delay: 901, ..kind }.is_copied_by(&offer.extra));
    offer.extra.custody.refund_authorizer = Some(key(0x44).account());
    let written = offer.to_requirements().expect("serialises");
    assert_eq!(written.extra.get("refundAuthorizer"), Some(&json!(eip55(&key(0x44).account()))));
    assert_eq!(BatchOffer::from_requirements(&written), Ok(offer));
    assert_eq!(packed_refund_authorizer(&Hash256::from_bytes([0x55; 32])), Address::from_bytes([0x55; 20]));
}

#[test]
fn exact_and_upto_payments_are_told_apart() {
    let nonce = format!("0x{}", "0f".repeat(32));
    let payer = key(0x11);
    let authorization = json!({"from": eip55(&payer.account()), "to": "0x4444444444444444444444444444444444444444", "value": "1000", "validAfter": "0", "validBefore": "1743523500", "nonce": nonce});
    let value = json!({"signature": "0x01", "authorization": authorization});
    let read = ExactPayload::from_object(&object(&value)).expect("well formed");
    assert_eq!(serde_json::to_value(&read).expect("serialises"), value);
    let ExactPayload::Erc3009(payment) = read else { panic!("by Permit2") };

    let mut wire = offer();
    wire["scheme"] = json!("exact");
    let mut all = required();
    all["accepts"] = json!([wire]);
    let exact =
        ExactOffer::from_requirements(&PaymentRequired::from_header(&header(&all)).expect("well formed").accepts[0]).expect("exact");
    let usdc = exact.token().expect("name and version");
    let signature = payer.sign(*payment.signed().statement(), &usdc).expect("fits").signature().clone();
    assert!(Erc3009Payment { signature, ..payment }.signed().verify(&usdc, payer.account()).is_ok());

    let permit = json!({"from": eip55(&payer.account()), "permitted": {"token": eip55(&exact.asset), "amount": "1000"}, "spender": "0x402085c248EeA27D92E8b30b2C58ed07f9E20001", "nonce": "1", "deadline": "2", "witness": {"to": "0x4444444444444444444444444444444444444444", "validAfter": "0"}});
    let value = json!({"signature": "0x01", "permit2Authorization": permit});
    assert!(matches!(ExactPayload::from_object(&object(&value)), Ok(ExactPayload::Permit2(_))));
    let mut both = value.clone();
    both["authorization"] = authorization;
    for refused in [json!({"signature": "0x01"}), both] {
        assert!(ExactPayload::from_object(&object(&refused)).is_err());
    }
    let mut upto = value;
    upto["permit2Authorization"]["witness"]["facilitator"] = json!("0x5555555555555555555555555555555555555555");
    let read: UptoPayload = object(&upto).read("payload").expect("well formed");
    assert_eq!(serde_json::to_value(&read).expect("serialises"), upto);
}

#[test]
fn reasons_have_one_text_each() {
    for reason in Reason::ALL {
        assert_eq!(reason.as_str().parse(), Ok(*reason));
    }
    assert_eq!("nonsense".parse::<Reason>(), Err(UnknownReason));
    assert_eq!(Reason::BatchChannelBusy.as_str(), "invalid_batch_settlement_evm_channel_busy");
    assert!(Reason::BatchChannelBusy.is_retryable() && !Reason::BatchVoucherSignature.is_retryable());
}

#[test]
fn payment_identifiers_are_bounded() {
    for (text, good) in [
        ("a".repeat(15), false),
        ("a".repeat(16), true),
        ("aZ0_-aZ0_-aZ0_-aZ0_-".to_owned(), true),
        ("a".repeat(128), true),
        ("a".repeat(129), false),
        ("a b".repeat(8), false),
    ] {
        assert_eq!(PaymentId::new(&text).is_ok(), good, "{text}");
    }
    let mut extensions = Object::default();
    assert_eq!(PaymentId::in_extensions(&extensions), Ok(None));
    offer_payment_identifier(&mut extensions, true);
    assert_eq!(PaymentId::in_extensions(&extensions), Ok(None));
    let id = PaymentId::new("0123456789abcdef").expect("16 characters");
    id.put_into(&mut extensions);
    assert_eq!(PaymentId::in_extensions(&extensions), Ok(Some(id)));
    assert_eq!(extensions.get(PAYMENT_IDENTIFIER), Some(&json!({"info": {"required": true, "id": "0123456789abcdef"}})));
}

#[test]
fn the_facilitators_bodies_are_read_and_written() {
    let payment = payment(payload("voucher"));
    let request = json!({"x402Version": 2, "paymentPayload": payment, "paymentRequirements": offer()});
    let read = FacilitatorRequest::from_json(request.to_string().as_bytes()).expect("well formed");
    assert_eq!(read.check(), Ok(()));
    assert_eq!(serde_json::from_slice::<Value>(&read.to_json().expect("serialises")).expect("JSON"), request);
    let mut less = read.clone();
    less.payment_requirements.amount = "700".to_owned();
    assert_eq!(less.check(), Ok(()));
    less.payment_requirements.asset = "0x00".to_owned();
    assert!(less.check().is_err());

    let supported = json!({"kinds": [{"x402Version": 2, "scheme": "batch-settlement", "network": "eip155:84532", "extra": {"voucherStore": true}}], "extensions": ["payment-identifier"], "signers": {"eip155:*": ["0x4444444444444444444444444444444444444444"]}});
    let read = Supported::from_json(supported.to_string().as_bytes()).expect("well formed");
    assert_eq!(serde_json::to_value(&read).expect("serialises"), supported);
    assert!(Supported::from_json(br#"{"kinds":[]}"#).is_ok_and(|read| read.signers.is_empty()));

    let answer = json!({"isValid": true, "payer": "0x11", "extra": {"channelId": CHANNEL, "balance": "10000", "totalClaimed": "0", "withdrawRequestedAt": 0, "refundNonce": "0"}});
    let read = VerifyResponse::from_json(answer.to_string().as_bytes()).expect("well formed");
    let state: ChannelState = read.extra.read("extra").expect("the channel");
    assert_eq!((state.balance, state.charged_cumulative_amount), (Amount::from_units(10_000), None));

    let answer = json!({"isValid": false, "invalidReason": "invalid_batch_settlement_evm_channel_busy", "payer": "0x11", "extra": {"skipHandler": true}});
    let read = VerifyResponse::from_json(answer.to_string().as_bytes()).expect("well formed");
    assert_eq!(serde_json::to_value(&read).expect("serialises"), answer);
    let extra: custody::CustodyVerifyExtra = read.extra.read("extra").expect("of the draft");
    assert_eq!(extra.skip_handler, Some(true));
}
