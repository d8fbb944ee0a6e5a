//! What is sent for others, as it is kept: table `submissions`, key `1 ‖ id`, value
//! `version (1) ‖ accepted at (8) ‖ caller ‖ kind (1) ‖ channel (32) ‖ payer (20) ‖ receiver (20) ‖ token (20) ‖ amount (16) ‖ wei (16) ‖ state ‖
//! call`. Integers are big-endian; what a kind does not have is zero.

use anyhow::Context;
use millstream_chain::x402::{ChannelState, PendingWithdrawal};
use millstream_chain::{Call, IntentId, TxVersion};
use millstream_node::Submission;
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Hash256, Timestamp, Uint256};
use sha2::{Digest, Sha256};

use super::budget::{CallerId, Spent};

const VERSION: u8 = 1;
/// The first byte of a key of ours.
pub(super) const WHOSE: u8 = 1;
/// Bytes of what a contract said, at most, that are kept.
pub(super) const REVERT_BYTES_MAX: usize = 256;
/// Versions of one transaction that are kept, at most: more are not made.
const VERSIONS_MAX: usize = u8::MAX as usize;

/// What is asked for: SHA-256 over what makes it the same thing when it is asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WorkId([u8; 32]);

impl WorkId {
    /// Of the parts of a request of a kind; the lengths are hashed too.
    pub(super) fn of(kind: Kind, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"millstream/facilitator/1");
        hash.update([kind.number()]);
        for part in parts {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// Of the same work, asked for again after a transaction of it reverted.
    pub(super) fn after(self, reverted: &Hash256) -> Self {
        Self(Sha256::new().chain_update(self.0).chain_update(reverted.as_bytes()).finalize().into())
    }

    #[cfg(test)]
    pub(super) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) const fn intent(self) -> IntentId {
        IntentId::from_bytes(self.0)
    }

    pub(super) fn key(self) -> Vec<u8> {
        [&[WHOSE][..], &self.0].concat()
    }

    pub(super) fn of_key(key: &[u8]) -> anyhow::Result<Self> {
        let id = key.split_first().and_then(|(whose, id)| (*whose == WHOSE).then(|| id.try_into().ok()).flatten());
        id.map(Self).context("a facilitator's record under a wrong key")
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Deposit,
    Claim,
    Sweep,
    Refund,
    Exact,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Deposit, Self::Claim, Self::Sweep, Self::Refund, Self::Exact];

    const fn number(self) -> u8 {
        match self {
            Self::Deposit => 0,
            Self::Claim => 1,
            Self::Sweep => 2,
            Self::Refund => 3,
            Self::Exact => 4,
        }
    }

    pub(super) const fn operation(self) -> &'static str {
        match self {
            Self::Deposit => "x402 deposit",
            Self::Claim => "x402 claim",
            Self::Sweep => "x402 settle",
            Self::Refund => "x402 refund",
            Self::Exact => "exact transfer",
        }
    }
}

/// What it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// The channel of a deposit or refund.
    pub(super) channel: EscrowChannelId,
    pub(super) payer: Address,
    pub(super) receiver: Address,
    pub(super) token: Address,
    /// What is asked for.
    pub(super) amount: Amount,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its gas is promised; nothing was signed.
    Promised,
    /// Signed in these versions, oldest first, all with one nonce. The node may have seen any of them.
    Signed(Vec<TxVersion>),
    /// Confirmed, with what it moved and the channel after it, where it is about one.
    Done { transaction: Hash256, amount: Amount, channel: Option<ChannelState> },
    /// Mined, and reverted with these bytes.
    Reverted { transaction: Hash256, revert: Vec<u8> },
}

impl State {
    pub(super) const fn is_final(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Reverted { .. })
    }
}

/// What is sent, as it is kept.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) accepted_at: Timestamp,
    pub(super) caller: CallerId,
    pub(super) kind: Kind,
    pub(super) subject: Subject,
    /// Promised at most, and once it is final, spent.
    pub(super) wei: u128,
    pub(super) state: State,
    /// What is called.
    pub(super) to: Address,
    /// With what.
    pub(super) data: Vec<u8>,
}

