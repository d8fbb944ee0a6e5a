// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IVerifier} from "../src/interfaces/IVerifier.sol";
import {Groth16Fixture} from "./utils/Groth16Fixture.sol";

contract Groth16VerifierTest is Groth16Fixture {
    uint256[3] private _input;
    uint256[8] private _proof;

    function setUp() public override {
        super.setUp();
        _input = _inputs[0];
        _proof = _proofs[0];
    }

    function _verify(uint256[3] memory inputs, uint256[8] memory proof) private view returns (bool) {
        return _verify(_verifier, inputs, proof);
    }

    /// @dev A failing precompile takes the gas it is given, so no case may cost much more than what the pairing is given.
    function _verify(IVerifier verifier, uint256[3] memory inputs, uint256[8] memory proof) private view returns (bool ok) {
        uint256 before = gasleft();
        ok = verifier.verify(inputs, proof);
        vm.assertLe(before - gasleft(), 1_000_000);
    }

    function test_AcceptsAProof() external view {
        vm.assertTrue(_verify(_input, _proof));
    }

    /// @dev The precompiles take what they need where there is less than they are allowed.
    function test_AcceptsEachProof() external view {
        for (uint256 i = 0; i < INSTANCES; ++i) {
            vm.assertTrue(_verify(_inputs[i], _proofs[i]));
            vm.assertFalse(_verify(_inputs[i], _proofs[(i + 1) % INSTANCES]));
        }
    }

    function test_AcceptsAProofWithLittleGas() external view {
        vm.assertTrue(_verifier.verify{gas: 250_000}(_input, _proof));
    }

    function test_KeyHashIsThatOfTheWords() external view {
        vm.assertEq(_verifier.keyHash(), keccak256(abi.encodePacked(_vk)));
    }

    function test_RejectsOtherInputs() external view {
        for (uint256 i = 0; i < 3; ++i) {
            uint256[3] memory inputs = _input;
            inputs[i] = addmod(inputs[i], 1, P);
            vm.assertFalse(_verify(inputs, _proof));
            inputs[i] = 0;
            vm.assertFalse(_verify(inputs, _proof));
            inputs[i] = P - _input[i];
            vm.assertFalse(_verify(inputs, _proof));
            inputs[i] = _input[(i + 1) % 3];
            vm.assertFalse(_verify(inputs, _proof));
        }
    }

    function test_RejectsInputsThatAreNotCanonical() external view {
        for (uint256 i = 0; i < 3; ++i) {
            uint256[3] memory inputs = _input;
            // The same number modulo p, which the curve operations alone would take.
            inputs[i] = _input[i] + P;
            vm.assertFalse(_verify(inputs, _proof));
            inputs[i] = P;
            vm.assertFalse(_verify(inputs, _proof));
            inputs[i] = type(uint256).max;
            vm.assertFalse(_verify(inputs, _proof));
        }
    }

    function test_RejectsEachTamperedCoordinate() external view {
        for (uint256 i = 0; i < 8; ++i) {
            uint256[8] memory proof = _proof;
            proof[i] = addmod(proof[i], 1, Q);
            vm.assertFalse(_verify(_input, proof));
            proof[i] = 0;
            vm.assertFalse(_verify(_input, proof));
            proof[i] = _proof[i] + Q;
            vm.assertFalse(_verify(_input, proof));
            proof[i] = Q;
            vm.assertFalse(_verify(_input, proof));
            proof[i] = type(uint256).max;
            vm.assertFalse(_verify(_input, proof));
        }
    }

    function test_RejectsNegatedPoints() external view {
        uint8[2] memory ys = [1, 7];
        for (uint256 i = 0; i < 2; ++i) {
            uint256[8] memory proof = _proof;
            proof[ys[i]] = Q - proof[ys[i]];
            vm.assertFalse(_verify(_input, proof));
        }
        uint256[8] memory negatedB = _proof;
        (negatedB[4], negatedB[5]) = (Q - negatedB[4], Q - negatedB[5]);
        vm.assertFalse(_verify(_input, negatedB));
        // With A negated as well it is another proof of the same: proofs can be changed, so they identify nothing.
        negatedB[1] = Q - negatedB[1];
        vm.assertTrue(_verify(_input, negatedB));
    }

    function test_RejectsTheOtherOrderOfG2() external view {
        uint256[8] memory proof = _proof;
        (proof[2], proof[3], proof[4], proof[5]) = (_proof[3], _proof[2], _proof[5], _proof[4]);
        vm.assertFalse(_verify(_input, proof));
    }

    function test_RejectsPointsAtInfinity() external view {
        uint256[8] memory proof = _proof;
        (proof[0], proof[1]) = (0, 0);
        vm.assertFalse(_verify(_input, proof));
        proof = _proof;
        (proof[2], proof[3], proof[4], proof[5]) = (0, 0, 0, 0);
        vm.assertFalse(_verify(_input, proof));
        proof = _proof;
        (proof[6], proof[7]) = (0, 0);
        vm.assertFalse(_verify(_input, proof));
        uint256[8] memory nothing;
        vm.assertFalse(_verify(_input, nothing));
    }

    function test_RejectsUnderAnotherKey() external {
        for (uint256 i = 14; i < 22; i += 2) {
            uint256[22] memory vk = _vk;
            vk[i + 1] = Q - vk[i + 1];
            IVerifier other = IVerifier(this.create(vk));
            vm.assertFalse(_verify(other, _input, _proof));
            vm.assertNotEq(other.keyHash(), _verifier.keyHash());
        }
    }

    /// @dev A key off the curve verifies nothing, and says so.
    function test_RejectsEverythingUnderABrokenKey() external {
        for (uint256 i = 0; i < 22; ++i) {
            uint256[22] memory vk = _vk;
            vk[i] = addmod(vk[i], 1, Q);
            vm.assertFalse(_verify(IVerifier(this.create(vk)), _input, _proof));
        }
    }

    function test_RevertWhen_GammaEqualsDelta() external {
        uint256[22] memory vk = _vk;
        for (uint256 i = 0; i < 4; ++i) {
            vk[10 + i] = vk[6 + i];
        }
        vm.expectRevert(IVerifier.DegenerateKey.selector);
        this.create(vk);
    }

    function test_RevertWhen_GammaOrDeltaIsTheGenerator() external {
        uint256[4] memory generator = [
            0x198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2,
            0x1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed,
            0x090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b,
            0x12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa
        ];
        for (uint256 start = 6; start <= 10; start += 4) {
            uint256[22] memory vk = _vk;
            for (uint256 i = 0; i < 4; ++i) {
                vk[start + i] = generator[i];
            }
            vm.expectRevert(IVerifier.DegenerateKey.selector);
            this.create(vk);
        }
    }

    function testFuzz_RejectsRandomInputs(uint256 a, uint256 b, uint256 c) external view {
        vm.assertFalse(_verify([a % P, b % P, c % P], _proof));
    }
}
