//! What goes into the engine about escrows, and what is answered.

use bytes::Bytes;
use millstream_tariff::Cost;
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Timestamp};
use millstream_voucher::evm::VerifiedEscrowVoucher;

use super::channel::{EscrowStatus, EscrowTotals, Exit};
use super::charge::Outcome;
use super::id::{AuthorizationId, ClaimId, EscrowId, Fingerprint, RequestId};
use super::rejection::EscrowRejection;
use super::terms::{Escrow, EscrowTerms};
use crate::ChainCursor;

/// What was measured for a charge; the engine only keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Version of the prices that were applied.
    pub price_version: u32,
    /// What was delivered, at most [`super::METER_BYTES_MAX`].
    pub units: Bytes,
}

/// Holds a part of what is accepted on a channel for a delivery.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// The channel.
    pub channel: EscrowChannelId,
    /// The request.
    pub request: RequestId,
    /// What it asks for.
    pub fingerprint: Fingerprint,
    /// What it may cost.
    pub ceiling: Amount,
    /// The least that has to be held for it: the ceiling itself, or less where more can be held on the way. Above the ceiling it is the ceiling.
    pub at_least: Amount,
    /// The voucher that came with it.
    pub voucher: Option<VerifiedEscrowVoucher>,
    /// What the store knows of the request; see [`crate::Engine::needs_outcome`].
    pub stored: Option<Outcome>,
}

/// Holds a single payment for a delivery.
#[derive(Clone, Debug)]
pub struct ReserveOnce {
    /// The authorisation, verified, of the payment.
    pub authorization: AuthorizationId,
    /// The escrow whose token it is in: for a single payment the number names the token only.
    pub escrow: EscrowId,
    /// Who pays.
    pub payer: Address,
    /// Who is paid.
    pub receiver: Address,
    /// What it pays, whole.
    pub amount: Amount,
    /// When the chain stops taking it.
    pub valid_until: Timestamp,
    /// What whoever sends it needs, at most [`super::TRANSFER_BYTES_MAX`]. The engine only keeps it.
    pub transfer: Bytes,
    /// The request.
    pub request: RequestId,
    /// What it asks for.
    pub fingerprint: Fingerprint,
    /// What the store knows of the request.
    pub stored: Option<Outcome>,
}

/// One row of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimRow {
    /// The channel.
    pub channel: EscrowChannelId,
    /// What will have been claimed on it.
    pub total: CumulativeAmount,
}

