//! What a channel's uid is made from.

use millstream_types::{Address, ChannelId, LedgerId};
use sha3::{Digest, Keccak256};

/// What a payer fixes when opening a channel; the uid commits to all of it (spec V-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelTerms {
    /// The ledger that holds the deposit: it binds the chain, the provider and the token.
    pub ledger: LedgerId,
    /// The account that pays.
    pub payer: Address,
    /// The x-coordinate of the voucher key, big-endian.
    pub key_x: [u8; 32],
    /// Chosen by the payer: makes channels with equal terms distinct.
    pub salt: [u8; 32],
}

/// The type string whose keccak-256 opens the preimage of a uid.
pub const UID_TYPE: &str = "MillstreamChannel(uint256 chainId,address ledger,address payer,uint256 keyX,bytes32 salt)";

impl ChannelTerms {
    /// The channel's uid: the upper 248 bits of the keccak-256 of the ABI-encoded terms (spec V-1).
    #[must_use]
    pub fn uid(&self) -> ChannelId {
        let mut hasher = Keccak256::new();
        hasher.update(Keccak256::digest(UID_TYPE));
        hasher.update([0; 24]);
        hasher.update(self.ledger.chain.get().to_be_bytes());
        for address in [&self.ledger.contract, &self.payer] {
            hasher.update([0; 12]);
            hasher.update(address.as_bytes());
        }
        hasher.update(self.key_x);
        hasher.update(self.salt);
        let digest: [u8; 32] = hasher.finalize().into();
        let mut uid = [0; 31];
        uid.copy_from_slice(&digest[..31]);
        ChannelId::from_uid(&uid)
    }
}
