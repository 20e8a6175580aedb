//! What cards can do at most.

/// Names that a card's may hold, and the peak of dense products of bfloat16 with sums in f32, in operations a second, by the
/// vendor's data sheets. The first that fits counts.
const PEAKS: [(&str, f64); 16] = [
    ("B200", 2250e12),
    ("GH200", 989e12),
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H800", 989e12),
    ("A100", 312e12),
    ("A800", 312e12),
    ("A30", 165e12),
    ("A40", 149.7e12),
    ("A10", 125e12),
    ("L40S", 362e12),
    ("L40", 181e12),
    ("L4", 121e12),
    ("RTX 4090", 165.2e12),
];

/// The peak of a card of that name; none if it is not known.
pub(super) fn peak_flops(name: &str) -> Option<f64> {
    let found = PEAKS.iter().find(|(part, _)| {
        let mut rest = name.split(part);
        // Not within a longer word: an A100 is no A10.
        let before = rest
            .next()
            .is_some_and(|before| !before.ends_with(char::is_alphanumeric));
        let after = rest.next();
        before && after.is_some_and(|after| !after.starts_with(char::is_alphanumeric))
    });
    found.map(|(_, peak)| *peak)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_known_by_its_whole_name() {
        for (name, peak) in [
            ("NVIDIA H200", Some(989.0)),
            ("NVIDIA A100-SXM4-80GB", Some(312.0)),
            ("NVIDIA A10G", None),
            ("NVIDIA H100 PCIe", Some(756.0)),
            ("NVIDIA H100 80GB HBM3", Some(989.0)),
            ("NVIDIA GH200 480GB", Some(989.0)),
            ("NVIDIA L40S", Some(362.0)),
            ("NVIDIA GeForce RTX 4090", Some(165.2)),
            ("emulated", None),
        ] {
            let found = peak_flops(name).map(|peak| (peak / 1e11).round() / 10.0);
            assert_eq!(found, peak, "{name}");
        }
    }
}