/// Something that happened to an escrow.
#[derive(Clone, Debug)]
pub enum EscrowInput {
    /// The operator serves an escrow: told at every start. What may change of it is [`StepRule::Monotone`](super::StepRule)'s smallest step
    /// and the optimistic limit.
    Serve(Escrow),
    /// Resolves what a crash left open. Comes first after a start, before any other input.
    Resume,
    /// A deposit was sent to the chain and is not confirmed: the channel will have this deposit then.
    Announce {
        /// The channel's terms.
        terms: EscrowTerms,
        /// The gross deposit after it.
        deposit: Amount,
    },
    /// What was announced will not come.
    AnnouncementFailed {
        /// The channel.
        channel: EscrowChannelId,
    },
    /// Asks for a channel.
    Show {
        /// The channel.
        channel: EscrowChannelId,
    },
    /// A payer authorises more, without a request.
    Voucher {
        /// The voucher.
        voucher: VerifiedEscrowVoucher,
    },
    /// See [`Reserve`].
    Reserve(Reserve),
    /// See [`ReserveOnce`].
    ReserveOnce(ReserveOnce),
    /// A delivery under way costs more than was reserved.
    Extend {
        /// The request.
        request: RequestId,
        /// What it may cost now, all in all.
        ceiling: Amount,
        /// The least of it that has to be held: with less than the ceiling, what is available is.
        at_least: Amount,
        /// The voucher that came with it.
        voucher: Option<VerifiedEscrowVoucher>,
    },
    /// What is delivered next is charged, whatever happens: comes before it is delivered.
    Mark {
        /// The request.
        request: RequestId,
        /// What its delivery costs so far, all in all.
        delivered: Cost,
        /// What was measured so far.
        meter: Meter,
    },
    /// The delivery is done.
    Capture {
        /// The request.
        request: RequestId,
        /// What it costs, exactly: what is charged is this after the channel's carry is taken off, rounded up.
        cost: Cost,
        /// What was measured.
        meter: Meter,
        /// What the store knows of the request.
        stored: Option<Outcome>,
    },
    /// The delivery failed: what was marked as delivered is captured, the rest released.
    Void {
        /// The request.
        request: RequestId,
        /// What the store knows of the request.
        stored: Option<Outcome>,
    },
    /// A claim is about to be sent: this comes first, and is durable before it is.
    ClaimSubmitted {
        /// The escrow.
        escrow: EscrowId,
        /// The rows.
        rows: Vec<ClaimRow>,
        /// What finds the transaction again after a restart, at most [`super::CLAIM_BYTES_MAX`].
        transaction: Bytes,
    },
    /// Another version of a claim's transaction is about to be sent.
    ClaimSigned {
        /// The claim.
        claim: ClaimId,
        /// What finds this version, too; as in [`EscrowInput::ClaimSubmitted`].
        transaction: Bytes,
    },
    /// The claim was mined. Its rows count when the chain has confirmed them.
    ClaimLanded {
        /// The claim.
        claim: ClaimId,
    },
    /// The claim failed and will not land.
    ClaimFailed {
        /// The claim.
        claim: ClaimId,
        /// The row that made it fail, if that was found out: it is put into quarantine.
        row: Option<EscrowChannelId>,
        /// Why.
        reason: String,
    },
    /// A channel cannot be claimed on, as was found out before anything was sent.
    Quarantine {
        /// The channel.
        channel: EscrowChannelId,
        /// Why.
        reason: String,
    },
    /// A channel may be claimed on again.
    Release {
        /// The channel.
        channel: EscrowChannelId,
    },
    /// A sweep is about to be sent.
    SweepSubmitted {
        /// The escrow.
        escrow: EscrowId,
        /// Whose money.
        receiver: Address,
        /// What finds the transaction again after a restart.
        transaction: Bytes,
    },
    /// The sweep failed and will not land.
    SweepFailed {
        /// The escrow.
        escrow: EscrowId,
        /// Whose money.
        receiver: Address,
    },
    /// A delivery that a single payment pays is ready to leave, and the payment about to be sent: charged and submitted in one step, so that
    /// neither is without the other.
    CollectOnce {
        /// The request.
        request: RequestId,
        /// What was measured.
        meter: Meter,
        /// What finds the transaction again after a restart, at most [`super::TRANSFER_BYTES_MAX`].
        transaction: Bytes,
    },
    /// A single payment is about to be sent, or another version of its transaction.
    PaymentSubmitted {
        /// The authorisation.
        authorization: AuthorizationId,
        /// What finds the transaction again after a restart.
        transaction: Bytes,
    },
    /// A single payment failed and will not land.
    PaymentFailed {
        /// The authorisation.
        authorization: AuthorizationId,
        /// Why.
        reason: String,
        /// Whether it was delivered for: the payer is refused until it has paid, or for a while. If not, this is the record that what was
        /// charged is void.
        is_owed: bool,
    },
}

impl EscrowInput {
    /// Takes what the store knows of the request; see [`crate::Engine::needs_outcome`].
    pub fn found(&mut self, outcome: Outcome) {
        match self {
            Self::Reserve(Reserve { stored, .. })
            | Self::ReserveOnce(ReserveOnce { stored, .. })
            | Self::Capture { stored, .. }
            | Self::Void { stored, .. } => *stored = Some(outcome),
            Self::Serve(_)
            | Self::Resume
            | Self::Announce { .. }
            | Self::AnnouncementFailed { .. }
            | Self::Show { .. }
            | Self::Voucher { .. }
            | Self::Extend { .. }
            | Self::Mark { .. }
            | Self::ClaimSubmitted { .. }
            | Self::ClaimSigned { .. }
            | Self::ClaimLanded { .. }
            | Self::ClaimFailed { .. }
            | Self::Quarantine { .. }
            | Self::Release { .. }
            | Self::SweepSubmitted { .. }
            | Self::SweepFailed { .. }
            | Self::CollectOnce { .. }
            | Self::PaymentSubmitted { .. }
            | Self::PaymentFailed { .. } => {}
        }
    }
}

