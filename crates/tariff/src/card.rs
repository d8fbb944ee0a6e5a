//! Rate cards that were checked: versions of prices, dated, with a digest that names exactly one content.

use core::fmt;
use std::sync::Arc;

use millstream_types::{Address, Amount, Hash256, Network, Timestamp};
use sha2::{Digest, Sha256};

use crate::file::{CardFile, DiscountKind, DiscountSection, EntrySection, SplitSection};
use crate::number::quantity;
use crate::schedule::{Schedule, Step};
use crate::{
    CardError, Discount, DiscountOf, Payee, Percent, Price, PriceError, Promo, Share, Splits, Tariff, TariffVersion, Token, Unit, moment,
};

/// Entries of a card, at most.
const ENTRIES_MAX: usize = 256;
/// Routes and models of an entry, tiers of an entry, and discounts, at most.
const LIST_MAX: usize = 64;
/// Bytes of a route, a model, a name or a description.
const TEXT_BYTES_MAX: usize = 256;
/// What canonical bytes begin with.
const CANONICAL_TAG: &[u8] = b"millstream/rate-card/1";

/// A card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateCard {
    version: TariffVersion,
    valid_from: Timestamp,
    valid_until: Option<Timestamp>,
    network: Network,
    asset: Address,
    token: Token,
    description: Option<String>,
    entries: Vec<Entry>,
    discounts: Vec<Discount>,
    splits: Option<Splits>,
    promo: Option<Promo>,
    digest: Hash256,
}

/// What a card sells, and to which requests it applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    name: String,
    routes: Vec<String>,
    models: Vec<ModelPattern>,
    tariff: Arc<Tariff>,
}

/// The name of a model, or the beginning of several names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPattern {
    text: String,
    is_prefix: bool,
}

/// Nothing on the card is for the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSold {
    /// The route is on the card, for other models.
    #[error("the model `{model}` is not sold here")]
    Model {
        /// What the request names.
        model: String,
    },
    /// The route is on the card, for requests that name a model.
    #[error("the request names no model")]
    NoModel,
    /// The card has nothing for the route.
    #[error("the rate card {card} has no price for `{route}`")]
    Route {
        /// The card.
        card: TariffVersion,
        /// The route.
        route: String,
    },
}

impl RateCard {
    /// Checks what a file says. The signature is looked at by whoever knows keys.
    ///
    /// # Errors
    /// [`CardError`], the first that is found.
    pub fn new(file: &CardFile) -> Result<Self, CardError> {
        let section = &file.card;
        let version = TariffVersion::new(&section.name, section.version).map_err(price("card.name"))?;
        if section.version == 0 {
            return Err(value("card.version", "versions start at 1"));
        }
        let date = |key: &str, text: &str| {
            let expected = || value(format!("card.{key}"), "expected a moment in whole seconds, such as 2026-12-01T00:00:00Z");
            crate::moment::parse(text).ok_or_else(expected)
        };
        let valid_from = date("valid_from", &section.valid_from)?;
        let valid_until = section.valid_until.as_deref().map(|text| date("valid_until", text)).transpose()?;
        if valid_until.is_some_and(|until| until <= valid_from) {
            return Err(value("card.valid_until", "it is not after valid_from"));
        }
        let network: Network = section.network.parse().map_err(|error| value("card.network", format!("{error}")))?;
        let asset: Address = section.asset.parse().map_err(|error| value("card.asset", format!("{error}")))?;
        if asset == Address::ZERO {
            return Err(value("card.asset", "it is the zero address"));
        }
        let token = Token::new(&section.symbol, section.decimals).map_err(price("card.symbol"))?;
        if let Some(description) = &section.description {
            bounded("card.description", description)?;
        }
        if file.entries.is_empty() || file.entries.len() > ENTRIES_MAX {
            return Err(value("entry", format!("a card has 1 to {ENTRIES_MAX} entries, not {}", file.entries.len())));
        }
        if file.discounts.len() > LIST_MAX {
            return Err(value("discount", format!("there are more than {LIST_MAX}")));
        }
        let discounts = file.discounts.iter().zip(1u32..).map(|(section, number)| discount(section, number, &token));
        let discounts = discounts.collect::<Result<Vec<_>, _>>()?;
        let entries = file.entries.iter().zip(1u32..).map(|(section, number)| Entry::new(section, number, &version, &token, &discounts));
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        let twice = entries.iter().enumerate().find(|(at, entry)| entries.iter().take(*at).any(|earlier| earlier.name == entry.name));
        if let Some((_, entry)) = twice {
            return Err(value(format!("entry `{}`", entry.name), "another entry has the same name: volume is counted by it"));
        }
        let splits = if file.splits.is_empty() {
            None
        } else {
            let payees = file.splits.iter().zip(1u32..).map(|(section, number)| payee(section, number, &token));
            Some(Splits::new(payees.collect::<Result<_, _>>()?)?)
        };
        let promo = match &file.credit {
            None => None,
            Some(credit) if (1..=3_650).contains(&credit.days) => {
                let amount = token.parse_amount(&credit.amount).map_err(price("credit.amount"))?;
                Some(Promo { amount, days: credit.days })
            }
            Some(_) => return Err(value("credit.days", "it must be 1 to 3650")),
        };
        let description = section.description.clone();
        let digest = Hash256::from_bytes([0; 32]);
        let mut card =
            Self { version, valid_from, valid_until, network, asset, token, description, entries, discounts, splits, promo, digest };
        card.digest = Hash256::from_bytes(Sha256::digest(card.canonical_bytes()).into());
        for entry in &mut card.entries {
            entry.tariff = Arc::new(Tariff::clone(&entry.tariff).with_digest(card.digest));
        }
        Ok(card)
    }

