//! `millstream channel open`.

use millstream_client::wallet::KeyChoice;
use millstream_types::{Amount, ChannelId};
use serde::Serialize;

use super::{OpenArgs, gasless};
use crate::context::{self, Context};
use crate::error::CliResult;
use crate::output::{View, pairs};
use crate::{payer, progress};

/// A channel that was opened. Amounts in nanos.
#[derive(Serialize)]
struct OpenedView {
    channel: ChannelId,
    deposit: Amount,
    /// Where its voucher key is: `stored` in the state, or `derived` from the account.
    key: &'static str,
}

pub(super) async fn run(context: &Context, args: &OpenArgs) -> CliResult<()> {
    let profile = context.profile()?;
    let wallet = context::wallet(&profile).await?;
    let base_units = wallet.deposit(args.deposit)?;
    let state = payer::open_state(&profile)?;
    if args.gas.gasless {
        return gasless::open(context, &profile, args, &wallet, state, base_units).await;
    }
    let (choice, key) = key_choice(args);
    let spinner = progress::spinner(&context.output, "opening the channel");
    let opened = async {
        wallet.approve(base_units).await?;
        let channel = wallet.account().prepare(&state, choice)?;
        let deposit = wallet.account().open(&channel, base_units).await?;
        CliResult::Ok(OpenedView { channel: channel.channel, deposit, key })
    };
    let opened = opened.await;
    spinner.finish_and_clear();
    context.output.show(&opened?)
}

/// The key of the new channel, and the word for where it is.
pub(super) const fn key_choice(args: &OpenArgs) -> (KeyChoice, &'static str) {
    match args.key_index {
        Some(index) => (KeyChoice::Derived(index), "derived"),
        None => (KeyChoice::Generated, "stored"),
    }
}

impl View for OpenedView {
    fn table(&self) -> String {
        let details =
            pairs([("channel", self.channel.to_string()), ("deposit", self.deposit.to_tokens()), ("voucher key", self.key.to_owned())]);
        format!("{details}\n\nthe node takes payments once the opening has its confirmations: `millstream pay --amount 0.00000015`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_names_the_channel_and_the_next_step() {
        let view = OpenedView { channel: ChannelId::from_uid(&[1; 31]), deposit: Amount::from_nanos(1_500_000_000), key: "stored" };
        assert!(view.table().starts_with(&format!("channel      0x00{}\ndeposit      1.5\nvoucher key  stored\n", "01".repeat(31))));
    }
}
