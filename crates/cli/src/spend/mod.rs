//! Paying for HTTP 402 from the command line: whose money, how much of it, and what is remembered.

pub mod payments;
pub mod policy;
pub mod proxy;
mod section;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use millstream_chain::{ChainError, ChainKey, Rpc, RpcOptions, Submitter, SubmitterOptions, token_facts};
use millstream_client::http::{
    Asset, AssetId, AssetLimits, HttpPayError, HttpPayer, HttpPayerOptions, PayeePolicy, PayerAccount, PaymentBook, Refusal, Scheme,
    SpendLimits,
};
use millstream_types::{Address, ChainId};

use crate::context::Context;
use crate::error::{CliError, CliResult, Exit, chain_of};
use crate::profile::{self, Profile, SecretBytes};

pub use section::{AssetSection, HttpSection};

/// The book's name, where the profile does not give one: beside the payer's state or key.
const BOOK_FILE: &str = "payments.redb";

/// What to do where the chain has to be asked and cannot be.
const ENDPOINT_HINT: &str = "name one in [http.rpc_urls] of the profile, as in 8453 = \"https://base.example\"";

/// Flags of everything that pays for HTTP. Amounts are whole tokens, for each token that is allowed.
#[derive(Args, Clone, Debug, Default)]
pub struct SpendArgs {
    /// The key of the account that pays: 64 hexadecimal digits in a file that nobody else can read
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// The book of payments: channels, what was signed, what was spent
    #[arg(long, value_name = "FILE")]
    pub book: Option<PathBuf>,
    /// Pay no more than this for one request
    #[arg(long = "max", value_name = "AMOUNT")]
    pub request_max: Option<String>,
    /// Pay no more than this to one host in a day (UTC)
    #[arg(long, value_name = "AMOUNT")]
    pub host_day_max: Option<String>,
    /// Pay no more than this in a day (UTC)
    #[arg(long, value_name = "AMOUNT")]
    pub day_max: Option<String>,
    /// Pay no more than this, ever
    #[arg(long, value_name = "AMOUNT")]
    pub total_max: Option<String>,
    /// Leave no more than this unspent in one channel
    #[arg(long, value_name = "AMOUNT")]
    pub channel_deposit_max: Option<String>,
    /// Leave no more than this unspent in all channels
    #[arg(long, value_name = "AMOUNT")]
    pub deposits_max: Option<String>,
    /// Pay by these schemes only, the first that is offered: x402-batch-settlement, mpp-session, x402-exact, mpp-charge
    #[arg(long, value_name = "SCHEME", value_delimiter = ',', value_parser = scheme)]
    pub prefer: Vec<Scheme>,
    /// Who spends, in the policy's budgets and breakers; the account without this
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Wait so many seconds for an approval that a payment needs, instead of ending at once
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub approval_wait: u64,
    /// Pay this account too, at a host that was paid for another one before
    #[arg(long, value_name = "ADDRESS")]
    pub allow_payee: Vec<Address>,
}

fn scheme(name: &str) -> Result<Scheme, String> {
    let known = || Scheme::ALL.map(Scheme::name).join(", ");
    Scheme::from_name(name).ok_or_else(|| format!("expected one of {}", known()))
}

impl SpendArgs {
    /// The profile, where there is one or one is needed.
    fn profile(&self, context: &Context) -> CliResult<Profile> {
        match context.profile() {
            Ok(profile) => Ok(profile),
            // With its own key and no profile named, none is needed.
            Err(error) if error.code == "profile_missing" && self.key_file.is_some() => Ok(Profile::default()),
            Err(error) => Err(error),
        }
    }

    /// The book, by itself.
    ///
    /// # Errors
    /// It is in use, or cannot be opened.
    pub fn open_book(&self, context: &Context) -> CliResult<PaymentBook> {
        let profile = self.profile(context)?;
        self.book_of(&profile)
    }

    /// Where the book is.
    ///
    /// # Errors
    /// Nothing says where.
    pub fn book_path(&self, context: &Context) -> CliResult<PathBuf> {
        self.path_of(&self.profile(context)?)
    }

    fn path_of(&self, profile: &Profile) -> CliResult<PathBuf> {
        let beside = |file: PathBuf| file.with_file_name(BOOK_FILE);
        let named = self.book.clone().or_else(|| profile.http.book_file.as_deref().map(|file| profile.resolve(file)));
        Ok(match (named, profile.payer_state_file()) {
            (Some(path), _) => path,
            (None, Ok(state)) => beside(state),
            (None, Err(_)) => beside(self.key_path(profile)?),
        })
    }

