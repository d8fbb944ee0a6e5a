//! `millstream channel topup|close|withdraw`: what a payer asks of the ledger.

use millstream_types::{Amount, ChannelId, Hash256};
use serde::Serialize;

use super::{ChannelPick, CloseArgs, TopupArgs, gasless};
use crate::context::{self, Context};
use crate::error::{CliError, CliResult};
use crate::output::{View, pairs};
use crate::profile::Profile;
use crate::wallet::{Wallet, channels_on};
use crate::{payer, progress};

/// A deposit that was raised. Amounts in nanos.
#[derive(Serialize)]
struct ToppedUpView {
    channel: ChannelId,
    added: Amount,
    deposit: Amount,
}

/// A close that was asked for.
#[derive(Serialize)]
struct ClosingView {
    channel: ChannelId,
    transaction: Hash256,
    block: u64,
    /// The provider has so long to settle what it was paid.
    response_window_secs: u64,
}

/// A credit that was paid out. Amounts in nanos.
#[derive(Serialize)]
struct WithdrawnView {
    paid: Amount,
    /// Below one base unit of the token, so it stays.
    credit_left: Amount,
    transaction: Hash256,
}

pub(super) async fn top_up(context: &Context, args: &TopupArgs) -> CliResult<()> {
    let profile = context.profile()?;
    let wallet = context::wallet(&profile).await?;
    let channel = find(&profile, &wallet, &args.channel)?;
    let base_units = wallet.deposit(args.amount)?;
    if args.gas.gasless {
        return gasless::top_up(context, &profile, args, &wallet, channel, base_units).await;
    }
    let spinner = progress::spinner(&context.output, "raising the deposit");
    let topped_up = async {
        wallet.approve(base_units).await?;
        CliResult::Ok(wallet.account().top_up(channel, base_units).await?)
    };
    let deposit = topped_up.await;
    spinner.finish_and_clear();
    context.output.show(&ToppedUpView { channel, added: args.amount, deposit: deposit? })
}

pub(super) async fn close(context: &Context, args: &CloseArgs) -> CliResult<()> {
    let profile = context.profile()?;
    let wallet = context::wallet(&profile).await?;
    let channel = find(&profile, &wallet, &args.channel)?;
    let spinner = progress::spinner(&context.output, "asking for the close");
    let receipt = wallet.account().request_close(channel).await;
    spinner.finish_and_clear();
    let receipt = receipt?;
    let response_window_secs = wallet.ledger().config().response_window_secs;
    context
        .output
        .show(&ClosingView { channel, transaction: receipt.transaction, block: receipt.block.height(), response_window_secs })
}

pub(super) async fn withdraw(context: &Context) -> CliResult<()> {
    let wallet = context::wallet(&context.profile()?).await?;
    let credit = wallet.account().credit().await?;
    let unit = wallet.ledger().config().unit;
    let (whole, _) = unit.base_units_down(credit).map_err(|error| CliError::failed("amount", error.to_string()))?;
    if whole == 0 {
        let message = format!("there is nothing to withdraw: the account's credit is {}", credit.to_tokens());
        return Err(CliError::refused("nothing_to_withdraw", message)
            .hint("a channel's rest becomes credit when the provider has served its close; less than a base unit of the token stays"));
    }
    let spinner = progress::spinner(&context.output, "withdrawing");
    let withdrawn = wallet.account().withdraw().await;
    spinner.finish_and_clear();
    let withdrawn = withdrawn?;
    let paid = unit.nanos(withdrawn.base_units).map_err(|error| CliError::failed("amount", error.to_string()))?;
    let credit_left = wallet.account().credit().await?;
    context.output.show(&WithdrawnView { paid, credit_left, transaction: withdrawn.receipt.transaction })
}

/// A channel by its whole id, or one of the state by its first digits.
fn find(profile: &Profile, wallet: &Wallet, pick: &ChannelPick) -> CliResult<ChannelId> {
    match pick.whole() {
        Some(channel) => Ok(channel),
        None => {
            let state = payer::open_state(profile)?;
            pick.among(channels_on(&state, wallet.ledger().id())?.iter().map(|channel| channel.terms.uid()))
        }
    }
}

impl View for ToppedUpView {
    fn table(&self) -> String {
        pairs([("channel", self.channel.to_string()), ("added", self.added.to_tokens()), ("deposit", self.deposit.to_tokens())])
    }
}

impl View for ClosingView {
    fn table(&self) -> String {
        let details = pairs([
            ("channel", self.channel.to_string()),
            ("transaction", self.transaction.to_string()),
            ("block", self.block.to_string()),
        ]);
        let hours = self.response_window_secs / 3_600;
        format!(
            "{details}\n\nthe provider has {hours} hours ({} s) to settle what it was paid; then `millstream channel withdraw` pays out the rest",
            self.response_window_secs
        )
    }
}

impl View for WithdrawnView {
    fn table(&self) -> String {
        pairs([
            ("paid", self.paid.to_tokens()),
            ("credit left", self.credit_left.to_tokens()),
            ("transaction", self.transaction.to_string()),
        ])
    }
}
