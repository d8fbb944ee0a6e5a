//! The frame: `flags (1) ‖ reserved (1) ‖ count (2) ‖ channel (32) ‖ voucher (96) ‖ lines (24 or 56 each)`.

use core::slice::ChunksExact;

use bytes::{BufMut, Bytes, BytesMut};
use millstream_billing::{FRAME_LINES_MAX, LINE_BYTES, LINE_WITH_DIGEST_BYTES, Line, LinesError, raw_frame_root};
use millstream_types::{Amount, ChannelId, Hash256, Reference};
use millstream_voucher::SignedVoucher;

use crate::fields::{Fields, nanos, start};
use crate::limits::{FRAME_HEADER_BYTES, LENGTH_BYTES, PAYER_MESSAGE_BYTES_MAX, frame_bytes, line_bytes};
use crate::{DecodeError, EncodeError, Kind};

/// A frame whose shape is good: its count and lengths agree and no line pays nothing. Whether it may be accepted is for the engine.
///
/// It keeps the bytes it came in; a clone shares them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameMessage {
    bytes: Bytes,
    voucher: SignedVoucher,
    amount: Amount,
    count: u16,
    with_digests: bool,
}

impl FrameMessage {
    /// A frame of `lines` under the voucher that pays for them.
    ///
    /// # Errors
    /// [`EncodeError`] when these lines are no frame (B-1, B-2) or do not fit a message.
    pub fn new(voucher: SignedVoucher, lines: &[Line]) -> Result<Self, EncodeError> {
        let mut bytes = BytesMut::new();
        let (amount, count, with_digests) = write_body(&mut bytes, &voucher, lines)?;
        Ok(Self { bytes: bytes.freeze(), voucher, amount, count, with_digests })
    }

    /// Appends a frame of `lines`, length included, without making a value of it: what a payer does for each frame.
    ///
    /// # Errors
    /// As [`FrameMessage::new`]; `out` is then as it was.
    pub fn write(out: &mut BytesMut, voucher: &SignedVoucher, lines: &[Line]) -> Result<(), EncodeError> {
        let before = out.len();
        let with_digests = lines.first().is_some_and(|line| line.digest.is_some());
        let bytes = frame_bytes(lines.len(), with_digests);
        out.reserve(bytes.saturating_add(LENGTH_BYTES));
        out.put_u32(u32::try_from(bytes).unwrap_or(u32::MAX));
        write_body(out, voucher, lines).map(drop).inspect_err(|_| out.truncate(before))
    }

    /// Reads a frame, kind and body without the length, and keeps the bytes.
    ///
    /// # Errors
    /// [`DecodeError`], also for a message of another kind.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        match bytes.first() {
            Some(0x02) => {}
            Some(&actual) => return Err(DecodeError::UnknownKind { actual }),
            None => return Err(DecodeError::Empty),
        }
        if bytes.len() > PAYER_MESSAGE_BYTES_MAX {
            return Err(DecodeError::Oversized { max: PAYER_MESSAGE_BYTES_MAX, actual: bytes.len() });
        }
        let mut fields = Fields::at_least(Kind::Frame, &bytes, FRAME_HEADER_BYTES)?;
        let with_digests = fields.flag()?;
        fields.reserved_u8()?;
        let count = fields.u16()?;
        fields.within("count", count, 1, LINES_MAX)?;
        let channel = fields.channel()?;
        let voucher = fields.voucher(channel)?;
        Fields::exactly(Kind::Frame, &bytes, frame_bytes(count.into(), with_digests))?;
        let mut total = 0u128;
        for (index, line) in raw_lines(&bytes, with_digests).enumerate() {
            match amount_of(line) {
                0 => return Err(DecodeError::ZeroAmount { index }),
                nanos => total = total.saturating_add(nanos.into()),
            }
        }
        Ok(Self { bytes, voucher, amount: Amount::from_units(total), count, with_digests })
    }

    /// The channel that pays.
    #[must_use]
    pub const fn channel(&self) -> ChannelId {
        self.voucher.body().channel
    }

    /// The voucher: totals and head after these lines.
    #[must_use]
    pub const fn voucher(&self) -> &SignedVoucher {
        &self.voucher
    }

    /// The number of lines, 1 to 1,024.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// What the lines pay together, in nanos; at most 1,024 times 2^64.
    #[must_use]
    pub const fn amount(&self) -> Amount {
        self.amount
    }

    /// Whether the lines carry usage digests.
    #[must_use]
    pub const fn has_digests(&self) -> bool {
        self.with_digests
    }

    /// The lines, in order, read from the frame's bytes.
    #[must_use]
    pub fn lines(&self) -> FrameLines<'_> {
        FrameLines { raw: self.raw_lines() }
    }

    /// The lines in their wire form, `amount ‖ reference [‖ digest]`, in order.
    pub fn raw_lines(&self) -> ChunksExact<'_, u8> {
        raw_lines(&self.bytes, self.with_digests)
    }

    /// The root over the lines (B-3).
    ///
    /// # Errors
    /// None for a frame of this type: its count is within the limits.
    pub fn root(&self) -> Result<Hash256, LinesError> {
        let lines = self.bytes.get(FRAME_HEADER_BYTES..).unwrap_or_default();
        if self.with_digests {
            raw_frame_root::<LINE_WITH_DIGEST_BYTES>(lines.as_chunks().0)
        } else {
            raw_frame_root::<LINE_BYTES>(lines.as_chunks().0)
        }
    }

    /// Kind and body, without the length: what a store keeps and [`FrameMessage::decode`] reads.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Kind and body, without the length.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Appends the message, length included.
    ///
    /// # Errors
    /// None for a frame of this type: it is within the size limit.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        start(out, Kind::Frame, self.bytes.len())?;
        out.put_slice(self.bytes.get(1..).unwrap_or_default());
        Ok(())
    }
}