impl Record {
    pub(super) fn call(&self, id: WorkId) -> Call {
        Call::new(self.kind.operation(), self.to, self.data.clone()).with_intent(id.intent())
    }

    pub(super) fn spent(&self) -> Spent {
        let known = |account: Address| (account != Address::ZERO).then_some(account);
        Spent {
            at: self.accepted_at,
            caller: self.caller.clone(),
            payer: known(self.subject.payer),
            receiver: known(self.subject.receiver),
            wei: self.wei,
            reverted: matches!(self.state, State::Reverted { .. }),
        }
    }

    pub(super) fn to_submission(&self, id: WorkId) -> anyhow::Result<Submission> {
        Ok(Submission { key: id.key(), value: Some(self.encode()?) })
    }

    fn encode(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.accepted_at.as_millis().to_be_bytes());
        match &self.caller {
            CallerId::Key(name) => {
                bytes.push(0);
                blob(&mut bytes, name.as_bytes())?;
            }
            CallerId::Address(address) => {
                bytes.push(1);
                bytes.extend_from_slice(address);
            }
        }
        bytes.push(self.kind.number());
        let Subject { channel, payer, receiver, token, amount } = &self.subject;
        bytes.extend_from_slice(channel.as_bytes());
        for account in [payer, receiver, token] {
            bytes.extend_from_slice(account.as_bytes());
        }
        bytes.extend_from_slice(&amount.units().to_be_bytes());
        bytes.extend_from_slice(&self.wei.to_be_bytes());
        match &self.state {
            State::Promised => bytes.push(0),
            State::Signed(versions) => {
                bytes.push(1);
                bytes.push(u8::try_from(versions.len())?);
                for version in versions {
                    bytes.extend_from_slice(&version.tx_nonce.to_be_bytes());
                    bytes.extend_from_slice(&version.gas_limit.to_be_bytes());
                    bytes.extend_from_slice(&version.max_fee_per_gas.to_be_bytes());
                    bytes.extend_from_slice(&version.priority_fee_per_gas.to_be_bytes());
                    bytes.extend_from_slice(version.transaction.as_bytes());
                }
            }
            State::Done { transaction, amount, channel } => {
                bytes.push(2);
                bytes.extend_from_slice(transaction.as_bytes());
                bytes.extend_from_slice(&amount.units().to_be_bytes());
                match channel {
                    None => bytes.push(0),
                    Some(state) => {
                        bytes.push(1);
                        channel_state(&mut bytes, state);
                    }
                }
            }
            State::Reverted { transaction, revert } => {
                bytes.push(3);
                bytes.extend_from_slice(transaction.as_bytes());
                blob(&mut bytes, revert)?;
            }
        }
        bytes.extend_from_slice(self.to.as_bytes());
        bytes.extend_from_slice(&self.data);
        Ok(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        let mut reader = Reader(bytes);
        let version = reader.byte()?;
        anyhow::ensure!(version == VERSION, "a facilitator's record of version {version}: this program reads version {VERSION}");
        let accepted_at = Timestamp::from_millis(reader.u64()?);
        let caller = match reader.byte()? {
            0 => CallerId::Key(String::from_utf8(reader.blob()?.to_vec())?.into()),
            1 => CallerId::Address(reader.take()?),
            other => anyhow::bail!("a facilitator's record of a caller of kind {other}"),
        };
        let number = reader.byte()?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.number() == number).context("a facilitator's record of an unknown kind")?;
        let subject = Subject {
            channel: EscrowChannelId::from_bytes(reader.take()?),
            payer: Address::from_bytes(reader.take()?),
            receiver: Address::from_bytes(reader.take()?),
            token: Address::from_bytes(reader.take()?),
            amount: Amount::from_units(reader.u128()?),
        };
        let wei = reader.u128()?;
        let state = match reader.byte()? {
            0 => State::Promised,
            1 => {
                let count = reader.byte()?;
                anyhow::ensure!(count > 0, "a signed record without a version");
                State::Signed((0..count).map(|_| reader.version()).collect::<anyhow::Result<_>>()?)
            }
            2 => State::Done {
                transaction: Hash256::from_bytes(reader.take()?),
                amount: Amount::from_units(reader.u128()?),
                channel: match reader.byte()? {
                    0 => None,
                    1 => Some(reader.channel_state()?),
                    other => anyhow::bail!("a facilitator's record with a channel of kind {other}"),
                },
            },
            3 => State::Reverted { transaction: Hash256::from_bytes(reader.take()?), revert: reader.blob()?.to_vec() },
            other => anyhow::bail!("a facilitator's record in state {other}"),
        };
        let to = Address::from_bytes(reader.take()?);
        Ok(Self { accepted_at, caller, kind, subject, wei, state, to, data: reader.0.to_vec() })
    }

    /// A version more; one with another nonce makes those before it void.
    pub(super) fn signed(&mut self, version: TxVersion) {
        match &mut self.state {
            State::Signed(versions) if versions.last().is_some_and(|last| last.tx_nonce == version.tx_nonce) => {
                // The oldest of very many is the least likely to be mined.
                if versions.len() >= VERSIONS_MAX {
                    versions.remove(0);
                }
                versions.push(version);
            }
            state => *state = State::Signed(vec![version]),
        }
    }
}

