//! Why a contract refused, decoded against every error that the ledger, the verifier and the tokens know.

use std::fmt;
use std::sync::OnceLock;

use alloy::dyn_abi::{DynSolValue, JsonAbiExt};
use alloy::json_abi;
use alloy::sol_types::{Panic, Revert as ErrorString, SolError, SolInterface};

use crate::artifacts::Artifact;
use crate::bindings::ILedger::ILedgerErrors;

/// A contract's reason for refusing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revert {
    /// A custom error of a known contract.
    Custom {
        /// Its name, such as `ProofRejected`.
        name: String,
        /// Its arguments in order, each with its name and its value as text.
        arguments: Vec<(String, String)>,
        /// The bytes it was decoded from.
        data: Vec<u8>,
    },
    /// A reason in words.
    Message(String),
    /// A Solidity panic, such as 0x11 for arithmetic overflow.
    Panic(String),
    /// The gas ran out.
    OutOfGas,
    /// An error of a contract that is not known here.
    Unknown {
        /// The bytes.
        data: Vec<u8>,
    },
    /// No reason was given.
    Empty,
}

impl Revert {
    /// Decodes the bytes that a contract reverted with.
    #[must_use]
    pub fn decode(data: &[u8]) -> Self {
        if data.is_empty() {
            return Self::Empty;
        }
        if let Ok(error) = ErrorString::abi_decode(data) {
            return Self::Message(error.reason);
        }
        if let Ok(panic) = Panic::abi_decode(data) {
            return Self::Panic(panic.to_string());
        }
        custom(data).unwrap_or_else(|| Self::Unknown { data: data.to_vec() })
    }

    /// The error of a known contract that has this selector, where only the selector was told: without its arguments.
    #[must_use]
    pub(crate) fn of_selector(selector: [u8; 4]) -> Self {
        let data = selector.to_vec();
        match known_errors().iter().find(|error| error.selector() == selector) {
            Some(error) => Self::Custom { name: error.name.clone(), arguments: Vec::new(), data },
            None => Self::Unknown { data },
        }
    }

    /// The bytes that it was decoded from, or those that say the same; empty where there were none to say it by.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Custom { data, .. } | Self::Unknown { data } => data.clone(),
            Self::Message(reason) => ErrorString { reason: reason.clone() }.abi_encode(),
            Self::Panic(_) | Self::OutOfGas | Self::Empty => Vec::new(),
        }
    }

    /// The name of the custom error.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Custom { name, .. } => Some(name),
            Self::Message(_) | Self::Panic(_) | Self::OutOfGas | Self::Unknown { .. } | Self::Empty => None,
        }
    }

    /// The error as one of the ledger's own, to match on.
    #[must_use]
    pub fn as_ledger(&self) -> Option<ILedgerErrors> {
        match self {
            Self::Custom { data, .. } => ILedgerErrors::abi_decode(data).ok(),
            Self::Message(_) | Self::Panic(_) | Self::OutOfGas | Self::Unknown { .. } | Self::Empty => None,
        }
    }
}

fn custom(data: &[u8]) -> Option<Revert> {
    let (selector, arguments) = data.split_first_chunk::<4>()?;
    let error = known_errors().iter().find(|error| error.selector() == *selector)?;
    let values = error.abi_decode_input(arguments).ok()?;
    let names = error.inputs.iter().map(|input| input.name.clone());
    Some(Revert::Custom { name: error.name.clone(), arguments: names.zip(values.iter().map(text)).collect(), data: data.to_vec() })
}

fn known_errors() -> &'static [json_abi::Error] {
    static ERRORS: OnceLock<Vec<json_abi::Error>> = OnceLock::new();
    ERRORS.get_or_init(|| {
        Artifact::ALL
            .iter()
            .filter_map(|artifact| artifact.abi().ok())
            .flat_map(|abi| abi.errors().cloned().collect::<Vec<_>>())
            .collect()
    })
}

fn text(value: &DynSolValue) -> String {
    match value {
        DynSolValue::Bool(value) => value.to_string(),
        DynSolValue::Int(value, _) => value.to_string(),
        DynSolValue::Uint(value, _) => value.to_string(),
        DynSolValue::Address(value) => value.to_string(),
        DynSolValue::String(value) => format!("{value:?}"),
        DynSolValue::FixedBytes(value, size) => alloy::hex::encode_prefixed(&value[..*size]),
        DynSolValue::Bytes(value) => alloy::hex::encode_prefixed(value),
        other => format!("{other:?}"),
    }
}

impl fmt::Display for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Custom { name, arguments, .. } => {
                let arguments: Vec<String> = arguments.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                write!(f, "{name}({})", arguments.join(", "))
            }
            Self::Message(message) => write!(f, "{message:?}"),
            Self::Panic(panic) => f.write_str(panic),
            Self::OutOfGas => f.write_str("out of gas"),
            Self::Unknown { data } => write!(f, "unknown error {}", alloy::hex::encode_prefixed(&data[..data.len().min(68)])),
            Self::Empty => f.write_str("no reason given"),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::U256;

    use super::*;
    use crate::bindings::ILedger;

    #[test]
    fn a_ledger_error_has_its_name_and_arguments() {
        let error = ILedger::RequestOverdue { index: 3, deadline: U256::from(17) };
        let revert = Revert::decode(&error.abi_encode());
        assert_eq!(revert.to_string(), "RequestOverdue(index: 3, deadline: 17)");
        assert_eq!(revert.as_ledger(), Some(ILedgerErrors::RequestOverdue(error.clone())));
        assert_eq!(revert.to_bytes(), error.abi_encode());
    }

    #[test]
    fn every_other_shape_is_named() {
        let check = |data: &[u8], text: &str| assert_eq!(Revert::decode(data).to_string(), text);
        check(&[], "no reason given");
        check(&[1, 2, 3], "unknown error 0x010203");
        check(&[1, 2, 3, 4, 5], "unknown error 0x0102030405");
        let paused = ErrorString { reason: "paused".to_owned() }.abi_encode();
        check(&paused, "\"paused\"");
        assert_eq!(Revert::decode(&paused).to_bytes(), paused);
        // The selector of a known error over bytes that are not its arguments.
        let selector = ILedger::RequestOverdue::SELECTOR;
        check(&selector, &format!("unknown error {}", alloy::hex::encode_prefixed(selector)));
    }
}
