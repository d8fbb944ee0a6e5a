// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBookPaths} from "./IBookPaths.sol";
import {IVerifier} from "./IVerifier.sol";

/// @title The Millstream ledger: payment channels of many payers to one provider in one ERC-20 token.
/// @notice The provider can take only what vouchers prove; a payer can always leave alone. The normative text is `docs/spec/ledger.md`.
/// @dev Amounts named `nanos` are 10^-9 of a token; amounts named `baseUnits` are the token's own; times are Unix seconds.
///
/// Assumptions. The token moves exactly the amount it is told to (no fee on transfer, no rebasing); a deposit that arrives short is refused.
/// It has no hook through which its other users could take what the ledger holds. A token that can be paused or can freeze accounts delays
/// the withdrawals it concerns and nothing else: no other call pays anyone. The verifiers and the book paths are those of the constructor;
/// they are only ever called statically. A block producer may shift `block.timestamp` by seconds; windows are hours.
///
/// A relayed deposit (`...WithAuthorization`, `...WithPermit`, `...WithPermit2`) is bound by its signature to ledger, chain, uid and
/// amount: whoever relays it can neither redirect nor alter it, only submit it or not.
interface ILedger {
    /// @notice What a payer asked for.
    enum Kind {
        None,
        Open,
        TopUp,
        Close
    }

    /// @notice What a provider chooses when its ledger is deployed; fixed for ever but for the operator.
    struct Terms {
        /// @dev Whom settlements pay.
        address provider;
        /// @dev Who may settle and register; the provider may name another later.
        address operator;
        /// @dev The only token of the ledger.
        address token;
        /// @dev Seconds from a request until it is overdue; at most 30 days.
        uint40 responseWindowSecs;
        /// @dev Seconds from a request until its being unserved lets anyone halt the ledger; above `responseWindowSecs`, at most 365 days.
        uint40 haltWindowSecs;
        /// @dev What an opening or a top-up must deposit at least; zero for no minimum.
        uint64 depositMinNanos;
    }

    /// @notice One size of book. `slots` is N; `emptyRoot` is the root of a book of N empty slots.
    struct Tier {
        uint16 slots;
        uint256 emptyRoot;
        IVerifier settleVerifier;
        IVerifier registerVerifier;
    }

    /// @notice A channel as the ledger keeps it. `depositNanos` is the sum of everything deposited, included in a book or not, and stays
    /// when the channel is closed. A channel that is closed and was never included was cancelled (L-24).
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

    /// @notice The signature of an EIP-2612 permit. All zeros, or any other that the token refuses, where an allowance stands.
    struct PermitSignature {
        uint8 v;
        bytes32 r;
        bytes32 s;
    }

    /// @notice One served request, as it was queued; checked against its digest (L-5).
    struct Request {
        Kind kind;
        uint248 uid;
        uint256 keyX;
        uint64 amountNanos;
        /// @dev Index into `Registration[]`, and into that registration's rows. Not looked at when the request is void (L-24).
        uint16 registration;
        uint16 row;
    }

    /// @notice What happens to one slot (L-16 … L-18, L-30). `flags`: 1 touched, 2 open, 4 close, 8 out, 16 in.
    struct Row {
        uint16 slot;
        uint8 flags;
        /// @dev What the deposit grows by; of a move, the deposit.
        uint64 deltaNanos;
        /// @dev What the payer gets back; of a move, what is settled.
        uint64 refundNanos;
        uint248 uid;
        /// @dev Zero but for `open` and moves.
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

