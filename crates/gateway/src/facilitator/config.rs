//! `[facilitator]`.

use std::collections::BTreeSet;

use millstream_types::Address;
use serde::{Deserialize, Serialize};

use crate::ConfigError;

/// `[facilitator]`: the facilitator's API is served when this section is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FacilitatorSection {
    /// The path that `/verify`, `/settle` and `/supported` are under, on the gateway's listener.
    pub path: String,
    /// Whether requests without a key are taken. When it is not said: if there are no keys.
    pub anonymous: Option<bool>,
    /// Requests that a key, or an address without one, may make in a minute.
    pub requests_minute_max: u32,
    /// Requests that are under way at once.
    pub requests_max: usize,
    /// Bytes of a request's body; a claim of 100 rows takes about 120 KiB.
    pub body_bytes_max: usize,
    /// Bearer keys.
    #[serde(rename = "key")]
    pub keys: Vec<FacilitatorKeySection>,
    /// Tokens that are served besides the gateway's own.
    #[serde(rename = "asset")]
    pub assets: Vec<FacilitatorAssetSection>,
    /// The least deposit that gas is spent on, in base units of the gateway's own token.
    pub deposit_min: String,
    /// The least `exact` payment that gas is spent on, in base units of the gateway's own token.
    pub exact_min: String,
    /// Whether `exact` payments are served.
    pub exact: bool,
    /// Whether vouchers are kept for servers that keep none (draft 1.1 of the scheme).
    pub voucher_store: bool,
    /// Seconds that a server is held on for its transaction. When they are over, the answer is `settlement_pending`, and asking again goes on.
    pub wait_secs: u64,
    /// Seconds before a withdrawal can be final from which on its amount does not count as the channel's any more.
    pub withdrawal_margin_secs: u64,
    /// What may be spent.
    pub gas: FacilitatorGasSection,
}

/// `[[facilitator.key]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FacilitatorKeySection {
    /// A name for it, for budgets and logs.
    pub name: String,
    /// SHA-256 of the key, hexadecimal.
    pub sha256: String,
    /// Receivers for which its holder may have refunds signed by the facilitator.
    #[serde(default)]
    pub receivers: Vec<String>,
    /// Requests in a minute; without it, the section's.
    #[serde(default)]
    pub requests_minute_max: Option<u32>,
}

/// `[[facilitator.asset]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FacilitatorAssetSection {
    /// The token's contract.
    pub address: String,
    /// The least deposit, in base units.
    #[serde(default = "one")]
    pub deposit_min: String,
    /// The least `exact` payment, in base units.
    #[serde(default = "one")]
    pub exact_min: String,
}

/// `[facilitator.gas]`: what is spent for others, over the last day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FacilitatorGasSection {
    /// Gas that a deposit, a sweep, an `exact` payment or a refund without claims may take; each row of a claim may take as much again.
    pub gas_max: u64,
    /// The most that a unit of gas may cost, in gwei.
    pub fee_gwei_max: u64,
    /// Everybody's gas in a day, in gwei.
    pub day_gwei_max: u64,
    /// One key's gas in a day, in gwei; or that of one address without a key.
    pub key_day_gwei_max: u64,
    /// Gas for one payer in a day, in gwei.
    pub payer_day_gwei_max: u64,
    /// Gas for one receiver in a day, in gwei.
    pub receiver_day_gwei_max: u64,
    /// Transactions in a day.
    pub day_transactions_max: u32,
    /// Reverted transactions of one payer, one receiver or one key in a day.
    pub reverts_day_max: u32,
    /// Coins that are kept for the gateway's own claims, in gwei: below them nothing is sent for others.
    pub reserve_gwei_min: u64,
    /// Transactions that are on their way at once; others wait.
    pub in_flight_max: u16,
}

impl FacilitatorSection {
    /// The receivers whose vouchers are kept: those that keys name, where vouchers are kept at all.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for one that is no address.
    pub fn custody_receivers(&self) -> Result<BTreeSet<Address>, ConfigError> {
        let receiver = |text: &String| {
            text.parse::<Address>().map_err(|error| ConfigError::value("facilitator.key.receivers", format!("`{text}`: {error}")))
        };
        self.keys.iter().filter(|_| self.voucher_store).flat_map(|key| &key.receivers).map(receiver).collect()
    }
}

fn one() -> String {
    "1".to_owned()
}

impl Default for FacilitatorSection {
    fn default() -> Self {
        Self {
            path: "/facilitator".to_owned(),
            anonymous: None,
            requests_minute_max: 600,
            requests_max: 256,
            body_bytes_max: 256 * 1024,
            keys: Vec::new(),
            assets: Vec::new(),
            deposit_min: one(),
            exact_min: one(),
            exact: true,
            voucher_store: false,
            wait_secs: 60,
            withdrawal_margin_secs: 300,
            gas: FacilitatorGasSection::default(),
        }
    }
}

impl Default for FacilitatorGasSection {
    fn default() -> Self {
        Self {
            gas_max: 400_000,
            fee_gwei_max: 100,
            day_gwei_max: 500_000_000,
            key_day_gwei_max: 250_000_000,
            payer_day_gwei_max: 50_000_000,
            receiver_day_gwei_max: 250_000_000,
            day_transactions_max: 5_000,
            reverts_day_max: 5,
            reserve_gwei_min: 10_000_000,
            in_flight_max: 8,
        }
    }
}
