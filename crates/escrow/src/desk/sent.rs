//! What the desk sends for payers, kept beside the engine: every signed version is durable before the chain can see it, so that after a crash
//! the same transaction is followed on, and neither a deposit nor a refund or close is made twice or forgotten.
//!
//! One deposit and one refund or close at a time on each channel. Key: `2 ‖ kind u8 ‖ channel`; value, integers big-endian:
//!
//! ```text
//! version (1) ‖ intent (32) ‖ amount (16) ‖ contract (20) ‖ length of the call (4) ‖ call ‖ versions × (nonce (8) ‖ gas (8) ‖ fee (16) ‖ priority fee (16) ‖ hash (32))
//! ```

use std::fmt;
use std::sync::{Arc, Mutex};

use millstream_chain::{Call, ChainError, GasBounds, IntentId, Journal, Kept, Pace, Submitter, TxReceipt, TxStage, TxVersion, TxWatch};
use millstream_node::{Payments, Stopped, Submission};
use millstream_types::{Address, Amount, EscrowChannelId, Hash256};

use crate::lock::lock;

/// Whose records these are, among all that is kept of what is sent.
pub(crate) const WHOSE: u8 = 2;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 73;
const VERSION_BYTES: usize = 80;

/// Gas that one of them is sent with, at most: a deposit by a contract's signature takes the most.
const GAS_MAX: u64 = 1_000_000;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A payer's deposit.
    Deposit,
    /// A refund that a payer asked for.
    Refund,
    /// The close of a session.
    Close,
}

/// Something to send.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    pub(crate) kind: Kind,
    pub(crate) channel: EscrowChannelId,
    pub(crate) intent: IntentId,
    pub(crate) intent_bytes: [u8; 32],
    /// What it moves, as was asked for.
    pub(crate) amount: Amount,
    pub(crate) call: Call,
}

/// An errand of an earlier process.
#[derive(Clone, Debug)]
pub(crate) struct Unfinished {
    pub(crate) errand: Errand,
    versions: Vec<TxVersion>,
}

/// Why what is kept cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a kept transaction of the desk is not one")]
pub(crate) struct BadRecord;

/// Sends and keeps.
#[derive(Clone)]
pub(crate) struct Sender {
    payments: Payments,
    submitter: Submitter,
}

/// Keeps the versions of one errand.
struct Versions {
    payments: Payments,
    key: Vec<u8>,
    head: Vec<u8>,
    versions: Mutex<Vec<TxVersion>>,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Deposit => 1,
            Self::Refund => 2,
            Self::Close => 3,
        }
    }

    const fn operation(self) -> &'static str {
        match self {
            Self::Deposit => "escrow deposit",
            Self::Refund => "escrow refund",
            Self::Close => "session close",
        }
    }
}

impl Errand {
    fn key(&self) -> Vec<u8> {
        [&[WHOSE, self.kind.number()], self.channel.as_bytes().as_slice()].concat()
    }

    fn head(&self) -> Vec<u8> {
        let data = self.call.data();
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let amount = self.amount.units().to_be_bytes();
        let to = *self.call.to().unwrap_or(Address::ZERO).as_bytes();
        [&[VERSION], self.intent_bytes.as_slice(), &amount, &to, &length.to_be_bytes(), data].concat()
    }

    fn versions(&self, payments: &Payments, versions: Vec<TxVersion>) -> Arc<Versions> {
        let (payments, key, head) = (payments.clone(), self.key(), self.head());
        Arc::new(Versions { payments, key, head, versions: Mutex::new(versions) })
    }
}

