//! Rows as Python writes them: `json.dumps(row, indent=2, ensure_ascii=False)`, with their columns in the order of the file.
//!
//! Other tools name a row by the digest of this text.

use super::repr::float_text;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// A text of JSON as Python writes what it reads of it.
///
/// # Errors
/// It is no JSON.
pub fn python_json(text: &str) -> Result<String, serde_json::Error> {
    let mut out = String::with_capacity(text.len());
    let mut json = serde_json::Deserializer::from_str(text);
    let dump = Dump {
        out: &mut out,
        depth: 0,
    };
    dump.deserialize(&mut json)?;
    json.end()?;
    Ok(out)
}

/// Writes the next value of a text.
pub(super) struct Dump<'o> {
    /// Where it is written.
    pub(super) out: &'o mut String,
    /// Lists and objects around it.
    pub(super) depth: usize,
}

impl Dump<'_> {
    fn line(&mut self, depth: usize) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n("  ", depth));
    }

    fn within(&mut self) -> Dump<'_> {
        Dump {
            depth: self.depth + 1,
            out: self.out,
        }
    }

    /// Before an item of a list or object.
    fn next(&mut self, first: bool) {
        self.out.push_str(if first { "" } else { "," });
        self.line(self.depth + 1);
    }

    fn close(&mut self, empty: bool, sign: char) {
        if !empty {
            self.line(self.depth);
        }
        self.out.push(sign);
    }

    fn quote(&mut self, text: &str) {
        // Both escape quotes, backslashes and what is below the blank, in the same words.
        self.out
            .push_str(&serde_json::Value::from(text).to_string());
    }
}

impl<'de> DeserializeSeed<'de> for Dump<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Dump<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.out.push_str("null");
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.out.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.out.push_str(&value.to_string());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.out.push_str(&value.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.out.push_str(&float_text(value));
        Ok(())
    }

    fn visit_str<E>(mut self, value: &str) -> Result<(), E> {
        self.quote(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.out.push('[');
        let mut empty = true;
        loop {
            let before = self.out.len();
            self.next(empty);
            if items.next_element_seed(self.within())?.is_none() {
                self.out.truncate(before);
                break;
            }
            empty = false;
        }
        self.close(empty, ']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.out.push('{');
        let mut empty = true;
        while let Some(key) = items.next_key::<String>()? {
            self.next(empty);
            self.quote(&key);
            self.out.push_str(": ");
            items.next_value_seed(self.within())?;
            empty = false;
        }
        self.close(empty, '}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected: Python 3.11.
    #[test]
    fn values_are_written_as_python_writes_them() {
        let text = r#" {"b": [1, -2.50, 1e16, 1E-5, []], "a": {"x": null, "y": {}}, "t": "é\"\\\u0001\n\u007f🙂", "f": true}"#;
        let want = "{\n  \"b\": [\n    1,\n    -2.5,\n    1e+16,\n    1e-05,\n    []\n  ],\n  \"a\": {\n    \"x\": null,\n    \"y\": {}\n  },\n  \"t\": \"é\\\"\\\\\\u0001\\n\u{7f}🙂\",\n  \"f\": true\n}";
        assert_eq!(python_json(text).unwrap(), want);
        assert!(python_json("{").is_err());
    }
}
