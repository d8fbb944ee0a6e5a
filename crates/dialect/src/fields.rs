//! How fields are written: amounts as canonical decimal strings, addresses in mixed case, hashes and signatures in lower case.

use core::fmt::Display;
use core::str::FromStr;

use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Hash256, parse_base_units};
use millstream_voucher::evm::{EvmSignature, eip55};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A field as text, for `#[serde(with = "text")]`.
pub(crate) trait Text: Sized {
    fn read(text: &str) -> Result<Self, String>;
    fn write(&self) -> String;
}

fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// The wire's hexadecimal begins with `0x`; the types' need not.
fn prefixed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    if text.starts_with("0x") { parsed(text) } else { Err("expected hexadecimal after 0x".to_owned()) }
}

impl Text for Amount {
    fn read(text: &str) -> Result<Self, String> {
        parse_base_units(text).map_err(|error| error.to_string())
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Text for CumulativeAmount {
    fn read(text: &str) -> Result<Self, String> {
        Amount::read(text).map(|amount| Self::from_units(amount.units()))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Text for Address {
    fn read(text: &str) -> Result<Self, String> {
        prefixed(text)
    }

    fn write(&self) -> String {
        eip55(self)
    }
}

impl Text for Hash256 {
    fn read(text: &str) -> Result<Self, String> {
        prefixed(text)
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Text for EscrowChannelId {
    fn read(text: &str) -> Result<Self, String> {
        prefixed(text)
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Text for EvmSignature {
    fn read(text: &str) -> Result<Self, String> {
        parsed(text)
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// A required field.
pub(crate) mod text {
    use super::{Deserialize, Deserializer, Serializer, Text};

    pub(crate) fn serialize<T: Text, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.write())
    }

    pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        T::read(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A field that may be absent; `null` is absent.
pub(crate) mod optional {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Text};

    pub(crate) fn serialize<T: Text, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(Text::write).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| T::read(&text)).transpose().map_err(serde::de::Error::custom)
    }
}
