// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The contract behind x402's `batch-settlement` scheme: channels of many payers to many receivers in any plain ERC-20 token.
/// @notice Receivers claim many vouchers at once, which moves no token, and sweep what they claimed in one transfer. The normative text is
/// `docs/spec/escrows.md` (`E-n`); names, types, selectors and errors are those of the canonical contract, which clients hard-code.
/// @dev Amounts are base units of the channel's token; times are Unix seconds.
///
/// Assumptions. A token moves exactly the amount it is told to (no fee on transfer, no rebasing); a deposit that arrives short, or long, is
/// refused. What is held of one token is never paid out for another, so a hostile token harms its own channels only. A block producer may
/// shift `block.timestamp` by seconds; delays are at least 15 minutes.
///
/// Warnings. A voucher has no expiry and a channel no epoch: after a refund or a withdrawal and a new deposit, an old voucher with a higher
/// ceiling can still be claimed. The receiver's side may claim any amount up to a voucher's ceiling. A voucher that is not claimed reserves
/// nothing: a withdrawal that is finalised first leaves less for it. Integrators rely on channel ids and balances, not on the events of a
/// channel's life: `ChannelCreated` can come more than once for an id, and `ChannelClosed` never comes for one that was claimed from.
interface IX402BatchSettlement {
    /// @notice What a channel is; never stored, given with every call.
    struct ChannelConfig {
        /// @dev Whose tokens are deposited, and who gets back what is not claimed.
        address payer;
        /// @dev Whose plain ECDSA signature makes a voucher; zero when the payer itself signs (ERC-1271 for a contract account).
        address payerAuthorizer;
        /// @dev Who is paid by `settle`.
        address receiver;
        /// @dev Who authorises claims and refunds besides the receiver; not zero. May be a contract (ERC-1271).
        address receiverAuthorizer;
        address token;
        /// @dev Seconds from the start of a withdrawal until it can be finalised: `MIN_WITHDRAW_DELAY` to `MAX_WITHDRAW_DELAY`.
        uint40 withdrawDelay;
        /// @dev Tells channels of the same parties apart.
        bytes32 salt;
    }

    /// @notice What a payer signs, with the channel spelled out: up to `maxClaimableAmount` in total may be claimed.
    struct Voucher {
        ChannelConfig channel;
        uint128 maxClaimableAmount;
    }

    /// @notice One row of a batch: raise what is claimed of the channel to `totalClaimed`, at most the voucher's ceiling.
    struct VoucherClaim {
        Voucher voucher;
        bytes signature;
        uint128 totalClaimed;
    }

    event ChannelCreated(bytes32 indexed channelId, ChannelConfig config);
    event ChannelClosed(bytes32 indexed channelId, ChannelConfig config);
    event Deposited(bytes32 indexed channelId, address indexed sender, uint128 amount, uint128 newBalance);
    event Claimed(bytes32 indexed channelId, address indexed sender, uint128 claimAmount, uint128 newTotalClaimed);
    event Settled(address indexed receiver, address indexed token, address indexed sender, uint128 amount);
    event Refunded(bytes32 indexed channelId, address indexed sender, uint128 amount);
    event WithdrawInitiated(bytes32 indexed channelId, uint128 amount, uint40 finalizeAfter);
    event WithdrawFinalized(bytes32 indexed channelId, address indexed sender, uint128 amount);

    /// @notice Payer, receiver, token or receiver's authorizer is zero; or a withdrawal is started by neither payer nor its authorizer.
    error InvalidChannel();
    error ZeroDeposit();
    /// @notice The balance of the channel would not fit 128 bits.
    error DepositOverflow();
    /// @notice A voucher, a batch or a refund is not signed by whom it must be.
    error InvalidSignature();
    /// @notice The rows of a signed batch name more than one receiver's authorizer.
    error NotReceiverAuthorizer();
    /// @notice The caller is neither receiver nor receiver's authorizer of a row.
    error NotAuthorizedToClaim();
    error NotAuthorizedToRefund();
    error ClaimExceedsCeiling();
    error ClaimExceedsBalance();
    error WithdrawalAlreadyPending();
    error WithdrawalNotPending();
    error NotAuthorizedToFinalizeWithdraw();
    error WithdrawDelayNotElapsed();
    error NothingToWithdraw();
    error WithdrawAmountExceedsAvailable();
    error WithdrawDelayOutOfRange();
    error EmptyBatch();
    /// @notice The balance of the contract did not grow by exactly the deposit.
    error DepositCollectionFailed();
    /// @notice The collector is the zero address.
    error InvalidCollector();
    error InvalidRefundNonce();
    error ZeroRefund();

    // ------------------------------------------------------------------------------------------------------------------------ deposits

