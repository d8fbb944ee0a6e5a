// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBookPaths} from "../src/interfaces/IBookPaths.sol";
import {ILedger} from "../src/interfaces/ILedger.sol";
import {IVerifier} from "../src/interfaces/IVerifier.sol";
import {PlainToken} from "./tokens/HostileTokens.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";

contract ConstructorTest is LedgerFixture {
    error UnsupportedDecimals(uint8 decimals);
    error InvalidTier(uint256 index);
    error InvalidProvider();
    error InvalidWindows(uint40 responseWindowSecs, uint40 haltWindowSecs);
    error InvalidBookPaths();

    uint64 private constant MINIMUM = 5e6;

    /// @dev Deploys by hand: `vm.deployCode` hides the reason of a revert.
    function create(address provider, address token_, ILedger.Tier[] calldata tiers) external returns (address) {
        return this.create(_terms(provider, OPERATOR, token_, MINIMUM), paths, tiers);
    }

    function create(ILedger.Terms calldata terms, IBookPaths bookPaths, ILedger.Tier[] calldata tiers) external returns (address deployed) {
        bytes memory arguments = abi.encode(terms, bookPaths, tiers);
        bytes memory code = abi.encodePacked(vm.getCode("Ledger.sol:Ledger"), arguments);
        assembly ("memory-safe") {
            deployed := create(0, add(code, 32), mload(code))
            if iszero(deployed) {
                returndatacopy(0, 0, returndatasize())
                revert(0, returndatasize())
            }
        }
    }

    function _expectRevert(address provider, address token_, ILedger.Tier[] memory tiers, bytes memory data) private {
        vm.expectRevert(data);
        this.create(provider, token_, tiers);
    }

    function _invalidTier(uint256 index) private pure returns (bytes memory) {
        return abi.encodeWithSelector(InvalidTier.selector, index);
    }

    function test_KeepsItsParameters() external view {
        vm.assertEq(ledger.PROVIDER(), PROVIDER);
        vm.assertEq(ledger.TOKEN(), address(token));
        vm.assertEq(ledger.RESPONSE_WINDOW(), WINDOW);
        vm.assertEq(ledger.HALT_WINDOW(), HALT_WINDOW);
        vm.assertEq(address(ledger.BOOK_PATHS()), address(paths));
        vm.assertFalse(ledger.halted());
        vm.assertEq(ledger.DEPOSIT_MIN_NANOS(), 0);
        vm.assertEq(ledger.operator(), OPERATOR);
        vm.assertEq(ledger.tierCount(), 4);
        ILedger.Tier[] memory tiers = _tiers();
        for (uint8 i = 0; i < 4; ++i) {
            vm.assertEq(keccak256(abi.encode(ledger.tier(i))), keccak256(abi.encode(tiers[i])));
        }
        vm.assertEq(ledger.queueHead(), 0);
        vm.assertEq(ledger.queueTail(), 0);
        vm.assertEq(ledger.epochCount(), 0);
    }

    function test_KeepsTheMinimumDeposit() external {
        vm.assertEq(ILedger(this.create(PROVIDER, address(token), _tiers())).DEPOSIT_MIN_NANOS(), MINIMUM);
    }

    function test_ABookThatWasNeverWrittenHasTheEmptyRoot() external view {
        vm.assertEq(ledger.bookRoot(BOOK_24), _emptyRoot(0));
        vm.assertEq(ledger.bookRoot(BOOK_31), _emptyRoot(3));
    }

    function test_RevertWhen_ATierIsUnknown() external {
        vm.expectRevert(abi.encodeWithSelector(ILedger.UnknownTier.selector, 4));
        ledger.tier(4);
        vm.expectRevert(abi.encodeWithSelector(ILedger.UnknownTier.selector, 4));
        ledger.bookRoot(4 << 24);
    }

    function test_TakesAll256Tiers() external {
        ILedger.Tier[] memory tiers = new ILedger.Tier[](256);
        for (uint256 i = 0; i < 256; ++i) {
            tiers[i] = _tiers()[0];
        }
        ILedger other = ILedger(this.create(PROVIDER, address(token), tiers));
        vm.assertEq(other.bookRoot(type(uint32).max), _emptyRoot(0));
    }

    function test_RevertWhen_TheProviderIsZero() external {
        _expectRevert(address(0), address(token), _tiers(), abi.encodeWithSelector(InvalidProvider.selector));
    }

    function test_RevertWhen_TheWindowsAreInvalid() external {
        // The response window, the halt window, and whether the ledger takes them.
        uint40[3][8] memory cases = [
            [uint40(1 days), 1 days, 0],
            [uint40(1 days), 1 days + 1, 1],
            [uint40(30 days), 365 days, 1],
            [uint40(30 days + 1), 365 days, 0],
            [uint40(1 days), 365 days + 1, 0],
            [uint40(0), 0, 0],
            [uint40(0), 1, 1],
            [type(uint40).max, type(uint40).max, 0]
        ];
        for (uint256 i = 0; i < cases.length; ++i) {
            ILedger.Terms memory terms = _terms(PROVIDER, OPERATOR, address(token), 0);
            (terms.responseWindowSecs, terms.haltWindowSecs) = (cases[i][0], cases[i][1]);
            if (cases[i][2] == 0) vm.expectRevert(abi.encodeWithSelector(InvalidWindows.selector, cases[i][0], cases[i][1]));
            this.create(terms, paths, _tiers());
        }
    }

    function test_RevertWhen_TheBookPathsAreNoContract() external {
        ILedger.Terms memory terms = _terms(PROVIDER, OPERATOR, address(token), 0);
        vm.expectRevert(InvalidBookPaths.selector);
        this.create(terms, IBookPaths(STRANGER), _tiers());
    }

    function test_RevertWhen_TheTokenHasTooManyDecimals() external {
        this.create(PROVIDER, address(new PlainToken(27)), _tiers());
        bytes memory unsupported = abi.encodeWithSelector(UnsupportedDecimals.selector, 28);
        _expectRevert(PROVIDER, address(new PlainToken(28)), _tiers(), unsupported);
    }

    function test_RevertWhen_TheTokenIsNoContract() external {
        vm.expectRevert();
        this.create(PROVIDER, STRANGER, _tiers());
    }

    function test_RevertWhen_ATierIsInvalid() external {
        for (uint256 i = 0; i < 4; ++i) {
            ILedger.Tier[] memory tiers = _tiers();
            if (i == 0) tiers[2].slots = 0;
            if (i == 1) tiers[2].emptyRoot = P;
            if (i == 2) tiers[2].settleVerifier = IVerifier(STRANGER);
            if (i == 3) tiers[2].registerVerifier = IVerifier(address(0));
            _expectRevert(PROVIDER, address(token), tiers, _invalidTier(2));
        }
    }

    function test_RevertWhen_ThereAreNoTiersOrTooMany() external {
        _expectRevert(PROVIDER, address(token), new ILedger.Tier[](0), _invalidTier(0));
        _expectRevert(PROVIDER, address(token), new ILedger.Tier[](257), _invalidTier(257));
    }
}