/// What an escrow's logs say, at the confirmation depth and in their order. Amounts in base units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EscrowFact {
    /// A channel exists. May be told again.
    Opened(EscrowTerms),
    /// The gross deposit is this now: all that was deposited, less what was withdrawn and refunded.
    Deposited {
        /// The channel.
        channel: EscrowChannelId,
        /// The deposit.
        deposit: Amount,
    },
    /// This much was claimed, all in all.
    Claimed {
        /// The channel.
        channel: EscrowChannelId,
        /// The total.
        total: CumulativeAmount,
    },
    /// The payer asked for money back, or changed what it asked for.
    ExitRequested {
        /// The channel.
        channel: EscrowChannelId,
        /// What and when.
        exit: Exit,
    },
    /// The payer stays, or nothing is left of what it asked for.
    ExitCancelled {
        /// The channel.
        channel: EscrowChannelId,
    },
    /// The payer took money back; its exit is done.
    Withdrawn {
        /// The channel.
        channel: EscrowChannelId,
        /// How much.
        amount: Amount,
    },
    /// The provider gave money back.
    Refunded {
        /// The channel.
        channel: EscrowChannelId,
        /// How much.
        amount: Amount,
        /// What is left of a pending exit.
        exit: Option<Exit>,
    },
    /// The channel is closed for ever.
    Closed {
        /// The channel.
        channel: EscrowChannelId,
    },
    /// What had been claimed for a receiver was paid out.
    Swept {
        /// The escrow.
        escrow: EscrowId,
        /// To whom.
        receiver: Address,
        /// How much.
        amount: Amount,
    },
    /// A single payment was made.
    Paid {
        /// The authorisation.
        authorization: AuthorizationId,
    },
    /// Every fact up to here was given.
    Seen {
        /// The escrow.
        escrow: EscrowId,
        /// How far its logs were read.
        cursor: ChainCursor,
    },
    /// The chain was reorganised below the confirmation depth: everything that it had said of this escrow is taken back and told again.
    Reset {
        /// The escrow.
        escrow: EscrowId,
    },
}

/// The answer to an [`EscrowInput`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EscrowAnswer {
    /// It is done; there is nothing more to say.
    Done,
    /// The claim is written down.
    Claim(ClaimId),
    /// The channel.
    Channel(Box<EscrowSnapshot>),
    /// Reserved, or raised.
    Reserved {
        /// What is reserved for the request, all in all.
        ceiling: Amount,
        /// The channel's totals; nothing for a single payment.
        totals: Option<EscrowTotals>,
    },
    /// The same request is under way already.
    UnderWay {
        /// What is reserved for it.
        ceiling: Amount,
        /// What of it was marked as delivered.
        delivered: Cost,
    },
    /// What of the request is marked as delivered.
    Marked {
        /// All in all.
        delivered: Cost,
    },
    /// The request was charged, now or earlier.
    Charged {
        /// How it ended.
        outcome: Outcome,
        /// Earlier: by this request in an earlier attempt, by a crash or by time.
        is_repeated: bool,
        /// The channel's totals; nothing for a single payment, nor for one that ended earlier.
        totals: Option<EscrowTotals>,
    },
    /// Nothing was charged, and the request may be made again.
    Voided,
    /// The input changed nothing.
    Rejected {
        /// Why.
        rejection: EscrowRejection,
        /// The channel as it is, if there is one.
        channel: Option<Box<EscrowSnapshot>>,
    },
}

/// A channel as its payer may see it, and as a corrective answer needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscrowSnapshot {
    /// Its terms.
    pub terms: EscrowTerms,
    /// Whether it takes payments.
    pub status: EscrowStatus,
    /// Its totals.
    pub totals: EscrowTotals,
    /// Whether the payer is leaving.
    pub exit: Option<Exit>,
    /// Requests under way.
    pub requests: u32,
    /// The best voucher.
    pub voucher: Option<VerifiedEscrowVoucher>,
}
