//! The attach: `version (2) ‖ reserved (2) ‖ chain id (8) ‖ ledger (20) ‖ channel (32) ‖ voucher (96)`.

use bytes::{BufMut, BytesMut};
use millstream_types::{ChainId, ChannelId, LedgerId};
use millstream_voucher::SignedVoucher;

use crate::fields::{Fields, start};
use crate::limits::{ATTACH_BYTES, VERSION, VERSION_END};
use crate::{DecodeError, EncodeError, Kind};

/// Names the channel of a stream, and proves with the payer's last voucher that the caller holds the channel's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// The ledger that the payer means.
    pub ledger: LedgerId,
    /// The last voucher the payer signed for the channel; one of `(0, 0, head_0)` when it has paid nothing.
    pub voucher: SignedVoucher,
}

impl Attach {
    /// The channel.
    #[must_use]
    pub const fn channel(&self) -> ChannelId {
        self.voucher.body().channel
    }

    pub(crate) fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let actual = Fields::at_least(Kind::Attach, message, VERSION_END)?.u16()?;
        if actual != VERSION {
            return Err(DecodeError::UnsupportedVersion { expected: VERSION, actual });
        }
        let mut fields = Fields::exactly(Kind::Attach, message, ATTACH_BYTES)?;
        fields.u16()?;
        fields.reserved_u16()?;
        let ledger = LedgerId { chain: ChainId::new(fields.u64()?), contract: fields.address()? };
        let channel = fields.channel()?;
        Ok(Self { ledger, voucher: fields.voucher(channel)? })
    }

    /// Appends the message, length included.
    ///
    /// # Errors
    /// [`EncodeError`] when a total does not fit the wire.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        start(out, Kind::Attach, ATTACH_BYTES)?;
        out.put_u16(VERSION);
        out.put_u16(0);
        out.put_u64(self.ledger.chain.get());
        out.put_slice(self.ledger.contract.as_bytes());
        out.put_slice(self.voucher.body().channel.as_bytes());
        out.put_slice(&self.voucher.to_bytes());
        Ok(())
    }
}
