//! Web3 Secret Storage, version 3: the form that geth, Foundry, web3signer and wallets read and write.
//!
//! `{"version": 3, "id": UUID, "address": HEX, "crypto": {"cipher": "aes-128-ctr", "cipherparams": {"iv"}, "ciphertext", "kdf", "kdfparams", "mac"}}`.
//! The password is stretched to 32 bytes: the first 16 are the key of the cipher, and `mac = keccak256(last 16 ‖ ciphertext)`. What is written
//! here uses scrypt; PBKDF2 is read too. `millstream` beside it says what the key is for; other programs pass over it.

use core::fmt;
use core::str::FromStr;

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use millstream_types::Address;
use serde::{Deserialize, Serialize};
use sha3::{Digest, Keccak256};
use zeroize::Zeroizing;

use crate::{KeystoreError, Password, Secret};

/// Work that a file may ask for, as scrypt's `n × r × p`: a second or two, and 1 GiB of memory at `p` 1.
const SCRYPT_WORK_MAX: u64 = 1 << 23;
/// Rounds of PBKDF2 that a file may ask for.
const PBKDF2_ROUNDS_MAX: u32 = 10_000_000;
/// The version of the format.
const VERSION: u32 = 3;

/// What a key is for. A key that signs vouchers should be another one than that of the account whose money it is, and this keeps the two apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyUse {
    /// Holds money, or coins for gas: signs transactions, deposits, claims.
    #[default]
    Account,
    /// Signs vouchers and nothing else: holds nothing.
    Voucher,
}

impl KeyUse {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Voucher => "voucher",
        }
    }
}

impl fmt::Display for KeyUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyUse {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Account, Self::Voucher]
            .into_iter()
            .find(|known| known.name() == text)
            .ok_or_else(|| "expected account or voucher".to_owned())
    }
}

/// How hard it is to try a password: scrypt with `r` 8 and `p` 1, `n` as a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost(u8);

impl Cost {
    /// 2^17: 128 MiB and a third of a second.
    pub const STANDARD: Self = Self(17);
    /// 2^10: for tests, whose keys are public.
    pub const INSECURE_FAST: Self = Self(10);
}

/// A keystore, still closed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keystore {
    version: u32,
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    millstream: Option<Ours>,
}

