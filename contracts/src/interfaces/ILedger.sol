// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IVerifier} from "./IVerifier.sol";

/// @title The Millstream ledger: payment channels of many payers to one provider in one ERC-20 token.
/// @notice The provider can take only what vouchers prove; a payer can always ask to leave. The normative text is `docs/spec/ledger.md`.
/// @dev Amounts named `nanos` are 10^-9 of a token; amounts named `baseUnits` are the token's own. The token must move exactly the amount
/// it is told to (no fee on transfer, no rebasing); a deposit that arrives short is refused.
interface ILedger {
    /// @notice What a payer asked for.
    enum Kind {
        None,
        Open,
        TopUp,
        Close
    }

    /// @notice One size of book. `slots` is N; `emptyRoot` is the root of a book of N empty slots.
    struct Tier {
        uint16 slots;
        uint256 emptyRoot;
        IVerifier settleVerifier;
        IVerifier registerVerifier;
    }

    /// @notice A channel as the ledger keeps it. `depositNanos` is the sum of everything deposited, included in a book or not.
    struct Channel {
        address payer;
        uint64 depositNanos;
        bool included;
        bool closeRequested;
        bool closed;
    }

    /// @notice A payer's key with the witness of its validity: `8·(qx, qy)` has the x-coordinate `x` (V-5).
    struct VoucherKey {
        uint256 x;
        uint256 qx;
        uint256 qy;
    }

    /// @notice One served request, as it was queued; checked against its digest (L-5).
    struct Request {
        Kind kind;
        uint248 uid;
        uint256 keyX;
        uint64 amountNanos;
        /// @dev Index into `Registration[]`, and into that registration's rows.
        uint16 registration;
        uint16 row;
    }

    /// @notice What happens to one slot (L-16 … L-18). `flags`: 1 touched, 2 open, 4 close.
    struct Row {
        uint16 slot;
        uint8 flags;
        uint64 deltaNanos;
        uint64 refundNanos;
        uint248 uid;
        uint256 keyX;
    }

    /// @notice The change of one book by `register`.
    struct Registration {
        uint32 book;
        uint256 newRoot;
        uint256 commitment;
        uint256[8] proof;
        Row[] rows;
    }

    /// @notice The settlement of one book. `deltas`: 8 bytes a slot, zero-filled to a multiple of 31.
    struct Settlement {
        uint32 book;
        uint256 newRoot;
        uint256 totalNanos;
        uint256 commitment;
        uint256[8] proof;
        bytes deltas;
    }

    /// @notice The root of a sealed epoch billing tree.
    struct EpochAnchor {
        uint64 epoch;
        bytes32 root;
    }

    event Opened(uint248 indexed uid, address indexed payer, uint256 keyX, bytes32 salt, uint64 depositNanos, uint64 requestIndex);
    event ToppedUp(uint248 indexed uid, uint64 amountNanos, uint64 depositNanos, uint64 requestIndex);
    event CloseRequested(uint248 indexed uid, uint64 requestIndex);
    event Included(uint248 indexed uid, uint32 indexed book, uint16 slot);
    event Closed(uint248 indexed uid, uint32 indexed book, uint64 refundNanos);
    event Registered(uint32 indexed book, uint256 newRoot, uint64 queueHead);
    event Settled(uint32 indexed book, uint256 newRoot, uint256 totalNanos);
    event EpochAnchored(uint64 indexed epoch, bytes32 root);
    event Withdrawn(address indexed account, address indexed to, uint256 baseUnits);
    event OperatorChanged(address operator);

