//! The port: what the gateway needs of whoever keeps the money.
//!
//! The gateway defines it, a node implements it over its durable engine. The gateway has checked what can be checked without state: formats, the
//! terms of the offer, signatures of keys. The implementation decides with state: deposits, totals, budgets; and it is the only one that
//! remembers.
//!
//! **Every method is durable before it answers.** An answer is a promise: what it says holds after a crash a moment later. A method may be
//! called again with the same arguments after [`PortError::Unavailable`]; it must not take effect twice.
//!
//! # One charge
//!
//! ```text
//!             reserve ──▶ mark ──▶ mark* ──▶ capture
//!                │          └── extend* ──────▲
//!                └──▶ void
//! ```
//!
//! [`reserve`](ChargePort::reserve) holds an amount under what is signed and not yet charged or held. [`mark`](ChargePort::mark) says what was
//! delivered so far: nothing, before the first byte leaves, and then the cost now and then. [`capture`](ChargePort::capture) charges what was
//! used, at most what is held, and frees the rest. [`void`](ChargePort::void) frees all of it.
//!
//! **After a crash** a reservation is captured at what was last marked, and the rest is released: the payer never pays for what may not have been
//! delivered, and the provider loses at most what was delivered since the last mark.
//!
//! # One single payment
//!
//! ```text
//!             hold ──▶ collect
//!               └──▶ void
//! ```
//!
//! [`hold`](SinglePort::hold) looks whether the payment can be collected, and keeps its authorisation for one request. The upstream answers.
//! [`collect`](SinglePort::collect) sends the payment to the chain and waits for it; the answer leaves when that has ended well.
//! [`void`](SinglePort::void) lets go of it. **Nothing is sent before the upstream has answered, nothing leaves before it is sent, and no
//! authorisation is delivered for twice.**

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use millstream_tariff::{Cost, TariffVersion, Usage};
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId};
use millstream_voucher::evm::Signer;
use tokio::sync::watch;

use crate::meter::UsageSource;
use crate::tender::{SinglePayment, Tender};

/// What a method of the port gives.
pub type PortFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, PortError>> + Send + 'a>>;

/// Who keeps the money. See the [module](self) for the rules.
pub trait ChargePort: Send + Sync + 'static {
    /// Where a channel stands. `None`: nobody here knows it.
    fn standing(&self, channel: EscrowChannelId) -> PortFuture<'_, Option<Standing>>;

    /// A channel's standing, told again whenever its voucher, its deposit or what is held on it changes. For streams that wait for a voucher.
    fn watch(&self, channel: EscrowChannelId) -> PortFuture<'_, watch::Receiver<Standing>>;

    /// Takes the tender's voucher, and first its deposit if it has one; then holds an amount for a request.
    fn reserve(&self, reserve: Reserve) -> PortFuture<'_, Reserved>;

    /// Takes a voucher, with or without a deposit, without holding anything: a session's voucher between or during requests. One that is not
    /// above the accepted one changes nothing and is no error.
    fn accept(&self, tender: Tender) -> PortFuture<'_, Accepted>;

    /// Raises what is held to `at_most`, or as far towards it as is available; answers what is held then. Never lowers it.
    fn extend(&self, reservation: ReservationId, at_most: Amount) -> PortFuture<'_, Amount>;

    /// At least this much was delivered. Costs never go down; the first mark, before anything leaves, is of nothing.
    fn mark(&self, reservation: ReservationId, delivered: Cost) -> PortFuture<'_, ()>;

    /// Charges what was used and frees the rest. The amount is the capture's cost after the channel's carry is taken off
    /// ([`Carry::charge_up`](millstream_tariff::Carry::charge_up)), and at most what is held. The gateway never captures less than it has marked.
    fn capture(&self, reservation: ReservationId, capture: Capture) -> PortFuture<'_, Charge>;

    /// Frees what is held and charges nothing. Only while nothing has left.
    fn void(&self, reservation: ReservationId, reason: VoidReason) -> PortFuture<'_, ()>;

    /// Ends a channel, or pays a part of its deposit back, as its payer asks.
    fn release(&self, release: Release) -> PortFuture<'_, Released>;

    /// Whoever takes single payments. Nothing: only channels are taken, and a configuration with `[payment.exact]` is refused.
    fn singles(&self) -> Option<&dyn SinglePort> {
        None
    }
}

