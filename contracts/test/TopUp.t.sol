// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../src/interfaces/ILedger.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";

contract TopUpTest is LedgerFixture {
    function test_RaisesTheDepositAndQueuesTheRequest() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        _fund(ALICE, 2e6);
        vm.expectEmit(address(ledger));
        emit ILedger.ToppedUp(uid, 2e9, 7e9, 1);
        vm.prank(ALICE);
        ledger.topUp(uid, 2e6);

        vm.assertEq(ledger.channel(uid).depositNanos, 7e9);
        vm.assertEq(token.balanceOf(address(ledger)), 7e6);
        vm.assertEq(ledger.queueTail(), 2);
        bytes32 hash = keccak256(abi.encode(uint256(1), uint256(2), uint256(uid), uint256(0), uint256(2e9)));
        vm.assertEq(ledger.requestDigest(1), uint256(hash) >> 40);
    }

    function test_AnyoneMayFundAChannel() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        _topUp(STRANGER, uid, 1e6);
        vm.assertEq(ledger.channel(uid).depositNanos, 6e9);
        vm.assertEq(ledger.channel(uid).payer, ALICE);
    }

    function test_RevertWhen_TheAmountIsZero() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        vm.expectRevert(ILedger.ZeroAmount.selector);
        ledger.topUp(uid, 0);
    }

    function test_RevertWhen_TheAmountIsBelowTheMinimum() external {
        _deploy(address(token), 5e6);
        uint248 uid = _open(ALICE, 1, 5e6);
        vm.expectRevert(abi.encodeWithSelector(ILedger.DepositTooSmall.selector, 4_999_000, 5e6));
        ledger.topUp(uid, 4_999);
        // The channel is unknown as well: the amount is looked at first.
        vm.expectRevert(abi.encodeWithSelector(ILedger.DepositTooSmall.selector, 1000, 5e6));
        ledger.topUp(5, 1);
        vm.expectRevert(ILedger.ZeroAmount.selector);
        ledger.topUp(uid, 0);
        vm.assertEq(ledger.queueTail(), 1);
        _topUp(STRANGER, uid, 5_000);
        vm.assertEq(ledger.channel(uid).depositNanos, 5e9 + 5e6);
    }

    function test_RevertWhen_TheChannelIsUnknown() external {
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelUnknown.selector, 5));
        ledger.topUp(5, 1e6);
    }

    function test_RevertWhen_TheCloseWasRequested() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        _requestClose(ALICE, uid);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelClosing.selector, uid));
        ledger.topUp(uid, 1e6);
    }

    function test_RevertWhen_TheChannelIsClosed() external {
        uint248 uid = _openIn(BOOK_24, 0, ALICE, 1, 1e6);
        _requestClose(ALICE, uid);
        _register(_registration(BOOK_24, _rows(_row(0, CLOSED, uid, 0, 1e9))), _oldest(1));
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelClosing.selector, uid));
        ledger.topUp(uid, 1e6);
    }

    function test_RevertWhen_TheSumExceeds64Bits() external {
        uint256 most = uint256(type(uint64).max) / 1000;
        uint248 uid = _open(ALICE, 1, most);
        vm.expectRevert(abi.encodeWithSelector(ILedger.DepositTooLarge.selector, (most + 1) * 1000));
        ledger.topUp(uid, 1);
    }
}
