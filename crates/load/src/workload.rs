//! What is paid: frames that follow from a seed, signed before the clock starts.
//!
//! Signing costs about as much as checking, so a load that signed as it goes would measure itself. The keys follow from the seed too,
//! which makes them public: they are for development chains and nothing else.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use millstream_billing::{FRAME_LINES_MAX, Line, frame_root, genesis_head, next_head};
use millstream_types::{Amount, BillHead, ChannelId, CumulativeAmount, LedgerId, Reference};
use millstream_voucher::{SecretKey, SignedVoucher, VOUCHER_BYTES, VoucherBody};
use millstream_wire::{Attach, FRAME_HEADER_BYTES, FrameMessage, LENGTH_BYTES, frame_bytes};
use rayon::prelude::*;

use crate::LoadError;

/// What a line pays when nothing else is said, in nanos.
pub const LINE_NANOS: u64 = 1_000;

/// A voucher key that follows from a seed and a number.
///
/// # Errors
/// [`LoadError::Key`], once in 2^251 times.
pub fn secret(seed: u64, number: u64) -> Result<SecretKey, LoadError> {
    let mut state = mix(seed ^ mix(number ^ 0x6b65_7973));
    let mut entropy = [0; 64];
    for word in entropy.as_chunks_mut::<8>().0 {
        state = state.wrapping_add(GOLDEN);
        *word = mix(state).to_be_bytes();
    }
    Ok(SecretKey::from_entropy(&entropy)?)
}

/// The increment of SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea, Flood 2014): a bijection that looks random.
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A payer on one channel: its key, and what it has signed.
#[derive(Clone, Debug)]
pub struct Payer {
    channel: ChannelId,
    secret: SecretKey,
    lines_total: u64,
    cumulative: u64,
    head: BillHead,
}

impl Payer {
    /// A payer that has paid nothing.
    #[must_use]
    pub fn new(channel: ChannelId, secret: SecretKey) -> Self {
        Self { channel, secret, lines_total: 0, cumulative: 0, head: genesis_head(&channel) }
    }

    /// The channel.
    #[must_use]
    pub const fn channel(&self) -> ChannelId {
        self.channel
    }

    /// The voucher key.
    #[must_use]
    pub const fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// Lines paid so far.
    #[must_use]
    pub const fn lines_total(&self) -> u64 {
        self.lines_total
    }

    /// Nanos paid so far.
    #[must_use]
    pub const fn cumulative(&self) -> u64 {
        self.cumulative
    }

    /// The attach that proves what was signed last.
    ///
    /// # Errors
    /// [`LoadError::Sign`], once in 2^251 times.
    pub fn attach(&self, ledger: LedgerId) -> Result<Attach, LoadError> {
        let body = VoucherBody {
            channel: self.channel,
            lines_total: self.lines_total,
            cumulative: CumulativeAmount::from_nanos(self.cumulative),
            bill_head: self.head,
        };
        Ok(Attach { ledger, voucher: *self.secret.sign(body)?.signed() })
    }

    /// Goes on from the last of `count` frames that were paid.
    pub fn advance(&mut self, frames: &Frames, count: u64) {
        if let Some(voucher) = usize::try_from(count).ok().and_then(|count| frames.voucher(count.checked_sub(1)?)) {
            self.lines_total = voucher.body().lines_total;
            // A voucher carries 64 bits.
            self.cumulative = voucher.body().cumulative.to_u64().unwrap_or(u64::MAX);
            self.head = voucher.body().bill_head;
        }
    }
}

/// What every frame of a load is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Sets references and keys apart.
    pub seed: u64,
    /// Payments under one signature, 1 to 1,024.
    pub lines: usize,
    /// What a line pays, in nanos; not zero.
    pub line_nanos: u64,
}

impl Workload {
    /// Frames of so many lines of [`LINE_NANOS`].
    ///
    /// # Errors
    /// [`LoadError::Setting`] for a number of lines that no frame has.
    pub fn new(seed: u64, lines: usize) -> Result<Self, LoadError> {
        if (1..=FRAME_LINES_MAX).contains(&lines) {
            Ok(Self { seed, lines, line_nanos: LINE_NANOS })
        } else {
            Err(LoadError::Setting { what: "lines under one signature", min: 1, max: FRAME_LINES_MAX as u64, actual: lines as u64 })
        }
    }

