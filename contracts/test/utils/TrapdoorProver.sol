// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {TestBase} from "./TestBase.sol";

/// @title Proofs under the key of `vectors/groth16.json`, whose every discrete logarithm is known (`tools/vectors.mjs`).
/// @dev It needs no circuit: whatever three public inputs it is given, the verifier accepts them with this proof, and with no others. So a
/// test that is refused is refused for what the ledger made of its calldata, and a figure of gas is that of a true check.
abstract contract TrapdoorProver is TestBase {
    uint256 private constant R = 21888242871839275222246405745257275088548364400416034343698204186575808495617;

    uint256[] private _vk;
    uint256[] private _points;

    function _load() internal {
        string memory vector = vm.readFile("vectors/groth16.json");
        _vk = vm.parseJsonUintArray(vector, ".vk");
        _points = vm.parseJsonUintArray(vector, ".proof");
    }

    /// @dev Deploys a verifier for the key.
    function _newVerifier() internal returns (address) {
        // The words of an array of fixed length are what `encodePacked` gives.
        return vm.deployCode("Groth16Verifier.sol:Groth16Verifier", abi.encodePacked(_vk));
    }

    /// @dev The points A and B of the vector, and the C that makes the pairings agree.
    function _prove(uint256[3] memory inputs) internal view returns (uint256[8] memory proof) {
        for (uint256 i = 0; i < 6; ++i) {
            proof[i] = _points[i];
        }
        uint256 sum = _number(7);
        for (uint256 i = 0; i < 3; ++i) {
            sum = addmod(sum, mulmod(inputs[i], _number(8 + i), R), R);
        }
        // c = (a·b − alpha·beta − sum·gamma) / delta
        uint256 c = mulmod(_number(5), _number(6), R);
        c = addmod(c, R - mulmod(_number(1), _number(2), R), R);
        c = addmod(c, R - mulmod(sum, _number(3), R), R);
        c = mulmod(c, _power(_number(4), R - 2), R);
        (bool ok, bytes memory point) = address(7).staticcall(abi.encode(1, 2, c));
        vm.assertTrue(ok);
        (proof[6], proof[7]) = abi.decode(point, (uint256, uint256));
    }

    function _number(uint256 index) private view returns (uint256) {
        return _power(7, 1_000_003 * index + 12345);
    }

    function _power(uint256 base, uint256 exponent) private view returns (uint256) {
        (bool ok, bytes memory result) = address(5).staticcall(abi.encode(32, 32, 32, base, exponent, R));
        vm.assertTrue(ok);
        return abi.decode(result, (uint256));
    }
}
