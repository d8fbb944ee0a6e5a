// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../src/interfaces/ILedger.sol";
import {Reference} from "./utils/Reference.sol";
import {RelayFixture} from "./utils/RelayFixture.sol";

contract HaltTest is RelayFixture {
    function test_AnyoneHaltsALedgerLeftUnserved() external {
        _openIn(BOOK_24, 0, ALICE, 1, 5e6);
        _open(BOB, 1, 5e6);
        vm.warp(START + HALT_WINDOW);
        vm.expectRevert(abi.encodeWithSelector(ILedger.NotOverdue.selector, 1, START + HALT_WINDOW));
        ledger.halt();
        vm.warp(START + HALT_WINDOW + 1);
        vm.expectEmit(address(ledger));
        emit ILedger.Halted(1);
        vm.prank(STRANGER);
        ledger.halt();
        vm.assertTrue(ledger.halted());
        // Operator and queue share its slot.
        vm.assertEq(ledger.operator(), OPERATOR);
        vm.assertEq(ledger.queueHead(), 1);
        vm.assertEq(ledger.queueTail(), 2);
        vm.expectRevert(ILedger.LedgerHalted.selector);
        ledger.halt();
    }

    function test_RevertWhen_NoRequestWaits() external {
        bytes memory none = abi.encodeWithSelector(ILedger.NotOverdue.selector, 0, type(uint256).max);
        vm.expectRevert(none);
        ledger.halt();
        vm.warp(START + 1000 days);
        vm.expectRevert(none);
        ledger.halt();
        _openIn(BOOK_24, 0, ALICE, 1, 5e6);
        vm.warp(START + 2000 days);
        vm.expectRevert(abi.encodeWithSelector(ILedger.NotOverdue.selector, 1, type(uint256).max));
        ledger.halt();
    }

    function test_ServingTheOldestInTimeIsEnough() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        vm.warp(START + HALT_WINDOW + 1);
        _register(_registration(BOOK_24, _rows(_row(0, OPENED, uid, 5e9, 0))), _oldest(1));
        vm.expectRevert(abi.encodeWithSelector(ILedger.NotOverdue.selector, 1, type(uint256).max));
        ledger.halt();
    }

    function test_NothingGoesInOnceHalted() external {
        uint248 uid = _openIn(BOOK_24, 0, ALICE, 1, 5e6);
        uint248 waiting = _open(PAYER, 9, 5e6);
        ILedger.Registration[] memory registrations = _list(_registration(BOOK_24, _rows(_row(1, OPENED, waiting, 5e9, 0))));
        Reference.Settlement[] memory settlements = _list(_settlement(BOOK_24, 5));
        ILedger.Request[] memory requests = _oldest(1);
        _halt();
        uint256 until = block.timestamp + 600;
        bytes memory consent = _openConsent(PAYER, _uid(), 1e6, until);

        bytes[] memory calls = new bytes[](9);
        calls[0] = abi.encodeCall(ILedger.open, (_key(0), SALT, 1e6));
        calls[1] = abi.encodeCall(ILedger.openFor, (ALICE, _key(0), SALT, 1e6));
        calls[2] = abi.encodeCall(ILedger.openWithAuthorization, (PAYER, _key(0), SALT, 1e6, 0, until, ""));
        calls[3] = abi.encodeCall(ILedger.openWithPermit, (PAYER, _key(0), SALT, 1e6, until, _noPermit(), consent));
        calls[4] = abi.encodeCall(ILedger.openWithPermit2, (PAYER, _key(0), SALT, 1e6, 0, until, ""));
        calls[5] = abi.encodeCall(ILedger.topUp, (uid, 1e6));
        calls[6] = abi.encodeCall(ILedger.topUpWithAuthorization, (PAYER, uid, 1e6, 0, 0, until, ""));
        calls[7] = abi.encodeCall(ILedger.topUpWithPermit, (PAYER, uid, 1e6, 0, until, _noPermit(), ""));
        calls[8] = abi.encodeCall(ILedger.topUpWithPermit2, (PAYER, uid, 1e6, 0, until, ""));
        _fund(BOB, 10e6);
        for (uint256 i = 0; i < calls.length; ++i) {
            vm.prank(BOB);
            (bool ok, bytes memory reason) = address(ledger).call(calls[i]);
            vm.assertFalse(ok);
            vm.assertEq(bytes32(reason), bytes32(ILedger.LedgerHalted.selector));
        }
        vm.expectRevert(ILedger.LedgerHalted.selector);
        vm.prank(ALICE);
        ledger.requestClose(uid);
        vm.expectRevert(ILedger.LedgerHalted.selector);
        vm.prank(OPERATOR);
        ledger.register(registrations, requests);
        vm.expectRevert(ILedger.LedgerHalted.selector);
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(settlements), _noEpochs());
        vm.assertEq(token.balanceOf(address(ledger)), 10e6);
    }

    function test_WithdrawalsGoOn() external {
        uint248 uid = _openIn(BOOK_24, 0, ALICE, 1, 5e6);
        _settle(_settlement(BOOK_24, 2e9));
        _requestClose(ALICE, uid);
        _register(_registration(BOOK_24, _rows(_row(0, CLOSED, uid, 0, 3e9))), _oldest(1));
        _halt();
        ledger.withdraw(PROVIDER);
        vm.prank(ALICE);
        ledger.withdrawTo(BOB);
        vm.assertEq(token.balanceOf(PROVIDER), 2e6);
        vm.assertEq(token.balanceOf(BOB), 3e6);
    }
}