    /// Bytes of one frame on the wire, length included.
    #[must_use]
    pub const fn frame_bytes(&self) -> usize {
        LENGTH_BYTES + frame_bytes(self.lines, false)
    }

    /// What one frame pays, in nanos.
    #[must_use]
    pub const fn frame_nanos(&self) -> u64 {
        self.line_nanos.saturating_mul(self.lines as u64)
    }

    /// Signs the next `count` frames of a payer. The payer stays where it is: see [`Payer::advance`]. `signed` counts up with each frame.
    ///
    /// # Errors
    /// [`LoadError::TooMuch`] when the totals leave 64 bits.
    pub fn sign(&self, payer: &Payer, count: usize, signed: &AtomicU64) -> Result<Frames, LoadError> {
        let too_much = || LoadError::TooMuch { channel: payer.channel };
        let mut bytes = BytesMut::with_capacity(count.saturating_mul(self.frame_bytes()));
        let mut lines = Vec::with_capacity(self.lines);
        let (mut lines_total, mut cumulative, mut head) = (payer.lines_total, payer.cumulative, payer.head);
        let references = mix(self.seed ^ mix(u64::from_be_bytes(*payer.channel.as_bytes().last_chunk().unwrap_or(&[0; 8]))));
        for _ in 0..count {
            lines.clear();
            lines.extend((lines_total..).take(self.lines).map(|number| Line {
                amount: Amount::from_nanos(self.line_nanos),
                reference: reference(references, number),
                digest: None,
            }));
            lines_total = lines_total.checked_add(self.lines as u64).ok_or_else(too_much)?;
            cumulative = cumulative.checked_add(self.frame_nanos()).ok_or_else(too_much)?;
            head = next_head(&head, &frame_root(&lines)?, lines_total, cumulative);
            let body =
                VoucherBody { channel: payer.channel, lines_total, cumulative: CumulativeAmount::from_nanos(cumulative), bill_head: head };
            FrameMessage::write(&mut bytes, payer.secret.sign(body)?.signed(), &lines)?;
            signed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Frames { channel: payer.channel, bytes: bytes.freeze(), workload: *self })
    }

    /// Signs the next frames of every payer, on all cores: `count` says how many of each position.
    ///
    /// # Errors
    /// As [`Workload::sign`].
    pub fn sign_all(&self, payers: &[Payer], count: impl Fn(usize) -> usize + Sync, signed: &AtomicU64) -> Result<Vec<Frames>, LoadError> {
        payers.par_iter().enumerate().map(|(position, payer)| self.sign(payer, count(position), signed)).collect()
    }
}

/// A line's reference: as random to look at as the identifiers that payers choose.
fn reference(channel: u64, number: u64) -> Reference {
    let low = mix(channel.wrapping_add(number.wrapping_mul(GOLDEN)));
    let high = mix(low ^ GOLDEN);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    Reference::from_bytes(bytes)
}

/// Signed frames of one channel, one after the other as they go over the wire, lengths included. All are of one size.
#[derive(Clone, Debug)]
pub struct Frames {
    channel: ChannelId,
    bytes: Bytes,
    workload: Workload,
}

impl Frames {
    /// The channel.
    #[must_use]
    pub const fn channel(&self) -> ChannelId {
        self.channel
    }

    /// What the frames are like.
    #[must_use]
    pub const fn workload(&self) -> &Workload {
        &self.workload
    }

