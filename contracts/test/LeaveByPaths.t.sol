// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BookPaths} from "../src/BookPaths.sol";
import {IBookPaths} from "../src/interfaces/IBookPaths.sol";
import {ILedger} from "../src/interfaces/ILedger.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";
import {PoseidonBook} from "./utils/PoseidonBook.sol";

/// @title The last resort as it is deployed: a halted ledger, and paths of the books' own hash.
abstract contract LeaveByPathsFixture is LedgerFixture {
    uint16 internal constant SLOT = 200;

    PoseidonBook.Slot[] internal _book;
    PoseidonBook private _poseidon;
    uint248 internal _uid;

    /// @dev A book of 384: ALICE's channel of 5 tokens, of which 2 are settled, and BOB's of 3 in the last slot. Then the ledger is halted.
    function setUp() public override {
        super.setUp();
        // The ledger knows the address; the tables are at addresses that the code knows.
        vm.etch(address(paths), address(new BookPaths()).code);
        _poseidon = new PoseidonBook();
        _uid = _open(ALICE, 1, 5e6);
        uint248 other = _open(BOB, 1, 3e6);
        for (uint256 i = 0; i < 384; ++i) {
            _book.push();
        }
        _book[SLOT] = PoseidonBook.Slot(_uid, _key(0).x, 5e9, 0);
        _book[383] = PoseidonBook.Slot(other, _key(0).x, 3e9, 0);
        ILedger.Registration memory g = _registration(BOOK_384, _rows(_row(SLOT, OPENED, _uid, 5e9, 0), _row(383, OPENED, other, 3e9, 0)));
        (g.newRoot,) = _poseidon.pathOf(_book, SLOT);
        ILedger.Request[] memory requests = _oldest(2);
        requests[1].row = 1;
        _register(g, requests);
        _book[SLOT].settledNanos = 2e9;
        ILedger.Settlement memory s = _settlement(BOOK_384, 2e9);
        (s.newRoot,) = _poseidon.pathOf(_book, SLOT);
        _settle(s);
        _requestClose(ALICE, _uid);
        _halt();
    }

    function _path(uint16 slot) internal view returns (IBookPaths.SlotPath memory path) {
        (, path) = _poseidon.pathOf(_book, slot);
    }
}

contract LeaveByPathsTest is LeaveByPathsFixture {
    function test_EverybodyLeavesWithWhatIsTheirs() external {
        ledger.leave(BOOK_384, _path(SLOT));
        ledger.leave(BOOK_384, _path(383));
        ledger.withdraw(ALICE);
        ledger.withdraw(BOB);
        ledger.withdraw(PROVIDER);
        vm.assertEq(token.balanceOf(ALICE), 3e6);
        vm.assertEq(token.balanceOf(BOB), 3e6);
        vm.assertEq(token.balanceOf(PROVIDER), 2e6);
        vm.assertEq(token.balanceOf(address(ledger)), 0);
    }

    function test_RevertWhen_TheBookSaysOtherwise() external {
        uint256 root = ledger.bookRoot(BOOK_384);
        // The slot before it was settled, with a path that is right in itself.
        _book[SLOT].settledNanos = 0;
        IBookPaths.SlotPath memory path = _path(SLOT);
        uint256 other = IBookPaths(address(paths)).root(384, path);
        vm.assertNotEq(other, root);
        vm.expectRevert(abi.encodeWithSelector(ILedger.RootMismatch.selector, BOOK_384, root, other));
        ledger.leave(BOOK_384, path);
        _book[SLOT].settledNanos = 2e9;

        path = _path(SLOT);
        path.settledNanos = 0;
        vm.expectRevert(abi.encodeWithSelector(IBookPaths.NotInPath.selector, 0));
        ledger.leave(BOOK_384, path);
        path = _path(SLOT);
        path.slot = 384;
        vm.expectRevert(abi.encodeWithSelector(IBookPaths.NoSuchSlot.selector, 384, 384));
        ledger.leave(BOOK_384, path);
        path = _path(SLOT);
        path.keyX += P;
        vm.expectRevert(abi.encodeWithSelector(IBookPaths.NotCanonical.selector, path.keyX));
        ledger.leave(BOOK_384, path);
        path = _path(SLOT);
        path.dynamicPath = new uint256[16][](2);
        vm.expectRevert(abi.encodeWithSelector(IBookPaths.WrongPathLength.selector, 3, 2));
        ledger.leave(BOOK_384, path);
        ledger.leave(BOOK_384, _path(SLOT));
    }
}

/// @title What leaving costs.
contract LeaveByPathsSnapshotTest is LeaveByPathsFixture {
    function test_Leave() external {
        IBookPaths.SlotPath memory path = _path(SLOT);
        ledger.leave(BOOK_384, path);
        vm.assertLe(vm.snapshotGasLastCall("gas", "leave a book of 384"), 3_000_000);
    }
}
