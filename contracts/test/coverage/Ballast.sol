// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Groth16Verifier} from "../../src/Groth16Verifier.sol";
import {TestUSDC} from "../../src/tokens/TestUSDC.sol";

/// @title The verifier with ballast, for `npm run coverage` alone.
/// @dev forge tells whose code ran by comparing it with what was compiled, and takes a tenth of it to differ at most. More than that of the
/// verifier is its key, which is put in when it is deployed; of this it is not.
contract BallastVerifier is Groth16Verifier, TestUSDC {
    constructor(uint256[22] memory vk) Groth16Verifier(vk) {}
}
