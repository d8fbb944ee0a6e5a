// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBookPaths} from "../../src/interfaces/IBookPaths.sol";
import {TestBase} from "./TestBase.sol";

/// @title The paths of `vectors/paths.json`.
abstract contract PathsFixture is TestBase {
    string private _file;

    function _readPaths() internal {
        _file = vm.readFile("vectors/paths.json");
    }

    function _read(uint256 index) internal view returns (bool found, uint16 slots, IBookPaths.SlotPath memory path, uint256 root) {
        string memory where = string.concat(".instances[", vm.toString(index), "]");
        if (!vm.keyExistsJson(_file, where)) return (false, 0, path, 0);
        path.slot = uint16(_uint(where, ".slot"));
        path.keyX = _uint(where, ".keyX");
        path.uid = uint248(_uint(where, ".uid"));
        path.depositNanos = uint64(_uint(where, ".depositNanos"));
        path.settledNanos = uint64(_uint(where, ".settledNanos"));
        path.staticPath = _groups(vm.parseJsonBytes(_file, string.concat(where, ".staticPath")));
        path.dynamicPath = _groups(vm.parseJsonBytes(_file, string.concat(where, ".dynamicPath")));
        return (true, uint16(_uint(where, ".slots")), path, _uint(where, ".root"));
    }

    function _uint(string memory where, string memory key) private view returns (uint256) {
        return vm.parseJsonUint(_file, string.concat(where, key));
    }

    function _groups(bytes memory words) private pure returns (uint256[16][] memory groups) {
        // The encoding of the list: its place, its length, its words.
        return abi.decode(abi.encodePacked(uint256(32), words.length / 512, words), (uint256[16][]));
    }
}
