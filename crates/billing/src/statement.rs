//! Statements: what one payer paid in a period, line by line, signed by the node and checked without it.

use std::collections::{BTreeMap, BTreeSet};

use millstream_types::{Address, Amount, BillHead, ChainId, ChannelId, CumulativeAmount, EpochId, EscrowChannelId, Hash256, LedgerId};

use crate::epoch::top_of;
use crate::journal::batch_root;
use crate::{
    BatchKind, ChargeCause, ChargeSource, Entry, EpochHeader, FrameLeaf, Recover, SignedBatch, SumNode, genesis_head, hex_bytes, next_head,
    sha256,
};

/// Rows of a statement, at most: a longer period is to be cut into shorter ones.
pub const STATEMENT_ROWS_MAX: usize = 20_000;

/// The first byte of what is signed of a statement.
const SIGNED: u8 = 0x1a;
const DOMAIN: &[u8] = b"millstream/statement/1";

/// What an account is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccountOf {
    /// A channel of the ledger, in nanos.
    Ledger(ChannelId),
    /// A channel on an escrow, in base units of its token.
    Escrow(EscrowChannelId),
    /// The payer's single payments in a token, in its base units; the token.
    Payments(Address),
}

impl AccountOf {
    fn to_bytes(self) -> (u8, [u8; 32]) {
        match self {
            Self::Ledger(channel) => (1, *channel.as_bytes()),
            Self::Escrow(channel) => (2, *channel.as_bytes()),
            Self::Payments(token) => {
                let mut bytes = [0; 32];
                for (byte, of_token) in bytes.iter_mut().zip(token.as_bytes()) {
                    *byte = *of_token;
                }
                (3, bytes)
            }
        }
    }
}

impl core::fmt::Display for AccountOf {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Ledger(channel) => write!(f, "channel {channel}"),
            Self::Escrow(channel) => write!(f, "escrow channel {channel}"),
            Self::Payments(token) => write!(f, "single payments in {token}"),
        }
    }
}

/// The place of a frame in a sealed epoch (B-8): leads to the root that is anchored on the chain.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochPlace {
    /// The epoch.
    pub epoch: u64,
    /// Frames in it.
    pub frame_count: u64,
    /// Position of the frame.
    pub frame_index: u64,
    /// Siblings, from the leaf up.
    pub path: Vec<SumNode>,
}

impl EpochPlace {
    /// The epoch root that a frame leads to; `None` when it cannot be in such an epoch.
    #[must_use]
    pub fn root(&self, ledger: LedgerId, frame: &FrameLeaf) -> Option<Hash256> {
        let top = top_of(frame.node()?, self.frame_index, self.frame_count, &self.path)?;
        Some(EpochHeader { ledger, epoch: EpochId::new(self.epoch), leaf_count: self.frame_count, top }.root())
    }
}

/// The root of an epoch that rows are in, as the node has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatedRoot {
    /// The epoch.
    pub epoch: u64,
    /// What is anchored on the chain, or will be (B-7).
    pub root: Hash256,
}

/// One line of a statement.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The number of the batch that has it.
    pub batch: u64,
    /// Its position in the batch.
    pub index: u32,
    /// Siblings of the entry, from it up.
    pub path: Vec<Hash256>,
    /// What was paid.
    pub entry: Entry,
    /// Where it is in its epoch, for a frame of a sealed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<EpochPlace>,
}

/// What an account's payer has signed, as the node holds it. It is checked by whoever knows the curve.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatedVoucher {
    /// Of a channel of the ledger.
    Ledger {
        /// The x-coordinate of the voucher key, big-endian.
        key_x: Hash256,
        /// Lines under it.
        lines_total: u64,
        /// The cumulative amount, in nanos.
        cumulative: CumulativeAmount,
        /// The bill head.
        bill_head: BillHead,
        /// 48 bytes.
        #[serde(with = "hex_bytes")]
        signature: Vec<u8>,
    },
    /// Of a channel on an escrow.
    Escrow {
        /// The name in the domain that it is signed for, such as `x402 Batch Settlement`.
        domain: String,
        /// The escrow contract.
        contract: Address,
        /// Whose signature it is.
        signer: Address,
        /// The cumulative amount, in base units.
        cumulative: CumulativeAmount,
        /// As the payer sent it.
        #[serde(with = "hex_bytes")]
        signature: Vec<u8>,
        /// The block at which a contract said that it is good; none for a key's signature.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        judged_at: Option<u64>,
    },
}

