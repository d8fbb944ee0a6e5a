// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title A Groth16 verifier over BN254 for one verifying key and three public inputs.
interface IVerifier {
    /// @notice A key whose phase 2 was skipped: gamma equals delta, or one of them is the generator of G2.
    error DegenerateKey();

    /// @notice Whether `proof` shows the statement with these public inputs.
    /// @dev False, never a revert, for inputs of `p` or more, coordinates of `q` or more, or points off the curve.
    /// @param inputs `(C, r, y)`, see `docs/spec/ledger.md`.
    /// @param proof `(A.x, A.y, B.x.c1, B.x.c0, B.y.c1, B.y.c0, C.x, C.y)`: the order of the pairing precompile (EIP-197).
    function verify(uint256[3] calldata inputs, uint256[8] calldata proof) external view returns (bool);

    /// @notice Whether every proof holds for its inputs. The lists have one and the same length, at least 1.
    /// @dev False, never a revert, for what `verify` would refuse. One pairing check for all, with weights that no prover can choose.
    function verifyBatch(uint256[3][] calldata inputs, uint256[8][] calldata proofs) external view returns (bool);

    /// @notice keccak256 of the verifying key as it was given to the constructor; equal to the prover's key id.
    function keyHash() external view returns (bytes32);
}
