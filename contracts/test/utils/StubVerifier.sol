// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IVerifier} from "../../src/interfaces/IVerifier.sol";

/// @title A verifier that answers as the test says, for tests of contract logic. It proves nothing.
/// @dev `Expected` accepts only public inputs the test announced, and with them the proof. `RejectBatch` accepts one at a time only.
contract StubVerifier is IVerifier {
    enum Mode {
        Accept,
        Reject,
        RejectBatch,
        Expected
    }

    Mode public mode;
    mapping(bytes32 => bool) private _expected;

    function set(Mode mode_) external {
        mode = mode_;
    }

    function expect(uint256[3] memory inputs, uint256[8] memory proof) external {
        mode = Mode.Expected;
        _expected[keccak256(abi.encode(inputs, proof))] = true;
    }

    function verify(uint256[3] calldata inputs, uint256[8] calldata proof) external view returns (bool) {
        return _accepts(inputs, proof);
    }

    function verifyBatch(uint256[3][] calldata inputs, uint256[8][] calldata proofs) external view returns (bool) {
        if (mode == Mode.RejectBatch || inputs.length == 0 || inputs.length != proofs.length) return false;
        for (uint256 i = 0; i < inputs.length; ++i) {
            if (!_accepts(inputs[i], proofs[i])) return false;
        }
        return true;
    }

    function _accepts(uint256[3] calldata inputs, uint256[8] calldata proof) private view returns (bool) {
        if (mode == Mode.Expected) return _expected[keccak256(abi.encode(inputs, proof))];
        return mode != Mode.Reject;
    }

    function keyHash() external pure returns (bytes32) {
        return keccak256("stub");
    }
}
