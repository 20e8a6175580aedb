//! The value of an axis.

/// An axis value as a person wrote it, for tables and matching: `0.1`, `"concat"`, a label.
pub type AxisValue = serde_json::Value;

/// A value without JSON's quotes around strings.
pub fn show_value(value: &AxisValue) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
