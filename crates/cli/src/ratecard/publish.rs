//! Cards in use: at a running gateway, by its admin listener, or in a directory.

use std::path::{Path, PathBuf};

use millstream_gateway::cards::{CardSet, CardTerms, Cards, PublishError, Published, SignedCard, read_card};
use millstream_tariff::{Change, DiscountOf, RateCard, Share, TariffVersion, differences, moment};
use millstream_types::{Address, Hash256, Timestamp};
use serde::{Deserialize, Serialize};

use super::args::{DiffArgs, ListArgs, PlaceArgs, PublishArgs, ShowArgs};
use super::file;
use super::template::now;
use crate::admin::Admin;
use crate::context::Context;
use crate::error::{CliError, CliResult, chain_of};
use crate::gateway::{AskArgs, admin};
use crate::output::{View, columns, pairs};

/// A card in use, one of `GET /ratecards`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardView {
    /// `NAME@VERSION`.
    pub card: String,
    /// When it begins to hold.
    pub valid_from: String,
    /// When it ends, if nothing replaces it before.
    pub valid_until: Option<String>,
    /// `holds`, `comes`, `replaced` or `ended`.
    pub state: String,
    /// What names its content.
    pub digest: Hash256,
    /// Who signed it.
    pub signer: Address,
    /// Entries.
    pub entries: u64,
}

/// `POST /ratecards`: a card that was taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedCard {
    /// The card.
    pub card: CardView,
    /// Whether it was not in use before.
    pub is_new: bool,
}

/// `ratecard list`.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
struct ListedCards(Vec<CardView>);

impl CardView {
    /// A card of a set, as it stands at a moment.
    #[must_use]
    pub fn of(set: &CardSet, signed: &SignedCard, now: Timestamp) -> Self {
        let card = signed.card();
        let version = card.version();
        let holds = set.live(version.name(), now).is_some_and(|live| live.card().version() == version);
        let state = match (holds, card.valid_from() > now) {
            (true, _) => "holds",
            (false, true) => "comes",
            (false, false) if card.holds_at(now) => "replaced",
            (false, false) => "ended",
        };
        Self {
            card: version.to_string(),
            valid_from: moment(card.valid_from()),
            valid_until: card.valid_until().map(moment),
            state: state.to_owned(),
            digest: *card.digest(),
            signer: signed.signer(),
            entries: u64::try_from(card.entries().len()).unwrap_or(u64::MAX),
        }
    }

    /// All cards of a set.
    #[must_use]
    pub fn all(set: &CardSet, now: Timestamp) -> Vec<Self> {
        set.iter().map(|signed| Self::of(set, signed, now)).collect()
    }
}

/// Where cards are.
enum Place {
    Running(Admin),
    Dir(PathBuf),
}

impl Place {
    fn of(context: &Context, args: &PlaceArgs) -> CliResult<Self> {
        match &args.dir {
            Some(dir) => Ok(Self::Dir(dir.clone())),
            None => Ok(Self::Running(admin(context, &AskArgs { admin: args.admin.clone() })?)),
        }
    }

    /// The file of a card in use.
    async fn text(&self, card: &str) -> CliResult<String> {
        match self {
            Self::Running(admin) => admin.ratecard(card).await,
            Self::Dir(dir) => file::read_text(&dir.join(format!("{card}.toml"))),
        }
    }
}

/// The directory as cards like this one would use it: what only a gateway can say, who may sign and what is sold, is left to its start.
fn open_dir(dir: &Path, like: &SignedCard) -> CliResult<Cards> {
    let card = like.card();
    let mut signers = vec![like.signer()];
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let signed = SignedCard::read(&file::read_text(&path)?).map_err(|error| file::wrong(&path, &error))?;
            signers.push(signed.signer());
        }
    }
    let terms = CardTerms { network: card.network().clone(), asset: card.asset(), token: card.token().clone(), signers };
    Cards::open(dir, terms, Box::new(|_| Ok(()))).map_err(|error| refused(&error))
}

fn refused(error: &PublishError) -> CliError {
    let refused = CliError::refused("ratecard_refused", chain_of(error));
    match error {
        PublishError::OtherContent { .. } | PublishError::NotNewer { .. } | PublishError::Retroactive { .. } => {
            refused.hint("`millstream ratecard new NAME --after FILE` makes the next version, from now on")
        }
        PublishError::Signer { .. } => refused.hint("sign it with a key of `ratecards.signers`, else of the account that is paid"),
        _ => refused,
    }
}

