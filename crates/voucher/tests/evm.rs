//! Statements and signatures of EVM escrows against those of other implementations: published golden vectors of x402 (spec E-4, E-5), and
//! `contracts/vectors/evm-vouchers.json`, which viem wrote.

use millstream_types::{Address, Amount, BlockNumber, ChainId, CumulativeAmount, EscrowChannelId, Hash256, Uint256};
use millstream_voucher::evm::*;

const CHAINS: [u64; 2] = [84_532, 31_337];

fn key(byte: u8) -> EvmSecretKey {
    EvmSecretKey::from_bytes(&[byte; 32]).expect("in range")
}

fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

fn receiver() -> Address {
    Address::from_bytes([0x44; 20])
}

fn token() -> Address {
    address("0x036CbD53842c5426634e7929541eC2318f3dCF7e")
}

fn salt(byte: u8) -> Hash256 {
    Hash256::from_bytes([byte; 32])
}

fn config() -> ChannelConfig {
    let mut one = [0; 32];
    one[31] = 1;
    ChannelConfig {
        payer: key(0x11).account(),
        payer_authorizer: key(0x22).account(),
        receiver: receiver(),
        receiver_authorizer: key(0x33).account(),
        token: token(),
        withdraw_delay_secs: 900,
        salt: Hash256::from_bytes(one),
    }
}

fn batch_domain(chain: u64) -> EscrowDomain {
    EscrowDomain::new(EscrowScheme::X402Batch, ChainId::new(chain), X402_BATCH_SETTLEMENT)
}

fn channel(chain: u64) -> EscrowChannelId {
    config().channel_id(&batch_domain(chain)).expect("a short delay")
}

fn total(units: u128) -> CumulativeAmount {
    CumulativeAmount::from_units(units)
}

fn voucher(chain: u64, units: u128) -> EscrowVoucher {
    EscrowVoucher { channel: channel(chain), cumulative: total(units) }
}

#[test]
fn golden_vectors_of_x402_hold() {
    assert_eq!(eip55(&key(0x11).account()), "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A");
    assert_eq!(eip55(&key(0x22).account()), "0x1563915e194D8CfBA1943570603F7606A3115508");
    assert_eq!(eip55(&key(0x33).account()), "0x5CbDd86a2FA8Dc4bDdd8a8f69dBa48572EeC07FB");
    let check = |chain: u64, expected: [&str; 6]| {
        let domain = batch_domain(chain);
        let refund = Refund { channel: channel(chain), nonce: Uint256::ZERO, amount: Amount::from_units(500) };
        let entry = ClaimEntry { channel: channel(chain), max_claimable: total(1_000), total_claimed: total(700) };
        let signed = key(0x22).sign(voucher(chain, 1_000), &domain).expect("fits");
        let computed = [
            domain.separator().to_string(),
            channel(chain).to_string(),
            voucher(chain, 1_000).digest(&domain).expect("fits").to_string(),
            refund.digest(&domain).expect("fits").to_string(),
            ClaimBatch { claims: vec![entry] }.digest(&domain).expect("fits").to_string(),
            signed.signature().to_string(),
        ];
        assert_eq!(computed, expected, "chain {chain}");
    };
    check(
        84_532,
        [
            "0xfdef80764086b1e0fc6ba99f0cb9aa1d59109fda7c23d60334c89d2de44dffce",
            "0xd9f890c0516141574f8fe1f2dec0ba45a64fde12baa991b1bbd9369693d8df10",
            "0x8f4750331cf55f3ae7c8c8c6dbb82db7f190ff6945e463dc480d9239af277c5f",
            "0x9449b5b00cf99b6d9a9e798a341e07730298998c54235cad5602674b1aa1d549",
            "0x7a0cedb8c2b23b550f6fcbf7c51d79fe961c509d8735c242133964ae1f731823",
            "0x9da38cebb233444e03a9c2c7c54ca704961ab567c209c5b3aea290852e28e25e0b58350ba71b790accfa2f717b34f1ccecf09fb3f86bab622e12f560a1e387361c",
        ],
    );
    check(
        31_337,
        [
            "0xbf720f8d28a5c76a2f7743512598984fa4b90dd1efdb19af73f64cc6587d68af",
            "0x646455d24fb56b399851ab4e12230f4b048a5380b60e48266fff0d7005fdd700",
            "0x6d9c1fdc80bb23e1dcaf0a0068374d4ee53c520eaba48851a3641e24c616be44",
            "0xead951a189d18bd97992d209a1675297691db66b3ce44851984c01755015a6f5",
            "0x59670c837ffd6484548509605ea0bc0399cb7f15709849b38461b34ef70dda95",
            "0xb16d6c4f1becc0747b1a9af847d5793a11256d17a74a5dc00606ffae471a1f5b12ed12b209d48bbcb25379e5dd7175e376333eeae56237c5984c59882123a5e21b",
        ],
    );
}

