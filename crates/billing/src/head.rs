//! The hash chain over a channel's frames.

use millstream_types::{BillHead, ChannelId, Hash256};

use crate::sha256;

/// The head of a channel that has paid nothing (B-4).
#[must_use]
pub fn genesis_head(channel: &ChannelId) -> BillHead {
    BillHead::from_bytes(*sha256(&[&[0x03], channel.as_bytes()]).as_bytes())
}

/// The head after a frame (B-4): `lines_total` and `cumulative` (nanos) are the totals with that frame.
#[must_use]
pub fn next_head(previous: &BillHead, frame_root: &Hash256, lines_total: u64, cumulative: u64) -> BillHead {
    let head = sha256(&[&[0x02], previous.as_bytes(), frame_root.as_bytes(), &lines_total.to_be_bytes(), &cumulative.to_be_bytes()]);
    BillHead::from_bytes(*head.as_bytes())
}
