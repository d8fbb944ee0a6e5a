// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";

import {ILedger} from "../src/interfaces/ILedger.sol";
import {TestUSDC} from "../src/tokens/TestUSDC.sol";
import {SilentToken} from "./tokens/HostileTokens.sol";
import {ContractAccount} from "./utils/ContractAccount.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";

contract OpenWithAuthorizationTest is LedgerFixture {
    uint256 private constant SIGNER = 0xa11ce;
    bytes32 private constant SALT = keccak256("salt");
    uint256 private constant UNTIL = START + 600;

    function _sign(address payer, uint256 value, bytes32 nonce) private view returns (bytes memory) {
        bytes32 typehash = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        bytes32 message = keccak256(abi.encode(typehash, payer, address(ledger), value, uint256(0), UNTIL, nonce));
        bytes32 domain = TestUSDC(address(token)).DOMAIN_SEPARATOR();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(SIGNER, keccak256(abi.encodePacked(hex"1901", domain, message)));
        return abi.encodePacked(r, s, v);
    }

    function _nonce(address payer) private view returns (bytes32) {
        return ledger.openAuthorizationNonce(payer, _key(0).x, SALT);
    }

    function _openFor(address payer, uint256 value, bytes memory signature) private returns (uint248) {
        vm.prank(STRANGER);
        return ledger.openWithAuthorization(payer, _key(0), SALT, value, 0, UNTIL, signature);
    }

    function test_OpensForTheSigner() external {
        address payer = vm.addr(SIGNER);
        token.mint(payer, 5e6);
        bytes memory signature = _sign(payer, 5e6, _nonce(payer));
        uint248 uid = ledger.channelUid(payer, _key(0).x, SALT);

        vm.expectEmit(address(ledger));
        emit ILedger.Opened(uid, payer, _key(0).x, SALT, 5e9, 0);
        vm.assertEq(_openFor(payer, 5e6, signature), uid);
        vm.assertEq(ledger.channel(uid).payer, payer);
        vm.assertEq(token.balanceOf(address(ledger)), 5e6);
        vm.assertEq(token.balanceOf(payer), 0);
        vm.assertEq(ledger.queueTail(), 1);
    }

    function test_OpensForAContractAccount() external {
        address payer = address(new ContractAccount(vm.addr(SIGNER)));
        token.mint(payer, 5e6);
        uint248 uid = _openFor(payer, 5e6, _sign(payer, 5e6, _nonce(payer)));
        vm.assertEq(ledger.channel(uid).payer, payer);
    }

    function test_NonceBindsChainLedgerAndUid() external {
        uint248 uid = ledger.channelUid(ALICE, 1, SALT);
        bytes32 typehash = keccak256("MillstreamOpen(uint256 chainId,address ledger,uint256 uid)");
        bytes32 nonce = ledger.openAuthorizationNonce(ALICE, 1, SALT);
        vm.assertEq(nonce, keccak256(abi.encode(typehash, block.chainid, address(ledger), uid)));
        vm.chainId(1);
        vm.assertNotEq(ledger.openAuthorizationNonce(ALICE, 1, SALT), nonce);
    }

    function test_RevertWhen_TheAuthorizationIsForAnotherChannel() external {
        address payer = vm.addr(SIGNER);
        token.mint(payer, 5e6);
        bytes memory signature = _sign(payer, 5e6, ledger.openAuthorizationNonce(payer, _key(1).x, SALT));
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        _openFor(payer, 5e6, signature);
    }

    function test_RevertWhen_TheAmountIsAnother() external {
        address payer = vm.addr(SIGNER);
        token.mint(payer, 5e6);
        bytes memory signature = _sign(payer, 5e6, _nonce(payer));
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        _openFor(payer, 4e6, signature);
    }

    function test_RevertWhen_ThePayerIsAnother() external {
        token.mint(ALICE, 5e6);
        bytes memory signature = _sign(ALICE, 5e6, _nonce(ALICE));
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        _openFor(ALICE, 5e6, signature);
    }

    function test_RevertWhen_TheAuthorizationHasExpired() external {
        address payer = vm.addr(SIGNER);
        token.mint(payer, 5e6);
        bytes memory signature = _sign(payer, 5e6, _nonce(payer));
        vm.warp(UNTIL);
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009InvalidAuthorizationTime.selector, 0, UNTIL));
        _openFor(payer, 5e6, signature);
    }

    function test_RevertWhen_TheAuthorizationIsPresentedTwice() external {
        address payer = vm.addr(SIGNER);
        token.mint(payer, 10e6);
        bytes memory signature = _sign(payer, 5e6, _nonce(payer));
        uint248 uid = _openFor(payer, 5e6, signature);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelExists.selector, uid));
        _openFor(payer, 5e6, signature);
    }

    function test_RevertWhen_ThePayerIsZero() external {
        vm.expectRevert(ILedger.InvalidPayer.selector);
        _openFor(address(0), 5e6, "");
    }

    function test_RevertWhen_TheAmountIsZero() external {
        vm.expectRevert(ILedger.ZeroAmount.selector);
        _openFor(ALICE, 0, "");
    }

    function test_RevertWhen_TheAmountIsBelowTheMinimum() external {
        _deploy(address(token), 5e9);
        address payer = vm.addr(SIGNER);
        token.mint(payer, 5e6);
        bytes memory signature = _sign(payer, 5e6 - 1, _nonce(payer));
        vm.expectRevert(abi.encodeWithSelector(ILedger.DepositTooSmall.selector, 5e9 - 1000, 5e9));
        _openFor(payer, 5e6 - 1, signature);
        signature = _sign(payer, 5e6, _nonce(payer));
        vm.assertEq(ledger.channel(_openFor(payer, 5e6, signature)).depositNanos, 5e9);
    }

    function test_RevertWhen_TheTokenMovesNothing() external {
        _deploy(address(new SilentToken()));
        vm.expectRevert(abi.encodeWithSelector(ILedger.ShortTransfer.selector, 5e6, 0));
        _openFor(ALICE, 5e6, "");
    }
}
