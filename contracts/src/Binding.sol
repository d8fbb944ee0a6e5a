// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "./interfaces/ILedger.sol";

/// @title How calldata is bound to a proof (L-9 … L-12): the point `r` and the value `y` of the polynomial there.
/// @dev Every coefficient must be below `P`: the caller checks roots and commitment; totals and words of deltas and rows are narrow by their bytes.
library Binding {
    uint256 internal constant P = 21888242871839275222246405745257275088548364400416034343698204186575808495617;
    bytes32 internal constant SETTLE_TYPEHASH = keccak256("MillstreamSettle/1");
    bytes32 internal constant REGISTER_TYPEHASH = keccak256("MillstreamRegister/1");

    /// @notice The point `r` (L-11).
    function point(
        bytes32 typehash,
        uint32 book,
        uint256 oldRoot,
        uint256 newRoot,
        uint256 totalNanos,
        uint256 commitment,
        bytes32 dataHash
    ) internal view returns (uint256) {
        bytes32 digest = keccak256(
            abi.encode(typehash, block.chainid, address(this), book, oldRoot, newRoot, totalNanos, commitment, dataHash)
        );
        return uint256(digest) % P;
    }

    /// @notice The hash of the words of `deltas`, end to end: of `deltas` filled with zeros to a multiple of 31.
    function deltasHash(bytes calldata deltas) internal pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            // Beyond the free memory, which stays free. The fill is shorter than the word of zeros.
            let words := mload(0x40)
            let length := deltas.length
            calldatacopy(words, deltas.offset, length)
            mstore(add(words, length), 0)
            hash := keccak256(words, mul(div(add(length, 30), 31), 31))
        }
    }

    /// @notice `y` of settle-N: Horner's rule over `[oldRoot, newRoot, totalNanos, 31-byte words of deltas]`.
    /// @dev The last word is filled with zeros, whatever stands behind `deltas` in the calldata.
    function evaluateDeltas(uint256 r, uint256 oldRoot, uint256 newRoot, uint256 totalNanos, bytes calldata deltas)
        internal
        pure
        returns (uint256 y)
    {
        y = addmod(mulmod(addmod(mulmod(oldRoot, r, P), newRoot, P), r, P), totalNanos, P);
        assembly ("memory-safe") {
            let at := deltas.offset
            let rest := mod(deltas.length, 31)
            let whole := sub(deltas.length, rest)
            let end := add(at, whole)
            // A word is below 2^248 and a product below P, so the sum fits without reduction and `mulmod` takes it as it is.
            // Four words a turn, then what is left: the counting would cost as much as the evaluation.
            for { let turns := sub(end, mod(whole, 124)) } lt(at, turns) { at := add(at, 124) } {
                y := add(mulmod(y, r, P), shr(8, calldataload(at)))
                y := add(mulmod(y, r, P), shr(8, calldataload(add(at, 31))))
                y := add(mulmod(y, r, P), shr(8, calldataload(add(at, 62))))
                y := add(mulmod(y, r, P), shr(8, calldataload(add(at, 93))))
            }
            for {} lt(at, end) { at := add(at, 31) } {
                y := add(mulmod(y, r, P), shr(8, calldataload(at)))
            }
            if rest {
                // What is not of the deltas leaves on the right, and zeros take its place.
                let fill := shl(3, sub(31, rest))
                y := add(mulmod(y, r, P), shl(fill, shr(add(fill, 8), calldataload(at))))
            }
            y := mod(y, P)
        }
    }

    /// @notice `y` of register-N: Horner's rule over `[oldRoot, newRoot, three words a slot]`.
    /// @dev Slots ascend and are below `slots`. A run of untouched slots is zeros, which is a multiplication by a power of `r³`.
    function evaluateRows(uint256 r, uint256 oldRoot, uint256 newRoot, ILedger.Row[] calldata rows, uint256 slots)
        internal
        pure
        returns (uint256 y)
    {
        uint256 r3 = mulmod(mulmod(r, r, P), r, P);
        uint256 next = 0;
        y = addmod(mulmod(oldRoot, r, P), newRoot, P);
        for (uint256 i = 0; i < rows.length; ++i) {
            ILedger.Row calldata row = rows[i];
            y = mulmod(y, power(r3, row.slot - next), P);
            y = addmod(mulmod(y, r, P), packRow(row), P);
            y = addmod(mulmod(y, r, P), row.uid, P);
            y = addmod(mulmod(y, r, P), row.keyX, P);
            next = uint256(row.slot) + 1;
        }
        y = mulmod(y, power(r3, slots - next), P);
    }

    /// @notice `flags·2^128 + delta·2^64 + refund`.
    function packRow(ILedger.Row calldata row) internal pure returns (uint256) {
        return uint256(row.flags) << 128 | uint256(row.deltaNanos) << 64 | row.refundNanos;
    }

    /// @notice `base^exponent mod P`, by squaring.
    function power(uint256 base, uint256 exponent) internal pure returns (uint256 result) {
        result = 1;
        while (exponent != 0) {
            if (exponent & 1 == 1) result = mulmod(result, base, P);
            base = mulmod(base, base, P);
            exponent >>= 1;
        }
    }
}
