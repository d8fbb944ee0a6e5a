// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";

import {TestUSDC} from "../src/tokens/TestUSDC.sol";
import {TestUSDT} from "../src/tokens/TestUSDT.sol";
import {ContractAccount} from "./utils/ContractAccount.sol";
import {TestBase} from "./utils/TestBase.sol";

contract TestUSDCTest is TestBase {
    uint256 private constant SIGNER = 0xa11ce;
    uint256 private constant NOW = 1_800_000_000;
    uint256 private constant UNTIL = NOW + 600;
    bytes32 private constant NONCE = keccak256("nonce");
    address private immutable ALICE = vm.addr(SIGNER);
    address private immutable BOB = _account("bob");

    TestUSDC private _token;

    function setUp() external {
        vm.warp(NOW);
        _token = new TestUSDC();
        _token.mint(ALICE, 10e6);
    }

    function _sign(bytes32 message) private view returns (uint8 v, bytes32 r, bytes32 s) {
        return vm.sign(SIGNER, keccak256(abi.encodePacked(hex"1901", _token.DOMAIN_SEPARATOR(), message)));
    }

    function _signBytes(bytes32 message) private view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = _sign(message);
        return abi.encodePacked(r, s, v);
    }

    function _message(string memory what, address from) private view returns (bytes32) {
        bytes32 typehash = keccak256(
            abi.encodePacked(
                what, "WithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
            )
        );
        return keccak256(abi.encode(typehash, from, BOB, 5e6, NOW - 1, UNTIL, NONCE));
    }

    function _cancelMessage() private view returns (bytes32) {
        return keccak256(abi.encode(keccak256("CancelAuthorization(address authorizer,bytes32 nonce)"), ALICE, NONCE));
    }

    function _permitMessage() private view returns (bytes32) {
        bytes32 typehash = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        return keccak256(abi.encode(typehash, ALICE, BOB, 5e6, 0, UNTIL));
    }

    function test_LooksLikeUSDC() external view {
        vm.assertEq(_token.name(), "USD Coin");
        vm.assertEq(_token.symbol(), "USDC");
        vm.assertEq(_token.version(), "2");
        vm.assertEq(_token.decimals(), 6);
        bytes32 typehash = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        vm.assertEq(
            _token.DOMAIN_SEPARATOR(),
            keccak256(abi.encode(typehash, keccak256("USD Coin"), keccak256("2"), block.chainid, address(_token)))
        );
    }

    function test_TransferWithAuthorizationInBothForms() external {
        (uint8 v, bytes32 r, bytes32 s) = _sign(_message("Transfer", ALICE));
        _token.transferWithAuthorization(ALICE, BOB, 5e6, NOW - 1, UNTIL, NONCE, v, r, s);
        vm.assertEq(_token.balanceOf(BOB), 5e6);
        vm.assertTrue(_token.authorizationState(ALICE, NONCE));
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, ALICE, NONCE));
        _token.transferWithAuthorization(ALICE, BOB, 5e6, NOW - 1, UNTIL, NONCE, abi.encodePacked(r, s, v));
    }

    function test_TransferWithAuthorizationOfAContractAccount() external {
        address account = address(new ContractAccount(ALICE));
        _token.mint(account, 5e6);
        bytes memory signature = _signBytes(_message("Transfer", account));
        _token.transferWithAuthorization(account, BOB, 5e6, NOW - 1, UNTIL, NONCE, signature);
        vm.assertEq(_token.balanceOf(BOB), 5e6);
    }

    function test_ReceiveWithAuthorizationInBothForms() external {
        (uint8 v, bytes32 r, bytes32 s) = _sign(_message("Receive", ALICE));
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InvalidReceiver.selector, BOB));
        _token.receiveWithAuthorization(ALICE, BOB, 5e6, NOW - 1, UNTIL, NONCE, v, r, s);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InvalidReceiver.selector, BOB));
        _token.receiveWithAuthorization(ALICE, BOB, 5e6, NOW - 1, UNTIL, NONCE, abi.encodePacked(r, s, v));
        vm.prank(BOB);
        _token.receiveWithAuthorization(ALICE, BOB, 5e6, NOW - 1, UNTIL, NONCE, v, r, s);
        vm.assertEq(_token.balanceOf(BOB), 5e6);
    }

    function test_RevertWhen_TheSignatureIsOfAnotherMessage() external {
        (uint8 v, bytes32 r, bytes32 s) = _sign(_message("Receive", ALICE));
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        _token.transferWithAuthorization(ALICE, BOB, 5e6, NOW - 1, UNTIL, NONCE, v, r, s);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        _token.transferWithAuthorization(ALICE, BOB, 5e6, NOW - 1, UNTIL, NONCE, abi.encodePacked(r, s, v));
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        vm.prank(BOB);
        _token.receiveWithAuthorization(ALICE, BOB, 5e6 + 1, NOW - 1, UNTIL, NONCE, abi.encodePacked(r, s, v));
    }

    function test_RevertWhen_TheTimeIsOutside() external {
        bytes memory signature = _signBytes(_message("Transfer", ALICE));
        bytes memory outside = abi.encodeWithSelector(ERC3009.ERC3009InvalidAuthorizationTime.selector, NOW - 1, UNTIL);
        vm.warp(NOW - 1);
        vm.expectRevert(outside);
        _token.transferWithAuthorization(ALICE, BOB, 5e6, NOW - 1, UNTIL, NONCE, signature);
        vm.warp(UNTIL);
        vm.expectRevert(outside);
        _token.transferWithAuthorization(ALICE, BOB, 5e6, NOW - 1, UNTIL, NONCE, signature);
        vm.warp(UNTIL - 1);
        _token.transferWithAuthorization(ALICE, BOB, 5e6, NOW - 1, UNTIL, NONCE, signature);
    }

    function test_CancelAuthorizationInBothForms() external {
        (uint8 v, bytes32 r, bytes32 s) = _sign(_cancelMessage());
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        _token.cancelAuthorization(BOB, NONCE, abi.encodePacked(r, s, v));
        _token.cancelAuthorization(ALICE, NONCE, abi.encodePacked(r, s, v));
        bytes memory used = abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, ALICE, NONCE);
        vm.expectRevert(used);
        _token.cancelAuthorization(ALICE, NONCE, v, r, s);
        bytes memory signature = _signBytes(_message("Transfer", ALICE));
        vm.expectRevert(used);
        _token.transferWithAuthorization(ALICE, BOB, 5e6, NOW - 1, UNTIL, NONCE, signature);
    }

    function test_PermitInBothForms() external {
        (uint8 v, bytes32 r, bytes32 s) = _sign(_permitMessage());
        vm.expectRevert(TestUSDC.PermitSignatureInvalid.selector);
        _token.permit(BOB, BOB, 5e6, UNTIL, v, r, s);
        _token.permit(ALICE, BOB, 5e6, UNTIL, v, r, s);
        vm.assertEq(_token.allowance(ALICE, BOB), 5e6);
        vm.assertEq(_token.nonces(ALICE), 1);
        vm.expectRevert(TestUSDC.PermitSignatureInvalid.selector);
        _token.permit(ALICE, BOB, 5e6, UNTIL, abi.encodePacked(r, s, v));
    }

    function test_PermitWithBytes() external {
        bytes memory signature = _signBytes(_permitMessage());
        vm.warp(UNTIL + 1);
        vm.expectRevert(abi.encodeWithSelector(TestUSDC.PermitExpired.selector, UNTIL));
        _token.permit(ALICE, BOB, 5e6, UNTIL, signature);
        vm.warp(UNTIL);
        _token.permit(ALICE, BOB, 5e6, UNTIL, signature);
        vm.assertEq(_token.allowance(ALICE, BOB), 5e6);
    }
}

