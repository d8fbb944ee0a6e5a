//! Draft 1.1 of `batch-settlement`: the facilitator keeps the vouchers. A draft that moves, so what it adds is in this one module.
//!
//! Source: the draft of 15 August 2026 (fork commit 059ffd39). A facilitator that keeps vouchers says so in `/supported`; a server copies
//! that into its offers and hands every payload on, first to `/verify`, then to `/settle`.

use millstream_types::Address;
use serde::{Deserialize, Serialize};

use super::batch::{BatchExtra, ChannelState, VoucherState};
use crate::fields::{optional, text};

/// What the draft adds to the `extra` of an offer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustodyExtra {
    /// Whether the facilitator keeps the vouchers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voucher_store: Option<bool>,
    /// Whose consent a refund needs: it has to be packed into the channel's salt
    /// ([`packed_refund_authorizer`](millstream_voucher::evm::packed_refund_authorizer)). Today's clients cannot pack it, so an offer to
    /// them leaves it out.
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    pub refund_authorizer: Option<Address>,
}

/// `extra` of a kind in `/supported` of a facilitator that keeps vouchers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustodyKind {
    /// Who authorises claims and refunds: a key of the facilitator's.
    #[serde(with = "text")]
    pub receiver_authorizer: Address,
    /// Seconds that a withdrawal waits; a server must not change it.
    pub withdraw_delay: u64,
    /// Whether it keeps the vouchers.
    pub voucher_store: bool,
}

/// `extra` of an answer to `/verify`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustodyVerifyExtra {
    /// The channel, with what was charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_state: Option<ChannelState>,
    /// The best voucher, where totals do not agree; a server copies it into its corrective 402.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voucher_state: Option<VoucherState>,
    /// Whether there is nothing to deliver: a refund.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_handler: Option<bool>,
}

impl CustodyKind {
    /// Whether an offer copies it faithfully.
    #[must_use]
    pub fn is_copied_by(&self, offer: &BatchExtra) -> bool {
        offer.receiver_authorizer == self.receiver_authorizer
            && offer.withdraw_delay == self.withdraw_delay
            && (self.voucher_store || offer.custody.voucher_store != Some(true))
    }
}
