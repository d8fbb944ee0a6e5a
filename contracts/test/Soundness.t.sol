// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../src/interfaces/ILedger.sol";
import {IVerifier} from "../src/interfaces/IVerifier.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";
import {Reference} from "./utils/Reference.sol";
import {TrapdoorProver} from "./utils/TrapdoorProver.sol";

/// @title What a forger tries against the ledger with its true verifiers, each refused.
/// @dev The prover here can prove whatever it likes about three public inputs; what it cannot do is make the ledger derive others.
contract SoundnessTest is LedgerFixture, TrapdoorProver {
    function _newVerifiers() internal override {
        _load();
        (settleVerifier, registerVerifier) = (IVerifier(_newVerifier()), IVerifier(_newVerifier()));
    }

    function _deltas(uint256 slots, uint256 seed) private pure returns (uint64[] memory deltas) {
        deltas = new uint64[](slots);
        for (uint256 i = 0; i < slots; ++i) {
            deltas[i] = uint64(uint256(keccak256(abi.encode(seed, i))) >> 216);
        }
    }

    function _prove(ILedger where, Reference.Settlement memory s, uint256 oldRoot) private view returns (Reference.Settlement memory) {
        s.proof = _prove(Reference.settleInputs(address(where), oldRoot, s, _slots(s.book)));
        return s;
    }

    function _good(uint32 book, uint256 seed) private view returns (Reference.Settlement memory) {
        return _prove(ledger, _settlement(book, _deltas(_slots(book), seed)), ledger.bookRoot(book));
    }

    function _expectRevert(Reference.Settlement memory s, bytes memory data) private {
        Reference.Settlement[] memory list = _list(s);
        vm.expectRevert(data);
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());
    }

    function _expectRejected(Reference.Settlement memory s) private {
        _expectRevert(s, abi.encodeWithSelector(ILedger.ProofRejected.selector, s.book));
    }

    // ------------------------------------------------------------------------------------------------------------------------ settle

    function test_WhatIsProvenIsTaken() external {
        Reference.Settlement[] memory list = new Reference.Settlement[](4);
        list[0] = _good(BOOK_24, 1);
        list[1] = _good(BOOK_96, 2);
        list[2] = _good(BOOK_384, 3);
        // The first book again, from the root that its first settlement leaves.
        list[3] = _settlement(BOOK_24, _deltas(24, 4));
        list[3].newRoot = 77;
        list[3] = _prove(ledger, list[3], list[0].newRoot);
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());
        vm.assertEq(ledger.bookRoot(BOOK_24), 77);
        vm.assertEq(ledger.creditNanos(PROVIDER), list[0].totalNanos + list[1].totalNanos + list[2].totalNanos + list[3].totalNanos);
        _settle(_good(BOOK_31, 5));
    }

    /// @dev Each of these is the same polynomial modulo p, and passes where ranges are not checked.
    function test_RevertWhen_AFieldElementIsAliased() external {
        Reference.Settlement memory s = _good(BOOK_96, 1);
        s.newRoot += P;
        _expectRevert(s, abi.encodeWithSelector(ILedger.FieldOverflow.selector, s.newRoot));
        s.newRoot -= P;
        s.commitment += P;
        _expectRevert(s, abi.encodeWithSelector(ILedger.FieldOverflow.selector, s.commitment));
        // As large as a public input can be written.
        s.commitment = type(uint256).max;
        _expectRevert(s, abi.encodeWithSelector(ILedger.FieldOverflow.selector, type(uint256).max));
    }

    /// @dev And with a proof that was made for the aliased calldata: what the ledger derives is below the modulus, or refused before.
    function test_RevertWhen_TheProofIsForTheAliasedCalldata() external {
        Reference.Settlement memory s = _settlement(BOOK_96, _deltas(96, 1));
        s.newRoot += P;
        _expectRevert(_prove(ledger, s, _emptyRoot(1)), abi.encodeWithSelector(ILedger.FieldOverflow.selector, s.newRoot));
    }

    function test_RevertWhen_PublicInputsReachTheModulus() external view {
        Reference.Settlement memory s = _good(BOOK_96, 1);
        uint256[3] memory inputs = Reference.settleInputs(address(ledger), _emptyRoot(1), s, 96);
        vm.assertTrue(settleVerifier.verify(inputs, s.proof));
        for (uint256 i = 0; i < 3; ++i) {
            inputs[i] += P;
            vm.assertFalse(settleVerifier.verify(inputs, s.proof));
            inputs[i] -= P;
        }
    }

    /// @dev The prover picks `r` itself and has a proof for it. The ledger has its own.
    function test_RevertWhen_TheChallengeIsNotFromTheCalldata() external {
        Reference.Settlement memory s = _settlement(BOOK_96, _deltas(96, 1));
        uint256[4] memory chosen = [uint256(0), 1, 2, P - 1];
        for (uint256 i = 0; i < chosen.length; ++i) {
            uint256 y = Reference.horner(Reference.settleData(_emptyRoot(1), s, 96), chosen[i]);
            s.proof = _prove([s.commitment, chosen[i], y]);
            _expectRejected(s);
        }
        // A challenge that forgets the deltas, and one that forgets the commitment.
        uint256[3] memory inputs = Reference.settleInputs(address(ledger), _emptyRoot(1), s, 96);
        bytes memory deltas = s.deltas;
        s.deltas = new bytes(deltas.length);
        inputs[1] = Reference.settleInputs(address(ledger), _emptyRoot(1), s, 96)[1];
        s.deltas = deltas;
        inputs[2] = Reference.horner(Reference.settleData(_emptyRoot(1), s, 96), inputs[1]);
        s.proof = _prove(inputs);
        _expectRejected(s);
        uint256 commitment = s.commitment;
        s.commitment = 1;
        inputs = Reference.settleInputs(address(ledger), _emptyRoot(1), s, 96);
        s.commitment = commitment;
        inputs[0] = commitment;
        s.proof = _prove(inputs);
        _expectRejected(s);
    }

    function test_RevertWhen_AnythingOfTheCalldataIsChanged() external {
        Reference.Settlement memory good = _good(BOOK_96, 1);
        for (uint256 i = 0; i < 8; ++i) {
            Reference.Settlement memory s = abi.decode(abi.encode(good), (Reference.Settlement));
            if (i == 0) s.newRoot ^= 1;
            if (i == 1) s.totalNanos += 1;
            if (i == 2) s.commitment ^= 1;
            if (i == 3) s.deltas[0] ^= 0x80;
            if (i == 4) s.deltas[8 * 96 - 1] ^= 0x01;
            if (i == 5) s.proof[7] = s.proof[7] ^ 1;
            if (i == 6) (s.proof[0], s.proof[1], s.proof[6], s.proof[7]) = (s.proof[6], s.proof[7], s.proof[0], s.proof[1]);
            if (i == 7) s.totalNanos = 0;
            _expectRejected(s);
        }
        _settle(good);
    }

    /// @dev Groups of 31 bytes are the coefficients of the polynomial; their order is part of it.
    function test_RevertWhen_GroupsAreSwapped() external {
        Reference.Settlement memory s = _good(BOOK_96, 1);
        for (uint256 i = 0; i < 31; ++i) {
            (s.deltas[i], s.deltas[31 + i]) = (s.deltas[31 + i], s.deltas[i]);
        }
        _expectRejected(s);
    }

    /// @dev The fill of the last word is in no calldata: what would be in it is the next settlement's, or nothing.
    function test_RevertWhen_DeltasHaveAnotherLength() external {
        Reference.Settlement memory s = _good(BOOK_96, 1);
        bytes memory deltas = s.deltas;
        s.deltas = bytes.concat(deltas, new bytes(7));
        _expectRevert(s, abi.encodeWithSelector(ILedger.SettlementLength.selector, 336 + 8 * 24, 7));
        // Proven with the fill: a coefficient that no slot has.
        s.deltas = bytes.concat(deltas, hex"00000000000001");
        s = _prove(ledger, s, _emptyRoot(1));
        _expectRevert(s, abi.encodeWithSelector(ILedger.SettlementLength.selector, 336 + 8 * 24, 7));
        s.deltas = new bytes(8 * 96 - 1);
        _expectRevert(s, abi.encodeWithSelector(ILedger.SettlementLength.selector, 336 + 8 * 96, 336 + 8 * 96 - 1));
    }

    function test_RevertWhen_ASettlementIsReplayed() external {
        Reference.Settlement memory s = _good(BOOK_96, 1);
        // In another ledger with the same verifiers, whose book has the same root.
        ILedger other = _newLedger(PROVIDER, OPERATOR, address(token), 0, _tiers());
        Reference.Settlement[] memory list = _list(s);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_96));
        vm.prank(OPERATOR);
        other.settle(Reference.pack(list), _noEpochs());
        // On another chain.
        vm.chainId(1);
        _expectRejected(s);
        vm.chainId(31337);
        // For another book of the same size and root.
        s.book += 1;
        _expectRejected(s);
        s.book -= 1;
        // Twice in one batch.
        list = _list(s, s);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_96));
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());
        // A second time: the root is an old one now.
        _settle(s);
        _expectRejected(s);
    }

    function test_RevertWhen_TheOldRootIsNotTheStoredOne() external {
        Reference.Settlement memory a = _good(BOOK_96, 1);
        Reference.Settlement memory b = _good(BOOK_96, 2);
        _settle(a);
        _expectRejected(b);
        Reference.Settlement memory c = _settlement(BOOK_96, _deltas(96, 3));
        _expectRejected(_prove(ledger, c, _emptyRoot(1)));
        _settle(_prove(ledger, c, a.newRoot));
    }

    /// @dev In a batch each proof answers for its own book: they cannot lend each other anything.
    function test_RevertWhen_ABatchIsMixedUp() external {
        Reference.Settlement memory a = _good(BOOK_96, 1);
        Reference.Settlement memory b = _good(BOOK_96 + 1, 2);
        Reference.Settlement[] memory list = _list(a, b);
        (a.proof, b.proof) = (b.proof, a.proof);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_96));
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());
        // One of many is wrong: it is named.
        (a.proof, b.proof) = (b.proof, a.proof);
        b.totalNanos += 1;
        vm.expectRevert(abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_96 + 1));
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());
        // What one book takes less the other cannot take more: C of one moved to the other.
        b.totalNanos -= 1;
        (a.commitment, b.commitment) = (b.commitment, a.commitment);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_96));
        vm.prank(OPERATOR);
        ledger.settle(Reference.pack(list), _noEpochs());
    }

    // ---------------------------------------------------------------------------------------------------------------------- register

    function _proveRegistration(ILedger.Registration memory g, uint256 oldRoot) private view returns (ILedger.Registration memory) {
        g.proof = _prove(Reference.registerInputs(address(ledger), oldRoot, g, _slots(g.book)));
        return g;
    }

    function _expectRegisterRevert(ILedger.Registration memory g, ILedger.Request[] memory requests, bytes memory data) private {
        ILedger.Registration[] memory list = _list(g);
        vm.expectRevert(data);
        vm.prank(OPERATOR);
        ledger.register(list, requests);
    }

    function test_RegistrationsAreBoundToo() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        ILedger.Request[] memory requests = _oldest(1);
        ILedger.Registration memory good = _proveRegistration(_registration(BOOK_96, _rows(_row(3, OPENED, uid, 5e9, 0))), _emptyRoot(1));
        bytes memory rejected = abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_96);
        for (uint256 i = 0; i < 4; ++i) {
            ILedger.Registration memory g = abi.decode(abi.encode(good), (ILedger.Registration));
            if (i == 0) g.rows[0].slot = 4;
            if (i == 1) g.newRoot ^= 1;
            if (i == 2) g.commitment ^= 1;
            if (i == 3) g.proof[6] ^= 1;
            _expectRegisterRevert(g, requests, rejected);
        }
        good.book += 1;
        _expectRegisterRevert(good, requests, abi.encodeWithSelector(ILedger.ProofRejected.selector, good.book));
        good.book -= 1;
        vm.chainId(1);
        _expectRegisterRevert(good, requests, rejected);
        vm.chainId(31337);
        good.newRoot += P;
        _expectRegisterRevert(good, requests, abi.encodeWithSelector(ILedger.FieldOverflow.selector, good.newRoot));
        good.newRoot -= P;
        good.rows[0].keyX += P;
        _expectRegisterRevert(good, requests, abi.encodeWithSelector(ILedger.RowMismatch.selector, 0, 0));
        good.rows[0].keyX -= P;
        // A proof for settling is none for registering, whatever it says.
        uint256[3] memory inputs = Reference.registerInputs(address(ledger), _emptyRoot(1), good, 96);
        Reference.Settlement memory s;
        (s.book, s.newRoot, s.commitment) = (BOOK_96, good.newRoot, good.commitment);
        s.deltas = abi.encode(good.rows);
        uint256 r = uint256(
            keccak256(
                abi.encode(
                    keccak256("MillstreamSettle/1"),
                    block.chainid,
                    ledger,
                    BOOK_96,
                    _emptyRoot(1),
                    s.newRoot,
                    0,
                    s.commitment,
                    keccak256(s.deltas)
                )
            )
        ) % P;
        uint256[8] memory proof = good.proof;
        good.proof = _prove([inputs[0], r, Reference.horner(Reference.registerData(_emptyRoot(1), good, 96), r)]);
        _expectRegisterRevert(good, requests, rejected);
        good.proof = proof;
        _register(good, requests);
        vm.assertEq(ledger.bookRoot(BOOK_96), good.newRoot);
    }

    /// @dev A refund is the one number of a row that no request says: only the proof does.
    function test_RevertWhen_ARefundIsChanged() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        _register(_proveRegistration(_registration(BOOK_96, _rows(_row(3, OPENED, uid, 5e9, 0))), _emptyRoot(1)), _oldest(1));
        _requestClose(ALICE, uid);
        uint256 root = ledger.bookRoot(BOOK_96);
        ILedger.Registration memory g = _proveRegistration(_registration(BOOK_96, _rows(_row(3, CLOSED, uid, 0, 4e9))), root);
        ILedger.Request[] memory requests = _oldest(1);
        g.rows[0].refundNanos = 5e9;
        _expectRegisterRevert(g, requests, abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_96));
        g.rows[0].refundNanos = 4e9;
        _register(g, requests);
        vm.assertEq(ledger.creditNanos(ALICE), 4e9);
    }

    /// @dev What a move says of a channel is what the proof says that its slot held: neither row alone, nor both, can be changed.
    function test_RevertWhen_AMoveChangesAnAmount() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        _register(_proveRegistration(_registration(BOOK_96, _rows(_row(3, OPENED, uid, 5e9, 0))), _emptyRoot(1)), _oldest(1));
        uint256 root = ledger.bookRoot(BOOK_96);
        ILedger.Registration[] memory list = _list(
            _proveRegistration(_registration(BOOK_96, _rows(_row(3, OUT, uid, 5e9, 1e9))), root),
            _proveRegistration(_registration(BOOK_24, _rows(_row(7, IN, uid, 5e9, 1e9))), _emptyRoot(0))
        );
        ILedger.Request[] memory none = new ILedger.Request[](0);
        for (uint256 i = 0; i < 6; ++i) {
            ILedger.Registration[] memory changed = abi.decode(abi.encode(list), (ILedger.Registration[]));
            for (uint256 j = 0; j < 2; ++j) {
                if (i < 4 && j != i / 2) continue;
                if (i % 2 == 0) changed[j].rows[0].deltaNanos += 1;
                if (i % 2 == 1) changed[j].rows[0].refundNanos -= 1;
            }
            // One row alone is not its partner's; both together are not what is proven.
            vm.expectRevert(
                i < 4
                    ? abi.encodeWithSelector(ILedger.MoveMismatch.selector, uid)
                    : abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_96)
            );
            vm.prank(OPERATOR);
            ledger.register(changed, none);
        }
        // The one row proven anew does not help: the other is proven as it was.
        list[1].rows[0].deltaNanos += 1;
        list[0].rows[0].deltaNanos += 1;
        list[1] = _proveRegistration(list[1], _emptyRoot(0));
        vm.expectRevert(abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_96));
        vm.prank(OPERATOR);
        ledger.register(list, none);
        list[1].rows[0].deltaNanos -= 1;
        list[0].rows[0].deltaNanos -= 1;
        list[1] = _proveRegistration(list[1], _emptyRoot(0));
        // Nor does another slot than the proven one.
        list[1].rows[0].slot = 8;
        vm.expectRevert(abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_24));
        vm.prank(OPERATOR);
        ledger.register(list, none);
        list[1].rows[0].slot = 7;
        vm.prank(OPERATOR);
        ledger.register(list, none);
        // A second time: the roots are others now.
        vm.expectRevert(abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_96));
        vm.prank(OPERATOR);
        ledger.register(list, none);
    }

    function test_RegistrationsOfManyBooksAreCheckedTogether() external {
        uint248 a = _open(ALICE, 1, 5e6);
        uint248 b = _open(BOB, 1, 5e6);
        ILedger.Registration memory first = _proveRegistration(_registration(BOOK_96, _rows(_row(3, OPENED, a, 5e9, 0))), _emptyRoot(1));
        ILedger.Registration memory second = _proveRegistration(_registration(BOOK_24, _rows(_row(3, OPENED, b, 5e9, 0))), _emptyRoot(0));
        ILedger.Request[] memory requests = _oldest(2);
        requests[1].registration = 1;
        ILedger.Registration[] memory list = _list(first, second);
        (first.proof, second.proof) = (second.proof, first.proof);
        vm.expectRevert(abi.encodeWithSelector(ILedger.ProofRejected.selector, BOOK_96));
        vm.prank(OPERATOR);
        ledger.register(list, requests);
        (first.proof, second.proof) = (second.proof, first.proof);
        vm.prank(OPERATOR);
        ledger.register(list, requests);
        vm.assertTrue(ledger.channel(a).included && ledger.channel(b).included);
    }
}
