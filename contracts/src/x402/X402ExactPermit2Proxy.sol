// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IPermit2} from "../interfaces/IPermit2.sol";
import {IX402ExactPermit2Proxy} from "../interfaces/IX402ExactPermit2Proxy.sol";

/// @title An implementation of x402's proxy for exact payments by Permit2, for development chains that have none (E-14).
/// @dev Written from the scheme's specification and the interface.
contract X402ExactPermit2Proxy is IX402ExactPermit2Proxy, ReentrancyGuardTransient {
    bytes32 public constant WITNESS_TYPEHASH = keccak256("Witness(address to,uint256 validAfter)");
    string public constant WITNESS_TYPE_STRING =
        "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)";

    IPermit2 public immutable PERMIT2;

    constructor(address permit2) {
        if (permit2 == address(0)) revert InvalidPermit2Address();
        PERMIT2 = IPermit2(permit2);
    }

    /// @inheritdoc IX402ExactPermit2Proxy
    function settle(IPermit2.PermitTransferFrom calldata permit, address owner, Witness calldata witness, bytes calldata signature)
        external
        nonReentrant
    {
        _settle(permit, owner, witness, signature);
        emit Settled();
    }

    /// @inheritdoc IX402ExactPermit2Proxy
    function settleWithPermit(
        EIP2612Permit calldata permit2612,
        IPermit2.PermitTransferFrom calldata permit,
        address owner,
        Witness calldata witness,
        bytes calldata signature
    ) external nonReentrant {
        // check
        if (permit2612.value != permit.permitted.amount) revert Permit2612AmountMismatch();
        // interaction
        try IERC20Permit(permit.permitted.token)
            .permit(owner, address(PERMIT2), permit2612.value, permit2612.deadline, permit2612.v, permit2612.r, permit2612.s) {}
            catch {}
        _settle(permit, owner, witness, signature);
        emit SettledWithPermit();
    }

    function _settle(IPermit2.PermitTransferFrom calldata permit, address owner, Witness calldata witness, bytes calldata signature)
        private
    {
        // check
        if (owner == address(0)) revert InvalidOwner();
        if (witness.to == address(0)) revert InvalidDestination();
        uint256 amount = permit.permitted.amount;
        if (amount == 0) revert InvalidAmount();
        if (block.timestamp < witness.validAfter) revert PaymentTooEarly();
        // interaction
        PERMIT2.permitWitnessTransferFrom(
            permit,
            IPermit2.SignatureTransferDetails(witness.to, amount),
            owner,
            keccak256(abi.encode(WITNESS_TYPEHASH, witness)),
            WITNESS_TYPE_STRING,
            signature
        );
    }
}