/// [`FRAME_LINES_MAX`] as the wire counts.
const LINES_MAX: u64 = 1_024;

/// The bytes of `line` in a frame start with its amount.
fn amount_of(line: &[u8]) -> u64 {
    line.first_chunk().map_or(0, |amount| u64::from_be_bytes(*amount))
}

fn raw_lines(frame: &[u8], with_digests: bool) -> ChunksExact<'_, u8> {
    frame.get(FRAME_HEADER_BYTES..).unwrap_or_default().chunks_exact(line_bytes(with_digests))
}

/// Writes kind and body; returns the sum, the count and whether there are digests.
fn write_body(out: &mut BytesMut, voucher: &SignedVoucher, lines: &[Line]) -> Result<(Amount, u16, bool), EncodeError> {
    let line_count = EncodeError::LineCount { max: FRAME_LINES_MAX, actual: lines.len() };
    let with_digests = lines.first().ok_or(line_count)?.digest.is_some();
    if lines.len() > FRAME_LINES_MAX {
        return Err(line_count);
    }
    let count = u16::try_from(lines.len()).map_err(|_| line_count)?;
    let actual = frame_bytes(lines.len(), with_digests);
    if actual > PAYER_MESSAGE_BYTES_MAX {
        return Err(EncodeError::Oversized { max: PAYER_MESSAGE_BYTES_MAX, actual });
    }
    out.reserve(actual);
    out.put_u8(Kind::Frame.to_u8());
    out.put_u8(with_digests.into());
    out.put_u8(0);
    out.put_u16(count);
    out.put_slice(voucher.body().channel.as_bytes());
    out.put_slice(&voucher.to_bytes());
    let mut total = 0u128;
    for (index, line) in lines.iter().enumerate() {
        let amount = nanos("amount", line.amount)?;
        if amount == 0 {
            return Err(EncodeError::ZeroAmount { index });
        }
        total = total.saturating_add(amount.into());
        out.put_u64(amount);
        out.put_slice(line.reference.as_bytes());
        match (&line.digest, with_digests) {
            (Some(digest), true) => out.put_slice(digest.as_bytes()),
            (None, false) => {}
            (Some(_), false) | (None, true) => return Err(EncodeError::MixedDigests { index }),
        }
    }
    Ok((Amount::from_units(total), count, with_digests))
}

/// The lines of a frame, read from its bytes as they are asked for.
#[derive(Clone, Debug)]
pub struct FrameLines<'a> {
    raw: ChunksExact<'a, u8>,
}

impl Iterator for FrameLines<'_> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        let (amount, rest) = self.raw.next()?.split_first_chunk::<8>()?;
        let (reference, digest) = rest.split_first_chunk::<{ LINE_BYTES - 8 }>()?;
        Some(Line {
            amount: Amount::from_nanos(u64::from_be_bytes(*amount)),
            reference: Reference::from_bytes(*reference),
            digest: digest.first_chunk().map(|digest| Hash256::from_bytes(*digest)),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.raw.size_hint()
    }
}

impl ExactSizeIterator for FrameLines<'_> {}
