//! The records of a channel: hand-written, versioned bytes.

use millstream_billing::genesis_head;
use millstream_types::{Address, BillHead, ChainId, ChannelId, CumulativeAmount, LedgerId};
use millstream_voucher::{ChannelTerms, SecretKey, SignedVoucher, VOUCHER_BYTES, VoucherBody};
use zeroize::Zeroizing;

use super::StateError;

/// The version of both records.
const VERSION: u8 = 1;
/// `version (1) ‖ chain (8) ‖ ledger (20) ‖ payer (20) ‖ keyX (32) ‖ salt (32) ‖ key kind (1) ‖ secret (32)`.
const TERMS_BYTES: usize = 1 + 8 + 20 + 20 + 32 + 32 + 1 + 32;
/// `version (1) ‖ signed (1) ‖ voucher (96) ‖ acked lines (8) ‖ acked cumulative (8) ‖ acked head (32)`.
const TOTALS_BYTES: usize = 1 + 1 + VOUCHER_BYTES + 8 + 8 + 32;

/// Where the secret of a channel's voucher key lives.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one for a channel, for a moment")]
pub enum StoredKey {
    /// In the state file, which its owner alone can read.
    Stored(SecretKey),
    /// Elsewhere: it is given each time, for instance derived from the wallet (spec V-11). Nothing secret is on disk.
    Supplied,
}

/// What never changes of a channel.
pub(super) struct Terms {
    pub(super) terms: ChannelTerms,
    pub(super) key: StoredKey,
}

impl Terms {
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(TERMS_BYTES));
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.terms.ledger.chain.get().to_be_bytes());
        bytes.extend_from_slice(self.terms.ledger.contract.as_bytes());
        bytes.extend_from_slice(self.terms.payer.as_bytes());
        bytes.extend_from_slice(&self.terms.key_x);
        bytes.extend_from_slice(&self.terms.salt);
        match &self.key {
            StoredKey::Stored(secret) => {
                bytes.push(1);
                bytes.extend_from_slice(secret.to_bytes().as_ref());
            }
            StoredKey::Supplied => {
                bytes.push(2);
                bytes.extend_from_slice(&[0; 32]);
            }
        }
        bytes
    }

    pub(super) fn from_bytes(channel: ChannelId, bytes: &[u8]) -> Result<Self, StateError> {
        let mut fields = Fields::exactly(channel, bytes, TERMS_BYTES)?;
        let chain = ChainId::new(u64::from_be_bytes(fields.take()?));
        let contract = Address::from_bytes(fields.take()?);
        let payer = Address::from_bytes(fields.take()?);
        let terms = ChannelTerms { ledger: LedgerId { chain, contract }, payer, key_x: fields.take()?, salt: fields.take()? };
        let [kind] = fields.take()?;
        let secret = Zeroizing::new(fields.take::<32>()?);
        let key = match kind {
            1 => StoredKey::Stored(SecretKey::from_bytes(&secret).map_err(|_| fields.damaged("the stored key is no key"))?),
            2 => StoredKey::Supplied,
            _ => return Err(fields.damaged("unknown kind of key")),
        };
        if terms.uid() == channel { Ok(Self { terms, key }) } else { Err(fields.damaged("the terms are of another channel")) }
    }
}

/// What grows with every frame.
pub(super) struct Totals {
    pub(super) signed: Option<SignedVoucher>,
    pub(super) acked: VoucherBody,
}

impl Totals {
    pub(super) fn of_new_channel(channel: ChannelId) -> Self {
        Self { signed: None, acked: genesis(channel) }
    }

    pub(super) fn to_bytes(&self) -> [u8; TOTALS_BYTES] {
        let mut bytes = [0; TOTALS_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&[VERSION, u8::from(self.signed.is_some())]);
        put(&self.signed.map_or([0; VOUCHER_BYTES], |voucher| voucher.to_bytes()));
        put(&self.acked.lines_total.to_be_bytes());
        // Totals come from vouchers and acks, which carry 64 bits.
        put(&self.acked.cumulative.units().to_be_bytes()[8..]);
        put(self.acked.bill_head.as_bytes());
        bytes
    }

    pub(super) fn from_bytes(channel: ChannelId, bytes: &[u8]) -> Result<Self, StateError> {
        let mut fields = Fields::exactly(channel, bytes, TOTALS_BYTES)?;
        let [signed] = fields.take()?;
        let voucher = SignedVoucher::from_bytes(channel, &fields.take()?);
        let acked = VoucherBody {
            channel,
            lines_total: u64::from_be_bytes(fields.take()?),
            cumulative: CumulativeAmount::from_nanos(u64::from_be_bytes(fields.take()?)),
            bill_head: BillHead::from_bytes(fields.take()?),
        };
        match signed {
            0 => Ok(Self { signed: None, acked }),
            1 => Ok(Self { signed: Some(voucher), acked }),
            _ => Err(fields.damaged("unknown flag")),
        }
    }
}

/// The body of the voucher that a channel starts from: nothing paid, the first bill head (spec B-4).
pub(crate) fn genesis(channel: ChannelId) -> VoucherBody {
    VoucherBody { channel, lines_total: 0, cumulative: CumulativeAmount::ZERO, bill_head: genesis_head(&channel) }
}

/// Reads the fields of a record whose version and length were checked.
struct Fields<'a> {
    channel: ChannelId,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn exactly(channel: ChannelId, bytes: &'a [u8], expected: usize) -> Result<Self, StateError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) if bytes.len() == expected => Ok(Self { channel, rest }),
            _ => Err(StateError::Damaged { channel, what: "a record has another version or length" }),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(self.damaged("a record is too short"))?;
        self.rest = rest;
        Ok(*field)
    }

    fn damaged(&self, what: &'static str) -> StateError {
        StateError::Damaged { channel: self.channel, what }
    }
}
