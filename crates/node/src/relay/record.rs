//! A relayed deposit in the store: table `relays`, key: the SHA-256 of the request's bytes, value:
//! `version (1) ‖ accepted at (8) ‖ peer (16) ‖ wei (16) ‖ state (1) ‖ what the state has ‖ request`.

use millstream_chain::TxVersion;
use millstream_store::Table;
use millstream_types::{Amount, BlockNumber, Hash256, Timestamp};
use millstream_wire::{PayerMessage, Relay};

use super::RelayId;
use super::budget::Peer;
use crate::core::OwnRecord;

const VERSION: u8 = 1;

/// Where a relayed deposit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its gas is promised; nothing was signed.
    Promised,
    /// Signed in these versions, oldest first, all with one nonce. The node may have seen any of them.
    Signed(Vec<TxVersion>),
    /// Confirmed.
    Confirmed { transaction: Hash256, block: BlockNumber, deposit: Amount },
    /// Mined, and reverted with these bytes.
    Reverted { transaction: Hash256, revert: Vec<u8> },
}

impl State {
    pub(super) const fn is_final(&self) -> bool {
        matches!(self, Self::Confirmed { .. } | Self::Reverted { .. })
    }

    const fn number(&self) -> u8 {
        match self {
            Self::Promised => 0,
            Self::Signed(_) => 1,
            Self::Confirmed { .. } => 2,
            Self::Reverted { .. } => 3,
        }
    }
}

/// A relayed deposit as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) accepted_at: Timestamp,
    pub(super) peer: Peer,
    /// Promised at most, and once it is final, spent.
    pub(super) wei: u128,
    pub(super) state: State,
    pub(super) relay: Relay,
}

impl Record {
    pub(super) fn to_own(&self, id: RelayId) -> anyhow::Result<OwnRecord> {
        Ok(OwnRecord { table: Table::Relays, key: id.0.to_vec(), value: Some(self.encode()?) })
    }

    pub(super) fn encode(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.accepted_at.as_millis().to_be_bytes());
        bytes.extend_from_slice(&self.peer.0);
        bytes.extend_from_slice(&self.wei.to_be_bytes());
        bytes.push(self.state.number());
        match &self.state {
            State::Promised => {}
            State::Signed(versions) => {
                bytes.push(u8::try_from(versions.len())?);
                for version in versions {
                    bytes.extend_from_slice(&version.tx_nonce.to_be_bytes());
                    bytes.extend_from_slice(&version.gas_limit.to_be_bytes());
                    bytes.extend_from_slice(&version.max_fee_per_gas.to_be_bytes());
                    bytes.extend_from_slice(&version.priority_fee_per_gas.to_be_bytes());
                    bytes.extend_from_slice(version.transaction.as_bytes());
                }
            }
            State::Confirmed { transaction, block, deposit } => {
                bytes.extend_from_slice(transaction.as_bytes());
                bytes.extend_from_slice(&block.height().to_be_bytes());
                bytes.extend_from_slice(&deposit.to_u64()?.to_be_bytes());
            }
            State::Reverted { transaction, revert } => {
                bytes.extend_from_slice(transaction.as_bytes());
                bytes.extend_from_slice(&u16::try_from(revert.len())?.to_be_bytes());
                bytes.extend_from_slice(revert);
            }
        }
        bytes.extend_from_slice(&self.relay.to_bytes()?);
        Ok(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        let mut reader = Reader(bytes);
        let version = u8::from_be_bytes(reader.take()?);
        anyhow::ensure!(version == VERSION, "a relay record of version {version}: this program reads version {VERSION}");
        let accepted_at = Timestamp::from_millis(u64::from_be_bytes(reader.take()?));
        let (peer, wei) = (Peer(reader.take()?), u128::from_be_bytes(reader.take()?));
        let state = match u8::from_be_bytes(reader.take()?) {
            0 => State::Promised,
            1 => {
                let count = u8::from_be_bytes(reader.take()?);
                anyhow::ensure!(count > 0, "a signed relay record without a version");
                State::Signed((0..count).map(|_| reader.version()).collect::<anyhow::Result<_>>()?)
            }
            2 => State::Confirmed {
                transaction: Hash256::from_bytes(reader.take()?),
                block: BlockNumber::new(u64::from_be_bytes(reader.take()?)),
                deposit: Amount::from_nanos(u64::from_be_bytes(reader.take()?)),
            },
            3 => {
                let transaction = Hash256::from_bytes(reader.take()?);
                let length = usize::from(u16::from_be_bytes(reader.take()?));
                let (revert, rest) = reader.0.split_at_checked(length).ok_or_else(short)?;
                reader.0 = rest;
                State::Reverted { transaction, revert: revert.to_vec() }
            }
            state => anyhow::bail!("a relay record in state {state}"),
        };
        match PayerMessage::decode(reader.0.to_vec().into())? {
            PayerMessage::Relay(relay) => Ok(Self { accepted_at, peer, wei, state, relay: *relay }),
            other => anyhow::bail!("a relay record with a {} in it", other.kind()),
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn version(&mut self) -> anyhow::Result<TxVersion> {
        Ok(TxVersion {
            tx_nonce: u64::from_be_bytes(self.take()?),
            gas_limit: u64::from_be_bytes(self.take()?),
            max_fee_per_gas: u128::from_be_bytes(self.take()?),
            priority_fee_per_gas: u128::from_be_bytes(self.take()?),
            transaction: Hash256::from_bytes(self.take()?),
        })
    }
}

fn short() -> anyhow::Error {
    anyhow::anyhow!("a relay record is too short")
}

#[cfg(test)]
mod tests {
    use millstream_types::{Address, ChainId, LedgerId};
    use millstream_wire::{RelayPurpose, RelayWay};

    use super::*;

    fn record(state: State) -> Record {
        let relay = Relay {
            ledger: LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([1; 20]) },
            funder: Address::from_bytes([2; 20]),
            base_units: Amount::from_units(3),
            purpose: RelayPurpose::Open { key_x: [4; 32], key_qx: [5; 32], key_qy: [6; 32], salt: [7; 32] },
            way: RelayWay::Permit2 { nonce: [8; 32], deadline_secs: 9 },
            signature: vec![10; 65],
        };
        Record { accepted_at: Timestamp::from_millis(11), peer: Peer([12; 16]), wei: u128::MAX, state, relay }
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_shorter() {
        let transaction = Hash256::from_bytes([13; 32]);
        let version = |tx_nonce| TxVersion { tx_nonce, gas_limit: 14, max_fee_per_gas: 15, priority_fee_per_gas: 16, transaction };
        let states = [
            State::Promised,
            State::Signed(vec![version(1), version(2)]),
            State::Confirmed { transaction, block: BlockNumber::new(17), deposit: Amount::from_nanos(18) },
            State::Reverted { transaction, revert: vec![19; 70] },
            State::Reverted { transaction, revert: vec![] },
        ];
        for state in states {
            let record = record(state);
            let bytes = record.encode().expect("written");
            assert_eq!(Record::decode(&bytes).expect("read"), record);
            for end in 0..bytes.len() {
                assert!(Record::decode(&bytes[..end]).is_err(), "{end} of {}", bytes.len());
            }
            assert!(Record::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
            assert!(Record::decode(&[&[2], &bytes[1..]].concat()).is_err());
        }
    }
}
