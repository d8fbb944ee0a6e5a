// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {DevPermit2} from "../../src/dev/DevPermit2.sol";
import {ISessionEscrow} from "../../src/interfaces/ISessionEscrow.sol";
import {TestUSDC} from "../../src/tokens/TestUSDC.sol";
import {IMintable} from "./LedgerFixture.sol";
import {TestBase} from "./TestBase.sol";

/// @title The parties of session channels and what they sign. The digests are written out from the texts of EIP-712, not taken from the
/// contracts.
abstract contract SessionParties is TestBase {
    uint256 internal constant START = 1_800_000_000;
    uint256 internal constant UNTIL = START + 600;
    uint64 internal constant GRACE = 900;
    bytes32 internal constant SALT = keccak256("salt");
    DevPermit2 internal constant PERMIT2 = DevPermit2(0x000000000022D473030F116dDEE9F6B43aC78BA3);

    uint256 internal constant PAYER_KEY = 0xa11ce;
    uint256 internal constant SIGNER_KEY = 0x516e;
    uint256 internal constant PAYEE_KEY = 0xbee;

    address internal immutable PAYER = vm.addr(PAYER_KEY);
    address internal immutable SIGNER = vm.addr(SIGNER_KEY);
    address internal immutable PAYEE = vm.addr(PAYEE_KEY);
    address internal immutable STRANGER = _account("stranger");

    ISessionEscrow internal escrow;
    IMintable internal token;

    function _fund(address account, address spender, uint256 amount) internal {
        token.mint(account, amount);
        vm.startPrank(account);
        token.approve(spender, 0);
        token.approve(spender, type(uint256).max);
        vm.stopPrank();
    }

    /// @dev Opens a channel from the payer to the payee, vouchers signed by the signer.
    function _open(bytes32 salt, uint128 amount) internal returns (bytes32) {
        return _open(salt, amount, SIGNER);
    }

    function _open(bytes32 salt, uint128 amount, address signer) internal returns (bytes32) {
        _fund(PAYER, address(escrow), amount);
        vm.prank(PAYER);
        return escrow.open(PAYEE, address(token), amount, salt, signer);
    }

    function _settle(bytes32 id, uint128 cumulative) internal {
        bytes memory signature = _voucher(id, cumulative);
        vm.prank(PAYEE);
        escrow.settle(id, cumulative, signature);
    }

    function _close(bytes32 id, uint128 cumulative) internal {
        bytes memory signature = _voucher(id, cumulative);
        vm.prank(PAYEE);
        escrow.close(id, cumulative, signature);
    }

    function _requestClose(bytes32 id) internal {
        vm.prank(PAYER);
        escrow.requestClose(id);
    }

    function _withdraw(bytes32 id) internal {
        vm.prank(PAYER);
        escrow.withdraw(id);
    }

    function _check(bytes32 id, uint128 deposit, uint128 settled, bool finalized) internal view {
        ISessionEscrow.Channel memory c = escrow.getChannel(id);
        vm.assertEq(c.deposit, deposit);
        vm.assertEq(c.settled, settled);
        vm.assertEq(c.finalized, finalized);
    }

    // ----------------------------------------------------------------------------------------------------------------------- signing

    function _channelId(address payer, address payee, bytes32 salt, address signer) internal view returns (bytes32) {
        return keccak256(abi.encode(payer, payee, address(token), salt, signer, address(escrow), block.chainid));
    }

    function _domain() internal view returns (bytes32) {
        bytes32 typehash = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        return keccak256(abi.encode(typehash, keccak256("EVM Payment Channel"), keccak256("1"), block.chainid, address(escrow)));
    }

    function _digest(bytes32 domain, bytes32 message) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domain, message));
    }

    function _sign(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function _voucherDigest(bytes32 id, uint128 cumulative) internal view returns (bytes32) {
        return _digest(_domain(), keccak256(abi.encode(keccak256("Voucher(bytes32 channelId,uint128 cumulativeAmount)"), id, cumulative)));
    }

    function _voucher(bytes32 id, uint128 cumulative) internal view returns (bytes memory) {
        return _sign(SIGNER_KEY, _voucherDigest(id, cumulative));
    }

    /// @dev `name` is `SettleAuthorization` or `CloseAuthorization`.
    function _authorizationDigest(string memory name, bytes32 id, uint128 cumulative, uint256 nonce, uint256 deadline)
        internal
        view
        returns (bytes32)
    {
        string memory text = string.concat(name, "(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)");
        return _digest(_domain(), keccak256(abi.encode(keccak256(bytes(text)), id, cumulative, nonce, deadline)));
    }

    function _receive(address from, uint256 value, bytes32 nonce, uint256 key) internal view returns (bytes memory) {
        bytes32 typehash = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        bytes32 message = keccak256(abi.encode(typehash, from, address(escrow), value, uint256(0), UNTIL, nonce));
        return _sign(key, _digest(TestUSDC(address(token)).DOMAIN_SEPARATOR(), message));
    }

    function _permit2Domain() private view returns (bytes32) {
        bytes32 typehash = keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)");
        return keccak256(abi.encode(typehash, keccak256("Permit2"), block.chainid, address(PERMIT2)));
    }

    function _permit2Typehash(string memory name, string memory fields) private pure returns (bytes32) {
        return keccak256(
            abi.encodePacked(
                "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,",
                name,
                " witness)",
                name,
                fields,
                "TokenPermissions(address token,uint256 amount)"
            )
        );
    }

    function _permitted(uint256 amount) private view returns (bytes32) {
        return keccak256(abi.encode(keccak256("TokenPermissions(address token,uint256 amount)"), address(token), amount));
    }

    /// @dev `PermitWitnessTransferFrom` to the escrow; `name` and `fields` are the type of the witness, `witness` is its hash.
    function _permit2(string memory name, string memory fields, bytes32 witness, uint256 amount, uint256 nonce, uint256 key)
        internal
        view
        returns (bytes memory)
    {
        bytes32 typehash = _permit2Typehash(name, fields);
        bytes32 message = keccak256(abi.encode(typehash, _permitted(amount), address(escrow), nonce, UNTIL, witness));
        return _sign(key, _digest(_permit2Domain(), message));
    }

    function _openWitness(address payee, bytes32 salt, address signer) internal pure returns (bytes32) {
        return
            keccak256(abi.encode(keccak256("ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)"), payee, salt, signer));
    }

    function _topUpWitness(bytes32 id) internal pure returns (bytes32) {
        return keccak256(abi.encode(keccak256("ChannelTopUpWitness(bytes32 channelId)"), id));
    }
}

/// @title An escrow over TestUSDC.
abstract contract SessionFixture is SessionParties {
    function setUp() public virtual {
        vm.warp(START);
        vm.etch(address(PERMIT2), address(new DevPermit2()).code);
        escrow = ISessionEscrow(vm.deployCode("SessionEscrow.sol:SessionEscrow"));
        token = IMintable(address(new TestUSDC()));
    }
}
