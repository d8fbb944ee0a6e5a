//! Connection ids that a server knows as its own after a restart, and that do not meet.
//!
//! `nonce (6, random) ‖ tag (6)`, the tag being the start of HMAC-SHA256 over the nonce. quinn's own generator of recognisable ids draws from
//! 2^24: with ten thousand connections, which have eight ids each, one in two hundred address validations would get an id that is taken,
//! and its payer no answer.

use core::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

const NONCE_BYTES: usize = 6;
const TAG_BYTES: usize = 6;
const ID_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// Makes and recognises the ids of one identity.
pub(crate) struct KeyedIds {
    key: hmac::Key,
    random: SystemRandom,
}

impl KeyedIds {
    pub(crate) fn new(key: hmac::Key) -> Self {
        Self { key, random: SystemRandom::new() }
    }

    fn tag(&self, nonce: &[u8]) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&hmac::sign(&self.key, nonce).as_ref()[..TAG_BYTES]);
        tag
    }
}

impl ConnectionIdGenerator for KeyedIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        // The system has randomness, or TLS would not have come so far. Were it otherwise, every id would be the same one, which is taken,
        // and the endpoint would look for a free one for ever: it would take no connection, and answer nothing wrongly.
        let _ = self.random.fill(&mut id[..NONCE_BYTES]);
        let tag = self.tag(&id[..NONCE_BYTES]);
        id[NONCE_BYTES..].copy_from_slice(&tag);
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        match id.split_at_checked(NONCE_BYTES) {
            Some((nonce, tag)) if *tag == self.tag(nonce) => Ok(()),
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn ids(secret: &[u8]) -> KeyedIds {
        KeyedIds::new(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    #[test]
    fn ids_are_known_after_a_restart_and_by_nobody_else() {
        let (mut before, after, other) = (ids(b"one"), ids(b"one"), ids(b"another"));
        let id = before.generate_cid();
        assert_eq!(id.len(), before.cid_len());
        assert!(after.validate(&id).is_ok() && other.validate(&id).is_err());
        assert!(after.validate(&ConnectionId::new(&id[..8])).is_err() && after.validate(&ConnectionId::new(&[])).is_err());
    }

    #[test]
    fn as_many_ids_as_a_full_node_has_do_not_meet() {
        let mut generator = ids(b"one");
        let drawn: BTreeSet<Vec<u8>> = (0..100_000).map(|_| generator.generate_cid().to_vec()).collect();
        assert_eq!(drawn.len(), 100_000);
    }
}