    /// @notice Not the operator, and for `register` no request was presented, or not every presented one is overdue.
    error NotOperator(address caller);
    error NotProvider(address caller);
    error NotPayer(address caller);
    /// @notice The payer of a channel to open is the zero address, which could never be refunded.
    error InvalidPayer();
    error ZeroAmount();
    /// @notice A deposit with a remainder below one nano (L-1).
    error NotWholeNanos(uint256 baseUnits);
    /// @notice An opening or a top-up of less than `DEPOSIT_MIN_NANOS` (L-7).
    error DepositTooSmall(uint256 nanos, uint256 minNanos);
    /// @notice The deposit of a channel would not fit 64 bits. `nanos` stops at the largest `uint256`.
    error DepositTooLarge(uint256 nanos);
    /// @notice The ledger's balance did not grow by exactly the deposit, in base units.
    error ShortTransfer(uint256 expected, uint256 received);
    error InvalidKey(uint256 keyX);
    error ChannelExists(uint248 uid);
    error ChannelUnknown(uint248 uid);
    /// @notice The channel's close was requested, or it is closed.
    error ChannelClosing(uint248 uid);
    /// @notice The channel is in a book: it is closed by `requestClose`, or `leave` when the ledger is halted.
    error ChannelIncluded(uint248 uid);
    /// @notice The channel is in no book: it was never put in one, and `cancelOpen` takes its deposit back; or, of a move, it is closed.
    error ChannelNotIncluded(uint248 uid);
    /// @notice The oldest request waits since before `deadline`; `register` it first (L-6).
    error RequestOverdue(uint64 index, uint256 deadline);
    /// @notice Too early: the provider may serve request `index` until `deadline`. `deadline` is the largest `uint256` when none waits.
    error NotOverdue(uint64 index, uint256 deadline);
    error LedgerHalted();
    error NotHalted();
    /// @notice The path leads to another root than the one that the ledger keeps for the book.
    error RootMismatch(uint32 book, uint256 expected, uint256 actual);
    /// @notice What was presented as request `index` is not what was queued there; or nothing was presented, no registration either, `index`
    /// being the oldest.
    error RequestMismatch(uint64 index);
    /// @notice More requests were presented than wait.
    error QueueExhausted(uint64 tail);
    /// @notice A row is not what its requests say, no request asked for it, a request names a row that is not there, or there are no rows (L-19).
    /// Where no request is presented: a row that does not move a channel.
    error RowMismatch(uint256 registration, uint256 row);
    /// @notice An `out` row that no `in` row takes, or an `in` row with no `out` row before it that is left to take (L-31).
    error MoveUnpaired(uint248 uid);
    /// @notice An `in` row says something else than the `out` row that it takes, or goes back to the same slot (L-31).
    error MoveMismatch(uint248 uid);
    /// @notice The slot of a row is not above the one before, or not below the book's number of slots.
    error RowsOutOfOrder(uint256 registration, uint256 row);
    error UnknownTier(uint8 tier);
    /// @notice A root or commitment is not below `p` (L-12).
    error FieldOverflow(uint256 value);
    /// @notice The next settlement has `expected` bytes and `actual` are left; `expected` is 4 when these do not even name its book.
    error SettlementLength(uint256 expected, uint256 actual);
    /// @notice The proof for this book does not hold; of several, the first one.
    error ProofRejected(uint32 book);
    /// @notice A verifier refuses proofs together of which it takes each alone: more of them than it checks at once.
    error BatchRejected(address verifier);
    error EpochGap(uint64 expected, uint64 actual);
    /// @notice The credit is below one base unit.
    error NothingToWithdraw(address account);
    /// @notice The consent is not signed by `signer`, or is for another channel, amount, salt, deadline, ledger or chain.
    error ConsentInvalid(address signer);
    error ConsentExpired(uint256 deadline);
    /// @notice The consent to a top-up was used before.
    error ConsentUsed(bytes32 digest);

    // ------------------------------------------------------------------------------------------------------------------------ opening

    /// @notice Opens a channel with the caller as payer; pulls `baseUnits` through an allowance. Returns the uid (V-1).
    /// @dev Checks, in this order: payer not zero, amount, key, uid, halted, transfer; every way to open does. Enters the queue as an `Open`
    /// request.
    function open(VoucherKey calldata key, bytes32 salt, uint256 baseUnits) external returns (uint248 uid);

