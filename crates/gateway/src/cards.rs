//! Rate cards in use: a directory of signed files, and which of them holds now.
//!
//! **Invariants.** A card is in use only after it is on disk, whole. What is refused changes nothing. A version is never another content: who wants other
//! prices publishes another version. Prices are never changed for what was charged or has begun: a request takes its card once (T-20).

mod signed;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use millstream_tariff::{RateCard, Token, moment};
use millstream_types::{Address, Network, Timestamp};

pub use self::signed::{CARD_BYTES_MAX, CardFileError, SignedCard, read_card};

/// Cards of a directory, at most.
pub const CARDS_MAX: usize = 4_096;
/// Milliseconds by which a card may be dated back when it is published: what signing and sending it takes.
pub const DATED_BACK_MILLIS_MAX: u64 = 60_000;

/// What the end of a card's file is called.
const EXTENSION: &str = "toml";

/// What cards must agree with.
#[derive(Clone, Debug)]
pub struct CardTerms {
    /// The chain.
    pub network: Network,
    /// The token's contract.
    pub asset: Address,
    /// The token, as prices know it.
    pub token: Token,
    /// Whose signature is taken.
    pub signers: Vec<Address>,
}

/// Looks whether what uses a card can: says why not.
pub type CardCheck = Box<dyn Fn(&RateCard) -> Result<(), String> + Send + Sync>;

/// The cards of a directory.
pub struct Cards {
    dir: PathBuf,
    terms: CardTerms,
    check: CardCheck,
    set: RwLock<Arc<CardSet>>,
    /// One change at a time.
    changing: Mutex<()>,
}

/// All versions of all cards at a moment.
#[derive(Clone, Debug, Default)]
pub struct CardSet {
    /// By name, the versions rising.
    cards: BTreeMap<String, Vec<Arc<SignedCard>>>,
}

/// What became of a card that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is in use, from its date on.
    New(Arc<SignedCard>),
    /// It was before: the same content.
    Already(Arc<SignedCard>),
}