/// Digest, signer and signature of each statement, as viem has them.
struct Vectors(serde_json::Value);

impl Vectors {
    fn case(&self, chain: u64, name: &str) -> &serde_json::Value {
        let cases = self.0["cases"].as_array().expect("cases");
        cases
            .iter()
            .find(|case| case["name"] == name && case["chainId"] == chain)
            .unwrap_or_else(|| panic!("{name} on {chain}"))
    }

    fn hash(&self, chain: u64, name: &str, computed: impl ToString) {
        assert_eq!(computed.to_string(), self.case(chain, name)["digest"].as_str().expect("a digest"), "{name} on {chain}");
    }

    fn statement<T: Statement + Clone>(&self, chain: u64, name: &str, key: &EvmSecretKey, statement: T, domain: &T::Domain) {
        self.hash(chain, name, statement.digest(domain).expect("fits"));
        let case = self.case(chain, name);
        assert_eq!(eip55(&key.account()), case["signer"].as_str().expect("a signer"), "{name} on {chain}");
        let ours = key.sign(statement.clone(), domain).expect("fits");
        let theirs: EvmSignature = case["signature"].as_str().expect("a signature").parse().expect("hexadecimal");
        assert_eq!(*ours.signature(), theirs, "{name} on {chain}");
        assert!(Signed::new(statement, theirs).verify(domain, key.account()).is_ok());
    }
}

