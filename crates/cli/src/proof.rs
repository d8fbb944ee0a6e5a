//! `millstream proof make|verify`: that one payment is in an anchored epoch (`docs/spec/billing-tree.md`, B-8).

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use millstream_billing::LineProof;
use millstream_types::{Amount, ChannelId, EpochId, Hash256, Reference};
use serde::Serialize;

use crate::context::{self, Context};
use crate::document::{read_document, write_file};
use crate::error::{CliError, CliResult};
use crate::output::{View, pairs};

/// A proof has two paths of at most 20 and 10 hashes: far below this many bytes.
const PROOF_BYTES_MAX: u64 = 256 * 1024;

/// `proof`'s subcommands.
#[derive(Subcommand, Clone, Debug)]
pub enum ProofCommand {
    /// Ask the provider's node for the proof of one payment
    Make(MakeArgs),
    /// Check a proof against the epoch root on the chain, or against a root that is given
    Verify(VerifyArgs),
}

/// `proof make`.
#[derive(Args, Clone, Debug)]
pub struct MakeArgs {
    /// The channel that paid
    #[arg(long, value_name = "ID")]
    pub channel: ChannelId,
    /// The payment: its number on the channel, from 0
    #[arg(long, value_name = "N")]
    pub line: u64,
    /// Write the proof to a file
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `proof verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// The proof; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Check against this epoch root, without asking the chain
    #[arg(long, value_name = "ROOT")]
    pub root: Option<Hash256>,
}

/// A proof as it was made.
#[derive(Serialize)]
#[serde(transparent)]
struct ProofView(LineProof);

/// A proof that was written to a file.
#[derive(Serialize)]
struct WrittenView {
    file: String,
    channel: ChannelId,
    line: u64,
    epoch: u64,
}

/// The verdict on a proof. Amounts in nanos.
#[derive(Serialize)]
struct VerdictView {
    holds: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Whether the root came from the `chain` or was `given`.
    root_from: &'static str,
    epoch_root: Hash256,
    chain_id: u64,
    ledger: millstream_types::Address,
    epoch: u64,
    channel: ChannelId,
    line: u64,
    amount: Amount,
    reference: Reference,
}

/// Runs the command.
///
/// # Errors
/// The node or the chain does not answer, or the proof does not hold.
pub async fn run(context: &Context, command: &ProofCommand) -> CliResult<()> {
    match command {
        ProofCommand::Make(args) => make(context, args).await,
        ProofCommand::Verify(args) => verify(context, args).await,
    }
}

async fn make(context: &Context, args: &MakeArgs) -> CliResult<()> {
    let proof = context::admin(&context.profile()?)?.line_proof(args.channel, args.line).await?;
    let Some(file) = &args.out else {
        return context.output.show(&ProofView(proof));
    };
    let json = serde_json::to_vec_pretty(&proof).map_err(|error| CliError::failed("output", error.to_string()))?;
    write_file(file, &json)?;
    context
        .output
        .show(&WrittenView { file: file.display().to_string(), channel: args.channel, line: args.line, epoch: proof.epoch })
}

async fn verify(context: &Context, args: &VerifyArgs) -> CliResult<()> {
    let proof = read_proof(&args.file)?;
    let (root, root_from) = match args.root {
        Some(root) => (root, "given"),
        None => (anchored_root(context, &proof).await?, "chain"),
    };
    let verdict = judge(&proof, root, root_from);
    context.output.show(&verdict)?;
    match verdict.reason {
        None => Ok(()),
        Some(reason) => Err(CliError::check_failed("proof_does_not_hold", format!("the proof does not hold: {reason}"))),
    }
}

fn judge(proof: &LineProof, root: Hash256, root_from: &'static str) -> VerdictView {
    let outcome = proof.verify(&root);
    VerdictView {
        holds: outcome.is_ok(),
        reason: outcome.err().map(|error| error.to_string()),
        root_from,
        epoch_root: root,
        chain_id: proof.chain_id,
        ledger: proof.ledger,
        epoch: proof.epoch,
        channel: proof.frame.channel,
        line: proof.frame.lines_before.saturating_add(proof.line_index),
        amount: proof.line.amount,
        reference: proof.line.reference,
    }
}

/// The root that the profile's ledger has for the proof's epoch.
async fn anchored_root(context: &Context, proof: &LineProof) -> CliResult<Hash256> {
    let ledger = context::ledger(&context.profile()?).await?;
    if (ledger.chain().get(), ledger.address()) != (proof.chain_id, proof.ledger) {
        let (ours, theirs) = (ledger.id(), proof.ledger);
        let message = format!(
            "the proof is for the ledger {theirs} on chain {}, the profile's ledger is {} on chain {}",
            proof.chain_id, ours.contract, ours.chain
        );
        return Err(CliError::check_failed("proof_of_another_ledger", message).hint("use the profile of the proof's ledger"));
    }
    let root = ledger.epoch_root(EpochId::new(proof.epoch)).await?;
    root.ok_or_else(|| {
        CliError::unavailable("epoch_not_anchored", format!("epoch {} is not anchored on-chain yet", proof.epoch))
            .hint("the provider's next settlement anchors it: `millstream settle run`, or ask again later")
    })
}

fn read_proof(file: &Path) -> CliResult<LineProof> {
    read_document(file, "proof", PROOF_BYTES_MAX)
}

impl View for ProofView {
    fn table(&self) -> String {
        // A proof is for programs, on a terminal too.
        serde_json::to_string_pretty(&self.0).unwrap_or_default()
    }
}

impl View for WrittenView {
    fn table(&self) -> String {
        format!("line {} of channel {} is in epoch {}; the proof is in {}", self.line, self.channel, self.epoch, self.file)
    }
}

impl View for VerdictView {
    fn table(&self) -> String {
        let verdict = match (&self.reason, self.root_from) {
            (None, "chain") => "HOLDS: the payment is in the epoch that the ledger anchored".to_owned(),
            (None, _) => "HOLDS: the payment is in the epoch of the given root".to_owned(),
            (Some(reason), _) => format!("DOES NOT HOLD: {reason}"),
        };
        let details = pairs([
            ("channel", self.channel.to_string()),
            ("line", self.line.to_string()),
            ("amount", self.amount.to_tokens()),
            ("reference", self.reference.to_string()),
            ("ledger", format!("{} on chain {}", self.ledger, self.chain_id)),
            ("epoch", self.epoch.to_string()),
            ("root", format!("{} ({})", self.epoch_root, self.root_from)),
        ]);
        format!("{verdict}\n\n{details}")
    }
}

#[cfg(test)]
mod tests {
    use millstream_billing::{EpochTree, FrameLeaf, FrameTree, Line, next_head};
    use millstream_types::{Address, BillHead, ChainId, LedgerId};

    use super::*;

    fn proof() -> (LineProof, Hash256) {
        let line = |index: u8| Line {
            amount: Amount::from_nanos(150 + u64::from(index)),
            reference: Reference::from_bytes([index; 16]),
            digest: None,
        };
        let lines: Vec<Line> = (0..3).map(line).collect();
        let root = FrameTree::new(&lines).expect("lines").root();
        let frame = FrameLeaf {
            channel: ChannelId::from_uid(&[1; 31]),
            lines_before: 10,
            lines_after: 13,
            cumulative_before: 1_000,
            cumulative_after: 1_453,
            bill_head: next_head(&BillHead::from_bytes([0; 32]), &root, 13, 1_453),
            frame_root: root,
        };
        let ledger = LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([2; 20]) };
        let epoch = EpochTree::new(ledger, EpochId::new(4), &[frame, frame]).expect("frames");
        (LineProof::new(&epoch, 1, frame, &lines, 2).expect("a proof"), epoch.header().root())
    }

    #[test]
    fn a_good_proof_holds_and_names_the_payment() {
        let (proof, root) = proof();
        let verdict = judge(&proof, root, "given");
        assert!(verdict.holds && verdict.reason.is_none());
        assert_eq!((verdict.line, verdict.amount), (12, Amount::from_nanos(152)));
        assert!(verdict.table().starts_with("HOLDS: the payment is in the epoch of the given root\n"));
    }

    #[test]
    fn a_proof_against_another_root_does_not_hold() {
        let (proof, _) = proof();
        let verdict = judge(&proof, Hash256::from_bytes([9; 32]), "chain");
        assert!(!verdict.holds);
        assert!(verdict.table().starts_with("DOES NOT HOLD: the frame is not in the epoch"), "{}", verdict.table());
    }

    #[test]
    fn a_proof_is_read_back_from_its_file_and_anything_else_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("proof.json");
        let (proof, _) = proof();
        std::fs::write(&file, serde_json::to_vec_pretty(&proof).expect("JSON")).expect("written");
        assert_eq!(read_proof(&file).expect("a proof"), proof);
        std::fs::write(&file, "{}").expect("written");
        assert_eq!(read_proof(&file).expect_err("no proof").code, "proof_unreadable");
        assert_eq!(read_proof(&directory.path().join("none")).expect_err("no file").code, "proof_unreadable");
    }
}
