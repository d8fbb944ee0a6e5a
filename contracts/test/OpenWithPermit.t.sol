// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {ILedger} from "../src/interfaces/ILedger.sol";
import {TestUSDC} from "../src/tokens/TestUSDC.sol";
import {TestUSDT} from "../src/tokens/TestUSDT.sol";
import {ContractAccount} from "./utils/ContractAccount.sol";
import {RelayFixture} from "./utils/RelayFixture.sol";

contract OpenWithPermitTest is RelayFixture {
    function _openAs(address caller, address payer, uint256 value, ILedger.PermitSignature memory permit, bytes memory consent)
        private
        returns (uint248)
    {
        vm.prank(caller);
        return ledger.openWithPermit(payer, _key(0), SALT, value, UNTIL, permit, consent);
    }

    function _expectInvalid(address signer) private {
        vm.expectRevert(abi.encodeWithSelector(ILedger.ConsentInvalid.selector, signer));
    }

    function test_APayerNeedsNoConsent() external {
        token.mint(PAYER, 5e6);
        ILedger.PermitSignature memory permit = _permit(PAYER, 5e6, UNTIL);
        vm.expectEmit(address(ledger));
        emit ILedger.Opened(_uid(), PAYER, _key(0).x, SALT, 5e9, 0);
        vm.assertEq(_openAs(PAYER, PAYER, 5e6, permit, ""), _uid());
        vm.assertEq(token.balanceOf(address(ledger)), 5e6);
        vm.assertEq(token.balanceOf(PAYER), 0);
    }

    function test_ARelayerOpensWithTheConsent() external {
        token.mint(PAYER, 5e6);
        ILedger.PermitSignature memory permit = _permit(PAYER, 5e6, UNTIL);
        vm.assertEq(_openAs(STRANGER, PAYER, 5e6, permit, _openConsent(PAYER, _uid(), 5e6, UNTIL)), _uid());
        vm.assertEq(ledger.channel(_uid()).payer, PAYER);
        vm.assertEq(token.balanceOf(address(ledger)), 5e6);
    }

    function test_APermitThatSomeonePresentedBeforeDoesNotBlock() external {
        token.mint(PAYER, 5e6);
        ILedger.PermitSignature memory permit = _permit(PAYER, 5e6, UNTIL);
        TestUSDC(address(token)).permit(PAYER, address(ledger), 5e6, UNTIL, permit.v, permit.r, permit.s);
        _openAs(STRANGER, PAYER, 5e6, permit, _openConsent(PAYER, _uid(), 5e6, UNTIL));
        vm.assertEq(token.balanceOf(address(ledger)), 5e6);
    }

    function test_AContractAccountConsentsToItsAllowance() external {
        address account = address(new ContractAccount(PAYER));
        _fund(account, 5e6);
        uint248 uid = _openAs(STRANGER, account, 5e6, _noPermit(), _openConsent(account, _uid(account), 5e6, UNTIL));
        vm.assertEq(ledger.channel(uid).payer, account);
    }

    function test_ATokenWithoutPermitsWorksByAllowance() external {
        _deploy(address(new TestUSDT()));
        _fund(PAYER, 5e6);
        _openAs(STRANGER, PAYER, 5e6, _noPermit(), _openConsent(PAYER, _uid(), 5e6, UNTIL));
        vm.assertEq(token.balanceOf(address(ledger)), 5e6);
    }

    function test_RevertWhen_ThePermitFailsAndNoAllowanceStands() external {
        token.mint(PAYER, 5e6);
        bytes memory consent = _openConsent(PAYER, _uid(), 5e6, UNTIL);
        ILedger.PermitSignature memory permit = _permit(PAYER, 4e6, UNTIL);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(ledger), 0, 5e6));
        _openAs(STRANGER, PAYER, 5e6, permit, consent);
    }

    /// @dev An allowance alone moves nothing: whoever relays needs the signature over this very channel and amount.
    function test_RevertWhen_TheConsentIsForAnotherDeposit() external {
        _fund(PAYER, 50e6);
        bytes memory good = _openConsent(PAYER, _uid(), 5e6, UNTIL);
        _expectInvalid(PAYER);
        _openAs(STRANGER, PAYER, 5e6 + 1, _noPermit(), good);
        _expectInvalid(PAYER);
        vm.prank(STRANGER);
        ledger.openWithPermit(PAYER, _key(1), SALT, 5e6, UNTIL, _noPermit(), good);
        _expectInvalid(PAYER);
        vm.prank(STRANGER);
        ledger.openWithPermit(PAYER, _key(0), bytes32(0), 5e6, UNTIL, _noPermit(), good);
        _expectInvalid(PAYER);
        vm.prank(STRANGER);
        ledger.openWithPermit(PAYER, _key(0), SALT, 5e6, UNTIL + 1, _noPermit(), good);
        _expectInvalid(PAYER);
        _openAs(STRANGER, PAYER, 5e6, _noPermit(), "");
        bytes memory other = _topUpConsent(PAYER, _uid(), 5e6, bytes32(0), UNTIL);
        _expectInvalid(PAYER);
        _openAs(STRANGER, PAYER, 5e6, _noPermit(), other);
        _openAs(STRANGER, PAYER, 5e6, _noPermit(), good);
    }

    function test_RevertWhen_TheConsentIsOfAnotherSignerChainOrLedger() external {
        _fund(ALICE, 5e6);
        bytes memory consent = _openConsent(ALICE, _uid(ALICE), 5e6, UNTIL);
        _expectInvalid(ALICE);
        _openAs(STRANGER, ALICE, 5e6, _noPermit(), consent);

        // Two accounts of one owner: each has its own consent.
        address account = address(new ContractAccount(PAYER));
        _fund(account, 5e6);
        consent = _openConsent(PAYER, _uid(account), 5e6, UNTIL);
        _expectInvalid(account);
        _openAs(STRANGER, account, 5e6, _noPermit(), consent);

        _fund(PAYER, 5e6);
        uint248 uid = _uid();
        consent = _openConsent(PAYER, uid, 5e6, UNTIL);
        vm.chainId(1);
        _expectInvalid(PAYER);
        _openAs(STRANGER, PAYER, 5e6, _noPermit(), consent);
        vm.chainId(31337);
        _deploy(address(token));
        _fund(PAYER, 5e6);
        _expectInvalid(PAYER);
        _openAs(STRANGER, PAYER, 5e6, _noPermit(), consent);
    }

    function test_RevertWhen_TheConsentHasExpired() external {
        _fund(PAYER, 5e6);
        bytes memory consent = _openConsent(PAYER, _uid(), 5e6, UNTIL);
        vm.warp(UNTIL + 1);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ConsentExpired.selector, UNTIL));
        _openAs(STRANGER, PAYER, 5e6, _noPermit(), consent);
        vm.warp(UNTIL);
        _openAs(STRANGER, PAYER, 5e6, _noPermit(), consent);
    }

    function test_RevertWhen_TheConsentIsPresentedTwice() external {
        _fund(PAYER, 10e6);
        bytes memory consent = _openConsent(PAYER, _uid(), 5e6, UNTIL);
        _openAs(STRANGER, PAYER, 5e6, _noPermit(), consent);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ChannelExists.selector, _uid()));
        _openAs(STRANGER, PAYER, 5e6, _noPermit(), consent);
    }

    function test_RevertWhen_PayerAmountOrKeyAreRefused() external {
        vm.expectRevert(ILedger.InvalidPayer.selector);
        _openAs(STRANGER, address(0), 5e6, _noPermit(), "");
        vm.expectRevert(ILedger.ZeroAmount.selector);
        _openAs(STRANGER, PAYER, 0, _noPermit(), "");
    }

    function test_TheDomainIsThatOfTheSpecification() external view {
        vm.assertEq(ledger.DOMAIN_SEPARATOR(), _ledgerDomain(address(ledger)));
    }
}