fn blob(bytes: &mut Vec<u8>, blob: &[u8]) -> anyhow::Result<()> {
    bytes.extend_from_slice(&u16::try_from(blob.len())?.to_be_bytes());
    bytes.extend_from_slice(blob);
    Ok(())
}

fn channel_state(bytes: &mut Vec<u8>, state: &ChannelState) {
    bytes.extend_from_slice(state.channel.as_bytes());
    bytes.extend_from_slice(&state.balance.units().to_be_bytes());
    bytes.extend_from_slice(&state.claimed.units().to_be_bytes());
    let (amount, at) = state.withdrawal.map_or((0, 0), |withdrawal| (withdrawal.amount.units(), withdrawal.initiated_at.as_millis()));
    bytes.extend_from_slice(&amount.to_be_bytes());
    bytes.extend_from_slice(&at.to_be_bytes());
    bytes.extend_from_slice(&state.refund_nonce.to_be_bytes());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> anyhow::Result<u8> {
        self.take().map(u8::from_be_bytes)
    }

    fn u64(&mut self) -> anyhow::Result<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn u128(&mut self) -> anyhow::Result<u128> {
        self.take().map(u128::from_be_bytes)
    }

    fn blob(&mut self) -> anyhow::Result<&'a [u8]> {
        let length = usize::from(u16::from_be_bytes(self.take()?));
        let (blob, rest) = self.0.split_at_checked(length).ok_or_else(short)?;
        self.0 = rest;
        Ok(blob)
    }

    fn version(&mut self) -> anyhow::Result<TxVersion> {
        Ok(TxVersion {
            tx_nonce: self.u64()?,
            gas_limit: self.u64()?,
            max_fee_per_gas: self.u128()?,
            priority_fee_per_gas: self.u128()?,
            transaction: Hash256::from_bytes(self.take()?),
        })
    }

    fn channel_state(&mut self) -> anyhow::Result<ChannelState> {
        let channel = EscrowChannelId::from_bytes(self.take()?);
        let (balance, claimed) = (Amount::from_units(self.u128()?), CumulativeAmount::from_units(self.u128()?));
        let (amount, at) = (Amount::from_units(self.u128()?), Timestamp::from_millis(self.u64()?));
        let withdrawal = (at.as_millis() != 0).then_some(PendingWithdrawal { amount, initiated_at: at });
        Ok(ChannelState { channel, balance, claimed, withdrawal, refund_nonce: Uint256::from_be_bytes(self.take()?) })
    }
}

