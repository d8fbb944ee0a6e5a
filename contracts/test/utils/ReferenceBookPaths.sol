// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBookPaths} from "../../src/interfaces/IBookPaths.sol";

/// @title The trees of L-3 written the long way, with keccak in place of Poseidon, for tests of contract logic.
/// @dev `rootOf` and `pathOf` see the whole book; `root` sees one path, as the ledger does.
contract ReferenceBookPaths is IBookPaths {
    uint256 private constant P = 21888242871839275222246405745257275088548364400416034343698204186575808495617;
    uint256 private constant GROUP = 16;

    struct Slot {
        uint248 uid;
        uint256 keyX;
        uint64 depositNanos;
        uint64 settledNanos;
    }

    error PathLength(uint256 expected, uint256 actual);
    error PathLacksValue(uint256 level);
    error SlotOutside(uint16 slot, uint16 slots);

    function root(uint16 slots, SlotPath calldata path) external pure returns (uint256) {
        if (path.slot >= slots) revert SlotOutside(path.slot, slots);
        uint256 leaf = _leaf(Slot(path.uid, path.keyX, path.depositNanos, path.settledNanos));
        return _hash(
            "book",
            _climb("static", slots, path.slot, leaf, path.staticPath),
            _climb("dynamic", slots, path.slot, path.settledNanos, path.dynamicPath)
        );
    }

    function rootOf(Slot[] memory slots) external pure returns (uint256) {
        (uint256[] memory leaves, uint256[] memory settled) = _values(slots);
        return _hash("book", _tree("static", leaves), _tree("dynamic", settled));
    }

    function pathOf(Slot[] memory slots, uint16 slot) external pure returns (SlotPath memory path) {
        Slot memory s = slots[slot];
        (uint256[] memory leaves, uint256[] memory settled) = _values(slots);
        (path.slot, path.keyX, path.uid, path.depositNanos, path.settledNanos) = (slot, s.keyX, s.uid, s.depositNanos, s.settledNanos);
        path.staticPath = _path("static", leaves, slot);
        path.dynamicPath = _path("dynamic", settled, slot);
    }

    function _climb(string memory tag, uint256 count, uint256 position, uint256 value, uint256[16][] calldata path)
        private
        pure
        returns (uint256)
    {
        if (path.length != _levels(count)) revert PathLength(_levels(count), path.length);
        for (uint256 level = 0; level < path.length; ++level) {
            if (path[level][position % GROUP] != value) revert PathLacksValue(level);
            value = _node(tag, path[level]);
            position /= GROUP;
        }
        return value;
    }

    function _tree(string memory tag, uint256[] memory values) private pure returns (uint256) {
        for (uint256 left = _levels(values.length); left > 0; --left) {
            values = _up(tag, values);
        }
        return values[0];
    }

    function _path(string memory tag, uint256[] memory values, uint256 position) private pure returns (uint256[16][] memory path) {
        path = new uint256[16][](_levels(values.length));
        for (uint256 level = 0; level < path.length; ++level) {
            path[level] = _group(values, position / GROUP);
            values = _up(tag, values);
            position /= GROUP;
        }
    }

    function _up(string memory tag, uint256[] memory values) private pure returns (uint256[] memory above) {
        above = new uint256[]((values.length + GROUP - 1) / GROUP);
        for (uint256 i = 0; i < above.length; ++i) {
            above[i] = _node(tag, _group(values, i));
        }
    }

    function _group(uint256[] memory values, uint256 index) private pure returns (uint256[16] memory group) {
        for (uint256 i = 0; i < GROUP && index * GROUP + i < values.length; ++i) {
            group[i] = values[index * GROUP + i];
        }
    }

    function _values(Slot[] memory slots) private pure returns (uint256[] memory leaves, uint256[] memory settled) {
        (leaves, settled) = (new uint256[](slots.length), new uint256[](slots.length));
        for (uint256 i = 0; i < slots.length; ++i) {
            (leaves[i], settled[i]) = (_leaf(slots[i]), slots[i].settledNanos);
        }
    }

    /// @dev At least one level.
    function _levels(uint256 count) private pure returns (uint256 levels) {
        do {
            count = (count + GROUP - 1) / GROUP;
            ++levels;
        } while (count > 1);
    }

    function _leaf(Slot memory s) private pure returns (uint256) {
        return uint256(keccak256(abi.encode("leaf", s.keyX, s.uid, s.depositNanos))) % P;
    }

    function _node(string memory tag, uint256[16] memory group) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(tag, group))) % P;
    }

    function _hash(string memory tag, uint256 a, uint256 b) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(tag, a, b))) % P;
    }
}
