//! A deposit that the node is asked to submit, and what it says of it: relay, relayed, refused (W-9 to W-12).

use bytes::{BufMut, Bytes, BytesMut};
use millstream_types::{Address, Amount, BlockNumber, ChainId, ChannelId, Hash256, LedgerId};

use crate::fields::{Fields, nanos, start};
use crate::limits::{
    REFUSED_BYTES, RELAY_HEADER_BYTES, RELAY_SIGNATURE_BYTES_MAX, RELAYED_BYTES, REVERT_BYTES_MAX, VERSION, VERSION_END, WORD_BYTES,
};
use crate::{DecodeError, EncodeError, ErrorCode, Kind};

/// Asks the node to submit a deposit that its funder signed, and to pay the gas. The only message on its stream.
///
/// `version (2) ‖ purpose (1) ‖ way (1) ‖ chain id (8) ‖ ledger (20) ‖ funder (20) ‖ base units (16) ‖` [`RelayPurpose`] `‖` [`RelayWay`]
/// `‖ length (2) ‖ signature`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// The ledger that the funder means.
    pub ledger: LedgerId,
    /// Whose money it is; the payer of the channel when opening.
    pub funder: Address,
    /// How much, in base units of the token.
    pub base_units: Amount,
    /// What for.
    pub purpose: RelayPurpose,
    /// What was signed beside the deposit itself.
    pub way: RelayWay,
    /// For the token, the ledger or Permit2, by the way: `r ‖ s ‖ v` of an account, or what a contract account takes. 1 to 1,024 bytes.
    pub signature: Vec<u8>,
}

/// What a relayed deposit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayPurpose {
    /// A new channel of the funder's: `key x (32) ‖ key qx (32) ‖ key qy (32) ‖ salt (32)`.
    Open {
        /// The x-coordinate of its voucher key (V-5).
        key_x: [u8; 32],
        /// The x-coordinate of a point of which the key is the eightfold.
        key_qx: [u8; 32],
        /// That point's y-coordinate.
        key_qy: [u8; 32],
        /// The channel's salt.
        salt: [u8; 32],
    },
    /// A larger deposit of a channel: `channel (32) ‖ salt (32)`.
    TopUp {
        /// The channel.
        channel: ChannelId,
        /// Tells equal top-ups apart (L-28).
        salt: [u8; 32],
    },
}

/// How a deposit was signed (L-28).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayWay {
    /// EIP-3009: `valid after (8) ‖ valid before (8)`, in seconds.
    Authorization {
        /// Not valid at or before this second.
        valid_after_secs: u64,
        /// Not valid at or after this second.
        valid_before_secs: u64,
    },
    /// EIP-2612 and the consent, which is the message's signature: `deadline (8) ‖ permit (65)`.
    Permit {
        /// The last second at which both are valid.
        deadline_secs: u64,
        /// For the token; all zeros where an allowance stands.
        permit: [u8; 65],
    },
    /// Permit2 with the channel as its witness: `nonce (32) ‖ deadline (8)`.
    Permit2 {
        /// One that the funder did not use before.
        nonce: [u8; 32],
        /// The last second at which it is valid.
        deadline_secs: u64,
    },
}

impl RelayPurpose {
    const fn bytes(number: u8) -> usize {
        match number {
            1 => WORD_BYTES * 4,
            _ => WORD_BYTES * 2,
        }
    }

    const fn number(&self) -> u8 {
        match self {
            Self::Open { .. } => 1,
            Self::TopUp { .. } => 2,
        }
    }

    fn decode(fields: &mut Fields<'_>, number: u8) -> Result<Self, DecodeError> {
        Ok(match number {
            1 => Self::Open { key_x: fields.bytes()?, key_qx: fields.bytes()?, key_qy: fields.bytes()?, salt: fields.bytes()? },
            _ => Self::TopUp { channel: fields.channel()?, salt: fields.bytes()? },
        })
    }

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Open { key_x, key_qx, key_qy, salt } => {
                for word in [key_x, key_qx, key_qy, salt] {
                    out.put_slice(word);
                }
            }
            Self::TopUp { channel, salt } => {
                out.put_slice(channel.as_bytes());
                out.put_slice(salt);
            }
        }
    }
}

impl RelayWay {
    const fn bytes(number: u8) -> usize {
        match number {
            1 => 8 + 8,
            2 => 8 + 65,
            _ => WORD_BYTES + 8,
        }
    }

    const fn number(&self) -> u8 {
        match self {
            Self::Authorization { .. } => 1,
            Self::Permit { .. } => 2,
            Self::Permit2 { .. } => 3,
        }
    }

