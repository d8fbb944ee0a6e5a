//! Tokens that may be paid with, and what may be spent of each.

use std::collections::BTreeMap;

use millstream_types::{Address, Amount, ChainId, ParseAmountError, parse_base_units};
use millstream_voucher::evm::TokenDomain;

/// A token on a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssetId {
    /// The chain.
    pub chain: ChainId,
    /// The contract.
    pub token: Address,
}

/// A token that may be paid with. What a server says of a token is not believed: a wrong number of decimals is a wrong price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Which.
    pub id: AssetId,
    /// The name for people.
    pub symbol: String,
    /// Digits after the point of a whole token.
    pub decimals: u8,
    /// Name and version in the token's own EIP-712 domain, where it takes transfers by signature (ERC-3009). Without them Permit2 is used.
    pub domain: Option<(String, String)>,
}

/// What may be spent of one token, in base units. Spent is what was signed away and can be taken, whether or not it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssetLimits {
    /// One request, its streams included.
    pub request_max: Amount,
    /// One host in one day (UTC).
    pub host_day_max: Amount,
    /// All hosts in one day (UTC).
    pub day_max: Amount,
    /// For ever.
    pub total_max: Amount,
    /// Deposits of one channel, less what came back and what was signed away.
    pub channel_deposit_max: Amount,
    /// The same of all channels together.
    pub deposits_max: Amount,
}

/// The tokens that may be paid with, each with its limits. An offer for any other is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpendLimits {
    assets: BTreeMap<AssetId, (Asset, AssetLimits)>,
}

/// USDC on Base.
const USDC_BASE: &str = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";
/// USDC on Base Sepolia.
const USDC_BASE_SEPOLIA: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";

impl Asset {
    /// USDC where x402 is at home: on Base and on its test chain.
    #[must_use]
    pub fn well_known() -> Vec<Self> {
        let usdc = |chain, token: &str, name: &str| {
            token.parse().ok().map(|token| Self {
                id: AssetId { chain: ChainId::new(chain), token },
                symbol: "USDC".to_owned(),
                decimals: 6,
                domain: Some((name.to_owned(), "2".to_owned())),
            })
        };
        [usdc(8_453, USDC_BASE, "USD Coin"), usdc(84_532, USDC_BASE_SEPOLIA, "USDC")].into_iter().flatten().collect()
    }

    /// An amount in whole tokens, such as `0.10`. What is finer than a base unit is refused.
    ///
    /// # Errors
    /// [`ParseAmountError`].
    pub fn parse_amount(&self, text: &str) -> Result<Amount, ParseAmountError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let decimals = usize::from(self.decimals);
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || (fraction.is_empty() && text.contains('.')) {
            return Err(ParseAmountError::NotDecimal);
        }
        if fraction.len() > decimals {
            return Err(ParseAmountError::TooPrecise { max: u32::from(self.decimals) });
        }
        let units = format!("{whole}{fraction:0<decimals$}");
        let units = units.trim_start_matches('0');
        parse_base_units(if units.is_empty() { "0" } else { units }).map_err(|_| ParseAmountError::TooLarge)
    }

    /// An amount for people: `0.1 USDC`.
    #[must_use]
    pub fn show(&self, amount: Amount) -> String {
        let decimals = usize::from(self.decimals);
        let digits = format!("{:0>width$}", amount.units(), width = decimals.saturating_add(1));
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(decimals));
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{whole}{point}{fraction} {}", self.symbol)
    }

    /// The domain that transfers by signature are signed for; its name and version are ours or, where we have none, the server's: a wrong one
    /// makes a signature that no token takes.
    pub(crate) fn token_domain(&self, offered: Option<(&str, &str)>) -> Option<TokenDomain> {
        let own = self.domain.as_ref().map(|(name, version)| (name.as_str(), version.as_str()));
        let (name, version) = own.or(offered)?;
        Some(TokenDomain::new(name, version, self.id.chain, self.id.token))
    }
}

impl AssetLimits {
    /// The limits that hold unless others are set, of a token with these decimals: 0.10 for a request, 1 for a host and day, 5 a day, 50 in
    /// all, deposits of 1 for a channel and of 10 in all.
    #[must_use]
    pub fn default_of(decimals: u8) -> Self {
        let cents = |count: u128| {
            // Below two decimals there are no cents, and a limit is rather too low than too high.
            let unit = 10u128.checked_pow(u32::from(decimals)).unwrap_or(u128::MAX);
            Amount::from_units(unit.checked_mul(count).map_or(u128::MAX, |units| units / 100))
        };
        Self {
            request_max: cents(10),
            host_day_max: cents(100),
            day_max: cents(500),
            total_max: cents(5_000),
            channel_deposit_max: cents(100),
            deposits_max: cents(1_000),
        }
    }
}

impl SpendLimits {
    /// The well-known tokens with the default limits.
    #[must_use]
    pub fn standard() -> Self {
        Asset::well_known().into_iter().fold(Self::default(), |limits, asset| {
            let default = AssetLimits::default_of(asset.decimals);
            limits.allow(asset, default)
        })
    }

    /// Allows a token, or changes its limits.
    #[must_use]
    pub fn allow(mut self, asset: Asset, limits: AssetLimits) -> Self {
        self.assets.insert(asset.id, (asset, limits));
        self
    }

    /// A token and its limits, if it may be paid with.
    #[must_use]
    pub fn of(&self, id: AssetId) -> Option<(&Asset, &AssetLimits)> {
        self.assets.get(&id).map(|(asset, limits)| (asset, limits))
    }

    /// All tokens, in the order of chain and address.
    pub fn assets(&self) -> impl Iterator<Item = (&Asset, &AssetLimits)> {
        self.assets.values().map(|(asset, limits)| (asset, limits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        let usdc = Asset::well_known().remove(0);
        let check = |text: &str, units: Option<u128>| assert_eq!(usdc.parse_amount(text).ok().map(Amount::units), units, "{text}");
        check("0.10", Some(100_000));
        check("1", Some(1_000_000));
        check("0", Some(0));
        check("0.000001", Some(1));
        for text in ["0.0000001", "", ".5", "1.", "-1", "1e3", "1,0", "340282366920938463463374607431768211456"] {
            check(text, None);
        }
        for (units, text) in [(0, "0 USDC"), (1, "0.000001 USDC"), (100_000, "0.1 USDC"), (12_000_000, "12 USDC")] {
            assert_eq!(usdc.show(Amount::from_units(units)), text);
        }
    }

    #[test]
    fn default_limits_fit_the_decimals() {
        assert_eq!(AssetLimits::default_of(6).request_max.units(), 100_000);
        assert_eq!(AssetLimits::default_of(18).day_max.units(), 5 * 10u128.pow(18));
        assert_eq!(AssetLimits::default_of(0).request_max.units(), 0);
    }
}
