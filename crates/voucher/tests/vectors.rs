//! The vectors that other implementations share: `contracts/vectors/{voucher,poseidon}.json`.
//!
//! `MILLSTREAM_BLESS=1` writes them anew; otherwise the files must say what this implementation computes.

use ark_bn254::Fr;
use ark_ff::{BigInteger, PrimeField};
use millstream_types::{Address, BillHead, ChainId, ChannelId, CumulativeAmount, LedgerId};
use millstream_voucher::poseidon::{self, Tag};
use millstream_voucher::{ChannelTerms, SecretKey, SignedVoucher, VoucherBody};
use serde_json::{Value, json};

#[expect(clippy::disallowed_methods, reason = "blessing writes a file")]
fn check(name: &str, stored: &str, computed: &Value) {
    if std::env::var_os("MILLSTREAM_BLESS").is_some() {
        let path = format!("{}/../../contracts/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = serde_json::to_string_pretty(computed).expect("serialises") + "\n";
        std::fs::write(path, text).expect("the file is writable");
        return;
    }
    let stored: Value = serde_json::from_str(stored).expect("JSON");
    assert_eq!(&stored, computed, "{name} differs; MILLSTREAM_BLESS=1 rewrites it");
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// 32 bytes that look random and are the same for ever.
fn bytes32(label: &str) -> [u8; 32] {
    *blake3::hash(label.as_bytes()).as_bytes()
}

fn secret(index: usize) -> SecretKey {
    let mut entropy = [0; 64];
    entropy[..32].copy_from_slice(&bytes32(&format!("vector secret {index} high")));
    entropy[32..].copy_from_slice(&bytes32(&format!("vector secret {index} low")));
    SecretKey::from_entropy(&entropy).expect("not zero")
}

fn address(label: &str) -> Address {
    let mut bytes = [0; 20];
    bytes.copy_from_slice(&bytes32(label)[..20]);
    Address::from_bytes(bytes)
}

#[test]
fn voucher_vectors() {
    let one = SecretKey::from_bytes(&{
        let mut bytes = [0; 32];
        bytes[31] = 1;
        bytes
    });
    let secrets: Vec<SecretKey> = core::iter::once(one.expect("in range")).chain((1..4).map(secret)).collect();
    let keys: Vec<Value> = secrets
        .iter()
        .map(|secret| {
            let witness = secret.witness();
            json!({
                "secret": hex(secret.to_bytes()),
                "keyX": hex(secret.public_key().x()),
                "witnessX": hex(witness.x),
                "witnessY": hex(witness.y),
            })
        })
        .collect();

    let chains = [1, 31_337, 8_453, u64::MAX];
    let terms: Vec<ChannelTerms> = secrets
        .iter()
        .zip(chains)
        .enumerate()
        .map(|(index, (secret, chain))| ChannelTerms {
            ledger: LedgerId { chain: ChainId::new(chain), contract: address(&format!("vector ledger {index}")) },
            payer: address(&format!("vector payer {index}")),
            key_x: secret.public_key().x(),
            salt: bytes32(&format!("vector salt {index}")),
        })
        .collect();
    let channels: Vec<Value> = terms
        .iter()
        .map(|terms| {
            json!({
                "chainId": terms.ledger.chain.get().to_string(),
                "ledger": terms.ledger.contract,
                "payer": terms.payer,
                "keyX": hex(terms.key_x),
                "salt": hex(terms.salt),
                "uid": terms.uid(),
            })
        })
        .collect();

    let mut vouchers = Vec::new();
    for (index, (secret, terms)) in secrets.iter().zip(&terms).enumerate() {
        for (lines_total, nanos) in [(0, 0), (1, 150), (1_000_000, 1_234_567_890_123), (u64::MAX, u64::MAX)] {
            let head = bytes32(&format!("vector head {index} {lines_total}"));
            vouchers.push(voucher(secret, terms.uid(), lines_total, nanos, head));
        }
        vouchers.push(voucher(secret, terms.uid(), 1, 1, [0xff; 32]));
        vouchers.push(voucher(secret, ChannelId::from_uid(&[0; 31]), 1, 1, [0; 32]));
    }

    let wallets: Vec<Value> = (0..2)
        .map(|index| {
            let mut signature = [27; 65];
            signature[..32].copy_from_slice(&bytes32(&format!("vector wallet {index} r")));
            signature[32..64].copy_from_slice(&bytes32(&format!("vector wallet {index} s")));
            let secret = SecretKey::from_wallet_signature(&signature).expect("not zero");
            json!({ "signature": hex(signature), "secret": hex(secret.to_bytes()) })
        })
        .collect();

    check(
        "voucher.json",
        include_str!("../../../contracts/vectors/voucher.json"),
        &json!({ "keys": keys, "channels": channels, "vouchers": vouchers, "wallets": wallets }),
    );
}

fn voucher(secret: &SecretKey, channel: ChannelId, lines_total: u64, nanos: u64, head: [u8; 32]) -> Value {
    let body = VoucherBody { channel, lines_total, cumulative: CumulativeAmount::from_nanos(nanos), bill_head: BillHead::from_bytes(head) };
    let signed: SignedVoucher = secret.sign(body).expect("fits").into();
    signed.verify(&secret.public_key()).expect("verifies");
    json!({
        "secret": hex(secret.to_bytes()),
        "keyX": hex(secret.public_key().x()),
        "uid": channel,
        "linesTotal": lines_total.to_string(),
        "cumulative": nanos.to_string(),
        "billHead": body.bill_head,
        "bill": hex(&head[..31]),
        "signature": hex(signed.signature().as_bytes()),
        "voucher": hex(signed.to_bytes()),
    })
}

#[test]
fn poseidon_vectors() {
    let mut vectors = Vec::new();
    for tag in Tag::ALL {
        let count = tag.width().inputs() as u64;
        let patterns: [&dyn Fn(u64) -> Fr; 3] = [&|index| Fr::from(index + 1), &|index| -Fr::from(index + 1), &|index| {
            Fr::from_be_bytes_mod_order(&bytes32(&format!("vector input {index}")))
        }];
        for pattern in patterns {
            let inputs: Vec<Fr> = (0..count).map(pattern).collect();
            vectors.push(json!({
                "tag": tag.as_str(),
                "capacity": field(tag.to_field()),
                "inputs": inputs.iter().copied().map(field).collect::<Vec<_>>(),
                "hash": field(poseidon::hash(tag, &inputs)),
            }));
        }
    }
    check("poseidon.json", include_str!("../../../contracts/vectors/poseidon.json"), &json!({ "hashes": vectors }));
}

fn field(value: Fr) -> String {
    hex(value.into_bigint().to_bytes_be())
}