#[test]
fn statements_are_those_that_wallets_sign() {
    let vectors = Vectors(serde_json::from_str(include_str!("../../../contracts/vectors/evm-vouchers.json")).expect("JSON"));
    let [payer, authorizer, receiver_authorizer] = [0x11, 0x22, 0x33].map(key);
    for chain in CHAINS {
        let id = ChainId::new(chain);
        let escrow = Address::from_bytes([0x55; 20]);
        let of = |scheme| EscrowDomain::new(scheme, id, escrow);
        let (x402, session) = (batch_domain(chain), of(EscrowScheme::EvmSession));
        let channel = channel(chain);
        vectors.hash(chain, "x402 domain", x402.separator());
        vectors.hash(chain, "x402 config", channel);
        vectors.statement(chain, "x402 voucher", &authorizer, voucher(chain, 1_000), &x402);
        let refund = Refund { channel, nonce: Uint256::ZERO, amount: Amount::from_units(500) };
        vectors.statement(chain, "x402 refund", &receiver_authorizer, refund, &x402);
        let nine = EscrowChannelId::from_bytes([9; 32]);
        let rows = [
            ClaimEntry { channel, max_claimable: total(1_000), total_claimed: total(700) },
            ClaimEntry { channel: nine, max_claimable: total(u128::MAX), total_claimed: total(1) },
        ];
        for count in 0..=2 {
            let claims = ClaimBatch { claims: rows[..count].to_vec() };
            vectors.statement(chain, &format!("x402 claims {count}"), &receiver_authorizer, claims, &x402);
        }

        let usdc = TokenDomain::new("USDC", "2", id, token());
        let pull = |kind| TransferAuthorization {
            kind,
            from: payer.account(),
            to: ERC3009_DEPOSIT_COLLECTOR,
            value: Amount::from_units(10_000),
            valid_after: Uint256::from(5u64),
            valid_before: Uint256::MAX,
            nonce: deposit_nonce(&channel, Uint256::from(7u64)),
        };
        vectors.statement(chain, "receive", &payer, pull(TransferKind::Receive), &usdc);
        vectors.statement(chain, "transfer", &payer, pull(TransferKind::Transfer), &usdc);

        let valid_after = Uint256::from(5u64);
        let charge = TransferWitness::Payment(PaymentWitness {
            offer_hash: offer_hash("offer-1", "api.example.com"),
            external_id: "order 9".to_owned(),
        });
        let mut high = [0; 32];
        high[0] = 0x80;
        let permit = |witness, amounts: &[u128], nonce| Permit2Transfer {
            permitted: amounts.iter().map(|units| TokenPermissions { token: token(), amount: Amount::from_units(*units) }).collect(),
            spender: escrow,
            nonce,
            deadline: Uint256::from(1_743_523_500u64),
            witness,
        };
        let permit2 = Permit2Domain::new(id, PERMIT2);
        for (name, witness) in [
            ("permit2 exact", TransferWitness::X402Exact { to: receiver(), valid_after }),
            ("permit2 upto", TransferWitness::X402Upto { to: receiver(), facilitator: escrow, valid_after }),
            ("permit2 deposit", TransferWitness::X402Deposit { channel }),
            ("permit2 open", TransferWitness::ChannelOpen { payee: receiver(), salt: salt(0x77), authorized_signer: authorizer.account() }),
            ("permit2 top-up", TransferWitness::ChannelTopUp { channel }),
            ("permit2 charge", charge.clone()),
        ] {
            vectors.statement(chain, name, &payer, permit(witness, &[10_000], Uint256::from_be_bytes(high)), &permit2);
        }
        vectors.statement(chain, "permit2 charge of two", &payer, permit(charge, &[9_000, 1_000], Uint256::from(1u64)), &permit2);

        vectors.statement(chain, "session voucher", &authorizer, voucher(chain, u128::MAX), &session);
        let (nonce, deadline, cumulative) = (Uint256::from(3u64), Uint256::from(1_743_523_500u64), total(42));
        let settle = SettleAuthorization { channel, cumulative, nonce, deadline };
        vectors.statement(chain, "session SettleAuthorization", &receiver_authorizer, settle, &session);
        let close = CloseAuthorization { channel, cumulative, nonce, deadline };
        vectors.statement(chain, "session CloseAuthorization", &receiver_authorizer, close, &session);
        vectors.statement(chain, "tempo v1 voucher", &authorizer, voucher(chain, 250_000), &of(EscrowScheme::TempoV1));
        let (tempo, most) = (of(EscrowScheme::TempoV2), (1 << 96) - 1);
        vectors.statement(chain, "tempo v2 Voucher", &authorizer, voucher(chain, most), &tempo);
        let close = TempoCloseAuthorization { channel, cumulative: total(most) };
        vectors.statement(chain, "tempo v2 CloseAuthorization", &authorizer, close, &tempo);

        let terms =
            SessionTerms { payer: payer.account(), payee: receiver(), token: token(), salt: salt(0x77), authorized_signer: Address::ZERO };
        vectors.hash(chain, "session channel", terms.channel_id(&session));
        vectors.hash(chain, "session open nonce", terms.open_nonce());
        let top_up = top_up_nonce(&channel, Amount::from_units(5_000), &payer.account(), &salt(0x88));
        vectors.hash(chain, "session top-up nonce", top_up);
        let terms = TempoTerms { terms, operator: escrow, expiring_nonce_hash: salt(0x99) };
        vectors.hash(chain, "tempo v2 channel", terms.channel_id(&tempo));
    }
}

