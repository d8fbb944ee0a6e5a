//! What finds a transaction again: its signed versions and, for a claim, its rows. Written into the engine before a version leaves (R-20).
//! Integers big-endian; an amount is 16 bytes, a blob its length in 2 and its bytes.
//!
//! ```text
//! version (1) ‖ number of versions (1) ‖ versions ‖ rows
//! version: nonce (8) ‖ gas limit (8) ‖ fee (16) ‖ priority fee (16) ‖ hash (32)
//! row:     channel (32) ‖ ceiling ‖ total ‖ blob of the terms ‖ blob of the signature
//! ```

use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use millstream_chain::{ChainError, Journal, Kept as Keeping, TxVersion};
use millstream_engine::escrow::{CLAIM_BYTES_MAX, ClaimId, ClaimRow, EscrowAnswer, EscrowId, EscrowInput, EscrowRejection};
use millstream_types::{Address, CumulativeAmount, EscrowChannelId, Hash256};
use millstream_voucher::evm::EvmSignature;

use super::contract::Row;
use super::lane::Lane;
use crate::lock::lock;

const VERSION: u8 = 1;
const VERSION_BYTES: usize = 80;

/// Versions of one transaction, at most: those of the submitter.
const VERSIONS_MAX: usize = 32;

/// Bytes of the rows of one claim, at most: what is left of a record by the versions.
pub(super) const ROWS_BYTES_MAX: usize = CLAIM_BYTES_MAX - 2 - VERSIONS_MAX * VERSION_BYTES;

/// A record that this program did not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what finds the transaction again is not readable")]
pub(super) struct Unreadable;

/// What was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Oldest first, all with one nonce.
    pub(super) versions: Vec<TxVersion>,
    /// None of a sweep.
    pub(super) rows: Vec<Row>,
}

impl Row {
    /// Bytes that it takes in a record.
    pub(super) fn bytes(&self) -> usize {
        68 + self.config.len() + self.signature.as_bytes().len()
    }
}

impl Sent {
    /// Another version. One under another nonce takes the place of all: they can no longer be mined.
    fn add(&mut self, version: TxVersion) {
        if self.versions.last().is_some_and(|last| last.tx_nonce != version.tx_nonce) {
            self.versions.clear();
        }
        self.versions.push(version);
    }

    pub(super) fn encode(&self) -> Bytes {
        let rows: usize = self.rows.iter().map(Row::bytes).sum();
        let mut bytes = Vec::with_capacity(2 + self.versions.len() * VERSION_BYTES + rows);
        // The submitter makes no more of them than fit.
        bytes.extend([VERSION, u8::try_from(self.versions.len()).unwrap_or(u8::MAX)]);
        for version in &self.versions {
            bytes.extend_from_slice(&version.tx_nonce.to_be_bytes());
            bytes.extend_from_slice(&version.gas_limit.to_be_bytes());
            bytes.extend_from_slice(&version.max_fee_per_gas.to_be_bytes());
            bytes.extend_from_slice(&version.priority_fee_per_gas.to_be_bytes());
            bytes.extend_from_slice(version.transaction.as_bytes());
        }
        for row in &self.rows {
            bytes.extend_from_slice(row.channel.as_bytes());
            bytes.extend_from_slice(&row.ceiling.units().to_be_bytes());
            bytes.extend_from_slice(&row.total.units().to_be_bytes());
            for blob in [&row.config[..], row.signature.as_bytes()] {
                // Both are bounded far below by who makes them.
                bytes.extend_from_slice(&u16::try_from(blob.len()).unwrap_or(u16::MAX).to_be_bytes());
                bytes.extend_from_slice(blob);
            }
        }
        bytes.into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader(bytes);
        let [VERSION, count] = reader.take()? else { return Err(Unreadable) };
        let versions = (0..count).map(|_| reader.version()).collect::<Result<Vec<_>, _>>()?;
        if versions.is_empty() {
            return Err(Unreadable);
        }
        let mut rows = Vec::new();
        while !reader.0.is_empty() {
            rows.push(Row {
                channel: EscrowChannelId::from_bytes(reader.take()?),
                ceiling: CumulativeAmount::from_units(u128::from_be_bytes(reader.take()?)),
                total: CumulativeAmount::from_units(u128::from_be_bytes(reader.take()?)),
                config: Bytes::copy_from_slice(reader.blob()?),
                signature: EvmSignature::new(reader.blob()?.to_vec()).map_err(|_| Unreadable)?,
            });
        }
        Ok(Self { versions, rows })
    }

    /// The newest version's hash.
    pub(super) fn transaction(&self) -> Option<Hash256> {
        self.versions.last().map(|version| version.transaction)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Unreadable)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn blob(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = usize::from(u16::from_be_bytes(self.take()?));
        let (blob, rest) = self.0.split_at_checked(length).ok_or(Unreadable)?;
        self.0 = rest;
        Ok(blob)
    }

    fn version(&mut self) -> Result<TxVersion, Unreadable> {
        Ok(TxVersion {
            tx_nonce: u64::from_be_bytes(self.take()?),
            gas_limit: u64::from_be_bytes(self.take()?),
            max_fee_per_gas: u128::from_be_bytes(self.take()?),
            priority_fee_per_gas: u128::from_be_bytes(self.take()?),
            transaction: Hash256::from_bytes(self.take()?),
        })
    }
}

/// Whose versions a journal keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Those of a claim, which has its number once the first was kept.
    Claim(EscrowId, Option<ClaimId>),
    /// Those of a sweep.
    Sweep(EscrowId, Address),
}