impl StatedVoucher {
    /// Its cumulative amount.
    #[must_use]
    pub const fn cumulative(&self) -> CumulativeAmount {
        match self {
            Self::Ledger { cumulative, .. } | Self::Escrow { cumulative, .. } => *cumulative,
        }
    }
}

/// What was paid from one channel, or by single payments in one token.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// What it is over.
    pub of: AccountOf,
    /// The token; for a channel of the ledger, the ledger.
    pub asset: Address,
    /// Paid before the period.
    pub opening: CumulativeAmount,
    /// Paid by the end of the period.
    pub closing: CumulativeAmount,
    /// What was paid in it, in durable order.
    pub rows: Vec<Row>,
    /// The best voucher that the node holds now; it may be newer than the period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voucher: Option<StatedVoucher>,
}

/// What one payer paid in a period.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// 1.
    pub version: u32,
    /// The journal's chain.
    pub chain_id: u64,
    /// The journal's ledger; the address zero on a node without one.
    pub ledger: Address,
    /// The account of the key that signs the journal and this. What counts is the key that the node has published.
    pub key: Address,
    /// Who paid.
    pub payer: Address,
    /// The period's first moment, in milliseconds since the Unix epoch.
    pub from_millis: u64,
    /// The first moment after it.
    pub to_millis: u64,
    /// The batches that rows are in, ascending.
    pub batches: Vec<SignedBatch>,
    /// The sealed epochs that rows are in, ascending.
    pub epochs: Vec<StatedRoot>,
    /// The accounts, in the order of what they are over.
    pub accounts: Vec<Account>,
    /// 65 bytes over [`Statement::signed_digest`].
    #[serde(with = "hex_bytes")]
    pub signature: Vec<u8>,
}

/// Something about a statement that does not hold. Displays name the account, the row, the batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// Another version.
    #[error("the statement is of version {version}: this program reads version 1")]
    Version {
        /// The version found.
        version: u32,
    },
    /// It names another key.
    #[error("the statement is by {actual}, and not by the key {expected}")]
    Key {
        /// The published key.
        expected: Address,
        /// The key named.
        actual: Address,
    },
    /// The whole is not signed.
    #[error(
        "the statement as a whole is not signed by {key}: a sum, a row, the period or the payer was altered, or a row is missing or added"
    )]
    Signature {
        /// The key.
        key: Address,
    },
    /// A batch is not signed by the key.
    #[error("batch {batch} is not signed by {key}: it was altered")]
    Batch {
        /// Its number.
        batch: u64,
        /// The key.
        key: Address,
    },
    /// Two batches that follow each other are not linked.
    #[error("batch {batch} does not follow the batch before it: the journal was forked or a batch altered")]
    Link {
        /// The later one's number.
        batch: u64,
    },
    /// Batches are out of order.
    #[error("batch {batch} is out of order")]
    BatchOrder {
        /// Its number.
        batch: u64,
    },
    /// A row names a batch that is not there.
    #[error("{row}: there is no batch {batch} in the statement")]
    NoBatch {
        /// The row.
        row: RowName,
        /// The batch.
        batch: u64,
    },
    /// A row is not in its batch.
    #[error("{row}: it is not in batch {batch}: the row, its position or its path was altered")]
    NotInBatch {
        /// The row.
        row: RowName,
        /// The batch.
        batch: u64,
    },
    /// A row is not in its epoch's tree as it says.
    #[error("{row}: its place in epoch {epoch} does not lead to the root of the epoch: the place, its path or the root was altered")]
    Place {
        /// The row.
        row: RowName,
        /// The epoch.
        epoch: u64,
    },
    /// An epoch has another root than the one on the chain.
    #[error("epoch {epoch}: the statement has the root {actual}, and the chain has {expected}")]
    Anchor {
        /// The epoch.
        epoch: u64,
        /// On the chain.
        expected: Hash256,
        /// What the statement has.
        actual: Hash256,
    },
    /// A row is of another payer, channel or token.
    #[error("{row}: it is not of this account")]
    Foreign {
        /// The row.
        row: RowName,
    },
    /// A row is outside of the period.
    #[error("{row}: it is outside of the period")]
    Outside {
        /// The row.
        row: RowName,
    },
    /// Two rows are the same payment.
    #[error("{row}: it is there twice")]
    Twice {
        /// The row.
        row: RowName,
    },
    /// A row does not go on from the one before it.
    #[error(
        "{row}: the total before it is {actual}, and the rows before it come to {expected}: a row is missing, or an amount was altered"
    )]
    Gap {
        /// The row.
        row: RowName,
        /// What the rows before it come to.
        expected: CumulativeAmount,
        /// What the row says.
        actual: CumulativeAmount,
    },
    /// A frame's bill head does not follow from the one before it.
    #[error("{row}: its bill head does not follow from that of the row before it")]
    BillHead {
        /// The row.
        row: RowName,
    },
    /// The rows do not add up to the account's end.
    #[error("{account}: opening and rows come to {expected}, and the closing total is {actual}")]
    Closing {
        /// The account.
        account: AccountOf,
        /// What they come to.
        expected: CumulativeAmount,
        /// What is said.
        actual: CumulativeAmount,
    },
    /// There is no voucher for what was paid.
    #[error("{account}: {closing} was paid by the end of the period, and there is no voucher")]
    NoVoucher {
        /// The account.
        account: AccountOf,
        /// Paid.
        closing: CumulativeAmount,
    },
    /// The voucher is over less than what was paid.
    #[error("{account}: {closing} was paid by the end of the period, and the voucher is over {voucher}")]
    Uncovered {
        /// The account.
        account: AccountOf,
        /// Paid.
        closing: CumulativeAmount,
        /// What the voucher is over.
        voucher: CumulativeAmount,
    },
    /// The voucher and the rows name different bills.
    #[error("{account}: the voucher signs another bill than the rows are")]
    OtherBill {
        /// The account.
        account: AccountOf,
    },
    /// The voucher's signature is not the payer's.
    #[error("{account}: the voucher does not hold: {reason}")]
    Voucher {
        /// The account.
        account: AccountOf,
        /// Why.
        reason: String,
    },
    /// The same account is there twice, or they are out of order.
    #[error("{account}: accounts are out of order, or it is there twice")]
    AccountOrder {
        /// The account.
        account: AccountOf,
    },
}

