// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BabyJubJub} from "../src/BabyJubJub.sol";
import {Binding} from "../src/Binding.sol";
import {ILedger} from "../src/interfaces/ILedger.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";

/// @title The binding, callable at any address: `r` names the ledger.
contract BindingHarness {
    function settleInputs(ILedger.Settlement calldata s, uint256 oldRoot) external view returns (uint256 r, uint256 y) {
        r = Binding.point(Binding.SETTLE_TYPEHASH, s.book, oldRoot, s.newRoot, s.totalNanos, s.commitment, keccak256(s.deltas));
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
            ILedger.Settlement memory s;
            s.book = uint32(_uint("instances", i, "place.book"));
            s.newRoot = _uint("instances", i, "newRoot");
            s.totalNanos = _uint("instances", i, "totalNanos");
            s.commitment = _uint("instances", i, "commitment");
            s.deltas = _bytes("instances", i, "deltas");
            vm.assertEq(s.deltas.length, Binding.deltasLength(_uint("instances", i, "size")));
            (uint256 r, uint256 y) = _harnessAt("instances", i).settleInputs(s, _uint("instances", i, "oldRoot"));
            vm.assertEq(r, _uint("instances", i, "r"));
            vm.assertEq(y, _uint("instances", i, "y"));
        }
        vm.assertGe(i, 1);
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