/// Keeps the versions of one transaction in the engine, as long as the claimer lives: after that nothing more is signed.
pub(super) struct Versions {
    lane: Weak<Lane>,
    kept: Mutex<(Of, Sent)>,
}

impl Versions {
    pub(super) fn new(lane: &Arc<Lane>, of: Of, sent: Sent) -> Arc<Self> {
        Arc::new(Self { lane: Arc::downgrade(lane), kept: Mutex::new((of, sent)) })
    }

    /// The claim, once a version of it was kept.
    pub(super) fn claim(&self) -> Option<ClaimId> {
        match lock(&self.kept).0 {
            Of::Claim(_, claim) => claim,
            Of::Sweep(..) => None,
        }
    }

    /// Whether a version was kept.
    pub(super) fn is_kept(&self) -> bool {
        !lock(&self.kept).1.versions.is_empty()
    }

    async fn keep_version(&self, version: TxVersion) -> Result<(), ChainError> {
        let (of, mut sent) = lock(&self.kept).clone();
        sent.add(version);
        let transaction = sent.encode();
        let input = match of {
            Of::Claim(_, Some(claim)) => EscrowInput::ClaimSigned { claim, transaction },
            Of::Claim(escrow, None) => {
                let rows = sent.rows.iter().map(|row| ClaimRow { channel: row.channel, total: row.total }).collect();
                EscrowInput::ClaimSubmitted { escrow, rows, transaction }
            }
            Of::Sweep(escrow, receiver) => EscrowInput::SweepSubmitted { escrow, receiver, transaction },
        };
        let stopped = || ChainError::Stopped { operation: "keep" };
        let lane = self.lane.upgrade().ok_or_else(stopped)?;
        let answer = lane.payments.apply(input).await.map_err(|_| stopped())?;
        let of = match (of, answer) {
            (Of::Claim(escrow, None), EscrowAnswer::Claim(claim)) => Of::Claim(escrow, Some(claim)),
            (of, EscrowAnswer::Done) => of,
            // Its rows are done already, by somebody else's transaction; this one is in the way of others until it is mined.
            (of @ Of::Claim(_, Some(_)), EscrowAnswer::Rejected { rejection: EscrowRejection::UnknownClaim { .. }, .. }) => of,
            // What was claimable a moment ago is not now: nothing leaves.
            (_, EscrowAnswer::Rejected { rejection, .. }) => {
                return Err(ChainError::InvalidInput { what: "version", detail: rejection.to_string() });
            }
            (_, answer) => return Err(ChainError::Internal { detail: format!("the engine answered {answer:?}") }),
        };
        *lock(&self.kept) = (of, sent);
        Ok(())
    }
}

impl fmt::Debug for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Versions").finish_non_exhaustive()
    }
}

impl Journal for Versions {
    fn keep(&self, version: TxVersion) -> Keeping<'_> {
        Box::pin(self.keep_version(version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(tx_nonce: u64) -> TxVersion {
        let transaction = Hash256::from_bytes([3; 32]);
        TxVersion { tx_nonce, gas_limit: 4, max_fee_per_gas: 5, priority_fee_per_gas: u128::MAX, transaction }
    }

    fn row(byte: u8) -> Row {
        Row {
            channel: EscrowChannelId::from_bytes([byte; 32]),
            config: Bytes::copy_from_slice(&[byte; 138]),
            ceiling: CumulativeAmount::from_units(u128::MAX),
            total: CumulativeAmount::from_units(byte.into()),
            signature: EvmSignature::new([byte; 65]).expect("short"),
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_shorter() {
        for rows in [vec![], vec![row(1)], vec![row(1), row(2)]] {
            let sent = Sent { versions: vec![version(1), version(1)], rows };
            let bytes = sent.encode();
            assert_eq!(bytes.len(), 2 + 2 * VERSION_BYTES + sent.rows.iter().map(Row::bytes).sum::<usize>());
            assert_eq!(Sent::decode(&bytes), Ok(sent.clone()));
            let rows_at = 2 + 2 * VERSION_BYTES;
            let row_ends: Vec<usize> = (0..=sent.rows.len()).map(|count| rows_at + count * row(1).bytes()).collect();
            for end in (0..bytes.len()).filter(|end| !row_ends.contains(end)) {
                assert_eq!(Sent::decode(&bytes[..end]), Err(Unreadable), "{end} of {}", bytes.len());
            }
            assert_eq!(Sent::decode(&[&bytes[..], &[0]].concat()), Err(Unreadable));
            assert_eq!(Sent::decode(&[&[2], &bytes[1..]].concat()), Err(Unreadable));
        }
        assert_eq!(Sent::decode(&Sent::default().encode()), Err(Unreadable), "nothing was sent");
    }

    #[test]
    fn a_full_claim_with_all_its_versions_fits_a_record() {
        let rows: Vec<Row> = (0..100).map(row).collect();
        assert!(rows.iter().map(Row::bytes).sum::<usize>() <= ROWS_BYTES_MAX);
        let sent = Sent { versions: vec![version(1); VERSIONS_MAX], rows };
        assert!(sent.encode().len() <= CLAIM_BYTES_MAX);
    }

    #[test]
    fn another_nonce_takes_the_place_of_all_versions() {
        let mut sent = Sent::default();
        for tx_nonce in [1, 1, 2] {
            sent.add(version(tx_nonce));
        }
        assert_eq!(sent.versions, [version(2)]);
    }
}
