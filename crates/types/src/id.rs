//! Identities: private fields, checked constructors, canonical bytes.

use core::fmt;
use core::str::FromStr;

/// Why bytes or text are not the identity they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A native uid fits 248 bits (spec V-2).
    #[error("the first byte of a channel id must be zero")]
    NotAUid,
    /// Text that is not hexadecimal of the right length.
    #[error("expected {expected} bytes of hexadecimal, with or without 0x")]
    NotHex {
        /// Bytes the identity has.
        expected: usize,
    },
    /// A book number of more than 24 bits.
    #[error("book number {number} does not fit 24 bits")]
    BookNumber {
        /// The refused number.
        number: u32,
    },
}

#[allow(clippy::arithmetic_side_effects, reason = "N is the length of a digest at most")]
fn decode_hex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    let not_hex = IdError::NotHex { expected: N };
    if digits.len() != N * 2 {
        return Err(not_hex);
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(not_hex);
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(bytes)
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    f.write_str("0x")?;
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// The canonical bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! any_bytes {
    ($name:ident, $len:literal) => {
        impl $name {
            /// From canonical bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                decode_hex(text).map(Self)
            }
        }
    };
}

bytes_id!(
    /// A channel: on the native rail its uid, 31 bytes after a zero byte (spec V-2). Never reused.
    ChannelId,
    32
);
bytes_id!(
    /// A channel of an escrow contract, as the contract names it: any 32 bytes, computed from the channel's terms. An id of x402 may come
    /// back after a refund; one of an MPP session never does.
    EscrowChannelId,
    32
);
bytes_id!(
    /// An account or contract on an EVM chain.
    Address,
    20
);
bytes_id!(
    /// A SHA-256 or keccak-256 digest.
    Hash256,
    32
);
bytes_id!(
    /// The head of a channel's bill: a hash chain over its frames (spec B-4).
    BillHead,
    32
);
bytes_id!(
    /// The payer's own name for one payment: a ULID, a UUID, or any 16 bytes.
    Reference,
    16
);

any_bytes!(EscrowChannelId, 32);
any_bytes!(Address, 20);
any_bytes!(Hash256, 32);
any_bytes!(BillHead, 32);
any_bytes!(Reference, 16);

impl Address {
    /// The zero address: what contracts read as "nobody".
    pub const ZERO: Self = Self([0; 20]);

    /// Whether it is [`Address::ZERO`].
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

impl ChannelId {
    /// A native channel's id from its canonical bytes.
    ///
    /// # Errors
    /// [`IdError::NotAUid`] when the first byte is not zero.
    pub const fn from_bytes(bytes: [u8; 32]) -> Result<Self, IdError> {
        if bytes[0] == 0 { Ok(Self(bytes)) } else { Err(IdError::NotAUid) }
    }

    /// A native channel's id from the 248 bits of its uid.
    #[must_use]
    pub fn from_uid(uid: &[u8; 31]) -> Self {
        let mut bytes = [0; 32];
        bytes[1..].copy_from_slice(uid);
        Self(bytes)
    }

    /// The 248 bits of its uid.
    #[must_use]
    pub fn to_uid(&self) -> [u8; 31] {
        let mut uid = [0; 31];
        uid.copy_from_slice(&self.0[1..]);
        uid
    }
}

impl FromStr for ChannelId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        decode_hex(text).and_then(Self::from_bytes)
    }
}

/// An EVM chain id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(u64);

impl ChainId {
    /// The chains of people's own machines, those of Anvil, Hardhat and Geth's developer mode: money there is worth nothing.
    pub const DEVELOPMENT: [u64; 2] = [31_337, 1_337];

    /// A chain id.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// Whether it is one of [`ChainId::DEVELOPMENT`].
    #[must_use]
    pub const fn is_development(self) -> bool {
        self.0 == Self::DEVELOPMENT[0] || self.0 == Self::DEVELOPMENT[1]
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One ledger contract on one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerId {
    /// The chain.
    pub chain: ChainId,
    /// The contract.
    pub contract: Address,
}

/// The number of an epoch of one ledger, from 0 without a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochId(u64);

impl EpochId {
    /// An epoch number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The index of a ledger's book size, as fixed when the ledger was deployed (spec L-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tier(u8);

impl Tier {
    /// A tier index.
    #[must_use]
    pub const fn new(index: u8) -> Self {
        Self(index)
    }

    /// The index.
    #[must_use]
    pub const fn index(self) -> u8 {
        self.0
    }
}

/// A book: its tier in the upper 8 bits, its number in the lower 24 (spec L-4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BookId(u32);

impl BookId {
    /// The book of a tier with this number.
    ///
    /// # Errors
    /// [`IdError::BookNumber`] from 2^24 up.
    #[allow(clippy::as_conversions, reason = "widening, in a const")]
    pub const fn new(tier: Tier, number: u32) -> Result<Self, IdError> {
        if number >> 24 != 0 { Err(IdError::BookNumber { number }) } else { Ok(Self((tier.0 as u32) << 24 | number)) }
    }

    /// From the 32 bits of the contract.
    #[must_use]
    pub const fn from_u32(id: u32) -> Self {
        Self(id)
    }

    /// The 32 bits of the contract.
    #[must_use]
    pub const fn to_u32(self) -> u32 {
        self.0
    }

    /// The tier.
    #[must_use]
    pub const fn tier(self) -> Tier {
        Tier(self.0.to_be_bytes()[0])
    }

    /// The number within the tier.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0 & 0x00ff_ffff
    }
}

impl fmt::Display for BookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.tier().0, self.number())
    }
}

impl fmt::Debug for BookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_fits_248_bits() {
        let mut bytes = [7; 32];
        assert_eq!(ChannelId::from_bytes(bytes), Err(IdError::NotAUid));
        bytes[0] = 0;
        let id = ChannelId::from_bytes(bytes).expect("a uid");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(ChannelId::from_uid(&[7; 31]), id);
    }

    #[test]
    fn hex_of_the_wrong_length_or_alphabet_is_refused() {
        for text in ["", "0x", "0x00", "zz00000000000000000000000000000000000000", "0x0000000000000000000000000000000000000000ff"] {
            assert_eq!(text.parse::<Address>(), Err(IdError::NotHex { expected: 20 }), "{text}");
        }
    }

    #[test]
    fn a_book_id_is_tier_and_number() {
        let book = BookId::new(Tier::new(2), 77).expect("small");
        assert_eq!((book.tier(), book.number(), book.to_u32()), (Tier::new(2), 77, 0x0200_004d));
        assert!(BookId::new(Tier::new(0), 1 << 24).is_err());
    }
}
