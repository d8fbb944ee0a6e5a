// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../../src/interfaces/ILedger.sol";

/// @title The binding of L-9 … L-12 written the long way, to compare the ledger with: every word of `D` in an array, then Horner's rule.
library Reference {
    /// @notice A settlement of one book, unpacked.
    struct Settlement {
        uint32 book;
        uint256 newRoot;
        uint96 totalNanos;
        uint256 commitment;
        uint256[8] proof;
        bytes deltas;
    }

    uint256 internal constant P = 21888242871839275222246405745257275088548364400416034343698204186575808495617;

    function settleInputs(address ledger, uint256 oldRoot, Settlement memory s, uint256 slots) internal view returns (uint256[3] memory) {
        uint256 r = uint256(
            keccak256(
                abi.encode(
                    keccak256("MillstreamSettle/1"),
                    block.chainid,
                    ledger,
                    s.book,
                    oldRoot,
                    s.newRoot,
                    s.totalNanos,
                    s.commitment,
                    keccak256(filled(s.deltas))
                )
            )
        ) % P;
        return [s.commitment, r, horner(settleData(oldRoot, s, slots), r)];
    }

    function registerInputs(address ledger, uint256 oldRoot, ILedger.Registration memory g, uint256 slots)
        internal
        view
        returns (uint256[3] memory)
    {
        uint256 r = uint256(
            keccak256(
                abi.encode(
                    keccak256("MillstreamRegister/1"),
                    block.chainid,
                    ledger,
                    g.book,
                    oldRoot,
                    g.newRoot,
                    uint256(0),
                    g.commitment,
                    keccak256(abi.encode(g.rows))
                )
            )
        ) % P;
        return [g.commitment, r, horner(registerData(oldRoot, g, slots), r)];
    }

    function settleData(uint256 oldRoot, Settlement memory s, uint256 slots) internal pure returns (uint256[] memory data) {
        uint256 words = (8 * slots + 30) / 31;
        data = new uint256[](3 + words);
        (data[0], data[1], data[2]) = (oldRoot, s.newRoot, s.totalNanos);
        bytes memory deltas = filled(s.deltas);
        for (uint256 i = 0; i < words * 31; ++i) {
            data[3 + i / 31] = data[3 + i / 31] << 8 | uint8(deltas[i]);
        }
    }

    function registerData(uint256 oldRoot, ILedger.Registration memory g, uint256 slots) internal pure returns (uint256[] memory data) {
        data = new uint256[](2 + 3 * slots);
        (data[0], data[1]) = (oldRoot, g.newRoot);
        for (uint256 i = 0; i < g.rows.length; ++i) {
            ILedger.Row memory row = g.rows[i];
            uint256 first = 2 + 3 * uint256(row.slot);
            data[first] = uint256(row.flags) * 2 ** 128 + uint256(row.deltaNanos) * 2 ** 64 + row.refundNanos;
            data[first + 1] = row.uid;
            data[first + 2] = row.keyX;
        }
    }

    function horner(uint256[] memory data, uint256 r) internal pure returns (uint256 y) {
        for (uint256 i = 0; i < data.length; ++i) {
            y = addmod(mulmod(y, r, P), data[i], P);
        }
    }

    /// @dev With zeros to a multiple of 31.
    function filled(bytes memory deltas) internal pure returns (bytes memory) {
        return bytes.concat(deltas, new bytes((31 - deltas.length % 31) % 31));
    }

    /// @dev 8 bytes a slot.
    function packDeltas(uint64[] memory deltas) internal pure returns (bytes memory packed) {
        packed = new bytes(8 * deltas.length);
        for (uint256 i = 0; i < deltas.length; ++i) {
            for (uint256 j = 0; j < 8; ++j) {
                packed[8 * i + j] = bytes1(uint8(deltas[i] >> (8 * (7 - j))));
            }
        }
    }

    /// @dev The settlements as `settle` takes them (L-32), whatever the length of their deltas.
    function pack(Settlement[] memory list) internal pure returns (bytes memory packed) {
        for (uint256 i = 0; i < list.length; ++i) {
            Settlement memory s = list[i];
            packed = bytes.concat(packed, abi.encodePacked(s.book, s.newRoot, s.totalNanos, s.commitment, s.proof, s.deltas));
        }
    }
}
