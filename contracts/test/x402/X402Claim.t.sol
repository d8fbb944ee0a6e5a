// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IX402BatchSettlement} from "../../src/interfaces/IX402BatchSettlement.sol";
import {TestUSDC} from "../../src/tokens/TestUSDC.sol";
import {ContractAccount} from "../utils/ContractAccount.sol";
import {IMintable} from "../utils/LedgerFixture.sol";
import {X402Fixture} from "../utils/X402Fixture.sol";

contract X402ClaimTest is X402Fixture {
    bytes32 private _channel;

    function setUp() public override {
        super.setUp();
        _channel = _deposit(_config(), 1000);
    }

    function _expect(bytes4 error, IX402BatchSettlement.VoucherClaim[] memory rows) private {
        vm.expectRevert(error);
        vm.prank(RECEIVER);
        SETTLEMENT.claim(rows);
    }

    function _checkReceiver(address receiver, uint128 claimed, uint128 settled) private view {
        (uint128 actualClaimed, uint128 actualSettled) = SETTLEMENT.receivers(receiver, address(token));
        vm.assertEq(actualClaimed, claimed);
        vm.assertEq(actualSettled, settled);
    }

    // -------------------------------------------------------------------------------------------------------------------------- claim

    function test_RevertWhen_ThereAreNoRows() external {
        IX402BatchSettlement.VoucherClaim[] memory none = new IX402BatchSettlement.VoucherClaim[](0);
        _expect(IX402BatchSettlement.EmptyBatch.selector, none);
        vm.expectRevert(IX402BatchSettlement.EmptyBatch.selector);
        SETTLEMENT.claimWithSignature(none, "");
        // The digest of one is defined all the same.
        vm.assertEq(SETTLEMENT.getClaimBatchDigest(none), _batchDigest(none));
    }

    function test_RevertWhen_TheCallerIsNotOfEachRow() external {
        IX402BatchSettlement.ChannelConfig memory other = _config(2);
        other.receiver = STRANGER;
        _deposit(other, 1000);
        IX402BatchSettlement.VoucherClaim[] memory rows = _rows(_row(_config(), 700, 700), _row(other, 700, 700));
        _expect(IX402BatchSettlement.NotAuthorizedToClaim.selector, rows);
        vm.expectRevert(IX402BatchSettlement.NotAuthorizedToClaim.selector);
        vm.prank(PAYER);
        SETTLEMENT.claim(rows);
        // The authorizer is on every row, though the receivers differ.
        vm.prank(RECEIVER_AUTHORIZER);
        SETTLEMENT.claim(rows);
        _checkReceiver(RECEIVER, 700, 0);
        _checkReceiver(STRANGER, 700, 0);
    }

    function test_ARowClaimsUpToItsCeiling() external {
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.Claimed(_channel, RECEIVER, 700, 700);
        _claim(_row(_config(), 1000, 700));
        _check(_channel, 1000, 700);
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.Claimed(_channel, RECEIVER, 300, 1000);
        _claim(_row(_config(), 1000, 1000));
        _check(_channel, 1000, 1000);
        _checkReceiver(RECEIVER, 1000, 0);
        vm.assertEq(token.balanceOf(address(SETTLEMENT)), 1000);
        vm.assertEq(token.balanceOf(RECEIVER), 0);
    }

    /// @dev E-4: before ceiling, balance and signature.
    function test_ARowWithNothingNewIsPassedOver() external {
        _claim(_row(_config(), 700, 700));
        IX402BatchSettlement.VoucherClaim memory row = _row(_config(), 0, 700);
        row.signature = "nonsense";
        _claim(row);
        row.totalClaimed = 0;
        _claim(row);
        _check(_channel, 1000, 700);
        _checkReceiver(RECEIVER, 700, 0);
        row.totalClaimed = 701;
        _expect(IX402BatchSettlement.ClaimExceedsCeiling.selector, _rows(row));
    }

    /// @dev E-4: one bad row, and nothing of the batch stands.
    function test_RevertWhen_ARowIsBad() external {
        IX402BatchSettlement.ChannelConfig memory config = _config(2);
        _deposit(config, 500);
        IX402BatchSettlement.VoucherClaim memory good = _row(_config(), 700, 700);
        _expect(IX402BatchSettlement.ClaimExceedsCeiling.selector, _rows(good, _row(config, 499, 500)));
        _expect(IX402BatchSettlement.ClaimExceedsBalance.selector, _rows(good, _row(config, 501, 501)));
        _expect(IX402BatchSettlement.InvalidSignature.selector, _rows(good, _row(config, 500, 500, PAYER_KEY)));
        _check(_channel, 1000, 0);
        _checkReceiver(RECEIVER, 0, 0);
    }

    function test_RevertWhen_TheVoucherIsForSomethingElse() external {
        _deposit(_config(2), 1000);
        IX402BatchSettlement.VoucherClaim memory row = _row(_config(), 700, 700);
        row.voucher.channel.salt = bytes32(uint256(2));
        _expect(IX402BatchSettlement.InvalidSignature.selector, _rows(row));
        row = _row(_config(), 700, 700);
        row.voucher.maxClaimableAmount = 701;
        _expect(IX402BatchSettlement.InvalidSignature.selector, _rows(row));
        // A refund is no voucher.
        row = _row(_config(), 700, 700);
        row.signature = _sign(PAYER_AUTHORIZER_KEY, _refundDigest(_channel, 0, 700));
        _expect(IX402BatchSettlement.InvalidSignature.selector, _rows(row));
        row = _row(_config(), 700, 700);
        vm.chainId(84532);
        _expect(IX402BatchSettlement.ClaimExceedsBalance.selector, _rows(row));
    }

    function test_RevertWhen_TheSignatureIsMalleated() external {
        IX402BatchSettlement.VoucherClaim memory row = _row(_config(), 700, 700);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_AUTHORIZER_KEY, _voucherDigest(_channel, 700));
        uint256 order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
        row.signature = abi.encodePacked(r, order - uint256(s), v == 27 ? uint8(28) : uint8(27));
        _expect(IX402BatchSettlement.InvalidSignature.selector, _rows(row));
        row.signature = "";
        _expect(IX402BatchSettlement.InvalidSignature.selector, _rows(row));
    }

    /// @dev E-5: an authorizer is a key, also when there is code at its address.
    function test_APayersAuthorizerIsAKeyAndNothingElse() external {
        IX402BatchSettlement.ChannelConfig memory config = _config(2);
        config.payerAuthorizer = address(new ContractAccount(PAYER));
        _deposit(config, 1000);
        _expect(IX402BatchSettlement.InvalidSignature.selector, _rows(_row(config, 700, 700, PAYER_KEY)));
        // The code of an account with a key is not asked.
        vm.etch(PAYER_AUTHORIZER, hex"5f5ffd");
        _claim(_row(_config(), 700, 700));
        _check(_channel, 1000, 700);
    }

    /// @dev E-5.
    function test_WithoutAnAuthorizerThePayerSigns() external {
        IX402BatchSettlement.ChannelConfig memory config = _config(2);
        config.payerAuthorizer = address(0);
        bytes32 id = _deposit(config, 1000);
        _expect(IX402BatchSettlement.InvalidSignature.selector, _rows(_row(config, 700, 700, PAYER_AUTHORIZER_KEY)));
        _claim(_row(config, 700, 700, PAYER_KEY));
        _check(id, 1000, 700);

        config.payer = address(new ContractAccount(PAYER));
        id = _deposit(config, 1000);
        _expect(IX402BatchSettlement.InvalidSignature.selector, _rows(_row(config, 700, 700, PAYER_AUTHORIZER_KEY)));
        _claim(_row(config, 700, 700, PAYER_KEY));
        _check(id, 1000, 700);
    }

    function test_OneChannelMayComeTwice() external {
        IX402BatchSettlement.VoucherClaim[] memory rows = _rows(_row(_config(), 300, 300), _row(_config(), 700, 650));
        vm.prank(RECEIVER);
        SETTLEMENT.claim(rows);
        _check(_channel, 1000, 650);
        _checkReceiver(RECEIVER, 650, 0);
    }

    function test_TokensAreCountedApart() external {
        IMintable first = token;
        token = IMintable(address(new TestUSDC()));
        _deposit(_config(), 1000);
        IX402BatchSettlement.VoucherClaim memory other = _row(_config(), 40, 40);
        token = first;
        IX402BatchSettlement.VoucherClaim[] memory rows = _rows(_row(_config(), 700, 700), other);
        vm.prank(RECEIVER);
        SETTLEMENT.claim(rows);
        _checkReceiver(RECEIVER, 700, 0);
        token = IMintable(other.voucher.channel.token);
        _checkReceiver(RECEIVER, 40, 0);
    }

    /// @dev E-6: what is not claimed reserves nothing.
    function test_RevertWhen_AWithdrawalCameFirst() external {
        vm.prank(PAYER);
        SETTLEMENT.initiateWithdraw(_config(), 400);
        vm.warp(START + DELAY);
        vm.prank(PAYER);
        SETTLEMENT.finalizeWithdraw(_config());
        _expect(IX402BatchSettlement.ClaimExceedsBalance.selector, _rows(_row(_config(), 700, 700)));
        _claim(_row(_config(), 700, 600));
        _check(_channel, 600, 600);
    }

    // ------------------------------------------------------------------------------------------------------------ claimWithSignature

    function test_ASignedBatchIsForAnyoneToSend() external {
        bytes32 other = _deposit(_config(2), 500);
        IX402BatchSettlement.VoucherClaim[] memory rows = _rows(_row(_config(), 1000, 700), _row(_config(2), 500, 500));
        bytes memory signature = _sign(RECEIVER_AUTHORIZER_KEY, _batchDigest(rows));
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.Claimed(_channel, STRANGER, 700, 700);
        vm.expectEmit(address(SETTLEMENT));
        emit IX402BatchSettlement.Claimed(other, STRANGER, 500, 500);
        vm.prank(STRANGER);
        SETTLEMENT.claimWithSignature(rows, signature);
        _check(_channel, 1000, 700);
        _check(other, 500, 500);
        _checkReceiver(RECEIVER, 1200, 0);
        // Again: nothing new, and no error.
        SETTLEMENT.claimWithSignature(rows, signature);
        _checkReceiver(RECEIVER, 1200, 0);
    }

    function test_RevertWhen_TheBatchIsNotTheSignedOne() external {
        _deposit(_config(2), 500);
        IX402BatchSettlement.VoucherClaim[] memory rows = _rows(_row(_config(), 1000, 700), _row(_config(2), 500, 500));
        bytes memory signature = _sign(RECEIVER_AUTHORIZER_KEY, _batchDigest(rows));
        rows[0].totalClaimed = 701;
        vm.expectRevert(IX402BatchSettlement.InvalidSignature.selector);
        SETTLEMENT.claimWithSignature(rows, signature);
        rows[0].totalClaimed = 700;
        (rows[0], rows[1]) = (rows[1], rows[0]);
        vm.expectRevert(IX402BatchSettlement.InvalidSignature.selector);
        SETTLEMENT.claimWithSignature(rows, signature);
        signature = _sign(PAYER_KEY, _batchDigest(rows));
        vm.expectRevert(IX402BatchSettlement.InvalidSignature.selector);
        SETTLEMENT.claimWithSignature(rows, signature);
        // The receiver itself needs no signature for `claim`, but its own is none here.
        vm.expectRevert(IX402BatchSettlement.InvalidSignature.selector);
        vm.prank(RECEIVER);
        SETTLEMENT.claimWithSignature(rows, "");
    }

    function test_RevertWhen_TheAuthorizersDiffer() external {
        IX402BatchSettlement.ChannelConfig memory other = _config(2);
        other.receiverAuthorizer = STRANGER;
        _deposit(other, 500);
        IX402BatchSettlement.VoucherClaim[] memory rows = _rows(_row(_config(), 700, 700), _row(other, 500, 500));
        bytes memory signature = _sign(RECEIVER_AUTHORIZER_KEY, _batchDigest(rows));
        vm.expectRevert(IX402BatchSettlement.NotReceiverAuthorizer.selector);
        SETTLEMENT.claimWithSignature(rows, signature);
    }

    function test_AContractMayAuthorize() external {
        IX402BatchSettlement.ChannelConfig memory config = _config(2);
        config.receiverAuthorizer = address(new ContractAccount(RECEIVER_AUTHORIZER));
        bytes32 id = _deposit(config, 500);
        IX402BatchSettlement.VoucherClaim[] memory rows = _rows(_row(config, 500, 500));
        bytes memory signature = _sign(RECEIVER_AUTHORIZER_KEY, _batchDigest(rows));
        SETTLEMENT.claimWithSignature(rows, signature);
        _check(id, 500, 500);
        signature = _sign(PAYER_KEY, _batchDigest(rows));
        vm.expectRevert(IX402BatchSettlement.InvalidSignature.selector);
        SETTLEMENT.claimWithSignature(rows, signature);
    }
}
