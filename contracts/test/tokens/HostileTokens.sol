// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title A plain token with any number of decimals.
contract PlainToken is ERC20("Plain", "PLAIN") {
    uint8 private immutable DECIMALS;

    constructor(uint8 decimals_) {
        DECIMALS = decimals_;
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function decimals() public view override returns (uint8) {
        return DECIMALS;
    }
}

/// @title Takes one base unit of every transfer.
contract FeeToken is PlainToken(6) {
    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (from != address(0) && to != address(0)) super._update(to, address(0), 1);
    }
}

/// @title Gives the receiver one base unit more than was sent.
contract GenerousToken is PlainToken(6) {
    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (from != address(0) && to != address(0)) super._update(address(0), to, 1);
    }
}

/// @title Moves nothing and says it did; a `receiveWithAuthorization` passes without a look at the signature.
contract SilentToken is PlainToken(6) {
    function transferFrom(address, address, uint256) public pure override returns (bool) {
        return true;
    }

    function receiveWithAuthorization(address, address, uint256, uint256, uint256, bytes32, bytes calldata) external pure {}
}

/// @title Answers `false` instead of reverting.
contract FalseToken is PlainToken(6) {
    function transfer(address, uint256) public pure override returns (bool) {
        return false;
    }

    function transferFrom(address, address, uint256) public pure override returns (bool) {
        return false;
    }
}

/// @title Takes money away from the receiver during a transfer.
contract DrainingToken is PlainToken(6) {
    function transferFrom(address, address to, uint256) public override returns (bool) {
        _burn(to, balanceOf(to));
        return true;
    }
}

/// @title Refuses transfers to a frozen account.
contract FreezingToken is PlainToken(6) {
    mapping(address account => bool) private _frozen;

    error Frozen(address account);

    function freeze(address account, bool frozen) external {
        _frozen[account] = frozen;
    }

    function _update(address from, address to, uint256 value) internal override {
        if (_frozen[to]) revert Frozen(to);
        super._update(from, to, value);
    }
}

/// @title Calls back into any contract in the middle of a transfer, and hands on a revert.
contract ReentrantToken is PlainToken(6) {
    address private _target;
    bytes private _call;

    function arm(address target, bytes calldata call) external {
        _target = target;
        _call = call;
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (_target == address(0)) return;
        address target = _target;
        _target = address(0);
        (bool ok, bytes memory data) = target.call(_call);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(data, 32), mload(data))
            }
        }
    }
}
