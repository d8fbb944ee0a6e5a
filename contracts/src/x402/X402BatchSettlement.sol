// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {IDepositCollector} from "../interfaces/IDepositCollector.sol";
import {IX402BatchSettlement} from "../interfaces/IX402BatchSettlement.sol";
import {TypedData} from "../TypedData.sol";

/// @title An implementation of x402's batch settlement, for development chains that have none. See `IX402BatchSettlement` for what each
/// function promises and `docs/spec/escrows.md` for the rules (`E-n`).
/// @dev Written from the scheme's specification and the interface. A development chain puts this code at the canonical address, so it keeps
/// nothing in its code and computes its domain each time. Every function that moves state is guarded against reentrance; each is written in
/// the order check, effect, interaction, but for the balance of a deposit, which is checked after the collector ran.
contract X402BatchSettlement is IX402BatchSettlement, Multicall, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    struct ChannelState {
        uint128 balance;
        uint128 totalClaimed;
    }

    struct Withdrawal {
        uint128 amount;
        uint40 initiatedAt;
    }

    struct Receiver {
        uint128 totalClaimed;
        uint128 totalSettled;
    }

    uint40 public constant MIN_WITHDRAW_DELAY = 15 minutes;
    uint40 public constant MAX_WITHDRAW_DELAY = 30 days;

    bytes32 public constant CHANNEL_CONFIG_TYPEHASH = keccak256(
        "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
    );
    bytes32 public constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint128 maxClaimableAmount)");
    bytes32 public constant REFUND_TYPEHASH = keccak256("Refund(bytes32 channelId,uint256 nonce,uint128 amount)");
    bytes32 public constant CLAIM_BATCH_TYPEHASH =
        keccak256("ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)");
    bytes32 public constant CLAIM_ENTRY_TYPEHASH =
        keccak256("ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)");

    string private constant NAME = "x402 Batch Settlement";
    string private constant VERSION = "1";

    mapping(bytes32 channelId => ChannelState) public channels;
    mapping(bytes32 channelId => Withdrawal) public pendingWithdrawals;
    mapping(bytes32 channelId => uint256) public refundNonce;
    mapping(address receiver => mapping(address token => Receiver)) public receivers;

    // ------------------------------------------------------------------------------------------------------------------------ deposits

    /// @inheritdoc IX402BatchSettlement
    function deposit(ChannelConfig calldata config, uint128 amount, address collector, bytes calldata collectorData) external nonReentrant {
        // check
        if (
            config.payer == address(0) || config.receiver == address(0) || config.receiverAuthorizer == address(0)
                || config.token == address(0)
        ) revert InvalidChannel();
        if (config.withdrawDelay < MIN_WITHDRAW_DELAY || config.withdrawDelay > MAX_WITHDRAW_DELAY) revert WithdrawDelayOutOfRange();
        if (amount == 0) revert ZeroDeposit();
        if (collector == address(0)) revert InvalidCollector();
        bytes32 channelId = _channelId(_domain(), config);
        ChannelState memory channel = channels[channelId];
        if (amount > type(uint128).max - channel.balance) revert DepositOverflow();
        // effect
        uint128 newBalance = channel.balance + amount;
        channels[channelId].balance = newBalance;
        // interaction, with its check: what a collector says counts for nothing
        IERC20 token = IERC20(config.token);
        uint256 before = token.balanceOf(address(this));
        IDepositCollector(collector).collect(config.payer, config.token, amount, channelId, collectorData);
        uint256 afterwards = token.balanceOf(address(this));
        if (afterwards < before || afterwards - before != amount) revert DepositCollectionFailed();
        if (channel.balance == 0 && channel.totalClaimed == 0) emit ChannelCreated(channelId, config);
        emit Deposited(channelId, msg.sender, amount, newBalance);
    }

    // -------------------------------------------------------------------------------------------------------------------------- claims

    /// @inheritdoc IX402BatchSettlement
    function claim(VoucherClaim[] calldata voucherClaims) external nonReentrant {
        // check
        if (voucherClaims.length == 0) revert EmptyBatch();
        bytes32 domain = _domain();
        for (uint256 i = 0; i < voucherClaims.length; ++i) {
            ChannelConfig calldata config = voucherClaims[i].voucher.channel;
            if (msg.sender != config.receiver && msg.sender != config.receiverAuthorizer) revert NotAuthorizedToClaim();
            // check, effect
            _claim(domain, _channelId(domain, config), voucherClaims[i]);
        }
    }

    /// @inheritdoc IX402BatchSettlement
    function claimWithSignature(VoucherClaim[] calldata voucherClaims, bytes calldata authorizerSignature) external nonReentrant {
        // check
        if (voucherClaims.length == 0) revert EmptyBatch();
        address authorizer = voucherClaims[0].voucher.channel.receiverAuthorizer;
        for (uint256 i = 1; i < voucherClaims.length; ++i) {
            if (voucherClaims[i].voucher.channel.receiverAuthorizer != authorizer) revert NotReceiverAuthorizer();
        }
        bytes32 domain = _domain();
        (bytes32 digest, bytes32[] memory channelIds) = _claimBatch(domain, voucherClaims);
        if (!SignatureChecker.isValidSignatureNowCalldata(authorizer, digest, authorizerSignature)) revert InvalidSignature();
        for (uint256 i = 0; i < voucherClaims.length; ++i) {
            // check, effect
            _claim(domain, channelIds[i], voucherClaims[i]);
        }
    }

    /// @inheritdoc IX402BatchSettlement
    function settle(address receiver, address token) external nonReentrant {
        // check
        Receiver memory r = receivers[receiver][token];
        uint128 amount = r.totalClaimed - r.totalSettled;
        if (amount == 0) return;
        // effect
        receivers[receiver][token].totalSettled = r.totalClaimed;
        emit Settled(receiver, token, msg.sender, amount);
        // interaction
        IERC20(token).safeTransfer(receiver, amount);
    }

    // ------------------------------------------------------------------------------------------------------------------------- leaving

    /// @inheritdoc IX402BatchSettlement
    function initiateWithdraw(ChannelConfig calldata config, uint128 amount) external nonReentrant {
        // check
        if (!_isPayerSide(config)) revert InvalidChannel();
        if (amount == 0) revert NothingToWithdraw();
        bytes32 channelId = _channelId(_domain(), config);
        if (pendingWithdrawals[channelId].initiatedAt != 0) revert WithdrawalAlreadyPending();
        if (amount > _available(channels[channelId])) revert WithdrawAmountExceedsAvailable();
        // effect
        uint40 initiatedAt = uint40(block.timestamp);
        pendingWithdrawals[channelId] = Withdrawal(amount, initiatedAt);
        emit WithdrawInitiated(channelId, amount, initiatedAt + config.withdrawDelay);
    }

    /// @inheritdoc IX402BatchSettlement
    function finalizeWithdraw(ChannelConfig calldata config) external nonReentrant {
        // check
        bytes32 channelId = _channelId(_domain(), config);
        Withdrawal memory pending = pendingWithdrawals[channelId];
        if (pending.initiatedAt == 0) revert WithdrawalNotPending();
        if (!_isPayerSide(config)) revert NotAuthorizedToFinalizeWithdraw();
        if (block.timestamp < uint256(pending.initiatedAt) + config.withdrawDelay) revert WithdrawDelayNotElapsed();
        ChannelState memory channel = channels[channelId];
        uint128 available = _available(channel);
        uint128 amount = pending.amount < available ? pending.amount : available;
        // effect
        delete pendingWithdrawals[channelId];
        channels[channelId].balance = channel.balance - amount;
        emit WithdrawFinalized(channelId, msg.sender, amount);
        // interaction
        _payBack(channelId, config, channel, amount);
    }

    /// @inheritdoc IX402BatchSettlement
    function refund(ChannelConfig calldata config, uint128 amount) external nonReentrant {
        // check
        if (msg.sender != config.receiver && msg.sender != config.receiverAuthorizer) revert NotAuthorizedToRefund();
        if (amount == 0) revert ZeroRefund();
        // effect, interaction
        _refund(_channelId(_domain(), config), config, amount);
    }

    /// @inheritdoc IX402BatchSettlement
    function refundWithSignature(ChannelConfig calldata config, uint128 amount, uint256 nonce, bytes calldata receiverAuthorizerSignature)
        external
        nonReentrant
    {
        // check
        if (amount == 0) revert ZeroRefund();
        bytes32 domain = _domain();
        bytes32 channelId = _channelId(domain, config);
        if (nonce != refundNonce[channelId]) revert InvalidRefundNonce();
        bytes32 digest = _refundDigest(domain, channelId, nonce, amount);
        if (!SignatureChecker.isValidSignatureNowCalldata(config.receiverAuthorizer, digest, receiverAuthorizerSignature)) {
            revert InvalidSignature();
        }
        // effect, interaction
        _refund(channelId, config, amount);
    }

    // --------------------------------------------------------------------------------------------------------------------------- views

    /// @inheritdoc IX402BatchSettlement
    function getChannelId(ChannelConfig calldata config) external view returns (bytes32) {
        return _channelId(_domain(), config);
    }

    /// @inheritdoc IX402BatchSettlement
    function getVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount) external view returns (bytes32) {
        return _voucherDigest(_domain(), channelId, maxClaimableAmount);
    }

    /// @inheritdoc IX402BatchSettlement
    function getRefundDigest(bytes32 channelId, uint256 nonce, uint128 amount) external view returns (bytes32) {
        return _refundDigest(_domain(), channelId, nonce, amount);
    }

    /// @inheritdoc IX402BatchSettlement
    function getClaimBatchDigest(VoucherClaim[] calldata voucherClaims) external view returns (bytes32 digest) {
        (digest,) = _claimBatch(_domain(), voucherClaims);
    }

    /// @inheritdoc IX402BatchSettlement
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
        )
    {
        return (TypedData.DOMAIN_FIELDS, NAME, VERSION, block.chainid, address(this), 0, new uint256[](0));
    }

    /// @inheritdoc Multicall
    function multicall(bytes[] calldata data) public override(IX402BatchSettlement, Multicall) returns (bytes[] memory) {
        return super.multicall(data);
    }

    // ------------------------------------------------------------------------------------------------------------------------- details

    function _claim(bytes32 domain, bytes32 channelId, VoucherClaim calldata row) private {
        // check
        ChannelState memory channel = channels[channelId];
        uint128 totalClaimed = row.totalClaimed;
        // Nothing new, so nothing to authorise: a batch may repeat what another has claimed already.
        if (totalClaimed <= channel.totalClaimed) return;
        uint128 ceiling = row.voucher.maxClaimableAmount;
        if (totalClaimed > ceiling) revert ClaimExceedsCeiling();
        if (totalClaimed > channel.balance) revert ClaimExceedsBalance();
        ChannelConfig calldata config = row.voucher.channel;
        bytes32 digest = _voucherDigest(domain, channelId, ceiling);
        address signer = config.payerAuthorizer;
        if (signer != address(0)) {
            // A key and nothing else: an authorizer with code is not called.
            (address recovered,,) = ECDSA.tryRecoverCalldata(digest, row.signature);
            if (recovered != signer) revert InvalidSignature();
        } else if (!SignatureChecker.isValidSignatureNowCalldata(config.payer, digest, row.signature)) {
            revert InvalidSignature();
        }
        // effect
        uint128 amount = totalClaimed - channel.totalClaimed;
        channels[channelId].totalClaimed = totalClaimed;
        receivers[config.receiver][config.token].totalClaimed += amount;
        emit Claimed(channelId, msg.sender, amount, totalClaimed);
    }

    function _refund(bytes32 channelId, ChannelConfig calldata config, uint128 requested) private {
        // effect; the nonce first, so that a signed refund serves once whatever it pays
        ++refundNonce[channelId];
        ChannelState memory channel = channels[channelId];
        uint128 available = _available(channel);
        uint128 amount = requested < available ? requested : available;
        if (amount == 0) return;
        channels[channelId].balance = channel.balance - amount;
        uint128 pending = pendingWithdrawals[channelId].amount;
        if (pending <= amount) delete pendingWithdrawals[channelId];
        else pendingWithdrawals[channelId].amount = pending - amount;
        emit Refunded(channelId, msg.sender, amount);
        // interaction
        _payBack(channelId, config, channel, amount);
    }

    /// @dev `channel` is as it was before the balance fell.
    function _payBack(bytes32 channelId, ChannelConfig calldata config, ChannelState memory channel, uint128 amount) private {
        if (amount == 0) return;
        if (amount == channel.balance && channel.totalClaimed == 0) emit ChannelClosed(channelId, config);
        IERC20(config.token).safeTransfer(config.payer, amount);
    }

    function _available(ChannelState memory channel) private pure returns (uint128) {
        return channel.balance - channel.totalClaimed;
    }

    function _isPayerSide(ChannelConfig calldata config) private view returns (bool) {
        return msg.sender == config.payer || msg.sender == config.payerAuthorizer;
    }

    function _domain() private view returns (bytes32) {
        return TypedData.domainSeparator(NAME, VERSION);
    }

    function _channelId(bytes32 domain, ChannelConfig calldata config) private pure returns (bytes32) {
        return TypedData.digest(domain, keccak256(abi.encode(CHANNEL_CONFIG_TYPEHASH, config)));
    }

    function _voucherDigest(bytes32 domain, bytes32 channelId, uint128 maxClaimableAmount) private pure returns (bytes32) {
        return TypedData.digest(domain, keccak256(abi.encode(VOUCHER_TYPEHASH, channelId, maxClaimableAmount)));
    }

    function _refundDigest(bytes32 domain, bytes32 channelId, uint256 nonce, uint128 amount) private pure returns (bytes32) {
        return TypedData.digest(domain, keccak256(abi.encode(REFUND_TYPEHASH, channelId, nonce, amount)));
    }

    /// @dev The digest of a batch, and the ids of its channels, which the rows need next.
    function _claimBatch(bytes32 domain, VoucherClaim[] calldata voucherClaims)
        private
        pure
        returns (bytes32 digest, bytes32[] memory channelIds)
    {
        channelIds = new bytes32[](voucherClaims.length);
        bytes32[] memory entries = new bytes32[](voucherClaims.length);
        for (uint256 i = 0; i < voucherClaims.length; ++i) {
            VoucherClaim calldata row = voucherClaims[i];
            channelIds[i] = _channelId(domain, row.voucher.channel);
            entries[i] = keccak256(abi.encode(CLAIM_ENTRY_TYPEHASH, channelIds[i], row.voucher.maxClaimableAmount, row.totalClaimed));
        }
        // EIP-712: an array of structs is the hash of their hashes, one after the other.
        digest = TypedData.digest(domain, keccak256(abi.encode(CLAIM_BATCH_TYPEHASH, keccak256(abi.encodePacked(entries)))));
    }
}
