// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ISessionEscrow} from "../../src/interfaces/ISessionEscrow.sol";
import {FreezingToken} from "../tokens/HostileTokens.sol";
import {IMintable} from "../utils/LedgerFixture.sol";
import {SessionFixture} from "../utils/SessionFixture.sol";
import {SessionHandler} from "./SessionHandler.sol";

/// @title What holds after any sequence of actions.
contract SessionInvariantTest is SessionFixture {
    SessionHandler private _handler;

    function setUp() public override {
        super.setUp();
        // A run waits for at most 1,024 grace periods, and nothing that is signed may be too old by then.
        vm.warp(START - 1_024 * GRACE);
        token = IMintable(address(new FreezingToken()));
        _handler = new SessionHandler(escrow, FreezingToken(address(token)));
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    /// @dev Every base unit that was deposited is in an open channel, was given to its payee or payer, or waits for one of them as credit;
    /// and the escrow holds what it owes.
    function invariant_EveryoneGetsTheirOwn() external view {
        SessionHandler.Known[] memory channels = _handler.channels();
        (uint256 unsettled, uint256 settled, uint256 refunded) = (0, 0, 0);
        for (uint256 i = 0; i < channels.length; ++i) {
            SessionHandler.Known memory k = channels[i];
            ISessionEscrow.Channel memory c = escrow.getChannel(k.id);
            vm.assertEq(c.deposit, k.deposit);
            vm.assertEq(c.settled, k.settled);
            vm.assertEq(c.finalized, k.finalized);
            vm.assertEq(c.closeRequestedAt, k.closeRequestedAt);
            vm.assertLe(c.settled, c.deposit);
            settled += c.settled;
            if (c.finalized) refunded += c.deposit - c.settled;
            else unsettled += c.deposit - c.settled;
        }
        vm.assertEq(_handler.given(PAYEE), settled);
        vm.assertEq(_handler.given(PAYER), refunded);
        vm.assertEq(_handler.deposited(), unsettled + settled + refunded);
        uint256 credits = escrow.credit(PAYER, address(token)) + escrow.credit(PAYEE, address(token));
        vm.assertEq(token.balanceOf(address(escrow)), unsettled + credits + _handler.donated());
    }

    function invariant_CreditsAreWhatCouldNotBePaid() external view {
        address[2] memory accounts = [PAYER, PAYEE];
        for (uint256 i = 0; i < 2; ++i) {
            vm.assertEq(escrow.credit(accounts[i], address(token)), _handler.credited(accounts[i]));
        }
        // The payee starts with nothing and is minted nothing.
        vm.assertEq(token.balanceOf(PAYEE), _handler.given(PAYEE) - _handler.credited(PAYEE));
    }
}
