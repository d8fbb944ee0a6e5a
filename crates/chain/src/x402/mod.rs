//! The contracts behind x402: where they are on every chain, how a development chain gets them; and what a receiver does with them: reading
//! channels at a depth, depositing what payers signed, claiming from many channels at once, sweeping, refunding; single payments.
//!
//! `x402BatchSettlement` is shared by all the world, and says of a channel nothing but its id. So this side follows the channels that it is
//! told of: their logs say *that* something happened, and what is true then is read from the contract at the same block, balance and all. A log
//! that an endpoint leaves out can delay what is learned until the next look, and falsify nothing.
//!
//! Amounts are base units of the channel's token. Source: the schemes' specifications; `docs/spec/escrows.md`, E-1 to E-14.

pub mod bindings;
mod calls;
mod claims;
mod contract;
mod exact;
mod place;

pub use calls::ExactPermit2;
pub use claims::{BadClaim, BatchOperator, CLAIM_ROWS_MAX, ClaimRow, Claimed, DepositAuthorization, Sorted, Sweep};
pub use contract::{BatchSettlement, ChannelState, PendingWithdrawal, ReceiverTotals};
pub use exact::{ExactTransfer, Made};
pub use millstream_voucher::evm::{
    ERC3009_DEPOSIT_COLLECTOR, PERMIT2_DEPOSIT_COLLECTOR, X402_BATCH_SETTLEMENT as BATCH_SETTLEMENT,
    X402_EXACT_PERMIT2_PROXY as EXACT_PERMIT2_PROXY,
};
pub use place::place_development_x402;

/// A reader of the contract's channels.
pub type EscrowReader = crate::EscrowReader<BatchSettlement>;
/// What one poll of it found.
pub type EscrowPoll = crate::EscrowPoll<ChannelState>;
/// What happened in some blocks.
pub type EscrowBatch = crate::EscrowBatch<ChannelState>;
/// Channels at the end of a block.
pub type Seen = crate::Seen<ChannelState>;

#[cfg(test)]
mod tests {
    use millstream_types::Address;

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
