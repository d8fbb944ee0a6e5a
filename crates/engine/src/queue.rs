//! The ledger's queue of payer requests, as the chain confirmed it.

use std::collections::BTreeMap;

use millstream_types::{Amount, ChannelId, Timestamp};

use crate::RecordError;
use crate::codec::Reader;

/// What a payer asked the ledger for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// To include a new channel in a book.
    Open,
    /// To raise a deposit.
    TopUp,
    /// To close.
    Close,
}

/// One request of the queue, unserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What was asked.
    pub kind: RequestKind,
    /// The channel.
    pub channel: ChannelId,
    /// Nanos; zero for a close.
    pub amount: Amount,
    /// When the block that holds it was made: the response window runs from here.
    pub requested_at: Timestamp,
}

/// Unserved requests by position. Positions are consecutive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestQueue {
    pub(crate) requests: BTreeMap<u64, Request>,
}

impl RequestQueue {
    /// The unserved requests, oldest first, with their positions.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Request)> {
        self.requests.iter().map(|(index, request)| (*index, request))
    }

    /// The position after the newest unserved request; 0 when all are served.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.requests.last_key_value().map_or(0, |(index, _)| index.saturating_add(1))
    }

    /// Unserved requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether all are served.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}

impl Request {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(58);
        bytes.push(1);
        bytes.push(match self.kind {
            RequestKind::Open => 1,
            RequestKind::TopUp => 2,
            RequestKind::Close => 3,
        });
        bytes.extend_from_slice(self.channel.as_bytes());
        bytes.extend_from_slice(&self.amount.units().to_be_bytes());
        bytes.extend_from_slice(&self.requested_at.as_millis().to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("request", bytes)?;
        let kind = match reader.u8()? {
            1 => RequestKind::Open,
            2 => RequestKind::TopUp,
            3 => RequestKind::Close,
            _ => return Err(reader.invalid()),
        };
        let channel = ChannelId::from_bytes(reader.bytes()?).map_err(|_| RecordError::Value { what: "request" })?;
        let amount = Amount::from_units(reader.u128()?);
        let requested_at = Timestamp::from_millis(reader.u64()?);
        reader.finish()?;
        Ok(Self { kind, channel, amount, requested_at })
    }
}
