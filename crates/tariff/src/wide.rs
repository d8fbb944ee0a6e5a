//! Products that need more than 128 bits.

/// `a × b / c` and what is left of it; `None` when `c` is zero or the quotient does not fit.
#[allow(clippy::arithmetic_side_effects, reason = "halves of 64 bits: no product or sum of them is beyond 128 bits")]
pub(crate) fn mul_div(a: u128, b: u128, c: u128) -> Option<(u128, u128)> {
    const LOW: u128 = (1 << 64) - 1;
    if let Some(product) = a.checked_mul(b) {
        return Some((product.checked_div(c)?, product.checked_rem(c)?));
    }
    if c == 0 {
        return None;
    }
    let (a_high, a_low, b_high, b_low) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let (low, middle, cross, high) = (a_low * b_low, a_high * b_low, a_low * b_high, a_high * b_high);
    let carried = (low >> 64) + (middle & LOW) + (cross & LOW);
    let low = (low & LOW) | (carried << 64);
    let high = high + (middle >> 64) + (cross >> 64) + (carried >> 64);
    if high >= c {
        return None;
    }
    // A bit at a time from the top: what is left is below `c`, and its double may have one bit more than fits.
    let (mut quotient, mut rest) = (0u128, high);
    for bit in (0..128).rev() {
        let beyond = rest >> 127 == 1;
        rest = (rest << 1) | ((low >> bit) & 1);
        quotient <<= 1;
        if beyond || rest >= c {
            rest = rest.wrapping_sub(c);
            quotient |= 1;
        }
    }
    Some((quotient, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_beyond_128_bits_are_divided_exactly() {
        assert_eq!(mul_div(7, 3, 2), Some((10, 1)));
        assert_eq!(mul_div(u128::MAX, u128::MAX, u128::MAX), Some((u128::MAX, 0)));
        assert_eq!(mul_div(u128::MAX, 10, 20), Some((u128::MAX / 2, 10)));
        assert_eq!(mul_div(u128::MAX, 3, 2), None);
        assert_eq!(mul_div(1, 1, 0), None);
        assert_eq!(mul_div(u128::MAX, u128::MAX, 0), None);
        // (2^100 + 1) × (2^90 + 3) / 2^95 = 2^95 + 3·2^5 with the rest 2^90 + 3.
        assert_eq!(mul_div((1 << 100) + 1, (1 << 90) + 3, 1 << 95), Some(((1 << 95) + 96, (1 << 90) + 3)));
    }
}