    /// @notice Raises the balance of a channel by `amount`, moved by `collector`. Anyone may call; only what arrives counts.
    /// @dev Checks, in this order: config, delay, amount, collector, sum, transfer. The money can only ever go to the receiver, by a
    /// voucher, or to the payer.
    function deposit(ChannelConfig calldata config, uint128 amount, address collector, bytes calldata collectorData) external;

    // -------------------------------------------------------------------------------------------------------------------------- claims

    /// @notice Claims rows of which the caller is receiver or receiver's authorizer.
    /// @dev Checks of a row, in this order: caller, nothing new (then the row is passed over, whatever its signature), ceiling, balance,
    /// signature. A row that fails reverts the batch.
    function claim(VoucherClaim[] calldata voucherClaims) external;

    /// @notice Claims rows of one receiver's authorizer, who signed `getClaimBatchDigest(voucherClaims)`. Anyone may call.
    /// @dev Checks, in this order: one authorizer, its signature, then each row as `claim` does.
    function claimWithSignature(VoucherClaim[] calldata voucherClaims, bytes calldata authorizerSignature) external;

    /// @notice Pays the receiver everything that was claimed for it in the token and not paid yet. Anyone may call; nothing due is no error.
    function settle(address receiver, address token) external;

    // ------------------------------------------------------------------------------------------------------------------------- leaving

    /// @notice Payer or its authorizer: starts a withdrawal of `amount`, at most what is not claimed.
    /// @dev Checks, in this order: caller, amount not zero, none pending, available.
    function initiateWithdraw(ChannelConfig calldata config, uint128 amount) external;

    /// @notice Payer or its authorizer, after the delay: pays the payer what was asked, at most what is not claimed by then.
    /// @dev Checks, in this order: pending, caller, delay. With everything claimed it pays nothing and ends the withdrawal.
    function finalizeWithdraw(ChannelConfig calldata config) external;

    /// @notice Receiver or its authorizer: pays `amount`, at most what is not claimed, back to the payer.
    /// @dev Advances `refundNonce` even when nothing is left to pay, in which case there is no event. Lowers a pending withdrawal by what was
    /// paid, and ends it when that is all of it.
    function refund(ChannelConfig calldata config, uint128 amount) external;

    /// @notice As `refund`, authorised by the signature of the receiver's authorizer over `getRefundDigest`. Anyone may call.
    /// @dev Checks, in this order: amount, nonce, signature.
    function refundWithSignature(ChannelConfig calldata config, uint128 amount, uint256 nonce, bytes calldata receiverAuthorizerSignature)
        external;

    /// @notice Several calls of this contract in one transaction, all or none; each has the transaction's caller.
    function multicall(bytes[] calldata data) external returns (bytes[] memory results);

    // --------------------------------------------------------------------------------------------------------------------------- views

    /// @notice The EIP-712 digest of the config: binds the chain and this contract.
    function getChannelId(ChannelConfig calldata config) external view returns (bytes32);
    function getVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount) external view returns (bytes32);
    function getRefundDigest(bytes32 channelId, uint256 nonce, uint128 amount) external view returns (bytes32);
    /// @notice What the receiver's authorizer signs for a batch. Defined for an empty one too, which no call takes.
    function getClaimBatchDigest(VoucherClaim[] calldata voucherClaims) external view returns (bytes32);
    /// @notice `balance` is deposits less withdrawals and refunds; claims do not lower it. `totalClaimed` never falls and never exceeds it.
    function channels(bytes32 channelId) external view returns (uint128 balance, uint128 totalClaimed);
    /// @notice A withdrawal under way; `initiatedAt` is zero when there is none.
    function pendingWithdrawals(bytes32 channelId) external view returns (uint128 amount, uint40 initiatedAt);
    /// @notice The nonce that the next signed refund must carry.
    function refundNonce(bytes32 channelId) external view returns (uint256);
    /// @notice What was ever claimed for a receiver in a token, over all channels, and how much of it was paid.
    function receivers(address receiver, address token) external view returns (uint128 totalClaimed, uint128 totalSettled);
    /// @notice 900 seconds.
    function MIN_WITHDRAW_DELAY() external view returns (uint40);
    /// @notice 2,592,000 seconds.
    function MAX_WITHDRAW_DELAY() external view returns (uint40);
    function CHANNEL_CONFIG_TYPEHASH() external view returns (bytes32);
    function VOUCHER_TYPEHASH() external view returns (bytes32);
    function REFUND_TYPEHASH() external view returns (bytes32);
    function CLAIM_BATCH_TYPEHASH() external view returns (bytes32);
    function CLAIM_ENTRY_TYPEHASH() external view returns (bytes32);
    /// @notice The EIP-712 domain (EIP-5267).
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
