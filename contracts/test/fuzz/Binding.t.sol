// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Binding} from "../../src/Binding.sol";
import {ILedger} from "../../src/interfaces/ILedger.sol";
import {Reference} from "../utils/Reference.sol";
import {TestBase} from "../utils/TestBase.sol";

/// @title The fast evaluation against the long way.
contract BindingTest is TestBase {
    uint256 private constant P = Reference.P;

    /// @dev The deltas stand among other bytes, as in the calldata of `settle`: three before, `after_` behind.
    function evaluateDeltas(uint256 r, uint256 oldRoot, uint256 newRoot, uint256 total, bytes calldata bytes_, uint256 after_)
        external
        pure
        returns (uint256 y, bytes32 hash)
    {
        bytes calldata deltas = bytes_[3:bytes_.length - after_];
        y = Binding.evaluateDeltas(r, oldRoot, newRoot, total, deltas);
        assembly ("memory-safe") {
            // Free memory holds whatever was left there.
            for { let at := mload(0x40) } lt(at, add(mload(0x40), 4096)) { at := add(at, 32) } { mstore(at, not(0)) }
        }
        hash = Binding.deltasHash(deltas);
    }

    function _agrees(uint256 r, uint256 oldRoot, Reference.Settlement memory s, uint256 slots) private view {
        bytes memory behind = hex"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
        for (uint256 i = 0; i < 2; ++i) {
            (uint256 y, bytes32 hash) = this.evaluateDeltas(
                r, oldRoot, s.newRoot, s.totalNanos, bytes.concat(hex"ffffff", s.deltas, i == 0 ? bytes("") : behind), i * behind.length
            );
            vm.assertEq(y, Reference.horner(Reference.settleData(oldRoot, s, slots), r));
            vm.assertEq(hash, keccak256(Reference.filled(s.deltas)));
        }
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
        Reference.Settlement memory s;
        uint64[] memory deltas = new uint64[](slots);
        for (uint256 i = 0; i < slots; ++i) {
            deltas[i] = seed % 5 == 0 ? type(uint64).max : uint64(uint256(keccak256(abi.encode(seed, i))));
        }
        s.newRoot = uint256(keccak256(abi.encode(seed, "root"))) % P;
        s.totalNanos = uint96(seed >> 160);
        s.deltas = Reference.packDeltas(deltas);
        _agrees(r, oldRoot, s, slots);
    }

    function testFuzz_LargestWordsAgreeWithTheLongWay(uint256 r, uint256 slots) external view {
        (r, slots) = (_bound(r, P - 16, P - 1), _bound(slots, 1, 64));
        Reference.Settlement memory s;
        (s.newRoot, s.totalNanos) = (P - 1, type(uint96).max);
        s.deltas = new bytes(8 * slots);
        for (uint256 i = 0; i < s.deltas.length; ++i) {
            s.deltas[i] = 0xff;
        }
        _agrees(r, P - 1, s, slots);
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
