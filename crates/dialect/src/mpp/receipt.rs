//! Receipts: `Payment-Receipt`. Unsigned: a payer's convenience, no proof.

use millstream_types::{CumulativeAmount, EscrowChannelId, Hash256};
use serde::{Deserialize, Serialize};

use super::moment::parse_moment;
use crate::codec::Alphabet;
use crate::fields::{optional, text};
use crate::limits::HEADER_BYTES_MAX;
use crate::{DialectError, Object};

/// Header of a response: the receipt. It goes with success only, and with `Cache-Control: private`.
pub const PAYMENT_RECEIPT: &str = "Payment-Receipt";

/// A receipt of any method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// `success`.
    pub status: String,
    /// The method.
    pub method: String,
    /// When, as RFC 3339 has it.
    pub timestamp: String,
    /// The method's own: a transaction, a channel.
    pub reference: String,
    /// What the method adds.
    #[serde(flatten)]
    pub more: Object,
}

/// A receipt of an `evm` session, understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionReceipt {
    /// When, as RFC 3339 has it.
    pub timestamp: String,
    /// The offer's id.
    pub challenge_id: String,
    /// The channel; the receipt's reference too.
    #[serde(with = "text")]
    pub channel_id: EscrowChannelId,
    /// The best voucher's total.
    #[serde(with = "text")]
    pub accepted_cumulative: CumulativeAmount,
    /// What was charged in total.
    #[serde(with = "text")]
    pub spent: CumulativeAmount,
    /// The chain.
    pub chain_id: u64,
    /// What this request used, in the offer's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<u64>,
    /// The transaction, where there was one.
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    pub tx_hash: Option<Hash256>,
    /// Blocks on top of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmations: Option<u64>,
}

impl Receipt {
    /// The header's value.
    ///
    /// # Errors
    /// [`DialectError::Field`] for a receipt of anything but success.
    pub fn to_header(&self) -> Result<String, DialectError> {
        self.check()?;
        Alphabet::UrlSafe.encode_json(PAYMENT_RECEIPT, self)
    }

    /// From the header's value.
    ///
    /// # Errors
    /// [`DialectError`].
    pub fn from_header(value: &str) -> Result<Self, DialectError> {
        let receipt: Self = Alphabet::UrlSafe.decode_json(PAYMENT_RECEIPT, value.trim(), HEADER_BYTES_MAX)?;
        receipt.check()?;
        Ok(receipt)
    }

    pub(super) fn check(&self) -> Result<(), DialectError> {
        if self.status != "success" {
            return Err(DialectError::field("status", "expected success"));
        }
        parse_moment("timestamp", &self.timestamp).map(|_| ())
    }

    /// A session's receipt, understood.
    ///
    /// # Errors
    /// [`DialectError`]: it is another method's or intent's, or the reference is not the channel.
    pub fn session(&self) -> Result<SessionReceipt, DialectError> {
        let all = Object::of(PAYMENT_RECEIPT, self)?;
        if self.method != super::EVM || all.get("intent").and_then(|intent| intent.as_str()) != Some(super::SESSION) {
            return Err(DialectError::field("method", "expected a receipt of an evm session"));
        }
        let receipt: SessionReceipt = all.read(PAYMENT_RECEIPT)?;
        if self.reference.parse() != Ok(receipt.channel_id) {
            return Err(DialectError::field("reference", "expected the channel's id"));
        }
        Ok(receipt)
    }
}

impl SessionReceipt {
    /// The receipt as it travels.
    ///
    /// # Errors
    /// Never for a receipt that was made by hand or read.
    pub fn to_receipt(&self) -> Result<Receipt, DialectError> {
        let mut more = Object::of(PAYMENT_RECEIPT, self)?;
        more.insert("intent", super::SESSION.into());
        let more = more.fields().iter().filter(|(key, _)| *key != "timestamp").map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(Receipt {
            status: "success".to_owned(),
            method: super::EVM.to_owned(),
            timestamp: self.timestamp.clone(),
            reference: self.channel_id.to_string(),
            more,
        })
    }
}