/// Why a card is not taken. Checks are made in the order of the variants, and nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Not a signed card.
    #[error(transparent)]
    File(#[from] CardFileError),
    /// Signed by somebody who does not say prices here.
    #[error("{card} is signed by {signer}, who does not say prices here")]
    Signer {
        /// The card.
        card: String,
        /// Who signed.
        signer: Address,
    },
    /// In another token.
    #[error("{card}: {what} is {found}, and must be {expected}")]
    Terms {
        /// The card.
        card: String,
        /// What is different.
        what: &'static str,
        /// What must be.
        expected: String,
        /// What is.
        found: String,
    },
    /// The version is there, with other content.
    #[error("{card} is there already, with other content: a change is a new version")]
    OtherContent {
        /// The card.
        card: String,
    },
    /// Not above the newest version.
    #[error("{card} is not newer than {newest}")]
    NotNewer {
        /// The card.
        card: String,
        /// The newest version.
        newest: String,
    },
    /// It would hold before the version that it replaces, or has for a while.
    #[error("{card} holds from {valid_from}, and must not before {not_before}: prices are never changed for what is past")]
    Retroactive {
        /// The card.
        card: String,
        /// From when it would hold.
        valid_from: String,
        /// From when it may.
        not_before: String,
    },
    /// What it has can not be sold here.
    #[error("{card}: {reason}")]
    NotUsable {
        /// The card.
        card: String,
        /// Why.
        reason: String,
    },
    /// Too many.
    #[error("there are {CARDS_MAX} rate cards already")]
    TooMany,
    /// The directory cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file in the directory is not what its name says.
    #[error("{}: {reason}", path.display())]
    Misnamed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Cards {
    /// Reads a directory, which is made if it is not there. Every card in it must be good.
    ///
    /// # Errors
    /// [`PublishError`], of the first file that is not.
    pub fn open(dir: &Path, terms: CardTerms, check: CardCheck) -> Result<Self, PublishError> {
        fs::create_dir_all(dir).map_err(|source| PublishError::Io { path: dir.to_owned(), source })?;
        let cards = Self { dir: dir.to_owned(), terms, check, set: RwLock::default(), changing: Mutex::default() };
        let set = cards.read_dir()?;
        cards.put(set);
        Ok(cards)
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All cards, as they are now.
    #[must_use]
    pub fn set(&self) -> Arc<CardSet> {
        Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a card in: it is on disk and in use when this returns. The same card again changes nothing.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was changed.
    pub fn publish(&self, text: &str, now: Timestamp) -> Result<Published, PublishError> {
        let _changing = self.changing();
        let signed = Arc::new(SignedCard::read(text)?);
        self.check_terms(&signed)?;
        let set = self.set();
        if let Some(known) = set.version(signed.card()) {
            return same(known, &signed).map(|()| Published::Already(Arc::clone(known)));
        }
        set.check_next(&signed, Some(now))?;
        self.check_usable(&signed)?;
        if set.cards.values().map(Vec::len).sum::<usize>() >= CARDS_MAX {
            return Err(PublishError::TooMany);
        }
        self.write(&signed)?;
        let mut after = CardSet::clone(&set);
        after.cards.entry(signed.card().version().name().to_owned()).or_default().push(Arc::clone(&signed));
        self.put(after);
        Ok(Published::New(signed))
    }

    /// Reads the directory again: cards that were put there by hand are judged as published ones. Answers how many are new.
    ///
    /// # Errors
    /// [`PublishError`], of the first file that is not good; nothing was changed. A card that was in use must still be there.
    pub fn reload(&self, now: Timestamp) -> Result<usize, PublishError> {
        let _changing = self.changing();
        let (before, after) = (self.set(), self.read_dir()?);
        let mut known = CardSet::clone(&before);
        let mut new = 0;
        for card in before.iter() {
            let found = after.version(card.card()).ok_or_else(|| PublishError::Misnamed {
                path: self.path(card.card()),
                reason: "the card is in use and its file is gone: put it back".to_owned(),
            })?;
            same(card, found)?;
        }
        for card in after.iter().filter(|card| before.version(card.card()).is_none()) {
            known.check_next(card, Some(now))?;
            known.cards.entry(card.card().version().name().to_owned()).or_default().push(Arc::clone(card));
            new += 1;
        }
        self.put(after);
        Ok(new)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, set: CardSet) {
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
    }

    fn check_terms(&self, signed: &SignedCard) -> Result<(), PublishError> {
        let (card, terms) = (signed.card(), &self.terms);
        if !terms.signers.contains(&signed.signer()) {
            return Err(PublishError::Signer { card: card.version().to_string(), signer: signed.signer() });
        }
        let agree = |what, expected: String, found: String| {
            let card = card.version().to_string();
            if expected == found { Ok(()) } else { Err(PublishError::Terms { card, what, expected, found }) }
        };
        agree("card.network", terms.network.to_string(), card.network().to_string())?;
        agree("card.asset", terms.asset.to_string(), card.asset().to_string())?;
        agree("card.symbol", terms.token.symbol().to_owned(), card.token().symbol().to_owned())?;
        agree("card.decimals", terms.token.decimals().to_string(), card.token().decimals().to_string())
    }

    fn check_usable(&self, signed: &SignedCard) -> Result<(), PublishError> {
        let card = signed.card();
        (self.check)(card).map_err(|reason| PublishError::NotUsable { card: card.version().to_string(), reason })
    }

    fn path(&self, card: &RateCard) -> PathBuf {
        self.dir.join(format!("{}.{EXTENSION}", card.version()))
    }

    /// Whole or not at all, and durable before it is used.
    fn write(&self, signed: &SignedCard) -> Result<(), PublishError> {
        let path = self.path(signed.card());
        // Not the end of a card's file: what a crash leaves is passed over.
        let draft = path.with_extension("draft");
        let written = OpenOptions::new().write(true).create(true).truncate(true).open(&draft).and_then(|mut file| {
            file.write_all(signed.text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.dir)?.sync_all()
        });
        written.map_err(|source| PublishError::Io { path, source })
    }

    fn read_dir(&self) -> Result<CardSet, PublishError> {
        let failed = |source| PublishError::Io { path: self.dir.clone(), source };
        let mut set = CardSet::default();
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                paths.push(path);
            }
        }
        if paths.len() > CARDS_MAX {
            return Err(PublishError::TooMany);
        }
        let mut cards = Vec::new();
        for path in paths {
            let misnamed = |reason: String| PublishError::Misnamed { path: path.clone(), reason };
            let text = read_bounded(&path).map_err(|source| PublishError::Io { path: path.clone(), source })?;
            let signed = SignedCard::read(&text).map_err(|error| misnamed(error.to_string()))?;
            if self.path(signed.card()) != path {
                return Err(misnamed(format!("it is {}: its file must be called so", signed.card().version())));
            }
            self.check_terms(&signed)?;
            self.check_usable(&signed)?;
            cards.push(Arc::new(signed));
        }
        cards.sort_by_key(|signed| signed.card().version().version());
        for signed in cards {
            set.check_next(&signed, None)?;
            set.cards.entry(signed.card().version().name().to_owned()).or_default().push(signed);
        }
        Ok(set)
    }
}

impl CardSet {
    /// All cards, by name, their versions rising.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<SignedCard>> {
        self.cards.values().flatten()
    }

    /// Whether there is any version of a card.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.cards.contains_key(name)
    }

    /// The version that holds at a moment: the newest that has begun, if it has not ended. One that ended does not give way to an older one.
    #[must_use]
    pub fn live(&self, name: &str, now: Timestamp) -> Option<&Arc<SignedCard>> {
        let begun = self.cards.get(name)?.iter().rev().find(|signed| signed.card().valid_from() <= now)?;
        begun.card().holds_at(now).then_some(begun)
    }

    /// A version by its number.
    #[must_use]
    pub fn named(&self, name: &str, version: u32) -> Option<&Arc<SignedCard>> {
        self.cards.get(name)?.iter().find(|signed| signed.card().version().version() == version)
    }

    fn version(&self, card: &RateCard) -> Option<&Arc<SignedCard>> {
        self.named(card.version().name(), card.version().version())
    }

    /// Whether a card can come after those of its name that are there. Without `now` it was taken in before.
    fn check_next(&self, signed: &SignedCard, now: Option<Timestamp>) -> Result<(), PublishError> {
        let card = signed.card();
        let newest = self.cards.get(card.version().name()).and_then(|versions| versions.last()).map(|newest| newest.card());
        let mut not_before = now.map_or(0, |now| now.as_millis().saturating_sub(DATED_BACK_MILLIS_MAX));
        if let Some(newest) = newest {
            if card.version().version() <= newest.version().version() {
                return Err(PublishError::NotNewer { card: card.version().to_string(), newest: newest.version().to_string() });
            }
            not_before = not_before.max(newest.valid_from().as_millis().saturating_add(1_000));
        }
        if card.valid_from().as_millis() < not_before {
            return Err(PublishError::Retroactive {
                card: card.version().to_string(),
                valid_from: moment(card.valid_from()),
                not_before: moment(Timestamp::from_millis(not_before)),
            });
        }
        Ok(())
    }
}

