// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {ILedger} from "../src/interfaces/ILedger.sol";
import {TestUSDT} from "../src/tokens/TestUSDT.sol";
import {DrainingToken, FalseToken, FeeToken, FreezingToken, GenerousToken, ReentrantToken, SilentToken} from "./tokens/HostileTokens.sol";
import {IBookPaths} from "../src/interfaces/IBookPaths.sol";
import {Reference} from "./utils/Reference.sol";
import {RelayFixture} from "./utils/RelayFixture.sol";

contract HostileTokensTest is RelayFixture {
    function _expectOpenReverts(bytes memory data) private {
        _fund(ALICE, 5e6);
        vm.expectRevert(data);
        vm.prank(ALICE);
        ledger.open(_key(0), 0, 5e6);
        vm.assertEq(ledger.queueTail(), 0);
    }

    function _short(uint256 received) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ILedger.ShortTransfer.selector, 5e6, received);
    }

    function test_AFeeOnTransferIsRefused() external {
        _deploy(address(new FeeToken()));
        _expectOpenReverts(_short(5e6 - 1));
    }

    function test_AGiftOnTransferIsRefused() external {
        _deploy(address(new GenerousToken()));
        _expectOpenReverts(_short(5e6 + 1));
    }

    function test_ATransferThatMovesNothingIsRefused() external {
        _deploy(address(new SilentToken()));
        _expectOpenReverts(_short(0));
    }

    function test_ATransferThatTakesIsRefused() external {
        _deploy(address(new DrainingToken()));
        token.mint(address(ledger), 7);
        _expectOpenReverts(_short(0));
    }

    function test_AFalseAnswerIsRefused() external {
        _deploy(address(new FalseToken()));
        _expectOpenReverts(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
    }

    function test_TopUpsAreCheckedToo() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        // The token becomes hostile after the channel was opened.
        vm.etch(address(token), address(new SilentToken()).code);
        vm.expectRevert(_short(0));
        vm.prank(ALICE);
        ledger.topUp(uid, 5e6);
    }

    function test_EveryWayInChecksWhatArrives() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        _fundPermit2(PAYER, 50e6);
        _fund(PAYER, 50e6);
        // The token becomes hostile after the channel was opened: it takes a fee, or moves nothing and says it did.
        address[2] memory hostile = [address(new FeeToken()), address(new SilentToken())];
        uint256[2] memory arrives = [uint256(5e6 - 1), 0];
        bytes memory signature = _permit2(address(ledger), "MillstreamOpen", _uid(), 5e6, 0, UNTIL);
        bytes memory other = _permit2(address(ledger), "MillstreamTopUp", uid, 5e6, 1, UNTIL);
        for (uint256 i = 0; i < 2; ++i) {
            vm.etch(address(token), hostile[i].code);
            vm.startPrank(PAYER);
            vm.expectRevert(_short(arrives[i]));
            ledger.openFor(BOB, _key(0), SALT, 5e6);
            vm.expectRevert(_short(arrives[i]));
            ledger.openWithPermit(PAYER, _key(0), SALT, 5e6, UNTIL, _noPermit(), "");
            vm.expectRevert(_short(arrives[i]));
            ledger.openWithPermit2(PAYER, _key(0), SALT, 5e6, 0, UNTIL, signature);
            vm.expectRevert(_short(arrives[i]));
            ledger.topUpWithPermit(PAYER, uid, 5e6, 0, UNTIL, _noPermit(), "");
            vm.expectRevert(_short(arrives[i]));
            ledger.topUpWithPermit2(PAYER, uid, 5e6, 1, UNTIL, other);
            vm.stopPrank();
        }
        // The authorization of this one passes without a look.
        vm.expectRevert(_short(0));
        ledger.topUpWithAuthorization(PAYER, uid, 5e6, 0, 0, UNTIL, "");
        vm.assertEq(ledger.queueTail(), 1);
        vm.assertEq(ledger.channel(uid).depositNanos, 5e9);
    }

    function test_ATokenWithoutReturnValuesWorks() external {
        _deploy(address(new TestUSDT()));
        uint248 uid = _openIn(BOOK_24, 0, ALICE, 1, 5e6);
        _topUp(BOB, uid, 1e6);
        _register(_registration(BOOK_24, _rows(_row(0, TOUCHED, uid, 1e9, 0))), _oldest(1));
        _settle(_settlement(BOOK_24, 2e9));
        ledger.withdraw(PROVIDER);
        vm.assertEq(token.balanceOf(PROVIDER), 2e6);
    }

    /// @dev L-20: a payout that fails concerns nobody else, and is there when it can be paid.
    function test_AFrozenPayerStopsNobody() external {
        FreezingToken freezing = new FreezingToken();
        _deploy(address(freezing));
        uint248 a = _openIn(BOOK_24, 0, ALICE, 1, 5e6);
        uint248 b = _openIn(BOOK_24, 1, BOB, 1, 5e6);
        freezing.freeze(ALICE, true);
        _requestClose(ALICE, a);
        _requestClose(BOB, b);
        ILedger.Request[] memory requests = _oldest(2);
        requests[1].row = 1;
        _register(_registration(BOOK_24, _rows(_row(0, CLOSED, a, 0, 5e9), _row(1, CLOSED, b, 0, 5e9))), requests);

        ledger.withdraw(BOB);
        vm.expectRevert(abi.encodeWithSelector(FreezingToken.Frozen.selector, ALICE));
        ledger.withdraw(ALICE);
        vm.assertEq(ledger.creditNanos(ALICE), 5e9);
        freezing.freeze(ALICE, false);
        ledger.withdraw(ALICE);
        vm.assertEq(token.balanceOf(ALICE), 5e6);
    }

    /// @dev Leaving a halted ledger moves no token, so no token can stand in its way.
    function test_AFrozenPayerLeavesAHaltedLedger() external {
        FreezingToken freezing = new FreezingToken();
        _deploy(address(freezing));
        uint248 a = _open(ALICE, 1, 5e6);
        uint248 b = _open(BOB, 1, 3e6);
        freezing.freeze(ALICE, true);
        freezing.freeze(PROVIDER, true);
        _halt();
        _cancelOpen(STRANGER, a, 0);
        _cancelOpen(STRANGER, b, 1);
        ledger.withdraw(BOB);
        vm.assertEq(token.balanceOf(BOB), 3e6);
        // Frozen as a receiver, but not as one who says where to.
        vm.prank(ALICE);
        ledger.withdrawTo(STRANGER);
        vm.assertEq(token.balanceOf(STRANGER), 5e6);
    }

    function test_AFalseAnswerToAWithdrawalKeepsTheCredit() external {
        uint248 uid = _openIn(BOOK_24, 0, ALICE, 1, 5e6);
        _settle(_settlement(BOOK_24, 2e9));
        bytes memory code = address(token).code;
        vm.etch(address(token), address(new FalseToken()).code);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        ledger.withdraw(PROVIDER);
        vm.assertEq(ledger.creditNanos(PROVIDER), 2e9);
        // Nobody else's business stands still for it.
        _requestClose(ALICE, uid);
        _register(_registration(BOOK_24, _rows(_row(0, CLOSED, uid, 0, 3e9))), _oldest(1));
        vm.etch(address(token), code);
        ledger.withdraw(PROVIDER);
        ledger.withdraw(ALICE);
        vm.assertEq(token.balanceOf(ALICE), 3e6);
    }

    function test_NoFunctionCanBeReentered() external {
        ReentrantToken reentrant = new ReentrantToken();
        _deploy(address(reentrant));
        uint248 uid = _openIn(BOOK_24, 0, ALICE, 1, 5e6);
        _settle(_settlement(BOOK_24, 2e9));
        // The token itself is operator and payer, so that nothing but the guard stands in its way.
        vm.prank(PROVIDER);
        ledger.setOperator(address(reentrant));
        uint248 own = _openAs(address(reentrant));

        bytes[] memory calls = new bytes[](17);
        IBookPaths.SlotPath memory path;
        calls[0] = abi.encodeCall(ILedger.open, (_key(0), bytes32(uint256(9)), 1e6));
        calls[1] = abi.encodeCall(ILedger.topUp, (uid, 1e6));
        calls[2] = abi.encodeCall(ILedger.requestClose, (own));
        calls[3] = abi.encodeCall(ILedger.withdraw, (PROVIDER));
        calls[4] = abi.encodeCall(ILedger.withdrawTo, (STRANGER));
        calls[5] = abi.encodeCall(ILedger.settle, (Reference.pack(_list(_settlement(BOOK_24, 1))), _noEpochs()));
        calls[6] = abi.encodeCall(ILedger.register, (_list(_registration(BOOK_24, _rows(_row(1, OPENED, own, 1e9, 0)))), _oldest(1)));
        calls[7] = abi.encodeCall(ILedger.openWithAuthorization, (ALICE, _key(0), bytes32(0), 1e6, 0, 0, ""));
        calls[8] = abi.encodeCall(ILedger.openFor, (ALICE, _key(0), bytes32(0), 1e6));
        calls[9] = abi.encodeCall(ILedger.openWithPermit, (address(reentrant), _key(0), 0, 1e6, UNTIL, _noPermit(), ""));
        calls[10] = abi.encodeCall(ILedger.openWithPermit2, (ALICE, _key(0), 0, 1e6, 0, UNTIL, ""));
        calls[11] = abi.encodeCall(ILedger.topUpWithAuthorization, (ALICE, uid, 1e6, 0, 0, UNTIL, ""));
        calls[12] = abi.encodeCall(ILedger.topUpWithPermit, (address(reentrant), uid, 1e6, 0, UNTIL, _noPermit(), ""));
        calls[13] = abi.encodeCall(ILedger.topUpWithPermit2, (ALICE, uid, 1e6, 0, UNTIL, ""));
        calls[14] = abi.encodeCall(ILedger.cancelOpen, (own, 1, _key(0).x, 1e9));
        calls[15] = abi.encodeCall(ILedger.halt, ());
        calls[16] = abi.encodeCall(ILedger.leave, (BOOK_24, path));

        bytes memory reentrance = abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        _fund(BOB, 1e6);
        for (uint256 i = 0; i < calls.length; ++i) {
            reentrant.arm(address(ledger), calls[i]);
            vm.expectRevert(reentrance);
            vm.prank(BOB);
            ledger.topUp(uid, 1e6);
            vm.expectRevert(reentrance);
            ledger.withdraw(PROVIDER);
        }
        reentrant.arm(address(0), "");
        ledger.withdraw(PROVIDER);
        vm.assertEq(token.balanceOf(PROVIDER), 2e6);
    }

    function _openAs(address payer) private returns (uint248) {
        return _open(payer, 3, 1e6);
    }
}
