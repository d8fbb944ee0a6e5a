// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDepositCollector} from "../../src/interfaces/IDepositCollector.sol";
import {IX402BatchSettlement} from "../../src/interfaces/IX402BatchSettlement.sol";
import {IMintable} from "../utils/LedgerFixture.sol";
import {X402Fixture} from "../utils/X402Fixture.sol";

/// @title Makes the amounts that it is told to out of nothing: first one, then the next time another.
contract MintingCollector is IDepositCollector {
    int256 private immutable _EXTRA;

    constructor(int256 extra) {
        _EXTRA = extra;
    }

    function collect(address, address token, uint256 amount, bytes32, bytes calldata) external {
        IMintable(token).mint(msg.sender, uint256(int256(amount) + _EXTRA));
    }
}

contract X402DepositTest is X402Fixture {
    function _expect(bytes4 error, IX402BatchSettlement.ChannelConfig memory config, uint128 amount, address by) private {
        vm.expectRevert(error);
        SETTLEMENT.deposit(config, amount, by, "");
    }

    function test_RevertWhen_ThePartiesAreIncomplete() external {
        IX402BatchSettlement.ChannelConfig memory config = _config();
        config.payer = address(0);
        _expect(IX402BatchSettlement.InvalidChannel.selector, config, 1, address(collector));
        config = _config();
        config.receiver = address(0);
        _expect(IX402BatchSettlement.InvalidChannel.selector, config, 1, address(collector));
        config = _config();
        config.receiverAuthorizer = address(0);
        _expect(IX402BatchSettlement.InvalidChannel.selector, config, 1, address(collector));
        config = _config();
        config.token = address(0);
        _expect(IX402BatchSettlement.InvalidChannel.selector, config, 1, address(collector));
    }

    function test_TheDelayIsBounded() external {
        IX402BatchSettlement.ChannelConfig memory config = _config();
        uint40[2] memory refused = [uint40(899), 2_592_001];
        uint40[2] memory taken = [uint40(900), 2_592_000];
        vm.assertEq(SETTLEMENT.MIN_WITHDRAW_DELAY(), 900);
        vm.assertEq(SETTLEMENT.MAX_WITHDRAW_DELAY(), 2_592_000);
        for (uint256 i = 0; i < 2; ++i) {
            config.withdrawDelay = refused[i];
            _expect(IX402BatchSettlement.WithdrawDelayOutOfRange.selector, config, 1, address(collector));
            config.withdrawDelay = taken[i];
            _check(_deposit(config, 1), 1, 0);
        }
    }

    function test_RevertWhen_AmountOrCollectorIsZero() external {
        _expect(IX402BatchSettlement.ZeroDeposit.selector, _config(), 0, address(collector));
        _expect(IX402BatchSettlement.InvalidCollector.selector, _config(), 1, address(0));
    }

    function test_RevertWhen_TheBalanceOverflows() external {
        bytes32 id = _deposit(_config(), type(uint128).max);
        _expect(IX402BatchSettlement.DepositOverflow.selector, _config(), 1, address(collector));
        _check(id, type(uint128).max, 0);
    }

    /// @dev E-2.
    function test_OnlyWhatArrivesCounts() external {
        int256[4] memory extra = [int256(-1), 1, -1000, 0];
        for (uint256 i = 0; i < 4; ++i) {
            MintingCollector minting = new MintingCollector(extra[i]);
            if (extra[i] != 0) {
                _expect(IX402BatchSettlement.DepositCollectionFailed.selector, _config(), 1000, address(minting));
                _check(_id(_config()), 0, 0);
            } else {
                SETTLEMENT.deposit(_config(), 1000, address(minting), "");
                _check(_id(_config()), 1000, 0);
            }
        }
    }

    function test_RevertWhen_TheCollectorHasNoCode() external {
        vm.expectRevert();
        SETTLEMENT.deposit(_config(), 1, STRANGER, "");
    }

    function test_AnyoneRaisesTheBalance() external {
        IX402BatchSettlement.ChannelConfig memory config = _config();
        bytes32 id = _id(config);
        _fund(PAYER, address(collector), 3000);
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.ChannelCreated(id, config);
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.Deposited(id, STRANGER, 1000, 1000);
        vm.prank(STRANGER);
        SETTLEMENT.deposit(config, 1000, address(collector), "");
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.Deposited(id, RECEIVER, 2000, 3000);
        vm.prank(RECEIVER);
        SETTLEMENT.deposit(config, 2000, address(collector), "");
        _check(id, 3000, 0);
        vm.assertEq(token.balanceOf(address(SETTLEMENT)), 3000);
    }

    /// @dev E-9.
    function test_AChannelIsCreatedAgainWhenItWasEmptiedUnclaimed() external {
        IX402BatchSettlement.ChannelConfig memory config = _config();
        bytes32 id = _deposit(config, 1000);
        vm.prank(RECEIVER);
        SETTLEMENT.refund(config, 1000);
        _fund(PAYER, address(collector), 500);
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.ChannelCreated(id, config);
        SETTLEMENT.deposit(config, 500, address(collector), "");
        _check(id, 500, 0);
    }
}
