//! The memory of this machine.

/// Bytes that processes could still take without anything being swapped (`MemAvailable`); absent where the system does not say.
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    available_of(&text)
}

fn available_of(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    let rest = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = rest.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_read_and_nothing_else() {
        let text = "MemTotal:       24689772 kB\nMemFree:  4 kB\nMemAvailable:   16000000 kB\n";
        assert_eq!(available_of(text), Some(16_384_000_000));
        assert_eq!(available_of("MemTotal: 3 kB\n"), None);
        assert_eq!(available_of("MemAvailable: many kB\n"), None);
    }
}
