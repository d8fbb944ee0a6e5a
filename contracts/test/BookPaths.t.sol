// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BookPaths} from "../src/BookPaths.sol";
import {Poseidon} from "../src/Poseidon.sol";
import {IBookPaths} from "../src/interfaces/IBookPaths.sol";
import {PathsFixture} from "./utils/PathsFixture.sol";

/// @title The hashes of each width.
contract PoseidonHarness is Poseidon {
    function hash2(uint256 tag, uint256 a, uint256 b) external view returns (uint256) {
        return _hash2(_tables(), tag, a, b);
    }

    function hash3(uint256 tag, uint256 a, uint256 b, uint256 c) external view returns (uint256) {
        return _hash3(_tables(), tag, a, b, c);
    }

    function hash16(uint256 tag, uint256[16] calldata inputs) external view returns (uint256) {
        return _hash16(_tables(), tag, inputs);
    }

    /// @dev Hashes of all widths over one copy of the tables, and memory taken in between.
    function several(uint256[16] calldata inputs) external view returns (uint256 first, uint256 again) {
        uint256 tables = _tables();
        bytes memory between = abi.encode(inputs);
        first = _hash16(tables, DYNAMIC_NODE, inputs);
        _hash3(tables, STATIC_LEAF, inputs[0], inputs[1], uint256(keccak256(between)) % P);
        _hash2(tables, BOOK, inputs[2], inputs[3]);
        again = _hash16(tables, DYNAMIC_NODE, inputs);
        require(keccak256(between) == keccak256(abi.encode(inputs)), "memory was overwritten");
    }

    function tags() external pure returns (uint256[4] memory) {
        return [STATIC_LEAF, STATIC_NODE, DYNAMIC_NODE, BOOK];
    }
}

