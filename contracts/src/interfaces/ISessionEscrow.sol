// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The escrow of MPP `evm/session` channels: one-way channels from a payer to a payee in any plain ERC-20 token.
/// @notice The payee can take only what vouchers say; a payer can always leave. The normative text is `docs/spec/escrows.md` (`E-n`), which
/// names the draft that this conforms to.
/// @dev Amounts are base units of the channel's token; times are Unix seconds.
///
/// Assumptions. A token moves exactly the amount it is told to (no fee on transfer, no rebasing); a deposit that arrives short, or long, is
/// refused. What is held of one token is never paid out for another, so a hostile token harms its own channels only. A block producer may
/// shift `block.timestamp` by seconds; the grace period is 15 minutes.
///
/// A record is for ever: a channel id that was used can never be opened again, so no voucher outlives its channel. A voucher with a higher
/// amount replaces all before it. Signatures are `r ‖ s ‖ v`, 65 bytes, low `s`; or ERC-1271 where the signer is a contract. A signer that
/// is a contract can take its word back by changing what it accepts: settle such channels often.
///
/// A payment that the token refuses becomes a credit of the one who was to be paid, so nobody's frozen account stands in another's way.
///
/// Everything that a relayer sends is bound by the signature to channel, amount, escrow and chain: it can submit it or not, no more.
interface ISessionEscrow {
    /// @notice A channel as the escrow keeps it, closed or not.
    struct Channel {
        address payer;
        address payee;
        address token;
        /// @dev Whose signature makes a voucher; zero for the payer's own.
        address authorizedSigner;
        /// @dev Everything that was deposited; stays when the channel is closed.
        uint128 deposit;
        /// @dev Everything that was paid to the payee; never falls, and never exceeds `deposit`.
        uint128 settled;
        /// @dev When the payer asked for the close; zero when it did not, or took it back by a top-up.
        uint64 closeRequestedAt;
        /// @dev Closed, for ever.
        bool finalized;
    }

    /// @notice One row of `settleMany`: a voucher.
    struct Settlement {
        bytes32 channelId;
        uint128 cumulativeAmount;
        bytes signature;
    }

    event ChannelOpened(
        bytes32 indexed channelId, address indexed payer, address indexed payee, address token, address authorizedSigner, uint256 deposit
    );
    event TopUp(bytes32 indexed channelId, address indexed payer, address indexed payee, uint256 additionalDeposit, uint256 newDeposit);
    event Settled(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        uint256 cumulativeAmount,
        uint256 deltaPaid,
        uint256 newSettled
    );
    event CloseRequested(bytes32 indexed channelId, address indexed payer, address indexed payee, uint256 closeGraceEnd);
    event CloseRequestCancelled(bytes32 indexed channelId, address indexed payer, address indexed payee);
    /// @notice `settledToPayee` is everything that was ever settled, this call included, which emits its own `Settled` for what it adds.
    event ChannelClosed(
        bytes32 indexed channelId, address indexed payer, address indexed payee, uint256 settledToPayee, uint256 refundedToPayer
    );
    /// @notice A row of `settleMany` was passed over; `reason` is the selector of the error with which `settle` refuses it.
    event SettlementSkipped(bytes32 indexed channelId, address indexed payee, uint256 row, bytes4 reason);
    /// @notice The token refused a payment to `account`, who can withdraw it by `withdrawCredit`.
    event CreditAdded(address indexed account, address indexed token, uint256 amount);
    event CreditWithdrawn(address indexed account, address indexed token, address indexed to, uint256 amount);