    /// Its name and version.
    #[must_use]
    pub const fn version(&self) -> &TariffVersion {
        &self.version
    }

    /// When it begins to hold.
    #[must_use]
    pub const fn valid_from(&self) -> Timestamp {
        self.valid_from
    }

    /// When it ends, if nothing replaces it before.
    #[must_use]
    pub const fn valid_until(&self) -> Option<Timestamp> {
        self.valid_until
    }

    /// Whether it holds at a moment: from its beginning, and until before its end.
    #[must_use]
    pub fn holds_at(&self, at: Timestamp) -> bool {
        self.valid_from <= at && self.valid_until.is_none_or(|until| at < until)
    }

    /// The chain.
    #[must_use]
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// The token's contract.
    #[must_use]
    pub const fn asset(&self) -> Address {
        self.asset
    }

    /// The token, as prices know it.
    #[must_use]
    pub const fn token(&self) -> &Token {
        &self.token
    }

    /// For people.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// What it sells, in the order in which entries are tried.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What is taken off.
    #[must_use]
    pub fn discounts(&self) -> &[Discount] {
        &self.discounts
    }

    /// Who is paid how much of it; nothing when it is all the gateway's payee's.
    #[must_use]
    pub const fn splits(&self) -> Option<&Splits> {
        self.splits.as_ref()
    }

    /// What each payer is given at first.
    #[must_use]
    pub const fn promo(&self) -> Option<&Promo> {
        self.promo.as_ref()
    }

    /// SHA-256 of [`RateCard::canonical_bytes`].
    #[must_use]
    pub const fn digest(&self) -> &Hash256 {
        &self.digest
    }

    /// The first entry for a route and a model.
    ///
    /// # Errors
    /// [`NotSold`].
    pub fn entry(&self, route: &str, model: Option<&str>) -> Result<&Entry, NotSold> {
        let mut of_route = self.entries.iter().filter(|entry| entry.is_for_route(route)).peekable();
        if of_route.peek().is_none() {
            return Err(NotSold::Route { card: self.version.clone(), route: route.to_owned() });
        }
        let not_sold = model.map_or(NotSold::NoModel, |model| NotSold::Model { model: model.chars().take(TEXT_BYTES_MAX).collect() });
        of_route.find(|entry| entry.is_for_model(model)).ok_or(not_sold)
    }

    /// Whether what a request costs depends on what was used or charged in a period.
    #[must_use]
    pub fn needs_periods(&self) -> bool {
        self.entries.iter().any(|entry| entry.tariff.needs_periods())
    }

