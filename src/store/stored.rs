//! A sweep as the store holds it, whichever version wrote it.
//!
//! A stored sweep may be older than this build, and its trials' configurations may have had fields
//! that recipes no longer have. So nothing here types a configuration: it stays JSON, and only what
//! reports are made of (question, axes, tables and figures) is read. A key of a table or figure that
//! this build does not know is passed over; a table or figure that cannot be read at all is left out
//! and named.

use crate::base::Timestamp;
use crate::config::Halving;
use crate::config::sweep::{
    AxisInfo, ClaimSpec, FigureSpec, ReportSpec, SamplesSpec, Sweep, TableSpec,
};
use crate::store::error::StoreError;
use crate::store::notes::SweepNote;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

/// What reports need of a registered sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSweep {
    /// Its name.
    pub name: String,
    /// Its question.
    pub question: String,
    /// Words that it is filed under.
    pub tags: Vec<String>,
    /// What people noted of it.
    pub notes: Vec<SweepNote>,
    /// Its axes in the order of the file.
    pub axes: Vec<AxisInfo>,
    /// How configurations were stopped early, if they were.
    pub halving: Option<Halving>,
    /// What it reports, as far as this build can read it.
    pub report: ReportSpec,
    /// Tables and figures that another version asked for and this build cannot read, one sentence
    /// each.
    pub unread: Vec<String>,
    /// When it was last registered.
    pub registered: Timestamp,
}

#[derive(Deserialize)]
struct Content {
    name: String,
    #[serde(default)]
    question: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    axes: Vec<AxisInfo>,
    #[serde(default)]
    halving: Option<Value>,
    #[serde(default)]
    report: ReportContent,
}

#[derive(Default, Deserialize)]
struct ReportContent {
    #[serde(default)]
    claim: Vec<Value>,
    #[serde(default)]
    delta: BTreeMap<String, f64>,
    #[serde(default)]
    table: Vec<Value>,
    #[serde(default)]
    figure: Vec<Value>,
    #[serde(default)]
    samples: Vec<Value>,
}

impl StoredSweep {
    /// Reads the text of a `sweep.content` cell.
    ///
    /// # Errors
    /// It is no sweep of any version.
    pub(crate) fn read(content: &str, registered: Timestamp) -> serde_json::Result<Self> {
        let content: Content = serde_json::from_str(content)?;
        let mut unread = Vec::new();
        let report = ReportSpec {
            claims: known::<ClaimSpec>("claim", content.report.claim, &mut unread),
            delta: content.report.delta,
            tables: known::<TableSpec>("table", content.report.table, &mut unread),
            figures: known::<FigureSpec>("figure", content.report.figure, &mut unread),
            samples: known::<SamplesSpec>("samples", content.report.samples, &mut unread),
        };
        let halving = content
            .halving
            .and_then(|halving| known::<Halving>("halving", vec![halving], &mut unread).pop());
        Ok(Self {
            name: content.name,
            question: content.question,
            tags: content.tags,
            notes: Vec::new(),
            axes: content.axes,
            halving,
            report,
            unread,
            registered,
        })
    }
}

impl StoredSweep {
    /// Axes whose value halving chose for each configuration of the others.
    pub fn chosen(&self) -> &[String] {
        self.halving.as_ref().map_or(&[], Halving::chosen)
    }
}

/// The text of a sweep's `sweep.content` cell.
pub(crate) fn content_of(sweep: &Sweep) -> Result<String, StoreError> {
    serde_json::to_string(sweep).map_err(|source| StoreError::Json {
        what: "the sweep",
        source,
    })
}

/// The entries that can be read; what is wrong with the others goes to `unread`.
fn known<T: DeserializeOwned>(what: &str, all: Vec<Value>, unread: &mut Vec<String>) -> Vec<T> {
    let mut read = Vec::new();
    for value in all {
        let name = value["name"]
            .as_str()
            .or(value["statement"].as_str())
            .unwrap_or("without a name")
            .to_owned();
        match without_unknown_keys(value) {
            Ok(spec) => read.push(spec),
            Err(error) => unread.push(format!(
                "{what} `{name}` was stored by another version of lions and is left out: {error}"
            )),
        }
    }
    read
}

/// Reads a value as today's type; keys that the type does not have are taken out, one a try.
fn without_unknown_keys<T: DeserializeOwned>(mut value: Value) -> serde_json::Result<T> {
    loop {
        let error = match T::deserialize(&value) {
            Ok(typed) => return Ok(typed),
            Err(error) => error,
        };
        // The types refuse unknown keys, since they also read what people write, and serde names the
        // key in its message alone.
        let message = error.to_string();
        let key = message.strip_prefix("unknown field `");
        let key = key.and_then(|rest| rest.split('`').next());
        if !key.is_some_and(|key| take_out(&mut value, key)) {
            return Err(error);
        }
    }
}

/// Removes the outermost `key`; whether there was one.
fn take_out(value: &mut Value, key: &str) -> bool {
    match value {
        Value::Object(entries) => {
            entries.remove(key).is_some() || entries.values_mut().any(|inner| take_out(inner, key))
        }
        Value::Array(items) => items.iter_mut().any(|inner| take_out(inner, key)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(content: &Value) -> StoredSweep {
        StoredSweep::read(&content.to_string(), Timestamp(5)).unwrap()
    }

    #[test]
    fn a_configuration_of_any_shape_does_not_matter() {
        let stored = read(&json!({
            "name": "old", "question": "Which?",
            "axes": [{ "name": "beta", "values": [0.1, 0.5], "colour": "red" }],
            "trials": [{ "config": { "no": ["such", "recipe"] } }, 7],
            "report": {}, "from-the-future": true,
        }));
        assert_eq!((stored.name.as_str(), stored.axes.len()), ("old", 1));
        assert_eq!(stored.axes[0].values, [json!(0.1), json!(0.5)]);
        assert_eq!(stored.unread, Vec::<String>::new());
    }

    #[test]
    fn unknown_keys_of_tables_and_figures_are_passed_over_and_absent_ones_have_their_defaults() {
        let stored = read(&json!({ "name": "old", "report": {
            "table": [{ "name": "t", "title": "T", "metrics": ["a/loss"], "shade": 3, "rows": {} }],
            "figure": [{ "name": "f", "title": "F", "kind": "bars", "metric": "a/loss", "x": "x",
                "where": { "glow": 1 }, "glow": true }],
        }}));
        assert_eq!(stored.report.tables[0].metrics, ["a/loss"]);
        assert!(stored.report.tables[0].baseline.is_empty());
        // Only the figure's own key is unknown, not the axis of the same name.
        assert_eq!(stored.report.figures[0].head.filter["glow"], json!(1));
        assert_eq!(stored.unread, Vec::<String>::new());
    }

    #[test]
    fn a_figure_that_cannot_be_read_is_left_out_and_named_and_the_others_stay() {
        let stored = read(&json!({ "name": "old", "report": { "figure": [
            { "name": "pie", "title": "Pie", "kind": "pie", "metric": "a/loss" },
            { "name": "bars", "title": "Bars", "kind": "bars", "metric": "a/loss", "x": "x" },
        ]}}));
        assert_eq!(stored.report.figures.len(), 1);
        assert_eq!(stored.unread.len(), 1);
        assert!(
            stored.unread[0].starts_with("figure `pie` was stored by another version"),
            "{}",
            stored.unread[0]
        );
    }

    #[test]
    fn what_is_no_sweep_is_an_error() {
        assert!(StoredSweep::read("[]", Timestamp(0)).is_err());
        assert!(StoredSweep::read("{}", Timestamp(0)).is_err());
    }
}
