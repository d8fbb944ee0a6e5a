//! One channel on an escrow: what the chain confirmed, what the payer signed, what was charged. Amounts in the token's base units.

use bytes::Bytes;
use millstream_tariff::Carry;
use millstream_types::{Amount, BlockNumber, CumulativeAmount, EscrowChannelId, Timestamp};
use millstream_voucher::evm::{EscrowVoucher, Evidence, EvmSignature, Signed, VerifiedEscrowVoucher};

use super::id::ClaimId;
use super::rejection::EscrowRejection;
use super::terms::{ClaimRule, Escrow, EscrowTerms, StepRule};
use crate::RecordError;
use crate::codec::{Reader, put_amount, put_blob, put_option};

/// Vouchers above what was charged that are kept of a channel whose escrow takes them whole: the newest, and the oldest of the others.
pub const VOUCHERS_AHEAD_MAX: usize = 4;

/// Bytes of a reason that somebody gives, at most; what is longer is cut.
pub const REASON_BYTES_MAX: usize = 256;

/// Whether a channel takes payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EscrowStatus {
    /// It does.
    Open,
    /// It does not until what is wrong was put right on the chain.
    Frozen(FrozenWhy),
    /// Closed on the chain, for ever.
    Closed,
}

/// Why a channel is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrozenWhy {
    /// A reorganisation took back what it relied on.
    Reorganised,
    /// The deposit is less than what was charged and is reserved: the payer withdrew it, or what was announced never came.
    Uncovered,
    /// More was claimed on the chain than was charged here: these records are behind.
    Behind,
}

/// The payer is leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// What it takes; `None` for all that is not claimed by then, and the channel with it.
    pub amount: Option<Amount>,
    /// From when on the chain lets it.
    pub finalises_at: Timestamp,
}

/// A voucher as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) cumulative: u128,
    signature: EvmSignature,
    evidence: Evidence,
}

/// What changes of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EscrowState {
    pub(crate) status: EscrowStatus,
    /// Deposited less withdrawn and refunded, at the confirmation depth.
    pub(crate) deposit: u128,
    /// What the deposit will be when everything announced is confirmed; 0 when nothing is announced.
    pub(crate) announced: u128,
    pub(crate) settled: u128,
    pub(crate) accepted: u128,
    pub(crate) charged: u128,
    /// Claimed before this node knew the channel: the part of `charged` that no charge of ours stands for.
    pub(crate) inherited: u128,
    pub(crate) reserved: u128,
    /// What rounding charged too much: taken off the next charge.
    pub(crate) carry: Carry,
    /// Reservations that make up `reserved`.
    pub(crate) requests: u32,
    /// How often a withdrawal or refund took back an authorisation.
    pub(crate) round: u32,
    pub(crate) exit: Option<Exit>,
    /// The claim under way, and the total it will bring.
    pub(crate) claiming: Option<(ClaimId, u128)>,
    /// Why it is left out of claims and takes no payments.
    pub(crate) quarantined: Option<String>,
    /// Ascending; the last is the best one.
    pub(crate) vouchers: Vec<Kept>,
}

/// One channel on an escrow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscrowChannel {
    pub(crate) terms: Box<EscrowTerms>,
    pub(crate) state: EscrowState,
}

/// What a channel's totals are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscrowTotals {
    /// The confirmed deposit.
    pub deposit: Amount,
    /// What the deposit will be once what was announced is confirmed; the deposit itself when nothing more is announced.
    pub announced: Amount,
    /// What was claimed on the chain.
    pub settled: CumulativeAmount,
    /// What the payer authorised.
    pub accepted: CumulativeAmount,
    /// What was captured.
    pub charged: CumulativeAmount,
    /// Held for deliveries under way.
    pub reserved: Amount,
}

/// What a request needs of a channel, judged.
pub(crate) struct Step {
    pub(crate) accepted: u128,
    /// The voucher raises what is accepted, and is kept.
    pub(crate) is_raised: bool,
}

