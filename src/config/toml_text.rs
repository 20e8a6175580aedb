//! Values as TOML writes them.

use serde::Serialize;

/// A value on one line, as it stands behind `key =`: `"a\"b"`, `[1, 2]`, `{ a = 1 }`; nothing for what TOML
/// cannot say (no value at all).
pub(crate) fn toml_text(value: &(impl Serialize + ?Sized)) -> String {
    toml::Value::try_from(value).map_or_else(|_| String::new(), |value| value.to_string())
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
    }
}
