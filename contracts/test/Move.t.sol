// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../src/interfaces/ILedger.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";
import {Reference} from "./utils/Reference.sol";

contract MoveTest is LedgerFixture {
    ILedger.Request[] private _none;

    function _expectRevert(ILedger.Registration[] memory list, bytes memory data) private {
        vm.expectRevert(data);
        vm.prank(OPERATOR);
        ledger.register(list, _none);
    }

    function _unpaired(uint248 uid) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ILedger.MoveUnpaired.selector, uid);
    }

    function _mismatch(uint248 uid) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ILedger.MoveMismatch.selector, uid);
    }

    /// @dev A channel with a deposit of 5 tokens in slot 3 of a book of 24, of which 2 are settled, moves to slot 9 of the next book.
    function _one() private returns (uint248 uid, ILedger.Registration[] memory list) {
        uid = _openIn(BOOK_24, 3, ALICE, 1, 5e6);
        list = _list(
            _registration(BOOK_24, _rows(_row(3, OUT, uid, 5e9, 2e9))), _registration(BOOK_24 + 1, _rows(_row(9, IN, uid, 5e9, 2e9)))
        );
    }

    // ------------------------------------------------------------------------------------------------------------------------ moving

    function test_MovesAChannel() external {
        (uint248 uid, ILedger.Registration[] memory list) = _one();
        _topUp(BOB, uid, 1e6);
        ILedger.Channel memory before = ledger.channel(uid);
        uint256 root = ledger.bookRoot(BOOK_24);
        registerStub.expect(Reference.registerInputs(address(ledger), root, list[0], 24), list[0].proof);
        registerStub.expect(Reference.registerInputs(address(ledger), _emptyRoot(0), list[1], 24), list[1].proof);
        vm.expectEmit(address(ledger));
        emit ILedger.MovedOut(uid, BOOK_24);
        vm.expectEmit(address(ledger));
        emit ILedger.Registered(BOOK_24, list[0].newRoot, 1);
        vm.expectEmit(address(ledger));
        emit ILedger.MovedIn(uid, BOOK_24 + 1, 9);
        vm.expectEmit(address(ledger));
        emit ILedger.Registered(BOOK_24 + 1, list[1].newRoot, 1);
        vm.prank(OPERATOR);
        ledger.register(list, _none);
        vm.assertEq(ledger.bookRoot(BOOK_24), list[0].newRoot);
        vm.assertEq(ledger.bookRoot(BOOK_24 + 1), list[1].newRoot);
        // Nothing else: no request is served, no credit given, the channel is as it was.
        vm.assertEq(ledger.queueHead(), 1);
        vm.assertEq(ledger.queueTail(), 2);
        vm.assertEq(keccak256(abi.encode(ledger.channel(uid))), keccak256(abi.encode(before)));
        vm.assertEq(ledger.creditNanos(ALICE) + ledger.creditNanos(PROVIDER), 0);
    }

    function test_MovesManyAcrossTiersAndWithinABook() external {
        uint248 a = _openIn(BOOK_24, 3, ALICE, 1, 5e6);
        uint248 b = _openIn(BOOK_96, 4, BOB, 1, 6e6);
        ILedger.Registration[] memory list = new ILedger.Registration[](3);
        list[0] = _registration(BOOK_24, _rows(_row(3, OUT, a, 5e9, 0), _row(20, IN, a, 5e9, 0)));
        list[1] = _registration(BOOK_96, _rows(_row(4, OUT, b, 6e9, 0)));
        list[2] = _registration(BOOK_384, _rows(_row(0, IN, b, 6e9, 0)));
        vm.prank(OPERATOR);
        ledger.register(list, _none);
        // In turn, through the same book twice.
        list[0] = _registration(BOOK_24, _rows(_row(20, OUT, a, 5e9, 0)));
        list[1] = _registration(BOOK_384, _rows(_row(0, OUT, b, 6e9, 0), _row(1, IN, a, 5e9, 0)));
        list[2] = _registration(BOOK_24, _rows(_row(20, IN, b, 6e9, 0)));
        vm.prank(OPERATOR);
        ledger.register(list, _none);
        vm.assertEq(ledger.bookRoot(BOOK_24), list[2].newRoot);
    }

    /// @dev A close that was asked is served where the channel is now.
    function test_AMovedChannelCloses() external {
        (uint248 uid, ILedger.Registration[] memory list) = _one();
        vm.prank(OPERATOR);
        ledger.register(list, _none);
        _requestClose(ALICE, uid);
        vm.warp(START + WINDOW + 1);
        list = _list(_registration(BOOK_24 + 1, _rows(_row(9, CLOSED, uid, 0, 3e9))));
        ILedger.Request[] memory requests = _oldest(1);
        vm.prank(ALICE);
        ledger.register(list, requests);
        vm.assertEq(ledger.creditNanos(ALICE), 3e9);
        vm.assertTrue(ledger.channel(uid).closed);
    }

    /// @dev Whoever asked to close may be moved meanwhile: nothing is served by it, and the deadline stays.
    function test_AClosingChannelMoves() external {
        (uint248 uid, ILedger.Registration[] memory list) = _one();
        _requestClose(ALICE, uid);
        vm.warp(START + WINDOW);
        vm.prank(OPERATOR);
        ledger.register(list, _none);
        vm.assertFalse(ledger.channel(uid).closed);
        vm.assertEq(ledger.queueHead(), 1);
    }

    // ------------------------------------------------------------------------------------------------------------------------ rights

    function test_RevertWhen_TheCallerIsNotTheOperator() external {
        (uint248 uid, ILedger.Registration[] memory list) = _one();
        _requestClose(ALICE, uid);
        address[4] memory callers = [PROVIDER, ALICE, BOB, STRANGER];
        for (uint256 i = 0; i < 8; ++i) {
            // Neither in time nor when the oldest request is overdue.
            if (i == 4) vm.warp(START + WINDOW + 1);
            vm.expectRevert(abi.encodeWithSelector(ILedger.NotOperator.selector, callers[i % 4]));
            vm.prank(callers[i % 4]);
            ledger.register(list, _none);
        }
    }

    function test_RevertWhen_ARequestIsOverdue() external {
        (, ILedger.Registration[] memory list) = _one();
        _open(BOB, 1, 5e6);
        vm.warp(START + WINDOW + 1);
        _expectRevert(list, abi.encodeWithSelector(ILedger.RequestOverdue.selector, 1, START + WINDOW));
    }

    function test_RevertWhen_TheLedgerIsHalted() external {
        (, ILedger.Registration[] memory list) = _one();
        _halt();
        _expectRevert(list, abi.encodeWithSelector(ILedger.LedgerHalted.selector));
    }

    function test_RevertWhen_NothingIsPresented() external {
        _expectRevert(new ILedger.Registration[](0), abi.encodeWithSelector(ILedger.RequestMismatch.selector, 0));
    }

    function test_RevertWhen_TheChannelIsInNoBook() external {
        uint248[3] memory uids = [_open(ALICE, 1, 5e6), 0, 77];
        for (uint256 i = 0; i < 3; ++i) {
            ILedger.Registration[] memory list = _list(
                _registration(BOOK_24, _rows(_row(3, OUT, uids[i], 5e9, 0))), _registration(BOOK_96, _rows(_row(3, IN, uids[i], 5e9, 0)))
            );
            _expectRevert(list, abi.encodeWithSelector(ILedger.ChannelNotIncluded.selector, uids[i]));
        }
        (uint248 uid, ILedger.Registration[] memory closed) = _closed();
        _expectRevert(closed, abi.encodeWithSelector(ILedger.ChannelNotIncluded.selector, uid));
    }

    function _closed() private returns (uint248 uid, ILedger.Registration[] memory list) {
        _register(_registration(BOOK_24, _rows(_row(0, OPENED, queued[0].uid, 5e9, 0))), _oldest(1));
        uid = queued[0].uid;
        _requestClose(ALICE, uid);
        _register(_registration(BOOK_24, _rows(_row(0, CLOSED, uid, 0, 5e9))), _oldest(1));
        list = _list(_registration(BOOK_24, _rows(_row(0, OUT, uid, 5e9, 0))), _registration(BOOK_96, _rows(_row(3, IN, uid, 5e9, 0))));
    }

    // ------------------------------------------------------------------------------------------------------------------------- pairs

    function test_RevertWhen_ARowHasNoPartner() external {
        (uint248 uid, ILedger.Registration[] memory list) = _one();
        ILedger.Registration[] memory part = _list(list[0]);
        _expectRevert(part, _unpaired(uid));
        part = _list(list[1]);
        _expectRevert(part, _unpaired(uid));
        // In before out.
        part = _list(list[1], list[0]);
        _expectRevert(part, _unpaired(uid));
        part = _list(_registration(BOOK_24, _rows(_row(1, IN, uid, 5e9, 2e9), _row(3, OUT, uid, 5e9, 2e9))));
        _expectRevert(part, _unpaired(uid));
    }

    function test_RevertWhen_ARowIsDoubled() external {
        (uint248 uid, ILedger.Registration[] memory list) = _one();
        ILedger.Registration[] memory three = new ILedger.Registration[](3);
        (three[0], three[1]) = (list[0], list[1]);
        // Into two slots.
        three[2] = _registration(BOOK_96, _rows(_row(9, IN, uid, 5e9, 2e9)));
        _expectRevert(three, _unpaired(uid));
        three = _list(list[0], _registration(BOOK_24 + 1, _rows(_row(8, IN, uid, 5e9, 2e9), _row(9, IN, uid, 5e9, 2e9))));
        _expectRevert(three, _unpaired(uid));
        // Out of two slots.
        three = new ILedger.Registration[](3);
        (three[0], three[1], three[2]) = (list[0], list[0], list[1]);
        _expectRevert(three, _unpaired(uid));
    }

    function test_RevertWhen_TheChannelStays() external {
        (uint248 uid, ILedger.Registration[] memory list) = _one();
        list[1] = _registration(BOOK_24, _rows(_row(3, IN, uid, 5e9, 2e9)));
        _expectRevert(list, _mismatch(uid));
    }

    function test_RevertWhen_AnythingIsAltered() external {
        (uint248 uid, ILedger.Registration[] memory list) = _one();
        uint248 other = _openIn(BOOK_24, 4, BOB, 1, 5e6);
        for (uint256 i = 0; i < 10; ++i) {
            ILedger.Row memory row = _row(9, IN, uid, 5e9, 2e9);
            if (i == 0) row.deltaNanos += 1;
            if (i == 1) row.deltaNanos -= 1;
            if (i == 2) row.refundNanos += 1;
            if (i == 3) row.refundNanos -= 1;
            if (i == 4) row.keyX ^= 1;
            if (i == 5) row.keyX = 0;
            if (i == 6) row.keyX += P;
            if (i == 7) row.uid = other;
            if (i == 8) row.uid = 0;
            if (i == 9) (row.deltaNanos, row.refundNanos) = (row.refundNanos, row.deltaNanos);
            list[1] = _registration(BOOK_24 + 1, _rows(row));
            _expectRevert(list, _mismatch(row.uid));
        }
    }

    /// @dev Each takes the oldest that went: two channels cannot be exchanged on the way.
    function test_RevertWhen_ChannelsComeInAnotherOrder() external {
        uint248 a = _openIn(BOOK_24, 3, ALICE, 1, 5e6);
        uint248 b = _openIn(BOOK_24, 4, BOB, 1, 6e6);
        ILedger.Registration memory out = _registration(BOOK_24, _rows(_row(3, OUT, a, 5e9, 0), _row(4, OUT, b, 6e9, 0)));
        ILedger.Registration[] memory list = _list(out, _registration(BOOK_96, _rows(_row(0, IN, b, 6e9, 0), _row(1, IN, a, 5e9, 0))));
        _expectRevert(list, _mismatch(b));
        list = _list(out, _registration(BOOK_96, _rows(_row(0, IN, a, 5e9, 0), _row(1, IN, b, 6e9, 0))));
        vm.prank(OPERATOR);
        ledger.register(list, _none);
    }

    // ------------------------------------------------------------------------------------------------------------------------- rows

    function test_RevertWhen_AMoveDoesMore() external {
        uint248 uid = _openIn(BOOK_24, 3, ALICE, 1, 5e6);
        uint8[12] memory flags = [0, 1, 3, 5, 7, 8, 11, 13, 16, 19, 25, 255];
        for (uint256 i = 0; i < flags.length; ++i) {
            ILedger.Registration[] memory list = _list(
                _registration(BOOK_24, _rows(_row(3, flags[i], uid, 5e9, 0))), _registration(BOOK_96, _rows(_row(3, IN, uid, 5e9, 0)))
            );
            _expectRevert(list, abi.encodeWithSelector(ILedger.RowMismatch.selector, 0, 0));
        }
    }

    /// @dev Requests are served, or channels moved: a row of a move is none that a request asked for.
    function test_RevertWhen_RequestsAreServedToo() external {
        (uint248 uid, ILedger.Registration[] memory list) = _one();
        _topUp(BOB, uid, 1e6);
        ILedger.Request[] memory requests = _oldest(1);
        for (uint256 i = 0; i < 2; ++i) {
            requests[0].registration = uint16(i);
            vm.expectRevert(abi.encodeWithSelector(ILedger.RowMismatch.selector, 0, 0));
            vm.prank(OPERATOR);
            ledger.register(list, requests);
        }
    }

    function test_RevertWhen_RowsAreOutOfOrderOrMissing() external {
        (uint248 uid, ILedger.Registration[] memory list) = _one();
        list[1].rows = new ILedger.Row[](0);
        _expectRevert(list, abi.encodeWithSelector(ILedger.RowMismatch.selector, 1, 0));
        list[1].rows = _rows(_row(24, IN, uid, 5e9, 2e9));
        _expectRevert(list, abi.encodeWithSelector(ILedger.RowsOutOfOrder.selector, 1, 0));
        list[1].rows = _rows(_row(9, IN, uid, 5e9, 2e9), _row(9, IN, uid, 5e9, 2e9));
        _expectRevert(list, abi.encodeWithSelector(ILedger.RowsOutOfOrder.selector, 1, 1));
        list[1].book = 9 << 24;
        _expectRevert(list, abi.encodeWithSelector(ILedger.UnknownTier.selector, 9));
    }

    function test_RevertWhen_ANumberIsNotCanonical() external {
        (, ILedger.Registration[] memory list) = _one();
        bytes memory sent = abi.encodeCall(ILedger.register, (list, _none));
        // The settled amount of both rows, with a bit above its 64: the same content, but no number.
        uint256 found = 0;
        for (uint256 at = 4; at < sent.length; at += 32) {
            uint256 word;
            assembly ("memory-safe") {
                word := mload(add(add(sent, 32), at))
                if eq(word, 2000000000) {
                    mstore(add(add(sent, 32), at), or(word, shl(64, 1)))
                    found := add(found, 1)
                }
            }
        }
        vm.assertEq(found, 2);
        vm.prank(OPERATOR);
        (bool ok,) = address(ledger).call(sent);
        vm.assertFalse(ok);
    }

    // ------------------------------------------------------------------------------------------------------------------------- fuzz

    /// @dev Channels of one book go to any slots of another, in their order; whichever of them is changed, all are refused.
    function testFuzz_AnyChannelsMoveAsTheyAre(uint256 seed, uint256 count, uint256 which, uint256 what) external {
        count = _bound(count, 1, 12);
        (which, what) = (which % count, what % 6);
        ILedger.Row[] memory outs = new ILedger.Row[](count);
        ILedger.Row[] memory ins = new ILedger.Row[](count);
        for (uint256 i = 0; i < count; ++i) {
            uint256 random = uint256(keccak256(abi.encode(seed, i)));
            uint64 settled = uint64(random % 5e9);
            uint248 uid = _openIn(BOOK_24, uint16(2 * i), ALICE, i, 5e6);
            outs[i] = _row(uint16(2 * i), OUT, uid, 5e9, settled);
            ins[i] = _row(uint16(8 * i + (random >> 64) % 8), IN, uid, 5e9, settled);
        }
        ILedger.Registration[] memory list = _list(_registration(BOOK_24, outs), _registration(BOOK_96, ins));
        ILedger.Row memory row = ins[which];
        uint16 slot = row.slot;
        if (what == 0) row.deltaNanos ^= uint64(1 << (seed % 64));
        if (what == 1) row.refundNanos ^= uint64(1 << (seed % 64));
        if (what == 2) row.keyX ^= 1 << (seed % 256);
        if (what == 3) row.uid ^= uint248(1 << (seed % 248));
        if (what == 4) row.slot = 96;
        if (what == 5) row.flags ^= uint8(1 << (seed % 8));
        vm.prank(OPERATOR);
        (bool ok,) = address(ledger).call(abi.encodeCall(ILedger.register, (list, _none)));
        vm.assertFalse(ok);
        (row.deltaNanos, row.refundNanos, row.keyX, row.uid) = (5e9, outs[which].refundNanos, outs[which].keyX, outs[which].uid);
        (row.slot, row.flags) = (slot, IN);
        vm.prank(OPERATOR);
        ledger.register(list, _none);
        vm.assertEq(ledger.bookRoot(BOOK_96), list[1].newRoot);
    }
}