impl Default for EscrowState {
    fn default() -> Self {
        Self {
            status: EscrowStatus::Open,
            deposit: 0,
            announced: 0,
            settled: 0,
            accepted: 0,
            charged: 0,
            inherited: 0,
            reserved: 0,
            carry: Carry::ZERO,
            requests: 0,
            round: 0,
            exit: None,
            claiming: None,
            quarantined: None,
            vouchers: Vec::new(),
        }
    }
}

impl EscrowState {
    pub(crate) const fn totals(&self) -> EscrowTotals {
        EscrowTotals {
            deposit: Amount::from_units(self.deposit),
            announced: Amount::from_units(self.backing()),
            settled: CumulativeAmount::from_units(self.settled),
            accepted: CumulativeAmount::from_units(self.accepted),
            charged: CumulativeAmount::from_units(self.charged),
            reserved: Amount::from_units(self.reserved),
        }
    }

    /// What has to be covered: charged, and reserved for deliveries under way. Never more than `accepted`, so the sum fits.
    pub(crate) const fn owed(&self) -> u128 {
        self.charged.saturating_add(self.reserved)
    }

    /// What the accepted total may reach: the deposit as confirmed or as announced.
    pub(crate) const fn backing(&self) -> u128 {
        if self.announced > self.deposit { self.announced } else { self.deposit }
    }

    /// What rests on a deposit that is not confirmed. A loss counts for as long as it stands, so that the same trust is not lost again.
    pub(crate) fn exposed(&self) -> u128 {
        match self.status {
            EscrowStatus::Open => self.accepted.saturating_sub(self.deposit),
            EscrowStatus::Frozen(_) => self.owed().saturating_sub(self.deposit),
            EscrowStatus::Closed => 0,
        }
    }

    /// Whether there is something that was charged and is not claimed.
    pub(crate) const fn is_owing(&self) -> bool {
        self.charged > self.settled
    }

    /// What a payment may rest on when it can take until `until` to be claimed.
    pub(crate) fn limit(&self, until: Timestamp, optimistic: u128) -> u128 {
        match self.exit {
            None => self.deposit.saturating_add(self.announced.saturating_sub(self.deposit).min(optimistic)),
            Some(exit) if until < exit.finalises_at => self.deposit,
            Some(exit) => exit.amount.map_or(0, |amount| self.deposit.saturating_sub(amount.units())),
        }
    }

    /// Judges a voucher by the escrow's rule; `ceiling` is what the request may cost.
    pub(crate) fn step(&self, rule: StepRule, ceiling: u128, voucher: Option<u128>) -> Result<Step, EscrowRejection> {
        let accepted = CumulativeAmount::from_units(self.accepted);
        match (rule, voucher) {
            (StepRule::Exact, voucher) => {
                let expected = self.charged.checked_add(ceiling).ok_or(EscrowRejection::TooLarge)?;
                if voucher != Some(expected) {
                    return Err(EscrowRejection::WrongStep {
                        expected: CumulativeAmount::from_units(expected),
                        actual: voucher.map(CumulativeAmount::from_units),
                    });
                }
                Ok(Step { accepted: self.accepted.max(expected), is_raised: expected > self.accepted })
            }
            (StepRule::Monotone { .. }, None) => Ok(Step { accepted: self.accepted, is_raised: false }),
            (StepRule::Monotone { min_delta }, Some(cumulative)) => match cumulative.checked_sub(self.accepted) {
                None | Some(0) => Ok(Step { accepted: self.accepted, is_raised: false }),
                Some(delta) if delta < min_delta.units() => {
                    Err(EscrowRejection::DeltaTooSmall { min: min_delta, accepted, actual: CumulativeAmount::from_units(cumulative) })
                }
                Some(_) => Ok(Step { accepted: cumulative, is_raised: true }),
            },
        }
    }

    /// Keeps a voucher that raises what is accepted.
    pub(crate) fn keep(&mut self, rule: ClaimRule, voucher: &VerifiedEscrowVoucher) {
        let cumulative = voucher.statement().cumulative.units();
        match rule {
            ClaimRule::UpTo => self.vouchers.clear(),
            // Those of before a withdrawal may be higher.
            ClaimRule::Whole => self.vouchers.retain(|kept| kept.cumulative < cumulative),
        }
        self.vouchers.push(Kept { cumulative, signature: voucher.signature().clone(), evidence: voucher.evidence() });
        self.trim_vouchers();
    }

