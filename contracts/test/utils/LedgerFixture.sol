// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../../src/interfaces/ILedger.sol";
import {IBookPaths} from "../../src/interfaces/IBookPaths.sol";
import {IVerifier} from "../../src/interfaces/IVerifier.sol";
import {TestUSDC} from "../../src/tokens/TestUSDC.sol";
import {Reference} from "./Reference.sol";
import {ReferenceBookPaths} from "./ReferenceBookPaths.sol";
import {StubVerifier} from "./StubVerifier.sol";
import {TestBase} from "./TestBase.sol";

interface IMintable {
    function mint(address to, uint256 amount) external;
    function approve(address spender, uint256 amount) external;
    function balanceOf(address account) external view returns (uint256);
}

/// @title A ledger over TestUSDC with stub verifiers, and the words to speak about it.
/// @dev The fixture remembers every request it causes, so that a test can serve the queue by index.
abstract contract LedgerFixture is TestBase {
    uint256 internal constant P = Reference.P;
    uint40 internal constant WINDOW = 1 days;
    uint40 internal constant HALT_WINDOW = 7 days;
    uint256 internal constant START = 1_800_000_000;

    /// @dev Tiers: books of 24, 96, 384 slots, and of 31, whose deltas need no fill.
    uint32 internal constant BOOK_24 = 7;
    uint32 internal constant BOOK_96 = 1 << 24 | 3;
    uint32 internal constant BOOK_384 = 2 << 24;
    uint32 internal constant BOOK_31 = 3 << 24 | 0xffffff;

    uint8 internal constant TOUCHED = 1;
    uint8 internal constant OPENED = 3;
    uint8 internal constant CLOSED = 5;
    uint8 internal constant OUT = 9;
    uint8 internal constant IN = 17;

    address internal immutable PROVIDER = _account("provider");
    address internal immutable OPERATOR = _account("operator");
    address internal immutable ALICE = _account("alice");
    address internal immutable BOB = _account("bob");
    address internal immutable STRANGER = _account("stranger");

    ILedger internal ledger;
    ReferenceBookPaths internal paths;
    IMintable internal token;
    StubVerifier internal settleStub;
    StubVerifier internal registerStub;
    IVerifier internal settleVerifier;
    IVerifier internal registerVerifier;
    ILedger.Request[] internal queued;

    function setUp() public virtual {
        vm.warp(START);
        _deploy(address(new TestUSDC()));
    }

    function _deploy(address token_) internal {
        _deploy(token_, 0);
    }

    function _deploy(address token_, uint64 depositMinNanos) internal {
        token = IMintable(token_);
        _newVerifiers();
        paths = new ReferenceBookPaths();
        ledger = _newLedger(PROVIDER, OPERATOR, token_, depositMinNanos, _tiers());
        delete queued;
    }

    /// @dev A test that wants true verifiers has its own here.
    function _newVerifiers() internal virtual {
        settleStub = new StubVerifier();
        registerStub = new StubVerifier();
        (settleVerifier, registerVerifier) = (settleStub, registerStub);
    }

    function _newLedger(address provider, address operator, address token_, uint64 depositMinNanos, ILedger.Tier[] memory tiers)
        internal
        returns (ILedger)
    {
        ILedger.Terms memory terms = _terms(provider, operator, token_, depositMinNanos);
        return ILedger(vm.deployCode("Ledger.sol:Ledger", abi.encode(terms, IBookPaths(paths), tiers)));
    }

    function _terms(address provider, address operator, address token_, uint64 depositMinNanos)
        internal
        pure
        returns (ILedger.Terms memory)
    {
        return ILedger.Terms(provider, operator, token_, WINDOW, HALT_WINDOW, depositMinNanos);
    }

    function _tiers() internal view returns (ILedger.Tier[] memory tiers) {
        tiers = new ILedger.Tier[](4);
        uint16[4] memory slots = [24, 96, 384, 31];
        for (uint256 i = 0; i < 4; ++i) {
            tiers[i] = ILedger.Tier({
                slots: slots[i], emptyRoot: _emptyRoot(i), settleVerifier: settleVerifier, registerVerifier: registerVerifier
            });
        }
    }

    function _emptyRoot(uint256 tier) internal pure returns (uint256) {
        return 1000 + tier;
    }

    /// @dev One of two keys with its witness, from `vectors/babyjubjub.json`.
    function _key(uint256 index) internal pure returns (ILedger.VoucherKey memory) {
        if (index % 2 == 0) {
            return ILedger.VoucherKey({
                x: 0x0bb77a6ad63e739b4eacb2e09d6277c12ab8d8010534e0b62893f3f6bb957051,
                qx: 0x21207a738aab8a331b342f9aa3f5ad5c055fba524d37dca074fc8e577f751837,
                qy: 0x06a0c864077b95f8f77135e740bff1d6cbc1539da608db57a768c6d3ba35924a
            });
        }
        return ILedger.VoucherKey({
            x: 0x162d7e417903fa1c82f2d227e35b846b1133cfca4f558b5feb9fdcd5f81dd902,
            qx: 0x0073745b85e8b6f5ab5d96a2a44add6425475b0b80e932b1b809293efcbc38cb,
            qy: 0x0251599e328243541a1a2674072818bf9ab8c825c75613c3c82ac63ff001c371
        });
    }

    // ---------------------------------------------------------------------------------------------------------------------- requests

    function _fund(address account, uint256 baseUnits) internal {
        token.mint(account, baseUnits);
        vm.startPrank(account);
        token.approve(address(ledger), 0);
        token.approve(address(ledger), type(uint256).max);
        vm.stopPrank();
    }

    function _open(address payer, uint256 salt, uint256 baseUnits) internal returns (uint248 uid) {
        _fund(payer, baseUnits);
        vm.prank(payer);
        uid = ledger.open(_key(0), bytes32(salt), baseUnits);
        _remember(ILedger.Kind.Open, uid, _key(0).x, _nanos(baseUnits));
    }

    function _topUp(address from, uint248 uid, uint256 baseUnits) internal {
        _fund(from, baseUnits);
        vm.prank(from);
        ledger.topUp(uid, baseUnits);
        _remember(ILedger.Kind.TopUp, uid, 0, _nanos(baseUnits));
    }

    /// @dev Cancels the opening that is request `index` of the queue.
    function _cancelOpen(address caller, uint248 uid, uint64 index) internal {
        ILedger.Request memory q = queued[index];
        vm.prank(caller);
        ledger.cancelOpen(uid, index, q.keyX, q.amountNanos);
    }

    /// @dev Halts the ledger, by a request that is left unserved for too long when none waits.
    function _halt() internal {
        if (ledger.queueHead() == ledger.queueTail()) _open(STRANGER, uint256(keccak256("unserved")), 1e6);
        vm.warp(block.timestamp + HALT_WINDOW + 1);
        vm.prank(STRANGER);
        ledger.halt();
    }

    function _requestClose(address payer, uint248 uid) internal {
        vm.prank(payer);
        ledger.requestClose(uid);
        _remember(ILedger.Kind.Close, uid, 0, 0);
    }

    function _remember(ILedger.Kind kind, uint248 uid, uint256 keyX, uint64 amountNanos) internal {
        queued.push(ILedger.Request({kind: kind, uid: uid, keyX: keyX, amountNanos: amountNanos, registration: 0, row: 0}));
    }

    function _nanos(uint256 baseUnits) internal view returns (uint64) {
        return
            uint64(ledger.NANOS_PER_BASE_UNIT() != 0 ? baseUnits * ledger.NANOS_PER_BASE_UNIT() : baseUnits / ledger.BASE_UNITS_PER_NANO());
    }

    // ------------------------------------------------------------------------------------------------------------------------ books

    function _row(uint16 slot, uint8 flags, uint248 uid, uint64 deltaNanos, uint64 refundNanos) internal pure returns (ILedger.Row memory) {
        return ILedger.Row({
            slot: slot, flags: flags, deltaNanos: deltaNanos, refundNanos: refundNanos, uid: uid, keyX: flags & 26 != 0 ? _key(0).x : 0
        });
    }

    function _rows(ILedger.Row memory a) internal pure returns (ILedger.Row[] memory rows) {
        rows = new ILedger.Row[](1);
        rows[0] = a;
    }

    function _rows(ILedger.Row memory a, ILedger.Row memory b) internal pure returns (ILedger.Row[] memory rows) {
        rows = new ILedger.Row[](2);
        (rows[0], rows[1]) = (a, b);
    }

    function _registration(uint32 book, ILedger.Row[] memory rows) internal view returns (ILedger.Registration memory g) {
        g.book = book;
        g.newRoot = _newRoot(ledger.bookRoot(book), keccak256(abi.encode(rows)));
        g.commitment = uint256(keccak256(abi.encode("commitment", g.newRoot))) % P;
        g.proof = [uint256(1), 2, 3, 4, 5, 6, 7, 8];
        g.rows = rows;
    }

    function _newRoot(uint256 oldRoot, bytes32 data) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(oldRoot, data))) % P;
    }

    function _list(ILedger.Registration memory a) internal pure returns (ILedger.Registration[] memory list) {
        list = new ILedger.Registration[](1);
        list[0] = a;
    }

    function _list(ILedger.Registration memory a, ILedger.Registration memory b)
        internal
        pure
        returns (ILedger.Registration[] memory list)
    {
        list = new ILedger.Registration[](2);
        (list[0], list[1]) = (a, b);
    }

    /// @dev The `count` oldest requests, all for row 0 of registration 0.
    function _oldest(uint256 count) internal view returns (ILedger.Request[] memory requests) {
        uint256 head = ledger.queueHead();
        requests = new ILedger.Request[](count);
        for (uint256 i = 0; i < count; ++i) {
            requests[i] = queued[head + i];
        }
    }

    function _register(ILedger.Registration memory registration, ILedger.Request[] memory requests) internal {
        ILedger.Registration[] memory list = _list(registration);
        vm.prank(OPERATOR);
        ledger.register(list, requests);
    }

    /// @dev Opens a channel and puts it into `slot` of `book`.
    function _openIn(uint32 book, uint16 slot, address payer, uint256 salt, uint256 baseUnits) internal returns (uint248 uid) {
        uid = _open(payer, salt, baseUnits);
        _register(_registration(book, _rows(_row(slot, OPENED, uid, _nanos(baseUnits), 0))), _oldest(1));
    }

    function _slots(uint32 book) internal view returns (uint256) {
        return ledger.tier(uint8(book >> 24)).slots;
    }

    function _settlement(uint32 book, uint64[] memory deltas) internal view returns (Reference.Settlement memory s) {
        for (uint256 i = 0; i < deltas.length; ++i) {
            s.totalNanos += deltas[i];
        }
        s.book = book;
        s.deltas = Reference.packDeltas(deltas);
        s.newRoot = _newRoot(ledger.bookRoot(book), keccak256(s.deltas));
        s.commitment = uint256(keccak256(abi.encode("commitment", s.newRoot))) % P;
        s.proof = [uint256(11), 12, 13, 14, 15, 16, 17, 18];
    }

    /// @dev A settlement that takes `delta` from the first slot.
    function _settlement(uint32 book, uint64 delta) internal view returns (Reference.Settlement memory) {
        uint64[] memory deltas = new uint64[](_slots(book));
        deltas[0] = delta;
        return _settlement(book, deltas);
    }

    function _list(Reference.Settlement memory a) internal pure returns (Reference.Settlement[] memory list) {
        list = new Reference.Settlement[](1);
        list[0] = a;
    }

    function _list(Reference.Settlement memory a, Reference.Settlement memory b)
        internal
        pure
        returns (Reference.Settlement[] memory list)
    {
        list = new Reference.Settlement[](2);
        (list[0], list[1]) = (a, b);
    }

    /// @dev Of the deltas of a vector the calldata has all but the fill, which is zeros.
    function _cut(bytes memory deltas, uint256 length) internal pure {
        for (uint256 i = length; i < deltas.length; ++i) {
            vm.assertEq(uint8(deltas[i]), 0);
        }
        assembly ("memory-safe") {
            mstore(deltas, length)
        }
    }

    function _noEpochs() internal pure returns (ILedger.EpochAnchor[] memory) {
        return new ILedger.EpochAnchor[](0);
    }

    function _settle(Reference.Settlement memory settlement) internal {
        Reference.Settlement[] memory list = _list(settlement);
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());
    }
}
