//! Redis, one `SET` a payment: the least that a voucher server there can write. Those that exist do more, such as a script that
//! compares before it sets.
//!
//! The client speaks the protocol itself, with no more work than the bytes need, so that little of the processor time is its own.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use millstream_peer_measure::{Clock, Count, Options, Row, Supply};
use millstream_peer_recover::{Payer, Signed};
use secp256k1::Secp256k1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::{UNVERIFIED, Voucher};

const OK: &[u8] = b"+OK\r\n";
const DURABLE: &str = "the channel's newest voucher, in the append-only file, appendfsync always, before the reply";
/// More than one thread verifies in a second.
const VERIFIED_RATE_MAX: f64 = 45_000.0;

const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Prints a row for each shape.
pub async fn run(options: &Options) -> Result<()> {
    let socket = options.socket()?;
    let version = version(socket).await?;
    let row = |setup: &str, verified: &str, count: Count| {
        Row { peer: "Redis", version: &version, setup, verified, durable: DURABLE }.print(count)
    };
    for connections in [1, 50] {
        for pipeline in [1, 64] {
            let count = store(options, connections, pipeline).await?;
            row(
                &format!("SET a payment, {connections} connection{}, {pipeline} in flight on each", plural(connections)),
                UNVERIFIED,
                count,
            )?;
        }
    }
    let payer = Payer::new()?;
    let vouchers = payer.vouchers(options.supply(VERIFIED_RATE_MAX))?;
    for (connections, pipeline) in [(50, 1), (50, 64)] {
        let setup = format!("voucher verified, then SET, 1 thread, {connections} connections, {pipeline} in flight on each");
        let verified = "EIP-712 signature against the known key (libsecp256k1, no recovery); nothing of the channel's state";
        row(&setup, verified, verify_and_store(options, &payer, &vouchers, connections, pipeline).await?)?;
    }
    Ok(())
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

async fn store(options: &Options, connections: usize, pipeline: usize) -> Result<Count> {
    let streams = connect(options.socket()?, connections).await?;
    let clock = Clock::start(&options.servers)?;
    let until = Instant::now() + options.window;
    let tasks = streams.into_iter().enumerate().map(|(connection, mut stream)| async move {
        let (mut commands, mut stored) = (Vec::new(), 0);
        while Instant::now() < until {
            commands.clear();
            for number in stored..stored + pipeline {
                set(&mut commands, &Voucher::unsigned(connection, number));
            }
            exchange(&mut stream, &commands, pipeline).await?;
            stored += pipeline;
        }
        Ok(stored)
    });
    clock.stop(sum(try_join_all(tasks).await)?)
}

/// One thread verifies and feeds all connections, as a voucher server does on one core.
async fn verify_and_store(options: &Options, payer: &Payer, vouchers: &[Signed], connections: usize, pipeline: usize) -> Result<Count> {
    let engine = &Secp256k1::verification_only();
    let streams = connect(options.socket()?, connections).await?;
    let clock = Clock::start(&options.servers)?;
    let supply = &Supply::new(vouchers, options.window);
    let tasks = streams.into_iter().map(|mut stream| async move {
        let (mut commands, mut stored) = (Vec::new(), 0);
        loop {
            commands.clear();
            let mut taken = 0;
            while taken < pipeline
                && let Some(signed) = supply.take()
            {
                ensure!(payer.verifies(engine, signed), "a voucher was refused");
                set(&mut commands, &voucher(signed));
                taken += 1;
            }
            if taken == 0 {
                return Ok(stored);
            }
            exchange(&mut stream, &commands, taken).await?;
            stored += taken;
        }
    });
    clock.stop(sum(try_join_all(tasks).await)?)
}

fn sum(stored: Result<Vec<usize>>) -> Result<u64> {
    Ok(u64::try_from(stored?.into_iter().sum::<usize>())?)
}

fn voucher(signed: &Signed) -> Voucher {
    Voucher { channel: signed.voucher.channelId.0, cumulative: signed.voucher.maxClaimableAmount, signature: signed.signature.as_bytes() }
}

/// A fresh store and connections to it.
async fn connect(socket: &Path, connections: usize) -> Result<Vec<UnixStream>> {
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        streams.push(UnixStream::connect(socket).await.context("cannot reach Redis")?);
    }
    let first = streams.first_mut().context("at least one connection")?;
    exchange(first, b"*1\r\n$8\r\nFLUSHALL\r\n", 1).await?;
    Ok(streams)
}

/// `SET channel cumulative ‖ signature`.
fn set(commands: &mut Vec<u8>, voucher: &Voucher) {
    commands.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$32\r\n");
    commands.extend_from_slice(&voucher.channel);
    commands.extend_from_slice(b"\r\n$81\r\n");
    commands.extend_from_slice(&voucher.cumulative.to_be_bytes());
    commands.extend_from_slice(&voucher.signature);
    commands.extend_from_slice(b"\r\n");
}

/// Sends commands and waits for that many replies, each of which must be `OK`.
async fn exchange(stream: &mut UnixStream, commands: &[u8], replies: usize) -> Result<()> {
    stream.write_all(commands).await?;
    let mut answer = vec![0; replies * OK.len()];
    // An error is longer than OK, or says nothing more and is found by the timeout.
    tokio::time::timeout(REPLY_TIMEOUT, stream.read_exact(&mut answer)).await.context("Redis does not answer")??;
    for reply in answer.chunks(OK.len()) {
        ensure!(reply == OK, "Redis says {:?}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// As the server says it, after checking that it syncs before it answers.
async fn version(socket: &Path) -> Result<String> {
    let mut stream = UnixStream::connect(socket).await.context("cannot reach Redis")?;
    let policy = ask(&mut stream, b"*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$11\r\nappendfsync\r\n").await;
    ensure!(policy?.contains("appendfsync\r\n$6\r\nalways"), "Redis does not sync each write");
    let info = ask(&mut stream, b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n").await?;
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).context("Redis tells no version")?;
    Ok(version.to_owned())
}

/// Sends one command whose reply comes in one piece.
async fn ask(stream: &mut UnixStream, command: &[u8]) -> Result<String> {
    stream.write_all(command).await?;
    let mut answer = vec![0; 16 * 1024];
    let length = stream.read(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}
