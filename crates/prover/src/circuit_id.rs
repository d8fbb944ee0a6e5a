//! Names of circuits.

use core::fmt;

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

impl fmt::Display for CircuitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            CircuitKind::Settle => "settle",
            CircuitKind::Register => "register",
        };
        write!(f, "{kind}-{}", self.size.slots())
    }
}
