// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Vm} from "./Vm.sol";

/// @title What every test needs: the cheat codes.
abstract contract TestBase {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    /// @dev `value` folded into `[low, high]`.
    function _bound(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        if (low == 0 && high == type(uint256).max) return value;
        return low + value % (high - low + 1);
    }

    /// @dev The verifier to deploy: that of `src`, unless lines are counted (`test/coverage`).
    function _verifierArtifact() internal view returns (string memory) {
        return vm.envOr("VERIFIER_ARTIFACT", "Groth16Verifier.sol:Groth16Verifier");
    }

    function _account(string memory name) internal pure returns (address) {
        return address(uint160(uint256(keccak256(bytes(name)))));
    }
}
