//! `millstream channel open|topup --gasless`: the payer signs, the provider's node sends and pays the gas.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use millstream_chain::{DepositWay, RelayedDeposit};
use millstream_client::wallet::PreparedChannel;
use millstream_client::{Client, ConfirmedDeposit, RelayError, RelayStage, StateDb};
use millstream_types::{Amount, ChannelId, Hash256};
use millstream_wire::ErrorCode;
use serde::Serialize;

use super::open::key_choice;
use super::{GasArgs, OpenArgs, TopupArgs, WayArg};
use crate::context::Context;
use crate::error::{CliError, CliResult, Exit, chain_of};
use crate::output::{View, pairs};
use crate::profile::Profile;
use crate::wallet::Wallet;
use crate::{payer, progress};

/// How long a signature is valid: what the node has to get the transaction mined.
const VALID_FOR: Duration = Duration::from_secs(3_600);

/// How long a node that is busy is asked again.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long the payer's own endpoint may lag behind the node.
const OWN_VIEW_PATIENCE: Duration = Duration::from_secs(30);

/// How often the payer's own endpoint is asked.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// A deposit that the node submitted. Amounts in nanos.
#[derive(Serialize)]
struct RelayedView {
    channel: ChannelId,
    /// The channel's whole deposit, on the ledger.
    deposit: Amount,
    /// How it was signed.
    way: &'static str,
    transaction: Hash256,
    block: u64,
    /// Where the voucher key of a new channel is; nothing for a top-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'static str>,
}

impl GasArgs {
    fn way(self) -> Option<DepositWay> {
        self.way.map(|way| match way {
            WayArg::Authorization => DepositWay::Authorization,
            WayArg::Permit => DepositWay::Permit,
            WayArg::Permit2 => DepositWay::Permit2,
        })
    }
}

/// Opens a channel.
pub(super) async fn open(
    context: &Context,
    profile: &Profile,
    args: &OpenArgs,
    wallet: &Wallet,
    state: StateDb,
    base_units: u128,
) -> CliResult<()> {
    wallet.require_funds(base_units).await?;
    let (choice, key) = key_choice(args);
    let spinner = progress::spinner(&context.output, "signing");
    let opened = async {
        // First the node: a channel that nobody opens need not be in the state.
        let client = payer::connect(profile, state.clone(), None).await?;
        let channel: PreparedChannel = wallet.account().prepare(&state, choice)?;
        let deposit = wallet.account().sign_open(&channel, base_units, args.gas.way(), VALID_FOR).await?;
        let confirmed = relay(client, wallet, &deposit, &spinner).await?;
        let deposited = on_the_ledger(wallet, &confirmed).await?;
        CliResult::Ok(RelayedView::new(&confirmed, &deposit, deposited, Some(key)))
    };
    let opened = opened.await;
    spinner.finish_and_clear();
    context.output.show(&opened?)
}

/// Raises a channel's deposit.
pub(super) async fn top_up(
    context: &Context,
    profile: &Profile,
    args: &TopupArgs,
    wallet: &Wallet,
    channel: ChannelId,
    base_units: u128,
) -> CliResult<()> {
    wallet.require_funds(base_units).await?;
    let spinner = progress::spinner(&context.output, "signing");
    let topped_up = async {
        let client = payer::connect(profile, payer::open_state(profile)?, None).await?;
        let deposit = wallet.account().sign_top_up(channel, base_units, args.gas.way(), VALID_FOR).await?;
        let confirmed = relay(client, wallet, &deposit, &spinner).await?;
        let deposited = on_the_ledger(wallet, &confirmed).await?;
        CliResult::Ok(RelayedView::new(&confirmed, &deposit, deposited, None))
    };
    let topped_up = topped_up.await;
    spinner.finish_and_clear();
    context.output.show(&topped_up?)
}

/// Asks the node, and asks it again while it is only busy.
async fn relay(client: Client, wallet: &Wallet, deposit: &RelayedDeposit, spinner: &ProgressBar) -> CliResult<ConfirmedDeposit> {
    let asked_at = Instant::now();
    let outcome = loop {
        spinner.set_message("asking the node");
        let answer = client.relay(wallet.ledger().id(), deposit, |stage| spinner.set_message(doing(stage))).await;
        match answer {
            Err(RelayError::Refused { code: ErrorCode::Overloaded | ErrorCode::RelayBusy, retry_after: Some(pause), .. })
                if asked_at.elapsed().saturating_add(pause) < PATIENCE =>
            {
                spinner.set_message("the node is busy");
                tokio::time::sleep(pause).await;
            }
            answer => break answer,
        }
    };
    client.close().await;
    Ok(outcome?)
}

const fn doing(stage: RelayStage) -> &'static str {
    match stage {
        RelayStage::Accepted => "accepted by the node",
        RelayStage::Sent { .. } => "sent",
        RelayStage::Mined { .. } => "mined, waiting for its confirmations",
        RelayStage::Confirmed { .. } => "confirmed",
    }
}

