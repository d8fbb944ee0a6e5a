// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {DevPermit2} from "../src/dev/DevPermit2.sol";
import {ILedger} from "../src/interfaces/ILedger.sol";
import {IPermit2} from "../src/interfaces/IPermit2.sol";
import {SilentToken} from "./tokens/HostileTokens.sol";
import {ContractAccount} from "./utils/ContractAccount.sol";
import {RelayFixture} from "./utils/RelayFixture.sol";

contract OpenWithPermit2Test is RelayFixture {
    function _openFor(address payer, uint256 value, uint256 nonce, bytes memory signature) private returns (uint248) {
        vm.prank(STRANGER);
        return ledger.openWithPermit2(payer, _key(0), SALT, value, nonce, UNTIL, signature);
    }

    function _good(address payer) private view returns (bytes memory) {
        return _permit2(address(ledger), "MillstreamOpen", _uid(payer), 5e6, 7, UNTIL);
    }

    function test_OpensForTheSigner() external {
        _fundPermit2(PAYER, 5e6);
        bytes memory signature = _good(PAYER);
        vm.expectEmit(address(ledger));
        emit ILedger.Opened(_uid(), PAYER, _key(0).x, SALT, 5e9, 0);
        vm.assertEq(_openFor(PAYER, 5e6, 7, signature), _uid());
        vm.assertEq(token.balanceOf(address(ledger)), 5e6);
        vm.assertEq(token.balanceOf(PAYER), 0);
        vm.assertEq(PERMIT2.nonceBitmap(PAYER, 0), 1 << 7);
    }

    function test_OpensForAContractAccount() external {
        address account = address(new ContractAccount(PAYER));
        _fundPermit2(account, 5e6);
        vm.assertEq(ledger.channel(_openFor(account, 5e6, 7, _good(account))).payer, account);
    }

    function test_RevertWhen_TheSignatureIsForAnotherDeposit() external {
        _fundPermit2(PAYER, 50e6);
        _fundPermit2(ALICE, 50e6);
        bytes memory good = _good(PAYER);
        bytes[5] memory bad = [
            _permit2(address(ledger), "MillstreamOpen", _uid() ^ 1, 5e6, 7, UNTIL),
            _permit2(address(ledger), "MillstreamTopUp", _uid(), 5e6, 7, UNTIL),
            _permit2(STRANGER, "MillstreamOpen", _uid(), 5e6, 7, UNTIL),
            _permit2(address(ledger), "MillstreamOpen", _uid(), 6e6, 7, UNTIL),
            _permit2(address(ledger), "MillstreamOpen", _uid(), 5e6, 7, UNTIL + 1)
        ];
        for (uint256 i = 0; i < bad.length; ++i) {
            vm.expectRevert(DevPermit2.InvalidSigner.selector);
            _openFor(PAYER, 5e6, 7, bad[i]);
        }
        vm.expectRevert(DevPermit2.InvalidSigner.selector);
        _openFor(PAYER, 5e6, 8, good);
        vm.expectRevert(DevPermit2.InvalidSigner.selector);
        _openFor(PAYER, 4e6, 7, good);
        vm.expectRevert(DevPermit2.InvalidSigner.selector);
        _openFor(ALICE, 5e6, 7, good);
        _openFor(PAYER, 5e6, 7, good);
    }

    function test_RevertWhen_TheNonceIsUsed() external {
        _fundPermit2(PAYER, 50e6);
        _openFor(PAYER, 5e6, 7, _good(PAYER));
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelExists.selector, _uid()));
        _openFor(PAYER, 5e6, 7, "");
        bytes memory second = _permit2(address(ledger), "MillstreamOpen", ledger.channelUid(PAYER, _key(0).x, 0), 5e6, 7, UNTIL);
        vm.expectRevert(DevPermit2.InvalidNonce.selector);
        vm.prank(STRANGER);
        ledger.openWithPermit2(PAYER, _key(0), 0, 5e6, 7, UNTIL, second);
    }

    function test_RevertWhen_TheSignatureHasExpired() external {
        _fundPermit2(PAYER, 5e6);
        bytes memory signature = _good(PAYER);
        vm.warp(UNTIL + 1);
        vm.expectRevert(abi.encodeWithSelector(DevPermit2.SignatureExpired.selector, UNTIL));
        _openFor(PAYER, 5e6, 7, signature);
    }

    function test_RevertWhen_ThereIsNoPermit2() external {
        vm.etch(address(PERMIT2), "");
        bytes memory signature = _good(PAYER);
        vm.expectRevert();
        _openFor(PAYER, 5e6, 7, signature);
    }

    function test_RevertWhen_TheTokenMovesNothing() external {
        _deploy(address(new SilentToken()));
        bytes memory signature = _good(PAYER);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ShortTransfer.selector, 5e6, 0));
        _openFor(PAYER, 5e6, 7, signature);
    }

    function test_RevertWhen_PayerAmountOrKeyAreRefused() external {
        vm.expectRevert(ILedger.InvalidPayer.selector);
        _openFor(address(0), 5e6, 7, "");
        vm.expectRevert(ILedger.ZeroAmount.selector);
        _openFor(PAYER, 0, 7, "");
    }

    /// @dev The development implementation keeps the promise that the ledger never needs: no more than is permitted.
    function test_DevPermit2MovesNoMoreThanIsPermitted() external {
        IPermit2.PermitTransferFrom memory permit = IPermit2.PermitTransferFrom(IPermit2.TokenPermissions(address(token), 5e6), 7, UNTIL);
        vm.expectRevert(abi.encodeWithSelector(DevPermit2.InvalidAmount.selector, 5e6));
        PERMIT2.permitWitnessTransferFrom(permit, IPermit2.SignatureTransferDetails(STRANGER, 5e6 + 1), PAYER, 0, "", "");
    }
}
