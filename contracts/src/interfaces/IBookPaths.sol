// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The roots of books from Merkle paths, computed in Solidity: what lets channels leave a halted ledger without any proof system.
interface IBookPaths {
    /// @notice The book has no such slot.
    error NoSuchSlot(uint16 slot, uint16 slots);
    /// @notice A path has another number of levels than the trees of a book of that size.
    error WrongPathLength(uint256 expected, uint256 actual);
    /// @notice The group at this level, 0 at the bottom, does not have the value in its place.
    error NotInPath(uint256 level);
    /// @notice A number of `p` or more, which would hash as another.
    error NotCanonical(uint256 value);

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

    /// @notice The root (L-3) of the book of `slots` slots in which the slot has these values; reverts when a path has the wrong length or
    /// does not contain the value.
    /// @dev It says nothing about any book by itself: the caller compares the root with the book's. No two books of one size that differ in a
    /// slot have the same root, so a path to the book's root has the book's values. About 2.2 million gas for 384 slots.
    /// @param slots The size of the book; 1 and more.
    /// @param path An empty slot has four zeros.
    function root(uint16 slots, SlotPath calldata path) external view returns (uint256);
}
