// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Poseidon} from "../src/Poseidon.sol";
import {IBookPaths} from "../src/interfaces/IBookPaths.sol";
import {ILedger} from "../src/interfaces/ILedger.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";
import {Reference} from "./utils/Reference.sol";

/// @title The hashes of one node each, to build a book with.
contract PoseidonNodes is Poseidon {
    function leaf(uint256 keyX, uint256 uid, uint256 depositNanos) external view returns (uint256) {
        return _hash3(_tables(), STATIC_LEAF, keyX, uid, depositNanos);
    }

    function node(bool isStatic, uint256[16] calldata group) external view returns (uint256) {
        return _hash16(_tables(), isStatic ? STATIC_NODE : DYNAMIC_NODE, group);
    }

    function book(uint256 staticRoot, uint256 dynamicRoot) external view returns (uint256) {
        return _hash2(_tables(), BOOK, staticRoot, dynamicRoot);
    }
}

/// @title A halted ledger with the true book paths: a book of 24 slots of which two are taken, hashed by Poseidon.
contract LeaveByPathsTest is LedgerFixture {
    PoseidonNodes private _nodes;
    uint248[2] private _uids;
    /// @dev Slots 3 and 17: in different groups.
    uint16[2] private _at = [3, 17];
    uint64[2] private _deposits = [5e9, 3e9];
    uint64[2] private _settled = [2e9, 0];

    function setUp() public override {
        super.setUp();
        _nodes = new PoseidonNodes();
        address bookPaths = vm.deployCode("BookPaths.sol:BookPaths");
        ILedger.Terms memory terms = _terms(PROVIDER, OPERATOR, address(token), 0);
        ledger = ILedger(vm.deployCode("Ledger.sol:Ledger", abi.encode(terms, bookPaths, _tiers())));
        _uids = [_open(ALICE, 1, 5e6), _open(BOB, 1, 3e6)];
        ILedger.Registration memory g = _registration(BOOK_24, _rows(_row(3, OPENED, _uids[0], 5e9, 0), _row(17, OPENED, _uids[1], 3e9, 0)));
        ILedger.Request[] memory requests = _oldest(2);
        requests[1].row = 1;
        _register(g, requests);
        Reference.Settlement memory s = _settlement(BOOK_24, 2e9);
        s.newRoot = _nodes.book(_top(true), _top(false));
        _settle(s);
    }

    /// @dev The groups of the lowest level: slots 0 to 15, then 16 to 23 with zeros after them.
    function _group(bool isStatic, uint256 which) private view returns (uint256[16] memory group) {
        uint256 empty = isStatic ? _nodes.leaf(0, 0, 0) : 0;
        for (uint256 i = 0; i < (which == 0 ? 16 : 8); ++i) {
            group[i] = empty;
        }
        group[_at[which] % 16] = isStatic ? _nodes.leaf(_key(0).x, _uids[which], _deposits[which]) : _settled[which];
    }

    function _above(bool isStatic) private view returns (uint256[16] memory group) {
        (group[0], group[1]) = (_nodes.node(isStatic, _group(isStatic, 0)), _nodes.node(isStatic, _group(isStatic, 1)));
    }

    function _top(bool isStatic) private view returns (uint256) {
        return _nodes.node(isStatic, _above(isStatic));
    }

    function _path(uint256 which) private view returns (IBookPaths.SlotPath memory path) {
        (path.slot, path.keyX, path.uid) = (_at[which], _key(0).x, _uids[which]);
        (path.depositNanos, path.settledNanos) = (_deposits[which], _settled[which]);
        (path.staticPath, path.dynamicPath) = (new uint256[16][](2), new uint256[16][](2));
        (path.staticPath[0], path.staticPath[1]) = (_group(true, which), _above(true));
        (path.dynamicPath[0], path.dynamicPath[1]) = (_group(false, which), _above(false));
    }

    function test_EverybodyLeavesWithTheirOwn() external {
        _halt();
        ledger.leave(BOOK_24, _path(0));
        ledger.leave(BOOK_24, _path(1));
        vm.assertEq(ledger.creditNanos(ALICE), 3e9);
        vm.assertEq(ledger.creditNanos(BOB), 3e9);
        ledger.withdraw(ALICE);
        ledger.withdraw(BOB);
        ledger.withdraw(PROVIDER);
        // What is left is the opening that nobody served, by which the ledger was halted.
        vm.assertEq(token.balanceOf(address(ledger)), 1e6);
    }

    function test_RevertWhen_AValueIsAnother() external {
        _halt();
        IBookPaths.SlotPath memory path = _path(0);
        path.settledNanos = 0;
        vm.expectRevert(abi.encodeWithSelector(IBookPaths.NotInPath.selector, 0));
        ledger.leave(BOOK_24, path);
        path = _path(0);
        (path.slot, path.settledNanos, path.dynamicPath[0][3]) = (3, 1e9, 1e9);
        vm.expectRevert(abi.encodeWithSelector(IBookPaths.NotInPath.selector, 1));
        ledger.leave(BOOK_24, path);
        // A whole tree of its own leads to a root of its own.
        _settled[0] = 1e9;
        path = _path(0);
        uint256 other = _nodes.book(_top(true), _top(false));
        bytes memory mismatch = abi.encodeWithSelector(ILedger.RootMismatch.selector, BOOK_24, ledger.bookRoot(BOOK_24), other);
        vm.expectRevert(mismatch);
        ledger.leave(BOOK_24, path);
    }
}