    fn book_of(&self, profile: &Profile) -> CliResult<PaymentBook> {
        let path = self.path_of(profile)?;
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)
                .map_err(|error| CliError::failed("book", format!("cannot create {}: {error}", directory.display())))?;
        }
        PaymentBook::open(&path).map_err(|error| HttpPayError::from(error).into())
    }

    fn key_path(&self, profile: &Profile) -> CliResult<PathBuf> {
        self.key_file.clone().map_or_else(|| profile.payer_key_file(), Ok)
    }

    /// The payer.
    ///
    /// # Errors
    /// The profile or a flag is wrong, the key cannot be read, or the book is in use.
    pub async fn payer(&self, context: &Context) -> CliResult<HttpPayer> {
        let profile = self.profile(context)?;
        let secret = self.secret(&profile)?;
        self.payer_of(&profile, &secret).await
    }

    /// The secret of the account that pays. An encrypted key file asks for its password each time.
    fn secret(&self, profile: &Profile) -> CliResult<SecretBytes> {
        profile::read_secret(&self.key_path(profile)?)
    }

    async fn payer_of(&self, profile: &Profile, secret: &SecretBytes) -> CliResult<HttpPayer> {
        let account = PayerAccount::from_secret(secret).map_err(|error| CliError::usage("key_file", error.to_string()))?;
        let options = self.options(profile).await?;
        let book = self.book_of(profile)?;
        Ok(HttpPayer::new(account, book, options)?)
    }

    async fn options(&self, profile: &Profile) -> CliResult<HttpPayerOptions> {
        let section = &profile.http;
        let mut options = HttpPayerOptions {
            payees: if section.any_payee { PayeePolicy::Any } else { PayeePolicy::Known },
            payees_allowed: section.payees_allowed.iter().chain(&self.allow_payee).copied().collect::<BTreeSet<_>>(),
            policy: profile.policy.clone(),
            agent: self.agent.clone().or_else(|| section.agent.clone()).unwrap_or_default(),
            approval_wait: Duration::from_secs(self.approval_wait),
            ..HttpPayerOptions::default()
        };
        let listed = section.schemes.iter().map(|name| scheme(name).map_err(|what| wrong(format!("http.schemes: {what}"))));
        let listed = listed.collect::<CliResult<Vec<_>>>()?;
        if let Some(schemes) = [&self.prefer, &listed].into_iter().find(|schemes| !schemes.is_empty()) {
            options.schemes.clone_from(schemes);
        }
        options.deposit_multiple = section.bounded("deposit_multiple", section.deposit_multiple, options.deposit_multiple, 1_000)?;
        let lanes = section.bounded("channels_per_payee", section.channels_per_payee, options.channels_per_payee.into(), 64)?;
        options.channels_per_payee = lanes.try_into().unwrap_or(1);
        for (chain, url) in &section.rpc_urls {
            let id = chain.parse().map_err(|_| wrong(format!("http.rpc_urls: {chain} is no chain id")))?;
            options.rpcs.insert(ChainId::new(id), Rpc::connect_to(url, ChainId::new(id), RpcOptions::default()).await?);
        }
        options.limits = self.limits(profile, &mut options).await?;
        Ok(options)
    }

    async fn limits(&self, profile: &Profile, options: &mut HttpPayerOptions) -> CliResult<SpendLimits> {
        let mut allowed: Vec<(Asset, AssetLimits)> = Vec::new();
        for asset in Asset::well_known() {
            let default = AssetLimits::default_of(asset.decimals);
            allowed.push((asset, default));
        }
        // What a development network's own gateway sells for.
        if let (Some(token), Some(url)) = (profile.gateway.asset, profile.chain.rpc_url.as_deref()) {
            let rpc = Rpc::connect(url, RpcOptions::default()).await?;
            if rpc.chain().is_development() {
                let facts = token_facts(&rpc, token).await?;
                let asset = Asset {
                    id: AssetId { chain: rpc.chain(), token },
                    symbol: facts.symbol,
                    decimals: facts.decimals,
                    domain: Some((facts.name, facts.version)),
                };
                let default = AssetLimits::default_of(asset.decimals);
                allowed.push((asset, default));
                options.rpcs.entry(rpc.chain()).or_insert(rpc);
            }
        }
        for section in &profile.http.asset {
            allowed.push(section.read()?);
        }
        allowed.into_iter().try_fold(SpendLimits::default(), |limits, (asset, mut own)| {
            self.lay_over(&asset, &mut own)?;
            Ok(limits.allow(asset, own))
        })
    }

    /// Flags win over the profile.
    fn lay_over(&self, asset: &Asset, limits: &mut AssetLimits) -> CliResult<()> {
        let flags = [
            ("--max", &self.request_max, &mut limits.request_max),
            ("--host-day-max", &self.host_day_max, &mut limits.host_day_max),
            ("--day-max", &self.day_max, &mut limits.day_max),
            ("--total-max", &self.total_max, &mut limits.total_max),
            ("--channel-deposit-max", &self.channel_deposit_max, &mut limits.channel_deposit_max),
            ("--deposits-max", &self.deposits_max, &mut limits.deposits_max),
        ];
        for (flag, text, limit) in flags {
            if let Some(text) = text {
                *limit = asset.parse_amount(text).map_err(|error| wrong(format!("{flag} {text}: {error}")))?;
            }
        }
        Ok(())
    }
}

