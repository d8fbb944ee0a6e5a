//! Receipts: that a node made a payment durable, checked with nothing but the receipt and the node's published key (J-5 to J-8).

use millstream_types::{Address, Amount, ChainId, CumulativeAmount, EscrowChannelId, Hash256, LedgerId, Timestamp};

use crate::frame::{FRAME_LINES_MAX, depth, node};
use crate::journal::batch_root;
use crate::{Batch, BatchKind, Evidence, FrameLeaf, Line, SignedBatch, hex_bytes, sha256};

/// The first byte of what a charge as an entry hashes.
const CHARGE: u8 = 0x14;

/// What a charge was paid from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChargeSource {
    /// A channel on an escrow.
    Channel(EscrowChannelId),
    /// A single payment, by its authorisation.
    Payment(Hash256),
}

/// Why a charge was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChargeCause {
    /// The delivery was captured.
    Captured,
    /// The delivery failed after a part of it.
    Voided,
    /// The node stopped while the delivery was under way.
    Recovered,
    /// The reservation was held for too long.
    Expired,
    /// A single payment could not be collected and nothing had left: what was charged for it is taken back.
    Reversed,
}

impl ChargeCause {
    const fn number(self) -> u8 {
        match self {
            Self::Captured => 1,
            Self::Voided => 2,
            Self::Recovered => 3,
            Self::Expired => 4,
            Self::Reversed => 5,
        }
    }
}

/// A charge of HTTP 402 as an entry of the journal (J-5). Amounts in base units of the token.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChargeEntry {
    /// Its number in the charge log.
    pub sequence: u64,
    /// The token.
    pub token: Address,
    /// Who pays.
    pub payer: Address,
    /// What it was paid from.
    pub source: ChargeSource,
    /// The request.
    pub request: Hash256,
    /// What was charged; of a reversal, what is taken back.
    pub amount: Amount,
    /// Charged on the channel, with this; of a single payment, its amount.
    pub total_after: CumulativeAmount,
    /// Milliseconds since the Unix epoch.
    pub at_millis: u64,
    /// Why.
    pub cause: ChargeCause,
    /// Version of the prices.
    pub card_version: u32,
    /// What was measured, as it is kept: [`Evidence`] where it can be read.
    #[serde(with = "hex_bytes")]
    pub evidence: Vec<u8>,
}

impl ChargeEntry {
    /// The entry's hash (J-5).
    #[must_use]
    pub fn hash(&self) -> Hash256 {
        let (kind, source) = match &self.source {
            ChargeSource::Channel(channel) => (1, channel.as_bytes()),
            ChargeSource::Payment(authorization) => (2, authorization.as_bytes()),
        };
        sha256(&[
            &[CHARGE],
            &self.sequence.to_be_bytes(),
            self.token.as_bytes(),
            self.payer.as_bytes(),
            &[kind],
            source,
            self.request.as_bytes(),
            &self.amount.units().to_be_bytes(),
            &self.total_after.units().to_be_bytes(),
            &self.at_millis.to_be_bytes(),
            &[self.cause.number()],
            &self.card_version.to_be_bytes(),
            self.evidence_digest().as_bytes(),
        ])
    }

    /// SHA-256 of what was measured.
    #[must_use]
    pub fn evidence_digest(&self) -> Hash256 {
        sha256(&[&self.evidence])
    }

    /// What was measured, where it can be read.
    #[must_use]
    pub fn read_evidence(&self) -> Option<Evidence> {
        Evidence::decode(&self.evidence)
    }
}

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry {
    /// An accepted frame, in nanos.
    Frame(FrameLeaf),
    /// A charge of HTTP 402, in base units.
    Charge(ChargeEntry),
}

impl Entry {
    /// The entry's hash: a frame's is that of its leaf (B-5). `None` when a frame's totals go down.
    #[must_use]
    pub fn hash(&self) -> Option<Hash256> {
        match self {
            Self::Frame(leaf) => leaf.node().map(|node| node.hash),
            Self::Charge(charge) => Some(charge.hash()),
        }
    }

