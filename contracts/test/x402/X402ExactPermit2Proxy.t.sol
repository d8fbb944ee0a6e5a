// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {DevPermit2} from "../../src/dev/DevPermit2.sol";
import {IPermit2} from "../../src/interfaces/IPermit2.sol";
import {IX402ExactPermit2Proxy} from "../../src/interfaces/IX402ExactPermit2Proxy.sol";
import {X402ExactPermit2Proxy} from "../../src/x402/X402ExactPermit2Proxy.sol";
import {ReentrantToken} from "../tokens/HostileTokens.sol";
import {IMintable} from "../utils/LedgerFixture.sol";
import {X402Fixture} from "../utils/X402Fixture.sol";

contract X402ExactPermit2ProxyTest is X402Fixture {
    IX402ExactPermit2Proxy private constant PROXY = IX402ExactPermit2Proxy(EXACT_PROXY);

    function setUp() public override {
        super.setUp();
        _fund(PAYER, address(PERMIT2), 3000);
    }

    function _witness(address to, uint256 validAfter) private pure returns (IX402ExactPermit2Proxy.Witness memory) {
        return IX402ExactPermit2Proxy.Witness(to, validAfter);
    }

    function _signed(address to, uint256 validAfter, uint256 amount, uint256 nonce) private view returns (bytes memory) {
        bytes32 witness = keccak256(abi.encode(keccak256("Witness(address to,uint256 validAfter)"), to, validAfter));
        return _permit2(EXACT_PROXY, "Witness", "(address to,uint256 validAfter)", witness, amount, nonce);
    }

    function _permitted(uint256 amount, uint256 nonce) private view returns (IPermit2.PermitTransferFrom memory) {
        return IPermit2.PermitTransferFrom(IPermit2.TokenPermissions(address(token), amount), nonce, UNTIL);
    }

    function _settle(address owner, address to, uint256 validAfter, uint256 amount, bytes memory signature) private {
        vm.prank(STRANGER);
        PROXY.settle(_permitted(amount, 0), owner, _witness(to, validAfter), signature);
    }

    function test_ItSaysWhatItIs() external {
        vm.assertEq(address(PROXY.PERMIT2()), address(PERMIT2));
        vm.assertEq(PROXY.WITNESS_TYPEHASH(), keccak256("Witness(address to,uint256 validAfter)"));
        vm.assertEq(
            PROXY.WITNESS_TYPE_STRING(),
            "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)"
        );
        vm.expectRevert(IX402ExactPermit2Proxy.InvalidPermit2Address.selector);
        new X402ExactPermit2Proxy(address(0));
    }

    /// @dev E-14.
    function test_ThePaymentGoesWhereThePayerSaid() external {
        bytes memory signature = _signed(RECEIVER, START, 1000, 0);
        vm.expectEmit(EXACT_PROXY);
        emit IX402ExactPermit2Proxy.Settled();
        _settle(PAYER, RECEIVER, START, 1000, signature);
        vm.assertEq(token.balanceOf(RECEIVER), 1000);
        vm.assertEq(token.balanceOf(EXACT_PROXY), 0);
        vm.expectRevert(DevPermit2.InvalidNonce.selector);
        _settle(PAYER, RECEIVER, START, 1000, signature);
    }

    function test_RevertWhen_AValueIsMissing() external {
        bytes memory signature = _signed(RECEIVER, START, 1000, 0);
        vm.expectRevert(IX402ExactPermit2Proxy.InvalidOwner.selector);
        _settle(address(0), RECEIVER, START, 1000, signature);
        vm.expectRevert(IX402ExactPermit2Proxy.InvalidDestination.selector);
        _settle(PAYER, address(0), START, 1000, signature);
        vm.expectRevert(IX402ExactPermit2Proxy.InvalidAmount.selector);
        _settle(PAYER, RECEIVER, START, 0, signature);
        vm.expectRevert(IX402ExactPermit2Proxy.PaymentTooEarly.selector);
        _settle(PAYER, RECEIVER, START + 1, 1000, signature);
    }

    function test_RevertWhen_TheSignatureIsForAnotherPayment() external {
        bytes memory signature = _signed(RECEIVER, START, 1000, 0);
        vm.expectRevert(DevPermit2.InvalidSigner.selector);
        _settle(PAYER, STRANGER, START, 1000, signature);
        vm.expectRevert(DevPermit2.InvalidSigner.selector);
        _settle(PAYER, RECEIVER, START - 1, 1000, signature);
        vm.expectRevert(DevPermit2.InvalidSigner.selector);
        _settle(PAYER, RECEIVER, START, 999, signature);
        vm.expectRevert(DevPermit2.InvalidSigner.selector);
        _settle(STRANGER, RECEIVER, START, 1000, signature);
    }

    function _withPermit(uint256 value, uint256 nonce) private {
        (uint8 v, bytes32 r, bytes32 s) = _permit(value);
        IX402ExactPermit2Proxy.EIP2612Permit memory permit = IX402ExactPermit2Proxy.EIP2612Permit(value, UNTIL, r, s, v);
        bytes memory signature = _signed(RECEIVER, START, 1000, nonce);
        PROXY.settleWithPermit(permit, _permitted(1000, nonce), PAYER, _witness(RECEIVER, START), signature);
    }

    function test_APermitGivesTheAllowance() external {
        vm.prank(PAYER);
        token.approve(address(PERMIT2), 0);
        bytes memory signature = _signed(RECEIVER, START, 1000, 0);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, PERMIT2, 0, 1000));
        _settle(PAYER, RECEIVER, START, 1000, signature);
        vm.expectEmit(EXACT_PROXY);
        emit IX402ExactPermit2Proxy.SettledWithPermit();
        _withPermit(1000, 0);
        vm.assertEq(token.balanceOf(RECEIVER), 1000);
    }

    function test_RevertWhen_ThePermitIsForAnotherAmount() external {
        (uint8 v, bytes32 r, bytes32 s) = _permit(999);
        IX402ExactPermit2Proxy.EIP2612Permit memory permit = IX402ExactPermit2Proxy.EIP2612Permit(999, UNTIL, r, s, v);
        bytes memory signature = _signed(RECEIVER, START, 1000, 0);
        vm.expectRevert(IX402ExactPermit2Proxy.Permit2612AmountMismatch.selector);
        PROXY.settleWithPermit(permit, _permitted(1000, 0), PAYER, _witness(RECEIVER, START), signature);
        // One that the token refuses is passed over: the allowance is there.
        permit.value = 1000;
        PROXY.settleWithPermit(permit, _permitted(1000, 0), PAYER, _witness(RECEIVER, START), signature);
        vm.assertEq(token.balanceOf(RECEIVER), 1000);
    }

    function test_RevertWhen_TheTokenCallsBack() external {
        ReentrantToken reentrant = new ReentrantToken();
        token = IMintable(address(reentrant));
        _fund(PAYER, address(PERMIT2), 3000);
        bytes memory inner = _signed(RECEIVER, START, 500, 1);
        bytes memory outer = _signed(RECEIVER, START, 1000, 0);
        reentrant.arm(EXACT_PROXY, abi.encodeCall(PROXY.settle, (_permitted(500, 1), PAYER, _witness(RECEIVER, START), inner)));
        vm.expectRevert(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        _settle(PAYER, RECEIVER, START, 1000, outer);
    }
}
