//! The contracts behind x402: where they are on every chain, and how a development chain gets them.
//!
//! Source: the scheme's specification; `docs/spec/escrows.md`, E-1 to E-14.

pub mod bindings;
mod place;

use millstream_types::Address;

pub use place::place_development_x402;

/// `x402BatchSettlement`: deposits, claims and sweeps of the scheme `batch-settlement`. Clients have it in their code.
pub const BATCH_SETTLEMENT: Address = Address::from_bytes([
    0x40, 0x20, 0x07, 0x4e, 0x9d, 0xf2, 0xce, 0x1d, 0xee, 0x5a, 0x9c, 0x1b, 0x5c, 0x3f, 0x54, 0x1d, 0x02, 0xa1, 0x00, 0x03,
]);

/// What collects its deposits by EIP-3009: the receiver of the authorizations.
pub const ERC3009_DEPOSIT_COLLECTOR: Address = Address::from_bytes([
    0x40, 0x20, 0x80, 0x60, 0x89, 0x47, 0x0a, 0x89, 0x82, 0x6c, 0xb9, 0xfb, 0x1f, 0x40, 0x59, 0x15, 0x0b, 0x55, 0x00, 0x04,
]);

/// What collects its deposits by Permit2: the spender of the signatures.
pub const PERMIT2_DEPOSIT_COLLECTOR: Address = Address::from_bytes([
    0x40, 0x20, 0x42, 0x5f, 0xaf, 0x3b, 0x74, 0x6c, 0x08, 0x2c, 0x2f, 0x94, 0x2b, 0x4e, 0x51, 0x59, 0x88, 0x7b, 0x00, 0x05,
]);

/// What moves payments of the scheme `exact` by Permit2: the spender of the signatures.
pub const EXACT_PERMIT2_PROXY: Address = Address::from_bytes([
    0x40, 0x20, 0x85, 0xc2, 0x48, 0xee, 0xa2, 0x7d, 0x92, 0xe8, 0xb3, 0x0b, 0x2c, 0x58, 0xed, 0x07, 0xf9, 0xe2, 0x00, 0x01,
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_the_canonical_ones() {
        let check = |address: Address, expected: &str| assert_eq!(address.to_string(), expected.to_lowercase());
        check(BATCH_SETTLEMENT, "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003");
        check(ERC3009_DEPOSIT_COLLECTOR, "0x4020806089470a89826cB9fB1f4059150b550004");
        check(PERMIT2_DEPOSIT_COLLECTOR, "0x4020425FAf3B746C082C2f942b4E5159887B0005");
        check(EXACT_PERMIT2_PROXY, "0x402085c248EeA27D92E8b30b2C58ed07f9E20001");
    }
}
