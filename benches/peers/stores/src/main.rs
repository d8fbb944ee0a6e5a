//! The stores that voucher servers keep their channels in, alone and behind a verification: Redis and PostgreSQL.
//!
//! Words: `redis` or `postgres`, one at a time, with `--socket` and `--server-pid`.

mod postgres;
mod redis;

use anyhow::{Result, bail};
use millstream_peer_measure::Options;

/// A payment that is stored: 32 bytes of channel, 16 bytes big-endian of the cumulative amount, 65 bytes of signature.
struct Voucher {
    channel: [u8; 32],
    cumulative: u128,
    signature: [u8; 65],
}

impl Voucher {
    /// The `number`th payment of a channel that is told by connection and number, unverified, with a signature's worth of bytes.
    fn unsigned(connection: usize, number: usize) -> Self {
        let mut channel = [0; 32];
        channel[..8].copy_from_slice(&connection.to_be_bytes());
        channel[8] = (number % CHANNELS_PER_CONNECTION) as u8;
        let mut signature = [0; 65];
        for (at, byte) in signature.iter_mut().enumerate() {
            *byte = (number.wrapping_mul(0x9e37_79b9).wrapping_add(at.wrapping_mul(0x85eb_ca6b)) >> 7) as u8;
        }
        Self { channel, cumulative: (number / CHANNELS_PER_CONNECTION + 1) as u128, signature }
    }
}

const CHANNELS_PER_CONNECTION: usize = 16;

const UNVERIFIED: &str = "nothing: the store alone";

fn main() -> Result<()> {
    let options = Options::from_env()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match options.words.as_slice() {
        [word] if word == "redis" => runtime.block_on(redis::run(&options)),
        [word] if word == "postgres" => runtime.block_on(postgres::run(&options)),
        words => bail!("redis or postgres, not {words:?}"),
    }
}
