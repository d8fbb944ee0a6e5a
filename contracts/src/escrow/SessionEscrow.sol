// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IPermit2} from "../interfaces/IPermit2.sol";
import {IReceiveWithAuthorization} from "../interfaces/IReceiveWithAuthorization.sol";
import {ISessionEscrow} from "../interfaces/ISessionEscrow.sol";
import {TypedData} from "../TypedData.sol";

/// @title The escrow of MPP `evm/session`. See `ISessionEscrow` for what each function promises and `docs/spec/escrows.md` for the rules
/// (`E-n`).
/// @dev No owner, no upgrade, no pause, no constructor argument: one code, so one address on every chain. Every function that moves state is
/// guarded against reentrance; each is written in the order check, effect, interaction. The static calls of contract signers are checks.
contract SessionEscrow is ISessionEscrow, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @dev A channel in the order that lets `settle` read four slots, or five when the payer itself signs. The payee is never zero, so it
    /// tells whether the channel is there.
    struct Stored {
        address payee;
        uint64 closeRequestedAt;
        bool finalized;
        address token;
        address payer;
        address authorizedSigner;
        uint128 deposit;
        uint128 settled;
    }

    /// @dev Permit2, at one address on every chain.
    IPermit2 private constant PERMIT2 = IPermit2(0x000000000022D473030F116dDEE9F6B43aC78BA3);

    uint64 public constant CLOSE_GRACE_PERIOD = 15 minutes;
    bytes32 public constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint128 cumulativeAmount)");
    bytes32 public constant SETTLE_AUTHORIZATION_TYPEHASH =
        keccak256("SettleAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)");
    bytes32 public constant CLOSE_AUTHORIZATION_TYPEHASH =
        keccak256("CloseAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)");

    string private constant NAME = "EVM Payment Channel";
    string private constant VERSION = "1";

    bytes32 private constant OPEN_WITNESS_TYPEHASH = keccak256("ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)");
    bytes32 private constant TOP_UP_WITNESS_TYPEHASH = keccak256("ChannelTopUpWitness(bytes32 channelId)");
    string private constant OPEN_WITNESS_TYPE =
        "ChannelOpenWitness witness)ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)TokenPermissions(address token,uint256 amount)";
    string private constant TOP_UP_WITNESS_TYPE =
        "ChannelTopUpWitness witness)ChannelTopUpWitness(bytes32 channelId)TokenPermissions(address token,uint256 amount)";

    /// @dev What a contract signer may use up in a batch: enough for a wallet of several owners or one that checks P-256 in Solidity.
    uint256 private constant BATCH_SIGNER_GAS = 500_000;

    mapping(bytes32 channelId => Stored) private _channels;
    /// @dev Bit `nonce mod 256` of word `nonce / 256`.
    mapping(bytes32 channelId => mapping(uint256 word => uint256 bits)) private _usedNonces;
    mapping(address account => mapping(address token => uint256)) public credit;

    // ------------------------------------------------------------------------------------------------------------------------ opening

    /// @inheritdoc ISessionEscrow
    function open(address payee, address token, uint128 deposit, bytes32 salt, address authorizedSigner)
        external
        nonReentrant
        returns (bytes32 channelId)
    {
        // check, effect
        channelId = _open(msg.sender, payee, token, deposit, salt, authorizedSigner);
        // interaction
        _pull(msg.sender, token, deposit);
    }

    /// @inheritdoc ISessionEscrow
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
    ) external nonReentrant returns (bytes32 channelId) {
        // check, effect
        _checkNonce(keccak256(abi.encode(from, payee, token, salt, authorizedSigner)), nonce);
        channelId = _open(from, payee, token, deposit, salt, authorizedSigner);
        // interaction
        _pullWithAuthorization(from, token, deposit, validAfter, validBefore, nonce, signature);
    }

    /// @inheritdoc ISessionEscrow
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
    ) external nonReentrant returns (bytes32 channelId) {
        // check, effect
        channelId = _open(from, payee, token, deposit, salt, authorizedSigner);
        // interaction
        bytes32 witness = keccak256(abi.encode(OPEN_WITNESS_TYPEHASH, payee, salt, authorizedSigner));
        _pullWithPermit2(from, token, deposit, nonce, deadline, witness, OPEN_WITNESS_TYPE, signature);
    }

    // --------------------------------------------------------------------------------------------------------------------- topping up

    /// @inheritdoc ISessionEscrow
    function topUp(bytes32 channelId, uint128 additionalDeposit) external nonReentrant {
        // check
        Stored storage c = _openChannel(channelId);
        if (msg.sender != c.payer) revert NotPayer(msg.sender);
        // check, effect
        _topUp(channelId, c, msg.sender, additionalDeposit);
        // interaction
        _pull(msg.sender, c.token, additionalDeposit);
    }

    /// @inheritdoc ISessionEscrow
    function topUpWithAuthorization(
        bytes32 channelId,
        uint128 additionalDeposit,
        address from,
        bytes32 topUpSalt,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external nonReentrant {
        // check, effect
        _checkNonce(keccak256(abi.encode(channelId, additionalDeposit, from, topUpSalt)), nonce);
        Stored storage c = _openChannel(channelId);
        _topUp(channelId, c, from, additionalDeposit);
        // interaction
        _pullWithAuthorization(from, c.token, additionalDeposit, validAfter, validBefore, nonce, signature);
    }

    /// @inheritdoc ISessionEscrow
    function topUpWithPermit2(
        bytes32 channelId,
        uint128 additionalDeposit,
        address from,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external nonReentrant {
        // check, effect
        Stored storage c = _openChannel(channelId);
        _topUp(channelId, c, from, additionalDeposit);
        // interaction
        bytes32 witness = keccak256(abi.encode(TOP_UP_WITNESS_TYPEHASH, channelId));
        _pullWithPermit2(from, c.token, additionalDeposit, nonce, deadline, witness, TOP_UP_WITNESS_TYPE, signature);
    }

    // ----------------------------------------------------------------------------------------------------------------------- settling

    /// @inheritdoc ISessionEscrow
    function settle(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external nonReentrant {
        // check
        Stored storage c = _openChannel(channelId);
        if (msg.sender != c.payee) revert NotPayee(msg.sender);
        _checkVoucher(channelId, c, cumulativeAmount, signature);
        // effect
        uint128 delta = _settle(channelId, c, cumulativeAmount);
        // interaction
        _pay(c.payee, c.token, delta);
    }

    /// @inheritdoc ISessionEscrow
    function settleMany(address token, Settlement[] calldata rows) external nonReentrant returns (uint256 paid) {
        if (rows.length == 0) revert EmptyBatch();
        bytes32 domain = domainSeparator();
        for (uint256 i = 0; i < rows.length; ++i) {
            Settlement calldata row = rows[i];
            Stored storage c = _channels[row.channelId];
            // check
            bytes memory refusal = _rowRefusal(domain, token, c, row);
            if (refusal.length != 0) {
                emit SettlementSkipped(row.channelId, msg.sender, i, bytes4(refusal));
                continue;
            }
            // effect
            paid += _settle(row.channelId, c, row.cumulativeAmount);
        }
        // interaction
        _pay(msg.sender, token, paid);
    }

    /// @inheritdoc ISessionEscrow
    function settleWithAuthorization(
        bytes32 channelId,
        uint128 cumulativeAmount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata payeeSignature,
        bytes calldata voucherSignature
    ) external nonReentrant {
        // check
        Stored storage c = _openChannel(channelId);
        bytes32 digest = getSettleAuthorizationDigest(channelId, cumulativeAmount, nonce, deadline);
        _useNonce(channelId, c.payee, nonce, deadline, digest, payeeSignature);
        _checkVoucher(channelId, c, cumulativeAmount, voucherSignature);
        // effect
        uint128 delta = _settle(channelId, c, cumulativeAmount);
        // interaction
        _pay(c.payee, c.token, delta);
    }

    // ------------------------------------------------------------------------------------------------------------------------ closing

    /// @inheritdoc ISessionEscrow
    function close(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external nonReentrant {
        // check
        Stored storage c = _openChannel(channelId);
        if (msg.sender != c.payee) revert NotPayee(msg.sender);
        // check, effect, interaction
        _close(channelId, c, cumulativeAmount, signature);
    }

    /// @inheritdoc ISessionEscrow
    function closeWithAuthorization(
        bytes32 channelId,
        uint128 cumulativeAmount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata payeeSignature,
        bytes calldata voucherSignature
    ) external nonReentrant {
        // check
        Stored storage c = _openChannel(channelId);
        bytes32 digest = getCloseAuthorizationDigest(channelId, cumulativeAmount, nonce, deadline);
        _useNonce(channelId, c.payee, nonce, deadline, digest, payeeSignature);
        // check, effect, interaction
        _close(channelId, c, cumulativeAmount, voucherSignature);
    }

    /// @inheritdoc ISessionEscrow
    function requestClose(bytes32 channelId) external nonReentrant {
        // check
        Stored storage c = _openChannel(channelId);
        if (msg.sender != c.payer) revert NotPayer(msg.sender);
        if (c.closeRequestedAt != 0) return;
        // effect
        c.closeRequestedAt = uint64(block.timestamp);
        emit CloseRequested(channelId, c.payer, c.payee, block.timestamp + CLOSE_GRACE_PERIOD);
    }

    /// @inheritdoc ISessionEscrow
    function withdraw(bytes32 channelId) external nonReentrant {
        // check
        Stored storage c = _openChannel(channelId);
        if (msg.sender != c.payer) revert NotPayer(msg.sender);
        uint256 requestedAt = c.closeRequestedAt;
        if (requestedAt == 0) revert CloseNotReady(channelId, 0);
        uint256 readyAt = requestedAt + CLOSE_GRACE_PERIOD;
        if (block.timestamp < readyAt) revert CloseNotReady(channelId, readyAt);
        // effect
        uint128 rest = _finalize(channelId, c);
        // interaction
        _pay(c.payer, c.token, rest);
    }

    /// @inheritdoc ISessionEscrow
    function withdrawCredit(address token, address to) external nonReentrant returns (uint256 amount) {
        // check
        amount = credit[msg.sender][token];
        if (amount == 0) revert NothingToWithdraw(msg.sender, token);
        // effect
        delete credit[msg.sender][token];
        emit CreditWithdrawn(msg.sender, token, to, amount);
        // interaction
        IERC20(token).safeTransfer(to, amount);
    }

    // -------------------------------------------------------------------------------------------------------------------------- views

    /// @inheritdoc ISessionEscrow
    function getChannel(bytes32 channelId) public view returns (Channel memory) {
        Stored memory c = _channels[channelId];
        return Channel({
            payer: c.payer,
            payee: c.payee,
            token: c.token,
            authorizedSigner: c.authorizedSigner,
            deposit: c.deposit,
            settled: c.settled,
            closeRequestedAt: c.closeRequestedAt,
            finalized: c.finalized
        });
    }

    /// @inheritdoc ISessionEscrow
    function getChannelsBatch(bytes32[] calldata channelIds) external view returns (Channel[] memory channels) {
        channels = new Channel[](channelIds.length);
        for (uint256 i = 0; i < channelIds.length; ++i) {
            channels[i] = getChannel(channelIds[i]);
        }
    }

    /// @inheritdoc ISessionEscrow
    function computeChannelId(address payer, address payee, address token, bytes32 salt, address authorizedSigner)
        public
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(payer, payee, token, salt, authorizedSigner, address(this), block.chainid));
    }

    /// @inheritdoc ISessionEscrow
    function getVoucherDigest(bytes32 channelId, uint128 cumulativeAmount) external view returns (bytes32) {
        return _voucherDigest(domainSeparator(), channelId, cumulativeAmount);
    }

    /// @inheritdoc ISessionEscrow
    function getSettleAuthorizationDigest(bytes32 channelId, uint128 cumulativeAmount, uint256 nonce, uint256 deadline)
        public
        view
        returns (bytes32)
    {
        return _authorizationDigest(SETTLE_AUTHORIZATION_TYPEHASH, channelId, cumulativeAmount, nonce, deadline);
    }

    /// @inheritdoc ISessionEscrow
    function getCloseAuthorizationDigest(bytes32 channelId, uint128 cumulativeAmount, uint256 nonce, uint256 deadline)
        public
        view
        returns (bytes32)
    {
        return _authorizationDigest(CLOSE_AUTHORIZATION_TYPEHASH, channelId, cumulativeAmount, nonce, deadline);
    }

    /// @inheritdoc ISessionEscrow
    function nonceUsed(bytes32 channelId, uint256 nonce) public view returns (bool) {
        return _usedNonces[channelId][nonce >> 8] & (1 << (nonce & 0xff)) != 0;
    }

    /// @inheritdoc ISessionEscrow
    function domainSeparator() public view returns (bytes32) {
        return TypedData.domainSeparator(NAME, VERSION);
    }

    /// @inheritdoc ISessionEscrow
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

    // ----------------------------------------------------------------------------------------------------------------------- channels

    function _open(address payer, address payee, address token, uint128 deposit, bytes32 salt, address authorizedSigner)
        private
        returns (bytes32 channelId)
    {
        // check
        if (payer == address(0)) revert InvalidPayer();
        if (payee == address(0)) revert InvalidPayee();
        if (deposit == 0) revert ZeroDeposit();
        channelId = computeChannelId(payer, payee, token, salt, authorizedSigner);
        Stored storage c = _channels[channelId];
        if (c.payee != address(0)) revert ChannelAlreadyExists(channelId);
        // effect
        c.payee = payee;
        c.token = token;
        c.payer = payer;
        if (authorizedSigner != address(0)) c.authorizedSigner = authorizedSigner;
        c.deposit = deposit;
        emit ChannelOpened(channelId, payer, payee, token, authorizedSigner, deposit);
    }

    function _topUp(bytes32 channelId, Stored storage c, address from, uint128 additionalDeposit) private {
        // check
        if (additionalDeposit == 0) revert ZeroDeposit();
        uint256 newDeposit = uint256(c.deposit) + additionalDeposit;
        if (newDeposit > type(uint128).max) revert DepositOverflow(newDeposit);
        // effect
        c.deposit = uint128(newDeposit);
        address payer = c.payer;
        if (from == payer && c.closeRequestedAt != 0) {
            c.closeRequestedAt = 0;
            emit CloseRequestCancelled(channelId, payer, c.payee);
        }
        emit TopUp(channelId, payer, c.payee, additionalDeposit, newDeposit);
    }

    function _settle(bytes32 channelId, Stored storage c, uint128 cumulativeAmount) private returns (uint128 delta) {
        delta = cumulativeAmount - c.settled;
        c.settled = cumulativeAmount;
        emit Settled(channelId, c.payer, c.payee, cumulativeAmount, delta, cumulativeAmount);
    }

    function _close(bytes32 channelId, Stored storage c, uint128 cumulativeAmount, bytes calldata signature) private {
        uint128 delta = 0;
        // check, effect; nothing new is nothing to authorise: the payee forfeits
        if (cumulativeAmount > c.settled) {
            _checkVoucher(channelId, c, cumulativeAmount, signature);
            delta = _settle(channelId, c, cumulativeAmount);
        }
        uint128 rest = _finalize(channelId, c);
        // interaction
        _pay(c.payee, c.token, delta);
        _pay(c.payer, c.token, rest);
    }

    function _finalize(bytes32 channelId, Stored storage c) private returns (uint128 rest) {
        rest = c.deposit - c.settled;
        c.finalized = true;
        emit ChannelClosed(channelId, c.payer, c.payee, c.settled, rest);
    }

    function _openChannel(bytes32 channelId) private view returns (Stored storage c) {
        c = _channels[channelId];
        if (c.payee == address(0)) revert ChannelNotFound(channelId);
        if (c.finalized) revert ChannelFinalized(channelId);
    }

    // --------------------------------------------------------------------------------------------------------------------- signatures

    /// @dev Why `settle` would refuse a row, as the error with its arguments; empty when it would not. The order is that of `settle`.
    function _rowRefusal(bytes32 domain, address token, Stored storage c, Settlement calldata row) private view returns (bytes memory) {
        address payee = c.payee;
        if (payee == address(0)) return abi.encodeWithSelector(ChannelNotFound.selector, row.channelId);
        if (c.finalized) return abi.encodeWithSelector(ChannelFinalized.selector, row.channelId);
        if (msg.sender != payee) return abi.encodeWithSelector(NotPayee.selector, msg.sender);
        if (c.token != token) return abi.encodeWithSelector(TokenMismatch.selector, token, c.token);
        return _voucherRefusal(domain, row.channelId, c, row.cumulativeAmount, row.signature, BATCH_SIGNER_GAS);
    }

    function _checkVoucher(bytes32 channelId, Stored storage c, uint128 cumulativeAmount, bytes calldata signature) private view {
        bytes memory refusal = _voucherRefusal(domainSeparator(), channelId, c, cumulativeAmount, signature, type(uint256).max);
        if (refusal.length == 0) return;
        assembly ("memory-safe") {
            revert(add(refusal, 32), mload(refusal))
        }
    }

    function _voucherRefusal(
        bytes32 domain,
        bytes32 channelId,
        Stored storage c,
        uint128 cumulativeAmount,
        bytes calldata signature,
        uint256 signerGas
    ) private view returns (bytes memory refusal) {
        if (cumulativeAmount <= c.settled) {
            return abi.encodeWithSelector(AmountNotIncreasing.selector, c.settled, cumulativeAmount);
        }
        if (cumulativeAmount > c.deposit) return abi.encodeWithSelector(AmountExceedsDeposit.selector, c.deposit, cumulativeAmount);
        address signer = c.authorizedSigner;
        if (signer == address(0)) signer = c.payer;
        if (!_isSignedBy(signer, _voucherDigest(domain, channelId, cumulativeAmount), signature, signerGas)) {
            return abi.encodeWithSelector(InvalidSignature.selector, signer);
        }
    }

    /// @dev The key first, then the contract: an account with a key that takes on code later (EIP-7702) cannot take back what the key signed.
    function _isSignedBy(address signer, bytes32 digest, bytes calldata signature, uint256 signerGas) private view returns (bool valid) {
        (address recovered, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure == ECDSA.RecoverError.NoError && recovered == signer) return true;
        if (signer.code.length == 0) return false;
        bytes memory question = abi.encodeCall(IERC1271.isValidSignature, (digest, signature));
        if (signerGas != type(uint256).max) {
            // All but one 64th can be handed on (EIP-150); a signer must not fail for what the caller left out.
            uint256 needed = signerGas + signerGas / 63 + 5_000;
            if (gasleft() < needed) revert NotEnoughGas(needed, gasleft());
        }
        bytes4 yes = IERC1271.isValidSignature.selector;
        assembly ("memory-safe") {
            // One word of the answer and no more: a long one would cost the caller.
            let answered := staticcall(signerGas, signer, add(question, 32), mload(question), 0, 32)
            valid := and(answered, and(gt(returndatasize(), 31), eq(mload(0), yes)))
        }
    }

    function _useNonce(bytes32 channelId, address payee, uint256 nonce, uint256 deadline, bytes32 digest, bytes calldata payeeSignature)
        private
    {
        // check
        if (block.timestamp > deadline) revert AuthorizationExpired(deadline);
        if (nonceUsed(channelId, nonce)) revert NonceAlreadyUsed(channelId, nonce);
        if (!_isSignedBy(payee, digest, payeeSignature, type(uint256).max)) revert InvalidSignature(payee);
        // effect
        _usedNonces[channelId][nonce >> 8] |= 1 << (nonce & 0xff);
    }

    function _checkNonce(bytes32 expected, bytes32 actual) private pure {
        if (actual != expected) revert NonceMismatch(expected, actual);
    }

    function _voucherDigest(bytes32 domain, bytes32 channelId, uint128 cumulativeAmount) private pure returns (bytes32) {
        return TypedData.digest(domain, keccak256(abi.encode(VOUCHER_TYPEHASH, channelId, cumulativeAmount)));
    }

    function _authorizationDigest(bytes32 typehash, bytes32 channelId, uint128 cumulativeAmount, uint256 nonce, uint256 deadline)
        private
        view
        returns (bytes32)
    {
        return TypedData.digest(domainSeparator(), keccak256(abi.encode(typehash, channelId, cumulativeAmount, nonce, deadline)));
    }

    // ------------------------------------------------------------------------------------------------------------------------- tokens

    /// @dev A payment that is refused becomes a credit. To have one refused for want of gas, a caller would have to make the token use up
    /// 63 times what the credit costs, half a million gas or more: no plain token does.
    function _pay(address to, address token, uint256 amount) private {
        if (amount == 0 || IERC20(token).trySafeTransfer(to, amount)) return;
        credit[to][token] += amount;
        emit CreditAdded(to, token, amount);
    }

    /// @dev Moves base units through an allowance. `from` is the caller.
    function _pull(address from, address token, uint256 amount) private {
        uint256 balance = _balance(token);
        IERC20(token).safeTransferFrom(from, address(this), amount);
        _checkReceived(token, balance, amount);
    }

    function _pullWithAuthorization(
        address from,
        address token,
        uint256 amount,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) private {
        uint256 balance = _balance(token);
        IReceiveWithAuthorization(token).receiveWithAuthorization(from, address(this), amount, validAfter, validBefore, nonce, signature);
        _checkReceived(token, balance, amount);
    }

    function _pullWithPermit2(
        address from,
        address token,
        uint256 amount,
        uint256 nonce,
        uint256 deadline,
        bytes32 witness,
        string memory witnessType,
        bytes calldata signature
    ) private {
        uint256 balance = _balance(token);
        PERMIT2.permitWitnessTransferFrom(
            IPermit2.PermitTransferFrom(IPermit2.TokenPermissions(token, amount), nonce, deadline),
            IPermit2.SignatureTransferDetails(address(this), amount),
            from,
            witness,
            witnessType,
            signature
        );
        _checkReceived(token, balance, amount);
    }

    /// @dev A token that takes a fee, or moves nothing and says nothing, would leave other deposits to pay for this one.
    function _checkReceived(address token, uint256 balanceBefore, uint256 expected) private view {
        uint256 received = Math.saturatingSub(_balance(token), balanceBefore);
        if (received != expected) revert ShortTransfer(expected, received);
    }

    function _balance(address token) private view returns (uint256) {
        return IERC20(token).balanceOf(address(this));
    }
}
