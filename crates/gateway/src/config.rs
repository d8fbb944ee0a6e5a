//! The gateway's configuration: a TOML file, or one upstream and one price. Unknown keys are errors.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use millstream_dialect::x402::TransferMethod;
use millstream_policy::PolicyConfig;
use serde::{Deserialize, Serialize};

use crate::ConfigError;
use crate::facilitator::config::FacilitatorSection;

/// The configuration as it is written. [`Routes`](crate::Routes) checks it and makes something usable of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Where the gateway listens, and who it says it is.
    #[serde(default)]
    pub server: ServerSection,
    /// The token that prices are in, and who is paid.
    pub payment: PaymentSection,
    /// The facilitator's API for other people's servers: served when this section is there.
    #[serde(default)]
    pub facilitator: Option<FacilitatorSection>,
    /// Limits of all routes that have none of their own.
    #[serde(default)]
    pub limits: LimitsSection,
    /// Timeouts of all routes that have none of their own.
    #[serde(default)]
    pub timeouts: TimeoutsSection,
    /// Rate cards, for routes that name one.
    #[serde(default)]
    pub ratecards: RatecardsSection,
    /// Who may spend what here: the customers' budgets, rates, breakers and approvals.
    #[serde(default)]
    pub policy: Option<PolicyConfig>,
    /// The routes, in the order in which they are tried.
    #[serde(default, rename = "route")]
    pub routes: Vec<RouteSection>,
}

/// `[server]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSection {
    /// TCP address of the public listener.
    pub listen: SocketAddr,
    /// The address that clients use, such as `https://api.example`, for the resources that offers name. Without it, the request's `Host`.
    pub public_url: Option<String>,
    /// A name for people: `realm` of MPP offers, title of `/openapi.json`.
    pub name: String,
    /// One sentence for people and agents, in `/openapi.json` and `/llms.txt`.
    pub description: Option<String>,
    /// Origins that pages may call from: `*`, or a list. Empty leaves CORS to the upstream.
    pub cors_origins: Vec<String>,
    /// Connections that are open at once.
    pub connections_max: usize,
    /// Requests that are under way at once; more are answered with 503.
    pub requests_max: usize,
    /// Seconds that requests under way have to end in when the gateway stops.
    pub drain_secs: u64,
}

/// `[payment]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentSection {
    /// The chain, by its CAIP-2 name: `eip155:8453`.
    pub network: String,
    /// The token's contract.
    pub asset: String,
    /// The token's symbol, as prices name it.
    pub symbol: String,
    /// The token's decimals.
    pub decimals: u8,
    /// Name in the token's EIP-712 domain, which gasless deposits are signed for.
    pub asset_name: String,
    /// Version in the token's EIP-712 domain.
    pub asset_version: String,
    /// The account that is paid.
    pub pay_to: String,
    /// Seconds that an offer can be taken for.
    #[serde(default = "default_offer_secs")]
    pub offer_secs: u64,
    /// x402 `batch-settlement`: offered when this section is there.
    #[serde(default)]
    pub x402: Option<X402Section>,
    /// MPP: `evm/session` is offered when this section names an escrow, `evm/charge` when there is [`PaymentSection::exact`] too.
    #[serde(default)]
    pub mpp: Option<MppSection>,
    /// Single payments, x402 `exact`: offered when this section is there, where the price is known before the delivery.
    #[serde(default)]
    pub exact: Option<ExactSection>,
}

/// `[payment.exact]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExactSection {
    /// How payments may be moved, one offer each, the preferred one first. MPP has the token's own way only.
    pub methods: Vec<MoveMethod>,
    /// Seconds that an offer can be taken for, and that what is signed for it is good for; 30 to 3,000.
    pub timeout_secs: u64,
    /// Offers single payments of the most that a request can cost, too, where its price is known at the end only. The whole is taken,
    /// whatever was used.
    pub take_ceiling: bool,
}

/// How a deposit or a single payment is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MoveMethod {
    /// By the token itself, where it has ERC-3009.
    Eip3009,
    /// By Permit2, through a contract of x402: any token that the payer has approved to Permit2.
    Permit2,
}

impl From<MoveMethod> for TransferMethod {
    fn from(method: MoveMethod) -> Self {
        match method {
            MoveMethod::Eip3009 => Self::Eip3009,
            MoveMethod::Permit2 => Self::Permit2,
        }
    }
}

