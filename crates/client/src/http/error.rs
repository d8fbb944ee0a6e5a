//! Why a request was not paid, or not answered; each says what was signed.

use std::sync::Arc;

use millstream_chain::ChainError;
use millstream_dialect::DialectError;
use millstream_policy::{ConfigError, Reason};
use millstream_types::{Address, Amount, AmountError, ChainId, CumulativeAmount, EscrowChannelId, Timestamp};
use millstream_voucher::evm::EvmError;

use super::asset::AssetId;
use super::book::BookError;

/// A limit that would be passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// One request.
    Request,
    /// One host in one day.
    HostDay,
    /// One day.
    Day,
    /// For ever.
    Total,
    /// The deposit of one channel.
    ChannelDeposit,
    /// All deposits.
    Deposits,
}

impl Limit {
    /// The name, as in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request_max",
            Self::HostDay => "host_day_max",
            Self::Day => "day_max",
            Self::Total => "total_max",
            Self::ChannelDeposit => "channel_deposit_max",
            Self::Deposits => "deposits_max",
        }
    }
}

/// Why an offer is not taken. Nothing was signed for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not understood.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] DialectError),
    /// A scheme, method or intent that is not spoken.
    #[error("{0} is not spoken")]
    Unspoken(String),
    /// The token is not allowed.
    #[error("the token {token} on chain {} is not allowed", chain)]
    UnknownAsset {
        /// The chain's id.
        chain: u64,
        /// The token.
        token: Address,
    },
    /// A limit would be passed.
    #[error("{} is {max} and {wanted} would be reached", limit.name())]
    Limit {
        /// Which.
        limit: Limit,
        /// Its value, in base units.
        max: Amount,
        /// What would be spent or deposited, in base units.
        wanted: Amount,
    },
    /// The server wants a larger deposit than it gets.
    #[error("it wants a deposit of {wanted} at least, and {max} is what a channel may have")]
    DepositMin {
        /// What it wants, in base units.
        wanted: Amount,
        /// What is allowed, in base units.
        max: Amount,
    },
    /// Another payee than this host had before.
    #[error("it pays {payee}, whom this host was not paid for before; allow that payee if it is meant")]
    AnotherPayee {
        /// Who would be paid.
        payee: Address,
    },
    /// Another token than this host was paid in before.
    #[error("it is in another token than this host was paid in before; allow that if it is meant")]
    AnotherAsset,
    /// The connection is not encrypted, and leaves this machine.
    #[error("payments go over https, or to this machine")]
    PlainHttp,
    /// No way to move the token that both sides know.
    #[error("no way to move the token: {0}")]
    NoWay(&'static str),
    /// The channel on these terms is not paid any more.
    #[error("channel {channel} is not paid any more: {reason}")]
    Suspended {
        /// The channel.
        channel: EscrowChannelId,
        /// Why.
        reason: String,
    },
    /// The offer has ended.
    #[error("it has ended")]
    Expired,
    /// The policy says no.
    #[error("{reason} (decision {decision})")]
    Policy {
        /// The decision's number, by which it can be explained; zero of one that was not kept.
        decision: u64,
        /// Why.
        reason: Box<Reason>,
    },
    /// It waits for an approval, and is held meanwhile.
    #[error("approval {approval} is waited for")]
    Approval {
        /// The approval's number.
        approval: u64,
        /// What the request costs at most, in base units.
        price: Amount,
        /// When it ends by itself.
        expires_at: Timestamp,
    },
}

