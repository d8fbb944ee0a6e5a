// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../src/interfaces/ILedger.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";

contract WithdrawTest is LedgerFixture {
    function setUp() public override {
        super.setUp();
        _openIn(BOOK_24, 0, ALICE, 1, 10e6);
        _settle(_settlement(BOOK_24, 3_000_000_999));
    }

    function test_PaysWholeBaseUnitsAndKeepsTheRest() external {
        vm.expectEmit(address(ledger));
        emit ILedger.Withdrawn(PROVIDER, PROVIDER, 3e6);
        vm.prank(STRANGER);
        vm.assertEq(ledger.withdraw(PROVIDER), 3e6);
        vm.assertEq(token.balanceOf(PROVIDER), 3e6);
        vm.assertEq(token.balanceOf(address(ledger)), 7e6);
        vm.assertEq(ledger.creditNanos(PROVIDER), 999);

        _settle(_settlement(BOOK_24, 1));
        ledger.withdraw(PROVIDER);
        vm.assertEq(token.balanceOf(PROVIDER), 3e6 + 1);
        vm.assertEq(ledger.creditNanos(PROVIDER), 0);
    }

    function test_WithdrawToPaysTheCallersCreditElsewhere() external {
        vm.expectEmit(address(ledger));
        emit ILedger.Withdrawn(PROVIDER, BOB, 3e6);
        vm.prank(PROVIDER);
        vm.assertEq(ledger.withdrawTo(BOB), 3e6);
        vm.assertEq(token.balanceOf(BOB), 3e6);
        vm.assertEq(ledger.creditNanos(PROVIDER), 999);
    }

    function test_RevertWhen_TheCreditIsBelowOneBaseUnit() external {
        ledger.withdraw(PROVIDER);
        vm.expectRevert(abi.encodeWithSelector(ILedger.NothingToWithdraw.selector, PROVIDER));
        ledger.withdraw(PROVIDER);
        vm.expectRevert(abi.encodeWithSelector(ILedger.NothingToWithdraw.selector, PROVIDER));
        vm.prank(PROVIDER);
        ledger.withdrawTo(BOB);
    }

    function test_RevertWhen_TheAccountHasNoCredit() external {
        vm.expectRevert(abi.encodeWithSelector(ILedger.NothingToWithdraw.selector, STRANGER));
        ledger.withdraw(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(ILedger.NothingToWithdraw.selector, STRANGER));
        vm.prank(STRANGER);
        ledger.withdrawTo(STRANGER);
    }
}
