//! `millstream key`: keys in a directory of their own, encrypted at rest. A key of an account holds money or pays gas; a key for vouchers signs
//! vouchers and holds nothing.

use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use millstream_keystore::{self as keystore, Cost, KeyFile, KeyUse, Keystore, KeystoreError, Passwords, RemoteKey, Secret};
use millstream_types::Address;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::context::Context;
use crate::error::{CliError, CliResult, Exit, chain_of};
use crate::output::{View, columns, pairs};

/// The variable that names the directory of keys, as `--keys` does.
const KEYS_ENV: &str = "MILLSTREAM_KEYSTORE";

/// How many earlier keys of one name are kept.
const EARLIER_MAX: u32 = 10_000;

/// `key`.
#[derive(Subcommand, Clone, Debug)]
pub enum KeyCommand {
    /// Make a new key, encrypted under a password
    New(NewArgs),
    /// List the keys: what they are for, their accounts, how they are kept
    List(ListArgs),
    /// Put a new key in the place of one, and keep the old one beside it
    Rotate(RotateArgs),
    /// Encrypt a key under another password
    Password(PasswordArgs),
    /// Take a key over: a keystore of version 3, or 64 hexadecimal digits
    Import(ImportArgs),
    /// Write a key to a file: a keystore of version 3, or with --plain its digits
    Export(ExportArgs),
    /// Note that a remote signer has a key: web3signer, or what speaks its eth1 API
    Remote(RemoteArgs),
}

/// Where keys are, and where their passwords come from.
#[derive(Args, Clone, Debug, Default)]
pub struct KeysArgs {
    /// The directory of keys; ~/.local/share/millstream/keys without this
    #[arg(long = "keys", value_name = "DIR", env = KEYS_ENV)]
    pub directory: Option<PathBuf>,
    /// A file whose first line is the password; without this MILLSTREAM_PASSWORD_FILE, MILLSTREAM_PASSWORD, or a question
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// A key by its name.
#[derive(Args, Clone, Debug)]
pub struct NamedArgs {
    /// The key's name; its file is NAME.json
    #[arg(value_name = "NAME", value_parser = name)]
    pub name: String,
    /// Where it is.
    #[command(flatten)]
    pub keys: KeysArgs,
}

/// `key new`.
#[derive(Args, Clone, Debug)]
pub struct NewArgs {
    /// The key.
    #[command(flatten)]
    pub key: NamedArgs,
    /// What it is for: account (money, gas, claims) or voucher
    #[arg(long = "for", value_name = "USE", default_value = "account")]
    pub key_use: KeyUse,
}

/// `key list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Where they are.
    #[command(flatten)]
    pub keys: KeysArgs,
}

/// `key rotate`.
#[derive(Args, Clone, Debug)]
pub struct RotateArgs {
    /// The key.
    #[command(flatten)]
    pub key: NamedArgs,
}

/// `key password`.
#[derive(Args, Clone, Debug)]
pub struct PasswordArgs {
    /// The key.
    #[command(flatten)]
    pub key: NamedArgs,
    /// A file whose first line is the new password; asked for without this
    #[arg(long, value_name = "FILE")]
    pub new_password_file: Option<PathBuf>,
}

/// `key import`.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// The key.
    #[command(flatten)]
    pub key: NamedArgs,
    /// The file to take it from; - reads hexadecimal digits from standard input
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// A file whose first line is the password of the keystore that is imported; asked for without this
    #[arg(long, value_name = "FILE")]
    pub from_password_file: Option<PathBuf>,
    /// What it is for: account (money, gas, claims) or voucher
    #[arg(long = "for", value_name = "USE", default_value = "account")]
    pub key_use: KeyUse,
}

/// `key export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// The key.
    #[command(flatten)]
    pub key: NamedArgs,
    /// The file to write, which must not exist
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Write 64 hexadecimal digits and no encryption: whoever reads the file has the key
    #[arg(long)]
    pub plain: bool,
    /// A file whose first line is the password of the new file; asked for without this
    #[arg(long, value_name = "FILE", conflicts_with = "plain")]
    pub new_password_file: Option<PathBuf>,
}

