//! The engine's rejections in the port's words, each with where the channel stands.

use millstream_engine::escrow::{EscrowRejection, EscrowSnapshot, FrozenWhy};
use millstream_gateway::port::{PortError, Rejection};

use super::Inner;
use crate::board::{fault, unavailable};

impl Inner {
    /// What a payer is told.
    pub(super) fn refuse(&self, rejection: EscrowRejection, snapshot: Option<Box<EscrowSnapshot>>) -> PortError {
        let Some(snapshot) = snapshot else {
            return match rejection {
                EscrowRejection::UnknownChannel => Rejection::UnknownChannel.into(),
                EscrowRejection::Conflict => Rejection::IdConflict.into(),
                other => fault(other),
            };
        };
        let settled = snapshot.totals.settled;
        let standing = || Box::new(self.board.standing_of(&snapshot));
        let refused = match rejection {
            EscrowRejection::UnknownChannel => Rejection::UnknownChannel,
            EscrowRejection::WrongChannel { .. } | EscrowRejection::WrongEscrow { .. } | EscrowRejection::WrongSigner { .. } => {
                Rejection::BadSignature
            }
            EscrowRejection::Conflict => Rejection::IdConflict,
            EscrowRejection::Closed => Rejection::ChannelClosed,
            // Until the chain has told everything again.
            EscrowRejection::Frozen { why: FrozenWhy::Reorganised } => return unavailable(),
            EscrowRejection::Frozen { why: FrozenWhy::Uncovered } => Rejection::AboveDeposit(standing()),
            EscrowRejection::Frozen { why: FrozenWhy::Behind } => Rejection::Policy { rule: "escrow-channel-behind".to_owned() },
            EscrowRejection::Quarantined => Rejection::Policy { rule: "escrow-channel-quarantined".to_owned() },
            EscrowRejection::Closing { .. } | EscrowRejection::Withdrawing { .. } => Rejection::ChannelClosing,
            EscrowRejection::Busy | EscrowRejection::TooManyRequests { .. } => Rejection::ChannelBusy(standing()),
            EscrowRejection::TooLarge | EscrowRejection::DepositExceeded { .. } => Rejection::AboveDeposit(standing()),
            EscrowRejection::WrongStep { actual: Some(found), .. } if found <= settled && found.units() > 0 => {
                Rejection::BelowSettled(standing())
            }
            EscrowRejection::WrongStep { expected, actual: Some(found) } => {
                Rejection::TotalMismatch { expected, found, standing: standing() }
            }
            EscrowRejection::WrongStep { expected: required, actual: None } | EscrowRejection::Insufficient { required, .. } => {
                Rejection::Insufficient { required, standing: standing() }
            }
            EscrowRejection::DeltaTooSmall { min, .. } => Rejection::DeltaTooSmall { minimum: min },
            EscrowRejection::TooManyBytes { .. }
            | EscrowRejection::UnknownEscrow { .. }
            | EscrowRejection::EscrowChanged { .. }
            | EscrowRejection::OtherTerms
            | EscrowRejection::UnknownRequest { .. }
            | EscrowRejection::BeyondReserved { .. }
            | EscrowRejection::BelowDelivered { .. }
            | EscrowRejection::NotWhole { .. }
            | EscrowRejection::AuthorizationUsed
            | EscrowRejection::PayerInDefault { .. }
            | EscrowRejection::AuthorizationEnding { .. }
            | EscrowRejection::AuthorizationTooLong { .. }
            | EscrowRejection::UnknownAuthorization { .. }
            | EscrowRejection::UnknownClaim { .. }
            | EscrowRejection::ClaimRows { .. }
            | EscrowRejection::NotClaimable { .. } => return fault(rejection),
        };
        refused.into()
    }
}
