//! `millstream ceremony start|contribute|beacon|verify|finish`: proving keys for public chains (`docs/operating/ceremony.md`).

mod view;

use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use millstream_ceremony::{
    Beacon, Blake2bHash, CeremonyError, PowersPin, Reference, Secret, beacon, check_contributions, contribute, write_r1cs,
};
use millstream_prover::CircuitId;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use crate::context::Context;
use crate::error::{CliError, CliResult, Exit, chain_of};
use crate::progress::spinner;
use view::{ContributedView, FinishedView, StartedView, VerifiedView};

/// The most bytes that are read of a participant's own entropy.
const ENTROPY_BYTES_MAX: u64 = 1024 * 1024;

/// `ceremony`'s subcommands.
#[derive(Subcommand, Clone, Debug)]
pub enum CeremonyCommand {
    /// Make the parameters that a ceremony starts with, from a circuit and powers of tau
    Start(StartArgs),
    /// Add a secret of your own, which is made here and wiped
    Contribute(ContributeArgs),
    /// Close the ceremony with a public random value
    Beacon(BeaconArgs),
    /// Check a ceremony from nothing but the circuit and the powers of tau
    Verify(VerifyArgs),
    /// Check a closed ceremony and write its proving key, the verifier contract's data and the transcript
    Finish(FinishArgs),
}

/// What a ceremony is about.
#[derive(Args, Clone, Debug)]
pub struct Subject {
    /// The circuit, such as settle-96 or register-96
    #[arg(value_name = "CIRCUIT")]
    pub circuit: CircuitId,
    /// The powers of tau: a .ptau file
    #[arg(long, value_name = "FILE")]
    pub powers: PathBuf,
    /// Take the powers of tau with this BLAKE2b-512 hash, not one of the public files that are pinned
    #[arg(long, value_name = "HEX")]
    pub powers_hash: Option<Blake2bHash>,
}

/// `ceremony start`.
#[derive(Args, Clone, Debug)]
pub struct StartArgs {
    /// What the ceremony is about.
    #[command(flatten)]
    pub subject: Subject,
    /// Where the parameters go: a .zkey file
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// Write the circuit too, for snarkjs: a .r1cs file
    #[arg(long, value_name = "FILE")]
    pub r1cs: Option<PathBuf>,
}

/// `ceremony contribute`.
#[derive(Args, Clone, Debug)]
pub struct ContributeArgs {
    /// The parameters so far
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// Where the parameters with your contribution go
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// Your name, as it will be in the transcript
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Mix in what is in this file; - is standard input. The system's entropy is always in
    #[arg(long, value_name = "FILE")]
    pub entropy: Option<PathBuf>,
}

/// `ceremony beacon`.
#[derive(Args, Clone, Debug)]
pub struct BeaconArgs {
    /// The parameters so far
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// Where the closed parameters go
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// The public random value, in hexadecimal digits: one that was announced before it existed
    #[arg(long, value_name = "HEX")]
    pub value: HexBytes,
    /// How often the value is hashed, as a power of two
    #[arg(long, value_name = "LOG2", default_value_t = 20, value_parser = clap::value_parser!(u8).range(10..=32))]
    pub iterations_log2: u8,
    /// What the value is, such as a drand round
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// `ceremony verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// What the ceremony is about.
    #[command(flatten)]
    pub subject: Subject,
    /// The parameters
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// Write the transcript to a file
    #[arg(long, value_name = "FILE")]
    pub transcript: Option<PathBuf>,
}

/// `ceremony finish`.
#[derive(Args, Clone, Debug)]
pub struct FinishArgs {
    /// What the ceremony is about.
    #[command(flatten)]
    pub subject: Subject,
    /// The closed parameters
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The directory for the key and its exports
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// Bytes in hexadecimal digits, with or without `0x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HexBytes(pub Vec<u8>);

impl core::str::FromStr for HexBytes {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        hex::decode(text.strip_prefix("0x").unwrap_or(text)).map(Self)
    }
}

impl Subject {
    fn derive(&self) -> Result<Reference, CeremonyError> {
        Reference::derive(self.circuit, &self.powers, self.powers_hash.map_or(PowersPin::Public, PowersPin::Hash))
    }
}

/// Runs the command.
///
/// # Errors
/// What the ceremony or a file refuses.
pub async fn run(context: &Context, command: &CeremonyCommand) -> CliResult<()> {
    match command.clone() {
        CeremonyCommand::Start(args) => {
            let view = busy(context, "making the parameters", move || start(&args)).await?;
            context.output.show(&view)
        }
        CeremonyCommand::Contribute(args) => {
            let view = busy(context, "contributing", move || add_secret(&args)).await?;
            context.output.show(&view)?;
            context.output.note("publish the hash where others can see that it is yours");
            Ok(())
        }
        CeremonyCommand::Beacon(args) => {
            let view = busy(context, "closing the ceremony", move || close(&args)).await?;
            context.output.show(&view)
        }
        CeremonyCommand::Verify(args) => {
            let view = busy(context, "verifying", move || check(&args)).await?;
            context.output.show(&view)
        }
        CeremonyCommand::Finish(args) => {
            let view = busy(context, "verifying, then making the key", move || finish(&args)).await?;
            context.output.show(&view)?;
            context.output.note("pin the key: add the entry to crates/prover/keys.toml");
            Ok(())
        }
    }
}

/// Minutes of arithmetic, on a thread where that is allowed.
async fn busy<T: Send + 'static>(
    context: &Context,
    message: &'static str,
    work: impl FnOnce() -> CliResult<T> + Send + 'static,
) -> CliResult<T> {
    let turning = spinner(&context.output, message);
    let result = spawn_blocking(work).await.map_err(|error| CliError::failed("internal", error.to_string()))?;
    turning.finish_and_clear();
    result
}