/// `key remote`.
#[derive(Args, Clone, Debug)]
pub struct RemoteArgs {
    /// The key.
    #[command(flatten)]
    pub key: NamedArgs,
    /// The signer: http:// or https:// address
    #[arg(long, value_name = "URL")]
    pub signer: String,
    /// The account whose key it has
    #[arg(long, value_name = "ADDRESS")]
    pub account: Address,
}

/// A key, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Row {
    name: String,
    #[serde(rename = "for")]
    key_use: KeyUse,
    account: Option<Address>,
    kept: &'static str,
    file: PathBuf,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Rows(Vec<Row>);

/// A key that was made, moved or changed.
#[derive(Serialize)]
struct Done {
    #[serde(flatten)]
    row: Row,
    /// The key that it took the place of.
    #[serde(skip_serializing_if = "Option::is_none")]
    earlier: Option<PathBuf>,
    /// What is to be done next, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'static str>,
}

impl View for Rows {
    fn table(&self) -> String {
        let rows = self.0.iter().map(|row| {
            let account = row.account.map_or_else(|| "-".to_owned(), |account| account.to_string());
            vec![row.name.clone(), row.key_use.to_string(), account, row.kept.to_owned()]
        });
        columns(&["name", "for", "account", "kept"], &[], rows)
    }
}

impl View for Done {
    fn table(&self) -> String {
        let account = self.row.account.map_or_else(|| "-".to_owned(), |account| account.to_string());
        let lines = [("key", self.row.name.clone()), ("for", self.row.key_use.to_string()), ("account", account)];
        let lines = lines.into_iter().chain([("file", self.row.file.display().to_string())]);
        let earlier = self.earlier.as_ref().map(|file| ("earlier", file.display().to_string()));
        pairs(lines.chain(earlier).chain(self.next.map(|next| ("next", next.to_owned()))))
    }
}

