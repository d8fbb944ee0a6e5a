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

    /// @notice Whether every proof holds for its inputs, `proofs[i]` for `inputs[i]`: what `verify` says of each, but for a chance of `2^-252`
    /// for each list that is tried, at about a quarter of the gas for each proof after the first.
    /// @dev False, never a revert, when `verify` refuses one of them, and for lists that are empty, of different lengths, or longer than 64.
    /// The order of the proofs means nothing, and a proof may come twice: what may count only once is for the caller.
    /// @param inputs The public inputs of each proof, as in `verify`.
    /// @param proofs The proofs, as in `verify`, all for this key.
    function verifyBatch(uint256[3][] calldata inputs, uint256[8][] calldata proofs) external view returns (bool);

    /// @notice keccak256 of the verifying key as it was given to the constructor; equal to the prover's key id.
    function keyHash() external view returns (bytes32);
}
