// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What moves a deposit from a payer into `IX402BatchSettlement`. Anyone may write another: the settlement contract trusts none.
interface IDepositCollector {
    /// @notice Moves exactly `amount` base units of `token` from `payer` to the caller, or reverts.
    /// @param channelId The channel that the deposit is for: what the payer signed must bind it.
    /// @param collectorData What this collector needs besides: signatures, nonces, deadlines.
    function collect(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata collectorData) external;
}
