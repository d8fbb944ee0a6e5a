// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What payers and funders sign for relayed deposits: nonces (EIP-3009), consents (EIP-712) and witnesses (Permit2) that bind a
/// deposit to one channel of one ledger on one chain (L-28).
library Authorization {
    bytes32 private constant OPEN_TYPEHASH = keccak256("MillstreamOpen(uint256 chainId,address ledger,uint256 uid)");
    bytes32 private constant TOP_UP_TYPEHASH = keccak256("MillstreamTopUp(uint256 chainId,address ledger,uint256 uid,bytes32 salt)");

    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant NAME_HASH = keccak256("Millstream Ledger");
    bytes32 private constant VERSION_HASH = keccak256("1");
    bytes32 private constant OPEN_CONSENT_TYPEHASH = keccak256("OpenConsent(address payer,uint248 uid,uint256 baseUnits,uint256 deadline)");
    bytes32 private constant TOP_UP_CONSENT_TYPEHASH =
        keccak256("TopUpConsent(address from,uint248 uid,uint256 baseUnits,bytes32 salt,uint256 deadline)");

    bytes32 private constant OPEN_WITNESS_TYPEHASH = keccak256("MillstreamOpen(uint248 uid)");
    bytes32 private constant TOP_UP_WITNESS_TYPEHASH = keccak256("MillstreamTopUp(uint248 uid)");
    string internal constant OPEN_WITNESS_TYPE =
        "MillstreamOpen witness)MillstreamOpen(uint248 uid)TokenPermissions(address token,uint256 amount)";
    string internal constant TOP_UP_WITNESS_TYPE =
        "MillstreamTopUp witness)MillstreamTopUp(uint248 uid)TokenPermissions(address token,uint256 amount)";

    /// @notice The nonce of an EIP-3009 authorization that opens a channel.
    function openNonce(uint248 uid) internal view returns (bytes32) {
        return keccak256(abi.encode(OPEN_TYPEHASH, block.chainid, address(this), uid));
    }

    /// @notice The nonce of an EIP-3009 authorization that tops up a channel.
    function topUpNonce(uint248 uid, bytes32 salt) internal view returns (bytes32) {
        return keccak256(abi.encode(TOP_UP_TYPEHASH, block.chainid, address(this), uid, salt));
    }

    /// @notice The EIP-712 domain of this ledger. Computed each time: a fork of the chain has another.
    function domainSeparator() internal view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPEHASH, NAME_HASH, VERSION_HASH, block.chainid, address(this)));
    }

    /// @notice The digest that a payer signs so that another may open a channel with its allowance.
    /// @dev The payer is named although the uid binds it: two contract accounts of one owner must not share a signature.
    function openConsent(address payer, uint248 uid, uint256 baseUnits, uint256 deadline) internal view returns (bytes32) {
        return _typed(keccak256(abi.encode(OPEN_CONSENT_TYPEHASH, payer, uid, baseUnits, deadline)));
    }

    /// @notice The digest that a funder signs so that another may top up a channel with its allowance.
    function topUpConsent(address from, uint248 uid, uint256 baseUnits, bytes32 salt, uint256 deadline) internal view returns (bytes32) {
        return _typed(keccak256(abi.encode(TOP_UP_CONSENT_TYPEHASH, from, uid, baseUnits, salt, deadline)));
    }

    /// @notice The witness of a Permit2 transfer that opens a channel.
    function openWitness(uint248 uid) internal pure returns (bytes32) {
        return keccak256(abi.encode(OPEN_WITNESS_TYPEHASH, uid));
    }

    /// @notice The witness of a Permit2 transfer that tops up a channel.
    function topUpWitness(uint248 uid) internal pure returns (bytes32) {
        return keccak256(abi.encode(TOP_UP_WITNESS_TYPEHASH, uid));
    }

    function _typed(bytes32 structHash) private view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domainSeparator(), structHash));
    }
}
