//! Settling after a replay, and checking the result against the chain.

use std::collections::BTreeSet;

use millstream_chain::{Ledger, token_balance};
use millstream_types::{Amount, ChannelId};

use super::report::SettlementCheck;
use crate::admin::Admin;
use crate::error::{CliError, CliResult};
use crate::settle::settle;

/// Settles, and compares what the provider earned on the chain with what the node says, and the replay's channels with their price.
pub(super) async fn settle_and_check(
    admin: &Admin,
    ledger: &Ledger,
    channels: &BTreeSet<ChannelId>,
    price: Amount,
) -> CliResult<SettlementCheck> {
    let before = provider_funds(ledger).await?;
    let run = settle(admin, true).await?;
    let earned_on_chain = provider_funds(ledger).await?.checked_sub(before).unwrap_or(Amount::ZERO);
    let settled = admin.channels().await?.into_iter().filter(|row| channels.contains(&row.channel)).map(|row| row.settled);
    let settled_on_channels = sum(settled)?;
    let holds = earned_on_chain == run.settled_total && settled_on_channels == price;
    Ok(SettlementCheck { run, earned_on_chain, settled_on_channels, holds })
}

/// The provider's credit in the ledger and its token balance, in nanos: a payout moves money from one to the other.
async fn provider_funds(ledger: &Ledger) -> CliResult<Amount> {
    let config = ledger.config();
    let balance = token_balance(ledger.rpc(), config.token, config.provider).await?;
    // The part of a balance that is below a nano does not come from the ledger, which pays whole base units of whole nanos.
    let whole = balance - balance % base_units_per_nano(config.unit.decimals());
    let balance = config.unit.nanos(whole).map_err(|error| CliError::failed("token_balance", error.to_string()))?;
    sum([ledger.credit(config.provider).await?, balance])
}

fn base_units_per_nano(decimals: u8) -> u128 {
    10u128.pow(u32::from(decimals).saturating_sub(9))
}

pub(super) fn sum(amounts: impl IntoIterator<Item = Amount>) -> CliResult<Amount> {
    amounts
        .into_iter()
        .try_fold(Amount::ZERO, Amount::checked_add)
        .map_err(|error| CliError::failed("amount", error.to_string()))
}
