//! What the commands print.

use std::path::Path;

use millstream_ceremony::{Contributed, ContributionKind, ContributionRecord, Finished, Reference, Transcript, Verified};
use serde::Serialize;

use crate::output::{View, columns, pairs};

/// A ceremony that was started.
#[derive(Serialize)]
pub(super) struct StartedView {
    circuit: String,
    circuit_digest: String,
    constraints: usize,
    domain: usize,
    powers_hash: String,
    circuit_hash: String,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    r1cs: Option<String>,
}

impl StartedView {
    pub(super) fn new(reference: &Reference, file: &Path, r1cs: Option<&Path>) -> Self {
        Self {
            circuit: reference.circuit().to_string(),
            circuit_digest: format!("0x{}", hex::encode(reference.structure().digest())),
            constraints: reference.structure().constraints(),
            domain: reference.domain_size(),
            powers_hash: reference.powers_hash().to_string(),
            circuit_hash: reference.circuit_hash().to_string(),
            file: file.display().to_string(),
            r1cs: r1cs.map(|path| path.display().to_string()),
        }
    }
}

impl View for StartedView {
    fn table(&self) -> String {
        let mut rows = vec![
            ("circuit", self.circuit.clone()),
            ("circuit digest", self.circuit_digest.clone()),
            ("constraints", format!("{} of {}", self.constraints, self.domain)),
            ("powers of tau", self.powers_hash.clone()),
            ("circuit hash", self.circuit_hash.clone()),
            ("parameters", self.file.clone()),
        ];
        rows.extend(self.r1cs.clone().map(|path| ("circuit file", path)));
        pairs(rows)
    }
}

/// A contribution that was made.
#[derive(Serialize)]
pub(super) struct ContributedView {
    number: usize,
    hash: String,
    circuit_hash: String,
    file: String,
}

impl ContributedView {
    pub(super) fn new(contributed: &Contributed, file: &Path) -> Self {
        Self {
            number: contributed.number,
            hash: contributed.hash.to_string(),
            circuit_hash: contributed.circuit_hash.to_string(),
            file: file.display().to_string(),
        }
    }
}

impl View for ContributedView {
    fn table(&self) -> String {
        pairs([
            ("contribution", self.number.to_string()),
            ("hash", self.hash.clone()),
            ("circuit hash", self.circuit_hash.clone()),
            ("parameters", self.file.clone()),
        ])
    }
}

/// A ceremony that holds.
#[derive(Serialize)]
pub(super) struct VerifiedView {
    /// Whether a key can be made of it: somebody contributed, and a beacon closes it.
    finished: bool,
    #[serde(flatten)]
    transcript: Transcript,
}

impl VerifiedView {
    pub(super) fn new(verified: &Verified<'_>) -> Self {
        Self { finished: verified.participants() > 0 && verified.is_closed(), transcript: verified.transcript() }
    }
}

impl View for VerifiedView {
    fn table(&self) -> String {
        let Self { finished, transcript } = self;
        let state = if *finished { "holds, and is closed by a beacon" } else { "holds, and is not finished" };
        let facts = pairs([
            ("ceremony", state.to_owned()),
            ("circuit", transcript.circuit.clone()),
            ("circuit digest", transcript.circuit_digest.clone()),
            ("powers of tau", transcript.powers_hash.clone()),
            ("circuit hash", transcript.circuit_hash.clone()),
            ("key hash", transcript.verifying_key_hash.clone().unwrap_or_else(|| "-".to_owned())),
        ]);
        if transcript.contributions.is_empty() {
            return facts;
        }
        format!("{facts}\n\n{}", contributions(&transcript.contributions))
    }
}

fn contributions(records: &[ContributionRecord]) -> String {
    let rows = records.iter().map(|record| {
        let kind = match &record.kind {
            ContributionKind::Participant => "participant".to_owned(),
            ContributionKind::Beacon { beacon, iterations_log2 } => format!("beacon {beacon}, 2^{iterations_log2} times"),
        };
        // A name is somebody else's text: nothing in it reaches the terminal as a control sequence.
        let name = record.name.as_deref().map_or_else(|| "-".to_owned(), |name| name.escape_debug().to_string());
        vec![record.number.to_string(), name, kind, record.hash.clone()]
    });
    columns(&["", "name", "kind", "hash"], &[0], rows)
}

/// A key that was made.
#[derive(Serialize)]
pub(super) struct FinishedView {
    circuit: String,
    circuit_digest: String,
    key_hash: String,
    file_hash: String,
    key: String,
    verifier: String,
    verification_key: String,
    transcript: String,
    /// The entry for `keys.toml`.
    pin: String,
}

impl FinishedView {
    pub(super) fn new(finished: &Finished) -> Self {
        let path = |path: &Path| path.display().to_string();
        Self {
            circuit: finished.circuit.to_string(),
            circuit_digest: finished.pin.circuit_digest.to_string(),
            key_hash: finished.pin.key_hash.to_string(),
            file_hash: finished.pin.file_hash.to_string(),
            key: path(&finished.key),
            verifier: path(&finished.verifier),
            verification_key: path(&finished.verification_key),
            transcript: path(&finished.transcript),
            pin: finished.pin.to_toml(),
        }
    }
}

impl View for FinishedView {
    fn table(&self) -> String {
        let facts = pairs([
            ("circuit", self.circuit.clone()),
            ("key hash", self.key_hash.clone()),
            ("proving key", self.key.clone()),
            ("verifier contract", self.verifier.clone()),
            ("for snarkjs", self.verification_key.clone()),
            ("transcript", self.transcript.clone()),
        ]);
        format!("{facts}\n\n{}", self.pin.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_move_the_cursor() {
        let record = ContributionRecord {
            number: 1,
            name: Some("Eve\u{1b}[2J\nholds".to_owned()),
            kind: ContributionKind::Beacon { beacon: "be".to_owned(), iterations_log2: 10 },
            hash: "00".to_owned(),
            transcript: String::new(),
            delta_g1: Default::default(),
            s: Default::default(),
            s_x: Default::default(),
            r_x: Default::default(),
        };
        let table = contributions(&[record]);
        assert_eq!(table, "   NAME                 KIND                   HASH\n1  Eve\\u{1b}[2J\\nholds  beacon be, 2^10 times  00");
    }
}
