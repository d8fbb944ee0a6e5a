// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The curve of voucher keys (EIP-2494), as far as the ledger needs it: judging a key (V-5).
library BabyJubJub {
    /// @dev The base field, which is the scalar field of BN254.
    uint256 internal constant P = 21888242871839275222246405745257275088548364400416034343698204186575808495617;
    uint256 private constant A = 168700;
    uint256 private constant D = 168696;

    /// @notice Whether `x` is the x-coordinate of `8·(qx, qy)`, is not zero, and all are canonical (V-5).
    /// @dev The group has 8 times a prime elements, so `8·Q` lies in the prime-order subgroup whatever `Q` is; `x ≠ 0` then leaves out the
    /// identity, the only point of the subgroup with that x-coordinate.
    function isKey(uint256 x, uint256 qx, uint256 qy) internal pure returns (bool) {
        if (x == 0 || x >= P || qx >= P || qy >= P || !isOnCurve(qx, qy)) return false;
        (uint256 x8, uint256 y8, uint256 z8) = double(qx, qy, 1);
        (x8, y8, z8) = double(x8, y8, z8);
        (x8, y8, z8) = double(x8, y8, z8);
        // Complete formulas never give z = 0 for a point on the curve; the check keeps a mistake in that argument from accepting every x.
        return z8 != 0 && x8 == mulmod(x, z8, P);
    }

    /// @notice Whether `168700·x² + y² = 1 + 168696·x²·y²`.
    function isOnCurve(uint256 x, uint256 y) internal pure returns (bool) {
        uint256 x2 = mulmod(x, x, P);
        uint256 y2 = mulmod(y, y, P);
        return addmod(mulmod(A, x2, P), y2, P) == addmod(1, mulmod(D, mulmod(x2, y2, P), P), P);
    }

    /// @notice Twice the point `(x/z, y/z)`, in the same coordinates.
    /// @dev `dbl-2008-bbjlp`. Complete: A is a square and D is not, so `f` and `j` below are never zero for a point on the curve.
    function double(uint256 x, uint256 y, uint256 z) internal pure returns (uint256 x3, uint256 y3, uint256 z3) {
        uint256 c = mulmod(x, x, P);
        uint256 d = mulmod(y, y, P);
        uint256 e = mulmod(A, c, P);
        uint256 f = addmod(e, d, P);
        uint256 j = addmod(f, P - mulmod(2, mulmod(z, z, P), P), P);
        x3 = mulmod(mulmod(2, mulmod(x, y, P), P), j, P);
        y3 = mulmod(f, addmod(e, P - d, P), P);
        z3 = mulmod(f, j, P);
    }
}
