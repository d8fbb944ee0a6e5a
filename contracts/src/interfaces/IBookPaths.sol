// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The roots of books from Merkle paths, computed in Solidity: what lets channels leave a halted ledger without any proof system.
interface IBookPaths {
    /// @notice One slot of a book with its Merkle paths: at each level, bottom up, the whole group of 16 that the value is in.
    struct SlotPath {
        uint16 slot;
        uint256 keyX;
        uint248 uid;
        uint64 depositNanos;
        uint64 settledNanos;
        uint256[16][] staticPath;
        uint256[16][] dynamicPath;
    }

    /// @notice The root (L-3) of the book of `slots` slots in which the slot has these values.
    /// @dev Reverts when a path has the wrong length or does not contain the value.
    function root(uint16 slots, SlotPath calldata path) external view returns (uint256);
}
