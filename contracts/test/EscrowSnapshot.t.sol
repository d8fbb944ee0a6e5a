// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ISessionEscrow} from "../src/interfaces/ISessionEscrow.sol";
import {IX402BatchSettlement} from "../src/interfaces/IX402BatchSettlement.sol";
import {SessionFixture} from "./utils/SessionFixture.sol";
import {X402Fixture} from "./utils/X402Fixture.sol";

/// @title Gas of whole transactions (with `--isolate`) and sizes of code of the x402 contracts, kept in `snapshots/`.
contract X402SnapshotTest is X402Fixture {
    function _gas(string memory name) private {
        vm.snapshotGasLastCall("gas", string.concat("x402 ", name));
    }

    function test_Deposits() external {
        token.mint(PAYER, 100e6);
        bytes32 id = _id(_config());
        for (uint256 salt = 0; salt < 2; ++salt) {
            bytes memory signature = _receive(ERC3009_COLLECTOR, 5e6, keccak256(abi.encode(id, salt)));
            vm.prank(STRANGER);
            SETTLEMENT.deposit(_config(), 5e6, ERC3009_COLLECTOR, abi.encode(uint256(0), UNTIL, salt, signature));
            _gas(salt == 0 ? "deposit, EIP-3009, first" : "deposit, EIP-3009, again");
        }
        vm.prank(PAYER);
        token.approve(address(PERMIT2), type(uint256).max);
        bytes32 witness = keccak256(abi.encode(keccak256("DepositWitness(bytes32 channelId)"), id));
        bytes memory permit2 = _permit2(PERMIT2_COLLECTOR, "DepositWitness", "(bytes32 channelId)", witness, 5e6, 1);
        vm.prank(STRANGER);
        SETTLEMENT.deposit(_config(), 5e6, PERMIT2_COLLECTOR, abi.encode(uint256(1), UNTIL, permit2, ""));
        _gas("deposit, Permit2, again");
    }

    /// @dev As in operation: the receiver was paid before, so its totals are not zero; the channels were not claimed from.
    function _claims(uint256 count, string memory name) private {
        IX402BatchSettlement.VoucherClaim[] memory rows = new IX402BatchSettlement.VoucherClaim[](count);
        for (uint256 i = 0; i < count; ++i) {
            _deposit(_config(1000 + i), 5e6);
            rows[i] = _row(_config(1000 + i), 2e6, 1e6);
        }
        bytes memory signature = _sign(RECEIVER_AUTHORIZER_KEY, _batchDigest(rows));
        vm.prank(STRANGER);
        SETTLEMENT.claimWithSignature(rows, signature);
        _gas(name);
    }

    function test_Claims() external {
        _deposit(_config(), 5e6);
        _claim(_row(_config(), 1e6, 1e6));
        _gas("claim 1");
        _claims(1, "claimWithSignature 1");
    }

    function test_ClaimsOfTen() external {
        _deposit(_config(), 5e6);
        _claim(_row(_config(), 1e6, 1e6));
        _claims(10, "claimWithSignature 10");
    }

    function test_ClaimsOfAHundred() external {
        _deposit(_config(), 5e6);
        _claim(_row(_config(), 1e6, 1e6));
        _claims(100, "claimWithSignature 100");
    }

    function test_WaysOut() external {
        bytes32 id = _deposit(_config(), 5e6);
        token.mint(RECEIVER, 1);
        token.mint(PAYER, 1);
        for (uint128 i = 1; i <= 2; ++i) {
            _claim(_row(_config(), i * 1e6, i * 1e6));
            SETTLEMENT.settle(RECEIVER, address(token));
            _gas(i == 1 ? "settle, first" : "settle, again");
        }
        bytes memory signature = _sign(RECEIVER_AUTHORIZER_KEY, _refundDigest(id, 0, 1e6));
        SETTLEMENT.refundWithSignature(_config(), 1e6, 0, signature);
        _gas("refundWithSignature");
        vm.prank(PAYER);
        SETTLEMENT.initiateWithdraw(_config(), 1e6);
        _gas("initiateWithdraw");
        vm.warp(START + DELAY);
        vm.prank(PAYER);
        SETTLEMENT.finalizeWithdraw(_config());
        _gas("finalizeWithdraw");
    }

    function test_Size() external {
        vm.snapshotValue("size", "X402BatchSettlement", address(SETTLEMENT).code.length);
        vm.snapshotValue("size", "ERC3009DepositCollector", ERC3009_COLLECTOR.code.length);
        vm.snapshotValue("size", "Permit2DepositCollector", PERMIT2_COLLECTOR.code.length);
        vm.snapshotValue("size", "X402ExactPermit2Proxy", EXACT_PROXY.code.length);
        // EIP-170.
        vm.assertLe(address(SETTLEMENT).code.length, 24576);
    }
}

