//! Deploying a ledger with everything that it needs: verifiers, book paths, a factory, and on development chains a test token.
//!
//! [`plan`] says what is wanted and what is wrong with it; [`blueprint`] works out every address and every byte of code; [`build`] makes what is
//! missing; [`forecast`] says what that would do and cost; [`inventory`] reads everything back.

mod blueprint;
mod build;
mod forecast;
mod inventory;
mod permit2;
mod plan;
mod proxy;

pub use blueprint::{Blueprint, ContractRole, PlannedContract};
pub use build::{Deployment, Presence, SentStep, deploy};
pub use forecast::{Forecast, Simulation, StepForecast};
pub use inventory::{
    Comparison, Difference, Inventory, KnownPath, LedgerTerms, Located, MinedTransaction, TierInventory, VerifierInventory, block_hash,
    mined_transaction,
};
pub use permit2::{PERMIT2, place_development_permit2};
pub use plan::{DeployPlan, KeyProvenance, TierPlan, TokenChoice, VerifyingKeyWords};
pub use proxy::CREATE2_PROXY;
