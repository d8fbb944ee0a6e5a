//! Typed calls and events of the escrow contracts of HTTP 402. Source: the x402 `batch-settlement` specification for EVM, and the MPP draft
//! `evm/session`; `docs/spec/escrows.md` says what each promises.

// The items are the ABI's own.
#![allow(missing_docs)]

use alloy::sol;

sol! {
    #![sol(all_derives = true)]

    interface IBatchSettlement {
        struct ChannelConfig {
            address payer;
            address payerAuthorizer;
            address receiver;
            address receiverAuthorizer;
            address token;
            uint40 withdrawDelay;
            bytes32 salt;
        }
        struct Voucher {
            ChannelConfig channel;
            uint128 maxClaimableAmount;
        }
        struct VoucherClaim {
            Voucher voucher;
            bytes signature;
            uint128 totalClaimed;
        }

        event ChannelCreated(bytes32 indexed channelId, ChannelConfig config);
        event ChannelClosed(bytes32 indexed channelId, ChannelConfig config);
        event Deposited(bytes32 indexed channelId, address indexed sender, uint128 amount, uint128 newBalance);
        event Claimed(bytes32 indexed channelId, address indexed sender, uint128 claimAmount, uint128 newTotalClaimed);
        event Settled(address indexed receiver, address indexed token, address indexed sender, uint128 amount);
        event Refunded(bytes32 indexed channelId, address indexed sender, uint128 amount);
        event WithdrawInitiated(bytes32 indexed channelId, uint128 amount, uint40 finalizeAfter);
        event WithdrawFinalized(bytes32 indexed channelId, address indexed sender, uint128 amount);

        error InvalidChannel();
        error ZeroDeposit();
        error DepositOverflow();
        error InvalidSignature();
        error NotReceiverAuthorizer();
        error NotAuthorizedToClaim();
        error NotAuthorizedToRefund();
        error ClaimExceedsCeiling();
        error ClaimExceedsBalance();
        error WithdrawalAlreadyPending();
        error WithdrawalNotPending();
        error NotAuthorizedToFinalizeWithdraw();
        error WithdrawDelayNotElapsed();
        error NothingToWithdraw();
        error WithdrawAmountExceedsAvailable();
        error WithdrawDelayOutOfRange();
        error EmptyBatch();
        error DepositCollectionFailed();
        error InvalidCollector();
        error InvalidRefundNonce();
        error ZeroRefund();

        function deposit(ChannelConfig calldata config, uint128 amount, address collector, bytes calldata collectorData) external;
        function claim(VoucherClaim[] calldata voucherClaims) external;
        function claimWithSignature(VoucherClaim[] calldata voucherClaims, bytes calldata signature) external;
        function settle(address receiver, address token) external;
        function initiateWithdraw(ChannelConfig calldata config, uint128 amount) external;
        function finalizeWithdraw(ChannelConfig calldata config) external;
        function refund(ChannelConfig calldata config, uint128 amount) external;
        function refundWithSignature(ChannelConfig calldata config, uint128 amount, uint256 nonce, bytes calldata signature) external;
        function multicall(bytes[] calldata data) external returns (bytes[] memory results);

        function getChannelId(ChannelConfig calldata config) external view returns (bytes32);
        function channels(bytes32 channelId) external view returns (uint128 balance, uint128 totalClaimed);
        function pendingWithdrawals(bytes32 channelId) external view returns (uint128 amount, uint40 initiatedAt);
        function refundNonce(bytes32 channelId) external view returns (uint256);
        function receivers(address receiver, address token) external view returns (uint128 totalClaimed, uint128 totalSettled);
    }

    /// ERC-1271.
    interface IContractSigner {
        function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4);
    }
}

#[cfg(test)]
mod tests {
    use alloy::sol_types::SolCall;

    use super::IBatchSettlement::*;

    /// The selectors that the published clients and facilitators call.
    #[test]
    fn the_selectors_are_those_of_the_published_contract() {
        let check = |selector: [u8; 4], expected: &str| assert_eq!(alloy::hex::encode(selector), expected);
        check(depositCall::SELECTOR, "140f1e75");
        check(claimCall::SELECTOR, "29237b0c");
        check(claimWithSignatureCall::SELECTOR, "e43ce1f2");
        check(settleCall::SELECTOR, "9db32a8f");
        check(initiateWithdrawCall::SELECTOR, "cf5cf3dc");
        check(finalizeWithdrawCall::SELECTOR, "e88377b1");
        check(refundCall::SELECTOR, "dce4bfae");
        check(refundWithSignatureCall::SELECTOR, "b77433e9");
        check(multicallCall::SELECTOR, "ac9650d8");
        check(getChannelIdCall::SELECTOR, "5e5e0b87");
        check(channelsCall::SELECTOR, "7a7ebd7b");
        check(pendingWithdrawalsCall::SELECTOR, "b7f06ebe");
        check(receiversCall::SELECTOR, "21ff6389");
        check(refundNonceCall::SELECTOR, "f0dc792e");
    }
}
