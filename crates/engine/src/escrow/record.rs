//! What is stored about escrows, under which key, in which bytes.

use millstream_types::{Address, BlockNumber, EscrowChannelId};

use super::channel::{EscrowChannel, EscrowState};
use super::charge::{ChargesRecord, Generation, Outcome, Reservation};
use super::claim::{Claim, Payment, Sweep};
use super::id::{AuthorizationId, ClaimId, EscrowId, RequestId};
use super::terms::{Escrow, EscrowTerms};
use crate::codec::Reader;
use crate::record::Table;
use crate::{ChainCursor, RecordError};

/// The key of a record about escrows. In [`Table::Escrows`] the first byte is the kind; kinds sort so that what others refer to comes first,
/// and what is not needed at a start comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EscrowKey {
    /// An escrow.
    Escrow(EscrowId),
    /// How far its logs were read.
    Cursor(EscrowId),
    /// How far they have to be told again.
    Retelling(EscrowId),
    /// A channel's terms.
    Terms(EscrowChannelId),
    /// A channel's state.
    Channel(EscrowChannelId),
    /// A reservation.
    Reservation(RequestId),
    /// A single payment.
    Payment(AuthorizationId),
    /// A claim under way.
    Claim(ClaimId),
    /// Claimed and paid out.
    Sweep(EscrowId, Address),
    /// The next numbers.
    Counters,
    /// The generation of outcomes.
    Generation,
    /// A channel that is done with.
    Archived(EscrowChannelId),
    /// Charges, from a number on.
    Charges(u64),
    /// An outcome, by its generation.
    Outcome(u32, RequestId),
}

/// The first byte of keys in [`Table::Escrows`] that are not read at a start.
pub const ARCHIVED_KEYS: u8 = 0x80;

impl EscrowKey {
    pub(crate) const fn table(&self) -> Table {
        match self {
            Self::Charges(_) => Table::Charges,
            Self::Outcome(..) => Table::Outcomes,
            Self::Escrow(_)
            | Self::Cursor(_)
            | Self::Retelling(_)
            | Self::Terms(_)
            | Self::Channel(_)
            | Self::Reservation(_)
            | Self::Payment(_)
            | Self::Claim(_)
            | Self::Sweep(..)
            | Self::Counters
            | Self::Generation
            | Self::Archived(_) => Table::Escrows,
        }
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let key = |kind: u8, id: &[u8]| {
            let mut bytes = Vec::with_capacity(id.len().saturating_add(1));
            bytes.push(kind);
            bytes.extend_from_slice(id);
            bytes
        };
        match self {
            Self::Escrow(escrow) => key(1, &escrow.0.to_be_bytes()),
            Self::Cursor(escrow) => key(2, &escrow.0.to_be_bytes()),
            Self::Retelling(escrow) => key(3, &escrow.0.to_be_bytes()),
            Self::Terms(channel) => key(4, channel.as_bytes()),
            Self::Channel(channel) => key(5, channel.as_bytes()),
            Self::Reservation(request) => key(6, request.as_bytes()),
            Self::Payment(authorization) => key(7, authorization.as_bytes()),
            Self::Claim(claim) => key(8, &claim.0.to_be_bytes()),
            Self::Sweep(escrow, receiver) => [&[9], escrow.0.to_be_bytes().as_slice(), receiver.as_bytes()].concat(),
            Self::Counters => key(10, &[]),
            Self::Generation => key(11, &[]),
            Self::Archived(channel) => key(ARCHIVED_KEYS, channel.as_bytes()),
            Self::Charges(first) => first.to_be_bytes().to_vec(),
            Self::Outcome(generation, request) => [generation.to_be_bytes().as_slice(), request.as_bytes()].concat(),
        }
    }
}

/// The next numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Of a charge.
    pub charge: u64,
    /// Of a claim.
    pub claim: u64,
}

/// A record about escrows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EscrowRecord {
    /// An escrow.
    Escrow(Escrow),
    /// How far its logs were read.
    Cursor(EscrowId, ChainCursor),
    /// How far they have to be told again.
    Retelling(EscrowId, BlockNumber),
    /// A channel's terms.
    Terms(EscrowTerms),
    /// A channel's state.
    Channel(EscrowChannelId, StoredState),
    /// A reservation.
    Reservation(Reservation),
    /// A single payment.
    Payment(Payment),
    /// A claim under way.
    Claim(Claim),
    /// Claimed and paid out.
    Sweep(EscrowId, Address, Sweep),
    /// The next numbers.
    Counters(Counters),
    /// The generation of outcomes.
    Generation(Generation),
    /// A channel that is done with.
    Archived(EscrowChannel),
    /// Charges of one tick.
    Charges(ChargesRecord),
    /// An outcome, in its generation.
    Outcome(u32, RequestId, Outcome),
}

