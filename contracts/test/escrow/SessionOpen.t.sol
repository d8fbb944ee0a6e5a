// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";

import {DevPermit2} from "../../src/dev/DevPermit2.sol";
import {ISessionEscrow} from "../../src/interfaces/ISessionEscrow.sol";
import {TestUSDT} from "../../src/tokens/TestUSDT.sol";
import {IMintable} from "../utils/LedgerFixture.sol";
import {SessionFixture} from "../utils/SessionFixture.sol";

contract SessionOpenTest is SessionFixture {
    function _checkOpened(bytes32 id, address payer, address signer, uint128 deposit) private view {
        ISessionEscrow.Channel memory c = escrow.getChannel(id);
        vm.assertEq(c.payer, payer);
        vm.assertEq(c.payee, PAYEE);
        vm.assertEq(c.token, address(token));
        vm.assertEq(c.authorizedSigner, signer);
        vm.assertEq(c.deposit, deposit);
        vm.assertEq(c.settled, 0);
        vm.assertEq(c.closeRequestedAt, 0);
        vm.assertFalse(c.finalized);
        vm.assertEq(token.balanceOf(address(escrow)), deposit);
    }

    // --------------------------------------------------------------------------------------------------------------------------- open

    function test_TheCallerOpens() external {
        _fund(PAYER, address(escrow), 1000);
        bytes32 id = _channelId(PAYER, PAYEE, SALT, SIGNER);
        vm.assertEq(escrow.computeChannelId(PAYER, PAYEE, address(token), SALT, SIGNER), id);
        vm.expectEmit(address(escrow));
        emit ISessionEscrow.ChannelOpened(id, PAYER, PAYEE, address(token), SIGNER, 1000);
        vm.prank(PAYER);
        vm.assertEq(escrow.open(PAYEE, address(token), 1000, SALT, SIGNER), id);
        _checkOpened(id, PAYER, SIGNER, 1000);
    }

    function test_EveryPartOfAChannelIsInItsId() external {
        bytes32 id = _channelId(PAYER, PAYEE, SALT, SIGNER);
        vm.assertNotEq(escrow.computeChannelId(STRANGER, PAYEE, address(token), SALT, SIGNER), id);
        vm.assertNotEq(escrow.computeChannelId(PAYER, STRANGER, address(token), SALT, SIGNER), id);
        vm.assertNotEq(escrow.computeChannelId(PAYER, PAYEE, STRANGER, SALT, SIGNER), id);
        vm.assertNotEq(escrow.computeChannelId(PAYER, PAYEE, address(token), 0, SIGNER), id);
        vm.assertNotEq(escrow.computeChannelId(PAYER, PAYEE, address(token), SALT, address(0)), id);
        vm.chainId(1);
        vm.assertNotEq(escrow.computeChannelId(PAYER, PAYEE, address(token), SALT, SIGNER), id);
    }

    function test_RevertWhen_AValueIsMissing() external {
        vm.startPrank(PAYER);
        vm.expectRevert(ISessionEscrow.InvalidPayee.selector);
        escrow.open(address(0), address(token), 1, SALT, SIGNER);
        vm.expectRevert(ISessionEscrow.ZeroDeposit.selector);
        escrow.open(PAYEE, address(token), 0, SALT, SIGNER);
        vm.stopPrank();
        bytes32 nonce = keccak256(abi.encode(address(0), PAYEE, address(token), SALT, SIGNER));
        vm.expectRevert(ISessionEscrow.InvalidPayer.selector);
        escrow.openWithAuthorization(PAYEE, address(token), 1, SALT, SIGNER, address(0), 0, UNTIL, nonce, "");
        vm.expectRevert(ISessionEscrow.InvalidPayer.selector);
        escrow.openWithPermit2(PAYEE, address(token), 1, SALT, SIGNER, address(0), 0, UNTIL, "");
        // No token there.
        vm.expectRevert();
        vm.prank(PAYER);
        escrow.open(PAYEE, STRANGER, 1, SALT, SIGNER);
    }

    /// @dev E-22: an id is used once, so an old voucher can never meet new money.
    function test_RevertWhen_TheIdWasUsed() external {
        bytes32 id = _open(SALT, 1000);
        _fund(PAYER, address(escrow), 5000);
        bytes memory exists = abi.encodeWithSelector(ISessionEscrow.ChannelAlreadyExists.selector, id);
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(exists);
            vm.prank(PAYER);
            escrow.open(PAYEE, address(token), 1000, SALT, SIGNER);
            bytes32 nonce = keccak256(abi.encode(PAYER, PAYEE, address(token), SALT, SIGNER));
            vm.expectRevert(exists);
            escrow.openWithAuthorization(PAYEE, address(token), 1000, SALT, SIGNER, PAYER, 0, UNTIL, nonce, "");
            vm.expectRevert(exists);
            escrow.openWithPermit2(PAYEE, address(token), 1000, SALT, SIGNER, PAYER, 0, UNTIL, "");
            if (i == 0) _close(id, 400);
        }
        _check(id, 1000, 400, true);
        _open(keccak256("another"), 1000);
    }

    // ------------------------------------------------------------------------------------------------------------ openWithAuthorization

    /// @dev What changes from one relayed opening to another.
    struct Authorized {
        address payee;
        uint128 deposit;
        bytes32 salt;
        bytes32 nonce;
    }

    function _authorized(Authorized memory a, bytes memory signature) private {
        vm.prank(STRANGER);
        escrow.openWithAuthorization(a.payee, address(token), a.deposit, a.salt, SIGNER, PAYER, 0, UNTIL, a.nonce, signature);
    }

    function test_AnAuthorizationOpensForItsSigner() external {
        token.mint(PAYER, 3000);
        bytes32 nonce = keccak256(abi.encode(PAYER, PAYEE, address(token), SALT, SIGNER));
        bytes memory signature = _receive(PAYER, 1000, nonce, PAYER_KEY);
        bytes32 id = _channelId(PAYER, PAYEE, SALT, SIGNER);
        vm.expectEmit(address(escrow));
        emit ISessionEscrow.ChannelOpened(id, PAYER, PAYEE, address(token), SIGNER, 1000);
        _authorized(Authorized(PAYEE, 1000, SALT, nonce), signature);
        _checkOpened(id, PAYER, SIGNER, 1000);
    }

    /// @dev E-24.
    function test_RevertWhen_TheAuthorizationIsForAnotherChannel() external {
        token.mint(PAYER, 3000);
        bytes32 nonce = keccak256(abi.encode(PAYER, PAYEE, address(token), SALT, SIGNER));
        bytes memory signature = _receive(PAYER, 1000, nonce, PAYER_KEY);
        // With its own nonce for another payee, or the right one for the other: neither opens anything.
        bytes32 other = keccak256(abi.encode(PAYER, STRANGER, address(token), SALT, SIGNER));
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.NonceMismatch.selector, other, nonce));
        _authorized(Authorized(STRANGER, 1000, SALT, nonce), signature);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        _authorized(Authorized(STRANGER, 1000, SALT, other), signature);
        other = keccak256(abi.encode(PAYER, PAYEE, address(token), bytes32(0), SIGNER));
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.NonceMismatch.selector, other, nonce));
        _authorized(Authorized(PAYEE, 1000, 0, nonce), signature);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        _authorized(Authorized(PAYEE, 1001, SALT, nonce), signature);
        vm.assertEq(token.balanceOf(address(escrow)), 0);
    }

    // ------------------------------------------------------------------------------------------------------------------ openWithPermit2

    function _openSignature(address payee, bytes32 salt, address signer, uint256 amount) private view returns (bytes memory) {
        bytes32 witness = _openWitness(payee, salt, signer);
        return _permit2("ChannelOpenWitness", "(address payee,bytes32 salt,address authorizedSigner)", witness, amount, 0, PAYER_KEY);
    }

    function _permitted(address signer, uint128 deposit, bytes memory signature) private returns (bytes32) {
        vm.prank(STRANGER);
        return escrow.openWithPermit2(PAYEE, address(token), deposit, SALT, signer, PAYER, 0, UNTIL, signature);
    }

    function test_APermit2SignatureOpensForItsSigner() external {
        token = IMintable(address(new TestUSDT()));
        _fund(PAYER, address(PERMIT2), 3000);
        bytes memory signature = _openSignature(PAYEE, SALT, address(0), 1000);
        _checkOpened(_permitted(address(0), 1000, signature), PAYER, address(0), 1000);
    }

    function test_RevertWhen_ThePermit2SignatureIsForAnotherChannel() external {
        _fund(PAYER, address(PERMIT2), 3000);
        bytes[5] memory signatures = [
            _openSignature(STRANGER, SALT, SIGNER, 1000),
            _openSignature(PAYEE, 0, SIGNER, 1000),
            _openSignature(PAYEE, SALT, address(0), 1000),
            _openSignature(PAYEE, SALT, SIGNER, 999),
            _permit2(
                "ChannelTopUpWitness", "(bytes32 channelId)", _topUpWitness(_channelId(PAYER, PAYEE, SALT, SIGNER)), 1000, 0, PAYER_KEY
            )
        ];
        for (uint256 i = 0; i < 5; ++i) {
            vm.expectRevert(DevPermit2.InvalidSigner.selector);
            _permitted(SIGNER, 1000, signatures[i]);
        }
        vm.assertEq(token.balanceOf(address(escrow)), 0);
    }
}
