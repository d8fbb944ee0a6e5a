//! Reservations, and what becomes of them: charges in one durable order, and outcomes by request.

use millstream_tariff::{ATTOS_PER_BASE_UNIT, Cost};
use millstream_types::{Amount, CumulativeAmount, EscrowChannelId, Timestamp};

use super::id::{AuthorizationId, EscrowId, Fingerprint, RequestId};
use super::input::Meter;
use crate::RecordError;
use crate::codec::{Reader, put_amount, put_blob};

/// What a request is paid from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A channel.
    Channel(EscrowChannelId),
    /// A single payment.
    Once(AuthorizationId),
}

/// Why a charge was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The delivery was captured.
    Captured,
    /// The delivery failed after a part of it.
    Voided,
    /// The node stopped while the delivery was under way.
    Recovered,
    /// The reservation was held for too long.
    Expired,
    /// A single payment could not be collected and nothing had left: what was charged for it is taken back.
    Reversed,
}

/// Held for a delivery under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The request.
    pub request: RequestId,
    /// What it is paid from.
    pub subject: Subject,
    /// The escrow.
    pub escrow: EscrowId,
    /// What was asked for.
    pub fingerprint: Fingerprint,
    /// What it may cost.
    pub ceiling: Amount,
    /// What of it is marked as delivered.
    pub delivered: Cost,
    /// What was measured for that.
    pub meter: Meter,
    /// When it is resolved if nobody does.
    pub expires_at: Timestamp,
}

/// One charge: the durable order of all charges is that of their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Its number, counted from 0 over all escrows.
    pub sequence: u64,
    /// The escrow.
    pub escrow: EscrowId,
    /// What it was paid from.
    pub subject: Subject,
    /// The request.
    pub request: RequestId,
    /// What was charged; of a reversal, what is taken back.
    pub amount: Amount,
    /// Charged on the channel, with this; of a single payment, its amount, and after a reversal nothing.
    pub charged_after: CumulativeAmount,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// What was measured.
    pub meter: Meter,
}

/// How a request ended, kept so that it ends the same when it comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it was paid from.
    pub subject: Subject,
    /// What was asked for.
    pub fingerprint: Fingerprint,
    /// The number of the charge.
    pub sequence: u64,
    /// What was charged.
    pub amount: Amount,
    /// Charged on the channel, with it.
    pub charged_after: CumulativeAmount,
    /// Why.
    pub cause: Cause,
}

/// Charges in one record, at most.
pub const CHARGES_PER_RECORD_MAX: usize = 1_024;

/// Charges of one tick, whose numbers follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargesRecord {
    /// The charges, 1 to [`CHARGES_PER_RECORD_MAX`].
    pub charges: Vec<Charge>,
}

impl Subject {
    fn put(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Channel(channel) => {
                bytes.push(1);
                bytes.extend_from_slice(channel.as_bytes());
            }
            Self::Once(authorization) => {
                bytes.push(2);
                bytes.extend_from_slice(authorization.as_bytes());
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        match reader.u8()? {
            1 => Ok(Self::Channel(EscrowChannelId::from_bytes(reader.bytes()?))),
            2 => Ok(Self::Once(AuthorizationId::from_bytes(reader.bytes()?))),
            _ => Err(reader.invalid()),
        }
    }
}

impl Cause {
    const fn number(self) -> u8 {
        match self {
            Self::Captured => 1,
            Self::Voided => 2,
            Self::Recovered => 3,
            Self::Expired => 4,
            Self::Reversed => 5,
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        match reader.u8()? {
            1 => Ok(Self::Captured),
            2 => Ok(Self::Voided),
            3 => Ok(Self::Recovered),
            4 => Ok(Self::Expired),
            5 => Ok(Self::Reversed),
            _ => Err(reader.invalid()),
        }
    }
}

impl Meter {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.price_version.to_be_bytes());
        put_blob(bytes, &self.units);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        Ok(Self { price_version: reader.u32()?, units: reader.blob()? })
    }
}

