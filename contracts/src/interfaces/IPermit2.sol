// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The part of Permit2's SignatureTransfer that the ledger uses.
interface IPermit2 {
    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    /// @notice What the owner signs, with the caller as spender: so much of a token, once, until the deadline.
    struct PermitTransferFrom {
        TokenPermissions permitted;
        uint256 nonce;
        uint256 deadline;
    }

    /// @notice What the spender asks for: at most what is permitted.
    struct SignatureTransferDetails {
        address to;
        uint256 requestedAmount;
    }

    /// @notice Moves `transferDetails.requestedAmount` from `owner`, who signed the permit together with `witness`.
    /// @param witnessTypeString What follows `witness` in the signed type: the type and name of the witness, `)`, then the definitions of
    /// the types, in the order of their names.
    function permitWitnessTransferFrom(
        PermitTransferFrom calldata permit,
        SignatureTransferDetails calldata transferDetails,
        address owner,
        bytes32 witness,
        string calldata witnessTypeString,
        bytes calldata signature
    ) external;
}
