// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BatchWeights} from "./BatchWeights.sol";
import {IVerifier} from "./interfaces/IVerifier.sol";

/// @title A Groth16 verifier over BN254 for three public inputs.
/// @notice The verifying key is part of the code. Points of G2 have the order of EIP-197: the imaginary part first.
contract Groth16Verifier is IVerifier {
    /// @dev Order of the scalar field.
    uint256 private constant P = 21888242871839275222246405745257275088548364400416034343698204186575808495617;
    /// @dev Order of the base field.
    uint256 private constant Q = 21888242871839275222246405745257275088696311157297823662689037894645226208583;

    /// @dev What the precompiles of EIP-196 and EIP-197 are given, each about five times its price since EIP-1108 (150; 6,000; 45,000 and 34,000
    /// a pair): one that refuses takes all it is given, and a chain may raise the prices while this code cannot change.
    uint256 private constant ADD_GAS = 1_000;
    uint256 private constant MUL_GAS = 30_000;
    uint256 private constant PAIRING_BASE_GAS = 225_000;
    uint256 private constant PAIRING_PAIR_GAS = 170_000;

    /// @dev The most proofs of a batch: what a block has gas for, and a bound on the gas that a bad one takes.
    uint256 private constant BATCH_MAX = 64;

    /// @dev A pair is six words: a point of G1, a point of G2.
    uint256 private constant PAIR_WORDS = 6;

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
    /// @dev `e(-A, B) · e(alpha, beta) · e(ic0 + C·ic1 + r·ic2 + y·ic3, gamma) · e(C, delta) = 1`.
    function verify(uint256[3] calldata inputs, uint256[8] calldata proof) external view returns (bool) {
        return _verify(inputs, proof);
    }

    /// @inheritdoc IVerifier
    /// @dev With a weight `w_i` for each proof and `w = Σ w_i`:
    /// `Π e(-w_i·A_i, B_i) · e(w·alpha, beta) · e(w·ic0 + Σ w_i·(C_i·ic1 + r_i·ic2 + y_i·ic3), gamma) · e(Σ w_i·C_i, delta) = 1`.
    /// When some proof is bad, at most one value of its weight solves that, whatever the other weights are; and a weight has 252 free bits,
    /// hashed from all of it.
    function verifyBatch(uint256[3][] calldata inputs, uint256[8][] calldata proofs) external view returns (bool) {
        uint256 count = proofs.length;
        if (inputs.length != count || count == 0 || count > BATCH_MAX) return false;
        if (count == 1) return _verify(inputs[0], proofs[0]);

        bytes32 seed = BatchWeights.seed(keyHash, inputs, proofs);
        // One pair for each proof, then those of beta, gamma and delta.
        uint256[] memory pairs = new uint256[](PAIR_WORDS * (count + 3));
        uint256[3] memory scalars;
        uint256[5] memory sum;
        uint256 weights = 0;
        for (uint256 i = 0; i < count; ++i) {
            uint256[3] calldata input = inputs[i];
            uint256[8] calldata proof = proofs[i];
            if (!_isCanonical(input, proof)) return false;
            uint256 weight = BatchWeights.weight(seed, i);
            weights = addmod(weights, weight, P);
            scalars[0] = addmod(scalars[0], mulmod(weight, input[0], P), P);
            scalars[1] = addmod(scalars[1], mulmod(weight, input[1], P), P);
            scalars[2] = addmod(scalars[2], mulmod(weight, input[2], P), P);
            if (!_setMultiple(pairs, i, proof[0], _negated(proof[1]), weight)) return false;
            _setG2(pairs, i, proof[2], proof[3], proof[4], proof[5]);
            if (!_addMultiple(sum, proof[6], proof[7], weight)) return false;
        }
        _setG1(pairs, count + 2, sum[0], sum[1]);
        _setG2(pairs, count + 2, DELTA_X1, DELTA_X0, DELTA_Y1, DELTA_Y0);

        if (!_setMultiple(pairs, count, ALPHA_X, ALPHA_Y, weights)) return false;
        _setG2(pairs, count, BETA_X1, BETA_X0, BETA_Y1, BETA_Y0);

        (sum[0], sum[1]) = (0, 0);
        if (!_addMultiple(sum, IC0_X, IC0_Y, weights)) return false;
        if (!_addInputs(sum, scalars)) return false;
        _setG1(pairs, count + 1, sum[0], sum[1]);
        _setG2(pairs, count + 1, GAMMA_X1, GAMMA_X0, GAMMA_Y1, GAMMA_Y0);
        return _pairingHolds(pairs);
    }

    function _verify(uint256[3] calldata inputs, uint256[8] calldata proof) private view returns (bool) {
        if (!_isCanonical(inputs, proof)) return false;
        uint256[5] memory sum;
        (sum[0], sum[1]) = (IC0_X, IC0_Y);
        if (!_addInputs(sum, inputs)) return false;

        uint256[] memory pairs = new uint256[](PAIR_WORDS * 4);
        _setG1(pairs, 0, proof[0], _negated(proof[1]));
        _setG2(pairs, 0, proof[2], proof[3], proof[4], proof[5]);
        _setG1(pairs, 1, ALPHA_X, ALPHA_Y);
        _setG2(pairs, 1, BETA_X1, BETA_X0, BETA_Y1, BETA_Y0);
        _setG1(pairs, 2, sum[0], sum[1]);
        _setG2(pairs, 2, GAMMA_X1, GAMMA_X0, GAMMA_Y1, GAMMA_Y0);
        _setG1(pairs, 3, proof[6], proof[7]);
        _setG2(pairs, 3, DELTA_X1, DELTA_X0, DELTA_Y1, DELTA_Y0);
        return _pairingHolds(pairs);
    }

    /// @dev The precompiles refuse coordinates of `q` or more too, but dearly; inputs they take modulo `p`.
    function _isCanonical(uint256[3] calldata inputs, uint256[8] calldata proof) private pure returns (bool) {
        bool first = inputs[0] < P && inputs[1] < P && inputs[2] < P && proof[0] < Q && proof[1] < Q && proof[2] < Q;
        return first && proof[3] < Q && proof[4] < Q && proof[5] < Q && proof[6] < Q && proof[7] < Q;
    }

    /// @dev The y-coordinate of the negative point. That of (0, 0), which stands for infinity, is itself.
    function _negated(uint256 y) private pure returns (uint256) {
        return y == 0 ? 0 : Q - y;
    }

    /// @dev Adds `Σ scalars_i · ic_(i+1)` to the point at the first two words of `sum`.
    function _addInputs(uint256[5] memory sum, uint256[3] memory scalars) private view returns (bool) {
        return _addMultiple(sum, IC1_X, IC1_Y, scalars[0]) && _addMultiple(sum, IC2_X, IC2_Y, scalars[1])
            && _addMultiple(sum, IC3_X, IC3_Y, scalars[2]);
    }

    /// @dev Adds `scalar` times a point to the point at the first two words of `sum`; the others are room for the term. Nothing is called after
    /// a precompile that refused.
    function _addMultiple(uint256[5] memory sum, uint256 x, uint256 y, uint256 scalar) private view returns (bool ok) {
        assembly ("memory-safe") {
            let term := add(sum, 64)
            mstore(term, x)
            mstore(add(term, 32), y)
            mstore(add(term, 64), scalar)
            ok := staticcall(MUL_GAS, 7, term, 96, term, 64)
            if ok { ok := staticcall(ADD_GAS, 6, sum, 128, sum, 64) }
        }
    }

    /// @dev Sets the point of G1 of a pair to `scalar` times a point. Its point of G2 comes after: the scalar stands there for a moment.
    function _setMultiple(uint256[] memory pairs, uint256 pair, uint256 x, uint256 y, uint256 scalar) private view returns (bool ok) {
        assembly ("memory-safe") {
            let at := add(add(pairs, 32), mul(pair, 192))
            mstore(at, x)
            mstore(add(at, 32), y)
            mstore(add(at, 64), scalar)
            ok := staticcall(MUL_GAS, 7, at, 96, at, 64)
        }
    }

    function _setG1(uint256[] memory pairs, uint256 pair, uint256 x, uint256 y) private pure {
        assembly ("memory-safe") {
            let at := add(add(pairs, 32), mul(pair, 192))
            mstore(at, x)
            mstore(add(at, 32), y)
        }
    }

    function _setG2(uint256[] memory pairs, uint256 pair, uint256 x1, uint256 x0, uint256 y1, uint256 y0) private pure {
        assembly ("memory-safe") {
            let at := add(add(pairs, 96), mul(pair, 192))
            mstore(at, x1)
            mstore(add(at, 32), x0)
            mstore(add(at, 64), y1)
            mstore(add(at, 96), y0)
        }
    }

    /// @dev Whether the product of the pairings is one.
    function _pairingHolds(uint256[] memory pairs) private view returns (bool ok) {
        uint256 allowance = PAIRING_BASE_GAS + PAIRING_PAIR_GAS * (pairs.length / PAIR_WORDS);
        assembly ("memory-safe") {
            // The result goes over the first word, which is read no more.
            let data := add(pairs, 32)
            ok := staticcall(allowance, 8, data, mul(mload(pairs), 32), data, 32)
            ok := and(and(ok, eq(returndatasize(), 32)), eq(mload(data), 1))
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
