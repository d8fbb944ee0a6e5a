//! What a caller did wrong, in the order of the checks (spec ).

use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Hash256, Timestamp};

use super::channel::FrozenWhy;
use super::id::{AuthorizationId, ClaimId, EscrowId, RequestId};

/// Why an input about an escrow changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EscrowRejection {
    /// Opaque bytes of the caller's are too many.
    #[error("{actual} bytes where at most {max} are kept")]
    TooManyBytes {
        /// The bound.
        max: usize,
        /// What came.
        actual: usize,
    },
    /// No such escrow.
    #[error("no escrow has the number {escrow}")]
    UnknownEscrow {
        /// The number.
        escrow: EscrowId,
    },
    /// An escrow's number was given to another one, or its rules were changed.
    #[error("the number {escrow} belongs to an escrow with other rules")]
    EscrowChanged {
        /// The number.
        escrow: EscrowId,
    },
    /// No such channel.
    #[error("the channel is not known")]
    UnknownChannel,
    /// The terms are not the channel's.
    #[error("the channel has other terms")]
    OtherTerms,
    /// The voucher is for another channel.
    #[error("the voucher is for the channel {actual}")]
    WrongChannel {
        /// The voucher's.
        actual: EscrowChannelId,
    },
    /// The voucher was verified for another escrow.
    #[error("the voucher was signed for the domain {actual}, not for the escrow's {expected}")]
    WrongEscrow {
        /// The escrow's.
        expected: Hash256,
        /// The voucher's.
        actual: Hash256,
    },
    /// The voucher is not the signer's.
    #[error("the voucher is signed by {actual}, not by {expected}")]
    WrongSigner {
        /// Who signs for the channel.
        expected: Address,
        /// Who signed.
        actual: Address,
    },
    /// The request's id was used for something else.
    #[error("the request's id was used for another request")]
    Conflict,
    /// The channel was closed on the chain.
    #[error("the channel is closed")]
    Closed,
    /// The channel is frozen.
    #[error("the channel is frozen ({why:?})")]
    Frozen {
        /// Why.
        why: FrozenWhy,
    },
    /// A claim on the channel cannot succeed.
    #[error("the channel is in quarantine: it cannot be claimed on")]
    Quarantined,
    /// The payer asked to close.
    #[error("the payer is closing the channel")]
    Closing {
        /// When it can.
        finalises_at: Timestamp,
    },
    /// A request is under way, and the step rule allows one.
    #[error("another request is under way on the channel")]
    Busy,
    /// Too many requests are under way.
    #[error("{max} requests are under way on the channel")]
    TooManyRequests {
        /// The bound.
        max: u32,
    },
    /// Amounts that do not fit.
    #[error("the total would not fit")]
    TooLarge,
    /// Not the one total that may follow.
    #[error("the voucher's total has to be exactly {expected}")]
    WrongStep {
        /// What was charged and what the request may cost.
        expected: CumulativeAmount,
        /// The voucher's, if there was one.
        actual: Option<CumulativeAmount>,
    },
    /// A step that is too small.
    #[error("the voucher's total {actual} is less than {min} above the accepted {accepted}")]
    DeltaTooSmall {
        /// The smallest step.
        min: Amount,
        /// The accepted total.
        accepted: CumulativeAmount,
        /// The voucher's.
        actual: CumulativeAmount,
    },
    /// Above what the deposit covers.
    #[error("the total {actual} is above the {limit} that the deposit covers")]
    DepositExceeded {
        /// What may rest on the deposit now.
        limit: Amount,
        /// The total.
        actual: CumulativeAmount,
    },
    /// Above what will be left when a withdrawal finalises, and too late to claim before it does.
    #[error("the total {actual} is above the {limit} that a withdrawal leaves")]
    Withdrawing {
        /// What the withdrawal leaves.
        limit: Amount,
        /// The total.
        actual: CumulativeAmount,
        /// When it can finalise.
        finalises_at: Timestamp,
    },
    /// More than was authorised.
    #[error("the request needs a voucher for {required}, and {accepted} is accepted")]
    Insufficient {
        /// The total that is needed.
        required: CumulativeAmount,
        /// The accepted total, a voucher of this request included.
        accepted: CumulativeAmount,
    },
    /// No such request is under way, and no outcome of it is kept.
    #[error("the request {request} is not known")]
    UnknownRequest {
        /// The request.
        request: RequestId,
    },
    /// More than was reserved.
    #[error("{actual} is more than the reserved {reserved}")]
    BeyondReserved {
        /// What is reserved.
        reserved: Amount,
        /// What was asked for.
        actual: Amount,
    },
    /// Less than was already marked as delivered.
    #[error("{actual} is less than the delivered {delivered}")]
    BelowDelivered {
        /// What was marked.
        delivered: Amount,
        /// What was asked for.
        actual: Amount,
    },
    /// A single payment is charged whole or not at all.
    #[error("a single payment of {expected} cannot be charged {actual}")]
    NotWhole {
        /// Its amount.
        expected: Amount,
        /// What was asked for.
        actual: Amount,
    },
    /// The authorisation of a single payment was used.
    #[error("the authorisation was used by another request")]
    AuthorizationUsed,
    /// What was delivered for an earlier single payment of this payer could not be collected.
    #[error("the payer's earlier payment {authorization} could not be collected")]
    PayerInDefault {
        /// That payment's.
        authorization: AuthorizationId,
    },
    /// The authorisation ends before it could be used.
    #[error("the authorisation has ended, or will before it can be used")]
    AuthorizationEnding {
        /// When it ends.
        valid_until: Timestamp,
    },
    /// The authorisation would have to be remembered for too long.
    #[error("the authorisation is valid for more than {max_millis} milliseconds")]
    AuthorizationTooLong {
        /// The bound.
        max_millis: u64,
    },
    /// No such authorisation.
    #[error("the authorisation {authorization} is not known")]
    UnknownAuthorization {
        /// The authorisation.
        authorization: AuthorizationId,
    },
    /// No such claim is under way.
    #[error("the claim {claim} is not under way")]
    UnknownClaim {
        /// The claim.
        claim: ClaimId,
    },
    /// A claim has at least one row, at most so many, and each channel once.
    #[error("a claim has 1 to {max} rows of different channels")]
    ClaimRows {
        /// The bound.
        max: usize,
    },
    /// A row that cannot be claimed as it is.
    #[error("{total} cannot be claimed on the channel {channel}")]
    NotClaimable {
        /// The row's channel.
        channel: EscrowChannelId,
        /// The row's total.
        total: CumulativeAmount,
    },
}
