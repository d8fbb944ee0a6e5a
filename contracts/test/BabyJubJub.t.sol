// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BabyJubJub} from "../src/BabyJubJub.sol";
import {TestBase} from "./utils/TestBase.sol";

contract BabyJubJubTest is TestBase {
    uint256 private constant P = BabyJubJub.P;

    string private _vectors;

    function setUp() external {
        _vectors = vm.readFile("vectors/babyjubjub.json");
    }

    function _check(string memory list, bool expected) private view returns (uint256 count) {
        for (;; ++count) {
            string memory path = string.concat(".", list, "[", vm.toString(count), "]");
            if (!vm.keyExistsJson(_vectors, path)) return count;
            uint256[] memory key = vm.parseJsonUintArray(_vectors, string.concat(path, ".key"));
            string memory why = vm.parseJsonString(_vectors, string.concat(path, ".why"));
            vm.assertTrue(BabyJubJub.isKey(key[0], key[1], key[2]) == expected, why);
        }
    }

    function test_TakesValidKeys() external view {
        vm.assertEq(_check("valid", true), 10);
    }

    function test_RefusesInvalidKeys() external view {
        vm.assertEq(_check("invalid", false), 19);
    }

    function test_TheGeneratorIsAKey() external view {
        // The first key has the secret 1.
        uint256[] memory key = vm.parseJsonUintArray(_vectors, ".valid[0].key");
        vm.assertEq(key[0], 5299619240641551281634865583518297030282874472190772894086521144482721001553);
    }

    function testFuzz_RefusesOtherCoordinates(uint256 which, uint256 value) external view {
        uint256[] memory key = vm.parseJsonUintArray(_vectors, ".valid[3].key");
        uint256 part = which % 3;
        vm.assume(value != key[part]);
        // One coordinate of a curve point leaves the other but its sign, and (-x, y) and (x, -y) both have the negative key.
        key[part] = value;
        vm.assertFalse(BabyJubJub.isKey(key[0], key[1], key[2]));
    }

    /// @dev Doubling in projective coordinates agrees with the affine law, whatever the representative, and never gives z = 0 on the curve.
    function testFuzz_DoublingDoesNotDependOnTheRepresentative(uint256 which, uint256 z) external view {
        string memory path = string.concat(".valid[", vm.toString(which % 10), "].key");
        uint256[] memory key = vm.parseJsonUintArray(_vectors, path);
        z = _bound(z, 1, P - 1);
        (uint256 x1, uint256 y1, uint256 z1) = BabyJubJub.double(key[1], key[2], 1);
        (uint256 x2, uint256 y2, uint256 z2) = BabyJubJub.double(mulmod(key[1], z, P), mulmod(key[2], z, P), z);
        vm.assertEq(mulmod(x1, z2, P), mulmod(x2, z1, P));
        vm.assertEq(mulmod(y1, z2, P), mulmod(y2, z1, P));
        vm.assertTrue(z1 != 0 && z2 != 0);
        // On the curve: a·x²·z² + y²·z² = z⁴ + d·x²·y².
        uint256 xx = mulmod(x1, x1, P);
        uint256 yy = mulmod(y1, y1, P);
        uint256 zz = mulmod(z1, z1, P);
        uint256 left = mulmod(addmod(mulmod(168700, xx, P), yy, P), zz, P);
        vm.assertEq(left, addmod(mulmod(zz, zz, P), mulmod(168696, mulmod(xx, yy, P), P), P));
    }
}