fn start(args: &StartArgs) -> CliResult<StartedView> {
    refuse_existing([Some(&args.out), args.r1cs.as_ref()])?;
    let reference = args.subject.derive()?;
    if let Some(r1cs) = &args.r1cs {
        write_r1cs(reference.structure(), r1cs)?;
    }
    reference.start(&args.out)?;
    Ok(StartedView::new(&reference, &args.out, args.r1cs.as_deref()))
}

/// Before minutes of work, not after.
fn refuse_existing<'a>(paths: impl IntoIterator<Item = Option<&'a PathBuf>>) -> CliResult<()> {
    match paths.into_iter().flatten().find(|path| path.exists()) {
        Some(path) => Err(CeremonyError::Exists { path: path.clone() }.into()),
        None => Ok(()),
    }
}

fn add_secret(args: &ContributeArgs) -> CliResult<ContributedView> {
    let added = args.entropy.as_deref().map(read_entropy).transpose()?;
    let secret = Secret::from_os(added.as_deref().map_or(&[], Vec::as_slice))?;
    let contributed = contribute(&args.input, &args.out, args.name.as_deref(), secret)?;
    Ok(ContributedView::new(&contributed, &args.out))
}

fn read_entropy(path: &Path) -> CliResult<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = if path == Path::new("-") {
        stdin().lock().take(ENTROPY_BYTES_MAX).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(ENTROPY_BYTES_MAX).read_to_end(&mut bytes))
    };
    let read = read.map_err(|error| CliError::usage("entropy_file", format!("cannot read {}: {error}", path.display())))?;
    if read == 0 {
        return Err(CliError::usage("entropy_file", format!("{} is empty", path.display())));
    }
    Ok(bytes)
}

fn close(args: &BeaconArgs) -> CliResult<ContributedView> {
    let value = Beacon { value: args.value.0.clone(), iterations_log2: args.iterations_log2 };
    let contributed = beacon(&args.input, &args.out, args.name.as_deref(), value)?;
    Ok(ContributedView::new(&contributed, &args.out))
}

fn check(args: &VerifyArgs) -> CliResult<VerifiedView> {
    refuse_existing([args.transcript.as_ref()])?;
    check_contributions(&args.input)?;
    let reference = args.subject.derive()?;
    let verified = reference.verify(&args.input)?;
    if let Some(path) = &args.transcript {
        verified.write_transcript(path)?;
    }
    Ok(VerifiedView::new(&verified))
}

fn finish(args: &FinishArgs) -> CliResult<FinishedView> {
    check_contributions(&args.input)?;
    let reference = args.subject.derive()?;
    let finished = reference.verify(&args.input)?.finish(&args.directory)?;
    Ok(FinishedView::new(&finished))
}

impl From<CeremonyError> for CliError {
    fn from(error: CeremonyError) -> Self {
        let (exit, code) = match &error {
            CeremonyError::File { .. } => (Exit::Failed, "file"),
            CeremonyError::Exists { .. } => (Exit::Usage, "file_exists"),
            CeremonyError::Malformed { .. } | CeremonyError::BadPoint { .. } => (Exit::CheckFailed, "malformed_file"),
            CeremonyError::PowersHash { .. } => (Exit::CheckFailed, "powers_not_pinned"),
            CeremonyError::Powers { .. } => (Exit::CheckFailed, "powers_inconsistent"),
            CeremonyError::TooFewPowers { .. } => (Exit::Usage, "too_few_powers"),
            CeremonyError::OtherCircuit { .. } => (Exit::CheckFailed, "other_circuit"),
            CeremonyError::Chain { .. } | CeremonyError::Parameters { .. } => (Exit::CheckFailed, "ceremony_does_not_hold"),
            CeremonyError::NoContribution { .. } | CeremonyError::NoBeacon { .. } => (Exit::CheckFailed, "ceremony_unfinished"),
            CeremonyError::Closed { .. } | CeremonyError::Full { .. } => (Exit::Usage, "ceremony_closed"),
            CeremonyError::Length { .. } | CeremonyError::Iterations { .. } => (Exit::Usage, "usage"),
            CeremonyError::Degenerate(_) => (Exit::CheckFailed, "degenerate_key"),
            CeremonyError::Key(_) => (Exit::Failed, "key_file"),
            CeremonyError::Entropy(_) => (Exit::Unavailable, "no_entropy"),
        };
        let failed = Self::new(exit, code, chain_of(&error));
        match error {
            CeremonyError::PowersHash { expected: None, .. } => {
                failed.hint("the pinned files are in crates/ceremony/powers.toml; --powers-hash takes another one")
            }
            CeremonyError::Exists { .. } => failed.hint("nothing is overwritten: name another file, or remove that one"),
            CeremonyError::NoContribution { .. } => failed.hint("see `millstream ceremony contribute`"),
            CeremonyError::NoBeacon { .. } => failed.hint("see `millstream ceremony beacon`"),
            _ => failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_ceremony::BEACON_ITERATIONS_LOG2;

    use super::*;

    #[test]
    fn the_flag_takes_the_iterations_that_the_ceremony_takes() {
        assert_eq!(BEACON_ITERATIONS_LOG2, 10..=32);
    }

    #[test]
    fn beacons_are_hexadecimal() {
        assert_eq!("0x00ff".parse(), Ok(HexBytes(vec![0, 255])));
        assert_eq!("00FF".parse(), Ok(HexBytes(vec![0, 255])));
        assert!("0xf".parse::<HexBytes>().is_err() && "later".parse::<HexBytes>().is_err());
    }
}
