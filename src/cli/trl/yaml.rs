//! Values as YAML that every reader takes alike.

use serde_json::Value;

/// One line for each key, values in flow style. Numbers with an exponent have a point and a sign, without which
/// PyYAML reads them as texts.
pub(crate) fn yaml_text<'a>(keys: impl IntoIterator<Item = (&'a str, &'a Value)>) -> String {
    let line = |(key, value): (&str, &Value)| format!("{key}: {}\n", flow(value));
    keys.into_iter().map(line).collect()
}

fn flow(value: &Value) -> String {
    match value {
        Value::Number(number) => number_text(&number.to_string()),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{key}: {}", flow(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        // JSON's quotes are YAML's.
        other => other.to_string(),
    }
}

fn number_text(number: &str) -> String {
    let Some((digits, exponent)) = number.split_once('e') else {
        return number.to_owned();
    };
    let digits = if digits.contains('.') {
        digits.to_owned()
    } else {
        format!("{digits}.0")
    };
    let exponent = exponent.trim_start_matches('+');
    let sign = if exponent.starts_with('-') { "" } else { "+" };
    format!("{digits}e{sign}{exponent}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn small_numbers_are_numbers_to_pyyaml_too() {
        let keys = [
            ("learning_rate", json!(5e-7)),
            ("beta", json!(0.01)),
            ("large", json!(1e20)),
            ("optim", json!("adamw_torch")),
            ("kwargs", json!({"min_lr_rate": 0.1})),
        ];
        let text = yaml_text(keys.iter().map(|(key, value)| (*key, value)));
        assert_eq!(
            text,
            "learning_rate: 5.0e-7\nbeta: 0.01\nlarge: 1.0e+20\noptim: \"adamw_torch\"\nkwargs: {min_lr_rate: 0.1}\n"
        );
        let back: serde_json::Value = serde_yaml_ng::from_str(&text).unwrap();
        assert_eq!(back["learning_rate"], json!(5e-7));
    }
}
