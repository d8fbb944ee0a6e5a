// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {DevPermit2} from "../../src/dev/DevPermit2.sol";
import {IDepositCollector} from "../../src/interfaces/IDepositCollector.sol";
import {IX402BatchSettlement} from "../../src/interfaces/IX402BatchSettlement.sol";
import {TestUSDC} from "../../src/tokens/TestUSDC.sol";
import {IMintable} from "./LedgerFixture.sol";
import {TestBase} from "./TestBase.sol";

/// @title Moves tokens by a plain allowance, for whoever asks.
contract AllowanceCollector is IDepositCollector {
    using SafeERC20 for IERC20;

    function collect(address payer, address token, uint256 amount, bytes32, bytes calldata) external {
        IERC20(token).safeTransferFrom(payer, msg.sender, amount);
    }
}

/// @title The parties of x402 channels and what they sign. The digests are written out from the texts of EIP-712, not taken from the
/// contracts.
abstract contract X402Parties is TestBase {
    uint256 internal constant START = 1_800_000_000;
    uint256 internal constant UNTIL = START + 600;
    uint40 internal constant DELAY = 900;

    IX402BatchSettlement internal constant SETTLEMENT = IX402BatchSettlement(0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003);
    address internal constant ERC3009_COLLECTOR = 0x4020806089470a89826cB9fB1f4059150b550004;
    address internal constant PERMIT2_COLLECTOR = 0x4020425FAf3B746C082C2f942b4E5159887B0005;
    address internal constant EXACT_PROXY = 0x402085c248EeA27D92E8b30b2C58ed07f9E20001;
    DevPermit2 internal constant PERMIT2 = DevPermit2(0x000000000022D473030F116dDEE9F6B43aC78BA3);

    uint256 internal constant PAYER_KEY = 0x1111111111111111111111111111111111111111111111111111111111111111;
    uint256 internal constant PAYER_AUTHORIZER_KEY = 0x2222222222222222222222222222222222222222222222222222222222222222;
    uint256 internal constant RECEIVER_AUTHORIZER_KEY = 0x3333333333333333333333333333333333333333333333333333333333333333;

    address internal immutable PAYER = vm.addr(PAYER_KEY);
    address internal immutable PAYER_AUTHORIZER = vm.addr(PAYER_AUTHORIZER_KEY);
    address internal immutable RECEIVER_AUTHORIZER = vm.addr(RECEIVER_AUTHORIZER_KEY);
    address internal immutable RECEIVER = _account("receiver");
    address internal immutable STRANGER = _account("stranger");

    IMintable internal token;
    AllowanceCollector internal collector;

    // ----------------------------------------------------------------------------------------------------------------------- channels

    function _config() internal view returns (IX402BatchSettlement.ChannelConfig memory) {
        return _config(1);
    }

    function _config(uint256 salt) internal view returns (IX402BatchSettlement.ChannelConfig memory) {
        return IX402BatchSettlement.ChannelConfig({
            payer: PAYER,
            payerAuthorizer: PAYER_AUTHORIZER,
            receiver: RECEIVER,
            receiverAuthorizer: RECEIVER_AUTHORIZER,
            token: address(token),
            withdrawDelay: DELAY,
            salt: bytes32(salt)
        });
    }

    function _fund(address payer, address spender, uint256 amount) internal {
        token.mint(payer, amount);
        vm.startPrank(payer);
        token.approve(spender, 0);
        token.approve(spender, type(uint256).max);
        vm.stopPrank();
    }

    function _deposit(IX402BatchSettlement.ChannelConfig memory config, uint128 amount) internal returns (bytes32) {
        _fund(config.payer, address(collector), amount);
        vm.prank(STRANGER);
        SETTLEMENT.deposit(config, amount, address(collector), "");
        return _id(config);
    }

    function _check(bytes32 id, uint128 balance, uint128 claimed) internal view {
        (uint128 actualBalance, uint128 actualClaimed) = SETTLEMENT.channels(id);
        vm.assertEq(actualBalance, balance);
        vm.assertEq(actualClaimed, claimed);
    }

    function _checkPending(bytes32 id, uint128 amount, uint40 initiatedAt) internal view {
        (uint128 actualAmount, uint40 actualAt) = SETTLEMENT.pendingWithdrawals(id);
        vm.assertEq(actualAmount, amount);
        vm.assertEq(actualAt, initiatedAt);
    }

    // ------------------------------------------------------------------------------------------------------------------------ digests

    function _domain() internal view returns (bytes32) {
        bytes32 typehash = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        return keccak256(abi.encode(typehash, keccak256("x402 Batch Settlement"), keccak256("1"), block.chainid, address(SETTLEMENT)));
    }

    function _digest(bytes32 domain, bytes32 message) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domain, message));
    }

    function _id(IX402BatchSettlement.ChannelConfig memory c) internal view returns (bytes32) {
        bytes32 typehash = keccak256(
            "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
        );
        return _digest(
            _domain(),
            keccak256(abi.encode(typehash, c.payer, c.payerAuthorizer, c.receiver, c.receiverAuthorizer, c.token, c.withdrawDelay, c.salt))
        );
    }

    function _voucherDigest(bytes32 id, uint128 ceiling) internal view returns (bytes32) {
        return _digest(_domain(), keccak256(abi.encode(keccak256("Voucher(bytes32 channelId,uint128 maxClaimableAmount)"), id, ceiling)));
    }

    function _refundDigest(bytes32 id, uint256 nonce, uint128 amount) internal view returns (bytes32) {
        return
            _digest(
                _domain(), keccak256(abi.encode(keccak256("Refund(bytes32 channelId,uint256 nonce,uint128 amount)"), id, nonce, amount))
            );
    }

    function _batchDigest(IX402BatchSettlement.VoucherClaim[] memory rows) internal view returns (bytes32) {
        bytes memory entries;
        for (uint256 i = 0; i < rows.length; ++i) {
            entries = abi.encodePacked(
                entries,
                keccak256(
                    abi.encode(
                        keccak256("ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"),
                        _id(rows[i].voucher.channel),
                        rows[i].voucher.maxClaimableAmount,
                        rows[i].totalClaimed
                    )
                )
            );
        }
        bytes32 typehash =
            keccak256("ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)");
        return _digest(_domain(), keccak256(abi.encode(typehash, keccak256(entries))));
    }

    function _sign(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    // ------------------------------------------------------------------------------------------------------------------------- claims

    /// @dev A row with a voucher up to `ceiling`, signed by `key`.
    function _row(IX402BatchSettlement.ChannelConfig memory config, uint128 ceiling, uint128 claimed, uint256 key)
        internal
        view
        returns (IX402BatchSettlement.VoucherClaim memory row)
    {
        row.voucher = IX402BatchSettlement.Voucher(config, ceiling);
        row.signature = _sign(key, _voucherDigest(_id(config), ceiling));
        row.totalClaimed = claimed;
    }

    function _row(IX402BatchSettlement.ChannelConfig memory config, uint128 ceiling, uint128 claimed)
        internal
        view
        returns (IX402BatchSettlement.VoucherClaim memory)
    {
        return _row(config, ceiling, claimed, PAYER_AUTHORIZER_KEY);
    }

    function _rows(IX402BatchSettlement.VoucherClaim memory a) internal pure returns (IX402BatchSettlement.VoucherClaim[] memory rows) {
        rows = new IX402BatchSettlement.VoucherClaim[](1);
        rows[0] = a;
    }

    function _rows(IX402BatchSettlement.VoucherClaim memory a, IX402BatchSettlement.VoucherClaim memory b)
        internal
        pure
        returns (IX402BatchSettlement.VoucherClaim[] memory rows)
    {
        rows = new IX402BatchSettlement.VoucherClaim[](2);
        (rows[0], rows[1]) = (a, b);
    }

    function _claim(IX402BatchSettlement.VoucherClaim memory row) internal {
        IX402BatchSettlement.VoucherClaim[] memory rows = _rows(row);
        vm.prank(RECEIVER);
        SETTLEMENT.claim(rows);
    }

    // ------------------------------------------------------------------------------------------------------------------- what others sign

    /// @dev `ReceiveWithAuthorization` of the payer to `to`, in the domain of the token.
    function _receive(address to, uint256 value, bytes32 nonce) internal view returns (bytes memory) {
        bytes32 typehash = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        bytes32 message = keccak256(abi.encode(typehash, PAYER, to, value, uint256(0), UNTIL, nonce));
        return _sign(PAYER_KEY, _digest(TestUSDC(address(token)).DOMAIN_SEPARATOR(), message));
    }

    /// @dev An EIP-2612 permit of the payer for Permit2.
    function _permit(uint256 value) internal view returns (uint8 v, bytes32 r, bytes32 s) {
        bytes32 typehash = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        TestUSDC usdc = TestUSDC(address(token));
        bytes32 message = keccak256(abi.encode(typehash, PAYER, address(PERMIT2), value, usdc.nonces(PAYER), UNTIL));
        return vm.sign(PAYER_KEY, _digest(usdc.DOMAIN_SEPARATOR(), message));
    }

    function _permit2Domain() private view returns (bytes32) {
        bytes32 typehash = keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)");
        return keccak256(abi.encode(typehash, keccak256("Permit2"), block.chainid, address(PERMIT2)));
    }

    function _permit2Typehash(string memory name, string memory fields) private pure returns (bytes32) {
        string memory permissions = "TokenPermissions(address token,uint256 amount)";
        string memory definition = string.concat(name, fields);
        // The definitions stand in the order of their names.
        string memory definitions = bytes(name)[0] < "T" ? string.concat(definition, permissions) : string.concat(permissions, definition);
        return keccak256(
            abi.encodePacked(
                "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,",
                name,
                " witness)",
                definitions
            )
        );
    }

    function _permitted(uint256 amount) private view returns (bytes32) {
        return keccak256(abi.encode(keccak256("TokenPermissions(address token,uint256 amount)"), address(token), amount));
    }

    /// @dev `PermitWitnessTransferFrom` of the payer; `name` and `fields` are the type of the witness, `witness` is its hash.
    function _permit2(address spender, string memory name, string memory fields, bytes32 witness, uint256 amount, uint256 nonce)
        internal
        view
        returns (bytes memory)
    {
        bytes32 typehash = _permit2Typehash(name, fields);
        bytes32 message = keccak256(abi.encode(typehash, _permitted(amount), spender, nonce, UNTIL, witness));
        return _sign(PAYER_KEY, _digest(_permit2Domain(), message));
    }
}

/// @title The x402 contracts at their canonical addresses.
abstract contract X402Fixture is X402Parties {
    function setUp() public virtual {
        vm.warp(START);
        _place();
        token = IMintable(address(new TestUSDC()));
        collector = new AllowanceCollector();
    }

    /// @dev As a development chain is given them: the code that a constructor leaves, put at the address.
    function _place() internal {
        vm.etch(address(PERMIT2), address(new DevPermit2()).code);
        vm.etch(address(SETTLEMENT), vm.deployCode("X402BatchSettlement.sol:X402BatchSettlement").code);
        bytes memory arguments = abi.encode(SETTLEMENT);
        vm.etch(ERC3009_COLLECTOR, vm.deployCode("ERC3009DepositCollector.sol:ERC3009DepositCollector", arguments).code);
        arguments = abi.encode(SETTLEMENT, PERMIT2);
        vm.etch(PERMIT2_COLLECTOR, vm.deployCode("Permit2DepositCollector.sol:Permit2DepositCollector", arguments).code);
        vm.etch(EXACT_PROXY, vm.deployCode("X402ExactPermit2Proxy.sol:X402ExactPermit2Proxy", abi.encode(PERMIT2)).code);
    }
}
