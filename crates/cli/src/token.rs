//! `millstream token`: tokens for the admin listener, of which the node knows hashes only.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use millstream_node::{Scope, TokenEntry, TokenFile, token_hash};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::context::Context;
use crate::document::replace_private;
use crate::error::{CliError, CliResult};
use crate::output::{View, columns, pairs};

/// `token`.
#[derive(Subcommand, Clone, Debug)]
pub enum TokenCommand {
    /// Make a token, print it once, and add its hash to the file
    New(NewArgs),
    /// List the tokens of a file
    List(FileArgs),
    /// Take a token out of the file; it is good until the node is restarted
    Revoke(RevokeArgs),
}

/// Which file.
#[derive(Args, Clone, Debug)]
pub struct FileArgs {
    /// The file that server.admin_tokens_file names
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
}

/// `token new`.
#[derive(Args, Clone, Debug)]
pub struct NewArgs {
    /// Whose it is
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it allows
    #[arg(long, value_name = "SCOPE", default_value = "read")]
    pub scope: ScopeArg,
    /// Where its hash goes.
    #[command(flatten)]
    pub file: FileArgs,
}

/// `token revoke`.
#[derive(Args, Clone, Debug)]
pub struct RevokeArgs {
    /// Whose it is
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where its hash is.
    #[command(flatten)]
    pub file: FileArgs,
}

/// What a token allows.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ScopeArg {
    /// To look
    Read,
    /// To look, and to settle, claim, back up, reload
    Operate,
}

impl From<ScopeArg> for Scope {
    fn from(scope: ScopeArg) -> Self {
        match scope {
            ScopeArg::Read => Self::Read,
            ScopeArg::Operate => Self::Operate,
        }
    }
}

#[derive(Serialize)]
struct Made {
    name: String,
    scope: Scope,
    token: String,
}

impl View for Made {
    fn table(&self) -> String {
        let how = "in MILLSTREAM_ADMIN_TOKEN, or as `Authorization: Bearer`; it is shown this once";
        pairs([
            ("name", self.name.clone()),
            ("scope", self.scope.name().to_owned()),
            ("token", self.token.clone()),
            ("use", how.to_owned()),
        ])
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Rows(Vec<TokenEntry>);

impl View for Rows {
    fn table(&self) -> String {
        columns(&["name", "scope"], &[], self.0.iter().map(|token| vec![token.name.clone(), token.scope.name().to_owned()]))
    }
}

/// Runs the command.
///
/// # Errors
/// The file cannot be read or written, has the name already, or has it not.
pub fn run(context: &Context, command: &TokenCommand) -> CliResult<()> {
    match command {
        TokenCommand::New(args) => {
            let mut tokens = read(&args.file)?;
            if tokens.tokens.iter().any(|token| token.name == args.name) {
                return Err(CliError::usage("token_exists", format!("there is a token {:?} already", args.name)).hint("revoke it first"));
            }
            let mut secret = Zeroizing::new([0u8; 32]);
            getrandom::fill(secret.as_mut()).map_err(|error| CliError::failed("randomness", format!("the system gives none: {error}")))?;
            let token = format!("msa_{}", hex::encode(*secret));
            let scope = args.scope.into();
            tokens.tokens.push(TokenEntry { name: args.name.clone(), scope, sha256: token_hash(&token) });
            write(&args.file, &tokens)?;
            context.output.show(&Made { name: args.name.clone(), scope, token })
        }
        TokenCommand::List(args) => context.output.show(&Rows(read(args)?.tokens)),
        TokenCommand::Revoke(args) => {
            let mut tokens = read(&args.file)?;
            let before = tokens.tokens.len();
            tokens.tokens.retain(|token| token.name != args.name);
            if tokens.tokens.len() == before {
                return Err(CliError::usage("token_unknown", format!("there is no token {:?}", args.name)));
            }
            write(&args.file, &tokens)?;
            context.output.show(&Rows(tokens.tokens))
        }
    }
}

fn read(args: &FileArgs) -> CliResult<TokenFile> {
    let wrong = |what: String| CliError::usage("token_file", format!("cannot read {}: {what}", args.file.display()));
    match std::fs::read_to_string(&args.file) {
        Ok(text) => toml::from_str(&text).map_err(|error: toml::de::Error| wrong(error.to_string().trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(TokenFile::default()),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Whoever reads it sees the old file or the new one.
fn write(args: &FileArgs, tokens: &TokenFile) -> CliResult<()> {
    let failed = |what: String| CliError::failed("token_file", format!("cannot write {}: {what}", args.file.display()));
    let text = toml::to_string(tokens).map_err(|error| failed(error.to_string()))?;
    replace_private(&args.file, &text).map_err(|error| failed(error.to_string()))
}
