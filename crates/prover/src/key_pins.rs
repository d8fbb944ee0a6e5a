//! The production keys that are trusted, by their hashes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::LazyLock;

use millstream_types::Hash256;
use serde::Deserialize;

use crate::circuit_id::CircuitId;

/// Names the proving key of one circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPin {
    /// The circuit.
    pub circuit: CircuitId,
    /// Keccak-256 of the circuit's matrices.
    pub circuit_digest: Hash256,
    /// Keccak-256 of the verifying key's words: what the verifier contract answers as `keyHash`.
    pub key_hash: Hash256,
    /// BLAKE3 of the key's file.
    pub file_hash: Hash256,
}

impl KeyPin {
    /// The entry for `keys.toml`.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "[[key]]\ncircuit = \"{}\"\ncircuit_digest = \"{}\"\nkey_hash = \"{}\"\nfile_hash = \"{}\"\n",
            self.circuit, self.circuit_digest, self.key_hash, self.file_hash
        );
        text
    }
}

/// Why a list of pins is refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyPinsError {
    /// It is not the TOML that [`KeyPins::parse`] describes.
    #[error("the list of keys is malformed")]
    Malformed(#[source] toml::de::Error),
    /// A circuit or a hash is not one.
    #[error("{value} is not {what}")]
    Value {
        /// What it should be.
        what: &'static str,
        /// What is there.
        value: String,
    },
    /// A circuit has two keys.
    #[error("{circuit} is listed twice")]
    Twice {
        /// The circuit.
        circuit: CircuitId,
    },
}

/// One pin for each circuit that has a production key.
#[derive(Clone, Debug, Default)]
pub struct KeyPins(BTreeMap<CircuitId, KeyPin>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    circuit: String,
    circuit_digest: String,
    key_hash: String,
    file_hash: String,
}

impl KeyPins {
    /// The keys that this version trusts: those of `keys.toml` in this crate.
    ///
    /// # Panics
    /// When that file is not well formed; a test reads it.
    #[must_use]
    pub fn committed() -> &'static Self {
        static PINS: LazyLock<KeyPins> = LazyLock::new(|| KeyPins::parse(include_str!("../keys.toml")).expect("tested"));
        &PINS
    }

    /// Reads `[[key]]` entries with `circuit` (such as `settle-96`), `circuit_digest`, `key_hash` and `file_hash` (each `0x` and 64
    /// digits). Unknown keys are errors.
    ///
    /// # Errors
    /// [`KeyPinsError`].
    pub fn parse(text: &str) -> Result<Self, KeyPinsError> {
        let file: File = toml::from_str(text).map_err(KeyPinsError::Malformed)?;
        let mut pins = BTreeMap::new();
        for Entry { circuit, circuit_digest, key_hash, file_hash } in file.key {
            let hash = |value: String| value.parse().map_err(|_| KeyPinsError::Value { what: "a hash of 32 bytes", value });
            let circuit: CircuitId = circuit.parse().map_err(|_| KeyPinsError::Value { what: "a circuit", value: circuit })?;
            let pin = KeyPin { circuit, circuit_digest: hash(circuit_digest)?, key_hash: hash(key_hash)?, file_hash: hash(file_hash)? };
            if pins.insert(circuit, pin).is_some() {
                return Err(KeyPinsError::Twice { circuit });
            }
        }
        Ok(Self(pins))
    }

    /// The pin of a circuit.
    #[must_use]
    pub fn of(&self, circuit: CircuitId) -> Option<&KeyPin> {
        self.0.get(&circuit)
    }

    /// All pins, in the order of their circuits.
    pub fn iter(&self) -> impl Iterator<Item = &KeyPin> {
        self.0.values()
    }
}

impl FromIterator<KeyPin> for KeyPins {
    fn from_iter<I: IntoIterator<Item = KeyPin>>(pins: I) -> Self {
        Self(pins.into_iter().map(|pin| (pin.circuit, pin)).collect())
    }
}

#[cfg(test)]
mod tests {
    use millstream_circuit::BookSize;

    use super::*;

    fn pin() -> KeyPin {
        let [circuit_digest, key_hash, file_hash] = [1, 2, 3].map(|byte| Hash256::from_bytes([byte; 32]));
        KeyPin { circuit: CircuitId::settle(BookSize::new(96).expect("a size")), circuit_digest, key_hash, file_hash }
    }

    /// The list is well formed. A pin for a circuit that has changed would be refused when the key is loaded; here it is told at once.
    #[test]
    fn the_committed_pins_are_of_the_circuits_as_they_are() {
        for pin in KeyPins::committed().iter() {
            assert_eq!(pin.circuit_digest.as_bytes(), &pin.circuit.structure().digest(), "{}", pin.circuit);
        }
    }

    #[test]
    fn a_pin_is_read_as_it_was_written() {
        let pins = KeyPins::parse(&pin().to_toml()).expect("well formed");
        assert_eq!(pins.of(pin().circuit), Some(&pin()));
        assert_eq!(pins.of(CircuitId::register(BookSize::new(96).expect("a size"))), None);
    }

    #[test]
    fn a_list_that_is_not_one_is_refused() {
        let text = pin().to_toml();
        assert!(matches!(KeyPins::parse(&[&text[..], &text].concat()), Err(KeyPinsError::Twice { .. })));
        assert!(matches!(KeyPins::parse(&text.replace("settle-96", "settle-096")), Err(KeyPinsError::Value { what: "a circuit", .. })));
        assert!(matches!(KeyPins::parse(&text.replace("0x01", "0x0")), Err(KeyPinsError::Value { .. })));
        assert!(matches!(KeyPins::parse(&format!("{text}other = 1\n")), Err(KeyPinsError::Malformed(_))));
    }
}
