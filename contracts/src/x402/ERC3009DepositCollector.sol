// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IDepositCollector} from "../interfaces/IDepositCollector.sol";
import {IReceiveWithAuthorization} from "../interfaces/IReceiveWithAuthorization.sol";
import {DepositCollector} from "./DepositCollector.sol";

/// @title Collects deposits by EIP-3009: the payer signs the token's `ReceiveWithAuthorization` to this contract.
/// @dev The token must take a `bytes signature`, as USDC 2.2 does. The tokens pass through within the call and none stays here.
contract ERC3009DepositCollector is DepositCollector {
    using SafeERC20 for IERC20;

    constructor(address settlement) DepositCollector(settlement) {}

    /// @inheritdoc IDepositCollector
    /// @dev `collectorData`: `abi.encode(uint256 validAfter, uint256 validBefore, uint256 salt, bytes signature)`. The nonce of the
    /// authorization is `keccak256(abi.encode(channelId, salt))`, so a signature serves one channel, and the amount that it names.
    function collect(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata collectorData)
        external
        onlySettlement
    {
        (uint256 validAfter, uint256 validBefore, uint256 salt, bytes memory signature) =
            abi.decode(collectorData, (uint256, uint256, uint256, bytes));
        bytes32 nonce = keccak256(abi.encode(channelId, salt));
        IReceiveWithAuthorization(token).receiveWithAuthorization(payer, address(this), amount, validAfter, validBefore, nonce, signature);
        IERC20(token).safeTransfer(msg.sender, amount);
    }
}
