// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../src/interfaces/ILedger.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";
import {Reference} from "./utils/Reference.sol";

contract SetOperatorTest is LedgerFixture {
    function test_NamesAnotherOperator() external {
        vm.assertEq(ledger.operator(), OPERATOR);
        _open(ALICE, 1, 5e6);
        vm.expectEmit(address(ledger));
        emit ILedger.OperatorChanged(BOB);
        vm.prank(PROVIDER);
        ledger.setOperator(BOB);
        vm.assertEq(ledger.operator(), BOB);
        // The queue shares a slot with the operator.
        vm.assertEq(ledger.queueTail(), 1);

        Reference.Settlement[] memory list = _list(_settlement(BOOK_24, 5));
        vm.expectRevert(abi.encodeWithSelector(ILedger.NotOperator.selector, OPERATOR));
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());
        vm.prank(BOB);
        ledger.settle(Reference.pack(list), _noEpochs());
    }

    function test_RevertWhen_TheCallerIsNotTheProvider() external {
        address[3] memory callers = [OPERATOR, ALICE, STRANGER];
        for (uint256 i = 0; i < callers.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ILedger.NotProvider.selector, callers[i]));
            vm.prank(callers[i]);
            ledger.setOperator(STRANGER);
        }
    }
}
