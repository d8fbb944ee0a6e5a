// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../src/interfaces/ILedger.sol";
import {PlainToken} from "./tokens/HostileTokens.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";

/// @title Units (L-1, L-2): what goes in comes out, for tokens of 0, 6, 9, 18 and 27 decimals.
contract DecimalsTest is LedgerFixture {
    struct Case {
        uint8 decimals;
        uint256 nanosPerBaseUnit;
        uint256 baseUnitsPerNano;
    }

    function _cases() private pure returns (Case[5] memory) {
        return [Case(0, 1e9, 0), Case(6, 1e3, 0), Case(9, 1, 1), Case(18, 0, 1e9), Case(27, 0, 1e18)];
    }

    function test_UnitsFollowTheDecimals() external {
        Case[5] memory cases = _cases();
        for (uint256 i = 0; i < cases.length; ++i) {
            _deploy(address(new PlainToken(cases[i].decimals)));
            vm.assertEq(ledger.NANOS_PER_BASE_UNIT(), cases[i].nanosPerBaseUnit);
            vm.assertEq(ledger.BASE_UNITS_PER_NANO(), cases[i].baseUnitsPerNano);
        }
    }

    function test_RevertWhen_ADepositIsNotWholeInNanos() external {
        _deploy(address(new PlainToken(18)));
        uint256[3] memory amounts = [uint256(1), 1e9 - 1, 1e18 + 1];
        for (uint256 i = 0; i < amounts.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ILedger.NotWholeNanos.selector, amounts[i]));
            ledger.open(_key(0), 0, amounts[i]);
        }
        uint248 uid = _open(ALICE, 1, 1e9);
        vm.assertEq(ledger.channel(uid).depositNanos, 1);
        vm.expectRevert(abi.encodeWithSelector(ILedger.NotWholeNanos.selector, 1e9 + 1));
        ledger.topUp(uid, 1e9 + 1);
    }

    function test_RevertWhen_ADepositOfManyDecimalsExceeds64Bits() external {
        _deploy(address(new PlainToken(18)));
        uint256 most = uint256(type(uint64).max) * 1e9;
        vm.expectRevert(abi.encodeWithSelector(ILedger.DepositTooLarge.selector, 1 << 64));
        ledger.open(_key(0), 0, most + 1e9);
        vm.assertEq(ledger.channel(_open(ALICE, 1, most)).depositNanos, type(uint64).max);
    }

    /// @dev The minimum is in nanos whatever the token: of two amounts that differ by one unit only the one that reaches it is taken.
    function testFuzz_TheMinimumIsInNanos(uint256 which, uint64 minimum, uint256 amount) external {
        Case memory c = _cases()[which % 5];
        _deploy(address(new PlainToken(c.decimals)), minimum);
        uint256 unit = c.nanosPerBaseUnit == 0 ? 1 : c.nanosPerBaseUnit;
        uint256 most = type(uint64).max / unit;
        // Half of the cases lie right at the minimum.
        uint256 units = amount % 2 == 0 ? _bound(amount >> 1, 1, most) : minimum / unit + _bound(amount >> 1, 0, 2);
        if (units == 0 || units > most) units = most;
        uint256 nanos = units * unit;
        uint256 deposit = c.nanosPerBaseUnit == 0 ? units * c.baseUnitsPerNano : units;

        _fund(ALICE, deposit);
        if (nanos < minimum) vm.expectRevert(abi.encodeWithSelector(ILedger.DepositTooSmall.selector, nanos, minimum));
        vm.prank(ALICE);
        uint248 uid = ledger.open(_key(0), 0, deposit);
        vm.assertEq(ledger.queueTail(), nanos < minimum ? 0 : 1);
        if (nanos >= minimum) vm.assertEq(ledger.channel(uid).depositNanos, nanos);
    }

    /// @dev One channel: deposit, settle a part, close, withdraw both. Nothing is lost but the parts of a base unit that stay as credit.
    function testFuzz_WhatGoesInComesOut(uint256 which, uint256 deposit, uint256 settled) external {
        Case memory c = _cases()[which % 5];
        _deploy(address(new PlainToken(c.decimals)));
        uint256 nanos;
        if (c.nanosPerBaseUnit != 0) {
            deposit = _bound(deposit, 1, uint256(type(uint64).max) / c.nanosPerBaseUnit);
            nanos = deposit * c.nanosPerBaseUnit;
        } else {
            nanos = _bound(deposit, 1, type(uint64).max);
            deposit = nanos * c.baseUnitsPerNano;
        }
        settled = _bound(settled, 0, nanos);

        uint248 uid = _openIn(BOOK_24, 0, ALICE, 1, deposit);
        vm.assertEq(ledger.channel(uid).depositNanos, nanos);
        _settle(_settlement(BOOK_24, uint64(settled)));
        _requestClose(ALICE, uid);
        _register(_registration(BOOK_24, _rows(_row(0, CLOSED, uid, 0, uint64(nanos - settled)))), _oldest(1));

        vm.assertEq(_withdrawAll(PROVIDER, settled, c), token.balanceOf(PROVIDER));
        vm.assertEq(_withdrawAll(ALICE, nanos - settled, c), token.balanceOf(ALICE));
        uint256 left = ledger.creditNanos(PROVIDER) + ledger.creditNanos(ALICE);
        uint256 kept = token.balanceOf(address(ledger));
        vm.assertEq(deposit, token.balanceOf(PROVIDER) + token.balanceOf(ALICE) + kept);
        vm.assertEq(left, kept * c.nanosPerBaseUnit);
        vm.assertLe(kept, 1);
    }

    function _withdrawAll(address account, uint256 credit, Case memory c) private returns (uint256 expected) {
        vm.assertEq(ledger.creditNanos(account), credit);
        expected = c.nanosPerBaseUnit != 0 ? credit / c.nanosPerBaseUnit : credit * c.baseUnitsPerNano;
        if (expected == 0) vm.expectRevert(abi.encodeWithSelector(ILedger.NothingToWithdraw.selector, account));
        ledger.withdraw(account);
        vm.assertEq(ledger.creditNanos(account), c.nanosPerBaseUnit != 0 ? credit % c.nanosPerBaseUnit : 0);
    }
}