/// Single payments: x402 `exact`, MPP `charge`. See the [module](self) for the rules.
pub trait SinglePort: Send + Sync + 'static {
    /// Checks with the chain that the payment could be collected now, and holds it for a request. Nothing is sent.
    fn hold(&self, hold: HoldOnce) -> PortFuture<'_, HeldOnce>;

    /// Sends the payment and waits until it is mined, at most as long as the implementation says; one that is on its way by then is collected
    /// as far as anybody can see, and [`Collected::is_mined`] says that it is not there yet. After an error nothing was taken, and nothing may
    /// be delivered: after [`PortError::Unavailable`] the payment is still held, after [`PortError::Rejected`] it is not.
    fn collect(&self, reservation: ReservationId, capture: Capture) -> PortFuture<'_, Collected>;

    /// Lets go of it: nothing is sent, and the authorisation may be shown again.
    fn void(&self, reservation: ReservationId, reason: VoidReason) -> PortFuture<'_, ()>;
}

/// A reservation's number: the implementation's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId(pub u128);

/// What the client calls the request, so that a retry is not another one: x402's `payment-identifier`, MPP's `Idempotency-Key`.
///
/// 1 to 128 visible ASCII characters. It is the channel's own: others may use the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogicalId(Arc<str>);

impl LogicalId {
    /// From its text; `None` when it is empty, longer than 128, or has other characters.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let sound = (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        sound.then(|| Self(text.into()))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LogicalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a request asks to have held.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// Channel, voucher and deposit.
    pub tender: Tender,
    /// The most the request can cost, in base units.
    pub ceiling: Amount,
    /// The least that must be held for the delivery to begin: the ceiling itself, or less where more can be held on the way.
    pub at_least: Amount,
    /// The gateway's name for the request.
    pub request: RequestId,
    /// The client's, if it gave one. The same id with another fingerprint is [`Rejection::IdConflict`].
    pub logical: Option<LogicalId>,
    /// SHA-256 over method, path, query and, where it was read, the body.
    pub fingerprint: [u8; 32],
    /// The prices it is made under.
    pub tariff: TariffVersion,
    /// The path pattern of the route, for budgets and statements.
    pub route: Arc<str>,
}

/// A request's name: `req_` and 26 characters that sort by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) Arc<str>);

impl RequestId {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What [`ChargePort::reserve`] did.
#[derive(Clone, Debug)]
pub enum Reserved {
    /// An amount is held for this request alone.
    Held {
        /// To go on with.
        reservation: ReservationId,
        /// What is held.
        amount: Amount,
        /// The channel, with it.
        standing: Standing,
        /// What its deposit did on the chain.
        funded: Option<Funded>,
    },
    /// The logical id was charged before, for the same request. Nothing is held now.
    AlreadyCharged(Charge),
}

/// What [`ChargePort::accept`] did.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The channel after it.
    pub standing: Standing,
    /// What its deposit did on the chain.
    pub funded: Option<Funded>,
}

/// A deposit that the chain has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Funded {
    /// Hash of the transaction, `0x` and hexadecimal.
    pub transaction: String,
    /// What it added, in base units.
    pub amount: Amount,
}

