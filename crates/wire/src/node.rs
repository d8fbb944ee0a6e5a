//! What a node says: snapshot, ack, reject.

use bytes::{BufMut, BytesMut};
use millstream_billing::genesis_head;
use millstream_types::{Amount, BillHead, ChannelId, CumulativeAmount, EpochId};
use millstream_voucher::{SIGNATURE_BYTES, SignedVoucher, VOUCHER_BYTES};

use crate::fields::{Fields, nanos, start, total};
use crate::limits::{ACK_BYTES, FRAME_BYTES_MAX_LEAST, PAYER_MESSAGE_BYTES_MAX, REJECT_BYTES, SNAPSHOT_BYTES};
use crate::{DecodeError, EncodeError, ErrorCode, Kind};

/// Bytes of a voucher before its signature.
const SIGNATURE_START: usize = VOUCHER_BYTES - SIGNATURE_BYTES;

/// Where a channel is in its life, as a payer has to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelStatus {
    /// Takes frames.
    Open,
    /// A close was requested: takes no more frames.
    Closing,
    /// Closed for ever.
    Closed,
    /// A reorganisation took back what the channel relied on: takes no frames until that is settled.
    Frozen,
}

impl ChannelStatus {
    const fn to_u8(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Closing => 2,
            Self::Closed => 3,
            Self::Frozen => 4,
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        match fields.u8()? {
            1 => Ok(Self::Open),
            2 => Ok(Self::Closing),
            3 => Ok(Self::Closed),
            4 => Ok(Self::Frozen),
            actual => Err(DecodeError::OutOfRange { kind: Kind::Snapshot, field: "status", min: 1, max: 4, actual: actual.into() }),
        }
    }
}

/// What a node asks of the payers on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest frame, kind and body, in bytes; 189 to 32,768.
    pub frame_bytes_max: u32,
    /// The most lines of a frame; 1 to 1,024.
    pub frame_lines_max: u16,
    /// Unanswered frames that a payer may have on the stream (W-4); at least 1.
    pub frames_in_flight_max: u16,
    /// A connection without traffic for so long is closed.
    pub idle_timeout_secs: u32,
}

impl Limits {
    /// Each limit with its range.
    fn ranges(&self) -> [(&'static str, u64, u64, u64); 3] {
        [
            ("frame bytes max", self.frame_bytes_max.into(), FRAME_BYTES_LEAST, FRAME_BYTES_MOST),
            ("frame lines max", self.frame_lines_max.into(), 1, 1_024),
            ("frames in flight max", self.frames_in_flight_max.into(), 1, u16::MAX.into()),
        ]
    }
}

#[allow(clippy::as_conversions, reason = "small constants")]
const FRAME_BYTES_LEAST: u64 = FRAME_BYTES_MAX_LEAST as u64;
#[allow(clippy::as_conversions, reason = "small constants")]
const FRAME_BYTES_MOST: u64 = PAYER_MESSAGE_BYTES_MAX as u64;

/// The answer to a good attach: all that the node knows of the channel, and its limits.
///
/// `channel (32) ‖ status (1) ‖ flags (1) ‖ confirmed deposit (8) ‖ voucher (96) ‖ charged (8) ‖ settled (8) ‖ frame bytes max (4) ‖
/// frame lines max (2) ‖ frames in flight max (2) ‖ idle timeout (4) ‖ tariff version (4)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The attached channel.
    pub channel: ChannelId,
    /// Where it is in its life.
    pub status: ChannelStatus,
    /// The deposit at the confirmation depth, in nanos.
    pub confirmed_deposit: Amount,
    /// The best voucher that the node has; `None` when it has none.
    pub accepted: Option<SignedVoucher>,
    /// Nanos charged so far.
    pub charged: CumulativeAmount,
    /// Nanos taken on-chain so far.
    pub settled: CumulativeAmount,
    /// What the node asks of the payer.
    pub limits: Limits,
    /// The version of the published tariff; 0 when none is published.
    pub tariff_version: u32,
}

