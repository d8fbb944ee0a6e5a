// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IPermit2} from "./IPermit2.sol";

/// @title The contract behind x402's `exact` scheme where the payment goes by Permit2: pays whom the payer signed for, exactly what it signed.
/// @notice Names, types, selectors and errors are those of the canonical contract, which clients hard-code. It holds no tokens.
interface IX402ExactPermit2Proxy {
    /// @notice What the payer signs besides the permit: who is paid, and from when on.
    struct Witness {
        address to;
        /// @dev Unix seconds; the payment may be made at this second or later. Permit2's deadline is its end.
        uint256 validAfter;
    }

    /// @notice An EIP-2612 permit of the payer for Permit2; `value` must be the permitted amount.
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

    /// @notice Moves the permitted amount from `owner` to `witness.to`. Anyone may call: the signature says where it goes.
    /// @dev Checks, in this order: owner, destination, amount, time; then Permit2's own.
    function settle(IPermit2.PermitTransferFrom calldata permit, address owner, Witness calldata witness, bytes calldata signature) external;

    /// @notice As `settle`, after presenting a permit that gives Permit2 its allowance. One that the token refuses is passed over.
    function settleWithPermit(
        EIP2612Permit calldata permit2612,
        IPermit2.PermitTransferFrom calldata permit,
        address owner,
        Witness calldata witness,
        bytes calldata signature
    ) external;

    function PERMIT2() external view returns (IPermit2);
    function WITNESS_TYPEHASH() external view returns (bytes32);
    function WITNESS_TYPE_STRING() external view returns (string memory);
}
