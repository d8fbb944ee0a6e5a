//! The prices of a route at a moment: its own, or those of the rate card that holds.

use std::sync::Arc;

use millstream_tariff::{Entry, NotSold, RateCard, Tariff, TariffVersion};
use millstream_types::{Address, Timestamp};

use crate::cards::{CardTerms, Cards, SignedCard};
use crate::dialects::Dialects;
use crate::route::{Pricing, Route, Routes};
use crate::{ConfigError, GatewayConfig};

/// What says the prices of a route.
#[derive(Clone, Debug)]
pub(crate) enum Priced {
    /// The route itself.
    Own(Arc<Tariff>),
    /// A card.
    Card(Arc<SignedCard>),
}

/// A tariff of a route, and the models it is for; empty for all.
pub(crate) struct Listed<'a> {
    pub(crate) models: Vec<String>,
    pub(crate) tariff: &'a Arc<Tariff>,
}

impl Priced {
    /// Which prices these are.
    pub(crate) fn version(&self) -> TariffVersion {
        match self {
            Self::Own(tariff) => tariff.version().clone(),
            Self::Card(signed) => signed.card().version().clone(),
        }
    }

    /// Whether requests on the route are read for what they may cost, or for which price is theirs.
    pub(crate) fn reads_requests(&self, route: &Route) -> bool {
        match self {
            Self::Own(tariff) => route.reads_requests(tariff),
            Self::Card(signed) => {
                of_route(signed.card(), route).any(|entry| !entry.models().is_empty() || route.reads_requests(entry.tariff()))
            }
        }
    }

    /// The tariff of a request that names this model.
    pub(crate) fn tariff(&self, route: &Route, model: Option<&str>) -> Result<Arc<Tariff>, NotSold> {
        match self {
            Self::Own(tariff) => Ok(Arc::clone(tariff)),
            Self::Card(signed) => signed.card().entry(route.path(), model).map(|entry| Arc::clone(entry.tariff())),
        }
    }

    /// All tariffs of the route, for listings.
    pub(crate) fn listed<'a>(&'a self, route: &'a Route) -> Vec<Listed<'a>> {
        match self {
            Self::Own(tariff) => vec![Listed { models: Vec::new(), tariff }],
            Self::Card(signed) => {
                let entries = of_route(signed.card(), route);
                entries
                    .map(|entry| Listed { models: entry.models().iter().map(ToString::to_string).collect(), tariff: entry.tariff() })
                    .collect()
            }
        }
    }
}

fn of_route<'a>(card: &'a RateCard, route: &'a Route) -> impl Iterator<Item = &'a Entry> {
    card.entries().iter().filter(|entry| entry.is_for_route(route.path()))
}

/// Opens the cards of a configuration, if any route needs one or a directory is named.
///
/// # Errors
/// [`ConfigError`]: also when a route names a card that is not there.
pub(crate) fn open_cards(config: &GatewayConfig, routes: &Arc<Routes>, dialects: &Dialects) -> Result<Option<Arc<Cards>>, ConfigError> {
    let named = routes.iter().find_map(|route| Some((route, route.card()?)));
    let dir = match (&config.ratecards.dir, named) {
        (Some(dir), _) => dir,
        (None, None) => return Ok(None),
        (None, Some((route, _))) => {
            let reason = format!("the route `{}` has a card, and nothing says which directory cards are in", route.path());
            return Err(ConfigError::value("ratecards.dir", reason));
        }
    };
    let signer =
        |text: &String| text.parse::<Address>().map_err(|error| ConfigError::value("ratecards.signers", format!("`{text}`: {error}")));
    let mut signers = config.ratecards.signers.iter().map(signer).collect::<Result<Vec<_>, _>>()?;
    if signers.is_empty() {
        signers.push(dialects.pay_to());
    }
    let terms = CardTerms { network: dialects.network().clone(), asset: dialects.asset(), token: dialects.token().clone(), signers };
    let check = {
        let (routes, dialects) = (Arc::clone(routes), dialects.clone());
        move |card: &RateCard| check_usable(card, &routes, &dialects)
    };
    let cards = Cards::open(dir, terms, Box::new(check))?;
    let set = cards.set();
    if let Some((route, name)) = routes.iter().filter_map(|route| Some((route, route.card()?))).find(|(_, name)| !set.has(name)) {
        let reason = format!("there is no rate card `{name}` in {}: put one there with `millstream ratecard publish --dir`", dir.display());
        return Err(ConfigError::value(format!("route `{}`, card", route.path()), reason));
    }
    Ok(Some(Arc::new(cards)))
}

/// Whether all that a card says can be sold on the routes that name it.
fn check_usable(card: &RateCard, routes: &Routes, dialects: &Dialects) -> Result<(), String> {
    if card.needs_periods() {
        return Err(
            "tiers over a day or a month and volume discounts need a count of each payer's volume, which a gateway does not keep: \
                    use tiers_over = \"request\" and loyalty"
                .to_owned(),
        );
    }
    if card.promo().is_some() {
        return Err("a gateway gives no credit: leave [credit] out".to_owned());
    }
    for route in routes.iter().filter(|route| route.card() == Some(card.version().name())) {
        let mut entries = of_route(card, route).peekable();
        if entries.peek().is_none() {
            return Err(format!("no entry is for the route `{}`, which names this card", route.path()));
        }
        for entry in entries {
            let place = || format!("entry `{}` on the route `{}`", entry.name(), route.path());
            entry.tariff().ceiling_up(&route.dearest()).map_err(|error| format!("{}: with its limits {error}", place()))?;
            if !dialects.can_sell(entry.tariff()) {
                return Err(format!("{}: only [payment.exact] is there, and the price is known at the end only", place()));
            }
        }
    }
    Ok(())
}

/// What says the prices of a route now; nothing when it is free, or when its card does not hold.
pub(crate) fn priced(route: &Route, cards: Option<&Arc<Cards>>, now: Timestamp) -> Option<Priced> {
    match route.pricing() {
        Pricing::Free => None,
        Pricing::Price(tariff) => Some(Priced::Own(Arc::clone(tariff))),
        Pricing::Card(name) => cards?.set().live(name, now).cloned().map(Priced::Card),
    }
}
