//! Channels on escrow contracts and single payments, for HTTP 402: reserve, deliver, capture; claims and sweeps as data (spec
//! `reservations.md`).
//!
//! An escrow is known by its rules alone: how vouchers step and how they are claimed. What a dialect or a contract looks like is somebody
//! else's business.
//!
//! **Invariants**, for every channel: `charged + reserved ≤ accepted`, and unless it is frozen or closed `settled ≤ charged ≤ accepted ≤
//! deposit`, the deposit being the confirmed one, or the announced one within the operator's limit. `charged` never falls, `accepted` only
//! where a withdrawal took the deposit from under it, and `charged` is `inherited` and the sum of the channel's charges.

mod channel;
mod charge;
mod claim;
mod claims;
mod desk;
mod facts;
mod id;
mod input;
mod record;
mod rejection;
mod state;
mod terms;

pub use channel::{EscrowChannel, EscrowStatus, EscrowTotals, Exit, FrozenWhy, REASON_BYTES_MAX, VOUCHERS_AHEAD_MAX};
pub use charge::{CHARGES_PER_RECORD_MAX, Cause, Charge, ChargesRecord, Generation, Outcome, Reservation, Subject};
pub use claim::{Claim, Claimable, Payment, PaymentState, Sweep};
pub use claims::{CLAIM_BYTES_MAX, CLAIM_ROWS_MAX};
pub use desk::{METER_BYTES_MAX, REQUESTS_PER_CHANNEL_MAX, TRANSFER_BYTES_MAX};
pub use id::{AuthorizationId, ClaimId, EscrowId, Fingerprint, RequestId};
pub use input::{ClaimRow, EscrowAnswer, EscrowFact, EscrowInput, EscrowSnapshot, Meter, Reserve, ReserveOnce};
pub use record::{ARCHIVED_KEYS, Counters, EscrowKey, EscrowRecord, StoredState};
pub use rejection::EscrowRejection;
pub(crate) use state::Escrows;
pub use state::{EscrowConfig, EscrowSummary};
pub use terms::{ClaimRule, ESCROW_CONFIG_BYTES_MAX, Escrow, EscrowTerms, OptimisticLimit, StepRule};