    /// The number of frames.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bytes.len() / self.workload.frame_bytes()
    }

    /// The bytes of some frames in a row, from one position up to another. They are not copied.
    ///
    /// # Panics
    /// When there are fewer frames.
    #[must_use]
    pub fn slice(&self, from: usize, to: usize) -> Bytes {
        let size = self.workload.frame_bytes();
        self.bytes.slice(from * size..to * size)
    }

    /// The frames from a position on; none when there are fewer. They are not copied.
    #[must_use]
    pub fn after(&self, count: u64) -> Self {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.count());
        Self { bytes: self.slice(count, self.count()), ..*self }
    }

    /// One frame as a node reads it: kind and body without the length.
    ///
    /// # Panics
    /// When there are fewer frames.
    #[must_use]
    pub fn message(&self, index: usize) -> Bytes {
        self.slice(index, index + 1).slice(LENGTH_BYTES..)
    }

    /// The voucher of a frame.
    #[must_use]
    pub fn voucher(&self, index: usize) -> Option<SignedVoucher> {
        // The last of the header's fields before the lines.
        let start = index.checked_mul(self.workload.frame_bytes())? + LENGTH_BYTES + FRAME_HEADER_BYTES - VOUCHER_BYTES;
        let bytes = self.bytes.get(start..start + VOUCHER_BYTES)?.first_chunk()?;
        Some(SignedVoucher::from_bytes(self.channel, bytes))
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::ChannelId;

    use super::*;

    fn payer(number: u8) -> Payer {
        Payer::new(ChannelId::from_uid(&[number; 31]), secret(7, number.into()).expect("a key"))
    }

    fn signed(lines: usize, count: usize) -> Frames {
        Workload::new(1, lines).expect("a frame").sign(&payer(3), count, &AtomicU64::new(0)).expect("signed")
    }

    #[test]
    fn frames_follow_from_the_seed_and_hold() {
        for lines in [1, 3, 64, 1_024] {
            let frames = signed(lines, 3);
            assert_eq!(frames.bytes, signed(lines, 3).bytes);
            assert_eq!(frames.count(), 3);
            let (mut head, channel) = (genesis_head(&frames.channel()), frames.channel());
            for index in 0..3 {
                let frame = FrameMessage::decode(frames.message(index)).expect("a frame");
                let voucher = frame.voucher().verify(&payer(3).secret().public_key()).expect("signed");
                let total = (index as u64 + 1) * lines as u64;
                head = next_head(&head, &frame.root().expect("lines"), total, total * LINE_NANOS);
                let body = VoucherBody {
                    channel,
                    lines_total: total,
                    cumulative: CumulativeAmount::from_nanos(total * LINE_NANOS),
                    bill_head: head,
                };
                assert_eq!(*voucher.body(), body);
                assert_eq!(frames.voucher(index).as_ref(), Some(frame.voucher()));
                assert_eq!(usize::from(frame.count()), lines);
            }
            assert_eq!(frames.voucher(3), None);
        }
    }

    #[test]
    fn references_and_keys_are_apart() {
        let frames = signed(64, 2);
        let lines = |index| FrameMessage::decode(frames.message(index)).expect("a frame").lines().collect::<Vec<_>>();
        let mut references: Vec<_> = [lines(0), lines(1)].concat().iter().map(|line| *line.reference.as_bytes()).collect();
        references.sort_unstable();
        references.dedup();
        assert_eq!(references.len(), 128);
        assert_ne!(secret(7, 1).expect("a key").to_bytes(), secret(7, 2).expect("a key").to_bytes());
        assert_ne!(secret(7, 1).expect("a key").to_bytes(), secret(8, 1).expect("a key").to_bytes());
    }

    #[test]
    fn a_payer_goes_on_where_it_was_acknowledged() {
        let workload = Workload::new(1, 5).expect("a frame");
        let mut paying = payer(3);
        let counted = AtomicU64::new(0);
        let first = workload.sign(&paying, 4, &counted).expect("signed");
        paying.advance(&first, 2);
        let rest = workload.sign(&paying, 2, &counted).expect("signed");
        assert_eq!(rest.bytes, first.after(2).bytes);
        assert_eq!((first.after(0).count(), first.after(4).count(), first.after(u64::MAX).count()), (4, 0, 0));
        assert_eq!((paying.lines_total(), paying.cumulative(), counted.into_inner()), (10, 10_000, 6));
        let before = paying.clone();
        paying.advance(&rest, 0);
        assert_eq!(paying.lines_total(), before.lines_total());
    }

    #[test]
    fn a_frame_has_1_to_1024_lines() {
        assert!(Workload::new(0, 0).is_err() && Workload::new(0, 1_025).is_err());
    }
}
