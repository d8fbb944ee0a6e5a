//! `millstream payments`: channels of HTTP 402, what was spent, and how the rest comes back.

use clap::{Args, Subcommand};
use millstream_client::http::{Asset, ChannelStatus, HttpChannel};
use millstream_types::{Amount, CumulativeAmount, EscrowChannelId};
use serde::Serialize;

use super::SpendArgs;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::output::{View, columns, pairs};

/// `payments`.
#[derive(Subcommand, Clone, Debug)]
pub enum PaymentsCommand {
    /// List the channels of HTTP 402: deposit, signed, charged
    List(ListArgs),
    /// Ask a channel's server for what is left of its deposit
    Refund(RefundArgs),
}

/// `payments list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Whose book.
    #[command(flatten)]
    pub spend: SpendArgs,
}

/// `payments refund`.
#[derive(Args, Clone, Debug)]
pub struct RefundArgs {
    /// The channel, or enough of its first digits
    #[arg(value_name = "CHANNEL")]
    pub channel: String,
    /// How much, in whole tokens; all without this. A session of MPP is closed, and gives all back
    #[arg(long, value_name = "AMOUNT")]
    pub amount: Option<String>,
    /// Whose money.
    #[command(flatten)]
    pub spend: SpendArgs,
}

/// One channel. Amounts in base units of its token.
#[derive(Clone, Debug, Serialize)]
struct ChannelRow {
    channel: EscrowChannelId,
    scheme: &'static str,
    origin: String,
    chain_id: u64,
    token: String,
    /// `open`, `suspended` or `closed`.
    status: &'static str,
    /// Why it is suspended.
    reason: Option<String>,
    deposit: Amount,
    pending: Option<Amount>,
    signed: CumulativeAmount,
    charged: CumulativeAmount,
    refunded: Amount,
    /// How the rest comes back; nothing when there is none.
    refund_command: Option<String>,
}

#[derive(Serialize)]
#[serde(transparent)]
struct ListView(Vec<ChannelRow>);

#[derive(Serialize)]
struct RefundView {
    channel: EscrowChannelId,
    refunded: Amount,
}

impl ChannelRow {
    fn of(channel: &HttpChannel) -> Self {
        let (status, reason) = match &channel.status {
            ChannelStatus::Open => ("open", None),
            ChannelStatus::Suspended(reason) => ("suspended", Some(reason.clone())),
            ChannelStatus::Closed => ("closed", None),
        };
        let free = channel.deposit > channel.charged.as_amount();
        Self {
            channel: channel.channel,
            scheme: channel.terms.scheme().name(),
            origin: channel.origin.clone(),
            chain_id: channel.asset.chain.get(),
            token: channel.asset.token.to_string(),
            status,
            reason,
            deposit: channel.deposit,
            pending: channel.pending,
            signed: channel.signed,
            charged: channel.charged,
            refunded: channel.refunded,
            refund_command: free.then(|| format!("millstream payments refund {}", channel.channel)),
        }
    }
}

impl View for ListView {
    fn table(&self) -> String {
        let known = Asset::well_known();
        let rows = self.0.iter().map(|row| {
            let asset = known.iter().find(|asset| asset.id.chain.get() == row.chain_id && asset.id.token.to_string() == row.token);
            let show = |amount: Amount| asset.map_or_else(|| amount.to_string(), |asset| asset.show(amount));
            vec![
                row.channel.to_string().chars().take(10).collect(),
                row.origin.clone(),
                row.scheme.to_owned(),
                show(row.deposit),
                show(row.signed.as_amount()),
                show(row.charged.as_amount()),
                row.status.to_owned(),
            ]
        });
        let table = columns(&["channel", "origin", "scheme", "deposit", "signed", "charged", "status"], &[3, 4, 5], rows);
        let hint = self.0.iter().any(|row| row.refund_command.is_some());
        if hint { format!("{table}\n\nwhat is left comes back by `millstream payments refund CHANNEL`") } else { table }
    }
}

impl View for RefundView {
    fn table(&self) -> String {
        pairs([("channel", self.channel.to_string()), ("refunded", self.refunded.to_string())])
    }
}

/// Runs a command.
///
/// # Errors
/// The book is in use, the channel is not there, or its server does not give back.
pub async fn run(context: &Context, command: &PaymentsCommand) -> CliResult<()> {
    match command {
        PaymentsCommand::List(args) => {
            let book = args.spend.open_book(context)?;
            context.output.show(&ListView(book.channels().iter().map(ChannelRow::of).collect()))
        }
        PaymentsCommand::Refund(args) => refund(context, args).await,
    }
}

async fn refund(context: &Context, args: &RefundArgs) -> CliResult<()> {
    let payer = args.spend.payer(context).await?;
    let wanted = args.channel.to_lowercase();
    let channels: Vec<HttpChannel> = payer.book().channels();
    let found: Vec<&HttpChannel> = channels.iter().filter(|channel| channel.channel.to_string().starts_with(&wanted)).collect();
    let channel = match found.as_slice() {
        [channel] if wanted.len() >= 4 => *channel,
        [] | [_] => {
            return Err(
                CliError::usage("channel_unknown", format!("no channel begins with {wanted}")).hint("see `millstream payments list`")
            );
        }
        _ => return Err(CliError::usage("channel_ambiguous", format!("{} channels begin with {wanted}", found.len()))),
    };
    let amount = match (&args.amount, payer.options().limits.of(channel.asset)) {
        (None, _) => None,
        (Some(text), Some((asset, _))) => {
            Some(asset.parse_amount(text).map_err(|error| CliError::usage("amount", format!("--amount {text}: {error}")))?)
        }
        (Some(_), None) => return Err(CliError::usage("amount", "the channel's token is not one of the profile's: leave --amount out")),
    };
    let refunded = payer.refund(channel.channel, amount).await?;
    context.output.show(&RefundView { channel: channel.channel, refunded })
}
