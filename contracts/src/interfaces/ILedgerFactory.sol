// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBookPaths} from "./IBookPaths.sol";
import {ILedger} from "./ILedger.sol";

/// @title Deploys ledgers of one code, with one set of tiers and verifiers, at addresses that follow from their terms (L-29).
/// @notice A payer who trusts the factory can trust every ledger for which `isLedger` holds: its code, its circuits and verifying keys and
/// its book paths are the factory's. What a provider chooses are the terms, which the ledger shows; the payer should look at token and
/// windows.
interface ILedgerFactory {
    event LedgerCreated(address indexed ledger, address indexed provider, address indexed token, ILedger.Terms terms, bytes32 salt);

    /// @notice A ledger of these terms and this salt was created before.
    error LedgerExists(address ledger);

    /// @notice Deploys a ledger; anyone may, for any provider. `salt` lets one provider have several with the same terms.
    /// @dev The address commits to the salt and to everything the ledger is made of, so nobody can take it with other terms. Reverts as the
    /// ledger's constructor does.
    function create(ILedger.Terms calldata terms, bytes32 salt) external returns (address ledger);

    /// @notice The address that a ledger of these terms and this salt has or would have.
    function predict(ILedger.Terms calldata terms, bytes32 salt) external view returns (address ledger);

    /// @notice Whether this factory created the ledger.
    function isLedger(address ledger) external view returns (bool);

    /// @notice keccak256 of the ledger's creation code without its arguments: equal for every factory of one release.
    function LEDGER_CODE_HASH() external view returns (bytes32);

    /// @notice What computes roots from paths, for every ledger of this factory.
    function BOOK_PATHS() external view returns (IBookPaths);

    /// @notice The number of tiers.
    function tierCount() external view returns (uint256);

    /// @notice A tier that every ledger of this factory has under this index.
    function tier(uint256 index) external view returns (ILedger.Tier memory);
}
