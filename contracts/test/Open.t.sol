// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../src/interfaces/ILedger.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";

contract OpenTest is LedgerFixture {
    bytes32 private constant SALT = keccak256("salt");

    function test_StoresTheChannelAndQueuesTheRequest() external {
        _fund(ALICE, 5e6);
        uint248 uid = ledger.channelUid(ALICE, _key(0).x, SALT);

        vm.expectEmit(address(ledger));
        emit ILedger.Opened(uid, ALICE, _key(0).x, SALT, 5e9, 0);
        vm.prank(ALICE);
        vm.assertEq(ledger.open(_key(0), SALT, 5e6), uid);

        ILedger.Channel memory c = ledger.channel(uid);
        vm.assertEq(c.payer, ALICE);
        vm.assertEq(c.depositNanos, 5e9);
        vm.assertFalse(c.included || c.closeRequested || c.closed);
        vm.assertEq(token.balanceOf(address(ledger)), 5e6);
        vm.assertEq(ledger.queueHead(), 0);
        vm.assertEq(ledger.queueTail(), 1);
        vm.assertEq(ledger.requestedAt(0), START);
        bytes32 hash = keccak256(abi.encode(uint256(0), uint256(1), uint256(uid), _key(0).x, uint256(5e9)));
        vm.assertEq(ledger.requestDigest(0), uint256(hash) >> 40);
    }

    function test_UidIsThatOfTheSpecification() external view {
        bytes32 typehash = keccak256("MillstreamChannel(uint256 chainId,address ledger,address payer,uint256 keyX,bytes32 salt)");
        bytes32 hash = keccak256(abi.encode(typehash, block.chainid, address(ledger), ALICE, _key(0).x, SALT));
        vm.assertEq(ledger.channelUid(ALICE, _key(0).x, SALT), uint256(hash) >> 8);
    }

    function test_UidDependsOnEveryPart() external {
        uint248 uid = ledger.channelUid(ALICE, 1, SALT);
        vm.assertNotEq(ledger.channelUid(BOB, 1, SALT), uid);
        vm.assertNotEq(ledger.channelUid(ALICE, 2, SALT), uid);
        vm.assertNotEq(ledger.channelUid(ALICE, 1, bytes32(0)), uid);
        vm.chainId(1);
        vm.assertNotEq(ledger.channelUid(ALICE, 1, SALT), uid);
    }

    function test_OnePayerMayOpenMany() external {
        vm.assertNotEq(_open(ALICE, 1, 1e6), _open(ALICE, 2, 1e6));
        vm.assertEq(ledger.queueTail(), 2);
    }

    function test_TakesTheLargestDepositOf64Bits() external {
        uint256 most = uint256(type(uint64).max) / 1000;
        vm.assertEq(ledger.channel(_open(ALICE, 1, most)).depositNanos, most * 1000);
    }

    function test_RevertWhen_TheAmountIsZero() external {
        vm.expectRevert(ILedger.ZeroAmount.selector);
        ledger.open(_key(0), SALT, 0);
    }

    function test_RevertWhen_TheAmountExceeds64Bits() external {
        uint256 baseUnits = uint256(type(uint64).max) / 1000 + 1;
        vm.expectRevert(abi.encodeWithSelector(ILedger.DepositTooLarge.selector, baseUnits * 1000));
        ledger.open(_key(0), SALT, baseUnits);
        vm.expectRevert(abi.encodeWithSelector(ILedger.DepositTooLarge.selector, type(uint256).max));
        ledger.open(_key(0), SALT, type(uint256).max);
    }

    function test_RevertWhen_TheAmountIsBelowTheMinimum() external {
        _deploy(address(token), 5e6);
        // The key is wrong as well: the amount is looked at first.
        ILedger.VoucherKey memory key = ILedger.VoucherKey({x: 0, qx: 0, qy: 1});
        vm.expectRevert(abi.encodeWithSelector(ILedger.DepositTooSmall.selector, 4_999_000, 5e6));
        ledger.open(key, SALT, 4_999);
        vm.expectRevert(ILedger.ZeroAmount.selector);
        ledger.open(key, SALT, 0);
        vm.assertEq(ledger.queueTail(), 0);
        vm.assertEq(ledger.channel(_open(ALICE, 1, 5_000)).depositNanos, 5e6);
    }

    function test_WithoutAMinimumOneBaseUnitSuffices() external {
        vm.assertEq(ledger.channel(_open(ALICE, 1, 1)).depositNanos, 1000);
    }

    function test_RevertWhen_TheKeyIsInvalid() external {
        ILedger.VoucherKey memory key = _key(0);
        key.qy += 1;
        vm.expectRevert(abi.encodeWithSelector(ILedger.InvalidKey.selector, key.x));
        ledger.open(key, SALT, 1e6);
        vm.expectRevert(abi.encodeWithSelector(ILedger.InvalidKey.selector, 0));
        ledger.open(ILedger.VoucherKey({x: 0, qx: 0, qy: 1}), SALT, 1e6);
    }

    function test_RevertWhen_TheUidIsOpen() external {
        uint248 uid = _open(ALICE, 1, 1e6);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelExists.selector, uid));
        vm.prank(ALICE);
        ledger.open(_key(0), bytes32(uint256(1)), 1e6);
    }

    function test_RevertWhen_TheUidWasClosed() external {
        uint248 uid = _openIn(BOOK_24, 0, ALICE, 1, 1e6);
        _requestClose(ALICE, uid);
        _register(_registration(BOOK_24, _rows(_row(0, CLOSED, uid, 0, 1e9))), _oldest(1));
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelExists.selector, uid));
        vm.prank(ALICE);
        ledger.open(_key(0), bytes32(uint256(1)), 1e6);
    }

    function test_RevertWhen_ThePayerHasNotApproved() external {
        token.mint(ALICE, 1e6);
        vm.expectRevert();
        vm.prank(ALICE);
        ledger.open(_key(0), SALT, 1e6);
    }
}