#[test]
fn only_the_signer_of_the_statement_is_accepted() {
    let domain = batch_domain(31_337);
    let good: SignedEscrowVoucher = key(0x22).sign(voucher(31_337, 1_000), &domain).expect("fits").into();
    let signer = key(0x22).account();
    let verified = good.clone().verify(&domain, signer).expect("good");
    assert_eq!((verified.signer(), verified.evidence(), verified.separator()), (signer, Evidence::Key, domain.separator()));

    let wrong = |signed: SignedEscrowVoucher, domain: &EscrowDomain, account| {
        assert!(matches!(signed.verify(domain, account), Err(EvmError::WrongSigner { expected, .. }) if expected == account));
    };
    wrong(good.clone(), &domain, key(0x11).account());
    wrong(Signed::new(voucher(31_337, 1_001), good.signature().clone()), &domain, signer);
    wrong(Signed::new(voucher(84_532, 1_000), good.signature().clone()), &domain, signer);
    wrong(good.clone(), &batch_domain(84_532), signer);
    for scheme in EscrowScheme::ALL.into_iter().filter(|scheme| *scheme != EscrowScheme::X402Batch) {
        wrong(good.clone(), &EscrowDomain::new(scheme, domain.chain(), domain.contract()), signer);
    }
}

#[test]
fn a_signature_has_one_form() {
    let domain = batch_domain(31_337);
    let good = key(0x22).sign(voucher(31_337, 1_000), &domain).expect("fits");
    let bytes: [u8; 65] = good.signature().as_bytes().try_into().expect("65 bytes");
    let check = |change: &dyn Fn(&mut [u8; 65]), expected: EvmError| {
        let mut changed = bytes;
        change(&mut changed);
        assert_eq!(KeySignature::from_bytes(changed), Err(expected));
    };
    for v in [0, 1, 26, 29, 37, 255] {
        check(&|bytes| bytes[64] = v, EvmError::RecoveryByte { v });
    }
    // The order less `s`, and the other `v`: the same signature, malleated.
    let order: [u8; 32] =
        hex::decode("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141").expect("hex").try_into().expect("32");
    let malleated = |bytes: &mut [u8; 65]| {
        let mut borrow = 0i16;
        for at in (0..32).rev() {
            let difference = i16::from(order[at]) - i16::from(bytes[32 + at]) - borrow;
            borrow = i16::from(difference < 0);
            bytes[32 + at] = u8::try_from(difference.rem_euclid(256)).expect("a byte");
        }
        bytes[64] = 55 - bytes[64];
    };
    check(&malleated, EvmError::HighS);
    check(&|bytes| bytes[32..64].fill(0), EvmError::SignatureRange);
    check(&|bytes| bytes[..32].fill(0), EvmError::SignatureRange);
    check(&|bytes| bytes[..32].copy_from_slice(&order), EvmError::SignatureRange);
    check(&|bytes| bytes[..32].fill(0xff), EvmError::SignatureRange);

    for (text, expected) in [
        ("", Err(EvmError::SignatureText)),
        ("11", Err(EvmError::SignatureText)),
        ("0x1", Err(EvmError::SignatureText)),
        ("0xgg", Err(EvmError::SignatureText)),
        ("0x", Ok(0)),
        ("0xAb", Ok(1)),
    ] {
        assert_eq!(text.parse::<EvmSignature>().map(|signature| signature.as_bytes().len()), expected, "{text}");
    }
    let long = CONTRACT_SIGNATURE_BYTES_MAX + 1;
    assert_eq!(EvmSignature::new(vec![0; long]), Err(EvmError::SignatureTooLong { bytes: long }));
    assert_eq!(format!("0x{}", "00".repeat(long)).parse::<EvmSignature>(), Err(EvmError::SignatureTooLong { bytes: long }));
    let short = EvmSignature::new(bytes[..64].to_vec()).expect("short");
    assert_eq!(short.to_key_signature(), Err(EvmError::SignatureLength { bytes: 64 }));
}

