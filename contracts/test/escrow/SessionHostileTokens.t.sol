// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {ISessionEscrow} from "../../src/interfaces/ISessionEscrow.sol";
import {TestUSDT} from "../../src/tokens/TestUSDT.sol";
import {DrainingToken, FalseToken, FeeToken, FreezingToken, GenerousToken, ReentrantToken, SilentToken} from "../tokens/HostileTokens.sol";
import {IMintable} from "../utils/LedgerFixture.sol";
import {SessionFixture} from "../utils/SessionFixture.sol";

contract SessionHostileTokensTest is SessionFixture {
    function _expectOpenReverts(address hostile, bytes memory data) private {
        token = IMintable(hostile);
        _fund(PAYER, address(escrow), 1000);
        vm.expectRevert(data);
        vm.prank(PAYER);
        escrow.open(PAYEE, hostile, 1000, SALT, SIGNER);
        _check(_channelId(PAYER, PAYEE, SALT, SIGNER), 0, 0, false);
    }

    function _short(uint256 received) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ISessionEscrow.ShortTransfer.selector, 1000, received);
    }

    /// @dev E-2.
    function test_ATransferOfAnotherAmountIsRefused() external {
        _expectOpenReverts(address(new FeeToken()), _short(999));
        _expectOpenReverts(address(new GenerousToken()), _short(1001));
        _expectOpenReverts(address(new SilentToken()), _short(0));
        DrainingToken draining = new DrainingToken();
        draining.mint(address(escrow), 7);
        _expectOpenReverts(address(draining), _short(0));
        FalseToken no = new FalseToken();
        _expectOpenReverts(address(no), abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(no)));
    }

    function _expectShort() private {
        vm.expectRevert(_short(0));
        vm.prank(PAYER);
    }

    function _openSignature() private view returns (bytes memory) {
        bytes32 witness = _openWitness(PAYEE, 0, SIGNER);
        return _permit2("ChannelOpenWitness", "(address payee,bytes32 salt,address authorizedSigner)", witness, 1000, 0, PAYER_KEY);
    }

    function test_EveryWayInChecksWhatArrives() external {
        bytes32 id = _open(SALT, 1000);
        _fund(PAYER, address(escrow), 5000);
        _fund(PAYER, address(PERMIT2), 5000);
        bytes memory signature = _openSignature();
        bytes memory topUpSignature = _permit2("ChannelTopUpWitness", "(bytes32 channelId)", _topUpWitness(id), 1000, 1, PAYER_KEY);
        // The token becomes hostile after the channel was opened: it moves nothing and says it did.
        vm.etch(address(token), address(new SilentToken()).code);
        _expectShort();
        escrow.topUp(id, 1000);
        _expectShort();
        escrow.openWithPermit2(PAYEE, address(token), 1000, 0, SIGNER, PAYER, 0, UNTIL, signature);
        _expectShort();
        escrow.topUpWithPermit2(id, 1000, PAYER, 1, UNTIL, topUpSignature);
        bytes32 nonce = keccak256(abi.encode(PAYER, PAYEE, address(token), bytes32(0), SIGNER));
        _expectShort();
        escrow.openWithAuthorization(PAYEE, address(token), 1000, 0, SIGNER, PAYER, 0, UNTIL, nonce, "");
        nonce = keccak256(abi.encode(id, uint128(1000), PAYER, bytes32(0)));
        _expectShort();
        escrow.topUpWithAuthorization(id, 1000, PAYER, 0, 0, UNTIL, nonce, "");
        _check(id, 1000, 0, false);
    }

    function test_ATokenWithoutReturnValuesWorks() external {
        token = IMintable(address(new TestUSDT()));
        bytes32 id = _open(SALT, 1000);
        _settle(id, 300);
        _close(id, 700);
        vm.assertEq(token.balanceOf(PAYEE), 700);
        vm.assertEq(token.balanceOf(PAYER), 300);
    }

    function _checkCredit(address account, uint256 amount) private view {
        vm.assertEq(escrow.credit(account, address(token)), amount);
    }

    /// @dev E-28: a payer that cannot be paid does not stop a close.
    function test_AFrozenPayerStopsNoClose() external {
        FreezingToken freezing = new FreezingToken();
        token = IMintable(address(freezing));
        bytes32 id = _open(SALT, 1000);
        freezing.freeze(PAYER, true);
        bytes memory signature = _voucher(id, 700);
        vm.expectEmit(address(escrow));
        emit ISessionEscrow.CreditAdded(PAYER, address(token), 300);
        vm.prank(PAYEE);
        escrow.close(id, 700, signature);
        vm.assertEq(token.balanceOf(PAYEE), 700);
        _checkCredit(PAYER, 300);

        vm.expectRevert(abi.encodeWithSelector(FreezingToken.Frozen.selector, PAYER));
        vm.prank(PAYER);
        escrow.withdrawCredit(address(token), PAYER);
        _checkCredit(PAYER, 300);
        // Frozen as a receiver, but not as one who says where to.
        vm.expectEmit(address(escrow));
        emit ISessionEscrow.CreditWithdrawn(PAYER, address(token), STRANGER, 300);
        vm.prank(PAYER);
        vm.assertEq(escrow.withdrawCredit(address(token), STRANGER), 300);
        vm.assertEq(token.balanceOf(STRANGER), 300);
        _checkCredit(PAYER, 0);
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.NothingToWithdraw.selector, PAYER, address(token)));
        vm.prank(PAYER);
        escrow.withdrawCredit(address(token), STRANGER);
    }

    /// @dev E-28: a payee that cannot be paid loses nothing to a payer who leaves.
    function test_AFrozenPayeeKeepsWhatItWasOwed() external {
        FreezingToken freezing = new FreezingToken();
        token = IMintable(address(freezing));
        bytes32 a = _open(SALT, 1000);
        bytes32 b = _open(0, 1000);
        freezing.freeze(PAYEE, true);
        _requestClose(a);
        _settle(a, 700);
        ISessionEscrow.Settlement[] memory rows = new ISessionEscrow.Settlement[](1);
        rows[0] = ISessionEscrow.Settlement(b, 50, _voucher(b, 50));
        vm.prank(PAYEE);
        vm.assertEq(escrow.settleMany(address(token), rows), 50);
        _checkCredit(PAYEE, 750);
        vm.warp(START + GRACE);
        _withdraw(a);
        vm.assertEq(token.balanceOf(PAYER), 300);
        freezing.freeze(PAYEE, false);
        vm.prank(PAYEE);
        escrow.withdrawCredit(address(token), PAYEE);
        vm.assertEq(token.balanceOf(PAYEE), 750);
    }

    function test_AFalseAnswerToAPaymentMakesACredit() external {
        bytes32 id = _open(SALT, 1000);
        _requestClose(id);
        vm.warp(START + GRACE);
        bytes memory code = address(token).code;
        vm.etch(address(token), address(new FalseToken()).code);
        _settle(id, 100);
        _withdraw(id);
        _checkCredit(PAYER, 900);
        _checkCredit(PAYEE, 100);
        vm.etch(address(token), code);
        vm.prank(PAYER);
        escrow.withdrawCredit(address(token), PAYER);
        vm.assertEq(token.balanceOf(PAYER), 900);
    }

    /// @dev E-28: whoever sends the transaction cannot make a credit of a payment by leaving out gas.
    function test_TooLittleGasMakesNoCredit() external {
        bytes memory authorization;
        bytes memory voucher;
        bytes32 id = _open(SALT, 1000);
        authorization = _sign(PAYEE_KEY, _authorizationDigest("SettleAuthorization", id, 700, 5, UNTIL));
        voucher = _voucher(id, 700);
        bytes memory call = abi.encodeCall(ISessionEscrow.settleWithAuthorization, (id, 700, 5, UNTIL, authorization, voucher));
        for (uint256 gas = 20_000; gas < 200_000; gas += 1_500) {
            (bool ok,) = address(escrow).call{gas: gas}(call);
            _checkCredit(PAYEE, 0);
            if (ok) {
                vm.assertEq(token.balanceOf(PAYEE), 700);
                return;
            }
        }
        vm.assertTrue(false, "enough gas is enough");
    }

    function _calls(bytes32 id) private view returns (bytes[] memory calls) {
        ISessionEscrow.Settlement[] memory rows = new ISessionEscrow.Settlement[](1);
        rows[0] = ISessionEscrow.Settlement(id, 800, _voucher(id, 800));
        calls = new bytes[](14);
        calls[0] = abi.encodeCall(ISessionEscrow.open, (PAYEE, address(token), 1, SALT, SIGNER));
        calls[1] =
            abi.encodeCall(ISessionEscrow.openWithAuthorization, (PAYEE, address(token), 1, SALT, SIGNER, PAYER, 0, UNTIL, bytes32(0), ""));
        calls[2] = abi.encodeCall(ISessionEscrow.openWithPermit2, (PAYEE, address(token), 1, SALT, SIGNER, PAYER, 0, UNTIL, ""));
        calls[3] = abi.encodeCall(ISessionEscrow.topUp, (id, 1));
        calls[4] = abi.encodeCall(ISessionEscrow.topUpWithAuthorization, (id, 1, PAYER, 0, 0, UNTIL, 0, ""));
        calls[5] = abi.encodeCall(ISessionEscrow.topUpWithPermit2, (id, 1, PAYER, 0, UNTIL, ""));
        calls[6] = abi.encodeCall(ISessionEscrow.settle, (id, 800, _voucher(id, 800)));
        calls[7] = abi.encodeCall(ISessionEscrow.settleMany, (address(token), rows));
        calls[8] = abi.encodeCall(ISessionEscrow.settleWithAuthorization, (id, 800, 0, UNTIL, "", ""));
        calls[9] = abi.encodeCall(ISessionEscrow.close, (id, 0, ""));
        calls[10] = abi.encodeCall(ISessionEscrow.closeWithAuthorization, (id, 0, 0, UNTIL, "", ""));
        calls[11] = abi.encodeCall(ISessionEscrow.requestClose, (id));
        calls[12] = abi.encodeCall(ISessionEscrow.withdraw, (id));
        calls[13] = abi.encodeCall(ISessionEscrow.withdrawCredit, (address(token), STRANGER));
    }

    /// @dev E-11. A payment that the guard refuses is one that the token refuses: it becomes a credit.
    function test_NoFunctionCanBeReentered() external {
        ReentrantToken reentrant = new ReentrantToken();
        token = IMintable(address(reentrant));
        bytes32 id = _open(SALT, 1000);
        _fund(PAYER, address(escrow), 1000);
        bytes[] memory calls = _calls(id);
        bytes memory reentrance = abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        for (uint256 i = 0; i < calls.length; ++i) {
            reentrant.arm(address(escrow), calls[i]);
            vm.expectRevert(reentrance);
            vm.prank(PAYER);
            escrow.topUp(id, 1);
            uint128 total = uint128(i + 1);
            _settle(id, total);
            _checkCredit(PAYEE, total);
            _check(id, 1000, total, false);
            vm.expectRevert(reentrance);
            vm.prank(PAYEE);
            escrow.withdrawCredit(address(token), PAYEE);
        }
        reentrant.arm(address(0), "");
        vm.prank(PAYEE);
        vm.assertEq(escrow.withdrawCredit(address(token), PAYEE), 14);
    }
}
