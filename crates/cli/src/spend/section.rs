//! `[http]` of the profile.

use std::collections::BTreeMap;
use std::path::PathBuf;

use millstream_client::http::{Asset, AssetId, AssetLimits};
use millstream_types::{Address, ChainId};
use serde::{Deserialize, Serialize};

use super::wrong;
use crate::error::CliResult;

/// `[http]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSection {
    /// The book of payments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub book_file: Option<PathBuf>,
    /// Who spends, in the policy's budgets and breakers; the account without this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Schemes that are used, the preferred first; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemes: Vec<String>,
    /// A deposit is this many times the price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deposit_multiple: Option<u64>,
    /// Channels of x402 to one payee.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels_per_payee: Option<u64>,
    /// Payees that any host may be paid for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub payees_allowed: Vec<Address>,
    /// A host may be paid for anyone, also after it was paid for somebody else.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub any_payee: bool,
    /// Endpoints of chains, by chain id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rpc_urls: BTreeMap<String, String>,
    /// Tokens that may be paid with, beside the well-known ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asset: Vec<AssetSection>,
}

/// `[[http.asset]]`: a token, and limits in whole tokens; those that are left out have their defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetSection {
    /// The chain.
    pub chain_id: u64,
    /// The contract.
    pub token: Address,
    /// The name for people.
    pub symbol: String,
    /// Digits after the point.
    pub decimals: u8,
    /// Name in the token's EIP-712 domain; with [`AssetSection::domain_version`]. Without them Permit2 is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain_name: Option<String>,
    /// Version in the token's EIP-712 domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain_version: Option<String>,
    /// Of one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_max: Option<String>,
    /// Of one host in a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_day_max: Option<String>,
    /// Of a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_max: Option<String>,
    /// Of all time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_max: Option<String>,
    /// Unspent in one channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_deposit_max: Option<String>,
    /// Unspent in all channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deposits_max: Option<String>,
}

impl HttpSection {
    /// Whether nothing in it differs from what holds without it.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn bounded(&self, key: &str, value: Option<u64>, default: u64, max: u64) -> CliResult<u64> {
        match value {
            None => Ok(default),
            Some(value) if (1..=max).contains(&value) => Ok(value),
            Some(value) => Err(wrong(format!("http.{key} is {value}, expected 1 to {max}"))),
        }
    }
}

impl AssetSection {
    pub(super) fn read(&self) -> CliResult<(Asset, AssetLimits)> {
        let domain = match (&self.domain_name, &self.domain_version) {
            (Some(name), Some(version)) => Some((name.clone(), version.clone())),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(wrong(format!("http.asset {}: domain_name and domain_version go together", self.symbol)));
            }
        };
        if self.decimals > 36 {
            return Err(wrong(format!("http.asset {}: {} decimals are more than 36", self.symbol, self.decimals)));
        }
        let id = AssetId { chain: ChainId::new(self.chain_id), token: self.token };
        let asset = Asset { id, symbol: self.symbol.clone(), decimals: self.decimals, domain };
        let mut limits = AssetLimits::default_of(self.decimals);
        let given = [
            ("request_max", &self.request_max, &mut limits.request_max),
            ("host_day_max", &self.host_day_max, &mut limits.host_day_max),
            ("day_max", &self.day_max, &mut limits.day_max),
            ("total_max", &self.total_max, &mut limits.total_max),
            ("channel_deposit_max", &self.channel_deposit_max, &mut limits.channel_deposit_max),
            ("deposits_max", &self.deposits_max, &mut limits.deposits_max),
        ];
        for (key, text, limit) in given {
            if let Some(text) = text {
                *limit = asset.parse_amount(text).map_err(|error| wrong(format!("http.asset {}, {key}: {error}", self.symbol)))?;
            }
        }
        Ok((asset, limits))
    }
}
