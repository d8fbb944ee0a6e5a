// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {PoseidonTables} from "./PoseidonTables.sol";

/// @title Code that is data.
contract PoseidonTable {
    constructor(bytes memory data) {
        assembly ("memory-safe") {
            return(add(data, 32), mload(data))
        }
    }
}

/// @title Poseidon with circomlib's constants and our tags (`docs/spec/voucher.md`), for those who need it without a proof.
/// @dev The constants are the code of two contracts that the constructor makes. `_tables` brings them into memory, once for many hashes. The
/// tests compare with vectors of the Rust crates. Inputs are below `P`: larger ones hash like their remainders.
abstract contract Poseidon {
    uint256 internal constant P = 21888242871839275222246405745257275088548364400416034343698204186575808495617;

    uint256 internal constant STATIC_LEAF = uint256(uint176(bytes22("millstream.static.leaf")));
    uint256 internal constant STATIC_NODE = uint256(uint176(bytes22("millstream.static.node")));
    uint256 internal constant DYNAMIC_NODE = uint256(uint184(bytes23("millstream.dynamic.node")));
    uint256 internal constant BOOK = uint256(uint120(bytes15("millstream.book")));

    /// @dev Bytes of the two halves without their STOPs, and where the tables of the widths start; that of width 3 does at 0. (Assembly takes
    /// numbers only, so products are written out.)
    uint256 private constant HALF = 20_768;
    uint256 private constant TABLE_4 = 2_880;
    uint256 private constant TABLE_17 = 6_208;

    /// @dev Bytes of the state of width 17 and of its matrix; and where the parts of its table start: the matrix at 0, the one of the last
    /// round before the partial ones, the one after them, the 33 taps, the constants of the full rounds, and the 68 of the partial ones.
    uint256 private constant STATE_17 = 544;
    uint256 private constant ENTRY_17 = 9_248;
    uint256 private constant EXIT_17 = 18_496;
    uint256 private constant TAPS_17 = 27_744;
    uint256 private constant FULL_17 = 28_800;
    uint256 private constant PARTIAL_17 = 33_152;
    uint256 private constant PARTIAL_BYTES_17 = 2_176;

    address private immutable FIRST;
    address private immutable SECOND;

    constructor() {
        FIRST = address(new PoseidonTable(PoseidonTables.FIRST));
        SECOND = address(new PoseidonTable(PoseidonTables.SECOND));
    }

    /// @dev Where the tables are in memory, with room for two states of width 17 before them.
    function _tables() internal view returns (uint256 tables) {
        (address first, address second) = (FIRST, SECOND);
        assembly ("memory-safe") {
            tables := add(mload(0x40), mul(2, STATE_17))
            extcodecopy(first, tables, 1, HALF)
            extcodecopy(second, add(tables, HALF), 1, HALF)
            mstore(0x40, add(tables, mul(2, HALF)))
        }
    }

    /// @dev `P_3(tag; a, b)`.
    function _hash2(uint256 tables, uint256 tag, uint256 a, uint256 b) internal pure returns (uint256) {
        assembly ("memory-safe") {
            let state := sub(tables, mul(2, STATE_17))
            mstore(state, tag)
            mstore(add(state, 32), a)
            mstore(add(state, 64), b)
        }
        return _permuteNarrow(tables, tables, 3 * 32, 57 * 32);
    }

    /// @dev `P_4(tag; a, b, c)`.
    function _hash3(uint256 tables, uint256 tag, uint256 a, uint256 b, uint256 c) internal pure returns (uint256) {
        assembly ("memory-safe") {
            let state := sub(tables, mul(2, STATE_17))
            mstore(state, tag)
            mstore(add(state, 32), a)
            mstore(add(state, 64), b)
            mstore(add(state, 96), c)
        }
        return _permuteNarrow(tables, tables + TABLE_4, 4 * 32, 56 * 32);
    }

    /// @dev `P_17(tag; inputs)`.
    function _hash16(uint256 tables, uint256 tag, uint256[16] calldata inputs) internal pure returns (uint256) {
        assembly ("memory-safe") {
            let state := sub(tables, mul(2, STATE_17))
            mstore(state, tag)
            calldatacopy(add(state, 32), inputs, 512)
        }
        return _permuteWide(tables, tables + TABLE_17);
    }

    /// @dev Element 0 of the permuted state; widths of a few elements, round by round. `size` and `partialSize` are the bytes of the state and
    /// of the constants of the partial rounds. The table: the matrix, the constants of the full rounds, those of the partial ones.
    function _permuteNarrow(uint256 tables, uint256 table, uint256 size, uint256 partialSize) private pure returns (uint256 first) {
        assembly ("memory-safe") {
            function fifth(x) -> y {
                let square := mulmod(x, x, P)
                y := mulmod(mulmod(square, square, P), x, P)
            }
            function multiply(matrix, from, to, bytes_) {
                let end := add(from, bytes_)
                for { let last := add(to, bytes_) } lt(to, last) { to := add(to, 32) } {
                    let sum := 0
                    for { let term := from } lt(term, end) { term := add(term, 32) } {
                        sum := addmod(sum, mulmod(mload(matrix), mload(term), P), P)
                        matrix := add(matrix, 32)
                    }
                    mstore(to, sum)
                }
            }
            // Four full rounds; there and back leaves the state where it was.
            function fullRounds(matrix, constants, state, spare, bytes_) {
                for { let round := 0 } lt(round, 4) { round := add(round, 1) } {
                    for { let i := 0 } lt(i, bytes_) { i := add(i, 32) } {
                        mstore(add(state, i), fifth(addmod(mload(add(state, i)), mload(constants), P)))
                        constants := add(constants, 32)
                    }
                    multiply(matrix, state, spare, bytes_)
                    let other := state
                    state := spare
                    spare := other
                }
            }
            let state := sub(tables, mul(2, STATE_17))
            let spare := add(state, STATE_17)
            let full := add(table, div(mul(size, size), 32))
            let constants := add(full, mul(8, size))
            fullRounds(table, full, state, spare, size)
            for { let end := add(constants, partialSize) } lt(constants, end) { constants := add(constants, 32) } {
                mstore(state, fifth(addmod(mload(state), mload(constants), P)))
                multiply(table, state, spare, size)
                let other := state
                state := spare
                spare := other
            }
            fullRounds(table, add(full, mul(4, size)), state, spare, size)
            first := mload(state)
        }
    }

    /// @dev Element 0 of the permuted state of width 17. The 68 partial rounds are a linear recurrence in coordinates in which only element 0
    /// needs a constant and every round has the same 33 factors; `crates/voucher/tests/solidity.rs` makes them and says why.
    function _permuteWide(uint256 tables, uint256 table) private pure returns (uint256 first) {
        assembly ("memory-safe") {
            function fifth(x) -> y {
                let square := mulmod(x, x, P)
                y := mulmod(mulmod(square, square, P), x, P)
            }
            // Five numbers below P add up to less than 2^256.
            function five(row, column) -> y {
                y := mulmod(mload(row), mload(column), P)
                y := add(y, mulmod(mload(add(row, 32)), mload(add(column, 32)), P))
                y := add(y, mulmod(mload(add(row, 64)), mload(add(column, 64)), P))
                y := add(y, mulmod(mload(add(row, 96)), mload(add(column, 96)), P))
                y := add(y, mulmod(mload(add(row, 128)), mload(add(column, 128)), P))
            }
            function multiply(matrix, from, to) {
                for { let end := add(to, STATE_17) } lt(to, end) { to := add(to, 32) } {
                    let sum := addmod(five(matrix, from), five(add(matrix, 160), add(from, 160)), P)
                    sum := addmod(sum, five(add(matrix, 320), add(from, 320)), P)
                    let rest := mulmod(mload(add(matrix, 480)), mload(add(from, 480)), P)
                    rest := add(rest, mulmod(mload(add(matrix, 512)), mload(add(from, 512)), P))
                    mstore(to, addmod(sum, rest, P))
                    matrix := add(matrix, STATE_17)
                }
            }
            // One full round, from one state to the other.
            function fullRound(matrix, constants, from, to) {
                for { let i := 0 } lt(i, STATE_17) { i := add(i, 32) } {
                    mstore(add(from, i), fifth(addmod(mload(add(from, i)), mload(add(constants, i)), P)))
                }
                multiply(matrix, from, to)
            }
            // z_j ← z_(j+1) + b_j·s for five j, one after the other; gives the sum of the five a_j·z_j.
            function shiftFive(z, taps, s) -> fed {
                let value := mload(z)
                let next := mload(add(z, 32))
                fed := mulmod(mload(taps), value, P)
                mstore(z, addmod(next, mulmod(mload(add(taps, 32)), s, P), P))
                value := mload(add(z, 64))
                fed := add(fed, mulmod(mload(add(taps, 64)), next, P))
                mstore(add(z, 32), addmod(value, mulmod(mload(add(taps, 96)), s, P), P))
                next := mload(add(z, 96))
                fed := add(fed, mulmod(mload(add(taps, 128)), value, P))
                mstore(add(z, 64), addmod(next, mulmod(mload(add(taps, 160)), s, P), P))
                value := mload(add(z, 128))
                fed := add(fed, mulmod(mload(add(taps, 192)), next, P))
                mstore(add(z, 96), addmod(value, mulmod(mload(add(taps, 224)), s, P), P))
                fed := add(fed, mulmod(mload(add(taps, 256)), value, P))
                mstore(add(z, 128), addmod(mload(add(z, 160)), mulmod(mload(add(taps, 288)), s, P), P))
            }
            let state := sub(tables, mul(2, STATE_17))
            let spare := add(state, STATE_17)
            let full := add(table, FULL_17)
            fullRound(table, full, state, spare)
            fullRound(table, add(full, STATE_17), spare, state)
            fullRound(table, add(full, mul(2, STATE_17)), state, spare)
            fullRound(add(table, ENTRY_17), add(full, mul(3, STATE_17)), spare, state)

            let z := add(state, 32)
            let taps := add(table, TAPS_17)
            let constants := add(table, PARTIAL_17)
            let y := mload(state)
            for { let end := add(constants, PARTIAL_BYTES_17) } lt(constants, end) { constants := add(constants, 32) } {
                let s := fifth(addmod(y, mload(constants), P))
                y := addmod(mulmod(mload(add(taps, 1024)), s, P), mload(z), P)
                let fed := shiftFive(z, taps, s)
                fed := addmod(fed, shiftFive(add(z, 160), add(taps, 320), s), P)
                fed := addmod(fed, shiftFive(add(z, 320), add(taps, 640), s), P)
                fed := addmod(fed, mulmod(mload(add(taps, 960)), mload(add(z, 480)), P), P)
                mstore(add(z, 480), addmod(fed, mulmod(mload(add(taps, 992)), s, P), P))
            }
            mstore(state, y)
            multiply(add(table, EXIT_17), state, spare)

            full := add(full, mul(4, STATE_17))
            fullRound(table, full, spare, state)
            fullRound(table, add(full, STATE_17), state, spare)
            fullRound(table, add(full, mul(2, STATE_17)), spare, state)
            fullRound(table, add(full, mul(3, STATE_17)), state, spare)
            first := mload(spare)
        }
    }
}