    fn decode(fields: &mut Fields<'_>, number: u8) -> Result<Self, DecodeError> {
        Ok(match number {
            1 => Self::Authorization { valid_after_secs: fields.u64()?, valid_before_secs: fields.u64()? },
            2 => Self::Permit { deadline_secs: fields.u64()?, permit: fields.bytes()? },
            _ => Self::Permit2 { nonce: fields.bytes()?, deadline_secs: fields.u64()? },
        })
    }

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Authorization { valid_after_secs, valid_before_secs } => {
                out.put_u64(*valid_after_secs);
                out.put_u64(*valid_before_secs);
            }
            Self::Permit { deadline_secs, permit } => {
                out.put_u64(*deadline_secs);
                out.put_slice(permit);
            }
            Self::Permit2 { nonce, deadline_secs } => {
                out.put_slice(nonce);
                out.put_u64(*deadline_secs);
            }
        }
    }
}

impl Relay {
    /// The channel when it is named; that of an opening follows from funder, key and salt (V-2).
    #[must_use]
    pub const fn named_channel(&self) -> Option<ChannelId> {
        match self.purpose {
            RelayPurpose::Open { .. } => None,
            RelayPurpose::TopUp { channel, .. } => Some(channel),
        }
    }

    pub(crate) fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let actual = Fields::at_least(Kind::Relay, message, VERSION_END)?.u16()?;
        if actual != VERSION {
            return Err(DecodeError::UnsupportedVersion { expected: VERSION, actual });
        }
        let mut fields = Fields::at_least(Kind::Relay, message, RELAY_HEADER_BYTES)?;
        fields.u16()?;
        let purpose = fields.u8()?;
        let purpose = fields.within("purpose", purpose, 1, 2)?;
        let way = fields.u8()?;
        let way = fields.within("way", way, 1, 3)?;
        let ledger = LedgerId { chain: ChainId::new(fields.u64()?), contract: fields.address()? };
        let (funder, base_units) = (fields.address()?, Amount::from_units(fields.u128()?));
        let before_signature = RELAY_HEADER_BYTES.saturating_add(RelayPurpose::bytes(purpose)).saturating_add(RelayWay::bytes(way));
        fields.must_have(before_signature.saturating_add(2))?;
        let (purpose, way) = (RelayPurpose::decode(&mut fields, purpose)?, RelayWay::decode(&mut fields, way)?);
        let signature = fields.counted("signature length", 1, RELAY_SIGNATURE_BYTES_MAX)?;
        Ok(Self { ledger, funder, base_units, purpose, way, signature })
    }

    /// Appends the message, length included.
    ///
    /// # Errors
    /// [`EncodeError::OutOfRange`] for a signature of no byte or of more than 1,024.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = length_within("signature length", self.signature.len(), 1, RELAY_SIGNATURE_BYTES_MAX)?;
        let (purpose, way) = (self.purpose.number(), self.way.number());
        let parts = [RelayPurpose::bytes(purpose), RelayWay::bytes(way), 2, self.signature.len()];
        start(out, Kind::Relay, parts.into_iter().fold(RELAY_HEADER_BYTES, usize::saturating_add))?;
        out.put_u16(VERSION);
        out.put_u8(purpose);
        out.put_u8(way);
        out.put_u64(self.ledger.chain.get());
        out.put_slice(self.ledger.contract.as_bytes());
        out.put_slice(self.funder.as_bytes());
        out.put_u128(self.base_units.units());
        self.purpose.encode(out);
        self.way.encode(out);
        out.put_u16(length);
        out.put_slice(&self.signature);
        Ok(())
    }

    /// Kind and body without the length: the bytes that a digest identifies the request by.
    ///
    /// # Errors
    /// As [`Relay::encode`].
    pub fn to_bytes(&self) -> Result<Bytes, EncodeError> {
        let mut out = BytesMut::new();
        self.encode(&mut out)?;
        Ok(out.split_off(crate::LENGTH_BYTES).freeze())
    }
}

/// How far a relayed deposit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayStage {
    /// It holds, its gas is promised, and both are durable.
    Accepted,
    /// A transaction is on its way. One that waits for too long is replaced, under another hash.
    Sent {
        /// The newest version.
        transaction: Hash256,
    },
    /// It is in a block.
    Mined {
        /// The version that was mined.
        transaction: Hash256,
        /// The block.
        block: BlockNumber,
    },
    /// It is at the node's confirmation depth, and the node counts it: the channel can be attached.
    Confirmed {
        /// The version that was mined.
        transaction: Hash256,
        /// The block.
        block: BlockNumber,
        /// The channel's whole deposit after it, in nanos.
        deposit: Amount,
    },
}

/// How far a relayed deposit is: `stage (1) ‖ reserved (3) ‖ channel (32) ‖ transaction (32) ‖ block (8) ‖ deposit (8)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// The channel.
    pub channel: ChannelId,
    /// How far.
    pub stage: RelayStage,
}

