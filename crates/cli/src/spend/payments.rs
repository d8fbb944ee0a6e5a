//! `millstream payments`: channels of HTTP 402, what was spent, and how the rest comes back.

use std::time::Duration;

use clap::{Args, Subcommand};
use millstream_client::http::{Asset, ChannelStatus, HttpChannel, HttpPayError, HttpPayer, Withdrawal};
use millstream_types::{Address, Amount, ChainId, CumulativeAmount, EscrowChannelId};
use serde::Serialize;

use super::{ENDPOINT_HINT, SpendArgs, submitter};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::output::{View, columns, pairs};

/// Between two looks whether a channel can be left.
const WAIT_PAUSE: Duration = Duration::from_secs(2);

/// `payments`.
#[derive(Subcommand, Clone, Debug)]
pub enum PaymentsCommand {
    /// List the channels of HTTP 402: deposit, signed, charged
    List(ListArgs),
    /// Ask a channel's server for what is left of its deposit
    Refund(RefundArgs),
    /// Take back on the chain what is left of a channel, without its server
    Withdraw(WithdrawArgs),
    /// Find the account's channels on the chain, after the book was lost
    Recover(RecoverArgs),
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

/// `payments withdraw`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
The first call asks the contract; the server has the channel's delay (15 minutes for sessions of MPP) to claim what it is owed; a call after that
takes the rest. The channel is not paid from the first call on. Both are transactions of the payer's account, which needs coins for gas.")]
pub struct WithdrawArgs {
    /// The channel, or enough of its first digits
    #[arg(value_name = "CHANNEL")]
    pub channel: String,
    /// Wait until the rest can be taken, and take it
    #[arg(long)]
    pub wait: bool,
    /// Whose money.
    #[command(flatten)]
    pub spend: SpendArgs,
}

/// `payments recover`.
#[derive(Args, Clone, Debug)]
pub struct RecoverArgs {
    /// The block from which the contracts' logs are read: that of the first payment, or earlier
    #[arg(long, value_name = "BLOCK", default_value_t = 0)]
    pub from_block: u64,
    /// Only this chain, of those whose endpoints the profile has
    #[arg(long, value_name = "ID")]
    pub chain: Option<u64>,
    /// An escrow of MPP sessions beside the usual one
    #[arg(long, value_name = "ADDRESS")]
    pub escrow: Vec<Address>,
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
struct WithdrawView {
    channel: EscrowChannelId,
    /// `waiting` or `taken`.
    state: &'static str,
    /// Unix seconds from which the rest can be taken.
    ready_at: Option<u64>,
    /// What was taken, in base units.
    taken: Option<Amount>,
}

#[derive(Serialize)]
struct RecoverView {
    /// In the book now.
    channels: Vec<ChannelRow>,
    /// Opened by other programs, in ways that this one cannot go on with.
    foreign: Vec<EscrowChannelId>,
}

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

/// Channels, one a line.
fn table_of(rows: &[ChannelRow]) -> String {
    let known = Asset::well_known();
    let rows = rows.iter().map(|row| {
        let asset = known.iter().find(|asset| asset.id.chain.get() == row.chain_id && asset.id.token.to_string() == row.token);
        let show = |amount: Amount| asset.map_or_else(|| amount.to_string(), |asset| asset.show(amount));
        vec![
            row.channel.to_string().chars().take(10).collect(),
            if row.origin.is_empty() { "(found on the chain)".to_owned() } else { row.origin.clone() },
            row.scheme.to_owned(),
            show(row.deposit),
            show(row.signed.as_amount()),
            show(row.charged.as_amount()),
            row.status.to_owned(),
        ]
    });
    columns(&["channel", "origin", "scheme", "deposit", "signed", "charged", "status"], &[3, 4, 5], rows)
}

impl View for ListView {
    fn table(&self) -> String {
        let table = table_of(&self.0);
        let hint = self.0.iter().any(|row| row.refund_command.is_some());
        if hint { format!("{table}\n\nwhat is left comes back by `millstream payments refund CHANNEL`") } else { table }
    }
}

impl View for WithdrawView {
    fn table(&self) -> String {
        let ready = self.ready_at.map(|secs| ("can be taken at", format!("{secs} (Unix seconds), by the same command")));
        let taken = self.taken.map(|amount| ("taken", amount.to_string()));
        let lines = [("channel", self.channel.to_string()), ("state", self.state.to_owned())];
        pairs(lines.into_iter().chain(ready).chain(taken))
    }
}

impl View for RecoverView {
    fn table(&self) -> String {
        let foreign = match self.foreign.len() {
            0 => String::new(),
            count => format!("\n\n{count} more were opened by other programs, and cannot be paid on or left from here"),
        };
        if self.channels.is_empty() {
            return format!("nothing with something left that is not in the book{foreign}");
        }
        format!("{}{foreign}", table_of(&self.channels))
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
        PaymentsCommand::Withdraw(args) => withdraw(context, args).await,
        PaymentsCommand::Recover(args) => recover(context, args).await,
    }
}

/// The one channel of the book whose id begins so.
fn chosen(payer: &HttpPayer, begins: &str) -> CliResult<HttpChannel> {
    let wanted = begins.to_lowercase();
    let mut found: Vec<HttpChannel> = payer.book().channels();
    found.retain(|channel| channel.channel.to_string().starts_with(&wanted));
    match (found.len(), found.pop()) {
        (1, Some(channel)) if wanted.len() >= 4 => Ok(channel),
        (0 | 1, _) => {
            let hint = "see `millstream payments list`; after the book was lost, `millstream payments recover`";
            Err(CliError::usage("channel_unknown", format!("no channel begins with {wanted}")).hint(hint))
        }
        (count, _) => Err(CliError::usage("channel_ambiguous", format!("{count} channels begin with {wanted}"))),
    }
}

async fn withdraw(context: &Context, args: &WithdrawArgs) -> CliResult<()> {
    let profile = args.spend.profile(context)?;
    let secret = args.spend.secret(&profile)?;
    let payer = args.spend.payer_of(&profile, &secret).await?;
    let HttpChannel { channel, asset, .. } = chosen(&payer, &args.channel)?;
    let rpc = payer.options().rpcs.get(&asset.chain).cloned().ok_or(HttpPayError::NoEndpoint { chain: asset.chain })?;
    let submitter = submitter(&secret, rpc)?;
    loop {
        let (state, ready_at, taken) = match payer.withdraw(channel, &submitter).await? {
            Withdrawal::Waiting { .. } if args.wait => {
                tokio::time::sleep(WAIT_PAUSE).await;
                continue;
            }
            // A moment that has begun counts whole.
            Withdrawal::Waiting { ready_at } => ("waiting", Some(ready_at.as_millis().div_ceil(1_000)), None),
            Withdrawal::Taken(amount) => ("taken", None, Some(amount)),
        };
        return context.output.show(&WithdrawView { channel, state, ready_at, taken });
    }
}

async fn recover(context: &Context, args: &RecoverArgs) -> CliResult<()> {
    let payer = args.spend.payer(context).await?;
    let wanted = args.chain.map(ChainId::new);
    if let Some(chain) = wanted.filter(|chain| !payer.options().rpcs.contains_key(chain)) {
        return Err(HttpPayError::NoEndpoint { chain }.into());
    }
    let chains: Vec<ChainId> = payer.options().rpcs.keys().copied().filter(|chain| wanted.is_none_or(|wanted| wanted == *chain)).collect();
    if chains.is_empty() {
        return Err(CliError::usage("endpoint_missing", "no endpoint of a chain is set").hint(ENDPOINT_HINT));
    }
    let mut view = RecoverView { channels: Vec::new(), foreign: Vec::new() };
    for chain in chains {
        let found = payer.recover(chain, args.from_block, &args.escrow).await?;
        view.channels.extend(found.channels.iter().map(ChannelRow::of));
        view.foreign.extend(found.foreign);
    }
    context.output.show(&view)
}

async fn refund(context: &Context, args: &RefundArgs) -> CliResult<()> {
    let payer = args.spend.payer(context).await?;
    let channel = chosen(&payer, &args.channel)?;
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
