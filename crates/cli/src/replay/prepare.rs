//! Getting the channels of a workload ready: those of an earlier run are found again, the others are opened, all with one approval.
//!
//! A channel's id follows from the payer, the ledger, the workload and the channel's position, so nothing has to be remembered to find it.

use std::sync::Arc;

use millstream_chain::ChannelRecord;
use millstream_client::StateDb;
use millstream_client::wallet::{KeyChoice, PreparedChannel};
use millstream_types::{Amount, ChannelId};
use millstream_voucher::SecretKey;
use tokio::task::JoinSet;

use super::workload::Workload;
use crate::error::{CliError, CliResult};
use crate::wallet::Wallet;

/// A channel that can pay for its part of the workload.
pub(super) struct Ready {
    /// Position in the workload.
    pub(super) index: u32,
    /// The channel.
    pub(super) channel: ChannelId,
    /// Its voucher key.
    pub(super) key: SecretKey,
    /// What it must be able to pay in all.
    pub(super) deposit: Amount,
}

/// The channels of a workload, in order.
pub(super) struct Prepared {
    pub(super) channels: Vec<Ready>,
    /// How many were opened now.
    pub(super) opened: usize,
}

/// What a channel still needs, in base units.
enum Need {
    Open(Box<PreparedChannel>, u128),
    TopUp(ChannelId, u128),
}

/// Finds or opens the channels that pay anything. A deposit is what its channel pays, up to whole base units and to the least that
/// the ledger takes, and nothing else; that of a channel of a shorter run is topped up.
pub(super) async fn prepare(wallet: &Arc<Wallet>, state: &StateDb, workload: &Workload) -> CliResult<Prepared> {
    let mut channels = Vec::new();
    let mut looks = JoinSet::new();
    for plan in workload.paying() {
        let channel = wallet.account().prepare(state, KeyChoice::Derived(workload.key_index(plan.index)))?;
        let (ledger, deposit) = (wallet.ledger().clone(), Amount::from_nanos(plan.total_nanos));
        channels.push(Ready { index: plan.index, channel: channel.channel, key: channel.key.clone(), deposit });
        looks.spawn(async move { ledger.channel(channel.channel).await.map(|record| (channel, deposit, record)) });
    }
    let mut needs = Vec::new();
    while let Some(look) = looks.join_next().await {
        let (channel, deposit, record) = joined(look)??;
        needs.extend(need(wallet, channel, deposit, record)?);
    }
    let opened = needs.iter().filter(|need| matches!(need, Need::Open(..))).count();
    fund(wallet, needs).await?;
    Ok(Prepared { channels, opened })
}

fn need(wallet: &Wallet, channel: PreparedChannel, deposit: Amount, record: Option<ChannelRecord>) -> CliResult<Option<Need>> {
    let Some(record) = record else {
        let base_units = wallet.deposit_up(deposit)?;
        return Ok(Some(Need::Open(Box::new(channel), base_units)));
    };
    if record.closed || record.close_requested {
        return Err(CliError::refused("channel_closed", format!("channel {} of this replay was closed", channel.channel))
            .hint("a closed channel is never opened again: choose another --seed"));
    }
    match deposit.checked_sub(record.deposit) {
        Ok(missing) if !missing.is_zero() => Ok(Some(Need::TopUp(channel.channel, wallet.deposit_up(missing)?))),
        Ok(_) | Err(_) => Ok(None),
    }
}

/// Approves the sum once, then sends everything at once: the submitter keeps the nonces in order, the chain takes it in a few blocks.
async fn fund(wallet: &Arc<Wallet>, needs: Vec<Need>) -> CliResult<()> {
    if needs.is_empty() {
        return Ok(());
    }
    let base_units = needs.iter().map(|need| match need {
        Need::Open(_, base_units) | Need::TopUp(_, base_units) => *base_units,
    });
    // A sum that does not fit is more than any account has.
    wallet.approve(base_units.fold(0, u128::saturating_add)).await?;
    let mut sends = JoinSet::new();
    for need in needs {
        let wallet = Arc::clone(wallet);
        sends.spawn(async move {
            match need {
                Need::Open(channel, base_units) => wallet.account().open(&channel, base_units).await,
                Need::TopUp(channel, base_units) => wallet.account().top_up(channel, base_units).await,
            }
        });
    }
    while let Some(sent) = sends.join_next().await {
        joined(sent)??;
    }
    Ok(())
}

/// The result of a task of ours; one that panicked is an error of this command.
pub(super) fn joined<T>(outcome: Result<T, tokio::task::JoinError>) -> CliResult<T> {
    outcome.map_err(|error| CliError::failed("internal", format!("a task failed: {error}")))
}
