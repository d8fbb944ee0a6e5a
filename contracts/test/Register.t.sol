// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../src/interfaces/ILedger.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";
import {Reference} from "./utils/Reference.sol";
import {StubVerifier} from "./utils/StubVerifier.sol";

contract RegisterTest is LedgerFixture {
    function _expectRevert(ILedger.Registration memory g, ILedger.Request[] memory requests, bytes memory data) private {
        ILedger.Registration[] memory list = _list(g);
        vm.expectRevert(data);
        vm.prank(OPERATOR);
        ledger.register(list, requests);
    }

    function _rowMismatch(uint256 registration, uint256 row) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ILedger.RowMismatch.selector, registration, row);
    }

    function _outOfOrder(uint256 row) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ILedger.RowsOutOfOrder.selector, 0, row);
    }

    function _mismatch(uint64 index) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ILedger.RequestMismatch.selector, index);
    }

    // ----------------------------------------------------------------------------------------------------------------------- serving

    function test_IncludesAnOpen() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        ILedger.Registration memory g = _registration(BOOK_96, _rows(_row(90, OPENED, uid, 5e9, 0)));
        ILedger.Registration[] memory list = _list(g);
        ILedger.Request[] memory requests = _oldest(1);
        vm.expectEmit(address(ledger));
        emit ILedger.Included(uid, BOOK_96, 90);
        vm.expectEmit(address(ledger));
        emit ILedger.Registered(BOOK_96, g.newRoot, 1);
        vm.prank(OPERATOR);
        ledger.register(list, requests);
        vm.assertEq(ledger.bookRoot(BOOK_96), g.newRoot);
        vm.assertEq(ledger.queueHead(), 1);
        vm.assertTrue(ledger.channel(uid).included);
        vm.assertEq(ledger.channel(uid).depositNanos, 5e9);
        vm.assertEq(ledger.channel(uid).payer, ALICE);
        vm.assertEq(ledger.creditNanos(ALICE), 0);
    }

    function test_IncludesATopUp() external {
        uint248 uid = _openIn(BOOK_24, 3, ALICE, 1, 5e6);
        _topUp(BOB, uid, 2e6);
        ILedger.Registration memory g = _registration(BOOK_24, _rows(_row(3, TOUCHED, uid, 2e9, 0)));
        _register(g, _oldest(1));
        vm.assertEq(ledger.bookRoot(BOOK_24), g.newRoot);
        vm.assertEq(ledger.queueHead(), 2);
        vm.assertEq(ledger.creditNanos(BOB), 0);
    }

    function test_CreditsTheRefundOfAClose() external {
        uint248 uid = _openIn(BOOK_24, 3, ALICE, 1, 5e6);
        _requestClose(ALICE, uid);
        ILedger.Registration[] memory list = _list(_registration(BOOK_24, _rows(_row(3, CLOSED, uid, 0, 4e9 + 1))));
        ILedger.Request[] memory requests = _oldest(1);
        vm.expectEmit(address(ledger));
        emit ILedger.Closed(uid, BOOK_24, 4e9 + 1);
        vm.prank(OPERATOR);
        ledger.register(list, requests);
        vm.assertEq(ledger.creditNanos(ALICE), 4e9 + 1);
        ILedger.Channel memory c = ledger.channel(uid);
        vm.assertTrue(c.included && c.closeRequested && c.closed);
        vm.assertEq(token.balanceOf(address(ledger)), 5e6);
    }

    function test_ManyRequestsOfOneChannelMeetInOneRow() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        _topUp(ALICE, uid, 1e6);
        _topUp(BOB, uid, 2e6);
        _requestClose(ALICE, uid);
        _register(_registration(BOOK_24, _rows(_row(0, 7, uid, 8e9, 8e9))), _oldest(4));
        ILedger.Channel memory c = ledger.channel(uid);
        vm.assertTrue(c.included && c.closed);
        vm.assertEq(ledger.creditNanos(ALICE), 8e9);
        vm.assertEq(ledger.queueHead(), 4);
    }

    function test_RequestsMayGoToManyBooks() external {
        uint248 a = _open(ALICE, 1, 5e6);
        uint248 b = _open(BOB, 1, 6e6);
        uint248 c = _open(ALICE, 2, 7e6);
        ILedger.Registration[] memory list = _list(
            _registration(BOOK_24, _rows(_row(2, OPENED, c, 7e9, 0), _row(23, OPENED, a, 5e9, 0))),
            _registration(BOOK_384, _rows(_row(383, OPENED, b, 6e9, 0)))
        );
        ILedger.Request[] memory requests = _oldest(3);
        (requests[0].registration, requests[0].row) = (0, 1);
        (requests[1].registration, requests[1].row) = (1, 0);
        (requests[2].registration, requests[2].row) = (0, 0);
        vm.prank(OPERATOR);
        ledger.register(list, requests);
        vm.assertEq(ledger.queueHead(), 3);
        vm.assertTrue(ledger.channel(a).included && ledger.channel(b).included && ledger.channel(c).included);
    }

    function test_OneBookTwiceStartsFromTheRootLeftBefore() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        _topUp(ALICE, uid, 1e6);
        ILedger.Registration memory a = _registration(BOOK_24, _rows(_row(0, OPENED, uid, 5e9, 0)));
        ILedger.Registration memory b = _registration(BOOK_24, _rows(_row(0, TOUCHED, uid, 1e9, 0)));
        registerStub.expect(Reference.registerInputs(address(ledger), _emptyRoot(0), a, 24), a.proof);
        registerStub.expect(Reference.registerInputs(address(ledger), a.newRoot, b, 24), b.proof);
        ILedger.Request[] memory requests = _oldest(2);
        requests[1].registration = 1;
        ILedger.Registration[] memory list = _list(a, b);
        vm.prank(OPERATOR);
        ledger.register(list, requests);
        vm.assertEq(ledger.bookRoot(BOOK_24), b.newRoot);

        // The other way round the second proof starts from a root it was not made for.
        uint248 other = _open(ALICE, 2, 5e6);
        _topUp(ALICE, other, 1e6);
        uint256 root = ledger.bookRoot(BOOK_24);
        a = _registration(BOOK_24, _rows(_row(1, OPENED, other, 5e9, 0)));
        b = _registration(BOOK_24, _rows(_row(1, TOUCHED, other, 1e9, 0)));
        registerStub.expect(Reference.registerInputs(address(ledger), root, a, 24), a.proof);
        registerStub.expect(Reference.registerInputs(address(ledger), a.newRoot, b, 24), b.proof);
        requests = _oldest(2);
        requests[0].registration = 1;
        list = _list(b, a);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_24));
        vm.prank(OPERATOR);
        ledger.register(list, requests);
    }

    function test_ServesAPrefixOfTheQueue() external {
        uint248 a = _open(ALICE, 1, 5e6);
        uint248 b = _open(BOB, 1, 6e6);
        _register(_registration(BOOK_24, _rows(_row(0, OPENED, a, 5e9, 0))), _oldest(1));
        vm.assertEq(ledger.queueHead(), 1);
        vm.assertFalse(ledger.channel(b).included);
        _register(_registration(BOOK_24, _rows(_row(1, OPENED, b, 6e9, 0))), _oldest(1));
        vm.assertEq(ledger.queueHead(), 2);
    }

    function test_GivesTheVerifierTheInputsOfTheSpecification() external {
        uint32[4] memory books = [BOOK_24, BOOK_96, BOOK_384, BOOK_31];
        for (uint256 i = 0; i < books.length; ++i) {
            uint16 last = uint16(_slots(books[i]) - 1);
            uint248 a = _open(ALICE, 2 * i, 5e6);
            uint248 b = _open(BOB, 2 * i + 1, 6e6);
            ILedger.Registration memory g = _registration(books[i], _rows(_row(last / 2, OPENED, b, 6e9, 0), _row(last, OPENED, a, 5e9, 0)));
            ILedger.Request[] memory requests = _oldest(2);
            requests[0].row = 1;
            registerStub.expect(Reference.registerInputs(address(ledger), _emptyRoot(i), g, last + 1), g.proof);
            _register(g, requests);

            uint256 root = ledger.bookRoot(books[i]);
            _requestClose(BOB, b);
            g = _registration(books[i], _rows(_row(last / 2, CLOSED, b, 0, 5)));
            registerStub.expect(Reference.registerInputs(address(ledger), root, g, last + 1), g.proof);
            _register(g, _oldest(1));
        }
    }

    // ------------------------------------------------------------------------------------------------------------------------ rights

    function test_AnyoneMayServeWhenTheOldestIsOverdue() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        ILedger.Registration[] memory list = _list(_registration(BOOK_24, _rows(_row(0, OPENED, uid, 5e9, 0))));
        ILedger.Request[] memory requests = _oldest(1);
        vm.warp(START + WINDOW);
        vm.expectRevert(abi.encodeWithSelector(ILedger.NotOperator.selector, STRANGER));
        vm.prank(STRANGER);
        ledger.register(list, requests);

        vm.warp(START + WINDOW + 1);
        vm.prank(STRANGER);
        ledger.register(list, requests);
        vm.assertTrue(ledger.channel(uid).included);
    }

    function test_AStrangerLosesTheRightOnceTheOverdueAreServed() external {
        uint248 a = _open(ALICE, 1, 5e6);
        vm.warp(START + WINDOW);
        uint248 b = _open(BOB, 1, 5e6);
        vm.warp(START + WINDOW + 1);
        ILedger.Registration[] memory list = _list(_registration(BOOK_24, _rows(_row(0, OPENED, a, 5e9, 0))));
        ILedger.Request[] memory requests = _oldest(1);
        vm.prank(STRANGER);
        ledger.register(list, requests);

        list = _list(_registration(BOOK_24, _rows(_row(1, OPENED, b, 5e9, 0))));
        requests = _oldest(1);
        vm.expectRevert(abi.encodeWithSelector(ILedger.NotOperator.selector, STRANGER));
        vm.prank(STRANGER);
        ledger.register(list, requests);
    }

    /// @dev An overdue open and a close that was asked just now, in one row.
    function _overdueOpenFreshClose() private returns (uint248 uid, ILedger.Registration[] memory list, ILedger.Request[] memory both) {
        uid = _open(ALICE, 1, 5e6);
        vm.warp(START + WINDOW + 1);
        _requestClose(ALICE, uid);
        list = _list(_registration(BOOK_24, _rows(_row(0, 7, uid, 5e9, 5e9))));
        both = _oldest(2);
    }

    function test_RevertWhen_AStrangerServesAFreshRequestWithAnOverdueOne() external {
        (, ILedger.Registration[] memory list, ILedger.Request[] memory both) = _overdueOpenFreshClose();
        address[3] memory callers = [ALICE, PROVIDER, STRANGER];
        for (uint256 i = 0; i < callers.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ILedger.NotOperator.selector, callers[i]));
            vm.prank(callers[i]);
            ledger.register(list, both);
        }
        // The close has the whole window from when it was asked.
        vm.warp(START + 2 * WINDOW + 1);
        vm.expectRevert(abi.encodeWithSelector(ILedger.NotOperator.selector, ALICE));
        vm.prank(ALICE);
        ledger.register(list, both);
        vm.warp(START + 2 * WINDOW + 2);
        vm.prank(ALICE);
        ledger.register(list, both);
        vm.assertEq(ledger.creditNanos(ALICE), 5e9);
    }

    function test_AStrangerMayServeTheOverdueRequestAlone() external {
        (uint248 uid,,) = _overdueOpenFreshClose();
        ILedger.Registration[] memory list = _list(_registration(BOOK_24, _rows(_row(0, OPENED, uid, 5e9, 0))));
        ILedger.Request[] memory requests = _oldest(1);
        vm.prank(STRANGER);
        ledger.register(list, requests);
        vm.assertEq(ledger.queueHead(), 1);
        vm.assertTrue(ledger.channel(uid).included);
        vm.assertFalse(ledger.channel(uid).closed);
    }

    function test_TheOperatorMayServeFreshRequestsWithOverdueOnes() external {
        (uint248 uid, ILedger.Registration[] memory list, ILedger.Request[] memory both) = _overdueOpenFreshClose();
        vm.prank(OPERATOR);
        ledger.register(list, both);
        vm.assertEq(ledger.queueHead(), 2);
        vm.assertTrue(ledger.channel(uid).closed);
    }

    function test_RevertWhen_AStrangerPresentsNothingOrMoreThanWait() external {
        ILedger.Registration[] memory list = new ILedger.Registration[](0);
        bytes memory notOperator = abi.encodeWithSelector(ILedger.NotOperator.selector, STRANGER);
        for (uint256 count = 0; count <= 1; ++count) {
            vm.expectRevert(notOperator);
            vm.prank(STRANGER);
            ledger.register(list, new ILedger.Request[](count));
        }
        _open(ALICE, 1, 5e6);
        vm.warp(START + WINDOW + 1);
        vm.expectRevert(notOperator);
        vm.prank(STRANGER);
        ledger.register(list, new ILedger.Request[](2));
        vm.expectRevert(notOperator);
        vm.prank(STRANGER);
        ledger.register(list, new ILedger.Request[](0));
    }

    function test_RevertWhen_TheCallerIsNotTheOperator() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        ILedger.Registration[] memory list = _list(_registration(BOOK_24, _rows(_row(0, OPENED, uid, 5e9, 0))));
        ILedger.Request[] memory requests = _oldest(1);
        address[3] memory callers = [PROVIDER, ALICE, STRANGER];
        for (uint256 i = 0; i < callers.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ILedger.NotOperator.selector, callers[i]));
            vm.prank(callers[i]);
            ledger.register(list, requests);
        }
    }

    // ---------------------------------------------------------------------------------------------------------------------- requests

    function test_RevertWhen_NoRequestIsPresented() external {
        ILedger.Request[] memory none = new ILedger.Request[](0);
        vm.expectRevert(_mismatch(0));
        vm.prank(OPERATOR);
        ledger.register(new ILedger.Registration[](0), none);
        uint248 uid = _open(ALICE, 1, 5e6);
        // Without a request there are moves alone (Move.t.sol).
        _expectRevert(_registration(BOOK_24, _rows(_row(0, OPENED, uid, 5e9, 0))), none, _rowMismatch(0, 0));
    }

    function test_RevertWhen_MoreArePresentedThanWait() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        ILedger.Request[] memory requests = new ILedger.Request[](2);
        (requests[0], requests[1]) = (queued[0], queued[0]);
        bytes memory exhausted = abi.encodeWithSelector(ILedger.QueueExhausted.selector, 1);
        _expectRevert(_registration(BOOK_24, _rows(_row(0, OPENED, uid, 5e9, 0))), requests, exhausted);
    }

    function test_RevertWhen_ARequestIsNotTheQueuedOne() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        _topUp(ALICE, uid, 5e6);
        ILedger.Registration memory g = _registration(BOOK_24, _rows(_row(0, OPENED, uid, 10e9, 0)));
        for (uint256 i = 0; i < 5; ++i) {
            ILedger.Request[] memory requests = _oldest(2);
            if (i == 0) requests[1].kind = ILedger.Kind.Close;
            if (i == 1) requests[1].uid ^= 1;
            if (i == 2) requests[1].keyX = 1;
            if (i == 3) requests[1].amountNanos += 1;
            if (i == 4) requests[1] = requests[0];
            _expectRevert(g, requests, _mismatch(1));
        }
    }

    function test_RevertWhen_ARequestIsServedTwice() external {
        uint248 uid = _openIn(BOOK_24, 0, ALICE, 1, 5e6);
        _topUp(ALICE, uid, 5e6);
        ILedger.Request[] memory requests = new ILedger.Request[](1);
        requests[0] = queued[0];
        _expectRevert(_registration(BOOK_24, _rows(_row(1, OPENED, uid, 5e9, 0))), requests, _mismatch(1));
    }

    function test_RevertWhen_ARequestIsSkipped() external {
        _open(ALICE, 1, 5e6);
        uint248 b = _open(BOB, 1, 5e6);
        ILedger.Request[] memory requests = new ILedger.Request[](1);
        requests[0] = queued[1];
        _expectRevert(_registration(BOOK_24, _rows(_row(1, OPENED, b, 5e9, 0))), requests, _mismatch(0));
    }

    // -------------------------------------------------------------------------------------------------------------------------- rows

    function test_RevertWhen_ARequestNamesARowThatIsNotThere() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        ILedger.Registration memory g = _registration(BOOK_24, _rows(_row(0, OPENED, uid, 5e9, 0)));
        ILedger.Request[] memory requests = _oldest(1);
        requests[0].row = 1;
        _expectRevert(g, requests, _rowMismatch(0, 1));
        requests[0].row = 0;
        requests[0].registration = 1;
        _expectRevert(g, requests, _rowMismatch(1, 0));
    }

    function test_RevertWhen_ARowIsNotWhatWasAsked() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        ILedger.Row memory good = _row(0, OPENED, uid, 5e9, 0);
        for (uint256 i = 0; i < 12; ++i) {
            ILedger.Row memory bad = _row(0, OPENED, uid, 5e9, 0);
            if (i == 0) bad.uid ^= 1;
            if (i == 1) bad.keyX = _key(1).x;
            if (i == 2) bad.keyX = 0;
            if (i == 3) bad.deltaNanos += 1;
            if (i == 4) bad.deltaNanos -= 1;
            if (i == 5) bad.refundNanos = 1;
            if (i == 6) bad.flags = 0;
            if (i == 7) bad.flags = TOUCHED;
            if (i == 8) bad.flags = 2;
            if (i == 9) bad.flags = 7;
            if (i == 10) bad.flags = OPENED | 8;
            if (i == 11) bad.flags = OPENED | 128;
            _expectRevert(_registration(BOOK_24, _rows(bad)), _oldest(1), _rowMismatch(0, 0));
        }
        _register(_registration(BOOK_24, _rows(good)), _oldest(1));
    }

    function test_RevertWhen_ATopUpRowClaimsMore() external {
        uint248 uid = _openIn(BOOK_24, 0, ALICE, 1, 5e6);
        _topUp(ALICE, uid, 1e6);
        for (uint256 i = 0; i < 5; ++i) {
            ILedger.Row memory bad = _row(0, TOUCHED, uid, 1e9, 0);
            if (i == 0) bad.flags = OPENED;
            if (i == 1) bad.flags = CLOSED;
            if (i == 2) bad.keyX = _key(0).x;
            if (i == 3) bad.refundNanos = 1;
            if (i == 4) bad.deltaNanos = 0;
            _expectRevert(_registration(BOOK_24, _rows(bad)), _oldest(1), _rowMismatch(0, 0));
        }
    }

    function test_RevertWhen_ACloseRowClaimsMore() external {
        uint248 uid = _openIn(BOOK_24, 0, ALICE, 1, 5e6);
        _requestClose(ALICE, uid);
        for (uint256 i = 0; i < 4; ++i) {
            ILedger.Row memory bad = _row(0, CLOSED, uid, 0, 5e9);
            if (i == 0) bad.flags = 7;
            if (i == 1) bad.flags = TOUCHED;
            if (i == 2) bad.keyX = _key(0).x;
            if (i == 3) bad.deltaNanos = 1;
            _expectRevert(_registration(BOOK_24, _rows(bad)), _oldest(1), _rowMismatch(0, 0));
        }
    }

    function test_RevertWhen_NoRequestAskedForARow() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        uint8[4] memory flags = [0, TOUCHED, OPENED, CLOSED];
        for (uint256 i = 0; i < flags.length; ++i) {
            ILedger.Row memory extra = _row(1, flags[i], uid, 0, 0);
            _expectRevert(_registration(BOOK_24, _rows(_row(0, OPENED, uid, 5e9, 0), extra)), _oldest(1), _rowMismatch(0, 1));
        }
    }

    function test_RevertWhen_ARegistrationHasNoRows() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        ILedger.Registration[] memory list =
            _list(_registration(BOOK_24, _rows(_row(0, OPENED, uid, 5e9, 0))), _registration(BOOK_96, new ILedger.Row[](0)));
        ILedger.Request[] memory requests = _oldest(1);
        vm.expectRevert(_rowMismatch(1, 0));
        vm.prank(OPERATOR);
        ledger.register(list, requests);
    }

    function test_RevertWhen_AnotherChannelsRequestIsPutOnARow() external {
        uint248 a = _open(ALICE, 1, 5e6);
        _open(BOB, 1, 5e6);
        _expectRevert(_registration(BOOK_24, _rows(_row(0, OPENED, a, 10e9, 0))), _oldest(2), _rowMismatch(0, 0));
    }

    function test_RevertWhen_SlotsDoNotAscend() external {
        uint248 a = _open(ALICE, 1, 5e6);
        uint248 b = _open(BOB, 1, 5e6);
        ILedger.Request[] memory requests = _oldest(2);
        requests[1].row = 1;
        for (uint16 slot = 0; slot <= 5; ++slot) {
            ILedger.Row[] memory rows = _rows(_row(5, OPENED, a, 5e9, 0), _row(slot, OPENED, b, 5e9, 0));
            _expectRevert(_registration(BOOK_24, rows), requests, _outOfOrder(1));
        }
    }

    function test_RevertWhen_ASlotIsNotInTheBook() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        uint16[3] memory slots = [24, 25, type(uint16).max];
        for (uint256 i = 0; i < slots.length; ++i) {
            _expectRevert(_registration(BOOK_24, _rows(_row(slots[i], OPENED, uid, 5e9, 0))), _oldest(1), _outOfOrder(0));
        }
    }

    // ---------------------------------------------------------------------------------------------------------- ranges and the proof

    function test_RevertWhen_TheTierIsUnknown() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        ILedger.Registration memory g = _registration(BOOK_24, _rows(_row(0, OPENED, uid, 5e9, 0)));
        g.book = 4 << 24;
        _expectRevert(g, _oldest(1), abi.encodeWithSelector(ILedger.UnknownTier.selector, 4));
    }

    function test_RevertWhen_ACoefficientIsNotCanonical() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        ILedger.Registration memory g = _registration(BOOK_24, _rows(_row(0, OPENED, uid, 5e9, 0)));
        g.newRoot += P;
        _expectRevert(g, _oldest(1), abi.encodeWithSelector(ILedger.FieldOverflow.selector, g.newRoot));
        g.newRoot -= P;
        g.commitment = P;
        _expectRevert(g, _oldest(1), abi.encodeWithSelector(ILedger.FieldOverflow.selector, P));
    }

    function test_RevertWhen_TheProofIsRejected() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        registerStub.set(StubVerifier.Mode.Reject);
        _expectRevert(
            _registration(BOOK_24, _rows(_row(0, OPENED, uid, 5e9, 0))),
            _oldest(1),
            abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_24)
        );
    }

    function test_RevertWhen_TheProofIsForAnotherChainOrLedger() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        ILedger.Registration memory g = _registration(BOOK_24, _rows(_row(0, OPENED, uid, 5e9, 0)));
        bytes memory rejected = abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_24);
        registerStub.expect(Reference.registerInputs(address(this), _emptyRoot(0), g, 24), g.proof);
        _expectRevert(g, _oldest(1), rejected);
        registerStub.expect(Reference.registerInputs(address(ledger), _emptyRoot(0), g, 24), g.proof);
        vm.chainId(1);
        _expectRevert(g, _oldest(1), rejected);
    }

    function test_TheSettleVerifierIsNotAsked() external {
        settleStub.set(StubVerifier.Mode.Reject);
        uint248 uid = _openIn(BOOK_24, 0, ALICE, 1, 5e6);
        vm.assertTrue(ledger.channel(uid).included);
        registerStub.set(StubVerifier.Mode.Reject);
        settleStub.set(StubVerifier.Mode.Accept);
        _settle(_settlement(BOOK_24, 5));
    }
}
