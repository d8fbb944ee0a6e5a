// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IX402BatchSettlement} from "../../src/interfaces/IX402BatchSettlement.sol";
import {IMintable} from "../utils/LedgerFixture.sol";
import {AllowanceCollector, X402Parties} from "../utils/X402Fixture.sol";

/// @title Random actions on channels of two payers, two receivers and two tokens, and what must have become of the money.
/// @dev Each call is expected to revert with the error named here, or must change what is remembered here. One payer has an authorizer, the
/// other signs itself.
contract X402Handler is X402Parties {
    struct Known {
        uint128 balance;
        uint128 claimed;
        uint128 pending;
        uint40 initiatedAt;
        uint256 nonce;
    }

    uint256 public constant CHANNELS = 8;
    uint256 private constant OTHER_KEY = 0x4444;

    IMintable[2] private _tokens;
    Known[CHANNELS] private _known;

    /// @notice What nobody deposited, by token.
    uint256[2] public donated;
    /// @notice What the payers were given back, by token.
    uint256[2] public returned;
    /// @notice What receivers were paid, by receiver and token.
    uint256[2][2] public paid;

    constructor(IMintable first, IMintable second, AllowanceCollector collector_) {
        _tokens = [first, second];
        collector = collector_;
    }

    // ------------------------------------------------------------------------------------------------------------------------ actions

    function deposit(uint256 which, uint256 amount) external {
        which %= CHANNELS;
        IX402BatchSettlement.ChannelConfig memory config = configOf(which);
        uint128 value = uint128(_bound(amount, 0, 1e9));
        _tokens[which / 4].mint(config.payer, value);
        vm.prank(config.payer);
        _tokens[which / 4].approve(address(collector), value);
        if (value == 0) vm.expectRevert(IX402BatchSettlement.ZeroDeposit.selector);
        SETTLEMENT.deposit(config, value, address(collector), "");
        _known[which].balance += value;
    }

    /// @dev One row, by the receiver.
    function claim(uint256 which, uint256 claimed, uint256 ceiling, bool good) external {
        IX402BatchSettlement.VoucherClaim[] memory rows = _rows(_randomRow(which, claimed, ceiling, good));
        bytes4 refusal = _refusal(which, rows[0], good);
        if (refusal != 0) vm.expectRevert(refusal);
        vm.prank(rows[0].voucher.channel.receiver);
        SETTLEMENT.claim(rows);
        if (refusal == 0) _claimed(which, rows[0].totalClaimed);
    }

    /// @dev Two rows, signed; one bad row and neither stands.
    function claimBatch(uint256 which, uint256 other, uint256 claimed, bool good) external {
        if (which % CHANNELS == other % CHANNELS) other = which + 1;
        IX402BatchSettlement.VoucherClaim[] memory rows =
            _rows(_randomRow(which, claimed, claimed >> 64, true), _randomRow(other, claimed >> 128, claimed >> 192, good));
        bytes4 refusal = _refusal(which, rows[0], true);
        if (refusal == 0) refusal = _refusal(other, rows[1], good);
        bytes memory signature = _sign(RECEIVER_AUTHORIZER_KEY, _batchDigest(rows));
        if (refusal != 0) vm.expectRevert(refusal);
        vm.prank(STRANGER);
        SETTLEMENT.claimWithSignature(rows, signature);
        if (refusal != 0) return;
        _claimed(which, rows[0].totalClaimed);
        _claimed(other, rows[1].totalClaimed);
    }

    function settle(uint256 receiver, uint256 token_) external {
        (receiver, token_) = (receiver % 2, token_ % 2);
        uint256 before = _tokens[token_].balanceOf(receiverOf(receiver));
        SETTLEMENT.settle(receiverOf(receiver), address(_tokens[token_]));
        paid[receiver][token_] += _tokens[token_].balanceOf(receiverOf(receiver)) - before;
    }

    function initiateWithdraw(uint256 which, uint256 amount) external {
        which %= CHANNELS;
        Known storage k = _known[which];
        uint128 value = uint128(_bound(amount, 0, uint256(k.balance) + 1));
        bool may = false;
        if (value == 0) vm.expectRevert(IX402BatchSettlement.NothingToWithdraw.selector);
        else if (k.initiatedAt != 0) vm.expectRevert(IX402BatchSettlement.WithdrawalAlreadyPending.selector);
        else if (value > k.balance - k.claimed) vm.expectRevert(IX402BatchSettlement.WithdrawAmountExceedsAvailable.selector);
        else may = true;
        IX402BatchSettlement.ChannelConfig memory config = configOf(which);
        vm.prank(config.payer);
        SETTLEMENT.initiateWithdraw(config, value);
        if (may) (k.pending, k.initiatedAt) = (value, uint40(block.timestamp));
    }

    function finalizeWithdraw(uint256 which) external {
        which %= CHANNELS;
        Known storage k = _known[which];
        bool may = false;
        if (k.initiatedAt == 0) vm.expectRevert(IX402BatchSettlement.WithdrawalNotPending.selector);
        else if (block.timestamp < k.initiatedAt + DELAY) vm.expectRevert(IX402BatchSettlement.WithdrawDelayNotElapsed.selector);
        else may = true;
        IX402BatchSettlement.ChannelConfig memory config = configOf(which);
        vm.prank(config.payer);
        SETTLEMENT.finalizeWithdraw(config);
        if (!may) return;
        uint128 available = k.balance - k.claimed;
        _givenBack(which, k.pending < available ? k.pending : available);
        (k.pending, k.initiatedAt) = (0, 0);
    }

    function refund(uint256 which, uint256 amount, bool signed) external {
        which %= CHANNELS;
        Known storage k = _known[which];
        IX402BatchSettlement.ChannelConfig memory config = configOf(which);
        uint128 value = uint128(_bound(amount, 0, uint256(k.balance) + 1));
        bytes memory signature = _sign(RECEIVER_AUTHORIZER_KEY, _refundDigest(_id(config), k.nonce, value));
        if (value == 0) vm.expectRevert(IX402BatchSettlement.ZeroRefund.selector);
        if (signed) {
            SETTLEMENT.refundWithSignature(config, value, k.nonce, signature);
        } else {
            vm.prank(config.receiver);
            SETTLEMENT.refund(config, value);
        }
        if (value == 0) return;
        ++k.nonce;
        uint128 available = k.balance - k.claimed;
        uint128 moved = value < available ? value : available;
        if (moved == 0) return;
        _givenBack(which, moved);
        if (k.pending <= moved) (k.pending, k.initiatedAt) = (0, 0);
        else k.pending -= moved;
    }

    function wait(uint256 secs) external {
        vm.warp(block.timestamp + _bound(secs, 0, 2 * DELAY));
    }

    /// @dev Anyone may send the contract tokens; they are nobody's.
    function donate(uint256 token_, uint256 amount) external {
        amount = _bound(amount, 0, 1e6);
        _tokens[token_ % 2].mint(address(SETTLEMENT), amount);
        donated[token_ % 2] += amount;
    }

    // -------------------------------------------------------------------------------------------------------------------------- views

    function configOf(uint256 which) public view returns (IX402BatchSettlement.ChannelConfig memory config) {
        config = _config(which);
        config.token = address(_tokens[which / 4]);
        config.receiver = receiverOf(which / 2 % 2);
        if (which % 2 == 1) (config.payer, config.payerAuthorizer) = (vm.addr(OTHER_KEY), address(0));
    }

    function receiverOf(uint256 index) public pure returns (address) {
        return address(uint160(0xb000 + index));
    }

    function tokenOf(uint256 index) external view returns (IMintable) {
        return _tokens[index];
    }

    function known(uint256 which) external view returns (Known memory) {
        return _known[which];
    }

    function idOf(uint256 which) external view returns (bytes32) {
        return _id(configOf(which));
    }

    // ------------------------------------------------------------------------------------------------------------------------ details

    function _randomRow(uint256 which, uint256 claimed, uint256 ceiling, bool good)
        private
        view
        returns (IX402BatchSettlement.VoucherClaim memory)
    {
        which %= CHANNELS;
        uint256 balance = _known[which].balance;
        // Mostly what can be claimed, sometimes more than the balance or than the ceiling.
        uint128 total = uint128(_bound(claimed, 0, balance + balance / 8 + 1));
        uint128 limit = uint128(_bound(ceiling, uint256(total) * 7 / 8, balance + balance / 8 + 1));
        uint256 key = which % 2 == 0 ? PAYER_AUTHORIZER_KEY : OTHER_KEY;
        return _row(configOf(which), limit, total, good ? key : 1);
    }

    function _refusal(uint256 which, IX402BatchSettlement.VoucherClaim memory row, bool good) private view returns (bytes4) {
        Known storage k = _known[which % CHANNELS];
        if (row.totalClaimed <= k.claimed) return 0;
        if (row.totalClaimed > row.voucher.maxClaimableAmount) return IX402BatchSettlement.ClaimExceedsCeiling.selector;
        if (row.totalClaimed > k.balance) return IX402BatchSettlement.ClaimExceedsBalance.selector;
        return good ? bytes4(0) : IX402BatchSettlement.InvalidSignature.selector;
    }

    function _claimed(uint256 which, uint128 total) private {
        Known storage k = _known[which % CHANNELS];
        if (total > k.claimed) k.claimed = total;
    }

    function _givenBack(uint256 which, uint128 amount) private {
        _known[which].balance -= amount;
        returned[which / 4] += amount;
    }
}