/// What other programs do not know of.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Ours {
    #[serde(rename = "use")]
    key_use: KeyUse,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    kdf: String,
    kdfparams: KdfParams,
    mac: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct CipherParams {
    iv: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum KdfParams {
    Scrypt { dklen: u32, n: u64, r: u32, p: u32, salt: String },
    Pbkdf2 { dklen: u32, c: u32, prf: String, salt: String },
}

impl Keystore {
    /// Closes a secret under a password.
    ///
    /// # Errors
    /// [`KeystoreError::Randomness`].
    pub fn close(secret: &Secret, password: &Password, key_use: KeyUse, cost: Cost) -> Result<Self, KeystoreError> {
        let (mut salt, mut iv, mut id) = ([0; 32], [0; 16], [0; 16]);
        for bytes in [salt.as_mut_slice(), &mut iv, &mut id] {
            getrandom::fill(bytes).map_err(|_| KeystoreError::Randomness)?;
        }
        let kdfparams = KdfParams::Scrypt { dklen: 32, n: 1 << cost.0, r: 8, p: 1, salt: hex::encode(salt) };
        let stretched = kdfparams.stretch("scrypt", password)?;
        let mut ciphertext = *secret.bytes();
        cipher(&stretched, &iv, &mut ciphertext);
        let mac = mac(&stretched, &ciphertext);
        Ok(Self {
            version: VERSION,
            id: uuid(id),
            address: Some(hex::encode(secret.address().as_bytes())),
            crypto: Crypto {
                cipher: "aes-128-ctr".to_owned(),
                cipherparams: CipherParams { iv: hex::encode(iv) },
                ciphertext: hex::encode(ciphertext),
                kdf: "scrypt".to_owned(),
                kdfparams,
                mac: hex::encode(mac),
            },
            millstream: Some(Ours { key_use }),
        })
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`KeystoreError::WrongPassword`]; [`KeystoreError::Unsupported`] for what is of another version, or asks for more work than is sensible;
    /// [`KeystoreError::WrongAddress`].
    pub fn open(&self, password: &Password) -> Result<Secret, KeystoreError> {
        if self.version != VERSION {
            return Err(unsupported("version", self.version, "3"));
        }
        let crypto = &self.crypto;
        if crypto.cipher != "aes-128-ctr" {
            return Err(unsupported("cipher", &crypto.cipher, "aes-128-ctr"));
        }
        let iv: [u8; 16] = bytes("iv", &crypto.cipherparams.iv)?;
        let (ciphertext, expected): ([u8; 32], [u8; 32]) = (bytes("ciphertext", &crypto.ciphertext)?, bytes("mac", &crypto.mac)?);
        let stretched = crypto.kdfparams.stretch(&crypto.kdf, password)?;
        // All bytes are looked at, whichever differs.
        let differs = mac(&stretched, &ciphertext).iter().zip(expected).fold(0, |differs, (left, right)| differs | (left ^ right));
        if differs != 0 {
            return Err(KeystoreError::WrongPassword);
        }
        let mut plain = Zeroizing::new(ciphertext);
        cipher(&stretched, &iv, &mut plain);
        let secret = Secret::from_bytes(&plain)?;
        match self.address() {
            Some(expected) if expected != secret.address() => Err(KeystoreError::WrongAddress { expected, actual: secret.address() }),
            Some(_) | None => Ok(secret),
        }
    }

    /// The account, where the file names it.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        let text = self.address.as_deref()?;
        format!("0x{}", text.strip_prefix("0x").unwrap_or(text)).parse().ok()
    }

    /// What the key is for; a keystore of another program's is of an account.
    #[must_use]
    pub fn key_use(&self) -> KeyUse {
        self.millstream.map(|ours| ours.key_use).unwrap_or_default()
    }

    /// As the file holds it.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and numbers always serialise.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl KdfParams {
    /// 32 bytes from a password.
    fn stretch(&self, kdf: &str, password: &Password) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
        let mut stretched = Zeroizing::new([0; 32]);
        match (kdf, self) {
            ("scrypt", Self::Scrypt { dklen, n, r, p, salt }) => {
                whole_key(*dklen)?;
                let work = u64::from(*r).checked_mul(u64::from(*p)).and_then(|more| more.checked_mul(*n));
                let is_sensible = n.is_power_of_two() && *n > 1 && work.is_some_and(|work| (1..=SCRYPT_WORK_MAX).contains(&work));
                let too_much = || unsupported("scrypt", format!("n {n}, r {r}, p {p}"), "n a power of two, n × r × p at most 8388608");
                let log_n = u8::try_from(n.trailing_zeros()).unwrap_or(u8::MAX);
                let params = scrypt::Params::new(log_n, *r, *p, 32).ok().filter(|_| is_sensible).ok_or_else(too_much)?;
                scrypt::scrypt(password.as_bytes(), &salt_of(salt)?, &params, stretched.as_mut()).map_err(|_| too_much())?;
            }
            ("pbkdf2", Self::Pbkdf2 { dklen, c, prf, salt }) => {
                whole_key(*dklen)?;
                if prf != "hmac-sha256" {
                    return Err(unsupported("prf", prf, "hmac-sha256"));
                }
                if !(1..=PBKDF2_ROUNDS_MAX).contains(c) {
                    return Err(unsupported("pbkdf2", format!("c {c}"), "1 to 10000000 rounds"));
                }
                pbkdf2::pbkdf2_hmac::<sha2::Sha256>(password.as_bytes(), &salt_of(salt)?, *c, stretched.as_mut());
            }
            _ => return Err(unsupported("kdf", kdf, "scrypt or pbkdf2, with its parameters")),
        }
        Ok(stretched)
    }
}

fn whole_key(dklen: u32) -> Result<(), KeystoreError> {
    if dklen == 32 { Ok(()) } else { Err(unsupported("dklen", dklen, "32")) }
}

fn salt_of(text: &str) -> Result<Vec<u8>, KeystoreError> {
    hex::decode(text)
        .ok()
        .filter(|salt| salt.len() <= 1_024)
        .ok_or_else(|| unsupported("salt", "something else", "hexadecimal digits"))
}

fn bytes<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], KeystoreError> {
    let mut bytes = [0; N];
    let wrong = |_| unsupported(what, format!("{} characters", text.len()), "as many hexadecimal digits as its kind has");
    hex::decode_to_slice(text, &mut bytes).map_err(wrong)?;
    Ok(bytes)
}

fn unsupported(what: &'static str, actual: impl ToString, expected: &'static str) -> KeystoreError {
    KeystoreError::Unsupported { what, actual: actual.to_string(), expected }
}

/// AES-128 in counter mode, in place: both ways the same.
fn cipher(stretched: &[u8; 32], iv: &[u8; 16], bytes: &mut [u8; 32]) {
    let mut key = Zeroizing::new([0; 16]);
    key.copy_from_slice(&stretched[..16]);
    Ctr128BE::<Aes128>::new((&*key).into(), iv.into()).apply_keystream(bytes);
}

fn mac(stretched: &[u8; 32], ciphertext: &[u8; 32]) -> [u8; 32] {
    Keccak256::new().chain_update(&stretched[16..]).chain_update(ciphertext).finalize().into()
}

