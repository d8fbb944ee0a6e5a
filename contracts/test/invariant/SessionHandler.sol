// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ISessionEscrow} from "../../src/interfaces/ISessionEscrow.sol";
import {FreezingToken} from "../tokens/HostileTokens.sol";
import {IMintable} from "../utils/LedgerFixture.sol";
import {SessionParties} from "../utils/SessionFixture.sol";

/// @title Random actions on session channels of one payer and one payee, in a token that freezes them now and then, and what must have
/// become of the money.
/// @dev Each call is expected to revert with the error named here, or must change what is remembered here.
contract SessionHandler is SessionParties {
    struct Known {
        bytes32 id;
        uint128 deposit;
        uint128 settled;
        uint64 closeRequestedAt;
        bool finalized;
    }

    uint256 private constant SALTS = 24;

    FreezingToken private immutable TOKEN;
    Known[] private _known;
    uint256 private _nonces;

    /// @notice Everything that was deposited, and what nobody deposited.
    uint256 public deposited;
    uint256 public donated;
    /// @notice What each was ever given: paid, or credited.
    mapping(address account => uint256) public given;
    /// @notice What of it waits as credit.
    mapping(address account => uint256) public credited;
    mapping(address account => bool) private _frozen;

    constructor(ISessionEscrow escrow_, FreezingToken token_) {
        (escrow, TOKEN) = (escrow_, token_);
        token = IMintable(address(token_));
    }

    // ------------------------------------------------------------------------------------------------------------------------ actions

    /// @dev A few salts, so that ids come again.
    function open(uint256 seed, uint256 amount) external {
        bytes32 salt = bytes32(_bound(seed, 0, SALTS - 1));
        uint128 value = uint128(_bound(amount, 0, 1e9));
        bytes32 id = _channelId(PAYER, PAYEE, salt, SIGNER);
        _mint(PAYER, address(escrow), value);
        bool may = false;
        if (value == 0) vm.expectRevert(ISessionEscrow.ZeroDeposit.selector);
        else if (_isKnown(id)) vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.ChannelAlreadyExists.selector, id));
        else may = true;
        vm.prank(PAYER);
        escrow.open(PAYEE, address(token), value, salt, SIGNER);
        if (!may) return;
        _known.push(Known(id, value, 0, 0, false));
        deposited += value;
    }

    /// @dev By the payer, or through Permit2 with the money of another.
    function topUp(uint256 which, uint256 amount, bool byAnother) external {
        if (_known.length == 0) return;
        Known storage k = _known[which % _known.length];
        uint128 value = uint128(_bound(amount, 1, 1e9));
        address from = byAnother ? vm.addr(0xf00d) : PAYER;
        _mint(from, byAnother ? address(PERMIT2) : address(escrow), value);
        uint256 nonce = _nonces++;
        bytes memory signature;
        if (byAnother) {
            signature = _permit2("ChannelTopUpWitness", "(bytes32 channelId)", _topUpWitness(k.id), value, nonce, 0xf00d);
        }
        bool refused = _expectFinalized(k);
        if (byAnother) {
            escrow.topUpWithPermit2(k.id, value, from, nonce, UNTIL, signature);
        } else {
            vm.prank(from);
            escrow.topUp(k.id, value);
        }
        if (refused) return;
        k.deposit += value;
        deposited += value;
        if (!byAnother) k.closeRequestedAt = 0;
    }

    function settle(uint256 which, uint256 cumulative, bool relayed, bool good) external {
        if (_known.length == 0) return;
        Known storage k = _known[which % _known.length];
        uint128 total = _total(k, cumulative);
        bytes memory signature = good ? _voucher(k.id, total) : bytes("nonsense");
        uint256 nonce = _nonces++;
        bytes memory consent = _sign(PAYEE_KEY, _authorizationDigest("SettleAuthorization", k.id, total, nonce, UNTIL));
        bytes memory refusal = _refusal(k, total, good);
        if (refusal.length != 0) vm.expectRevert(refusal);
        if (relayed) {
            escrow.settleWithAuthorization(k.id, total, nonce, UNTIL, consent, signature);
        } else {
            vm.prank(PAYEE);
            escrow.settle(k.id, total, signature);
        }
        if (refusal.length == 0) _settled(k, total);
    }

    /// @dev Two rows; a bad one changes nothing.
    function settleMany(uint256 which, uint256 other, uint256 cumulative, bool good) external {
        if (_known.length == 0) return;
        ISessionEscrow.Settlement[] memory rows = new ISessionEscrow.Settlement[](2);
        Known storage a = _known[which % _known.length];
        Known storage b = _known[other % _known.length];
        uint128 first = _total(a, cumulative >> 128);
        uint128 second = _total(b, uint128(cumulative));
        rows[0] = ISessionEscrow.Settlement(a.id, first, _voucher(a.id, first));
        rows[1] = ISessionEscrow.Settlement(b.id, second, good ? _voucher(b.id, second) : bytes("nonsense"));
        uint256 sum = 0;
        if (_refusal(a, first, true).length == 0) {
            sum += first - a.settled;
            a.settled = first;
        }
        if (_refusal(b, second, good).length == 0) {
            sum += second - b.settled;
            b.settled = second;
        }
        vm.prank(PAYEE);
        vm.assertEq(escrow.settleMany(address(token), rows), sum);
        _give(PAYEE, sum);
    }

    function close(uint256 which, uint256 cumulative, bool relayed, bool good) external {
        if (_known.length == 0) return;
        Known storage k = _known[which % _known.length];
        // Rare, or every run would be short.
        if (cumulative % 4 != 0) return;
        uint128 total = _total(k, cumulative);
        bytes memory signature = good ? _voucher(k.id, total) : bytes("nonsense");
        uint256 nonce = _nonces++;
        bytes memory consent = _sign(PAYEE_KEY, _authorizationDigest("CloseAuthorization", k.id, total, nonce, UNTIL));
        bytes memory refusal = !k.finalized && total <= k.settled ? bytes("") : _refusal(k, total, good);
        if (refusal.length != 0) vm.expectRevert(refusal);
        if (relayed) {
            escrow.closeWithAuthorization(k.id, total, nonce, UNTIL, consent, signature);
        } else {
            vm.prank(PAYEE);
            escrow.close(k.id, total, signature);
        }
        if (refusal.length != 0) return;
        if (total > k.settled) _settled(k, total);
        _finalized(k);
    }

    function requestClose(uint256 which) external {
        if (_known.length == 0) return;
        Known storage k = _known[which % _known.length];
        bool refused = _expectFinalized(k);
        _requestClose(k.id);
        if (!refused && k.closeRequestedAt == 0) k.closeRequestedAt = uint64(block.timestamp);
    }

    function withdraw(uint256 which) external {
        if (_known.length == 0) return;
        Known storage k = _known[which % _known.length];
        bool may = false;
        uint256 readyAt = k.closeRequestedAt == 0 ? 0 : k.closeRequestedAt + GRACE;
        if (k.finalized) {
            vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.ChannelFinalized.selector, k.id));
        } else if (readyAt == 0 || block.timestamp < readyAt) {
            vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.CloseNotReady.selector, k.id, readyAt));
        } else {
            may = true;
        }
        _withdraw(k.id);
        if (may) _finalized(k);
    }

    function withdrawCredit(bool payer) external {
        address account = payer ? PAYER : PAYEE;
        uint256 credit = credited[account];
        if (credit == 0) {
            vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.NothingToWithdraw.selector, account, address(token)));
        } else if (_frozen[account]) {
            vm.expectRevert(abi.encodeWithSelector(FreezingToken.Frozen.selector, account));
        }
        vm.prank(account);
        escrow.withdrawCredit(address(token), account);
        if (credit != 0 && !_frozen[account]) credited[account] = 0;
    }

    function freeze(bool payer, bool frozen) external {
        address account = payer ? PAYER : PAYEE;
        TOKEN.freeze(account, frozen);
        _frozen[account] = frozen;
    }

    /// @dev What is signed here is never too old: a run starts long before `UNTIL`.
    function wait(uint256 secs) external {
        vm.warp(block.timestamp + _bound(secs, 0, GRACE));
    }

    /// @dev Anyone may send the escrow tokens; they are nobody's.
    function donate(uint256 amount) external {
        amount = _bound(amount, 0, 1e6);
        TOKEN.mint(address(escrow), amount);
        donated += amount;
    }

    // -------------------------------------------------------------------------------------------------------------------------- views

    function channels() external view returns (Known[] memory) {
        return _known;
    }

    // ------------------------------------------------------------------------------------------------------------------------ details

    /// @dev The token makes nothing for a frozen account.
    function _mint(address account, address spender, uint256 amount) private {
        TOKEN.freeze(account, false);
        _fund(account, spender, amount);
        TOKEN.freeze(account, _frozen[account]);
    }

    function _isKnown(bytes32 id) private view returns (bool) {
        for (uint256 i = 0; i < _known.length; ++i) {
            if (_known[i].id == id) return true;
        }
        return false;
    }

    /// @dev Mostly what can be settled, sometimes no more than was, or more than the deposit.
    function _total(Known storage k, uint256 cumulative) private view returns (uint128) {
        return uint128(_bound(cumulative, uint256(k.settled) * 7 / 8, uint256(k.deposit) * 9 / 8));
    }

    function _refusal(Known storage k, uint128 total, bool good) private view returns (bytes memory) {
        if (k.finalized) return abi.encodeWithSelector(ISessionEscrow.ChannelFinalized.selector, k.id);
        if (total <= k.settled) return abi.encodeWithSelector(ISessionEscrow.AmountNotIncreasing.selector, k.settled, total);
        if (total > k.deposit) return abi.encodeWithSelector(ISessionEscrow.AmountExceedsDeposit.selector, k.deposit, total);
        return good ? bytes("") : abi.encodeWithSelector(ISessionEscrow.InvalidSignature.selector, SIGNER);
    }

    function _expectFinalized(Known storage k) private returns (bool) {
        if (k.finalized) vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.ChannelFinalized.selector, k.id));
        return k.finalized;
    }

    function _settled(Known storage k, uint128 total) private {
        _give(PAYEE, total - k.settled);
        k.settled = total;
    }

    function _finalized(Known storage k) private {
        k.finalized = true;
        _give(PAYER, k.deposit - k.settled);
    }

    function _give(address account, uint256 amount) private {
        given[account] += amount;
        if (_frozen[account]) credited[account] += amount;
    }
}
