// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ISessionEscrow} from "../../src/interfaces/ISessionEscrow.sol";
import {IX402BatchSettlement} from "../../src/interfaces/IX402BatchSettlement.sol";
import {SessionFixture} from "../utils/SessionFixture.sol";
import {X402Fixture} from "../utils/X402Fixture.sol";

/// @title Ids and digests of any channel are those of the texts, and any split of a deposit adds up.
contract X402FuzzTest is X402Fixture {
    /// @dev E-1, on any chain.
    function testFuzz_IdsAndDigests(IX402BatchSettlement.ChannelConfig memory config, uint64 chainId, uint128 ceiling, uint256 nonce)
        external
    {
        vm.chainId(_bound(chainId, 1, type(uint64).max - 1));
        bytes32 id = SETTLEMENT.getChannelId(config);
        vm.assertEq(id, _id(config));
        vm.assertEq(SETTLEMENT.getVoucherDigest(id, ceiling), _voucherDigest(id, ceiling));
        vm.assertEq(SETTLEMENT.getRefundDigest(id, nonce, ceiling), _refundDigest(id, nonce, ceiling));
        IX402BatchSettlement.VoucherClaim[] memory rows = new IX402BatchSettlement.VoucherClaim[](nonce % 4);
        for (uint256 i = 0; i < rows.length; ++i) {
            rows[i].voucher = IX402BatchSettlement.Voucher(config, ceiling);
            rows[i].totalClaimed = uint128(i);
        }
        vm.assertEq(SETTLEMENT.getClaimBatchDigest(rows), _batchDigest(rows));
    }

    /// @dev E-3, E-6: deposited = claimed + refunded + withdrawn, to the base unit.
    function testFuzz_ADepositIsSplitExactly(uint128 deposit, uint128 claimed, uint128 refund, uint128 withdrawn) external {
        deposit = uint128(_bound(deposit, 3, type(uint128).max));
        claimed = uint128(_bound(claimed, 1, deposit - 2));
        refund = uint128(_bound(refund, 1, deposit - claimed - 1));
        withdrawn = uint128(_bound(withdrawn, 1, deposit - claimed - refund));
        bytes32 id = _deposit(_config(), deposit);
        vm.prank(PAYER);
        SETTLEMENT.initiateWithdraw(_config(), withdrawn);
        _claim(_row(_config(), claimed, claimed));
        vm.prank(RECEIVER);
        SETTLEMENT.refund(_config(), refund);
        uint128 rest = refund >= withdrawn ? 0 : withdrawn - refund;
        vm.warp(START + DELAY);
        if (rest == 0) vm.expectRevert(IX402BatchSettlement.WithdrawalNotPending.selector);
        vm.prank(PAYER);
        SETTLEMENT.finalizeWithdraw(_config());
        SETTLEMENT.settle(RECEIVER, address(token));
        vm.assertEq(token.balanceOf(RECEIVER), claimed);
        vm.assertEq(token.balanceOf(PAYER), uint256(refund) + rest);
        _check(id, deposit - refund - rest, claimed);
        vm.assertEq(token.balanceOf(address(SETTLEMENT)), deposit - refund - rest - claimed);
    }
}

contract SessionFuzzTest is SessionFixture {
    /// @dev E-21, on any chain.
    function testFuzz_IdsAndDigests(address payer, address payee, bytes32 salt, address signer, uint64 chainId, uint128 cumulative)
        external
    {
        vm.chainId(_bound(chainId, 1, type(uint64).max - 1));
        bytes32 id = _channelId(payer, payee, salt, signer);
        vm.assertEq(escrow.computeChannelId(payer, payee, address(token), salt, signer), id);
        vm.assertEq(escrow.getVoucherDigest(id, cumulative), _voucherDigest(id, cumulative));
    }

    /// @dev E-23, E-30: whatever is settled and topped up on the way, settled and refunded are the deposit.
    function testFuzz_ADepositIsSplitExactly(uint128 deposit, uint128 more, uint128 first, uint128 last) external {
        deposit = uint128(_bound(deposit, 1, type(uint128).max - 1));
        more = uint128(_bound(more, 1, type(uint128).max - deposit));
        first = uint128(_bound(first, 1, deposit));
        last = uint128(_bound(last, 0, uint256(deposit) + more));
        bytes32 id = _open(SALT, deposit);
        _settle(id, first);
        token.mint(PAYER, more);
        vm.prank(PAYER);
        escrow.topUp(id, more);
        _close(id, last);
        uint256 paid = last > first ? last : first;
        vm.assertEq(token.balanceOf(PAYEE), paid);
        vm.assertEq(token.balanceOf(PAYER), uint256(deposit) + more - paid);
        vm.assertEq(token.balanceOf(address(escrow)), 0);
    }

    /// @dev E-23: no signature but the signer's own, over the very amount, takes anything.
    function testFuzz_NoOtherSignaturePays(uint256 key, uint128 signed, uint128 asked) external {
        key = _bound(key, 1, 1e30);
        bytes32 id = _open(SALT, 1000);
        asked = uint128(_bound(asked, 1, 1000));
        bytes memory signature = _sign(key, _voucherDigest(id, signed));
        bool good = key == SIGNER_KEY && signed == asked;
        if (!good) vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.InvalidSignature.selector, SIGNER));
        vm.prank(PAYEE);
        escrow.settle(id, asked, signature);
    }
}
