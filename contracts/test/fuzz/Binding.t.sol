// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Binding} from "../../src/Binding.sol";
import {ILedger} from "../../src/interfaces/ILedger.sol";
import {Reference} from "../utils/Reference.sol";
import {TestBase} from "../utils/TestBase.sol";

/// @title The fast evaluation against the long way.
contract BindingTest is TestBase {
    uint256 private constant P = Reference.P;

    function evaluateDeltas(uint256 r, uint256 oldRoot, uint256 newRoot, uint256 total, bytes calldata deltas)
        external
        pure
        returns (uint256)
    {
        return Binding.evaluateDeltas(r, oldRoot, newRoot, total, deltas);
    }

    function isZeroFilled(bytes calldata deltas, uint256 slots) external pure returns (bool) {
        return Binding.isZeroFilled(deltas, slots);
    }

    function evaluateRows(uint256 r, uint256 oldRoot, uint256 newRoot, ILedger.Row[] calldata rows, uint256 slots)
        external
        pure
        returns (uint256)
    {
        return Binding.evaluateRows(r, oldRoot, newRoot, rows, slots);
    }

    function testFuzz_DeltasAgreeWithTheLongWay(uint256 r, uint256 oldRoot, uint256 seed, uint256 slots) external view {
        (r, oldRoot, slots) = (r % P, oldRoot % P, _bound(slots, 1, 200));
        ILedger.Settlement memory s;
        uint64[] memory deltas = new uint64[](slots);
        for (uint256 i = 0; i < slots; ++i) {
            deltas[i] = seed % 5 == 0 ? type(uint64).max : uint64(uint256(keccak256(abi.encode(seed, i))));
        }
        s.newRoot = uint256(keccak256(abi.encode(seed, "root"))) % P;
        s.totalNanos = seed >> 160;
        s.deltas = Reference.packDeltas(deltas);
        vm.assertEq(s.deltas.length, Binding.deltasLength(slots));
        vm.assertTrue(this.isZeroFilled(s.deltas, slots));
        vm.assertEq(
            this.evaluateDeltas(r, oldRoot, s.newRoot, s.totalNanos, s.deltas), Reference.horner(Reference.settleData(oldRoot, s, slots), r)
        );
    }

    function testFuzz_LargestWordsAgreeWithTheLongWay(uint256 r, uint256 slots) external view {
        (r, slots) = (_bound(r, P - 16, P - 1), _bound(slots, 1, 64));
        ILedger.Settlement memory s;
        (s.newRoot, s.totalNanos) = (P - 1, type(uint96).max);
        s.deltas = new bytes(Binding.deltasLength(slots));
        for (uint256 i = 0; i < s.deltas.length; ++i) {
            s.deltas[i] = 0xff;
        }
        vm.assertEq(
            this.evaluateDeltas(r, P - 1, s.newRoot, s.totalNanos, s.deltas), Reference.horner(Reference.settleData(P - 1, s, slots), r)
        );
    }

    /// @dev A byte beyond the deltas is seen wherever it is; a byte of a delta is not.
    function testFuzz_FillIsSeen(uint256 slots, uint256 where, uint8 value) external view {
        (slots, value) = (_bound(slots, 1, 400), uint8(_bound(value, 1, 255)));
        bytes memory deltas = new bytes(Binding.deltasLength(slots));
        where %= deltas.length;
        deltas[where] = bytes1(value);
        vm.assertTrue(this.isZeroFilled(deltas, slots) == (where < 8 * slots));
    }

    function test_DeltasLengthIsTheNextMultiple() external pure {
        for (uint256 slots = 1; slots <= 500; ++slots) {
            uint256 length = Binding.deltasLength(slots);
            vm.assertTrue(length % 31 == 0 && length >= 8 * slots && length < 8 * slots + 31);
        }
    }

    function testFuzz_RowsAgreeWithTheLongWay(uint256 r, uint256 oldRoot, uint256 seed, uint256 slots, uint256 density) external view {
        (r, oldRoot, slots, density) = (r % P, oldRoot % P, _bound(slots, 1, 64), _bound(density, 0, 8));
        ILedger.Registration memory g;
        g.newRoot = uint256(keccak256(abi.encode(seed, "root"))) % P;
        uint256 count = 0;
        ILedger.Row[] memory rows = new ILedger.Row[](slots);
        for (uint16 slot = 0; slot < slots; ++slot) {
            uint256 random = uint256(keccak256(abi.encode(seed, slot)));
            if (random % 8 >= density) continue;
            rows[count++] = ILedger.Row({
                slot: slot,
                flags: uint8(random >> 8),
                deltaNanos: uint64(random >> 16),
                refundNanos: uint64(random >> 80),
                uid: uint248(uint256(keccak256(abi.encode(random)))),
                keyX: uint256(keccak256(abi.encode(random, "key"))) % P
            });
        }
        assembly ("memory-safe") {
            mstore(rows, count)
        }
        g.rows = rows;
        vm.assertEq(this.evaluateRows(r, oldRoot, g.newRoot, rows, slots), Reference.horner(Reference.registerData(oldRoot, g, slots), r));
    }

    function testFuzz_PowerIsRepeatedMultiplication(uint256 base, uint256 exponent) external pure {
        exponent = _bound(exponent, 0, 300);
        uint256 expected = 1;
        for (uint256 i = 0; i < exponent; ++i) {
            expected = mulmod(expected, base, P);
        }
        vm.assertEq(Binding.power(base, exponent), expected);
    }
}