    /// Keeps a voucher that does not raise what is accepted and that the charges have reached, when it is better than what would be claimed with
    /// . Whether it is.
    pub(crate) fn keep_reached(&mut self, voucher: &VerifiedEscrowVoucher) -> bool {
        let cumulative = voucher.statement().cumulative.units();
        let place = self.vouchers.partition_point(|kept| kept.cumulative <= self.charged);
        let best = place.checked_sub(1).and_then(|best| self.vouchers.get(best)).map_or(self.settled, |best| best.cumulative);
        if cumulative > self.charged || cumulative <= best.max(self.settled) {
            return false;
        }
        let kept = Kept { cumulative, signature: voucher.signature().clone(), evidence: voucher.evidence() };
        self.vouchers.insert(place, kept);
        self.trim_vouchers();
        true
    }

    /// The best voucher that the charges have reached.
    pub(crate) fn reached(&self) -> Option<&Kept> {
        self.vouchers.iter().rev().find(|kept| kept.cumulative <= self.charged)
    }

    /// Forgets vouchers that nothing will be claimed with: of those that the charges have reached all but the highest, and of those ahead
    /// all between the oldest few and the newest.
    pub(crate) fn trim_vouchers(&mut self) {
        let reached = self.vouchers.partition_point(|kept| kept.cumulative <= self.charged);
        self.vouchers.drain(..reached.saturating_sub(1));
        let reached = reached.min(1);
        let excess = self.vouchers.len().saturating_sub(reached.saturating_add(VOUCHERS_AHEAD_MAX));
        let end = self.vouchers.len().saturating_sub(1);
        self.vouchers.drain(end.saturating_sub(excess)..end);
    }

    /// The voucher and the total that can be claimed now, if any; R-21.
    pub(crate) fn claimable(&self, rule: ClaimRule) -> Option<(u128, &Kept)> {
        let claims = match self.status {
            EscrowStatus::Open | EscrowStatus::Frozen(FrozenWhy::Uncovered) => self.claiming.is_none() && self.quarantined.is_none(),
            EscrowStatus::Frozen(FrozenWhy::Reorganised | FrozenWhy::Behind) | EscrowStatus::Closed => false,
        };
        // More than the confirmed deposit would fail, and with it every other row of the transaction.
        let ceiling = self.charged.min(self.deposit);
        let (total, kept) = match rule {
            ClaimRule::UpTo => (ceiling, self.vouchers.last()?),
            ClaimRule::Whole => {
                let kept = self.vouchers.iter().rev().find(|kept| kept.cumulative <= ceiling)?;
                (kept.cumulative, kept)
            }
        };
        (claims && total > self.settled && total <= kept.cumulative).then_some((total, kept))
    }

    /// Sees whether the totals are in order after the chain changed one of them, and freezes or thaws by it.
    pub(crate) fn judge(&mut self) {
        let wrong = if self.settled > self.charged {
            Some(FrozenWhy::Behind)
        } else if self.owed() > self.backing() {
            Some(FrozenWhy::Uncovered)
        } else {
            None
        };
        match (self.status, wrong) {
            (EscrowStatus::Closed, _) => {}
            (EscrowStatus::Open | EscrowStatus::Frozen(_), Some(why)) => self.status = EscrowStatus::Frozen(why),
            (EscrowStatus::Open | EscrowStatus::Frozen(_), None) => {
                self.status = EscrowStatus::Open;
                if self.accepted > self.backing() {
                    self.accepted = self.owed();
                    self.round = self.round.saturating_add(1);
                }
            }
        }
    }