/// The methods of a section, in its order.
pub(crate) fn transfer_methods(key: &str, section: &[MoveMethod]) -> Result<Vec<TransferMethod>, ConfigError> {
    let mut methods = Vec::new();
    for method in section.iter().copied().map(TransferMethod::from) {
        if methods.contains(&method) {
            return Err(ConfigError::value(key, "it names one twice"));
        }
        methods.push(method);
    }
    if methods.is_empty() { Err(ConfigError::value(key, "it names none")) } else { Ok(methods) }
}

fn default_methods() -> Vec<MoveMethod> {
    vec![MoveMethod::Eip3009]
}

impl Default for ExactSection {
    fn default() -> Self {
        Self { methods: default_methods(), timeout_secs: 300, take_ceiling: false }
    }
}

/// `[payment.x402]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct X402Section {
    /// The account that signs claims and refunds.
    pub receiver_authorizer: String,
    /// Seconds between a payer's request to withdraw and the withdrawal; 900 to 2,592,000.
    #[serde(default = "default_withdraw_delay_secs")]
    pub withdraw_delay_secs: u64,
    /// The least that a channel may be opened with, such as `0.10 USDC`. Without it the client decides.
    #[serde(default)]
    pub deposit_min: Option<String>,
    /// How deposits may be moved, one offer each, the preferred one first.
    #[serde(default = "default_methods")]
    pub methods: Vec<MoveMethod>,
}

/// `[payment.mpp]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MppSection {
    /// The escrow contract of sessions. Without it, no sessions are offered.
    #[serde(default)]
    pub escrow: Option<String>,
    /// File with the secret that offers are authenticated with: 32 bytes of hexadecimal, mode 600.
    pub secret_file: PathBuf,
    /// A deposit to suggest, such as `1 USDC`.
    #[serde(default)]
    pub deposit_suggested: Option<String>,
    /// The least that a new voucher must add, such as `0.0001 USDC`.
    #[serde(default)]
    pub voucher_delta_min: Option<String>,
    /// Seconds that a stream waits for a voucher when the reserve has run out.
    #[serde(default = "default_voucher_wait_secs")]
    pub voucher_wait_secs: u64,
}

/// `[ratecards]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RatecardsSection {
    /// The directory that cards are published into.
    pub dir: Option<PathBuf>,
    /// The accounts whose signature says prices. Empty for the account that is paid.
    pub signers: Vec<String>,
}

/// `[limits]`, and `limits` of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    /// Bytes of a request's body.
    pub request_bytes_max: Option<u64>,
    /// Bytes of a response's body that are delivered, where bytes are priced.
    pub response_bytes_max: Option<u64>,
    /// Tokens that a request may be answered with, where they are priced and the request says nothing, and the most it may ask for.
    pub output_tokens_max: Option<u64>,
    /// Tokens that a request may have, where they are priced. Without it, one for each byte of the request.
    pub input_tokens_max: Option<u64>,
    /// Images that a request may ask for, where they are priced.
    pub images_max: Option<u64>,
    /// Bytes of a response that are held back so that the head can carry the receipt; longer ones have it at the end.
    pub hold_bytes_max: Option<u64>,
}

/// `[timeouts]`, and `timeouts` of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutsSection {
    /// Seconds until the upstream has answered with a head and a first byte.
    pub first_byte_secs: Option<u64>,
    /// Seconds between two pieces of a body.
    pub idle_secs: Option<u64>,
    /// Seconds of a whole delivery, and the most that seconds are reserved for where they are priced.
    pub total_secs: Option<u64>,
}