impl Reservation {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(96);
        bytes.push(1);
        self.subject.put(&mut bytes);
        bytes.extend_from_slice(&self.escrow.0.to_be_bytes());
        bytes.extend_from_slice(self.fingerprint.as_bytes());
        put_amount(&mut bytes, self.ceiling.units());
        put_amount(&mut bytes, self.delivered.down().units());
        bytes.extend_from_slice(&self.delivered.attos().to_be_bytes());
        bytes.extend_from_slice(&self.expires_at.as_millis().to_be_bytes());
        self.meter.put(&mut bytes);
        bytes
    }

    pub(crate) fn decode(request: RequestId, bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("reservation", bytes)?;
        let subject = Subject::read(&mut reader)?;
        let escrow = EscrowId(reader.u32()?);
        let fingerprint = Fingerprint::from_bytes(reader.bytes()?);
        let ceiling = Amount::from_units(reader.amount()?);
        let (whole, attos) = (reader.amount()?, reader.u64()?);
        let delivered = Cost::new(whole, attos.into()).map_err(|_| reader.invalid())?;
        if attos >= ATTOS_PER_BASE_UNIT {
            return Err(reader.invalid());
        }
        let expires_at = Timestamp::from_millis(reader.u64()?);
        let meter = Meter::read(&mut reader)?;
        reader.finish()?;
        Ok(Self { request, subject, escrow, fingerprint, ceiling, delivered, meter, expires_at })
    }
}

impl ChargesRecord {
    /// The number of the first.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.charges.first().map_or(0, |charge| charge.sequence)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.charges.len().saturating_mul(112).saturating_add(1));
        bytes.push(1);
        for charge in &self.charges {
            bytes.extend_from_slice(&charge.escrow.0.to_be_bytes());
            charge.subject.put(&mut bytes);
            bytes.extend_from_slice(charge.request.as_bytes());
            put_amount(&mut bytes, charge.amount.units());
            put_amount(&mut bytes, charge.charged_after.units());
            bytes.extend_from_slice(&charge.at.as_millis().to_be_bytes());
            bytes.push(charge.cause.number());
            charge.meter.put(&mut bytes);
        }
        bytes
    }

    /// The record of a key and a value of [`crate::Table::Charges`].
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, RecordError> {
        let first = key.try_into().map(u64::from_be_bytes).map_err(|_| RecordError::Length { what: "charges" })?;
        let mut reader = Reader::new("charges", value)?;
        let mut charges = Vec::new();
        for sequence in first.. {
            charges.push(Charge {
                sequence,
                escrow: EscrowId(reader.u32()?),
                subject: Subject::read(&mut reader)?,
                request: RequestId::from_bytes(reader.bytes()?),
                amount: Amount::from_units(reader.amount()?),
                charged_after: CumulativeAmount::from_units(reader.amount()?),
                at: Timestamp::from_millis(reader.u64()?),
                cause: Cause::read(&mut reader)?,
                meter: Meter::read(&mut reader)?,
            });
            if reader.is_empty() {
                break;
            }
        }
        Ok(Self { charges })
    }
}

impl Outcome {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(80);
        bytes.push(1);
        self.subject.put(&mut bytes);
        bytes.extend_from_slice(self.fingerprint.as_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        put_amount(&mut bytes, self.amount.units());
        put_amount(&mut bytes, self.charged_after.units());
        bytes.push(self.cause.number());
        bytes
    }

    /// The outcome in a value of [`crate::Table::Outcomes`].
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("outcome", bytes)?;
        let subject = Subject::read(&mut reader)?;
        let fingerprint = Fingerprint::from_bytes(reader.bytes()?);
        let sequence = reader.u64()?;
        let (amount, charged_after) = (Amount::from_units(reader.amount()?), CumulativeAmount::from_units(reader.amount()?));
        let cause = Cause::read(&mut reader)?;
        reader.finish()?;
        Ok(Self { subject, fingerprint, sequence, amount, charged_after, cause })
    }
}

/// Which of the kept generations of outcomes is written to: the one before it is kept too, older ones are deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// Its number.
    pub number: u32,
    /// When it began.
    pub since: Timestamp,
    /// Whether an outcome was written to it.
    pub is_used: bool,
    /// Whether one was written to the one before.
    pub was_used: bool,
}

impl Generation {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![1];
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.since.as_millis().to_be_bytes());
        bytes.extend_from_slice(&[u8::from(self.is_used), u8::from(self.was_used)]);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("generation", bytes)?;
        let (number, since) = (reader.u32()?, Timestamp::from_millis(reader.u64()?));
        let (is_used, was_used) = (reader.u8()? == 1, reader.u8()? == 1);
        reader.finish()?;
        Ok(Self { number, since, is_used, was_used })
    }
}
