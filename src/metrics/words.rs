//! Numbers as people read them: real minus signs, fixed decimals, p-values.

/// From here on whole numbers are written with a power of ten.
const LARGE: f64 = 1e7;

/// `value` with so many decimals and a true minus sign; a rounded zero has no sign. A large whole
/// number, such as a count of operations, gets three digits and a power of ten: `8.05e11`.
pub fn fixed(value: f64, decimals: usize) -> String {
    if decimals == 0 && value.abs() >= LARGE {
        return format!("{value:.2e}").replace('-', "−");
    }
    digits(value, decimals)
}

/// As [`fixed`], but always all digits, as on an axis.
pub fn digits(value: f64, decimals: usize) -> String {
    let text = format!("{:.*}", decimals, value.abs());
    let zero = text.bytes().all(|b| matches!(b, b'0' | b'.'));
    if value < 0.0 && !zero {
        format!("−{text}")
    } else {
        text
    }
}

/// With two significant digits: `0.0062`, `0.13`, `41`.
pub fn two_digits(value: f64) -> String {
    let size = value.abs();
    let places = if size > 0.0 && size.is_finite() {
        (1.0 - size.log10().floor()).clamp(0.0, 9.0) as usize
    } else {
        0
    };
    fixed(value, places)
}

/// As [`fixed`], with `+` before positive numbers.
pub fn signed(value: f64, decimals: usize) -> String {
    let text = fixed(value, decimals);
    let zero = text.bytes().all(|b| matches!(b, b'0' | b'.'));
    if value > 0.0 && !zero {
        format!("+{text}")
    } else {
        text
    }
}

/// `p = .003`, `p = .41`, `p < .001`, `p > .99`.
pub fn p_value(p: f64) -> String {
    if p < 0.001 {
        return "p < .001".to_owned();
    }
    if p > 0.99 {
        return "p > .99".to_owned();
    }
    // Rounding must not turn a p-value just below 0.05 into ".05".
    let decimals = if p < 0.1 { 3 } else { 2 };
    let text = format!("{p:.decimals$}");
    format!("p = {}", text.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_true_minus_signs_and_zero_has_none() {
        assert_eq!(fixed(-1.25, 1), "−1.2");
        assert_eq!(fixed(-0.001, 2), "0.00");
        assert_eq!(signed(0.456, 2), "+0.46");
        assert_eq!(signed(0.001, 2), "0.00");
    }

    #[test]
    fn two_digits_are_two_wherever_the_point_is() {
        let want = [
            (0.006_17, "0.0062"),
            (0.13, "0.13"),
            (41.2, "41"),
            (1234.0, "1234"),
            (0.0, "0"),
        ];
        for (value, text) in want {
            assert_eq!(two_digits(value), text);
        }
    }

    #[test]
    fn counts_of_operations_are_short() {
        assert_eq!(fixed(804_512_345_678.0, 0), "8.05e11");
        assert_eq!(signed(-2.5e9, 0), "−2.50e9");
        assert_eq!(
            (fixed(310_000.0, 0), digits(2e7, 0)),
            ("310000".to_owned(), "20000000".to_owned())
        );
    }

    #[test]
    fn p_values_are_short_and_never_round_across_the_line() {
        let shown: Vec<_> = [0.0004, 0.003, 0.0496, 0.41, 0.999].map(p_value).into();
        assert_eq!(
            shown,
            ["p < .001", "p = .003", "p = .050", "p = .41", "p > .99"]
        );
    }
}
