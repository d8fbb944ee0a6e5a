//! Server-sent events within a metered response.

use millstream_types::{Amount, CumulativeAmount, EscrowChannelId};
use serde::{Deserialize, Serialize};

use super::receipt::Receipt;
use crate::fields::text;
use crate::limits::EVENT_BYTES_MAX;
use crate::{DialectError, json};

/// Delivery has stopped until a voucher comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NeedVoucher {
    /// The channel.
    #[serde(with = "text")]
    pub channel_id: EscrowChannelId,
    /// The least total of the next voucher.
    #[serde(with = "text")]
    pub required_cumulative: CumulativeAmount,
    /// The best voucher's total.
    #[serde(with = "text")]
    pub accepted_cumulative: CumulativeAmount,
    /// The deposit on the chain. When less than what is required, a top-up has to come first.
    #[serde(with = "text")]
    pub deposit: Amount,
}

/// An event of ours between those of the resource.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionEvent {
    /// `payment-need-voucher`
    NeedVoucher(NeedVoucher),
    /// `payment-receipt`, the last one.
    Receipt(Receipt),
}

impl NeedVoucher {
    /// Whether the payer has to top up first.
    #[must_use]
    pub fn needs_top_up(&self) -> bool {
        self.required_cumulative.as_amount() > self.deposit
    }
}

impl SessionEvent {
    /// Names of the events.
    pub const NAMES: [&'static str; 2] = ["payment-need-voucher", "payment-receipt"];

    /// The name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NeedVoucher(_) => Self::NAMES[0],
            Self::Receipt(_) => Self::NAMES[1],
        }
    }

    /// The event as it is written into the stream, with its blank line. JSON has no line break, so the data is one line.
    ///
    /// # Errors
    /// [`DialectError::Field`] for a receipt of anything but success.
    pub fn to_stream(&self) -> Result<String, DialectError> {
        let data = match self {
            Self::NeedVoucher(need) => serde_json::to_string(need),
            Self::Receipt(receipt) => {
                receipt.check()?;
                serde_json::to_string(receipt)
            }
        };
        let data = data.map_err(|error| DialectError::shape(self.name(), &error))?;
        Ok(format!("event: {}\ndata: {data}\n\n", self.name()))
    }

    /// From the name and the data (the lines of `data:`, joined by line breaks) of an event; nothing for one that is not ours.
    ///
    /// # Errors
    /// [`DialectError`].
    pub fn from_stream(name: &str, data: &str) -> Result<Option<Self>, DialectError> {
        match name {
            "payment-need-voucher" => json::parse(Self::NAMES[0], data.as_bytes(), EVENT_BYTES_MAX).map(Self::NeedVoucher).map(Some),
            "payment-receipt" => {
                let receipt: Receipt = json::parse(Self::NAMES[1], data.as_bytes(), EVENT_BYTES_MAX)?;
                receipt.check()?;
                Ok(Some(Self::Receipt(receipt)))
            }
            _ => Ok(None),
        }
    }
}