    error NotOperator(address caller);
    error NotProvider(address caller);
    error NotPayer(address caller);
    error ZeroAmount();
    error NotWholeNanos(uint256 baseUnits);
    error DepositTooLarge(uint256 nanos);
    error ShortTransfer(uint256 expected, uint256 received);
    error InvalidKey(uint256 keyX);
    error ChannelExists(uint248 uid);
    error ChannelUnknown(uint248 uid);
    error ChannelClosing(uint248 uid);
    error RequestOverdue(uint64 index, uint256 deadline);
    error RequestMismatch(uint64 index);
    error QueueExhausted(uint64 tail);
    error RowMismatch(uint256 registration, uint256 row);
    error RowsOutOfOrder(uint256 registration, uint256 row);
    error UnknownTier(uint8 tier);
    error FieldOverflow(uint256 value);
    error TotalTooLarge(uint256 totalNanos);
    error DeltasLength(uint256 expected, uint256 actual);
    error ProofRejected(uint32 book);
    error EpochGap(uint64 expected, uint64 actual);
    error NothingToWithdraw(address account);
    error AuthorizationMismatch();

    /// @notice Opens a channel with the caller as payer; pulls `baseUnits` through an allowance. Returns the uid (V-1).
    function open(VoucherKey calldata key, bytes32 salt, uint256 baseUnits) external returns (uint248 uid);

    /// @notice Opens a channel for `payer`, relayed by anyone, paid by an EIP-3009 `receiveWithAuthorization`.
    /// @dev The authorization's nonce must be `openAuthorizationNonce(payer, key.x, salt)`, so a relayer can neither redirect nor alter it.
    function openWithAuthorization(
        address payer,
        VoucherKey calldata key,
        bytes32 salt,
        uint256 baseUnits,
        uint256 validAfter,
        uint256 validBefore,
        bytes calldata signature
    ) external returns (uint248 uid);

    /// @notice Raises the deposit of a channel. Anyone may fund a channel; the money can only ever go to the provider or the channel's payer.
    function topUp(uint248 uid, uint256 baseUnits) external;

    /// @notice Payer only: asks for the channel to be closed. The provider has `RESPONSE_WINDOW` seconds.
    function requestClose(uint248 uid) external;

    /// @notice Serves the first `requests.length` requests of the queue (L-16 … L-20).
    function register(Registration[] calldata registrations, Request[] calldata requests) external;

    /// @notice Settles books by proof and anchors sealed epochs (L-13 … L-15, L-21). Either list may be empty.
    function settle(Settlement[] calldata settlements, EpochAnchor[] calldata epochs) external;

    /// @notice Pays the whole base units of `account`'s credit to `account`. Anyone may call.
    function withdraw(address account) external returns (uint256 baseUnits);

    /// @notice Pays the whole base units of the caller's credit to `to`.
    function withdrawTo(address to) external returns (uint256 baseUnits);

    /// @notice Provider only: names the account that may settle and register. It has no power over money beyond what proofs give.
    function setOperator(address operator) external;

    function PROVIDER() external view returns (address);
    function TOKEN() external view returns (address);
    function RESPONSE_WINDOW() external view returns (uint40);
    function operator() external view returns (address);
    function tierCount() external view returns (uint256);
    function tier(uint8 index) external view returns (Tier memory);
    function bookRoot(uint32 book) external view returns (uint256);
    function channel(uint248 uid) external view returns (Channel memory);
    function creditNanos(address account) external view returns (uint256);
    function queueHead() external view returns (uint64);
    function queueTail() external view returns (uint64);
    function requestedAt(uint64 index) external view returns (uint40);
    function requestDigest(uint64 index) external view returns (uint216);
    function epochCount() external view returns (uint64);
    function epochRoot(uint64 epoch) external view returns (bytes32);
    function channelUid(address payer, uint256 keyX, bytes32 salt) external view returns (uint248);
    function openAuthorizationNonce(address payer, uint256 keyX, bytes32 salt) external view returns (bytes32);
    /// @notice Nanos in one base unit, or 0 when the token has more than 9 decimals.
    function NANOS_PER_BASE_UNIT() external view returns (uint256);
    /// @notice Base units in one nano, or 0 when the token has fewer than 9 decimals.
    function BASE_UNITS_PER_NANO() external view returns (uint256);
}
