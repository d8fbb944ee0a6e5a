//! Names of circuits.

use core::fmt;
use core::str::FromStr;

use millstream_circuit::{BookSize, Structure, register_structure, settle_structure};

/// What a circuit proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CircuitKind {
    /// Vouchers move a book's settled totals.
    Settle,
    /// Requests open, raise and close a book's channels.
    Register,
}

/// One circuit: what it proves, for books of which size. Written `settle-24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CircuitId {
    /// What it proves.
    pub kind: CircuitKind,
    /// The number of slots of the books it is about.
    pub size: BookSize,
}

impl CircuitId {
    /// `settle-N`.
    #[must_use]
    pub const fn settle(size: BookSize) -> Self {
        Self { kind: CircuitKind::Settle, size }
    }

    /// `register-N`.
    #[must_use]
    pub const fn register(size: BookSize) -> Self {
        Self { kind: CircuitKind::Register, size }
    }

    /// Both circuits of a ledger's tier.
    #[must_use]
    pub const fn of_tier(size: BookSize) -> [Self; 2] {
        [Self::settle(size), Self::register(size)]
    }

    /// Records the circuit's matrices.
    #[must_use]
    pub fn structure(self) -> Structure {
        match self.kind {
            CircuitKind::Settle => settle_structure(self.size),
            CircuitKind::Register => register_structure(self.size),
        }
    }
}

impl fmt::Display for CircuitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settle => "settle",
            Self::Register => "register",
        })
    }
}

impl fmt::Display for CircuitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.kind, self.size.slots())
    }
}

/// Why text does not name a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a circuit is written settle-N or register-N, N from 1 to 4096")]
pub struct CircuitIdError;

impl FromStr for CircuitId {
    type Err = CircuitIdError;

    /// Reads what [`Display`](fmt::Display) writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, slots) = text.split_once('-').ok_or(CircuitIdError)?;
        let kind = match kind {
            "settle" => CircuitKind::Settle,
            "register" => CircuitKind::Register,
            _ => return Err(CircuitIdError),
        };
        let size = slots.parse().ok().and_then(|slots| BookSize::new(slots).ok()).ok_or(CircuitIdError)?;
        let circuit = Self { kind, size };
        // No sign, no leading zero.
        if circuit.to_string() == text { Ok(circuit) } else { Err(CircuitIdError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in ["settle-1", "register-96", "settle-4096"] {
            assert_eq!(name.parse::<CircuitId>().map(|circuit| circuit.to_string()), Ok(name.to_owned()));
        }
        for name in ["", "settle", "settle-", "settle-0", "settle-4097", "settle-+1", "settle-01", "Settle-1", "close-1", "settle-1 "] {
            assert_eq!(name.parse::<CircuitId>(), Err(CircuitIdError), "{name}");
        }
    }
}