fn short() -> anyhow::Error {
    anyhow::anyhow!("a facilitator's record is cut short")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(state: State, caller: CallerId, kind: Kind) -> Record {
        Record {
            accepted_at: Timestamp::from_millis(7),
            caller,
            kind,
            subject: Subject {
                channel: EscrowChannelId::from_bytes([1; 32]),
                payer: Address::from_bytes([2; 20]),
                receiver: Address::from_bytes([3; 20]),
                token: Address::from_bytes([4; 20]),
                amount: Amount::from_units(u128::MAX),
            },
            wei: 5,
            state,
            to: Address::from_bytes([6; 20]),
            data: vec![7; 482],
        }
    }

    fn version(tx_nonce: u64, fee: u128) -> TxVersion {
        let transaction = Hash256::from_bytes([9; 32]);
        TxVersion { tx_nonce, gas_limit: 100_000, max_fee_per_gas: fee, priority_fee_per_gas: 1, transaction }
    }

    fn states() -> Vec<State> {
        let channel = |withdrawal| ChannelState {
            channel: EscrowChannelId::from_bytes([1; 32]),
            balance: Amount::from_units(10),
            claimed: CumulativeAmount::from_units(4),
            withdrawal,
            refund_nonce: Uint256::from(3u64),
        };
        let pending = PendingWithdrawal { amount: Amount::from_units(6), initiated_at: Timestamp::from_millis(1_000) };
        let transaction = Hash256::from_bytes([8; 32]);
        vec![
            State::Promised,
            State::Signed(vec![version(1, 10), version(1, 20)]),
            State::Done { transaction, amount: Amount::from_units(6), channel: None },
            State::Done { transaction, amount: Amount::ZERO, channel: Some(channel(None)) },
            State::Done { transaction, amount: Amount::ZERO, channel: Some(channel(Some(pending))) },
            State::Reverted { transaction, revert: vec![1, 2, 3, 4] },
        ]
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        for state in states() {
            for kind in Kind::ALL {
                for caller in [CallerId::Key("shop".into()), CallerId::Address([1; 16])] {
                    let record = record(state.clone(), caller, kind);
                    let bytes = record.encode().expect("short");
                    let read = Record::decode(&bytes).expect("reads");
                    assert_eq!(read.encode().expect("short"), bytes);
                    assert_eq!((&read.state, read.kind, &read.caller), (&record.state, kind, &record.caller));
                    assert_eq!((read.subject, read.wei, read.to, &read.data), (record.subject, 5, record.to, &record.data));
                }
            }
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for state in states() {
            let bytes = record(state, CallerId::Key("shop".into()), Kind::Claim).encode().expect("short");
            for cut in 0..bytes.len() - 482 {
                assert!(Record::decode(&bytes[..cut]).is_err(), "cut at {cut}");
            }
            let other = [&[2][..], &bytes[1..]].concat();
            assert!(Record::decode(&other).is_err());
        }
        assert!(WorkId::of_key(&[2; 33]).is_err() && WorkId::of_key(&[1; 32]).is_err());
        let id = WorkId::of(Kind::Claim, &[b"a", b"bc"]);
        assert_eq!(WorkId::of_key(&id.key()).expect("ours"), id);
        assert_ne!(WorkId::of(Kind::Claim, &[b"ab", b"c"]), id);
        assert_ne!(WorkId::of(Kind::Sweep, &[b"a", b"bc"]), id);
    }

    #[test]
    fn versions_of_one_nonce_are_kept_together() {
        let mut record = record(State::Promised, CallerId::Address([0; 16]), Kind::Deposit);
        for (nonce, fee) in [(1, 10), (1, 20), (2, 10)] {
            record.signed(version(nonce, fee));
        }
        assert_eq!(record.state, State::Signed(vec![version(2, 10)]));
        for fee in 0..300 {
            record.signed(version(2, fee));
        }
        let State::Signed(versions) = &record.state else { panic!("signed") };
        assert_eq!((versions.len(), versions.last().map(|last| last.max_fee_per_gas)), (255, Some(299)));
        assert!(record.encode().is_ok());
    }
}
