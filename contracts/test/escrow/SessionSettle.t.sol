// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {ISessionEscrow} from "../../src/interfaces/ISessionEscrow.sol";
import {TestUSDC} from "../../src/tokens/TestUSDC.sol";
import {ContractAccount} from "../utils/ContractAccount.sol";
import {IMintable} from "../utils/LedgerFixture.sol";
import {SessionFixture} from "../utils/SessionFixture.sol";

/// @title Signs nothing, and takes all the gas it is given to say so.
contract WastefulSigner {
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        while (true) {}
        return 0;
    }
}

/// @title Answers a question with a megabyte.
contract VerboseSigner {
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        assembly {
            mstore(0, shl(224, 0x1626ba7e))
            return(0, 100000)
        }
    }
}

contract SessionSettleTest is SessionFixture {
    bytes32 private _channel;

    function setUp() public override {
        super.setUp();
        _channel = _open(SALT, 1000);
    }

    function _expect(bytes memory error, address caller, bytes32 id, uint128 cumulative, bytes memory signature) private {
        vm.expectRevert(error);
        vm.prank(caller);
        escrow.settle(id, cumulative, signature);
    }

    function _invalid(address signer) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ISessionEscrow.InvalidSignature.selector, signer);
    }

    // ------------------------------------------------------------------------------------------------------------------------- settle

    function test_ThePayeeIsPaidWhatAVoucherAdds() external {
        bytes memory signature = _voucher(_channel, 700);
        vm.expectEmit(address(escrow));
        emit ISessionEscrow.Settled(_channel, PAYER, PAYEE, 700, 700, 700);
        vm.prank(PAYEE);
        escrow.settle(_channel, 700, signature);
        vm.assertEq(token.balanceOf(PAYEE), 700);
        _settle(_channel, 1000);
        vm.assertEq(token.balanceOf(PAYEE), 1000);
        _check(_channel, 1000, 1000, false);
    }

    function test_RevertWhen_SettleRefuses() external {
        bytes memory good = _voucher(_channel, 700);
        bytes32 none = keccak256("none");
        _expect(abi.encodeWithSelector(ISessionEscrow.ChannelNotFound.selector, none), PAYEE, none, 700, good);
        _expect(abi.encodeWithSelector(ISessionEscrow.NotPayee.selector, PAYER), PAYER, _channel, 700, good);
        _expect(abi.encodeWithSelector(ISessionEscrow.AmountNotIncreasing.selector, 0, 0), PAYEE, _channel, 0, good);
        _expect(abi.encodeWithSelector(ISessionEscrow.AmountExceedsDeposit.selector, 1000, 1001), PAYEE, _channel, 1001, good);
        _expect(_invalid(SIGNER), PAYEE, _channel, 701, good);
        _settle(_channel, 700);
        _expect(abi.encodeWithSelector(ISessionEscrow.AmountNotIncreasing.selector, 700, 700), PAYEE, _channel, 700, good);
        _close(_channel, 0);
        _expect(abi.encodeWithSelector(ISessionEscrow.ChannelFinalized.selector, _channel), PAYEE, _channel, 800, good);
    }

    function test_RevertWhen_TheVoucherIsNotTheSigners() external {
        bytes32 digest = _voucherDigest(_channel, 700);
        _expect(_invalid(SIGNER), PAYEE, _channel, 700, _sign(PAYER_KEY, digest));
        _expect(_invalid(SIGNER), PAYEE, _channel, 700, _voucher(_open(0, 1000), 700));
        _expect(_invalid(SIGNER), PAYEE, _channel, 700, "");
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(SIGNER_KEY, digest);
        uint256 order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
        _expect(_invalid(SIGNER), PAYEE, _channel, 700, abi.encodePacked(r, order - uint256(s), v == 27 ? uint8(28) : uint8(27)));
        bytes memory good = _voucher(_channel, 700);
        vm.chainId(1);
        _expect(_invalid(SIGNER), PAYEE, _channel, 700, good);
    }

    /// @dev E-25.
    function test_WithoutAnAuthorizedSignerThePayerSigns() external {
        bytes32 id = _open(0, 1000, address(0));
        _expect(_invalid(PAYER), PAYEE, id, 700, _voucher(id, 700));
        bytes memory signature = _sign(PAYER_KEY, _voucherDigest(id, 700));
        vm.prank(PAYEE);
        escrow.settle(id, 700, signature);
        vm.assertEq(token.balanceOf(PAYEE), 700);
    }

    /// @dev E-25.
    function test_AContractMaySign() external {
        address signer = address(new ContractAccount(SIGNER));
        bytes32 id = _open(0, 1000, signer);
        _expect(_invalid(signer), PAYEE, id, 700, _sign(PAYER_KEY, _voucherDigest(id, 700)));
        _settle(id, 700);
        vm.assertEq(token.balanceOf(PAYEE), 700);
    }

    /// @dev E-25: an account that takes on code (EIP-7702) cannot take back what its key signed.
    function test_CodeDoesNotVoidASignatureOfTheKey() external {
        bytes memory signature = _voucher(_channel, 700);
        vm.etch(SIGNER, hex"5f5ffd");
        vm.prank(PAYEE);
        escrow.settle(_channel, 700, signature);
        vm.assertEq(token.balanceOf(PAYEE), 700);
    }

    function test_APendingCloseDoesNotStopSettling() external {
        _requestClose(_channel);
        _settle(_channel, 300);
        vm.warp(START + GRACE + 1);
        _settle(_channel, 700);
        _withdraw(_channel);
        vm.assertEq(token.balanceOf(PAYEE), 700);
        vm.assertEq(token.balanceOf(PAYER), 300);
    }

    // --------------------------------------------------------------------------------------------------------------------- settleMany

    function _rowOf(bytes32 id, uint128 cumulative) private view returns (ISessionEscrow.Settlement memory) {
        return ISessionEscrow.Settlement(id, cumulative, _voucher(id, cumulative));
    }

    function _many(ISessionEscrow.Settlement[] memory rows) private returns (uint256) {
        vm.prank(PAYEE);
        return escrow.settleMany(address(token), rows);
    }

    function test_RevertWhen_ThereAreNoRows() external {
        vm.expectRevert(ISessionEscrow.EmptyBatch.selector);
        _many(new ISessionEscrow.Settlement[](0));
    }

    /// @dev E-29.
    function test_ManyChannelsArePaidInOneTransfer() external {
        ISessionEscrow.Settlement[] memory rows = new ISessionEscrow.Settlement[](4);
        rows[0] = _rowOf(_channel, 100);
        rows[1] = _rowOf(_open(bytes32(uint256(1)), 1000), 20);
        rows[2] = _rowOf(_open(bytes32(uint256(2)), 1000), 3);
        rows[3] = _rowOf(_channel, 600);
        vm.expectCall(address(token), abi.encodeCall(IERC20.transfer, (PAYEE, 623)), 1);
        vm.expectCall(address(token), abi.encodePacked(IERC20.transfer.selector), 1);
        vm.assertEq(_many(rows), 623);
        vm.assertEq(token.balanceOf(PAYEE), 623);
        _check(_channel, 1000, 600, false);
    }

    /// @dev E-29: whatever settle refuses, and nothing else stops.
    function test_ABadRowIsPassedOverAndTold() external {
        bytes32 closed = _open(bytes32(uint256(1)), 1000);
        _close(closed, 0);
        _fund(PAYER, address(escrow), 1000);
        vm.prank(PAYER);
        bytes32 strangers = escrow.open(STRANGER, address(token), 1000, SALT, SIGNER);
        IMintable first = token;
        token = IMintable(address(new TestUSDC()));
        bytes32 otherToken = _open(SALT, 1000);
        token = first;

        ISessionEscrow.Settlement[] memory rows = new ISessionEscrow.Settlement[](9);
        bytes4[9] memory reasons = [
            ISessionEscrow.ChannelNotFound.selector,
            ISessionEscrow.ChannelFinalized.selector,
            ISessionEscrow.NotPayee.selector,
            ISessionEscrow.TokenMismatch.selector,
            ISessionEscrow.AmountNotIncreasing.selector,
            ISessionEscrow.AmountExceedsDeposit.selector,
            ISessionEscrow.InvalidSignature.selector,
            bytes4(0),
            ISessionEscrow.AmountNotIncreasing.selector
        ];
        rows[0] = _rowOf(keccak256("none"), 100);
        rows[1] = _rowOf(closed, 100);
        rows[2] = _rowOf(strangers, 100);
        rows[3] = _rowOf(otherToken, 100);
        rows[4] = _rowOf(_channel, 0);
        rows[5] = _rowOf(_channel, 1001);
        rows[6] = ISessionEscrow.Settlement(_channel, 100, "nonsense");
        rows[7] = _rowOf(_channel, 100);
        rows[8] = _rowOf(_channel, 100);
        for (uint256 i = 0; i < 9; ++i) {
            vm.expectEmit(address(escrow));
            if (i == 7) emit ISessionEscrow.Settled(_channel, PAYER, PAYEE, 100, 100, 100);
            else emit ISessionEscrow.SettlementSkipped(rows[i].channelId, PAYEE, i, reasons[i]);
        }
        vm.assertEq(_many(rows), 100);
        vm.assertEq(token.balanceOf(PAYEE), 100);
        // Nothing good at all is no error either, and no transfer.
        rows = new ISessionEscrow.Settlement[](1);
        rows[0] = _rowOf(_channel, 100);
        vm.expectCall(address(token), abi.encodePacked(IERC20.transfer.selector), 0);
        vm.assertEq(_many(rows), 0);
    }

    /// @dev E-29: a signer that is a contract can cost what it is given and no more.
    function test_AWastefulSignerStopsNobody() external {
        bytes32 wasteful = _open(bytes32(uint256(1)), 1000, address(new WastefulSigner()));
        bytes32 verbose = _open(bytes32(uint256(2)), 1000, address(new VerboseSigner()));
        ISessionEscrow.Settlement[] memory rows = new ISessionEscrow.Settlement[](3);
        rows[0] = _rowOf(wasteful, 100);
        rows[1] = _rowOf(_channel, 10);
        rows[2] = _rowOf(verbose, 1);
        vm.prank(PAYEE);
        uint256 before = gasleft();
        uint256 paid = escrow.settleMany{gas: 1_500_000}(address(token), rows);
        vm.assertLe(before - gasleft(), 900_000);
        vm.assertEq(paid, 11);
        _check(wasteful, 1000, 0, false);
    }

    function test_RevertWhen_ASignerCannotBeHeardOut() external {
        ISessionEscrow.Settlement[] memory rows = new ISessionEscrow.Settlement[](1);
        rows[0] = _rowOf(_open(bytes32(uint256(1)), 1000, address(new ContractAccount(SIGNER))), 100);
        vm.prank(PAYEE);
        (bool ok, bytes memory error) =
            address(escrow).call{gas: 400_000}(abi.encodeCall(ISessionEscrow.settleMany, (address(token), rows)));
        vm.assertFalse(ok);
        vm.assertEq(bytes32(bytes4(error)), bytes32(ISessionEscrow.NotEnoughGas.selector));
        vm.assertEq(_many(rows), 100);
    }

    // -------------------------------------------------------------------------------------------------------- settleWithAuthorization

    function _authorization(string memory name, uint128 cumulative, uint256 nonce, uint256 key) private view returns (bytes memory) {
        return _sign(key, _authorizationDigest(name, _channel, cumulative, nonce, UNTIL));
    }

    function _settleBy(uint128 cumulative, uint256 nonce, uint256 deadline, bytes memory authorization, bytes memory voucher) private {
        vm.prank(STRANGER);
        escrow.settleWithAuthorization(_channel, cumulative, nonce, deadline, authorization, voucher);
    }

    /// @dev E-26.
    function test_AnAuthorizedSettlementIsForAnyoneToSend() external {
        bytes memory authorization = _authorization("SettleAuthorization", 700, 5, PAYEE_KEY);
        vm.assertEq(
            escrow.getSettleAuthorizationDigest(_channel, 700, 5, UNTIL),
            _authorizationDigest("SettleAuthorization", _channel, 700, 5, UNTIL)
        );
        bytes memory voucher = _voucher(_channel, 700);
        vm.expectEmit(address(escrow));
        emit ISessionEscrow.Settled(_channel, PAYER, PAYEE, 700, 700, 700);
        _settleBy(700, 5, UNTIL, authorization, voucher);
        vm.assertEq(token.balanceOf(PAYEE), 700);
        vm.assertTrue(escrow.nonceUsed(_channel, 5));
        vm.assertFalse(escrow.nonceUsed(_channel, 6));
        vm.assertFalse(escrow.nonceUsed(_channel, 5 + 256));
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.NonceAlreadyUsed.selector, _channel, 5));
        _settleBy(700, 5, UNTIL, authorization, voucher);
        // In any order, over words of the set.
        voucher = _voucher(_channel, 800);
        authorization = _authorization("SettleAuthorization", 800, type(uint256).max, PAYEE_KEY);
        _settleBy(800, type(uint256).max, UNTIL, authorization, voucher);
        vm.assertEq(token.balanceOf(PAYEE), 800);
    }

    function test_RevertWhen_TheAuthorizationIsNotForThis() external {
        bytes memory voucher = _voucher(_channel, 700);
        bytes[5] memory authorizations = [
            _authorization("SettleAuthorization", 699, 5, PAYEE_KEY),
            _authorization("SettleAuthorization", 700, 6, PAYEE_KEY),
            _authorization("SettleAuthorization", 700, 5, SIGNER_KEY),
            _authorization("CloseAuthorization", 700, 5, PAYEE_KEY),
            _sign(PAYEE_KEY, _authorizationDigest("SettleAuthorization", _channel, 700, 5, UNTIL + 1))
        ];
        for (uint256 i = 0; i < 5; ++i) {
            vm.expectRevert(_invalid(PAYEE));
            _settleBy(700, 5, UNTIL, authorizations[i], voucher);
        }
        bytes memory good = _authorization("SettleAuthorization", 700, 5, PAYEE_KEY);
        // The voucher is checked as ever, and a refusal uses no nonce.
        vm.expectRevert(_invalid(SIGNER));
        _settleBy(700, 5, UNTIL, good, "");
        vm.assertFalse(escrow.nonceUsed(_channel, 5));
        vm.warp(UNTIL + 1);
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.AuthorizationExpired.selector, UNTIL));
        _settleBy(700, 5, UNTIL, good, voucher);
        vm.warp(UNTIL);
        _settleBy(700, 5, UNTIL, good, voucher);
        _close(_channel, 0);
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.ChannelFinalized.selector, _channel));
        _settleBy(800, 6, UNTIL, good, voucher);
        _channel = keccak256("none");
        vm.expectRevert(abi.encodeWithSelector(ISessionEscrow.ChannelNotFound.selector, _channel));
        _settleBy(800, 6, UNTIL, good, voucher);
    }

    function test_AContractPayeeMayAuthorize() external {
        address payee = address(new ContractAccount(PAYEE));
        _fund(PAYER, address(escrow), 1000);
        vm.prank(PAYER);
        _channel = escrow.open(payee, address(token), 1000, 0, SIGNER);
        bytes memory authorization = _authorization("SettleAuthorization", 700, 5, PAYEE_KEY);
        _settleBy(700, 5, UNTIL, authorization, _voucher(_channel, 700));
        vm.assertEq(token.balanceOf(payee), 700);
    }
}