    /// What is no error and perhaps not meant, for people.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            if let Some(earlier) = self.entries.iter().take(at).find(|earlier| earlier.covers(entry)) {
                warnings.push(format!("entry `{}` is never reached: `{}` before it takes its requests", entry.name, earlier.name));
            }
            for steps in entry.tariff.schedule().units() {
                if steps.steps.iter().zip(steps.steps.iter().skip(1)).any(|(step, next)| next.each > step.each) {
                    warnings.push(format!("entry `{}`: a tier makes {} dearer with volume", entry.name, steps.unit));
                }
            }
            if let Some(fixed) = self.splits.as_ref().and_then(|splits| splits.fixed().ok())
                && fixed > entry.tariff.minimum()
            {
                let (fixed, minimum) = (self.token.show(fixed), self.token.show(entry.tariff.minimum()));
                let least = format!("entry `{}`: fixed shares come to {fixed}, and a charge may be as small as {minimum}", entry.name);
                warnings.push(format!("{least}: then the other payees get nothing of it"));
            }
        }
        for (at, discount) in self.discounts.iter().enumerate() {
            let beaten = |other: &Discount| other.of == discount.of && other.from <= discount.from && other.off >= discount.off;
            if self.discounts.iter().enumerate().any(|(other_at, other)| other_at != at && beaten(other)) {
                warnings.push(format!(
                    "discount {} is never the best: another of its kind is given earlier and is no smaller",
                    at.saturating_add(1)
                ));
            }
        }
        if self.entries.iter().all(|entry| !entry.models.is_empty()) {
            warnings.push("every entry is for models: requests that name none, or another, are refused".to_owned());
        }
        warnings
    }

    /// What is hashed and signed: everything that has a meaning for what is paid, however the file writes it; the description, comments and the
    /// signature are not in it. Numbers are big-endian, text and lists are preceded by their length in 32 bits.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let mut to = Canonical(CANONICAL_TAG.to_vec());
        to.text(self.version.name());
        to.bytes(&self.version.version().to_be_bytes());
        to.bytes(&self.valid_from.as_millis().to_be_bytes());
        to.bytes(&self.valid_until.map_or(u64::MAX, Timestamp::as_millis).to_be_bytes());
        to.text(self.network.as_str());
        to.bytes(self.asset.as_bytes());
        to.text(self.token.symbol());
        to.bytes(&[self.token.decimals()]);
        to.list(&self.entries, |to, entry| {
            to.text(&entry.name);
            to.list(&entry.routes, |to, route| to.text(route));
            to.list(&entry.models, |to, model| to.text(&model.to_string()));
            to.bytes(&[period_number(entry.tariff.over())]);
            to.amount(entry.tariff.minimum());
            to.list(entry.tariff.schedule().units(), |to, steps| {
                to.bytes(&[unit_number(steps.unit)]);
                to.list(&steps.steps, |to, step| {
                    to.bytes(&step.above.to_be_bytes());
                    to.amount(step.each.down());
                    to.bytes(&step.each.attos().to_be_bytes());
                });
            });
        });
        to.list(&self.discounts, |to, discount| {
            to.bytes(&[match discount.of {
                DiscountOf::Loyalty => 0,
                DiscountOf::Volume(period) => period_number(Some(period)),
            }]);
            to.amount(discount.from);
            to.bytes(&discount.off.parts().to_be_bytes());
        });
        to.list(self.splits.as_ref().map_or(&[][..], Splits::payees), |to, payee| {
            to.bytes(payee.account.as_bytes());
            match payee.share {
                Share::Fixed(amount) => {
                    to.bytes(&[1]);
                    to.amount(amount);
                }
                Share::Percent(percent) => {
                    to.bytes(&[2]);
                    to.bytes(&percent.parts().to_be_bytes());
                }
                Share::Remainder => to.bytes(&[3]),
            }
        });
        to.list(self.promo.as_slice(), |to, promo| {
            to.amount(promo.amount);
            to.bytes(&promo.days.to_be_bytes());
        });
        to.0
    }
}

