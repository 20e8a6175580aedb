//! What tests of chat benchmarks share.

/// A file of `tests/golden/judged`.
pub(super) fn golden(name: &str) -> serde_json::Value {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("tests/golden/judged").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}
