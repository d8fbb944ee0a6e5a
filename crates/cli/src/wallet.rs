//! The payer's account on the ledger, and amounts as its token has them.

use millstream_chain::{ChainKey, Ledger, Submitter, SubmitterOptions, approve};
use millstream_client::wallet::{self, WalletError};
use millstream_client::{ChannelSummary, StateDb};
use millstream_types::{Amount, UnitError};
use millstream_voucher::SecretKey;

use crate::error::{CliError, CliResult, chain_of};
use crate::profile::SecretBytes;

/// The payer's account on one ledger.
#[derive(Debug)]
pub struct Wallet {
    account: wallet::Wallet,
    key: ChainKey,
    options: SubmitterOptions,
}

impl Wallet {
    /// The account of a key. Make one for each account and process.
    ///
    /// # Errors
    /// The secret is no key.
    pub fn new(ledger: Ledger, secret: &SecretBytes) -> CliResult<Self> {
        let options = SubmitterOptions::on(ledger.chain());
        Ok(Self { account: wallet::Wallet::new(ledger, secret, options)?, key: ChainKey::from_bytes(secret)?, options })
    }

    /// What the account does.
    #[must_use]
    pub const fn account(&self) -> &wallet::Wallet {
        &self.account
    }

    /// The ledger.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        self.account.ledger()
    }

    /// That the account has so much of the token.
    ///
    /// # Errors
    /// It has less, or the chain does not answer.
    pub async fn require_funds(&self, base_units: u128) -> CliResult<()> {
        let balance = self.account.balance().await?;
        if balance >= base_units {
            return Ok(());
        }
        let (token, account) = (self.ledger().config().token, self.account.account());
        let message = format!("the account {account} has {balance} base units of the token, {base_units} are needed");
        Err(CliError::refused("funds_missing", message).hint(format!("send it more of the token {token}")))
    }

    /// Lets the ledger take so much from the account in one transaction, unless it may already: openings after that need no approval each.
    /// Nothing else of this wallet may be under way.
    ///
    /// # Errors
    /// The account has less, or the chain refuses or does not answer.
    pub async fn approve(&self, base_units: u128) -> CliResult<()> {
        self.require_funds(base_units).await?;
        let token = self.ledger().config().token;
        // A lane of its own, gone before the wallet's begins.
        let lane = Submitter::new(self.ledger().rpc().clone(), self.key.clone(), self.options);
        approve(&lane, token, self.ledger().address(), base_units).await?;
        Ok(())
    }

    /// The voucher key of a channel whose key is derived from the account and not stored.
    ///
    /// # Errors
    /// The channel's key is no derived one of this account.
    pub fn key_of(&self, channel: &ChannelSummary) -> CliResult<SecretKey> {
        let foreign = || CliError::usage("channel_key", "the channel's key is neither stored nor derived from this account");
        // A channel with a derived key has the key's index as its salt.
        let (zeros, index) = channel.terms.salt.split_last_chunk::<8>().ok_or_else(foreign)?;
        let key = self.account.voucher_key(u64::from_be_bytes(*index))?;
        let is_ours = zeros.iter().all(|byte| *byte == 0) && key.public_key().x() == channel.terms.key_x;
        if is_ours { Ok(key) } else { Err(foreign()) }
    }

    /// The smallest deposit that the ledger takes and that is worth at least `nanos`, in base units.
    ///
    /// # Errors
    /// The amount does not fit.
    pub fn deposit_up(&self, nanos: Amount) -> CliResult<u128> {
        let config = self.ledger().config();
        let (whole, rest) = config.unit.base_units_down(nanos.max(config.deposit_min)).map_err(not_an_amount)?;
        // Of an amount in 128 bits, a part below one base unit was cut off: one more fits.
        Ok(whole.saturating_add(u128::from(!rest.is_zero())))
    }

    /// A deposit in base units, exactly.
    ///
    /// # Errors
    /// The ledger takes no deposit so small, or the amount is not a whole number of base units, or does not fit.
    pub fn deposit(&self, nanos: Amount) -> CliResult<u128> {
        let config = self.ledger().config();
        if nanos < config.deposit_min {
            let (amount, least) = (nanos.to_tokens(), config.deposit_min.to_tokens());
            return Err(CliError::refused("deposit_too_small", format!("the ledger takes deposits of at least {least}, not {amount}")));
        }
        match config.unit.base_units_down(nanos).map_err(not_an_amount)? {
            (whole, rest) if rest.is_zero() => Ok(whole),
            _ => {
                let (amount, decimals) = (nanos.to_tokens(), config.unit.decimals());
                Err(CliError::usage("amount", format!("{amount} cannot be deposited: the token has {decimals} decimals")))
            }
        }
    }
}

/// A lane for the account of a key, for what a wallet does not do. Nothing else of the account may be under way.
///
/// # Errors
/// The secret is no key.
pub fn lane(ledger: &Ledger, secret: &SecretBytes) -> CliResult<Submitter> {
    Ok(Submitter::new(ledger.rpc().clone(), ChainKey::from_bytes(secret)?, SubmitterOptions::on(ledger.chain())))
}

/// The channels of the state that are on a ledger.
///
/// # Errors
/// The state cannot be read.
pub fn channels_on(state: &StateDb, ledger: millstream_types::LedgerId) -> CliResult<Vec<ChannelSummary>> {
    Ok(state.channels()?.into_iter().filter(|channel| channel.terms.ledger == ledger).collect())
}

fn not_an_amount(error: UnitError) -> CliError {
    CliError::usage("amount", error.to_string())
}

impl From<WalletError> for CliError {
    fn from(error: WalletError) -> Self {
        let message = chain_of(&error);
        match error {
            WalletError::Chain(error) => error.into(),
            WalletError::State(error) => error.into(),
            WalletError::AccountKey => Self::usage("key_file", message),
            WalletError::NoWay => Self::refused("no_gasless_way", message).hint("open or top up without --gasless"),
            WalletError::Sign { .. } | WalletError::VoucherKey(_) | WalletError::Randomness => Self::failed("wallet", message),
            WalletError::AnotherChannel { .. } => Self::check_failed("another_channel", message),
        }
    }
}