pub(super) async fn publish(context: &Context, args: &PublishArgs) -> CliResult<()> {
    let text = file::read_text(&args.file)?;
    // What is wrong with the file itself is said before anybody is asked.
    let signed = SignedCard::read(&text).map_err(|error| file::wrong(&args.file, &error))?;
    let published = match Place::of(context, &args.place)? {
        Place::Running(admin) => admin.publish_ratecard(&text).await?,
        Place::Dir(dir) => {
            let cards = open_dir(&dir, &signed)?;
            // The first version of a directory replaces nothing, so its date changes nothing that is past.
            let is_first = !cards.set().has(signed.card().version().name());
            let at = if is_first { signed.card().valid_from().min(now()) } else { now() };
            published(&cards, &cards.publish(&text, at).map_err(|error| refused(&error))?)
        }
    };
    context.output.show(&published)
}

/// What became of a card, for answers.
#[must_use]
pub(crate) fn published(cards: &Cards, published: &Published) -> PublishedCard {
    let (signed, is_new) = match published {
        Published::New(signed) => (signed, true),
        Published::Already(signed) => (signed, false),
    };
    PublishedCard { card: CardView::of(&cards.set(), signed, now()), is_new }
}

pub(super) async fn list(context: &Context, args: &ListArgs) -> CliResult<()> {
    let listed = match Place::of(context, &args.place)? {
        Place::Running(admin) => admin.ratecards().await?,
        Place::Dir(dir) => {
            let any = std::fs::read_dir(&dir)
                .map_err(|error| CliError::usage("ratecard", format!("cannot read {}: {error}", dir.display())))?
                .flatten()
                .map(|entry| entry.path())
                .find(|path| path.extension().is_some_and(|extension| extension == "toml"));
            match any {
                None => Vec::new(),
                Some(path) => {
                    let signed = SignedCard::read(&file::read_text(&path)?).map_err(|error| file::wrong(&path, &error))?;
                    CardView::all(&open_dir(&dir, &signed)?.set(), now())
                }
            }
        }
    };
    context.output.show(&ListedCards(listed))
}

/// A card by its file, or by its name where cards are in use.
async fn find(context: &Context, card: &str, place: &PlaceArgs) -> CliResult<(String, RateCard)> {
    let path = Path::new(card);
    let is_named = card
        .rsplit_once('@')
        .is_some_and(|(name, version)| version.parse::<u32>().is_ok_and(|version| TariffVersion::new(name, version).is_ok()));
    let text = if is_named && !path.exists() { Place::of(context, place)?.text(card).await? } else { file::read_text(path)? };
    let (read, _) = read_card(&text).map_err(|error| file::wrong(path, &error))?;
    Ok((text, read))
}

