// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Poseidon} from "../../src/Poseidon.sol";
import {IBookPaths} from "../../src/interfaces/IBookPaths.sol";

/// @title A whole book by L-3, with the hash of the contracts: its root, and the path of a slot.
contract PoseidonBook is Poseidon {
    struct Slot {
        uint248 uid;
        uint256 keyX;
        uint64 depositNanos;
        uint64 settledNanos;
    }

    function hash16(uint256 tag, uint256[16] calldata inputs) external view returns (uint256) {
        return _hash16(_tables(), tag, inputs);
    }

    /// @dev The root, and for each tree the groups above a slot, bottom up.
    function pathOf(Slot[] memory slots, uint16 slot) external view returns (uint256 root, IBookPaths.SlotPath memory path) {
        uint256[] memory leaves = new uint256[](slots.length);
        uint256[] memory settled = new uint256[](slots.length);
        uint256 tables = _tables();
        for (uint256 i = 0; i < slots.length; ++i) {
            leaves[i] = _hash3(tables, STATIC_LEAF, slots[i].keyX, slots[i].uid, slots[i].depositNanos);
            settled[i] = slots[i].settledNanos;
        }
        Slot memory s = slots[slot];
        (path.slot, path.keyX, path.uid, path.depositNanos, path.settledNanos) = (slot, s.keyX, s.uid, s.depositNanos, s.settledNanos);
        uint256 staticRoot;
        uint256 dynamicRoot;
        (staticRoot, path.staticPath) = _climb(STATIC_NODE, leaves, slot);
        (dynamicRoot, path.dynamicPath) = _climb(DYNAMIC_NODE, settled, slot);
        root = _hash2(tables, BOOK, staticRoot, dynamicRoot);
    }

    function _climb(uint256 tag, uint256[] memory values, uint256 index) private view returns (uint256, uint256[16][] memory path) {
        do {
            uint256[16][] memory longer = new uint256[16][](path.length + 1);
            for (uint256 i = 0; i < path.length; ++i) {
                longer[i] = path[i];
            }
            uint256[] memory above = new uint256[]((values.length + 15) / 16);
            for (uint256 i = 0; i < above.length; ++i) {
                uint256[16] memory group;
                for (uint256 j = 0; j < 16 && 16 * i + j < values.length; ++j) {
                    group[j] = values[16 * i + j];
                }
                above[i] = this.hash16(tag, group);
                if (i == index / 16) longer[path.length] = group;
            }
            (values, index, path) = (above, index / 16, longer);
        } while (values.length > 1);
        return (values[0], path);
    }
}
