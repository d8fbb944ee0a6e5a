//! Where lines become frames and are signed. No I/O: a sealed frame is handed on, and leaves only when it is durable.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use millstream_billing::{FRAME_LINES_MAX, Line, LinesError, frame_root, next_head};
use millstream_types::{Amount, CumulativeAmount};
use millstream_voucher::{SecretKey, SignedVoucher, VoucherBody};
use millstream_wire::{EncodeError, FrameMessage, LENGTH_BYTES, Limits, frame_bytes, frame_lines_max};

use crate::options::LINES_PER_CALL_MAX;
use crate::{ChannelError, PayError, PayOptions, Totals};

/// A signed frame: the whole message, length included.
#[derive(Clone, Debug)]
pub(crate) struct SealedFrame {
    pub(crate) voucher: SignedVoucher,
    pub(crate) bytes: Bytes,
    pub(crate) lines: u32,
    pub(crate) signed_at: Instant,
}

/// Lines of a frame, at most.
#[derive(Clone, Copy)]
struct FrameLines {
    plain: usize,
    with_digests: usize,
}

/// The signing state of one channel.
pub(crate) struct Desk {
    key: SecretKey,
    options: PayOptions,
    signed: SignedVoucher,
    /// Lines of the frame under way: all with digests or all without.
    pending: Vec<Line>,
    /// The cumulative amount with the pending lines, in nanos.
    taken: u64,
    frame_lines: FrameLines,
    /// The confirmed deposit, in nanos; 0 until the node said.
    deposit: u64,
    /// Goes up with each sealed frame.
    generation: u64,
    /// Set once the node answered an attach: from then on nobody else may sign for this channel.
    pub(crate) attached: bool,
    pub(crate) charged: CumulativeAmount,
    pub(crate) settled: CumulativeAmount,
}

impl Desk {
    /// A desk that goes on from the last voucher signed.
    pub(crate) fn new(key: SecretKey, options: PayOptions, signed: SignedVoucher) -> Self {
        let frame_lines = FrameLines {
            plain: options.frame_lines,
            with_digests: options.frame_lines.min(frame_lines_max(millstream_wire::PAYER_MESSAGE_BYTES_MAX, true)),
        };
        let mut desk = Self {
            key,
            options,
            signed,
            pending: Vec::with_capacity(options.frame_lines),
            taken: 0,
            frame_lines,
            deposit: 0,
            generation: 0,
            attached: false,
            charged: CumulativeAmount::ZERO,
            settled: CumulativeAmount::ZERO,
        };
        desk.adopt(signed);
        desk
    }

    /// Goes on from a later voucher of this payer, before anything was taken.
    pub(crate) fn adopt(&mut self, voucher: SignedVoucher) {
        self.signed = voucher;
        // A voucher's amount fits 64 bits.
        self.taken = nanos(voucher.body().cumulative);
    }

    pub(crate) const fn signed(&self) -> &SignedVoucher {
        &self.signed
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) const fn deposit(&self) -> Amount {
        Amount::from_nanos(self.deposit)
    }

    pub(crate) const fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Everything taken, signed or not.
    pub(crate) fn taken(&self) -> Totals {
        let lines = u64::try_from(self.pending.len()).unwrap_or(u64::MAX);
        Totals { lines_total: self.signed.body().lines_total.saturating_add(lines), cumulative: CumulativeAmount::from_nanos(self.taken) }
    }

    /// What the node last said of the channel and of frames.
    pub(crate) fn learn(&mut self, deposit: Amount, limits: &Limits) {
        self.deposit = u64::try_from(deposit.units()).unwrap_or(u64::MAX);
        let lines = self.options.frame_lines.min(limits.frame_lines_max.into());
        let bytes = usize::try_from(limits.frame_bytes_max).unwrap_or(usize::MAX);
        self.frame_lines = FrameLines {
            plain: lines.min(frame_lines_max(bytes, false)).max(1),
            with_digests: lines.min(frame_lines_max(bytes, true)).max(1),
        };
    }

