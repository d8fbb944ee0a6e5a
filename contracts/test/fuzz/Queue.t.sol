// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../../src/interfaces/ILedger.sol";
import {LedgerFixture} from "../utils/LedgerFixture.sol";

/// @title Whatever payers ask, the queue is served in order, in any portions, and nothing else is served.
contract QueueTest is LedgerFixture {
    /// @dev A channel, who may ask to close it, and whether that was done.
    struct Channel {
        uint248 uid;
        address payer;
        bool closing;
    }

    Channel[] private _channels;

    function testFuzz_AnyQueueIsServedInAnyPortions(uint256 seed, uint256 count) external {
        count = _bound(count, 1, 16);
        for (uint256 i = 0; i < count; ++i) {
            _ask(uint256(keccak256(abi.encode(seed, i))), i);
        }
        vm.assertEq(ledger.queueTail(), count);
        while (ledger.queueHead() < count) {
            uint256 head = ledger.queueHead();
            uint256 portion = 1 + uint256(keccak256(abi.encode(seed, "portion", head))) % (count - head);
            _serve(portion);
            vm.assertEq(ledger.queueHead(), head + portion);
        }
        for (uint256 i = 0; i < _channels.length; ++i) {
            ILedger.Channel memory c = ledger.channel(_channels[i].uid);
            vm.assertTrue(c.included);
            vm.assertEq(c.closed, _channels[i].closing);
        }
    }

    /// @dev The requests of the queue in any order but their own are refused.
    function testFuzz_AnotherOrderIsRefused(uint256 seed, uint256 a, uint256 b) external {
        for (uint256 i = 0; i < 8; ++i) {
            _ask(uint256(keccak256(abi.encode(seed, i))), i);
        }
        (a, b) = (a % 8, b % 8);
        vm.assume(a != b);
        if (a > b) (a, b) = (b, a);
        (ILedger.Registration memory g, ILedger.Request[] memory requests) = _portion(8);
        (requests[a], requests[b]) = (requests[b], requests[a]);
        ILedger.Registration[] memory list = _list(g);
        vm.expectRevert(abi.encodeWithSelector(ILedger.RequestMismatch.selector, a));
        vm.prank(OPERATOR);
        ledger.register(list, requests);
    }

    /// @dev Requests with time between them: a stranger may serve exactly the prefixes of which every request is overdue.
    function testFuzz_AStrangerServesOverdueRequestsOnly(uint256 seed, uint256 count, uint256 portion, uint256 later) external {
        count = _bound(count, 1, 8);
        uint256 time = START;
        for (uint256 i = 0; i < count; ++i) {
            uint256 random = uint256(keccak256(abi.encode(seed, i)));
            time += (random >> 64) % (WINDOW / 2);
            vm.warp(time);
            _ask(random, i);
        }
        vm.warp(time + _bound(later, 0, WINDOW + 1));
        portion = _bound(portion, 1, count);
        bool allOverdue = true;
        for (uint64 i = 0; i < portion; ++i) {
            allOverdue = allOverdue && block.timestamp > uint256(ledger.requestedAt(i)) + WINDOW;
        }
        (ILedger.Registration memory g, ILedger.Request[] memory requests) = _portion(portion);
        ILedger.Registration[] memory list = _list(g);
        if (!allOverdue) vm.expectRevert(abi.encodeWithSelector(ILedger.NotOperator.selector, STRANGER));
        vm.prank(STRANGER);
        ledger.register(list, requests);
        vm.assertEq(ledger.queueHead(), allOverdue ? portion : 0);
    }

    function _ask(uint256 random, uint256 salt) private {
        uint256 baseUnits = 1 + (random >> 128) % 1e12;
        Channel storage c;
        if (_channels.length == 0 || random % 4 == 0) {
            address payer = random & 16 == 0 ? ALICE : BOB;
            _channels.push(Channel(_open(payer, salt, baseUnits), payer, false));
            return;
        }
        c = _channels[(random >> 8) % _channels.length];
        if (c.closing) {
            _channels.push(Channel(_open(ALICE, salt, baseUnits), ALICE, false));
        } else if (random % 4 == 1) {
            c.closing = true;
            _requestClose(c.payer, c.uid);
        } else {
            _topUp(STRANGER, c.uid, baseUnits);
        }
    }

    /// @dev One registration for the next `portion` requests: a row for each channel, in slots in the order the channels were opened.
    function _portion(uint256 portion) private view returns (ILedger.Registration memory g, ILedger.Request[] memory requests) {
        requests = _oldest(portion);
        ILedger.Row[] memory rows = new ILedger.Row[](_channels.length);
        uint256 count = 0;
        for (uint256 i = 0; i < _channels.length; ++i) {
            ILedger.Row memory row;
            (row.slot, row.uid) = (uint16(i), _channels[i].uid);
            for (uint256 j = 0; j < portion; ++j) {
                if (requests[j].uid != row.uid) continue;
                requests[j].row = uint16(count);
                row.flags |= 1;
                row.deltaNanos += requests[j].amountNanos;
                if (requests[j].kind == ILedger.Kind.Open) (row.flags, row.keyX) = (row.flags | 2, requests[j].keyX);
                if (requests[j].kind == ILedger.Kind.Close) (row.flags, row.refundNanos) = (row.flags | 4, 1);
            }
            if (row.flags != 0) rows[count++] = row;
        }
        assembly ("memory-safe") {
            mstore(rows, count)
        }
        g = _registration(BOOK_24, rows);
    }

    function _serve(uint256 portion) private {
        (ILedger.Registration memory g, ILedger.Request[] memory requests) = _portion(portion);
        _register(g, requests);
    }
}