/// The state of a channel, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredState(pub(crate) Box<EscrowState>);

impl EscrowRecord {
    pub(crate) const fn key(&self) -> EscrowKey {
        match self {
            Self::Escrow(escrow) => EscrowKey::Escrow(escrow.id),
            Self::Cursor(escrow, _) => EscrowKey::Cursor(*escrow),
            Self::Retelling(escrow, _) => EscrowKey::Retelling(*escrow),
            Self::Terms(terms) => EscrowKey::Terms(terms.channel),
            Self::Channel(channel, _) => EscrowKey::Channel(*channel),
            Self::Reservation(reservation) => EscrowKey::Reservation(reservation.request),
            Self::Payment(payment) => EscrowKey::Payment(payment.authorization),
            Self::Claim(claim) => EscrowKey::Claim(claim.id),
            Self::Sweep(escrow, receiver, _) => EscrowKey::Sweep(*escrow, *receiver),
            Self::Counters(_) => EscrowKey::Counters,
            Self::Generation(_) => EscrowKey::Generation,
            Self::Archived(channel) => EscrowKey::Archived(channel.terms.channel),
            Self::Charges(record) => {
                let first = match record.charges.as_slice() {
                    [first, ..] => first.sequence,
                    [] => 0,
                };
                EscrowKey::Charges(first)
            }
            Self::Outcome(generation, request, _) => EscrowKey::Outcome(*generation, *request),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Escrow(escrow) => escrow.encode(),
            Self::Cursor(_, cursor) => [&[1], cursor.block.height().to_be_bytes().as_slice(), &cursor.state].concat(),
            Self::Retelling(_, until) => [&[1], until.height().to_be_bytes().as_slice()].concat(),
            Self::Terms(terms) => terms.encode(),
            Self::Channel(_, state) => state.0.encode(),
            Self::Reservation(reservation) => reservation.encode(),
            Self::Payment(payment) => payment.encode(),
            Self::Claim(claim) => claim.encode(),
            Self::Sweep(_, _, sweep) => sweep.encode(),
            Self::Counters(counters) => [&[1], counters.charge.to_be_bytes().as_slice(), counters.claim.to_be_bytes().as_slice()].concat(),
            Self::Generation(generation) => generation.encode(),
            Self::Archived(channel) => channel.encode_archived(),
            Self::Charges(record) => record.encode(),
            Self::Outcome(_, _, outcome) => outcome.encode(),
        }
    }

    /// A record of [`Table::Escrows`] that is read at a start.
    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, RecordError> {
        let mut id = Reader::key("escrow key", key);
        let record = match id.u8()? {
            1 => Escrow::decode(EscrowId(id.u32()?), value).map(Self::Escrow)?,
            2 => {
                let escrow = EscrowId(id.u32()?);
                let mut reader = Reader::new("cursor", value)?;
                let block = BlockNumber::new(reader.u64()?);
                Self::Cursor(escrow, ChainCursor { block, state: reader.rest().to_vec() })
            }
            3 => {
                let escrow = EscrowId(id.u32()?);
                let mut reader = Reader::new("retelling", value)?;
                let until = BlockNumber::new(reader.u64()?);
                reader.finish()?;
                Self::Retelling(escrow, until)
            }
            4 => EscrowTerms::decode(EscrowChannelId::from_bytes(id.bytes()?), value).map(Self::Terms)?,
            5 => {
                let channel = EscrowChannelId::from_bytes(id.bytes()?);
                Self::Channel(channel, StoredState(Box::new(EscrowState::decode(value)?)))
            }
            6 => Reservation::decode(RequestId::from_bytes(id.bytes()?), value).map(Self::Reservation)?,
            7 => Payment::decode(AuthorizationId::from_bytes(id.bytes()?), value).map(Self::Payment)?,
            8 => Claim::decode(ClaimId(id.u64()?), value).map(Self::Claim)?,
            9 => {
                let (escrow, receiver) = (EscrowId(id.u32()?), Address::from_bytes(id.bytes()?));
                Self::Sweep(escrow, receiver, Sweep::decode(value)?)
            }
            10 => {
                let mut reader = Reader::new("counters", value)?;
                let counters = Counters { charge: reader.u64()?, claim: reader.u64()? };
                reader.finish()?;
                Self::Counters(counters)
            }
            11 => Generation::decode(value).map(Self::Generation)?,
            _ => return Err(id.invalid()),
        };
        id.finish()?;
        Ok(record)
    }
}
