// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../../src/interfaces/ILedger.sol";
import {LedgerFixture} from "../utils/LedgerFixture.sol";
import {BookHandler} from "./BookHandler.sol";

/// @title What holds after any sequence of actions.
contract LedgerInvariantTest is LedgerFixture {
    BookHandler private _handler;
    uint256 private _settledBefore;

    function setUp() public override {
        super.setUp();
        _handler = new BookHandler(ledger, token, paths, PROVIDER, OPERATOR, _key(0));
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    /// @dev What an account was given since the beginning: its credit and what it withdrew.
    function _given(address account) private view returns (uint256) {
        return ledger.creditNanos(account) + _handler.withdrawnBy(account) * ledger.NANOS_PER_BASE_UNIT();
    }

    /// @dev The ledger can pay every credit and every nano that is neither settled nor refunded; and every nano that was deposited is one of
    /// the two or was withdrawn.
    function invariant_TheBalanceCoversEveryClaim() external view {
        uint256 credits = 0;
        for (uint256 i = 0; i < 4; ++i) {
            credits += ledger.creditNanos(_handler.account(i));
        }
        uint256 unsettled = _handler.waitingNanos() + _handler.bookNanos();
        uint256 unit = ledger.NANOS_PER_BASE_UNIT();
        vm.assertGe(token.balanceOf(address(ledger)) * unit, credits + unsettled);
        vm.assertEq(_handler.depositedNanos(), credits + unsettled + _handler.withdrawnBaseUnits() * unit);
    }

    /// @dev Nobody is given more than deposits and vouchers allow: a payer its refunds, never more than was deposited for it; the provider
    /// what was proven, which never falls.
    function invariant_EveryoneGetsTheirOwn() external {
        uint256 refunds = 0;
        for (uint256 i = 0; i < 3; ++i) {
            address payer = _handler.account(i);
            vm.assertEq(_given(payer), _handler.refundedTo(payer));
            vm.assertLe(_given(payer), _handler.depositedFor(payer));
            refunds += _given(payer);
        }
        uint256 settled = _given(PROVIDER);
        vm.assertEq(settled, _handler.settledNanos());
        vm.assertGe(settled, _settledBefore);
        vm.assertLe(settled + refunds, _handler.depositedNanos());
        _settledBefore = settled;
    }

    function invariant_TheQueueAndTheBookFollow() external view {
        vm.assertEq(ledger.queueHead(), _handler.served());
        vm.assertEq(ledger.queueTail(), _handler.queueLength());
        vm.assertEq(ledger.epochCount(), _handler.epochs());
        vm.assertEq(ledger.halted(), _handler.halted());
        uint256 root = ledger.bookRoot(BOOK_24);
        vm.assertTrue(root == _emptyRoot(0) || root == _handler.root());
    }

    /// @dev At the end of a run: every channel is what became of it.
    function afterInvariant() external view {
        BookHandler.Known[] memory channels = _handler.channels();
        uint256 unsettled = 0;
        for (uint256 i = 0; i < channels.length; ++i) {
            ILedger.Channel memory c = ledger.channel(channels[i].uid);
            vm.assertLe(channels[i].settledNanos, channels[i].depositNanos);
            vm.assertEq(c.closed, channels[i].place == BookHandler.Place.Gone);
            vm.assertTrue(c.closeRequested || !c.closed);
            if (!c.closed) {
                vm.assertEq(c.depositNanos, uint256(channels[i].waitingNanos) + channels[i].depositNanos);
                vm.assertEq(c.included, channels[i].place == BookHandler.Place.Book);
                unsettled += c.depositNanos - channels[i].settledNanos;
            }
        }
        vm.assertEq(unsettled, _handler.waitingNanos() + _handler.bookNanos());
    }
}
