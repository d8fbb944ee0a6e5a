//! Typed calls, events and errors of the session escrow. Source: `contracts/src/interfaces/`; a test compares them with the built artefacts.
//!
//! Addresses stand where the Solidity text names a contract type; the ABI is the same.

// The items are the ABI's own; `ISessionEscrow.sol` documents each.
#![allow(missing_docs)]

use alloy::sol;

sol! {
    #![sol(all_derives = true)]

    interface ISessionEscrow {
        struct Channel {
            address payer;
            address payee;
            address token;
            address authorizedSigner;
            uint128 deposit;
            uint128 settled;
            uint64 closeRequestedAt;
            bool finalized;
        }
        struct Settlement {
            bytes32 channelId;
            uint128 cumulativeAmount;
            bytes signature;
        }
        event ChannelClosed(
            bytes32 indexed channelId,
            address indexed payer,
            address indexed payee,
            uint256 settledToPayee,
            uint256 refundedToPayer
        );
        event ChannelOpened(
            bytes32 indexed channelId,
            address indexed payer,
            address indexed payee,
            address token,
            address authorizedSigner,
            uint256 deposit
        );
        event CloseRequestCancelled(bytes32 indexed channelId, address indexed payer, address indexed payee);
        event CloseRequested(bytes32 indexed channelId, address indexed payer, address indexed payee, uint256 closeGraceEnd);
        event CreditAdded(address indexed account, address indexed token, uint256 amount);
        event CreditWithdrawn(address indexed account, address indexed token, address indexed to, uint256 amount);
        event Settled(
            bytes32 indexed channelId,
            address indexed payer,
            address indexed payee,
            uint256 cumulativeAmount,
            uint256 deltaPaid,
            uint256 newSettled
        );
        event SettlementSkipped(bytes32 indexed channelId, address indexed payee, uint256 row, bytes4 reason);
        event TopUp(bytes32 indexed channelId, address indexed payer, address indexed payee, uint256 additionalDeposit, uint256 newDeposit);
        error AmountExceedsDeposit(uint256 deposit, uint256 cumulativeAmount);
        error AmountNotIncreasing(uint256 settled, uint256 cumulativeAmount);
        error AuthorizationExpired(uint256 deadline);
        error ChannelAlreadyExists(bytes32 channelId);
        error ChannelFinalized(bytes32 channelId);
        error ChannelNotFound(bytes32 channelId);
        error CloseNotReady(bytes32 channelId, uint256 readyAt);
        error DepositOverflow(uint256 deposit);
        error EmptyBatch();
        error InvalidPayee();
        error InvalidPayer();
        error InvalidSignature(address signer);
        error NonceAlreadyUsed(bytes32 channelId, uint256 nonce);
        error NonceMismatch(bytes32 expected, bytes32 actual);
        error NotEnoughGas(uint256 needed, uint256 left);
        error NotPayee(address caller);
        error NotPayer(address caller);
        error NothingToWithdraw(address account, address token);
        error ShortTransfer(uint256 expected, uint256 received);
        error TokenMismatch(address expected, address actual);
        error ZeroDeposit();
        function open(
            address payee,
            address token,
            uint128 deposit,
            bytes32 salt,
            address authorizedSigner
        ) external returns (bytes32 channelId);
        function openWithAuthorization(
            address payee,
            address token,
            uint128 deposit,
            bytes32 salt,
            address authorizedSigner,
            address from,
            uint256 validAfter,
            uint256 validBefore,
            bytes32 nonce,
            bytes calldata signature
        ) external returns (bytes32 channelId);
        function openWithPermit2(
            address payee,
            address token,
            uint128 deposit,
            bytes32 salt,
            address authorizedSigner,
            address from,
            uint256 nonce,
            uint256 deadline,
            bytes calldata signature
        ) external returns (bytes32 channelId);
        function topUp(bytes32 channelId, uint128 additionalDeposit) external;
        function topUpWithAuthorization(
            bytes32 channelId,
            uint128 additionalDeposit,
            address from,
            bytes32 topUpSalt,
            uint256 validAfter,
            uint256 validBefore,
            bytes32 nonce,
            bytes calldata signature
        ) external;
        function topUpWithPermit2(
            bytes32 channelId,
            uint128 additionalDeposit,
            address from,
            uint256 nonce,
            uint256 deadline,
            bytes calldata signature
        ) external;
        function settle(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external;
        function settleMany(address token, Settlement[] calldata rows) external returns (uint256 paid);
        function settleWithAuthorization(
            bytes32 channelId,
            uint128 cumulativeAmount,
            uint256 nonce,
            uint256 deadline,
            bytes calldata payeeSignature,
            bytes calldata voucherSignature
        ) external;
        function close(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external;
        function closeWithAuthorization(
            bytes32 channelId,
            uint128 cumulativeAmount,
            uint256 nonce,
            uint256 deadline,
            bytes calldata payeeSignature,
            bytes calldata voucherSignature
        ) external;
        function requestClose(bytes32 channelId) external;
        function withdraw(bytes32 channelId) external;
        function withdrawCredit(address token, address to) external returns (uint256 amount);
        function getChannel(bytes32 channelId) external view returns (Channel memory);
        function getChannelsBatch(bytes32[] calldata channelIds) external view returns (Channel[] memory channels);
        function computeChannelId(
            address payer,
            address payee,
            address token,
            bytes32 salt,
            address authorizedSigner
        ) external view returns (bytes32);
        function getVoucherDigest(bytes32 channelId, uint128 cumulativeAmount) external view returns (bytes32);
        function getSettleAuthorizationDigest(
            bytes32 channelId,
            uint128 cumulativeAmount,
            uint256 nonce,
            uint256 deadline
        ) external view returns (bytes32);
        function getCloseAuthorizationDigest(
            bytes32 channelId,
            uint128 cumulativeAmount,
            uint256 nonce,
            uint256 deadline
        ) external view returns (bytes32);
        function nonceUsed(bytes32 channelId, uint256 nonce) external view returns (bool);
        function credit(address account, address token) external view returns (uint256);
        function CLOSE_GRACE_PERIOD() external view returns (uint64);
        function VOUCHER_TYPEHASH() external view returns (bytes32);
        function SETTLE_AUTHORIZATION_TYPEHASH() external view returns (bytes32);
        function CLOSE_AUTHORIZATION_TYPEHASH() external view returns (bytes32);
        function domainSeparator() external view returns (bytes32);
        function eip712Domain(

        ) external view returns (bytes1 fields, string memory name, string memory version, uint256 chainId, address verifyingContract, bytes32 salt, uint256[] memory extensions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::{Artifact, tests::check_binding};

    #[test]
    fn the_bindings_are_the_contracts_abi() {
        check_binding::<ISessionEscrow::ISessionEscrowCalls, ISessionEscrow::ISessionEscrowErrors>(
            Artifact::SessionEscrow,
            ISessionEscrow::ISessionEscrowEvents::SELECTORS,
        );
    }
}
