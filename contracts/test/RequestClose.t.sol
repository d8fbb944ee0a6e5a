// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../src/interfaces/ILedger.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";

contract RequestCloseTest is LedgerFixture {
    function test_MarksTheChannelAndQueuesTheRequest() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        vm.expectEmit(address(ledger));
        emit ILedger.CloseRequested(uid, 1);
        vm.prank(ALICE);
        ledger.requestClose(uid);

        vm.assertTrue(ledger.channel(uid).closeRequested);
        vm.assertFalse(ledger.channel(uid).closed);
        vm.assertEq(ledger.queueTail(), 2);
        bytes32 hash = keccak256(abi.encode(uint256(1), uint256(3), uint256(uid), uint256(0), uint256(0)));
        vm.assertEq(ledger.requestDigest(1), uint256(hash) >> 40);
    }

    function test_RevertWhen_TheChannelIsUnknown() external {
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelUnknown.selector, 5));
        ledger.requestClose(5);
    }

    function test_RevertWhen_TheCallerIsNotThePayer() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        address[3] memory callers = [BOB, PROVIDER, OPERATOR];
        for (uint256 i = 0; i < callers.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ILedger.NotPayer.selector, callers[i]));
            vm.prank(callers[i]);
            ledger.requestClose(uid);
        }
    }

    function test_RevertWhen_TheCloseWasRequested() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        _requestClose(ALICE, uid);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelClosing.selector, uid));
        vm.prank(ALICE);
        ledger.requestClose(uid);
    }

    function test_RevertWhen_TheChannelIsClosed() external {
        uint248 uid = _openIn(BOOK_24, 0, ALICE, 1, 1e6);
        _requestClose(ALICE, uid);
        _register(_registration(BOOK_24, _rows(_row(0, CLOSED, uid, 0, 1e9))), _oldest(1));
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelClosing.selector, uid));
        vm.prank(ALICE);
        ledger.requestClose(uid);
    }
}
