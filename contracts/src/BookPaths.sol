// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Poseidon} from "./Poseidon.sol";
import {IBookPaths} from "./interfaces/IBookPaths.sol";

/// @title Merkle paths of books. It has no state and belongs to no ledger: one serves a whole chain.
contract BookPaths is IBookPaths, Poseidon {
    /// @dev Values that one node of a tree hashes.
    uint256 private constant ARITY = 16;

    /// @inheritdoc IBookPaths
    function root(uint16 slots, SlotPath calldata path) external view returns (uint256) {
        if (path.slot >= slots) revert NoSuchSlot(path.slot, slots);
        _checkLength(slots, path.staticPath.length);
        _checkLength(slots, path.dynamicPath.length);
        if (path.keyX >= P) revert NotCanonical(path.keyX);
        uint256 tables = _tables();
        uint256 leaf = _hash3(tables, STATIC_LEAF, path.keyX, path.uid, path.depositNanos);
        uint256 staticRoot = _climb(tables, STATIC_NODE, path.slot, leaf, path.staticPath);
        uint256 dynamicRoot = _climb(tables, DYNAMIC_NODE, path.slot, path.settledNanos, path.dynamicPath);
        return _hash2(tables, BOOK, staticRoot, dynamicRoot);
    }

    /// @dev The root of the tree in which each group has the value below in its place.
    function _climb(uint256 tables, uint256 tag, uint256 index, uint256 value, uint256[16][] calldata groups)
        private
        pure
        returns (uint256)
    {
        for (uint256 level = 0; level < groups.length; ++level) {
            uint256[16] calldata group = groups[level];
            if (group[index % ARITY] != value) revert NotInPath(level);
            for (uint256 i = 0; i < ARITY; ++i) {
                if (group[i] >= P) revert NotCanonical(group[i]);
            }
            value = _hash16(tables, tag, group);
            index /= ARITY;
        }
        return value;
    }

    /// @dev A tree has at least one level.
    function _checkLength(uint256 slots, uint256 actual) private pure {
        uint256 expected = 1;
        for (uint256 width = slots; width > ARITY; width = (width + ARITY - 1) / ARITY) {
            ++expected;
        }
        if (actual != expected) revert WrongPathLength(expected, actual);
    }
}
