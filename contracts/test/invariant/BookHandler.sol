// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBookPaths} from "../../src/interfaces/IBookPaths.sol";
import {ILedger} from "../../src/interfaces/ILedger.sol";
import {IMintable} from "../utils/LedgerFixture.sol";
import {Reference} from "../utils/Reference.sol";
import {ReferenceBookPaths} from "../utils/ReferenceBookPaths.sol";
import {TestBase} from "../utils/TestBase.sol";

/// @title Payers, a provider and an honest prover who act at random on one ledger with one book, until someone halts it.
/// @dev Keeps the book in the clear, so that it proves (to a stub) only what the circuits would, and the totals that the invariants compare
/// with. A slot is freed by a close and taken by the next open, as in operation; channels move between slots. What the ledger must refuse is tried too, each time with
/// the error that it must answer; so no action passes silently.
contract BookHandler is TestBase {
    enum Place {
        Waiting,
        Book,
        Gone
    }

    /// @dev A channel. `waitingNanos` are deposits that no registration served; `depositNanos` and `settledNanos` are those of its slot.
    struct Known {
        uint248 uid;
        address payer;
        uint64 openIndex;
        uint64 openNanos;
        Place place;
        bool closing;
        uint16 slot;
        uint64 waitingNanos;
        uint64 depositNanos;
        uint64 settledNanos;
    }

    struct Queued {
        ILedger.Kind kind;
        uint256 known;
        uint64 nanos;
    }

    uint32 private constant BOOK = 7;
    uint256 private constant SLOTS = 24;
    uint256 private constant EMPTY = type(uint256).max;

    ILedger private immutable LEDGER;
    IMintable private immutable TOKEN;
    ReferenceBookPaths private immutable PATHS;
    address private immutable PROVIDER;
    address private immutable OPERATOR;
    ILedger.VoucherKey private _key;

    Known[] private _known;
    Queued[] private _queue;
    uint256[SLOTS] private _slots;
    uint64 private _epochs;

    /// @notice Totals in nanos since the beginning.
    uint256 public depositedNanos;
    uint256 public settledNanos;
    mapping(address payer => uint256) public depositedFor;
    mapping(address payer => uint256) public refundedTo;
    /// @notice What no registration has served and nobody took back.
    uint256 public waitingNanos;
    /// @notice Totals in base units since the beginning.
    uint256 public withdrawnBaseUnits;
    mapping(address account => uint256) public withdrawnBy;
    uint256 public served;
    uint256 public moved;
    bool public halted;

    constructor(
        ILedger ledger,
        IMintable token,
        ReferenceBookPaths paths,
        address provider,
        address operator,
        ILedger.VoucherKey memory key
    ) {
        LEDGER = ledger;
        TOKEN = token;
        PATHS = paths;
        PROVIDER = provider;
        OPERATOR = operator;
        _key = key;
        for (uint256 i = 0; i < SLOTS; ++i) {
            _slots[i] = EMPTY;
        }
    }

    // ----------------------------------------------------------------------------------------------------------------------- actions

    /// @dev By the payer, by another for it, or through a permit that fails and leaves the allowance to decide.
    function open(uint256 who, uint256 way, uint256 baseUnits) external {
        address payer = account(who % 3);
        address caller = way % 3 == 1 ? account((who % 3 + 1) % 3) : payer;
        baseUnits = _bound(baseUnits, 1, 1e12);
        bytes32 salt = bytes32(_known.length);
        ILedger.PermitSignature memory none;
        _fund(caller, baseUnits);
        if (halted) vm.expectRevert(ILedger.LedgerHalted.selector);
        vm.prank(caller);
        uint248 uid = way % 3 == 0
            ? LEDGER.open(_key, salt, baseUnits)
            : way % 3 == 1 ? LEDGER.openFor(payer, _key, salt, baseUnits) : LEDGER.openWithPermit(payer, _key, salt, baseUnits, 0, none, "");
        if (halted) return;
        uint64 nanos = _nanos(baseUnits);
        _known.push(Known(uid, payer, uint64(_queue.length), nanos, Place.Waiting, false, 0, 0, 0, 0));
        _deposited(ILedger.Kind.Open, _known.length - 1, nanos);
    }

    function topUp(uint256 which, uint256 who, uint256 baseUnits) external {
        if (_known.length == 0) return;
        which %= _known.length;
        Known storage k = _known[which];
        address from = account(who % 3);
        baseUnits = _bound(baseUnits, 1, 1e12);
        _fund(from, baseUnits);
        bool refused = _expectRefused(k);
        vm.prank(from);
        LEDGER.topUp(k.uid, baseUnits);
        if (!refused) _deposited(ILedger.Kind.TopUp, which, _nanos(baseUnits));
    }

    function requestClose(uint256 which) external {
        if (_known.length == 0) return;
        which %= _known.length;
        Known storage k = _known[which];
        bool refused = _expectRefused(k);
        vm.prank(k.payer);
        LEDGER.requestClose(k.uid);
        if (refused) return;
        k.closing = true;
        _queue.push(Queued(ILedger.Kind.Close, which, 0));
    }

    /// @dev Serves up to `count` requests, as many as the book has room for, each in a row and registration of its own.
    function register(uint256 count) external {
        count = _bound(count, 1, 6);
        for (uint256 i = 0; i < count && served < _queue.length; ++i) {
            if (!_serveOne() || halted) return;
        }
    }

    /// @dev Moves a channel to a free slot as it is, or tries to with another amount.
    function move(uint256 from, uint256 seed) external {
        from %= SLOTS;
        uint256 to = _freeSlot(seed % SLOTS);
        if (_slots[from] == EMPTY || to == SLOTS) return;
        uint256 known = _slots[from];
        Known storage k = _known[known];
        (bool overdue, uint256 deadline) = _waitsLongerThan(LEDGER.RESPONSE_WINDOW());
        ILedger.Registration[] memory list = new ILedger.Registration[](2);
        for (uint256 i = 0; i < 2; ++i) {
            (list[i].book, list[i].rows) = (BOOK, new ILedger.Row[](1));
            list[i].rows[0] = ILedger.Row(uint16(i == 0 ? from : to), i == 0 ? 9 : 17, k.depositNanos, k.settledNanos, k.uid, _key.x);
        }
        if (seed % 8 == 0) list[1].rows[0].deltaNanos ^= 1;
        if (seed % 8 == 1) list[0].rows[0].refundNanos ^= 1;
        if (halted) {
            vm.expectRevert(ILedger.LedgerHalted.selector);
        } else if (overdue) {
            vm.expectRevert(abi.encodeWithSelector(ILedger.RequestOverdue.selector, served, deadline));
        } else if (seed % 8 < 2) {
            vm.expectRevert(abi.encodeWithSelector(ILedger.MoveMismatch.selector, k.uid));
        } else {
            _slots[from] = EMPTY;
            list[0].newRoot = root();
            (_slots[to], k.slot) = (known, uint16(to));
            list[1].newRoot = root();
            ++moved;
        }
        vm.prank(OPERATOR);
        LEDGER.register(list, new ILedger.Request[](0));
    }

    function settle(uint256 seed) external {
        (bool overdue, uint256 deadline) = _waitsLongerThan(LEDGER.RESPONSE_WINDOW());
        uint64[] memory deltas = new uint64[](SLOTS);
        bool refused = halted || overdue;
        Reference.Settlement[] memory list = new Reference.Settlement[](1);
        Reference.Settlement memory t = list[0];
        for (uint256 i = 0; i < SLOTS && !refused; ++i) {
            if (_slots[i] == EMPTY) continue;
            Known storage k = _known[_slots[i]];
            deltas[i] = uint64(_bound(uint256(keccak256(abi.encode(seed, i))), 0, k.depositNanos - k.settledNanos));
            k.settledNanos += deltas[i];
            settledNanos += deltas[i];
            t.totalNanos += deltas[i];
        }
        t.book = BOOK;
        t.deltas = Reference.packDeltas(deltas);
        t.newRoot = root();
        ILedger.EpochAnchor[] memory anchors = new ILedger.EpochAnchor[](seed % 2);
        if (seed % 2 == 1) anchors[0] = ILedger.EpochAnchor(_epochs, keccak256(abi.encode(seed)));
        if (halted) vm.expectRevert(ILedger.LedgerHalted.selector);
        else if (overdue) vm.expectRevert(abi.encodeWithSelector(ILedger.RequestOverdue.selector, served, deadline));
        else _epochs += uint64(seed % 2);
        vm.prank(OPERATOR);
        LEDGER.settle(Reference.pack(list), anchors);
    }

    function withdraw(uint256 who) external {
        address to = account(who % 4);
        bool nothing = LEDGER.creditNanos(to) < LEDGER.NANOS_PER_BASE_UNIT();
        if (nothing) vm.expectRevert(abi.encodeWithSelector(ILedger.NothingToWithdraw.selector, to));
        uint256 paid = LEDGER.withdraw(to);
        if (nothing) return;
        withdrawnBaseUnits += paid;
        withdrawnBy[to] += paid;
    }

    /// @dev By the payer, or when halted by anyone.
    function cancelOpen(uint256 which, uint256 who) external {
        if (_known.length == 0) return;
        Known storage k = _known[which % _known.length];
        uint256 deadline = uint256(LEDGER.requestedAt(k.openIndex)) + LEDGER.RESPONSE_WINDOW();
        bool may = true;
        if (LEDGER.channel(k.uid).included) {
            vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelIncluded.selector, k.uid));
            may = false;
        } else if (k.place == Place.Gone) {
            vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelClosing.selector, k.uid));
            may = false;
        } else if (!halted && block.timestamp <= deadline) {
            vm.expectRevert(abi.encodeWithSelector(ILedger.NotOverdue.selector, k.openIndex, deadline));
            may = false;
        }
        vm.prank(halted ? account(who % 4) : k.payer);
        LEDGER.cancelOpen(k.uid, k.openIndex, _key.x, k.openNanos);
        if (may) _gone(k, k.waitingNanos);
    }

    /// @dev Rare, or every run would be short.
    function halt(uint256 seed) external {
        (bool overdue, uint256 deadline) = _waitsLongerThan(LEDGER.HALT_WINDOW());
        if (!halted && overdue && seed % 8 != 0) return;
        if (halted) vm.expectRevert(ILedger.LedgerHalted.selector);
        else if (!overdue) vm.expectRevert(abi.encodeWithSelector(ILedger.NotOverdue.selector, served, deadline));
        LEDGER.halt();
        if (overdue) halted = true;
    }

    function leave(uint256 slot) external {
        slot %= SLOTS;
        if (_slots[slot] == EMPTY) return;
        Known storage k = _known[_slots[slot]];
        bool may = halted && k.place != Place.Gone;
        IBookPaths.SlotPath memory path = PATHS.pathOf(_content(), uint16(slot));
        if (!halted) vm.expectRevert(ILedger.NotHalted.selector);
        else if (!may) vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelClosing.selector, k.uid));
        LEDGER.leave(BOOK, path);
        if (may) _gone(k, k.waitingNanos + k.depositNanos - k.settledNanos);
    }

    function wait(uint256 secs) external {
        vm.warp(block.timestamp + (secs % 32 == 0 ? 9 days : _bound(secs, 0, 6 hours)));
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

    function root() public view returns (uint256) {
        return PATHS.rootOf(_content());
    }

    /// @dev The sum over the book of what is neither settled nor taken back.
    function bookNanos() external view returns (uint256 sum) {
        for (uint256 i = 0; i < SLOTS; ++i) {
            if (_slots[i] == EMPTY) continue;
            Known storage k = _known[_slots[i]];
            if (k.place != Place.Gone) sum += k.depositNanos - k.settledNanos;
        }
    }

    function channels() external view returns (Known[] memory) {
        return _known;
    }

    // ----------------------------------------------------------------------------------------------------------------------- details

    function _fund(address who, uint256 baseUnits) private {
        TOKEN.mint(who, baseUnits);
        vm.prank(who);
        TOKEN.approve(address(LEDGER), baseUnits);
    }

    function _nanos(uint256 baseUnits) private view returns (uint64) {
        return uint64(baseUnits * LEDGER.NANOS_PER_BASE_UNIT());
    }

    function _deposited(ILedger.Kind kind, uint256 known, uint64 nanos) private {
        depositedNanos += nanos;
        depositedFor[_known[known].payer] += nanos;
        _known[known].waitingNanos += nanos;
        waitingNanos += nanos;
        _queue.push(Queued(kind, known, nanos));
    }

    /// @dev A channel that is closing or gone takes no requests, and neither does a halted ledger.
    function _expectRefused(Known storage k) private returns (bool refused) {
        refused = k.closing || k.place == Place.Gone;
        if (refused) vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelClosing.selector, k.uid));
        else if (halted) vm.expectRevert(ILedger.LedgerHalted.selector);
        refused = refused || halted;
    }

    function _waitsLongerThan(uint256 window) private view returns (bool overdue, uint256 deadline) {
        if (served == _queue.length) return (false, type(uint256).max);
        deadline = uint256(LEDGER.requestedAt(uint64(served))) + window;
        return (block.timestamp > deadline, deadline);
    }

    function _gone(Known storage k, uint64 refundNanos) private {
        refundedTo[k.payer] += refundNanos;
        k.place = Place.Gone;
        waitingNanos -= k.waitingNanos;
        k.waitingNanos = 0;
    }

    /// @dev The book as it is, the slots of those who left a halted ledger included.
    function _content() private view returns (ReferenceBookPaths.Slot[] memory content) {
        content = new ReferenceBookPaths.Slot[](SLOTS);
        for (uint256 i = 0; i < SLOTS; ++i) {
            if (_slots[i] == EMPTY) continue;
            Known storage k = _known[_slots[i]];
            content[i] = ReferenceBookPaths.Slot(k.uid, _key.x, k.depositNanos, k.settledNanos);
        }
    }

    /// @dev The first one from `start` on, the slots in a circle.
    function _freeSlot(uint256 start) private view returns (uint256) {
        for (uint256 i = 0; i < SLOTS; ++i) {
            uint256 slot = (start + i) % SLOTS;
            if (_slots[slot] == EMPTY) return slot;
        }
        return SLOTS;
    }

    function _serveOne() private returns (bool) {
        Queued memory q = _queue[served];
        Known storage k = _known[q.known];
        uint256 keyX = q.kind == ILedger.Kind.Open ? _key.x : 0;
        ILedger.Request[] memory requests = new ILedger.Request[](1);
        requests[0] = ILedger.Request(q.kind, k.uid, keyX, q.nanos, 0, 0);
        // The request of a cancelled channel is void, and needs no row.
        bool isVoid = k.place == Place.Gone && !LEDGER.channel(k.uid).included;
        ILedger.Registration[] memory list = new ILedger.Registration[](isVoid ? 0 : 1);
        if (!isVoid && !halted) {
            uint256 slot = q.kind == ILedger.Kind.Open ? _freeSlot(0) : k.slot;
            if (slot == SLOTS) return false;
            ILedger.Row memory row;
            (row.slot, row.flags, row.uid, row.keyX, row.deltaNanos) = (uint16(slot), 1, k.uid, keyX, q.nanos);
            k.waitingNanos -= q.nanos;
            waitingNanos -= q.nanos;
            k.depositNanos += q.nanos;
            if (q.kind == ILedger.Kind.Open) {
                row.flags = 3;
                (k.place, k.slot, _slots[slot]) = (Place.Book, uint16(slot), q.known);
            }
            if (q.kind == ILedger.Kind.Close) {
                (row.flags, row.refundNanos) = (5, k.depositNanos - k.settledNanos);
                _gone(k, row.refundNanos);
                _slots[slot] = EMPTY;
            }
            (list[0].book, list[0].newRoot, list[0].rows) = (BOOK, root(), new ILedger.Row[](1));
            list[0].rows[0] = row;
        }
        if (halted) vm.expectRevert(ILedger.LedgerHalted.selector);
        vm.prank(OPERATOR);
        LEDGER.register(list, requests);
        if (!halted) ++served;
        return true;
    }
}
