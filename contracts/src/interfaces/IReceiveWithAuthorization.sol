// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The part of EIP-3009 that the ledger uses, in the form with one `bytes` signature that contract accounts can sign too.
interface IReceiveWithAuthorization {
    /// @notice Moves `value` base units from `from` to `to`, which must be the caller, as `from` signed.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;
}
