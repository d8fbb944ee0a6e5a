//! Every size and count of the protocol, named.

use millstream_billing::{FRAME_LINES_MAX, LINE_BYTES, LINE_WITH_DIGEST_BYTES};
use millstream_voucher::VOUCHER_BYTES;

/// The application protocol that both ends name in the TLS handshake.
pub const ALPN: &[u8] = b"millstream/1";

/// The version that an attach names.
pub const VERSION: u16 = 1;

/// The length before each message: it counts the kind and the body (W-1).
pub const LENGTH_BYTES: usize = 4;

/// The longest payer's message, kind and body, in bytes (W-1).
pub const PAYER_MESSAGE_BYTES_MAX: usize = 32_768;

/// The longest node's message, kind and body, in bytes (W-1).
pub const NODE_MESSAGE_BYTES_MAX: usize = 65_536;

/// Bytes of an attach or a relay up to its version, which is read before the length is judged: other versions may be longer.
pub(crate) const VERSION_END: usize = 1 + 2;

/// An attach, kind and body.
pub const ATTACH_BYTES: usize = 1 + 2 + 2 + 8 + 20 + 32 + VOUCHER_BYTES;

/// A frame before its lines: `kind (1) ‖ flags (1) ‖ reserved (1) ‖ count (2) ‖ channel (32) ‖ voucher (96)`.
pub const FRAME_HEADER_BYTES: usize = 1 + 1 + 1 + 2 + 32 + VOUCHER_BYTES;

/// A snapshot, kind and body.
pub(crate) const SNAPSHOT_BYTES: usize = 1 + 32 + 1 + 1 + 8 + VOUCHER_BYTES + 8 + 8 + 4 + 2 + 2 + 4 + 4;

/// An ack, kind and body.
pub(crate) const ACK_BYTES: usize = 1 + 8 + 8 + 8 + 8;

/// A reject, kind and body.
pub(crate) const REJECT_BYTES: usize = 1 + 2 + 2 + 8 + 8 + 8 + 32;

/// A word of the ledger.
pub(crate) const WORD_BYTES: usize = 32;

/// A relay up to its purpose.
pub(crate) const RELAY_HEADER_BYTES: usize = 1 + 2 + 1 + 1 + 8 + 20 + 20 + 16;

/// The longest signature under a relayed deposit: contract accounts take more than 65 bytes.
pub const RELAY_SIGNATURE_BYTES_MAX: u16 = 1_024;

/// A relayed, kind and body.
pub(crate) const RELAYED_BYTES: usize = 1 + 1 + 3 + 32 + 32 + 8 + 8;

/// A refused without what the contract said, kind and body.
pub(crate) const REFUSED_BYTES: usize = 1 + 2 + 2 + 4 + 8 + 32 + 2;

/// What a refused tells at most of a contract's reason.
pub const REVERT_BYTES_MAX: u16 = 512;

/// The smallest frame limit that a node may name: one line with a digest.
pub(crate) const FRAME_BYTES_MAX_LEAST: usize = FRAME_HEADER_BYTES + LINE_WITH_DIGEST_BYTES;

/// The bytes of one line of a frame.
#[must_use]
pub(crate) const fn line_bytes(with_digests: bool) -> usize {
    if with_digests { LINE_WITH_DIGEST_BYTES } else { LINE_BYTES }
}

/// The kind and body of a frame of `lines` lines, in bytes; absurd counts saturate.
#[must_use]
pub const fn frame_bytes(lines: usize, with_digests: bool) -> usize {
    FRAME_HEADER_BYTES.saturating_add(line_bytes(with_digests).saturating_mul(lines))
}

/// The most lines a frame of at most `bytes_max` bytes, kind and body, can have; never more than 1,024.
#[must_use]
pub const fn frame_lines_max(bytes_max: usize, with_digests: bool) -> usize {
    let fitting = match bytes_max.saturating_sub(FRAME_HEADER_BYTES).checked_div(line_bytes(with_digests)) {
        Some(fitting) => fitting,
        None => 0,
    };
    if fitting < FRAME_LINES_MAX { fitting } else { FRAME_LINES_MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_frame_fits_the_limit_without_digests_and_not_with_them() {
        assert_eq!(frame_lines_max(PAYER_MESSAGE_BYTES_MAX, false), FRAME_LINES_MAX);
        assert_eq!(frame_lines_max(PAYER_MESSAGE_BYTES_MAX, true), 582);
        assert!(frame_bytes(582, true) <= PAYER_MESSAGE_BYTES_MAX && frame_bytes(583, true) > PAYER_MESSAGE_BYTES_MAX);
        assert_eq!(frame_lines_max(FRAME_HEADER_BYTES, false), 0);
        assert_eq!(frame_lines_max(0, false), 0);
    }
}