    const fn kind(&self) -> BatchKind {
        match self {
            Self::Frame(_) => BatchKind::Frames,
            Self::Charge(_) => BatchKind::Charges,
        }
    }
}

/// One line of a frame, and its way to the frame's root (B-8).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptLine {
    /// Its position in the frame.
    pub index: u32,
    /// The line.
    pub line: Line,
    /// Siblings of the line, from the leaf up.
    pub path: Vec<Hash256>,
}

/// The word of a node that it made a payment durable (J-7). Its JSON is what `millstream receipt show` writes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// 1.
    pub version: u32,
    /// The journal's chain.
    pub chain_id: u64,
    /// The journal's ledger; the address zero on a node without one.
    pub ledger: Address,
    /// The account of the key that signs the journal. What counts is the key that the node has published.
    pub key: Address,
    /// The batch that has the entry.
    pub signed: SignedBatch,
    /// Position of the entry in the batch.
    pub index: u32,
    /// Siblings of the entry, from it up.
    pub path: Vec<Hash256>,
    /// What was paid.
    pub entry: Entry,
    /// The one line that it is about; none for all of a frame, and for a charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<ReceiptLine>,
}

/// Why a receipt does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Written by another version.
    #[error("a receipt of version {version}: this program reads version 1")]
    Version {
        /// The version found.
        version: u32,
    },
    /// The receipt names another key.
    #[error("the receipt is by {actual}, and not by the key {expected}")]
    Key {
        /// The published key.
        expected: Address,
        /// The key named.
        actual: Address,
    },
    /// The signature is not the key's, for this batch.
    #[error("the batch is not signed by {expected}: something in it was altered, or it was never signed")]
    Signature {
        /// The key.
        expected: Address,
    },
    /// The batch has entries of another kind.
    #[error("the batch has {expected:?}, and the receipt is about something else")]
    Kind {
        /// What the batch has.
        expected: BatchKind,
    },
    /// A frame's totals go down, or do not make a frame.
    #[error("the totals of the frame do not make a frame")]
    Totals,
    /// The entry does not lead to the batch's root.
    #[error("the entry is not in the batch: it was altered, or its position or path was")]
    Entry,
    /// The line does not lead to the frame's root.
    #[error("the line is not in the frame: it was altered, or its position or path was")]
    Line,
}

impl SignedBatch {
    /// Checks that a key signed this batch. `recover` tells the account whose key made a signature of 65 bytes over a digest, if any did.
    ///
    /// # Errors
    /// [`ReceiptError::Signature`].
    pub fn verify(&self, journal: &LedgerId, key: &Address, recover: &Recover<'_>) -> Result<(), ReceiptError> {
        let digest = self.batch.signed_digest(journal, self.durability);
        if recover(&digest, &self.signature) == Some(*key) { Ok(()) } else { Err(ReceiptError::Signature { expected: *key }) }
    }
}

/// Tells the account whose key made a signature of 65 bytes over a digest, if any did: this crate knows no curve.
pub type Recover<'a> = dyn Fn(&Hash256, &[u8]) -> Option<Address> + 'a;

impl Receipt {
    /// Checks the receipt against the node's published key, without anything else.
    ///
    /// # Errors
    /// [`ReceiptError`]: the first step that does not hold, in the order of the variants.
    pub fn verify(&self, key: &Address, recover: &Recover<'_>) -> Result<(), ReceiptError> {
        if self.version != 1 {
            return Err(ReceiptError::Version { version: self.version });
        }
        if self.key != *key {
            return Err(ReceiptError::Key { expected: *key, actual: self.key });
        }
        self.signed.verify(&self.journal(), key, recover)?;
        let Batch { kind, count, root, .. } = self.signed.batch;
        if kind != self.entry.kind() || (self.line.is_some() && kind != BatchKind::Frames) {
            return Err(ReceiptError::Kind { expected: kind });
        }
        let hash = self.entry.hash().ok_or(ReceiptError::Totals)?;
        if batch_root(&hash, self.index, count, &self.path) != Some(root) {
            return Err(ReceiptError::Entry);
        }
        match (&self.entry, &self.line) {
            (Entry::Frame(frame), Some(line)) => line.verify(frame),
            (Entry::Frame(_) | Entry::Charge(_), _) => Ok(()),
        }
    }

