// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ledger} from "./Ledger.sol";
import {IBookPaths} from "./interfaces/IBookPaths.sol";
import {ILedger} from "./interfaces/ILedger.sol";
import {ILedgerFactory} from "./interfaces/ILedgerFactory.sol";

/// @title The factory of ledgers. See `ILedgerFactory`.
/// @dev No owner, and nothing can be changed after deployment. The creation code of a ledger is too long to be part of the factory's own
/// code (EIP-170), so the constructor puts it into two contracts that hold nothing but bytes, after a `STOP` that keeps them from running.
contract LedgerFactory is ILedgerFactory {
    /// @notice The code of a ledger could not be stored.
    error CodeNotStored();

    IBookPaths public immutable BOOK_PATHS;
    bytes32 public immutable LEDGER_CODE_HASH;
    address private immutable CODE_FIRST;
    address private immutable CODE_SECOND;

    ILedger.Tier[] private _tiers;
    mapping(address ledger => bool) public isLedger;

    /// @param bookPaths What computes roots from the paths of `leave`.
    /// @param tiers The sizes of book with their verifiers.
    constructor(IBookPaths bookPaths, ILedger.Tier[] memory tiers) {
        BOOK_PATHS = bookPaths;
        for (uint256 i = 0; i < tiers.length; ++i) {
            _tiers.push(tiers[i]);
        }
        bytes memory code = type(Ledger).creationCode;
        LEDGER_CODE_HASH = keccak256(code);
        uint256 half = code.length / 2;
        CODE_FIRST = _store(code, 0, half);
        CODE_SECOND = _store(code, half, code.length - half);
    }

    /// @inheritdoc ILedgerFactory
    function create(ILedger.Terms calldata terms, bytes32 salt) external returns (address ledger) {
        // check
        bytes memory code = _creation(terms);
        address predicted = _address(code, salt);
        if (predicted.code.length != 0) revert LedgerExists(predicted);
        // effect
        isLedger[predicted] = true;
        emit LedgerCreated(predicted, terms.provider, terms.token, terms, salt);
        // interaction: the constructor asks the token for its decimals
        assembly ("memory-safe") {
            ledger := create2(0, add(code, 32), mload(code), salt)
            if iszero(ledger) {
                let reason := mload(64)
                returndatacopy(reason, 0, returndatasize())
                revert(reason, returndatasize())
            }
        }
    }

    /// @inheritdoc ILedgerFactory
    function predict(ILedger.Terms calldata terms, bytes32 salt) external view returns (address) {
        return _address(_creation(terms), salt);
    }

    /// @inheritdoc ILedgerFactory
    function tierCount() external view returns (uint256) {
        return _tiers.length;
    }

    /// @inheritdoc ILedgerFactory
    function tier(uint256 index) external view returns (ILedger.Tier memory) {
        return _tiers[index];
    }

    /// @dev The creation code with the arguments of the constructor.
    function _creation(ILedger.Terms calldata terms) private view returns (bytes memory) {
        return abi.encodePacked(_load(CODE_FIRST), _load(CODE_SECOND), abi.encode(terms, BOOK_PATHS, _tiers));
    }

    /// @dev EIP-1014.
    function _address(bytes memory code, bytes32 salt) private view returns (address) {
        return address(uint160(uint256(keccak256(abi.encodePacked(hex"ff", address(this), salt, keccak256(code))))));
    }

    /// @dev Makes a contract of `STOP` and the bytes `[from, from + length)`.
    function _store(bytes memory code, uint256 from, uint256 length) private returns (address store) {
        // PUSH2 length + 1, DUP1, PUSH1 10, PUSH0, CODECOPY, PUSH0, RETURN: returns all that follows these ten bytes.
        bytes memory init = abi.encodePacked(hex"61", uint16(length + 1), hex"80600a5f395ff300", new bytes(length));
        assembly ("memory-safe") {
            mcopy(add(init, 43), add(add(code, 32), from), length)
            store := create(0, add(init, 32), mload(init))
        }
        if (store == address(0)) revert CodeNotStored();
    }

    /// @dev The bytes after the `STOP`.
    function _load(address store) private view returns (bytes memory code) {
        uint256 length = store.code.length - 1;
        code = new bytes(length);
        assembly ("memory-safe") {
            extcodecopy(store, add(code, 32), 1, length)
        }
    }
}