/// A row, for people: its position in its account, counted from 1, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowName {
    account: AccountOf,
    number: usize,
    entry: String,
}

impl core::fmt::Display for RowName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}, row {} ({})", self.account, self.number, self.entry)
    }
}

impl RowName {
    fn new(account: AccountOf, position: usize, entry: &Entry) -> Self {
        let entry = match entry {
            Entry::Frame(frame) => format!("lines {} to {}", frame.lines_before, frame.lines_after.saturating_sub(1)),
            Entry::Charge(charge) => format!("charge {}", charge.sequence),
        };
        Self { account, number: position.saturating_add(1), entry }
    }
}

impl Row {
    /// What was paid.
    #[must_use]
    pub fn amount(&self) -> Amount {
        match &self.entry {
            Entry::Frame(frame) => Amount::from_nanos(frame.cumulative_after.saturating_sub(frame.cumulative_before)),
            Entry::Charge(charge) => charge.amount,
        }
    }

    /// Whether it takes an earlier row back.
    #[must_use]
    pub const fn is_reversal(&self) -> bool {
        matches!(&self.entry, Entry::Charge(charge) if matches!(charge.cause, ChargeCause::Reversed))
    }

    /// The total after it: of the channel; of a single payment its amount, and of its reversal nothing.
    #[must_use]
    pub const fn total_after(&self) -> CumulativeAmount {
        match &self.entry {
            Entry::Frame(frame) => CumulativeAmount::from_nanos(frame.cumulative_after),
            Entry::Charge(charge) => charge.total_after,
        }
    }
}

/// Judges the signature of a voucher: why it does not hold.
pub type JudgeVoucher<'a> = dyn Fn(&AccountOf, &StatedVoucher) -> Result<(), String> + 'a;

impl Statement {
    /// Whose journal it is from.
    #[must_use]
    pub const fn journal(&self) -> LedgerId {
        LedgerId { chain: ChainId::new(self.chain_id), contract: self.ledger }
    }

