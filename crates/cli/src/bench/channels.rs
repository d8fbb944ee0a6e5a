//! Opening many channels on a development chain.

use std::sync::Arc;

use millstream_chain::{Ledger, OpenRequest, Payer as ChainPayer, Submitter, VoucherKeyWitness, approve};
use millstream_load::Payer;
use millstream_load::workload::secret;
use millstream_types::ChannelId;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::progress;

/// Openings under way for each account: their nonces are pipelined, and each that waits asks the chain again and again.
const OPENING_MAX: usize = 32;

/// Which channels are opened.
pub(super) struct Openings {
    pub(super) seed: u64,
    /// Numbers of the channels: the first, and how many.
    pub(super) first: usize,
    pub(super) count: usize,
    /// What sets the channels of this command apart from others of the same account and key.
    pub(super) salt: [u8; 24],
    pub(super) deposit_base_units: u128,
}

/// Opens channels, dealt to the accounts in turn, each account with one approval and its own lane of nonces.
pub(super) async fn open(output: &Output, ledger: &Ledger, lanes: &[Submitter], openings: &Openings) -> CliResult<Vec<Payer>> {
    let &Openings { seed, first, count, salt, deposit_base_units } = openings;
    let shares = lanes.iter().enumerate().map(|(lane, submitter)| (submitter, (count + lanes.len() - 1 - lane) / lanes.len()));
    for (submitter, share) in shares.filter(|(_, share)| *share > 0) {
        let sum = deposit_base_units.saturating_mul(share as u128);
        approve(submitter, ledger.config().token, ledger.address(), sum).await?;
    }
    let bar = progress::counted(output, count as u64, "channels opened");
    let permits = Arc::new(Semaphore::new(OPENING_MAX * lanes.len()));
    let mut opening = JoinSet::new();
    for position in 0..count {
        let (ledger, submitter, permits) = (ledger.clone(), lanes[position % lanes.len()].clone(), Arc::clone(&permits));
        opening.spawn(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire_owned().await;
            let number = (first + position) as u64;
            let secret = secret(seed, number)?;
            let witness = secret.witness();
            let mut full_salt = [0; 32];
            full_salt[..24].copy_from_slice(&salt);
            full_salt[24..].copy_from_slice(&number.to_be_bytes());
            let key = VoucherKeyWitness { x: secret.public_key().x(), qx: witness.x, qy: witness.y };
            let request = OpenRequest { key, salt: full_salt, deposit_base_units };
            let channel: ChannelId = ChainPayer::new(ledger, submitter).open(&request).await?.channel;
            CliResult::Ok((position, Payer::new(channel, secret)))
        });
    }
    let mut payers = Vec::with_capacity(count);
    while let Some(opened) = opening.join_next().await {
        payers.push(opened.map_err(|error| CliError::failed("internal", error.to_string()))??);
        bar.inc(1);
    }
    bar.finish_and_clear();
    payers.sort_by_key(|(position, _)| *position);
    Ok(payers.into_iter().map(|(_, payer)| payer).collect())
}
