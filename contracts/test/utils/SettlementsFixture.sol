// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBookPaths} from "../../src/interfaces/IBookPaths.sol";
import {ILedger} from "../../src/interfaces/ILedger.sol";
import {IVerifier} from "../../src/interfaces/IVerifier.sol";
import {LedgerFixture} from "./LedgerFixture.sol";
import {Reference} from "./Reference.sol";

/// @title The settlements of `vectors/settlements.json`, the verifiers of their keys, and the ledger that they are for.
/// @dev Proofs are bound to the chain and to the address of the ledger, so the ledger is made there. Its tiers are 96 and 384 slots; the books
/// are in it as earlier transactions would have left them.
abstract contract SettlementsFixture is LedgerFixture {
    /// @dev One settlement of a book of 96 slots, then six of books of 384.
    uint256 internal constant SETTLEMENTS = 7;

    string private _file;
    IVerifier[2] internal _verifiers;
    uint256[22][2] internal _keys;

    function _loadSettlements() internal {
        _file = vm.readFile("vectors/settlements.json");
        vm.chainId(vm.parseJsonUint(_file, ".chainId"));
        for (uint256 i = 0; i < 2; ++i) {
            bytes memory words = vm.parseJsonBytes(_file, string.concat(".keys[", vm.toString(i), "].words"));
            _keys[i] = abi.decode(words, (uint256[22]));
            _verifiers[i] = IVerifier(vm.deployCode("Groth16Verifier.sol:Groth16Verifier", words));
        }
        address where = vm.parseJsonAddress(_file, ".ledger");
        _ledgerAt(where);
        ledger = ILedger(where);
        for (uint256 i = 0; i < SETTLEMENTS; ++i) {
            _setBook(ledger, i);
        }
    }

    /// @dev A ledger at an address of our choice: its constructor runs there, then its code takes the place of the constructor.
    function _ledgerAt(address where) internal {
        ILedger.Tier[] memory tiers = new ILedger.Tier[](2);
        uint16[2] memory slots = [96, 384];
        for (uint256 i = 0; i < 2; ++i) {
            tiers[i] = ILedger.Tier({slots: slots[i], emptyRoot: 1, settleVerifier: _verifiers[i], registerVerifier: _verifiers[i]});
        }
        bytes memory arguments = abi.encode(_terms(PROVIDER, OPERATOR, address(token), 0), IBookPaths(paths), tiers);
        vm.etch(where, abi.encodePacked(vm.getCode("Ledger.sol:Ledger"), arguments));
        (bool ok, bytes memory code) = where.call("");
        vm.assertTrue(ok);
        vm.etch(where, code);
    }

    /// @dev The settlement at `index` of the vector, and the root before it.
    function _vector(uint256 index) internal view returns (Reference.Settlement memory s, uint256 oldRoot) {
        string memory where = string.concat(".settlements[", vm.toString(index), "]");
        s.book = uint32(vm.parseJsonUint(_file, string.concat(where, ".book")));
        s.newRoot = vm.parseJsonUint(_file, string.concat(where, ".newRoot"));
        s.totalNanos = uint96(vm.parseJsonUint(_file, string.concat(where, ".totalNanos")));
        s.commitment = vm.parseJsonUint(_file, string.concat(where, ".commitment"));
        s.proof = abi.decode(vm.parseJsonBytes(_file, string.concat(where, ".proof")), (uint256[8]));
        s.deltas = vm.parseJsonBytes(_file, string.concat(where, ".deltas"));
        _cut(s.deltas, 8 * vm.parseJsonUint(_file, string.concat(where, ".slots")));
        oldRoot = vm.parseJsonUint(_file, string.concat(where, ".oldRoot"));
    }

    /// @dev `count` settlements of the vector.
    function _vectors(uint256 first, uint256 count) internal view returns (Reference.Settlement[] memory settlements) {
        settlements = new Reference.Settlement[](count);
        for (uint256 i = 0; i < count; ++i) {
            (settlements[i],) = _vector(first + i);
        }
    }

    /// @dev Puts the root before a settlement into the ledger's storage.
    function _setBook(ILedger where, uint256 index) internal {
        (Reference.Settlement memory s, uint256 oldRoot) = _vector(index);
        _setRoot(where, s.book, oldRoot);
    }

    function _setRoot(ILedger where, uint32 book, uint256 root) internal {
        _setRead(where, abi.encodeCall(ILedger.bookRoot, (book)), root);
    }

    /// @dev Gives the provider some credit, as it has in operation.
    function _setCredit(ILedger where) internal {
        _setRead(where, abi.encodeCall(ILedger.creditNanos, (PROVIDER)), 1);
    }

    /// @dev Sets the slot that a getter gives, wherever it is: of those that it reads, the one that was zero and changes the answer.
    function _setRead(ILedger where, bytes memory getter, uint256 value) private {
        vm.record();
        (bool ok, bytes memory got) = address(where).staticcall(getter);
        vm.assertTrue(ok);
        (bytes32[] memory slots,) = vm.accesses(address(where));
        for (uint256 i = 0; i < slots.length; ++i) {
            bytes32 before = vm.load(address(where), slots[i]);
            vm.store(address(where), slots[i], bytes32(value));
            (ok, got) = address(where).staticcall(getter);
            if (ok && abi.decode(got, (uint256)) == value && before == 0) return;
            vm.store(address(where), slots[i], before);
        }
        vm.assertTrue(false, "no slot of the ledger is what the getter gives");
    }
}
