// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IX402BatchSettlement} from "../../src/interfaces/IX402BatchSettlement.sol";
import {ContractAccount} from "../utils/ContractAccount.sol";
import {X402Fixture} from "../utils/X402Fixture.sol";

contract X402RefundTest is X402Fixture {
    bytes32 private _channel;

    function setUp() public override {
        super.setUp();
        _channel = _deposit(_config(), 1000);
    }

    function _refund(address caller, uint128 amount) private {
        vm.prank(caller);
        SETTLEMENT.refund(_config(), amount);
    }

    function _refundSigned(uint128 amount, uint256 nonce, bytes memory signature) private {
        vm.prank(STRANGER);
        SETTLEMENT.refundWithSignature(_config(), amount, nonce, signature);
    }

    function test_RevertWhen_ARefundIsNotTheReceiversOrOfNothing() external {
        vm.expectRevert(IX402BatchSettlement.NotAuthorizedToRefund.selector);
        _refund(PAYER, 1);
        vm.expectRevert(IX402BatchSettlement.ZeroRefund.selector);
        _refund(RECEIVER, 0);
        vm.expectRevert(IX402BatchSettlement.ZeroRefund.selector);
        _refundSigned(0, 0, "");
    }

    function test_TheReceiversSideRefundsWhatIsNotClaimed() external {
        _claim(_row(_config(), 300, 300));
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.Refunded(_channel, RECEIVER, 200);
        _refund(RECEIVER, 200);
        _check(_channel, 800, 300);
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.Refunded(_channel, RECEIVER_AUTHORIZER, 500);
        _refund(RECEIVER_AUTHORIZER, type(uint128).max);
        _check(_channel, 300, 300);
        vm.assertEq(token.balanceOf(PAYER), 700);
        vm.assertEq(SETTLEMENT.refundNonce(_channel), 2);
    }

    function test_AChannelNeverClaimedFromIsClosedByAFullRefund() external {
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.Refunded(_channel, RECEIVER, 1000);
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.ChannelClosed(_channel, _config());
        _refund(RECEIVER, 1000);
        _check(_channel, 0, 0);
    }

    /// @dev E-7: a signature made for the nonce before is void.
    function test_TheNonceAdvancesWithNothingToPay() external {
        _claim(_row(_config(), 1000, 1000));
        bytes memory signature = _sign(RECEIVER_AUTHORIZER_KEY, _refundDigest(_channel, 0, 10));
        _refund(RECEIVER, 10);
        vm.assertEq(SETTLEMENT.refundNonce(_channel), 1);
        vm.assertEq(token.balanceOf(PAYER), 0);
        _deposit(_config(), 50);
        vm.expectRevert(IX402BatchSettlement.InvalidRefundNonce.selector);
        _refundSigned(10, 0, signature);
        _check(_channel, 1050, 1000);
    }

    function test_ASignedRefundIsForAnyoneToSend() external {
        bytes memory signature = _sign(RECEIVER_AUTHORIZER_KEY, _refundDigest(_channel, 0, 400));
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.Refunded(_channel, STRANGER, 400);
        _refundSigned(400, 0, signature);
        vm.assertEq(token.balanceOf(PAYER), 400);
        vm.expectRevert(IX402BatchSettlement.InvalidRefundNonce.selector);
        _refundSigned(400, 0, signature);
        vm.expectRevert(IX402BatchSettlement.InvalidSignature.selector);
        _refundSigned(400, 1, signature);
    }

    function test_RevertWhen_TheSignatureIsForSomethingElse() external {
        bytes[4] memory signatures = [
            _sign(RECEIVER_AUTHORIZER_KEY, _refundDigest(_channel, 0, 401)),
            _sign(RECEIVER_AUTHORIZER_KEY, _refundDigest(_id(_config(2)), 0, 400)),
            _sign(PAYER_KEY, _refundDigest(_channel, 0, 400)),
            _sign(RECEIVER_AUTHORIZER_KEY, _voucherDigest(_channel, 400))
        ];
        for (uint256 i = 0; i < 4; ++i) {
            vm.expectRevert(IX402BatchSettlement.InvalidSignature.selector);
            _refundSigned(400, 0, signatures[i]);
        }
        vm.assertEq(SETTLEMENT.refundNonce(_channel), 0);
    }

    function test_AContractMayAuthorize() external {
        IX402BatchSettlement.ChannelConfig memory config = _config(2);
        config.receiverAuthorizer = address(new ContractAccount(RECEIVER_AUTHORIZER));
        bytes32 id = _deposit(config, 500);
        bytes memory signature = _sign(RECEIVER_AUTHORIZER_KEY, _refundDigest(id, 0, 500));
        SETTLEMENT.refundWithSignature(config, 500, 0, signature);
        vm.assertEq(token.balanceOf(PAYER), 500);
    }

    /// @dev E-8.
    function test_ARefundLowersAPendingWithdrawal() external {
        vm.prank(PAYER);
        SETTLEMENT.initiateWithdraw(_config(), 600);
        vm.warp(START + 10);
        _refund(RECEIVER, 250);
        _checkPending(_channel, 350, uint40(START));
        _refund(RECEIVER, 350);
        _checkPending(_channel, 0, 0);
        _check(_channel, 400, 0);
        // Ended, so another can start.
        vm.prank(PAYER);
        SETTLEMENT.initiateWithdraw(_config(), 400);
        _checkPending(_channel, 400, uint40(START + 10));
        _refund(RECEIVER, 1000);
        _checkPending(_channel, 0, 0);
        vm.assertEq(token.balanceOf(PAYER), 1000);
    }

    /// @dev Refunds of dust cannot hold up a withdrawal.
    function test_APartialRefundDoesNotRestartTheDelay() external {
        vm.prank(PAYER);
        SETTLEMENT.initiateWithdraw(_config(), 1000);
        vm.warp(START + DELAY - 1);
        _refund(RECEIVER, 1);
        vm.warp(START + DELAY);
        vm.prank(PAYER);
        SETTLEMENT.finalizeWithdraw(_config());
        vm.assertEq(token.balanceOf(PAYER), 1000);
    }
}