/// What the ledger has, by the payer's own endpoint: the node's word is not enough.
async fn on_the_ledger(wallet: &Wallet, confirmed: &ConfirmedDeposit) -> CliResult<Amount> {
    let looking = async {
        loop {
            if let Some(record) = wallet.ledger().channel(confirmed.channel).await?.filter(|record| record.deposit >= confirmed.deposit) {
                return CliResult::Ok(record.deposit);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    tokio::time::timeout(OWN_VIEW_PATIENCE, looking).await.unwrap_or_else(|_| {
        let message = format!("the node says that {} was mined, and the ledger does not have its deposit", confirmed.transaction);
        Err(CliError::check_failed("relay_not_on_ledger", message).hint("look again with `millstream channel list`"))
    })
}

impl RelayedView {
    fn new(confirmed: &ConfirmedDeposit, signed: &RelayedDeposit, deposit: Amount, key: Option<&'static str>) -> Self {
        let ConfirmedDeposit { channel, transaction, block, .. } = *confirmed;
        Self { channel, deposit, way: signed.signed.way().name(), transaction, block: block.height(), key }
    }
}

impl View for RelayedView {
    fn table(&self) -> String {
        let mut rows = vec![
            ("channel", self.channel.to_string()),
            ("deposit", self.deposit.to_tokens()),
            ("signed", self.way.to_owned()),
            ("transaction", format!("{}, sent by the node", self.transaction)),
        ];
        rows.extend(self.key.map(|key| ("voucher key", key.to_owned())));
        pairs(rows)
    }
}

impl From<RelayError> for CliError {
    fn from(error: RelayError) -> Self {
        let message = chain_of(&error);
        match error {
            RelayError::Refused { code, retry_after, bound, .. } => {
                let exit = if code.is_retryable() { Exit::Unavailable } else { Exit::Refused };
                let failed = Self::new(exit, code.name(), message);
                match (hint_for(code, bound), retry_after) {
                    (Some(hint), _) => failed.hint(hint),
                    (None, Some(pause)) => failed.hint(format!("try again in {} s", pause.as_secs())),
                    (None, None) if code.is_retryable() => failed.hint("try again later"),
                    (None, None) => failed.hint("send the transaction yourself: the same command without --gasless"),
                }
            }
            RelayError::Closed { code: ErrorCode::Malformed } => {
                Self::refused("relay_unknown", message).hint("the node is older than this program, and relays nothing")
            }
            RelayError::Closed { code } => Self::refused(code.name(), message),
            RelayError::AnotherChannel { .. } => Self::check_failed("another_channel", message),
            RelayError::Protocol(_) => Self::failed("node_protocol", message),
            RelayError::Encode(_) | RelayError::ClientClosed => Self::failed("relay", message),
        }
    }
}

/// What to do about a refusal that has a number.
fn hint_for(code: ErrorCode, bound: Option<u64>) -> Option<String> {
    let bound = bound?;
    match code {
        ErrorCode::RelayDepositTooSmall => Some(format!("deposit at least {} at once", Amount::from_nanos(bound).to_tokens())),
        ErrorCode::RelayGasPrice => Some(format!("the node pays up to {bound} gwei for a unit of gas; try again later")),
        ErrorCode::RelayTooCostly => Some(format!("the node pays for {bound} gas at most")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: ErrorCode, retry_after: Option<u64>, bound: Option<u64>) -> CliError {
        let retry_after = retry_after.map(Duration::from_secs);
        RelayError::Refused { code, retry_after, bound, transaction: None, revert: None }.into()
    }

    #[test]
    fn a_refusal_keeps_its_name_its_kind_and_its_number() {
        let check = |error: CliError, exit: Exit, code: &str, hint: &str| {
            assert_eq!((error.exit, error.code.as_str(), error.hint.as_deref()), (exit, code, Some(hint)));
        };
        let small = refused(ErrorCode::RelayDepositTooSmall, None, Some(1_500_000_000));
        check(small, Exit::Refused, "relay_deposit_too_small", "deposit at least 1.5 at once");
        let spent = refused(ErrorCode::RelayBudgetSpent, Some(90), None);
        check(spent, Exit::Unavailable, "relay_budget_spent", "try again in 90 s");
        let price = refused(ErrorCode::RelayGasPrice, Some(60), Some(20));
        check(price, Exit::Unavailable, "relay_gas_price", "the node pays up to 20 gwei for a unit of gas; try again later");
        let disabled = refused(ErrorCode::RelayDisabled, None, None);
        check(disabled, Exit::Refused, "relay_disabled", "send the transaction yourself: the same command without --gasless");
    }

    #[test]
    fn a_relayed_deposit_names_its_transaction() {
        let view = RelayedView {
            channel: ChannelId::from_uid(&[1; 31]),
            deposit: Amount::from_nanos(1_500_000_000),
            way: "permit",
            transaction: Hash256::from_bytes([2; 32]),
            block: 3,
            key: None,
        };
        let table = view.table();
        assert!(table.contains("deposit      1.5\n") && table.contains("signed       permit\n"), "{table}");
        assert!(!table.contains("voucher key"));
        assert_eq!(serde_json::to_value(&view).expect("JSON").get("key"), None);
    }
}
