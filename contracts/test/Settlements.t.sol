// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILedger} from "../src/interfaces/ILedger.sol";
import {IVerifier} from "../src/interfaces/IVerifier.sol";
import {Reference} from "./utils/Reference.sol";
import {SettlementsFixture} from "./utils/SettlementsFixture.sol";

/// @title The ledger with real proofs of whole books: what it takes, and that a proof is good for its own place, book, root and data only.
contract SettlementsTest is SettlementsFixture {
    /// @dev The development keys of settle-96 and settle-384. They change with the circuits and with nothing else.
    bytes32 private constant KEY_96 = 0x4d3462cad33fb52af4f380e945675df99e85b4f0a582704604dcd78540ae9e00;
    bytes32 private constant KEY_384 = 0xab6d9da01561c2369c86f96fe67416dfc37788b7d9857c14e512280cff3808f9;

    function setUp() public override {
        super.setUp();
        _loadSettlements();
    }

    function _settleAs(ILedger where, Reference.Settlement[] memory settlements) private {
        vm.prank(OPERATOR);
        where.settle(Reference.pack(settlements), _noEpochs());
    }

    function _refused(ILedger where, Reference.Settlement[] memory settlements, uint32 book) private {
        vm.expectRevert(abi.encodeWithSelector(ILedger.ProofRejected.selector, book));
        _settleAs(where, settlements);
    }

    function test_KeysArePinned() external view {
        vm.assertEq(_verifiers[0].keyHash(), KEY_96);
        vm.assertEq(_verifiers[1].keyHash(), KEY_384);
    }

    function test_SettlesEachBookAlone() external {
        uint256 credit = 0;
        for (uint256 i = 0; i < SETTLEMENTS; ++i) {
            Reference.Settlement[] memory one = _vectors(i, 1);
            _settleAs(ledger, one);
            credit += one[0].totalNanos;
            vm.assertEq(ledger.bookRoot(one[0].book), one[0].newRoot);
            vm.assertEq(ledger.creditNanos(PROVIDER), credit);
        }
    }

    /// @dev Books of both tiers in one transaction.
    function test_SettlesAllBooksTogether() external {
        Reference.Settlement[] memory all = _vectors(0, SETTLEMENTS);
        _settleAs(ledger, all);
        uint256 credit = 0;
        for (uint256 i = 0; i < SETTLEMENTS; ++i) {
            credit += all[i].totalNanos;
            vm.assertEq(ledger.bookRoot(all[i].book), all[i].newRoot);
        }
        vm.assertEq(ledger.creditNanos(PROVIDER), credit);
    }

    function test_DeltasAreDistinctAndOfFiveBytes() external view {
        uint256[] memory deltas = new uint256[](2400);
        uint256 count = 0;
        for (uint256 i = 0; i < SETTLEMENTS; ++i) {
            (Reference.Settlement memory s,) = _vector(i);
            uint256 total = 0;
            bytes memory packed = s.deltas;
            for (uint256 slot = 0; slot < (i == 0 ? 96 : 384); ++slot) {
                uint256 delta;
                assembly ("memory-safe") {
                    delta := shr(192, mload(add(add(packed, 32), mul(8, slot))))
                }
                vm.assertTrue(delta >= 1 << 32 && delta < 1 << 40);
                deltas[count++] = delta;
                total += delta;
            }
            vm.assertEq(total, s.totalNanos);
        }
        vm.assertEq(count, 2400);
        _sort(deltas, 0, deltas.length);
        for (uint256 i = 1; i < count; ++i) {
            vm.assertTrue(deltas[i - 1] < deltas[i]);
        }
    }

    function _sort(uint256[] memory list, uint256 from, uint256 to) private pure {
        if (to - from < 2) return;
        uint256 pivot = list[from + (to - from) / 2];
        (uint256 left, uint256 right) = (from, to - 1);
        while (true) {
            while (list[left] < pivot) ++left;
            while (list[right] > pivot) --right;
            if (left >= right) break;
            (list[left], list[right]) = (list[right], list[left]);
            ++left;
            --right;
        }
        _sort(list, from, left);
        _sort(list, left, to);
    }

    // -------------------------------------------------------------------------------------------------------- where a proof is good

    function test_RevertWhen_ASettlementIsReplayed() external {
        for (uint256 i = 0; i < 2; ++i) {
            Reference.Settlement[] memory one = _vectors(i, 1);
            _settleAs(ledger, one);
            _refused(ledger, one, one[0].book);
        }
        // In one transaction: the second is checked against the root that the first left.
        Reference.Settlement[] memory twice = new Reference.Settlement[](2);
        (twice[0],) = _vector(2);
        (twice[1],) = _vector(2);
        _refused(ledger, twice, twice[1].book);
    }

    function test_RevertWhen_TheRootIsAnother() external {
        // The book of another settlement, before any: its root is not the one that was proved from.
        Reference.Settlement[] memory one = _vectors(1, 1);
        one[0].book += 6;
        _refused(ledger, one, one[0].book);
    }

    function test_RevertWhen_TheChainOrTheLedgerIsAnother() external {
        Reference.Settlement[] memory one = _vectors(1, 1);
        vm.chainId(1);
        _refused(ledger, one, one[0].book);
        vm.chainId(31337);
        ILedger elsewhere = ILedger(address(uint160(address(ledger)) + 1));
        _ledgerAt(address(elsewhere));
        _setBook(elsewhere, 1);
        vm.assertEq(elsewhere.bookRoot(one[0].book), ledger.bookRoot(one[0].book));
        _refused(elsewhere, one, one[0].book);
        _settleAs(ledger, one);
    }

    /// @dev The same root in another book: only the number of the book is another.
    function test_RevertWhen_TheBookIsAnother() external {
        Reference.Settlement[] memory one = _vectors(1, 1);
        one[0].book += 100;
        (, uint256 oldRoot) = _vector(1);
        _setRoot(ledger, one[0].book, oldRoot);
        _refused(ledger, one, one[0].book);
    }

    function test_RevertWhen_ProofsOrDataAreSwapped() external {
        Reference.Settlement[] memory two = _vectors(1, 2);
        (two[0].proof, two[1].proof) = (two[1].proof, two[0].proof);
        _refused(ledger, two, two[0].book);
        two = _vectors(1, 2);
        (two[0].deltas, two[1].deltas) = (two[1].deltas, two[0].deltas);
        _refused(ledger, two, two[0].book);
        two = _vectors(1, 2);
        (two[0].commitment, two[1].commitment) = (two[1].commitment, two[0].commitment);
        _refused(ledger, two, two[0].book);
        // Whole settlements under the other's book.
        two = _vectors(1, 2);
        (two[0].book, two[1].book) = (two[1].book, two[0].book);
        _refused(ledger, two, two[0].book);
    }

    /// @dev The challenge is hashed from all of it: one changed number and the proof is of another.
    function test_RevertWhen_TheDataIsChanged() external {
        Reference.Settlement[] memory one = _vectors(1, 1);
        one[0].totalNanos += 1;
        _refused(ledger, one, one[0].book);
        one = _vectors(1, 1);
        one[0].commitment ^= 1;
        _refused(ledger, one, one[0].book);
        one = _vectors(1, 1);
        one[0].newRoot ^= 1;
        _refused(ledger, one, one[0].book);
        for (uint256 i = 7; i < 8 * 384; i += 1021) {
            one = _vectors(1, 1);
            one[0].deltas[i] ^= 0x01;
            _refused(ledger, one, one[0].book);
        }
        // A nano moves from one slot to another: the total and the sum stay.
        one = _vectors(1, 1);
        one[0].deltas[7] = bytes1(uint8(one[0].deltas[7]) ^ 1);
        one[0].deltas[15] = bytes1(uint8(one[0].deltas[15]) ^ 1);
        _refused(ledger, one, one[0].book);
    }

    /// @dev Other numbers with the same remainder: the polynomial, the commitment and the proof would be the same.
    function test_RevertWhen_ANumberIsAliased() external {
        Reference.Settlement[] memory one = _vectors(1, 1);
        one[0].newRoot += P;
        vm.expectRevert(abi.encodeWithSelector(ILedger.FieldOverflow.selector, one[0].newRoot));
        _settleAs(ledger, one);
        one = _vectors(1, 1);
        one[0].commitment += P;
        vm.expectRevert(abi.encodeWithSelector(ILedger.FieldOverflow.selector, one[0].commitment));
        _settleAs(ledger, one);
        one = _vectors(1, 1);
        one[0].proof[0] += 21888242871839275222246405745257275088696311157297823662689037894645226208583;
        _refused(ledger, one, one[0].book);
    }

    /// @dev One bad proof among good ones, in each place; nothing of the transaction stays.
    function test_RevertWhen_OneOfSixIsBad() external {
        for (uint256 i = 0; i < 6; ++i) {
            Reference.Settlement[] memory six = _vectors(1, 6);
            uint256 oldRoot = ledger.bookRoot(six[0].book);
            six[i].proof = six[(i + 1) % 6].proof;
            _refused(ledger, six, six[i].book);
            vm.assertEq(ledger.bookRoot(six[0].book), oldRoot);
        }
        vm.assertEq(ledger.creditNanos(PROVIDER), 0);
    }

    // --------------------------------------------------------------------------------------------------------------------------- keys

    /// @dev L-22, with the keys of the circuits.
    function test_RevertWhen_AKeyIsDegenerate() external {
        uint256[4] memory generator = [
            0x198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2,
            0x1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed,
            0x090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b,
            0x12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa
        ];
        bytes memory code = vm.getCode("Groth16Verifier.sol:Groth16Verifier");
        for (uint256 key = 0; key < 2; ++key) {
            for (uint256 lie = 0; lie < 4; ++lie) {
                uint256[22] memory vk = _keys[key];
                for (uint256 i = 0; i < 4; ++i) {
                    if (lie == 0) vk[10 + i] = vk[6 + i];
                    if (lie == 1) vk[6 + i] = generator[i];
                    if (lie == 2) vk[10 + i] = generator[i];
                    if (lie == 3) (vk[6 + i], vk[10 + i]) = (generator[i], generator[i]);
                }
                (bool made, bytes memory why) = _create(abi.encodePacked(code, abi.encode(vk)));
                vm.assertFalse(made);
                vm.assertEq(keccak256(why), keccak256(abi.encodePacked(IVerifier.DegenerateKey.selector)));
            }
            (bool good,) = _create(abi.encodePacked(code, abi.encode(_keys[key])));
            vm.assertTrue(good);
        }
    }

    function _create(bytes memory code) private returns (bool made, bytes memory why) {
        assembly ("memory-safe") {
            made := gt(create(0, add(code, 32), mload(code)), 0)
            why := mload(0x40)
            mstore(why, returndatasize())
            returndatacopy(add(why, 32), 0, returndatasize())
            mstore(0x40, add(why, and(add(returndatasize(), 63), not(31))))
        }
    }
}