/// Where a channel stands, in base units. `reserved + charged ≤ accepted ≤ announced`, and `settled ≤ charged`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The channel.
    pub channel: EscrowChannelId,
    /// Who pays, and is paid back.
    pub payer: Address,
    /// Whose signature its vouchers carry.
    pub signer: Signer,
    /// Its confirmed deposit, withdrawals and refunds taken off.
    pub deposit: Amount,
    /// What the deposit will be once what was sent for the payer is confirmed, where payments may rest on that; else the deposit. Clients are
    /// told this one: by the other they would deposit again.
    pub announced: Amount,
    /// The highest voucher.
    pub accepted: CumulativeAmount,
    /// That voucher's signature, as it came; nothing before the first.
    pub accepted_signature: Option<Vec<u8>>,
    /// Captured.
    pub charged: CumulativeAmount,
    /// Held for deliveries under way.
    pub reserved: Amount,
    /// Taken on the chain.
    pub settled: CumulativeAmount,
    /// Seconds since the Unix epoch at which the payer asked for its rest on the chain; nothing when it has not.
    pub withdraw_requested_at_secs: Option<u64>,
    /// x402: the nonce of the next refund.
    pub refund_nonce: u64,
}

impl Standing {
    /// Signed, and neither charged nor held.
    #[must_use]
    pub fn available(&self) -> Amount {
        let charged = self.accepted.delta_since(self.charged).unwrap_or(Amount::ZERO);
        charged.checked_sub(self.reserved).unwrap_or(Amount::ZERO)
    }
}

/// What was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// What it costs, exactly.
    pub cost: Cost,
    /// What was counted.
    pub usage: Usage,
    /// Where its tokens come from.
    pub source: UsageSource,
    /// SHA-256 of the delivered bytes.
    pub delivered_sha256: [u8; 32],
    /// Whether the answer was delivered to its end.
    pub complete: bool,
}

/// A charge that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// What was charged for this request, in base units.
    pub amount: Amount,
    /// The channel after it.
    pub standing: Standing,
    /// The node's receipt for it, `rcp_…`.
    pub receipt: String,
}

/// Why nothing is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoidReason {
    /// The upstream could not be reached, or gave nothing in time.
    UpstreamFailed,
    /// The upstream answered with a status that is not charged.
    UpstreamStatus(u16),
    /// The client left before anything was delivered.
    ClientLeft,
    /// A single payment could not be collected, so nothing was delivered.
    Uncollected,
}

/// A single payment that is to be held for a request.
#[derive(Clone, Debug)]
pub struct HoldOnce {
    /// The payment.
    pub payment: SinglePayment,
    /// The gateway's name for the request.
    pub request: RequestId,
    /// The client's, if it gave one. The same id with another fingerprint or another authorisation is [`Rejection::IdConflict`]. Without one,
    /// the authorisation itself names the request.
    pub logical: Option<LogicalId>,
    /// As in [`Reserve::fingerprint`].
    pub fingerprint: [u8; 32],
    /// The prices it is made under.
    pub tariff: TariffVersion,
    /// The path pattern of the route, for budgets and statements.
    pub route: Arc<str>,
}

/// What [`SinglePort::hold`] did.
#[derive(Clone, Debug)]
pub enum HeldOnce {
    /// It is held for this request alone.
    Held {
        /// To go on with.
        reservation: ReservationId,
    },
    /// It was collected before, for the same request. Nothing is held now.
    AlreadyCollected(Collected),
}

/// A single payment that was collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// What was charged, in base units: the whole payment.
    pub amount: Amount,
    /// Hash of its transaction, `0x` and hexadecimal. Nothing when somebody else sent it, and which one it was is not known.
    pub transaction: Option<String>,
    /// Whether it was seen in a block. If not, it is on its way.
    pub is_mined: bool,
    /// The node's receipt for it, `rcp_…`.
    pub receipt: String,
}

/// A payer's wish to have its deposit back.
#[derive(Clone, Debug)]
pub struct Release {
    /// The channel, with a last voucher.
    pub tender: Tender,
    /// How.
    pub kind: ReleaseKind,
}

/// How a deposit is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseKind {
    /// x402: so much of it, or all that is free. The channel stays usable.
    Refund {
        /// Base units; nothing for all.
        amount: Option<Amount>,
    },
    /// MPP: the session ends.
    Close,
}

/// What was given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// Hash of the transaction, `0x` and hexadecimal.
    pub transaction: String,
    /// What the payer got, in base units.
    pub amount: Amount,
    /// The channel after it.
    pub standing: Standing,
}