/// `ratecard show`.
#[derive(Clone, Debug, Serialize)]
struct Shown {
    card: String,
    valid_from: String,
    valid_until: Option<String>,
    network: String,
    asset: Address,
    symbol: String,
    decimals: u8,
    description: Option<String>,
    digest: Hash256,
    signer: Option<Address>,
    entries: Vec<ShownEntry>,
    discounts: Vec<String>,
    splits: Vec<String>,
    credit: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct ShownEntry {
    name: String,
    routes: Vec<String>,
    models: Vec<String>,
    price: String,
}

pub(super) async fn show(context: &Context, args: &ShowArgs) -> CliResult<()> {
    let (text, card) = find(context, &args.card, &args.place).await?;
    let signer = SignedCard::read(&text).ok().map(|signed| signed.signer());
    let token = card.token();
    let entry = |entry: &millstream_tariff::Entry| ShownEntry {
        name: entry.name().to_owned(),
        routes: entry.routes().to_vec(),
        models: entry.models().iter().map(ToString::to_string).collect(),
        price: entry.describe(),
    };
    let discount = |discount: &millstream_tariff::Discount| {
        let of = match discount.of {
            DiscountOf::Loyalty => "charged on the channel".to_owned(),
            DiscountOf::Volume(period) => format!("charged in the {period}"),
        };
        format!("{}% off from {} {of}", discount.off, token.show(discount.from))
    };
    let split = |payee: &millstream_tariff::Payee| {
        let share = match payee.share {
            Share::Fixed(amount) => format!("{} of each charge", token.show(amount)),
            Share::Percent(percent) => format!("{percent}%"),
            Share::Remainder => "what is left".to_owned(),
        };
        format!("{share} to {}{}", payee.account, payee.name.as_ref().map_or_else(String::new, |name| format!(" ({name})")))
    };
    context.output.show(&Shown {
        card: card.version().to_string(),
        valid_from: moment(card.valid_from()),
        valid_until: card.valid_until().map(moment),
        network: card.network().to_string(),
        asset: card.asset(),
        symbol: token.symbol().to_owned(),
        decimals: token.decimals(),
        description: card.description().map(str::to_owned),
        digest: *card.digest(),
        signer,
        entries: card.entries().iter().map(entry).collect(),
        discounts: card.discounts().iter().map(discount).collect(),
        splits: card.splits().into_iter().flat_map(|splits| splits.payees()).map(split).collect(),
        credit: card.promo().map(|promo| format!("{} for {} days", token.show(promo.amount), promo.days)),
    })
}

/// `ratecard diff`.
#[derive(Clone, Debug, Serialize)]
struct Differences {
    before: String,
    after: String,
    changes: Vec<ShownChange>,
}

#[derive(Clone, Debug, Serialize)]
struct ShownChange {
    what: String,
    before: Option<String>,
    after: Option<String>,
}

pub(super) async fn diff(context: &Context, args: &DiffArgs) -> CliResult<()> {
    let (_, before) = find(context, &args.before, &args.place).await?;
    let (_, after) = find(context, &args.after, &args.place).await?;
    let change = |Change { what, before, after }| ShownChange { what, before, after };
    context.output.show(&Differences {
        before: before.version().to_string(),
        after: after.version().to_string(),
        changes: differences(&before, &after).into_iter().map(change).collect(),
    })
}

impl View for PublishedCard {
    fn table(&self) -> String {
        let what = match (self.is_new, self.card.state.as_str()) {
            (false, _) => "was in use already".to_owned(),
            (true, "comes") => format!("holds from {}", self.card.valid_from),
            (true, _) => "holds now".to_owned(),
        };
        pairs([("card", self.card.card.clone()), ("", what), ("digest", self.card.digest.to_string())])
    }
}

impl View for ListedCards {
    fn table(&self) -> String {
        if self.0.is_empty() {
            return "no rate cards".to_owned();
        }
        let row = |card: &CardView| {
            let until = card.valid_until.clone().unwrap_or_default();
            vec![card.card.clone(), card.state.clone(), card.valid_from.clone(), until, card.entries.to_string(), card.signer.to_string()]
        };
        columns(&["card", "state", "from", "until", "entries", "signed by"], &[4], self.0.iter().map(row))
    }
}

impl View for Shown {
    fn table(&self) -> String {
        let mut lines = vec![
            ("card", self.card.clone()),
            ("holds from", self.valid_from.clone()),
            ("in", format!("{} ({}) on {}", self.symbol, self.asset, self.network)),
            ("digest", self.digest.to_string()),
            ("signed by", self.signer.map_or_else(|| "nobody".to_owned(), |signer| signer.to_string())),
        ];
        if let Some(until) = &self.valid_until {
            lines.insert(2, ("until", until.clone()));
        }
        lines.extend(self.discounts.iter().map(|discount| ("discount", discount.clone())));
        lines.extend(self.splits.iter().map(|split| ("paid", split.clone())));
        lines.extend(self.credit.iter().map(|credit| ("credit", credit.clone())));
        let any = |list: &[String]| if list.is_empty() { "all".to_owned() } else { list.join(", ") };
        let row = |entry: &ShownEntry| vec![entry.name.clone(), any(&entry.routes), any(&entry.models), entry.price.clone()];
        format!("{}\n\n{}", pairs(lines), columns(&["entry", "routes", "models", "price"], &[], self.entries.iter().map(row)))
    }
}

impl View for Differences {
    fn table(&self) -> String {
        if self.changes.is_empty() {
            return "no difference that has a meaning for what is paid".to_owned();
        }
        let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "-".to_owned());
        let row = |change: &ShownChange| vec![change.what.clone(), side(&change.before), side(&change.after)];
        columns(&["what", &self.before, &self.after], &[], self.changes.iter().map(row))
    }
}