/// The payer's account as a sender of transactions.
fn submitter(secret: &SecretBytes, rpc: Rpc) -> CliResult<Submitter> {
    let key = ChainKey::from_bytes(secret)?;
    let options = SubmitterOptions::on(rpc.chain());
    Ok(Submitter::new(rpc, key, options))
}

fn wrong(message: String) -> CliError {
    CliError::usage("setting", message)
}

impl From<HttpPayError> for CliError {
    fn from(error: HttpPayError) -> Self {
        let exit = match &error {
            HttpPayError::Unreachable(_)
            | HttpPayError::Unanswered { .. }
            | HttpPayError::InFlight { .. }
            | HttpPayError::NeedsApproval { .. } => Exit::Unavailable,
            HttpPayError::Policy(_) => Exit::Usage,
            HttpPayError::NoOffer { .. } | HttpPayError::NotTaken { .. } | HttpPayError::ChargedNotAnswered { .. } => Exit::Refused,
            HttpPayError::FalseClaim { .. } => Exit::CheckFailed,
            HttpPayError::BodyTooLong { .. }
            | HttpPayError::OwnPayment { .. }
            | HttpPayError::Id(_)
            | HttpPayError::IdConflict { .. }
            | HttpPayError::UnknownChannel { .. }
            | HttpPayError::NoEndpoint { .. } => Exit::Usage,
            HttpPayError::NoServer { .. } | HttpPayError::NothingLeft { .. } => Exit::Refused,
            HttpPayError::Chain(chain) => Self::from(ChainError::clone(chain)).exit,
            _ if error.code() == "book-in-use" => Exit::Unavailable,
            _ => Exit::Failed,
        };
        let failed = Self::new(exit, error.code().replace('-', "_"), chain_of(&error));
        match &error {
            HttpPayError::Unanswered { signed, .. } => failed
                .hint(format!("it may have been charged, at most {}; with the same --idempotency-key it is not paid twice", signed.price)),
            HttpPayError::NoOffer { offers, .. } => match offers.iter().map(|(_, refusal)| refusal).find_map(hint) {
                Some(hint) => failed.hint(hint),
                None => failed,
            },
            HttpPayError::NoEndpoint { .. } => failed.hint(ENDPOINT_HINT),
            HttpPayError::NoServer { channel } => failed.hint(format!("millstream payments withdraw {channel}")),
            HttpPayError::NeedsApproval { approval, .. } => {
                failed.hint(format!("`millstream policy approve {approval}`, then ask the same again: it is held for it"))
            }
            HttpPayError::Book(_) => failed.hint("one payer at a time has the book: stop the proxy, or give --book"),
            _ => failed,
        }
    }
}

fn hint(refusal: &Refusal) -> Option<String> {
    match refusal {
        Refusal::Limit { limit, .. } => Some(format!("raise {} if that is meant (base units are shown)", limit.name())),
        Refusal::UnknownAsset { .. } => Some("add the token under [[http.asset]] in the profile".to_owned()),
        Refusal::Policy { decision, .. } if *decision > 0 => Some(format!("`millstream policy explain {decision}`")),
        Refusal::AnotherPayee { payee } => Some(format!("--allow-payee {payee}")),
        _ => None,
    }
}