    /// @notice A channel with this id was opened before; closed or not, its id is used up.
    error ChannelAlreadyExists(bytes32 channelId);
    error ChannelNotFound(bytes32 channelId);
    error ChannelFinalized(bytes32 channelId);
    error NotPayer(address caller);
    error NotPayee(address caller);
    /// @notice The payee is the zero address, which could never settle.
    error InvalidPayee();
    /// @notice The payer is the zero address, which could never be refunded.
    error InvalidPayer();
    error ZeroDeposit();
    /// @notice The deposit of the channel would not fit 128 bits.
    error DepositOverflow(uint256 deposit);
    /// @notice The balance of the escrow did not grow by exactly the deposit.
    error ShortTransfer(uint256 expected, uint256 received);
    /// @notice The nonce of an EIP-3009 authorization is not the one that binds it to the channel.
    error NonceMismatch(bytes32 expected, bytes32 actual);
    error AmountNotIncreasing(uint256 settled, uint256 cumulativeAmount);
    error AmountExceedsDeposit(uint256 deposit, uint256 cumulativeAmount);
    /// @notice A voucher or a payee's authorization is not signed by `signer`.
    error InvalidSignature(address signer);
    error NonceAlreadyUsed(bytes32 channelId, uint256 nonce);
    error AuthorizationExpired(uint256 deadline);
    /// @notice No close was requested (`readyAt` is zero), or its grace period ends at `readyAt` only.
    error CloseNotReady(bytes32 channelId, uint256 readyAt);
    error EmptyBatch();
    /// @notice A row of `settleMany` is a channel in another token than the one named.
    error TokenMismatch(address expected, address actual);
    /// @notice Too little gas is left to hear a contract signer out, so its silence would say nothing.
    error NotEnoughGas(uint256 needed, uint256 left);
    error NothingToWithdraw(address account, address token);

    // ------------------------------------------------------------------------------------------------------------------------ opening

    /// @notice Opens a channel with the caller as payer; pulls `deposit` through an allowance. Returns `computeChannelId`.
    /// @dev Checks, in this order: payer, payee, deposit, id, transfer; every way to open does.
    function open(address payee, address token, uint128 deposit, bytes32 salt, address authorizedSigner)
        external
        returns (bytes32 channelId);

