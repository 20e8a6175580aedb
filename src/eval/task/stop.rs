//! Where a generated answer ends.

/// The answer up to the first of each stop text, one after another; empty ones stop nothing.
pub(super) fn cut_at<'t>(
    text: &'t str,
    until: impl IntoIterator<Item = impl AsRef<str>>,
) -> &'t str {
    let cut = |text: &'t str, stop: &str| match text.find(stop) {
        Some(at) if !stop.is_empty() => &text[..at],
        _ => text,
    };
    until
        .into_iter()
        .fold(text, |text, stop| cut(text, stop.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn answers_are_cut_as_by_the_harness() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let golden = ["scoring.json", "scoring_odd.json"].map(|file| -> Value {
            let path = path.join("tests/golden/eval").join(file);
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
        });
        for case in golden
            .iter()
            .flat_map(|all| all["stop"].as_array().unwrap())
        {
            let until = case["stop"].as_array().unwrap().iter();
            let until = until.map(|stop| stop.as_str().unwrap());
            assert_eq!(
                cut_at(case["text"].as_str().unwrap(), until),
                case["cut"],
                "{case}"
            );
        }
    }
}