impl Relayed {
    pub(crate) fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::exactly(Kind::Relayed, message, RELAYED_BYTES)?;
        let stage = fields.u8()?;
        let stage = fields.within("stage", stage, 1, 4)?;
        fields.reserved_u8()?;
        fields.reserved_u16()?;
        let channel = fields.channel()?;
        let (transaction, block, deposit) = (Hash256::from_bytes(fields.bytes()?), fields.u64()?, fields.u64()?);
        let unexpected = [
            ("transaction", stage < 2 && *transaction.as_bytes() != [0; 32]),
            ("block", stage < 3 && block != 0),
            ("deposit", stage < 4 && deposit != 0),
        ];
        if let Some((field, _)) = unexpected.into_iter().find(|(_, is_there)| *is_there) {
            return Err(DecodeError::TooEarly { field });
        }
        let (block, deposit) = (BlockNumber::new(block), Amount::from_nanos(deposit));
        let stage = match stage {
            1 => RelayStage::Accepted,
            2 => RelayStage::Sent { transaction },
            3 => RelayStage::Mined { transaction, block },
            _ => RelayStage::Confirmed { transaction, block, deposit },
        };
        Ok(Self { channel, stage })
    }

    /// Appends the message, length included.
    ///
    /// # Errors
    /// [`EncodeError::Amount`] when the deposit does not fit.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let (none, genesis) = (Hash256::from_bytes([0; 32]), BlockNumber::new(0));
        let (stage, transaction, block, deposit) = match self.stage {
            RelayStage::Accepted => (1, none, genesis, Amount::ZERO),
            RelayStage::Sent { transaction } => (2, transaction, genesis, Amount::ZERO),
            RelayStage::Mined { transaction, block } => (3, transaction, block, Amount::ZERO),
            RelayStage::Confirmed { transaction, block, deposit } => (4, transaction, block, deposit),
        };
        let deposit = nanos("deposit", deposit)?;
        start(out, Kind::Relayed, RELAYED_BYTES)?;
        out.put_u8(stage);
        out.put_u8(0);
        out.put_u16(0);
        out.put_slice(self.channel.as_bytes());
        out.put_slice(transaction.as_bytes());
        out.put_u64(block.height());
        out.put_u64(deposit);
        Ok(())
    }
}

/// The node does not relay a deposit, or its transaction reverted:
/// `code (2) ‖ reserved (2) ‖ retry after (4) ‖ bound (8) ‖ transaction (32) ‖ length (2) ‖ revert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub code: ErrorCode,
    /// Seconds after which the same request may succeed; 0 when that is not known, or never.
    pub retry_after_secs: u32,
    /// The node's limit, in the unit that the code has for it; 0 where there is none to tell.
    pub bound: u64,
    /// The transaction that reverted; all zero when nothing was sent.
    pub transaction: Hash256,
    /// What the contract reverted with, in its own bytes; empty when it was not asked or gave no reason. At most 512 bytes.
    pub revert: Vec<u8>,
}

impl Refused {
    /// A refusal that says no more than its code.
    #[must_use]
    pub const fn new(code: ErrorCode) -> Self {
        Self { code, retry_after_secs: 0, bound: 0, transaction: Hash256::from_bytes([0; 32]), revert: Vec::new() }
    }

    pub(crate) fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::at_least(Kind::Refused, message, REFUSED_BYTES)?;
        let code = fields.code()?;
        fields.reserved_u16()?;
        let (retry_after_secs, bound) = (fields.u32()?, fields.u64()?);
        let transaction = Hash256::from_bytes(fields.bytes()?);
        let revert = fields.counted("revert length", 0, REVERT_BYTES_MAX)?;
        Ok(Self { code, retry_after_secs, bound, transaction, revert })
    }

    /// Appends the message, length included.
    ///
    /// # Errors
    /// [`EncodeError::OutOfRange`] for revert data of more than 512 bytes.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = length_within("revert length", self.revert.len(), 0, REVERT_BYTES_MAX)?;
        start(out, Kind::Refused, REFUSED_BYTES.saturating_add(self.revert.len()))?;
        out.put_u16(self.code.number());
        out.put_u16(0);
        out.put_u32(self.retry_after_secs);
        out.put_u64(self.bound);
        out.put_slice(self.transaction.as_bytes());
        out.put_u16(length);
        out.put_slice(&self.revert);
        Ok(())
    }
}

fn length_within(field: &'static str, length: usize, min: u16, max: u16) -> Result<u16, EncodeError> {
    let fitting = u16::try_from(length).ok().filter(|length| (min..=max).contains(length));
    let actual = u64::try_from(length).unwrap_or(u64::MAX);
    fitting.ok_or(EncodeError::OutOfRange { field, min: min.into(), max: max.into(), actual })
}