impl Unfinished {
    pub(crate) fn read(key: &[u8], value: &[u8]) -> Result<Self, BadRecord> {
        let [WHOSE, kind, channel @ ..] = key else { return Err(BadRecord) };
        let kind = match kind {
            1 => Kind::Deposit,
            2 => Kind::Refund,
            3 => Kind::Close,
            _ => return Err(BadRecord),
        };
        let channel = EscrowChannelId::from_bytes(channel.try_into().map_err(|_| BadRecord)?);
        let (head, rest) = value.split_first_chunk::<HEAD_BYTES>().ok_or(BadRecord)?;
        let mut head = head.as_slice();
        let [VERSION] = take(&mut head)? else { return Err(BadRecord) };
        let intent_bytes = take(&mut head)?;
        let amount = Amount::from_units(u128::from_be_bytes(take(&mut head)?));
        let to = Address::from_bytes(take(&mut head)?);
        let length = usize::try_from(u32::from_be_bytes(take(&mut head)?)).map_err(|_| BadRecord)?;
        let (data, versions) = rest.split_at_checked(length).ok_or(BadRecord)?;
        let (versions, rest) = versions.as_chunks::<VERSION_BYTES>();
        if versions.is_empty() || !rest.is_empty() {
            return Err(BadRecord);
        }
        let versions = versions.iter().map(read_version).collect::<Result<_, _>>()?;
        let intent = IntentId::from_bytes(intent_bytes);
        let call = Call::new(kind.operation(), to, data.to_vec()).with_intent(intent);
        Ok(Self { errand: Errand { kind, channel, intent, intent_bytes, amount, call }, versions })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], BadRecord> {
    let (taken, left) = rest.split_first_chunk().ok_or(BadRecord)?;
    *rest = left;
    Ok(*taken)
}

fn read_version(bytes: &[u8; VERSION_BYTES]) -> Result<TxVersion, BadRecord> {
    let mut rest = bytes.as_slice();
    Ok(TxVersion {
        tx_nonce: u64::from_be_bytes(take(&mut rest)?),
        gas_limit: u64::from_be_bytes(take(&mut rest)?),
        max_fee_per_gas: u128::from_be_bytes(take(&mut rest)?),
        priority_fee_per_gas: u128::from_be_bytes(take(&mut rest)?),
        transaction: Hash256::from_bytes(take(&mut rest)?),
    })
}

fn put_version(bytes: &mut Vec<u8>, version: &TxVersion) {
    bytes.extend_from_slice(&version.tx_nonce.to_be_bytes());
    bytes.extend_from_slice(&version.gas_limit.to_be_bytes());
    bytes.extend_from_slice(&version.max_fee_per_gas.to_be_bytes());
    bytes.extend_from_slice(&version.priority_fee_per_gas.to_be_bytes());
    bytes.extend_from_slice(version.transaction.as_bytes());
}

impl Versions {
    /// The record with one more version. With another nonce, those before it can no longer be mined.
    fn with(&self, version: TxVersion) -> Vec<u8> {
        let mut versions = lock(&self.versions);
        if versions.last().is_some_and(|last| last.tx_nonce != version.tx_nonce) {
            versions.clear();
        }
        versions.push(version);
        let mut value = self.head.clone();
        versions.iter().for_each(|version| put_version(&mut value, version));
        value
    }
}

impl fmt::Debug for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Versions").finish_non_exhaustive()
    }
}

impl Journal for Versions {
    fn keep(&self, version: TxVersion) -> Kept<'_> {
        Box::pin(async move {
            let submission = Submission { key: self.key.clone(), value: Some(self.with(version)) };
            self.payments.keep(vec![submission]).await.map_err(|_| ChainError::Stopped { operation: "escrow" })
        })
    }
}

impl Sender {
    pub(crate) const fn new(payments: Payments, submitter: Submitter) -> Self {
        Self { payments, submitter }
    }

    /// Sends an errand and waits for its end, however long that takes.
    ///
    /// # Errors
    /// As [`Submitter::send_kept`], and how the transaction ended.
    pub(crate) async fn send(&self, errand: &Errand) -> Result<TxReceipt, ChainError> {
        end_of(errand.kind.operation(), self.start(errand).await?).await
    }