    /// Whether the totals are as they have to be.
    pub(crate) fn is_ordered(&self) -> bool {
        let held = self.charged.checked_add(self.reserved).is_some_and(|owed| owed <= self.accepted);
        let signed = self.accepted == self.inherited || self.vouchers.last().is_some_and(|best| self.accepted <= best.cumulative);
        let backed = match self.status {
            EscrowStatus::Open => self.settled <= self.charged && self.accepted <= self.backing(),
            EscrowStatus::Frozen(_) | EscrowStatus::Closed => true,
        };
        held && signed && backed && self.inherited <= self.charged
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(160);
        bytes.push(1);
        bytes.push(match self.status {
            EscrowStatus::Open => 1,
            EscrowStatus::Closed => 2,
            EscrowStatus::Frozen(FrozenWhy::Reorganised) => 3,
            EscrowStatus::Frozen(FrozenWhy::Uncovered) => 4,
            EscrowStatus::Frozen(FrozenWhy::Behind) => 5,
        });
        for amount in [self.deposit, self.announced, self.settled, self.accepted, self.charged, self.inherited, self.reserved] {
            put_amount(&mut bytes, amount);
        }
        bytes.extend_from_slice(&self.carry.attos().to_be_bytes());
        bytes.extend_from_slice(&self.requests.to_be_bytes());
        bytes.extend_from_slice(&self.round.to_be_bytes());
        put_option(&mut bytes, self.exit, |bytes, exit| {
            put_option(bytes, exit.amount, |bytes, amount| put_amount(bytes, amount.units()));
            bytes.extend_from_slice(&exit.finalises_at.as_millis().to_be_bytes());
        });
        put_option(&mut bytes, self.claiming, |bytes, (claim, total)| {
            bytes.extend_from_slice(&claim.0.to_be_bytes());
            put_amount(bytes, total);
        });
        put_option(&mut bytes, self.quarantined.as_ref(), |bytes, why| put_blob(bytes, why.as_bytes()));
        for kept in &self.vouchers {
            put_amount(&mut bytes, kept.cumulative);
            put_blob(&mut bytes, kept.signature.as_bytes());
            match kept.evidence {
                Evidence::Key => bytes.push(0),
                Evidence::Contract { at } => {
                    bytes.push(1);
                    bytes.extend_from_slice(&at.height().to_be_bytes());
                }
            }
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("escrow channel", bytes)?;
        let status = match reader.u8()? {
            1 => EscrowStatus::Open,
            2 => EscrowStatus::Closed,
            3 => EscrowStatus::Frozen(FrozenWhy::Reorganised),
            4 => EscrowStatus::Frozen(FrozenWhy::Uncovered),
            5 => EscrowStatus::Frozen(FrozenWhy::Behind),
            _ => return Err(reader.invalid()),
        };
        let mut state = Self {
            status,
            deposit: reader.amount()?,
            announced: reader.amount()?,
            settled: reader.amount()?,
            accepted: reader.amount()?,
            charged: reader.amount()?,
            inherited: reader.amount()?,
            reserved: reader.amount()?,
            carry: reader.u64().and_then(|attos| Carry::from_attos(attos).ok_or_else(|| reader.invalid()))?,
            requests: reader.u32()?,
            round: reader.u32()?,
            exit: reader.option(|reader| {
                let amount = reader.option(Reader::amount)?.map(Amount::from_units);
                Ok(Exit { amount, finalises_at: Timestamp::from_millis(reader.u64()?) })
            })?,
            claiming: reader.option(|reader| Ok((ClaimId(reader.u64()?), reader.amount()?)))?,
            quarantined: reader.option(Reader::text)?,
            vouchers: Vec::new(),
        };
        while !reader.is_empty() {
            let cumulative = reader.amount()?;
            let signature = EvmSignature::new(reader.blob()?.to_vec()).map_err(|_| reader.invalid())?;
            let evidence = reader.option(Reader::u64)?.map_or(Evidence::Key, |at| Evidence::Contract { at: BlockNumber::new(at) });
            state.vouchers.push(Kept { cumulative, signature, evidence });
        }
        Ok(state)
    }
}

impl EscrowChannel {
    pub(crate) fn new(terms: EscrowTerms) -> Self {
        Self { terms: Box::new(terms), state: EscrowState::default() }
    }

    /// The terms.
    #[must_use]
    pub const fn terms(&self) -> &EscrowTerms {
        &self.terms
    }

    /// Whether it takes payments.
    #[must_use]
    pub const fn status(&self) -> EscrowStatus {
        self.state.status
    }