/// @title The same of the session escrow.
contract SessionSnapshotTest is SessionFixture {
    function _gas(string memory name) private {
        vm.snapshotGasLastCall("gas", string.concat("session ", name));
    }

    function test_WaysIn() external {
        _open(0, 5e6);
        bytes32 id = _open(SALT, 5e6);
        _gas("open");
        _fund(PAYER, address(escrow), 5e6);
        vm.prank(PAYER);
        escrow.topUp(id, 5e6);
        _gas("topUp");

        token.mint(PAYER, 100e6);
        bytes32 salt = bytes32(uint256(1));
        bytes32 nonce = keccak256(abi.encode(PAYER, PAYEE, address(token), salt, SIGNER));
        bytes memory signature = _receive(PAYER, 5e6, nonce, PAYER_KEY);
        escrow.openWithAuthorization(PAYEE, address(token), 5e6, salt, SIGNER, PAYER, 0, UNTIL, nonce, signature);
        _gas("openWithAuthorization");
        nonce = keccak256(abi.encode(id, uint128(5e6), PAYER, SALT));
        signature = _receive(PAYER, 5e6, nonce, PAYER_KEY);
        escrow.topUpWithAuthorization(id, 5e6, PAYER, SALT, 0, UNTIL, nonce, signature);
        _gas("topUpWithAuthorization");

        vm.prank(PAYER);
        token.approve(address(PERMIT2), type(uint256).max);
        salt = bytes32(uint256(2));
        bytes32 witness = _openWitness(PAYEE, salt, SIGNER);
        signature = _permit2("ChannelOpenWitness", "(address payee,bytes32 salt,address authorizedSigner)", witness, 5e6, 0, PAYER_KEY);
        escrow.openWithPermit2(PAYEE, address(token), 5e6, salt, SIGNER, PAYER, 0, UNTIL, signature);
        _gas("openWithPermit2");
        signature = _permit2("ChannelTopUpWitness", "(bytes32 channelId)", _topUpWitness(id), 5e6, 1, PAYER_KEY);
        escrow.topUpWithPermit2(id, 5e6, PAYER, 1, UNTIL, signature);
        _gas("topUpWithPermit2");
    }

    function test_Settling() external {
        bytes32 id = _open(SALT, 5e6);
        token.mint(PAYEE, 1);
        _settle(id, 1e6);
        _gas("settle, first");
        _settle(id, 2e6);
        _gas("settle, again");
        bytes memory authorization = _sign(PAYEE_KEY, _authorizationDigest("SettleAuthorization", id, 3e6, 5, UNTIL));
        escrow.settleWithAuthorization(id, 3e6, 5, UNTIL, authorization, _voucher(id, 3e6));
        _gas("settleWithAuthorization");
        token.mint(PAYER, 1);
        _close(id, 4e6);
        _gas("close");
        id = _open(0, 5e6);
        _requestClose(id);
        _gas("requestClose");
        vm.warp(START + GRACE);
        _withdraw(id);
        _gas("withdraw");
    }

    function _settleMany(uint256 count, string memory name) private {
        token.mint(PAYEE, 1);
        ISessionEscrow.Settlement[] memory rows = new ISessionEscrow.Settlement[](count);
        for (uint256 i = 0; i < count; ++i) {
            bytes32 id = _open(bytes32(1000 + i), 5e6);
            // Settled before, as channels of a busy payee are.
            _settle(id, 1e6);
            rows[i] = ISessionEscrow.Settlement(id, 2e6, _voucher(id, 2e6));
        }
        vm.prank(PAYEE);
        escrow.settleMany(address(token), rows);
        _gas(name);
    }

    function test_SettleTen() external {
        _settleMany(10, "settleMany 10");
    }

    function test_SettleAHundred() external {
        _settleMany(100, "settleMany 100");
    }

    function test_Size() external {
        vm.snapshotValue("size", "SessionEscrow", address(escrow).code.length);
        // EIP-170.
        vm.assertLe(address(escrow).code.length, 24576);
    }
}
