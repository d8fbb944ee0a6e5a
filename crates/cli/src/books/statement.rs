//! `millstream statement export|verify|reconcile` (`docs/spec/statements.md`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use millstream_billing::{AccountOf, StatedRoot, Statement};
use millstream_chain::{Ledger, Rpc, RpcOptions};
use millstream_types::{Address, ChainId, CumulativeAmount, EpochId, Hash256};
use serde::Serialize;

use super::moment::{parse_millis, rfc3339};
use super::{AskArgs, DOCUMENT_BYTES_MAX, check, reconcile, render};
use crate::context::Context;
use crate::document::{read_document, write_file};
use crate::error::{CliError, CliResult};
use crate::output::{View, columns, pairs};

/// `statement`'s subcommands.
#[derive(Subcommand, Clone, Debug)]
pub enum StatementCommand {
    /// Write what a payer paid in a period: JSON with proofs, CSV, or a page to print
    Export(ExportArgs),
    /// Check a statement without the provider: signatures, sums, vouchers, and with a chain the anchored roots
    Verify(VerifyArgs),
    /// Compare usage, vouchers and chain for one payer or all, and name each difference
    Reconcile(ReconcileArgs),
}

/// The form of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatementFormat {
    /// Everything, with proofs and signatures.
    Json,
    /// One line for each row, for spreadsheets and accounting.
    Csv,
    /// One page to print.
    Html,
}