    /// Whether the payer is leaving.
    #[must_use]
    pub const fn exit(&self) -> Option<Exit> {
        self.state.exit
    }

    /// The claim under way, and the total it will bring.
    #[must_use]
    pub fn claiming(&self) -> Option<(ClaimId, CumulativeAmount)> {
        self.state.claiming.map(|(claim, total)| (claim, CumulativeAmount::from_units(total)))
    }

    /// Why it is left out of claims and takes no payments.
    #[must_use]
    pub fn quarantined(&self) -> Option<&str> {
        self.state.quarantined.as_deref()
    }

    /// Claimed before this node knew the channel: the part of what was charged that has no charge in the log.
    #[must_use]
    pub const fn inherited(&self) -> CumulativeAmount {
        CumulativeAmount::from_units(self.state.inherited)
    }

    /// What rounding charged too much so far, below one base unit.
    #[must_use]
    pub const fn carry(&self) -> Carry {
        self.state.carry
    }

    /// How often a withdrawal or refund took back an authorisation.
    #[must_use]
    pub const fn round(&self) -> u32 {
        self.state.round
    }

    /// What the deposit will be when everything announced is confirmed, if anything is announced.
    #[must_use]
    pub fn announced(&self) -> Option<Amount> {
        (self.state.announced > 0).then(|| Amount::from_units(self.state.announced))
    }

    /// What rests on a deposit that is not confirmed, or never came: it counts against the escrow's limits.
    #[must_use]
    pub fn unconfirmed(&self) -> Amount {
        Amount::from_units(self.state.exposed())
    }

    /// Reservations under way.
    #[must_use]
    pub const fn requests(&self) -> u32 {
        self.state.requests
    }

    /// The totals.
    #[must_use]
    pub const fn totals(&self) -> EscrowTotals {
        self.state.totals()
    }

    /// The best voucher that the charges have reached: what it is over, and the signature.
    #[must_use]
    pub fn reached(&self) -> Option<(CumulativeAmount, EvmSignature)> {
        self.state.reached().map(|kept| (CumulativeAmount::from_units(kept.cumulative), kept.signature.clone()))
    }

    /// The best voucher. Its total may be above what is accepted: a withdrawal or refund takes back the rest of an authorisation, but not
    /// the signature.
    #[must_use]
    pub fn voucher(&self, escrow: &Escrow) -> Option<VerifiedEscrowVoucher> {
        self.state.vouchers.last().map(|kept| self.verified(escrow, kept))
    }

    pub(crate) fn verified(&self, escrow: &Escrow, kept: &Kept) -> VerifiedEscrowVoucher {
        let statement = EscrowVoucher { channel: self.terms.channel, cumulative: CumulativeAmount::from_units(kept.cumulative) };
        let signed = Signed::new(statement, kept.signature.clone());
        // The record was written from a voucher that had been verified for this escrow and signer, and the store vouches for its bytes.
        VerifiedEscrowVoucher::assume_verified(signed, escrow.separator, self.terms.signer, kept.evidence)
    }

    /// Terms and state in one value, for a channel that is done with.
    pub(crate) fn encode_archived(&self) -> Vec<u8> {
        let mut bytes = vec![1];
        put_blob(&mut bytes, &self.terms.encode());
        bytes.extend_from_slice(&self.state.encode());
        bytes
    }

    /// A channel that is done with, from the value of its key [`Key::archived`](crate::Key::archived).
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode_archived(id: EscrowChannelId, bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("archived channel", bytes)?;
        let terms = EscrowTerms::decode(id, &reader.blob()?)?;
        Ok(Self { terms: Box::new(terms), state: EscrowState::decode(reader.rest())? })
    }
}

/// A reason as it is kept.
pub(crate) fn cut_reason(mut reason: String) -> String {
    let end = (0..=REASON_BYTES_MAX).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    if reason.len() > end {
        reason.truncate(end);
    }
    reason
}

/// Bytes of a caller's, within a bound.
pub(crate) fn within(bytes: &Bytes, max: usize) -> Result<(), EscrowRejection> {
    if bytes.len() > max { Err(EscrowRejection::TooManyBytes { max, actual: bytes.len() }) } else { Ok(()) }
}