    /// Takes all of `lines` or none, and hands on the frames that became full.
    ///
    /// # Errors
    /// [`PayError`]; only [`PayError::Stopped`] leaves something behind, and then the channel has to be stopped.
    pub(crate) fn take(&mut self, lines: &[Line], mut seal: impl FnMut(SealedFrame)) -> Result<(), PayError> {
        self.check(lines)?;
        for line in lines {
            let with_digests = line.digest.is_some();
            if self.pending.first().is_some_and(|first| first.digest.is_some() != with_digests) {
                self.seal_into(&mut seal)?;
            }
            // The check has made sure that this fits.
            self.taken = self.taken.saturating_add(nanos(CumulativeAmount::from_units(line.amount.units())));
            self.pending.push(*line);
            let full = if with_digests { self.frame_lines.with_digests } else { self.frame_lines.plain };
            if self.pending.len() >= full {
                self.seal_into(&mut seal)?;
            }
        }
        if self.options.linger.is_zero() { self.seal_into(&mut seal) } else { Ok(()) }
    }

    fn seal_into(&mut self, seal: &mut impl FnMut(SealedFrame)) -> Result<(), PayError> {
        if let Some(frame) = self.seal().map_err(PayError::Stopped)? {
            seal(frame);
        }
        Ok(())
    }

    /// In this order: the number of lines, each amount, the caller's limit, the deposit.
    fn check(&self, lines: &[Line]) -> Result<(), PayError> {
        if lines.len() > LINES_PER_CALL_MAX {
            return Err(PayError::TooManyLines { max: LINES_PER_CALL_MAX, actual: lines.len() });
        }
        let mut needed = u128::from(self.taken);
        for (index, line) in lines.iter().enumerate() {
            let amount = line.amount.to_u64().map_err(|source| PayError::Amount { index, source })?;
            if amount == 0 {
                return Err(PayError::ZeroAmount { index });
            }
            needed += u128::from(amount);
        }
        let needed = CumulativeAmount::from_units(needed);
        if let Some(limit) = self.options.spend_limit.filter(|limit| needed > *limit && !lines.is_empty()) {
            return Err(PayError::SpendLimit { needed, limit });
        }
        let deposit = CumulativeAmount::from_nanos(self.deposit);
        if needed > deposit && !lines.is_empty() {
            return Err(PayError::DepositExceeded { needed, deposit });
        }
        Ok(())
    }

    /// Signs the pending lines as one frame, if there are any.
    ///
    /// # Errors
    /// [`ChannelError::Sign`] or [`ChannelError::Encode`]: the channel has to be stopped.
    pub(crate) fn seal(&mut self) -> Result<Option<SealedFrame>, ChannelError> {
        if self.pending.is_empty() {
            return Ok(None);
        }
        let root = frame_root(&self.pending).map_err(no_frame)?;
        let before = self.signed.body();
        let taken = self.taken();
        let body = VoucherBody {
            channel: before.channel,
            lines_total: taken.lines_total,
            cumulative: taken.cumulative,
            bill_head: next_head(&before.bill_head, &root, taken.lines_total, self.taken),
        };
        let voucher = *self.key.sign(body).map_err(ChannelError::Sign)?.signed();
        let with_digests = self.pending.first().is_some_and(|line| line.digest.is_some());
        let mut bytes = BytesMut::with_capacity(LENGTH_BYTES + frame_bytes(self.pending.len(), with_digests));
        FrameMessage::write(&mut bytes, &voucher, &self.pending).map_err(ChannelError::Encode)?;
        let lines = u32::try_from(self.pending.len()).unwrap_or(u32::MAX);
        self.signed = voucher;
        self.pending.clear();
        self.generation += 1;
        Ok(Some(SealedFrame { voucher, bytes: bytes.freeze(), lines, signed_at: Instant::now() }))
    }
}

/// The nanos of a total that is known to fit 64 bits.
fn nanos(total: CumulativeAmount) -> u64 {
    total.to_u64().unwrap_or(u64::MAX)
}