/// `[[route]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSection {
    /// A path such as `/v1/models/{id}`; `{…}` is one segment, a `*` at the end any number of them.
    pub path: String,
    /// Methods; empty for all. `GET` has `HEAD` with it.
    #[serde(default)]
    pub methods: Vec<String>,
    /// `http://` or `https://` address that the request's path is appended to. Not for the tower layer.
    #[serde(default)]
    pub upstream: Option<String>,
    /// Speak HTTP/2 to an `http://` upstream without being asked. An `https://` one is asked by ALPN.
    #[serde(default)]
    pub upstream_http2: bool,
    /// A price such as `0.40 USDC / 1M output_token`. Exactly one of `price`, `card` and `free`.
    #[serde(default)]
    pub price: Option<String>,
    /// The name of a rate card, which says the price.
    #[serde(default)]
    pub card: Option<String>,
    /// Passed on without payment.
    #[serde(default)]
    pub free: bool,
    /// The least that something delivered costs, such as `0.0001 USDC`.
    #[serde(default)]
    pub minimum: Option<String>,
    /// Name of the tariff, which charges carry. Without it, the path.
    #[serde(default)]
    pub tariff: Option<String>,
    /// Version of the tariff. A changed price is a new version.
    #[serde(default = "default_tariff_version")]
    pub tariff_version: u32,
    /// What is sold, for people and agents.
    #[serde(default)]
    pub description: Option<String>,
    /// Media type of the answer.
    #[serde(default)]
    pub mime_type: Option<String>,
    /// What to charge when tokens are priced and a successful answer tells of none.
    #[serde(default)]
    pub without_usage: WithoutUsage,
    /// Answers that are charged.
    #[serde(default)]
    pub charge: ChargeOn,
    /// Adds `stream_options.include_usage` to the requests of streams that do not say, so that the upstream reports.
    #[serde(default)]
    pub request_usage: bool,
    /// Limits of this route.
    #[serde(default)]
    pub limits: LimitsSection,
    /// Timeouts of this route.
    #[serde(default)]
    pub timeouts: TimeoutsSection,
    /// What happens to headers.
    #[serde(default)]
    pub headers: HeadersSection,
}

/// What to charge when tokens are priced and a successful answer tells of none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithoutUsage {
    /// What was reserved: the most it can have cost. An upstream whose tokens cannot be counted must not be free.
    #[default]
    Ceiling,
    /// What is known: calls, bytes, seconds, and the minimum.
    Known,
}

/// Answers that are charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargeOn {
    /// Those with a status below 400.
    #[default]
    Success,
    /// All that the upstream gives.
    Answer,
}

/// `headers` of a route.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeadersSection {
    /// Headers of the request that the upstream does not get.
    pub remove: Vec<String>,
    /// Headers that the upstream gets in any case.
    pub set: BTreeMap<String, String>,
    /// Headers of the answer that the client does not get.
    pub remove_from_response: Vec<String>,
    /// Passes the client's own `Authorization` on, unless it is a payment.
    pub forward_authorization: bool,
    /// The gateway's own credential for the upstream.
    pub credential: Option<CredentialSection>,
}

/// `headers.credential` of a route: exactly one of `env` and `file`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialSection {
    /// The header.
    #[serde(default = "default_credential_header")]
    pub header: String,
    /// What stands before the secret, such as `Bearer `; the default for `authorization`.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Variable with the secret.
    #[serde(default)]
    pub env: Option<String>,
    /// File with the secret, without the white space around it.
    #[serde(default)]
    pub file: Option<PathBuf>,
}

const fn default_offer_secs() -> u64 {
    300
}

const fn default_withdraw_delay_secs() -> u64 {
    86_400
}

const fn default_voucher_wait_secs() -> u64 {
    30
}

const fn default_tariff_version() -> u32 {
    1
}

fn default_credential_header() -> String {
    "authorization".to_owned()
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4402)),
            public_url: None,
            name: "millstream".to_owned(),
            description: None,
            cors_origins: vec!["*".to_owned()],
            connections_max: 10_000,
            requests_max: 10_000,
            drain_secs: 30,
        }
    }
}

impl GatewayConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// Reads TOML.
    ///
    /// # Errors
    /// [`ConfigError::Toml`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Ok(toml::from_str(text)?)
    }

    /// One upstream behind one price: what the command line says.
    #[must_use]
    pub fn single(upstream: &str, price: &str, payment: PaymentSection) -> Self {
        Self {
            server: ServerSection::default(),
            payment,
            facilitator: None,
            policy: None,
            limits: LimitsSection::default(),
            timeouts: TimeoutsSection::default(),
            ratecards: RatecardsSection::default(),
            routes: vec![RouteSection { upstream: Some(upstream.to_owned()), price: Some(price.to_owned()), ..RouteSection::at("/*") }],
        }
    }
}

impl RouteSection {
    /// A route at a path, with neither price nor upstream yet.
    #[must_use]
    pub fn at(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            methods: Vec::new(),
            upstream: None,
            upstream_http2: false,
            price: None,
            card: None,
            free: false,
            minimum: None,
            tariff: None,
            tariff_version: default_tariff_version(),
            description: None,
            mime_type: None,
            without_usage: WithoutUsage::default(),
            charge: ChargeOn::default(),
            request_usage: false,
            limits: LimitsSection::default(),
            timeouts: TimeoutsSection::default(),
            headers: HeadersSection::default(),
        }
    }
}
