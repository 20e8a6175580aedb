//! Texts and values made of the columns of a row: what an evaluation task says in Jinja.
//!
//! The environment is that of chat templates, with two differences, both as lm-evaluation-harness sets up Jinja2:
//! blocks take no white space with them and a last line feed is kept; what is undefined is refused. The filter
//! `regex_replace(pattern, by)` is `re.sub`.

use super::guard::fail;
use super::jinja::prepare;
use super::pattern::{Flags, Pattern};
use super::python;
use super::template::{describe, fuel_for};
use crate::base::guarded;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, UndefinedBehavior};
use serde_json::Map;

/// What an expression's value is called within the template that it is made into.
const VALUE: &str = "value_of_the_expression";

/// Compiled templates and expressions, by the names that they were given.
#[derive(Debug)]
pub struct RowTexts {
    env: Environment<'static>,
}

impl Default for RowTexts {
    fn default() -> Self {
        Self::new()
    }
}

/// The columns of a row, and what else a template may name.
#[derive(Clone, Debug)]
pub struct RowScope {
    names: Value,
    bytes: usize,
}

impl RowScope {
    /// The columns of `row` by their names; `more` hides those of the same names.
    pub fn new<'a>(
        row: &Map<String, serde_json::Value>,
        more: impl IntoIterator<Item = (&'a str, serde_json::Value)>,
    ) -> Self {
        let mut names = row.clone();
        names.extend(
            more.into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        let bytes = names.values().map(super::limits::bytes_of).sum();
        Self {
            names: Value::from(Serde(&names)),
            bytes,
        }
    }
}

impl RowTexts {
    /// Without any yet.
    pub fn new() -> Self {
        let mut env = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        if let Ok(syntax) = syntax.keep_trailing_newline(true).build() {
            env.set_syntax(syntax);
        }
        env.set_debug(true);
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        python::install(&mut env);
        env.add_filter("regex_replace", regex_replace);
        Self { env }
    }

    /// Compiles the template `source` under `name`.
    ///
    /// # Errors
    /// It is none; the text says why.
    pub fn add_text(&mut self, name: &str, source: &str) -> Result<(), String> {
        let source = prepare(source)?.text;
        let added = self.env.add_template_owned(name.to_owned(), source);
        added.map_err(|e| describe(&e))
    }

    /// Compiles the expression `source` under `name`.
    ///
    /// # Errors
    /// It is none; the text says why.
    pub fn add_value(&mut self, name: &str, source: &str) -> Result<(), String> {
        if source.contains("%}") {
            return Err("an expression may not hold `%}`".to_owned());
        }
        self.add_text(name, &format!("{{% set {VALUE} = ({source}) %}}"))
    }

    /// The text that the template `name` gives.
    ///
    /// # Errors
    /// It refuses the row, or names what the row has not.
    pub fn text(&self, name: &str, scope: &RowScope) -> Result<String, String> {
        let env = self.paid(scope);
        guarded("the template engine", || {
            let template = env.get_template(name).map_err(|e| describe(&e))?;
            template.render(&scope.names).map_err(|e| describe(&e))
        })
    }

    /// The value that the expression `name` gives.
    ///
    /// # Errors
    /// It refuses the row, or names what the row has not.
    pub fn value(&self, name: &str, scope: &RowScope) -> Result<serde_json::Value, String> {
        let env = self.paid(scope);
        guarded("the template engine", || {
            let template = env.get_template(name).map_err(|e| describe(&e))?;
            let rendered = template.render_captured(&scope.names);
            let rendered = rendered.map_err(|e| describe(&e))?;
            let value = rendered
                .state()
                .lookup(VALUE)
                .filter(|value| !value.is_undefined());
            let value = value.ok_or("it has no value")?;
            serde_json::to_value(value).map_err(|e| e.to_string())
        })
    }

    fn paid(&self, scope: &RowScope) -> Environment<'static> {
        let mut env = self.env.clone();
        env.set_fuel(Some(fuel_for(1, scope.bytes)));
        env
    }
}

/// The filter `regex_replace`.
fn regex_replace(text: &str, pattern: &str, by: Option<&str>) -> Result<String, Error> {
    let pattern = Pattern::new(pattern, Flags::default()).map_err(fail)?;
    pattern.replace(text, by.unwrap_or("")).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn scope(row: &Value) -> RowScope {
        RowScope::new(row.as_object().unwrap(), [])
    }

    fn text(source: &str, row: &Value) -> Result<String, String> {
        let mut texts = RowTexts::new();
        texts.add_text("t", source)?;
        texts.text("t", &scope(row))
    }

    fn value(source: &str, row: &Value) -> Result<Value, String> {
        let mut texts = RowTexts::new();
        texts.add_value("t", source)?;
        texts.value("t", &scope(row))
    }

    #[test]
    fn white_space_stays_and_what_is_undefined_is_refused() {
        let row = json!({ "question": " Why?", "n": 1.0, "yes": true });
        let got = text("{% if yes %}\nQ: {{ question }}{% endif %} {{ n }}\n", &row);
        assert_eq!(got.unwrap(), "\nQ:  Why? 1.0\n");
        assert!(text("{{ nothing }}", &row).unwrap_err().contains("nothing"));
        assert!(value("nothing", &row).is_err());
        assert!(value("question %}", &row).is_err());
    }

    #[test]
    fn lists_are_values_and_positions_are_found() {
        let row = json!({
            "choices": { "text": ["a", "b"], "label": ["1", "2"] },
            "key": "2",
            "sentence": "The é _ was big.",
        });
        assert_eq!(value("choices.text", &row).unwrap(), json!(["a", "b"]));
        assert_eq!(value("choices.label.index(key)", &row).unwrap(), json!(1));
        let tail = value("sentence[sentence.index('_') + 1:].strip()", &row);
        assert_eq!(tail.unwrap(), json!("was big."));
        let chosen = value("{'1': 0, '2': 1}[key]", &row).unwrap();
        assert_eq!(chosen, json!(1));
    }

    #[test]
    fn the_clean_up_of_hellaswag_can_be_written_as_a_template() {
        let source = "{{ (text.strip().replace(' [title]', '. ') \
                      | regex_replace('\\\\[.*?\\\\]', '')).replace('  ', ' ') }}";
        for case in &golden("hellaswag_preprocess") {
            assert_eq!(text(source, case).unwrap(), case["out"], "{case}");
        }
    }

    #[test]
    fn capitalize_is_that_of_python() {
        for case in &golden("capitalize") {
            let got = text("{{ text.capitalize() }}", case).unwrap();
            assert_eq!(got, case["out"], "{case}");
        }
    }

    fn golden(key: &str) -> Vec<Value> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let all = ["scoring.json", "scoring_odd.json"].map(|file| -> Value {
            let path = path.join("tests/golden/eval").join(file);
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
        });
        let lists = all.iter().map(|all| all[key].as_array().unwrap());
        lists.flatten().cloned().collect()
    }
}
