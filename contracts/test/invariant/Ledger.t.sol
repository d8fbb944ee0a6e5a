// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {LedgerFixture} from "../utils/LedgerFixture.sol";
import {BookHandler} from "./BookHandler.sol";

/// @title What holds after any sequence of actions.
contract LedgerInvariantTest is LedgerFixture {
    BookHandler private _handler;

    function setUp() public override {
        super.setUp();
        _handler = new BookHandler(ledger, token, PROVIDER, OPERATOR, _key(0));
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    function _credits() private view returns (uint256 sum) {
        for (uint256 i = 0; i < 4; ++i) {
            sum += ledger.creditNanos(_handler.account(i));
        }
    }

    /// @dev The ledger can pay every credit and every nano that is not settled or refunded.
    function invariant_TheBalanceCoversEveryClaim() external view {
        uint256 held = token.balanceOf(address(ledger)) * ledger.NANOS_PER_BASE_UNIT();
        vm.assertGe(held, _credits() + _handler.bookNanos() + _handler.waitingNanos());
    }

    /// @dev Every nano deposited is in the queue, in the book, a credit, or withdrawn.
    function invariant_NothingIsLostOrMade() external view {
        uint256 out = _handler.withdrawnBaseUnits() * ledger.NANOS_PER_BASE_UNIT();
        vm.assertEq(_handler.depositedNanos(), _handler.waitingNanos() + _handler.bookNanos() + _credits() + out);
    }

    /// @dev What was credited is what was settled and refunded, and never exceeds the deposits.
    function invariant_CreditsComeFromSettlementsAndRefunds() external view {
        uint256 credited = _credits() + _handler.withdrawnBaseUnits() * ledger.NANOS_PER_BASE_UNIT();
        vm.assertEq(credited, _handler.settledNanos() + _handler.refundedNanos());
        vm.assertLe(credited, _handler.depositedNanos());
    }

    function invariant_TheQueueAndTheBookFollow() external view {
        vm.assertEq(ledger.queueHead(), _handler.served());
        vm.assertEq(ledger.queueTail(), _handler.queueLength());
        vm.assertEq(ledger.epochCount(), _handler.epochs());
        uint256 root = ledger.bookRoot(BOOK_24);
        vm.assertTrue(root == _emptyRoot(0) || root == _handler.root());
    }
}
