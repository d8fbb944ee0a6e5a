// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title EIP-712 for contracts whose code may be put at an address that it was not made for: nothing is cached.
library TypedData {
    /// @notice What `eip712Domain` (EIP-5267) says of the fields in use: name, version, chain and contract.
    bytes1 internal constant DOMAIN_FIELDS = 0x0f;

    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    /// @notice The domain of the running contract. Computed each time: a fork of the chain has another.
    function domainSeparator(string memory name, string memory version) internal view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPEHASH, keccak256(bytes(name)), keccak256(bytes(version)), block.chainid, address(this)));
    }

    /// @notice What is signed: `0x19 0x01 ‖ domain ‖ struct hash`.
    function digest(bytes32 domain, bytes32 structHash) internal pure returns (bytes32 result) {
        assembly ("memory-safe") {
            let at := mload(0x40)
            mstore(at, hex"1901")
            mstore(add(at, 2), domain)
            mstore(add(at, 34), structHash)
            result := keccak256(at, 66)
        }
    }
}
