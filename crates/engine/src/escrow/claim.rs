//! What is claimed and swept on the chain, as data: a restart neither loses nor repeats it. Nothing here sends anything.

use bytes::Bytes;
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Timestamp};
use millstream_voucher::evm::VerifiedEscrowVoucher;

use super::id::{AuthorizationId, ClaimId, EscrowId, RequestId};
use super::input::ClaimRow;
use super::terms::EscrowTerms;
use crate::RecordError;
use crate::codec::{Reader, put_amount, put_blob, put_option};

/// What can be claimed on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimable<'a> {
    /// The channel's terms.
    pub terms: &'a EscrowTerms,
    /// What to claim, all in all: charged, within the confirmed deposit, and for an escrow that takes vouchers whole, the voucher's total.
    pub total: CumulativeAmount,
    /// What of it is new.
    pub gain: Amount,
    /// The voucher that proves it.
    pub voucher: VerifiedEscrowVoucher,
    /// When the payer can take it away, if it is leaving.
    pub deadline: Option<Timestamp>,
}

/// A claim under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its number.
    pub id: ClaimId,
    /// The escrow.
    pub escrow: EscrowId,
    /// When it was written down.
    pub submitted_at: Timestamp,
    /// Whether it was mined. Its rows go when the chain has confirmed them.
    pub is_landed: bool,
    /// What finds the transaction again.
    pub transaction: Bytes,
    /// The rows that the chain has not confirmed.
    pub rows: Vec<ClaimRow>,
}

/// What was claimed for a receiver on an escrow that pays out by sweeps, and what was paid out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Claimed since the escrow's first block, all channels of the receiver that are known here.
    pub claimed: Amount,
    /// Paid out since.
    pub swept: Amount,
    /// The sweep under way.
    pub transaction: Option<Bytes>,
}

impl Sweep {
    /// What a sweep would pay out, as far as is known here.
    #[must_use]
    pub fn due(&self) -> Amount {
        self.claimed.checked_sub(self.swept).unwrap_or_default()
    }
}

/// How far a single payment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentState {
    /// A delivery is under way.
    Reserved {
        /// The chain has confirmed the payment all the same: somebody else sent it.
        is_paid: bool,
    },
    /// It was delivered, and is to be sent.
    Captured,
    /// It is being sent.
    Submitted {
        /// What finds the transaction again.
        transaction: Bytes,
    },
    /// The chain has confirmed it.
    Paid {
        /// What found its transaction; empty when it was never sent from here.
        transaction: Bytes,
    },
    /// It cannot be collected.
    Failed {
        /// Why.
        reason: String,
        /// Whether it was delivered for.
        is_owed: bool,
    },
}

/// A single payment, remembered for as long as its authorisation could be shown again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Its authorisation.
    pub authorization: AuthorizationId,
    /// The escrow whose token it is in.
    pub escrow: EscrowId,
    /// Who pays.
    pub payer: Address,
    /// Who is paid.
    pub receiver: Address,
    /// How much.
    pub amount: Amount,
    /// When the chain stops taking it; of a failed one, how long its payer is refused, if that is later.
    pub valid_until: Timestamp,
    /// What whoever sends it needs.
    pub transfer: Bytes,
    /// The request that it pays.
    pub request: RequestId,
    /// How far it is.
    pub state: PaymentState,
}

impl Claim {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.rows.len().saturating_mul(42).saturating_add(64));
        bytes.push(1);
        bytes.extend_from_slice(&self.escrow.0.to_be_bytes());
        bytes.extend_from_slice(&self.submitted_at.as_millis().to_be_bytes());
        bytes.push(u8::from(self.is_landed));
        put_blob(&mut bytes, &self.transaction);
        for row in &self.rows {
            bytes.extend_from_slice(row.channel.as_bytes());
            put_amount(&mut bytes, row.total.units());
        }
        bytes
    }

    pub(crate) fn decode(id: ClaimId, bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("claim", bytes)?;
        let escrow = EscrowId(reader.u32()?);
        let submitted_at = Timestamp::from_millis(reader.u64()?);
        let is_landed = reader.u8()? == 1;
        let transaction = reader.blob()?;
        let mut rows = Vec::new();
        while !reader.is_empty() {
            let channel = EscrowChannelId::from_bytes(reader.bytes()?);
            rows.push(ClaimRow { channel, total: CumulativeAmount::from_units(reader.amount()?) });
        }
        Ok(Self { id, escrow, submitted_at, is_landed, transaction, rows })
    }
}

impl Sweep {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![1];
        put_amount(&mut bytes, self.claimed.units());
        put_amount(&mut bytes, self.swept.units());
        put_option(&mut bytes, self.transaction.as_ref(), |bytes, transaction| put_blob(bytes, transaction));
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("sweep", bytes)?;
        let (claimed, swept) = (Amount::from_units(reader.amount()?), Amount::from_units(reader.amount()?));
        let transaction = reader.option(Reader::blob)?;
        reader.finish()?;
        Ok(Self { claimed, swept, transaction })
    }
}

impl Payment {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.transfer.len().saturating_add(128));
        bytes.push(1);
        bytes.extend_from_slice(&self.escrow.0.to_be_bytes());
        bytes.extend_from_slice(self.payer.as_bytes());
        bytes.extend_from_slice(self.receiver.as_bytes());
        put_amount(&mut bytes, self.amount.units());
        bytes.extend_from_slice(&self.valid_until.as_millis().to_be_bytes());
        put_blob(&mut bytes, &self.transfer);
        bytes.extend_from_slice(self.request.as_bytes());
        match &self.state {
            PaymentState::Reserved { is_paid: false } => bytes.push(1),
            PaymentState::Reserved { is_paid: true } => bytes.push(6),
            PaymentState::Captured => bytes.push(2),
            PaymentState::Submitted { transaction } => {
                bytes.push(3);
                put_blob(&mut bytes, transaction);
            }
            PaymentState::Paid { transaction } => {
                bytes.push(4);
                put_blob(&mut bytes, transaction);
            }
            PaymentState::Failed { reason, is_owed } => {
                bytes.push(if *is_owed { 5 } else { 7 });
                put_blob(&mut bytes, reason.as_bytes());
            }
        }
        bytes
    }

    pub(crate) fn decode(authorization: AuthorizationId, bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("payment", bytes)?;
        let escrow = EscrowId(reader.u32()?);
        let payer = Address::from_bytes(reader.bytes()?);
        let receiver = Address::from_bytes(reader.bytes()?);
        let amount = Amount::from_units(reader.amount()?);
        let valid_until = Timestamp::from_millis(reader.u64()?);
        let transfer = reader.blob()?;
        let request = RequestId::from_bytes(reader.bytes()?);
        let state = match reader.u8()? {
            1 => PaymentState::Reserved { is_paid: false },
            6 => PaymentState::Reserved { is_paid: true },
            2 => PaymentState::Captured,
            3 => PaymentState::Submitted { transaction: reader.blob()? },
            4 => PaymentState::Paid { transaction: reader.blob()? },
            5 => PaymentState::Failed { reason: reader.text()?, is_owed: true },
            7 => PaymentState::Failed { reason: reader.text()?, is_owed: false },
            _ => return Err(reader.invalid()),
        };
        reader.finish()?;
        Ok(Self { authorization, escrow, payer, receiver, amount, valid_until, transfer, request, state })
    }
}
