// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title How settlements stand in calldata (L-32): one after the other, with no length and no padding. The book tells the tier, and the tier
/// how long its settlement is, so every byte has one meaning.
/// @dev `book 4 ‖ newRoot 32 ‖ totalNanos 12 ‖ commitment 32 ‖ proof 8 × 32 ‖ deltas 8 × slots`, numbers big-endian.
library Settlements {
    uint256 internal constant BOOK_BYTES = 4;
    /// @notice All but the deltas.
    uint256 internal constant HEAD_BYTES = 336;
    uint256 internal constant DELTA_BYTES = 8;

    /// @notice The bytes of a settlement of a book of `slots` slots, of which there is at least one.
    function length(uint256 slots) internal pure returns (uint256) {
        return HEAD_BYTES + DELTA_BYTES * slots;
    }

    /// @notice The book of the first settlement.
    /// @dev `settlements` must have `BOOK_BYTES`.
    function book(bytes calldata settlements) internal pure returns (uint32 result) {
        assembly ("memory-safe") {
            result := shr(224, calldataload(settlements.offset))
        }
    }

    /// @notice The rest of a settlement. Nothing is checked but what the widths bound: the total is below 2^96, a delta below 2^64.
    /// @dev `settlement` must have its exact length. `proofAt` is where in the calldata the eight words of the proof are.
    function read(bytes calldata settlement)
        internal
        pure
        returns (uint256 newRoot, uint256 totalNanos, uint256 commitment, uint256 proofAt, bytes calldata deltas)
    {
        assembly ("memory-safe") {
            let at := settlement.offset
            newRoot := calldataload(add(at, 4))
            totalNanos := shr(160, calldataload(add(at, 36)))
            commitment := calldataload(add(at, 48))
            proofAt := add(at, 80)
            deltas.offset := add(at, HEAD_BYTES)
            deltas.length := sub(settlement.length, HEAD_BYTES)
        }
    }
}
