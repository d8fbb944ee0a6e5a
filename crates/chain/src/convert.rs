//! Between the ABI's types and ours. Nothing here panics on what a chain may return.

use alloy::primitives::aliases::U248;
use alloy::primitives::{Address as EvmAddress, B256, U256};
use millstream_types::{Address, Amount, BlockNumber, ChannelId, Hash256, Timestamp};

use crate::ChainError;

pub(crate) const fn evm_address(address: Address) -> EvmAddress {
    EvmAddress::new(*address.as_bytes())
}

pub(crate) const fn address(address: EvmAddress) -> Address {
    Address::from_bytes(address.into_array())
}

pub(crate) const fn hash(hash: B256) -> Hash256 {
    Hash256::from_bytes(hash.0)
}

pub(crate) const fn evm_hash(hash: Hash256) -> B256 {
    B256::new(*hash.as_bytes())
}

pub(crate) fn channel(uid: U248) -> ChannelId {
    ChannelId::from_uid(&uid.to_be_bytes::<31>())
}

pub(crate) fn uid(channel: ChannelId) -> U248 {
    uid_from_bytes(&channel.to_uid())
}

pub(crate) const fn uid_from_bytes(uid: &[u8; 31]) -> U248 {
    U248::from_be_bytes::<31>(*uid)
}

pub(crate) const fn word(word: [u8; 32]) -> U256 {
    U256::from_be_bytes(word)
}

pub(crate) const fn bytes(word: U256) -> [u8; 32] {
    word.to_be_bytes()
}

/// # Errors
/// [`ChainError::Unrepresentable`] from 2^128 up.
pub(crate) fn amount(what: &'static str, value: U256) -> Result<Amount, ChainError> {
    u128_of(what, value).map(Amount::from_units)
}

/// # Errors
/// [`ChainError::Unrepresentable`] from 2^128 up.
pub(crate) fn u128_of(what: &'static str, value: U256) -> Result<u128, ChainError> {
    u128::try_from(value).map_err(|_| ChainError::unrepresentable(what, value))
}

/// Unix seconds as the chain has them; the far end of time absorbs what does not fit.
pub(crate) const fn timestamp(secs: u64) -> Timestamp {
    Timestamp::from_millis(secs.saturating_mul(1_000))
}

pub(crate) const fn block(number: u64) -> BlockNumber {
    BlockNumber::new(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_survives_the_way_there_and_back() {
        let id = ChannelId::from_uid(&core::array::from_fn(|index| u8::try_from(index).expect("small") + 1));
        assert_eq!(channel(uid(id)), id);
        assert_eq!(channel(U248::MAX), ChannelId::from_uid(&[0xff; 31]));
    }

    #[test]
    fn a_number_too_large_for_us_is_an_error() {
        assert_eq!(amount("credit", U256::from(u128::MAX)), Ok(Amount::from_units(u128::MAX)));
        assert!(matches!(amount("credit", U256::from(u128::MAX) + U256::ONE), Err(ChainError::Unrepresentable { what: "credit", .. })));
        assert_eq!(timestamp(u64::MAX).as_millis(), u64::MAX);
    }
}
