// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {DevPermit2} from "../../src/dev/DevPermit2.sol";
import {ILedger} from "../../src/interfaces/ILedger.sol";
import {TestUSDC} from "../../src/tokens/TestUSDC.sol";
import {LedgerFixture} from "./LedgerFixture.sol";

/// @title A payer who signs, for whom others send the transactions. The digests are written out from the texts of EIP-712, not taken from
/// the contracts.
abstract contract RelayFixture is LedgerFixture {
    uint256 internal constant SIGNER = 0xa11ce;
    bytes32 internal constant SALT = keccak256("salt");
    uint256 internal constant UNTIL = START + 600;
    DevPermit2 internal constant PERMIT2 = DevPermit2(0x000000000022D473030F116dDEE9F6B43aC78BA3);

    address internal immutable PAYER = vm.addr(SIGNER);

    function setUp() public virtual override {
        super.setUp();
        vm.etch(address(PERMIT2), address(new DevPermit2()).code);
    }

    function _uid() internal view returns (uint248) {
        return _uid(PAYER);
    }

    function _uid(address payer) internal view returns (uint248) {
        return ledger.channelUid(payer, _key(0).x, SALT);
    }

    function _sign(bytes32 domain, bytes32 message) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(SIGNER, keccak256(abi.encodePacked(hex"1901", domain, message)));
        return abi.encodePacked(r, s, v);
    }

    function _ledgerDomain(address where) internal view returns (bytes32) {
        bytes32 typehash = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        return keccak256(abi.encode(typehash, keccak256("Millstream Ledger"), keccak256("1"), block.chainid, where));
    }

    function _openConsent(address payer, uint248 uid, uint256 baseUnits, uint256 deadline) internal view returns (bytes memory) {
        bytes32 typehash = keccak256("OpenConsent(address payer,uint248 uid,uint256 baseUnits,uint256 deadline)");
        return _sign(_ledgerDomain(address(ledger)), keccak256(abi.encode(typehash, payer, uid, baseUnits, deadline)));
    }

    function _topUpConsentHash(address from, uint248 uid, uint256 baseUnits, bytes32 salt, uint256 deadline)
        internal
        pure
        returns (bytes32)
    {
        bytes32 typehash = keccak256("TopUpConsent(address from,uint248 uid,uint256 baseUnits,bytes32 salt,uint256 deadline)");
        return keccak256(abi.encode(typehash, from, uid, baseUnits, salt, deadline));
    }

    function _topUpConsent(address from, uint248 uid, uint256 baseUnits, bytes32 salt, uint256 deadline)
        internal
        view
        returns (bytes memory)
    {
        return _sign(_ledgerDomain(address(ledger)), _topUpConsentHash(from, uid, baseUnits, salt, deadline));
    }

    function _permit(address owner, uint256 value, uint256 deadline) internal view returns (ILedger.PermitSignature memory permit) {
        bytes32 typehash = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        TestUSDC usdc = TestUSDC(address(token));
        bytes32 message = keccak256(abi.encode(typehash, owner, address(ledger), value, usdc.nonces(owner), deadline));
        (permit.v, permit.r, permit.s) = vm.sign(SIGNER, keccak256(abi.encodePacked(hex"1901", usdc.DOMAIN_SEPARATOR(), message)));
    }

    function _noPermit() internal pure returns (ILedger.PermitSignature memory permit) {}

    function _receive(address from, uint256 value, bytes32 nonce) internal view returns (bytes memory) {
        bytes32 typehash = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        bytes32 message = keccak256(abi.encode(typehash, from, address(ledger), value, uint256(0), UNTIL, nonce));
        return _sign(TestUSDC(address(token)).DOMAIN_SEPARATOR(), message);
    }

    /// @dev `witness` is the name of its type.
    function _permit2(address spender, string memory witness, uint248 uid, uint256 amount, uint256 nonce, uint256 deadline)
        internal
        view
        returns (bytes memory)
    {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)"),
                keccak256("Permit2"),
                block.chainid,
                address(PERMIT2)
            )
        );
        string memory witnessType = string.concat(witness, "(uint248 uid)");
        bytes32 typehash = keccak256(
            abi.encodePacked(
                "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,",
                witness,
                " witness)",
                witnessType,
                "TokenPermissions(address token,uint256 amount)"
            )
        );
        bytes32 permitted = keccak256(abi.encode(keccak256("TokenPermissions(address token,uint256 amount)"), address(token), amount));
        bytes32 witnessHash = keccak256(abi.encode(keccak256(bytes(witnessType)), uid));
        return _sign(domain, keccak256(abi.encode(typehash, permitted, spender, nonce, deadline, witnessHash)));
    }

    /// @dev Gives the account tokens and lets Permit2 take them.
    function _fundPermit2(address account, uint256 baseUnits) internal {
        token.mint(account, baseUnits);
        vm.prank(account);
        token.approve(address(PERMIT2), type(uint256).max);
    }
}
