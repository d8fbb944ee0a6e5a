// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";

import {DevPermit2} from "../../src/dev/DevPermit2.sol";
import {ISessionEscrow} from "../../src/interfaces/ISessionEscrow.sol";
import {SessionFixture} from "../utils/SessionFixture.sol";

contract SessionTopUpTest is SessionFixture {
    bytes32 private constant TOP_UP_SALT = keccak256("top-up");
    uint256 private constant FUNDER_KEY = 0xf00d;

    address private immutable FUNDER = vm.addr(FUNDER_KEY);
    bytes32 private _channel;

    function setUp() public override {
        super.setUp();
        _channel = _open(SALT, 1000);
    }

    function _topUp(address from, bytes32 id, uint128 amount) private {
        vm.prank(from);
        escrow.topUp(id, amount);
    }

    function _nonce(bytes32 id, uint128 amount, address from, bytes32 salt) private pure returns (bytes32) {
        return keccak256(abi.encode(id, amount, from, salt));
    }

    /// @dev What changes from one relayed top-up to another.
    struct Authorized {
        bytes32 id;
        uint128 amount;
        address from;
        bytes32 nonce;
    }

    function _authorized(Authorized memory a, bytes memory signature) private {
        vm.prank(STRANGER);
        escrow.topUpWithAuthorization(a.id, a.amount, a.from, TOP_UP_SALT, 0, UNTIL, a.nonce, signature);
    }

    function _topUpByAuthorization(address from, uint256 key, uint128 amount) private {
        token.mint(from, amount);
        bytes32 nonce = _nonce(_channel, amount, from, TOP_UP_SALT);
        bytes memory signature = _receive(from, amount, nonce, key);
        _authorized(Authorized(_channel, amount, from, nonce), signature);
    }

    function _topUpByPermit2(address from, uint256 key, uint128 amount, uint256 nonce) private {
        _fund(from, address(PERMIT2), amount);
        bytes memory signature = _permit2("ChannelTopUpWitness", "(bytes32 channelId)", _topUpWitness(_channel), amount, nonce, key);
        vm.prank(STRANGER);
        escrow.topUpWithPermit2(_channel, amount, from, nonce, UNTIL, signature);
    }

    function test_EveryWayRaisesTheDeposit() external {
        _fund(PAYER, address(escrow), 500);
        vm.expectEmit(address(escrow));
        emit ISessionEscrow.TopUp(_channel, PAYER, PAYEE, 500, 1500);
        _topUp(PAYER, _channel, 500);
        vm.expectEmit(address(escrow));
        emit ISessionEscrow.TopUp(_channel, PAYER, PAYEE, 100, 1600);
        this.topUpRelayed(1, PAYER, PAYER_KEY, 100);
        this.topUpRelayed(1, FUNDER, FUNDER_KEY, 10);
        this.topUpRelayed(2, PAYER, PAYER_KEY, 7);
        this.topUpRelayed(2, FUNDER, FUNDER_KEY, 3);
        _check(_channel, 1620, 0, false);
        vm.assertEq(token.balanceOf(address(escrow)), 1620);
        // Whoever paid, the rest is the payer's.
        _close(_channel, 620);
        vm.assertEq(token.balanceOf(PAYER), 1000);
    }

    function test_RevertWhen_TheChannelTakesNone() external {
        bytes32 none = keccak256("none");
        bytes32 nonce = _nonce(none, 1, PAYER, TOP_UP_SALT);
        bytes memory expected = abi.encodeWithSelector(ISessionEscrow.ChannelNotFound.selector, none);
        bytes32 id = none;
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(expected);
            _topUp(PAYER, id, 1);
            vm.expectRevert(expected);
            _authorized(Authorized(id, 1, PAYER, nonce), "");
            vm.expectRevert(expected);
            escrow.topUpWithPermit2(id, 1, PAYER, 0, UNTIL, "");
            _closeOnce();
            (id, nonce) = (_channel, _nonce(_channel, 1, PAYER, TOP_UP_SALT));
            expected = abi.encodeWithSelector(ISessionEscrow.ChannelFinalized.selector, _channel);
        }
    }

    function _closeOnce() private {
        if (escrow.getChannel(_channel).finalized) return;
        _close(_channel, 0);
    }

    function test_RevertWhen_TheAmountIsRefused() external {
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.NotPayer.selector, FUNDER));
        _topUp(FUNDER, _channel, 1);
        vm.expectRevert(ISessionEscrow.ZeroDeposit.selector);
        _topUp(PAYER, _channel, 0);
        bytes memory overflow = abi.encodeWithSelector(ISessionEscrow.DepositOverflow.selector, uint256(type(uint128).max) + 1000);
        vm.expectRevert(overflow);
        _topUp(PAYER, _channel, type(uint128).max);
        vm.expectRevert(ISessionEscrow.ZeroDeposit.selector);
        _authorized(Authorized(_channel, 0, PAYER, _nonce(_channel, 0, PAYER, TOP_UP_SALT)), "");
        vm.expectRevert(ISessionEscrow.ZeroDeposit.selector);
        escrow.topUpWithPermit2(_channel, 0, PAYER, 0, UNTIL, "");
        _check(_channel, 1000, 0, false);
    }

    /// @dev E-24.
    function test_RevertWhen_TheAuthorizationIsForAnotherTopUp() external {
        token.mint(PAYER, 3000);
        bytes32 other = _open(bytes32(0), 1000);
        bytes32 nonce = _nonce(_channel, 100, PAYER, TOP_UP_SALT);
        bytes memory signature = _receive(PAYER, 100, nonce, PAYER_KEY);
        bytes32 needed = _nonce(other, 100, PAYER, TOP_UP_SALT);
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.NonceMismatch.selector, needed, nonce));
        _authorized(Authorized(other, 100, PAYER, nonce), signature);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        _authorized(Authorized(other, 100, PAYER, needed), signature);
        needed = _nonce(_channel, 101, PAYER, TOP_UP_SALT);
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.NonceMismatch.selector, needed, nonce));
        _authorized(Authorized(_channel, 101, PAYER, nonce), signature);
        _authorized(Authorized(_channel, 100, PAYER, nonce), signature);
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, PAYER, nonce));
        _authorized(Authorized(_channel, 100, PAYER, nonce), signature);
        _check(_channel, 1100, 0, false);
    }

    function test_RevertWhen_ThePermit2SignatureIsForAnotherTopUp() external {
        _fund(PAYER, address(PERMIT2), 3000);
        bytes32 witness = _topUpWitness(_channel);
        bytes[3] memory signatures = [
            _permit2("ChannelTopUpWitness", "(bytes32 channelId)", _topUpWitness(keccak256("other")), 100, 0, PAYER_KEY),
            _permit2("ChannelTopUpWitness", "(bytes32 channelId)", witness, 101, 0, PAYER_KEY),
            _permit2("TopUpWitness", "(bytes32 channelId)", witness, 100, 0, PAYER_KEY)
        ];
        for (uint256 i = 0; i < 3; ++i) {
            vm.expectRevert(DevPermit2.InvalidSigner.selector);
            escrow.topUpWithPermit2(_channel, 100, PAYER, 0, UNTIL, signatures[i]);
        }
        _topUpByPermit2(PAYER, PAYER_KEY, 100, 0);
        bytes memory again = _permit2("ChannelTopUpWitness", "(bytes32 channelId)", witness, 100, 0, PAYER_KEY);
        vm.expectRevert(DevPermit2.InvalidNonce.selector);
        escrow.topUpWithPermit2(_channel, 100, PAYER, 0, UNTIL, again);
    }

    /// @dev E-27.
    function test_ThePayersTopUpTakesAPendingCloseBack() external {
        for (uint256 way = 0; way < 3; ++way) {
            _requestClose(_channel);
            vm.assertEq(escrow.getChannel(_channel).closeRequestedAt, START);
            _fund(PAYER, address(escrow), 10);
            vm.expectEmit(address(escrow));
            emit ISessionEscrow.CloseRequestCancelled(_channel, PAYER, PAYEE);
            if (way == 0) _topUp(PAYER, _channel, 10);
            else this.topUpRelayed(way, PAYER, PAYER_KEY, 10);
            vm.assertEq(escrow.getChannel(_channel).closeRequestedAt, 0);
        }
        vm.warp(START + GRACE);
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.CloseNotReady.selector, _channel, 0));
        _withdraw(_channel);
    }

    /// @dev E-27: or a payee could hold up an exit for ever, for one base unit at a time.
    function test_NobodyElsesTopUpTakesAPendingCloseBack() external {
        _requestClose(_channel);
        this.topUpRelayed(1, FUNDER, FUNDER_KEY, 10);
        this.topUpRelayed(2, FUNDER, FUNDER_KEY, 10);
        vm.assertEq(escrow.getChannel(_channel).closeRequestedAt, START);
        vm.warp(START + GRACE);
        _withdraw(_channel);
        vm.assertEq(token.balanceOf(PAYER), 1020);
    }

    /// @dev One call, of which an event can be expected.
    function topUpRelayed(uint256 way, address from, uint256 key, uint128 amount) external {
        if (way == 1) _topUpByAuthorization(from, key, amount);
        else _topUpByPermit2(from, key, amount, 77);
    }
}