/// Why the port did not do it. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// The payer is wrong, or has too little.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Later, the same call may work.
    #[error("the ledger cannot commit now")]
    Unavailable {
        /// Milliseconds to wait.
        retry_after_millis: u64,
    },
    /// Our own mistake.
    #[error("the ledger failed: {reason}")]
    Fault {
        /// For the log; clients do not see it.
        reason: String,
    },
}

/// Why the chain does not take a single payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Uncollectable {
    /// The payer has too little of the token.
    Balance,
    /// Permit2 may not move that much of the payer's token.
    Allowance,
    /// The contract that it goes through is not on the chain.
    NoContract,
    /// It would be reverted, for another reason.
    Simulation,
    /// It was sent, and was reverted or went another way.
    Transaction,
}

/// Why a payer is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Nobody here knows the channel, and the tender opens none.
    #[error("the channel is not known here")]
    UnknownChannel,
    /// The channel was closed for good.
    #[error("the channel is closed")]
    ChannelClosed,
    /// The payer has asked for its rest on the chain, or may have: nothing is taken any more.
    #[error("the channel is being closed")]
    ChannelClosing,
    /// Where one request is under way at a time, another is.
    #[error("another request is under way on this channel")]
    ChannelBusy(Box<Standing>),
    /// x402: the voucher is not exactly what was charged and the price.
    #[error("the voucher is over {found}, and must be over exactly {expected}")]
    TotalMismatch {
        /// What it must say.
        expected: CumulativeAmount,
        /// What it says.
        found: CumulativeAmount,
        /// The channel, for the payer to go on from.
        standing: Box<Standing>,
    },
    /// The voucher is not above what was settled on the chain.
    #[error("the voucher is not above what was settled")]
    BelowSettled(Box<Standing>),
    /// The voucher adds less than vouchers have to.
    #[error("the voucher adds less than {minimum}")]
    DeltaTooSmall {
        /// The least, in base units.
        minimum: Amount,
    },
    /// The voucher is over more than the deposit.
    #[error("the voucher is over more than the deposit")]
    AboveDeposit(Box<Standing>),
    /// Too little is signed and free for the request.
    #[error("too little is signed: the total must reach {required}")]
    Insufficient {
        /// What the next voucher must be over, at least.
        required: CumulativeAmount,
        /// The channel.
        standing: Box<Standing>,
    },
    /// The logical id was used for another request.
    #[error("the id was used for another request")]
    IdConflict,
    /// The logical id's first request is still under way.
    #[error("the request with this id is still under way")]
    IdInFlight,
    /// The signature needs a contract's word, and the contract says no.
    #[error("the signature is not the payer's")]
    BadSignature,
    /// The deposit was refused, by the rules of its kind.
    #[error("the deposit is refused: {reason}")]
    DepositRefused {
        /// One of the dialect's own words for it, or a sentence.
        reason: String,
    },
    /// A transaction was sent and reverted.
    #[error("the transaction was reverted: {reason}")]
    Reverted {
        /// What the contract said.
        reason: String,
    },
    /// The authorisation of a single payment was used: by an earlier request, or on the chain.
    #[error("the authorisation was used before")]
    AuthorizationUsed,
    /// The authorisation of a single payment ends before it could be collected, or would have to be remembered for too long.
    #[error("the authorisation ends too early or too late")]
    AuthorizationTimes,
    /// The chain would not, or did not, take a single payment.
    #[error("the payment cannot be collected: {reason}")]
    Uncollectable {
        /// Why.
        why: Uncollectable,
        /// What the chain said.
        reason: String,
    },
    /// An earlier single payment of this payer was delivered for and could not be collected.
    #[error("an earlier payment of this payer could not be collected")]
    PayerInDefault,
    /// It costs so much that the provider's operator has to approve it. The same payment, sent again, goes on once that is done.
    #[error("approval {approval} of the provider is waited for")]
    NeedsApproval {
        /// The approval's number.
        approval: u64,
    },
    /// A budget, a list or a breaker says no.
    #[error("refused by policy: {rule}")]
    Policy {
        /// The rule's id.
        rule: String,
    },
}
