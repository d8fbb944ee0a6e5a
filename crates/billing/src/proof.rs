//! The proof that one payment is in an anchored epoch.

use millstream_types::{Address, ChainId, EpochId, Hash256, LedgerId};

use crate::epoch::top_of;
use crate::frame::{FRAME_LINES_MAX, depth, node};
use crate::{EpochHeader, EpochTree, FrameLeaf, FrameTree, Line, SumNode};

/// Everything needed to check one line against an epoch root (B-8). Its JSON is what `millstream proof make` writes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineProof {
    /// The ledger's chain.
    pub chain_id: u64,
    /// The ledger's contract.
    pub ledger: Address,
    /// The epoch.
    pub epoch: u64,
    /// Frames in the epoch.
    pub frame_count: u64,
    /// Position of the frame in the epoch.
    pub frame_index: u64,
    /// The frame's leaf.
    pub frame: FrameLeaf,
    /// Siblings of the frame, from the leaf up.
    pub frame_path: Vec<SumNode>,
    /// Position of the line in the frame.
    pub line_index: u64,
    /// The line.
    pub line: Line,
    /// Siblings of the line, from the leaf up.
    pub line_path: Vec<Hash256>,
}

/// Why a proof does not hold, or could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The frame's line totals do not make sense.
    #[error("the frame's line totals do not make a frame of 1 to {FRAME_LINES_MAX} lines")]
    LineTotals,
    /// The line's amount has more than 64 bits.
    #[error("the line's amount does not fit 64 bits")]
    Amount,
    /// The line is outside of the frame, or its path has the wrong length.
    #[error("the line's position or path does not fit its frame")]
    LinePath,
    /// The line does not lead to the frame's root.
    #[error("the line is not in the frame: its path leads to {actual}, the frame's root is {expected}")]
    FrameRoot {
        /// The root the frame leaf names.
        expected: Hash256,
        /// Where the line's path leads.
        actual: Hash256,
    },
    /// The frame is outside of the epoch, its path has the wrong length, or a sum does not add up.
    #[error("the frame's position, path or sums do not fit its epoch")]
    FramePath,
    /// The frame does not lead to the anchored root.
    #[error("the frame is not in the epoch: its path leads to {actual}, the anchored root is {expected}")]
    EpochRoot {
        /// The root to check against.
        expected: Hash256,
        /// Where the frame's path leads.
        actual: Hash256,
    },
    /// The epoch and frame given do not contain the line asked for.
    #[error("the records do not hold the line asked for")]
    NotThere,
}

impl LineProof {
    /// The proof of line `line_index` of the frame at `frame_index`, from the sealed epoch and the frame's lines.
    ///
    /// # Errors
    /// [`ProofError::NotThere`] when a position is out of range or the lines are not the frame's.
    pub fn new(epoch: &EpochTree, frame_index: usize, frame: FrameLeaf, lines: &[Line], line_index: usize) -> Result<Self, ProofError> {
        let tree = FrameTree::new(lines).map_err(|_| ProofError::NotThere)?;
        let line = *lines.get(line_index).ok_or(ProofError::NotThere)?;
        let proof = Self {
            chain_id: epoch.header().ledger.chain.get(),
            ledger: epoch.header().ledger.contract,
            epoch: epoch.header().epoch.number(),
            frame_count: epoch.header().leaf_count,
            frame_index: u64::try_from(frame_index).map_err(|_| ProofError::NotThere)?,
            frame,
            frame_path: epoch.path(frame_index).map_err(|_| ProofError::NotThere)?,
            line_index: u64::try_from(line_index).map_err(|_| ProofError::NotThere)?,
            line,
            line_path: tree.path(line_index).map_err(|_| ProofError::NotThere)?,
        };
        proof.verify(&epoch.header().root())?;
        Ok(proof)
    }

    /// Checks the proof against an epoch root, as read from the chain.
    ///
    /// # Errors
    /// [`ProofError`]: the first step that does not hold.
    pub fn verify(&self, epoch_root: &Hash256) -> Result<(), ProofError> {
        let actual = self.frame_root()?;
        if actual != self.frame.frame_root {
            return Err(ProofError::FrameRoot { expected: self.frame.frame_root, actual });
        }
        let leaf = self.frame.node().ok_or(ProofError::FramePath)?;
        let top = top_of(leaf, self.frame_index, self.frame_count, &self.frame_path).ok_or(ProofError::FramePath)?;
        let ledger = LedgerId { chain: ChainId::new(self.chain_id), contract: self.ledger };
        let header = EpochHeader { ledger, epoch: EpochId::new(self.epoch), leaf_count: self.frame_count, top };
        let actual = header.root();
        if actual == *epoch_root { Ok(()) } else { Err(ProofError::EpochRoot { expected: *epoch_root, actual }) }
    }

    /// Where the line's path leads.
    fn frame_root(&self) -> Result<Hash256, ProofError> {
        let count = self.frame.lines_after.checked_sub(self.frame.lines_before);
        let count = count.and_then(|count| usize::try_from(count).ok()).ok_or(ProofError::LineTotals)?;
        if count == 0 || count > FRAME_LINES_MAX {
            return Err(ProofError::LineTotals);
        }
        if usize::try_from(self.line_index).map_or(true, |index| index >= count) || self.line_path.len() != depth(count) {
            return Err(ProofError::LinePath);
        }
        let leaf = self.line.leaf().map_err(|_| ProofError::Amount)?;
        Ok(self.line_path.iter().enumerate().fold(leaf, |below, (level, sibling)| {
            if self.line_index >> level & 1 == 0 { node(&below, sibling) } else { node(sibling, &below) }
        }))
    }
}