impl Entry {
    fn new(section: &EntrySection, number: u32, version: &TariffVersion, token: &Token, discounts: &[Discount]) -> Result<Self, CardError> {
        let name = section.name.clone().unwrap_or_else(|| format!("entry-{number}"));
        let place = |key: &str| format!("entry `{name}`, {key}");
        // The name is one of a tariff's own.
        TariffVersion::new(&name, 1).map_err(|_| value(format!("entry {number}, name"), "1 to 64 of a-z, A-Z, 0-9, `.`, `_` and `-`"))?;
        if section.routes.len() > LIST_MAX || section.models.len() > LIST_MAX || section.tiers.len() > LIST_MAX {
            return Err(value(place("routes, models, tier"), format!("more than {LIST_MAX} of one")));
        }
        for route in &section.routes {
            bounded(&place("routes"), route)?;
            if !route.starts_with('/') {
                return Err(value(place("routes"), format!("`{route}` is no path: it does not begin with /")));
            }
        }
        let models = section.models.iter().map(|model| ModelPattern::new(model, &place("models"))).collect::<Result<_, _>>()?;
        let rates = Price::parse(&section.price, token).map_err(price(place("price")))?;
        let minimum = section.minimum.as_deref().map_or(Ok(Amount::ZERO), |minimum| token.parse_amount(minimum));
        let minimum = minimum.map_err(price(place("minimum")))?;
        let mut schedule = Schedule::flat(&rates);
        for (tier, number) in section.tiers.iter().zip(1u32..) {
            let place = place(&format!("tier {number}"));
            let tier_price = Price::parse(&tier.price, token).map_err(price(place.clone()))?;
            let [rate] = tier_price.rates() else { return Err(value(place, "a tier is the price of one unit")) };
            let above = quantity(tier.above.trim()).map_err(price(place.clone()))?.get().checked_mul(rate.unit().metered_in_one());
            let above = above.ok_or_else(|| value(place.clone(), "the quantity is too large"))?;
            if !schedule.push(rate.unit(), Step { above, each: rate.each() }) {
                let reason = format!("{} has no price in this entry, or the tier before it begins at or above {}", rate.unit(), tier.above);
                return Err(value(place, reason));
            }
        }
        let plain = Tariff::new(version.clone(), rates, minimum);
        let not_exact = |unit: Unit| value(place("price"), format!("with a discount {}", PriceError::NotExact { unit }));
        let tariff = Tariff::of_card(plain, schedule, section.tiers_over.period(), discounts).map_err(not_exact)?;
        Ok(Self { name, routes: section.routes.clone(), models, tariff: Arc::new(tariff) })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The routes it is for; empty for all.
    #[must_use]
    pub fn routes(&self) -> &[String] {
        &self.routes
    }

    /// The models it is for; empty for all.
    #[must_use]
    pub fn models(&self) -> &[ModelPattern] {
        &self.models
    }

    /// What it costs.
    #[must_use]
    pub const fn tariff(&self) -> &Arc<Tariff> {
        &self.tariff
    }

    /// Whether it is for a route.
    #[must_use]
    pub fn is_for_route(&self, route: &str) -> bool {
        self.routes.is_empty() || self.routes.iter().any(|own| own == route)
    }

    fn is_for_model(&self, model: Option<&str>) -> bool {
        self.models.is_empty() || model.is_some_and(|model| self.models.iter().any(|pattern| pattern.covers(model)))
    }

    /// Whether it takes all requests that the other would.
    fn covers(&self, other: &Self) -> bool {
        let routes = self.routes.is_empty() || (!other.routes.is_empty() && other.routes.iter().all(|route| self.routes.contains(route)));
        let models = self.models.is_empty()
            || (!other.models.is_empty()
                && other.models.iter().all(|model| {
                    self.models.iter().any(|own| {
                        if model.is_prefix { own.is_prefix && model.text.starts_with(&own.text) } else { own.covers(&model.text) }
                    })
                }));
        routes && models
    }

    /// Its price for people, with its tiers.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = self.tariff.price().to_string();
        for steps in self.tariff.schedule().units().iter().filter(|steps| steps.steps.len() > 1) {
            let tiers: Vec<String> = steps
                .steps
                .iter()
                .skip(1)
                .map(|step| format!("{} above {}", show(step, steps.unit, self.tariff.token()), step.above))
                .collect();
            let over = self.tariff.over().map_or("request", crate::Period::as_str);
            text.push_str(&format!("; {} a {over}: {}", steps.unit, tiers.join(", ")));
        }
        if !self.tariff.minimum().is_zero() {
            text.push_str(&format!("; at least {}", self.tariff.token().show(self.tariff.minimum())));
        }
        text
    }
}

/// A step's price for a million of the unit as it is metered, in whole tokens.
fn show(step: &Step, unit: Unit, token: &Token) -> String {
    let million = step.each.checked_mul(1_000_000u64.saturating_mul(unit.metered_in_one()));
    let text = million.ok().filter(|cost| cost.attos() == 0).map(|cost| format!("{} / 1M", token.show(cost.down())));
    text.unwrap_or_else(|| format!("{}.{:018} base", step.each.down(), step.each.attos()))
}

