// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IX402BatchSettlement} from "../../src/interfaces/IX402BatchSettlement.sol";
import {X402Fixture} from "../utils/X402Fixture.sol";

contract X402SettleTest is X402Fixture {
    function test_NothingDueIsNoError() external {
        _deposit(_config(), 1000);
        vm.expectCall(address(token), abi.encodePacked(IERC20.transfer.selector), 0);
        SETTLEMENT.settle(RECEIVER, address(token));
        SETTLEMENT.settle(RECEIVER, STRANGER);
    }

    function test_OneTransferPaysWhatAllChannelsOwe() external {
        for (uint256 salt = 1; salt <= 3; ++salt) {
            _deposit(_config(salt), 1000);
            _claim(_row(_config(salt), 700, 700));
        }
        vm.expectCall(address(token), abi.encodeCall(IERC20.transfer, (RECEIVER, 2100)), 1);
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.Settled(RECEIVER, address(token), STRANGER, 2100);
        vm.prank(STRANGER);
        SETTLEMENT.settle(RECEIVER, address(token));
        vm.assertEq(token.balanceOf(RECEIVER), 2100);
        (uint128 claimed, uint128 settled) = SETTLEMENT.receivers(RECEIVER, address(token));
        vm.assertEq(claimed, 2100);
        vm.assertEq(settled, 2100);
        SETTLEMENT.settle(RECEIVER, address(token));
        vm.assertEq(token.balanceOf(RECEIVER), 2100);
        // What comes later is paid later. The channels' balances are gross.
        _claim(_row(_config(1), 800, 800));
        SETTLEMENT.settle(RECEIVER, address(token));
        vm.assertEq(token.balanceOf(RECEIVER), 2200);
        _check(_id(_config(1)), 1000, 800);
    }
}