    /// @notice Opens a channel for `payer` with the caller's money. Refunds go to `payer`, and so does the right to close.
    /// @dev The salt of the channel is `fundedSalt(caller, salt)`, so nobody can take a uid that a payer is about to open itself. The funder
    /// names the key: a payer who did not give it has no use for the channel, and the funder bears that.
    function openFor(address payer, VoucherKey calldata key, bytes32 salt, uint256 baseUnits) external returns (uint248 uid);

    /// @notice Opens a channel for `payer`, relayed by anyone, paid by an EIP-3009 `receiveWithAuthorization`.
    /// @dev The authorization's nonce must be `openAuthorizationNonce(payer, key.x, salt)`. The token must take a `bytes signature`; a
    /// contract account may sign as the token allows (ERC-1271).
    function openWithAuthorization(
        address payer,
        VoucherKey calldata key,
        bytes32 salt,
        uint256 baseUnits,
        uint256 validAfter,
        uint256 validBefore,
        bytes calldata signature
    ) external returns (uint248 uid);

    /// @notice Opens a channel for `payer` with an EIP-2612 permit over exactly `baseUnits` for this ledger until `deadline`.
    /// @dev A permit says nothing of key and salt. So unless the caller is the payer, `consent` must be the payer's EIP-712 signature over
    /// `OpenConsent(address payer,uint248 uid,uint256 baseUnits,uint256 deadline)` in the ledger's domain (ERC-1271 for contract accounts).
    /// A permit that the token refuses is passed over: someone may have presented it before, and the allowance it left, or any other,
    /// serves as well. Just before the transfer it checks that the consent is
    /// not expired and signed.
    function openWithPermit(
        address payer,
        VoucherKey calldata key,
        bytes32 salt,
        uint256 baseUnits,
        uint256 deadline,
        PermitSignature calldata permit,
        bytes calldata consent
    ) external returns (uint248 uid);

