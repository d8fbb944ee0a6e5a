// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";

import {DevPermit2} from "../../src/dev/DevPermit2.sol";
import {IDepositCollector} from "../../src/interfaces/IDepositCollector.sol";
import {IX402BatchSettlement} from "../../src/interfaces/IX402BatchSettlement.sol";
import {TestUSDC} from "../../src/tokens/TestUSDC.sol";
import {TestUSDT} from "../../src/tokens/TestUSDT.sol";
import {DepositCollector} from "../../src/x402/DepositCollector.sol";
import {ERC3009DepositCollector} from "../../src/x402/ERC3009DepositCollector.sol";
import {Permit2DepositCollector} from "../../src/x402/Permit2DepositCollector.sol";
import {ContractAccount} from "../utils/ContractAccount.sol";
import {IMintable} from "../utils/LedgerFixture.sol";
import {X402Fixture} from "../utils/X402Fixture.sol";

contract X402CollectorsTest is X402Fixture {
    uint256 private constant SALT = 77;

    function _send(address by, uint128 amount, bytes memory data) private {
        vm.prank(STRANGER);
        SETTLEMENT.deposit(_config(), amount, by, data);
    }

    function _checkMoved(uint128 amount) private view {
        _check(_id(_config()), amount, 0);
        vm.assertEq(token.balanceOf(address(SETTLEMENT)), amount);
        vm.assertEq(token.balanceOf(ERC3009_COLLECTOR), 0);
        vm.assertEq(token.balanceOf(PERMIT2_COLLECTOR), 0);
    }

    function test_RevertWhen_DeployedForNobody() external {
        vm.expectRevert(DepositCollector.InvalidSettlement.selector);
        new ERC3009DepositCollector(address(0));
        vm.expectRevert(DepositCollector.InvalidSettlement.selector);
        new Permit2DepositCollector(address(0), address(PERMIT2));
        vm.expectRevert(Permit2DepositCollector.InvalidPermit2.selector);
        new Permit2DepositCollector(address(SETTLEMENT), address(0));
        vm.assertEq(ERC3009DepositCollector(ERC3009_COLLECTOR).SETTLEMENT(), address(SETTLEMENT));
        vm.assertEq(Permit2DepositCollector(PERMIT2_COLLECTOR).SETTLEMENT(), address(SETTLEMENT));
        vm.assertEq(address(Permit2DepositCollector(PERMIT2_COLLECTOR).PERMIT2()), address(PERMIT2));
    }

    /// @dev E-12: whoever sees a signature in the pool could have its tokens sent to itself.
    function test_RevertWhen_TheCallerIsNotTheSettlementContract() external {
        token.mint(PAYER, 1000);
        bytes32 id = _id(_config());
        bytes memory data = abi.encode(uint256(0), UNTIL, SALT, _receive(ERC3009_COLLECTOR, 1000, keccak256(abi.encode(id, SALT))));
        address[2] memory collectors = [ERC3009_COLLECTOR, PERMIT2_COLLECTOR];
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(DepositCollector.OnlySettlement.selector, STRANGER));
            vm.prank(STRANGER);
            IDepositCollector(collectors[i]).collect(PAYER, address(token), 1000, id, data);
        }
        _send(ERC3009_COLLECTOR, 1000, data);
        _checkMoved(1000);
    }

    // -------------------------------------------------------------------------------------------------------------------------- 3009

    function _authorization(bytes32 id, uint256 value) private view returns (bytes memory) {
        return abi.encode(uint256(0), UNTIL, SALT, _receive(ERC3009_COLLECTOR, value, keccak256(abi.encode(id, SALT))));
    }

    function test_AnAuthorizationDeposits() external {
        token.mint(PAYER, 3000);
        bytes32 id = _id(_config());
        bytes memory data = _authorization(id, 1000);
        _send(ERC3009_COLLECTOR, 1000, data);
        _checkMoved(1000);
        // Once; another salt is another authorization.
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, PAYER, keccak256(abi.encode(id, SALT))));
        _send(ERC3009_COLLECTOR, 1000, data);
        bytes memory signature = _receive(ERC3009_COLLECTOR, 500, keccak256(abi.encode(id, uint256(1))));
        _send(ERC3009_COLLECTOR, 500, abi.encode(uint256(0), UNTIL, uint256(1), signature));
        _checkMoved(1500);
    }

    function test_RevertWhen_TheAuthorizationIsForAnotherDeposit() external {
        token.mint(PAYER, 3000);
        bytes memory data = _authorization(_id(_config()), 1000);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        _send(ERC3009_COLLECTOR, 1001, data);
        data = _authorization(_id(_config(2)), 1000);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        _send(ERC3009_COLLECTOR, 1000, data);
        data = _authorization(_id(_config()), 1000);
        vm.warp(UNTIL);
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009InvalidAuthorizationTime.selector, 0, UNTIL));
        _send(ERC3009_COLLECTOR, 1000, data);
        vm.expectRevert();
        _send(ERC3009_COLLECTOR, 1000, "");
        _checkMoved(0);
    }

    function test_AContractAccountAuthorizes() external {
        IX402BatchSettlement.ChannelConfig memory config = _config();
        config.payer = address(new ContractAccount(PAYER));
        token.mint(config.payer, 1000);
        bytes32 nonce = keccak256(abi.encode(_id(config), SALT));
        bytes32 typehash = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        bytes32 message = keccak256(abi.encode(typehash, config.payer, ERC3009_COLLECTOR, uint256(1000), uint256(0), UNTIL, nonce));
        bytes memory signature = _sign(PAYER_KEY, _digest(TestUSDC(address(token)).DOMAIN_SEPARATOR(), message));
        SETTLEMENT.deposit(config, 1000, ERC3009_COLLECTOR, abi.encode(uint256(0), UNTIL, SALT, signature));
        _check(_id(config), 1000, 0);
    }

    // ------------------------------------------------------------------------------------------------------------------------ permit2

    function _permit2Data(address spender, string memory name, bytes32 id, uint256 amount, uint256 nonce, bytes memory permit)
        private
        view
        returns (bytes memory)
    {
        bytes32 witness = keccak256(abi.encode(keccak256(bytes(string.concat(name, "(bytes32 channelId)"))), id));
        return abi.encode(nonce, UNTIL, _permit2(spender, name, "(bytes32 channelId)", witness, amount, nonce), permit);
    }

    function _permit2Data(bytes32 id, uint256 amount, uint256 nonce, bytes memory permit) private view returns (bytes memory) {
        return _permit2Data(PERMIT2_COLLECTOR, "DepositWitness", id, amount, nonce, permit);
    }

    function test_APermit2SignatureDeposits() external {
        _fund(PAYER, address(PERMIT2), 3000);
        bytes memory data = _permit2Data(_id(_config()), 1000, 5, "");
        _send(PERMIT2_COLLECTOR, 1000, data);
        _checkMoved(1000);
        vm.expectRevert(DevPermit2.InvalidNonce.selector);
        _send(PERMIT2_COLLECTOR, 1000, data);
    }

    function test_ATokenWithoutPermitsDepositsByPermit2() external {
        token = IMintable(address(new TestUSDT()));
        _fund(PAYER, address(PERMIT2), 3000);
        // There is no `permit` in this token; one that comes along is passed over.
        bytes memory permit = abi.encode(uint256(1000), UNTIL, uint8(27), bytes32(0), bytes32(0));
        _send(PERMIT2_COLLECTOR, 1000, _permit2Data(_id(_config()), 1000, 5, permit));
        _checkMoved(1000);
    }

    function test_RevertWhen_ThePermit2SignatureIsForAnotherDeposit() external {
        _fund(PAYER, address(PERMIT2), 3000);
        bytes32 id = _id(_config());
        bytes[5] memory data = [
            _permit2Data(_id(_config(2)), 1000, 0, ""),
            _permit2Data(id, 999, 0, ""),
            _permit2Data(STRANGER, "DepositWitness", id, 1000, 0, ""),
            _permit2Data(PERMIT2_COLLECTOR, "Deposit", id, 1000, 0, ""),
            abi.encode(uint256(0), UNTIL + 1, abi.decode(_slice(_permit2Data(id, 1000, 0, "")), (bytes)), "")
        ];
        for (uint256 i = 0; i < 5; ++i) {
            vm.expectRevert(DevPermit2.InvalidSigner.selector);
            _send(PERMIT2_COLLECTOR, 1000, data[i]);
        }
        _checkMoved(0);
    }

    /// @dev The signature in data for the collector, encoded alone.
    function _slice(bytes memory data) private pure returns (bytes memory) {
        (,, bytes memory signature,) = abi.decode(data, (uint256, uint256, bytes, bytes));
        return abi.encode(signature);
    }

    function test_APermitGivesTheAllowance() external {
        token.mint(PAYER, 3000);
        (uint8 v, bytes32 r, bytes32 s) = _permit(1000);
        bytes memory permit = abi.encode(uint256(1000), UNTIL, v, r, s);
        _send(PERMIT2_COLLECTOR, 1000, _permit2Data(_id(_config()), 1000, 0, permit));
        _checkMoved(1000);
        // Presented before, so refused, and there is no allowance left.
        bytes memory data = _permit2Data(_id(_config()), 1000, 1, permit);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, PERMIT2, 0, 1000));
        _send(PERMIT2_COLLECTOR, 1000, data);
        vm.prank(PAYER);
        token.approve(address(PERMIT2), 1000);
        _send(PERMIT2_COLLECTOR, 1000, data);
        _checkMoved(2000);
    }
}