    /// @notice Opens a channel for `from`, relayed by anyone, paid by an EIP-3009 `receiveWithAuthorization` to the escrow.
    /// @dev `nonce` must be `keccak256(abi.encode(from, payee, token, salt, authorizedSigner))`; checked first. The token must take a
    /// `bytes signature`.
    function openWithAuthorization(
        address payee,
        address token,
        uint128 deposit,
        bytes32 salt,
        address authorizedSigner,
        address from,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external returns (bytes32 channelId);

    /// @notice Opens a channel for `from`, relayed by anyone, paid by Permit2's `permitWitnessTransferFrom`.
    /// @dev Exactly `deposit` of `token`, spender the escrow, witness
    /// `ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)`. `nonce` and `deadline` are Permit2's own.
    function openWithPermit2(
        address payee,
        address token,
        uint128 deposit,
        bytes32 salt,
        address authorizedSigner,
        address from,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external returns (bytes32 channelId);

    // --------------------------------------------------------------------------------------------------------------------- topping up

    /// @notice Payer only: raises the deposit, and takes back a pending close.
    /// @dev Checks, in this order: channel known, not closed, caller, deposit, sum, transfer; every way to top up does, but for the caller.
    function topUp(bytes32 channelId, uint128 additionalDeposit) external;

    /// @notice Raises the deposit by an EIP-3009 `receiveWithAuthorization` of `from`, relayed by anyone. `from` may be anybody; refunds go
    /// to the payer. Takes back a pending close only when `from` is the payer: nobody else may hold up an exit.
    /// @dev `nonce` must be `keccak256(abi.encode(channelId, additionalDeposit, from, topUpSalt))`; checked first.
    function topUpWithAuthorization(
        bytes32 channelId,
        uint128 additionalDeposit,
        address from,
        bytes32 topUpSalt,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;

    /// @notice As `topUpWithAuthorization`, paid by Permit2 with the witness `ChannelTopUpWitness(bytes32 channelId)`.
    function topUpWithPermit2(
        bytes32 channelId,
        uint128 additionalDeposit,
        address from,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external;

    // ----------------------------------------------------------------------------------------------------------------------- settling

    /// @notice Payee only: is paid what the voucher adds to what was settled. The channel stays open, also after a close was requested.
    /// @dev Checks, in this order: channel known, not closed, caller, above settled, at most the deposit, signature, transfer.
    function settle(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external;

    /// @notice Payee of many channels in one token: settles those rows that `settle` would, and is paid their sum in one transfer.
    /// @dev A row that `settle` refuses, or of another token, is passed over with a `SettlementSkipped`; it moves nothing and stops nothing.
    /// A contract signer is given 500,000 gas. Returns what was paid; nothing to pay is no error.
    function settleMany(address token, Settlement[] calldata rows) external returns (uint256 paid);

    /// @notice As `settle`, with the payee's signature over
    /// `SettleAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)`. Anyone may call.
    /// @dev Checks, in this order: channel known, not closed, deadline, nonce, payee's signature, then as `settle`. Nonces are the payee's
    /// choice, each serves once, and those of `closeWithAuthorization` are the same.
    function settleWithAuthorization(
        bytes32 channelId,
        uint128 cumulativeAmount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata payeeSignature,
        bytes calldata voucherSignature
    ) external;

    // ------------------------------------------------------------------------------------------------------------------------ closing

    /// @notice Payee only: settles the voucher, closes the channel and refunds the rest to the payer.
    /// @dev With a `cumulativeAmount` that is not above what was settled it forfeits whatever else was signed, and `signature` is not looked
    /// at. Otherwise as `settle`.
    function close(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external;

    /// @notice As `close`, with the payee's signature over
    /// `CloseAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)`. Anyone may call.
    function closeWithAuthorization(
        bytes32 channelId,
        uint128 cumulativeAmount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata payeeSignature,
        bytes calldata voucherSignature
    ) external;

    /// @notice Payer only: starts the grace period. Asking again changes nothing: the period of the first request runs on.
    function requestClose(bytes32 channelId) external;

    /// @notice Payer only, after the grace period: closes the channel and pays the payer what was not settled.
    function withdraw(bytes32 channelId) external;

    /// @notice Pays a credit of the caller in a token to `to`.
    function withdrawCredit(address token, address to) external returns (uint256 amount);

    // -------------------------------------------------------------------------------------------------------------------------- views

    /// @notice All zero when there is no such channel.
    function getChannel(bytes32 channelId) external view returns (Channel memory);
    function getChannelsBatch(bytes32[] calldata channelIds) external view returns (Channel[] memory);
    /// @notice `keccak256(abi.encode(payer, payee, token, salt, authorizedSigner, escrow, chainId))`.
    function computeChannelId(address payer, address payee, address token, bytes32 salt, address authorizedSigner)
        external
        view
        returns (bytes32);
    function getVoucherDigest(bytes32 channelId, uint128 cumulativeAmount) external view returns (bytes32);
    function getSettleAuthorizationDigest(bytes32 channelId, uint128 cumulativeAmount, uint256 nonce, uint256 deadline)
        external
        view
        returns (bytes32);
    function getCloseAuthorizationDigest(bytes32 channelId, uint128 cumulativeAmount, uint256 nonce, uint256 deadline)
        external
        view
        returns (bytes32);
    /// @notice Whether the payee of the channel has used the nonce.
    function nonceUsed(bytes32 channelId, uint256 nonce) external view returns (bool);
    /// @notice What an account may withdraw in a token.
    function credit(address account, address token) external view returns (uint256);
    /// @notice 900 seconds.
    function CLOSE_GRACE_PERIOD() external view returns (uint64);
    function VOUCHER_TYPEHASH() external view returns (bytes32);
    function SETTLE_AUTHORIZATION_TYPEHASH() external view returns (bytes32);
    function CLOSE_AUTHORIZATION_TYPEHASH() external view returns (bytes32);
    function domainSeparator() external view returns (bytes32);
    /// @notice The EIP-712 domain (EIP-5267): name "EVM Payment Channel", version "1", chain and escrow.
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        );
}