/// `statement export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// Who is asked.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Who paid
    #[arg(long, value_name = "ADDRESS")]
    pub payer: Address,
    /// The first day or moment of the period, UTC, such as 2026-11-01; from the beginning without this
    #[arg(long, value_name = "WHEN", value_parser = parse_millis)]
    pub from: Option<u64>,
    /// The first day or moment after it; until now without this
    #[arg(long, value_name = "WHEN", value_parser = parse_millis)]
    pub to: Option<u64>,
    /// The form
    #[arg(long, value_enum, default_value = "json")]
    pub format: StatementFormat,
    /// Write to a file
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `statement verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// The statement's JSON; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The node's published key: an account, as `millstream receipt key` shows it
    #[arg(long, value_name = "ADDRESS")]
    pub key: Address,
    /// A CSV of the same statement, to be compared line by line
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Compare with the roots that the ledger has on the chain, by this JSON-RPC endpoint
    #[arg(long, value_name = "URL")]
    pub rpc: Option<String>,
}

/// `statement reconcile`.
#[derive(Args, Clone, Debug)]
pub struct ReconcileArgs {
    /// Who is asked.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Only this payer; everybody who paid without this
    #[arg(long, value_name = "ADDRESS")]
    pub payer: Option<Address>,
    /// JSON-RPC endpoint of the chain; the profile's without this
    #[arg(long, value_name = "URL")]
    pub rpc: Option<String>,
    /// The node's published key; the one that it names itself without this
    #[arg(long, value_name = "ADDRESS")]
    pub key: Option<Address>,
}

/// A statement on standard output.
#[derive(Serialize)]
#[serde(transparent)]
struct StatementView(Statement);

/// A statement that was written to a file.
#[derive(Serialize)]
struct WrittenView {
    file: String,
    payer: Address,
    from: String,
    to: String,
    rows: usize,
    accounts: Vec<AccountView>,
}

/// An account in short.
#[derive(Serialize)]
struct AccountView {
    account: String,
    asset: Address,
    rows: usize,
    opening: CumulativeAmount,
    /// With a minus where more was taken back than charged.
    paid: String,
    closing: CumulativeAmount,
}

/// The verdict on a statement.
#[derive(Serialize)]
struct VerdictView {
    holds: bool,
    payer: Address,
    from: String,
    to: String,
    accounts: Vec<AccountView>,
    /// Epochs whose roots were compared with the chain.
    anchored: usize,
    /// Epochs that the chain does not have yet, or that were not compared.
    unanchored: usize,
    findings: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// The node or the chain does not answer, or something does not hold.
pub async fn run(context: &Context, command: &StatementCommand) -> CliResult<()> {
    match command {
        StatementCommand::Export(args) => export(context, args).await,
        StatementCommand::Verify(args) => verify(context, args).await,
        StatementCommand::Reconcile(args) => reconcile::run(context, args).await,
    }
}

async fn export(context: &Context, args: &ExportArgs) -> CliResult<()> {
    let statement = args.ask.connect(context)?.statement(args.payer, args.from, args.to).await?;
    let text = match args.format {
        StatementFormat::Csv => render::csv(&statement),
        StatementFormat::Html => render::html(&statement),
        StatementFormat::Json => {
            let json = serde_json::to_string_pretty(&statement).map_err(|error| CliError::failed("output", error.to_string()))?;
            json + "\n"
        }
    };
    match (&args.out, args.format) {
        (Some(file), _) => {
            write_file(file, text.as_bytes())?;
            let Statement { payer, from_millis, to_millis, .. } = statement;
            let accounts = accounts(&statement);
            let rows = accounts.iter().map(|account| account.rows).sum();
            let file = file.display().to_string();
            context.output.show(&WrittenView { file, payer, from: rfc3339(from_millis), to: rfc3339(to_millis), rows, accounts })
        }
        (None, StatementFormat::Json) => context.output.show(&StatementView(statement)),
        (None, StatementFormat::Csv | StatementFormat::Html) => context.output.text(&text),
    }
}

async fn verify(context: &Context, args: &VerifyArgs) -> CliResult<()> {
    let statement: Statement = read_document(&args.file, "statement", DOCUMENT_BYTES_MAX)?;
    let mut findings = offline_findings(&statement, &args.key);
    if let Some(csv) = &args.csv {
        let unreadable = |error: std::io::Error| CliError::usage("csv_unreadable", format!("cannot read {}: {error}", csv.display()));
        findings.extend(render::csv_findings(&statement, &std::fs::read_to_string(csv).map_err(unreadable)?));
    }
    let named = statement.epochs.len();
    let mut anchors = Anchors::default();
    if let Some(url) = &args.rpc {
        anchors.read(&Rpc::connect(url, RpcOptions::default()).await?, &statement).await?;
    }
    let roots = &anchors.roots;
    findings.extend(statement.anchor_findings(roots).iter().map(ToString::to_string));
    let verdict = VerdictView {
        holds: findings.is_empty(),
        payer: statement.payer,
        from: rfc3339(statement.from_millis),
        to: rfc3339(statement.to_millis),
        accounts: accounts(&statement),
        anchored: roots.len(),
        unanchored: named.saturating_sub(roots.len()),
        findings,
    };
    context.output.show(&verdict)?;
    match verdict.findings.as_slice() {
        [] => Ok(()),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(", and {} more findings", rest.len()) };
            Err(CliError::check_failed("statement_does_not_hold", format!("the statement does not hold: {first}{more}")))
        }
    }
}

/// What does not hold by the statement alone.
pub(super) fn offline_findings(statement: &Statement, key: &Address) -> Vec<String> {
    let chain = ChainId::new(statement.chain_id);
    let judge = |of: &AccountOf, voucher: &_| check::voucher(chain, of, voucher);
    statement.findings(key, &check::recover, &judge).iter().map(ToString::to_string).collect()
}

/// The roots that a ledger has of epochs: attached once, and each root asked for once.
#[derive(Default)]
pub(super) struct Anchors {
    ledger: Option<Ledger>,
    /// By epoch; those that are not anchored are asked for again.
    pub(super) roots: BTreeMap<u64, Hash256>,
}

impl Anchors {
    /// Asks for the roots of the epochs that a statement names.
    ///
    /// # Errors
    /// The endpoint is of another chain, or does not answer.
    pub(super) async fn read(&mut self, rpc: &Rpc, statement: &Statement) -> CliResult<()> {
        if statement.epochs.is_empty() {
            return Ok(());
        }
        if rpc.chain().get() != statement.chain_id {
            let message = format!("the statement is of chain {}, the endpoint's is {}", statement.chain_id, rpc.chain());
            return Err(CliError::check_failed("statement_of_another_chain", message));
        }
        let ledger = match self.ledger.take().filter(|ledger| ledger.address() == statement.ledger) {
            Some(ledger) => ledger,
            None => {
                self.roots.clear();
                Ledger::attach(rpc.clone(), statement.ledger).await?
            }
        };
        for StatedRoot { epoch, .. } in &statement.epochs {
            if self.roots.contains_key(epoch) {
                continue;
            }
            if let Some(root) = ledger.epoch_root(EpochId::new(*epoch)).await? {
                self.roots.insert(*epoch, root);
            }
        }
        self.ledger = Some(ledger);
        Ok(())
    }
}

fn accounts(statement: &Statement) -> Vec<AccountView> {
    let view = |account: &millstream_billing::Account| AccountView {
        account: account.of.to_string(),
        asset: account.asset,
        rows: account.rows.len(),
        opening: account.opening,
        paid: render::paid(account),
        closing: account.closing,
    };
    statement.accounts.iter().map(view).collect()
}

fn accounts_table(accounts: &[AccountView]) -> String {
    if accounts.is_empty() {
        return "nothing was paid in this period".to_owned();
    }
    let rows = accounts.iter().map(|account| {
        let numbers = [account.opening.to_string(), account.paid.clone(), account.closing.to_string()];
        [account.account.clone(), account.rows.to_string()].into_iter().chain(numbers).collect()
    });
    columns(&["account", "rows", "opening", "paid", "closing"], &[1, 2, 3, 4], rows)
}

impl View for StatementView {
    fn table(&self) -> String {
        let period = pairs([
            ("payer", self.0.payer.to_string()),
            ("period", format!("{} to {}", rfc3339(self.0.from_millis), rfc3339(self.0.to_millis))),
            ("signed by", self.0.key.to_string()),
        ]);
        format!("{period}\n\n{}", accounts_table(&accounts(&self.0)))
    }
}

impl View for WrittenView {
    fn table(&self) -> String {
        format!(
            "{} rows of {} from {} to {} are in {}\n\n{}",
            self.rows,
            self.payer,
            self.from,
            self.to,
            self.file,
            accounts_table(&self.accounts)
        )
    }
}

impl View for VerdictView {
    fn table(&self) -> String {
        let verdict = if self.holds {
            let anchored = match (self.anchored, self.unanchored) {
                (0, 0) => String::new(),
                (anchored, unanchored) => format!("; {anchored} epochs are as the chain has them, {unanchored} were not compared"),
            };
            format!("HOLDS: every row, sum, voucher and signature{anchored}")
        } else {
            format!("DOES NOT HOLD:\n  {}", self.findings.join("\n  "))
        };
        format!("{verdict}\n\n{}", accounts_table(&self.accounts))
    }
}
