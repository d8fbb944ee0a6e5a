//! Payers of both dialects, who write their headers by hand: what the gateway reads is compared with the specifications, not with itself.

use std::fmt::Write;

use millstream_types::{Address, ChainId, CumulativeAmount, EscrowChannelId, Hash256};
use millstream_voucher::evm::{
    ChannelConfig, EscrowDomain, EscrowScheme, EscrowVoucher, EvmSecretKey, SessionTerms, X402_BATCH_SETTLEMENT,
};
use serde_json::{Value, json};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            if digit <= chunk.len() {
                text.push(char::from(ALPHABET[(word >> (18 - 6 * digit) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

pub fn base64url(bytes: &[u8]) -> String {
    base64(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

pub fn unbase64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut word, mut bits) = (0u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let byte = match byte {
            b'-' => b'+',
            b'_' => b'/',
            byte => byte,
        };
        let digit = ALPHABET.iter().position(|digit| *digit == byte).expect("base64") as u32;
        word = word << 6 | digit;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
            word &= (1 << bits) - 1;
        }
    }
    bytes
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn key(byte: u8) -> EvmSecretKey {
    EvmSecretKey::from_bytes(&[byte; 32]).expect("a key")
}

fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

/// A payer of x402.
pub struct X402Payer {
    pub key: EvmSecretKey,
    pub config: ChannelConfig,
    pub domain: EscrowDomain,
    pub channel: EscrowChannelId,
}

impl X402Payer {
    pub fn new(salt: u8) -> Self {
        let key = key(0x22);
        let domain = EscrowDomain::new(EscrowScheme::X402Batch, ChainId::new(31_337), X402_BATCH_SETTLEMENT);
        let config = ChannelConfig {
            payer: self::key(0x11).account(),
            payer_authorizer: key.account(),
            receiver: address("0x4444444444444444444444444444444444444444"),
            receiver_authorizer: address("0x5CbDd86a2FA8Dc4bDdd8a8f69dBa48572EeC07FB"),
            token: address("0x036CbD53842c5426634e7929541eC2318f3dCF7e"),
            withdraw_delay_secs: 900,
            salt: Hash256::from_bytes([salt; 32]),
        };
        let channel = config.channel_id(&domain).expect("in range");
        Self { key, config, domain, channel }
    }

    pub fn config_json(&self) -> Value {
        json!({
            "payer": self.config.payer, "payerAuthorizer": self.config.payer_authorizer, "receiver": self.config.receiver,
            "receiverAuthorizer": self.config.receiver_authorizer, "token": self.config.token,
            "withdrawDelay": self.config.withdraw_delay_secs, "salt": self.config.salt,
        })
    }

    pub fn voucher_json(&self, cumulative: u128) -> Value {
        let voucher = EscrowVoucher { channel: self.channel, cumulative: CumulativeAmount::from_units(cumulative) };
        let signed = self.key.sign(voucher, &self.domain).expect("in range");
        json!({
            "channelId": self.channel, "maxClaimableAmount": cumulative.to_string(), "signature": hex(signed.signature().as_bytes()),
        })
    }

    /// `PAYMENT-SIGNATURE` for an accepted offer, with any payload.
    pub fn header_with(&self, accepted: &Value, payload: Value, extensions: Option<Value>) -> String {
        let mut payment = json!({ "x402Version": 2, "accepted": accepted, "payload": payload });
        if let Some(extensions) = extensions {
            payment["extensions"] = extensions;
        }
        base64(payment.to_string().as_bytes())
    }

    /// `PAYMENT-SIGNATURE` with a voucher over `cumulative`.
    pub fn header(&self, accepted: &Value, cumulative: u128) -> String {
        let payload = json!({ "type": "voucher", "channelConfig": self.config_json(), "voucher": self.voucher_json(cumulative) });
        self.header_with(accepted, payload, None)
    }
}

/// A payer of MPP sessions.
pub struct SessionPayer {
    pub key: EvmSecretKey,
    pub terms: SessionTerms,
    pub domain: EscrowDomain,
    pub channel: EscrowChannelId,
}

impl SessionPayer {
    pub fn new(salt: u8) -> Self {
        let key = key(0x33);
        let escrow = address("0x5555555555555555555555555555555555555555");
        let domain = EscrowDomain::new(EscrowScheme::EvmSession, ChainId::new(31_337), escrow);
        let terms = SessionTerms {
            payer: key.account(),
            payee: address("0x4444444444444444444444444444444444444444"),
            token: address("0x036CbD53842c5426634e7929541eC2318f3dCF7e"),
            salt: Hash256::from_bytes([salt; 32]),
            authorized_signer: Address::ZERO,
        };
        let channel = terms.channel_id(&domain);
        Self { key, terms, domain, channel }
    }

    /// `Authorization` with a voucher over `cumulative`, for an offer as `WWW-Authenticate` has it.
    pub fn header(&self, offer: &str, cumulative: u128) -> String {
        self.header_with(offer, "voucher", cumulative)
    }

    /// `Authorization` that opens the channel with a deposit by ERC-3009, and pays.
    pub fn opening(&self, offer: &str, cumulative: u128, deposit: u128) -> String {
        let voucher = EscrowVoucher { channel: self.channel, cumulative: CumulativeAmount::from_units(cumulative) };
        let signed = self.key.sign(voucher, &self.domain).expect("in range");
        let payload = json!({
            "action": "open", "type": "authorization", "channelId": self.channel, "cumulativeAmount": cumulative.to_string(),
            "voucherSignature": hex(signed.signature().as_bytes()), "salt": self.terms.salt, "signature": hex(&[0x1b; 65]),
            "authorization": {
                "from": self.terms.payer, "to": self.domain.contract(), "value": deposit.to_string(), "validAfter": "0",
                "validBefore": "4000000000", "nonce": self.terms.open_nonce(),
            },
        });
        self.credential(offer, &payload)
    }

    pub fn header_with(&self, offer: &str, action: &str, cumulative: u128) -> String {
        let voucher = EscrowVoucher { channel: self.channel, cumulative: CumulativeAmount::from_units(cumulative) };
        let signed = self.key.sign(voucher, &self.domain).expect("in range");
        let payload = json!({
            "action": action, "channelId": self.channel, "cumulativeAmount": cumulative.to_string(),
            "signature": hex(signed.signature().as_bytes()),
        });
        self.credential(offer, &payload)
    }

    fn credential(&self, offer: &str, payload: &Value) -> String {
        let source = format!("did:pkh:eip155:31337:{}", self.terms.payer);
        let credential = json!({ "challenge": parameters(offer), "source": source, "payload": payload });
        format!("Payment {}", base64url(credential.to_string().as_bytes()))
    }
}

/// The parameters of a `WWW-Authenticate: Payment …`.
pub fn parameters(offer: &str) -> Value {
    let rest = offer.strip_prefix("Payment ").expect("the scheme");
    let mut fields = serde_json::Map::new();
    for part in rest.split("\", ").flat_map(|part| part.split("\",")) {
        let (name, value) = part.trim().split_once('=').expect("a parameter");
        fields.insert(name.trim().to_owned(), json!(value.trim().trim_matches('"')));
    }
    Value::Object(fields)
}

/// The x402 offer of a 402 with this scheme, and the whole of `PAYMENT-REQUIRED`.
pub fn x402_offer(response: &reqwest::Response) -> (Value, Value) {
    let header = response.headers()["payment-required"].to_str().expect("text");
    let required: Value = serde_json::from_slice(&unbase64(header)).expect("JSON");
    (required["accepts"][0].clone(), required)
}

/// The MPP offer of a 402.
pub fn mpp_offer(response: &reqwest::Response) -> String {
    let offers = response.headers().get_all("www-authenticate").iter().map(|value| value.to_str().expect("text"));
    offers.into_iter().find(|offer| offer.starts_with("Payment ")).expect("an offer").to_owned()
}
