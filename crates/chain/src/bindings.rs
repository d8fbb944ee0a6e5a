//! Typed calls, events and errors of the contracts. Source: `contracts/src/interfaces/`; a test compares them with the built artefacts.
//!
//! Addresses stand where the Solidity text names a contract type; the ABI is the same.

// The items are the ABI's own; `ILedger.sol` documents each.
#![allow(missing_docs)]

use alloy::sol;

sol! {
    #![sol(all_derives = true)]

    interface ILedger {
        enum Kind {
            None,
            Open,
            TopUp,
            Close
        }
        struct Terms {
            address provider;
            address operator;
            address token;
            uint40 responseWindowSecs;
            uint40 haltWindowSecs;
            uint64 depositMinNanos;
        }
        struct Tier {
            uint16 slots;
            uint256 emptyRoot;
            address settleVerifier;
            address registerVerifier;
        }
        struct Channel {
            address payer;
            uint64 depositNanos;
            bool included;
            bool closeRequested;
            bool closed;
        }
        struct VoucherKey {
            uint256 x;
            uint256 qx;
            uint256 qy;
        }
        struct PermitSignature {
            uint8 v;
            bytes32 r;
            bytes32 s;
        }
        struct Request {
            Kind kind;
            uint248 uid;
            uint256 keyX;
            uint64 amountNanos;
            uint16 registration;
            uint16 row;
        }
        struct Row {
            uint16 slot;
            uint8 flags;
            uint64 deltaNanos;
            uint64 refundNanos;
            uint248 uid;
            uint256 keyX;
        }
        struct Registration {
            uint32 book;
            uint256 newRoot;
            uint256 commitment;
            uint256[8] proof;
            Row[] rows;
        }
        struct SlotPath {
            uint16 slot;
            uint256 keyX;
            uint248 uid;
            uint64 depositNanos;
            uint64 settledNanos;
            uint256[16][] staticPath;
            uint256[16][] dynamicPath;
        }
        struct EpochAnchor {
            uint64 epoch;
            bytes32 root;
        }
        event Opened(uint248 indexed uid, address indexed payer, uint256 keyX, bytes32 salt, uint64 depositNanos, uint64 requestIndex);
        event ToppedUp(uint248 indexed uid, uint64 amountNanos, uint64 depositNanos, uint64 requestIndex);
        event CloseRequested(uint248 indexed uid, uint64 requestIndex);
        event Included(uint248 indexed uid, uint32 indexed book, uint16 slot);
        event Closed(uint248 indexed uid, uint32 indexed book, uint64 refundNanos);
        event MovedOut(uint248 indexed uid, uint32 indexed book);
        event MovedIn(uint248 indexed uid, uint32 indexed book, uint16 slot);
        event Registered(uint32 indexed book, uint256 newRoot, uint64 queueHead);
        event Settled(uint32 indexed book, uint256 newRoot, uint256 totalNanos);
        event EpochAnchored(uint64 indexed epoch, bytes32 root);
        event OpenCancelled(uint248 indexed uid, uint64 refundNanos);
        event RequestVoided(uint248 indexed uid, uint64 requestIndex);
        event Halted(uint64 requestIndex);
        event Left(uint248 indexed uid, uint32 indexed book, uint64 refundNanos);
        event Withdrawn(address indexed account, address indexed to, uint256 baseUnits);
        event OperatorChanged(address operator);
        error NotOperator(address caller);
        error NotProvider(address caller);
        error NotPayer(address caller);
        error InvalidPayer();
        error ZeroAmount();
        error NotWholeNanos(uint256 baseUnits);
        error DepositTooSmall(uint256 nanos, uint256 minNanos);
        error DepositTooLarge(uint256 nanos);
        error ShortTransfer(uint256 expected, uint256 received);
        error InvalidKey(uint256 keyX);
        error ChannelExists(uint248 uid);
        error ChannelUnknown(uint248 uid);
        error ChannelClosing(uint248 uid);
        error ChannelIncluded(uint248 uid);
        error ChannelNotIncluded(uint248 uid);
        error RequestOverdue(uint64 index, uint256 deadline);
        error NotOverdue(uint64 index, uint256 deadline);
        error LedgerHalted();
        error NotHalted();
        error RootMismatch(uint32 book, uint256 expected, uint256 actual);
        error RequestMismatch(uint64 index);
        error QueueExhausted(uint64 tail);
        error RowMismatch(uint256 registration, uint256 row);
        error MoveUnpaired(uint248 uid);
        error MoveMismatch(uint248 uid);
        error RowsOutOfOrder(uint256 registration, uint256 row);
        error UnknownTier(uint8 tier);
        error FieldOverflow(uint256 value);
        error SettlementLength(uint256 expected, uint256 actual);
        error ProofRejected(uint32 book);
        error BatchRejected(address verifier);
        error EpochGap(uint64 expected, uint64 actual);
        error NothingToWithdraw(address account);
        error ConsentInvalid(address signer);
        error ConsentExpired(uint256 deadline);
        error ConsentUsed(bytes32 digest);
        function open(VoucherKey calldata key, bytes32 salt, uint256 baseUnits) external returns (uint248 uid);
        function openFor(address payer, VoucherKey calldata key, bytes32 salt, uint256 baseUnits) external returns (uint248 uid);
        function openWithAuthorization(
            address payer,
            VoucherKey calldata key,
            bytes32 salt,
            uint256 baseUnits,
            uint256 validAfter,
            uint256 validBefore,
            bytes calldata signature
        ) external returns (uint248 uid);
        function openWithPermit(
            address payer,
            VoucherKey calldata key,
            bytes32 salt,
            uint256 baseUnits,
            uint256 deadline,
            PermitSignature calldata permit,
            bytes calldata consent
        ) external returns (uint248 uid);
        function openWithPermit2(
            address payer,
            VoucherKey calldata key,
            bytes32 salt,
            uint256 baseUnits,
            uint256 nonce,
            uint256 deadline,
            bytes calldata signature
        ) external returns (uint248 uid);
        function topUp(uint248 uid, uint256 baseUnits) external;
        function topUpWithAuthorization(
            address from,
            uint248 uid,
            uint256 baseUnits,
            bytes32 salt,
            uint256 validAfter,
            uint256 validBefore,
            bytes calldata signature
        ) external;
        function topUpWithPermit(
            address from,
            uint248 uid,
            uint256 baseUnits,
            bytes32 salt,
            uint256 deadline,
            PermitSignature calldata permit,
            bytes calldata consent
        ) external;
        function topUpWithPermit2(address from, uint248 uid, uint256 baseUnits, uint256 nonce, uint256 deadline, bytes calldata signature)
            external;
        function requestClose(uint248 uid) external;
        function cancelOpen(uint248 uid, uint64 requestIndex, uint256 keyX, uint64 amountNanos) external;
        function halt() external;
        function leave(uint32 book, SlotPath calldata path) external;
        function register(Registration[] calldata registrations, Request[] calldata requests) external;
        function settle(bytes calldata settlements, EpochAnchor[] calldata epochs) external;
        function withdraw(address account) external returns (uint256 baseUnits);
        function withdrawTo(address to) external returns (uint256 baseUnits);
        function setOperator(address operator) external;
        function PROVIDER() external view returns (address);
        function TOKEN() external view returns (address);
        function RESPONSE_WINDOW() external view returns (uint40);
        function HALT_WINDOW() external view returns (uint40);
        function BOOK_PATHS() external view returns (address);
        function DEPOSIT_MIN_NANOS() external view returns (uint64);
        function operator() external view returns (address);
        function halted() external view returns (bool);
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
        function topUpAuthorizationNonce(uint248 uid, bytes32 salt) external view returns (bytes32);
        function fundedSalt(address funder, bytes32 salt) external view returns (bytes32);
        function DOMAIN_SEPARATOR() external view returns (bytes32);
        function consentUsed(bytes32 digest) external view returns (bool);
        function NANOS_PER_BASE_UNIT() external view returns (uint256);
        function BASE_UNITS_PER_NANO() external view returns (uint256);
    }

    interface ILedgerFactory {
        event LedgerCreated(address indexed ledger, address indexed provider, address indexed token, ILedger.Terms terms, bytes32 salt);
        error LedgerExists(address ledger);
        function create(ILedger.Terms calldata terms, bytes32 salt) external returns (address ledger);
        function predict(ILedger.Terms calldata terms, bytes32 salt) external view returns (address ledger);
        function isLedger(address ledger) external view returns (bool);
        function LEDGER_CODE_HASH() external view returns (bytes32);
        function BOOK_PATHS() external view returns (address);
        function tierCount() external view returns (uint256);
        function tier(uint256 index) external view returns (ILedger.Tier memory);
    }

    interface IBookPaths {
        function root(uint16 slots, ILedger.SlotPath calldata path) external view returns (uint256);
    }

    interface IVerifier {
        error DegenerateKey();
        function verify(uint256[3] calldata inputs, uint256[8] calldata proof) external view returns (bool);
        function keyHash() external view returns (bytes32);
    }

    /// The parts of ERC-20 that are used, the open mint of the test tokens, and the separator of EIP-712.
    interface IToken {
        function name() external view returns (string);
        function symbol() external view returns (string);
        function version() external view returns (string);
        function decimals() external view returns (uint8);
        function balanceOf(address account) external view returns (uint256);
        function allowance(address owner, address spender) external view returns (uint256);
        function approve(address spender, uint256 value) external;
        function mint(address to, uint256 amount) external;
        function nonces(address owner) external view returns (uint256);
        function DOMAIN_SEPARATOR() external view returns (bytes32);
        function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
    }

    /// What a payer signs for `openWithAuthorization` (EIP-3009).
    struct ReceiveWithAuthorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }

    /// What a funder signs for the token (EIP-2612).
    struct Permit {
        address owner;
        address spender;
        uint256 value;
        uint256 nonce;
        uint256 deadline;
    }

    /// What a payer signs for the ledger beside a permit (spec L-28).
    struct OpenConsent {
        address payer;
        uint248 uid;
        uint256 baseUnits;
        uint256 deadline;
    }

    /// What a funder signs for the ledger beside a permit (spec L-28).
    struct TopUpConsent {
        address from;
        uint248 uid;
        uint256 baseUnits;
        bytes32 salt;
        uint256 deadline;
    }
}

/// What is signed for Permit2 to open a channel (spec L-28).
pub mod permit2_open {
    alloy::sol! {
        #![sol(all_derives = true)]

        struct TokenPermissions {
            address token;
            uint256 amount;
        }
        struct MillstreamOpen {
            uint248 uid;
        }
        struct PermitWitnessTransferFrom {
            TokenPermissions permitted;
            address spender;
            uint256 nonce;
            uint256 deadline;
            MillstreamOpen witness;
        }
    }
}

/// What is signed for Permit2 to top up a channel (spec L-28).
pub mod permit2_top_up {
    alloy::sol! {
        #![sol(all_derives = true)]

        struct TokenPermissions {
            address token;
            uint256 amount;
        }
        struct MillstreamTopUp {
            uint248 uid;
        }
        struct PermitWitnessTransferFrom {
            TokenPermissions permitted;
            address spender;
            uint256 nonce;
            uint256 deadline;
            MillstreamTopUp witness;
        }
    }
}
