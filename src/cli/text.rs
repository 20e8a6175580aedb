//! Small pieces of text: counts, times, sizes.

pub(crate) use crate::report::text_columns as columns;

/// `950`, `12.3k`, `4.6M`, `7.8G`, `1.2T`, `3.4P`, `5.6E`, `7.8Z`.
pub(crate) fn si(value: f64) -> String {
    const UNITS: [(f64, &str); 7] = [
        (1e21, "Z"),
        (1e18, "E"),
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
    ];
    // The sum of nothing is -0.
    let value = if value.abs() < 0.5 { 0.0 } else { value };
    for (unit, name) in UNITS {
        if value.abs() >= unit {
            return format!("{:.1}{name}", value / unit);
        }
    }
    format!("{value:.0}")
}

/// A measured value: `0.6931`, `-140.6070`, `3350`, `5.000e-7`.
///
/// Four decimals, which a learning rate would not survive: what is small or large has an exponent.
pub(crate) fn measured(value: f64) -> String {
    let size = value.abs();
    if size < 1e9 && value.fract() == 0.0 {
        // The sum of nothing is -0.
        return format!("{:.0}", if value == 0.0 { 0.0 } else { value });
    }
    if (1e-3..1e6).contains(&size) {
        format!("{value:.4}")
    } else {
        format!("{value:.3e}")
    }
}

/// `512 B`, `1.5 MiB`, `2.3 GiB`.
pub(crate) fn bytes(value: f64) -> String {
    const UNITS: [(f64, &str); 3] = [
        (1_073_741_824.0, "GiB"),
        (1_048_576.0, "MiB"),
        (1024.0, "KiB"),
    ];
    for (unit, name) in UNITS {
        if value >= unit {
            return format!("{:.1} {name}", value / unit);
        }
    }
    format!("{value:.0} B")
}

/// `0.4s`, `12s`, `3m05s`, `2h10m`, `1d04h`.
pub(crate) fn secs(value: f64) -> String {
    let whole = value.round() as u64;
    match whole {
        _ if value < 10.0 => format!("{value:.1}s"),
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole / 3600 % 24),
    }
}

/// `1 run`, `3 runs`.
pub(crate) fn counted(n: usize, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_easily() {
        assert_eq!(si(12_340.0), "12.3k");
        assert_eq!(si(-0.0), "0");
        let shown = [0.693_12, -140.607, 3350.0, 5e-7, -0.0, 1e38].map(measured);
        assert_eq!(
            shown,
            ["0.6931", "-140.6070", "3350", "5.000e-7", "0", "1.000e38"]
        );
        assert_eq!(bytes(1_572_864.0), "1.5 MiB");
        assert_eq!(secs(185.0), "3m05s");
        assert_eq!(secs(0.42), "0.4s");
        assert_eq!(counted(1, "run"), "1 run");
    }
}
