// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../src/interfaces/ILedger.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";
import {Reference} from "./utils/Reference.sol";

contract CancelOpenTest is LedgerFixture {
    function _overdueOpen() private returns (uint248 uid) {
        uid = _open(ALICE, 1, 5e6);
        _topUp(BOB, uid, 1e6);
        vm.warp(START + WINDOW + 1);
    }

    function test_GivesBackEverythingDeposited() external {
        uint248 uid = _overdueOpen();
        // A top-up of just now is not overdue, and comes back all the same.
        _topUp(ALICE, uid, 2e6);
        vm.expectEmit(address(ledger));
        emit ILedger.OpenCancelled(uid, 8e9);
        _cancelOpen(ALICE, uid, 0);
        vm.assertEq(ledger.creditNanos(ALICE), 8e9);
        vm.assertEq(ledger.creditNanos(BOB), 0);
        ILedger.Channel memory c = ledger.channel(uid);
        vm.assertTrue(c.closed && c.closeRequested && !c.included);
        vm.assertEq(c.depositNanos, 8e9);
        ledger.withdraw(ALICE);
        vm.assertEq(token.balanceOf(ALICE), 8e6);
        vm.assertEq(token.balanceOf(address(ledger)), 0);
    }

    function test_ACloseThatWasRequestedDoesNotStandInTheWay() external {
        uint248 uid = _overdueOpen();
        _requestClose(ALICE, uid);
        _cancelOpen(ALICE, uid, 0);
        vm.assertEq(ledger.creditNanos(ALICE), 6e9);
    }

    function test_TheChannelIsClosedForEver() external {
        uint248 uid = _overdueOpen();
        _cancelOpen(ALICE, uid, 0);
        bytes memory closing = abi.encodeWithSelector(ILedger.ChannelClosing.selector, uid);
        vm.expectRevert(closing);
        ledger.topUp(uid, 1e6);
        vm.expectRevert(closing);
        vm.prank(ALICE);
        ledger.requestClose(uid);
        vm.expectRevert(closing);
        _cancelOpen(ALICE, uid, 0);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelExists.selector, uid));
        vm.prank(ALICE);
        ledger.open(_key(0), bytes32(uint256(1)), 5e6);
    }

    function test_VoidRequestsAreServedInOrderWithoutRows() external {
        uint248 uid = _overdueOpen();
        uint248 other = _open(BOB, 1, 3e6);
        _requestClose(ALICE, uid);
        _cancelOpen(ALICE, uid, 0);

        // Settlement stays blocked until they are.
        Reference.Settlement[] memory settlements = _list(_settlement(BOOK_24, 0));
        vm.expectRevert(abi.encodeWithSelector(ILedger.RequestOverdue.selector, 0, START + WINDOW));
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(settlements), _noEpochs());

        ILedger.Request[] memory requests = _oldest(4);
        // Where a void request points is not looked at.
        (requests[0].registration, requests[0].row) = (9, 9);
        ILedger.Registration[] memory list = _list(_registration(BOOK_24, _rows(_row(0, OPENED, other, 3e9, 0))));
        uint64[3] memory indices = [uint64(0), 1, 3];
        for (uint256 i = 0; i < 3; ++i) {
            vm.expectEmit(address(ledger));
            emit ILedger.RequestVoided(uid, indices[i]);
        }
        vm.prank(OPERATOR);
        ledger.register(list, requests);
        vm.assertEq(ledger.queueHead(), 4);
        vm.assertTrue(ledger.channel(other).included);
        vm.assertFalse(ledger.channel(uid).included);
        _settle(_settlement(BOOK_24, 0));
    }

    function test_VoidRequestsAloneNeedNoBook() external {
        uint248 uid = _overdueOpen();
        _cancelOpen(ALICE, uid, 0);
        ILedger.Request[] memory requests = _oldest(1);
        // Anyone may, since they are overdue.
        vm.prank(STRANGER);
        ledger.register(new ILedger.Registration[](0), requests);
        vm.assertEq(ledger.queueHead(), 1);
        requests = _oldest(1);
        requests[0].amountNanos += 1;
        vm.expectRevert(abi.encodeWithSelector(ILedger.RequestMismatch.selector, 1));
        vm.prank(OPERATOR);
        ledger.register(new ILedger.Registration[](0), requests);
    }

    /// @dev What was paid back must never get into a book: it could be settled there.
    function test_RevertWhen_AVoidRequestHasARow() external {
        uint248 uid = _overdueOpen();
        _cancelOpen(ALICE, uid, 0);
        ILedger.Row[3] memory rows = [_row(0, OPENED, uid, 6e9, 0), _row(0, OPENED, uid, 5e9, 0), _row(0, TOUCHED, uid, 1e9, 0)];
        for (uint256 i = 0; i < rows.length; ++i) {
            ILedger.Registration[] memory list = _list(_registration(BOOK_24, _rows(rows[i])));
            ILedger.Request[] memory requests = _oldest(2);
            vm.expectRevert(abi.encodeWithSelector(ILedger.RowMismatch.selector, 0, 0));
            vm.prank(OPERATOR);
            ledger.register(list, requests);
        }
    }

    function test_RevertWhen_TheProviderWasFaster() external {
        uint248 uid = _overdueOpen();
        _register(_registration(BOOK_24, _rows(_row(0, OPENED, uid, 5e9, 0))), _oldest(1));
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelIncluded.selector, uid));
        _cancelOpen(ALICE, uid, 0);
        // Nor once it was closed.
        _requestClose(ALICE, uid);
        ILedger.Request[] memory requests = _oldest(2);
        _register(_registration(BOOK_24, _rows(_row(0, CLOSED, uid, 1e9, 6e9))), requests);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelIncluded.selector, uid));
        _cancelOpen(ALICE, uid, 0);
        vm.assertEq(ledger.creditNanos(ALICE), 6e9);
    }

    function test_RevertWhen_TheChannelIsUnknown() external {
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelUnknown.selector, 5));
        ledger.cancelOpen(5, 0, 0, 0);
    }

    function test_RevertWhen_ItIsNotTheOpening() external {
        uint248 uid = _overdueOpen();
        uint256 x = _key(0).x;
        bytes4 mismatch = ILedger.RequestMismatch.selector;
        vm.startPrank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(mismatch, 1));
        ledger.cancelOpen(uid, 1, 0, 1e9);
        vm.expectRevert(abi.encodeWithSelector(mismatch, 0));
        ledger.cancelOpen(uid, 0, x, 5e9 + 1);
        vm.expectRevert(abi.encodeWithSelector(mismatch, 0));
        ledger.cancelOpen(uid, 0, x + 1, 5e9);
        vm.expectRevert(abi.encodeWithSelector(mismatch, 2));
        ledger.cancelOpen(uid, 2, x, 5e9);
        vm.expectRevert(abi.encodeWithSelector(mismatch, type(uint64).max));
        ledger.cancelOpen(uid, type(uint64).max, x, 5e9);
        vm.stopPrank();
    }

    function test_RevertWhen_TheCallerIsNotThePayer() external {
        uint248 uid = _overdueOpen();
        address[3] memory callers = [BOB, PROVIDER, OPERATOR];
        for (uint256 i = 0; i < callers.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ILedger.NotPayer.selector, callers[i]));
            _cancelOpen(callers[i], uid, 0);
        }
    }

    function test_RevertWhen_TheOpeningIsNotOverdue() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        vm.warp(START + WINDOW);
        vm.expectRevert(abi.encodeWithSelector(ILedger.NotOverdue.selector, 0, START + WINDOW));
        _cancelOpen(ALICE, uid, 0);
        vm.warp(START + WINDOW + 1);
        _cancelOpen(ALICE, uid, 0);
    }

    function test_InAHaltedLedgerAnyoneMayForAnyOpening() external {
        uint248 a = _open(ALICE, 1, 5e6);
        vm.warp(START + HALT_WINDOW);
        // Not overdue when the ledger is halted.
        uint248 b = _open(BOB, 1, 3e6);
        vm.warp(START + HALT_WINDOW + 1);
        ledger.halt();
        _cancelOpen(STRANGER, a, 0);
        _cancelOpen(STRANGER, b, 1);
        vm.assertEq(ledger.creditNanos(ALICE), 5e9);
        vm.assertEq(ledger.creditNanos(BOB), 3e9);
        ledger.withdraw(BOB);
        vm.assertEq(token.balanceOf(BOB), 3e6);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelClosing.selector, b));
        _cancelOpen(BOB, b, 1);
    }
}
