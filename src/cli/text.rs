//! Small pieces of text: counts, times, sizes.

pub(crate) use crate::base::{counted, measured};

/// `950`, `12.3k`, `4.6M`, `7.8G`, `1.2T`, `3.4P`, `5.6E`, `7.8Z`.
pub(crate) fn si(value: f64) -> String {
    let (number, prefix) = scaled(value);
    number + prefix
}

/// `950 FLOP/s`, `19.5 GFLOP/s`: the prefix belongs to the unit, which a blank parts from its number.
pub(crate) fn si_of(value: f64, unit: &str) -> String {
    let (number, prefix) = scaled(value);
    format!("{number} {prefix}{unit}")
}

/// A number of three digits or so, and its prefix.
fn scaled(value: f64) -> (String, &'static str) {
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
        // What rounds to a thousand of one prefix has the next.
        if value.abs() >= unit * 0.999_95 {
            return (format!("{:.1}", value / unit), name);
        }
    }
    (format!("{value:.0}"), "")
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
    // A clock that was set back makes less than nothing.
    let value = value.max(0.0);
    let whole = value.round() as u64;
    match whole {
        _ if value < 10.0 => format!("{value:.1}s"),
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_easily() {
        assert_eq!(si(12_340.0), "12.3k");
        assert_eq!(si(-0.0), "0");
        assert_eq!(si(999_960.0), "1.0M");
        assert_eq!(si_of(19.5e9, "FLOP/CPU s"), "19.5 GFLOP/CPU s");
        assert_eq!(si_of(950.0, "FLOP/s"), "950 FLOP/s");
        assert_eq!(bytes(1_572_864.0), "1.5 MiB");
        assert_eq!(secs(185.0), "3m05s");
        assert_eq!(secs(0.42), "0.4s");
        assert_eq!(secs(-3.0), "0.0s");
    }
}
