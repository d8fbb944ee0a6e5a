// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IX402BatchSettlement} from "../../src/interfaces/IX402BatchSettlement.sol";
import {X402Fixture} from "../utils/X402Fixture.sol";

contract X402MulticallTest is X402Fixture {
    /// @dev What a facilitator sends for a refund: claim what was charged, then give back the rest.
    function test_CallsAreMadeInOrderWithTheCallersRights() external {
        bytes32 id = _deposit(_config(), 1000);
        IX402BatchSettlement.VoucherClaim[] memory rows = _rows(_row(_config(), 700, 700));
        bytes memory signature = _sign(RECEIVER_AUTHORIZER_KEY, _batchDigest(rows));
        bytes[] memory calls = new bytes[](4);
        calls[0] = abi.encodeCall(IX402BatchSettlement.claimWithSignature, (rows, signature));
        signature = _sign(RECEIVER_AUTHORIZER_KEY, _refundDigest(id, 0, 200));
        calls[1] = abi.encodeCall(IX402BatchSettlement.refundWithSignature, (_config(), 200, 0, signature));
        calls[2] = abi.encodeCall(IX402BatchSettlement.refund, (_config(), 50));
        calls[3] = abi.encodeCall(IX402BatchSettlement.refundNonce, (id));
        vm.prank(RECEIVER);
        bytes[] memory results = SETTLEMENT.multicall(calls);
        vm.assertEq(results.length, 4);
        vm.assertEq(abi.decode(results[3], (uint256)), 2);
        _check(id, 750, 700);

        // The same without a right of one's own.
        calls[2] = abi.encodeCall(IX402BatchSettlement.settle, (RECEIVER, address(token)));
        signature = _sign(RECEIVER_AUTHORIZER_KEY, _refundDigest(id, 2, 50));
        calls[1] = abi.encodeCall(IX402BatchSettlement.refundWithSignature, (_config(), 50, 2, signature));
        vm.prank(STRANGER);
        SETTLEMENT.multicall(calls);
        vm.assertEq(token.balanceOf(RECEIVER), 700);
        _check(id, 700, 700);
    }

    function test_RevertWhen_OneCallReverts() external {
        bytes32 id = _deposit(_config(), 1000);
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(IX402BatchSettlement.refund, (_config(), 50));
        calls[1] = abi.encodeCall(IX402BatchSettlement.refund, (_config(), 0));
        vm.expectRevert(IX402BatchSettlement.ZeroRefund.selector);
        vm.prank(RECEIVER);
        SETTLEMENT.multicall(calls);
        _check(id, 1000, 0);
    }
}
