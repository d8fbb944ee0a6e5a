// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Authorization} from "./Authorization.sol";
import {BabyJubJub} from "./BabyJubJub.sol";
import {Binding} from "./Binding.sol";
import {IBookPaths} from "./interfaces/IBookPaths.sol";
import {ILedger} from "./interfaces/ILedger.sol";
import {IPermit2} from "./interfaces/IPermit2.sol";
import {IReceiveWithAuthorization} from "./interfaces/IReceiveWithAuthorization.sol";
import {IVerifier} from "./interfaces/IVerifier.sol";
import {Settlements} from "./Settlements.sol";

/// @title The Millstream ledger. See `ILedger` for what each function promises and `docs/spec/ledger.md` for the rules (`L-n`).
/// @dev No owner, no upgrade, no pause; a halt is for good and nobody's to choose. Every function that moves state is guarded against
/// reentrance; each is written in the order check, effect, interaction. The static calls of verifiers and of the book paths are checks.
contract Ledger is ILedger, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @notice The token has more than 27 decimals.
    error UnsupportedDecimals(uint8 decimals);
    /// @notice A tier has no slots, a verifier without code, or a root that is no field element; or there are no tiers or more than 256.
    error InvalidTier(uint256 index);
    /// @notice The provider is the zero address, which could never be paid.
    error InvalidProvider();
    /// @notice The response window is above 30 days, or the halt window not above it or above 365 days.
    error InvalidWindows(uint40 responseWindowSecs, uint40 haltWindowSecs);
    /// @notice There is no contract that computes roots from paths.
    error InvalidBookPaths();

    /// @dev A tier in the order that lets `settle` read one slot and `register` two.
    struct StoredTier {
        IVerifier settleVerifier;
        uint16 slots;
        IVerifier registerVerifier;
        uint256 emptyRoot;
    }

    /// @dev One slot: `settle` and `register` read all of it together. A request costs gas, so 2^40 of them are out of reach.
    struct Control {
        address operator;
        uint40 queueHead;
        uint40 queueTail;
        bool halted;
    }

    struct QueuedRequest {
        uint40 requestedAt;
        uint216 digest;
    }

    /// @dev What a verifier has to say about one book.
    struct Claim {
        IVerifier verifier;
        uint32 book;
        uint256[3] inputs;
        /// @dev Where in the calldata the eight words of the proof are.
        uint256 proofAt;
    }

    /// @dev Permit2, at one address on every chain.
    IPermit2 private constant PERMIT2 = IPermit2(0x000000000022D473030F116dDEE9F6B43aC78BA3);

    uint40 private constant RESPONSE_WINDOW_MAX = 30 days;
    uint40 private constant HALT_WINDOW_MAX = 365 days;
    uint8 private constant NANO_DECIMALS = 9;
    uint8 private constant DECIMALS_MAX = 27;

    uint8 private constant TOUCHED = 1;
    uint8 private constant OPEN = 2;
    uint8 private constant CLOSE = 4;
    uint8 private constant OUT = 8;
    uint8 private constant IN = 16;

    bytes32 private constant UID_TYPEHASH =
        keccak256("MillstreamChannel(uint256 chainId,address ledger,address payer,uint256 keyX,bytes32 salt)");

    address public immutable PROVIDER;
    address public immutable TOKEN;
    IBookPaths public immutable BOOK_PATHS;
    uint40 public immutable RESPONSE_WINDOW;
    uint40 public immutable HALT_WINDOW;
    uint64 public immutable DEPOSIT_MIN_NANOS;
    uint256 public immutable NANOS_PER_BASE_UNIT;
    uint256 public immutable BASE_UNITS_PER_NANO;
    uint256 public immutable tierCount;

    Control private _control;
    uint64 public epochCount;
    mapping(uint256 index => StoredTier) private _tiers;
    mapping(uint32 book => uint256 root) private _bookRoots;
    mapping(uint248 uid => Channel) private _channels;
    mapping(uint256 index => QueuedRequest) private _requests;
    mapping(address account => uint256) public creditNanos;
    mapping(uint64 epoch => bytes32) public epochRoot;
    mapping(bytes32 digest => bool) public consentUsed;

    /// @param terms What the provider chose; see `ILedger.Terms`.
    /// @param bookPaths What computes roots from the paths of `leave`.
    /// @param tiers The sizes of book, 1 to 256; the upper 8 bits of a book id are an index into them.
    constructor(Terms memory terms, IBookPaths bookPaths, Tier[] memory tiers) {
        if (terms.provider == address(0)) revert InvalidProvider();
        if (
            terms.responseWindowSecs > RESPONSE_WINDOW_MAX || terms.haltWindowSecs <= terms.responseWindowSecs
                || terms.haltWindowSecs > HALT_WINDOW_MAX
        ) revert InvalidWindows(terms.responseWindowSecs, terms.haltWindowSecs);
        if (address(bookPaths).code.length == 0) revert InvalidBookPaths();
        uint8 decimals = IERC20Metadata(terms.token).decimals();
        if (decimals > DECIMALS_MAX) revert UnsupportedDecimals(decimals);
        if (tiers.length == 0 || tiers.length > 256) revert InvalidTier(tiers.length);

        PROVIDER = terms.provider;
        TOKEN = terms.token;
        BOOK_PATHS = bookPaths;
        RESPONSE_WINDOW = terms.responseWindowSecs;
        HALT_WINDOW = terms.haltWindowSecs;
        DEPOSIT_MIN_NANOS = terms.depositMinNanos;
        NANOS_PER_BASE_UNIT = decimals <= NANO_DECIMALS ? 10 ** (NANO_DECIMALS - decimals) : 0;
        BASE_UNITS_PER_NANO = decimals >= NANO_DECIMALS ? 10 ** (decimals - NANO_DECIMALS) : 0;
        tierCount = tiers.length;
        for (uint256 i = 0; i < tiers.length; ++i) {
            Tier memory t = tiers[i];
            if (
                t.slots == 0 || t.emptyRoot >= Binding.P || address(t.settleVerifier).code.length == 0
                    || address(t.registerVerifier).code.length == 0
            ) revert InvalidTier(i);
            _tiers[i] = StoredTier({
                settleVerifier: t.settleVerifier, slots: t.slots, registerVerifier: t.registerVerifier, emptyRoot: t.emptyRoot
            });
        }
        _control.operator = terms.operator;
        emit OperatorChanged(terms.operator);
    }

    // ----------------------------------------------------------------------------------------------------------------------- opening

    /// @inheritdoc ILedger
    function open(VoucherKey calldata key, bytes32 salt, uint256 baseUnits) external nonReentrant returns (uint248 uid) {
        // check, effect
        uid = _open(msg.sender, key, salt, baseUnits);
        // interaction
        _pull(msg.sender, baseUnits);
    }

    /// @inheritdoc ILedger
    function openFor(address payer, VoucherKey calldata key, bytes32 salt, uint256 baseUnits) external nonReentrant returns (uint248 uid) {
        // check, effect
        uid = _open(payer, key, fundedSalt(msg.sender, salt), baseUnits);
        // interaction
        _pull(msg.sender, baseUnits);
    }

    /// @inheritdoc ILedger
    function openWithAuthorization(
        address payer,
        VoucherKey calldata key,
        bytes32 salt,
        uint256 baseUnits,
        uint256 validAfter,
        uint256 validBefore,
        bytes calldata signature
    ) external nonReentrant returns (uint248 uid) {
        // check, effect
        uid = _open(payer, key, salt, baseUnits);
        // interaction
        _pullWithAuthorization(payer, baseUnits, validAfter, validBefore, Authorization.openNonce(uid), signature);
    }

    /// @inheritdoc ILedger
    function openWithPermit(
        address payer,
        VoucherKey calldata key,
        bytes32 salt,
        uint256 baseUnits,
        uint256 deadline,
        PermitSignature calldata permit,
        bytes calldata consent
    ) external nonReentrant returns (uint248 uid) {
        // check, effect; a uid is opened once, so a consent to it serves once
        uid = _open(payer, key, salt, baseUnits);
        if (msg.sender != payer) _checkConsent(payer, Authorization.openConsent(payer, uid, baseUnits, deadline), deadline, consent);
        // interaction
        _pullWithPermit(payer, baseUnits, deadline, permit);
    }

    /// @inheritdoc ILedger
    function openWithPermit2(
        address payer,
        VoucherKey calldata key,
        bytes32 salt,
        uint256 baseUnits,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external nonReentrant returns (uint248 uid) {
        // check, effect
        uid = _open(payer, key, salt, baseUnits);
        // interaction
        _pullWithPermit2(payer, baseUnits, nonce, deadline, Authorization.openWitness(uid), Authorization.OPEN_WITNESS_TYPE, signature);
    }

    // -------------------------------------------------------------------------------------------------------------------- topping up

    /// @inheritdoc ILedger
    function topUp(uint248 uid, uint256 baseUnits) external nonReentrant {
        // check, effect
        _topUp(uid, baseUnits);
        // interaction
        _pull(msg.sender, baseUnits);
    }

    /// @inheritdoc ILedger
    function topUpWithAuthorization(
        address from,
        uint248 uid,
        uint256 baseUnits,
        bytes32 salt,
        uint256 validAfter,
        uint256 validBefore,
        bytes calldata signature
    ) external nonReentrant {
        // check, effect
        _topUp(uid, baseUnits);
        // interaction
        _pullWithAuthorization(from, baseUnits, validAfter, validBefore, Authorization.topUpNonce(uid, salt), signature);
    }

    /// @inheritdoc ILedger
    function topUpWithPermit(
        address from,
        uint248 uid,
        uint256 baseUnits,
        bytes32 salt,
        uint256 deadline,
        PermitSignature calldata permit,
        bytes calldata consent
    ) external nonReentrant {
        // check, effect
        _topUp(uid, baseUnits);
        if (msg.sender != from) {
            bytes32 digest = Authorization.topUpConsent(from, uid, baseUnits, salt, deadline);
            if (consentUsed[digest]) revert ConsentUsed(digest);
            consentUsed[digest] = true;
            _checkConsent(from, digest, deadline, consent);
        }
        // interaction
        _pullWithPermit(from, baseUnits, deadline, permit);
    }

    /// @inheritdoc ILedger
    function topUpWithPermit2(address from, uint248 uid, uint256 baseUnits, uint256 nonce, uint256 deadline, bytes calldata signature)
        external
        nonReentrant
    {
        // check, effect
        _topUp(uid, baseUnits);
        // interaction
        _pullWithPermit2(from, baseUnits, nonce, deadline, Authorization.topUpWitness(uid), Authorization.TOP_UP_WITNESS_TYPE, signature);
    }

    // ----------------------------------------------------------------------------------------------------------------------- leaving

    /// @inheritdoc ILedger
    function requestClose(uint248 uid) external nonReentrant {
        // check
        Channel storage c = _channels[uid];
        if (c.payer == address(0)) revert ChannelUnknown(uid);
        if (c.payer != msg.sender) revert NotPayer(msg.sender);
        if (c.closeRequested) revert ChannelClosing(uid);
        // effect
        c.closeRequested = true;
        uint64 index = _enqueue(Kind.Close, uid, 0, 0);
        emit CloseRequested(uid, index);
    }

    /// @inheritdoc ILedger
    function cancelOpen(uint248 uid, uint64 requestIndex, uint256 keyX, uint64 amountNanos) external nonReentrant {
        // check
        Control memory control = _control;
        Channel memory c = _channels[uid];
        if (c.payer == address(0)) revert ChannelUnknown(uid);
        if (c.included) revert ChannelIncluded(uid);
        if (c.closed) revert ChannelClosing(uid);
        if (_digest(requestIndex, Kind.Open, uid, keyX, amountNanos) != _requests[requestIndex].digest) {
            revert RequestMismatch(requestIndex);
        }
        if (!control.halted) {
            if (msg.sender != c.payer) revert NotPayer(msg.sender);
            (bool overdue, uint256 deadline) = _overdue(control, requestIndex, RESPONSE_WINDOW);
            if (!overdue) revert NotOverdue(requestIndex, deadline);
        }
        // effect
        _close(uid, c, c.depositNanos);
        emit OpenCancelled(uid, c.depositNanos);
    }

    /// @inheritdoc ILedger
    function halt() external nonReentrant {
        // check
        Control memory control = _control;
        if (control.halted) revert LedgerHalted();
        (bool overdue, uint256 deadline) = _overdue(control, control.queueHead, HALT_WINDOW);
        if (!overdue) revert NotOverdue(control.queueHead, deadline);
        // effect
        _control.halted = true;
        emit Halted(control.queueHead);
    }

    /// @inheritdoc ILedger
    function leave(uint32 book, IBookPaths.SlotPath calldata path) external nonReentrant {
        // check
        if (!_control.halted) revert NotHalted();
        uint248 uid = path.uid;
        Channel memory c = _channels[uid];
        if (c.payer == address(0)) revert ChannelUnknown(uid);
        if (!c.included) revert ChannelNotIncluded(uid);
        if (c.closed) revert ChannelClosing(uid);
        StoredTier storage t = _tierOf(book);
        uint256 expected = _root(book, t);
        uint256 actual = BOOK_PATHS.root(t.slots, path);
        if (actual != expected) revert RootMismatch(book, expected, actual);
        // What the book has as the deposit lacks the top-ups that were not served. Settled never exceeds it (L-13), so nothing wraps.
        uint64 refundNanos = c.depositNanos - path.settledNanos;
        // effect
        _close(uid, c, refundNanos);
        emit Left(uid, book, refundNanos);
    }

    // ------------------------------------------------------------------------------------------------------------- operator, by proof

    /// @inheritdoc ILedger
    function register(Registration[] calldata registrations, Request[] calldata requests) external nonReentrant {
        // check
        Control memory control = _control;
        if (control.halted) revert LedgerHalted();
        if (requests.length == 0) {
            _checkMoves(registrations, control);
        } else {
            if (msg.sender != control.operator && !_mayServe(control, requests.length)) revert NotOperator(msg.sender);
            uint256[][] memory asked = _takeRequests(registrations, requests, control);
            for (uint256 i = 0; i < registrations.length; ++i) {
                _checkRows(i, registrations[i], asked[i]);
            }
        }
        // effect; a proof is checked against the root that the registrations before it left
        uint40 head = control.queueHead + uint40(requests.length);
        _control.queueHead = head;
        Claim[] memory claims = new Claim[](registrations.length);
        for (uint256 i = 0; i < registrations.length; ++i) {
            claims[i] = _registerBook(registrations[i], head);
        }
        // check: nothing above stands unless every proof holds
        _checkProofs(claims);
    }

    /// @inheritdoc ILedger
    function settle(bytes calldata settlements, EpochAnchor[] calldata epochs) external nonReentrant {
        // check
        Control memory control = _control;
        if (control.halted) revert LedgerHalted();
        if (msg.sender != control.operator) revert NotOperator(msg.sender);
        (bool overdue, uint256 deadline) = _overdue(control, control.queueHead, RESPONSE_WINDOW);
        if (overdue) revert RequestOverdue(control.queueHead, deadline);
        // effect; a proof is checked against the root that the settlements before it left
        uint256 paidNanos = 0;
        uint256 count = 0;
        Claim[] memory claims = _placesForClaims(settlements.length / Settlements.length(1));
        while (settlements.length != 0) {
            (bytes calldata settlement, StoredTier storage t) = _nextSettlement(settlements);
            settlements = settlements[settlement.length:];
            uint256 totalNanos;
            (claims[count++], totalNanos) = _settleBook(settlement, t);
            paidNanos += totalNanos;
        }
        assembly ("memory-safe") {
            mstore(claims, count)
        }
        // check: nothing above stands unless every proof holds
        _checkProofs(claims);
        // effect
        if (paidNanos != 0) creditNanos[PROVIDER] += paidNanos;
        if (epochs.length != 0) _anchor(epochs);
    }

    // -------------------------------------------------------------------------------------------------------------------- withdrawals

    /// @inheritdoc ILedger
    function withdraw(address account) external nonReentrant returns (uint256 baseUnits) {
        return _withdraw(account, account);
    }

    /// @inheritdoc ILedger
    function withdrawTo(address to) external nonReentrant returns (uint256 baseUnits) {
        return _withdraw(msg.sender, to);
    }

    /// @inheritdoc ILedger
    function setOperator(address operator_) external {
        // check
        if (msg.sender != PROVIDER) revert NotProvider(msg.sender);
        // effect
        _control.operator = operator_;
        emit OperatorChanged(operator_);
    }

    // -------------------------------------------------------------------------------------------------------------------------- views

    /// @inheritdoc ILedger
    function operator() external view returns (address) {
        return _control.operator;
    }

    /// @inheritdoc ILedger
    function halted() external view returns (bool) {
        return _control.halted;
    }

    /// @inheritdoc ILedger
    function tier(uint8 index) external view returns (Tier memory) {
        if (index >= tierCount) revert UnknownTier(index);
        StoredTier storage t = _tiers[index];
        return Tier({slots: t.slots, emptyRoot: t.emptyRoot, settleVerifier: t.settleVerifier, registerVerifier: t.registerVerifier});
    }

    /// @inheritdoc ILedger
    function bookRoot(uint32 book) external view returns (uint256) {
        return _root(book, _tierOf(book));
    }

    /// @inheritdoc ILedger
    function channel(uint248 uid) external view returns (Channel memory) {
        return _channels[uid];
    }

    /// @inheritdoc ILedger
    function queueHead() external view returns (uint64) {
        return _control.queueHead;
    }

    /// @inheritdoc ILedger
    function queueTail() external view returns (uint64) {
        return _control.queueTail;
    }

    /// @inheritdoc ILedger
    function requestedAt(uint64 index) external view returns (uint40) {
        return _requests[index].requestedAt;
    }

    /// @inheritdoc ILedger
    function requestDigest(uint64 index) external view returns (uint216) {
        return _requests[index].digest;
    }

    /// @inheritdoc ILedger
    function channelUid(address payer, uint256 keyX, bytes32 salt) public view returns (uint248) {
        return uint248(uint256(keccak256(abi.encode(UID_TYPEHASH, block.chainid, address(this), payer, keyX, salt))) >> 8);
    }

    /// @inheritdoc ILedger
    function openAuthorizationNonce(address payer, uint256 keyX, bytes32 salt) external view returns (bytes32) {
        return Authorization.openNonce(channelUid(payer, keyX, salt));
    }

    /// @inheritdoc ILedger
    function topUpAuthorizationNonce(uint248 uid, bytes32 salt) external view returns (bytes32) {
        return Authorization.topUpNonce(uid, salt);
    }

    /// @inheritdoc ILedger
    function fundedSalt(address funder, bytes32 salt) public pure returns (bytes32) {
        return keccak256(abi.encode(funder, salt));
    }

    /// @inheritdoc ILedger
    /// @dev The name is the one that EIP-2612 gives.
    // forge-lint: disable-next-line(mixed-case-function)
    function DOMAIN_SEPARATOR() external view returns (bytes32) {
        return Authorization.domainSeparator();
    }

    // ----------------------------------------------------------------------------------------------------------- deposits and queue

    /// @dev The checks and effects of opening. The order of the checks: payer, amount, key, uid, halted.
    function _open(address payer, VoucherKey calldata key, bytes32 salt, uint256 baseUnits) private returns (uint248 uid) {
        // check
        if (payer == address(0)) revert InvalidPayer();
        uint64 amountNanos = _toNanos(baseUnits);
        if (!BabyJubJub.isKey(key.x, key.qx, key.qy)) revert InvalidKey(key.x);
        uid = channelUid(payer, key.x, salt);
        if (_channels[uid].payer != address(0)) revert ChannelExists(uid);
        // effect
        _channels[uid] = Channel({payer: payer, depositNanos: amountNanos, included: false, closeRequested: false, closed: false});
        uint64 index = _enqueue(Kind.Open, uid, key.x, amountNanos);
        emit Opened(uid, payer, key.x, salt, amountNanos, index);
    }

    /// @dev The checks and effects of topping up. The order of the checks: amount, channel, closing, sum, halted.
    function _topUp(uint248 uid, uint256 baseUnits) private {
        // check
        uint64 amountNanos = _toNanos(baseUnits);
        Channel storage c = _channels[uid];
        if (c.payer == address(0)) revert ChannelUnknown(uid);
        if (c.closeRequested) revert ChannelClosing(uid);
        uint256 depositNanos = uint256(c.depositNanos) + amountNanos;
        if (depositNanos > type(uint64).max) revert DepositTooLarge(depositNanos);
        // effect
        c.depositNanos = uint64(depositNanos);
        uint64 index = _enqueue(Kind.TopUp, uid, 0, amountNanos);
        emit ToppedUp(uid, amountNanos, uint64(depositNanos), index);
    }

    /// @dev Closes a channel without the provider: it takes no more requests, and what is left is the payer's credit.
    function _close(uint248 uid, Channel memory c, uint64 refundNanos) private {
        c.closeRequested = true;
        c.closed = true;
        _channels[uid] = c;
        creditNanos[c.payer] += refundNanos;
    }

    /// @dev The one way into the queue, so the one place where a halt keeps requests out.
    function _enqueue(Kind kind, uint248 uid, uint256 keyX, uint64 amountNanos) private returns (uint64 index) {
        Control memory control = _control;
        if (control.halted) revert LedgerHalted();
        uint40 tail = control.queueTail;
        _control.queueTail = tail + 1;
        _requests[tail] = QueuedRequest({requestedAt: uint40(block.timestamp), digest: _digest(tail, kind, uid, keyX, amountNanos)});
        return tail;
    }

    function _digest(uint64 index, Kind kind, uint248 uid, uint256 keyX, uint64 amountNanos) private pure returns (uint216) {
        return uint216(uint256(keccak256(abi.encode(index, kind, uid, keyX, amountNanos))) >> 40);
    }

    /// @dev Whether a request waits for longer than a window, and since when (L-6, L-25). One that is not there does not.
    function _overdue(Control memory control, uint256 index, uint256 window) private view returns (bool overdue, uint256 deadline) {
        if (index >= control.queueTail) return (false, type(uint256).max);
        deadline = uint256(_requests[index].requestedAt) + window;
        return (block.timestamp > deadline, deadline);
    }

    /// @dev Whether someone who is not the operator may serve the `count` oldest requests, one at least: each must be overdue. Times never
    /// descend along the queue, so the last one answers for all.
    function _mayServe(Control memory control, uint256 count) private view returns (bool overdue) {
        (overdue,) = _overdue(control, control.queueHead + count - 1, RESPONSE_WINDOW);
    }

    // ------------------------------------------------------------------------------------------------------------------------ books

    /// @dev Checks the requests against the head of the queue and adds up, for each row, what they ask: `delta << 8 | flags`. The key of an
    /// `open` is compared with its row at once. A void request asks for nothing (L-24), so a row for it stays unasked and is refused.
    function _takeRequests(Registration[] calldata registrations, Request[] calldata requests, Control memory control)
        private
        returns (uint256[][] memory asked)
    {
        uint256 head = control.queueHead;
        if (requests.length > control.queueTail - head) revert QueueExhausted(control.queueTail);

        asked = new uint256[][](registrations.length);
        for (uint256 i = 0; i < registrations.length; ++i) {
            asked[i] = new uint256[](registrations[i].rows.length);
        }
        for (uint256 i = 0; i < requests.length; ++i) {
            Request calldata q = requests[i];
            uint64 index = uint64(head + i);
            if (_digest(index, q.kind, q.uid, q.keyX, q.amountNanos) != _requests[index].digest) revert RequestMismatch(index);
            Channel memory c = _channels[q.uid];
            if (c.closed && !c.included) {
                emit RequestVoided(q.uid, index);
                continue;
            }
            if (q.registration >= asked.length || q.row >= asked[q.registration].length) {
                revert RowMismatch(q.registration, q.row);
            }
            Row calldata row = registrations[q.registration].rows[q.row];
            if (row.uid != q.uid || (q.kind == Kind.Open && row.keyX != q.keyX)) revert RowMismatch(q.registration, q.row);
            uint256 flags = TOUCHED | (q.kind == Kind.Open ? OPEN : q.kind == Kind.Close ? CLOSE : 0);
            // The amounts of one uid add up to its deposit at most, so they cannot reach beyond 64 bits.
            uint256 sum = asked[q.registration][q.row];
            asked[q.registration][q.row] = ((sum >> 8) + q.amountNanos) << 8 | (sum & 0xff) | flags;
        }
    }

    /// @dev There are rows; their slots ascend and exist.
    function _checkOrder(uint256 i, Registration calldata registration) private view {
        uint256 slots = _tierOf(registration.book).slots;
        uint256 next = 0;
        if (registration.rows.length == 0) revert RowMismatch(i, 0);
        for (uint256 j = 0; j < registration.rows.length; ++j) {
            uint256 slot = registration.rows[j].slot;
            if (slot < next || slot >= slots) revert RowsOutOfOrder(i, j);
            next = slot + 1;
        }
    }

    /// @dev Each row is exactly what was asked (L-19), the slots ascend and exist. A row that no request asked for, or that moves, is never
    /// what was asked. That the slot holds the uid, or is empty for an `open`, is for the proof.
    function _checkRows(uint256 i, Registration calldata registration, uint256[] memory asked) private view {
        _checkOrder(i, registration);
        for (uint256 j = 0; j < registration.rows.length; ++j) {
            Row calldata row = registration.rows[j];
            if (
                asked[j] == 0 || asked[j] != (uint256(row.deltaNanos) << 8 | row.flags) || (row.flags & OPEN == 0 && row.keyX != 0)
                    || (row.flags & CLOSE == 0 && row.refundNanos != 0)
            ) revert RowMismatch(i, j);
        }
    }

    /// @dev A `register` that serves no request moves channels (L-31): each `in` row takes the oldest `out` row before it that none took, and
    /// says the same of the channel; none is left. That the slots held, or were empty, is for the proofs.
    function _checkMoves(Registration[] calldata registrations, Control memory control) private view {
        if (msg.sender != control.operator) revert NotOperator(msg.sender);
        if (registrations.length == 0) revert RequestMismatch(control.queueHead);
        (bool overdue, uint256 deadline) = _overdue(control, control.queueHead, RESPONSE_WINDOW);
        if (overdue) revert RequestOverdue(control.queueHead, deadline);
        // The `out` rows, `book << 64 | where in the calldata`. A row is 192 bytes there, so there are no more.
        uint256[] memory outs = new uint256[](msg.data.length / 192);
        uint256 count = 0;
        uint256 taken = 0;
        for (uint256 i = 0; i < registrations.length; ++i) {
            uint256 book = registrations[i].book;
            Row[] calldata rows = registrations[i].rows;
            _checkOrder(i, registrations[i]);
            for (uint256 j = 0; j < rows.length; ++j) {
                Row calldata row = rows[j];
                if (row.flags == TOUCHED | OUT) {
                    Channel storage c = _channels[row.uid];
                    if (!c.included || c.closed) revert ChannelNotIncluded(row.uid);
                    uint256 at;
                    assembly ("memory-safe") {
                        at := row
                    }
                    outs[count++] = book << 64 | at;
                } else {
                    if (row.flags != TOUCHED | IN) revert RowMismatch(i, j);
                    if (taken == count) revert MoveUnpaired(row.uid);
                    uint256 at = outs[taken++];
                    Row calldata out = _rowAt(at);
                    if (_content(out) != _content(row) || (at >> 64 == book && out.slot == row.slot)) revert MoveMismatch(row.uid);
                }
            }
        }
        if (taken != count) revert MoveUnpaired(_rowAt(outs[taken]).uid);
    }

    function _rowAt(uint256 at) private pure returns (Row calldata row) {
        assembly ("memory-safe") {
            row := and(at, 0xffffffffffffffff)
        }
    }

    /// @dev The hash of all of a row but slot and flags. Words that are no canonical numbers are refused when the rows are encoded for `r`.
    function _content(Row calldata row) private pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            let words := mload(64)
            calldatacopy(words, add(row, 64), 128)
            hash := keccak256(words, 128)
        }
    }

    /// @dev That an `open` is served once per uid follows from the queue: a uid enters it as `Open` once, and an index is served once.
    function _registerBook(Registration calldata registration, uint64 head) private returns (Claim memory claim) {
        uint32 book = registration.book;
        uint256 newRoot = registration.newRoot;
        Row[] calldata rows = registration.rows;
        // check
        StoredTier storage t = _tierOf(book);
        _checkField(newRoot);
        _checkField(registration.commitment);
        {
            uint256 oldRoot = _root(book, t);
            uint256 r =
                Binding.point(Binding.REGISTER_TYPEHASH, book, oldRoot, newRoot, 0, registration.commitment, keccak256(abi.encode(rows)));
            uint256 y = Binding.evaluateRows(r, oldRoot, newRoot, rows, t.slots);
            claim = Claim(t.registerVerifier, book, [registration.commitment, r, y], _offset(registration.proof));
        }
        // effect
        _bookRoots[book] = newRoot;
        for (uint256 j = 0; j < rows.length; ++j) {
            Row calldata row = rows[j];
            if (row.flags & (OPEN | CLOSE) != 0) _applyRow(book, row);
            else if (row.flags & OUT != 0) emit MovedOut(row.uid, book);
            else if (row.flags & IN != 0) emit MovedIn(row.uid, book, row.slot);
        }
        emit Registered(book, newRoot, head);
    }

    function _applyRow(uint32 book, Row calldata row) private {
        Channel memory c = _channels[row.uid];
        if (row.flags & OPEN != 0) {
            c.included = true;
            emit Included(row.uid, book, row.slot);
        }
        if (row.flags & CLOSE != 0) {
            c.closed = true;
            creditNanos[c.payer] += row.refundNanos;
            emit Closed(row.uid, book, row.refundNanos);
        }
        _channels[row.uid] = c;
    }

    /// @dev The first of `settlements`, exactly as long as its tier makes it. So they end where one of them does, or the rest is refused.
    function _nextSettlement(bytes calldata settlements) private view returns (bytes calldata settlement, StoredTier storage t) {
        if (settlements.length < Settlements.BOOK_BYTES) revert SettlementLength(Settlements.BOOK_BYTES, settlements.length);
        t = _tierOf(Settlements.book(settlements));
        uint256 length = Settlements.length(t.slots);
        if (settlements.length < length) revert SettlementLength(length, settlements.length);
        settlement = settlements[:length];
    }

    function _settleBook(bytes calldata settlement, StoredTier storage t) private returns (Claim memory claim, uint256) {
        uint32 book = Settlements.book(settlement);
        (uint256 newRoot, uint256 totalNanos, uint256 commitment, uint256 proofAt, bytes calldata deltas) = Settlements.read(settlement);
        // check: every coefficient of the polynomial is canonical, or another number with the same remainder would pass
        _checkField(newRoot);
        _checkField(commitment);
        {
            uint256 oldRoot = _root(book, t);
            uint256 r = Binding.point(Binding.SETTLE_TYPEHASH, book, oldRoot, newRoot, totalNanos, commitment, Binding.deltasHash(deltas));
            uint256 y = Binding.evaluateDeltas(r, oldRoot, newRoot, totalNanos, deltas);
            claim = Claim(t.settleVerifier, book, [commitment, r, y], proofAt);
        }
        // effect
        _bookRoots[book] = newRoot;
        emit Settled(book, newRoot, totalNanos);
        return (claim, totalNanos);
    }

    /// @dev Room for up to `count` claims, none of them there yet: a list of structs would be made with all of them.
    function _placesForClaims(uint256 count) private pure returns (Claim[] memory claims) {
        uint256[] memory places = new uint256[](count);
        assembly ("memory-safe") {
            claims := places
        }
    }

    /// @dev Every claim holds (L-27). The claims for one verifier are checked together; a claim that was checked has no verifier any more.
    function _checkProofs(Claim[] memory claims) private view {
        for (uint256 i = 0; i < claims.length; ++i) {
            IVerifier verifier = claims[i].verifier;
            if (address(verifier) == address(0)) continue;
            uint256 count = 0;
            for (uint256 j = i; j < claims.length; ++j) {
                if (address(claims[j].verifier) == address(verifier)) ++count;
            }
            if (count == 1) {
                if (!_holds(verifier, claims[i])) revert ProofRejected(claims[i].book);
                continue;
            }
            Claim[] memory batch = new Claim[](count);
            count = 0;
            for (uint256 j = i; j < claims.length; ++j) {
                if (address(claims[j].verifier) != address(verifier)) continue;
                batch[count++] = claims[j];
                claims[j].verifier = IVerifier(address(0));
            }
            if (!_hold(verifier, batch)) _revertRejected(verifier, batch);
        }
    }

    function _holds(IVerifier verifier, Claim memory claim) private view returns (bool) {
        uint256[8] calldata proof;
        uint256 proofAt = claim.proofAt;
        assembly ("memory-safe") {
            proof := proofAt
        }
        return verifier.verify(claim.inputs, proof);
    }

    /// @dev `verifyBatch`, with its arguments laid out by hand: two lists of arrays of fixed length are their lengths and words.
    function _hold(IVerifier verifier, Claim[] memory batch) private view returns (bool) {
        bytes memory inputs = new bytes(96 * batch.length);
        bytes memory proofs = new bytes(256 * batch.length);
        for (uint256 i = 0; i < batch.length; ++i) {
            uint256[3] memory words = batch[i].inputs;
            uint256 proofAt = batch[i].proofAt;
            assembly ("memory-safe") {
                mcopy(add(add(inputs, 32), mul(i, 96)), words, 96)
                calldatacopy(add(add(proofs, 32), mul(i, 256)), proofAt, 256)
            }
        }
        (bool success, bytes memory answer) = address(verifier)
            .staticcall(
                abi.encodePacked(
                    IVerifier.verifyBatch.selector, uint256(64), 96 + inputs.length, batch.length, inputs, batch.length, proofs
                )
            );
        return success && answer.length == 32 && abi.decode(answer, (uint256)) == 1;
    }

    /// @dev Names the first book whose proof does not hold by itself.
    function _revertRejected(IVerifier verifier, Claim[] memory batch) private view {
        for (uint256 i = 0; i < batch.length; ++i) {
            if (!_holds(verifier, batch[i])) revert ProofRejected(batch[i].book);
        }
        revert BatchRejected(address(verifier));
    }

    function _offset(uint256[8] calldata proof) private pure returns (uint256 offset) {
        assembly ("memory-safe") {
            offset := proof
        }
    }

    function _anchor(EpochAnchor[] calldata epochs) private {
        uint64 next = epochCount;
        for (uint256 i = 0; i < epochs.length; ++i) {
            // check
            if (epochs[i].epoch != next) revert EpochGap(next, epochs[i].epoch);
            // effect
            epochRoot[next] = epochs[i].root;
            emit EpochAnchored(next, epochs[i].root);
            ++next;
        }
        epochCount = next;
    }

    function _tierOf(uint32 book) private view returns (StoredTier storage) {
        uint8 index = uint8(book >> 24);
        if (index >= tierCount) revert UnknownTier(index);
        return _tiers[index];
    }

    /// @dev A book that was never written has the root of its tier's empty book (L-4).
    function _root(uint32 book, StoredTier storage t) private view returns (uint256 root) {
        root = _bookRoots[book];
        if (root == 0) root = t.emptyRoot;
    }

    function _checkField(uint256 value) private pure {
        if (value >= Binding.P) revert FieldOverflow(value);
    }

    // ------------------------------------------------------------------------------------------------------------------------ amounts

    /// @dev Refuses zero, what is not whole in nanos, what is below the minimum, and what does not fit 64 bits (L-1, L-7).
    function _toNanos(uint256 baseUnits) private view returns (uint64) {
        if (baseUnits == 0) revert ZeroAmount();
        uint256 nanos;
        if (NANOS_PER_BASE_UNIT != 0) {
            nanos = Math.saturatingMul(baseUnits, NANOS_PER_BASE_UNIT);
        } else {
            if (baseUnits % BASE_UNITS_PER_NANO != 0) revert NotWholeNanos(baseUnits);
            nanos = baseUnits / BASE_UNITS_PER_NANO;
        }
        if (nanos < DEPOSIT_MIN_NANOS) revert DepositTooSmall(nanos, DEPOSIT_MIN_NANOS);
        if (nanos > type(uint64).max) revert DepositTooLarge(nanos);
        return uint64(nanos);
    }

    function _withdraw(address account, address to) private returns (uint256 baseUnits) {
        // check
        uint256 credit = creditNanos[account];
        uint256 restNanos = 0;
        if (NANOS_PER_BASE_UNIT != 0) {
            baseUnits = credit / NANOS_PER_BASE_UNIT;
            restNanos = credit % NANOS_PER_BASE_UNIT;
        } else {
            baseUnits = credit * BASE_UNITS_PER_NANO;
        }
        if (baseUnits == 0) revert NothingToWithdraw(account);
        // effect
        creditNanos[account] = restNanos;
        emit Withdrawn(account, to, baseUnits);
        // interaction
        IERC20(TOKEN).safeTransfer(to, baseUnits);
    }

    /// @dev Moves base units through an allowance. `from` is the caller, or has consented to this very deposit.
    function _pull(address from, uint256 baseUnits) private {
        uint256 balance = _balance();
        IERC20(TOKEN).safeTransferFrom(from, address(this), baseUnits);
        _checkReceived(balance, baseUnits);
    }

    function _pullWithAuthorization(
        address from,
        uint256 baseUnits,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) private {
        uint256 balance = _balance();
        IReceiveWithAuthorization(TOKEN).receiveWithAuthorization(from, address(this), baseUnits, validAfter, validBefore, nonce, signature);
        _checkReceived(balance, baseUnits);
    }

    /// @dev A permit that fails may have been presented by another already: the allowance decides. `from` is the caller, or has consented.
    function _pullWithPermit(address from, uint256 baseUnits, uint256 deadline, PermitSignature calldata permit) private {
        try IERC20Permit(TOKEN).permit(from, address(this), baseUnits, deadline, permit.v, permit.r, permit.s) {} catch {}
        _pull(from, baseUnits);
    }

    function _pullWithPermit2(
        address from,
        uint256 baseUnits,
        uint256 nonce,
        uint256 deadline,
        bytes32 witness,
        string memory witnessType,
        bytes calldata signature
    ) private {
        uint256 balance = _balance();
        PERMIT2.permitWitnessTransferFrom(
            IPermit2.PermitTransferFrom(IPermit2.TokenPermissions(TOKEN, baseUnits), nonce, deadline),
            IPermit2.SignatureTransferDetails(address(this), baseUnits),
            from,
            witness,
            witnessType,
            signature
        );
        _checkReceived(balance, baseUnits);
    }

    /// @dev A consent is a signature over a digest that names the signer, this ledger and this chain (L-28).
    function _checkConsent(address signer, bytes32 digest, uint256 deadline, bytes calldata consent) private view {
        if (block.timestamp > deadline) revert ConsentExpired(deadline);
        if (!SignatureChecker.isValidSignatureNowCalldata(signer, digest, consent)) revert ConsentInvalid(signer);
    }

    /// @dev A token that takes a fee, or moves nothing and says nothing, would leave other deposits to pay for this one.
    function _checkReceived(uint256 balanceBefore, uint256 expected) private view {
        uint256 received = Math.saturatingSub(_balance(), balanceBefore);
        if (received != expected) revert ShortTransfer(expected, received);
    }

    function _balance() private view returns (uint256) {
        return IERC20(TOKEN).balanceOf(address(this));
    }
}
