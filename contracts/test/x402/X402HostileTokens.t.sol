// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IDepositCollector} from "../../src/interfaces/IDepositCollector.sol";
import {IX402BatchSettlement} from "../../src/interfaces/IX402BatchSettlement.sol";
import {TestUSDT} from "../../src/tokens/TestUSDT.sol";
import {DrainingToken, FalseToken, FeeToken, FreezingToken, GenerousToken, ReentrantToken, SilentToken} from "../tokens/HostileTokens.sol";
import {IMintable} from "../utils/LedgerFixture.sol";
import {X402Fixture} from "../utils/X402Fixture.sol";

/// @title Calls back into the settlement contract instead of collecting, and hands on a revert.
contract ReentrantCollector is IDepositCollector {
    address private _target;
    bytes private _call;

    function arm(address target, bytes calldata call) external {
        (_target, _call) = (target, call);
    }

    function collect(address, address, uint256, bytes32, bytes calldata) external {
        (bool ok, bytes memory data) = _target.call(_call);
        if (ok) return;
        assembly ("memory-safe") {
            revert(add(data, 32), mload(data))
        }
    }
}

contract X402HostileTokensTest is X402Fixture {
    function _expectDepositReverts(address hostile, bytes memory data) private {
        token = IMintable(hostile);
        _fund(PAYER, address(collector), 1000);
        vm.expectRevert(data);
        SETTLEMENT.deposit(_config(), 1000, address(collector), "");
        _check(_id(_config()), 0, 0);
    }

    /// @dev E-2.
    function test_ATransferOfAnotherAmountIsRefused() external {
        bytes memory failed = abi.encodeWithSelector(IX402BatchSettlement.DepositCollectionFailed.selector);
        _expectDepositReverts(address(new FeeToken()), failed);
        _expectDepositReverts(address(new GenerousToken()), failed);
        _expectDepositReverts(address(new SilentToken()), failed);
        DrainingToken draining = new DrainingToken();
        draining.mint(address(SETTLEMENT), 7);
        _expectDepositReverts(address(draining), failed);
        FalseToken no = new FalseToken();
        _expectDepositReverts(address(no), abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(no)));
    }

    function test_ATokenWithoutReturnValuesWorks() external {
        token = IMintable(address(new TestUSDT()));
        bytes32 id = _deposit(_config(), 1000);
        _claim(_row(_config(), 700, 700));
        SETTLEMENT.settle(RECEIVER, address(token));
        vm.prank(RECEIVER);
        SETTLEMENT.refund(_config(), 300);
        vm.assertEq(token.balanceOf(RECEIVER), 700);
        vm.assertEq(token.balanceOf(PAYER), 300);
        _check(id, 700, 700);
    }

    /// @dev E-3, E-10: claims go on, and what could not be paid is due when it can be.
    function test_AFrozenAccountStopsOnlyItsOwnPayments() external {
        FreezingToken freezing = new FreezingToken();
        token = IMintable(address(freezing));
        bytes32 id = _deposit(_config(), 1000);
        freezing.freeze(RECEIVER, true);
        freezing.freeze(PAYER, true);
        _claim(_row(_config(), 700, 700));
        vm.expectRevert(abi.encodeWithSelector(FreezingToken.Frozen.selector, RECEIVER));
        SETTLEMENT.settle(RECEIVER, address(token));
        vm.expectRevert(abi.encodeWithSelector(FreezingToken.Frozen.selector, PAYER));
        vm.prank(RECEIVER);
        SETTLEMENT.refund(_config(), 300);
        vm.assertEq(SETTLEMENT.refundNonce(id), 0);
        _claim(_row(_config(), 900, 900));

        freezing.freeze(RECEIVER, false);
        SETTLEMENT.settle(RECEIVER, address(token));
        vm.assertEq(token.balanceOf(RECEIVER), 900);
        freezing.freeze(PAYER, false);
        vm.prank(RECEIVER);
        SETTLEMENT.refund(_config(), 100);
        vm.assertEq(token.balanceOf(PAYER), 100);
    }

    function test_AFalseAnswerToAPaymentKeepsWhatIsDue() external {
        _deposit(_config(), 1000);
        _claim(_row(_config(), 700, 700));
        bytes memory code = address(token).code;
        vm.etch(address(token), address(new FalseToken()).code);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        SETTLEMENT.settle(RECEIVER, address(token));
        vm.etch(address(token), code);
        SETTLEMENT.settle(RECEIVER, address(token));
        vm.assertEq(token.balanceOf(RECEIVER), 700);
    }

    function _calls() private view returns (bytes[] memory calls) {
        IX402BatchSettlement.VoucherClaim[] memory rows = _rows(_row(_config(), 700, 700));
        calls = new bytes[](9);
        calls[0] = abi.encodeCall(IX402BatchSettlement.deposit, (_config(), 1, address(collector), ""));
        calls[1] = abi.encodeCall(IX402BatchSettlement.claim, (rows));
        calls[2] = abi.encodeCall(IX402BatchSettlement.claimWithSignature, (rows, ""));
        calls[3] = abi.encodeCall(IX402BatchSettlement.settle, (RECEIVER, address(token)));
        calls[4] = abi.encodeCall(IX402BatchSettlement.initiateWithdraw, (_config(), 1));
        calls[5] = abi.encodeCall(IX402BatchSettlement.finalizeWithdraw, (_config()));
        calls[6] = abi.encodeCall(IX402BatchSettlement.refund, (_config(), 1));
        calls[7] = abi.encodeCall(IX402BatchSettlement.refundWithSignature, (_config(), 1, 0, ""));
        bytes[] memory inner = new bytes[](1);
        inner[0] = calls[3];
        calls[8] = abi.encodeCall(IX402BatchSettlement.multicall, (inner));
    }

    /// @dev E-11.
    function test_NoFunctionCanBeReentered() external {
        ReentrantToken reentrant = new ReentrantToken();
        token = IMintable(address(reentrant));
        _deposit(_config(), 1000);
        _claim(_row(_config(), 500, 500));
        _fund(PAYER, address(collector), 1000);
        ReentrantCollector calling = new ReentrantCollector();
        bytes[] memory calls = _calls();
        bytes4 reentrance = ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector;
        for (uint256 i = 0; i < calls.length; ++i) {
            calling.arm(address(SETTLEMENT), calls[i]);
            vm.expectRevert(reentrance);
            SETTLEMENT.deposit(_config(), 1, address(calling), "");
            reentrant.arm(address(SETTLEMENT), calls[i]);
            vm.expectRevert(reentrance);
            SETTLEMENT.deposit(_config(), 1, address(collector), "");
            vm.expectRevert(reentrance);
            SETTLEMENT.settle(RECEIVER, address(token));
            vm.expectRevert(reentrance);
            vm.prank(RECEIVER);
            SETTLEMENT.refund(_config(), 1);
        }
        reentrant.arm(address(0), "");
        SETTLEMENT.settle(RECEIVER, address(token));
        vm.assertEq(token.balanceOf(RECEIVER), 500);
    }
}