impl ModelPattern {
    fn new(text: &str, place: &str) -> Result<Self, CardError> {
        bounded(place, text)?;
        let (text, is_prefix) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
        if text.contains('*') || (text.is_empty() && !is_prefix) {
            return Err(value(place, "a model is a name, with at most one * at its end"));
        }
        Ok(Self { text: text.to_owned(), is_prefix })
    }

    /// Whether it is for a model of this name. Case counts.
    #[must_use]
    pub fn covers(&self, model: &str) -> bool {
        if self.is_prefix { model.starts_with(&self.text) } else { model == self.text }
    }
}

impl fmt::Display for ModelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.is_prefix { "*" } else { "" })
    }
}

/// `NAME@VERSION from MOMENT`.
impl fmt::Display for RateCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.version, moment(self.valid_from))
    }
}

/// Canonical bytes under way.
struct Canonical(Vec<u8>);

impl Canonical {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn length(&mut self, length: usize) {
        // Lists and texts are bounded far below this.
        self.bytes(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.bytes(text.as_bytes());
    }

    fn amount(&mut self, amount: Amount) {
        self.bytes(&amount.units().to_be_bytes());
    }

    fn list<T>(&mut self, items: &[T], each: impl Fn(&mut Self, &T)) {
        self.length(items.len());
        for item in items {
            each(self, item);
        }
    }
}

const fn period_number(period: Option<crate::Period>) -> u8 {
    match period {
        None => 0,
        Some(crate::Period::Day) => 1,
        Some(crate::Period::Month) => 2,
    }
}

const fn unit_number(unit: Unit) -> u8 {
    match unit {
        Unit::Call => 1,
        Unit::InputToken => 2,
        Unit::OutputToken => 3,
        Unit::CachedToken => 4,
        Unit::Second => 5,
        Unit::Byte => 6,
        Unit::Image => 7,
    }
}

fn discount(section: &DiscountSection, number: u32, token: &Token) -> Result<Discount, CardError> {
    let place = |key: &str| format!("discount {number}, {key}");
    let of = match (section.kind, section.over) {
        (DiscountKind::Loyalty, None) => DiscountOf::Loyalty,
        (DiscountKind::Loyalty, Some(_)) => return Err(value(place("over"), "loyalty has no period: leave it out")),
        (DiscountKind::Volume, Some(period)) => DiscountOf::Volume(period),
        (DiscountKind::Volume, None) => return Err(value(place("over"), "a volume discount has a period: day or month")),
    };
    let from = token.parse_amount(&section.from).map_err(price(place("from")))?;
    let off = Percent::parse(&section.percent).filter(|off| *off > Percent::ZERO);
    let off = off.ok_or_else(|| value(place("percent"), "expected a percentage above 0 and up to 100, with at most four decimals"))?;
    Ok(Discount { of, from, off })
}

fn payee(section: &SplitSection, number: u32, token: &Token) -> Result<Payee, CardError> {
    let place = |key: &str| format!("split {number}, {key}");
    let account = section.payee.parse().map_err(|error| value(place("payee"), format!("{error}")))?;
    let share = match (&section.percent, &section.fixed, section.remainder) {
        (Some(percent), None, false) => {
            let expected = || value(place("percent"), "expected a percentage with at most four decimals");
            Share::Percent(Percent::parse(percent).ok_or_else(expected)?)
        }
        (None, Some(fixed), false) => Share::Fixed(token.parse_amount(fixed).map_err(price(place("fixed")))?),
        (None, None, true) => Share::Remainder,
        _ => return Err(value(place("percent"), "exactly one of percent, fixed and remainder is said")),
    };
    if let Some(name) = &section.name {
        bounded(&place("name"), name)?;
    }
    Ok(Payee { account, name: section.name.clone(), share })
}

fn bounded(place: &str, text: &str) -> Result<(), CardError> {
    let sound = !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control);
    if sound { Ok(()) } else { Err(value(place, format!("1 to {TEXT_BYTES_MAX} bytes without control characters"))) }
}

fn value(place: impl Into<String>, reason: impl Into<String>) -> CardError {
    CardError::Value { place: place.into(), reason: reason.into() }
}

fn price(place: impl Into<String>) -> impl FnOnce(PriceError) -> CardError {
    let place = place.into();
    |source| CardError::Price { place, source }
}
