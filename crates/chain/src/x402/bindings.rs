//! Typed calls, events and errors of the x402 contracts. Source: `contracts/src/interfaces/`; a test compares them with the built artefacts.
//!
//! Addresses stand where the Solidity text names a contract type; the ABI is the same.

// The items are the ABI's own; the interfaces document each.
#![allow(missing_docs)]

use alloy::sol;

sol! {
    #![sol(all_derives = true)]

    interface IX402BatchSettlement {
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
        event ChannelClosed(bytes32 indexed channelId, ChannelConfig config);
        event ChannelCreated(bytes32 indexed channelId, ChannelConfig config);
        event Claimed(bytes32 indexed channelId, address indexed sender, uint128 claimAmount, uint128 newTotalClaimed);
        event Deposited(bytes32 indexed channelId, address indexed sender, uint128 amount, uint128 newBalance);
        event Refunded(bytes32 indexed channelId, address indexed sender, uint128 amount);
        event Settled(address indexed receiver, address indexed token, address indexed sender, uint128 amount);
        event WithdrawFinalized(bytes32 indexed channelId, address indexed sender, uint128 amount);
        event WithdrawInitiated(bytes32 indexed channelId, uint128 amount, uint40 finalizeAfter);
        error ClaimExceedsBalance();
        error ClaimExceedsCeiling();
        error DepositCollectionFailed();
        error DepositOverflow();
        error EmptyBatch();
        error InvalidChannel();
        error InvalidCollector();
        error InvalidRefundNonce();
        error InvalidSignature();
        error NotAuthorizedToClaim();
        error NotAuthorizedToFinalizeWithdraw();
        error NotAuthorizedToRefund();
        error NotReceiverAuthorizer();
        error NothingToWithdraw();
        error WithdrawAmountExceedsAvailable();
        error WithdrawDelayNotElapsed();
        error WithdrawDelayOutOfRange();
        error WithdrawalAlreadyPending();
        error WithdrawalNotPending();
        error ZeroDeposit();
        error ZeroRefund();
        function deposit(ChannelConfig calldata config, uint128 amount, address collector, bytes calldata collectorData) external;
        function claim(VoucherClaim[] calldata voucherClaims) external;
        function claimWithSignature(VoucherClaim[] calldata voucherClaims, bytes calldata authorizerSignature) external;
        function settle(address receiver, address token) external;
        function initiateWithdraw(ChannelConfig calldata config, uint128 amount) external;
        function finalizeWithdraw(ChannelConfig calldata config) external;
        function refund(ChannelConfig calldata config, uint128 amount) external;
        function refundWithSignature(
            ChannelConfig calldata config,
            uint128 amount,
            uint256 nonce,
            bytes calldata receiverAuthorizerSignature
        ) external;
        function multicall(bytes[] calldata data) external returns (bytes[] memory);
        function getChannelId(ChannelConfig calldata config) external view returns (bytes32);
        function getVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount) external view returns (bytes32);
        function getRefundDigest(bytes32 channelId, uint256 nonce, uint128 amount) external view returns (bytes32);
        function getClaimBatchDigest(VoucherClaim[] calldata voucherClaims) external view returns (bytes32 digest);
        function channels(bytes32 channelId) external view returns (uint128 balance, uint128 totalClaimed);
        function pendingWithdrawals(bytes32 channelId) external view returns (uint128 amount, uint40 initiatedAt);
        function refundNonce(bytes32 channelId) external view returns (uint256);
        function receivers(address receiver, address token) external view returns (uint128 totalClaimed, uint128 totalSettled);
        function MIN_WITHDRAW_DELAY() external view returns (uint40);
        function MAX_WITHDRAW_DELAY() external view returns (uint40);
        function CHANNEL_CONFIG_TYPEHASH() external view returns (bytes32);
        function VOUCHER_TYPEHASH() external view returns (bytes32);
        function REFUND_TYPEHASH() external view returns (bytes32);
        function CLAIM_BATCH_TYPEHASH() external view returns (bytes32);
        function CLAIM_ENTRY_TYPEHASH() external view returns (bytes32);
        function eip712Domain(

        ) external view returns (bytes1 fields, string memory name, string memory version, uint256 chainId, address verifyingContract, bytes32 salt, uint256[] memory extensions);
    }

    interface IX402ExactPermit2Proxy {
        struct TokenPermissions {
            address token;
            uint256 amount;
        }
        struct PermitTransferFrom {
            TokenPermissions permitted;
            uint256 nonce;
            uint256 deadline;
        }
        struct Witness {
            address to;
            uint256 validAfter;
        }
        struct EIP2612Permit {
            uint256 value;
            uint256 deadline;
            bytes32 r;
            bytes32 s;
            uint8 v;
        }
        event Settled();
        event SettledWithPermit();
        error InvalidAmount();
        error InvalidDestination();
        error InvalidOwner();
        error InvalidPermit2Address();
        error PaymentTooEarly();
        error Permit2612AmountMismatch();
        function settle(PermitTransferFrom calldata permit, address owner, Witness calldata witness, bytes calldata signature) external;
        function settleWithPermit(
            EIP2612Permit calldata permit2612,
            PermitTransferFrom calldata permit,
            address owner,
            Witness calldata witness,
            bytes calldata signature
        ) external;
        function PERMIT2() external view returns (address);
        function WITNESS_TYPEHASH() external view returns (bytes32);
        function WITNESS_TYPE_STRING() external view returns (string memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::{Artifact, tests::check_binding};

    #[test]
    fn the_bindings_are_the_contracts_abis() {
        check_binding::<IX402BatchSettlement::IX402BatchSettlementCalls, IX402BatchSettlement::IX402BatchSettlementErrors>(
            Artifact::X402BatchSettlement,
            IX402BatchSettlement::IX402BatchSettlementEvents::SELECTORS,
        );
        check_binding::<IX402ExactPermit2Proxy::IX402ExactPermit2ProxyCalls, IX402ExactPermit2Proxy::IX402ExactPermit2ProxyErrors>(
            Artifact::X402ExactPermit2Proxy,
            IX402ExactPermit2Proxy::IX402ExactPermit2ProxyEvents::SELECTORS,
        );
    }
}