/// A random UUID: version 4, variant 1.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex::encode(bytes);
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text.as_bytes().to_vec())
    }

    /// A test vector of the Web3 Secret Storage definition, and one of geth's.
    const PBKDF2: &str = r#"{"crypto": {"cipher": "aes-128-ctr", "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46", "kdf": "pbkdf2",
        "kdfparams": {"c": 262144, "dklen": 32, "prf": "hmac-sha256", "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"}, "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6", "version": 3}"#;
    const SCRYPT: &str = r#"{"address": "7ef5a6135f1fd6a02593eedc869c6d41d934aef8", "crypto": {"cipher": "aes-128-ctr",
        "ciphertext": "1d0839166e7a15b9c1333fc865d69858b22df26815ccf601b28219b6192974e1",
        "cipherparams": {"iv": "8df6caa7ff1b00c4e871f002cb7921ed"}, "kdf": "scrypt",
        "kdfparams": {"dklen": 32, "n": 8, "p": 16, "r": 8, "salt": "e5e6ef3f4ea695f496b643ebd3f75c0aa58ef4070e90c80c5d3fb0241bf1595c"},
        "mac": "6d16dfde774845e4585357f24bce530528bc69f4f84e1e22880d34fa45c273e5"}, "id": "950077c7-71e3-4c44-a4a1-143919141ed4", "version": 3}"#;

    #[test]
    fn the_published_vectors_open() {
        let pbkdf2: Keystore = serde_json::from_str(PBKDF2).expect("PBKDF2");
        let secret = pbkdf2.open(&password("testpassword")).expect("PBKDF2");
        assert_eq!(hex::encode(secret.bytes()), "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d");
        assert_eq!((pbkdf2.address(), pbkdf2.key_use()), (None, KeyUse::Account));
        // Its address was compared with the key's.
        let scrypt: Keystore = serde_json::from_str(SCRYPT).expect("scrypt");
        let secret = scrypt.open(&password("foobar")).expect("scrypt");
        assert_eq!(scrypt.address(), Some(secret.address()));
    }

    #[test]
    fn what_is_closed_opens_with_its_password_only() {
        let secret = Secret::generate().expect("a secret");
        let keystore = Keystore::close(&secret, &password("right"), KeyUse::Voucher, Cost::INSECURE_FAST).expect("closed");
        let read: Keystore = serde_json::from_str(&keystore.to_json()).expect("its own form");
        assert_eq!(read.open(&password("right")).expect("opens").bytes(), secret.bytes());
        assert_eq!((read.address(), read.key_use()), (Some(secret.address()), KeyUse::Voucher));
        assert!(matches!(read.open(&password("wrong")), Err(KeystoreError::WrongPassword)));
        assert!(!read.to_json().contains(&hex::encode(secret.bytes())));
    }

    #[test]
    fn what_was_altered_or_asks_for_too_much_is_refused() {
        let secret = Secret::from_bytes(&[7; 32]).expect("a secret");
        let json = Keystore::close(&secret, &password("x"), KeyUse::Account, Cost::INSECURE_FAST).expect("closed").to_json();
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let outcome = |pointer: &str, new: serde_json::Value| {
            let mut value = value.clone();
            *value.pointer_mut(pointer).expect(pointer) = new;
            let keystore: Keystore = serde_json::from_value(value).expect(pointer);
            keystore.open(&password("x")).expect_err(pointer).to_string()
        };
        for (pointer, new, expected) in [
            ("/crypto/ciphertext", "00".repeat(32).into(), "password does not open"),
            ("/crypto/mac", "00".repeat(32).into(), "password does not open"),
            ("/crypto/kdfparams/salt", "00".repeat(32).into(), "password does not open"),
            ("/crypto/ciphertext", "00".into(), "ciphertext is not supported"),
            ("/address", "00".repeat(20).into(), "holds that of"),
            ("/version", 1.into(), "version is not supported"),
            ("/crypto/cipher", "aes-128-cbc".into(), "cipher is not supported"),
            ("/crypto/kdf", "argon2id".into(), "kdf is not supported"),
            ("/crypto/kdfparams/n", (1u64 << 40).into(), "scrypt is not supported"),
            ("/crypto/kdfparams/n", 1000.into(), "scrypt is not supported"),
            ("/crypto/kdfparams/n", 0.into(), "scrypt is not supported"),
            ("/crypto/kdfparams/p", 0.into(), "scrypt is not supported"),
            ("/crypto/kdfparams/r", u32::MAX.into(), "scrypt is not supported"),
            ("/crypto/kdfparams/dklen", 16.into(), "dklen is not supported"),
        ] {
            let error = outcome(pointer, new);
            assert!(error.contains(expected), "{pointer}: {error}");
        }
        // Another IV gives another key, which is that of another account.
        assert!(outcome("/crypto/cipherparams/iv", "00".repeat(16).into()).contains("holds that of"));
    }

    #[test]
    fn ids_are_random_uuids() {
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
