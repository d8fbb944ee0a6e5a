//! What differs between two rate cards, for people.

use crate::{DiscountOf, RateCard, Share, Token, moment};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What: `entry chat, price`.
    pub what: String,
    /// As it was; nothing when it is new.
    pub before: Option<String>,
    /// As it is; nothing when it is gone.
    pub after: Option<String>,
}

/// All differences that have a meaning for what is paid, in the order of the card. Empty when the digests are equal but for name, version and dates.
#[must_use]
pub fn differences(before: &RateCard, after: &RateCard) -> Vec<Change> {
    let (mut changes, both) = (Vec::new(), [before, after]);
    let mut compare = |what: String, before: Option<String>, after: Option<String>| {
        if before != after {
            changes.push(Change { what, before, after });
        }
    };
    let mut each = |what: &str, of: &dyn Fn(&RateCard) -> Option<String>| compare(what.to_owned(), of(before), of(after));
    each("version", &|card| Some(card.version().to_string()));
    each("valid_from", &|card| Some(moment(card.valid_from())));
    each("valid_until", &|card| card.valid_until().map(moment));
    each("token", &|card| {
        Some(format!("{} ({} decimals) {} on {}", card.token(), card.token().decimals(), card.asset(), card.network().as_str()))
    });
    let mut names: Vec<&str> = Vec::new();
    for name in both.iter().flat_map(|card| card.entries()).map(|entry| entry.name()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        let entry = |card: &RateCard| card.entries().iter().find(|entry| entry.name() == name).cloned();
        let parts: [Part<'_>; 3] = [
            ("price", &|entry| entry.describe()),
            ("routes", &|entry| list(entry.routes().iter().cloned())),
            ("models", &|entry| list(entry.models().iter().map(ToString::to_string))),
        ];
        for (part, of) in parts {
            let (before, after) = (entry(before), entry(after));
            // An entry that comes or goes is one difference.
            if part == "price" || (before.is_some() && after.is_some()) {
                compare(format!("entry {name}, {part}"), before.as_ref().map(of), after.as_ref().map(of));
            }
        }
    }
    let order = |card: &RateCard| list(card.entries().iter().map(|entry| entry.name().to_owned()));
    let sorted = |card: &RateCard| {
        let mut names: Vec<_> = card.entries().iter().map(|entry| entry.name().to_owned()).collect();
        names.sort();
        names
    };
    if sorted(before) == sorted(after) {
        compare("order of entries".to_owned(), Some(order(before)), Some(order(after)));
    }
    compare("discounts".to_owned(), discounts(before), discounts(after));
    compare("split".to_owned(), split(before), split(after));
    compare("credit".to_owned(), credit(before), credit(after));
    changes
}

/// A part of an entry, and what it says.
type Part<'a> = (&'static str, &'a dyn Fn(&crate::Entry) -> String);

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { "all".to_owned() } else { items.join(", ") }
}

fn discounts(card: &RateCard) -> Option<String> {
    let shown = card.discounts().iter().map(|discount| {
        let of = match discount.of {
            DiscountOf::Loyalty => "charged on the channel".to_owned(),
            DiscountOf::Volume(period) => format!("charged in a {period}"),
        };
        format!("{}% from {} {of}", discount.off, card.token().show(discount.from))
    });
    let shown: Vec<String> = shown.collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

fn split(card: &RateCard) -> Option<String> {
    let share = |share: Share, token: &Token| match share {
        Share::Fixed(amount) => token.show(amount),
        Share::Percent(percent) => format!("{percent}%"),
        Share::Remainder => "the rest".to_owned(),
    };
    let payees = card.splits()?.payees().iter().map(|payee| format!("{} to {}", share(payee.share, card.token()), payee.account));
    Some(payees.collect::<Vec<_>>().join(", "))
}

fn credit(card: &RateCard) -> Option<String> {
    card.promo().map(|promo| format!("{} for {} days", card.token().show(promo.amount), promo.days))
}