/// @title Solidity's hashes and roots are those of the Rust crates.
contract BookPathsTest is PathsFixture {
    uint256 private constant P = 21888242871839275222246405745257275088548364400416034343698204186575808495617;

    PoseidonHarness private _poseidon;
    BookPaths private _paths;

    function setUp() external {
        _readPaths();
        _poseidon = new PoseidonHarness();
        _paths = new BookPaths();
    }

    // --------------------------------------------------------------------------------------------------------------------------- hashes

    function test_HashesAreThoseOfTheVectors() external view {
        string memory file = vm.readFile("vectors/poseidon.json");
        uint256[18] memory seen;
        for (uint256 i = 0; vm.keyExistsJson(file, string.concat(".hashes[", vm.toString(i), "]")); ++i) {
            string memory where = string.concat(".hashes[", vm.toString(i), "]");
            uint256 tag = vm.parseJsonUint(file, string.concat(where, ".capacity"));
            uint256[] memory inputs = vm.parseJsonUintArray(file, string.concat(where, ".inputs"));
            uint256 expected = vm.parseJsonUint(file, string.concat(where, ".hash"));
            if (inputs.length == 2) vm.assertEq(_poseidon.hash2(tag, inputs[0], inputs[1]), expected);
            if (inputs.length == 3) vm.assertEq(_poseidon.hash3(tag, inputs[0], inputs[1], inputs[2]), expected);
            if (inputs.length == 16) vm.assertEq(_poseidon.hash16(tag, _sixteen(inputs)), expected);
            ++seen[inputs.length];
        }
        // Width 5 is the voucher's challenge, which no contract needs.
        vm.assertTrue(seen[2] == 3 && seen[3] == 3 && seen[16] == 9 && seen[4] == 3);
    }

    function _sixteen(uint256[] memory words) private pure returns (uint256[16] memory) {
        return abi.decode(abi.encodePacked(words), (uint256[16]));
    }

    function test_TagsAreThoseOfTheVectors() external view {
        string memory file = vm.readFile("vectors/poseidon.json");
        string[4] memory names = ["millstream.static.leaf", "millstream.static.node", "millstream.dynamic.node", "millstream.book"];
        for (uint256 i = 0; i < 4; ++i) {
            bool found = false;
            for (uint256 j = 0; j < 18; ++j) {
                string memory where = string.concat(".hashes[", vm.toString(j), "]");
                if (keccak256(bytes(vm.parseJsonString(file, string.concat(where, ".tag")))) != keccak256(bytes(names[i]))) continue;
                found = true;
                vm.assertEq(_poseidon.tags()[i], vm.parseJsonUint(file, string.concat(where, ".capacity")));
            }
            vm.assertTrue(found, names[i]);
        }
    }

    function testFuzz_HashesKeepTheirMemoryToThemselves(uint256 seed) external view {
        uint256[16] memory inputs;
        for (uint256 i = 0; i < 16; ++i) {
            inputs[i] = uint256(keccak256(abi.encode(seed, i))) % P;
        }
        (uint256 first, uint256 again) = _poseidon.several(inputs);
        vm.assertEq(first, again);
        vm.assertEq(first, _poseidon.hash16(_poseidon.tags()[2], inputs));
        vm.assertTrue(first < P);
    }

    // --------------------------------------------------------------------------------------------------------------------------- roots

    /// @dev Books of 1, 16, 17, 24, 96 and 384 slots: the first, a middle and the last slot.
    function test_RootsAreThoseOfTheVectors() external view {
        uint256 i = 0;
        for (;; ++i) {
            (bool found, uint16 slots, IBookPaths.SlotPath memory path, uint256 root) = _read(i);
            if (!found) break;
            vm.assertEq(_paths.root(slots, path), root);
        }
        vm.assertEq(i, 15);
    }

    /// @dev What every instance refuses, or what gives another root.
    function test_NothingElseHasTheRoot() external {
        for (uint256 i = 0;; ++i) {
            (bool found, uint16 slots, IBookPaths.SlotPath memory path, uint256 root) = _read(i);
            if (!found) break;
            uint256 top = path.staticPath.length - 1;

            // Values, which the lowest group would have to contain.
            path.depositNanos ^= 1;
            _refused(slots, path, abi.encodeWithSelector(IBookPaths.NotInPath.selector, 0));
            path.depositNanos ^= 1;
            path.settledNanos ^= 1;
            _refused(slots, path, abi.encodeWithSelector(IBookPaths.NotInPath.selector, 0));
            path.settledNanos ^= 1;
            path.uid ^= 1;
            _refused(slots, path, abi.encodeWithSelector(IBookPaths.NotInPath.selector, 0));
            path.uid ^= 1;
            path.keyX ^= 1;
            _refused(slots, path, abi.encodeWithSelector(IBookPaths.NotInPath.selector, 0));
            path.keyX ^= 1;

            // Siblings: below the top the next group does not contain the hash, at the top the root is another.
            uint256 sibling = (path.slot + 1) % 16;
            path.staticPath[0][sibling] ^= 1;
            if (top == 0) vm.assertNotEq(_paths.root(slots, path), root);
            else _refused(slots, path, abi.encodeWithSelector(IBookPaths.NotInPath.selector, 1));
            path.staticPath[0][sibling] ^= 1;
            path.dynamicPath[top][15] ^= 1;
            if (top == 0 && path.slot % 16 == 15) {
                _refused(slots, path, abi.encodeWithSelector(IBookPaths.NotInPath.selector, 0));
            } else {
                vm.assertNotEq(_paths.root(slots, path), root);
            }
            path.dynamicPath[top][15] ^= 1;

            // Positions.
            path.slot = slots;
            _refused(slots, path, abi.encodeWithSelector(IBookPaths.NoSuchSlot.selector, slots, slots));
            path.slot = type(uint16).max;
            _refused(slots, path, abi.encodeWithSelector(IBookPaths.NoSuchSlot.selector, type(uint16).max, slots));
            _refused(0, path, abi.encodeWithSelector(IBookPaths.NoSuchSlot.selector, type(uint16).max, 0));
        }
    }

    /// @dev Another slot of the same group, and the slot at the same place of another group.
    function test_RevertWhen_TheSlotIsAnother() external {
        (, uint16 slots, IBookPaths.SlotPath memory path,) = _read(13);
        vm.assertTrue(slots == 384 && path.slot == 200);
        path.slot = 201;
        _refused(slots, path, abi.encodeWithSelector(IBookPaths.NotInPath.selector, 0));
        path.slot = 200 + 16;
        _refused(slots, path, abi.encodeWithSelector(IBookPaths.NotInPath.selector, 1));
        path.slot = 200 + 128;
        _refused(slots, path, abi.encodeWithSelector(IBookPaths.NotInPath.selector, 1));
    }

    /// @dev A group is not a root: a path that stops early or goes on is refused, whatever it hashes to.
    function test_RevertWhen_APathHasTheWrongLength() external {
        for (uint256 i = 0;; ++i) {
            (bool found, uint16 slots, IBookPaths.SlotPath memory path,) = _read(i);
            if (!found) break;
            uint256 levels = path.staticPath.length;
            uint256[16][] memory full = path.staticPath;
            path.staticPath = _resized(full, levels - 1);
            _refused(slots, path, abi.encodeWithSelector(IBookPaths.WrongPathLength.selector, levels, levels - 1));
            path.staticPath = _resized(full, levels + 1);
            _refused(slots, path, abi.encodeWithSelector(IBookPaths.WrongPathLength.selector, levels, levels + 1));
            path.staticPath = full;
            full = path.dynamicPath;
            path.dynamicPath = _resized(full, levels - 1);
            _refused(slots, path, abi.encodeWithSelector(IBookPaths.WrongPathLength.selector, levels, levels - 1));
            path.dynamicPath = _resized(full, levels + 1);
            _refused(slots, path, abi.encodeWithSelector(IBookPaths.WrongPathLength.selector, levels, levels + 1));
        }
    }

    function _resized(uint256[16][] memory groups, uint256 length) private pure returns (uint256[16][] memory resized) {
        resized = new uint256[16][](length);
        for (uint256 i = 0; i < length && i < groups.length; ++i) {
            resized[i] = groups[i];
        }
    }

    function test_LevelsByTheNumberOfSlots() external {
        uint16[8] memory slots = [1, 16, 17, 256, 257, 4096, 4097, 65535];
        uint256[8] memory levels = [uint256(1), 1, 2, 2, 3, 3, 4, 4];
        for (uint256 i = 0; i < 8; ++i) {
            IBookPaths.SlotPath memory path;
            _refused(slots[i], path, abi.encodeWithSelector(IBookPaths.WrongPathLength.selector, levels[i], 0));
        }
    }

    /// @dev The same numbers modulo p hash the same.
    function test_RevertWhen_ANumberIsNotCanonical() external {
        (, uint16 slots, IBookPaths.SlotPath memory path,) = _read(13);
        path.keyX += P;
        _refused(slots, path, abi.encodeWithSelector(IBookPaths.NotCanonical.selector, path.keyX));
        path.keyX -= P;
        for (uint256 level = 0; level < path.staticPath.length; ++level) {
            uint256 sibling = path.staticPath[level][15];
            path.staticPath[level][15] = sibling + P;
            _refused(slots, path, abi.encodeWithSelector(IBookPaths.NotCanonical.selector, sibling + P));
            path.staticPath[level][15] = sibling;
            sibling = path.dynamicPath[level][14];
            path.dynamicPath[level][14] = sibling + P;
            _refused(slots, path, abi.encodeWithSelector(IBookPaths.NotCanonical.selector, sibling + P));
            path.dynamicPath[level][14] = sibling;
        }
    }

    /// @dev The roots of empty books, which a tier is deployed with, from the paths of an empty slot.
    function test_EmptySlotsHaveTheRootOfTheEmptyBook() external view {
        string memory file = vm.readFile("vectors/book.json");
        uint256 i = 0;
        for (; vm.keyExistsJson(file, string.concat(".empty[", vm.toString(i), "]")); ++i) {
            string memory where = string.concat(".empty[", vm.toString(i), "]");
            uint16 slots = uint16(vm.parseJsonUint(file, string.concat(where, ".slots")));
            IBookPaths.SlotPath memory path;
            path.staticPath = _uniform(slots, _poseidon.tags()[1], _poseidon.hash3(_poseidon.tags()[0], 0, 0, 0));
            path.dynamicPath = _uniform(slots, _poseidon.tags()[2], 0);
            vm.assertEq(_paths.root(slots, path), vm.parseJsonUint(file, string.concat(where, ".root")));
        }
        vm.assertEq(i, 5);
    }

    /// @dev The groups above the first of so many equal values. The groups of a level are equal but for the last, whose hash is another.
    function _uniform(uint256 count, uint256 tag, uint256 value) private view returns (uint256[16][] memory groups) {
        uint256[] memory level = new uint256[](count);
        for (uint256 i = 0; i < count; ++i) {
            level[i] = value;
        }
        do {
            groups = _resized(groups, groups.length + 1);
            uint256[] memory next = new uint256[]((level.length + 15) / 16);
            for (uint256 i = 0; i < next.length; ++i) {
                uint256[16] memory group;
                for (uint256 j = 0; j < 16 && 16 * i + j < level.length; ++j) {
                    group[j] = level[16 * i + j];
                }
                next[i] = _poseidon.hash16(tag, group);
                if (i == 0) groups[groups.length - 1] = group;
            }
            level = next;
        } while (level.length > 1);
    }

    function _refused(uint16 slots, IBookPaths.SlotPath memory path, bytes memory reason) private {
        vm.expectRevert(reason);
        _paths.root(slots, path);
    }
}
