// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../../src/interfaces/ILedger.sol";
import {Reference} from "../utils/Reference.sol";
import {IMintable} from "../utils/LedgerFixture.sol";
import {TestBase} from "../utils/TestBase.sol";

/// @title Payers, a provider and an honest prover who act at random on one ledger with one book.
/// @dev Keeps the book in the clear, so that it proves (to a stub) only what the circuits would, and the totals that the invariants compare
/// with. Time does not pass, so no request is ever overdue. A slot is freed by a close and taken by the next open, as in operation.
contract BookHandler is TestBase {
    struct Slot {
        uint248 uid;
        uint64 deposit;
        uint64 settled;
    }

    struct Known {
        uint248 uid;
        address payer;
        bool closing;
    }

    uint32 private constant BOOK = 7;
    uint256 private constant SLOTS = 24;

    ILedger private immutable LEDGER;
    IMintable private immutable TOKEN;
    address private immutable PROVIDER;
    address private immutable OPERATOR;
    ILedger.VoucherKey private _key;

    ILedger.Request[] private _queue;
    Known[] private _known;
    Slot[SLOTS] private _slots;
    uint64 private _epochs;

    /// @notice Totals in nanos since the beginning.
    uint256 public depositedNanos;
    uint256 public settledNanos;
    uint256 public refundedNanos;
    /// @notice Total in base units since the beginning.
    uint256 public withdrawnBaseUnits;
    uint256 public served;

    constructor(ILedger ledger, IMintable token, address provider, address operator, ILedger.VoucherKey memory key) {
        LEDGER = ledger;
        TOKEN = token;
        PROVIDER = provider;
        OPERATOR = operator;
        _key = key;
    }

    // ----------------------------------------------------------------------------------------------------------------------- actions

    function open(uint256 who, uint256 baseUnits) external {
        address payer = account(who % 3);
        baseUnits = _bound(baseUnits, 1, 1e12);
        _fund(payer, baseUnits);
        vm.prank(payer);
        uint248 uid = LEDGER.open(_key, bytes32(_known.length), baseUnits);
        _known.push(Known(uid, payer, false));
        _deposited(ILedger.Kind.Open, uid, _key.x, baseUnits);
    }

    function topUp(uint256 which, uint256 who, uint256 baseUnits) external {
        if (_known.length == 0) return;
        Known storage k = _known[which % _known.length];
        if (k.closing) return;
        address from = account(who % 3);
        baseUnits = _bound(baseUnits, 1, 1e12);
        _fund(from, baseUnits);
        vm.prank(from);
        LEDGER.topUp(k.uid, baseUnits);
        _deposited(ILedger.Kind.TopUp, k.uid, 0, baseUnits);
    }

    function requestClose(uint256 which) external {
        if (_known.length == 0) return;
        Known storage k = _known[which % _known.length];
        if (k.closing) return;
        k.closing = true;
        vm.prank(k.payer);
        LEDGER.requestClose(k.uid);
        _queue.push(ILedger.Request(ILedger.Kind.Close, k.uid, 0, 0, 0, 0));
    }

    /// @dev Serves up to `count` requests, as many as the book has room for, each in a row and registration of its own.
    function register(uint256 count) external {
        count = _bound(count, 1, 4);
        for (uint256 i = 0; i < count && served < _queue.length; ++i) {
            if (!_serveOne()) return;
        }
    }

    function settle(uint256 seed) external {
        uint64[] memory deltas = new uint64[](SLOTS);
        for (uint256 i = 0; i < SLOTS; ++i) {
            Slot storage s = _slots[i];
            if (s.uid == 0) continue;
            deltas[i] = uint64(_bound(uint256(keccak256(abi.encode(seed, i))), 0, s.deposit - s.settled));
            s.settled += deltas[i];
            settledNanos += deltas[i];
        }
        ILedger.Settlement[] memory list = new ILedger.Settlement[](1);
        ILedger.Settlement memory t = list[0];
        t.book = BOOK;
        for (uint256 i = 0; i < SLOTS; ++i) {
            t.totalNanos += deltas[i];
        }
        t.deltas = Reference.packDeltas(deltas);
        t.newRoot = _root();
        ILedger.EpochAnchor[] memory anchors = new ILedger.EpochAnchor[](seed % 2);
        if (seed % 2 == 1) anchors[0] = ILedger.EpochAnchor(_epochs++, keccak256(abi.encode(seed)));
        vm.prank(OPERATOR);
        LEDGER.settle(list, anchors);
    }

    function withdraw(uint256 who) external {
        address to = account(who % 4);
        if (LEDGER.creditNanos(to) < LEDGER.NANOS_PER_BASE_UNIT()) return;
        withdrawnBaseUnits += LEDGER.withdraw(to);
    }

    /// @dev Anyone may send the ledger tokens; they are nobody's.
    function donate(uint256 baseUnits) external {
        TOKEN.mint(address(LEDGER), _bound(baseUnits, 0, 1e6));
    }

    // ------------------------------------------------------------------------------------------------------------------------- views

    function account(uint256 index) public view returns (address) {
        return index == 3 ? PROVIDER : address(uint160(0xa000 + index));
    }

    function queueLength() external view returns (uint256) {
        return _queue.length;
    }

    function epochs() external view returns (uint64) {
        return _epochs;
    }

    function root() external view returns (uint256) {
        return _root();
    }

    /// @dev The sum over the book of what is neither settled nor refunded.
    function bookNanos() external view returns (uint256 sum) {
        for (uint256 i = 0; i < SLOTS; ++i) {
            sum += _slots[i].deposit - _slots[i].settled;
        }
    }

    /// @dev The sum of deposits that wait in the queue.
    function waitingNanos() external view returns (uint256 sum) {
        for (uint256 i = served; i < _queue.length; ++i) {
            sum += _queue[i].amountNanos;
        }
    }

    // ----------------------------------------------------------------------------------------------------------------------- details

    function _fund(address who, uint256 baseUnits) private {
        TOKEN.mint(who, baseUnits);
        vm.prank(who);
        TOKEN.approve(address(LEDGER), baseUnits);
    }

    function _deposited(ILedger.Kind kind, uint248 uid, uint256 keyX, uint256 baseUnits) private {
        uint64 nanos = uint64(baseUnits * LEDGER.NANOS_PER_BASE_UNIT());
        depositedNanos += nanos;
        _queue.push(ILedger.Request(kind, uid, keyX, nanos, 0, 0));
    }

    function _find(uint248 uid) private view returns (uint256) {
        for (uint256 i = 0; i < SLOTS; ++i) {
            if (_slots[i].uid == uid) return i;
        }
        return SLOTS;
    }

    function _serveOne() private returns (bool) {
        ILedger.Request memory q = _queue[served];
        uint256 i = _find(q.kind == ILedger.Kind.Open ? 0 : q.uid);
        if (i == SLOTS) return false;
        ILedger.Row memory row;
        (row.slot, row.flags, row.uid, row.keyX, row.deltaNanos) = (uint16(i), 1, q.uid, q.keyX, q.amountNanos);
        Slot storage s = _slots[i];
        s.uid = q.uid;
        s.deposit += q.amountNanos;
        if (q.kind == ILedger.Kind.Open) row.flags = 3;
        if (q.kind == ILedger.Kind.Close) {
            (row.flags, row.refundNanos) = (5, s.deposit - s.settled);
            refundedNanos += row.refundNanos;
            delete _slots[i];
        }
        ILedger.Registration[] memory list = new ILedger.Registration[](1);
        (list[0].book, list[0].newRoot, list[0].rows) = (BOOK, _root(), new ILedger.Row[](1));
        list[0].rows[0] = row;
        ILedger.Request[] memory requests = new ILedger.Request[](1);
        requests[0] = q;
        vm.prank(OPERATOR);
        LEDGER.register(list, requests);
        ++served;
        return true;
    }

    /// @dev Stands for the root of the book: it names the whole content. Never zero, like a root.
    function _root() private view returns (uint256) {
        return uint256(keccak256(abi.encode(_slots))) % (Reference.P - 1) + 1;
    }
}