/// What a request had signed when it failed. Amounts in base units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The request's id: with it the same payment is sent again, and no other.
    pub id: String,
    /// The token.
    pub asset: AssetId,
    /// The channel; none for a single payment.
    pub channel: Option<EscrowChannelId>,
    /// What the request can cost at most.
    pub price: Amount,
    /// What it is known to have cost; nothing while that is not known.
    pub charged: Option<Amount>,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpPayError {
    /// No offer of the server is taken. Nothing was signed.
    #[error("no offer of {origin} is taken: {}", list(offers))]
    NoOffer {
        /// Scheme, host and port.
        origin: String,
        /// What was offered, and why it is not taken.
        offers: Vec<(String, Refusal)>,
    },
    /// It costs so much that somebody has to approve it. What it may cost is held meanwhile, and nothing was signed; once it is approved, the
    /// same request goes on.
    #[error("{price} base units for {origin} wait for approval {approval}")]
    NeedsApproval {
        /// Scheme, host and port.
        origin: String,
        /// The approval's number.
        approval: u64,
        /// What it costs at most, in base units.
        price: Amount,
        /// When the approval ends by itself.
        expires_at: Timestamp,
    },
    /// The policy cannot be.
    #[error("the policy cannot be used")]
    Policy(#[from] ConfigError),
    /// The server cannot be reached, or did not answer; nothing was signed.
    #[error("no answer; nothing was signed")]
    Unreachable(#[source] reqwest::Error),
    /// A payment was sent and no answer came. It may have been charged. The same request with the same id sends the same payment again.
    #[error("no answer to request {} after its payment of at most {} was sent", signed.id, signed.price)]
    Unanswered {
        /// What was signed.
        signed: Box<Signed>,
        /// What the connection said.
        source: reqwest::Error,
    },
    /// The server did not take the payment.
    #[error("the payment of request {} was not taken: {reason}", signed.id)]
    NotTaken {
        /// What was signed.
        signed: Box<Signed>,
        /// The server's reason.
        reason: String,
    },
    /// The server says that it charged this request, and did not answer it. No second payment is made.
    #[error("request {} was charged and not answered; it is not paid again", signed.id)]
    ChargedNotAnswered {
        /// What was signed.
        signed: Box<Signed>,
    },
    /// The server claims to have charged more than was signed, or proves its claim with a signature that is not ours. The channel is not paid
    /// any more.
    #[error("the server claims {claimed} on channel {channel}, of which {bound} can be true: the channel is not paid any more")]
    FalseClaim {
        /// The channel.
        channel: EscrowChannelId,
        /// What the server says was charged in total.
        claimed: CumulativeAmount,
        /// What can have been charged in total before this request.
        bound: CumulativeAmount,
    },
    /// The id names another request.
    #[error("the id {id} was used for another request")]
    IdConflict {
        /// The id.
        id: String,
    },
    /// A request with this id is under way here.
    #[error("the request {id} is under way")]
    InFlight {
        /// The id.
        id: String,
    },
    /// A request that is paid is sent twice, and its body cannot be.
    #[error("the body is longer than {max} bytes, which is what is kept to send it a second time; nothing was sent")]
    BodyTooLong {
        /// The bound.
        max: usize,
    },
    /// The request's body failed before anything was sent.
    #[error("the request's body cannot be read; nothing was sent")]
    Body(#[source] reqwest::Error),
    /// The request brings a payment of its own.
    #[error("the request has a {header} of its own: leave paying to this payer")]
    OwnPayment {
        /// The header.
        header: &'static str,
    },
    /// An id that cannot travel.
    #[error("the request's id cannot be used")]
    Id(#[source] DialectError),
    /// The channel is not known here.
    #[error("channel {channel} is not in the book")]
    UnknownChannel {
        /// The channel.
        channel: EscrowChannelId,
    },
    /// Where the channel's server is, is not known: it was found on the chain.
    #[error("the server of channel {channel} is not known: it was found on the chain, and can be left there")]
    NoServer {
        /// The channel.
        channel: EscrowChannelId,
    },
    /// The channel has nothing to take.
    #[error("nothing is left in channel {channel}")]
    NothingLeft {
        /// The channel.
        channel: EscrowChannelId,
    },
    /// No endpoint of the chain is set.
    #[error("no endpoint of chain {chain} is set")]
    NoEndpoint {
        /// The chain.
        chain: ChainId,
    },
    /// The durable book failed. What was not written was not sent.
    #[error("the book of payments failed")]
    Book(#[from] BookError),
    /// The chain failed or is not available.
    #[error("the chain did not take it")]
    Chain(#[source] Arc<ChainError>),
    /// A payment cannot be written.
    #[error("the payment cannot be written")]
    Write(#[source] DialectError),
    /// The key does not sign.
    #[error("the key does not sign")]
    Sign(#[source] EvmError),
    /// Totals do not fit 128 bits.
    #[error("the amounts do not fit")]
    Amount(#[from] AmountError),
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Randomness,
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

impl HttpPayError {
    /// A stable word for it, in kebab-case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoOffer { offers, .. } => {
                let any = |of: fn(&Refusal) -> bool| offers.iter().any(|(_, refusal)| of(refusal));
                if any(|refusal| matches!(refusal, Refusal::Limit { .. })) {
                    "limit-reached"
                } else if any(|refusal| matches!(refusal, Refusal::Policy { .. })) {
                    "policy-refused"
                } else {
                    "no-offer-taken"
                }
            }
            Self::NeedsApproval { .. } => "approval-needed",
            Self::Policy(_) => "policy-invalid",
            Self::Unreachable(_) => "upstream-unreachable",
            Self::Unanswered { .. } => "unanswered",
            Self::NotTaken { .. } => "payment-not-taken",
            Self::ChargedNotAnswered { .. } => "charged-not-answered",
            Self::FalseClaim { .. } => "false-claim",
            Self::IdConflict { .. } => "id-conflict",
            Self::InFlight { .. } => "id-in-flight",
            Self::BodyTooLong { .. } => "body-too-large",
            Self::Body(_) => "body-broken",
            Self::OwnPayment { .. } => "own-payment",
            Self::Id(_) => "id-refused",
            Self::UnknownChannel { .. } => "channel-unknown",
            Self::NoServer { .. } => "server-unknown",
            Self::NothingLeft { .. } => "nothing-left",
            Self::NoEndpoint { .. } => "endpoint-missing",
            Self::Book(BookError::InUse { .. }) => "book-in-use",
            Self::Book(_) => "book-failed",
            Self::Chain(_) => "chain-failed",
            Self::Write(_) | Self::Sign(_) | Self::Amount(_) | Self::Randomness | Self::Client(_) => "fault",
        }
    }

    /// What was signed for the request; nothing when nothing was.
    #[must_use]
    pub const fn signed(&self) -> Option<&Signed> {
        match self {
            Self::Unanswered { signed, .. } | Self::NotTaken { signed, .. } | Self::ChargedNotAnswered { signed } => Some(signed),
            _ => None,
        }
    }

    /// Whether the same request with the same id may succeed later, and costs nothing more.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Unanswered { .. } | Self::InFlight { .. } | Self::NeedsApproval { .. })
    }
}

fn list(offers: &[(String, Refusal)]) -> String {
    if offers.is_empty() {
        return "it made none".to_owned();
    }
    offers.iter().map(|(what, why)| format!("{what}: {why}")).collect::<Vec<_>>().join("; ")
}

/// Why no deposit was signed: the offer is not taken, or something failed.
#[derive(Debug)]
pub(super) enum Unsigned {
    Refused(Refusal),
    Failed(HttpPayError),
}

impl Unsigned {
    /// The error, with what a refused offer becomes.
    pub(super) fn or_refused(self, refused: impl FnOnce(Refusal) -> HttpPayError) -> HttpPayError {
        match self {
            Self::Refused(refusal) => refused(refusal),
            Self::Failed(error) => error,
        }
    }
}

impl From<Refusal> for Unsigned {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<HttpPayError> for Unsigned {
    fn from(error: HttpPayError) -> Self {
        Self::Failed(error)
    }
}

impl From<BookError> for Unsigned {
    fn from(error: BookError) -> Self {
        Self::Failed(error.into())
    }
}
