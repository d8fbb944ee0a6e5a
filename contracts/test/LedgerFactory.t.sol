// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBookPaths} from "../src/interfaces/IBookPaths.sol";
import {ILedger} from "../src/interfaces/ILedger.sol";
import {ILedgerFactory} from "../src/interfaces/ILedgerFactory.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";

contract LedgerFactoryTest is LedgerFixture {
    error InvalidProvider();
    error InvalidWindows(uint40 responseWindowSecs, uint40 haltWindowSecs);
    error InvalidTier(uint256 index);

    bytes32 private constant SALT = keccak256("salt");

    ILedgerFactory private _factory;

    function setUp() public override {
        super.setUp();
        _factory = _newFactory(_tiers());
    }

    function _newFactory(ILedger.Tier[] memory tiers) private returns (ILedgerFactory) {
        return ILedgerFactory(vm.deployCode("LedgerFactory.sol:LedgerFactory", abi.encode(IBookPaths(paths), tiers)));
    }

    function _good() private view returns (ILedger.Terms memory) {
        return _terms(PROVIDER, OPERATOR, address(token), 5);
    }

    function test_KeepsItsParts() external view {
        vm.assertEq(address(_factory.BOOK_PATHS()), address(paths));
        vm.assertEq(_factory.tierCount(), 4);
        for (uint256 i = 0; i < 4; ++i) {
            vm.assertEq(keccak256(abi.encode(_factory.tier(i))), keccak256(abi.encode(_tiers()[i])));
        }
        vm.assertEq(_factory.LEDGER_CODE_HASH(), keccak256(vm.getCode("Ledger.sol:Ledger")));
    }

    function test_CreatesALedgerWhereItWasPredicted() external {
        address predicted = _factory.predict(_good(), SALT);
        vm.assertFalse(_factory.isLedger(predicted));
        vm.expectEmit(address(_factory));
        emit ILedgerFactory.LedgerCreated(predicted, PROVIDER, address(token), _good(), SALT);
        vm.prank(STRANGER);
        vm.assertEq(_factory.create(_good(), SALT), predicted);
        vm.assertTrue(_factory.isLedger(predicted));
        vm.assertFalse(_factory.isLedger(address(ledger)));

        ILedger created = ILedger(predicted);
        vm.assertEq(created.PROVIDER(), PROVIDER);
        vm.assertEq(created.operator(), OPERATOR);
        vm.assertEq(created.TOKEN(), address(token));
        vm.assertEq(created.RESPONSE_WINDOW(), WINDOW);
        vm.assertEq(created.HALT_WINDOW(), HALT_WINDOW);
        vm.assertEq(created.DEPOSIT_MIN_NANOS(), 5);
        vm.assertEq(address(created.BOOK_PATHS()), address(paths));
        vm.assertEq(created.tierCount(), 4);
        vm.assertEq(created.bookRoot(BOOK_31), _emptyRoot(3));
        // It is what a deployment by hand makes, but for the values of its own address, of which it keeps none.
        vm.assertEq(predicted.code.length, address(ledger).code.length);
    }

    function test_RevertWhen_TheLedgerExists() external {
        address created = _factory.create(_good(), SALT);
        vm.expectRevert(abi.encodeWithSelector(ILedgerFactory.LedgerExists.selector, created));
        _factory.create(_good(), SALT);
        // Another salt is another ledger.
        vm.assertTrue(_factory.isLedger(_factory.create(_good(), 0)));
    }

    function test_TheAddressDependsOnEveryTerm() external {
        address predicted = _factory.predict(_good(), SALT);
        for (uint256 i = 0; i < 7; ++i) {
            ILedger.Terms memory terms = _good();
            if (i == 0) terms.provider = BOB;
            if (i == 1) terms.operator = BOB;
            if (i == 2) terms.token = BOB;
            if (i == 3) terms.responseWindowSecs += 1;
            if (i == 4) terms.haltWindowSecs += 1;
            if (i == 5) terms.depositMinNanos += 1;
            vm.assertTrue(_factory.predict(terms, i == 6 ? bytes32(0) : SALT) != predicted);
        }
        vm.assertTrue(_newFactory(_tiers()).predict(_good(), SALT) != predicted);
    }

    function test_RevertWhen_TheTermsAreInvalid() external {
        ILedger.Terms memory terms = _good();
        terms.provider = address(0);
        vm.expectRevert(InvalidProvider.selector);
        _factory.create(terms, SALT);
        vm.assertFalse(_factory.isLedger(_factory.predict(terms, SALT)));
        terms = _good();
        terms.haltWindowSecs = WINDOW;
        vm.expectRevert(abi.encodeWithSelector(InvalidWindows.selector, WINDOW, WINDOW));
        _factory.create(terms, SALT);
        terms = _good();
        terms.token = STRANGER;
        vm.expectRevert();
        _factory.create(terms, SALT);

        ILedgerFactory empty = _newFactory(new ILedger.Tier[](0));
        vm.expectRevert(abi.encodeWithSelector(InvalidTier.selector, 0));
        empty.create(_good(), SALT);
    }
}
