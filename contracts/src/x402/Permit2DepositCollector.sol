// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";

import {IDepositCollector} from "../interfaces/IDepositCollector.sol";
import {IPermit2} from "../interfaces/IPermit2.sol";
import {DepositCollector} from "./DepositCollector.sol";

/// @title Collects deposits by Permit2: for any token of which the payer gave Permit2 an allowance.
contract Permit2DepositCollector is DepositCollector {
    /// @notice Permit2 is the zero address.
    error InvalidPermit2();

    bytes32 private constant WITNESS_TYPEHASH = keccak256("DepositWitness(bytes32 channelId)");
    string private constant WITNESS_TYPE =
        "DepositWitness witness)DepositWitness(bytes32 channelId)TokenPermissions(address token,uint256 amount)";

    IPermit2 public immutable PERMIT2;

    constructor(address settlement, address permit2) DepositCollector(settlement) {
        if (permit2 == address(0)) revert InvalidPermit2();
        PERMIT2 = IPermit2(permit2);
    }

    /// @inheritdoc IDepositCollector
    /// @dev `collectorData`: `abi.encode(uint256 nonce, uint256 deadline, bytes signature, bytes permit)`, of which `permit` is empty or
    /// `abi.encode(uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)`, an EIP-2612 permit of the payer for Permit2. A permit
    /// that the token refuses is passed over: someone may have presented it before, and the allowance decides. The payer signs
    /// `PermitWitnessTransferFrom` of exactly `amount`, spender this contract, witness `DepositWitness(bytes32 channelId)`.
    function collect(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata collectorData)
        external
        onlySettlement
    {
        (uint256 nonce, uint256 deadline, bytes memory signature, bytes memory permit) =
            abi.decode(collectorData, (uint256, uint256, bytes, bytes));
        if (permit.length != 0) _permit(payer, token, permit);
        PERMIT2.permitWitnessTransferFrom(
            IPermit2.PermitTransferFrom(IPermit2.TokenPermissions(token, amount), nonce, deadline),
            IPermit2.SignatureTransferDetails(msg.sender, amount),
            payer,
            keccak256(abi.encode(WITNESS_TYPEHASH, channelId)),
            WITNESS_TYPE,
            signature
        );
    }

    function _permit(address payer, address token, bytes memory permit) private {
        (uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) = abi.decode(permit, (uint256, uint256, uint8, bytes32, bytes32));
        try IERC20Permit(token).permit(payer, address(PERMIT2), value, deadline, v, r, s) {} catch {}
    }
}