    /// @notice Opens a channel for `payer`, relayed by anyone, paid by Permit2's `permitWitnessTransferFrom`.
    /// @dev The permitted token is `TOKEN`, the amount exactly `baseUnits`, the spender this ledger, the witness
    /// `MillstreamOpen(uint248 uid)`. `nonce` and `deadline` are Permit2's own.
    function openWithPermit2(
        address payer,
        VoucherKey calldata key,
        bytes32 salt,
        uint256 baseUnits,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external returns (uint248 uid);

    // ------------------------------------------------------------------------------------------------------------------------ topping up

    /// @notice Raises the deposit of a channel. Anyone may fund a channel; the money can only ever go to the provider or the channel's payer.
    /// @dev Checks, in this order: amount, channel known, not closing, sum, halted, transfer; every way to top up does. Refused once the
    /// close was requested (L-8).
    function topUp(uint248 uid, uint256 baseUnits) external;

    /// @notice Raises the deposit of a channel by an EIP-3009 `receiveWithAuthorization` of `from`, relayed by anyone.
    /// @dev The authorization's nonce must be `topUpAuthorizationNonce(uid, salt)`; another salt is another authorization.
    function topUpWithAuthorization(
        address from,
        uint248 uid,
        uint256 baseUnits,
        bytes32 salt,
        uint256 validAfter,
        uint256 validBefore,
        bytes calldata signature
    ) external;

    /// @notice Raises the deposit of a channel with an EIP-2612 permit of `from` over exactly `baseUnits` for this ledger until `deadline`.
    /// @dev As `openWithPermit`; unless the caller is `from`, `consent` is the signature of `from` over
    /// `TopUpConsent(address from,uint248 uid,uint256 baseUnits,bytes32 salt,uint256 deadline)` and serves once: another salt is another
    /// consent.
    function topUpWithPermit(
        address from,
        uint248 uid,
        uint256 baseUnits,
        bytes32 salt,
        uint256 deadline,
        PermitSignature calldata permit,
        bytes calldata consent
    ) external;

    /// @notice Raises the deposit of a channel by Permit2's `permitWitnessTransferFrom` of `from`, relayed by anyone.
    /// @dev As `openWithPermit2`, with the witness `MillstreamTopUp(uint248 uid)`.
    function topUpWithPermit2(address from, uint248 uid, uint256 baseUnits, uint256 nonce, uint256 deadline, bytes calldata signature)
        external;

    // ------------------------------------------------------------------------------------------------------------------------ leaving

    /// @notice Payer only: asks for the channel to be closed. The provider has `RESPONSE_WINDOW` seconds.
    function requestClose(uint248 uid) external;

    /// @notice Payer only: takes back, as credit, everything deposited in a channel whose opening is overdue and not in a book (L-24). When
    /// the ledger is halted: for any channel that is not in a book, at any time, by anyone; the credit is the payer's all the same.
    /// @dev The channel is closed for ever; its requests stay in the queue and are void. `requestIndex`, `keyX` and `amountNanos` are those
    /// of its `Open` request, as in `Opened`. Checks, in this order: channel known, not included, not closed, request, caller, overdue.
    function cancelOpen(uint248 uid, uint64 requestIndex, uint256 keyX, uint64 amountNanos) external;

    /// @notice Halts the ledger for good, when the oldest request waits for more than `HALT_WINDOW` seconds (L-25). Anyone may call.
    /// @dev After it there is no opening, top-up, request, registration or settlement; `cancelOpen`, `leave` and withdrawals remain.
    function halt() external;

    /// @notice Takes a channel out of a halted ledger with Merkle paths, without a proof system (L-26). Anyone may call for any channel.
    /// Everything deposited, top-ups that are in no book included, less what was settled becomes the payer's credit; once.
    /// @dev Checks, in this order: halted, channel known, included, not closed, tier, path.
    function leave(uint32 book, IBookPaths.SlotPath calldata path) external;

    // ------------------------------------------------------------------------------------------------------------------------ by proof

    /// @notice Serves the first `requests.length` requests of the queue (L-16 … L-20). Operator only, unless the last of them, and so each,
    /// is overdue: then anyone may serve them (L-6). Without requests it moves channels from slot to slot (L-30, L-31): operator only, and
    /// never while a request is overdue. A move changes nothing of a channel but where it is.
    /// @dev Registrations apply in order, so a book may appear more than once; each proof starts from the root the one before left. Void
    /// requests (L-24) are presented like others and have no row. Proofs for one verifier are checked together.
    /// A move is an `out` row and an `in` row. In the order of the calldata, each `in` row takes the oldest `out` row that none took.
    /// Checks, in this order: halted, caller, requests, rows, ranges of each registration, proofs; of moves: halted, caller, any registration,
    /// overdue request, rows, ranges of each registration, proofs.
    function register(Registration[] calldata registrations, Request[] calldata requests) external;

    /// @notice Settles books by proof and anchors sealed epochs (L-13 … L-15, L-21). Either may be empty. Operator only, and never while a
    /// request is overdue.
    /// @dev Settlements apply in order. Proofs for one verifier are checked together (L-27).
    /// Checks, in this order: halted, caller, overdue request, tier, length and ranges of each settlement, proofs, epochs.
    /// @param settlements One after the other without padding (L-32), each of a book of N slots in `336 + 8·N` bytes, numbers big-endian:
    /// `book 4 ‖ newRoot 32 ‖ totalNanos 12 ‖ commitment 32 ‖ proof 8 × 32 ‖ deltas 8 × N`. N is that of the book's tier.
    function settle(bytes calldata settlements, EpochAnchor[] calldata epochs) external;

    // ------------------------------------------------------------------------------------------------------------------------ credits

    /// @notice Pays the whole base units of `account`'s credit to `account`. Anyone may call.
    function withdraw(address account) external returns (uint256 baseUnits);

    /// @notice Pays the whole base units of the caller's credit to `to`.
    function withdrawTo(address to) external returns (uint256 baseUnits);

    /// @notice Provider only: names the account that may settle and register. It has no power over money beyond what proofs give.
    function setOperator(address operator) external;

    // ------------------------------------------------------------------------------------------------------------------------ views

    /// @notice Whom settlements pay.
    function PROVIDER() external view returns (address);
    /// @notice The only token of this ledger.
    function TOKEN() external view returns (address);
    /// @notice Seconds from a request until it is overdue (L-6).
    function RESPONSE_WINDOW() external view returns (uint40);
    /// @notice Seconds from a request until its being unserved lets anyone halt the ledger (L-25).
    function HALT_WINDOW() external view returns (uint40);
    /// @notice The contract that computes roots from the paths of `leave`.
    function BOOK_PATHS() external view returns (IBookPaths);
    /// @notice What an opening or a top-up must deposit at least; zero for no minimum (L-7).
    function DEPOSIT_MIN_NANOS() external view returns (uint64);
    /// @notice The account that may settle and register.
    function operator() external view returns (address);
    /// @notice Whether the ledger is halted, for good.
    function halted() external view returns (bool);
    /// @notice The number of tiers; the upper 8 bits of a book id are below it.
    function tierCount() external view returns (uint256);
    function tier(uint8 index) external view returns (Tier memory);
    /// @notice The root of a book; that of the tier's empty book when it was never written.
    function bookRoot(uint32 book) external view returns (uint256);
    /// @notice All zeros for a uid that was never opened.
    function channel(uint248 uid) external view returns (Channel memory);
    /// @notice What an account may withdraw, in nanos.
    function creditNanos(address account) external view returns (uint256);
    /// @notice The index of the oldest request that waits; equal to the tail when none does.
    function queueHead() external view returns (uint64);
    /// @notice The index the next request will get.
    function queueTail() external view returns (uint64);
    /// @notice When a request entered the queue, in Unix seconds; 0 for an index not used yet. Served requests stay.
    function requestedAt(uint64 index) external view returns (uint40);
    /// @notice The upper 216 bits of the request's hash (L-5). Served requests stay.
    function requestDigest(uint64 index) external view returns (uint216);
    /// @notice The number the next anchored epoch must have; the first is 0.
    function epochCount() external view returns (uint64);
    /// @notice Zero for an epoch that is not anchored.
    function epochRoot(uint64 epoch) external view returns (bytes32);
    /// @notice The uid of V-1 on this ledger and chain.
    function channelUid(address payer, uint256 keyX, bytes32 salt) external view returns (uint248);
    /// @notice The nonce that an EIP-3009 authorization for `openWithAuthorization` must carry.
    /// @dev `keccak256(abi.encode(keccak256("MillstreamOpen(uint256 chainId,address ledger,uint256 uid)"), chainId, ledger, uid))`.
    function openAuthorizationNonce(address payer, uint256 keyX, bytes32 salt) external view returns (bytes32);
    /// @notice The nonce that an EIP-3009 authorization for `topUpWithAuthorization` must carry.
    /// @dev `keccak256(abi.encode(keccak256("MillstreamTopUp(uint256 chainId,address ledger,uint256 uid,bytes32 salt)"), chainId, ledger,
    /// uid, salt))`. Funder and amount are in the authorization itself.
    function topUpAuthorizationNonce(uint248 uid, bytes32 salt) external view returns (bytes32);
    /// @notice The salt of a channel that `funder` opens by `openFor` with `salt`: `keccak256(abi.encode(funder, salt))`.
    function fundedSalt(address funder, bytes32 salt) external view returns (bytes32);
    /// @notice The EIP-712 domain of consents: name "Millstream Ledger", version "1", chain and ledger.
    function DOMAIN_SEPARATOR() external view returns (bytes32);
    /// @notice Whether a consent to a top-up was used, by its EIP-712 digest.
    function consentUsed(bytes32 digest) external view returns (bool);
    /// @notice Nanos in one base unit, or 0 when the token has more than 9 decimals.
    function NANOS_PER_BASE_UNIT() external view returns (uint256);
    /// @notice Base units in one nano, or 0 when the token has fewer than 9 decimals.
    function BASE_UNITS_PER_NANO() external view returns (uint256);
}
