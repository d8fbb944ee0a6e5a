// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {TestUSDT} from "../../src/tokens/TestUSDT.sol";
import {IMintable} from "../utils/LedgerFixture.sol";
import {X402Fixture} from "../utils/X402Fixture.sol";
import {X402Handler} from "./X402Handler.sol";

/// @title What holds after any sequence of actions.
contract X402InvariantTest is X402Fixture {
    X402Handler private _handler;
    uint128[8] private _claimedBefore;

    function setUp() public override {
        super.setUp();
        _handler = new X402Handler(token, IMintable(address(new TestUSDT())), collector);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    /// @dev The contract holds, of each token, what channels have unclaimed and what receivers are due, and nobody was given anything else.
    function invariant_TheBalanceIsWhatChannelsAndReceiversOwn() external view {
        for (uint256 t = 0; t < 2; ++t) {
            uint256 owed = 0;
            for (uint256 i = 4 * t; i < 4 * t + 4; ++i) {
                (uint128 balance, uint128 claimed) = SETTLEMENT.channels(_handler.idOf(i));
                owed += balance - claimed;
            }
            for (uint256 r = 0; r < 2; ++r) {
                (uint128 claimed, uint128 settled) = SETTLEMENT.receivers(_handler.receiverOf(r), address(_handler.tokenOf(t)));
                owed += claimed - settled;
                vm.assertEq(settled, _handler.paid(r, t));
                vm.assertEq(settled, _handler.tokenOf(t).balanceOf(_handler.receiverOf(r)));
                uint256 sum = _handler.known(4 * t + 2 * r).claimed + _handler.known(4 * t + 2 * r + 1).claimed;
                vm.assertEq(claimed, sum);
            }
            vm.assertEq(_handler.tokenOf(t).balanceOf(address(SETTLEMENT)), owed + _handler.donated(t));
            uint256 returned = _handler.tokenOf(t).balanceOf(PAYER) + _handler.tokenOf(t).balanceOf(_handler.configOf(1).payer);
            vm.assertEq(returned, _handler.returned(t));
        }
    }

    /// @dev Each channel is what the rules made of it; what is claimed never falls and never exceeds the balance.
    function invariant_ChannelsFollowTheRules() external {
        for (uint256 i = 0; i < _handler.CHANNELS(); ++i) {
            X402Handler.Known memory k = _handler.known(i);
            bytes32 id = _handler.idOf(i);
            _check(id, k.balance, k.claimed);
            _checkPending(id, k.pending, k.initiatedAt);
            vm.assertEq(SETTLEMENT.refundNonce(id), k.nonce);
            vm.assertLe(k.claimed, k.balance);
            vm.assertGe(k.claimed, _claimedBefore[i]);
            _claimedBefore[i] = k.claimed;
        }
    }
}
