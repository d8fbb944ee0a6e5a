//! Cards as files: read, checked, signed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use millstream_gateway::cards::{CardFileError, SignedCard, read_card};
use millstream_tariff::{RateCard, moment};
use millstream_types::{Address, Hash256};
use millstream_voucher::evm::EvmSecretKey;
use serde::Serialize;

use super::args::{LintArgs, SignArgs};
use crate::context::Context;
use crate::error::{CliError, CliResult, chain_of};
use crate::output::{View, columns, pairs};
use crate::profile;

/// What is wrong with a card.
pub(super) fn wrong(path: &Path, error: &CardFileError) -> CliError {
    let failed = CliError::usage("ratecard", format!("{}: {}", path.display(), chain_of(error)));
    match error {
        CardFileError::Unsigned => failed.hint(format!("millstream ratecard sign {}", path.display())),
        CardFileError::OtherContent { .. } => failed.hint("sign it again, if the change is meant"),
        _ => failed,
    }
}

pub(super) fn read_text(path: &Path) -> CliResult<String> {
    fs::read_to_string(path).map_err(|error| CliError::usage("ratecard", format!("cannot read {}: {error}", path.display())))
}

/// A card, whether it is signed or not.
pub(super) fn read(path: &Path) -> CliResult<RateCard> {
    Ok(read_card(&read_text(path)?).map_err(|error| wrong(path, &error))?.0)
}

/// Writes a file whole or not at all. `replaces`: what is there may be replaced.
pub(super) fn write(path: &Path, text: &str, replaces: bool) -> CliResult<()> {
    let failed = |error: std::io::Error| CliError::failed("ratecard", format!("cannot write {}: {error}", path.display()));
    if !replaces {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
            let failed = failed(error);
            if path.exists() { failed.hint("it is there already: name another with --output") } else { failed }
        })?;
        return file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed);
    }
    let draft = path.with_extension("draft");
    let written = fs::File::create(&draft).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    });
    written.map_err(failed)
}

/// What a look at a card finds.
#[derive(Clone, Debug, Serialize)]
struct Looked {
    file: PathBuf,
    card: Option<String>,
    valid_from: Option<String>,
    digest: Option<Hash256>,
    signer: Option<Address>,
    error: Option<String>,
    warnings: Vec<String>,
}

/// `ratecard lint`.
#[derive(Clone, Debug, Serialize)]
struct Linted {
    cards: Vec<Looked>,
}

impl Looked {
    fn at(file: &Path) -> CliResult<Self> {
        let text = read_text(file)?;
        let nothing =
            Self { file: file.to_owned(), card: None, valid_from: None, digest: None, signer: None, error: None, warnings: Vec::new() };
        let (card, section) = match read_card(&text) {
            Ok(read) => read,
            Err(error) => return Ok(Self { error: Some(chain_of(&error)), ..nothing }),
        };
        let of_card = Self {
            card: Some(card.version().to_string()),
            valid_from: Some(moment(card.valid_from())),
            digest: Some(*card.digest()),
            warnings: card.warnings(),
            ..nothing
        };
        if section.is_none() {
            return Ok(of_card);
        }
        Ok(match SignedCard::read(&text) {
            Ok(signed) => Self { signer: Some(signed.signer()), ..of_card },
            Err(error) => Self { error: Some(chain_of(&error)), ..of_card },
        })
    }
}

pub(super) fn lint(context: &Context, args: &LintArgs) -> CliResult<()> {
    let cards = args.files.iter().map(|file| Looked::at(file)).collect::<CliResult<Vec<_>>>()?;
    let linted = Linted { cards };
    context.output.show(&linted)?;
    let bad = linted.cards.iter().filter(|card| card.error.is_some()).count();
    let doubtful = linted.cards.iter().filter(|card| !card.warnings.is_empty() || card.signer.is_none()).count();
    match (bad, doubtful) {
        (0, doubtful) if doubtful == 0 || !args.strict => Ok(()),
        (0, doubtful) => Err(CliError::check_failed("ratecard_doubtful", format!("{doubtful} rate cards are not signed or have warnings"))),
        (bad, _) => Err(CliError::check_failed("ratecard_wrong", format!("{bad} rate cards are wrong"))),
    }
}

impl View for Linted {
    fn table(&self) -> String {
        let mut rows = Vec::new();
        for card in &self.cards {
            let name = card.card.clone().unwrap_or_default();
            let signed = card.signer.map_or_else(|| "not signed".to_owned(), |signer| format!("signed by {signer}"));
            let row = |kind: &str, what: &str| vec![card.file.display().to_string(), name.clone(), kind.to_owned(), what.to_owned()];
            match &card.error {
                Some(error) => rows.push(row("error", error)),
                None => rows.push(row("good", &format!("from {}, {signed}", card.valid_from.as_deref().unwrap_or_default()))),
            }
            rows.extend(card.warnings.iter().map(|warning| row("warning", warning)));
        }
        columns(&["file", "card", "", "what"], &[], rows)
    }
}

/// `ratecard sign`.
#[derive(Clone, Debug, Serialize)]
struct SignedView {
    file: PathBuf,
    card: String,
    valid_from: String,
    digest: Hash256,
    signer: Address,
}

pub(super) fn sign(context: &Context, args: &SignArgs) -> CliResult<()> {
    let key_file = match &args.key_file {
        Some(file) => file.clone(),
        None => {
            let profile = context.profile_if_any()?;
            let of_profile = profile.as_ref().and_then(|profile| profile.gateway_file(profile.gateway.key_file.as_deref()));
            of_profile.ok_or_else(|| CliError::usage("key_file", "nothing says whose key signs").hint("name it with --key-file FILE"))?
        }
    };
    let key = EvmSecretKey::from_bytes(&*profile::read_secret(&key_file)?)
        .map_err(|error| CliError::usage("key_file", format!("{}: {error}", key_file.display())))?;
    let signed = SignedCard::sign(&read_text(&args.file)?, &key).map_err(|error| wrong(&args.file, &error))?;
    let output = args.output.as_ref().unwrap_or(&args.file);
    write(output, signed.text(), true)?;
    let card = signed.card();
    for warning in card.warnings() {
        context.output.note(&format!("warning: {warning}"));
    }
    context.output.show(&SignedView {
        file: output.clone(),
        card: card.version().to_string(),
        valid_from: moment(card.valid_from()),
        digest: *card.digest(),
        signer: signed.signer(),
    })
}

impl View for SignedView {
    fn table(&self) -> String {
        pairs([
            ("card", self.card.clone()),
            ("holds from", self.valid_from.clone()),
            ("digest", self.digest.to_string()),
            ("signed by", self.signer.to_string()),
            ("file", self.file.display().to_string()),
            ("next", format!("millstream ratecard publish {}", self.file.display())),
        ])
    }
}