contract TestUSDTTest is TestBase {
    address private immutable ALICE = _account("alice");
    address private immutable BOB = _account("bob");

    TestUSDT private _token;

    function setUp() external {
        _token = new TestUSDT();
        _token.mint(ALICE, 10e6);
    }

    function test_ReturnsNothing() external {
        vm.prank(ALICE);
        (bool ok, bytes memory data) = address(_token).call(abi.encodeCall(TestUSDT.transfer, (BOB, 1)));
        vm.assertTrue(ok && data.length == 0);
        vm.prank(ALICE);
        (ok, data) = address(_token).call(abi.encodeCall(TestUSDT.approve, (BOB, 1)));
        vm.assertTrue(ok && data.length == 0);
        vm.prank(BOB);
        (ok, data) = address(_token).call(abi.encodeCall(TestUSDT.transferFrom, (ALICE, BOB, 1)));
        vm.assertTrue(ok && data.length == 0);
        vm.assertEq(_token.balanceOf(BOB), 2);
        vm.assertEq(_token.allowance(ALICE, BOB), 0);
        vm.assertEq(_token.totalSupply(), 10e6);
    }

    function test_ApproveNeedsZeroFirst() external {
        vm.startPrank(ALICE);
        _token.approve(BOB, 5);
        vm.expectRevert(abi.encodeWithSelector(TestUSDT.AllowanceNotZero.selector, ALICE, BOB, 5));
        _token.approve(BOB, 6);
        _token.approve(BOB, 0);
        _token.approve(BOB, 6);
        vm.assertEq(_token.allowance(ALICE, BOB), 6);
    }

    function test_RevertWhen_MoreIsMovedThanThereIs() external {
        vm.expectRevert(abi.encodeWithSelector(TestUSDT.InsufficientBalance.selector, BOB, 0, 1));
        vm.prank(BOB);
        _token.transfer(ALICE, 1);
        vm.expectRevert(abi.encodeWithSelector(TestUSDT.InsufficientAllowance.selector, ALICE, BOB, 0, 1));
        vm.prank(BOB);
        _token.transferFrom(ALICE, BOB, 1);
        vm.expectRevert(TestUSDT.ZeroAddress.selector);
        vm.prank(ALICE);
        _token.transfer(address(0), 1);
        vm.expectRevert(TestUSDT.ZeroAddress.selector);
        _token.mint(address(0), 1);
    }
}
