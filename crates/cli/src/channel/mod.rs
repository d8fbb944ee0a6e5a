//! `millstream channel`: a payer's channels, and the provider's view of all of them.

pub(crate) mod exit;
mod gasless;
mod list;
mod open;
mod pick;
mod provider;
mod requests;

use clap::{Args, Subcommand, ValueEnum};
use millstream_types::Amount;

use crate::context::Context;
use crate::error::CliResult;
use crate::values;

pub use pick::{ChannelPick, shown};

/// `channel`'s subcommands.
#[derive(Subcommand, Clone, Debug)]
pub enum ChannelCommand {
    /// Open a channel with a deposit
    Open(OpenArgs),
    /// List the payer's channels, or all channels of the provider's node
    List(ListArgs),
    /// Show one channel
    Show(ShowArgs),
    /// Raise a channel's deposit
    Topup(TopupArgs),
    /// Ask for a channel to be closed; what it has not paid comes back as credit
    Close(CloseArgs),
    /// Leave without the provider: ask for the close, serve it with an own proof once it is overdue, and withdraw
    Exit(ExitArgs),
    /// Pay the account's credit out: what closed channels gave back
    Withdraw,
}

/// `channel open`.
#[derive(Args, Clone, Debug)]
pub struct OpenArgs {
    /// The deposit, in whole tokens
    #[arg(long, value_name = "AMOUNT", value_parser = values::tokens)]
    pub deposit: Amount,
    /// Derive the channel's voucher key from the account's key under this index, instead of generating one and storing it
    #[arg(long, value_name = "N")]
    pub key_index: Option<u64>,
    /// Who pays the gas
    #[command(flatten)]
    pub gas: GasArgs,
}

/// Who pays the gas of a deposit.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct GasArgs {
    /// Sign only: the provider's node sends the transaction and pays the gas, within its limits
    #[arg(long)]
    pub gasless: bool,
    /// How to sign; without it the best way that the token has
    #[arg(long = "with", value_name = "WAY", requires = "gasless")]
    pub way: Option<WayArg>,
}

/// How a deposit is signed.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayArg {
    /// An EIP-3009 authorization
    Authorization,
    /// An EIP-2612 permit
    Permit,
    /// Permit2, which must have an allowance of the token
    Permit2,
}

/// `channel list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// All channels, as the provider's node has them
    #[arg(long)]
    pub provider: bool,
}

/// `channel show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// The channel: its id, or enough of its first digits
    #[arg(value_name = "CHANNEL")]
    pub channel: ChannelPick,
    /// As the provider's node has it
    #[arg(long)]
    pub provider: bool,
}

/// `channel topup`.
#[derive(Args, Clone, Debug)]
pub struct TopupArgs {
    /// The channel: its id, or enough of its first digits
    #[arg(value_name = "CHANNEL")]
    pub channel: ChannelPick,
    /// What to add to the deposit, in whole tokens
    #[arg(long, value_name = "AMOUNT", value_parser = values::tokens)]
    pub amount: Amount,
    /// Who pays the gas
    #[command(flatten)]
    pub gas: GasArgs,
}

/// `channel close`.
#[derive(Args, Clone, Debug)]
pub struct CloseArgs {
    /// The channel: its id, or enough of its first digits
    #[arg(value_name = "CHANNEL")]
    pub channel: ChannelPick,
}

/// `channel exit`.
#[derive(Args, Clone, Debug)]
pub struct ExitArgs {
    /// The channel: its id, or enough of its first digits; needed when the account has several
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<ChannelPick>,
    /// Stay until the provider's time is over, instead of saying when it is
    #[arg(long)]
    pub wait: bool,
    /// The block of the ledger's deployment, or any before it; looked for without this
    #[arg(long, value_name = "N")]
    pub from_block: Option<u64>,
}

/// Runs the command.
///
/// # Errors
/// The chain or the node refuses or does not answer, or the state cannot be used.
pub async fn run(context: &Context, command: &ChannelCommand) -> CliResult<()> {
    match command {
        ChannelCommand::Open(args) => open::run(context, args).await,
        ChannelCommand::List(ListArgs { provider: true }) => provider::list(context).await,
        ChannelCommand::List(ListArgs { provider: false }) => list::list(context).await,
        ChannelCommand::Show(ShowArgs { channel, provider: true }) => provider::show(context, channel).await,
        ChannelCommand::Show(ShowArgs { channel, provider: false }) => list::show(context, channel).await,
        ChannelCommand::Topup(args) => requests::top_up(context, args).await,
        ChannelCommand::Close(args) => requests::close(context, args).await,
        ChannelCommand::Exit(args) => exit::run(context, args).await,
        ChannelCommand::Withdraw => requests::withdraw(context).await,
    }
}
