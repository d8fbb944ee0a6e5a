//! What of a channel's terms the engine only keeps: the contract's own terms, whole, so that a channel of the store can be claimed from without
//! anything else. Bytes, integers big-endian:
//!
//! ```text
//! version (1) ‖ payer (20) ‖ payer authorizer (20) ‖ receiver (20) ‖ receiver authorizer (20) ‖ token (20) ‖ withdraw delay (5) ‖ salt (32)
//! ```

use bytes::Bytes;
use millstream_engine::escrow::EscrowId;
use millstream_types::{Address, Hash256};
use millstream_voucher::evm::ChannelConfig;
use sha2::{Digest, Sha256};

const VERSION: u8 = 1;
const BYTES: usize = 138;

/// The number of an escrow: the first four bytes of a hash over the domain that its vouchers are signed for and its token. So nobody has to
/// give it one, and the same contract and token have the same at every start. Should two ever meet in one, the engine refuses the second.
#[must_use]
pub fn escrow_id(separator: &Hash256, token: &Address) -> EscrowId {
    let mut hash = Sha256::new();
    hash.update(b"millstream/escrow");
    hash.update(separator.as_bytes());
    hash.update(token.as_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    EscrowId(u32::from_be_bytes(hash.first_chunk().copied().unwrap_or_default()))
}

/// Why the kept terms of a channel cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kept terms of the channel are not those of an x402 channel")]
pub struct ForeignTerms;

/// The terms of an x402 channel as [`EscrowTerms::config`](millstream_engine::escrow::EscrowTerms::config) has them. `None` from a withdraw
/// delay of 2^40 seconds up, which has no channel id either.
#[must_use]
pub fn x402_config(config: &ChannelConfig) -> Option<Bytes> {
    let [_, _, _, delay @ ..] = config.withdraw_delay_secs.to_be_bytes();
    if config.withdraw_delay_secs >> 40 != 0 {
        return None;
    }
    let mut bytes = Vec::with_capacity(BYTES);
    bytes.push(VERSION);
    for account in [&config.payer, &config.payer_authorizer, &config.receiver, &config.receiver_authorizer, &config.token] {
        bytes.extend_from_slice(account.as_bytes());
    }
    bytes.extend_from_slice(&delay);
    bytes.extend_from_slice(config.salt.as_bytes());
    Some(bytes.into())
}

/// The terms that [`x402_config`] wrote.
///
/// # Errors
/// [`ForeignTerms`]: something else wrote them.
pub fn read_x402_config(bytes: &[u8]) -> Result<ChannelConfig, ForeignTerms> {
    let mut rest = bytes;
    let [VERSION] = take(&mut rest)? else { return Err(ForeignTerms) };
    let mut address = || take(&mut rest).map(Address::from_bytes);
    let (payer, payer_authorizer, receiver) = (address()?, address()?, address()?);
    let (receiver_authorizer, token) = (address()?, address()?);
    let mut delay = [0; 8];
    delay[3..].copy_from_slice(&take::<5>(&mut rest)?);
    let salt = Hash256::from_bytes(take(&mut rest)?);
    if !rest.is_empty() {
        return Err(ForeignTerms);
    }
    let withdraw_delay_secs = u64::from_be_bytes(delay);
    Ok(ChannelConfig { payer, payer_authorizer, receiver, receiver_authorizer, token, withdraw_delay_secs, salt })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ForeignTerms> {
    let (taken, left) = rest.split_first_chunk().ok_or(ForeignTerms)?;
    *rest = left;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_else() {
        let account = |byte| Address::from_bytes([byte; 20]);
        let config = ChannelConfig {
            payer: account(1),
            payer_authorizer: account(2),
            receiver: account(3),
            receiver_authorizer: account(4),
            token: account(5),
            withdraw_delay_secs: (1 << 40) - 1,
            salt: Hash256::from_bytes([6; 32]),
        };
        let bytes = x402_config(&config).expect("40 bits");
        assert_eq!((bytes.len(), read_x402_config(&bytes)), (BYTES, Ok(config)));
        for end in 0..bytes.len() {
            assert_eq!(read_x402_config(&bytes[..end]), Err(ForeignTerms), "{end}");
        }
        assert_eq!(read_x402_config(&[&bytes[..], &[0]].concat()), Err(ForeignTerms));
        assert_eq!(read_x402_config(&[&[2], &bytes[1..]].concat()), Err(ForeignTerms));
        assert_eq!(x402_config(&ChannelConfig { withdraw_delay_secs: 1 << 40, ..config }), None);
    }
}
