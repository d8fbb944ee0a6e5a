// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The weights with which a batch of proofs becomes one check.
/// @dev Each is a hash of everything that is checked, so whoever makes the proofs can neither choose a weight nor make proofs for the weights.
library BatchWeights {
    /// @notice keccak256 of the key's hash, all inputs and all proofs, end to end: their number follows from the length.
    function seed(bytes32 keyHash, uint256[3][] calldata inputs, uint256[8][] calldata proofs) internal pure returns (bytes32 result) {
        assembly ("memory-safe") {
            // Beyond the free memory, which stays free.
            let data := mload(0x40)
            let inputBytes := mul(inputs.length, 96)
            let proofBytes := mul(proofs.length, 256)
            mstore(data, keyHash)
            calldatacopy(add(data, 32), inputs.offset, inputBytes)
            calldatacopy(add(add(data, 32), inputBytes), proofs.offset, proofBytes)
            result := keccak256(data, add(32, add(inputBytes, proofBytes)))
        }
    }

    /// @notice The weight of the proof at `index`, in `[2^252, 2^253)`: never zero modulo the order of the groups.
    function weight(bytes32 seed_, uint256 index) internal pure returns (uint256 result) {
        assembly ("memory-safe") {
            mstore(0, seed_)
            mstore(32, index)
            result := or(shr(4, keccak256(0, 64)), shl(252, 1))
        }
    }
}
