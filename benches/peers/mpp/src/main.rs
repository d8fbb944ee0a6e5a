//! Session vouchers of the Machine Payments Protocol, verified by the `mpp` crate's own function.
//!
//! Vouchers are signed before the window.

use alloy_primitives::{Address, B256, Bytes};
use alloy_signer_local::PrivateKeySigner;
use anyhow::{Result, ensure};
use millstream_peer_measure::{Options, Row, locked_version, prepare, race};
use mpp::protocol::methods::tempo::voucher::{sign_voucher, verify_voucher};

const ESCROW: Address = Address::repeat_byte(0x55);
const CHAIN_ID: u64 = 42_431;
const CHANNELS: usize = 64;
/// More than a core of today verifies in a second.
const RATE_MAX_PER_THREAD: f64 = 15_000.0;

struct Voucher {
    channel: B256,
    cumulative: u128,
    signature: Bytes,
}

fn main() -> Result<()> {
    let options = Options::from_env()?;
    let payer = PrivateKeySigner::from_bytes(&B256::repeat_byte(0x42))?;
    for threads in [1_usize, 2] {
        let vouchers = prepare(options.supply(threads as f64 * RATE_MAX_PER_THREAD), |number| {
            let channel = B256::with_last_byte(u8::try_from(number % CHANNELS)?);
            let cumulative = u128::try_from(number / CHANNELS + 1)?;
            // The only await in it is of a local key, which is ready at once.
            let signature = tokio::runtime::Builder::new_current_thread().build()?;
            let signature = signature.block_on(sign_voucher(&payer, channel, cumulative, ESCROW, CHAIN_ID))?;
            Ok(Voucher { channel, cumulative, signature })
        })?;
        let count = race(threads, &vouchers, options.window, |supply| {
            let mut verified = 0;
            while let Some(Voucher { channel, cumulative, signature }) = supply.take() {
                let holds = verify_voucher(ESCROW, CHAIN_ID, *channel, *cumulative, signature, payer.address());
                ensure!(holds, "a voucher was refused");
                verified += 1;
            }
            Ok(verified)
        })?;
        Row {
            peer: "MPP mpp",
            version: locked_version("mpp")?,
            setup: &format!("its verify_voucher, {threads} thread{}", if threads == 1 { "" } else { "s" }),
            verified: "EIP-712 signature by recovery (k256), signer equals the channel's; nothing of the channel's state",
            durable: "none: nothing is kept",
        }
        .print(count)?;
    }
    Ok(())
}