fn same(known: &SignedCard, found: &SignedCard) -> Result<(), PublishError> {
    let is_same = known.card().digest() == found.card().digest();
    if is_same { Ok(()) } else { Err(PublishError::OtherContent { card: found.card().version().to_string() }) }
}

/// A card's file; of one that is too long, enough to find that out.
fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let most = u64::try_from(CARD_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    io::Read::read_to_string(&mut io::Read::take(File::open(path)?, most), &mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::signed::tests::{CARD, key};
    use super::*;

    fn terms() -> CardTerms {
        CardTerms {
            network: "eip155:8453".parse().expect("a network"),
            asset: "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913".parse().expect("an address"),
            token: Token::new("USDC", 6).expect("a token"),
            signers: vec![key(1).account()],
        }
    }

    fn open(dir: &Path) -> Result<Cards, PublishError> {
        let check = |card: &RateCard| if card.entries().len() > 1 { Err("too much".to_owned()) } else { Ok(()) };
        Cards::open(dir, terms(), Box::new(check))
    }

    /// The card as another version, from another day of December.
    fn text(version: u32, day: u32) -> String {
        CARD.replace("version = 1", &format!("version = {version}")).replace("2026-12-01", &format!("2026-12-{day:02}"))
    }

    fn signed(version: u32, day: u32) -> String {
        SignedCard::sign(&text(version, day), &key(1)).expect("signed").text().to_owned()
    }

    fn at(day: u32) -> Timestamp {
        Timestamp::from_millis(1_796_083_200_000 + u64::from(day - 1) * 86_400_000)
    }

    fn live(cards: &Cards, day: u32) -> Option<u32> {
        cards.set().live("chat", at(day)).map(|signed| signed.card().version().version())
    }

    #[test]
    fn a_card_holds_from_its_date_until_the_next() {
        let dir = tempfile::tempdir().expect("a directory");
        let cards = open(dir.path()).expect("empty");
        assert!(matches!(cards.publish(&signed(1, 2), at(1)), Ok(Published::New(_))));
        assert!(matches!(cards.publish(&signed(3, 4), at(1)), Ok(Published::New(_))));
        assert!(matches!(cards.publish(&signed(3, 4), at(9)), Ok(Published::Already(_))));
        let expected = [(1, None), (2, Some(1)), (3, Some(1)), (4, Some(3)), (9, Some(3))];
        for (day, version) in expected {
            assert_eq!(live(&cards, day), version, "{day}");
        }
        // What was published is there after a restart, whatever it is dated.
        let again = open(dir.path()).expect("good files");
        for (day, version) in expected {
            assert_eq!(live(&again, day), version, "{day}");
        }
    }

    #[test]
    fn a_card_that_ended_gives_way_to_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let cards = open(dir.path()).expect("empty");
        let ends = text(2, 3).replace("network =", "valid_until = \"2026-12-05T00:00:00Z\"\nnetwork =");
        cards.publish(&signed(1, 1), at(1)).expect("good");
        cards.publish(SignedCard::sign(&ends, &key(1)).expect("signed").text(), at(1)).expect("good");
        for (day, version) in [(2, Some(1)), (4, Some(2)), (5, None)] {
            assert_eq!(live(&cards, day), version, "{day}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_and_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let cards = open(dir.path()).expect("empty");
        cards.publish(&signed(2, 5), at(5)).expect("good");
        let sign = |text: &str, number: u8| SignedCard::sign(text, &key(number)).expect("signed").text().to_owned();
        let check = |text: &str, day: u32, expected: &str| {
            let error = cards.publish(text, at(day)).expect_err(expected).to_string();
            assert!(error.contains(expected), "{expected}: {error}");
            assert_eq!((cards.set().iter().count(), fs::read_dir(dir.path()).expect("readable").count()), (1, 1));
            assert_eq!(live(&cards, 28), Some(2));
        };
        check(&text(3, 6), 5, "is not signed");
        check(&signed(3, 6).replace("8 USDC", "9 USDC"), 5, "for this content");
        check(&sign(&text(3, 6), 2), 5, "who does not say prices here");
        check(&sign(&text(3, 6).replace("8453", "1"), 1), 5, "card.network is eip155:1");
        check(&sign(&text(3, 6).replace("0x833589f", "0x833589e"), 1), 5, "card.asset is");
        check(&sign(&text(3, 6).replace("decimals = 6", "decimals = 18"), 1), 5, "card.decimals is 18");
        check(&sign(&text(2, 5).replace("8 USDC", "9 USDC"), 1), 5, "a change is a new version");
        check(&signed(1, 6), 5, "chat@1 is not newer than chat@2");
        check(&signed(3, 5), 5, "must not before 2026-12-05T00:00:01Z");
        check(&signed(3, 6), 7, "must not before 2026-12-06T23:59:00Z");
        check(&sign(&format!("{}[[entry]]\nprice = \"1 USDC / call\"", text(3, 6)), 1), 5, "too much");
        check("[card", 5, "TOML");
    }

    #[test]
    fn files_put_there_by_hand_are_judged_as_published_ones() {
        let dir = tempfile::tempdir().expect("a directory");
        let cards = open(dir.path()).expect("empty");
        cards.publish(&signed(1, 1), at(1)).expect("good");
        let file = |version: u32| dir.path().join(format!("chat@{version}.toml"));
        let check = |day: u32, expected: Result<usize, &str>| {
            let found = cards.reload(at(day)).map_err(|error| error.to_string());
            match (&found, expected) {
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
                _ => assert_eq!(found, expected.map_err(str::to_owned)),
            }
        };
        check(2, Ok(0));
        fs::write(file(2), signed(2, 3)).expect("written");
        fs::write(dir.path().join("notes.txt"), "not a card").expect("written");
        check(4, Err("must not before 2026-12-03T23:59:00Z"));
        assert_eq!(live(&cards, 9), Some(1));
        check(3, Ok(1));
        assert_eq!(live(&cards, 9), Some(2));
        fs::write(file(3), signed(4, 5)).expect("written");
        check(4, Err("it is chat@4: its file must be called so"));
        assert!(open(dir.path()).is_err());
        fs::remove_file(file(3)).expect("gone");
        fs::write(file(1), SignedCard::sign(&text(1, 1).replace("8 USDC", "9 USDC"), &key(1)).expect("signed").text()).expect("written");
        check(4, Err("with other content"));
        fs::remove_file(file(1)).expect("gone");
        check(4, Err("its file is gone"));
        assert_eq!(live(&cards, 2), Some(1));
    }
}
