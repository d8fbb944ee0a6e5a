// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BatchWeights} from "../src/BatchWeights.sol";
import {IVerifier} from "../src/interfaces/IVerifier.sol";
import {Groth16Fixture} from "./utils/Groth16Fixture.sol";

contract Groth16BatchTest is Groth16Fixture {
    /// @dev What a change does to the lists, in place.
    function(uint256[3][] memory, uint256[8][] memory, uint256) internal[] private _lies;

    /// @dev A failing precompile takes the gas it is given: five times the price of everything is the bound.
    function _verify(uint256[3][] memory inputs, uint256[8][] memory proofs) private view returns (bool ok) {
        uint256 before = gasleft();
        ok = _verifier.verifyBatch(inputs, proofs);
        vm.assertLe(before - gasleft(), 900_000 + 250_000 * proofs.length);
    }

    function _check(uint256[3][] memory inputs, uint256[8][] memory proofs, bool expected, string memory why) private view {
        vm.assertTrue(_verify(inputs, proofs) == expected, why);
    }

    // ------------------------------------------------------------------------------------------------------------------------ good ones

    function test_AcceptsGoodProofs() external view {
        for (uint256 count = 1; count <= INSTANCES; ++count) {
            (uint256[3][] memory inputs, uint256[8][] memory proofs) = _first(count);
            _check(inputs, proofs, true, vm.toString(count));
        }
    }

    function test_AcceptsAnyOrderAndDuplicates() external view {
        (uint256[3][] memory inputs, uint256[8][] memory proofs) = _first(4);
        (inputs[0], inputs[2], proofs[0], proofs[2]) = (inputs[2], inputs[0], proofs[2], proofs[0]);
        _check(inputs, proofs, true, "another order");
        (inputs[1], proofs[1]) = (inputs[3], proofs[3]);
        (inputs[0], proofs[0]) = (inputs[3], proofs[3]);
        _check(inputs, proofs, true, "one proof three times");
    }

    function test_TakesUpTo64Proofs() external view {
        (uint256[3][] memory inputs, uint256[8][] memory proofs) = _repeated(64);
        _check(inputs, proofs, true, "64");
        proofs[63][7] = Q - proofs[63][7];
        _check(inputs, proofs, false, "64 with a bad one");
        (inputs, proofs) = _repeated(65);
        _check(inputs, proofs, false, "65");
    }

    function _repeated(uint256 count) private view returns (uint256[3][] memory inputs, uint256[8][] memory proofs) {
        inputs = new uint256[3][](count);
        proofs = new uint256[8][](count);
        for (uint256 i = 0; i < count; ++i) {
            inputs[i] = _inputs[i % INSTANCES];
            proofs[i] = _proofs[i % INSTANCES];
        }
    }

    // ------------------------------------------------------------------------------------------------------------------------- bad ones

    function test_RejectsListsThatAreEmptyOrOfDifferentLengths() external view {
        (uint256[3][] memory none, uint256[8][] memory nothing) = _first(0);
        (uint256[3][] memory one, uint256[8][] memory proof) = _first(1);
        (uint256[3][] memory two, uint256[8][] memory proofs) = _first(2);
        _check(none, nothing, false, "empty");
        _check(one, nothing, false, "no proof");
        _check(none, proof, false, "no inputs");
        _check(two, proof, false, "a proof missing");
        _check(one, proofs, false, "inputs missing");
    }

    /// @dev Each lie, in each place of batches of each size; a batch of one says what `verify` says.
    function test_RejectsEachSingleBadProof() external {
        _lies = [
            _otherInput,
            _largeInput,
            _aliasedInput,
            _negatedA,
            _negatedB,
            _negatedC,
            _infiniteA,
            _infiniteB,
            _infiniteC,
            _offCurve,
            _aliasedCoordinate,
            _otherOrderOfG2,
            _nothing
        ];
        for (uint256 lie = 0; lie < _lies.length; ++lie) {
            for (uint256 count = 1; count <= 3; ++count) {
                for (uint256 place = 0; place < count; ++place) {
                    (uint256[3][] memory inputs, uint256[8][] memory proofs) = _first(count);
                    _lies[lie](inputs, proofs, place);
                    _check(inputs, proofs, false, vm.toString(lie));
                    if (count == 1) vm.assertFalse(_verifier.verify(inputs[0], proofs[0]));
                }
            }
        }
    }

    function _otherInput(uint256[3][] memory inputs, uint256[8][] memory, uint256 i) private pure {
        inputs[i][1] = addmod(inputs[i][1], 1, P);
    }

    function _largeInput(uint256[3][] memory inputs, uint256[8][] memory, uint256 i) private pure {
        inputs[i][0] = type(uint256).max;
    }

    /// @dev The same number modulo p, which the sum of the weighted inputs alone would take.
    function _aliasedInput(uint256[3][] memory inputs, uint256[8][] memory, uint256 i) private pure {
        inputs[i][2] += P;
    }

    function _negatedA(uint256[3][] memory, uint256[8][] memory proofs, uint256 i) private pure {
        proofs[i][1] = Q - proofs[i][1];
    }

    function _negatedB(uint256[3][] memory, uint256[8][] memory proofs, uint256 i) private pure {
        (proofs[i][4], proofs[i][5]) = (Q - proofs[i][4], Q - proofs[i][5]);
    }

    function _negatedC(uint256[3][] memory, uint256[8][] memory proofs, uint256 i) private pure {
        proofs[i][7] = Q - proofs[i][7];
    }

    function _infiniteA(uint256[3][] memory, uint256[8][] memory proofs, uint256 i) private pure {
        (proofs[i][0], proofs[i][1]) = (0, 0);
    }

    function _infiniteB(uint256[3][] memory, uint256[8][] memory proofs, uint256 i) private pure {
        (proofs[i][2], proofs[i][3], proofs[i][4], proofs[i][5]) = (0, 0, 0, 0);
    }

    function _infiniteC(uint256[3][] memory, uint256[8][] memory proofs, uint256 i) private pure {
        (proofs[i][6], proofs[i][7]) = (0, 0);
    }

    function _offCurve(uint256[3][] memory, uint256[8][] memory proofs, uint256 i) private pure {
        proofs[i][6] = addmod(proofs[i][6], 1, Q);
    }

    function _aliasedCoordinate(uint256[3][] memory, uint256[8][] memory proofs, uint256 i) private pure {
        proofs[i][0] += Q;
    }

    function _otherOrderOfG2(uint256[3][] memory, uint256[8][] memory proofs, uint256 i) private pure {
        (proofs[i][2], proofs[i][3]) = (proofs[i][3], proofs[i][2]);
    }

    function _nothing(uint256[3][] memory inputs, uint256[8][] memory proofs, uint256 i) private pure {
        delete inputs[i];
        delete proofs[i];
    }

    function test_RejectsSwappedInputsAndAProofOfAnotherStatement() external view {
        (uint256[3][] memory inputs, uint256[8][] memory proofs) = _first(4);
        (inputs[1], inputs[3]) = (inputs[3], inputs[1]);
        _check(inputs, proofs, false, "swapped inputs");
        (inputs, proofs) = _first(4);
        proofs[2] = proofs[0];
        _check(inputs, proofs, false, "a proof for another's inputs");
    }

    /// @dev Two bad proofs whose errors are each other's opposite: with equal weights they pass.
    function test_RejectsErrorsThatCancel() external view {
        (uint256[3][] memory inputs, uint256[8][] memory proofs) = _first(3);
        _shiftPoint(proofs[0], 6, 1);
        _shiftPoint(proofs[2], 6, P - 1);
        _check(inputs, proofs, false, "in C");

        (inputs, proofs) = _first(3);
        for (uint256 i = 0; i < 3; ++i) {
            inputs[0][i] = addmod(inputs[0][i], 5, P);
            inputs[1][i] = addmod(inputs[1][i], P - 5, P);
        }
        _check(inputs, proofs, false, "in the inputs");

        // The last two have the same B, so what is added to one A can be taken from the other.
        (inputs, proofs) = _first(INSTANCES);
        for (uint256 i = 2; i < 6; ++i) {
            vm.assertEq(proofs[INSTANCES - 1][i], proofs[INSTANCES - 2][i]);
        }
        _shiftPoint(proofs[INSTANCES - 1], 0, 1);
        _shiftPoint(proofs[INSTANCES - 2], 0, P - 1);
        _check(inputs, proofs, false, "in A");
    }

    /// @dev Errors that cancel with the weights of the good batch. They are others for the bad one, because they are hashed from all of it.
    function test_RejectsErrorsMadeForTheWeightsOfAnotherBatch() external view {
        (uint256[3][] memory inputs, uint256[8][] memory proofs) = _first(INSTANCES);
        uint256[] memory weights = _weights(inputs, proofs);
        uint256[2] memory sum = _weighted(proofs, weights);
        _shiftPoint(proofs[1], 6, weights[3]);
        _shiftPoint(proofs[3], 6, P - weights[1]);
        uint256[2] memory shifted = _weighted(proofs, weights);
        vm.assertTrue(sum[0] == shifted[0] && sum[1] == shifted[1], "the sum of the weighted points is the same");
        _check(inputs, proofs, false, "in C");

        (inputs, proofs) = _first(INSTANCES);
        inputs[0][0] = addmod(inputs[0][0], weights[4], P);
        inputs[4][0] = addmod(inputs[4][0], P - weights[0], P);
        _check(inputs, proofs, false, "in the inputs");

        (inputs, proofs) = _first(INSTANCES);
        _shiftPoint(proofs[INSTANCES - 1], 0, weights[INSTANCES - 2]);
        _shiftPoint(proofs[INSTANCES - 2], 0, P - weights[INSTANCES - 1]);
        _check(inputs, proofs, false, "in A");
    }

    function testFuzz_WeightsAreWideAndOthersForEachIndex(bytes32 from, uint256 index) external pure {
        uint256 weight = BatchWeights.weight(from, index);
        vm.assertTrue(weight >= 1 << 252 && weight < 1 << 253 && 1 << 253 < P);
        vm.assertNotEq(weight, BatchWeights.weight(from, index ^ 1));
    }

    /// @dev Another key, another word anywhere, or another number of proofs gives another seed.
    function test_WeightsAreOfEverything() external view {
        (uint256[3][] memory inputs, uint256[8][] memory proofs) = _first(3);
        bytes32 honest = this.seed(0, inputs, proofs);
        vm.assertNotEq(this.seed(bytes32(uint256(1)), inputs, proofs), honest);
        for (uint256 i = 0; i < 33; ++i) {
            (inputs, proofs) = _first(3);
            if (i < 9) inputs[i / 3][i % 3] ^= 1;
            else proofs[(i - 9) / 8][(i - 9) % 8] ^= 1;
            vm.assertNotEq(this.seed(0, inputs, proofs), honest);
        }
        (inputs, proofs) = _first(2);
        vm.assertNotEq(this.seed(0, inputs, proofs), honest);
    }

    function seed(bytes32 keyHash, uint256[3][] calldata inputs, uint256[8][] calldata proofs) external pure returns (bytes32) {
        return BatchWeights.seed(keyHash, inputs, proofs);
    }

    function test_RejectsUnderAnotherKey() external {
        for (uint256 i = 14; i < 22; i += 2) {
            uint256[22] memory vk = _vk;
            vk[i + 1] = Q - vk[i + 1];
            (uint256[3][] memory inputs, uint256[8][] memory proofs) = _first(3);
            vm.assertFalse(IVerifier(this.create(vk)).verifyBatch(inputs, proofs));
        }
    }

    /// @dev One change or none, anywhere: the batch is good when each proof is.
    function testFuzz_AnswersAsVerifyDoes(uint256 count, uint256 place, uint256 lie) external view {
        (uint256[3][] memory inputs, uint256[8][] memory proofs) = _first(_bound(count, 1, INSTANCES));
        place %= proofs.length;
        lie %= 4;
        if (lie == 1) inputs[place][count % 3] = uint256(keccak256(abi.encode(count))) % P;
        if (lie == 2) _shiftPoint(proofs[place], 0, 1 + place);
        if (lie == 3) _shiftPoint(proofs[place], 6, 1 + place);
        bool each = true;
        for (uint256 i = 0; i < proofs.length; ++i) {
            each = each && _verifier.verify(inputs[i], proofs[i]);
        }
        vm.assertTrue(each == (lie == 0));
        vm.assertTrue(_verifier.verifyBatch(inputs, proofs) == each);
    }

    // -------------------------------------------------------------------------------------------------------------------- group law

    /// @dev Adds `scalar` times the generator to the point at words `word` and `word + 1` of a proof.
    function _shiftPoint(uint256[8] memory proof, uint256 word, uint256 scalar) private view {
        uint256[2] memory sum = _add([proof[word], proof[word + 1]], _multiple([uint256(1), 2], scalar));
        (proof[word], proof[word + 1]) = (sum[0], sum[1]);
    }

    function _weighted(uint256[8][] memory proofs, uint256[] memory weights) private view returns (uint256[2] memory sum) {
        for (uint256 i = 0; i < proofs.length; ++i) {
            sum = _add(sum, _multiple([proofs[i][6], proofs[i][7]], weights[i]));
        }
    }

    function _add(uint256[2] memory a, uint256[2] memory b) private view returns (uint256[2] memory) {
        (bool ok, bytes memory data) = address(6).staticcall(abi.encode(a, b));
        vm.assertTrue(ok);
        return abi.decode(data, (uint256[2]));
    }

    function _multiple(uint256[2] memory point, uint256 scalar) private view returns (uint256[2] memory) {
        (bool ok, bytes memory data) = address(7).staticcall(abi.encode(point, scalar));
        vm.assertTrue(ok);
        return abi.decode(data, (uint256[2]));
    }

    /// @dev The weights that the verifier uses: from the same library.
    function _weights(uint256[3][] memory inputs, uint256[8][] memory proofs) private view returns (uint256[] memory weights) {
        bytes32 from = this.seed(_verifier.keyHash(), inputs, proofs);
        weights = new uint256[](proofs.length);
        for (uint256 i = 0; i < weights.length; ++i) {
            weights[i] = BatchWeights.weight(from, i);
        }
    }
}