    /// Sends an errand: simulated, kept, and handed to the chain's node.
    ///
    /// # Errors
    /// As [`Submitter::send_kept`].
    pub(crate) async fn start(&self, errand: &Errand) -> Result<TxWatch, ChainError> {
        let bounds = GasBounds { gas_max: GAS_MAX, fee_per_gas_max: u128::MAX, pace: Pace::AtLeisure };
        let journal = errand.versions(&self.payments, Vec::new());
        let call = errand.call.clone().with_intent(errand.intent);
        self.submitter.send_kept(call, bounds, journal).await
    }

    /// Hands an errand of an earlier process to the chain again. Before anything is sent on the lane.
    ///
    /// # Errors
    /// As [`Submitter::resume`].
    pub(crate) async fn resume(&self, unfinished: Unfinished) -> Result<Resumed, ChainError> {
        let Unfinished { errand, versions } = unfinished;
        let journal = errand.versions(&self.payments, versions.clone());
        let watch = self.submitter.resume(errand.call.clone(), &versions, journal).await?;
        Ok(Resumed { errand, watch })
    }

    /// Forgets an errand whose end the engine knows.
    pub(crate) async fn forget(&self, errand: &Errand) -> Result<(), Stopped> {
        self.payments.keep(vec![Submission { key: errand.key(), value: None }]).await
    }
}

/// An errand that goes on.
pub(crate) struct Resumed {
    pub(crate) errand: Errand,
    watch: TxWatch,
}

impl Resumed {
    /// Waits for its end.
    pub(crate) async fn end(self) -> (Errand, Result<TxReceipt, ChainError>) {
        let outcome = end_of(self.errand.kind.operation(), self.watch).await;
        (self.errand, outcome)
    }
}

/// Waits for a transaction's end.
///
/// # Errors
/// How it ended.
pub(super) async fn end_of(operation: &'static str, mut watch: TxWatch) -> Result<TxReceipt, ChainError> {
    loop {
        match watch.stage() {
            TxStage::Ended { outcome, .. } => return outcome,
            TxStage::Sent { .. } | TxStage::Mined { .. } => {}
        }
        if !watch.changed().await {
            return Err(ChainError::Stopped { operation });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_nothing_else() {
        let version = |tx_nonce: u64, byte: u8| TxVersion {
            tx_nonce,
            gas_limit: 21_000,
            max_fee_per_gas: u128::MAX,
            priority_fee_per_gas: 7,
            transaction: Hash256::from_bytes([byte; 32]),
        };
        let errand = Errand {
            kind: Kind::Refund,
            channel: EscrowChannelId::from_bytes([3; 32]),
            intent: IntentId::from_bytes([4; 32]),
            intent_bytes: [4; 32],
            amount: Amount::from_units(1 << 100),
            call: Call::new("a refund", Address::from_bytes([5; 20]), vec![1, 2, 3]),
        };
        let (key, mut value) = (errand.key(), errand.head());
        assert!(Unfinished::read(&key, &value).is_err(), "no version");
        put_version(&mut value, &version(1, 8));
        put_version(&mut value, &version(1, 9));
        let read = Unfinished::read(&key, &value).expect("sound");
        assert_eq!((read.errand.kind, read.errand.channel, read.errand.amount), (errand.kind, errand.channel, errand.amount));
        assert_eq!(
            (read.errand.intent, read.errand.call.to(), read.errand.call.data()),
            (errand.intent, errand.call.to(), errand.call.data())
        );
        assert_eq!(read.versions, [version(1, 8), version(1, 9)]);
        for end in 0..value.len() {
            let whole = end == value.len() - VERSION_BYTES;
            assert_eq!(Unfinished::read(&key, &value[..end]).is_ok(), whole, "{end}");
        }
        assert!(Unfinished::read(&key[..33], &value).is_err() && Unfinished::read(&[&key[..], &[0]].concat(), &value).is_err());
        assert!(Unfinished::read(&[&[1], &key[1..]].concat(), &value).is_err());
    }
}
