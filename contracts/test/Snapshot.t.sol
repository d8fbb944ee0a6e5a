// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {BookPaths} from "../src/BookPaths.sol";
import {IBookPaths} from "../src/interfaces/IBookPaths.sol";
import {IVerifier} from "../src/interfaces/IVerifier.sol";
import {ILedgerFactory} from "../src/interfaces/ILedgerFactory.sol";
import {ILedger} from "../src/interfaces/ILedger.sol";
import {LedgerFixture} from "./utils/LedgerFixture.sol";
import {PathsFixture} from "./utils/PathsFixture.sol";
import {Reference} from "./utils/Reference.sol";
import {ReferenceBookPaths} from "./utils/ReferenceBookPaths.sol";
import {RelayFixture} from "./utils/RelayFixture.sol";
import {TrapdoorProver} from "./utils/TrapdoorProver.sol";

/// @title Gas of whole transactions (with `--isolate`) and sizes of code, kept in `snapshots/`.
/// @dev The verifiers of the ledger are stubs here; `verify` is measured by itself. See `SettleSnapshotTest` for both together.
contract SnapshotTest is RelayFixture, PathsFixture {
    function _gas(string memory name) private {
        vm.snapshotGasLastCall("gas", name);
    }

    function _deltas(uint256 slots) private pure returns (uint64[] memory deltas) {
        deltas = new uint64[](slots);
        // Five significant bytes, as a few hundred tokens in nanos have.
        for (uint256 i = 0; i < slots; ++i) {
            deltas[i] = uint64(uint256(keccak256(abi.encode(i))) >> 216);
        }
    }

    /// @dev The provider's credit and the book are not zero before, as in operation.
    function _settleGas(uint32 book, string memory name) private {
        uint64[] memory deltas = _deltas(_slots(book));
        _settle(_settlement(book, deltas));
        _settle(_settlement(book, deltas));
        _gas(name);
    }

    function test_Open() external {
        _open(BOB, 1, 5e6);
        _fund(ALICE, 5e6);
        vm.prank(ALICE);
        ledger.open(_key(0), bytes32(uint256(1)), 5e6);
        _gas("open");
    }

    /// @dev What a payment costs without a channel: to somebody who has some of the token already.
    function test_Transfer() external {
        token.mint(ALICE, 5e6);
        token.mint(BOB, 5e6);
        vm.prank(ALICE);
        IERC20(address(token)).transfer(BOB, 1e6);
        _gas("transfer of the test token");
    }

    function test_TopUp() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        _fund(ALICE, 5e6);
        vm.prank(ALICE);
        ledger.topUp(uid, 5e6);
        _gas("topUp");
    }

    function test_WaysIn() external {
        _open(BOB, 1, 5e6);
        _fund(ALICE, 5e6);
        vm.prank(ALICE);
        uint248 uid = ledger.openFor(PAYER, _key(0), SALT, 5e6);
        _gas("openFor");

        token.mint(PAYER, 100e6);
        bytes memory signature = _receive(PAYER, 5e6, ledger.openAuthorizationNonce(PAYER, _key(0).x, SALT));
        vm.prank(STRANGER);
        ledger.openWithAuthorization(PAYER, _key(0), SALT, 5e6, 0, UNTIL, signature);
        _gas("openWithAuthorization");
        signature = _receive(PAYER, 5e6, ledger.topUpAuthorizationNonce(uid, SALT));
        vm.prank(STRANGER);
        ledger.topUpWithAuthorization(PAYER, uid, 5e6, SALT, 0, UNTIL, signature);
        _gas("topUpWithAuthorization");

        ILedger.PermitSignature memory permit = _permit(PAYER, 5e6, UNTIL);
        uint248 other = ledger.channelUid(PAYER, _key(0).x, bytes32(uint256(1)));
        bytes memory consent = _openConsent(PAYER, other, 5e6, UNTIL);
        vm.prank(STRANGER);
        ledger.openWithPermit(PAYER, _key(0), bytes32(uint256(1)), 5e6, UNTIL, permit, consent);
        _gas("openWithPermit");
        permit = _permit(PAYER, 5e6, UNTIL);
        consent = _topUpConsent(PAYER, uid, 5e6, SALT, UNTIL);
        vm.prank(STRANGER);
        ledger.topUpWithPermit(PAYER, uid, 5e6, SALT, UNTIL, permit, consent);
        _gas("topUpWithPermit");

        _fundPermit2(PAYER, 100e6);
        other = ledger.channelUid(PAYER, _key(0).x, bytes32(uint256(2)));
        signature = _permit2(address(ledger), "MillstreamOpen", other, 5e6, 0, UNTIL);
        vm.prank(STRANGER);
        ledger.openWithPermit2(PAYER, _key(0), bytes32(uint256(2)), 5e6, 0, UNTIL, signature);
        _gas("openWithPermit2");
        signature = _permit2(address(ledger), "MillstreamTopUp", uid, 5e6, 1, UNTIL);
        vm.prank(STRANGER);
        ledger.topUpWithPermit2(PAYER, uid, 5e6, 1, UNTIL, signature);
        _gas("topUpWithPermit2");
    }

    function test_WaysOut() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        ReferenceBookPaths.Slot[] memory book = new ReferenceBookPaths.Slot[](384);
        book[200] = ReferenceBookPaths.Slot(uid, _key(0).x, 5e9, 0);
        ILedger.Registration memory g = _registration(BOOK_384, _rows(_row(200, OPENED, uid, 5e9, 0)));
        g.newRoot = paths.rootOf(book);
        _register(g, _oldest(1));
        uint248 waiting = _open(BOB, 1, 5e6);
        uint248 another = _open(BOB, 2, 5e6);
        vm.warp(START + WINDOW + 1);
        _cancelOpen(BOB, waiting, 1);
        _gas("cancelOpen");
        ILedger.Request[] memory requests = _oldest(1);
        vm.prank(OPERATOR);
        ledger.register(new ILedger.Registration[](0), requests);
        _gas("register 1 void");
        vm.warp(START + HALT_WINDOW + 1);
        ledger.halt();
        _gas("halt");
        _cancelOpen(STRANGER, another, 2);
        IBookPaths.SlotPath memory path = paths.pathOf(book, 200);
        ledger.leave(BOOK_384, path);
        _gas("leave, without the hashing");
    }

    function test_Create() external {
        ILedgerFactory factory = ILedgerFactory(vm.deployCode("LedgerFactory.sol:LedgerFactory", abi.encode(IBookPaths(paths), _tiers())));
        vm.snapshotValue("size", "LedgerFactory", address(factory).code.length);
        factory.create(_terms(PROVIDER, OPERATOR, address(token), 0), 0);
        _gas("create a ledger");
    }

    function test_RequestClose() external {
        uint248 uid = _open(ALICE, 1, 5e6);
        vm.prank(ALICE);
        ledger.requestClose(uid);
        _gas("requestClose");
    }

    function test_Register() external {
        uint248 a = _openIn(BOOK_96, 0, ALICE, 1, 5e6);
        uint248 b = _open(BOB, 1, 5e6);
        _register(_registration(BOOK_96, _rows(_row(1, OPENED, b, 5e9, 0))), _oldest(1));
        _gas("register 1 open");
        _topUp(ALICE, a, 5e6);
        _register(_registration(BOOK_96, _rows(_row(0, TOUCHED, a, 5e9, 0))), _oldest(1));
        _gas("register 1 top up");
        _requestClose(ALICE, a);
        _register(_registration(BOOK_96, _rows(_row(0, CLOSED, a, 0, 1e9))), _oldest(1));
        _gas("register 1 close");
    }

    /// @dev Of two books of 96 with a few channels each, one is emptied into the other. With stub verifiers, as all of `register` here.
    function test_Move() external {
        _move(1, "move 1 channel");
        _move(12, "move 12 channels");
    }

    function _move(uint16 count, string memory name) private {
        (uint32 from, uint32 to) = (BOOK_96 + count, BOOK_96 + count + 100);
        ILedger.Row[] memory outs = new ILedger.Row[](count);
        ILedger.Row[] memory ins = new ILedger.Row[](count);
        for (uint16 i = 0; i < count; ++i) {
            uint248 uid = _openIn(from, i, ALICE, uint256(count) << 16 | i, 5e6);
            // Amounts as they are after a while: all bytes of both words count.
            (outs[i], ins[i]) = (_row(i, OUT, uid, 5_123_456_789, 1_234_567_891), _row(40 + i, IN, uid, 5_123_456_789, 1_234_567_891));
        }
        _openIn(to, 0, BOB, count, 5e6);
        ILedger.Registration[] memory list = _list(_registration(from, outs), _registration(to, ins));
        ILedger.Request[] memory none = new ILedger.Request[](0);
        vm.prank(OPERATOR);
        ledger.register(list, none);
        _gas(name);
    }

    function test_RegisterAWholeBook() external {
        ILedger.Row[] memory rows = new ILedger.Row[](96);
        for (uint16 i = 0; i < 96; ++i) {
            rows[i] = _row(i, OPENED, _open(ALICE, i, 5e6), 5e9, 0);
        }
        ILedger.Request[] memory requests = _oldest(96);
        for (uint16 i = 0; i < 96; ++i) {
            requests[i].row = i;
        }
        _register(_registration(BOOK_96, rows), requests);
        _gas("register 96 opens");
    }

    function test_Settle() external {
        _settleGas(BOOK_24, "settle 24");
        _settleGas(BOOK_96, "settle 96");
        _settleGas(BOOK_384, "settle 384");
    }

    function test_Withdraw() external {
        _openIn(BOOK_24, 0, ALICE, 1, 10e6);
        token.mint(PROVIDER, 1);
        _settle(_settlement(BOOK_24, 3_000_000_999));
        ledger.withdraw(PROVIDER);
        _gas("withdraw");
    }

    function _words(string memory vector, string memory path) private pure returns (bytes memory) {
        // The words of an array of fixed length are what `encodePacked` gives.
        return abi.encodePacked(vm.parseJsonUintArray(vector, path));
    }

    function test_Verify() external {
        string memory vector = vm.readFile("vectors/groth16.json");
        address verifier = vm.deployCode("Groth16Verifier.sol:Groth16Verifier", _words(vector, ".vk"));
        vm.snapshotValue("size", "Groth16Verifier", verifier.code.length);
        _call(verifier, abi.encodePacked(IVerifier.verify.selector, _words(vector, ".inputs"), _words(vector, ".proof")), "verify");

        uint256[3][] memory inputs = new uint256[3][](6);
        uint256[8][] memory proofs = new uint256[8][](6);
        for (uint256 i = 0; i < 6; ++i) {
            string memory where = i == 0 ? "" : string.concat(".batch[", vm.toString(i - 1), "]");
            inputs[i] = abi.decode(_words(vector, string.concat(where, ".inputs")), (uint256[3]));
            proofs[i] = abi.decode(_words(vector, string.concat(where, ".proof")), (uint256[8]));
        }
        _call(verifier, abi.encodeCall(IVerifier.verifyBatch, (inputs, proofs)), "verifyBatch 6");
        assembly ("memory-safe") {
            // Shorter lists of the same.
            mstore(inputs, 2)
            mstore(proofs, 2)
        }
        _call(verifier, abi.encodeCall(IVerifier.verifyBatch, (inputs, proofs)), "verifyBatch 2");
    }

    function _call(address verifier, bytes memory call, string memory name) private {
        (bool ok, bytes memory data) = verifier.call(call);
        _gas(name);
        vm.assertTrue(ok && abi.decode(data, (bool)));
    }

    /// @dev A slot in the middle of a book: the last resort of its payer. A transaction may take 16,777,216 (EIP-7825).
    function test_BookPaths() external {
        _readPaths();
        BookPaths bookPaths = new BookPaths();
        uint256[2] memory instances = [uint256(7), 13];
        string[2] memory names = ["book path 24", "book path 384"];
        for (uint256 i = 0; i < 2; ++i) {
            (, uint16 slots, IBookPaths.SlotPath memory path,) = _read(instances[i]);
            (bool ok,) = address(bookPaths).call(abi.encodeCall(IBookPaths.root, (slots, path)));
            _gas(names[i]);
            vm.assertTrue(ok);
        }
        vm.snapshotValue("size", "BookPaths", address(bookPaths).code.length);
        // What deploying takes: the tables are two contracts. EIP-3860 allows 49,152 bytes of creation code.
        vm.snapshotValue("size", "BookPaths creation", type(BookPaths).creationCode.length);
        vm.assertLe(type(BookPaths).creationCode.length, 49152);
    }

    function test_Size() external {
        vm.snapshotValue("size", "Ledger", address(ledger).code.length);
        // EIP-170.
        vm.assertLe(address(ledger).code.length, 24576);
    }
}

