//! What a voucher costs that is verified by recovering its signer, through `alloy-primitives` and `alloy-sol-types`.
//!
//! The typed data are those of x402's batch settlement. Vouchers are signed before the window. alloy picks its backend at build time,
//! so each has a program of its own.

#[cfg(all(feature = "k256", feature = "secp256k1"))]
compile_error!("with both backends alloy takes libsecp256k1, and the rows for k256 would be wrong: build one at a time");

use alloy_primitives::{Address, B256, Signature, U256, address, keccak256};
use alloy_sol_types::{Eip712Domain, SolStruct, eip712_domain, sol};
use anyhow::{Context, Result};
use millstream_peer_measure::prepare;
use secp256k1::{Message, PublicKey, Secp256k1, SecretKey};

sol! {
    /// A cumulative voucher, as x402's batch settlement has it.
    #[derive(Debug)]
    struct Voucher {
        /// The channel's EIP-712 digest.
        bytes32 channelId;
        /// What the provider may take in all.
        uint128 maxClaimableAmount;
    }
}

const CHANNELS: usize = 64;

/// A voucher and its signature.
#[derive(Debug)]
pub struct Signed {
    /// The channel that it pays from, by number.
    pub channel: usize,
    /// What is signed.
    pub voucher: Voucher,
    /// Over its typed data.
    pub signature: Signature,
}

/// The one payer of all channels.
#[derive(Debug)]
pub struct Payer {
    secret: SecretKey,
    /// Its key, for verification that knows it already.
    pub public: PublicKey,
    /// Its address, which recovery must give.
    pub address: Address,
    /// Chain and contract that vouchers are bound to.
    pub domain: Eip712Domain,
}

impl Payer {
    /// With a fixed key, so that runs compare.
    ///
    /// # Errors
    /// None with this key.
    pub fn new() -> Result<Self> {
        let secret = SecretKey::from_byte_array([0x42; 32])?;
        let public = PublicKey::from_secret_key(&Secp256k1::new(), &secret);
        let address = Address::from_slice(keccak256(&public.serialize_uncompressed()[1..]).get(12..).context("a digest has 32 bytes")?);
        let domain = eip712_domain! {
            name: "x402 Batch Settlement",
            version: "1",
            chain_id: 84_532,
            verifying_contract: address!("4020074e9dF2ce1deE5A9C1b5c3f541D02a10003"),
        };
        Ok(Self { secret, public, address, domain })
    }

    /// Vouchers of 64 channels in turn, each channel's amounts rising by one.
    ///
    /// # Errors
    /// None in practice.
    pub fn vouchers(&self, count: usize) -> Result<Vec<Signed>> {
        let engine = Secp256k1::new();
        prepare(count, |number| {
            let channel = number % CHANNELS;
            let amount = u128::try_from(number / CHANNELS + 1)?;
            let voucher = Voucher { channelId: B256::with_last_byte(u8::try_from(channel)?), maxClaimableAmount: amount };
            let digest = Message::from_digest(voucher.eip712_signing_hash(&self.domain).0);
            let (recovery, bytes) = engine.sign_ecdsa_recoverable(digest, &self.secret).serialize_compact();
            let (r, s) = (U256::from_be_slice(&bytes[..32]), U256::from_be_slice(&bytes[32..]));
            Ok(Signed { channel, voucher, signature: Signature::new(r, s, i32::from(recovery) == 1) })
        })
    }

    /// Whether the payer signed it: typed-data digest, then recovery, then comparison of addresses.
    #[cfg(any(feature = "k256", feature = "secp256k1"))]
    #[must_use]
    pub fn recovers(&self, signed: &Signed) -> bool {
        let digest = signed.voucher.eip712_signing_hash(&self.domain);
        signed.signature.recover_address_from_prehash(&digest).is_ok_and(|signer| signer == self.address)
    }

    /// As [`recovers`](Self::recovers), with the key at hand: no recovery.
    #[must_use]
    pub fn verifies(&self, engine: &Secp256k1<impl secp256k1::Verification>, signed: &Signed) -> bool {
        let digest = Message::from_digest(signed.voucher.eip712_signing_hash(&self.domain).0);
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&signed.signature.r().to_be_bytes::<32>());
        bytes[32..].copy_from_slice(&signed.signature.s().to_be_bytes::<32>());
        secp256k1::ecdsa::Signature::from_compact(&bytes)
            .is_ok_and(|signature| engine.verify_ecdsa(digest, &signature, &self.public).is_ok())
    }
}

/// Prints the rows of one backend, on one and two threads; a core of today verifies fewer than `rate_max` a second.
///
/// # Errors
/// A voucher was refused, or a row cannot be printed.
#[cfg(any(feature = "k256", feature = "secp256k1"))]
pub fn run(backend: &str, rate_max: f64, options: &millstream_peer_measure::Options) -> Result<()> {
    use millstream_peer_measure::{Row, locked_version, race};
    let payer = Payer::new()?;
    for threads in [1_usize, 2] {
        let vouchers = payer.vouchers(options.supply(threads as f64 * rate_max))?;
        let count = race(threads, &vouchers, options.window, |supply| {
            let mut verified = 0;
            while let Some(signed) = supply.take() {
                anyhow::ensure!(payer.recovers(signed), "a voucher was refused");
                verified += 1;
            }
            Ok(verified)
        })?;
        Row {
            peer: "alloy",
            version: locked_version("alloy-primitives")?,
            setup: &format!("voucher recovery over {backend}, {threads} thread{}", if threads == 1 { "" } else { "s" }),
            verified: "EIP-712 signature by recovery, signer equals the channel's; nothing of the channel's state",
            durable: "none: nothing is kept",
        }
        .print(count)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_vouchers_are_refused() {
        let payer = Payer::new().expect("made");
        let mut vouchers = payer.vouchers(130).expect("signed");
        let engine = Secp256k1::new();
        assert!(vouchers.iter().all(|signed| payer.verifies(&engine, signed)));
        #[cfg(any(feature = "k256", feature = "secp256k1"))]
        assert!(vouchers.iter().all(|signed| payer.recovers(signed)));
        vouchers[129].voucher.maxClaimableAmount += 1;
        assert_eq!(vouchers[129].channel, 1);
        assert!(!payer.verifies(&engine, &vouchers[129]));
        #[cfg(any(feature = "k256", feature = "secp256k1"))]
        assert!(!payer.recovers(&vouchers[129]));
    }
}
