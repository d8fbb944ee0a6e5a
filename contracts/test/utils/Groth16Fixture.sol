// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IVerifier} from "../../src/interfaces/IVerifier.sol";
import {TestBase} from "./TestBase.sol";

/// @title A verifier with the key of `vectors/groth16.json`, and good proofs under it.
abstract contract Groth16Fixture is TestBase {
    uint256 internal constant P = 21888242871839275222246405745257275088548364400416034343698204186575808495617;
    uint256 internal constant Q = 21888242871839275222246405745257275088696311157297823662689037894645226208583;
    uint256 internal constant INSTANCES = 6;

    uint256[22] internal _vk;
    uint256[3][] internal _inputs;
    uint256[8][] internal _proofs;
    IVerifier internal _verifier;

    function setUp() public virtual {
        string memory vector = vm.readFile("vectors/groth16.json");
        uint256[] memory words = vm.parseJsonUintArray(vector, ".vk");
        vm.assertEq(words.length, 22);
        for (uint256 i = 0; i < 22; ++i) {
            _vk[i] = words[i];
        }
        _read(vector, "");
        for (uint256 i = 0; i + 1 < INSTANCES; ++i) {
            _read(vector, string.concat(".batch[", vm.toString(i), "]"));
        }
        _verifier = IVerifier(this.create(_vk));
    }

    function _read(string memory vector, string memory where) private {
        uint256[] memory words = vm.parseJsonUintArray(vector, string.concat(where, ".inputs"));
        vm.assertEq(words.length, 3);
        _inputs.push([words[0], words[1], words[2]]);
        words = vm.parseJsonUintArray(vector, string.concat(where, ".proof"));
        vm.assertEq(words.length, 8);
        _proofs.push([words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7]]);
    }

    /// @dev Deploys by hand: `vm.deployCode` hides the reason of a revert.
    function create(uint256[22] calldata vk) external returns (address deployed) {
        bytes memory code = abi.encodePacked(vm.getCode("Groth16Verifier.sol:Groth16Verifier"), abi.encode(vk));
        assembly ("memory-safe") {
            deployed := create(0, add(code, 32), mload(code))
            if iszero(deployed) {
                returndatacopy(0, 0, returndatasize())
                revert(0, returndatasize())
            }
        }
    }

    /// @dev The first `count` instances.
    function _first(uint256 count) internal view returns (uint256[3][] memory inputs, uint256[8][] memory proofs) {
        inputs = new uint256[3][](count);
        proofs = new uint256[8][](count);
        for (uint256 i = 0; i < count; ++i) {
            inputs[i] = _inputs[i];
            proofs[i] = _proofs[i];
        }
    }
}