    /// Whose journal it is.
    #[must_use]
    pub const fn journal(&self) -> LedgerId {
        LedgerId { chain: ChainId::new(self.chain_id), contract: self.ledger }
    }

    /// What was paid: by the line, the frame or the charge. Nanos for frames, base units for charges.
    #[must_use]
    pub fn amount(&self) -> Amount {
        match (&self.entry, &self.line) {
            (_, Some(line)) => line.line.amount,
            (Entry::Frame(frame), None) => Amount::from_nanos(frame.cumulative_after.saturating_sub(frame.cumulative_before)),
            (Entry::Charge(charge), None) => charge.amount,
        }
    }

    /// What the channel had paid with the frame or the charge.
    #[must_use]
    pub const fn total_after(&self) -> CumulativeAmount {
        match &self.entry {
            Entry::Frame(frame) => CumulativeAmount::from_nanos(frame.cumulative_after),
            Entry::Charge(charge) => charge.total_after,
        }
    }

    /// When the node made it durable.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.signed.batch.at()
    }
}

impl ReceiptLine {
    fn verify(&self, frame: &FrameLeaf) -> Result<(), ReceiptError> {
        let lines = frame.lines_after.checked_sub(frame.lines_before).and_then(|lines| usize::try_from(lines).ok());
        let lines = lines.filter(|lines| (1..=FRAME_LINES_MAX).contains(lines)).ok_or(ReceiptError::Totals)?;
        let is_within = usize::try_from(self.index).is_ok_and(|index| index < lines) && self.path.len() == depth(lines);
        let leaf = self.line.leaf().ok().filter(|_| is_within).ok_or(ReceiptError::Line)?;
        let root = self.path.iter().enumerate().fold(leaf, |below, (height, sibling)| {
            if self.index >> height & 1 == 0 { node(&below, sibling) } else { node(sibling, &below) }
        });
        if root == frame.frame_root { Ok(()) } else { Err(ReceiptError::Line) }
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::{BillHead, ChannelId, Reference};

    use super::*;
    use crate::{BatchTree, DurabilityLevel, FrameTree};

    const KEY: Address = Address::from_bytes([0xaa; 20]);

    /// A signature that says whose it is and of what, for tests of everything around it.
    fn sign(digest: &Hash256) -> Vec<u8> {
        [KEY.as_bytes().as_slice(), digest.as_bytes()].concat()
    }

    fn recover(digest: &Hash256, signature: &[u8]) -> Option<Address> {
        let (key, signed) = signature.split_first_chunk()?;
        (signed == digest.as_bytes()).then(|| Address::from_bytes(*key))
    }

    fn charge(sequence: u64) -> ChargeEntry {
        ChargeEntry {
            sequence,
            token: Address::from_bytes([1; 20]),
            payer: Address::from_bytes([2; 20]),
            source: ChargeSource::Channel(EscrowChannelId::from_bytes([3; 32])),
            request: Hash256::from_bytes([4; 32]),
            amount: Amount::from_units(150),
            total_after: CumulativeAmount::from_units(1_150),
            at_millis: 5,
            cause: ChargeCause::Captured,
            card_version: 6,
            evidence: Evidence { card: "c".to_owned(), route: "/r".to_owned(), delivery: None }.encode(),
        }
    }

    fn lines() -> Vec<Line> {
        (1..=3)
            .map(|n| Line { amount: Amount::from_nanos(n), reference: Reference::from_bytes([7; 16]), digest: None })
            .collect()
    }

    fn frame() -> FrameLeaf {
        FrameLeaf {
            channel: ChannelId::from_uid(&[1; 31]),
            lines_before: 10,
            lines_after: 13,
            cumulative_before: 100,
            cumulative_after: 106,
            bill_head: BillHead::from_bytes([8; 32]),
            frame_root: FrameTree::new(&lines()).expect("lines").root(),
        }
    }

    fn receipt(tree: &BatchTree, index: u32, count: u32, entry: Entry) -> Receipt {
        let batch = Batch { number: 9, at_millis: 10, kind: entry.kind(), count, root: tree.root(), parent: Hash256::from_bytes([11; 32]) };
        let journal = LedgerId { chain: ChainId::new(31_337), contract: Address::ZERO };
        let durability = DurabilityLevel::Synced;
        let signature = sign(&batch.signed_digest(&journal, durability));
        let path = tree.path(usize::try_from(index).expect("small")).expect("there");
        let signed = SignedBatch { batch, durability, signature };
        Receipt { version: 1, chain_id: 31_337, ledger: Address::ZERO, key: KEY, signed, index, path, entry, line: None }
    }

    fn of_a_charge() -> Receipt {
        let entries: Vec<_> = (0..5).map(|sequence| *charge(sequence).hash().as_bytes()).collect();
        receipt(&BatchTree::new(entries).expect("a batch"), 2, 5, Entry::Charge(charge(2)))
    }

    fn of_a_line() -> Receipt {
        let other = FrameLeaf { lines_before: 0, ..frame() };
        let tree = BatchTree::of_frames(&[other, frame(), other]).expect("frames");
        let path = FrameTree::new(&lines()).expect("lines").path(1).expect("there");
        let line = ReceiptLine { index: 1, line: lines()[1], path };
        Receipt { line: Some(line), ..receipt(&tree, 1, 3, Entry::Frame(frame())) }
    }

    #[test]
    fn receipts_hold_and_name_what_was_paid() {
        let (charge, line) = (of_a_charge(), of_a_line());
        for receipt in [&charge, &line, &Receipt { line: None, ..line.clone() }] {
            assert_eq!(receipt.verify(&KEY, &recover), Ok(()));
            let json = serde_json::to_string(receipt).expect("JSON");
            assert_eq!(serde_json::from_str::<Receipt>(&json).expect("its own JSON"), *receipt);
        }
        assert_eq!((charge.amount(), charge.total_after().units()), (Amount::from_units(150), 1_150));
        assert_eq!((line.amount(), line.total_after().units()), (Amount::from_nanos(2), 106));
        assert_eq!(Receipt { line: None, ..line }.amount(), Amount::from_nanos(6));
    }

    /// Every value in the JSON of a receipt, changed one at a time: none of them can be without its being seen (J-8).
    #[test]
    fn any_altered_value_is_seen() {
        fn leaves(value: &serde_json::Value, at: String, all: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(fields) => fields.iter().for_each(|(name, value)| leaves(value, format!("{at}/{name}"), all)),
                serde_json::Value::Array(items) => {
                    items.iter().enumerate().for_each(|(index, value)| leaves(value, format!("{at}/{index}"), all));
                }
                serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) | serde_json::Value::String(_) => {
                    all.push(at)
                }
            }
        }
        let mut altered = 0;
        for receipt in [of_a_charge(), of_a_line()] {
            let json = serde_json::to_value(&receipt).expect("JSON");
            let mut all = Vec::new();
            leaves(&json, String::new(), &mut all);
            for at in all {
                let mut json = json.clone();
                let value = json.pointer_mut(&at).expect("there");
                *value = match value.as_str() {
                    Some(text) if text.starts_with("0x") => {
                        let (kept, last) = text.split_at(text.len() - 1);
                        format!("{kept}{}", if last == "0" { '1' } else { '0' }).into()
                    }
                    Some("captured") => "voided".into(),
                    Some("frames") => "charges".into(),
                    Some("charges") => "frames".into(),
                    Some("synced") => continue,
                    Some(number) => (number.parse::<u64>().expect("a number") + 1).to_string().into(),
                    None => (value.as_u64().expect("a number") + 1).into(),
                };
                altered += 1;
                if let Ok(read) = serde_json::from_value::<Receipt>(json) {
                    assert!(read.verify(&KEY, &recover).is_err(), "{at} can be altered");
                }
            }
        }
        assert!(altered > 40, "{altered}");
    }
}