/// @title Gas of settlements with true proofs: what a provider pays. Five significant bytes in each delta, all different.
contract SettleSnapshotTest is LedgerFixture, TrapdoorProver {
    function _newVerifiers() internal override {
        _load();
        (settleVerifier, registerVerifier) = (IVerifier(_newVerifier()), IVerifier(_newVerifier()));
    }

    function _proven(uint32 book, uint256 oldRoot, uint256 seed) private view returns (Reference.Settlement memory s) {
        uint64[] memory deltas = new uint64[](_slots(book));
        for (uint256 i = 0; i < deltas.length; ++i) {
            deltas[i] = uint64(uint256(keccak256(abi.encode(seed, i))) >> 216 | 1 << 39);
        }
        s = _settlement(book, deltas);
        s.newRoot = _newRoot(oldRoot, keccak256(s.deltas));
        s.proof = _prove(Reference.settleInputs(address(ledger), oldRoot, s, deltas.length));
    }

    /// @dev Settles `count` books of one tier that were settled before, in one transaction.
    function _measure(uint32 first, uint32 count, string memory name, uint256 limit) private {
        for (uint256 round = 0; round < 2; ++round) {
            Reference.Settlement[] memory list = new Reference.Settlement[](count);
            for (uint32 i = 0; i < count; ++i) {
                list[i] = _proven(first + i, ledger.bookRoot(first + i), round * 100 + i);
            }
            vm.prank(OPERATOR);
            ledger.settle(Reference.pack(list), _noEpochs());
        }
        uint256 gas = vm.snapshotGasLastCall("gas", name);
        // Without `--isolate` the transaction itself is not counted, which only makes it less.
        vm.assertLe(gas / (count * _slots(first)), limit);
    }

    function test_OneBookOf96() external {
        _measure(BOOK_96, 1, "settle 96, proven", 2_800);
    }

    function test_OneBookOf384() external {
        _measure(BOOK_384, 1, "settle 384, proven", 800);
    }

    function test_SixBooksOf384() external {
        _measure(BOOK_384, 6, "settle 6 x 384, proven", 400);
    }
}
