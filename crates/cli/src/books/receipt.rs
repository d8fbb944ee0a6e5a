//! `millstream receipt show|verify|key`: the node's word for one payment (`docs/spec/receipts.md`).

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use millstream_billing::{Entry, Evidence, Receipt, Units};
use millstream_types::{Address, Amount, ChannelId, CumulativeAmount, Hash256};
use serde::Serialize;

use super::check::recover;
use super::moment::rfc3339;
use super::{AskArgs, DOCUMENT_BYTES_MAX, Journal};
use crate::context::Context;
use crate::document::{read_document, write_file};
use crate::error::{CliError, CliResult};
use crate::output::{View, pairs};

/// `receipt`'s subcommands.
#[derive(Subcommand, Clone, Debug)]
pub enum ReceiptCommand {
    /// Ask the node or gateway for the receipt of one payment
    Show(ShowArgs),
    /// Check a receipt with nothing but the node's published key
    Verify(VerifyArgs),
    /// Show the key that the node or gateway signs receipts and statements with: publish it
    Key(AskArgs),
}

/// The name of a charge's receipt: `rcp_` and sixteen hexadecimal digits, or the number of the charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptId(pub u64);

impl FromStr for ReceiptId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = match text.strip_prefix("rcp_") {
            Some(digits) if digits.len() == 16 => u64::from_str_radix(digits, 16).ok(),
            Some(_) => None,
            None => text.parse().ok(),
        };
        number
            .map(Self)
            .ok_or_else(|| "expected the name in an answer's receipt, such as rcp_000000000000002a, or a charge's number".to_owned())
    }
}

/// `receipt show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// Who is asked.
    #[command(flatten)]
    pub ask: AskArgs,
    /// A payment of HTTP 402, by the name of its receipt
    #[arg(value_name = "RECEIPT", required_unless_present = "channel")]
    pub receipt: Option<ReceiptId>,
    /// A payment on a channel of the ledger: the channel
    #[arg(long, value_name = "ID", requires = "line", conflicts_with = "receipt")]
    pub channel: Option<ChannelId>,
    /// And its number on the channel, from 0
    #[arg(long, value_name = "N", requires = "channel")]
    pub line: Option<u64>,
    /// Write the receipt to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `receipt verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// The receipt; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The node's published key: an account, as `millstream receipt key` shows it
    #[arg(long, value_name = "ADDRESS")]
    pub key: Address,
}

/// A receipt as it was given.
#[derive(Serialize)]
#[serde(transparent)]
struct ReceiptView(Receipt);

/// The verdict on a receipt. Amounts in nanos for a line or frame, in base units for a charge.
#[derive(Serialize)]
struct VerdictView {
    holds: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    key: Address,
    #[serde(flatten)]
    paid: Paid,
}

/// What a receipt says.
#[derive(Serialize)]
struct Paid {
    /// A channel, or an authorisation of a single payment.
    from: String,
    unit: String,
    amount: Amount,
    total_after: CumulativeAmount,
    at: String,
    batch: u64,
    durability: &'static str,
    /// The charge's number, or the first line of the frame or the line itself.
    number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    payer: Option<Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    card_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence_digest: Option<Hash256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Evidence>,
}

/// Runs the command.
///
/// # Errors
/// The node does not answer, or the receipt does not hold.
pub async fn run(context: &Context, command: &ReceiptCommand) -> CliResult<()> {
    match command {
        ReceiptCommand::Show(args) => show(context, args).await,
        ReceiptCommand::Verify(args) => verify(context, args),
        ReceiptCommand::Key(args) => context.output.show(&args.connect(context)?.journal().await?),
    }
}

async fn show(context: &Context, args: &ShowArgs) -> CliResult<()> {
    let admin = args.ask.connect(context)?;
    let receipt = match (args.receipt, args.channel, args.line) {
        (Some(ReceiptId(sequence)), ..) => admin.charge_receipt(sequence).await?,
        (None, Some(channel), Some(line)) => admin.line_receipt(channel, line).await?,
        (None, ..) => return Err(CliError::usage("usage", "name a receipt, or a channel and a line")),
    };
    if let Some(file) = &args.out {
        let json = serde_json::to_string_pretty(&receipt).map_err(|error| CliError::failed("output", error.to_string()))?;
        write_file(file, (json + "\n").as_bytes())?;
    }
    context.output.show(&ReceiptView(receipt))
}

