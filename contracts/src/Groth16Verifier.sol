// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IVerifier} from "./interfaces/IVerifier.sol";

/// @title A Groth16 verifier over BN254 for three public inputs.
/// @notice The verifying key is part of the code. Points of G2 have the order of EIP-197: the imaginary part first.
contract Groth16Verifier is IVerifier {
    /// @dev Order of the scalar field.
    uint256 private constant P = 21888242871839275222246405745257275088548364400416034343698204186575808495617;
    /// @dev Order of the base field.
    uint256 private constant Q = 21888242871839275222246405745257275088696311157297823662689037894645226208583;

    /// @dev What the precompiles of EIP-196 and EIP-197 are given, each about five times its price since EIP-1108 (150; 6,000; 181,000 for four
    /// pairs): one that refuses takes all it is given, and a chain may raise the prices while this code cannot change.
    uint256 private constant ADD_GAS = 1_000;
    uint256 private constant MUL_GAS = 30_000;
    uint256 private constant PAIRING_GAS = 900_000;

    uint256 private constant G2_X1 = 11559732032986387107991004021392285783925812861821192530917403151452391805634;
    uint256 private constant G2_X0 = 10857046999023057135944570762232829481370756359578518086990519993285655852781;
    uint256 private constant G2_Y1 = 4082367875863433681332203403145435568316851327593401208105741076214120093531;
    uint256 private constant G2_Y0 = 8495653923123431417604973247489272438418190587263600148770280649306958101930;

    uint256 private immutable ALPHA_X;
    uint256 private immutable ALPHA_Y;
    uint256 private immutable BETA_X1;
    uint256 private immutable BETA_X0;
    uint256 private immutable BETA_Y1;
    uint256 private immutable BETA_Y0;
    uint256 private immutable GAMMA_X1;
    uint256 private immutable GAMMA_X0;
    uint256 private immutable GAMMA_Y1;
    uint256 private immutable GAMMA_Y0;
    uint256 private immutable DELTA_X1;
    uint256 private immutable DELTA_X0;
    uint256 private immutable DELTA_Y1;
    uint256 private immutable DELTA_Y0;
    uint256 private immutable IC0_X;
    uint256 private immutable IC0_Y;
    uint256 private immutable IC1_X;
    uint256 private immutable IC1_Y;
    uint256 private immutable IC2_X;
    uint256 private immutable IC2_Y;
    uint256 private immutable IC3_X;
    uint256 private immutable IC3_Y;

    /// @inheritdoc IVerifier
    bytes32 public immutable keyHash;

    /// @param vk The verifying key: alpha (x, y); beta, gamma and delta (x.c1, x.c0, y.c1, y.c0 each); ic0 … ic3 (x, y each).
    constructor(uint256[22] memory vk) {
        if (_isDegenerate(vk)) revert DegenerateKey();
        keyHash = keccak256(abi.encode(vk));
        ALPHA_X = vk[0];
        ALPHA_Y = vk[1];
        BETA_X1 = vk[2];
        BETA_X0 = vk[3];
        BETA_Y1 = vk[4];
        BETA_Y0 = vk[5];
        GAMMA_X1 = vk[6];
        GAMMA_X0 = vk[7];
        GAMMA_Y1 = vk[8];
        GAMMA_Y0 = vk[9];
        DELTA_X1 = vk[10];
        DELTA_X0 = vk[11];
        DELTA_Y1 = vk[12];
        DELTA_Y0 = vk[13];
        IC0_X = vk[14];
        IC0_Y = vk[15];
        IC1_X = vk[16];
        IC1_Y = vk[17];
        IC2_X = vk[18];
        IC2_Y = vk[19];
        IC3_X = vk[20];
        IC3_Y = vk[21];
    }

    /// @inheritdoc IVerifier
    function verifyBatch(uint256[3][] calldata inputs, uint256[8][] calldata proofs) external view returns (bool) {
        if (inputs.length == 0 || inputs.length != proofs.length) return false;
        for (uint256 i = 0; i < inputs.length; ++i) {
            if (!verify(inputs[i], proofs[i])) return false;
        }
        return true;
    }

    /// @inheritdoc IVerifier
    /// @dev `e(-A, B) · e(alpha, beta) · e(ic0 + C·ic1 + r·ic2 + y·ic3, gamma) · e(C, delta) = 1`.
    function verify(uint256[3] calldata inputs, uint256[8] calldata proof) public view returns (bool) {
        if (inputs[0] >= P || inputs[1] >= P || inputs[2] >= P) return false;
        for (uint256 i = 0; i < 8; ++i) {
            // The precompiles refuse these too, but dearly.
            if (proof[i] >= Q) return false;
        }

        // pairs[12] and pairs[13] are the sum over the inputs; the words after them are room for one more point and a scalar.
        uint256[24] memory pairs;
        pairs[12] = IC0_X;
        pairs[13] = IC0_Y;
        pairs[14] = IC1_X;
        pairs[15] = IC1_Y;
        if (!_addMultiple(pairs, inputs[0])) return false;
        pairs[14] = IC2_X;
        pairs[15] = IC2_Y;
        if (!_addMultiple(pairs, inputs[1])) return false;
        pairs[14] = IC3_X;
        pairs[15] = IC3_Y;
        if (!_addMultiple(pairs, inputs[2])) return false;

        pairs[0] = proof[0];
        // The negative of (0, 0), which stands for infinity, is itself.
        pairs[1] = proof[1] == 0 ? 0 : Q - proof[1];
        pairs[2] = proof[2];
        pairs[3] = proof[3];
        pairs[4] = proof[4];
        pairs[5] = proof[5];
        pairs[6] = ALPHA_X;
        pairs[7] = ALPHA_Y;
        pairs[8] = BETA_X1;
        pairs[9] = BETA_X0;
        pairs[10] = BETA_Y1;
        pairs[11] = BETA_Y0;
        pairs[14] = GAMMA_X1;
        pairs[15] = GAMMA_X0;
        pairs[16] = GAMMA_Y1;
        pairs[17] = GAMMA_Y0;
        pairs[18] = proof[6];
        pairs[19] = proof[7];
        pairs[20] = DELTA_X1;
        pairs[21] = DELTA_X0;
        pairs[22] = DELTA_Y1;
        pairs[23] = DELTA_Y0;
        bool ok;
        assembly ("memory-safe") {
            // The result goes over the first word, which is read no more.
            ok := staticcall(PAIRING_GAS, 8, pairs, 768, pairs, 32)
            ok := and(and(ok, eq(returndatasize(), 32)), eq(mload(pairs), 1))
        }
        return ok;
    }

    /// @dev Adds `scalar` times the point at words 14 and 15 to the point at words 12 and 13. Nothing is called after a precompile that
    /// refused.
    function _addMultiple(uint256[24] memory pairs, uint256 scalar) private view returns (bool ok) {
        assembly ("memory-safe") {
            let sum := add(pairs, 384)
            let term := add(pairs, 448)
            mstore(add(pairs, 512), scalar)
            ok := staticcall(MUL_GAS, 7, term, 96, term, 64)
            if ok { ok := staticcall(ADD_GAS, 6, sum, 128, sum, 64) }
        }
    }

    /// @dev A key whose phase 2 was skipped has both at the generator; whoever knows their ratio can forge (L-22).
    function _isDegenerate(uint256[22] memory vk) private pure returns (bool) {
        bytes32 gamma = keccak256(abi.encode(vk[6], vk[7], vk[8], vk[9]));
        bytes32 delta = keccak256(abi.encode(vk[10], vk[11], vk[12], vk[13]));
        bytes32 generator = keccak256(abi.encode(G2_X1, G2_X0, G2_Y1, G2_Y0));
        return gamma == delta || gamma == generator || delta == generator;
    }
}
