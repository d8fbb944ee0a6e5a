//! What stays the same: an escrow's rules, and the terms of a channel on it.

use bytes::Bytes;
use millstream_types::{Address, Amount, EscrowChannelId, Hash256};

use super::id::EscrowId;
use crate::RecordError;
use crate::codec::{Reader, put_amount, put_blob};

/// Bytes of [`EscrowTerms::config`], at most.
pub const ESCROW_CONFIG_BYTES_MAX: usize = 1_024;

/// How the cumulative amount of a voucher has to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepRule {
    /// To exactly what was charged and what the request may cost. So a channel has one request at a time.
    Exact,
    /// Up, by at least this much. A payer may sign ahead, and have several requests under way.
    Monotone {
        /// The smallest step.
        min_delta: Amount,
    },
}

/// What the escrow lets a provider take on a voucher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimRule {
    /// Any total up to the voucher's. The money is then swept, receiver by receiver.
    UpTo,
    /// The voucher's total and no other, paid at once. Of vouchers above what was charged a few are kept until the charges reach them.
    Whole,
}

/// An escrow contract and one token on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escrow {
    /// Its number.
    pub id: EscrowId,
    /// The domain that vouchers are signed for.
    pub separator: Hash256,
    /// The token.
    pub token: Address,
    /// How vouchers step.
    pub step: StepRule,
    /// How they are claimed.
    pub claim: ClaimRule,
    /// What may rest on deposits that are not confirmed yet; nothing, unless the operator says so.
    pub optimistic: OptimisticLimit,
}

/// How much a provider trusts deposits that were announced and are not confirmed. Base units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OptimisticLimit {
    /// Accepted above the confirmed deposit on one channel, at most.
    pub channel_max: Amount,
    /// And on all channels of the escrow together.
    pub total_max: Amount,
}

impl Escrow {
    /// Whether `other` is the same escrow: what may not change was not changed.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same_step =
            matches!((self.step, other.step), (StepRule::Exact, StepRule::Exact) | (StepRule::Monotone { .. }, StepRule::Monotone { .. }));
        same_step && self.id == other.id && self.separator == other.separator && self.token == other.token && self.claim == other.claim
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(96);
        bytes.push(1);
        bytes.extend_from_slice(self.separator.as_bytes());
        bytes.extend_from_slice(self.token.as_bytes());
        match self.step {
            StepRule::Exact => bytes.push(1),
            StepRule::Monotone { min_delta } => {
                bytes.push(2);
                put_amount(&mut bytes, min_delta.units());
            }
        }
        bytes.push(match self.claim {
            ClaimRule::UpTo => 1,
            ClaimRule::Whole => 2,
        });
        put_amount(&mut bytes, self.optimistic.channel_max.units());
        put_amount(&mut bytes, self.optimistic.total_max.units());
        bytes
    }

    pub(crate) fn decode(id: EscrowId, bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("escrow", bytes)?;
        let separator = Hash256::from_bytes(reader.bytes()?);
        let token = Address::from_bytes(reader.bytes()?);
        let step = match reader.u8()? {
            1 => StepRule::Exact,
            2 => StepRule::Monotone { min_delta: Amount::from_units(reader.amount()?) },
            _ => return Err(reader.invalid()),
        };
        let claim = match reader.u8()? {
            1 => ClaimRule::UpTo,
            2 => ClaimRule::Whole,
            _ => return Err(reader.invalid()),
        };
        let (channel_max, total_max) = (Amount::from_units(reader.amount()?), Amount::from_units(reader.amount()?));
        reader.finish()?;
        Ok(Self { id, separator, token, step, claim, optimistic: OptimisticLimit { channel_max, total_max } })
    }
}

/// The terms of a channel: its id is computed from them, so they never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscrowTerms {
    /// The channel.
    pub channel: EscrowChannelId,
    /// The escrow it is on.
    pub escrow: EscrowId,
    /// Who funds it.
    pub payer: Address,
    /// Whose signature its vouchers carry.
    pub signer: Address,
    /// Who is paid.
    pub receiver: Address,
    /// What whoever claims needs besides, at most [`ESCROW_CONFIG_BYTES_MAX`]. The engine only keeps it.
    pub config: Bytes,
}

impl EscrowTerms {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.config.len().saturating_add(67));
        bytes.push(1);
        bytes.extend_from_slice(&self.escrow.0.to_be_bytes());
        for account in [&self.payer, &self.signer, &self.receiver] {
            bytes.extend_from_slice(account.as_bytes());
        }
        put_blob(&mut bytes, &self.config);
        bytes
    }

    pub(crate) fn decode(channel: EscrowChannelId, bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("escrow terms", bytes)?;
        let escrow = EscrowId(reader.u32()?);
        let payer = Address::from_bytes(reader.bytes()?);
        let signer = Address::from_bytes(reader.bytes()?);
        let receiver = Address::from_bytes(reader.bytes()?);
        let config = reader.blob()?;
        reader.finish()?;
        Ok(Self { channel, escrow, payer, signer, receiver, config })
    }
}