    /// What the node signs of it: everything but proofs and vouchers, which hold by themselves.
    #[must_use]
    pub fn signed_digest(&self) -> Hash256 {
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX).to_be_bytes();
        let mut bytes = vec![SIGNED];
        bytes.extend_from_slice(DOMAIN);
        bytes.extend_from_slice(&self.chain_id.to_be_bytes());
        bytes.extend_from_slice(self.ledger.as_bytes());
        bytes.extend_from_slice(self.payer.as_bytes());
        bytes.extend_from_slice(&self.from_millis.to_be_bytes());
        bytes.extend_from_slice(&self.to_millis.to_be_bytes());
        bytes.extend_from_slice(&count(self.epochs.len()));
        for StatedRoot { epoch, root } in &self.epochs {
            bytes.extend_from_slice(&epoch.to_be_bytes());
            bytes.extend_from_slice(root.as_bytes());
        }
        bytes.extend_from_slice(&count(self.accounts.len()));
        for account in &self.accounts {
            let (kind, of) = account.of.to_bytes();
            bytes.push(kind);
            bytes.extend_from_slice(&of);
            bytes.extend_from_slice(account.asset.as_bytes());
            bytes.extend_from_slice(&account.opening.units().to_be_bytes());
            bytes.extend_from_slice(&account.closing.units().to_be_bytes());
            bytes.extend_from_slice(&count(account.rows.len()));
            for row in &account.rows {
                bytes.extend_from_slice(&row.batch.to_be_bytes());
                // Totals that go down have no hash, and do not pass for any that has.
                bytes.extend_from_slice(row.entry.hash().unwrap_or(Hash256::from_bytes([0; 32])).as_bytes());
            }
        }
        sha256(&[&bytes])
    }

    /// Everything about it that does not hold, without the node: against its published key, by the signatures of payers and by sums.
    /// Nothing when it holds.
    #[must_use]
    pub fn findings(&self, key: &Address, recover: &Recover<'_>, judge: &JudgeVoucher<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.version != 1 {
            return vec![Finding::Version { version: self.version }];
        }
        if self.key != *key {
            findings.push(Finding::Key { expected: *key, actual: self.key });
        }
        if recover(&self.signed_digest(), &self.signature) != Some(*key) {
            findings.push(Finding::Signature { key: *key });
        }
        let batches = self.batches(key, recover, &mut findings);
        let mut before = None;
        for account in &self.accounts {
            if before.is_some_and(|before| before >= account.of) {
                findings.push(Finding::AccountOrder { account: account.of });
            }
            before = Some(account.of);
            self.rows(account, &batches, &mut findings);
            vouched(account, judge, &mut findings);
        }
        findings
    }

    fn batches(&self, key: &Address, recover: &Recover<'_>, findings: &mut Vec<Finding>) -> BTreeMap<u64, &SignedBatch> {
        let (mut batches, mut before): (BTreeMap<u64, &SignedBatch>, Option<&SignedBatch>) = (BTreeMap::new(), None);
        for signed in &self.batches {
            let batch = signed.batch.number;
            if signed.verify(&self.journal(), key, recover).is_err() {
                findings.push(Finding::Batch { batch, key: *key });
            }
            if let Some(before) = before {
                let before = &before.batch;
                if before.number >= batch || before.at_millis > signed.batch.at_millis {
                    findings.push(Finding::BatchOrder { batch });
                }
                if before.number.checked_add(1) == Some(batch) && before.link() != signed.batch.parent {
                    findings.push(Finding::Link { batch });
                }
            }
            before = Some(signed);
            batches.insert(batch, signed);
        }
        batches
    }

    fn rows(&self, account: &Account, batches: &BTreeMap<u64, &SignedBatch>, findings: &mut Vec<Finding>) {
        let (mut total, mut head, mut seen) = (account.opening, None, BTreeSet::new());
        for (position, row) in account.rows.iter().enumerate() {
            let name = || RowName::new(account.of, position, &row.entry);
            self.row(account, row, batches.get(&row.batch).copied(), &name, findings);
            if !seen.insert((row.batch, row.index)) {
                findings.push(Finding::Twice { row: name() });
            }
            let before = match &row.entry {
                Entry::Frame(frame) => Some(CumulativeAmount::from_nanos(frame.cumulative_before)),
                Entry::Charge(charge) => match charge.source {
                    ChargeSource::Channel(_) => {
                        charge.total_after.units().checked_sub(charge.amount.units()).map(CumulativeAmount::from_units)
                    }
                    // A single payment has no total before it, and says its amount twice; its reversal says that nothing is left.
                    ChargeSource::Payment(_) => {
                        let left = if row.is_reversal() { Amount::ZERO } else { charge.amount };
                        (charge.total_after.as_amount() == left).then_some(total)
                    }
                },
            };
            if before != Some(total) {
                let actual = before.unwrap_or(row.total_after());
                findings.push(Finding::Gap { row: name(), expected: total, actual });
            }
            let after = match account.of {
                AccountOf::Ledger(_) | AccountOf::Escrow(_) => Some(row.total_after()),
                AccountOf::Payments(_) if row.is_reversal() => total
                    .delta_since(CumulativeAmount::from_units(row.amount().units()))
                    .ok()
                    .map(|left| CumulativeAmount::from_units(left.units())),
                AccountOf::Payments(_) => total.checked_add(row.amount()).ok(),
            };
            if after.is_none() {
                findings.push(Finding::Gap { row: name(), expected: total, actual: row.total_after() });
            }
            total = after.unwrap_or(total);
            if let Entry::Frame(frame) = &row.entry {
                let head_before = head.or_else(|| (frame.lines_before == 0).then(|| genesis_head(&frame.channel)));
                let follows = head_before
                    .is_none_or(|head| next_head(&head, &frame.frame_root, frame.lines_after, frame.cumulative_after) == frame.bill_head);
                if !follows {
                    findings.push(Finding::BillHead { row: name() });
                }
                head = Some(frame.bill_head);
            }
        }
        if total != account.closing {
            findings.push(Finding::Closing { account: account.of, expected: total, actual: account.closing });
        }
    }

    fn row(&self, account: &Account, row: &Row, signed: Option<&SignedBatch>, name: &dyn Fn() -> RowName, findings: &mut Vec<Finding>) {
        let is_own = match (&row.entry, account.of) {
            (Entry::Frame(frame), AccountOf::Ledger(channel)) => frame.channel == channel && account.asset == self.ledger,
            (Entry::Charge(charge), of) => {
                let source = match (charge.source, of) {
                    (ChargeSource::Channel(channel), AccountOf::Escrow(of)) => channel == of,
                    (ChargeSource::Payment(_), AccountOf::Payments(token)) => token == charge.token,
                    (ChargeSource::Channel(_) | ChargeSource::Payment(_), _) => false,
                };
                source && charge.payer == self.payer && charge.token == account.asset
            }
            (Entry::Frame(_), AccountOf::Escrow(_) | AccountOf::Payments(_)) => false,
        };
        if !is_own {
            findings.push(Finding::Foreign { row: name() });
        }
        match signed {
            None => findings.push(Finding::NoBatch { row: name(), batch: row.batch }),
            Some(SignedBatch { batch, .. }) => {
                let is_kind = match row.entry {
                    Entry::Frame(_) => batch.kind == BatchKind::Frames,
                    Entry::Charge(_) => batch.kind == BatchKind::Charges,
                };
                let root = row.entry.hash().and_then(|hash| batch_root(&hash, row.index, batch.count, &row.path));
                if !is_kind || root != Some(batch.root) {
                    findings.push(Finding::NotInBatch { row: name(), batch: row.batch });
                }
                if !(self.from_millis..self.to_millis).contains(&batch.at_millis) {
                    findings.push(Finding::Outside { row: name() });
                }
            }
        }
        if let Some(place) = &row.place {
            let root = match &row.entry {
                Entry::Frame(frame) => place.root(self.journal(), frame),
                Entry::Charge(_) => None,
            };
            let stated = self.epochs.iter().find(|stated| stated.epoch == place.epoch).map(|stated| stated.root);
            if root.is_none() || root != stated {
                findings.push(Finding::Place { row: name(), epoch: place.epoch });
            }
        }
    }

    /// The epochs whose roots differ, of those whose roots on the chain are given.
    #[must_use]
    pub fn anchor_findings(&self, roots: &BTreeMap<u64, Hash256>) -> Vec<Finding> {
        let differs = |stated: &StatedRoot| {
            let expected = *roots.get(&stated.epoch)?;
            (stated.root != expected).then_some(Finding::Anchor { epoch: stated.epoch, expected, actual: stated.root })
        };
        self.epochs.iter().filter_map(differs).collect()
    }
}

/// That the payer signed for what it paid.
fn vouched(account: &Account, judge: &JudgeVoucher<'_>, findings: &mut Vec<Finding>) {
    let (of, closing) = (account.of, account.closing);
    match &account.voucher {
        // A single payment is signed by itself, and pays on the chain.
        None if matches!(of, AccountOf::Payments(_)) || closing == CumulativeAmount::ZERO => {}
        None => findings.push(Finding::NoVoucher { account: of, closing }),
        Some(voucher) => {
            if let Err(reason) = judge(&of, voucher) {
                findings.push(Finding::Voucher { account: of, reason });
            }
            if voucher.cumulative() < closing {
                findings.push(Finding::Uncovered { account: of, closing, voucher: voucher.cumulative() });
            }
            let last = account.rows.last().map(|row| &row.entry);
            if let (StatedVoucher::Ledger { cumulative, lines_total, bill_head, .. }, Some(Entry::Frame(frame))) = (voucher, last)
                && *cumulative == closing
                && (*lines_total, *bill_head) != (frame.lines_after, frame.bill_head)
            {
                findings.push(Finding::OtherBill { account: of });
            }
        }
    }
}