#[test]
fn a_contract_is_asked_and_only_its_own_answer_counts() {
    let domain = batch_domain(31_337);
    let wallet = Address::from_bytes([0x77; 20]);
    let signature = EvmSignature::new(vec![1, 2, 3]).expect("short");
    let question = || {
        let signed = Signed::new(voucher(31_337, 1_000), signature.clone());
        match signed.check(&domain, Signer::Contract(wallet)).expect("fits") {
            Checked::Ask(question) => question,
            Checked::Verified(_) => panic!("verified without the contract"),
        }
    };
    let good = ContractAnswer {
        chain: question().chain(),
        account: question().account(),
        digest: *question().digest(),
        signature: question().signature().clone(),
        at: BlockNumber::new(9),
        returned: Some(ERC1271_MAGIC),
    };
    let verified = question().answered(&good).expect("the contract says so");
    assert_eq!((verified.signer(), verified.evidence()), (wallet, Evidence::Contract { at: BlockNumber::new(9) }));
    for other in [
        ContractAnswer { chain: ChainId::new(1), ..good.clone() },
        ContractAnswer { account: receiver(), ..good.clone() },
        ContractAnswer { digest: salt(1), ..good.clone() },
        ContractAnswer { signature: EvmSignature::new(vec![1, 2]).expect("short"), ..good.clone() },
    ] {
        assert_eq!(question().answered(&other), Err(EvmError::OtherQuestion));
    }
    for returned in [None, Some([0; 4]), Some([0xff; 4])] {
        let refusal = ContractAnswer { returned, ..good.clone() };
        assert_eq!(question().answered(&refusal), Err(EvmError::ContractRefuses { account: wallet, at: 9 }));
    }
}

#[test]
fn a_key_needs_no_chain_and_a_contracts_key_does_not_count() {
    let domain = batch_domain(31_337);
    let signed: SignedEscrowVoucher = key(0x22).sign(voucher(31_337, 1), &domain).expect("fits").into();
    let account = key(0x22).account();
    assert!(matches!(signed.clone().check(&domain, Signer::Key(account)), Ok(Checked::Verified(_))));
    // An account with code is asked even where its own key signed: the escrow asks it too.
    assert!(matches!(signed.check(&domain, Signer::Contract(account)), Ok(Checked::Ask(_))));
}

#[test]
fn what_does_not_fit_its_type_has_no_digest() {
    let tempo = EscrowDomain::new(EscrowScheme::TempoV2, ChainId::new(1), receiver());
    assert_eq!(voucher(31_337, 1 << 96).digest(&tempo), Err(EvmError::AmountWidth { bits: 96 }));
    let close = TempoCloseAuthorization { channel: channel(31_337), cumulative: total(1 << 96) };
    assert_eq!(close.digest(&tempo), Err(EvmError::AmountWidth { bits: 96 }));
    let config = ChannelConfig { withdraw_delay_secs: 1 << 40, ..config() };
    assert_eq!(config.channel_id(&batch_domain(1)), Err(EvmError::DelayWidth { secs: 1 << 40 }));
}

#[test]
fn secrets_are_in_range_and_not_shown() {
    let order: [u8; 32] =
        hex::decode("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141").expect("hex").try_into().expect("32");
    for bytes in [[0; 32], order, [0xff; 32]] {
        assert!(matches!(EvmSecretKey::from_bytes(&bytes), Err(EvmError::SecretRange)));
    }
    assert_eq!(format!("{:?}", key(0x22)), format!("EvmSecretKey({})", key(0x22).account()));
    assert_eq!(*key(0x22).to_bytes(), [0x22; 32]);
}

#[test]
fn signers_and_salts_follow_from_the_terms() {
    let mine = ChannelConfig { payer_authorizer: Address::ZERO, ..config() };
    assert_eq!((config().voucher_signer(), mine.voucher_signer()), (key(0x22).account(), key(0x11).account()));
    for (secs, inside) in [(899, false), (900, true), (2_592_000, true), (2_592_001, false)] {
        assert_eq!(ChannelConfig { withdraw_delay_secs: secs, ..config() }.delay_in_range(), inside, "{secs}");
    }
    let mut packed = [0xee; 32];
    packed[12..].copy_from_slice(receiver().as_bytes());
    assert_eq!(packed_refund_authorizer(&Hash256::from_bytes(packed)), receiver());
}