fn verify(context: &Context, args: &VerifyArgs) -> CliResult<()> {
    let receipt: Receipt = read_document(&args.file, "receipt", DOCUMENT_BYTES_MAX)?;
    let reason = receipt.verify(&args.key, &recover).err().map(|error| error.to_string());
    context
        .output
        .show(&VerdictView { holds: reason.is_none(), reason: reason.clone(), key: args.key, paid: Paid::of(&receipt) })?;
    match reason {
        None => Ok(()),
        Some(reason) => Err(CliError::check_failed("receipt_does_not_hold", format!("the receipt does not hold: {reason}"))),
    }
}

impl Paid {
    fn of(receipt: &Receipt) -> Self {
        let (from, unit, number, charge) = match &receipt.entry {
            Entry::Frame(frame) => {
                let line = receipt.line.as_ref().map_or(0, |line| line.index.into());
                (format!("channel {}", frame.channel), format!("nanos of the token of {}", receipt.ledger), frame.lines_before + line, None)
            }
            Entry::Charge(charge) => {
                let from = match charge.source {
                    millstream_billing::ChargeSource::Channel(channel) => format!("escrow channel {channel}"),
                    millstream_billing::ChargeSource::Payment(authorization) => format!("single payment {authorization}"),
                };
                (from, format!("base units of {}", charge.token), charge.sequence, Some(charge))
            }
        };
        let line_digest = receipt.line.as_ref().and_then(|line| line.line.digest);
        Self {
            from,
            unit,
            amount: receipt.amount(),
            total_after: receipt.total_after(),
            at: rfc3339(receipt.at().as_millis()),
            batch: receipt.signed.batch.number,
            durability: match receipt.signed.durability {
                millstream_billing::DurabilityLevel::Synced => "synced",
            },
            number,
            payer: charge.map(|charge| charge.payer),
            card_version: charge.map(|charge| charge.card_version),
            evidence_digest: charge.map(millstream_billing::ChargeEntry::evidence_digest).or(line_digest),
            evidence: charge.and_then(millstream_billing::ChargeEntry::read_evidence),
        }
    }

    fn table(&self) -> String {
        let mut rows = vec![
            ("paid from", self.from.clone()),
            ("number", self.number.to_string()),
            ("amount", self.amount.to_string()),
            ("total after", self.total_after.to_string()),
            ("unit", self.unit.clone()),
            ("at", self.at.clone()),
            ("batch", format!("{} ({})", self.batch, self.durability)),
        ];
        rows.extend(self.payer.map(|payer| ("payer", payer.to_string())));
        rows.extend(self.card_version.map(|version| ("price version", version.to_string())));
        if let Some(Evidence { card, route, delivery }) = &self.evidence {
            rows.push(("prices", card.clone()));
            rows.push(("route", route.clone()));
            rows.extend(delivery.map(|delivery| ("units", units(&delivery.units))));
            rows.extend(delivery.map(|delivery| ("delivered SHA-256", delivery.delivered_sha256.to_string())));
        }
        rows.extend(self.evidence_digest.map(|digest| ("evidence", digest.to_string())));
        pairs(rows)
    }
}

/// What was used, in words.
pub(super) fn units(units: &Units) -> String {
    let Units { calls, input_tokens, output_tokens, cached_tokens, millis, bytes, images } = *units;
    let named = [
        (calls, "calls"),
        (input_tokens, "input tokens"),
        (output_tokens, "output tokens"),
        (cached_tokens, "cached tokens"),
        (millis, "ms"),
        (bytes, "bytes"),
        (images, "images"),
    ];
    let used: Vec<String> = named.into_iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    if used.is_empty() { "none".to_owned() } else { used.join(", ") }
}

impl View for ReceiptView {
    fn table(&self) -> String {
        Paid::of(&self.0).table()
    }
}

impl View for VerdictView {
    fn table(&self) -> String {
        let verdict = match &self.reason {
            None => format!("HOLDS: the node {} made it durable", self.key),
            Some(reason) => format!("DOES NOT HOLD: {reason}"),
        };
        format!("{verdict}\n\n{}", self.paid.table())
    }
}

impl View for Journal {
    fn table(&self) -> String {
        pairs([
            ("key", self.key.to_string()),
            ("last batch", self.batch.to_string()),
            ("link", self.link.to_string()),
            ("charges", self.charges.to_string()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_named_as_answers_name_them() {
        let check = |text: &str, number: Option<u64>| assert_eq!(text.parse().ok(), number.map(ReceiptId), "{text}");
        check("rcp_000000000000002a", Some(42));
        check("42", Some(42));
        check("rcp_2a", None);
        check("rcp_000000000000002g", None);
        check("", None);
    }
}
