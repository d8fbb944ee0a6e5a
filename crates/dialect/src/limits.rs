//! Every limit there is on what is read.

/// Bytes of an encoded header value of either dialect. An x402 voucher takes about 1.5 KiB, a contract's signature up to 8 more.
pub const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Bytes of an encoded MPP credential. The draft wants at least 4 KiB.
pub const CREDENTIAL_BYTES_MAX: usize = 32 * 1024;
/// Bytes of the body of a facilitator's request or answer; a request to claim has up to [`CLAIMS_MAX`] rows.
pub const FACILITATOR_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the data of one server-sent event of ours.
pub const EVENT_BYTES_MAX: usize = 16 * 1024;
/// Levels of arrays and objects in JSON.
pub const JSON_DEPTH_MAX: usize = 24;
/// Offers in one 402, of either dialect.
pub const OFFERS_MAX: usize = 32;
/// Rows of one request to claim.
pub const CLAIMS_MAX: usize = 512;
/// Parameters of one MPP offer, the unknown ones included.
pub const OFFER_PARAMS_MAX: usize = 32;
/// Ranges in one `Accept-Payment`.
pub const ACCEPT_RANGES_MAX: usize = 64;
/// Splits of one MPP charge, as the draft has it.
pub const SPLITS_MAX: usize = 10;
/// Characters of a split's memo, as the draft has it.
pub const MEMO_CHARS_MAX: usize = 256;
/// Characters of an `Idempotency-Key`. The drafts have no bound.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Characters of the id of x402's `payment-identifier`, at least and at most, as the extension has it.
pub const PAYMENT_ID_BYTES: core::ops::RangeInclusive<usize> = 16..=128;
/// Bytes of the key that binds MPP offers, at least: those of the hash.
pub const BINDING_KEY_BYTES_MIN: usize = 32;
