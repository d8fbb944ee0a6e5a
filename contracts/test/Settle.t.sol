// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../src/interfaces/ILedger.sol";
import {IVerifier} from "../src/interfaces/IVerifier.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";
import {Reference} from "./utils/Reference.sol";
import {StubVerifier} from "./utils/StubVerifier.sol";

contract SettleTest is LedgerFixture {
    function _deltas(uint256 slots, uint256 seed) private pure returns (uint64[] memory deltas) {
        deltas = new uint64[](slots);
        for (uint256 i = 0; i < slots; ++i) {
            deltas[i] = uint64(uint256(keccak256(abi.encode(seed, i))));
        }
    }

    function _epochs(uint64 first, uint256 count) private pure returns (ILedger.EpochAnchor[] memory epochs) {
        epochs = new ILedger.EpochAnchor[](count);
        for (uint256 i = 0; i < count; ++i) {
            epochs[i] = ILedger.EpochAnchor({epoch: first + uint64(i), root: keccak256(abi.encode("epoch", first + i))});
        }
    }

    function _expectRevert(Reference.Settlement memory s, bytes memory data) private {
        _expectRevert(Reference.pack(_list(s)), data);
    }

    function _expectRevert(bytes memory settlements, bytes memory data) private {
        vm.expectRevert(data);
        vm.prank(OPERATOR);
        ledger.settle(settlements, _noEpochs());
    }

    function _length(uint256 expected, uint256 actual) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ILedger.SettlementLength.selector, expected, actual);
    }

    function _field(uint256 value) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ILedger.FieldOverflow.selector, value);
    }

    // ---------------------------------------------------------------------------------------------------------------------- payment

    function test_CreditsTheProviderAndStoresTheRoot() external {
        Reference.Settlement memory s = _settlement(BOOK_96, _deltas(96, 1));
        Reference.Settlement[] memory list = _list(s);
        vm.expectEmit(address(ledger));
        emit ILedger.Settled(BOOK_96, s.newRoot, s.totalNanos);
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());
        vm.assertEq(ledger.creditNanos(PROVIDER), s.totalNanos);
        vm.assertEq(ledger.creditNanos(OPERATOR), 0);
        vm.assertEq(ledger.bookRoot(BOOK_96), s.newRoot);
        vm.assertEq(ledger.bookRoot(BOOK_96 + 1), _emptyRoot(1));
    }

    function test_GivesTheVerifierTheInputsOfTheSpecification() external {
        uint32[4] memory books = [BOOK_24, BOOK_96, BOOK_384, BOOK_31];
        for (uint256 i = 0; i < books.length; ++i) {
            uint256 slots = _slots(books[i]);
            // The second settlement starts from the stored root.
            for (uint256 seed = 1; seed <= 2; ++seed) {
                Reference.Settlement memory s = _settlement(books[i], _deltas(slots, seed));
                settleStub.expect(Reference.settleInputs(address(ledger), ledger.bookRoot(books[i]), s, slots), s.proof);
                _settle(s);
            }
        }
    }

    function test_InputsDependOnChainAndLedger() external {
        Reference.Settlement memory s = _settlement(BOOK_24, 5);
        settleStub.expect(Reference.settleInputs(address(ledger), _emptyRoot(0), s, 24), s.proof);
        vm.chainId(1);
        _expectRevert(s, abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_24));
        settleStub.expect(Reference.settleInputs(address(this), _emptyRoot(0), s, 24), s.proof);
        _expectRevert(s, abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_24));
    }

    function test_SettlesManyBooks() external {
        Reference.Settlement memory a = _settlement(BOOK_24, 7);
        Reference.Settlement memory b = _settlement(BOOK_384, 11);
        Reference.Settlement[] memory list = _list(a, b);
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());
        vm.assertEq(ledger.creditNanos(PROVIDER), 18);
        vm.assertEq(ledger.bookRoot(BOOK_24), a.newRoot);
        vm.assertEq(ledger.bookRoot(BOOK_384), b.newRoot);
    }

    function test_SettlesOneBookTwiceInOrder() external {
        Reference.Settlement memory a = _settlement(BOOK_24, 7);
        Reference.Settlement memory b = _settlement(BOOK_24, 9);
        b.newRoot = 123;
        settleStub.expect(Reference.settleInputs(address(ledger), _emptyRoot(0), a, 24), a.proof);
        settleStub.expect(Reference.settleInputs(address(ledger), a.newRoot, b, 24), b.proof);
        Reference.Settlement[] memory wrong = _list(b, a);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_24));
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(wrong), _noEpochs());

        Reference.Settlement[] memory list = _list(a, b);
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());
        vm.assertEq(ledger.bookRoot(BOOK_24), 123);
        vm.assertEq(ledger.creditNanos(PROVIDER), 16);
    }

    function test_RevertWhen_ASettlementIsReplayed() external {
        Reference.Settlement memory s = _settlement(BOOK_24, 5);
        settleStub.expect(Reference.settleInputs(address(ledger), _emptyRoot(0), s, 24), s.proof);
        _settle(s);
        _expectRevert(s, abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_24));
    }

    function test_TakesTheLargestTotal() external {
        Reference.Settlement memory s = _settlement(BOOK_24, 5);
        s.totalNanos = (1 << 96) - 1;
        s.newRoot = P - 1;
        s.commitment = P - 1;
        _settle(s);
        vm.assertEq(ledger.creditNanos(PROVIDER), (1 << 96) - 1);
    }

    // ------------------------------------------------------------------------------------------------------------------------ rights

    function test_RevertWhen_TheCallerIsNotTheOperator() external {
        address[3] memory callers = [PROVIDER, ALICE, STRANGER];
        Reference.Settlement[] memory list = _list(_settlement(BOOK_24, 5));
        for (uint256 i = 0; i < callers.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ILedger.NotOperator.selector, callers[i]));
            vm.prank(callers[i]);
            ledger.settle(Reference.pack(list), _noEpochs());
        }
    }

    function test_RevertWhen_TheOldestRequestIsOverdue() external {
        uint248 uid = _open(ALICE, 1, 1e6);
        Reference.Settlement[] memory list = _list(_settlement(BOOK_24, 5));
        vm.warp(START + WINDOW);
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());

        vm.warp(START + WINDOW + 1);
        bytes memory overdue = abi.encodeWithSelector(ILedger.RequestOverdue.selector, 0, START + WINDOW);
        _expectRevert(list[0], overdue);
        ILedger.EpochAnchor[] memory epochs = _epochs(0, 1);
        vm.expectRevert(overdue);
        vm.prank(OPERATOR);
        ledger.settle("", epochs);

        _register(_registration(BOOK_24, _rows(_row(0, OPENED, uid, 1e9, 0))), _oldest(1));
        _settle(_settlement(BOOK_24, 5));
    }

    // ------------------------------------------------------------------------------------------------------------------------ ranges

    function test_RevertWhen_TheTierIsUnknown() external {
        Reference.Settlement memory s = _settlement(BOOK_24, 5);
        s.book = 4 << 24;
        _expectRevert(s, abi.encodeWithSelector(ILedger.UnknownTier.selector, 4));
        s.book = type(uint32).max;
        _expectRevert(s, abi.encodeWithSelector(ILedger.UnknownTier.selector, 255));
    }

    function test_RevertWhen_ACoefficientIsNotCanonical() external {
        Reference.Settlement memory s = _settlement(BOOK_24, 5);
        uint256 newRoot = s.newRoot;
        s.newRoot = P;
        _expectRevert(s, _field(P));
        s.newRoot = newRoot + P;
        _expectRevert(s, _field(newRoot + P));
        s.newRoot = newRoot;
        s.commitment += P;
        _expectRevert(s, _field(s.commitment));
    }

    // ------------------------------------------------------------------------------------------------------------------------ lengths

    /// @dev Every prefix of three settlements but those that end with one of them.
    function test_RevertWhen_BytesAreMissing() external {
        Reference.Settlement[] memory list = new Reference.Settlement[](3);
        list[0] = _settlement(BOOK_24, _deltas(24, 1));
        list[1] = _settlement(BOOK_31, _deltas(31, 2));
        list[2] = _settlement(BOOK_24 + 1, _deltas(24, 3));
        bytes memory all = Reference.pack(list);
        uint256[4] memory ends = [uint256(0), 528, 528 + 584, 528 + 584 + 528];
        vm.assertEq(all.length, ends[3]);
        uint256 next = 0;
        for (uint256 length = 0; length < all.length; ++length) {
            if (length == ends[next]) {
                ++next;
                continue;
            }
            uint256 left = length - ends[next - 1];
            _expectRevert(_first(all, length), _length(left < 4 ? 4 : ends[next] - ends[next - 1], left));
        }
        vm.assertEq(next, 3);
        vm.prank(OPERATOR);
        ledger.settle(all, _noEpochs());
    }

    /// @dev What follows the last settlement is another one, or refused.
    function test_RevertWhen_BytesFollow() external {
        bytes memory one = Reference.pack(_list(_settlement(BOOK_24, 5)));
        uint256[6] memory more = [uint256(1), 3, 4, 31, 32, 527];
        for (uint256 i = 0; i < more.length; ++i) {
            _expectRevert(bytes.concat(one, new bytes(more[i])), _length(more[i] < 4 ? 4 : 528, more[i]));
        }
        _expectRevert(bytes.concat(one, hex"ff000000"), abi.encodeWithSelector(ILedger.UnknownTier.selector, 255));
        // The fill that a word of the polynomial has, and a delta too many.
        _expectRevert(bytes.concat(one, new bytes(25)), _length(528, 25));
        _expectRevert(bytes.concat(one, new bytes(8)), _length(528, 8));
    }

    function test_RevertWhen_TheTierIsOfAnotherSize() external {
        Reference.Settlement memory s = _settlement(BOOK_96, _deltas(96, 1));
        s.book = BOOK_384;
        _expectRevert(s, _length(336 + 8 * 384, 336 + 8 * 96));
        // Larger than its tier: what is left over, 576 bytes, is read as settlements of book 0, of which the second is not whole.
        s.book = BOOK_24;
        s.deltas = new bytes(8 * 96);
        _expectRevert(s, _length(528, 48));
    }

    /// @dev Zeros read as settlements of a book without a proof, and a verifier refuses those.
    function test_RevertWhen_AllIsZero() external {
        settleStub.set(StubVerifier.Mode.Reject);
        _expectRevert(new bytes(528), abi.encodeWithSelector(ILedger.ProofRejected.selector, 0));
        _expectRevert(new bytes(5 * 528), abi.encodeWithSelector(ILedger.ProofRejected.selector, 0));
    }

    function _first(bytes memory all, uint256 length) private pure returns (bytes memory first) {
        first = bytes.concat(all);
        assembly ("memory-safe") {
            mstore(first, length)
        }
    }

    /// @dev What the ABI lets stand behind the settlements is in no word of the polynomial, and is nobody's.
    function test_WhatFollowsInTheCalldataIsNotRead() external {
        uint32[4] memory books = [BOOK_24, BOOK_96, BOOK_384, BOOK_31];
        for (uint256 i = 0; i < books.length; ++i) {
            uint256 slots = _slots(books[i]);
            Reference.Settlement memory s = _settlement(books[i], _deltas(slots, 9));
            settleStub.expect(Reference.settleInputs(address(ledger), ledger.bookRoot(books[i]), s, slots), s.proof);
            bytes memory packed = Reference.pack(_list(s));
            // Offsets 64 and 32: the list of epochs, which is empty, stands first.
            bytes memory call = abi.encodePacked(ILedger.settle.selector, uint256(96), uint256(64), uint256(0), packed.length, packed);
            vm.prank(OPERATOR);
            (bool ok,) = address(ledger).call(bytes.concat(call, hex"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"));
            vm.assertTrue(ok);
            vm.assertEq(ledger.bookRoot(books[i]), s.newRoot);
        }
    }

    // ------------------------------------------------------------------------------------------------------------------------- proofs

    function test_RevertWhen_TheProofIsRejected() external {
        settleStub.set(StubVerifier.Mode.Reject);
        _expectRevert(_settlement(BOOK_24, 5), abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_24));
    }

    // --------------------------------------------------------------------------------------------------------------- proofs together

    function _calls(address verifier, uint64 verify, uint64 verifyBatch) private {
        vm.expectCall(verifier, abi.encodePacked(IVerifier.verify.selector), verify);
        vm.expectCall(verifier, abi.encodePacked(IVerifier.verifyBatch.selector), verifyBatch);
    }

    function test_TheProofsOfOneVerifierAreCheckedTogether() external {
        Reference.Settlement memory a = _settlement(BOOK_24, 7);
        Reference.Settlement memory b = _settlement(BOOK_384, 11);
        settleStub.expect(Reference.settleInputs(address(ledger), _emptyRoot(0), a, 24), a.proof);
        settleStub.expect(Reference.settleInputs(address(ledger), _emptyRoot(2), b, 384), b.proof);
        Reference.Settlement[] memory list = _list(a, b);
        _calls(address(settleStub), 0, 1);
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());
    }

    function test_OneProofAloneIsCheckedAlone() external {
        Reference.Settlement memory s = _settlement(BOOK_24, 7);
        _calls(address(settleStub), 1, 0);
        _settle(s);
    }

    /// @dev A ledger whose tiers 0, 1 and 3 have three verifiers, and five settlements, of which 0 and 3 have several.
    function _threeVerifiers() private returns (StubVerifier other, StubVerifier third, Reference.Settlement[] memory list) {
        ILedger.Tier[] memory tiers = _tiers();
        (other, third) = (new StubVerifier(), new StubVerifier());
        (tiers[1].settleVerifier, tiers[3].settleVerifier) = (other, third);
        ledger = _newLedger(PROVIDER, OPERATOR, address(token), 0, tiers);
        uint32[5] memory books = [BOOK_24, BOOK_31, BOOK_96, BOOK_31 - 1, BOOK_24 + 1];
        list = new Reference.Settlement[](5);
        for (uint256 i = 0; i < 5; ++i) {
            list[i] = _settlement(books[i], uint64(1 << i));
        }
    }

    function test_EachVerifierHasItsOwnBatch() external {
        (StubVerifier other, StubVerifier third, Reference.Settlement[] memory list) = _threeVerifiers();
        _calls(address(settleStub), 0, 1);
        _calls(address(other), 1, 0);
        _calls(address(third), 0, 1);
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());
        vm.assertEq(ledger.creditNanos(PROVIDER), 31);
    }

    function test_RevertWhen_OneOfManyVerifiersRefuses() external {
        (StubVerifier other, StubVerifier third, Reference.Settlement[] memory list) = _threeVerifiers();
        other.set(StubVerifier.Mode.Reject);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_96));
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());
        other.set(StubVerifier.Mode.Accept);
        third.set(StubVerifier.Mode.Reject);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_31));
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());
    }

    function test_RevertWhen_AVerifierRefusesABatchOfWhichItTakesEach() external {
        settleStub.set(StubVerifier.Mode.RejectBatch);
        Reference.Settlement[] memory list = _list(_settlement(BOOK_24, 1), _settlement(BOOK_96, 1));
        vm.expectRevert(abi.encodeWithSelector(ILedger.BatchRejected.selector, address(settleStub)));
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());
    }

    /// @dev A verifier that answers a batch with anything but one true word has refused it.
    function test_RevertWhen_TheAnswerToABatchIsNotTrue() external {
        bytes[4] memory answers = [bytes(""), abi.encode(2), abi.encode(true, true), abi.encodePacked(uint8(1))];
        Reference.Settlement[] memory list = _list(_settlement(BOOK_24, 1), _settlement(BOOK_96, 1));
        for (uint256 i = 0; i < answers.length; ++i) {
            vm.mockCall(address(settleStub), abi.encodePacked(IVerifier.verifyBatch.selector), answers[i]);
            vm.expectRevert(abi.encodeWithSelector(ILedger.BatchRejected.selector, address(settleStub)));
            vm.prank(OPERATOR);
            ledger.settle(Reference.pack(list), _noEpochs());
        }
    }

    // ------------------------------------------------------------------------------------------------------------------------ epochs

    function test_AnchorsEpochs() external {
        ILedger.EpochAnchor[] memory epochs = _epochs(0, 2);
        vm.expectEmit(address(ledger));
        emit ILedger.EpochAnchored(0, epochs[0].root);
        vm.expectEmit(address(ledger));
        emit ILedger.EpochAnchored(1, epochs[1].root);
        vm.prank(OPERATOR);
        ledger.settle("", epochs);
        vm.assertEq(ledger.epochCount(), 2);
        vm.assertEq(ledger.epochRoot(0), epochs[0].root);
        vm.assertEq(ledger.epochRoot(1), epochs[1].root);
        vm.assertEq(ledger.epochRoot(2), bytes32(0));

        Reference.Settlement[] memory list = _list(_settlement(BOOK_24, 5));
        epochs = _epochs(2, 1);
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), epochs);
        vm.assertEq(ledger.epochCount(), 3);
    }

    function test_RevertWhen_EpochsHaveAGap() external {
        uint64[3] memory firsts = [uint64(1), 7, type(uint64).max];
        for (uint256 i = 0; i < firsts.length; ++i) {
            ILedger.EpochAnchor[] memory epochs = _epochs(0, 1);
            epochs[0].epoch = firsts[i];
            vm.expectRevert(abi.encodeWithSelector(ILedger.EpochGap.selector, 0, firsts[i]));
            vm.prank(OPERATOR);
            ledger.settle("", epochs);
        }
    }

    function test_RevertWhen_AnEpochIsRepeated() external {
        ILedger.EpochAnchor[] memory epochs = _epochs(0, 2);
        epochs[1].epoch = 0;
        vm.expectRevert(abi.encodeWithSelector(ILedger.EpochGap.selector, 1, 0));
        vm.prank(OPERATOR);
        ledger.settle("", epochs);
    }

    function test_MayBeEmpty() external {
        vm.prank(OPERATOR);
        ledger.settle("", _noEpochs());
    }
}
