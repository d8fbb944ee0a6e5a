// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BabyJubJub} from "../src/BabyJubJub.sol";
import {Binding} from "../src/Binding.sol";
import {ILedger} from "../src/interfaces/ILedger.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";
import {Reference} from "./utils/Reference.sol";

/// @title The binding, callable at any address: `r` names the ledger.
contract BindingHarness {
    function settleInputs(Reference.Settlement calldata s, uint256 oldRoot) external view returns (uint256 r, uint256 y) {
        r = Binding.point(Binding.SETTLE_TYPEHASH, s.book, oldRoot, s.newRoot, s.totalNanos, s.commitment, Binding.deltasHash(s.deltas));
        y = Binding.evaluateDeltas(r, oldRoot, s.newRoot, s.totalNanos, s.deltas);
    }

    function registerInputs(ILedger.Registration calldata g, uint256 oldRoot, uint256 slots) external view returns (uint256 r, uint256 y) {
        r = Binding.point(Binding.REGISTER_TYPEHASH, g.book, oldRoot, g.newRoot, 0, g.commitment, keccak256(abi.encode(g.rows)));
        y = Binding.evaluateRows(r, oldRoot, g.newRoot, g.rows, slots);
    }
}

/// @title Solidity and Rust compute the same, from one set of files.
contract VectorsTest is LedgerFixture {
    string private _file;

    function _open(string memory name) private {
        _file = vm.readFile(string.concat("vectors/", name));
    }

    function _exists(string memory list, uint256 index) private view returns (bool) {
        return vm.keyExistsJson(_file, string.concat(".", list, "[", vm.toString(index), "]"));
    }

    function _path(string memory list, uint256 index, string memory key) private pure returns (string memory) {
        return string.concat(".", list, "[", vm.toString(index), "].", key);
    }

    function _uint(string memory list, uint256 index, string memory key) private view returns (uint256) {
        return vm.parseJsonUint(_file, _path(list, index, key));
    }

    function _address(string memory list, uint256 index, string memory key) private view returns (address) {
        return vm.parseJsonAddress(_file, _path(list, index, key));
    }

    function _bytes(string memory list, uint256 index, string memory key) private view returns (bytes memory) {
        return vm.parseJsonBytes(_file, _path(list, index, key));
    }

    function _harnessAt(string memory list, uint256 index) private returns (BindingHarness harness) {
        harness = BindingHarness(_address(list, index, "place.ledger"));
        vm.etch(address(harness), address(new BindingHarness()).code);
        vm.chainId(_uint(list, index, "place.chainId"));
    }

    function test_KeysOfVouchers() external {
        _open("voucher.json");
        uint256 i = 0;
        for (; _exists("keys", i); ++i) {
            vm.assertTrue(BabyJubJub.isKey(_uint("keys", i, "keyX"), _uint("keys", i, "witnessX"), _uint("keys", i, "witnessY")));
        }
        vm.assertGe(i, 1);
    }

    function test_UidsOfChannels() external {
        _open("voucher.json");
        uint256 i = 0;
        for (; _exists("channels", i); ++i) {
            vm.chainId(_uint("channels", i, "chainId"));
            // The uid depends on the address of the ledger and on no storage.
            address where = _address("channels", i, "ledger");
            vm.etch(where, address(ledger).code);
            uint256 uid = ILedger(where)
                .channelUid(_address("channels", i, "payer"), _uint("channels", i, "keyX"), bytes32(_uint("channels", i, "salt")));
            vm.assertEq(uid, _uint("channels", i, "uid"));
        }
        vm.assertGe(i, 1);
    }

    function test_InputsOfSettle() external {
        _open("settle.json");
        uint256 i = 0;
        for (; _exists("instances", i); ++i) {
            Reference.Settlement memory s;
            s.book = uint32(_uint("instances", i, "place.book"));
            s.newRoot = _uint("instances", i, "newRoot");
            s.totalNanos = uint96(_uint("instances", i, "totalNanos"));
            s.commitment = _uint("instances", i, "commitment");
            s.deltas = _bytes("instances", i, "deltas");
            _cut(s.deltas, 8 * _uint("instances", i, "size"));
            (uint256 r, uint256 y) = _harnessAt("instances", i).settleInputs(s, _uint("instances", i, "oldRoot"));
            vm.assertEq(r, _uint("instances", i, "r"));
            vm.assertEq(y, _uint("instances", i, "y"));
        }
        vm.assertGe(i, 1);
    }

    function _settlementAt(string memory where) private view returns (Reference.Settlement memory s) {
        s.book = uint32(vm.parseJsonUint(_file, string.concat(where, ".book")));
        s.newRoot = vm.parseJsonUint(_file, string.concat(where, ".newRoot"));
        s.totalNanos = uint96(vm.parseJsonUint(_file, string.concat(where, ".totalNanos")));
        s.commitment = vm.parseJsonUint(_file, string.concat(where, ".commitment"));
        uint256[] memory proof = vm.parseJsonUintArray(_file, string.concat(where, ".proof"));
        for (uint256 i = 0; i < 8; ++i) {
            s.proof[i] = proof[i];
        }
        uint256[] memory list = vm.parseJsonUintArray(_file, string.concat(where, ".deltas"));
        uint64[] memory deltas = new uint64[](list.length);
        for (uint256 i = 0; i < list.length; ++i) {
            deltas[i] = uint64(list[i]);
        }
        s.deltas = Reference.packDeltas(deltas);
    }

    /// @dev The verifier expects each settlement with the root that those before it leave.
    function _expect(Reference.Settlement[] memory list) private {
        for (uint256 i = 0; i < list.length; ++i) {
            uint256 oldRoot = ledger.bookRoot(list[i].book);
            for (uint256 j = 0; j < i; ++j) {
                if (list[j].book == list[i].book) oldRoot = list[j].newRoot;
            }
            settleStub.expect(Reference.settleInputs(address(ledger), oldRoot, list[i], _slots(list[i].book)), list[i].proof);
        }
    }

    /// @dev The calldata that the Rust crates make is that of the same numbers here, and the ledger reads those numbers from it.
    function test_CalldataOfSettle() external {
        _open("settle_calldata.json");
        uint256 i = 0;
        for (; _exists("instances", i); ++i) {
            setUp();
            uint256 count = 0;
            while (vm.keyExistsJson(_file, _path("instances", i, string.concat("settlements[", vm.toString(count), "]")))) ++count;
            Reference.Settlement[] memory list = new Reference.Settlement[](count);
            uint256 paid = 0;
            for (uint256 j = 0; j < count; ++j) {
                list[j] = _settlementAt(_path("instances", i, string.concat("settlements[", vm.toString(j), "]")));
                paid += list[j].totalNanos;
            }
            uint256[] memory roots = vm.parseJsonUintArray(_file, _path("instances", i, "epochs"));
            ILedger.EpochAnchor[] memory epochs = new ILedger.EpochAnchor[](roots.length);
            for (uint64 j = 0; j < roots.length; ++j) {
                epochs[j] = ILedger.EpochAnchor(j, bytes32(roots[j]));
            }
            bytes memory calldata_ = _bytes("instances", i, "calldata");
            vm.assertEq(keccak256(calldata_), keccak256(abi.encodeCall(ILedger.settle, (Reference.pack(list), epochs))));

            _expect(list);
            vm.prank(OPERATOR);
            (bool ok,) = address(ledger).call(calldata_);
            vm.assertTrue(ok);
            vm.assertEq(ledger.creditNanos(PROVIDER), paid);
            vm.assertEq(ledger.epochCount(), roots.length);
            if (count != 0) vm.assertEq(ledger.bookRoot(list[count - 1].book), list[count - 1].newRoot);
        }
        vm.assertGe(i, 9);
    }

    /// @dev What Rust refuses to read the ledger refuses to take.
    function test_RevertWhen_SettlementsAreMalformed() external {
        _open("settle_calldata.json");
        uint256 i = 0;
        for (; _exists("malformed", i); ++i) {
            bytes memory settlements = _bytes("malformed", i, "settlements");
            vm.expectRevert(
                abi.encodeWithSelector(
                    ILedger.SettlementLength.selector, _uint("malformed", i, "expected"), _uint("malformed", i, "actual")
                )
            );
            vm.prank(OPERATOR);
            ledger.settle(settlements, _noEpochs());
        }
        vm.assertGe(i, 12);
    }

    function test_InputsOfRegister() external {
        _open("register.json");
        uint256 i = 0;
        for (; _exists("instances", i); ++i) {
            ILedger.Registration memory g;
            g.book = uint32(_uint("instances", i, "place.book"));
            g.newRoot = _uint("instances", i, "newRoot");
            g.commitment = _uint("instances", i, "commitment");
            g.rows = abi.decode(_bytes("instances", i, "encodedRows"), (ILedger.Row[]));
            (uint256 r, uint256 y) =
                _harnessAt("instances", i).registerInputs(g, _uint("instances", i, "oldRoot"), _uint("instances", i, "size"));
            vm.assertEq(r, _uint("instances", i, "r"));
            vm.assertEq(y, _uint("instances", i, "y"));
        }
        vm.assertGe(i, 1);
    }
}
