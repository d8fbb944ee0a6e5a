// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IX402BatchSettlement} from "../../src/interfaces/IX402BatchSettlement.sol";
import {X402Fixture} from "../utils/X402Fixture.sol";

contract X402WithdrawTest is X402Fixture {
    bytes32 private _channel;

    function setUp() public override {
        super.setUp();
        _channel = _deposit(_config(), 1000);
    }

    function _initiate(address caller, uint128 amount) private {
        vm.prank(caller);
        SETTLEMENT.initiateWithdraw(_config(), amount);
    }

    function _finalize(address caller) private {
        vm.prank(caller);
        SETTLEMENT.finalizeWithdraw(_config());
    }

    function test_RevertWhen_AWithdrawalCannotStart() external {
        vm.expectRevert(IX402BatchSettlement.InvalidChannel.selector);
        _initiate(RECEIVER, 1);
        vm.expectRevert(IX402BatchSettlement.NothingToWithdraw.selector);
        _initiate(PAYER, 0);
        vm.expectRevert(IX402BatchSettlement.WithdrawAmountExceedsAvailable.selector);
        _initiate(PAYER, 1001);
        _claim(_row(_config(), 300, 300));
        vm.expectRevert(IX402BatchSettlement.WithdrawAmountExceedsAvailable.selector);
        _initiate(PAYER, 701);
        _initiate(PAYER, 700);
        vm.expectRevert(IX402BatchSettlement.WithdrawalAlreadyPending.selector);
        _initiate(PAYER, 1);
    }

    /// @dev No withdrawal waits for a deposit that is to come.
    function test_RevertWhen_ThereIsNoChannel() external {
        IX402BatchSettlement.ChannelConfig memory config = _config(2);
        vm.expectRevert(IX402BatchSettlement.WithdrawAmountExceedsAvailable.selector);
        vm.prank(PAYER);
        SETTLEMENT.initiateWithdraw(config, 1);
        vm.expectRevert(IX402BatchSettlement.WithdrawalNotPending.selector);
        vm.prank(PAYER);
        SETTLEMENT.finalizeWithdraw(config);
    }

    function test_RevertWhen_NobodyIsPayerWithoutAnAuthorizer() external {
        IX402BatchSettlement.ChannelConfig memory config = _config(2);
        config.payerAuthorizer = address(0);
        _deposit(config, 1000);
        vm.expectRevert(IX402BatchSettlement.InvalidChannel.selector);
        vm.prank(PAYER_AUTHORIZER);
        SETTLEMENT.initiateWithdraw(config, 1);
    }

    function test_ThePayerLeavesAfterTheDelay() external {
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.WithdrawInitiated(_channel, 1000, uint40(START) + DELAY);
        _initiate(PAYER, 1000);
        _checkPending(_channel, 1000, uint40(START));
        vm.expectRevert(IX402BatchSettlement.NotAuthorizedToFinalizeWithdraw.selector);
        _finalize(RECEIVER);
        vm.warp(START + DELAY - 1);
        vm.expectRevert(IX402BatchSettlement.WithdrawDelayNotElapsed.selector);
        _finalize(PAYER);
        vm.warp(START + DELAY);
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.WithdrawFinalized(_channel, PAYER, 1000);
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.ChannelClosed(_channel, _config());
        _finalize(PAYER);
        vm.assertEq(token.balanceOf(PAYER), 1000);
        _check(_channel, 0, 0);
        _checkPending(_channel, 0, 0);
        vm.expectRevert(IX402BatchSettlement.WithdrawalNotPending.selector);
        _finalize(PAYER);
    }

    function test_ThePayersAuthorizerMayActButIsNotPaid() external {
        _initiate(PAYER_AUTHORIZER, 400);
        vm.warp(START + DELAY);
        _finalize(PAYER_AUTHORIZER);
        vm.assertEq(token.balanceOf(PAYER), 400);
        _check(_channel, 600, 0);
    }

    /// @dev What is claimed during the delay is not withdrawn.
    function test_AClaimDuringTheDelayComesFirst() external {
        _initiate(PAYER, 1000);
        _claim(_row(_config(), 700, 700));
        vm.warp(START + DELAY);
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.WithdrawFinalized(_channel, PAYER, 300);
        _finalize(PAYER);
        _check(_channel, 700, 700);
        vm.assertEq(token.balanceOf(PAYER), 300);
        SETTLEMENT.settle(RECEIVER, address(token));
        vm.assertEq(token.balanceOf(RECEIVER), 700);
    }

    function test_WithEverythingClaimedAWithdrawalEndsWithNothing() external {
        _initiate(PAYER, 1000);
        _claim(_row(_config(), 1000, 1000));
        vm.warp(START + DELAY);
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.WithdrawFinalized(_channel, PAYER, 0);
        _finalize(PAYER);
        _checkPending(_channel, 0, 0);
        _check(_channel, 1000, 1000);
        vm.assertEq(token.balanceOf(PAYER), 0);
    }

    /// @dev The warning of `IX402BatchSettlement`: an old voucher with a higher ceiling serves again after a new deposit.
    function test_AnOldVoucherOutlivesAWithdrawal() external {
        IX402BatchSettlement.VoucherClaim memory old = _row(_config(), 900, 900);
        _initiate(PAYER, 1000);
        vm.warp(START + DELAY);
        _finalize(PAYER);
        _deposit(_config(), 2000);
        _claim(old);
        _check(_channel, 2000, 900);
    }
}
