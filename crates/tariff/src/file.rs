//! A rate card as it is written. [`RateCard`](crate::RateCard) checks it and makes something usable of it. Unknown keys are errors.

use serde::{Deserialize, Serialize};

use crate::Period;

/// The whole file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardFile {
    /// Which card, in which token, from when.
    pub card: CardSection,
    /// What is sold, in the order in which entries are tried.
    #[serde(default, rename = "entry")]
    pub entries: Vec<EntrySection>,
    /// What is taken off.
    #[serde(default, rename = "discount", skip_serializing_if = "Vec::is_empty")]
    pub discounts: Vec<DiscountSection>,
    /// Who is paid how much of it. Without any, whoever the gateway pays.
    #[serde(default, rename = "split", skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<SplitSection>,
    /// What each payer is given at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit: Option<CreditSection>,
    /// Who says so: no part of what is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureSection>,
}

/// `[card]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardSection {
    /// Its name: 1 to 64 of `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`.
    pub name: String,
    /// Its version, from 1. Each change is a new one.
    pub version: u32,
    /// When it begins to hold, as RFC 3339 has it, in whole seconds.
    pub valid_from: String,
    /// When it ends, if nothing replaces it before. Without it, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<String>,
    /// The chain, by its CAIP-2 name.
    pub network: String,
    /// The token's contract.
    pub asset: String,
    /// The token's symbol, as prices name it.
    pub symbol: String,
    /// The token's decimals.
    pub decimals: u8,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// `[[entry]]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntrySection {
    /// Its name, which volume is counted by. Without it, `entry-` and its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The routes it is for, by their paths as the gateway's configuration writes them. Empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// The models it is for: names, with a `*` at the end for all that begin so. Empty for all, and for requests that name none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// What it costs, such as `2 USDC / 1M input_token + 8 USDC / 1M output_token`.
    pub price: String,
    /// The least that something delivered costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<String>,
    /// What volume its tiers are counted over.
    #[serde(default, skip_serializing_if = "TiersOver::is_request")]
    pub tiers_over: TiersOver,
    /// Other prices from a quantity on.
    #[serde(default, rename = "tier", skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<TierSection>,
}

/// What volume tiers are counted over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TiersOver {
    /// Each request by itself.
    #[default]
    Request,
    /// All of a payer's requests of a day.
    Day,
    /// All of a payer's requests of a month.
    Month,
}

/// `[[entry.tier]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierSection {
    /// The quantity above which it holds, such as `1M`; seconds are whole.
    pub above: String,
    /// The price of one unit that the entry has a price for.
    pub price: String,
}

/// `[[discount]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscountSection {
    /// What it is given for.
    pub kind: DiscountKind,
    /// The period of a volume discount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Period>,
    /// What has to have been charged, such as `100 USDC`.
    pub from: String,
    /// How much is taken off, such as `5` or `12.5`.
    pub percent: String,
}

/// What a discount is given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscountKind {
    /// What was charged on the channel since it was opened.
    Loyalty,
    /// What was charged in the period.
    Volume,
}

/// `[[split]]`: exactly one of `percent`, `fixed` and `remainder`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitSection {
    /// Who is owed.
    pub payee: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A percentage of what fixed shares leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<String>,
    /// So much of each charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
    /// What is left.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub remainder: bool,
}

/// `[credit]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditSection {
    /// For each payer, once, such as `0.50 USDC`.
    pub amount: String,
    /// Days from the payer's first request on, 1 to 3,650.
    pub days: u32,
}

/// `[signature]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureSection {
    /// The account whose key signed.
    pub signer: String,
    /// SHA-256 of the card's canonical bytes, to be looked at. It is computed anew when it is checked.
    pub digest: String,
    /// The 65 bytes of the signature.
    pub value: String,
}

impl TiersOver {
    const fn is_request(&self) -> bool {
        matches!(self, Self::Request)
    }

    /// The period; nothing for each request by itself.
    #[must_use]
    pub const fn period(self) -> Option<Period> {
        match self {
            Self::Request => None,
            Self::Day => Some(Period::Day),
            Self::Month => Some(Period::Month),
        }
    }
}
