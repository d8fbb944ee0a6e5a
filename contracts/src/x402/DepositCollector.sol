// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDepositCollector} from "../interfaces/IDepositCollector.sol";

/// @title What the collectors share: they serve one settlement contract and nobody else.
/// @dev A payer signs for the channel, not for who calls the collector: without this check anyone could have the tokens of a signature that
/// waits in the pool sent to itself.
abstract contract DepositCollector is IDepositCollector {
    /// @notice The caller is not the settlement contract.
    error OnlySettlement(address caller);
    /// @notice The settlement contract is the zero address.
    error InvalidSettlement();

    /// @notice The settlement contract that deposits are collected for.
    address public immutable SETTLEMENT;

    constructor(address settlement) {
        if (settlement == address(0)) revert InvalidSettlement();
        SETTLEMENT = settlement;
    }

    modifier onlySettlement() {
        _checkCaller();
        _;
    }

    function _checkCaller() private view {
        if (msg.sender != SETTLEMENT) revert OnlySettlement(msg.sender);
    }
}