/// @title Gas of whole settlements with real proofs (with `--isolate`), gas a channel, and bytes of calldata.
contract SettlementsSnapshotTest is SettlementsFixture {
    function setUp() public override {
        super.setUp();
        _loadSettlements();
        _setCredit(ledger);
    }

    function _measure(uint256 first, uint256 count, uint256 channels, uint256 gasMax, uint256 bytesMax, string memory name) private {
        bytes memory settlements = Reference.pack(_vectors(first, count));
        uint256 size = abi.encodeCall(ILedger.settle, (settlements, _noEpochs())).length;
        vm.prank(OPERATOR);
        ledger.settle(settlements, _noEpochs());
        uint256 gas = vm.snapshotGasLastCall("gas", string.concat("settle ", name, ", real proofs"));
        vm.snapshotValue("gas", string.concat("settle ", name, ", a channel"), (gas + channels - 1) / channels);
        vm.snapshotValue("calldata", string.concat("settle ", name), size);
        vm.snapshotValue("calldata", string.concat("settle ", name, ", 1,000 channels"), (1_000 * size + channels - 1) / channels);
        vm.assertLe(gas, gasMax * channels);
        vm.assertLe(size, bytesMax * channels);
    }

    function test_OneBookOf96() external {
        _measure(0, 1, 96, 2_800, 14, "1 x 96");
    }

    function test_OneBookOf384() external {
        _measure(1, 1, 384, 800, 10, "1 x 384");
    }

    function test_SixBooksOf384() external {
        _measure(1, 6, 2_304, 400, 9, "6 x 384");
    }
}
