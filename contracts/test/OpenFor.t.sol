// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../src/interfaces/ILedger.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";

contract OpenForTest is LedgerFixture {
    bytes32 private constant SALT = keccak256("salt");

    function _openFor(address funder, address payer, uint256 baseUnits) private returns (uint248 uid) {
        _fund(funder, baseUnits);
        vm.prank(funder);
        uid = ledger.openFor(payer, _key(0), SALT, baseUnits);
        _remember(ILedger.Kind.Open, uid, _key(0).x, _nanos(baseUnits));
    }

    function test_OpensAChannelOfThePayerWithTheCallersMoney() external {
        bytes32 salt = ledger.fundedSalt(BOB, SALT);
        vm.assertEq(salt, keccak256(abi.encode(BOB, SALT)));
        uint248 uid = ledger.channelUid(ALICE, _key(0).x, salt);
        _fund(BOB, 5e6);
        vm.expectEmit(address(ledger));
        emit ILedger.Opened(uid, ALICE, _key(0).x, salt, 5e9, 0);
        vm.prank(BOB);
        vm.assertEq(ledger.openFor(ALICE, _key(0), SALT, 5e6), uid);
        vm.assertEq(ledger.channel(uid).payer, ALICE);
        vm.assertEq(token.balanceOf(BOB), 0);
        vm.assertEq(token.balanceOf(address(ledger)), 5e6);
    }

    function test_NobodyCanTakeAPayersOwnUid() external {
        _openFor(STRANGER, ALICE, 1e6);
        _openFor(BOB, ALICE, 1e6);
        _fund(ALICE, 1e6);
        vm.prank(ALICE);
        vm.assertEq(ledger.open(_key(0), SALT, 1e6), ledger.channelUid(ALICE, _key(0).x, SALT));
        vm.assertEq(ledger.queueTail(), 3);
    }

    function test_TheRefundIsThePayers() external {
        uint248 uid = _openFor(BOB, ALICE, 5e6);
        _register(_registration(BOOK_24, _rows(_row(0, OPENED, uid, 5e9, 0))), _oldest(1));
        vm.expectRevert(abi.encodeWithSelector(ILedger.NotPayer.selector, BOB));
        vm.prank(BOB);
        ledger.requestClose(uid);
        _requestClose(ALICE, uid);
        _register(_registration(BOOK_24, _rows(_row(0, CLOSED, uid, 0, 5e9))), _oldest(1));
        vm.assertEq(ledger.creditNanos(ALICE), 5e9);
        vm.assertEq(ledger.creditNanos(BOB), 0);
    }

    function test_RevertWhen_OneFunderOpensTheSameTwice() external {
        uint248 uid = _openFor(BOB, ALICE, 5e6);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelExists.selector, uid));
        vm.prank(BOB);
        ledger.openFor(ALICE, _key(0), SALT, 5e6);
    }

    function test_RevertWhen_ThePayerIsZero() external {
        vm.expectRevert(ILedger.InvalidPayer.selector);
        ledger.openFor(address(0), _key(0), SALT, 5e6);
    }

    function test_RevertWhen_AmountOrKeyAreRefused() external {
        vm.expectRevert(ILedger.ZeroAmount.selector);
        ledger.openFor(ALICE, _key(0), SALT, 0);
        vm.expectRevert(abi.encodeWithSelector(ILedger.InvalidKey.selector, 0));
        ledger.openFor(ALICE, ILedger.VoucherKey(0, 0, 1), SALT, 5e6);
    }
}