/// Pending lines are checked when they are taken, and sealed before they are too many, so their root is never refused.
fn no_frame(error: LinesError) -> ChannelError {
    ChannelError::Encode(match error {
        LinesError::Amount { source, .. } => EncodeError::Amount { field: "amount", source },
        LinesError::Count { count } | LinesError::Index { count, .. } => EncodeError::LineCount { max: FRAME_LINES_MAX, actual: count },
    })
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use millstream_types::{ChannelId, Hash256, Reference};

    use super::*;
    use crate::state::genesis;

    fn desk(options: PayOptions, deposit: u64) -> Desk {
        let key = SecretKey::from_entropy(&[7; 64]).expect("a key");
        let signed = *key.sign(genesis(ChannelId::from_uid(&[3; 31]))).expect("signs").signed();
        let mut desk = Desk::new(key, options, signed);
        let limits = Limits { frame_bytes_max: 32_768, frame_lines_max: 1_024, frames_in_flight_max: 8, idle_timeout_secs: 60 };
        desk.learn(Amount::from_nanos(deposit), &limits);
        desk
    }

    fn lines(count: usize, amount: u64, digest: bool) -> Vec<Line> {
        let digest = digest.then(|| Hash256::from_bytes([4; 32]));
        vec![Line { amount: Amount::from_nanos(amount), reference: Reference::from_bytes([1; 16]), digest }; count]
    }

    fn take(desk: &mut Desk, lines: &[Line]) -> Result<Vec<u32>, PayError> {
        let mut sealed = Vec::new();
        desk.take(lines, |frame| sealed.push(frame.lines)).map(|()| sealed)
    }

    #[test]
    fn frames_are_sealed_when_full_and_when_digests_begin_or_end() {
        let mut desk = desk(PayOptions { frame_lines: 4, ..PayOptions::default() }, 1_000);
        assert_eq!(take(&mut desk, &lines(3, 1, false)).expect("taken"), [] as [u32; 0]);
        assert_eq!(take(&mut desk, &lines(6, 1, false)).expect("taken"), [4, 4]);
        assert_eq!(take(&mut desk, &lines(2, 1, true)).expect("taken"), [1]);
        assert_eq!(desk.taken(), Totals { lines_total: 11, cumulative: CumulativeAmount::from_nanos(11) });
        assert_eq!(desk.signed().body().lines_total, 9);
        assert_eq!(desk.seal().expect("seals").expect("a frame").lines, 2);
        assert!(desk.seal().expect("seals").is_none());
        let signed = *desk.signed();
        assert!(signed.verify(&SecretKey::from_entropy(&[7; 64]).expect("a key").public_key()).is_ok());
        assert_eq!(Totals::of(signed.body()), desk.taken());
    }

    #[test]
    fn without_linger_each_call_is_signed() {
        let mut desk = desk(PayOptions { linger: Duration::ZERO, ..PayOptions::default() }, 1_000);
        assert_eq!(take(&mut desk, &lines(3, 1, false)).expect("taken"), [3]);
        assert_eq!(take(&mut desk, &[]).expect("taken"), [] as [u32; 0]);
    }

    #[test]
    fn what_is_refused_is_refused_whole_and_unsigned() {
        let spend_limit = Some(CumulativeAmount::from_nanos(80));
        let mut desk = desk(PayOptions { frame_lines: 2, spend_limit, ..PayOptions::default() }, 100);
        take(&mut desk, &lines(7, 10, false)).expect("within both limits");
        let before = (desk.taken(), *desk.signed());
        let check = |desk: &mut Desk, lines: &[Line], expected: &str| {
            let error = take(desk, lines).expect_err("refused");
            assert!(format!("{error:?}").starts_with(expected), "{error:?}");
            assert_eq!((desk.taken(), *desk.signed()), before, "{expected}");
        };
        check(&mut desk, &lines(LINES_PER_CALL_MAX + 1, 1, false), "TooManyLines");
        check(&mut desk, &[lines(1, 1, false), lines(1, 0, false)].concat(), "ZeroAmount { index: 1 }");
        let wide = Line { amount: Amount::from_units(1 << 64), ..lines(1, 1, false)[0] };
        check(&mut desk, &[wide], "Amount { index: 0");
        check(&mut desk, &lines(1, 11, false), "SpendLimit");
        check(&mut desk, &lines(2, u64::MAX, false), "SpendLimit");
        desk.options.spend_limit = None;
        check(&mut desk, &lines(1, 31, false), "DepositExceeded");
        assert!(take(&mut desk, &lines(3, 10, false)).is_ok());
        assert!(take(&mut desk, &lines(1, 1, false)).is_err());
        let limits = Limits { frame_bytes_max: 189, frame_lines_max: 1_024, frames_in_flight_max: 8, idle_timeout_secs: 60 };
        desk.learn(Amount::from_nanos(1_000), &limits);
        assert_eq!(take(&mut desk, &lines(2, 1, true)).expect("topped up"), [1, 1]);
    }
}
