//! Values as TOML writes them.

use serde::Serialize;

/// A value on one line, as it stands behind `key =`: `"a\"b"`, `[1, 2]`, `{ a = 1 }`; nothing for what TOML
/// cannot say (no value at all).
pub(crate) fn toml_text(value: &(impl Serialize + ?Sized)) -> String {
    match toml::Value::try_from(value) {
        // `5e-7`, as people write rates.
        Ok(toml::Value::Float(number)) if number != 0.0 && number.abs() < 1e-3 => {
            format!("{number:e}")
        }
        Ok(value) => value.to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::toml_text;

    #[test]
    fn values_are_quoted_as_toml_reads_them() {
        assert_eq!(toml_text("a\"b"), r#"'a"b'"#);
        assert_eq!(
            toml_text(&serde_json::json!([1, 0.5, "x"])),
            r#"[1, 0.5, "x"]"#
        );
        assert_eq!(toml_text(&serde_json::Value::Null), "");
        assert_eq!(
            [5e-7, 0.0, 0.05, -1e-8].map(|v| toml_text(&v)),
            ["5e-7", "0.0", "0.05", "-1e-8"]
        );
    }
}