impl From<KeystoreError> for CliError {
    fn from(error: KeystoreError) -> Self {
        let failed = Self::usage("key_file", chain_of(&error));
        match error {
            KeystoreError::NoPassword { .. } => failed.hint(format!(
                "give --password-file FILE where the command has it, or set {}, or run it at a terminal",
                keystore::PASSWORD_FILE_ENV
            )),
            KeystoreError::Unwritable { .. } | KeystoreError::Randomness => Self { exit: Exit::Failed, ..failed },
            _ => failed,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// There is no such key, there is one already, or its file cannot be read, opened or written.
pub fn run(context: &Context, command: &KeyCommand) -> CliResult<()> {
    match command {
        KeyCommand::New(args) => {
            let file = args.key.keys.file(&args.key.name)?;
            refuse_existing(&file)?;
            let secret = Secret::generate()?;
            write_encrypted(&file, &secret, &args.key.keys.passwords(), args.key_use)?;
            context.output.show(&done(&file)?)
        }
        KeyCommand::List(args) => context.output.show(&Rows(list(&args.keys)?)),
        KeyCommand::Rotate(args) => context.output.show(&rotate(args)?),
        KeyCommand::Password(args) => context.output.show(&change_password(args)?),
        KeyCommand::Import(args) => context.output.show(&import(args)?),
        KeyCommand::Export(args) => context.output.show(&export(args)?),
        KeyCommand::Remote(args) => {
            let file = args.key.keys.file(&args.key.name)?;
            let url = reqwest::Url::parse(&args.signer).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
            let url = url.ok_or_else(|| CliError::usage("signer_url", "the signer is no http:// or https:// address"))?;
            if !url.username().is_empty() || url.password().is_some() {
                return Err(CliError::usage("signer_url", "the signer's address holds a credential, which logs could show")
                    .hint("put a proxy that adds it in front of the signer"));
            }
            let remote = RemoteKey { signer: args.signer.clone(), account: args.account };
            let text = serde_json::to_string_pretty(&remote).map_err(|error| CliError::failed("key_file", error.to_string()))?;
            keystore::write_new(&file, &text)?;
            context.output.show(&done(&file)?)
        }
    }
}

fn list(keys: &KeysArgs) -> CliResult<Vec<Row>> {
    let directory = keys.directory()?;
    let unreadable = |error| CliError::failed("keys", format!("the directory of keys {} cannot be read: {error}", directory.display()));
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    files.retain(|file| file.extension().is_some_and(|kind| kind == "json"));
    files.sort();
    files.iter().map(|file| row(file)).collect()
}

fn rotate(args: &RotateArgs) -> CliResult<Done> {
    let keys = &args.key.keys;
    let file = keys.file(&args.key.name)?;
    let old = keystore::read(&file)?;
    if matches!(old, KeyFile::Remote(_)) {
        return Err(CliError::usage("key_remote", format!("the key {} is with a remote signer", args.key.name))
            .hint("rotate it there, then note the new account with `millstream key remote`"));
    }
    let secret = Secret::generate()?;
    let passwords = keys.passwords();
    let new = Keystore::close(&secret, &passwords.choose(&file)?, old.key_use(), Cost::STANDARD)?;
    let earlier = earlier_name(&file)?;
    // The old key is under its new name before the new one takes its place: a crash leaves both, or the old one twice.
    std::fs::hard_link(&file, &earlier)
        .map_err(|error| CliError::failed("key_file", format!("the old key cannot be kept as {}: {error}", earlier.display())))?;
    keystore::replace(&file, &new.to_json())?;
    let next = match old.key_use() {
        KeyUse::Account => {
            "keep the old key until its account is empty and nothing names it any more: as a ledger's operator, as pay_to, as receiver_authorizer"
        }
        KeyUse::Voucher => "channels that were opened with the old key are paid on with the old key: keep it until they are closed",
    };
    Ok(Done { row: row(&file)?, earlier: Some(earlier), next: Some(next) })
}

/// `NAME.N.json`, `N` the first that is free.
fn earlier_name(file: &Path) -> CliResult<PathBuf> {
    (1..=EARLIER_MAX)
        .map(|number| file.with_extension(format!("{number}.json")))
        .find(|earlier| !earlier.exists())
        .ok_or_else(|| CliError::failed("key_file", format!("{} has {EARLIER_MAX} earlier keys", file.display())))
}

fn change_password(args: &PasswordArgs) -> CliResult<Done> {
    let keys = &args.key.keys;
    let file = keys.file(&args.key.name)?;
    let key_use = keystore::read(&file)?.key_use();
    let secret = keystore::read_secret(&file, key_use, &keys.passwords())?;
    let password = new_password(args.new_password_file.as_deref(), &file)?;
    keystore::replace(&file, &Keystore::close(&secret, &password, key_use, Cost::STANDARD)?.to_json())?;
    done(&file)
}

/// A password for what is written now. It never comes from where the old one does: the environment has one for all.
fn new_password(file: Option<&Path>, key_file: &Path) -> CliResult<keystore::Password> {
    match file {
        Some(file) => Ok(Passwords::new(Some(file)).choose(key_file)?),
        None => Ok(Passwords::terminal_only().choose(key_file)?),
    }
}

fn import(args: &ImportArgs) -> CliResult<Done> {
    let keys = &args.key.keys;
    let file = keys.file(&args.key.name)?;
    refuse_existing(&file)?;
    let secret = if args.from.as_os_str() == "-" {
        let mut text = Zeroizing::new(String::new());
        let unreadable = |error| CliError::failed("input", format!("cannot read standard input: {error}"));
        stdin().lock().take(4_096).read_to_string(&mut text).map_err(unreadable)?;
        Secret::from_hex(&text)?
    } else {
        // A foreign keystore has a password of its own, and what is in the environment is for ours.
        let passwords = match &args.from_password_file {
            Some(file) => Passwords::new(Some(file)),
            None => Passwords::terminal_only(),
        };
        keystore::read_secret(&args.from, keystore::read(&args.from)?.key_use(), &passwords)?
    };
    write_encrypted(&file, &secret, &keys.passwords(), args.key_use)?;
    done(&file)
}

fn export(args: &ExportArgs) -> CliResult<Done> {
    let keys = &args.key.keys;
    let file = keys.file(&args.key.name)?;
    let key_use = keystore::read(&file)?.key_use();
    refuse_existing(&args.out)?;
    let secret = keystore::read_secret(&file, key_use, &keys.passwords())?;
    let text = if args.plain {
        Zeroizing::new(hex::encode(secret.bytes()))
    } else {
        let password = new_password(args.new_password_file.as_deref(), &args.out)?;
        Zeroizing::new(Keystore::close(&secret, &password, key_use, Cost::STANDARD)?.to_json())
    };
    keystore::write_new(&args.out, &text)?;
    let next = args.plain.then_some("whoever reads this file has the key: move it to where it is needed, and delete it here");
    Ok(Done { row: Row { file: args.out.clone(), ..row(&file)? }, earlier: None, next })
}

/// Writes a new key file, encrypted.
pub(crate) fn write_encrypted(file: &Path, secret: &Secret, passwords: &Passwords, key_use: KeyUse) -> CliResult<()> {
    let closed = Keystore::close(secret, &passwords.choose(file)?, key_use, Cost::STANDARD)?;
    Ok(keystore::write_new(file, &closed.to_json())?)
}

fn refuse_existing(file: &Path) -> CliResult<()> {
    if !file.exists() {
        return Ok(());
    }
    let hint = "choose another name, or put a new key in its place with `millstream key rotate`";
    Err(CliError::usage("key_exists", format!("there is a key at {} already", file.display())).hint(hint))
}

fn done(file: &Path) -> CliResult<Done> {
    Ok(Done { row: row(file)?, earlier: None, next: None })
}

fn row(file: &Path) -> CliResult<Row> {
    let key = keystore::read(file)?;
    let kept = match &key {
        KeyFile::Plain(_) => "plain",
        KeyFile::Encrypted(_) => "encrypted",
        KeyFile::Remote(_) => "remote",
    };
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Row { name, key_use: key.key_use(), account: key.address(), kept, file: file.to_owned() })
}

impl KeysArgs {
    fn passwords(&self) -> Passwords {
        Passwords::new(self.password_file.as_deref())
    }

    fn directory(&self) -> CliResult<PathBuf> {
        if let Some(directory) = &self.directory {
            return Ok(directory.clone());
        }
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let data = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
        let unknown = || CliError::usage("keys", "nothing says where keys are kept").hint(format!("give --keys DIR or set {KEYS_ENV}"));
        Ok(data.ok_or_else(unknown)?.join("millstream/keys"))
    }

    /// The file of a key; its directory is made, for its owner only.
    fn file(&self, name: &str) -> CliResult<PathBuf> {
        use std::os::unix::fs::DirBuilderExt;
        let directory = self.directory()?;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|error| CliError::failed("keys", format!("cannot create {}: {error}", directory.display())))?;
        Ok(directory.join(format!("{name}.json")))
    }
}

/// A name that is a file's and nothing else.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(is_plain) && !text.starts_with(['.', '-']) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 64 letters, digits, dots, dashes and underscores".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_files_in_the_directory() {
        for right in ["operator", "a.b-c_1"] {
            assert_eq!(name(right).as_deref(), Ok(right));
        }
        for wrong in ["", "../operator", "a/b", ".hidden", "-x", "a b", &"x".repeat(65)] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn earlier_keys_are_numbered() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("operator.json");
        assert_eq!(earlier_name(&file).expect("free"), directory.path().join("operator.1.json"));
        std::fs::write(directory.path().join("operator.1.json"), "").expect("written");
        assert_eq!(earlier_name(&file).expect("free"), directory.path().join("operator.2.json"));
    }
}
