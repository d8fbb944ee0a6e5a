// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ISessionEscrow} from "../../src/interfaces/ISessionEscrow.sol";
import {SessionFixture} from "../utils/SessionFixture.sol";

contract SessionCloseTest is SessionFixture {
    bytes32 private _channel;

    function setUp() public override {
        super.setUp();
        _channel = _open(SALT, 1000);
    }

    function _expectClose(bytes memory error, address caller, bytes32 id, uint128 cumulative, bytes memory signature) private {
        vm.expectRevert(error);
        vm.prank(caller);
        escrow.close(id, cumulative, signature);
    }

    function _notReady(uint256 readyAt) private view returns (bytes memory) {
        return abi.encodeWithSelector(ISessionEscrow.CloseNotReady.selector, _channel, readyAt);
    }

    // -------------------------------------------------------------------------------------------------------------------------- close

    function test_ACloseSettlesAndRefunds() external {
        _settle(_channel, 200);
        bytes memory signature = _voucher(_channel, 700);
        vm.expectEmit(address(escrow));
        emit ISessionEscrow.Settled(_channel, PAYER, PAYEE, 700, 500, 700);
        vm.expectEmit(address(escrow));
        emit ISessionEscrow.ChannelClosed(_channel, PAYER, PAYEE, 700, 300);
        vm.prank(PAYEE);
        escrow.close(_channel, 700, signature);
        vm.assertEq(token.balanceOf(PAYEE), 700);
        vm.assertEq(token.balanceOf(PAYER), 300);
        vm.assertEq(token.balanceOf(address(escrow)), 0);
        // The record stays.
        ISessionEscrow.Channel memory c = escrow.getChannel(_channel);
        vm.assertEq(c.payer, PAYER);
        _check(_channel, 1000, 700, true);
    }

    function test_APayeeMayForfeit() external {
        _settle(_channel, 200);
        vm.expectEmit(address(escrow));
        emit ISessionEscrow.ChannelClosed(_channel, PAYER, PAYEE, 200, 800);
        vm.prank(PAYEE);
        escrow.close(_channel, 150, "");
        vm.assertEq(token.balanceOf(PAYEE), 200);
        vm.assertEq(token.balanceOf(PAYER), 800);
        _check(_channel, 1000, 200, true);
    }

    function test_RevertWhen_ACloseIsRefused() external {
        bytes32 none = keccak256("none");
        bytes memory signature = _voucher(_channel, 700);
        _expectClose(abi.encodeWithSelector(ISessionEscrow.ChannelNotFound.selector, none), PAYEE, none, 700, signature);
        _expectClose(abi.encodeWithSelector(ISessionEscrow.NotPayee.selector, PAYER), PAYER, _channel, 700, signature);
        _expectClose(abi.encodeWithSelector(ISessionEscrow.AmountExceedsDeposit.selector, 1000, 1001), PAYEE, _channel, 1001, signature);
        _expectClose(abi.encodeWithSelector(ISessionEscrow.InvalidSignature.selector, SIGNER), PAYEE, _channel, 701, signature);
        _close(_channel, 700);
        _expectClose(abi.encodeWithSelector(ISessionEscrow.ChannelFinalized.selector, _channel), PAYEE, _channel, 700, signature);
    }

    // ---------------------------------------------------------------------------------------------------------- closeWithAuthorization

    function _closeBy(uint128 cumulative, uint256 nonce, bytes memory authorization, bytes memory voucher) private {
        vm.prank(STRANGER);
        escrow.closeWithAuthorization(_channel, cumulative, nonce, UNTIL, authorization, voucher);
    }

    function _authorization(string memory name, uint128 cumulative, uint256 nonce, uint256 key) private view returns (bytes memory) {
        return _sign(key, _authorizationDigest(name, _channel, cumulative, nonce, UNTIL));
    }

    /// @dev E-26.
    function test_AnAuthorizedCloseIsForAnyoneToSend() external {
        bytes32 digest = _authorizationDigest("CloseAuthorization", _channel, 700, 5, UNTIL);
        vm.assertEq(escrow.getCloseAuthorizationDigest(_channel, 700, 5, UNTIL), digest);
        bytes memory authorization = _authorization("CloseAuthorization", 700, 5, PAYEE_KEY);
        _closeBy(700, 5, authorization, _voucher(_channel, 700));
        vm.assertEq(token.balanceOf(PAYEE), 700);
        vm.assertEq(token.balanceOf(PAYER), 300);
        vm.assertTrue(escrow.nonceUsed(_channel, 5));
    }

    function test_AnAuthorizedCloseMayForfeit() external {
        _closeBy(0, 5, _authorization("CloseAuthorization", 0, 5, PAYEE_KEY), "");
        vm.assertEq(token.balanceOf(PAYER), 1000);
    }

    /// @dev E-26: one set of nonces.
    function test_RevertWhen_TheNonceSettledBefore() external {
        bytes memory authorization = _authorization("SettleAuthorization", 300, 5, PAYEE_KEY);
        escrow.settleWithAuthorization(_channel, 300, 5, UNTIL, authorization, _voucher(_channel, 300));
        authorization = _authorization("CloseAuthorization", 300, 5, PAYEE_KEY);
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.NonceAlreadyUsed.selector, _channel, 5));
        _closeBy(300, 5, authorization, "");
    }

    function test_RevertWhen_TheAuthorizationIsNotForThis() external {
        bytes[4] memory authorizations = [
            _authorization("SettleAuthorization", 700, 5, PAYEE_KEY),
            _authorization("CloseAuthorization", 0, 5, PAYEE_KEY),
            _authorization("CloseAuthorization", 700, 6, PAYEE_KEY),
            _authorization("CloseAuthorization", 700, 5, PAYER_KEY)
        ];
        bytes memory voucher = _voucher(_channel, 700);
        for (uint256 i = 0; i < 4; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.InvalidSignature.selector, PAYEE));
            _closeBy(700, 5, authorizations[i], voucher);
        }
        bytes memory good = _authorization("CloseAuthorization", 700, 5, PAYEE_KEY);
        vm.warp(UNTIL + 1);
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.AuthorizationExpired.selector, UNTIL));
        _closeBy(700, 5, good, voucher);
    }

    // ---------------------------------------------------------------------------------------------------------- requestClose, withdraw

    /// @dev E-27: ten minutes is the least that the draft allows.
    function test_ThePayerLeavesAfterTheGracePeriod() external {
        vm.assertEq(escrow.CLOSE_GRACE_PERIOD(), GRACE);
        vm.assertGe(escrow.CLOSE_GRACE_PERIOD(), 600);
        _settle(_channel, 200);
        vm.expectRevert(_notReady(0));
        _withdraw(_channel);
        vm.expectEmit(address(escrow));
        emit ISessionEscrow.CloseRequested(_channel, PAYER, PAYEE, START + GRACE);
        _requestClose(_channel);
        vm.warp(START + GRACE - 1);
        // Asking again changes nothing.
        _requestClose(_channel);
        vm.expectRevert(_notReady(START + GRACE));
        _withdraw(_channel);
        vm.warp(START + GRACE);
        vm.expectEmit(address(escrow));
        emit ISessionEscrow.ChannelClosed(_channel, PAYER, PAYEE, 200, 800);
        _withdraw(_channel);
        vm.assertEq(token.balanceOf(PAYER), 800);
        _check(_channel, 1000, 200, true);
    }

    function test_RevertWhen_TheCallerIsNotThePayer() external {
        vm.startPrank(PAYEE);
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.NotPayer.selector, PAYEE));
        escrow.requestClose(_channel);
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.NotPayer.selector, PAYEE));
        escrow.withdraw(_channel);
    }

    function test_RevertWhen_ThereIsNoSuchChannelOrItIsClosed() external {
        bytes32 none = keccak256("none");
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.ChannelNotFound.selector, none));
        _requestClose(none);
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.ChannelNotFound.selector, none));
        _withdraw(none);
        _requestClose(_channel);
        _close(_channel, 700);
        vm.warp(START + GRACE);
        bytes memory finalized = abi.encodeWithSelector(ISessionEscrow.ChannelFinalized.selector, _channel);
        vm.expectRevert(finalized);
        _requestClose(_channel);
        // Or the payer would be paid from the money of others.
        vm.expectRevert(finalized);
        _withdraw(_channel);
    }

    /// @dev E-27: the request of a close that was taken back does not count.
    function test_AnotherRequestStartsAnotherPeriod() external {
        _requestClose(_channel);
        _fund(PAYER, address(escrow), 1);
        vm.prank(PAYER);
        escrow.topUp(_channel, 1);
        vm.warp(START + GRACE);
        vm.expectRevert(_notReady(0));
        _withdraw(_channel);
        _requestClose(_channel);
        vm.expectRevert(_notReady(START + 2 * GRACE));
        _withdraw(_channel);
        vm.warp(START + 2 * GRACE);
        _withdraw(_channel);
        vm.assertEq(token.balanceOf(PAYER), 1001);
    }

    // -------------------------------------------------------------------------------------------------------------------------- views

    function test_ChannelsAreReadInBatches() external {
        bytes32[] memory ids = new bytes32[](2);
        (ids[0], ids[1]) = (_channel, keccak256("none"));
        ISessionEscrow.Channel[] memory channels = escrow.getChannelsBatch(ids);
        vm.assertEq(channels.length, 2);
        vm.assertEq(channels[0].payer, PAYER);
        vm.assertEq(channels[0].deposit, 1000);
        vm.assertEq(channels[1].payer, address(0));
        vm.assertEq(escrow.getVoucherDigest(_channel, 5), _voucherDigest(_channel, 5));
        vm.assertEq(escrow.domainSeparator(), _domain());
        (bytes1 fields, string memory name, string memory version, uint256 chainId, address where,,) = escrow.eip712Domain();
        vm.assertEq(bytes32(fields), bytes32(bytes1(0x0f)));
        vm.assertEq(name, "EVM Payment Channel");
        vm.assertEq(version, "1");
        vm.assertEq(chainId, block.chainid);
        vm.assertEq(where, address(escrow));
    }
}
