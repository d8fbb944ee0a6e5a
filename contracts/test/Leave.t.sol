// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBookPaths} from "../src/interfaces/IBookPaths.sol";
import {ILedger} from "../src/interfaces/ILedger.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";
import {Reference} from "./utils/Reference.sol";
import {ReferenceBookPaths} from "./utils/ReferenceBookPaths.sol";

contract LeaveTest is LedgerFixture {
    uint16 private constant SLOT = 40;

    uint248 private _uid;
    ReferenceBookPaths.Slot[] private _book;

    /// @dev A book of 96: ALICE's channel of 5 tokens in slot 40, of which 2 are settled; BOB's of 3 in slot 95. Then a top-up of ALICE's
    /// channel and her close wait in the queue.
    function setUp() public override {
        super.setUp();
        _uid = _open(ALICE, 1, 5e6);
        uint248 other = _open(BOB, 1, 3e6);
        for (uint256 i = 0; i < 96; ++i) {
            _book.push();
        }
        _book[SLOT] = ReferenceBookPaths.Slot(_uid, _key(0).x, 5e9, 0);
        _book[95] = ReferenceBookPaths.Slot(other, _key(0).x, 3e9, 0);
        ILedger.Registration memory g = _registration(BOOK_96, _rows(_row(SLOT, OPENED, _uid, 5e9, 0), _row(95, OPENED, other, 3e9, 0)));
        g.newRoot = paths.rootOf(_book);
        ILedger.Request[] memory requests = _oldest(2);
        requests[1].row = 1;
        _register(g, requests);

        _book[SLOT].settledNanos = 2e9;
        Reference.Settlement memory s = _settlement(BOOK_96, 2e9);
        s.newRoot = paths.rootOf(_book);
        _settle(s);
        _topUp(STRANGER, _uid, 1e6);
        _requestClose(ALICE, _uid);
    }

    function _path() private view returns (IBookPaths.SlotPath memory) {
        return paths.pathOf(_book, SLOT);
    }

    function _expectRevert(uint32 book, IBookPaths.SlotPath memory path, bytes memory data) private {
        vm.expectRevert(data);
        ledger.leave(book, path);
    }

    function test_PaysWhatIsNotSettled() external {
        _halt();
        IBookPaths.SlotPath memory path = _path();
        vm.expectEmit(address(ledger));
        emit ILedger.Left(_uid, BOOK_96, 4e9);
        vm.prank(STRANGER);
        ledger.leave(BOOK_96, path);
        vm.assertEq(ledger.creditNanos(ALICE), 4e9);
        vm.assertEq(ledger.creditNanos(STRANGER), 0);
        vm.assertTrue(ledger.channel(_uid).closed);
        // The others can too, and then the ledger is empty.
        ledger.leave(BOOK_96, paths.pathOf(_book, 95));
        ledger.withdraw(ALICE);
        ledger.withdraw(BOB);
        ledger.withdraw(PROVIDER);
        vm.assertEq(token.balanceOf(ALICE), 4e6);
        vm.assertEq(token.balanceOf(BOB), 3e6);
        vm.assertEq(token.balanceOf(PROVIDER), 2e6);
        vm.assertEq(token.balanceOf(address(ledger)), 0);
    }

    function test_RevertWhen_TheLedgerIsNotHalted() external {
        _expectRevert(BOOK_96, _path(), abi.encodeWithSelector(ILedger.NotHalted.selector));
    }

    function test_RevertWhen_TheChannelHasLeft() external {
        _halt();
        ledger.leave(BOOK_96, _path());
        _expectRevert(BOOK_96, _path(), abi.encodeWithSelector(ILedger.ChannelClosing.selector, _uid));
        vm.assertEq(ledger.creditNanos(ALICE), 4e9);
    }

    function test_RevertWhen_TheChannelWasClosed() external {
        ILedger.Registration memory g = _registration(BOOK_96, _rows(_row(SLOT, CLOSED, _uid, 1e9, 4e9)));
        _register(g, _oldest(2));
        _halt();
        _expectRevert(BOOK_96, _path(), abi.encodeWithSelector(ILedger.ChannelClosing.selector, _uid));
    }

    function test_RevertWhen_TheChannelIsInNoBook() external {
        uint248 waiting = _open(BOB, 2, 1e6);
        _halt();
        IBookPaths.SlotPath memory path = _path();
        path.uid = waiting;
        _expectRevert(BOOK_96, path, abi.encodeWithSelector(ILedger.ChannelNotIncluded.selector, waiting));
        path.uid = 5;
        _expectRevert(BOOK_96, path, abi.encodeWithSelector(ILedger.ChannelUnknown.selector, 5));
        path.uid = 0;
        _expectRevert(BOOK_96, path, abi.encodeWithSelector(ILedger.ChannelUnknown.selector, 0));
    }

    function test_RevertWhen_ItIsAnotherBook() external {
        _halt();
        IBookPaths.SlotPath memory path = _path();
        uint256 root = paths.rootOf(_book);
        _expectRevert(BOOK_96 + 1, path, abi.encodeWithSelector(ILedger.RootMismatch.selector, BOOK_96 + 1, _emptyRoot(1), root));
        _expectRevert(4 << 24, path, abi.encodeWithSelector(ILedger.UnknownTier.selector, 4));
        // Of another size: the path has other levels, or the slot is not there.
        vm.expectRevert();
        ledger.leave(BOOK_24, path);
        vm.expectRevert();
        ledger.leave(BOOK_384, path);
    }

    /// @dev A path that is right in itself, for a slot that says something else than the book.
    function test_RevertWhen_AValueIsAnother() external {
        _halt();
        uint256 root = paths.rootOf(_book);
        for (uint256 i = 0; i < 5; ++i) {
            ReferenceBookPaths.Slot[] memory book = _book;
            if (i == 0) book[SLOT].settledNanos = 0;
            if (i == 1) book[SLOT].settledNanos -= 1;
            if (i == 2) book[SLOT].depositNanos += 1;
            if (i == 3) book[SLOT].keyX += 1;
            if (i == 4) (book[SLOT], book[SLOT + 1]) = (book[SLOT + 1], book[SLOT]);
            IBookPaths.SlotPath memory path = paths.pathOf(book, i == 4 ? SLOT + 1 : SLOT);
            uint256 other = paths.rootOf(book);
            _expectRevert(BOOK_96, path, abi.encodeWithSelector(ILedger.RootMismatch.selector, BOOK_96, root, other));
        }
    }

    function test_RevertWhen_ThePathLacksTheValueOrALevel() external {
        _halt();
        IBookPaths.SlotPath memory path = _path();
        path.settledNanos = 0;
        _expectRevert(BOOK_96, path, abi.encodeWithSelector(ReferenceBookPaths.PathLacksValue.selector, 0));
        path = _path();
        path.slot = SLOT + 1;
        _expectRevert(BOOK_96, path, abi.encodeWithSelector(ReferenceBookPaths.PathLacksValue.selector, 0));
        path = _path();
        path.staticPath = new uint256[16][](1);
        _expectRevert(BOOK_96, path, abi.encodeWithSelector(ReferenceBookPaths.PathLength.selector, 2, 1));
        path = _path();
        path.slot = 96;
        _expectRevert(BOOK_96, path, abi.encodeWithSelector(ReferenceBookPaths.SlotOutside.selector, 96, 96));
    }
}
