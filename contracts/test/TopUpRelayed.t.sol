// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";

import {DevPermit2} from "../src/dev/DevPermit2.sol";
import {ILedger} from "../src/interfaces/ILedger.sol";
import {RelayFixture} from "./utils/RelayFixture.sol";

/// @title Top-ups that another sends. The funder is not the channel's payer.
contract TopUpRelayedTest is RelayFixture {
    uint248 private _channel;

    function setUp() public override {
        super.setUp();
        _channel = _open(ALICE, 1, 5e6);
    }

    function _check(uint256 deposit) private view {
        vm.assertEq(ledger.channel(_channel).depositNanos, deposit * 1000);
        vm.assertEq(ledger.channel(_channel).payer, ALICE);
        vm.assertEq(token.balanceOf(address(ledger)), deposit);
    }

    // ----------------------------------------------------------------------------------------------------------------- authorization

    function _authorized(address from, uint248 uid, uint256 value, bytes32 salt, bytes memory signature) private {
        vm.prank(STRANGER);
        ledger.topUpWithAuthorization(from, uid, value, salt, 0, UNTIL, signature);
    }

    function test_AnAuthorizationRaisesTheDeposit() external {
        token.mint(PAYER, 4e6);
        bytes32 nonce = ledger.topUpAuthorizationNonce(_channel, SALT);
        bytes32 typehash = keccak256("MillstreamTopUp(uint256 chainId,address ledger,uint256 uid,bytes32 salt)");
        vm.assertEq(nonce, keccak256(abi.encode(typehash, block.chainid, address(ledger), _channel, SALT)));
        bytes memory signature = _receive(PAYER, 2e6, nonce);
        vm.expectEmit(address(ledger));
        emit ILedger.ToppedUp(_channel, 2e9, 7e9, 1);
        _authorized(PAYER, _channel, 2e6, SALT, signature);
        _check(7e6);

        // Once; another salt is another authorization.
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, PAYER, nonce));
        _authorized(PAYER, _channel, 2e6, SALT, signature);
        signature = _receive(PAYER, 2e6, ledger.topUpAuthorizationNonce(_channel, 0));
        _authorized(PAYER, _channel, 2e6, 0, signature);
        _check(9e6);
    }

    function test_RevertWhen_TheAuthorizationIsForAnotherDeposit() external {
        token.mint(PAYER, 50e6);
        uint248 other = _open(BOB, 1, 1e6);
        bytes memory good = _receive(PAYER, 2e6, ledger.topUpAuthorizationNonce(_channel, SALT));
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        _authorized(PAYER, other, 2e6, SALT, good);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        _authorized(PAYER, _channel, 2e6 + 1, SALT, good);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        _authorized(PAYER, _channel, 2e6, 0, good);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        _authorized(ALICE, _channel, 2e6, SALT, good);
        // One for an opening is none for a top-up of the channel that it would open.
        uint248 own = _open(PAYER, uint256(SALT), 1e6);
        bytes memory opening = _receive(PAYER, 2e6, ledger.openAuthorizationNonce(PAYER, _key(0).x, SALT));
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        _authorized(PAYER, own, 2e6, SALT, opening);
    }

    // ------------------------------------------------------------------------------------------------------------------------- permit

    function _permitted(address caller, uint256 value, bytes32 salt, ILedger.PermitSignature memory permit, bytes memory consent) private {
        vm.prank(caller);
        ledger.topUpWithPermit(PAYER, _channel, value, salt, UNTIL, permit, consent);
    }

    function test_APermitRaisesTheDeposit() external {
        token.mint(PAYER, 4e6);
        ILedger.PermitSignature memory permit = _permit(PAYER, 2e6, UNTIL);
        bytes memory consent = _topUpConsent(PAYER, _channel, 2e6, SALT, UNTIL);
        vm.expectEmit(address(ledger));
        emit ILedger.ToppedUp(_channel, 2e9, 7e9, 1);
        _permitted(STRANGER, 2e6, SALT, permit, consent);
        _check(7e6);
        // The funder itself needs no consent.
        permit = _permit(PAYER, 2e6, UNTIL);
        _permitted(PAYER, 2e6, SALT, permit, "");
        _check(9e6);
    }

    function test_RevertWhen_AConsentIsUsedTwice() external {
        _fund(PAYER, 50e6);
        bytes memory consent = _topUpConsent(PAYER, _channel, 2e6, SALT, UNTIL);
        bytes32 hash = _topUpConsentHash(PAYER, _channel, 2e6, SALT, UNTIL);
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", _ledgerDomain(address(ledger)), hash));
        vm.assertFalse(ledger.consentUsed(digest));
        _permitted(STRANGER, 2e6, SALT, _noPermit(), consent);
        vm.assertTrue(ledger.consentUsed(digest));
        // The allowance would suffice.
        vm.expectRevert(abi.encodeWithSelector(ILedger.ConsentUsed.selector, digest));
        _permitted(STRANGER, 2e6, SALT, _noPermit(), consent);
        consent = _topUpConsent(PAYER, _channel, 2e6, 0, UNTIL);
        _permitted(STRANGER, 2e6, 0, _noPermit(), consent);
        _check(9e6);
    }

    function test_RevertWhen_TheConsentIsForAnotherDeposit() external {
        _fund(PAYER, 50e6);
        bytes memory good = _topUpConsent(PAYER, _channel, 2e6, SALT, UNTIL);
        bytes memory invalid = abi.encodeWithSelector(ILedger.ConsentInvalid.selector, PAYER);
        vm.expectRevert(invalid);
        _permitted(STRANGER, 2e6 + 1, SALT, _noPermit(), good);
        vm.expectRevert(invalid);
        _permitted(STRANGER, 2e6, 0, _noPermit(), good);
        uint248 other = _open(BOB, 1, 1e6);
        vm.expectRevert(invalid);
        vm.prank(STRANGER);
        ledger.topUpWithPermit(PAYER, other, 2e6, SALT, UNTIL, _noPermit(), good);
        vm.expectRevert(invalid);
        vm.prank(STRANGER);
        ledger.topUpWithPermit(PAYER, _channel, 2e6, SALT, UNTIL + 1, _noPermit(), good);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ConsentInvalid.selector, ALICE));
        vm.prank(STRANGER);
        ledger.topUpWithPermit(ALICE, _channel, 2e6, SALT, UNTIL, _noPermit(), good);
        vm.warp(UNTIL + 1);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ConsentExpired.selector, UNTIL));
        _permitted(STRANGER, 2e6, SALT, _noPermit(), good);
    }

    function test_RevertWhen_ThePermitFailsAndNoAllowanceStands() external {
        token.mint(PAYER, 5e6);
        bytes memory consent = _topUpConsent(PAYER, _channel, 2e6, SALT, UNTIL);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(ledger), 0, 2e6));
        _permitted(STRANGER, 2e6, SALT, _noPermit(), consent);
    }

    // ------------------------------------------------------------------------------------------------------------------------ Permit2

    function _permitted2(address from, uint248 uid, uint256 value, uint256 nonce, bytes memory signature) private {
        vm.prank(STRANGER);
        ledger.topUpWithPermit2(from, uid, value, nonce, UNTIL, signature);
    }

    function test_Permit2RaisesTheDeposit() external {
        _fundPermit2(PAYER, 4e6);
        bytes memory signature = _permit2(address(ledger), "MillstreamTopUp", _channel, 2e6, 300, UNTIL);
        vm.expectEmit(address(ledger));
        emit ILedger.ToppedUp(_channel, 2e9, 7e9, 1);
        _permitted2(PAYER, _channel, 2e6, 300, signature);
        _check(7e6);
        vm.expectRevert(DevPermit2.InvalidNonce.selector);
        _permitted2(PAYER, _channel, 2e6, 300, signature);
        vm.assertEq(PERMIT2.nonceBitmap(PAYER, 1), 1 << 44);
    }

    function test_RevertWhen_ThePermit2SignatureIsForAnotherDeposit() external {
        _fundPermit2(PAYER, 50e6);
        uint248 other = _open(BOB, 1, 1e6);
        bytes memory good = _permit2(address(ledger), "MillstreamTopUp", _channel, 2e6, 1, UNTIL);
        bytes memory opening = _permit2(address(ledger), "MillstreamOpen", _channel, 2e6, 1, UNTIL);
        vm.expectRevert(DevPermit2.InvalidSigner.selector);
        _permitted2(PAYER, other, 2e6, 1, good);
        vm.expectRevert(DevPermit2.InvalidSigner.selector);
        _permitted2(PAYER, _channel, 1e6, 1, good);
        vm.expectRevert(DevPermit2.InvalidSigner.selector);
        _permitted2(ALICE, _channel, 2e6, 1, good);
        vm.expectRevert(DevPermit2.InvalidSigner.selector);
        _permitted2(PAYER, _channel, 2e6, 1, opening);
    }

    // ----------------------------------------------------------------------------------------------------------------------- as topUp

    function test_RevertWhen_AmountOrChannelAreRefused() external {
        vm.expectRevert(ILedger.ZeroAmount.selector);
        _authorized(PAYER, _channel, 0, 0, "");
        vm.expectRevert(ILedger.ZeroAmount.selector);
        _permitted(PAYER, 0, 0, _noPermit(), "");
        vm.expectRevert(ILedger.ZeroAmount.selector);
        _permitted2(PAYER, _channel, 0, 0, "");
        bytes memory unknown = abi.encodeWithSelector(ILedger.ChannelUnknown.selector, 5);
        vm.expectRevert(unknown);
        _authorized(PAYER, 5, 1, 0, "");
        vm.expectRevert(unknown);
        ledger.topUpWithPermit(PAYER, 5, 1, 0, UNTIL, _noPermit(), "");
        vm.expectRevert(unknown);
        _permitted2(PAYER, 5, 1, 0, "");
        _requestClose(ALICE, _channel);
        bytes memory closing = abi.encodeWithSelector(ILedger.ChannelClosing.selector, _channel);
        vm.expectRevert(closing);
        _authorized(PAYER, _channel, 1, 0, "");
        vm.expectRevert(closing);
        _permitted(PAYER, 1, 0, _noPermit(), "");
        vm.expectRevert(closing);
        _permitted2(PAYER, _channel, 1, 0, "");
    }
}