impl Snapshot {
    pub(crate) fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::exactly(Kind::Snapshot, message, SNAPSHOT_BYTES)?;
        let channel = fields.channel()?;
        let status = ChannelStatus::decode(&mut fields)?;
        let has_voucher = fields.flag()?;
        let confirmed_deposit = fields.amount()?;
        let voucher = fields.bytes::<VOUCHER_BYTES>()?;
        let snapshot = Self {
            channel,
            status,
            confirmed_deposit,
            accepted: has_voucher.then(|| SignedVoucher::from_bytes(channel, &voucher)),
            charged: fields.cumulative()?,
            settled: fields.cumulative()?,
            limits: Limits {
                frame_bytes_max: fields.u32()?,
                frame_lines_max: fields.u16()?,
                frames_in_flight_max: fields.u16()?,
                idle_timeout_secs: fields.u32()?,
            },
            tariff_version: fields.u32()?,
        };
        if !has_voucher && voucher != no_voucher(&channel) {
            return Err(DecodeError::UnexpectedVoucher);
        }
        for (field, actual, min, max) in snapshot.limits.ranges() {
            fields.within(field, actual, min, max)?;
        }
        Ok(snapshot)
    }

    /// Appends the message, length included.
    ///
    /// # Errors
    /// [`EncodeError`] when an amount does not fit, a limit is outside its range, or the voucher is for another channel.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        for (field, actual, min, max) in self.limits.ranges() {
            if !(min..=max).contains(&actual) {
                return Err(EncodeError::OutOfRange { field, min, max, actual });
            }
        }
        let voucher = match &self.accepted {
            Some(voucher) if voucher.body().channel != self.channel => return Err(EncodeError::VoucherChannel),
            Some(voucher) => voucher.to_bytes(),
            None => no_voucher(&self.channel),
        };
        start(out, Kind::Snapshot, SNAPSHOT_BYTES)?;
        out.put_slice(self.channel.as_bytes());
        out.put_u8(self.status.to_u8());
        out.put_u8(self.accepted.is_some().into());
        out.put_u64(nanos("confirmed deposit", self.confirmed_deposit)?);
        out.put_slice(&voucher);
        out.put_u64(total("charged", self.charged)?);
        out.put_u64(total("settled", self.settled)?);
        out.put_u32(self.limits.frame_bytes_max);
        out.put_u16(self.limits.frame_lines_max);
        out.put_u16(self.limits.frames_in_flight_max);
        out.put_u32(self.limits.idle_timeout_secs);
        out.put_u32(self.tariff_version);
        Ok(())
    }
}

/// The bytes that stand for no voucher: zero totals, `head_0`, a zero signature.
fn no_voucher(channel: &ChannelId) -> [u8; VOUCHER_BYTES] {
    let mut bytes = [0; VOUCHER_BYTES];
    if let Some(head) = bytes.get_mut(SIGNATURE_START.saturating_sub(32)..SIGNATURE_START) {
        head.copy_from_slice(genesis_head(channel).as_bytes());
    }
    bytes
}

/// Every frame of this stream's channel up to here is durable: `lines total (8) ‖ cumulative (8) ‖ commit (8) ‖ epoch (8)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Lines of the channel that are durable.
    pub lines_total: u64,
    /// Nanos of the channel that are durable.
    pub cumulative: CumulativeAmount,
    /// The number of the durable batch.
    pub commit: u64,
    /// The epoch that the last of these frames is billed in.
    pub epoch: EpochId,
}

impl Ack {
    pub(crate) fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::exactly(Kind::Ack, message, ACK_BYTES)?;
        Ok(Self { lines_total: fields.u64()?, cumulative: fields.cumulative()?, commit: fields.u64()?, epoch: EpochId::new(fields.u64()?) })
    }

    /// Appends the message, length included.
    ///
    /// # Errors
    /// [`EncodeError::Amount`] when the total does not fit.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let cumulative = total("cumulative", self.cumulative)?;
        start(out, Kind::Ack, ACK_BYTES)?;
        out.put_u64(self.lines_total);
        out.put_u64(cumulative);
        out.put_u64(self.commit);
        out.put_u64(self.epoch.number());
        Ok(())
    }
}

/// A message changed nothing (W-3):
/// `code (2) ‖ reserved (2) ‖ lines total (8) ‖ accepted lines total (8) ‖ accepted cumulative (8) ‖ accepted head (32)`.
///
/// Version 1 has the codes of [`ErrorCode`] and no others, so an unknown one is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// What was wrong.
    pub code: ErrorCode,
    /// `lines total` of the rejected frame; 0 for an attach.
    pub lines_total: u64,
    /// Lines of the best voucher that the node has.
    pub accepted_lines_total: u64,
    /// Nanos of the best voucher that the node has.
    pub accepted_cumulative: CumulativeAmount,
    /// Head of the best voucher that the node has; all zero when no channel is attached.
    pub accepted_head: BillHead,
}

impl Reject {
    /// A reject on a stream without an attached channel.
    #[must_use]
    pub const fn unattached(code: ErrorCode, lines_total: u64) -> Self {
        Self {
            code,
            lines_total,
            accepted_lines_total: 0,
            accepted_cumulative: CumulativeAmount::ZERO,
            accepted_head: BillHead::from_bytes([0; 32]),
        }
    }

    pub(crate) fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::exactly(Kind::Reject, message, REJECT_BYTES)?;
        let code = fields.code()?;
        fields.reserved_u16()?;
        Ok(Self {
            code,
            lines_total: fields.u64()?,
            accepted_lines_total: fields.u64()?,
            accepted_cumulative: fields.cumulative()?,
            accepted_head: fields.head()?,
        })
    }

    /// Appends the message, length included.
    ///
    /// # Errors
    /// [`EncodeError::Amount`] when the total does not fit.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let accepted_cumulative = total("accepted cumulative", self.accepted_cumulative)?;
        start(out, Kind::Reject, REJECT_BYTES)?;
        out.put_u16(self.code.number());
        out.put_u16(0);
        out.put_u64(self.lines_total);
        out.put_u64(self.accepted_lines_total);
        out.put_u64(accepted_cumulative);
        out.put_slice(self.accepted_head.as_bytes());
        Ok(())
    }
}
